//! Virtio devices (virtio 1.2) and their s390x transport. [`VirtioDevice`] is a device type apart from its transport,
//! [`ccw::VirtioCcw`] puts it behind a subchannel, [`queue::VirtQueue`] is a split ring in either byte order.
//!
//! Packed rings and device-specific notification data do not exist here.

pub mod balloon;
pub mod blk;
pub mod ccw;
pub mod console;
pub mod disk;
pub mod lock;
pub mod net;
mod qcow2;
pub mod queue;
pub mod rng;

use serde::{Deserialize, Serialize};
use vm_memory::GuestMemory;

pub use balloon::{Balloon, BalloonState};
pub use blk::{Block, BlockOptions, BlockState};
pub use ccw::{VirtioCcw, VirtioCcwOptions, VirtioCcwState};
pub use console::{Console, ConsoleState};
pub use disk::{DiskBackend, DiskOptions, open_disk};
use queue::{QueueError, VirtQueue};
pub use net::{Net, NetOptions, NetPort, NetState};
pub use rng::{Rng, RngState};

/// Feature bits, as masks.
pub mod feature {
    /// Indirect descriptors.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Event index instead of flags.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// The device follows virtio 1.x.
    pub const VERSION_1: u64 = 1 << 32;
    /// Device accesses go through the platform: the device sees only what the guest shares.
    pub const ACCESS_PLATFORM: u64 = 1 << 33;
}

/// Byte order of rings, headers and configuration: little for virtio 1.x, the guest's own for legacy devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ByteOrder {
    /// Virtio 1.x.
    #[default]
    Little,
    /// A legacy device in a big-endian guest.
    Big,
}

impl ByteOrder {
    /// Bytes to a halfword.
    pub fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    /// Bytes to a word.
    pub fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    /// Bytes to a doubleword.
    pub fn u64(self, bytes: [u8; 8]) -> u64 {
        match self {
            Self::Little => u64::from_le_bytes(bytes),
            Self::Big => u64::from_be_bytes(bytes),
        }
    }

    /// A halfword to bytes.
    pub fn put16(self, value: u16) -> [u8; 2] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    /// A word to bytes.
    pub fn put32(self, value: u32) -> [u8; 4] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    /// A doubleword to bytes.
    pub fn put64(self, value: u64) -> [u8; 8] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }
}

/// Saved state of a device type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VirtioDeviceState {
    /// virtio-balloon.
    Balloon(BalloonState),
    /// virtio-blk.
    Block(BlockState),
    /// virtio-console.
    Console(ConsoleState),
    /// virtio-net.
    Net(NetState),
    /// virtio-rng.
    Rng(RngState),
}

/// What [`VirtioDevice::host_event`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostEvent {
    /// Queues in which buffers were used, as a mask: bit n is queue n.
    pub used: u64,
    /// The configuration space has changed.
    pub config: bool,
}

/// A virtio device type without its transport.
pub trait VirtioDevice<M: GuestMemory>: Send {
    /// The device id (virtio 1.2, chapter 5).
    fn device_id(&self) -> u8;

    /// The device-specific features that it offers.
    fn features(&self) -> u64;

    /// The maximum size of each queue.
    fn queue_sizes(&self) -> &[u16];

    /// The configuration space.
    fn config(&self, order: ByteOrder) -> Vec<u8>;

    /// A write to the start of the configuration space.
    fn write_config(&mut self, _order: ByteOrder, _data: &[u8]) {}

    /// The driver is ready and accepted these features.
    fn activate(&mut self, features: u64, order: ByteOrder);

    /// Device reset.
    fn reset(&mut self);

    /// Works off a queue. Returns whether buffers were used, so that a notification may be due.
    ///
    /// # Errors
    /// The ring or a chain is broken; the transport marks the device as needing a reset.
    fn process_queue(&mut self, mem: &M, index: u16, queue: &mut VirtQueue) -> Result<bool, QueueError>;

    /// Something happened on the host's side (a packet, input, a finished request, a new size), or the driver has just
    /// become ready: works on whichever queues it concerns. A queue that is not ready must be left alone. Called while
    /// the driver is ready; what comes earlier the device keeps or drops.
    ///
    /// # Errors
    /// As [`process_queue`](Self::process_queue).
    fn host_event(&mut self, _mem: &M, _queues: &mut [VirtQueue]) -> Result<HostEvent, QueueError> {
        Ok(HostEvent::default())
    }

    /// The state to save.
    fn save(&self) -> VirtioDeviceState;

    /// Continues from a saved state.
    ///
    /// # Errors
    /// The state belongs to another device type.
    fn restore(&mut self, state: VirtioDeviceState) -> Result<(), crate::Error>;
}
