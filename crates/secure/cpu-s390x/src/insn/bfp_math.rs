//! Binary-floating-point arithmetic as z/Architecture defines it: exact intermediate results, one rounding, and
//! what the masks of the floating-point-control register make of the exceptions (SA22-7832, chapters 9 and 19).
//!
//! It knows no registers and no storage; `bfp` does. Speed is `bfp_host`'s.

use super::bfp_exact::{exact_product, jammed, product, sum, sum_exactly};
use std::cmp::Ordering;

/// Exceptions, as bits of a mask or flag byte of the floating-point-control register.
pub(super) const INVALID: u8 = 0x80;
pub(super) const DIVIDE: u8 = 0x40;
pub(super) const OVERFLOW: u8 = 0x20;
pub(super) const UNDERFLOW: u8 = 0x10;
pub(super) const INEXACT: u8 = 0x08;
/// Data-exception code: the delivered magnitude is larger than the exact one.
const INCREMENTED: u8 = 0x04;

/// Place of the leading bit of a significand.
pub(super) const TOP: u32 = 126;
/// The bit that makes a NaN quiet, in an unpacked significand.
const QUIET: u128 = 1 << (TOP - 1);

/// A binary interchange format.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Format {
    /// Bits of the fraction.
    pub(super) fraction: u32,
    /// Largest exponent.
    pub(super) max: i32,
    /// Exponent adjustment of trapped overflow and underflow.
    wrap: i32,
    /// The same for LOAD ROUNDED from this format.
    wrap_load: i32,
}

pub(super) const SHORT: Format = Format { fraction: 23, max: 127, wrap: 192, wrap_load: 0 };
pub(super) const LONG: Format = Format { fraction: 52, max: 1023, wrap: 1536, wrap_load: 512 };
pub(super) const EXTENDED: Format = Format { fraction: 112, max: 16383, wrap: 24576, wrap_load: 8192 };

/// Rounding methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// To nearest, ties to even.
    Even,
    /// To nearest, ties away from zero.
    Away,
    /// Toward zero.
    Zero,
    /// Toward +infinity.
    Up,
    /// Toward -infinity.
    Down,
    /// To prepare for shorter precision: an inexact result becomes odd.
    Odd,
}

/// What a computation depends on besides its operands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Rounding method.
    pub(super) round: Round,
    /// Exceptions that trap.
    pub(super) masks: u8,
    /// The inexact exception is not recognised (XxC).
    pub(super) inexact_off: bool,
    /// Inexact is off or its flag on: whether a result is exact may be left open.
    pub(super) noted: bool,
}

/// Result of a computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The result, in the target format.
    pub(super) bits: u128,
    /// Flags to turn on.
    pub(super) flags: u8,
    /// Data-exception code, or 0: no trap.
    pub(super) dxc: u8,
    /// The result is in the source format (trapped LOAD ROUNDED).
    pub(super) in_source: bool,
}

impl Outcome {
    /// Without exceptions.
    pub(super) fn plain(bits: u128) -> Self {
        Self { bits, flags: 0, dxc: 0, in_source: false }
    }

    /// The operation is suppressed: there is no result.
    pub(super) fn suppressed(&self) -> bool {
        self.dxc & (INVALID | DIVIDE) != 0
    }
}

/// Kind of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Zero,
    Finite,
    Infinity,
    Quiet,
    Signaling,
}

/// A number taken apart: `sig / 2^126 * 2^exp`, normalised. Of NaNs, `sig` holds the fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) sign: bool,
    pub(super) class: Class,
    pub(super) exp: i32,
    pub(super) sig: u128,
}

impl Number {
    pub(super) const fn zero(sign: bool) -> Self {
        Self { sign, class: Class::Zero, exp: 0, sig: 0 }
    }

    pub(super) const fn infinity(sign: bool) -> Self {
        Self { sign, class: Class::Infinity, exp: 0, sig: 0 }
    }

