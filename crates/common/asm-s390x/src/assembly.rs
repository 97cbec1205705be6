//! The passes. Every instruction has a fixed size, so the first pass knows all addresses; further passes settle
//! `.equ` chains with forward references, and the last one emits bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::expr::{Cursor, EvalError, Symbols, Token, is_name, tokens};
use crate::operand::{encode, range};
use crate::source::{Place, Statement, first_word};
use crate::{AsmError, Object, table};

/// Largest image: more is a mistake in a `.skip` or `.org`.
const MAX_BYTES: usize = 64 << 20;
/// Passes that settle symbols before the one that emits.
const MAX_PASSES: usize = 8;

/// Assembles statements.
pub(crate) fn run(statements: Vec<Statement>, sources: Vec<PathBuf>) -> Result<Object, AsmError> {
    let mut assembly = Assembly::default();
    for _ in 0..MAX_PASSES {
        assembly.pass(&statements)?;
        if !assembly.unsettled {
            break;
        }
    }
    assembly.emit = true;
    assembly.pass(&statements)?;
    let symbols = assembly
        .symbols
        .into_iter()
        .filter(|(name, _)| !name.starts_with(".L"))
        // Negative `.equ` values keep their two's complement bits.
        .map(|(name, value)| (name, value as u64))
        .collect();
    Ok(Object { bytes: assembly.bytes, origin: assembly.origin, symbols, sources })
}

#[derive(Default)]
struct Assembly {
    bytes: Vec<u8>,
    origin: u64,
    symbols: BTreeMap<String, i128>,
    /// Labels of this pass, to find double ones.
    labels: BTreeSet<String>,
    /// Numeric labels: number, statement, address. Complete after the first pass.
    locals: Vec<(u32, usize, i128)>,
    /// Index of the current statement.
    index: usize,
    emit: bool,
    first_done: bool,
    unsettled: bool,
}

impl Symbols for Assembly {
    fn name(&self, name: &str) -> Option<i128> {
        self.symbols.get(name).copied()
    }

    fn local(&self, number: u32, forward: bool) -> Option<i128> {
        let mut same = self.locals.iter().filter(|local| local.0 == number);
        let found = if forward {
            same.find(|local| local.1 > self.index)
        } else {
            same.rfind(|local| local.1 <= self.index)
        };
        found.map(|local| local.2)
    }

    fn here(&self) -> i128 {
        i128::from(self.origin) + self.bytes.len() as i128
    }
}

impl Assembly {
    fn pass(&mut self, statements: &[Statement]) -> Result<(), AsmError> {
        self.bytes.clear();
        self.labels.clear();
        self.unsettled = false;
        for (index, statement) in statements.iter().enumerate() {
            self.index = index;
            self.statement(statement).map_err(|message| statement.place.error(message))?;
            if self.bytes.len() > MAX_BYTES {
                return Err(too_large(&statement.place));
            }
        }
        self.first_done = true;
        Ok(())
    }

    fn statement(&mut self, statement: &Statement) -> Result<(), String> {
        let mut text = statement.text.as_str();
        while let Some((label, rest)) = label(text) {
            self.define_label(label)?;
            text = rest;
        }
        if text.is_empty() {
            return Ok(());
        }
        let (word, rest) = first_word(text);
        if let Some(directive) = word.strip_prefix('.') {
            return self.directive(directive, rest);
        }
        let name = word.to_ascii_lowercase();
        let insn = table::lookup(&name).ok_or_else(|| {
            format!("unknown instruction `{word}`; expected a mnemonic, a label with `:` or a directive")
        })?;
        if !self.bytes.len().is_multiple_of(2) {
            return Err(format!(
                "`{word}` is at the odd address {:#x}; put .balign 2 before it",
                self.here()
            ));
        }
        let mut word = insn.template;
        if self.emit {
            let tokens = tokens(rest)?;
            word = encode(insn, &tokens, self)
                .map_err(|message| format!("{name} ({} format): {message}", insn.format))?;
        }
        self.bytes.extend_from_slice(&word.to_be_bytes()[2..2 + usize::from(insn.len)]);
        Ok(())
    }

