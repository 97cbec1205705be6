//! The platform of a modelled AMD machine: the chip's secret, the certificates that its maker issued, and the flash in
//! which the secure processor keeps its own keys.
//!
//! The maker's keys are RSA: to draw them takes seconds. So they are made when a folder is created and never for a
//! machine that lives as long as a run: nobody could take its root certificates anywhere, and its firmware exports the
//! CEK without a signature as every firmware does.

use std::path::{Path, PathBuf};

use cloister_asp::{Asp, Config, FlatMemory, Identity, RootKeys, Version};
use cloister_crypto::{Entropy, Secret, SeededEntropy, SystemEntropy};
use cloister_formats::sev::amd_root::Generation;
use cloister_formats::sev::command::{Command, Init};
use zeroize::Zeroizing;

use crate::config::{PlatformConfig, Sev, Target};
use crate::locate::Environment;
use crate::lock::{Lock, Turn};
use crate::platform::{config, locate_for, of_target};
use crate::{MODEL_NOTICE, PlatformError, files};

/// What [`create_sev`] makes.
#[derive(Clone, Debug, Default)]
pub struct SevCreateOptions {
    /// The switches.
    pub sev: Sev,
    /// Only the older roots (RSA-2048, as of Naples), which are drawn quickly: for tests.
    pub small_roots: bool,
}

/// A modelled AMD machine that this process uses. The lock is held as long as this value lives; the
/// system drops it when the process ends, however it ends.
///
/// Every process has a firmware of its own, and all of them have what the flash holds. So the flash changes only while
/// one process has the platform alone.
#[derive(Debug)]
pub struct SevPlatform {
    folder: Option<PathBuf>,
    config: PlatformConfig,
    identity: Identity,
    lock: Option<Lock>,
}

impl SevPlatform {
    /// Takes the platform in `folder` into use, beside others that may use it too. While somebody changes it this waits
    /// a moment, then gives [`PlatformError::Changing`]. If the secure processor has never been started it is now, so
    /// that all users find the same keys.
    pub fn open(folder: &Path) -> Result<Self, PlatformError> {
        Self::open_with(folder, &mut SystemEntropy)
    }

    /// As [`open`](Self::open), with the randomness of a first start from elsewhere.
    pub fn open_with(folder: &Path, entropy: &mut dyn Entropy) -> Result<Self, PlatformError> {
        let config = config(folder, Target::X86_64)?;
        let shared = Self::read(folder, config.clone(), Lock::shared(folder)?)?;
        let started = || folder.join(FLASH).exists();
        if !config.sev.present || started() {
            return Ok(shared);
        }
        drop(shared);
        let Some(lock) = Lock::alone_unless(folder, started)? else {
            return Self::read(folder, config, Lock::shared(folder)?);
        };
        let mut alone = Self::read(folder, config, lock)?;
        alone.start_once(entropy)?;
        alone.lock = alone.lock.map(Lock::share);
        Ok(alone)
    }

    /// Takes the platform in `folder` into use in order to change it: nobody else may use it as long as this value
    /// lives. While somebody does this waits a moment, then gives [`PlatformError::InUse`].
    pub fn open_to_change(folder: &Path) -> Result<Self, PlatformError> {
        Self::read(folder, config(folder, Target::X86_64)?, Lock::alone(folder)?)
    }

    fn read(folder: &Path, config: PlatformConfig, lock: Lock) -> Result<Self, PlatformError> {
        let file = folder.join(IDENTITY);
        let identity = Identity::open(&files::read_secret(&file)?)
            .map_err(|error| PlatformError::Damaged { file, reason: error.to_string() })?;
        Ok(Self { folder: Some(folder.into()), config, identity, lock: Some(lock) })
    }

