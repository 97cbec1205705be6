//! What could be made: machines, CPU models, types with their properties, options.

use crate::call::Call;
use crate::qom_types;
use crate::table::{Command, Reply};
use crate::types::{Enum, Struct, Type, member, optional};
use cloister_control::{ControlError, ErrorClass};
use cloister_options::{Key, Target, X86_DEFAULT_CPU, command_line_options_json};
use serde_json::{Map, Value, json};

const ARCHITECTURE: Enum = Enum { name: "SysEmuTarget", values: &["ppc64", "s390x", "x86_64"] };
const TARGET: Struct = Struct::new("TargetInfo", &[member("arch", Type::Enum(&ARCHITECTURE))]);
const KVM: Struct = Struct::new("KvmInfo", &[member("enabled", Type::Bool), member("present", Type::Bool)]);
const ACCELERATOR: Enum = Enum { name: "Accelerator", values: &["kvm", "tcg"] };
const ACCELERATORS: Struct = Struct::new(
    "AcceleratorInfo",
    &[member("enabled", Type::Enum(&ACCELERATOR)), member("present", Type::List(&Type::Enum(&ACCELERATOR)))],
);

const MACHINE: Struct = Struct::new(
    "MachineInfo",
    &[
        member("name", Type::Str),
        optional("alias", Type::Str),
        optional("is-default", Type::Bool),
        member("cpu-max", Type::Int),
        member("hotpluggable-cpus", Type::Bool),
        member("numa-mem-supported", Type::Bool),
        member("deprecated", Type::Bool),
        member("acpi", Type::Bool),
        optional("default-cpu-type", Type::Str),
        optional("default-ram-id", Type::Str),
    ],
);

const CURRENT: Struct = Struct::new("CurrentMachineParams", &[member("wakeup-suspend-support", Type::Bool)]);

const CPU_DEFINITION: Struct = Struct::new(
    "CpuDefinitionInfo",
    &[
        member("name", Type::Str),
        optional("migration-safe", Type::Bool),
        member("static", Type::Bool),
        optional("unavailable-features", Type::List(&Type::Str)),
        member("typename", Type::Str),
        member("deprecated", Type::Bool),
    ],
);

const OBJECT_TYPE: Struct = Struct::new(
    "ObjectTypeInfo",
    &[member("name", Type::Str), optional("abstract", Type::Bool), optional("parent", Type::Str)],
);

pub(crate) const PROPERTY: Struct = Struct::new(
    "ObjectPropertyInfo",
    &[
        member("name", Type::Str),
        member("type", Type::Str),
        optional("description", Type::Str),
        optional("default-value", Type::Any),
    ],
);

const TYPE_NAME: &[crate::types::Member] = &[member("typename", Type::Str)];

const PARAMETER_TYPE: Enum =
    Enum { name: "CommandLineParameterType", values: &["string", "boolean", "number", "size"] };

const PARAMETER: Struct = Struct::new(
    "CommandLineParameterInfo",
    &[
        member("name", Type::Str),
        member("type", Type::Enum(&PARAMETER_TYPE)),
        optional("help", Type::Str),
        optional("default", Type::Str),
    ],
);

const OPTION: Struct = Struct::new(
    "CommandLineOptionInfo",
    &[member("option", Type::Str), member("parameters", Type::List(&Type::Struct(&PARAMETER)))],
);

const TPM_MODEL: Enum = Enum { name: "TpmModel", values: &["tpm-tis", "tpm-crb", "tpm-spapr"] };
const TPM_TYPE: Enum = Enum { name: "TpmType", values: &["passthrough", "emulator"] };

pub(crate) const ROWS: &[Command] = &[
    Command::new("query-target", "The architecture.", |call| {
        Ok(json!({ "arch": call.machine().facts().target.name() }))
    })
    .returns(Type::Struct(&TARGET)),
    Command::new("query-kvm", "Whether KVM runs the guest, and whether this build could use it.", |call| {
        let (enabled, present) = accelerators(call);
        Ok(json!({ "enabled": enabled == "kvm", "present": present.contains(&"kvm") }))
    })
    .returns(Type::Struct(&KVM)),
    Command::new("query-accelerators", "The accelerator in use, and those of this build.", |call| {
        let (enabled, present) = accelerators(call);
        Ok(json!({ "enabled": enabled, "present": present }))
    })
    .returns(Type::Struct(&ACCELERATORS)),
    Command::new("query-machines", "Machine types.", query_machines)
        .returns(Type::List(&Type::Struct(&MACHINE))),
    Command::new("query-current-machine", "What this machine can do that others cannot.", |_| {
        Ok(json!({ "wakeup-suspend-support": false }))
    })
    .returns(Type::Struct(&CURRENT)),
    Command::new("query-cpu-definitions", "CPU models.", query_cpu_definitions)
        .returns(Type::List(&Type::Struct(&CPU_DEFINITION)))
        .only_for(&[Target::S390x, Target::X86_64, Target::Ppc64]),
    Command::new("qom-list-types", "Types; `implements` asks for those below one.", qom_list_types)
        .takes(&[optional("implements", Type::Str), optional("abstract", Type::Bool)])
        .returns(Type::List(&Type::Struct(&OBJECT_TYPE))),
    Command::new("qom-list-properties", "Properties of a type.", qom_list_properties)
        .takes(TYPE_NAME)
        .returns(Type::List(&Type::Struct(&PROPERTY))),
    Command::new("device-list-properties", "Properties of a device type.", device_list_properties)
        .takes(TYPE_NAME)
        .returns(Type::List(&Type::Struct(&PROPERTY))),
    Command::new("query-command-line-options", "Options of the command line with their keys.", query_options)
        .takes(&[optional("option", Type::Str)])
        .returns(Type::List(&Type::Struct(&OPTION)))
        .preconfig(),
    Command::new("query-tpm-models", "TPM models: none yet.", |_| Ok(json!([])))
        .returns(Type::List(&Type::Enum(&TPM_MODEL))),
    Command::new("query-tpm-types", "Backends of TPMs: none yet.", |_| Ok(json!([])))
        .returns(Type::List(&Type::Enum(&TPM_TYPE))),
];

