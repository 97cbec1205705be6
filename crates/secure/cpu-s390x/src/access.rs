//! Storage access by logical address: the fast path of every load and store, and its precise slow path.
//!
//! A hit in the software TLB is one compare, one add and one access; everything that can forbid an access
//! (translation, storage key, low-address protection, the view of a protected page) was decided when the entry
//! was filled. The fill itself is in `dat`; this module knows no table format.

use crate::cpu::Cpu;
use crate::op::Trap;
use cloister_jit::Slot;
use std::cmp::Ordering;

/// What [`Slot::flags`] tells of a page. Context numbers are never used twice between two wipes, so that forgetting a
/// context forgets its entries.
pub(crate) mod slot_flag {
    /// Stores are allowed, after looking at the other flags.
    pub(crate) const WRITABLE: u32 = 1;
    /// The first 512 bytes are under low-address protection.
    pub(crate) const LOW: u32 = 2;
    /// Code was decoded from the page.
    pub(crate) const CODE: u32 = 4;
    /// Instructions may not be fetched.
    pub(crate) const NO_EXECUTE: u32 = 8;
    /// A debugger watches operands in the page; such an entry is never kept.
    pub(crate) const WATCHED: u32 = 16;

    /// Whether stores need no further check.
    pub(crate) fn plain(flags: u32) -> bool {
        flags & !NO_EXECUTE == WRITABLE
    }
}

/// A contiguous piece of guest storage behind a logical address, at most to the end of its page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// Offset in guest storage, for `Cpu::ram`.
    pub(crate) offset: usize,
    /// Bytes.
    pub(crate) len: usize,
    addr: u64,
    page: u32,
    flags: u32,
}

/// An interlocked update of one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByteOp {
    /// AND.
    And,
    /// OR.
    Or,
    /// Exclusive OR.
    Xor,
}

/// Address space of an access that does not follow the current mode (MVCOS, MVCP, MVCS, MVCDK...).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    /// As the PSW says.
    Current,
    /// Real addresses: no translation, but prefixing.
    Real,
    /// Primary space (CR1).
    Primary,
    /// Secondary space (CR7).
    Secondary,
    /// Home space (CR13).
    Home,
}

macro_rules! scalar_access {
    ($ty:ty, $len:literal, $read:ident, $write:ident, $load:ident, $store:ident) => {
        impl Cpu {
            /// Fetches a big-endian value.
            #[inline(always)]
            pub(crate) fn $read(&mut self, addr: u64) -> Result<$ty, Trap> {
                match self.hit_read(addr, $len) {
                    Some(offset) => Ok(self.ram.$load(offset)),
                    None => Ok(self.read_slow(addr, $len)? as $ty),
                }
            }

            /// Stores a big-endian value.
            #[inline(always)]
            pub(crate) fn $write(&mut self, addr: u64, value: $ty) -> Result<(), Trap> {
                match self.hit_write(addr, $len) {
                    Some(offset) => {
                        self.ram.$store(offset, value);
                        Ok(())
                    }
                    None => self.write_slow(addr, $len, u128::from(value)),
                }
            }
        }
    };
}

scalar_access!(u8, 1, read_u8, write_u8, read_u8, write_u8);
scalar_access!(u16, 2, read_u16, write_u16, read_u16_be, write_u16_be);
scalar_access!(u32, 4, read_u32, write_u32, read_u32_be, write_u32_be);
scalar_access!(u64, 8, read_u64, write_u64, read_u64_be, write_u64_be);
scalar_access!(u128, 16, read_u128, write_u128, read_u128_be, write_u128_be);

impl Cpu {
    #[inline(always)]
    fn hit_read(&self, addr: u64, len: u64) -> Option<usize> {
        let slot = self.tlb.slot(addr);
        // The page of the *last* byte is compared: an access that crosses a page never matches here.
        (slot.read == (addr.wrapping_add(len - 1) & !0xfff | self.context.get()))
            .then(|| addr.wrapping_add(slot.addend) as usize)
    }

    #[inline(always)]
    fn hit_write(&self, addr: u64, len: u64) -> Option<usize> {
        let slot = self.tlb.slot(addr);
        (slot.write == (addr.wrapping_add(len - 1) & !0xfff | self.context.get()))
            .then(|| addr.wrapping_add(slot.addend) as usize)
    }

