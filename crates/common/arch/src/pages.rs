//! What a guest's pages are, in words that every mechanism and both doors share.

use serde::{Deserialize, Serialize};

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PageState {
    /// The guest has not touched it: it holds what the host has there, or nothing.
    Untouched,
    /// Both see the same bytes: shared by a confidential guest, or of a guest in the clear.
    Shared,
    /// The guest's alone.
    Private,
    /// The guest's; the host holds the ciphertext.
    Exported,
    /// The guest's content is gone: the host destroyed it or gave back other bytes.
    Lost,
}

impl PageState {
    /// All of them, in the order in which people care.
    pub const ALL: [Self; 5] = [Self::Private, Self::Exported, Self::Shared, Self::Lost, Self::Untouched];

    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Untouched => "untouched",
            Self::Shared => "shared",
            Self::Private => "private",
            Self::Exported => "exported",
            Self::Lost => "lost",
        }
    }
}

/// Pages that follow each other and are in the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRun {
    /// First page number.
    pub first: u64,
    /// Number of pages, not 0.
    pub pages: u64,
    /// What they are.
    pub state: PageState,
}

impl PageRun {
    /// Runs of the pages from `first` to `end`, and where to go on if there are more than `most`. Pages are asked for
    /// in order.
    pub fn collect(
        first: u64,
        end: u64,
        most: usize,
        mut state_of: impl FnMut(u64) -> PageState,
    ) -> (Vec<Self>, Option<u64>) {
        let mut runs: Vec<Self> = Vec::new();
        for page in first..end {
            let state = state_of(page);
            if let Some(last) = runs.last_mut().filter(|last| last.state == state) {
                last.pages += 1;
            } else if runs.len() >= most {
                return (runs, Some(page));
            } else {
                runs.push(Self { first: page, pages: 1, state });
            }
        }
        (runs, None)
    }
}

/// Pages by state, and conversions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageCounts {
    /// [`PageState::Untouched`].
    pub untouched: u64,
    /// [`PageState::Shared`].
    pub shared: u64,
    /// [`PageState::Private`].
    pub private: u64,
    /// [`PageState::Exported`].
    pub exported: u64,
    /// [`PageState::Lost`].
    pub lost: u64,
    /// Since the machine began.
    pub conversions: Conversions,
}

impl PageCounts {
    /// Counts pages of these states.
    pub fn collect(conversions: Conversions, states: impl Iterator<Item = PageState>) -> Self {
        let mut counts = Self { conversions, ..Self::default() };
        for state in states {
            match state {
                PageState::Untouched => counts.untouched += 1,
                PageState::Shared => counts.shared += 1,
                PageState::Private => counts.private += 1,
                PageState::Exported => counts.exported += 1,
                PageState::Lost => counts.lost += 1,
            }
        }
        counts
    }

    /// The number of pages in a state.
    pub const fn of(&self, state: PageState) -> u64 {
        match state {
            PageState::Untouched => self.untouched,
            PageState::Shared => self.shared,
            PageState::Private => self.private,
            PageState::Exported => self.exported,
            PageState::Lost => self.lost,
        }
    }
}

/// Conversions of pages by the platform since the machine began. They never go down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversions {
    /// Pages of the image decrypted in place.
    pub unpacked: u64,
    /// Pages made private and zero at the guest's first touch.
    pub cleared: u64,
    /// Ciphertext taken back, checked and decrypted.
    pub imported: u64,
    /// Private pages encrypted for the host.
    pub exported: u64,
    /// Pages that the guest shared.
    pub shared: u64,
    /// Pages that it shared no more.
    pub unshared: u64,
    /// Pages cleared and given to the host.
    pub destroyed: u64,
}

impl Conversions {
    /// All of them with their names.
    pub const fn named(&self) -> [(&'static str, u64); 7] {
        [
            ("unpacked", self.unpacked),
            ("cleared", self.cleared),
            ("imported", self.imported),
            ("exported", self.exported),
            ("shared", self.shared),
            ("unshared", self.unshared),
            ("destroyed", self.destroyed),
        ]
    }
}
