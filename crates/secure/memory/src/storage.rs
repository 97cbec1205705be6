//! A virtual machine's storage and the conversion of its pages.
//!
//! The order of a conversion is in one function, `Storage::convert`, and all conversions go through it.

use std::convert::Infallible;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering, compiler_fence};
use std::sync::{Arc, OnceLock};

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};

use crate::mapping::Mapping;
use crate::record::TryFill;
use crate::{
    CodeStamp, Error, PAGE_SIZE, PageBytes, PageCipher, PageExport, PageRecord, PageState, Ram,
    Representation,
};

/// Access map: the host may access the page.
pub const HOST_ACCESS_FREE: u8 = 0;
/// Access map, bit: the host must ask before it accesses the page.
pub const HOST_ACCESS_ASK: u8 = 1;
/// Access map, bit: code was decoded from the page; *after* a write the host reports it, and that leads to
/// [`Storage::host_wrote`].
pub const HOST_REPORT_WRITES: u8 = 2;

/// How a converter makes other CPUs drop their translations of a page.
pub trait Shootdown {
    /// Returns when none of `cpus` (a mask by [`cpu_bit`](crate::cpu_bit)) holds or still uses a translation of `page`.
    /// A CPU that calls this itself may defer its own flush until before its next access to storage.
    fn flush_page(&self, cpus: u64, page: u64);

    /// Called again and again while another conversion of the same page runs. A CPU must go on
    /// acknowledging flushes here, because the other converter may be waiting for just that.
    fn pause(&self) {
        std::thread::yield_now();
    }
}

/// For a guest whose CPUs are not running.
pub struct NoShootdown;

impl Shootdown for NoShootdown {
    fn flush_page(&self, _cpus: u64, _page: u64) {}
}

/// Sees every finished conversion before it is published. Tests use it to look for plaintext.
pub trait ConversionObserver: Send + Sync {
    /// `host_copy` is what the host will find in its half.
    fn converted(&self, page: u64, from: Representation, to: Representation, host_copy: &PageBytes);
}

/// Which copy of a page an access wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum View {
    /// The bytes as the host sees them: Raw or Both.
    Raw,
    /// What the guest computes on privately: Plain or Both.
    Plain,
    /// The one authoritative copy, Raw or Plain, for mechanisms that decide by page and not by access.
    Authoritative,
}

/// A page that the asking CPU may now hold in its translation buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FilledPage {
    /// Where the page begins in [`Ram`].
    pub offset: usize,
    /// What the page is.
    pub representation: Representation,
    /// Code has been decoded from the page: writes must go through [`Storage::code_write`].
    pub code: bool,
}

/// The answer to a fill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// The CPU is entered as a holder and may use the page until it is told to flush.
    Page(FilledPage),
    /// The wanted view does not exist: convert first, or give the guest its exception.
    WrongRepresentation(Representation),
    /// A conversion is under way: acknowledge flushes, then ask again.
    Busy,
    /// No such page.
    OutOfRange,
}

/// How many pages are in which representation.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// In the host half.
    pub raw: u64,
    /// In the secure half.
    pub plain: u64,
    /// In both.
    pub both: u64,
    /// In neither.
    pub absent: u64,
    /// Of all of them, those with a pin.
    pub pinned: u64,
}

/// One virtual machine's storage.
pub struct Storage {
    ram: Ram,
    halves: Arc<Mapping>,
    size: usize,
    records: Box<[PageRecord]>,
    access: Mapping,
    host_file: OwnedFd,
    access_file: OwnedFd,
    observer: OnceLock<Arc<dyn ConversionObserver>>,
}