    /// The piece of at most `len` bytes at `addr`, for fetching. `len` must not be 0.
    #[inline]
    pub(crate) fn read_span(&mut self, addr: u64, len: usize) -> Result<Span, Trap> {
        let slot = *self.tlb.slot(addr);
        let slot = if slot.read == (addr & !0xfff | self.context.get()) {
            slot
        } else {
            self.fill_fetch(addr, len)?
        };
        Ok(piece(addr, len, slot))
    }

    /// The piece of at most `len` bytes at `addr`, for storing. `len` must not be 0. After storing into
    /// it, call [`Cpu::wrote`].
    #[inline]
    pub(crate) fn write_span(&mut self, addr: u64, len: usize) -> Result<Span, Trap> {
        let slot = *self.tlb.slot(addr);
        let tag = addr & !0xfff | self.context.get();
        let slot = if slot.read == tag && slot.flags & slot_flag::WRITABLE != 0 {
            slot
        } else {
            self.fill_slot(addr, true)?
        };
        if slot.flags & slot_flag::LOW != 0 && addr & 0xfff < 512 {
            return Err(self.low_address_protection(addr));
        }
        Ok(piece(addr, len, slot))
    }

    /// Must follow every store through a [`Span`]: code decoded from it becomes stale.
    #[inline]
    pub(crate) fn wrote(&mut self, span: Span) {
        if span.flags & (slot_flag::CODE | slot_flag::WATCHED) != 0 {
            self.wrote_noted(span);
        }
    }

    /// As [`Cpu::wrote`], after an interlocked update, which is a fetch too.
    #[inline]
    fn updated(&mut self, span: Span) {
        if span.flags & (slot_flag::CODE | slot_flag::WATCHED) != 0 {
            if span.flags & slot_flag::WATCHED != 0 {
                self.touched(span.addr, span.len, false);
            }
            self.wrote_noted(span);
        }
    }

    #[cold]
    #[inline(never)]
    fn wrote_noted(&mut self, span: Span) {
        if span.flags & slot_flag::CODE != 0 {
            self.wrote_code(span.page, span.offset, span.len);
        }
        if span.flags & slot_flag::WATCHED != 0 {
            self.touched(span.addr, span.len, true);
        }
    }

    /// Fills for fetching the piece of at most `len` bytes at `addr`.
    #[cold]
    #[inline(never)]
    fn fill_fetch(&mut self, addr: u64, len: usize) -> Result<Slot, Trap> {
        let slot = self.fill_slot(addr, false)?;
        if slot.flags & slot_flag::WATCHED != 0 {
            self.touched(addr, piece(addr, len, slot).len, false);
        }
        Ok(slot)
    }

    /// Recognises every fetch exception of an operand without fetching it.
    #[inline]
    pub(crate) fn probe_read(&mut self, addr: u64, len: u64) -> Result<(), Trap> {
        self.each_page(addr, len as usize, |cpu, addr, _| {
            let slot = cpu.tlb.slot(addr);
            if slot.read == (addr & !0xfff | cpu.context.get()) {
                return Ok(());
            }
            cpu.fill_slot(addr, false).map(drop)
        })
    }

    /// Recognises every store exception of an operand without storing.
    #[inline]
    pub(crate) fn probe_write(&mut self, addr: u64, len: u64) -> Result<(), Trap> {
        self.each_page(addr, len as usize, |cpu, addr, part| cpu.write_span(addr, part).map(drop))
    }

    /// Fetches an operand.
    #[inline]
    pub(crate) fn read_bytes(&mut self, addr: u64, to: &mut [u8]) -> Result<(), Trap> {
        let mut done = 0;
        while done < to.len() {
            let span = self.read_span(self.wrap(addr, done), to.len() - done)?;
            self.ram.copy_out(span.offset, &mut to[done..done + span.len]);
            done += span.len;
        }
        Ok(())
    }

    /// Stores an operand, or nothing of it.
    #[inline]
    pub(crate) fn write_bytes(&mut self, addr: u64, from: &[u8]) -> Result<(), Trap> {
        if crosses(addr, from.len()) {
            self.probe_write(addr, from.len() as u64)?;
        }
        let mut done = 0;
        while done < from.len() {
            let span = self.write_span(self.wrap(addr, done), from.len() - done)?;
            self.ram.copy_in(span.offset, &from[done..done + span.len]);
            self.wrote(span);
            done += span.len;
        }
        Ok(())
    }

