//! A configuration of CPUs that share storage: what the outside sees of the core.
//!
//! One thread per CPU, or one thread that runs all CPUs in turn; both through [`System::run`]. Devices, SCLP and
//! the machine are not here: their instructions leave as exits.

use crate::cpu::Cpu;
use crate::dat::KEY_CHANGE;
use crate::profile::Profiler;
use crate::run::Vcpu;
use crate::state::ExtendedArea;
use crate::translate::{Shared, Tiering};
use cloister_arch::s390x::{
    Completion, CpuState, Exit, FloatingInterrupt, GuestDebug, IoInterrupt, LocalInterrupt, ResetKind,
    RunState, TimeMode, Translation, VmConfig, facility,
};
use cloister_cpu::{Clock, ClockMode, CpuRendezvous, Rendezvous, request};
use cloister_crypto::{Entropy, SeededEntropy, SystemEntropy};
use cloister_jit::Statistics;
use cloister_memory::{Shootdown, Storage};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, TryLockError};

/// What the core cannot be created with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such CPU.
    #[error("CPU {cpu} does not exist: this configuration has {max} CPUs, numbered from 0")]
    NoSuchCpu {
        /// Address asked for.
        cpu: u16,
        /// Number of CPUs.
        max: u16,
    },
    /// No CPUs at all, or more than the core supports.
    #[error("{0} CPUs are not possible: give 1 to 248")]
    CpuCount(u16),
    /// A state of another layout.
    #[error(
        "CPU state has layout version {found}, this core writes and reads {expected}: use the same release"
    )]
    StateVersion {
        /// Version found.
        found: u16,
        /// Version expected.
        expected: u16,
    },
    /// The host asks for what only the guest may see.
    #[error("the guest runs protected: its registers are not visible to the host")]
    Protected,
}

/// How far to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunLimit {
    /// Instructions, exact; `None`: no limit.
    pub instructions: Option<u64>,
    /// Sleep in wait and stopped state instead of returning.
    pub block: bool,
}

/// Why [`System::run`] returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoreExit {
    /// An exit for the hypervisor.
    Guest(Exit),
    /// A protected guest touched a page that is not in its possession. Import it and run again: the
    /// instruction has had no effect.
    Import {
        /// Absolute page number.
        page: u64,
    },
    /// A protected guest did something, already executed, that the hypervisor has to know.
    Notify {
        /// Instruction text, first halfword (such as `b9a4`).
        ipa: u16,
        /// What the mechanism wants to say with it.
        parameter: u64,
    },
}

/// Where a protected guest's page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageView {
    /// The bytes as the host sees them.
    Shared,
    /// The secure copy.
    Private,
    /// Nowhere yet, or exported.
    NeedsImport,
    /// Being converted: acknowledge flushes and ask again.
    Busy,
    /// The guest has no such page.
    None,
}

/// Answer of an Ultravisor call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UvcAnswer {
    /// Condition code.
    pub cc: u8,
    /// Exit that follows the completed instruction.
    pub notify: Option<u64>,
    /// The instruction is nullified and the core left for a page; it is executed again afterwards.
    pub import: Option<u64>,
}

/// The protecting mechanism as the core sees it: asked when a translation is filled and at UVC.
pub trait SecureGuest: Send + Sync {
    /// Whether pages and instructions are filtered now; a guest before protection answers `false` and only
    /// gets its calls through.
    fn active(&self) -> bool;
    /// Where `page` is for an access by `cpu`.
    fn resolve(&self, cpu: u16, page: u64, write: bool) -> PageView;
    /// The call in `block` (its own length, at least 8 bytes); the block is written back. `operands` reaches
    /// what the block points at, `flush` is the calling CPU's.
    fn uvc(
        &self,
        cpu: u16,
        block: &mut [u8],
        operands: &mut dyn UvcOperands,
        flush: &dyn Shootdown,
    ) -> UvcAnswer;
}

