//! Dumps of s390x guests: the file that an operator gets, and the command that asks for it.
//!
//! [`write`] streams a guest that is at rest into an ELF core. A protected guest's parts are taken from the platform
//! as the Ultravisor gives them: encrypted for the owner of its image. [`command`] is `dump-guest-memory` of the
//! monitors: it checks arguments in QEMU's order and words, and makes files appear complete or not at all.
//!
//! It decrypts nothing, and it does not stop the machine: that is the machine's.
#![forbid(unsafe_code)]

mod command;
mod target;
mod write;

pub use command::{Command, FORMATS, command};
pub use target::Target;
pub use write::{DumpError, part, write};
