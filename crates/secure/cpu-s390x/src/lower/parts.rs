//! What many instructions have in common.

use super::{Alu, E, Long, Word};
use crate::op::Op;
use cloister_jit::ir::condcodes::IntCC;
use cloister_jit::ir::types::{I8, I16, I32, I64};
use cloister_jit::ir::{InstBuilder, Value};
use cloister_jit::{Condition, Target};

pub(super) fn base(e: &mut E<'_>, number: u8) -> Option<Value> {
    (number != 0).then(|| e.register(number))
}

/// Base, index and displacement.
pub(super) fn ea(e: &mut E<'_>, op: &Op) -> Value {
    let sum = match (base(e, op.b), base(e, op.x)) {
        (Some(a), Some(b)) => e.b.ins().iadd(a, b),
        (Some(a), None) | (None, Some(a)) => a,
        (None, None) => return e.number(op.imm as u64),
    };
    if op.imm == 0 { sum } else { e.b.ins().iadd_imm_s(sum, op.imm) }
}

pub(super) fn ss_len(op: &Op) -> u64 {
    u64::from(op.aux >> 16 & 0xff) + 1
}

/// First and second operand of an SS-a instruction.
pub(super) fn ss_addresses(e: &mut E<'_>, op: &Op) -> (Value, Value) {
    let first = address(e, op);
    let offset = i64::from(op.aux & 0xfff);
    let second = match base(e, op.b2) {
        Some(value) => e.b.ins().iadd_imm_s(value, offset),
        None => e.number(offset as u64),
    };
    (first, second)
}

pub(super) fn index_branch(e: &mut E<'_>, op: &Op, sum: Value, limit: Value, high: bool) {
    let code = if high { IntCC::SignedGreaterThan } else { IntCC::SignedLessThanOrEqual };
    let taken = e.b.ins().icmp(code, sum, limit);
    e.branch(Some(taken), Target::Relative(op.imm));
}

/// LOAD COMPLEMENT, POSITIVE and NEGATIVE.
pub(super) fn negate(e: &mut E<'_>, mnemonic: &str, a: Value) -> Value {
    let kind = e.b.func.dfg.value_type(a);
    let zero = e.b.ins().iconst(kind, 0);
    match &mnemonic[..2] {
        "lc" => alu(e, Alu::Sub, zero, a),
        "lp" => {
            let result = e.b.ins().iabs(a);
            // Only the least number has no opposite.
            let overflow = e.b.ins().icmp(IntCC::SignedLessThan, result, zero);
            e.overflow(overflow);
            e.set_condition(Condition::Overflow { result, overflow });
            result
        }
        _ => {
            let result = e.b.ins().iabs(a);
            let result = e.b.ins().ineg(result);
            signed(e, result);
            result
        }
    }
}

pub(super) fn carry32(e: &mut E<'_>, op: &Op, what: Alu, from: Word) {
    let b = second32(e, op, from);
    let a = e.word(op.r1);
    let value = with_carry(e, what, a, b);
    e.set_word(op.r1, value);
}

pub(super) fn carry64(e: &mut E<'_>, op: &Op, what: Alu, from: Long) {
    let b = second64(e, op, from);
    let a = e.register(op.r1);
    let value = with_carry(e, what, a, b);
    e.set_register(op.r1, value);
}

/// Addition with carry, subtraction with borrow.
pub(super) fn with_carry(e: &mut E<'_>, what: Alu, a: Value, b: Value) -> Value {
    let kind = e.b.func.dfg.value_type(a);
    let carry = e.carry();
    if what == Alu::AddLogical {
        let carry = e.b.ins().uextend(kind, carry);
        let half = e.b.ins().iadd(a, b);
        let result = e.b.ins().iadd(half, carry);
        let first = e.b.ins().icmp(IntCC::UnsignedLessThan, half, a);
        let second = e.b.ins().icmp(IntCC::UnsignedLessThan, result, half);
        let carry = e.b.ins().bor(first, second);
        e.set_condition(Condition::Carry { result, carry });
        return result;
    }
    let borrow = e.b.ins().bxor_imm_u(carry, 1);
    let borrow = e.b.ins().uextend(kind, borrow);
    let half = e.b.ins().isub(a, b);
    let result = e.b.ins().isub(half, borrow);
    let first = e.b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, a, b);
    let second = e.b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, half, borrow);
    let carry = e.b.ins().band(first, second);
    e.set_condition(Condition::Carry { result, carry });
    result
}

