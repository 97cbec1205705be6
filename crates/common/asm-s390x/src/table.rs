//! The instruction table: mnemonics, operation codes and formats (z/Architecture Principles of Operation,
//! SA22-7832, appendix B "Lists of Instructions", and chapter 5 "Instruction Formats").
//!
//! It is data only: how an operand is parsed and checked stands in `operand.rs`. Vector, decimal-floating-point
//! and hexadecimal-floating-point instructions are not in it.

use std::collections::BTreeMap;
use std::sync::OnceLock;

/// One operand in the order in which it is written. The first number is the bit position (bit 0 = most
/// significant bit of the instruction) of the field, as the Principles of Operation number them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// General register.
    R(u8),
    /// General register that must be even because it names a pair.
    Even(u8),
    /// General register that may be left out; 0 then.
    ROpt(u8),
    /// Floating-point register.
    F(u8),
    /// Control register.
    C(u8),
    /// Access register.
    A(u8),
    /// Four-bit mask.
    M(u8),
    /// Four-bit mask that may be left out; 0 then.
    MOpt(u8),
    /// `disp(base)`, 12-bit displacement; position of the base field.
    Bd(u8),
    /// As `Bd`, but the whole operand may be left out (`nop`).
    BdxOpt,
    /// `disp(index,base)`, 12 bits, index at 12 and base at 16.
    Bdx,
    /// `disp(base)`, 20 bits, base at 16.
    BdLong,
    /// `disp(index,base)`, 20 bits, index at 12 and base at 16.
    BdxLong,
    /// `disp(length,base)`: position of the length field, its width, position of the base.
    Bdl(u8, u8, u8),
    /// `disp(register,base)` with the register at 8 and the base at 16 (key-controlled moves).
    Bdr,
    /// Unsigned immediate: position, width.
    U(u8, u8),
    /// Signed immediate: position, width.
    S(u8, u8),
    /// Relative target in halfwords: position, width.
    Rel(u8, u8),
}

/// Where the operation code stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Byte 0.
    Op8,
    /// Bytes 0 and 1.
    Op16,
    /// Byte 0 and the low nibble of byte 1 (written as three hexadecimal digits).
    Op12,
    /// Byte 0 and byte 5.
    Split,
}

/// An instruction ready for its operands.
#[derive(Clone, Debug)]
pub(crate) struct Insn {
    /// Length in bytes: 2, 4 or 6.
    pub(crate) len: u8,
    /// The bits that do not depend on operands, left-aligned in 48 bits.
    pub(crate) template: u64,
    /// Name of the format, for messages.
    pub(crate) format: &'static str,
    /// The operands as written.
    pub(crate) fields: &'static [Field],
}

/// The entry of a mnemonic (lower case).
pub(crate) fn lookup(mnemonic: &str) -> Option<&'static Insn> {
    table().get(mnemonic)
}

/// All mnemonics in alphabetical order.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static Insn)> {
    table().iter().map(|(name, insn)| (name.as_str(), insn))
}

fn table() -> &'static BTreeMap<String, Insn> {
    static TABLE: OnceLock<BTreeMap<String, Insn>> = OnceLock::new();
    TABLE.get_or_init(build)
}

/// One row of formats: name, length, layout, operands, and the mnemonics that use it.
type Group = (&'static str, u8, Layout, &'static [Field], &'static [(&'static str, u16)]);

fn build() -> BTreeMap<String, Insn> {
    let mut map = BTreeMap::new();
    for &(format, len, layout, fields, rows) in GROUPS {
        for &(name, opcode) in rows {
            map.insert(name.to_owned(), Insn { len, template: template(layout, opcode), format, fields });
        }
    }
    for &(format, len, layout, fields, mask_at, conditions, rows) in EXTENDED {
        for &(before, opcode, after) in rows {
            for &(condition, mask) in conditions {
                let fixed = u64::from(mask) << (44 - mask_at);
                let template = template(layout, opcode) | fixed;
                map.insert(format!("{before}{condition}{after}"), Insn { len, template, format, fields });
            }
        }
    }
    map
}

fn template(layout: Layout, opcode: u16) -> u64 {
    let opcode = u64::from(opcode);
    match layout {
        Op8 => opcode << 40,
        Op16 => opcode << 32,
        Op12 => (opcode >> 4) << 40 | (opcode & 0xf) << 32,
        Split => (opcode >> 8) << 40 | (opcode & 0xff),
    }
}

use Field::*;
use Layout::{Op8, Op12, Op16, Split};