    const fn default_nan() -> Self {
        Self { sign: false, class: Class::Quiet, exp: 0, sig: QUIET }
    }

    pub(super) fn is_nan(self) -> bool {
        matches!(self.class, Class::Quiet | Class::Signaling)
    }

    /// `magnitude`, exactly.
    pub(super) fn integer(sign: bool, magnitude: u64) -> Self {
        Self::scaled(sign, u128::from(magnitude), 0)
    }

    /// `magnitude * 2^scale`; `magnitude` is below 2^127.
    pub(super) fn scaled(sign: bool, magnitude: u128, scale: i32) -> Self {
        if magnitude == 0 {
            return Self::zero(sign);
        }
        let shift = magnitude.leading_zeros() - 1;
        Self { sign, class: Class::Finite, exp: TOP as i32 - shift as i32 + scale, sig: magnitude << shift }
    }

    fn quieted(self) -> Self {
        Self { class: Class::Quiet, sig: self.sig | QUIET, ..self }
    }

    pub(super) fn negated(self) -> Self {
        Self { sign: !self.sign, ..self }
    }
}

impl Format {
    fn min(&self) -> i32 {
        1 - self.max
    }

    /// Sign bit of a number in this format.
    pub(super) fn sign_bit(&self) -> u128 {
        1 << self.sign_place()
    }

    fn sign_place(&self) -> u32 {
        match self.fraction {
            23 => 31,
            52 => 63,
            _ => 127,
        }
    }

    fn fraction_mask(&self) -> u128 {
        (1 << self.fraction) - 1
    }

    /// Takes `bits` apart.
    pub(super) fn unpack(&self, bits: u128) -> Number {
        let sign = bits & self.sign_bit() != 0;
        let fraction = bits & self.fraction_mask();
        let biased = ((bits & (self.sign_bit() - 1)) >> self.fraction) as i32;
        let sig = fraction << (TOP - self.fraction);
        if biased == 2 * self.max + 1 {
            return match fraction {
                0 => Number::infinity(sign),
                _ if sig & QUIET != 0 => Number { sign, class: Class::Quiet, exp: 0, sig },
                _ => Number { sign, class: Class::Signaling, exp: 0, sig },
            };
        }
        if biased == 0 {
            return Number::scaled(sign, fraction, self.min() - self.fraction as i32);
        }
        Number { sign, class: Class::Finite, exp: biased - self.max, sig: sig | 1 << TOP }
    }

    fn assemble(&self, sign: bool, biased: i32, significand: u128) -> u128 {
        // The integer bit of the significand adds one to the exponent field, which is why callers pass one
        // less for normal numbers, and why rounding up to the next power of two needs no attention.
        let bits = ((biased as u128) << self.fraction).wrapping_add(significand);
        if sign { bits | self.sign_bit() } else { bits }
    }

    /// Not a finite number: no rounding.
    fn special(&self, n: Number) -> u128 {
        let biased = 2 * self.max + 1;
        match n.class {
            Class::Zero | Class::Finite => self.assemble(n.sign, 0, 0),
            Class::Infinity => self.assemble(n.sign, biased, 0),
            Class::Quiet | Class::Signaling => {
                self.assemble(n.sign, biased, n.sig >> (TOP - self.fraction) & self.fraction_mask())
            }
        }
    }

    /// The largest finite number.
    fn largest(&self, sign: bool) -> u128 {
        self.assemble(sign, 2 * self.max, self.fraction_mask())
    }

    /// `sig` rounded to the precision, with an exponent that certainly fits.
    fn place(&self, sign: bool, exp: i32, significand: u128) -> u128 {
        self.assemble(sign, exp + self.max - 1, significand)
    }

