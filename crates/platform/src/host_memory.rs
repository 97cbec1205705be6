//! Guest memory as the host may see it: what devices do DMA on.
//!
//! The mapping is the host half of guest storage, made from the memfd that came through the door. Before
//! a page that the access map forbids is touched, the door is asked, as a real host takes a secure storage
//! access exception: the page then holds ciphertext (an export), or the access fails. After a write to a
//! page with decoded code the door is told.

use crate::{Door, MemoryMap, Request, Response, access};
use std::fs::{File, OpenOptions};
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use vm_memory::bitmap::{Bitmap, BitmapSlice, WithBitmapSlice};
use vm_memory::guest_memory::{Error as MemoryError, GuestMemoryBackend, GuestMemorySliceIterator};
use vm_memory::mmap::{MmapRegion, MmapRegionBuilder};
use vm_memory::{
    FileOffset, GuestAddress, GuestMemory, GuestMemoryMmap, GuestRegionMmap, Permissions, VolatileMemory,
};

/// Bytes in a page.
const PAGE: u64 = 4096;

/// A region of host memory.
pub type HostRegion = GuestRegionMmap<HostBitmap>;

/// Guest memory as the host may see it. Cheap to clone.
#[derive(Clone)]
pub struct HostMemory {
    inner: GuestMemoryMmap<HostBitmap>,
    watch: Arc<Watch>,
}

struct Watch {
    door: Arc<dyn Door>,
    map: MmapRegion,
    size: u64,
    observer: OnceLock<WriteObserver>,
}

/// Is told the guest address and the length of every host write, when it is done. Audits use it.
pub type WriteObserver = Box<dyn Fn(u64, usize) + Send + Sync>;

impl Watch {
    fn bits(&self, page: u64) -> u8 {
        let Ok(page) = usize::try_from(page) else { return access::ASK };
        self.map.get_atomic_ref::<AtomicU8>(page).map_or(access::ASK, |bits| bits.load(Ordering::Acquire))
    }

    fn pages(&self, address: u64, len: usize) -> std::ops::Range<u64> {
        let end = address.saturating_add(len as u64).min(self.size);
        address / PAGE..end.div_ceil(PAGE)
    }

    /// Asks for every page that needs it. False: the access is refused.
    fn permit(&self, address: u64, len: usize, write: bool) -> bool {
        for page in self.pages(address, len) {
            if self.bits(page) & access::ASK != 0 {
                let request = Request::HostAccess { page, count: 1, write };
                if !matches!(self.door.call(request), Response::Done) {
                    return false;
                }
            }
        }
        true
    }

    fn wrote(&self, address: u64, len: usize) {
        if let Some(observer) = self.observer.get() {
            observer(address, len);
        }
        for page in self.pages(address, len) {
            if self.bits(page) & access::CODE != 0 {
                let start = address.max(page * PAGE);
                let end = address.saturating_add(len as u64).min((page + 1) * PAGE);
                self.door.call(Request::HostWrote { address: start, len: end - start });
            }
        }
    }
}

impl HostMemory {
    pub(crate) fn map(map: MemoryMap, door: Arc<dyn Door>) -> io::Result<Self> {
        let size = usize::try_from(map.size).map_err(io::Error::other)?;
        let pages = size / PAGE as usize;
        let access = region(map.access_fd, pages, (), false)?;
        let watch = Arc::new(Watch { door, map: access, size: map.size, observer: OnceLock::new() });
        let bitmap = HostBitmap { watch: Some(Arc::clone(&watch)) };
        let memory = region(map.memory_fd, size, bitmap, true)?;
        let region = GuestRegionMmap::new(memory, GuestAddress(0))
            .ok_or_else(|| io::Error::other("guest memory wraps around the address space"))?;
        let inner = GuestMemoryMmap::from_regions(vec![region]).map_err(io::Error::other)?;
        Ok(Self { inner, watch })
    }

    /// Bytes of guest storage.
    pub fn size(&self) -> u64 {
        self.watch.size
    }

    /// Whether the host may touch the page without asking.
    pub fn is_accessible(&self, page: u64) -> bool {
        page < self.watch.size / PAGE && self.watch.bits(page) & access::ASK == 0
    }

