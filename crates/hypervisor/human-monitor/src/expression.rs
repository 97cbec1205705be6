//! Expressions of addresses and sizes: numbers, characters, registers, `+ - * / % & | ^ ~ ( )`, on 64 bits.
//!
//! Precedence is the monitor's own, not C's: `* / %` bind first, then `& | ^`, then `+ -`. Nothing here knows a CPU;
//! registers are asked for by name.

/// Deepest nesting of parentheses and signs.
const DEPTH: u32 = 64;

/// Why a text is not an expression. The texts are QEMU's where it has the case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// Something is missing.
    #[error("unexpected end of expression")]
    End,
    /// A byte that begins nothing.
    #[error("invalid char '{0}' in expression")]
    Character(char),
    /// More than 64 bits.
    #[error("number too large")]
    TooLarge,
    /// A parenthesis stays open.
    #[error("')' expected")]
    Parenthesis,
    /// A character without its end.
    #[error("missing terminating ' character")]
    Quote,
    /// A division by zero.
    #[error("division by zero")]
    Division,
    /// Nested too deep.
    #[error("expression nested deeper than {DEPTH}")]
    Depth,
    /// No register has this name.
    #[error("unknown register")]
    UnknownRegister,
    /// The register exists and its value cannot be had.
    #[error("{0}")]
    Register(String),
}

/// Asks for the value of a register by its name without `$`.
pub type Registers<'a> = &'a dyn Fn(&str) -> Result<u64, ExpressionError>;

/// Evaluates the expression that `text` begins with; also gives what follows it.
///
/// # Errors
/// If it does not begin with one.
pub fn evaluate<'a>(text: &'a str, registers: Registers<'_>) -> Result<(u64, &'a str), ExpressionError> {
    read(text, registers, false)
}

/// As [`evaluate`]; but ` /name` after a blank ends it, so that a file may follow a number. (In QEMU this is a division
/// by a name, always an error.)
pub(crate) fn evaluate_before_file<'a>(
    text: &'a str,
    registers: Registers<'_>,
) -> Result<(u64, &'a str), ExpressionError> {
    read(text, registers, true)
}

fn read<'a>(
    text: &'a str,
    registers: Registers<'_>,
    file_follows: bool,
) -> Result<(u64, &'a str), ExpressionError> {
    let mut parser =
        Parser { rest: text.trim_ascii_start(), registers, file_follows, after_blank: false, depth: 0 };
    let value = parser.sum()?;
    Ok((value, parser.rest))
}

struct Parser<'a, 'r> {
    /// Never begins with a blank.
    rest: &'a str,
    registers: Registers<'r>,
    file_follows: bool,
    after_blank: bool,
    depth: u32,
}

impl Parser<'_, '_> {
    fn sum(&mut self) -> Result<u64, ExpressionError> {
        let mut value = self.logic()?;
        loop {
            value = match self.operator(&['+', '-']) {
                Some('+') => value.wrapping_add(self.logic()?),
                Some(_) => value.wrapping_sub(self.logic()?),
                None => return Ok(value),
            };
        }
    }

    fn logic(&mut self) -> Result<u64, ExpressionError> {
        let mut value = self.product()?;
        loop {
            value = match self.operator(&['&', '|', '^']) {
                Some('&') => value & self.product()?,
                Some('|') => value | self.product()?,
                Some(_) => value ^ self.product()?,
                None => return Ok(value),
            };
        }
    }

    fn product(&mut self) -> Result<u64, ExpressionError> {
        let mut value = self.unary()?;
        loop {
            if self.file_follows && self.at_file() {
                return Ok(value);
            }
            value = match self.operator(&['*', '/', '%']) {
                Some('*') => value.wrapping_mul(self.unary()?),
                Some('/') => value.checked_div(self.unary()?).ok_or(ExpressionError::Division)?,
                Some(_) => value.checked_rem(self.unary()?).ok_or(ExpressionError::Division)?,
                None => return Ok(value),
            };
        }
    }

