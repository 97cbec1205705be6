//! The modelled IBM Z machine behind the lower door: cores, storage and Ultravisor together.
//!
//! It does what the hardware's wiring does: host Ultravisor calls reach the Ultravisor, their effects reach
//! the CPUs, a protected guest's translations are filled as the Ultravisor decides, and the host is kept
//! from protected registers. It has no rules of its own beyond that; they are in the crates it joins.
#![forbid(unsafe_code)]

mod pages;
mod protection;

use cloister_arch::s390x::{CpuRequest, CpuResponse, LocalInterrupt, RunState, VmConfig, facility};
pub use cloister_cpu_s390x::Tiering;
use cloister_cpu_s390x::{CoreExit, FACILITIES, RunLimit, System};
use cloister_crypto::{Entropy, SystemEntropy};
use cloister_firmware_api::{Door, Guest, Left, MAX_RUNS, Machine, Request, Response};
use cloister_memory::{ConversionObserver, Storage};
use cloister_platform_store::Platform;
pub use cloister_uv_s390x::PageKind;
use cloister_uv_s390x::{Identity, Ultravisor, UvConfig};
use pages::Pages;
use protection::Protection;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Most CPUs of a guest.
const MAX_CPUS: u16 = 248;
/// Host absolute address of the guest's storage: above what the host kernel donates.
const GUEST_ORIGIN: u64 = 1 << 40;

/// A modelled machine with one guest.
pub struct Silicon {
    machine: Machine,
    ultravisor: Option<Arc<Ultravisor>>,
    guest: OnceLock<GuestSide>,
    observer: Option<Arc<dyn ConversionObserver>>,
    tiering: Tiering,
    /// Bytes for translated code, if somebody said.
    room: Option<usize>,
    /// Where the guest's CPUs draw random numbers, if not where their configuration says.
    entropy: Mutex<Option<Box<dyn Entropy + Send>>>,
    /// The folder's lock is held as long as the machine runs.
    _platform: Platform,
}

struct GuestSide {
    system: Arc<System>,
    storage: Arc<Storage>,
    protection: Option<Arc<Protection>>,
}

impl Silicon {
    /// The machine that a platform folder describes.
    pub fn new(platform: Platform) -> Self {
        Self::with_observer(platform, None)
    }

    /// As [`new`](Self::new); `observer` sees every conversion of a guest page (for audits in tests).
    pub fn with_observer(platform: Platform, observer: Option<Arc<dyn ConversionObserver>>) -> Self {
        let switches = platform.config().ultravisor;
        let material = platform.s390x();
        let ultravisor = switches.present.then(|| {
            let backup = material.backup.as_ref().map(|key| key.secret.clone());
            let identity = Identity::new(material.host.secret.clone(), backup);
            Arc::new(Ultravisor::new(identity, Box::new(SystemEntropy), UvConfig::default()))
        });
        let mut facilities = [0; 4];
        for &bit in FACILITIES {
            facility::set(&mut facilities, bit, true);
        }
        let place = match platform.folder() {
            Some(folder) => folder.display().to_string(),
            None => "made for this run".into(),
        };
        let machine = Machine {
            description: format!("MODEL of an IBM Z machine in software, platform {place}"),
            ultravisor: switches.present,
            prot_virt: switches.prot_virt,
            facilities,
            max_cpus: MAX_CPUS,
            sev: None,
        };
        Self {
            machine,
            ultravisor,
            guest: OnceLock::new(),
            observer,
            tiering: Tiering::default(),
            room: None,
            entropy: Mutex::default(),
            _platform: platform,
        }
    }

    /// The guest's CPUs draw their random numbers from `entropy`.
    pub fn set_guest_entropy(&self, entropy: Box<dyn Entropy + Send>) {
        *self.entropy.lock().unwrap_or_else(PoisonError::into_inner) = Some(entropy);
    }

    /// The guest's storage, for tests that look at it from inside the secure world.
    pub fn storage(&self) -> Option<Arc<Storage>> {
        self.guest.get().map(|guest| Arc::clone(&guest.storage))
    }

    /// What the Ultravisor's table says of a guest page, for audits in tests; `None` outside a configuration.
    pub fn page_kind(&self, page: u64) -> Option<PageKind> {
        self.guest.get()?.protection.as_ref()?.page_kind(page)
    }

