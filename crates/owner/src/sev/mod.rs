//! AMD SEV and SEV-ES for the guest owner: certificates, sessions, measurements, secrets, reports.
//!
//! Files and conventions are those of sevctl, sev-tool, QEMU and libvirt, so that each step can be done with either
//! program. [`certs`] decides whose platform a session may be made for, [`session`] makes one, [`measure`] computes what
//! the firmware will measure, [`explain`] says why it measured something else, [`secret`] seals what the guest is to
//! have, and [`attestation`] checks a report.
//!
//! Nothing here opens a file by itself or goes to the network, except [`save`]; callers hand over bytes and readers
//! with the name to be used in errors.

pub mod attestation;
pub mod certs;
mod error;
pub mod explain;
pub mod input;
pub mod measure;
pub mod save;
pub mod secret;
pub mod session;
mod zip;

pub use error::SevError;

use cloister_crypto::Secret;

/// The guest owner's transport integrity key and transport encryption key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Integrity: of measurements, policies and packets.
    pub tik: Secret<16>,
    /// Encryption of packets.
    pub tek: Secret<16>,
}
