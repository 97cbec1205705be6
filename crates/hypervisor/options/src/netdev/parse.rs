//! From text or JSON to a backend.
//!
//! Whether an id is free and a device exists is checked by the callers.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Map, Value, json};

use super::read::{Form, Members, fd_name, port_number};
use super::{DgramNet, Forward, NetBackend, Netdev, StreamNet, TapNet, UserNet};
use crate::chardev::SocketAddress;
use crate::error::{Location, Problem};
use crate::flat::{FlatOptions, parse_flat};
use crate::keyval::parse_keyval;
use crate::parser::take::json_members;
use crate::value::parse_identifier;

/// The types that there are.
pub(crate) const KINDS: &[&str] = &["socket", "stream", "dgram", "tap", "user"];

/// Types of QEMU that are known and not here, with what to use instead.
const LATER: &[(&str, &str)] = &[
    ("hubport", "; there are no hubs: connect each device to a -netdev of its own"),
    ("l2tpv3", "; use stream, dgram or tap"),
    ("vde", "; use stream, dgram or tap"),
    ("bridge", "; make an interface in the bridge and use tap,ifname=NAME or tap,fd=N"),
    ("netmap", "; use tap"),
    ("vhost-user", "; use stream"),
    ("vhost-vdpa", "; use tap"),
];

/// Keys that may stand more than once.
const LISTS: &[&str] = &["hostfwd", "guestfwd", "dnssearch"];

/// The argument of `-netdev`; `None`: help was asked for.
pub(crate) fn netdev(text: &str, location: &Location) -> Result<Option<Netdev>, Problem> {
    if let Some(members) = json_members(text)? {
        return from_tree(&members, Form::Json, location).map(Some);
    }
    if matches!(text, "help" | "?" | "type=help") {
        return Ok(None);
    }
    // As in QEMU, the two newest types have trees of keys; the others have the older flat form.
    if let Ok(keyval) = parse_keyval(text, Some("type"))
        && matches!(keyval.tree.get("type").and_then(Value::as_str), Some("stream" | "dgram"))
    {
        return from_tree(&keyval.tree, Form::Keyval, location).map(Some);
    }
    let flat = parse_flat(text, Some("type"), true)?;
    from_tree(&tree(&flat), Form::Flat, location).map(Some)
}

/// The flat form as the tree that it stands for; the last of several values counts unless they are a list.
pub(crate) fn tree(flat: &FlatOptions) -> Map<String, Value> {
    let mut out = Map::new();
    if let Some(id) = &flat.id {
        out.insert("id".into(), json!(id));
    }
    for (name, value) in &flat.entries {
        match out.get_mut(name) {
            Some(Value::Array(list)) => list.push(json!({ "str": value })),
            _ if LISTS.contains(&name.as_str()) => {
                out.insert(name.clone(), json!([{ "str": value }]));
            }
            _ => {
                out.insert(name.clone(), json!(value));
            }
        }
    }
    out
}

pub(super) fn from_tree(
    map: &Map<String, Value>,
    form: Form,
    location: &Location,
) -> Result<Netdev, Problem> {
    let members = Members::new(map, form);
    let id = members.required("id")?;
    if form != Form::Json && parse_identifier(id).is_none() {
        return Err(Problem::NotAnIdentifier("id".to_owned()));
    }
    let backend = backend(&members)?;
    Ok(Netdev { id: id.to_owned(), backend, location: location.clone() })
}

/// The flat form of a backend, for `-nic` and `-net`.
pub(crate) fn flat_backend(map: &Map<String, Value>) -> Result<NetBackend, Problem> {
    backend(&Members::new(map, Form::Flat))
}

fn backend(members: &Members<'_>) -> Result<NetBackend, Problem> {
    let kind = members.required("type")?;
    match kind {
        "user" => user(members).map(NetBackend::User),
        "stream" => stream(members).map(NetBackend::Stream),
        "dgram" => dgram(members).map(NetBackend::Dgram),
        "socket" => socket(members),
        "tap" => tap(members).map(NetBackend::Tap),
        other => Err(match LATER.iter().find(|(name, _)| *name == other) {
            Some((name, hint)) => Problem::NotAvailable(format!("-netdev {name}"), (*hint).to_owned()),
            None => Problem::DoesNotAccept { name: "type".to_owned(), value: other.to_owned() },
        }),
    }
}

