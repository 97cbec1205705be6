//! The firmware interface from outside: command buffers as bytes, memory, and status numbers.

mod flips;
mod launch;
mod order;
mod platform;
mod random;
mod rig;
mod states;
mod transport;
mod valid;
