//! Conversions between binary, packed, zoned, ASCII and Unicode digits (SA22-7832, chapter 7).
//!
//! Arithmetic on packed numbers is in `decimal`.

use super::decimal::{Packed, second_address};
use super::fac::{LONG_DISPLACEMENT, Z};
use super::fp_move::data_exception;
use super::row;
use crate::cpu::Cpu;
use crate::op::{Entry, Flow, Format::*, Op, Step, Trap};
use cloister_arch::s390x::program;

/// Rows for conversions.
pub(crate) const TABLE: &[Entry] = &[
    row(0x4f00, "cvb", RX, Z, cvb),
    row(0xe306, "cvby", RXYa, LONG_DISPLACEMENT, cvb),
    row(0xe30e, "cvbg", RXYa, Z, |c, op| {
        let value = packed(c, op, 16)?;
        match i64::try_from(value) {
            Ok(value) => c.set_g(op.r1, value as u64),
            Err(_) => return Err(c.program(program::FIXED_POINT_DIVIDE)),
        }
        Ok(Flow::Next)
    }),
    row(0x4e00, "cvd", RX, Z, cvd),
    row(0xe326, "cvdy", RXYa, LONG_DISPLACEMENT, cvd),
    row(0xe32e, "cvdg", RXYa, Z, |c, op| store_packed(c, op, c.g(op.r1) as i64, 16)),
    row(0xf200, "pack", SSb, Z, pack),
    row(0xf300, "unpk", SSb, Z, unpack),
    row(0xf100, "mvo", SSb, Z, move_with_offset),
    row(0xe900, "pka", SSf, Z, |c, op| pack_characters(c, op, 1)),
    row(0xe100, "pku", SSf, Z, |c, op| pack_characters(c, op, 2)),
    row(0xea00, "unpka", SSa, Z, |c, op| unpack_characters(c, op, 1)),
    row(0xe200, "unpku", SSa, Z, |c, op| unpack_characters(c, op, 2)),
];

/// A packed second operand of `len` bytes.
fn packed(c: &mut Cpu, op: &Op, len: usize) -> Result<i128, Trap> {
    let addr = c.ea(op);
    let mut bytes = [0; 16];
    c.read_bytes(addr, &mut bytes[..len])?;
    let value = Packed::decode(&bytes[..len]).ok_or_else(|| data_exception(c, 0))?;
    Ok(if value.negative { -(value.magnitude as i128) } else { value.magnitude as i128 })
}

/// CONVERT TO BINARY, 32 bits: what does not fit is cut, and then there is an exception.
fn cvb(c: &mut Cpu, op: &Op) -> Step {
    let value = packed(c, op, 8)?;
    c.set_w(op.r1, value as u32);
    if i32::try_from(value).is_err() {
        return Err(c.program(program::FIXED_POINT_DIVIDE));
    }
    Ok(Flow::Next)
}

fn cvd(c: &mut Cpu, op: &Op) -> Step {
    store_packed(c, op, i64::from(c.w(op.r1) as i32), 8)
}

fn store_packed(c: &mut Cpu, op: &Op, value: i64, len: usize) -> Step {
    let addr = c.ea(op);
    let mut bytes = [0; 16];
    Packed { magnitude: u128::from(value.unsigned_abs()), negative: value < 0 }.encode(&mut bytes[..len]);
    c.write_bytes(addr, &bytes[..len])?;
    Ok(c.stored())
}

/// Operands of PACK, UNPACK and MOVE WITH OFFSET, processed a byte at a time from the right: result bytes may be
/// operand bytes of later ones.
struct Backward {
    first: u64,
    first_left: usize,
    second: u64,
    second_left: usize,
}

impl Backward {
    /// Starts at the right ends, after looking whether everything is accessible.
    fn start(c: &mut Cpu, op: &Op) -> Result<Self, Trap> {
        let first = c.base(op.b).wrapping_add_signed(op.imm) & c.addr_mask;
        let second = second_address(c, op);
        let (first_left, second_left) = (usize::from(op.r1) + 1, usize::from(op.r2) + 1);
        c.probe_read(second, second_left as u64)?;
        c.probe_write(first, first_left as u64)?;
        Ok(Self { first, first_left, second, second_left })
    }

