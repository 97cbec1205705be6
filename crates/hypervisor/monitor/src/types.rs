//! Types of arguments, results and event data: one description checks arguments, makes the schema and is documented.
//!
//! They describe what crosses the wire. What the values mean is in each type's documentation line.

use cloister_options::{Catalogue, Key, Kind};
use serde_json::{Map, Value};

/// A type.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the schema's own names")]
pub enum Type {
    Str,
    Bool,
    Null,
    Any,
    /// A floating-point number.
    Number,
    /// A signed number of 64 bits.
    Int,
    /// An unsigned number of this many bits.
    Unsigned(u32),
    List(&'static Type),
    Struct(&'static Struct),
    Enum(&'static Enum),
    Union(&'static Union),
    Alternate(&'static Alternate),
    /// What `object-add` takes: one variant for each object type of the catalogue.
    ObjectOptions,
}

/// An object with members.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Struct {
    /// Its name.
    pub name: &'static str,
    /// Its members.
    pub members: &'static [Member],
    /// Whether members that are not listed pass unchecked.
    pub open: bool,
}

/// A member of an object, or an argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Member {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
    /// Whether it may be missing.
    pub optional: bool,
}

/// Words to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enum {
    /// Its name.
    pub name: &'static str,
    /// The words.
    pub values: &'static [&'static str],
}

/// An object whose members depend on one of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Union {
    /// Its name.
    pub name: &'static str,
    /// Members of every variant, the tag among them.
    pub base: &'static [Member],
    /// The member that decides; an enum.
    pub tag: &'static str,
    /// Members for values of the tag; values that are not listed have none.
    pub variants: &'static [(&'static str, &'static Struct)],
}

/// One of several types that differ in their JSON type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alternate {
    /// Its name.
    pub name: &'static str,
    /// The types.
    pub types: &'static [Type],
}

/// A member that must be there.
pub const fn member(name: &'static str, kind: Type) -> Member {
    Member { name, kind, optional: false }
}

/// A member that may be missing.
pub const fn optional(name: &'static str, kind: Type) -> Member {
    Member { name, kind, optional: true }
}

impl Struct {
    /// An object with exactly these members.
    pub const fn new(name: &'static str, members: &'static [Member]) -> Self {
        Self { name, members, open: false }
    }

    /// The same, and any others besides.
    #[must_use]
    pub const fn open(mut self) -> Self {
        self.open = true;
        self
    }
}

impl Type {
    /// Checks a value; the refusal is in QEMU's words. `path` names it: `capabilities[0].state`.
    pub fn check(self, catalogue: &Catalogue, path: &str, value: &Value) -> Result<(), String> {
        let wrong = |expected| Err(format!("Invalid parameter type for '{path}', expected: {expected}"));
        match self {
            Self::Any => Ok(()),
            Self::Str if !value.is_string() => wrong("string"),
            Self::Bool if !value.is_boolean() => wrong("boolean"),
            Self::Null if !value.is_null() => wrong("null"),
            Self::Number if !value.is_number() => wrong("number"),
            Self::Int if value.as_i64().is_none() => wrong("integer"),
            Self::Str | Self::Bool | Self::Null | Self::Number | Self::Int => Ok(()),
            Self::Unsigned(bits) => check_unsigned(bits, path, value),
            Self::List(of) => match value {
                Value::Array(items) => items
                    .iter()
                    .enumerate()
                    .try_for_each(|(index, item)| of.check(catalogue, &format!("{path}[{index}]"), item)),
                _ => wrong("array"),
            },
            Self::Enum(of) => match value {
                Value::String(text) if of.values.contains(&text.as_str()) => Ok(()),
                Value::String(text) => Err(does_not_accept(path, text)),
                _ => wrong("string"),
            },
            Self::Struct(of) => match value {
                Value::Object(members) => check_members(of.members, of.open, catalogue, path, members),
                _ => wrong("object"),
            },
            Self::Union(of) => match value {
                Value::Object(members) => of.check(catalogue, path, members),
                _ => wrong("object"),
            },
            Self::Alternate(of) => {
                match of.types.iter().any(|kind| kind.check(catalogue, path, value).is_ok()) {
                    true => Ok(()),
                    false => wrong(of.name),
                }
            }
            Self::ObjectOptions => match value {
                Value::Object(members) => check_object(catalogue, path, members),
                _ => wrong("object"),
            },
        }
    }
}

impl Union {
    fn check(&self, catalogue: &Catalogue, path: &str, members: &Map<String, Value>) -> Result<(), String> {
        check_listed(self.base, catalogue, path, members)?;
        let tag = members.get(self.tag).and_then(Value::as_str);
        let variant = self.variants.iter().find(|(case, _)| Some(*case) == tag).map(|(_, variant)| *variant);
        let more = variant.map_or(&[][..], |variant| variant.members);
        check_listed(more, catalogue, path, members)?;
        let known = |name: &str| self.base.iter().chain(more).any(|member| member.name == name);
        refuse_others(known, path, members)
    }
}

