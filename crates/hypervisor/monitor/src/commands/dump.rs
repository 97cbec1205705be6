//! Dumps of the guest's memory and CPUs.

use crate::call::Call;
use crate::table::{Command, Reply};
use crate::types::{Enum, Struct, Type, member, optional};
use cloister_control::{ControlError, DumpProgress};
use cloister_dump::{FORMATS, Target};
use rustix::fs::OFlags;
use serde_json::{Value, json};
use std::path::Path;

const FORMAT: Enum = Enum {
    name: "DumpGuestMemoryFormat",
    values: &["elf", "kdump-zlib", "kdump-lzo", "kdump-snappy", "win-dmp"],
};

const STATUS: Enum = Enum { name: "DumpStatus", values: &["none", "active", "completed", "failed"] };

pub(crate) const RESULT: Struct = Struct::new(
    "DumpQueryResult",
    &[member("status", Type::Enum(&STATUS)), member("completed", Type::Int), member("total", Type::Int)],
);

const CAPABILITY: Struct =
    Struct::new("DumpGuestMemoryCapability", &[member("formats", Type::List(&Type::Enum(&FORMAT)))]);

pub(crate) const ROWS: &[Command] = &[
    Command::new(
        "dump-guest-memory",
        "Writes memory and registers of the guest as an ELF core to `file:NAME` or `fd:NAME`; the machine stands still \
         meanwhile. A file appears when it is complete. Of a protected guest only the image's owner can read the dump, \
         with `cloister pv dump decrypt`, and only if the image allows dumps. Event: DUMP_COMPLETED.",
        dump,
    )
    .takes(&[
        member("paging", Type::Bool),
        member("protocol", Type::Str),
        optional("detach", Type::Bool),
        optional("begin", Type::Int),
        optional("length", Type::Int),
        optional("format", Type::Enum(&FORMAT)),
    ]),
    Command::new("query-dump", "How far the last dump is.", |call| {
        Ok(describe(call.machine().dump_progress()))
    })
    .returns(Type::Struct(&RESULT)),
    Command::new("query-dump-guest-memory-capability", "Formats that dumps can have.", |_| {
        Ok(json!({ "formats": FORMATS }))
    })
    .returns(Type::Struct(&CAPABILITY)),
];

/// As QMP shows it.
pub(crate) fn describe(progress: DumpProgress) -> Value {
    let DumpProgress { status, completed, total } = progress;
    json!({ "status": status.name(), "completed": completed, "total": total })
}

fn dump(call: &Call<'_>) -> Reply {
    let asked = cloister_dump::Command {
        paging: call.bool("paging").unwrap_or_default(),
        detach: call.bool("detach").unwrap_or_default(),
        begin: call.int("begin"),
        length: call.int("length"),
        format: call.text("format").map(str::to_owned),
    };
    let open = || target(call, call.required("protocol"));
    cloister_dump::command(&call.operator().machine, &asked, open).map(|()| json!({}))
}

fn target(call: &Call<'_>, protocol: &str) -> Result<Target, ControlError> {
    if let Some(name) = protocol.strip_prefix("fd:") {
        let named = call.monitor().fds().take(name);
        return named.map(Target::Descriptor).map_err(|error| ControlError::new(error.to_string()));
    }
    let Some(name) = protocol.strip_prefix("file:") else {
        return Err(ControlError::new("Invalid parameter 'protocol'"));
    };
    if !name.starts_with("/dev/fdset/") {
        return Ok(Target::File(name.into()));
    }
    let opened = call.monitor().fds().open(Path::new(name), OFlags::WRONLY);
    opened.map(Target::Descriptor).map_err(|error| {
        let reason = error.to_string();
        let reason = reason.split(" (os error").next().unwrap_or_default().to_owned();
        ControlError::new(format!("Could not open '{name}': {reason}"))
    })
}
