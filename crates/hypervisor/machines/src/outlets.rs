//! Where a running machine's words go when somebody other than the user's terminal listens.

use cloister_devices::sclp::ConsoleSink;
use std::io::Write;

/// Takes one message of the machine, without a line end.
pub type MessageSink = Box<dyn Fn(&str) + Send + Sync>;

/// Takers of what a machine says; what is absent goes where the command line says.
#[derive(Default)]
pub struct Outlets {
    /// The guest's console output, in place of the `-serial` back end.
    pub console: Option<Box<dyn ConsoleSink>>,
    /// Warnings and refusals during the run, in place of standard error.
    pub messages: Option<MessageSink>,
}

impl std::fmt::Debug for Outlets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (console, messages) = (self.console.is_some(), self.messages.is_some());
        f.debug_struct("Outlets").field("console", &console).field("messages", &messages).finish()
    }
}

/// Messages to the user's standard error; a closed or full one must not end the guest.
pub(crate) fn to_stderr(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
