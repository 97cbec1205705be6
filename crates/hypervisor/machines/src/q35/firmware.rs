//! The firmware that a PC starts in: `-bios`, flash drives, or a stand-in.

use crate::MachineError;
use cloister_devices::flash::{Flash, FlashError};
use cloister_devices::virtio::disk::{DiskOptions, open_disk};
use cloister_formats::sev::ovmf;
use cloister_options::{CommandLine, Drive, DriveFormat, DriveInterface};
use std::io::Read;
use std::path::Path;

/// The file that QEMU looks for without `-bios`.
const DEFAULT_BIOS: &str = "bios-256k.bin";
/// Most bytes of an image that are read.
const LIMIT: u64 = 64 << 20;

/// The images in their places, the first of which CPUs start in; and what the user should hear.
pub(super) fn read(line: &CommandLine) -> Result<(Vec<Flash>, Option<String>), MachineError> {
    for name in ["pflash0", "pflash1"] {
        if line.machine.properties.text(name).is_some() {
            return Err(MachineError::Device {
                location: format!("-machine {name}"),
                problem: "nodes of -blockdev are not part of this version of Cloister; give the image with \
                          -drive if=pflash,format=raw,unit=0,readonly=on,file=FILE, or with -bios FILE"
                    .into(),
            });
        }
    }
    let mut drives: Vec<&Drive> =
        line.drives.iter().filter(|drive| drive.interface == DriveInterface::Pflash).collect();
    drives.sort_by_key(|drive| drive.index);
    if let Some(first) = drives.first() {
        if first.index != Some(0) {
            return Err(FlashError::FirstMissing.into());
        }
        if let Some(drive) = drives.iter().find(|drive| drive.index.is_some_and(|unit| unit > 1)) {
            let unit = drive.index.unwrap_or_default();
            let problem = format!("machine type does not support if=pflash,bus=0,unit={unit}");
            return Err(MachineError::Device { location: drive.location.to_string(), problem });
        }
        if line.bios.is_some() {
            return Err(MachineError::Device {
                location: "-bios".into(),
                problem: "the firmware is in flash already (-drive if=pflash); give one of them".into(),
            });
        }
        let limit = line.machine.properties.number("max-fw-size").unwrap_or(8 << 20);
        let units = drives.into_iter().map(unit).collect::<Result<_, _>>()?;
        return Ok((Flash::units(units, limit)?, None));
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
            Ok((vec![Flash::bios(path, bytes)?], None))
        }
        None => {
            let said = "no firmware was given (-bios, -drive if=pflash): the guest gets a stand-in that halts, with \
                        the tables of a SEV firmware";
            Ok((vec![Flash::bios(DEFAULT_BIOS.into(), stand_in())?], Some(said.into())))
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

fn unit(drive: &Drive) -> Result<(String, Vec<u8>), MachineError> {
    let path = drive.file.as_deref().unwrap_or(Path::new(""));
    let name = drive.id.clone().unwrap_or_else(|| format!("pflash{}", drive.index.unwrap_or_default()));
    let bytes = match drive.format {
        None | Some(DriveFormat::Raw) => {
            let load = |source| MachineError::Load { what: "firmware", path: path.to_owned(), source };
            file(path).map_err(load)?
        }
        Some(DriveFormat::Qcow2) => {
            let options = DiskOptions { format: Some("qcow2".into()), read_only: true, snapshot: false };
            let mut disk = open_disk(path, &options)?;
            let size = disk.size().min(LIMIT);
            let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
            let load = |source| MachineError::Load { what: "firmware", path: path.to_owned(), source };
            disk.read_at(0, &mut bytes).map_err(load)?;
            bytes
        }
    };
    Ok((name, bytes))
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
