//! The user's terminal in raw mode, and the `Ctrl-a` escape of a shared device as a state machine over bytes.
//!
//! No signal handler: who ends the process closes the device, which gives the terminal back.

use rustix::io::Errno;
use rustix::termios::{self, LocalModes, OptionalActions, OutputModes, Termios};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// What a byte of a shared device means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Input for whoever has the focus.
    Input(u8),
    /// End the run (`Ctrl-a x`).
    Quit,
    /// Show [`HELP`] (`Ctrl-a h` or `Ctrl-a ?`).
    Help,
    /// Give the focus to the next user (`Ctrl-a c`).
    Next,
    /// Send a break (`Ctrl-a b`).
    Break,
}

/// The text for [`Key::Help`].
pub const HELP: &str = "\n\rC-a h    print this help\n\rC-a x    exit emulator\n\rC-a b    send break (magic sysrq)\n\rC-a c    switch between console and monitor\n\rC-a C-a  sends C-a\n\r";

/// The text before the end that [`Key::Quit`] asks for.
pub const TERMINATED: &str = "QEMU: Terminated\n\r";

/// The escape state machine of a shared device.
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
            b'c' => Some(Key::Next),
            b'b' => Some(Key::Break),
            _ => None,
        }
    }
}

/// A terminal in raw mode, given back when this is dropped.
pub struct RawTerminal {
    fd: OwnedFd,
    saved: Termios,
}

impl RawTerminal {
    /// Switches the terminal to raw mode; with `keep_signals` `Ctrl-c` goes on ending the program. `None` if the
    /// descriptor is no terminal.
    ///
    /// # Errors
    /// The terminal refuses.
    pub fn enter(terminal: impl AsFd, keep_signals: bool) -> io::Result<Option<Self>> {
        let terminal = terminal.as_fd();
        if !termios::isatty(terminal) {
            return Ok(None);
        }
        let fd = rustix::io::fcntl_dupfd_cloexec(terminal, 3)?;
        let saved = termios::tcgetattr(&fd)?;
        set_raw(&fd, saved.clone(), keep_signals)?;
        Ok(Some(Self { fd, saved }))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that has gone away.
        let _ = termios::tcsetattr(&self.fd, OptionalActions::Now, &self.saved);
    }
}

/// Makes a new pseudo-terminal raw: bytes pass as they are.
pub(crate) fn make_raw(terminal: impl AsFd) -> Result<(), Errno> {
    let mut raw = termios::tcgetattr(&terminal)?;
    raw.make_raw();
    termios::tcsetattr(&terminal, OptionalActions::Now, &raw)
}

fn set_raw(fd: &OwnedFd, mut raw: Termios, keep_signals: bool) -> Result<(), Errno> {
    let outputs = raw.output_modes;
    raw.make_raw();
    // The monitor and the guest may write bare newlines.
    raw.output_modes = outputs | OutputModes::OPOST;
    raw.local_modes.set(LocalModes::ISIG, keep_signals);
    termios::tcsetattr(fd, OptionalActions::Now, &raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(bytes: &[u8]) -> Vec<Key> {
        let mut escape = Escape::default();
        bytes.iter().filter_map(|&b| escape.push(b)).collect()
    }

    #[test]
    fn the_sequences_of_a_shared_device() {
        assert_eq!(run(b"ls\r"), b"ls\r".map(Key::Input));
        assert_eq!(run(b"a\x01xb"), [Key::Input(b'a'), Key::Quit, Key::Input(b'b')]);
        assert_eq!(run(b"\x01\x01x"), [Key::Input(1), Key::Input(b'x')]);
        assert_eq!(run(b"\x01h\x01?\x01c\x01b"), [Key::Help, Key::Help, Key::Next, Key::Break]);
        assert_eq!(run(b"\x01q\x03"), [Key::Input(3)], "an unknown letter is swallowed");
    }

    proptest! {
        #[test]
        fn doubled_escapes_carry_every_byte(bytes: Vec<u8>) {
            let doubled: Vec<u8> =
                bytes.iter().flat_map(|&b| std::iter::repeat_n(b, if b == 1 { 2 } else { 1 })).collect();
            prop_assert_eq!(run(&doubled), bytes.into_iter().map(Key::Input).collect::<Vec<_>>());
        }

        #[test]
        fn no_input_without_an_escape_makes_a_command(bytes in prop::collection::vec(2u8.., 0..64)) {
            prop_assert!(run(&bytes).iter().all(|key| matches!(key, Key::Input(_))));
        }

        #[test]
        fn each_byte_gives_at_most_one_key_however_it_is_split(bytes: Vec<u8>, at in 0usize..64) {
            let at = at.min(bytes.len());
            let mut escape = Escape::default();
            let mut keys: Vec<Key> = bytes[..at].iter().filter_map(|&b| escape.push(b)).collect();
            keys.extend(bytes[at..].iter().filter_map(|&b| escape.push(b)));
            prop_assert_eq!(keys, run(&bytes));
        }
    }

    #[test]
    fn a_file_is_no_terminal() {
        assert!(RawTerminal::enter(tempfile::tempfile().unwrap(), false).unwrap().is_none());
    }

    #[test]
    fn a_terminal_is_given_back_as_it_was() {
        use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let master = openpt(flags).unwrap();
        unlockpt(&master).unwrap();
        let terminal = ioctl_tiocgptpeer(&master, flags).unwrap();
        let modes = || termios::tcgetattr(&terminal).unwrap().local_modes;
        let before = modes();
        for signals in [false, true] {
            let raw = RawTerminal::enter(&terminal, signals).unwrap().unwrap();
            assert!(!modes().intersects(LocalModes::ICANON | LocalModes::ECHO));
            assert_eq!(modes().contains(LocalModes::ISIG), signals);
            drop(raw);
            assert_eq!(modes(), before);
        }
    }
}
