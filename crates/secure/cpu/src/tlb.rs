//! A software translation buffer.
//!
//! It stores what a core has decided: where a page lies in [`cloister_memory::Ram`] and which accesses are
//! allowed without looking again. It translates nothing and checks no permission itself.

/// Flags of an entry. Bits from [`FIRST_FREE`](flags::FIRST_FREE) on belong to the core.
pub mod flags {
    /// The page holds decoded code: writes are allowed but take the slow path.
    pub const CODE: u32 = 1;
    /// The first bit of the core's own flags.
    pub const FIRST_FREE: u32 = 1 << 8;
}

/// What to enter for a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TlbFill {
    /// Where the page begins in [`cloister_memory::Ram`].
    pub offset: usize,
    /// The page of storage it is, for [`Tlb::flush_page`].
    pub page: u64,
    /// Reads need no second look.
    pub read: bool,
    /// Writes need no second look.
    pub write: bool,
    /// Fetches need no second look.
    pub exec: bool,
    /// Writes are allowed if the core does what `flags` ask for; see [`Tlb::write_slow`].
    pub write_slow: bool,
    /// See [`flags`].
    pub flags: u32,
}

/// A hit of the slow write path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlowHit {
    /// Where the bytes lie in [`cloister_memory::Ram`].
    pub offset: usize,
    /// The page of storage.
    pub page: u64,
    /// The flags of the entry.
    pub flags: u32,
}

/// A direct-mapped translation buffer of `ENTRIES` (a power of two, at least 64) for each of `CONTEXTS`
/// classes of accesses that translate or protect differently.
pub struct Tlb<const ENTRIES: usize, const CONTEXTS: usize> {
    sets: Box<[[Entry; ENTRIES]]>,
    /// In the low bits of every tag, so that a flush of a context is one increment.
    generations: [u64; CONTEXTS],
    /// By hash of the page of storage: the groups of entries in which it may be.
    groups: Box<[u64; BUCKETS]>,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Entry {
    read: u64,
    write: u64,
    exec: u64,
    write_slow: u64,
    offset: usize,
    page: u64,
    tag: u64,
    flags: u32,
}

impl<const ENTRIES: usize, const CONTEXTS: usize> Default for Tlb<ENTRIES, CONTEXTS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const ENTRIES: usize, const CONTEXTS: usize> Tlb<ENTRIES, CONTEXTS> {
    /// An empty buffer.
    pub fn new() -> Self {
        const { assert!(ENTRIES.is_power_of_two() && ENTRIES >= GROUPS, "entries: a power of two from 64 on") }
        Self {
            sets: vec![[EMPTY; ENTRIES]; CONTEXTS].into_boxed_slice(),
            generations: [0; CONTEXTS],
            groups: Box::new([0; BUCKETS]),
        }
    }

    /// Where `len` bytes (1 to 4096) at `address` lie if they can be read without a second look. An access
    /// that crosses into the next page always misses.
    #[inline(always)]
    pub fn read(&self, context: usize, address: u64, len: usize) -> Option<usize> {
        let entry = self.entry(context, address);
        (entry.read == self.tag(context, last(address, len))).then(|| entry.offset + inside(address))
    }

    /// The same for a write.
    #[inline(always)]
    pub fn write(&self, context: usize, address: u64, len: usize) -> Option<usize> {
        let entry = self.entry(context, address);
        (entry.write == self.tag(context, last(address, len))).then(|| entry.offset + inside(address))
    }

    /// The same for an instruction fetch.
    #[inline(always)]
    pub fn exec(&self, context: usize, address: u64, len: usize) -> Option<usize> {
        let entry = self.entry(context, address);
        (entry.exec == self.tag(context, last(address, len))).then(|| entry.offset + inside(address))
    }

    /// For a write that missed: an entry that allows it with a duty, such as telling the code cache.
    pub fn write_slow(&self, context: usize, address: u64, len: usize) -> Option<SlowHit> {
        let entry = self.entry(context, address);
        (entry.write_slow == self.tag(context, last(address, len))).then(|| SlowHit {
            offset: entry.offset + inside(address),
            page: entry.page,
            flags: entry.flags,
        })
    }

