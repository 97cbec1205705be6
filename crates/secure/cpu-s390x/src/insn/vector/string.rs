//! String instructions (SA22-7832, chapter 23).

use super::lane::Lane;
use super::{enabled, m20, m24, m32, require};
use crate::cpu::Cpu;
use crate::insn::fac::{VECTOR, VECTOR_ENHANCEMENTS_2};
use crate::insn::row;
use crate::op::{Entry, Flow, Format::*, Op, Step};
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
        enabled(c)?;
        let (a, b) = (c.v(op.r2), c.v(op.x));
        require(c, m24(op) & !(ZERO_SEARCH | CONDITION_CODE) == 0)?;
        let (equal, zero) =
            by_size!(c, m32(op), u b h f, T => (first2::<T>(a, b, |x, y| x == y), zero::<T>(a)));
        let zero = if m24(op) & ZERO_SEARCH != 0 { zero } else { 16 };
        set_index(c, op, equal.min(zero));
        if m24(op) & CONDITION_CODE != 0 {
            c.cc = found_or_zero(equal, zero);
        }
        Ok(Flow::Next)
    }),
    row(0xe781, "vfene", VRRb, VECTOR, |c, op| {
        enabled(c)?;
        let (a, b) = (c.v(op.r2), c.v(op.x));
        require(c, m24(op) & !(ZERO_SEARCH | CONDITION_CODE) == 0)?;
        let (unequal, zero) =
            by_size!(c, m32(op), u b h f, T => (first2::<T>(a, b, |x, y| x != y), zero::<T>(a)));
        let zero = if m24(op) & ZERO_SEARCH != 0 { zero } else { 16 };
        set_index(c, op, unequal.min(zero));
        if m24(op) & CONDITION_CODE != 0 {
            // The first unequal bytes decide, as elements are compared as unsigned numbers.
            c.cc = match () {
                () if zero < unequal => 0,
                () if unequal == 16 => 3,
                () if a < b => 1,
                () => 2,
            };
        }
        Ok(Flow::Next)
    }),
    row(0xe75c, "vistr", VRRa, VECTOR, |c, op| {
        enabled(c)?;
        let a = c.v(op.r2);
        require(c, m24(op) & !CONDITION_CODE == 0)?;
        let end = by_size!(c, m32(op), u b h f, T => zero::<T>(a));
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

/// The index of the first element, in bytes, for which `f` is true of both; 16 if there is none.
#[inline(always)]
fn first2<T: Lane>(a: u128, b: u128, f: impl Fn(T, T) -> bool) -> u32 {
    let (a, b) = (T::split(a), T::split(b));
    let found = a.as_ref().iter().zip(b.as_ref()).position(|(x, y)| f(*x, *y));
    found.map_or(16, |n| (n * size_of::<T>()) as u32)
}

/// The index of the first zero element, in bytes; 16 if there is none.
#[inline(always)]
fn zero<T: Lane>(a: u128) -> u32 {
    first2::<T>(a, 0, |x, y| x == y)
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
    let text = c.v(op.r2);
    let matches = |x| matches(x) != (flags & INVERT != 0);
    let found = first2::<T>(text, 0, |x, _| matches(x));
    let zero = if flags & ZERO_SEARCH != 0 { zero::<T>(text) } else { 16 };
    if flags & RESULT_TYPE != 0 {
        let bits = 8 * size_of::<T>();
        let ones = u128::MAX >> (128 - bits);
        let lanes = T::split(text);
        let mask = lanes.as_ref().iter().fold(0, |mask, x| mask << bits | if matches(*x) { ones } else { 0 });
        c.set_v(op.r1, mask);
    } else {
        set_index(c, op, found.min(zero));
    }
    if flags & CONDITION_CODE != 0 {
        c.cc = found_or_zero(found, zero);
    }
    Ok(Flow::Next)
}

/// Searches V2 for as many bytes of V3 as byte 7 of V4 says. A match that the end of the register cuts off is a partial
/// one; where zeros end strings, they end both.
fn substring<T: Lane>(c: &mut Cpu, op: &Op) -> Step {
    let size = size_of::<T>();
    let (text, wanted, length) = (c.v(op.r2), c.v(op.x), (c.v(op.b2) >> 64) as u8);
    let end = |v| if m24(op) & ZERO_SEARCH != 0 { zero::<T>(v) as usize } else { 16 };
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
