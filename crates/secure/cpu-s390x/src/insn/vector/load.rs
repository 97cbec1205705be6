//! Loads, stores and moves between vectors, storage and general registers (SA22-7832, chapter 21).

use super::lane::{get, map1, put, replicate};
use super::{enabled, m32, require};
use crate::cpu::Cpu;
use crate::insn::fac::{VECTOR, VECTOR_ENHANCEMENTS_2};
use crate::insn::row;
use crate::op::{Entry, Flow, Format::*, Op, Step, Trap};

/// A facility that a mask's value depends on.
const LEFT_ALIGNED: u16 = crate::insn::fac::VECTOR_ENHANCEMENTS_1;

pub(crate) const TABLE: &[Entry] = &[
    row(0xe706, "vl", VRX, VECTOR, |c, op| {
        enabled(c)?;
        let addr = c.ea(op);
        let value = c.read_u128(addr)?;
        c.set_v(op.r1, value);
        Ok(Flow::Next)
    }),
    row(0xe70e, "vst", VRX, VECTOR, |c, op| {
        enabled(c)?;
        let addr = c.ea(op);
        c.write_u128(addr, c.v(op.r1))?;
        Ok(c.stored())
    }),
    row(0xe756, "vlr", VRRa, VECTOR, |c, op| {
        enabled(c)?;
        c.set_v(op.r1, c.v(op.r2));
        Ok(Flow::Next)
    }),
    // Several registers
    row(0xe736, "vlm", VRSa, VECTOR, |c, op| {
        enabled(c)?;
        let mut bytes = [0; 256];
        let bytes = &mut bytes[..16 * multiple(c, op)?];
        let addr = c.ea(op);
        c.read_bytes(addr, bytes)?;
        let (values, _) = bytes.as_chunks();
        for (r, value) in (op.r1..).zip(values) {
            c.set_v(r, u128::from_be_bytes(*value));
        }
        Ok(Flow::Next)
    }),
    row(0xe73e, "vstm", VRSa, VECTOR, |c, op| {
        enabled(c)?;
        let mut bytes = [0; 256];
        let bytes = &mut bytes[..16 * multiple(c, op)?];
        let (values, _) = bytes.as_chunks_mut();
        for (r, value) in (op.r1..).zip(values) {
            *value = c.v(r).to_be_bytes();
        }
        let addr = c.ea(op);
        c.write_bytes(addr, bytes)?;
        Ok(c.stored())
    }),
    // Single elements
    row(0xe700, "vleb", VRX, VECTOR, element_from_storage::<0, false>),
    row(0xe701, "vleh", VRX, VECTOR, element_from_storage::<1, false>),
    row(0xe703, "vlef", VRX, VECTOR, element_from_storage::<2, false>),
    row(0xe702, "vleg", VRX, VECTOR, element_from_storage::<3, false>),
    row(0xe601, "vlebrh", VRX, VECTOR_ENHANCEMENTS_2, element_from_storage::<1, true>),
    row(0xe603, "vlebrf", VRX, VECTOR_ENHANCEMENTS_2, element_from_storage::<2, true>),
    row(0xe602, "vlebrg", VRX, VECTOR_ENHANCEMENTS_2, element_from_storage::<3, true>),
    row(0xe708, "vsteb", VRX, VECTOR, element_to_storage::<0, false>),
    row(0xe709, "vsteh", VRX, VECTOR, element_to_storage::<1, false>),
    row(0xe70b, "vstef", VRX, VECTOR, element_to_storage::<2, false>),
    row(0xe70a, "vsteg", VRX, VECTOR, element_to_storage::<3, false>),
    row(0xe609, "vstebrh", VRX, VECTOR_ENHANCEMENTS_2, element_to_storage::<1, true>),
    row(0xe60b, "vstebrf", VRX, VECTOR_ENHANCEMENTS_2, element_to_storage::<2, true>),
    row(0xe60a, "vstebrg", VRX, VECTOR_ENHANCEMENTS_2, element_to_storage::<3, true>),
    row(0xe713, "vgef", VRV, VECTOR, gather::<2>),
    row(0xe712, "vgeg", VRV, VECTOR, gather::<3>),
    row(0xe71b, "vscef", VRV, VECTOR, scatter::<2>),
    row(0xe71a, "vsceg", VRV, VECTOR, scatter::<3>),
    row(0xe704, "vllez", VRX, VECTOR, load_and_zero::<0, false>),
    row(0xe604, "vllebrz", VRX, VECTOR_ENHANCEMENTS_2, load_and_zero::<1, true>),
    row(0xe705, "vlrep", VRX, VECTOR, load_and_replicate::<0, false>),
    row(0xe605, "vlbrrep", VRX, VECTOR_ENHANCEMENTS_2, load_and_replicate::<1, true>),
    // Reversed bytes or elements
    row(0xe606, "vlbr", VRX, VECTOR_ENHANCEMENTS_2, |c, op| load_as(c, op, reverse_bytes)),
    row(0xe607, "vler", VRX, VECTOR_ENHANCEMENTS_2, |c, op| load_as(c, op, reverse_elements)),
    row(0xe60e, "vstbr", VRX, VECTOR_ENHANCEMENTS_2, |c, op| store_as(c, op, reverse_bytes)),
    row(0xe60f, "vster", VRX, VECTOR_ENHANCEMENTS_2, |c, op| store_as(c, op, reverse_elements)),
    // Parts whose length is known at execution only
    row(0xe707, "vlbb", VRX, VECTOR, |c, op| {
        enabled(c)?;
        let addr = c.ea(op);
        let len = to_boundary(c, op, addr)?;
        let value = load_left(c, addr, len)?;
        c.set_v(op.r1, value);
        Ok(Flow::Next)
    }),
    row(0xe727, "lcbb", RXE, VECTOR, |c, op| {
        // The mask stands where RXE has none; control register 0 does not matter.
        let addr = c.ea(op);
        let len = to_boundary(c, op, addr)?;
        c.set_w(op.r1, len as u32);
        c.cc = if len == 16 { 0 } else { 3 };
        Ok(Flow::Next)
    }),
    row(0xe737, "vll", VRSb, VECTOR, |c, op| {
        enabled(c)?;
        let addr = c.ea(op);
        let value = load_left(c, addr, highest_index(c, op) + 1)?;
        c.set_v(op.r1, value);
        Ok(Flow::Next)
    }),
    row(0xe73f, "vstl", VRSb, VECTOR, |c, op| {
        enabled(c)?;
        let addr = c.ea(op);
        let bytes = c.v(op.r1).to_be_bytes();
        c.write_bytes(addr, &bytes[..=highest_index(c, op)])?;
        Ok(c.stored())
    }),
    // General registers; an index beyond the last element is taken modulo the number of elements.
    row(0xe721, "vlgv", VRSc, VECTOR, |c, op| {
        enabled(c)?;
        let size = m32(op);
        require(c, size < 4)?;
        c.set_g(op.r1, get(c.v(op.r2), size, index(c, op, size)) as u64);
        Ok(Flow::Next)
    }),
    row(0xe722, "vlvg", VRSb, VECTOR, |c, op| {
        enabled(c)?;
        let size = m32(op);
        require(c, size < 4)?;
        c.set_v(op.r1, put(c.v(op.r1), size, index(c, op, size), u128::from(c.g(op.r2))));
        Ok(Flow::Next)
    }),
    row(0xe762, "vlvgp", VRRf, VECTOR, |c, op| {
        enabled(c)?;
        c.set_v(op.r1, u128::from(c.g(op.r2)) << 64 | u128::from(c.g(op.x)));
        Ok(Flow::Next)
    }),
    // Immediates
    row(0xe740, "vleib", VRIa, VECTOR, element_from_immediate::<0>),
    row(0xe741, "vleih", VRIa, VECTOR, element_from_immediate::<1>),
    row(0xe743, "vleif", VRIa, VECTOR, element_from_immediate::<2>),
    row(0xe742, "vleig", VRIa, VECTOR, element_from_immediate::<3>),
];

