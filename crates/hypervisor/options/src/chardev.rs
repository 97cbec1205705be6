//! Where characters go and come from: the backends of `-chardev` and of the short forms that `-qmp`, `-monitor`,
//! `-serial` and `-gdb` take (`unix:PATH,server=on`, `tcp:HOST:PORT`, `mon:stdio`).
//!
//! Plain data. Nothing is opened here, no host name resolved, and no descriptor looked at.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::error::{OptionError, Problem};
use crate::flat::parse_flat;
use parse::{Origin, ShortError};

mod json;
pub(crate) mod parse;

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

/// The short form that `-serial` and the others take.
impl fmt::Display for CharBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Null => f.write_str("null"),
            Self::Stdio { with_monitor: false } => f.write_str("stdio"),
            Self::Stdio { with_monitor: true } => f.write_str("mon:stdio"),
            Self::File { path, .. } => write!(f, "file:{}", path.display()),
            Self::Pty { .. } => f.write_str("pty"),
            Self::Pipe { path } => write!(f, "pipe:{}", path.display()),
            Self::Socket(socket) => socket.fmt(f),
            Self::Chardev(id) => write!(f, "chardev:{id}"),
        }
    }
}

/// The short form, which [`parse_chardev_short`] reads back: `unix:PATH,server=on,wait=off`.
impl fmt::Display for SocketSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            SocketAddress::Unix { path, abstract_, tight } => {
                let path = path.to_string_lossy().replace(',', ",,");
                // A first word with a '=' would be a key, and these two words would ask for help.
                let key = if path.contains('=') || path == "help" || path == "?" { "path=" } else { "" };
                write!(f, "unix:{key}{path}")?;
                if *abstract_ {
                    f.write_str(",abstract=on")?;
                }
                if !*tight {
                    f.write_str(",tight=off")?;
                }
            }
            SocketAddress::Inet { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}")?,
            SocketAddress::Inet { host, port } => write!(f, "tcp:{host}:{port}")?,
            SocketAddress::Fd(fd) => write!(f, "unix:fd={fd}")?,
        }
        if self.server {
            write!(f, ",server=on,wait={}", if self.wait { "on" } else { "off" })?;
        }
        if let Some(seconds) = self.reconnect {
            write!(f, ",reconnect={seconds}")?;
        }
        if self.no_delay {
            f.write_str(",nodelay=on")?;
        }
        Ok(())
    }
}

/// Read what `chardev-add` of the human monitor takes, which is what `-chardev` takes. A descriptor may have the
/// name that `getfd` gave it.
pub fn parse_chardev_text(text: &str) -> Result<Chardev, OptionError> {
    let flat = parse_flat(text, Some("backend"), false).map_err(Problem::anywhere)?;
    parse::from_flat(&flat, Origin::Monitor).map_err(Problem::anywhere)
}

/// Read the arguments of QMP's `chardev-add`. Whether the id is free is not checked.
pub fn parse_chardev_json(arguments: &Map<String, Value>) -> Result<Chardev, OptionError> {
    json::chardev(arguments).map_err(Problem::anywhere)
}

