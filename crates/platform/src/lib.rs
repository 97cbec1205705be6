//! The upper door: KVM's semantics as plain messages.
//!
//! Machines and devices use only this crate to reach a VM, its CPUs and its memory. Everything that
//! crosses is plain data, so that the other side can live in another process; [`Loopback`] proves it by
//! turning every message into bytes and back. Two implementations exist in principle: the host kernel of
//! the software secure world, and KVM on a real kernel.
//!
//! It is not an emulator of KVM's ioctl numbers: those belong to the crate that talks to a real kernel.
#![forbid(unsafe_code)]

mod host_memory;
mod loopback;
mod sev;
mod vm;

pub use cloister_arch as arch;
pub use cloister_arch::pages::{Conversions, PageCounts, PageRun, PageState};
pub use host_memory::{HostBitmap, HostBitmapSlice, HostMemory, HostRegion, WriteObserver};
pub use loopback::{Loopback, Statistics};
pub use sev::{
    ATTESTATION_LEN, CERTIFICATE_LEN, CHAIN_LEN, ID_LEN, MEASUREMENT_LEN, SevCapabilities, SevCommand,
    SevData, SevError, SevGuestStatus, SevHost, SevPlatformCommand, SevPlatformStatus, SevResult,
};
pub use vm::{Vm, VmError};

use cloister_arch::s390x::{Completion, CpuRequest, CpuResponse, Exit, RunLimit, VmConfig};
use cloister_arch::x86_64;
use serde::{Deserialize, Serialize};

/// One VM behind the door. Calls may come from any thread; [`Request::Run`] occupies its thread.
pub trait Door: Send + Sync {
    /// Handles one request.
    fn call(&self, request: Request) -> Response;
}

/// What the hypervisor asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// What this platform is and can do.
    Capabilities,
    /// Create the VM (once).
    CreateVm(Box<VmConfig>),
    /// Create an x86-64 VM (once). Its CPUs cannot run in this version.
    CreateX86Vm(Box<x86_64::VmConfig>),
    /// Complete the last exit of a CPU and run it until the next.
    Run {
        /// CPU address.
        cpu: u16,
        /// How far.
        limit: RunLimit,
        /// Completion of the exit before.
        completion: Option<Completion>,
    },
    /// Everything else about CPUs and time.
    Cpu(CpuRequest),
    /// A request to an x86-64 vCPU.
    X86Cpu(x86_64::CpuRequest),
    /// The host is about to touch pages that the access map forbids.
    HostAccess {
        /// First page number in the backing store.
        page: u64,
        /// Number of pages.
        count: u64,
        /// For writing.
        write: bool,
    },
    /// The host has written pages that the access map marks as holding code.
    HostWrote {
        /// Offset in the backing store; where there is one slot, the guest absolute address.
        address: u64,
        /// Bytes.
        len: u64,
    },
    /// Signal a file descriptor instead of leaving the core for a virtio-ccw notification.
    RegisterDoorbell {
        /// Subsystem-identification word.
        subsystem_id: u32,
        /// Queue index.
        queue: u16,
        /// An eventfd.
        fd: i32,
    },
    /// Forget a doorbell.
    RemoveDoorbell {
        /// Subsystem-identification word.
        subsystem_id: u32,
        /// Queue index.
        queue: u16,
    },
    /// A protected-virtualization command (`KVM_S390_PV_COMMAND`).
    Pv(PvCommand),
    /// A SEV command for the guest (`KVM_MEMORY_ENCRYPT_OP`).
    Sev(SevCommand),
    /// A SEV command for the platform (`/dev/sev`); needs no VM.
    SevPlatform(SevPlatformCommand),
    /// Convert a range on the hypervisor's request; for mechanisms whose guests ask for it (SNP, TDX, CCA).
    SetPrivate {
        /// Guest absolute address.
        address: u64,
        /// Bytes.
        len: u64,
        /// Private or shared.
        private: bool,
    },
    /// How many pages are in which state, and how many were converted so far.
    PageCounts,
    /// The states of pages of the backing store, as runs.
    PageStates {
        /// First page number.
        first: u64,
        /// Number of pages.
        count: u64,
    },
}

/// The door's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To [`Request::Capabilities`].
    Capabilities(Box<Capabilities>),
    /// The VM exists; the memory can be mapped.
    Created(MemoryMap),
    /// To [`Request::Run`].
    Exit(Exit),
    /// To [`Request::Cpu`].
    Cpu(CpuResponse),
    /// To [`Request::X86Cpu`].
    X86Cpu(x86_64::CpuResponse),
    /// To [`Request::Pv`].
    Pv(PvResult),
    /// To [`Request::Sev`] and [`Request::SevPlatform`].
    Sev(SevResult),
    /// To [`Request::PageCounts`].
    PageCounts(PageCounts),
    /// To [`Request::PageStates`]: runs in order and without gaps.
    PageStates {
        /// The runs; the platform bounds their number.
        runs: Vec<PageRun>,
        /// Where to go on, if that was not all.
        next: Option<u64>,
    },
    /// Done.
    Done,
    /// Refused, in words.
    Refused(String),
}

/// What a platform is and can do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Where this runs, in words: `software model (/path/of/platform)` or `KVM on IBM z16`.
    pub platform: String,
    /// True if firmware and keys are models and protect nobody.
    pub model: bool,
    /// An Ultravisor is there.
    pub ultravisor: bool,
    /// The host was started with `prot_virt=1`.
    pub prot_virt: bool,
    /// Every facility that a CPU model may contain.
    pub facilities: [u64; 4],
    /// Most CPUs in a VM.
    pub max_cpus: u16,
    /// AMD SEV, if the platform has it.
    pub sev: Option<SevCapabilities>,
}

