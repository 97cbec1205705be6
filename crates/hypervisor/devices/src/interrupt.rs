//! What devices tell the CPU side: interruption requests and the outcome of an instruction, as plain data.
//!
//! The interruption queues themselves, priorities and masks belong to the CPU side (as in KVM).

use serde::{Deserialize, Serialize};

/// A floating interruption that a device asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostInterrupt {
    /// An I/O interruption of a subchannel (z/Architecture Principles of Operation, SA22-7832, chapter 16).
    Io {
        /// Upper half of the subsystem-identification word: 1, with the subchannel-set id in bits 13-14.
        subchannel_id: u16,
        /// Subchannel number.
        nr: u16,
        /// The interruption parameter of the subchannel.
        parameter: u32,
        /// The interruption-identification word: the subclass in bits 2-4.
        word: u32,
    },
    /// An adapter interruption of an interruption subclass.
    Adapter {
        /// The subclass, 0-7.
        isc: u8,
    },
    /// An external interruption 0x2401 with this parameter.
    ServiceSignal(u32),
    /// A channel report is pending (machine check).
    ChannelReport,
}

impl HostInterrupt {
    /// The interruption-identification word of an I/O or adapter interruption, otherwise 0.
    pub fn word(self) -> u32 {
        match self {
            Self::Io { word, .. } => word,
            Self::Adapter { isc } => 0x8000_0000 | u32::from(isc & 7) << 27,
            Self::ServiceSignal(_) | Self::ChannelReport => 0,
        }
    }
}

/// Where devices put their interruption requests. Both methods are called while a device is at work, so they must not
/// call back into devices.
pub trait InterruptSink: Send + Sync {
    /// Makes an interruption pending.
    fn raise(&self, interrupt: HostInterrupt);

    /// Takes back a pending I/O interruption of a subchannel whose status was cleared otherwise.
    fn withdraw_io(&self, _subchannel_id: u16, _nr: u16) {}
}

/// How an instruction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub enum Outcome {
    /// The instruction completed with this condition code.
    Cc(u8),
    /// The instruction completed and leaves the condition code as it was.
    Done,
    /// The instruction ends with a program interruption of this code.
    Program(u16),
}

impl Outcome {
    /// Program interruption: privileged operation and others are the core's; this one is addressing.
    pub const ADDRESSING: Self = Self::Program(0x05);
    /// Program interruption: specification.
    pub const SPECIFICATION: Self = Self::Program(0x06);
    /// Program interruption: operand.
    pub const OPERAND: Self = Self::Program(0x15);
}
