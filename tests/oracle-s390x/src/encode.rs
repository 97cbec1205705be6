//! From fields to instruction bytes, by format (SA22-7832, chapter 5 "Instruction Formats").
//!
//! Fields that a format lacks are ignored, so that one structure serves all formats.

use crate::forms::{Form, Format};
use crate::vector;

/// The fields of one instruction. Wider values than the field are cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the manual's names")]
pub struct Fields {
    pub r1: u8,
    pub r2: u8,
    pub r3: u8,
    pub x2: u8,
    pub b1: u8,
    pub d1: i32,
    pub b2: u8,
    pub d2: i32,
    pub m3: u8,
    pub m4: u8,
    pub l1: u8,
    pub l2: u8,
    /// The immediate: i2 of most formats, the signed relative offset in halfwords, i4 of RIE-b and -c.
    pub imm: i64,
    /// The second immediate: i2 of RIE-c and RIS, i5 of RIE-f (imm holds i3 and i4).
    pub imm2: i64,
    /// Vector formats: registers, masks and immediates by the manual's number.
    pub v: [u8; 5],
    pub m: [u8; 7],
    pub i: [u16; 5],
}

/// The instruction bytes.
pub fn encode(form: &Form, f: &Fields) -> Vec<u8> {
    let op = form.op;
    let sub = form.sub;
    let rr = |high: u8, low: u8| (high << 4) | (low & 15);
    let bd = |b: u8, d: i32| [rr(b, ((d >> 8) & 15) as u8), d as u8];
    let [s0, s1] = bd(f.b2, f.d2);
    let [t0, t1] = bd(f.b1, f.d1);
    let high2 = (f.d2 >> 12) as u8;
    let high1 = (f.d1 >> 12) as u8;
    let i = f.imm.to_be_bytes();
    let j = f.imm2.to_be_bytes();
    match form.format {
        Format::E => vec![op, sub],
        Format::Rr => vec![op, rr(f.r1, f.r2)],
        Format::Rre => vec![op, sub, 0, rr(f.r1, f.r2)],
        // SELECT has a mask there, others nothing.
        Format::Rrf => vec![op, sub, rr(f.r3, if form.has("cond") { f.m3 } else { 0 }), rr(f.r1, f.r2)],
        Format::RrfB => vec![op, sub, rr(f.r3, f.m4), rr(f.r1, f.r2)],
        Format::RrfC => vec![op, sub, rr(f.m3, 0), rr(f.r1, f.r2)],
        Format::RrfM => vec![op, sub, rr(f.m3, f.m4), rr(f.r1, f.r2)],
        Format::Rrd => vec![op, sub, rr(f.r1, 0), rr(f.r3, f.r2)],
        Format::Rx => vec![op, rr(f.r1, f.x2), s0, s1],
        Format::Rxy => vec![op, rr(f.r1, f.x2), s0, s1, high2, sub],
        Format::Rxe => vec![op, rr(f.r1, f.x2), s0, s1, 0, sub],
        Format::Rxf => vec![op, rr(f.r3, f.x2), s0, s1, rr(f.r1, 0), sub],
        Format::Rs => vec![op, rr(f.r1, f.r3), s0, s1],
        Format::Rsy => vec![op, rr(f.r1, f.r3), s0, s1, high2, sub],
        Format::Rsi => vec![op, rr(f.r1, f.r3), i[6], i[7]],
        Format::Rsl => vec![op, rr(f.l1, 0), t0, t1, 0, sub],
        Format::Ri => vec![op, rr(f.r1, sub), i[6], i[7]],
        Format::Ril => vec![op, rr(f.r1, sub), i[4], i[5], i[6], i[7]],
        Format::RieA => vec![op, rr(f.r1, 0), i[6], i[7], rr(f.m3, 0), sub],
        Format::RieB => vec![op, rr(f.r1, f.r2), i[6], i[7], rr(f.m3, 0), sub],
        Format::RieC => vec![op, rr(f.r1, f.m3), i[6], i[7], j[7], sub],
        Format::RieD | Format::RieE => vec![op, rr(f.r1, f.r3), i[6], i[7], 0, sub],
        Format::RieF => vec![op, rr(f.r1, f.r2), i[6], i[7], j[7], sub],
        Format::RieG => vec![op, rr(f.r1, f.m3), i[6], i[7], 0, sub],
        Format::Rrs => vec![op, rr(f.r1, f.r2), s0, s1, rr(f.m3, 0), sub],
        Format::Ris => vec![op, rr(f.r1, f.m3), s0, s1, j[7], sub],
        Format::Si => vec![op, i[7], t0, t1],
        Format::Si0 => vec![op, 0, t0, t1],
        Format::Siy => vec![op, i[7], t0, t1, high1, sub],
        Format::Sil => vec![op, sub, t0, t1, i[6], i[7]],
        Format::S => vec![op, sub, s0, s1],
        Format::SsA => vec![op, f.l1, t0, t1, s0, s1],
        Format::SsB => vec![op, rr(f.l1, f.l2), t0, t1, s0, s1],
        Format::Sse => vec![op, sub, t0, t1, s0, s1],
        Format::Ssf => vec![op, rr(f.r3, sub), t0, t1, s0, s1],
        Format::Vector(layout) => vector::encode(layout, op, sub, f),
    }
}

