//! Device models. Of the s390x machine: the service-call logical processor (SCLP) with its consoles, the channel
//! subsystem, and virtio devices behind virtio-ccw. Every model works on plain data: the CPU side fetches an
//! instruction's operand block and hands over bytes, and everything that a device reads or writes on its own goes
//! through the host view of guest memory, where a private page cannot be reached.
//!
//! | exit of the CPU side | goes to |
//! |---|---|
//! | SERVICE CALL with its SCCB | [`sclp::Sclp::service_call`] |
//! | START, RESUME SUBCHANNEL with the ORB | [`css::ChannelSubsystem::ssch`], [`css::ChannelSubsystem::rsch`] |
//! | MODIFY, STORE, TEST SUBCHANNEL | [`css::ChannelSubsystem::msch`], [`css::ChannelSubsystem::stsch`], [`css::ChannelSubsystem::tsch`] |
//! | CLEAR, HALT, CANCEL SUBCHANNEL | [`css::ChannelSubsystem::csch`], [`css::ChannelSubsystem::hsch`], [`css::ChannelSubsystem::xsch`] |
//! | CHANNEL SUBSYSTEM CALL with its block | [`css::ChannelSubsystem::chsc`] |
//! | the other I/O instructions | the method with the name of the instruction |
//! | DIAGNOSE 0x500, function 3 | [`css::ChannelSubsystem::notify`] |
//! | subsystem reset | [`sclp::Sclp::reset`], [`css::ChannelSubsystem::reset`] |
//!
//! [`dispatch::complete`] does all of these from an exit message. Interruptions come out through [`InterruptSink`]. TEST PENDING INTERRUPTION stays with the interruption queues.
//!
//! Of PCs: firmware flash ([`flash`]) and fw_cfg ([`fw_cfg`]).
//!
//! This crate translates no guest address, queues no interruption and knows no mechanism of confidential computing.
//! A device with threads of its own says through a [`Waker`] that it wants to be called. A device that meets a private page gets an access error and reports it to the guest as the
//! architecture says.
#![forbid(unsafe_code)]

pub mod access;
pub mod css;
pub mod dispatch;
pub mod entropy;
mod error;
pub mod flash;
pub mod fw_cfg;
pub mod interrupt;
pub mod sclp;
pub mod virtio;
pub mod wake;
pub mod watchdog;

pub use error::Error;
pub use interrupt::{HostInterrupt, InterruptSink, Outcome};
pub use wake::Waker;
