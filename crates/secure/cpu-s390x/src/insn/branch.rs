//! Branches, linkage, addressing-mode changes.

use super::compare::selects;
use super::fac::{MISC_2, Z};
use super::{last, row};
use crate::cpu::Cpu;
use crate::op::{Entry, Flow, Format::*, Op, Step};
use cloister_arch::s390x::{Psw, program};

/// Rows for branches.
pub(crate) const TABLE: &[Entry] = &[
    last(0x0700, "bcr", RR, Z, |c, op| {
        // R2 = 0 is a no-operation; M1 = 14 and 15 then serialise, which relaxed x86 order already gives
        // except for a store followed by a load.
        if op.r2 == 0 {
            if op.r1 >= 14 {
                std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
            }
            return Ok(Flow::Next);
        }
        if selects(op.r1, c.cc) {
            let target = c.g(op.r2);
            return Ok(c.jump(target));
        }
        Ok(Flow::Next)
    }),
    last(0x4700, "bc", RXb, Z, |c, op| {
        if selects(op.r1, c.cc) {
            let target = c.ea(op);
            return Ok(c.jump(target));
        }
        Ok(Flow::Next)
    }),
    last(0xe347, "bic", RXYb, MISC_2, |c, op| {
        if selects(op.r1, c.cc) {
            let addr = c.ea(op);
            let target = c.read_u64(addr)?;
            return Ok(c.jump(target));
        }
        Ok(Flow::Next)
    }),
    last(0xa704, "brc", RIc, Z, brc),
    last(0xc004, "brcl", RILc, Z, brc),
    last(0x0d00, "basr", RR, Z, |c, op| {
        let target = c.g(op.r2);
        link(c, op);
        if op.r2 == 0 { Ok(Flow::Next) } else { Ok(c.jump(target)) }
    }),
    last(0x4d00, "bas", RX, Z, |c, op| {
        let target = c.ea(op);
        link(c, op);
        Ok(c.jump(target))
    }),
    last(0xa705, "bras", RIb, Z, bras),
    last(0xc005, "brasl", RILb, Z, bras),
    last(0x0500, "balr", RR, Z, |c, op| {
        let target = c.g(op.r2);
        link_with_condition(c, op);
        if op.r2 == 0 { Ok(Flow::Next) } else { Ok(c.jump(target)) }
    }),
    last(0x4500, "bal", RX, Z, |c, op| {
        let target = c.ea(op);
        link_with_condition(c, op);
        Ok(c.jump(target))
    }),
    last(0x0b00, "bsm", RR, Z, |c, op| {
        let target = c.g(op.r2);
        if op.r1 != 0 {
            save_mode(c, op);
        }
        if op.r2 == 0 {
            return Ok(Flow::Next);
        }
        Ok(branch_and_set_mode(c, target))
    }),
    last(0x0c00, "bassm", RR, Z, |c, op| {
        let target = c.g(op.r2);
        if c.addr_mask == u64::MAX {
            let next = c.next(op);
            c.set_g(op.r1, next | 1);
        } else {
            link(c, op);
        }
        if op.r2 == 0 {
            return Ok(Flow::Next);
        }
        Ok(branch_and_set_mode(c, target))
    }),
    last(0x0600, "bctr", RR, Z, |c, op| {
        let target = c.g(op.r2);
        let count = c.w(op.r1).wrapping_sub(1);
        c.set_w(op.r1, count);
        if op.r2 != 0 && count != 0 { Ok(c.jump(target)) } else { Ok(Flow::Next) }
    }),
    last(0x4600, "bct", RX, Z, |c, op| {
        let target = c.ea(op);
        let count = c.w(op.r1).wrapping_sub(1);
        c.set_w(op.r1, count);
        if count != 0 { Ok(c.jump(target)) } else { Ok(Flow::Next) }
    }),
    last(0xa706, "brct", RIb, Z, |c, op| {
        let count = c.w(op.r1).wrapping_sub(1);
        c.set_w(op.r1, count);
        if count != 0 { Ok(c.jump_relative(op)) } else { Ok(Flow::Next) }
    }),
    last(0xb946, "bctgr", RRE, Z, |c, op| {
        let target = c.g(op.r2);
        let count = c.g(op.r1).wrapping_sub(1);
        c.set_g(op.r1, count);
        if op.r2 != 0 && count != 0 { Ok(c.jump(target)) } else { Ok(Flow::Next) }
    }),
    last(0xe346, "bctg", RXYa, Z, |c, op| {
        let target = c.ea(op);
        let count = c.g(op.r1).wrapping_sub(1);
        c.set_g(op.r1, count);
        if count != 0 { Ok(c.jump(target)) } else { Ok(Flow::Next) }
    }),
    last(0xa707, "brctg", RIb, Z, |c, op| {
        let count = c.g(op.r1).wrapping_sub(1);
        c.set_g(op.r1, count);
        if count != 0 { Ok(c.jump_relative(op)) } else { Ok(Flow::Next) }
    }),
    // Index loops: R3 (in r2) is the increment, R3|1 the comparand.
    last(0x8600, "bxh", RSa, Z, |c, op| index32(c, op, |a, b| a > b, address)),
    last(0x8700, "bxle", RSa, Z, |c, op| index32(c, op, |a, b| a <= b, address)),
    last(0x8400, "brxh", RSI, Z, |c, op| index32(c, op, |a, b| a > b, relative)),
    last(0x8500, "brxle", RSI, Z, |c, op| index32(c, op, |a, b| a <= b, relative)),
    last(0xeb44, "bxhg", RSYa, Z, |c, op| index64(c, op, |a, b| a > b, address)),
    last(0xeb45, "bxleg", RSYa, Z, |c, op| index64(c, op, |a, b| a <= b, address)),
    last(0xec44, "brxhg", RIEe, Z, |c, op| index64(c, op, |a, b| a > b, relative)),
    last(0xec45, "brxlg", RIEe, Z, |c, op| index64(c, op, |a, b| a <= b, relative)),
    // Addressing mode
    last(0x010c, "sam24", E, Z, |c, op| sam(c, op, 0xff_ffff, 0)),
    last(0x010d, "sam31", E, Z, |c, op| sam(c, op, 0x7fff_ffff, Psw::BA)),
    last(0x010e, "sam64", E, Z, |c, op| sam(c, op, u64::MAX, Psw::EA | Psw::BA)),
    row(0x010b, "tam", E, Z, |c, _| {
        c.cc = match c.psw.mask & (Psw::EA | Psw::BA) {
            0 => 0,
            Psw::BA => 1,
            _ => 3,
        };
        Ok(Flow::Next)
    }),
    row(0xb222, "ipm", RRE, Z, |c, op| {
        let program_mask = (c.psw.mask >> 40) as u32 & 0xf;
        let value = c.w(op.r1) & 0x00ff_ffff | u32::from(c.cc) << 28 | program_mask << 24;
        c.set_w(op.r1, value);
        Ok(Flow::Next)
    }),
    row(0x0400, "spm", RR, Z, |c, op| {
        let value = c.w(op.r1);
        c.cc = (value >> 28) as u8 & 3;
        c.psw.mask = c.psw.mask & !Psw::PROGRAM_MASK | u64::from(value >> 24 & 0xf) << 40;
        Ok(Flow::Next)
    }),
];

