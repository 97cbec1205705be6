//! A machine with a toy of a platform: two CPUs that walk in a circle, some memory, one page that leads nowhere.
//!
//! CPUs run inside [`Machine::cont`], for a bounded number of rounds; what does not stop by then counts as running on.

use cloister_control::{
    BlockInfo, Cause, ConfidentialInfo, ControlError, CpuInfo, DeviceInfo, Event, Events, Facts, Machine,
    ObjectInfo, RunState,
};
use cloister_options::{DeviceSpec, ObjectSpec, Target};
use cloister_platform::arch::s390x::{
    CpuRequest, CpuResponse, CpuState, DebugExit, DebugReason, GuestDebug, TimeMode, Translation, VmConfig,
    WatchKind, facility,
};
use cloister_platform::{Door, MemoryMap, Request, Response, Vm};
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of memory.
pub(crate) const MEMORY: u64 = 1 << 20;
/// Memory is seen from here on as well.
pub(crate) const VIRTUAL: u64 = 0x10_0000_0000;
/// Offset of a page without a translation.
pub(crate) const HOLE: u64 = 0x5000;
/// The circle that CPUs walk in, by steps of four bytes.
pub(crate) const START: u64 = 0x1000;
/// Its end.
pub(crate) const END: u64 = 0x1020;
/// The instruction that stores to [`COUNTER`].
pub(crate) const STORE: u64 = 0x1010;
/// What it stores to.
pub(crate) const COUNTER: u64 = 0x2000;

const ROUNDS: usize = 100;

/// The platform.
pub(crate) struct Platform {
    memory: File,
    access: File,
    state: Mutex<PlatformState>,
}

/// What it keeps.
#[derive(Default)]
pub(crate) struct PlatformState {
    /// CPUs.
    pub(crate) cpus: Vec<CpuState>,
    /// What stops them.
    pub(crate) debug: Vec<GuestDebug>,
    /// The guest is protected.
    pub(crate) protected: bool,
    /// The host asked for a page.
    pub(crate) exports: usize,
}

impl Platform {
    fn new() -> std::io::Result<Self> {
        let (memory, access) = (temporary()?, temporary()?);
        memory.set_len(MEMORY)?;
        access.set_len(MEMORY / 4096)?;
        let cpu = |address: u16| {
            let mut cpu = CpuState { address, version: CpuState::VERSION, ..CpuState::default() };
            cpu.psw.addr = START;
            cpu.psw.mask = 1 << 32 | 1 << 31;
            cpu.gprs[13] = 0x0123_4567_89ab_cdef;
            cpu.gprs[14] = START;
            cpu.gprs[15] = 0x8000;
            (cpu.vrs[1], cpu.vrs[17]) = (0x11 << 64 | 0x22, 0x33 << 64 | 0x44);
            cpu
        };
        let state = PlatformState {
            cpus: vec![cpu(0), cpu(1)],
            debug: vec![GuestDebug::default(); 2],
            ..PlatformState::default()
        };
        Ok(Self { memory, access, state: Mutex::new(state) })
    }

