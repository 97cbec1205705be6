//! The table of a configuration's pages.
//!
//! A byte per page holds its kind and a lock bit. The lock is not a mutex: a CPU that waits for it must go
//! on acknowledging flushes, so it waits in [`SecureStorage::pause`]. Reading the kind takes no lock.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::configuration::Configuration;
use crate::export::ExportRecord;
use crate::storage::SecureStorage;
use crate::table::ConfigurationState;
use cloister_arch::pages::Conversions;

/// What a page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum PageKind {
    /// The host's; the guest's first touch makes it a cleared private page.
    NonSecure = 0,
    /// The guest's private page.
    Secure = 1,
    /// A private page of which the host has the ciphertext.
    Exported = 2,
    /// Visible to both.
    Shared = 3,
    /// Visible to both and held so by the host.
    PinnedShared = 4,
    /// The guest's content is gone: destroyed by the host, or what it gave back was not what it got. The
    /// guest cannot go on with it.
    Lost = 5,
}

/// What a guest's access to a page leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolved {
    /// The private view.
    Private,
    /// The view that the host has too.
    Shared,
    /// The host must import the page first.
    NeedsImport,
    /// The page is being converted: acknowledge flushes and ask again.
    Busy,
    /// The guest cannot go on.
    Fatal,
    /// The guest has no such page.
    OutOfRange,
}

/// How many pages there are of each kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PageCounts {
    /// [`PageKind::NonSecure`].
    pub non_secure: u64,
    /// [`PageKind::Secure`].
    pub secure: u64,
    /// [`PageKind::Exported`].
    pub exported: u64,
    /// [`PageKind::Shared`], pinned or not.
    pub shared: u64,
    /// [`PageKind::PinnedShared`].
    pub pinned: u64,
    /// [`PageKind::Lost`].
    pub lost: u64,
}

/// A handle to a configuration's pages for the cores that run it.
#[derive(Clone)]
pub struct GuestPages(pub(crate) Arc<Configuration>);

impl GuestPages {
    /// What an access to `page` leads to now; see the crate's text for the order in which a core asks.
    /// Reads and writes lead to the same: no page is read-only.
    #[inline]
    pub fn resolve(&self, page: u64, _write: bool) -> Resolved {
        self.0.pages.resolve(page)
    }

    /// Whether a dump was begun and not completed: no CPU may run.
    pub fn is_dumping(&self) -> bool {
        self.0.state() == ConfigurationState::Dumping
    }

    /// The kind of a page; `None` beyond the end.
    pub fn kind(&self, page: u64) -> Option<PageKind> {
        Some(kind(self.0.pages.bytes.get(usize::try_from(page).ok()?)?.load(Ordering::Acquire)))
    }

    /// Counts the pages by kind.
    pub fn counts(&self) -> PageCounts {
        let mut counts = PageCounts::default();
        for byte in &self.0.pages.bytes {
            match kind(byte.load(Ordering::Relaxed)) {
                PageKind::NonSecure => counts.non_secure += 1,
                PageKind::Secure => counts.secure += 1,
                PageKind::Exported => counts.exported += 1,
                PageKind::Shared => counts.shared += 1,
                PageKind::PinnedShared => {
                    counts.shared += 1;
                    counts.pinned += 1;
                }
                PageKind::Lost => counts.lost += 1,
            }
        }
        counts
    }
}

/// What the Ultravisor does to pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Conversion {
    Unpacked,
    Cleared,
    Imported,
    Exported,
    Shared,
    Unshared,
    Destroyed,
}

#[derive(Default)]
pub(crate) struct Counters([AtomicU64; 7]);

impl Counters {
    pub(crate) fn read(&self) -> Conversions {
        let of = |what: Conversion| self.0[what as usize].load(Ordering::Relaxed);
        Conversions {
            unpacked: of(Conversion::Unpacked),
            cleared: of(Conversion::Cleared),
            imported: of(Conversion::Imported),
            exported: of(Conversion::Exported),
            shared: of(Conversion::Shared),
            unshared: of(Conversion::Unshared),
            destroyed: of(Conversion::Destroyed),
        }
    }
}

