//! Tokens and expressions.

/// A piece of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Number(i128),
    Name(String),
    /// Class letter (`r`, `f`, `c`, `a`) and number.
    Register(char, u8),
    /// `1b` (false) or `1f` (true).
    Local(u32, bool),
    Text(Vec<u8>),
    Dot,
    ShiftLeft,
    ShiftRight,
    Char(char),
}

impl Token {
    /// The token as a message shows it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Number(value) => format!("`{value}`"),
            Self::Name(name) => format!("`{name}`"),
            Self::Register(class, number) => format!("`%{class}{number}`"),
            Self::Local(number, forward) => format!("`{number}{}`", if *forward { 'f' } else { 'b' }),
            Self::Text(_) => "a string".into(),
            Self::Dot => "`.`".into(),
            Self::ShiftLeft => "`<<`".into(),
            Self::ShiftRight => "`>>`".into(),
            Self::Char(c) => format!("`{c}`"),
        }
    }
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EvalError {
    /// The symbol has no value yet (or never).
    Undefined(String),
    /// The expression is wrong whatever the symbols are.
    Wrong(String),
}

impl EvalError {
    /// The text for the user.
    pub(crate) fn message(self) -> String {
        match self {
            Self::Undefined(name) => format!("`{name}` is not defined"),
            Self::Wrong(message) => message,
        }
    }
}

impl From<String> for EvalError {
    fn from(message: String) -> Self {
        Self::Wrong(message)
    }
}

/// Where an expression finds its symbols.
pub(crate) trait Symbols {
    /// Value of a name.
    fn name(&self, name: &str) -> Option<i128>;
    /// Value of a numeric label, backward or forward.
    fn local(&self, number: u32, forward: bool) -> Option<i128>;
    /// The current address.
    fn here(&self) -> i128;
}

/// Splits the operand text of a statement into tokens.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(c) = rest.chars().next() {
        let (token, used) = match c {
            '0'..='9' => number(rest)?,
            '"' => string(rest)?,
            '\'' => character(rest)?,
            '%' => register(rest)?,
            '<' if rest.starts_with("<<") => (Token::ShiftLeft, 2),
            '>' if rest.starts_with(">>") => (Token::ShiftRight, 2),
            '+' | '-' | '*' | '/' | '&' | '|' | '^' | '~' | '(' | ')' | ',' => (Token::Char(c), 1),
            c if is_name(c) => {
                let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                let name = &rest[..end];
                (if name == "." { Token::Dot } else { Token::Name(name.to_owned()) }, end)
            }
            c => return Err(format!("unexpected character `{c}`")),
        };
        found.push(token);
        rest = rest[used..].trim_start();
    }
    Ok(found)
}

/// Whether a character may stand in a name.
pub(crate) fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == '$'
}

fn number(text: &str) -> Result<(Token, usize), String> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let word = &text[..end];
    let lower = word.to_ascii_lowercase();
    let digits = lower.trim_end_matches(['b', 'f']);
    if lower.len() == digits.len() + 1 && digits.bytes().all(|b| b.is_ascii_digit()) {
        let local = digits.parse().map_err(|_| format!("`{word}` is not a numeric label"))?;
        return Ok((Token::Local(local, lower.ends_with('f')), end));
    }
    let (digits, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (lower.as_str(), 10),
    };
    // 64 bits are all that a field can hold; more would only overflow later.
    match u64::from_str_radix(digits, radix) {
        Ok(value) if !digits.starts_with('+') => Ok((Token::Number(value.into()), end)),
        _ => Err(format!("`{word}` is not a number of at most 64 bits")),
    }
}

fn register(text: &str) -> Result<(Token, usize), String> {
    let end = text[1..].find(|c: char| !is_name(c)).map_or(text.len(), |end| end + 1);
    let word = &text[1..end];
    let mut letters = word.chars();
    let class = letters.next().unwrap_or(' ');
    let digits = letters.as_str();
    let number = digits.parse().ok().filter(|&n: &u8| n < 16 && n.to_string() == digits);
    match number {
        Some(number) if "rfca".contains(class) => Ok((Token::Register(class, number), end)),
        _ => Err(format!("`%{word}` is not a register (%r0-%r15, %f0-%f15, %c0-%c15, %a0-%a15)")),
    }
}

fn character(text: &str) -> Result<(Token, usize), String> {
    let mut chars = text[1..].chars();
    let (value, used) = match chars.next() {
        Some('\\') => escape(&text[2..])?,
        Some(c) if c.is_ascii() => (c as u8, 0),
        _ => return Err("expected an ASCII character after `'`".into()),
    };
    let used = if text[1..].starts_with('\\') { 2 + used } else { 2 };
    let closing = usize::from(text[used..].starts_with('\''));
    Ok((Token::Number(value.into()), used + closing))
}

fn string(text: &str) -> Result<(Token, usize), String> {
    let mut bytes = Vec::new();
    let mut at = 1;
    while let Some(c) = text[at..].chars().next() {
        match c {
            '"' => return Ok((Token::Text(bytes), at + 1)),
            '\\' => {
                let (value, used) = escape(&text[at + 1..])?;
                bytes.push(value);
                at += 1 + used;
            }
            c => {
                bytes.extend_from_slice(&text.as_bytes()[at..at + c.len_utf8()]);
                at += c.len_utf8();
            }
        }
    }
    Err("the string has no closing quote".into())
}

