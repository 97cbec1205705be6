//! Binary-floating-point instructions: arithmetic, comparison, conversion (SA22-7832, chapter 19).
//!
//! The arithmetic itself is in `bfp_math`; moves without arithmetic are in `fp_move`.

use super::bfp_host::Operation::{self, MultiplyAdd, MultiplySubtract};
use super::bfp_host::{self as host, D, Kind, S, X, compute};
use super::bfp_math::{self as math, Integer, Number, Outcome, Round, Rules};
use super::fac::{FP_EXTENSION, Z};
use super::fp_move::{
    bfp_enabled, data_exception, extended, long, pairs, set_extended, set_long, set_short, short,
};
use super::row;
use crate::cpu::Cpu;
use crate::op::{Entry, Flow, Format::*, Op, Step, Trap};
use cloister_arch::s390x::program;
use std::cmp::Ordering;

/// Rows for binary floating point.
pub(crate) const TABLE: &[Entry] = &[
    // Load and test, complement, negative, positive
    row(0xb302, "ltebr", RRE, Z, |c, op| rr::<S, S>(c, op, load_and_test::<S>)),
    row(0xb312, "ltdbr", RRE, Z, |c, op| rr::<D, D>(c, op, load_and_test::<D>)),
    row(0xb342, "ltxbr", RRE, Z, |c, op| rr::<X, X>(c, op, load_and_test::<X>)),
    row(0xb303, "lcebr", RRE, Z, |c, op| sign::<S>(c, op, |v, s| v ^ s)),
    row(0xb313, "lcdbr", RRE, Z, |c, op| sign::<D>(c, op, |v, s| v ^ s)),
    row(0xb343, "lcxbr", RRE, Z, |c, op| sign::<X>(c, op, |v, s| v ^ s)),
    row(0xb301, "lnebr", RRE, Z, |c, op| sign::<S>(c, op, |v, s| v | s)),
    row(0xb311, "lndbr", RRE, Z, |c, op| sign::<D>(c, op, |v, s| v | s)),
    row(0xb341, "lnxbr", RRE, Z, |c, op| sign::<X>(c, op, |v, s| v | s)),
    row(0xb300, "lpebr", RRE, Z, |c, op| sign::<S>(c, op, |v, s| v & !s)),
    row(0xb310, "lpdbr", RRE, Z, |c, op| sign::<D>(c, op, |v, s| v & !s)),
    row(0xb340, "lpxbr", RRE, Z, |c, op| sign::<X>(c, op, |v, s| v & !s)),
    // Load lengthened and rounded
    row(0xb304, "ldebr", RRE, Z, |c, op| rr::<D, S>(c, op, lengthen::<D, S>)),
    row(0xed04, "ldeb", RXE, Z, |c, op| rx::<D, S>(c, op, lengthen::<D, S>)),
    row(0xb305, "lxdbr", RRE, Z, |c, op| rr::<X, D>(c, op, lengthen::<X, D>)),
    row(0xed05, "lxdb", RXE, Z, |c, op| rx::<X, D>(c, op, lengthen::<X, D>)),
    row(0xb306, "lxebr", RRE, Z, |c, op| rr::<X, S>(c, op, lengthen::<X, S>)),
    row(0xed06, "lxeb", RXE, Z, |c, op| rx::<X, S>(c, op, lengthen::<X, S>)),
    row(0xb344, "ledbra", RRFe, Z, |c, op| rr::<S, D>(c, op, load_rounded::<S, D>)),
    row(0xb345, "ldxbra", RRFe, Z, |c, op| rr::<X, X>(c, op, load_rounded::<D, X>)),
    row(0xb346, "lexbra", RRFe, Z, |c, op| rr::<X, X>(c, op, load_rounded::<S, X>)),
    row(0xb357, "fiebra", RRFe, Z, |c, op| rr::<S, S>(c, op, load_integer::<S>)),
    row(0xb35f, "fidbra", RRFe, Z, |c, op| rr::<D, D>(c, op, load_integer::<D>)),
    row(0xb347, "fixbra", RRFe, Z, |c, op| rr::<X, X>(c, op, load_integer::<X>)),
    // Add, subtract
    row(0xb30a, "aebr", RRE, Z, |c, op| rr::<S, S>(c, op, add::<S>)),
    row(0xed0a, "aeb", RXE, Z, |c, op| rx::<S, S>(c, op, add::<S>)),
    row(0xb31a, "adbr", RRE, Z, |c, op| rr::<D, D>(c, op, add::<D>)),
    row(0xed1a, "adb", RXE, Z, |c, op| rx::<D, D>(c, op, add::<D>)),
    row(0xb34a, "axbr", RRE, Z, |c, op| rr::<X, X>(c, op, add::<X>)),
    row(0xb30b, "sebr", RRE, Z, |c, op| rr::<S, S>(c, op, subtract::<S>)),
    row(0xed0b, "seb", RXE, Z, |c, op| rx::<S, S>(c, op, subtract::<S>)),
    row(0xb31b, "sdbr", RRE, Z, |c, op| rr::<D, D>(c, op, subtract::<D>)),
    row(0xed1b, "sdb", RXE, Z, |c, op| rx::<D, D>(c, op, subtract::<D>)),
    row(0xb34b, "sxbr", RRE, Z, |c, op| rr::<X, X>(c, op, subtract::<X>)),
    // Multiply, divide, square root
    row(0xb317, "meebr", RRE, Z, |c, op| rr::<S, S>(c, op, multiply::<S>)),
    row(0xed17, "meeb", RXE, Z, |c, op| rx::<S, S>(c, op, multiply::<S>)),
    row(0xb31c, "mdbr", RRE, Z, |c, op| rr::<D, D>(c, op, multiply::<D>)),
    row(0xed1c, "mdb", RXE, Z, |c, op| rx::<D, D>(c, op, multiply::<D>)),
    row(0xb34c, "mxbr", RRE, Z, |c, op| rr::<X, X>(c, op, multiply::<X>)),
    row(0xb30c, "mdebr", RRE, Z, |c, op| rr::<D, S>(c, op, multiply_longer::<D, S>)),
    row(0xed0c, "mdeb", RXE, Z, |c, op| rx::<D, S>(c, op, multiply_longer::<D, S>)),
    row(0xb307, "mxdbr", RRE, Z, |c, op| rr::<X, D>(c, op, multiply_longer::<X, D>)),
    row(0xed07, "mxdb", RXE, Z, |c, op| rx::<X, D>(c, op, multiply_longer::<X, D>)),
    row(0xb30d, "debr", RRE, Z, |c, op| rr::<S, S>(c, op, divide::<S>)),
    row(0xed0d, "deb", RXE, Z, |c, op| rx::<S, S>(c, op, divide::<S>)),
    row(0xb31d, "ddbr", RRE, Z, |c, op| rr::<D, D>(c, op, divide::<D>)),
    row(0xed1d, "ddb", RXE, Z, |c, op| rx::<D, D>(c, op, divide::<D>)),
    row(0xb34d, "dxbr", RRE, Z, |c, op| rr::<X, X>(c, op, divide::<X>)),
    row(0xb314, "sqebr", RRE, Z, |c, op| rr::<S, S>(c, op, square_root::<S>)),
    row(0xed14, "sqeb", RXE, Z, |c, op| rx::<S, S>(c, op, square_root::<S>)),
    row(0xb315, "sqdbr", RRE, Z, |c, op| rr::<D, D>(c, op, square_root::<D>)),
    row(0xed15, "sqdb", RXE, Z, |c, op| rx::<D, D>(c, op, square_root::<D>)),
    row(0xb316, "sqxbr", RRE, Z, |c, op| rr::<X, X>(c, op, square_root::<X>)),
    row(0xb30e, "maebr", RRD, Z, |c, op| fused::<S>(c, op, MultiplyAdd)),
    row(0xed0e, "maeb", RXF, Z, |c, op| fused_storage::<S>(c, op, MultiplyAdd)),
    row(0xb31e, "madbr", RRD, Z, |c, op| fused::<D>(c, op, MultiplyAdd)),
    row(0xed1e, "madb", RXF, Z, |c, op| fused_storage::<D>(c, op, MultiplyAdd)),
    row(0xb30f, "msebr", RRD, Z, |c, op| fused::<S>(c, op, MultiplySubtract)),
    row(0xed0f, "mseb", RXF, Z, |c, op| fused_storage::<S>(c, op, MultiplySubtract)),
    row(0xb31f, "msdbr", RRD, Z, |c, op| fused::<D>(c, op, MultiplySubtract)),
    row(0xed1f, "msdb", RXF, Z, |c, op| fused_storage::<D>(c, op, MultiplySubtract)),
    row(0xb353, "diebr", RRFb, Z, divide_to_integer::<S>),
    row(0xb35b, "didbr", RRFb, Z, divide_to_integer::<D>),
    // Compare, test data class
    row(0xb309, "cebr", RRE, Z, |c, op| rr::<S, S>(c, op, |c, op, b| compare::<S>(c, op, b, false))),
    row(0xed09, "ceb", RXE, Z, |c, op| rx::<S, S>(c, op, |c, op, b| compare::<S>(c, op, b, false))),
    row(0xb319, "cdbr", RRE, Z, |c, op| rr::<D, D>(c, op, |c, op, b| compare::<D>(c, op, b, false))),
    row(0xed19, "cdb", RXE, Z, |c, op| rx::<D, D>(c, op, |c, op, b| compare::<D>(c, op, b, false))),
    row(0xb349, "cxbr", RRE, Z, |c, op| rr::<X, X>(c, op, |c, op, b| compare::<X>(c, op, b, false))),
    row(0xb308, "kebr", RRE, Z, |c, op| rr::<S, S>(c, op, |c, op, b| compare::<S>(c, op, b, true))),
    row(0xed08, "keb", RXE, Z, |c, op| rx::<S, S>(c, op, |c, op, b| compare::<S>(c, op, b, true))),
    row(0xb318, "kdbr", RRE, Z, |c, op| rr::<D, D>(c, op, |c, op, b| compare::<D>(c, op, b, true))),
    row(0xed18, "kdb", RXE, Z, |c, op| rx::<D, D>(c, op, |c, op, b| compare::<D>(c, op, b, true))),
    row(0xb348, "kxbr", RRE, Z, |c, op| rr::<X, X>(c, op, |c, op, b| compare::<X>(c, op, b, true))),
    row(0xed10, "tceb", RXE, Z, test_class::<S>),
    row(0xed11, "tcdb", RXE, Z, test_class::<D>),
    row(0xed12, "tcxb", RXE, Z, test_class::<X>),
    // Convert from fixed and logical
    row(0xb394, "cefbra", RRFe, Z, |c, op| from_integer::<S>(c, op, I32)),
    row(0xb395, "cdfbra", RRFe, Z, |c, op| from_integer::<D>(c, op, I32)),
    row(0xb396, "cxfbra", RRFe, Z, |c, op| from_integer::<X>(c, op, I32)),
    row(0xb3a4, "cegbra", RRFe, Z, |c, op| from_integer::<S>(c, op, I64)),
    row(0xb3a5, "cdgbra", RRFe, Z, |c, op| from_integer::<D>(c, op, I64)),
    row(0xb3a6, "cxgbra", RRFe, Z, |c, op| from_integer::<X>(c, op, I64)),
    row(0xb390, "celfbr", RRFe, FP_EXTENSION, |c, op| from_integer::<S>(c, op, U32)),
    row(0xb391, "cdlfbr", RRFe, FP_EXTENSION, |c, op| from_integer::<D>(c, op, U32)),
    row(0xb392, "cxlfbr", RRFe, FP_EXTENSION, |c, op| from_integer::<X>(c, op, U32)),
    row(0xb3a0, "celgbr", RRFe, FP_EXTENSION, |c, op| from_integer::<S>(c, op, U64)),
    row(0xb3a1, "cdlgbr", RRFe, FP_EXTENSION, |c, op| from_integer::<D>(c, op, U64)),
    row(0xb3a2, "cxlgbr", RRFe, FP_EXTENSION, |c, op| from_integer::<X>(c, op, U64)),
    // Convert to fixed and logical
    row(0xb398, "cfebra", RRFe, Z, |c, op| to_integer::<S>(c, op, I32)),
    row(0xb399, "cfdbra", RRFe, Z, |c, op| to_integer::<D>(c, op, I32)),
    row(0xb39a, "cfxbra", RRFe, Z, |c, op| to_integer::<X>(c, op, I32)),
    row(0xb3a8, "cgebra", RRFe, Z, |c, op| to_integer::<S>(c, op, I64)),
    row(0xb3a9, "cgdbra", RRFe, Z, |c, op| to_integer::<D>(c, op, I64)),
    row(0xb3aa, "cgxbra", RRFe, Z, |c, op| to_integer::<X>(c, op, I64)),
    row(0xb39c, "clfebr", RRFe, FP_EXTENSION, |c, op| to_integer::<S>(c, op, U32)),
    row(0xb39d, "clfdbr", RRFe, FP_EXTENSION, |c, op| to_integer::<D>(c, op, U32)),
    row(0xb39e, "clfxbr", RRFe, FP_EXTENSION, |c, op| to_integer::<X>(c, op, U32)),
    row(0xb3ac, "clgebr", RRFe, FP_EXTENSION, |c, op| to_integer::<S>(c, op, U64)),
    row(0xb3ad, "clgdbr", RRFe, FP_EXTENSION, |c, op| to_integer::<D>(c, op, U64)),
    row(0xb3ae, "clgxbr", RRFe, FP_EXTENSION, |c, op| to_integer::<X>(c, op, U64)),
];

