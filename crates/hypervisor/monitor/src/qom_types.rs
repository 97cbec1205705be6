//! The types that the catalogue names, with their parents, as QEMU names them.

use cloister_options::{Catalogue, Key, Kind, ObjectRole, OnOffAuto, PropertyValue, Target};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A type.
#[derive(Clone, Debug)]
pub(crate) struct QomType {
    pub(crate) name: String,
    pub(crate) parent: Option<String>,
    pub(crate) is_abstract: bool,
    pub(crate) keys: &'static [Key],
}

/// Types that nobody makes, and those without properties of their own: name, parent, abstract.
const FIXED: &[(&str, Option<&str>, bool)] = &[
    ("object", None, true),
    ("container", Some("object"), false),
    ("machine", Some("object"), true),
    ("accel", Some("object"), true),
    ("bus", Some("object"), true),
    ("device", Some("object"), true),
    ("chardev", Some("object"), true),
    ("memory-backend", Some("object"), true),
    ("rng-backend", Some("object"), true),
    ("secret_common", Some("object"), true),
    ("confidential-guest-support", Some("object"), true),
    ("user-creatable", Some("object"), true),
    ("sys-bus-device", Some("device"), true),
    ("virtio-device", Some("device"), true),
    ("cpu", Some("device"), true),
];

const S390X: &[(&str, Option<&str>, bool)] = &[
    ("s390-ccw-machine", Some("machine"), true),
    ("s390x-cpu", Some("cpu"), true),
    ("ccw-device", Some("device"), true),
    ("ap-device", Some("device"), true),
    ("virtio-ccw-device", Some("ccw-device"), true),
    ("virtual-css-bridge", Some("sys-bus-device"), false),
    ("virtual-css-bus", Some("bus"), false),
];

const X86_64: &[(&str, Option<&str>, bool)] = &[
    ("x86-machine", Some("machine"), true),
    ("generic-pc-machine", Some("x86-machine"), true),
    ("x86_64-cpu", Some("cpu"), true),
    ("PCI", Some("bus"), false),
    ("PCIE", Some("PCI"), false),
    ("pci-host-bridge", Some("sys-bus-device"), true),
    ("q35-pcihost", Some("pci-host-bridge"), false),
    ("i440FX-pcihost", Some("pci-host-bridge"), false),
    ("fw_cfg_io", Some("sys-bus-device"), false),
    ("cfi.pflash01", Some("sys-bus-device"), false),
];

/// The type of a CPU model.
pub(crate) fn cpu_type(target: Target, model: &str) -> String {
    format!("{model}-{target}-cpu")
}

/// All types by name.
pub(crate) fn types(catalogue: &Catalogue) -> BTreeMap<String, QomType> {
    let mut out = BTreeMap::new();
    let mut add = |name: &str, parent: Option<&str>, is_abstract, keys| {
        let kind = QomType { name: name.into(), parent: parent.map(str::to_owned), is_abstract, keys };
        out.insert(name.to_owned(), kind);
    };
    let of_target = match catalogue.target() {
        Target::S390x => S390X,
        Target::X86_64 => X86_64,
        Target::Ppc64 => &[],
    };
    for (name, parent, is_abstract) in FIXED.iter().chain(of_target) {
        add(name, *parent, *is_abstract, &[]);
    }
    for machine in catalogue.machines() {
        let parent = match machine.target {
            Some(Target::S390x) => "s390-ccw-machine",
            Some(Target::X86_64) => "generic-pc-machine",
            Some(Target::Ppc64) | None => "machine",
        };
        add(&format!("{}-machine", machine.name), Some(parent), false, machine.keys);
    }
    for model in catalogue.cpus() {
        let parent = format!("{}-cpu", catalogue.target());
        add(&cpu_type(catalogue.target(), &model.name), Some(&parent), false, &[]);
    }
    for accelerator in catalogue.accelerators() {
        add(&format!("{accelerator}-accel"), Some("accel"), false, &[]);
    }
    for object in catalogue.objects() {
        let parent = match object.role {
            ObjectRole::MemoryBackend => "memory-backend",
            ObjectRole::Rng => "rng-backend",
            ObjectRole::Secret => "secret_common",
            ObjectRole::ConfidentialGuest => "confidential-guest-support",
            ObjectRole::Other => "object",
        };
        add(object.name, Some(parent), false, object.keys);
    }
    for device in catalogue.devices() {
        let parent = match device.bus {
            "virtual-css-bus" if device.pass_through => "ccw-device",
            "virtual-css-bus" => "virtio-ccw-device",
            "ap-bus" => "ap-device",
            _ => "device",
        };
        add(device.name, Some(parent), false, device.keys);
        if device.inner != device.name {
            add(device.inner, Some("virtio-device"), false, &[]);
        }
    }
    out
}

/// Whether a type is another or lies below it. Every object that `object-add` makes is `user-creatable`.
pub(crate) fn is_a(types: &BTreeMap<String, QomType>, name: &str, above: &str) -> bool {
    let mut at = Some(name);
    let mut creatable = false;
    while let Some(name) = at {
        if name == above {
            return true;
        }
        creatable |= matches!(
            name,
            "memory-backend" | "rng-backend" | "secret_common" | "confidential-guest-support" | "iothread"
        );
        at = types.get(name).and_then(|kind| kind.parent.as_deref());
    }
    creatable && above == "user-creatable"
}

/// The type of a property of an object or a machine; devices say `str` where these say `string` (QEMU 7.2).
pub(crate) fn property_type(kind: Kind) -> String {
    match kind {
        Kind::Text => "string".into(),
        kind => kind.name(),
    }
}

/// A default as help spells it, as a value.
pub(crate) fn default_value(kind: Kind, default: &str) -> Value {
    match kind {
        Kind::Bool => json!(matches!(default, "on" | "true" | "yes")),
        Kind::Unsigned(_) | Kind::Size => default.parse::<u64>().map_or_else(|_| json!(default), Value::from),
        Kind::Signed => default.parse::<i64>().map_or_else(|_| json!(default), Value::from),
        _ => json!(default),
    }
}

/// A checked value of the command line as JSON.
pub(crate) fn value(value: &PropertyValue) -> Value {
    match value {
        PropertyValue::Bool(on) => json!(on),
        PropertyValue::OnOffAuto(OnOffAuto::Auto) => json!("auto"),
        PropertyValue::OnOffAuto(OnOffAuto::On) => json!("on"),
        PropertyValue::OnOffAuto(OnOffAuto::Off) => json!("off"),
        PropertyValue::Text(text) => json!(text),
        PropertyValue::Number(number) => json!(number),
        PropertyValue::Signed(number) => json!(number),
        PropertyValue::DeviceNumber(number) => json!(number.to_string()),
    }
}
