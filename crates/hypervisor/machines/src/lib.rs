//! Machines: they put CPUs, memory, devices and a confidential-guest mechanism together and run them.
//!
//! A machine reaches its VM through the upper door only and names no mechanism: what protection means is
//! asked of `cloister-cgs`. Command-line syntax, the platform behind the door and exit statuses are not
//! here.
#![forbid(unsafe_code)]

mod console;
mod error;
mod outlets;
mod run;
pub mod s390_ccw;

pub use error::MachineError;
pub use outlets::{MessageSink, Outlets};
pub use run::{End, Report};
