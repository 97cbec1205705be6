//! A CPU's cache of decoded code.
//!
//! Blocks are keyed by page of storage, offset in it and the mode bits that change decoding, so that they
//! survive a change of address space. A block carries the stamps of the pages it was decoded from
//! ([`Storage::mark_code`]) and is stale as soon as one has moved; there is no message to a CPU and no list
//! to walk. What a block is, is the core's affair; this neither decodes nor executes.

use cloister_memory::{CodeStamp, Storage};

/// Where a block begins and how it was decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct CodeKey(u64);

/// How many mode bits a key holds.
pub const MODE_BITS: u32 = 12;

/// A block found before, to be found again without a search: for chaining.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockLink {
    slot: u32,
    serial: u32,
}

/// How a core should decode from a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decode {
    /// Mark the page, decode a block and keep it.
    Cache,
    /// The page is being written all the time: decode one instruction at a time without marking.
    Once,
}

/// Decoded blocks of one CPU, direct-mapped: a new block takes the place of one with the same hash. The table begins
/// small and grows with what the guest executes, so that a CPU that only waits costs next to nothing.
pub struct CodeCache<B> {
    slots: Box<[Option<Slot<B>>]>,
    /// As far as the table may grow.
    most: usize,
    /// Blocks that have given way to others since the table had its size.
    displaced: usize,
    serial: u32,
    /// By hash of the page: how often its blocks went stale lately, and until when it is not cached.
    churn: Box<[Churn; CHURN]>,
    inserted: u64,
}

struct Slot<B> {
    key: CodeKey,
    stamp: CodeStamp,
    /// The page after the first, and its stamp, for a block that straddles.
    second: Option<(u64, CodeStamp)>,
    serial: u32,
    block: B,
}

#[derive(Clone, Copy, Default)]
struct Churn {
    page: u64,
    stale: u32,
    once: u32,
    since: u64,
}

impl CodeKey {
    /// A key of `offset` bytes (below 4096) into `page` (below 2^40) under `mode` (`MODE_BITS` bits).
    #[inline(always)]
    pub fn new(page: u64, offset: u64, mode: u32) -> Self {
        Self(page << 24 | (offset & 0xfff) << MODE_BITS | u64::from(mode) & ((1 << MODE_BITS) - 1))
    }

    /// The key as a number.
    #[inline(always)]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The page of storage.
    #[inline(always)]
    pub fn page(self) -> u64 {
        self.0 >> 24
    }
}

impl<B> CodeCache<B> {
    /// A cache of at most `blocks`, rounded up to a power of two.
    pub fn new(blocks: usize) -> Self {
        let most = blocks.clamp(16, 1 << 24).next_power_of_two();
        Self {
            slots: empty(most.min(FIRST_SIZE)),
            most,
            displaced: 0,
            serial: 0,
            churn: Box::new([Churn::default(); CHURN]),
            inserted: 0,
        }
    }

    /// The block of `key` if there is one and it is not stale.
    #[inline]
    pub fn get(&self, storage: &Storage, key: CodeKey) -> Option<(&B, BlockLink)> {
        let at = self.index(key);
        let slot = self.slots[at].as_ref().filter(|slot| slot.key == key && slot.fresh(storage))?;
        Some((&slot.block, BlockLink { slot: at as u32, serial: slot.serial }))
    }

    /// The block of a link if it is still there and not stale. That the link still leads to the right
    /// guest address (same page, or same translation) is for the core to know.
    #[inline]
    pub fn follow(&self, storage: &Storage, link: BlockLink) -> Option<&B> {
        let slot = self.slots.get(link.slot as usize)?.as_ref()?;
        (slot.serial == link.serial && slot.fresh(storage)).then_some(&slot.block)
    }

    /// How to decode at `key`, after [`get`](Self::get) found nothing. Counts what went stale.
    pub fn decode(&mut self, key: CodeKey) -> Decode {
        let at = self.index(key);
        let went_stale = self.slots[at].take_if(|slot| slot.key == key).is_some();
        let (page, now) = (key.page(), self.inserted);
        let churn = &mut self.churn[page as usize % CHURN];
        if churn.page != page {
            *churn = Churn { page, since: now, ..Churn::default() };
        }
        if churn.once > 0 {
            churn.once -= 1;
            return Decode::Once;
        }
        if went_stale {
            if now.wrapping_sub(churn.since) > CHURN_WINDOW {
                (churn.stale, churn.since) = (0, now);
            }
            churn.stale += 1;
            if churn.stale >= CHURN_LIMIT {
                (churn.stale, churn.once) = (0, CHURN_ONCE);
                return Decode::Once;
            }
        }
        Decode::Cache
    }

    /// Keeps a block that was decoded after its pages were marked under these stamps.
    pub fn insert(
        &mut self,
        key: CodeKey,
        stamp: CodeStamp,
        second: Option<(u64, CodeStamp)>,
        block: B,
    ) -> BlockLink {
        if self.slots[self.index(key)].as_ref().is_some_and(|slot| slot.key != key) {
            self.displaced += 1;
            if self.displaced > self.slots.len() / 4 && self.slots.len() < self.most {
                self.grow();
            }
        }
        let at = self.index(key);
        self.serial = self.serial.wrapping_add(1);
        self.inserted += 1;
        self.slots[at] = Some(Slot { key, stamp, second, serial: self.serial, block });
        BlockLink { slot: at as u32, serial: self.serial }
    }

    /// Forgets everything, for a reset of the machine.
    pub fn clear(&mut self) {
        self.slots.fill_with(|| None);
        self.churn.fill(Churn::default());
    }

