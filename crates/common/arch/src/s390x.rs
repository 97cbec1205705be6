//! z/Architecture words: PSW, CPU state, interruptions, instruction exits.
//!
//! Names follow the z/Architecture Principles of Operation (SA22-7832). Bit numbers in comments are
//! the architecture's (bit 0 is the most significant one).

use crate::profile::Profile;
use serde::{Deserialize, Serialize};

/// Program status word (SA22-7832, chapter 4, "Program-Status Word"): 128 bits in two halves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Psw {
    /// Bits 0-63: masks, key, modes and condition code.
    pub mask: u64,
    /// Bits 64-127: instruction address.
    pub addr: u64,
}

impl Psw {
    /// Bit 1: program-event recording.
    pub const PER: u64 = 1 << 62;
    /// Bit 5: dynamic address translation.
    pub const DAT: u64 = 1 << 58;
    /// Bit 6: I/O interruptions allowed.
    pub const IO: u64 = 1 << 57;
    /// Bit 7: external interruptions allowed.
    pub const EXTERNAL: u64 = 1 << 56;
    /// Bit 12: must be one in a short (ESA/390) PSW.
    pub const SHORT: u64 = 1 << 51;
    /// Bit 13: machine-check interruptions allowed.
    pub const MACHINE_CHECK: u64 = 1 << 50;
    /// Bit 14: wait state.
    pub const WAIT: u64 = 1 << 49;
    /// Bit 15: problem state.
    pub const PROBLEM: u64 = 1 << 48;
    /// Bits 16-17: address-space control (00 primary, 01 access register, 10 secondary, 11 home).
    pub const ASC: u64 = 3 << 46;
    /// Bits 18-19: condition code.
    pub const CC: u64 = 3 << 44;
    /// Bits 20-23: program mask.
    pub const PROGRAM_MASK: u64 = 0xf << 40;
    /// Bit 31: extended (64-bit) addressing.
    pub const EA: u64 = 1 << 32;
    /// Bit 32: basic (31-bit) addressing.
    pub const BA: u64 = 1 << 31;

    /// True in the wait state with every interruption class disabled: the CPU can never continue by itself.
    pub fn is_disabled_wait(self) -> bool {
        self.mask & Self::WAIT != 0 && self.mask & (Self::IO | Self::EXTERNAL | Self::MACHINE_CHECK) == 0
    }
}

/// Run state of a CPU (SA22-7832, chapter 4, "Stopped, Operating, Load, and Check-Stop States").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunState {
    /// Executes nothing; left by SIGP start or restart.
    #[default]
    Stopped,
    /// Executes instructions or waits for an interruption.
    Operating,
    /// Initial program load in progress; treated as operating by the core.
    Load,
    /// Only a reset leads out.
    CheckStop,
}

/// The whole architected state of one CPU. Plain: for a clear guest, or inside the secure world.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuState {
    /// Layout version of this structure; see [`CpuState::VERSION`].
    pub version: u16,
    /// CPU address, as SIGP and STAP know it.
    pub address: u16,
    /// Current PSW.
    pub psw: Psw,
    /// General registers 0-15.
    pub gprs: [u64; 16],
    /// Access registers 0-15.
    pub ars: [u32; 16],
    /// Control registers 0-15.
    pub crs: [u64; 16],
    /// Vector registers 0-31. Floating-point register *n* is bits 0-63 of vector register *n*: see
    /// [`fpr`](Self::fpr).
    pub vrs: [u128; 32],
    /// Guarded-storage designation, section mask, and event-parameter-list address.
    pub guarded_storage: [u64; 3],
    /// Floating-point-control register.
    pub fpc: u32,
    /// Prefix register (absolute address of the two prefix pages).
    pub prefix: u32,
    /// TOD programmable register.
    pub todpr: u32,
    /// Clock comparator, TOD format.
    pub clock_comparator: u64,
    /// CPU timer, TOD units, counts down; negative means the interruption is pending.
    pub cpu_timer: u64,
    /// Breaking-event address.
    pub breaking_event: u64,
    /// Run state.
    pub run_state: RunState,
    /// Local interruptions that have not been taken yet.
    pub pending: Vec<LocalInterrupt>,
    /// Instructions executed since the CPU was created.
    pub instructions: u64,
}

impl CpuState {
    /// Current layout version.
    pub const VERSION: u16 = 3;

