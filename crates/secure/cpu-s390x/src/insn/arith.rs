//! Fixed-point arithmetic: add, subtract, multiply, divide, complement.

use super::fac::{DISTINCT_OPERANDS, EXTENDED_IMMEDIATE, GENERAL_EXTENSION, LONG_DISPLACEMENT, MISC_2, Z};
use super::{row, src};
use crate::cpu::Cpu;
use crate::op::{Entry, Flow, Format::*, Op, Step, Trap};
use cloister_arch::s390x::program;

/// `r1(32) = f(r1(32), src)`.
macro_rules! w {
    ($f:path, $s:path) => {
        |c: &mut Cpu, op: &Op| -> Step {
            let b = $s(c, op)?;
            let r = $f(c, c.w(op.r1), b);
            c.set_w(op.r1, r);
            overflow(c)
        }
    };
}

/// `r1(64) = f(r1(64), src)`.
macro_rules! g {
    ($f:path, $s:path) => {
        |c: &mut Cpu, op: &Op| -> Step {
            let b = $s(c, op)?;
            let r = $f(c, c.g(op.r1), b);
            c.set_g(op.r1, r);
            overflow(c)
        }
    };
}

/// `r1(32) = f(r2(32), src)`: distinct operands.
macro_rules! wk {
    ($f:path, $s:path) => {
        |c: &mut Cpu, op: &Op| -> Step {
            let b = $s(c, op)?;
            let r = $f(c, c.w(op.r2), b);
            c.set_w(op.r1, r);
            overflow(c)
        }
    };
}

/// `r1(64) = f(r2(64), src)`: distinct operands.
macro_rules! gk {
    ($f:path, $s:path) => {
        |c: &mut Cpu, op: &Op| -> Step {
            let b = $s(c, op)?;
            let r = $f(c, c.g(op.r2), b);
            c.set_g(op.r1, r);
            overflow(c)
        }
    };
}

