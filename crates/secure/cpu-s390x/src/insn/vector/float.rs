//! Floating-point arithmetic on elements (SA22-7832, chapter 24).
//!
//! The elements are computed as scalar operands are, by `bfp_host` and `bfp_math`. An exception that traps suppresses the
//! whole instruction, flags included, and is told with the number of its element.

use super::{enabled, m20, m24, m28, m32};
use crate::cpu::Cpu;
use crate::insn::bfp::{class_bit, method, rules};
use crate::insn::bfp_host::{self as host, D, Kind, Operation, S, X, compute};
use crate::insn::bfp_math::{self as math, Class, INVALID, Integer, Outcome, Rules};
use crate::insn::fac::{VECTOR, VECTOR_ENHANCEMENTS_1, VECTOR_ENHANCEMENTS_2};
use crate::insn::row;
use crate::op::{Entry, Flow, Format::*, Op, Step, Trap};
use cloister_arch::s390x::program;
use std::cmp::Ordering;

pub(crate) const TABLE: &[Entry] = &[
    row(0xe7e3, "vfa", VRRc, VECTOR, |c, op| two(c, op, Operation::Add)),
    row(0xe7e2, "vfs", VRRc, VECTOR, |c, op| two(c, op, Operation::Subtract)),
    row(0xe7e7, "vfm", VRRc, VECTOR, |c, op| two(c, op, Operation::Multiply)),
    row(0xe7e5, "vfd", VRRc, VECTOR, |c, op| two(c, op, Operation::Divide)),
    row(0xe7ce, "vfsq", VRRa, VECTOR, |c, op| two(c, op, Operation::Root)),
    row(0xe78f, "vfma", VRRe, VECTOR, |c, op| fused(c, op, Operation::MultiplyAdd, false)),
    row(0xe78e, "vfms", VRRe, VECTOR, |c, op| fused(c, op, Operation::MultiplySubtract, false)),
    row(0xe79f, "vfnma", VRRe, VECTOR_ENHANCEMENTS_1, |c, op| fused(c, op, Operation::MultiplyAdd, true)),
    row(0xe79e, "vfnms", VRRe, VECTOR_ENHANCEMENTS_1, |c, op| {
        fused(c, op, Operation::MultiplySubtract, true)
    }),
    row(0xe7c7, "vfi", VRRa, VECTOR, load_integer),
    row(0xe7e8, "vfce", VRRc, VECTOR, |c, op| compare(c, op, Ordering::is_eq)),
    row(0xe7eb, "vfch", VRRc, VECTOR, |c, op| compare(c, op, Ordering::is_gt)),
    row(0xe7ea, "vfche", VRRc, VECTOR, |c, op| compare(c, op, Ordering::is_ge)),
    row(0xe7cb, "wfc", VRRa, VECTOR, |c, op| compare_scalar(c, op, false)),
    row(0xe7ca, "wfk", VRRa, VECTOR, |c, op| compare_scalar(c, op, true)),
    row(0xe7c3, "vcfps", VRRa, VECTOR, |c, op| from_integer(c, op, true)),
    row(0xe7c1, "vcfpl", VRRa, VECTOR, |c, op| from_integer(c, op, false)),
    row(0xe7c2, "vcsfp", VRRa, VECTOR, |c, op| to_integer(c, op, true)),
    row(0xe7c0, "vclfp", VRRa, VECTOR, |c, op| to_integer(c, op, false)),
    row(0xe7c4, "vfll", VRRa, VECTOR, lengthen),
    row(0xe7c5, "vflr", VRRa, VECTOR, round),
    row(0xe7cc, "vfpso", VRRa, VECTOR, sign),
    row(0xe74a, "vftci", VRIe, VECTOR, test_class),
    row(0xe7ef, "vfmax", VRRc, VECTOR_ENHANCEMENTS_1, |c, op| extreme(c, op, true)),
    row(0xe7ee, "vfmin", VRRc, VECTOR_ENHANCEMENTS_1, |c, op| extreme(c, op, false)),
];

/// Masks of the fields that control elements and exceptions.
const SINGLE: u32 = 8;
const NO_INEXACT: u32 = 4;

#[cold]
fn specification<T>(c: &mut Cpu) -> Result<T, Trap> {
    Err(c.program(program::SPECIFICATION))
}

/// Specification exception for bits of a mask that are reserved.
#[inline(always)]
fn only(c: &mut Cpu, mask: u32, allowed: u32) -> Result<u32, Trap> {
    if mask & !allowed != 0 { specification(c) } else { Ok(mask) }
}

