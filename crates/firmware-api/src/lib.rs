//! The lower door: what silicon and firmware offer, as plain messages.
//!
//! Only the host kernel uses it, and the host kernel is not trusted: whatever it asks, the answer is what
//! a machine with honest firmware would give. Guest memory itself does not cross; its host view is a
//! memfd whose number does.
//!
//! It is not KVM: there are no exits for devices here that silicon would not make, and no policy.
#![forbid(unsafe_code)]

mod loopback;

pub use cloister_arch as arch;
pub use cloister_arch::pages::{Conversions, PageCounts, PageRun, PageState};
pub use loopback::Loopback;

use cloister_arch::s390x::{Completion, CpuRequest, CpuResponse, Exit, RunLimit, VmConfig};
use cloister_arch::x86_64;
use serde::{Deserialize, Serialize};

/// A modelled machine with room for one guest. Calls may come from any thread.
pub trait Door: Send + Sync {
    /// Handles one request.
    fn call(&self, request: Request) -> Response;
}

/// What the host kernel asks of silicon and firmware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// What the machine is.
    Machine,
    /// Set aside storage and CPUs for the guest (once).
    CreateGuest(Box<VmConfig>),
    /// Set aside storage for an x86-64 guest (once). Its CPUs cannot be entered in this version.
    CreateX86Guest(Box<x86_64::VmConfig>),
    /// Enter a CPU of the guest (as with START INTERPRETIVE EXECUTION) until something is left to the host.
    Enter {
        /// CPU address.
        cpu: u16,
        /// How far.
        limit: RunLimit,
        /// Completion of the interception before.
        completion: Option<Completion>,
    },
    /// Everything else about CPUs and time.
    Cpu(CpuRequest),
    /// A host's Ultravisor call (UVC, opcode b9a4): the control block's bytes and, in place of storage that
    /// an address field of the block points at, its content.
    Uvc {
        /// Control block: `u16 length, u16 command, u16 rc, u16 rrc, ...`.
        block: Vec<u8>,
        /// Header of SET_SEC_CONF_PARAMS; else empty.
        data: Vec<u8>,
    },
    /// A command in the mailbox of the AMD secure processor: the command buffer's bytes and, in place of host
    /// memory that its address fields point at, that memory's content. Guest storage is addressed as it is.
    Asp {
        /// Command id (Secure Encrypted Virtualization API, 55766, chapter 5 "Platform Management API").
        command: u16,
        /// The command buffer.
        buffer: Vec<u8>,
        /// Host memory that the command may read and write, at most [`MAX_HOST_BYTES`] in all.
        host_pages: Vec<HostBuffer>,
    },
    /// WBINVD on every core.
    Wbinvd,
    /// The host wrote guest storage that holds decoded code.
    Invalidate {
        /// Offset in the guest's storage: for s390x its absolute address.
        address: u64,
        /// Bytes.
        len: u64,
    },
    /// Page states, and conversions so far, counted.
    PageCounts,
    /// The states of pages, as runs.
    PageStates {
        /// First page number.
        first: u64,
        /// Number of pages.
        count: u64,
    },
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To [`Request::Machine`].
    Machine(Machine),
    /// To [`Request::CreateGuest`].
    Guest(Guest),
    /// To [`Request::Enter`].
    Left(Left),
    /// To [`Request::Cpu`].
    Cpu(CpuResponse),
    /// To [`Request::Uvc`].
    Uvc {
        /// Condition code.
        cc: u8,
        /// The block with rc, rrc and output fields.
        block: Vec<u8>,
        /// Output data.
        data: Vec<u8>,
    },
    /// To [`Request::Asp`].
    Asp {
        /// The firmware's status.
        status: u32,
        /// The command buffer, as the firmware left it.
        buffer: Vec<u8>,
        /// The host memory, as the firmware left it.
        host_pages: Vec<HostBuffer>,
    },
    /// To [`Request::PageCounts`].
    PageCounts(PageCounts),
    /// To [`Request::PageStates`]: runs in order and without gaps.
    PageStates {
        /// The runs, at most [`MAX_RUNS`].
        runs: Vec<PageRun>,
        /// Where to go on, if that was not all.
        next: Option<u64>,
    },
    /// Done.
    Done,
    /// Refused, in words.
    Refused(String),
}

/// What a modelled machine is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// In words, with the platform folder.
    pub description: String,
    /// The UVC facility is there.
    pub ultravisor: bool,
    /// The host was started with `prot_virt=1`.
    pub prot_virt: bool,
    /// Facilities that a guest may be given.
    pub facilities: [u64; 4],
    /// Most CPUs in a guest.
    pub max_cpus: u16,
    /// AMD SEV, as CPUID shows it to the host.
    pub sev: Option<Sev>,
}

/// CPUID leaf 8000001F of a host with SEV (AMD64 Architecture Programmer's Manual, volume 3, appendix E).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sev {
    /// EAX bit 3: SEV-ES.
    pub es: bool,
    /// EBX bits 5:0: position of the C-bit.
    pub cbitpos: u8,
    /// EBX bits 11:6: by how many bits physical addresses shrink.
    pub reduced_phys_bits: u8,
    /// ECX: highest ASID.
    pub max_asid: u32,
    /// EDX: lowest ASID of a guest without SEV-ES.
    pub min_sev_asid: u32,
}

/// A piece of host memory that goes with a command for the secure processor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostBuffer {
    /// Where the host says it is. Guest storage is not host memory of this kind.
    pub paddr: u64,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Where a guest's storage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// Host absolute (physical) address of the first byte of the guest's storage.
    pub origin: u64,
    /// Bytes.
    pub size: u64,
    /// memfd of the host view, in this process.
    pub memory_fd: i32,
    /// memfd of the access map, in this process.
    pub access_fd: i32,
}

/// Most runs in one answer to [`Request::PageStates`].
pub const MAX_RUNS: usize = 65_536;

/// Most bytes of host memory that go with one command.
pub const MAX_HOST_BYTES: usize = 4 << 20;

/// Why a CPU left the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Left {
    /// For the hypervisor.
    Exit(Exit),
    /// A protected CPU touched a page that is not secure (PGM 3e to the host): import it and enter again.
    Import {
        /// Guest absolute page number.
        page: u64,
    },
    /// Notification interception 0x6c: already executed.
    Notify {
        /// First halfword of the instruction.
        ipa: u16,
        /// Operand of it: for b9a4 (unshare of a pinned page) the guest absolute address.
        parameter: u64,
    },
}