    /// Rounds `n` (bit 0 of its significand may stand for everything below) to this format.
    pub(super) fn round(&self, n: Number, rules: Rules, source: Option<&Format>) -> Outcome {
        if n.class != Class::Finite {
            return Outcome::plain(self.special(n));
        }
        let drop = TOP - self.fraction;
        let rounded = round_shift(n.sig, drop, rules.round, n.sign);
        // The exponent after rounding to the precision, as if there were no limits.
        let exp = n.exp + i32::from(rounded.value >> (self.fraction + 1) != 0);
        let trapped = |dxc: u8, direction: i32| {
            let inexact = if rules.inexact_off { 0 } else { rounded.code() };
            let (format, wrap) = match source {
                Some(source) => (source, source.wrap_load),
                None => (self, self.wrap),
            };
            let significand = rounded.value << (format.fraction - self.fraction);
            Outcome {
                bits: format.place(n.sign, n.exp + direction * wrap, significand),
                flags: 0,
                dxc: dxc | inexact,
                in_source: source.is_some(),
            }
        };
        if n.exp < self.min() {
            // Tininess is detected before rounding.
            if rules.masks & UNDERFLOW != 0 {
                return trapped(UNDERFLOW, 1);
            }
            let missing = (self.min() - n.exp) as u32;
            let rounded = round_shift(n.sig, drop.saturating_add(missing), rules.round, n.sign);
            let bits = self.assemble(n.sign, 0, rounded.value);
            let flags = if rounded.inexact { UNDERFLOW } else { 0 };
            return inexact(bits, flags, rounded.code(), rules);
        }
        if exp > self.max {
            if rules.masks & OVERFLOW != 0 {
                return trapped(OVERFLOW, -1);
            }
            let infinite = match rules.round {
                Round::Even | Round::Away => true,
                Round::Zero | Round::Odd => false,
                Round::Up => !n.sign,
                Round::Down => n.sign,
            };
            let (bits, code) = if infinite {
                (self.special(Number::infinity(n.sign)), INEXACT | INCREMENTED)
            } else {
                (self.largest(n.sign), INEXACT)
            };
            return inexact(bits, OVERFLOW, code, rules);
        }
        inexact(self.place(n.sign, n.exp, rounded.value), 0, rounded.code(), rules)
    }
}

/// Completes an operation whose only further exception may be inexact (`code` not 0).
fn inexact(bits: u128, flags: u8, code: u8, rules: Rules) -> Outcome {
    if code == 0 || rules.inexact_off {
        Outcome { bits, flags, dxc: 0, in_source: false }
    } else if rules.masks & INEXACT != 0 {
        Outcome { bits, flags, dxc: code, in_source: false }
    } else {
        Outcome { bits, flags: flags | INEXACT, dxc: 0, in_source: false }
    }
}

/// A significand cut to fewer bits.
struct Rounded {
    value: u128,
    inexact: bool,
    incremented: bool,
}

impl Rounded {
    fn code(&self) -> u8 {
        match (self.inexact, self.incremented) {
            (false, _) => 0,
            (true, false) => INEXACT,
            (true, true) => INEXACT | INCREMENTED,
        }
    }
}

/// `sig / 2^n`, rounded; `sig` is below 2^127.
fn round_shift(sig: u128, n: u32, round: Round, sign: bool) -> Rounded {
    if n == 0 {
        return Rounded { value: sig, inexact: false, incremented: false };
    }
    // Further right there is only "something below one half".
    let (sig, n) = if n > 127 { (u128::from(sig != 0), 2) } else { (sig, n) };
    let (value, rest, half) = (sig >> n, sig & ((1 << n) - 1), 1 << (n - 1));
    let inexact = rest != 0;
    let incremented = inexact && goes_up(round, sign, value & 1 != 0, rest.cmp(&half));
    Rounded { value: value + u128::from(incremented), inexact, incremented }
}

/// Whether an inexact magnitude is rounded up, given how the rest compares with one half.
fn goes_up(round: Round, sign: bool, odd: bool, rest: Ordering) -> bool {
    match round {
        Round::Even => rest == Ordering::Greater || rest == Ordering::Equal && odd,
        Round::Away => rest != Ordering::Less,
        Round::Zero => false,
        Round::Up => !sign,
        Round::Down => sign,
        Round::Odd => !odd,
    }
}

