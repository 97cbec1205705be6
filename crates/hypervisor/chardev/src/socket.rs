//! Stream sockets: listening, connecting, taking over inherited ones, and their names as `query-chardev` shows them.

use crate::error::ChardevError;
use crate::fds::{FdStore, inherited};
use cloister_options::{FdName, SocketAddress, SocketSpec};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, SocketAddrAny, SocketAddrUnix, SocketAddrV4, SocketAddrV6, SocketFlags, SocketType,
};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Clients that may wait in the kernel while one is served.
const BACKLOG: i32 = 16;

/// Bytes of a name: unix(7), sun_path has 108, one of which is the zero after a path or before an abstract name.
const MOST: usize = 107;

/// A listening socket.
pub(crate) struct Listener {
    pub(crate) fd: OwnedFd,
    no_delay: bool,
    /// As `query-chardev` shows it while nobody is connected.
    name: String,
    /// Removed with the listener, if it is still this socket.
    path: Option<(PathBuf, u64, u64)>,
}

/// A connected socket and its name.
pub(crate) struct Connected {
    pub(crate) fd: OwnedFd,
    pub(crate) name: String,
}

impl Listener {
    pub(crate) fn open(spec: &SocketSpec, fds: &FdStore) -> Result<Self, ChardevError> {
        let no_delay = spec.no_delay;
        match &spec.address {
            SocketAddress::Unix { path, abstract_, tight } => {
                let address = address(path, *abstract_, *tight)?;
                let name = unix_name(path, *abstract_, *tight);
                let path = if *abstract_ { None } else { Some(absolute(path)) };
                // A socket that an earlier run left behind; anything else there is not ours to remove.
                if let Some(path) = &path
                    && std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
                {
                    let _ = std::fs::remove_file(path);
                }
                let shown = || spec_path(&spec.address);
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                let fd = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
                    .and_then(|fd| net::bind(&fd, &address).map(|()| fd))
                    .map_err(|e| ChardevError::Bind { to: shown(), source: e.into() })?;
                listen(&fd, "socket")?;
                let path = path.and_then(|path| {
                    let meta = std::fs::symlink_metadata(&path).ok()?;
                    Some((path, meta.dev(), meta.ino()))
                });
                Ok(Self { fd, no_delay, name: format!("disconnected:{name},server=on"), path })
            }
            SocketAddress::Inet { host, port } => {
                let addresses = resolve(host, *port, "0.0.0.0")?;
                let listener = TcpListener::bind(&addresses[..])
                    .and_then(|l| l.set_nonblocking(true).map(|()| l))
                    .map_err(|source| match source.kind() {
                        io::ErrorKind::AddrInUse => ChardevError::Port(source),
                        _ => ChardevError::Bind { to: format!("{host}:{port}"), source },
                    })?;
                let fd = OwnedFd::from(listener);
                let name = format!("disconnected:{},server=on", local_name(fd.as_fd()));
                Ok(Self { fd, no_delay, name, path: None })
            }
            SocketAddress::Fd(name) => {
                let fd = taken(name, fds)?;
                listen(&fd, "fd socket")?;
                nonblocking(&fd).map_err(|source| ChardevError::Listen { what: "fd socket", source })?;
                let name = format!("disconnected:{},server=on", local_name(fd.as_fd()));
                Ok(Self { fd, no_delay, name, path: None })
            }
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Takes the next client, if one is there.
    pub(crate) fn accept(&self) -> Result<Connected, Errno> {
        let fd = net::accept_with(&self.fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        set_no_delay(&fd, self.no_delay);
        let name = connected_name(fd.as_fd(), true);
        Ok(Connected { fd, name })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some((path, dev, ino)) = &self.path
            && std::fs::symlink_metadata(path).is_ok_and(|m| m.dev() == *dev && m.ino() == *ino)
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Where a client socket connects to, now and again.
pub(crate) struct Target {
    address: SocketAddress,
    no_delay: bool,
}

impl Target {
    pub(crate) fn new(spec: &SocketSpec) -> Self {
        Self { address: spec.address.clone(), no_delay: spec.no_delay }
    }

    /// As `query-chardev` shows it while nobody is connected.
    pub(crate) fn name(&self) -> String {
        match &self.address {
            SocketAddress::Unix { path, abstract_, tight } => {
                format!("disconnected:{}", unix_name(path, *abstract_, *tight))
            }
            SocketAddress::Inet { host, port } => format!("disconnected:tcp:{host}:{port}"),
            SocketAddress::Fd(name) => format!("disconnected:fd:{name}"),
        }
    }

    /// Connects and waits for the outcome: at the start, where a failure ends the program.
    pub(crate) fn connect(&self, fds: &FdStore) -> Result<Connected, ChardevError> {
        let fd = match &self.address {
            SocketAddress::Unix { .. } => self.start()?,
            SocketAddress::Inet { host, port } => {
                let addresses = resolve(host, *port, "127.0.0.1")?;
                let stream = TcpStream::connect(&addresses[..]).map_err(|source| self.failed(source))?;
                OwnedFd::from(stream)
            }
            SocketAddress::Fd(name) => {
                let fd = taken(name, fds)?;
                if net::sockopt::socket_acceptconn(&fd).unwrap_or(false) {
                    return Err(ChardevError::Listening { name: name.to_string() });
                }
                fd
            }
        };
        nonblocking(&fd).map_err(|source| self.failed(source))?;
        Ok(self.finish(fd))
    }

    /// Starts to connect without waiting.
    pub(crate) fn start(&self) -> Result<OwnedFd, ChardevError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let begin = |family, connect: &dyn Fn(&OwnedFd) -> Result<(), Errno>| {
            let fd = net::socket_with(family, SocketType::STREAM, flags, None)?;
            match connect(&fd) {
                Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
                Err(e) => Err(e),
            }
        };
        let begun = match &self.address {
            SocketAddress::Unix { path, abstract_, tight } => {
                let address = address(path, *abstract_, *tight)?;
                begin(AddressFamily::UNIX, &|fd| net::connect(fd, &address))
            }
            SocketAddress::Inet { host, port } => {
                let addresses = resolve(host, *port, "127.0.0.1")?;
                match addresses.first() {
                    Some(SocketAddr::V4(address)) => {
                        begin(AddressFamily::INET, &|fd| net::connect(fd, address))
                    }
                    Some(SocketAddr::V6(address)) => {
                        begin(AddressFamily::INET6, &|fd| net::connect(fd, address))
                    }
                    None => Err(Errno::ADDRNOTAVAIL),
                }
            }
            // An inherited connection cannot be made again.
            SocketAddress::Fd(_) => Err(Errno::NOTCONN),
        };
        begun.map_err(|e| self.failed(e.into()))
    }

    /// What a started connection came to.
    pub(crate) fn outcome(&self, fd: OwnedFd) -> Result<Connected, ChardevError> {
        let failed = net::sockopt::socket_error(&fd).unwrap_or_else(Err);
        match failed {
            Ok(()) => Ok(self.finish(fd)),
            Err(e) => Err(self.failed(e.into())),
        }
    }

    fn finish(&self, fd: OwnedFd) -> Connected {
        set_no_delay(&fd, self.no_delay);
        let name = connected_name(fd.as_fd(), false);
        Connected { fd, name }
    }

    fn failed(&self, source: io::Error) -> ChardevError {
        let to = match &self.address {
            SocketAddress::Inet { host, port } => format!("{host}:{port}"),
            other => spec_path(other),
        };
        ChardevError::Connect { to, source }
    }
}

/// An inherited or named descriptor that is a stream socket.
fn taken(name: &FdName, fds: &FdStore) -> Result<OwnedFd, ChardevError> {
    let shown = || name.to_string();
    let fd = match name {
        FdName::Number(number) => inherited(*number).map_err(|source| match source.raw_os_error() {
            Some(code) if code == Errno::BADF.raw_os_error() => ChardevError::NotASocket { name: shown() },
            _ => ChardevError::Inherit { number: *number, source },
        })?,
        FdName::Name(name) => fds.take(name)?,
    };
    let stat = rustix::fs::fstat(&fd).map_err(|_| ChardevError::NotASocket { name: shown() })?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(ChardevError::NotASocket { name: shown() });
    }
    if net::sockopt::socket_type(&fd) != Ok(SocketType::STREAM) {
        return Err(ChardevError::NotAStream { name: shown() });
    }
    Ok(fd)
}

fn listen(fd: &OwnedFd, what: &'static str) -> Result<(), ChardevError> {
    net::listen(fd, BACKLOG).map_err(|e| ChardevError::Listen { what, source: e.into() })
}

fn nonblocking(fd: &OwnedFd) -> io::Result<()> {
    Ok(rustix::fs::fcntl_getfl(fd).and_then(|f| rustix::fs::fcntl_setfl(fd, f | OFlags::NONBLOCK))?)
}

fn set_no_delay(fd: &OwnedFd, no_delay: bool) {
    if no_delay {
        // A UNIX socket has no such switch and needs none.
        let _ = net::sockopt::set_tcp_nodelay(fd, true);
    }
}

fn resolve(host: &str, port: u16, default: &str) -> Result<Vec<SocketAddr>, ChardevError> {
    let asked = if host.is_empty() { default } else { host };
    let fail = |e: io::Error| {
        let text = e.to_string();
        let reason = text.rsplit_once(": ").map_or(text.as_str(), |(_, reason)| reason).to_owned();
        ChardevError::Resolve { host: asked.to_owned(), port, reason }
    };
    let asked = asked.trim_start_matches('[').trim_end_matches(']');
    Ok((asked, port).to_socket_addrs().map_err(fail)?.collect())
}

/// The address of a UNIX socket, in the file system or abstract; nothing if the path is too long. An abstract name that
/// is not tight is filled up with zeros, as QEMU does it.
pub fn unix_address(path: &Path, is_abstract: bool, tight: bool) -> Option<SocketAddrUnix> {
    use std::os::unix::ffi::OsStrExt;
    if path.as_os_str().len() > MOST {
        return None;
    }
    if !is_abstract {
        return SocketAddrUnix::new(path).ok();
    }
    let mut name = path.as_os_str().as_bytes().to_vec();
    if !tight {
        name.resize(MOST, 0);
    }
    SocketAddrUnix::new_abstract_name(&name).ok()
}

fn address(path: &Path, is_abstract: bool, tight: bool) -> Result<SocketAddrUnix, ChardevError> {
    unix_address(path, is_abstract, tight).ok_or_else(|| ChardevError::PathTooLong { path: path.to_owned() })
}

fn unix_name(path: &Path, is_abstract: bool, tight: bool) -> String {
    let kind = match (is_abstract, tight) {
        (false, _) => "",
        (true, true) => ",abstract=on,tight=on",
        (true, false) => ",abstract=on",
    };
    format!("unix:{}{kind}", path.display())
}

fn spec_path(address: &SocketAddress) -> String {
    match address {
        SocketAddress::Unix { path, .. } => path.display().to_string(),
        SocketAddress::Inet { host, port } => format!("{host}:{port}"),
        SocketAddress::Fd(name) => format!("fd {name}"),
    }
}

/// Of a connection: the UNIX socket's own path, or both ends of TCP.
fn connected_name(fd: BorrowedFd<'_>, server: bool) -> String {
    let local = local_name(fd);
    let server = if server { ",server=on" } else { "" };
    match net::getpeername(fd).ok().flatten().and_then(inet_text) {
        Some(peer) => format!("{local}{server} <-> {peer}"),
        None => format!("{local}{server}"),
    }
}

fn local_name(fd: BorrowedFd<'_>) -> String {
    let Ok(address) = net::getsockname(fd) else { return "unknown".into() };
    if let Ok(unix) = SocketAddrUnix::try_from(address.clone()) {
        if let Some(name) = unix.abstract_name().filter(|name| !name.is_empty()) {
            let end = name.iter().rposition(|&b| b != 0).map_or(0, |at| at + 1);
            return format!("unix:{},abstract=on", String::from_utf8_lossy(&name[..end]));
        }
        let path = unix.path_bytes().unwrap_or_default();
        return format!("unix:{}", String::from_utf8_lossy(path));
    }
    inet_text(address).map_or_else(|| "unknown".into(), |text| format!("tcp:{text}"))
}

fn inet_text(address: SocketAddrAny) -> Option<String> {
    SocketAddrV4::try_from(address.clone())
        .map(|a| a.to_string())
        .or_else(|_| SocketAddrV6::try_from(address).map(|a| a.to_string()))
        .ok()
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
