//! Dumps of protected guests, decrypted by the owner of the image.
//!
//! A host makes a dump with `dump-guest-memory` if the image allows it, and can read none of it. The owner's customer
//! communication key (CCK) opens the end of the dump, which has the keys for the rest. The dump comes from a host that
//! nobody trusts: CPUs and keys are authenticated before they are used, and memory is, where the end of the dump has a
//! digest of it (the modelled Ultravisor's has). Nothing is written unless all of it fits.
//!
//! It makes no dump, and it knows no guest: debuggers do.

mod decrypt;

use std::path::PathBuf;

pub use decrypt::{decrypt, fuzz};

use crate::host_key::Warning;

/// What to decrypt.
#[derive(Clone, Debug)]
pub struct Options {
    /// The dump.
    pub dump: PathBuf,
    /// The file with the customer communication key, 32 bytes.
    pub cck: PathBuf,
    /// The core to write.
    pub output: PathBuf,
    /// Replace an existing output.
    pub overwrite: bool,
    /// Take memory as it is: of a real machine's dump, or of a dump of a part, nobody can tell whether the host
    /// altered it.
    pub unauthenticated_memory: bool,
}

/// What was decrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// CPUs.
    pub cpus: usize,
    /// Pages that were encrypted.
    pub private: u64,
    /// Pages that the guest shared with its host; the host could write them.
    pub shared: u64,
    /// Pages that the guest never touched, or that read as zero.
    pub zero: u64,
    /// Pages that the dump does not have; zeros stand in their place.
    pub missing: u64,
    /// Whether private memory is what the guest had.
    pub authenticated: bool,
    /// What the owner should know.
    pub warnings: Vec<Warning>,
}

/// Why a dump cannot be decrypted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// The file is no core of an s390x guest.
    #[error("{}: {source}", .file.display())]
    Core {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: cloister_elf_core::CoreError,
    },
    /// The core is not of a protected guest, or its image allowed no dump.
    #[error(
        "{} is no dump that an owner could decrypt: it has no section {section}. The guest was not protected, or its image does not allow dumps (make it with --enable-dump)",
        .file.display()
    )]
    NotProtected {
        /// The file.
        file: PathBuf,
        /// What is missing.
        section: &'static str,
    },
    /// A part has an impossible size or place.
    #[error("the dump is damaged: {0}")]
    Damaged(String),
    /// A structure has a version that is not known.
    #[error(
        "the {what} has version {version} and {length} bytes; only version 1 with {expected} bytes is known"
    )]
    Version {
        /// The structure.
        what: &'static str,
        /// Its version.
        version: u32,
        /// Its length.
        length: u32,
        /// The known length.
        expected: usize,
    },
    /// The end of the dump does not open.
    #[error(
        "the dump cannot be opened: this is not the customer communication key of the guest's image, or the dump was altered. Use the key that was given to `pv image create --cck`"
    )]
    Key,
    /// A CPU does not open, though the key is right.
    #[error("CPU {0} of the dump was altered, or is of another dump")]
    Cpu(usize),
    /// Memory is not what the Ultravisor encrypted.
    #[error(
        "the memory of the dump was altered: it is not what the guest had when it was dumped; get the dump again, or read it nevertheless with --unauthenticated-memory"
    )]
    Memory,
    /// Nobody can tell whether memory is what it was.
    #[error(
        "the memory of the dump cannot be authenticated: {0}. Read it nevertheless with --unauthenticated-memory"
    )]
    Unauthenticated(&'static str),
}