/// Storage that a control block points at. Addresses are logical addresses of the calling program, as the
/// block's own is.
pub trait UvcOperands {
    /// Fetches.
    ///
    /// # Errors
    /// If it is not accessible.
    fn read(&mut self, address: u64, to: &mut [u8]) -> Result<(), OperandFault>;
    /// Finds out whether a store would succeed.
    ///
    /// # Errors
    /// If it would not.
    fn probe_write(&mut self, address: u64, len: usize) -> Result<(), OperandFault>;
    /// Stores, or nothing of it.
    ///
    /// # Errors
    /// If it is not accessible.
    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), OperandFault>;
    /// Makes sure that the block can be written back now.
    ///
    /// # Errors
    /// If it cannot.
    fn settle(&mut self) -> Result<(), OperandFault>;
}

/// Why an operand is not accessible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperandFault {
    /// The address is not valid.
    Invalid,
    /// The core has to be left first; the instruction is then executed again, whatever the answer.
    Leaves,
}

/// How an exit is completed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pending {
    /// Where the buffer goes.
    pub(crate) store: Store,
    /// At most so many bytes of it.
    pub(crate) len: usize,
    /// Register for the result.
    pub(crate) result: Option<u8>,
    /// Length of the instruction, for a program interruption.
    pub(crate) ilc: u8,
}

/// Destination of a completion's buffer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Store {
    /// There is none.
    #[default]
    Nothing,
    /// Logical address.
    Logical(u64),
    /// Absolute address.
    Absolute(u64),
}

/// What all CPUs of a configuration share.
pub(crate) struct Env {
    pub(crate) storage: Arc<Storage>,
    pub(crate) config: VmConfig,
    pub(crate) clock: Clock,
    pub(crate) rendezvous: Arc<Rendezvous>,
    pub(crate) locals: Box<[Local]>,
    pub(crate) floating: Mutex<Floating>,
    /// Summary of `floating`: the constants of [`Floating`].
    pub(crate) floating_pending: AtomicU32,
    /// Last TOD value handed out, so that STORE CLOCK is unique.
    pub(crate) last_tod: AtomicU64,
    pub(crate) profiler: Profiler,
    /// See `Cpu::locked_operation`.
    pub(crate) locked_operation: Arc<Mutex<()>>,
    /// Host code for what all CPUs run often.
    pub(crate) translations: Shared,
    /// Where PERFORM RANDOM NUMBER OPERATION draws from.
    pub(crate) entropy: Mutex<Box<dyn Entropy + Send>>,
    facilities: [AtomicU64; 4],
    protected: RwLock<Option<Arc<dyn SecureGuest>>>,
    has_guest: AtomicBool,
}

/// One CPU's state that others may look at and change at any time.
#[derive(Default)]
pub(crate) struct Local {
    /// Run state: constants of [`Local`].
    pub(crate) state: AtomicU8,
    /// Executes instructions at this moment (SIGP sense running status).
    pub(crate) running: AtomicBool,
    /// Interruptions and orders waiting.
    pub(crate) queue: Mutex<LocalQueue>,
    /// The queue is not empty.
    pub(crate) pending: AtomicBool,
    /// Instructions executed, updated when the CPU leaves the core.
    pub(crate) instructions: AtomicU64,
    /// What its engine has counted.
    pub(crate) profile: cloister_cpu::Profile,
}

/// Interruptions and orders of one CPU.
#[derive(Clone, Debug, Default)]
pub(crate) struct LocalQueue {
    pub(crate) external_call: Option<u16>,
    /// By CPU address.
    pub(crate) emergency: [u64; 4],
    pub(crate) restart: bool,
    pub(crate) stop: Option<bool>,
    pub(crate) orders: VecDeque<Order>,
}