impl Storage {
    /// Reserves storage of `size` bytes, a multiple of the page size. Pages cost memory when first touched.
    pub fn new(size: u64) -> Result<Self, Error> {
        let wrong_size = Error::Size { size, max: MAX_SIZE };
        let Ok(bytes) = usize::try_from(size) else { return Err(wrong_size) };
        if size == 0 || size >= MAX_SIZE || bytes % PAGE_SIZE != 0 {
            return Err(wrong_size);
        }
        let reserve = |(action, source)| Error::Reserve { action, size, source };
        let (halves, host_file) = Mapping::two_halves(bytes).map_err(reserve)?;
        let halves = Arc::new(halves);
        let (access, access_file) = Mapping::access_map(bytes / PAGE_SIZE).map_err(reserve)?;
        let records = Box::new_zeroed_slice(bytes / PAGE_SIZE);
        Ok(Self {
            ram: Ram::new(Arc::clone(&halves)),
            halves,
            size: bytes,
            // SAFETY: a record is made of integer atomics, for which all-zero bytes are a value.
            records: unsafe { records.assume_init() },
            access,
            host_file,
            access_file,
            observer: OnceLock::new(),
        })
    }

    /// Size in bytes of what the guest sees.
    pub fn size(&self) -> u64 {
        self.size as u64
    }

    /// Number of pages.
    pub fn pages(&self) -> u64 {
        self.records.len() as u64
    }

    /// A handle to the bytes.
    pub fn ram(&self) -> Ram {
        self.ram.clone()
    }

    /// The file of the host half, which the hypervisor world maps.
    pub fn host_fd(&self) -> BorrowedFd<'_> {
        self.host_file.as_fd()
    }

    /// The file of the access map: one byte per page, bits `HOST_ACCESS_ASK` and `HOST_REPORT_WRITES`. It
    /// is sealed against new writable mappings.
    pub fn access_map_fd(&self) -> BorrowedFd<'_> {
        self.access_file.as_fd()
    }

    /// The record of a page.
    #[inline]
    pub fn record(&self, page: u64) -> Option<&PageRecord> {
        self.records.get(usize::try_from(page).ok()?)
    }

    /// The representation of a page.
    pub fn representation(&self, page: u64) -> Option<Representation> {
        Some(self.record(page)?.state().representation())
    }

    /// Where the host half of a page begins in [`Ram`].
    pub fn host_offset(&self, page: u64) -> Option<usize> {
        self.record(page).map(|_| page as usize * PAGE_SIZE)
    }

    /// Installs the observer of conversions; false if there is one already.
    pub fn observe(&self, observer: Arc<dyn ConversionObserver>) -> bool {
        self.observer.set(observer).is_ok()
    }

    /// Counts pages by representation.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for record in &self.records {
            let state = record.state();
            match state.representation() {
                Representation::Raw => counts.raw += 1,
                Representation::Plain => counts.plain += 1,
                Representation::Both => counts.both += 1,
                Representation::Absent => counts.absent += 1,
            }
            counts.pinned += u64::from(state.pins() > 0);
        }
        counts
    }

    /// The next run of pages, from `page` on, for which the host half has memory. The others read as zero
    /// and nobody has written them since they were last released.
    pub fn host_data(&self, page: u64) -> Option<Range<u64>> {
        let at = page.checked_mul(PAGE_SIZE as u64).filter(|&at| at < self.size())?;
        let data = seek(&self.host_file, SeekFrom::Data(at)).ok()?;
        let hole = seek(&self.host_file, SeekFrom::Hole(data)).unwrap_or(self.size());
        let start = (data / PAGE_SIZE as u64).max(page);
        let end = hole.div_ceil(PAGE_SIZE as u64).min(self.pages());
        (start < end).then_some(start..end)
    }

    /// Runs of pages of one representation, in order and without gaps.
    pub fn ranges(&self) -> impl Iterator<Item = (Range<u64>, Representation)> + '_ {
        let mut start = 0;
        std::iter::from_fn(move || {
            let first = self.representation(start)?;
            let mut end = start + 1;
            while self.representation(end) == Some(first) {
                end += 1;
            }
            let range = start..end;
            start = end;
            Some((range, first))
        })
    }
}

