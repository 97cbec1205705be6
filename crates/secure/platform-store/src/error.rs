//! The one error type of this crate.

use std::path::PathBuf;

use crate::Target;

/// Why a platform folder could not be found, read, made or taken into use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformError {
    /// The folder that the user named does not exist or is not a platform.
    #[error(
        "no platform in {} (named by {named_by}): {reason}; create one with \
         `cloister pv host-key create -o {}` (IBM Z) or `cloister sev platform create {}` (AMD SEV), or name \
         another folder",
        .folder.display(), .folder.display(), .folder.display()
    )]
    NotFound {
        /// The folder.
        folder: PathBuf,
        /// Who named it: the option or the environment variable.
        named_by: &'static str,
        /// What is missing.
        reason: &'static str,
    },
    /// The platform was to be changed, and machines use it.
    #[error(
        "platform {} is in use by {holder}, and nobody may change it meanwhile; end what uses it first, or change \
         another platform",
        .folder.display()
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The processes that use it, in words.
        holder: String,
    },
    /// Another process changes the platform's identity or switches.
    #[error(
        "platform {} is being changed by {holder}; try again when that has ended, or use another platform folder \
         (-platform DIR)",
        .folder.display()
    )]
    Changing {
        /// The folder.
        folder: PathBuf,
        /// The process that changes it, in words.
        holder: String,
    },
    /// The platform is a machine of another architecture.
    #[error(
        "platform {} is a machine of target {is}, and this one needs a platform of target {needed}; name another \
         folder (-platform DIR) or create one with `{}`",
        .folder.display(), create(*.needed)
    )]
    Target {
        /// The folder.
        folder: PathBuf,
        /// What it is.
        is: Target,
        /// What was needed.
        needed: Target,
    },
    /// `platform.toml` cannot be understood.
    #[error("{} cannot be used: {reason}", .file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// What is wrong, with the key and the line.
        reason: String,
    },
    /// `platform.toml` is of another kind or of a later version.
    #[error(
        "{} says kind \"{kind}\", version {version}; this program reads kind \"cloister-platform\", \
         version 1",
        .file.display()
    )]
    Version {
        /// The file.
        file: PathBuf,
        /// The kind it states.
        kind: String,
        /// The version it states.
        version: u32,
    },
    /// Creating would have overwritten something.
    #[error(
        "{} exists already and is never overwritten; choose another folder, or move the old identity away",
        .file.display()
    )]
    Exists {
        /// The file in the way.
        file: PathBuf,
    },
    /// A key or certificate in the folder is damaged.
    #[error(
        "{} is damaged: {reason}; restore it from a copy or create a new platform in another folder",
        .file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A private key can be read by others.
    #[error(
        "{} holds a private key but has mode {mode:04o}; others could read it: run `chmod 600 {}`",
        .file.display(), .file.display()
    )]
    KeyExposed {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// An operation on a file failed.
    #[error("cannot {action} {}: {source}{}", .file.display(), hint(.source))]
    Io {
        /// The verb.
        action: &'static str,
        /// The file.
        file: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The options contradict what an identity can be.
    #[error("cannot create an identity: {0}")]
    Options(&'static str),
    /// A certificate could not be built.
    #[error("cannot build the {what}: {reason}")]
    Certificate {
        /// Which object.
        what: &'static str,
        /// The encoder's reason.
        reason: String,
    },
}

impl PlatformError {
    pub(crate) fn io(
        action: &'static str,
        file: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> PlatformError {
        let file = file.into();
        move |source| PlatformError::Io { action, file, source }
    }
}

fn create(target: Target) -> &'static str {
    match target {
        Target::S390x => "cloister pv host-key create -o DIR",
        Target::X86_64 => "cloister sev platform create DIR",
    }
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::StorageFull => " (nothing half-written remains; make room and try again)",
        std::io::ErrorKind::PermissionDenied => " (check the owner and mode of the folder)",
        _ => "",
    }
}
