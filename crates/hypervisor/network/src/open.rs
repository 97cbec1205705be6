//! Opens what a backend names: sockets, descriptors from outside, interfaces.

use crate::error::NetworkError;
use crate::link::{Framing, Link, Peer};
use crate::network::Listener;
use crate::passt;
use crate::pump::Pump;
use cloister_chardev::{FdStore, inherited};
use cloister_options::{DgramNet, FdName, NetBackend, Netdev, SocketAddress, StreamNet, TapNet};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind,
    connect as connect_to, getpeername, getsockname, listen, socket_with, sockopt,
};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long the start waits for a host that does not answer.
const CONNECT: Duration = Duration::from_secs(5);

/// How a backend comes by a peer.
pub(crate) enum Way {
    /// It has one, and gets no other.
    Once,
    /// It listens.
    Listen(Socket),
    /// It connects, again and again.
    Connect {
        /// Where to.
        address: SocketAddress,
        /// Time between attempts.
        again: Duration,
    },
}

/// A listening socket.
pub(crate) struct Socket {
    pub(crate) fd: OwnedFd,
    address: SocketAddress,
    /// Removed with the socket, if it is still this one.
    path: Option<(PathBuf, u64, u64)>,
}

/// Opens a backend and starts its thread.
pub(crate) fn open(
    netdev: &Netdev,
    helper: Option<OwnedFd>,
    fds: &FdStore,
    listener: &Listener,
) -> Result<Arc<Link>, NetworkError> {
    let host = |what| move |source| NetworkError::Host { what, source };
    let (peer, way, words) = match &netdev.backend {
        NetBackend::User(user) => {
            let socket = match helper {
                Some(socket) => socket,
                None => passt::start(user)?,
            };
            (Some(stream_peer(socket)), Way::Once, String::new())
        }
        NetBackend::Stream(stream) => open_stream(stream, fds)?,
        NetBackend::Dgram(dgram) => open_dgram(dgram, fds)?,
        NetBackend::Tap(TapNet::Name(name)) => return Err(NetworkError::TapName(name.clone())),
        NetBackend::Tap(TapNet::Fd(name)) => {
            let fd = taken(name, fds)?;
            if !rustix::fs::fstat(&fd)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice)
            {
                return Err(NetworkError::Kind { name: name.to_string(), needed: "an open tap interface" });
            }
            nonblocking(&fd).map_err(host("prepare a descriptor"))?;
            let peer = Peer { fd: Arc::new(fd), framing: Framing::File, to: None };
            (Some(peer), Way::Once, format!("fd={name}"))
        }
    };
    let link = Link::new().map_err(host("make an eventfd"))?;
    let tells = matches!(&netdev.backend, NetBackend::Stream(stream) if !stream.socket);
    {
        let mut state = link.lock();
        state.peer = peer;
        state.words = words;
    }
    let pump =
        Pump { id: netdev.id.clone(), link: Arc::clone(&link), way, listener: Arc::clone(listener), tells };
    let thread = std::thread::Builder::new().name(format!("net {}", netdev.id));
    thread.spawn(move || pump.run()).map_err(host("start a network backend's thread"))?;
    Ok(link)
}

type Opened = (Option<Peer>, Way, String);

fn stream_peer(fd: OwnedFd) -> Peer {
    Peer { fd: Arc::new(fd), framing: Framing::Stream, to: None }
}

fn open_stream(stream: &StreamNet, fds: &FdStore) -> Result<Opened, NetworkError> {
    if let SocketAddress::Fd(name) = &stream.address {
        let fd = taken_socket(name, fds)?;
        let words = format!("fd:{name}");
        let listens = sockopt::socket_acceptconn(&fd).unwrap_or(false);
        return match sockopt::socket_type(&fd) {
            Ok(SocketType::STREAM) if listens => {
                let socket = Socket { fd, address: stream.address.clone(), path: None };
                Ok((None, Way::Listen(socket), words))
            }
            Ok(SocketType::STREAM) if !stream.server => Ok((Some(stream_peer(fd)), Way::Once, words)),
            Ok(SocketType::STREAM) => {
                Err(NetworkError::Kind { name: name.to_string(), needed: "a listening socket" })
            }
            Ok(SocketType::DGRAM) if stream.socket => {
                let peer = Peer { fd: Arc::new(fd), framing: Framing::Dgram, to: None };
                Ok((Some(peer), Way::Once, words))
            }
            _ => Err(NetworkError::Kind { name: name.to_string(), needed: "a stream socket" }),
        };
    }
    if stream.server {
        return Ok((None, Way::Listen(Socket::open(&stream.address)?), String::new()));
    }
    let again = stream.reconnect.map(Duration::from_millis);
    match (connect(&stream.address), again) {
        (Ok((fd, words)), None) => Ok((Some(stream_peer(fd)), Way::Once, words)),
        (Ok((fd, words)), Some(again)) => {
            let way = Way::Connect { address: stream.address.clone(), again };
            Ok((Some(stream_peer(fd)), way, words))
        }
        (Err(_), Some(again)) => {
            Ok((None, Way::Connect { address: stream.address.clone(), again }, String::new()))
        }
        (Err(why), None) => Err(why),
    }
}