/// Translation buffers.
impl Storage {
    /// Enters `cpu` as a holder of `page` and says where the wanted view lies.
    ///
    /// The CPU must be one that a [`Shootdown`] waits for (entered at the rendezvous), and has to act on a
    /// requested flush before it uses the answer after its next check. The storage key is to be read after
    /// this call: then a change of the key either is seen or shoots the translation down.
    #[inline]
    pub fn lookup_for_fill(&self, page: u64, cpu: u32, wanted: View) -> Fill {
        let Some(record) = self.record(page) else { return Fill::OutOfRange };
        let suitable = |is| match wanted {
            View::Raw => matches!(is, Representation::Raw | Representation::Both),
            View::Plain => matches!(is, Representation::Plain | Representation::Both),
            View::Authoritative => matches!(is, Representation::Raw | Representation::Plain),
        };
        match record.try_fill(cpu, suitable) {
            TryFill::Converting => Fill::Busy,
            TryFill::Unsuitable(state) => Fill::WrongRepresentation(state.representation()),
            TryFill::Held { state, code } => {
                let representation = state.representation();
                let secure = match wanted {
                    View::Raw => false,
                    View::Plain => true,
                    View::Authoritative => representation == Representation::Plain,
                };
                let offset = page as usize * PAGE_SIZE + if secure { self.size } else { 0 };
                Fill::Page(FilledPage { offset, representation, code })
            }
        }
    }

    /// Makes all holders drop their translations of `page`: after a change of its storage key, or of its
    /// dirty mark.
    pub fn shoot_down(&self, page: u64, shootdown: &dyn Shootdown) {
        if let Some(record) = self.record(page) {
            let holders = record.holders();
            if holders != 0 {
                shootdown.flush_page(holders, page);
            }
        }
    }
}

/// Decoded code.
impl Storage {
    /// The stamp under which blocks of `page` are valid now; 0 for a page that does not exist.
    #[inline(always)]
    pub fn code_stamp(&self, page: u64) -> CodeStamp {
        self.record(page).map_or(0, PageRecord::code_stamp)
    }

    /// Announces that `cpu` will decode `len` bytes at `offset` of `page`, and yields the stamp of the block.
    ///
    /// To be called *before* the bytes are read. If the page had no code until now, every holder has dropped
    /// its translation when this returns, so that writes come to notice; `cpu` itself has to treat its own
    /// as flushed (a [`Shootdown`] defers that to its next check) and refill before its next write.
    pub fn mark_code(&self, page: u64, offset: usize, len: usize, shootdown: &dyn Shootdown) -> CodeStamp {
        let Some(record) = self.record(page) else { return 0 };
        let stamp = record.code_stamp();
        if record.add_code_lines(lines(offset, len)) {
            self.access_byte(page).fetch_or(HOST_REPORT_WRITES, Ordering::SeqCst);
            self.shoot_down(page, shootdown);
        }
        stamp
    }

    /// After a write of `len` bytes at `offset` of a page with code: makes blocks stale if it hit decoded
    /// lines, and says so. The CPU that runs a block of this page then leaves it after this instruction.
    #[inline]
    pub fn code_write(&self, page: u64, offset: usize, len: usize) -> bool {
        let Some(record) = self.record(page) else { return false };
        let hit = record.hit_code(lines(offset, len));
        if hit {
            self.access_byte(page).fetch_and(!HOST_REPORT_WRITES, Ordering::SeqCst);
            if record.code_lines() != 0 {
                // Somebody decoded again in between and had set the mark before it was taken away.
                self.access_byte(page).fetch_or(HOST_REPORT_WRITES, Ordering::SeqCst);
            }
        }
        hit
    }

    /// After the host wrote `len` bytes at guest address `address`: makes blocks decoded from them stale.
    pub fn host_wrote(&self, address: u64, len: u64) {
        let end = address.saturating_add(len).min(self.size());
        let mut at = address;
        while at < end {
            let offset = (at % PAGE_SIZE as u64) as usize;
            let part = (PAGE_SIZE - offset).min((end - at) as usize);
            self.code_write(at / PAGE_SIZE as u64, offset, part);
            at += part as u64;
        }
    }
}