const I32: Integer = Integer { bits: 32, signed: true };
const I64: Integer = Integer { bits: 64, signed: true };
const U32: Integer = Integer { bits: 32, signed: false };
const U64: Integer = Integer { bits: 64, signed: false };

/// Where an operand of a format is.
trait Place: Kind {
    fn get(c: &Cpu, r: u8) -> u128;
    fn set(c: &mut Cpu, r: u8, value: u128);
    fn load(c: &mut Cpu, addr: u64) -> Result<u128, Trap>;
    /// Whether the register may hold such an operand.
    #[inline(always)]
    fn check(_: &mut Cpu, _: u8) -> Result<(), Trap> {
        Ok(())
    }
    fn unpack(c: &Cpu, r: u8) -> Number {
        Self::FORMAT.unpack(Self::get(c, r))
    }
}

impl Place for S {
    #[inline(always)]
    fn get(c: &Cpu, r: u8) -> u128 {
        u128::from(short(c, r))
    }
    #[inline(always)]
    fn set(c: &mut Cpu, r: u8, value: u128) {
        set_short(c, r, value as u32);
    }
    #[inline(always)]
    fn load(c: &mut Cpu, addr: u64) -> Result<u128, Trap> {
        Ok(u128::from(c.read_u32(addr)?))
    }
}

