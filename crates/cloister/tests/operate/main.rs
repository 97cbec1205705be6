//! Operating a machine as people and programs do: over QMP, the monitors, gdb, with libvirt and Python's `qemu.qmp`.
//!
//! Everything here runs the built program. What a command answers in each case is tested where the command is; here
//! is what clients rely on.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod devices;
mod gdb;
mod guest;
mod hostile_client;
mod libvirt;
mod linux;
mod process;
mod qmp_clients;
