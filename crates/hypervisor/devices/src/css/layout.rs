//! Blocks of the channel subsystem, big-endian as in storage (z/Architecture Principles of Operation, SA22-7832,
//! chapters 14 to 16).
//!
//! Only bytes and bit names; what they do stands in the other modules.

use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Path-management-control word, 28 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Pmcw {
    /// Interruption parameter.
    pub intparm: U32,
    /// Interruption subclass, enabled, limit mode, measurement, device number valid.
    pub flags: U16,
    /// Device number.
    pub devno: U16,
    /// Logical-path mask.
    pub lpm: u8,
    /// Path-not-operational mask.
    pub pnom: u8,
    /// Last-path-used mask.
    pub lpum: u8,
    /// Path-installed mask.
    pub pim: u8,
    /// Measurement-block index.
    pub mbi: U16,
    /// Path-operational mask.
    pub pom: u8,
    /// Path-available mask.
    pub pam: u8,
    /// Channel-path identifiers.
    pub chpid: [u8; 8],
    /// Characteristics: subchannel type, measurement-block format, extended measurement, concurrent sense.
    pub chars: U32,
}

/// Bits of [`Pmcw::flags`] and [`Pmcw::chars`].
pub mod pmcw {
    /// Interruption subclass.
    pub const ISC: u16 = 0x3800;
    /// Enabled.
    pub const ENABLED: u16 = 0x0080;
    /// Limit mode.
    pub const LIMIT: u16 = 0x0060;
    /// Measurement-mode enable.
    pub const MEASURE: u16 = 0x0018;
    /// Multipath mode.
    pub const MULTIPATH: u16 = 0x0004;
    /// Timing facility.
    pub const TIMING: u16 = 0x0002;
    /// Device number valid.
    pub const VALID: u16 = 0x0001;
    /// Bits that MODIFY SUBCHANNEL requires to be zero.
    pub const RESERVED: u16 = 0x0700;
    /// Measurement-block format 1.
    pub const CHARS_MBFC: u32 = 0x0000_0004;
    /// Extended-measurement-word mode.
    pub const CHARS_XMWM: u32 = 0x0000_0002;
    /// Concurrent sense.
    pub const CHARS_CSENSE: u32 = 0x0000_0001;
    /// Bits of the characteristics that MODIFY SUBCHANNEL requires to be zero.
    pub const CHARS_RESERVED: u32 = 0xff1f_fff8;
}

/// Subchannel-status word, 12 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Scsw {
    /// Key, formats, deferred condition code.
    pub flags: U16,
    /// Function, activity and status control.
    pub ctrl: U16,
    /// CCW address.
    pub cpa: U32,
    /// Device status.
    pub dstat: u8,
    /// Subchannel status.
    pub cstat: u8,
    /// Residual count.
    pub count: U16,
}

/// Bits of the [`Scsw`].
pub mod scsw {
    /// Flags taken over from the ORB: key, suspend control, format, prefetch, initial status, address limit, suppress.
    pub const FROM_ORB: u16 = 0xf8f8;
    /// ESW format.
    pub const ESW_FORMAT: u16 = 0x0400;
    /// Extended control: the ECW holds sense data.
    pub const EXTENDED: u16 = 0x0002;
    /// Path not operational.
    pub const PNO: u16 = 0x0001;
    /// Function control, all bits.
    pub const FCTL: u16 = 0x7000;
    /// Start function.
    pub const START: u16 = 0x4000;
    /// Halt function.
    pub const HALT: u16 = 0x2000;
    /// Clear function.
    pub const CLEAR: u16 = 0x1000;
    /// Activity control, all bits.
    pub const ACTL: u16 = 0x0fe0;
    /// Resume pending.
    pub const RESUME_PENDING: u16 = 0x0800;
    /// Start pending.
    pub const START_PENDING: u16 = 0x0400;
    /// Halt pending.
    pub const HALT_PENDING: u16 = 0x0200;
    /// Clear pending.
    pub const CLEAR_PENDING: u16 = 0x0100;
    /// Suspended.
    pub const SUSPENDED: u16 = 0x0020;
    /// Status control, all bits.
    pub const STCTL: u16 = 0x001f;
    /// Alert status.
    pub const ALERT: u16 = 0x0010;
    /// Intermediate status.
    pub const INTERMEDIATE: u16 = 0x0008;
    /// Primary status.
    pub const PRIMARY: u16 = 0x0004;
    /// Secondary status.
    pub const SECONDARY: u16 = 0x0002;
    /// Status pending.
    pub const PENDING: u16 = 0x0001;
    /// Device status: channel end and device end.
    pub const DSTAT_END: u8 = 0x0c;
    /// Device status: unit check.
    pub const DSTAT_UNIT_CHECK: u8 = 0x02;
    /// Subchannel status: program-controlled interruption.
    pub const CSTAT_PCI: u8 = 0x80;
    /// Subchannel status: incorrect length.
    pub const CSTAT_LENGTH: u8 = 0x40;
    /// Subchannel status: program check.
    pub const CSTAT_PROGRAM: u8 = 0x20;
    /// Subchannel status: protection check.
    pub const CSTAT_PROTECTION: u8 = 0x10;
}

/// Subchannel-information block, 52 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Schib {
    /// Path management.
    pub pmcw: Pmcw,
    /// Status.
    pub scsw: Scsw,
    /// Measurement-block address.
    pub mba: [u8; 8],
    /// Model-dependent area.
    pub mda: [u8; 4],
}

/// Interruption-response block without the extended measurement word, 64 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Irb {
    /// Status.
    pub scsw: Scsw,
    /// Extended status.
    pub esw: [U32; 5],
    /// Extended control: sense data.
    pub ecw: [u8; 32],
}

/// Operation-request block: the three words that command mode uses.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Orb {
    /// Interruption parameter.
    pub intparm: U32,
    /// Key and controls.
    pub ctrl0: U16,
    /// Logical-path mask.
    pub lpm: u8,
    /// Incorrect-length and extension controls.
    pub ctrl1: u8,
    /// Channel-program address.
    pub cpa: U32,
}

/// Bits of the [`Orb`].
pub mod orb {
    /// Suspend control.
    pub const SUSPEND: u16 = 0x0800;
    /// Format-1 CCWs.
    pub const FORMAT1: u16 = 0x0080;
    /// Suppress the interruption for suspension.
    pub const SUPPRESS: u16 = 0x0008;
    /// Channel-program type: transport mode, which is not supported.
    pub const TRANSPORT: u16 = 0x0004;
    /// Format-2 IDAWs.
    pub const IDAW2: u16 = 0x0002;
    /// Format-2 IDAWs designate 2 KiB blocks.
    pub const IDAW2_2K: u16 = 0x0001;
    /// Bits of `ctrl1` that must be zero, among them modified IDAWs and the ORB extension, which are not supported.
    pub const CTRL1_RESERVED: u8 = 0x7f;
}