/// Base and displacement.
pub(super) fn address(e: &mut E<'_>, op: &Op) -> Value {
    match base(e, op.b) {
        Some(value) if op.imm == 0 => value,
        Some(value) => e.b.ins().iadd_imm_s(value, op.imm),
        None => e.number(op.imm as u64),
    }
}

pub(super) fn relative(e: &mut E<'_>, op: &Op) -> Value {
    let here = e.here();
    e.b.ins().iadd_imm_s(here, op.imm)
}

pub(super) fn unaligned(e: &mut E<'_>, address: Value, len: u8) {
    let low = e.b.ins().band_imm_u(address, i64::from(len) - 1);
    e.rarely(low);
}

pub(super) fn fetch_relative(e: &mut E<'_>, op: &Op, len: u8) -> Value {
    let address = relative(e, op);
    unaligned(e, address, len);
    e.fetch(address, len)
}

/// Sign-extends the low bits.
pub(super) fn sign(e: &mut E<'_>, value: Value, bits: u8) -> Value {
    let value = e.b.ins().ireduce(if bits == 32 { I32 } else { I16 }, value);
    e.b.ins().sextend(I64, value)
}

pub(super) fn second32(e: &mut E<'_>, op: &Op, from: Word) -> Value {
    match from {
        Word::R => e.word(op.r2),
        Word::K => e.word(op.x),
        Word::M => {
            let address = ea(e, op);
            let value = e.fetch(address, 4);
            e.b.ins().ireduce(I32, value)
        }
        Word::Half => {
            let address = ea(e, op);
            let value = e.fetch(address, 2);
            let value = e.b.ins().ireduce(I16, value);
            e.b.ins().sextend(I32, value)
        }
        Word::I => e.b.ins().iconst(I32, i64::from(op.imm as u32)),
    }
}

pub(super) fn second64(e: &mut E<'_>, op: &Op, from: Long) -> Value {
    match from {
        Long::R => e.register(op.r2),
        Long::K => e.register(op.x),
        Long::RSigned => {
            let value = e.word(op.r2);
            e.b.ins().sextend(I64, value)
        }
        Long::RZero => {
            let value = e.word(op.r2);
            e.b.ins().uextend(I64, value)
        }
        Long::M | Long::MSigned | Long::MZero | Long::Half => {
            let address = ea(e, op);
            match from {
                Long::M => e.fetch(address, 8),
                Long::MZero => e.fetch(address, 4),
                Long::MSigned => {
                    let value = e.fetch(address, 4);
                    sign(e, value, 32)
                }
                _ => {
                    let value = e.fetch(address, 2);
                    sign(e, value, 16)
                }
            }
        }
        Long::I => e.number(op.imm as u64),
        Long::Unsigned => e.number(op.imm as u64 & 0xffff_ffff),
    }
}

pub(super) fn word(e: &mut E<'_>, op: &Op, from: Word) {
    let value = second32(e, op, from);
    e.set_word(op.r1, value);
}

pub(super) fn long(e: &mut E<'_>, op: &Op, from: Long) {
    let value = second64(e, op, from);
    e.set_register(op.r1, value);
}

pub(super) fn long_and_test(e: &mut E<'_>, op: &Op, from: Long) {
    let value = second64(e, op, from);
    e.set_register(op.r1, value);
    signed(e, value);
}

pub(super) fn signed_word(e: &mut E<'_>, op: &Op) {
    let value = e.word(op.r1);
    signed(e, value);
}

/// The condition code of a signed result.
pub(super) fn signed(e: &mut E<'_>, value: Value) {
    let kind = e.b.func.dfg.value_type(value);
    let b = e.b.ins().iconst(kind, 0);
    e.set_condition(Condition::Order { a: value, b, signed: true });
}

pub(super) fn fetched(e: &mut E<'_>, op: &Op, len: u8) {
    let address = ea(e, op);
    let value = e.fetch(address, len);
    e.set_register(op.r1, value);
}

pub(super) fn fetched_word(e: &mut E<'_>, op: &Op, len: u8) {
    let address = ea(e, op);
    let value = e.fetch(address, len);
    let value = e.b.ins().ireduce(I32, value);
    e.set_word(op.r1, value);
}

