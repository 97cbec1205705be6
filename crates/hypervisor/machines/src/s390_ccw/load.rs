//! Loading a kernel, its command line and its initial ramdisk (QEMU's load protocol for `-kernel` on s390x;
//! Linux, arch/s390/boot/head.S for the parameter area).

use crate::MachineError;
use cloister_formats::s390x::se_image::{self, Metadata};
use cloister_platform::HostMemory;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use vm_memory::{Bytes, GuestAddress};

/// Where Linux starts.
const LINUX_ENTRY: u64 = 0x10000;
/// Older kernels' other entry that QEMU also knows.
const OLD_LINUX_ENTRY: u64 = 0x800;
/// Parameter area: address and size of the initial ramdisk.
const INITRD_ADDR: u64 = 0x10408;
const INITRD_SIZE: u64 = 0x10410;
/// The lowest place for the initial ramdisk.
const INITRD_FLOOR: u64 = 0x80_0000;
const MIB: u64 = 1 << 20;

/// What is booted, kept in memory so that a re-IPL loads the same bytes.
pub(super) struct BootFiles {
    kernel: Vec<u8>,
    kernel_path: PathBuf,
    initrd: Option<Vec<u8>>,
    initrd_path: PathBuf,
    append: Option<String>,
}

impl BootFiles {
    pub(super) fn read(
        kernel: &Path,
        initrd: Option<&Path>,
        append: Option<String>,
        memory: u64,
    ) -> Result<Self, MachineError> {
        let bytes = read("kernel", kernel, memory)?;
        if bytes.starts_with(b"\x7fELF") {
            return Err(MachineError::Unfit {
                what: "kernel",
                path: kernel.to_owned(),
                problem: "it is an ELF file; give the raw image (arch/s390/boot/bzImage, vmlinuz)".into(),
            });
        }
        if bytes.len() < 8 {
            return Err(MachineError::Unfit {
                what: "kernel",
                path: kernel.to_owned(),
                problem: format!("it has {} bytes and cannot hold an initial PSW", bytes.len()),
            });
        }
        Ok(Self {
            kernel: bytes,
            kernel_path: kernel.to_owned(),
            initrd: initrd.map(|path| read("initrd", path, memory)).transpose()?,
            initrd_path: initrd.map(Path::to_owned).unwrap_or_default(),
            append,
        })
    }

    /// Whether the image is encrypted for Secure Execution.
    pub(super) fn is_protected(&self) -> bool {
        let at = se_image::METADATA_ADDR as usize;
        self.kernel.get(at..).is_some_and(|bytes| bytes.starts_with(Metadata::MAGIC))
    }

    pub(super) fn has_initrd(&self) -> bool {
        self.initrd.is_some()
    }

    pub(super) fn has_append(&self) -> bool {
        self.append.as_deref().is_some_and(|append| !append.is_empty())
    }

    /// Writes everything into guest memory; the entry address.
    pub(super) fn load(&self, memory: &HostMemory) -> Result<u64, MachineError> {
        if self.kernel.len() as u64 > memory.size() {
            return Err(self.too_large("kernel", &self.kernel_path, memory));
        }
        write(memory, 0, &self.kernel)?;
        let entry = self.entry();
        if entry == LINUX_ENTRY || entry == OLD_LINUX_ENTRY {
            self.load_command_line(memory)?;
        }
        if let Some(initrd) = &self.initrd {
            let kernel_end = self.kernel.len() as u64 + MIB;
            let at = INITRD_FLOOR.max(kernel_end.next_multiple_of(MIB));
            if at.saturating_add(initrd.len() as u64) > memory.size() {
                return Err(self.too_large("initrd", &self.initrd_path, memory));
            }
            write(memory, at, initrd)?;
            write(memory, INITRD_ADDR, &at.to_be_bytes())?;
            write(memory, INITRD_SIZE, &(initrd.len() as u64).to_be_bytes())?;
        }
        Ok(entry)
    }

    fn entry(&self) -> u64 {
        let magic = se_image::KERNEL_MAGIC_ADDR as usize;
        if self.kernel.get(magic..).is_some_and(|bytes| bytes.starts_with(se_image::KERNEL_MAGIC)) {
            return LINUX_ENTRY;
        }
        let word = [self.kernel[4], self.kernel[5], self.kernel[6], self.kernel[7]];
        u64::from(u32::from_be_bytes(word) & 0x7fff_ffff)
    }

    fn load_command_line(&self, memory: &HostMemory) -> Result<(), MachineError> {
        let Some(append) = &self.append else { return Ok(()) };
        let at = se_image::KERNEL_CMDLINE_LIMIT_ADDR as usize;
        let limit = match self.kernel.get(at..at + 8) {
            Some(bytes) => bytes.iter().fold(0, |acc, &b| acc << 8 | u64::from(b)),
            None => 0,
        };
        let limit = if limit == 0 { se_image::DEFAULT_CMDLINE_SIZE } else { limit };
        let size = append.len() as u64 + 1;
        if size > limit {
            return Err(MachineError::CommandLine { size, limit });
        }
        write(memory, se_image::KERNEL_CMDLINE_ADDR, append.as_bytes())?;
        write(memory, se_image::KERNEL_CMDLINE_ADDR + append.len() as u64, &[0])
    }

    fn too_large(&self, what: &'static str, path: &Path, memory: &HostMemory) -> MachineError {
        MachineError::Unfit {
            what,
            path: path.to_owned(),
            problem: format!(
                "it does not fit into {} MiB of guest memory; give more with -m",
                memory.size() >> 20
            ),
        }
    }
}

pub(super) fn read(what: &'static str, path: &Path, limit: u64) -> Result<Vec<u8>, MachineError> {
    let fail = |source| MachineError::Load { what, path: path.to_owned(), source };
    let mut file = File::open(path).map_err(fail)?;
    if file.metadata().map_err(fail)?.is_dir() {
        return Err(fail(std::io::Error::from(std::io::ErrorKind::IsADirectory)));
    }
    let mut bytes = Vec::new();
    // A device file without end must not fill the host's memory.
    file.by_ref().take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(fail)?;
    Ok(bytes)
}

pub(super) fn write(memory: &HostMemory, address: u64, bytes: &[u8]) -> Result<(), MachineError> {
    memory
        .write_slice(bytes, GuestAddress(address))
        .map_err(|source| MachineError::Memory { address, source })
}
