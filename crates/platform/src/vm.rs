//! A typed handle on a VM behind the door.

use crate::{
    Capabilities, Door, HostMemory, MemoryMap, PageCounts, PageRun, PvCommand, PvResult, Request, Response,
};
use cloister_arch::profile::Profile;
use cloister_arch::s390x::{
    Completion, CpuRequest, CpuResponse, CpuState, Exit, FloatingInterrupt, GuestDebug, LocalInterrupt,
    ResetKind, RunLimit, RunState, Translation, VmConfig, facility,
};
use cloister_arch::x86_64;
use std::ops::Range;
use std::sync::Arc;

/// What can go wrong between the machine and the platform.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The platform said no.
    #[error("{0}")]
    Refused(String),
    /// The platform answered something else than what was asked: a defect of the platform.
    #[error("the platform answered {answer} to {request}: this is a defect of the platform")]
    Protocol {
        /// What was asked.
        request: &'static str,
        /// What came.
        answer: String,
    },
    /// Mapping guest memory failed.
    #[error("cannot map guest memory of {size} bytes: {source}; give the guest less memory (-m)")]
    Map {
        /// Size.
        size: u64,
        /// Why.
        source: std::io::Error,
    },
}

/// A VM: cheap to clone, usable from every thread.
#[derive(Clone)]
pub struct Vm {
    pub(crate) door: Arc<dyn Door>,
    memory: HostMemory,
    cpus: u16,
    facilities: [u64; 4],
}

macro_rules! expect {
    ($answer:expr, $request:literal, $pattern:pat => $value:expr) => {
        match $answer {
            $pattern => Ok($value),
            Response::Refused(why) => Err(VmError::Refused(why)),
            other => Err(VmError::Protocol { request: $request, answer: format!("{other:?}") }),
        }
    };
}

macro_rules! expect_cpu {
    ($answer:expr, $request:literal, $pattern:pat => $value:expr) => {
        match $answer {
            Response::Cpu($pattern) => Ok($value),
            Response::Cpu(CpuResponse::Refused(why)) | Response::Refused(why) => Err(VmError::Refused(why)),
            other => Err(VmError::Protocol { request: $request, answer: format!("{other:?}") }),
        }
    };
}

impl Vm {
    /// What the platform behind `door` is and can do.
    pub fn capabilities(door: &dyn Door) -> Result<Capabilities, VmError> {
        expect!(door.call(Request::Capabilities), "capabilities", Response::Capabilities(c) => *c)
    }

    /// Creates the VM and maps its memory.
    pub fn create(door: Arc<dyn Door>, config: VmConfig) -> Result<Self, VmError> {
        let (cpus, facilities) = (config.max_cpus, config.facilities);
        let map = expect!(
            door.call(Request::CreateVm(Box::new(config))), "create VM", Response::Created(map) => map
        )?;
        Ok(Self { facilities, ..Self::map(door, map, cpus)? })
    }

    /// Creates an x86-64 VM and maps its memory.
    pub fn create_x86(door: Arc<dyn Door>, config: x86_64::VmConfig) -> Result<Self, VmError> {
        let cpus = config.vcpus;
        let map = expect!(
            door.call(Request::CreateX86Vm(Box::new(config))), "create VM", Response::Created(map) => map
        )?;
        Self::map(door, map, cpus)
    }

    fn map(door: Arc<dyn Door>, map: MemoryMap, cpus: u16) -> Result<Self, VmError> {
        let size = map.size;
        let memory =
            HostMemory::map(map, Arc::clone(&door)).map_err(|source| VmError::Map { size, source })?;
        Ok(Self { door, memory, cpus, facilities: [0; 4] })
    }

    /// Where an x86-64 vCPU begins. Without this it is [`x86_64::RESET_ADDRESS`].
    pub fn set_reset_address(&self, cpu: u16, address: u32) -> Result<(), VmError> {
        let request = Request::X86Cpu(x86_64::CpuRequest::SetResetAddress { cpu, address });
        match self.door.call(request) {
            Response::X86Cpu(x86_64::CpuResponse::Done) => Ok(()),
            Response::X86Cpu(x86_64::CpuResponse::Refused(why)) | Response::Refused(why) => {
                Err(VmError::Refused(why))
            }
            other => Err(VmError::Protocol { request: "reset address", answer: format!("{other:?}") }),
        }
    }

