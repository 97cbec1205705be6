//! Dynamic address translation, prefixing, storage keys and low-address protection: everything that decides
//! whether an access is allowed, done once per page when a TLB entry is filled (SA22-7832, chapter 3).
//!
//! Accesses themselves are in `access`. Whether a protected guest's page is private or shared is not decided
//! here either; the mechanism answers that through [`SecureGuest`](crate::SecureGuest).

use crate::access::{Space, slot_flag};
use crate::cpu::Cpu;
use crate::op::Trap;
use crate::system::{CoreExit, PageView};
use cloister_arch::s390x::{Psw, Translation, program};
use cloister_jit::{Context, Slot};
use cloister_memory::{Fill, View as StorageView};

/// CR0 bit 35: low-address-protection control.
const LOW_ADDRESS_PROTECTION: u64 = 1 << 28;
/// CR0 bit 38: fetch-protection-override control.
const FETCH_OVERRIDE: u64 = 1 << 25;
/// CR0 bit 39: storage-protection-override control.
const STORAGE_OVERRIDE: u64 = 1 << 24;
/// CR0 bit 40: enhanced-DAT-enablement control.
const EDAT: u64 = 1 << 23;
/// CR0 bit 43: instruction-execution-protection-enablement control.
const EXECUTION_PROTECTION: u64 = 1 << 20;
/// CR0 bits that change the outcome of a translation.
const CR0_BITS: u64 =
    LOW_ADDRESS_PROTECTION | FETCH_OVERRIDE | STORAGE_OVERRIDE | EDAT | EXECUTION_PROTECTION;

/// ASCE bit 55: private space.
const ASCE_PRIVATE: u64 = 0x100;
/// ASCE bit 58: real space.
const ASCE_REAL: u64 = 0x20;
/// Invalid bit of region- and segment-table entries.
const TABLE_INVALID: u64 = 0x20;
/// Invalid bit of page-table entries.
const PAGE_INVALID: u64 = 0x400;
/// DAT-protection bit of all entries.
const PROTECTED: u64 = 0x200;
/// Instruction-execution-protection bit of page-table entries and large frames.
const NO_EXECUTE: u64 = 0x100;
/// Format control (large frame) of segment- and region-third-table entries.
const FORMAT: u64 = 0x400;
/// Common-segment and common-region bit.
const COMMON: u64 = 0x10;

/// Storage key: fetch protection, reference, change.
pub(crate) const KEY_FETCH: u8 = 8;
/// Storage key: reference bit.
pub(crate) const KEY_REFERENCE: u8 = 4;
/// Storage key: change bit.
pub(crate) const KEY_CHANGE: u8 = 2;

/// Trap code of an access that leaves the core instead of raising a program interruption.
pub(crate) const TRAP_LEAVE: u16 = 0xffff;

/// Everything besides the address that a translation depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// Address-space-control element, or 0 for real addresses.
    asce: u64,
    /// Relevant bits of CR0.
    cr0: u64,
    /// DAT is on.
    dat: bool,
    /// Access key, 0-15.
    key: u8,
    /// Address-space indication of the TEID: 0 primary, 1 access register, 2 secondary, 3 home.
    space: u8,
}

/// Numbers given to views, so that the TLB needs no wipe when the view changes.
pub(crate) struct Contexts {
    known: [(View, u64); 64],
    next: u64,
}

impl Contexts {
    pub(crate) fn new() -> Self {
        Self { known: [(View::default(), 0); 64], next: 1 }
    }
}

/// What kind of access is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Operand fetch.
    Fetch,
    /// Operand store.
    Store,
    /// Instruction fetch.
    Execute,
}

/// Result of a translation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Translated {
    /// Real address.
    pub(crate) real: u64,
    /// Stores are forbidden by DAT protection.
    pub(crate) protected: bool,
    /// Execution is forbidden.
    pub(crate) no_execute: bool,
    /// Access-control and fetch-protection bits of a large frame, in place of the storage key's.
    pub(crate) key: Option<u8>,
}

