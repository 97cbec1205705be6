//! The device models as a guest sees them: one binary, so that it links once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod blk;
mod common;
mod crash;
mod css;
mod disk;
mod dispatch;
mod net;
mod ports;
mod private;
mod sclp;
mod virtio;
