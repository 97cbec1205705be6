//! Sessions: banner, prompt, the editor's keys, commands and their answers, over any byte stream.
//!
//! Where the bytes come from and go to is the character device's business.

use crate::editor::{Editor, Key};
use crate::{MOST_LINE, Monitor};
use cloister_chardev::{Chardev, ChardevError, SendError, Session};
use cloister_control::Operator;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// What stands before a line; scripts look for it.
pub const PROMPT: &str = "(qemu) ";

/// What greets a person.
pub fn banner() -> String {
    format!("Cloister {} monitor - type 'help' for more information\r\n", env!("CARGO_PKG_VERSION"))
}

/// A session with one person, or with a program that writes lines.
#[derive(Clone, Debug)]
pub struct Interactive {
    monitor: Monitor,
    editor: Editor,
}

impl Interactive {
    /// A session that has not said anything yet.
    pub fn new(operator: &Operator) -> Self {
        Self { monitor: Monitor::new(operator), editor: Editor::default() }
    }

    /// Greets.
    ///
    /// # Errors
    /// If `to` does.
    pub fn greet(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(format!("{}{PROMPT}", banner()).as_bytes())
    }

    /// Takes bytes and writes what they lead to, after each command, so that no more than one answer is ever held.
    ///
    /// # Errors
    /// If `to` does.
    pub fn feed(&mut self, bytes: &[u8], to: &mut impl Write) -> io::Result<()> {
        let mut out = Vec::new();
        for byte in bytes {
            if self.has_ended() {
                break;
            }
            let Some(key) = self.editor.feed(*byte, &mut out) else { continue };
            match key {
                Key::Complete => self.complete(&mut out),
                Key::TooLong => {
                    out.extend(
                        format!("a line takes at most {MOST_LINE} bytes: nothing was done\r\n").bytes(),
                    );
                }
                Key::Line(line) => {
                    // What was typed is seen before what it does, which may take a while.
                    to.write_all(&std::mem::take(&mut out))?;
                    out.extend(self.monitor.run(&line).bytes());
                }
            }
            if key_ends_line(*byte) && !self.has_ended() {
                out.extend(PROMPT.bytes());
            }
            to.write_all(&std::mem::take(&mut out))?;
        }
        to.write_all(&out)?;
        to.flush()
    }

    /// Whether the run was ended by this session.
    pub fn has_ended(&self) -> bool {
        self.monitor.has_quit()
    }

    /// The whole session, to the end of `from` or of the run.
    ///
    /// # Errors
    /// If a stream fails.
    pub fn run(&mut self, from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
        self.greet(to)?;
        to.flush()?;
        let mut buffer = [0; 1024];
        while !self.has_ended() {
            let count = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.feed(&buffer[..count], to)?;
        }
        Ok(())
    }

    fn complete(&mut self, out: &mut Vec<u8>) {
        let found = self.monitor.complete(self.editor.before_cursor());
        let common = common_prefix(&found.words);
        let typed = self.editor.before_cursor().len().saturating_sub(found.start);
        match &*found.words {
            [] => {}
            [word] if found.open => self.editor.replace(found.start, word, out),
            [word] => self.editor.replace(found.start, &format!("{word} "), out),
            _ if common.len() > typed => self.editor.replace(found.start, common, out),
            words => {
                out.extend(b"\r\n");
                let width = words.iter().map(|word| word.len() + 2).max().unwrap_or(1).min(80);
                for row in words.chunks((80 / width).max(1)) {
                    let cells: String = row.iter().map(|word| format!("{word:width$}")).collect();
                    out.extend(cells.trim_end().bytes());
                    out.extend(b"\r\n");
                }
                self.editor.redraw(out);
            }
        }
    }
}

/// Serves a character device until it is closed: one person after the other, each with a new session.
///
/// # Errors
/// If the device is in use.
pub fn serve(operator: &Operator, chardev: &Arc<Chardev>) -> Result<(), ChardevError> {
    let port = chardev.attach_session()?;
    while let Some(session) = port.accept() {
        let mut interactive = Interactive::new(operator);
        match interactive.run(&mut Peer(&session), &mut Peer(&session)) {
            Ok(()) => tracing::debug!(peer = session.peer(), "the monitor session is over"),
            Err(error) => tracing::info!(peer = session.peer(), "the monitor session was given up: {error}"),
        }
        if interactive.has_ended() {
            break;
        }
    }
    Ok(())
}

/// A session as a stream.
struct Peer<'a>(&'a Session);

impl Read for Peer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.0.recv(buffer))
    }
}

impl Write for Peer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.send(bytes) {
            // A program that writes a command and hangs up wants it done all the same; reading finds the end.
            Ok(()) | Err(SendError::Disconnected) => Ok(bytes.len()),
            Err(SendError::Slow) => Err(io::Error::other("the peer does not read its answers")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn key_ends_line(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

fn common_prefix(words: &[String]) -> &str {
    let Some(first) = words.first() else { return "" };
    let same =
        |word: &String| first.char_indices().zip(word.chars()).take_while(|((_, a), b)| a == b).count();
    let count = words.iter().map(same).min().unwrap_or(0);
    first.char_indices().nth(count).map_or(first.as_str(), |(end, _)| &first[..end])
}
