//! Comparisons, compare-and-branch, compare-and-trap, test under mask.

use super::fac::{EXTENDED_IMMEDIATE, GENERAL_EXTENSION, LONG_DISPLACEMENT, MISC_1, Z};
use super::fp_move::data_exception;
use super::{last, row, src};
use crate::cpu::Cpu;
use crate::op::{Entry, Flow, Format::*, Op, Step, Trap};

/// Compares `r1` (as `$t`) with the source.
macro_rules! cmp {
    ($get:ident, $t:ty, $s:path) => {
        |c: &mut Cpu, op: &Op| -> Step {
            let b = $s(c, op)? as $t;
            c.cc = order(c.$get(op.r1) as $t, b);
            Ok(Flow::Next)
        }
    };
}

/// Compares and branches relative: the third operand is a mask of orders.
macro_rules! branch {
    ($get:ident, $t:ty, $b:expr, $mask:ident, $go:expr) => {
        |c: &mut Cpu, op: &Op| -> Step {
            let b: $t = $b(c, op);
            let order = order(c.$get(op.r1) as $t, b);
            if selects($mask(op), order) {
                let go: fn(&mut Cpu, &Op) -> Flow = $go;
                return Ok(go(c, op));
            }
            Ok(Flow::Next)
        }
    };
}

/// Compares and traps (data exception, DXC 0xff).
macro_rules! trap {
    ($get:ident, $t:ty, $b:expr, $mask:ident) => {
        |c: &mut Cpu, op: &Op| -> Step {
            let b: $t = $b(c, op)?;
            if selects($mask(op), order(c.$get(op.r1) as $t, b)) {
                return Err(data_exception(c, 0xff));
            }
            Ok(Flow::Next)
        }
    };
}