/// Registers from V1 to V3: 16 at most, and none before V1.
fn multiple(c: &mut Cpu, op: &Op) -> Result<usize, Trap> {
    let more = op.r2.wrapping_sub(op.r1);
    require(c, more < 16)?;
    Ok(usize::from(more) + 1)
}

/// Fetches `1 << size` bytes; `reversed` takes them in the other order.
#[inline(always)]
fn fetch(c: &mut Cpu, addr: u64, size: u32, reversed: bool) -> Result<u128, Trap> {
    let value = match size {
        0 => u128::from(c.read_u8(addr)?),
        1 => u128::from(c.read_u16(addr)?),
        2 => u128::from(c.read_u32(addr)?),
        _ => u128::from(c.read_u64(addr)?),
    };
    Ok(if reversed { value.swap_bytes() >> (128 - (8 << size)) } else { value })
}

#[inline(always)]
fn store(c: &mut Cpu, addr: u64, size: u32, value: u128, reversed: bool) -> Step {
    let value = if reversed { value.swap_bytes() >> (128 - (8 << size)) } else { value };
    match size {
        0 => c.write_u8(addr, value as u8),
        1 => c.write_u16(addr, value as u16),
        2 => c.write_u32(addr, value as u32),
        _ => c.write_u64(addr, value as u64),
    }?;
    Ok(c.stored())
}

/// The index of an element in M3.
#[inline(always)]
fn m3_index(c: &mut Cpu, op: &Op, size: u32) -> Result<u32, Trap> {
    let index = m32(op);
    require(c, index < 16 >> size)?;
    Ok(index)
}

fn element_from_storage<const SIZE: u32, const REVERSED: bool>(c: &mut Cpu, op: &Op) -> Step {
    enabled(c)?;
    let index = m3_index(c, op, SIZE)?;
    let addr = c.ea(op);
    let value = fetch(c, addr, SIZE, REVERSED)?;
    c.set_v(op.r1, put(c.v(op.r1), SIZE, index, value));
    Ok(Flow::Next)
}

