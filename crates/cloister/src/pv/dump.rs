//! `cloister pv dump`: what the owner of an image does with a dump of its guest.

use crate::out;
use clap::{Args, Subcommand};
use cloister_owner::dump::{Options, Report, decrypt};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Dump {
    /// Decrypt a dump that `dump-guest-memory` made of a guest whose image allows it (--enable-dump)
    Decrypt(Decrypt),
}

#[derive(Debug, Args)]
pub(crate) struct Decrypt {
    /// File with the customer communication key of the image, 32 bytes
    #[arg(long, visible_alias = "comm-key", value_name = "FILE")]
    cck: PathBuf,
    /// The core to write, for readelf, gdb and crash; DUMP.decrypted without it. It appears complete or not at all
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace an existing output
    #[arg(long)]
    overwrite: bool,
    /// Take memory that nobody can authenticate: of a real machine's dump, of a dump of a part, of an altered one
    #[arg(long)]
    unauthenticated_memory: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The dump
    #[arg(value_name = "DUMP")]
    dump: PathBuf,
}

impl Dump {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Decrypt(command) => command.run(),
        }
    }
}

impl Decrypt {
    fn run(self) -> anyhow::Result<ExitCode> {
        let output = self.output.unwrap_or_else(|| {
            let mut name = self.dump.clone().into_os_string();
            name.push(".decrypted");
            name.into()
        });
        let options = Options {
            dump: self.dump,
            cck: self.cck,
            output,
            overwrite: self.overwrite,
            unauthenticated_memory: self.unauthenticated_memory,
        };
        let report = decrypt(&options)?;
        for warning in &report.warnings {
            out::tell(&format!("warning: {warning}"));
        }
        let Report { cpus, private, shared, zero, missing, authenticated, .. } = report;
        if missing > 0 {
            out::tell(&format!(
                "warning: the dump does not have {missing} pages of the guest; zeros stand in their place"
            ));
        }
        if !authenticated {
            out::tell("warning: memory was not authenticated; whoever had the dump may have altered it");
        }
        let name = options.output.display().to_string();
        out::line(&match self.json {
            true => {
                let report = json!({
                    "output": name, "cpus": cpus, "private": private, "shared": shared, "zero": zero,
                    "missing": missing, "authenticated": authenticated,
                });
                format!("{report:#}")
            }
            false => format!(
                "wrote {name}: {cpus} CPUs, {private} pages decrypted, {shared} shared with the host, {zero} zero"
            ),
        });
        Ok(ExitCode::SUCCESS)
    }
}
