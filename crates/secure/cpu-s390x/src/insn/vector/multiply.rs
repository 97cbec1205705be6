//! Multiplication of integers and of polynomials over GF(2) (SA22-7832, chapter 22).

use super::lane::{Lane, Wide, map3, pairs};
use super::{enabled, m20, m24, m32, require};
use crate::cpu::Cpu;
use crate::insn::fac::{VECTOR, VECTOR_ENHANCEMENTS_1};
use crate::insn::row;
use crate::op::{Entry, Flow, Format::*, Op, Step};
use std::ops::Mul;

/// V1 = `$e` of the elements of V2 and V3 and, with `ADD`, of V4, else of zeros; `$map` goes through elements or through
/// pairs of them. With `ADD` the size is in M5 (VRR-d), else in M4 (VRR-c).
macro_rules! product {
    ($name:ident, $map:ident, $($sizes:ident)+, |$a:pat_param, $b:pat_param, $d:ident| $e:expr) => {
        fn $name<const ADD: bool>(c: &mut Cpu, op: &Op) -> Step {
            enabled(c)?;
            let (a, b) = (c.v(op.r2), c.v(op.x));
            let (size, addend) = if ADD { (m20(op), c.v(op.b2)) } else { (m32(op), 0) };
            let value = by_size!(c, size, $($sizes)+, T => $map::<T>(a, b, addend, |$a, $b, $d| $e));
            c.set_v(op.r1, value);
            Ok(Flow::Next)
        }
    };
}

product!(low, map3, u b h f, |a, b, d| a.wrapping_mul(b).wrapping_add(d));
product!(high, map3, i b h f, |a, b, d| {
    ((i64::from(a) * i64::from(b) + i64::from(d)) >> T::BITS) as T
});
product!(high_logical, map3, u b h f, |a, b, d| {
    ((u64::from(a) * u64::from(b) + u64::from(d)) >> T::BITS) as T
});
product!(even, pairs, i b h f, |[a, _], [b, _], d| d.wrapping_add(times(a, b)));
product!(odd, pairs, i b h f, |[_, a], [_, b], d| d.wrapping_add(times(a, b)));
product!(even_logical, pairs, u b h f, |[a, _], [b, _], d| d.wrapping_add(times(a, b)));
product!(odd_logical, pairs, u b h f, |[_, a], [_, b], d| d.wrapping_add(times(a, b)));
product!(galois, pairs, u b h f g, |[a, x], [b, y], d| {
    (polynomial(a, b) ^ polynomial(x, y)) as Wide<T> ^ d
});

pub(crate) const TABLE: &[Entry] = &[
    row(0xe7a2, "vml", VRRc, VECTOR, low::<false>),
    row(0xe7a3, "vmh", VRRc, VECTOR, high::<false>),
    row(0xe7a1, "vmlh", VRRc, VECTOR, high_logical::<false>),
    row(0xe7a6, "vme", VRRc, VECTOR, even::<false>),
    row(0xe7a7, "vmo", VRRc, VECTOR, odd::<false>),
    row(0xe7a4, "vmle", VRRc, VECTOR, even_logical::<false>),
    row(0xe7a5, "vmlo", VRRc, VECTOR, odd_logical::<false>),
    row(0xe7b4, "vgfm", VRRc, VECTOR, galois::<false>),
    row(0xe7aa, "vmal", VRRd, VECTOR, low::<true>),
    row(0xe7ab, "vmah", VRRd, VECTOR, high::<true>),
    row(0xe7a9, "vmalh", VRRd, VECTOR, high_logical::<true>),
    row(0xe7ae, "vmae", VRRd, VECTOR, even::<true>),
    row(0xe7af, "vmao", VRRd, VECTOR, odd::<true>),
    row(0xe7ac, "vmale", VRRd, VECTOR, even_logical::<true>),
    row(0xe7ad, "vmalo", VRRd, VECTOR, odd_logical::<true>),
    row(0xe7bc, "vgfma", VRRd, VECTOR, galois::<true>),
    row(0xe7b8, "vmsl", VRRd, VECTOR_ENHANCEMENTS_1, |c, op| {
        enabled(c)?;
        require(c, m20(op) == 3)?;
        let (a, b) = (c.v(op.r2), c.v(op.x));
        let product = |shift: u32| u128::from((a >> shift) as u64) * u128::from((b >> shift) as u64);
        // M6 bits 0 and 1 double the even and the odd product.
        let even = product(64) << (m24(op) >> 3);
        let odd = product(0) << (m24(op) >> 2 & 1);
        c.set_v(op.r1, even.wrapping_add(odd).wrapping_add(c.v(op.b2)));
        Ok(Flow::Next)
    }),
];

/// The whole product.
#[inline(always)]
fn times<T: Lane>(a: T, b: T) -> Wide<T>
where
    Wide<T>: From<T> + Mul<Output = Wide<T>>,
{
    Wide::<T>::from(a) * Wide::<T>::from(b)
}

/// The product of two polynomials over GF(2): a multiplication without carries.
#[inline(always)]
fn polynomial<T: Into<u64>>(a: T, b: T) -> u128 {
    let (mut rest, b) = (a.into(), b.into());
    if size_of::<T>() == 8 {
        return long_polynomial(rest, b);
    }
    let mut product = 0;
    while rest != 0 {
        product ^= u128::from(b) << rest.trailing_zeros();
        rest &= rest - 1;
    }
    product
}

/// As ordinary products of every fifth bit: at most 13 ones meet in one place of such a product, so that the carries stay
/// in the four bits that are left out.
fn long_polynomial(a: u64, b: u64) -> u128 {
    /// Bits 0, 5, 10 and so on, from the right.
    const FIFTH: u128 = ((u128::MAX >> 3) / 31) | (1 << 125);
    let parts = |v: u64| -> [u128; 5] { std::array::from_fn(|n| u128::from(v & (FIFTH << n) as u64)) };
    let (a, b) = (parts(a), parts(b));
    (0..5).fold(0, |product, n| {
        let sum = (0..5).fold(0, |sum, i| sum ^ (a[i] * b[(5 + n - i) % 5]));
        product | sum & FIFTH << n
    })
}
