//! The boot loader that QEMU brings for this machine (`s390-ccw.img`), and what it is told.
//!
//! It is found and loaded unmodified, as QEMU does; reading disks is its own work. Where it is told to boot from is
//! decided here: the device with the lowest `bootindex=`, or the block that a guest set.

use super::{S390Ccw, ipl, load};
use crate::MachineError;
use cloister_control::DeviceInfo;
use cloister_devices::css::DeviceNumber;
use cloister_formats::s390x::firmware::{self, Firmware};
use cloister_formats::s390x::ipl_block::{IplBlock, IplKind};
use cloister_options::{Boot, CommandLine};
use cloister_platform::HostMemory;
use std::path::{Path, PathBuf};

/// The name that it is looked for.
const NAME: &str = "s390-ccw.img";
/// Where distributions and QEMU itself install it, behind the folders of `-L`.
const FOLDERS: [&str; 3] = ["/usr/share/qemu", "/usr/local/share/qemu", "/usr/share/qemu-firmware"];
/// It lies this far below the end of memory or 2 GiB, at a multiple of 64 KiB (measured with QEMU 7.2).
const ROOM: u64 = 2 << 20;
const HIGHEST: u64 = 2 << 30;
const ALIGNMENT: u64 = 64 << 10;

/// The record for the boot loader at absolute 0xcc: a byte of flags, three reserved bytes, the address of a network
/// boot loader, the menu's time-out in milliseconds, eight reserved bytes (QEMU, "QIPL").
const RECORD_ADDR: u64 = 0xcc;
const RECORD_SIZE: usize = 28;
/// Show a menu as the command line says.
const MENU_COMMAND_LINE: u8 = 0x80;
/// Show a menu as the disk says.
const MENU_DISK: u8 = 0x40;

/// The boot loader, kept in memory so that each IPL loads the same bytes.
pub(super) struct Loader {
    firmware: Firmware,
    base: u64,
}

/// What a disk boot needs of the command line.
pub(super) struct DiskBoot {
    /// Without a kernel always; with one only if there is a loader.
    pub(super) loader: Option<Loader>,
    pub(super) boot: Boot,
    /// `-machine loadparm=`.
    pub(super) loadparm: Option<String>,
}

impl DiskBoot {
    /// Finds the loader. With a kernel it may be missing, if nobody named it.
    pub(super) fn read(line: &CommandLine, memory: u64) -> Result<Self, MachineError> {
        let loader = match Loader::find(line, memory) {
            Err(_) if line.kernel.is_some() && line.bios.is_none() => None,
            found => Some(found?),
        };
        Ok(Self { loader, boot: line.boot.clone(), loadparm: line.machine.loadparm.clone() })
    }

    /// What a user should hear who asks for a menu.
    pub(super) fn warnings(&self, line: &CommandLine) -> Vec<String> {
        let mut warnings = Vec::new();
        if line.kernel.is_none() && self.boot.menu == Some(true) {
            if !line
                .devices
                .iter()
                .any(|device| device.properties.iter().any(|(name, _)| name == "bootindex"))
            {
                warnings.push("boot menu requires a bootindex to be specified for the IPL device".into());
            }
            if self.boot.splash_time.is_some_and(|time| time > u32::MAX.into()) {
                warnings.push("splash-time is too large, forcing it to max value".into());
            }
        }
        warnings
    }

    /// The record for the loader. Without a device that was named there is no menu.
    fn record(&self, named: bool) -> [u8; RECORD_SIZE] {
        let mut record = [0; RECORD_SIZE];
        if named {
            match self.boot.menu {
                None => record[0] = MENU_DISK,
                Some(false) => {}
                Some(true) => {
                    record[0] = MENU_COMMAND_LINE;
                    let time = self.boot.splash_time.unwrap_or(0).min(u32::MAX.into()) as u32;
                    record[12..16].copy_from_slice(&time.to_be_bytes());
                }
            }
        }
        record
    }

    /// The block of the device with the lowest `bootindex=`.
    fn block(&self, devices: &[DeviceInfo]) -> Option<Vec<u8>> {
        let property = |device: &'_ DeviceInfo, name: &str| {
            device.properties.iter().find(|property| property.name == name).map(|found| found.value.clone())
        };
        let number = |device: &DeviceInfo| device.address.as_deref()?.parse::<DeviceNumber>().ok();
        let (_, device, number) = devices
            .iter()
            .filter_map(|device| Some((property(device, "bootindex")?.as_i64()?, device, number(device)?)))
            .filter(|(index, ..)| *index >= 0)
            .min_by_key(|(index, ..)| *index)?;
        // A device's own load parameter goes before the machine's.
        let own = property(device, "loadparm").and_then(|value| value.as_str().map(str::to_owned));
        let text = own.or_else(|| self.loadparm.clone()).unwrap_or_default();
        let kind = IplKind::Ccw { ssid: number.ssid, devno: number.devno };
        Some(IplBlock { header_flags: 0, loadparm: Some(ipl::loadparm(&text)), kind }.encode())
    }
}

