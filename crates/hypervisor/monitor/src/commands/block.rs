//! Block devices.

use crate::call::Call;
use crate::table::{Command, Reply};
use crate::types::{Alternate, Enum, Member, Struct, Type, Union, member, optional};
use cloister_control::{BlockCount, BlockInfo, BlockNodeInfo, BlockStats, ControlError};
use cloister_options::parse_blockdev_json;
use serde_json::{Value, json};

const IMAGE: Struct = Struct::new(
    "ImageInfo",
    &[
        member("filename", Type::Str),
        member("format", Type::Str),
        optional("dirty-flag", Type::Bool),
        optional("actual-size", Type::Int),
        member("virtual-size", Type::Int),
    ],
);

const CACHE: Struct = Struct::new(
    "BlockdevCacheInfo",
    &[member("writeback", Type::Bool), member("direct", Type::Bool), member("no-flush", Type::Bool)],
);

const DETECT_ZEROES: Enum = Enum { name: "BlockdevDetectZeroesOptions", values: &["off", "on", "unmap"] };

const NODE: Struct = Struct::new(
    "BlockDeviceInfo",
    &[
        member("file", Type::Str),
        optional("node-name", Type::Str),
        member("ro", Type::Bool),
        member("drv", Type::Str),
        member("backing_file_depth", Type::Int),
        member("encrypted", Type::Bool),
        member("detect_zeroes", Type::Enum(&DETECT_ZEROES)),
        member("bps", Type::Int),
        member("bps_rd", Type::Int),
        member("bps_wr", Type::Int),
        member("iops", Type::Int),
        member("iops_rd", Type::Int),
        member("iops_wr", Type::Int),
        member("image", Type::Struct(&IMAGE)),
        member("cache", Type::Struct(&CACHE)),
        member("write_threshold", Type::Int),
    ],
);

const IO_STATUS: Enum = Enum { name: "BlockDeviceIoStatus", values: &["ok", "failed", "nospace"] };

const BLOCK: Struct = Struct::new(
    "BlockInfo",
    &[
        member("device", Type::Str),
        optional("qdev", Type::Str),
        member("type", Type::Str),
        member("removable", Type::Bool),
        member("locked", Type::Bool),
        optional("inserted", Type::Struct(&NODE)),
        optional("io-status", Type::Enum(&IO_STATUS)),
    ],
);

/// Statistics of an interval; none is ever kept.
const TIMED: Struct = Struct::new(
    "BlockDeviceTimedStats",
    &[
        member("interval_length", Type::Int),
        member("min_rd_latency_ns", Type::Int),
        member("max_rd_latency_ns", Type::Int),
        member("avg_rd_latency_ns", Type::Int),
        member("min_wr_latency_ns", Type::Int),
        member("max_wr_latency_ns", Type::Int),
        member("avg_wr_latency_ns", Type::Int),
        member("min_flush_latency_ns", Type::Int),
        member("max_flush_latency_ns", Type::Int),
        member("avg_flush_latency_ns", Type::Int),
        member("avg_rd_queue_depth", Type::Number),
        member("avg_wr_queue_depth", Type::Number),
    ],
);

const STATS: Struct = Struct::new(
    "BlockDeviceStats",
    &[
        member("rd_bytes", Type::Int),
        member("wr_bytes", Type::Int),
        member("unmap_bytes", Type::Int),
        member("rd_operations", Type::Int),
        member("wr_operations", Type::Int),
        member("flush_operations", Type::Int),
        member("unmap_operations", Type::Int),
        member("rd_total_time_ns", Type::Int),
        member("wr_total_time_ns", Type::Int),
        member("flush_total_time_ns", Type::Int),
        member("unmap_total_time_ns", Type::Int),
        member("wr_highest_offset", Type::Int),
        member("rd_merged", Type::Int),
        member("wr_merged", Type::Int),
        member("unmap_merged", Type::Int),
        optional("idle_time_ns", Type::Int),
        member("failed_rd_operations", Type::Int),
        member("failed_wr_operations", Type::Int),
        member("failed_flush_operations", Type::Int),
        member("failed_unmap_operations", Type::Int),
        member("invalid_rd_operations", Type::Int),
        member("invalid_wr_operations", Type::Int),
        member("invalid_flush_operations", Type::Int),
        member("invalid_unmap_operations", Type::Int),
        member("account_invalid", Type::Bool),
        member("account_failed", Type::Bool),
        member("timed_stats", Type::List(&Type::Struct(&TIMED))),
    ],
);

const BLOCK_STATS: Struct = Struct::new(
    "BlockStats",
    &[
        optional("device", Type::Str),
        optional("qdev", Type::Str),
        optional("node-name", Type::Str),
        member("stats", Type::Struct(&STATS)),
    ],
);

