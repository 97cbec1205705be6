//! Bytes to tokens, one byte at a time, so that no chunking of the input can matter.
//!
//! What is inside a string and whether a keyword exists is checked when the value is complete: see `parse`.

/// A token. Its text is a range of the message's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    OpenBrace,
    CloseBrace,
    OpenBracket,
    CloseBracket,
    Colon,
    Comma,
    Text,
    Integer,
    Float,
    Keyword,
}

/// What a byte did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing is complete.
    More,
    /// The token before this byte is complete; give the byte again.
    TokenBefore(Kind),
    /// The token that this byte ends is complete.
    Token(Kind),
    /// No token goes on like this. The byte belongs to the error.
    Stray,
}

/// Where in a token the lexer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Start,
    /// After an error, until a byte that can only begin something new.
    Recovery,
    Quoted {
        quote: u8,
        escape: bool,
    },
    Sign,
    Zero,
    Digits,
    Point,
    Fraction,
    E,
    ESign,
    Exponent,
    Keyword,
}

impl State {
    /// Takes the next byte. White space between tokens is [`Step::More`] and leaves the state at the start.
    pub(super) fn step(&mut self, byte: u8) -> Step {
        let (next, step) = match (*self, byte) {
            (Self::Recovery, byte) if resets(byte) => return Self::restart(self, byte),
            (Self::Recovery, _) => (Self::Recovery, Step::More),
            (Self::Start, _) => start(byte),
            (Self::Quoted { quote, escape: false }, b) if b == quote => {
                (Self::Start, Step::Token(Kind::Text))
            }
            (Self::Quoted { quote, escape }, 0x20..=0xfd) => {
                (Self::Quoted { quote, escape: !escape && byte == b'\\' }, Step::More)
            }
            (Self::Sign, b'0') => (Self::Zero, Step::More),
            (Self::Sign, b'1'..=b'9') => (Self::Digits, Step::More),
            (Self::Digits, b'0'..=b'9') => (Self::Digits, Step::More),
            (Self::Zero | Self::Digits, b'.') => (Self::Point, Step::More),
            (Self::Zero | Self::Digits | Self::Fraction, b'e' | b'E') => (Self::E, Step::More),
            (Self::Point | Self::Fraction, b'0'..=b'9') => (Self::Fraction, Step::More),
            (Self::E, b'+' | b'-') => (Self::ESign, Step::More),
            (Self::E | Self::ESign | Self::Exponent, b'0'..=b'9') => (Self::Exponent, Step::More),
            (Self::Keyword, b'a'..=b'z') => (Self::Keyword, Step::More),
            (Self::Zero, b'0'..=b'9') => (Self::Recovery, Step::Stray),
            (Self::Zero | Self::Digits, _) => (Self::Start, Step::TokenBefore(Kind::Integer)),
            (Self::Fraction | Self::Exponent, _) => (Self::Start, Step::TokenBefore(Kind::Float)),
            (Self::Keyword, _) => (Self::Start, Step::TokenBefore(Kind::Keyword)),
            (Self::Quoted { .. } | Self::Sign | Self::Point | Self::E | Self::ESign, _) => {
                (Self::Recovery, Step::Stray)
            }
        };
        *self = next;
        step
    }

    fn restart(&mut self, byte: u8) -> Step {
        let (next, step) = start(byte);
        *self = next;
        step
    }
}

/// Bytes that end the recovery from an error: structure, control characters, and what UTF-8 has no use for.
fn resets(byte: u8) -> bool {
    matches!(byte, 0..=0x1f | 0xfe | 0xff | b'{' | b'}' | b'[' | b']' | b':' | b',')
}

fn start(byte: u8) -> (State, Step) {
    let whole = |kind| (State::Start, Step::Token(kind));
    match byte {
        b' ' | b'\t' | b'\r' | b'\n' => (State::Start, Step::More),
        b'{' => whole(Kind::OpenBrace),
        b'}' => whole(Kind::CloseBrace),
        b'[' => whole(Kind::OpenBracket),
        b']' => whole(Kind::CloseBracket),
        b':' => whole(Kind::Colon),
        b',' => whole(Kind::Comma),
        b'"' | b'\'' => (State::Quoted { quote: byte, escape: false }, Step::More),
        b'-' => (State::Sign, Step::More),
        b'0' => (State::Zero, Step::More),
        b'1'..=b'9' => (State::Digits, Step::More),
        b'a'..=b'z' => (State::Keyword, Step::More),
        _ => (State::Recovery, Step::Stray),
    }
}
