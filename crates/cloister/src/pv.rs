//! `cloister pv`: identities of modelled IBM Z machines, and Secure Execution images.
//!
//! The option names and meanings of `image create` are those of `genprotimg` and `pvimg create`
//! (s390-tools). The work itself is in the owner's library and in the platform store.

mod disk;
mod host_key;
mod image;

use clap::Subcommand;
use std::process::ExitCode;

/// IBM Secure Execution: model machines and boot images
#[derive(Debug, Subcommand)]
pub(crate) enum Pv {
    /// The identity of a modelled machine: host key, host-key document, certificates, revocation lists
    #[command(subcommand)]
    HostKey(host_key::HostKey),
    /// Encrypted boot images
    #[command(subcommand)]
    Image(image::Image),
    /// Disks to boot from
    #[command(subcommand)]
    Disk(disk::Disk),
}

impl Pv {
    /// Does what was asked.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::HostKey(command) => command.run(),
            Self::Image(command) => command.run(),
            Self::Disk(command) => command.run(),
        }
    }
}

/// Bytes in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
