//! High-word facility: arithmetic on the left halves of the registers (part of facility 45).

use super::arith::{add32, addl32, overflow, sub32, subl32};
use super::compare::order;
use super::fac::DISTINCT_OPERANDS as F;
use super::fp_move::data_exception;
use super::{last, row, src};
use crate::cpu::Cpu;
use crate::op::{Entry, Flow, Format::*, Op, Step};

/// `r1.high = f(r2.high, r3.<half>)`.
macro_rules! hhh {
    ($f:path, $third:ident) => {
        |c: &mut Cpu, op: &Op| -> Step {
            let (a, b) = (high(c, op.r2), $third(c, op.x));
            let r = $f(c, a, b);
            set_high(c, op.r1, r);
            overflow(c)
        }
    };
}

/// Rows of the high-word facility.
pub(crate) const TABLE: &[Entry] = &[
    row(0xb9c8, "ahhhr", RRFa, F, hhh!(add32, high)),
    row(0xb9d8, "ahhlr", RRFa, F, hhh!(add32, low)),
    row(0xb9ca, "alhhhr", RRFa, F, hhh!(addl32, high)),
    row(0xb9da, "alhhlr", RRFa, F, hhh!(addl32, low)),
    row(0xb9c9, "shhhr", RRFa, F, hhh!(sub32, high)),
    row(0xb9d9, "shhlr", RRFa, F, hhh!(sub32, low)),
    row(0xb9cb, "slhhhr", RRFa, F, hhh!(subl32, high)),
    row(0xb9db, "slhhlr", RRFa, F, hhh!(subl32, low)),
    row(0xcc08, "aih", RILa, F, |c, op| {
        let r = add32(c, high(c, op.r1), op.imm as u32);
        set_high(c, op.r1, r);
        overflow(c)
    }),
    row(0xcc0a, "alsih", RILa, F, |c, op| {
        let r = addl32(c, high(c, op.r1), op.imm as u32);
        set_high(c, op.r1, r);
        Ok(Flow::Next)
    }),
    row(0xcc0b, "alsihn", RILa, F, |c, op| {
        let r = high(c, op.r1).wrapping_add(op.imm as u32);
        set_high(c, op.r1, r);
        Ok(Flow::Next)
    }),
    last(0xcc06, "brcth", RILb, F, |c, op| {
        let count = high(c, op.r1).wrapping_sub(1);
        set_high(c, op.r1, count);
        if count != 0 { Ok(c.jump_relative(op)) } else { Ok(Flow::Next) }
    }),
    row(0xb9cd, "chhr", RRE, F, |c, op| {
        c.cc = order(high(c, op.r1) as i32, high(c, op.r2) as i32);
        Ok(Flow::Next)
    }),
    row(0xb9dd, "chlr", RRE, F, |c, op| {
        c.cc = order(high(c, op.r1) as i32, low(c, op.r2) as i32);
        Ok(Flow::Next)
    }),
    row(0xe3cd, "chf", RXYa, F, |c, op| {
        let b = src::m32(c, op)?;
        c.cc = order(high(c, op.r1) as i32, b as i32);
        Ok(Flow::Next)
    }),
    row(0xcc0d, "cih", RILa, F, |c, op| {
        c.cc = order(high(c, op.r1) as i32, op.imm as i32);
        Ok(Flow::Next)
    }),
    row(0xb9cf, "clhhr", RRE, F, |c, op| {
        c.cc = order(high(c, op.r1), high(c, op.r2));
        Ok(Flow::Next)
    }),
    row(0xb9df, "clhlr", RRE, F, |c, op| {
        c.cc = order(high(c, op.r1), low(c, op.r2));
        Ok(Flow::Next)
    }),
    row(0xe3cf, "clhf", RXYa, F, |c, op| {
        let b = src::m32(c, op)?;
        c.cc = order(high(c, op.r1), b);
        Ok(Flow::Next)
    }),
    row(0xcc0f, "clih", RILa, F, |c, op| {
        c.cc = order(high(c, op.r1), op.imm as u32);
        Ok(Flow::Next)
    }),
    row(0xe3c0, "lbh", RXYa, F, |c, op| {
        let addr = c.ea(op);
        let value = c.read_u8(addr)? as i8 as u32;
        set_high(c, op.r1, value);
        Ok(Flow::Next)
    }),
    row(0xe3c4, "lhh", RXYa, F, |c, op| {
        let value = src::m16(c, op)?;
        set_high(c, op.r1, value);
        Ok(Flow::Next)
    }),
    row(0xe3ca, "lfh", RXYa, F, |c, op| {
        let value = src::m32(c, op)?;
        set_high(c, op.r1, value);
        Ok(Flow::Next)
    }),
    row(0xe3c8, "lfhat", RXYa, super::fac::MISC_1, |c, op| {
        let value = src::m32(c, op)?;
        set_high(c, op.r1, value);
        if value == 0 { Err(data_exception(c, 0xff)) } else { Ok(Flow::Next) }
    }),
    row(0xe3c2, "llch", RXYa, F, |c, op| {
        let addr = c.ea(op);
        let value = u32::from(c.read_u8(addr)?);
        set_high(c, op.r1, value);
        Ok(Flow::Next)
    }),
    row(0xe3c6, "llhh", RXYa, F, |c, op| {
        let addr = c.ea(op);
        let value = u32::from(c.read_u16(addr)?);
        set_high(c, op.r1, value);
        Ok(Flow::Next)
    }),
    row(0xe3c3, "stch", RXYa, F, |c, op| {
        let addr = c.ea(op);
        c.write_u8(addr, high(c, op.r1) as u8)?;
        Ok(c.stored())
    }),
    row(0xe3c7, "sthh", RXYa, F, |c, op| {
        let addr = c.ea(op);
        c.write_u16(addr, high(c, op.r1) as u16)?;
        Ok(c.stored())
    }),
    row(0xe3cb, "stfh", RXYa, F, |c, op| {
        let addr = c.ea(op);
        c.write_u32(addr, high(c, op.r1))?;
        Ok(c.stored())
    }),
    row(0xec5d, "risbhg", RIEf, F, |c, op| {
        let r = insert_half(c, op, 32);
        c.set_g(op.r1, r);
        Ok(Flow::Next)
    }),
    row(0xec51, "risblg", RIEf, F, |c, op| {
        let r = insert_half(c, op, 0);
        c.set_g(op.r1, r);
        Ok(Flow::Next)
    }),
];