/// A SIGP order that the addressed CPU carries out itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Reset.
    Reset(ResetKind),
    /// Set prefix to this address.
    SetPrefix(u32),
    /// Store status at this absolute address.
    StoreStatus(u64),
    /// Store additional status in this area.
    StoreAdditionalStatus(ExtendedArea),
}

impl LocalQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.external_call.is_none()
            && self.emergency == [0; 4]
            && !self.restart
            && self.stop.is_none()
            && self.orders.is_empty()
    }
}

impl Local {
    pub(crate) const STOPPED: u8 = 0;
    pub(crate) const OPERATING: u8 = 1;
    pub(crate) const LOAD: u8 = 2;
    pub(crate) const CHECK_STOP: u8 = 3;

    pub(crate) fn run_state(&self) -> RunState {
        match self.state.load(Ordering::SeqCst) {
            Self::OPERATING => RunState::Operating,
            Self::LOAD => RunState::Load,
            Self::CHECK_STOP => RunState::CheckStop,
            _ => RunState::Stopped,
        }
    }

    pub(crate) fn set_run_state(&self, state: RunState) {
        let state = match state {
            RunState::Stopped => Self::STOPPED,
            RunState::Operating => Self::OPERATING,
            RunState::Load => Self::LOAD,
            RunState::CheckStop => Self::CHECK_STOP,
        };
        self.state.store(state, Ordering::SeqCst);
    }

    /// Changes the queue.
    pub(crate) fn with_queue<T>(&self, change: impl FnOnce(&mut LocalQueue) -> T) -> T {
        let mut queue = lock(&self.queue);
        let result = change(&mut queue);
        self.pending.store(!queue.is_empty(), Ordering::SeqCst);
        result
    }
}

/// Floating interruption conditions.
#[derive(Default)]
pub(crate) struct Floating {
    service: Option<u32>,
    io: VecDeque<IoInterrupt>,
    adapter: u8,
    channel_report: bool,
}

impl Floating {
    /// Summary bit: service signal.
    pub(crate) const SERVICE: u32 = 1;
    /// Summary bit: channel report.
    pub(crate) const CHANNEL_REPORT: u32 = 2;
    /// Summary bits 8-15: interruption subclasses, subclass 0 in bit 15 as in CR6.
    pub(crate) const IO_SHIFT: u32 = 8;

    fn summary(&self) -> u32 {
        let mut summary = 0;
        if self.service.is_some() {
            summary |= Self::SERVICE;
        }
        if self.channel_report {
            summary |= Self::CHANNEL_REPORT;
        }
        let classes = self.io.iter().fold(0, |mask, io| mask | 0x80_u32 >> io.isc());
        summary | (classes | u32::from(self.adapter)) << Self::IO_SHIFT
    }

    /// Takes the service signal.
    pub(crate) fn take_service(&mut self) -> Option<u32> {
        self.service.take()
    }

    /// Takes the channel report.
    pub(crate) fn take_channel_report(&mut self) -> bool {
        std::mem::take(&mut self.channel_report)
    }

    /// Takes the I/O interruption of the lowest-numbered subclass in `mask` (subclass 0 = 0x80).
    pub(crate) fn take_io(&mut self, mask: u8) -> Option<IoInterrupt> {
        for isc in 0..8 {
            let bit = 0x80 >> isc;
            if mask & bit == 0 {
                continue;
            }
            if let Some(at) = self.io.iter().position(|io| io.isc() == isc) {
                return self.io.remove(at);
            }
            if self.adapter & bit != 0 {
                self.adapter &= !bit;
                let word = 1 << 31 | u32::from(isc) << 27;
                return Some(IoInterrupt { word, ..IoInterrupt::default() });
            }
        }
        None
    }

    /// Takes the interruption of one subchannel.
    pub(crate) fn take_subchannel(&mut self, subsystem_id: u32) -> Option<IoInterrupt> {
        let at = self.io.iter().position(|io| io.subsystem_id == subsystem_id)?;
        self.io.remove(at)
    }
}

