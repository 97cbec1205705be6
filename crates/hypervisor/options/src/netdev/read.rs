//! The members of a backend, in each of the three forms in which they come: typed in JSON, texts in a tree, and texts
//! in a flat list.
//!
//! What the members mean is [`parse`](super::parse)'s part.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::chardev::{FdName, SocketAddress};
use crate::error::Problem;
use crate::value::{parse_bool, parse_number};

/// How the members came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `-netdev user,...`: texts; unknown keys are invalid.
    Flat,
    /// `-netdev stream,addr.type=...`: a tree of texts; unknown keys are unexpected.
    Keyval,
    /// `-netdev '{...}'` and QMP: typed.
    Json,
}

/// An object and its place for messages.
pub(super) struct Members<'a> {
    map: &'a Map<String, Value>,
    path: String,
    pub(super) form: Form,
}

impl<'a> Members<'a> {
    pub(super) fn new(map: &'a Map<String, Value>, form: Form) -> Self {
        Self { map, path: String::new(), form }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, Problem> {
        match self.map.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "string")),
        }
    }

    pub(super) fn required(&self, name: &str) -> Result<&'a str, Problem> {
        self.text(name)?.ok_or_else(|| Problem::Missing(self.name(name)))
    }

    pub(super) fn bool(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.map.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(on)) if self.form == Form::Json => Ok(Some(*on)),
            Some(Value::String(text)) if self.form != Form::Json => match parse_bool(text) {
                Some(on) => Ok(Some(on)),
                None => Err(Problem::Expects { name: self.name(name), what: "'on' or 'off'" }),
            },
            Some(_) => Err(self.wrong(name, "boolean")),
        }
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        match self.map.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) if self.form == Form::Json => {
                number.as_u64().map(Some).ok_or_else(|| self.wrong(name, "integer"))
            }
            Some(Value::String(text)) if self.form != Form::Json => match parse_number(text) {
                Some(number) => Ok(Some(number)),
                None => Err(Problem::Expects { name: self.name(name), what: "integer" }),
            },
            Some(_) => Err(self.wrong(name, "integer")),
        }
    }

    /// A list of texts, each wrapped in an object with one member `str`.
    pub(super) fn strings(&self, name: &str) -> Result<Vec<&'a str>, Problem> {
        let Some(value) = self.map.get(name) else { return Ok(Vec::new()) };
        let list = value.as_array().ok_or_else(|| self.wrong(name, "array"))?;
        let text = |(at, item): (usize, &'a Value)| match item.get("str") {
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(_) => Err(self.wrong(&format!("{name}[{at}].str"), "string")),
            None => Err(Problem::Missing(self.name(&format!("{name}[{at}].str")))),
        };
        list.iter().enumerate().map(text).collect()
    }

    fn object(&self, name: &str) -> Result<Option<Members<'a>>, Problem> {
        match self.map.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Members { map, path: self.name(name), form: self.form })),
            Some(_) => Err(self.wrong(name, "object")),
        }
    }

    /// A `SocketAddress` of QMP.
    pub(super) fn address(&self, name: &str) -> Result<Option<SocketAddress>, Problem> {
        let Some(address) = self.object(name)? else { return Ok(None) };
        let kind = address.required("type")?;
        let out = match kind {
            "unix" => {
                let path = address.required("path")?;
                if path.is_empty() || path.len() >= 108 {
                    return Err(Problem::CharSocketPath(path.to_owned()));
                }
                let out = SocketAddress::Unix {
                    path: PathBuf::from(path),
                    abstract_: address.bool("abstract")?.unwrap_or(false),
                    tight: address.bool("tight")?.unwrap_or(true),
                };
                address.only(&["type", "path", "abstract", "tight"])?;
                out
            }
            "inet" => {
                let (host, port) = (address.required("host")?, address.required("port")?);
                for later in ["to", "mptcp"] {
                    if address.has(later) {
                        return Err(Problem::NotAvailable(
                            format!("{later}= of an address"),
                            "; give one port".to_owned(),
                        ));
                    }
                }
                for accepted in ["numeric", "keep-alive", "ipv4", "ipv6"] {
                    address.bool(accepted)?;
                }
                address.only(&["type", "host", "port", "numeric", "keep-alive", "ipv4", "ipv6"])?;
                SocketAddress::Inet { host: host.to_owned(), port: port_number(port)? }
            }
            "fd" => {
                let text = address.required("str")?;
                address.only(&["type", "str"])?;
                SocketAddress::Fd(fd_name(text))
            }
            "vsock" => {
                return Err(Problem::NotAvailable(
                    "a vsock address".to_owned(),
                    "; use unix, inet or fd".to_owned(),
                ));
            }
            other => {
                return Err(Problem::DoesNotAccept { name: "type".to_owned(), value: other.to_owned() });
            }
        };
        Ok(Some(out))
    }

    /// Refuse members besides these.
    pub(super) fn only(&self, names: &[&str]) -> Result<(), Problem> {
        match self.map.keys().find(|name| !names.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) if self.form == Form::Flat => Err(Problem::InvalidParameter(self.name(name))),
            Some(name) => Err(Problem::Unexpected(self.name(name))),
        }
    }

    fn name(&self, name: &str) -> String {
        match self.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }

    fn wrong(&self, name: &str, expected: &'static str) -> Problem {
        Problem::WrongType { name: self.name(name), expected }
    }
}

/// A descriptor by number, or by the name that `getfd` gave it.
pub(super) fn fd_name(text: &str) -> FdName {
    match text.parse() {
        Ok(number) if text.bytes().all(|b| b.is_ascii_digit()) => FdName::Number(number),
        _ => FdName::Name(text.to_owned()),
    }
}

pub(super) fn port_number(text: &str) -> Result<u16, Problem> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| Problem::CharPort(text.to_owned()))
}
