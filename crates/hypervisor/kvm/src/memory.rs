//! Guest memory of this process: a file in memory that the machine maps too, and the map of what the host may touch.
//!
//! It is all accessible: the host may touch encrypted memory and finds ciphertext. Slots are the VM's.

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use vm_memory::mmap::{MmapRegion, MmapRegionBuilder};
use vm_memory::{FileOffset, VolatileMemory, VolatileSlice};

const PAGE: u64 = 4096;

/// The backing store of a guest, mapped as a whole.
#[derive(Debug)]
pub struct GuestMapping {
    file: File,
    access: File,
    region: MmapRegion,
}

impl GuestMapping {
    /// So many bytes of zero, a multiple of the page size.
    pub fn new(bytes: u64) -> io::Result<Self> {
        let file = sealed("cloister-guest", bytes)?;
        // A byte of zero a page: nothing to ask for.
        let access = sealed("cloister-access", bytes / PAGE)?;
        let size = usize::try_from(bytes).map_err(io::Error::other)?;
        let region = MmapRegionBuilder::new(size)
            .with_file_offset(FileOffset::new(file.try_clone()?, 0))
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_NORESERVE | libc::MAP_SHARED)
            .build()
            .map_err(io::Error::other)?;
        Ok(Self { file, access, region })
    }

    /// The file with the bytes.
    pub fn memory_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// The file with the access map.
    pub fn access_fd(&self) -> RawFd {
        self.access.as_raw_fd()
    }

    /// A part of it, if there is that much.
    pub fn slice(&self, offset: u64, length: u64) -> Option<VolatileSlice<'_>> {
        self.region.get_slice(usize::try_from(offset).ok()?, usize::try_from(length).ok()?).ok()
    }
}

/// A file that can be neither shrunk nor grown: else its other holder could make accesses fault.
fn sealed(name: &str, size: u64) -> io::Result<File> {
    let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, size)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(file.into())
}
