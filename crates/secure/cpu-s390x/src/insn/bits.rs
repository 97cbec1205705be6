//! Logical operations, shifts, rotates, bit insertion, bit counting.

use super::arith::{cc_signed, even, overflow};
use super::fac::{
    DISTINCT_OPERANDS, EXTENDED_IMMEDIATE, GENERAL_EXTENSION, LONG_DISPLACEMENT, MISC_1, MISC_3, Z,
};
use super::{row, src};
use crate::cpu::Cpu;
use crate::op::{Entry, Flow, Format::*, Op, Step};

/// Logical operation on 32 bits; CC 0 for zero, 1 otherwise.
macro_rules! w {
    ($a:ident, $s:path, $f:expr) => {
        |c: &mut Cpu, op: &Op| -> Step {
            let b = $s(c, op)?;
            let f: fn(u32, u32) -> u32 = $f;
            let r = f(c.w(op.$a), b);
            c.cc = u8::from(r != 0);
            c.set_w(op.r1, r);
            Ok(Flow::Next)
        }
    };
}

/// Logical operation on 64 bits.
macro_rules! g {
    ($a:ident, $s:path, $f:expr) => {
        |c: &mut Cpu, op: &Op| -> Step {
            let b = $s(c, op)?;
            let f: fn(u64, u64) -> u64 = $f;
            let r = f(c.g(op.$a), b);
            c.cc = u8::from(r != 0);
            c.set_g(op.r1, r);
            Ok(Flow::Next)
        }
    };
}

/// Immediate applied to a 16- or 32-bit part of a register; the CC tells about that part only.
macro_rules! part {
    ($t:ty, $shift:literal, $f:expr) => {
        |c: &mut Cpu, op: &Op| -> Step {
            let f: fn($t, $t) -> $t = $f;
            let old = c.g(op.r1);
            let r = f((old >> $shift) as $t, op.imm as $t);
            c.cc = u8::from(r != 0);
            c.set_g(op.r1, old & !(u64::from(<$t>::MAX) << $shift) | u64::from(r) << $shift);
            Ok(Flow::Next)
        }
    };
}

/// Single shift by the second-operand address (low six bits): `$from` is the source register field.
macro_rules! shift {
    ($get:ident, $set:ident, $from:ident, $f:expr) => {
        |c: &mut Cpu, op: &Op| -> Step {
            let n = amount(c, op);
            let f: fn(&mut Cpu, _, u32) -> _ = $f;
            let r = f(c, c.$get(op.$from), n);
            c.$set(op.r1, r);
            overflow(c)
        }
    };
}

