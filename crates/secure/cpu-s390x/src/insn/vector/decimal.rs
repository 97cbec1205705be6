//! Packed-decimal instructions (SA22-7832, chapter 25).
//!
//! An operand has 31 digits, which fit an integer of 128 bits; a product has 62 and is made of two halves. With the
//! packed-decimal-enhancement facility an instruction can keep its overflow from interrupting.

use super::{enabled, m24, m28, m32};
use crate::cpu::Cpu;
use crate::insn::decimal::{Packed, valid};
use crate::insn::fac::{VECTOR_PACKED_DECIMAL as VPD, VECTOR_PACKED_DECIMAL_ENHANCEMENT};
use crate::insn::fp_move::data_exception;
use crate::insn::row;
use crate::op::{Entry, Flow, Format::*, Op, Step, Trap};
use cloister_arch::s390x::program;
use std::cmp::Ordering;

pub(crate) const TABLE: &[Entry] = &[
    row(0xe634, "vpkz", VSI, VPD, pack_zoned),
    row(0xe635, "vlrl", VSI, VPD, |c, op| {
        enabled(c)?;
        let len = immediate_length(c, op, 15)?;
        load_rightmost(c, op, len)
    }),
    row(0xe637, "vlrlr", VRSd, VPD, |c, op| {
        enabled(c)?;
        load_rightmost(c, op, c.w(op.r2).min(15) as usize + 1)
    }),
    row(0xe63c, "vupkz", VSI, VPD, unpack_zoned),
    row(0xe63d, "vstrl", VSI, VPD, |c, op| {
        enabled(c)?;
        let len = immediate_length(c, op, 15)?;
        store_rightmost(c, op, len)
    }),
    row(0xe63f, "vstrlr", VRSd, VPD, |c, op| {
        enabled(c)?;
        store_rightmost(c, op, c.w(op.r2).min(15) as usize + 1)
    }),
    row(0xe649, "vlip", VRIh, VPD, load_immediate),
    row(0xe650, "vcvb", VRRi, VPD, |c, op| to_binary(c, op, 32)),
    row(0xe652, "vcvbg", VRRi, VPD, |c, op| to_binary(c, op, 64)),
    row(0xe658, "vcvd", VRIi, VPD, |c, op| {
        from_binary(c, op, i128::from(c.w(op.r2) as i32), c.w(op.r2).into())
    }),
    row(0xe65a, "vcvdg", VRIi, VPD, |c, op| {
        from_binary(c, op, i128::from(c.g(op.r2) as i64), c.g(op.r2).into())
    }),
    row(0xe659, "vsrp", VRIg, VPD, shift_and_round),
    row(0xe65b, "vpsop", VRIg, VPD, perform_sign_operation),
    row(0xe65f, "vtp", VRRg, VPD, |c, op| {
        enabled(c)?;
        let (digits, sign) = valid(&c.v(op.r1).to_be_bytes());
        c.cc = u8::from(!digits) << 1 | u8::from(!sign);
        Ok(Flow::Next)
    }),
    row(0xe671, "vap", VRIf, VPD, |c, op| arithmetic(c, op, Shape::Digits, |a, b, _| Ok(sum(a, b)))),
    row(0xe673, "vsp", VRIf, VPD, |c, op| {
        arithmetic(c, op, Shape::Digits, |a, b, _| Ok(sum(a, Packed { negative: !b.negative, ..b })))
    }),
    row(0xe677, "vcp", VRRh, VPD, |c, op| {
        enabled(c)?;
        let a = operand(c, op.r1, m24(op) & 8 != 0)?.value();
        let b = operand(c, op.r2, m24(op) & 4 != 0)?.value();
        c.cc = match a.cmp(&b) {
            Ordering::Equal => 0,
            Ordering::Less => 1,
            Ordering::Greater => 2,
        };
        Ok(Flow::Next)
    }),
    row(0xe678, "vmp", VRIf, VPD, |c, op| arithmetic(c, op, Shape::Digits, |a, b, _| Ok(product(a, b, 0)))),
    row(0xe679, "vmsp", VRIf, VPD, |c, op| {
        arithmetic(c, op, Shape::Shift, |a, b, shift| Ok(product(a, b, shift)))
    }),
    row(0xe67a, "vdp", VRIf, VPD, |c, op| arithmetic(c, op, Shape::Digits, |a, b, _| quotient(a, b, 0))),
    row(0xe67b, "vrp", VRIf, VPD, |c, op| {
        arithmetic(c, op, Shape::Digits, |a, b, _| {
            let magnitude = a.magnitude.checked_rem(b.magnitude).ok_or(ZeroDivisor)?;
            Ok(Exact { magnitude, lost: false, negative: a.negative })
        })
    }),
    row(0xe67e, "vsdp", VRIf, VPD, |c, op| arithmetic(c, op, Shape::Shift, quotient)),
];