    /// Guest memory as the host may see it.
    pub fn memory(&self) -> &HostMemory {
        &self.memory
    }

    /// Number of CPUs.
    pub fn cpus(&self) -> u16 {
        self.cpus
    }

    /// Whether the guest was given a facility (STFLE), which an x86-64 guest never is.
    pub fn has_facility(&self, bit: u16) -> bool {
        facility::test(&self.facilities, bit)
    }

    /// Completes the last exit of a CPU and runs it until the next.
    pub fn run(&self, cpu: u16, limit: RunLimit, completion: Option<Completion>) -> Result<Exit, VmError> {
        expect!(self.door.call(Request::Run { cpu, limit, completion }), "run", Response::Exit(exit) => exit)
    }

    /// Makes a CPU leave the core.
    pub fn kick(&self, cpu: u16) -> Result<(), VmError> {
        self.cpu(CpuRequest::Kick { cpu })
    }

    /// Makes a floating interruption pending.
    pub fn inject(&self, interrupt: FloatingInterrupt) -> Result<(), VmError> {
        self.cpu(CpuRequest::Inject(interrupt))
    }

    /// Makes a local interruption pending.
    pub fn inject_local(&self, cpu: u16, interrupt: LocalInterrupt) -> Result<(), VmError> {
        self.cpu(CpuRequest::InjectLocal { cpu, interrupt })
    }

    /// Takes back the pending interruption of a subchannel.
    pub fn retract_io(&self, subsystem_id: u32) -> Result<(), VmError> {
        self.cpu(CpuRequest::RetractIo(subsystem_id))
    }

    /// Forgets all floating interruptions.
    pub fn clear_floating(&self) -> Result<(), VmError> {
        self.cpu(CpuRequest::ClearFloating)
    }

    /// Resets a CPU that is not running.
    pub fn reset(&self, cpu: u16, kind: ResetKind) -> Result<(), VmError> {
        self.cpu(CpuRequest::Reset { cpu, kind })
    }

    /// Run state of a CPU.
    pub fn run_state(&self, cpu: u16) -> Result<RunState, VmError> {
        let answer = self.door.call(Request::Cpu(CpuRequest::RunState { cpu }));
        expect_cpu!(answer, "run state", CpuResponse::RunState(state) => state)
    }

    /// Sets the run state of a CPU.
    pub fn set_run_state(&self, cpu: u16, state: RunState) -> Result<(), VmError> {
        self.cpu(CpuRequest::SetRunState { cpu, state })
    }

    /// The whole state of a CPU.
    pub fn state(&self, cpu: u16) -> Result<CpuState, VmError> {
        let answer = self.door.call(Request::Cpu(CpuRequest::State { cpu }));
        expect_cpu!(answer, "CPU state", CpuResponse::State(state) => *state)
    }

    /// Sets the whole state of a CPU.
    pub fn set_state(&self, cpu: u16, state: CpuState) -> Result<(), VmError> {
        self.cpu(CpuRequest::SetState { cpu, state: Box::new(state) })
    }

    /// What stops a CPU for its debugger, in place of what was set.
    pub fn set_guest_debug(&self, cpu: u16, debug: GuestDebug) -> Result<(), VmError> {
        self.cpu(CpuRequest::SetGuestDebug { cpu, debug })
    }

    /// Where a logical address leads under a CPU's current PSW, without side effects; `None`: nowhere.
    pub fn translate(&self, cpu: u16, address: u64) -> Result<Option<Translation>, VmError> {
        let answer = self.door.call(Request::Cpu(CpuRequest::Translate { cpu, address }));
        expect_cpu!(answer, "translation", CpuResponse::Translated(translation) => translation)
    }