impl Env {
    /// Whether the guest sees this facility.
    #[inline]
    pub(crate) fn has_facility(&self, bit: u16) -> bool {
        let word = self.facilities[usize::from(bit / 64) & 3].load(Ordering::Relaxed);
        bit < 256 && word & 1 << (63 - bit % 64) != 0
    }

    /// The facility list as the guest sees it.
    pub(crate) fn facilities(&self) -> [u64; 4] {
        std::array::from_fn(|i| self.facilities[i].load(Ordering::Relaxed))
    }

    /// The protecting mechanism, while it is active.
    pub(crate) fn protected(&self) -> Option<Arc<dyn SecureGuest>> {
        self.secure_guest().filter(|guest| guest.active())
    }

    /// The mechanism, also before protection.
    pub(crate) fn secure_guest(&self) -> Option<Arc<dyn SecureGuest>> {
        if !self.has_guest.load(Ordering::Acquire) {
            return None;
        }
        self.protected.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Changes the floating queue.
    pub(crate) fn with_floating<T>(&self, change: impl FnOnce(&mut Floating) -> T) -> T {
        let mut floating = lock(&self.floating);
        let result = change(&mut floating);
        self.floating_pending.store(floating.summary(), Ordering::SeqCst);
        result
    }

    /// Guest time in TOD units.
    #[inline]
    pub(crate) fn tod(&self) -> u64 {
        tod_from_ns(self.clock.now())
    }

    pub(crate) fn set_facilities(&self, list: [u64; 4]) {
        for (cell, word) in self.facilities.iter().zip(list) {
            cell.store(word, Ordering::SeqCst);
        }
    }

    /// The other CPU, if it exists.
    pub(crate) fn local(&self, address: u16) -> Option<&Local> {
        self.locals.get(usize::from(address))
    }

    /// Makes a CPU look at its queues.
    pub(crate) fn attention(&self, address: u16) {
        self.rendezvous.request(u32::from(address), request::INTERRUPT);
    }
}

/// Nanoseconds since 1900 to TOD units (4096 per microsecond, SA22-7832 chapter 4, "Time-of-Day Clock").
pub(crate) fn tod_from_ns(ns: u64) -> u64 {
    (u128::from(ns) * 512 / 125) as u64
}

/// TOD units to nanoseconds, rounded up.
pub(crate) fn ns_from_tod(tod: u64) -> u64 {
    (u128::from(tod) * 125).div_ceil(512) as u64
}

/// A configuration of CPUs.
pub struct System {
    pub(crate) env: Arc<Env>,
    pub(crate) vcpus: Box<[Mutex<Vcpu>]>,
}

impl System {
    /// Creates all CPUs, stopped, after a clear reset.
    pub fn new(config: VmConfig, storage: Arc<Storage>) -> Result<Self, Error> {
        let count = config.max_cpus;
        if count == 0 || count > 248 {
            return Err(Error::CpuCount(count));
        }
        let clock = Clock::new(match config.time {
            TimeMode::Real => ClockMode::Real,
            TimeMode::Virtual { shift } => ClockMode::Virtual { step: 1 << shift.min(31) },
        });
        clock.set(match config.tod_start {
            Some(tod) => ns_from_tod(tod),
            None => host_ns_since_1900(),
        });
        let rendezvous = Rendezvous::new(u32::from(count));
        let env = Arc::new(Env {
            storage,
            clock,
            rendezvous: Arc::clone(&rendezvous),
            locals: (0..count).map(|_| Local::default()).collect(),
            floating: Mutex::default(),
            floating_pending: AtomicU32::new(0),
            last_tod: AtomicU64::new(0),
            profiler: Profiler::default(),
            locked_operation: Arc::default(),
            translations: Shared::default(),
            entropy: Mutex::new(entropy_of(&config)),
            facilities: config.facilities.map(AtomicU64::new),
            protected: RwLock::new(None),
            has_guest: AtomicBool::new(false),
            config,
        });
        let vcpu = |address| {
            let side = rendezvous.cpu(u32::from(address))?;
            Some(Mutex::new(Vcpu::new(Cpu::new(Arc::clone(&env), address, side))))
        };
        let vcpus = (0..count).filter_map(vcpu).collect();
        Ok(Self { env, vcpus })
    }

