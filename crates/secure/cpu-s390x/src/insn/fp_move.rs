//! Floating-point loads, stores, moves and sign changes, and the floating-point-control register.
//!
//! Nothing here computes: binary floating point stands in `bfp`.

use super::fac::{FP_EXTENSION, FP_SUPPORT, LONG_DISPLACEMENT, Z};
use super::row;
use crate::cpu::Cpu;
use crate::op::{Entry, Flow, Format::*, Op, Step, Trap};
use cloister_arch::s390x::program;

/// AFP-register control, CR0 bit 45.
const AFP: u64 = 1 << 18;
/// Sign of a long or short operand in a register.
const SIGN: u64 = 1 << 63;

/// Rows for moves.
pub(crate) const TABLE: &[Entry] = &[
    row(0x6800, "ld", RX, Z, ld),
    row(0xed65, "ldy", RXYa, LONG_DISPLACEMENT, ld),
    row(0x7800, "le", RX, Z, le),
    row(0xed64, "ley", RXYa, LONG_DISPLACEMENT, le),
    row(0x6000, "std", RX, Z, std),
    row(0xed67, "stdy", RXYa, LONG_DISPLACEMENT, std),
    row(0x7000, "ste", RX, Z, ste),
    row(0xed66, "stey", RXYa, LONG_DISPLACEMENT, ste),
    row(0x2800, "ldr", RR, Z, |c, op| {
        registers(c, &[op.r1, op.r2])?;
        set_long(c, op.r1, long(c, op.r2));
        Ok(Flow::Next)
    }),
    row(0x3800, "ler", RR, Z, |c, op| {
        registers(c, &[op.r1, op.r2])?;
        set_short(c, op.r1, short(c, op.r2));
        Ok(Flow::Next)
    }),
    row(0xb365, "lxr", RRE, Z, |c, op| {
        registers(c, &[op.r1, op.r2])?;
        pairs(c, &[op.r1, op.r2])?;
        set_extended(c, op.r1, extended(c, op.r2));
        Ok(Flow::Next)
    }),
    row(0xb374, "lzer", RRE, Z, |c, op| {
        registers(c, &[op.r1])?;
        set_short(c, op.r1, 0);
        Ok(Flow::Next)
    }),
    row(0xb375, "lzdr", RRE, Z, |c, op| {
        registers(c, &[op.r1])?;
        set_long(c, op.r1, 0);
        Ok(Flow::Next)
    }),
    row(0xb376, "lzxr", RRE, Z, |c, op| {
        registers(c, &[op.r1])?;
        pairs(c, &[op.r1])?;
        set_extended(c, op.r1, 0);
        Ok(Flow::Next)
    }),
    // Lengthening a hexadecimal operand appends zeros: the only such instructions that need no arithmetic.
    row(0xed24, "lde", RXE, Z, |c, op| {
        registers(c, &[op.r1])?;
        let addr = c.ea(op);
        let value = c.read_u32(addr)?;
        set_long(c, op.r1, u64::from(value) << 32);
        Ok(Flow::Next)
    }),
    row(0xb324, "lder", RRE, Z, |c, op| {
        registers(c, &[op.r1, op.r2])?;
        set_long(c, op.r1, u64::from(short(c, op.r2)) << 32);
        Ok(Flow::Next)
    }),
    // Floating-point-support enhancement: general registers and signs
    row(0xb3c1, "ldgr", RRE, FP_SUPPORT, |c, op| {
        registers(c, &[op.r1])?;
        set_long(c, op.r1, c.g(op.r2));
        Ok(Flow::Next)
    }),
    row(0xb3cd, "lgdr", RRE, FP_SUPPORT, |c, op| {
        registers(c, &[op.r2])?;
        c.set_g(op.r1, long(c, op.r2));
        Ok(Flow::Next)
    }),
    row(0xb370, "lpdfr", RRE, FP_SUPPORT, |c, op| sign(c, op, |v| v & !SIGN)),
    row(0xb371, "lndfr", RRE, FP_SUPPORT, |c, op| sign(c, op, |v| v | SIGN)),
    row(0xb373, "lcdfr", RRE, FP_SUPPORT, |c, op| sign(c, op, |v| v ^ SIGN)),
    row(0xb372, "cpsdr", RRFb, FP_SUPPORT, |c, op| {
        // R3, which gives the sign, is in `x`.
        registers(c, &[op.r1, op.r2, op.x])?;
        set_long(c, op.r1, long(c, op.r2) & !SIGN | long(c, op.x) & SIGN);
        Ok(Flow::Next)
    }),
    // Floating-point-control register
    row(0xb38c, "efpc", RRE, Z, |c, op| {
        bfp_enabled(c)?;
        c.set_w(op.r1, c.fpc);
        Ok(Flow::Next)
    }),
    row(0xb384, "sfpc", RRE, Z, |c, op| {
        bfp_enabled(c)?;
        let value = c.w(op.r1);
        c.fpc = valid_fpc(c, value)?;
        Ok(Flow::Next)
    }),
    row(0xb29c, "stfpc", S, Z, |c, op| {
        bfp_enabled(c)?;
        let addr = c.ea(op);
        c.write_u32(addr, c.fpc)?;
        Ok(c.stored())
    }),
    row(0xb29d, "lfpc", S, Z, |c, op| {
        bfp_enabled(c)?;
        let addr = c.ea(op);
        let value = c.read_u32(addr)?;
        c.fpc = valid_fpc(c, value)?;
        Ok(Flow::Next)
    }),
    row(0xb385, "sfasr", RRE, FP_SUPPORT, |c, op| {
        bfp_enabled(c)?;
        let value = c.w(op.r1);
        signal(c, value)
    }),
    row(0xb2bd, "lfas", S, FP_SUPPORT, |c, op| {
        bfp_enabled(c)?;
        let addr = c.ea(op);
        let value = c.read_u32(addr)?;
        signal(c, value)
    }),
    row(0xb299, "srnm", S, Z, |c, op| {
        bfp_enabled(c)?;
        c.fpc = c.fpc & !7 | c.ea(op) as u32 & 3;
        Ok(Flow::Next)
    }),
    row(0xb2b8, "srnmb", S, FP_EXTENSION, |c, op| {
        bfp_enabled(c)?;
        let mode = c.ea(op) as u32 & 0xff;
        if mode > 3 && mode != 7 {
            return Err(c.program(program::SPECIFICATION));
        }
        c.fpc = c.fpc & !7 | mode;
        Ok(Flow::Next)
    }),
    row(0xb2b9, "srnmt", S, FP_SUPPORT, |c, op| {
        if c.crs[0] & AFP == 0 {
            return Err(data_exception(c, 3));
        }
        c.fpc = c.fpc & !0x70 | (c.ea(op) as u32 & 7) << 4;
        Ok(Flow::Next)
    }),
];

