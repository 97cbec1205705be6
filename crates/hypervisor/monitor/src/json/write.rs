//! Values to ASCII.

use serde_json::Value;
use std::fmt::Write;

/// Appends a value: on one line as `{"a": 1, "b": [2]}`, or indented by four spaces for each level from `indent`.
pub(crate) fn write_value(value: &Value, pretty: bool, indent: usize, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => {
            let _ = write!(out, "{number}");
        }
        Value::String(text) => quoted(text, out),
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                separate(index, pretty, indent + 1, out);
                write_value(item, pretty, indent + 1, out);
            }
            end(pretty, indent, out);
            out.push(']');
        }
        Value::Object(members) if members.is_empty() => out.push_str("{}"),
        Value::Object(members) => {
            out.push('{');
            for (index, (name, member)) in members.iter().enumerate() {
                separate(index, pretty, indent + 1, out);
                quoted(name, out);
                out.push_str(": ");
                write_value(member, pretty, indent + 1, out);
            }
            end(pretty, indent, out);
            out.push('}');
        }
    }
}

/// Appends a string in quotes, with `\u` for everything beyond printable ASCII.
pub(crate) fn quoted(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04X}");
                }
            }
        }
    }
    out.push('"');
}

fn separate(index: usize, pretty: bool, indent: usize, out: &mut String) {
    match (index, pretty) {
        (0, false) => {}
        (_, false) => out.push_str(", "),
        (0, true) => new_line(indent, out),
        (_, true) => {
            out.push(',');
            new_line(indent, out);
        }
    }
}

fn end(pretty: bool, indent: usize, out: &mut String) {
    if pretty {
        new_line(indent, out);
    }
}

fn new_line(indent: usize, out: &mut String) {
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', indent * 4));
}
