//! Why a guest cannot be protected, in QEMU's words where it has some, with a hint on a line of its own.
//!
//! Failures of the platform's own commands are worded in the mechanism's module.

use crate::sev_error::SevFault;

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CgsError {
    /// `confidential-guest-support=` names nothing.
    #[error("Device '{0}' not found")]
    ObjectNotFound(String),
    /// `memory-encryption=` names nothing.
    #[error("No such memory encryption object '{0}'")]
    LegacyObjectNotFound(String),
    /// The named object is none of a mechanism.
    #[error("Invalid parameter type for 'confidential-guest-support', expected: confidential-guest-support")]
    WrongObject,
    /// The named object belongs to another target.
    #[error("invalid object type: {0}")]
    OtherTarget(String),

    /// The platform has no Ultravisor.
    #[error(
        "Protected Virtualization requires an Ultravisor, and this platform has none\nChoose a platform that has one with -platform DIR."
    )]
    NoUltravisor,
    /// The Ultravisor is switched off.
    #[error(
        "Protected Virtualization is switched off on this platform (prot_virt=0)\nSwitch it on in the platform's settings, or choose another platform with -platform DIR."
    )]
    ProtVirtOff,
    /// The CPU model has no unpack facility.
    #[error(
        "CPU model does not support Protected Virtualization\nIt lacks the unpack facility; add unpack=on to -cpu."
    )]
    CpuModel,
    /// More CPUs than the SCLP can describe.
    #[error("Protected VMs support a maximum of {0} CPUs")]
    TooManyCpus(u32),
    /// A device of the host.
    #[error("Protected VMs do not support pass-through devices, and '{name}' is one ({driver})")]
    PassThrough {
        /// The device's name.
        name: String,
        /// Its type.
        driver: String,
    },
    /// Huge pages of the host.
    #[error(
        "Protected VMs can currently not be backed with huge pages\nThe guest's memory lies in pages of {size} bytes; use another -mem-path or memory backend. The guest's own huge pages are not affected."
    )]
    HugePages {
        /// Their size.
        size: u64,
    },
    /// Something needs RAM discard.
    #[error("protected VMs: cannot disable RAM discard")]
    Discard,
    /// `-only-migratable` forbids what blocks migration.
    #[error("disallowing migration blocker (--only-migratable) for: {0}")]
    OnlyMigratable(&'static str),
    /// AMD SEV.
    #[error(transparent)]
    Sev(#[from] SevFault),
    /// The platform answered something else than what was asked.
    #[error("{0}")]
    Platform(String),
}
