//! What can go wrong with a backend, for the user.

use std::fmt;
use std::io;
use thiserror::Error;

/// Why a backend cannot be made or found.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// The program behind `-netdev user` is not there.
    #[error(
        "-netdev user needs the program passt, which is not on this host; install it (package passt of Debian and Fedora)"
    )]
    NoPasst,
    /// It could not be started.
    #[error("cannot start passt for -netdev user: {}", Words(.0))]
    StartPasst(io::Error),
    /// It ended at once.
    #[error("passt, which -netdev user needs, does not start: {0}")]
    Passt(String),
    /// The sandbox is closed.
    #[error(
        "a user network cannot be added while the machine runs: it needs a new process, and the sandbox allows none; give -netdev user at the start, or start the machine with -sandbox off"
    )]
    Sandboxed,
    /// The id is taken.
    #[error("Duplicate ID '{0}'")]
    Duplicate(String),
    /// There is no such backend.
    #[error("Device '{0}' not found")]
    NotFound(String),
    /// A device has it.
    #[error("Property 'virtio-net-device.netdev' can't take value '{0}', it's in use")]
    InUse(String),
    /// A descriptor cannot be taken.
    #[error("Can't use file descriptor {name}: {}", Words(.source))]
    Descriptor {
        /// Its number or name.
        name: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A monitor did not pass it.
    #[error(transparent)]
    Passed(#[from] cloister_chardev::ChardevError),
    /// A descriptor is of the wrong kind.
    #[error("file descriptor {name} is not {needed}")]
    Kind {
        /// Its number or name.
        name: String,
        /// What it has to be.
        needed: &'static str,
    },
    /// A path does not fit a socket's address.
    #[error("UNIX socket path '{0}' is too long")]
    Path(String),
    /// A host has no address.
    #[error("can't resolve host address '{0}'")]
    Resolve(String),
    /// Nobody answers.
    #[error("Failed to connect to '{to}': {}; start the other end before, or give reconnect=SECONDS", Words(.source))]
    Connect {
        /// Where.
        to: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The address cannot be had.
    #[error("can't bind {to}: {}", Words(.source))]
    Bind {
        /// Which.
        to: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// An interface needs a system call for which this program has no safe form.
    #[error(
        "tap,ifname={0}: this version opens no interface by its name; open it and pass it as fd= (a macvtap's /dev/tapN, or a program that makes taps and passes them, such as libvirt)"
    )]
    TapName(String),
    /// A thread or a descriptor of our own could not be had.
    #[error("cannot {what}: {}", Words(.source))]
    Host {
        /// What for.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// The words of an error without its number.
pub(crate) struct Words<'a>(pub(crate) &'a io::Error);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(text.split(" (os error").next().unwrap_or(&text))
    }
}
