//! The user's terminal: raw mode that is given back when its guard is dropped, and the `Ctrl-a` escape of
//! `-nographic` as a state machine over bytes.
//!
//! No thread and no signal handler: the program that owns the process calls [`RawTerminal::restore`] from whatever
//! path ends it, or simply drops the guard.

use std::os::fd::{AsFd, OwnedFd};

use rustix::termios::{
    self, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios,
};

use crate::Error;

/// What a byte from the terminal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Input for the guest.
    Input(u8),
    /// End the run (`Ctrl-a x`).
    Quit,
    /// Show [`HELP`] (`Ctrl-a h` or `Ctrl-a ?`).
    Help,
    /// Switch between console and monitor (`Ctrl-a c`): there is no monitor yet, show [`NO_MONITOR`].
    Monitor,
    /// Send a break (`Ctrl-a b`); the consoles here know none, so nothing happens.
    Break,
    /// Toggle time stamps (`Ctrl-a t`).
    Timestamps,
    /// Write the disks back (`Ctrl-a s`).
    Commit,
}

/// The text for [`Key::Help`].
pub const HELP: &str = "\r\nC-a h    print this help\r\nC-a x    exit emulator\r\nC-a c    switch between console and monitor (not available yet)\r\nC-a C-a  sends C-a\r\n";

/// The text for [`Key::Monitor`].
pub const NO_MONITOR: &str = "\r\nThe monitor is not available yet; C-a x ends the run.\r\n";

/// The escape state machine of a multiplexed console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Escape {
    got_escape: bool,
}

impl Escape {
    /// The escape character, `Ctrl-a`.
    pub const CHARACTER: u8 = 0x01;

    /// Takes one byte; `None` means that it belongs to a sequence which is not complete or has no meaning.
    pub fn push(&mut self, byte: u8) -> Option<Key> {
        if !self.got_escape {
            self.got_escape = byte == Self::CHARACTER;
            return (!self.got_escape).then_some(Key::Input(byte));
        }
        self.got_escape = false;
        match byte {
            Self::CHARACTER => Some(Key::Input(byte)),
            b'x' => Some(Key::Quit),
            b'h' | b'?' => Some(Key::Help),
            b'c' => Some(Key::Monitor),
            b'b' => Some(Key::Break),
            b't' => Some(Key::Timestamps),
            b's' => Some(Key::Commit),
            _ => None,
        }
    }
}

/// A terminal in raw mode.
pub struct RawTerminal {
    fd: OwnedFd,
    saved: Option<Termios>,
}

impl RawTerminal {
    /// Switches the terminal to raw mode: no echo, no line editing, no flow control, `Ctrl-c` goes to the guest unless
    /// `keep_signals`. Returns `None` if the descriptor is no terminal.
    ///
    /// # Errors
    /// The terminal refuses.
    pub fn enter(terminal: impl AsFd, keep_signals: bool) -> Result<Option<Self>, Error> {
        let terminal = terminal.as_fd();
        if !termios::isatty(terminal) {
            return Ok(None);
        }
        let fail = |e: rustix::io::Errno| Error::Terminal(e.into());
        let fd = terminal.try_clone_to_owned().map_err(Error::Terminal)?;
        let saved = termios::tcgetattr(&fd).map_err(fail)?;
        let mut raw = saved.clone();
        raw.input_modes.remove(
            InputModes::IGNBRK
                | InputModes::BRKINT
                | InputModes::PARMRK
                | InputModes::ISTRIP
                | InputModes::INLCR
                | InputModes::IGNCR
                | InputModes::ICRNL
                | InputModes::IXON,
        );
        raw.output_modes.insert(OutputModes::OPOST);
        raw.local_modes
            .remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::IEXTEN);
        if !keep_signals {
            raw.local_modes.remove(LocalModes::ISIG);
        }
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        termios::tcsetattr(&fd, OptionalActions::Now, &raw).map_err(fail)?;
        Ok(Some(Self { fd, saved: Some(saved) }))
    }

    /// Gives the terminal back as it was. Safe to call more than once.
    pub fn restore(&mut self) {
        if let Some(saved) = self.saved.take() {
            // Nothing can be done about a terminal that has gone away.
            let _ = termios::tcsetattr(&self.fd, OptionalActions::Now, &saved);
        }
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        self.restore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bytes: &[u8]) -> Vec<Key> {
        let mut escape = Escape::default();
        bytes.iter().filter_map(|&b| escape.push(b)).collect()
    }

    #[test]
    fn the_escape_sequences_of_nographic() {
        assert_eq!(run(b"ls\r"), b"ls\r".map(Key::Input));
        assert_eq!(run(b"a\x01xb"), [Key::Input(b'a'), Key::Quit, Key::Input(b'b')]);
        assert_eq!(run(b"\x01\x01x"), [Key::Input(1), Key::Input(b'x')]);
        assert_eq!(run(b"\x01h\x01?\x01c"), [Key::Help, Key::Help, Key::Monitor]);
        assert_eq!(run(b"\x01q\x03"), [Key::Input(3)], "an unknown letter is swallowed");
    }

    #[test]
    fn a_file_is_no_terminal() {
        let file = tempfile::tempfile().unwrap();
        assert!(RawTerminal::enter(&file, false).unwrap().is_none());
    }
}
