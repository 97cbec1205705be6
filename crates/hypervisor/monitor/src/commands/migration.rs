//! Migration: what can be said of it before there is any.

use crate::call::Call;
use crate::monitor::lock;
use crate::table::{Command, Reply};
use crate::types::{Enum, Struct, Type, member, optional};
use cloister_control::ControlError;
use serde_json::{Value, json};

/// Only what works is listed; QEMU has more, and clients look before they set one.
const CAPABILITY: Enum = Enum { name: "MigrationCapability", values: &["events"] };

const STATUS: Struct = Struct::new(
    "MigrationCapabilityStatus",
    &[member("capability", Type::Enum(&CAPABILITY)), member("state", Type::Bool)],
);

const MIGRATION_STATUS: Enum = Enum {
    name: "MigrationStatus",
    values: &["none", "setup", "cancelling", "cancelled", "active", "completed", "failed", "device"],
};

const INFO: Struct = Struct::new(
    "MigrationInfo",
    &[optional("status", Type::Enum(&MIGRATION_STATUS)), optional("blocked-reasons", Type::List(&Type::Str))],
);

const PARAMETERS: Struct = Struct::new("MigrationParameters", &[]);

pub(crate) const ROWS: &[Command] = &[
    Command::new("query-migrate-capabilities", "Switches of migration.", query_capabilities)
        .returns(Type::List(&Type::Struct(&STATUS))),
    Command::new("migrate-set-capabilities", "Sets switches of migration.", set_capabilities)
        .takes(&[member("capabilities", Type::List(&Type::Struct(&STATUS)))]),
    Command::new("query-migrate-parameters", "Numbers of migration: none yet.", |_| Ok(json!({})))
        .returns(Type::Struct(&PARAMETERS)),
    Command::new("query-migrate", "How a migration goes, and what stands in the way of one.", query_migrate)
        .returns(Type::Struct(&INFO)),
    Command::new(
        "migrate",
        "Refused: this version cannot migrate. The answer names what else stands in the way.",
        migrate,
    )
    .takes(&[
        member("uri", Type::Str),
        optional("blk", Type::Bool),
        optional("inc", Type::Bool),
        optional("detach", Type::Bool),
        optional("resume", Type::Bool),
    ]),
    Command::new("migrate_cancel", "Ends a migration; without one it does nothing.", |_| Ok(json!({}))),
];

fn query_capabilities(call: &Call<'_>) -> Reply {
    let set = lock(&call.monitor().migration);
    let status =
        |name: &&str| json!({ "capability": name, "state": set.get(*name).copied().unwrap_or(false) });
    Ok(CAPABILITY.values.iter().map(status).collect())
}

fn set_capabilities(call: &Call<'_>) -> Reply {
    let mut set = lock(&call.monitor().migration);
    for change in call.objects("capabilities") {
        if let (Some(Value::String(name)), Some(Value::Bool(state))) =
            (change.get("capability"), change.get("state"))
        {
            set.insert(name.clone(), *state);
        }
    }
    Ok(json!({}))
}

fn query_migrate(call: &Call<'_>) -> Reply {
    let blockers = call.machine().migration_blockers();
    Ok(match blockers.is_empty() {
        true => json!({}),
        false => json!({ "blocked-reasons": blockers }),
    })
}

fn migrate(call: &Call<'_>) -> Reply {
    let uri = call.required("uri");
    let known =
        ["tcp:", "unix:", "fd:", "file:", "exec:", "rdma:"].iter().any(|scheme| uri.starts_with(scheme));
    if !known {
        return Err(ControlError::new("Parameter 'uri' expects a valid migration protocol"));
    }
    let mut reasons = call.machine().migration_blockers();
    reasons.push(
        "this version of Cloister cannot migrate guests yet; shut the guest down and start it on the other host".into(),
    );
    Err(ControlError::new(reasons.join("; ")))
}