/// Rows for logical operations and shifts.
pub(crate) const TABLE: &[Entry] = &[
    row(0x1400, "nr", RR, Z, w!(r1, src::r32, |a, b| a & b)),
    row(0x5400, "n", RX, Z, w!(r1, src::m32, |a, b| a & b)),
    row(0xe354, "ny", RXYa, LONG_DISPLACEMENT, w!(r1, src::m32, |a, b| a & b)),
    row(0xb9f4, "nrk", RRFa, DISTINCT_OPERANDS, w!(r2, src::k32, |a, b| a & b)),
    row(0xb980, "ngr", RRE, Z, g!(r1, src::r64, |a, b| a & b)),
    row(0xe380, "ng", RXYa, Z, g!(r1, src::m64, |a, b| a & b)),
    row(0xb9e4, "ngrk", RRFa, DISTINCT_OPERANDS, g!(r2, src::k64, |a, b| a & b)),
    row(0x1600, "or", RR, Z, w!(r1, src::r32, |a, b| a | b)),
    row(0x5600, "o", RX, Z, w!(r1, src::m32, |a, b| a | b)),
    row(0xe356, "oy", RXYa, LONG_DISPLACEMENT, w!(r1, src::m32, |a, b| a | b)),
    row(0xb9f6, "ork", RRFa, DISTINCT_OPERANDS, w!(r2, src::k32, |a, b| a | b)),
    row(0xb981, "ogr", RRE, Z, g!(r1, src::r64, |a, b| a | b)),
    row(0xe381, "og", RXYa, Z, g!(r1, src::m64, |a, b| a | b)),
    row(0xb9e6, "ogrk", RRFa, DISTINCT_OPERANDS, g!(r2, src::k64, |a, b| a | b)),
    row(0x1700, "xr", RR, Z, w!(r1, src::r32, |a, b| a ^ b)),
    row(0x5700, "x", RX, Z, w!(r1, src::m32, |a, b| a ^ b)),
    row(0xe357, "xy", RXYa, LONG_DISPLACEMENT, w!(r1, src::m32, |a, b| a ^ b)),
    row(0xb9f7, "xrk", RRFa, DISTINCT_OPERANDS, w!(r2, src::k32, |a, b| a ^ b)),
    row(0xb982, "xgr", RRE, Z, g!(r1, src::r64, |a, b| a ^ b)),
    row(0xe382, "xg", RXYa, Z, g!(r1, src::m64, |a, b| a ^ b)),
    row(0xb9e7, "xgrk", RRFa, DISTINCT_OPERANDS, g!(r2, src::k64, |a, b| a ^ b)),
    // Miscellaneous-instruction-extensions 3
    row(0xb974, "nnrk", RRFa, MISC_3, w!(r2, src::k32, |a, b| !(a & b))),
    row(0xb964, "nngrk", RRFa, MISC_3, g!(r2, src::k64, |a, b| !(a & b))),
    row(0xb976, "nork", RRFa, MISC_3, w!(r2, src::k32, |a, b| !(a | b))),
    row(0xb966, "nogrk", RRFa, MISC_3, g!(r2, src::k64, |a, b| !(a | b))),
    row(0xb977, "nxrk", RRFa, MISC_3, w!(r2, src::k32, |a, b| !(a ^ b))),
    row(0xb967, "nxgrk", RRFa, MISC_3, g!(r2, src::k64, |a, b| !(a ^ b))),
    row(0xb9f5, "ncrk", RRFa, MISC_3, w!(r2, src::k32, |a, b| a & !b)),
    row(0xb9e5, "ncgrk", RRFa, MISC_3, g!(r2, src::k64, |a, b| a & !b)),
    row(0xb975, "ocrk", RRFa, MISC_3, w!(r2, src::k32, |a, b| a | !b)),
    row(0xb965, "ocgrk", RRFa, MISC_3, g!(r2, src::k64, |a, b| a | !b)),
    // Immediate
    row(0xa504, "nihh", RIa, Z, part!(u16, 48, |a, b| a & b)),
    row(0xa505, "nihl", RIa, Z, part!(u16, 32, |a, b| a & b)),
    row(0xa506, "nilh", RIa, Z, part!(u16, 16, |a, b| a & b)),
    row(0xa507, "nill", RIa, Z, part!(u16, 0, |a, b| a & b)),
    row(0xa508, "oihh", RIa, Z, part!(u16, 48, |a, b| a | b)),
    row(0xa509, "oihl", RIa, Z, part!(u16, 32, |a, b| a | b)),
    row(0xa50a, "oilh", RIa, Z, part!(u16, 16, |a, b| a | b)),
    row(0xa50b, "oill", RIa, Z, part!(u16, 0, |a, b| a | b)),
    row(0xc006, "xihf", RILa, EXTENDED_IMMEDIATE, part!(u32, 32, |a, b| a ^ b)),
    row(0xc007, "xilf", RILa, EXTENDED_IMMEDIATE, part!(u32, 0, |a, b| a ^ b)),
    row(0xc00a, "nihf", RILa, EXTENDED_IMMEDIATE, part!(u32, 32, |a, b| a & b)),
    row(0xc00b, "nilf", RILa, EXTENDED_IMMEDIATE, part!(u32, 0, |a, b| a & b)),
    row(0xc00c, "oihf", RILa, EXTENDED_IMMEDIATE, part!(u32, 32, |a, b| a | b)),
    row(0xc00d, "oilf", RILa, EXTENDED_IMMEDIATE, part!(u32, 0, |a, b| a | b)),
    // Single shifts
    row(0x8900, "sll", RSa, Z, shift!(w, set_w, r1, |_, a, n| shl32(a, n))),
    row(0x8800, "srl", RSa, Z, shift!(w, set_w, r1, |_, a, n| shr32(a, n))),
    row(0x8b00, "sla", RSa, Z, shift!(w, set_w, r1, sla32)),
    row(0x8a00, "sra", RSa, Z, shift!(w, set_w, r1, sra32)),
    row(0xebdf, "sllk", RSYa, DISTINCT_OPERANDS, shift!(w, set_w, r2, |_, a, n| shl32(a, n))),
    row(0xebde, "srlk", RSYa, DISTINCT_OPERANDS, shift!(w, set_w, r2, |_, a, n| shr32(a, n))),
    row(0xebdd, "slak", RSYa, DISTINCT_OPERANDS, shift!(w, set_w, r2, sla32)),
    row(0xebdc, "srak", RSYa, DISTINCT_OPERANDS, shift!(w, set_w, r2, sra32)),
    row(0xeb0d, "sllg", RSYa, Z, shift!(g, set_g, r2, |_, a: u64, n| a << n)),
    row(0xeb0c, "srlg", RSYa, Z, shift!(g, set_g, r2, |_, a: u64, n| a >> n)),
    row(0xeb0b, "slag", RSYa, Z, shift!(g, set_g, r2, sla64)),
    row(0xeb0a, "srag", RSYa, Z, shift!(g, set_g, r2, sra64)),
    row(0xeb1d, "rll", RSYa, Z, shift!(w, set_w, r2, |_, a: u32, n| a.rotate_left(n))),
    row(0xeb1c, "rllg", RSYa, Z, shift!(g, set_g, r2, |_, a: u64, n| a.rotate_left(n))),
    // Double shifts
    row(0x8d00, "sldl", RSa, Z, |c, op| double(c, op, |_, a, n| a << n)),
    row(0x8c00, "srdl", RSa, Z, |c, op| double(c, op, |_, a, n| a >> n)),
    row(0x8f00, "slda", RSa, Z, |c, op| double(c, op, sla64)),
    row(0x8e00, "srda", RSa, Z, |c, op| double(c, op, sra64)),
    // Rotate then ... selected bits
    row(0xec55, "risbg", RIEf, GENERAL_EXTENSION, |c, op| {
        let r = risbg(c, op);
        c.cc = cc_signed(r as i64);
        c.set_g(op.r1, r);
        Ok(Flow::Next)
    }),
    row(0xec59, "risbgn", RIEf, MISC_1, |c, op| {
        let r = risbg(c, op);
        c.set_g(op.r1, r);
        Ok(Flow::Next)
    }),
    row(0xec54, "rnsbg", RIEf, GENERAL_EXTENSION, |c, op| rsbg(c, op, |a, b| a & b)),
    row(0xec56, "rosbg", RIEf, GENERAL_EXTENSION, |c, op| rsbg(c, op, |a, b| a | b)),
    row(0xec57, "rxsbg", RIEf, GENERAL_EXTENSION, |c, op| rsbg(c, op, |a, b| a ^ b)),
    // Counting
    row(0xb983, "flogr", RRE, EXTENDED_IMMEDIATE, |c, op| {
        even(c, op)?;
        let a = c.g(op.r2);
        let n = a.leading_zeros();
        c.cc = if a == 0 { 0 } else { 2 };
        c.set_g(op.r1, u64::from(n));
        let rest = if a == 0 { 0 } else { a & !(1 << (63 - n)) };
        c.set_g(op.r1 + 1, rest);
        Ok(Flow::Next)
    }),
    row(0xb9e1, "popcnt", RRFc, DISTINCT_OPERANDS, |c, op| {
        let a = c.g(op.r2);
        // M3 bit 0 (whole register) came with miscellaneous-instruction-extensions 3.
        let r = if op.x & 8 != 0 && c.facility(MISC_3) {
            u64::from(a.count_ones())
        } else {
            u64::from_be_bytes(a.to_be_bytes().map(|byte| byte.count_ones() as u8))
        };
        c.cc = u8::from(r != 0);
        c.set_g(op.r1, r);
        Ok(Flow::Next)
    }),
];

