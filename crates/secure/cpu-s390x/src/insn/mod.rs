//! General and floating-point instructions, one table row each.
//!
//! Privileged, interruption-related and I/O instructions stand in `control`.

use crate::op::{Entry, Exec, Format};

mod arith;
mod atomic;
mod bfp;
mod bfp_exact;
mod bfp_host;
#[cfg(test)]
mod bfp_host_tests;
mod bfp_math;
#[cfg(test)]
mod bfp_tests;
mod bits;
mod branch;
mod compare;
mod convert;
#[cfg(test)]
mod coverage;
mod decimal;
mod fp_move;
mod guarded;
mod high_word;
mod load;
mod msa;
mod plo;
pub(crate) mod storage;
mod unicode;
mod vector;

/// The tables of this module, in no particular order.
pub(crate) const TABLES: &[&[Entry]] = &[
    arith::TABLE,
    atomic::TABLE,
    bfp::TABLE,
    bits::TABLE,
    branch::TABLE,
    compare::TABLE,
    convert::TABLE,
    decimal::TABLE,
    fp_move::TABLE,
    guarded::TABLE,
    high_word::TABLE,
    load::TABLE,
    msa::TABLE,
    plo::TABLE,
    storage::TABLE,
    unicode::TABLE,
    vector::bits::TABLE,
    vector::decimal::TABLE,
    vector::float::TABLE,
    vector::integer::TABLE,
    vector::load::TABLE,
    vector::multiply::TABLE,
    vector::shape::TABLE,
    vector::string::TABLE,
];

/// Facilities that instructions depend on.
pub(crate) mod fac {
    pub(crate) const Z: u16 = 0;
    pub(crate) const LONG_DISPLACEMENT: u16 = 18;
    pub(crate) const EXTENDED_IMMEDIATE: u16 = 21;
    pub(crate) const EXTENDED_TRANSLATION_3: u16 = 22;
    pub(crate) const PARSING_ENHANCEMENT: u16 = 26;
    pub(crate) const GENERAL_EXTENSION: u16 = 34;
    pub(crate) const FP_EXTENSION: u16 = 37;
    pub(crate) const FP_SUPPORT: u16 = 41;
    pub(crate) const DISTINCT_OPERANDS: u16 = 45;
    pub(crate) const MISC_1: u16 = 49;
    pub(crate) const LOAD_ON_CONDITION_2: u16 = 53;
    pub(crate) const MISC_2: u16 = 58;
    pub(crate) const MISC_3: u16 = 61;
    pub(crate) const VECTOR: u16 = 129;
    pub(crate) const VECTOR_ENHANCEMENTS_1: u16 = 135;
    pub(crate) const VECTOR_ENHANCEMENTS_2: u16 = 148;
    pub(crate) const VECTOR_PACKED_DECIMAL: u16 = 134;
    pub(crate) const VECTOR_PACKED_DECIMAL_ENHANCEMENT: u16 = 152;
}

/// An ordinary row.
pub(crate) const fn row(
    code: u16,
    mnemonic: &'static str,
    format: Format,
    facility: u16,
    exec: Exec,
) -> Entry {
    Entry { code, mnemonic, format, facility, privileged: false, ends_block: false, exec }
}

/// A row whose instruction ends the block.
pub(crate) const fn last(
    code: u16,
    mnemonic: &'static str,
    format: Format,
    facility: u16,
    exec: Exec,
) -> Entry {
    Entry { code, mnemonic, format, facility, privileged: false, ends_block: true, exec }
}

/// Second operands, by where they come from.
mod src {
    use crate::cpu::Cpu;
    use crate::op::{Op, Trap};

    /// R2, 32 bits.
    #[inline(always)]
    pub(super) fn r32(c: &mut Cpu, op: &Op) -> Result<u32, Trap> {
        Ok(c.w(op.r2))
    }

    /// R2, 64 bits.
    #[inline(always)]
    pub(super) fn r64(c: &mut Cpu, op: &Op) -> Result<u64, Trap> {
        Ok(c.g(op.r2))
    }

    /// R2, low 32 bits sign-extended.
    #[inline(always)]
    pub(super) fn r32s(c: &mut Cpu, op: &Op) -> Result<u64, Trap> {
        Ok(c.w(op.r2) as i32 as u64)
    }

    /// R2, low 32 bits zero-extended.
    #[inline(always)]
    pub(super) fn r32z(c: &mut Cpu, op: &Op) -> Result<u64, Trap> {
        Ok(u64::from(c.w(op.r2)))
    }