const DISCARD: Enum = Enum { name: "BlockdevDiscardOptions", values: &["ignore", "unmap"] };
const LOCKING: Enum = Enum { name: "OnOffAuto", values: &["auto", "on", "off"] };
const AIO: Enum = Enum { name: "BlockdevAioOptions", values: &["threads", "native", "io_uring"] };
const DRIVER: Enum =
    Enum { name: "BlockdevDriver", values: &["file", "host_device", "null-aio", "null-co", "qcow2", "raw"] };
const CACHE_OPTIONS: Struct =
    Struct::new("BlockdevCacheOptions", &[optional("direct", Type::Bool), optional("no-flush", Type::Bool)]);
const FILE: Struct = Struct::new(
    "BlockdevOptionsFile",
    &[
        member("filename", Type::Str),
        optional("locking", Type::Enum(&LOCKING)),
        optional("aio", Type::Enum(&AIO)),
        optional("aio-max-batch", Type::Int),
        optional("drop-cache", Type::Bool),
        optional("x-check-cache-dropped", Type::Bool),
    ],
);
const NOTHING: Struct = Struct::new(
    "BlockdevOptionsNull",
    &[
        optional("size", Type::Int),
        optional("latency-ns", Type::Unsigned(64)),
        optional("read-zeroes", Type::Bool),
    ],
);

// Nodes have nodes, so these are one place in memory each.
static QCOW2: Struct = Struct::new(
    "BlockdevOptionsQcow2",
    &[
        member("file", Type::Alternate(&REFERENCE)),
        optional("backing", Type::Alternate(&REFERENCE_OR_NULL)),
        optional("lazy-refcounts", Type::Bool),
        optional("pass-discard-request", Type::Bool),
        optional("pass-discard-snapshot", Type::Bool),
        optional("pass-discard-other", Type::Bool),
        optional("cache-size", Type::Int),
        optional("l2-cache-size", Type::Int),
        optional("l2-cache-entry-size", Type::Int),
        optional("refcount-cache-size", Type::Int),
        optional("cache-clean-interval", Type::Int),
    ],
);
static RAW: Struct = Struct::new(
    "BlockdevOptionsRaw",
    &[
        member("file", Type::Alternate(&REFERENCE)),
        optional("offset", Type::Int),
        optional("size", Type::Int),
    ],
);
static REFERENCE: Alternate = Alternate { name: "BlockdevRef", types: &[Type::Union(&BLOCKDEV), Type::Str] };
static REFERENCE_OR_NULL: Alternate =
    Alternate { name: "BlockdevRefOrNull", types: &[Type::Union(&BLOCKDEV), Type::Str, Type::Null] };
static BLOCKDEV: Union = Union {
    name: "BlockdevOptions",
    base: &[
        member("driver", Type::Enum(&DRIVER)),
        optional("node-name", Type::Str),
        optional("discard", Type::Enum(&DISCARD)),
        optional("cache", Type::Struct(&CACHE_OPTIONS)),
        optional("read-only", Type::Bool),
        optional("auto-read-only", Type::Bool),
        optional("force-share", Type::Bool),
        optional("detect-zeroes", Type::Enum(&DETECT_ZEROES)),
    ],
    tag: "driver",
    variants: &[
        ("file", &FILE),
        ("host_device", &FILE),
        ("null-aio", &NOTHING),
        ("null-co", &NOTHING),
        ("qcow2", &QCOW2),
        ("raw", &RAW),
    ],
};

const OPERATION: Enum = Enum { name: "IoOperationType", values: &["read", "write"] };
const ACTION: Enum = Enum { name: "BlockErrorAction", values: &["ignore", "report", "stop"] };

/// The data of `BLOCK_IO_ERROR`.
pub(crate) const IO_ERROR: &[Member] = &[
    member("device", Type::Str),
    optional("node-name", Type::Str),
    member("operation", Type::Enum(&OPERATION)),
    member("action", Type::Enum(&ACTION)),
    optional("nospace", Type::Bool),
    member("reason", Type::Str),
];

pub(crate) const ROWS: &[Command] = &[
    Command::new("query-block", "Block devices with their images.", query_block)
        .returns(Type::List(&Type::Struct(&BLOCK))),
    Command::new("query-named-block-nodes", "Nodes of the block layer.", query_nodes)
        .takes(&[optional("flat", Type::Bool)])
        .returns(Type::List(&Type::Struct(&NODE))),
    Command::new("query-blockstats", "What was counted of the requests of block devices.", query_stats)
        .takes(&[optional("query-nodes", Type::Bool)])
        .returns(Type::List(&Type::Struct(&BLOCK_STATS))),
    Command::new("blockdev-add", "Add a node to the block layer, for a device to name.", |call| {
        let blockdev =
            parse_blockdev_json(call.arguments()).map_err(|why| ControlError::new(why.headline()))?;
        call.machine().blockdev_add(blockdev).map(|()| json!({}))
    })
    .takes_union(&BLOCKDEV),
    Command::new("blockdev-del", "Take away a node that nobody uses.", |call| {
        call.machine().blockdev_del(call.required("node-name")).map(|()| json!({}))
    })
    .takes(&[member("node-name", Type::Str)]),
    Command::new("block_resize", "Change the size of an image; the guest is told.", |call| {
        let size = call.int("size").unwrap_or_default();
        let (device, node) = (call.text("device"), call.text("node-name"));
        match u64::try_from(size) {
            Ok(size) => call.machine().block_resize(device, node, size).map(|()| json!({})),
            Err(_) => Err(ControlError::new("Parameter 'size' expects a >0 size")),
        }
    })
    .takes(&[
        optional("device", Type::Str),
        optional("node-name", Type::Str),
        member("size", Type::Int),
    ]),
];