/// Rows for arithmetic.
pub(crate) const TABLE: &[Entry] = &[
    // Signed add and subtract
    row(0x1a00, "ar", RR, Z, w!(add32, src::r32)),
    row(0x5a00, "a", RX, Z, w!(add32, src::m32)),
    row(0xe35a, "ay", RXYa, LONG_DISPLACEMENT, w!(add32, src::m32)),
    row(0x4a00, "ah", RX, Z, w!(add32, src::m16)),
    row(0xe37a, "ahy", RXYa, LONG_DISPLACEMENT, w!(add32, src::m16)),
    row(0xa70a, "ahi", RIa, Z, w!(add32, src::i32)),
    row(0xc209, "afi", RILa, EXTENDED_IMMEDIATE, w!(add32, src::i32)),
    row(0xb9f8, "ark", RRFa, DISTINCT_OPERANDS, wk!(add32, src::k32)),
    row(0xecd8, "ahik", RIEd, DISTINCT_OPERANDS, k_imm32),
    row(0xb908, "agr", RRE, Z, g!(add64, src::r64)),
    row(0xb918, "agfr", RRE, Z, g!(add64, src::r32s)),
    row(0xe308, "ag", RXYa, Z, g!(add64, src::m64)),
    row(0xe318, "agf", RXYa, Z, g!(add64, src::m32s)),
    row(0xe338, "agh", RXYa, MISC_2, g!(add64, src::m16s)),
    row(0xa70b, "aghi", RIa, Z, g!(add64, src::i64)),
    row(0xc208, "agfi", RILa, EXTENDED_IMMEDIATE, g!(add64, src::i64)),
    row(0xb9e8, "agrk", RRFa, DISTINCT_OPERANDS, gk!(add64, src::k64)),
    row(0xecd9, "aghik", RIEd, DISTINCT_OPERANDS, k_imm64),
    row(0x1b00, "sr", RR, Z, w!(sub32, src::r32)),
    row(0x5b00, "s", RX, Z, w!(sub32, src::m32)),
    row(0xe35b, "sy", RXYa, LONG_DISPLACEMENT, w!(sub32, src::m32)),
    row(0x4b00, "sh", RX, Z, w!(sub32, src::m16)),
    row(0xe37b, "shy", RXYa, LONG_DISPLACEMENT, w!(sub32, src::m16)),
    row(0xb9f9, "srk", RRFa, DISTINCT_OPERANDS, wk!(sub32, src::k32)),
    row(0xb909, "sgr", RRE, Z, g!(sub64, src::r64)),
    row(0xb919, "sgfr", RRE, Z, g!(sub64, src::r32s)),
    row(0xe309, "sg", RXYa, Z, g!(sub64, src::m64)),
    row(0xe319, "sgf", RXYa, Z, g!(sub64, src::m32s)),
    row(0xe339, "sgh", RXYa, MISC_2, g!(sub64, src::m16s)),
    row(0xb9e9, "sgrk", RRFa, DISTINCT_OPERANDS, gk!(sub64, src::k64)),
    // Logical add and subtract
    row(0x1e00, "alr", RR, Z, w!(addl32, src::r32)),
    row(0x5e00, "al", RX, Z, w!(addl32, src::m32)),
    row(0xe35e, "aly", RXYa, LONG_DISPLACEMENT, w!(addl32, src::m32)),
    row(0xc20b, "alfi", RILa, EXTENDED_IMMEDIATE, w!(addl32, src::i32)),
    row(0xb9fa, "alrk", RRFa, DISTINCT_OPERANDS, wk!(addl32, src::k32)),
    row(0xecda, "alhsik", RIEd, DISTINCT_OPERANDS, wk!(addl32, src::i32)),
    row(0xb90a, "algr", RRE, Z, g!(addl64, src::r64)),
    row(0xb91a, "algfr", RRE, Z, g!(addl64, src::r32z)),
    row(0xe30a, "alg", RXYa, Z, g!(addl64, src::m64)),
    row(0xe31a, "algf", RXYa, Z, g!(addl64, src::m32z)),
    row(0xc20a, "algfi", RILa, EXTENDED_IMMEDIATE, g!(addl64, src::u32z)),
    row(0xb9ea, "algrk", RRFa, DISTINCT_OPERANDS, gk!(addl64, src::k64)),
    row(0xecdb, "alghsik", RIEd, DISTINCT_OPERANDS, gk!(addl64, src::i64)),
    row(0x1f00, "slr", RR, Z, w!(subl32, src::r32)),
    row(0x5f00, "sl", RX, Z, w!(subl32, src::m32)),
    row(0xe35f, "sly", RXYa, LONG_DISPLACEMENT, w!(subl32, src::m32)),
    row(0xc205, "slfi", RILa, EXTENDED_IMMEDIATE, w!(subl32, src::i32)),
    row(0xb9fb, "slrk", RRFa, DISTINCT_OPERANDS, wk!(subl32, src::k32)),
    row(0xb90b, "slgr", RRE, Z, g!(subl64, src::r64)),
    row(0xb91b, "slgfr", RRE, Z, g!(subl64, src::r32z)),
    row(0xe30b, "slg", RXYa, Z, g!(subl64, src::m64)),
    row(0xe31b, "slgf", RXYa, Z, g!(subl64, src::m32z)),
    row(0xc204, "slgfi", RILa, EXTENDED_IMMEDIATE, g!(subl64, src::u32z)),
    row(0xb9eb, "slgrk", RRFa, DISTINCT_OPERANDS, gk!(subl64, src::k64)),
    row(0xb998, "alcr", RRE, Z, w!(addc32, src::r32)),
    row(0xe398, "alc", RXYa, Z, w!(addc32, src::m32)),
    row(0xb988, "alcgr", RRE, Z, g!(addc64, src::r64)),
    row(0xe388, "alcg", RXYa, Z, g!(addc64, src::m64)),
    row(0xb999, "slbr", RRE, Z, w!(subb32, src::r32)),
    row(0xe399, "slb", RXYa, Z, w!(subb32, src::m32)),
    row(0xb989, "slbgr", RRE, Z, g!(subb64, src::r64)),
    row(0xe389, "slbg", RXYa, Z, g!(subb64, src::m64)),
    // Multiply
    row(0x7100, "ms", RX, Z, w!(muls32, src::m32)),
    row(0xe351, "msy", RXYa, LONG_DISPLACEMENT, w!(muls32, src::m32)),
    row(0xb252, "msr", RRE, Z, w!(muls32, src::r32)),
    row(0xc201, "msfi", RILa, GENERAL_EXTENSION, w!(muls32, src::i32)),
    row(0x4c00, "mh", RX, Z, w!(muls32, src::m16)),
    row(0xe37c, "mhy", RXYa, GENERAL_EXTENSION, w!(muls32, src::m16)),
    row(0xa70c, "mhi", RIa, Z, w!(muls32, src::i32)),
    row(0xb90c, "msgr", RRE, Z, g!(muls64, src::r64)),
    row(0xb91c, "msgfr", RRE, Z, g!(muls64, src::r32s)),
    row(0xe30c, "msg", RXYa, Z, g!(muls64, src::m64)),
    row(0xe31c, "msgf", RXYa, Z, g!(muls64, src::m32s)),
    row(0xe33c, "mgh", RXYa, MISC_2, g!(muls64, src::m16s)),
    row(0xc200, "msgfi", RILa, GENERAL_EXTENSION, g!(muls64, src::i64)),
    row(0xa70d, "mghi", RIa, Z, g!(muls64, src::i64)),
    row(0xb9fd, "msrkc", RRFa, MISC_2, wk!(mulc32, src::k32)),
    row(0xe353, "msc", RXYa, MISC_2, w!(mulc32, src::m32)),
    row(0xb9ed, "msgrkc", RRFa, MISC_2, gk!(mulc64, src::k64)),
    row(0xe383, "msgc", RXYa, MISC_2, g!(mulc64, src::m64)),
    row(0x1c00, "mr", RR, Z, |c, op| {
        let b = c.w(op.r2);
        m(c, op, b)
    }),
    row(0x5c00, "m", RX, Z, m_storage),
    row(0xe35c, "mfy", RXYa, GENERAL_EXTENSION, m_storage),
    row(0xb996, "mlr", RRE, Z, |c, op| {
        let b = c.w(op.r2);
        ml(c, op, b)
    }),
    row(0xe396, "ml", RXYa, Z, |c, op| {
        even(c, op)?;
        let b = src::m32(c, op)?;
        ml(c, op, b)
    }),
    row(0xb986, "mlgr", RRE, Z, |c, op| {
        let b = c.g(op.r2);
        mlg(c, op, b)
    }),
    row(0xe386, "mlg", RXYa, Z, |c, op| {
        even(c, op)?;
        let b = src::m64(c, op)?;
        mlg(c, op, b)
    }),
    row(0xb9ec, "mgrk", RRFa, MISC_2, |c, op| {
        even(c, op)?;
        let product = i128::from(c.g(op.r2) as i64) * i128::from(c.g(op.x) as i64);
        pair128(c, op.r1, product as u128);
        Ok(Flow::Next)
    }),
    row(0xe384, "mg", RXYa, MISC_2, |c, op| {
        even(c, op)?;
        let b = src::m64(c, op)?;
        let product = i128::from(c.g(op.r1 + 1) as i64) * i128::from(b as i64);
        pair128(c, op.r1, product as u128);
        Ok(Flow::Next)
    }),
    // Divide
    row(0x1d00, "dr", RR, Z, |c, op| {
        let b = c.w(op.r2);
        d(c, op, b)
    }),
    row(0x5d00, "d", RX, Z, |c, op| {
        even(c, op)?;
        let b = src::m32(c, op)?;
        d(c, op, b)
    }),
    row(0xb90d, "dsgr", RRE, Z, |c, op| {
        let b = c.g(op.r2);
        dsg(c, op, b)
    }),
    row(0xb91d, "dsgfr", RRE, Z, |c, op| {
        let b = c.w(op.r2) as i32 as u64;
        dsg(c, op, b)
    }),
    row(0xe30d, "dsg", RXYa, Z, |c, op| {
        even(c, op)?;
        let b = src::m64(c, op)?;
        dsg(c, op, b)
    }),
    row(0xe31d, "dsgf", RXYa, Z, |c, op| {
        even(c, op)?;
        let b = src::m32s(c, op)?;
        dsg(c, op, b)
    }),
    row(0xb997, "dlr", RRE, Z, |c, op| {
        let b = c.w(op.r2);
        dl(c, op, b)
    }),
    row(0xe397, "dl", RXYa, Z, |c, op| {
        even(c, op)?;
        let b = src::m32(c, op)?;
        dl(c, op, b)
    }),
    row(0xb987, "dlgr", RRE, Z, |c, op| {
        let b = c.g(op.r2);
        dlg(c, op, b)
    }),
    row(0xe387, "dlg", RXYa, Z, |c, op| {
        even(c, op)?;
        let b = src::m64(c, op)?;
        dlg(c, op, b)
    }),
    // Load positive, negative, complement, and test
    row(0x1000, "lpr", RR, Z, |c, op| {
        let a = c.w(op.r2) as i32;
        let r = if a < 0 { negate32(c, a) } else { sign32(c, a) };
        c.set_w(op.r1, r as u32);
        overflow(c)
    }),
    row(0x1100, "lnr", RR, Z, |c, op| {
        let a = c.w(op.r2) as i32;
        let r = sign32(c, if a > 0 { -a } else { a });
        c.set_w(op.r1, r as u32);
        Ok(Flow::Next)
    }),
    row(0x1200, "ltr", RR, Z, |c, op| {
        let r = sign32(c, c.w(op.r2) as i32);
        c.set_w(op.r1, r as u32);
        Ok(Flow::Next)
    }),
    row(0x1300, "lcr", RR, Z, |c, op| {
        let r = negate32(c, c.w(op.r2) as i32);
        c.set_w(op.r1, r as u32);
        overflow(c)
    }),
    row(0xb900, "lpgr", RRE, Z, |c, op| {
        let a = c.g(op.r2) as i64;
        positive64(c, op, a)
    }),
    row(0xb910, "lpgfr", RRE, Z, |c, op| {
        let a = i64::from(c.w(op.r2) as i32);
        positive64(c, op, a)
    }),
    row(0xb901, "lngr", RRE, Z, |c, op| {
        let a = c.g(op.r2) as i64;
        test64(c, op, if a > 0 { -a } else { a })
    }),
    row(0xb911, "lngfr", RRE, Z, |c, op| {
        let a = i64::from(c.w(op.r2) as i32);
        test64(c, op, if a > 0 { -a } else { a })
    }),
    row(0xb902, "ltgr", RRE, Z, |c, op| {
        let a = c.g(op.r2) as i64;
        test64(c, op, a)
    }),
    row(0xb912, "ltgfr", RRE, Z, |c, op| {
        let a = i64::from(c.w(op.r2) as i32);
        test64(c, op, a)
    }),
    row(0xb903, "lcgr", RRE, Z, |c, op| {
        let a = c.g(op.r2) as i64;
        complement64(c, op, a)
    }),
    row(0xb913, "lcgfr", RRE, Z, |c, op| {
        let a = i64::from(c.w(op.r2) as i32);
        complement64(c, op, a)
    }),
    row(0xe312, "lt", RXYa, EXTENDED_IMMEDIATE, |c, op| {
        let value = src::m32(c, op)?;
        let r = sign32(c, value as i32);
        c.set_w(op.r1, r as u32);
        Ok(Flow::Next)
    }),
    row(0xe302, "ltg", RXYa, EXTENDED_IMMEDIATE, |c, op| {
        let value = src::m64(c, op)?;
        test64(c, op, value as i64)
    }),
    row(0xe332, "ltgf", RXYa, GENERAL_EXTENSION, |c, op| {
        let value = src::m32s(c, op)?;
        test64(c, op, value as i64)
    }),
];

