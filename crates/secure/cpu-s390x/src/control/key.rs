//! Storage keys, and storage as a machine sees it: test block, frame management.

use super::{row, sup, sup_last};
use crate::access::Space;
use crate::cpu::Cpu;
use crate::dat::{KEY_CHANGE, KEY_REFERENCE};
use crate::insn::storage::{address, set_address};
use crate::op::{Entry, Flow, Format, Op, Step, Trap};
use cloister_arch::s390x::program;

pub(super) const TABLE: &[Entry] = &[
    sup(0xb229, "iske", Format::RRE, 0, |c, op| {
        let key = c.storage_key(op)?;
        insert(c, op, key & 0xfe)
    }),
    row(0xb223, "ivsk", Format::RRE, 0, ivsk),
    sup(0xb22b, "sske", Format::RRFc, 0, sske),
    sup(0xb22a, "rrbe", Format::RRE, 0, rrbe),
    sup(0xb9ae, "rrbm", Format::RRE, 66, |c, op| reference_bits(c, op, true)),
    sup(0xb9ac, "irbm", Format::RRE, 145, |c, op| reference_bits(c, op, false)),
    sup(0xb22c, "tb", Format::RRE, 0, test_block),
    sup_last(0xb9af, "pfmf", Format::RRE, 8, pfmf),
    row(0xe501, "tprot", Format::SSE, 0, tprot),
];

impl Cpu {
    /// Absolute page of the real address in R2.
    fn key_page(&mut self, op: &Op) -> Result<u64, Trap> {
        let page = self.absolute(self.g(op.r2) & self.addr_mask) >> 12;
        if self.env.storage.record(page).is_none() {
            return Err(self.program(program::ADDRESSING));
        }
        Ok(page)
    }

    fn storage_key(&mut self, op: &Op) -> Result<u8, Trap> {
        let page = self.key_page(op)?;
        Ok(self.env.storage.record(page).map_or(0, |record| record.key()))
    }

    /// Sets a key, or leaves it where it differs only in the reference and change bits that `conditions` spares
    /// (SA22-7832, chapter 10, "SET STORAGE KEY EXTENDED": MR and MC, here 4 and 2, or neither). The old key and
    /// whether the new one was set. Translations may have to go.
    fn replace_key(&mut self, page: u64, key: u8, conditions: u8) -> Result<(u8, bool), Trap> {
        let env = self.env.clone();
        let Some(record) = env.storage.record(page) else { return Err(self.program(program::ADDRESSING)) };
        let old = record.key();
        let compared = 0xf8 | (KEY_REFERENCE | KEY_CHANGE) & !conditions;
        if conditions != 0 && (old ^ key) & compared == 0 {
            return Ok((old, false));
        }
        Ok((record.set_key(key & 0xfe), true))
    }

    /// MR and MC as [`Cpu::replace_key`] wants them.
    fn key_conditions(&self, mask: u32) -> u8 {
        if self.env.has_facility(10) { mask as u8 & 6 } else { 0 }
    }
}

fn insert(c: &mut Cpu, op: &Op, key: u8) -> Step {
    let value = c.w(op.r1) & !0xff | u32::from(key);
    c.set_w(op.r1, value);
    Ok(Flow::Next)
}

fn ivsk(c: &mut Cpu, op: &Op) -> Step {
    if c.problem_state() && c.crs[0] & 1 << 27 == 0 {
        return Err(c.program(program::PRIVILEGED));
    }
    let addr = c.g(op.r2) & c.addr_mask;
    let translated = match c.translate(addr) {
        Ok(translated) => translated,
        Err(fault) => return Err(c.translation_trap(fault, addr, crate::dat::Access::Fetch)),
    };
    let page = c.absolute(translated.real) >> 12;
    match c.env.storage.record(page).map(|record| record.key()) {
        Some(key) => insert(c, op, key & 0xf8),
        None => Err(c.program(program::ADDRESSING)),
    }
}

/// M3: nonquiescing, which changes nothing here, MR, MC and, with enhanced DAT only, multiple blocks.
fn sske(c: &mut Cpu, op: &Op) -> Step {
    let key = c.w(op.r1) as u8;
    let conditions = c.key_conditions(op.x.into());
    if op.x & 1 == 0 || !c.env.has_facility(8) {
        let page = c.key_page(op)?;
        let (old, set) = c.replace_key(page, key, conditions)?;
        // Translations only know that an access was allowed and that its bits are set.
        if set && old != key & 0xfe {
            c.flush_everywhere();
        }
        if conditions != 0 {
            c.set_w(op.r1, c.w(op.r1) & !0xff00 | u32::from(old) << 8);
            c.cc = u8::from(set);
        }
        return Ok(Flow::Next);
    }
    let mut addr = address(c, op.r2);
    loop {
        if let Err(trap) = c.replace_key(addr >> 12, key, conditions) {
            c.flush_everywhere();
            return Err(trap);
        }
        addr = c.wrap(addr, 0x1000);
        set_address(c, op.r2, addr);
        if addr >> 12 & 0xff == 0 {
            break;
        }
    }
    if conditions != 0 {
        c.cc = 3;
    }
    c.flush_everywhere();
    Ok(Flow::Next)
}

