//! From instruction bytes to [`Op`]: one table of rows, one routine per format.
//!
//! Decoding is total: bytes that name no instruction decode to an operation exception.

use crate::op::{Entry, Exec, Format, Op};
use std::sync::LazyLock;

/// Length in bytes of the instruction that starts with `first` (SA22-7832, chapter 5: bits 0-1).
#[inline]
pub(crate) fn length(first: u8) -> usize {
    match first >> 6 {
        0 => 2,
        3 => 6,
        _ => 4,
    }
}

/// The row for an instruction, if the opcode exists at all (its facility is not looked at).
pub(crate) fn entry(index: u16) -> &'static Entry {
    &TABLES.rows[usize::from(index)]
}

/// Index of the row that `bytes` (at least [`length`] of them, zero-padded to six) select.
pub(crate) fn find(bytes: [u8; 6]) -> Option<u16> {
    let key = usize::from(key(bytes));
    match TABLES.index[key] {
        0 => None,
        n => Some(n - 1),
    }
}

/// The row of an operation that does what its row says, and not an exception instead.
pub(crate) fn known(op: &Op) -> Option<&'static Entry> {
    let entry = TABLES.rows.get(usize::from(op.entry))?;
    std::ptr::fn_addr_eq(op.exec, entry.exec).then_some(entry)
}

/// Where a relative branch leads, in bytes from it.
pub(crate) fn relative_branch(op: &Op) -> Option<i64> {
    use Format::{RIEb, RIEc, RIEe, RILb, RILc, RIb, RIc, RSI};
    let entry = known(op)?;
    let relative = matches!(entry.format, RIb | RIc | RILb | RILc | RIEb | RIEc | RIEe | RSI);
    (relative && entry.ends_block).then_some(op.imm)
}

/// Decodes any bytes as the core would, for fuzzing: the mnemonic, if there is such an instruction, and the length.
#[doc(hidden)]
pub fn decode_any(bytes: [u8; 6]) -> (Option<&'static str>, usize) {
    let len = length(bytes[0]);
    let Some(index) = find(bytes) else { return (None, len) };
    let op = operands(bytes, index, 0);
    (Some(entry(op.entry).mnemonic), usize::from(op.len))
}

/// All rows, for consistency tests.
#[cfg(test)]
pub(crate) fn rows() -> &'static [Entry] {
    &TABLES.rows
}

