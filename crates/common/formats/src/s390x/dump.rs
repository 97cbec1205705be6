//! What the Ultravisor gives for a dump of a protected guest: the state of a CPU, the state of storage, and the
//! end of the dump, with which its owner opens all of it.
//!
//! The key of the two encrypted structures is HKDF-SHA512 of the customer communication key, with the seed of the
//! [`Completion`] as salt and [`KEY_INFO`] as info. Pages are AES-256-XTS under the two keys in the completion; the
//! tweak of a page is its [`Component`] OR the nonce. The layouts are those that `zgetdump` of s390-tools reads. This
//! module encrypts nothing.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::codec::{Error, get, need, put};

/// HKDF info of the dump key.
pub const KEY_INFO: &[u8] = b"IBM Z Ultravisor Dump";
/// Type of the ELF note with a CPU's data (`NT_S390_PV_CPU_DATA`, Linux `include/uapi/linux/elf.h`).
pub const NT_S390_PV_CPU_DATA: u32 = 0x30e;
/// ELF section with the components of all pages.
pub const SECTION_COMPONENTS: &str = "pv_mem_meta";
/// ELF section with the completion.
pub const SECTION_COMPLETION: &str = "pv_compl";
/// Version of both encrypted structures.
pub const VERSION: u32 = 1;
/// Bytes of components of 1 MiB of guest storage.
pub const COMPONENTS_PER_MIB: usize = 256 * COMPONENT_SIZE;
/// Bytes of a component.
pub const COMPONENT_SIZE: usize = 16;

/// Of a page: its part of the tweak, or what it is instead of encrypted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Component {
    /// The page is encrypted; the tweak is these bytes OR the nonce.
    Tweak([u8; COMPONENT_SIZE]),
    /// The page is not encrypted.
    Special {
        /// Bytes 4 to 14, as they are.
        reserved: [u8; 11],
        /// Flags: [`Component::ZERO`], [`Component::SHARED`], [`Component::MAPPED`].
        flags: u8,
    },
}

impl Component {
    /// The guest reads zeros, whatever is in the dump.
    pub const ZERO: u8 = 1;
    /// The page is in the dump as it is.
    pub const SHARED: u8 = 2;
    /// The page is mapped.
    pub const MAPPED: u8 = 4;

    /// A page that is not encrypted, with these flags.
    pub const fn special(flags: u8) -> Self {
        Self::Special { reserved: [0; 11], flags }
    }

    /// Reads a component.
    pub fn parse(bytes: &[u8; COMPONENT_SIZE]) -> Self {
        if bytes.starts_with(&SPECIAL) {
            Self::Special { reserved: get(bytes, 4), flags: bytes[COMPONENT_SIZE - 1] }
        } else {
            Self::Tweak(*bytes)
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; COMPONENT_SIZE] {
        match self {
            Self::Tweak(bytes) => *bytes,
            Self::Special { reserved, flags } => {
                let mut out = [0; COMPONENT_SIZE];
                put(&mut out, 0, &SPECIAL);
                put(&mut out, 4, reserved);
                out[COMPONENT_SIZE - 1] = *flags;
                out
            }
        }
    }

    /// The tweak of an encrypted page.
    pub fn tweak(bytes: &[u8; COMPONENT_SIZE], nonce: &[u8; COMPONENT_SIZE]) -> [u8; COMPONENT_SIZE] {
        std::array::from_fn(|at| bytes[at] | nonce[at])
    }
}

/// The end of a dump. Everything before the encrypted area is authenticated with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Completion {
    /// Version of the layout.
    pub version: u32,
    /// Bytes of the structure.
    pub length: u32,
    /// Reserved.
    pub reserved: u64,
    /// Salt of the dump key.
    pub seed: [u8; 64],
    /// Initial value of AES-256-GCM.
    pub iv: [u8; 12],
    /// Reserved.
    pub reserved_end: u32,
    /// The encrypted [`CompletionArea`].
    pub area: [u8; CompletionArea::SIZE],
    /// Authentication tag.
    pub tag: [u8; 16],
}

