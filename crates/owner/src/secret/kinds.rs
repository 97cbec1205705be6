//! What a secret can be, and the bytes that carry it.
//!
//! The sizes and the padding are those of `pvsecret create` (s390-tools, its manual pages).

use std::fmt;

use cloister_crypto::{Secret, sha256};
use cloister_formats::s390x::asrcb::{SecretHeader, SecretType};
use zeroize::Zeroizing;

use super::{SecretError, ec_key};

/// A secret for a guest.
#[derive(Clone, Debug)]
pub enum GuestSecret {
    /// Nothing is stored: the request only sets flags or the extension secret.
    Meta,
    /// Binds a crypto device to the guest.
    Association {
        /// Its name.
        name: SecretName,
        /// The secret.
        secret: Secret<32>,
    },
    /// The guest can fetch it: plain text as it is, keys in protected form.
    Retrievable {
        /// Its name.
        name: SecretName,
        /// The secret.
        key: RetrievableKey,
    },
    /// A new customer communication key.
    UpdateCck(Secret<32>),
}

/// A secret's name and the identifier that follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretName {
    text: String,
    id: [u8; 32],
}

impl SecretName {
    /// The identifier is the hash of the name.
    pub fn hashed(text: &str) -> Self {
        Self { text: text.into(), id: sha256(text.as_bytes()) }
    }

    /// `--use-name`: the identifier is the name itself, filled up with zeros.
    pub fn as_it_is(text: &str) -> Result<Self, SecretError> {
        let size = text.len();
        if size == 0 || size > 32 {
            return Err(SecretError::Name { name: text.into(), size });
        }
        let mut id = [0; 32];
        id[..size].copy_from_slice(text.as_bytes());
        Ok(Self { text: text.into(), id })
    }

    /// The name.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The identifier.
    pub fn id(&self) -> &[u8; 32] {
        &self.id
    }
}

/// `--type` of a retrievable secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// Any bytes.
    Plain,
    /// AES, of 128, 192 or 256 bits.
    Aes,
    /// AES-XTS, twice 128 or 256 bits.
    AesXts,
    /// HMAC-SHA, one block of 512 or 1024 bits.
    HmacSha,
    /// A private key on P-256, P-384, P-521, Ed25519 or Ed448.
    Ec,
}

/// A retrievable secret as it is sealed.
#[derive(Clone)]
pub struct RetrievableKey {
    kind: SecretType,
    bytes: Zeroizing<Vec<u8>>,
}

impl RetrievableKey {
    /// Takes the contents of a key file; `name` is for the messages.
    pub fn new(kind: KeyType, name: &str, file: &[u8]) -> Result<Self, SecretError> {
        let size = file.len();
        let wrong = |what, sizes| Err(SecretError::Size { name: name.into(), size, what, sizes });
        let kind = match (kind, size) {
            (KeyType::Plain, 0..=MAX_PLAIN) => return Ok(Self::plain(file)),
            (KeyType::Plain, _) => return wrong("a plaintext secret", "at most 8190"),
            (KeyType::Aes, 16) => SecretType::AES_128,
            (KeyType::Aes, 24) => SecretType::AES_192,
            (KeyType::Aes, 32) => SecretType::AES_256,
            (KeyType::Aes, _) => return wrong("an AES key", "16, 24 or 32"),
            (KeyType::AesXts, 32) => SecretType::AES_128_XTS,
            (KeyType::AesXts, 64) => SecretType::AES_256_XTS,
            (KeyType::AesXts, _) => return wrong("an AES-XTS key", "32 or 64"),
            (KeyType::HmacSha, 64) => SecretType::HMAC_SHA_256,
            (KeyType::HmacSha, 128) => SecretType::HMAC_SHA_512,
            (KeyType::HmacSha, _) => {
                return wrong(
                    "an HMAC-SHA key",
                    "64 (SHA-224, SHA-256) or 128 (SHA-384, SHA-512): one block of its digest, padded with zeros",
                );
            }
            (KeyType::Ec, _) => {
                let (kind, bytes) = ec_key::read(name, file)?;
                return Ok(Self { kind, bytes });
            }
        };
        Ok(Self { kind, bytes: Zeroizing::new(file.to_vec()) })
    }

    /// What it is.
    pub fn kind(&self) -> SecretType {
        self.kind
    }

    /// A length of two bytes, the text, zeros to a multiple of 16.
    fn plain(text: &[u8]) -> Self {
        let mut bytes = Zeroizing::new(Vec::with_capacity((text.len() + 2).next_multiple_of(16)));
        bytes.extend_from_slice(&(text.len() as u16).to_be_bytes());
        bytes.extend_from_slice(text);
        let size = bytes.len().next_multiple_of(16);
        bytes.resize(size, 0);
        Self { kind: SecretType::PLAINTEXT, bytes }
    }
}

impl fmt::Debug for RetrievableKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RetrievableKey({})", self.kind.name())
    }
}

impl GuestSecret {
    /// The name, of those that have one.
    pub fn name(&self) -> Option<&SecretName> {
        match self {
            Self::Meta | Self::UpdateCck(_) => None,
            Self::Association { name, .. } | Self::Retrievable { name, .. } => Some(name),
        }
    }

    /// What it is.
    pub fn kind(&self) -> SecretType {
        match self {
            Self::Meta => SecretType::NULL,
            Self::Association { .. } => SecretType::ASSOCIATION,
            Self::Retrievable { key, .. } => key.kind,
            Self::UpdateCck(_) => SecretType::CCK_UPDATE,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Meta => &[],
            Self::Association { secret, .. } | Self::UpdateCck(secret) => secret.expose(),
            Self::Retrievable { key, .. } => &key.bytes,
        }
    }

    pub(super) fn header(&self) -> SecretHeader {
        SecretHeader {
            kind: self.kind(),
            len: self.bytes().len() as u32,
            id: self.name().map_or([0; 32], |name| name.id),
        }
    }
}

const MAX_PLAIN: usize = 8190;
