//! Objects and devices from text or JSON: the one entry for the command line, for QMP's `object-add` and
//! `device_add`, and for their namesakes of the human monitor.
//!
//! Nothing is made here, and what a later command may still change (which ids are taken) is asked of the caller.

use serde_json::{Map, Value};

use crate::blockdev::BlockNode;
use crate::catalogue::{Catalogue, ObjectRole};
use crate::command_line::{DeviceSpec, Drive, DriveInterface, ObjectSpec};
use crate::error::{Location, OptionError, Problem, Warning};
use crate::flat::{FlatOptions, parse_flat};
use crate::help::Topic;
use crate::parser::take::json_text;
use crate::schema::{PropertyValue, Schema, Words};
use crate::value::{parse_identifier, parse_mac};

/// Read the arguments of `object-add`. The text of a refusal is QEMU's; [`OptionError::headline`] is what QMP shows.
/// Whether the id is free is not checked.
pub fn parse_object_json(
    catalogue: &Catalogue,
    members: &Map<String, Value>,
) -> Result<ObjectSpec, OptionError> {
    added_object(catalogue, &Source::Json(members))
}

/// Read what the human monitor's `object_add` takes, which is what `-object` takes.
pub fn parse_object_text(catalogue: &Catalogue, text: &str) -> Result<ObjectSpec, OptionError> {
    let flat = parse_flat(text, Some("qom-type"), false).map_err(Problem::anywhere)?;
    added_object(catalogue, &Source::Flat(flat))
}

/// Read the arguments of `device_add`. Values may be of their type or texts; QEMU turns them all into texts. What
/// depends on other devices, objects and drives is checked by
/// [`check_device`].
pub fn parse_device_json(
    catalogue: &Catalogue,
    members: &Map<String, Value>,
) -> Result<DeviceSpec, OptionError> {
    let flat = texts(members).map_err(Problem::anywhere)?;
    added_device(catalogue, &Source::Flat(flat))
}

/// Read what the human monitor's `device_add` takes, which is what `-device` takes.
pub fn parse_device_text(catalogue: &Catalogue, text: &str) -> Result<DeviceSpec, OptionError> {
    let flat = parse_flat(text, Some("driver"), false).map_err(Problem::anywhere)?;
    added_device(catalogue, &Source::Flat(flat))
}

/// What there is before a device is added.
#[derive(Clone, Copy, Debug, Default)]
pub struct Present<'a> {
    /// The objects.
    pub objects: &'a [ObjectSpec],
    /// The devices that were added.
    pub devices: &'a [DeviceSpec],
    /// The drives.
    pub drives: &'a [Drive],
    /// The nodes of the block layer.
    pub nodes: &'a [BlockNode],
    /// The ids of the network backends.
    pub netdevs: &'a [&'a str],
}

/// Check a device against what there is: ids and numbers taken, objects and drives that it names.
pub fn check_device(
    catalogue: &Catalogue,
    device: &DeviceSpec,
    present: &Present<'_>,
) -> Result<(), OptionError> {
    if let Some(id) = &device.id
        && present.devices.iter().any(|other| other.id.as_ref() == Some(id))
    {
        return Err(Problem::DuplicateDevice(id.clone()).at(&device.location));
    }
    check_references(catalogue, device, present)
}

/// The same without the id, for which the command line has other words.
pub(crate) fn check_references(
    catalogue: &Catalogue,
    device: &DeviceSpec,
    present: &Present<'_>,
) -> Result<(), OptionError> {
    let refuse = |problem: Problem| Err(problem.at(&device.location));
    let properties = &device.properties;
    if let Some(number) = properties.device_number("devno")
        && present.devices.iter().any(|other| other.properties.device_number("devno") == Some(number))
    {
        return refuse(Problem::DeviceNumberTaken(number.to_string()));
    }
    if device.is_port() {
        device.controller(present.devices).map_err(|problem| problem.at(&device.location))?;
    }
    if let Some(id) = properties.text("rng")
        && !present
            .objects
            .iter()
            .any(|object| object.id == id && has_role(catalogue, &object.qom_type, ObjectRole::Rng))
    {
        return refuse(Problem::NotFound(id.to_owned()));
    }
    if let Some(id) = properties.text("netdev") {
        let (class, name, value) = ("virtio-net-device".to_owned(), "netdev".to_owned(), id.to_owned());
        if !present.netdevs.contains(&id) {
            return refuse(Problem::CannotFindValue { class, name, value });
        }
        if present.devices.iter().any(|other| other.properties.text("netdev") == Some(id)) {
            return refuse(Problem::NetdevInUse { class, name, value });
        }
    }
    if let Some(mac) = properties.text("mac")
        && parse_mac(mac).is_none()
    {
        return refuse(Problem::DeviceValue {
            class: "virtio-net-device".to_owned(),
            name: "mac".to_owned(),
            value: mac.to_owned(),
        });
    }
    if device.driver == "virtio-blk-ccw" {
        let Some(id) = properties.text("drive") else {
            return refuse(Problem::DriveNotSet);
        };
        let Some(drive) = present.drives.iter().find(|drive| drive.id.as_deref() == Some(id)) else {
            // Who uses a node, and how, only the machine knows.
            return match present.nodes.iter().any(|node| node.name == id) {
                true => check_disk(device, present),
                false => refuse(Problem::CannotFindValue {
                    class: "virtio-blk-device".to_owned(),
                    name: "drive".to_owned(),
                    value: id.to_owned(),
                }),
            };
        };
        if drive.interface != DriveInterface::None {
            return Err(Problem::DriveConnected(id.to_owned()).at(&drive.location));
        }
        if present.devices.iter().any(|other| other.properties.text("drive") == Some(id)) {
            return refuse(Problem::DriveInUse(id.to_owned()));
        }
        if drive.file.is_none() {
            return refuse(Problem::DriveEmpty);
        }
        return check_disk(device, present);
    }
    Ok(())
}