/// Conversions.
impl Storage {
    /// Raw or Absent to Plain through `transform(host bytes, secure bytes)`: decrypt, or verify and decrypt.
    ///
    /// The order, for this and every other conversion: mark as converting; flush the translation buffers
    /// that may hold the page and wait for their acknowledgement, holding no lock; convert; scrub the copy
    /// that is no longer authoritative; publish. `transform` works on copies, so that the host cannot change
    /// bytes between check and use. If it fails, nothing has changed.
    pub fn make_plain_with<E>(
        &self,
        page: u64,
        shootdown: &dyn Shootdown,
        transform: impl FnOnce(&PageBytes, &mut PageBytes) -> Result<(), E>,
    ) -> Result<(), Error<E>> {
        let from = [Representation::Raw, Representation::Absent];
        self.convert(page, "a conversion to plain", &from, true, shootdown, |halves, _| {
            let raw = self.page(halves.host);
            let mut plain = Wiped([0; PAGE_SIZE]);
            transform(&raw.0, &mut plain.0)?;
            self.ram.copy_in(halves.secure, &plain.0);
            self.ram.fill(halves.host, 0, PAGE_SIZE);
            Ok((Representation::Plain, ()))
        })
    }

    /// Plain to Raw through `transform(secure bytes, host bytes)`: encrypt. Order as for
    /// [`make_plain_with`](Self::make_plain_with); yields what `transform` yields.
    pub fn make_raw_with<T, E>(
        &self,
        page: u64,
        shootdown: &dyn Shootdown,
        transform: impl FnOnce(&PageBytes, &mut PageBytes) -> Result<T, E>,
    ) -> Result<T, Error<E>> {
        let from = [Representation::Plain];
        self.convert(page, "a conversion to raw", &from, false, shootdown, |halves, _| {
            let plain = self.page(halves.secure);
            let mut raw = Wiped([0; PAGE_SIZE]);
            let yielded = transform(&plain.0, &mut raw.0)?;
            self.ram.copy_in(halves.host, &raw.0);
            self.ram.fill(halves.secure, 0, PAGE_SIZE);
            Ok((Representation::Raw, yielded))
        })
    }

    /// Plain to Absent: `take` gets the plain content and keeps it in a form of its own (POWER page-out to
    /// another address). The host half stays scrubbed.
    pub fn make_absent_with<T, E>(
        &self,
        page: u64,
        shootdown: &dyn Shootdown,
        take: impl FnOnce(&PageBytes) -> Result<T, E>,
    ) -> Result<T, Error<E>> {
        let from = [Representation::Plain];
        self.convert(page, "a move out", &from, true, shootdown, |halves, _| {
            let yielded = take(&self.page(halves.secure).0)?;
            self.ram.fill(halves.secure, 0, PAGE_SIZE);
            Ok((Representation::Absent, yielded))
        })
    }

    /// Plain to Raw with the content as it is: the guest makes it visible on purpose.
    pub fn share(&self, page: u64, shootdown: &dyn Shootdown) -> Result<(), Error> {
        let from = [Representation::Plain];
        self.convert(page, "sharing", &from, false, shootdown, |halves, _| {
            self.ram.copy_within(halves.host, halves.secure, PAGE_SIZE);
            self.ram.fill(halves.secure, 0, PAGE_SIZE);
            Ok((Representation::Raw, ()))
        })
    }

    /// Raw to Plain with the content as it is.
    pub fn unshare(&self, page: u64, shootdown: &dyn Shootdown) -> Result<(), Error> {
        let from = [Representation::Raw];
        self.convert(page, "unsharing", &from, true, shootdown, |halves, _| {
            self.ram.copy_within(halves.secure, halves.host, PAGE_SIZE);
            self.ram.fill(halves.host, 0, PAGE_SIZE);
            Ok((Representation::Plain, ()))
        })
    }

    /// Raw or Absent to Plain with all bytes zero, whatever the host had there.
    pub fn clear_plain(&self, page: u64, shootdown: &dyn Shootdown) -> Result<(), Error> {
        let from = [Representation::Raw, Representation::Absent];
        self.convert(page, "clearing to plain", &from, true, shootdown, |halves, _| {
            // The secure half of a page that is not Plain has been scrubbed or never been touched.
            self.release_host(halves.host);
            Ok((Representation::Plain, ()))
        })
    }

