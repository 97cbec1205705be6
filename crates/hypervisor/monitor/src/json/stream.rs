//! A stream of JSON values, cut where each one ends.

use super::lexer::{Kind, State, Step};
use super::parse::parse;
use serde_json::Value;

/// What one value may take at most. The defaults are those of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one value, white space between its tokens not counted: 64 MiB.
    pub bytes: usize,
    /// Tokens of one value: 2 Mi.
    pub tokens: usize,
    /// Objects and arrays inside each other: 1024.
    pub nesting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 20, tokens: 2 << 20, nesting: 1024 }
    }
}

/// Why the input was not a value. The stream goes on after it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// Not JSON.
    #[error("JSON parse error, {0}")]
    Parse(String),
    /// [`Limits::bytes`].
    #[error("JSON token size limit exceeded")]
    Bytes,
    /// [`Limits::tokens`].
    #[error("JSON token count limit exceeded")]
    Tokens,
    /// [`Limits::nesting`].
    #[error("JSON nesting depth limit exceeded")]
    Nesting,
}

/// Reads values from bytes that come in pieces of any size.
///
/// A value ends with its last bracket, so no newline is needed; a number or a keyword outside of brackets ends with the
/// byte after it. A control character other than tab, carriage return and line feed, or one of the bytes 0xFE and 0xFF,
/// is an error that throws away what came before and begins anew.
#[derive(Debug, Default)]
pub struct StreamParser {
    limits: Limits,
    state: State,
    /// The complete tokens of the value so far and, after them, the token in the making.
    text: Vec<u8>,
    tokens: Vec<Token>,
    token_start: usize,
    braces: isize,
    brackets: isize,
}

/// A complete token: what and where in the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: u32,
    pub(super) end: u32,
}

impl StreamParser {
    /// With other limits than QEMU's.
    pub fn with_limits(limits: Limits) -> Self {
        // Offsets are stored in 32 bits.
        let bytes = limits.bytes.min(u32::MAX as usize / 2);
        Self { limits: Limits { bytes, ..limits }, ..Self::default() }
    }

    /// Takes bytes; `value` is called for each value and each error, in order.
    pub fn feed(&mut self, bytes: &[u8], mut value: impl FnMut(Result<Value, StreamError>)) {
        for &byte in bytes {
            // A byte that ends a token without being part of it is looked at twice.
            while self.push(byte, &mut value) {}
        }
    }

    /// Takes a byte; true if it must be given again.
    fn push(&mut self, byte: u8, value: &mut impl FnMut(Result<Value, StreamError>)) -> bool {
        let fresh = matches!(self.state, State::Start | State::Recovery);
        let step = self.state.step(byte);
        let (kind, again) = match step {
            Step::More => {
                if self.state != State::Start && self.state != State::Recovery {
                    self.text.push(byte);
                    if self.text.len() > self.limits.bytes {
                        self.fail(StreamError::Bytes, value);
                        self.state = State::Recovery;
                    }
                }
                return false;
            }
            Step::Stray => {
                let start = if fresh { self.text.len() } else { self.token_start };
                let mut stray = self.text.split_off(start);
                stray.push(byte);
                // What was in the making may be long; its beginning tells enough.
                stray.truncate(STRAY);
                let text = format!("stray '{}'", String::from_utf8_lossy(&stray));
                self.fail(StreamError::Parse(text), value);
                return false;
            }
            Step::TokenBefore(kind) => (kind, true),
            Step::Token(kind) => {
                self.text.push(byte);
                (kind, false)
            }
        };
        self.token(kind, value);
        again
    }

    fn token(&mut self, kind: Kind, value: &mut impl FnMut(Result<Value, StreamError>)) {
        let (start, end) = (self.token_start, self.text.len());
        self.token_start = end;
        match kind {
            Kind::OpenBrace => self.braces += 1,
            Kind::CloseBrace => self.braces -= 1,
            Kind::OpenBracket => self.brackets += 1,
            Kind::CloseBracket => self.brackets -= 1,
            _ => {}
        }
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        self.tokens.push(Token { kind, start: offset(start), end: offset(end) });
        let nesting = self.braces.saturating_add(self.brackets);
        if self.text.len() > self.limits.bytes {
            return self.fail(StreamError::Bytes, value);
        }
        if self.tokens.len() > self.limits.tokens {
            return self.fail(StreamError::Tokens, value);
        }
        if usize::try_from(nesting).is_ok_and(|nesting| nesting > self.limits.nesting) {
            return self.fail(StreamError::Nesting, value);
        }
        if self.braces >= 0 && self.brackets >= 0 && nesting > 0 {
            return;
        }
        let result = parse(&self.text, &self.tokens);
        self.forget();
        value(result);
    }

    fn fail(&mut self, error: StreamError, value: &mut impl FnMut(Result<Value, StreamError>)) {
        self.forget();
        value(Err(error));
    }

    fn forget(&mut self) {
        // A client that once sent something large does not keep the memory.
        if self.text.capacity() > KEEP {
            self.text = Vec::new();
            self.tokens = Vec::new();
        }
        self.text.clear();
        self.tokens.clear();
        self.token_start = 0;
        self.braces = 0;
        self.brackets = 0;
    }
}

/// Bytes of a token that an error shows.
const STRAY: usize = 1024;

/// Bytes of buffer kept from one value to the next.
const KEEP: usize = 64 << 10;

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
