//! Network backends: where a guest's packets go and come from. [`Network`] is all that a machine has, [`Port`] the end
//! of one backend that a network device holds. One thread per backend moves packets between a descriptor and bounded
//! queues, so that neither the guest nor the device ever waits for a peer.
//!
//! Nothing here knows virtio or a guest. It parses no options either; `cloister-options` does. It is no network stack:
//! for `-netdev user` that is passt, a process of its own ([`Helpers`]).
//!
//! # Promises against hostile and slow peers
//!
//! * Packets for the peer wait in at most [`SEND_LIMIT`] bytes and the one packet that crosses it; then
//!   [`Port::send`] refuses, and the device is called once there is room. Without a peer they are dropped.
//! * Packets for the guest wait in at most [`RECEIVE_LIMIT`] bytes and what one read brought beyond; then the peer is
//!   not read, so that a stream holds its sender back and a datagram is lost in the kernel.
//! * A packet on a stream longer than [`PACKET_LIMIT`], or empty, ends the connection: what follows it cannot be
//!   trusted to begin where a packet begins.
//! * A device that is not ready, and a link that is down, get and send nothing; nothing is kept for them.
#![forbid(unsafe_code)]

mod error;
mod link;
mod network;
mod open;
mod passt;
mod pump;

pub use error::NetworkError;
pub use link::Port;
pub use network::{NetEvent, NetdevInfo, Network};
pub use passt::Helpers;

/// Longest packet: the longest that an IP packet and its Ethernet header can be, rounded up as QEMU does.
pub const PACKET_LIMIT: usize = 4096 + 65536;
/// Bytes that wait for a peer before [`Port::send`] refuses.
pub const SEND_LIMIT: usize = 512 << 10;
/// Bytes that wait for the guest before the peer is not read any more.
pub const RECEIVE_LIMIT: usize = 1 << 20;
