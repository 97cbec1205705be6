//! Opening what a `-chardev` describes. What comes out is one of three things: a file that is written at once, a peer
//! that is there from the start, or a socket that brings peers.

use crate::error::ChardevError;
use crate::fds::FdStore;
use crate::socket::{Connected, Listener, Target};
use crate::terminal::{RawTerminal, make_raw};
use cloister_options::{CharBackend, Chardev as Spec};
use rustix::fs::{FileType, OFlags};
use rustix::pty::OpenptFlags;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// An opened device.
pub(crate) struct Backend {
    pub(crate) source: Source,
    /// Output that no peer can hold up: a regular file.
    pub(crate) file: Option<File>,
    /// As `query-chardev` shows it when nobody is connected.
    pub(crate) name: String,
    /// To be told to the user.
    pub(crate) announcement: Option<String>,
    /// A server that waits for its first client before the guest starts.
    pub(crate) wait: bool,
    pub(crate) keep: Keep,
}

/// Where peers come from.
pub(crate) enum Source {
    /// There are none.
    None,
    /// One that is there until the device closes, or hangs up for good.
    Once(Option<Peer>),
    /// One after the other.
    Listener(Listener),
    /// Connections that are made again after some time.
    Client { target: Target, again: Option<Duration>, first: Option<Peer> },
}

impl Source {
    /// Whether the first peer is there already.
    pub(crate) fn has_peer(&self) -> bool {
        matches!(self, Self::Once(Some(_)) | Self::Client { first: Some(_), .. })
    }
}

/// One peer.
pub(crate) struct Peer {
    pub(crate) input: Option<OwnedFd>,
    pub(crate) output: Option<OwnedFd>,
    pub(crate) is_socket: bool,
    /// Writing may block although poll(2) says otherwise: write little.
    pub(crate) cautious: bool,
    /// As `query-chardev` shows it.
    pub(crate) name: String,
}

impl Peer {
    pub(crate) fn socket(connected: Connected) -> Result<Self, io::Error> {
        let output = rustix::io::fcntl_dupfd_cloexec(&connected.fd, 3)?;
        Ok(Self {
            input: Some(connected.fd),
            output: Some(output),
            is_socket: true,
            cautious: false,
            name: connected.name,
        })
    }
}

/// What lives as long as the device.
#[derive(Default)]
pub(crate) struct Keep {
    _raw: Option<RawTerminal>,
    _stdio: Option<StdioClaim>,
    _slave: Option<OwnedFd>,
    _link: Option<Link>,
}

impl Backend {
    pub(crate) fn open(spec: &Spec, fds: &FdStore) -> Result<Self, ChardevError> {
        match &spec.backend {
            CharBackend::None | CharBackend::Chardev(_) => {
                Err(ChardevError::NoBackend { id: spec.id.clone() })
            }
            CharBackend::Null => Ok(Self::plain("null", Source::None)),
            CharBackend::Stdio { .. } => stdio(spec.signal),
            CharBackend::File { path, append } => file(path, *append, fds),
            CharBackend::Pty { path } => pty(&spec.id, path.as_deref()),
            CharBackend::Pipe { path } => pipe(path),
            CharBackend::Socket(socket) if socket.server => {
                let listener = Listener::open(socket, fds)?;
                let name = listener.name().to_owned();
                let wait = socket.wait;
                Ok(Self { name, wait, ..Self::plain("", Source::Listener(listener)) })
            }
            CharBackend::Socket(socket) => {
                let target = Target::new(socket);
                let again = socket.reconnect.filter(|&s| s > 0).map(Duration::from_secs);
                let name = target.name();
                // With reconnect= the first attempt may fail as well as any other.
                let first = match again {
                    Some(_) => None,
                    None => {
                        Some(Peer::socket(target.connect(fds)?).map_err(|source| host(&spec.id, source))?)
                    }
                };
                Ok(Self { name, ..Self::plain("", Source::Client { target, again, first }) })
            }
        }
    }

    fn plain(name: &str, source: Source) -> Self {
        Self {
            source,
            file: None,
            name: name.to_owned(),
            announcement: None,
            wait: false,
            keep: Keep::default(),
        }
    }
}

fn host(id: &str, source: io::Error) -> ChardevError {
    ChardevError::Host { id: id.to_owned(), what: "duplicate a descriptor", source }
}

