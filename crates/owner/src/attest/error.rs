//! Why an attestation request cannot be made, or its answer is not believed.

use std::fmt;
use std::path::PathBuf;

use super::yaml::hex;

/// Why an attestation tool refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttestError {
    /// No host-key document.
    #[error("no host-key document is given, so no machine could open the request; name at least one with -k")]
    NoHostKey,
    /// More host keys than a request can name.
    #[error("{0} host-key documents are given; a request can name at most 255")]
    TooManyHostKeys(usize),
    /// A file is no exchange file, or its parts are malformed.
    #[error("{name} is not usable: {reason}")]
    Format {
        /// The file.
        name: String,
        /// The reason.
        reason: String,
    },
    /// The protection key does not open the request.
    #[error(
        "the protection key does not open the request that the answer carries: it is the key of another request, or \
         the request was altered on its way; use the file that --arpk of `create` wrote for this very request"
    )]
    Arpk,
    /// A measurement algorithm that this program does not know.
    #[error("the request asks for the measurement algorithm {0}; only 1 (HMAC-SHA512) is known")]
    Algorithm(u32),
    /// The measurement is not the expected one.
    #[error(transparent)]
    Mismatch(#[from] Box<Compared>),
    /// The options contradict each other.
    #[error("{0}")]
    Options(&'static str),
    /// More user data than fits.
    #[error("{} holds {size} bytes; at most 256 bytes of user data can be measured", .file.display())]
    UserData {
        /// The file.
        file: PathBuf,
        /// Its size.
        size: usize,
    },
    /// Something that should not happen.
    #[error("internal error: {0}; please report it")]
    Internal(&'static str),
}

impl AttestError {
    pub(crate) fn format(name: &str, error: impl fmt::Display) -> Self {
        Self::Format { name: name.into(), reason: error.to_string() }
    }
}

/// What a measurement that is not the expected one was compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The measurement in the answer.
    pub received: Vec<u8>,
    /// The measurement of what the answer says about an image with the given header.
    pub calculated: Vec<u8>,
    /// Tag of the header that was compared with.
    pub header_tag: [u8; 16],
    /// Page list digest of that header.
    pub pld: [u8; 64],
    /// Identity of the configuration that the answer names.
    pub config_uid: [u8; 16],
    /// User data of the answer.
    pub user_data: Vec<u8>,
    /// Whether the request has a nonce, which is measured too.
    pub nonce: bool,
    /// Additional data of the answer.
    pub additional: Vec<u8>,
    /// What the answer contradicts by itself.
    pub hints: Vec<String>,
}

impl std::error::Error for Compared {}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "the measurement is not the one of this image with what the answer says. Compared were:"
        )?;
        writeln!(
            f,
            "  image tags       of the given header: tag {}, page list digest {}..., and its two other digests",
            hex(&self.header_tag),
            hex(&self.pld[..8])
        )?;
        writeln!(f, "  configuration    {} (from the answer)", hex(&self.config_uid))?;
        match self.user_data.len() {
            0 => writeln!(f, "  user data        none (from the answer)")?,
            size => {
                writeln!(f, "  user data        {size} bytes {} (from the answer)", short(&self.user_data))?
            }
        }
        let nonce = if self.nonce { "the request's" } else { "none, as the request says" };
        writeln!(f, "  nonce            {nonce}")?;
        match self.additional.len() {
            0 => writeln!(f, "  additional data  none (from the answer)")?,
            size => {
                writeln!(f, "  additional data  {size} bytes {} (from the answer)", short(&self.additional))?
            }
        }
        writeln!(
            f,
            "  measurement      received {}, calculated {}",
            short(&self.received),
            short(&self.calculated)
        )?;
        for hint in &self.hints {
            writeln!(f, "  {hint}")?;
        }
        write!(
            f,
            "One of them was altered, or the guest is another image, or it is not protected by an Ultravisor: do not \
             trust it"
        )
    }
}

fn short(bytes: &[u8]) -> String {
    match bytes.len() {
        0..=16 => hex(bytes),
        _ => format!("{}...", hex(&bytes[..16])),
    }
}
