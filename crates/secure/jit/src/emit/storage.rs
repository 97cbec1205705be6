//! Accesses to guest storage.

use super::{Condition, Emitter, Operation};
use crate::tlb::{SLOTS, Slot};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8, I16, I32, I64, I64X2};
use cranelift_codegen::ir::{BlockArg, InstBuilder, MemFlagsData as MemFlags, Type, Value};
use std::mem::offset_of;

impl<O: Operation> Emitter<'_, O> {
    /// Fetches 1, 2, 4 or 8 bytes in big-endian order, zero-extended to 64 bits.
    pub fn fetch(&mut self, address: Value, len: u8) -> Value {
        let (pointer, hit) = self.translate(address, u64::from(len), false);
        let (fast, slow, join) = (self.b.create_block(), self.cold(), self.b.create_block());
        let result = self.b.append_block_param(join, I64);
        self.b.ins().brif(hit, fast, &[], slow, &[]);

        self.switch(fast);
        let value = self.load_big(pointer, 0, len);
        self.b.ins().jump(join, &[BlockArg::Value(value)]);

        self.switch(slow);
        self.store_condition();
        let function = self.helpers.fetch[len.trailing_zeros() as usize % 4];
        let [value, trapped] = self.ask::<2>(function, &[address])[..] else { return result };
        let op = self.number(std::ptr::from_ref(self.current()).addr() as u64);
        let (value, op) = (BlockArg::Value(value), BlockArg::Value(op));
        self.b.ins().brif(trapped, self.out.answer, &[op], join, &[value]);

        self.switch(join);
        result
    }

    /// Stores the low 1, 2, 4 or 8 bytes of a 64-bit value in big-endian order.
    pub fn store(&mut self, address: Value, len: u8, value: Value) {
        let (pointer, hit) = self.translate(address, u64::from(len), true);
        let (fast, slow, join) = (self.b.create_block(), self.cold(), self.b.create_block());
        self.b.ins().brif(hit, fast, &[], slow, &[]);

        self.switch(fast);
        self.store_big(pointer, 0, len, value);
        self.b.ins().jump(join, &[]);

        self.switch(slow);
        self.store_condition();
        let function = self.helpers.store[len.trailing_zeros() as usize % 4];
        let answer = self.ask::<1>(function, &[address, value])[0];
        self.b.ins().brif(answer, self.out.answer, &[BlockArg::Value(answer)], join, &[]);

        self.switch(join);
    }

    /// An access to `len` bytes (at most a page) in one piece: `fast` gets a pointer for [`load_big`](Self::load_big)
    /// and [`store_big`](Self::store_big) and sets registers; what misses is executed by the interpreter.
    pub fn span(&mut self, address: Value, len: u64, write: bool, fast: impl FnOnce(&mut Self, Value)) {
        self.store_condition();
        self.condition = Condition::Stored;
        let (pointer, hit) = self.translate(address, len, write);
        let (quick, slow, join) = (self.b.create_block(), self.cold(), self.b.create_block());
        self.b.ins().brif(hit, quick, &[], slow, &[]);
        self.switch(quick);
        fast(self, pointer);
        self.b.ins().jump(join, &[]);
        self.switch(slow);
        self.step_to(join);
        self.switch(join);
        self.forget();
    }

    /// Moves `len` bytes (at most 64) that do not overlap destructively; else, or where something misses, the
    /// interpreter does it.
    pub fn copy(&mut self, to: Value, from: Value, len: u64) {
        self.store_condition();
        self.condition = Condition::Stored;
        let (source, hit) = self.translate(from, len, false);
        let (target, hit2) = self.translate(to, len, true);
        let distance = self.b.ins().isub(to, from);
        let apart = self.b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, distance, len as i64);
        let hits = self.b.ins().band(hit, hit2);
        let fine = self.b.ins().band(hits, apart);
        let (quick, slow, join) = (self.b.create_block(), self.cold(), self.b.create_block());
        self.b.ins().brif(fine, quick, &[], slow, &[]);
        self.switch(quick);
        let (mut at, mut pieces) = (0, Vec::new());
        while at < len {
            let kind = width(1 << (len - at).min(8).ilog2());
            pieces.push((at as i32, self.b.ins().load(kind, guest(), source, at as i32)));
            at += u64::from(kind.bytes());
        }
        for (at, piece) in pieces {
            self.b.ins().store(guest(), piece, target, at);
        }
        self.b.ins().jump(join, &[]);
        self.switch(slow);
        self.step_to(join);
        self.switch(join);
        self.forget();
    }

    /// A big-endian value in guest storage.
    pub fn load_big(&mut self, pointer: Value, offset: i32, len: u8) -> Value {
        let kind = width(len);
        let value = self.b.ins().load(kind, guest(), pointer, offset);
        let value = if len == 1 { value } else { self.b.ins().bswap(value) };
        if len == 8 { value } else { self.b.ins().uextend(I64, value) }
    }

    /// See [`load_big`](Self::load_big).
    pub fn store_big(&mut self, pointer: Value, offset: i32, len: u8, value: Value) {
        let value = if len == 8 { value } else { self.b.ins().ireduce(width(len), value) };
        let value = if len == 1 { value } else { self.b.ins().bswap(value) };
        self.b.ins().store(guest(), value, pointer, offset);
    }

    /// Host address, and whether it counts.
    fn translate(&mut self, address: Value, len: u64, write: bool) -> (Value, Value) {
        let place = self.place;
        let flags = MemFlags::trusted();
        // Page number times size of an entry.
        let scale = const { size_of::<Slot>().trailing_zeros() };
        let shifted = self.b.ins().ushr_imm_u(address, 12 - i64::from(scale));
        let scaled = self.b.ins().band_imm_u(shifted, (SLOTS as i64 - 1) << scale);
        let buffer = self.get(I64, place.buffer);
        let slot = self.b.ins().iadd(buffer, scaled);
        // The page of the last byte: what crosses a page never matches. What matches leads into storage, as the buffer
        // warrants.
        let last = if len == 1 { address } else { self.b.ins().iadd_imm_u(address, len as i64 - 1) };
        let page = self.b.ins().band_imm_s(last, !0xfff);
        let context = self.get(I64, place.context);
        let tag = self.b.ins().bor(page, context);
        let at = if write { offset_of!(Slot, write) } else { offset_of!(Slot, read) };
        let found = self.b.ins().load(I64, flags, slot, at as i32);
        let hit = self.b.ins().icmp(IntCC::Equal, found, tag);
        let addend = self.b.ins().load(I64, flags, slot, offset_of!(Slot, addend) as i32);
        let offset = self.b.ins().iadd(address, addend);
        let storage = self.b.ins().iconst(I64, place.storage);
        (self.b.ins().iadd(storage, offset), hit)
    }

    /// Zeros, for [`span`](Self::span).
    pub fn zero(&mut self, pointer: Value, len: u64) {
        let zero = self.b.ins().iconst(I64, 0);
        let wide = self.b.ins().splat(I64X2, zero);
        let mut at = 0;
        while at < len {
            let piece = 1 << (len - at).min(16).ilog2();
            let value = match piece {
                16 => wide,
                8 => zero,
                _ => self.b.ins().ireduce(width(piece), zero),
            };
            self.b.ins().store(guest(), value, pointer, at as i32);
            at += u64::from(piece);
        }
    }
}

fn width(len: u8) -> Type {
    match len {
        1 => I8,
        2 => I16,
        4 => I32,
        _ => I64,
    }
}

/// Guest storage: never traps, and has any alignment.
fn guest() -> MemFlags {
    MemFlags::new().with_notrap()
}
