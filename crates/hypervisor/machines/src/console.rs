//! The console between the guest's SCLP and the user: a terminal with the `Ctrl-a` escape, a pipe, a file.

use crate::MachineError;
use cloister_devices::sclp::ConsoleSink;
use cloister_devices::terminal::{Escape, HELP, Key, NO_MONITOR, RawTerminal};
use cloister_options::{CharBackend, CommandLine};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::PathBuf;

/// Where the console's characters go and come from.
pub(crate) enum Console {
    /// There is no console device.
    Absent,
    /// Output is lost, there is no input.
    Null,
    /// Standard input and output.
    Stdio {
        /// `Ctrl-a` is an escape, as with `-nographic`.
        escape: bool,
    },
    /// Output only.
    File {
        path: PathBuf,
        append: bool,
    },
}

impl Console {
    pub(crate) fn from_options(line: &CommandLine) -> Result<Self, MachineError> {
        let mut backend = line.console();
        if let CharBackend::Chardev(id) = &backend {
            let found = line.chardevs.iter().find(|chardev| &chardev.id == id);
            backend = found.map(|chardev| chardev.backend.clone()).ok_or_else(|| MachineError::Device {
                location: "-serial".into(),
                problem: format!("chardev '{id}' not found; define it with -chardev"),
            })?;
        }
        Ok(match backend {
            CharBackend::None => Self::Absent,
            CharBackend::Null | CharBackend::Chardev(_) => Self::Null,
            CharBackend::Stdio { with_monitor } => Self::Stdio { escape: with_monitor },
            CharBackend::File { path, append } => Self::File { path, append },
            CharBackend::Pty { .. } | CharBackend::Pipe { .. } | CharBackend::Socket(_) => {
                return Err(MachineError::Device {
                    location: "-serial".into(),
                    problem: "the console cannot use this character device; use stdio, mon:stdio, null, none or file:FILE".into(),
                });
            }
        })
    }

    /// The sink for the guest's output; `None` means that the guest has no console.
    pub(crate) fn sink(&self) -> Result<Option<Box<dyn ConsoleSink>>, MachineError> {
        Ok(match self {
            Self::Absent => None,
            Self::Null => Some(Box::new(|_: &[u8]| {})),
            Self::Stdio { .. } => Some(Box::new(|bytes: &[u8]| {
                let mut out = std::io::stdout().lock();
                // A closed pipe must not end the guest.
                let _ = out.write_all(bytes).and_then(|()| out.flush());
            })),
            Self::File { path, append } => {
                let fail = |source| MachineError::Load { what: "console file", path: path.clone(), source };
                let mut options = OpenOptions::new();
                options.create(true).write(true).truncate(!append).append(*append);
                let mut file = options.open(path).map_err(fail)?;
                Some(Box::new(move |bytes: &[u8]| {
                    let _ = file.write_all(bytes);
                }))
            }
        })
    }

    /// Takes the terminal and starts reading it. `input` gets what is for the guest, `quit` is called for
    /// `Ctrl-a x`. The guard gives the terminal back.
    pub(crate) fn start_input(
        &self,
        input: impl Fn(&[u8]) + Send + 'static,
        quit: impl Fn() + Send + 'static,
    ) -> Result<Option<RawTerminal>, MachineError> {
        let Self::Stdio { escape } = *self else { return Ok(None) };
        let terminal = RawTerminal::enter(std::io::stdin(), !escape)?;
        let reader = move || {
            let mut state = Escape::default();
            let mut bytes = [0; 256];
            let mut stdin = std::io::stdin().lock();
            while let Ok(n @ 1..) = stdin.read(&mut bytes) {
                if !escape {
                    input(&bytes[..n]);
                    continue;
                }
                for &byte in &bytes[..n] {
                    match state.push(byte) {
                        Some(Key::Input(byte)) => input(&[byte]),
                        Some(Key::Quit) => quit(),
                        Some(Key::Help) => say(HELP),
                        Some(Key::Monitor) => say(NO_MONITOR),
                        Some(Key::Break | Key::Timestamps | Key::Commit) | None => {}
                    }
                }
            }
        };
        std::thread::Builder::new()
            .name("console input".into())
            .spawn(reader)
            .map_err(|source| MachineError::Host { what: "start the console thread", source })?;
        Ok(terminal)
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