/// Condition code of a signed result.
#[inline(always)]
pub(super) fn cc_signed<T: Default + PartialOrd>(r: T) -> u8 {
    if r < T::default() {
        1
    } else if r > T::default() {
        2
    } else {
        0
    }
}

/// Ends an instruction that may have set CC 3 for overflow: traps if the program mask asks for it.
/// The instruction is completed either way (SA22-7832, chapter 6, "Fixed-Point-Overflow Exception").
#[inline(always)]
pub(super) fn overflow(c: &mut Cpu) -> Step {
    if std::mem::take(&mut c.fixed_overflow) && c.psw.mask & (8 << 40) != 0 {
        return Err(c.program(program::FIXED_POINT_OVERFLOW));
    }
    Ok(Flow::Next)
}

macro_rules! signed {
    ($name:ident, $t:ty, $s:ty, $op:ident) => {
        #[inline(always)]
        pub(super) fn $name(c: &mut Cpu, a: $t, b: $t) -> $t {
            let (r, over) = (a as $s).$op(b as $s);
            c.cc = if over { 3 } else { cc_signed(r) };
            c.fixed_overflow = over;
            r as $t
        }
    };
}
signed!(add32, u32, i32, overflowing_add);
signed!(add64, u64, i64, overflowing_add);
signed!(sub32, u32, i32, overflowing_sub);
signed!(sub64, u64, i64, overflowing_sub);
signed!(mulc32, u32, i32, overflowing_mul);

