//! The attestation report of a SEV or SEV-ES guest: signed by the PEK of its platform.
//!
//! Whether that PEK belongs to a genuine platform is decided by [`super::certs`].

use cloister_crypto::P384Signature;
use cloister_formats::sev::attestation::Report;
use cloister_formats::sev::certificate::{Certificate, Usage};
use cloister_formats::sev::policy::Policy;

use super::certs::{Outcome, ecdsa_hash, p384};
use super::{SevError, input};

/// What the report must say.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected {
    /// The number that was sent with the request; without it an old report could be shown again.
    pub mnonce: Option<[u8; 16]>,
    /// The launch digest.
    pub digest: Option<[u8; 32]>,
    /// The guest's policy.
    pub policy: Option<Policy>,
}

/// Reads a report, binary or base64.
///
/// # Errors
/// If it has another length.
pub fn read(file: &str, bytes: &[u8]) -> Result<Report, SevError> {
    let bytes = input::binary_or_base64(file, bytes, Report::SIZE)?;
    Report::parse(&bytes).map_err(|source| SevError::Format { file: file.to_owned(), source })
}

/// Checks a report against the platform's PEK and what it must say.
///
/// # Errors
/// If something differs; the error says what.
pub fn verify(file: &str, report: &Report, pek: &Certificate, expected: &Expected) -> Result<(), SevError> {
    let fault = |reason: String| SevError::Report { file: file.to_owned(), reason };
    if report.sig_usage != Usage::PEK || report.sig_algo != pek.algo() {
        return Err(fault(format!(
            "the report says that it is signed by {} with {}, but reports are signed by the PEK with {}",
            report.sig_usage,
            report.sig_algo,
            pek.algo()
        )));
    }
    let hash = ecdsa_hash(report.sig_algo)
        .ok_or_else(|| fault("the PEK's algorithm is none of ECDSA".to_owned()))?;
    let key = p384(pek, "PEK").map_err(|outcome| match outcome {
        Outcome::Bad(reason) | Outcome::Absent(reason) => fault(reason),
        Outcome::Good => fault("the PEK has no usable key".to_owned()),
    })?;
    P384Signature::from_le_fields(&report.r, &report.s)
        .and_then(|signature| key.verify(hash, &report.signed_bytes(), &signature))
        .map_err(|_| {
            fault(
                "the PEK does not sign this report: it is altered, from another platform, or from before the platform \
                 got a new PEK"
                    .to_owned(),
            )
        })?;
    if expected.mnonce.is_some_and(|mnonce| mnonce != report.mnonce) {
        return Err(fault(
            "the report answers another request: its mnonce is not the given one, so it may be an old report"
                .to_owned(),
        ));
    }
    if expected.digest.is_some_and(|digest| digest != report.launch_digest) {
        let received = report.launch_digest == [0; 32];
        let why = if received { ": it is zero, so the guest was received from another platform" } else { "" };
        return Err(fault(format!(
            "the guest was launched from something else: the launch digest differs{why}"
        )));
    }
    match expected.policy {
        Some(policy) if policy != report.policy => {
            Err(fault(format!("the guest has policy {}, not {policy}", report.policy)))
        }
        _ => Ok(()),
    }
}
