//! The launch measurement: what LAUNCH_MEASURE writes and what its MAC covers.

use super::layout::{layout, put};
use super::policy::Policy;

layout! {
    /// The blob of LAUNCH_MEASURE, 48 bytes.
    Measurement, 48, "SEV launch measurement" {
        /// HMAC-SHA256(TIK, [`MeasurementInput`]).
        mac: [u8; 32] = 0,
        /// The firmware's random number.
        mnonce: [u8; 16] = 32,
    }
}

/// What the MAC of a measurement covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeasurementInput {
    /// Major version of the firmware's API.
    pub api_major: u8,
    /// Minor version of the firmware's API.
    pub api_minor: u8,
    /// Build of the firmware.
    pub build: u8,
    /// Policy of the guest.
    pub policy: Policy,
    /// SHA-256 over what was launched, in order.
    pub digest: [u8; 32],
    /// The firmware's random number.
    pub mnonce: [u8; 16],
}

impl MeasurementInput {
    /// First byte under the MAC.
    pub const CONTEXT: u8 = 0x04;

    /// The bytes under the MAC.
    pub fn encode(&self) -> [u8; 56] {
        let mut out = [0; 56];
        out[..4].copy_from_slice(&[Self::CONTEXT, self.api_major, self.api_minor, self.build]);
        put(&mut out, 4, &self.policy);
        put(&mut out, 8, &self.digest);
        put(&mut out, 40, &self.mnonce);
        out
    }
}
