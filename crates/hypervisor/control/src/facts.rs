//! What a machine says about itself: plain data for monitors.

use cloister_options::Target;
use serde_json::Value;
use std::path::PathBuf;

/// What does not change while a machine exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The architecture.
    pub target: Target,
    /// The full name of the machine type.
    pub machine: String,
    /// `-name`.
    pub name: Option<String>,
    /// `-uuid`; zeros without.
    pub uuid: [u8; 16],
    /// The platform underneath, in words: a software model with its folder, or hardware.
    pub platform: String,
    /// Whether the platform is a model that protects nobody.
    pub model: bool,
    /// Bytes of guest memory.
    pub memory: u64,
    /// The id of the object or the default name behind the memory.
    pub memory_id: String,
}

/// A CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuInfo {
    /// Its number.
    pub index: u16,
    /// A live thread of the host that runs it.
    pub thread_id: u32,
    /// Its place in the object tree.
    pub qom_path: String,
    /// `s390x-cpu` and the like: the type of the node.
    pub qom_type: String,
    /// Whether it waits or is stopped by the guest; `None`: nobody can know while it runs, or the guest is protected.
    pub halted: Option<bool>,
    /// `operating`, `stopped`, `check-stop`, `load`, `uninitialized` (`S390CpuState` of QMP).
    pub state: &'static str,
    /// `core-id` and the like.
    pub props: Vec<(&'static str, i64)>,
}

/// A property with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// Its type, as in help: `bool`, `str`, `uint32`, `link<...>`.
    pub kind: String,
    /// Its value.
    pub value: Value,
}

/// A device.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInfo {
    /// Its id.
    pub id: Option<String>,
    /// Its type.
    pub driver: String,
    /// Its place in the object tree: `/machine/peripheral/ID`, `/machine/peripheral-anon/device[N]`,
    /// `/machine/unattached/device[N]`.
    pub qom_path: String,
    /// Where it sits on its bus, in words: `fe.0.0001`.
    pub address: Option<String>,
    /// The bus that it sits on: `virtual-css`.
    pub bus: Option<String>,
    /// Its properties.
    pub properties: Vec<Property>,
    /// Buses that it offers.
    pub buses: Vec<BusInfo>,
}

/// A bus that a device offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusInfo {
    /// Its name: `virtual-css`.
    pub name: String,
    /// Its type: `virtual-css-bus`.
    pub kind: String,
}

/// An object made by `-object` or `object-add`.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectInfo {
    /// Its id.
    pub id: String,
    /// Its type.
    pub qom_type: String,
    /// Its properties.
    pub properties: Vec<Property>,
}

/// A block device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockInfo {
    /// The drive's id; without one, QEMU's default name (`virtio0`); empty for a device on a node of `-blockdev`.
    pub device: String,
    /// The name of its node (`#block123` or given).
    pub node_name: String,
    /// The place of the device that uses it.
    pub qdev: Option<String>,
    /// The image.
    pub file: Option<PathBuf>,
    /// Its format.
    pub format: String,
    /// Bytes that the guest sees.
    pub virtual_size: u64,
    /// Bytes that it takes on the host.
    pub actual_size: u64,
    /// Never written.
    pub read_only: bool,
    /// Writes are thrown away at the end.
    pub snapshot: bool,
    /// It can be taken out (a CD-ROM).
    pub removable: bool,
    /// The guest flushes; else every write is durable.
    pub write_cache: bool,
    /// `cache.direct=`.
    pub direct: bool,
    /// `cache.no-flush=`: flushes are ignored.
    pub no_flush: bool,
    /// `off`, `on` or `unmap`; empty is off.
    pub detect_zeroes: &'static str,
    /// `ok`, `failed` or `nospace`; empty is ok.
    pub io_status: &'static str,
    /// What was counted.
    pub stats: BlockStats,
}

/// A node of the block layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockNodeInfo {
    /// Its name.
    pub name: String,
    /// Its driver: `raw`, `file`.
    pub driver: String,
    /// What it shows of itself, as QEMU writes it: a file name or a description in JSON.
    pub filename: String,
    /// The node that holds its data.
    pub file: Option<String>,
    /// Bytes that its user sees.
    pub virtual_size: u64,
    /// Bytes that it takes on the host.
    pub actual_size: u64,
    /// Never written.
    pub read_only: bool,
    /// `cache.direct=`.
    pub direct: bool,
    /// `cache.no-flush=`.
    pub no_flush: bool,
    /// `off`, `on` or `unmap`.
    pub detect_zeroes: &'static str,
}

/// What was counted of the requests of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct BlockStats {
    pub read: BlockCount,
    pub write: BlockCount,
    pub flush: BlockCount,
    pub discard: BlockCount,
    /// The end of the last byte that was written.
    pub highest_write: u64,
}

/// What was counted of one kind of request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockCount {
    /// Done.
    pub operations: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their time together.
    pub nanoseconds: u64,
    /// Failed on the host.
    pub failed: u64,
    /// Not possible on this disk.
    pub invalid: u64,
}

/// A character device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChardevInfo {
    /// Its id.
    pub label: String,
    /// Where it leads, as `query-chardev` shows it.
    pub filename: String,
    /// Whether somebody uses it.
    pub frontend_open: bool,
}

/// Network devices and backends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// The devices.
    pub nics: Vec<NicInfo>,
    /// The backends.
    pub netdevs: Vec<NetdevInfo>,
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicInfo {
    /// Its id, or a name made up from its type.
    pub name: String,
    /// Its type.
    pub model: String,
    /// Its address at the start.
    pub mac: [u8; 6],
    /// Its backend.
    pub netdev: Option<String>,
}

/// A network backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetdevInfo {
    /// Its id.
    pub id: String,
    /// Its type.
    pub kind: String,
    /// What else there is to say: where it leads.
    pub words: String,
}

/// How the guest is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfidentialInfo {
    /// The object type: `s390-pv-guest`.
    pub qom_type: String,
    /// The object's id; `None`: the guest protects itself without having been asked for.
    pub id: Option<String>,
    /// Whether it is protected now, as far as a platform that knows has said so.
    pub secure: Option<bool>,
}
