//! From text to statements: comments, `;`, `.include` and `.macro`. Nothing here knows an instruction.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::AsmError;

/// Where a statement stands.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) file: Arc<str>,
    pub(crate) line: usize,
    /// The macro that the statement comes from; `line` is the line of its use.
    pub(crate) macro_name: Option<Arc<str>>,
}

impl Place {
    /// An error at this place.
    pub(crate) fn error(&self, message: impl Into<String>) -> AsmError {
        let mut message = message.into();
        if let Some(name) = &self.macro_name {
            message = format!("in macro `{name}`: {message}");
        }
        AsmError::Statement { file: self.file.to_string(), line: self.line, message }
    }
}

/// One statement without comments.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) place: Place,
    pub(crate) text: String,
}

/// Statements of a text that has no folder.
pub(crate) fn read_text(text: &str, file: &str) -> Result<Vec<Statement>, AsmError> {
    let mut reader = Reader::default();
    reader.text(text, Arc::from(file), None)?;
    reader.finish()
}

/// Statements of a file and of all that it includes, and the files that were read.
pub(crate) fn read_file(path: &Path) -> Result<(Vec<Statement>, Vec<PathBuf>), AsmError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| AsmError::Read { path: path.to_path_buf(), source })?;
    let mut reader = Reader { sources: vec![path.to_path_buf()], ..Reader::default() };
    reader.text(&text, Arc::from(path.display().to_string()), Some(path))?;
    let sources = std::mem::take(&mut reader.sources);
    Ok((reader.finish()?, sources))
}

/// Includes and macro uses within each other.
const MAX_DEPTH: usize = 16;
/// Macro uses in one source: more is a runaway macro.
const MAX_USES: usize = 1 << 16;
/// Statements after expansion: more is a runaway macro.
const MAX_STATEMENTS: usize = 1 << 20;

#[derive(Clone, Debug)]
struct Macro {
    name: Arc<str>,
    parameters: Vec<String>,
    body: Vec<String>,
}

#[derive(Default)]
struct Reader {
    statements: Vec<Statement>,
    sources: Vec<PathBuf>,
    macros: BTreeMap<String, Arc<Macro>>,
    open: Option<(Place, Macro)>,
    depth: usize,
    uses: usize,
}

