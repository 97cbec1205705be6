//! Conversions between UTF-8, UTF-16 and UTF-32 (SA22-7832, chapter 7, "CONVERT UTF-8 TO UTF-16" and following).
//!
//! One execution converts a bounded number of characters and answers CC 3 if there are more.

use super::fac::{EXTENDED_TRANSLATION_3, Z};
use super::row;
use super::storage::{address, length, pairs, set_address, set_length};
use crate::cpu::Cpu;
use crate::op::{Entry, Format::*, Op, Step, Trap};

/// Characters that one execution converts.
const UNIT: usize = 256;

/// Rows for Unicode conversions.
pub(crate) const TABLE: &[Entry] = &[
    row(0xb2a7, "cu12", RRFc, Z, |c, op| convert(c, op, utf8, to_utf16)),
    row(0xb2a6, "cu21", RRFc, Z, |c, op| convert(c, op, utf16, to_utf8)),
    row(0xb9b0, "cu14", RRFc, EXTENDED_TRANSLATION_3, |c, op| convert(c, op, utf8, to_utf32)),
    row(0xb9b1, "cu24", RRFc, EXTENDED_TRANSLATION_3, |c, op| convert(c, op, utf16, to_utf32)),
    row(0xb9b2, "cu41", RRFc, EXTENDED_TRANSLATION_3, |c, op| convert(c, op, utf32, to_utf8)),
    row(0xb9b3, "cu42", RRFc, EXTENDED_TRANSLATION_3, |c, op| convert(c, op, utf32, to_utf16)),
];

/// What the source holds next.
enum Next {
    /// A character and the bytes it takes.
    Character(u32, u64),
    /// No complete character.
    End,
    /// No valid character.
    Invalid,
}

/// Reads a character at an address, with so many bytes left; the last argument asks for well-formedness.
type Decode = fn(&mut Cpu, u64, u64, bool) -> Result<Next, Trap>;
/// A character's bytes and how many they are.
type Encode = fn(u32) -> ([u8; 4], usize);

fn convert(c: &mut Cpu, op: &Op, decode: Decode, encode: Encode) -> Step {
    pairs(c, op)?;
    // M3 bit 3 is the well-formedness-checking control of the ETF3-enhancement facility.
    let checked = op.x & 1 != 0 && c.facility(30);
    let (mut dst, mut dst_len) = (address(c, op.r1), length(c, op.r1 + 1));
    let (mut src, mut src_len) = (address(c, op.r2), length(c, op.r2 + 1));
    let mut cc = 3;
    for _ in 0..UNIT {
        let (character, taken) = match decode(c, src, src_len, checked)? {
            Next::Character(character, taken) => (character, taken),
            Next::End => {
                cc = 0;
                break;
            }
            Next::Invalid => {
                cc = 2;
                break;
            }
        };
        let (bytes, len) = encode(character);
        if dst_len < len as u64 {
            cc = 1;
            break;
        }
        c.write_bytes(dst, &bytes[..len])?;
        dst = c.wrap(dst, len);
        dst_len -= len as u64;
        src = src.wrapping_add(taken) & c.addr_mask;
        src_len -= taken;
    }
    set_address(c, op.r1, dst);
    set_length(c, op.r1 + 1, dst_len);
    set_address(c, op.r2, src);
    set_length(c, op.r2 + 1, src_len);
    c.cc = cc;
    Ok(c.stored())
}

fn utf8(c: &mut Cpu, addr: u64, left: u64, checked: bool) -> Result<Next, Trap> {
    if left == 0 {
        return Ok(Next::End);
    }
    let first = c.read_u8(addr)?;
    let len = match first {
        0..=0x7f => return Ok(Next::Character(u32::from(first), 1)),
        0xc0..=0xc1 if checked => return Ok(Next::Invalid),
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf5..=0xf7 if checked => return Ok(Next::Invalid),
        0xf0..=0xf7 => 4,
        _ => return Ok(Next::Invalid),
    };
    if left < len as u64 {
        return Ok(Next::End);
    }
    let mut bytes = [0; 4];
    c.read_bytes(addr, &mut bytes[..len])?;
    if checked {
        let second = match first {
            0xe0 => 0xa0..=0xbf,
            0xed => 0x80..=0x9f,
            0xf0 => 0x90..=0xbf,
            0xf4 => 0x80..=0x8f,
            _ => 0x80..=0xbf,
        };
        if !second.contains(&bytes[1]) || bytes[2..len].iter().any(|b| b & 0xc0 != 0x80) {
            return Ok(Next::Invalid);
        }
    }
    let lead = u32::from(first) & (0x7f >> len);
    let character = bytes[1..len].iter().fold(lead, |acc, b| acc << 6 | u32::from(b & 0x3f));
    Ok(Next::Character(character, len as u64))
}

fn utf16(c: &mut Cpu, addr: u64, left: u64, checked: bool) -> Result<Next, Trap> {
    if left < 2 {
        return Ok(Next::End);
    }
    let first = u32::from(c.read_u16(addr)?);
    if first & 0xfc00 != 0xd800 {
        return Ok(Next::Character(first, 2));
    }
    if left < 4 {
        return Ok(Next::End);
    }
    let second = u32::from(c.read_u16(c.wrap(addr, 2))?);
    if checked && second & 0xfc00 != 0xdc00 {
        return Ok(Next::Invalid);
    }
    let plane = (first >> 6 & 15) + 1;
    Ok(Next::Character(plane << 16 | (first & 0x3f) << 10 | second & 0x3ff, 4))
}

fn utf32(c: &mut Cpu, addr: u64, left: u64, _: bool) -> Result<Next, Trap> {
    if left < 4 {
        return Ok(Next::End);
    }
    match c.read_u32(addr)? {
        0xd800..=0xdbff | 0x11_0000.. => Ok(Next::Invalid),
        character => Ok(Next::Character(character, 4)),
    }
}

fn to_utf8(character: u32) -> ([u8; 4], usize) {
    let tail = |shift: u32| 0x80 | (character >> shift & 0x3f) as u8;
    match character {
        0..=0x7f => ([character as u8, 0, 0, 0], 1),
        0x80..=0x7ff => ([0xc0 | (character >> 6) as u8, tail(0), 0, 0], 2),
        0x800..=0xffff => ([0xe0 | (character >> 12) as u8, tail(6), tail(0), 0], 3),
        _ => ([0xf0 | (character >> 18) as u8, tail(12), tail(6), tail(0)], 4),
    }
}

fn to_utf16(character: u32) -> ([u8; 4], usize) {
    if character <= 0xffff {
        let [a, b] = (character as u16).to_be_bytes();
        return ([a, b, 0, 0], 2);
    }
    // Characters beyond the last plane, possible without the check, wrap.
    let plane = (character >> 16).wrapping_sub(1) & 15;
    let high = 0xd800 | plane << 6 | character >> 10 & 0x3f;
    let low = 0xdc00 | character & 0x3ff;
    ((high << 16 | low).to_be_bytes(), 4)
}

fn to_utf32(character: u32) -> ([u8; 4], usize) {
    (character.to_be_bytes(), 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn encodings_are_those_of_unicode(character: char) {
            let (bytes, len) = to_utf8(character.into());
            let mut expected = [0; 4];
            prop_assert_eq!(&bytes[..len], character.encode_utf8(&mut expected).as_bytes());
            let (bytes, len) = to_utf16(character.into());
            let units: Vec<u8> = character.encode_utf16(&mut [0; 2]).iter().flat_map(|u| u.to_be_bytes()).collect();
            prop_assert_eq!(&bytes[..len], &units[..]);
        }
    }
}