/// Checks the members of an object or the arguments of a command.
pub(crate) fn check_members(
    listed: &[Member],
    open: bool,
    catalogue: &Catalogue,
    path: &str,
    members: &Map<String, Value>,
) -> Result<(), String> {
    check_listed(listed, catalogue, path, members)?;
    match open {
        true => Ok(()),
        false => refuse_others(|name| listed.iter().any(|member| member.name == name), path, members),
    }
}

fn check_listed(
    listed: &[Member],
    catalogue: &Catalogue,
    path: &str,
    members: &Map<String, Value>,
) -> Result<(), String> {
    for member in listed {
        let name = join(path, member.name);
        match members.get(member.name) {
            Some(value) => member.kind.check(catalogue, &name, value)?,
            None if member.optional => {}
            None => return Err(format!("Parameter '{name}' is missing")),
        }
    }
    Ok(())
}

fn refuse_others(
    known: impl Fn(&str) -> bool,
    path: &str,
    members: &Map<String, Value>,
) -> Result<(), String> {
    match members.keys().find(|name| !known(name)) {
        Some(name) => Err(format!("Parameter '{}' is unexpected", join(path, name))),
        None => Ok(()),
    }
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    }
}

/// QEMU names the member alone, and what is in a list has no name.
fn does_not_accept(path: &str, text: &str) -> String {
    let name = match path.ends_with(']') {
        true => "null",
        false => path.rsplit('.').next().unwrap_or(path),
    };
    format!("Parameter '{name}' does not accept value '{text}'")
}

fn check_unsigned(bits: u32, path: &str, value: &Value) -> Result<(), String> {
    let expects = match (bits, value.is_number()) {
        (64, _) => "uint64",
        (_, false) => return Err(format!("Parameter '{path}' expects uint64")),
        (32, true) => "uint32_t",
        (16, true) => "uint16_t",
        _ => "uint8_t",
    };
    match value.as_u64() {
        Some(number) if bits >= 64 || number >> bits == 0 => Ok(()),
        _ => Err(format!("Parameter '{path}' expects {expects}")),
    }
}

/// The arguments of `object-add`: `qom-type`, `id`, and the keys of that type.
fn check_object(catalogue: &Catalogue, path: &str, members: &Map<String, Value>) -> Result<(), String> {
    let missing = |name: &str| format!("Parameter '{}' is missing", join(path, name));
    for name in ["qom-type", "id"] {
        let value = members.get(name).ok_or_else(|| missing(name))?;
        Type::Str.check(catalogue, &join(path, name), value)?;
        if name == "qom-type" && object_keys(catalogue, members).is_none() {
            return Err(does_not_accept(name, value.as_str().unwrap_or_default()));
        }
    }
    let keys = object_keys(catalogue, members).unwrap_or_default();
    for key in keys {
        match members.get(key.name) {
            Some(value) => check_key(key, &join(path, key.name), value)?,
            None if key.required => return Err(missing(key.name)),
            None => {}
        }
    }
    let known = |name: &str| matches!(name, "qom-type" | "id") || keys.iter().any(|key| key.name == name);
    refuse_others(known, path, members)
}

fn object_keys(catalogue: &Catalogue, members: &Map<String, Value>) -> Option<&'static [Key]> {
    let name = members.get("qom-type")?.as_str()?;
    catalogue.objects().find(|object| object.name == name).map(|object| object.keys)
}

fn check_key(key: &Key, path: &str, value: &Value) -> Result<(), String> {
    let wrong = |expected| Err(format!("Invalid parameter type for '{path}', expected: {expected}"));
    match (key.kind, value) {
        (Kind::Bool, value) if !value.is_boolean() => wrong("boolean"),
        (Kind::Bool, _) => Ok(()),
        (Kind::Unsigned(bits), value) => check_unsigned(bits, path, value),
        (Kind::Size | Kind::Mebibytes, value) => check_unsigned(64, path, value),
        (Kind::Signed, value) if value.as_i64().is_none() => wrong("integer"),
        (Kind::Signed, _) => Ok(()),
        (Kind::OnOffAuto, Value::String(text)) if !matches!(text.as_str(), "on" | "off" | "auto") => {
            Err(does_not_accept(path, text))
        }
        (Kind::Choice(words), Value::String(text)) if !words.contains(&text.as_str()) => {
            Err(does_not_accept(path, text))
        }
        (Kind::OnOffAuto | Kind::Text | Kind::Choice(_) | Kind::Link(_) | Kind::DeviceNumber, value) => {
            match value.is_string() {
                true => Ok(()),
                false => wrong("string"),
            }
        }
    }
}