    /// Guest time in TOD units.
    pub fn tod(&self) -> Result<u64, VmError> {
        let answer = self.door.call(Request::Cpu(CpuRequest::Tod));
        expect_cpu!(answer, "TOD", CpuResponse::Tod(tod) => tod)
    }

    /// Stops or resumes guest time.
    pub fn set_time_running(&self, running: bool) -> Result<(), VmError> {
        self.cpu(if running { CpuRequest::ResumeTime } else { CpuRequest::StopTime })
    }

    /// Lets a virtual clock jump.
    pub fn advance(&self, ns: u64) -> Result<(), VmError> {
        self.cpu(CpuRequest::Advance(ns))
    }

    /// Instructions executed so far, by CPU.
    pub fn instructions(&self) -> Result<Vec<u64>, VmError> {
        let answer = self.door.call(Request::Cpu(CpuRequest::Instructions));
        expect_cpu!(answer, "instructions", CpuResponse::Instructions(counts) => counts)
    }

    /// What the engine has counted of its work.
    pub fn profile(&self) -> Result<Profile, VmError> {
        let answer = self.door.call(Request::Cpu(CpuRequest::Profile));
        expect_cpu!(answer, "profile", CpuResponse::Profile(profile) => *profile)
    }

    /// Counts blocks and measures translation, or does so no more.
    pub fn set_profiling(&self, on: bool) -> Result<(), VmError> {
        self.cpu(CpuRequest::SetProfiling(on))
    }

    /// A protected-virtualization command. A failed command is not an error of the door.
    pub fn pv(&self, command: PvCommand) -> Result<PvResult, VmError> {
        expect!(self.door.call(Request::Pv(command)), "PV command", Response::Pv(result) => result)
    }

    /// Signals an eventfd for a virtio-ccw notification.
    pub fn register_doorbell(&self, subsystem_id: u32, queue: u16, fd: i32) -> Result<(), VmError> {
        let answer = self.door.call(Request::RegisterDoorbell { subsystem_id, queue, fd });
        expect!(answer, "register doorbell", Response::Done => ())
    }

    /// What the platform of this VM is and can do.
    pub fn platform(&self) -> Result<Capabilities, VmError> {
        Self::capabilities(self.door.as_ref())
    }

    /// Page states, and conversions so far, counted.
    pub fn page_counts(&self) -> Result<PageCounts, VmError> {
        expect!(self.door.call(Request::PageCounts), "page counts", Response::PageCounts(counts) => counts)
    }

    /// The states of pages of the backing store as runs, in order, without gaps, neighbours of one state merged. A guest that
    /// runs may change pages meanwhile: each state is one that the page had during the call.
    pub fn page_states(&self, range: Range<u64>) -> Result<Vec<PageRun>, VmError> {
        let end = range.end.min(self.memory.backing_size() / 4096);
        let mut at = range.start;
        let mut all: Vec<PageRun> = Vec::new();
        while at < end {
            let answer = self.door.call(Request::PageStates { first: at, count: end - at });
            let (runs, next) = expect!(
                answer, "page states", Response::PageStates { runs, next } => (runs, next)
            )?;
            let from = at;
            for run in runs {
                let ends = run.first.checked_add(run.pages).filter(|&ends| ends <= end);
                let (true, true, Some(ends)) = (run.first == at, run.pages > 0, ends) else {
                    return Err(VmError::Protocol { request: "page states", answer: format!("{run:?}") });
                };
                match all.last_mut() {
                    Some(last) if last.state == run.state => last.pages += run.pages,
                    _ => all.push(run),
                }
                at = ends;
            }
            if at == from || (next.is_none() && at < end) || next.is_some_and(|next| next != at) {
                let answer = format!("runs of {from:#x} to {at:#x}, next {next:?}");
                return Err(VmError::Protocol { request: "page states", answer });
            }
        }
        Ok(all)
    }

    fn cpu(&self, request: CpuRequest) -> Result<(), VmError> {
        expect_cpu!(self.door.call(Request::Cpu(request)), "CPU request", CpuResponse::Done => ())
    }
}

impl std::fmt::Debug for Vm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vm").field("cpus", &self.cpus).finish_non_exhaustive()
    }
}
