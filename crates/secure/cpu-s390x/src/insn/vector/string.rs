//! String instructions (SA22-7832, chapter 23).

use super::lane::{Lane, first_zero};
use super::{enabled, m20, m24, m32, require};
use crate::cpu::Cpu;
use crate::insn::fac::{VECTOR, VECTOR_ENHANCEMENTS_2};
use crate::insn::row;
use crate::op::{Entry, Flow, Format::*, Op, Step, Trap};
use std::cmp::Ordering;

// Flags in M5 or M6.
/// The result is inverted.
const INVERT: u32 = 8;
/// The result is a mask for each element, not an index.
const RESULT_TYPE: u32 = 4;
/// Zero elements end the string.
const ZERO_SEARCH: u32 = 2;
/// The condition code is set.
const CONDITION_CODE: u32 = 1;

pub(crate) const TABLE: &[Entry] = &[
    row(0xe782, "vfae", VRRb, VECTOR, |c, op| {
        enabled(c)?;
        let set = c.v(op.x);
        by_size!(c, m32(op), u b h f, T => {
            let set = T::split(set);
            search(c, op, m24(op), |x: T| set.contains(&x))
        })
    }),
    row(0xe78a, "vstrc", VRRd, VECTOR, |c, op| {
        enabled(c)?;
        let (ranges, controls) = (c.v(op.x), c.v(op.b2));
        by_size!(c, m20(op), u b h f, T => {
            let (ranges, controls) = (T::split(ranges), T::split(controls));
            let holds = |n: usize, x: T| {
                let control = controls[n] >> (T::BITS - 3);
                let bit = match x.cmp(&ranges[n]) {
                    Ordering::Equal => 4,
                    Ordering::Less => 2,
                    Ordering::Greater => 1,
                };
                control & bit != 0
            };
            let pairs = ranges.len() / 2;
            search(c, op, m24(op), |x: T| (0..pairs).any(|n| holds(2 * n, x) && holds(2 * n + 1, x)))
        })
    }),
    row(0xe780, "vfee", VRRb, VECTOR, |c, op| {
        let (size, end) = find(c, op)?;
        let equal = first_zero(c.v(op.r2) ^ c.v(op.x), size);
        set_index(c, op, equal.min(end));
        if m24(op) & CONDITION_CODE != 0 {
            c.cc = found_or_zero(equal, end);
        }
        Ok(Flow::Next)
    }),
    row(0xe781, "vfene", VRRb, VECTOR, |c, op| {
        let (size, end) = find(c, op)?;
        let (a, b) = (c.v(op.r2), c.v(op.x));
        let unequal = (a ^ b).leading_zeros() >> (3 + size) << size;
        set_index(c, op, unequal.min(end));
        if m24(op) & CONDITION_CODE != 0 {
            // The first unequal elements decide, and what is before them is equal.
            c.cc = match a.cmp(&b) {
                _ if end < unequal => 0,
                Ordering::Less => 1,
                Ordering::Greater => 2,
                Ordering::Equal => 3,
            };
        }
        Ok(Flow::Next)
    }),
    row(0xe75c, "vistr", VRRa, VECTOR, |c, op| {
        enabled(c)?;
        let (a, size) = (c.v(op.r2), m32(op));
        require(c, size < 3 && m24(op) & !CONDITION_CODE == 0)?;
        let end = first_zero(a, size);
        c.set_v(op.r1, a & !u128::MAX.checked_shr(8 * end).unwrap_or(0));
        if m24(op) & CONDITION_CODE != 0 {
            c.cc = if end < 16 { 0 } else { 3 };
        }
        Ok(Flow::Next)
    }),
    row(0xe78b, "vstrs", VRRd, VECTOR_ENHANCEMENTS_2, |c, op| {
        enabled(c)?;
        require(c, m24(op) & !ZERO_SEARCH == 0)?;
        by_size!(c, m20(op), u b h f, T => substring::<T>(c, op))
    }),
];

/// The element size of VFEE and VFENE, and where V2 ends: at its first zero element, if that is searched for.
#[inline(always)]
fn find(c: &mut Cpu, op: &Op) -> Result<(u32, u32), Trap> {
    enabled(c)?;
    let (size, flags) = (m32(op), m24(op));
    require(c, size < 3 && flags & !(ZERO_SEARCH | CONDITION_CODE) == 0)?;
    Ok((size, string_end(c.v(op.r2), size, flags)))
}

/// The index in bytes of the first zero element, if `flags` ask for it and there is one, else 16.
#[inline(always)]
fn string_end(v: u128, size: u32, flags: u32) -> u32 {
    if flags & ZERO_SEARCH != 0 { first_zero(v, size) } else { 16 }
}

/// An index is in byte 7; the others are zeros.
fn set_index(c: &mut Cpu, op: &Op, index: u32) {
    c.set_v(op.r1, u128::from(index) << 64);
}

/// Condition code of a search: neither was found, no zero, the element before the zero, or not before it.
fn found_or_zero(found: u32, zero: u32) -> u8 {
    match (found, zero) {
        (16, 16) => 3,
        (_, 16) => 1,
        _ if found < zero => 2,
        _ => 0,
    }
}

/// Searches V2 for elements for which `matches` is true (VFAE, VSTRC).
#[inline(always)]
fn search<T: Lane>(c: &mut Cpu, op: &Op, flags: u32, matches: impl Fn(T) -> bool) -> Step {
    let (text, size) = (c.v(op.r2), size_of::<T>() as u32);
    let end = string_end(text, size.ilog2(), flags);
    let elements = T::split(text);
    let mut hits = elements.as_ref().iter().map(|x| matches(*x) != (flags & INVERT != 0));
    let found = if flags & RESULT_TYPE != 0 {
        let ones = u128::MAX >> (128 - 8 * size);
        let mask = hits.fold(0, |mask, hit| mask << (8 * size) | if hit { ones } else { 0 });
        c.set_v(op.r1, mask);
        mask.leading_zeros() / 8
    } else {
        let found = hits.position(|hit| hit).map_or(16, |n| n as u32 * size);
        set_index(c, op, found.min(end));
        found
    };
    if flags & CONDITION_CODE != 0 {
        c.cc = found_or_zero(found, end);
    }
    Ok(Flow::Next)
}

/// Searches V2 for as many bytes of V3 as byte 7 of V4 says. A match that the end of the register cuts off is a partial
/// one; where zeros end strings, they end both.
fn substring<T: Lane>(c: &mut Cpu, op: &Op) -> Step {
    let size = size_of::<T>();
    let (text, wanted, length) = (c.v(op.r2), c.v(op.x), (c.v(op.b2) >> 64) as u8);
    let end = |v| string_end(v, size.ilog2(), m24(op)) as usize;
    let (text_end, wanted_end) = (end(text), end(wanted));
    let (text, wanted) = (T::split(text), T::split(wanted));
    let text = &text.as_ref()[..text_end / size];
    let wanted = &wanted.as_ref()[..wanted_end.min(usize::from(length)) / size];
    let full = (0..=text.len()).find(|n| text[*n..].starts_with(wanted));
    let partial = || (0..text.len()).find(|n| text_end == 16 && wanted.starts_with(&text[*n..]));
    let (code, index) = match full.map(|n| (2, n)).or_else(|| partial().map(|n| (3, n))) {
        Some(found) => found,
        None => (u8::from(text_end < 16), 16 / size),
    };
    set_index(c, op, (index * size) as u32);
    c.cc = code;
    Ok(Flow::Next)
}
