//! Moves between address spaces and with other access keys.

use super::row;
use crate::access::Space;
use crate::cpu::Cpu;
use crate::op::{Entry, Flow, Format, Op, Step, Trap};
use cloister_arch::s390x::{Psw, program};

pub(super) const TABLE: &[Entry] = &[
    row(0xda00, "mvcp", Format::SSd, 0, |c, op| move_space(c, op, Space::Primary, Space::Secondary)),
    row(0xdb00, "mvcs", Format::SSd, 0, |c, op| move_space(c, op, Space::Secondary, Space::Primary)),
    row(0xd900, "mvck", Format::SSd, 0, mvck),
    row(0xe50f, "mvcdk", Format::SSE, 0, |c, op| move_key(c, op, true)),
    row(0xe50e, "mvcsk", Format::SSE, 0, |c, op| move_key(c, op, false)),
    row(0xc800, "mvcos", Format::SSF, 27, mvcos),
    row(0xb254, "mvpg", Format::RRE, 0, mvpg),
];

/// An operand in some space under some key.
#[derive(Clone, Copy)]
struct Place {
    space: Space,
    key: u8,
    addr: u64,
}

impl Cpu {
    /// Moves up to a page through a buffer: nothing is stored unless everything is accessible.
    fn move_between(&mut self, to: Place, from: Place, len: usize) -> Result<(), Trap> {
        let mut buffer = [0; 4096];
        let buffer = &mut buffer[..len.min(4096)];
        self.read_bytes_as(from.space, from.key, from.addr, buffer)?;
        self.write_bytes_as(to.space, to.key, to.addr, buffer)
    }

    fn length_register(&self, r: u8) -> u64 {
        if self.psw.mask & Psw::EA != 0 { self.g(r) } else { u64::from(self.w(r)) }
    }

    fn key_or_privileged(&mut self, key: u8) -> Result<u8, Trap> {
        if self.key_allowed(key) { Ok(key) } else { Err(self.program(program::PRIVILEGED)) }
    }
}

fn move_space(c: &mut Cpu, op: &Op, to: Space, from: Space) -> Step {
    let asc = (c.psw.mask & Psw::ASC) >> 46;
    // CR0 bit 37: secondary-space control.
    if c.psw.mask & Psw::DAT == 0 || c.crs[0] & 1 << 26 == 0 || asc & 1 != 0 {
        return Err(c.special_operation());
    }
    let key = (c.g(op.r2) >> 4 & 15) as u8;
    let key = c.key_or_privileged(key)?;
    let len = c.length_register(op.r1);
    let own = c.psw_key();
    // The key is that of the operand in the secondary space.
    let key_of = |space| if space == Space::Secondary { key } else { own };
    let to =
        Place { space: to, key: key_of(to), addr: c.base(op.b).wrapping_add_signed(op.imm) & c.addr_mask };
    let from = Place { space: from, key: key_of(from), addr: c.ea2(op) };
    c.move_between(to, from, len.min(256) as usize)?;
    c.cc = if len > 256 { 3 } else { 0 };
    Ok(c.stored())
}

fn mvck(c: &mut Cpu, op: &Op) -> Step {
    let key = (c.g(op.r2) >> 4 & 15) as u8;
    let key = c.key_or_privileged(key)?;
    let len = c.length_register(op.r1);
    let to = Place {
        space: Space::Current,
        key: c.psw_key(),
        addr: c.base(op.b).wrapping_add_signed(op.imm) & c.addr_mask,
    };
    let from = Place { space: Space::Current, key, addr: c.ea2(op) };
    c.move_between(to, from, len.min(256) as usize)?;
    c.cc = if len > 256 { 3 } else { 0 };
    Ok(c.stored())
}

fn move_key(c: &mut Cpu, op: &Op, destination: bool) -> Step {
    let key = (c.gprs[1] >> 4 & 15) as u8;
    let key = c.key_or_privileged(key)?;
    let len = (c.gprs[0] & 0xff) as usize + 1;
    let own = c.psw_key();
    let (to_key, from_key) = if destination { (key, own) } else { (own, key) };
    let to = Place {
        space: Space::Current,
        key: to_key,
        addr: c.base(op.b).wrapping_add_signed(op.imm) & c.addr_mask,
    };
    let from = Place { space: Space::Current, key: from_key, addr: c.ea2(op) };
    c.move_between(to, from, len)?;
    Ok(c.stored())
}

fn mvcos(c: &mut Cpu, op: &Op) -> Step {
    if c.psw.mask & Psw::DAT == 0 {
        return Err(c.special_operation());
    }
    let operand = |c: &mut Cpu, control: u32, addr| -> Result<Place, Trap> {
        let space = match control >> 6 & 3 {
            _ if control & 1 == 0 => Space::Current,
            // Access registers are taken as designating the primary space.
            0 | 1 => Space::Primary,
            2 => Space::Secondary,
            _ => Space::Home,
        };
        if space == Space::Home && c.problem_state() {
            return Err(c.special_operation());
        }
        let key = if control & 2 != 0 { (control >> 12 & 15) as u8 } else { c.psw_key() };
        let key = c.key_or_privileged(key)?;
        Ok(Place { space, key, addr })
    };
    let controls = c.gprs[0] as u32;
    let first = c.base(op.b).wrapping_add_signed(op.imm) & c.addr_mask;
    let second = c.ea2(op);
    let to = operand(c, controls >> 16, first)?;
    let from = operand(c, controls & 0xffff, second)?;
    let len = c.length_register(op.r1);
    c.move_between(to, from, len.min(4096) as usize)?;
    c.cc = if len > 4096 { 3 } else { 0 };
    Ok(c.stored())
}

fn mvpg(c: &mut Cpu, op: &Op) -> Step {
    let controls = c.gprs[0] as u32;
    let (to_key, from_key) = (controls & 0x800 != 0, controls & 0x400 != 0);
    if controls & 0xf000 != 0 || (to_key && from_key) {
        return Err(c.specification());
    }
    let other = (controls >> 4 & 15) as u8;
    let own = c.psw_key();
    if to_key || from_key {
        c.key_or_privileged(other)?;
    }
    let place = |uses_other, addr: u64| Place {
        space: Space::Current,
        key: if uses_other { other } else { own },
        addr: addr & !0xfff,
    };
    let to = place(to_key, c.g(op.r1) & c.addr_mask);
    let from = place(from_key, c.g(op.r2) & c.addr_mask);
    let mut page = [0; 4096];
    let condition_code = controls & 0x100 != 0;
    let missing = |c: &Cpu| condition_code && c.trap == program::PAGE_TRANSLATION;
    if c.read_bytes_as(from.space, from.key, from.addr, &mut page).is_err() {
        if missing(c) {
            c.cc = 2;
            return Ok(Flow::Next);
        }
        return Err(Trap);
    }
    if c.write_bytes_as(to.space, to.key, to.addr, &page).is_err() {
        if missing(c) {
            c.cc = 1;
            return Ok(Flow::Next);
        }
        return Err(Trap);
    }
    c.cc = 0;
    Ok(c.stored())
}
