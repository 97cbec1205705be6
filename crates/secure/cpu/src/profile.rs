//! What one CPU's engine counts of its own work. Counting is always on and costs an addition where something rare
//! happens; only [`time`](Translation::add) is measured on request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A number that only goes up. Everybody may read it.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds, from any thread.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Adds, from the only thread that ever does: no interlocked access.
    #[inline]
    pub fn add_alone(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// At least so much.
    pub fn raise(&self, to: u64) {
        self.0.fetch_max(to, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Translations into operations of an interpreter.
#[derive(Debug, Default)]
pub struct Translation {
    /// Blocks.
    pub blocks: Counter,
    /// Guest instructions in them.
    pub instructions: Counter,
    /// Bytes of guest code.
    pub guest_bytes: Counter,
    /// Bytes of the longest block.
    pub longest: Counter,
    /// Bytes that the results took.
    pub host_bytes: Counter,
    /// Time that it took, as far as it was measured.
    pub nanoseconds: Counter,
}

impl Translation {
    /// A block has been translated, begun at `since` if that is known.
    pub fn add(&self, instructions: u64, guest_bytes: u64, host_bytes: u64, since: Option<Instant>) {
        self.blocks.add(1);
        self.instructions.add(instructions);
        self.guest_bytes.add(guest_bytes);
        self.longest.raise(guest_bytes);
        self.host_bytes.add(host_bytes);
        if let Some(since) = since {
            self.nanoseconds.add(since.elapsed().as_nanos() as u64);
        }
    }
}

/// What is counted for one CPU.
#[derive(Debug, Default)]
pub struct Profile {
    /// What was decoded.
    pub decoded: Translation,
    /// Fills of the translation buffer.
    pub tlb_fills: Counter,
    /// Flushes of the whole translation buffer.
    pub tlb_flushes: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_translation_adds_up_and_keeps_the_longest() {
        let all = Translation::default();
        all.add(3, 12, 100, None);
        all.add(1, 4, 50, Some(Instant::now()));
        let read = [&all.blocks, &all.instructions, &all.guest_bytes, &all.longest, &all.host_bytes];
        assert_eq!(read.map(Counter::get), [2, 4, 16, 12, 150]);
    }
}