/// Invalid operation: suppressed, or `nan` as the result.
pub(super) fn invalid(format: &Format, nan: Number, rules: Rules) -> Outcome {
    if rules.masks & INVALID != 0 {
        return Outcome { bits: 0, flags: 0, dxc: INVALID, in_source: false };
    }
    Outcome { bits: format.special(nan), flags: INVALID, dxc: 0, in_source: false }
}

/// If an operand is a NaN: the first signaling one made quiet, else the first quiet one.
pub(super) fn nan(format: &Format, operands: &[Number], rules: Rules) -> Option<Outcome> {
    if let Some(n) = operands.iter().find(|n| n.class == Class::Signaling) {
        return Some(invalid(format, n.quieted(), rules));
    }
    let quiet = operands.iter().find(|n| n.class == Class::Quiet)?;
    Some(Outcome::plain(format.special(*quiet)))
}

/// `a + b`.
pub(super) fn add(format: &Format, a: Number, b: Number, rules: Rules) -> Outcome {
    if let Some(nan) = nan(format, &[a, b], rules) {
        return nan;
    }
    match (a.class, b.class) {
        (Class::Infinity, Class::Infinity) if a.sign != b.sign => {
            invalid(format, Number::default_nan(), rules)
        }
        (Class::Infinity, _) => Outcome::plain(format.special(a)),
        (_, Class::Infinity) => Outcome::plain(format.special(b)),
        _ => format.round(sum(a, b, rules.round), rules, None),
    }
}

/// `a * b`.
pub(super) fn multiply(format: &Format, a: Number, b: Number, rules: Rules) -> Outcome {
    if let Some(nan) = nan(format, &[a, b], rules) {
        return nan;
    }
    match product(a, b) {
        Some(p) => format.round(p, rules, None),
        None => invalid(format, Number::default_nan(), rules),
    }
}

/// `a * b + c`, rounded once.
#[inline(always)]
pub(super) fn multiply_add(format: &Format, a: Number, b: Number, c: Number, rules: Rules) -> Outcome {
    let numbers = !a.is_nan() && !b.is_nan();
    match numbers.then(|| exact_product(a, b)) {
        // Infinity times zero comes before a NaN that would be added.
        Some(None) => invalid(format, Number::default_nan(), rules),
        // Shorter products have no further bits.
        Some(Some((p, rest)))
            if format.fraction == EXTENDED.fraction
                && p.class == Class::Finite
                && c.class == Class::Finite =>
        {
            format.round(sum_exactly(p, rest, c, rules.round), rules, None)
        }
        Some(Some(p)) if !c.is_nan() => add(format, jammed(p), c, rules),
        _ => nan(format, &[a, b, c], rules).unwrap_or(Outcome::plain(0)),
    }
}

/// `a / b`.
pub(super) fn divide(format: &Format, a: Number, b: Number, rules: Rules) -> Outcome {
    if let Some(nan) = nan(format, &[a, b], rules) {
        return nan;
    }
    let sign = a.sign != b.sign;
    match (a.class, b.class) {
        (Class::Infinity, Class::Infinity) | (Class::Zero, Class::Zero) => {
            invalid(format, Number::default_nan(), rules)
        }
        (Class::Infinity, _) => Outcome::plain(format.special(Number::infinity(sign))),
        (Class::Zero, _) | (_, Class::Infinity) => Outcome::plain(format.special(Number::zero(sign))),
        (_, Class::Zero) if rules.masks & DIVIDE != 0 => {
            Outcome { bits: 0, flags: 0, dxc: DIVIDE, in_source: false }
        }
        (_, Class::Zero) => {
            Outcome { bits: format.special(Number::infinity(sign)), flags: DIVIDE, dxc: 0, in_source: false }
        }
        _ => {
            let mut rest = a.sig;
            let mut quotient = 0;
            let steps = format.fraction + 4;
            for step in 0..steps {
                if step > 0 {
                    rest <<= 1;
                }
                quotient <<= 1;
                if rest >= b.sig {
                    rest -= b.sig;
                    quotient |= 1;
                }
            }
            quotient = quotient << 1 | u128::from(rest != 0);
            let n = Number::scaled(sign, quotient, a.exp - b.exp - steps as i32);
            format.round(n, rules, None)
        }
    }
}

