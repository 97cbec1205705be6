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
        F::MII | F::SMI => {}
    }
    op
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
        0xe3 | 0xe7 | 0xeb | 0xec | 0xed => last,
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
                prop_assert!(op.r1 < 16 && op.r2 < 16 && op.x < 16 && op.b < 16 && op.b2 < 16);
            }
        }
    }
}