/// The operands in words, for the report.
pub fn describe(form: &Form, f: &Fields) -> String {
    let second = format!("{}({},{})", f.d2, f.x2, f.b2);
    let first = format!("{}({})", f.d1, f.b1);
    let text = match form.format {
        Format::E => String::new(),
        Format::Rr | Format::Rre => format!("{},{}", f.r1, f.r2),
        Format::Rrf | Format::Rrd => format!("{},{},{}", f.r1, f.r2, f.r3),
        Format::RrfB => format!("{},{},{},m{}", f.r1, f.r2, f.r3, f.m4),
        Format::RrfC => format!("{},{},m{}", f.r1, f.r2, f.m3),
        Format::RrfM => format!("{},{},m{},m{}", f.r1, f.r2, f.m3, f.m4),
        Format::Rxf => format!("{},{},{second}", f.r1, f.r3),
        Format::Rx | Format::Rxy | Format::Rxe => format!("{},{second}", f.r1),
        Format::Rs | Format::Rsy => format!("{},{},{}({})", f.r1, f.r3, f.d2, f.b2),
        Format::Rsi | Format::RieD | Format::RieE => format!("{},{},{}", f.r1, f.r3, f.imm),
        Format::Rsl => format!("{}({},{})", f.d1, f.l1, f.b1),
        Format::Ri | Format::Ril => format!("{},{}", f.r1, f.imm),
        Format::RieA | Format::RieG => format!("{},{},m{}", f.r1, f.imm, f.m3),
        Format::RieB => format!("{},{},m{},{}", f.r1, f.r2, f.m3, f.imm),
        Format::RieC => format!("{},{},m{},{}", f.r1, f.imm2, f.m3, f.imm),
        Format::RieF => format!("{},{},{:#06x},{}", f.r1, f.r2, f.imm as u16, f.imm2 as u8),
        Format::Rrs => format!("{},{},m{},{}({})", f.r1, f.r2, f.m3, f.d2, f.b2),
        Format::Ris => format!("{},{},m{},{}({})", f.r1, f.imm2, f.m3, f.d2, f.b2),
        Format::Si | Format::Siy | Format::Sil => format!("{first},{}", f.imm),
        Format::Si0 => first,
        Format::S => format!("{}({})", f.d2, f.b2),
        Format::SsA => format!("{}({},{}),{}({})", f.d1, u32::from(f.l1) + 1, f.b1, f.d2, f.b2),
        Format::SsB => format!("{}({},{}),{}({},{})", f.d1, f.l1 + 1, f.b1, f.d2, f.l2 + 1, f.b2),
        Format::Sse => format!("{first},{}({})", f.d2, f.b2),
        Format::Ssf => format!("{},{first},{}({})", f.r3, f.d2, f.b2),
        Format::Vector(layout) => vector::describe(layout, f),
    };
    format!("{} {text}", form.name)
}
