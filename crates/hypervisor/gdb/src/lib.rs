//! The gdb server: the debugger's door to a guest.
//!
//! A debugger attaches to a machine through [`serve`], sees one thread for each CPU, and reaches registers, memory,
//! breakpoints, watchpoints and steps through the platform; crate `gdbstub` speaks the remote protocol. What a debugger
//! may see of a protected guest is decided by [`DebugPolicy`] alone. Attaching stops the machine, with the first
//! packet: a mere connection does nothing. Detaching lets it go on. A debugger that vanishes leaves it as it
//! is, as with QEMU, but takes its breakpoints along.
//!
//! gdb learns the byte order from a kernel's symbols; without them it needs `set endian big`.
//!
//! It decodes no symbols and no instructions, which is gdb's part, and it debugs the guest as a whole, not a process
//! inside.
#![forbid(unsafe_code)]

mod arch;
mod guest;
mod packet;
mod policy;
mod server;
mod session;

pub use arch::{Register, Registers, S390x};
pub use policy::DebugPolicy;
pub use server::{Client, Clients, Close, Handle, SendBytes, ServeError, serve, serve_clients};
pub use session::Session;

use std::sync::Arc;

/// Carries out a line of the human monitor (`monitor CMD` of gdb) and gives its answer.
pub type Monitor = Arc<dyn Fn(&str) -> String + Send + Sync>;