/// The accelerator in use and those of this build, by QEMU's names: `soft` is what managers know as `tcg`.
fn accelerators(call: &Call<'_>) -> (&'static str, Vec<&'static str>) {
    let known = |name: &str| if name == "kvm" { "kvm" } else { "tcg" };
    let mut present: Vec<_> =
        call.operator().catalogue.accelerators().iter().map(|name| known(name)).collect();
    present.sort_unstable();
    present.dedup();
    let mut wanted = call.operator().line.accel.iter().map(|accel| known(&accel.name));
    (wanted.find(|name| present.contains(name)).unwrap_or("tcg"), present)
}

fn query_machines(call: &Call<'_>) -> Reply {
    let machine = |machine: &cloister_options::MachineType| {
        let mut out = Map::new();
        let mut set = |name: &str, value: Value| drop(out.insert(name.to_owned(), value));
        set("name", json!(machine.name));
        if let Some(alias) = machine.alias {
            set("alias", json!(alias));
        }
        if machine.is_default {
            set("is-default", json!(true));
        }
        set("cpu-max", json!(machine.capabilities.max_cpus));
        set("hotpluggable-cpus", json!(false));
        set("numa-mem-supported", json!(false));
        set("deprecated", json!(false));
        set("acpi", json!(machine.target == Some(Target::X86_64)));
        match machine.target {
            Some(Target::S390x) => {
                set("default-cpu-type", json!("qemu-s390x-cpu"));
                set("default-ram-id", json!("s390.ram"));
            }
            Some(Target::X86_64) => {
                set("default-cpu-type", json!(qom_types::cpu_type(Target::X86_64, X86_DEFAULT_CPU)));
                set("default-ram-id", json!("pc.ram"));
            }
            Some(Target::Ppc64) | None => {}
        }
        Value::Object(out)
    };
    Ok(call.operator().catalogue.machines().iter().map(machine).collect())
}

fn query_cpu_definitions(call: &Call<'_>) -> Reply {
    let catalogue = &call.operator().catalogue;
    let model = |model: &cloister_options::CpuModel| {
        json!({
            "name": model.name,
            "typename": qom_types::cpu_type(catalogue.target(), &model.name),
            "static": model.is_static,
            "migration-safe": model.name != "max",
            "unavailable-features": [],
            "deprecated": false,
        })
    };
    Ok(catalogue.cpus().iter().map(model).collect())
}

fn qom_list_types(call: &Call<'_>) -> Reply {
    let types = qom_types::types(&call.operator().catalogue);
    let abstract_too = call.bool("abstract").unwrap_or(true);
    let shown = types
        .values()
        .filter(|kind| abstract_too || !kind.is_abstract)
        .filter(|kind| call.text("implements").is_none_or(|above| qom_types::is_a(&types, &kind.name, above)))
        .map(|kind| match (kind.is_abstract, &kind.parent) {
            (true, Some(parent)) => json!({ "name": kind.name, "parent": parent, "abstract": true }),
            (true, None) => json!({ "name": kind.name, "abstract": true }),
            (false, Some(parent)) => json!({ "name": kind.name, "parent": parent }),
            (false, None) => json!({ "name": kind.name }),
        });
    Ok(shown.collect())
}

fn qom_list_properties(call: &Call<'_>) -> Reply {
    let name = call.required("typename");
    let types = qom_types::types(&call.operator().catalogue);
    let kind = types.get(name).ok_or_else(|| ControlError {
        class: ErrorClass::DeviceNotFound,
        text: format!("Class '{name}' not found"),
    })?;
    let mut out = vec![json!({ "name": "type", "type": "string" })];
    out.extend(kind.keys.iter().map(|key| property(key, false)));
    Ok(Value::Array(out))
}

fn device_list_properties(call: &Call<'_>) -> Reply {
    let name = call.required("typename");
    let types = qom_types::types(&call.operator().catalogue);
    let kind = types.get(name).ok_or_else(|| ControlError::device_not_found(name))?;
    if kind.is_abstract || !qom_types::is_a(&types, name, "device") {
        return Err(ControlError::new("Parameter 'typename' expects a non-abstract device type"));
    }
    Ok(kind.keys.iter().map(|key| property(key, true)).collect())
}

/// A property as QMP describes it.
fn property(key: &Key, with_default: bool) -> Value {
    let kind = match with_default {
        true => key.kind.name(),
        false => qom_types::property_type(key.kind),
    };
    let mut out = json!({ "name": key.name, "type": kind, "description": key.doc });
    if let (true, Some(default), Value::Object(members)) = (with_default, key.default, &mut out) {
        members.insert("default-value".into(), qom_types::default_value(key.kind, default));
    }
    out
}

fn query_options(call: &Call<'_>) -> Reply {
    let wanted = call.text("option");
    let options = command_line_options_json(&call.operator().catalogue, wanted);
    options.ok_or_else(|| ControlError::new(format!("invalid option name: {}", wanted.unwrap_or_default())))
}
