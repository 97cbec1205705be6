//! Access to the bytes of guest storage, by offset into the combined reservation.
//!
//! Offsets come from a fill ([`crate::Storage::lookup_for_fill`]) plus an offset inside the page, so one
//! outside the reservation is an error of this program: it stops with a message and never reaches memory.
//! This module knows nothing of representations; that an offset belongs to the authoritative copy is what
//! the fill and the shootdown see to.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::mapping::Mapping;

/// A handle to guest storage, cheap to clone, that keeps the storage mapped.
///
/// Naturally aligned accesses of 1, 2, 4 and 8 bytes are single-copy atomic, loads acquire and stores
/// release: guests with a strongly ordered memory model need no fences for them. Unaligned accesses and the
/// block operations are not atomic; another CPU may see them byte by byte.
///
/// # Panics
///
/// Every access panics if it does not lie inside the reservation, and the read-modify-write operations if
/// they are not naturally aligned. Both are errors of the calling core: see the module.
#[derive(Clone)]
pub struct Ram {
    base: NonNull<u8>,
    len: usize,
    keep: Arc<Mapping>,
}

// SAFETY: `base` points into `keep`, which may be shared between threads, and all access through it is made
// for concurrent use (atomic, volatile, or block copies whose tearing is documented).
unsafe impl Send for Ram {}
// SAFETY: as above.
unsafe impl Sync for Ram {}

macro_rules! scalar {
    ($ty:ident, $atomic:ident, $unaligned:ident, $load:ident, $store:ident, $read_be:ident, $write_be:ident,
     $read_le:ident, $write_le:ident) => {
        #[derive(Clone, Copy)]
        #[repr(C, packed)]
        struct $unaligned($ty);

        impl Ram {
            #[inline(always)]
            fn $load(&self, offset: usize) -> $ty {
                let at = self.at_scalar::<{ size_of::<$ty>() }>(offset);
                if offset % size_of::<$ty>() == 0 {
                    // SAFETY: `at_scalar` has checked that the bytes lie in the live mapping, and it is aligned
                    // because the mapping is page-aligned. Shared memory is an atomic here.
                    unsafe { $atomic::from_ptr(at.cast()) }.load(Ordering::Acquire)
                } else {
                    // SAFETY: in range as above; the packed type has alignment 1; any bytes are a value.
                    unsafe { at.cast::<$unaligned>().read_volatile().0 }
                }
            }

            #[inline(always)]
            fn $store(&self, offset: usize, value: $ty) {
                let at = self.at_scalar::<{ size_of::<$ty>() }>(offset);
                if offset % size_of::<$ty>() == 0 {
                    // SAFETY: as for the load.
                    unsafe { $atomic::from_ptr(at.cast()) }.store(value, Ordering::Release);
                } else {
                    // SAFETY: as for the load.
                    unsafe { at.cast::<$unaligned>().write_volatile($unaligned(value)) }
                }
            }

            /// Reads a big-endian value.
            #[inline(always)]
            pub fn $read_be(&self, offset: usize) -> $ty {
                $ty::from_be(self.$load(offset))
            }

            /// Writes a big-endian value.
            #[inline(always)]
            pub fn $write_be(&self, offset: usize, value: $ty) {
                self.$store(offset, value.to_be());
            }

            /// Reads a little-endian value.
            #[inline(always)]
            pub fn $read_le(&self, offset: usize) -> $ty {
                $ty::from_le(self.$load(offset))
            }

            /// Writes a little-endian value.
            #[inline(always)]
            pub fn $write_le(&self, offset: usize, value: $ty) {
                self.$store(offset, value.to_le());
            }
        }
    };
}

scalar!(u16, AtomicU16, Unaligned16, load16, store16, read_u16_be, write_u16_be, read_u16_le, write_u16_le);
scalar!(u32, AtomicU32, Unaligned32, load32, store32, read_u32_be, write_u32_be, read_u32_le, write_u32_le);
scalar!(u64, AtomicU64, Unaligned64, load64, store64, read_u64_be, write_u64_be, read_u64_le, write_u64_le);

macro_rules! update {
    ($ty:ident, $atomic:ident, $compare:ident, $update:ident) => {
        impl Ram {
            /// Replaces the big-endian value `old` by `new`, or yields the value found instead.
            #[inline]
            pub fn $compare(&self, offset: usize, old: $ty, new: $ty) -> Result<$ty, $ty> {
                let at = self.aligned(offset, size_of::<$ty>());
                // SAFETY: in range and aligned as checked by `aligned`; shared memory is an atomic here.
                unsafe { $atomic::from_ptr(at.cast()) }
                    .compare_exchange(old.to_be(), new.to_be(), Ordering::SeqCst, Ordering::SeqCst)
                    .map($ty::from_be)
                    .map_err($ty::from_be)
            }

            /// Replaces the big-endian value by `new(old)` in one interlocked update and yields the old one.
            #[inline]
            pub fn $update(&self, offset: usize, new: impl Fn($ty) -> $ty) -> $ty {
                let at = self.aligned(offset, size_of::<$ty>());
                // SAFETY: as for the comparison above.
                let cell = unsafe { $atomic::from_ptr(at.cast()) };
                let mut old = cell.load(Ordering::SeqCst);
                loop {
                    let next = new($ty::from_be(old)).to_be();
                    match cell.compare_exchange_weak(old, next, Ordering::SeqCst, Ordering::SeqCst) {
                        Ok(old) => return $ty::from_be(old),
                        Err(found) => old = found,
                    }
                }
            }
        }
    };
}

