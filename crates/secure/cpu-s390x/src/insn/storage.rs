//! Storage-to-storage instructions: moves, comparisons, logical operations, searching, translation, checksum.
//!
//! Interruptible ones work in units of at most [`UNIT`] bytes: those with CC 3 return to the program, the
//! others update their registers and are executed again.

use super::arith::even;
use super::compare::order;
use super::fac::{MISC_3, PARSING_ENHANCEMENT, Z};
use super::row;
use crate::cpu::Cpu;
use crate::op::{Entry, Flow, Format::*, Op, Step, Trap};
use cloister_arch::s390x::program;
use std::cmp::Ordering;

/// Bytes that one execution of an interruptible instruction handles.
const UNIT: u64 = 8192;

/// Rows for storage operands.
pub(crate) const TABLE: &[Entry] = &[
    row(0xd200, "mvc", SSa, Z, |c, op| {
        let (dst, src, len) = operands(c, op);
        c.copy(dst, src, len)?;
        Ok(c.stored())
    }),
    row(0xe500 | 0x0a, "mvcrl", SSE, MISC_3, |c, op| {
        let (dst, src, _) = operands(c, op);
        let len = (c.w(0) & 0xff) as usize + 1;
        c.probe_read(src, len as u64)?;
        c.probe_write(dst, len as u64)?;
        // As if byte by byte from the right: what is stored may be read again further left.
        for i in (0..len).rev() {
            let byte = c.read_u8(c.wrap(src, i))?;
            c.write_u8(c.wrap(dst, i), byte)?;
        }
        Ok(c.stored())
    }),
    row(0xe800, "mvcin", SSa, Z, |c, op| {
        let (dst, src, len) = operands(c, op);
        let start = src.wrapping_sub(len as u64 - 1) & c.addr_mask;
        let mut bytes = [0; 256];
        c.read_bytes(start, &mut bytes[..len])?;
        bytes[..len].reverse();
        c.write_bytes(dst, &bytes[..len])?;
        Ok(c.stored())
    }),
    row(0xd100, "mvn", SSa, Z, |c, op| combine(c, op, |a, b| a & 0xf0 | b & 0x0f, false)),
    row(0xd300, "mvz", SSa, Z, |c, op| combine(c, op, |a, b| a & 0x0f | b & 0xf0, false)),
    row(0xd400, "nc", SSa, Z, |c, op| combine(c, op, |a, b| a & b, true)),
    row(0xd600, "oc", SSa, Z, |c, op| combine(c, op, |a, b| a | b, true)),
    row(0xd700, "xc", SSa, Z, |c, op| {
        let (dst, src, len) = operands(c, op);
        if dst == src {
            // The idiom that clears storage.
            c.probe_read(dst, len as u64)?;
            c.fill(dst, len, 0)?;
            c.cc = 0;
            return Ok(c.stored());
        }
        combine(c, op, |a, b| a ^ b, true)
    }),
    row(0xd500, "clc", SSa, Z, |c, op| {
        let (first, second, len) = operands(c, op);
        c.cc = match c.compare(first, second, len)? {
            None => 0,
            Some((_, Ordering::Less)) => 1,
            Some(_) => 2,
        };
        Ok(Flow::Next)
    }),
    row(0x0e00, "mvcl", RR, Z, mvcl),
    row(0x0f00, "clcl", RR, Z, clcl),
    row(0xa800, "mvcle", RSa, Z, |c, op| move_extended(c, op, 1)),
    row(0xa900, "clcle", RSa, Z, |c, op| compare_extended(c, op, 1)),
    row(0xeb8e, "mvclu", RSYa, Z, |c, op| move_extended(c, op, 2)),
    row(0xeb8f, "clclu", RSYa, Z, |c, op| compare_extended(c, op, 2)),
    row(0xb255, "mvst", RRE, Z, mvst),
    row(0xb25d, "clst", RRE, Z, clst),
    row(0xb25e, "srst", RRE, Z, |c, op| srst(c, op, 1)),
    row(0xb9be, "srstu", RRE, 22, |c, op| srst(c, op, 2)),
    row(0xb257, "cuse", RRE, Z, cuse),
    row(0xb241, "cksm", RRE, Z, cksm),
    row(0xdc00, "tr", SSa, Z, |c, op| {
        let (dst, table, len) = operands(c, op);
        c.probe_write(dst, len as u64)?;
        // The table may overlap the operand and then changes. All that can be raised comes before that.
        let mut bytes = [0; 256];
        c.read_bytes(dst, &mut bytes[..len])?;
        for &byte in &bytes[..len] {
            c.read_u8(c.wrap(table, usize::from(byte)))?;
        }
        for (i, &byte) in bytes[..len].iter().enumerate() {
            let function = c.read_u8(c.wrap(table, usize::from(byte)))?;
            c.write_u8(c.wrap(dst, i), function)?;
        }
        Ok(c.stored())
    }),
    row(0xdd00, "trt", SSa, Z, |c, op| trt(c, op, false)),
    row(0xd000, "trtr", SSa, 22, |c, op| trt(c, op, true)),
    row(0xb2a5, "tre", RRE, Z, tre),
    row(0xb993, "troo", RRFc, Z, |c, op| translate(c, op, 1, 1)),
    row(0xb992, "trot", RRFc, Z, |c, op| translate(c, op, 1, 2)),
    row(0xb991, "trto", RRFc, Z, |c, op| translate(c, op, 2, 1)),
    row(0xb990, "trtt", RRFc, Z, |c, op| translate(c, op, 2, 2)),
    row(0xb9bf, "trte", RRFc, PARSING_ENHANCEMENT, |c, op| trte(c, op, false)),
    row(0xb9bd, "trtre", RRFc, PARSING_ENHANCEMENT, |c, op| trte(c, op, true)),
];