/// MSGC: as [`mulc32`]; separate because LLVM's 64-bit form needs 128 bits.
fn mulc64(c: &mut Cpu, a: u64, b: u64) -> u64 {
    let (r, over) = (a as i64).overflowing_mul(b as i64);
    // CC 1 and 2 tell the sign of the true product when it fits; on overflow it is 3.
    c.cc = if over { 3 } else { cc_signed(r) };
    c.fixed_overflow = over;
    r as u64
}

macro_rules! logical {
    ($add:ident, $addc:ident, $sub:ident, $subb:ident, $t:ty) => {
        #[inline(always)]
        pub(super) fn $add(c: &mut Cpu, a: $t, b: $t) -> $t {
            let (r, carry) = a.overflowing_add(b);
            c.cc = u8::from(carry) << 1 | u8::from(r != 0);
            r
        }

        #[inline(always)]
        fn $addc(c: &mut Cpu, a: $t, b: $t) -> $t {
            let (r, carry1) = a.overflowing_add(b);
            let (r, carry2) = r.overflowing_add((c.cc >> 1).into());
            c.cc = u8::from(carry1 | carry2) << 1 | u8::from(r != 0);
            r
        }

        #[inline(always)]
        pub(super) fn $sub(c: &mut Cpu, a: $t, b: $t) -> $t {
            let (r, borrow) = a.overflowing_sub(b);
            c.cc = u8::from(!borrow) << 1 | u8::from(r != 0);
            r
        }

        #[inline(always)]
        fn $subb(c: &mut Cpu, a: $t, b: $t) -> $t {
            let (r, borrow1) = a.overflowing_sub(b);
            let (r, borrow2) = r.overflowing_sub((c.cc >> 1 ^ 1).into());
            c.cc = u8::from(!(borrow1 | borrow2)) << 1 | u8::from(r != 0);
            r
        }
    };
}
logical!(addl32, addc32, subl32, subb32, u32);
logical!(addl64, addc64, subl64, subb64, u64);

