//! The object tree, computed from what the machine says of itself.

use crate::qom_types;
use cloister_control::{ControlError, Operator, Property};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A node: its type, its properties, its children.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) kind: String,
    pub(crate) properties: Vec<Property>,
    pub(crate) children: BTreeMap<String, Node>,
}

impl Node {
    fn new(kind: &str) -> Self {
        Self { kind: kind.to_owned(), ..Self::default() }
    }

    /// The node at a path below this one; containers on the way are made.
    fn at(&mut self, path: &str) -> &mut Self {
        path.split('/').filter(|part| !part.is_empty()).fold(self, |node, part| {
            node.children.entry(part.to_owned()).or_insert_with(|| Self::new("container"))
        })
    }

    fn walk(&self, path: &str) -> Option<&Self> {
        path.split('/').filter(|part| !part.is_empty()).try_fold(self, |node, part| node.children.get(part))
    }

    /// A property's value, as `qom-get` gives it.
    pub(crate) fn get(&self, path: &str, name: &str) -> Option<Value> {
        if name == "type" {
            return Some(json!(self.kind));
        }
        if self.children.contains_key(name) {
            return Some(json!(format!("{}/{name}", path.trim_end_matches('/'))));
        }
        self.properties.iter().find(|property| property.name == name).map(|property| property.value.clone())
    }
}

/// The tree of the moment.
pub(crate) fn tree(operator: &Operator) -> Node {
    let mut root = Node::new("container");
    let facts = operator.machine.facts();
    let machine = root.at("/machine");
    machine.kind = format!("{}-machine", facts.machine);
    machine.properties = machine_properties(operator);
    for container in ["peripheral", "peripheral-anon", "unattached"] {
        machine.at(container);
    }
    for cpu in operator.machine.cpus() {
        let node = root.at(&cpu.qom_path);
        node.kind = cpu.qom_type;
        node.properties.push(Property { name: "realized".into(), kind: "bool".into(), value: json!(true) });
        node.properties.extend(cpu.props.iter().map(|(name, value)| Property {
            name: (*name).into(),
            kind: "uint32".into(),
            value: json!(value),
        }));
    }
    for device in operator.machine.devices() {
        let node = root.at(&device.qom_path);
        node.kind = device.driver;
        node.properties.push(Property { name: "realized".into(), kind: "bool".into(), value: json!(true) });
        node.properties.extend(device.properties);
        for bus in device.buses {
            let place = node.at(&bus.name);
            place.kind = bus.kind;
        }
    }
    for object in operator.machine.objects() {
        let node = root.at("/objects").at(&object.id);
        node.kind = object.qom_type;
        node.properties = object.properties;
    }
    root.at("/objects");
    for chardev in operator.process.chardevs() {
        let kind = match chardev.filename.split(':').next() {
            Some("unix" | "tcp" | "disconnected" | "telnet" | "vsock") => "chardev-socket",
            Some("stdio") => "chardev-stdio",
            Some("pty") => "chardev-pty",
            Some("null") => "chardev-null",
            Some("file") => "chardev-file",
            _ => "chardev",
        };
        root.at("/chardevs").at(&chardev.label).kind = kind.to_owned();
    }
    root.at("/chardevs");
    root.at("/backend");
    root
}

fn machine_properties(operator: &Operator) -> Vec<Property> {
    let machine = operator.catalogue.machine(&operator.machine.facts().machine);
    let keys = machine.map_or(&[][..], |machine| machine.keys);
    let given = &operator.line.machine.properties;
    let mut out: Vec<_> = keys
        .iter()
        .map(|key| {
            let value = given.get(key.name).map(qom_types::value);
            let value =
                value.or_else(|| key.default.map(|default| qom_types::default_value(key.kind, default)));
            let kind = qom_types::property_type(key.kind);
            Property { name: key.name.into(), kind, value: value.unwrap_or_else(|| json!("")) }
        })
        .collect();
    let memory = operator.machine.facts().memory;
    let value = json!({ "size": memory, "max-size": memory, "slots": 0 });
    out.push(Property { name: "memory".into(), kind: "MemorySizeConfiguration".into(), value });
    out
}

/// The node at an absolute path, or at a partial one that fits a single node, with its absolute path.
pub(crate) fn resolve<'t>(root: &'t Node, path: &str) -> Result<(&'t Node, String), ControlError> {
    if path.starts_with('/') {
        let node = root.walk(path).ok_or_else(|| ControlError::device_not_found(path))?;
        return Ok((node, path.to_owned()));
    }
    let mut found = Vec::new();
    partial(root, "", path, &mut found);
    match (found.pop(), found.is_empty()) {
        (Some(found), true) => Ok(found),
        (Some(_), false) => Err(ControlError {
            class: cloister_control::ErrorClass::DeviceNotFound,
            text: format!("Path '{path}' does not uniquely identify an object"),
        }),
        (None, _) => Err(ControlError::device_not_found(path)),
    }
}

fn partial<'t>(node: &'t Node, at: &str, path: &str, found: &mut Vec<(&'t Node, String)>) {
    if !path.is_empty()
        && let Some(node) = node.walk(path)
    {
        found.push((node, format!("{at}/{path}")));
    }
    for (name, child) in &node.children {
        partial(child, &format!("{at}/{name}"), path, found);
    }
}