    /// Switches the secure processor on and off, for it to make its keys.
    fn start_once(&self, entropy: &mut dyn Entropy) -> Result<(), PlatformError> {
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(&mut *seed);
        let entropy = Box::new(SeededEntropy::new(&*seed));
        let mut asp = Asp::new(self.identity.clone(), entropy, self.asp_config());
        let status = asp.execute(Command::INIT.0, &mut Init::default().encode(), &FlatMemory::default());
        match asp.take_flash() {
            Some(Some(content)) if status.is_success() => self.keep_flash(Some(content)),
            // The machine's own driver will be told the same.
            _ => Ok(()),
        }
    }

    /// The platform that a machine uses when the user says no more than `option` (`-platform DIR`):
    /// the one that [`locate`](crate::locate) finds, else an ephemeral one of default shape.
    pub fn resolve(
        option: Option<&Path>,
        environment: &Environment,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, PlatformError> {
        match locate_for(option, environment, Target::X86_64)? {
            Some(folder) => Self::open_with(&folder, entropy),
            None => Ok(Self::ephemeral(Sev::default(), entropy)),
        }
    }

    /// A new machine that lives in memory and is gone with this value. No maker has certified it.
    pub fn ephemeral(sev: Sev, entropy: &mut dyn Entropy) -> Self {
        let mut config = PlatformConfig::new(Target::X86_64);
        config.sev = sev;
        let identity = Identity::of_chip(Secret::generate(entropy));
        Self { folder: None, config, identity, lock: None }
    }

    /// The folder, or `None` for an ephemeral machine.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// The switches.
    pub fn config(&self) -> &PlatformConfig {
        &self.config
    }

    /// Who the secure processor is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What the secure processor's flash held when the machine was last switched off: sealed by the firmware, and judged
    /// by it.
    pub fn flash(&self) -> Result<Option<Vec<u8>>, PlatformError> {
        let Some(file) = self.folder.as_ref().map(|folder| folder.join(FLASH)) else { return Ok(None) };
        match file.exists() {
            true => files::read_secret(&file).map(|bytes| Some(bytes.to_vec())),
            false => Ok(None),
        }
    }

    /// Has the platform alone until the answer is dropped; [`PlatformError::InUse`] if somebody else uses it now.
    pub fn change(&self) -> Result<SevChange<'_>, PlatformError> {
        let turn = self.lock.as_ref().map(Lock::change).transpose()?;
        Ok(SevChange { platform: self, _turn: turn })
    }

    /// Keeps the content of the flash, if nobody else uses the platform now; see [`SevChange::keep_flash`].
    pub fn keep_flash(&self, content: Option<&[u8]>) -> Result<(), PlatformError> {
        self.change()?.keep_flash(content)
    }

    /// The secure processor that the switches describe.
    pub fn asp_config(&self) -> Config {
        let switches = self.config.sev;
        Config {
            version: Version { major: switches.api_major, minor: switches.api_minor, build: switches.build },
            asids: switches.asids,
            min_sev_asid: switches.min_sev_asid,
            es: switches.es,
            c_bit: switches.cbitpos,
            ..Config::default()
        }
    }
}

/// A time in which nobody else uses a platform.
#[derive(Debug)]
pub struct SevChange<'a> {
    platform: &'a SevPlatform,
    _turn: Option<Turn<'a>>,
}

impl SevChange<'_> {
    /// Keeps the content of the flash; `None` for an empty one. The flash of an ephemeral machine is gone with it.
    pub fn keep_flash(&self, content: Option<&[u8]>) -> Result<(), PlatformError> {
        let folder = self.platform.folder.as_ref();
        let Some(file) = folder.map(|folder| folder.join(FLASH)) else { return Ok(()) };
        match content {
            Some(bytes) => files::replace(&file, bytes, 0o600),
            None => files::remove(&file),
        }
    }
}