    /// The next byte of the second operand, or zero.
    fn fetch(&mut self, c: &mut Cpu) -> Result<u8, Trap> {
        if self.second_left == 0 {
            return Ok(0);
        }
        self.second_left -= 1;
        c.read_u8(c.wrap(self.second, self.second_left))
    }

    /// Stores the next byte of the first operand. Whether there is room for more.
    fn store(&mut self, c: &mut Cpu, byte: u8) -> Result<bool, Trap> {
        self.first_left -= 1;
        c.write_u8(c.wrap(self.first, self.first_left), byte)?;
        Ok(self.first_left > 0)
    }
}

fn pack(c: &mut Cpu, op: &Op) -> Step {
    let mut b = Backward::start(c, op)?;
    let last = b.fetch(c)?;
    let mut more = b.store(c, last.rotate_left(4))?;
    while more {
        let low = b.fetch(c)? & 15;
        let high = b.fetch(c)? << 4;
        more = b.store(c, high | low)?;
    }
    Ok(c.stored())
}

fn unpack(c: &mut Cpu, op: &Op) -> Step {
    let mut b = Backward::start(c, op)?;
    let last = b.fetch(c)?;
    let mut more = b.store(c, last.rotate_left(4))?;
    while more {
        let digits = b.fetch(c)?;
        more = b.store(c, 0xf0 | digits)?;
        if more {
            more = b.store(c, 0xf0 | digits >> 4)?;
        }
    }
    Ok(c.stored())
}

fn move_with_offset(c: &mut Cpu, op: &Op) -> Step {
    let mut b = Backward::start(c, op)?;
    let sign = c.read_u8(c.wrap(b.first, b.first_left - 1))? & 15;
    let mut carried = sign;
    loop {
        let byte = b.fetch(c)?;
        let more = b.store(c, byte << 4 | carried)?;
        carried = byte >> 4;
        if !more {
            return Ok(c.stored());
        }
    }
}

/// PACK ASCII, PACK UNICODE: characters of `width` bytes to 31 digits with a positive sign.
fn pack_characters(c: &mut Cpu, op: &Op, width: usize) -> Step {
    let len = (op.aux >> 16 & 0xff) as usize + 1;
    if len > 32 * width || !len.is_multiple_of(width) {
        return Err(c.program(program::SPECIFICATION));
    }
    let first = c.base(op.b).wrapping_add_signed(op.imm) & c.addr_mask;
    let second = second_address(c, op);
    let mut characters = [0; 64];
    c.read_bytes(second, &mut characters[..len])?;
    let mut result = [0; 16];
    result[15] = 0x0c;
    // Digit 1 is beside the sign; a 32nd is ignored.
    for (i, character) in characters[..len].chunks_exact(width).rev().take(31).enumerate() {
        let digit = character[width - 1] & 15;
        let place = i + 1;
        result[15 - place / 2] |= if place % 2 == 1 { digit << 4 } else { digit };
    }
    c.write_bytes(first, &result)?;
    Ok(c.stored())
}

/// UNPACK ASCII, UNPACK UNICODE: the condition code tells the sign.
fn unpack_characters(c: &mut Cpu, op: &Op, width: usize) -> Step {
    let len = (op.aux >> 16 & 0xff) as usize + 1;
    if len > 32 * width || !len.is_multiple_of(width) {
        return Err(c.program(program::SPECIFICATION));
    }
    let first = c.base(op.b).wrapping_add_signed(op.imm) & c.addr_mask;
    let second = second_address(c, op);
    let mut packed = [0; 16];
    c.read_bytes(second, &mut packed)?;
    let mut characters = [0; 64];
    for (i, character) in characters[..len].chunks_exact_mut(width).rev().enumerate() {
        let place = i + 1;
        let digit = match place {
            32 => 0,
            _ if place % 2 == 1 => packed[15 - place / 2] >> 4,
            _ => packed[15 - place / 2] & 15,
        };
        character[width - 1] = 0x30 | digit;
    }
    c.write_bytes(first, &characters[..len])?;
    c.cc = match packed[15] & 15 {
        0xa | 0xc | 0xe | 0xf => 0,
        0xb | 0xd => 1,
        _ => 3,
    };
    Ok(c.stored())
}