/// Why a translation failed: program-interruption code; the level for LRA's condition code follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault(pub(crate) u16);

impl Cpu {
    /// Chooses the view for the current PSW and control registers. To be called whenever the PSW's DAT,
    /// ASC or key bits, or CR 0, 1, 7 or 13 have changed.
    pub(crate) fn update_view(&mut self) {
        let key = (self.psw.mask >> 52 & 15) as u8;
        self.enter_view(self.instruction_space(), key);
        self.code_context = self.context.get();
        self.enter_view(Space::Current, key);
    }

    /// The space of instruction fetches.
    pub(crate) fn instruction_space(&self) -> Space {
        match self.psw.mask & Psw::ASC {
            _ if self.psw.mask & Psw::DAT == 0 => Space::Real,
            Psw::ASC => Space::Home,
            _ => Space::Primary,
        }
    }

    /// Chooses the view of `space` with access key `key`.
    pub(crate) fn enter_view(&mut self, space: Space, key: u8) {
        let view = self.view_of(space, key);
        self.enter(view);
    }

    /// Enters a view.
    pub(crate) fn enter(&mut self, view: View) {
        if view == self.view && !self.context.is_none() {
            return;
        }
        self.view = view;
        let hash = (view.asce >> 12) ^ (view.asce >> 20) ^ u64::from(view.key) << 2 ^ u64::from(view.space);
        let known = &mut self.contexts.known[(hash % 64) as usize];
        if known.1 != 0 && known.0 == view {
            self.context = Context::new(known.1);
            return;
        }
        let number = self.contexts.next;
        if number < 0xfff {
            *known = (view, number);
            self.contexts.next += 1;
            self.context = Context::new(number);
        } else {
            *self.contexts = Contexts::new();
            self.tlb.clear();
            self.renumbered = true;
            self.recheck = true;
            self.context = Context::default();
            self.enter(view);
        }
    }

    fn view_of(&self, space: Space, key: u8) -> View {
        let cr0 = self.crs[0] & CR0_BITS;
        let translated = |asce: u64, space| View { asce, cr0, dat: true, key, space };
        match space {
            Space::Real => View { asce: 0, cr0, dat: false, key, space: 0 },
            Space::Primary => translated(self.crs[1], 0),
            Space::Secondary => translated(self.crs[7], 2),
            Space::Home => translated(self.crs[13], 3),
            Space::Current if self.psw.mask & Psw::DAT == 0 => self.view_of(Space::Real, key),
            Space::Current => match (self.psw.mask & Psw::ASC) >> 46 {
                2 => self.view_of(Space::Secondary, key),
                3 => self.view_of(Space::Home, key),
                1 => translated(self.crs[1], 1),
                _ => self.view_of(Space::Primary, key),
            },
        }
    }

    /// Forgets every translation of this CPU (PTLB, and what other CPUs ask for).
    pub(crate) fn flush_translations(&mut self) {
        self.local().profile.tlb_flushes.add_alone(1);
        let next = self.contexts.next;
        *self.contexts = Contexts::new();
        self.contexts.next = next;
        self.context = Context::default();
        self.update_view();
    }

    /// Fills the TLB entry of a page, or says why the access is not allowed.
    #[cold]
    #[inline(never)]
    pub(crate) fn fill_slot(&mut self, addr: u64, write: bool) -> Result<Slot, Trap> {
        self.fill_for(addr, if write { Access::Store } else { Access::Fetch })
    }

