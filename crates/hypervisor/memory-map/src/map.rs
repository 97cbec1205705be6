//! The map itself, and how it is made.

use crate::Error;
use crate::entropy::{PAGE, bits_per_byte, rounded};
use crate::grid::Grid;
use cloister_platform::{Conversions, PageCounts, PageRun, PageState, Vm};
use serde::Serialize;
use std::io;

/// Who owns each page, and what the host finds there.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MemoryMap {
    /// The platform in its own words.
    pub platform: String,
    /// Firmware and keys are models and protect nobody.
    pub model: bool,
    /// Bytes of guest memory.
    pub size: u64,
    /// Bytes in a page.
    pub page_size: u64,
    /// Every page once, in order, neighbours of one state merged.
    pub runs: Vec<PageRun>,
    /// Pages by state, as the runs say, and conversions so far.
    pub counts: PageCounts,
    /// Pages in a cell of the picture.
    pub cell_pages: u64,
    /// For each cell, the entropy of the host's view of it in bits per byte: the mean of some of its pages.
    pub entropy: Vec<f32>,
    /// The host's view by state.
    pub host_view: Vec<HostView>,
}

/// What the host finds in the pages of one state.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct HostView {
    /// The state.
    pub state: PageState,
    /// Pages looked at.
    pub sampled: u64,
    /// Their mean entropy in bits per byte.
    pub entropy: f32,
}

/// What a map is made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// The platform in its own words.
    pub platform: String,
    /// Firmware and keys are models and protect nobody.
    pub model: bool,
    /// Pages of guest memory.
    pub pages: u64,
    /// Runs that cover them.
    pub runs: Vec<PageRun>,
    /// Conversions so far.
    pub conversions: Conversions,
}

impl MemoryMap {
    /// Looks at a VM, which may run. Converts nothing, and reads a bounded number of pages.
    pub fn observe(vm: &Vm) -> Result<Self, Error> {
        let platform = vm.platform()?;
        let pages = vm.memory().size() / PAGE as u64;
        let conversions = vm.page_counts()?.conversions;
        let runs = vm.page_states(0..pages)?;
        let seen =
            Observation { platform: platform.platform, model: platform.model, pages, runs, conversions };
        let slots = vm.memory().slots();
        // Pages are those of the backing store: what no slot shows, nobody has touched.
        Self::new(seen, |page, bytes| match slots.iter().find_map(|slot| slot.guest(page * PAGE as u64)) {
            Some(address) => vm.memory().peek(address, bytes),
            None => {
                bytes.fill(0);
                Ok(())
            }
        })
    }

    /// The map of what was observed; `peek` reads pages of the host's half.
    pub fn new(
        seen: Observation,
        mut peek: impl FnMut(u64, &mut [u8; PAGE]) -> io::Result<()>,
    ) -> Result<Self, Error> {
        let Observation { platform, model, pages, runs, conversions } = seen;
        let runs = merged(runs, pages)?;
        let mut counts = PageCounts { conversions, ..PageCounts::default() };
        for run in &runs {
            let count = match run.state {
                PageState::Untouched => &mut counts.untouched,
                PageState::Shared => &mut counts.shared,
                PageState::Private => &mut counts.private,
                PageState::Exported => &mut counts.exported,
                PageState::Lost => &mut counts.lost,
            };
            *count += run.pages;
        }
        let mut bytes = Box::new([0; PAGE]);
        let mut mean = |pages: &mut dyn Iterator<Item = u64>| -> Result<(u64, f32), Error> {
            let (mut sampled, mut sum) = (0, 0.0);
            for page in pages {
                peek(page, &mut bytes).map_err(|source| Error::Read { page, source })?;
                sum += bits_per_byte(&bytes);
                sampled += 1;
            }
            Ok((sampled, if sampled == 0 { 0.0 } else { rounded(sum / sampled as f64) }))
        };
        let grid = Grid::new(pages);
        let entropy = (0..grid.cells())
            .map(|cell| {
                let cell = grid.pages_of(cell);
                let count = cell.end - cell.start;
                mean(&mut spread(count, PER_CELL).map(|index| cell.start + index)).map(|(_, bits)| bits)
            })
            .collect::<Result<_, _>>()?;
        let mut host_view = Vec::new();
        for state in PageState::ALL {
            let mut of_state = runs.iter().filter(|run| run.state == state);
            let mut before = 0;
            let mut run = of_state.next();
            let mut pages = spread(counts.of(state), PER_STATE).filter_map(|index| {
                while let Some(at) = run.filter(|at| index >= before + at.pages) {
                    before += at.pages;
                    run = of_state.next();
                }
                run.map(|at| at.first + index - before)
            });
            let (sampled, entropy) = mean(&mut pages)?;
            if sampled > 0 {
                host_view.push(HostView { state, sampled, entropy });
            }
        }
        Ok(Self {
            platform,
            model,
            size: pages * PAGE as u64,
            page_size: PAGE as u64,
            runs,
            counts,
            cell_pages: grid.cell_pages,
            entropy,
            host_view,
        })
    }

    /// What the host finds in pages of this state, if there are any.
    pub fn host_view_of(&self, state: PageState) -> Option<HostView> {
        self.host_view.iter().copied().find(|view| view.state == state)
    }

    /// Pages of guest memory.
    pub fn pages(&self) -> u64 {
        self.size / PAGE as u64
    }

    pub(crate) fn grid(&self) -> Grid {
        Grid::new(self.pages())
    }
}

/// Checks that the runs cover the pages, and merges neighbours.
fn merged(runs: Vec<PageRun>, pages: u64) -> Result<Vec<PageRun>, Error> {
    let mut all: Vec<PageRun> = Vec::with_capacity(runs.len());
    let mut at = 0;
    for run in runs {
        let end = run.first.saturating_add(run.pages);
        if run.first != at || end > pages {
            return Err(Error::Gap { first: at, end: run.first.max(at).min(pages) });
        }
        at = end;
        match all.last_mut() {
            _ if run.pages == 0 => {}
            Some(last) if last.state == run.state => last.pages += run.pages,
            _ => all.push(run),
        }
    }
    if at == pages { Ok(all) } else { Err(Error::Gap { first: at, end: pages }) }
}

/// At most `most` numbers below `count`, spread evenly.
fn spread(count: u64, most: u64) -> impl Iterator<Item = u64> {
    let taken = count.min(most);
    (0..taken)
        .map(move |index| ((2 * u128::from(index) + 1) * u128::from(count) / (2 * u128::from(taken))) as u64)
}

/// Pages looked at in a cell.
pub(crate) const PER_CELL: u64 = 4;
/// Pages looked at of each state.
const PER_STATE: u64 = 256;
