//! CPU models: what a name stands for.
//!
//! The table says what QEMU's names mean. What the core lacks of it is left out when a machine starts.

use crate::call::Call;
use crate::qom_types;
use crate::table::{Command, Reply};
use crate::types::{Enum, Struct, Type, member, optional};
use cloister_control::ControlError;
use cloister_options::{Target, s390x_feature_names};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const EXPANSION: Enum = Enum { name: "CpuModelExpansionType", values: &["static", "full"] };
const MODEL: Struct = Struct::new("CpuModelInfo", &[member("name", Type::Str), optional("props", Type::Any)]);
const EXPANDED: Struct = Struct::new("CpuModelExpansionInfo", &[member("model", Type::Struct(&MODEL))]);

const MODELS: &str = include_str!("s390x-models.txt");

pub(crate) const ROWS: &[Command] = &[Command::new(
    "query-cpu-model-expansion",
    "The features that a CPU model stands for: `full` names them all, `static` what comes to a `-base` model, which \
     never changes. Models that follow the platform (`qemu`, `max`) have no expansion.",
    expand,
)
.takes(&[member("type", Type::Enum(&EXPANSION)), member("model", Type::Struct(&MODEL))])
.returns(Type::Struct(&EXPANDED))
.only_for(&[Target::S390x])];

fn expand(call: &Call<'_>) -> Reply {
    let model = call.arguments().get("model").and_then(Value::as_object);
    let name = model.and_then(|model| model.get("name")).and_then(Value::as_str).unwrap_or_default();
    let changes = match model.and_then(|model| model.get("props")) {
        None => None,
        Some(Value::Object(changes)) => Some(changes),
        Some(_) => return Err(ControlError::new("Invalid parameter type for 'props', expected: dict")),
    };
    if !call.operator().catalogue.cpus().iter().any(|known| known.name == name) {
        return Err(ControlError::new(format!("The CPU definition '{name}' is unknown.")));
    }
    let generation = name.strip_suffix("-base").unwrap_or(name);
    let Some(features) = features(generation) else {
        return Err(ControlError::new(format!(
            "The CPU model '{name}' follows the platform that a machine runs on and has no fixed features; name a \
             model such as 'gen15a-base'"
        )));
    };
    let mut props: Map<String, Value> = Map::new();
    if call.text("type") == Some("full") {
        let all = MODELS.lines().find_map(|line| line.strip_prefix("universe: ")).unwrap_or_default();
        props.extend(all.split(' ').map(|one| (one.to_owned(), json!(features.base.contains(one)))));
    }
    if generation == name {
        props.extend(features.more.iter().map(|one| ((*one).to_owned(), json!(true))));
    }
    for (feature, value) in changes.into_iter().flatten() {
        if !s390x_feature_names().any(|known| known == feature) {
            let class = qom_types::cpu_type(Target::S390x, name);
            return Err(ControlError::new(format!("Property '{class}.{feature}' not found")));
        }
        match value {
            // What is off in the base model too need not be said.
            Value::Bool(false)
                if call.text("type") == Some("static") && !features.base.contains(feature.as_str()) =>
            {
                props.remove(feature);
            }
            Value::Bool(_) => drop(props.insert(feature.clone(), value.clone())),
            _ => {
                let text = format!("Invalid parameter type for '{feature}', expected: boolean");
                return Err(ControlError::new(text));
            }
        }
    }
    let base = format!("{generation}-base");
    Ok(match props.is_empty() {
        true => json!({ "model": { "name": base } }),
        false => json!({ "model": { "name": base, "props": props } }),
    })
}

struct Features {
    /// Of the `-base` form.
    base: BTreeSet<&'static str>,
    /// Of the model beyond that.
    more: Vec<&'static str>,
}

fn features(model: &str) -> Option<Features> {
    let mut base = BTreeSet::new();
    let lines = MODELS.lines().filter(|line| !line.starts_with('#') && !line.starts_with("universe:"));
    for line in lines {
        let (name, features) = line.split_once(':')?;
        let (change, more) = features.split_once('|')?;
        for change in change.split_whitespace() {
            match change.strip_prefix('-') {
                Some(less) => drop(base.remove(less)),
                None => drop(base.insert(change.trim_start_matches('+'))),
            }
        }
        if name == model {
            return Some(Features { base, more: more.split_whitespace().collect() });
        }
    }
    None
}