#[inline(always)]
fn amount(c: &Cpu, op: &Op) -> u32 {
    (c.base(op.b).wrapping_add_signed(op.imm) & 63) as u32
}

#[inline(always)]
fn shl32(a: u32, n: u32) -> u32 {
    a.checked_shl(n).unwrap_or(0)
}

#[inline(always)]
fn shr32(a: u32, n: u32) -> u32 {
    a.checked_shr(n).unwrap_or(0)
}

/// Arithmetic left shift: the sign stays; CC 3 if a bit unlike the sign is shifted out.
fn sla32(c: &mut Cpu, a: u32, n: u32) -> u32 {
    let wide = i128::from(a as i32) << n;
    let r = (shl32(a, n) & 0x7fff_ffff | a & 0x8000_0000) as i32;
    let over = i32::try_from(wide).is_err();
    c.cc = if over { 3 } else { cc_signed(r) };
    c.fixed_overflow = over;
    r as u32
}

fn sla64(c: &mut Cpu, a: u64, n: u32) -> u64 {
    let wide = i128::from(a as i64) << n;
    let r = (a << n & (u64::MAX >> 1) | a & 1 << 63) as i64;
    let over = i64::try_from(wide).is_err();
    c.cc = if over { 3 } else { cc_signed(r) };
    c.fixed_overflow = over;
    r as u64
}

