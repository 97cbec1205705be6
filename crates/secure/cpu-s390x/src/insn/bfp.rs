//! Binary-floating-point instructions: arithmetic, comparison, conversion (SA22-7832, chapter 19).
//!
//! The arithmetic itself is in `bfp_math`; moves without arithmetic are in `fp_move`.

use super::bfp_math::{
    self as math, EXTENDED, Format as Shape, Integer, LONG, Number, Outcome, Round, Rules, SHORT,
};
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
    row(0xb317, "meebr", RRE, Z, |c, op| rr::<S, S>(c, op, multiply::<S, S>)),
    row(0xed17, "meeb", RXE, Z, |c, op| rx::<S, S>(c, op, multiply::<S, S>)),
    row(0xb31c, "mdbr", RRE, Z, |c, op| rr::<D, D>(c, op, multiply::<D, D>)),
    row(0xed1c, "mdb", RXE, Z, |c, op| rx::<D, D>(c, op, multiply::<D, D>)),
    row(0xb34c, "mxbr", RRE, Z, |c, op| rr::<X, X>(c, op, multiply::<X, X>)),
    row(0xb30c, "mdebr", RRE, Z, |c, op| rr::<D, S>(c, op, multiply::<D, S>)),
    row(0xed0c, "mdeb", RXE, Z, |c, op| rx::<D, S>(c, op, multiply::<D, S>)),
    row(0xb307, "mxdbr", RRE, Z, |c, op| rr::<X, D>(c, op, multiply::<X, D>)),
    row(0xed07, "mxdb", RXE, Z, |c, op| rx::<X, D>(c, op, multiply::<X, D>)),
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
    row(0xb30e, "maebr", RRD, Z, |c, op| rr::<S, S>(c, op, |c, op, b| multiply_add::<S>(c, op, b, false))),
    row(0xed0e, "maeb", RXF, Z, |c, op| fused_storage::<S>(c, op, false)),
    row(0xb31e, "madbr", RRD, Z, |c, op| rr::<D, D>(c, op, |c, op, b| multiply_add::<D>(c, op, b, false))),
    row(0xed1e, "madb", RXF, Z, |c, op| fused_storage::<D>(c, op, false)),
    row(0xb30f, "msebr", RRD, Z, |c, op| rr::<S, S>(c, op, |c, op, b| multiply_add::<S>(c, op, b, true))),
    row(0xed0f, "mseb", RXF, Z, |c, op| fused_storage::<S>(c, op, true)),
    row(0xb31f, "msdbr", RRD, Z, |c, op| rr::<D, D>(c, op, |c, op, b| multiply_add::<D>(c, op, b, true))),
    row(0xed1f, "msdb", RXF, Z, |c, op| fused_storage::<D>(c, op, true)),
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

/// An operand length: where it is, and how the host can help with it.
trait Kind {
    const SHAPE: &'static Shape;
    fn get(c: &Cpu, r: u8) -> u128;
    fn set(c: &mut Cpu, r: u8, value: u128);
    fn load(c: &mut Cpu, addr: u64) -> Result<u128, Trap>;
    /// Whether the register may hold such an operand.
    fn check(_: &mut Cpu, _: u8) -> Result<(), Trap> {
        Ok(())
    }
    /// The result by the host, if it is certainly the same.
    fn fast(_: Fast, _: u128, _: u128) -> Option<u128> {
        None
    }
    fn unpack(c: &Cpu, r: u8) -> Number {
        Self::SHAPE.unpack(Self::get(c, r))
    }
}

/// Short.
struct S;
/// Long.
struct D;
/// Extended.
struct X;

/// An operation that the host may be asked to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fast {
    Add,
    Subtract,
    Multiply,
    Divide,
    Root,
}