/// Read a short form: what `gdbserver` of the human monitor takes, and what `-serial` and the others take.
pub fn parse_chardev_short(text: &str) -> Result<CharBackend, OptionError> {
    parse::short(text).map_err(|error| match error {
        ShortError::Form(Some(problem)) | ShortError::Value(problem) => problem.anywhere(),
        ShortError::Form(None) => Problem::CharDriver(text.to_owned()).anywhere(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn socket() -> impl Strategy<Value = SocketSpec> {
        let address = prop_oneof![
            (".{1,24}", any::<bool>(), any::<bool>()).prop_map(|(path, abstract_, tight)| {
                SocketAddress::Unix { path: path.into(), abstract_, tight }
            }),
            ("[a-z0-9.-]{0,12}|[0-9a-f]{0,4}:(:[0-9a-f]{1,4}){1,3}", any::<u16>())
                .prop_map(|(host, port)| SocketAddress::Inet { host, port }),
            (0..i32::MAX).prop_map(|number| SocketAddress::Fd(FdName::Number(number))),
        ];
        let role = prop_oneof![
            any::<bool>().prop_map(|wait| (true, wait, None)),
            prop::option::of(1u64..).prop_map(|reconnect| (false, false, reconnect)),
        ];
        (address, role, any::<bool>()).prop_map(|(address, (server, wait, reconnect), no_delay)| SocketSpec {
            address,
            server,
            wait,
            reconnect,
            no_delay,
        })
    }

    fn problem(text: &str) -> String {
        parse_chardev_short(text).expect_err("it is refused").to_string()
    }

    fn unix(path: &str) -> SocketAddress {
        SocketAddress::Unix { path: path.into(), abstract_: false, tight: true }
    }

    #[test]
    fn without_server_a_socket_connects() {
        let CharBackend::Socket(spec) = parse_chardev_short("unix:/run/q").unwrap() else {
            panic!("a socket");
        };
        let connects = SocketSpec {
            address: unix("/run/q"),
            server: false,
            wait: false,
            reconnect: None,
            no_delay: false,
        };
        assert_eq!(spec, connects);
    }

    #[test]
    fn a_server_waits_unless_told_otherwise() {
        for (text, wait) in [
            ("unix:/q,server", true),
            ("unix:/q,server=on", true),
            ("unix:/q,server,nowait", false),
            ("unix:/q,server=on,wait=off", false),
        ] {
            let CharBackend::Socket(spec) = parse_chardev_short(text).unwrap() else { panic!("a socket") };
            assert_eq!((spec.server, spec.wait), (true, wait), "{text}");
        }
    }

    #[test]
    fn hosts_may_be_empty_or_in_brackets() {
        let host = |text: &str| match parse_chardev_short(text).unwrap() {
            CharBackend::Socket(SocketSpec { address: SocketAddress::Inet { host, port }, .. }) => {
                (host, port)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(host("tcp::1234"), (String::new(), 1234));
        assert_eq!(host("tcp:[::1]:5,nodelay=on"), ("::1".to_owned(), 5));
        assert_eq!(host("tcp:example.org:65535"), ("example.org".to_owned(), 65535));
        for bad in ["tcp:a:65536", "tcp:a:ssh", "tcp:a:+1"] {
            assert!(problem(bad).contains("from 0 to 65535"), "{bad}");
        }
    }

    #[test]
    fn names_of_descriptors_belong_to_a_monitor() {
        let text = "socket,id=a,fd=sock,server=on,wait=off";
        let CharBackend::Socket(spec) = parse_chardev_text(text).unwrap().backend else { panic!("a socket") };
        assert_eq!(spec.address, SocketAddress::Fd(FdName::Name("sock".to_owned())));
        assert_eq!(problem("unix:fd=sock"), "Unable to parse FD number sock");
    }

    #[test]
    fn in_qmp_a_socket_listens_and_does_not_wait() {
        let read = |value: Value| parse_chardev_json(value.as_object().unwrap()).unwrap();
        let address = json!({"type": "unix", "data": {"path": "/q"}});
        let backend = json!({"type": "socket", "data": {"addr": address}});
        let CharBackend::Socket(spec) = read(json!({"id": "a", "backend": backend})).backend else {
            panic!("a socket");
        };
        assert_eq!((&spec.address, spec.server, spec.wait), (&unix("/q"), true, false));
    }

    #[test]
    fn telnet_websocket_and_tls_are_refused_in_words() {
        for text in ["telnet:h:1", "unix:/x,telnet=on", "websocket:h:1", "unix:/x,tls-creds=a", "mon:pty"] {
            assert!(problem(text).contains("is not part of this version of Cloister; "), "{text}");
        }
        assert!(parse_chardev_short("unix:/x,telnet=off").is_ok());
    }

    proptest! {
        #[test]
        fn a_printed_socket_is_read_back(spec in socket()) {
            let read = parse_chardev_short(&spec.to_string());
            prop_assert_eq!(read, Ok(CharBackend::Socket(spec)));
        }

        #[test]
        fn no_text_panics(text in ".*", grammar in "(unix|tcp|mon|file):[a=,:0\\[\\]x-]{0,12}") {
            let _ = parse_chardev_short(&text);
            let _ = parse_chardev_short(&grammar);
            let _ = parse_chardev_text(&text);
            let _ = parse_chardev_text(&format!("socket,id=a,{grammar}"));
        }
    }
}