/// First and second operand address and the length of an SS-a instruction.
#[inline(always)]
fn operands(c: &Cpu, op: &Op) -> (u64, u64, usize) {
    let first = c.base(op.b).wrapping_add_signed(op.imm) & c.addr_mask;
    let second = c.base(op.b2).wrapping_add(u64::from(op.aux & 0xfff)) & c.addr_mask;
    (first, second, (op.aux >> 16 & 0xff) as usize + 1)
}

/// `first = f(first, second)` byte by byte from the left; overlapping operands see earlier results.
fn combine(c: &mut Cpu, op: &Op, f: fn(u8, u8) -> u8, set_cc: bool) -> Step {
    let (dst, src, len) = operands(c, op);
    let (mut a, mut b) = ([0; 256], [0; 256]);
    c.read_bytes(src, &mut b[..len])?;
    c.read_bytes(dst, &mut a[..len])?;
    let distance = usize::try_from(dst.wrapping_sub(src) & c.addr_mask).unwrap_or(usize::MAX);
    let mut any = 0;
    for i in 0..len {
        let second = if distance != 0 && i >= distance { a[i - distance] } else { b[i] };
        a[i] = f(a[i], second);
        any |= a[i];
    }
    c.write_bytes(dst, &a[..len])?;
    if set_cc {
        c.cc = u8::from(any != 0);
    }
    Ok(c.stored())
}

/// Address register of an interruptible instruction.
#[inline(always)]
pub(crate) fn address(c: &Cpu, r: u8) -> u64 {
    c.g(r) & c.addr_mask
}

#[inline(always)]
pub(crate) fn set_address(c: &mut Cpu, r: u8, addr: u64) {
    if c.addr_mask == u64::MAX {
        c.set_g(r, addr);
    } else {
        c.set_w(r, (addr & c.addr_mask) as u32);
    }
}

/// Length register: 64 bits in the 64-bit mode, else 32.
#[inline(always)]
pub(super) fn length(c: &Cpu, r: u8) -> u64 {
    if c.addr_mask == u64::MAX { c.g(r) } else { u64::from(c.w(r)) }
}

