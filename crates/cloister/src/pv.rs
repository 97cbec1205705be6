//! `cloister pv`: identities of modelled IBM Z machines, Secure Execution images, attestation and secrets.
//!
//! The option names and meanings are those of `genprotimg`, `pvimg`, `pvattest` and `pvsecret` (s390-tools). The
//! work itself is in the owner's library, in the platform store and, inside a guest, in the crate of `/dev/uv`.

mod attest;
mod disk;
mod dump;
mod guest_tool;
mod host_key;
mod image;
mod keys;
mod secret;

use clap::Subcommand;
use std::process::ExitCode;

/// IBM Secure Execution: model machines and boot images
#[derive(Debug, Subcommand)]
pub(crate) enum Pv {
    /// The identity of a modelled machine: host key, host-key document, certificates, revocation lists
    #[command(subcommand)]
    HostKey(host_key::HostKey),
    /// Dumps of protected guests
    #[command(subcommand)]
    Dump(dump::Dump),
    /// Encrypted boot images
    #[command(subcommand)]
    Image(image::Image),
    /// Disks to boot from
    #[command(subcommand)]
    Disk(disk::Disk),
    /// Attestation: is the guest the image that you made, on a machine of your choice?
    #[command(subcommand)]
    Attest(attest::Attest),
    /// Secrets that only your image can have
    #[command(subcommand)]
    Secret(secret::Secret),
    /// Write `uvdevice`, a small s390x Linux program that speaks to /dev/uv in your guest
    GuestTool(guest_tool::GuestTool),
}

impl Pv {
    /// Does what was asked.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::HostKey(command) => command.run(),
            Self::Dump(command) => command.run(),
            Self::Image(command) => command.run(),
            Self::Disk(command) => command.run(),
            Self::Attest(command) => command.run(),
            Self::Secret(command) => command.run(),
            Self::GuestTool(command) => command.run(),
        }
    }
}

/// Bytes in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
