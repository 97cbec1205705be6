//! Guest memory as the host may see it: what devices do DMA on.
//!
//! The mapping is the host half of guest storage, made from the memfd that came through the door. Before
//! a page that the access map forbids is touched, the door is asked, as a real host takes a secure storage
//! access exception: the page then holds ciphertext (an export), or the access fails. After a write to a
//! page with decoded code the door is told.
//!
//! An x86-64 machine sees the store through a table of slots; the access map goes by the store's pages. All
//! of it is mapped for writing, as the machine itself fills flash; devices are kept from a read-only slot by
//! the permission that they ask for.

use crate::{Door, MemoryMap, Request, Response, access};
use cloister_arch::x86_64::{PAGE_SIZE as PAGE, Slot, check_slots, runs};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use vm_memory::bitmap::{Bitmap, BitmapSlice, WithBitmapSlice};
use vm_memory::guest_memory::{Error as MemoryError, GuestMemoryBackend, GuestMemorySliceIterator};
use vm_memory::mmap::{MmapRegion, MmapRegionBuilder};
use vm_memory::{
    FileOffset, GuestAddress, GuestMemory, GuestMemoryMmap, GuestRegionMmap, Permissions, VolatileMemory,
};

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
    file: File,
    /// Of the backing store.
    size: u64,
    /// In the order of their guest addresses, never empty.
    slots: Vec<Slot>,
    observer: OnceLock<WriteObserver>,
}

/// Is told the guest address and the length of every host write, when it is done. Audits use it.
pub type WriteObserver = Box<dyn Fn(u64, usize) + Send + Sync>;

impl Watch {
    fn bits(&self, page: u64) -> u8 {
        let Ok(page) = usize::try_from(page) else { return access::ASK };
        self.map.get_atomic_ref::<AtomicU8>(page).map_or(access::ASK, |bits| bits.load(Ordering::Acquire))
    }

    fn pages(&self, offset: u64, len: u64) -> std::ops::Range<u64> {
        let end = offset.saturating_add(len).min(self.size);
        offset / PAGE..end.div_ceil(PAGE)
    }

    /// Asks for every page of guest memory that needs it. False: the access is refused. Addresses behind no
    /// slot are not judged here.
    fn permit(&self, address: u64, len: usize, write: bool) -> bool {
        let end = address.saturating_add(len as u64);
        let mut at = address;
        while at < end {
            let Some((slot, offset)) = self.slots.iter().find_map(|slot| Some((slot, slot.backing(at)?)))
            else {
                return true;
            };
            let part = (slot.size - (at - slot.guest_physical)).min(end - at);
            if write && slot.read_only || !self.permit_backing(offset, part, write) {
                return false;
            }
            at += part;
        }
        true
    }

    fn permit_backing(&self, offset: u64, len: u64, write: bool) -> bool {
        for page in self.pages(offset, len) {
            if self.bits(page) & access::ASK != 0 {
                let request = Request::HostAccess { page, count: 1, write };
                if !matches!(self.door.call(request), Response::Done) {
                    return false;
                }
            }
        }
        true
    }

    /// `offset` is in the backing store.
    fn wrote(&self, offset: u64, len: usize) {
        if let Some(observer) = self.observer.get() {
            let address = self.slots.iter().find_map(|slot| slot.guest(offset));
            observer(address.unwrap_or(offset), len);
        }
        let end = offset.saturating_add(len as u64);
        for page in self.pages(offset, len as u64) {
            if self.bits(page) & access::CODE != 0 {
                let start = offset.max(page * PAGE);
                let end = end.min((page + 1) * PAGE);
                self.door.call(Request::HostWrote { address: start, len: end - start });
            }
        }
    }

    /// Runs of the store behind guest memory.
    fn runs(&self, address: u64, len: usize) -> io::Result<Vec<(u64, usize)>> {
        let outside = || io::Error::other(format!("{address:#x}+{len:#x} is not all memory"));
        let runs = runs(&self.slots, address, len as u64).ok_or_else(outside)?;
        runs.into_iter()
            .map(|(offset, len)| Ok((offset, usize::try_from(len).map_err(io::Error::other)?)))
            .collect()
    }
}

