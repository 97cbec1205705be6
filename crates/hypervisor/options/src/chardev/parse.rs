//! From text to a backend: the keys of `-chardev`, and the short forms that other options take.
//!
//! Which short forms an option refuses (`-qmp none`), and the second line that QEMU adds to a refusal, belong to
//! the option.

use std::path::PathBuf;

use super::{CharBackend, Chardev, FdName, SocketAddress, SocketSpec};
use crate::error::Problem;
use crate::flat::{FlatOptions, parse_flat};
use crate::schema::{Key, Kind, Properties, Schema, Words};

/// Longest path of a UNIX socket, its final NUL included (unix(7)).
const UNIX_PATH_MAX: usize = 108;

/// The backends, as `-chardev help` lists them.
pub(crate) const BACKENDS: &[&str] = &["file", "null", "pipe", "pty", "socket", "stdio"];

/// Backends of QEMU that this version lacks.
pub(super) const LATER: &[&str] = &[
    "braille",
    "dbus",
    "hub",
    "memory",
    "msmouse",
    "mux",
    "parallel",
    "qemu-vdagent",
    "ringbuf",
    "serial",
    "spiceport",
    "spicevmc",
    "testdev",
    "tty",
    "udp",
    "vc",
    "wctablet",
];

/// The keys of `-chardev`; as in QEMU each backend takes those of the others and ignores them.
pub(crate) const KEYS: &[Key] = &[
    Key::new("backend", Kind::Text, "file, null, pipe, pty, socket or stdio"),
    Key::new("path", Kind::Text, "file, pipe, UNIX socket, or where to put a link to the pseudo-terminal"),
    Key::new("host", Kind::Text, "socket: host or address; empty for every address of this host"),
    Key::new("port", Kind::Text, "socket: TCP port; 0 lets the system choose one to listen on"),
    Key::new("fd", Kind::Text, "socket: number of an inherited descriptor that is one"),
    Key::new("server", Kind::Bool, "socket: listen instead of connecting").default("off"),
    Key::new("wait", Kind::Bool, "socket that listens: start the guest after the first client came")
        .default("on"),
    Key::new("reconnect", Kind::Unsigned(64), "socket that connects: try again after so many seconds")
        .default("0"),
    Key::new("abstract", Kind::Bool, "UNIX socket: the path is a name in the abstract space").default("off"),
    Key::new("tight", Kind::Bool, "UNIX socket: the abstract name ends where the path does").default("on"),
    Key::new("nodelay", Kind::Bool, "TCP socket: send small packets at once").default("off"),
    Key::new("delay", Kind::Bool, "the opposite of nodelay"),
    Key::new("telnet", Kind::Bool, "speak telnet; only off").default("off"),
    Key::new("tn3270", Kind::Bool, "speak TN3270; only off").default("off"),
    Key::new("websocket", Kind::Bool, "speak WebSocket; only off").default("off"),
    Key::new("tls-creds", Kind::Text, "encrypt with TLS; not in this version"),
    Key::new("tls-authz", Kind::Text, "who may connect over TLS; not in this version"),
    Key::new("ipv4", Kind::Bool, "only IPv4; not in this version, name an address instead"),
    Key::new("ipv6", Kind::Bool, "only IPv6; not in this version, name an address instead"),
    Key::new("to", Kind::Unsigned(32), "last port to try; not in this version"),
    Key::new("append", Kind::Bool, "file: write at its end").default("off"),
    Key::new("signal", Kind::Bool, "stdio: Ctrl-C ends the program").default("on"),
    Key::new("mux", Kind::Bool, "let several users share it, Ctrl-a c goes round").default("off"),
    Key::new("logfile", Kind::Text, "write a copy of everything that goes out to this file"),
    Key::new("logappend", Kind::Bool, "keep what is in the logfile").default("off"),
];

/// Whether names of descriptors mean something: only a monitor has some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    CommandLine,
    Monitor,
}

/// The argument of `-chardev`, already split.
pub(crate) fn from_flat(flat: &FlatOptions, origin: Origin) -> Result<Chardev, Problem> {
    let name = flat.get("backend").unwrap_or_default();
    if LATER.contains(&name) {
        return Err(later(name));
    }
    let properties = read(flat)?;
    let id = flat.id.clone().ok_or(Problem::CharWithoutId)?;
    if flat.get("backend").is_none() {
        return Err(Problem::CharWithoutBackend(id));
    }
    let mux = properties.bool("mux").unwrap_or(false);
    let path = |missing| properties.text("path").map(PathBuf::from).ok_or(missing);
    let backend = match name {
        "null" => CharBackend::Null,
        "stdio" => CharBackend::Stdio { with_monitor: mux },
        "file" => CharBackend::File {
            path: path(Problem::CharFileName)?,
            append: properties.bool("append").unwrap_or(false),
        },
        "pty" => CharBackend::Pty { path: properties.text("path").map(PathBuf::from) },
        "pipe" => CharBackend::Pipe { path: path(Problem::CharPipePath)? },
        "socket" => CharBackend::Socket(socket(&properties, origin)?),
        other => return Err(Problem::CharDriverName(other.to_owned())),
    };
    Ok(Chardev {
        id,
        backend,
        signal: properties.bool("signal").unwrap_or(true),
        mux,
        log_file: properties.text("logfile").map(PathBuf::from),
        log_append: properties.bool("logappend").unwrap_or(false),
    })
}

