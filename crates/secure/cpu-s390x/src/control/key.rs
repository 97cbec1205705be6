//! Storage keys, and storage as a machine sees it: test block, frame management.

use super::{row, sup};
use crate::access::Space;
use crate::cpu::Cpu;
use crate::dat::{KEY_CHANGE, KEY_REFERENCE};
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
    sup(0xb22c, "tb", Format::RRE, 0, test_block),
    sup(0xb9af, "pfmf", Format::RRE, 8, pfmf),
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

    fn set_storage_key(&mut self, page: u64, key: u8) {
        let old = self.env.storage.record(page).map(|record| record.set_key(key & 0xfe));
        // Translations only know that an access was allowed and that its bits are set; one that widens
        // permissions or sets bits need not reach them.
        if old.is_some_and(|old| old != key & 0xfe) {
            self.flush_everywhere();
        }
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

fn sske(c: &mut Cpu, op: &Op) -> Step {
    let key = c.w(op.r1) as u8;
    // M3 bit 3: multiple blocks, with enhanced DAT only.
    if op.x & 1 == 0 || !c.env.has_facility(8) {
        let page = c.key_page(op)?;
        c.set_storage_key(page, key);
        return Ok(Flow::Next);
    }
    let mut addr = c.g(op.r2) & c.addr_mask & !0xfff;
    loop {
        let Some(record) = c.env.storage.record(addr >> 12) else {
            return Err(c.program(program::ADDRESSING));
        };
        record.set_key(key & 0xfe);
        addr = addr.wrapping_add(0x1000);
        if addr & 0xf_ffff == 0 {
            break;
        }
    }
    c.set_g(op.r2, addr);
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

fn test_block(c: &mut Cpu, op: &Op) -> Step {
    let page = c.g(op.r2) & c.addr_mask & !0xfff;
    c.access_as(Space::Real, 0, |c| c.fill(page, 0x1000, 0))?;
    c.gprs[0] = 0;
    c.cc = 0;
    Ok(Flow::Next)
}

fn pfmf(c: &mut Cpu, op: &Op) -> Step {
    let controls = c.w(op.r1);
    if controls & 0xfffc_0101 != 0 {
        return Err(c.specification());
    }
    let large = controls >> 12 & 7;
    if large > 1 {
        return Err(c.specification());
    }
    let mut addr = c.g(op.r2) & c.addr_mask & !0xfff;
    let (set_key, clear) = (controls & 0x2_0000 != 0, controls & 0x1_0000 != 0);
    loop {
        // Frames of 1 MiB are absolute, single pages real.
        let absolute = if large == 1 { addr } else { c.absolute(addr) };
        if c.env.storage.record(absolute >> 12).is_none() {
            return Err(c.program(program::ADDRESSING));
        }
        if clear {
            c.write_absolute(absolute, &[0; 0x1000])?;
        }
        if set_key {
            c.set_storage_key(absolute >> 12, controls as u8);
        }
        addr = addr.wrapping_add(0x1000);
        if large == 0 {
            return Ok(c.stored());
        }
        c.set_g(op.r2, addr);
        if addr & 0xf_ffff == 0 {
            return Ok(c.stored());
        }
    }
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
