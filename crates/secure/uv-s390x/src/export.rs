//! How a private page leaves and comes back: AES-256-GCM under a random key of the configuration.
//!
//! Every export has a version of its own, which is the initial value; the page's number is authenticated;
//! version and tag stay here. So an altered page, another page's bytes and an older export of the same page
//! all fail to open.

use std::sync::atomic::{AtomicU64, Ordering};

use cloister_crypto::{Aes256Gcm, Entropy, Secret};

use crate::storage::PageBytes;

/// What is kept for an exported page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExportRecord {
    version: u64,
    tag: [u8; 16],
}

pub(crate) struct ExportKey {
    cipher: Aes256Gcm,
    next_version: AtomicU64,
}

impl ExportKey {
    pub(crate) fn generate(entropy: &mut dyn Entropy) -> Self {
        Self { cipher: Aes256Gcm::new(&Secret::generate(entropy)), next_version: AtomicU64::new(1) }
    }

    /// Seals `plain` into `out`; `None` only if the cipher refuses a page, which it does not.
    pub(crate) fn export(&self, page: u64, plain: &PageBytes, out: &mut PageBytes) -> Option<ExportRecord> {
        let version = self.next_version.fetch_add(1, Ordering::Relaxed);
        *out = *plain;
        match self.cipher.seal(&initial_value(version), &page.to_be_bytes(), out) {
            Ok(tag) => Some(ExportRecord { version, tag }),
            Err(_) => {
                *out = [0; 4096];
                None
            }
        }
    }

    /// Opens `raw` into `plain`; false, and `plain` zero, if it is not what was exported last.
    pub(crate) fn import(
        &self,
        page: u64,
        record: &ExportRecord,
        raw: &PageBytes,
        plain: &mut PageBytes,
    ) -> bool {
        *plain = *raw;
        let opened =
            self.cipher.open(&initial_value(record.version), &page.to_be_bytes(), plain, &record.tag);
        if opened.is_err() {
            *plain = [0; 4096];
        }
        opened.is_ok()
    }
}

fn initial_value(version: u64) -> [u8; 12] {
    let mut iv = [0; 12];
    iv[4..].copy_from_slice(&version.to_be_bytes());
    iv
}
