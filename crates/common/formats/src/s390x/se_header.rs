//! The Secure Execution header, version 1: what the Ultravisor needs to open an image.
//!
//! The parser checks the shape alone: which flags and how many pages a machine accepts, and whether
//! the tags fit, is the Ultravisor's business. The encrypted area, once opened, is a type of its own
//! ([`SecretArea`]) that is cleared when dropped and never printed.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::host_key::{KeySlot, KeyXy, parse_slots};
use crate::codec::{Error, get, need, put};

/// The first eight bytes of a header.
pub const MAGIC: &[u8; 8] = b"IBMSecEx";
/// The version of this layout.
pub const VERSION: u32 = 0x100;
/// Bytes before the key slots.
pub const FIXED_SIZE: usize = 0x1a0;
/// Smallest (and, without optional items, only) size of the encrypted area.
pub const SECRET_AREA_SIZE: usize = 0x80;
/// A header may fill two pages.
pub const MAX_SIZE: usize = 2 * super::PAGE_SIZE;

const TAG_SIZE: usize = 16;
const WHAT: &str = "SE header";

/// Plaintext control flags; bit 0 is the most significant.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Pcf(pub u64);

impl Pcf {
    /// Bit 34: dumps are allowed.
    pub const ALLOW_DUMP: Self = Self(1 << (63 - 34));
    /// Bit 35: the components are not encrypted.
    pub const NO_COMPONENT_ENCRYPTION: Self = Self(1 << (63 - 35));
    /// Bit 56: DEA and TDEA keys of the PCKMO instruction are allowed.
    pub const PCKMO_DEA: Self = Self(1 << (63 - 56));
    /// Bit 57: AES keys of PCKMO are allowed.
    pub const PCKMO_AES: Self = Self(1 << (63 - 57));
    /// Bit 58: elliptic-curve keys of PCKMO are allowed.
    pub const PCKMO_ECC: Self = Self(1 << (63 - 58));
    /// Bit 59: HMAC keys of PCKMO are allowed.
    pub const PCKMO_HMAC: Self = Self(1 << (63 - 59));
    /// Bit 62: the slots may be for the machine's backup key.
    pub const BACKUP_KEYS: Self = Self(1 << (63 - 62));
    /// What image tools set when nothing is said: the three older PCKMO bits.
    pub const DEFAULT: Self = Self(0xe0);

    /// Whether all bits of `flags` are set.
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
}

/// Secret control flags; bit 0 is the most significant.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Scf(pub u64);

impl Scf {
    /// Bit 1: add-secret requests must carry an extension secret derived from the CCK.
    pub const CCK_EXTENSION_SECRET: Self = Self(1 << (63 - 1));
    /// Bit 2: the CCK may be changed by an add-secret request.
    pub const CCK_UPDATE: Self = Self(1 << (63 - 2));

    /// Whether all bits of `flags` are set.
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
}

/// An SE header whose sizes agree with each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeHeader {
    /// Initial value of the sealing of the encrypted area.
    pub iv: [u8; 12],
    /// The reserved word at 0x1c. It is authenticated, so it is kept.
    pub reserved: u32,
    /// Number of encrypted pages over all components.
    pub encrypted_pages: u64,
    /// Plaintext control flags.
    pub pcf: Pcf,
    /// The image creator's public key.
    pub customer_key: KeyXy,
    /// Page list digest: SHA-512 over the pages as they are unpacked.
    pub pld: [u8; 64],
    /// Address list digest: SHA-512 over the page addresses.
    pub ald: [u8; 64],
    /// Tweak list digest: SHA-512 over the page tweaks.
    pub tld: [u8; 64],
    /// One slot per host key, at least one.
    pub slots: Vec<KeySlot>,
    /// The sealed area, at least 0x80 bytes.
    pub encrypted_area: Vec<u8>,
    /// Tag over [`Self::aad`] and the sealed area. It identifies the image.
    pub tag: [u8; 16],
}