    /// Installs the observer of host writes; false if there is one already.
    pub fn observe_writes(&self, observer: WriteObserver) -> bool {
        self.watch.observer.set(observer).is_ok()
    }

    /// The bytes of the host's half as they stand, asking nobody: what a curious host would find. Converts
    /// nothing, and a page that nobody has touched stays without memory, as it is read as a file.
    pub fn peek(&self, address: u64, to: &mut [u8]) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        let region = self.inner.iter().next().ok_or_else(|| io::Error::other("no memory"))?;
        let file = region.file_offset().ok_or_else(|| io::Error::other("memory without a file"))?;
        file.file().read_exact_at(to, address)
    }

    /// Makes all of it zero and gives the memory back to the host. For a guest without private pages that
    /// starts anew.
    pub fn clear(&self) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        let region = self.inner.iter().next().ok_or_else(|| io::Error::other("no memory"))?;
        let file = region.file_offset().ok_or_else(|| io::Error::other("memory without a file"))?;
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(file.file(), hole, 0, self.watch.size)?;
        self.watch.wrote(0, usize::try_from(self.watch.size).map_err(io::Error::other)?);
        Ok(())
    }
}

impl GuestMemory for HostMemory {
    type PhysicalMemory = GuestMemoryMmap<HostBitmap>;
    type Bitmap = HostBitmap;

    fn check_range(&self, addr: GuestAddress, count: usize, _access: Permissions) -> bool {
        // Only the existence of the range: the question itself must not export pages.
        GuestMemoryBackend::check_range(&self.inner, addr, count)
    }

    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, HostBitmapSlice<'a>>, MemoryError> {
        let write = access == Permissions::Write || access == Permissions::ReadWrite;
        if !self.watch.permit(addr.0, count, write) {
            return Err(MemoryError::InvalidGuestAddress(addr));
        }
        Ok(GuestMemoryBackend::get_slices(&self.inner, addr, count))
    }
}

fn region<B: Bitmap>(fd: i32, size: usize, bitmap: B, write: bool) -> io::Result<MmapRegion<B>> {
    // Opening through /proc gives an own descriptor without touching the other world's.
    let file: File = OpenOptions::new().read(true).write(write).open(format!("/proc/self/fd/{fd}"))?;
    let protection = if write { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
    MmapRegionBuilder::new_with_bitmap(size, bitmap)
        .with_file_offset(FileOffset::new(file, 0))
        .with_mmap_prot(protection)
        .with_mmap_flags(libc::MAP_NORESERVE | libc::MAP_SHARED)
        .build()
        .map_err(io::Error::other)
}

/// Notices the end of a host write, through vm-memory's dirty bitmap hook.
#[derive(Clone, Default)]
pub struct HostBitmap {
    watch: Option<Arc<Watch>>,
}

/// A [`HostBitmap`] from some offset on.
#[derive(Clone, Copy)]
pub struct HostBitmapSlice<'a> {
    watch: Option<&'a Watch>,
    offset: usize,
}

impl<'a> WithBitmapSlice<'a> for HostBitmap {
    type S = HostBitmapSlice<'a>;
}

impl Bitmap for HostBitmap {
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.slice_at(0).mark_dirty(offset, len);
    }

    fn dirty_at(&self, _offset: usize) -> bool {
        false
    }

    fn slice_at(&self, offset: usize) -> HostBitmapSlice<'_> {
        HostBitmapSlice { watch: self.watch.as_deref(), offset }
    }
}

impl WithBitmapSlice<'_> for HostBitmapSlice<'_> {
    type S = Self;
}

impl BitmapSlice for HostBitmapSlice<'_> {}

impl Bitmap for HostBitmapSlice<'_> {
    fn mark_dirty(&self, offset: usize, len: usize) {
        if let Some(watch) = self.watch {
            watch.wrote((self.offset + offset) as u64, len);
        }
    }

    fn dirty_at(&self, _offset: usize) -> bool {
        false
    }

    fn slice_at(&self, offset: usize) -> Self {
        Self { watch: self.watch, offset: self.offset + offset }
    }
}

impl std::fmt::Debug for HostBitmap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostBitmap")
    }
}

impl std::fmt::Debug for HostBitmapSlice<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostBitmapSlice(+{})", self.offset)
    }
}

impl std::fmt::Debug for HostMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostMemory({} bytes)", self.watch.size)
    }
}
