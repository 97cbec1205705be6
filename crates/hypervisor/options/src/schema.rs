//! Keys with types, defaults and documentation: what an object, a device or an option takes.
//!
//! The same [`Key`] checks a value and prints its line of help, so neither can omit one.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::devno::DeviceNumber;
use crate::error::Problem;
use crate::flat::FlatOptions;
use crate::value::{SizeError, parse_bool, parse_number, parse_size};

/// One key of an object, a device, a machine or an option.
#[derive(Clone, Debug)]
pub struct Key {
    /// The name before the `=`.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What holds if it is not given, as help shows it.
    pub default: Option<&'static str>,
    /// Whether it must be given.
    pub required: bool,
    /// One line for the user.
    pub doc: &'static str,
}

impl Key {
    /// An optional key.
    pub const fn new(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { name, kind, default: None, required: false, doc }
    }

    /// The same key with a default that help shows.
    #[must_use]
    pub const fn default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    /// The same key, now to be given always.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }
}

/// The type of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `on` or `off`.
    Bool,
    /// `on`, `off` or `auto`.
    OnOffAuto,
    /// Any text.
    Text,
    /// An unsigned number of at most this many bits.
    Unsigned(u32),
    /// A signed number of 32 bits.
    Signed,
    /// A size in bytes with an optional suffix.
    Size,
    /// A size in MiB with an optional suffix.
    Mebibytes,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// The id of an object of this type.
    Link(&'static str),
    /// A device number of the channel subsystem.
    DeviceNumber,
}

impl Kind {
    /// The type as help prints it between angle brackets.
    pub fn name(self) -> String {
        match self {
            Self::Bool => "bool".into(),
            Self::OnOffAuto => "OnOffAuto".into(),
            Self::Text | Self::DeviceNumber => "str".into(),
            Self::Unsigned(bits) => format!("uint{bits}"),
            Self::Signed => "int32".into(),
            Self::Size | Self::Mebibytes => "size".into(),
            Self::Choice(words) => words.join("|"),
            Self::Link(to) => format!("link<{to}>"),
        }
    }
}

/// `on`, `off`, or the default of whoever decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOffAuto {
    /// Whoever decides may.
    #[default]
    Auto,
    /// The user said on.
    On,
    /// The user said off.
    Off,
}

