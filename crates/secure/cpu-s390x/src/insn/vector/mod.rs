//! The vector facility (SA22-7832, chapters 21 to 24).
//!
//! A vector register is a `u128` whose leftmost byte is byte 0, as in storage.

use crate::cpu::Cpu;
use crate::op::{Op, Trap};

pub(super) mod decimal;
pub(super) mod float;
pub(super) mod integer;
pub(super) mod load;
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
