//! The firmware's words for pages in the words of the upper door. It decides nothing.

use cloister_firmware_api as lower;
use cloister_platform::{Conversions, PageCounts, PageRun, PageState};

pub(crate) fn run(run: lower::PageRun) -> PageRun {
    PageRun { first: run.first, pages: run.pages, state: state(run.state) }
}

pub(crate) fn counts(counts: &lower::PageCounts) -> PageCounts {
    let lower::Conversions { unpacked, cleared, imported, exported, shared, unshared, destroyed } =
        counts.conversions;
    PageCounts {
        untouched: counts.untouched,
        shared: counts.shared,
        private: counts.private,
        exported: counts.exported,
        lost: counts.lost,
        conversions: Conversions { unpacked, cleared, imported, exported, shared, unshared, destroyed },
    }
}

fn state(state: lower::PageState) -> PageState {
    match state {
        lower::PageState::Untouched => PageState::Untouched,
        lower::PageState::Shared => PageState::Shared,
        lower::PageState::Private => PageState::Private,
        lower::PageState::Exported => PageState::Exported,
        lower::PageState::Lost => PageState::Lost,
    }
}
