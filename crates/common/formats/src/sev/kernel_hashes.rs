//! The table of hashes of kernel, initial ramdisk and command line that a VMM puts into measured memory.
//!
//! The hashes themselves are computed by the caller: SHA-256 over the kernel file as it is, over the ramdisk (over
//! nothing if there is none), and over [`cmdline_bytes`].

use super::guid::Guid;
use super::layout::{get, put};
use crate::Error;
use crate::codec::need;

/// GUID of the table.
pub const TABLE: Guid = Guid::new(0x9438d606_4f22_4cc9_b479_a793d411fd21);
/// GUID of the command line's entry.
pub const CMDLINE: Guid = Guid::new(0x97d02dd8_bd20_4c94_aa78_e7714d36ab2a);
/// GUID of the ramdisk's entry.
pub const INITRD: Guid = Guid::new(0x44baf731_3a2f_4bd7_9af1_41e29169781d);
/// GUID of the kernel's entry.
pub const KERNEL: Guid = Guid::new(0x4de79437_abd2_427f_b835_d5b172d2045b);

const WHAT: &str = "kernel hashes table";
const TABLE_LEN: u16 = 168;
const ENTRY_LEN: u16 = 50;

/// The three hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelHashes {
    /// SHA-256 of the command line with its NUL.
    pub cmdline: [u8; 32],
    /// SHA-256 of the ramdisk.
    pub initrd: [u8; 32],
    /// SHA-256 of the kernel.
    pub kernel: [u8; 32],
}

/// What is hashed for a command line: its bytes as they are, then a NUL.
pub fn cmdline_bytes(cmdline: &[u8]) -> Vec<u8> {
    [cmdline, &[0]].concat()
}

impl KernelHashes {
    /// Bytes of the table with its padding.
    pub const SIZE: usize = 176;

    /// The table.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        put(&mut out, 0, &TABLE.0);
        put(&mut out, 16, &TABLE_LEN);
        let entries = [(CMDLINE, self.cmdline), (INITRD, self.initrd), (KERNEL, self.kernel)];
        for (index, (guid, hash)) in entries.into_iter().enumerate() {
            let at = 18 + index * usize::from(ENTRY_LEN);
            put(&mut out, at, &guid.0);
            put(&mut out, at + 16, &ENTRY_LEN);
            put(&mut out, at + 18, &hash);
        }
        out
    }

    /// Reads a table in the one form that is written: all entries, in order, padded with zeros.
    ///
    /// # Errors
    /// If it has any other form.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        need(WHAT, bytes, Self::SIZE)?;
        let hash = |index: usize| get(bytes, 18 + index * usize::from(ENTRY_LEN) + 18);
        let table = Self { cmdline: hash(0), initrd: hash(1), kernel: hash(2) };
        let expected = table.encode();
        match bytes.iter().zip(&expected).position(|(found, expected)| found != expected) {
            None => Ok(table),
            Some(0..16) => {
                Err(Error::Magic { what: WHAT, expected: "GUID 9438d606-4f22-4cc9-b479-a793d411fd21" })
            }
            Some(at) => Err(Error::Field {
                what: WHAT,
                field: "frame",
                found: at as u64,
                rule: "at this offset the GUIDs, lengths and padding differ from those of cmdline, initrd, kernel",
            }),
        }
    }
}