#[inline(always)]
pub(super) fn set_length(c: &mut Cpu, r: u8, len: u64) {
    if c.addr_mask == u64::MAX {
        c.set_g(r, len);
    } else {
        c.set_w(r, len as u32);
    }
}

/// Both register operands must be even.
pub(super) fn pairs(c: &mut Cpu, op: &Op) -> Result<(), Trap> {
    if (op.r1 | op.r2) & 1 != 0 { Err(c.program(program::SPECIFICATION)) } else { Ok(()) }
}

/// Bytes up to the end of the page of `addr`.
pub(super) fn to_page_end(addr: u64) -> u64 {
    4096 - (addr & 4095)
}

/// MOVE LONG: 24-bit lengths, padding in the second length register.
fn mvcl(c: &mut Cpu, op: &Op) -> Step {
    pairs(c, op)?;
    let (mut dst, mut src) = (address(c, op.r1), address(c, op.r2));
    let mut dst_len = u64::from(c.w(op.r1 + 1) & 0xff_ffff);
    let mut src_len = u64::from(c.w(op.r2 + 1) & 0xff_ffff);
    let pad = (c.w(op.r2 + 1) >> 24) as u8;
    let both = dst_len.min(src_len);
    let distance = dst.wrapping_sub(src) & c.addr_mask;
    if both > 1 && distance != 0 && distance < both {
        save_long(c, op, (dst, dst_len), (src, src_len));
        c.cc = 3;
        return Ok(Flow::Next);
    }
    let cc = order(dst_len, src_len);
    while dst_len > 0 {
        let n = if src_len > 0 {
            let n = dst_len.min(src_len).min(to_page_end(dst)).min(to_page_end(src));
            c.copy(dst, src, n as usize)?;
            src = src.wrapping_add(n) & c.addr_mask;
            src_len -= n;
            n
        } else {
            let n = dst_len.min(to_page_end(dst));
            c.fill(dst, n as usize, pad)?;
            n
        };
        dst = dst.wrapping_add(n) & c.addr_mask;
        dst_len -= n;
        save_long(c, op, (dst, dst_len), (src, src_len));
    }
    save_long(c, op, (dst, dst_len), (src, src_len));
    c.cc = cc;
    Ok(c.stored())
}

/// Writes back addresses and 24-bit lengths; the padding byte and bits 0-31 of the length registers stay.
fn save_long(c: &mut Cpu, op: &Op, first: (u64, u64), second: (u64, u64)) {
    set_address(c, op.r1, first.0);
    set_address(c, op.r2, second.0);
    for (r, len) in [(op.r1 + 1, first.1), (op.r2 + 1, second.1)] {
        c.set_w(r, c.w(r) & 0xff00_0000 | len as u32);
    }
}

/// COMPARE LOGICAL LONG.
fn clcl(c: &mut Cpu, op: &Op) -> Step {
    pairs(c, op)?;
    let (mut a, mut b) = (address(c, op.r1), address(c, op.r2));
    let mut a_len = u64::from(c.w(op.r1 + 1) & 0xff_ffff);
    let mut b_len = u64::from(c.w(op.r2 + 1) & 0xff_ffff);
    let pad = (c.w(op.r2 + 1) >> 24) as u8;
    c.cc = 0;
    while a_len > 0 || b_len > 0 {
        let (n, unequal) = compare_unit(c, (a, a_len), (b, b_len), &[pad])?;
        a = a.wrapping_add(n.min(a_len)) & c.addr_mask;
        b = b.wrapping_add(n.min(b_len)) & c.addr_mask;
        a_len = a_len.saturating_sub(n);
        b_len = b_len.saturating_sub(n);
        save_long(c, op, (a, a_len), (b, b_len));
        if let Some(cc) = unequal {
            c.cc = cc;
            break;
        }
    }
    save_long(c, op, (a, a_len), (b, b_len));
    Ok(Flow::Next)
}

