//! Objects that the user made, for every machine.

use cloister_control::{ControlError, ObjectInfo, Property};
use cloister_options::{CommandLine, ObjectSpec, OnOffAuto, PropertyValue};
use serde_json::json;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The objects of a machine.
pub(crate) struct Objects {
    objects: Mutex<Vec<ObjectSpec>>,
    /// Ids that the machine itself was made with.
    used: Vec<String>,
}

impl Objects {
    pub(crate) fn new(line: &CommandLine) -> Self {
        let confidential = line.machine.confidential_guest.iter().map(|reference| reference.id.clone());
        let backend = line.machine.memory_backend.clone();
        Self { objects: Mutex::new(line.objects.clone()), used: confidential.chain(backend).collect() }
    }

    pub(crate) fn list(&self) -> Vec<ObjectInfo> {
        let describe = |spec: &ObjectSpec| ObjectInfo {
            id: spec.id.clone(),
            qom_type: spec.qom_type.clone(),
            // A secret is not for monitors.
            properties: spec
                .properties
                .iter()
                .filter(|(name, _)| spec.qom_type != "secret" || *name != "data")
                .map(property)
                .collect(),
        };
        self.lock().iter().map(describe).collect()
    }

    pub(crate) fn specs(&self) -> Vec<ObjectSpec> {
        self.lock().clone()
    }

    pub(crate) fn add(&self, spec: ObjectSpec) -> Result<(), ControlError> {
        if cloister_cgs::is_mechanism(&spec.qom_type) {
            return Err(ControlError::new(format!(
                "'{}' decides how the machine is made; give it with -object before the start",
                spec.qom_type
            )));
        }
        let mut objects = self.lock();
        if objects.iter().any(|object| object.id == spec.id) {
            return Err(ControlError::new(format!(
                "attempt to add duplicate property '{}' to object (type 'container')",
                spec.id
            )));
        }
        objects.push(spec);
        Ok(())
    }

    pub(crate) fn delete(&self, id: &str, used_by_device: bool) -> Result<(), ControlError> {
        let mut objects = self.lock();
        let Some(at) = objects.iter().position(|object| object.id == id) else {
            return Err(ControlError::new(format!("object '{id}' not found")));
        };
        if used_by_device || self.used.iter().any(|used| used == id) {
            return Err(ControlError::new(format!("object '{id}' is in use, can not be deleted")));
        }
        objects.remove(at);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ObjectSpec>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A property as monitors show it.
pub(crate) fn property((name, value): (&str, &PropertyValue)) -> Property {
    let (kind, value) = match value {
        PropertyValue::Bool(on) => ("bool", json!(on)),
        PropertyValue::OnOffAuto(OnOffAuto::On) => ("OnOffAuto", json!("on")),
        PropertyValue::OnOffAuto(OnOffAuto::Off) => ("OnOffAuto", json!("off")),
        PropertyValue::OnOffAuto(OnOffAuto::Auto) => ("OnOffAuto", json!("auto")),
        PropertyValue::Text(text) => ("str", json!(text)),
        PropertyValue::Number(number) => ("uint64", json!(number)),
        PropertyValue::Signed(number) => ("int32", json!(number)),
        PropertyValue::DeviceNumber(number) => ("str", json!(number.to_string())),
    };
    Property { name: name.into(), kind: kind.into(), value }
}
