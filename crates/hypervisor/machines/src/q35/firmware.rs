//! The firmware that a PC starts in: `-bios`, flash drives, or a stand-in.

use crate::MachineError;
use crate::blocks::{Blocks, Hold, Wanted};
use cloister_devices::flash::{Flash, FlashError};
use cloister_formats::sev::ovmf;
use cloister_options::{CommandLine, Drive, DriveInterface};
use std::io::Read;
use std::path::Path;
use std::sync::PoisonError;

/// The file that QEMU looks for without `-bios`.
const DEFAULT_BIOS: &str = "bios-256k.bin";
/// Most bytes of an image that are read.
const LIMIT: u64 = 64 << 20;

/// The firmware of a machine.
pub(super) struct Firmware {
    /// The images in their places; CPUs start in the first.
    pub(super) flashes: Vec<Flash>,
    /// The nodes that they come from.
    pub(super) holds: Vec<Hold>,
    /// What the user should hear.
    pub(super) said: Option<String>,
}

/// Reads the images.
pub(super) fn read(line: &CommandLine, blocks: &Blocks) -> Result<Firmware, MachineError> {
    let units = units(line)?;
    if !units.is_empty() {
        if line.bios.is_some() {
            return Err(MachineError::Device {
                location: "-bios".into(),
                problem: "the firmware is in flash already (-drive if=pflash); give one of them".into(),
            });
        }
        let limit = line.machine.properties.number("max-fw-size").unwrap_or(8 << 20);
        let mut images = Vec::new();
        let mut holds = Vec::new();
        for unit in units {
            let (bytes, hold) = contents(&unit, blocks)?;
            images.push((unit.name, bytes));
            holds.push(hold);
        }
        return Ok(Firmware { flashes: Flash::units(images, limit)?, holds, said: None });
    }
    let found = match &line.bios {
        Some(path) => Some(in_folders(line, path)),
        None => {
            line.firmware_folders.iter().map(|folder| folder.join(DEFAULT_BIOS)).find(|path| path.exists())
        }
    };
    match found {
        Some(path) => {
            let load = |source| MachineError::Load { what: "PC BIOS", path: path.clone(), source };
            let bytes = file(&path).map_err(load)?;
            Ok(Firmware { flashes: vec![Flash::bios(path, bytes)?], holds: Vec::new(), said: None })
        }
        None => {
            let said = "no firmware was given (-bios, -drive if=pflash): the guest gets a stand-in that halts, with \
                        the tables of a SEV firmware";
            let flashes = vec![Flash::bios(DEFAULT_BIOS.into(), stand_in())?];
            Ok(Firmware { flashes, holds: Vec::new(), said: Some(said.into()) })
        }
    }
}

/// A name without a folder is looked for in the folders of `-L` too.
fn in_folders(line: &CommandLine, path: &Path) -> std::path::PathBuf {
    if path.exists() || path.components().count() != 1 {
        return path.to_owned();
    }
    let found = line.firmware_folders.iter().map(|folder| folder.join(path)).find(|path| path.exists());
    found.unwrap_or_else(|| path.to_owned())
}

/// A unit of flash and the node with its content.
pub(super) struct Unit<'a> {
    pub(super) name: String,
    pub(super) node: String,
    pub(super) drive: Option<&'a Drive>,
    number: u32,
    location: String,
}

