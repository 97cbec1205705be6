//! Firmware flash of a PC: which images lie where below 4 GiB.
//!
//! QEMU's documentation of `-drive if=pflash` and `-bios`: unit 0 ends at 4 GiB, unit 1 ends where unit 0 begins; a
//! `-bios` image takes the same place. The commands that a guest writes to flash (CFI) are not modelled: no core of
//! this version executes such a guest, and a confidential one cannot use them.

use std::path::PathBuf;

/// Where the address space of 32 bits ends, and with it the first image.
pub const TOP: u64 = 1 << 32;
/// Bytes of an erase block: sizes are multiples.
pub const SECTOR: u64 = 4096;
/// A `-bios` image is a multiple of these bytes.
pub const BIOS_UNIT: u64 = 64 << 10;
/// Most of an image that is seen again below 1 MiB (the older place of a PC's firmware).
const LOW_ALIAS: u64 = 128 << 10;

/// Why an image cannot be flash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlashError {
    /// The size of a unit, in QEMU's words.
    #[error(
        "system firmware block device {device} has invalid size {size}\nits size must be a non-zero multiple of 0x1000"
    )]
    Size {
        /// The drive.
        device: String,
        /// Its bytes.
        size: u64,
    },
    /// Both units together.
    #[error("combined size of system firmware exceeds {0} bytes")]
    TooLarge(u64),
    /// Only the second unit was given.
    #[error("pflash1 requires pflash0")]
    FirstMissing,
    /// The size of a `-bios` image, in QEMU's words.
    #[error("qemu: could not load PC BIOS '{}'\nits size must be a non-zero multiple of 64 KiB", .0.display())]
    Bios(PathBuf),
}

/// An image in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flash {
    /// First address.
    pub guest_physical: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Flash {
    /// A `-bios` image: whole, ending at 4 GiB.
    pub fn bios(path: PathBuf, bytes: Vec<u8>) -> Result<Self, FlashError> {
        let size = bytes.len() as u64;
        if size == 0 || !size.is_multiple_of(BIOS_UNIT) || size > TOP / 2 {
            return Err(FlashError::Bios(path));
        }
        Ok(Self { guest_physical: TOP - size, bytes })
    }

    /// Units of flash, the first one's end at 4 GiB; `limit` is the machine's `max-fw-size`.
    pub fn units(units: Vec<(String, Vec<u8>)>, limit: u64) -> Result<Vec<Self>, FlashError> {
        let mut end = TOP;
        let mut flashes = Vec::new();
        for (device, bytes) in units {
            let size = bytes.len() as u64;
            if size == 0 || !size.is_multiple_of(SECTOR) {
                return Err(FlashError::Size { device, size });
            }
            let start = end.checked_sub(size).filter(|start| TOP - start <= limit);
            end = start.ok_or(FlashError::TooLarge(limit))?;
            flashes.push(Self { guest_physical: end, bytes });
        }
        Ok(flashes)
    }

    /// Bytes of its end that are seen below 1 MiB too.
    pub fn low_alias(&self) -> u64 {
        LOW_ALIAS.min(self.bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_lie_below_each_other() {
        let units = vec![("pflash0".into(), vec![1; 0x3000]), ("pflash1".into(), vec![2; 0x1000])];
        let flashes = Flash::units(units, 8 << 20).unwrap();
        assert_eq!(flashes[0].guest_physical, 0xffff_d000);
        assert_eq!(flashes[1].guest_physical, 0xffff_c000);
        assert_eq!(flashes[0].low_alias(), 0x3000);
    }

    #[test]
    fn sizes_are_checked_in_qemus_words() {
        let unit =
            |size| Flash::units(vec![("pflash0".into(), vec![0; size])], 0x4000).unwrap_err().to_string();
        assert!(unit(0).contains("has invalid size 0"));
        assert!(unit(0x1800).contains("pflash0 has invalid size 6144"));
        assert_eq!(unit(0x5000), "combined size of system firmware exceeds 16384 bytes");
        let bios = |size| Flash::bios("/b".into(), vec![0; size]);
        assert!(bios(0x1_0000).is_ok());
        for size in [0, 0x1000, 0x1_8000] {
            assert!(bios(size).unwrap_err().to_string().starts_with("qemu: could not load PC BIOS '/b'"));
        }
    }
}
