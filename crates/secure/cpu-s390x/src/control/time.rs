//! Clock and timer instructions.

use super::{last, row, sup, sup_last};
use crate::cpu::Cpu;
use crate::op::{Entry, Flow, Format, Op, Step};
use crate::system::ns_from_tod;
use std::sync::atomic::Ordering;

pub(super) const TABLE: &[Entry] = &[
    last(0xb205, "stck", Format::S, 0, |c, op| {
        let now = c.unique_tod();
        store_clock(c, op, now)
    }),
    last(0xb27c, "stckf", Format::S, 25, |c, op| {
        let now = c.tod();
        store_clock(c, op, now)
    }),
    last(0xb278, "stcke", Format::S, 0, stcke),
    sup_last(0xb204, "sck", Format::S, 0, sck),
    sup(0x0107, "sckpf", Format::E, 0, sckpf),
    sup_last(0xb206, "sckc", Format::S, 0, sckc),
    sup(0xb207, "stckc", Format::S, 0, |c, op| {
        let value = c.clock_comparator;
        store(c, op, value)
    }),
    sup_last(0xb208, "spt", Format::S, 0, spt),
    sup(0xb209, "stpt", Format::S, 0, |c, op| {
        let value = c.cpu_timer_now();
        store(c, op, value)
    }),
    row(0xc801, "ectg", Format::SSF, 31, ectg),
];

fn store_clock(c: &mut Cpu, op: &Op, now: u64) -> Step {
    let addr = c.ea(op);
    c.write_u64(addr, now)?;
    c.cc = 0;
    Ok(c.stored())
}

fn stcke(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    let now = c.unique_tod();
    // Epoch index, TOD clock, a fraction that is never zero, programmable field.
    let value = u128::from(now) << 56 | 1 << 16 | u128::from(c.todpr & 0xffff);
    c.write_bytes(addr, &value.to_be_bytes())?;
    c.cc = 0;
    Ok(c.stored())
}

fn store(c: &mut Cpu, op: &Op, value: u64) -> Step {
    let addr = c.ea(op);
    let addr = c.aligned(addr, 8)?;
    c.write_u64(addr, value)?;
    Ok(c.stored())
}

fn sck(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    let addr = c.aligned(addr, 8)?;
    let tod = c.read_u64(addr)?;
    c.retire();
    c.env.clock.set(ns_from_tod(tod));
    c.env.last_tod.store(0, Ordering::SeqCst);
    c.cc = 0;
    c.recheck = true;
    Ok(Flow::End)
}

fn sckpf(c: &mut Cpu, _: &Op) -> Step {
    let value = c.gprs[0] as u32;
    if value & 0xffff_0000 != 0 {
        return Err(c.specification());
    }
    c.todpr = value;
    Ok(Flow::Next)
}

fn sckc(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    let addr = c.aligned(addr, 8)?;
    c.clock_comparator = c.read_u64(addr)?;
    c.recheck = true;
    Ok(Flow::End)
}

fn spt(c: &mut Cpu, op: &Op) -> Step {
    let addr = c.ea(op);
    let addr = c.aligned(addr, 8)?;
    let value = c.read_u64(addr)?;
    c.set_cpu_timer(value);
    Ok(Flow::End)
}

fn ectg(c: &mut Cpu, op: &Op) -> Step {
    let (first, second) = (c.base(op.b).wrapping_add_signed(op.imm) & c.addr_mask, c.ea2(op));
    let third = c.g(op.r1) & c.addr_mask;
    let (first, second, third) = (c.read_u64(first)?, c.read_u64(second)?, c.read_u64(third)?);
    c.gprs[0] = first.wrapping_sub(c.cpu_timer_now());
    c.gprs[1] = second;
    c.set_g(op.r1, third);
    Ok(Flow::Next)
}