fn element_to_storage<const SIZE: u32, const REVERSED: bool>(c: &mut Cpu, op: &Op) -> Step {
    enabled(c)?;
    let index = m3_index(c, op, SIZE)?;
    let addr = c.ea(op);
    store(c, addr, SIZE, get(c.v(op.r1), SIZE, index), REVERSED)
}

fn element_from_immediate<const SIZE: u32>(c: &mut Cpu, op: &Op) -> Step {
    enabled(c)?;
    let index = m3_index(c, op, SIZE)?;
    c.set_v(op.r1, put(c.v(op.r1), SIZE, index, op.imm as u128));
    Ok(Flow::Next)
}

/// Base, displacement and, for an index, the element of V2 that M3 selects.
#[inline(always)]
fn indexed(c: &mut Cpu, op: &Op, size: u32) -> Result<(u64, u32), Trap> {
    enabled(c)?;
    let index = m3_index(c, op, size)?;
    let offset = get(c.v(op.r2), size, index) as u64;
    Ok((c.ea(op).wrapping_add(offset) & c.addr_mask, index))
}

fn gather<const SIZE: u32>(c: &mut Cpu, op: &Op) -> Step {
    let (addr, index) = indexed(c, op, SIZE)?;
    let value = fetch(c, addr, SIZE, false)?;
    c.set_v(op.r1, put(c.v(op.r1), SIZE, index, value));
    Ok(Flow::Next)
}

fn scatter<const SIZE: u32>(c: &mut Cpu, op: &Op) -> Step {
    let (addr, index) = indexed(c, op, SIZE)?;
    store(c, addr, SIZE, get(c.v(op.r1), SIZE, index), false)
}

/// One element, to the right in the left doubleword (code 6: a word, to the left), and zeros.
fn load_and_zero<const LEAST: u32, const REVERSED: bool>(c: &mut Cpu, op: &Op) -> Step {
    enabled(c)?;
    let code = m32(op);
    let left = code == 6 && (REVERSED || c.facility(LEFT_ALIGNED));
    require(c, left || (LEAST..4).contains(&code))?;
    let addr = c.ea(op);
    let value = fetch(c, addr, if left { 2 } else { code }, REVERSED)?;
    c.set_v(op.r1, value << if left { 96 } else { 64 });
    Ok(Flow::Next)
}

fn load_and_replicate<const LEAST: u32, const REVERSED: bool>(c: &mut Cpu, op: &Op) -> Step {
    enabled(c)?;
    let size = m32(op);
    require(c, (LEAST..4).contains(&size))?;
    let addr = c.ea(op);
    let value = fetch(c, addr, size, REVERSED)?;
    c.set_v(op.r1, replicate(size, value));
    Ok(Flow::Next)
}

/// What a reversing instruction makes of a register; nothing for a size that it does not have.
type Reverse = fn(&mut Cpu, &Op, u128) -> Result<u128, Trap>;

fn reverse_bytes(c: &mut Cpu, op: &Op, v: u128) -> Result<u128, Trap> {
    Ok(by_size!(c, m32(op), u h f g q, T => map1(v, T::swap_bytes)))
}

fn reverse_elements(c: &mut Cpu, op: &Op, v: u128) -> Result<u128, Trap> {
    Ok(by_size!(c, m32(op), u h f g, T => map1(v.swap_bytes(), T::swap_bytes)))
}

#[inline(always)]
fn load_as(c: &mut Cpu, op: &Op, reverse: Reverse) -> Step {
    enabled(c)?;
    reverse(c, op, 0)?;
    let addr = c.ea(op);
    let value = c.read_u128(addr)?;
    let value = reverse(c, op, value)?;
    c.set_v(op.r1, value);
    Ok(Flow::Next)
}

#[inline(always)]
fn store_as(c: &mut Cpu, op: &Op, reverse: Reverse) -> Step {
    enabled(c)?;
    let value = reverse(c, op, c.v(op.r1))?;
    let addr = c.ea(op);
    c.write_u128(addr, value)?;
    Ok(c.stored())
}

/// Bytes from `addr` to the boundary that M3 selects, at most 16.
fn to_boundary(c: &mut Cpu, op: &Op, addr: u64) -> Result<usize, Trap> {
    // LCBB is decoded as RXE, which has the mask alone in `aux`.
    let code = op.aux & 15;
    require(c, code < 7)?;
    let block = 64_u64 << code;
    Ok((block - (addr & (block - 1))).min(16) as usize)
}

/// `len` bytes at the left of a register; the others are zeros.
#[inline(always)]
fn load_left(c: &mut Cpu, addr: u64, len: usize) -> Result<u128, Trap> {
    if len == 16 {
        return c.read_u128(addr);
    }
    let mut bytes = [0; 16];
    c.read_bytes(addr, &mut bytes[..len])?;
    Ok(u128::from_be_bytes(bytes))
}

/// The index of the last byte, in bits 32-63 of a general register.
#[inline(always)]
fn highest_index(c: &Cpu, op: &Op) -> usize {
    c.w(op.r2).min(15) as usize
}

/// The index of an element in the second-operand address.
#[inline(always)]
fn index(c: &Cpu, op: &Op, size: u32) -> u32 {
    c.ea(op) as u32 & ((16 >> size) - 1)
}
