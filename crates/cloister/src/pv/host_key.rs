//! `cloister pv host-key`: making and showing the folder of a modelled machine.

use super::hex;
use crate::out;
use clap::{Args, Subcommand};
use cloister_crypto::SystemEntropy;
use cloister_platform_store::{CertificateSummary, CreateOptions, Summary, create_s390x, show};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

#[derive(Debug, Subcommand)]
pub(crate) enum HostKey {
    /// Make a model machine: `-platform DIR` then runs it, DIR/host.crt is its host-key document
    Create(Create),
    /// Show whose keys and certificates a folder holds; private keys are not read
    Show(Show),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The folder; it may exist, but nothing in it is overwritten
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Give the machine a backup host key too
    #[arg(long)]
    backup_key: bool,
    /// Further host keys of the same chain (host-2, host-3, ...), for images that run on several machines
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    further: u8,
    /// Also make a host-key document that the revocation list names (revoked.crt), for tests
    #[arg(long)]
    revoked: bool,
    /// Days for which everything is valid
    #[arg(long, value_name = "DAYS", default_value_t = 3650)]
    days: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The folder of a model machine
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl HostKey {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create(create) => {
                let options = CreateOptions {
                    backup_key: create.backup_key,
                    further_identities: create.further,
                    revoked_identity: create.revoked,
                    validity_days: create.days,
                };
                let summary = create_s390x(&create.output, &options, &mut SystemEntropy, SystemTime::now())?;
                print(&summary, create.json);
            }
            Self::Show(Show { folder, json }) => {
                if folder.is_dir() && !folder.join("platform.toml").exists() {
                    anyhow::bail!(
                        "{0} is no model machine (it has no platform.toml); make one with `cloister pv \
                         host-key create -o {0}`",
                        folder.display()
                    );
                }
                print(&show(&folder)?, json);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(summary: &Summary, as_json: bool) {
    if as_json {
        out::line(&format!("{:#}", to_json(summary)));
        return;
    }
    let switches = &summary.config.ultravisor;
    let yes_no = |switch| if switch { "yes" } else { "no" };
    out::line(&format!("Model machine ({}) in {}", summary.config.target, summary.folder.display()));
    out::line(&format!(
        "  Ultravisor present: {}, prot_virt: {}",
        yes_no(switches.present),
        yes_no(switches.prot_virt)
    ));
    for certificate in &summary.certificates {
        let revoked = if certificate.revoked { "  REVOKED" } else { "" };
        out::line(&format!("  {}{revoked}", certificate.file.display()));
        out::line(&format!("    subject  {}", certificate.subject));
        out::line(&format!("    valid    {} to {}", certificate.not_before, certificate.not_after));
        if let Some(phkh) = &certificate.phkh {
            out::line(&format!("    key hash {}", hex(phkh)));
        }
        if let Some(key) = &certificate.key_file {
            out::line(&format!("    key      {}", key.display()));
        }
    }
    for list in &summary.revocation_lists {
        out::line(&format!("  {}", list.display()));
    }
    out::line(summary.notice);
}

fn to_json(summary: &Summary) -> Value {
    let certificate = |certificate: &CertificateSummary| {
        json!({
            "file": certificate.file.display().to_string(),
            "key_file": certificate.key_file.as_ref().map(|file| file.display().to_string()),
            "subject": certificate.subject,
            "issuer": certificate.issuer,
            "not_before": certificate.not_before,
            "not_after": certificate.not_after,
            "host_key_hash": certificate.phkh.map(|phkh| hex(&phkh)),
            "revoked": certificate.revoked,
        })
    };
    json!({
        "folder": summary.folder.display().to_string(),
        "target": summary.config.target.to_string(),
        "ultravisor": {
            "present": summary.config.ultravisor.present,
            "prot_virt": summary.config.ultravisor.prot_virt,
        },
        "certificates": summary.certificates.iter().map(certificate).collect::<Vec<_>>(),
        "revocation_lists":
            summary.revocation_lists.iter().map(|file| file.display().to_string()).collect::<Vec<_>>(),
        "model": true,
        "notice": summary.notice,
    })
}
