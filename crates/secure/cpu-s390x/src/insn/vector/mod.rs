//! The vector facility (SA22-7832, chapters 21 to 24).
//!
//! A vector register is a `u128` whose leftmost byte is byte 0, as in storage.

use crate::cpu::Cpu;
use crate::op::{Op, Trap};
use cloister_arch::s390x::program;

/// `$body` with the element type `$T` that the mask `$m` selects; a specification exception for sizes that are not listed.
/// The sizes are b, h, f, g and q: byte to quadword; `u` or `i` says whether the elements are signed.
macro_rules! by_size {
    (@code b) => { 0 };
    (@code h) => { 1 };
    (@code f) => { 2 };
    (@code g) => { 3 };
    (@code q) => { 4 };
    (@type u b) => { u8 };
    (@type u h) => { u16 };
    (@type u f) => { u32 };
    (@type u g) => { u64 };
    (@type u q) => { u128 };
    (@type i b) => { i8 };
    (@type i h) => { i16 };
    (@type i f) => { i32 };
    (@type i g) => { i64 };
    ($c:ident, $m:expr, $sign:ident $($size:ident)+, $T:ident => $body:expr) => {
        match $m {
            $(by_size!(@code $size) => {
                type $T = by_size!(@type $sign $size);
                $body
            })+
            _ => return Err($crate::insn::vector::specification($c)),
        }
    };
}

/// V1 = `$e` of each element of V2; M3 is the size.
macro_rules! unary {
    ($($sizes:ident)+, |$a:ident| $e:expr) => {
        |c: &mut Cpu, op: &Op| -> Step {
            enabled(c)?;
            let a = c.v(op.r2);
            let value = by_size!(c, m32(op), $($sizes)+, T => map1::<T>(a, |$a: T| $e));
            c.set_v(op.r1, value);
            Ok(Flow::Next)
        }
    };
}

/// V1 = `$e` of each two elements of V2 and V3; M4 is the size.
macro_rules! binary {
    ($($sizes:ident)+, |$a:ident, $b:ident| $e:expr) => {
        |c: &mut Cpu, op: &Op| -> Step {
            enabled(c)?;
            let (a, b) = (c.v(op.r2), c.v(op.x));
            let value = by_size!(c, m32(op), $($sizes)+, T => map2::<T>(a, b, |$a: T, $b: T| $e));
            c.set_v(op.r1, value);
            Ok(Flow::Next)
        }
    };
}

/// V1 = `$e` of whole registers: V2, V3, V4.
macro_rules! whole {
    (|$a:ident, $b:ident| $e:expr) => {
        whole!(|$a, $b, _v4| $e)
    };
    (|$a:ident, $b:ident, $d:ident| $e:expr) => {
        |c: &mut Cpu, op: &Op| -> Step {
            enabled(c)?;
            let ($a, $b, $d) = (c.v(op.r2), c.v(op.x), c.v(op.b2));
            c.set_v(op.r1, $e);
            Ok(Flow::Next)
        }
    };
}

pub(super) mod bits;
pub(super) mod decimal;
pub(super) mod float;
pub(super) mod integer;
mod lane;
pub(super) mod load;
pub(super) mod multiply;
pub(super) mod shape;
pub(super) mod string;

/// AFP-register and vector-enablement controls, CR0 bits 45 and 46.
const ENABLED: u64 = 3 << 17;
/// Data-exception code of a vector instruction that is not enabled.
const DXC_VECTOR: u8 = 0xfe;

/// Every vector instruction needs both controls (SA22-7832, chapter 21, "Vector-Enablement Control").
#[inline(always)]
fn enabled(c: &mut Cpu) -> Result<(), Trap> {
    if c.crs[0] & ENABLED == ENABLED { Ok(()) } else { Err(not_enabled(c)) }
}

#[cold]
fn not_enabled(c: &mut Cpu) -> Trap {
    super::fp_move::data_exception(c, DXC_VECTOR)
}

#[cold]
fn specification(c: &mut Cpu) -> Trap {
    c.program(program::SPECIFICATION)
}

/// The specification exception of a field whose value is not allowed.
#[inline(always)]
fn require(c: &mut Cpu, allowed: bool) -> Result<(), Trap> {
    if allowed { Ok(()) } else { Err(specification(c)) }
}

/// The mask in bits 32-35 of the instruction.
#[inline(always)]
fn m32(op: &Op) -> u32 {
    op.aux & 15
}

/// The mask in bits 28-31.
#[inline(always)]
fn m28(op: &Op) -> u32 {
    op.aux >> 4 & 15
}

/// The mask in bits 24-27.
#[inline(always)]
fn m24(op: &Op) -> u32 {
    op.aux >> 8 & 15
}

/// The mask in bits 20-23.
#[inline(always)]
fn m20(op: &Op) -> u32 {
    op.aux >> 12 & 15
}
