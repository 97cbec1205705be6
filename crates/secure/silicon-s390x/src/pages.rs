//! What each page of the guest is, for a host that asks.
//!
//! A host knows all of this anyway: it made the calls, or was told of the guest's. It is no audit: the guest
//! may run on, and each answer is true for the moment at which the page was looked at.

use cloister_firmware_api::{Conversions, PageCounts, PageRun, PageState};
use cloister_memory::{Representation, Storage, Touched};
use cloister_uv_s390x::{GuestPages, PageKind};

pub(crate) struct Pages<'a> {
    pub(crate) storage: &'a Storage,
    /// The table of the guest's configuration, if it has one.
    pub(crate) protected: Option<GuestPages>,
    pub(crate) conversions: Conversions,
}

impl Pages<'_> {
    pub(crate) fn counts(&self) -> PageCounts {
        let mut touched = Touched::default();
        PageCounts::collect(
            self.conversions,
            (0..self.storage.pages()).map(|page| self.state(page, &mut touched)),
        )
    }

    /// Runs of the pages from `first` on, and where to go on if there are more than `most`.
    pub(crate) fn runs(&self, first: u64, count: u64, most: usize) -> (Vec<PageRun>, Option<u64>) {
        let end = first.saturating_add(count).min(self.storage.pages());
        let mut touched = Touched::default();
        PageRun::collect(first, end, most, |page| self.state(page, &mut touched))
    }

    fn state(&self, page: u64, touched: &mut Touched) -> PageState {
        match self.protected.as_ref().and_then(|pages| pages.kind(page)) {
            Some(PageKind::NonSecure) => PageState::Untouched,
            Some(PageKind::Secure) => PageState::Private,
            Some(PageKind::Exported) => PageState::Exported,
            Some(PageKind::Shared | PageKind::PinnedShared) => PageState::Shared,
            Some(PageKind::Lost) => PageState::Lost,
            None => match self.storage.representation(page) {
                Some(Representation::Plain) => PageState::Private,
                Some(Representation::Absent) => PageState::Exported,
                Some(Representation::Raw | Representation::Both) if touched.holds(self.storage, page) => {
                    PageState::Shared
                }
                Some(Representation::Raw | Representation::Both) | None => PageState::Untouched,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_memory::NoShootdown;

    fn pages(storage: &Storage) -> Pages<'_> {
        Pages { storage, protected: None, conversions: Conversions::default() }
    }

    #[test]
    fn pages_of_a_clear_guest_are_shared_once_they_are_touched() {
        let storage = Storage::new(16 * 4096).expect("storage");
        let (ram, run) = (storage.ram(), |first, pages, state| PageRun { first, pages, state });
        assert_eq!(pages(&storage).runs(0, 99, 99), (vec![run(0, 16, PageState::Untouched)], None));
        ram.write_u8(5 * 4096, 1);
        ram.write_u8(6 * 4096 + 9, 1);
        storage.clear_plain(8, &NoShootdown).expect("a conversion");
        let all = vec![
            run(0, 5, PageState::Untouched),
            run(5, 2, PageState::Shared),
            run(7, 1, PageState::Untouched),
            run(8, 1, PageState::Private),
            run(9, 7, PageState::Untouched),
        ];
        assert_eq!(pages(&storage).runs(0, u64::MAX, 99), (all.clone(), None));
        // In pieces it is the same.
        assert_eq!(pages(&storage).runs(0, 16, 2), (all[..2].to_vec(), Some(7)));
        assert_eq!(pages(&storage).runs(7, 9, 3), (all[2..].to_vec(), None));
        assert_eq!(pages(&storage).runs(16, u64::MAX, 3), (vec![], None));
        let counts = pages(&storage).counts();
        assert_eq!((counts.untouched, counts.shared, counts.private), (13, 2, 1));
    }
}