    /// The page of storage and flags entered for `address`, for whatever access.
    #[inline]
    pub fn probe(&self, context: usize, address: u64) -> Option<SlowHit> {
        let entry = self.entry(context, address);
        (entry.tag == self.tag(context, address)).then(|| SlowHit {
            offset: entry.offset + inside(address),
            page: entry.page,
            flags: entry.flags,
        })
    }

    /// Enters a page, in place of what was there.
    pub fn fill(&mut self, context: usize, address: u64, fill: TlbFill) {
        let tag = self.tag(context, address);
        let allow = |allowed: bool| if allowed { tag } else { NEVER };
        let at = index::<ENTRIES>(address);
        self.sets[context][at] = Entry {
            read: allow(fill.read),
            write: allow(fill.write),
            exec: allow(fill.exec),
            write_slow: allow(fill.write_slow || fill.write),
            offset: fill.offset,
            page: fill.page,
            tag,
            flags: fill.flags,
        };
        self.groups[bucket(fill.page)] |= 1 << group::<ENTRIES>(at);
    }

    /// Drops everything.
    pub fn flush_all(&mut self) {
        (0..CONTEXTS).for_each(|context| self.flush_context(context));
    }

    /// Drops everything of one context.
    pub fn flush_context(&mut self, context: usize) {
        self.generations[context] += 1;
        if self.generations[context] == GENERATIONS {
            self.generations[context] = 0;
            self.sets[context].fill(EMPTY);
        }
    }

    /// Drops the page of `address` in all contexts.
    pub fn flush_address(&mut self, address: u64) {
        for set in &mut self.sets {
            let entry = &mut set[index::<ENTRIES>(address)];
            if entry.tag & PAGE == address & PAGE {
                *entry = EMPTY;
            }
        }
    }

    /// Drops all translations to a page of storage. Looks only where such pages have been entered.
    pub fn flush_page(&mut self, page: u64) {
        let mut pending = self.groups[bucket(page)];
        while pending != 0 {
            let group = pending.trailing_zeros() as usize;
            pending &= pending - 1;
            let mut neighbours = false;
            for (set, generation) in self.sets.iter_mut().zip(&self.generations) {
                let size = ENTRIES / GROUPS;
                for entry in &mut set[group * size..(group + 1) * size] {
                    if entry.tag & !PAGE != *generation {
                        continue;
                    }
                    if entry.page == page {
                        *entry = EMPTY;
                    } else if bucket(entry.page) == bucket(page) {
                        neighbours = true;
                    }
                }
            }
            if !neighbours {
                self.groups[bucket(page)] &= !(1 << group);
            }
        }
    }

    #[inline(always)]
    fn entry(&self, context: usize, address: u64) -> &Entry {
        &self.sets[context][index::<ENTRIES>(address)]
    }

    #[inline(always)]
    fn tag(&self, context: usize, address: u64) -> u64 {
        address & PAGE | self.generations[context]
    }
}

#[inline(always)]
fn last(address: u64, len: usize) -> u64 {
    address.wrapping_add(len as u64 - 1)
}

#[inline(always)]
fn inside(address: u64) -> usize {
    (address & !PAGE) as usize
}

#[inline(always)]
fn index<const ENTRIES: usize>(address: u64) -> usize {
    (address >> 12) as usize & (ENTRIES - 1)
}

fn group<const ENTRIES: usize>(index: usize) -> usize {
    index / (ENTRIES / GROUPS)
}

fn bucket(page: u64) -> usize {
    page as usize % BUCKETS
}

const PAGE: u64 = !0xfff;
/// The low bits of a tag are a generation below `GENERATIONS`, so this equals none.
const NEVER: u64 = u64::MAX;
const GENERATIONS: u64 = 0xfff;
const GROUPS: usize = 64;
const BUCKETS: usize = 256;
const EMPTY: Entry = Entry {
    read: NEVER,
    write: NEVER,
    exec: NEVER,
    write_slow: NEVER,
    offset: 0,
    page: u64::MAX,
    tag: NEVER,
    flags: 0,
};

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Op {
        Fill { context: usize, page: u64, real: u64, write: bool },
        FlushAll,
        FlushContext(usize),
        FlushAddress(u64),
        FlushPage(u64),
        Look { context: usize, page: u64, inside: u64 },
    }

