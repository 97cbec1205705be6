//! Loads, stores and moves between registers and storage.

use super::compare::selects;
use super::fac::{
    DISTINCT_OPERANDS, EXTENDED_IMMEDIATE, GENERAL_EXTENSION, LOAD_ON_CONDITION_2, LONG_DISPLACEMENT, MISC_1,
    MISC_3, Z,
};
use super::fp_move::data_exception;
use super::src::rel as relative;
use super::{row, src};
use crate::cpu::Cpu;
use crate::op::{Entry, Flow, Format::*, Op, Step, Trap};
use cloister_arch::s390x::program;

/// `r1(64) = value`.
macro_rules! g {
    ($e:expr) => {
        |c: &mut Cpu, op: &Op| -> Step {
            let f: fn(&mut Cpu, &Op) -> Result<u64, Trap> = $e;
            let value = f(c, op)?;
            c.set_g(op.r1, value);
            Ok(Flow::Next)
        }
    };
}

/// `r1(32) = value`.
macro_rules! w {
    ($e:expr) => {
        |c: &mut Cpu, op: &Op| -> Step {
            let f: fn(&mut Cpu, &Op) -> Result<u32, Trap> = $e;
            let value = f(c, op)?;
            c.set_w(op.r1, value);
            Ok(Flow::Next)
        }
    };
}

/// Stores to the second-operand address.
macro_rules! st {
    ($write:ident, $e:expr) => {
        |c: &mut Cpu, op: &Op| -> Step {
            let addr = c.ea(op);
            let f: fn(&Cpu, &Op) -> _ = $e;
            let value = f(c, op);
            c.$write(addr, value)?;
            Ok(c.stored())
        }
    };
}

/// Only if the condition code is selected by M3 (in `$m`).
macro_rules! when {
    ($m:ident, $body:expr) => {
        |c: &mut Cpu, op: &Op| -> Step {
            if !selects(op.$m, c.cc) {
                return Ok(Flow::Next);
            }
            let f: fn(&mut Cpu, &Op) -> Step = $body;
            f(c, op)
        }
    };
}