    /// Floating-point register `n` (0-15).
    pub fn fpr(&self, n: usize) -> u64 {
        (self.vrs[n % 16] >> 64) as u64
    }

    /// Sets floating-point register `n` (0-15); the second half of the vector register stays.
    pub fn set_fpr(&mut self, n: usize, value: u64) {
        let vr = &mut self.vrs[n % 16];
        *vr = *vr & u128::from(u64::MAX) | u128::from(value) << 64;
    }

    /// Floating-point registers 0-15.
    pub fn fprs(&self) -> [u64; 16] {
        std::array::from_fn(|n| self.fpr(n))
    }
}

/// An interruption that any CPU may take (SA22-7832, chapter 6, "floating interruption conditions").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FloatingInterrupt {
    /// External 0x2401 with its parameter.
    ServiceSignal(u32),
    /// I/O interruption of a subchannel.
    Io(IoInterrupt),
    /// Adapter interruption on an interruption subclass (0-7).
    Adapter {
        /// Interruption subclass.
        isc: u8,
    },
    /// Channel report pending (machine check, repressible).
    ChannelReport,
}

/// The I/O interruption code (SA22-7832, chapter 16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoInterrupt {
    /// Subsystem-identification word, lowcore 184.
    pub subsystem_id: u32,
    /// I/O-interruption parameter, lowcore 188.
    pub parameter: u32,
    /// I/O-interruption-identification word, lowcore 192: `isc << 27`, bit 0 for adapter interruptions.
    pub word: u32,
}

impl IoInterrupt {
    /// Interruption subclass, from the identification word.
    pub fn isc(self) -> u8 {
        ((self.word >> 27) & 7) as u8
    }
}

/// An interruption of one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LocalInterrupt {
    /// External 0x1202 from the CPU with this address.
    ExternalCall(u16),
    /// External 0x1201 from the CPU with this address.
    EmergencySignal(u16),
    /// SIGP restart.
    Restart,
    /// SIGP stop, optionally with store-status.
    Stop {
        /// Store status at absolute 0x1200 after stopping.
        store_status: bool,
    },
}

/// Kinds of CPU reset (SA22-7832, chapter 4, "Resets").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResetKind {
    /// CPU reset: pending local interruptions cleared, stopped.
    Normal,
    /// Initial CPU reset: also PSW, prefix, timers, control registers.
    Initial,
    /// Clear reset: also general, floating-point and access registers.
    Clear,
}

/// How guest time runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeMode {
    /// The host's monotonic clock.
    Real,
    /// Instructions executed times `1 << shift` nanoseconds; idle time is skipped.
    Virtual {
        /// Log2 of nanoseconds per instruction.
        shift: u8,
    },
}

/// What the hypervisor asks for when it creates a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmConfig {
    /// Guest storage in bytes, a multiple of 1 MiB.
    pub memory_bytes: u64,
    /// Number of CPUs that may exist; addresses 0 to `max_cpus - 1`.
    pub max_cpus: u16,
    /// Facility list (STFLE), bit 0 = most significant bit of the first doubleword.
    pub facilities: [u64; 4],
    /// CPU identification (STIDP), without the CPU address.
    pub cpu_id: u64,
    /// How guest time runs.
    pub time: TimeMode,
    /// TOD clock at the start, in TOD units; `None`: the host's time of day.
    pub tod_start: Option<u64>,
    /// Name shown by STSI 3.2.2.
    pub name: String,
    /// UUID shown by STSI 3.2.2.
    pub uuid: [u8; 16],
}

/// Why a CPU stopped executing and came back to the hypervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// The instruction budget is used up.
    Budget,
    /// Someone asked for the CPU's attention ([`kick`](Exit::Kicked)).
    Kicked,
    /// Enabled wait with nothing pending (only when asked not to block). The TOD value at which the next
    /// timer of this CPU expires, if one is armed.
    Idle {
        /// Nanoseconds of guest time until the next timer interruption.
        wake_after_ns: Option<u64>,
    },
    /// The CPU is in the stopped state (only when asked not to block, or on the transition).
    Stopped,
    /// Disabled wait: the guest ended or crashed; the address is its reason code.
    DisabledWait(Psw),
    /// The guest loops in program interruptions, or another condition that no CPU can leave.
    Stuck {
        /// What happened, in words.
        reason: String,
    },
    /// An instruction that the hypervisor must complete.
    Instruction(InstructionExit),
    /// Access to a guest address without storage where a device could be; reserved for mechanisms
    /// that convert pages through the hypervisor (SNP, TDX, CCA).
    MemoryFault {
        /// Guest absolute address.
        address: u64,
        /// Whether the guest expected private memory.
        private: bool,
    },
    /// Guest debugging ([`CpuRequest::SetGuestDebug`]) stopped the CPU, between two instructions. Never of a
    /// protected CPU. As KVM's `KVM_EXIT_DEBUG`.
    Debug(DebugExit),
}

