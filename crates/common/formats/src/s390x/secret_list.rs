//! The page in which the Ultravisor lists a guest's secrets: what they are, never what is in them.
//!
//! The layout is the one that Linux (arch/s390, `list secrets`) and `pvsecret list` (s390-tools) read. Which
//! secrets are listed, and from which index on, is the Ultravisor's concern.

use super::PAGE_SIZE;
use super::asrcb::SecretType;
use crate::codec::{Error, get, need, put};

/// Bytes before the first entry.
pub const HEAD_SIZE: usize = 0x10;
/// Bytes of an entry.
pub const ENTRY_SIZE: usize = 0x30;
/// Entries that a page has room for.
pub const MAX_ENTRIES: usize = (PAGE_SIZE - HEAD_SIZE) / ENTRY_SIZE;

const WHAT: &str = "list of secrets";

/// A stored secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretEntry {
    /// Its index, by which it is retrieved.
    pub index: u16,
    /// Its type.
    pub kind: SecretType,
    /// Bytes of the secret.
    pub len: u32,
    /// SHA-256 of its name, or the name itself.
    pub id: [u8; 32],
}

/// One page of the list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecretList {
    /// Secrets in the store, those included that do not fit into this page.
    pub total: u16,
    /// Index at which the next page would begin; 0 if there is none.
    pub next: u16,
    /// The entries, at most [`MAX_ENTRIES`].
    pub entries: Vec<SecretEntry>,
}

impl SecretList {
    /// Reads a list from the start of `bytes`.
    ///
    /// # Errors
    /// If there are fewer bytes than the entries that it counts, or more entries than fit into a page.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        need(WHAT, bytes, HEAD_SIZE)?;
        let count = usize::from(get::<u16>(bytes, 0));
        if count > MAX_ENTRIES {
            let rule = "a page has room for 85 secrets";
            return Err(Error::Field { what: WHAT, field: "number of secrets", found: count as u64, rule });
        }
        need(WHAT, bytes, HEAD_SIZE + count * ENTRY_SIZE)?;
        let entries = bytes[HEAD_SIZE..].chunks_exact(ENTRY_SIZE).take(count).map(|entry| SecretEntry {
            index: get(entry, 0),
            kind: SecretType(get(entry, 2)),
            len: get(entry, 4),
            id: get(entry, 0x10),
        });
        Ok(Self { total: get(bytes, 2), next: get(bytes, 4), entries: entries.collect() })
    }

    /// The page. Entries beyond [`MAX_ENTRIES`] are left out.
    pub fn encode(&self) -> [u8; PAGE_SIZE] {
        let mut out = [0; PAGE_SIZE];
        let entries = &self.entries[..self.entries.len().min(MAX_ENTRIES)];
        put(&mut out, 0, &(entries.len() as u16));
        put(&mut out, 2, &self.total);
        put(&mut out, 4, &self.next);
        for (entry, place) in entries.iter().zip(out[HEAD_SIZE..].chunks_exact_mut(ENTRY_SIZE)) {
            put(place, 0, &entry.index);
            put(place, 2, &entry.kind.0);
            put(place, 4, &entry.len);
            put(place, 0x10, &entry.id);
        }
        out
    }
}
