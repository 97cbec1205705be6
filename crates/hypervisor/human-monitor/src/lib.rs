//! The monitor for people: one line in, text out, with the names and layouts of QEMU's; and interactive sessions with
//! a line editor. One table of commands serves dispatch, `help`, the list of `info` and completion.
//!
//! It decides nothing about the machine, which is behind [`Operator`], and speaks no QMP; that crate calls
//! [`command`] for `human-monitor-command`. It shows what the host sees and never makes it see more: no command
//! converts a page of a protected guest.
#![forbid(unsafe_code)]

mod addition;
mod arguments;
mod completion;
mod control;
mod dump;
mod editor;
mod expression;
mod format;
mod info;
mod interactive;
mod memory;
mod network;
mod registers;
mod table;
mod tree;

pub use completion::Completions;
pub use expression::{ExpressionError, Registers, evaluate};
pub use format::{Format, FormatError, MOST_BYTES, Radix, Size};
pub use interactive::{Interactive, PROMPT, banner, serve};

use cloister_control::{ControlError, Operator};

/// Most bytes of a command.
pub const MOST_LINE: usize = 4095;

/// Runs one line and gives its output, with CRLF line ends as QEMU has them through QMP. Errors are text as well.
/// `cpu` is the current CPU for this line, else the first.
pub fn command(operator: &Operator, line: &str, cpu: Option<u16>) -> String {
    let mut monitor = Monitor::new(operator);
    if let Some(cpu) = cpu {
        monitor.cpu = cpu;
    }
    monitor.run(line)
}

/// One person's monitor: it remembers a current CPU and how values were printed last.
#[derive(Clone, Debug)]
pub struct Monitor {
    operator: Operator,
    cpu: u16,
    format: Format,
    quit: bool,
}

impl Monitor {
    /// A monitor whose current CPU is the first.
    pub fn new(operator: &Operator) -> Self {
        Self { operator: operator.clone(), cpu: 0, format: Format::default(), quit: false }
    }

    /// Runs one line and gives its output, with CRLF line ends.
    pub fn run(&mut self, line: &str) -> String {
        let text = if line.len() > MOST_LINE {
            format!("a line of {} bytes is too long: at most {MOST_LINE}, nothing was done\n", line.len())
        } else {
            table::dispatch(self, line).unwrap_or_else(|refusal| refusal.to_string() + "\n")
        };
        text.replace('\n', "\r\n")
    }

    /// Whether the run was ended here.
    pub fn has_quit(&self) -> bool {
        self.quit
    }
}

/// Why a command did nothing. Its display is the answer.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("Error: {0}")]
    Control(#[from] ControlError),
    #[error("{0}")]
    Words(String),
    #[error("{text}\nTry \"help {command}\" for more information")]
    Usage { text: String, command: String },
}

impl Refusal {
    fn error(text: impl Into<String>) -> Self {
        Self::Control(ControlError::new(text))
    }

    fn words(text: impl Into<String>) -> Self {
        Self::Words(text.into())
    }
}

impl From<cloister_platform::VmError> for Refusal {
    fn from(error: cloister_platform::VmError) -> Self {
        Self::Control(error.into())
    }
}

type Answer = Result<String, Refusal>;
