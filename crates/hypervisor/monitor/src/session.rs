//! One client: greeting, negotiation, commands, replies.
//!
//! No thread and no socket is here; see `server`.

use crate::call::Call;
use crate::json::{StreamError, quoted, write_value};
use crate::monitor::{Monitor, lock};
use crate::table::{self, Reply};
use cloister_control::{ControlError, ErrorClass};
use cloister_options::EMULATED_QEMU_VERSION;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where a client's bytes go. Sending never waits.
pub(crate) trait Peer: Send + Sync {
    /// Queues bytes. A client that does not read loses its connection.
    fn send(&self, bytes: &[u8]);

    /// The next descriptor that the client passed.
    fn take_fd(&self) -> Option<OwnedFd>;

    /// Waits until enough was read of what was sent; false if the client is gone.
    fn begin(&self) -> bool {
        true
    }
}

/// A client.
pub(crate) struct Session {
    monitor: Arc<Monitor>,
    peer: Arc<dyn Peer>,
    pretty: bool,
    phase: Mutex<Phase>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Only `qmp_capabilities` works and no events are told.
    Negotiation,
    /// All commands work.
    Commands {
        /// `exec-oob` works.
        oob: bool,
    },
}

/// Something to do in turn.
#[derive(Debug)]
pub(crate) struct Job(Result<Value, StreamError>);

impl Session {
    pub(crate) fn new(monitor: Arc<Monitor>, peer: Arc<dyn Peer>, pretty: bool) -> Self {
        Self { monitor, peer, pretty, phase: Mutex::new(Phase::Negotiation) }
    }

    pub(crate) fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    pub(crate) fn take_fd(&self) -> Option<OwnedFd> {
        self.peer.take_fd()
    }

    /// Whether the next job should be begun.
    pub(crate) fn begin(&self) -> bool {
        self.peer.begin()
    }

    /// `-mon` and `-qmp` offer out-of-band execution always.
    pub(crate) fn greet(&self) {
        let greeting = json!({ "version": version(), "capabilities": ["oob"] });
        self.send(&[("QMP", &greeting)]);
    }

    /// Takes a value of the stream: what may overtake is done at once, anything else is given back to be done in turn.
    pub(crate) fn take(&self, value: Result<Value, StreamError>) -> Option<Job> {
        if let Ok(Value::Object(request)) = &value
            && *lock(&self.phase) == (Phase::Commands { oob: true })
            && request.contains_key("exec-oob")
            && !request.contains_key("execute")
        {
            self.answer(request);
            return None;
        }
        Some(Job(value))
    }

    /// Does what is next.
    pub(crate) fn perform(&self, job: Job) {
        match job.0 {
            Ok(Value::Object(request)) => self.answer(&request),
            Ok(_) => self.refuse(None, &ControlError::new("QMP input must be a JSON object")),
            Err(error) => self.refuse(None, &ControlError::new(error.to_string())),
        }
    }

    /// Tells of an event, unless the client has not negotiated yet.
    pub(crate) fn tell(&self, name: &str, data: &Value, at: SystemTime) {
        if *lock(&self.phase) == Phase::Negotiation {
            return;
        }
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = json!({ "seconds": at.as_secs(), "microseconds": at.subsec_micros() });
        let name = Value::from(name);
        match data {
            Value::Null => self.send(&[("timestamp", &timestamp), ("event", &name)]),
            data => self.send(&[("timestamp", &timestamp), ("event", &name), ("data", data)]),
        }
    }

    /// `qmp_capabilities`.
    pub(crate) fn negotiate(&self, call: &Call<'_>) -> Reply {
        let mut phase = lock(&self.phase);
        if *phase != Phase::Negotiation {
            let text = "Capabilities negotiation is already complete, command ignored";
            return Err(ControlError { class: ErrorClass::CommandNotFound, text: text.into() });
        }
        *phase = Phase::Commands { oob: call.texts("enable").any(|capability| capability == "oob") };
        Ok(json!({}))
    }

