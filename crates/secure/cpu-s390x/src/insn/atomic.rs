//! Interlocked updates: compare-and-swap, load-and-operate, immediate operations on storage, PLO, TS.

use super::arith::{cc_signed, even};
use super::fac::{DISTINCT_OPERANDS, GENERAL_EXTENSION, LONG_DISPLACEMENT, Z};
use super::row;
use crate::access::ByteOp;
use crate::cpu::Cpu;
use crate::op::{Entry, Flow, Format::*, Op, Step, Trap};
use cloister_arch::s390x::program;

/// Load and operate: R1 gets the old storage value, storage gets `f(old, R3)`.
macro_rules! laa {
    ($get:ident, $set:ident, $mask:literal, $update:ident, $f:path) => {
        |c: &mut Cpu, op: &Op| -> Step {
            let addr = aligned(c, op, $mask)?;
            let operand = c.$get(op.r2);
            let old = c.$update(addr, |old| $f(old, operand).0)?;
            let (_, cc, over) = $f(old, operand);
            c.cc = cc;
            c.$set(op.r1, old);
            if over && c.psw.mask & (8 << 40) != 0 {
                return Err(c.program(program::FIXED_POINT_OVERFLOW));
            }
            Ok(c.stored())
        }
    };
}

/// Rows for interlocked updates.
pub(crate) const TABLE: &[Entry] = &[
    row(0xba00, "cs", RSa, Z, cs),
    row(0xeb14, "csy", RSYa, LONG_DISPLACEMENT, cs),
    row(0xeb30, "csg", RSYa, Z, |c, op| {
        let addr = aligned(c, op, 7)?;
        let (swapped, current) = c.compare_and_swap_u64(addr, c.g(op.r1), c.g(op.r2))?;
        finish(c, swapped);
        if !swapped {
            c.set_g(op.r1, current);
        }
        Ok(c.stored())
    }),
    row(0xbb00, "cds", RSa, Z, cds),
    row(0xeb31, "cdsy", RSYa, LONG_DISPLACEMENT, cds),
    row(0xeb3e, "cdsg", RSYa, Z, |c, op| {
        pair(c, op)?;
        let addr = aligned(c, op, 15)?;
        let old = u128::from(c.g(op.r1)) << 64 | u128::from(c.g(op.r1 + 1));
        let new = u128::from(c.g(op.r2)) << 64 | u128::from(c.g(op.r2 + 1));
        let (swapped, current) = c.compare_and_swap_u128(addr, old, new)?;
        finish(c, swapped);
        if !swapped {
            c.set_g(op.r1, (current >> 64) as u64);
            c.set_g(op.r1 + 1, current as u64);
        }
        Ok(c.stored())
    }),
    row(0x9300, "ts", SI, Z, |c, op| {
        let addr = c.ea(op);
        let old = c.fetch_update_u8(addr, ByteOp::Or, 0xff)?;
        c.cc = old >> 7;
        Ok(c.stored())
    }),
    // Interlocked-access facility 1
    row(0xebf8, "laa", RSYa, DISTINCT_OPERANDS, laa!(w, set_w, 3, fetch_update_u32, add32)),
    row(0xebe8, "laag", RSYa, DISTINCT_OPERANDS, laa!(g, set_g, 7, fetch_update_u64, add64)),
    row(0xebfa, "laal", RSYa, DISTINCT_OPERANDS, laa!(w, set_w, 3, fetch_update_u32, addl32)),
    row(0xebea, "laalg", RSYa, DISTINCT_OPERANDS, laa!(g, set_g, 7, fetch_update_u64, addl64)),
    row(0xebf4, "lan", RSYa, DISTINCT_OPERANDS, laa!(w, set_w, 3, fetch_update_u32, and32)),
    row(0xebe4, "lang", RSYa, DISTINCT_OPERANDS, laa!(g, set_g, 7, fetch_update_u64, and64)),
    row(0xebf7, "lax", RSYa, DISTINCT_OPERANDS, laa!(w, set_w, 3, fetch_update_u32, xor32)),
    row(0xebe7, "laxg", RSYa, DISTINCT_OPERANDS, laa!(g, set_g, 7, fetch_update_u64, xor64)),
    row(0xebf6, "lao", RSYa, DISTINCT_OPERANDS, laa!(w, set_w, 3, fetch_update_u32, or32)),
    row(0xebe6, "laog", RSYa, DISTINCT_OPERANDS, laa!(g, set_g, 7, fetch_update_u64, or64)),
    row(0xc804, "lpd", SSF, DISTINCT_OPERANDS, |c, op| {
        even_ssf(c, op)?;
        let (first, second) = ssf_addresses(c, op);
        if (first | second) & 3 != 0 {
            return Err(c.program(program::SPECIFICATION));
        }
        let (a, b) = (c.read_u32(first)?, c.read_u32(second)?);
        c.set_w(op.r1, a);
        c.set_w(op.r1 + 1, b);
        c.cc = 0;
        Ok(Flow::Next)
    }),
    row(0xc805, "lpdg", SSF, DISTINCT_OPERANDS, |c, op| {
        even_ssf(c, op)?;
        let (first, second) = ssf_addresses(c, op);
        if (first | second) & 7 != 0 {
            return Err(c.program(program::SPECIFICATION));
        }
        let (a, b) = (c.read_u64(first)?, c.read_u64(second)?);
        c.set_g(op.r1, a);
        c.set_g(op.r1 + 1, b);
        c.cc = 0;
        Ok(Flow::Next)
    }),
    // Immediate with storage
    row(0xeb6a, "asi", SIY, GENERAL_EXTENSION, |c, op| {
        let addr = c.ea(op);
        let operand = op.aux as i8 as u32;
        let old = c.fetch_update_u32(addr, |old| add32(old, operand).0)?;
        overflow(c, add32(old, operand).1)
    }),
    row(0xeb7a, "agsi", SIY, GENERAL_EXTENSION, |c, op| {
        let addr = c.ea(op);
        let operand = op.aux as i8 as u64;
        let old = c.fetch_update_u64(addr, |old| add64(old, operand).0)?;
        overflow(c, add64(old, operand).1)
    }),
    row(0xeb6e, "alsi", SIY, GENERAL_EXTENSION, |c, op| {
        let addr = c.ea(op);
        let operand = op.aux as i8 as u32;
        let old = c.fetch_update_u32(addr, |old| old.wrapping_add(operand))?;
        c.cc = addl32(old, operand).1;
        Ok(c.stored())
    }),
    row(0xeb7e, "algsi", SIY, GENERAL_EXTENSION, |c, op| {
        let addr = c.ea(op);
        let operand = op.aux as i8 as u64;
        let old = c.fetch_update_u64(addr, |old| old.wrapping_add(operand))?;
        c.cc = addl64(old, operand).1;
        Ok(c.stored())
    }),
    row(0x9400, "ni", SI, Z, ni),
    row(0xeb54, "niy", SIY, LONG_DISPLACEMENT, ni),
    row(0x9600, "oi", SI, Z, oi),
    row(0xeb56, "oiy", SIY, LONG_DISPLACEMENT, oi),
    row(0x9700, "xi", SI, Z, xi),
    row(0xeb57, "xiy", SIY, LONG_DISPLACEMENT, xi),
    // Compare and swap and store
    row(0xc802, "csst", SSF, 32, csst),
];

