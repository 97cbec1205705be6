//! Sums and products of unpacked binary-floating-point numbers before they are rounded: exact, but for one bit that stands
//! for everything below.

use super::bfp_math::{Class, Number, Round, TOP};

/// `sig / 2^n`, with bit 0 standing for what was lost.
pub(super) fn jam(sig: u128, n: u32) -> u128 {
    match n {
        0 => sig,
        1..=127 => sig >> n | u128::from(sig << (128 - n) != 0),
        _ => u128::from(sig != 0),
    }
}

/// Sum of numbers that are zero or finite; enough bits are kept to round it.
pub(super) fn sum(a: Number, b: Number, round: Round) -> Number {
    let nothing = Number::zero(round == Round::Down);
    match (a.class, b.class) {
        (Class::Zero, Class::Zero) => return if a.sign == b.sign { a } else { nothing },
        (Class::Zero, _) => return b,
        (_, Class::Zero) => return a,
        _ => {}
    }
    let (big, small) = if (a.exp, a.sig) >= (b.exp, b.sig) { (a, b) } else { (b, a) };
    let addend = jam(small.sig, (big.exp - small.exp) as u32);
    if big.sign == small.sign {
        let total = big.sig + addend;
        if total >> 127 == 0 {
            return Number { sig: total, ..big };
        }
        return Number { sig: jam(total, 1), exp: big.exp + 1, ..big };
    }
    match big.sig - addend {
        0 => nothing,
        rest => Number::scaled(big.sign, rest, big.exp - TOP as i32),
    }
}

/// Product of numbers that are no NaNs; nothing for infinity times zero.
pub(super) fn product(a: Number, b: Number) -> Option<Number> {
    exact_product(a, b).map(jammed)
}

/// One bit stands for further ones.
pub(super) fn jammed((n, rest): (Number, u128)) -> Number {
    Number { sig: n.sig | u128::from(rest != 0), ..n }
}

/// The same, with 128 more bits of the significand.
#[inline(always)]
pub(super) fn exact_product(a: Number, b: Number) -> Option<(Number, u128)> {
    let sign = a.sign != b.sign;
    match (a.class, b.class) {
        (Class::Infinity, Class::Zero) | (Class::Zero, Class::Infinity) => None,
        (Class::Infinity, _) | (_, Class::Infinity) => Some((Number::infinity(sign), 0)),
        (Class::Zero, _) | (_, Class::Zero) => Some((Number::zero(sign), 0)),
        _ => {
            // 127 bits by 127 bits in halves: at least 253.
            let (ah, al) = (a.sig >> 64, a.sig & u128::from(u64::MAX));
            let (bh, bl) = (b.sig >> 64, b.sig & u128::from(u64::MAX));
            let (high, low) = (ah * bh, al * bl);
            let (cross, carry) = (ah * bl).overflowing_add(al * bh);
            let (low, more) = low.overflowing_add(cross << 64);
            let high = high + (cross >> 64) + (u128::from(carry) << 64) + u128::from(more);
            // The leading bit is bit 124 or 125 of `high`.
            let up = high >> 125 != 0;
            let shift = if up { 1 } else { 2 };
            let sig = high << shift | low >> (128 - shift);
            let exp = a.exp + b.exp + i32::from(up);
            Some((Number { sign, class: Class::Finite, exp, sig }, low << shift))
        }
    }
}

/// Sum of a finite product with its further bits and a finite number; of extended operands too no bit is lost that
/// matters.
#[inline(never)]
pub(super) fn sum_exactly(p: Number, rest: u128, c: Number, round: Round) -> Number {
    let (product, addend) = ((p, rest), (c, 0));
    let key = |(n, low): (Number, u128)| (n.exp, n.sig, low);
    let ((big, big_low), (small, small_low)) =
        if key(product) >= key(addend) { (product, addend) } else { (addend, product) };
    let (high, low) = jam_wide(small.sig, small_low, (big.exp - small.exp) as u32);
    let (high, low, exp) = if big.sign == small.sign {
        let (low, carry) = big_low.overflowing_add(low);
        let high = big.sig + high + u128::from(carry);
        if high >> 127 == 0 { (high, low, big.exp) } else { (high >> 1, high << 127 | low, big.exp + 1) }
    } else {
        let (low, borrow) = big_low.overflowing_sub(low);
        let high = big.sig - high - u128::from(borrow);
        match (high, low) {
            (0, 0) => return Number::zero(round == Round::Down),
            (0, _) => {
                let up = low.leading_zeros();
                let high = if up == 0 { low >> 1 } else { low << (up - 1) };
                (high, if up == 0 { low << 127 } else { 0 }, big.exp - 127 - up as i32)
            }
            _ => {
                let up = high.leading_zeros() - 1;
                let carried = if up == 0 { 0 } else { low >> (128 - up) };
                (high << up | carried, low << up, big.exp - up as i32)
            }
        }
    };
    jammed((Number { sign: big.sign, class: Class::Finite, exp, sig: high }, low))
}

/// `high` and `low` together shifted right by `n`, with the last bit standing for what was lost.
fn jam_wide(high: u128, low: u128, n: u32) -> (u128, u128) {
    match n {
        0 => (high, low),
        1..=127 => (high >> n, jam(low, n) | high << (128 - n)),
        _ => (0, jam(high, n - 128) | u128::from(low != 0)),
    }
}
