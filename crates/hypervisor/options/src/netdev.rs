//! Where a guest's network leads: the backends of `-netdev`, `-nic` and `-net`, and the arguments of QMP's
//! `netdev_add` (QEMU's QMP reference, "Network devices").
//!
//! Plain data. No process is started here, no socket opened, no host name resolved.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Map, Value};

use crate::chardev::{FdName, SocketAddress};
use crate::error::{Location, OptionError, Problem};

pub(crate) mod parse;
mod read;

pub(crate) use parse::KINDS as NETDEV_KINDS;

/// `-netdev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netdev {
    /// Its id; `-nic` makes one up that no user can write.
    pub id: String,
    /// Where packets go.
    pub backend: NetBackend,
    /// Where it was given.
    pub location: Location,
}

/// Where packets go and come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetBackend {
    /// The host's network through a process of the user.
    User(UserNet),
    /// Packets one after another on a stream, each after its length in four bytes.
    Stream(StreamNet),
    /// A packet in each datagram.
    Dgram(DgramNet),
    /// A network interface of the host.
    Tap(TapNet),
}

impl NetBackend {
    /// The name of its type.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Stream(stream) if stream.socket => "socket",
            Self::Dgram(dgram) if dgram.socket => "socket",
            Self::Stream(_) => "stream",
            Self::Dgram(_) => "dgram",
            Self::Tap(_) => "tap",
        }
    }
}

/// `user`: what the guest finds. Without an answer QEMU's network holds: 10.0.2.0/24, the host at .2, DNS at .3, the
/// guest at .15.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserNet {
    /// IPv4 works.
    pub ipv4: bool,
    /// IPv6 works.
    pub ipv6: bool,
    /// `net=`: the network and the length of its prefix.
    pub network: (Ipv4Addr, u8),
    /// `host=`: the gateway, which is the host itself.
    pub host: Ipv4Addr,
    /// `dhcpstart=`: the guest's address.
    pub guest: Ipv4Addr,
    /// `dns=`.
    pub dns: Ipv4Addr,
    /// `dnssearch=` and `domainname=`.
    pub search: Vec<String>,
    /// `hostfwd=`, in order.
    pub forwards: Vec<Forward>,
}

/// `hostfwd=`: a port of the host that leads into the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// UDP; otherwise TCP.
    pub udp: bool,
    /// The host's address; without one all of them.
    pub host: Option<IpAddr>,
    /// The host's port.
    pub host_port: u16,
    /// The guest's port.
    pub guest_port: u16,
}

/// `stream`, and `socket` with `listen=`, `connect=` or a stream's descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamNet {
    /// Its address, or the descriptor.
    pub address: SocketAddress,
    /// Listen; otherwise connect. A descriptor of `socket` says for itself.
    pub server: bool,
    /// Milliseconds until a lost connection, or one that was refused, is tried again.
    pub reconnect: Option<u64>,
    /// It was given as `socket`.
    pub socket: bool,
}

/// `dgram`, and `socket` with `udp=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DgramNet {
    /// Our end.
    pub local: SocketAddress,
    /// The other end; a descriptor is connected.
    pub remote: Option<SocketAddress>,
    /// It was given as `socket`.
    pub socket: bool,
}

/// `tap`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TapNet {
    /// An open interface, without a header before each packet.
    Fd(FdName),
    /// One with this name, made if it does not exist.
    Name(String),
}

/// Read the arguments of `netdev_add`.
pub fn parse_netdev_json(members: &Map<String, Value>) -> Result<Netdev, OptionError> {
    let location = Location::new("netdev_add", None);
    parse::from_tree(members, read::Form::Json, &location).map_err(Problem::anywhere)
}

/// Read what the human monitor's `netdev_add` takes, which is what `-netdev` takes.
pub fn parse_netdev_text(text: &str) -> Result<Netdev, OptionError> {
    let location = Location::new("netdev_add", None);
    match parse::netdev(text, &location).map_err(Problem::anywhere)? {
        Some(netdev) => Ok(netdev),
        None => Err(Problem::InvalidParameter("help".to_owned()).anywhere()),
    }
}
