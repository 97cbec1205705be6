//! The guest owner's tools as a library: platforms verified, boot images made and read, launches measured.
//!
//! The owner trusts neither the hypervisor nor the machine's administrator, and shares nothing with
//! them but byte formats. [`host_key`] decides for whose machine a secret may be wrapped;
//! [`image`] makes IBM Secure Execution images, inspects them and tests them. [`sev`] does the owner's part of an
//! AMD SEV launch.
//!
//! It never runs a guest, and it never goes to the network.
#![forbid(unsafe_code)]

pub mod attest;
mod error;
mod files;
pub mod host_key;
pub mod image;
mod seal;
pub mod secret;
pub mod sev;

pub use attest::AttestError;
pub use error::{HostKeyError, ImageError, OwnerError};
pub use secret::SecretError;
pub use sev::SevError;
