//! A vector register as elements of one type, and functions that go through them.

use std::hint::black_box;

/// The type of an element.
pub(super) trait Lane: Copy + Ord + Default {
    /// The elements of a register.
    type Array: Copy + AsRef<[Self]> + AsMut<[Self]>;
    /// The type of twice the width.
    type Wide: Lane;
    /// The elements of `v` from left to right.
    fn split(v: u128) -> Self::Array;
    /// The elements of `v` from right to left, which costs nothing on a host whose byte order is that.
    fn backwards(v: u128) -> Self::Array;
    /// The register of these elements from right to left.
    fn join(lanes: Self::Array) -> u128;
}

/// The type of twice the width of `T`.
pub(super) type Wide<T> = <T as Lane>::Wide;

/// Many small elements as bytes in memory: out of a number in registers the compiler takes each by a shift of its own, out
/// of memory all together by the host's vector instructions.
#[inline(always)]
fn in_memory(bytes: [u8; 16], bits: u32) -> [u8; 16] {
    if bits < 32 { black_box(bytes) } else { bytes }
}

macro_rules! lane {
    ($($ty:ty, $wide:ty;)+) => {
        $(impl Lane for $ty {
            type Array = [$ty; 128 / <$ty>::BITS as usize];
            type Wide = $wide;

            #[inline(always)]
            fn split(v: u128) -> Self::Array {
                let bytes = v.to_be_bytes();
                let (chunks, _) = bytes.as_chunks();
                std::array::from_fn(|n| <$ty>::from_be_bytes(chunks[n]))
            }

            #[inline(always)]
            fn backwards(v: u128) -> Self::Array {
                let bytes = in_memory(v.to_le_bytes(), <$ty>::BITS);
                let (chunks, _) = bytes.as_chunks();
                std::array::from_fn(|n| <$ty>::from_le_bytes(chunks[n]))
            }

            #[inline(always)]
            fn join(lanes: Self::Array) -> u128 {
                let mut bytes = [0; 16];
                let (chunks, _) = bytes.as_chunks_mut();
                for (chunk, lane) in chunks.iter_mut().zip(lanes) {
                    *chunk = lane.to_le_bytes();
                }
                u128::from_le_bytes(bytes)
            }
        })+
    };
}

lane! {
    u8, u16; u16, u32; u32, u64; u64, u128; u128, u128;
    i8, i16; i16, i32; i32, i64; i64, i128; i128, i128;
}

/// `f` of each element.
#[inline(always)]
pub(super) fn map1<T: Lane>(a: u128, f: impl Fn(T) -> T) -> u128 {
    let mut out = T::backwards(a);
    for x in out.as_mut() {
        *x = f(*x);
    }
    T::join(out)
}

/// `f` of each two elements.
#[inline(always)]
pub(super) fn map2<T: Lane>(a: u128, b: u128, f: impl Fn(T, T) -> T) -> u128 {
    map3::<T>(a, b, 0, |x, y, _| f(x, y))
}

/// `f` of each three elements.
#[inline(always)]
pub(super) fn map3<T: Lane>(a: u128, b: u128, c: u128, f: impl Fn(T, T, T) -> T) -> u128 {
    let (mut out, b, c) = (T::backwards(a), T::backwards(b), T::backwards(c));
    for ((x, y), z) in out.as_mut().iter_mut().zip(b.as_ref()).zip(c.as_ref()) {
        *x = f(*x, *y, *z);
    }
    T::join(out)
}

/// `f` of each two pairs of elements and an element of twice the width.
#[inline(always)]
pub(super) fn pairs<T: Lane>(
    a: u128,
    b: u128,
    c: u128,
    f: impl Fn([T; 2], [T; 2], T::Wide) -> T::Wide,
) -> u128 {
    let (a, b, mut out) = (T::backwards(a), T::backwards(b), T::Wide::backwards(c));
    let ((a, _), (b, _)) = (a.as_ref().as_chunks(), b.as_ref().as_chunks());
    for (([odd, even], [other, first]), z) in a.iter().zip(b).zip(out.as_mut()) {
        *z = f([*even, *odd], [*first, *other], *z);
    }
    T::Wide::join(out)
}

/// The elements of `a` and behind them those of `b`, each made narrower by `f`.
#[inline(always)]
pub(super) fn narrow<T: Lane>(a: u128, b: u128, f: impl Fn(T::Wide) -> T) -> u128 {
    let (a, b, mut out) = (T::Wide::backwards(a), T::Wide::backwards(b), T::backwards(0));
    for (to, from) in out.as_mut().iter_mut().zip(b.as_ref().iter().chain(a.as_ref())) {
        *to = f(*from);
    }
    T::join(out)
}

/// The elements in the left or right half of `a`, each made wider by `f`.
#[inline(always)]
pub(super) fn widen<T: Lane>(a: u128, right: bool, f: impl Fn(T) -> T::Wide) -> u128 {
    let (a, mut out) = (T::backwards(if right { a } else { a >> 64 }), T::Wide::backwards(0));
    for (to, from) in out.as_mut().iter_mut().zip(a.as_ref()) {
        *to = f(*from);
    }
    T::Wide::join(out)
}

/// The index in bytes of the first zero element; 16 if there is none.
#[inline(always)]
pub(super) fn first_zero(v: u128, size: u32) -> u32 {
    // The leftmost bit of each element is a one in the sum if any other bit of the element is.
    let unit = UNITS[size as usize & 3];
    let others = !(unit << ((8 << size) - 1));
    let zeros = !(((v & others) + others) | v | others);
    zeros.leading_zeros() >> (3 + size) << size
}

/// Element `index` of `1 << size` bytes.
#[inline(always)]
pub(super) fn get(v: u128, size: u32, index: u32) -> u128 {
    let bits = 8 << size;
    v << (bits * index) >> (128 - bits)
}

/// `v` with its element `index` replaced by the rightmost bits of `value`.
#[inline(always)]
pub(super) fn put(v: u128, size: u32, index: u32, value: u128) -> u128 {
    let bits = 8 << size;
    let mask = u128::MAX >> (128 - bits);
    let shift = 128 - bits * (index + 1);
    v & !(mask << shift) | (value & mask) << shift
}

/// A one in each element.
const UNITS: [u128; 4] =
    [u128::MAX / 0xff, u128::MAX / 0xffff, u128::MAX / 0xffff_ffff, u128::MAX / u64::MAX as u128];

/// Every element the rightmost bits of `value`.
#[inline(always)]
pub(super) fn replicate(size: u32, value: u128) -> u128 {
    let size = size as usize & 3;
    UNITS[size] * (value & (u128::MAX >> (128 - (8 << size))))
}
