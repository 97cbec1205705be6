//! Why an add-secret request cannot be made or read.

use std::fmt;
use std::path::PathBuf;

/// Why a tool for secrets refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// No host-key document.
    #[error("no host-key document is given, so no machine could open the request; name at least one with -k")]
    NoHostKey,
    /// More host keys than a request can name.
    #[error("{0} host-key documents are given; a request can name at most 255")]
    TooManyHostKeys(usize),
    /// A file is no request, or a malformed one.
    #[error("{name} is no add-secret request: {reason}")]
    Format {
        /// The file.
        name: String,
        /// The reason.
        reason: String,
    },
    /// A name that cannot be used as it is.
    #[error("the name {name:?} has {size} bytes; used as it is (--use-name) it can have 1 to 32")]
    Name {
        /// The name.
        name: String,
        /// Its size.
        size: usize,
    },
    /// A key of a size that its type does not have.
    #[error("{name} holds {size} bytes, but {what} needs {sizes}")]
    Size {
        /// The file.
        name: String,
        /// Its size.
        size: usize,
        /// The type.
        what: &'static str,
        /// The sizes that it can have.
        sizes: &'static str,
    },
    /// Not a private key of a usable kind.
    #[error("{name} is no usable private key: {reason}")]
    PrivateKey {
        /// The file.
        name: String,
        /// The reason.
        reason: String,
    },
    /// More user data than fits beside the signature.
    #[error("there are {size} bytes of user data; {limit} fit{reason}")]
    UserData {
        /// Bytes given.
        size: usize,
        /// Bytes that fit.
        limit: usize,
        /// Why there are not more.
        reason: &'static str,
    },
    /// The configuration's identity is malformed.
    #[error(
        "{} is no configuration's identity: 16 raw bytes are needed, or the result of `attest verify -o` with its \
         entry `cuid`", .0.display()
    )]
    ConfigUid(PathBuf),
    /// Secrets must not be made in the guest that they are for.
    #[error(
        "this machine is a Secure Execution guest; secrets are made where their owner is, not in the guest \
         (-f if you know better)"
    )]
    InsideGuest,
    /// The options contradict each other.
    #[error("{0}")]
    Options(&'static str),
    /// The user's signature does not fit.
    #[error(
        "the user data of {name} are not signed with the key of {certificate}: the request was altered or is \
         another's; do not use it"
    )]
    Signature {
        /// The request.
        name: String,
        /// The certificate.
        certificate: String,
    },
    /// The certificate's key is of another kind than the signature.
    #[error("the user data of {name} are signed with {kind}; the key of {certificate} is of another kind")]
    SignatureKind {
        /// The request.
        name: String,
        /// The kind of the signature.
        kind: &'static str,
        /// The certificate.
        certificate: String,
    },
    /// Something that should not happen.
    #[error("internal error: {0}; please report it")]
    Internal(&'static str),
}

impl SecretError {
    pub(crate) fn format(name: &str, error: impl fmt::Display) -> Self {
        Self::Format { name: name.into(), reason: error.to_string() }
    }

    pub(crate) fn crypto(_: cloister_crypto::Error) -> Self {
        Self::Internal("a seal of a few bytes failed")
    }
}
