//! The map in words, and as a report of bounded length.

use crate::{HostView, MemoryMap};
use cloister_platform::{Conversions, PageState};
use serde::Serialize;
use std::fmt::Write;

/// What `query-confidential-memory` returns.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MemoryReport {
    /// The platform in its own words.
    pub platform: String,
    /// Firmware and keys are models and protect nobody.
    pub model: bool,
    /// Bytes of guest memory.
    pub size: u64,
    /// Bytes in a page.
    pub page_size: u64,
    /// Pages that are the guest's alone.
    pub private: u64,
    /// Pages that are the guest's, and of which the host holds the ciphertext.
    pub exported: u64,
    /// Pages that both see.
    pub shared: u64,
    /// Pages whose content is gone by the host's doing.
    pub lost: u64,
    /// Pages that the guest has not touched.
    pub untouched: u64,
    /// Conversions so far.
    pub conversions: Conversions,
    /// What the host finds in pages of each state.
    pub host_view: Vec<HostView>,
    /// Ranges in the order of addresses.
    pub ranges: Vec<MemoryRange>,
    /// How many ranges there are beyond these.
    pub more_ranges: u64,
}

/// A range of guest memory in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MemoryRange {
    /// Guest absolute address.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// What it is.
    pub state: PageState,
}

impl MemoryMap {
    /// The first `limit` ranges, in the order of addresses.
    pub fn ranges(&self, limit: usize) -> impl Iterator<Item = MemoryRange> + '_ {
        self.runs.iter().take(limit).map(|run| MemoryRange {
            start: run.first * self.page_size,
            length: run.pages * self.page_size,
            state: run.state,
        })
    }

    /// Without cells, and with at most `limit` ranges.
    pub fn report(&self, limit: usize) -> MemoryReport {
        MemoryReport {
            platform: self.platform.clone(),
            model: self.model,
            size: self.size,
            page_size: self.page_size,
            private: self.counts.private,
            exported: self.counts.exported,
            shared: self.counts.shared,
            lost: self.counts.lost,
            untouched: self.counts.untouched,
            conversions: self.counts.conversions,
            host_view: self.host_view.clone(),
            ranges: self.ranges(limit).collect(),
            more_ranges: self.runs.len().saturating_sub(limit) as u64,
        }
    }

    /// The body of `info confidential`, with at most `limit` ranges.
    pub fn text(&self, limit: usize) -> String {
        let mut out = String::new();
        self.write_text(&mut out, limit).expect("a String takes everything");
        out
    }

    fn write_text(&self, out: &mut String, limit: usize) -> std::fmt::Result {
        let model = if self.model && !self.platform.contains("MODEL") { "MODEL: " } else { "" };
        writeln!(out, "platform: {model}{}", self.platform)?;
        writeln!(out, "memory: {}, {} pages of {}", amount(self.size), self.pages(), amount(self.page_size))?;
        for state in self.shown_states() {
            let pages = self.counts.of(state);
            write!(out, "  {:<9} {pages:>10} pages {:>12} MiB", state.name(), mib(pages * self.page_size))?;
            if let Some(view) = self.host_view_of(state) {
                write!(out, "  the host finds {:.2} bits per byte", view.entropy)?;
            }
            writeln!(out)?;
        }
        write!(out, "conversions:")?;
        for (index, (name, count)) in self.counts.conversions.named().into_iter().enumerate() {
            write!(out, "{} {count} {name}", if index == 0 { "" } else { "," })?;
        }
        writeln!(out)?;
        writeln!(out, "ranges:")?;
        for range in self.ranges(limit) {
            writeln!(
                out,
                "  {:#014x}-{:#014x} {:<9} {:>12} MiB",
                range.start,
                range.start + range.length - 1,
                range.state.name(),
                mib(range.length)
            )?;
        }
        let more = self.runs.len().saturating_sub(limit);
        if more > 0 {
            writeln!(out, "  … and {more} more")?;
        }
        Ok(())
    }

    /// Lost pages are rare enough to be named only if there are some.
    pub(crate) fn shown_states(&self) -> impl Iterator<Item = PageState> {
        let lost = self.counts.lost;
        PageState::ALL.into_iter().filter(move |&state| state != PageState::Lost || lost > 0)
    }
}

/// MiB, to a hundredth.
pub(crate) fn mib(bytes: u64) -> String {
    let hundredths = (u128::from(bytes) * 100 + (1 << 19)) >> 20;
    if bytes > 0 && hundredths == 0 {
        return "<0.01".into();
    }
    format!("{}.{:02}", grouped((hundredths / 100) as u64), hundredths % 100)
}

/// In the largest unit that leaves a whole number.
pub(crate) fn amount(bytes: u64) -> String {
    match [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|(shift, _)| bytes >> shift > 0 && bytes.is_multiple_of(1 << shift))
    {
        Some((shift, unit)) => format!("{} {unit}", bytes >> shift),
        None => format!("{bytes} B"),
    }
}

/// With a comma between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
