//! The attestation report of SEV and SEV-ES.

use super::certificate::{Algo, Usage};
use super::layout::{layout, put};
use super::policy::Policy;

layout! {
    /// The report of ATTESTATION, 0xD0 bytes.
    Report, 0xd0, "SEV attestation report" {
        /// The requester's random number.
        mnonce: [u8; 16] = 0,
        /// Digest of the launch; zero for a guest that was received.
        launch_digest: [u8; 32] = 0x10,
        /// Policy of the guest.
        policy: Policy = 0x30,
        /// Usage of the signing key: PEK.
        sig_usage: Usage = 0x34,
        /// Algorithm of the signature: ECDSA with SHA-256.
        sig_algo: Algo = 0x38,
        /// Reserved, not signed; kept so that a report is shown as it came.
        reserved: u32 = 0x3c,
        /// r, little-endian.
        r: [u8; 72] = 0x40,
        /// s, little-endian.
        s: [u8; 72] = 0x88,
    }
}

impl Report {
    /// Bytes that the signature covers.
    pub const SIGNED: usize = 0x34;

    /// What the PEK signs.
    pub fn signed_bytes(&self) -> [u8; Self::SIGNED] {
        let mut out = [0; Self::SIGNED];
        put(&mut out, 0, &self.mnonce);
        put(&mut out, 0x10, &self.launch_digest);
        put(&mut out, 0x30, &self.policy);
        out
    }
}