    /// Moves `len` bytes as if one at a time from the left (MVC); nothing is stored unless both operands are
    /// accessible.
    #[inline]
    pub(crate) fn copy(&mut self, dst: u64, src: u64, len: usize) -> Result<(), Trap> {
        if crosses(dst, len) || crosses(src, len) {
            self.probe_read(src, len as u64)?;
            self.probe_write(dst, len as u64)?;
        }
        let mut done = 0;
        while done < len {
            let from = self.read_span(self.wrap(src, done), len - done)?;
            let to = self.write_span(self.wrap(dst, done), from.len)?;
            self.ram.copy_forward(to.offset, from.offset, to.len);
            self.wrote(to);
            done += to.len;
        }
        Ok(())
    }

    /// Stores `len` equal bytes, or none.
    #[inline]
    pub(crate) fn fill(&mut self, addr: u64, len: usize, byte: u8) -> Result<(), Trap> {
        if crosses(addr, len) {
            self.probe_write(addr, len as u64)?;
        }
        let mut done = 0;
        while done < len {
            let span = self.write_span(self.wrap(addr, done), len - done)?;
            self.ram.fill(span.offset, byte, span.len);
            self.wrote(span);
            done += span.len;
        }
        Ok(())
    }

    /// Compares two operands of at most 256 bytes from the left (CLC): the index of the first unequal byte and
    /// how the first operand compares there.
    #[inline]
    pub(crate) fn compare(
        &mut self,
        first: u64,
        second: u64,
        len: usize,
    ) -> Result<Option<(usize, Ordering)>, Trap> {
        let (mut a, mut b) = ([0; 256], [0; 256]);
        let len = len.min(256);
        self.read_bytes(first, &mut a[..len])?;
        self.read_bytes(second, &mut b[..len])?;
        Ok((0..len).find(|&i| a[i] != b[i]).map(|i| (i, a[i].cmp(&b[i]))))
    }

    /// Interlocked compare and swap; `addr` is aligned (the handler has checked). Whether it was swapped, and the
    /// value found.
    #[inline]
    pub(crate) fn compare_and_swap_u32(
        &mut self,
        addr: u64,
        expected: u32,
        new: u32,
    ) -> Result<(bool, u32), Trap> {
        let span = self.write_span(addr, 4)?;
        let result = self.ram.compare_exchange_u32_be(span.offset, expected, new);
        self.updated(span);
        Ok(found(result))
    }

    /// As [`Cpu::compare_and_swap_u32`].
    #[inline]
    pub(crate) fn compare_and_swap_u64(
        &mut self,
        addr: u64,
        expected: u64,
        new: u64,
    ) -> Result<(bool, u64), Trap> {
        let span = self.write_span(addr, 8)?;
        let result = self.ram.compare_exchange_u64_be(span.offset, expected, new);
        self.updated(span);
        Ok(found(result))
    }

    /// As [`Cpu::compare_and_swap_u32`].
    #[inline]
    pub(crate) fn compare_and_swap_u128(
        &mut self,
        addr: u64,
        expected: u128,
        new: u128,
    ) -> Result<(bool, u128), Trap> {
        let span = self.write_span(addr, 16)?;
        let result = self.ram.compare_exchange_u128_be(span.offset, expected, new);
        self.updated(span);
        Ok(found(result))
    }

    /// Update of a word, interlocked if aligned; yields the old value. `update` may be called more than once.
    #[inline]
    pub(crate) fn fetch_update_u32(&mut self, addr: u64, update: impl Fn(u32) -> u32) -> Result<u32, Trap> {
        if addr & 3 != 0 {
            self.probe_write(addr, 4)?;
            let old = self.read_u32(addr)?;
            self.write_u32(addr, update(old))?;
            return Ok(old);
        }
        let span = self.write_span(addr, 4)?;
        let old = self.ram.fetch_update_u32_be(span.offset, update);
        self.updated(span);
        Ok(old)
    }

    /// Update of a doubleword, interlocked if aligned; yields the old value. `update` may be called more than
    /// once.
    #[inline]
    pub(crate) fn fetch_update_u64(&mut self, addr: u64, update: impl Fn(u64) -> u64) -> Result<u64, Trap> {
        if addr & 7 != 0 {
            self.probe_write(addr, 8)?;
            let old = self.read_u64(addr)?;
            self.write_u64(addr, update(old))?;
            return Ok(old);
        }
        let span = self.write_span(addr, 8)?;
        let old = self.ram.fetch_update_u64_be(span.offset, update);
        self.updated(span);
        Ok(old)
    }

