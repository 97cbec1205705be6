//! The address-space reservation behind a guest's storage, and the small files shared with the other world.
//!
//! It only makes and unmakes mappings; access to them is in `ram`.

use std::ffi::c_void;
use std::os::fd::OwnedFd;
use std::ptr::{NonNull, null_mut};
use std::sync::Mutex;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use crate::PAGE_SIZE;

/// A mapped region that lives until dropped.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    /// Stands in for a 16-byte compare-and-swap on hosts that have none.
    pub(crate) wide: Mutex<()>,
}

// SAFETY: the region is owned by this value alone and has no thread affinity; all access to its bytes goes
// through `Ram` or `AtomicU8`, which allow concurrent use.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` gives out an address and a length and nothing else.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// The host half followed by the secure half, each of `size` bytes, and the file of the host half.
    pub(crate) fn two_halves(size: usize) -> Result<(Self, OwnedFd), (&'static str, Errno)> {
        let file = sealed_file("cloister-host-half", size)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe { mmap_anonymous(null_mut(), 2 * size, READ_WRITE, flags) }
            .map_err(|error| ("reserve address space", error))?;
        let mapping = Self::own(base, 2 * size);
        let fixed = MapFlags::SHARED | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: replaces the first half of the reservation made above, which nobody else knows yet.
        unsafe { mmap(base, size, READ_WRITE, fixed, &file, 0) }
            .map_err(|error| ("map the host half", error))?;
        // The secure half is plaintext: neither core dumps nor forked children get it.
        for advice in [Advice::LinuxDontDump, Advice::LinuxDontFork] {
            // SAFETY: the range is the second half of the reservation; both advices leave its content alone.
            unsafe { madvise(mapping.base.as_ptr().add(size).cast(), size, advice) }
                .map_err(|error| ("protect the secure half", error))?;
        }
        Ok((mapping, file))
    }

    /// One byte per page, writable here and nowhere else.
    pub(crate) fn access_map(pages: usize) -> Result<(Self, OwnedFd), (&'static str, Errno)> {
        let len = pages.next_multiple_of(PAGE_SIZE);
        let file = sealed_file("cloister-access-map", len)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe { mmap(null_mut(), len, READ_WRITE, MapFlags::SHARED, &file, 0) }
            .map_err(|error| ("map the access map", error))?;
        let mapping = Self::own(base, len);
        fcntl_add_seals(&file, SealFlags::FUTURE_WRITE | SealFlags::SEAL)
            .map_err(|error| ("seal the access map", error))?;
        Ok((mapping, file))
    }

    /// Makes a page of the secure half zero by giving its memory back; false if that did not work.
    pub(crate) fn release(&self, offset: usize) -> bool {
        let secure = self.len / 2..self.len;
        if !secure.contains(&offset) || !offset.is_multiple_of(PAGE_SIZE) {
            return false;
        }
        // SAFETY: the page lies in the secure half, which is private and anonymous, so that it reads as zero
        // afterwards; no Rust reference to guest bytes exists.
        unsafe { madvise(self.base.as_ptr().add(offset).cast(), PAGE_SIZE, Advice::LinuxDontNeed) }.is_ok()
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn own(base: *mut c_void, len: usize) -> Self {
        let base = NonNull::new(base.cast()).expect("a successful mapping is not at address zero");
        Self { base, len, wide: Mutex::new(()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and len are those of the mapping that this value owns, and nobody holds an address
        // into it any more: `Ram` and `Storage` keep the value alive. A failure would only leak it.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// A file that can be neither shrunk nor grown: else its other holder could make our accesses fault.
fn sealed_file(name: &str, size: usize) -> Result<OwnedFd, (&'static str, Errno)> {
    let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|error| ("create a file in memory", error))?;
    ftruncate(&file, size as u64).map_err(|error| ("size a file in memory", error))?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)
        .map_err(|error| ("seal a file in memory", error))?;
    Ok(file)
}

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);