fn stdio(signal: bool) -> Result<Backend, ChardevError> {
    let claim = StdioClaim::take()?;
    let fail = |what| move |source: io::Error| ChardevError::Terminal { what, source };
    let input = dup(io::stdin()).map_err(fail("use standard input"))?;
    let output = dup(io::stdout()).map_err(fail("use standard output"))?;
    let raw = RawTerminal::enter(&input, signal).map_err(fail("set the terminal"))?;
    let mut backend = Backend::plain("stdio", Source::None);
    let peer =
        Peer { input: Some(input), output: None, is_socket: false, cautious: false, name: "stdio".into() };
    let kind = kind_of(&output);
    let peer = match kind {
        FileType::RegularFile => {
            backend.file = Some(output.into());
            peer
        }
        // The terminal's own description may be shared with the shell, where O_NONBLOCK would outlive us: open it anew.
        FileType::CharacterDevice | FileType::Fifo => {
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            match rustix::fs::open("/proc/self/fd/1", flags, rustix::fs::Mode::empty()) {
                Ok(own) => Peer { output: Some(own), ..peer },
                Err(_) => Peer { output: Some(output), cautious: true, ..peer },
            }
        }
        _ => Peer { output: Some(output), cautious: true, ..peer },
    };
    backend.source = Source::Once(Some(peer));
    backend.keep._raw = raw;
    backend.keep._stdio = Some(claim);
    Ok(backend)
}

fn file(path: &Path, append: bool, fds: &FdStore) -> Result<Backend, ChardevError> {
    let fail = |source: io::Error| ChardevError::Open { path: path.to_owned(), source };
    let how = if append { OFlags::APPEND } else { OFlags::TRUNC };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY | how;
    let fd = match fds.open(path, flags) {
        // A named pipe that nobody reads yet (fifo(7)).
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
            fds.open(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY)
        }
        other => other,
    }
    .map_err(fail)?;
    let mut backend = Backend::plain("file", Source::None);
    if kind_of(&fd) == FileType::RegularFile {
        backend.file = Some(fd.into());
    } else {
        backend.source = Source::Once(Some(Peer {
            input: None,
            output: Some(fd),
            is_socket: false,
            cautious: true,
            name: "file".into(),
        }));
    }
    Ok(backend)
}

fn pipe(path: &Path) -> Result<Backend, ChardevError> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    // Open for both, so that neither end waits for the other nor sees it go (fifo(7)).
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = |path: &Path| rustix::fs::open(path, flags, rustix::fs::Mode::empty());
    let pair = open(&with(".in")).and_then(|input| Ok((input, open(&with(".out"))?)));
    let (input, output) = pair
        .or_else(|_| {
            let both = open(path)?;
            Ok((rustix::io::fcntl_dupfd_cloexec(&both, 3)?, both))
        })
        .map_err(|e: rustix::io::Errno| ChardevError::Open { path: path.to_owned(), source: e.into() })?;
    let peer = Peer {
        input: Some(input),
        output: Some(output),
        is_socket: false,
        cautious: false,
        name: "pipe".into(),
    };
    Ok(Backend::plain("pipe", Source::Once(Some(peer))))
}

fn pty(id: &str, link: Option<&Path>) -> Result<Backend, ChardevError> {
    let fail = |e: rustix::io::Errno| ChardevError::Terminal { what: "create PTY", source: e.into() };
    let master =
        rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).map_err(fail)?;
    rustix::pty::grantpt(&master).map_err(fail)?;
    rustix::pty::unlockpt(&master).map_err(fail)?;
    // Held open, so that the terminal does not hang up between its visitors.
    let slave = rustix::pty::ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )
    .map_err(fail)?;
    make_raw(&slave).map_err(fail)?;
    let flags = rustix::fs::fcntl_getfl(&master).map_err(fail)?;
    rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK).map_err(fail)?;
    let device = rustix::pty::ptsname(&master, Vec::new()).map_err(fail)?.to_string_lossy().into_owned();
    let link = link.map(|path| Link::make(path, &device)).transpose()?;
    let output = rustix::io::fcntl_dupfd_cloexec(&master, 3).map_err(fail)?;
    let name = format!("pty:{device}");
    let peer = Peer {
        input: Some(master),
        output: Some(output),
        is_socket: false,
        cautious: false,
        name: name.clone(),
    };
    Ok(Backend {
        announcement: Some(format!("char device redirected to {device} (label {id})")),
        keep: Keep { _slave: Some(slave), _link: link, ..Keep::default() },
        ..Backend::plain(&name, Source::Once(Some(peer)))
    })
}

fn dup(fd: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)
}

fn kind_of(fd: &OwnedFd) -> FileType {
    rustix::fs::fstat(fd).map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode))
}

/// The right to use the terminal: one device at a time.
struct StdioClaim;

static STDIO: AtomicBool = AtomicBool::new(false);

impl StdioClaim {
    fn take() -> Result<Self, ChardevError> {
        if STDIO.swap(true, Ordering::AcqRel) { Err(ChardevError::StdioInUse) } else { Ok(Self) }
    }
}

impl Drop for StdioClaim {
    fn drop(&mut self) {
        STDIO.store(false, Ordering::Release);
    }
}

/// A symbolic link to a pseudo-terminal.
struct Link {
    path: PathBuf,
    target: String,
}

impl Link {
    fn make(path: &Path, target: &str) -> Result<Self, ChardevError> {
        std::os::unix::fs::symlink(target, path)
            .map_err(|source| ChardevError::Create { path: path.to_owned(), source })?;
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self { path, target: target.to_owned() })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if std::fs::read_link(&self.path).is_ok_and(|to| to.to_str() == Some(&self.target)) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
