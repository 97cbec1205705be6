//! Instructions that change the PSW as a whole or in part, and those that ask for an interruption.

use super::{last, row, sup, sup_last};
use crate::cpu::Cpu;
use crate::op::{Entry, Flow, Format, Op, Step};
use cloister_arch::s390x::{Psw, program};

pub(super) const TABLE: &[Entry] = &[
    last(0x0a00, "svc", Format::I, 0, svc),
    row(0xaf00, "mc", Format::SI, 0, monitor_call),
    last(0x4400, "ex", Format::RX, 0, ex),
    last(0xc600, "exrl", Format::RILb, 35, exrl),
    sup_last(0x8000, "ssm", Format::S, 0, ssm),
    sup_last(0xac00, "stnsm", Format::SI, 0, |c, op| change_mask(c, op, |old, new| old & new)),
    sup_last(0xad00, "stosm", Format::SI, 0, |c, op| change_mask(c, op, |old, new| old | new)),
    sup_last(0x8200, "lpsw", Format::S, 0, lpsw),
    sup_last(0xb2b2, "lpswe", Format::S, 0, lpswe),
    row(0xb98d, "epsw", Format::RRE, 0, epsw),
    last(0xb20a, "spka", Format::S, 0, spka),
    row(0xb20b, "ipk", Format::S, 0, ipk),
    last(0xb219, "sac", Format::S, 0, sac),
    last(0xb279, "sacf", Format::S, 0, sac),
    row(0xb224, "iac", Format::RRE, 0, iac),
    sup(0x9900, "trace", Format::RSa, 0, |_, _| Ok(Flow::Next)),
    sup(0xeb0f, "tracg", Format::RSYa, 0, |_, _| Ok(Flow::Next)),
];

/// CR0 bit 33: SSM-suppression control.
const SSM_SUPPRESSION: u64 = 1 << 30;
/// CR0 bit 36: extraction-authority control.
const EXTRACTION_AUTHORITY: u64 = 1 << 27;
/// CR0 bit 37: secondary-space control.
const SECONDARY_SPACE: u64 = 1 << 26;

impl Cpu {
    /// Loads a PSW; an invalid one gets its early specification exception.
    fn load_psw(&mut self, psw: Psw) -> Step {
        if self.set_psw(psw) {
            return Ok(Flow::Jump);
        }
        let taken = self.early_specification();
        self.swapped(taken)
    }
}

fn svc(c: &mut Cpu, op: &Op) -> Step {
    c.psw.addr = c.next(op);
    let taken = c.take_svc(op.imm as u8, op.len);
    c.swapped(taken)
}

fn monitor_call(c: &mut Cpu, op: &Op) -> Step {
    if op.aux > 15 {
        return Err(c.specification());
    }
    if c.crs[8] & 0x8000 >> op.aux == 0 {
        return Ok(Flow::Next);
    }
    c.monitor_code = c.ea(op);
    let trap = c.program(program::MONITOR_EVENT);
    c.trap_detail = op.aux;
    Err(trap)
}

fn ex(c: &mut Cpu, op: &Op) -> Step {
    let target = c.ea(op);
    let modifier = c.base(op.r1) as u8;
    c.execute(op, target, modifier)
}

fn exrl(c: &mut Cpu, op: &Op) -> Step {
    let target = c.here(op).wrapping_add_signed(op.imm) & c.addr_mask;
    let modifier = c.base(op.r1) as u8;
    c.execute(op, target, modifier)
}

fn ssm(c: &mut Cpu, op: &Op) -> Step {
    if c.crs[0] & SSM_SUPPRESSION != 0 {
        return Err(c.special_operation());
    }
    let addr = c.ea(op);
    let byte = c.read_u8(addr)?;
    set_system_mask(c, op, byte)
}

fn change_mask(c: &mut Cpu, op: &Op, change: fn(u8, u8) -> u8) -> Step {
    let old = (c.psw.mask >> 56) as u8;
    let addr = c.ea(op);
    c.write_u8(addr, old)?;
    set_system_mask(c, op, change(old, op.aux as u8))
}

fn set_system_mask(c: &mut Cpu, op: &Op, byte: u8) -> Step {
    let addr = c.next(op);
    let psw = c.full_psw();
    c.load_psw(Psw { mask: psw.mask << 8 >> 8 | u64::from(byte) << 56, addr })
}

fn lpsw(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    let addr = c.aligned(addr, 8)?;
    let short = c.read_u64(addr)?;
    c.breaking_event = c.here(op);
    // Bit 12 must be one here and zero in the long form.
    c.load_psw(Psw { mask: (short & 0xffff_ffff_8000_0000) ^ Psw::SHORT, addr: short & 0x7fff_ffff })
}

fn lpswe(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    let addr = c.aligned(addr, 8)?;
    c.probe_read(addr, 16)?;
    let psw = Psw { mask: c.read_u64(addr)?, addr: c.read_u64(c.wrap(addr, 8))? };
    c.breaking_event = c.here(op);
    c.load_psw(psw)
}

fn epsw(c: &mut Cpu, op: &Op) -> Step {
    let mask = c.full_psw().mask;
    c.set_w(op.r1, (mask >> 32) as u32);
    if op.r2 != 0 {
        c.set_w(op.r2, mask as u32);
    }
    Ok(Flow::Next)
}

fn spka(c: &mut Cpu, op: &Op) -> Step {
    let key = (c.ea(op) >> 4 & 15) as u8;
    if !c.key_allowed(key) {
        return Err(c.program(program::PRIVILEGED));
    }
    c.psw.mask = c.psw.mask & !(0xf << 52) | u64::from(key) << 52;
    c.update_view();
    Ok(Flow::End)
}

fn ipk(c: &mut Cpu, _: &Op) -> Step {
    if c.problem_state() && c.crs[0] & EXTRACTION_AUTHORITY == 0 {
        return Err(c.program(program::PRIVILEGED));
    }
    c.gprs[2] = c.gprs[2] & !0xff | u64::from(c.psw_key()) << 4;
    Ok(Flow::Next)
}

fn sac(c: &mut Cpu, op: &Op) -> Step {
    let asc = match c.ea(op) >> 8 & 15 {
        0 => 0,
        1 => 2,
        2 => 1,
        3 => 3,
        _ => return Err(c.specification()),
    };
    if c.psw.mask & Psw::DAT == 0 || c.crs[0] & SECONDARY_SPACE == 0 {
        return Err(c.special_operation());
    }
    if asc == 3 && c.problem_state() {
        return Err(c.program(program::PRIVILEGED));
    }
    c.psw.mask = c.psw.mask & !Psw::ASC | asc << 46;
    c.update_view();
    Ok(Flow::End)
}

fn iac(c: &mut Cpu, op: &Op) -> Step {
    if c.psw.mask & Psw::DAT == 0 {
        return Err(c.special_operation());
    }
    if c.problem_state() && c.crs[0] & EXTRACTION_AUTHORITY == 0 {
        return Err(c.program(program::PRIVILEGED));
    }
    let code = match (c.psw.mask & Psw::ASC) >> 46 {
        1 => 2,
        2 => 1,
        other => other as u8,
    };
    let value = c.w(op.r1) & !0xff00 | u32::from(code) << 8;
    c.set_w(op.r1, value);
    c.cc = code;
    Ok(Flow::Next)
}