/// Square root.
pub(super) fn square_root(format: &Format, a: Number, rules: Rules) -> Outcome {
    if let Some(nan) = nan(format, &[a], rules) {
        return nan;
    }
    match a.class {
        Class::Zero => Outcome::plain(format.special(a)),
        _ if a.sign => invalid(format, Number::default_nan(), rules),
        Class::Infinity => Outcome::plain(format.special(a)),
        _ => {
            // Two bits of the radicand make one of the root; the exponent must be even.
            let mut radicand = if a.exp & 1 == 0 { a.sig } else { a.sig << 1 };
            let exp = a.exp >> 1;
            let (mut root, mut rest) = (0u128, 0u128);
            let steps = format.fraction + 3;
            for _ in 0..steps {
                rest = rest << 2 | radicand >> 126;
                radicand <<= 2;
                let trial = root << 2 | 1;
                root <<= 1;
                if rest >= trial {
                    rest -= trial;
                    root |= 1;
                }
            }
            root = root << 1 | u128::from(rest != 0 || radicand != 0);
            format.round(Number::scaled(false, root, exp - steps as i32), rules, None)
        }
    }
}

/// From one format to another. Lengthening never rounds; `source` is given for LOAD ROUNDED.
pub(super) fn convert(format: &Format, a: Number, rules: Rules, source: Option<&Format>) -> Outcome {
    match nan(format, &[a], rules) {
        Some(nan) => nan,
        None if source.is_none() => format.round(a, Rules { masks: 0, ..rules }, None),
        None => format.round(a, rules, source),
    }
}

/// Rounded to an integer in the same format.
pub(super) fn to_integral(format: &Format, a: Number, rules: Rules) -> Outcome {
    if let Some(nan) = nan(format, &[a], rules) {
        return nan;
    }
    if a.class != Class::Finite || a.exp >= format.fraction as i32 {
        return format.round(a, Rules { masks: 0, ..rules }, None);
    }
    let rounded = round_shift(a.sig, (TOP as i32 - a.exp) as u32, rules.round, a.sign);
    let n = Number::scaled(a.sign, rounded.value, 0);
    let bits = format.round(n, Rules { masks: 0, ..rules }, None).bits;
    inexact(bits, 0, rounded.code(), rules)
}

/// An integer in a general register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Integer {
    pub(super) bits: u32,
    pub(super) signed: bool,
}

/// To an integer (as its low 64 bits): the outcome and whether the operand was out of range or a NaN.
pub(super) fn to_integer(a: Number, to: Integer, rules: Rules) -> (Outcome, bool) {
    let (low, high) = if to.signed {
        (-(1i128 << (to.bits - 1)), (1i128 << (to.bits - 1)) - 1)
    } else {
        (0, (1i128 << to.bits) - 1)
    };
    let wrong = |result: i128| {
        let outcome = if rules.masks & INVALID != 0 {
            Outcome { bits: 0, flags: 0, dxc: INVALID, in_source: false }
        } else {
            // What cannot be represented is inexact as well.
            inexact(result as u64 as u128, INVALID, INEXACT, rules)
        };
        (outcome, true)
    };
    match a.class {
        Class::Quiet | Class::Signaling => return wrong(low),
        Class::Infinity => return wrong(if a.sign { low } else { high }),
        Class::Zero => return (Outcome::plain(0), false),
        Class::Finite if a.exp > 64 => return wrong(if a.sign { low } else { high }),
        Class::Finite => {}
    }
    let rounded = round_shift(a.sig, (TOP as i32 - a.exp) as u32, rules.round, a.sign);
    let value = if a.sign { -(rounded.value as i128) } else { rounded.value as i128 };
    if value < low || value > high {
        return wrong(if a.sign { low } else { high });
    }
    (inexact(value as u64 as u128, 0, rounded.code(), rules), false)
}