    /// What it keeps.
    pub(crate) fn state(&self) -> MutexGuard<'_, PlatformState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cpu_request(&self, request: CpuRequest) -> CpuResponse {
        let mut state = self.state();
        if state.protected {
            return CpuResponse::Refused("the CPU is protected".into());
        }
        let known = |cpu: u16| usize::from(cpu) < 2;
        match request {
            CpuRequest::State { cpu } if known(cpu) => {
                CpuResponse::State(Box::new(state.cpus[usize::from(cpu)].clone()))
            }
            CpuRequest::SetState { cpu, state: new } if known(cpu) => {
                state.cpus[usize::from(cpu)] = *new;
                CpuResponse::Done
            }
            CpuRequest::SetGuestDebug { cpu, debug } if known(cpu) => {
                state.debug[usize::from(cpu)] = debug;
                CpuResponse::Done
            }
            CpuRequest::Translate { cpu, address } if known(cpu) => {
                let absolute = if address < VIRTUAL { address } else { address - VIRTUAL };
                let there = absolute < MEMORY && absolute & !0xfff != HOLE;
                CpuResponse::Translated(there.then_some(Translation { absolute, writable: true }))
            }
            _ => CpuResponse::Refused("not in this toy".into()),
        }
    }

    /// One instruction. What stops the CPU behind it.
    fn execute(&self, cpu: usize) -> Option<DebugExit> {
        let mut state = self.state();
        let state = &mut *state;
        let (cpu, debug) = (&mut state.cpus[cpu], &state.debug[cpu]);
        let at = cpu.psw.addr;
        cpu.psw.addr = if at.wrapping_add(4) >= END { START } else { at.wrapping_add(4) };
        cpu.gprs[2] = cpu.gprs[2].wrapping_add(1);
        if state.protected {
            return None;
        }
        let mut reason = None;
        if debug.breakpoints.contains(&cpu.psw.addr) {
            reason = Some(DebugReason::Breakpoint { address: cpu.psw.addr });
        }
        if debug.single_step {
            reason = Some(DebugReason::Step);
        }
        if at == STORE {
            let _ = self.memory.write_all_at(&cpu.gprs[2].to_be_bytes(), COUNTER);
            let hit = debug.watchpoints.iter().find(|point| {
                let range = point.address..point.address.saturating_add(point.len);
                point.kind != WatchKind::Read && range.contains(&(COUNTER + 7))
            });
            if let Some(point) = hit {
                reason =
                    Some(DebugReason::Watchpoint { address: point.address.max(COUNTER), kind: point.kind });
            }
        }
        reason.map(|reason| DebugExit { reason, psw_address: cpu.psw.addr })
    }
}

impl Door for Platform {
    fn call(&self, request: Request) -> Response {
        match request {
            Request::CreateVm(_) => Response::Created(MemoryMap {
                memory_fd: self.memory.as_raw_fd(),
                access_fd: self.access.as_raw_fd(),
                size: MEMORY,
                slots: Vec::new(),
            }),
            Request::Cpu(request) => Response::Cpu(self.cpu_request(request)),
            Request::HostAccess { .. } => {
                self.state().exports += 1;
                Response::Done
            }
            _ => Response::Refused("not in this toy".into()),
        }
    }
}

/// The machine.
pub(crate) struct Toy {
    facts: Facts,
    vm: Vm,
    /// Its platform.
    pub(crate) platform: Arc<Platform>,
    events: Events,
    state: Mutex<ToyState>,
}

/// What it keeps.
pub(crate) struct ToyState {
    /// What it does.
    pub(crate) run: RunState,
    /// Stops that nobody has asked for yet.
    pub(crate) exits: VecDeque<(u16, DebugExit)>,
    /// What it was asked.
    pub(crate) calls: Vec<String>,
}

impl Toy {
    /// A machine that runs.
    ///
    /// # Panics
    /// Without temporary files.
    pub(crate) fn new() -> Arc<Self> {
        let platform = Arc::new(Platform::new().expect("temporary files"));
        let mut facilities = [0; 4];
        facility::set(&mut facilities, facility::VECTOR, true);
        let config = VmConfig {
            memory_bytes: MEMORY,
            max_cpus: 2,
            facilities,
            cpu_id: 0,
            time: TimeMode::Real,
            tod_start: None,
            name: "toy".into(),
            uuid: [0; 16],
        };
        let door: Arc<dyn Door> = Arc::<Platform>::clone(&platform);
        let vm = Vm::create(door, config).expect("a small guest");
        let facts = Facts {
            target: Target::S390x,
            machine: "s390-ccw-virtio".into(),
            name: None,
            uuid: [0; 16],
            platform: "a toy".into(),
            model: true,
            memory: MEMORY,
            memory_id: "s390.ram".into(),
        };
        let state = ToyState { run: RunState::Running, exits: VecDeque::new(), calls: Vec::new() };
        Arc::new(Self { facts, vm, platform, events: Events::default(), state: Mutex::new(state) })
    }

    /// What it keeps.
    pub(crate) fn state(&self) -> MutexGuard<'_, ToyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Becomes protected, as by DIAGNOSE 308, with pages that the host must not touch.
    pub(crate) fn protect(&self) {
        let mut state = self.platform.state();
        state.protected = true;
        state.debug.fill(GuestDebug::default());
        let _ = self.platform.access.write_all_at(&[1; (MEMORY / 4096) as usize], 0);
    }