#[inline(always)]
fn aligned(c: &mut Cpu, op: &Op, mask: u64) -> Result<u64, Trap> {
    let addr = c.base(op.b).wrapping_add_signed(op.imm) & c.addr_mask;
    if addr & mask != 0 { Err(c.program(program::SPECIFICATION)) } else { Ok(addr) }
}

#[inline(always)]
fn finish(c: &mut Cpu, swapped: bool) {
    c.cc = u8::from(!swapped);
}

/// R1 and R3 must both be even.
fn pair(c: &mut Cpu, op: &Op) -> Result<(), Trap> {
    if (op.r1 | op.r2) & 1 != 0 { Err(c.program(program::SPECIFICATION)) } else { Ok(()) }
}

fn even_ssf(c: &mut Cpu, op: &Op) -> Result<(), Trap> {
    even(c, op)
}

fn ssf_addresses(c: &Cpu, op: &Op) -> (u64, u64) {
    let first = c.base(op.b).wrapping_add_signed(op.imm) & c.addr_mask;
    let second = c.base(op.b2).wrapping_add(u64::from(op.aux & 0xfff)) & c.addr_mask;
    (first, second)
}

#[inline(always)]
fn cs(c: &mut Cpu, op: &Op) -> Step {
    let addr = aligned(c, op, 3)?;
    let (swapped, current) = c.compare_and_swap_u32(addr, c.w(op.r1), c.w(op.r2))?;
    finish(c, swapped);
    if !swapped {
        c.set_w(op.r1, current);
    }
    Ok(c.stored())
}

fn cds(c: &mut Cpu, op: &Op) -> Step {
    pair(c, op)?;
    let addr = aligned(c, op, 7)?;
    let old = u64::from(c.w(op.r1)) << 32 | u64::from(c.w(op.r1 + 1));
    let new = u64::from(c.w(op.r2)) << 32 | u64::from(c.w(op.r2 + 1));
    let (swapped, current) = c.compare_and_swap_u64(addr, old, new)?;
    finish(c, swapped);
    if !swapped {
        c.set_w(op.r1, (current >> 32) as u32);
        c.set_w(op.r1 + 1, current as u32);
    }
    Ok(c.stored())
}