/// Rows for loads and stores.
pub(crate) const TABLE: &[Entry] = &[
    row(0x1800, "lr", RR, Z, w!(|c, op| Ok(c.w(op.r2)))),
    row(0x5800, "l", RX, Z, |c, op| {
        let value = src::m32(c, op)?;
        c.set_w(op.r1, value);
        Ok(Flow::Next)
    }),
    row(0xe358, "ly", RXYa, LONG_DISPLACEMENT, |c, op| {
        let value = src::m32(c, op)?;
        c.set_w(op.r1, value);
        Ok(Flow::Next)
    }),
    row(0xb904, "lgr", RRE, Z, |c, op| {
        c.set_g(op.r1, c.g(op.r2));
        Ok(Flow::Next)
    }),
    row(0xe304, "lg", RXYa, Z, |c, op| {
        let value = src::m64(c, op)?;
        c.set_g(op.r1, value);
        Ok(Flow::Next)
    }),
    row(0xb914, "lgfr", RRE, Z, g!(|c, op| Ok(c.w(op.r2) as i32 as u64))),
    row(0xe314, "lgf", RXYa, Z, g!(src::m32s)),
    row(0xe315, "lgh", RXYa, Z, g!(src::m16s)),
    row(0x4800, "lh", RX, Z, w!(src::m16)),
    row(0xe378, "lhy", RXYa, LONG_DISPLACEMENT, w!(src::m16)),
    row(0xa708, "lhi", RIa, Z, w!(src::i32)),
    row(0xa709, "lghi", RIa, Z, g!(src::i64)),
    row(0xc001, "lgfi", RILa, EXTENDED_IMMEDIATE, g!(src::i64)),
    row(0xb926, "lbr", RRE, EXTENDED_IMMEDIATE, w!(|c, op| Ok(c.w(op.r2) as i8 as u32))),
    row(0xb927, "lhr", RRE, EXTENDED_IMMEDIATE, w!(|c, op| Ok(c.w(op.r2) as i16 as u32))),
    row(0xb906, "lgbr", RRE, EXTENDED_IMMEDIATE, g!(|c, op| Ok(c.w(op.r2) as i8 as u64))),
    row(0xb907, "lghr", RRE, EXTENDED_IMMEDIATE, g!(|c, op| Ok(c.w(op.r2) as i16 as u64))),
    row(0xe376, "lb", RXYa, LONG_DISPLACEMENT, w!(|c, op| Ok(m8(c, op)? as i8 as u32))),
    row(0xe377, "lgb", RXYa, LONG_DISPLACEMENT, g!(|c, op| Ok(m8(c, op)? as i8 as u64))),
    row(0xb916, "llgfr", RRE, Z, g!(src::r32z)),
    row(0xe316, "llgf", RXYa, Z, g!(src::m32z)),
    row(0xb984, "llgcr", RRE, EXTENDED_IMMEDIATE, g!(|c, op| Ok(c.g(op.r2) & 0xff))),
    row(0xb985, "llghr", RRE, EXTENDED_IMMEDIATE, g!(|c, op| Ok(c.g(op.r2) & 0xffff))),
    row(0xb994, "llcr", RRE, EXTENDED_IMMEDIATE, w!(|c, op| Ok(c.w(op.r2) & 0xff))),
    row(0xb995, "llhr", RRE, EXTENDED_IMMEDIATE, w!(|c, op| Ok(c.w(op.r2) & 0xffff))),
    row(0xe390, "llgc", RXYa, Z, g!(|c, op| Ok(u64::from(m8(c, op)?)))),
    row(0xe391, "llgh", RXYa, Z, g!(|c, op| Ok(u64::from(m16(c, op)?)))),
    row(0xe394, "llc", RXYa, EXTENDED_IMMEDIATE, w!(|c, op| Ok(u32::from(m8(c, op)?)))),
    row(0xe395, "llh", RXYa, EXTENDED_IMMEDIATE, w!(|c, op| Ok(u32::from(m16(c, op)?)))),
    row(0xb917, "llgtr", RRE, Z, g!(|c, op| Ok(c.g(op.r2) & 0x7fff_ffff))),
    row(0xe317, "llgt", RXYa, Z, g!(|c, op| Ok(src::m32z(c, op)? & 0x7fff_ffff))),
    row(0xe33a, "llzrgf", RXYa, LOAD_ON_CONDITION_2, g!(|c, op| Ok(src::m32z(c, op)? & !0xff))),
    row(0xe33b, "lzrf", RXYa, LOAD_ON_CONDITION_2, w!(|c, op| Ok(src::m32(c, op)? & !0xff))),
    row(0xe32a, "lzrg", RXYa, LOAD_ON_CONDITION_2, g!(|c, op| Ok(src::m64(c, op)? & !0xff))),
    // Load and trap
    row(0xe39f, "lat", RXYa, MISC_1, |c, op| {
        let value = src::m32(c, op)?;
        c.set_w(op.r1, value);
        trap_if(c, value == 0)
    }),
    row(0xe385, "lgat", RXYa, MISC_1, |c, op| {
        let value = src::m64(c, op)?;
        c.set_g(op.r1, value);
        trap_if(c, value == 0)
    }),
    row(0xe39d, "llgfat", RXYa, MISC_1, |c, op| {
        let value = src::m32z(c, op)?;
        c.set_g(op.r1, value);
        trap_if(c, value == 0)
    }),
    row(0xe39c, "llgtat", RXYa, MISC_1, |c, op| {
        let value = src::m32z(c, op)? & 0x7fff_ffff;
        c.set_g(op.r1, value);
        trap_if(c, value == 0)
    }),
    // Logical immediates
    row(0xa50c, "llihh", RIa, Z, g!(|_, op| Ok(u64::from(op.imm as u16) << 48))),
    row(0xa50d, "llihl", RIa, Z, g!(|_, op| Ok(u64::from(op.imm as u16) << 32))),
    row(0xa50e, "llilh", RIa, Z, g!(|_, op| Ok(u64::from(op.imm as u16) << 16))),
    row(0xa50f, "llill", RIa, Z, g!(|_, op| Ok(u64::from(op.imm as u16)))),
    row(0xc00e, "llihf", RILa, EXTENDED_IMMEDIATE, g!(|_, op| Ok(u64::from(op.imm as u32) << 32))),
    row(0xc00f, "llilf", RILa, EXTENDED_IMMEDIATE, g!(|_, op| Ok(u64::from(op.imm as u32)))),
    row(0xa500, "iihh", RIa, Z, |c, op| insert(c, op, 48, 0xffff)),
    row(0xa501, "iihl", RIa, Z, |c, op| insert(c, op, 32, 0xffff)),
    row(0xa502, "iilh", RIa, Z, |c, op| insert(c, op, 16, 0xffff)),
    row(0xa503, "iill", RIa, Z, |c, op| insert(c, op, 0, 0xffff)),
    row(0xc008, "iihf", RILa, EXTENDED_IMMEDIATE, |c, op| insert(c, op, 32, 0xffff_ffff)),
    row(0xc009, "iilf", RILa, EXTENDED_IMMEDIATE, |c, op| insert(c, op, 0, 0xffff_ffff)),
    // Addresses
    row(0x4100, "la", RX, Z, la),
    row(0xe371, "lay", RXYa, LONG_DISPLACEMENT, la),
    row(0xc000, "larl", RILb, Z, |c, op| {
        let addr = relative(c, op);
        set_address(c, op.r1, addr);
        Ok(Flow::Next)
    }),
    // Reversed
    row(0xb91f, "lrvr", RRE, Z, w!(|c, op| Ok(c.w(op.r2).swap_bytes()))),
    row(0xb90f, "lrvgr", RRE, Z, g!(|c, op| Ok(c.g(op.r2).swap_bytes()))),
    row(0xe31e, "lrv", RXYa, Z, w!(|c, op| Ok(src::m32(c, op)?.swap_bytes()))),
    row(0xe30f, "lrvg", RXYa, Z, g!(|c, op| Ok(src::m64(c, op)?.swap_bytes()))),
    row(0xe31f, "lrvh", RXYa, Z, |c, op| {
        let value = m16(c, op)?.swap_bytes();
        let old = c.w(op.r1) & 0xffff_0000;
        c.set_w(op.r1, old | u32::from(value));
        Ok(Flow::Next)
    }),
    row(0xe33e, "strv", RXYa, Z, st!(write_u32, |c, op| c.w(op.r1).swap_bytes())),
    row(0xe32f, "strvg", RXYa, Z, st!(write_u64, |c, op| c.g(op.r1).swap_bytes())),
    row(0xe33f, "strvh", RXYa, Z, st!(write_u16, |c, op| (c.w(op.r1) as u16).swap_bytes())),
    // Characters
    row(0x4300, "ic", RX, Z, ic),
    row(0xe373, "icy", RXYa, LONG_DISPLACEMENT, ic),
    row(0x4200, "stc", RX, Z, st!(write_u8, |c, op| c.w(op.r1) as u8)),
    row(0xe372, "stcy", RXYa, LONG_DISPLACEMENT, st!(write_u8, |c, op| c.w(op.r1) as u8)),
    row(0xbf00, "icm", RSb, Z, |c, op| icm(c, op, 0)),
    row(0xeb81, "icmy", RSYb, LONG_DISPLACEMENT, |c, op| icm(c, op, 0)),
    row(0xeb80, "icmh", RSYb, Z, |c, op| icm(c, op, 32)),
    row(0xbe00, "stcm", RSb, Z, |c, op| stcm(c, op, 0)),
    row(0xeb2d, "stcmy", RSYb, LONG_DISPLACEMENT, |c, op| stcm(c, op, 0)),
    row(0xeb2c, "stcmh", RSYb, Z, |c, op| stcm(c, op, 32)),
    // Stores
    row(0x5000, "st", RX, Z, st!(write_u32, |c, op| c.w(op.r1))),
    row(0xe350, "sty", RXYa, LONG_DISPLACEMENT, st!(write_u32, |c, op| c.w(op.r1))),
    row(0xe324, "stg", RXYa, Z, |c, op| {
        let addr = c.ea(op);
        c.write_u64(addr, c.g(op.r1))?;
        Ok(c.stored())
    }),
    row(0x4000, "sth", RX, Z, st!(write_u16, |c, op| c.w(op.r1) as u16)),
    row(0xe370, "sthy", RXYa, LONG_DISPLACEMENT, st!(write_u16, |c, op| c.w(op.r1) as u16)),
    row(0x9200, "mvi", SI, Z, st!(write_u8, |_, op| op.aux as u8)),
    row(0xeb52, "mviy", SIY, LONG_DISPLACEMENT, st!(write_u8, |_, op| op.aux as u8)),
    row(0xe544, "mvhhi", SIL, GENERAL_EXTENSION, st!(write_u16, |_, op| op.aux as u16)),
    row(0xe54c, "mvhi", SIL, GENERAL_EXTENSION, st!(write_u32, |_, op| op.aux as i16 as u32)),
    row(0xe548, "mvghi", SIL, GENERAL_EXTENSION, st!(write_u64, |_, op| op.aux as i16 as u64)),
    // Relative long
    row(0xc40d, "lrl", RILb, GENERAL_EXTENSION, w!(src::rel32)),
    row(0xc408, "lgrl", RILb, GENERAL_EXTENSION, g!(src::rel64)),
    row(0xc40c, "lgfrl", RILb, GENERAL_EXTENSION, g!(src::rel32s)),
    row(0xc40e, "llgfrl", RILb, GENERAL_EXTENSION, g!(src::rel32z)),
    row(0xc405, "lhrl", RILb, GENERAL_EXTENSION, w!(|c, op| Ok(src::rel16(c, op)? as i16 as u32))),
    row(0xc404, "lghrl", RILb, GENERAL_EXTENSION, g!(|c, op| Ok(src::rel16(c, op)? as i16 as u64))),
    row(0xc402, "llhrl", RILb, GENERAL_EXTENSION, w!(|c, op| Ok(u32::from(src::rel16(c, op)?)))),
    row(0xc406, "llghrl", RILb, GENERAL_EXTENSION, g!(|c, op| Ok(u64::from(src::rel16(c, op)?)))),
    row(0xc40f, "strl", RILb, GENERAL_EXTENSION, |c, op| {
        let addr = aligned(c, op, 3)?;
        c.write_u32(addr, c.w(op.r1))?;
        Ok(c.stored())
    }),
    row(0xc40b, "stgrl", RILb, GENERAL_EXTENSION, |c, op| {
        let addr = aligned(c, op, 7)?;
        c.write_u64(addr, c.g(op.r1))?;
        Ok(c.stored())
    }),
    row(0xc407, "sthrl", RILb, GENERAL_EXTENSION, |c, op| {
        let addr = aligned(c, op, 1)?;
        c.write_u16(addr, c.w(op.r1) as u16)?;
        Ok(c.stored())
    }),
    // On condition
    row(0xb9f2, "locr", RRFc, DISTINCT_OPERANDS, when!(x, w!(src::r32))),
    row(0xb9e2, "locgr", RRFc, DISTINCT_OPERANDS, when!(x, g!(src::r64))),
    row(0xebf2, "loc", RSYb, DISTINCT_OPERANDS, when!(r2, w!(src::m32))),
    row(0xebe2, "locg", RSYb, DISTINCT_OPERANDS, when!(r2, g!(src::m64))),
    row(0xebf3, "stoc", RSYb, DISTINCT_OPERANDS, when!(r2, st!(write_u32, |c, op| c.w(op.r1)))),
    row(0xebe3, "stocg", RSYb, DISTINCT_OPERANDS, when!(r2, st!(write_u64, |c, op| c.g(op.r1)))),
    row(0xec42, "lochi", RIEg, LOAD_ON_CONDITION_2, when!(r2, w!(src::i32))),
    row(0xec46, "locghi", RIEg, LOAD_ON_CONDITION_2, when!(r2, g!(src::i64))),
    row(0xec4e, "lochhi", RIEg, LOAD_ON_CONDITION_2, when!(r2, |c, op| insert(c, op, 32, 0xffff_ffff))),
    row(
        0xb9e0,
        "locfhr",
        RRFc,
        LOAD_ON_CONDITION_2,
        when!(x, |c, op| {
            let value = c.g(op.r2) & 0xffff_ffff_0000_0000 | u64::from(c.w(op.r1));
            c.set_g(op.r1, value);
            Ok(Flow::Next)
        }),
    ),
    row(
        0xebe0,
        "locfh",
        RSYb,
        LOAD_ON_CONDITION_2,
        when!(r2, |c, op| {
            let value = u64::from(src::m32(c, op)?) << 32 | u64::from(c.w(op.r1));
            c.set_g(op.r1, value);
            Ok(Flow::Next)
        }),
    ),
    row(
        0xebe1,
        "stocfh",
        RSYb,
        LOAD_ON_CONDITION_2,
        when!(r2, st!(write_u32, |c, op| (c.g(op.r1) >> 32) as u32)),
    ),
    row(0xb9f0, "selr", RRFa, MISC_3, |c, op| {
        let value = if selects(op.aux as u8, c.cc) { c.w(op.r2) } else { c.w(op.x) };
        c.set_w(op.r1, value);
        Ok(Flow::Next)
    }),
    row(0xb9e3, "selgr", RRFa, MISC_3, |c, op| {
        let value = if selects(op.aux as u8, c.cc) { c.g(op.r2) } else { c.g(op.x) };
        c.set_g(op.r1, value);
        Ok(Flow::Next)
    }),
    row(0xb9c0, "selfhr", RRFa, MISC_3, |c, op| {
        let value = if selects(op.aux as u8, c.cc) { c.g(op.r2) } else { c.g(op.x) };
        c.set_g(op.r1, value & 0xffff_ffff_0000_0000 | u64::from(c.w(op.r1)));
        Ok(Flow::Next)
    }),
    // Multiple
    row(0x9800, "lm", RSa, Z, lm),
    row(0xeb98, "lmy", RSYa, LONG_DISPLACEMENT, lm),
    row(0xeb04, "lmg", RSYa, Z, lmg),
    row(0xeb96, "lmh", RSYa, Z, |c, op| {
        let (addr, n) = (address(c, op), count(op));
        let mut bytes = [0; 64];
        c.read_bytes(addr, &mut bytes[..n * 4])?;
        for i in 0..n {
            let r = op.r1.wrapping_add(i as u8) & 15;
            let value = u64::from(word(&bytes, i)) << 32 | u64::from(c.w(r));
            c.set_g(r, value);
        }
        Ok(Flow::Next)
    }),
    row(0xef00, "lmd", SSe, Z, |c, op| {
        let n = count(op);
        let high = address(c, op);
        let low = c.base(op.b2).wrapping_add(u64::from(op.aux & 0xfff)) & c.addr_mask;
        let (mut h, mut l) = ([0; 64], [0; 64]);
        c.read_bytes(high, &mut h[..n * 4])?;
        c.read_bytes(low, &mut l[..n * 4])?;
        for i in 0..n {
            let value = u64::from(word(&h, i)) << 32 | u64::from(word(&l, i));
            c.set_g(op.r1.wrapping_add(i as u8) & 15, value);
        }
        Ok(Flow::Next)
    }),
    row(0x9000, "stm", RSa, Z, |c, op| stm(c, op, 0)),
    row(0xeb90, "stmy", RSYa, LONG_DISPLACEMENT, |c, op| stm(c, op, 0)),
    row(0xeb26, "stmh", RSYa, Z, |c, op| stm(c, op, 32)),
    row(0xeb24, "stmg", RSYa, Z, stmg),
    row(0xe38f, "lpq", RXYa, Z, |c, op| {
        let addr = c.ea(op);
        if op.r1 & 1 != 0 || addr & 15 != 0 {
            return Err(c.program(program::SPECIFICATION));
        }
        let value = c.read_u128(addr)?;
        c.set_g(op.r1, (value >> 64) as u64);
        c.set_g(op.r1 + 1, value as u64);
        Ok(Flow::Next)
    }),
    row(0xe38e, "stpq", RXYa, Z, |c, op| {
        let addr = c.ea(op);
        if op.r1 & 1 != 0 || addr & 15 != 0 {
            return Err(c.program(program::SPECIFICATION));
        }
        c.write_u128(addr, u128::from(c.g(op.r1)) << 64 | u128::from(c.g(op.r1 + 1)))?;
        Ok(c.stored())
    }),
    // Access registers
    row(0x9a00, "lam", RSa, Z, lam),
    row(0xeb9a, "lamy", RSYa, LONG_DISPLACEMENT, lam),
    row(0x9b00, "stam", RSa, Z, stam),
    row(0xeb9b, "stamy", RSYa, LONG_DISPLACEMENT, stam),
    row(0xb24d, "cpya", RRE, Z, |c, op| {
        c.ars[usize::from(op.r1)] = c.ars[usize::from(op.r2)];
        c.access_registers_changed();
        Ok(Flow::Next)
    }),
    row(0xb24e, "sar", RRE, Z, |c, op| {
        c.ars[usize::from(op.r1)] = c.w(op.r2);
        c.access_registers_changed();
        Ok(Flow::Next)
    }),
    row(0xb24f, "ear", RRE, Z, |c, op| {
        let value = c.ars[usize::from(op.r2)];
        c.set_w(op.r1, value);
        Ok(Flow::Next)
    }),
    row(0x5100, "lae", RX, Z, lae),
    row(0xe375, "laey", RXYa, GENERAL_EXTENSION, lae),
    // Prefetch and hints
    row(0xe336, "pfd", RXYb, GENERAL_EXTENSION, |_, _| Ok(Flow::Next)),
    row(0xc602, "pfdrl", RILc, GENERAL_EXTENSION, |_, _| Ok(Flow::Next)),
    row(0xb2fa, "niai", IE, MISC_1, |_, _| Ok(Flow::Next)),
    row(0xc700, "bpp", SMI, MISC_1, |_, _| Ok(Flow::Next)),
    row(0xc500, "bprp", MII, MISC_1, |_, _| Ok(Flow::Next)),
    row(0xb2e8, "ppa", RRFc, MISC_1, |_, _| Ok(Flow::Next)),
    row(0xeb4c, "ecag", RSYa, GENERAL_EXTENSION, |c, op| {
        // Cache attributes are not modelled: every selector answers "reserved" (all ones).
        c.set_g(op.r1, u64::MAX);
        Ok(Flow::Next)
    }),
];

