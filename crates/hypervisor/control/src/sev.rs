//! AMD SEV as monitors ask for it: QMP's `query-sev` and its kin. Texts are made where the facts are.

use crate::ControlError;

/// Answer of `query-sev` for a guest that SEV protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SevInfo {
    /// Version of the firmware's interface.
    pub api_major: u8,
    /// Its second part.
    pub api_minor: u8,
    /// Build of the firmware.
    pub build_id: u8,
    /// `uninit`, `launch-update`, `launch-secret` or `running`.
    pub state: &'static str,
    /// The guest's policy.
    pub policy: u32,
    /// The firmware's handle of the guest.
    pub handle: u32,
}

/// Answer of `query-sev-capabilities`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SevPlatformInfo {
    /// The platform's Diffie-Hellman certificate.
    pub pdh: Vec<u8>,
    /// PEK, OCA and CEK.
    pub cert_chain: Vec<u8>,
    /// Identity of the first socket's chip.
    pub cpu0_id: Vec<u8>,
    /// Position of the C-bit.
    pub cbitpos: u8,
    /// Address bits that a guest loses.
    pub reduced_phys_bits: u8,
}

/// What a machine with SEV answers. What is not implemented is answered as by one without.
pub trait SevControl: Send + Sync {
    /// The guest's launch; `None`: SEV does not protect it.
    fn info(&self) -> Option<SevInfo> {
        None
    }

    /// What the platform is.
    fn capabilities(&self) -> Result<SevPlatformInfo, ControlError> {
        Err(ControlError::new("SEV is not enabled in KVM"))
    }

    /// The measurement of the launch: MAC and nonce.
    fn launch_measure(&self) -> Result<Vec<u8>, ControlError> {
        Err(ControlError::new("SEV launch measurement is not available"))
    }

    /// Puts the owner's secret, with its packet header both in base64, at a guest-physical address or where the
    /// firmware image wants it.
    fn inject_launch_secret(
        &self,
        _header: &str,
        _secret: &str,
        _guest_physical: Option<u64>,
    ) -> Result<(), ControlError> {
        Err(ControlError::new("SEV not enabled for guest"))
    }

    /// The firmware's report for a nonce in base64.
    fn attestation_report(&self, _mnonce: &str) -> Result<Vec<u8>, ControlError> {
        Err(ControlError::new("SEV is not enabled"))
    }
}

/// A machine without SEV on a platform without.
#[derive(Clone, Copy, Debug)]
pub struct NoSev;

impl SevControl for NoSev {}