/// The units in their order: drives with `if=pflash`, and nodes that `-machine` names.
pub(super) fn units(line: &CommandLine) -> Result<Vec<Unit<'_>>, MachineError> {
    let mut units = Vec::new();
    for drive in line.drives.iter().filter(|drive| drive.interface == DriveInterface::Pflash) {
        let number = drive.index.unwrap_or_default();
        let location = drive.location.to_string();
        if number > 1 {
            let problem = format!("machine type does not support if=pflash,bus=0,unit={number}");
            return Err(MachineError::Device { location, problem });
        }
        units.push(Unit {
            name: drive.id.clone().unwrap_or_else(|| format!("pflash{number}")),
            node: drive.node.clone().unwrap_or_default(),
            drive: Some(drive),
            number,
            location,
        });
    }
    for (number, name) in (0..).zip(["pflash0", "pflash1"]) {
        let Some(id) = line.machine.properties.text(name) else { continue };
        let location = format!("-machine {name}={id}");
        let known = line.block_nodes.iter().any(|node| node.name == id);
        let drive = line.drive(id);
        let node = match drive.and_then(|drive| drive.node.clone()) {
            Some(node) => node,
            None if known => id.to_owned(),
            None => {
                let problem = format!("Property 'cfi.pflash01.drive' can't find value '{id}'");
                return Err(MachineError::Device { location, problem });
            }
        };
        if units.iter().any(|unit| unit.number == number) {
            let problem = format!("there are two images for {name}; give one of them");
            return Err(MachineError::Device { location, problem });
        }
        units.push(Unit { name: name.to_owned(), node, drive, number, location });
    }
    units.sort_by_key(|unit| unit.number);
    match units.first() {
        Some(first) if first.number != 0 => Err(FlashError::FirstMissing.into()),
        _ => Ok(units),
    }
}

/// The content of a unit. What the guest writes is not written back: there is no guest that could.
fn contents(unit: &Unit<'_>, blocks: &Blocks) -> Result<(Vec<u8>, Hold), MachineError> {
    let user = format!("/machine/system.flash{}", unit.number);
    let wanted = Wanted { user: &user, share: false, read_only: true, waker: None };
    let fail = |problem| MachineError::Device { location: unit.location.clone(), problem };
    let (disk, hold) = blocks.attach(&unit.node, wanted).map_err(fail)?;
    let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
    let mut bytes = vec![0; usize::try_from(disk.size().min(LIMIT + 1)).unwrap_or_default()];
    disk.read_at(0, &mut bytes).map_err(|why| fail(format!("cannot read the firmware: {why}")))?;
    Ok((bytes, hold))
}

fn file(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LIMIT + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// 64 KiB that halt the CPU at its first instruction, with the table that the firmware of SEV guests has: a reset
/// address, an area for secrets and one for the hashes of a kernel. Always the same bytes, so that it measures the same.
pub fn stand_in() -> Vec<u8> {
    const SIZE: usize = 64 << 10;
    let area = |base: u32, size: u32| [base.to_le_bytes(), size.to_le_bytes()].concat();
    let entries = [
        (ovmf::HASHES_AREA, area(0x81_0c00, 0x400)),
        (ovmf::SECRET_AREA, area(0x81_0000, 0xc00)),
        (ovmf::RESET_BLOCK, 0x80_b004u32.to_le_bytes().to_vec()),
    ];
    let mut table = Vec::new();
    for (guid, data) in entries {
        table.extend_from_slice(&data);
        table.extend((data.len() as u16 + 18).to_le_bytes());
        table.extend(guid.0);
    }
    table.extend((table.len() as u16 + 18).to_le_bytes());
    table.extend(ovmf::FOOTER.0);
    let mut image = vec![0; SIZE];
    // At the reset vector: cli; hlt; and back to hlt.
    image[SIZE - 16..SIZE - 12].copy_from_slice(&[0xfa, 0xf4, 0xeb, 0xfd]);
    let end = SIZE - 32;
    image[end - table.len()..end].copy_from_slice(&table);
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stand_in_has_the_tables_of_a_sev_firmware() {
        let image = stand_in();
        let table = ovmf::Table::find(&image).unwrap().unwrap();
        let area = |base, size| ovmf::Area { base, size };
        assert_eq!(table.secret_area(), Some(area(0x81_0000, 0xc00)));
        assert_eq!(table.hashes_area(), Ok(area(0x81_0c00, 0x400)));
        assert_eq!(ovmf::reset_address(&image), Ok(0x80_b004));
    }
}
