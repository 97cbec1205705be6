//! Real addresses, and what makes translations stale: IPTE, IDTE, CSP, PTLB.

use super::{sup, sup_last};
use crate::access::Space;
use crate::cpu::Cpu;
use crate::dat::{Fault, TRAP_LEAVE};
use crate::op::{Entry, Flow, Format, Op, Step, Trap};
use cloister_arch::s390x::{Psw, program};

pub(super) const TABLE: &[Entry] = &[
    sup(0xb100, "lra", Format::RX, 0, |c, op| lra(c, op, false)),
    sup(0xe313, "lray", Format::RXYa, 18, |c, op| lra(c, op, false)),
    sup(0xe303, "lrag", Format::RXYa, 0, |c, op| lra(c, op, true)),
    sup(0xb24b, "lura", Format::RRE, 0, lura),
    sup(0xb905, "lurag", Format::RRE, 0, lurag),
    sup(0xb246, "stura", Format::RRE, 0, stura),
    sup(0xb925, "sturg", Format::RRE, 0, sturg),
    sup_last(0xb20d, "ptlb", Format::S, 0, |c, _| {
        c.flush_translations();
        Ok(Flow::End)
    }),
    sup_last(0xb221, "ipte", Format::RRFa, 0, ipte),
    sup_last(0xb98e, "idte", Format::RRFb, 3, idte),
    sup_last(0xb98f, "crdte", Format::RRFb, 78, crdte),
    sup_last(0xb250, "csp", Format::RRE, 0, csp),
    sup_last(0xb98a, "cspg", Format::RRE, 0, cspg),
];

fn lra(c: &mut Cpu, op: &Op, grande: bool) -> Step {
    let addr = c.ea(op);
    let asce = match (c.psw.mask & Psw::ASC) >> 46 {
        2 => c.crs[7],
        3 => c.crs[13],
        _ => c.crs[1],
    };
    let result = if asce & 0x20 != 0 { Ok(addr) } else { c.walk(asce, addr).map(|found| found.real) };
    let wide = grande || c.psw.mask & Psw::EA != 0;
    let (cc, value) = match result {
        Ok(real) => (0, real),
        Err(Fault(program::SEGMENT_TRANSLATION)) if c.walk_entry != 0 => (1, c.walk_entry),
        Err(Fault(program::PAGE_TRANSLATION)) => (2, c.walk_entry),
        Err(Fault(code @ (program::ADDRESSING | program::TRANSLATION_SPECIFICATION | TRAP_LEAVE))) => {
            return Err(if code == TRAP_LEAVE { Trap } else { c.program(code) });
        }
        // The exception code, marked in bit 32.
        Err(Fault(code)) => (3, 0x8000_0000 | u64::from(code)),
    };
    if !wide && (cc < 3 && value > 0x7fff_ffff) {
        return Err(c.special_operation());
    }
    if wide && cc < 3 {
        c.set_g(op.r1, value);
    } else {
        c.set_w(op.r1, value as u32);
    }
    c.cc = cc;
    Ok(Flow::Next)
}

impl Cpu {
    fn real_operand(&mut self, op: &Op, align: u64) -> Result<u64, Trap> {
        let addr = self.g(op.r2) & self.addr_mask;
        self.aligned(addr, align)
    }
}

fn lura(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.real_operand(op, 4)?;
    let mut bytes = [0; 4];
    c.read_real(addr, &mut bytes)?;
    c.set_w(op.r1, u32::from_be_bytes(bytes));
    Ok(Flow::Next)
}

fn lurag(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.real_operand(op, 8)?;
    let mut bytes = [0; 8];
    c.read_real(addr, &mut bytes)?;
    c.set_g(op.r1, u64::from_be_bytes(bytes));
    Ok(Flow::Next)
}

fn stura(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.real_operand(op, 4)?;
    let (key, value) = (c.psw_key(), c.w(op.r1));
    c.access_as(Space::Real, key, |c| c.write_u32(addr, value))?;
    Ok(c.stored())
}

fn sturg(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.real_operand(op, 8)?;
    let (key, value) = (c.psw_key(), c.g(op.r1));
    c.access_as(Space::Real, key, |c| c.write_u64(addr, value))?;
    Ok(c.stored())
}