/// The refusal of a backend that this version lacks.
pub(super) fn later(name: &str) -> Problem {
    let hint = "; use file, null, pipe, pty, socket or stdio".to_owned();
    Problem::NotAvailable(format!("chardev '{name}'"), hint)
}

/// Why a short form is refused: QEMU words what follows differently.
#[derive(Debug)]
pub(crate) enum ShortError {
    /// It is no short form at all; some forms get no words of their own.
    Form(Option<Problem>),
    /// It is one, with values that cannot be.
    Value(Problem),
}

impl From<Problem> for ShortError {
    fn from(problem: Problem) -> Self {
        Self::Value(problem)
    }
}

/// A short form: `unix:PATH,server=on`, `tcp:HOST:PORT`, `mon:stdio`, `chardev:ID` and so on.
pub(crate) fn short(text: &str) -> Result<CharBackend, ShortError> {
    let later =
        |what: String, hint: &str| Err(ShortError::Value(Problem::NotAvailable(what, hint.to_owned())));
    let driver = || ShortError::Form(Some(Problem::CharDriver(text.to_owned())));
    match text {
        "none" => return Ok(CharBackend::None),
        // A console of graphics, of which there are none.
        "null" | "vc" => return Ok(CharBackend::Null),
        "stdio" => return Ok(CharBackend::Stdio { with_monitor: false }),
        "mon:stdio" => return Ok(CharBackend::Stdio { with_monitor: true }),
        "pty" => return Ok(CharBackend::Pty { path: None }),
        "msmouse" | "wctablet" | "braille" | "testdev" => {
            return later(format!("'{text}' for characters"), "; use null");
        }
        _ => {}
    }
    let Some((kind, rest)) = text.split_once(':') else {
        return match text.starts_with("/dev/") {
            true => later(format!("'{text}' for characters"), "; use pty or unix:PATH"),
            false => Err(driver()),
        };
    };
    match kind {
        "vc" => Ok(CharBackend::Null),
        "file" if rest.is_empty() => Err(Problem::CharFileName.into()),
        // Everything after the colon is the path, commas included.
        "file" => Ok(CharBackend::File { path: PathBuf::from(rest), append: false }),
        "pipe" if rest.is_empty() => Err(Problem::CharPipePath.into()),
        "pipe" => Ok(CharBackend::Pipe { path: PathBuf::from(rest) }),
        "chardev" => Ok(CharBackend::Chardev(rest.to_owned())),
        "unix" => short_socket(parse_flat(rest, Some("path"), false)),
        "tcp" => {
            let (host, port, options) = host_and_port(rest).ok_or(ShortError::Form(None))?;
            let flat = parse_flat(options, None, false).map(|mut flat| {
                flat.entries.insert(0, ("port".to_owned(), port.to_owned()));
                flat.entries.insert(0, ("host".to_owned(), host.to_owned()));
                flat
            });
            short_socket(flat)
        }
        "telnet" | "tn3270" | "websocket" => {
            later(format!("'{kind}:' for characters"), "; use tcp:HOST:PORT")
        }
        "udp" => later("'udp:' for characters".to_owned(), "; use tcp:HOST:PORT"),
        "con" => Err(Problem::CharDriverName("console".to_owned()).into()),
        "mon" => match short(rest) {
            Ok(CharBackend::None | CharBackend::Chardev(_)) => {
                Err(ShortError::Form(Some(Problem::CharDriver(rest.to_owned()))))
            }
            Ok(_) => later(
                format!("'{text}' for characters"),
                "; use mon:stdio, or a -chardev with mux=on and a -mon on it",
            ),
            Err(error) => Err(error),
        },
        _ => Err(driver()),
    }
}