update!(u16, AtomicU16, compare_exchange_u16_be, fetch_update_u16_be);
update!(u32, AtomicU32, compare_exchange_u32_be, fetch_update_u32_be);
update!(u64, AtomicU64, compare_exchange_u64_be, fetch_update_u64_be);

impl Ram {
    pub(crate) fn new(keep: Arc<Mapping>) -> Self {
        assert!(keep.len() >= SMALLEST, "a reservation has at least two pages");
        Self { base: keep.base(), len: keep.len(), keep }
    }

    /// Where the reservation begins in this process: for generated code, which checks offsets itself.
    pub fn start(&self) -> NonNull<u8> {
        self.base
    }

    /// The size of the combined reservation.
    pub fn reservation(&self) -> usize {
        self.len
    }

    /// Reads a byte.
    #[inline(always)]
    pub fn read_u8(&self, offset: usize) -> u8 {
        self.byte(offset).load(Ordering::Acquire)
    }

    /// Writes a byte.
    #[inline(always)]
    pub fn write_u8(&self, offset: usize, value: u8) {
        self.byte(offset).store(value, Ordering::Release);
    }

    /// Reads a big-endian value as two halves, each atomic if aligned; see
    /// [`load_u128_be_atomic`](Self::load_u128_be_atomic) for both at once.
    #[inline(always)]
    pub fn read_u128_be(&self, offset: usize) -> u128 {
        self.at(offset, 16);
        u128::from(self.read_u64_be(offset)) << 64 | u128::from(self.read_u64_be(offset + 8))
    }

    /// Writes a big-endian value as two halves, each atomic if aligned.
    #[inline(always)]
    pub fn write_u128_be(&self, offset: usize, value: u128) {
        self.at(offset, 16);
        self.write_u64_be(offset, (value >> 64) as u64);
        self.write_u64_be(offset + 8, value as u64);
    }

    /// Reads an aligned big-endian value in one interlocked access. May mark the page as touched.
    pub fn load_u128_be_atomic(&self, offset: usize) -> u128 {
        match self.compare_exchange_u128_be(offset, 0, 0) {
            Ok(value) | Err(value) => value,
        }
    }

    /// Writes an aligned big-endian value in one interlocked access.
    pub fn store_u128_be_atomic(&self, offset: usize, value: u128) {
        let mut old = self.read_u128_be(offset);
        while let Err(found) = self.compare_exchange_u128_be(offset, old, value) {
            old = found;
        }
    }

    /// Replaces the aligned big-endian value `old` by `new`, or yields the value found instead.
    ///
    /// On hosts without a 16-byte compare-and-swap this is interlocked against other 16-byte operations
    /// only.
    pub fn compare_exchange_u128_be(&self, offset: usize, old: u128, new: u128) -> Result<u128, u128> {
        let at = self.aligned(offset, 16);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("cmpxchg16b") {
            // SAFETY: the processor has the instruction; in range and aligned as checked by `aligned`.
            let found = unsafe { exchange_wide(at.cast(), old.to_be(), new.to_be()) };
            let found = u128::from_be(found);
            return if found == old { Ok(found) } else { Err(found) };
        }
        let _ = at;
        let _one = self.keep.wide.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let found = self.read_u128_be(offset);
        if found != old {
            return Err(found);
        }
        self.write_u128_be(offset, new);
        Ok(found)
    }

    /// Ors a byte in one interlocked update and yields the old one.
    #[inline]
    pub fn fetch_or_u8(&self, offset: usize, value: u8) -> u8 {
        self.byte(offset).fetch_or(value, Ordering::SeqCst)
    }

    /// Ands a byte in one interlocked update and yields the old one.
    #[inline]
    pub fn fetch_and_u8(&self, offset: usize, value: u8) -> u8 {
        self.byte(offset).fetch_and(value, Ordering::SeqCst)
    }

    /// Exclusive-ors a byte in one interlocked update and yields the old one.
    #[inline]
    pub fn fetch_xor_u8(&self, offset: usize, value: u8) -> u8 {
        self.byte(offset).fetch_xor(value, Ordering::SeqCst)
    }

    /// Replaces the byte `old` by `new`, or yields the byte found instead.
    #[inline]
    pub fn compare_exchange_u8(&self, offset: usize, old: u8, new: u8) -> Result<u8, u8> {
        self.byte(offset).compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
    }

