//! The boot loader of the machine's firmware: a position-independent ELF file for s390x, placed where there is room.
//!
//! (System V ABI, ELF-64; "ELF Application Binary Interface s390x Supplement", "Relocation".) A firmware needs no
//! symbols and no libraries, so only relative relocations are carried out; any other is refused.

use crate::codec::{Error, need};

const WHAT: &str = "s390x firmware (ELF)";
const MAGIC: &[u8; 4] = b"\x7fELF";
const HEADER_SIZE: usize = 64;
const PROGRAM_HEADER_SIZE: usize = 56;
const RELOCATION_SIZE: u64 = 24;
const DYNAMIC_SIZE: usize = 16;

const CLASS_64: u8 = 2;
const BIG_ENDIAN: u8 = 2;
const EXECUTABLE: u16 = 2;
const SHARED: u16 = 3;
const MACHINE_S390: u16 = 22;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const DT_RELAENT: u64 = 9;
const R_390_RELATIVE: u64 = 12;

/// No boot loader is larger.
pub const MAX_SIZE: u64 = 16 << 20;

/// A firmware image as it lies in memory, for base address 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    image: Vec<u8>,
    entry: u64,
    /// Offset in the image and what to add the base to.
    relocations: Vec<(u64, u64)>,
}

impl Firmware {
    /// Whether the bytes begin as an ELF file does.
    pub fn is_elf(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
    }

    /// Reads an ELF file.
    ///
    /// # Errors
    /// If it is none for s390x, contradicts itself, or needs more than relative relocations.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let field = |field, found, rule| Error::Field { what: WHAT, field, found, rule };
        if !Self::is_elf(bytes) {
            return Err(Error::Magic { what: WHAT, expected: "\\x7fELF" });
        }
        need(WHAT, bytes, HEADER_SIZE)?;
        if bytes[4] != CLASS_64 || bytes[5] != BIG_ENDIAN {
            return Err(field("class", u64::from(bytes[4]), "it must be 64-bit and big-endian"));
        }
        let kind = number(bytes, 16, 2)?;
        if kind != u64::from(EXECUTABLE) && kind != u64::from(SHARED) {
            return Err(field("type", kind, "it must be an executable"));
        }
        let machine = number(bytes, 18, 2)?;
        if machine != u64::from(MACHINE_S390) {
            return Err(field("machine", machine, "it must be 0x16, s390x"));
        }
        let entry = number(bytes, 24, 8)?;
        let (at, size, count) = (number(bytes, 32, 8)?, number(bytes, 54, 2)?, number(bytes, 56, 2)?);
        if size != PROGRAM_HEADER_SIZE as u64 {
            return Err(field("size of a program header", size, "it must be 56"));
        }
        let mut image = Vec::new();
        let mut dynamic = None;
        for index in 0..count {
            let header = at.saturating_add(index * size);
            match number(bytes, header, 4)? as u32 {
                PT_LOAD => load(bytes, header, &mut image)?,
                PT_DYNAMIC => {
                    dynamic = Some((number(bytes, header + 16, 8)?, number(bytes, header + 40, 8)?))
                }
                _ => {}
            }
        }
        if entry >= image.len() as u64 {
            return Err(field("entry", entry, "it must lie in a loaded segment"));
        }
        let relocations = match dynamic {
            Some((address, size)) => relocations(&image, address, size)?,
            None => Vec::new(),
        };
        Ok(Self { image, entry, relocations })
    }

    /// Bytes that it occupies in memory.
    pub fn size(&self) -> u64 {
        self.image.len() as u64
    }

    /// Where it begins to run.
    pub fn entry(&self, base: u64) -> u64 {
        base.wrapping_add(self.entry)
    }

    /// The bytes to write at `base`.
    pub fn place(&self, base: u64) -> Vec<u8> {
        let mut image = self.image.clone();
        for &(offset, addend) in &self.relocations {
            let at = offset as usize;
            if let Some(word) = image.get_mut(at..at + 8) {
                word.copy_from_slice(&base.wrapping_add(addend).to_be_bytes());
            }
        }
        image
    }
}

fn load(bytes: &[u8], header: u64, image: &mut Vec<u8>) -> Result<(), Error> {
    let field = |field, found, rule| Error::Field { what: WHAT, field, found, rule };
    let (offset, address) = (number(bytes, header + 8, 8)?, number(bytes, header + 24, 8)?);
    let (in_file, in_memory) = (number(bytes, header + 32, 8)?, number(bytes, header + 40, 8)?);
    let end = address.checked_add(in_memory).filter(|&end| end <= MAX_SIZE);
    let Some(end) = end else {
        return Err(field(
            "end of a segment",
            address.wrapping_add(in_memory),
            "a boot loader has at most 16 MiB",
        ));
    };
    if in_file > in_memory {
        return Err(field("size of a segment", in_file, "it must not be larger in the file than in memory"));
    }
    let data = slice(bytes, offset, in_file)?;
    if image.len() < end as usize {
        image.resize(end as usize, 0);
    }
    image[address as usize..address as usize + data.len()].copy_from_slice(data);
    Ok(())
}

fn relocations(image: &[u8], address: u64, size: u64) -> Result<Vec<(u64, u64)>, Error> {
    let field = |field, found, rule| Error::Field { what: WHAT, field, found, rule };
    let (mut table, mut bytes, mut each) = (0, 0, RELOCATION_SIZE);
    for entry in slice(image, address, size)?.chunks_exact(DYNAMIC_SIZE) {
        let value = number(entry, 8, 8)?;
        match number(entry, 0, 8)? {
            DT_RELA => table = value,
            DT_RELASZ => bytes = value,
            DT_RELAENT => each = value,
            _ => {}
        }
    }
    if each != RELOCATION_SIZE {
        return Err(field("size of a relocation", each, "it must be 24"));
    }
    slice(image, table, bytes)?
        .chunks_exact(RELOCATION_SIZE as usize)
        .map(|relocation| {
            let (offset, info) = (number(relocation, 0, 8)?, number(relocation, 8, 8)?);
            if info != R_390_RELATIVE {
                return Err(field("relocation", info, "only relative ones are possible"));
            }
            slice(image, offset, 8)?;
            Ok((offset, number(relocation, 16, 8)?))
        })
        .collect()
}

fn slice(bytes: &[u8], at: u64, size: u64) -> Result<&[u8], Error> {
    let place = || {
        let end = usize::try_from(at.checked_add(size)?).ok()?;
        bytes.get(usize::try_from(at).ok()?..end)
    };
    let need = usize::try_from(at.saturating_add(size)).unwrap_or(usize::MAX);
    place().ok_or(Error::TooShort { what: WHAT, need, have: bytes.len() })
}

fn number(bytes: &[u8], at: u64, size: u64) -> Result<u64, Error> {
    Ok(slice(bytes, at, size)?.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}
