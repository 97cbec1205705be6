//! What the machine consists of: CPUs, memory, character devices, names.

use crate::call::Call;
use crate::table::{Command, Reply};
use crate::types::{Enum, Struct, Type, Union, member, optional};
use cloister_control::{ControlError, CpuInfo};
use serde_json::{Map, Value, json};

const UUID: Struct = Struct::new("UuidInfo", &[member("UUID", Type::Str)]);
const NAME: Struct = Struct::new("NameInfo", &[optional("name", Type::Str)]);

const PROPS: Struct = Struct::new(
    "CpuInstanceProperties",
    &[
        optional("node-id", Type::Int),
        optional("socket-id", Type::Int),
        optional("die-id", Type::Int),
        optional("core-id", Type::Int),
        optional("thread-id", Type::Int),
    ],
);

const ARCHITECTURE: Enum = Enum { name: "SysEmuTarget", values: &["ppc64", "s390x", "x86_64"] };

const S390_STATE: Enum =
    Enum { name: "CpuS390State", values: &["uninitialized", "stopped", "check-stop", "operating", "load"] };
const S390: Struct = Struct::new("CpuInfoS390", &[member("cpu-state", Type::Enum(&S390_STATE))]);

const CPU: Union = Union {
    name: "CpuInfoFast",
    base: &[
        member("cpu-index", Type::Int),
        member("qom-path", Type::Str),
        member("thread-id", Type::Int),
        optional("props", Type::Struct(&PROPS)),
        member("target", Type::Enum(&ARCHITECTURE)),
    ],
    tag: "target",
    variants: &[("s390x", &S390)],
};

const HOTPLUGGABLE: Struct = Struct::new(
    "HotpluggableCPU",
    &[
        member("type", Type::Str),
        member("vcpus-count", Type::Int),
        member("props", Type::Struct(&PROPS)),
        optional("qom-path", Type::Str),
    ],
);

const CHARDEV: Struct = Struct::new(
    "ChardevInfo",
    &[member("label", Type::Str), member("filename", Type::Str), member("frontend-open", Type::Bool)],
);

const MEMORY: Struct = Struct::new(
    "MemoryInfo",
    &[member("base-memory", Type::Unsigned(64)), optional("plugged-memory", Type::Unsigned(64))],
);
const MEMORY_DEVICE_KIND: Enum = Enum { name: "MemoryDeviceInfoKind", values: &["dimm"] };
const MEMORY_DEVICE: Struct =
    Struct::new("MemoryDeviceInfo", &[member("type", Type::Enum(&MEMORY_DEVICE_KIND))]);

const IOTHREAD: Struct = Struct::new(
    "IOThreadInfo",
    &[
        member("id", Type::Str),
        member("thread-id", Type::Int),
        member("poll-max-ns", Type::Int),
        member("poll-grow", Type::Int),
        member("poll-shrink", Type::Int),
        member("aio-max-batch", Type::Int),
    ],
);

const TPM: Struct = Struct::new("TPMInfo", &[member("id", Type::Str)]);

const YANK_KIND: Enum = Enum { name: "YankInstanceType", values: &["block-node", "chardev", "migration"] };
const YANK_BLOCK: Struct = Struct::new("YankInstanceBlockNode", &[member("node-name", Type::Str)]);
const YANK_CHARDEV: Struct = Struct::new("YankInstanceChardev", &[member("id", Type::Str)]);
const YANK: Union = Union {
    name: "YankInstance",
    base: &[member("type", Type::Enum(&YANK_KIND))],
    tag: "type",
    variants: &[("block-node", &YANK_BLOCK), ("chardev", &YANK_CHARDEV)],
};

