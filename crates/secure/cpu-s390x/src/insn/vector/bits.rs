//! Logical operations, shifts, rotates and counts of bits (SA22-7832, chapter 22).

use super::lane::{map1, map2, map3};
use super::{enabled, m32, require};
use crate::cpu::Cpu;
use crate::insn::fac::{VECTOR, VECTOR_ENHANCEMENTS_1, VECTOR_ENHANCEMENTS_2};
use crate::insn::row;
use crate::op::{Entry, Flow, Format::*, Op, Step};

/// V1 = `$e` of each element of V3 and the second-operand address; M4 is the size.
macro_rules! shift {
    ($sign:ident, |$a:ident, $n:ident| $e:expr) => {
        |c: &mut Cpu, op: &Op| -> Step {
            enabled(c)?;
            let (a, $n) = (c.v(op.r2), c.ea(op) as u32);
            let value = by_size!(c, m32(op), $sign b h f g, T => map1::<T>(a, |$a: T| $e));
            c.set_v(op.r1, value);
            Ok(Flow::Next)
        }
    };
}

pub(crate) const TABLE: &[Entry] = &[
    row(0xe768, "vn", VRRc, VECTOR, whole!(|a, b| a & b)),
    row(0xe769, "vnc", VRRc, VECTOR, whole!(|a, b| a & !b)),
    row(0xe76a, "vo", VRRc, VECTOR, whole!(|a, b| a | b)),
    row(0xe76b, "vno", VRRc, VECTOR, whole!(|a, b| !(a | b))),
    row(0xe76d, "vx", VRRc, VECTOR, whole!(|a, b| a ^ b)),
    row(0xe76c, "vnx", VRRc, VECTOR_ENHANCEMENTS_1, whole!(|a, b| !(a ^ b))),
    row(0xe76e, "vnn", VRRc, VECTOR_ENHANCEMENTS_1, whole!(|a, b| !(a & b))),
    row(0xe76f, "voc", VRRc, VECTOR_ENHANCEMENTS_1, whole!(|a, b| a | !b)),
    row(0xe7d8, "vtm", VRRa, VECTOR, |c, op| {
        enabled(c)?;
        let (bits, mask) = (c.v(op.r1), c.v(op.r2));
        c.cc = match bits & mask {
            0 => 0,
            selected if selected == mask => 3,
            _ => 1,
        };
        Ok(Flow::Next)
    }),
    // Counts
    row(0xe750, "vpopct", VRRa, VECTOR, |c, op| {
        enabled(c)?;
        require(c, m32(op) == 0 || c.facility(VECTOR_ENHANCEMENTS_1))?;
        let v = c.v(op.r2);
        let value = by_size!(c, m32(op), u b h f g, T => map1(v, |x: T| x.count_ones() as T));
        c.set_v(op.r1, value);
        Ok(Flow::Next)
    }),
    row(0xe753, "vclz", VRRa, VECTOR, unary!(u b h f g, |a| a.leading_zeros() as T)),
    row(0xe752, "vctz", VRRa, VECTOR, unary!(u b h f g, |a| a.trailing_zeros() as T)),
    // Elements, by one count or by a vector of counts; a count is taken modulo the width.
    row(0xe730, "vesl", VRSa, VECTOR, shift!(u, |a, n| a.wrapping_shl(n))),
    row(0xe738, "vesrl", VRSa, VECTOR, shift!(u, |a, n| a.wrapping_shr(n))),
    row(0xe73a, "vesra", VRSa, VECTOR, shift!(i, |a, n| a.wrapping_shr(n))),
    row(0xe733, "verll", VRSa, VECTOR, shift!(u, |a, n| a.rotate_left(n % T::BITS))),
    row(0xe770, "veslv", VRRc, VECTOR, binary!(u b h f g, |a, n| a.wrapping_shl(n as u32))),
    row(0xe778, "vesrlv", VRRc, VECTOR, binary!(u b h f g, |a, n| a.wrapping_shr(n as u32))),
    row(0xe77a, "vesrav", VRRc, VECTOR, binary!(i b h f g, |a, n| a.wrapping_shr(n as u32))),
    row(0xe773, "verllv", VRRc, VECTOR, binary!(u b h f g, |a, n| a.rotate_left(n as u32 % T::BITS))),
    row(0xe772, "verim", VRId, VECTOR, |c, op| {
        enabled(c)?;
        let (v1, v2, mask) = (c.v(op.r1), c.v(op.r2), c.v(op.x));
        let n = op.imm as u32;
        let value = by_size!(c, m32(op), u b h f g, T => {
            map3(v1, v2, mask, |x: T, y: T, m: T| x & !m | y.rotate_left(n % T::BITS) & m)
        });
        c.set_v(op.r1, value);
        Ok(Flow::Next)
    }),
    // The whole register by up to seven bits
    row(0xe774, "vsl", VRRc, VECTOR, |c, op| by_bits(c, op, Direction::Left, 0)),
    row(0xe77c, "vsrl", VRRc, VECTOR, |c, op| by_bits(c, op, Direction::Right, 0)),
    row(0xe77e, "vsra", VRRc, VECTOR, |c, op| by_bits(c, op, Direction::Right, sign(c.v(op.r2)))),
    // ... by up to 15 bytes
    row(0xe775, "vslb", VRRc, VECTOR, whole!(|a, b| a << bytes(b))),
    row(0xe77d, "vsrlb", VRRc, VECTOR, whole!(|a, b| a >> bytes(b))),
    row(0xe77f, "vsrab", VRRc, VECTOR, whole!(|a, b| (a as i128 >> bytes(b)) as u128)),
    // ... two registers by an immediate
    row(0xe777, "vsldb", VRId, VECTOR, |c, op| {
        enabled(c)?;
        require(c, op.imm < 16)?;
        c.set_v(op.r1, double(c, op, 8 * op.imm as u32));
        Ok(Flow::Next)
    }),
    row(0xe786, "vsld", VRId, VECTOR_ENHANCEMENTS_2, |c, op| {
        enabled(c)?;
        require(c, op.imm < 8)?;
        c.set_v(op.r1, double(c, op, op.imm as u32));
        Ok(Flow::Next)
    }),
    row(0xe787, "vsrd", VRId, VECTOR_ENHANCEMENTS_2, |c, op| {
        enabled(c)?;
        require(c, op.imm < 8)?;
        let value = if op.imm == 0 { c.v(op.x) } else { double(c, op, 128 - op.imm as u32) };
        c.set_v(op.r1, value);
        Ok(Flow::Next)
    }),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Left,
    Right,
}

