//! The server against a toy of a machine: packet by packet, and with gdb itself.

mod fake;
mod gdb;
mod session;
