//! `cloister sev`: the guest owner's part of AMD SEV and SEV-ES.
//!
//! Files, options and conventions are those of sevctl, sev-snp-measure and virt-qemu-sev-validate where those have
//! them. The work itself is in the owner's library.

mod attestation;
mod certs;
mod conformance;
mod files;
mod launch;
mod measure;
mod ovmf;
mod platform;
mod secret;
mod session;
mod verify;
mod vmsa;

use clap::Subcommand;
use std::process::ExitCode;

/// AMD SEV and SEV-ES: sessions, measurements, secrets and certificates of the guest owner
#[derive(Debug, Subcommand)]
pub(crate) enum Sev {
    /// Make the files that start a guest on one platform: certificate, session, and the keys that you keep
    Session(session::Session),
    /// Compute what the firmware will measure, part by part
    Measure(Box<measure::Measure>),
    /// Compare a measurement with what it should be, and say what differs (status 1: it differs)
    Verify(Box<verify::Verify>),
    /// Secrets for a guest whose measurement has been verified
    #[command(subcommand)]
    Secret(secret::Secret),
    /// Certificates of a platform
    #[command(subcommand)]
    Certs(certs::Certs),
    /// Attestation reports
    #[command(subcommand)]
    Attestation(attestation::Attestation),
    /// Save areas of CPUs, which SEV-ES measures
    #[command(subcommand)]
    Vmsa(vmsa::Vmsa),
    /// Firmware images
    #[command(subcommand)]
    Ovmf(ovmf::Ovmf),
    /// Record what a platform's firmware answers to a fixed sequence of commands, or compare it with a record
    Conformance(conformance::Conformance),
    /// The machine's owner: make a model platform, export its certificates, change its keys
    #[command(subcommand)]
    Platform(platform::Platform),
}

impl Sev {
    /// Does what was asked.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Session(session) => session.run(),
            Self::Measure(measure) => measure.run(),
            Self::Verify(verify) => verify.run(),
            Self::Secret(secret) => secret.run(),
            Self::Certs(certs) => certs.run(),
            Self::Attestation(attestation) => attestation.run(),
            Self::Vmsa(vmsa) => vmsa.run(),
            Self::Ovmf(ovmf) => ovmf.run(),
            Self::Conformance(conformance) => conformance.run(),
            Self::Platform(platform) => platform.run(),
        }
    }
}

/// Bytes in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Tells the user something that does not stop the work.
fn notice(text: &str) {
    crate::out::tell(&format!("cloister sev: {text}"));
}