impl Completion {
    /// Bytes of the structure.
    pub const SIZE: usize = 288;
    /// Bytes before the encrypted area.
    pub const AAD_SIZE: usize = 96;

    /// Reads the structure; what follows it is left alone.
    ///
    /// # Errors
    /// If there are fewer bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        need("end of a dump", bytes, Self::SIZE)?;
        Ok(Self {
            version: get(bytes, 0),
            length: get(bytes, 4),
            reserved: get(bytes, 8),
            seed: get(bytes, 16),
            iv: get(bytes, 80),
            reserved_end: get(bytes, 92),
            area: get(bytes, Self::AAD_SIZE),
            tag: get(bytes, 272),
        })
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; Self::SIZE];
        put(&mut out, 0, &self.version);
        put(&mut out, 4, &self.length);
        put(&mut out, 8, &self.reserved);
        put(&mut out, 16, &self.seed);
        put(&mut out, 80, &self.iv);
        put(&mut out, 92, &self.reserved_end);
        put(&mut out, Self::AAD_SIZE, &self.area);
        put(&mut out, 272, &self.tag);
        out
    }
}

/// What the owner finds in the end of a dump.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct CompletionArea {
    /// Common part of all tweaks.
    pub nonce: [u8; COMPONENT_SIZE],
    /// First key of AES-256-XTS.
    pub key1: [u8; 32],
    /// Second key.
    pub key2: [u8; 32],
    /// Reserved. A modelled Ultravisor puts [`MODEL_DIGEST_MAGIC`] and a SHA-512 here.
    pub reserved: [u8; 96],
}

/// Begins the reserved bytes of a [`CompletionArea`] that carry a digest of the encrypted pages. Our own: a dump of
/// a real machine has none, and readers that do not know it skip it.
pub const MODEL_DIGEST_MAGIC: &[u8; 8] = b"CLSTRdg1";

impl CompletionArea {
    /// Bytes of the area.
    pub const SIZE: usize = 176;

    /// Reads the decrypted area.
    pub fn parse(bytes: &[u8; Self::SIZE]) -> Self {
        Self { nonce: get(bytes, 0), key1: get(bytes, 16), key2: get(bytes, 48), reserved: get(bytes, 80) }
    }

    /// The bytes to encrypt. The caller encrypts them in place, or clears them.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        put(&mut out, 0, &self.nonce);
        put(&mut out, 16, &self.key1);
        put(&mut out, 48, &self.key2);
        put(&mut out, 80, &self.reserved);
        out
    }

    /// The model's digest of the encrypted pages, if it is there.
    pub fn digest(&self) -> Option<[u8; 64]> {
        self.reserved.starts_with(MODEL_DIGEST_MAGIC).then(|| get(&self.reserved, MODEL_DIGEST_MAGIC.len()))
    }

    /// Puts the model's digest in the reserved bytes.
    pub fn set_digest(&mut self, digest: &[u8; 64]) {
        put(&mut self.reserved, 0, MODEL_DIGEST_MAGIC);
        put(&mut self.reserved, MODEL_DIGEST_MAGIC.len(), digest);
    }
}

impl fmt::Debug for CompletionArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CompletionArea(..)")
    }
}

/// A CPU in a dump. Everything before the encrypted area is authenticated with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CpuDump {
    /// Version of the layout.
    pub version: u32,
    /// Bytes of the structure.
    pub length: u32,
    /// Initial value of AES-256-GCM.
    pub iv: [u8; 12],
    /// Reserved.
    pub reserved: [u8; 12],
    /// The encrypted [`CpuArea`].
    pub area: [u8; CpuArea::SIZE],
    /// Authentication tag.
    pub tag: [u8; 16],
}

impl CpuDump {
    /// Bytes of the structure.
    pub const SIZE: usize = 1568;
    /// Bytes before the encrypted area.
    pub const AAD_SIZE: usize = 32;

