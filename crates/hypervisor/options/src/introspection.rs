//! The options as data, in the shape of QMP's `query-command-line-options`, from the table that parses them.
//!
//! Types of objects and devices are not here: the [catalogue](crate::Catalogue) has their keys.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::catalogue::Catalogue;
use crate::schema::{Key, Kind};
use crate::table::{self, Section, options};

/// An option with what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionInfo {
    /// The name under which QEMU lists it: for some not the name that the user types (`smp-opts`).
    pub option: &'static str,
    /// Its keys.
    pub parameters: Vec<ParameterInfo>,
}

/// A key of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of QMP's CommandLineParameterInfo")]
pub struct ParameterInfo {
    pub name: &'static str,
    pub kind: ParameterKind,
    pub help: Option<&'static str>,
    pub default: Option<&'static str>,
}

/// The type of a key, as QMP's `CommandLineParameterType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ParameterKind {
    String,
    Boolean,
    Number,
    Size,
}

/// Every option that takes keys, for `query-command-line-options`.
pub fn command_line_options(catalogue: &Catalogue) -> Vec<OptionInfo> {
    let mut out: Vec<OptionInfo> = options()
        .filter(|spec| spec.section != Section::Later && !spec.keys.is_empty())
        .map(|spec| OptionInfo {
            option: qemu_name(spec.name),
            parameters: spec.keys.iter().map(ParameterInfo::from).collect(),
        })
        .collect();
    out.push(OptionInfo { option: "machine", parameters: machine_parameters(catalogue) });
    // These take the keys of a type that the user names.
    for option in ["object", "device"] {
        out.push(OptionInfo { option, parameters: Vec::new() });
    }
    out.sort_by_key(|info| info.option);
    out
}

/// The same as the value that QMP returns; `only` picks one option, and `None` says that there is no such option.
pub fn command_line_options_json(catalogue: &Catalogue, only: Option<&str>) -> Option<Value> {
    let mut all = command_line_options(catalogue);
    all.retain(|info| only.is_none_or(|only| info.option == only));
    (only.is_none() || !all.is_empty()).then(|| all.iter().map(OptionInfo::to_json).collect())
}

impl OptionInfo {
    /// The value in QMP's shape.
    pub fn to_json(&self) -> Value {
        let parameters: Value = self.parameters.iter().map(ParameterInfo::to_json).collect();
        json!({"option": self.option, "parameters": parameters})
    }
}

impl ParameterInfo {
    fn to_json(&self) -> Value {
        let mut out = json!({"name": self.name, "type": self.kind.name()});
        for (name, value) in [("help", self.help), ("default", self.default)] {
            if let Some(value) = value {
                out[name] = json!(value);
            }
        }
        out
    }
}

impl From<&Key> for ParameterInfo {
    fn from(key: &Key) -> Self {
        let kind = match key.kind {
            Kind::Bool => ParameterKind::Boolean,
            Kind::Unsigned(_) | Kind::Signed => ParameterKind::Number,
            Kind::Size | Kind::Mebibytes => ParameterKind::Size,
            Kind::OnOffAuto | Kind::Text | Kind::Choice(_) | Kind::Link(_) | Kind::DeviceNumber => {
                ParameterKind::String
            }
        };
        Self { name: key.name, kind, help: Some(key.doc), default: key.default }
    }
}

impl ParameterKind {
    /// QMP's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Boolean => "boolean",
            Self::Number => "number",
            Self::Size => "size",
        }
    }
}

/// The properties of all machines of the target, and what `-machine` itself takes.
fn machine_parameters(catalogue: &Catalogue) -> Vec<ParameterInfo> {
    let own = [
        Key::new("type", Kind::Text, "the machine type"),
        Key::new("accel", Kind::Text, "accelerators in order of preference, separated by colons"),
    ];
    let mut all = BTreeMap::new();
    for key in own.iter().chain(catalogue.machines().iter().flat_map(|machine| machine.keys)) {
        all.entry(key.name).or_insert_with(|| ParameterInfo::from(key));
    }
    all.into_values().collect()
}

fn qemu_name(name: &'static str) -> &'static str {
    debug_assert!(table::find(name).is_some());
    match name {
        "smp" => "smp-opts",
        "boot" => "boot-opts",
        "m" => "memory",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;

    #[test]
    fn each_option_is_listed_once_with_its_keys() {
        let all = command_line_options(&Catalogue::new(Target::S390x));
        assert!(all.windows(2).all(|pair| pair[0].option < pair[1].option));
        let find = |name: &str| all.iter().find(|info| info.option == name).expect("it is listed");
        let sandbox = find("sandbox");
        assert_eq!(sandbox.parameters[0].kind, ParameterKind::Boolean);
        assert!(find("machine").parameters.iter().any(|p| p.name == "confidential-guest-support"));
        assert!(find("chardev").parameters.iter().any(|p| p.name == "reconnect"));
        assert!(find("smp-opts").parameters.iter().all(|p| p.kind == ParameterKind::Number));
        assert!(find("device").parameters.is_empty());
    }

    #[test]
    fn one_option_or_none() {
        let catalogue = Catalogue::new(Target::X86_64);
        let one = command_line_options_json(&catalogue, Some("msg")).unwrap();
        assert_eq!(one[0]["option"], "msg");
        assert_eq!(one[0]["parameters"][0]["name"], "timestamp");
        assert_eq!(command_line_options_json(&catalogue, Some("foo")), None);
    }
}
