//! The host's arithmetic, where it is used, is `bfp_math`'s: results and flags.

use super::bfp_host::*;
use super::bfp_math::{Integer, Number, Outcome, Round, Rules, convert as exact_convert};
use super::bfp_math::{to_integer as exact_to_integer, to_integral as exact_to_integral};
use super::bfp_tests::{long, short};
use proptest::prelude::*;

const OPERATIONS: [Operation; 7] = [
    Operation::Add,
    Operation::Subtract,
    Operation::Multiply,
    Operation::Divide,
    Operation::Root,
    Operation::MultiplyAdd,
    Operation::MultiplySubtract,
];
const INTEGERS: [(u32, bool); 4] = [(32, true), (64, true), (32, false), (64, false)];

fn rules(round: Round) -> Rules {
    Rules { round, masks: 0, inexact_off: false, noted: false }
}

fn noted(round: Round) -> Rules {
    Rules { noted: true, ..rules(round) }
}

fn rounds() -> impl Strategy<Value = Round> {
    prop::sample::select(vec![Round::Even, Round::Away, Round::Zero, Round::Up, Round::Down, Round::Odd])
}

/// Operands of which the results are often exact, or just not: few bits, near each other, near powers of two.
fn near() -> impl Strategy<Value = [f64; 3]> {
    let few = (-70i32..70, 0u64..1 << 12, 0u32..3).prop_map(|(e, m, last)| {
        let v = f64::from_bits(((m | 1 << 12) as f64 * 2f64.powi(e)).to_bits() + u64::from(last));
        if e & 1 == 0 { v } else { -v }
    });
    [few.clone(), few.clone(), few]
}

/// With the question of exactness left open only the flag may differ.
fn computed<K: Kind>(operands: [u128; 3]) -> Result<(), TestCaseError> {
    for what in OPERATIONS {
        let slow = exactly::<K>(what, operands, rules(Round::Even));
        prop_assert_eq!(compute::<K>(what, operands, rules(Round::Even)), slow, "{:?}", what);
        let quick = compute::<K>(what, operands, noted(Round::Even));
        prop_assert_eq!(quick.bits, slow.bits, "{:?}", what);
        prop_assert_eq!(quick.flags | slow.flags & 8, slow.flags, "{:?}", what);
    }
    Ok(())
}

fn converted<K: Kind>(bits: u128, round: Round) -> Result<(), TestCaseError> {
    let n = K::FORMAT.unpack(bits);
    for rules in [rules(round), Rules { inexact_off: true, noted: true, ..rules(round) }] {
        prop_assert_eq!(to_integral::<K>(bits, rules), exact_to_integral(K::FORMAT, n, rules));
        for (bits_of, signed) in INTEGERS {
            let to = Integer { bits: bits_of, signed };
            prop_assert_eq!(to_integer::<K>(bits, to, rules), exact_to_integer(n, to, rules));
        }
    }
    same(convert::<D, K>(bits, rules(round)), exact_convert(D::FORMAT, n, rules(round), None))?;
    let source = (K::BITS > 32).then_some(K::FORMAT);
    same(convert::<S, K>(bits, rules(round)), exact_convert(S::FORMAT, n, rules(round), source))
}

fn same(quick: Outcome, slow: Outcome) -> Result<(), TestCaseError> {
    prop_assert_eq!(quick, slow);
    Ok(())
}

fn from<K: Kind>(value: u64, round: Round) -> Result<(), TestCaseError> {
    for negative in [false, true] {
        let slow = K::FORMAT.round(Number::integer(negative, value), rules(round), None);
        // There is no negative zero among integers.
        if value != 0 || !negative {
            prop_assert_eq!(from_integer::<K>(negative, value, rules(round)), slow);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn short_is_the_same(a in short(), b in short(), c in short(), round in rounds()) {
        computed::<S>([a, b, c].map(u128::from))?;
        converted::<S>(u128::from(a), round)?;
    }

    #[test]
    fn long_is_the_same(a in long(), b in long(), c in long(), round in rounds()) {
        computed::<D>([a, b, c].map(u128::from))?;
        converted::<D>(u128::from(a), round)?;
    }

    #[test]
    fn exact_results_are_the_same(operands in near(), round in rounds()) {
        computed::<D>(operands.map(|v| u128::from(v.to_bits())))?;
        computed::<S>(operands.map(|v| u128::from((v as f32).to_bits())))?;
        let [a, b, _] = operands;
        computed::<D>([a * a, a, a * b].map(|v| u128::from(v.to_bits())))?;
        converted::<D>(u128::from(a.to_bits()), round)?;
        converted::<D>(u128::from((a * b).to_bits()), round)?;
        converted::<S>(u128::from((a as f32).to_bits()), round)?;
    }

    #[test]
    fn integers_are_the_same(value: u64, shift in 0u32..64, round in rounds()) {
        from::<S>(value >> shift, round)?;
        from::<D>(value >> shift, round)?;
    }

    #[test]
    fn comparison_is_the_same(a in long(), b in long(), c in short(), d in short()) {
        let [a, b, c, d] = [a, b, u64::from(c), u64::from(d)].map(u128::from);
        let slow = |format: &super::bfp_math::Format, a, b| {
            super::bfp_math::compare(format.unpack(a), format.unpack(b))
        };
        prop_assert_eq!(compare::<D>(a, b), slow(D::FORMAT, a, b));
        prop_assert_eq!(compare::<S>(c, d), slow(S::FORMAT, c, d));
    }
}

/// Else the tests above would compare `bfp_math` with itself.
#[test]
fn the_host_answers_for_ordinary_operands() {
    let long = [2.5f64, 1.1, 0.3].map(|v| u128::from(v.to_bits()));
    let short = [2.5f32, 1.1, 0.3].map(|v| u128::from(v.to_bits()));
    for what in OPERATIONS {
        assert!(D::host(what, long, true).is_some() && S::host(what, short, true).is_some(), "{what:?}");
        assert!(D::host(what, long, false).is_some() && S::host(what, short, false).is_some(), "{what:?}");
    }
    assert!(X::host(Operation::Add, long, true).is_none());
}
