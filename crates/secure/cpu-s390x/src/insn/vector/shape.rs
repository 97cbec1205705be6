//! Instructions that arrange elements: generate, replicate, merge, pack, unpack, permute, select (SA22-7832, chapter 21).

use super::lane::{Lane, Wide, get, map1, narrow, replicate, widen};
use super::{enabled, m24, m32, require};
use crate::cpu::Cpu;
use crate::insn::fac::{VECTOR, VECTOR_ENHANCEMENTS_1};
use crate::insn::row;
use crate::op::{Entry, Flow, Format::*, Op, Step};

pub(crate) const TABLE: &[Entry] = &[
    row(0xe744, "vgbm", VRIa, VECTOR, |c, op| {
        enabled(c)?;
        let bytes = std::array::from_fn(|n| if op.imm & 0x8000 >> n != 0 { 0xff } else { 0 });
        c.set_v(op.r1, u128::from_be_bytes(bytes));
        Ok(Flow::Next)
    }),
    row(0xe746, "vgm", VRIb, VECTOR, |c, op| {
        enabled(c)?;
        let size = m32(op);
        require(c, size < 4)?;
        let bits = 8 << size;
        let (first, last) = (op.imm as u32 >> 8 & (bits - 1), op.imm as u32 & (bits - 1));
        // Ones from the first bit on, and ones up to the last bit.
        let ones = u64::MAX >> (64 - bits);
        let (from, to) = (ones >> first, ones << (bits - 1 - last));
        let mask = if first <= last { from & to } else { from | to };
        c.set_v(op.r1, replicate(size, u128::from(mask)));
        Ok(Flow::Next)
    }),
    row(0xe745, "vrepi", VRIa, VECTOR, |c, op| {
        enabled(c)?;
        require(c, m32(op) < 4)?;
        c.set_v(op.r1, replicate(m32(op), op.imm as u128));
        Ok(Flow::Next)
    }),
    row(0xe74d, "vrep", VRIc, VECTOR, |c, op| {
        enabled(c)?;
        let (size, index) = (m32(op), op.imm as u32);
        require(c, size < 4 && index < 16 >> size)?;
        c.set_v(op.r1, replicate(size, get(c.v(op.r2), size, index)));
        Ok(Flow::Next)
    }),
    row(0xe761, "vmrh", VRRc, VECTOR, |c, op| {
        enabled(c)?;
        let (a, b) = (c.v(op.r2) >> 64, c.v(op.x) >> 64);
        let value = by_size!(c, m32(op), u b h f g, T => merge::<T>(a, b));
        c.set_v(op.r1, value);
        Ok(Flow::Next)
    }),
    row(0xe760, "vmrl", VRRc, VECTOR, |c, op| {
        enabled(c)?;
        let (a, b) = (c.v(op.r2), c.v(op.x));
        let value = by_size!(c, m32(op), u b h f g, T => merge::<T>(a, b));
        c.set_v(op.r1, value);
        Ok(Flow::Next)
    }),
    // Pack: the size is that of the source, so the result's is one less.
    row(0xe794, "vpk", VRRc, VECTOR, |c, op| {
        enabled(c)?;
        let (a, b) = (c.v(op.r2), c.v(op.x));
        let value = by_size!(c, m32(op).wrapping_sub(1), u b h f, T => narrow(a, b, |x| x as T));
        c.set_v(op.r1, value);
        Ok(Flow::Next)
    }),
    row(0xe797, "vpks", VRRb, VECTOR, |c, op| {
        enabled(c)?;
        let (a, b) = (c.v(op.r2), c.v(op.x));
        by_size!(c, m32(op).wrapping_sub(1), i b h f, T => {
            saturate(c, op, a, b, |x: Wide<T>| x.clamp(T::MIN.into(), T::MAX.into()) as T, |x| x.into())
        })
    }),
    row(0xe795, "vpkls", VRRb, VECTOR, |c, op| {
        enabled(c)?;
        let (a, b) = (c.v(op.r2), c.v(op.x));
        by_size!(c, m32(op).wrapping_sub(1), u b h f, T => {
            saturate(c, op, a, b, |x: Wide<T>| x.min(T::MAX.into()) as T, |x| x.into())
        })
    }),
    row(0xe7d7, "vuph", VRRa, VECTOR, unpack::<true, false>),
    row(0xe7d6, "vupl", VRRa, VECTOR, unpack::<true, true>),
    row(0xe7d5, "vuplh", VRRa, VECTOR, unpack::<false, false>),
    row(0xe7d4, "vupll", VRRa, VECTOR, unpack::<false, true>),
    row(0xe75f, "vseg", VRRa, VECTOR, |c, op| {
        enabled(c)?;
        let v = c.v(op.r2);
        let value = by_size!(c, m32(op), i b h f, T => map1(v, |x: i64| (x as T).into()));
        c.set_v(op.r1, value);
        Ok(Flow::Next)
    }),
    // Permute
    row(0xe78c, "vperm", VRRe, VECTOR, |c, op| {
        enabled(c)?;
        let mut source = [0; 32];
        source[..16].copy_from_slice(&c.v(op.r2).to_be_bytes());
        source[16..].copy_from_slice(&c.v(op.x).to_be_bytes());
        let picked = c.v(op.b2).to_be_bytes().map(|index| source[usize::from(index & 31)]);
        c.set_v(op.r1, u128::from_be_bytes(picked));
        Ok(Flow::Next)
    }),
    row(0xe784, "vpdi", VRRc, VECTOR, |c, op| {
        enabled(c)?;
        let (left, right) = (get(c.v(op.r2), 3, m32(op) >> 2 & 1), get(c.v(op.x), 3, m32(op) & 1));
        c.set_v(op.r1, left << 64 | right);
        Ok(Flow::Next)
    }),
    row(0xe785, "vbperm", VRRc, VECTOR_ENHANCEMENTS_1, |c, op| {
        enabled(c)?;
        let source = c.v(op.r2);
        let bit = |index: u8| source.checked_shl(u32::from(index)).map_or(0, |v| v >> 127);
        let picked = c.v(op.x).to_be_bytes().iter().fold(0, |bits, index| bits << 1 | bit(*index));
        c.set_v(op.r1, picked << 64);
        Ok(Flow::Next)
    }),
    row(0xe78d, "vsel", VRRe, VECTOR, whole!(|a, b, select| a & select | b & !select)),
];

