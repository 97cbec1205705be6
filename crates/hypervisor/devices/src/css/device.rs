//! What the channel subsystem needs from a device behind a subchannel.
//!
//! A device sees commands, transfers and notifications; it knows neither subchannels nor interruption queues.

use serde::{Deserialize, Serialize};
use vm_memory::GuestMemory;

use super::program::Transfer;
use crate::access::AccessError;
use crate::virtio::VirtioCcwState;

/// The answer to SENSE ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenseId {
    /// Control-unit type.
    pub control_unit: u16,
    /// Control-unit model.
    pub control_unit_model: u8,
    /// Device type.
    pub device: u16,
    /// Device model.
    pub device_model: u8,
}

/// Why a device does not complete a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// Unit check with command reject.
    Reject,
    /// Incorrect length.
    IncorrectLength,
    /// Program check: the channel program is wrong or designates no storage.
    ProgramCheck,
    /// Protection check: the channel program designates storage that devices may not reach.
    ProtectionCheck,
}

impl From<AccessError> for CommandError {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Addressing => Self::ProgramCheck,
            AccessError::Protection => Self::ProtectionCheck,
        }
    }
}

/// Interruptions that a device wants, collected while it works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// Adapter interruptions, one bit for each interruption subclass (bit 0 = ISC 0).
    pub adapter: u8,
    /// Unsolicited (alert) status on the device's own subchannel.
    pub alert: bool,
}

/// Saved state of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceState {
    /// A virtio-ccw device.
    VirtioCcw(Box<VirtioCcwState>),
}

/// A device behind a subchannel.
pub trait CcwDevice<M: GuestMemory>: Send {
    /// The answer to SENSE ID.
    fn identity(&self) -> SenseId;

    /// Executes a command other than the basic ones, which the channel subsystem handles.
    ///
    /// # Errors
    /// How the command ends otherwise.
    fn execute(
        &mut self,
        command: u8,
        transfer: &mut Transfer<'_, M>,
        signals: &mut Signals,
    ) -> Result<(), CommandError>;

    /// A doorbell for a queue. Returns false if there is no such queue.
    fn notify(&mut self, mem: &M, queue: u16, signals: &mut Signals) -> bool;

    /// Something happened on the host's side that the device wanted to be called for.
    fn host_event(&mut self, _mem: &M, _signals: &mut Signals) {}

    /// The subchannel was disabled.
    fn disabled(&mut self);

    /// Subsystem reset.
    fn reset(&mut self);

    /// The state to save.
    fn save(&self) -> DeviceState;

    /// Continues from a saved state.
    ///
    /// # Errors
    /// The state belongs to another device.
    fn restore(&mut self, state: DeviceState) -> Result<(), crate::Error>;
}