#[inline(always)]
fn m8(c: &mut Cpu, op: &Op) -> Result<u8, Trap> {
    let addr = c.ea(op);
    c.read_u8(addr)
}

#[inline(always)]
fn m16(c: &mut Cpu, op: &Op) -> Result<u16, Trap> {
    let addr = c.ea(op);
    c.read_u16(addr)
}

/// First-operand address of RS and RSY.
#[inline(always)]
fn address(c: &Cpu, op: &Op) -> u64 {
    c.base(op.b).wrapping_add_signed(op.imm) & c.addr_mask
}

/// Number of registers from R1 to R3, wrapping.
#[inline(always)]
fn count(op: &Op) -> usize {
    usize::from(op.r2.wrapping_sub(op.r1) & 15) + 1
}

fn word(bytes: &[u8; 64], i: usize) -> u32 {
    u32::from_be_bytes([bytes[i * 4], bytes[i * 4 + 1], bytes[i * 4 + 2], bytes[i * 4 + 3]])
}

#[inline(always)]
fn insert(c: &mut Cpu, op: &Op, shift: u32, mask: u64) -> Step {
    let value = c.g(op.r1) & !(mask << shift) | (op.imm as u64 & mask) << shift;
    c.set_g(op.r1, value);
    Ok(Flow::Next)
}

