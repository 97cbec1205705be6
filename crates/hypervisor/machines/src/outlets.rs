//! Where a running machine's words go when somebody other than the user's terminal listens.

use cloister_devices::sclp::ConsoleSink;
use std::io::Write;

/// Takes one message of the machine, without a line end.
pub type MessageSink = Box<dyn Fn(&str) + Send + Sync>;

/// Takers of what a machine says.
#[derive(Default)]
pub struct Outlets {
    /// The guest's console output; without one the guest has no console.
    pub console: Option<Box<dyn ConsoleSink>>,
    /// Takes the lines of the console that only takes lines.
    pub line_console: Option<Box<dyn ConsoleSink>>,
    /// Called when the guest has made room for console input that [`Run::console_input`](crate::Run::console_input)
    /// did not take.
    pub console_room: Option<Box<dyn Fn() + Send + Sync>>,
    /// Warnings and refusals during the run, in place of standard error.
    pub messages: Option<MessageSink>,
}

impl std::fmt::Debug for Outlets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (console, messages) = (self.console.is_some(), self.messages.is_some());
        f.debug_struct("Outlets")
            .field("console", &console)
            .field("messages", &messages)
            .finish_non_exhaustive()
    }
}

/// Messages to the user's standard error; a closed or full one must not end the guest.
pub(crate) fn to_stderr(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