impl Place for D {
    #[inline(always)]
    fn get(c: &Cpu, r: u8) -> u128 {
        u128::from(long(c, r))
    }
    #[inline(always)]
    fn set(c: &mut Cpu, r: u8, value: u128) {
        set_long(c, r, value as u64);
    }
    #[inline(always)]
    fn load(c: &mut Cpu, addr: u64) -> Result<u128, Trap> {
        Ok(u128::from(c.read_u64(addr)?))
    }
}

impl Place for X {
    fn get(c: &Cpu, r: u8) -> u128 {
        extended(c, r)
    }
    fn set(c: &mut Cpu, r: u8, value: u128) {
        set_extended(c, r, value);
    }
    fn load(c: &mut Cpu, addr: u64) -> Result<u128, Trap> {
        c.read_u128(addr)
    }
    fn check(c: &mut Cpu, r: u8) -> Result<(), Trap> {
        pairs(c, &[r])
    }
}

/// Register operands: `f` gets the second one.
#[inline(always)]
fn rr<R1: Place, R2: Place>(c: &mut Cpu, op: &Op, f: impl Fn(&mut Cpu, &Op, u128) -> Step) -> Step {
    bfp_enabled(c)?;
    R1::check(c, op.r1)?;
    R2::check(c, op.r2)?;
    let b = R2::get(c, op.r2);
    f(c, op, b)
}

