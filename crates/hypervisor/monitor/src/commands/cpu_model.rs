//! CPU models: what a name stands for.

use crate::call::Call;
use crate::table::{Command, Reply};
use crate::types::{Enum, Struct, Type, member, optional};
use cloister_control::ControlError;
use cloister_options::Target;
use serde_json::json;

const EXPANSION: Enum = Enum { name: "CpuModelExpansionType", values: &["static", "full"] };
const MODEL: Struct = Struct::new("CpuModelInfo", &[member("name", Type::Str), optional("props", Type::Any)]);
const EXPANDED: Struct = Struct::new("CpuModelExpansionInfo", &[member("model", Type::Struct(&MODEL))]);

pub(crate) const ROWS: &[Command] = &[Command::new(
    "query-cpu-model-expansion",
    "The features that a CPU model stands for, named one by one.",
    expand,
)
.takes(&[member("type", Type::Enum(&EXPANSION)), member("model", Type::Struct(&MODEL))])
.returns(Type::Struct(&EXPANDED))
.only_for(&[Target::S390x])];

fn expand(call: &Call<'_>) -> Reply {
    let name = call.arguments()["model"]["name"].as_str().unwrap_or_default();
    if !call.operator().catalogue.cpus().iter().any(|model| model.name == name) {
        return Err(ControlError::new(format!("The CPU definition '{name}' is unknown.")));
    }
    Ok(json!({ "model": { "name": name } }))
}
