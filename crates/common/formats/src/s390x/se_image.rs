//! A Secure Execution image file: where its parts lie and how they find each other.
//!
//! File offset and load address are the same. The parts that are encrypted are made elsewhere; this
//! module has the constants, the small records and the tweaks.

use super::PAGE_SIZE;
use crate::codec::{Error, get, need, put};

/// Address of the metadata.
pub const METADATA_ADDR: u64 = 0xc000;
/// Address of the plain loader (stage A).
pub const STAGE_A_ADDR: u64 = 0x10000;
/// Entry point of the plain loader.
pub const STAGE_A_ENTRY: u64 = 0x11000;
/// The plain loader ends below this address.
pub const STAGE_A_LIMIT: u64 = 0x13000;
/// The SE header lies here or, after a longer loader, at the next page; readers search from here.
pub const HEADER_ADDR: u64 = 0x14000;
/// Where a kernel expects its command line.
pub const KERNEL_CMDLINE_ADDR: u64 = 0x10480;
/// Address in a kernel of the u64 that limits the command line; 0 stands for
/// [`DEFAULT_CMDLINE_SIZE`].
pub const KERNEL_CMDLINE_LIMIT_ADDR: u64 = 0x10430;
/// Limit of the command line where the kernel names none.
pub const DEFAULT_CMDLINE_SIZE: u64 = 896;
/// Where a raw kernel carries [`KERNEL_MAGIC`], and where a plain loader must not.
pub const KERNEL_MAGIC_ADDR: u64 = 0x10008;
/// Mark of a raw kernel.
pub const KERNEL_MAGIC: &[u8; 6] = b"S390EP";
/// PSW mask of the 64-bit addressing mode, everything else off.
pub const PSW_MASK_64BIT: u64 = 0x0000_0001_8000_0000;

/// The 8-byte PSW at address 0 that starts the image in the clear.
pub fn short_psw(entry: u32) -> [u8; 8] {
    // Bit 12 marks the 8-byte format, bits 31 and 32 the 64-bit mode (Principles of Operation, SA22-7832,
    // chapter 4 "Program-Status Word").
    (0x0008_0001_8000_0000 | u64::from(entry & 0x7fff_ffff)).to_be_bytes()
}

/// The entry address of a short PSW in 64-bit mode.
///
/// # Errors
/// If `bytes` is shorter than a PSW or not in this format.
pub fn parse_short_psw(bytes: &[u8]) -> Result<u32, Error> {
    need("short PSW", bytes, 8)?;
    let psw: u64 = get(bytes, 0);
    if psw >> 31 != 0x0008_0001_8000_0000 >> 31 {
        return Err(Error::Field {
            what: "short PSW",
            field: "mask",
            found: psw,
            rule: "a 64-bit mode PSW begins 00080001 8",
        });
    }
    Ok((psw & 0x7fff_ffff) as u32)
}

/// The record at [`METADATA_ADDR`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// File offset of the SE header.
    pub header_offset: u64,
    /// File offset of the IPL parameter block.
    pub ipib_offset: u64,
}

impl Metadata {
    /// Mark of the record.
    pub const MAGIC: &[u8; 8] = b"SeImgLnx";
    /// Version of the record.
    pub const VERSION: u32 = 1;
    /// Bytes of the record.
    pub const SIZE: usize = 28;

    /// Reads the record from the start of `bytes`.
    ///
    /// # Errors
    /// If it is too short, lacks the mark, or has another version.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let what = "SE image metadata";
        need(what, bytes, Self::SIZE)?;
        if bytes[..8] != Self::MAGIC[..] {
            return Err(Error::Magic { what, expected: "SeImgLnx" });
        }
        let version: u32 = get(bytes, 16);
        if version != Self::VERSION {
            return Err(Error::Version { what, found: version, supported: Self::VERSION });
        }
        Ok(Self { header_offset: get(bytes, 8), ipib_offset: get(bytes, 20) })
    }

    /// The bytes of the record.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        out[..8].copy_from_slice(Self::MAGIC);
        put(&mut out, 8, &self.header_offset);
        put(&mut out, 16, &Self::VERSION);
        put(&mut out, 20, &self.ipib_offset);
        out
    }
}

/// What a part of an image is; the first 16 bits of its tweak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComponentKind(pub u16);

impl ComponentKind {
    /// The short PSW at 0.
    pub const SHORT_PSW: Self = Self(10);
    /// The metadata.
    pub const METADATA: Self = Self(20);
    /// The plain loader.
    pub const STAGE_A: Self = Self(30);
    /// The kernel (encrypted).
    pub const KERNEL: Self = Self(40);
    /// The ramdisk (encrypted).
    pub const RAMDISK: Self = Self(50);
    /// The kernel's command line (encrypted).
    pub const CMDLINE: Self = Self(60);
    /// The protected loader (encrypted).
    pub const STAGE_B: Self = Self(70);
    /// The SE header.
    pub const SE_HEADER: Self = Self(80);
    /// The IPL parameter block.
    pub const IPIB: Self = Self(90);