    /// How code of a guest is translated for the host: when, and into how many bytes.
    #[must_use]
    pub fn with_translation(self, tiering: Tiering, room: Option<usize>) -> Self {
        Self { tiering, room, ..self }
    }

    fn create(&self, config: VmConfig) -> Result<Response, String> {
        if self.guest.get().is_some() {
            return Err("the modelled machine has its guest already".into());
        }
        let size = config.memory_bytes;
        let storage = Arc::new(Storage::new(size).map_err(|e| e.to_string())?);
        if let Some(observer) = &self.observer {
            storage.observe(Arc::clone(observer));
        }
        let system = Arc::new(System::new(config, Arc::clone(&storage)).map_err(|e| e.to_string())?);
        system.set_tiering(self.tiering);
        if let Some(bytes) = self.room {
            system.set_code_room(bytes);
        }
        if let Some(entropy) = self.entropy.lock().unwrap_or_else(PoisonError::into_inner).take() {
            system.set_entropy(entropy);
        }
        let protection = self.ultravisor.as_ref().map(|uv| {
            let protection = Arc::new(Protection::new(Arc::clone(uv), &system, GUEST_ORIGIN));
            system.set_protected(Some(Arc::clone(&protection) as _));
            protection
        });
        let guest = Guest {
            origin: GUEST_ORIGIN,
            size,
            memory_fd: storage.host_fd().as_raw_fd(),
            access_fd: storage.access_map_fd().as_raw_fd(),
        };
        self.guest
            .set(GuestSide { system, storage, protection })
            .map_err(|_| "the modelled machine has its guest already".to_string())?;
        Ok(Response::Guest(guest))
    }

    fn with_guest(
        &self,
        work: impl FnOnce(&GuestSide) -> Result<Response, String>,
    ) -> Result<Response, String> {
        work(self.guest.get().ok_or("the modelled machine has no guest yet")?)
    }

    fn pages_of<'a>(&self, guest: &'a GuestSide) -> Pages<'a> {
        Pages {
            storage: &guest.storage,
            protected: guest.protection.as_ref().and_then(|protection| protection.pages()),
            conversions: self.ultravisor.as_ref().map(|uv| uv.conversions()).unwrap_or_default(),
        }
    }

    fn uvc(&self, mut block: Vec<u8>, data: Vec<u8>) -> Result<Response, String> {
        let Some(uv) = &self.ultravisor else {
            return Err(
                "this platform has no Ultravisor: the UVC instruction is an operation exception".into()
            );
        };
        self.with_guest(|guest| {
            let Some(protection) = &guest.protection else { return Err("no Ultravisor".into()) };
            let storage = protection
                .storage(&guest.storage, guest.system.rendezvous().as_ref())
                .with_registers(&guest.system);
            let outcome = uv.host_call(&mut block, &data, &storage);
            protection.apply(&guest.system, outcome.effect);
            // In place of output data, a refusal says why in words.
            let data = match outcome.refusal {
                Some(refusal) => refusal.detail.into_bytes(),
                None => outcome.data,
            };
            Ok(Response::Uvc { cc: outcome.cc as u8, block, data })
        })
    }
}

impl GuestSide {
    fn is_protected(&self) -> bool {
        self.protection.as_ref().is_some_and(|protection| protection.is_active())
    }

    fn enter(
        &self,
        cpu: u16,
        limit: cloister_arch::s390x::RunLimit,
        completion: Option<cloister_arch::s390x::Completion>,
    ) -> Result<Response, String> {
        if self.protection.as_ref().is_some_and(|protection| protection.is_dumping()) {
            return Err(
                "the protected guest is being dumped: complete the dump before a CPU is entered".into()
            );
        }
        let limit = RunLimit { instructions: limit.instructions, block: limit.block };
        let left = match self.system.run(cpu, limit, completion).map_err(|e| e.to_string())? {
            CoreExit::Guest(exit) => Left::Exit(exit),
            CoreExit::Import { page } => Left::Import { page },
            CoreExit::Notify { ipa, parameter } => Left::Notify { ipa, parameter },
        };
        Ok(Response::Left(left))
    }