#[rustfmt::skip]
const GROUPS: &[Group] = &[
    ("E", 2, Op16, &[], &[
        ("pr", 0x0101), ("upt", 0x0102), ("ptff", 0x0104), ("sckpf", 0x0107), ("pfpo", 0x010a), ("tam", 0x010b),
        ("sam24", 0x010c), ("sam31", 0x010d), ("sam64", 0x010e), ("trap2", 0x01ff),
    ]),
    ("I", 2, Op8, &[U(8, 8)], &[("svc", 0x0a)]),
    ("RR", 2, Op8, &[R(8), R(12)], &[
        ("balr", 0x05), ("bctr", 0x06), ("bsm", 0x0b), ("bassm", 0x0c), ("basr", 0x0d), ("lpr", 0x10), ("lnr", 0x11),
        ("ltr", 0x12), ("lcr", 0x13), ("nr", 0x14), ("clr", 0x15), ("or", 0x16), ("xr", 0x17), ("lr", 0x18),
        ("cr", 0x19), ("ar", 0x1a), ("sr", 0x1b), ("alr", 0x1e), ("slr", 0x1f),
    ]),
    ("RR", 2, Op8, &[Even(8), R(12)], &[("mr", 0x1c), ("dr", 0x1d)]),
    ("RR", 2, Op8, &[Even(8), Even(12)], &[("mvcl", 0x0e), ("clcl", 0x0f)]),
    ("RR", 2, Op8, &[F(8), F(12)], &[("ldr", 0x28), ("ler", 0x38)]),
    ("RR", 2, Op8, &[M(8), R(12)], &[("bcr", 0x07)]),
    ("RR", 2, Op8, &[R(8)], &[("spm", 0x04)]),
    ("RR", 2, Op16, &[R(12)], &[("br", 0x07f0)]),
    ("RR", 2, Op16, &[ROpt(12)], &[("nopr", 0x0700)]),

    ("RX", 4, Op8, &[R(8), Bdx], &[
        ("sth", 0x40), ("la", 0x41), ("stc", 0x42), ("ic", 0x43), ("ex", 0x44), ("bal", 0x45), ("bct", 0x46),
        ("lh", 0x48), ("ch", 0x49), ("ah", 0x4a), ("sh", 0x4b), ("mh", 0x4c), ("bas", 0x4d), ("cvd", 0x4e),
        ("cvb", 0x4f), ("st", 0x50), ("lae", 0x51), ("n", 0x54), ("cl", 0x55), ("o", 0x56), ("x", 0x57), ("l", 0x58),
        ("c", 0x59), ("a", 0x5a), ("s", 0x5b), ("al", 0x5e), ("sl", 0x5f), ("ms", 0x71), ("lra", 0xb1),
    ]),
    ("RX", 4, Op8, &[Even(8), Bdx], &[("m", 0x5c), ("d", 0x5d)]),
    ("RX", 4, Op8, &[F(8), Bdx], &[("std", 0x60), ("ld", 0x68), ("ste", 0x70), ("le", 0x78)]),
    ("RX", 4, Op8, &[M(8), Bdx], &[("bc", 0x47)]),
    ("RX", 4, Op16, &[Bdx], &[("b", 0x47f0)]),
    ("RX", 4, Op16, &[BdxOpt], &[("nop", 0x4700)]),

    ("RXY", 6, Split, &[R(8), BdxLong], &[
        ("ltg", 0xe302), ("lrag", 0xe303), ("lg", 0xe304), ("cvby", 0xe306), ("ag", 0xe308), ("sg", 0xe309),
        ("alg", 0xe30a), ("slg", 0xe30b), ("msg", 0xe30c), ("cvbg", 0xe30e), ("lrvg", 0xe30f), ("lt", 0xe312),
        ("lray", 0xe313), ("lgf", 0xe314), ("lgh", 0xe315), ("llgf", 0xe316), ("llgt", 0xe317), ("agf", 0xe318),
        ("sgf", 0xe319), ("algf", 0xe31a), ("slgf", 0xe31b), ("msgf", 0xe31c), ("lrv", 0xe31e), ("lrvh", 0xe31f),
        ("cg", 0xe320), ("clg", 0xe321), ("stg", 0xe324), ("ntstg", 0xe325), ("cvdy", 0xe326), ("lzrg", 0xe32a),
        ("cvdg", 0xe32e), ("strvg", 0xe32f), ("cgf", 0xe330), ("clgf", 0xe331), ("ltgf", 0xe332), ("cgh", 0xe334),
        ("agh", 0xe338), ("sgh", 0xe339), ("llzrgf", 0xe33a), ("lzrf", 0xe33b), ("mgh", 0xe33c), ("strv", 0xe33e),
        ("strvh", 0xe33f), ("bctg", 0xe346), ("sty", 0xe350), ("msy", 0xe351), ("msc", 0xe353), ("ny", 0xe354),
        ("cly", 0xe355), ("oy", 0xe356), ("xy", 0xe357), ("ly", 0xe358), ("cy", 0xe359), ("ay", 0xe35a),
        ("sy", 0xe35b), ("aly", 0xe35e), ("sly", 0xe35f), ("sthy", 0xe370), ("lay", 0xe371), ("stcy", 0xe372),
        ("icy", 0xe373), ("laey", 0xe375), ("lb", 0xe376), ("lgb", 0xe377), ("lhy", 0xe378), ("chy", 0xe379),
        ("ahy", 0xe37a), ("shy", 0xe37b), ("mhy", 0xe37c), ("ng", 0xe380), ("og", 0xe381), ("xg", 0xe382),
        ("msgc", 0xe383), ("lgat", 0xe385), ("alcg", 0xe388), ("slbg", 0xe389), ("llgc", 0xe390), ("llgh", 0xe391),
        ("llc", 0xe394), ("llh", 0xe395), ("alc", 0xe398), ("slb", 0xe399), ("lat", 0xe39f), ("lbh", 0xe3c0),
        ("llch", 0xe3c2), ("stch", 0xe3c3), ("lhh", 0xe3c4), ("llhh", 0xe3c6), ("sthh", 0xe3c7), ("lfh", 0xe3ca),
        ("stfh", 0xe3cb), ("chf", 0xe3cd), ("clhf", 0xe3cf),
    ]),
    ("RXY", 6, Split, &[Even(8), BdxLong], &[
        ("dsg", 0xe30d), ("dsgf", 0xe31d), ("mfy", 0xe35c), ("mg", 0xe384), ("mlg", 0xe386), ("dlg", 0xe387),
        ("stpq", 0xe38e), ("lpq", 0xe38f), ("ml", 0xe396), ("dl", 0xe397),
    ]),
    ("RXY", 6, Split, &[M(8), BdxLong], &[("pfd", 0xe336)]),
    ("RXY", 6, Split, &[F(8), BdxLong], &[("ley", 0xed64), ("ldy", 0xed65), ("stey", 0xed66), ("stdy", 0xed67)]),
    ("RXE", 6, Split, &[F(8), Bdx], &[
        ("ldeb", 0xed04), ("keb", 0xed08), ("ceb", 0xed09), ("aeb", 0xed0a), ("seb", 0xed0b), ("mdeb", 0xed0c),
        ("deb", 0xed0d), ("tceb", 0xed10), ("tcdb", 0xed11), ("sqeb", 0xed14), ("sqdb", 0xed15), ("meeb", 0xed17),
        ("kdb", 0xed18), ("cdb", 0xed19), ("adb", 0xed1a), ("sdb", 0xed1b), ("mdb", 0xed1c), ("ddb", 0xed1d),
    ]),
    ("RXE", 6, Split, &[R(8), Bdx, M(32)], &[("lcbb", 0xe727)]),
    ("RXF", 6, Split, &[F(32), F(8), Bdx], &[("maeb", 0xed0e), ("mseb", 0xed0f), ("madb", 0xed1e), ("msdb", 0xed1f)]),

    ("RRE", 4, Op16, &[R(24), R(28)], &[
        ("servc", 0xb220), ("pt", 0xb228), ("iske", 0xb229), ("rrbe", 0xb22a), ("tb", 0xb22c), ("pgin", 0xb22e),
        ("pgout", 0xb22f), ("ivsk", 0xb223), ("bakr", 0xb240), ("stura", 0xb246), ("ereg", 0xb249), ("lura", 0xb24b),
        ("msr", 0xb252), ("mvpg", 0xb254), ("mvst", 0xb255), ("bsg", 0xb258), ("bsa", 0xb25a), ("clst", 0xb25d),
        ("srst", 0xb25e), ("lpgr", 0xb900), ("lngr", 0xb901),
        ("ltgr", 0xb902), ("lcgr", 0xb903), ("lgr", 0xb904), ("lurag", 0xb905), ("lgbr", 0xb906), ("lghr", 0xb907),
        ("agr", 0xb908), ("sgr", 0xb909), ("algr", 0xb90a), ("slgr", 0xb90b), ("msgr", 0xb90c), ("eregg", 0xb90e),
        ("lrvgr", 0xb90f), ("lpgfr", 0xb910), ("lngfr", 0xb911), ("ltgfr", 0xb912), ("lcgfr", 0xb913),
        ("lgfr", 0xb914), ("llgfr", 0xb916), ("llgtr", 0xb917), ("agfr", 0xb918), ("sgfr", 0xb919), ("algfr", 0xb91a),
        ("slgfr", 0xb91b), ("msgfr", 0xb91c), ("lrvr", 0xb91f), ("cgr", 0xb920), ("clgr", 0xb921), ("sturg", 0xb925),
        ("lbr", 0xb926), ("lhr", 0xb927), ("cgfr", 0xb930), ("clgfr", 0xb931), ("ngr", 0xb980), ("ogr", 0xb981),
        ("xgr", 0xb982), ("llgcr", 0xb984), ("llghr", 0xb985), ("alcgr", 0xb988), ("slbgr", 0xb989), ("epsw", 0xb98d),
        ("llcr", 0xb994), ("llhr", 0xb995), ("alcr", 0xb998), ("slbr", 0xb999), ("uvc", 0xb9a4),
        ("srstu", 0xb9be),
    ]),
    ("RRE", 4, Op16, &[Even(24), R(28)], &[
        ("csp", 0xb250), ("dsgr", 0xb90d), ("dsgfr", 0xb91d), ("flogr", 0xb983), ("mlgr", 0xb986), ("dlgr", 0xb987),
        ("cspg", 0xb98a), ("mlr", 0xb996), ("dlr", 0xb997),
    ]),
    ("RRE", 4, Op16, &[R(24), Even(28)], &[
        ("cksm", 0xb241), ("kmac", 0xb91e), ("kimd", 0xb93e), ("klmd", 0xb93f),
    ]),
    ("RRE", 4, Op16, &[Even(24), Even(28)], &[
        ("cuse", 0xb257), ("kmf", 0xb92a), ("kmo", 0xb92b), ("km", 0xb92e), ("kmc", 0xb92f), ("prno", 0xb93c),
    ]),
    ("RRE", 4, Op16, &[R(24)], &[
        ("ipm", 0xb222), ("iac", 0xb224), ("ssar", 0xb225), ("epar", 0xb226), ("esar", 0xb227), ("chsc", 0xb25f),
        ("efpc", 0xb38c), ("sfpc", 0xb384), ("epair", 0xb99a), ("esea", 0xb99d), ("esair", 0xb99b), ("ptf", 0xb9a2),
    ]),
    ("RRE", 4, Op16, &[], &[("palb", 0xb248), ("pcc", 0xb92c), ("pckmo", 0xb928)]),
    ("RRE", 4, Op16, &[A(24), R(28)], &[("sar", 0xb24e)]),
    ("RRE", 4, Op16, &[R(24), A(28)], &[("ear", 0xb24f)]),
    ("RRE", 4, Op16, &[A(24), A(28)], &[("cpya", 0xb24d)]),
    ("RRE", 4, Op16, &[A(24), R(28)], &[("tar", 0xb24c)]),
    ("RRE", 4, Op16, &[F(24), F(28)], &[
        ("lpebr", 0xb300), ("lnebr", 0xb301), ("ltebr", 0xb302), ("lcebr", 0xb303), ("ldebr", 0xb304),
        ("kebr", 0xb308), ("cebr", 0xb309), ("aebr", 0xb30a), ("sebr", 0xb30b), ("mdebr", 0xb30c), ("debr", 0xb30d),
        ("lpdbr", 0xb310), ("lndbr", 0xb311), ("ltdbr", 0xb312), ("lcdbr", 0xb313), ("sqebr", 0xb314),
        ("sqdbr", 0xb315), ("meebr", 0xb317), ("kdbr", 0xb318), ("cdbr", 0xb319), ("adbr", 0xb31a), ("sdbr", 0xb31b),
        ("mdbr", 0xb31c), ("ddbr", 0xb31d), ("ledbr", 0xb344), ("lpdfr", 0xb370), ("lndfr", 0xb371), ("lcdfr", 0xb373),
    ]),
    ("RRE", 4, Op16, &[F(24)], &[("lzer", 0xb374), ("lzdr", 0xb375)]),
    ("RRE", 4, Op16, &[F(24), R(28)], &[
        ("cefbr", 0xb394), ("cdfbr", 0xb395), ("cegbr", 0xb3a4), ("cdgbr", 0xb3a5), ("ldgr", 0xb3c1),
    ]),
    ("RRE", 4, Op16, &[R(24), F(28)], &[("lgdr", 0xb3cd)]),
    ("RRD", 4, Op16, &[F(16), F(24), F(28)], &[
        ("maebr", 0xb30e), ("msebr", 0xb30f), ("madbr", 0xb31e), ("msdbr", 0xb31f),
    ]),
    ("RRF-b", 4, Op16, &[F(24), F(16), F(28)], &[("cpsdr", 0xb372)]),
    ("RRF-e", 4, Op16, &[R(24), M(16), F(28)], &[
        ("cfebr", 0xb398), ("cfdbr", 0xb399), ("cgebr", 0xb3a8), ("cgdbr", 0xb3a9),
    ]),
    ("RRF-e", 4, Op16, &[R(24), M(16), F(28), M(20)], &[
        ("clfebr", 0xb39c), ("clfdbr", 0xb39d), ("clgebr", 0xb3ac), ("clgdbr", 0xb3ad),
    ]),
    ("RRF-e", 4, Op16, &[F(24), M(16), R(28), M(20)], &[
        ("celfbr", 0xb390), ("cdlfbr", 0xb391), ("celgbr", 0xb3a0), ("cdlgbr", 0xb3a1),
    ]),
    ("RRF-e", 4, Op16, &[F(24), M(16), F(28)], &[("fiebr", 0xb357), ("fidbr", 0xb35f)]),
    ("RRF-a", 4, Op16, &[R(24), R(28), R(16)], &[
        ("nngrk", 0xb964), ("ocgrk", 0xb965), ("nogrk", 0xb966), ("nxgrk", 0xb967), ("nnrk", 0xb974), ("ocrk", 0xb975),
        ("nork", 0xb976), ("nxrk", 0xb977), ("ngrk", 0xb9e4), ("ncgrk", 0xb9e5), ("ogrk", 0xb9e6), ("xgrk", 0xb9e7),
        ("agrk", 0xb9e8), ("sgrk", 0xb9e9), ("algrk", 0xb9ea), ("slgrk", 0xb9eb), ("msgrkc", 0xb9ed), ("nrk", 0xb9f4),
        ("ncrk", 0xb9f5), ("ork", 0xb9f6), ("xrk", 0xb9f7), ("ark", 0xb9f8), ("srk", 0xb9f9), ("alrk", 0xb9fa),
        ("slrk", 0xb9fb), ("msrkc", 0xb9fd),
    ]),
    ("RRF-a", 4, Op16, &[Even(24), R(28), R(16)], &[("mgrk", 0xb9ec)]),
    ("RRF-a", 4, Op16, &[R(24), R(28), R(16), M(20)], &[("selgr", 0xb9e3), ("selr", 0xb9f0)]),
    ("RRF-a", 4, Op16, &[R(24), R(28), ROpt(16), MOpt(20)], &[("ipte", 0xb221)]),
    ("RRF-b", 4, Op16, &[R(24), R(16), R(28), MOpt(20)], &[("idte", 0xb98e)]),
    ("RRF-b", 4, Op16, &[Even(24), Even(16), R(28), MOpt(20)], &[("crdte", 0xb98f)]),
    ("RRF-b", 4, Op16, &[R(24), R(16), R(28), M(20)], &[("lptea", 0xb9aa)]),
    ("RRF-b", 4, Op16, &[Even(24), Even(16), Even(28)], &[("kmctr", 0xb92d)]),
    ("RRF-c", 4, Op16, &[R(24), R(28), M(16)], &[
        ("cgrt", 0xb960), ("clgrt", 0xb961), ("crt", 0xb972), ("clrt", 0xb973), ("locgr", 0xb9e2), ("locr", 0xb9f2),
        ("locfhr", 0xb9e0), ("essa", 0xb9ab),
    ]),
    ("RRF-c", 4, Op16, &[R(24), R(28), MOpt(16)], &[("sske", 0xb22b), ("popcnt", 0xb9e1)]),
    ("RRF-c", 4, Op16, &[Even(24), Even(28), MOpt(16)], &[("cu14", 0xb9b0), ("cu24", 0xb9b1)]),
    ("RRF-c", 4, Op16, &[Even(24), Even(28)], &[("cu41", 0xb9b2), ("cu42", 0xb9b3)]),
    ("IE", 4, Op16, &[U(24, 4), U(28, 4)], &[("niai", 0xb2fa)]),

    ("RS", 4, Op8, &[R(8), R(12), Bd(16)], &[
        ("diag", 0x83), ("bxh", 0x86), ("bxle", 0x87), ("stm", 0x90), ("lm", 0x98), ("trace", 0x99), ("sigp", 0xae),
        ("cs", 0xba),
    ]),
    ("RS", 4, Op8, &[Even(8), Even(12), Bd(16)], &[("mvcle", 0xa8), ("clcle", 0xa9), ("cds", 0xbb)]),
    ("RS", 4, Op8, &[C(8), C(12), Bd(16)], &[("stctl", 0xb6), ("lctl", 0xb7)]),
    ("RS", 4, Op8, &[A(8), A(12), Bd(16)], &[("lam", 0x9a), ("stam", 0x9b)]),
    ("RS", 4, Op8, &[R(8), M(12), Bd(16)], &[("clm", 0xbd), ("stcm", 0xbe), ("icm", 0xbf)]),
    ("RS", 4, Op8, &[R(8), Bd(16)], &[("srl", 0x88), ("sll", 0x89), ("sra", 0x8a), ("sla", 0x8b)]),
    ("RS", 4, Op8, &[Even(8), Bd(16)], &[("srdl", 0x8c), ("sldl", 0x8d), ("srda", 0x8e), ("slda", 0x8f)]),
    ("RSY", 6, Split, &[R(8), R(12), BdLong], &[
        ("lmg", 0xeb04), ("srag", 0xeb0a), ("slag", 0xeb0b), ("srlg", 0xeb0c), ("sllg", 0xeb0d), ("tracg", 0xeb0f),
        ("csy", 0xeb14), ("rllg", 0xeb1c), ("rll", 0xeb1d), ("stmg", 0xeb24), ("stmh", 0xeb26), ("csg", 0xeb30),
        ("bxhg", 0xeb44), ("bxleg", 0xeb45), ("ecag", 0xeb4c), ("stmy", 0xeb90), ("lmh", 0xeb96), ("lmy", 0xeb98),
        ("sic", 0xebd1), ("srak", 0xebdc), ("slak", 0xebdd), ("srlk", 0xebde), ("sllk", 0xebdf), ("lang", 0xebe4),
        ("laog", 0xebe6), ("laxg", 0xebe7), ("laag", 0xebe8), ("laalg", 0xebea), ("lan", 0xebf4), ("lao", 0xebf6),
        ("lax", 0xebf7), ("laa", 0xebf8), ("laal", 0xebfa),
    ]),
    ("RSY", 6, Split, &[Even(8), Even(12), BdLong], &[
        ("cdsy", 0xeb31), ("cdsg", 0xeb3e), ("mvclu", 0xeb8e), ("clclu", 0xeb8f),
    ]),
    ("RSY", 6, Split, &[C(8), C(12), BdLong], &[("stctg", 0xeb25), ("lctlg", 0xeb2f)]),
    ("RSY", 6, Split, &[A(8), A(12), BdLong], &[("lamy", 0xeb9a), ("stamy", 0xeb9b)]),
    ("RSY", 6, Split, &[R(8), M(12), BdLong], &[
        ("clmh", 0xeb20), ("clmy", 0xeb21), ("stcmh", 0xeb2c), ("stcmy", 0xeb2d), ("icmh", 0xeb80), ("icmy", 0xeb81),
    ]),
    ("RSY", 6, Split, &[R(8), BdLong, M(12)], &[
        ("locfh", 0xebe0), ("stocfh", 0xebe1), ("locg", 0xebe2), ("stocg", 0xebe3), ("loc", 0xebf2), ("stoc", 0xebf3),
    ]),

    ("SI", 4, Op8, &[Bd(16), U(8, 8)], &[
        ("tm", 0x91), ("mvi", 0x92), ("ni", 0x94), ("cli", 0x95), ("oi", 0x96), ("xi", 0x97), ("stnsm", 0xac),
        ("stosm", 0xad), ("mc", 0xaf),
    ]),
    ("SIY", 6, Split, &[BdLong, U(8, 8)], &[
        ("tmy", 0xeb51), ("mviy", 0xeb52), ("niy", 0xeb54), ("cliy", 0xeb55), ("oiy", 0xeb56), ("xiy", 0xeb57),
    ]),
    ("SIY", 6, Split, &[BdLong, S(8, 8)], &[("asi", 0xeb6a), ("alsi", 0xeb6e), ("agsi", 0xeb7a), ("algsi", 0xeb7e)]),
    ("SIL", 6, Op16, &[Bd(16), S(32, 16)], &[
        ("mvhhi", 0xe544), ("mvghi", 0xe548), ("mvhi", 0xe54c), ("chhsi", 0xe554), ("cghsi", 0xe558), ("chsi", 0xe55c),
    ]),
    ("SIL", 6, Op16, &[Bd(16), U(32, 16)], &[("clhhsi", 0xe555), ("clghsi", 0xe559), ("clfhsi", 0xe55d)]),
    ("S", 4, Op8, &[Bd(16)], &[("ssm", 0x80), ("lpsw", 0x82), ("ts", 0x93)]),
    ("S", 4, Op16, &[Bd(16)], &[
        ("stidp", 0xb202), ("sck", 0xb204), ("stck", 0xb205), ("sckc", 0xb206), ("stckc", 0xb207), ("spt", 0xb208),
        ("stpt", 0xb209), ("spka", 0xb20a), ("spx", 0xb210), ("stpx", 0xb211), ("stap", 0xb212), ("pc", 0xb218),
        ("sac", 0xb219), ("msch", 0xb232), ("ssch", 0xb233), ("stsch", 0xb234), ("tsch", 0xb235), ("tpi", 0xb236),
        ("stcrw", 0xb239), ("stcps", 0xb23a), ("siga", 0xb274), ("rp", 0xb277), ("stcke", 0xb278), ("sacf", 0xb279),
        ("stckf", 0xb27c), ("stsi", 0xb27d), ("lpp", 0xb280), ("lcctl", 0xb284), ("lpctl", 0xb285), ("srnm", 0xb299),
        ("stfpc", 0xb29c), ("lfpc", 0xb29d), ("stfle", 0xb2b0), ("stfl", 0xb2b1), ("lpswe", 0xb2b2), ("srnmb", 0xb2b8),
        ("lfas", 0xb2bd), ("tabort", 0xb2fc),
    ]),
    ("S", 4, Op16, &[], &[
        ("ipk", 0xb20b), ("ptlb", 0xb20d), ("csch", 0xb230), ("hsch", 0xb231), ("sal", 0xb237), ("rsch", 0xb238),
        ("rchp", 0xb23b), ("schm", 0xb23c), ("xsch", 0xb276), ("tend", 0xb2f8),
    ]),

    ("RI", 4, Op12, &[R(8), U(16, 16)], &[
        ("iihh", 0xa50), ("iihl", 0xa51), ("iilh", 0xa52), ("iill", 0xa53), ("nihh", 0xa54), ("nihl", 0xa55),
        ("nilh", 0xa56), ("nill", 0xa57), ("oihh", 0xa58), ("oihl", 0xa59), ("oilh", 0xa5a), ("oill", 0xa5b),
        ("llihh", 0xa5c), ("llihl", 0xa5d), ("llilh", 0xa5e), ("llill", 0xa5f), ("tmlh", 0xa70), ("tmh", 0xa70),
        ("tmll", 0xa71), ("tml", 0xa71), ("tmhh", 0xa72), ("tmhl", 0xa73),
    ]),
    ("RI", 4, Op12, &[R(8), S(16, 16)], &[
        ("lhi", 0xa78), ("lghi", 0xa79), ("ahi", 0xa7a), ("aghi", 0xa7b), ("mhi", 0xa7c), ("mghi", 0xa7d),
        ("chi", 0xa7e), ("cghi", 0xa7f),
    ]),
    ("RI", 4, Op12, &[R(8), Rel(16, 16)], &[
        ("bras", 0xa75), ("jas", 0xa75), ("brct", 0xa76), ("jct", 0xa76), ("brctg", 0xa77), ("jctg", 0xa77),
    ]),
    ("RI", 4, Op12, &[M(8), Rel(16, 16)], &[("brc", 0xa74)]),
    ("RI", 4, Op16, &[Rel(16, 16)], &[("j", 0xa7f4), ("jnop", 0xa704)]),
    ("RIL", 6, Op12, &[R(8), S(16, 32)], &[
        ("lgfi", 0xc01), ("msgfi", 0xc20), ("msfi", 0xc21), ("agfi", 0xc28), ("afi", 0xc29), ("cgfi", 0xc2c),
        ("cfi", 0xc2d), ("aih", 0xcc8), ("alsih", 0xcca), ("alsihn", 0xccb), ("cih", 0xccd),
    ]),
    ("RIL", 6, Op12, &[R(8), U(16, 32)], &[
        ("xihf", 0xc06), ("xilf", 0xc07), ("iihf", 0xc08), ("iilf", 0xc09), ("nihf", 0xc0a), ("nilf", 0xc0b),
        ("oihf", 0xc0c), ("oilf", 0xc0d), ("llihf", 0xc0e), ("llilf", 0xc0f), ("slgfi", 0xc24), ("slfi", 0xc25),
        ("algfi", 0xc2a), ("alfi", 0xc2b), ("clgfi", 0xc2e), ("clfi", 0xc2f), ("clih", 0xccf),
    ]),
    ("RIL", 6, Op12, &[R(8), Rel(16, 32)], &[
        ("larl", 0xc00), ("brasl", 0xc05), ("jasl", 0xc05), ("llhrl", 0xc42), ("lghrl", 0xc44), ("lhrl", 0xc45),
        ("llghrl", 0xc46), ("sthrl", 0xc47), ("lgrl", 0xc48), ("stgrl", 0xc4b), ("lgfrl", 0xc4c), ("lrl", 0xc4d),
        ("llgfrl", 0xc4e), ("strl", 0xc4f), ("exrl", 0xc60), ("cghrl", 0xc64), ("chrl", 0xc65), ("clghrl", 0xc66),
        ("clhrl", 0xc67), ("cgrl", 0xc68), ("clgrl", 0xc6a), ("cgfrl", 0xc6c), ("crl", 0xc6d), ("clgfrl", 0xc6e),
        ("clrl", 0xc6f), ("brcth", 0xcc6),
    ]),
    ("RIL", 6, Op12, &[M(8), Rel(16, 32)], &[("brcl", 0xc04), ("pfdrl", 0xc62)]),
    ("RIL", 6, Op16, &[Rel(16, 32)], &[("jg", 0xc0f4), ("jgnop", 0xc004)]),
    ("RSI", 4, Op8, &[R(8), R(12), Rel(16, 16)], &[("brxh", 0x84), ("jxh", 0x84), ("brxle", 0x85), ("jxle", 0x85)]),
    ("RIE-e", 6, Split, &[R(8), R(12), Rel(16, 16)], &[
        ("brxhg", 0xec44), ("jxhg", 0xec44), ("brxlg", 0xec45), ("jxleg", 0xec45),
    ]),
    ("RIE-a", 6, Split, &[R(8), S(16, 16), M(32)], &[("cgit", 0xec70), ("cit", 0xec72)]),
    ("RIE-a", 6, Split, &[R(8), U(16, 16), M(32)], &[("clgit", 0xec71), ("clfit", 0xec73)]),
    ("RIE-b", 6, Split, &[R(8), R(12), M(32), Rel(16, 16)], &[
        ("cgrj", 0xec64), ("clgrj", 0xec65), ("crj", 0xec76), ("clrj", 0xec77),
    ]),
    ("RIE-c", 6, Split, &[R(8), S(32, 8), M(12), Rel(16, 16)], &[("cgij", 0xec7c), ("cij", 0xec7e)]),
    ("RIE-c", 6, Split, &[R(8), U(32, 8), M(12), Rel(16, 16)], &[("clgij", 0xec7d), ("clij", 0xec7f)]),
    ("RIE-d", 6, Split, &[R(8), R(12), S(16, 16)], &[
        ("ahik", 0xecd8), ("aghik", 0xecd9), ("alhsik", 0xecda), ("alghsik", 0xecdb),
    ]),
    ("RIE-f", 6, Split, &[R(8), R(12), U(16, 8), U(24, 8), U(32, 8)], &[
        ("risblg", 0xec51), ("rnsbg", 0xec54), ("risbg", 0xec55), ("rosbg", 0xec56), ("rxsbg", 0xec57),
        ("risbgn", 0xec59), ("risbhg", 0xec5d),
    ]),
    ("RIE-g", 6, Split, &[R(8), S(16, 16), M(12)], &[("lochi", 0xec42), ("locghi", 0xec46), ("lochhi", 0xec4e)]),
    ("RRS", 6, Split, &[R(8), R(12), M(32), Bd(16)], &[
        ("cgrb", 0xece4), ("clgrb", 0xece5), ("crb", 0xecf6), ("clrb", 0xecf7),
    ]),
    ("RIS", 6, Split, &[R(8), S(32, 8), M(12), Bd(16)], &[("cgib", 0xecfc), ("cib", 0xecfe)]),
    ("RIS", 6, Split, &[R(8), U(32, 8), M(12), Bd(16)], &[("clgib", 0xecfd), ("clib", 0xecff)]),

    ("SS-a", 6, Op8, &[Bdl(8, 8, 16), Bd(32)], &[
        ("trtr", 0xd0), ("mvn", 0xd1), ("mvc", 0xd2), ("mvz", 0xd3), ("nc", 0xd4), ("clc", 0xd5), ("oc", 0xd6),
        ("xc", 0xd7), ("tr", 0xdc), ("trt", 0xdd), ("ed", 0xde), ("edmk", 0xdf), ("unpku", 0xe2), ("mvcin", 0xe8),
    ]),
    ("SS-b", 6, Op8, &[Bdl(8, 4, 16), Bdl(12, 4, 32)], &[
        ("mvo", 0xf1), ("pack", 0xf2), ("unpk", 0xf3), ("zap", 0xf8), ("cp", 0xf9), ("ap", 0xfa), ("sp", 0xfb),
        ("mp", 0xfc), ("dp", 0xfd),
    ]),
    ("SS-c", 6, Op8, &[Bdl(8, 4, 16), Bd(32), U(12, 4)], &[("srp", 0xf0)]),
    ("SS-d", 6, Op8, &[Bdr, Bd(32), R(12)], &[("mvck", 0xd9), ("mvcp", 0xda), ("mvcs", 0xdb)]),
    ("SSE", 6, Op16, &[Bd(16), Bd(32)], &[
        ("lasp", 0xe500), ("tprot", 0xe501), ("strag", 0xe502), ("mvcsk", 0xe50e), ("mvcdk", 0xe50f),
    ]),
    ("SSF", 6, Op12, &[Bd(16), Bd(32), R(8)], &[("mvcos", 0xc80), ("ectg", 0xc81), ("csst", 0xc82)]),
    ("SSF", 6, Op12, &[Even(8), Bd(16), Bd(32)], &[("lpd", 0xc84), ("lpdg", 0xc85)]),
];

