//! Integer arithmetic and comparison (SA22-7832, chapter 22); multiplication stands in `multiply`.

use super::lane::{Lane, get, map1, map2};
use super::{enabled, m20, m24, m32, require};
use crate::cpu::Cpu;
use crate::insn::fac::VECTOR;
use crate::insn::row;
use crate::op::{Entry, Flow, Format::*, Op, Step};
use std::cmp::Ordering;

/// V1 = `$e` of quadwords V2, V3 and V4; M5 must say quadword.
macro_rules! quadword {
    (|$a:ident, $b:ident, $d:ident| $e:expr) => {
        |c: &mut Cpu, op: &Op| -> Step {
            enabled(c)?;
            require(c, m20(op) == 4)?;
            let ($a, $b, $d) = (c.v(op.r2), c.v(op.x), c.v(op.b2));
            c.set_v(op.r1, $e);
            Ok(Flow::Next)
        }
    };
}

/// V1 = ones where `$e` of the elements of V2 and V3 is true. M5 bit 3 sets the condition code.
macro_rules! compare {
    ($sign:ident, |$a:ident, $b:ident| $e:expr) => {
        |c: &mut Cpu, op: &Op| -> Step {
            enabled(c)?;
            let (a, b) = (c.v(op.r2), c.v(op.x));
            let value = by_size!(c, m32(op), $sign b h f g, T => {
                map2(a, b, |$a: T, $b: T| if $e { !0 } else { 0 })
            });
            c.set_v(op.r1, value);
            if m24(op) & 1 != 0 {
                c.cc = match value {
                    u128::MAX => 0,
                    0 => 3,
                    _ => 1,
                };
            }
            Ok(Flow::Next)
        }
    };
}