/// What stops a CPU for its debugger; the default stops it never (Linux, Documentation/virt/kvm/api.rst,
/// `KVM_SET_GUEST_DEBUG`).
///
/// Addresses are logical: they are compared with what the program uses, whatever address space is current.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestDebug {
    /// Stop after each instruction, completed or ended by a program interruption. An interruption that is
    /// taken before the instruction counts as the step: the CPU then stops at the first instruction of the
    /// handler. An instruction that leaves for the hypervisor is reported once it is completed.
    pub single_step: bool,
    /// Stop before the instruction at any of these addresses. Going on from a [`DebugExit`] at such an
    /// address executes the instruction, before any interruption is taken. The target of EXECUTE is not looked
    /// at.
    pub breakpoints: Vec<u64>,
    /// Stop after an instruction that touches any of these ranges.
    pub watchpoints: Vec<Watchpoint>,
}

impl GuestDebug {
    /// Whether nothing stops the CPU.
    pub fn is_off(&self) -> bool {
        !self.single_step && self.breakpoints.is_empty() && self.watchpoints.is_empty()
    }
}

/// A range of storage operands that a debugger watches, as with program-event recording (SA22-7832, chapter 4):
/// the CPU stops behind the instruction, also one that the hypervisor completes. Of an instruction that ends in a
/// program interruption only what it has stored counts, and the CPU stops at the handler. Instruction fetches,
/// table walks, what an interruption stores in the prefix area and operands by real or absolute address (under
/// DAT) are not watched; nor is what other CPUs and devices store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watchpoint {
    /// First logical address.
    pub address: u64,
    /// Bytes; an empty range is never touched.
    pub len: u64,
    /// By which accesses.
    pub kind: WatchKind,
}

/// Which accesses a [`Watchpoint`] looks at. An interlocked update (such as COMPARE AND SWAP, equal or not) is both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchKind {
    /// Stores, also of the value that was there.
    Write,
    /// Fetches.
    Read,
    /// Both.
    Access,
}

/// Why and where [`Exit::Debug`] stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DebugExit {
    /// Why.
    pub reason: DebugReason,
    /// Address of the instruction that comes next.
    pub psw_address: u64,
}

/// What stopped a CPU for its debugger. Of several reasons at once the first that applies is given:
/// watchpoint, step, breakpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DebugReason {
    /// A single step is done.
    Step,
    /// The next instruction has a breakpoint.
    Breakpoint {
        /// Its address.
        address: u64,
    },
    /// A watched range was touched.
    Watchpoint {
        /// First byte of the range that was.
        address: u64,
        /// Kind of the watchpoint.
        kind: WatchKind,
    },
}

/// Where a logical address leads at this moment, to the end of its page of 4 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Translation {
    /// Guest absolute address.
    pub absolute: u64,
    /// DAT protection does not forbid stores. Storage keys and low-address protection are not looked at.
    pub writable: bool,
}

/// An instruction that the hypervisor completes, with the operand block already fetched.
///
/// The same for every guest: the hypervisor never follows a logical address of the guest. For a
/// protected guest this is interception 0x68/0x6c with the secure instruction data area.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstructionExit {
    /// Which instruction, with its normalised register operands.
    pub instruction: Instruction,
    /// Operand block, as far as the instruction has one and it is an input.
    pub buffer: Vec<u8>,
    /// True if the CPU belongs to a protected guest.
    pub protected: bool,
}

