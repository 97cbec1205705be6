//! What each page of the guest's storage is, for a host that asks.
//!
//! A host knows all of this anyway: it gave the commands. Under SEV a page that the firmware encrypted is the guest's
//! while the host holds the ciphertext, which is called exported. What a guest shares is its C-bit's word, and no core
//! reads that yet.

use crate::GuestSide;
use cloister_firmware_api::{Conversions, PageCounts, PageRun, PageState};
use cloister_memory::Touched;

pub(crate) struct Pages<'a> {
    guest: &'a GuestSide,
    touched: Touched,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(guest: &'a GuestSide) -> Self {
        Self { guest, touched: Touched::default() }
    }

    pub(crate) fn counts(mut self) -> PageCounts {
        let pages = 0..self.guest.storage.pages();
        PageCounts::collect(Conversions::default(), pages.map(|page| self.state(page)))
    }

    /// Runs of the pages from `first` on, and where to go on if there are more than `most`.
    pub(crate) fn runs(mut self, first: u64, count: u64, most: usize) -> (Vec<PageRun>, Option<u64>) {
        let end = first.saturating_add(count).min(self.guest.storage.pages());
        PageRun::collect(first, end, most, |page| self.state(page))
    }

    fn state(&mut self, page: u64) -> PageState {
        let GuestSide { storage, encrypted } = self.guest;
        match (encrypted.holds(page), self.touched.holds(storage, page)) {
            (true, _) => PageState::Exported,
            (false, true) => PageState::Shared,
            (false, false) => PageState::Untouched,
        }
    }
}
