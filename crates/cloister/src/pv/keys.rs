//! The options that name machines and what vouches for them: the same for images, attestations and secrets.

use crate::out;
use clap::Args;
use cloister_owner::host_key::{Verification, VerifyOptions, Warning};
use std::path::PathBuf;
use std::time::SystemTime;

#[derive(Debug, Args)]
pub(super) struct HostKeys {
    /// Host-key document of a machine that this is for (several times for several machines)
    #[arg(
        short = 'k',
        long = "host-key-document",
        visible_alias = "hkd",
        value_name = "FILE",
        required = true
    )]
    host_key_documents: Vec<PathBuf>,
    /// Certificate that links the host-key document to the root: the signing key's, intermediate ones
    #[arg(short = 'C', long = "cert", value_name = "FILE", conflicts_with = "no_verify")]
    certificates: Vec<PathBuf>,
    /// The root certificate to trust instead of the system's
    #[arg(long, value_name = "FILE", conflicts_with = "no_verify")]
    root_ca: Option<PathBuf>,
    /// Revocation list (several times; one of every issuer of the chain)
    #[arg(long = "crl", value_name = "FILE", conflicts_with = "no_verify")]
    crls: Vec<PathBuf>,
    /// Verify without the network. This is always so here; the option is accepted for scripts
    #[arg(long, conflicts_with = "no_verify")]
    offline: bool,
    /// Do not verify host-key documents: whoever forged one could read what is sealed for it
    #[arg(long)]
    no_verify: bool,
}

impl HostKeys {
    /// The documents, and how they are verified.
    pub(super) fn take(self) -> (Vec<PathBuf>, Verification) {
        let verification = if self.no_verify {
            Verification::None
        } else {
            Verification::Offline(VerifyOptions {
                certificates: self.certificates,
                crls: self.crls,
                root_ca: self.root_ca,
                time: SystemTime::now(),
            })
        };
        (self.host_key_documents, verification)
    }
}

/// Tells the user; the certificates of a modelled chain in one sentence.
pub(super) fn warn(warnings: &[Warning]) {
    let mut model: Vec<&str> = Vec::new();
    for warning in warnings {
        match warning {
            Warning::Model { file, .. } if model.contains(&file.as_str()) => {}
            Warning::Model { file, .. } => model.push(file),
            other => out::tell(&format!("cloister pv: warning: {other}")),
        }
    }
    if !model.is_empty() {
        out::tell(&format!(
            "cloister pv: warning: MODEL, NOT IBM: {}: whoever has that machine's folder can read the guest",
            model.join(", ")
        ));
    }
}
