//! What a client asks about the monitor itself.

use crate::table::{self, Command, Reply};
use crate::types::{Enum, Struct, Type, member, optional};
use crate::{call::Call, schema, session};
use serde_json::{Value, json};

const CAPABILITY: Enum = Enum { name: "QMPCapability", values: &["oob"] };

const TRIPLE: Struct = Struct::new(
    "VersionTriple",
    &[member("major", Type::Int), member("minor", Type::Int), member("micro", Type::Int)],
);

const VERSION: Struct =
    Struct::new("VersionInfo", &[member("qemu", Type::Struct(&TRIPLE)), member("package", Type::Str)]);

const COMMAND: Struct = Struct::new("CommandInfo", &[member("name", Type::Str)]);

const SCHEMA_KIND: Enum = Enum {
    name: "SchemaMetaType",
    values: &["builtin", "enum", "array", "object", "alternate", "command", "event"],
};

/// QEMU makes this a union; its members are checked by the schema's own tests.
const SCHEMA: Struct =
    Struct::new("SchemaInfo", &[member("name", Type::Str), member("meta-type", Type::Enum(&SCHEMA_KIND))])
        .open();

pub(crate) const ROWS: &[Command] = &[
    Command::new(
        "qmp_capabilities",
        "Ends the negotiation. Before it no other command works and no events are told.",
        |call| call.session.negotiate(call),
    )
    .takes(&[optional("enable", Type::List(&Type::Enum(&CAPABILITY)))])
    .preconfig(),
    Command::new(
        "query-version",
        "The version of QEMU whose interface this is; `package` says who answers.",
        |_| Ok(session::version()),
    )
    .returns(Type::Struct(&VERSION))
    .preconfig(),
    Command::new("query-commands", "All commands of this target.", query_commands)
        .returns(Type::List(&Type::Struct(&COMMAND)))
        .preconfig(),
    Command::new("query-qmp-schema", "Types, commands and events as data.", query_schema)
        .returns(Type::List(&Type::Struct(&SCHEMA)))
        .preconfig(),
];

fn query_commands(call: &Call<'_>) -> Reply {
    let target = call.operator().catalogue.target();
    Ok(table::commands(target).map(|command| json!({ "name": command.name })).collect::<Vec<_>>().into())
}

fn query_schema(call: &Call<'_>) -> Reply {
    Ok(Value::Array(schema::schema(&call.operator().catalogue)))
}