/// Does something with the format of the elements, `$kind`: long, and with the vector-enhancements facility 1 others.
macro_rules! by_format {
    ($c:expr, $mask:expr, $kind:ident => $do:expr) => {
        match $mask {
            3 => {
                type $kind = D;
                $do
            }
            2 if $c.facility(VECTOR_ENHANCEMENTS_1) => {
                type $kind = S;
                $do
            }
            4 if $c.facility(VECTOR_ENHANCEMENTS_1) => {
                type $kind = X;
                $do
            }
            _ => specification($c),
        }
    };
}

/// Elements of a result, and the part of the register that they fill.
struct Elements {
    bits: u128,
    filled: u128,
}

/// Computes elements of format `T` from those of format `F` in the second, third and fourth operand. Different lengths
/// share the left end of the longer one's place.
#[inline(always)]
fn elements<T: Kind, F: Kind>(
    c: &mut Cpu,
    op: &Op,
    single: bool,
    f: impl Fn([u128; 3]) -> Outcome,
) -> Result<Elements, Trap> {
    let place = T::BITS.max(F::BITS);
    let sources = [c.v(op.r2), c.v(op.x), c.v(op.b2)];
    let mut out = Elements { bits: 0, filled: 0 };
    let mut flags = 0;
    for n in 0..if single { 1 } else { 128 / place } {
        let outcome = f(sources.map(|v| v << (n * place) >> (128 - F::BITS)));
        if outcome.dxc != 0 {
            return Err(exception(c, n * (place / F::BITS), outcome.dxc));
        }
        flags |= outcome.flags;
        let put = |bits: u128| bits << (128 - T::BITS) >> (n * place);
        out.bits |= put(outcome.bits);
        out.filled |= put(u128::MAX);
    }
    c.fpc |= u32::from(flags) << 16;
    Ok(out)
}

/// Elements are the first operand; others become zero, where the architecture leaves them open.
#[inline(always)]
fn map<T: Kind, F: Kind>(c: &mut Cpu, op: &Op, single: bool, f: impl Fn([u128; 3]) -> Outcome) -> Step {
    let elements = elements::<T, F>(c, op, single, f)?;
    c.set_v(op.r1, elements.bits);
    Ok(Flow::Next)
}

/// A vector-processing exception: the element's number, and from the data-exception code of a scalar instruction the kind.
#[cold]
fn exception(c: &mut Cpu, element: u32, dxc: u8) -> Trap {
    let vxc = element << 4 | (dxc.leading_zeros() + 1);
    c.fpc = c.fpc & !0xff00 | vxc << 8;
    let trap = c.program(program::VECTOR_PROCESSING);
    c.trap_detail = vxc;
    trap
}

/// Rules by a rounding method and a mask with single-element and inexact-suppression control.
fn modified(c: &mut Cpu, mask: u32, round: u32) -> Result<(bool, Rules), Trap> {
    only(c, mask, SINGLE | NO_INEXACT)?;
    let round = method(c, round as u8)?;
    let off = mask & NO_INEXACT != 0;
    let rules = rules(c);
    Ok((mask & SINGLE != 0, Rules { round, inexact_off: off, noted: rules.noted || off, ..rules }))
}

/// An operation on the second and third operand.
#[inline(always)]
fn two(c: &mut Cpu, op: &Op, what: Operation) -> Step {
    enabled(c)?;
    let single = only(c, m28(op), SINGLE)? != 0;
    let rules = rules(c);
    by_format!(c, m32(op), K => map::<K, K>(c, op, single, |[a, b, _]| compute::<K>(what, [a, b, 0], rules)))
}

/// Multiplication and addition; the rounded sum may change its sign, if it is no NaN.
#[inline(always)]
fn fused(c: &mut Cpu, op: &Op, what: Operation, negative: bool) -> Step {
    enabled(c)?;
    let single = only(c, m28(op), SINGLE)? != 0;
    let rules = rules(c);
    by_format!(c, m20(op), K => map::<K, K>(c, op, single, |operands| {
        let outcome = compute::<K>(what, operands, rules);
        let turn = negative && !K::FORMAT.unpack(outcome.bits).is_nan();
        Outcome { bits: if turn { outcome.bits ^ K::FORMAT.sign_bit() } else { outcome.bits }, ..outcome }
    }))
}

fn load_integer(c: &mut Cpu, op: &Op) -> Step {
    enabled(c)?;
    let (single, rules) = modified(c, m28(op), m24(op))?;
    by_format!(c, m32(op), K => map::<K, K>(c, op, single, |[a, ..]| host::to_integral::<K>(a, rules)))
}