/// Without the AFP-register control only the registers 0, 2, 4 and 6 exist (SA22-7832, chapter 9,
/// "Additional Floating-Point (AFP) Registers").
#[inline(always)]
pub(super) fn registers(c: &mut Cpu, used: &[u8]) -> Result<(), Trap> {
    if c.crs[0] & AFP == 0 && used.iter().any(|r| r & !6 != 0) {
        return Err(data_exception(c, 1));
    }
    Ok(())
}

/// Binary floating-point and control instructions need the AFP-register control.
#[inline(always)]
pub(super) fn bfp_enabled(c: &mut Cpu) -> Result<(), Trap> {
    if c.crs[0] & AFP == 0 { Err(data_exception(c, 2)) } else { Ok(()) }
}

/// Extended operands are in pairs `r`, `r + 2`; specification exception for others.
#[inline(always)]
pub(super) fn pairs(c: &mut Cpu, used: &[u8]) -> Result<(), Trap> {
    if used.iter().any(|r| r & 2 != 0) { Err(c.program(program::SPECIFICATION)) } else { Ok(()) }
}

/// A data exception. With the AFP-register control its code goes to the floating-point-control register too
/// (SA22-7832, chapter 6, "Data-Exception Code").
#[cold]
pub(super) fn data_exception(c: &mut Cpu, dxc: u8) -> Trap {
    if c.crs[0] & AFP != 0 {
        c.fpc = c.fpc & !0xff00 | u32::from(dxc) << 8;
    }
    c.data_exception(dxc)
}

