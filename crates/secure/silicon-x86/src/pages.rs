//! What each page of the guest's storage is, for a host that asks.
//!
//! A host knows all of this anyway: it gave the commands. Under SEV a page that the firmware encrypted is the guest's
//! while the host holds the ciphertext, which is called exported. What a guest shares is its C-bit's word, and no core
//! reads that yet.

use crate::GuestSide;
use cloister_firmware_api::{PageCounts, PageRun, PageState};
use std::ops::Range;

pub(crate) struct Pages<'a> {
    guest: &'a GuestSide,
    /// Up to here it is known where the host half has memory.
    until: u64,
    data: Range<u64>,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(guest: &'a GuestSide) -> Self {
        Self { guest, until: 0, data: 0..0 }
    }

    pub(crate) fn counts(mut self) -> PageCounts {
        let mut counts = PageCounts::default();
        for page in 0..self.guest.storage.pages() {
            match self.state(page) {
                PageState::Exported => counts.exported += 1,
                PageState::Shared => counts.shared += 1,
                PageState::Untouched | PageState::Private | PageState::Lost => counts.untouched += 1,
            }
        }
        counts
    }

    /// Runs of the pages from `first` on, and where to go on if there are more than `most`.
    pub(crate) fn runs(mut self, first: u64, count: u64, most: usize) -> (Vec<PageRun>, Option<u64>) {
        let end = first.saturating_add(count).min(self.guest.storage.pages());
        let mut runs: Vec<PageRun> = Vec::new();
        for page in first..end {
            let state = self.state(page);
            if let Some(last) = runs.last_mut().filter(|last| last.state == state) {
                last.pages += 1;
            } else if runs.len() >= most {
                return (runs, Some(page));
            } else {
                runs.push(PageRun { first: page, pages: 1, state });
            }
        }
        (runs, None)
    }

    /// Pages are asked for in order.
    fn state(&mut self, page: u64) -> PageState {
        let GuestSide { storage, encrypted } = self.guest;
        if page >= self.until {
            self.data = storage.host_data(page).unwrap_or(storage.pages()..storage.pages());
            self.until = self.data.end;
        }
        match (encrypted.holds(page), self.data.contains(&page)) {
            (true, _) => PageState::Exported,
            (false, true) => PageState::Shared,
            (false, false) => PageState::Untouched,
        }
    }
}