#[inline(always)]
fn brc(c: &mut Cpu, op: &Op) -> Step {
    if selects(op.r1, c.cc) { Ok(c.jump_relative(op)) } else { Ok(Flow::Next) }
}

#[inline(always)]
fn bras(c: &mut Cpu, op: &Op) -> Step {
    link(c, op);
    Ok(c.jump_relative(op))
}

/// Link information: the updated instruction address, with the basic addressing mode in bit 32 for
/// 31-bit mode (SA22-7832, chapter 5, "Branching").
#[inline(always)]
fn link(c: &mut Cpu, op: &Op) {
    let next = c.next(op);
    if c.addr_mask == u64::MAX {
        c.set_g(op.r1, next);
    } else {
        let mode = (c.psw.mask & Psw::BA) as u32;
        c.set_w(op.r1, next as u32 | mode);
    }
}

/// BAL and BALR: in the 24-bit mode the link holds ILC, condition code and program mask.
fn link_with_condition(c: &mut Cpu, op: &Op) {
    if c.psw.mask & (Psw::EA | Psw::BA) != 0 {
        return link(c, op);
    }
    let ilc = u32::from(op.len / 2);
    let program_mask = (c.psw.mask >> 40) as u32 & 0xf;
    let value = ilc << 30 | u32::from(c.cc) << 28 | program_mask << 24 | c.next(op) as u32;
    c.set_w(op.r1, value);
}

/// BSM with R1: bit 63 in the 64-bit mode, else bit 32, receives the addressing mode.
fn save_mode(c: &mut Cpu, op: &Op) {
    if c.psw.mask & Psw::EA != 0 {
        c.set_g(op.r1, c.g(op.r1) | 1);
    } else {
        let mode = (c.psw.mask & Psw::BA) as u32;
        c.set_w(op.r1, c.w(op.r1) & 0x7fff_ffff | mode);
    }
}

fn branch_and_set_mode(c: &mut Cpu, target: u64) -> Flow {
    if target & 1 != 0 {
        c.set_addressing_mode(Psw::EA | Psw::BA);
        c.jump(target & !1)
    } else if target & 0x8000_0000 != 0 {
        c.set_addressing_mode(Psw::BA);
        c.jump(target & 0x7fff_ffff)
    } else {
        c.set_addressing_mode(0);
        c.jump(target & 0xff_ffff)
    }
}

/// SET ADDRESSING MODE: the next instruction must be addressable in the new mode.
fn sam(c: &mut Cpu, op: &Op, limit: u64, mode: u64) -> Step {
    let next = c.next(op);
    if c.here(op) & !limit != 0 {
        return Err(c.program(program::SPECIFICATION));
    }
    c.set_addressing_mode(mode);
    Ok(c.jump(next))
}

#[inline(always)]
fn address(c: &Cpu, op: &Op) -> u64 {
    c.base(op.b).wrapping_add_signed(op.imm)
}

#[inline(always)]
fn relative(c: &Cpu, op: &Op) -> u64 {
    c.here(op).wrapping_add_signed(op.imm)
}

fn index32(c: &mut Cpu, op: &Op, f: fn(i32, i32) -> bool, to: fn(&Cpu, &Op) -> u64) -> Step {
    let target = to(c, op);
    let comparand = c.w(op.r2 | 1) as i32;
    let sum = (c.w(op.r1) as i32).wrapping_add(c.w(op.r2) as i32);
    c.set_w(op.r1, sum as u32);
    if f(sum, comparand) { Ok(c.jump(target)) } else { Ok(Flow::Next) }
}

fn index64(c: &mut Cpu, op: &Op, f: fn(i64, i64) -> bool, to: fn(&Cpu, &Op) -> u64) -> Step {
    let target = to(c, op);
    let comparand = c.g(op.r2 | 1) as i64;
    let sum = (c.g(op.r1) as i64).wrapping_add(c.g(op.r2) as i64);
    c.set_g(op.r1, sum as u64);
    if f(sum, comparand) { Ok(c.jump(target)) } else { Ok(Flow::Next) }
}