    /// Reads the structure; what follows it is left alone.
    ///
    /// # Errors
    /// If there are fewer bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        need("CPU in a dump", bytes, Self::SIZE)?;
        Ok(Self {
            version: get(bytes, 0),
            length: get(bytes, 4),
            iv: get(bytes, 8),
            reserved: get(bytes, 20),
            area: get(bytes, Self::AAD_SIZE),
            tag: get(bytes, 1552),
        })
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; Self::SIZE];
        put(&mut out, 0, &self.version);
        put(&mut out, 4, &self.length);
        put(&mut out, 8, &self.iv);
        put(&mut out, 20, &self.reserved);
        put(&mut out, Self::AAD_SIZE, &self.area);
        put(&mut out, 1552, &self.tag);
        out
    }
}

/// The registers of a CPU. Offsets in the type's text are those in the whole structure, less
/// [`CpuDump::AAD_SIZE`].
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct CpuArea {
    /// General registers.
    pub gprs: [u64; 16],
    /// PSW mask and address.
    pub psw: [u64; 2],
    /// Prefix register.
    pub prefix: u32,
    /// Floating-point-control register.
    pub fpc: u32,
    /// TOD programmable register.
    pub todpr: u32,
    /// CPU timer.
    pub cpu_timer: u64,
    /// Clock comparator.
    pub clock_comparator: u64,
    /// Access registers.
    pub ars: [u32; 16],
    /// Control registers.
    pub crs: [u64; 16],
    /// Vector registers 0 to 15; the first eight bytes are the floating-point register.
    pub vectors_low: [[u8; 16]; 16],
    /// Vector registers 16 to 31.
    pub vectors_high: [[u8; 16]; 16],
    /// Guarded-storage designation register, section mask and event parameter list address.
    pub guarded_storage: [u64; 3],
    /// Flags at the end.
    pub flags: u16,
}

impl CpuArea {
    /// Bytes of the area.
    pub const SIZE: usize = 1520;

    /// Reads the decrypted area.
    pub fn parse(bytes: &[u8; Self::SIZE]) -> Self {
        Self {
            gprs: std::array::from_fn(|n| get(bytes, 8 * n)),
            psw: [get(bytes, 128), get(bytes, 136)],
            prefix: get(bytes, 152),
            fpc: get(bytes, 156),
            todpr: get(bytes, 164),
            cpu_timer: get(bytes, 168),
            clock_comparator: get(bytes, 176),
            ars: std::array::from_fn(|n| get(bytes, 192 + 4 * n)),
            crs: std::array::from_fn(|n| get(bytes, 256 + 8 * n)),
            vectors_low: std::array::from_fn(|n| get(bytes, 384 + 16 * n)),
            vectors_high: std::array::from_fn(|n| get(bytes, 640 + 16 * n)),
            guarded_storage: [get(bytes, 1416), get(bytes, 1424), get(bytes, 1432)],
            flags: get(bytes, 1504),
        }
    }

    /// The bytes to encrypt; what is reserved is zero. The caller encrypts them in place, or clears them.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        for n in 0..16 {
            put(&mut out, 8 * n, &self.gprs[n]);
            put(&mut out, 192 + 4 * n, &self.ars[n]);
            put(&mut out, 256 + 8 * n, &self.crs[n]);
            put(&mut out, 384 + 16 * n, &self.vectors_low[n]);
            put(&mut out, 640 + 16 * n, &self.vectors_high[n]);
        }
        put(&mut out, 128, &self.psw[0]);
        put(&mut out, 136, &self.psw[1]);
        put(&mut out, 152, &self.prefix);
        put(&mut out, 156, &self.fpc);
        put(&mut out, 164, &self.todpr);
        put(&mut out, 168, &self.cpu_timer);
        put(&mut out, 176, &self.clock_comparator);
        for (n, value) in self.guarded_storage.iter().enumerate() {
            put(&mut out, 1416 + 8 * n, value);
        }
        put(&mut out, 1504, &self.flags);
        out
    }
}

impl fmt::Debug for CpuArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CpuArea(..)")
    }
}

/// First bytes of a component that is no tweak.
const SPECIAL: [u8; 4] = [0xff; 4];