    fn define_label(&mut self, label: &str) -> Result<(), String> {
        let here = self.here();
        if let Ok(number) = label.parse::<u32>() {
            if !self.first_done {
                self.locals.push((number, self.index, here));
            }
            return Ok(());
        }
        if !valid_name(label) {
            return Err(format!("`{label}` is not a valid label"));
        }
        if !self.labels.insert(label.to_owned()) {
            return Err(format!("label `{label}` is defined twice"));
        }
        self.symbols.insert(label.to_owned(), here);
        Ok(())
    }

    fn directive(&mut self, directive: &str, rest: &str) -> Result<(), String> {
        let tokens = tokens(rest).map_err(|message| format!(".{directive}: {message}"))?;
        let mut cursor = Cursor::new(&tokens);
        match directive {
            "byte" => self.data(&mut cursor, 1),
            "short" | "hword" | "2byte" => self.data(&mut cursor, 2),
            "long" | "int" | "4byte" => self.data(&mut cursor, 4),
            "quad" | "8byte" => self.data(&mut cursor, 8),
            "ascii" => self.text(&mut cursor, Ok, false),
            "asciz" | "string" => self.text(&mut cursor, Ok, true),
            "ebcdic" => self.text(&mut cursor, ebcdic, false),
            "skip" | "space" | "zero" => {
                let size = self.layout(&mut cursor, ".skip size")?;
                let fill = self.fill(&mut cursor)?;
                self.grow(size, fill)
            }
            "balign" => {
                let to = self.layout(&mut cursor, ".balign boundary")?;
                let fill = self.fill(&mut cursor)?;
                if !(1..=1 << 24).contains(&to) || to & (to - 1) != 0 {
                    return Err(format!(".balign: expected a power of two up to 16 MiB, found {to}"));
                }
                let missing = -self.here() & (to - 1);
                self.grow(missing, fill)
            }
            "org" => {
                let to = self.layout(&mut cursor, ".org address")?;
                let fill = self.fill(&mut cursor)?;
                let here = self.here();
                if to < here {
                    return Err(format!(".org {to:#x} would go back: the current address is {here:#x}"));
                }
                self.grow(to - here, fill)
            }
            "origin" => {
                let origin = self.layout(&mut cursor, ".origin address")?;
                cursor.end()?;
                if !self.bytes.is_empty() || !self.labels.is_empty() {
                    return Err(".origin must stand before all labels and output".into());
                }
                range(origin, 0, i128::from(u64::MAX >> 1), "address")?;
                self.origin = origin as u64;
                Ok(())
            }
            "equ" | "set" => self.assign(&mut cursor),
            "globl" | "global" | "text" => Ok(()),
            _ => Err(format!("unknown directive `.{directive}`")),
        }
    }

    fn data(&mut self, cursor: &mut Cursor<'_>, size: usize) -> Result<(), String> {
        loop {
            let value = match cursor.expression(self) {
                // Before the last pass only the size matters.
                Err(EvalError::Undefined(_)) if !self.emit => {
                    cursor.skip_to_comma();
                    0
                }
                value => value.map_err(EvalError::message)?,
            };
            if self.emit {
                let limit = 1_i128 << (size * 8);
                range(value, -limit / 2, limit - 1, "value")?;
            }
            self.bytes.extend_from_slice(&value.to_be_bytes()[16 - size..]);
            if !cursor.eat(',') {
                return cursor.end();
            }
        }
    }

    fn text(
        &mut self,
        cursor: &mut Cursor<'_>,
        convert: impl Fn(u8) -> Result<u8, String>,
        terminate: bool,
    ) -> Result<(), String> {
        loop {
            match cursor.next() {
                Some(Token::Text(bytes)) => {
                    for &byte in bytes {
                        self.bytes.push(convert(byte)?);
                    }
                }
                other => {
                    let found = other.map_or_else(|| "the end of the statement".into(), Token::shown);
                    return Err(format!("expected a string in quotes, found {found}"));
                }
            }
            if terminate {
                self.bytes.push(0);
            }
            if !cursor.eat(',') {
                return cursor.end();
            }
        }
    }

    /// A value that decides addresses: it must be known where it stands.
    fn layout(&self, cursor: &mut Cursor<'_>, what: &str) -> Result<i128, String> {
        cursor.expression(self).map_err(|error| match error {
            EvalError::Undefined(name) => format!("{what}: `{name}` must be defined before this line"),
            EvalError::Wrong(message) => format!("{what}: {message}"),
        })
    }