/// Second operand in storage.
#[inline(always)]
fn rx<R1: Place, M: Place>(c: &mut Cpu, op: &Op, f: impl Fn(&mut Cpu, &Op, u128) -> Step) -> Step {
    bfp_enabled(c)?;
    R1::check(c, op.r1)?;
    let addr = c.ea(op);
    let b = M::load(c, addr)?;
    f(c, op, b)
}

/// Rounding mode of the floating-point-control register.
fn current(c: &Cpu) -> Round {
    match c.fpc & 7 {
        1 => Round::Zero,
        2 => Round::Up,
        3 => Round::Down,
        7 => Round::Odd,
        _ => Round::Even,
    }
}

/// Rules by the floating-point-control register.
pub(super) fn rules(c: &Cpu) -> Rules {
    let noted = c.fpc & u32::from(math::INEXACT) << 16 != 0;
    Rules { round: current(c), masks: (c.fpc >> 24) as u8, inexact_off: false, noted }
}

/// Rounding by a modifier field (M3 in `x`), and M4 bit 1 (in `aux`), which switches inexact off.
fn modified(c: &mut Cpu, op: &Op, m3: bool) -> Result<Rules, Trap> {
    let extension = c.facility(FP_EXTENSION);
    let mut rules = rules(c);
    if m3 || extension {
        rules.round = method(c, op.x)?;
    }
    rules.inexact_off = extension && op.aux & 4 != 0;
    rules.noted |= rules.inexact_off;
    Ok(rules)
}