    /// As [`Cpu::fill_slot`], for any kind of access.
    pub(crate) fn fill_for(&mut self, addr: u64, access: Access) -> Result<Slot, Trap> {
        self.local().profile.tlb_fills.add_alone(1);
        let view = self.view;
        let write = access == Access::Store;
        let low = view.cr0 & LOW_ADDRESS_PROTECTION != 0
            && addr < 0x2000
            && !(view.dat && view.asce & ASCE_PRIVATE != 0);
        if write && low && addr & 0xfff < 512 {
            return Err(self.low_address_protection(addr));
        }
        let translated = match self.translate(addr) {
            Ok(translated) => translated,
            Err(fault) => return Err(self.translation_trap(fault, addr, access)),
        };
        if write && translated.protected {
            self.teid = self.teid_of(addr, access) | 4;
            return Err(self.access_trap(program::PROTECTION));
        }
        if access == Access::Execute && translated.no_execute {
            self.teid = self.teid_of(addr, access) | 0x84;
            return Err(self.access_trap(program::PROTECTION));
        }
        let absolute = self.absolute(translated.real);
        let page = absolute >> 12;
        let filled = self.fill_page(page, write)?;
        let env = self.env.clone();
        let Some(record) = env.storage.record(page) else {
            return Err(self.access_trap(program::ADDRESSING));
        };
        let key = translated.key.map_or(record.key(), |bits| bits | record.key() & 6);
        if !key_allows(view, key, write, addr) {
            self.teid = self.teid_of(addr, access);
            return Err(self.access_trap(program::PROTECTION));
        }
        let wanted = if write { KEY_REFERENCE | KEY_CHANGE } else { KEY_REFERENCE };
        record.or_key(wanted);
        if write {
            record.set_dirty();
        }
        let writable = !translated.protected
            && key_allows(view, key, true, addr)
            && (write || (key & KEY_CHANGE != 0 && record.is_dirty()));
        let tag = addr & !0xfff | self.context.get();
        let mut flags = 0;
        if writable {
            flags |= slot_flag::WRITABLE;
        }
        if low {
            flags |= slot_flag::LOW;
        }
        if filled.code {
            flags |= slot_flag::CODE;
        }
        if translated.no_execute {
            flags |= slot_flag::NO_EXECUTE;
        }
        let addend = (filled.offset as u64).wrapping_sub(addr & !0xfff);
        let mut slot = Slot { read: tag, write: Slot::NO_TAG, addend, page: page as u32, flags };
        if self.is_watched(addr, access, view.dat) {
            slot.flags |= slot_flag::WATCHED;
            return Ok(slot);
        }
        if slot_flag::plain(flags) {
            slot.write = tag;
        }
        self.tlb.put(slot);
        Ok(slot)
    }

    /// Where the guest's view of an absolute page lies; waits for conversions.
    fn fill_page(&mut self, page: u64, write: bool) -> Result<cloister_memory::FilledPage, Trap> {
        let env = self.env.clone();
        let guest = env.protected();
        loop {
            let wanted = match &guest {
                None => StorageView::Raw,
                Some(guest) => match guest.resolve(self.address, page, write) {
                    PageView::Shared => StorageView::Raw,
                    PageView::Private => StorageView::Plain,
                    PageView::NeedsImport => return Err(self.leave(CoreExit::Import { page })),
                    PageView::Busy => {
                        self.wait_for_conversion();
                        continue;
                    }
                    PageView::None => return Err(self.access_trap(program::ADDRESSING)),
                },
            };
            match env.storage.lookup_for_fill(page, u32::from(self.address), wanted) {
                Fill::Page(filled) => {
                    // This CPU is a holder of the page from here on: a conversion that came in between has
                    // changed the mechanism's answer, a later one flushes this CPU.
                    let still = guest.as_ref().is_none_or(|guest| {
                        let expected = match wanted {
                            StorageView::Plain => PageView::Private,
                            StorageView::Raw | StorageView::Authoritative => PageView::Shared,
                        };
                        guest.resolve(self.address, page, write) == expected
                    });
                    if still {
                        return Ok(filled);
                    }
                }
                Fill::OutOfRange => return Err(self.access_trap(program::ADDRESSING)),
                Fill::WrongRepresentation(_) if guest.is_some() => {
                    return Err(self.leave(CoreExit::Import { page }));
                }
                Fill::WrongRepresentation(_) => return Err(self.access_trap(program::ADDRESSING)),
                Fill::Busy => self.wait_for_conversion(),
            }
        }
    }

    /// The instruction is nullified and the core left; it is executed again afterwards.
    #[cold]
    pub(crate) fn leave(&mut self, exit: CoreExit) -> Trap {
        self.core_exit = Some(exit);
        self.program(TRAP_LEAVE)
    }