/// Digits of a register.
const DIGITS: u32 = 31;

/// A result before it is cut to its digits.
struct Exact {
    /// Its rightmost digits, at least 31.
    magnitude: u128,
    /// There were others than zeros further left.
    lost: bool,
    negative: bool,
}

struct ZeroDivisor;

/// How a result is stored.
struct Target {
    /// Result digits count.
    digits: u32,
    /// Instruction-overflow mask.
    overflow_off: bool,
    /// Force operand 1 positive, with the sign code 1111.
    positive: bool,
    /// Set the condition code.
    set_cc: bool,
}

impl Target {
    /// The mask field of a conversion or an arithmetic instruction has P1 and CS in its last two bits; the count and
    /// the overflow mask are in `controls`.
    fn new(c: &mut Cpu, controls: u8, mask: u32) -> Result<Self, Trap> {
        let digits = u32::from(controls & 0x1f);
        if digits == 0 {
            return Err(c.program(program::SPECIFICATION));
        }
        Ok(Self {
            digits,
            overflow_off: overflow_off(c, controls)?,
            positive: mask & 2 != 0,
            set_cc: mask & 1 != 0,
        })
    }
}

/// The instruction-overflow mask, bit 0 of an immediate whose bits 1 and 2 are zeros.
fn overflow_off(c: &mut Cpu, controls: u8) -> Result<bool, Trap> {
    let off = controls & 0x80 != 0;
    if controls & 0x60 != 0 || (off && !c.facility(VECTOR_PACKED_DECIMAL_ENHANCEMENT)) {
        return Err(c.program(program::SPECIFICATION));
    }
    Ok(off)
}

/// A packed operand; with `positive` its sign is not looked at.
fn operand(c: &mut Cpu, r: u8, positive: bool) -> Result<Packed, Trap> {
    let value = if positive { c.v(r) & !15 | 0xc } else { c.v(r) };
    Packed::decode(&value.to_be_bytes()).ok_or_else(|| data_exception(c, 0))
}

/// Stores a result. Its condition code is that of what is stored; zero is positive unless digits were lost.
fn store(c: &mut Cpu, r: u8, target: &Target, exact: Exact) -> Step {
    let magnitude = exact.magnitude % 10_u128.pow(target.digits);
    let overflow = exact.lost || magnitude != exact.magnitude;
    let negative = exact.negative && !target.positive && (magnitude != 0 || overflow);
    let mut bytes = [0; 16];
    Packed { magnitude, negative }.encode(&mut bytes);
    let value = u128::from_be_bytes(bytes) | if target.positive { 15 } else { 0 };
    c.set_v(r, value);
    if target.set_cc {
        c.cc = match (overflow, magnitude, negative) {
            (true, ..) => 3,
            (_, 0, _) => 0,
            (.., true) => 1,
            (.., false) => 2,
        };
    }
    end(c, overflow && !target.overflow_off)
}

/// The operation is completed; a decimal overflow interrupts behind it if the program mask says so.
fn end(c: &mut Cpu, overflow: bool) -> Step {
    if overflow && c.psw.mask & (4 << 40) != 0 {
        return Err(c.program(program::DECIMAL_OVERFLOW));
    }
    Ok(Flow::Next)
}

/// What bits 3-7 of I4 are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// The result digits count.
    Digits,
    /// A shift amount; the result has all digits.
    Shift,
}

/// An instruction of three registers: `compute` gets the operands and the shift amount. M5: P2, P3, P1, CS.
#[inline]
fn arithmetic(
    c: &mut Cpu,
    op: &Op,
    shape: Shape,
    compute: impl Fn(Packed, Packed, u32) -> Result<Exact, ZeroDivisor>,
) -> Step {
    enabled(c)?;
    let (controls, mask) = (op.imm as u8, m24(op));
    let (shift, controls) = match shape {
        Shape::Digits => (0, controls),
        Shape::Shift => (u32::from(controls & 0x1f), controls & 0xe0 | DIGITS as u8),
    };
    let target = Target::new(c, controls, mask)?;
    let a = operand(c, op.r2, mask & 8 != 0)?;
    let b = operand(c, op.x, mask & 4 != 0)?;
    match compute(a, b, shift) {
        Ok(exact) => store(c, op.r1, &target, exact),
        Err(ZeroDivisor) => Err(c.program(program::DECIMAL_DIVIDE)),
    }
}

fn sum(a: Packed, b: Packed) -> Exact {
    let value = a.value() + b.value();
    Exact { magnitude: value.unsigned_abs(), lost: false, negative: value < 0 }
}

