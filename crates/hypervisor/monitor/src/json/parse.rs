//! Tokens to a value, with QEMU's messages.

use super::lexer::Kind;
use super::stream::{StreamError, Token};
use serde_json::{Map, Number, Value};

type Result<T> = std::result::Result<T, StreamError>;

/// The value of a message. Brackets are balanced or one too many is closed, so nesting is bounded by the stream.
pub(super) fn parse(text: &[u8], tokens: &[Token]) -> Result<Value> {
    Parser { text, tokens, next: 0 }.value()
}

struct Parser<'a> {
    text: &'a [u8],
    tokens: &'a [Token],
    next: usize,
}

impl<'a> Parser<'a> {
    fn take(&mut self) -> Option<(Kind, &'a [u8])> {
        let token = self.tokens.get(self.next)?;
        self.next += 1;
        let text = self.text.get(token.start as usize..token.end as usize).unwrap_or_default();
        Some((token.kind, text))
    }

    fn peek(&self) -> Option<Kind> {
        self.tokens.get(self.next).map(|token| token.kind)
    }

    fn value(&mut self) -> Result<Value> {
        let Some((kind, text)) = self.take() else {
            return Err(wrong("premature EOI"));
        };
        match kind {
            Kind::OpenBrace => self.object(),
            Kind::OpenBracket => self.array(),
            Kind::Text => string(text).map(Value::String),
            Kind::Integer | Kind::Float => number(text),
            Kind::Keyword => match text {
                b"true" => Ok(Value::Bool(true)),
                b"false" => Ok(Value::Bool(false)),
                b"null" => Ok(Value::Null),
                other => Err(wrong(format!("invalid keyword '{}'", String::from_utf8_lossy(other)))),
            },
            Kind::CloseBrace | Kind::CloseBracket | Kind::Colon | Kind::Comma => {
                Err(wrong("expecting value"))
            }
        }
    }

    fn object(&mut self) -> Result<Value> {
        let mut members = Map::new();
        if self.peek() == Some(Kind::CloseBrace) {
            self.next += 1;
            return Ok(Value::Object(members));
        }
        loop {
            let Value::String(name) = self.value()? else {
                return Err(wrong("key is not a string in object"));
            };
            match self.take() {
                Some((Kind::Colon, _)) => {}
                Some(_) => return Err(wrong("missing : in object pair")),
                None => return Err(wrong("premature EOI")),
            }
            let value = self.value()?;
            if members.insert(name, value).is_some() {
                return Err(wrong("duplicate key"));
            }
            match self.take() {
                Some((Kind::Comma, _)) => {}
                Some((Kind::CloseBrace, _)) => return Ok(Value::Object(members)),
                Some(_) => return Err(wrong("expected separator in dict")),
                None => return Err(wrong("premature EOI")),
            }
        }
    }

    fn array(&mut self) -> Result<Value> {
        let mut items = Vec::new();
        if self.peek() == Some(Kind::CloseBracket) {
            self.next += 1;
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value()?);
            match self.take() {
                Some((Kind::Comma, _)) => {}
                Some((Kind::CloseBracket, _)) => return Ok(Value::Array(items)),
                Some(_) => return Err(wrong("expected separator in list")),
                None => return Err(wrong("premature EOI")),
            }
        }
    }
}

fn wrong(text: impl Into<String>) -> StreamError {
    StreamError::Parse(text.into())
}

fn number(text: &[u8]) -> Result<Value> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    if let Ok(number) = text.parse::<i64>() {
        return Ok(number.into());
    }
    if let Ok(number) = text.parse::<u64>() {
        return Ok(number.into());
    }
    // QEMU answers `inf` to what no double holds, which is not JSON.
    let number = text.parse().ok().and_then(Number::from_f64);
    number.map(Value::Number).ok_or_else(|| wrong(format!("number out of range '{text}'")))
}

/// The content of a string with its quotes.
fn string(text: &[u8]) -> Result<String> {
    let mut rest = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
    let mut out = String::with_capacity(rest.len());
    while let Some((&first, after)) = rest.split_first() {
        if first == b'\\' {
            rest = escape(after, &mut out)?;
        } else if first < 0x80 {
            out.push(char::from(first));
            rest = after;
        } else if let Some(after) = rest.strip_prefix(&[0xc0, 0x80]) {
            // The form of NUL in modified UTF-8, which QEMU reads and writes.
            out.push('\0');
            rest = after;
        } else {
            let len = match first {
                0xc2..=0xdf => 2,
                0xe0..=0xef => 3,
                _ => 4,
            };
            let character = rest.get(..len).and_then(|bytes| std::str::from_utf8(bytes).ok());
            let character =
                character.and_then(|text| text.chars().next()).filter(|c| is_character(u32::from(*c)));
            out.push(character.ok_or_else(|| wrong("invalid UTF-8 sequence in string"))?);
            rest = rest.get(len..).unwrap_or_default();
        }
    }
    Ok(out)
}

/// Takes what follows a backslash; returns what is left.
fn escape<'t>(text: &'t [u8], out: &mut String) -> Result<&'t [u8]> {
    let (&first, rest) = text.split_first().ok_or_else(|| wrong("invalid escape sequence in string"))?;
    out.push(match first {
        b'"' | b'\'' | b'\\' | b'/' => char::from(first),
        b'b' => '\x08',
        b'f' => '\x0c',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode(rest, out),
        _ => return Err(wrong("invalid escape sequence in string")),
    });
    Ok(rest)
}

fn unicode<'t>(text: &'t [u8], out: &mut String) -> Result<&'t [u8]> {
    let digits = |at: &[u8]| {
        let digits = at.get(..4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let invalid = || {
        let shown = String::from_utf8_lossy(text.get(..4).unwrap_or(text));
        wrong(format!("\\u{shown} is not a valid Unicode character"))
    };
    let first = digits(text).ok_or_else(invalid)?;
    let rest = text.get(4..).unwrap_or_default();
    let (code, rest) = match (first, rest.strip_prefix(b"\\u")) {
        (0xd800..=0xdbff, Some(after)) => match digits(after) {
            Some(second @ 0xdc00..=0xdfff) => {
                (0x10000 + ((first & 0x3ff) << 10 | second & 0x3ff), after.get(4..).unwrap_or_default())
            }
            _ => return Err(invalid()),
        },
        _ => (first, rest),
    };
    out.push(char::from_u32(code).filter(|c| is_character(u32::from(*c))).ok_or_else(invalid)?);
    Ok(rest)
}

/// Not one of Unicode's noncharacters (The Unicode Standard, 23.7).
fn is_character(code: u32) -> bool {
    code & 0xfffe != 0xfffe && !(0xfdd0..=0xfdef).contains(&code)
}