pub(crate) struct PageTable {
    counters: Arc<Counters>,
    bytes: Box<[AtomicU8]>,
    shared: AtomicU64,
    exports: Mutex<HashMap<u64, ExportRecord>>,
}

impl PageTable {
    pub(crate) fn new(pages: usize, counters: Arc<Counters>) -> Self {
        Self {
            counters,
            bytes: (0..pages).map(|_| AtomicU8::new(PageKind::NonSecure as u8)).collect(),
            shared: AtomicU64::new(0),
            exports: Mutex::default(),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Number of pages that are shared, pinned or not.
    pub(crate) fn shared(&self) -> u64 {
        self.shared.load(Ordering::SeqCst)
    }

    #[inline]
    fn resolve(&self, page: u64) -> Resolved {
        let Some(byte) = usize::try_from(page).ok().and_then(|page| self.bytes.get(page)) else {
            return Resolved::OutOfRange;
        };
        let byte = byte.load(Ordering::SeqCst);
        if byte & LOCKED != 0 {
            return Resolved::Busy;
        }
        match kind(byte) {
            PageKind::NonSecure | PageKind::Exported => Resolved::NeedsImport,
            PageKind::Secure => Resolved::Private,
            PageKind::Shared | PageKind::PinnedShared => Resolved::Shared,
            PageKind::Lost => Resolved::Fatal,
        }
    }

    /// Waits for the page and takes it; `None` beyond the end.
    pub(crate) fn lock(&self, page: u64, storage: &dyn SecureStorage) -> Option<PageGuard<'_>> {
        let byte = self.bytes.get(usize::try_from(page).ok()?)?;
        while byte.fetch_or(LOCKED, Ordering::SeqCst) & LOCKED != 0 {
            storage.pause();
        }
        Some(PageGuard { table: self, byte, page })
    }
}

/// A page of which this thread alone changes the kind.
pub(crate) struct PageGuard<'a> {
    table: &'a PageTable,
    byte: &'a AtomicU8,
    /// The page's number.
    pub(crate) page: u64,
}

impl PageGuard<'_> {
    pub(crate) fn kind(&self) -> PageKind {
        kind(self.byte.load(Ordering::SeqCst))
    }

    /// Changes the kind; the page stays locked.
    pub(crate) fn set(&mut self, to: PageKind) {
        let is_shared = |kind| matches!(kind, PageKind::Shared | PageKind::PinnedShared);
        match (is_shared(self.kind()), is_shared(to)) {
            (false, true) => self.table.shared.fetch_add(1, Ordering::SeqCst),
            (true, false) => self.table.shared.fetch_sub(1, Ordering::SeqCst),
            (true, true) | (false, false) => 0,
        };
        self.byte.store(to as u8 | LOCKED, Ordering::SeqCst);
    }

    /// Counts what was done to the page.
    pub(crate) fn count(&self, what: Conversion) {
        self.table.counters.0[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remember(&self, record: ExportRecord) {
        self.exports().insert(self.page, record);
    }

    pub(crate) fn recall(&self) -> Option<ExportRecord> {
        self.exports().get(&self.page).copied()
    }

    pub(crate) fn forget(&self) {
        self.exports().remove(&self.page);
    }

    fn exports(&self) -> std::sync::MutexGuard<'_, HashMap<u64, ExportRecord>> {
        self.table.exports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PageGuard<'_> {
    fn drop(&mut self) {
        self.byte.fetch_and(!LOCKED, Ordering::SeqCst);
    }
}

const LOCKED: u8 = 0x80;

const fn kind(byte: u8) -> PageKind {
    match byte & !LOCKED {
        0 => PageKind::NonSecure,
        1 => PageKind::Secure,
        2 => PageKind::Exported,
        3 => PageKind::Shared,
        4 => PageKind::PinnedShared,
        _ => PageKind::Lost,
    }
}