    fn cpu(&self, request: CpuRequest) -> CpuResponse {
        // What would run a protected CPU against the Ultravisor's will. What would show or change its registers, the
        // core refuses itself.
        let forbidden = match &request {
            CpuRequest::Reset { .. } | CpuRequest::SetRunState { .. } => true,
            CpuRequest::InjectLocal { interrupt, .. } => {
                !matches!(interrupt, LocalInterrupt::Stop { .. } | LocalInterrupt::Restart)
            }
            _ => false,
        };
        if forbidden && self.is_protected() {
            return CpuResponse::Refused(
                "the CPU belongs to a protected guest: only the Ultravisor may".into(),
            );
        }
        self.perform(request).unwrap_or_else(|error| CpuResponse::Refused(error.to_string()))
    }

    fn perform(&self, request: CpuRequest) -> Result<CpuResponse, cloister_cpu_s390x::Error> {
        let system = &self.system;
        match request {
            CpuRequest::Kick { cpu } => system.kick(cpu),
            CpuRequest::Inject(interrupt) => system.inject(interrupt),
            CpuRequest::InjectLocal { cpu, interrupt } => system.inject_local(cpu, interrupt)?,
            CpuRequest::RetractIo(subsystem_id) => {
                system.retract_io(subsystem_id);
            }
            CpuRequest::ClearFloating => system.clear_floating(),
            CpuRequest::Reset { cpu, kind } => system.reset(cpu, kind)?,
            CpuRequest::RunState { cpu } => return Ok(CpuResponse::RunState(system.run_state(cpu)?)),
            CpuRequest::SetRunState { cpu, state } => system.set_run_state(cpu, state)?,
            CpuRequest::State { cpu } => return Ok(CpuResponse::State(Box::new(system.host_state(cpu)?))),
            CpuRequest::SetState { cpu, state } => system.set_host_state(cpu, &state)?,
            CpuRequest::Tod => return Ok(CpuResponse::Tod(system.tod())),
            CpuRequest::SetTod(tod) => system.set_tod(tod),
            CpuRequest::StopTime => system.stop_time(),
            CpuRequest::ResumeTime => system.resume_time(),
            CpuRequest::Advance(ns) => system.advance(ns),
            CpuRequest::Instructions => {
                let counts = (0..system.cpus()).map(|cpu| system.instructions(cpu)).collect();
                return Ok(CpuResponse::Instructions(counts));
            }
            CpuRequest::Profile => return Ok(CpuResponse::Profile(Box::new(system.profile()))),
            CpuRequest::SetProfiling(on) => system.set_profiling(on),
            CpuRequest::SetGuestDebug { cpu, debug } => system.set_guest_debug(cpu, &debug)?,
            CpuRequest::Translate { cpu, address } => {
                return Ok(CpuResponse::Translated(system.translate(cpu, address)?));
            }
        }
        Ok(CpuResponse::Done)
    }
}

impl Door for Silicon {
    fn call(&self, request: Request) -> Response {
        let answer = match request {
            Request::Machine => Ok(Response::Machine(self.machine.clone())),
            Request::CreateGuest(config) => self.create(*config),
            Request::CreateX86Guest(_) | Request::Asp { .. } | Request::Wbinvd => {
                Err("this is a model of an IBM Z machine: it has no x86-64 guests".into())
            }
            Request::Enter { cpu, limit, completion } => {
                self.with_guest(|guest| guest.enter(cpu, limit, completion))
            }
            Request::Cpu(request) => self.with_guest(|guest| Ok(Response::Cpu(guest.cpu(request)))),
            Request::Uvc { block, data } => self.uvc(block, data),
            Request::Invalidate { address, len } => self.with_guest(|guest| {
                guest.storage.host_wrote(address, len);
                Ok(Response::Done)
            }),
            Request::PageCounts => {
                self.with_guest(|guest| Ok(Response::PageCounts(self.pages_of(guest).counts())))
            }
            Request::PageStates { first, count } => self.with_guest(|guest| {
                let (runs, next) = self.pages_of(guest).runs(first, count, MAX_RUNS);
                Ok(Response::PageStates { runs, next })
            }),
        };
        answer.unwrap_or_else(Response::Refused)
    }
}

/// Run state of a CPU that has just been told to load its PSW.
const LOADED: RunState = RunState::Operating;