/// Decodes the operands of `bytes` under row `index`; `offset` is the place in the block.
pub(crate) fn operands(bytes: [u8; 6], index: u16, offset: u16) -> Op {
    use Format as F;
    let row = entry(index);
    let [_, b1, b2, b3, b4, b5] = bytes;
    let (hi, lo) = (b1 >> 4, b1 & 15);
    let mut op = blank(row.exec, index, length(bytes[0]) as u8, offset);
    let d1 = i64::from(u16::from_be_bytes([b2, b3]) & 0xfff);
    let base1 = b2 >> 4;
    let d2 = u32::from(u16::from_be_bytes([b4, b5]) & 0xfff);
    let long_d = i64::from((i32::from(b4 as i8) << 12) | i32::from(u16::from_be_bytes([b2, b3]) & 0xfff));
    let i16_at2 = i64::from(i16::from_be_bytes([b2, b3]));
    let i32_at2 = i64::from(i32::from_be_bytes([b2, b3, b4, b5]));
    match row.format {
        F::E => {}
        F::I => op.imm = i64::from(b1),
        F::RR => (op.r1, op.r2) = (hi, lo),
        F::RRD => {
            op.r1 = b2 >> 4;
            (op.x, op.r2) = (b3 >> 4, b3 & 15);
        }
        F::RRE | F::RRFa | F::RRFb | F::RRFc | F::RRFe => {
            (op.r1, op.r2) = (b3 >> 4, b3 & 15);
            op.x = b2 >> 4;
            op.aux = u32::from(b2 & 15);
        }
        F::RX | F::RXb | F::RXE => {
            (op.r1, op.x) = (hi, lo);
            (op.b, op.imm) = (base1, d1);
            op.aux = u32::from(b4 >> 4);
        }
        F::RXF => {
            (op.r2, op.x) = (hi, lo);
            (op.b, op.imm) = (base1, d1);
            op.r1 = b4 >> 4;
        }
        F::RXYa | F::RXYb => {
            (op.r1, op.x) = (hi, lo);
            (op.b, op.imm) = (base1, long_d);
        }
        F::RSa | F::RSb => {
            (op.r1, op.r2) = (hi, lo);
            (op.b, op.imm) = (base1, d1);
        }
        F::RSYa | F::RSYb => {
            (op.r1, op.r2) = (hi, lo);
            (op.b, op.imm) = (base1, long_d);
        }
        F::RSI => {
            (op.r1, op.r2) = (hi, lo);
            op.imm = i16_at2 * 2;
        }
        F::RSL => {
            op.r1 = hi;
            (op.b, op.imm) = (base1, d1);
        }
        F::RIa => {
            op.r1 = hi;
            op.imm = i16_at2;
        }
        F::RIb | F::RIc => {
            op.r1 = hi;
            op.imm = i16_at2 * 2;
        }
        F::RILa => {
            op.r1 = hi;
            op.imm = i32_at2;
        }
        F::RILb | F::RILc => {
            op.r1 = hi;
            op.imm = i32_at2 * 2;
        }
        F::RIEa => {
            op.r1 = hi;
            op.imm = i16_at2;
            op.aux = u32::from(b4 >> 4);
        }
        F::RIEb => {
            (op.r1, op.r2) = (hi, lo);
            op.imm = i16_at2 * 2;
            op.aux = u32::from(b4 >> 4);
        }
        F::RIEc => {
            (op.r1, op.x) = (hi, lo);
            op.imm = i16_at2 * 2;
            op.aux = u32::from(b4);
        }
        F::RIEd | F::RIEg => {
            (op.r1, op.r2) = (hi, lo);
            op.imm = i16_at2;
        }
        F::RIEe => {
            (op.r1, op.r2) = (hi, lo);
            op.imm = i16_at2 * 2;
        }
        F::RIEf => {
            (op.r1, op.r2) = (hi, lo);
            op.aux = u32::from_le_bytes([b2, b3, b4, 0]);
        }
        F::RIS => {
            (op.r1, op.r2) = (hi, lo);
            (op.b, op.imm) = (base1, d1);
            op.aux = u32::from(b4);
        }
        F::RRS => {
            (op.r1, op.r2) = (hi, lo);
            (op.b, op.imm) = (base1, d1);
            op.aux = u32::from(b4 >> 4);
        }
        F::SI => {
            (op.b, op.imm) = (base1, d1);
            op.aux = u32::from(b1);
        }
        F::SIY => {
            (op.b, op.imm) = (base1, long_d);
            op.aux = u32::from(b1);
        }
        F::SIL => {
            (op.b, op.imm) = (base1, d1);
            op.aux = u32::from(u16::from_be_bytes([b4, b5]));
        }
        F::S => (op.b, op.imm) = (base1, d1),
        F::SSa | F::SSb | F::SSc | F::SSd | F::SSe | F::SSf | F::SSE | F::SSF => {
            (op.r1, op.r2) = (hi, lo);
            (op.b, op.imm) = (base1, d1);
            op.b2 = b4 >> 4;
            op.aux = d2 | u32::from(b1) << 16;
        }
        F::IE => (op.r1, op.r2) = (b3 >> 4, b3 & 15),
        F::VRIa | F::VRIb | F::VRIc | F::VRId | F::VRIe | F::VRIf | F::VRIg | F::VRIh | F::VRIi => {
            vector_immediate(&mut op, row.format, bytes)
        }
        F::VRRa | F::VRRb | F::VRRc | F::VRRd | F::VRRe | F::VRRf | F::VRRg | F::VRRh | F::VRRi => {
            vector_registers(&mut op, row.format, bytes)
        }
        F::VRSa | F::VRSb | F::VRSc | F::VRSd | F::VRV | F::VRX | F::VSI => {
            vector_storage(&mut op, row.format, bytes)
        }
        F::MII | F::SMI => {}
    }
    op
}

/// The four-bit fields that masks stand in, as [`Op::aux`] has them: bits 32-35, 28-31, 24-27 and 20-23 of the
/// instruction from the right.
fn vector_masks(bytes: [u8; 6]) -> u32 {
    let [_, _, b2, b3, b4, _] = bytes.map(u32::from);
    b4 >> 4 | (b3 & 15) << 4 | (b3 >> 4) << 8 | (b2 & 15) << 12
}

/// Numbers of the vector registers in bits 8-11, 12-15, 16-19 and 32-35, with the fifth bits that RXB has.
fn vector_fields(bytes: [u8; 6]) -> [u8; 4] {
    let [_, b1, b2, _, b4, _] = bytes;
    [b1 >> 4 | (b4 & 8) << 1, b1 & 15 | (b4 & 4) << 2, b2 >> 4 | (b4 & 2) << 3, b4 >> 4 | (b4 & 1) << 4]
}

/// VRI: an immediate in `imm`, V3 in `x`; the I4 of VRIg is in bits 16-23 of `aux`.
fn vector_immediate(op: &mut Op, format: Format, bytes: [u8; 6]) {
    use Format::{VRIa, VRIb, VRIc, VRId, VRIe, VRIh};
    let [_, b1, b2, b3, b4, _] = bytes;
    let [v1, v2, v3, _] = vector_fields(bytes);
    (op.r1, op.aux) = (v1, vector_masks(bytes));
    let half = u16::from_be_bytes([b2, b3]);
    match format {
        VRIa | VRIh => op.imm = i64::from(half as i16),
        VRIb => op.imm = i64::from(half),
        VRIc => (op.r2, op.imm) = (v2, i64::from(half)),
        VRId => (op.r2, op.x, op.imm) = (v2, v3, i64::from(b3)),
        VRIe => (op.r2, op.imm) = (v2, i64::from(half >> 4)),
        // VRIf, VRIg, VRIi: bits 28-35.
        _ => {
            op.imm = i64::from(b3 << 4 | b4 >> 4);
            op.r2 = if format == Format::VRIi { b1 & 15 } else { v2 };
            if format == Format::VRIf {
                op.x = v3;
            } else {
                op.aux |= u32::from(b2) << 16;
            }
        }
    }
}