#[inline(always)]
fn muls32(_: &mut Cpu, a: u32, b: u32) -> u32 {
    a.wrapping_mul(b)
}

#[inline(always)]
fn muls64(_: &mut Cpu, a: u64, b: u64) -> u64 {
    a.wrapping_mul(b)
}

fn k_imm32(c: &mut Cpu, op: &Op) -> Step {
    let r = add32(c, c.w(op.r2), op.imm as u32);
    c.set_w(op.r1, r);
    overflow(c)
}

fn k_imm64(c: &mut Cpu, op: &Op) -> Step {
    let r = add64(c, c.g(op.r2), op.imm as u64);
    c.set_g(op.r1, r);
    overflow(c)
}

/// Pair instructions need an even first register.
#[inline(always)]
pub(super) fn even(c: &mut Cpu, op: &Op) -> Result<(), Trap> {
    if op.r1 & 1 != 0 { Err(c.program(program::SPECIFICATION)) } else { Ok(()) }
}

/// 64 bits into the low halves of a register pair.
#[inline(always)]
fn pair64(c: &mut Cpu, r: u8, value: u64) {
    c.set_w(r, (value >> 32) as u32);
    c.set_w(r + 1, value as u32);
}

#[inline(always)]
fn pair128(c: &mut Cpu, r: u8, value: u128) {
    c.set_g(r, (value >> 64) as u64);
    c.set_g(r + 1, value as u64);
}

fn m(c: &mut Cpu, op: &Op, b: u32) -> Step {
    even(c, op)?;
    let product = i64::from(c.w(op.r1 + 1) as i32) * i64::from(b as i32);
    pair64(c, op.r1, product as u64);
    Ok(Flow::Next)
}

fn m_storage(c: &mut Cpu, op: &Op) -> Step {
    even(c, op)?;
    let b = src::m32(c, op)?;
    m(c, op, b)
}