/// How `a` compares with `b`; nothing for NaNs.
pub(super) fn compare(a: Number, b: Number) -> Option<Ordering> {
    if a.is_nan() || b.is_nan() {
        return None;
    }
    let key = |n: Number| match n.class {
        Class::Zero => (0, 0, 0),
        Class::Infinity => (1, i32::MAX, 0),
        _ => (1, n.exp, n.sig),
    };
    let (x, y) = (key(a), key(b));
    let negative = |n: Number| n.sign && n.class != Class::Zero;
    Some(match (negative(a), negative(b)) {
        (false, false) => x.cmp(&y),
        (true, true) => y.cmp(&x),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
    })
}

/// Answer of DIVIDE TO INTEGER.
pub(super) struct Division {
    pub(super) remainder: Outcome,
    pub(super) quotient: u128,
    pub(super) cc: u8,
}

/// `a` divided by `b` to an integer quotient, rounded by `round`.
pub(super) fn divide_to_integer(
    format: &Format,
    a: Number,
    b: Number,
    round: Round,
    rules: Rules,
) -> Division {
    let nan = match nan(format, &[a, b], rules) {
        None if a.class == Class::Infinity || b.class == Class::Zero => {
            Some(invalid(format, Number::default_nan(), rules))
        }
        other => other,
    };
    if let Some(nan) = nan {
        return Division { remainder: nan, quotient: nan.bits, cc: 1 };
    }
    let sign = a.sign != b.sign;
    if a.class == Class::Zero || b.class == Class::Infinity {
        let quotient = format.special(Number::zero(sign));
        return Division { remainder: format.round(a, rules, None), quotient, cc: 0 };
    }
    let (mut rest, divisor) = (a.sig, b.sig);
    let difference = a.exp - b.exp;
    let (mut quotient, mut scale) = (0u128, 0);
    let half = if difference >= 0 {
        // Quotient bits from the place of `difference` down to the units, or to the end of the precision.
        let places = difference + i32::from(rest >= divisor);
        scale = (places - format.fraction as i32 - 1).max(0);
        for step in 0..=difference - scale {
            if step > 0 {
                rest <<= 1;
            }
            quotient <<= 1;
            if rest >= divisor {
                rest -= divisor;
                quotient |= 1;
            }
        }
        (rest << 1).cmp(&divisor)
    } else if difference == -1 {
        rest.cmp(&divisor)
    } else {
        Ordering::Less
    };
    let rest_exp = if difference >= 0 { b.exp + scale } else { a.exp };
    let mut remainder = match rest {
        0 => Number::zero(a.sign),
        _ => Number::scaled(a.sign, rest, rest_exp - TOP as i32),
    };
    let complete = rest == 0 || scale == 0;
    if rest != 0 && scale == 0 && goes_up(round, sign, quotient & 1 != 0, half) {
        quotient += 1;
        remainder = sum(remainder, Number { sign: !a.sign, ..b }, rules.round);
        if remainder.class == Class::Zero {
            remainder.sign = a.sign;
        }
    }
    let mut n = Number::scaled(sign, quotient, scale);
    let overflow = n.class == Class::Finite && n.exp > format.max;
    if overflow {
        n.exp -= format.wrap;
    }
    let exact = Rules { round: Round::Zero, masks: 0, inexact_off: true, noted: true };
    Division {
        remainder: format.round(remainder, rules, None),
        quotient: format.round(n, exact, None).bits,
        cc: u8::from(!complete) << 1 | u8::from(overflow),
    }
}