    /// Interlocked update of a byte; yields the old value.
    #[inline]
    pub(crate) fn fetch_update_u8(&mut self, addr: u64, op: ByteOp, value: u8) -> Result<u8, Trap> {
        let span = self.write_span(addr, 1)?;
        let old = match op {
            ByteOp::And => self.ram.fetch_and_u8(span.offset, value),
            ByteOp::Or => self.ram.fetch_or_u8(span.offset, value),
            ByteOp::Xor => self.ram.fetch_xor_u8(span.offset, value),
        };
        self.updated(span);
        Ok(old)
    }

    /// Does `access` in another address space with another access key.
    pub(crate) fn access_as<T>(
        &mut self,
        space: Space,
        key: u8,
        access: impl FnOnce(&mut Self) -> Result<T, Trap>,
    ) -> Result<T, Trap> {
        let view = self.view;
        self.enter_view(space, key);
        let result = access(self);
        // Looked up again and not restored: the access may have had to flush.
        self.enter(view);
        result
    }

    /// As [`Cpu::read_bytes`], in another space.
    pub(crate) fn read_bytes_as(
        &mut self,
        space: Space,
        key: u8,
        addr: u64,
        to: &mut [u8],
    ) -> Result<(), Trap> {
        self.access_as(space, key, |cpu| cpu.read_bytes(addr, to))
    }

    /// As [`Cpu::write_bytes`], in another space.
    pub(crate) fn write_bytes_as(
        &mut self,
        space: Space,
        key: u8,
        addr: u64,
        from: &[u8],
    ) -> Result<(), Trap> {
        self.access_as(space, key, |cpu| cpu.write_bytes(addr, from))
    }

    /// `addr + add`, wrapped in the current addressing mode.
    #[inline(always)]
    pub(crate) fn wrap(&self, addr: u64, add: usize) -> u64 {
        addr.wrapping_add(add as u64) & self.addr_mask
    }

    #[inline]
    fn each_page(
        &mut self,
        addr: u64,
        len: usize,
        mut probe: impl FnMut(&mut Self, u64, usize) -> Result<(), Trap>,
    ) -> Result<(), Trap> {
        let mut done = 0;
        while done < len {
            let at = self.wrap(addr, done);
            let part = (0x1000 - (at & 0xfff) as usize).min(len - done);
            probe(self, at, part)?;
            done += part;
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn read_slow(&mut self, addr: u64, len: usize) -> Result<u128, Trap> {
        let span = self.read_span(addr, len)?;
        if span.len == len {
            return Ok(match len {
                1 => u128::from(self.ram.read_u8(span.offset)),
                2 => u128::from(self.ram.read_u16_be(span.offset)),
                4 => u128::from(self.ram.read_u32_be(span.offset)),
                8 => u128::from(self.ram.read_u64_be(span.offset)),
                _ => self.ram.read_u128_be(span.offset),
            });
        }
        let mut bytes = [0; 16];
        self.read_bytes(addr, &mut bytes[16 - len..])?;
        Ok(u128::from_be_bytes(bytes))
    }

    #[cold]
    #[inline(never)]
    fn write_slow(&mut self, addr: u64, len: usize, value: u128) -> Result<(), Trap> {
        let span = self.write_span(addr, len)?;
        if span.len < len {
            return self.write_bytes(addr, &value.to_be_bytes()[16 - len..]);
        }
        match len {
            1 => self.ram.write_u8(span.offset, value as u8),
            2 => self.ram.write_u16_be(span.offset, value as u16),
            4 => self.ram.write_u32_be(span.offset, value as u32),
            8 => self.ram.write_u64_be(span.offset, value as u64),
            _ => self.ram.write_u128_be(span.offset, value),
        }
        self.wrote(span);
        Ok(())
    }
}

#[inline(always)]
fn piece(addr: u64, len: usize, slot: Slot) -> Span {
    let len = len.min(0x1000 - (addr & 0xfff) as usize);
    Span { offset: addr.wrapping_add(slot.addend) as usize, len, addr, page: slot.page, flags: slot.flags }
}

/// Whether an operand touches more than one page.
#[inline(always)]
fn crosses(addr: u64, len: usize) -> bool {
    (addr & 0xfff) as usize + len > 0x1000
}

fn found<T>(result: Result<T, T>) -> (bool, T) {
    match result {
        Ok(value) => (true, value),
        Err(value) => (false, value),
    }
}
