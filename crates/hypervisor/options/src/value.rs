//! Scalars as QEMU spells them: booleans, numbers, sizes, identifiers.
//!
//! Only the text forms: which key takes which of them stands in the [schema](crate::schema).

/// `on`, `yes`, `true`, `y` and their opposites.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "on" | "yes" | "true" | "y" => Some(true),
        "off" | "no" | "false" | "n" => Some(false),
        _ => None,
    }
}

/// An identifier: a letter, then letters, digits, `-`, `.` and `_`.
pub fn parse_identifier(text: &str) -> Option<&str> {
    let mut characters = text.chars();
    let first = characters.next()?;
    (first.is_ascii_alphabetic() && characters.all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)))
        .then_some(text)
}

/// An unsigned number: decimal, hexadecimal after `0x`, octal after `0`.
pub fn parse_number(text: &str) -> Option<u64> {
    let text = text.trim_start();
    let text = text.strip_prefix('+').unwrap_or(text);
    let (digits, radix) = if let Some(hex) = text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        (hex, 16)
    } else if text.len() > 1 && text.starts_with('0') {
        (&text[1..], 8)
    } else {
        (text, 10)
    };
    // from_str_radix would take another sign.
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// Why a text is not a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeError {
    /// Not a number with an optional suffix.
    Malformed,
    /// 2^64 or more.
    OutOfRange,
}

/// A size in bytes: a number with an optional fraction and an optional suffix B, k, M, G, T, P or E (powers of
/// 1024); without a suffix the number counts `default_unit` bytes.
pub fn parse_size(text: &str, default_unit: u64) -> Result<u64, SizeError> {
    use SizeError::{Malformed, OutOfRange};
    let text = text.trim_start();
    let text = text.strip_prefix('+').unwrap_or(text);
    if let Some(hex) = text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        // B and E are digits here, so a hexadecimal size takes no suffix.
        if hex.is_empty() || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Malformed);
        }
        let number = u64::from_str_radix(hex, 16).map_err(|_| OutOfRange)?;
        return number.checked_mul(default_unit).ok_or(OutOfRange);
    }
    let (number, unit) = match text.chars().last() {
        Some(last) if last.is_ascii_alphabetic() => {
            let shift = match last.to_ascii_lowercase() {
                'b' => 0,
                'k' => 10,
                'm' => 20,
                'g' => 30,
                't' => 40,
                'p' => 50,
                'e' => 60,
                _ => return Err(Malformed),
            };
            (&text[..text.len() - 1], 1u64 << shift)
        }
        _ => (text, default_unit),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(Malformed);
    }
    let whole: u64 = whole.parse().map_err(|_| OutOfRange)?;
    // Digits beyond the eighteenth are below one byte of an exbibyte.
    let mut part: u128 = 0;
    let mut scale: u128 = 1;
    for digit in fraction.bytes().take(18) {
        part = part * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    let bytes = u128::from(whole) * u128::from(unit) + part * u128::from(unit) / scale;
    u64::try_from(bytes).map_err(|_| OutOfRange)
}

/// The address of a network device: six bytes in hexadecimal with colons or dashes between them.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let separator = text.chars().find(|c| matches!(c, ':' | '-'))?;
    let mut parts = text.split(separator);
    let mut out = [0; 6];
    for byte in &mut out {
        let part = parts.next().filter(|part| matches!(part.len(), 1 | 2))?;
        *byte = u8::from_str_radix(part, 16).ok().filter(|_| !part.starts_with('+'))?;
    }
    parts.next().is_none().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_with_suffix_fraction_and_default_unit() {
        assert_eq!(parse_size("512", 1 << 20), Ok(512 << 20));
        assert_eq!(parse_size("512M", 1 << 20), Ok(512 << 20));
        assert_eq!(parse_size("1g", 1), Ok(1 << 30));
        assert_eq!(parse_size("1.5k", 1), Ok(1536));
        assert_eq!(parse_size(" 5", 1), Ok(5));
        assert_eq!(parse_size("0x10", 1 << 20), Ok(16 << 20));
        assert_eq!(parse_size("16E", 1), Err(SizeError::OutOfRange));
        assert_eq!(parse_size("99999999999G", 1), Err(SizeError::OutOfRange));
        for bad in ["", "x", "3x", "-1", "1e3", "1.5.5", "512MB", "1Mfoo", ".", "é", "0x"] {
            assert_eq!(parse_size(bad, 1), Err(SizeError::Malformed), "{bad}");
        }
    }

    #[test]
    fn numbers_in_three_radices() {
        assert_eq!(parse_number("10"), Some(10));
        assert_eq!(parse_number("0x10"), Some(16));
        assert_eq!(parse_number("010"), Some(8));
        assert_eq!(parse_number("0"), Some(0));
        for bad in ["", "-1", "+-1", "0x+1", "0x", "09", "1 "] {
            assert_eq!(parse_number(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_size_is_read_back(bytes: u64) {
            prop_assert_eq!(parse_size(&format!("{bytes}B"), 1 << 20), Ok(bytes));
            prop_assert_eq!(parse_number(&bytes.to_string()), Some(bytes));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse_size(&text, 1 << 20);
            let _ = parse_number(&text);
            let _ = parse_identifier(&text);
        }
    }
}
