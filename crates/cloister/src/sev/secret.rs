//! `cloister sev secret`.

use super::files::{KeyFiles, measurement, name, read};
use crate::out;
use clap::{Args, Subcommand};
use cloister_crypto::{Entropy, SystemEntropy};
use cloister_formats::sev::guid::Guid;
use cloister_formats::sev::packet::MAX_PAYLOAD;
use cloister_formats::sev::secret_table::SecretTable;
use cloister_owner::sev::save::{Output, save};
use cloister_owner::sev::{Keys, input, secret};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use zeroize::Zeroizing;

#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Make header and payload for sev-inject-launch-secret; verify the measurement first
    Build(Build),
}

#[derive(Debug, Args)]
pub(crate) struct Build {
    #[command(flatten)]
    keys: KeyFiles,
    /// The measurement that was verified, as query-sev-launch-measure gives it
    #[arg(long, visible_alias = "measurement", value_name = "BASE64")]
    launch_measure_blob: String,
    /// A secret as GUID:FILE; disk-password stands for the GUID of a disk's password (several times)
    #[arg(
        short,
        long = "secret",
        visible_alias = "inject-secret",
        value_name = "GUID:FILE",
        required = true
    )]
    secrets: Vec<String>,
    /// The packet's counter in base64, to repeat a packet; drawn if absent
    #[arg(long, value_name = "BASE64", hide = true)]
    iv: Option<String>,
    /// Write base64 text, as the monitor and libvirt want it
    #[arg(long)]
    base64: bool,
    /// Replace existing files
    #[arg(short, long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Packet header to write
    #[arg(value_name = "HEADER")]
    header: PathBuf,
    /// Encrypted payload to write
    #[arg(value_name = "PAYLOAD")]
    payload: PathBuf,
}

impl Secret {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let Self::Build(build) = self;
        build.run()
    }
}

impl Build {
    fn run(self) -> anyhow::Result<ExitCode> {
        anyhow::ensure!(self.header != self.payload, "header and payload need two files");
        let measurement = measurement("--launch-measure-blob", &self.launch_measure_blob)?;
        let (Some(tik), Some(tek)) = self.keys.read()? else {
            anyhow::bail!("a packet needs both keys of the session: give --tik and --tek, or --tk");
        };
        let iv = match &self.iv {
            Some(iv) => input::exactly("--iv", iv)?,
            None => {
                let mut iv = [0; 16];
                SystemEntropy.fill(&mut iv);
                iv
            }
        };
        let mut table = SecretTable::new();
        for entry in &self.secrets {
            let (guid, contents) = entry_of(entry)?;
            if contents.is_empty() {
                super::notice(&format!("warning: the secret for {guid} is empty"));
            }
            table.push(guid, contents);
        }
        let packet = secret::seal(&table, &Keys { tik, tek }, &measurement, iv)?;
        let (header, payload) = (packet.header.encode(), packet.payload);
        let bytes =
            |bytes: &[u8]| if self.base64 { input::to_base64(bytes).into_bytes() } else { bytes.to_vec() };
        let (header, payload) = (bytes(&header), bytes(&payload));
        let output = |file: &PathBuf, bytes| Output { file: file.clone(), bytes, private: false };
        save(&[output(&self.header, header.as_slice()), output(&self.payload, &payload)], self.force)?;
        if self.json {
            let entries: Vec<_> =
                table.entries().map(|(guid, secret)| (guid.to_string(), secret.len())).collect();
            let made = json!({
                "header": name(&self.header),
                "payload": name(&self.payload),
                "entries": entries.iter().map(|(guid, size)| json!({"guid": guid, "bytes": size})).collect::<Vec<_>>(),
            });
            out::line(&format!("{made:#}"));
        } else {
            out::line(&format!("Wrote header to: {}", name(&self.header)));
            out::line(&format!("Wrote payload to: {}", name(&self.payload)));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn entry_of(text: &str) -> anyhow::Result<(Guid, Zeroizing<Vec<u8>>)> {
    let (guid, file) = text
        .split_once(':')
        .ok_or_else(|| anyhow::anyhow!("--secret {text}: write it as GUID:FILE or disk-password:FILE"))?;
    let guid = secret::guid(guid)?;
    Ok((guid, read(file.as_ref(), MAX_PAYLOAD as u64)?))
}
