//! `cloister sev certs`.

use super::files::{TrustFiles, amd_name, certificates, name};
use super::hex;
use crate::out;
use clap::{Args, Subcommand};
use cloister_crypto::sha256;
use cloister_formats::sev::certificate::{Certificate, PublicKey};
use cloister_formats::sev::chain::Chain;
use cloister_owner::sev::certs::{Outcome, Root, Verification, is_model};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Certs {
    /// Check every signature of a platform's chain up to the root that --ca names (status 1: do not trust it)
    Verify(VerifyChain),
    /// Show what certificates say, without checking anything
    Show(Show),
}

#[derive(Debug, Args)]
pub(crate) struct VerifyChain {
    /// The chain, in any form in which programs export it
    #[arg(value_name = "CHAIN")]
    chain: PathBuf,
    #[command(flatten)]
    trust: TrustFiles,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Certificates, in any form in which programs export them
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Certs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Verify(verify) => verify.run(),
            Self::Show(show) => show.run(),
        }
    }
}

impl VerifyChain {
    fn run(self) -> anyhow::Result<ExitCode> {
        let mut chain = certificates(&self.chain)?;
        let verification = self.trust.verify(&self.chain, &mut chain)?;
        let refusal = verification.refusal();
        if self.json {
            out::line(&format!("{:#}", verified(&verification, refusal.as_deref())));
        } else {
            for link in &verification.links {
                let (mark, why) = match &link.outcome {
                    Outcome::Good => ("good   ", String::new()),
                    Outcome::Bad(reason) => ("BAD    ", format!(": {reason}")),
                    Outcome::Absent(reason) => ("missing", format!(": {reason}")),
                };
                out::line(&format!("{mark} {} signed by {}{why}", link.certificate, link.signer));
            }
            match &verification.root {
                Root::Given(file) => out::line(&format!("root from {file}")),
                Root::AllowedModel => {
                    out::line("root from the chain itself: a MODEL's, allowed by --allow-model-root")
                }
                Root::Unknown => out::line("root from the chain itself: nobody vouches for it"),
                Root::None => out::line("no root"),
            }
            match &refusal {
                None => out::line("OK: the chain is whole and ends at the trusted root"),
                Some(reason) => {
                    out::line(&format!("REFUSED: {} is not to be trusted: {reason}", name(&self.chain)));
                }
            }
        }
        Ok(if refusal.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Show {
    fn run(self) -> anyhow::Result<ExitCode> {
        let chain = certificates(&self.file)?;
        let list = described(&chain);
        if self.json {
            out::line(&format!("{:#}", Value::from(list)));
            return Ok(ExitCode::SUCCESS);
        }
        for one in &list {
            let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
            out::line(&text("certificate"));
            for field in ["api", "algorithm", "key", "key_id", "certifying_id", "signatures", "sha256"] {
                match &one[field] {
                    Value::String(value) => out::line(&format!("  {field:<14} {value}")),
                    Value::Array(values) => values
                        .iter()
                        .filter_map(Value::as_str)
                        .for_each(|value| out::line(&format!("  {:<14} {value}", "signed by"))),
                    _ => {}
                }
            }
            if one["model"] == true {
                out::line("  MODEL, NOT AMD: the root of a modelled machine");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn verified(verification: &Verification, refusal: Option<&str>) -> Value {
    let links = verification.links.iter().map(|link| {
        let (outcome, reason) = match &link.outcome {
            Outcome::Good => ("good", None),
            Outcome::Bad(reason) => ("bad", Some(reason)),
            Outcome::Absent(reason) => ("missing", Some(reason)),
        };
        json!({"certificate": link.certificate, "signer": link.signer, "outcome": outcome, "reason": reason})
    });
    let (root, file) = match &verification.root {
        Root::Given(file) => ("given", Some(file)),
        Root::AllowedModel => ("allowed-model", None),
        Root::Unknown => ("unknown", None),
        Root::None => ("none", None),
    };
    json!({
        "trusted": refusal.is_none(),
        "refusal": refusal,
        "root": root,
        "root_file": file,
        "model": verification.model,
        "links": links.collect::<Vec<_>>(),
    })
}

fn described(chain: &Chain) -> Vec<Value> {
    let platform = [("PDH", &chain.pdh), ("PEK", &chain.pek), ("OCA", &chain.oca), ("CEK", &chain.cek)];
    let platform = platform
        .into_iter()
        .filter_map(|(name, certificate)| Some(platform_one(name, certificate.as_ref()?)));
    let amd = [&chain.ask, &chain.ark].into_iter().flatten().map(|certificate| {
        json!({
            "certificate": amd_name(certificate),
            "key": format!("RSA {}", certificate.generation().bits()),
            "key_id": hex(&certificate.key_id()),
            "certifying_id": hex(&certificate.certifying_id()),
            "model": is_model(certificate),
            "sha256": hex(&sha256(certificate.as_bytes())),
        })
    });
    platform.chain(amd).collect()
}

fn platform_one(name: &str, certificate: &Certificate) -> Value {
    let key = match certificate.public_key() {
        Ok(PublicKey::Ecc(key)) => {
            let x: Vec<u8> = key.x.iter().rev().copied().skip_while(|&byte| byte == 0).collect();
            format!("{} x {}", key.curve, hex(&x))
        }
        Ok(PublicKey::Rsa { bits, .. }) => format!("RSA {bits}"),
        Err(error) => error.to_string(),
    };
    let slots = [certificate.slot(0), certificate.slot(1)];
    let signatures: Vec<_> = slots
        .iter()
        .filter(|slot| !slot.is_empty())
        .map(|slot| format!("{} with {}", slot.usage, slot.algo))
        .collect();
    let (major, minor) = certificate.api();
    json!({
        "certificate": name,
        "version": certificate.version(),
        "api": format!("{major}.{minor}"),
        "algorithm": certificate.algo().to_string(),
        "key": key,
        "signatures": signatures,
        "sha256": hex(&sha256(certificate.as_bytes())),
    })
}