/// Instructions that leave the core. Operands are values, not register numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Instruction {
    /// SERVC: command word and SCCB absolute address; the buffer is the SCCB (its own length, at most 4 KiB).
    Servc {
        /// SCLP command word.
        command: u32,
        /// SCCB address.
        sccb: u32,
    },
    /// Clear subchannel. GR1 is the subsystem-identification word in all of these.
    Csch(u32),
    /// Halt subchannel.
    Hsch(u32),
    /// Resume subchannel.
    Rsch(u32),
    /// Cancel subchannel.
    Xsch(u32),
    /// Modify subchannel; buffer: SCHIB (52 bytes).
    Msch(u32),
    /// Store subchannel; completion buffer: SCHIB (52 bytes).
    Stsch(u32),
    /// Start subchannel; buffer: ORB (32 bytes).
    Ssch(u32),
    /// Test subchannel; completion buffer: IRB (64 or 96 bytes).
    Tsch {
        /// Subsystem-identification word.
        subsystem_id: u32,
        /// The interruption of this subchannel that was pending and has been dequeued.
        dequeued: Option<IoInterrupt>,
    },
    /// Channel-subsystem call; buffer: the 4 KiB request block; completion buffer: the whole block.
    Chsc,
    /// Store channel report word; completion buffer: 4 bytes.
    Stcrw,
    /// Set channel monitor: GR1, GR2.
    Schm(u64, u64),
    /// Reset channel path.
    Rchp(u32),
    /// Set address limit.
    Sal(u64),
    /// DIAGNOSE. `r1`/`r3` are register numbers; `values` are R1, R1+1 (mod 16), R3, and `gprs` 1-4 as the
    /// code defines them.
    Diag {
        /// Function code.
        code: u16,
        /// Number of the R1 register (normalised to 0 for a protected guest).
        r1: u8,
        /// Content of R1.
        v1: u64,
        /// Content of R1 + 1.
        v1_next: u64,
        /// Content of R3 (the subcode of DIAG 308).
        v3: u64,
        /// GR1-GR4 for code 0x500, else zero.
        args: [u64; 4],
        /// Whether the 4 KiB block at R1 was accessible (DIAG 308 subcodes 5, 6, 8, 9). For subcodes 5
        /// and 8 the exit's buffer holds it.
        block_accessible: bool,
    },
    /// PTF, perform topology function: function code.
    Ptf(u8),
    /// PQAP, process adjunct-processor queue: GR0 (function), GR1, GR2.
    Pqap(u64, u64, u64),
    /// CLP, call logical processor (PCI): reserved.
    Clp,
}

/// How the hypervisor completed an [`InstructionExit`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// New condition code.
    pub cc: Option<u8>,
    /// Written back to the operand block (at most its length). Access was checked before the exit.
    pub buffer: Option<Vec<u8>>,
    /// Result for the register that the instruction defines: R1+1 for DIAG 308, GR2 for DIAG 500,
    /// GR1 for PQAP.
    pub result: Option<u64>,
    /// Program interruption instead of completion (only 0x05, 0x06, 0x11, 0x15 make sense).
    pub program: Option<u16>,
}

impl Completion {
    /// Completed with a condition code and nothing else.
    pub fn cc(cc: u8) -> Self {
        Self { cc: Some(cc), ..Self::default() }
    }

    /// Suppressed with a program interruption.
    pub fn program(code: u16) -> Self {
        Self { program: Some(code), ..Self::default() }
    }

    /// Completed with a register result.
    pub fn result(value: u64) -> Self {
        Self { result: Some(value), ..Self::default() }
    }
}

/// How far a CPU runs before it comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLimit {
    /// Instructions, exact; `None`: no limit. With 0 the exit before is completed and nothing else happens.
    pub instructions: Option<u64>,
    /// Sleep in the wait and stopped states instead of returning.
    pub block: bool,
}