    fn answer(&self, request: &Map<String, Value>) {
        let id = request.get("id");
        match self.dispatch(request) {
            Ok(value) => match id {
                Some(id) => self.send(&[("return", &value), ("id", id)]),
                None => self.send(&[("return", &value)]),
            },
            Err(error) => self.refuse(id, &error),
        }
    }

    fn dispatch(&self, request: &Map<String, Value>) -> Reply {
        let phase = *lock(&self.phase);
        let request = Request::read(request, phase == (Phase::Commands { oob: true }))?;
        if phase == Phase::Negotiation && request.command != "qmp_capabilities" {
            let text = "Expecting capabilities negotiation with 'qmp_capabilities'";
            return Err(ControlError { class: ErrorClass::CommandNotFound, text: text.into() });
        }
        let command = table::find(self.monitor.operator().catalogue.target(), request.command)?;
        if request.oob && !command.allow_oob {
            return Err(ControlError::new(format!("The command {} does not support OOB", command.name)));
        }
        command.run(&Call { session: self, arguments: request.arguments })
    }

    fn refuse(&self, id: Option<&Value>, error: &ControlError) {
        let error = json!({ "class": error.class.name(), "desc": error.text });
        match id {
            Some(id) => self.send(&[("id", id), ("error", &error)]),
            None => self.send(&[("error", &error)]),
        }
    }

    fn send(&self, members: &[(&str, &Value)]) {
        self.peer.send(message(members, self.pretty).as_bytes());
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("phase", &*lock(&self.phase)).finish_non_exhaustive()
    }
}

/// A request whose form has been checked.
struct Request<'a> {
    command: &'a str,
    oob: bool,
    arguments: &'a Map<String, Value>,
}

static NO_ARGUMENTS: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

impl<'a> Request<'a> {
    fn read(request: &'a Map<String, Value>, oob_enabled: bool) -> Result<Self, ControlError> {
        let wrong =
            |name: &str, what: &str| Err(ControlError::new(format!("QMP input member '{name}' {what}")));
        let mut command = None;
        let mut arguments = &*NO_ARGUMENTS;
        for (name, value) in request {
            match (name.as_str(), value) {
                ("id", _) => {}
                ("arguments", Value::Object(given)) => arguments = given,
                ("arguments", _) => return wrong(name, "must be an object"),
                ("exec-oob", _) if !oob_enabled => return wrong(name, "is unexpected"),
                ("execute" | "exec-oob", Value::String(text)) => match command {
                    None => command = Some((text.as_str(), name == "exec-oob")),
                    Some(_) => return wrong("execute", "clashes with 'exec-oob'"),
                },
                ("execute" | "exec-oob", _) => return wrong(name, "must be a string"),
                _ => return wrong(name, "is unexpected"),
            }
        }
        let (command, oob) = command.ok_or_else(|| ControlError::new("QMP input lacks member 'execute'"))?;
        Ok(Self { command, oob, arguments })
    }
}

/// The version of QEMU whose monitor this is, and who answers.
pub(crate) fn version() -> Value {
    let mut parts = EMULATED_QEMU_VERSION.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
    let mut next = || parts.next().unwrap_or_default();
    let (major, minor, micro) = (next(), next(), next());
    let package = concat!("Cloister ", env!("CARGO_PKG_VERSION"));
    json!({ "qemu": { "major": major, "minor": minor, "micro": micro }, "package": package })
}

/// An object with its members in this order, ended by CRLF.
fn message(members: &[(&str, &Value)], pretty: bool) -> String {
    let mut out = String::from("{");
    for (index, (name, value)) in members.iter().enumerate() {
        match (index, pretty) {
            (0, false) => {}
            (_, false) => out.push_str(", "),
            (0, true) => out.push_str("\n    "),
            (_, true) => out.push_str(",\n    "),
        }
        quoted(name, &mut out);
        out.push_str(": ");
        write_value(value, pretty, 1, &mut out);
    }
    let _ = out.write_str(if pretty { "\n}\r\n" } else { "}\r\n" });
    out
}
