//! Standard output for subcommands.

use std::io::Write;

/// Prints a line. A reader that has closed the pipe has seen enough, and nothing is wrong then.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