    /// Logical to real address in the current view.
    pub(crate) fn translate(&mut self, addr: u64) -> Result<Translated, Fault> {
        self.translate_in(self.view, addr)
    }

    fn translate_in(&mut self, view: View, addr: u64) -> Result<Translated, Fault> {
        if !view.dat || view.asce & ASCE_REAL != 0 {
            return Ok(Translated { real: addr, protected: false, no_execute: false, key: None });
        }
        self.walk(view.asce, addr)
    }

    /// Logical to absolute address under the current PSW, for a debugger: nothing changes.
    pub(crate) fn translate_for_debugger(&mut self, addr: u64) -> Option<Translation> {
        let view = self.view_of(Space::Current, 0);
        let addr = if view_is_64_bit(self.psw.mask) { addr } else { addr & 0x7fff_ffff };
        let (trap, detail, entry) = (self.trap, self.trap_detail, self.walk_entry);
        let translated = self.translate_in(view, addr);
        (self.trap, self.trap_detail, self.walk_entry) = (trap, detail, entry);
        let translated = translated.ok()?;
        let absolute = self.absolute(translated.real);
        self.env.storage.record(absolute >> 12)?;
        Some(Translation { absolute, writable: !translated.protected })
    }

    /// Translation by the tables of `asce` (SA22-7832, chapter 3, "Translation Process").
    pub(crate) fn walk(&mut self, asce: u64, addr: u64) -> Result<Translated, Fault> {
        let edat = self.crs[0] & EDAT != 0 && self.env.has_facility(8);
        let edat2 = edat && self.env.has_facility(78);
        let iep = self.crs[0] & EXECUTION_PROTECTION != 0 && self.env.has_facility(130);
        let mut level = asce >> 2 & 3;
        if level < 3 && addr >> (31 + 11 * level) != 0 {
            return Err(Fault(program::ASCE_TYPE));
        }
        let (mut origin, mut first, mut last) = (asce & !0xfff, 0, asce & 3);
        let mut protected = false;
        loop {
            let index = addr >> (20 + 11 * level) & 0x7ff;
            let missing = Fault(match level {
                3 => program::REGION_FIRST,
                2 => program::REGION_SECOND,
                1 => program::REGION_THIRD,
                _ => program::SEGMENT_TRANSLATION,
            });
            if index >> 9 < first || index >> 9 > last {
                self.walk_entry = 0;
                return Err(missing);
            }
            self.walk_entry = origin.wrapping_add(index * 8);
            let entry = self.table_entry(self.walk_entry)?;
            if entry & TABLE_INVALID != 0 {
                return Err(missing);
            }
            if entry >> 2 & 3 != level {
                return Err(Fault(program::TRANSLATION_SPECIFICATION));
            }
            if edat || level == 0 {
                protected |= entry & PROTECTED != 0;
            }
            if level == 1 && edat2 && asce & ASCE_PRIVATE != 0 && entry & COMMON != 0 {
                return Err(Fault(program::TRANSLATION_SPECIFICATION));
            }
            if level == 1 && edat2 && entry & FORMAT != 0 {
                let no_execute = iep && entry & NO_EXECUTE != 0;
                let real = entry & !0x7fff_ffff | addr & 0x7fff_ffff;
                return Ok(Translated { real, protected, no_execute, key: frame_key(entry) });
            }
            if level > 0 {
                (origin, first, last) = (entry & !0xfff, entry >> 6 & 3, entry & 3);
                level -= 1;
                continue;
            }
            if asce & ASCE_PRIVATE != 0 && entry & COMMON != 0 {
                return Err(Fault(program::TRANSLATION_SPECIFICATION));
            }
            if edat && entry & FORMAT != 0 {
                let no_execute = iep && entry & NO_EXECUTE != 0;
                let real = entry & !0xf_ffff | addr & 0xf_ffff;
                return Ok(Translated { real, protected, no_execute, key: frame_key(entry) });
            }
            self.walk_entry = (entry & !0x7ff).wrapping_add((addr >> 12 & 0xff) * 8);
            let page = self.table_entry(self.walk_entry)?;
            if page & PAGE_INVALID != 0 {
                return Err(Fault(program::PAGE_TRANSLATION));
            }
            // With EDAT-1 bit 55 is a hint that changes need not be recorded, or forbids execution.
            if page & 0x800 != 0 || (page & NO_EXECUTE != 0 && !edat) {
                return Err(Fault(program::TRANSLATION_SPECIFICATION));
            }
            return Ok(Translated {
                real: page & !0xfff | addr & 0xfff,
                protected: protected || page & PROTECTED != 0,
                no_execute: iep && page & NO_EXECUTE != 0,
                key: None,
            });
        }
    }

