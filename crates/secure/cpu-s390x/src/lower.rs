//! What frequent instructions do, in the vocabulary of the back end for hot code. Everything else, and everything rare
//! (an overflow that may trap, an operand that is not aligned), is left to the interpreter.
//!
//! Only blocks in the 64-bit addressing mode come here: an address is a sum and nothing else.

mod parts;

use crate::decode;
use crate::op::Op;
use cloister_jit::ir::InstBuilder;
use cloister_jit::ir::condcodes::IntCC;
use cloister_jit::ir::types::{I8, I16, I32, I64};
use cloister_jit::{Condition, Emitter, Operation, Target};

use parts::{
    alu32, alu64, amount, branch, carry32, carry64, choose, compare_storage, compare32, compare64, ea,
    fetch_relative, fetched, fetched_word, index_branch, insert, long, long_and_test, masked, multiple,
    negate, number, part, relative, rotated, selection, sign, signed, signed_word, ss_addresses, ss_len,
    store_number, stored, test_register, test_under, unaligned, word,
};

type E<'a> = Emitter<'a, Op>;

impl Operation for Op {
    fn offset(&self) -> u64 {
        u64::from(self.offset)
    }

    fn length(&self) -> u64 {
        u64::from(self.len)
    }
}

/// Second operand of 32 bits.
#[derive(Clone, Copy)]
enum Word {
    R,
    K,
    M,
    Half,
    I,
}

/// Second operand of 64 bits.
#[derive(Clone, Copy)]
enum Long {
    R,
    RSigned,
    RZero,
    K,
    M,
    MSigned,
    MZero,
    Half,
    I,
    Unsigned,
}

#[derive(Clone, Copy, PartialEq)]
enum Alu {
    Add,
    Sub,
    AddLogical,
    SubLogical,
    And,
    Or,
    Xor,
    Mul,
}

