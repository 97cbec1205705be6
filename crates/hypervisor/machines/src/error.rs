//! Why a machine cannot be made or run.

use std::path::PathBuf;

/// A refusal at start, or a failure while running.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// A file cannot be read.
    #[error("could not load {what} '{}': {source}", path.display())]
    Load {
        /// `kernel`, `initrd`, ...
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file does not fit or is none of the expected kind.
    #[error("could not load {what} '{}': {problem}", path.display())]
    Unfit {
        /// `kernel`, `initrd`, ...
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why, and what to do.
        problem: String,
    },
    /// The kernel has room for less.
    #[error("kernel command line exceeds maximum size: {size} > {limit}")]
    CommandLine {
        /// Bytes with the terminating zero.
        size: u64,
        /// Bytes that the kernel has room for.
        limit: u64,
    },
    /// The boot loader of QEMU is not installed.
    #[error(
        "could not find stage1 bootloader '{}': install QEMU's firmware for s390x (package qemu-system-data or \
         qemu-system-s390x-core), name it with -bios FILE or its folder with -L DIR, or give a kernel with -kernel FILE",
        name.display()
    )]
    NoBootLoader {
        /// The name looked for.
        name: PathBuf,
    },
    /// Protected mode without the block that describes it.
    #[error("the guest's description of its protected mode is gone")]
    NoProtectedBlock,
    /// RAM size.
    #[error("ram size must be multiples of 1 MiB")]
    MemorySize,
    /// CPUs.
    #[error("Invalid SMP CPUs {asked}. The max CPUs supported by machine '{machine}' is {most}")]
    TooManyCpus {
        /// Asked for.
        asked: u32,
        /// Possible.
        most: u32,
        /// The machine.
        machine: String,
    },
    /// Guests of this architecture can be launched, not run.
    #[error("{}", crate::q35::NO_CPU)]
    NoCpuBackEnd,
    /// Firmware flash.
    #[error(transparent)]
    Flash(#[from] cloister_devices::flash::FlashError),
    /// CPU model and features.
    #[error("{0}")]
    CpuModel(String),
    /// A device option.
    #[error("{location}: {problem}")]
    Device {
        /// Where it was given.
        location: String,
        /// What is wrong.
        problem: String,
    },
    /// A device model.
    #[error(transparent)]
    DeviceModel(#[from] cloister_devices::Error),
    /// Confidential guest support.
    #[error(transparent)]
    ConfidentialGuest(#[from] cloister_cgs::CgsError),
    /// The platform.
    #[error(transparent)]
    Vm(#[from] cloister_platform::VmError),
    /// Guest memory cannot be written by the loader.
    #[error("guest memory at {address:#x} cannot be written: {source}")]
    Memory {
        /// Where.
        address: u64,
        /// Why.
        source: vm_memory::GuestMemoryError,
    },
    /// Threads, signals.
    #[error("cannot {what}: {source}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}
