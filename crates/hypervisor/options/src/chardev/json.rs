//! The JSON form of a chardev, which QMP's `chardev-add` takes (QEMU's QMP reference, `ChardevBackend` and
//! `SocketAddressLegacy`).
//!
//! The values are checked by the same function as those of the command line.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::parse::{BACKENDS, LATER, Origin, later, socket};
use super::{CharBackend, Chardev};
use crate::error::Problem;
use crate::schema::{Properties, PropertyValue};

/// The arguments of `chardev-add`.
pub(super) fn chardev(arguments: &Map<String, Value>) -> Result<Chardev, Problem> {
    let top = Members { map: arguments, path: String::new() };
    let id = top.required_text("id")?;
    let backend = top.required_object("backend")?;
    let kind = backend.required_text("type")?;
    if LATER.contains(&kind) {
        return Err(later(kind));
    }
    if !BACKENDS.contains(&kind) {
        return Err(Problem::DoesNotAccept { name: "type".to_owned(), value: kind.to_owned() });
    }
    let data = backend.required_object("data")?;
    let log_file = data.text("logfile")?.map(PathBuf::from);
    let log_append = data.bool("logappend")?.unwrap_or(false);
    let path = |name| data.required_text(name).map(PathBuf::from);
    let mut signal = true;
    let parsed = match kind {
        "file" => {
            let file =
                CharBackend::File { path: path("out")?, append: data.bool("append")?.unwrap_or(false) };
            if data.text("in")?.is_some() {
                let hint = "; use a pipe".to_owned();
                return Err(Problem::NotAvailable("input from a file".to_owned(), hint));
            }
            data.knows(&["in", "out", "append"])?;
            file
        }
        "pipe" => {
            let pipe = CharBackend::Pipe { path: path("device")? };
            data.knows(&["device"])?;
            pipe
        }
        "pty" => {
            // Newer clients may ask for a link.
            let pty = CharBackend::Pty { path: data.text("path")?.map(PathBuf::from) };
            data.knows(&["path"])?;
            pty
        }
        "stdio" => {
            signal = data.bool("signal")?.unwrap_or(true);
            data.knows(&["signal"])?;
            CharBackend::Stdio { with_monitor: false }
        }
        "socket" => {
            let properties = socket_properties(&data)?;
            let failed = |problem: Problem| match problem {
                later @ Problem::NotAvailable(..) => later,
                problem => Problem::CharAddFailed { id: id.to_owned(), problem: Box::new(problem) },
            };
            CharBackend::Socket(socket(&properties, Origin::Monitor).map_err(failed)?)
        }
        _ => {
            data.knows(&[])?;
            CharBackend::Null
        }
    };
    backend.only(&["type", "data"])?;
    top.only(&["id", "backend"])?;
    Ok(Chardev { id: id.to_owned(), backend: parsed, signal, mux: false, log_file, log_append })
}

/// The same keys that `-chardev socket` has, with the other defaults of QMP: it listens and does not wait.
fn socket_properties(data: &Members<'_>) -> Result<Properties, Problem> {
    const BOOLS: &[&str] = &["wait", "nodelay", "telnet", "tn3270", "websocket"];
    let mut out = Properties::default();
    let addr = data.required_object("addr")?;
    let kind = addr.required_text("type")?;
    let text = |value: &str| PropertyValue::Text(value.to_owned());
    if !["inet", "unix", "fd", "vsock"].contains(&kind) {
        return Err(Problem::DoesNotAccept { name: "type".to_owned(), value: kind.to_owned() });
    }
    let address = addr.required_object("data")?;
    match kind {
        "unix" => {
            out.set("path", text(address.required_text("path")?));
            for name in ["abstract", "tight"] {
                address.copy_bool(name, &mut out)?;
            }
            address.only(&["path", "abstract", "tight"])?;
        }
        "inet" => {
            out.set("host", text(address.required_text("host")?));
            out.set("port", text(address.required_text("port")?));
            for name in ["ipv4", "ipv6"] {
                address.copy_bool(name, &mut out)?;
            }
            address.only(&["host", "port", "ipv4", "ipv6"])?;
        }
        "fd" => {
            out.set("fd", text(address.required_text("str")?));
            address.only(&["str"])?;
        }
        _ => {
            let hint = "; use unix, inet or fd".to_owned();
            return Err(Problem::NotAvailable("a vsock address".to_owned(), hint));
        }
    }
    addr.only(&["type", "data"])?;
    for name in ["tls-creds", "tls-authz"] {
        if let Some(value) = data.text(name)? {
            out.set(name, text(value));
        }
    }
    let server = data.bool("server")?.unwrap_or(true);
    out.set("server", PropertyValue::Bool(server));
    for name in BOOLS {
        data.copy_bool(name, &mut out)?;
    }
    if server && out.bool("wait").is_none() {
        out.set("wait", PropertyValue::Bool(false));
    }
    if let Some(value) = data.map.get("reconnect") {
        let seconds = value.as_u64().ok_or_else(|| data.wrong("reconnect", "integer"))?;
        out.set("reconnect", PropertyValue::Number(seconds));
    }
    let others = ["addr", "tls-creds", "tls-authz", "server", "reconnect"];
    data.knows(&[&others[..], BOOLS].concat())?;
    Ok(out)
}

/// An object inside the arguments, with its place for messages.
struct Members<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

impl<'a> Members<'a> {
    fn name(&self, name: &str) -> String {
        match self.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }

    fn wrong(&self, name: &str, expected: &'static str) -> Problem {
        Problem::WrongType { name: self.name(name), expected }
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, Problem> {
        match self.map.get(name) {
            None => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or_else(|| self.wrong(name, "string")),
        }
    }

    fn required_text(&self, name: &str) -> Result<&'a str, Problem> {
        self.text(name)?.ok_or_else(|| Problem::Missing(self.name(name)))
    }

    fn bool(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.map.get(name) {
            None => Ok(None),
            Some(value) => value.as_bool().map(Some).ok_or_else(|| self.wrong(name, "boolean")),
        }
    }

    fn copy_bool(&self, name: &str, to: &mut Properties) -> Result<(), Problem> {
        if let Some(value) = self.bool(name)? {
            to.set(name, PropertyValue::Bool(value));
        }
        Ok(())
    }

    fn required_object(&self, name: &str) -> Result<Members<'a>, Problem> {
        match self.map.get(name) {
            None => Err(Problem::Missing(self.name(name))),
            Some(Value::Object(map)) => Ok(Members { map, path: self.name(name) }),
            Some(_) => Err(self.wrong(name, "object")),
        }
    }

    /// Refuse members besides these and those that every backend has.
    fn knows(&self, names: &[&str]) -> Result<(), Problem> {
        self.only(&[names, &["logfile", "logappend"]].concat())
    }

    fn only(&self, names: &[&str]) -> Result<(), Problem> {
        match self.map.keys().find(|name| !names.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => Err(Problem::Unexpected(self.name(name))),
        }
    }
}
