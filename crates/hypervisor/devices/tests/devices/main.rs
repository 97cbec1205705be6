//! The device models as a guest sees them: one binary, so that it links once.

mod common;
mod css;
mod disk;
mod private;
mod sclp;
mod virtio;
