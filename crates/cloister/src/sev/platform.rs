//! `cloister sev platform`: the part of the machine's owner, who is not the guest's.
//!
//! A platform is a folder with a modelled AMD machine. Everything goes through the commands of its firmware, as
//! sevctl's go through `/dev/sev`, and the firmware keeps its keys in the folder, sealed and written as a whole. No
//! vendor's machine is touched, and nothing made here chains to AMD.

mod machine;
mod owner;
mod show;

use super::files::name;
use super::notice;
use crate::out;
use clap::{ArgAction, Args, Subcommand};
use cloister_crypto::{Entropy, SeededEntropy, SystemEntropy};
use cloister_formats::sev::amd_root::Generation;
use cloister_owner::sev::save::{Output, save};
use cloister_platform_store::{Sev, SevCreateOptions, create_sev};
use machine::{Folder, Machine};
use std::path::PathBuf;
use std::process::ExitCode;

/// The machine's owner: make a model platform, export its certificates, change its keys
#[derive(Debug, Subcommand)]
pub(crate) enum Platform {
    /// Make a model platform: `-platform DIR` then runs it
    Create(Create),
    /// Show what a platform is and whose certificates it has
    Show(show::Show),
    /// Write the platform's certificates for guest owners, as `sevctl export` does: PDH, PEK, OCA, CEK
    Export(Export),
    /// Forget the platform's keys and owner (PLATFORM_RESET) and make new keys
    Reset(Change),
    /// Make a new PDH (PDH_GEN); sessions made for the old one become void
    Rotate(Change),
    /// Make new OCA, PEK and PDH (PEK_GEN); the platform is its own owner afterwards
    PekGen(Change),
    /// Make an owner of platforms: a self-signed OCA and its private key, as `sevctl generate` writes them
    Generate(owner::Generate),
    /// Give the platform to an owner, as `sevctl provision` does: the OCA signs the PEK (PEK_CSR, PEK_CERT_IMPORT)
    Provision(owner::Provision),
    /// Write the model maker's certificates, ASK and ARK, as `sevctl verify --ca` reads them
    Ca(Ca),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The folder; it may exist, but nothing in it is overwritten
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Whether the platform has SEV-ES
    #[arg(long, value_name = "on|off", default_value = "on", value_parser = on_off, action = ArgAction::Set)]
    sev_es: bool,
    /// Version of the firmware's interface; it enters every measurement
    #[arg(long, value_name = "MAJOR.MINOR", default_value = "1.55", value_parser = api)]
    api: (u8, u8),
    /// Build of the firmware; it enters every measurement
    #[arg(long, value_name = "NUMBER", default_value_t = 25)]
    build: u8,
    /// Only root keys of 2048 bits, which are drawn in less time than those of 4096
    #[arg(long)]
    small_roots: bool,
    /// For tests: draw every key from this number. Whoever knows the number knows the keys
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    folder: Folder,
    /// Add the maker's ASK and ARK
    #[arg(short, long)]
    full: bool,
    /// The CEK without the maker's signature, as the firmware gives it
    #[arg(long)]
    unsigned_cek: bool,
    #[command(flatten)]
    roots: Roots,
    /// The file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace a file of that name
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Change {
    #[command(flatten)]
    folder: Folder,
}

#[derive(Debug, Args)]
pub(crate) struct Ca {
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    roots: Roots,
    /// The folder for ask_ark.cert, ark.cert, ask.cert and the signed cek.cert
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Replace files of these names
    #[arg(long)]
    force: bool,
}

/// Which of the maker's root keys.
#[derive(Clone, Copy, Debug, Args)]
struct Roots {
    /// Bits of the maker's root keys: 4096 (with SHA-384, since Rome) or 2048 (with SHA-256, as of Naples)
    #[arg(long, value_name = "2048|4096", value_parser = bits)]
    bits: Option<u32>,
}

impl Roots {
    fn generation(self) -> Option<Generation> {
        Some(if self.bits? == 2048 { Generation::Rsa2048 } else { Generation::Rsa4096 })
    }
}

impl Platform {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create(create) => create.run(),
            Self::Show(show) => show.run(),
            Self::Export(export) => export.run(),
            Self::Reset(Change { folder }) => changed(&folder, "the platform was reset", Machine::reset),
            Self::Rotate(Change { folder }) => {
                changed(&folder, "the platform has a new PDH", Machine::pdh_gen)
            }
            Self::PekGen(Change { folder }) => {
                changed(&folder, "the platform has a new OCA, PEK and PDH", Machine::pek_gen)
            }
            Self::Generate(generate) => generate.run(),
            Self::Provision(provision) => provision.run(),
            Self::Ca(ca) => ca.run(),
        }
    }
}

