//! The table of secrets that a guest owner injects: a convention of guest software, which the firmware does not read.

use std::fmt;

use zeroize::Zeroizing;

use super::guid::Guid;
use super::layout::get;
use crate::Error;
use crate::codec::need;

/// GUID of the table.
pub const TABLE: Guid = Guid::new(0x1e74f542_71dd_4d66_963e_ef4287ff173b);
/// GUID of a disk password.
pub const DISK_PASSWORD: Guid = Guid::new(0x736869e5_84f0_4973_92ec_06879ce3da0b);

const WHAT: &str = "SEV secret table";
/// Bytes of GUID and length, of the table and of an entry.
const HEADER: usize = 20;

/// A table: entries of a GUID and a secret, in order.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SecretTable(Vec<(Guid, Zeroizing<Vec<u8>>)>);

impl SecretTable {
    /// A table without entries.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Appends an entry.
    pub fn push(&mut self, guid: Guid, secret: Zeroizing<Vec<u8>>) {
        self.0.push((guid, secret));
    }

    /// The entries.
    pub fn entries(&self) -> impl Iterator<Item = (Guid, &[u8])> {
        self.0.iter().map(|(guid, secret)| (*guid, secret.as_slice()))
    }

    /// The table, padded with zeros to a multiple of 16 bytes.
    ///
    /// # Errors
    /// If it is too long for its length fields.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let entries = self.0.iter().map(|(_, secret)| HEADER + secret.len());
        let total = HEADER + entries.sum::<usize>();
        let length = |size: usize| {
            u32::try_from(size).map_err(|_| Error::Field {
                what: WHAT,
                field: "length",
                found: size as u64,
                rule: "it must fit 32 bits",
            })
        };
        let total_field = length(total)?.to_le_bytes();
        // Reserved at once, so that no copy of a secret is left behind by growing.
        let mut out = Zeroizing::new(Vec::with_capacity(total.next_multiple_of(16)));
        out.extend_from_slice(&TABLE.0);
        out.extend_from_slice(&total_field);
        for (guid, secret) in &self.0 {
            out.extend_from_slice(&guid.0);
            out.extend_from_slice(&length(HEADER + secret.len())?.to_le_bytes());
            out.extend_from_slice(secret);
        }
        out.resize(total.next_multiple_of(16), 0);
        Ok(out)
    }

    /// Reads a table at the start of `bytes`; what follows it is not looked at.
    ///
    /// # Errors
    /// If the GUID is another, or the lengths do not fit into each other.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        need(WHAT, bytes, HEADER)?;
        if bytes[..16] != TABLE.0 {
            return Err(Error::Magic { what: WHAT, expected: "GUID 1e74f542-71dd-4d66-963e-ef4287ff173b" });
        }
        let fault = |field, found: u32, rule| Error::Field { what: WHAT, field, found: found.into(), rule };
        let total: u32 = get(bytes, 16);
        let mut rest = usize::try_from(total)
            .ok()
            .and_then(|total| bytes.get(HEADER..total))
            .ok_or_else(|| fault("total length", total, "it must be at least 20 and within the data"))?;
        let mut table = Self::new();
        while !rest.is_empty() {
            need("entry of a SEV secret table", rest, HEADER)?;
            let length: u32 = get(rest, 16);
            let size = usize::try_from(length).ok().filter(|size| (HEADER..=rest.len()).contains(size));
            let size = size.ok_or_else(|| {
                fault("entry length", length, "it must be at least 20 and within the table")
            })?;
            let (entry, next) = rest.split_at(size);
            table.push(Guid(get(entry, 0)), Zeroizing::new(entry[HEADER..].to_vec()));
            rest = next;
        }
        Ok(table)
    }
}

impl fmt::Debug for SecretTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(guid, secret)| (guid, secret.len()))).finish()
    }
}