/// What both doors offer on a VM's CPUs and clock: the lower door does it, the host kernel passes it on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CpuRequest {
    /// Leave the core soon with [`Exit::Kicked`].
    Kick {
        /// CPU address.
        cpu: u16,
    },
    /// Make a floating interruption pending.
    Inject(FloatingInterrupt),
    /// Make a local interruption pending. Refused for protected CPUs except stop and restart.
    InjectLocal {
        /// CPU address.
        cpu: u16,
        /// What.
        interrupt: LocalInterrupt,
    },
    /// Take back the pending interruption of a subchannel.
    RetractIo(u32),
    /// Forget all floating interruptions (subsystem reset).
    ClearFloating,
    /// Reset a CPU that is not running.
    Reset {
        /// CPU address.
        cpu: u16,
        /// How far.
        kind: ResetKind,
    },
    /// Run state of a CPU; answered by [`CpuResponse::RunState`].
    RunState {
        /// CPU address.
        cpu: u16,
    },
    /// Set the run state of a CPU.
    SetRunState {
        /// CPU address.
        cpu: u16,
        /// New state.
        state: RunState,
    },
    /// The whole state of a CPU that is not running; refused for a protected CPU. Behind an
    /// [`Exit::Instruction`] what the completion changes is not in it yet: run the CPU with the completion and no
    /// instructions first.
    State {
        /// CPU address.
        cpu: u16,
    },
    /// Set the whole state of a CPU that is not running; refused for a protected CPU. An [`Exit::Instruction`] can
    /// still be completed, unless the PSW address is another one now.
    SetState {
        /// CPU address.
        cpu: u16,
        /// New state.
        state: Box<CpuState>,
    },
    /// Guest time in TOD units.
    Tod,
    /// Set guest time.
    SetTod(u64),
    /// Stop guest time, for a stopped VM.
    StopTime,
    /// Let guest time go on.
    ResumeTime,
    /// All CPUs idle for this many nanoseconds: a virtual clock jumps.
    Advance(u64),
    /// Instructions executed so far, by CPU.
    Instructions,
    /// What the engine has counted of its work; answered by [`CpuResponse::Profile`].
    Profile,
    /// Count blocks and measure translation, from the next entry of each CPU on. Blocks are not counted while the
    /// guest is protected.
    SetProfiling(bool),
    /// What stops a CPU that is not running for its debugger, in place of what was set. Refused for a protected
    /// CPU; dropped when the guest becomes protected.
    SetGuestDebug {
        /// CPU address.
        cpu: u16,
        /// What.
        debug: GuestDebug,
    },
    /// Where a logical address leads under the PSW and control registers of a CPU that is not running: no
    /// interruption, no reference bit. Answered by [`CpuResponse::Translated`]; refused for a protected CPU.
    Translate {
        /// CPU address.
        cpu: u16,
        /// Logical address.
        address: u64,
    },
}

/// Answer to a [`CpuRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CpuResponse {
    /// Done.
    Done,
    /// Run state.
    RunState(RunState),
    /// CPU state.
    State(Box<CpuState>),
    /// TOD.
    Tod(u64),
    /// Instructions by CPU.
    Instructions(Vec<u64>),
    /// What was counted.
    Profile(Box<Profile>),
    /// Refused, in words.
    Refused(String),
    /// Where an address leads, if anywhere.
    Translated(Option<Translation>),
}

/// Facility bit numbers (SA22-7832, chapter 4, "Facility Indications").
pub mod facility {
    /// Ultravisor-call facility (UVC).
    pub const ULTRAVISOR_CALL: u16 = 158;
    /// Vector facility.
    pub const VECTOR: u16 = 129;
    /// Guarded-storage facility.
    pub const GUARDED_STORAGE: u16 = 133;
    /// Secure-unpack facility (DIAG 308 subcodes 8-10).
    pub const SECURE_UNPACK: u16 = 161;

    /// Whether `bit` is set in a facility list.
    pub fn test(list: &[u64; 4], bit: u16) -> bool {
        list.get(usize::from(bit / 64)).is_some_and(|word| word & (1 << (63 - bit % 64)) != 0)
    }

    /// Sets or clears `bit`.
    pub fn set(list: &mut [u64; 4], bit: u16, on: bool) {
        if let Some(word) = list.get_mut(usize::from(bit / 64)) {
            let mask = 1 << (63 - bit % 64);
            *word = if on { *word | mask } else { *word & !mask };
        }
    }
}