fn later(what: &str, hint: &str) -> Problem {
    Problem::NotAvailable(format!("{what} of a user network"), hint.to_owned())
}

fn user(members: &Members<'_>) -> Result<UserNet, Problem> {
    // What QEMU's network stack does itself and a process of the host's has no means for.
    const REFUSED: &[(&str, &str)] = &[
        ("tftp", "; boot from a disk or with -kernel"),
        ("bootfile", "; boot from a disk or with -kernel"),
        ("tftp-server-name", "; boot from a disk or with -kernel"),
        ("smb", "; run a server on the host: the guest reaches it at the address of host="),
        ("smbserver", "; run a server on the host: the guest reaches it at the address of host="),
        ("guestfwd", "; the guest reaches the host's servers at the address of host="),
        ("ipv6-prefix", "; the guest has the host's prefix, or none with ipv6=off"),
        ("ipv6-prefixlen", "; the guest has the host's prefix, or none with ipv6=off"),
        ("ipv6-host", "; the guest has the host's router, or none with ipv6=off"),
        ("ipv6-dns", "; give dns="),
        ("hostname", "; set the guest's name in the guest"),
    ];
    const KEYS: &[&str] = &[
        "type",
        "id",
        "ipv4",
        "ipv6",
        "ip",
        "net",
        "host",
        "dhcpstart",
        "dns",
        "dnssearch",
        "domainname",
        "hostfwd",
        "restrict",
    ];
    if members.bool("restrict")? == Some(true) {
        return Err(later("restrict=on", "; give no -netdev to a guest without a network"));
    }
    for (name, hint) in REFUSED {
        if members.has(name) {
            return Err(later(&format!("{name}="), hint));
        }
    }
    members.bool("ip")?;
    let (ipv4, ipv6) = (members.bool("ipv4")?, members.bool("ipv6")?);
    members.only(KEYS)?;
    let (ipv4, ipv6) = match (ipv4, ipv6) {
        (Some(false), Some(false)) => return Err(Problem::NetNoProtocol),
        // As in QEMU, one that is asked for alone is the only one.
        (Some(true), None) => (true, false),
        (None, Some(true)) => (false, true),
        (ipv4, ipv6) => (ipv4.unwrap_or(true), ipv6.unwrap_or(true)),
    };
    let network = match members.text("net")? {
        None => (Ipv4Addr::new(10, 0, 2, 0), 24),
        Some(text) => network(text).ok_or(Problem::NetParse("netmask"))?,
    };
    let at = |number: u32| Ipv4Addr::from(u32::from(network.0) | number);
    let inside = |address: Ipv4Addr| u32::from(address) & mask(network.1) == u32::from(network.0);
    let address = |name: &str, default, who: &'static str, words: &'static str| match members.text(name)? {
        None => Ok(default),
        Some(text) => match text.parse() {
            Ok(address) if inside(address) => Ok(address),
            Ok(_) => Err(Problem::NetOutside(who)),
            Err(_) => Err(Problem::NetParse(words)),
        },
    };
    let host = address("host", at(2), "Host", "host")?;
    let guest = address("dhcpstart", at(15), "DHCP", "DHCP start address")?;
    let dns = match members.text("dns")? {
        None => at(3),
        Some(text) => text.parse().map_err(|_| Problem::NetParse("DNS"))?,
    };
    if guest == host || guest == dns {
        return Err(Problem::NetSame("DHCP", "host and DNS"));
    }
    if dns == host {
        return Err(Problem::NetSame("DNS", "host"));
    }
    let mut search: Vec<String> = members.strings("dnssearch")?.into_iter().map(str::to_owned).collect();
    search.extend(members.text("domainname")?.map(str::to_owned));
    let word = |name: &String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
    if let Some(bad) = search.iter().find(|name| !word(name)) {
        return Err(Problem::DoesNotAccept { name: "dnssearch".to_owned(), value: bad.clone() });
    }
    let forward = |rule| {
        forward(rule, guest).map_err(|reason| match reason {
            Rule::Bad(reason) => Problem::NetForward { rule: String::from(rule), reason },
            Rule::Elsewhere => later(
                &format!("hostfwd={rule} to another address than the guest's, {guest},"),
                "; leave the guest's address out",
            ),
        })
    };
    let forwards = members.strings("hostfwd")?.into_iter().map(forward).collect::<Result<_, _>>()?;
    Ok(UserNet { ipv4, ipv6, network, host, guest, dns, search, forwards })
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

/// `10.0.2.0/24`, `10.0.2.0/255.255.255.0`, or an address whose class gives the length.
fn network(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (address, prefix) = match text.split_once('/') {
        None => {
            let address: Ipv4Addr = text.parse().ok()?;
            let prefix = match address.octets()[0] {
                0..=127 => 8,
                128..=191 => 16,
                _ => 24,
            };
            (address, prefix)
        }
        Some((address, length)) => {
            let prefix = match length.parse::<u8>() {
                Ok(bits) => bits,
                Err(_) => {
                    let mask = u32::from(length.parse::<Ipv4Addr>().ok()?);
                    (mask.leading_ones() + mask.trailing_zeros() == 32).then_some(mask.leading_ones() as u8)?
                }
            };
            (address.parse().ok()?, prefix)
        }
    };
    // Host, DNS and guest must have room.
    (4..=28).contains(&prefix).then_some((Ipv4Addr::from(u32::from(address) & mask(prefix)), prefix))
}

enum Rule {
    Bad(&'static str),
    /// It leads to a machine that is not there.
    Elsewhere,
}

/// `[tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport`.
fn forward(rule: &str, guest: Ipv4Addr) -> Result<Forward, Rule> {
    let bad = |reason| move || Rule::Bad(reason);
    let (protocol, rest) = rule.split_once(':').ok_or_else(bad("No : separators"))?;
    let udp = match protocol {
        "" | "tcp" => false,
        "udp" => true,
        _ => return Err(Rule::Bad("Bad protocol name")),
    };
    let (host, rest) = rest.split_once(':').ok_or_else(bad("Missing : separator"))?;
    let host = match host {
        "" => None,
        host => Some(IpAddr::V4(host.parse().map_err(|_| Rule::Bad("Bad host address"))?)),
    };
    let (port, rest) = rest.split_once('-').ok_or_else(bad("Bad host port separator"))?;
    let host_port = port_number(port).ok().filter(|port| *port != 0).ok_or_else(bad("Bad host port"))?;
    let (address, port) = rest.split_once(':').ok_or_else(bad("Missing guest address"))?;
    if !address.is_empty() {
        let address: Ipv4Addr = address.parse().map_err(|_| Rule::Bad("Bad guest address"))?;
        if address != guest && !address.is_unspecified() {
            return Err(Rule::Elsewhere);
        }
    }
    let guest_port = port_number(port).ok().filter(|port| *port != 0).ok_or_else(bad("Bad guest port"))?;
    Ok(Forward { udp, host, host_port, guest_port })
}

fn stream(members: &Members<'_>) -> Result<StreamNet, Problem> {
    let address = members.address("addr")?.ok_or_else(|| Problem::Missing("addr".to_owned()))?;
    let server = members.bool("server")?.unwrap_or(false);
    // Newer managers write these.
    let seconds = members.number("reconnect")?.map(|seconds| seconds.saturating_mul(1000));
    let milliseconds = members.number("reconnect-ms")?;
    let reconnect = milliseconds.or(seconds).filter(|time| *time != 0);
    members.only(&["type", "id", "addr", "server", "reconnect", "reconnect-ms"])?;
    if reconnect.is_some() && server {
        return Err(Problem::CharReconnectAsServer);
    }
    Ok(StreamNet { address, server, reconnect, socket: false })
}

fn dgram(members: &Members<'_>) -> Result<DgramNet, Problem> {
    let (local, remote) = (members.address("local")?, members.address("remote")?);
    members.only(&["type", "id", "local", "remote"])?;
    if let Some(SocketAddress::Inet { host, .. }) = &remote
        && host.parse::<IpAddr>().is_ok_and(|address| address.is_multicast())
    {
        return Err(Problem::NotAvailable(
            "multicast".to_owned(),
            "; give the address of one peer".to_owned(),
        ));
    }
    let local = local.ok_or(Problem::NetDgramLocal)?;
    match (&local, &remote) {
        (SocketAddress::Fd(_), None) => {}
        (SocketAddress::Fd(_), Some(_)) => return Err(Problem::NetDgramFdRemote),
        (_, None) => return Err(Problem::NetDgramRemote),
        (SocketAddress::Inet { .. }, Some(SocketAddress::Inet { .. }))
        | (SocketAddress::Unix { .. }, Some(SocketAddress::Unix { .. })) => {}
        _ => return Err(Problem::NetDgramTypes),
    }
    Ok(DgramNet { local, remote, socket: false })
}

fn socket(members: &Members<'_>) -> Result<NetBackend, Problem> {
    let (fd, listen, connect) = (members.text("fd")?, members.text("listen")?, members.text("connect")?);
    let (udp, mcast, local) = (members.text("udp")?, members.text("mcast")?, members.text("localaddr")?);
    members.only(&["type", "id", "fd", "listen", "connect", "udp", "mcast", "localaddr"])?;
    if [fd, listen, connect, udp, mcast].into_iter().flatten().count() != 1 {
        return Err(Problem::NetSocketWay);
    }
    if local.is_some() && udp.is_none() {
        return Err(Problem::NetSocketLocal);
    }
    let stream = |address, server| {
        Ok(NetBackend::Stream(StreamNet { address, server, reconnect: None, socket: true }))
    };
    match (fd, listen, connect, udp) {
        (Some(fd), ..) => stream(SocketAddress::Fd(fd_name(fd)), false),
        (_, Some(listen), ..) => stream(host_port(listen)?, true),
        (_, _, Some(connect), _) => stream(host_port(connect)?, false),
        (_, _, _, Some(udp)) => {
            let local = host_port(local.ok_or(Problem::NetUdpLocal)?)?;
            Ok(NetBackend::Dgram(DgramNet { local, remote: Some(host_port(udp)?), socket: true }))
        }
        _ => Err(Problem::NotAvailable(
            "multicast".to_owned(),
            "; use udp=, listen= and connect=, or stream".to_owned(),
        )),
    }
}

fn host_port(text: &str) -> Result<SocketAddress, Problem> {
    let (host, port) = text.rsplit_once(':').ok_or_else(|| Problem::NetHostPort(text.to_owned()))?;
    Ok(SocketAddress::Inet { host: host.to_owned(), port: port_number(port)? })
}

fn tap(members: &Members<'_>) -> Result<TapNet, Problem> {
    const KEYS: &[&str] = &[
        "type",
        "id",
        "ifname",
        "fd",
        "script",
        "downscript",
        "br",
        "helper",
        "sndbuf",
        "vnet_hdr",
        "vhost",
        "queues",
        "poll-us",
        "fds",
        "vhostfd",
        "vhostfds",
        "vhostforce",
    ];
    members.only(KEYS)?;
    let refuse = |what: &str, hint: &str| {
        Err(Problem::NotAvailable(format!("{what} of a tap network"), hint.to_owned()))
    };
    let fd = members.text("fd")?;
    let beside = ["ifname", "script", "downscript", "vnet_hdr", "helper", "queues", "fds", "vhostfds"];
    if fd.is_some() && beside.iter().any(|name| members.has(name)) {
        return Err(Problem::NetTapFd);
    }
    if members.bool("vnet_hdr")? == Some(true) {
        return refuse("vnet_hdr=on", "; packets have no header before them here: vnet_hdr=off");
    }
    if members.bool("vhost")? == Some(true) || members.bool("vhostforce")? == Some(true) {
        return refuse("vhost=on", "; this process moves the packets itself");
    }
    for name in ["fds", "vhostfd", "vhostfds", "helper", "br"] {
        if members.has(name) {
            return refuse(&format!("{name}="), "; use ifname= or fd=");
        }
    }
    if members.number("queues")?.is_some_and(|queues| queues > 1) {
        return refuse("queues=", "; there is one pair of queues");
    }
    if let Some(fd) = fd {
        return Ok(TapNet::Fd(fd_name(fd)));
    }
    for name in ["script", "downscript"] {
        if members.text(name)? != Some("no") {
            return refuse(
                &format!("a script (QEMU has one unless {name}=no is given)"),
                "; set the interface up before, and give script=no,downscript=no",
            );
        }
    }
    match members.text("ifname")? {
        Some(name) if !name.is_empty() && name.len() < 16 && !name.contains(['/', '%', ' ']) => {
            Ok(TapNet::Name(name.to_owned()))
        }
        Some(name) => Err(Problem::DoesNotAccept { name: "ifname".to_owned(), value: name.to_owned() }),
        None => refuse("a name chosen by the kernel", "; give ifname=NAME"),
    }
}
