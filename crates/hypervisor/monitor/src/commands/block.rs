//! Block devices.

use crate::call::Call;
use crate::table::{Command, Reply};
use crate::types::{Enum, Struct, Type, member, optional};
use cloister_control::BlockInfo;
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

pub(crate) const ROWS: &[Command] = &[
    Command::new("query-block", "Block devices with their images.", query_block)
        .returns(Type::List(&Type::Struct(&BLOCK))),
    Command::new("query-named-block-nodes", "Images by their node names.", query_nodes)
        .takes(&[optional("flat", Type::Bool)])
        .returns(Type::List(&Type::Struct(&NODE))),
];

fn query_block(call: &Call<'_>) -> Reply {
    let device = |block: BlockInfo| {
        let mut out = json!({
            "device": block.device, "type": "unknown", "removable": block.removable, "locked": false,
            "io-status": "ok",
        });
        if let Value::Object(members) = &mut out {
            if let Some(qdev) = &block.qdev {
                members.insert("qdev".into(), json!(qdev));
            }
            if block.file.is_some() {
                members.insert("inserted".into(), node(&block));
            }
        }
        out
    };
    Ok(call.machine().blocks().into_iter().map(device).collect())
}

fn query_nodes(call: &Call<'_>) -> Reply {
    Ok(call.machine().blocks().iter().filter(|block| block.file.is_some()).map(node).collect())
}

/// Images are never encrypted by us, never limited, and their cache is the host's.
fn node(block: &BlockInfo) -> Value {
    let file = block.file.as_deref().unwrap_or_else(|| "".as_ref()).to_string_lossy();
    json!({
        "file": file, "node-name": block.node_name, "ro": block.read_only, "drv": block.format,
        "backing_file_depth": 0, "encrypted": false, "detect_zeroes": "off",
        "bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0, "write_threshold": 0,
        "image": {
            "filename": file, "format": block.format, "dirty-flag": false,
            "virtual-size": block.virtual_size, "actual-size": block.actual_size,
        },
        "cache": { "writeback": true, "direct": false, "no-flush": false },
    })
}