/// Compares up to 256 bytes of two padded operands: bytes found equal, and the CC if the next one differs.
fn compare_unit(
    c: &mut Cpu,
    (a, a_len): (u64, u64),
    (b, b_len): (u64, u64),
    pad: &[u8],
) -> Result<(u64, Option<u8>), Trap> {
    let n = a_len.max(b_len).min(256);
    let (mut first, mut second) = ([0; 256], [0; 256]);
    for (bytes, addr, len) in [(&mut first, a, a_len), (&mut second, b, b_len)] {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = pad[i % pad.len()];
        }
        // An access exception may only be recognised for bytes that take part: go page by page.
        let from_storage = len.min(n) as usize;
        c.read_bytes(addr, &mut bytes[..from_storage])?;
    }
    let n = n as usize;
    let width = pad.len();
    for i in (0..n).step_by(width) {
        let (x, y) = (&first[i..i + width], &second[i..i + width]);
        if x != y {
            return Ok((i as u64, Some(order(x, y))));
        }
    }
    Ok((n as u64, None))
}

/// MOVE LONG EXTENDED and MOVE LONG UNICODE (R3 is in `r2`; `width` is the size of the padding).
fn move_extended(c: &mut Cpu, op: &Op, width: u64) -> Step {
    pairs(c, op)?;
    let padding = (c.base(op.b).wrapping_add_signed(op.imm) as u16).to_be_bytes();
    let (dst, src) = (address(c, op.r1), address(c, op.r2));
    let (dst_len, src_len) = (length(c, op.r1 + 1), length(c, op.r2 + 1));
    if (dst_len | src_len) & (width - 1) != 0 {
        return Err(c.program(program::SPECIFICATION));
    }
    let n = if dst_len == 0 {
        0
    } else if src_len > 0 {
        let n = dst_len.min(src_len).min(UNIT);
        c.copy(dst, src, n as usize)?;
        n
    } else if width == 1 {
        let n = dst_len.min(UNIT);
        c.fill(dst, n as usize, padding[1])?;
        n
    } else {
        let n = dst_len.min(256);
        let bytes = padding.repeat(128);
        c.write_bytes(dst, &bytes[..n as usize])?;
        n
    };
    set_address(c, op.r1, dst.wrapping_add(n));
    set_length(c, op.r1 + 1, dst_len - n);
    let from_source = n.min(src_len);
    set_address(c, op.r2, src.wrapping_add(from_source));
    set_length(c, op.r2 + 1, src_len - from_source);
    c.cc = if n < dst_len { 3 } else { order(dst_len, src_len) };
    Ok(c.stored())
}

/// COMPARE LOGICAL LONG EXTENDED and UNICODE.
fn compare_extended(c: &mut Cpu, op: &Op, width: usize) -> Step {
    pairs(c, op)?;
    let padding = (c.base(op.b).wrapping_add_signed(op.imm) as u16).to_be_bytes();
    let (a, b) = (address(c, op.r1), address(c, op.r2));
    let (a_len, b_len) = (length(c, op.r1 + 1), length(c, op.r2 + 1));
    if (a_len | b_len) & (width as u64 - 1) != 0 {
        return Err(c.program(program::SPECIFICATION));
    }
    if a_len == 0 && b_len == 0 {
        c.cc = 0;
        return Ok(Flow::Next);
    }
    let (n, unequal) = compare_unit(c, (a, a_len), (b, b_len), &padding[2 - width..])?;
    set_address(c, op.r1, a.wrapping_add(n.min(a_len)));
    set_length(c, op.r1 + 1, a_len.saturating_sub(n));
    set_address(c, op.r2, b.wrapping_add(n.min(b_len)));
    set_length(c, op.r2 + 1, b_len.saturating_sub(n));
    c.cc = match unequal {
        Some(cc) => cc,
        None if n < a_len.max(b_len) => 3,
        None => 0,
    };
    Ok(Flow::Next)
}

