//! `cloister sev vmsa`.

use super::files::{name, open};
use super::hex;
use super::launch::{Form, number, save_area};
use crate::out;
use clap::{Args, Subcommand};
use cloister_crypto::sha256;
use cloister_formats::sev::vmsa::{Segment, Value, cpu_signature};
use cloister_owner::sev::measure::{Cpus, Firmware, signature_of};
use cloister_owner::sev::save::{Output, save};
use serde_json::{Map, json};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Vmsa {
    /// Write the save area of a CPU as it is measured
    Build(Build),
    /// Show the registers in a save area
    Show(Show),
}

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The file to write
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Number of the CPU; all but 0 are alike
    #[arg(long, value_name = "NUMBER")]
    cpu: u32,
    /// CPU model by QEMU's name, such as EPYC-Milan
    #[arg(long, value_name = "MODEL", required_unless_present = "family",
        conflicts_with_all = ["family", "model", "stepping"])]
    vcpu_type: Option<String>,
    /// CPU family
    #[arg(long, value_name = "NUMBER", requires_all = ["model", "stepping"], value_parser = number)]
    family: Option<u32>,
    /// CPU model number
    #[arg(long, value_name = "NUMBER", requires = "family", value_parser = number)]
    model: Option<u32>,
    /// CPU stepping
    #[arg(long, value_name = "NUMBER", requires = "family", value_parser = number)]
    stepping: Option<u32>,
    /// Firmware image, which says where other CPUs than the first start
    #[arg(long, visible_alias = "ovmf", value_name = "FILE")]
    firmware: PathBuf,
    /// How the VMM sets CPUs up
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Form::Legacy)]
    vmsa: Form,
    /// Replace an existing file
    #[arg(short, long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The save area
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Show registers that are zero too
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Vmsa {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Build(build) => build.run(),
            Self::Show(show) => show.run(),
        }
    }
}

impl Build {
    fn run(self) -> anyhow::Result<ExitCode> {
        let signature = match (&self.vcpu_type, self.family, self.model, self.stepping) {
            (Some(model), ..) => signature_of(model)?,
            (None, Some(family), Some(model), Some(stepping)) => cpu_signature(family, model, stepping),
            _ => anyhow::bail!("give --vcpu-type, or --family, --model and --stepping"),
        };
        let firmware = Firmware::read(&name(&self.firmware), open(&self.firmware)?)?;
        let cpus = Cpus::build(&firmware, self.cpu.saturating_add(1), self.vmsa.into(), signature)?;
        let area = if self.cpu == 0 { cpus.boot } else { cpus.application };
        save(&[Output { file: self.file, bytes: area.as_bytes(), private: false }], self.force)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Show {
    fn run(self) -> anyhow::Result<ExitCode> {
        let area = save_area(&self.file)?;
        let zero = Segment { selector: 0, attributes: 0, limit: 0, base: 0 };
        let shown =
            |value: &Value| self.all || (*value != Value::Number(0) && *value != Value::Segment(zero));
        let registers = area.registers().filter(|(_, _, value)| shown(value));
        if self.json {
            let registers: Map<_, _> = registers
                .map(|(_, name, value)| {
                    let value = match value {
                        Value::Number(number) => json!(number),
                        Value::Segment(segment) => json!({
                            "selector": segment.selector,
                            "attributes": segment.attributes,
                            "limit": segment.limit,
                            "base": segment.base,
                        }),
                    };
                    (name.to_owned(), value)
                })
                .collect();
            let area = json!({"sha256": hex(&sha256(area.as_bytes())), "registers": registers});
            out::line(&format!("{area:#}"));
            return Ok(ExitCode::SUCCESS);
        }
        for (offset, name, value) in registers {
            let value = match value {
                Value::Number(number) => format!("{number:#x}"),
                Value::Segment(segment) => format!(
                    "selector {:#x}, attributes {:#x}, limit {:#x}, base {:#x}",
                    segment.selector, segment.attributes, segment.limit, segment.base
                ),
            };
            out::line(&format!("{offset:#05x}  {name:<20} {value}"));
        }
        out::line(&format!("sha256  {}", hex(&sha256(area.as_bytes()))));
        Ok(ExitCode::SUCCESS)
    }
}
