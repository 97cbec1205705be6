//! Tests of the floating-point arithmetic: against the host, against a second implementation, and known results.

use super::bfp_math::*;
use proptest::prelude::*;
use rustc_apfloat::ieee::{Double, Quad, Single};
use rustc_apfloat::{Float, FloatConvert, Round as Other, Status, StatusAnd};

const NEAREST: Rules = Rules { round: Round::Even, masks: 0, inexact_off: false, noted: false };
const TRAPS: Rules = Rules { round: Round::Even, masks: 0xf8, inexact_off: false, noted: false };

/// Doublewords in which extreme and close exponents are frequent.
pub(super) fn long() -> impl Strategy<Value = u64> {
    let exponent = prop_oneof![Just(0u64), Just(1), Just(0x7fe), 0x3f0u64..0x410, 0u64..0x7ff, Just(0x434)];
    let fraction = prop_oneof![
        any::<u64>(),
        Just(0),
        Just(u64::MAX),
        (0u32..52).prop_map(|n| 1 << n),
        any::<u16>().prop_map(|n| u64::from(n) << 36)
    ];
    (any::<bool>(), exponent, fraction)
        .prop_map(|(s, e, f)| u64::from(s) << 63 | e << 52 | f & ((1 << 52) - 1))
}

pub(super) fn short() -> impl Strategy<Value = u32> {
    let exponent = prop_oneof![Just(0u32), Just(1), Just(0xfe), 0x70u32..0x90, 0u32..0xff];
    let fraction =
        prop_oneof![any::<u32>(), Just(0), Just(u32::MAX), any::<u8>().prop_map(|n| u32::from(n) << 15)];
    (any::<bool>(), exponent, fraction)
        .prop_map(|(s, e, f)| u32::from(s) << 31 | e << 23 | f & ((1 << 23) - 1))
}

fn extended() -> impl Strategy<Value = u128> {
    let exponent = prop_oneof![Just(0u128), Just(1), Just(0x7ffe), 0x3fe0u128..0x4020, 0u128..0x7fff];
    let fraction = prop_oneof![any::<u128>(), Just(0), Just(u128::MAX), (0u32..112).prop_map(|n| 1 << n)];
    (any::<bool>(), exponent, fraction)
        .prop_map(|(s, e, f)| u128::from(s) << 127 | e << 112 | f & ((1 << 112) - 1))
}

fn modes() -> impl Strategy<Value = (Round, Other)> {
    prop::sample::select(vec![
        (Round::Even, Other::NearestTiesToEven),
        (Round::Away, Other::NearestTiesToAway),
        (Round::Zero, Other::TowardZero),
        (Round::Up, Other::TowardPositive),
        (Round::Down, Other::TowardNegative),
    ])
}

fn flags(status: Status) -> u8 {
    let pairs = [
        (Status::INVALID_OP, INVALID),
        (Status::DIV_BY_ZERO, DIVIDE),
        (Status::OVERFLOW, OVERFLOW),
        (Status::INEXACT, INEXACT),
    ];
    pairs.iter().filter(|(theirs, _)| status.contains(*theirs)).fold(0, |acc, (_, ours)| acc | ours)
}

/// Underflow is left out, since the other implementation detects tininess after rounding, and so is overflow to
/// the largest number, of which it says only "inexact".
fn same<F: Float>(ours: Outcome, theirs: StatusAnd<F>) -> Result<(), TestCaseError> {
    if theirs.value.is_nan() {
        prop_assert_eq!(ours.flags, INVALID);
        return Ok(());
    }
    prop_assert_eq!(ours.bits, theirs.value.to_bits(), "{:x} {:x}", ours.bits, theirs.value.to_bits());
    let ignored = if theirs.value.is_finite() { UNDERFLOW | OVERFLOW } else { UNDERFLOW };
    prop_assert_eq!(ours.flags & !ignored, flags(theirs.status));
    prop_assert_eq!(ours.dxc, 0);
    Ok(())
}

