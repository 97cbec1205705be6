//! The keys that make a machine this machine.

use cloister_crypto::{P521Secret, sha256};
use cloister_formats::s390x::host_key::Phkh;

/// A machine's host key and, on newer machines, its backup host key.
#[derive(Debug, Clone)]
pub struct Identity {
    host: P521Secret,
    host_hash: Phkh,
    backup: Option<(P521Secret, Phkh)>,
}

impl Identity {
    /// An identity of the given keys.
    pub fn new(host_key: P521Secret, backup: Option<P521Secret>) -> Self {
        Self {
            host_hash: hash(&host_key),
            host: host_key,
            backup: backup.map(|key| {
                let hash = hash(&key);
                (key, hash)
            }),
        }
    }

    /// The hash of the host key, by which image headers name the machine.
    pub const fn host_key_hash(&self) -> Phkh {
        self.host_hash
    }

    /// The hash of the backup host key.
    pub fn backup_key_hash(&self) -> Option<Phkh> {
        self.backup.as_ref().map(|(_, hash)| *hash)
    }

    pub(crate) const fn host_key(&self) -> (&P521Secret, Phkh) {
        (&self.host, self.host_hash)
    }

    pub(crate) fn backup_key(&self) -> Option<(&P521Secret, Phkh)> {
        self.backup.as_ref().map(|(key, hash)| (key, *hash))
    }
}

fn hash(key: &P521Secret) -> Phkh {
    Phkh(sha256(&key.public().to_padded_xy()))
}