/// Program-interruption codes (SA22-7832, chapter 6).
pub mod program {
    /// Operation exception.
    pub const OPERATION: u16 = 0x01;
    /// Privileged-operation exception.
    pub const PRIVILEGED: u16 = 0x02;
    /// Execute exception.
    pub const EXECUTE: u16 = 0x03;
    /// Protection exception.
    pub const PROTECTION: u16 = 0x04;
    /// Addressing exception.
    pub const ADDRESSING: u16 = 0x05;
    /// Specification exception.
    pub const SPECIFICATION: u16 = 0x06;
    /// Data exception.
    pub const DATA: u16 = 0x07;
    /// Fixed-point-overflow exception.
    pub const FIXED_POINT_OVERFLOW: u16 = 0x08;
    /// Fixed-point-divide exception.
    pub const FIXED_POINT_DIVIDE: u16 = 0x09;
    /// Decimal-overflow exception.
    pub const DECIMAL_OVERFLOW: u16 = 0x0a;
    /// Decimal-divide exception.
    pub const DECIMAL_DIVIDE: u16 = 0x0b;
    /// Segment-translation exception.
    pub const SEGMENT_TRANSLATION: u16 = 0x10;
    /// Page-translation exception.
    pub const PAGE_TRANSLATION: u16 = 0x11;
    /// Translation-specification exception.
    pub const TRANSLATION_SPECIFICATION: u16 = 0x12;
    /// Special-operation exception.
    pub const SPECIAL_OPERATION: u16 = 0x13;
    /// Operand exception.
    pub const OPERAND: u16 = 0x15;
    /// Vector-processing exception.
    pub const VECTOR_PROCESSING: u16 = 0x1b;
    /// ALET-specification exception.
    pub const ALET_SPECIFICATION: u16 = 0x28;
    /// ASCE-type exception.
    pub const ASCE_TYPE: u16 = 0x38;
    /// Region-first-translation exception.
    pub const REGION_FIRST: u16 = 0x39;
    /// Region-second-translation exception.
    pub const REGION_SECOND: u16 = 0x3a;
    /// Region-third-translation exception.
    pub const REGION_THIRD: u16 = 0x3b;
    /// Secure-storage-access exception (host access to a secure page).
    pub const SECURE_STORAGE_ACCESS: u16 = 0x3d;
    /// Non-secure-storage-access exception (secure guest access to a page that is not secure).
    pub const NON_SECURE_STORAGE_ACCESS: u16 = 0x3e;
    /// Secure-storage-violation exception.
    pub const SECURE_STORAGE_VIOLATION: u16 = 0x3f;
    /// Monitor event.
    pub const MONITOR_EVENT: u16 = 0x40;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facility_bits_are_numbered_from_the_left() {
        let mut list = [0; 4];
        facility::set(&mut list, 0, true);
        facility::set(&mut list, 158, true);
        assert_eq!(list, [1 << 63, 0, 1 << 33, 0]);
        assert!(facility::test(&list, 158) && !facility::test(&list, 161) && !facility::test(&list, 999));
        facility::set(&mut list, 0, false);
        assert!(!facility::test(&list, 0));
    }

    #[test]
    fn guest_debug_survives_a_door() {
        let watchpoint = Watchpoint { address: u64::MAX, len: 1, kind: WatchKind::Access };
        let debug =
            GuestDebug { single_step: true, breakpoints: vec![0, 0x1234], watchpoints: vec![watchpoint] };
        assert!(!debug.is_off() && GuestDebug::default().is_off());
        let request = CpuRequest::SetGuestDebug { cpu: 7, debug };
        let bytes = postcard::to_stdvec(&request).unwrap();
        assert_eq!(postcard::from_bytes::<CpuRequest>(&bytes).unwrap(), request);
        let reason = DebugReason::Watchpoint { address: 9, kind: WatchKind::Read };
        let exit = Exit::Debug(DebugExit { reason, psw_address: 0x4000 });
        let bytes = postcard::to_stdvec(&exit).unwrap();
        assert_eq!(postcard::from_bytes::<Exit>(&bytes).unwrap(), exit);
        let answer = CpuResponse::Translated(Some(Translation { absolute: 1 << 40, writable: true }));
        let bytes = postcard::to_stdvec(&answer).unwrap();
        assert_eq!(postcard::from_bytes::<CpuResponse>(&bytes).unwrap(), answer);
    }

    #[test]
    fn cpu_state_survives_a_door() {
        let state = CpuState {
            version: CpuState::VERSION,
            gprs: [0x0123_4567_89ab_cdef; 16],
            pending: vec![LocalInterrupt::ExternalCall(3), LocalInterrupt::Stop { store_status: true }],
            ..CpuState::default()
        };
        let bytes = postcard::to_stdvec(&state).unwrap();
        assert_eq!(postcard::from_bytes::<CpuState>(&bytes).unwrap(), state);
    }
}