    fn fill(&self, cursor: &mut Cursor<'_>) -> Result<u8, String> {
        let fill = if cursor.eat(',') { self.layout(cursor, "fill byte")? } else { 0 };
        cursor.end()?;
        range(fill, 0, 255, "fill byte")?;
        Ok(fill as u8)
    }

    fn grow(&mut self, size: i128, fill: u8) -> Result<(), String> {
        let size = usize::try_from(size)
            .ok()
            .filter(|&size| size <= MAX_BYTES)
            .ok_or_else(|| format!("a size of {size} is outside 0 to {MAX_BYTES} (the largest image)"))?;
        self.bytes.resize(self.bytes.len() + size, fill);
        Ok(())
    }

    fn assign(&mut self, cursor: &mut Cursor<'_>) -> Result<(), String> {
        let name = match cursor.next() {
            Some(Token::Name(name)) if valid_name(name) => name.clone(),
            other => {
                let found = other.map_or_else(|| "the end of the statement".into(), Token::shown);
                return Err(format!("expected a symbol name, found {found}"));
            }
        };
        cursor.expect(',', "after the symbol name")?;
        if self.labels.contains(&name) {
            return Err(format!("`{name}` is a label already"));
        }
        match cursor.expression(self) {
            Ok(value) => {
                cursor.end()?;
                range(value, i64::MIN.into(), u64::MAX.into(), "value")?;
                if self.symbols.insert(name, value) != Some(value) {
                    self.unsettled = true;
                }
                Ok(())
            }
            Err(EvalError::Undefined(_)) if !self.emit => {
                self.unsettled = true;
                Ok(())
            }
            Err(error) => Err(error.message()),
        }
    }
}

fn too_large(place: &Place) -> AsmError {
    place.error(format!("the image is larger than {MAX_BYTES} bytes"))
}

/// A label at the start of `text` and what follows it.
fn label(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let end = text.find(|c| !is_name(c))?;
    let rest = text[end..].trim_start().strip_prefix(':')?;
    (end > 0).then_some((&text[..end], rest.trim_start()))
}

fn valid_name(name: &str) -> bool {
    name != "." && name.chars().all(is_name) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// ASCII to EBCDIC code page 037, the printable characters that firmware interfaces use (load parameters, names).
fn ebcdic(byte: u8) -> Result<u8, String> {
    const PUNCTUATION: &[(u8, u8)] = &[
        (b' ', 0x40),
        (b'.', 0x4b),
        (b'<', 0x4c),
        (b'(', 0x4d),
        (b'+', 0x4e),
        (b'|', 0x4f),
        (b'&', 0x50),
        (b'!', 0x5a),
        (b'$', 0x5b),
        (b'*', 0x5c),
        (b')', 0x5d),
        (b';', 0x5e),
        (b'-', 0x60),
        (b'/', 0x61),
        (b',', 0x6b),
        (b'%', 0x6c),
        (b'_', 0x6d),
        (b'>', 0x6e),
        (b'?', 0x6f),
        (b'`', 0x79),
        (b':', 0x7a),
        (b'#', 0x7b),
        (b'@', 0x7c),
        (b'\'', 0x7d),
        (b'=', 0x7e),
        (b'"', 0x7f),
        (b'\n', 0x25),
        (0, 0),
    ];
    Ok(match byte {
        b'0'..=b'9' => 0xf0 + (byte - b'0'),
        b'A'..=b'I' => 0xc1 + (byte - b'A'),
        b'J'..=b'R' => 0xd1 + (byte - b'J'),
        b'S'..=b'Z' => 0xe2 + (byte - b'S'),
        b'a'..=b'i' => 0x81 + (byte - b'a'),
        b'j'..=b'r' => 0x91 + (byte - b'j'),
        b's'..=b'z' => 0xa2 + (byte - b's'),
        _ => match PUNCTUATION.iter().find(|(ascii, _)| *ascii == byte) {
            Some(&(_, code)) => code,
            None => return Err(format!(".ebcdic: no code for the character {byte:#04x}")),
        },
    })
}