fn arithmetic<F: Float>(
    format: &Format,
    [a, b, c]: [u128; 3],
    (round, other): (Round, Other),
) -> Result<(), TestCaseError> {
    let rules = Rules { round, ..NEAREST };
    let (x, y, z) = (format.unpack(a), format.unpack(b), format.unpack(c));
    let (p, q, r) = (F::from_bits(a), F::from_bits(b), F::from_bits(c));
    same(add(format, x, y, rules), p.add_r(q, other))?;
    same(multiply(format, x, y, rules), p.mul_r(q, other))?;
    same(divide(format, x, y, rules), p.div_r(q, other))?;
    same(multiply_add(format, x, y, z, rules), p.mul_add_r(q, r, other))?;
    let integral = p.round_to_integral(other);
    prop_assert_eq!(to_integral(format, x, rules).bits, integral.value.to_bits());
    for (bits, signed) in [(32, true), (64, true), (32, false), (64, false)] {
        let (ours, wrong) = to_integer(x, Integer { bits, signed }, rules);
        let exact = &mut false;
        let theirs = if signed {
            p.to_i128_r(bits as usize, other, exact).map(|v| v as u64)
        } else {
            p.to_u128_r(bits as usize, other, exact).map(|v| v as u64)
        };
        prop_assert_eq!(wrong, theirs.status.contains(Status::INVALID_OP));
        prop_assert_eq!(ours.bits as u64, theirs.value);
        if !wrong {
            prop_assert_eq!(ours.flags, flags(theirs.status));
        }
    }
    prop_assert_eq!(compare(x, y), p.partial_cmp(&q));
    Ok(())
}

/// `a` times `b`, less about the same.
fn cancels<F: Float>(
    format: &Format,
    [a, b]: [u128; 2],
    last: i128,
    mode: (Round, Other),
) -> Result<(), TestCaseError> {
    let p = F::from_bits(a).mul_r(F::from_bits(b), Other::NearestTiesToEven).value;
    let c = F::from_bits((-p).to_bits().wrapping_add_signed(last));
    if p.is_normal() && c.is_normal() { arithmetic::<F>(format, [a, b, c.to_bits()], mode) } else { Ok(()) }
}

