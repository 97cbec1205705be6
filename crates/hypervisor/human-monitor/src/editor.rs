//! A line editor over a byte stream: keys in, echo and lines out. It works for a terminal and for a program that writes
//! plain lines to a socket.
//!
//! It is a pure state machine: no terminal, no machine, bounded in all directions. Bytes that mean nothing do nothing.

use crate::MOST_LINE;
use std::collections::VecDeque;

/// Lines that are remembered.
const HISTORY: usize = 64;

/// Bytes of an escape sequence.
const ESCAPE: usize = 16;

/// What a key led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// A line is finished.
    Line(String),
    /// A line was longer than can be, and is thrown away.
    TooLong,
    /// Tab.
    Complete,
}

/// The editor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Editor {
    line: String,
    /// In bytes, at a boundary of characters.
    cursor: usize,
    history: VecDeque<String>,
    /// Place in the history; its length means the new line, which is kept in `draft`.
    place: usize,
    draft: String,
    escape: Option<Vec<u8>>,
    /// The bytes of an unfinished character.
    partial: Vec<u8>,
    /// A line feed after a carriage return is part of it.
    after_return: bool,
    overflow: bool,
}

impl Editor {
    /// Takes a byte; echo is appended to `out`.
    pub(crate) fn feed(&mut self, byte: u8, out: &mut Vec<u8>) -> Option<Key> {
        let after_return = std::mem::take(&mut self.after_return);
        // A control byte ends a broken sequence and counts itself.
        if let Some(mut sequence) = self.escape.take()
            && byte >= 0x20
        {
            sequence.push(byte);
            return self.escape(sequence, out);
        }
        if byte < 0x80 {
            self.partial.clear();
        }
        match byte {
            b'\n' if after_return => {}
            b'\r' | b'\n' => {
                self.after_return = byte == b'\r';
                return Some(self.finish(out));
            }
            b'\t' => return Some(Key::Complete),
            0x1b => self.escape = Some(Vec::new()),
            0x01 => self.move_to(0, out),
            0x02 => self.left(out),
            0x03 => {
                out.extend(b"^C\r\n");
                self.forget();
                self.redraw(out);
            }
            0x04 => self.delete(out),
            0x05 => self.move_to(self.line.len(), out),
            0x06 => self.right(out),
            0x08 | 0x7f => self.backspace(out),
            0x0b => {
                self.line.truncate(self.cursor);
                self.redraw(out);
            }
            0x0c => {
                out.extend(b"\x1b[2J\x1b[H");
                self.redraw(out);
            }
            0x0e => self.browse(self.place.saturating_add(1), out),
            0x10 => self.browse(self.place.saturating_sub(1), out),
            0x15 => {
                self.line.drain(..self.cursor);
                self.cursor = 0;
                self.redraw(out);
            }
            0x17 => self.delete_word(out),
            0x20..=0x7e => self.insert(char::from(byte), out),
            0x80.. => self.multibyte(byte, out),
            _ => {}
        }
        None
    }

    /// The line up to the cursor.
    pub(crate) fn before_cursor(&self) -> &str {
        &self.line[..self.cursor]
    }

    /// Replaces the text from `start` to the cursor.
    pub(crate) fn replace(&mut self, start: usize, with: &str, out: &mut Vec<u8>) {
        let fits = self.line.len() - (self.cursor.saturating_sub(start)) + with.len() <= MOST_LINE;
        if start > self.cursor || !self.line.is_char_boundary(start) || !fits {
            return;
        }
        self.line.replace_range(start..self.cursor, with);
        self.cursor = start + with.len();
        self.redraw(out);
    }