/// Connects; waits for a few seconds at most.
pub(crate) fn connect(address: &SocketAddress) -> Result<(OwnedFd, String), NetworkError> {
    let words = uri(address);
    let failed = |source: io::Error| NetworkError::Connect { to: words.clone(), source };
    let fd: OwnedFd = match address {
        SocketAddress::Unix { path, abstract_, tight } => {
            let address = unix_address(path, *abstract_, *tight)?;
            let fd = unix_socket(SocketType::STREAM).map_err(failed)?;
            connect_to(&fd, &address).map_err(|e| failed(e.into()))?;
            fd
        }
        SocketAddress::Inet { host, port } => {
            let mut last = io::ErrorKind::AddrNotAvailable.into();
            let found = resolve(host, *port, "127.0.0.1")?
                .into_iter()
                .find_map(|to| TcpStream::connect_timeout(&to, CONNECT).map_err(|why| last = why).ok());
            let stream = found.ok_or_else(|| failed(last))?;
            let _ = stream.set_nodelay(true);
            stream.into()
        }
        // An inherited connection cannot be made again.
        SocketAddress::Fd(_) => return Err(failed(io::ErrorKind::NotConnected.into())),
    };
    Ok((fd, words))
}

fn open_dgram(dgram: &DgramNet, fds: &FdStore) -> Result<Opened, NetworkError> {
    let bound = |source: io::Error| NetworkError::Bind { to: uri(&dgram.local), source };
    let (fd, to) = match (&dgram.local, &dgram.remote) {
        (SocketAddress::Fd(name), _) => {
            let fd = taken_socket(name, fds)?;
            if sockopt::socket_type(&fd) != Ok(SocketType::DGRAM) {
                return Err(NetworkError::Kind { name: name.to_string(), needed: "a datagram socket" });
            }
            (fd, None)
        }
        (SocketAddress::Inet { host, port }, Some(SocketAddress::Inet { host: peer, port: at })) => {
            let addresses = resolve(host, *port, "0.0.0.0")?;
            let socket = UdpSocket::bind(&addresses[..]).map_err(bound)?;
            let to = resolve(peer, *at, "127.0.0.1")?.into_iter().next();
            let to = to.ok_or_else(|| NetworkError::Resolve(peer.clone()))?;
            (socket.into(), Some(to.into()))
        }
        (
            SocketAddress::Unix { path, abstract_, tight },
            Some(SocketAddress::Unix { path: peer, abstract_: peer_abstract, tight: peer_tight }),
        ) => {
            let local = unix_address(path, *abstract_, *tight)?;
            let to: SocketAddrAny = unix_address(peer, *peer_abstract, *peer_tight)?.into();
            if !abstract_ {
                remove_old(path);
            }
            let fd = unix_socket(SocketType::DGRAM).map_err(bound)?;
            bind(&fd, &local).map_err(|e| bound(e.into()))?;
            (fd, Some(to))
        }
        _ => return Err(bound(io::ErrorKind::InvalidInput.into())),
    };
    let words = match &dgram.remote {
        Some(remote) => format!("{}/{}", uri(&dgram.local), uri(remote)),
        None => uri(&dgram.local),
    };
    Ok((Some(Peer { fd: Arc::new(fd), framing: Framing::Dgram, to }), Way::Once, words))
}

