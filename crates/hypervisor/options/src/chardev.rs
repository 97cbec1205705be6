//! Where characters go and come from: the backends of `-chardev` and of the short forms that `-qmp`, `-monitor`,
//! `-serial` and `-gdb` take (`unix:PATH,server=on`, `tcp:HOST:PORT`, `mon:stdio`).
//!
//! Plain data. Nothing is opened here, no host name resolved, and no descriptor looked at.

use std::fmt;
use std::path::PathBuf;

/// Where characters go and come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CharBackend {
    /// No such device at all.
    None,
    /// A device that loses everything.
    Null,
    /// The terminal.
    Stdio {
        /// `mon:stdio` or a chardev with `mux=on`: a monitor shares it, reached by Ctrl-a c.
        with_monitor: bool,
    },
    /// A file, written only.
    File {
        /// Its path.
        path: PathBuf,
        /// Keep what is in it and write at its end.
        append: bool,
    },
    /// A new pseudo-terminal.
    Pty {
        /// A symbolic link to it, made at this path.
        path: Option<PathBuf>,
    },
    /// A named pipe, or the pair of them that ends in `.in` and `.out`.
    Pipe {
        /// Its path.
        path: PathBuf,
    },
    /// A stream socket.
    Socket(SocketSpec),
    /// A `-chardev` by id.
    Chardev(String),
}

/// A stream socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSpec {
    /// Its address, or the descriptor that is one.
    pub address: SocketAddress,
    /// Listen; otherwise connect.
    pub server: bool,
    /// Wait for the first client before the start; only a server does.
    pub wait: bool,
    /// Seconds until a client that lost its connection, or never had one, tries again.
    pub reconnect: Option<u64>,
    /// Send small packets at once (TCP_NODELAY).
    pub no_delay: bool,
}

/// The address of a stream socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketAddress {
    /// A UNIX socket.
    Unix {
        /// Its path, or its abstract name.
        path: PathBuf,
        /// The name is in Linux's abstract space (unix(7)).
        abstract_: bool,
        /// The abstract name is as long as the path, not padded with zeroes to the whole field.
        tight: bool,
    },
    /// A TCP socket.
    Inet {
        /// The host; empty for every address of this host, or for this host when connecting.
        host: String,
        /// The port; 0 lets the kernel choose when listening.
        port: u16,
    },
    /// A socket that is open already: inherited, or passed over QMP. With [`SocketSpec::server`] it listens,
    /// without it is connected.
    Fd(FdName),
}

/// An open descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FdName {
    /// An inherited one by number.
    Number(i32),
    /// One that the monitor command `getfd` named.
    Name(String),
}

impl fmt::Display for FdName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// `-chardev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chardev {
    /// Its id.
    pub id: String,
    /// Where the characters go; never [`CharBackend::Chardev`] or [`CharBackend::None`].
    pub backend: CharBackend,
    /// Whether Ctrl-C goes on ending the program (`signal=on`).
    pub signal: bool,
    /// Several users share it, and Ctrl-a c goes round (`mux=on`).
    pub mux: bool,
    /// Write everything that goes out to this file as well (`logfile=`).
    pub log_file: Option<PathBuf>,
    /// Keep what is in that file (`logappend=on`).
    pub log_append: bool,
}