/// Address result: 24- and 31-bit modes leave the high half alone.
#[inline(always)]
pub(super) fn set_address(c: &mut Cpu, r: u8, addr: u64) {
    if c.addr_mask == u64::MAX {
        c.set_g(r, addr);
    } else {
        c.set_w(r, (addr & c.addr_mask) as u32);
    }
}

#[inline(always)]
fn la(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    set_address(c, op.r1, addr);
    Ok(Flow::Next)
}

/// LAE: as LA, and the access register is set by the address-space control.
fn lae(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    set_address(c, op.r1, addr);
    c.ars[usize::from(op.r1)] = match (c.psw.mask >> 46) & 3 {
        0 => 0,
        2 => 1,
        1 if op.b == 0 => 0,
        1 => c.ars[usize::from(op.b)],
        _ => 2,
    };
    c.access_registers_changed();
    Ok(Flow::Next)
}

#[inline(always)]
fn ic(c: &mut Cpu, op: &Op) -> Step {
    let byte = m8(c, op)?;
    let value = c.g(op.r1) & !0xff | u64::from(byte);
    c.set_g(op.r1, value);
    Ok(Flow::Next)
}

fn trap_if(c: &mut Cpu, zero: bool) -> Step {
    if zero { Err(data_exception(c, 0xff)) } else { Ok(Flow::Next) }
}

