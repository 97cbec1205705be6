//! The table of GUIDs at the end of an OVMF image, which tells the VMM where things go.
//!
//! The texts of the errors are QEMU's, because people look for them.

use super::guid::Guid;
use super::layout::get;

/// GUID at the end of the table.
pub const FOOTER: Guid = Guid::new(0x96b582de_1fb2_45f7_baea_a366c55a082d);
/// Entry with the address where CPUs start under SEV-ES.
pub const RESET_BLOCK: Guid = Guid::new(0x00f771de_1a7e_4fcb_890e_68c77e2fb44e);
/// Entry with the area for injected secrets.
pub const SECRET_AREA: Guid = Guid::new(0x4c2eb361_7d9b_4cc3_8081_127c90d3d294);
/// Entry with the area for the kernel hashes table.
pub const HASHES_AREA: Guid = Guid::new(0x7255371f_3a3b_4b04_927b_1da6efa8d454);
/// Entry with the offset of the SEV metadata.
pub const METADATA: Guid = Guid::new(0xdc886566_984a_4798_a75e_5585a7bf67cc);
/// Entry with TDX metadata, ignored.
pub const TDX_METADATA: Guid = Guid::new(0xe47a6535_984a_4798_865e_4685a7bf8ec2);
/// Entry of a secure VM service module, ignored.
pub const SVSM_INFO: Guid = Guid::new(0xa789a612_0597_4c4b_a49f_cbb1fe9d1ddd);

/// The smallest image that is looked at.
pub const MIN_IMAGE: usize = 4096;
/// Bytes at the end of an image that are enough for [`Table::find`] and for [`reset_address`].
pub const TAIL: usize = 0x10000 + FOOTER_AT;

/// Distance from the end of the image to the footer's GUID; 32 bytes of reset code follow it.
const FOOTER_AT: usize = 0x30;
/// Bytes of GUID and length after the data of an entry.
const ENTRY: usize = 18;

/// Why an image cannot be used as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OvmfError {
    /// The length before the footer does not fit the image; the number is that of the entries alone.
    #[error("OVMF table has invalid size {0}")]
    TableSize(i64),
    /// Neither a table entry nor the older block has the reset address.
    #[error("SEV information block/Firmware GUID Table block not found in pflash rom")]
    NoResetBlock,
    /// The reset address is there, and zero.
    #[error("SEV-ES reset address is zero")]
    ZeroReset,
    /// The image has no area for the kernel hashes.
    #[error("SEV: kernel specified but guest firmware has no hashes table GUID")]
    NoHashesArea,
    /// The area for the kernel hashes is at zero or too small.
    #[error("SEV: guest firmware hashes table area is invalid (base={base:#x} size={size:#x})")]
    HashesArea {
        /// Its address.
        base: u32,
        /// Its bytes.
        size: u32,
    },
}

/// An area in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// Address.
    pub base: u32,
    /// Bytes.
    pub size: u32,
}

/// A section of the SEV metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetadataSection {
    /// Address.
    pub base: u32,
    /// Bytes.
    pub size: u32,
    /// What it is: 1 SNP memory, 2 SNP secrets, 3 CPUID, 4 SVSM calling area, 0x10 kernel hashes.
    pub kind: u32,
}

/// The entries of a table, without the footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table<'a>(&'a [u8]);

impl<'a> Table<'a> {
    /// Finds the table. The image may be cut to its last [`TAIL`] bytes.
    ///
    /// `None` if there is no footer, or the image has less than [`MIN_IMAGE`] bytes.
    ///
    /// # Errors
    /// [`OvmfError::TableSize`] if the length before the footer does not fit.
    pub fn find(image: &'a [u8]) -> Result<Option<Self>, OvmfError> {
        if image.len() < MIN_IMAGE || guid_at_end(image) != Some(FOOTER) {
            return Ok(None);
        }
        let below = image.len() - FOOTER_AT - 2;
        let total: u16 = get(image, below);
        let entries = i64::from(total) - ENTRY as i64;
        let body = usize::try_from(entries).ok().and_then(|size| below.checked_sub(size));
        body.map(|start| Some(Self(&image[start..below]))).ok_or(OvmfError::TableSize(entries))
    }