/// Rows for comparisons.
pub(crate) const TABLE: &[Entry] = &[
    row(0x1900, "cr", RR, Z, cmp!(w, i32, src::r32)),
    row(0x5900, "c", RX, Z, cmp!(w, i32, src::m32)),
    row(0xe359, "cy", RXYa, LONG_DISPLACEMENT, cmp!(w, i32, src::m32)),
    row(0x4900, "ch", RX, Z, cmp!(w, i32, src::m16)),
    row(0xe379, "chy", RXYa, LONG_DISPLACEMENT, cmp!(w, i32, src::m16)),
    row(0xa70e, "chi", RIa, Z, cmp!(w, i32, src::i32)),
    row(0xc20d, "cfi", RILa, EXTENDED_IMMEDIATE, cmp!(w, i32, src::i32)),
    row(0xc60d, "crl", RILb, GENERAL_EXTENSION, cmp!(w, i32, src::rel32)),
    row(0xc605, "chrl", RILb, GENERAL_EXTENSION, |c, op| {
        let b = src::rel16(c, op)? as i16;
        c.cc = order(c.w(op.r1) as i32, i32::from(b));
        Ok(Flow::Next)
    }),
    row(0xb920, "cgr", RRE, Z, cmp!(g, i64, src::r64)),
    row(0xb930, "cgfr", RRE, Z, cmp!(g, i64, src::r32s)),
    row(0xe320, "cg", RXYa, Z, cmp!(g, i64, src::m64)),
    row(0xe330, "cgf", RXYa, Z, cmp!(g, i64, src::m32s)),
    row(0xe334, "cgh", RXYa, GENERAL_EXTENSION, cmp!(g, i64, src::m16s)),
    row(0xa70f, "cghi", RIa, Z, cmp!(g, i64, src::i64)),
    row(0xc20c, "cgfi", RILa, EXTENDED_IMMEDIATE, cmp!(g, i64, src::i64)),
    row(0xc608, "cgrl", RILb, GENERAL_EXTENSION, cmp!(g, i64, src::rel64)),
    row(0xc60c, "cgfrl", RILb, GENERAL_EXTENSION, cmp!(g, i64, src::rel32s)),
    row(0xc604, "cghrl", RILb, GENERAL_EXTENSION, |c, op| {
        let b = src::rel16(c, op)? as i16;
        c.cc = order(c.g(op.r1) as i64, i64::from(b));
        Ok(Flow::Next)
    }),
    row(0x1500, "clr", RR, Z, cmp!(w, u32, src::r32)),
    row(0x5500, "cl", RX, Z, cmp!(w, u32, src::m32)),
    row(0xe355, "cly", RXYa, LONG_DISPLACEMENT, cmp!(w, u32, src::m32)),
    row(0xc20f, "clfi", RILa, EXTENDED_IMMEDIATE, cmp!(w, u32, src::i32)),
    row(0xc60f, "clrl", RILb, GENERAL_EXTENSION, cmp!(w, u32, src::rel32)),
    row(0xc607, "clhrl", RILb, GENERAL_EXTENSION, |c, op| {
        let b = src::rel16(c, op)?;
        c.cc = order(c.w(op.r1), u32::from(b));
        Ok(Flow::Next)
    }),
    row(0xb921, "clgr", RRE, Z, cmp!(g, u64, src::r64)),
    row(0xb931, "clgfr", RRE, Z, cmp!(g, u64, src::r32z)),
    row(0xe321, "clg", RXYa, Z, cmp!(g, u64, src::m64)),
    row(0xe331, "clgf", RXYa, Z, cmp!(g, u64, src::m32z)),
    row(0xc20e, "clgfi", RILa, EXTENDED_IMMEDIATE, cmp!(g, u64, src::u32z)),
    row(0xc60a, "clgrl", RILb, GENERAL_EXTENSION, cmp!(g, u64, src::rel64)),
    row(0xc60e, "clgfrl", RILb, GENERAL_EXTENSION, cmp!(g, u64, src::rel32z)),
    row(0xc606, "clghrl", RILb, GENERAL_EXTENSION, |c, op| {
        let b = src::rel16(c, op)?;
        c.cc = order(c.g(op.r1), u64::from(b));
        Ok(Flow::Next)
    }),
    // Storage with immediate
    row(0x9500, "cli", SI, Z, cli),
    row(0xeb55, "cliy", SIY, LONG_DISPLACEMENT, cli),
    row(0xe554, "chhsi", SIL, GENERAL_EXTENSION, |c, op| {
        let addr = c.ea(op);
        c.cc = order(c.read_u16(addr)? as i16, op.aux as i16);
        Ok(Flow::Next)
    }),
    row(0xe555, "clhhsi", SIL, GENERAL_EXTENSION, |c, op| {
        let addr = c.ea(op);
        c.cc = order(c.read_u16(addr)?, op.aux as u16);
        Ok(Flow::Next)
    }),
    row(0xe55c, "chsi", SIL, GENERAL_EXTENSION, |c, op| {
        let addr = c.ea(op);
        c.cc = order(c.read_u32(addr)? as i32, i32::from(op.aux as i16));
        Ok(Flow::Next)
    }),
    row(0xe55d, "clfhsi", SIL, GENERAL_EXTENSION, |c, op| {
        let addr = c.ea(op);
        c.cc = order(c.read_u32(addr)?, op.aux);
        Ok(Flow::Next)
    }),
    row(0xe558, "cghsi", SIL, GENERAL_EXTENSION, |c, op| {
        let addr = c.ea(op);
        c.cc = order(c.read_u64(addr)? as i64, i64::from(op.aux as i16));
        Ok(Flow::Next)
    }),
    row(0xe559, "clghsi", SIL, GENERAL_EXTENSION, |c, op| {
        let addr = c.ea(op);
        c.cc = order(c.read_u64(addr)?, u64::from(op.aux));
        Ok(Flow::Next)
    }),
    // Characters under mask
    row(0xbd00, "clm", RSb, Z, |c, op| {
        let value = c.w(op.r1);
        clm(c, op, value)
    }),
    row(0xeb21, "clmy", RSYb, LONG_DISPLACEMENT, |c, op| {
        let value = c.w(op.r1);
        clm(c, op, value)
    }),
    row(0xeb20, "clmh", RSYb, Z, |c, op| {
        let value = (c.g(op.r1) >> 32) as u32;
        clm(c, op, value)
    }),
    // Compare and branch
    last(
        0xec76,
        "crj",
        RIEb,
        GENERAL_EXTENSION,
        branch!(w, i32, |c: &Cpu, op: &Op| c.w(op.r2) as i32, m_aux, Cpu::jump_relative),
    ),
    last(
        0xec77,
        "clrj",
        RIEb,
        GENERAL_EXTENSION,
        branch!(w, u32, |c: &Cpu, op: &Op| c.w(op.r2), m_aux, Cpu::jump_relative),
    ),
    last(
        0xec64,
        "cgrj",
        RIEb,
        GENERAL_EXTENSION,
        branch!(g, i64, |c: &Cpu, op: &Op| c.g(op.r2) as i64, m_aux, Cpu::jump_relative),
    ),
    last(
        0xec65,
        "clgrj",
        RIEb,
        GENERAL_EXTENSION,
        branch!(g, u64, |c: &Cpu, op: &Op| c.g(op.r2), m_aux, Cpu::jump_relative),
    ),
    last(
        0xec7e,
        "cij",
        RIEc,
        GENERAL_EXTENSION,
        branch!(w, i32, |_: &Cpu, op: &Op| i32::from(op.aux as i8), m_x, Cpu::jump_relative),
    ),
    last(
        0xec7f,
        "clij",
        RIEc,
        GENERAL_EXTENSION,
        branch!(w, u32, |_: &Cpu, op: &Op| op.aux, m_x, Cpu::jump_relative),
    ),
    last(
        0xec7c,
        "cgij",
        RIEc,
        GENERAL_EXTENSION,
        branch!(g, i64, |_: &Cpu, op: &Op| i64::from(op.aux as i8), m_x, Cpu::jump_relative),
    ),
    last(
        0xec7d,
        "clgij",
        RIEc,
        GENERAL_EXTENSION,
        branch!(g, u64, |_: &Cpu, op: &Op| u64::from(op.aux), m_x, Cpu::jump_relative),
    ),
    last(
        0xecf6,
        "crb",
        RRS,
        GENERAL_EXTENSION,
        branch!(w, i32, |c: &Cpu, op: &Op| c.w(op.r2) as i32, m_aux, jump_ea),
    ),
    last(
        0xecf7,
        "clrb",
        RRS,
        GENERAL_EXTENSION,
        branch!(w, u32, |c: &Cpu, op: &Op| c.w(op.r2), m_aux, jump_ea),
    ),
    last(
        0xece4,
        "cgrb",
        RRS,
        GENERAL_EXTENSION,
        branch!(g, i64, |c: &Cpu, op: &Op| c.g(op.r2) as i64, m_aux, jump_ea),
    ),
    last(
        0xece5,
        "clgrb",
        RRS,
        GENERAL_EXTENSION,
        branch!(g, u64, |c: &Cpu, op: &Op| c.g(op.r2), m_aux, jump_ea),
    ),
    last(
        0xecfe,
        "cib",
        RIS,
        GENERAL_EXTENSION,
        branch!(w, i32, |_: &Cpu, op: &Op| i32::from(op.aux as i8), m_r2, jump_ea),
    ),
    last(0xecff, "clib", RIS, GENERAL_EXTENSION, branch!(w, u32, |_: &Cpu, op: &Op| op.aux, m_r2, jump_ea)),
    last(
        0xecfc,
        "cgib",
        RIS,
        GENERAL_EXTENSION,
        branch!(g, i64, |_: &Cpu, op: &Op| i64::from(op.aux as i8), m_r2, jump_ea),
    ),
    last(
        0xecfd,
        "clgib",
        RIS,
        GENERAL_EXTENSION,
        branch!(g, u64, |_: &Cpu, op: &Op| u64::from(op.aux), m_r2, jump_ea),
    ),
    // Compare and trap
    row(0xb972, "crt", RRFc, GENERAL_EXTENSION, trap!(w, i32, |c: &Cpu, op: &Op| ok(c.w(op.r2) as i32), m_x)),
    row(0xb973, "clrt", RRFc, GENERAL_EXTENSION, trap!(w, u32, |c: &Cpu, op: &Op| ok(c.w(op.r2)), m_x)),
    row(
        0xb960,
        "cgrt",
        RRFc,
        GENERAL_EXTENSION,
        trap!(g, i64, |c: &Cpu, op: &Op| ok(c.g(op.r2) as i64), m_x),
    ),
    row(0xb961, "clgrt", RRFc, GENERAL_EXTENSION, trap!(g, u64, |c: &Cpu, op: &Op| ok(c.g(op.r2)), m_x)),
    row(0xec72, "cit", RIEa, GENERAL_EXTENSION, trap!(w, i32, |_: &Cpu, op: &Op| ok(op.imm as i32), m_aux)),
    row(
        0xec73,
        "clfit",
        RIEa,
        GENERAL_EXTENSION,
        trap!(w, u32, |_: &Cpu, op: &Op| ok(u32::from(op.imm as u16)), m_aux),
    ),
    row(0xec70, "cgit", RIEa, GENERAL_EXTENSION, trap!(g, i64, |_: &Cpu, op: &Op| ok(op.imm), m_aux)),
    row(
        0xec71,
        "clgit",
        RIEa,
        GENERAL_EXTENSION,
        trap!(g, u64, |_: &Cpu, op: &Op| ok(u64::from(op.imm as u16)), m_aux),
    ),
    row(
        0xeb23,
        "clt",
        RSYb,
        MISC_1,
        trap!(
            w,
            u32,
            |c: &mut Cpu, op: &Op| {
                let addr = y_addr(c, op);
                c.read_u32(addr)
            },
            m_r2
        ),
    ),
    row(
        0xeb2b,
        "clgt",
        RSYb,
        MISC_1,
        trap!(
            g,
            u64,
            |c: &mut Cpu, op: &Op| {
                let addr = y_addr(c, op);
                c.read_u64(addr)
            },
            m_r2
        ),
    ),
    // Test under mask
    row(0x9100, "tm", SI, Z, tm),
    row(0xeb51, "tmy", SIY, LONG_DISPLACEMENT, tm),
    row(0xa702, "tmhh", RIa, Z, |c, op| tm16(c, op, 48)),
    row(0xa703, "tmhl", RIa, Z, |c, op| tm16(c, op, 32)),
    row(0xa700, "tmlh", RIa, Z, |c, op| tm16(c, op, 16)),
    row(0xa701, "tmll", RIa, Z, |c, op| tm16(c, op, 0)),
];

