//! What a handler sees of the command that it carries out.

use crate::monitor::Monitor;
use crate::session::Session;
use cloister_control::{ControlError, Machine, Operator};
use cloister_platform::Vm;
use serde_json::{Map, Value};

/// One command of one client. The arguments have been checked against the table.
#[derive(Debug)]
pub struct Call<'a> {
    pub(crate) session: &'a Session,
    pub(crate) arguments: &'a Map<String, Value>,
}

impl Call<'_> {
    /// The machine and the process.
    pub fn operator(&self) -> &Operator {
        self.session.monitor().operator()
    }

    /// The machine.
    pub fn machine(&self) -> &dyn Machine {
        &*self.operator().machine
    }

    /// The guest.
    ///
    /// # Errors
    /// If there is none.
    pub fn vm(&self) -> Result<&Vm, ControlError> {
        self.machine().vm().ok_or_else(|| {
            ControlError::new("there is no guest to look into: the machine has no memory and no CPUs")
        })
    }

    /// What all monitors share.
    pub(crate) fn monitor(&self) -> &Monitor {
        self.session.monitor()
    }

    /// All arguments.
    pub fn arguments(&self) -> &Map<String, Value> {
        self.arguments
    }

    /// A string, if it was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.arguments.get(name).and_then(Value::as_str)
    }

    /// A string that the table requires.
    pub fn required(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    /// A boolean, if it was given.
    pub fn bool(&self, name: &str) -> Option<bool> {
        self.arguments.get(name).and_then(Value::as_bool)
    }

    /// A signed number, if it was given.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.arguments.get(name).and_then(Value::as_i64)
    }

    /// The objects of a list.
    pub fn objects<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s Map<String, Value>> {
        self.arguments.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
    }

    /// The strings of a list.
    pub fn texts<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s str> {
        self.arguments.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }
}