/// The length of integers: 64 bits, and with the vector-enhancements facility 2 also 32.
macro_rules! by_length {
    ($c:expr, $mask:expr, $kind:ident => $do:expr) => {
        match $mask {
            3 => {
                type $kind = D;
                $do
            }
            2 if $c.facility(VECTOR_ENHANCEMENTS_2) => {
                type $kind = S;
                $do
            }
            _ => specification($c),
        }
    };
}

fn from_integer(c: &mut Cpu, op: &Op, signed: bool) -> Step {
    enabled(c)?;
    let (single, rules) = modified(c, m28(op), m24(op))?;
    by_length!(c, m32(op), K => map::<K, K>(c, op, single, |[a, ..]| {
        let negative = signed && a & K::FORMAT.sign_bit() != 0;
        let magnitude = if negative { (1 << K::BITS) - a } else { a };
        host::from_integer::<K>(negative, magnitude as u64, rules)
    }))
}

fn to_integer(c: &mut Cpu, op: &Op, signed: bool) -> Step {
    enabled(c)?;
    let (single, rules) = modified(c, m28(op), m24(op))?;
    by_length!(c, m32(op), K => map::<K, K>(c, op, single, |[a, ..]| {
        host::to_integer::<K>(a, Integer { bits: K::BITS, signed }, rules).0
    }))
}

fn lengthen(c: &mut Cpu, op: &Op) -> Step {
    enabled(c)?;
    let single = only(c, m28(op), SINGLE)? != 0;
    let rules = rules(c);
    match m32(op) {
        2 => map::<D, S>(c, op, single, |[a, ..]| host::convert::<D, S>(a, rules)),
        3 if c.facility(VECTOR_ENHANCEMENTS_1) => {
            map::<X, D>(c, op, single, |[a, ..]| host::convert::<X, D>(a, rules))
        }
        _ => specification(c),
    }
}

fn round(c: &mut Cpu, op: &Op) -> Step {
    enabled(c)?;
    let (single, rules) = modified(c, m28(op), m24(op))?;
    match m32(op) {
        3 => map::<S, D>(c, op, single, |[a, ..]| host::convert::<S, D>(a, rules)),
        4 if c.facility(VECTOR_ENHANCEMENTS_1) => {
            map::<D, X>(c, op, single, |[a, ..]| host::convert::<D, X>(a, rules))
        }
        _ => specification(c),
    }
}

/// VECTOR FP PERFORM SIGN OPERATION: complement, negative, positive.
fn sign(c: &mut Cpu, op: &Op) -> Step {
    enabled(c)?;
    let single = only(c, m28(op), SINGLE)? != 0;
    let (and, xor) = match m24(op) {
        0 => (true, true),
        1 => (false, true),
        2 => (false, false),
        _ => return specification(c),
    };
    by_format!(c, m32(op), K => map::<K, K>(c, op, single, |[a, ..]| {
        let sign = K::FORMAT.sign_bit();
        let kept = if and { a } else { a & !sign };
        Outcome::plain(if xor { kept ^ sign } else { kept })
    }))
}

/// Elements of ones where the test holds and of zeros elsewhere; the condition code of all, some or none.
#[inline(always)]
fn test<K: Kind>(c: &mut Cpu, op: &Op, single: bool, f: impl Fn([u128; 3]) -> Outcome) -> Result<u8, Trap> {
    let elements = elements::<K, K>(c, op, single, f)?;
    c.set_v(op.r1, elements.bits);
    Ok(match elements.bits {
        0 => 3,
        bits if bits == elements.filled => 0,
        _ => 1,
    })
}

/// Ones or zeros, with the flag or the trap of an invalid operation.
#[inline(always)]
fn truth(holds: bool, wrong: bool, rules: Rules) -> Outcome {
    let ones = if holds { u128::MAX } else { 0 };
    if wrong { invalid(ones, rules) } else { Outcome::plain(ones) }
}

/// A result that comes with an invalid operation.
fn invalid(bits: u128, rules: Rules) -> Outcome {
    let (flags, dxc) = if rules.masks & INVALID != 0 { (0, INVALID) } else { (INVALID, 0) };
    Outcome { flags, dxc, ..Outcome::plain(bits) }
}

fn signaling<K: Kind>(bits: u128) -> bool {
    K::FORMAT.unpack(bits).class == Class::Signaling
}