/// Short operand.
#[inline(always)]
pub(super) fn short(c: &Cpu, r: u8) -> u32 {
    (c.fpr(r) >> 32) as u32
}

/// Sets a short operand; the low half stays.
#[inline(always)]
pub(super) fn set_short(c: &mut Cpu, r: u8, value: u32) {
    c.set_fpr(r, c.fpr(r) & 0xffff_ffff | u64::from(value) << 32);
}

/// Long operand.
#[inline(always)]
pub(super) fn long(c: &Cpu, r: u8) -> u64 {
    c.fpr(r)
}

/// Sets a long operand.
#[inline(always)]
pub(super) fn set_long(c: &mut Cpu, r: u8, value: u64) {
    c.set_fpr(r, value);
}

/// Extended operand.
#[inline(always)]
pub(super) fn extended(c: &Cpu, r: u8) -> u128 {
    u128::from(long(c, r)) << 64 | u128::from(long(c, r + 2))
}

/// Sets an extended operand.
#[inline(always)]
pub(super) fn set_extended(c: &mut Cpu, r: u8, value: u128) {
    set_long(c, r, (value >> 64) as u64);
    set_long(c, r + 2, value as u64);
}

fn ld(c: &mut Cpu, op: &Op) -> Step {
    registers(c, &[op.r1])?;
    let addr = c.ea(op);
    let value = c.read_u64(addr)?;
    set_long(c, op.r1, value);
    Ok(Flow::Next)
}

fn le(c: &mut Cpu, op: &Op) -> Step {
    registers(c, &[op.r1])?;
    let addr = c.ea(op);
    let value = c.read_u32(addr)?;
    set_short(c, op.r1, value);
    Ok(Flow::Next)
}

fn std(c: &mut Cpu, op: &Op) -> Step {
    registers(c, &[op.r1])?;
    let addr = c.ea(op);
    c.write_u64(addr, long(c, op.r1))?;
    Ok(c.stored())
}

fn ste(c: &mut Cpu, op: &Op) -> Step {
    registers(c, &[op.r1])?;
    let addr = c.ea(op);
    c.write_u32(addr, short(c, op.r1))?;
    Ok(c.stored())
}

fn sign(c: &mut Cpu, op: &Op, f: fn(u64) -> u64) -> Step {
    registers(c, &[op.r1, op.r2])?;
    set_long(c, op.r1, f(long(c, op.r2)));
    Ok(Flow::Next)
}

/// A new value for the floating-point-control register: reserved bits must be zero, and the rounding mode
/// must exist (SA22-7832, chapter 9, "Floating-Point-Control (FPC) Register").
fn valid_fpc(c: &mut Cpu, value: u32) -> Result<u32, Trap> {
    let mode = value & 7;
    let exists = mode <= 3 || mode == 7 && c.facility(FP_EXTENSION);
    if value & 0x0303_0088 != 0 || !exists { Err(c.program(program::SPECIFICATION)) } else { Ok(value) }
}

/// LOAD FPC AND SIGNAL, SET FPC AND SIGNAL: a flag that is on in the old register and enabled in the new
/// one is reported as a simulated exception; old flags stay on.
fn signal(c: &mut Cpu, value: u32) -> Step {
    let value = valid_fpc(c, value)?;
    let flags = c.fpc >> 16 & 0xfc;
    c.fpc = value | flags << 16;
    let enabled = flags & (value >> 24);
    let inexact = if flags & 0x08 != 0 { 8 } else { 0 };
    let dxc = match enabled.leading_zeros() {
        24 => 0x83,
        25 => 0x43,
        26 => 0x23 | inexact,
        27 => 0x13 | inexact,
        28 => 0x0b,
        29 => 0x07,
        _ => return Ok(Flow::Next),
    };
    Err(data_exception(c, dxc))
}