    /// Draws prompt and line anew.
    pub(crate) fn redraw(&self, out: &mut Vec<u8>) {
        out.extend(b"\r");
        out.extend(crate::PROMPT.as_bytes());
        out.extend(self.line.as_bytes());
        out.extend(b"\x1b[K");
        back(self.line[self.cursor..].chars().count(), out);
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Key {
        out.extend(b"\r\n");
        if self.overflow {
            self.forget();
            return Key::TooLong;
        }
        let line = std::mem::take(&mut self.line);
        self.forget();
        if !line.trim().is_empty() && self.history.back() != Some(&line) {
            if self.history.len() == HISTORY {
                self.history.pop_front();
            }
            self.history.push_back(line.clone());
        }
        self.place = self.history.len();
        Key::Line(line)
    }

    fn forget(&mut self) {
        self.line.clear();
        self.cursor = 0;
        self.draft.clear();
        self.partial.clear();
        self.place = self.history.len();
        self.overflow = false;
    }

    fn insert(&mut self, c: char, out: &mut Vec<u8>) {
        if self.line.len() + c.len_utf8() > MOST_LINE {
            self.overflow = true;
            return;
        }
        self.line.insert(self.cursor, c);
        self.cursor += c.len_utf8();
        let tail = &self.line[self.cursor - c.len_utf8()..];
        out.extend(tail.as_bytes());
        back(tail.chars().count() - 1, out);
    }

    /// A character of several bytes; anything else (telnet's negotiation, say) is dropped.
    fn multibyte(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.partial.push(byte);
        match std::str::from_utf8(&self.partial) {
            Ok(text) => {
                let c = text.chars().next().filter(|c| !c.is_control());
                self.partial.clear();
                if let Some(c) = c {
                    self.insert(c, out);
                }
            }
            Err(error) if error.error_len().is_some() => self.partial.clear(),
            Err(_) => {}
        }
    }

    fn escape(&mut self, sequence: Vec<u8>, out: &mut Vec<u8>) -> Option<Key> {
        let last = sequence.last().copied().unwrap_or(0);
        let begins = sequence.len() == 1 && matches!(last, b'[' | b'O');
        let goes_on = sequence.len() > 1 && !(0x40..=0x7e).contains(&last);
        if begins || goes_on {
            if sequence.len() < ESCAPE {
                self.escape = Some(sequence);
            }
            return None;
        }
        match &*sequence {
            [b'[' | b'O', b'A'] => self.browse(self.place.saturating_sub(1), out),
            [b'[' | b'O', b'B'] => self.browse(self.place.saturating_add(1), out),
            [b'[' | b'O', b'C'] => self.right(out),
            [b'[' | b'O', b'D'] => self.left(out),
            [b'[' | b'O', b'H'] | [b'[', b'1' | b'7', b'~'] => self.move_to(0, out),
            [b'[' | b'O', b'F'] | [b'[', b'4' | b'8', b'~'] => self.move_to(self.line.len(), out),
            [b'[', b'3', b'~'] => self.delete(out),
            _ => {}
        }
        None
    }

    fn browse(&mut self, place: usize, out: &mut Vec<u8>) {
        if place > self.history.len() || place == self.place {
            return;
        }
        if self.place == self.history.len() {
            self.draft = std::mem::take(&mut self.line);
        }
        self.line = self.history.get(place).cloned().unwrap_or_else(|| std::mem::take(&mut self.draft));
        self.place = place;
        self.cursor = self.line.len();
        self.overflow = false;
        self.redraw(out);
    }

    fn move_to(&mut self, place: usize, out: &mut Vec<u8>) {
        self.cursor = place;
        self.redraw(out);
    }

    fn left(&mut self, out: &mut Vec<u8>) {
        if let Some(c) = self.line[..self.cursor].chars().next_back() {
            self.move_to(self.cursor - c.len_utf8(), out);
        }
    }

    fn right(&mut self, out: &mut Vec<u8>) {
        if let Some(c) = self.line[self.cursor..].chars().next() {
            self.move_to(self.cursor + c.len_utf8(), out);
        }
    }

    fn backspace(&mut self, out: &mut Vec<u8>) {
        if let Some(c) = self.line[..self.cursor].chars().next_back() {
            self.cursor -= c.len_utf8();
            self.line.remove(self.cursor);
            self.redraw(out);
        }
    }

    fn delete(&mut self, out: &mut Vec<u8>) {
        if self.cursor < self.line.len() {
            self.line.remove(self.cursor);
            self.redraw(out);
        }
    }

    fn delete_word(&mut self, out: &mut Vec<u8>) {
        let before = self.line[..self.cursor].trim_end();
        let start = before.rfind(' ').map_or(0, |at| at + 1);
        self.line.replace_range(start..self.cursor, "");
        self.cursor = start;
        self.redraw(out);
    }
}

fn back(columns: usize, out: &mut Vec<u8>) {
    if columns > 0 {
        out.extend(format!("\x1b[{columns}D").bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The lines that keys lead to.
    fn lines(keys: &[u8]) -> Vec<String> {
        let (mut editor, mut out) = (Editor::default(), Vec::new());
        let keys = keys.iter().filter_map(|byte| editor.feed(*byte, &mut out));
        keys.map(|key| match key {
            Key::Line(line) => line,
            other => format!("{other:?}"),
        })
        .collect()
    }

    #[test]
    fn keys_edit() {
        for (keys, expected) in [
            (&b"stop\n"[..], "stop"),
            (b"sotp\x1b[D\x1b[D\x08\x1b[Co\n", "stop"),
            (b"top\x01s\r", "stop"),
            (b"stopx\x7f\r\n", "stop"),
            (b"info x\x17status\n", "info status"),
            (b"garbage\x15stop\n", "stop"),
            (b"stopgarbage\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x0b\n", "stop"),
            (b"no\x03stop\n", "stop"),
            (b"xstop\x1b[H\x1b[3~\n", "stop"),
            (b"xstop\x01\x04\x05\n", "stop"),
            (b"\xff\xfd\x01\xffstop\0\n", "stop"),
            ("möp\n".as_bytes(), "möp"),
            (b"\x1b[1;5Cstop\x1b[99~\n", "stop"),
        ] {
            assert_eq!(lines(keys), [expected], "{keys:?}");
        }
    }

    #[test]
    fn history_goes_back_and_forth() {
        assert_eq!(
            lines(b"a\nb\n\x1b[A\x1b[A\n\x10\x10\x10\x0e\ndraft\x1b[A\x1b[B\n"),
            ["a", "b", "a", "b", "draft"]
        );
    }

    #[test]
    fn a_line_beyond_the_bound_is_no_command() {
        let mut keys = vec![b'q'; MOST_LINE + 1];
        keys.extend(b"\nstop\n");
        assert_eq!(lines(&keys), ["TooLong", "stop"]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_exceed_the_bounds(keys in prop::collection::vec(prop_oneof![
            any::<u8>(), Just(0x1b), Just(b'['), Just(b'A'), Just(b'D'), Just(b'\n'), Just(0xc3), Just(0xb6), 0u8..32,
        ], 0..512)) {
            let (mut editor, mut out) = (Editor::default(), Vec::new());
            for key in keys {
                editor.feed(key, &mut out);
                prop_assert!(editor.line.len() <= MOST_LINE && editor.line.is_char_boundary(editor.cursor));
                prop_assert!(editor.history.len() <= HISTORY && editor.partial.len() < 4);
                prop_assert!(editor.escape.as_ref().is_none_or(|escape| escape.len() < ESCAPE));
                let line = editor.line.clone();
                prop_assert!(!line.contains(|c: char| c.is_control()));
            }
            prop_assert!(std::str::from_utf8(editor.before_cursor().as_bytes()).is_ok());
        }

        #[test]
        fn plain_lines_arrive_as_they_are(text in prop::collection::vec("[ -~]{0,40}", 0..8)) {
            let keys: String = text.iter().map(|line| line.clone() + "\n").collect();
            prop_assert_eq!(lines(keys.as_bytes()), text);
        }
    }
}
