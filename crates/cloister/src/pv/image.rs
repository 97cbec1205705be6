//! `cloister pv image`: making, reading and testing Secure Execution images.

use super::hex;
use super::keys::{HostKeys, warn};
use crate::out;
use anyhow::Context;
use clap::{Args, Subcommand};
use cloister_crypto::SystemEntropy;
use cloister_owner::host_key::Document;
use cloister_owner::image::{
    BootStages, CreateOptions, Inspection, Progress, Report, Settings, create, inspect, test,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Make an image that only the machines of the given host-key documents can run
    Create(Box<Create>),
    /// Show what an image or a bare header says
    #[command(visible_alias = "info")]
    Inspect(Inspect),
    /// Tell whether an image can run on the machines of host-key documents (status 1: on none of them)
    Test(Test),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    keys: HostKeys,
    /// Kernel, raw (vmlinuz), not ELF
    #[arg(short = 'i', long, visible_alias = "image", value_name = "FILE")]
    kernel: PathBuf,
    /// Initial ramdisk
    #[arg(short, long, value_name = "FILE")]
    ramdisk: Option<PathBuf>,
    /// File with the kernel's command line
    #[arg(short, long, value_name = "FILE")]
    parmfile: Option<PathBuf>,
    /// The image to write; it appears complete or not at all
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace an existing output
    #[arg(long)]
    overwrite: bool,
    /// File with the key of the header, 32 bytes; drawn if absent
    #[arg(long, visible_alias = "header-key", value_name = "FILE")]
    hdr_key: Option<PathBuf>,
    /// File with the key of the components, 64 bytes; drawn if absent
    #[arg(long, visible_alias = "comp-key", value_name = "FILE")]
    image_key: Option<PathBuf>,
    /// File with the customer communication key, 32 bytes; drawn if absent
    #[arg(long, visible_alias = "comm-key", value_name = "FILE")]
    cck: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
    /// Plaintext control flags as they are (0x...), instead of those that follow from the options
    #[arg(long, value_name = "FLAGS", value_parser = number)]
    x_pcf: Option<u64>,
    /// Secret control flags as they are (0x...)
    #[arg(long, value_name = "FLAGS", value_parser = number)]
    x_scf: Option<u64>,
    /// Start address (0x...) other than the protected loader's
    #[arg(long, value_name = "ADDRESS", value_parser = number)]
    x_psw: Option<u64>,
    /// Accept a kernel that looks like none and a command line that is longer than it takes
    #[arg(long)]
    no_component_check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Pairs of switches; of each the last one counts.
#[derive(Debug, Args)]
struct Flags {
    /// The hypervisor may make encrypted dumps (needs --cck or --enable-cck-update)
    #[arg(long, overrides_with = "disable_dump")]
    enable_dump: bool,
    /// No dumps (the default)
    #[arg(long, overrides_with = "enable_dump")]
    disable_dump: bool,
    /// DEA, AES and elliptic-curve keys of PCKMO (the default)
    #[arg(long, overrides_with = "disable_pckmo")]
    enable_pckmo: bool,
    /// No keys of PCKMO
    #[arg(long, overrides_with = "enable_pckmo")]
    disable_pckmo: bool,
    /// HMAC keys of PCKMO
    #[arg(long, overrides_with = "disable_pckmo_hmac")]
    enable_pckmo_hmac: bool,
    /// No HMAC keys of PCKMO (the default)
    #[arg(long, overrides_with = "enable_pckmo_hmac")]
    disable_pckmo_hmac: bool,
    /// Encrypt the components (the default)
    #[arg(long, overrides_with = "disable_image_encryption")]
    enable_image_encryption: bool,
    /// Only protect the components against change: everybody can read them
    #[arg(long, overrides_with = "enable_image_encryption")]
    disable_image_encryption: bool,
    /// Add-secret requests must prove knowledge of the CCK (needs --cck)
    #[arg(long, overrides_with = "disable_cck_extension_secret")]
    enable_cck_extension_secret: bool,
    /// They need not (the default)
    #[arg(long, overrides_with = "enable_cck_extension_secret")]
    disable_cck_extension_secret: bool,
    /// An add-secret request may change the CCK
    #[arg(long, overrides_with = "disable_cck_update")]
    enable_cck_update: bool,
    /// It may not (the default)
    #[arg(long, overrides_with = "enable_cck_update")]
    disable_cck_update: bool,
    /// The host keys may be the machines' backup keys
    #[arg(long, overrides_with = "disable_backup_keys")]
    enable_backup_keys: bool,
    /// They may not (the default)
    #[arg(long, overrides_with = "enable_backup_keys")]
    disable_backup_keys: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Image or bare header
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// File with the key of the header: also shows what is sealed in it, and proves that it is unaltered
    #[arg(long, visible_alias = "header-key", value_name = "FILE")]
    hdr_key: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Image or bare header
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Host-key document (several times for several machines)
    #[arg(short = 'k', long = "host-key-document", value_name = "FILE", required = true)]
    host_key_documents: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Image {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create(create) => create.run(),
            Self::Inspect(inspect) => inspect.run(),
            Self::Test(test) => test.run(),
        }
    }
}