/// A rounding method from a modifier field.
pub(super) fn method(c: &mut Cpu, m: u8) -> Result<Round, Trap> {
    Ok(match m {
        0 => current(c),
        1 => Round::Away,
        3 if c.facility(FP_EXTENSION) => Round::Odd,
        4 => Round::Even,
        5 => Round::Zero,
        6 => Round::Up,
        7 => Round::Down,
        _ => return Err(c.program(program::SPECIFICATION)),
    })
}

/// Delivers a result to R1, sets the condition code if `cc`, and raises what has to be raised.
fn deliver<K: Place>(c: &mut Cpu, op: &Op, outcome: Outcome, cc: bool) -> Step {
    if outcome.suppressed() {
        return Err(data_exception(c, outcome.dxc));
    }
    K::set(c, op.r1, outcome.bits);
    if cc {
        c.cc = class_code::<K>(outcome.bits);
    }
    raise(c, outcome)
}

/// Flags and the trap of a completed operation.
fn raise(c: &mut Cpu, outcome: Outcome) -> Step {
    c.fpc |= u32::from(outcome.flags) << 16;
    if outcome.dxc == 0 { Ok(Flow::Next) } else { Err(data_exception(c, outcome.dxc)) }
}

/// Zero, less, greater, NaN.
#[inline(always)]
fn class_code<K: Place>(bits: u128) -> u8 {
    let sign = K::FORMAT.sign_bit();
    let magnitude = bits & (sign - 1);
    let infinity = (K::FORMAT.max as u128 * 2 + 1) << K::FORMAT.fraction;
    match magnitude {
        0 => 0,
        m if m > infinity => 3,
        _ if bits & sign != 0 => 1,
        _ => 2,
    }
}

#[inline(always)]
fn load_and_test<K: Place>(c: &mut Cpu, op: &Op, b: u128) -> Step {
    c.cc = match class_code::<K>(b) {
        3 => {
            let n = K::FORMAT.unpack(b);
            let outcome = math::convert(K::FORMAT, n, rules(c), None);
            return deliver::<K>(c, op, outcome, true);
        }
        cc => cc,
    };
    K::set(c, op.r1, b);
    Ok(Flow::Next)
}

fn sign<K: Place>(c: &mut Cpu, op: &Op, f: fn(u128, u128) -> u128) -> Step {
    rr::<K, K>(c, op, |c, op, b| {
        let value = f(b, K::FORMAT.sign_bit());
        K::set(c, op.r1, value);
        c.cc = class_code::<K>(value);
        Ok(Flow::Next)
    })
}

