//! The human monitor, through QMP.

use crate::call::Call;
use crate::table::{Command, Reply};
use crate::types::{Struct, Type, member, optional};
use cloister_control::{ControlError, profile};
use serde_json::json;

const TEXT: Struct = Struct::new("HumanReadableText", &[member("human-readable-text", Type::Str)]);

pub(crate) const ROWS: &[Command] = &[
    Command::new("x-query-jit", "What translating the guest's code has cost, and yielded.", |call| {
        Ok(json!({ "human-readable-text": profile::jit(call.machine())? }))
    })
    .returns(Type::Struct(&TEXT)),
    Command::new(
        "human-monitor-command",
        "A line of the human monitor; the answer is its text, with CRLF line ends.",
        command,
    )
    .takes(&[member("command-line", Type::Str), optional("cpu-index", Type::Int)])
    .returns(Type::Str),
];

fn command(call: &Call<'_>) -> Reply {
    let cpu = match call.int("cpu-index") {
        None => None,
        Some(index) => {
            let cpu = call.machine().cpus().into_iter().find(|cpu| i64::from(cpu.index) == index);
            Some(cpu.ok_or_else(|| ControlError::new("Parameter 'cpu-index' expects a CPU number"))?.index)
        }
    };
    Ok(cloister_human_monitor::command(call.operator(), call.required("command-line"), cpu).into())
}