/// A checked value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PropertyValue {
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::OnOffAuto`].
    OnOffAuto(OnOffAuto),
    /// Of [`Kind::Text`], [`Kind::Choice`] and [`Kind::Link`].
    Text(String),
    /// Of [`Kind::Unsigned`], [`Kind::Size`] and [`Kind::Mebibytes`] (in bytes).
    Number(u64),
    /// Of [`Kind::Signed`].
    Signed(i32),
    /// Of [`Kind::DeviceNumber`].
    DeviceNumber(DeviceNumber),
}

/// The checked keys that the user gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, PropertyValue>);

impl Properties {
    /// The value of a key if it was given.
    pub fn get(&self, name: &str) -> Option<&PropertyValue> {
        self.0.get(name)
    }

    /// A boolean if it was given.
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.get(name) {
            Some(PropertyValue::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    /// `on`, `off` or `auto` if it was given.
    pub fn on_off_auto(&self, name: &str) -> Option<OnOffAuto> {
        match self.get(name) {
            Some(PropertyValue::OnOffAuto(value)) => Some(*value),
            _ => None,
        }
    }

    /// A text, a word of a choice or the id behind a link, if it was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(PropertyValue::Text(value)) => Some(value),
            _ => None,
        }
    }

    /// A number or a size in bytes if it was given.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.get(name) {
            Some(PropertyValue::Number(value)) => Some(*value),
            _ => None,
        }
    }

    /// A device number if it was given.
    pub fn device_number(&self, name: &str) -> Option<DeviceNumber> {
        match self.get(name) {
            Some(PropertyValue::DeviceNumber(value)) => Some(*value),
            _ => None,
        }
    }

    /// All keys that were given, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &PropertyValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Take over a later occurrence of the same option: its keys win.
    pub(crate) fn merge(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    pub(crate) fn set(&mut self, name: &str, value: PropertyValue) {
        self.0.insert(name.to_owned(), value);
    }
}

/// Whose words a refusal uses: QEMU has grown several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// Options such as `-m` and `-name`.
    Option,
    /// `-object`.
    Object,
    /// `-device`.
    Device,
}

/// A schema with the name of what it describes.
pub(crate) struct Schema<'a> {
    pub(crate) class: &'a str,
    pub(crate) keys: &'a [Key],
    pub(crate) words: Words,
}

impl Schema<'_> {
    /// Check the keys of a flat argument; keys named in `beside` are somebody else's.
    pub(crate) fn read_flat(&self, options: &FlatOptions, beside: &[&str]) -> Result<Properties, Problem> {
        let mut out = Properties::default();
        for key in self.keys {
            match options.get(key.name) {
                Some(text) => out.set(key.name, self.value(key, text)?),
                None if key.required => return Err(Problem::Missing(key.name.to_owned())),
                None => {}
            }
        }
        for (name, _) in &options.entries {
            if !self.knows(name) && !beside.contains(&name.as_str()) {
                return Err(self.unknown(name, false));
            }
        }
        Ok(out)
    }

    /// Check the members of a JSON argument.
    pub(crate) fn read_json(
        &self,
        members: &Map<String, Value>,
        beside: &[&str],
    ) -> Result<Properties, Problem> {
        let mut out = Properties::default();
        for key in self.keys {
            match members.get(key.name) {
                Some(value) => out.set(key.name, self.json_value(key, value)?),
                None if key.required => return Err(Problem::Missing(key.name.to_owned())),
                None => {}
            }
        }
        for name in members.keys() {
            if !self.knows(name) && !beside.contains(&name.as_str()) {
                return Err(self.unknown(name, true));
            }
        }
        Ok(out)
    }

    fn knows(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key.name == name)
    }

    fn unknown(&self, name: &str, json: bool) -> Problem {
        let name = name.to_owned();
        match self.words {
            Words::Device => Problem::PropertyNotFound { class: self.class.to_owned(), name },
            Words::Object if json => Problem::Unexpected(name),
            Words::Object | Words::Option => Problem::InvalidParameter(name),
        }
    }

    pub(crate) fn value(&self, key: &Key, text: &str) -> Result<PropertyValue, Problem> {
        let name = || key.name.to_owned();
        let expects = |what| Problem::Expects { name: name(), what };
        Ok(match key.kind {
            Kind::Bool => PropertyValue::Bool(parse_bool(text).ok_or_else(|| expects("'on' or 'off'"))?),
            Kind::OnOffAuto => PropertyValue::OnOffAuto(self.on_off_auto(key, text)?),
            Kind::Text | Kind::Link(_) => PropertyValue::Text(text.to_owned()),
            Kind::Unsigned(bits) => {
                let malformed = match self.words {
                    Words::Option => "a number",
                    Words::Object => "a uint64 value",
                    Words::Device => "integer",
                };
                let number = parse_number(text);
                match number {
                    Some(number) => PropertyValue::Number(within(key, bits, number)?),
                    // A sign makes it a number out of range.
                    None if self.words == Words::Device && text.parse::<i64>().is_ok() => {
                        return Err(expects(unsigned_name(bits)));
                    }
                    None => return Err(expects(malformed)),
                }
            }
            Kind::Signed => PropertyValue::Signed(text.parse().map_err(|_| expects("int32_t"))?),
            Kind::Size => match parse_size(text, 1) {
                Ok(bytes) => PropertyValue::Number(bytes),
                Err(_) => return Err(expects("a size value")),
            },
            Kind::Mebibytes => match parse_size(text, 1 << 20) {
                Ok(bytes) => PropertyValue::Number(bytes),
                Err(SizeError::Malformed) => return Err(Problem::NotASize(name())),
                Err(SizeError::OutOfRange) => {
                    return Err(Problem::OutOfRange { name: name(), value: text.to_owned() });
                }
            },
            Kind::Choice(words) if words.contains(&text) => PropertyValue::Text(text.to_owned()),
            Kind::Choice(_) => {
                return Err(Problem::DoesNotAccept { name: name(), value: text.to_owned() });
            }
            Kind::DeviceNumber => PropertyValue::DeviceNumber(self.device_number(key, text)?),
        })
    }

    fn json_value(&self, key: &Key, value: &Value) -> Result<PropertyValue, Problem> {
        let wrong = |expected| Problem::WrongType { name: key.name.to_owned(), expected };
        match key.kind {
            Kind::Bool => Ok(PropertyValue::Bool(value.as_bool().ok_or_else(|| wrong("boolean"))?)),
            Kind::Unsigned(_) | Kind::Size | Kind::Mebibytes => {
                let bits = match key.kind {
                    Kind::Unsigned(bits) => bits,
                    _ => 64,
                };
                let number = value
                    .as_u64()
                    .ok_or_else(|| Problem::Expects { name: key.name.to_owned(), what: "uint64" })?;
                Ok(PropertyValue::Number(within(key, bits, number)?))
            }
            Kind::Signed => value
                .as_i64()
                .and_then(|number| i32::try_from(number).ok())
                .map(PropertyValue::Signed)
                .ok_or_else(|| wrong("integer")),
            Kind::OnOffAuto | Kind::Text | Kind::Link(_) | Kind::Choice(_) | Kind::DeviceNumber => {
                self.value(key, value.as_str().ok_or_else(|| wrong("string"))?)
            }
        }
    }

    fn on_off_auto(&self, key: &Key, text: &str) -> Result<OnOffAuto, Problem> {
        match text {
            "auto" => Ok(OnOffAuto::Auto),
            "on" => Ok(OnOffAuto::On),
            "off" => Ok(OnOffAuto::Off),
            _ => Err(Problem::DoesNotAccept { name: key.name.to_owned(), value: text.to_owned() }),
        }
    }

    fn device_number(&self, key: &Key, text: &str) -> Result<DeviceNumber, Problem> {
        let (cssid, ssid, number) = DeviceNumber::split(text).ok_or_else(|| Problem::DeviceValue {
            class: self.class.to_owned(),
            name: key.name.to_owned(),
            value: text.to_owned(),
        })?;
        DeviceNumber::new(cssid, ssid, number).ok_or(Problem::ChannelPath { cssid, ssid })
    }
}

fn within(key: &Key, bits: u32, number: u64) -> Result<u64, Problem> {
    if bits < 64 && number >> bits != 0 {
        return Err(Problem::Expects { name: key.name.to_owned(), what: unsigned_name(bits) });
    }
    Ok(number)
}

fn unsigned_name(bits: u32) -> &'static str {
    match bits {
        8 => "uint8_t",
        16 => "uint16_t",
        32 => "uint32_t",
        _ => "uint64_t",
    }
}
