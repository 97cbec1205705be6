//! Running a machine's CPUs: a thread for each, or one thread for all of them in turn; and stopping them.
//!
//! Real time uses threads. Virtual time uses one thread with a fixed quantum, so that the same command
//! gives the same run. Whoever needs the machine at rest (a reset, a stop, an end) brings the other CPUs out of
//! the core first. A CPU that stays out for long leaves no exit half done.

use crate::MachineError;
use cloister_control::{Cause, Event, Events, RunState};
use cloister_options::{PanicAction, ShutdownAction};
use cloister_platform::Vm;
use cloister_platform::arch::s390x::{Completion, DebugExit, Exit, Psw, RunLimit};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Instructions that a CPU executes in a row when CPUs take turns.
const QUANTUM: u64 = 50_000;

/// What one thread does when every CPU of the guest waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// Real time: wait for it.
    Wait,
    /// Virtual time: go on at once.
    Skip,
    /// Virtual time, and as much real time passes.
    SkipSlowly,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The guest powered itself off.
    PowerOff,
    /// The guest asked for a reset and `-no-reboot` turned it into an end.
    NoReboot,
    /// The user ended the run.
    Quit,
    /// A signal ended the run.
    Signal(i32),
    /// The guest stopped itself with a disabled wait.
    Crashed {
        /// CPU address.
        cpu: u16,
        /// PSW mask.
        mask: u64,
        /// PSW address, the reason code.
        addr: u64,
    },
    /// No CPU can go on.
    Stuck {
        /// CPU address.
        cpu: u16,
        /// What happened.
        reason: String,
    },
    /// The platform failed.
    Failed(String),
}

/// What a run was.
#[derive(Clone, Debug)]
pub struct Report {
    /// How it ended.
    pub end: End,
    /// Instructions executed by all CPUs.
    pub instructions: u64,
    /// Wall-clock time.
    pub wall: Duration,
}

/// What follows an exit.
pub(crate) enum Next {
    /// Go on, completing the exit.
    Complete(Completion),
    /// Go on; there is nothing to complete.
    Continue,
    /// Bring all other CPUs out of the core and call [`Guest::at_rest`].
    Rest,
    /// The run is over.
    End(End),
}

/// What the machine does about exits.
pub(crate) trait Guest: Sync {
    /// Handles an exit of `cpu`.
    fn exit(&self, cpu: u16, exit: Exit) -> Result<Next, MachineError>;

    /// Does what an exit of `cpu` asked for with [`Next::Rest`], while no CPU runs. What the other CPUs had
    /// pending is dropped if this answers true: they were reset.
    fn at_rest(&self, cpu: u16) -> Result<(Next, bool), MachineError>;

    /// With virtual time, between two turns of the CPUs: does what is due, and says how many nanoseconds of guest time
    /// there are until more is.
    fn virtual_tick(&self) -> Option<u64> {
        None
    }
}

/// What follows the end of a guest (`-action`, `-no-shutdown`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) shutdown: ShutdownAction,
    pub(crate) panic: PanicAction,
}

/// Shared by the threads of one run, and by operators.
pub(crate) struct Conductor {
    state: Mutex<State>,
    changed: Condvar,
    /// One operator at a time; CPUs never take it.
    operation: Mutex<()>,
    events: Events,
    policy: Policy,
}

struct State {
    run_state: RunState,
    /// While running: the CPUs that may.
    only: Option<Vec<u16>>,
    /// Threads outside the core.
    parked: usize,
    /// Threads that run CPUs.
    threads: usize,
    /// Other threads that change the guest just now.
    working: usize,
    /// The host's number of the thread of each CPU; none before the run.
    thread_ids: Vec<u32>,
    /// A stop is under way that nobody has been told of.
    stopping: bool,
    /// Somebody wants the machine at rest.
    rest: bool,
    /// Counts resets; a completion from before is void.
    generation: u64,
    /// Stops of the debugger's that nobody has heard of yet.
    debug_exits: VecDeque<(u16, DebugExit)>,
    end: Option<End>,
}

impl State {
    fn open(&self) -> bool {
        self.run_state.is_running() && !self.rest && self.end.is_none()
    }

    fn change(&mut self, to: RunState) {
        tracing::trace!(target: "runstate_set", before = self.run_state.name(), after = to.name());
        self.run_state = to;
    }

    fn may_run(&self, cpu: u16) -> bool {
        self.open() && self.only.as_ref().is_none_or(|only| only.contains(&cpu))
    }
}