/// How to map a VM's memory. File descriptors are of the receiving process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryMap {
    /// memfd with the bytes as the host sees them.
    pub memory_fd: i32,
    /// memfd with one byte a page of the backing store: see [`access`].
    pub access_fd: i32,
    /// Bytes of the backing store.
    pub size: u64,
    /// What the guest sees of it; empty: all of it, from address 0 on.
    pub slots: Vec<x86_64::Slot>,
}

/// Bits of the access map.
pub mod access {
    /// The page is private: ask with [`Request::HostAccess`](super::Request::HostAccess) before touching it.
    pub const ASK: u8 = 1;
    /// Code was decoded from the page: tell with [`Request::HostWrote`](super::Request::HostWrote) after writing.
    pub const CODE: u8 = 2;
}

/// Commands of `KVM_S390_PV_COMMAND` (Linux, Documentation/virt/kvm/api.rst, 4.125).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PvCommand {
    /// Create the configuration and its CPUs.
    Enable,
    /// Destroy them; memory becomes non-secure and cleared.
    Disable,
    /// Give the Ultravisor the Secure Execution header.
    SetSecParms {
        /// The header.
        header: Vec<u8>,
    },
    /// Unpack a component.
    Unpack {
        /// Guest absolute address, page aligned.
        address: u64,
        /// Bytes, a multiple of the page size.
        size: u64,
        /// Tweak prefix of the component.
        tweak: u64,
    },
    /// Check the digests.
    Verify,
    /// Prepare a reset.
    PrepareReset,
    /// Take all shared pages back.
    UnshareAll,
    /// How much room a dump needs (`KVM_PV_INFO`, dumps).
    DumpInfo,
    /// Begin a dump; no CPU can be run until it is completed.
    DumpInit,
    /// The components of encrypted pages, from a guest absolute address on.
    DumpConfigStorState {
        /// Guest absolute address, a multiple of 1 MiB.
        address: u64,
        /// MiB.
        count: u64,
    },
    /// A CPU for the dump (`KVM_S390_PV_CPU_COMMAND`).
    DumpCpu {
        /// CPU address.
        cpu: u16,
    },
    /// End the dump.
    DumpComplete,
    /// Reset a CPU of a protected configuration.
    CpuReset {
        /// CPU address.
        cpu: u16,
        /// How far.
        kind: cloister_arch::s390x::ResetKind,
    },
    /// Set the state of a CPU of a protected configuration.
    CpuSetState {
        /// CPU address.
        cpu: u16,
        /// New state.
        state: cloister_arch::s390x::RunState,
    },
}

impl PvCommand {
    /// Number in the kernel's interface, as messages and the packed DIAG 308 failure code show it.
    pub fn number(&self) -> u16 {
        match self {
            Self::Enable => 0,
            Self::Disable => 1,
            Self::SetSecParms { .. } => 2,
            Self::Unpack { .. } => 3,
            Self::Verify => 4,
            Self::PrepareReset => 5,
            Self::UnshareAll => 6,
            Self::DumpInfo => 7,
            Self::DumpInit | Self::DumpConfigStorState { .. } | Self::DumpCpu { .. } | Self::DumpComplete => {
                8
            }
            // KVM does these two with vCPU ioctls; they have no number of their own.
            Self::CpuReset { .. } | Self::CpuSetState { .. } => 0xffff,
        }
    }

    /// Number of the subcommand of `KVM_PV_DUMP`, as messages show it.
    pub fn dump_number(&self) -> Option<u64> {
        match self {
            Self::DumpInit => Some(0),
            Self::DumpConfigStorState { .. } => Some(1),
            Self::DumpComplete => Some(2),
            Self::DumpCpu { .. } => Some(3),
            _ => None,
        }
    }

    /// Name in the kernel's interface.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Enable => "KVM_PV_ENABLE",
            Self::Disable => "KVM_PV_DISABLE",
            Self::SetSecParms { .. } => "KVM_PV_SET_SEC_PARMS",
            Self::Unpack { .. } => "KVM_PV_UNPACK",
            Self::Verify => "KVM_PV_VERIFY",
            Self::PrepareReset => "KVM_PV_PREP_RESET",
            Self::UnshareAll => "KVM_PV_UNSHARE_ALL",
            Self::DumpInfo => "KVM_PV_INFO",
            Self::DumpInit | Self::DumpConfigStorState { .. } | Self::DumpCpu { .. } | Self::DumpComplete => {
                "KVM_PV_DUMP"
            }
            Self::CpuReset { .. } => "KVM_S390_VCPU_RESET",
            Self::CpuSetState { .. } => "KVM_SET_MP_STATE",
        }
    }
}

/// Outcome of a [`PvCommand`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PvResult {
    /// False: the command failed.
    pub ok: bool,
    /// Ultravisor return code.
    pub rc: u16,
    /// Ultravisor return reason code.
    pub rrc: u16,
    /// In words, when it failed.
    pub reason: String,
    /// What the command stored: a piece of a dump, else empty.
    pub data: Vec<u8>,
    /// To [`PvCommand::DumpInfo`].
    pub dump: Option<PvDumpInfo>,
}

/// How much room a dump needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PvDumpInfo {
    /// Bytes for a CPU.
    pub cpu: u64,
    /// Bytes for each MiB of guest storage.
    pub storage_per_mib: u64,
    /// Bytes for the end.
    pub finalize: u64,
}