/// The product without its `shift` rightmost digits.
fn product(a: Packed, b: Packed, shift: u32) -> Exact {
    const HALF: u128 = 10_u128.pow(16);
    let split = |value: u128| (value / HALF, value % HALF);
    let ((a1, a0), (b1, b0)) = (split(a.magnitude), split(b.magnitude));
    // Each partial product has at most 32 digits.
    let middle = a1 * b0 + a0 * b1 + a0 * b0 / HALF;
    let high = a1 * b1 + middle / HALF;
    let low = middle % HALF * HALF + a0 * b0 % HALF;
    let (cut, kept) = (10_u128.pow(shift), 10_u128.pow(32 - shift));
    let magnitude = high % cut * kept + low / cut;
    Exact { magnitude, lost: high / cut != 0, negative: a.negative != b.negative }
}

/// The quotient, with `shift` zeros behind the dividend.
fn quotient(a: Packed, b: Packed, shift: u32) -> Result<Exact, ZeroDivisor> {
    const LIMIT: u128 = 10_u128.pow(32);
    let divisor = b.magnitude;
    let mut magnitude = a.magnitude.checked_div(divisor).ok_or(ZeroDivisor)?;
    let mut rest = a.magnitude % divisor;
    let mut lost = false;
    for _ in 0..shift {
        rest *= 10;
        magnitude = magnitude * 10 + rest / divisor;
        rest %= divisor;
        lost |= magnitude >= LIMIT;
        magnitude %= LIMIT;
    }
    Ok(Exact { magnitude, lost, negative: a.negative != b.negative })
}

/// VECTOR SHIFT AND ROUND DECIMAL. I4: rounding, and a signed shift amount; M5: P2, P1, CS.
fn shift_and_round(c: &mut Cpu, op: &Op) -> Step {
    enabled(c)?;
    let target = Target::new(c, op.imm as u8, m24(op))?;
    let a = operand(c, op.r2, m24(op) & 8 != 0)?;
    let controls = (op.aux >> 16) as u8;
    let shift = (controls << 1) as i8 >> 1;
    let amount = u32::from(shift.unsigned_abs());
    let (magnitude, lost) = if shift < 0 {
        // The power of 31 + 1 digits suffices to leave nothing.
        let cut = a.magnitude / 10_u128.pow((amount - 1).min(DIGITS + 1));
        ((cut + if controls & 0x80 != 0 { 5 } else { 0 }) / 10, false)
    } else {
        let room = DIGITS.saturating_sub(amount);
        let kept = a.magnitude % 10_u128.pow(room);
        (if kept == 0 { 0 } else { kept * 10_u128.pow(amount) }, kept != a.magnitude)
    };
    store(c, op.r1, &target, Exact { magnitude, lost, negative: a.negative })
}

/// VECTOR PERFORM SIGN OPERATION DECIMAL. I4: no validation (NV), negative zero (NZ), sign operation (SO, bits 4-5),
/// positive sign code 1111 (PC), sign validation (SV).
fn perform_sign_operation(c: &mut Cpu, op: &Op) -> Step {
    enabled(c)?;
    let target = Target::new(c, op.imm as u8, m24(op))?;
    let controls = (op.aux >> 16) as u8;
    let enhanced = c.facility(VECTOR_PACKED_DECIMAL_ENHANCEMENT);
    let (unchecked, negative_zero) = (enhanced && controls & 0x80 != 0, enhanced && controls & 0x40 != 0);
    let (operation, plus) = (controls >> 2 & 3, if controls & 2 != 0 { 15 } else { 12 });
    let value = c.v(op.r2);
    let (digits, sign) = valid(&value.to_be_bytes());
    let sign_matters = match operation {
        0 => !unchecked,
        1 => true,
        _ => controls & 1 != 0,
    };
    if (!digits && !unchecked) || (!sign && sign_matters) {
        return Err(data_exception(c, 0));
    }
    let kept = value & (!0 >> (4 * (DIGITS - target.digits))) & !15;
    let overflow = kept != value & !15;
    let minus = match operation {
        0 => matches!(value & 15, 0xb | 0xd),
        1 => !matches!(value & 15, 0xb | 0xd),
        other => other == 3,
    } && (kept != 0 || negative_zero);
    let code = match minus {
        // An invalid sign that is maintained without validation.
        _ if !sign && operation == 0 => value & 15,
        true => 13,
        false => plus,
    };
    c.set_v(op.r1, kept | code);
    if target.set_cc {
        c.cc = match (overflow, kept, minus) {
            (true, ..) => 3,
            (_, 0, _) => 0,
            (.., true) => 1,
            (.., false) => 2,
        };
    }
    end(c, overflow && !target.overflow_off)
}

