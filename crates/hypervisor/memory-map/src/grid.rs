//! The cells of the picture: rows of cells in the order of addresses, each a run of pages.

use std::ops::Range;

/// Most cells.
const MOST: u64 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pages: u64,
    /// Pages in a cell, a power of two. The last cell may have fewer.
    pub(crate) cell_pages: u64,
    /// Cells in a row.
    pub(crate) columns: u64,
}

impl Grid {
    pub(crate) fn new(pages: u64) -> Self {
        let cell_pages = pages.div_ceil(MOST).max(1).next_power_of_two();
        let columns = match pages.div_ceil(cell_pages) {
            0..=256 => 16,
            257..=1024 => 32,
            _ => 64,
        };
        Self { pages, cell_pages, columns }
    }

    pub(crate) fn cells(&self) -> u64 {
        self.pages.div_ceil(self.cell_pages)
    }

    pub(crate) fn rows(&self) -> u64 {
        self.cells().div_ceil(self.columns)
    }

    pub(crate) fn pages_of(&self, cell: u64) -> Range<u64> {
        let first = cell * self.cell_pages;
        first..(first + self.cell_pages).min(self.pages)
    }
}
