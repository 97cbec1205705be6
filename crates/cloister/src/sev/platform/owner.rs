//! Owners of platforms: making one, and giving a platform to one.

use super::machine::Folder;
use super::{MODEL, show};
use crate::out;
use crate::sev::files::{LIMIT, certificates, name, read};
use crate::sev::notice;
use anyhow::Context;
use clap::Args;
use cloister_crypto::{EcdsaHash, P384Secret, SystemEntropy};
use cloister_formats::sev::certificate::{Algo, Certificate, EccKey, Slot, Usage};
use cloister_owner::sev::save::{Output, save};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// The file for the certificate
    #[arg(value_name = "OCA_CERT")]
    certificate: PathBuf,
    /// The file for the private key, which only you can read then
    #[arg(value_name = "OCA_KEY")]
    key: PathBuf,
    /// Replace files of these names
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Provision {
    #[command(flatten)]
    folder: Folder,
    /// The owner's certificate
    #[arg(value_name = "OCA_CERT")]
    certificate: PathBuf,
    /// Its private key: DER or PEM, as sevctl or openssl writes it
    #[arg(value_name = "OCA_KEY")]
    key: PathBuf,
}

impl Generate {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let key = P384Secret::generate(&mut SystemEntropy);
        let (x, y) = key.public().to_xy();
        let public = EccKey::p384(&x, &y);
        let mut oca = Certificate::new((0, 0), Usage::OCA, Algo::ECDSA_SHA256, &public);
        sign(&mut oca, 0, &key);
        let key = key.to_sec1_der()?;
        save(
            &[
                Output { file: self.certificate.clone(), bytes: oca.as_bytes(), private: false },
                Output { file: self.key.clone(), bytes: &key, private: true },
            ],
            self.force,
        )?;
        out::line(&format!("{}: OCA, SHA-256 {}", name(&self.certificate), show::fingerprint(Some(&oca))));
        out::line(&format!(
            "{}: its private key; whoever has it can own platforms in your name",
            name(&self.key)
        ));
        Ok(ExitCode::SUCCESS)
    }
}

impl Provision {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let file = name(&self.certificate);
        let oca = certificates(&self.certificate)?.oca.with_context(|| {
            format!("{file} holds no OCA; `cloister sev platform generate` or `sevctl generate` makes one")
        })?;
        let key_file = name(&self.key);
        let key = P384Secret::from_key_file(&read(&self.key, LIMIT)?)
            .with_context(|| format!("{key_file} is not the private P-384 key of an OCA"))?;
        // The firmware would say no more than that the certificate is invalid.
        anyhow::ensure!(
            oca.p384_key().is_ok_and(|public| public == key.public().to_xy()),
            "{key_file} is not the private key of the OCA in {file}: give the two files that were made together"
        );
        let machine = self.folder.start_to_change()?;
        let mut pek = Certificate::parse(&machine.pek_csr()?).context("the firmware's PEK_CSR")?;
        let slot = pek.free_slot().context("the firmware's PEK_CSR has no room for a signature")?;
        sign(&mut pek, slot, &key);
        machine.pek_cert_import(pek.encode(), oca.encode())?;
        out::line(&format!("{}: owned by {file}", machine.place()));
        out::line(&format!("  OCA SHA-256 {}", show::fingerprint(Some(&oca))));
        out::line(&format!("  PDH SHA-256 {} (new)", show::fingerprint(machine.chain()?.pdh.as_ref())));
        notice(MODEL);
        Ok(ExitCode::SUCCESS)
    }
}

/// Signs as an OCA.
fn sign(certificate: &mut Certificate, slot: usize, key: &P384Secret) {
    let (r, s) = key.sign(EcdsaHash::Sha256, certificate.signed_bytes()).to_le_fields();
    certificate.set_slot(slot, &Slot::ecdsa(Usage::OCA, Algo::ECDSA_SHA256, &r, &s));
}
