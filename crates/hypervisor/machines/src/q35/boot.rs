//! A kernel, its ramdisk and command line as fw_cfg gives them to the firmware.
//!
//! Linux, Documentation/arch/x86/boot.rst: the file begins with a boot sector and setup code; the rest is the kernel.
//! For a guest whose launch is measured nothing is patched, so that what is measured is the owner's file.

use crate::MachineError;
use cloister_cgs::KernelImage;
use cloister_devices::fw_cfg::{FwCfg, key};
use cloister_options::CommandLine;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where parts of the boot protocol go.
const REAL_MODE: u32 = 0x1_0000;
const COMMAND_LINE: u32 = 0x2_0000;
const PROTECTED_MODE: u32 = 0x10_0000;
/// Highest address of a ramdisk that old kernels accept.
const OLD_INITRD_MAX: u32 = 0x37ff_ffff;
/// Kept free for tables of the firmware at the end of memory.
const ACPI_DATA: u32 = 0x2_8000;
/// Most bytes of a file that are read.
const LIMIT: u64 = 4 << 30;

/// What is booted.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    setup: Vec<u8>,
    kernel: Vec<u8>,
    initrd: Vec<u8>,
    cmdline: String,
    protocol: u16,
    initrd_address: u32,
}

impl Kernel {
    /// Reads what the command line names; `low` is memory below 4 GiB.
    pub(super) fn read(line: &CommandLine, low: u64) -> Result<Option<Self>, MachineError> {
        let Some(path) = &line.kernel else { return Ok(None) };
        let bytes = file("kernel", path)?;
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let word = |at: usize| u32::from_le_bytes([byte(at), byte(at + 1), byte(at + 2), byte(at + 3)]);
        let linux = bytes.get(0x202..0x206) == Some(b"HdrS");
        let protocol = if linux { u16::from_le_bytes([byte(0x206), byte(0x207)]) } else { 0 };
        // A count of zero is one of four, for history's sake.
        let sectors = match byte(0x1f1) {
            0 => 4,
            sectors => usize::from(sectors),
        };
        let setup_size = (sectors + 1) * 512;
        if setup_size > bytes.len() {
            return Err(MachineError::Unfit {
                what: "kernel",
                path: path.clone(),
                problem: "qemu: invalid kernel header: the file is shorter than its setup part says".into(),
            });
        }
        let highest = match protocol {
            0x203.. => word(0x22c),
            _ => OLD_INITRD_MAX,
        };
        let below = u32::try_from(low).unwrap_or(u32::MAX).saturating_sub(ACPI_DATA + 1);
        let highest = if protocol >= 0x20c && word(0x236) & 2 != 0 { below } else { highest.min(below) };
        let (mut initrd, mut initrd_address) = (Vec::new(), 0);
        if let Some(path) = &line.initrd {
            initrd = file("initrd", path)?;
            let size = u32::try_from(initrd.len()).ok().filter(|size| *size < highest);
            let size = size.ok_or_else(|| MachineError::Unfit {
                what: "initrd",
                path: path.clone(),
                problem: format!(
                    "qemu: initrd is too large, cannot support.(max: {highest}, need {})\ngive the guest more \
                     memory with -m",
                    initrd.len()
                ),
            })?;
            initrd_address = (highest - size) & !0xfff;
        }
        let kernel = bytes.get(setup_size..).unwrap_or_default().to_vec();
        let mut setup = bytes;
        setup.truncate(setup_size);
        let cmdline = line.append.clone().unwrap_or_default();
        Ok(Some(Self { setup, kernel, initrd, cmdline, protocol, initrd_address }))
    }

    /// What is measured.
    pub(super) fn image(&self) -> KernelImage<'_> {
        KernelImage {
            setup: &self.setup,
            kernel: &self.kernel,
            initrd: &self.initrd,
            cmdline: self.cmdline.as_bytes(),
        }
    }

    /// Fills in the header what a boot loader tells the kernel; never for a guest whose launch is measured.
    pub(super) fn patch(&mut self) {
        let (protocol, address, size) = (self.protocol, self.initrd_address, self.initrd.len() as u32);
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = self.setup.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        if protocol >= 0x200 {
            // The type of boot loader that QEMU has, version 0.
            put(0x210, &[0xb0]);
        }
        if protocol >= 0x202 {
            put(0x228, &COMMAND_LINE.to_le_bytes());
        } else {
            put(0x20, &0xa33fu16.to_le_bytes());
            put(0x22, &((COMMAND_LINE - REAL_MODE) as u16).to_le_bytes());
        }
        if size > 0 && protocol >= 0x200 {
            put(0x218, &address.to_le_bytes());
            put(0x21c, &size.to_le_bytes());
        }
        if protocol >= 0x201 {
            put(0x224, &((COMMAND_LINE - REAL_MODE - 0x200) as u16).to_le_bytes());
            if let Some(flags) = self.setup.get_mut(0x211) {
                *flags |= 0x80;
            }
        }
    }

    /// Puts everything where the firmware finds it.
    pub(super) fn load(&self, device: &mut FwCfg) {
        let mut cmdline = self.cmdline.clone().into_bytes();
        cmdline.push(0);
        device.set_u32(key::CMDLINE_ADDR, COMMAND_LINE);
        device.set_u32(key::CMDLINE_SIZE, cmdline.len() as u32);
        device.set(key::CMDLINE_DATA, cmdline);
        device.set_u32(key::KERNEL_ADDR, PROTECTED_MODE);
        device.set_u32(key::KERNEL_SIZE, self.kernel.len() as u32);
        device.set(key::KERNEL_DATA, self.kernel.clone());
        device.set_u32(key::SETUP_ADDR, REAL_MODE);
        device.set_u32(key::SETUP_SIZE, self.setup.len() as u32);
        device.set(key::SETUP_DATA, self.setup.clone());
        if !self.initrd.is_empty() {
            device.set_u32(key::INITRD_ADDR, self.initrd_address);
            device.set_u32(key::INITRD_SIZE, self.initrd.len() as u32);
            device.set(key::INITRD_DATA, self.initrd.clone());
        }
    }
}

fn file(what: &'static str, path: &Path) -> Result<Vec<u8>, MachineError> {
    let fail = |source| MachineError::Load { what, path: PathBuf::from(path), source };
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(fail)?.take(LIMIT).read_to_end(&mut bytes).map_err(fail)?;
    Ok(bytes)
}
