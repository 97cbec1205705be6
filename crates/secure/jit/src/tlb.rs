//! The translation lookaside buffer that the interpreter and generated code share.
//!
//! Generated code trusts it: what is in it leads into storage. So it looks at everything that is put there.

use cloister_memory::Ram;

/// Entries, direct-mapped by page.
pub const SLOTS: usize = 512;
const PAGE: u64 = 0x1000;

/// Number of a view of storage: 1 to 0xffe, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Context(u64);

impl Context {
    /// The context of a number; none for 0 and for what is too large.
    pub fn new(number: u64) -> Self {
        if number < PAGE - 1 { Self(number) } else { Self(0) }
    }

    /// The number, or 0.
    #[inline(always)]
    pub fn get(self) -> u64 {
        self.0
    }

    /// Whether it is none.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// One entry. A tag is the logical page address with the number of a [`Context`] in its low 12 bits.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Slot {
    /// Tag for fetches.
    pub read: u64,
    /// Tag for stores without any further check; it equals `read`, or is [`NO_TAG`](Self::NO_TAG).
    pub write: u64,
    /// Added to the logical address: offset in guest storage.
    pub addend: u64,
    /// Number of the page.
    pub page: u32,
    /// The core's affair.
    pub flags: u32,
}

impl Slot {
    /// Matches no address: no context has this number.
    pub const NO_TAG: u64 = u64::MAX;
    /// Matches nothing.
    pub const EMPTY: Self = Self { read: Self::NO_TAG, write: Self::NO_TAG, addend: 0, page: 0, flags: 0 };
}

/// The buffer of a CPU.
pub struct Tlb {
    /// Generated code reads the pointer.
    pub(crate) slots: Box<[Slot; SLOTS]>,
    ram: Ram,
}

impl Tlb {
    /// An empty buffer of translations into this storage.
    pub fn new(ram: Ram) -> Self {
        Self { slots: Box::new([Slot::EMPTY; SLOTS]), ram }
    }

    /// The entry where a translation of `address` would be.
    #[inline(always)]
    pub fn slot(&self, address: u64) -> &Slot {
        &self.slots[(address >> 12) as usize % SLOTS]
    }

    /// Takes an entry in, if it leads to a page of storage; then `true`.
    pub fn put(&mut self, slot: Slot) -> bool {
        let offset = (slot.read & !(PAGE - 1)).wrapping_add(slot.addend);
        let inside = usize::try_from(offset).is_ok_and(|offset| {
            offset % PAGE as usize == 0
                && self.ram.reservation().checked_sub(PAGE as usize).is_some_and(|last| offset <= last)
        });
        let fine =
            inside && slot.read & (PAGE - 1) != 0 && (slot.write == slot.read || slot.write == Slot::NO_TAG);
        if fine {
            self.slots[(slot.read >> 12) as usize % SLOTS] = slot;
        }
        fine
    }

    /// Changes the flags of all entries of a page; whether stores need a further check follows from them.
    pub fn change(&mut self, page: u32, flags: impl Fn(u32) -> u32, plain: impl Fn(u32) -> bool) {
        for slot in self.slots.iter_mut().filter(|slot| slot.page == page && slot.read != Slot::NO_TAG) {
            slot.flags = flags(slot.flags);
            slot.write = if plain(slot.flags) { slot.read } else { Slot::NO_TAG };
        }
    }

    /// Forgets the entries of a page.
    pub fn forget(&mut self, page: u32) {
        for slot in self.slots.iter_mut().filter(|slot| slot.page == page) {
            *slot = Slot::EMPTY;
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.slots.fill(Slot::EMPTY);
    }

    /// Where storage begins.
    pub(crate) fn storage(&self) -> usize {
        self.ram.start().addr().get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_memory::Storage;

    #[test]
    fn only_what_leads_to_a_page_of_storage_is_taken_in() {
        let storage = Storage::new(1 << 20).unwrap();
        let ram = storage.ram();
        let end = ram.reservation() as u64;
        let mut tlb = Tlb::new(ram);
        let slot = |page: u64, offset: u64| Slot {
            read: page | 5,
            addend: offset.wrapping_sub(page),
            ..Slot::EMPTY
        };
        assert!(tlb.put(slot(0x7000, 0)) && tlb.put(slot(0x8000, end - 0x1000)));
        for bad in
            [slot(0x9000, end), slot(0x9000, end - 0xfff), slot(0x9000, 8), slot(0x9000, u64::MAX << 12)]
        {
            assert!(!tlb.put(bad));
        }
        assert!(!tlb.put(Slot { read: 0x9000, addend: 0, ..slot(0x9000, 0x9000) }), "no context");
        assert!(!tlb.put(Slot { write: 0xa005, ..slot(0x9000, 0) }), "another page's tag");
        assert_eq!(tlb.slot(0x9123).read, Slot::NO_TAG);
        assert_eq!(tlb.slot(0x7123).read, 0x7005);
    }

    #[test]
    fn no_context_makes_a_tag_that_means_nothing() {
        for number in [0, 0xfff, 0x1000, u64::MAX] {
            assert!(Context::new(number).is_none());
        }
        assert_eq!(Context::new(0xffe).get(), 0xffe);
    }
}