fn short_socket(flat: Result<FlatOptions, Problem>) -> Result<CharBackend, ShortError> {
    let form = |problem| ShortError::Form(Some(problem));
    let flat = flat.map_err(form)?;
    let properties = read(&flat).map_err(form)?;
    if ["mux", "logfile", "logappend"].iter().any(|key| properties.get(key).is_some()) {
        return Err(ShortError::Value(Problem::NotAvailable(
            "mux= and logfile= in a short form".to_owned(),
            "; use -chardev and name it with chardev:ID".to_owned(),
        )));
    }
    Ok(CharBackend::Socket(socket(&properties, Origin::CommandLine)?))
}

fn read(flat: &FlatOptions) -> Result<Properties, Problem> {
    if flat.help {
        return Err(Problem::InvalidParameter("help".to_owned()));
    }
    Schema { class: "chardev", keys: KEYS, words: Words::Option }.read_flat(flat, &[])
}

/// Split `HOST:PORT[,options]`; an IPv6 address stands in brackets.
fn host_and_port(text: &str) -> Option<(&str, &str, &str)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once(']')?;
            (host, rest.strip_prefix(':')?)
        }
        None => text.split_once(':')?,
    };
    let (port, options) = rest.split_once(',').unwrap_or((rest, ""));
    (!port.is_empty() && !host.contains(',')).then_some((host, port, options))
}

pub(super) fn socket(properties: &Properties, origin: Origin) -> Result<SocketSpec, Problem> {
    let on = |key| properties.bool(key).unwrap_or(false);
    let later = |what: &str, hint: &str| Err(Problem::NotAvailable(what.to_owned(), hint.to_owned()));
    if on("telnet") || on("tn3270") {
        return later("telnet on a socket", "; it carries plain characters, connect with socat or nc");
    }
    if on("websocket") {
        return later("WebSocket on a socket", "; it carries plain characters");
    }
    if properties.text("tls-creds").is_some() || properties.text("tls-authz").is_some() {
        return later(
            "TLS on a socket",
            "; use a UNIX socket, whose folder's permissions say who may connect",
        );
    }
    if ["ipv4", "ipv6", "to"].iter().any(|key| properties.get(key).is_some()) {
        return later("ipv4=, ipv6= and to= of a socket", "; give an address and one port");
    }
    let no_delay = match (properties.bool("nodelay"), properties.bool("delay")) {
        (Some(_), Some(_)) => return Err(Problem::CharDelay),
        (Some(no_delay), None) => no_delay,
        (None, delay) => delay == Some(false),
    };
    let server = on("server");
    let address = address(properties, server, origin)?;
    let wait = properties.bool("wait");
    if wait.is_some() && !server {
        return Err(Problem::CharWaitAsClient);
    }
    let reconnect = properties.number("reconnect");
    if reconnect.is_some() && server {
        return Err(Problem::CharReconnectAsServer);
    }
    Ok(SocketSpec {
        address,
        server,
        wait: wait.unwrap_or(server),
        reconnect: reconnect.filter(|seconds| *seconds != 0),
        no_delay,
    })
}

fn address(properties: &Properties, server: bool, origin: Origin) -> Result<SocketAddress, Problem> {
    let (path, host, fd) = (properties.text("path"), properties.text("host"), properties.text("fd"));
    match (path, host, fd) {
        (Some(path), None, None) => {
            if path.is_empty() {
                return Err(Problem::CharSocketAddress);
            }
            if path.len() >= UNIX_PATH_MAX {
                return Err(Problem::CharSocketPath(path.to_owned()));
            }
            Ok(SocketAddress::Unix {
                path: PathBuf::from(path),
                abstract_: properties.bool("abstract").unwrap_or(false),
                tight: properties.bool("tight").unwrap_or(true),
            })
        }
        (None, Some(host), None) => {
            let port = properties.text("port").ok_or(Problem::CharSocketPort)?;
            Ok(SocketAddress::Inet { host: host.to_owned(), port: parse_port(port)? })
        }
        // As in QEMU, a monitor's descriptors have names, even if these are numbers.
        (None, None, Some(fd)) if origin == Origin::Monitor => {
            Ok(SocketAddress::Fd(FdName::Name(fd.to_owned())))
        }
        (None, None, Some(fd)) => match fd.parse::<i32>() {
            Ok(number) if number >= 0 => Ok(SocketAddress::Fd(FdName::Number(number))),
            _ => Err(Problem::CharSocketFd(fd.to_owned())),
        },
        // QEMU, too, listens on every address then.
        (None, None, None) if server && properties.text("port").is_some() => {
            let port = properties.text("port").unwrap_or_default();
            Ok(SocketAddress::Inet { host: String::new(), port: parse_port(port)? })
        }
        (None, None, None) => Err(Problem::CharSocketAddress),
        _ => Err(Problem::CharSocketAddresses),
    }
}

fn parse_port(text: &str) -> Result<u16, Problem> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| Problem::CharPort(text.to_owned()))
}