/// The character in GR0; bits 32-55 must be zero.
fn character(c: &mut Cpu) -> Result<u8, Trap> {
    let value = c.w(0);
    u8::try_from(value).map_err(|_| c.program(program::SPECIFICATION))
}

/// MOVE STRING.
fn mvst(c: &mut Cpu, op: &Op) -> Step {
    let end = character(c)?;
    let (dst, src) = (address(c, op.r1), address(c, op.r2));
    let n = to_page_end(dst).min(to_page_end(src)) as usize;
    for i in 0..n {
        let byte = c.read_u8(c.wrap(src, i))?;
        c.write_u8(c.wrap(dst, i), byte)?;
        if byte == end {
            set_address(c, op.r1, dst.wrapping_add(i as u64));
            c.cc = 1;
            return Ok(c.stored());
        }
    }
    set_address(c, op.r1, dst.wrapping_add(n as u64));
    set_address(c, op.r2, src.wrapping_add(n as u64));
    c.cc = 3;
    Ok(c.stored())
}

/// COMPARE LOGICAL STRING.
fn clst(c: &mut Cpu, op: &Op) -> Step {
    let end = character(c)?;
    let (first, second) = (address(c, op.r1), address(c, op.r2));
    for i in 0..256 {
        let a = c.read_u8(c.wrap(first, i))?;
        let b = c.read_u8(c.wrap(second, i))?;
        if a == b && a == end {
            c.cc = 0;
            return Ok(Flow::Next);
        }
        if a != b {
            // A string that ends is low, whatever the other byte is.
            c.cc = if a == end || (b != end && a < b) { 1 } else { 2 };
            set_address(c, op.r1, first.wrapping_add(i as u64));
            set_address(c, op.r2, second.wrapping_add(i as u64));
            return Ok(Flow::Next);
        }
    }
    set_address(c, op.r1, first.wrapping_add(256));
    set_address(c, op.r2, second.wrapping_add(256));
    c.cc = 3;
    Ok(Flow::Next)
}

/// SEARCH STRING (one-byte characters) and SEARCH STRING UNICODE (two-byte).
fn srst(c: &mut Cpu, op: &Op, width: usize) -> Step {
    let limit = if width == 1 { 0xff } else { 0xffff };
    let wanted = c.w(0);
    if wanted > limit {
        return Err(c.program(program::SPECIFICATION));
    }
    let end = address(c, op.r1);
    let mut at = address(c, op.r2);
    // Addresses of different parity: the last character has one byte more.
    let end = if width == 2 { end.wrapping_add((end ^ at) & 1) & c.addr_mask } else { end };
    for _ in 0..256 {
        if at == end {
            c.cc = 2;
            return Ok(Flow::Next);
        }
        let value = if width == 1 { u32::from(c.read_u8(at)?) } else { u32::from(c.read_u16(at)?) };
        if value == wanted {
            set_address(c, op.r1, at);
            c.cc = 1;
            return Ok(Flow::Next);
        }
        at = c.wrap(at, width);
    }
    set_address(c, op.r2, at);
    c.cc = 3;
    Ok(Flow::Next)
}

