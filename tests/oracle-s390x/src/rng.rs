//! A small deterministic generator (SplitMix64), so that a seed means the same cases on every machine and release.
//!
//! Not for keys or anything secret.

/// A SplitMix64 stream.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream of one case: cases do not depend on each other or on the batch they run in.
    pub fn for_case(seed: u64, case: u64) -> Self {
        let mut rng = Self(seed ^ case.wrapping_mul(0xd134_2543_de82_ef95));
        rng.bits();
        rng.bits();
        rng
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n` (0 for `n` = 0).
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.bits() % n }
    }

    /// True in `percent` of the calls.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of the elements; the slices in this crate are constant and not empty.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A register or storage value: edges as often as noise.
    pub fn value(&mut self) -> u64 {
        const EDGES: [u64; 20] = [
            0,
            1,
            2,
            u64::MAX,
            u64::MAX - 1,
            0x7fff_ffff_ffff_ffff,
            0x8000_0000_0000_0000,
            0x8000_0000_0000_0001,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            0x1_0000_0000,
            0xffff_ffff_8000_0000,
            0xffff_ffff_7fff_ffff,
            0x7fff,
            0x8000,
            0xffff,
            0xff,
            0x80,
            0xffff_ffff_ffff_8000,
        ];
        match self.below(8) {
            0 | 1 => self.pick(&EDGES),
            2 => self.below(256),
            3 => (self.pick(&EDGES) << 32) | (self.pick(&EDGES) & 0xffff_ffff),
            4 => i64::from(self.bits() as i32) as u64,
            5 => self.bits() & self.bits() & self.bits(),
            _ => self.bits(),
        }
    }

    /// The bits of a floating-point register: long and short formats, specials as often as numbers.
    pub fn float(&mut self) -> u64 {
        const LONG: [u64; 12] = [
            0,
            0x8000_0000_0000_0000,
            0x3ff0_0000_0000_0000,
            0xbff0_0000_0000_0000,
            0x7ff0_0000_0000_0000,
            0xfff0_0000_0000_0000,
            0x7ff8_0000_0000_0001,
            0x7ff0_0000_0000_0001,
            1,
            0x000f_ffff_ffff_ffff,
            0x7fef_ffff_ffff_ffff,
            0x43e0_0000_0000_0000,
        ];
        const SHORT: [u64; 10] = [
            0,
            0x8000_0000,
            0x3f80_0000,
            0xbf80_0000,
            0x7f80_0000,
            0xff80_0000,
            0x7fc0_0001,
            0x7f80_0001,
            1,
            0x7f7f_ffff,
        ];
        match self.below(6) {
            0 => self.pick(&LONG),
            1 => (self.pick(&SHORT) << 32) | (self.bits() & 0xffff_ffff),
            // Numbers of ordinary size, so that sums and products are not all infinities.
            2 | 3 => (self.bits() & 0x800f_ffff_ffff_ffff) | ((0x3f0 + self.below(0x20)) << 52),
            4 => (self.bits() & 0x807f_ffff_ffff_ffff) | ((0x70 + self.below(0x20)) << 55),
            _ => self.bits(),
        }
    }
}