#[inline(always)]
fn lengthen<T: Place, F: Place>(c: &mut Cpu, op: &Op, b: u128) -> Step {
    let outcome = host::convert::<T, F>(b, rules(c));
    deliver::<T>(c, op, outcome, false)
}

#[inline(always)]
fn load_rounded<T: Place, F: Place>(c: &mut Cpu, op: &Op, b: u128) -> Step {
    let rules = modified(c, op, false)?;
    let outcome = host::convert::<T, F>(b, rules);
    if outcome.in_source { deliver::<F>(c, op, outcome, false) } else { deliver::<T>(c, op, outcome, false) }
}

#[inline(always)]
fn load_integer<K: Place>(c: &mut Cpu, op: &Op, b: u128) -> Step {
    let rules = modified(c, op, true)?;
    let outcome = host::to_integral::<K>(b, rules);
    deliver::<K>(c, op, outcome, false)
}

#[inline(always)]
fn add<K: Place>(c: &mut Cpu, op: &Op, b: u128) -> Step {
    let outcome = compute::<K>(Operation::Add, [K::get(c, op.r1), b, 0], rules(c));
    deliver::<K>(c, op, outcome, true)
}

#[inline(always)]
fn subtract<K: Place>(c: &mut Cpu, op: &Op, b: u128) -> Step {
    let outcome = compute::<K>(Operation::Subtract, [K::get(c, op.r1), b, 0], rules(c));
    deliver::<K>(c, op, outcome, true)
}

#[inline(always)]
fn multiply<K: Place>(c: &mut Cpu, op: &Op, b: u128) -> Step {
    let outcome = compute::<K>(Operation::Multiply, [K::get(c, op.r1), b, 0], rules(c));
    deliver::<K>(c, op, outcome, false)
}

/// Product of operands of length `F` in length `T`, which is exact.
#[inline(always)]
fn multiply_longer<T: Place, F: Place>(c: &mut Cpu, op: &Op, b: u128) -> Step {
    let a = F::get(c, op.r1);
    let outcome = math::multiply(T::FORMAT, F::FORMAT.unpack(a), F::FORMAT.unpack(b), rules(c));
    deliver::<T>(c, op, outcome, false)
}

#[inline(always)]
fn divide<K: Place>(c: &mut Cpu, op: &Op, b: u128) -> Step {
    let outcome = compute::<K>(Operation::Divide, [K::get(c, op.r1), b, 0], rules(c));
    deliver::<K>(c, op, outcome, false)
}

#[inline(always)]
fn square_root<K: Place>(c: &mut Cpu, op: &Op, b: u128) -> Step {
    let outcome = compute::<K>(Operation::Root, [b, 0, 0], rules(c));
    deliver::<K>(c, op, outcome, false)
}

/// `R1 = R3 * second operand ± R1`. R3 is in `x` (RRD).
#[inline(always)]
fn fused<K: Place>(c: &mut Cpu, op: &Op, what: Operation) -> Step {
    rr::<K, K>(c, op, |c, op, b| fused_with::<K>(c, op, what, op.x, b))
}

/// The same with the second operand in storage; R3 is in `r2` (RXF).
#[inline(always)]
fn fused_storage<K: Place>(c: &mut Cpu, op: &Op, what: Operation) -> Step {
    rx::<K, K>(c, op, |c, op, b| fused_with::<K>(c, op, what, op.r2, b))
}

#[inline(always)]
fn fused_with<K: Place>(c: &mut Cpu, op: &Op, what: Operation, r3: u8, b: u128) -> Step {
    let outcome = compute::<K>(what, [b, K::get(c, r3), K::get(c, op.r1)], rules(c));
    deliver::<K>(c, op, outcome, false)
}

