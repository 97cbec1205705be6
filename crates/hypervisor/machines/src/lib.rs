//! Machines: they put CPUs, memory, devices and a confidential-guest mechanism together and run them.
//!
//! A machine reaches its VM through the upper door only and names no mechanism: what protection means is
//! asked of `cloister-cgs`. Command-line syntax, the platform behind the door and exit statuses are not
//! here.
#![forbid(unsafe_code)]

mod backing;
mod blocks;
mod error;
mod exits;
mod none;
mod objects;
mod outlets;
pub mod q35;
mod run;
pub mod s390_ccw;

use cloister_control::{Cause, Machine};
use std::sync::Arc;

pub use error::MachineError;
pub use none::NoneMachine;
pub use outlets::{ConnectError, MessageSink, Outlets, PortConnector, PortInput, PortPeer, Ports};
pub use run::{End, Report};

/// A machine that its owner runs; operators use the rest of [`Machine`].
pub trait Run: Machine {
    /// Loads what there is to boot and runs to the end, on this thread or on threads that end before it returns.
    fn run(self: Arc<Self>) -> Result<Report, MachineError>;

    /// Ends the run from another thread; the first reason counts.
    fn end(&self, end: End, cause: Cause);

    /// What the user should be told before the run.
    fn warnings(&self) -> &[String];

    /// What is typed on the guest's console. Answers how many bytes there was room for.
    fn console_input(&self, bytes: &[u8]) -> usize;
}