/// Properties of a disk that QEMU checks when it makes it.
fn check_disk(device: &DeviceSpec, present: &Present<'_>) -> Result<(), OptionError> {
    let properties = &device.properties;
    let refuse = |problem: Problem| Err(problem.at(&device.location));
    let mut sizes = [512; 2];
    for (size, name) in sizes.iter_mut().zip(["logical_block_size", "physical_block_size"]) {
        match properties.number(name) {
            None | Some(0) => {}
            Some(value) if !(512..=2 << 20).contains(&value) => {
                return refuse(Problem::BlockSize { name, value });
            }
            Some(value) if !value.is_power_of_two() => return refuse(Problem::NotAPower { name, value }),
            Some(value) => *size = value,
        }
    }
    let given = properties.number("physical_block_size").is_some_and(|size| size != 0);
    if given && sizes[0] > sizes[1] {
        return refuse(Problem::BlockSizes);
    }
    if properties.number("num-queues") == Some(0) {
        return refuse(Problem::QueuesMissing);
    }
    match properties.number("queue-size") {
        Some(size) if !(3..=1024).contains(&size) || !size.is_power_of_two() => {
            return refuse(Problem::QueueSize(size));
        }
        _ => {}
    }
    if let Some(PropertyValue::Signed(index)) = properties.get("bootindex")
        && *index >= 0
        && present
            .devices
            .iter()
            .any(|other| other.properties.get("bootindex") == properties.get("bootindex"))
    {
        return refuse(Problem::BootIndexTaken(*index));
    }
    Ok(())
}

/// The two forms of an argument.
pub(crate) enum Source<'a> {
    Flat(FlatOptions),
    Json(&'a Map<String, Value>),
}

impl Source<'_> {
    fn text(&self, name: &str) -> Result<Option<String>, Problem> {
        match self {
            Self::Json(members) => json_text(members, name),
            Self::Flat(flat) if name == "id" => Ok(flat.id.clone()),
            Self::Flat(flat) => Ok(flat.get(name).map(str::to_owned)),
        }
    }

    fn help(&self) -> bool {
        matches!(self, Self::Flat(flat) if flat.help)
    }

    fn properties(&self, schema: &Schema<'_>, beside: &[&str]) -> Result<crate::schema::Properties, Problem> {
        match self {
            Self::Json(members) => schema.read_json(members, beside),
            Self::Flat(flat) => schema.read_flat(flat, beside),
        }
    }

    /// Warnings about short booleans.
    pub(crate) fn warnings(&self, location: &Location) -> Vec<Warning> {
        let texts: &[String] = match self {
            Self::Json(_) => &[],
            Self::Flat(flat) => &flat.warnings,
        };
        let location = Some(location.clone());
        texts
            .iter()
            .map(|text| Warning { location: location.clone(), text: text.clone(), is_warning: true })
            .collect()
    }
}

/// An item, or a request for help about it.
pub(crate) enum Read<T> {
    Item(T),
    Help(Topic),
}

pub(crate) fn object(
    catalogue: &Catalogue,
    source: &Source<'_>,
    location: &Location,
) -> Result<Read<ObjectSpec>, Problem> {
    // Both texts are looked at before any is missed.
    let qom_type = source.text("qom-type")?;
    let id = source.text("id")?;
    if source.help() && qom_type.is_none() {
        return Ok(Read::Help(Topic::Objects));
    }
    let qom_type = qom_type.ok_or_else(|| Problem::Missing("qom-type".to_owned()))?;
    let known = catalogue
        .object(&qom_type)
        .ok_or_else(|| Problem::DoesNotAccept { name: "qom-type".to_owned(), value: qom_type.clone() })?;
    if source.help() {
        return Ok(Read::Help(Topic::Object(qom_type)));
    }
    let id = id.ok_or_else(|| Problem::Missing("id".to_owned()))?;
    let schema = Schema { class: known.name, keys: known.keys, words: Words::Object };
    let properties = source.properties(&schema, &["qom-type", "id"])?;
    if parse_identifier(&id).is_none() {
        return Err(Problem::NotAnIdentifier("id".to_owned()));
    }
    Ok(Read::Item(ObjectSpec { qom_type, id, properties, location: location.clone() }))
}