/// DIVIDE TO INTEGER: R1 dividend and remainder, R3 (in `x`) quotient, R2 divisor, M4 (in `aux`) rounding.
fn divide_to_integer<K: Place>(c: &mut Cpu, op: &Op) -> Step {
    bfp_enabled(c)?;
    if op.r1 == op.r2 || op.r1 == op.x || op.r2 == op.x {
        return Err(c.program(program::SPECIFICATION));
    }
    let round = method(c, op.aux as u8)?;
    let (a, b) = (K::unpack(c, op.r1), K::unpack(c, op.r2));
    let division = math::divide_to_integer(K::FORMAT, a, b, round, rules(c));
    if division.remainder.suppressed() {
        return Err(data_exception(c, division.remainder.dxc));
    }
    K::set(c, op.r1, division.remainder.bits);
    K::set(c, op.x, division.quotient);
    c.cc = division.cc;
    raise(c, division.remainder)
}

/// COMPARE, and COMPARE AND SIGNAL, for which every NaN is invalid.
#[inline(always)]
fn compare<K: Place>(c: &mut Cpu, op: &Op, b: u128, signal: bool) -> Step {
    let a = K::get(c, op.r1);
    c.cc = match host::compare::<K>(a, b) {
        Some(Ordering::Equal) => 0,
        Some(Ordering::Less) => 1,
        Some(Ordering::Greater) => 2,
        None => {
            let signaling = |v| K::FORMAT.unpack(v).class == math::Class::Signaling;
            if signal || signaling(a) || signaling(b) {
                if c.fpc >> 24 & u32::from(math::INVALID) != 0 {
                    return Err(data_exception(c, math::INVALID));
                }
                c.fpc |= u32::from(math::INVALID) << 16;
            }
            3
        }
    };
    Ok(Flow::Next)
}

/// TEST DATA CLASS: bits 52-63 of the second-operand address select classes.
fn test_class<K: Place>(c: &mut Cpu, op: &Op) -> Step {
    bfp_enabled(c)?;
    K::check(c, op.r1)?;
    c.cc = u8::from(c.ea(op) & class_bit::<K>(K::get(c, op.r1)) != 0);
    Ok(Flow::Next)
}

/// The bit, of twelve, that stands for an operand's class, signs alternating.
pub(super) fn class_bit<K: Kind>(bits: u128) -> u64 {
    let n = K::FORMAT.unpack(bits);
    let place = match n.class {
        math::Class::Zero => 0,
        math::Class::Finite if n.exp > -K::FORMAT.max => 2,
        math::Class::Finite => 4,
        math::Class::Infinity => 6,
        math::Class::Quiet => 8,
        math::Class::Signaling => 10,
    };
    0x800 >> (place + u32::from(n.sign))
}

/// CONVERT FROM FIXED, CONVERT FROM LOGICAL.
#[inline(always)]
fn from_integer<K: Place>(c: &mut Cpu, op: &Op, from: Integer) -> Step {
    bfp_enabled(c)?;
    K::check(c, op.r1)?;
    let rules = modified(c, op, false)?;
    let value = match (from.bits, from.signed) {
        (32, true) => i64::from(c.w(op.r2) as i32),
        (32, false) => i64::from(c.w(op.r2)),
        _ => c.g(op.r2) as i64,
    };
    let negative = from.signed && value < 0;
    let magnitude = if negative { value.unsigned_abs() } else { value as u64 };
    let outcome = host::from_integer::<K>(negative, magnitude, rules);
    deliver::<K>(c, op, outcome, false)
}

/// CONVERT TO FIXED, CONVERT TO LOGICAL: the condition code tells of the operand.
#[inline(always)]
fn to_integer<K: Place>(c: &mut Cpu, op: &Op, to: Integer) -> Step {
    bfp_enabled(c)?;
    K::check(c, op.r2)?;
    let rules = modified(c, op, true)?;
    let bits = K::get(c, op.r2);
    let (outcome, special) = host::to_integer::<K>(bits, to, rules);
    if outcome.suppressed() {
        return Err(data_exception(c, outcome.dxc));
    }
    if to.bits == 32 {
        c.set_w(op.r1, outcome.bits as u32);
    } else {
        c.set_g(op.r1, outcome.bits as u64);
    }
    c.cc = if special { 3 } else { class_code::<K>(bits) };
    raise(c, outcome)
}