/// COMPARE UNTIL SUBSTRING EQUAL, in the simplest conforming form: every unit of operation is short.
fn cuse(c: &mut Cpu, op: &Op) -> Step {
    pairs(c, op)?;
    let (wanted, pad) = (c.w(0) as u8, c.w(1) as u8);
    let (mut a, mut b) = (address(c, op.r1), address(c, op.r2));
    let (mut a_len, mut b_len) = (length(c, op.r1 + 1) as i64, length(c, op.r2 + 1) as i64);
    if wanted == 0 {
        c.cc = 0;
        return Ok(Flow::Next);
    }
    if a_len <= 0 && b_len <= 0 {
        c.cc = 2;
        return Ok(Flow::Next);
    }
    for _ in 0..256 {
        let mut equal = 0;
        while equal < u64::from(wanted) {
            let x = if a_len > equal as i64 { c.read_u8(c.wrap(a, equal as usize))? } else { pad };
            let y = if b_len > equal as i64 { c.read_u8(c.wrap(b, equal as usize))? } else { pad };
            if x != y {
                break;
            }
            equal += 1;
        }
        if equal == u64::from(wanted) {
            c.cc = 0;
            save_extended(c, op, (a, a_len), (b, b_len));
            return Ok(Flow::Next);
        }
        let step = equal as i64 + 1;
        a = c.wrap(a, step.min(a_len.max(0)) as usize);
        b = c.wrap(b, step.min(b_len.max(0)) as usize);
        a_len = (a_len - step).max(0);
        b_len = (b_len - step).max(0);
        if a_len == 0 && b_len == 0 {
            c.cc = if equal > 0 { 1 } else { 2 };
            save_extended(c, op, (a, a_len), (b, b_len));
            return Ok(Flow::Next);
        }
    }
    save_extended(c, op, (a, a_len), (b, b_len));
    c.cc = 3;
    Ok(Flow::Next)
}

fn save_extended(c: &mut Cpu, op: &Op, first: (u64, i64), second: (u64, i64)) {
    set_address(c, op.r1, first.0);
    set_length(c, op.r1 + 1, first.1 as u64);
    set_address(c, op.r2, second.0);
    set_length(c, op.r2 + 1, second.1 as u64);
}

/// CHECKSUM: adds words with end-around carry.
fn cksm(c: &mut Cpu, op: &Op) -> Step {
    if op.r2 & 1 != 0 {
        return Err(c.program(program::SPECIFICATION));
    }
    let mut addr = address(c, op.r2);
    let mut len = length(c, op.r2 + 1);
    let mut sum = u64::from(c.w(op.r1));
    let mut left = UNIT;
    while len > 0 && left > 0 {
        let n = len.min(4) as usize;
        let mut word = [0; 4];
        c.read_bytes(addr, &mut word[..n])?;
        sum += u64::from(u32::from_be_bytes(word));
        sum = (sum & 0xffff_ffff) + (sum >> 32);
        addr = c.wrap(addr, n);
        len -= n as u64;
        left -= 4;
    }
    c.set_w(op.r1, sum as u32);
    set_address(c, op.r2, addr);
    set_length(c, op.r2 + 1, len);
    c.cc = if len > 0 { 3 } else { 0 };
    Ok(Flow::Next)
}

/// TRANSLATE AND TEST, from the left or (reverse) from the right.
fn trt(c: &mut Cpu, op: &Op, reverse: bool) -> Step {
    let (first, table, len) = operands(c, op);
    for i in 0..len {
        let at = if reverse { first.wrapping_sub(i as u64) & c.addr_mask } else { c.wrap(first, i) };
        let argument = c.read_u8(at)?;
        let function = c.read_u8(c.wrap(table, usize::from(argument)))?;
        if function != 0 {
            match c.addr_mask {
                u64::MAX => c.set_g(1, at),
                0x7fff_ffff => c.set_w(1, at as u32),
                _ => c.set_w(1, c.w(1) & 0xff00_0000 | at as u32),
            }
            c.set_g(2, c.g(2) & !0xff | u64::from(function));
            c.cc = if i + 1 == len { 2 } else { 1 };
            return Ok(Flow::Next);
        }
    }
    c.cc = 0;
    Ok(Flow::Next)
}

