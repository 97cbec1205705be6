//! fw_cfg: how a machine hands its firmware a kernel, tables and switches (QEMU, docs/specs/fw_cfg.rst).
//!
//! The device of a PC: a selector register of 16 bits, a data register of 8 bits, and a directory of named files.
//! Transfers by DMA are not modelled, and its identification says so.

use std::collections::BTreeMap;

/// The selector register's port.
pub const SELECTOR_PORT: u16 = 0x510;
/// The data register's port.
pub const DATA_PORT: u16 = 0x511;

/// Items with numbers of their own (include/standard-headers/linux/qemu_fw_cfg.h and fw_cfg.rst).
#[expect(missing_docs, reason = "the interface's own names")]
pub mod key {
    pub const SIGNATURE: u16 = 0x00;
    pub const ID: u16 = 0x01;
    pub const UUID: u16 = 0x02;
    pub const RAM_SIZE: u16 = 0x03;
    pub const NOGRAPHIC: u16 = 0x04;
    pub const NB_CPUS: u16 = 0x05;
    pub const KERNEL_ADDR: u16 = 0x07;
    pub const KERNEL_SIZE: u16 = 0x08;
    pub const INITRD_ADDR: u16 = 0x0a;
    pub const INITRD_SIZE: u16 = 0x0b;
    pub const BOOT_MENU: u16 = 0x0e;
    pub const MAX_CPUS: u16 = 0x0f;
    pub const KERNEL_DATA: u16 = 0x11;
    pub const INITRD_DATA: u16 = 0x12;
    pub const CMDLINE_ADDR: u16 = 0x13;
    pub const CMDLINE_SIZE: u16 = 0x14;
    pub const CMDLINE_DATA: u16 = 0x15;
    pub const SETUP_ADDR: u16 = 0x16;
    pub const SETUP_SIZE: u16 = 0x17;
    pub const SETUP_DATA: u16 = 0x18;
    pub const FILE_DIR: u16 = 0x19;
    pub const FILE_FIRST: u16 = 0x20;
}

/// Most files that the directory names.
const MAX_FILES: u16 = 0x20;
/// Bytes of a file's name with its NUL.
const NAME_SIZE: usize = 56;

/// The device.
#[derive(Clone, Debug)]
pub struct FwCfg {
    items: BTreeMap<u16, Vec<u8>>,
    /// Names in order; the number of a file is its place after [`key::FILE_FIRST`].
    files: Vec<(String, Vec<u8>)>,
    selected: u16,
    offset: usize,
}

impl Default for FwCfg {
    fn default() -> Self {
        let mut device = Self { items: BTreeMap::new(), files: Vec::new(), selected: 0, offset: 0 };
        device.set(key::SIGNATURE, b"QEMU".to_vec());
        // Bit 0: the traditional interface; bit 1, DMA, is off.
        device.set_u32(key::ID, 1);
        device
    }
}

impl FwCfg {
    /// Sets an item.
    pub fn set(&mut self, key: u16, bytes: Vec<u8>) {
        self.items.insert(key, bytes);
    }

    /// Sets an item to a number of 16 bits.
    pub fn set_u16(&mut self, key: u16, number: u16) {
        self.set(key, number.to_le_bytes().to_vec());
    }

    /// Sets an item to a number of 32 bits.
    pub fn set_u32(&mut self, key: u16, number: u32) {
        self.set(key, number.to_le_bytes().to_vec());
    }

    /// Sets an item to a number of 64 bits.
    pub fn set_u64(&mut self, key: u16, number: u64) {
        self.set(key, number.to_le_bytes().to_vec());
    }

    /// Adds a file; false if the directory is full, the name is taken or does not fit.
    #[must_use]
    pub fn add_file(&mut self, name: &str, bytes: Vec<u8>) -> bool {
        let fits = name.len() < NAME_SIZE && self.files.len() < usize::from(MAX_FILES);
        if !fits || self.files.iter().any(|(other, _)| other == name) {
            return false;
        }
        self.files.push((name.to_owned(), bytes));
        true
    }

    /// The bytes of an item or file, empty if there is none.
    pub fn item(&self, key: u16) -> &[u8] {
        let file = || {
            let place = key.checked_sub(key::FILE_FIRST)?;
            self.files.get(usize::from(place)).map(|(_, bytes)| bytes)
        };
        self.items.get(&key).or_else(file).map(Vec::as_slice).unwrap_or_default()
    }

    /// A write of the selector register: reading begins at the item's first byte.
    pub fn select(&mut self, key: u16) {
        self.selected = key;
        self.offset = 0;
    }

    /// A read of the data register; zero behind the item's end.
    pub fn read(&mut self) -> u8 {
        let byte = match self.selected {
            key::FILE_DIR => self.directory().get(self.offset).copied(),
            key => self.item(key).get(self.offset).copied(),
        };
        self.offset = self.offset.saturating_add(1);
        byte.unwrap_or(0)
    }

    /// The directory of files: their number, then size, selector, two reserved bytes and the name of each, in
    /// big-endian.
    pub fn directory(&self) -> Vec<u8> {
        let mut out = (self.files.len() as u32).to_be_bytes().to_vec();
        for (selector, (name, bytes)) in (key::FILE_FIRST..).zip(&self.files) {
            out.extend((bytes.len() as u32).to_be_bytes());
            out.extend(selector.to_be_bytes());
            out.extend([0; 2]);
            let mut field = [0; NAME_SIZE];
            field[..name.len()].copy_from_slice(name.as_bytes());
            out.extend(field);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(device: &mut FwCfg, key: u16, len: usize) -> Vec<u8> {
        device.select(key);
        (0..len).map(|_| device.read()).collect()
    }

    #[test]
    fn a_guest_finds_the_device_by_its_signature() {
        let mut device = FwCfg::default();
        assert_eq!(read(&mut device, key::SIGNATURE, 5), b"QEMU\0");
        assert_eq!(read(&mut device, key::ID, 4), [1, 0, 0, 0]);
        assert_eq!(read(&mut device, 0x7777, 2), [0, 0]);
    }

    #[test]
    fn the_directory_names_files_in_big_endian() {
        let mut device = FwCfg::default();
        assert!(device.add_file("etc/a", b"abc".to_vec()));
        assert!(!device.add_file("etc/a", Vec::new()));
        assert!(!device.add_file(&"n".repeat(56), Vec::new()));
        let directory = read(&mut device, key::FILE_DIR, 4 + 64);
        assert_eq!(directory[..14], [0, 0, 0, 1, 0, 0, 0, 3, 0, 0x20, 0, 0, b'e', b't']);
        assert_eq!(read(&mut device, key::FILE_FIRST, 4), b"abc\0");
        for number in 0..31 {
            assert!(device.add_file(&number.to_string(), Vec::new()));
        }
        assert!(!device.add_file("more", Vec::new()));
        assert_eq!(device.directory().len(), 4 + 32 * 64);
    }
}