fn aligned(c: &mut Cpu, op: &Op, mask: u64) -> Result<u64, Trap> {
    let addr = relative(c, op);
    if addr & mask != 0 { Err(c.program(program::SPECIFICATION)) } else { Ok(addr) }
}

/// Inserts the bytes that the mask selects into the half of R1 at `shift`.
fn icm(c: &mut Cpu, op: &Op, shift: u32) -> Step {
    let (addr, mask) = (address(c, op), op.r2);
    let n = mask.count_ones() as usize;
    let mut bytes = [0; 4];
    // With a zero mask an access exception is still recognized for one byte.
    c.read_bytes(addr, &mut bytes[..n.max(1)])?;
    if n == 0 {
        c.cc = 0;
        return Ok(Flow::Next);
    }
    let mut half = ((c.g(op.r1) >> shift) as u32).to_be_bytes();
    let mut next = 0;
    for (i, byte) in half.iter_mut().enumerate() {
        if mask & (8 >> i) != 0 {
            *byte = bytes[next];
            next += 1;
        }
    }
    let old = c.g(op.r1) & !(0xffff_ffff << shift);
    c.set_g(op.r1, old | u64::from(u32::from_be_bytes(half)) << shift);
    c.cc = if bytes[..n].iter().all(|&b| b == 0) {
        0
    } else if bytes[0] & 0x80 != 0 {
        1
    } else {
        2
    };
    Ok(Flow::Next)
}