macro_rules! host {
    ($float:ty, $bits:ty) => {
        /// The host rounds to nearest as well. With normal operands and a result above the smallest normal
        /// number nothing but inexact can happen.
        #[inline(always)]
        fn fast(fast: Fast, a: u128, b: u128) -> Option<u128> {
            let (a, b) = (<$float>::from_bits(a as $bits), <$float>::from_bits(b as $bits));
            if !a.is_normal() || !b.is_normal() {
                return None;
            }
            let r = match fast {
                Fast::Add => a + b,
                Fast::Subtract => a - b,
                Fast::Multiply => a * b,
                Fast::Divide => a / b,
                Fast::Root if a < 0.0 => return None,
                Fast::Root => a.sqrt(),
            };
            (r.is_finite() && r.abs() > <$float>::MIN_POSITIVE).then(|| u128::from(r.to_bits()))
        }
    };
}

impl Kind for S {
    const SHAPE: &'static Shape = &SHORT;
    host!(f32, u32);
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

impl Kind for D {
    const SHAPE: &'static Shape = &LONG;
    host!(f64, u64);
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

impl Kind for X {
    const SHAPE: &'static Shape = &EXTENDED;
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
fn rr<R1: Kind, R2: Kind>(c: &mut Cpu, op: &Op, f: impl Fn(&mut Cpu, &Op, u128) -> Step) -> Step {
    bfp_enabled(c)?;
    R1::check(c, op.r1)?;
    R2::check(c, op.r2)?;
    let b = R2::get(c, op.r2);
    f(c, op, b)
}

/// Second operand in storage.
#[inline(always)]
fn rx<R1: Kind, M: Kind>(c: &mut Cpu, op: &Op, f: impl Fn(&mut Cpu, &Op, u128) -> Step) -> Step {
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

fn rules(c: &Cpu) -> Rules {
    Rules { round: current(c), masks: (c.fpc >> 24) as u8, inexact_off: false }
}

/// Rounding by a modifier field (M3 in `x`), and M4 bit 1 (in `aux`), which switches inexact off.
fn modified(c: &mut Cpu, op: &Op, m3: bool) -> Result<Rules, Trap> {
    let extension = c.facility(FP_EXTENSION);
    let mut rules = rules(c);
    if m3 || extension {
        rules.round = method(c, op.x)?;
    }
    rules.inexact_off = extension && op.aux & 4 != 0;
    Ok(rules)
}

/// A rounding method from a modifier field.
fn method(c: &mut Cpu, m: u8) -> Result<Round, Trap> {
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

/// No mask is on, the rounding mode is to nearest, and inexact has been noted: flags cannot change.
#[inline(always)]
fn quick(c: &Cpu) -> bool {
    c.fpc & 0xf808_0007 == 0x0008_0000
}

/// Delivers a result to R1, sets the condition code if `cc`, and raises what has to be raised.
fn deliver<K: Kind>(c: &mut Cpu, op: &Op, outcome: Outcome, cc: bool) -> Step {
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
fn class_code<K: Kind>(bits: u128) -> u8 {
    let sign = K::SHAPE.sign_bit();
    let magnitude = bits & (sign - 1);
    let infinity = (K::SHAPE.max as u128 * 2 + 1) << K::SHAPE.fraction;
    match magnitude {
        0 => 0,
        m if m > infinity => 3,
        _ if bits & sign != 0 => 1,
        _ => 2,
    }
}

#[inline(always)]
fn load_and_test<K: Kind>(c: &mut Cpu, op: &Op, b: u128) -> Step {
    c.cc = match class_code::<K>(b) {
        3 => {
            let n = K::SHAPE.unpack(b);
            let outcome = math::convert(K::SHAPE, n, rules(c), None);
            return deliver::<K>(c, op, outcome, true);
        }
        cc => cc,
    };
    K::set(c, op.r1, b);
    Ok(Flow::Next)
}

fn sign<K: Kind>(c: &mut Cpu, op: &Op, f: fn(u128, u128) -> u128) -> Step {
    rr::<K, K>(c, op, |c, op, b| {
        let value = f(b, K::SHAPE.sign_bit());
        K::set(c, op.r1, value);
        c.cc = class_code::<K>(value);
        Ok(Flow::Next)
    })
}

fn lengthen<T: Kind, F: Kind>(c: &mut Cpu, op: &Op, b: u128) -> Step {
    let outcome = math::convert(T::SHAPE, F::SHAPE.unpack(b), rules(c), None);
    deliver::<T>(c, op, outcome, false)
}

fn load_rounded<T: Kind, F: Kind>(c: &mut Cpu, op: &Op, b: u128) -> Step {
    let rules = modified(c, op, false)?;
    let outcome = math::convert(T::SHAPE, F::SHAPE.unpack(b), rules, Some(F::SHAPE));
    if outcome.in_source { deliver::<F>(c, op, outcome, false) } else { deliver::<T>(c, op, outcome, false) }
}

fn load_integer<K: Kind>(c: &mut Cpu, op: &Op, b: u128) -> Step {
    let rules = modified(c, op, true)?;
    let outcome = math::to_integral(K::SHAPE, K::SHAPE.unpack(b), rules);
    deliver::<K>(c, op, outcome, false)
}

/// The host's result, if it may be used.
#[inline(always)]
fn host<K: Kind>(c: &Cpu, fast: Fast, a: u128, b: u128) -> Option<u128> {
    if quick(c) { K::fast(fast, a, b) } else { None }
}

#[inline(always)]
fn add<K: Kind>(c: &mut Cpu, op: &Op, b: u128) -> Step {
    let a = K::get(c, op.r1);
    let outcome = match host::<K>(c, Fast::Add, a, b) {
        Some(r) => Outcome::plain(r),
        None => math::add(K::SHAPE, K::SHAPE.unpack(a), K::SHAPE.unpack(b), rules(c)),
    };
    deliver::<K>(c, op, outcome, true)
}

#[inline(always)]
fn subtract<K: Kind>(c: &mut Cpu, op: &Op, b: u128) -> Step {
    let a = K::get(c, op.r1);
    let outcome = match host::<K>(c, Fast::Subtract, a, b) {
        Some(r) => Outcome::plain(r),
        None => {
            let b = minus(K::SHAPE.unpack(b));
            math::add(K::SHAPE, K::SHAPE.unpack(a), b, rules(c))
        }
    };
    deliver::<K>(c, op, outcome, true)
}

/// A NaN keeps its sign.
fn minus(n: Number) -> Number {
    if n.is_nan() { n } else { n.negated() }
}

/// Product of operands of length `F` in length `T`.
#[inline(always)]
fn multiply<T: Kind, F: Kind>(c: &mut Cpu, op: &Op, b: u128) -> Step {
    let a = F::get(c, op.r1);
    let fast = if T::SHAPE == F::SHAPE { host::<F>(c, Fast::Multiply, a, b) } else { None };
    let outcome = match fast {
        Some(r) => Outcome::plain(r),
        None => math::multiply(T::SHAPE, F::SHAPE.unpack(a), F::SHAPE.unpack(b), rules(c)),
    };
    deliver::<T>(c, op, outcome, false)
}

#[inline(always)]
fn divide<K: Kind>(c: &mut Cpu, op: &Op, b: u128) -> Step {
    let a = K::get(c, op.r1);
    let outcome = match host::<K>(c, Fast::Divide, a, b) {
        Some(r) => Outcome::plain(r),
        None => math::divide(K::SHAPE, K::SHAPE.unpack(a), K::SHAPE.unpack(b), rules(c)),
    };
    deliver::<K>(c, op, outcome, false)
}

fn square_root<K: Kind>(c: &mut Cpu, op: &Op, b: u128) -> Step {
    let outcome = match host::<K>(c, Fast::Root, b, b) {
        Some(r) => Outcome::plain(r),
        None => math::square_root(K::SHAPE, K::SHAPE.unpack(b), rules(c)),
    };
    deliver::<K>(c, op, outcome, false)
}

/// `R1 = R3 * second operand ± R1`. R3 is in `x` (RRD).
fn multiply_add<K: Kind>(c: &mut Cpu, op: &Op, b: u128, negative: bool) -> Step {
    fused::<K>(c, op, op.x, b, negative)
}

/// The same with the second operand in storage; R3 is in `r2` (RXF).
fn fused_storage<K: Kind>(c: &mut Cpu, op: &Op, negative: bool) -> Step {
    rx::<K, K>(c, op, |c, op, b| fused::<K>(c, op, op.r2, b, negative))
}

fn fused<K: Kind>(c: &mut Cpu, op: &Op, r3: u8, b: u128, negative: bool) -> Step {
    let (first, third) = (K::unpack(c, op.r1), K::unpack(c, r3));
    let addend = if negative { minus(first) } else { first };
    let outcome = math::multiply_add(K::SHAPE, K::SHAPE.unpack(b), third, addend, rules(c));
    deliver::<K>(c, op, outcome, false)
}

/// DIVIDE TO INTEGER: R1 dividend and remainder, R3 (in `x`) quotient, R2 divisor, M4 (in `aux`) rounding.
fn divide_to_integer<K: Kind>(c: &mut Cpu, op: &Op) -> Step {
    bfp_enabled(c)?;
    if op.r1 == op.r2 || op.r1 == op.x || op.r2 == op.x {
        return Err(c.program(program::SPECIFICATION));
    }
    let round = method(c, op.aux as u8)?;
    let (a, b) = (K::unpack(c, op.r1), K::unpack(c, op.r2));
    let division = math::divide_to_integer(K::SHAPE, a, b, round, rules(c));
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
fn compare<K: Kind>(c: &mut Cpu, op: &Op, b: u128, signal: bool) -> Step {
    let (a, b) = (K::unpack(c, op.r1), K::SHAPE.unpack(b));
    c.cc = match math::compare(a, b) {
        Some(Ordering::Equal) => 0,
        Some(Ordering::Less) => 1,
        Some(Ordering::Greater) => 2,
        None => {
            let signaling = a.class == math::Class::Signaling || b.class == math::Class::Signaling;
            if signal || signaling {
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

/// TEST DATA CLASS: bits 52-63 of the second-operand address select classes, signs alternating.
fn test_class<K: Kind>(c: &mut Cpu, op: &Op) -> Step {
    bfp_enabled(c)?;
    K::check(c, op.r1)?;
    let n = K::unpack(c, op.r1);
    let place = match n.class {
        math::Class::Zero => 0,
        math::Class::Finite if n.exp > -K::SHAPE.max => 2,
        math::Class::Finite => 4,
        math::Class::Infinity => 6,
        math::Class::Quiet => 8,
        math::Class::Signaling => 10,
    };
    c.cc = u8::from(c.ea(op) & 0x800 >> (place + u32::from(n.sign)) != 0);
    Ok(Flow::Next)
}

/// CONVERT FROM FIXED, CONVERT FROM LOGICAL.
fn from_integer<K: Kind>(c: &mut Cpu, op: &Op, from: Integer) -> Step {
    bfp_enabled(c)?;
    K::check(c, op.r1)?;
    let rules = modified(c, op, false)?;
    let n = match (from.bits, from.signed) {
        (32, true) => signed(i64::from(c.w(op.r2) as i32)),
        (32, false) => Number::integer(false, u64::from(c.w(op.r2))),
        (_, true) => signed(c.g(op.r2) as i64),
        (_, false) => Number::integer(false, c.g(op.r2)),
    };
    let outcome = K::SHAPE.round(n, rules, None);
    deliver::<K>(c, op, outcome, false)
}

fn signed(value: i64) -> Number {
    Number::integer(value < 0, value.unsigned_abs())
}

/// CONVERT TO FIXED, CONVERT TO LOGICAL: the condition code tells of the operand.
fn to_integer<K: Kind>(c: &mut Cpu, op: &Op, to: Integer) -> Step {
    bfp_enabled(c)?;
    K::check(c, op.r2)?;
    let rules = modified(c, op, true)?;
    let bits = K::get(c, op.r2);
    let (outcome, special) = math::to_integer(K::SHAPE.unpack(bits), to, rules);
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