fn conversion<F: FloatConvert<T>, T: Float>(
    from: &Format,
    to: &Format,
    bits: u128,
    (round, other): (Round, Other),
) -> Result<(), TestCaseError> {
    let source = (from.fraction > to.fraction).then_some(from);
    let ours = convert(to, from.unpack(bits), Rules { round, ..NEAREST }, source);
    same(ours, F::from_bits(bits).convert_r(other, &mut false))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn short_agrees(a in short(), b in short(), c in short(), mode in modes()) {
        arithmetic::<Single>(&SHORT, [a, b, c].map(u128::from), mode)?;
    }

    #[test]
    fn long_agrees(a in long(), b in long(), c in long(), mode in modes()) {
        arithmetic::<Double>(&LONG, [a, b, c].map(u128::from), mode)?;
    }

    #[test]
    fn extended_agrees(a in extended(), b in extended(), c in extended(), mode in modes()) {
        arithmetic::<Quad>(&EXTENDED, [a, b, c], mode)?;
    }

    /// Sums that cancel almost everything.
    #[test]
    fn differences_of_products_agree(
        wide in [extended(), extended()],
        narrow in [long(), long()],
        last in -3i128..4,
        mode in modes(),
    ) {
        cancels::<Quad>(&EXTENDED, wide, last, mode)?;
        cancels::<Double>(&LONG, narrow.map(u128::from), last, mode)?;
    }

    #[test]
    fn conversions_agree(a in short(), b in long(), c in extended(), mode in modes()) {
        let (a, b) = (u128::from(a), u128::from(b));
        conversion::<Single, Double>(&SHORT, &LONG, a, mode)?;
        conversion::<Single, Quad>(&SHORT, &EXTENDED, a, mode)?;
        conversion::<Double, Single>(&LONG, &SHORT, b, mode)?;
        conversion::<Double, Quad>(&LONG, &EXTENDED, b, mode)?;
        conversion::<Quad, Single>(&EXTENDED, &SHORT, c, mode)?;
        conversion::<Quad, Double>(&EXTENDED, &LONG, c, mode)?;
    }

    #[test]
    fn integers_agree(value: u64, mode in modes()) {
        let rules = Rules { round: mode.0, ..NEAREST };
        let n = Number::integer(false, value);
        same(SHORT.round(n, rules, None), Single::from_u128_r(u128::from(value), mode.1))?;
        same(LONG.round(n, rules, None), Double::from_u128_r(u128::from(value), mode.1))?;
        same(EXTENDED.round(n, rules, None), Quad::from_u128_r(u128::from(value), mode.1))?;
    }

    #[test]
    fn long_agrees_with_the_host(a in long(), b in long(), c in long()) {
        let (x, y, z) = (f64::from_bits(a), f64::from_bits(b), f64::from_bits(c));
        let [p, q, r] = [a, b, c].map(|v| LONG.unpack(u128::from(v)));
        for (ours, theirs) in [
            (add(&LONG, p, q, NEAREST), x + y),
            (multiply(&LONG, p, q, NEAREST), x * y),
            (divide(&LONG, p, q, NEAREST), x / y),
            (square_root(&LONG, p, NEAREST), x.sqrt()),
            (multiply_add(&LONG, p, q, r, NEAREST), x.mul_add(y, z)),
        ] {
            if theirs.is_nan() {
                prop_assert_eq!(ours.bits as u64, 0x7ff8 << 48);
            } else {
                prop_assert_eq!(ours.bits as u64, theirs.to_bits());
            }
        }
    }

    #[test]
    fn short_agrees_with_the_host(a in short(), b in short()) {
        let (x, y) = (f32::from_bits(a), f32::from_bits(b));
        let [p, q] = [a, b].map(|v| SHORT.unpack(u128::from(v)));
        for (ours, theirs) in [
            (add(&SHORT, p, q, NEAREST), x + y),
            (multiply(&SHORT, p, q, NEAREST), x * y),
            (divide(&SHORT, p, q, NEAREST), x / y),
            (square_root(&SHORT, p, NEAREST), x.sqrt()),
        ] {
            if theirs.is_nan() {
                prop_assert_eq!(ours.bits as u32, 0x7fc0_0000);
            } else {
                prop_assert_eq!(ours.bits as u32, theirs.to_bits());
            }
        }
    }

    /// The root of an extended number, squared, encloses it.
    #[test]
    fn extended_roots(a in extended()) {
        let a = a & !(1 << 127);
        let down = square_root(&EXTENDED, EXTENDED.unpack(a), Rules { round: Round::Down, ..NEAREST });
        let up = square_root(&EXTENDED, EXTENDED.unpack(a), Rules { round: Round::Up, ..NEAREST });
        let square = |r: u128, round| Quad::from_bits(r).mul_r(Quad::from_bits(r), round).value;
        prop_assert!(square(down.bits, Other::TowardNegative) <= Quad::from_bits(a));
        prop_assert!(square(up.bits, Other::TowardPositive) >= Quad::from_bits(a));
        prop_assert!(up.bits - down.bits == u128::from(down.flags & INEXACT != 0));
    }

    /// Against integers: any rounding method, and a quotient with a scale that is exact.
    #[test]
    fn divide_to_integer_rounds_as_asked(
        a in -1i64 << 40..1 << 40,
        b in prop_oneof![-20i64..20, -1i64 << 30..1 << 30],
        scale in -60i32..60,
        (round, _) in modes(),
        odd: bool,
    ) {
        prop_assume!(b != 0);
        let round = if odd { Round::Odd } else { round };
        let long = |v: f64| LONG.unpack(u128::from(v.to_bits()));
        let unit = 2f64.powi(scale);
        let ours = divide_to_integer(&LONG, long(a as f64 * unit), long(b as f64 * unit), round, NEAREST);
        let (down, rest) = (a.div_euclid(b), a.rem_euclid(b));
        // The quotient is between `low` and `low + 1`.
        let low = if b > 0 || rest == 0 { down } else { down - 1 };
        let twice = 2 * rest;
        let above = if b > 0 { twice.cmp(&b) } else { (-b).cmp(&twice) };
        let high = match round {
            _ if rest == 0 => false,
            Round::Down => false,
            Round::Up => true,
            Round::Zero => low < 0,
            Round::Odd => low & 1 == 0,
            Round::Even => above.is_gt() || above.is_eq() && low & 1 != 0,
            Round::Away => above.is_gt() || above.is_eq() && low >= 0,
        };
        let n = low + i64::from(high);
        let remainder = (a - n * b) as f64 * unit;
        prop_assert_eq!(ours.cc, 0);
        prop_assert_eq!(f64::from_bits(ours.quotient as u64), n as f64);
        prop_assert_eq!(f64::from_bits(ours.remainder.bits as u64), remainder);
        // Zeros have the sign of the quotient, and of the dividend.
        let [quotient, remainder] = [ours.quotient, ours.remainder.bits].map(|v| f64::from_bits(v as u64));
        prop_assert!(quotient != 0.0 || a == 0 || quotient.is_sign_negative() == (a < 0) ^ (b < 0));
        prop_assert!(remainder != 0.0 || remainder.is_sign_negative() == (a < 0));
    }

    /// The remainder is the host's, and n is even in a tie.
    #[test]
    fn divide_to_integer_agrees(a in long(), b in long()) {
        let [p, q] = [a, b].map(|v| LONG.unpack(u128::from(v)));
        let ours = divide_to_integer(&LONG, p, q, Round::Even, NEAREST);
        let theirs = Double::from_bits(u128::from(a)).ieee_rem(Double::from_bits(u128::from(b)));
        if ours.cc == 0 {
            prop_assert_eq!(ours.remainder.bits, theirs.value.to_bits());
            prop_assert_eq!(ours.remainder.flags, 0);
        }
    }
}

