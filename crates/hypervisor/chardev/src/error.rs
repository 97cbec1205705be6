//! What can go wrong with a character device, in the words of the field.

use std::fmt;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a character device, a descriptor or a descriptor set could not be used.
#[derive(Debug, Error)]
pub enum ChardevError {
    /// A socket could not be bound.
    #[error("Failed to bind socket to {to}: {}", Words(.source))]
    Bind {
        /// The address.
        to: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A TCP port is taken.
    #[error("Failed to find an available port: {}", Words(.0))]
    Port(io::Error),
    /// A bound socket could not listen.
    #[error("Failed to listen on {what}: {}", Words(.source))]
    Listen {
        /// `socket`, or `fd socket` for an inherited one.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A peer could not be reached.
    #[error("Failed to connect to '{to}': {}", Words(.source))]
    Connect {
        /// The address.
        to: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A host name has no address.
    #[error("address resolution failed for {host}:{port}: {reason}")]
    Resolve {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// The resolver's reason.
        reason: String,
    },
    /// unix(7): a path has at most 107 bytes.
    #[error("UNIX socket path '{}' is too long\nPath must be less than 108 bytes", .path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// A file, pipe or terminal could not be opened.
    #[error("Could not open '{}': {}", .path.display(), Words(.source))]
    Open {
        /// The path.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A file could not be created.
    #[error("Could not create '{}': {}", .path.display(), Words(.source))]
    Create {
        /// The path.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A descriptor is not open, or is something else.
    #[error("File descriptor '{name}' is not a socket")]
    NotASocket {
        /// Its number or name.
        name: String,
    },
    /// A descriptor is a datagram socket or the like.
    #[error("File descriptor '{name}' is not a stream socket; pass a SOCK_STREAM one")]
    NotAStream {
        /// Its number or name.
        name: String,
    },
    /// A listening socket was given where a connected one is needed.
    #[error("File descriptor '{name}' is a listening socket; add server=on")]
    Listening {
        /// Its number or name.
        name: String,
    },
    /// The kernel does not let us take an inherited descriptor.
    #[error(
        "File descriptor '{number}' cannot be taken over: {}; the system call pidfd_getfd must be allowed", Words(.source)
    )]
    Inherit {
        /// Its number.
        number: i32,
        /// The kernel's reason.
        source: io::Error,
    },
    /// `closefd`, `remove-fd`: nothing has that name.
    #[error("File descriptor named '{0}' not found")]
    NoSuchFd(String),
    /// `fd=NAME`, `fd:NAME`: nothing has that name.
    #[error("File descriptor named '{0}' has not been found")]
    UnknownFd(String),
    /// `getfd` with a name that could be a number.
    #[error("Parameter 'fdname' expects a name not starting with a digit")]
    FdName,
    /// `-add-fd` with a number below 3.
    #[error("fd cannot be a standard I/O stream")]
    StandardFd,
    /// `-add-fd` with a number that is closed, or belongs to this program.
    #[error("fd is not valid or already in use")]
    InvalidFd,
    /// `-add-fd` or `add-fd` with a negative set.
    #[error("set option is required and must be non-negative")]
    NegativeSet,
    /// `-add-fd` with a negative descriptor.
    #[error("fd option is required and must be non-negative")]
    NegativeFd,
    /// Two devices want the terminal.
    #[error("cannot use stdio by multiple character devices")]
    StdioInUse,
    /// A device without `mux=on` has a user already.
    #[error("Device '{id}' is in use")]
    InUse {
        /// The device.
        id: String,
    },
    /// The description is not one of a device.
    #[error("chardev '{id}' names no device of its own; give it a backend such as null, stdio or socket")]
    NoBackend {
        /// The device.
        id: String,
    },
    /// The terminal or a pseudo-terminal refuses.
    #[error("Failed to {what}: {}", Words(.source))]
    Terminal {
        /// What was tried.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The host has no more threads, descriptors or the like.
    #[error("Could not {what} for chardev '{id}': {}", Words(.source))]
    Host {
        /// The device.
        id: String,
        /// What was tried.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// An error's text as strerror(3) says it, without the number that std adds.
pub struct Words<'a>(pub &'a io::Error);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(text.split(" (os error ").next().unwrap_or(&text))
    }
}
