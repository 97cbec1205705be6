//! Physical memory as the secure processor reaches it during one command: the guest's storage, in the bytes that the
//! host sees, and the host memory that came with the command.
//!
//! It judges addresses and nothing else.

use crate::GUEST_ORIGIN;
use cloister_asp::{NoMemory, SystemMemory};
use cloister_firmware_api::HostBuffer;
use cloister_formats::sev::command::{Command, Init, InitEx};
use cloister_memory::{NoShootdown, PAGE_SIZE, PageCipher, Storage};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Memory during one command.
pub(crate) struct SystemBus<'a> {
    guest: Option<(&'a Storage, &'a Encrypted)>,
    host: RefCell<Vec<HostBuffer>>,
    /// The region that INIT gives to the firmware. It keeps its content itself.
    tmr: Option<Range<u64>>,
}

impl<'a> SystemBus<'a> {
    /// Refuses host memory that cannot be: out of the host's own, or twice the same.
    pub(crate) fn new(
        guest: Option<(&'a Storage, &'a Encrypted)>,
        host: Vec<HostBuffer>,
        tmr: Option<Range<u64>>,
    ) -> Result<Self, String> {
        let mut ranges: Vec<Range<u64>> = Vec::with_capacity(host.len());
        for buffer in &host {
            let end = buffer.paddr.checked_add(buffer.bytes.len() as u64);
            match end.filter(|&end| end <= GUEST_ORIGIN) {
                Some(end) => ranges.push(buffer.paddr..end),
                None => return Err(format!("host memory at {:#x} is not the host's", buffer.paddr)),
            }
        }
        ranges.sort_unstable_by_key(|range| range.start);
        if let Some(pair) = ranges.windows(2).find(|pair| pair[1].start < pair[0].end) {
            return Err(format!("host memory at {:#x} came twice", pair[1].start));
        }
        let tmr = tmr.filter(|tmr| tmr.end <= GUEST_ORIGIN);
        Ok(Self { guest, host: RefCell::new(host), tmr })
    }

    /// The host memory, as the command left it.
    pub(crate) fn into_host_pages(self) -> Vec<HostBuffer> {
        self.host.into_inner()
    }

    /// The guest's storage with a part of it.
    fn guest(&self, range: &Range<u64>) -> Option<(&'a Storage, &'a Encrypted, Range<u64>)> {
        let (storage, encrypted) = self.guest?;
        let part = range.start.checked_sub(GUEST_ORIGIN)?..range.end.checked_sub(GUEST_ORIGIN)?;
        (part.start <= part.end && part.end <= storage.size()).then_some((storage, encrypted, part))
    }

    /// Works on a part of one host buffer.
    fn with_host<T>(&self, range: &Range<u64>, work: impl FnOnce(&mut [u8]) -> T) -> Option<T> {
        let mut host = self.host.borrow_mut();
        host.iter_mut().find_map(|buffer| part_of(buffer, range)).map(work)
    }
}

impl SystemMemory for SystemBus<'_> {
    fn exists(&self, range: Range<u64>) -> bool {
        let in_tmr = self.tmr.as_ref().is_some_and(|tmr| tmr.start <= range.start && range.end <= tmr.end);
        range.start == range.end
            || in_tmr
            || self.guest(&range).is_some()
            || self.with_host(&range, |_| ()).is_some()
    }

    fn read(&self, paddr: u64, out: &mut [u8]) -> Result<(), NoMemory> {
        let range = range(paddr, out.len())?;
        if let Some((storage, _, part)) = self.guest(&range) {
            storage.ram().copy_out(part.start as usize, out);
            return Ok(());
        }
        self.with_host(&range, |bytes| out.copy_from_slice(bytes)).ok_or(NoMemory(paddr))
    }

    fn write(&self, paddr: u64, bytes: &[u8]) -> Result<(), NoMemory> {
        let range = range(paddr, bytes.len())?;
        if let Some((storage, _, part)) = self.guest(&range) {
            storage.ram().copy_in(part.start as usize, bytes);
            storage.host_wrote(part.start, bytes.len() as u64);
            return Ok(());
        }
        self.with_host(&range, |to| to.copy_from_slice(bytes)).ok_or(NoMemory(paddr))
    }

    fn transform(&self, range: Range<u64>, change: &mut dyn FnMut(u64, &mut [u8])) -> Result<(), NoMemory> {
        let missing = NoMemory(range.start);
        if let Some((storage, encrypted, part)) = self.guest(&range) {
            let change = InPlace(RefCell::new(change));
            // No core holds a translation: none runs.
            let done = storage.transform_raw(part.clone(), &NoShootdown, &change);
            encrypted.mark(part);
            return done.map_err(|_| missing);
        }
        let done = self.with_host(&range, |bytes| {
            for (piece, at) in bytes.chunks_mut(PAGE_SIZE).zip((range.start..).step_by(PAGE_SIZE)) {
                change(at, piece);
            }
        });
        done.ok_or(missing)
    }
}

/// Where an INIT puts the trusted memory region.
pub(crate) fn tmr_of(command: u16, buffer: &[u8]) -> Option<Range<u64>> {
    let (start, len) = match Command(command) {
        Command::INIT => Init::parse(buffer).ok().map(|init| (init.tmr_paddr, init.tmr_len))?,
        Command::INIT_EX => InitEx::parse(buffer).ok().map(|init| (init.tmr_paddr, init.tmr_len))?,
        _ => return None,
    };
    Some(start..start.checked_add(len.into())?)
}

/// Which pages of the storage hold what the firmware encrypted for the guest.
pub(crate) struct Encrypted(Box<[AtomicU64]>);

impl Encrypted {
    pub(crate) fn new(pages: u64) -> Self {
        Self((0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    pub(crate) fn holds(&self, page: u64) -> bool {
        let word = usize::try_from(page / 64).ok().and_then(|word| self.0.get(word));
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (page % 64) & 1 == 1)
    }

    fn mark(&self, bytes: Range<u64>) {
        for page in bytes.start / PAGE_SIZE as u64..bytes.end.div_ceil(PAGE_SIZE as u64) {
            if let Some(word) = usize::try_from(page / 64).ok().and_then(|word| self.0.get(word)) {
                word.fetch_or(1 << (page % 64), Ordering::Relaxed);
            }
        }
    }
}

/// The firmware's change to memory in the form that the storage takes.
struct InPlace<'a>(RefCell<&'a mut Change<'a>>);

type Change<'a> = dyn FnMut(u64, &mut [u8]) + 'a;

impl PageCipher for InPlace<'_> {
    fn encrypt(&self, offset: u64, data: &mut [u8]) {
        (self.0.borrow_mut())(GUEST_ORIGIN + offset, data);
    }

    fn decrypt(&self, offset: u64, data: &mut [u8]) {
        self.encrypt(offset, data);
    }
}

fn range(paddr: u64, len: usize) -> Result<Range<u64>, NoMemory> {
    paddr.checked_add(len as u64).map(|end| paddr..end).ok_or(NoMemory(paddr))
}

/// The bytes of a range if all of it is in the buffer.
fn part_of<'a>(buffer: &'a mut HostBuffer, range: &Range<u64>) -> Option<&'a mut [u8]> {
    let start = usize::try_from(range.start.checked_sub(buffer.paddr)?).ok()?;
    let end = usize::try_from(range.end.checked_sub(buffer.paddr)?).ok()?;
    buffer.bytes.get_mut(start..end)
}