    /// Gives each block of the table a place in one of twice the size. Links to them lead nowhere then, and are made
    /// again when they are next followed.
    #[cold]
    fn grow(&mut self) {
        let larger = empty(self.slots.len() * 2);
        let old = std::mem::replace(&mut self.slots, larger);
        self.displaced = 0;
        for slot in old.into_iter().flatten() {
            let at = self.index(slot.key);
            self.serial = self.serial.wrapping_add(1);
            self.slots[at] = Some(Slot { serial: self.serial, ..slot });
        }
    }

    #[inline(always)]
    fn index(&self, key: CodeKey) -> usize {
        let hash = key.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        hash as usize & (self.slots.len() - 1)
    }
}

impl<B> Slot<B> {
    #[inline(always)]
    fn fresh(&self, storage: &Storage) -> bool {
        storage.code_stamp(self.key.page()) == self.stamp
            && self.second.is_none_or(|(page, stamp)| storage.code_stamp(page) == stamp)
    }
}

fn empty<B>(slots: usize) -> Box<[Option<Slot<B>>]> {
    std::iter::repeat_with(|| None).take(slots).collect()
}

/// Blocks of a table that has not grown yet.
const FIRST_SIZE: usize = 1 << 12;
const CHURN: usize = 256;
/// Stale blocks of one page, within so many blocks decoded, that make it not worth caching for a while.
const CHURN_LIMIT: u32 = 64;
const CHURN_WINDOW: u64 = 4096;
/// For how many decodings a page that churns is not cached.
const CHURN_ONCE: u32 = 10_000;

#[cfg(test)]
mod tests {
    use cloister_memory::NoShootdown;

    use super::*;

    #[test]
    fn a_write_to_decoded_lines_makes_blocks_of_the_page_stale_and_one_beside_them_does_not() {
        let storage = Storage::new(0x10000).unwrap();
        let mut cache = CodeCache::new(100);
        let key = CodeKey::new(3, 0x80, 5);
        assert_eq!(cache.decode(key), Decode::Cache);
        let stamp = storage.mark_code(3, 0x80, 20, &NoShootdown);
        let link = cache.insert(key, stamp, None, "block");
        assert_eq!(cache.get(&storage, key).unwrap(), (&"block", link));
        assert_eq!(cache.get(&storage, CodeKey::new(3, 0x80, 4)), None, "another mode");
        assert!(!storage.code_write(3, 0xc0, 8), "the next line");
        assert_eq!(cache.follow(&storage, link), Some(&"block"));
        assert!(storage.code_write(3, 0x7f, 2), "reaches into the line");
        assert_eq!(cache.get(&storage, key), None);
        assert_eq!(cache.follow(&storage, link), None);
    }

    #[test]
    fn a_block_that_straddles_depends_on_both_pages() {
        let storage = Storage::new(0x10000).unwrap();
        let mut cache = CodeCache::new(100);
        let key = CodeKey::new(3, 0xffe, 0);
        let first = storage.mark_code(3, 0xffe, 2, &NoShootdown);
        let second = storage.mark_code(4, 0, 4, &NoShootdown);
        cache.insert(key, first, Some((4, second)), ());
        storage.host_wrote(0x4003, 1);
        assert_eq!(cache.get(&storage, key), None);
    }

    #[test]
    fn a_link_to_a_replaced_block_leads_nowhere() {
        let storage = Storage::new(0x10000).unwrap();
        let mut cache = CodeCache::new(16);
        let key = CodeKey::new(1, 0, 0);
        let link = cache.insert(key, 0, None, 1);
        let next = cache.insert(key, 0, None, 2);
        assert_eq!(cache.follow(&storage, link), None);
        assert_eq!(cache.follow(&storage, next), Some(&2));
        cache.clear();
        assert_eq!(cache.follow(&storage, next), None);
    }

    #[test]
    fn a_table_grows_with_its_blocks_and_keeps_them() {
        let storage = Storage::new(64 << 20).unwrap();
        let mut cache = CodeCache::new(1 << 13);
        let keys: Vec<_> = (0..8192).map(|page| CodeKey::new(page, 0x40, 0)).collect();
        let first = cache.insert(keys[0], 0, None, 0);
        for (number, &key) in keys.iter().enumerate() {
            cache.insert(key, 0, None, number);
        }
        assert_eq!(cache.slots.len(), 1 << 13, "as far as it may");
        assert_eq!(cache.follow(&storage, first), None, "a link from before");
        let found =
            |(number, &key): (usize, &CodeKey)| cache.get(&storage, key).is_some_and(|(b, _)| *b == number);
        let kept = keys.iter().enumerate().filter(|&pair| found(pair)).count();
        assert!(kept > FIRST_SIZE, "{kept}");
    }

    #[test]
    fn a_page_that_is_written_all_the_time_is_not_cached_for_a_while() {
        let storage = Storage::new(0x10000).unwrap();
        let mut cache = CodeCache::new(100);
        let key = CodeKey::new(2, 0, 0);
        let mut once = 0;
        for _ in 0..1000 {
            if cache.get(&storage, key).is_some() {
                continue;
            }
            match cache.decode(key) {
                Decode::Once => once += 1,
                Decode::Cache => {
                    let stamp = storage.mark_code(2, 0, 64, &NoShootdown);
                    cache.insert(key, stamp, None, ());
                }
            }
            storage.code_write(2, 8, 1);
        }
        assert!(once > 900, "{once}");
        assert_eq!(cache.decode(CodeKey::new(5, 0, 0)), Decode::Cache);
    }
}