impl Reader {
    fn text(&mut self, text: &str, file: Arc<str>, path: Option<&Path>) -> Result<(), AsmError> {
        for (line, text) in split(text, &file)? {
            self.statement(Place { file: file.clone(), line, macro_name: None }, &text, path)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<Statement>, AsmError> {
        match self.open {
            Some((place, open)) => Err(place.error(format!("macro `{}` has no .endm", open.name))),
            None => Ok(self.statements),
        }
    }

    fn statement(&mut self, place: Place, text: &str, path: Option<&Path>) -> Result<(), AsmError> {
        let (word, rest) = first_word(text);
        if let Some((_, open)) = &mut self.open {
            match word {
                ".endm" => {
                    if let Some((_, done)) = self.open.take() {
                        self.macros.insert(done.name.to_string(), Arc::new(done));
                    }
                }
                ".macro" => return Err(place.error("a macro cannot be defined within a macro")),
                _ => open.body.push(text.to_owned()),
            }
            return Ok(());
        }
        match word {
            ".macro" => self.open_macro(place, rest),
            ".endm" => Err(place.error(".endm without .macro")),
            ".include" => self.include(&place, rest, path),
            // A label may stand before a macro use.
            _ => match self.macro_use(text) {
                Some((label, used, arguments)) => {
                    if !label.is_empty() {
                        self.push(place.clone(), label.to_owned())?;
                    }
                    self.expand(&place, &used, arguments, path)
                }
                None => self.push(place, text.to_owned()),
            },
        }
    }

    fn push(&mut self, place: Place, text: String) -> Result<(), AsmError> {
        if self.statements.len() >= MAX_STATEMENTS {
            return Err(place.error(format!("more than {MAX_STATEMENTS} statements after macro expansion")));
        }
        self.statements.push(Statement { place, text });
        Ok(())
    }

    fn open_macro(&mut self, place: Place, rest: &str) -> Result<(), AsmError> {
        let mut words = rest
            .split(|c: char| c.is_whitespace() || c == ',')
            .filter(|word| !word.is_empty())
            .map(str::to_owned);
        let name = words.next().ok_or_else(|| place.error("expected a name after .macro"))?;
        let parameters = words.collect();
        let open = Macro { name: Arc::from(name), parameters, body: Vec::new() };
        self.open = Some((place, open));
        Ok(())
    }

    /// The label part, the macro and the arguments if `text` uses one.
    fn macro_use<'t>(&self, text: &'t str) -> Option<(&'t str, Arc<Macro>, &'t str)> {
        let mut start = 0;
        loop {
            let (word, rest) = first_word(&text[start..]);
            if let Some(used) = self.macros.get(word) {
                return Some((text[..start].trim(), used.clone(), rest));
            }
            if !word.ends_with(':') {
                return None;
            }
            start = text.len() - rest.len();
        }
    }

    fn expand(
        &mut self,
        place: &Place,
        used: &Macro,
        arguments: &str,
        path: Option<&Path>,
    ) -> Result<(), AsmError> {
        let place = Place { macro_name: Some(used.name.clone()), ..place.clone() };
        let arguments = split_arguments(arguments);
        if arguments.len() > used.parameters.len() {
            return Err(place.error(format!(
                "{} arguments are given, but at most {} expected",
                arguments.len(),
                used.parameters.len()
            )));
        }
        self.enter(&place)?;
        self.uses += 1;
        if self.uses > MAX_USES {
            return Err(place.error(format!("macros are used more than {MAX_USES} times")));
        }
        let number = self.uses;
        for line in &used.body {
            let text = substitute(line, &used.parameters, &arguments, number);
            self.statement(place.clone(), &text, path)?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn include(&mut self, place: &Place, rest: &str, path: Option<&Path>) -> Result<(), AsmError> {
        let name = rest
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .filter(|name| !name.is_empty())
            .ok_or_else(|| place.error(format!("expected .include \"file\", found `{rest}`")))?;
        let path = path.ok_or_else(|| {
            place.error(".include needs a file to be relative to; this source was given as text only")
        })?;
        let wanted = path.parent().unwrap_or(Path::new("")).join(name);
        let text = std::fs::read_to_string(&wanted)
            .map_err(|error| place.error(format!("cannot read {}: {error}", wanted.display())))?;
        self.enter(place)?;
        if !self.sources.contains(&wanted) {
            self.sources.push(wanted.clone());
        }
        self.text(&text, Arc::from(wanted.display().to_string()), Some(&wanted))?;
        self.depth -= 1;
        Ok(())
    }

    fn enter(&mut self, place: &Place) -> Result<(), AsmError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(place.error(format!("includes and macros nest deeper than {MAX_DEPTH}")));
        }
        Ok(())
    }
}

/// The first word and the trimmed rest.
pub(crate) fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

/// Splits a file into statements with their line numbers, without comments.
fn split(text: &str, file: &Arc<str>) -> Result<Vec<(usize, String)>, AsmError> {
    let mut found = Vec::new();
    let mut current = String::new();
    let mut start = 1;
    let mut line = 1;
    let mut chars = text.chars().peekable();
    let error = |line, message: &str| Place { file: file.clone(), line, macro_name: None }.error(message);
    let flush = |current: &mut String, start: usize, found: &mut Vec<(usize, String)>| {
        let text = current.trim();
        if !text.is_empty() {
            found.push((start, text.to_owned()));
        }
        current.clear();
    };
    while let Some(c) = chars.next() {
        if current.trim().is_empty() {
            start = line;
        }
        match c {
            '\n' => {
                flush(&mut current, start, &mut found);
                line += 1;
            }
            ';' => flush(&mut current, start, &mut found),
            '#' => while chars.next_if(|&c| c != '\n').is_some() {},
            '/' if chars.next_if_eq(&'*').is_some() => {
                let opened = line;
                let mut last = ' ';
                loop {
                    let Some(c) = chars.next() else {
                        return Err(error(opened, "the comment that begins here has no */"));
                    };
                    if c == '\n' {
                        line += 1;
                    }
                    if last == '*' && c == '/' {
                        break;
                    }
                    last = c;
                }
                current.push(' ');
            }
            '"' => {
                current.push(c);
                loop {
                    match chars.next() {
                        None | Some('\n') => return Err(error(line, "the string has no closing quote")),
                        Some('"') => break,
                        Some('\\') => {
                            current.push('\\');
                            match chars.next_if(|&c| c != '\n') {
                                Some(c) => current.push(c),
                                None => return Err(error(line, "the string has no closing quote")),
                            }
                        }
                        Some(c) => current.push(c),
                    }
                }
                current.push('"');
            }
            '\'' => {
                current.push(c);
                if let Some(c) = chars.next_if(|&c| c != '\n') {
                    current.push(c);
                    if c == '\\'
                        && let Some(c) = chars.next_if(|&c| c != '\n')
                    {
                        current.push(c);
                    }
                }
            }
            c => current.push(c),
        }
    }
    flush(&mut current, start, &mut found);
    Ok(found)
}

/// Splits macro arguments at commas outside quotes and parentheses.
fn split_arguments(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut depth, mut quoted, mut escaped, mut start) = (0_usize, false, false, 0);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth = depth.saturating_sub(1),
            ',' if !quoted && depth == 0 => {
                found.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if !text.trim().is_empty() {
        found.push(text[start..].trim());
    }
    found
}

/// Replaces `\name` and `\@` in one pass, so that an argument is never searched again.
fn substitute(line: &str, parameters: &[String], arguments: &[&str], number: usize) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(left) = after.strip_prefix('@') {
            out.push_str(&number.to_string());
            rest = left;
            continue;
        }
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
        match parameters.iter().position(|name| *name == after[..end]) {
            Some(index) => {
                out.push_str(arguments.get(index).copied().unwrap_or(""));
                rest = &after[end..];
            }
            // An escape in a string (`\n`, `\\`): keep it with the next character.
            None => {
                let next = after.chars().next().map_or(0, char::len_utf8);
                out.push('\\');
                out.push_str(&after[..next]);
                rest = &after[next..];
            }
        }
    }
    out.push_str(rest);
    out
}