/// VECTOR LOAD IMMEDIATE DECIMAL: four digits, shifted left by as many digits as bits 1-3 of I3 say; bit 0 is the
/// sign.
fn load_immediate(c: &mut Cpu, op: &Op) -> Step {
    enabled(c)?;
    let digits = u128::from(op.imm as u16);
    if (0..4).any(|n| digits >> (4 * n) & 15 > 9) {
        return Err(data_exception(c, 0));
    }
    let sign = if m32(op) & 8 != 0 { 13 } else { 12 };
    c.set_v(op.r1, digits << (4 * (1 + (m32(op) & 7))) | sign);
    Ok(Flow::Next)
}

/// VECTOR CONVERT TO BINARY. M3: P2, logical binary (bit 2), CS; M4: the overflow mask.
fn to_binary(c: &mut Cpu, op: &Op, bits: u32) -> Step {
    enabled(c)?;
    let mask = m24(op);
    let off = overflow_off(c, (m28(op) << 4) as u8 & 0x80)?;
    let a = operand(c, op.r2, mask & 8 != 0)?;
    let logical = mask & 2 != 0;
    let value = if logical { a.magnitude as i128 } else { a.value() };
    let (least, limit) = if logical { (0, 1 << bits) } else { (-1 << (bits - 1), 1 << (bits - 1)) };
    let overflow = !(least..limit).contains(&value);
    if bits == 32 {
        c.set_w(op.r1, value as u32);
    } else {
        c.set_g(op.r1, value as u64);
    }
    if mask & 1 != 0 {
        c.cc = if overflow { 3 } else { 0 };
    }
    if overflow && !off && c.psw.mask & (8 << 40) != 0 {
        return Err(c.program(program::FIXED_POINT_OVERFLOW));
    }
    Ok(Flow::Next)
}

/// VECTOR CONVERT TO DECIMAL. M4: logical binary (bit 0), P1, CS, which knows overflow only.
fn from_binary(c: &mut Cpu, op: &Op, signed: i128, logical: u128) -> Step {
    enabled(c)?;
    let mask = m24(op);
    let target = Target::new(c, op.imm as u8, mask & 2)?;
    let (magnitude, negative) =
        if mask & 8 != 0 { (logical, false) } else { (signed.unsigned_abs(), signed < 0) };
    if mask & 1 != 0 {
        c.cc = if magnitude >= 10_u128.pow(target.digits) { 3 } else { 0 };
    }
    store(c, op.r1, &target, Exact { magnitude, lost: false, negative })
}

/// The length in I3, which is one less and at most `last`.
fn immediate_length(c: &mut Cpu, op: &Op, last: u32) -> Result<usize, Trap> {
    if op.aux > last {
        return Err(c.program(program::SPECIFICATION));
    }
    Ok(op.aux as usize + 1)
}

fn load_rightmost(c: &mut Cpu, op: &Op, len: usize) -> Step {
    let mut bytes = [0; 16];
    let addr = c.ea(op);
    c.read_bytes(addr, &mut bytes[16 - len..])?;
    c.set_v(op.r1, u128::from_be_bytes(bytes));
    Ok(Flow::Next)
}

fn store_rightmost(c: &mut Cpu, op: &Op, len: usize) -> Step {
    let addr = c.ea(op);
    c.write_bytes(addr, &c.v(op.r1).to_be_bytes()[16 - len..])?;
    Ok(c.stored())
}

/// VECTOR PACK ZONED: digits and sign are not checked.
fn pack_zoned(c: &mut Cpu, op: &Op) -> Step {
    enabled(c)?;
    let len = immediate_length(c, op, DIGITS - 1)?;
    let mut zoned = [0; DIGITS as usize];
    let addr = c.ea(op);
    c.read_bytes(addr, &mut zoned[..len])?;
    let sign = zoned[len - 1] >> 4;
    let digits = zoned[..len].iter().fold(0, |value, byte| value << 4 | u128::from(byte & 15));
    c.set_v(op.r1, digits << 4 | u128::from(sign));
    Ok(Flow::Next)
}

/// VECTOR UNPACK ZONED: digits and sign are not checked.
fn unpack_zoned(c: &mut Cpu, op: &Op) -> Step {
    enabled(c)?;
    let len = immediate_length(c, op, DIGITS - 1)?;
    let value = c.v(op.r1);
    let mut zoned: [u8; DIGITS as usize] =
        std::array::from_fn(|n| (value >> (124 - 4 * n)) as u8 & 15 | 0xf0);
    zoned[DIGITS as usize - 1] = (value >> 4) as u8 & 15 | (value << 4) as u8;
    let addr = c.ea(op);
    c.write_bytes(addr, &zoned[DIGITS as usize - len..])?;
    Ok(c.stored())
}