/// TRANSLATE EXTENDED.
fn tre(c: &mut Cpu, op: &Op) -> Step {
    even(c, op)?;
    let (mut addr, mut len) = (address(c, op.r1), length(c, op.r1 + 1));
    let (table, test) = (address(c, op.r2), c.g(0) as u8);
    let mut cc = 0;
    for _ in 0..256 {
        if len == 0 {
            break;
        }
        let byte = c.read_u8(addr)?;
        if byte == test {
            cc = 1;
            break;
        }
        let translated = c.read_u8(c.wrap(table, usize::from(byte)))?;
        c.write_u8(addr, translated)?;
        addr = c.wrap(addr, 1);
        len -= 1;
    }
    if cc == 0 && len > 0 {
        cc = 3;
    }
    set_address(c, op.r1, addr);
    set_length(c, op.r1 + 1, len);
    c.cc = cc;
    Ok(c.stored())
}

/// TRANSLATE ONE/TWO TO ONE/TWO. M3 bit 3 (ETF2-enhancement) switches the test character off.
fn translate(c: &mut Cpu, op: &Op, from: usize, to: usize) -> Step {
    even(c, op)?;
    let (mut dst, mut src) = (address(c, op.r1), address(c, op.r2));
    let mut len = length(c, op.r1 + 1);
    let table = address(c, 1) & !7;
    let test = c.g(0);
    let testing = op.x & 1 == 0;
    if from == 2 && len & 1 != 0 {
        return Err(c.program(program::SPECIFICATION));
    }
    let mut cc = 0;
    for _ in 0..256 {
        if len == 0 {
            break;
        }
        let argument = if from == 1 { usize::from(c.read_u8(src)?) } else { usize::from(c.read_u16(src)?) };
        let function = if to == 1 {
            u16::from(c.read_u8(c.wrap(table, argument))?)
        } else {
            c.read_u16(c.wrap(table, argument * 2))?
        };
        if testing && function == if to == 1 { test & 0xff } else { test & 0xffff } as u16 {
            cc = 1;
            break;
        }
        if to == 1 {
            c.write_u8(dst, function as u8)?;
        } else {
            c.write_u16(dst, function)?;
        }
        dst = c.wrap(dst, to);
        src = c.wrap(src, from);
        len -= from as u64;
    }
    if cc == 0 && len > 0 {
        cc = 3;
    }
    set_address(c, op.r1, dst);
    set_length(c, op.r1 + 1, len);
    set_address(c, op.r2, src);
    c.cc = cc;
    Ok(c.stored())
}

/// TRANSLATE AND TEST EXTENDED (and reverse): M3 bit 0 two-byte arguments, bit 1 two-byte functions,
/// bit 2 argument limit.
fn trte(c: &mut Cpu, op: &Op, reverse: bool) -> Step {
    even(c, op)?;
    let (wide_argument, wide_function, limited) = (op.x & 8 != 0, op.x & 4 != 0, op.x & 2 != 0);
    let width: u64 = if wide_argument { 2 } else { 1 };
    let (mut addr, mut len) = (address(c, op.r1), length(c, op.r1 + 1));
    let table = address(c, 1) & !7;
    if wide_argument && len & 1 != 0 {
        return Err(c.program(program::SPECIFICATION));
    }
    let (mut cc, mut found) = (0, 0u16);
    for _ in 0..256 {
        if len == 0 {
            break;
        }
        let argument =
            if wide_argument { usize::from(c.read_u16(addr)?) } else { usize::from(c.read_u8(addr)?) };
        let function = if limited && argument > 255 {
            0
        } else if wide_function {
            c.read_u16(c.wrap(table, argument * 2))?
        } else {
            u16::from(c.read_u8(c.wrap(table, argument))?)
        };
        if function != 0 {
            (cc, found) = (1, function);
            break;
        }
        addr = if reverse { addr.wrapping_sub(width) } else { addr.wrapping_add(width) } & c.addr_mask;
        len -= width;
    }
    if cc == 0 && len > 0 {
        cc = 3;
    }
    set_address(c, op.r1, addr);
    set_length(c, op.r1 + 1, len);
    if cc != 3 {
        set_length(c, op.r2, u64::from(found));
    }
    c.cc = cc;
    Ok(Flow::Next)
}