impl HostMemory {
    pub(crate) fn map(map: MemoryMap, door: Arc<dyn Door>) -> io::Result<Self> {
        let size = usize::try_from(map.size).map_err(io::Error::other)?;
        let pages = size / PAGE as usize;
        let mut slots = map.slots;
        if slots.is_empty() {
            slots.push(Slot { guest_physical: 0, size: map.size, offset: 0, read_only: false });
        }
        check_slots(&slots, map.size).map_err(io::Error::other)?;
        slots.sort_unstable_by_key(|slot| slot.guest_physical);
        let access = region(&open(map.access_fd, false)?, 0, pages, (), false)?;
        let file = open(map.memory_fd, true)?;
        let watch = Watch { door, map: access, file, size: map.size, slots, observer: OnceLock::new() };
        let watch = Arc::new(watch);
        let mut regions = Vec::new();
        for slot in &watch.slots {
            let offset = usize::try_from(slot.offset).map_err(io::Error::other)?;
            let bitmap = HostBitmap { watch: Some(Arc::clone(&watch)), offset };
            let size = usize::try_from(slot.size).map_err(io::Error::other)?;
            let memory = region(&watch.file, slot.offset, size, bitmap, true)?;
            let region = GuestRegionMmap::new(memory, GuestAddress(slot.guest_physical))
                .ok_or_else(|| io::Error::other("guest memory wraps around the address space"))?;
            regions.push(region);
        }
        let inner = GuestMemoryMmap::from_regions(regions).map_err(io::Error::other)?;
        Ok(Self { inner, watch })
    }

    /// Bytes of guest storage where it is one piece; else of the backing store.
    pub fn size(&self) -> u64 {
        self.watch.size
    }

    /// Bytes of the backing store.
    pub fn backing_size(&self) -> u64 {
        self.watch.size
    }

    /// What the guest sees of the backing store, in the order of guest addresses.
    pub fn slots(&self) -> Vec<Slot> {
        self.watch.slots.clone()
    }

    /// The byte of the backing store behind a guest address.
    pub fn backing(&self, address: u64) -> Option<u64> {
        self.watch.slots.iter().find_map(|slot| slot.backing(address))
    }

    /// Whether the host may touch the page of the backing store without asking.
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
        let mut done = 0;
        for (offset, len) in self.watch.runs(address, to.len())? {
            self.watch.file.read_exact_at(&mut to[done..done + len], offset)?;
            done += len;
        }
        Ok(())
    }

    /// Writes as the machine itself does, also where guest and devices may only read: firmware into flash.
    pub fn load(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        let runs = self.watch.runs(address, bytes.len())?;
        if !runs.iter().all(|&(offset, len)| self.watch.permit_backing(offset, len as u64, true)) {
            return Err(io::Error::other(format!("memory at {address:#x} is not the host's to write")));
        }
        let mut done = 0;
        for (offset, len) in runs {
            self.watch.file.write_all_at(&bytes[done..done + len], offset)?;
            self.watch.wrote(offset, len);
            done += len;
        }
        Ok(())
    }

    /// Gives the memory behind pages back to the host; they read as zeros then. Private pages stay as they are: they are
    /// not the host's.
    pub fn discard(&self, address: u64, len: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        for (offset, len) in self.watch.runs(address, len)? {
            let mut start = offset;
            let end = offset.saturating_add(len as u64);
            for page in self.watch.pages(offset, len as u64) {
                let next = ((page + 1) * PAGE).min(end);
                let private = self.watch.bits(page) & access::ASK != 0;
                if (private || next == end) && start < end {
                    let until = if private { page * PAGE } else { next };
                    if until > start {
                        fallocate(&self.watch.file, hole, start, until - start)?;
                        self.watch.wrote(start, usize::try_from(until - start).map_err(io::Error::other)?);
                    }
                    start = next;
                }
            }
        }
        Ok(())
    }

    /// Makes all of it zero and gives the memory back to the host. For a guest without private pages that
    /// starts anew.
    pub fn clear(&self) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&self.watch.file, hole, 0, self.watch.size)?;
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

fn open(fd: i32, write: bool) -> io::Result<File> {
    // Opening through /proc gives an own descriptor without touching the other world's.
    OpenOptions::new().read(true).write(write).open(format!("/proc/self/fd/{fd}"))
}

fn region<B: Bitmap>(
    file: &File,
    offset: u64,
    size: usize,
    bitmap: B,
    write: bool,
) -> io::Result<MmapRegion<B>> {
    let protection = if write { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
    MmapRegionBuilder::new_with_bitmap(size, bitmap)
        .with_file_offset(FileOffset::new(file.try_clone()?, offset))
        .with_mmap_prot(protection)
        .with_mmap_flags(libc::MAP_NORESERVE | libc::MAP_SHARED)
        .build()
        .map_err(io::Error::other)
}

/// Notices the end of a host write, through vm-memory's dirty bitmap hook.
#[derive(Clone, Default)]
pub struct HostBitmap {
    watch: Option<Arc<Watch>>,
    /// Where the region begins in the backing store.
    offset: usize,
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
        HostBitmapSlice { watch: self.watch.as_deref(), offset: self.offset + offset }
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
