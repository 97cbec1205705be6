//! The object tree: looking at it, and adding to it.

use crate::call::Call;
use crate::commands::catalogue::PROPERTY;
use crate::qom;
use crate::table::{Command, Reply};
use crate::types::{Type, member};
use cloister_control::ControlError;
use serde_json::{Value, json};

pub(crate) const ROWS: &[Command] = &[
    Command::new("qom-list", "Properties and children of an object.", qom_list)
        .takes(&[member("path", Type::Str)])
        .returns(Type::List(&Type::Struct(&PROPERTY))),
    Command::new("qom-get", "The value of a property.", qom_get)
        .takes(&[member("path", Type::Str), member("property", Type::Str)])
        .returns(Type::Any),
    Command::new(
        "qom-set",
        "Sets a property. Only that of a balloon's polling can change after the start.",
        qom_set,
    )
    .takes(&[member("path", Type::Str), member("property", Type::Str), member("value", Type::Any)]),
];

fn qom_list(call: &Call<'_>) -> Reply {
    let root = qom::tree(call.operator());
    let (node, _) = qom::resolve(&root, call.required("path"))?;
    let mut out = vec![json!({ "name": "type", "type": "string" })];
    out.extend(
        node.properties.iter().map(|property| json!({ "name": property.name, "type": property.kind })),
    );
    out.extend(
        node.children
            .iter()
            .map(|(name, child)| json!({ "name": name, "type": format!("child<{}>", child.kind) })),
    );
    Ok(Value::Array(out))
}

fn qom_get(call: &Call<'_>) -> Reply {
    let root = qom::tree(call.operator());
    let (node, path) = qom::resolve(&root, call.required("path"))?;
    let name = call.required("property");
    node.get(&path, name).ok_or_else(|| not_found(&node.kind, name))
}

fn qom_set(call: &Call<'_>) -> Reply {
    let root = qom::tree(call.operator());
    let (node, path) = qom::resolve(&root, call.required("path"))?;
    let name = call.required("property");
    if let Some(value) = call.arguments().get("value")
        && let Some(done) = call.machine().set_property(&path, name, value)
    {
        return done.map(|()| json!({}));
    }
    Err(match node.get(&path, name) {
        Some(_) => ControlError::new(format!("Property '{}.{name}' is not writable", node.kind)),
        None => not_found(&node.kind, name),
    })
}

fn not_found(kind: &str, name: &str) -> ControlError {
    ControlError::new(format!("Property '{kind}.{name}' not found"))
}