/// The value of an escape and how many bytes it takes after the backslash.
fn escape(text: &str) -> Result<(u8, usize), String> {
    let value = match text.chars().next() {
        Some('n') => b'\n',
        Some('r') => b'\r',
        Some('t') => b'\t',
        Some('b') => 8,
        Some('f') => 12,
        Some(c @ ('\\' | '"' | '\'')) => c as u8,
        Some('0'..='7') => {
            let len = text.bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
            return match u8::from_str_radix(&text[..len], 8) {
                Ok(value) => Ok((value, len)),
                Err(_) => Err(format!("`\\{}` does not fit a byte", &text[..len])),
            };
        }
        Some('x') => {
            let len = text.bytes().skip(1).take(2).take_while(u8::is_ascii_hexdigit).count();
            return match u8::from_str_radix(&text[1..1 + len], 16) {
                Ok(value) => Ok((value, 1 + len)),
                Err(_) => Err("expected hexadecimal digits after `\\x`".into()),
            };
        }
        other => return Err(format!("unknown escape `\\{}`", other.map_or(String::new(), String::from))),
    };
    Ok((value, 1))
}

/// Reads tokens one after another.
pub(crate) struct Cursor<'t> {
    tokens: &'t [Token],
    at: usize,
    depth: usize,
}

/// Parentheses and signs within each other.
const MAX_DEPTH: usize = 64;

impl<'t> Cursor<'t> {
    pub(crate) fn new(tokens: &'t [Token]) -> Self {
        Self { tokens, at: 0, depth: 0 }
    }

    pub(crate) fn peek(&self) -> Option<&'t Token> {
        self.tokens.get(self.at)
    }

    pub(crate) fn next(&mut self) -> Option<&'t Token> {
        let token = self.tokens.get(self.at);
        self.at += usize::from(token.is_some());
        token
    }

    /// Takes `c` if it is next.
    pub(crate) fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(&Token::Char(c));
        self.at += usize::from(found);
        found
    }

    /// Requires `c`; `role` says in words what it is for.
    pub(crate) fn expect(&mut self, c: char, role: &str) -> Result<(), String> {
        if self.eat(c) { Ok(()) } else { Err(format!("expected `{c}` {role}, found {}", self.found())) }
    }

    /// Leaves an expression that could not be evaluated yet.
    pub(crate) fn skip_to_comma(&mut self) {
        self.depth = 0;
        while self.peek().is_some_and(|token| *token != Token::Char(',')) {
            self.at += 1;
        }
    }

    /// What is next, for a message.
    pub(crate) fn found(&self) -> String {
        self.peek().map_or_else(|| "the end of the statement".into(), Token::shown)
    }

    /// Nothing may follow.
    pub(crate) fn end(&self) -> Result<(), String> {
        match self.peek() {
            None => Ok(()),
            Some(token) => Err(format!("expected the end of the statement, found {}", token.shown())),
        }
    }

    /// An expression.
    pub(crate) fn expression(&mut self, symbols: &dyn Symbols) -> Result<i128, EvalError> {
        let mut value = self.bits(symbols)?;
        loop {
            if self.eat('+') {
                value = checked(value.checked_add(self.bits(symbols)?))?;
            } else if self.eat('-') {
                value = checked(value.checked_sub(self.bits(symbols)?))?;
            } else {
                return Ok(value);
            }
        }
    }

    fn bits(&mut self, symbols: &dyn Symbols) -> Result<i128, EvalError> {
        let mut value = self.product(symbols)?;
        loop {
            if self.eat('|') {
                value |= self.product(symbols)?;
            } else if self.eat('&') {
                value &= self.product(symbols)?;
            } else if self.eat('^') {
                value ^= self.product(symbols)?;
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self, symbols: &dyn Symbols) -> Result<i128, EvalError> {
        let mut value = self.unary(symbols)?;
        loop {
            match self.peek() {
                Some(Token::Char('*')) => {
                    self.at += 1;
                    value = checked(value.checked_mul(self.unary(symbols)?))?;
                }
                Some(Token::Char('/')) => {
                    self.at += 1;
                    let by = self.unary(symbols)?;
                    value = value.checked_div(by).ok_or_else(|| "division by zero".to_owned())?;
                }
                Some(Token::ShiftLeft) => {
                    self.at += 1;
                    let by = shift(self.unary(symbols)?)?;
                    value = checked(value.checked_mul(1 << by))?;
                }
                Some(Token::ShiftRight) => {
                    self.at += 1;
                    value >>= shift(self.unary(symbols)?)?;
                }
                _ => return Ok(value),
            }
        }
    }

    fn unary(&mut self, symbols: &dyn Symbols) -> Result<i128, EvalError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("the expression nests deeper than {MAX_DEPTH}").into());
        }
        let undefined = |name: String| EvalError::Undefined(name);
        let found = self.found();
        let value = match self.next() {
            Some(Token::Number(value)) => *value,
            Some(Token::Dot) => symbols.here(),
            Some(Token::Name(name)) => symbols.name(name).ok_or_else(|| undefined(name.clone()))?,
            Some(Token::Local(number, forward)) => symbols
                .local(*number, *forward)
                .ok_or_else(|| undefined(format!("{number}{}", if *forward { 'f' } else { 'b' })))?,
            Some(Token::Char('-')) => checked(self.unary(symbols)?.checked_neg())?,
            Some(Token::Char('+')) => self.unary(symbols)?,
            Some(Token::Char('~')) => !self.unary(symbols)?,
            Some(Token::Char('(')) => {
                let value = self.expression(symbols)?;
                self.expect(')', "after the expression")?;
                value
            }
            _ => return Err(format!("expected an expression, found {found}").into()),
        };
        self.depth -= 1;
        Ok(value)
    }
}

fn checked(value: Option<i128>) -> Result<i128, EvalError> {
    value.ok_or_else(|| EvalError::Wrong("the value of the expression is too large".into()))
}

fn shift(by: i128) -> Result<u32, String> {
    match u32::try_from(by) {
        Ok(by) if by < 64 => Ok(by),
        _ => Err(format!("a shift by {by} is outside 0 to 63")),
    }
}