    /// R3 of a distinct-operands form (in `x`), 32 bits.
    #[inline(always)]
    pub(super) fn k32(c: &mut Cpu, op: &Op) -> Result<u32, Trap> {
        Ok(c.w(op.x))
    }

    /// R3 of a distinct-operands form, 64 bits.
    #[inline(always)]
    pub(super) fn k64(c: &mut Cpu, op: &Op) -> Result<u64, Trap> {
        Ok(c.g(op.x))
    }

    /// Immediate, 32 bits.
    #[inline(always)]
    pub(super) fn i32(_: &mut Cpu, op: &Op) -> Result<u32, Trap> {
        Ok(op.imm as u32)
    }

    /// Immediate, sign-extended to 64 bits.
    #[inline(always)]
    pub(super) fn i64(_: &mut Cpu, op: &Op) -> Result<u64, Trap> {
        Ok(op.imm as u64)
    }

    /// 32-bit immediate, zero-extended to 64 bits.
    #[inline(always)]
    pub(super) fn u32z(_: &mut Cpu, op: &Op) -> Result<u64, Trap> {
        Ok(u64::from(op.imm as u32))
    }

    /// Storage word.
    #[inline(always)]
    pub(super) fn m32(c: &mut Cpu, op: &Op) -> Result<u32, Trap> {
        let addr = c.ea(op);
        c.read_u32(addr)
    }

    /// Storage doubleword.
    #[inline(always)]
    pub(super) fn m64(c: &mut Cpu, op: &Op) -> Result<u64, Trap> {
        let addr = c.ea(op);
        c.read_u64(addr)
    }

    /// Storage halfword, sign-extended to 32 bits.
    #[inline(always)]
    pub(super) fn m16(c: &mut Cpu, op: &Op) -> Result<u32, Trap> {
        let addr = c.ea(op);
        Ok(c.read_u16(addr)? as i16 as u32)
    }

    /// Storage halfword, sign-extended to 64 bits.
    #[inline(always)]
    pub(super) fn m16s(c: &mut Cpu, op: &Op) -> Result<u64, Trap> {
        let addr = c.ea(op);
        Ok(c.read_u16(addr)? as i16 as u64)
    }

    /// Storage word, sign-extended to 64 bits.
    #[inline(always)]
    pub(super) fn m32s(c: &mut Cpu, op: &Op) -> Result<u64, Trap> {
        let addr = c.ea(op);
        Ok(c.read_u32(addr)? as i32 as u64)
    }

    /// Storage word, zero-extended to 64 bits.
    #[inline(always)]
    pub(super) fn m32z(c: &mut Cpu, op: &Op) -> Result<u64, Trap> {
        let addr = c.ea(op);
        Ok(u64::from(c.read_u32(addr)?))
    }

    /// Relative-long operand: word, doubleword, halfword.
    #[inline(always)]
    pub(super) fn rel(c: &mut Cpu, op: &Op) -> u64 {
        c.here(op).wrapping_add_signed(op.imm) & c.addr_mask
    }

    /// Word at a relative address (must be aligned).
    #[inline(always)]
    pub(super) fn rel32(c: &mut Cpu, op: &Op) -> Result<u32, Trap> {
        let addr = rel(c, op);
        if addr & 3 != 0 {
            return Err(c.program(cloister_arch::s390x::program::SPECIFICATION));
        }
        c.read_u32(addr)
    }

    /// Word at a relative address, sign-extended.
    #[inline(always)]
    pub(super) fn rel32s(c: &mut Cpu, op: &Op) -> Result<u64, Trap> {
        Ok(rel32(c, op)? as i32 as u64)
    }

    /// Word at a relative address, zero-extended.
    #[inline(always)]
    pub(super) fn rel32z(c: &mut Cpu, op: &Op) -> Result<u64, Trap> {
        Ok(u64::from(rel32(c, op)?))
    }

    /// Doubleword at a relative address (must be aligned).
    #[inline(always)]
    pub(super) fn rel64(c: &mut Cpu, op: &Op) -> Result<u64, Trap> {
        let addr = rel(c, op);
        if addr & 7 != 0 {
            return Err(c.program(cloister_arch::s390x::program::SPECIFICATION));
        }
        c.read_u64(addr)
    }

    /// Halfword at a relative address.
    #[inline(always)]
    pub(super) fn rel16(c: &mut Cpu, op: &Op) -> Result<u16, Trap> {
        let addr = rel(c, op);
        c.read_u16(addr)
    }
}