/// Creates the platform of a modelled AMD machine in `folder`, which is made if it is absent. Draws RSA keys of up to
/// 4096 bits, which takes seconds.
///
/// `platform.toml` is written last and makes the folder a platform. Nothing that exists is ever
/// overwritten; after a failure nothing that this call wrote remains.
pub fn create_sev(
    folder: &Path,
    options: &SevCreateOptions,
    entropy: &mut dyn Entropy,
) -> Result<SevSummary, PlatformError> {
    let mut config = PlatformConfig::new(Target::X86_64);
    config.sev = options.sev;
    // What cannot be read again is not written.
    PlatformConfig::parse(&config.to_toml(), &folder.join(files::CONFIG))?;
    let identity = match options.small_roots {
        false => Identity::generate(entropy),
        true => {
            let mut identity = Identity::of_chip(Secret::generate(entropy));
            identity.certify(&RootKeys::generate(entropy, Generation::Rsa2048), entropy);
            identity
        }
    };
    let mut contents: Vec<files::NewFile> = vec![(IDENTITY.into(), identity.seal(), 0o600)];
    for (name, bytes) in certificates(&identity) {
        contents.push((name, Zeroizing::new(bytes), 0o644));
    }
    contents.push((files::CONFIG.into(), Zeroizing::new(config.to_toml().into_bytes()), 0o644));
    files::create_all(folder, &contents)?;
    show_sev(folder)
}

/// What a person wants to know about the platform folder of an AMD machine; see [`show_sev`].
#[derive(Clone, Debug)]
pub struct SevSummary {
    /// The folder.
    pub folder: PathBuf,
    /// The switches.
    pub config: PlatformConfig,
    /// The public certificates, as `sevctl` reads them.
    pub certificates: Vec<SevCertificateFile>,
    /// Whether the secure processor has keys of its own yet: it makes them at its first start.
    pub initialised: bool,
    /// The sentence to print with it: [`MODEL_NOTICE`].
    pub notice: &'static str,
}

/// One public file of the folder of an AMD machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SevCertificateFile {
    /// The file.
    pub file: PathBuf,
    /// What is in it: `ARK`, `ASK`, `ASK and ARK`, `CEK`.
    pub content: &'static str,
    /// Bits of the maker's RSA keys.
    pub bits: u32,
}

/// Describes a platform without taking it into use: no lock, and no private key is read.
pub fn show_sev(folder: &Path) -> Result<SevSummary, PlatformError> {
    let config_file = folder.join(files::CONFIG);
    let config = PlatformConfig::parse(&files::read(&config_file)?, &config_file)?;
    of_target(folder, &config, Target::X86_64)?;
    let mut certificates = Vec::new();
    for generation in [Generation::Rsa4096, Generation::Rsa2048] {
        for (stem, content) in CERTIFICATES {
            let file = folder.join(name(stem, generation));
            if file.exists() {
                certificates.push(SevCertificateFile { file, content, bits: generation.bits() });
            }
        }
    }
    let initialised = folder.join(FLASH).exists();
    Ok(SevSummary { folder: folder.into(), config, certificates, initialised, notice: MODEL_NOTICE })
}

/// The public files of an identity.
fn certificates(identity: &Identity) -> Vec<(String, Vec<u8>)> {
    let mut list = Vec::new();
    for root in identity.roots() {
        let (ark, ask) = (root.ark.as_bytes(), root.ask.as_bytes());
        let contents = [ark.to_vec(), ask.to_vec(), [ask, ark].concat(), root.cek.as_bytes().to_vec()];
        for ((stem, _), content) in CERTIFICATES.into_iter().zip(contents) {
            list.push((name(stem, root.ark.generation()), content));
        }
    }
    list
}

/// The file for certificates of a generation: the newer one has the plain names.
fn name(stem: &str, generation: Generation) -> String {
    match generation {
        Generation::Rsa4096 => format!("{stem}.cert"),
        Generation::Rsa2048 => format!("{stem}-2048.cert"),
    }
}

/// Stems of the public files, and what is in them.
const CERTIFICATES: [(&str, &str); 4] =
    [("ark", "ARK"), ("ask", "ASK"), ("ask_ark", "ASK and ARK"), ("cek", "CEK")];
/// The chip's secret and what its maker certified.
const IDENTITY: &str = "sev-identity.key";
/// What the secure processor's flash holds.
const FLASH: &str = "sev-flash.bin";
