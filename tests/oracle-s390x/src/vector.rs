//! Vector formats: where each field stands, and values for vector registers (SA22-7832, chapters 5 and 21).
//!
//! The layouts serve encoding, description and generation alike. Nothing here knows what an instruction does.

use std::fmt::{Debug, Formatter};

use crate::encode::Fields;
use crate::rng::Rng;

/// A field of a vector format, with the number that the manual gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the manual's names")]
pub enum Field {
    V(usize),
    M(usize),
    I(usize),
    R1,
    R2,
    R3,
    X2,
    B2,
    D2,
}

use Field::{B2, D2, I, M, R1, R2, R3, V, X2};

/// One format: fields with their first bit and their width.
#[derive(PartialEq, Eq)]
pub struct Layout {
    name: &'static str,
    /// The fields.
    pub fields: &'static [(Field, u32, u32)],
}

impl Debug for Layout {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const fn layout(name: &'static str, fields: &'static [(Field, u32, u32)]) -> Layout {
    Layout { name, fields }
}

const LAYOUTS: &[Layout] = &[
    layout("VRIa", &[(V(1), 8, 4), (I(2), 16, 16), (M(3), 32, 4)]),
    layout("VRIb", &[(V(1), 8, 4), (I(2), 16, 8), (I(3), 24, 8), (M(4), 32, 4)]),
    layout("VRIc", &[(V(1), 8, 4), (V(3), 12, 4), (I(2), 16, 16), (M(4), 32, 4)]),
    layout("VRId", &[(V(1), 8, 4), (V(2), 12, 4), (V(3), 16, 4), (I(4), 24, 8), (M(5), 32, 4)]),
    layout("VRIe", &[(V(1), 8, 4), (V(2), 12, 4), (I(3), 16, 12), (M(5), 28, 4), (M(4), 32, 4)]),
    layout("VRIf", &[(V(1), 8, 4), (V(2), 12, 4), (V(3), 16, 4), (M(5), 24, 4), (I(4), 28, 8)]),
    layout("VRIg", &[(V(1), 8, 4), (V(2), 12, 4), (I(4), 16, 8), (M(5), 24, 4), (I(3), 28, 8)]),
    layout("VRIh", &[(V(1), 8, 4), (I(2), 16, 16), (I(3), 32, 4)]),
    layout("VRIi", &[(V(1), 8, 4), (R2, 12, 4), (M(4), 24, 4), (I(3), 28, 8)]),
    layout("VRRa", &[(V(1), 8, 4), (V(2), 12, 4), (M(5), 24, 4), (M(4), 28, 4), (M(3), 32, 4)]),
    layout("VRRb", &[(V(1), 8, 4), (V(2), 12, 4), (V(3), 16, 4), (M(5), 24, 4), (M(4), 32, 4)]),
    layout(
        "VRRc",
        &[(V(1), 8, 4), (V(2), 12, 4), (V(3), 16, 4), (M(6), 24, 4), (M(5), 28, 4), (M(4), 32, 4)],
    ),
    layout(
        "VRRd",
        &[(V(1), 8, 4), (V(2), 12, 4), (V(3), 16, 4), (M(5), 20, 4), (M(6), 24, 4), (V(4), 32, 4)],
    ),
    layout(
        "VRRe",
        &[(V(1), 8, 4), (V(2), 12, 4), (V(3), 16, 4), (M(6), 20, 4), (M(5), 28, 4), (V(4), 32, 4)],
    ),
    layout("VRRf", &[(V(1), 8, 4), (R2, 12, 4), (R3, 16, 4)]),
    layout("VRRg", &[(V(1), 12, 4)]),
    layout("VRRh", &[(V(1), 12, 4), (V(2), 16, 4), (M(3), 24, 4)]),
    layout("VRRi", &[(R1, 8, 4), (V(2), 12, 4), (M(3), 24, 4), (M(4), 28, 4)]),
    layout("VRSa", &[(V(1), 8, 4), (V(3), 12, 4), (B2, 16, 4), (D2, 20, 12), (M(4), 32, 4)]),
    layout("VRSb", &[(V(1), 8, 4), (R3, 12, 4), (B2, 16, 4), (D2, 20, 12), (M(4), 32, 4)]),
    layout("VRSc", &[(R1, 8, 4), (V(3), 12, 4), (B2, 16, 4), (D2, 20, 12), (M(4), 32, 4)]),
    layout("VRSd", &[(R3, 12, 4), (B2, 16, 4), (D2, 20, 12), (V(1), 32, 4)]),
    layout("VRV", &[(V(1), 8, 4), (V(2), 12, 4), (B2, 16, 4), (D2, 20, 12), (M(3), 32, 4)]),
    layout("VRX", &[(V(1), 8, 4), (X2, 12, 4), (B2, 16, 4), (D2, 20, 12), (M(3), 32, 4)]),
    layout("VSI", &[(I(3), 8, 8), (B2, 16, 4), (D2, 20, 12), (V(1), 32, 4)]),
    // LCBB: as RXE, with a mask.
    layout("RXEm", &[(R1, 8, 4), (X2, 12, 4), (B2, 16, 4), (D2, 20, 12), (M(3), 32, 4)]),
];

/// The format of this name.
pub fn format(name: &str) -> Option<&'static Layout> {
    LAYOUTS.iter().find(|l| l.name == name)
}

fn value(field: Field, f: &Fields) -> u64 {
    u64::from(match field {
        V(n) => u16::from(f.v[n]),
        M(n) => u16::from(f.m[n]),
        I(n) => f.i[n],
        R1 => u16::from(f.r1),
        R2 => u16::from(f.r2),
        R3 => u16::from(f.r3),
        X2 => u16::from(f.x2),
        B2 => u16::from(f.b2),
        D2 => f.d2 as u16,
    })
}

