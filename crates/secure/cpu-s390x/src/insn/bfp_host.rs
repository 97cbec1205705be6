//! The operand formats as types, and what the host's floating point computes for them.
//!
//! The host rounds to nearest, as the guest mostly does. Its result is taken where it is certainly the same and where what
//! it sets of the flags can be told; everything else is `bfp_math`'s. Nothing here looks at the host's own flags.

use super::bfp_math::{self as math, EXTENDED, Format, INEXACT, LONG, Number, Outcome, Round, Rules, SHORT};
use std::cmp::Ordering;

/// Short.
pub(super) struct S;
/// Long.
pub(super) struct D;
/// Extended.
pub(super) struct X;

/// An operation with up to three operands in one format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    /// Square root of the first operand.
    Root,
    /// The product of the first two operands, plus the third.
    MultiplyAdd,
    MultiplySubtract,
}

/// An operand format.
pub(super) trait Kind {
    const FORMAT: &'static Format;
    /// Width of an operand.
    const BITS: u32;
    /// The host's result, if it is certainly the right one, rounded to nearest. With `noted` nobody asks whether it is
    /// exact.
    #[inline(always)]
    fn host(_: Operation, _: [u128; 3], _noted: bool) -> Option<Outcome> {
        None
    }
    /// The operand's value, if the host has it.
    #[inline(always)]
    fn value(_: u128) -> Option<f64> {
        None
    }
    /// A value that is no NaN, in this format.
    #[inline(always)]
    fn rounded(_: f64, _noted: bool) -> Option<Outcome> {
        None
    }
    /// An integer in this format.
    #[inline(always)]
    fn integer(_negative: bool, _magnitude: u64) -> Option<Outcome> {
        None
    }
}

/// A result and, unless it does not matter, whether it is inexact.
#[inline(always)]
fn outcome(bits: u128, exact: bool) -> Outcome {
    Outcome { flags: if exact { 0 } else { INEXACT }, ..Outcome::plain(bits) }
}

macro_rules! kind {
    ($kind:ident, $format:ident, $float:ty, $bits:ty) => {
        impl Kind for $kind {
            const FORMAT: &'static Format = &$format;
            const BITS: u32 = <$bits>::BITS;

            #[inline(always)]
            fn host(what: Operation, operands: [u128; 3], noted: bool) -> Option<Outcome> {
                /// The significand without the zeros at its end.
                #[inline(always)]
                fn odd(v: $float) -> u128 {
                    let hidden = 1 << (<$float>::MANTISSA_DIGITS - 1);
                    let fraction = v.to_bits() & (hidden - 1);
                    let s = if v.is_normal() { fraction | hidden } else { fraction };
                    u128::from(s >> s.trailing_zeros())
                }
                /// What was rounded off the sum `r` of two numbers.
                #[inline(always)]
                fn rest(a: $float, b: $float, r: $float) -> $float {
                    let part = r - a;
                    (a - (r - part)) + (b - part)
                }
                let [a, b, c] = operands.map(|v| <$float>::from_bits(v as $bits));
                let (r, exact) = match what {
                    // A sum in the subnormal range is exact, and what was rounded off elsewhere can be computed.
                    Operation::Add | Operation::Subtract => {
                        let b = if what == Operation::Add { b } else { -b };
                        let r = a + b;
                        (r, noted || rest(a, b, r) == 0.0)
                    }
                    Operation::Multiply if a == 0.0 || b == 0.0 => (a * b, true),
                    Operation::Multiply => {
                        let r = a * b;
                        if r.abs() <= <$float>::MIN_POSITIVE {
                            return None;
                        }
                        (r, noted || r.is_finite() && (odd(a) * odd(b)) >> <$float>::MANTISSA_DIGITS == 0)
                    }
                    Operation::Divide => {
                        let r = a / b;
                        if r.abs() <= <$float>::MIN_POSITIVE {
                            return None;
                        }
                        (r, noted || r.is_finite() && odd(r) * odd(b) == odd(a))
                    }
                    Operation::Root if a > 0.0 => {
                        let r = a.sqrt();
                        (r, noted || r.is_finite() && odd(r) * odd(r) == odd(a))
                    }
                    Operation::MultiplyAdd | Operation::MultiplySubtract => {
                        let c = if what == Operation::MultiplyAdd { c } else { -c };
                        let r = a.mul_add(b, c);
                        if r.abs() <= <$float>::MIN_POSITIVE {
                            return None;
                        }
                        if noted {
                            return r.is_finite().then(|| outcome(u128::from(r.to_bits()), true));
                        }
                        // The exact sum is `s + t + low`, if the low half of the product is not too small.
                        let p = a * b;
                        let s = p + c;
                        let (t, low) = (rest(p, c, s), a.mul_add(b, -p));
                        let away = s - r;
                        let small =
                            p.abs() < <$float>::MIN_POSITIVE * 4.0 / (<$float>::EPSILON * <$float>::EPSILON);
                        if small || !s.is_finite() || rest(s, -r, away) != 0.0 {
                            return None;
                        }
                        let both = t + low;
                        (r, both == -away && rest(t, low, both) == 0.0)
                    }
                    _ => return None,
                };
                r.is_finite().then(|| outcome(u128::from(r.to_bits()), exact))
            }

            #[inline(always)]
            fn value(bits: u128) -> Option<f64> {
                Some(f64::from(<$float>::from_bits(bits as $bits)))
            }

            #[inline(always)]
            fn rounded(value: f64, noted: bool) -> Option<Outcome> {
                let r = value as $float;
                let bits = u128::from(r.to_bits());
                let exact = f64::from(r) == value;
                // Tiny before rounding is what is below the smallest normal number and not only rounded to it.
                let usual = r.abs() > <$float>::MIN_POSITIVE && (r.is_finite() || exact) || value == 0.0;
                (exact && r.is_normal() || usual).then(|| outcome(bits, noted || exact))
            }

            #[inline(always)]
            fn integer(negative: bool, magnitude: u64) -> Option<Outcome> {
                let zeros = magnitude.leading_zeros() + magnitude.trailing_zeros();
                let r = magnitude as $float;
                let bits = u128::from((if negative { -r } else { r }).to_bits());
                Some(outcome(bits, zeros + <$float>::MANTISSA_DIGITS >= 64))
            }
        }
    };
}