    /// The name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SHORT_PSW => "short PSW",
            Self::METADATA => "metadata",
            Self::STAGE_A => "plain loader",
            Self::KERNEL => "kernel",
            Self::RAMDISK => "ramdisk",
            Self::CMDLINE => "command line",
            Self::STAGE_B => "protected loader",
            Self::SE_HEADER => "SE header",
            Self::IPIB => "IPL parameter block",
            _ => "unknown component",
        }
    }
}

/// Tweak prefix of a component: its kind, then 48 random bits. Prefixes rise strictly over an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TweakPref(pub u64);

impl TweakPref {
    /// A prefix of `kind` with the given random bytes.
    pub fn new(kind: ComponentKind, random: [u8; 6]) -> Self {
        let mut bytes = [0; 8];
        put(&mut bytes, 0, &kind.0);
        put(&mut bytes, 2, &random);
        Self(get(&bytes, 0))
    }

    /// The kind of the component.
    pub const fn kind(self) -> ComponentKind {
        ComponentKind((self.0 >> 48) as u16)
    }

    /// The tweak of the page at `offset` in the component: the XTS initial value, and what the tweak
    /// list digest covers.
    pub fn page_tweak(self, offset: u64) -> [u8; 16] {
        page_tweak([self.0, offset])
    }
}

/// The 16 bytes of a tweak given as {prefix, offset}.
pub fn page_tweak(tweak: [u64; 2]) -> [u8; 16] {
    let mut out = [0; 16];
    put(&mut out, 0, &tweak);
    out
}

/// Arguments in the last bytes of the plain loader. Offsets count from these arguments themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StageAArgs {
    /// Offset of the SE header.
    pub header_offset: u64,
    /// Bytes of the SE header.
    pub header_size: u64,
    /// Offset of the IPL parameter block.
    pub ipib_offset: u64,
}

impl StageAArgs {
    /// Bytes of the arguments.
    pub const SIZE: usize = 24;

    /// Reads the arguments from the start of `bytes`.
    ///
    /// # Errors
    /// If there are fewer than 24 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        need("plain loader arguments", bytes, Self::SIZE)?;
        let [header_offset, header_size, ipib_offset] = get(bytes, 0);
        Ok(Self { header_offset, header_size, ipib_offset })
    }

    /// The bytes of the arguments.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        put(&mut out, 0, &[self.header_offset, self.header_size, self.ipib_offset]);
        out
    }
}

/// Where an unpacked component lies: address and size before padding, both 0 if absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// Absolute address.
    pub src: u64,
    /// Bytes before padding.
    pub size: u64,
}

/// Arguments in the last bytes of the protected loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StageBArgs {
    /// The kernel.
    pub kernel: Extent,
    /// The command line.
    pub cmdline: Extent,
    /// The ramdisk.
    pub initrd: Extent,
    /// Mask of the PSW that starts the kernel.
    pub psw_mask: u64,
    /// Address of the PSW that starts the kernel.
    pub psw_addr: u64,
}

impl StageBArgs {
    /// Bytes of the arguments.
    pub const SIZE: usize = 64;

    /// Reads the arguments from the start of `bytes`.
    ///
    /// # Errors
    /// If there are fewer than 64 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        need("protected loader arguments", bytes, Self::SIZE)?;
        let words: [u64; 8] = get(bytes, 0);
        let extent = |at: usize| Extent { src: words[at], size: words[at + 1] };
        Ok(Self {
            kernel: extent(0),
            cmdline: extent(2),
            initrd: extent(4),
            psw_mask: words[6],
            psw_addr: words[7],
        })
    }

    /// The bytes of the arguments.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        let words = [
            self.kernel.src,
            self.kernel.size,
            self.cmdline.src,
            self.cmdline.size,
            self.initrd.src,
            self.initrd.size,
            self.psw_mask,
            self.psw_addr,
        ];
        put(&mut out, 0, &words);
        out
    }
}

/// Finds the SE header in an image: through the metadata, else by its mark at a page boundary from
/// [`HEADER_ADDR`] on. A bare header is found at 0.
pub fn find_header(image: &[u8]) -> Option<usize> {
    let is_header = |at: usize| {
        image.get(at..).is_some_and(|rest| rest.starts_with(super::se_header::MAGIC)).then_some(at)
    };
    is_header(0)
        .or_else(|| {
            let metadata = Metadata::parse(image.get(METADATA_ADDR as usize..)?).ok()?;
            is_header(usize::try_from(metadata.header_offset).ok()?)
        })
        .or_else(|| (HEADER_ADDR as usize..image.len()).step_by(PAGE_SIZE).find_map(is_header))
}