impl Socket {
    fn open(address: &SocketAddress) -> Result<Self, NetworkError> {
        let failed = |source: io::Error| NetworkError::Bind { to: uri(address), source };
        let errno = |e: Errno| failed(e.into());
        let mut own = None;
        let fd: OwnedFd = match address {
            SocketAddress::Unix { path, abstract_, tight } => {
                let name = unix_address(path, *abstract_, *tight)?;
                if !abstract_ {
                    remove_old(path);
                }
                let fd = unix_socket(SocketType::STREAM).map_err(failed)?;
                bind(&fd, &name).map_err(errno)?;
                listen(&fd, 1).map_err(errno)?;
                if !abstract_ {
                    let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                    let meta = std::fs::symlink_metadata(&path).ok();
                    own = meta.map(|meta| (path, meta.dev(), meta.ino()));
                }
                fd
            }
            SocketAddress::Inet { host, port } => {
                let addresses = resolve(host, *port, "0.0.0.0")?;
                TcpListener::bind(&addresses[..]).map_err(failed)?.into()
            }
            SocketAddress::Fd(_) => return Err(failed(io::ErrorKind::InvalidInput.into())),
        };
        nonblocking(&fd).map_err(failed)?;
        Ok(Self { fd, address: address.clone(), path: own })
    }

    /// The next peer, its name, and the address for the event.
    pub(crate) fn accept(&self) -> Result<(OwnedFd, String, SocketAddress), Errno> {
        let fd = accept_with(&self.fd, SocketFlags::CLOEXEC)?;
        let inet = |address: SocketAddrAny| SocketAddr::try_from(address).ok();
        let peer =
            getpeername(&fd).ok().flatten().and_then(inet).or_else(|| getsockname(&fd).ok().and_then(inet));
        let address = match peer {
            Some(peer) => {
                let _ = sockopt::set_tcp_nodelay(&fd, true);
                SocketAddress::Inet { host: peer.ip().to_string(), port: peer.port() }
            }
            None => self.address.clone(),
        };
        Ok((fd, uri(&address), address))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some((path, device, inode)) = &self.path
            && std::fs::symlink_metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == (*device, *inode))
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A socket that an earlier run left behind; anything else there is not ours to remove.
fn remove_old(path: &Path) {
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        let _ = std::fs::remove_file(path);
    }
}

fn unix_socket(kind: SocketType) -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?)
}

fn unix_address(path: &Path, is_abstract: bool, tight: bool) -> Result<SocketAddrUnix, NetworkError> {
    /// Bytes of a name: unix(7), sun_path has 108, one of which is the zero after a path or before an abstract name.
    const MOST: usize = 107;
    let too_long = |_| NetworkError::Path(path.display().to_string());
    if path.as_os_str().len() > MOST {
        return Err(too_long(Errno::NAMETOOLONG));
    }
    if !is_abstract {
        return SocketAddrUnix::new(path).map_err(too_long);
    }
    let mut name = path.as_os_str().as_bytes().to_vec();
    if !tight {
        name.resize(MOST, 0);
    }
    SocketAddrUnix::new_abstract_name(&name).map_err(too_long)
}

fn resolve(host: &str, port: u16, default: &str) -> Result<Vec<SocketAddr>, NetworkError> {
    let asked = if host.is_empty() { default } else { host };
    let asked = asked.trim_start_matches('[').trim_end_matches(']');
    let found = (asked, port).to_socket_addrs().map_err(|_| NetworkError::Resolve(asked.to_owned()))?;
    Ok(found.collect())
}

fn taken(name: &FdName, fds: &FdStore) -> Result<OwnedFd, NetworkError> {
    match name {
        FdName::Number(number) => {
            inherited(*number).map_err(|source| NetworkError::Descriptor { name: name.to_string(), source })
        }
        FdName::Name(name) => Ok(fds.take(name)?),
    }
}

fn taken_socket(name: &FdName, fds: &FdStore) -> Result<OwnedFd, NetworkError> {
    let fd = taken(name, fds)?;
    match rustix::fs::fstat(&fd) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Socket => Ok(fd),
        _ => Err(NetworkError::Kind { name: name.to_string(), needed: "a socket" }),
    }
}

fn nonblocking(fd: &OwnedFd) -> io::Result<()> {
    Ok(fcntl_getfl(fd).and_then(|flags| fcntl_setfl(fd, flags | OFlags::NONBLOCK))?)
}

/// As `info network` shows an address.
fn uri(address: &SocketAddress) -> String {
    match address {
        SocketAddress::Unix { path, .. } => format!("unix:{}", path.display()),
        SocketAddress::Inet { host, port } => format!("tcp:{host}:{port}"),
        SocketAddress::Fd(name) => format!("fd:{name}"),
    }
}
