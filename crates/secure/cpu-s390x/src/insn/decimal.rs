//! Decimal arithmetic and editing (SA22-7832, chapter 8).
//!
//! Packed operands have at most 31 digits, which fit an integer of 128 bits. Conversions between packed, zoned
//! and binary are in `convert`.

use super::fac::Z;
use super::fp_move::data_exception;
use super::row;
use crate::cpu::Cpu;
use crate::op::{Entry, Flow, Format::*, Op, Step, Trap};
use cloister_arch::s390x::program;
use std::cmp::Ordering;

/// Rows for decimal instructions.
pub(crate) const TABLE: &[Entry] = &[
    row(0xfa00, "ap", SSb, Z, |c, op| {
        let o = Operands::of(c, op);
        let (a, b) = (o.first(c)?, o.second(c)?);
        o.store(c, a.value() + b.value(), false)
    }),
    row(0xfb00, "sp", SSb, Z, |c, op| {
        let o = Operands::of(c, op);
        let (a, b) = (o.first(c)?, o.second(c)?);
        o.store(c, a.value() - b.value(), false)
    }),
    row(0xf800, "zap", SSb, Z, |c, op| {
        let o = Operands::of(c, op);
        let b = o.second(c)?;
        o.store(c, b.value(), b.negative)
    }),
    row(0xf900, "cp", SSb, Z, |c, op| {
        let o = Operands::of(c, op);
        let (a, b) = (o.first(c)?, o.second(c)?);
        c.cc = match a.value().cmp(&b.value()) {
            Ordering::Equal => 0,
            Ordering::Less => 1,
            Ordering::Greater => 2,
        };
        Ok(Flow::Next)
    }),
    row(0xfc00, "mp", SSb, Z, mp),
    row(0xfd00, "dp", SSb, Z, dp),
    row(0xf000, "srp", SSc, Z, srp),
    row(0xde00, "ed", SSa, Z, |c, op| edit(c, op, false)),
    row(0xdf00, "edmk", SSa, Z, |c, op| edit(c, op, true)),
    row(0xebc0, "tp", RSL, Z, |c, op| {
        let addr = c.ea(op);
        let len = usize::from(op.r1) + 1;
        let mut bytes = [0; 16];
        c.read_bytes(addr, &mut bytes[..len])?;
        let (digits, sign) = valid(&bytes[..len]);
        c.cc = u8::from(!digits) << 1 | u8::from(!sign);
        Ok(Flow::Next)
    }),
];

/// A packed decimal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) magnitude: u128,
    pub(super) negative: bool,
}

impl Packed {
    /// Reads `bytes`; nothing if a digit or the sign is invalid.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if valid(bytes) != (true, true) {
            return None;
        }
        let digits = bytes.iter().flat_map(|b| [b >> 4, b & 15]).take(bytes.len() * 2 - 1);
        let magnitude = digits.fold(0, |value, digit| value * 10 + u128::from(digit));
        let negative = bytes.last().is_some_and(|b| matches!(b & 15, 0xb | 0xd));
        Some(Self { magnitude, negative })
    }

    /// Writes all of `bytes`, with a preferred sign. Whether all digits had room.
    pub(super) fn encode(self, bytes: &mut [u8]) -> bool {
        let mut rest = self.magnitude;
        let mut digit = || {
            let digit = (rest % 10) as u8;
            rest /= 10;
            digit
        };
        for (place, byte) in bytes.iter_mut().rev().enumerate() {
            let low = match (place, self.negative) {
                (0, false) => 0xc,
                (0, true) => 0xd,
                _ => digit(),
            };
            *byte = digit() << 4 | low;
        }
        rest == 0
    }

    pub(super) fn value(self) -> i128 {
        if self.negative { -(self.magnitude as i128) } else { self.magnitude as i128 }
    }
}

/// Whether the digits and the sign of a packed operand are valid.
pub(super) fn valid(bytes: &[u8]) -> (bool, bool) {
    let sign = bytes.last().is_some_and(|b| b & 15 > 9);
    let last = bytes.len().saturating_sub(1);
    let digits = bytes.iter().enumerate().all(|(i, b)| b >> 4 <= 9 && (i == last || b & 15 <= 9));
    (digits, sign)
}

/// Addresses and lengths in bytes of an SS-b instruction.
struct Operands {
    first: u64,
    first_len: usize,
    second: u64,
    second_len: usize,
}

impl Operands {
    fn of(c: &Cpu, op: &Op) -> Self {
        Self {
            first: c.base(op.b).wrapping_add_signed(op.imm) & c.addr_mask,
            first_len: usize::from(op.r1) + 1,
            second: second_address(c, op),
            second_len: usize::from(op.r2) + 1,
        }
    }

