//! Network backends and the cables of network devices.

use crate::call::Call;
use crate::table::{Command, Reply};
use crate::types::{Enum, Member, Struct, Type, Union, member, optional};
use cloister_control::ControlError;
use cloister_options::{SocketAddress, parse_netdev_json};
use serde_json::{Value, json};

/// Those of QEMU that have a command line here; the others are refused in words.
const KIND: Enum = Enum {
    name: "NetClientDriver",
    values: &[
        "none",
        "nic",
        "user",
        "tap",
        "l2tpv3",
        "socket",
        "stream",
        "dgram",
        "vde",
        "bridge",
        "hubport",
        "netmap",
        "vhost-user",
        "vhost-vdpa",
    ],
};

pub(crate) const ROWS: &[Command] = &[
    Command::new("netdev_add", "Makes a network backend, as `-netdev` does.", netdev_add)
        .takes_any(&[member("type", Type::Enum(&KIND)), member("id", Type::Str)]),
    Command::new(
        "netdev_del",
        "Takes a network backend away; a device that has it is left with a cable that leads nowhere.",
        |call| call.machine().netdev_del(call.required("id")).map(|()| json!({})),
    )
    .takes(&[member("id", Type::Str)]),
    Command::new("set_link", "Plugs the cable of a network device or backend in, or pulls it.", |call| {
        let up = call.bool("up").unwrap_or_default();
        call.machine().set_link(call.required("name"), up).map(|()| json!({}))
    })
    .takes(&[member("name", Type::Str), member("up", Type::Bool)]),
];

const ADDRESS_KIND: Enum = Enum { name: "SocketAddressType", values: &["inet", "unix", "vsock", "fd"] };
const INET: Struct =
    Struct::new("InetSocketAddress", &[member("host", Type::Str), member("port", Type::Str)]);
const UNIX: Struct = Struct::new(
    "UnixSocketAddress",
    &[member("path", Type::Str), optional("abstract", Type::Bool), optional("tight", Type::Bool)],
);
/// No backend has one; a client of the schema knows it.
const VSOCK: Struct =
    Struct::new("VsockSocketAddress", &[member("cid", Type::Str), member("port", Type::Str)]);
const FD: Struct = Struct::new("String", &[member("str", Type::Str)]);
const ADDRESS: Union = Union {
    name: "SocketAddress",
    base: &[member("type", Type::Enum(&ADDRESS_KIND))],
    tag: "type",
    variants: &[("inet", &INET), ("unix", &UNIX), ("vsock", &VSOCK), ("fd", &FD)],
};

/// Members of `NETDEV_STREAM_CONNECTED`.
pub(crate) const CONNECTED: &[Member] =
    &[member("netdev-id", Type::Str), member("addr", Type::Union(&ADDRESS))];
/// Members of `NETDEV_STREAM_DISCONNECTED`.
pub(crate) const DISCONNECTED: &[Member] = &[member("netdev-id", Type::Str)];

/// An address as `SocketAddress` of QMP.
pub(crate) fn address(address: &SocketAddress) -> Value {
    match address {
        SocketAddress::Unix { path, abstract_: false, .. } => {
            json!({ "type": "unix", "path": path.display().to_string() })
        }
        SocketAddress::Unix { path, tight, .. } => json!({
            "type": "unix", "path": path.display().to_string(), "abstract": true, "tight": tight,
        }),
        SocketAddress::Inet { host, port } => {
            json!({ "type": "inet", "host": host, "port": port.to_string() })
        }
        SocketAddress::Fd(name) => json!({ "type": "fd", "str": name.to_string() }),
    }
}

fn netdev_add(call: &Call<'_>) -> Reply {
    let netdev = parse_netdev_json(call.arguments()).map_err(|error| ControlError::new(error.headline()))?;
    call.machine().netdev_add(netdev).map(|()| json!({}))
}
