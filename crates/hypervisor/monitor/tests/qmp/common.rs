//! A QMP client in memory for the tests.

use cloister_chardev::FdStore;
use cloister_control::fake::{self, FakeMachine};
use cloister_monitor::{Client, Monitor};
use cloister_options::Target;
use serde_json::{Value, json};
use std::sync::Arc;

/// A monitor of a fake machine, and the machine.
pub(crate) fn monitor(machine: FakeMachine) -> (Arc<Monitor>, Arc<FakeMachine>) {
    let machine = Arc::new(machine);
    let catalogue = cloister_cgs::catalogue(Target::S390x);
    let operator = fake::operator(&machine, catalogue, &["-machine", "s390-ccw-virtio"]).unwrap();
    (Monitor::new(operator, Arc::new(FdStore::new())), machine)
}

/// A monitor of a fake machine of this target.
pub(crate) fn monitor_for(target: Target, machine: FakeMachine) -> Arc<Monitor> {
    let machine = Arc::new(machine);
    let operator = fake::operator(&machine, cloister_cgs::catalogue(target), &["-machine", "none"]).unwrap();
    Monitor::new(operator, Arc::new(FdStore::new()))
}

/// A negotiated client of an s390x machine.
pub(crate) fn client() -> (Qmp, Arc<FakeMachine>) {
    let (monitor, machine) = monitor(FakeMachine::s390x());
    (Qmp::negotiated(&monitor), machine)
}

/// A client that speaks in values.
pub(crate) struct Qmp {
    pub(crate) client: Client,
    pub(crate) greeting: Value,
}

impl Qmp {
    pub(crate) fn new(monitor: &Arc<Monitor>) -> Self {
        let client = Client::new(monitor, false);
        let greeting = messages(&client.take()).remove(0);
        Self { client, greeting }
    }

    pub(crate) fn negotiated(monitor: &Arc<Monitor>) -> Self {
        let mut qmp = Self::new(monitor);
        assert_eq!(
            qmp.ask(&json!({"execute":"qmp_capabilities","arguments":{"enable":["oob"]}})),
            [json!({"return":{}})]
        );
        qmp
    }

    /// Sends a value; gives all that comes back.
    pub(crate) fn ask(&mut self, request: &Value) -> Vec<Value> {
        messages(&self.client.ask(request.to_string().as_bytes()))
    }

    /// Carries out a command; events are dropped.
    pub(crate) fn run(&mut self, command: &str, arguments: Value) -> Result<Value, (String, String)> {
        let request = match arguments {
            Value::Null => json!({"execute":command}),
            arguments => json!({"execute":command,"arguments":arguments}),
        };
        let mut answer = self.ask(&request).pop().unwrap();
        match answer.get("error") {
            None => Ok(answer["return"].take()),
            Some(error) => Err((text(&error["class"]), text(&error["desc"]))),
        }
    }

    /// The description of the refusal.
    pub(crate) fn refused(&mut self, command: &str, arguments: Value) -> String {
        self.run(command, arguments).unwrap_err().1
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Cuts at CRLF and nothing else, as libvirt does.
pub(crate) fn messages(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.is_ascii());
    assert!(text.is_empty() || text.ends_with("\r\n"));
    text.split_terminator("\r\n").map(|line| serde_json::from_str(line).unwrap()).collect()
}