/// Describes an instruction. False: the interpreter has to execute it.
pub(crate) fn lower(e: &mut E<'_>, op: &Op) -> bool {
    let Some(entry) = decode::known(op) else { return false };
    use Alu::{Add, AddLogical, And, Mul, Or, Sub, SubLogical, Xor};
    match entry.mnemonic {
        // Loads
        "lr" => word(e, op, Word::R),
        "l" | "ly" => word(e, op, Word::M),
        "lh" | "lhy" => word(e, op, Word::Half),
        "lhi" => word(e, op, Word::I),
        "lgr" => long(e, op, Long::R),
        "lg" => long(e, op, Long::M),
        "lgfr" => long(e, op, Long::RSigned),
        "llgfr" => long(e, op, Long::RZero),
        "lgf" => long(e, op, Long::MSigned),
        "llgf" => long(e, op, Long::MZero),
        "lgh" => long(e, op, Long::Half),
        "lghi" | "lgfi" => long(e, op, Long::I),
        "llgc" => fetched(e, op, 1),
        "llgh" => fetched(e, op, 2),
        "llc" => fetched_word(e, op, 1),
        "llh" => fetched_word(e, op, 2),
        "lb" | "lgb" => {
            let address = ea(e, op);
            let value = e.fetch(address, 1);
            let byte = e.b.ins().ireduce(I8, value);
            if entry.mnemonic == "lb" {
                let value = e.b.ins().sextend(I32, byte);
                e.set_word(op.r1, value);
            } else {
                let value = e.b.ins().sextend(I64, byte);
                e.set_register(op.r1, value);
            }
        }
        "ic" | "icy" => {
            let address = ea(e, op);
            let byte = e.fetch(address, 1);
            let old = e.register(op.r1);
            let old = e.b.ins().band_imm_s(old, !0xff);
            let value = e.b.ins().bor(old, byte);
            e.set_register(op.r1, value);
        }
        "llgcr" => masked(e, op, 0xff),
        "llghr" => masked(e, op, 0xffff),
        "llgtr" => masked(e, op, 0x7fff_ffff),
        "lgbr" | "lghr" => {
            let value = e.register(op.r2);
            let value = e.b.ins().ireduce(if entry.mnemonic == "lgbr" { I8 } else { I16 }, value);
            let value = e.b.ins().sextend(I64, value);
            e.set_register(op.r1, value);
        }
        "lbr" | "lhr" => {
            let value = e.register(op.r2);
            let value = e.b.ins().ireduce(if entry.mnemonic == "lbr" { I8 } else { I16 }, value);
            let value = e.b.ins().sextend(I32, value);
            e.set_word(op.r1, value);
        }
        "llcr" | "llhr" => {
            let value = e.word(op.r2);
            let mask = if entry.mnemonic == "llcr" { 0xff } else { 0xffff };
            let value = e.b.ins().band_imm_u(value, mask);
            e.set_word(op.r1, value);
        }
        "ltr" => {
            word(e, op, Word::R);
            signed_word(e, op);
        }
        "lt" => {
            word(e, op, Word::M);
            signed_word(e, op);
        }
        "ltgr" => long_and_test(e, op, Long::R),
        "ltgfr" => long_and_test(e, op, Long::RSigned),
        "ltg" => long_and_test(e, op, Long::M),
        "ltgf" => long_and_test(e, op, Long::MSigned),
        "llihh" => number(e, op, (op.imm as u64 & 0xffff) << 48),
        "llihl" => number(e, op, (op.imm as u64 & 0xffff) << 32),
        "llilh" => number(e, op, (op.imm as u64 & 0xffff) << 16),
        "llill" => number(e, op, op.imm as u64 & 0xffff),
        "llihf" => number(e, op, (op.imm as u64) << 32),
        "llilf" => number(e, op, op.imm as u64 & 0xffff_ffff),
        "iihf" => insert(e, op, 32, 0xffff_ffff),
        "iilf" => insert(e, op, 0, 0xffff_ffff),
        "iihh" => insert(e, op, 48, 0xffff),
        "iihl" => insert(e, op, 32, 0xffff),
        "iilh" => insert(e, op, 16, 0xffff),
        "iill" => insert(e, op, 0, 0xffff),
        "la" | "lay" => {
            let address = ea(e, op);
            e.set_register(op.r1, address);
        }
        "larl" => {
            let address = relative(e, op);
            e.set_register(op.r1, address);
        }
        "lgrl" => {
            let value = fetch_relative(e, op, 8);
            e.set_register(op.r1, value);
        }
        "lrl" => {
            let value = fetch_relative(e, op, 4);
            let value = e.b.ins().ireduce(I32, value);
            e.set_word(op.r1, value);
        }
        "lgfrl" => {
            let value = fetch_relative(e, op, 4);
            let value = sign(e, value, 32);
            e.set_register(op.r1, value);
        }
        "llgfrl" => {
            let value = fetch_relative(e, op, 4);
            e.set_register(op.r1, value);
        }
        "lrvg" | "lrv" => {
            let len = if entry.mnemonic == "lrvg" { 8 } else { 4 };
            let address = ea(e, op);
            let value = e.fetch(address, len);
            if len == 8 {
                let value = e.b.ins().bswap(value);
                e.set_register(op.r1, value);
            } else {
                let value = e.b.ins().ireduce(I32, value);
                let value = e.b.ins().bswap(value);
                e.set_word(op.r1, value);
            }
        }
        "strvg" => {
            let address = ea(e, op);
            let value = e.register(op.r1);
            let value = e.b.ins().bswap(value);
            e.store(address, 8, value);
        }
        "strv" => {
            let address = ea(e, op);
            let value = e.word(op.r1);
            let value = e.b.ins().bswap(value);
            let value = e.b.ins().uextend(I64, value);
            e.store(address, 4, value);
        }
        "icm" | "icmy" if op.r2 == 15 => {
            word(e, op, Word::M);
            signed_word(e, op);
        }
        "pfd" | "pfdrl" | "niai" => {}
        "mvc" if ss_len(op) <= 64 => {
            let (first, second) = ss_addresses(e, op);
            e.copy(first, second, ss_len(op));
        }
        // The idiom that clears storage.
        "xc" if op.b == op.b2 && op.imm == i64::from(op.aux & 0xfff) => {
            let (first, _) = ss_addresses(e, op);
            let len = ss_len(op);
            e.span(first, len, true, |e, pointer| {
                e.zero(pointer, len);
                e.store_condition_code(0);
            });
        }
        "clc" if matches!(ss_len(op), 1 | 2 | 4 | 8) => {
            let len = ss_len(op) as u8;
            let (first, second) = ss_addresses(e, op);
            let a = e.fetch(first, len);
            let b = e.fetch(second, len);
            e.set_condition(Condition::Order { a, b, signed: false });
        }
        "lrvgr" => {
            let value = e.register(op.r2);
            let value = e.b.ins().bswap(value);
            e.set_register(op.r1, value);
        }
        "lrvr" => {
            let value = e.word(op.r2);
            let value = e.b.ins().bswap(value);
            e.set_word(op.r1, value);
        }
        // Stores
        "stg" => stored(e, op, 8),
        "st" | "sty" => stored(e, op, 4),
        "sth" | "sthy" => stored(e, op, 2),
        "stc" | "stcy" => stored(e, op, 1),
        "mvi" | "mviy" => store_number(e, op, 1, u64::from(op.aux & 0xff)),
        "mvhhi" => store_number(e, op, 2, u64::from(op.aux & 0xffff)),
        "mvhi" => store_number(e, op, 4, op.aux as i16 as u64),
        "mvghi" => store_number(e, op, 8, op.aux as i16 as u64),
        "stgrl" | "strl" => {
            let len = if entry.mnemonic == "stgrl" { 8 } else { 4 };
            let address = relative(e, op);
            unaligned(e, address, len);
            let value = e.register(op.r1);
            e.store(address, len, value);
        }
        "lmg" => multiple(e, op, false),
        "stmg" => multiple(e, op, true),
        // Arithmetic
        "ar" => alu32(e, op, Add, op.r1, Word::R),
        "a" | "ay" => alu32(e, op, Add, op.r1, Word::M),
        "ah" | "ahy" => alu32(e, op, Add, op.r1, Word::Half),
        "ahi" | "afi" => alu32(e, op, Add, op.r1, Word::I),
        "ark" => alu32(e, op, Add, op.r2, Word::K),
        "ahik" => alu32(e, op, Add, op.r2, Word::I),
        "agr" => alu64(e, op, Add, op.r1, Long::R),
        "agfr" => alu64(e, op, Add, op.r1, Long::RSigned),
        "ag" => alu64(e, op, Add, op.r1, Long::M),
        "agf" => alu64(e, op, Add, op.r1, Long::MSigned),
        "agh" => alu64(e, op, Add, op.r1, Long::Half),
        "aghi" | "agfi" => alu64(e, op, Add, op.r1, Long::I),
        "agrk" => alu64(e, op, Add, op.r2, Long::K),
        "aghik" => alu64(e, op, Add, op.r2, Long::I),
        "sr" => alu32(e, op, Sub, op.r1, Word::R),
        "s" | "sy" => alu32(e, op, Sub, op.r1, Word::M),
        "sh" | "shy" => alu32(e, op, Sub, op.r1, Word::Half),
        "srk" => alu32(e, op, Sub, op.r2, Word::K),
        "sgr" => alu64(e, op, Sub, op.r1, Long::R),
        "sgfr" => alu64(e, op, Sub, op.r1, Long::RSigned),
        "sg" => alu64(e, op, Sub, op.r1, Long::M),
        "sgf" => alu64(e, op, Sub, op.r1, Long::MSigned),
        "sgrk" => alu64(e, op, Sub, op.r2, Long::K),
        "alr" => alu32(e, op, AddLogical, op.r1, Word::R),
        "al" | "aly" => alu32(e, op, AddLogical, op.r1, Word::M),
        "alfi" => alu32(e, op, AddLogical, op.r1, Word::I),
        "alrk" => alu32(e, op, AddLogical, op.r2, Word::K),
        "alhsik" => alu32(e, op, AddLogical, op.r2, Word::I),
        "algr" => alu64(e, op, AddLogical, op.r1, Long::R),
        "algfr" => alu64(e, op, AddLogical, op.r1, Long::RZero),
        "alg" => alu64(e, op, AddLogical, op.r1, Long::M),
        "algf" => alu64(e, op, AddLogical, op.r1, Long::MZero),
        "algfi" => alu64(e, op, AddLogical, op.r1, Long::Unsigned),
        "algrk" => alu64(e, op, AddLogical, op.r2, Long::K),
        "alghsik" => alu64(e, op, AddLogical, op.r2, Long::I),
        "slr" => alu32(e, op, SubLogical, op.r1, Word::R),
        "sl" | "sly" => alu32(e, op, SubLogical, op.r1, Word::M),
        "slfi" => alu32(e, op, SubLogical, op.r1, Word::I),
        "slrk" => alu32(e, op, SubLogical, op.r2, Word::K),
        "slgr" => alu64(e, op, SubLogical, op.r1, Long::R),
        "slgfr" => alu64(e, op, SubLogical, op.r1, Long::RZero),
        "slg" => alu64(e, op, SubLogical, op.r1, Long::M),
        "slgf" => alu64(e, op, SubLogical, op.r1, Long::MZero),
        "slgfi" => alu64(e, op, SubLogical, op.r1, Long::Unsigned),
        "slgrk" => alu64(e, op, SubLogical, op.r2, Long::K),
        "msr" => alu32(e, op, Mul, op.r1, Word::R),
        "ms" | "msy" => alu32(e, op, Mul, op.r1, Word::M),
        "msfi" | "mhi" => alu32(e, op, Mul, op.r1, Word::I),
        "msgr" => alu64(e, op, Mul, op.r1, Long::R),
        "msgfr" => alu64(e, op, Mul, op.r1, Long::RSigned),
        "msg" => alu64(e, op, Mul, op.r1, Long::M),
        "msgf" => alu64(e, op, Mul, op.r1, Long::MSigned),
        "msgfi" | "mghi" => alu64(e, op, Mul, op.r1, Long::I),
        "alcr" => carry32(e, op, AddLogical, Word::R),
        "alc" => carry32(e, op, AddLogical, Word::M),
        "alcgr" => carry64(e, op, AddLogical, Long::R),
        "alcg" => carry64(e, op, AddLogical, Long::M),
        "slbr" => carry32(e, op, SubLogical, Word::R),
        "slb" => carry32(e, op, SubLogical, Word::M),
        "slbgr" => carry64(e, op, SubLogical, Long::R),
        "slbg" => carry64(e, op, SubLogical, Long::M),
        "lcr" | "lpr" | "lnr" => {
            let a = e.word(op.r2);
            let value = negate(e, entry.mnemonic, a);
            e.set_word(op.r1, value);
        }
        "lcgr" | "lpgr" | "lngr" => {
            let a = e.register(op.r2);
            let value = negate(e, entry.mnemonic, a);
            e.set_register(op.r1, value);
        }
        "flogr" if op.r1 & 1 == 0 => {
            let a = e.register(op.r2);
            let count = e.b.ins().clz(a);
            // Shifts take the amount modulo 64, and of zero nothing is left to be taken away.
            let first = e.number(1 << 63);
            let first = e.b.ins().ushr(first, count);
            let rest = e.b.ins().band_not(a, first);
            e.set_register(op.r1, count);
            e.set_register(op.r1 + 1, rest);
            let found = e.b.ins().icmp_imm_u(IntCC::NotEqual, a, 0);
            let code = e.b.ins().ishl_imm_u(found, 1);
            e.set_condition(Condition::Value(code));
        }
        "mlgr" if op.r1 & 1 == 0 => {
            let (a, b) = (e.register(op.r1 + 1), e.register(op.r2));
            let high = e.b.ins().umulhi(a, b);
            let low = e.b.ins().imul(a, b);
            e.set_register(op.r1, high);
            e.set_register(op.r1 + 1, low);
        }
        // Logic
        "nr" => alu32(e, op, And, op.r1, Word::R),
        "n" | "ny" => alu32(e, op, And, op.r1, Word::M),
        "nrk" => alu32(e, op, And, op.r2, Word::K),
        "ngr" => alu64(e, op, And, op.r1, Long::R),
        "ng" => alu64(e, op, And, op.r1, Long::M),
        "ngrk" => alu64(e, op, And, op.r2, Long::K),
        "or" => alu32(e, op, Or, op.r1, Word::R),
        "o" | "oy" => alu32(e, op, Or, op.r1, Word::M),
        "ork" => alu32(e, op, Or, op.r2, Word::K),
        "ogr" => alu64(e, op, Or, op.r1, Long::R),
        "og" => alu64(e, op, Or, op.r1, Long::M),
        "ogrk" => alu64(e, op, Or, op.r2, Long::K),
        "xr" => alu32(e, op, Xor, op.r1, Word::R),
        "x" | "xy" => alu32(e, op, Xor, op.r1, Word::M),
        "xrk" => alu32(e, op, Xor, op.r2, Word::K),
        "xgr" => alu64(e, op, Xor, op.r1, Long::R),
        "xg" => alu64(e, op, Xor, op.r1, Long::M),
        "xgrk" => alu64(e, op, Xor, op.r2, Long::K),
        "nihh" => part(e, op, And, 48, 0xffff),
        "nihl" => part(e, op, And, 32, 0xffff),
        "nilh" => part(e, op, And, 16, 0xffff),
        "nill" => part(e, op, And, 0, 0xffff),
        "oihh" => part(e, op, Or, 48, 0xffff),
        "oihl" => part(e, op, Or, 32, 0xffff),
        "oilh" => part(e, op, Or, 16, 0xffff),
        "oill" => part(e, op, Or, 0, 0xffff),
        "xihf" => part(e, op, Xor, 32, 0xffff_ffff),
        "xilf" => part(e, op, Xor, 0, 0xffff_ffff),
        "nihf" => part(e, op, And, 32, 0xffff_ffff),
        "nilf" => part(e, op, And, 0, 0xffff_ffff),
        "oihf" => part(e, op, Or, 32, 0xffff_ffff),
        "oilf" => part(e, op, Or, 0, 0xffff_ffff),
        // Shifts
        "sllg" | "srlg" | "srag" | "rllg" => {
            let amount = amount(e, op);
            let value = e.register(op.r2);
            let value = match entry.mnemonic {
                "sllg" => e.b.ins().ishl(value, amount),
                "srlg" => e.b.ins().ushr(value, amount),
                "srag" => e.b.ins().sshr(value, amount),
                _ => e.b.ins().rotl(value, amount),
            };
            e.set_register(op.r1, value);
            if entry.mnemonic == "srag" {
                signed(e, value);
            }
        }
        "sll" | "sllk" | "srl" | "srlk" | "sra" | "srak" => {
            let from = if entry.mnemonic.ends_with('k') { op.r2 } else { op.r1 };
            let amount = amount(e, op);
            let value = e.word(from);
            // In 64 bits, amounts of 32 to 63 need no case of their own.
            let value = match &entry.mnemonic[..3] {
                "sll" => {
                    let wide = e.b.ins().uextend(I64, value);
                    e.b.ins().ishl(wide, amount)
                }
                "srl" => {
                    let wide = e.b.ins().uextend(I64, value);
                    e.b.ins().ushr(wide, amount)
                }
                _ => {
                    let wide = e.b.ins().sextend(I64, value);
                    e.b.ins().sshr(wide, amount)
                }
            };
            let value = e.b.ins().ireduce(I32, value);
            e.set_word(op.r1, value);
            if entry.mnemonic.starts_with("sra") {
                signed(e, value);
            }
        }
        "rll" => {
            let amount = amount(e, op);
            let amount = e.b.ins().ireduce(I32, amount);
            let value = e.word(op.r2);
            let value = e.b.ins().rotl(value, amount);
            e.set_word(op.r1, value);
        }
        "risbg" | "risbgn" => {
            let (mask, rotate) = selection(op);
            let value = rotated(e, op, rotate);
            let value = e.b.ins().band_imm_s(value, mask as i64);
            let value = if op.aux >> 8 & 0x80 != 0 {
                value
            } else {
                let old = e.register(op.r1);
                let old = e.b.ins().band_imm_s(old, !mask as i64);
                e.b.ins().bor(old, value)
            };
            e.set_register(op.r1, value);
            if entry.mnemonic == "risbg" {
                signed(e, value);
            }
        }
        "rnsbg" | "rosbg" | "rxsbg" => {
            let (mask, rotate) = selection(op);
            let second = rotated(e, op, rotate);
            let first = e.register(op.r1);
            let value = match entry.mnemonic {
                "rnsbg" => e.b.ins().band(first, second),
                "rosbg" => e.b.ins().bor(first, second),
                _ => e.b.ins().bxor(first, second),
            };
            let value = e.b.ins().band_imm_s(value, mask as i64);
            if op.aux & 0x80 == 0 {
                let rest = e.b.ins().band_imm_s(first, !mask as i64);
                let whole = e.b.ins().bor(rest, value);
                e.set_register(op.r1, whole);
            }
            e.set_condition(Condition::NotZero(value));
        }
        // Comparisons
        "cr" => compare32(e, op, true, Word::R),
        "c" | "cy" => compare32(e, op, true, Word::M),
        "ch" | "chy" => compare32(e, op, true, Word::Half),
        "chi" | "cfi" => compare32(e, op, true, Word::I),
        "clr" => compare32(e, op, false, Word::R),
        "cl" | "cly" => compare32(e, op, false, Word::M),
        "clfi" => compare32(e, op, false, Word::I),
        "cgr" => compare64(e, op, true, Long::R),
        "cgfr" => compare64(e, op, true, Long::RSigned),
        "cg" => compare64(e, op, true, Long::M),
        "cgf" => compare64(e, op, true, Long::MSigned),
        "cgh" => compare64(e, op, true, Long::Half),
        "cghi" | "cgfi" => compare64(e, op, true, Long::I),
        "clgr" => compare64(e, op, false, Long::R),
        "clgfr" => compare64(e, op, false, Long::RZero),
        "clg" => compare64(e, op, false, Long::M),
        "clgf" => compare64(e, op, false, Long::MZero),
        "clgfi" => compare64(e, op, false, Long::Unsigned),
        "cgrl" | "clgrl" => {
            let b = fetch_relative(e, op, 8);
            let a = e.register(op.r1);
            e.set_condition(Condition::Order { a, b, signed: entry.mnemonic == "cgrl" });
        }
        "crl" | "clrl" => {
            let b = fetch_relative(e, op, 4);
            let b = e.b.ins().ireduce(I32, b);
            let a = e.word(op.r1);
            e.set_condition(Condition::Order { a, b, signed: entry.mnemonic == "crl" });
        }
        "cli" | "cliy" => compare_storage(e, op, 1, false, i64::from(op.aux & 0xff)),
        "clhhsi" => compare_storage(e, op, 2, false, i64::from(op.aux & 0xffff)),
        "chhsi" => compare_storage(e, op, 2, true, i64::from(op.aux as i16)),
        "clfhsi" => compare_storage(e, op, 4, false, i64::from(op.aux)),
        "chsi" => compare_storage(e, op, 4, true, i64::from(op.aux as i16)),
        "clghsi" => compare_storage(e, op, 8, false, i64::from(op.aux)),
        "cghsi" => compare_storage(e, op, 8, true, i64::from(op.aux as i16)),
        "tm" | "tmy" => {
            let address = ea(e, op);
            let value = e.fetch(address, 1);
            test_under(e, value, u64::from(op.aux & 0xff), false);
        }
        "tmhh" => test_register(e, op, 48),
        "tmhl" => test_register(e, op, 32),
        "tmlh" => test_register(e, op, 16),
        "tmll" => test_register(e, op, 0),
        // On condition
        "locr" | "lochi" | "selr" => {
            let (mask, yes, no) = match entry.mnemonic {
                "locr" => (op.x, e.word(op.r2), e.word(op.r1)),
                "selr" => (op.aux as u8, e.word(op.r2), e.word(op.x)),
                _ => {
                    let number = e.b.ins().iconst(I32, op.imm as i32 as i64 & 0xffff_ffff);
                    (op.r2, number, e.word(op.r1))
                }
            };
            let value = choose(e, mask, yes, no);
            e.set_word(op.r1, value);
        }
        "locgr" | "locghi" | "selgr" => {
            let (mask, yes, no) = match entry.mnemonic {
                "locgr" => (op.x, e.register(op.r2), e.register(op.r1)),
                "selgr" => (op.aux as u8, e.register(op.r2), e.register(op.x)),
                _ => (op.r2, e.number(op.imm as u64), e.register(op.r1)),
            };
            let value = choose(e, mask, yes, no);
            e.set_register(op.r1, value);
        }
        // Branches
        "brc" | "brcl" => {
            let selected = e.selected(op.r1);
            branch(e, selected, Target::Relative(op.imm));
        }
        "bcr" if op.r2 != 0 => {
            let selected = e.selected(op.r1);
            if selected != Err(false) {
                let target = e.register(op.r2);
                branch(e, selected, Target::Address(target));
            }
        }
        "bcr" if op.r1 < 14 => {}
        "bc" => {
            let selected = e.selected(op.r1);
            if selected != Err(false) {
                let target = ea(e, op);
                branch(e, selected, Target::Address(target));
            }
        }
        "brasl" | "bras" => {
            let link = e.behind();
            e.set_register(op.r1, link);
            e.branch(None, Target::Relative(op.imm));
        }
        "basr" if op.r2 != 0 => {
            let target = e.register(op.r2);
            let link = e.behind();
            e.set_register(op.r1, link);
            e.branch(None, Target::Address(target));
        }
        "brctg" => {
            let value = e.register(op.r1);
            let value = e.b.ins().iadd_imm_s(value, -1);
            e.set_register(op.r1, value);
            let more = e.b.ins().icmp_imm_u(IntCC::NotEqual, value, 0);
            e.branch(Some(more), Target::Relative(op.imm));
        }
        "brct" => {
            let value = e.word(op.r1);
            let value = e.b.ins().iadd_imm_s(value, -1);
            e.set_word(op.r1, value);
            let more = e.b.ins().icmp_imm_u(IntCC::NotEqual, value, 0);
            e.branch(Some(more), Target::Relative(op.imm));
        }
        "brxh" | "brxle" => {
            let (a, b, limit) = (e.word(op.r1), e.word(op.r2), e.word(op.r2 | 1));
            let sum = e.b.ins().iadd(a, b);
            e.set_word(op.r1, sum);
            index_branch(e, op, sum, limit, entry.mnemonic == "brxh");
        }
        "brxhg" | "brxlg" => {
            let (a, b, limit) = (e.register(op.r1), e.register(op.r2), e.register(op.r2 | 1));
            let sum = e.b.ins().iadd(a, b);
            e.set_register(op.r1, sum);
            index_branch(e, op, sum, limit, entry.mnemonic == "brxhg");
        }
        "crj" | "clrj" => {
            let (a, b) = (e.word(op.r1), e.word(op.r2));
            let order = Condition::Order { a, b, signed: entry.mnemonic == "crj" };
            let selected = e.selected_of(order, op.aux as u8);
            branch(e, selected, Target::Relative(op.imm));
        }
        "cgrj" | "clgrj" => {
            let (a, b) = (e.register(op.r1), e.register(op.r2));
            let order = Condition::Order { a, b, signed: entry.mnemonic == "cgrj" };
            let selected = e.selected_of(order, op.aux as u8);
            branch(e, selected, Target::Relative(op.imm));
        }
        "cij" | "clij" => {
            let signed = entry.mnemonic == "cij";
            let number = if signed { i64::from(op.aux as i8 as i32 as u32) } else { i64::from(op.aux) };
            let (a, b) = (e.word(op.r1), e.b.ins().iconst(I32, number));
            let selected = e.selected_of(Condition::Order { a, b, signed }, op.x);
            branch(e, selected, Target::Relative(op.imm));
        }
        "cgij" | "clgij" => {
            let signed = entry.mnemonic == "cgij";
            let number = if signed { i64::from(op.aux as i8) } else { i64::from(op.aux) };
            let (a, b) = (e.register(op.r1), e.number(number as u64));
            let selected = e.selected_of(Condition::Order { a, b, signed }, op.x);
            branch(e, selected, Target::Relative(op.imm));
        }
        _ => return false,
    }
    true
}
