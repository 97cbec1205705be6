//! A machine's public host key as requests carry it, and its hash as slots name it.
//!
//! The hash is SHA-256 over the 160 bytes of [`KeyXy`]. Computing it, and checking that the
//! coordinates lie on the curve, is left to those who hold the cryptography.

use std::fmt;

use crate::codec::{Error, Field, get, need, put};

/// A P-521 public key: X then Y, each left-padded with zeros to 80 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyXy(pub [u8; 160]);

/// Public host-key hash: SHA-256 of the host key's [`KeyXy`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Phkh(pub [u8; 32]);

/// A key slot: a request key wrapped for one host key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySlot {
    /// Hash of the host key that can open the slot.
    pub phkh: Phkh,
    /// The request key, sealed by AES-256-GCM under the key-encryption key.
    pub wrapped_key: [u8; 32],
    /// Tag of the sealing.
    pub tag: [u8; 16],
}

impl KeySlot {
    /// Bytes of a slot.
    pub const SIZE: usize = 80;

    /// Reads a slot from the start of `bytes`.
    ///
    /// # Errors
    /// If there are fewer than 80 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        need("key slot", bytes, Self::SIZE)?;
        Ok(Self { phkh: Phkh(get(bytes, 0)), wrapped_key: get(bytes, 32), tag: get(bytes, 64) })
    }

    /// The 80 bytes of the slot.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        put(&mut out, 0, &self.phkh.0);
        put(&mut out, 32, &self.wrapped_key);
        put(&mut out, 64, &self.tag);
        out
    }
}

pub(crate) fn parse_slots(what: &'static str, bytes: &[u8], count: usize) -> Result<Vec<KeySlot>, Error> {
    need(what, bytes, count.saturating_mul(KeySlot::SIZE))?;
    bytes.chunks_exact(KeySlot::SIZE).take(count).map(KeySlot::parse).collect()
}

impl fmt::Display for Phkh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Phkh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Phkh({self})")
    }
}

impl fmt::Debug for KeyXy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyXy(")?;
        self.0[14..22].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("..)")
    }
}

const _: () = assert!(KeySlot::SIZE == <[u8; 80] as Field>::SIZE);
