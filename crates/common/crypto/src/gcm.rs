//! AES-256-GCM (NIST SP 800-38D) in place, with the tag apart.

use std::fmt;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{KeyInit, Nonce, Tag};

use crate::locked::Locked;
use crate::{Error, Secret};

/// Bytes of an initial value.
pub const GCM_IV_SIZE: usize = 12;
/// Bytes of a tag.
pub const GCM_TAG_SIZE: usize = 16;

/// AES-256-GCM with the key expanded. A pair of key and IV seals one message only.
pub struct Aes256Gcm(Locked<aes_gcm::Aes256Gcm>);

impl Aes256Gcm {
    /// Expands the key.
    pub fn new(key: &Secret<32>) -> Self {
        Self(Locked::new(aes_gcm::Aes256Gcm::new(key.expose().into())))
    }

    /// Encrypts `data` in place and returns the tag over `aad` and the ciphertext.
    ///
    /// # Errors
    /// [`Error::TooLong`] beyond the limit of the mode (64 GiB).
    pub fn seal(
        &self,
        iv: &[u8; GCM_IV_SIZE],
        aad: &[u8],
        data: &mut [u8],
    ) -> Result<[u8; GCM_TAG_SIZE], Error> {
        let length = data.len();
        self.0
            .encrypt_inout_detached(&Nonce::from(*iv), aad, data.into())
            .map(Into::into)
            .map_err(|_| Error::TooLong(length))
    }

    /// Checks the tag and decrypts `data` in place. On failure `data` stays ciphertext.
    ///
    /// # Errors
    /// [`Error::Authentication`] if anything is not as it was sealed.
    pub fn open(
        &self,
        iv: &[u8; GCM_IV_SIZE],
        aad: &[u8],
        data: &mut [u8],
        tag: &[u8; GCM_TAG_SIZE],
    ) -> Result<(), Error> {
        self.0
            .decrypt_inout_detached(&Nonce::from(*iv), aad, data.into(), &Tag::from(*tag))
            .map_err(|_| Error::Authentication)
    }
}

impl fmt::Debug for Aes256Gcm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aes256Gcm(..)")
    }
}