    /// Decides when code is translated for the host. To be called before any CPU runs; later it has no effect.
    pub fn set_tiering(&self, tiering: Tiering) {
        self.env.translations.set_tiering(tiering);
    }

    /// Decides how much memory translated code may take, and as much again while it is renewed. Before any CPU runs.
    pub fn set_code_room(&self, bytes: usize) {
        self.env.translations.set_room(bytes);
    }

    /// What was translated so far; nothing if nothing was hot, or this host cannot.
    pub fn translation_statistics(&self) -> Option<Statistics> {
        self.env.translations.statistics()
    }

    /// The storage of the configuration.
    pub fn storage(&self) -> &Arc<Storage> {
        &self.env.storage
    }

    /// Through which other threads flush the CPUs' translations.
    pub fn rendezvous(&self) -> &Arc<Rendezvous> {
        &self.env.rendezvous
    }

    /// How the configuration was made.
    pub fn config(&self) -> &VmConfig {
        &self.env.config
    }

    /// Number of CPUs.
    pub fn cpus(&self) -> u16 {
        self.vcpus.len() as u16
    }

    /// Completes the last exit of a CPU and runs it until the next. Only one thread can run a CPU at a time;
    /// others wait.
    pub fn run(&self, cpu: u16, limit: RunLimit, completion: Option<Completion>) -> Result<CoreExit, Error> {
        Ok(self.vcpu(cpu)?.run(limit, completion))
    }

    /// Makes a running or sleeping CPU leave with [`Exit::Kicked`].
    pub fn kick(&self, cpu: u16) {
        self.env.rendezvous.request(u32::from(cpu), request::KICK);
    }

    /// Makes a floating interruption pending.
    pub fn inject(&self, interrupt: FloatingInterrupt) {
        self.env.with_floating(|floating| match interrupt {
            FloatingInterrupt::ServiceSignal(parameter) => {
                // One SCCB is outstanding at a time; event notifications accumulate in the low bits.
                let old = floating.service.unwrap_or(0);
                let address = if parameter & !7 != 0 { parameter & !7 } else { old & !7 };
                floating.service = Some(address | (old | parameter) & 7);
            }
            FloatingInterrupt::Io(io) => floating.io.push_back(io),
            FloatingInterrupt::Adapter { isc } => floating.adapter |= 0x80 >> (isc & 7),
            FloatingInterrupt::ChannelReport => floating.channel_report = true,
        });
        self.env.rendezvous.request_all(request::INTERRUPT);
    }

    /// Makes an interruption of one CPU pending.
    pub fn inject_local(&self, cpu: u16, interrupt: LocalInterrupt) -> Result<(), Error> {
        let local = self.env.local(cpu).ok_or_else(|| self.no_such(cpu))?;
        local.with_queue(|queue| queue.add(interrupt));
        self.env.attention(cpu);
        Ok(())
    }

    /// Takes the pending interruption of a subchannel away (subchannel disabled or cleared).
    pub fn retract_io(&self, subsystem_id: u32) -> bool {
        self.env.with_floating(|floating| floating.take_subchannel(subsystem_id)).is_some()
    }

    /// Forgets all floating interruptions (subsystem reset).
    pub fn clear_floating(&self) {
        self.env.with_floating(|floating| *floating = Floating::default());
    }

    /// Resets a CPU, which must not be running; it is stopped afterwards.
    pub fn reset(&self, cpu: u16, kind: ResetKind) -> Result<(), Error> {
        self.vcpu(cpu)?.cpu.reset(kind);
        Ok(())
    }

