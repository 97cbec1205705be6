//! The device tree and the object tree as text, indented by two.

use cloister_control::{DeviceInfo, Machine};
use serde_json::Value;
use std::collections::BTreeMap;

/// Deepest nesting of buses; the machine's answer is data, and a loop in it must not be followed.
const DEPTH: usize = 16;

/// `info qtree`.
pub(crate) fn devices(devices: &[DeviceInfo]) -> String {
    let mut out = "bus: main-system-bus\n  type System\n".to_owned();
    let offered = |bus: &str| devices.iter().any(|device| device.buses.iter().any(|known| known.name == bus));
    for device in devices {
        if !device.bus.as_deref().is_some_and(offered) {
            write_device(&mut out, devices, device, 1);
        }
    }
    out
}

fn write_device(out: &mut String, all: &[DeviceInfo], device: &DeviceInfo, depth: usize) {
    if depth > DEPTH {
        return;
    }
    let indent = "  ".repeat(depth);
    let id = device.id.as_deref().unwrap_or_default();
    *out += &format!("{indent}dev: {}, id \"{id}\"\n", device.driver);
    if let Some(address) = &device.address
        && !device.properties.iter().any(|property| property.value.as_str() == Some(address))
    {
        *out += &format!("{indent}  dev_id = \"{address}\"\n");
    }
    for property in &device.properties {
        *out += &format!("{indent}  {} = {}\n", property.name, value(&property.value));
    }
    for bus in &device.buses {
        *out += &format!("{indent}  bus: {}\n{indent}    type {}\n", bus.name, bus.kind);
        for child in all.iter().filter(|child| child.bus.as_ref() == Some(&bus.name)) {
            write_device(out, all, child, depth + 2);
        }
    }
}

fn value(value: &Value) -> String {
    match value {
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(value), _) => format!("{value} ({value:#x})"),
            (None, Some(value)) => format!("{value} ({value:#x})"),
            (None, None) => number.to_string(),
        },
        Value::Null => "\"\"".to_owned(),
        other => other.to_string(),
    }
}

/// `info qom-tree`; `None`: nothing is at `path`.
pub(crate) fn objects(machine: &dyn Machine, path: &str) -> Option<String> {
    let mut types = BTreeMap::new();
    types.insert("/machine".to_owned(), format!("{}-machine", machine.facts().machine));
    for container in ["/machine/peripheral", "/machine/peripheral-anon", "/machine/unattached", "/objects"] {
        types.insert(container.to_owned(), "container".to_owned());
    }
    for device in machine.devices() {
        for bus in device.buses {
            types.insert(format!("{}/{}", device.qom_path, bus.name), bus.kind);
        }
        types.insert(device.qom_path, device.driver);
    }
    types.extend(machine.cpus().into_iter().map(|cpu| (cpu.qom_path, cpu.qom_type)));
    types.extend(
        machine.objects().into_iter().map(|object| (format!("/objects/{}", object.id), object.qom_type)),
    );
    let root = path.trim_end_matches('/');
    if !root.is_empty() && !types.contains_key(root) {
        return None;
    }
    let mut out = String::new();
    if root.is_empty() {
        out += "/ (container)\n";
    }
    write_object(&mut out, &types, root, usize::from(root.is_empty()));
    Some(out)
}

fn write_object(out: &mut String, types: &BTreeMap<String, String>, path: &str, depth: usize) {
    if let Some(kind) = types.get(path) {
        let name = path.rsplit('/').next().unwrap_or_default();
        *out += &format!("{}/{name} ({kind})\n", "  ".repeat(depth));
    }
    let prefix = format!("{path}/");
    let children =
        types.keys().filter(|key| key.strip_prefix(&prefix).is_some_and(|name| !name.contains('/')));
    for child in children {
        write_object(out, types, child, depth + usize::from(!path.is_empty()));
    }
}