fn query_block(call: &Call<'_>) -> Reply {
    let device = |block: BlockInfo| {
        let status = if block.io_status.is_empty() { "ok" } else { block.io_status };
        let mut out = json!({
            "device": block.device, "type": "unknown", "removable": block.removable, "locked": false,
            "io-status": status,
        });
        if let Value::Object(members) = &mut out {
            if let Some(qdev) = &block.qdev {
                members.insert("qdev".into(), json!(qdev));
            }
            if let Some(file) = &block.file {
                let node = BlockNodeInfo {
                    name: block.node_name.clone(),
                    driver: block.format.clone(),
                    filename: file.to_string_lossy().into_owned(),
                    file: None,
                    virtual_size: block.virtual_size,
                    actual_size: block.actual_size,
                    read_only: block.read_only,
                    direct: block.direct,
                    no_flush: block.no_flush,
                    detect_zeroes: block.detect_zeroes,
                };
                members.insert("inserted".into(), describe(&node, block.write_cache));
            }
        }
        out
    };
    Ok(call.machine().blocks().into_iter().map(device).collect())
}

/// The newest first.
fn query_nodes(call: &Call<'_>) -> Reply {
    Ok(call.machine().block_nodes().iter().rev().map(|node| describe(node, true)).collect())
}

/// Images are never encrypted by us, never limited, and what lies behind them is not told.
fn describe(node: &BlockNodeInfo, write_cache: bool) -> Value {
    let detect_zeroes = if node.detect_zeroes.is_empty() { "off" } else { node.detect_zeroes };
    json!({
        "file": node.filename, "node-name": node.name, "ro": node.read_only, "drv": node.driver,
        "backing_file_depth": 0, "encrypted": false, "detect_zeroes": detect_zeroes,
        "bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0, "write_threshold": 0,
        "image": {
            "filename": node.filename, "format": node.driver, "dirty-flag": false,
            "virtual-size": node.virtual_size, "actual-size": node.actual_size,
        },
        "cache": { "writeback": write_cache, "direct": node.direct, "no-flush": node.no_flush },
    })
}

fn query_stats(call: &Call<'_>) -> Reply {
    let blocks = call.machine().blocks();
    if call.bool("query-nodes") == Some(true) {
        // Requests are counted at devices; what reached a node is that of the device above it.
        let node = |node: &BlockNodeInfo| {
            let above = blocks.iter().find(|block| block.node_name == node.name);
            let stats = above.map(|block| block.stats).unwrap_or_default();
            json!({ "node-name": node.name, "stats": counted(&stats, false) })
        };
        return Ok(call.machine().block_nodes().iter().rev().map(node).collect());
    }
    let device = |block: &BlockInfo| {
        let mut out = json!({
            "device": block.device, "node-name": block.node_name, "stats": counted(&block.stats, true),
        });
        if let (Some(qdev), Value::Object(members)) = (&block.qdev, &mut out) {
            members.insert("qdev".into(), json!(qdev));
        }
        out
    };
    Ok(blocks.iter().map(device).collect())
}

fn counted(stats: &BlockStats, account: bool) -> Value {
    let mut out = serde_json::Map::new();
    let mut put = |name: String, value: u64| drop(out.insert(name, json!(value)));
    let kinds: [(&str, &BlockCount); 4] =
        [("rd", &stats.read), ("wr", &stats.write), ("flush", &stats.flush), ("unmap", &stats.discard)];
    for (kind, count) in kinds {
        if kind != "flush" {
            put(format!("{kind}_bytes"), count.bytes);
            put(format!("{kind}_merged"), 0);
        }
        put(format!("{kind}_operations"), count.operations);
        put(format!("{kind}_total_time_ns"), count.nanoseconds);
        put(format!("failed_{kind}_operations"), count.failed);
        put(format!("invalid_{kind}_operations"), count.invalid);
    }
    put("wr_highest_offset".into(), stats.highest_write);
    for name in ["account_invalid", "account_failed"] {
        out.insert(name.into(), json!(account));
    }
    out.insert("timed_stats".into(), json!([]));
    Value::Object(out)
}
