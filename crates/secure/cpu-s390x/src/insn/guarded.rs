//! The guarded-storage facility (SA22-7832, chapter 4, "Guarded Storage", and chapter 7): loads of pointers that branch
//! to a handler when they point into a section that a garbage collector is moving.

use super::{last, row};
use crate::cpu::Cpu;
use crate::op::{Entry, Flow, Format::*, Op, Step, Trap};
use cloister_arch::s390x::facility::GUARDED_STORAGE;
use cloister_arch::s390x::{Psw, program};

pub(crate) const TABLE: &[Entry] = &[
    last(0xe34c, "lgg", RXYa, GUARDED_STORAGE, |c, op| {
        let addr = c.ea(op);
        let value = c.read_u64(addr)?;
        guarded(c, op, value, Cause::LoadGuarded)
    }),
    last(0xe348, "llgfsg", RXYa, GUARDED_STORAGE, |c, op| {
        let addr = c.ea(op);
        let value = u64::from(c.read_u32(addr)?);
        // What is not enabled shifts by nothing.
        let shift = if enabled(c) { c.guarded_storage[0] >> 8 & 7 } else { 0 };
        guarded(c, op, value << shift, Cause::LoadLogicalAndShift)
    }),
    row(0xe34d, "lgsc", RXYa, GUARDED_STORAGE, |c, op| {
        check(c)?;
        let addr = c.ea(op);
        let mut block = [0; 32];
        c.read_bytes(addr, &mut block)?;
        let words = block.as_chunks::<8>().0;
        c.guarded_storage = std::array::from_fn(|n| u64::from_be_bytes(words[n + 1]));
        Ok(Flow::Next)
    }),
    row(0xe349, "stgsc", RXYa, GUARDED_STORAGE, |c, op| {
        check(c)?;
        let addr = c.ea(op);
        let [designation, mask, list] = c.guarded_storage;
        let block = [0, designation, mask, list].map(u64::to_be_bytes);
        c.write_bytes(addr, block.as_flattened())?;
        Ok(c.stored())
    }),
];

/// CR2 bit 59: guarded-storage-enablement control.
const ENABLEMENT: u64 = 0x10;

fn enabled(c: &Cpu) -> bool {
    c.crs[2] & ENABLEMENT != 0
}

fn check(c: &mut Cpu) -> Result<(), Trap> {
    if enabled(c) { Ok(()) } else { Err(c.program(program::SPECIAL_OPERATION)) }
}

/// Bit 7 of the cause indications of an event.
#[derive(Clone, Copy)]
enum Cause {
    LoadGuarded = 0,
    LoadLogicalAndShift = 1,
}

/// Loads a pointer, unless it points into a guarded section.
#[inline]
fn guarded(c: &mut Cpu, op: &Op, value: u64, cause: Cause) -> Step {
    if enabled(c) && is_guarded(c.guarded_storage, value & c.addr_mask) {
        return event(c, op, value, cause);
    }
    c.set_g(op.r1, value);
    Ok(Flow::Next)
}

/// Whether an address is in one of the 64 sections of the guarded area and its bit of the section mask is one. The
/// designation has the area's origin and, in its last six bits, the power of two that is its size.
fn is_guarded([designation, mask, _]: [u64; 3], addr: u64) -> bool {
    let size = designation & 63;
    (25..=56).contains(&size)
        && (addr ^ designation) >> size == 0
        && mask << (addr >> (size - 6) & 63) & 1 << 63 != 0
}

/// Guarded-storage event: fills the parameter list and goes on at the handler that the list names. The general
/// registers stay as they are.
#[cold]
fn event(c: &mut Cpu, op: &Op, value: u64, cause: Cause) -> Step {
    let list = c.guarded_storage[2] & !7 & c.addr_mask;
    let (operand, here, mask) = (c.ea(op), c.here(op), c.psw.mask);
    let addressing = (mask >> 31 & 3) as u8;
    let (translated, space) = (mask & Psw::DAT != 0, (mask & Psw::ASC) >> 46);
    let access = match (translated, space) {
        (false, _) => 0,
        (true, 1) => 0x50 | op.b,
        (true, space) => 0x40 | (space as u8) << 4,
    };
    let mut tail = [0; 32];
    // The instruction, its operand, the intermediate result, and where to return: to the instruction.
    for (to, word) in tail.as_chunks_mut::<8>().0.iter_mut().zip([here, operand, value, here]) {
        *to = word.to_be_bytes();
    }
    c.probe_write(list, 8)?;
    let handler = c.read_u64(c.wrap(list, 8))?;
    let rest = c.wrap(list, 16);
    c.probe_write(rest, 32)?;
    c.write_bytes(list, &[0, addressing, cause as u8, access, 0, 0, 0, 0])?;
    c.write_bytes(rest, &tail)?;
    Ok(c.jump(handler))
}