    fn op() -> impl Strategy<Value = Op> {
        let (context, page, real) = (0..3usize, 0..200u64, prop_oneof![0..6u64, 256..262u64]);
        prop_oneof![
            8 => (context.clone(), page.clone(), real.clone(), any::<bool>())
                .prop_map(|(context, page, real, write)| Op::Fill { context, page, real, write }),
            1 => Just(Op::FlushAll),
            1 => context.clone().prop_map(Op::FlushContext),
            2 => page.clone().prop_map(Op::FlushAddress),
            4 => real.prop_map(Op::FlushPage),
            16 => (context, page, 0..4096u64).prop_map(|(context, page, inside)| Op::Look { context, page, inside }),
        ]
    }

    proptest! {
        /// Whatever is flushed is gone, and what hits is what was filled last.
        #[test]
        fn agrees_with_a_model_that_never_forgets(ops in prop::collection::vec(op(), 1..300)) {
            let mut tlb = Tlb::<64, 3>::new();
            let mut model: HashMap<(usize, u64), (u64, bool)> = HashMap::new();
            for op in ops {
                match op {
                    Op::Fill { context, page, real, write } => {
                        let offset = real as usize * 4096;
                        let fill = TlbFill {
                            offset, page: real, read: true, write, exec: false, write_slow: true, flags: 0,
                        };
                        tlb.fill(context, page << 12, fill);
                        model.insert((context, page), (real, write));
                    }
                    Op::FlushAll => { tlb.flush_all(); model.clear(); }
                    Op::FlushContext(context) => {
                        tlb.flush_context(context);
                        model.retain(|key, _| key.0 != context);
                    }
                    Op::FlushAddress(page) => {
                        tlb.flush_address(page << 12);
                        model.retain(|key, _| key.1 != page);
                    }
                    Op::FlushPage(real) => {
                        tlb.flush_page(real);
                        model.retain(|_, value| value.0 != real);
                    }
                    Op::Look { context, page, inside } => {
                        let address = page << 12 | inside;
                        let known = model.get(&(context, page));
                        if let Some(offset) = tlb.read(context, address, 1) {
                            let (real, write) = known.expect("a hit must have been filled");
                            prop_assert_eq!(offset as u64, real << 12 | inside);
                            prop_assert_eq!(tlb.write(context, address, 1).is_some(), *write);
                            prop_assert!(tlb.write_slow(context, address, 1).is_some());
                            prop_assert_eq!(tlb.read(context, address, 8).is_some(), inside + 8 <= 4096);
                        }
                        prop_assert_eq!(tlb.exec(context, address, 1), None);
                    }
                }
            }
        }
    }

    #[test]
    fn a_filled_page_hits_until_the_generation_wraps_all_the_way_round() {
        let mut tlb = Tlb::<64, 2>::new();
        let fill = TlbFill {
            offset: 0x7000,
            page: 7,
            read: true,
            write: true,
            exec: true,
            write_slow: false,
            flags: 9,
        };
        tlb.fill(1, 0xffff_ffff_ffff_f000, fill);
        assert_eq!(tlb.read(1, u64::MAX, 1), Some(0x7fff));
        assert_eq!(tlb.read(1, u64::MAX, 2), None, "wraps around the address space");
        assert_eq!(tlb.read(0, u64::MAX, 1), None);
        assert_eq!(tlb.probe(1, u64::MAX), Some(SlowHit { offset: 0x7fff, page: 7, flags: 9 }));
        for _ in 0..2 * GENERATIONS {
            tlb.flush_all();
            assert_eq!(tlb.exec(1, 0xffff_ffff_ffff_f000, 4), None);
        }
    }

    #[test]
    fn an_entry_is_one_cache_line() {
        assert_eq!(size_of::<Entry>(), 64);
    }
}