/// Sets a bit of a table entry at a real address, interlocked.
fn invalidate(c: &mut Cpu, real: u64, bit: u64) -> Result<(), Trap> {
    c.access_as(Space::Real, 0, |c| c.fetch_update_u64(real & !7, |entry| entry | bit)).map(drop)
}

fn ipte(c: &mut Cpu, op: &Op) -> Step {
    let (origin, addr) = (c.g(op.r1) & !0x7ff, c.g(op.r2));
    let first = addr >> 12 & 0xff;
    // R3 other than 0 names the number of further entries, with facility 13.
    let more = if op.x != 0 && c.env.has_facility(13) { c.g(op.x) & 0xff } else { 0 };
    if first + more > 255 {
        return Err(c.specification());
    }
    for index in first..=first + more {
        invalidate(c, origin + index * 8, 0x400)?;
    }
    flush_for(c, op);
    Ok(Flow::End)
}

fn idte(c: &mut Cpu, op: &Op) -> Step {
    let (table, what) = (c.g(op.r1), c.g(op.r2));
    if what & 0xf000 != 0 {
        return Err(c.specification());
    }
    // Bit 52 of R2: clearing by ASCE, no invalidation.
    if what & 0x800 == 0 {
        let level = table >> 2 & 3;
        let first = what >> (20 + 11 * level) & 0x7ff;
        let more = what & 0x7ff;
        for index in first..=(first + more).min(0x7ff) {
            invalidate(c, (table & !0xfff) + index * 8, 0x20)?;
        }
    }
    flush_for(c, op);
    Ok(Flow::End)
}

/// COMPARE AND REPLACE DAT TABLE ENTRY: R2 has the origin of a table and its type, R2 + 1 the address whose entry is
/// meant. The ASCE in R3 could spare other translations.
fn crdte(c: &mut Cpu, op: &Op) -> Step {
    let (table, addr) = (c.g(op.r2), c.g(op.r2 | 1));
    let kind = table >> 2 & 7;
    if (op.r1 | op.r2) & 1 != 0 || matches!(kind, 1..=3) {
        return Err(c.specification());
    }
    let entry = match kind {
        0 => (table & !0x7ff) + (addr >> 12 & 0xff) * 8,
        _ => (table & !0xfff) + (addr >> (20 + 11 * (kind & 3)) & 0x7ff) * 8,
    };
    let (expected, new) = (c.g(op.r1), c.g(op.r1 + 1));
    let (swapped, found) = c.access_as(Space::Real, 0, |c| c.compare_and_swap_u64(entry, expected, new))?;
    c.cc = u8::from(!swapped);
    if swapped {
        flush_for(c, op);
    } else {
        c.set_g(op.r1, found);
    }
    Ok(Flow::End)
}

/// IPTE, IDTE and CRDTE flush all CPUs, unless M4 bit 3 says that only this one can hold the translations.
fn flush_for(c: &mut Cpu, op: &Op) {
    if op.aux & 1 != 0 && c.env.has_facility(51) {
        c.flush_translations();
    } else {
        c.flush_everywhere();
    }
}

fn csp(c: &mut Cpu, op: &Op) -> Step {
    if op.r1 & 1 != 0 {
        return Err(c.specification());
    }
    let (expected, new) = (c.w(op.r1), c.w(op.r1 + 1));
    let addr = c.g(op.r2) & c.addr_mask & !3;
    let (swapped, found) = c.compare_and_swap_u32(addr, expected, new)?;
    if !swapped {
        c.set_w(op.r1, found);
    }
    purge(c, op, swapped)
}

fn cspg(c: &mut Cpu, op: &Op) -> Step {
    if op.r1 & 1 != 0 {
        return Err(c.specification());
    }
    let (expected, new) = (c.g(op.r1), c.g(op.r1 + 1));
    let addr = c.g(op.r2) & c.addr_mask & !7;
    let (swapped, found) = c.compare_and_swap_u64(addr, expected, new)?;
    if !swapped {
        c.set_g(op.r1, found);
    }
    purge(c, op, swapped)
}

fn purge(c: &mut Cpu, op: &Op, swapped: bool) -> Step {
    c.cc = u8::from(!swapped);
    if swapped && c.g(op.r2) & 1 != 0 {
        c.flush_everywhere();
    }
    Ok(Flow::End)
}
