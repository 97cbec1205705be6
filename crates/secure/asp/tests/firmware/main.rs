//! The firmware interface from outside: command buffers as bytes, memory, and status numbers.

mod platform;
mod rig;
mod states;
mod valid;