#[test]
fn load_rounded_scales_trapped_results_in_the_source_format() {
    // The largest short number plus more than half a unit: overflow, incremented, scaled by 2^-512.
    let a = LONG.unpack(0x47ef_ffff_f000_0000);
    let r = convert(&SHORT, a, TRAPS, Some(&LONG));
    assert_eq!((r.bits, r.dxc, r.in_source), (0x27f0_0000_0000_0000, 0x2c, true));
    let r = convert(&SHORT, a, NEAREST, Some(&LONG));
    assert_eq!((r.bits, r.flags), (0x7f80_0000, OVERFLOW | INEXACT));
    // Exact underflow is scaled by 2^512.
    let a = LONG.unpack(0x3690_0000_0000_0000);
    let r = convert(&SHORT, a, TRAPS, Some(&LONG));
    assert_eq!((r.bits, r.dxc), (0x5690_0000_0000_0000, 0x10));
    let r = convert(&SHORT, a, NEAREST, Some(&LONG));
    assert_eq!((r.bits, r.flags), (0, UNDERFLOW | INEXACT));
}

#[test]
fn multiply_scales_trapped_results() {
    let largest = SHORT.unpack(0x7f7f_ffff);
    let r = multiply(&SHORT, largest, largest.negated(), TRAPS);
    assert_eq!((r.bits, r.dxc), (0xdf7f_fffe, 0x28));
}

#[test]
fn signaling_nans_come_first_and_become_quiet() {
    let (quiet, signaling) = (SHORT.unpack(0xffcb_0000), SHORT.unpack(0x7f8a_0000));
    let r = multiply(&SHORT, quiet, signaling, NEAREST);
    assert_eq!((r.bits, r.flags), (0x7fca_0000, INVALID));
    let r = multiply(&SHORT, quiet, signaling, TRAPS);
    assert!(r.suppressed() && r.dxc == 0x80);
    let infinity = SHORT.unpack(0x7f80_0000);
    let r = multiply_add(&SHORT, infinity, Number::zero(false), quiet, NEAREST);
    assert_eq!((r.bits, r.flags), (0x7fc0_0000, INVALID));
}

#[test]
fn divide_to_integer_known_results() {
    let divide = |a: u32, b: u32, rules| {
        let [a, b] = [a, b].map(|v| SHORT.unpack(u128::from(v)));
        let d = divide_to_integer(&SHORT, a, b, Round::Even, rules);
        (d.remainder.bits as u32, d.quotient as u32, d.cc)
    };
    // -7 / -4, -6 / -4, 1 / -4, 6 / 4
    assert_eq!(divide(0xc0e0_0000, 0xc080_0000, NEAREST), (0x3f80_0000, 0x4000_0000, 0));
    assert_eq!(divide(0xc0c0_0000, 0xc080_0000, NEAREST), (0x4000_0000, 0x4000_0000, 0));
    assert_eq!(divide(0x3f80_0000, 0xc080_0000, NEAREST), (0x3f80_0000, 0x8000_0000, 0));
    assert_eq!(divide(0x40c0_0000, 0x4080_0000, NEAREST), (0xc000_0000, 0x4000_0000, 0));
    // A partial quotient: 2^26 / 3
    assert_eq!(divide(0x4c80_0000, 0x4040_0000, NEAREST), (0x4080_0000, 0x4baa_aaaa, 2));
    // An overflowing quotient without remainder is scaled.
    assert_eq!(divide(0x7f7f_ffff, 0x0080_0000, NEAREST), (0, 0x5e7f_ffff, 1));
}

#[test]
fn rounding_for_shorter_precision_makes_odd() {
    let rules = Rules { round: Round::Odd, ..NEAREST };
    for (a, expected) in [(-9.5, -9), (-2.5, -3), (-0.5, -1), (0.5, 1), (1.5, 1), (2.5, 3), (9.5, 9)] {
        let a = LONG.unpack(u128::from(f64::to_bits(a)));
        let (r, wrong) = to_integer(a, Integer { bits: 64, signed: true }, rules);
        assert!(!wrong);
        assert_eq!(r.bits as u64 as i64, expected);
    }
}

#[test]
fn out_of_range_is_invalid_and_inexact() {
    let to = Integer { bits: 64, signed: true };
    let (r, wrong) = to_integer(SHORT.unpack(0x7f80_0000), to, NEAREST);
    assert_eq!((r.bits as u64, r.flags, wrong), (i64::MAX as u64, INVALID | INEXACT, true));
    let (r, _) = to_integer(SHORT.unpack(0x7fc0_0000), to, TRAPS);
    assert_eq!(r.dxc, INVALID);
}
