//! Operands of the vector formats.

use super::Builder;
use crate::encode::Fields;
use crate::forms::{Form, Length};
use crate::vector::{Field, Layout};

impl Builder {
    /// Registers, masks and immediates of a vector format; a value that the table excludes is rare.
    pub(super) fn vector_fields(&mut self, form: &Form, layout: &Layout, f: &mut Fields) {
        for (field, _, width) in layout.fields {
            let any = self.rng.below(1 << width) as u16;
            let mut value = |name: &str, n: usize| match form.values(&format!("{name}{n}")) {
                Some(list) if self.rng.chance(97) => self.rng.pick(&list),
                _ => any,
            };
            match *field {
                Field::V(n) => f.v[n] = self.rng.below(32) as u8,
                Field::M(n) => f.m[n] = value("M", n) as u8,
                Field::I(n) => f.i[n] = value("I", n),
                _ => {}
            }
        }
        if matches!(form.memory, Some(Length::PerVector(_))) && self.rng.chance(95) {
            f.v[3] = (f.v[1] + self.rng.below(16) as u8).min(31);
        }
    }

    /// Operands of the instructions whose registers have to fit each other.
    pub(super) fn vector_special(&mut self, kind: &str, form: &Form, f: &mut Fields) {
        self.plain_fields(form, f);
        match kind {
            // A length in a register that the operand's length follows.
            "vll" => {
                let code = if self.rng.chance(70) { self.rng.below(18) } else { self.rng.value() };
                if !self.pinned[usize::from(f.r3)] {
                    self.state.gpr[usize::from(f.r3)] = code;
                }
            }
            // Byte 7 of V4 has the length of a string in V3 that V2 should have somewhere. Never more than 16: whether such
            // a string can match in full is not said.
            "vstrs" => {
                let length = u128::from(self.rng.below(17) & (31 << f.m[5].min(2)));
                let v4 = &mut self.state.vr[usize::from(f.v[4])];
                *v4 = *v4 & !(0xff << 64) | length << 64;
                if self.rng.chance(70) {
                    let first = 8 * (self.rng.below(16) as u32 & (15 << f.m[5].min(2)));
                    let mut part = self.state.vr[usize::from(f.v[2])] << first;
                    if self.rng.chance(30) {
                        part ^= 3 << (8 * self.rng.below(16));
                    }
                    f.v[3] = (f.v[4] + 1) & 31;
                    self.state.vr[usize::from(f.v[3])] = part;
                }
            }
            // The address has a vector's element for an index.
            "vge" => {
                let Some(Length::Bytes(n)) = form.memory else { return };
                let count = 16 / n;
                let element = u64::from(f.m[3]) % count;
                let shift = 8 * n * (count - 1 - element);
                let mask = u128::MAX >> (128 - 8 * n) << shift;
                let part = if self.rng.chance(50) { self.rng.below(512) } else { self.rng.bits() };
                let part = part & (mask >> shift) as u64;
                if f.b2 != 0 {
                    let g = &mut self.state.gpr[usize::from(f.b2)];
                    *g = g.wrapping_sub(part);
                    let v = &mut self.state.vr[usize::from(f.v[2])];
                    *v = *v & !mask | u128::from(part) << shift;
                }
            }
            _ => {}
        }
    }
}