fn sra32(c: &mut Cpu, a: u32, n: u32) -> u32 {
    let r = a as i32 >> n.min(31);
    c.cc = cc_signed(r);
    r as u32
}

fn sra64(c: &mut Cpu, a: u64, n: u32) -> u64 {
    let r = a as i64 >> n;
    c.cc = cc_signed(r);
    r as u64
}

/// Shifts the pair of low halves R1, R1+1 as one 64-bit number.
fn double(c: &mut Cpu, op: &Op, f: fn(&mut Cpu, u64, u32) -> u64) -> Step {
    even(c, op)?;
    let n = amount(c, op);
    let a = u64::from(c.w(op.r1)) << 32 | u64::from(c.w(op.r1 + 1));
    let r = f(c, a, n);
    c.set_w(op.r1, (r >> 32) as u32);
    c.set_w(op.r1 + 1, r as u32);
    overflow(c)
}

/// Bits `start` to `end` (64-bit numbering from the left), wrapping around if start > end.
#[inline(always)]
fn bit_range(start: u32, end: u32) -> u64 {
    let (from_start, to_end) = (u64::MAX >> start, u64::MAX << (63 - end));
    if start <= end { from_start & to_end } else { from_start | to_end }
}

/// I3, I4 and I5 of a RIE-f instruction.
#[inline(always)]
fn selection(op: &Op) -> (u8, u8, u32) {
    let [i3, i4, i5, _] = op.aux.to_le_bytes();
    (i3, i4, u32::from(i5 & 63))
}

#[inline(always)]
fn risbg(c: &Cpu, op: &Op) -> u64 {
    let (i3, i4, rotate) = selection(op);
    let mask = bit_range(u32::from(i3 & 63), u32::from(i4 & 63));
    let inserted = c.g(op.r2).rotate_left(rotate) & mask;
    if i4 & 0x80 != 0 { inserted } else { c.g(op.r1) & !mask | inserted }
}

fn rsbg(c: &mut Cpu, op: &Op, f: fn(u64, u64) -> u64) -> Step {
    let (i3, i4, rotate) = selection(op);
    let mask = bit_range(u32::from(i3 & 63), u32::from(i4 & 63));
    let first = c.g(op.r1);
    let selected = f(first, c.g(op.r2).rotate_left(rotate)) & mask;
    c.cc = u8::from(selected != 0);
    if i3 & 0x80 == 0 {
        c.set_g(op.r1, first & !mask | selected);
    }
    Ok(Flow::Next)
}