/// VRR: V3 in `x`, V4 in `b2`.
fn vector_registers(op: &mut Op, format: Format, bytes: [u8; 6]) {
    use Format::{VRRa, VRRf, VRRg, VRRh, VRRi};
    let [_, b1, b2, ..] = bytes;
    let [v1, v2, v3, v4] = vector_fields(bytes);
    op.aux = vector_masks(bytes);
    match format {
        VRRa => (op.r1, op.r2) = (v1, v2),
        VRRf => (op.r1, op.r2, op.x) = (v1, b1 & 15, b2 >> 4),
        VRRg => op.r1 = v2,
        VRRh => (op.r1, op.r2) = (v2, v3),
        VRRi => (op.r1, op.r2) = (b1 >> 4, v2),
        _ => (op.r1, op.r2, op.x, op.b2) = (v1, v2, v3, v4),
    }
}

/// VRS, VRV, VRX, VSI: the storage operand as in RX; the second register in `r2`, an index in `x`.
fn vector_storage(op: &mut Op, format: Format, bytes: [u8; 6]) {
    use Format::{VRSa, VRSb, VRSc, VRSd, VRV, VSI};
    let [_, b1, b2, b3, ..] = bytes;
    let [v1, v2, _, v4] = vector_fields(bytes);
    op.aux = vector_masks(bytes);
    (op.b, op.imm) = (b2 >> 4, i64::from(u16::from_be_bytes([b2, b3]) & 0xfff));
    match format {
        VRSa | VRV => (op.r1, op.r2) = (v1, v2),
        VRSb => (op.r1, op.r2) = (v1, b1 & 15),
        VRSc => (op.r1, op.r2) = (b1 >> 4, v2),
        VRSd => (op.r1, op.r2) = (v4, b1 & 15),
        // I3 takes the place of the first two registers.
        VSI => (op.r1, op.aux) = (v4, u32::from(b1)),
        _ => (op.r1, op.x) = (v1, b1 & 15),
    }
}

/// An operation without operands.
pub(crate) fn blank(exec: Exec, entry: u16, len: u8, offset: u16) -> Op {
    Op { exec, imm: 0, aux: 0, r1: 0, r2: 0, x: 0, b: 0, b2: 0, len, offset, entry }
}

struct Tables {
    rows: Vec<Entry>,
    /// Row number + 1 by 16-bit opcode key.
    index: Vec<u16>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut rows: Vec<Entry> = Vec::new();
    for table in crate::insn::TABLES.iter().chain(crate::control::TABLES) {
        rows.extend_from_slice(table);
    }
    let mut index = vec![0; 1 << 16];
    for (n, row) in rows.iter().enumerate() {
        index[usize::from(row.code)] = n as u16 + 1;
    }
    Tables { rows, index }
});

/// Opcode key as [`Entry::code`] describes it.
fn key(bytes: [u8; 6]) -> u16 {
    let [first, second, _, _, _, last] = bytes;
    let low = match first {
        0x01 | 0xb2 | 0xb3 | 0xb9 | 0xe5 => second,
        0xe3 | 0xe6 | 0xe7 | 0xeb | 0xec | 0xed => last,
        0xa5 | 0xa7 | 0xc0 | 0xc2 | 0xc4 | 0xc6 | 0xc8 | 0xcc => second & 15,
        _ => 0,
    };
    u16::from_be_bytes([first, low])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn no_opcode_has_two_rows() {
        let mut seen = HashMap::new();
        for row in rows() {
            if let Some(other) = seen.insert(row.code, row.mnemonic) {
                panic!("{:04x} is both {other} and {}", row.code, row.mnemonic);
            }
        }
    }

    #[test]
    fn key_matches_the_length_code() {
        for row in rows() {
            let first = (row.code >> 8) as u8;
            let expected = match row.format {
                Format::E | Format::I | Format::RR => 2,
                Format::RRD
                | Format::RRE
                | Format::RRFa
                | Format::RRFb
                | Format::RRFc
                | Format::RRFe
                | Format::RX
                | Format::RXb
                | Format::RSa
                | Format::RSb
                | Format::RSI
                | Format::RIa
                | Format::RIb
                | Format::RIc
                | Format::SI
                | Format::S
                | Format::IE => 4,
                _ => 6,
            };
            assert_eq!(length(first), expected, "{}", row.mnemonic);
        }
    }

    proptest! {
        #[test]
        fn decoding_is_total(bytes: [u8; 6]) {
            if let Some(row) = find(bytes) {
                let op = operands(bytes, row, 0);
                let vector = matches!(bytes[0], 0xe6 | 0xe7);
                prop_assert!(op.b < 16);
                let registers = if vector { 32 } else { 16 };
                prop_assert!([op.r1, op.r2, op.x, op.b2].iter().all(|&r| r < registers));
            }
        }
    }
}
