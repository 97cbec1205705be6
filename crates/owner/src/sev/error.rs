//! What can go wrong with AMD SEV for the guest owner.

use cloister_formats::sev::chain::ChainError;
use cloister_formats::sev::ovmf::OvmfError;
use cloister_formats::sev::policy::PolicyFault;

/// Why a SEV tool refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SevError {
    /// A part of a file breaks its format.
    #[error("{file}: {source}")]
    Format {
        /// The file.
        file: String,
        /// What is wrong.
        source: cloister_formats::Error,
    },
    /// A file with certificates is none.
    #[error("{file}: {source}")]
    Chain {
        /// The file.
        file: String,
        /// What is wrong.
        source: ChainError,
    },
    /// Text that should be base64.
    #[error("{what} is not base64: give it as the monitor prints it, without quotation marks")]
    Base64 {
        /// The file or option.
        what: String,
    },
    /// An archive cannot be read.
    #[error("{file}: this zip archive cannot be read: {reason}")]
    Zip {
        /// The file.
        file: String,
        /// Why.
        reason: &'static str,
    },
    /// A certificate is missing.
    #[error("{file} holds no {what}; {hint}")]
    Missing {
        /// The file.
        file: String,
        /// What is missing.
        what: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// Data of a wrong length.
    #[error("{what} has {have} bytes, where {need} are needed; {hint}")]
    Length {
        /// The file or option.
        what: String,
        /// Its bytes.
        have: usize,
        /// The bytes needed.
        need: usize,
        /// What to do.
        hint: &'static str,
    },
    /// A policy that no firmware accepts.
    #[error("policy {policy:#x}: {source}")]
    Policy {
        /// The policy.
        policy: u32,
        /// Why.
        source: PolicyFault,
    },
    /// A number that cannot be read.
    #[error("{what} {text:?} is no {kind}; write it in decimal or as 0x...")]
    Number {
        /// The field.
        what: &'static str,
        /// What was given.
        text: String,
        /// What was expected.
        kind: &'static str,
    },
    /// The key of a certificate cannot be used.
    #[error("{file}: the key of the {certificate} is not a point of P-384, so nobody has its private key")]
    Key {
        /// The file.
        file: String,
        /// The certificate.
        certificate: &'static str,
    },
    /// A chain does not verify.
    #[error("{file} is not to be trusted: {reason}")]
    Untrusted {
        /// The file.
        file: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A firmware image lacks something.
    #[error("{file}: {source}; {hint}")]
    Firmware {
        /// The file.
        file: String,
        /// What is wrong, in QEMU's words.
        source: OvmfError,
        /// What to do.
        hint: &'static str,
    },
    /// Reading failed.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// An output exists.
    #[error("{file} exists and is not overwritten; remove it, choose another name, or say --force")]
    Exists {
        /// The file.
        file: String,
    },
    /// A CPU model without a known signature.
    #[error(
        "the signature of CPU model {model} is not known; known are {known}; or give family, model and stepping"
    )]
    CpuModel {
        /// What was given.
        model: String,
        /// What is known.
        known: String,
    },
    /// A secret that cannot be sent.
    #[error("{0}")]
    Secret(String),
    /// A report that does not verify.
    #[error("{file}: {reason}")]
    Report {
        /// The file.
        file: String,
        /// Why, and what to do.
        reason: String,
    },
}