/// What a CPU carries from one entry into the core to the next.
#[derive(Clone, Default)]
struct Hand {
    generation: u64,
    completion: Option<Completion>,
    /// Came while the completion was carried out for a stop: dealt with when the CPU goes on.
    exit: Option<Exit>,
}

impl Hand {
    /// A reset makes everything void.
    fn follow(&mut self, generation: u64) {
        if self.generation != generation {
            *self = Self { generation, ..Self::default() };
        }
    }

    /// Leaves no exit half done.
    fn settle(&mut self, vm: &Vm, cpu: u16) -> Result<(), MachineError> {
        let Some(completion) = self.completion.take() else { return Ok(()) };
        let exit = vm.run(cpu, RunLimit { instructions: Some(0), block: false }, Some(completion))?;
        if !matches!(exit, Exit::Budget | Exit::Kicked | Exit::Idle { .. }) {
            self.exit = Some(exit);
        }
        Ok(())
    }

    fn enter(&mut self, vm: &Vm, cpu: u16, limit: RunLimit) -> Result<Exit, MachineError> {
        match self.exit.take() {
            Some(exit) => Ok(exit),
            None => Ok(vm.run(cpu, limit, self.completion.take())?),
        }
    }
}

impl Conductor {
    pub(crate) fn new(events: Events, policy: Policy, begin: RunState) -> Self {
        Self {
            state: Mutex::new(State {
                run_state: begin,
                only: None,
                parked: 0,
                threads: 0,
                working: 0,
                thread_ids: Vec::new(),
                stopping: false,
                rest: false,
                generation: 0,
                debug_exits: VecDeque::new(),
                end: None,
            }),
            changed: Condvar::new(),
            operation: Mutex::new(()),
            events,
            policy,
        }
    }

    /// Ends the run; the first reason counts.
    pub(crate) fn end(&self, vm: &Vm, end: End, cause: Cause) {
        let mut state = self.lock();
        let first = state.end.is_none();
        state.end.get_or_insert(end);
        drop(state);
        if first {
            tracing::trace!(target: "qemu_system_shutdown_request", reason = cause.name());
            self.events.emit(Event::Shutdown(cause));
        }
        self.changed.notify_all();
        kick_all(vm, None);
    }

    pub(crate) fn run_state(&self) -> RunState {
        self.lock().run_state
    }

    /// The host's number of the thread that runs a CPU, as soon as there is one.
    pub(crate) fn thread_id(&self, cpu: u16) -> Option<u32> {
        let state = self.lock();
        state.thread_ids.get(usize::from(cpu)).or(state.thread_ids.first()).copied().filter(|id| *id != 0)
    }

    /// Why a debugger's stop came about; each is told once.
    pub(crate) fn take_debug_exit(&self) -> Option<(u16, DebugExit)> {
        self.lock().debug_exits.pop_front()
    }

    /// For operators: stops all CPUs and guest time, and waits until no CPU is in the core.
    pub(crate) fn stop(&self, vm: &Vm, to: RunState) {
        let _one = self.operate();
        self.stop_from(vm, to, None, None);
    }

    /// For operators: lets CPUs run, or only some of them.
    pub(crate) fn cont(&self, vm: &Vm, only: Option<&[u16]>) {
        let _one = self.operate();
        let mut state = self.settled();
        if state.run_state.is_running() || state.end.is_some() {
            return;
        }
        state.change(RunState::Running);
        state.only = only.map(<[u16]>::to_vec);
        set_time_running(vm, true);
        drop(state);
        self.events.emit(Event::Resume);
        self.changed.notify_all();
    }

    /// For operators: does something while no CPU is in the core. True: CPUs were reset.
    pub(crate) fn rest_and(
        &self,
        vm: &Vm,
        work: impl FnOnce() -> Result<bool, MachineError>,
    ) -> Result<(), MachineError> {
        let _one = self.operate();
        let mut state = self.settled();
        state.rest = true;
        self.await_parked(vm, state, None, true);
        let result = work();
        let mut state = self.lock();
        state.rest = false;
        if let Ok(true) = result {
            state.generation += 1;
            state.debug_exits.clear();
            if !state.run_state.is_running() {
                state.change(RunState::Prelaunch);
            }
        }
        drop(state);
        self.changed.notify_all();
        result.map(drop)
    }

    /// For threads that are neither CPUs nor operators: does something that changes the guest, once the machine runs.
    /// The machine neither stops nor rests meanwhile. False: the run is over, and nothing was done.
    pub(crate) fn while_running(&self, work: impl FnOnce()) -> bool {
        let mut state = self.lock();
        while !state.open() {
            if state.end.is_some() {
                return false;
            }
            state = self.wait(state);
        }
        state.working += 1;
        drop(state);
        work();
        self.lock().working -= 1;
        self.changed.notify_all();
        true
    }

