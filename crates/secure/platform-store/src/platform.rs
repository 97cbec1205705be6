//! A platform in use.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cloister_crypto::Entropy;

use crate::config::{PlatformConfig, Target};
use crate::locate::{Environment, Source, locate};
use crate::lock::Lock;
use crate::s390x::{CreateOptions, S390xMaterial};
use crate::{PlatformError, files};

/// A modelled IBM Z machine that this process uses, beside others that may use it too. The lock is held as long as this
/// value lives; the system drops it when the process ends, however it ends.
#[derive(Debug)]
pub struct Platform {
    folder: Option<PathBuf>,
    config: PlatformConfig,
    s390x: S390xMaterial,
    _lock: Option<Lock>,
}

impl Platform {
    /// Takes the platform in `folder` into use. While somebody changes it this waits a moment, then gives
    /// [`PlatformError::Changing`].
    pub fn open(folder: &Path) -> Result<Self, PlatformError> {
        let config = config(folder, Target::S390x)?;
        let lock = Lock::shared(folder)?;
        let s390x = S390xMaterial::read(folder)?;
        Ok(Self { folder: Some(folder.into()), config, s390x, _lock: Some(lock) })
    }

    /// The platform that a machine uses when the user says no more than `option` (`-platform DIR`):
    /// the one that [`locate`] finds, else an ephemeral one of default shape.
    pub fn resolve_s390x(
        option: Option<&Path>,
        environment: &Environment,
        entropy: &mut dyn Entropy,
        now: SystemTime,
    ) -> Result<Self, PlatformError> {
        match locate_for(option, environment, Target::S390x)? {
            Some(folder) => Self::open(&folder),
            None => Self::ephemeral_s390x(&CreateOptions::default(), entropy, now),
        }
    }

    /// A new machine that lives in memory and is gone with this value: for a demonstration where
    /// no platform folder exists.
    pub fn ephemeral_s390x(
        options: &CreateOptions,
        entropy: &mut dyn Entropy,
        now: SystemTime,
    ) -> Result<Self, PlatformError> {
        let s390x = S390xMaterial::generate(options, entropy, now)?;
        Ok(Self { folder: None, config: PlatformConfig::new(Target::S390x), s390x, _lock: None })
    }

    /// The folder, or `None` for an ephemeral machine.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// The switches.
    pub fn config(&self) -> &PlatformConfig {
        &self.config
    }

    /// The identity of a Z machine.
    pub fn s390x(&self) -> &S390xMaterial {
        &self.s390x
    }
}

/// The folder that [`locate`] finds. One that nobody named is passed over if it is of another target: whoever keeps a
/// Z machine there can still start an AMD one.
pub(crate) fn locate_for(
    option: Option<&Path>,
    environment: &Environment,
    target: Target,
) -> Result<Option<PathBuf>, PlatformError> {
    let Some(located) = locate(option, environment)? else { return Ok(None) };
    if matches!(located.source, Source::System | Source::User) {
        let file = located.folder.join(files::CONFIG);
        if PlatformConfig::parse(&files::read(&file)?, &file)?.target != target {
            return Ok(None);
        }
    }
    Ok(Some(located.folder))
}

/// The switches of a platform of this target.
pub(crate) fn config(folder: &Path, target: Target) -> Result<PlatformConfig, PlatformError> {
    let file = folder.join(files::CONFIG);
    let config = PlatformConfig::parse(&files::read(&file)?, &file)?;
    of_target(folder, &config, target)?;
    Ok(config)
}

/// Refuses a platform of another target.
pub(crate) fn of_target(folder: &Path, config: &PlatformConfig, needed: Target) -> Result<(), PlatformError> {
    match config.target {
        is if is == needed => Ok(()),
        is => Err(PlatformError::Target { folder: folder.into(), is, needed }),
    }
}
