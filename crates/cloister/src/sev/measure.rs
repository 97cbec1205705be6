//! `cloister sev measure`.

use super::files::{blob, measurement as measurement_of};
use super::hex;
use super::launch::{Inputs, LaunchArgs};
use crate::out;
use clap::Args;
use cloister_formats::sev::measurement::Measurement;
use cloister_owner::sev::input;
use cloister_owner::sev::measure::{Part, measurement};
use serde_json::{Value, json};
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Measure {
    #[command(flatten)]
    launch: LaunchArgs,
    /// The firmware's random number in base64, which ends a measurement
    #[arg(long, value_name = "BASE64")]
    nonce: Option<String>,
    /// A measurement of query-sev-launch-measure, to take the random number from
    #[arg(long, value_name = "BASE64", conflicts_with = "nonce")]
    launch_measure_blob: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Measure {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        // Small inputs first: who mistyped one need not wait for the large ones.
        let nonce = match (&self.nonce, &self.launch_measure_blob) {
            (Some(nonce), _) => Some(blob("--nonce", nonce)?),
            (None, Some(text)) => Some(measurement_of("--launch-measure-blob", text)?.mnonce),
            (None, None) => None,
        };
        let (tik, _) = self.launch.keys.read()?;
        let keyed = match (tik, nonce) {
            (Some(tik), Some(nonce)) => Some((tik, nonce, self.launch.api()?)),
            (None, None) => None,
            (Some(_), None) => anyhow::bail!(
                "a measurement ends with the firmware's random number: give --nonce or --launch-measure-blob, or leave the \
                 TIK out to get the launch digest alone"
            ),
            (None, Some(_)) => anyhow::bail!("a measurement is made with the TIK: give --tik, or --tk"),
        };
        let inputs = self.launch.read()?;
        let digest = match (&inputs, self.launch.launch_digest) {
            (Some(inputs), _) => inputs.launch.digest(),
            (None, Some(digest)) => digest,
            (None, None) => anyhow::bail!("give --firmware, or --launch-digest"),
        };
        let measured = keyed
            .map(|(tik, nonce, api)| measurement(&tik, api, self.launch.policy, digest, nonce))
            .map(|measured: Measurement| input::to_base64(&measured.encode()));
        if self.json {
            out::line(&format!("{:#}", self.to_json(inputs.as_ref(), &digest, measured)));
        } else {
            self.print(inputs.as_ref(), &digest, measured);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn print(&self, inputs: Option<&Inputs>, digest: &[u8; 32], measured: Option<String>) {
        if let Some(inputs) = inputs {
            let parts = inputs.launch.parts();
            let shown = parts.iter().filter(|part| !part.label.starts_with(SAVE_AREA));
            for part in shown {
                print_part(&part.label, part);
                if let (Some(kernel), true) = (&inputs.kernel, part.label.starts_with("table")) {
                    let initrd = kernel
                        .initrd
                        .as_deref()
                        .map_or("no initrd".to_owned(), |file| format!("initrd {file}"));
                    let line = |label: &str, hash: &[u8; 32]| {
                        out::line(&format!("  {label}\n    sha256  {}", hex(hash)))
                    };
                    line(&format!("command line {:?} and a NUL", kernel.cmdline), &kernel.hashes.cmdline);
                    line(&initrd, &kernel.hashes.initrd);
                    line(&format!("kernel {}", kernel.file), &kernel.hashes.kernel);
                }
            }
            let areas: Vec<&Part> = parts.iter().filter(|part| part.label.starts_with(SAVE_AREA)).collect();
            if let Some(first) = areas.first() {
                print_part(&first.label, first);
            }
            match (areas.get(1), areas.last()) {
                (Some(second), _) if areas.len() == 2 => print_part(&second.label, second),
                (Some(second), Some(last)) => print_part(
                    &format!("{}, and the same for each CPU up to {}", second.label, areas.len() - 1),
                    &Part { digest: last.digest, ..(*second).clone() },
                ),
                _ => {}
            }
        }
        out::line(&format!("policy {}", self.launch.policy));
        if let (Some(major), Some(minor), Some(build)) =
            (self.launch.api_major, self.launch.api_minor, self.launch.build_id)
        {
            out::line(&format!("firmware API {major}.{minor}, build {build}"));
        }
        out::line(&format!("launch digest  {}", hex(digest)));
        out::line(&format!("     in base64  {}", input::to_base64(digest)));
        if let Some(measured) = measured {
            out::line(&format!("measurement    {measured}"));
        }
    }

    fn to_json(&self, inputs: Option<&Inputs>, digest: &[u8; 32], measured: Option<String>) -> Value {
        let part = |part: &Part| {
            json!({
                "part": part.label,
                "bytes": part.size,
                "sha256": hex(&part.sha256),
                "digest_after": hex(&part.digest),
            })
        };
        let kernel = inputs.and_then(|inputs| inputs.kernel.as_ref()).map(|kernel| {
            json!({
                "cmdline": {"text": kernel.cmdline, "sha256": hex(&kernel.hashes.cmdline)},
                "initrd": {"file": kernel.initrd, "sha256": hex(&kernel.hashes.initrd)},
                "kernel": {"file": kernel.file, "sha256": hex(&kernel.hashes.kernel)},
                "table": hex(&kernel.hashes.encode()),
            })
        });
        let launch = &self.launch;
        json!({
            "parts": inputs.map(|inputs| inputs.launch.parts().iter().map(part).collect::<Vec<_>>()),
            "kernel_hashes": kernel,
            "policy": launch.policy.0,
            "policy_text": launch.policy.to_string(),
            "api_major": launch.api_major,
            "api_minor": launch.api_minor,
            "build_id": launch.build_id,
            "launch_digest": hex(digest),
            "launch_digest_base64": input::to_base64(digest),
            "measurement": measured,
        })
    }
}

fn print_part(label: &str, part: &Part) {
    out::line(label);
    out::line(&format!("    bytes            {}", part.size));
    out::line(&format!("    sha256           {}", hex(&part.sha256)));
    out::line(&format!("    digest after it  {}", hex(&part.digest)));
}

/// How the labels of save areas begin.
const SAVE_AREA: &str = "save area";