    /// Copies storage out.
    #[inline]
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) {
        let at = self.at(offset, to.len());
        // SAFETY: `at` has checked the source; the destination is an exclusive slice of this process and so
        // not part of guest storage. A concurrent writer can tear the copy, which the type documents.
        unsafe { at.copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) }
    }

    /// Copies into storage.
    #[inline]
    pub fn copy_in(&self, offset: usize, from: &[u8]) {
        let at = self.at(offset, from.len());
        // SAFETY: as for `copy_out`, the other way round.
        unsafe { at.copy_from_nonoverlapping(from.as_ptr(), from.len()) }
    }

    /// Fills storage with one byte.
    #[inline]
    pub fn fill(&self, offset: usize, value: u8, len: usize) {
        let at = self.at(offset, len);
        // SAFETY: `at` has checked the range.
        unsafe { at.write_bytes(value, len) }
    }

    /// Copies inside storage as if through a buffer, whatever the overlap.
    #[inline]
    pub fn copy_within(&self, to: usize, from: usize, len: usize) {
        let (target, source) = (self.at(to, len), self.at(from, len));
        // SAFETY: `at` has checked both ranges; `copy` allows overlap.
        unsafe { target.copy_from(source, len) }
    }

    /// Copies inside storage byte by byte from the left, so that an overlap repeats a pattern
    /// (z/Architecture Principles of Operation, SA22-7832, chapter 7 "MOVE (MVC)").
    #[inline]
    pub fn copy_forward(&self, to: usize, from: usize, len: usize) {
        let distance = to.wrapping_sub(from);
        if distance >= len || distance == 0 {
            return self.copy_within(to, from, len);
        }
        self.at(to, len);
        if distance == 1 {
            return self.fill(to, self.read_u8(from), len);
        }
        let mut done = 0;
        while done < len {
            // Everything between `from` and `to + done` already has the period `distance`.
            let step = (distance + done / distance * distance).min(len - done);
            self.copy_within(to + done, from, step);
            done += step;
        }
    }

    #[inline(always)]
    fn byte(&self, offset: usize) -> &AtomicU8 {
        // SAFETY: `at_scalar` has checked the byte; it lives as long as `self`, and is reached only atomically.
        unsafe { AtomicU8::from_ptr(self.at_scalar::<1>(offset)) }
    }

    /// The address of `len` bytes at `offset`: the only way from an offset to memory.
    #[inline(always)]
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        if len > self.len || offset > self.len - len {
            outside(offset, len, self.len);
        }
        // SAFETY: `offset <= self.len`, and the mapping at `base` has `self.len` bytes and is alive.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// The same for the few bytes of a scalar, with one comparison.
    #[inline(always)]
    fn at_scalar<const N: usize>(&self, offset: usize) -> *mut u8 {
        const { assert!(N <= SMALLEST) }
        // Does not wrap: see `new`.
        if offset > self.len.wrapping_sub(N) {
            outside(offset, N, self.len);
        }
        // SAFETY: `offset + N <= self.len`, and the mapping at `base` has `self.len` bytes and is alive.
        unsafe { self.base.as_ptr().add(offset) }
    }

    #[inline(always)]
    fn aligned(&self, offset: usize, len: usize) -> *mut u8 {
        if !offset.is_multiple_of(len) {
            unaligned(offset, len);
        }
        self.at(offset, len)
    }
}

/// Compares and exchanges 16 bytes; yields what was found.
///
/// # Safety
///
/// `at` is valid for reads and writes of 16 bytes, aligned to 16, and shared only atomically; the processor
/// has the instruction.
#[cfg(target_arch = "x86_64")]
unsafe fn exchange_wide(at: *mut u128, old: u128, new: u128) -> u128 {
    let (low, high): (u64, u64);
    // The compiler's own intrinsic turned into a call of a library that is not linked; and it keeps `rbx`
    // for itself, hence the exchange.
    // SAFETY: the caller's promise is what the instruction needs; `rbx` is restored, the stack untouched.
    unsafe {
        std::arch::asm!(
            "xchg rsi, rbx",
            "lock cmpxchg16b [rdi]",
            "mov rbx, rsi",
            in("rdi") at,
            inout("rsi") new as u64 => _,
            in("rcx") (new >> 64) as u64,
            inout("rax") old as u64 => low,
            inout("rdx") (old >> 64) as u64 => high,
            options(nostack),
        );
    }
    u128::from(high) << 64 | u128::from(low)
}

#[cold]
#[inline(never)]
fn outside(offset: usize, len: usize, reservation: usize) -> ! {
    panic!(
        "offset {offset:#x}+{len:#x} is outside the reservation of {reservation:#x} bytes: a core made it up"
    );
}

#[cold]
#[inline(never)]
fn unaligned(offset: usize, len: usize) -> ! {
    panic!("interlocked update of {len} bytes at offset {offset:#x}: the core must check alignment first");
}

/// No reservation is smaller: the bounds check of scalars counts on it.
const SMALLEST: usize = 16;
