//! `cloister sev verify`.

use super::files::{measurement, name, open};
use super::launch::LaunchArgs;
use crate::out;
use clap::Args;
use cloister_crypto::{Secret, sha256};
use cloister_owner::sev::explain::{Case, Change, Contents, Kernel, SaveAreas, explain};
use cloister_owner::sev::measure::Firmware;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The measurement, as query-sev-launch-measure or `virsh domlaunchsecinfo` gives it
    #[arg(short, long, value_name = "BASE64")]
    measurement: String,
    #[command(flatten)]
    launch: LaunchArgs,
    /// Another file that the guest may have been started with, as firmware, kernel or ramdisk (several times)
    #[arg(long, value_name = "FILE")]
    also: Vec<PathBuf>,
    /// Only say whether it fits, do not look for what differs
    #[arg(long)]
    no_explain: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let measured = measurement("--measurement", &self.measurement)?;
        let api = self.launch.api()?;
        let (Some(tik), tek) = self.launch.keys.read()? else {
            anyhow::bail!("a measurement is verified with the TIK: give --tik, or --tk");
        };
        if tik == Secret::default() {
            super::notice(
                "warning: the TIK is all zeros, as in a launch without a session: anybody can compute such a measurement",
            );
        }
        let inputs = self.launch.read()?;
        let others = if self.no_explain { &[][..] } else { &self.also[..] };
        let others: Vec<Firmware> = others
            .iter()
            .map(|file| Ok(Firmware::read(&name(file), open(file)?)?))
            .collect::<anyhow::Result<_>>()?;
        let other_hashes = || others.iter().map(|other| (other.file().to_owned(), other.digest()));
        let contents = match (&inputs, self.launch.launch_digest) {
            (Some(inputs), _) => Contents::Parts {
                firmwares: std::iter::once(&inputs.launch.firmware).chain(&others).collect(),
                kernel: inputs.kernel.as_ref().map(|kernel| {
                    let given = kernel.initrd.clone().unwrap_or_else(|| "no initrd".to_owned());
                    let none = kernel.initrd.is_some().then(|| ("no initrd".to_owned(), sha256(&[])));
                    Kernel {
                        kernels: std::iter::once((kernel.file.clone(), kernel.hashes.kernel))
                            .chain(other_hashes())
                            .collect(),
                        initrds: std::iter::once((given, kernel.hashes.initrd))
                            .chain(none)
                            .chain(other_hashes())
                            .collect(),
                        cmdline: kernel.cmdline.clone().into_bytes(),
                    }
                }),
                count: self.launch.vcpus.unwrap_or(1),
                areas: self.areas()?,
            },
            (None, Some(digest)) => Contents::Digest(digest),
            (None, None) => anyhow::bail!("give --firmware, or --launch-digest"),
        };
        let case = Case { tik: &tik, tek: tek.as_ref(), policy: self.launch.policy, api, contents };
        let found = if self.no_explain { None } else { Some(explain(&case, &measured)) };
        let fits = match &found {
            Some(found) => found.iter().any(Vec::is_empty),
            None => cloister_owner::sev::explain::fits(&case, &measured),
        };
        let found: Vec<Vec<Change>> =
            found.unwrap_or_default().into_iter().filter(|set| !set.is_empty()).collect();
        if self.json {
            let change = |change: &Change| {
                json!({
                    "input": change.input,
                    "given": change.given,
                    "fits": change.fits,
                    "advice": change.advice,
                })
            };
            let sets: Vec<Vec<_>> = found.iter().map(|set| set.iter().map(change).collect()).collect();
            out::line(&format!("{:#}", json!({"matches": fits, "explanations": sets})));
        } else {
            self.print(fits, &found);
        }
        Ok(if fits { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn print(&self, fits: bool, found: &[Vec<Change>]) {
        if fits {
            out::line(
                "OK: the guest was launched from exactly these inputs, on firmware that holds your session",
            );
            return;
        }
        out::line("MISMATCH: the guest was not launched from these inputs; send it no secret");
        for (index, set) in found.iter().enumerate() {
            out::line(if index == 0 { "The measurement fits if:" } else { "or if:" });
            for Change { input, given, fits, advice } in set {
                out::line(&format!("  {input}: {fits}"));
                out::line(&format!("    instead of: {given}"));
                if !advice.is_empty() {
                    out::line(&format!("    {advice}"));
                }
            }
        }
        if found.is_empty() && !self.no_explain {
            out::line(
                "None of the usual differences explains it (policy, keys, command line, initrd, kernel-hashes, CPUs, save \
                 areas, API version, files of --also, or two of these at once).\nSo a file differs that was not given, or \
                 the TIK belongs to another session, or the measurement was altered.",
            );
        }
    }

    fn areas(&self) -> anyhow::Result<SaveAreas> {
        if let Some((boot, application)) = self.launch.save_areas()? {
            return Ok(SaveAreas::Files(Box::new(boot), Box::new(application)));
        }
        Ok(match self.launch.signature()? {
            Some(signature) => SaveAreas::Built(self.launch.vmsa.into(), signature),
            None => SaveAreas::Unknown,
        })
    }
}