/// Condition code of a comparison: 0 equal, 1 first low, 2 first high.
#[inline(always)]
pub(super) fn order<T: PartialOrd>(a: T, b: T) -> u8 {
    u8::from(a < b) | u8::from(a > b) << 1
}

/// Whether a 4-bit mask selects condition code `cc`.
#[inline(always)]
pub(super) fn selects(mask: u8, cc: u8) -> bool {
    mask & (8 >> cc) != 0
}

#[inline(always)]
fn m_aux(op: &Op) -> u8 {
    op.aux as u8
}

#[inline(always)]
fn m_x(op: &Op) -> u8 {
    op.x
}

#[inline(always)]
fn m_r2(op: &Op) -> u8 {
    op.r2
}

#[inline(always)]
fn ok<T>(value: T) -> Result<T, Trap> {
    Ok(value)
}

/// Base and displacement only (RSY, RRS and RIS have no index; `x` may hold a mask).
#[inline(always)]
fn y_addr(c: &Cpu, op: &Op) -> u64 {
    c.base(op.b).wrapping_add_signed(op.imm) & c.addr_mask
}

fn jump_ea(c: &mut Cpu, op: &Op) -> Flow {
    let target = y_addr(c, op);
    c.jump(target)
}

#[inline(always)]
fn cli(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    c.cc = order(c.read_u8(addr)?, op.aux as u8);
    Ok(Flow::Next)
}