impl Loader {
    fn find(line: &CommandLine, memory: u64) -> Result<Self, MachineError> {
        let name = line.bios.as_deref().unwrap_or(Path::new(NAME));
        let path = search(name, &line.firmware_folders)
            .ok_or_else(|| MachineError::NoBootLoader { name: name.to_owned() })?;
        let bytes = load::read("bootloader", &path, firmware::MAX_SIZE)?;
        let unfit = |problem: String| MachineError::Unfit { what: "bootloader", path: path.clone(), problem };
        let firmware = Firmware::parse(&bytes).map_err(|why| unfit(why.to_string()))?;
        let room = ROOM.max(firmware.size());
        let base = memory.min(HIGHEST).checked_sub(room).map(|base| base & !(ALIGNMENT - 1));
        let base = base.filter(|base| *base > 0).ok_or_else(|| {
            unfit(format!("it does not fit into {} MiB of guest memory; give more with -m", memory >> 20))
        })?;
        Ok(Self { firmware, base })
    }

    fn load(&self, memory: &HostMemory) -> Result<u64, MachineError> {
        load::write(memory, self.base, &self.firmware.place(self.base))?;
        Ok(self.firmware.entry(self.base))
    }
}

impl S390Ccw {
    /// Puts in place what the machine starts with, in memory that was cleared, and starts the first CPU: the kernel of
    /// `-kernel`, unless the guest has chosen another device, or the boot loader.
    pub(super) fn boot(&self) -> Result<(), MachineError> {
        let memory = self.vm.memory();
        let entry = match &self.boot {
            Some(files) if self.ipl().block().is_none() => files.load(memory)?,
            _ => {
                let missing = || MachineError::NoBootLoader { name: PathBuf::from(NAME) };
                let loader = self.disk_boot.loader.as_ref().ok_or_else(missing)?;
                let entry = loader.load(memory)?;
                let devices: Vec<DeviceInfo> =
                    self.attached().iter().map(|attached| attached.info.clone()).collect();
                let first = self.disk_boot.block(&devices);
                load::write(memory, RECORD_ADDR, &self.disk_boot.record(first.is_some()))?;
                self.ipl().begin(first);
                entry
            }
        };
        ipl::start(&self.vm, 0, entry)
    }
}

/// A file as named, or in one of the folders.
fn search(name: &Path, folders: &[PathBuf]) -> Option<PathBuf> {
    let usable = |path: &PathBuf| rustix::fs::access(path, rustix::fs::Access::READ_OK).is_ok();
    let named = Some(name.to_owned()).filter(|_| name != Path::new(NAME));
    let usual = FOLDERS.iter().map(Path::new);
    let in_folders = folders.iter().map(PathBuf::as_path).chain(usual).map(|folder| folder.join(name));
    named.into_iter().chain(in_folders).find(usable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_control::Property;
    use serde_json::json;

    fn disk_boot(menu: Option<bool>, splash_time: Option<u64>) -> DiskBoot {
        let boot = Boot { menu, splash_time, ..Boot::default() };
        DiskBoot { loader: None, boot, loadparm: Some("ab1".into()) }
    }

    fn device(address: &str, properties: &[(&str, serde_json::Value)]) -> DeviceInfo {
        let property = |(name, value): &(&str, serde_json::Value)| Property {
            name: (*name).into(),
            kind: "any".into(),
            value: value.clone(),
        };
        DeviceInfo {
            id: None,
            driver: "virtio-blk-ccw".into(),
            qom_path: String::new(),
            address: Some(address.into()),
            bus: None,
            properties: properties.iter().map(property).collect(),
            buses: Vec::new(),
        }
    }

    #[test]
    fn the_record_for_the_loader_is_the_one_of_qemu_7_2() {
        let record = |menu, time, named| disk_boot(menu, time).record(named);
        assert_eq!(record(None, Some(7), true)[0], 0x40);
        assert_eq!(record(Some(false), None, true), [0; RECORD_SIZE]);
        assert_eq!(record(Some(true), Some(5), false), [0; RECORD_SIZE]);
        let mut menu = [0; RECORD_SIZE];
        (menu[0], menu[14], menu[15]) = (0x80, 0x13, 0x88);
        assert_eq!(record(Some(true), Some(5000), true), menu);
        assert_eq!(record(Some(true), Some(9_999_999_999), true)[12..16], [0xff; 4]);
    }

    #[test]
    fn the_lowest_boot_index_decides_and_its_load_parameter_goes_before_the_machine_s() {
        let boot = disk_boot(None, None);
        let devices = [
            device("fe.0.0000", &[]),
            device("fe.0.0001", &[("bootindex", json!(2))]),
            device("fe.2.1234", &[("bootindex", json!(1)), ("loadparm", json!("2"))]),
            device("fe.0.0003", &[("bootindex", json!(-1))]),
        ];
        assert_eq!(boot.block(&devices[..1]), None);
        let parsed = |devices| IplBlock::parse(&boot.block(devices).unwrap()).unwrap();
        let block = parsed(&devices);
        assert_eq!(block.kind, IplKind::Ccw { ssid: 2, devno: 0x1234 });
        assert_eq!(block.loadparm, Some([0xf2, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40]));
        let block = parsed(&devices[..2]);
        assert_eq!(block.kind, IplKind::Ccw { ssid: 0, devno: 1 });
        assert_eq!(block.loadparm, Some([0xc1, 0xc2, 0xf1, 0x40, 0x40, 0x40, 0x40, 0x40]));
    }
}
