//! The attestation request control block, version 1.
//!
//! The request is kept sealed here; opening it needs the host key and is not done by this crate.

use super::host_key::{KeySlot, KeyXy, parse_slots};
use crate::codec::{Error, get, need, push, put};

/// Version of the layout.
pub const VERSION: u32 = 0x100;
/// Measurement algorithm HMAC-SHA512.
pub const HMAC_SHA512: u32 = 1;
/// Bytes before the key slots.
pub const FIXED_SIZE: usize = 0xe0;

const WHAT: &str = "attestation request";
const TAG_SIZE: usize = 16;
const KEY_SIZE: usize = 64;
const NONCE_SIZE: usize = 16;

/// Flags of a request; bit 0 is the most significant.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ArcbFlags(pub u64);

impl ArcbFlags {
    /// Bit 1: the encrypted area has a nonce.
    pub const NONCE: Self = Self(1 << (63 - 1));
    /// Bit 2: the hash of the host key that opened the image is wanted.
    pub const IMAGE_PHKH: Self = Self(1 << (63 - 2));
    /// Bit 3: the hash of the host key that opened the request is wanted.
    pub const ATTESTATION_PHKH: Self = Self(1 << (63 - 3));
    /// Bit 4: the hash of the secret store is wanted.
    pub const SECRET_STORE_HASH: Self = Self(1 << (63 - 4));
    /// Bit 5: the firmware state is wanted.
    pub const FIRMWARE_STATE: Self = Self(1 << (63 - 5));

    /// Whether all bits of `flags` are set.
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
}

/// A request whose sizes agree with each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arcb {
    /// Initial value of the sealing.
    pub iv: [u8; 12],
    /// Flags.
    pub flags: ArcbFlags,
    /// Measurement algorithm.
    pub algorithm: u32,
    /// The requester's public key.
    pub customer_key: KeyXy,
    /// Key slots, at most 255.
    pub slots: Vec<KeySlot>,
    /// Sealed: measurement key (64 bytes) and, if flagged, a nonce (16 bytes).
    pub encrypted_area: Vec<u8>,
    /// Tag over [`Self::aad`] and the sealed area.
    pub tag: [u8; 16],
}

impl Arcb {
    /// Reads a request that fills `bytes` exactly.
    ///
    /// # Errors
    /// If the version is not known or the sizes do not fit.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        need(WHAT, bytes, FIXED_SIZE)?;
        if bytes[..8] != [0; 8] {
            return Err(Error::Magic { what: WHAT, expected: "eight zero bytes" });
        }
        let version: u32 = get(bytes, 0x08);
        if version != VERSION {
            return Err(Error::Version { what: WHAT, found: version, supported: VERSION });
        }
        let field = |field, found: u64, rule| Error::Field { what: WHAT, field, found, rule };
        let count = usize::from(get::<u8>(bytes, 0x27));
        let area_size = get::<u32>(bytes, 0x2c) as usize;
        let flags = ArcbFlags(get(bytes, 0x30));
        if area_size != KEY_SIZE + if flags.has(ArcbFlags::NONCE) { NONCE_SIZE } else { 0 } {
            let rule = "it must be 0x40, or 0x50 with a nonce";
            return Err(field("size of the encrypted area", area_size as u64, rule));
        }
        let area = FIXED_SIZE + count * KeySlot::SIZE;
        let total = get::<u32>(bytes, 0x0c) as usize;
        if total != area + area_size + TAG_SIZE || total != bytes.len() {
            return Err(field("total length", total as u64, "the parts and the data have another length"));
        }
        Ok(Self {
            iv: get(bytes, 0x10),
            flags,
            algorithm: get(bytes, 0x38),
            customer_key: KeyXy(get(bytes, 0x40)),
            slots: parse_slots(WHAT, &bytes[FIXED_SIZE..], count)?,
            encrypted_area: bytes[area..area + area_size].to_vec(),
            tag: get(bytes, area + area_size),
        })
    }

    /// The bytes that are authenticated and not encrypted.
    pub fn aad(&self) -> Vec<u8> {
        let mut out = vec![0; FIXED_SIZE];
        let total = FIXED_SIZE + self.slots.len() * KeySlot::SIZE + self.encrypted_area.len() + TAG_SIZE;
        put(&mut out, 0x08, &VERSION);
        put(&mut out, 0x0c, &(total as u32));
        put(&mut out, 0x10, &self.iv);
        put(&mut out, 0x27, &(self.slots.len() as u8));
        put(&mut out, 0x2c, &(self.encrypted_area.len() as u32));
        put(&mut out, 0x30, &self.flags.0);
        put(&mut out, 0x38, &self.algorithm);
        put(&mut out, 0x40, &self.customer_key.0);
        for slot in &self.slots {
            push(&mut out, &slot.encode());
        }
        out
    }

    /// The bytes of the request.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.aad();
        out.extend_from_slice(&self.encrypted_area);
        out.extend_from_slice(&self.tag);
        out
    }
}