/// Extended mnemonics: format, length, layout, operands, bit position of the mask, conditions, and
/// { text before the condition, operation code, text after it }.
type ExtendedGroup = (
    &'static str,
    u8,
    Layout,
    &'static [Field],
    u8,
    &'static [(&'static str, u8)],
    &'static [(&'static str, u16, &'static str)],
);

/// Condition suffixes of branches.
#[rustfmt::skip]
const BRANCH: &[(&str, u8)] = &[
    ("o", 1), ("h", 2), ("p", 2), ("nle", 3), ("l", 4), ("m", 4), ("nhe", 5), ("lh", 6), ("ne", 7), ("nz", 7), ("e", 8),
    ("z", 8), ("nlh", 9), ("he", 10), ("nl", 11), ("nm", 11), ("le", 12), ("nh", 13), ("np", 13), ("no", 14),
];
/// Condition suffixes of load and store on condition.
#[rustfmt::skip]
const ON_CONDITION: &[(&str, u8)] = &[
    ("o", 1), ("h", 2), ("nle", 3), ("l", 4), ("nhe", 5), ("lh", 6), ("ne", 7), ("e", 8), ("nlh", 9), ("he", 10),
    ("nl", 11), ("le", 12), ("nh", 13), ("no", 14),
];
/// Condition suffixes of the compare-and-branch and compare-and-trap instructions.
#[rustfmt::skip]
const COMPARE: &[(&str, u8)] = &[
    ("h", 2), ("nle", 2), ("l", 4), ("nhe", 4), ("ne", 6), ("lh", 6), ("e", 8), ("nlh", 8), ("nl", 10), ("he", 10),
    ("nh", 12), ("le", 12),
];