    /// The entries from the last to the first: GUID and data. A length that does not fit ends them.
    pub fn entries(&self) -> impl Iterator<Item = (Guid, &'a [u8])> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let at = rest.len().checked_sub(ENTRY)?;
            let length = usize::from(get::<u16>(rest, at));
            let start = (length >= ENTRY).then(|| rest.len().checked_sub(length)).flatten()?;
            let entry = (Guid(get(rest, at + 2)), &rest[start..at]);
            rest = &rest[..start];
            Some(entry)
        })
    }

    /// The data of the last entry with this GUID.
    pub fn entry(&self, guid: Guid) -> Option<&'a [u8]> {
        self.entries().find(|(found, _)| *found == guid).map(|(_, data)| data)
    }

    /// The area of the entry with this GUID; `None` also if its data are too short.
    pub fn area(&self, guid: Guid) -> Option<Area> {
        let data = self.entry(guid).filter(|data| data.len() >= 8)?;
        Some(Area { base: get(data, 0), size: get(data, 4) })
    }

    /// The area for injected secrets; QEMU uses it even if it is zero.
    pub fn secret_area(&self) -> Option<Area> {
        self.area(SECRET_AREA)
    }

    /// The area for the kernel hashes table.
    ///
    /// # Errors
    /// If there is none, it is at zero, or it is smaller than the table.
    pub fn hashes_area(&self) -> Result<Area, OvmfError> {
        let area = self.area(HASHES_AREA).ok_or(OvmfError::NoHashesArea)?;
        if area.base == 0 || (area.size as usize) < super::kernel_hashes::KernelHashes::SIZE {
            return Err(OvmfError::HashesArea { base: area.base, size: area.size });
        }
        Ok(area)
    }

    /// The sections of the SEV metadata in the whole image; `None` if there are none or they do not fit.
    pub fn metadata(&self, image: &[u8]) -> Option<Vec<MetadataSection>> {
        let data = self.entry(METADATA).filter(|data| data.len() >= 4)?;
        let offset: u32 = get(data, 0);
        let start = image.len().checked_sub(usize::try_from(offset).ok()?)?;
        let header = image.get(start..).filter(|rest| rest.len() >= 16 && rest.starts_with(b"ASEV"))?;
        if get::<u32>(header, 8) != 1 {
            return None;
        }
        let count = usize::try_from(get::<u32>(header, 12)).ok()?;
        let sections = header.get(16..16usize.checked_add(count.checked_mul(12)?)?)?;
        let section =
            |bytes: &[u8]| MetadataSection { base: get(bytes, 0), size: get(bytes, 4), kind: get(bytes, 8) };
        Some(sections.chunks_exact(12).map(section).collect())
    }
}

/// The address where CPUs other than the first start under SEV-ES: from the table, or else from the older block at
/// the end of the image. The image may be cut to its last [`TAIL`] bytes.
///
/// # Errors
/// If there is none, or it is zero. A broken table counts as none, as in QEMU, which reports it by itself.
pub fn reset_address(image: &[u8]) -> Result<u32, OvmfError> {
    let from_table = Table::find(image).ok().flatten().and_then(|table| table.entry(RESET_BLOCK));
    let block = match from_table.filter(|data| data.len() >= 4) {
        Some(data) => data,
        None => old_reset_block(image).ok_or(OvmfError::NoResetBlock)?,
    };
    match get(block, 0) {
        0 => Err(OvmfError::ZeroReset),
        address => Ok(address),
    }
}

/// The block with the reset address first, which ends with a length and the reset GUID in the footer's place.
fn old_reset_block(image: &[u8]) -> Option<&[u8]> {
    if guid_at_end(image) != Some(RESET_BLOCK) {
        return None;
    }
    let end = image.len().checked_sub(FOOTER_AT - 16)?;
    let length: u16 = get(image, image.len().checked_sub(FOOTER_AT + 2)?);
    image.get(end.checked_sub(usize::from(length))?..end).filter(|block| block.len() >= 4 + ENTRY)
}

/// The GUID in the footer's place.
fn guid_at_end(image: &[u8]) -> Option<Guid> {
    image.get(image.len().checked_sub(FOOTER_AT)?..).and_then(Guid::read)
}
