//! The firmware interface from outside: command buffers as bytes, memory, and status numbers.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

mod flips;
mod launch;
mod order;
mod platform;
mod random;
mod rig;
mod states;
mod transport;
mod valid;
