//! How a private page leaves and comes back: AES-256-XTS under random keys of the configuration, with a digest of the
//! ciphertext kept here.
//!
//! Every export has a version of its own, and the version is its part of the tweak, so no two exports of a
//! configuration share one. The digest covers version, page number and ciphertext, so an altered page, another page's
//! bytes and an older export of the same page are all refused before anything is decrypted. A dump needs no form of
//! its own: it tells the image's owner the keys, and the host the versions.

use std::sync::atomic::{AtomicU64, Ordering};

use cloister_crypto::{Aes256Xts, Entropy, Secret, Sha256, ct_eq};
use cloister_formats::s390x::dump::{COMPONENT_SIZE, Component};

use crate::storage::PageBytes;

/// What is kept for an exported page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExportRecord {
    version: u64,
    digest: [u8; 32],
}

impl ExportRecord {
    /// The page's part of the tweak.
    pub(crate) fn component(&self) -> Component {
        Component::Tweak(component(self.version))
    }

    pub(crate) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

pub(crate) struct ExportKey {
    key: Secret<64>,
    cipher: Aes256Xts,
    /// The other part of all tweaks. It has bits only where no component has.
    nonce: [u8; COMPONENT_SIZE],
    next_version: AtomicU64,
}

impl ExportKey {
    pub(crate) fn generate(entropy: &mut dyn Entropy) -> Self {
        let key = Secret::generate(entropy);
        let mut nonce = [0; COMPONENT_SIZE];
        entropy.fill(&mut nonce[..COMPONENT_SIZE - VERSION_SIZE]);
        Self { cipher: Aes256Xts::new(&key), key, nonce, next_version: AtomicU64::new(1) }
    }

    /// Encrypts `plain` into `out`.
    pub(crate) fn export(&self, page: u64, plain: &PageBytes, out: &mut PageBytes) -> ExportRecord {
        let version = self.next_version.fetch_add(1, Ordering::Relaxed);
        *out = *plain;
        self.cipher.encrypt_page(&self.tweak(version), out);
        ExportRecord { version, digest: digest(page, version, out) }
    }

    /// Decrypts `raw` into `plain`; false, and `plain` as it was, if it is not what was exported last.
    pub(crate) fn import(
        &self,
        page: u64,
        record: &ExportRecord,
        raw: &PageBytes,
        plain: &mut PageBytes,
    ) -> bool {
        if !ct_eq(&digest(page, record.version, raw), &record.digest) {
            return false;
        }
        *plain = *raw;
        self.cipher.decrypt_page(&self.tweak(record.version), plain);
        true
    }

    pub(crate) const fn keys(&self) -> &Secret<64> {
        &self.key
    }

    pub(crate) const fn nonce(&self) -> &[u8; COMPONENT_SIZE] {
        &self.nonce
    }

    fn tweak(&self, version: u64) -> [u8; COMPONENT_SIZE] {
        Component::tweak(&component(version), &self.nonce)
    }
}

const VERSION_SIZE: usize = size_of::<u64>();

fn component(version: u64) -> [u8; COMPONENT_SIZE] {
    let mut bytes = [0; COMPONENT_SIZE];
    bytes[COMPONENT_SIZE - VERSION_SIZE..].copy_from_slice(&version.to_be_bytes());
    bytes
}

/// Of a dump's page, as its owner computes it too.
fn digest(page: u64, version: u64, ciphertext: &PageBytes) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(&component(version));
    hash.update(&page.to_be_bytes());
    hash.update(ciphertext);
    hash.finish()
}