kind!(S, SHORT, f32, u32);
kind!(D, LONG, f64, u64);

impl Kind for X {
    const FORMAT: &'static Format = &EXTENDED;
    const BITS: u32 = 128;
}

/// The host does as well: nothing traps, and rounding is to nearest.
#[inline(always)]
fn usual(rules: Rules) -> bool {
    rules.masks == 0 && rules.round == Round::Even
}

/// The result of `what`.
#[inline(always)]
pub(super) fn compute<K: Kind>(what: Operation, operands: [u128; 3], rules: Rules) -> Outcome {
    if usual(rules)
        && let Some(outcome) = K::host(what, operands, rules.noted)
    {
        return outcome;
    }
    exactly::<K>(what, operands, rules)
}

/// The same without the host.
#[inline(never)]
pub(super) fn exactly<K: Kind>(what: Operation, operands: [u128; 3], rules: Rules) -> Outcome {
    let format = K::FORMAT;
    let [a, b, c] = operands.map(|v| format.unpack(v));
    match what {
        Operation::Add => math::add(format, a, b, rules),
        Operation::Subtract => math::add(format, a, minus(b), rules),
        Operation::Multiply => math::multiply(format, a, b, rules),
        Operation::Divide => math::divide(format, a, b, rules),
        Operation::Root => math::square_root(format, a, rules),
        Operation::MultiplyAdd => math::multiply_add(format, a, b, c, rules),
        Operation::MultiplySubtract => math::multiply_add(format, a, b, minus(c), rules),
    }
}

/// A NaN keeps its sign.
fn minus(n: Number) -> Number {
    if n.is_nan() { n } else { n.negated() }
}

/// From format `F` to `T`. The target is given a chance to be the source's format by a trap when it is shorter.
#[inline(always)]
pub(super) fn convert<T: Kind, F: Kind>(bits: u128, rules: Rules) -> Outcome {
    if usual(rules)
        && let Some(value) = F::value(bits).filter(|v| !v.is_nan())
        && let Some(outcome) = T::rounded(value, rules.noted)
    {
        return outcome;
    }
    let source = (F::BITS > T::BITS).then_some(F::FORMAT);
    math::convert(T::FORMAT, F::FORMAT.unpack(bits), rules, source)
}

/// How two operands compare, if neither is a NaN.
#[inline(always)]
pub(super) fn compare<K: Kind>(a: u128, b: u128) -> Option<Ordering> {
    match (K::value(a), K::value(b)) {
        (Some(a), Some(b)) => a.partial_cmp(&b),
        _ => math::compare(K::FORMAT.unpack(a), K::FORMAT.unpack(b)),
    }
}

/// The operand's value rounded to an integer, if the host can: nothing traps, and the method is one of its own.
#[inline(always)]
fn integral<K: Kind>(bits: u128, rules: Rules) -> Option<(f64, Outcome)> {
    let value = K::value(bits).filter(|v| rules.masks == 0 && v.is_finite())?;
    let r = match rules.round {
        Round::Even => value.round_ties_even(),
        // Beyond this there are only integers.
        Round::Zero if value.abs() < 9e15 => (value as i64 as f64).copysign(value),
        Round::Zero => value,
        Round::Up => value.ceil(),
        Round::Down => value.floor(),
        Round::Away | Round::Odd => return None,
    };
    Some((r, outcome(0, r == value || rules.inexact_off)))
}

/// LOAD FP INTEGER.
#[inline(always)]
pub(super) fn to_integral<K: Kind>(bits: u128, rules: Rules) -> Outcome {
    if let Some((r, told)) = integral::<K>(bits, rules)
        && let Some(rounded) = K::rounded(r, true)
    {
        return Outcome { bits: rounded.bits, ..told };
    }
    math::to_integral(K::FORMAT, K::FORMAT.unpack(bits), rules)
}

/// To an integer (as its low 64 bits): the outcome and whether the operand was out of range or a NaN.
#[inline(always)]
pub(super) fn to_integer<K: Kind>(bits: u128, to: math::Integer, rules: Rules) -> (Outcome, bool) {
    if let Some((r, told)) = integral::<K>(bits, rules).filter(|(r, _)| r.abs() < 9e18) {
        let r = r as i64;
        let fits = match (to.bits, to.signed) {
            (32, true) => i32::try_from(r).is_ok(),
            (32, false) => u32::try_from(r).is_ok(),
            (_, signed) => signed || r >= 0,
        };
        if fits {
            return (Outcome { bits: u128::from(r as u64), ..told }, false);
        }
    }
    math::to_integer(K::FORMAT.unpack(bits), to, rules)
}

/// From an integer.
#[inline(always)]
pub(super) fn from_integer<K: Kind>(negative: bool, magnitude: u64, rules: Rules) -> Outcome {
    if usual(rules)
        && let Some(outcome) = K::integer(negative, magnitude)
    {
        return if rules.noted { Outcome { flags: 0, ..outcome } } else { outcome };
    }
    K::FORMAT.round(Number::integer(negative, magnitude), rules, None)
}
