//! Standard output and standard error.
//!
//! The standard macros panic when a write fails; these do not. A reader that has closed the pipe has seen
//! enough. Any other failure of standard output (a full disk) makes the command fail at its end.

use std::io::{Error, ErrorKind, Write};
use std::sync::OnceLock;

/// Prints a line to standard output.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
        // The first failure is the one to report.
        let _ = FAILED.set(error);
    }
}

/// Prints a line to standard error. If that fails, there is nobody to tell.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// What went wrong with [`line`], if it is worth telling.
pub(crate) fn failure() -> Option<&'static Error> {
    FAILED.get().filter(|error| error.kind() != ErrorKind::BrokenPipe)
}

static FAILED: OnceLock<Error> = OnceLock::new();