#[inline(always)]
fn tm(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    let (mask, value) = (op.aux as u8, c.read_u8(addr)?);
    let selected = value & mask;
    c.cc = if selected == 0 {
        0
    } else if selected == mask {
        3
    } else {
        1
    };
    Ok(Flow::Next)
}

#[inline(always)]
fn tm16(c: &mut Cpu, op: &Op, shift: u32) -> Step {
    let mask = op.imm as u16;
    let selected = (c.g(op.r1) >> shift) as u16 & mask;
    c.cc = if selected == 0 {
        0
    } else if selected == mask {
        3
    } else if selected.leading_zeros() == mask.leading_zeros() {
        2
    } else {
        1
    };
    Ok(Flow::Next)
}

/// Compares the bytes of `value` that the mask selects with as many bytes of storage.
fn clm(c: &mut Cpu, op: &Op, value: u32) -> Step {
    let addr = y_addr(c, op);
    let count = op.r2.count_ones() as usize;
    let mut storage = [0; 4];
    if count == 0 {
        // An access exception is still recognized for one byte.
        c.read_u8(addr)?;
    } else {
        c.read_bytes(addr, &mut storage[..count])?;
    }
    let mut register = [0; 4];
    let mut n = 0;
    for (i, byte) in value.to_be_bytes().into_iter().enumerate() {
        if op.r2 & (8 >> i) != 0 {
            register[n] = byte;
            n += 1;
        }
    }
    c.cc = order(&register[..count], &storage[..count]);
    Ok(Flow::Next)
}
