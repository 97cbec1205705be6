//! Device models of the s390x machine: the service-call logical processor (SCLP) with its consoles, the channel
//! subsystem, and virtio devices behind virtio-ccw. Every model works on plain data: the CPU side fetches an
//! instruction's operand block and hands over bytes, and everything that a device reads or writes on its own goes
//! through the host view of guest memory, where a private page cannot be reached.
//!
//! This crate translates no guest address, runs no thread, queues no interruption and knows no mechanism of
//! confidential computing. A device that meets a private page gets an access error and reports it to the guest as the
//! architecture says.
#![forbid(unsafe_code)]

pub mod access;
pub mod css;
pub mod entropy;
mod error;
pub mod interrupt;
pub mod sclp;
pub mod terminal;
pub mod virtio;

pub use error::Error;
pub use interrupt::{HostInterrupt, InterruptSink, Outcome};
