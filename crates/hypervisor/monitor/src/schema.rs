//! The table as data for `query-qmp-schema`.
//!
//! As in QEMU, the names of types are numbers: clients find types by following commands and events, not by name.

use crate::table::{self, Arguments, EVENTS};
use crate::types::{Member, Type};
use cloister_options::{Catalogue, Key, Kind};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Commands, events and the types that they lead to.
pub(crate) fn schema(catalogue: &Catalogue) -> Vec<Value> {
    let mut builder = Builder { catalogue, names: BTreeMap::new(), entries: Vec::new() };
    builder.empty();
    let mut out = Vec::new();
    for command in table::commands(catalogue.target()) {
        let argument = match command.arguments {
            Arguments::Members(members) | Arguments::Open(members) => {
                builder.members_of(&format!("{}-arg", command.name), members)
            }
            Arguments::ObjectOptions => builder.of(Type::ObjectOptions),
            Arguments::Union(of) => builder.of(Type::Union(of)),
        };
        let returned = match command.returns {
            Some(kind) => builder.of(kind),
            None => builder.empty(),
        };
        let mut entry = json!({
            "name": command.name, "meta-type": "command", "arg-type": argument, "ret-type": returned,
        });
        if command.allow_oob {
            set(&mut entry, "allow-oob", json!(true));
        }
        out.push(entry);
    }
    for event in EVENTS {
        let data = builder.members_of(&format!("{}-arg", event.name), event.data);
        out.push(json!({ "name": event.name, "meta-type": "event", "arg-type": data }));
    }
    out.extend(builder.entries);
    out
}

struct Builder<'a> {
    catalogue: &'a Catalogue,
    /// Masked names by real ones.
    names: BTreeMap<String, String>,
    entries: Vec<Value>,
}

impl Builder<'_> {
    /// The name of a type; described if it is not yet.
    fn of(&mut self, kind: Type) -> String {
        match kind {
            Type::Str => self.builtin("str", "string"),
            Type::Bool => self.builtin("bool", "boolean"),
            Type::Null => self.builtin("null", "null"),
            Type::Any => self.builtin("any", "value"),
            Type::Number => self.builtin("number", "number"),
            Type::Int | Type::Unsigned(_) => self.builtin("int", "int"),
            Type::List(of) => {
                let element = self.of(*of);
                let name = format!("[{element}]");
                if self.names.insert(name.clone(), name.clone()).is_none() {
                    self.entries.push(json!({ "name": name, "meta-type": "array", "element-type": element }));
                }
                name
            }
            Type::Enum(of) => self.choice(of.name, of.values),
            Type::Struct(of) => self.members_of(of.name, of.members),
            Type::Alternate(of) => self.once(of.name, |builder| {
                let members: Vec<_> =
                    of.types.iter().map(|kind| json!({ "type": builder.of(*kind) })).collect();
                json!({ "meta-type": "alternate", "members": members })
            }),
            Type::Union(of) => self.once(of.name, |builder| {
                let cases = of.base.iter().find(|member| member.name == of.tag).map(|member| member.kind);
                let cases = match cases {
                    Some(Type::Enum(cases)) => cases.values,
                    _ => &[],
                };
                let variants: Vec<_> = cases
                    .iter()
                    .map(|case| {
                        let variant = of.variants.iter().find(|(name, _)| name == case);
                        let kind = match variant {
                            Some((_, variant)) => builder.members_of(variant.name, variant.members),
                            None => builder.empty(),
                        };
                        json!({ "case": case, "type": kind })
                    })
                    .collect();
                let members = builder.members(of.base);
                json!({ "meta-type": "object", "members": members, "tag": of.tag, "variants": variants })
            }),
            Type::ObjectOptions => self.once("ObjectOptions", Self::object_options),
        }
    }

    fn object_options(&mut self) -> Value {
        let catalogue = self.catalogue;
        let names: Vec<_> = catalogue.objects().map(|object| object.name).collect();
        let tag = self.choice("ObjectType", &names);
        let id = self.of(Type::Str);
        let variants: Vec<_> = catalogue
            .objects()
            .map(|object| {
                let kind = self.once(&format!("{}Properties", object.name), |builder| {
                    let members: Vec<_> =
                        object.keys.iter().map(|key| builder.key(object.name, key)).collect();
                    json!({ "meta-type": "object", "members": members })
                });
                json!({ "case": object.name, "type": kind })
            })
            .collect();
        json!({
            "meta-type": "object",
            "members": [{ "name": "qom-type", "type": tag }, { "name": "id", "type": id }],
            "tag": "qom-type",
            "variants": variants,
        })
    }

    fn key(&mut self, object: &str, key: &Key) -> Value {
        let kind = match key.kind {
            Kind::Bool => self.of(Type::Bool),
            Kind::Unsigned(_) | Kind::Signed | Kind::Size | Kind::Mebibytes => self.of(Type::Int),
            Kind::Text | Kind::Link(_) | Kind::DeviceNumber => self.of(Type::Str),
            Kind::OnOffAuto => self.choice("OnOffAuto", &["auto", "on", "off"]),
            Kind::Choice(words) => self.choice(&format!("{object}.{}", key.name), words),
        };
        member(key.name, kind, !key.required)
    }

    fn builtin(&mut self, name: &str, json_type: &str) -> String {
        if self.names.insert(name.to_owned(), name.to_owned()).is_none() {
            self.entries.push(json!({ "name": name, "meta-type": "builtin", "json-type": json_type }));
        }
        name.to_owned()
    }

    fn empty(&mut self) -> String {
        self.once("q_empty", |_| json!({ "meta-type": "object", "members": [] }))
    }

    fn choice(&mut self, name: &str, values: &[&str]) -> String {
        self.once(name, |_| {
            let members: Vec<_> = values.iter().map(|value| json!({ "name": value })).collect();
            json!({ "meta-type": "enum", "members": members, "values": values })
        })
    }

    fn members_of(&mut self, name: &str, members: &[Member]) -> String {
        match members {
            [] => self.empty(),
            _ => self
                .once(name, |builder| json!({ "meta-type": "object", "members": builder.members(members) })),
        }
    }

    fn members(&mut self, members: &[Member]) -> Vec<Value> {
        members.iter().map(|one| member(one.name, self.of(one.kind), one.optional)).collect()
    }

    /// The masked name of a type; `describe` makes its entry the first time.
    fn once(&mut self, name: &str, describe: impl FnOnce(&mut Self) -> Value) -> String {
        if let Some(masked) = self.names.get(name) {
            return masked.clone();
        }
        let number = self.names.values().filter(|masked| masked.bytes().all(|b| b.is_ascii_digit())).count();
        let masked = number.to_string();
        self.names.insert(name.to_owned(), masked.clone());
        let mut entry = describe(self);
        set(&mut entry, "name", json!(masked));
        self.entries.push(entry);
        masked
    }
}

fn member(name: &str, kind: String, optional: bool) -> Value {
    let mut out = json!({ "name": name, "type": kind });
    if optional {
        // The default's value is not told, only that the member may be missing.
        set(&mut out, "default", Value::Null);
    }
    out
}

fn set(entry: &mut Value, name: &str, value: Value) {
    if let Value::Object(members) = entry {
        members.insert(name.to_owned(), value);
    }
}