fn ml(c: &mut Cpu, op: &Op, b: u32) -> Step {
    even(c, op)?;
    let product = u64::from(c.w(op.r1 + 1)) * u64::from(b);
    pair64(c, op.r1, product);
    Ok(Flow::Next)
}

fn mlg(c: &mut Cpu, op: &Op, b: u64) -> Step {
    even(c, op)?;
    let product = u128::from(c.g(op.r1 + 1)) * u128::from(b);
    pair128(c, op.r1, product);
    Ok(Flow::Next)
}

fn d(c: &mut Cpu, op: &Op, b: u32) -> Step {
    even(c, op)?;
    let dividend = (u64::from(c.w(op.r1)) << 32 | u64::from(c.w(op.r1 + 1))) as i64;
    let divisor = i64::from(b as i32);
    let (Some(quotient), Some(remainder)) = (dividend.checked_div(divisor), dividend.checked_rem(divisor))
    else {
        return Err(c.program(program::FIXED_POINT_DIVIDE));
    };
    let Ok(quotient) = i32::try_from(quotient) else {
        return Err(c.program(program::FIXED_POINT_DIVIDE));
    };
    c.set_w(op.r1, remainder as u32);
    c.set_w(op.r1 + 1, quotient as u32);
    Ok(Flow::Next)
}

fn dsg(c: &mut Cpu, op: &Op, b: u64) -> Step {
    even(c, op)?;
    let (dividend, divisor) = (c.g(op.r1 + 1) as i64, b as i64);
    let (Some(quotient), Some(remainder)) = (dividend.checked_div(divisor), dividend.checked_rem(divisor))
    else {
        return Err(c.program(program::FIXED_POINT_DIVIDE));
    };
    c.set_g(op.r1, remainder as u64);
    c.set_g(op.r1 + 1, quotient as u64);
    Ok(Flow::Next)
}

fn dl(c: &mut Cpu, op: &Op, b: u32) -> Step {
    even(c, op)?;
    let dividend = u64::from(c.w(op.r1)) << 32 | u64::from(c.w(op.r1 + 1));
    if c.w(op.r1) >= b {
        return Err(c.program(program::FIXED_POINT_DIVIDE));
    }
    c.set_w(op.r1, (dividend % u64::from(b)) as u32);
    c.set_w(op.r1 + 1, (dividend / u64::from(b)) as u32);
    Ok(Flow::Next)
}

fn dlg(c: &mut Cpu, op: &Op, b: u64) -> Step {
    even(c, op)?;
    let high = c.g(op.r1);
    if high >= b {
        return Err(c.program(program::FIXED_POINT_DIVIDE));
    }
    let low = c.g(op.r1 + 1);
    let (quotient, remainder) = if high == 0 {
        (low / b, low % b)
    } else {
        let dividend = u128::from(high) << 64 | u128::from(low);
        ((dividend / u128::from(b)) as u64, (dividend % u128::from(b)) as u64)
    };
    c.set_g(op.r1, remainder);
    c.set_g(op.r1 + 1, quotient);
    Ok(Flow::Next)
}

#[inline(always)]
fn sign32(c: &mut Cpu, a: i32) -> i32 {
    c.cc = cc_signed(a);
    a
}

#[inline(always)]
fn negate32(c: &mut Cpu, a: i32) -> i32 {
    let (r, over) = 0i32.overflowing_sub(a);
    c.cc = if over { 3 } else { cc_signed(r) };
    c.fixed_overflow = over;
    r
}

#[inline(always)]
fn test64(c: &mut Cpu, op: &Op, a: i64) -> Step {
    c.cc = cc_signed(a);
    c.set_g(op.r1, a as u64);
    Ok(Flow::Next)
}

#[inline(always)]
fn complement64(c: &mut Cpu, op: &Op, a: i64) -> Step {
    let (r, over) = 0i64.overflowing_sub(a);
    c.cc = if over { 3 } else { cc_signed(r) };
    c.fixed_overflow = over;
    c.set_g(op.r1, r as u64);
    overflow(c)
}

#[inline(always)]
fn positive64(c: &mut Cpu, op: &Op, a: i64) -> Step {
    if a < 0 { complement64(c, op, a) } else { test64(c, op, a) }
}