    /// Stops; by the CPU whose exit asks for it, or by an operator. The reason is told once the new state can be seen.
    fn stop_from(&self, vm: &Vm, to: RunState, cpu: Option<u16>, reason: Option<Event>) {
        let mut state = self.lock();
        let first = state.run_state.is_running() && state.end.is_none();
        if first {
            state.change(to);
            state.stopping = true;
        }
        if let Some(reason) = reason {
            drop(state);
            self.events.emit(reason);
            state = self.lock();
        }
        self.await_parked(vm, state, cpu, false);
        if first {
            set_time_running(vm, false);
            self.events.emit(Event::Stop);
            self.lock().stopping = false;
            self.changed.notify_all();
        } else if cpu.is_none() {
            drop(self.settled());
        }
    }

    /// For operators: once no stop is half done and nobody else wants rest.
    fn settled(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while (state.stopping || state.rest) && state.end.is_none() {
            state = self.wait(state);
        }
        state
    }

    /// Waits until all threads are out of the core, the one of `cpu`, which asks, counted among them; or until
    /// there is nothing to wait for. Who does not ask for the rest itself waits for the end of another's.
    fn await_parked<'a>(
        &'a self,
        vm: &Vm,
        mut state: MutexGuard<'a, State>,
        cpu: Option<u16>,
        for_rest: bool,
    ) {
        let own = usize::from(cpu.is_some());
        state.parked += own;
        self.changed.notify_all();
        let moving =
            |state: &State| state.parked < state.threads || state.working > 0 || state.rest && !for_rest;
        while !state.open() && state.end.is_none() && moving(&state) {
            drop(state);
            kick_all(vm, cpu);
            state = self.lock();
            // A kick that came before the CPU entered the core is remembered there, but a CPU between two
            // exits takes it without coming here: ask again.
            if moving(&state) {
                let waited = self.changed.wait_timeout(state, Duration::from_millis(10));
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        state.parked -= own;
    }

    /// Runs the machine to its end on one thread per CPU.
    pub(crate) fn run_threads(&self, vm: &Vm, guest: &dyn Guest) -> Report {
        let start = Instant::now();
        self.begin(vm, usize::from(vm.cpus()));
        std::thread::scope(|scope| {
            for cpu in 0..vm.cpus() {
                let builder = std::thread::Builder::new().name(format!("CPU {cpu}/software"));
                let work = move || {
                    self.register(cpu);
                    if let Err(why) = self.one_cpu(vm, guest, cpu) {
                        self.end(vm, End::Failed(why.to_string()), Cause::HostError);
                    }
                    self.lock().threads -= 1;
                    self.changed.notify_all();
                };
                if let Err(why) = builder.spawn_scoped(scope, work) {
                    self.lock().threads -= 1;
                    let why = format!("cannot start a thread for CPU {cpu}: {why}");
                    self.end(vm, End::Failed(why), Cause::HostError);
                }
            }
        });
        self.report(vm, start)
    }

    /// Runs the machine to its end on this thread, CPU after CPU.
    pub(crate) fn run_in_turn(&self, vm: &Vm, guest: &dyn Guest, idle: Idle) -> Report {
        let start = Instant::now();
        self.begin(vm, 1);
        self.register(0);
        if let Err(why) = self.in_turn(vm, guest, idle) {
            self.end(vm, End::Failed(why.to_string()), Cause::HostError);
        }
        self.lock().threads = 0;
        self.report(vm, start)
    }

    fn begin(&self, vm: &Vm, threads: usize) {
        let mut state = self.lock();
        state.threads = threads;
        state.thread_ids = vec![0; threads];
        if !state.run_state.is_running() {
            set_time_running(vm, false);
        }
    }

    fn register(&self, cpu: u16) {
        let id = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        if let Some(slot) = self.lock().thread_ids.get_mut(usize::from(cpu)) {
            *slot = id;
        }
    }

    fn report(&self, vm: &Vm, start: Instant) -> Report {
        let end = self.lock().end.clone().unwrap_or(End::Quit);
        let instructions = vm.instructions().map_or(0, |counts| counts.iter().sum());
        Report { end, instructions, wall: start.elapsed() }
    }

    fn one_cpu(&self, vm: &Vm, guest: &dyn Guest, cpu: u16) -> Result<(), MachineError> {
        let mut hand = Hand::default();
        while self.turn(vm, cpu, &mut hand)? {
            let exit = hand.enter(vm, cpu, RunLimit { instructions: None, block: true })?;
            if let Exit::Debug(exit) = exit {
                self.debug_stop(vm, cpu, exit);
                continue;
            }
            let mut next = guest.exit(cpu, exit)?;
            if matches!(next, Next::Rest) {
                let Some(after) = self.with_rest(vm, guest, cpu)? else { return Ok(()) };
                next = after;
            }
            match next {
                Next::Complete(done) => hand.completion = Some(done),
                Next::Continue | Next::Rest => {}
                Next::End(end) => self.guest_ended(vm, cpu, end)?,
            }
        }
        Ok(())
    }

    /// Waits until the CPU may run. False: the run is over.
    fn turn(&self, vm: &Vm, cpu: u16, hand: &mut Hand) -> Result<bool, MachineError> {
        let mut state = self.lock();
        loop {
            if state.end.is_some() {
                return Ok(false);
            }
            hand.follow(state.generation);
            if state.may_run(cpu) {
                return Ok(true);
            }
            // Whoever wants rest may be about to make the completion void.
            if hand.completion.is_some() && !state.rest {
                drop(state);
                hand.settle(vm, cpu)?;
                state = self.lock();
                continue;
            }
            state.parked += 1;
            self.changed.notify_all();
            state = self.wait(state);
            state.parked -= 1;
        }
    }

    /// Waits until all other CPUs are out of the core, does the work, lets them go on. `None`: the run is over.
    fn with_rest(&self, vm: &Vm, guest: &dyn Guest, cpu: u16) -> Result<Option<Next>, MachineError> {
        let mut state = self.lock();
        // Another wants the same: it goes first, and this CPU counts as out of the core.
        while state.rest && state.end.is_none() {
            let generation = state.generation;
            state.parked += 1;
            self.changed.notify_all();
            state = self.wait(state);
            state.parked -= 1;
            if state.generation != generation {
                // The other's reset undid what this CPU was about to do.
                return Ok(Some(Next::Continue));
            }
        }
        if state.end.is_some() {
            return Ok(None);
        }
        state.rest = true;
        self.await_parked(vm, state, Some(cpu), true);
        if self.lock().end.is_some() {
            return Ok(None);
        }
        let result = guest.at_rest(cpu);
        let mut state = self.lock();
        state.rest = false;
        if let Ok((_, true)) = &result {
            state.generation += 1;
        }
        drop(state);
        self.changed.notify_all();
        Ok(Some(result?.0))
    }

    /// A debugger's stop: everybody stops, then it is told.
    fn debug_stop(&self, vm: &Vm, cpu: u16, exit: DebugExit) {
        self.lock().debug_exits.push_back((cpu, exit));
        self.stop_from(vm, RunState::Debug, Some(cpu), None);
        self.events.emit(Event::Debug { cpu });
    }

    /// The guest ended: the process ends with it, or keeps it for a look.
    fn guest_ended(&self, vm: &Vm, cpu: u16, end: End) -> Result<(), MachineError> {
        let keep = self.policy.shutdown == ShutdownAction::Pause;
        match end {
            End::PowerOff if keep => {
                let reason = Event::Shutdown(Cause::GuestShutdown);
                self.stop_from(vm, RunState::Shutdown, Some(cpu), Some(reason));
            }
            End::Crashed { cpu, mask, addr } => {
                let psw = Psw { mask, addr };
                let told = |action| Event::GuestPanicked { cpu, psw, action };
                match self.policy.panic {
                    PanicAction::None => {
                        self.events.emit(told("run"));
                        vm.set_run_state(cpu, cloister_platform::arch::s390x::RunState::Stopped)?;
                    }
                    PanicAction::Pause => self.panicked(vm, cpu, told("pause")),
                    PanicAction::Shutdown if keep => self.panicked(vm, cpu, told("pause")),
                    PanicAction::Shutdown | PanicAction::ExitFailure => {
                        self.events.emit(told("poweroff"));
                        self.end(vm, end, Cause::GuestPanic);
                    }
                }
            }
            end => {
                let cause = match end {
                    End::PowerOff => Cause::GuestShutdown,
                    End::NoReboot => Cause::GuestReset,
                    End::Quit => Cause::HostQmpQuit,
                    End::Signal(_) => Cause::HostSignal,
                    End::Crashed { .. } | End::Stuck { .. } => Cause::GuestPanic,
                    End::Failed(_) => Cause::HostError,
                };
                self.end(vm, end, cause);
            }
        }
        Ok(())
    }

    fn panicked(&self, vm: &Vm, cpu: u16, reason: Event) {
        self.stop_from(vm, RunState::GuestPanicked, Some(cpu), Some(reason));
    }

    fn in_turn(&self, vm: &Vm, guest: &dyn Guest, when_idle: Idle) -> Result<(), MachineError> {
        let cpus = vm.cpus();
        let mut hands: Vec<Hand> = vec![Hand::default(); usize::from(cpus)];
        loop {
            let mut idle: Option<Option<u64>> = None;
            let mut active = false;
            for cpu in 0..cpus {
                match self.turn_of_all(vm, cpu, &mut hands)? {
                    None => return Ok(()),
                    // A debugger holds it back; there is no hurry.
                    Some(false) => {
                        idle = idle.or(Some(None));
                        continue;
                    }
                    Some(true) => {}
                }
                let hand = &mut hands[usize::from(cpu)];
                let exit = hand.enter(vm, cpu, RunLimit { instructions: Some(QUANTUM), block: false })?;
                match exit {
                    Exit::Idle { wake_after_ns } => {
                        let earliest = match (idle.flatten(), wake_after_ns) {
                            (Some(a), Some(b)) => Some(a.min(b)),
                            (a, b) => a.or(b),
                        };
                        idle = Some(earliest);
                        continue;
                    }
                    // A stopped CPU says so at every turn; the machine looks whether any other is left.
                    Exit::Stopped => {
                        if let Next::End(end) = guest.exit(cpu, Exit::Stopped)? {
                            self.guest_ended(vm, cpu, end)?;
                        }
                        continue;
                    }
                    Exit::Debug(exit) => {
                        self.debug_stop(vm, cpu, exit);
                        active = true;
                        continue;
                    }
                    _ => active = true,
                }
                let mut next = guest.exit(cpu, exit)?;
                if matches!(next, Next::Rest) {
                    let Some(after) = self.with_rest(vm, guest, cpu)? else { return Ok(()) };
                    next = after;
                }
                match next {
                    Next::Complete(done) => hands[usize::from(cpu)].completion = Some(done),
                    Next::Continue | Next::Rest => {}
                    Next::End(end) => self.guest_ended(vm, cpu, end)?,
                }
            }
            let tick = guest.virtual_tick();
            if active {
                continue;
            }
            // The CPUs' own timers and the machine's.
            let idle = idle.map(|timer| timer.into_iter().chain(tick).min());
            match idle {
                // Every CPU waits: virtual time jumps to the next timer.
                Some(Some(ns)) if when_idle == Idle::Skip => vm.advance(ns.max(1))?,
                Some(Some(ns)) if when_idle == Idle::SkipSlowly => {
                    self.pause(Duration::from_nanos(ns));
                    vm.advance(ns.max(1))?;
                }
                // Real time is waited for; input from outside may wake the guest earlier, or is all that can.
                Some(timer) => {
                    let most = Duration::from_millis(5);
                    let sleep = timer.map_or(most, |ns| Duration::from_nanos(ns).min(most));
                    self.pause(sleep);
                }
                // All CPUs are stopped, which ended the run or stopped the machine.
                None => {}
            }
        }
    }

    /// Waits, for all CPUs of the one thread, until this one may run. False: it is held back, others may. `None`:
    /// the run is over.
    fn turn_of_all(&self, vm: &Vm, cpu: u16, hands: &mut [Hand]) -> Result<Option<bool>, MachineError> {
        let mut state = self.lock();
        loop {
            if state.end.is_some() {
                return Ok(None);
            }
            for hand in &mut *hands {
                hand.follow(state.generation);
            }
            if state.open() {
                return Ok(Some(state.may_run(cpu)));
            }
            if !state.rest && hands.iter().any(|hand| hand.completion.is_some()) {
                drop(state);
                for (cpu, hand) in (0..).zip(&mut *hands) {
                    hand.settle(vm, cpu)?;
                }
                state = self.lock();
                continue;
            }
            state.parked += 1;
            self.changed.notify_all();
            state = self.wait(state);
            state.parked -= 1;
        }
    }

    /// Sleeps until the run ends or the machine stops, at most this long.
    fn pause(&self, most: Duration) {
        let until = Instant::now() + most;
        let mut state = self.lock();
        while state.open() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn operate(&self) -> MutexGuard<'_, ()> {
        self.operation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn set_time_running(vm: &Vm, running: bool) {
    if let Err(why) = vm.set_time_running(running) {
        tracing::error!(%why, running, "guest time");
    }
}

fn kick_all(vm: &Vm, except: Option<u16>) {
    for cpu in (0..vm.cpus()).filter(|&cpu| Some(cpu) != except) {
        // A CPU that cannot be kicked is not running.
        let _ = vm.kick(cpu);
    }
}