#[rustfmt::skip]
const EXTENDED: &[ExtendedGroup] = &[
    ("RR", 2, Op8, &[R(12)], 8, BRANCH, &[("b", 0x07, "r")]),
    ("RX", 4, Op8, &[Bdx], 8, BRANCH, &[("b", 0x47, "")]),
    ("RI", 4, Op12, &[Rel(16, 16)], 8, BRANCH, &[("j", 0xa74, "")]),
    ("RIL", 6, Op12, &[Rel(16, 32)], 8, BRANCH, &[("jg", 0xc04, "")]),
    ("RRF-c", 4, Op16, &[R(24), R(28)], 16, ON_CONDITION, &[("locgr", 0xb9e2, ""), ("locr", 0xb9f2, "")]),
    ("RSY", 6, Split, &[R(8), BdLong], 12, ON_CONDITION, &[
        ("locg", 0xebe2, ""), ("stocg", 0xebe3, ""), ("loc", 0xebf2, ""), ("stoc", 0xebf3, ""),
    ]),
    ("RIE-g", 6, Split, &[R(8), S(16, 16)], 12, ON_CONDITION, &[("lochi", 0xec42, ""), ("locghi", 0xec46, "")]),
    ("RRF-a", 4, Op16, &[R(24), R(28), R(16)], 20, ON_CONDITION, &[("selgr", 0xb9e3, ""), ("selr", 0xb9f0, "")]),
    ("RRF-c", 4, Op16, &[R(24), R(28)], 16, COMPARE, &[
        ("cgrt", 0xb960, ""), ("clgrt", 0xb961, ""), ("crt", 0xb972, ""), ("clrt", 0xb973, ""),
    ]),
    ("RIE-a", 6, Split, &[R(8), S(16, 16)], 32, COMPARE, &[("cgit", 0xec70, ""), ("cit", 0xec72, "")]),
    ("RIE-a", 6, Split, &[R(8), U(16, 16)], 32, COMPARE, &[("clgit", 0xec71, ""), ("clfit", 0xec73, "")]),
    ("RIE-b", 6, Split, &[R(8), R(12), Rel(16, 16)], 32, COMPARE, &[
        ("cgrj", 0xec64, ""), ("clgrj", 0xec65, ""), ("crj", 0xec76, ""), ("clrj", 0xec77, ""),
    ]),
    ("RIE-c", 6, Split, &[R(8), S(32, 8), Rel(16, 16)], 12, COMPARE, &[("cgij", 0xec7c, ""), ("cij", 0xec7e, "")]),
    ("RIE-c", 6, Split, &[R(8), U(32, 8), Rel(16, 16)], 12, COMPARE, &[("clgij", 0xec7d, ""), ("clij", 0xec7f, "")]),
];