/// Checks that QEMU makes when it creates the object.
pub(crate) fn check_object(catalogue: &Catalogue, object: &ObjectSpec) -> Result<(), Problem> {
    let known = catalogue.object(&object.qom_type).filter(|known| known.is_for(catalogue.target()));
    let Some(known) = known else {
        return Err(Problem::InvalidObjectType(object.qom_type.clone()));
    };
    let properties = &object.properties;
    match known.role {
        ObjectRole::MemoryBackend if properties.number("size") == Some(0) => Err(Problem::ObjectValue {
            class: object.qom_type.clone(),
            name: "size".to_owned(),
            value: "0".to_owned(),
        }),
        ObjectRole::Secret if properties.text("data").is_none() && properties.text("file").is_none() => {
            Err(Problem::SecretSource)
        }
        _ => Ok(()),
    }
}

/// A device and the bus that it asks for.
pub(crate) fn device(
    catalogue: &Catalogue,
    source: &Source<'_>,
    location: &Location,
) -> Result<Read<(DeviceSpec, Option<String>)>, Problem> {
    let id = source.text("id")?;
    let driver = source.text("driver")?;
    let bus = source.text("bus")?;
    if source.help() && driver.is_none() {
        return Ok(Read::Help(Topic::Devices));
    }
    let driver = driver.ok_or_else(|| Problem::Missing("driver".to_owned()))?;
    let Some(known) = catalogue.device(&driver) else {
        return Err(match source.help() {
            true => Problem::NotFound(driver),
            false => Problem::NotADevice(driver),
        });
    };
    if source.help() {
        return Ok(Read::Help(Topic::Device(driver)));
    }
    let schema = Schema { class: known.name, keys: known.keys, words: Words::Device };
    let properties = source.properties(&schema, &["driver", "id", "bus"])?;
    if id.as_deref().is_some_and(|id| parse_identifier(id).is_none()) {
        return Err(Problem::NotAnIdentifier("id".to_owned()));
    }
    let driver = known.name.to_owned();
    let pass_through = known.pass_through;
    let spec =
        DeviceSpec { driver, id, bus: bus.clone(), properties, pass_through, location: location.clone() };
    Ok(Read::Item((spec, bus)))
}

/// Channel devices have a bus, and consoles have one.
pub(crate) fn check_bus(device: &DeviceSpec, bus: Option<&str>) -> Result<(), Problem> {
    // Those of ports are known once the devices before them are.
    if device.is_port() {
        return Ok(());
    }
    let (bus, for_consoles) = match bus {
        None => return Ok(()),
        Some("virtual-css" | "virtual-css.0") => ("virtual-css-bus", false),
        Some("s390-sclp-events-bus.0") => ("s390-sclp-events-bus", true),
        Some(other) => return Err(Problem::BusNotFound(other.to_owned())),
    };
    match device.is_console() == for_consoles {
        true => Ok(()),
        false => Err(Problem::WrongBus { driver: device.driver.clone(), bus }),
    }
}

pub(crate) fn has_role(catalogue: &Catalogue, qom_type: &str, role: ObjectRole) -> bool {
    catalogue.object(qom_type).is_some_and(|object| object.role == role)
}

/// The members as texts; a null is no value.
fn texts(members: &Map<String, Value>) -> Result<FlatOptions, Problem> {
    let mut flat = FlatOptions::default();
    for (name, value) in members {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Bool(on) => if *on { "on" } else { "off" }.to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Null => continue,
            Value::Array(_) | Value::Object(_) => {
                return Err(Problem::WrongType { name: name.clone(), expected: "string" });
            }
        };
        match name.as_str() {
            "id" if value.is_string() => flat.id = Some(text),
            "id" => return Err(Problem::WrongType { name: name.clone(), expected: "string" }),
            _ => flat.entries.push((name.clone(), text)),
        }
    }
    Ok(flat)
}

fn added_object(catalogue: &Catalogue, source: &Source<'_>) -> Result<ObjectSpec, OptionError> {
    let location = Location::new("object-add", None);
    let read = object(catalogue, source, &location).map_err(Problem::anywhere)?;
    match read {
        Read::Item(object) => {
            check_object(catalogue, &object).map_err(Problem::anywhere)?;
            Ok(object)
        }
        Read::Help(_) => Err(Problem::InvalidParameter("help".to_owned()).anywhere()),
    }
}

fn added_device(catalogue: &Catalogue, source: &Source<'_>) -> Result<DeviceSpec, OptionError> {
    let location = Location::new("device_add", None);
    match device(catalogue, source, &location).map_err(Problem::anywhere)? {
        Read::Item((device, bus)) => {
            check_bus(&device, bus.as_deref()).map_err(Problem::anywhere)?;
            Ok(device)
        }
        Read::Help(_) => Err(Problem::InvalidParameter("help".to_owned()).anywhere()),
    }
}