pub(super) fn masked(e: &mut E<'_>, op: &Op, mask: i64) {
    let value = e.register(op.r2);
    let value = e.b.ins().band_imm_u(value, mask);
    e.set_register(op.r1, value);
}

pub(super) fn number(e: &mut E<'_>, op: &Op, value: u64) {
    let value = e.number(value);
    e.set_register(op.r1, value);
}

pub(super) fn insert(e: &mut E<'_>, op: &Op, shift: u32, mask: u64) {
    let old = e.register(op.r1);
    let rest = e.b.ins().band_imm_s(old, !(mask << shift) as i64);
    let new = e.number((op.imm as u64 & mask) << shift);
    let value = e.b.ins().bor(rest, new);
    e.set_register(op.r1, value);
}

pub(super) fn stored(e: &mut E<'_>, op: &Op, len: u8) {
    let address = ea(e, op);
    let value = e.register(op.r1);
    e.store(address, len, value);
}

pub(super) fn store_number(e: &mut E<'_>, op: &Op, len: u8, value: u64) {
    let address = ea(e, op);
    let value = e.number(value);
    e.store(address, len, value);
}

pub(super) fn multiple(e: &mut E<'_>, op: &Op, write: bool) {
    let count = (op.r2.wrapping_sub(op.r1) & 15) + 1;
    let first = op.r1;
    let at = address(e, op);
    e.span(at, u64::from(count) * 8, write, |e, pointer| {
        // All values first: the base may be among the registers.
        for i in 0..count {
            let register = first.wrapping_add(i) & 15;
            if write {
                let value = e.register(register);
                e.store_big(pointer, i32::from(i) * 8, 8, value);
            } else {
                let value = e.load_big(pointer, i32::from(i) * 8, 8);
                e.set_register(register, value);
            }
        }
    });
}

pub(super) fn alu32(e: &mut E<'_>, op: &Op, what: Alu, first: u8, from: Word) {
    let b = second32(e, op, from);
    let a = e.word(first);
    let value = alu(e, what, a, b);
    e.set_word(op.r1, value);
}

pub(super) fn alu64(e: &mut E<'_>, op: &Op, what: Alu, first: u8, from: Long) {
    let b = second64(e, op, from);
    let a = e.register(first);
    let value = alu(e, what, a, b);
    e.set_register(op.r1, value);
}

/// The result; sets the condition code.
pub(super) fn alu(e: &mut E<'_>, what: Alu, a: Value, b: Value) -> Value {
    match what {
        Alu::Add | Alu::Sub => {
            let (result, overflow) =
                if what == Alu::Add { e.b.ins().sadd_overflow(a, b) } else { e.b.ins().ssub_overflow(a, b) };
            e.overflow(overflow);
            e.set_condition(Condition::Overflow { result, overflow });
            result
        }
        Alu::AddLogical => {
            let result = e.b.ins().iadd(a, b);
            let carry = e.b.ins().icmp(IntCC::UnsignedLessThan, result, a);
            e.set_condition(Condition::Carry { result, carry });
            result
        }
        Alu::SubLogical => {
            let result = e.b.ins().isub(a, b);
            let carry = e.b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, a, b);
            e.set_condition(Condition::Carry { result, carry });
            result
        }
        Alu::And | Alu::Or | Alu::Xor => {
            let result = match what {
                Alu::And => e.b.ins().band(a, b),
                Alu::Or => e.b.ins().bor(a, b),
                _ => e.b.ins().bxor(a, b),
            };
            e.set_condition(Condition::NotZero(result));
            result
        }
        Alu::Mul => e.b.ins().imul(a, b),
    }
}

/// An immediate applied to a part of a register; the condition code tells of that part.
pub(super) fn part(e: &mut E<'_>, op: &Op, what: Alu, shift: u32, mask: u64) {
    let number = (op.imm as u64 & mask) << shift;
    let old = e.register(op.r1);
    let value = match what {
        Alu::And => e.b.ins().band_imm_s(old, (number | !(mask << shift)) as i64),
        Alu::Or => e.b.ins().bor_imm_s(old, number as i64),
        _ => e.b.ins().bxor_imm_s(old, number as i64),
    };
    e.set_register(op.r1, value);
    let told = e.b.ins().band_imm_s(value, (mask << shift) as i64);
    e.set_condition(Condition::NotZero(told));
}