    /// Run state of a CPU.
    pub fn run_state(&self, cpu: u16) -> Result<RunState, Error> {
        Ok(self.env.local(cpu).ok_or_else(|| self.no_such(cpu))?.run_state())
    }

    /// Sets the run state of a CPU.
    pub fn set_run_state(&self, cpu: u16, state: RunState) -> Result<(), Error> {
        self.env.local(cpu).ok_or_else(|| self.no_such(cpu))?.set_run_state(state);
        self.env.attention(cpu);
        Ok(())
    }

    /// The whole state of a CPU, which must not be running.
    pub fn state(&self, cpu: u16) -> Result<CpuState, Error> {
        Ok(self.vcpu(cpu)?.cpu.save())
    }

    /// The whole state of a CPU; `None` while it runs, or if there is none.
    pub fn state_at_rest(&self, cpu: u16) -> Option<CpuState> {
        match self.vcpus.get(usize::from(cpu))?.try_lock() {
            Ok(vcpu) => Some(vcpu.cpu.save()),
            Err(TryLockError::Poisoned(vcpu)) => Some(vcpu.into_inner().cpu.save()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Sets the whole state of a CPU, which must not be running.
    pub fn set_state(&self, cpu: u16, state: &CpuState) -> Result<(), Error> {
        if state.version != CpuState::VERSION {
            return Err(Error::StateVersion { found: state.version, expected: CpuState::VERSION });
        }
        self.vcpu(cpu)?.cpu.restore(state);
        Ok(())
    }

    /// As [`state`](Self::state), for the host: refused while the guest is protected. The question is asked when the
    /// CPU has been waited for, so that a host that asked before protection began learns nothing after.
    pub fn host_state(&self, cpu: u16) -> Result<CpuState, Error> {
        Ok(self.vcpu_for_host(cpu)?.cpu.save())
    }

    /// As [`set_state`](Self::set_state), for the host: refused while the guest is protected.
    pub fn set_host_state(&self, cpu: u16, state: &CpuState) -> Result<(), Error> {
        if state.version != CpuState::VERSION {
            return Err(Error::StateVersion { found: state.version, expected: CpuState::VERSION });
        }
        self.vcpu_for_host(cpu)?.cpu.restore(state);
        Ok(())
    }

    /// What stops a CPU, which must not be running, for its debugger, in place of what was set. Refused while the
    /// guest is protected; forgotten when it becomes so.
    pub fn set_guest_debug(&self, cpu: u16, debug: &GuestDebug) -> Result<(), Error> {
        self.vcpu_for_host(cpu)?.cpu.set_debug(debug);
        Ok(())
    }

    /// Where a logical address leads under the PSW of a CPU, which must not be running. Refused while the guest
    /// is protected.
    pub fn translate(&self, cpu: u16, address: u64) -> Result<Option<Translation>, Error> {
        let mut vcpu = self.vcpu_for_host(cpu)?;
        let cpu = &mut vcpu.cpu;
        cpu.side.enter();
        cpu.serve_flushes();
        let translation = cpu.translate_for_debugger(address);
        cpu.side.leave();
        Ok(translation)
    }

    /// Where the guest's true random numbers come from, in place of what the configuration implies: the operating
    /// system, or under virtual time, whose runs can be repeated, a stream that depends on the configuration only.
    pub fn set_entropy(&self, entropy: Box<dyn Entropy + Send>) {
        *lock(&self.env.entropy) = entropy;
    }

    /// Guest time in TOD units.
    pub fn tod(&self) -> u64 {
        self.env.tod()
    }

    /// Sets guest time in TOD units.
    pub fn set_tod(&self, tod: u64) {
        self.env.clock.set(ns_from_tod(tod));
        self.env.last_tod.store(0, Ordering::SeqCst);
        self.env.rendezvous.request_all(request::INTERRUPT);
    }

    /// Stops guest time, for a stopped VM.
    pub fn stop_time(&self) {
        self.env.clock.stop();
    }

    /// Lets guest time go on.
    pub fn resume_time(&self) {
        self.env.clock.resume();
        self.env.rendezvous.request_all(request::INTERRUPT);
    }

    /// All CPUs are idle for `ns` nanoseconds: a virtual clock jumps, a real one sleeps nowhere.
    pub fn advance(&self, ns: u64) {
        let _ = self.env.clock.idle_until(self.env.clock.now().saturating_add(ns));
    }

    /// Instructions executed by a CPU when it last left the core.
    pub fn instructions(&self, cpu: u16) -> u64 {
        self.env.local(cpu).map_or(0, |local| local.instructions.load(Ordering::Relaxed))
    }

    /// Installs the protecting mechanism, or takes it away. To be called again when its
    /// [`active`](SecureGuest::active) changes, with all CPUs out of the core.
    pub fn set_protected(&self, guest: Option<Arc<dyn SecureGuest>>) {
        let mut list = self.env.config.facilities;
        if guest.as_ref().is_some_and(|guest| guest.active()) {
            facility::set(&mut list, facility::ULTRAVISOR_CALL, true);
            for hidden in HIDDEN_WHEN_PROTECTED {
                facility::set(&mut list, hidden, false);
            }
        }
        self.env.set_facilities(list);
        self.env.has_guest.store(guest.is_some(), Ordering::Release);
        let active = guest.as_ref().is_some_and(|guest| guest.active());
        *self.env.protected.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = guest;
        for vcpu in &self.vcpus {
            let mut vcpu = lock(vcpu);
            vcpu.forget_code();
            if active {
                vcpu.cpu.drop_debug();
            }
        }
    }

    /// The storage key of a page, for monitors and migration.
    pub fn storage_key(&self, page: u64) -> Option<u8> {
        self.env.storage.record(page).map(|record| record.key())
    }

    /// Whether the guest has changed a page since its change bit was last reset.
    pub fn changed(&self, page: u64) -> bool {
        self.storage_key(page).is_some_and(|key| key & KEY_CHANGE != 0)
    }

    fn vcpu(&self, cpu: u16) -> Result<MutexGuard<'_, Vcpu>, Error> {
        self.vcpus.get(usize::from(cpu)).map(lock).ok_or_else(|| self.no_such(cpu))
    }

    fn vcpu_for_host(&self, cpu: u16) -> Result<MutexGuard<'_, Vcpu>, Error> {
        // Before, so that the answer does not wait for a CPU that runs; after, because it may have become so.
        let refused = || if self.env.protected().is_some() { Err(Error::Protected) } else { Ok(()) };
        refused()?;
        let vcpu = self.vcpu(cpu)?;
        refused().map(|()| vcpu)
    }

    fn no_such(&self, cpu: u16) -> Error {
        Error::NoSuchCpu { cpu, max: self.cpus() }
    }
}

/// A lock whose holder panicked still guards consistent data: no guest input makes us panic under it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn entropy_of(config: &VmConfig) -> Box<dyn Entropy + Send> {
    match config.time {
        TimeMode::Real => Box::new(SystemEntropy),
        TimeMode::Virtual { .. } => Box::new(SeededEntropy::new(&config.uuid)),
    }
}

fn host_ns_since_1900() -> u64 {
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (unix.as_nanos() as u64).wrapping_add(2_208_988_800 * 1_000_000_000)
}

/// Facilities that a protected guest does not see: configuration topology, AP, DIAG 318, secure unpack.
const HIDDEN_WHEN_PROTECTED: [u16; 5] = [11, 12, 15, 65, facility::SECURE_UNPACK];

/// The CPU's own side, as instruction handlers use it.
pub(crate) type Side = CpuRendezvous;