    fn unary(&mut self) -> Result<u64, ExpressionError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(ExpressionError::Depth);
        }
        let value = match self.operator(&['+', '-', '~', '(']) {
            Some('+') => self.unary()?,
            Some('-') => self.unary()?.wrapping_neg(),
            Some('~') => !self.unary()?,
            Some(_) => {
                let value = self.sum()?;
                self.operator(&[')']).ok_or(ExpressionError::Parenthesis)?;
                value
            }
            None => self.primary()?,
        };
        self.depth -= 1;
        Ok(value)
    }

    fn primary(&mut self) -> Result<u64, ExpressionError> {
        let first = self.rest.chars().next().ok_or(ExpressionError::End)?;
        match first {
            '\'' => {
                let mut chars = self.rest[1..].chars();
                let (Some(value), Some('\'')) = (chars.next(), chars.next()) else {
                    return Err(ExpressionError::Quote);
                };
                self.advance(2 + value.len_utf8());
                Ok(u64::from(u32::from(value)))
            }
            '$' => {
                let name = &self.rest[1..];
                let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
                let value = (self.registers)(&name[..end])?;
                self.advance(1 + end);
                Ok(value)
            }
            '0'..='9' => self.number(),
            other => Err(ExpressionError::Character(other)),
        }
    }

    /// As in C: `0x` hexadecimal, `0` octal, else decimal.
    fn number(&mut self) -> Result<u64, ExpressionError> {
        let bytes = self.rest.as_bytes();
        let hexadecimal = matches!(bytes, [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit());
        let (prefix, radix) = match (hexadecimal, bytes.first()) {
            (true, _) => (2, 16),
            (false, Some(b'0')) => (0, 8),
            (false, _) => (0, 10),
        };
        let digits = &self.rest[prefix..];
        let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
        let value = u64::from_str_radix(&digits[..end], radix).map_err(|_| ExpressionError::TooLarge)?;
        self.advance(prefix + end);
        Ok(value)
    }

    fn operator(&mut self, operators: &[char]) -> Option<char> {
        let first = self.rest.chars().next().filter(|first| operators.contains(first))?;
        self.advance(1);
        Some(first)
    }

    /// A slash after a blank and directly before a name.
    fn at_file(&self) -> bool {
        let mut chars = self.rest.chars();
        self.after_blank && chars.next() == Some('/') && chars.next().is_some_and(begins_name)
    }

    fn advance(&mut self, bytes: usize) {
        let after = &self.rest[bytes..];
        self.rest = after.trim_ascii_start();
        self.after_blank = self.rest.len() < after.len();
    }
}

fn begins_name(c: char) -> bool {
    c.is_alphabetic() || c == '_' || c == '.'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str) -> Result<u64, String> {
        let registers = |name: &str| match name {
            "r1" => Ok(0x1000),
            _ => Err(ExpressionError::UnknownRegister),
        };
        match evaluate(text, &registers) {
            Ok((value, "")) => Ok(value),
            Ok((_, rest)) => Err(format!("left: {rest}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn operators_bind_as_in_qemu() {
        for (text, expected) in [
            ("1 + 2*3", 7),
            ("2&3*2", 2),
            ("7|1+1", 8),
            ("~0 - 0xff & 0xff", 0xffff_ffff_ffff_ff00),
            ("(1+2)*3 % 4", 1),
            ("010", 8),
            ("'a'", 97),
            ("-1", u64::MAX),
            ("$r1 + 8", 0x1008),
            ("6^3", 5),
        ] {
            assert_eq!(value(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refusals_are_in_qemus_words() {
        for (text, expected) in [
            ("", "unexpected end of expression"),
            ("0+", "unexpected end of expression"),
            ("$foo", "unknown register"),
            ("(1", "')' expected"),
            ("1/0", "division by zero"),
            ("1%0", "division by zero"),
            ("0x100000000000000000", "number too large"),
            ("x", "invalid char 'x' in expression"),
            ("0x1g", "left: g"),
            ("1 2", "left: 2"),
        ] {
            assert_eq!(value(text), Err(expected.to_owned()), "{text}");
        }
        assert!(value(&"(".repeat(100_000)).is_err());
        assert!(value(&"-".repeat(100_000)).is_err());
    }

    #[test]
    fn a_file_may_follow_a_number() {
        let none = |_: &str| Err(ExpressionError::UnknownRegister);
        assert_eq!(evaluate_before_file("16 /tmp/x", &none), Ok((16, "/tmp/x")));
        assert_eq!(evaluate_before_file("16 / 4 x", &none), Ok((4, "x")));
        assert_eq!(evaluate_before_file("16/4 \"x\"", &none), Ok((4, "\"x\"")));
    }

    proptest! {
        #[test]
        fn numbers_survive(number: u64) {
            prop_assert_eq!(value(&number.to_string()), Ok(number));
            prop_assert_eq!(value(&format!("{number:#x}")), Ok(number));
            prop_assert_eq!(value(&format!("0{number:o}")), Ok(number));
        }

        #[test]
        fn no_text_panics(text in ".*", grammar in "[-+*/%&|^~()0-9a-fx$r' ]*") {
            let _ = value(&text);
            let _ = value(&grammar);
        }
    }
}
