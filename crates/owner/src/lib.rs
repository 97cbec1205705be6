//! The guest owner's tools as a library: host-key documents verified, boot images made and read.
//!
//! The owner trusts neither the hypervisor nor the machine's administrator, and shares nothing with
//! them but byte formats. [`host_key`] decides for whose machine a secret may be wrapped;
//! [`image`] makes IBM Secure Execution images, inspects them and tests them.
//!
//! It never runs a guest, and it never goes to the network.
#![forbid(unsafe_code)]

mod error;
mod files;
pub mod host_key;
pub mod image;

pub use error::{HostKeyError, ImageError, OwnerError};