    /// Any representation to Raw with all bytes zero, and its memory given back. Pins do not matter: the page
    /// stays in reach.
    pub fn destroy(&self, page: u64, shootdown: &dyn Shootdown) -> Result<(), Error> {
        use Representation::{Absent, Both, Plain, Raw};
        let from = [Raw, Plain, Both, Absent];
        self.convert(page, "destruction", &from, false, shootdown, |halves, is| {
            self.release_host(halves.host);
            if is != Raw && !self.halves.release(halves.secure) {
                self.ram.fill(halves.secure, 0, PAGE_SIZE);
            }
            Ok((Raw, ()))
        })
    }

    /// Exports a page in place.
    pub fn export<X: PageExport>(
        &self,
        page: u64,
        shootdown: &dyn Shootdown,
        format: &X,
    ) -> Result<X::Metadata, Error<X::Error>> {
        self.make_raw_with(page, shootdown, |plain, raw| format.export(page, plain, raw))
    }

    /// Imports a page in place.
    pub fn import<X: PageExport>(
        &self,
        page: u64,
        shootdown: &dyn Shootdown,
        format: &X,
        metadata: &X::Metadata,
    ) -> Result<(), Error<X::Error>> {
        self.make_plain_with(page, shootdown, |raw, plain| format.import(page, metadata, raw, plain))
    }

    /// Encrypts bytes of Raw pages in place (AMD SEV LAUNCH_UPDATE_DATA works on any whole 16-byte blocks).
    /// The tweak is the offset in the host half. Pages before a failing one are already changed.
    pub fn transform_raw(
        &self,
        range: Range<u64>,
        shootdown: &dyn Shootdown,
        cipher: &dyn PageCipher,
    ) -> Result<(), Error> {
        let len = range.end.saturating_sub(range.start);
        if !range.start.is_multiple_of(16) || !len.is_multiple_of(16) {
            return Err(Error::Alignment { start: range.start, len });
        }
        if let Some(last) = range.end.checked_sub(1).filter(|_| len > 0) {
            self.existing::<Infallible>(last / PAGE_SIZE as u64)?;
        }
        let mut at = range.start;
        while at < range.end {
            let inside = at as usize % PAGE_SIZE;
            let part = (PAGE_SIZE - inside).min((range.end - at) as usize);
            let page = at / PAGE_SIZE as u64;
            let from = [Representation::Raw];
            self.convert(page, "encryption in place", &from, false, shootdown, |halves, _| {
                let mut bytes = self.page(halves.host);
                let bytes = &mut bytes.0[inside..inside + part];
                cipher.encrypt(at, bytes);
                self.ram.copy_in(halves.host + inside, bytes);
                Ok((Representation::Raw, ()))
            })?;
            at += part as u64;
        }
        Ok(())
    }

    /// Pins a page in the host's reach: it refuses to become Plain until unpinned as often.
    pub fn pin(&self, page: u64, shootdown: &dyn Shootdown) -> Result<(), Error> {
        self.change_pins(page, "pinning", shootdown, PageRecord::try_pin)
    }

    /// Takes one pin away.
    pub fn unpin(&self, page: u64, shootdown: &dyn Shootdown) -> Result<(), Error> {
        self.change_pins(page, "unpinning", shootdown, PageRecord::try_unpin)
    }

    fn change_pins(
        &self,
        page: u64,
        operation: &'static str,
        shootdown: &dyn Shootdown,
        change: impl Fn(&PageRecord) -> Option<bool>,
    ) -> Result<(), Error> {
        let record = self.existing(page)?;
        loop {
            match change(record) {
                Some(true) => return Ok(()),
                Some(false) => {
                    return Err(Error::Pins { page, pins: record.state().pins(), operation });
                }
                None => shootdown.pause(),
            }
        }
    }

