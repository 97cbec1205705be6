//! `docs/qmp.md`, from the table.

use crate::table::{Arguments, Command, EVENTS, Requires, commands};
use crate::types::{Member, Type};
use cloister_options::Target;
use std::collections::BTreeMap;
use std::fmt::Write;

const INTRODUCTION: &str = "\
# QMP commands and events

This file is made from the table that serves the monitor; a test fails when it is out of date. To make it anew, run that
test with `CLOISTER_WRITE_DOCS=1`.

The protocol is QEMU's (QEMU Machine Protocol Specification). Limits: a value of at most 64 MiB, 2 Mi tokens and 1024
levels; 8 commands in turn, then reading stops; a client that does not read what is sent to it loses its connection when
8 MiB wait. Control characters and the bytes 0xFE and 0xFF reset the parser. Every message is ASCII and ends with CRLF.
";

/// The whole document.
pub fn document() -> String {
    let mut out = String::from(INTRODUCTION);
    let mut all: BTreeMap<&str, &Command> = BTreeMap::new();
    for target in [Target::S390x, Target::X86_64, Target::Ppc64] {
        all.extend(commands(target).map(|command| (command.name, command)));
    }
    let _ = writeln!(out, "\n## Commands");
    for command in all.values() {
        describe(command, &mut out);
    }
    let _ = writeln!(out, "\n## Events");
    for event in EVENTS {
        let _ = writeln!(out, "\n### {}\n\n{}", event.name, event.doc);
        members(event.data, &mut out);
    }
    out
}

fn describe(command: &Command, out: &mut String) {
    let _ = writeln!(out, "\n### {}\n\n{}", command.name, command.doc);
    let mut notes = Vec::new();
    if command.allow_oob {
        notes.push("may be run with `exec-oob`".to_owned());
    }
    if !command.targets.is_empty() && command.targets.len() < 3 {
        let names: Vec<_> = command.targets.iter().map(|target| target.name()).collect();
        notes.push(format!("is only for {}", names.join(", ")));
    }
    match command.requires {
        Requires::Nothing => {}
        Requires::Guest => notes.push("needs a guest".to_owned()),
        Requires::Mechanism { object, .. } => notes.push(format!("needs a guest protected by `{object}`")),
    }
    if !notes.is_empty() {
        let _ = writeln!(out, "\nIt {}.", notes.join("; it "));
    }
    match command.arguments {
        Arguments::Members(listed) => members(listed, out),
        Arguments::Open(listed) => {
            members(listed, out);
            let _ = writeln!(out, "- others, which the command checks");
        }
        Arguments::Union(of) => {
            members(of.base, out);
            for (case, variant) in of.variants {
                let _ = writeln!(out, "\nFor `{case}` also:");
                members(variant.members, out);
            }
        }
        Arguments::ObjectOptions => {
            let _ = writeln!(
                out,
                "\n- `qom-type` (string): an object type\n- `id` (string)\n- the properties of that type, see `-object \
                 TYPE,help`"
            );
        }
    }
    if let Some(kind) = command.returns {
        let _ = writeln!(out, "\nReturns: {}.", name(kind));
    }
}

fn members(listed: &[Member], out: &mut String) {
    if !listed.is_empty() {
        out.push('\n');
    }
    for member in listed {
        let optional = if member.optional { ", optional" } else { "" };
        let _ = writeln!(out, "- `{}` ({}{optional})", member.name, name(member.kind));
    }
}

fn name(kind: Type) -> String {
    match kind {
        Type::Str => "string".into(),
        Type::Bool => "boolean".into(),
        Type::Null => "null".into(),
        Type::Any => "any".into(),
        Type::Number => "number".into(),
        Type::Int => "integer".into(),
        Type::Unsigned(bits) => format!("unsigned integer of {bits} bits"),
        Type::List(of) => format!("list of {}", name(*of)),
        Type::Enum(of) => {
            format!("one of {}", of.values.iter().map(|v| format!("`{v}`")).collect::<Vec<_>>().join(", "))
        }
        Type::Struct(of) if of.members.is_empty() => "object".into(),
        Type::Struct(of) => format!("object with {}", listed(of.members)),
        Type::Union(of) => {
            let more: Vec<_> = of
                .variants
                .iter()
                .map(|(case, variant)| format!("for `{case}` also {}", listed(variant.members)))
                .collect();
            format!("object with {}; {}", listed(of.base), more.join("; "))
        }
        Type::Alternate(of) => of.types.iter().map(|kind| name(*kind)).collect::<Vec<_>>().join(" or "),
        Type::ObjectOptions => "what object-add takes".into(),
    }
}

fn listed(members: &[Member]) -> String {
    let one = |member: &Member| match member.optional {
        true => format!("`{}` if known", member.name),
        false => format!("`{}`", member.name),
    };
    members.iter().map(one).collect::<Vec<_>>().join(", ")
}
