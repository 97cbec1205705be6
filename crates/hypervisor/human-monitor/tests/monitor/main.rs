//! The monitor on fake machines, and beside the packaged QEMU.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod commands;
mod guest;
mod oracle;
mod sessions;