pub(crate) const TABLE: &[Entry] = &[
    row(0xe7f3, "va", VRRc, VECTOR, binary!(u b h f g q, |a, b| a.wrapping_add(b))),
    row(0xe7f7, "vs", VRRc, VECTOR, binary!(u b h f g q, |a, b| a.wrapping_sub(b))),
    row(0xe7f1, "vacc", VRRc, VECTOR, binary!(u b h f g q, |a, b| a.overflowing_add(b).1.into())),
    row(0xe7f5, "vscbi", VRRc, VECTOR, binary!(u b h f g q, |a, b| (a >= b).into())),
    row(0xe7bb, "vac", VRRd, VECTOR, quadword!(|a, b, d| a.wrapping_add(b).wrapping_add(d & 1))),
    row(0xe7b9, "vaccc", VRRd, VECTOR, quadword!(|a, b, d| carry(a, b, d))),
    row(0xe7bf, "vsbi", VRRd, VECTOR, quadword!(|a, b, d| a.wrapping_add(!b).wrapping_add(d & 1))),
    row(0xe7bd, "vsbcbi", VRRd, VECTOR, quadword!(|a, b, d| carry(a, !b, d))),
    row(0xe7de, "vlc", VRRa, VECTOR, unary!(i b h f g, |a| a.wrapping_neg())),
    row(0xe7df, "vlp", VRRa, VECTOR, unary!(i b h f g, |a| a.wrapping_abs())),
    // Half of the sum, rounded up
    row(0xe7f2, "vavg", VRRc, VECTOR, binary!(i b h f g, |a, b| (a | b).wrapping_sub((a ^ b) >> 1))),
    row(0xe7f0, "vavgl", VRRc, VECTOR, binary!(u b h f g, |a, b| (a | b).wrapping_sub((a ^ b) >> 1))),
    row(0xe7fe, "vmn", VRRc, VECTOR, binary!(i b h f g, |a, b| a.min(b))),
    row(0xe7ff, "vmx", VRRc, VECTOR, binary!(i b h f g, |a, b| a.max(b))),
    row(0xe7fc, "vmnl", VRRc, VECTOR, binary!(u b h f g, |a, b| a.min(b))),
    row(0xe7fd, "vmxl", VRRc, VECTOR, binary!(u b h f g, |a, b| a.max(b))),
    // Comparison
    row(0xe7f8, "vceq", VRRb, VECTOR, compare!(u, |a, b| a == b)),
    row(0xe7fb, "vch", VRRb, VECTOR, compare!(i, |a, b| a > b)),
    row(0xe7f9, "vchl", VRRb, VECTOR, compare!(u, |a, b| a > b)),
    row(0xe7db, "vec", VRRa, VECTOR, |c, op| {
        enabled(c)?;
        let (a, b) = (c.v(op.r1), c.v(op.r2));
        c.cc = by_size!(c, m32(op), i b h f g, T => code((a >> 64) as T, (b >> 64) as T));
        Ok(Flow::Next)
    }),
    row(0xe7d9, "vecl", VRRa, VECTOR, |c, op| {
        enabled(c)?;
        let (a, b) = (c.v(op.r1), c.v(op.r2));
        c.cc = by_size!(c, m32(op), u b h f g, T => code((a >> 64) as T, (b >> 64) as T));
        Ok(Flow::Next)
    }),
    // Sums across elements; the codes are those of the source.
    row(0xe764, "vsum", VRRc, VECTOR, |c, op| {
        enabled(c)?;
        let (a, b) = (c.v(op.r2), c.v(op.x));
        let value = by_size!(c, m32(op), u b h, T => sum::<T, 2>(a, b));
        c.set_v(op.r1, value);
        Ok(Flow::Next)
    }),
    row(0xe765, "vsumg", VRRc, VECTOR, |c, op| {
        enabled(c)?;
        let (a, b) = (c.v(op.r2), c.v(op.x));
        let value = by_size!(c, m32(op), u h f, T => sum::<T, 3>(a, b));
        c.set_v(op.r1, value);
        Ok(Flow::Next)
    }),
    row(0xe767, "vsumq", VRRc, VECTOR, |c, op| {
        enabled(c)?;
        let (a, b) = (c.v(op.r2), c.v(op.x));
        let value = by_size!(c, m32(op), u f g, T => sum::<T, 4>(a, b));
        c.set_v(op.r1, value);
        Ok(Flow::Next)
    }),
    row(
        0xe766,
        "vcksm",
        VRRc,
        VECTOR,
        whole!(|a, b| {
            // Carries come in again at the right; five words need at most one further round each.
            let words = u32::split(a).iter().fold(get(b, 2, 1) as u32, |sum, word| {
                let (sum, carry) = sum.overflowing_add(*word);
                sum + u32::from(carry)
            });
            u128::from(words) << 64
        }),
    ),
];

/// The carry out of a sum with the rightmost bit of `d`.
fn carry(a: u128, b: u128, d: u128) -> u128 {
    let (sum, first) = a.overflowing_add(b);
    (first | sum.overflowing_add(d & 1).1).into()
}

/// Condition code of a comparison.
fn code<T: Ord>(a: T, b: T) -> u8 {
    match a.cmp(&b) {
        Ordering::Equal => 0,
        Ordering::Less => 1,
        Ordering::Greater => 2,
    }
}

/// For each element of `1 << SIZE` bytes the sum of the elements of `a` there and the rightmost one of `b`.
#[inline(always)]
fn sum<T: Lane + Into<u128>, const SIZE: u32>(a: u128, b: u128) -> u128 {
    let per = (1 << SIZE) / size_of::<T>();
    let (a, b) = (T::split(a), T::split(b));
    let sums = a.as_ref().chunks_exact(per).zip(b.as_ref().chunks_exact(per));
    sums.fold(0, |out, (a, b)| {
        let sum = a.iter().chain(b.last()).fold(0_u128, |sum, x| sum.wrapping_add((*x).into()));
        out.checked_shl(8 << SIZE).unwrap_or(0) | sum
    })
}
