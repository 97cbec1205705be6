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

    /// All flags that have a name.
    pub const KNOWN: Self = Self(
        Self::NONCE.0
            | Self::IMAGE_PHKH.0
            | Self::ATTESTATION_PHKH.0
            | Self::SECRET_STORE_HASH.0
            | Self::FIRMWARE_STATE.0,
    );

    /// Whether all bits of `flags` are set.
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Bytes of the sealed area of a request with these flags: measurement key and, if flagged, nonce.
    pub const fn area_size(self) -> usize {
        KEY_SIZE + if self.has(Self::NONCE) { NONCE_SIZE } else { 0 }
    }
}

/// The claims in a request's fixed part, for a reader who answers each wrong one with its own code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArcbHead {
    /// Whether the request begins with eight zero bytes.
    pub magic: bool,
    /// Version.
    pub version: u32,
    /// Bytes of the whole request.
    pub total: u32,
    /// Number of key slots.
    pub slots: u8,
    /// Bytes of the sealed area.
    pub area_size: u32,
    /// Flags.
    pub flags: ArcbFlags,
    /// Measurement algorithm.
    pub algorithm: u32,
}

impl ArcbHead {
    /// Reads the fixed part.
    ///
    /// # Errors
    /// If there are fewer than [`FIXED_SIZE`] bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        need(WHAT, bytes, FIXED_SIZE)?;
        Ok(Self {
            magic: bytes[..8] == [0; 8],
            version: get(bytes, 0x08),
            total: get(bytes, 0x0c),
            slots: get(bytes, 0x27),
            area_size: get(bytes, 0x2c),
            flags: ArcbFlags(get(bytes, 0x30)),
            algorithm: get(bytes, 0x38),
        })
    }

    /// Bytes that a request with so many slots and such a sealed area has.
    pub const fn expected_size(&self) -> u64 {
        (FIXED_SIZE + self.slots as usize * KeySlot::SIZE + TAG_SIZE) as u64 + self.area_size as u64
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
        let head = ArcbHead::parse(bytes)?;
        if !head.magic {
            return Err(Error::Magic { what: WHAT, expected: "eight zero bytes" });
        }
        if head.version != VERSION {
            return Err(Error::Version { what: WHAT, found: head.version, supported: VERSION });
        }
        let field = |field, found: u64, rule| Error::Field { what: WHAT, field, found, rule };
        let (count, area_size) = (usize::from(head.slots), head.area_size as usize);
        if area_size != head.flags.area_size() {
            let rule = "it must be 0x40, or 0x50 with a nonce";
            return Err(field("size of the encrypted area", area_size as u64, rule));
        }
        let area = FIXED_SIZE + count * KeySlot::SIZE;
        let total = u64::from(head.total);
        if total != head.expected_size() || total != bytes.len() as u64 {
            return Err(field("total length", total, "the parts and the data have another length"));
        }
        Ok(Self {
            iv: get(bytes, 0x10),
            flags: head.flags,
            algorithm: head.algorithm,
            customer_key: KeyXy(get(bytes, 0x40)),
            slots: parse_slots(WHAT, &bytes[FIXED_SIZE..], count)?,
            encrypted_area: bytes[area..area + area_size].to_vec(),
            tag: get(bytes, area + area_size),
        })
    }

    /// How many bytes stand before the sealed area. Whoever opens a request authenticates the bytes that came,
    /// reserved ones included, and not [`Self::aad`].
    pub const fn aad_size(&self) -> usize {
        FIXED_SIZE + self.slots.len() * KeySlot::SIZE
    }

    /// The bytes that are authenticated and not encrypted, as a requester makes them.
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