pub(crate) const ROWS: &[Command] = &[
    Command::new("query-uuid", "The machine's UUID; zeros without one.", query_uuid).returns(Type::Struct(&UUID)),
    Command::new("query-name", "The machine's name, if it has one.", |call| {
        Ok(match &call.machine().facts().name {
            Some(name) => json!({ "name": name }),
            None => json!({}),
        })
    })
    .returns(Type::Struct(&NAME))
    .preconfig(),
    Command::new("query-cpus-fast", "CPUs with the threads that run them.", query_cpus)
        .returns(Type::List(&Type::Union(&CPU))),
    Command::new(
        "query-hotpluggable-cpus",
        "Places of CPUs. All of them are taken: CPUs cannot be added.",
        query_hotpluggable,
    )
    .returns(Type::List(&Type::Struct(&HOTPLUGGABLE))),
    Command::new("query-chardev", "Character devices.", query_chardev)
        .returns(Type::List(&Type::Struct(&CHARDEV)))
        .preconfig(),
    Command::new("query-memory-size-summary", "Bytes of guest memory.", |call| {
        Ok(json!({ "base-memory": call.machine().facts().memory }))
    })
    .returns(Type::Struct(&MEMORY)),
    Command::new("query-memory-devices", "Memory that was added: none.", |_| Ok(json!([])))
        .returns(Type::List(&Type::Struct(&MEMORY_DEVICE))),
    Command::new("query-iothreads", "Threads for device work: none, devices use one.", |_| Ok(json!([])))
        .returns(Type::List(&Type::Struct(&IOTHREAD)))
        .preconfig(),
    Command::new("query-tpm", "TPMs of the machine: none yet.", |_| Ok(json!([])))
        .returns(Type::List(&Type::Struct(&TPM))),
    Command::new("query-pci", "Refused: no machine of this version has PCI.", |_| {
        Err(ControlError::new(
            "this machine has no PCI bus; its devices are on the channel subsystem, see qom-list /machine/peripheral",
        ))
    })
    .returns(Type::List(&Type::Any)),
    Command::new("query-yank", "Connections that `yank` could cut: none.", |_| Ok(json!([])))
        .returns(Type::List(&Type::Union(&YANK)))
        .oob(),
    Command::new("yank", "Cuts connections that hang. There are none to cut.", yank)
        .takes(&[member("instances", Type::List(&Type::Union(&YANK)))])
        .oob(),
];

fn query_uuid(call: &Call<'_>) -> Reply {
    Ok(json!({ "UUID": uuid(&call.machine().facts().uuid) }))
}

/// In the usual form (RFC 9562, section 4).
fn uuid(bytes: &[u8; 16]) -> String {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..4], &hex[4..6], &hex[6..8], &hex[8..10], &hex[10..]].map(<[String]>::concat).join("-")
}

fn props(cpu: &CpuInfo) -> Value {
    Value::Object(cpu.props.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect())
}

fn query_cpus(call: &Call<'_>) -> Reply {
    let target = call.machine().facts().target;
    let cpu = |cpu: CpuInfo| {
        let mut out = Map::new();
        let mut set = |name: &str, value: Value| drop(out.insert(name.to_owned(), value));
        set("cpu-index", json!(cpu.index));
        set("qom-path", json!(cpu.qom_path));
        set("thread-id", json!(cpu.thread_id));
        set("target", json!(target.name()));
        if !cpu.props.is_empty() {
            set("props", props(&cpu));
        }
        if target == cloister_options::Target::S390x {
            set("cpu-state", json!(cpu.state));
        }
        Value::Object(out)
    };
    Ok(call.machine().cpus().into_iter().map(cpu).collect())
}

fn query_hotpluggable(call: &Call<'_>) -> Reply {
    if call.machine().facts().machine == "none" {
        return Err(ControlError::new("The feature 'query-hotpluggable-cpus' is not enabled"));
    }
    let place = |cpu: CpuInfo| json!({ "type": cpu.qom_type, "vcpus-count": 1, "props": props(&cpu), "qom-path": cpu.qom_path });
    Ok(call.machine().cpus().into_iter().map(place).collect())
}

fn query_chardev(call: &Call<'_>) -> Reply {
    let device = |device: cloister_control::ChardevInfo| json!({ "label": device.label, "filename": device.filename, "frontend-open": device.frontend_open });
    Ok(call.operator().process.chardevs().into_iter().map(device).collect())
}

fn yank(call: &Call<'_>) -> Reply {
    match call.objects("instances").next() {
        None => Ok(json!({})),
        Some(_) => Err(ControlError {
            class: cloister_control::ErrorClass::DeviceNotFound,
            text: "Instance not found".into(),
        }),
    }
}
