//! Refusals, with the class that QMP gives them.

use cloister_platform::VmError;

/// Classes of errors (QMP specification, section 2.4.2 "error"); clients decide by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the protocol's own names")]
pub enum ErrorClass {
    GenericError,
    CommandNotFound,
    DeviceNotFound,
    DeviceNotActive,
    KVMMissingCap,
}

impl ErrorClass {
    /// As in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::GenericError => "GenericError",
            Self::CommandNotFound => "CommandNotFound",
            Self::DeviceNotFound => "DeviceNotFound",
            Self::DeviceNotActive => "DeviceNotActive",
            Self::KVMMissingCap => "KVMMissingCap",
        }
    }
}

/// A refusal: what, where, why, what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ControlError {
    /// Its class.
    pub class: ErrorClass,
    /// In words.
    pub text: String,
}

impl ControlError {
    /// A refusal of no special class.
    pub fn new(text: impl Into<String>) -> Self {
        Self { class: ErrorClass::GenericError, text: text.into() }
    }

    /// A question about a balloon that the machine lacks, in QEMU's words.
    pub fn no_balloon() -> Self {
        let text = "No balloon device has been activated".into();
        Self { class: ErrorClass::DeviceNotActive, text }
    }

    /// A device that does not exist, in QEMU's words.
    pub fn device_not_found(id: &str) -> Self {
        Self { class: ErrorClass::DeviceNotFound, text: format!("Device '{id}' not found") }
    }
}

impl From<VmError> for ControlError {
    fn from(error: VmError) -> Self {
        Self::new(error.to_string())
    }
}
