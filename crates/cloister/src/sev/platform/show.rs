//! What a platform is, in words and in JSON.

use super::MODEL;
use super::machine::{Folder, Machine};
use crate::out;
use crate::sev::hex;
use clap::Args;
use cloister_crypto::sha256;
use cloister_formats::sev::certificate::Certificate;
use cloister_formats::sev::command::PlatformState;
use cloister_platform::SevPlatformStatus;
use cloister_platform_store::{PlatformError, SevSummary, show_sev};
use serde_json::{Value, json};
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    folder: Folder,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let folder = self.folder.path()?;
        match Machine::start(&folder) {
            Ok(machine) => print(&machine, self.json)?,
            // Whoever changes it has the firmware; the folder can be looked at.
            Err(error) => match error.downcast_ref::<PlatformError>() {
                Some(PlatformError::Changing { holder, .. }) => {
                    in_use(&show_sev(&folder)?, holder, self.json)
                }
                _ => return Err(error),
            },
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// SHA-256 of a certificate.
pub(super) fn fingerprint(certificate: Option<&Certificate>) -> String {
    certificate.map_or("(none)".into(), |certificate| hex(&sha256(certificate.as_bytes())))
}

/// Shows a machine.
pub(super) fn print(machine: &Machine, as_json: bool) -> anyhow::Result<()> {
    let (status, chain, id) = (machine.status()?, machine.chain()?, machine.id()?);
    let owned = status.flags & SevPlatformStatus::OWNED != 0;
    let es = status.flags & SevPlatformStatus::ES != 0;
    let state = PlatformState(status.state).name().unwrap_or("unknown");
    let certificates = [("PDH", &chain.pdh), ("PEK", &chain.pek), ("OCA", &chain.oca), ("CEK", &chain.cek)];
    let bits: Vec<u32> = machine.roots().iter().map(|root| root.ark.generation().bits()).collect();
    let switches = machine.switches();
    if as_json {
        let certificates = certificates.map(|(name, certificate)| {
            let api = certificate.as_ref().map_or((0, 0), Certificate::api);
            json!({
                "certificate": name,
                "sha256": fingerprint(certificate.as_ref()),
                "api": format!("{}.{}", api.0, api.1),
            })
        });
        let shown = json!({
            "folder": machine.folder().display().to_string(),
            "model": true,
            "notice": MODEL,
            "in_use": false,
            "api_major": status.api_major,
            "api_minor": status.api_minor,
            "build_id": status.build,
            "sev_es": es,
            "state": state,
            "owner": if owned { "external" } else { "self" },
            "guests": status.guest_count,
            "id": hex(&id),
            "certificates": certificates,
            "root_bits": bits,
            "asids": switches.asids,
            "min_sev_asid": switches.min_sev_asid,
            "cbitpos": switches.cbitpos,
            "reduced_phys_bits": switches.reduced_phys_bits,
        });
        out::line(&format!("{shown:#}"));
        return Ok(());
    }
    out::line(&format!("Model platform (AMD SEV) in {}", machine.folder().display()));
    out::line(&format!(
        "  firmware  API {}.{}, build {}; state {state}; SEV-ES {}",
        status.api_major,
        status.api_minor,
        status.build,
        if es { "on" } else { "off" },
    ));
    out::line(&format!(
        "  owner     {}",
        if owned { "external: somebody's OCA signed its PEK" } else { "self: its OCA is its own" }
    ));
    out::line(&format!(
        "  ASIDs     1 to {} for SEV-ES, {} to {} for SEV; C-bit {}",
        switches.min_sev_asid.saturating_sub(1),
        switches.min_sev_asid,
        switches.asids,
        switches.cbitpos
    ));
    for (name, certificate) in certificates {
        out::line(&format!("  {name}       SHA-256 {}", fingerprint(certificate.as_ref())));
    }
    let bits: Vec<_> = bits.iter().map(u32::to_string).collect();
    out::line(&format!("  roots     model ASK and ARK of {} bits", bits.join(" and ")));
    out::line(&format!("  id        {}", hex(&id)));
    out::line(MODEL);
    Ok(())
}

/// Shows what the folder says of a machine that somebody else changes.
fn in_use(summary: &SevSummary, holder: &str, as_json: bool) {
    let sev = &summary.config.sev;
    let mut bits: Vec<u32> = summary.certificates.iter().map(|file| file.bits).collect();
    bits.dedup();
    if as_json {
        let shown: Value = json!({
            "folder": summary.folder.display().to_string(),
            "model": true,
            "notice": MODEL,
            "in_use": true,
            "holder": holder,
            "api_major": sev.api_major,
            "api_minor": sev.api_minor,
            "build_id": sev.build,
            "sev_es": sev.es,
            "root_bits": bits,
        });
        out::line(&format!("{shown:#}"));
        return;
    }
    out::line(&format!("Model platform (AMD SEV) in {}", summary.folder.display()));
    out::line(&format!("  being changed by {holder}, so its firmware cannot be asked now"));
    out::line(&format!(
        "  firmware  API {}.{}, build {}; SEV-ES {}",
        sev.api_major,
        sev.api_minor,
        sev.build,
        if sev.es { "on" } else { "off" }
    ));
    out::line(MODEL);
}