impl Create {
    fn run(self) -> anyhow::Result<ExitCode> {
        let (api_major, api_minor) = self.api;
        let sev = Sev { es: self.sev_es, api_major, api_minor, build: self.build, ..Sev::default() };
        let options = SevCreateOptions { sev, small_roots: self.small_roots };
        // Two streams, so that the firmware's keys do not depend on how many numbers its maker drew.
        let stream = |of: &str| -> Box<dyn Entropy + Send> {
            match self.seed {
                Some(seed) => Box::new(SeededEntropy::new(format!("sev platform {of} {seed}").as_bytes())),
                None => Box::new(SystemEntropy),
            }
        };
        if !self.json {
            notice("drawing the model maker's RSA keys, which takes a while");
        }
        create_sev(&self.folder, &options, &mut *stream("maker"))?;
        // The first start: the firmware makes its keys.
        let machine = Machine::start_to_change(&self.folder, stream("firmware"))?;
        machine.status()?;
        show::print(&machine, self.json)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Export {
    fn run(self) -> anyhow::Result<ExitCode> {
        let machine = self.folder.start()?;
        let mut chain = machine.chain()?;
        if self.full || !self.unsigned_cek {
            let root = machine.root(self.roots.generation())?;
            if !self.unsigned_cek {
                chain.cek = Some(root.cek.clone());
            }
            if self.full {
                (chain.ask, chain.ark) = (Some(root.ask.clone()), Some(root.ark.clone()));
            }
        }
        let mut bytes = chain.encode_platform();
        bytes.extend(chain.encode_amd());
        save(&[Output { file: self.output.clone(), bytes: &bytes, private: false }], self.force)?;
        notice(&format!("{}: {} bytes; {MODEL}", name(&self.output), bytes.len()));
        Ok(ExitCode::SUCCESS)
    }
}

impl Ca {
    fn run(self) -> anyhow::Result<ExitCode> {
        let machine = self.folder.start()?;
        let root = machine.root(self.roots.generation())?;
        let (ark, ask) = (root.ark.as_bytes(), root.ask.as_bytes());
        let both = [ask, ark].concat();
        let cek = root.cek.as_bytes();
        std::fs::create_dir_all(&self.output)
            .map_err(|error| anyhow::anyhow!("cannot make the folder {}: {error}", name(&self.output)))?;
        let files = [("ask_ark.cert", &both[..]), ("ark.cert", ark), ("ask.cert", ask), ("cek.cert", cek)]
            .map(|(file, bytes)| Output { file: self.output.join(file), bytes, private: false });
        save(&files, self.force)?;
        for Output { file, bytes, .. } in &files {
            out::line(&format!("{} ({} bytes)", name(file), bytes.len()));
        }
        notice(MODEL);
        Ok(ExitCode::SUCCESS)
    }
}

/// Changes the platform's keys and says which PDH it has now.
fn changed(
    folder: &Folder,
    what: &str,
    change: impl Fn(&Machine) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let machine = folder.start_to_change()?;
    change(&machine)?;
    out::line(&format!("{}: {what}", machine.place()));
    out::line(&format!("  PDH SHA-256 {}", show::fingerprint(machine.chain()?.pdh.as_ref())));
    notice(MODEL);
    Ok(ExitCode::SUCCESS)
}

fn on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("it is on or off".into()),
    }
}

fn api(text: &str) -> Result<(u8, u8), String> {
    let parse = || {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    parse().ok_or_else(|| "it is two numbers below 256, as 1.55".into())
}

fn bits(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(bits @ (2048 | 4096)) => Ok(bits),
        _ => Err("it is 2048 or 4096".into()),
    }
}

/// Said with everything that could be mistaken for a vendor's.
pub(super) const MODEL: &str = "MODEL, NOT AMD: a machine in software, for tests and development; whoever has its \
                                folder can read its guests";