impl Create {
    fn run(self) -> anyhow::Result<ExitCode> {
        let as_json = self.json;
        let output = self.output.display().to_string();
        let options = self.options();
        let bar = Bar::new();
        let report = create(&options, &BootStages::BUILT_IN, &mut SystemEntropy, &mut |p| bar.set(p));
        drop(bar);
        let report = report.with_context(|| format!("no image {output} was made"))?;
        warn(&report.warnings);
        if as_json {
            out::line(&format!("{:#}", created(&output, &report)));
        } else {
            out::line(&format!("{output}: {report}"));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn options(self) -> CreateOptions {
        let flags = self.flags;
        let (host_key_documents, verification) = self.keys.take();
        CreateOptions {
            kernel: self.kernel,
            ramdisk: self.ramdisk,
            parmfile: self.parmfile,
            output: self.output,
            overwrite: self.overwrite,
            host_key_documents,
            verification,
            cck: self.cck,
            header_key: self.hdr_key,
            image_key: self.image_key,
            settings: Settings {
                dump: flags.enable_dump,
                image_encryption: !flags.disable_image_encryption,
                cck_extension_secret: flags.enable_cck_extension_secret,
                cck_update: flags.enable_cck_update,
                backup_keys: flags.enable_backup_keys,
                pckmo: !flags.disable_pckmo,
                pckmo_hmac: flags.enable_pckmo_hmac,
                x_pcf: self.x_pcf,
                x_scf: self.x_scf,
                x_psw: self.x_psw,
                component_check: !self.no_component_check,
                ..Settings::default()
            },
        }
    }
}

impl Inspect {
    fn run(self) -> anyhow::Result<ExitCode> {
        let inspection = inspect(&self.file, self.hdr_key.as_deref())?;
        if self.json {
            out::line(&format!("{:#}", inspected(&inspection)));
        } else {
            out::line(&format!("{inspection}"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Test {
    fn run(self) -> anyhow::Result<ExitCode> {
        let documents =
            self.host_key_documents.iter().map(|file| Document::load(file)).collect::<Result<Vec<_>, _>>()?;
        let answers = test(&self.file, &documents)?;
        warn(&documents.iter().filter_map(Document::model_warning).collect::<Vec<_>>());
        if self.json {
            let list: Vec<_> = answers
                .iter()
                .map(|answer| {
                    json!({
                        "document": answer.document,
                        "host_key_hash": hex(&answer.phkh),
                        "included": answer.present,
                    })
                })
                .collect();
            out::line(&format!("{:#}", Value::from(list)));
        } else {
            for answer in &answers {
                let verdict = if answer.present { "can run here" } else { "CANNOT run here" };
                out::line(&format!("{}: {verdict} (host key hash {})", answer.document, hex(&answer.phkh)));
            }
        }
        let any = answers.iter().any(|answer| answer.present);
        if !any {
            out::tell(&format!(
                "cloister pv: {} names none of these host keys; make it again with their documents (-k), or use \
                 the machine that it was made for",
                self.file.display()
            ));
        }
        Ok(if any { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// A progress bar on a terminal, and there only for inputs that take long enough to wait for.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        Self(ProgressBar::hidden())
    }

    fn set(&self, progress: Progress) {
        if progress.total < LARGE || !std::io::stderr().is_terminal() {
            return;
        }
        if self.0.is_hidden() {
            self.0.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            self.0.set_length(progress.total);
            if let Ok(style) = ProgressStyle::with_template(
                "{bar:40} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
            ) {
                self.0.set_style(style);
            }
        }
        self.0.set_position(progress.done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn created(output: &str, report: &Report) -> Value {
    json!({
        "image": output,
        "bytes": report.size,
        "encrypted_pages": report.pages,
        "host_key_hashes": report.host_keys.iter().map(|phkh| hex(phkh)).collect::<Vec<_>>(),
        "plaintext_control_flags": format!("{:#018x}", report.pcf.0),
        "secret_control_flags": format!("{:#018x}", report.scf.0),
        "header_tag": hex(&report.header_tag),
        "warnings": report.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn inspected(inspection: &Inspection) -> Value {
    let header = &inspection.header;
    let components = inspection.components.iter().map(|component| {
        json!({
            "kind": component.tweak_pref.kind().name(),
            "address": format!("{:#x}", component.addr),
            "bytes": component.size,
        })
    });
    json!({
        "file": inspection.name,
        "header_offset": inspection.header_offset,
        "header_bytes": header.size(),
        "host_key_hashes": header.slots.iter().map(|slot| slot.phkh.to_string()).collect::<Vec<_>>(),
        "encrypted_pages": header.encrypted_pages,
        "plaintext_control_flags": format!("{:#018x}", header.pcf.0),
        "page_list_digest": hex(&header.pld),
        "address_list_digest": hex(&header.ald),
        "tweak_list_digest": hex(&header.tld),
        "header_tag": hex(&header.tag),
        "components": components.collect::<Vec<_>>(),
        "digests_fit": inspection.digests.map(|check| {
            json!({"pages": check.pld, "addresses": check.ald, "tweaks": check.tld, "page_count": check.pages})
        }),
        "opened": inspection.opened.as_ref().map(|opened| {
            let (mask, addr) = opened.psw();
            json!({
                "psw_mask": format!("{mask:#018x}"),
                "psw_address": format!("{addr:#x}"),
                "secret_control_flags": format!("{:#018x}", opened.scf().0),
            })
        }),
    })
}

/// Hexadecimal with `0x`, else decimal.
fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| format!("{error}; write a number as 0x... or in decimal"))
}

/// Packing less takes no time that anybody notices.
const LARGE: u64 = 64 << 20;
