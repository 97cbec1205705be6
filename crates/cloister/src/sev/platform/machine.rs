//! A modelled machine whose secure processor is asked, without a guest.

use anyhow::{Context, bail};
use cloister_asp::Root;
use cloister_crypto::{Entropy, SystemEntropy};
use cloister_formats::sev::amd_root::Generation;
use cloister_formats::sev::chain::Chain;
use cloister_formats::sev::status::Status;
use cloister_host_kernel::HostKernel;
use cloister_platform::{SevError, SevHost, SevPlatformStatus};
use cloister_platform_store::{Environment, Sev, SevPlatform, locate};
use cloister_silicon_x86::Silicon;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which platform.
#[derive(Debug, clap::Args)]
pub(in crate::sev) struct Folder {
    /// The platform's folder; without it $CLOISTER_PLATFORM, the system's folder, the user's folder
    #[arg(short, long = "platform", value_name = "DIR")]
    platform: Option<PathBuf>,
}

impl Folder {
    /// Where the platform is.
    pub(super) fn path(&self) -> anyhow::Result<PathBuf> {
        let located = locate(self.platform.as_deref(), &Environment::of_this_process())?;
        let located = located.context(
            "there is no platform; name one with --platform DIR, or make one with `cloister sev platform create DIR`",
        )?;
        Ok(located.folder)
    }

    /// Takes it into use, beside others.
    pub(super) fn start(&self) -> anyhow::Result<Machine> {
        Machine::start(&self.path()?)
    }

    /// Takes it into use in order to change it: nobody else may use it meanwhile.
    pub(super) fn start_to_change(&self) -> anyhow::Result<Machine> {
        Machine::start_to_change(&self.path()?, Box::new(SystemEntropy))
    }
}

/// The machine, in use as long as this value lives.
pub(super) struct Machine {
    folder: PathBuf,
    switches: Sev,
    roots: Vec<Root>,
    host: SevHost,
}

impl Machine {
    /// Takes a platform into use, beside others. The first question starts its secure processor.
    pub(super) fn start(folder: &Path) -> anyhow::Result<Self> {
        Self::of(folder, SevPlatform::open(folder)?, Box::new(SystemEntropy))
    }

    /// Takes a platform into use that nobody else may use meanwhile.
    pub(super) fn start_to_change(folder: &Path, entropy: Box<dyn Entropy + Send>) -> anyhow::Result<Self> {
        Self::of(folder, SevPlatform::open_to_change(folder)?, entropy)
    }

    fn of(folder: &Path, platform: SevPlatform, entropy: Box<dyn Entropy + Send>) -> anyhow::Result<Self> {
        let switches = platform.config().sev;
        if !switches.present {
            bail!(
                "the platform {} has no SEV (present = false in its platform.toml), so it has no secure processor",
                folder.display()
            );
        }
        let roots = platform.identity().roots().to_vec();
        let host =
            SevHost::new(Arc::new(HostKernel::new(Arc::new(Silicon::with_entropy(platform, entropy)))));
        Ok(Self { folder: folder.to_owned(), switches, roots, host })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// In messages.
    pub(super) fn place(&self) -> String {
        format!("model platform {}", self.folder.display())
    }

    pub(super) fn switches(&self) -> &Sev {
        &self.switches
    }

    pub(super) fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// The maker's certificates of one generation, or of the newest that the platform has.
    pub(super) fn root(&self, generation: Option<Generation>) -> anyhow::Result<&Root> {
        let newest = self.roots.iter().max_by_key(|root| root.ark.generation().bits());
        let found = match generation {
            Some(wanted) => self.roots.iter().find(|root| root.ark.generation() == wanted),
            None => newest,
        };
        found.with_context(|| {
            let has: Vec<_> =
                self.roots.iter().map(|root| root.ark.generation().bits().to_string()).collect();
            let has = if has.is_empty() {
                "no roots".into()
            } else {
                format!("roots of {} bits", has.join(" and "))
            };
            format!("the {} has {has}; choose with --bits, or make another platform", self.place())
        })
    }

    pub(super) fn status(&self) -> anyhow::Result<SevPlatformStatus> {
        self.host.status().map_err(|error| self.refused("PLATFORM_STATUS", error))
    }

    /// PDH, PEK, OCA and CEK as the firmware exports them.
    pub(super) fn chain(&self) -> anyhow::Result<Chain> {
        let (pdh, chain) =
            self.host.pdh_cert_export().map_err(|error| self.refused("PDH_CERT_EXPORT", error))?;
        Chain::parse(&[pdh, chain].concat()).context("the firmware exported something else than certificates")
    }

    pub(super) fn id(&self) -> anyhow::Result<Vec<u8>> {
        self.host.id().map_err(|error| self.refused("GET_ID", error))
    }

    pub(super) fn pek_csr(&self) -> anyhow::Result<Vec<u8>> {
        self.host.pek_csr().map_err(|error| self.refused("PEK_CSR", error))
    }

    pub(super) fn pek_cert_import(&self, pek: Vec<u8>, oca: Vec<u8>) -> anyhow::Result<()> {
        self.host.pek_cert_import(pek, oca).map_err(|error| self.refused("PEK_CERT_IMPORT", error))
    }

    pub(super) fn pek_gen(&self) -> anyhow::Result<()> {
        self.host.pek_gen().map_err(|error| self.refused("PEK_GEN", error))
    }

    pub(super) fn pdh_gen(&self) -> anyhow::Result<()> {
        self.host.pdh_gen().map_err(|error| self.refused("PDH_GEN", error))
    }

    pub(super) fn reset(&self) -> anyhow::Result<()> {
        self.host.factory_reset().map_err(|error| self.refused("PLATFORM_RESET", error))
    }

    /// A refusal with the firmware's word for it, and what to do.
    fn refused(&self, command: &str, error: SevError) -> anyhow::Error {
        match error {
            SevError::Refused { fw_error, .. } if fw_error != 0 => {
                let status = Status(fw_error);
                let advice = match status {
                    Status::ALREADY_OWNED => {
                        ": `cloister sev platform pek-gen` or `reset` takes it from its owner first"
                    }
                    Status::INVALID_CERTIFICATE | Status::BAD_SIGNATURE => {
                        ": is the OCA self-signed, and is this its private key?"
                    }
                    Status::SECURE_DATA_INVALID => {
                        "; its flash is damaged or another chip's: `cloister sev platform reset` makes new keys"
                    }
                    Status::HWERROR_PLATFORM => ": can the platform's folder be written?",
                    _ => "",
                };
                anyhow::anyhow!("the firmware of the {} refused {command}: {status}{advice}", self.place())
            }
            other => anyhow::Error::new(other).context(format!("{command} failed on the {}", self.place())),
        }
    }
}
