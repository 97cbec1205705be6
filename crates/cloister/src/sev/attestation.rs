//! `cloister sev attestation`.

use super::files::{LIMIT, TrustFiles, blob, certificates, name, read};
use super::hex;
use crate::out;
use clap::{Args, Subcommand};
use cloister_formats::sev::policy::Policy;
use cloister_owner::sev::attestation::{self, Expected};
use cloister_owner::sev::{SevError, input};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Attestation {
    /// Check that a platform signed a report, and what it says (status 1: do not trust it)
    Verify(VerifyReport),
}

#[derive(Debug, Args)]
pub(crate) struct VerifyReport {
    /// The platform's chain, in any form
    #[arg(value_name = "CHAIN")]
    chain: PathBuf,
    /// The report of query-sev-attestation-report, binary or base64
    #[arg(value_name = "REPORT")]
    report: PathBuf,
    /// The random number that was sent with the request, in base64; without it the report may be an old one
    #[arg(long, value_name = "BASE64")]
    mnonce: Option<String>,
    /// The launch digest that the guest must have, in hexadecimal or base64 (`sev measure` computes it)
    #[arg(long, value_name = "DIGEST")]
    launch_digest: Option<String>,
    /// The policy that the guest must have
    #[arg(long, value_name = "POLICY", value_parser = input::policy)]
    policy: Option<Policy>,
    #[command(flatten)]
    trust: TrustFiles,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Attestation {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let Self::Verify(verify) = self;
        verify.run()
    }
}

impl VerifyReport {
    fn run(self) -> anyhow::Result<ExitCode> {
        let expected = Expected {
            mnonce: self.mnonce.as_deref().map(|text| blob("--mnonce", text)).transpose()?,
            digest: self
                .launch_digest
                .as_deref()
                .map(|text| input::digest("--launch-digest", text))
                .transpose()?,
            policy: self.policy,
        };
        let mut chain = certificates(&self.chain)?;
        self.trust.verify_as_far_as_possible(&self.chain, &mut chain)?;
        let pek = chain.pek.as_ref().ok_or_else(|| SevError::Missing {
            file: name(&self.chain),
            what: "PEK",
            hint: "reports are signed by the PEK: give the platform's whole chain",
        })?;
        let report = attestation::read(&name(&self.report), &read(&self.report, LIMIT)?)?;
        attestation::verify(&name(&self.report), &report, pek, &expected)?;
        if expected.mnonce.is_none() {
            super::notice("warning: no --mnonce was given, so this may be an old report shown again");
        }
        if self.json {
            let said = json!({
                "verified": true,
                "fresh": expected.mnonce.is_some(),
                "mnonce": input::to_base64(&report.mnonce),
                "launch_digest": hex(&report.launch_digest),
                "policy": report.policy.0,
                "policy_text": report.policy.to_string(),
            });
            out::line(&format!("{said:#}"));
        } else {
            out::line("OK: the platform's PEK signed this report");
            out::line(&format!("mnonce         {}", input::to_base64(&report.mnonce)));
            out::line(&format!("launch digest  {}", hex(&report.launch_digest)));
            out::line(&format!("policy         {}", report.policy));
        }
        Ok(ExitCode::SUCCESS)
    }
}