/// The six bytes. The fifth bit of a vector register's number goes to RXB, by the place of its field.
pub fn encode(layout: &Layout, op: u8, sub: u8, f: &Fields) -> Vec<u8> {
    let mut bits = u64::from(op) << 40 | u64::from(sub);
    for (field, start, width) in layout.fields {
        let value = value(*field, f);
        bits |= (value & ((1 << width) - 1)) << (48 - start - width);
        if matches!(field, V(_)) && value & 16 != 0 {
            bits |= match start {
                8 => 1 << 11,
                12 => 1 << 10,
                16 => 1 << 9,
                _ => 1 << 8,
            };
        }
    }
    bits.to_be_bytes()[2..].to_vec()
}

/// The operands in words.
pub fn describe(layout: &Layout, f: &Fields) -> String {
    let words = layout.fields.iter().map(|(field, ..)| {
        let value = value(*field, f);
        match field {
            V(_) => format!("v{value}"),
            M(n) => format!("m{n}={value}"),
            I(n) => format!("i{n}={value:#x}"),
            R1 | R2 | R3 => format!("r{value}"),
            X2 | B2 => format!("({value})"),
            D2 => format!("{value}"),
        }
    });
    words.collect::<Vec<_>>().join(",")
}

/// Values of all vector registers, related to each other as an instruction on elements, bits or strings wants them.
pub fn registers(rng: &mut Rng, strings: bool) -> [u128; 32] {
    const BYTES: [u8; 8] = [0, 1, 2, 0x7f, 0x80, 0x81, 0xfe, 0xff];
    let style = if strings && rng.chance(80) { 4 + rng.below(2) } else { rng.below(6) };
    let size = rng.pick(&[1, 2, 4]);
    let base = [rng.bits(), rng.bits(), rng.value(), rng.value()];
    std::array::from_fn(|_| match style {
        0 => words(rng.value(), rng.value()),
        1 => u128::from_be_bytes(std::array::from_fn(|_| rng.pick(&BYTES))),
        2 => words(rng.float(), rng.float()),
        3 => words(rng.bits(), rng.bits()),
        // Short strings of few characters, with zeros among them.
        4 => {
            let zeros = rng.below(12);
            let mut bytes = [0; 16];
            for element in bytes.chunks_exact_mut(size) {
                element[size - 1] = if rng.below(12) < zeros { rng.below(3) as u8 } else { 3 };
                element[0] |= if rng.chance(4) { rng.pick(&BYTES) } else { 0 };
            }
            u128::from_be_bytes(bytes)
        }
        // Variants of a few values: equal elements are frequent.
        _ => {
            let mut bytes = words(rng.pick(&base), rng.pick(&base)).to_be_bytes();
            for _ in 0..rng.below(4) {
                bytes[rng.below(16) as usize] = rng.pick(&BYTES);
            }
            u128::from_be_bytes(bytes)
        }
    })
}

/// Values of all vector registers with elements of one floating-point format, of which many are near each other.
pub fn floats(rng: &mut Rng) -> [u128; 32] {
    let format = rng.below(3);
    let near = rng.chance(60);
    std::array::from_fn(|_| {
        let special = rng.below(if near { 12 } else { 3 }) == 0;
        match (format, special) {
            // Any of the exponents; the upper half of a long number is that of an extended one with another exponent.
            (0, true) => words(rng.float(), rng.float()).rotate_left(32 * rng.below(2) as u32),
            (1, true) => words(rng.float(), rng.float()),
            (_, true) => words(extended(rng.float()), rng.value()),
            (0, _) => {
                let mut short = || {
                    let exponents = (0x3e + rng.below(4)) * 0x0100_0000_0100_0000;
                    rng.bits() & 0x807f_ffff_807f_ffff | exponents
                };
                words(short(), short())
            }
            (1, _) => {
                let mut long = || rng.bits() & 0x800f_ffff_ffff_ffff | (0x3fe + rng.below(4)) << 52;
                words(long(), long())
            }
            _ => {
                let low = rng.value();
                words(rng.bits() & 0x8000_ffff_ffff_ffff | (0x3ffe + rng.below(4)) << 48, low)
            }
        }
    })
}

/// The left half of an extended number with the exponent of a long one; specials stay special.
fn extended(long: u64) -> u64 {
    let exponent = match long >> 52 & 0x7ff {
        0x7ff => 0x7fff,
        0 => 0,
        e => e + 0x3c00,
    };
    long & 1 << 63 | exponent << 48 | long >> 4 & 0xffff_ffff_ffff
}

fn words(high: u64, low: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_overlap() {
        for layout in LAYOUTS {
            let mut taken = 0xff00_0000_00ff_u64 | 0xf00;
            for (field, start, width) in layout.fields {
                let mask = ((1 << width) - 1) << (48 - start - width);
                assert_eq!(taken & mask, 0, "{layout:?} {field:?}");
                taken |= mask;
            }
        }
    }

    #[test]
    fn fifth_bits_go_to_rxb() {
        let fields = Fields { v: [0, 0x11, 0x12, 0x13, 0x14], m: [0, 0, 0, 0, 0, 5, 6], ..Fields::default() };
        let layout = format("VRRd").unwrap();
        assert_eq!(encode(layout, 0xe7, 0x8a, &fields), [0xe7, 0x12, 0x35, 0x60, 0x4f, 0x8a]);
    }
}
