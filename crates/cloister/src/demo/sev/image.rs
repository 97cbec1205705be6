//! A small firmware image with the GUID table that OVMF has, built in memory.
//!
//! No core runs it in this version; it is there to be launched, measured and looked at.

use cloister_formats::sev::guid::Guid;
use cloister_formats::sev::ovmf::{FOOTER, HASHES_AREA, RESET_BLOCK, SECRET_AREA};

/// Its bytes: they end at 4 GiB, as firmware does.
pub(super) const SIZE: usize = 0x1_0000;
/// Where the text is that a host can recognise.
pub(super) const TEXT_AT: usize = 0x1000;
/// Two pages with the same content.
pub(super) const TWINS: [usize; 2] = [0x2000, 0x3000];
/// Where the owner's secret goes: an address in low memory, and the size of the area.
pub(super) const SECRET_AT: u32 = 0x80_c000;
pub(super) const SECRET_SIZE: u32 = 0xc00;
/// What stands in the text.
pub(super) const MARK: &[u8] = b"CLOISTER DEMO FIRMWARE";

/// The image.
pub(super) fn image() -> Vec<u8> {
    let mut image = vec![0; SIZE];
    let line = [MARK, b": whoever can read this line can read the firmware. "].concat();
    for (at, byte) in line.iter().cycle().take(0x1000).enumerate() {
        image[TEXT_AT + at] = *byte;
    }
    for twin in TWINS {
        let words = b"two pages with the same content\n";
        image[twin..twin + 0x1000].iter_mut().zip(words.iter().cycle()).for_each(|(to, from)| *to = *from);
    }
    // At the reset address: stop, and again if woken (hlt; jmp).
    image[SIZE - 16..SIZE - 13].copy_from_slice(&[0xf4, 0xeb, 0xfd]);

    let hashes = [SECRET_AT + SECRET_SIZE, 0x400].map(u32::to_le_bytes).concat();
    let secret = [SECRET_AT, SECRET_SIZE].map(u32::to_le_bytes).concat();
    let mut table = Vec::new();
    for (guid, data) in
        [(HASHES_AREA, hashes), (SECRET_AREA, secret), (RESET_BLOCK, 0x80_b004u32.to_le_bytes().to_vec())]
    {
        entry(&mut table, guid, &data);
    }
    let length = table.len() + 18;
    table.extend_from_slice(&(length as u16).to_le_bytes());
    table.extend_from_slice(&FOOTER.0);
    let end = SIZE - 32;
    image[end - table.len()..end].copy_from_slice(&table);
    image
}

fn entry(table: &mut Vec<u8>, guid: Guid, data: &[u8]) {
    table.extend_from_slice(data);
    table.extend_from_slice(&(data.len() as u16 + 18).to_le_bytes());
    table.extend_from_slice(&guid.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_formats::sev::ovmf::{Area, Table, reset_address};

    #[test]
    fn the_table_is_found_as_in_ovmf() {
        let image = image();
        let table = Table::find(&image).unwrap().unwrap();
        assert_eq!(table.entries().count(), 3);
        assert_eq!(table.secret_area(), Some(Area { base: SECRET_AT, size: SECRET_SIZE }));
        assert_eq!(table.hashes_area().unwrap(), Area { base: 0x80_cc00, size: 0x400 });
        assert_eq!(reset_address(&image).unwrap(), 0x80_b004);
    }
}
