//! Help, printed from the same descriptions that the parser reads.
//!
//! The form follows QEMU's, because managers and people read it.

use std::fmt::Write;

use crate::catalogue::{Catalogue, DeviceType, MachineType, ObjectType};
use crate::chardev::parse::BACKENDS;
use crate::netdev::NETDEV_KINDS;
use crate::schema::{Key, Kind};
use crate::table::{Argument, LOG_ITEMS, OptionSpec, Section, options};
use crate::tables::feature_names;
use crate::version::version_text;

/// What the user wants to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    Machines,
    MachineProperties,
    Cpus,
    Objects,
    Object(String),
    Devices,
    Device(String),
    Accelerators,
    DriveFormats,
    Chardevs,
    Netdevs,
    NicModels,
    Option(&'static str),
}

pub(crate) fn usage(program: &str) -> String {
    let mut out = version_text();
    let _ = write!(
        out,
        "usage: {program} [options] [disk_image]\n\n'disk_image' is the image of the first disk\n"
    );
    for section in [
        Section::Standard,
        Section::Objects,
        Section::Disks,
        Section::Network,
        Section::Display,
        Section::Characters,
        Section::Boot,
        Section::Debug,
    ] {
        let _ = writeln!(out, "\n{}:", section.title());
        for spec in options().filter(|spec| spec.section == section) {
            option_lines(&mut out, spec);
        }
    }
    let later: Vec<_> = options()
        .filter(|spec| spec.section == Section::Later)
        .map(|spec| format!("-{}", spec.name))
        .collect();
    let _ = writeln!(out, "\n{}:\n{}", Section::Later.title(), later.join(" "));
    out
}

fn option_lines(out: &mut String, spec: &OptionSpec) {
    let mut head = format!("-{}", spec.name);
    for alias in spec.aliases {
        let _ = write!(head, " or -{alias}");
    }
    if let Argument::Value(syntax) = spec.argument {
        let _ = write!(head, " {syntax}");
    }
    let mut lines = spec.help.lines();
    if head.len() < 16 {
        let _ = writeln!(out, "{head:<16}{}", lines.next().unwrap_or_default());
    } else {
        let _ = writeln!(out, "{head}");
    }
    for line in lines {
        let _ = writeln!(out, "{:16}{line}", "");
    }
    for key in spec.keys {
        let default = key.default.map(|default| format!(" (default: {default})")).unwrap_or_default();
        let _ = writeln!(out, "{:18}{}: {}{default}", "", key.name, key.doc);
    }
}

pub(crate) fn machines(catalogue: &Catalogue) -> String {
    let mut lines = Vec::new();
    for machine in catalogue.machines() {
        let default = if machine.is_default { " (default)" } else { "" };
        if let Some(alias) = machine.alias {
            lines.push((alias, format!("{} (alias of {})", machine.description, machine.name)));
        }
        lines.push((machine.name.as_str(), format!("{}{default}", machine.description)));
    }
    let mut out = String::from("Supported machines are:\n");
    for (name, description) in lines {
        let _ = writeln!(out, "{name:<20} {description}");
    }
    out
}

pub(crate) fn machine_properties(machine: &MachineType) -> String {
    properties(&machine.class(), machine.keys.iter())
}

pub(crate) fn cpus(catalogue: &Catalogue) -> String {
    let mut out = String::from("Available CPUs:\n");
    for cpu in catalogue.cpus() {
        let kind = match (cpu.is_static, cpu.name.as_str()) {
            (_, "max" | "qemu") => "",
            _ if catalogue.target() == crate::invocation::Target::X86_64 => "",
            (true, _) => "(static, migration-safe)",
            (false, _) => "(migration-safe)",
        };
        let line = format!("{} {:<15}  {:<35} {kind}", catalogue.target(), cpu.name, cpu.description);
        let _ = writeln!(out, "  {}", line.trim_end());
    }
    out.push_str("\nRecognized feature flags and groups:\n");
    let mut line = String::new();
    for name in feature_names(catalogue.target()) {
        if line.len() + name.len() > 76 {
            let _ = writeln!(out, " {line}");
            line.clear();
        }
        let _ = write!(line, " {name}");
    }
    let _ = writeln!(out, " {line}");
    out
}

pub(crate) fn objects(catalogue: &Catalogue) -> String {
    let mut out = String::from("List of user creatable objects:\n");
    for object in catalogue.objects() {
        let _ = writeln!(out, "  {}", object.name);
    }
    out
}

pub(crate) fn object_properties(object: &ObjectType) -> String {
    const ID: Key = Key::new("id", Kind::Text, "Name by which other options refer to it").required();
    properties(object.name, object.keys.iter().chain([&ID]))
}

pub(crate) fn devices(catalogue: &Catalogue) -> String {
    let mut classes: Vec<&str> = Vec::new();
    for device in catalogue.devices() {
        if !classes.contains(&device.class) {
            classes.push(device.class);
        }
    }
    let mut parts = Vec::new();
    for class in classes {
        let mut part = format!("{class} devices:\n");
        for device in catalogue.devices().iter().filter(|d| d.class == class) {
            let _ = write!(part, "name \"{}\"", device.name);
            if !device.bus.is_empty() {
                let _ = write!(part, ", bus {}", device.bus);
            }
            if let Some(alias) = device.alias {
                let _ = write!(part, ", alias \"{alias}\"");
            }
            let _ = writeln!(part, ", desc \"{}\"", device.doc);
        }
        parts.push(part);
    }
    parts.join("\n")
}

pub(crate) fn device_properties(device: &DeviceType) -> String {
    properties(device.name, device.keys.iter())
}

pub(crate) fn accelerators(catalogue: &Catalogue) -> String {
    format!("Accelerators supported in QEMU binary:\n{}\n", catalogue.accelerators().join("\n"))
}

pub(crate) fn netdevs() -> String {
    let mut out = String::from("Available netdev backend types:\n");
    for kind in NETDEV_KINDS {
        let _ = writeln!(out, "{kind}");
    }
    out
}

pub(crate) fn chardevs() -> String {
    format!("Available chardev backend types: \n  {}\n", BACKENDS.join("\n  "))
}

pub(crate) fn log_items() -> String {
    let mut out = String::from("Log items (comma separated):\n");
    for (name, doc) in LOG_ITEMS {
        let _ = writeln!(out, "{name:<15} {doc}");
    }
    out
}

pub(crate) fn option_keys(spec: &OptionSpec) -> String {
    properties(spec.name, spec.keys.iter())
}

fn properties<'a>(class: &str, keys: impl Iterator<Item = &'a Key>) -> String {
    let mut keys: Vec<&Key> = keys.collect();
    keys.sort_by_key(|key| key.name);
    let mut out = format!("{class} options:\n");
    for key in keys {
        let head = format!("{}=<{}>", key.name, key.kind.name());
        let default = match key.default {
            Some(default) => format!(" (default: {default})"),
            None if key.required => " (required)".to_owned(),
            None => String::new(),
        };
        let _ = writeln!(out, "  {head:<22} - {}{default}", key.doc);
    }
    out
}