/// VECTOR FP COMPARE: every NaN is invalid on demand.
#[inline(always)]
fn compare(c: &mut Cpu, op: &Op, holds: fn(Ordering) -> bool) -> Step {
    const SIGNAL: u32 = 4;
    enabled(c)?;
    let allowed = if c.facility(VECTOR_ENHANCEMENTS_1) { SINGLE | SIGNAL } else { SINGLE };
    let mask = only(c, m28(op), allowed)?;
    let set = only(c, m24(op), 1)? != 0;
    let rules = rules(c);
    let cc = by_format!(c, m32(op), K => test::<K>(c, op, mask & SINGLE != 0, |[a, b, _]| {
        match host::compare::<K>(a, b) {
            Some(order) => truth(holds(order), false, rules),
            None => truth(false, mask & SIGNAL != 0 || signaling::<K>(a) || signaling::<K>(b), rules),
        }
    }))?;
    if set {
        c.cc = cc;
    }
    Ok(Flow::Next)
}

/// WFC and WFK: the first elements of the first and second operand.
fn compare_scalar(c: &mut Cpu, op: &Op, signal: bool) -> Step {
    enabled(c)?;
    only(c, m28(op), 0)?;
    let rules = rules(c);
    c.cc = by_format!(c, m32(op), K => {
        let [a, b] = [op.r1, op.r2].map(|r| c.v(r) >> (128 - K::BITS));
        match host::compare::<K>(a, b) {
            Some(Ordering::Equal) => Ok(0),
            Some(Ordering::Less) => Ok(1),
            Some(Ordering::Greater) => Ok(2),
            None => {
                let outcome = truth(false, signal || signaling::<K>(a) || signaling::<K>(b), rules);
                if outcome.dxc == 0 {
                    c.fpc |= u32::from(outcome.flags) << 16;
                    Ok(3)
                } else {
                    Err(exception(c, 0, outcome.dxc))
                }
            }
        }
    })?;
    Ok(Flow::Next)
}

fn test_class(c: &mut Cpu, op: &Op) -> Step {
    enabled(c)?;
    let single = only(c, m28(op), SINGLE)? != 0;
    let (classes, rules) = (op.imm as u64, rules(c));
    c.cc = by_format!(c, m32(op), K => test::<K>(c, op, single, |[a, ..]| {
        truth(class_bit::<K>(a) & classes != 0, false, rules)
    }))?;
    Ok(Flow::Next)
}

/// VECTOR FP MAXIMUM and MINIMUM.
#[inline(always)]
fn extreme(c: &mut Cpu, op: &Op, max: bool) -> Step {
    enabled(c)?;
    let single = only(c, m28(op), SINGLE)? != 0;
    let function = match m24(op) {
        function @ (0..=4 | 8..=12) => function,
        _ => return specification(c),
    };
    let rules = rules(c);
    by_format!(c, m32(op), K => map::<K, K>(c, op, single, |[a, b, _]| {
        choose::<K>([a, b], function, max, rules)
    }))
}

/// The functions of maximum and minimum. 8 compares magnitudes; those above it take the operands' magnitudes.
fn choose<K: Kind>(operands: [u128; 2], function: u32, max: bool, rules: Rules) -> Outcome {
    const MAGNITUDE: u32 = 8;
    const JAVA: u32 = 1;
    const C_MACRO: u32 = 2;
    const CPP: u32 = 3;
    const FMAX: u32 = 4;
    let format = K::FORMAT;
    let magnitude = |v: u128| v & !format.sign_bit();
    let [a, b] = if function > MAGNITUDE { operands.map(magnitude) } else { operands };
    let (x, y) = (format.unpack(a), format.unpack(b));
    let language = function & !MAGNITUDE;
    if x.is_nan() || y.is_nan() {
        let signaling = x.class == Class::Signaling || y.class == Class::Signaling;
        let other = if y.is_nan() { a } else { b };
        return match language {
            // What the language takes when a comparison is unordered.
            C_MACRO => invalid(b, rules),
            CPP => invalid(a, rules),
            FMAX if signaling => invalid(other, rules),
            FMAX => Outcome::plain(other),
            _ if signaling || language == JAVA || x.is_nan() && y.is_nan() => {
                math::nan(format, &[x, y], rules).unwrap_or(Outcome::plain(a))
            }
            _ => Outcome::plain(other),
        };
    }
    let by_magnitude = (function == MAGNITUDE)
        .then(|| host::compare::<K>(magnitude(a), magnitude(b)))
        .flatten()
        .filter(|order| order.is_ne());
    let order = by_magnitude.or_else(|| host::compare::<K>(a, b));
    let first = match if max { order } else { order.map(Ordering::reverse) } {
        Some(Ordering::Greater) => true,
        Some(Ordering::Less) => false,
        // Equal numbers differ at most in the signs of zeros.
        _ => match language {
            C_MACRO => false,
            CPP => true,
            _ => x.sign != max,
        },
    };
    Outcome::plain(if first { a } else { b })
}