#[inline(always)]
fn high(c: &Cpu, r: u8) -> u32 {
    (c.g(r) >> 32) as u32
}

#[inline(always)]
fn low(c: &Cpu, r: u8) -> u32 {
    c.w(r)
}

#[inline(always)]
fn set_high(c: &mut Cpu, r: u8, value: u32) {
    c.set_g(r, u64::from(value) << 32 | u64::from(c.w(r)));
}

/// RISBHG and RISBLG: I3 and I4 count within the 32-bit half at `shift`; the other half stays.
fn insert_half(c: &Cpu, op: &Op, shift: u32) -> u64 {
    let [i3, i4, i5, _] = op.aux.to_le_bytes();
    let (start, end) = (u32::from(i3 & 31), u32::from(i4 & 31));
    let (from_start, to_end) = (u32::MAX >> start, u32::MAX << (31 - end));
    let mask = if start <= end { from_start & to_end } else { from_start | to_end };
    let rotated = (c.g(op.r2).rotate_left(u32::from(i5 & 63)) >> shift) as u32;
    let old = (c.g(op.r1) >> shift) as u32;
    let kept = if i4 & 0x80 != 0 { 0 } else { old & !mask };
    c.g(op.r1) & !(0xffff_ffff << shift) | u64::from(kept | rotated & mask) << shift
}