    /// The fixed order. `hide` says that the host loses the page, so that pins forbid it and the access map
    /// changes before the content does.
    fn convert<T, E>(
        &self,
        page: u64,
        operation: &'static str,
        from: &[Representation],
        hide: bool,
        shootdown: &dyn Shootdown,
        work: impl FnOnce(Halves, Representation) -> Result<(Representation, T), E>,
    ) -> Result<T, Error<E>> {
        let record = self.existing(page)?;
        let allowed = |state: PageState| {
            let is = state.representation();
            if !from.contains(&is) {
                Err(Error::Representation { page, is, operation })
            } else if hide && state.pins() > 0 {
                Err(Error::Pins { page, pins: state.pins(), operation })
            } else {
                Ok(())
            }
        };
        let before = loop {
            match record.try_begin(allowed)? {
                Some(state) => break state.representation(),
                None => shootdown.pause(),
            }
        };
        let mut ending = Ending { storage: self, record, page, to: before };
        if hide {
            self.access_byte(page).fetch_or(HOST_ACCESS_ASK, Ordering::SeqCst);
        }
        let holders = record.holders();
        if holders != 0 {
            shootdown.flush_page(holders, page);
            record.forget_holders(holders);
        }
        let host = page as usize * PAGE_SIZE;
        let (to, yielded) = work(Halves { host, secure: host + self.size }, before)
            .map_err(|source| Error::Refused { page, source })?;
        record.hit_code(u64::MAX);
        if let Some(observer) = self.observer.get() {
            observer.converted(page, before, to, &self.page(host).0);
        }
        ending.to = to;
        Ok(yielded)
    }

    /// Makes a page of the host half zero by giving its memory back. Cheaper than writing zeros where the
    /// page has not been touched, and dearer where it has: for pages that the host is done with.
    fn release_host(&self, offset: usize) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if fallocate(&self.host_file, flags, offset as u64, PAGE_SIZE as u64).is_err() {
            self.ram.fill(offset, 0, PAGE_SIZE);
        }
    }

    /// A copy of a page, which nobody else can change.
    #[inline]
    fn page(&self, offset: usize) -> Wiped {
        let mut copy = Wiped([0; PAGE_SIZE]);
        self.ram.copy_out(offset, &mut copy.0);
        copy
    }

    fn existing<E>(&self, page: u64) -> Result<&PageRecord, Error<E>> {
        self.record(page).ok_or(Error::OutOfRange { page, pages: self.pages() })
    }

    fn access_byte(&self, page: u64) -> &AtomicU8 {
        assert!(page < self.pages(), "the caller has found the record of the page");
        // SAFETY: the access map has a byte for every page, lives as long as `self`, and is reached only as
        // atomics.
        unsafe { AtomicU8::from_ptr(self.access.base().as_ptr().add(page as usize)) }
    }
}

/// Whether the host half has memory for pages that are asked for in order; remembers the last answer.
#[derive(Debug, Default)]
pub struct Touched {
    /// Known up to here.
    until: u64,
    data: Range<u64>,
}

impl Touched {
    /// Whether it has memory for this page.
    pub fn holds(&mut self, storage: &Storage, page: u64) -> bool {
        if page >= self.until {
            self.data = storage.host_data(page).unwrap_or(storage.pages()..storage.pages());
            self.until = self.data.end;
        }
        self.data.contains(&page)
    }
}

/// Where the two copies of a page begin.
#[derive(Clone, Copy)]
struct Halves {
    host: usize,
    secure: usize,
}

/// Publishes a conversion when it ends, also if the transformation failed or panicked.
struct Ending<'a> {
    storage: &'a Storage,
    record: &'a PageRecord,
    page: u64,
    to: Representation,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let access = self.storage.access_byte(self.page);
        match self.to {
            Representation::Raw | Representation::Both => {
                access.fetch_and(!HOST_ACCESS_ASK, Ordering::SeqCst)
            }
            Representation::Plain | Representation::Absent => {
                access.fetch_or(HOST_ACCESS_ASK, Ordering::SeqCst)
            }
        };
        self.record.publish(self.to);
    }
}

/// A page on the stack that is wiped when done with.
struct Wiped(PageBytes);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the compiler from dropping the stores above as dead.
        compiler_fence(Ordering::SeqCst);
        std::hint::black_box(&self.0);
    }
}

/// The 64-byte lines that `len` bytes at `offset` of a page touch, line 0 in the lowest bit.
#[inline(always)]
fn lines(offset: usize, len: usize) -> u64 {
    if len == 0 || offset >= PAGE_SIZE {
        return 0;
    }
    let (first, last) = (offset / 64, (offset + len - 1).min(PAGE_SIZE - 1) / 64);
    (u64::MAX >> (63 - (last - first))) << first
}

const MAX_SIZE: u64 = 1 << 44;
