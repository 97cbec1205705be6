//! `/FMT` of `x`, `xp` and `print`: how many, how printed, how large; and the printing.
//!
//! It prints values and reads no memory.

use std::fmt::Write;

/// Most bytes that one command shows: a monitor's answer stays of sane size.
pub const MOST_BYTES: u64 = 64 * 1024;

/// How a value is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Radix {
    /// `x`.
    Hexadecimal,
    /// `d`.
    Signed,
    /// `u`.
    Unsigned,
    /// `o`.
    Octal,
    /// `c`.
    Character,
}

/// The size of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// `b`: 1 byte.
    Byte,
    /// `h`: 2 bytes.
    Half,
    /// `w`: 4 bytes.
    Word,
    /// `g`: 8 bytes.
    Giant,
}

impl Size {
    /// In bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
            Self::Giant => 8,
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Byte => 'b',
            Self::Half => 'h',
            Self::Word => 'w',
            Self::Giant => 'g',
        }
    }
}

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// How many values.
    pub count: u32,
    /// How printed.
    pub radix: Radix,
    /// How large.
    pub size: Size,
}

impl Default for Format {
    fn default() -> Self {
        Self { count: 1, radix: Radix::Hexadecimal, size: Size::Word }
    }
}

/// Why a text is not a format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A letter that means nothing.
    #[error("invalid char in format: '{0}'")]
    Character(char),
    /// `i`.
    #[error("this monitor has no disassembler: use gdbserver and gdb's x/i")]
    Instructions,
    /// More than can be shown.
    #[error("a count of {0} is too much: at most {MOST_BYTES} bytes at once, pmemsave takes any number")]
    Count(String),
}

impl Format {
    /// Reads a format (without its slash). What is not said is as in `last`, but for the count.
    ///
    /// # Errors
    /// If it is none, or if it means more than [`MOST_BYTES`].
    pub fn parse(text: &str, last: Self) -> Result<Self, FormatError> {
        let letters = text.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = &text[..text.len() - letters.len()];
        let count = match digits {
            "" => 1,
            digits => digits.parse().map_err(|_| FormatError::Count(digits.to_owned()))?,
        };
        let mut format = Self { count, ..last };
        for letter in letters.chars() {
            match letter {
                'x' => format.radix = Radix::Hexadecimal,
                'd' => format.radix = Radix::Signed,
                'u' => format.radix = Radix::Unsigned,
                'o' => format.radix = Radix::Octal,
                'c' => format.radix = Radix::Character,
                'i' => return Err(FormatError::Instructions),
                'b' => format.size = Size::Byte,
                'h' => format.size = Size::Half,
                'w' => format.size = Size::Word,
                'g' => format.size = Size::Giant,
                other => return Err(FormatError::Character(other)),
            }
        }
        match format.bytes() > MOST_BYTES {
            true => Err(FormatError::Count(digits.to_owned())),
            false => Ok(format),
        }
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> u64 {
        u64::from(self.count) * self.size.bytes() as u64
    }

    /// Bytes in a line of a dump.
    pub(crate) fn line(&self) -> usize {
        if self.size == Size::Byte { 8 } else { 16 }
    }

    /// Prints a line of big-endian values, each after a blank.
    pub(crate) fn values(&self, bytes: &[u8]) -> String {
        // Characters are bytes, whatever the size; it only counts.
        let size = if self.radix == Radix::Character { Size::Byte } else { self.size };
        bytes.chunks(size.bytes()).map(|value| format!(" {}", self.padded(value, size))).collect()
    }

    /// Prints one value as `print` does.
    pub(crate) fn value(&self, value: u64) -> String {
        match self.radix {
            Radix::Hexadecimal => format!("{value:#x}"),
            Radix::Signed => value.cast_signed().to_string(),
            Radix::Unsigned => value.to_string(),
            Radix::Octal => octal(value),
            Radix::Character => character(value.to_be_bytes()[7]),
        }
    }

    fn padded(&self, bytes: &[u8], size: Size) -> String {
        let value = bytes.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        let bits = size.bytes() * 8;
        let decimal = (bits * 10).div_ceil(33);
        match self.radix {
            Radix::Hexadecimal => format!("0x{value:0width$x}", width = bits / 4),
            // As in QEMU, a value of less than 8 bytes is never negative.
            Radix::Signed => format!("{:decimal$}", value.cast_signed()),
            Radix::Unsigned => format!("{value:decimal$}"),
            Radix::Octal => format!("{:>width$}", octal(value), width = bits.div_ceil(3)),
            Radix::Character => character(bytes.first().copied().unwrap_or(0)),
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let radix = match self.radix {
            Radix::Hexadecimal => 'x',
            Radix::Signed => 'd',
            Radix::Unsigned => 'u',
            Radix::Octal => 'o',
            Radix::Character => 'c',
        };
        write!(f, "{}{radix}", self.count)?;
        f.write_char(self.size.letter())
    }
}

fn octal(value: u64) -> String {
    if value == 0 { "0".to_owned() } else { format!("0{value:o}") }
}

fn character(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        0x20..=0x7e => format!("'{}'", char::from(byte)),
        other => format!("'\\x{other:02x}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_said_is_as_last_time() {
        let last = Format::parse("4xg", Format::default()).unwrap();
        assert_eq!(Format::parse("", last), Ok(Format { count: 1, ..last }));
        assert_eq!(
            Format::parse("2d", last),
            Ok(Format { count: 2, radix: Radix::Signed, size: Size::Giant })
        );
    }

    #[test]
    fn refusals_are_words() {
        let parse = |text| Format::parse(text, Format::default()).unwrap_err().to_string();
        assert_eq!(parse("zz"), "invalid char in format: 'z'");
        assert_eq!(parse("-1x"), "invalid char in format: '-'");
        assert!(parse("4i").contains("gdb"));
        assert!(parse("99999999999x").contains("too much"));
        assert!(parse("65537xb").contains("too much"));
    }

    proptest! {
        #[test]
        fn a_printed_format_parses_to_itself(count in 0u32..8192, radix in 0usize..5, size in 0usize..4) {
            let radix = [Radix::Hexadecimal, Radix::Signed, Radix::Unsigned, Radix::Octal, Radix::Character][radix];
            let size = [Size::Byte, Size::Half, Size::Word, Size::Giant][size];
            let format = Format { count, radix, size };
            prop_assert_eq!(Format::parse(&format.to_string(), Format::default()), Ok(format));
        }

        #[test]
        fn no_text_panics_or_exceeds_the_bound(text in ".*", letters in "[0-9]{0,12}[xduocbhwg]{0,4}") {
            for text in [text, letters] {
                if let Ok(format) = Format::parse(&text, Format::default()) {
                    prop_assert!(format.bytes() <= MOST_BYTES);
                }
            }
        }
    }
}