    fn first(&self, c: &mut Cpu) -> Result<Packed, Trap> {
        fetch(c, self.first, self.first_len)
    }

    fn second(&self, c: &mut Cpu) -> Result<Packed, Trap> {
        fetch(c, self.second, self.second_len)
    }

    /// Stores a result at the first operand, with condition code and overflow. `negative_zero` is the sign of
    /// digits that are all zero because others were lost.
    fn store(&self, c: &mut Cpu, value: i128, negative: bool) -> Step {
        let limit = 10u128.pow(self.first_len as u32 * 2 - 1);
        let magnitude = value.unsigned_abs() % limit;
        let overflow = magnitude != value.unsigned_abs();
        // A zero that is the true result is positive; one that is left after an overflow keeps its sign.
        let negative = if overflow { value < 0 || negative } else { value < 0 };
        let mut bytes = [0; 16];
        Packed { magnitude, negative }.encode(&mut bytes[..self.first_len]);
        c.write_bytes(self.first, &bytes[..self.first_len])?;
        c.cc = match value.cmp(&0) {
            _ if overflow => 3,
            Ordering::Equal => 0,
            Ordering::Less => 1,
            Ordering::Greater => 2,
        };
        if overflow && c.psw.mask & (4 << 40) != 0 {
            return Err(c.program(program::DECIMAL_OVERFLOW));
        }
        Ok(c.stored())
    }

    /// Specification exception unless the second operand has at most 8 bytes and is the shorter one.
    fn second_is_short(&self, c: &mut Cpu) -> Result<(), Trap> {
        if self.second_len > 8 || self.second_len >= self.first_len {
            return Err(c.program(program::SPECIFICATION));
        }
        Ok(())
    }
}

/// Second-operand address of SS formats.
pub(super) fn second_address(c: &Cpu, op: &Op) -> u64 {
    c.base(op.b2).wrapping_add(u64::from(op.aux & 0xfff)) & c.addr_mask
}

fn fetch(c: &mut Cpu, addr: u64, len: usize) -> Result<Packed, Trap> {
    let mut bytes = [0; 16];
    c.read_bytes(addr, &mut bytes[..len])?;
    Packed::decode(&bytes[..len]).ok_or_else(|| data_exception(c, 0))
}

/// MULTIPLY DECIMAL: the first operand must have as many leading zero bytes as the second has bytes.
fn mp(c: &mut Cpu, op: &Op) -> Step {
    let o = Operands::of(c, op);
    o.second_is_short(c)?;
    let (a, b) = (o.first(c)?, o.second(c)?);
    if a.magnitude >= 10u128.pow((o.first_len - o.second_len) as u32 * 2 - 1) {
        return Err(data_exception(c, 0));
    }
    let product = Packed { magnitude: a.magnitude * b.magnitude, negative: a.negative != b.negative };
    let mut bytes = [0; 16];
    product.encode(&mut bytes[..o.first_len]);
    c.write_bytes(o.first, &bytes[..o.first_len])?;
    Ok(c.stored())
}

/// DIVIDE DECIMAL: quotient on the left, remainder as long as the divisor on the right.
fn dp(c: &mut Cpu, op: &Op) -> Step {
    let o = Operands::of(c, op);
    o.second_is_short(c)?;
    let (a, b) = (o.first(c)?, o.second(c)?);
    let quotient_len = o.first_len - o.second_len;
    let limit = 10u128.pow(quotient_len as u32 * 2 - 1);
    if b.magnitude == 0 || a.magnitude / b.magnitude >= limit {
        return Err(c.program(program::DECIMAL_DIVIDE));
    }
    let quotient = Packed { magnitude: a.magnitude / b.magnitude, negative: a.negative != b.negative };
    let remainder = Packed { magnitude: a.magnitude % b.magnitude, negative: a.negative };
    let mut bytes = [0; 16];
    quotient.encode(&mut bytes[..quotient_len]);
    remainder.encode(&mut bytes[quotient_len..o.first_len]);
    c.write_bytes(o.first, &bytes[..o.first_len])?;
    Ok(c.stored())
}