fn stcm(c: &mut Cpu, op: &Op, shift: u32) -> Step {
    let addr = address(c, op);
    let half = ((c.g(op.r1) >> shift) as u32).to_be_bytes();
    let (mut bytes, mut n) = ([0; 4], 0);
    for (i, byte) in half.into_iter().enumerate() {
        if op.r2 & (8 >> i) != 0 {
            bytes[n] = byte;
            n += 1;
        }
    }
    if n > 0 {
        c.write_bytes(addr, &bytes[..n])?;
    }
    Ok(c.stored())
}

fn lm(c: &mut Cpu, op: &Op) -> Step {
    let (addr, n) = (address(c, op), count(op));
    let mut bytes = [0; 64];
    c.read_bytes(addr, &mut bytes[..n * 4])?;
    for i in 0..n {
        c.set_w(op.r1.wrapping_add(i as u8) & 15, word(&bytes, i));
    }
    Ok(Flow::Next)
}

fn lmg(c: &mut Cpu, op: &Op) -> Step {
    let (addr, n) = (address(c, op), count(op));
    let mut bytes = [0; 128];
    c.read_bytes(addr, &mut bytes[..n * 8])?;
    for (i, chunk) in bytes[..n * 8].chunks_exact(8).enumerate() {
        let value = chunk.iter().fold(0, |acc, &b| acc << 8 | u64::from(b));
        c.set_g(op.r1.wrapping_add(i as u8) & 15, value);
    }
    Ok(Flow::Next)
}