impl SeHeader {
    /// Reads a header that fills `bytes` exactly.
    ///
    /// # Errors
    /// A [`HeaderFault`]: the checks stand in the order of the faults.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let size = Self::peek_size(bytes)?;
        if size != bytes.len() {
            return Err(HeaderFault::Size { said: size as u64, is: bytes.len() as u64 });
        }
        let version: u32 = get(bytes, 0x08);
        if version != VERSION {
            return Err(HeaderFault::Version(version));
        }
        let slot_count: u64 = get(bytes, 0x20);
        if slot_count == 0 {
            return Err(HeaderFault::NoSlot);
        }
        let area_size: u64 = get(bytes, 0x28);
        if area_size < SECRET_AREA_SIZE as u64 || area_size > MAX_SIZE as u64 {
            return Err(HeaderFault::AreaSize(area_size));
        }
        let computed = slot_count
            .checked_mul(KeySlot::SIZE as u64)
            .and_then(|slots| slots.checked_add(area_size + (FIXED_SIZE + TAG_SIZE) as u64));
        if computed != Some(size as u64) {
            return Err(HeaderFault::Size { said: size as u64, is: computed.unwrap_or(u64::MAX) });
        }
        // Both are below the size of the header from here on.
        let slots = parse_slots(WHAT, &bytes[FIXED_SIZE..], slot_count as usize)?;
        let area = FIXED_SIZE + slots.len() * KeySlot::SIZE;
        Ok(Self {
            iv: get(bytes, 0x10),
            reserved: get(bytes, 0x1c),
            encrypted_pages: get(bytes, 0x30),
            pcf: Pcf(get(bytes, 0x38)),
            customer_key: KeyXy(get(bytes, 0x40)),
            pld: get(bytes, 0xe0),
            ald: get(bytes, 0x120),
            tld: get(bytes, 0x160),
            slots,
            encrypted_area: bytes[area..size - TAG_SIZE].to_vec(),
            tag: get(bytes, size - TAG_SIZE),
        })
    }

    /// The size that a header at the start of `bytes` claims, if it begins as one.
    ///
    /// # Errors
    /// [`HeaderFault::Format`] without the magic, [`HeaderFault::Size`] for a size that cannot be.
    pub fn peek_size(bytes: &[u8]) -> Result<usize, HeaderFault> {
        need(WHAT, bytes, 0x10)?;
        if bytes[..8] != MAGIC[..] {
            return Err(Error::Magic { what: WHAT, expected: "IBMSecEx" }.into());
        }
        let size = get::<u32>(bytes, 0x0c) as usize;
        if !(FIXED_SIZE + SECRET_AREA_SIZE + TAG_SIZE..=MAX_SIZE).contains(&size) {
            return Err(HeaderFault::Size { said: size as u64, is: bytes.len() as u64 });
        }
        Ok(size)
    }

    /// Bytes of the encoded header.
    pub fn size(&self) -> usize {
        self.area_offset() + self.encrypted_area.len() + TAG_SIZE
    }

    /// The bytes that are authenticated and not encrypted: all before the encrypted area.
    pub fn aad(&self) -> Vec<u8> {
        let mut out = vec![0; self.area_offset()];
        out[..8].copy_from_slice(MAGIC);
        put(&mut out, 0x08, &VERSION);
        put(&mut out, 0x0c, &(self.size() as u32));
        put(&mut out, 0x10, &self.iv);
        put(&mut out, 0x1c, &self.reserved);
        put(&mut out, 0x20, &(self.slots.len() as u64));
        put(&mut out, 0x28, &(self.encrypted_area.len() as u64));
        put(&mut out, 0x30, &self.encrypted_pages);
        put(&mut out, 0x38, &self.pcf.0);
        put(&mut out, 0x40, &self.customer_key.0);
        put(&mut out, 0xe0, &self.pld);
        put(&mut out, 0x120, &self.ald);
        put(&mut out, 0x160, &self.tld);
        for (slot, part) in self.slots.iter().zip(out[FIXED_SIZE..].chunks_exact_mut(KeySlot::SIZE)) {
            part.copy_from_slice(&slot.encode());
        }
        out
    }

    /// The bytes of the header.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.aad();
        out.extend_from_slice(&self.encrypted_area);
        out.extend_from_slice(&self.tag);
        out
    }

    fn area_offset(&self) -> usize {
        FIXED_SIZE + self.slots.len() * KeySlot::SIZE
    }
}

/// Why bytes are no SE header, in the order in which it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// Too short to have a size, or without the magic.
    #[error(transparent)]
    Format(#[from] Error),
    /// The size field is not the size that there is, or not the size that the other fields add up to.
    #[error("SE header says it has {said:#x} bytes, but {is:#x} are given or follow from its other fields")]
    Size {
        /// Size field.
        said: u64,
        /// Size given or computed.
        is: u64,
    },
    /// A version other than 1.
    #[error("SE header has version {0:#x}; only 0x100 is known")]
    Version(u32),
    /// There is no key slot.
    #[error("SE header has no key slot, so no machine can open it")]
    NoSlot,
    /// The encrypted area cannot have this size.
    #[error("SE header has an encrypted area of {0:#x} bytes; it must be 0x80")]
    AreaSize(u64),
}

/// The encrypted area of a header in the clear.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SecretArea {
    /// Customer communication key.
    pub cck: [u8; 32],
    /// Key of the components' AES-256-XTS.
    pub xts_key: [u8; 64],
    /// Mask of the PSW that starts the guest.
    pub psw_mask: u64,
    /// Address of the PSW that starts the guest.
    pub psw_addr: u64,
    /// Secret control flags.
    pub scf: u64,
    /// Number of optional items.
    pub optional_items: u32,
    /// The reserved word at the end of the fixed part.
    pub reserved: u32,
    /// The optional items as they are.
    pub items: Vec<u8>,
}

impl SecretArea {
    /// Reads the decrypted area.
    ///
    /// # Errors
    /// If it has fewer than 0x80 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        need("encrypted area of an SE header", bytes, SECRET_AREA_SIZE)?;
        Ok(Self {
            cck: get(bytes, 0x00),
            xts_key: get(bytes, 0x20),
            psw_mask: get(bytes, 0x60),
            psw_addr: get(bytes, 0x68),
            scf: get(bytes, 0x70),
            optional_items: get(bytes, 0x78),
            reserved: get(bytes, 0x7c),
            items: bytes[SECRET_AREA_SIZE..].to_vec(),
        })
    }

    /// The bytes to encrypt. The caller encrypts them in place, or clears them.
    pub fn encode(&self) -> Vec<u8> {
        // The whole capacity at once: growing would leave copies of the keys behind.
        let mut out = vec![0; SECRET_AREA_SIZE + self.items.len()];
        put(&mut out, 0x00, &self.cck);
        put(&mut out, 0x20, &self.xts_key);
        put(&mut out, 0x60, &self.psw_mask);
        put(&mut out, 0x68, &self.psw_addr);
        put(&mut out, 0x70, &self.scf);
        put(&mut out, 0x78, &self.optional_items);
        put(&mut out, 0x7c, &self.reserved);
        out[SECRET_AREA_SIZE..].copy_from_slice(&self.items);
        out
    }
}

impl fmt::Debug for SecretArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretArea(..)")
    }
}
