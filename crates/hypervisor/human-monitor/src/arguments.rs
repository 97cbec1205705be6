//! The words after a command, read by its parameters.
//!
//! The texts of refusals are QEMU's. What a value means is the handler's business.

use crate::expression::{self, Registers};
use crate::format::Format;

/// What a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `-a`, `-d`: one letter.
    Flag(char),
    /// `/FMT`, right after the command.
    Format,
    /// An expression.
    Number,
    /// An expression before a [`Kind::File`].
    NumberBeforeFile,
    /// A word, perhaps in double quotes.
    Word(Completes),
    /// The name of a file, perhaps in double quotes.
    File,
    /// As [`Kind::File`], by the name that QEMU gives to a missing one of some commands.
    Filename,
    /// Everything that is left.
    Rest(Completes),
}

/// What a word can be completed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completes {
    Nothing,
    Command,
    Info,
    DeviceId,
    ObjectId,
    DeviceType,
    ObjectType,
    Block,
    Migration,
}

/// A parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameter {
    pub(crate) kind: Kind,
    pub(crate) optional: bool,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Flag(char),
    Format(Format),
    Number(u64),
    Text(String),
}

/// What was given, in the order of the parameters; flags apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arguments {
    values: Vec<Value>,
}

impl Arguments {
    /// Reads `text` (what follows the command's name); `command` is for refusals.
    pub(crate) fn read(
        command: &str,
        parameters: &[Parameter],
        text: &str,
        last: Format,
        registers: Registers<'_>,
    ) -> Result<Self, String> {
        let mut out = Self::default();
        let mut rest = text;
        for parameter in parameters {
            if parameter.kind == Kind::Format {
                // `x/4x 0` and `x /4x 0`.
                let format = rest.trim_ascii_start().strip_prefix('/');
                let (letters, after) = format.map_or(("", rest), split_word);
                out.values
                    .push(Value::Format(Format::parse(letters, last).map_err(|error| error.to_string())?));
                rest = after;
                continue;
            }
            rest = rest.trim_ascii_start();
            if let Kind::Flag(flag) = parameter.kind {
                rest = out.flag(command, flag, parameters, rest)?;
                continue;
            }
            if rest.is_empty() && parameter.optional {
                continue;
            }
            rest = out.value(command, parameter.kind, rest, registers)?;
        }
        if !rest.trim_ascii().is_empty() {
            return Err(format!("{command}: extraneous characters at the end of line"));
        }
        Ok(out)
    }

    fn flag<'a>(
        &mut self,
        command: &str,
        flag: char,
        parameters: &[Parameter],
        rest: &'a str,
    ) -> Result<&'a str, String> {
        let Some(letter) = rest.strip_prefix('-').and_then(|rest| rest.chars().next()) else {
            return Ok(rest);
        };
        let after = &rest[1 + letter.len_utf8()..];
        if letter == flag && (after.is_empty() || after.starts_with(' ')) {
            self.values.push(Value::Flag(flag));
            return Ok(after);
        }
        match parameters.iter().any(|parameter| parameter.kind == Kind::Flag(letter)) {
            true => Ok(rest),
            false => Err(format!("{command}: unsupported option -{letter}")),
        }
    }

    fn value<'a>(
        &mut self,
        command: &str,
        kind: Kind,
        rest: &'a str,
        registers: Registers<'_>,
    ) -> Result<&'a str, String> {
        let (value, after) = match kind {
            Kind::Number | Kind::NumberBeforeFile => {
                let read = match kind {
                    Kind::Number => expression::evaluate(rest, registers),
                    _ => expression::evaluate_before_file(rest, registers),
                };
                let (value, after) = read.map_err(|error| error.to_string())?;
                (Value::Number(value), after)
            }
            Kind::Word(_) | Kind::File | Kind::Filename => {
                let what = if kind == Kind::Filename { "filename" } else { "string" };
                let (word, after) = quoted_word(rest).ok_or_else(|| format!("{command}: {what} expected"))?;
                (Value::Text(word), after)
            }
            Kind::Rest(_) => {
                if rest.is_empty() {
                    return Err(format!("{command}: string expected"));
                }
                (Value::Text(rest.trim_ascii_end().to_owned()), "")
            }
            Kind::Flag(_) | Kind::Format => return Ok(rest),
        };
        self.values.push(value);
        Ok(after)
    }

    /// Whether a flag was given.
    pub(crate) fn has(&self, flag: char) -> bool {
        self.values.contains(&Value::Flag(flag))
    }

    /// The format.
    pub(crate) fn format(&self) -> Format {
        let mut formats = self.values.iter().filter_map(|value| match value {
            Value::Format(format) => Some(*format),
            _ => None,
        });
        formats.next().unwrap_or_default()
    }

    /// The number at `index` among the numbers.
    pub(crate) fn number(&self, index: usize) -> Option<u64> {
        let mut numbers = self.values.iter().filter_map(|value| match value {
            Value::Number(number) => Some(*number),
            _ => None,
        });
        numbers.nth(index)
    }

    /// The first word; empty without.
    pub(crate) fn text(&self) -> &str {
        let mut texts = self.values.iter().filter_map(|value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        });
        texts.next().unwrap_or_default()
    }
}

/// A word and what follows it, blanks included.
pub(crate) fn split_word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(text.len()))
}

/// A word, or a text in double quotes with `\n`, `\r`, `\\`, `\'` and `\"`. `None`: there is none, or it does not end.
fn quoted_word(text: &str) -> Option<(String, &str)> {
    let Some(inner) = text.strip_prefix('"') else {
        let (word, rest) = split_word(text);
        return (!word.is_empty()).then(|| (word.to_owned(), rest));
    };
    let mut word = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((word, &inner[at + 1..])),
            '\\' => word.push(match chars.next()?.1 {
                'n' => '\n',
                'r' => '\r',
                c @ ('\\' | '\'' | '"') => c,
                _ => return None,
            }),
            c => word.push(c),
        }
    }
    None
}