fn rrbe(c: &mut Cpu, op: &Op) -> Step {
    let page = c.key_page(op)?;
    let old = c.env.storage.record(page).map_or(0, |record| record.and_key(!KEY_REFERENCE));
    if old & KEY_REFERENCE != 0 {
        c.flush_everywhere();
    }
    c.cc = (old & (KEY_REFERENCE | KEY_CHANGE)) >> 1;
    Ok(Flow::Next)
}

/// Reference bits of the 64 blocks around a real address, the first on the left.
fn reference_bits(c: &mut Cpu, op: &Op, reset: bool) -> Step {
    let first = address(c, op.r2) & !0x3_ffff;
    let pages: [u64; 64] = std::array::from_fn(|n| c.absolute(first + ((n as u64) << 12)) >> 12);
    if pages.iter().any(|page| c.env.storage.record(*page).is_none()) {
        return Err(c.program(program::ADDRESSING));
    }
    let keep = if reset { !KEY_REFERENCE } else { !0 };
    let bits = pages.iter().fold(0, |bits, page| {
        let key = c.env.storage.record(*page).map_or(0, |record| record.and_key(keep));
        bits << 1 | u64::from(key & KEY_REFERENCE != 0)
    });
    c.set_g(op.r1, bits);
    if reset && bits != 0 {
        c.flush_everywhere();
    }
    Ok(Flow::Next)
}

fn test_block(c: &mut Cpu, op: &Op) -> Step {
    let page = c.g(op.r2) & c.addr_mask & !0xfff;
    c.access_as(Space::Real, 0, |c| c.fill(page, 0x1000, 0))?;
    c.gprs[0] = 0;
    c.cc = 0;
    Ok(Flow::Next)
}

/// Reserved bits of PERFORM FRAME MANAGEMENT FUNCTION; that it may be nonquiescing; the key and the frame are set.
const RESERVED: u32 = 0xfffc_0101;
const NONQUIESCING: u32 = 0x800;
const SET_KEY: u32 = 0x2_0000;
const CLEAR: u32 = 0x1_0000;

fn pfmf(c: &mut Cpu, op: &Op) -> Step {
    let controls = c.w(op.r1);
    let reserved = RESERVED | if c.env.has_facility(14) { 0 } else { NONQUIESCING };
    let size = match controls >> 12 & 7 {
        0 => 1 << 12,
        1 => 1 << 20,
        2 if c.env.has_facility(78) && c.addr_mask > 0xff_ffff => 1 << 31,
        _ => 0,
    };
    if controls & reserved != 0 || size == 0 {
        return Err(c.specification());
    }
    let large = size != 1 << 12;
    let conditions = c.key_conditions(controls >> 8);
    let mut addr = address(c, op.r2) & !0xfff;
    let mut stale = false;
    let step = loop {
        // Large frames are absolute, single blocks real.
        let absolute = if large { addr } else { c.absolute(addr) };
        if c.env.storage.record(absolute >> 12).is_none() {
            break Err(c.program(program::ADDRESSING));
        }
        if controls & CLEAR != 0
            && let Err(trap) = c.write_absolute(absolute, &[0; 0x1000])
        {
            break Err(trap);
        }
        if controls & SET_KEY != 0 {
            match c.replace_key(absolute >> 12, controls as u8, conditions) {
                Ok((old, set)) => stale |= set && old != controls as u8 & 0xfe,
                Err(trap) => break Err(trap),
            }
        }
        if !large {
            break Ok(c.stored());
        }
        addr = c.wrap(addr, 0x1000);
        set_address(c, op.r2, addr);
        if addr & (size - 1) == 0 {
            break Ok(c.stored());
        }
        if addr & 0xf_ffff == 0 {
            // A unit of operation: interruptions come in between. It looks like a branch to itself, so that the
            // breaking-event address becomes its own.
            break Ok(c.jump(c.here(op)));
        }
    };
    if stale {
        c.flush_everywhere();
    }
    step
}

fn tprot(c: &mut Cpu, op: &Op) -> Step {
    if c.problem_state() {
        return Err(c.program(program::PRIVILEGED));
    }
    let addr = c.ea(op);
    let key = (c.ea2(op) >> 4 & 15) as u8;
    c.cc = match c.access_as(Space::Current, key, |c| c.probe_write(addr, 1)) {
        Ok(()) => 0,
        Err(Trap) if c.trap == program::PROTECTION => {
            match c.access_as(Space::Current, key, |c| c.probe_read(addr, 1)) {
                Ok(()) => 1,
                Err(Trap) if c.trap == program::PROTECTION => 2,
                Err(Trap) => return Err(Trap),
            }
        }
        Err(Trap) if c.trap >= program::SEGMENT_TRANSLATION && crate::interrupt::nullifies(c.trap) => 3,
        Err(Trap) => return Err(Trap),
    };
    Ok(Flow::Next)
}
