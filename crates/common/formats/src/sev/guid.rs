//! GUIDs in the mixed-endian form of EFI.

use std::fmt;
use std::str::FromStr;

/// A GUID as its 16 bytes in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Guid(pub [u8; 16]);

/// A text is no GUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a GUID: it must read like 736869e5-84f0-4973-92ec-06879ce3da0b")]
pub struct NotAGuid;

/// Positions in memory of the bytes in the order of the text.
const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

impl Guid {
    /// The GUID that is written as this 128-bit number: the digits of the text without hyphens.
    pub const fn new(digits: u128) -> Self {
        let text = digits.to_be_bytes();
        let mut bytes = [0; 16];
        let mut at = 0;
        while at < 16 {
            bytes[ORDER[at]] = text[at];
            at += 1;
        }
        Self(bytes)
    }

    /// Reads it from the start of `bytes`.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().copied().map(Self)
    }
}

impl FromStr for Guid {
    type Err = NotAGuid;

    fn from_str(text: &str) -> Result<Self, NotAGuid> {
        let hyphens = text.match_indices('-').map(|(at, _)| at);
        if text.len() != 36 || !hyphens.eq([8, 13, 18, 23]) || text.contains('+') {
            return Err(NotAGuid);
        }
        u128::from_str_radix(&text.replace('-', ""), 16).map(Self::new).map_err(|_| NotAGuid)
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, &position) in ORDER.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{:02x}", self.0[position])?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