/// What is to the left of a register that is shifted arithmetically.
fn sign(v: u128) -> u8 {
    if v >> 127 == 0 { 0 } else { 0xff }
}

/// Every byte of V2 by the rightmost three bits of its byte in V3, with what comes in from the next byte (with vector
/// enhancements 2; without it all these counts must be equal and the result is the same).
#[inline(always)]
fn by_bits(c: &mut Cpu, op: &Op, direction: Direction, outside: u8) -> Step {
    enabled(c)?;
    let (source, counts) = (c.v(op.r2).to_be_bytes(), c.v(op.x).to_be_bytes());
    let pair = |left: u8, right: u8| u16::from_be_bytes([left, right]);
    let bytes = std::array::from_fn(|n| {
        let count = counts[n] & 7;
        match direction {
            Direction::Left => {
                let next = source.get(n + 1).copied().unwrap_or(outside);
                (pair(source[n], next) << count >> 8) as u8
            }
            Direction::Right => {
                let previous = if n == 0 { outside } else { source[n - 1] };
                (pair(previous, source[n]) >> count) as u8
            }
        }
    });
    c.set_v(op.r1, u128::from_be_bytes(bytes));
    Ok(Flow::Next)
}

/// The shift count, in bits, that bits 1-4 of byte 7 have as a number of bytes.
fn bytes(counts: u128) -> u32 {
    (counts >> 64) as u32 & 0x78
}

/// Bits from `first` (below 128) on of V2 with V3 behind it.
fn double(c: &Cpu, op: &Op, first: u32) -> u128 {
    let (left, right) = (c.v(op.r2), c.v(op.x));
    left << first | right.checked_shr(128 - first).unwrap_or(0)
}