/// Shift amount: six bits of an address.
pub(super) fn amount(e: &mut E<'_>, op: &Op) -> Value {
    match base(e, op.b) {
        None => e.number(op.imm as u64 & 63),
        Some(value) => {
            let sum = e.b.ins().iadd_imm_s(value, op.imm);
            e.b.ins().band_imm_u(sum, 63)
        }
    }
}

/// Mask and rotation of RISBG and its kin.
pub(super) fn selection(op: &Op) -> (u64, u8) {
    let [start, end, rotate, _] = op.aux.to_le_bytes();
    let (start, end) = (u32::from(start & 63), u32::from(end & 63));
    let (from_start, to_end) = (u64::MAX >> start, u64::MAX << (63 - end));
    (if start <= end { from_start & to_end } else { from_start | to_end }, rotate & 63)
}

pub(super) fn rotated(e: &mut E<'_>, op: &Op, rotate: u8) -> Value {
    let value = e.register(op.r2);
    if rotate == 0 { value } else { e.b.ins().rotl_imm_u(value, i64::from(rotate)) }
}

pub(super) fn compare32(e: &mut E<'_>, op: &Op, signed: bool, from: Word) {
    let b = second32(e, op, from);
    let a = e.word(op.r1);
    e.set_condition(Condition::Order { a, b, signed });
}

pub(super) fn compare64(e: &mut E<'_>, op: &Op, signed: bool, from: Long) {
    let b = second64(e, op, from);
    let a = e.register(op.r1);
    e.set_condition(Condition::Order { a, b, signed });
}

pub(super) fn compare_storage(e: &mut E<'_>, op: &Op, len: u8, signed: bool, number: i64) {
    let address = ea(e, op);
    let a = e.fetch(address, len);
    let a = match (signed, len) {
        (true, 2) => sign(e, a, 16),
        (true, 4) => sign(e, a, 32),
        _ => a,
    };
    let b = e.number(number as u64);
    e.set_condition(Condition::Order { a, b, signed });
}

pub(super) fn test_register(e: &mut E<'_>, op: &Op, shift: i64) {
    let value = e.register(op.r1);
    let value = if shift == 0 { value } else { e.b.ins().ushr_imm_u(value, shift) };
    test_under(e, value, op.imm as u64 & 0xffff, true);
}

/// Selected bits all zero: 0; all one: 3; mixed: 1, or for registers 2 if the leftmost is one.
pub(super) fn test_under(e: &mut E<'_>, value: Value, mask: u64, leftmost: bool) {
    let selected = e.b.ins().band_imm_u(value, mask as i64);
    if mask.count_ones() <= 1 {
        // One bit: 0 or 3.
        let one = e.b.ins().icmp_imm_u(IntCC::NotEqual, selected, 0);
        let double = e.b.ins().ishl_imm_u(one, 1);
        let code = e.b.ins().bor(one, double);
        e.set_condition(Condition::Value(code));
        return;
    }
    let any = e.b.ins().icmp_imm_u(IntCC::NotEqual, selected, 0);
    let all = e.b.ins().icmp_imm_u(IntCC::Equal, selected, mask as i64);
    let mixed = if leftmost {
        let first = 1u64 << (63 - mask.leading_zeros());
        let first = e.b.ins().band_imm_u(selected, first as i64);
        let first = e.b.ins().icmp_imm_u(IntCC::NotEqual, first, 0);
        e.b.ins().iadd(any, first)
    } else {
        any
    };
    let three = e.b.ins().iconst(I8, 3);
    let code = e.b.ins().select(all, three, mixed);
    e.set_condition(Condition::Value(code));
}

pub(super) fn choose(e: &mut E<'_>, mask: u8, yes: Value, no: Value) -> Value {
    match e.selected(mask) {
        Ok(selected) => e.b.ins().select(selected, yes, no),
        Err(always) => {
            if always {
                yes
            } else {
                no
            }
        }
    }
}

pub(super) fn branch(e: &mut E<'_>, selected: Result<Value, bool>, target: Target) {
    match selected {
        Ok(taken) => e.branch(Some(taken), target),
        Err(true) => e.branch(None, target),
        Err(false) => {}
    }
}