#[inline(always)]
fn ni(c: &mut Cpu, op: &Op) -> Step {
    let (addr, mask) = (c.ea(op), op.aux as u8);
    let old = c.fetch_update_u8(addr, ByteOp::And, mask)?;
    c.cc = u8::from(old & mask != 0);
    Ok(c.stored())
}

#[inline(always)]
fn oi(c: &mut Cpu, op: &Op) -> Step {
    let (addr, mask) = (c.ea(op), op.aux as u8);
    let old = c.fetch_update_u8(addr, ByteOp::Or, mask)?;
    c.cc = u8::from(old | mask != 0);
    Ok(c.stored())
}

#[inline(always)]
fn xi(c: &mut Cpu, op: &Op) -> Step {
    let (addr, mask) = (c.ea(op), op.aux as u8);
    let old = c.fetch_update_u8(addr, ByteOp::Xor, mask)?;
    c.cc = u8::from(old ^ mask != 0);
    Ok(c.stored())
}

fn overflow(c: &mut Cpu, cc: u8) -> Step {
    c.cc = cc;
    if cc == 3 && c.psw.mask & (8 << 40) != 0 {
        return Err(c.program(program::FIXED_POINT_OVERFLOW));
    }
    Ok(c.stored())
}

macro_rules! update {
    ($t:ty, $s:ty, $add:ident, $addl:ident, $and:ident, $or:ident, $xor:ident) => {
        #[inline(always)]
        fn $add(a: $t, b: $t) -> ($t, u8, bool) {
            let (r, over) = (a as $s).overflowing_add(b as $s);
            (r as $t, if over { 3 } else { cc_signed(r) }, over)
        }

        #[inline(always)]
        fn $addl(a: $t, b: $t) -> ($t, u8, bool) {
            let (r, carry) = a.overflowing_add(b);
            (r, u8::from(carry) << 1 | u8::from(r != 0), false)
        }

        fn $and(a: $t, b: $t) -> ($t, u8, bool) {
            (a & b, u8::from(a & b != 0), false)
        }

        fn $or(a: $t, b: $t) -> ($t, u8, bool) {
            (a | b, u8::from(a | b != 0), false)
        }

        fn $xor(a: $t, b: $t) -> ($t, u8, bool) {
            (a ^ b, u8::from(a ^ b != 0), false)
        }
    };
}
update!(u32, i32, add32, addl32, and32, or32, xor32);
update!(u64, i64, add64, addl64, and64, or64, xor64);

/// COMPARE AND SWAP AND STORE (SA22-7832, chapter 7): GR0 holds function and store characteristic, GR1
/// addresses the parameter list (replacement values at 0, store values at 16).
fn csst(c: &mut Cpu, op: &Op) -> Step {
    let (function, characteristic) = (c.g(0) as u8, (c.g(0) >> 8) as u8);
    if function > 2 || characteristic > 4 {
        return Err(c.program(program::SPECIFICATION));
    }
    // Function 2 (16 bytes) and characteristic 4 (16 bytes) need facility 33.
    if (function == 2 || characteristic == 4) && !c.facility(33) {
        return Err(c.program(program::SPECIFICATION));
    }
    let (first, second) = ssf_addresses(c, op);
    let (swap_len, store_len) = (4u64 << function, 1usize << characteristic);
    let parameters = c.base(1) & c.addr_mask;
    if first & (swap_len - 1) != 0 || second & (store_len as u64 - 1) != 0 || parameters & 15 != 0 {
        return Err(c.program(program::SPECIFICATION));
    }
    let mut list = [0; 32];
    c.read_bytes(parameters, &mut list)?;
    c.probe_write(second, store_len as u64)?;
    // r1 is R3 of the format: the comparand.
    let swapped = match function {
        0 => {
            let new = u32::from_be_bytes([list[0], list[1], list[2], list[3]]);
            let (ok, current) = c.compare_and_swap_u32(first, c.w(op.r1), new)?;
            if !ok {
                c.set_w(op.r1, current);
            }
            ok
        }
        1 => {
            let new = list[..8].iter().fold(0, |acc, &b| acc << 8 | u64::from(b));
            let (ok, current) = c.compare_and_swap_u64(first, c.g(op.r1), new)?;
            if !ok {
                c.set_g(op.r1, current);
            }
            ok
        }
        _ => {
            even(c, op)?;
            let new = list[..16].iter().fold(0, |acc, &b| acc << 8 | u128::from(b));
            let old = u128::from(c.g(op.r1)) << 64 | u128::from(c.g(op.r1 + 1));
            let (ok, current) = c.compare_and_swap_u128(first, old, new)?;
            if !ok {
                c.set_g(op.r1, (current >> 64) as u64);
                c.set_g(op.r1 + 1, current as u64);
            }
            ok
        }
    };
    if swapped {
        c.write_bytes(second, &list[16..16 + store_len])?;
    }
    finish(c, swapped);
    Ok(c.stored())
}