/// SHIFT AND ROUND DECIMAL: shift in bits 58-63 of the second-operand address, signed; I3 (in `r2`) is added to
/// the last digit shifted out.
fn srp(c: &mut Cpu, op: &Op) -> Step {
    let o = Operands::of(c, op);
    let a = o.first(c)?;
    if op.r2 > 9 {
        return Err(data_exception(c, 0));
    }
    let shift = (o.second as u8) << 2;
    let shift = i32::from(shift as i8 >> 2);
    let digits = o.first_len as u32 * 2 - 1;
    if shift < 0 {
        let shifted = a.magnitude / 10u128.pow(shift.unsigned_abs() - 1);
        let rounded = ((shifted + u128::from(op.r2)) / 10) as i128;
        return o.store(c, if a.negative { -rounded } else { rounded }, a.negative);
    }
    let left = shift.unsigned_abs();
    // What stays is taken before shifting, so that nothing exceeds 128 bits.
    let kept = if left >= digits { 0 } else { a.magnitude % 10u128.pow(digits - left) };
    let overflow = kept != a.magnitude;
    let value = if kept == 0 { 0 } else { kept * 10u128.pow(left) };
    // One more digit on the left stands for all that were lost.
    let value = value + if overflow { 10u128.pow(digits) } else { 0 };
    o.store(c, if a.negative { -(value as i128) } else { value as i128 }, a.negative)
}

/// EDIT, EDIT AND MARK.
fn edit(c: &mut Cpu, op: &Op, mark: bool) -> Step {
    const DIGIT: u8 = 0x20;
    const START: u8 = 0x21;
    const SEPARATOR: u8 = 0x22;
    let first = c.base(op.b).wrapping_add_signed(op.imm) & c.addr_mask;
    let mut source = second_address(c, op);
    let len = (op.aux >> 16 & 0xff) as usize + 1;
    let mut pattern = [0; 256];
    c.read_bytes(first, &mut pattern[..len])?;
    let fill = pattern[0];
    let (mut significance, mut nonzero, mut marked) = (false, false, None);
    // The right digit of a byte whose left digit has been taken.
    let mut pending: Option<u8> = None;
    for (i, byte) in pattern[..len].iter_mut().enumerate() {
        match *byte {
            DIGIT | START => {
                let mut plus = false;
                let digit = match pending.take() {
                    Some(digit) => digit,
                    None => {
                        let value = c.read_u8(source)?;
                        source = c.wrap(source, 1);
                        match value & 15 {
                            0..=9 => pending = Some(value & 15),
                            sign => plus = !matches!(sign, 0xb | 0xd),
                        }
                        if value >> 4 > 9 {
                            return Err(data_exception(c, 0));
                        }
                        value >> 4
                    }
                };
                let start = *byte == START;
                if digit != 0 && !significance {
                    marked = Some(c.wrap(first, i));
                }
                *byte = if significance || digit != 0 { 0xf0 | digit } else { fill };
                nonzero |= digit != 0;
                significance = (significance || digit != 0 || start) && !plus;
            }
            SEPARATOR => {
                *byte = fill;
                significance = false;
                nonzero = false;
            }
            _ if significance => {}
            _ => *byte = fill,
        }
    }
    c.write_bytes(first, &pattern[..len])?;
    if let (true, Some(at)) = (mark, marked) {
        match c.addr_mask {
            u64::MAX => c.set_g(1, at),
            0x7fff_ffff => c.set_w(1, at as u32),
            _ => c.set_w(1, c.w(1) & 0xff00_0000 | at as u32),
        }
    }
    c.cc = match (nonzero, significance) {
        (false, _) => 0,
        (true, true) => 1,
        (true, false) => 2,
    };
    Ok(c.stored())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn encoding_decodes(magnitude in 0..10u128.pow(31), negative: bool) {
            let packed = Packed { magnitude, negative };
            let mut bytes = [0; 16];
            prop_assert!(packed.encode(&mut bytes));
            prop_assert_eq!(Packed::decode(&bytes), Some(packed));
            prop_assert_eq!(packed.encode(&mut bytes[..4]), magnitude < 10_000_000);
        }

        #[test]
        fn decoding_is_total(bytes in prop::collection::vec(any::<u8>(), 1..=16)) {
            prop_assert_eq!(Packed::decode(&bytes).is_some(), valid(&bytes) == (true, true));
        }
    }

    #[test]
    fn signs() {
        for (sign, negative) in
            [(0xa, false), (0xb, true), (0xc, false), (0xd, true), (0xe, false), (0xf, false)]
        {
            assert_eq!(Packed::decode(&[0x12, 0x30 | sign]), Some(Packed { magnitude: 123, negative }));
        }
        assert_eq!(Packed::decode(&[0x12, 0x39]), None);
        assert_eq!(Packed::decode(&[0x1a, 0x3c]), None);
    }
}