fn stm(c: &mut Cpu, op: &Op, shift: u32) -> Step {
    let (addr, n) = (address(c, op), count(op));
    let mut bytes = [0; 64];
    for (i, chunk) in bytes[..n * 4].chunks_exact_mut(4).enumerate() {
        let value = (c.g(op.r1.wrapping_add(i as u8) & 15) >> shift) as u32;
        chunk.copy_from_slice(&value.to_be_bytes());
    }
    c.write_bytes(addr, &bytes[..n * 4])?;
    Ok(c.stored())
}

fn stmg(c: &mut Cpu, op: &Op) -> Step {
    let (addr, n) = (address(c, op), count(op));
    let mut bytes = [0; 128];
    for (i, chunk) in bytes[..n * 8].chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&c.g(op.r1.wrapping_add(i as u8) & 15).to_be_bytes());
    }
    c.write_bytes(addr, &bytes[..n * 8])?;
    Ok(c.stored())
}

fn lam(c: &mut Cpu, op: &Op) -> Step {
    let (addr, n) = (address(c, op), count(op));
    if addr & 3 != 0 {
        return Err(c.program(program::SPECIFICATION));
    }
    let mut bytes = [0; 64];
    c.read_bytes(addr, &mut bytes[..n * 4])?;
    for i in 0..n {
        c.ars[usize::from(op.r1.wrapping_add(i as u8) & 15)] = word(&bytes, i);
    }
    c.access_registers_changed();
    Ok(Flow::Next)
}

fn stam(c: &mut Cpu, op: &Op) -> Step {
    let (addr, n) = (address(c, op), count(op));
    if addr & 3 != 0 {
        return Err(c.program(program::SPECIFICATION));
    }
    let mut bytes = [0; 64];
    for (i, chunk) in bytes[..n * 4].chunks_exact_mut(4).enumerate() {
        chunk.copy_from_slice(&c.ars[usize::from(op.r1.wrapping_add(i as u8) & 15)].to_be_bytes());
    }
    c.write_bytes(addr, &bytes[..n * 4])?;
    Ok(c.stored())
}