    /// A doubleword at a real address, without protection: table entries and lowcore fields.
    fn table_entry(&mut self, real: u64) -> Result<u64, Fault> {
        let absolute = self.absolute(real);
        match self.absolute_offset(absolute, false) {
            Ok(offset) => Ok(self.ram.read_u64_be(offset)),
            Err(_) => Err(Fault(self.trap)),
        }
    }

    /// Offset in guest storage of an absolute address, for accesses that bypass the TLB. Valid until the CPU
    /// next acknowledges a flush.
    pub(crate) fn absolute_offset(&mut self, absolute: u64, write: bool) -> Result<usize, Trap> {
        let filled = self.fill_page(absolute >> 12, write)?;
        if write && let Some(record) = self.env.storage.record(absolute >> 12) {
            record.or_key(KEY_REFERENCE | KEY_CHANGE);
            record.set_dirty();
        }
        Ok(filled.offset + (absolute & 0xfff) as usize)
    }

    /// Prefixing (SA22-7832, chapter 3): real to absolute, and, being an involution, back.
    #[inline]
    pub(crate) fn absolute(&self, real: u64) -> u64 {
        match real & !0x1fff {
            0 => real + self.prefix,
            area if area == self.prefix => real - self.prefix,
            _ => real,
        }
    }

    /// Makes a translation fault a program interruption.
    pub(crate) fn translation_trap(&mut self, fault: Fault, addr: u64, access: Access) -> Trap {
        if fault.0 != program::ADDRESSING && fault.0 != TRAP_LEAVE {
            self.teid = self.teid_of(addr, access);
        }
        self.access_trap(fault.0)
    }

    #[cold]
    pub(crate) fn low_address_protection(&mut self, addr: u64) -> Trap {
        self.teid = self.teid_of(addr, Access::Store);
        self.access_trap(program::PROTECTION)
    }

    fn access_trap(&mut self, code: u16) -> Trap {
        self.program(code)
    }

    /// Translation-exception identification (SA22-7832, chapter 6, "Assigned Storage Locations", 168).
    fn teid_of(&self, addr: u64, access: Access) -> u64 {
        let kind = match access {
            _ if !self.env.has_facility(75) => 0,
            Access::Store => 1 << 10,
            Access::Fetch | Access::Execute => 2 << 10,
        };
        addr & !0xfff | kind | u64::from(self.view.space)
    }
}

/// Access-control and fetch-protection bits of a large frame's entry, if it says that they are valid (bit 47).
fn frame_key(entry: u64) -> Option<u8> {
    (entry & 0x1_0000 != 0).then_some((entry >> 8) as u8 & 0xf8)
}

/// Whether the debugger's addresses have 64 bits; else they have 31, because tools know no 24-bit mode.
fn view_is_64_bit(psw_mask: u64) -> bool {
    psw_mask & Psw::EA != 0
}

/// Key-controlled protection (SA22-7832, chapter 3).
fn key_allows(view: View, key: u8, write: bool, addr: u64) -> bool {
    view.key == 0
        || key >> 4 == view.key
        || (view.cr0 & STORAGE_OVERRIDE != 0 && key >> 4 == 9)
        || (!write && key & KEY_FETCH == 0)
        || (!write && view.cr0 & FETCH_OVERRIDE != 0 && addr < 2048)
}