    /// Whether a debugger left something behind.
    pub(crate) fn is_clean(&self) -> bool {
        self.platform.state().debug.iter().all(GuestDebug::is_off)
    }

    /// What it was asked since the last time.
    pub(crate) fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state().calls)
    }

    /// Another operator's doing.
    pub(crate) fn becomes(&self, run: RunState, event: Event) {
        self.state().run = run;
        self.events.emit(event);
    }

    fn run(&self, cpus: &[u16]) {
        self.state().run = RunState::Running;
        self.events.emit(Event::Resume);
        for _ in 0..ROUNDS {
            let stops = cpus.iter().filter(|cpu| **cpu < 2);
            let stops = stops.filter_map(|cpu| Some((*cpu, self.platform.execute(usize::from(*cpu))?)));
            let stops: Vec<(u16, DebugExit)> = stops.collect();
            if let Some((cpu, _)) = stops.first().copied() {
                let mut state = self.state();
                state.exits.clear();
                state.exits.extend(stops);
                state.run = RunState::Debug;
                drop(state);
                self.events.emit(Event::Debug { cpu });
                break;
            }
        }
    }
}

impl Machine for Toy {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn vm(&self) -> Option<&Vm> {
        Some(&self.vm)
    }

    fn events(&self) -> &Events {
        &self.events
    }

    fn run_state(&self) -> RunState {
        self.state().run
    }

    fn stop(&self) -> Result<(), ControlError> {
        let mut state = self.state();
        if state.run.is_running() {
            state.calls.push("stop".into());
            state.run = RunState::Paused;
            drop(state);
            self.events.emit(Event::Stop);
        }
        Ok(())
    }

    fn cont(&self) -> Result<(), ControlError> {
        self.state().calls.push("cont".into());
        if self.run_state().needs_reset() {
            return Err(ControlError::new("Resetting the Virtual Machine is required"));
        }
        self.run(&[0, 1]);
        Ok(())
    }

    fn cont_only(&self, cpus: &[u16]) -> Result<(), ControlError> {
        self.state().calls.push(format!("cont_only {cpus:?}"));
        self.run(cpus);
        Ok(())
    }

    fn debug_exit(&self) -> Option<(u16, DebugExit)> {
        self.state().exits.pop_front()
    }

    fn reset(&self, _: Cause) -> Result<(), ControlError> {
        Ok(())
    }

    fn powerdown(&self) -> Result<(), ControlError> {
        Ok(())
    }

    fn quit(&self, cause: Cause) {
        self.state().calls.push(format!("quit {}", cause.name()));
    }

    fn inject_nmi(&self, _: Option<u16>) -> Result<(), ControlError> {
        Ok(())
    }

    fn cpus(&self) -> Vec<CpuInfo> {
        let cpu = |index: u16| CpuInfo {
            index,
            thread_id: 1,
            qom_path: format!("/machine/unattached/device[{index}]"),
            qom_type: "s390x-cpu".into(),
            halted: Some(index == 1),
            state: "operating",
            props: Vec::new(),
        };
        vec![cpu(0), cpu(1)]
    }

    fn devices(&self) -> Vec<DeviceInfo> {
        Vec::new()
    }

    fn blocks(&self) -> Vec<BlockInfo> {
        Vec::new()
    }

    fn objects(&self) -> Vec<ObjectInfo> {
        Vec::new()
    }

    fn object_add(&self, _: ObjectSpec) -> Result<(), ControlError> {
        Ok(())
    }

    fn object_del(&self, _: &str) -> Result<(), ControlError> {
        Ok(())
    }

    fn device_add(&self, _: DeviceSpec) -> Result<(), ControlError> {
        Ok(())
    }

    fn device_del(&self, _: &str) -> Result<(), ControlError> {
        Ok(())
    }

    fn confidential(&self) -> Option<ConfidentialInfo> {
        let secure = Some(self.platform.state().protected);
        Some(ConfidentialInfo { qom_type: "s390-pv-guest".into(), id: Some("pv0".into()), secure })
    }

    fn migration_blockers(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Without a crate for it: the tests of other crates build this file as well.
fn temporary() -> std::io::Result<File> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("cloister-gdb-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}