/// Alternately the elements in the right halves of both.
#[inline(always)]
fn merge<T: Lane>(a: u128, b: u128) -> u128 {
    let (a, b, mut out) = (T::backwards(a), T::backwards(b), T::backwards(0));
    for ((pair, x), y) in out.as_mut().chunks_exact_mut(2).zip(a.as_ref()).zip(b.as_ref()) {
        pair.copy_from_slice(&[*y, *x]);
    }
    T::join(out)
}

/// Packs with saturation. M5 bit 3 sets the condition code: no element was saturated, some were, or all.
#[inline(always)]
fn saturate<T: Lane>(
    c: &mut Cpu,
    op: &Op,
    a: u128,
    b: u128,
    pack: impl Fn(T::Wide) -> T,
    back: impl Fn(T) -> T::Wide,
) -> Step {
    c.set_v(op.r1, narrow::<T>(a, b, &pack));
    if m24(op) & 1 != 0 {
        let (a, b) = (T::Wide::split(a), T::Wide::split(b));
        let all = a.as_ref().iter().chain(b.as_ref());
        let saturated = all.filter(|x| back(pack(**x)) != **x).count();
        c.cc = match saturated {
            0 => 0,
            n if n == 2 * a.as_ref().len() => 3,
            _ => 1,
        };
    }
    Ok(Flow::Next)
}

/// The elements of one half, each extended to twice its size.
fn unpack<const SIGNED: bool, const RIGHT: bool>(c: &mut Cpu, op: &Op) -> Step {
    enabled(c)?;
    let v = c.v(op.r2);
    let value = if SIGNED {
        by_size!(c, m32(op), i b h f, T => widen::<T>(v, RIGHT, Into::into))
    } else {
        by_size!(c, m32(op), u b h f, T => widen::<T>(v, RIGHT, Into::into))
    };
    c.set_v(op.r1, value);
    Ok(Flow::Next)
}
