//! Running a machine's CPUs: a thread for each, or one thread for all of them in turn.
//!
//! Real time uses threads. Virtual time uses one thread with a fixed quantum, so that the same command
//! gives the same run. Whoever needs the machine at rest (a reset, an end) brings the other CPUs out of
//! the core first.

use crate::MachineError;
use cloister_platform::Vm;
use cloister_platform::arch::s390x::{Completion, Exit, RunLimit};
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
}

/// Shared by the threads of one run.
pub(crate) struct Conductor {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// CPUs outside the core because someone wants rest.
    parked: usize,
    /// Threads that run CPUs.
    threads: usize,
    /// Somebody wants the machine at rest.
    rest: bool,
    /// Counts resets; a completion from before is void.
    generation: u64,
    end: Option<End>,
}

impl Conductor {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State { parked: 0, threads: 0, rest: false, generation: 0, end: None }),
            changed: Condvar::new(),
        }
    }

    /// Ends the run; the first reason counts.
    pub(crate) fn end(&self, vm: &Vm, end: End) {
        self.lock().end.get_or_insert(end);
        self.changed.notify_all();
        kick_all(vm, None);
    }

    /// Runs the machine to its end on one thread per CPU.
    pub(crate) fn run_threads(&self, vm: &Vm, guest: &dyn Guest) -> Report {
        let start = Instant::now();
        self.lock().threads = usize::from(vm.cpus());
        std::thread::scope(|scope| {
            for cpu in 0..vm.cpus() {
                let builder = std::thread::Builder::new().name(format!("CPU {cpu}/software"));
                let work = move || {
                    if let Err(why) = self.one_cpu(vm, guest, cpu) {
                        self.end(vm, End::Failed(why.to_string()));
                    }
                    self.lock().threads -= 1;
                    self.changed.notify_all();
                };
                if let Err(why) = builder.spawn_scoped(scope, work) {
                    self.lock().threads -= 1;
                    self.end(vm, End::Failed(format!("cannot start a thread for CPU {cpu}: {why}")));
                }
            }
        });
        self.report(vm, start)
    }

    /// Runs the machine to its end on this thread, CPU after CPU.
    pub(crate) fn run_in_turn(&self, vm: &Vm, guest: &dyn Guest, idle: Idle) -> Report {
        let start = Instant::now();
        self.lock().threads = 1;
        if let Err(why) = self.in_turn(vm, guest, idle) {
            self.end(vm, End::Failed(why.to_string()));
        }
        self.report(vm, start)
    }

    fn report(&self, vm: &Vm, start: Instant) -> Report {
        let end = self.lock().end.clone().unwrap_or(End::Quit);
        let instructions = vm.instructions().map_or(0, |counts| counts.iter().sum());
        Report { end, instructions, wall: start.elapsed() }
    }

    fn one_cpu(&self, vm: &Vm, guest: &dyn Guest, cpu: u16) -> Result<(), MachineError> {
        let mut completion = None;
        loop {
            let mut state = self.lock();
            let generation = state.generation;
            while state.rest && state.end.is_none() {
                state.parked += 1;
                self.changed.notify_all();
                state = self.wait(state);
                state.parked -= 1;
            }
            if state.end.is_some() {
                return Ok(());
            }
            if state.generation != generation {
                completion = None;
            }
            drop(state);
            let limit = RunLimit { instructions: None, block: true };
            let exit = vm.run(cpu, limit, completion.take())?;
            let mut next = guest.exit(cpu, exit)?;
            if matches!(next, Next::Rest) {
                let Some(after) = self.with_rest(vm, guest, cpu)? else { return Ok(()) };
                next = after;
            }
            match next {
                Next::Complete(done) => completion = Some(done),
                Next::Continue | Next::Rest => {}
                Next::End(end) => {
                    self.end(vm, end);
                    return Ok(());
                }
            }
        }
    }

    /// Waits until all other CPUs are out of the core, does the work, lets them go on. `None`: the run is over.
    fn with_rest(&self, vm: &Vm, guest: &dyn Guest, cpu: u16) -> Result<Option<Next>, MachineError> {
        let mut state = self.lock();
        // Another CPU wants the same: it goes first, and this CPU counts as out of the core.
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
        drop(state);
        loop {
            kick_all(vm, Some(cpu));
            let state = self.lock();
            if state.end.is_some() {
                return Ok(None);
            }
            if state.parked + 1 >= state.threads {
                break;
            }
            // A kick that came before the CPU entered the core is remembered there, but a CPU between two
            // exits takes it without coming here: ask again.
            drop(self.changed.wait_timeout(state, Duration::from_millis(10)));
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

    fn in_turn(&self, vm: &Vm, guest: &dyn Guest, when_idle: Idle) -> Result<(), MachineError> {
        let cpus = vm.cpus();
        let mut completions: Vec<Option<Completion>> = vec![None; usize::from(cpus)];
        loop {
            let mut idle: Option<Option<u64>> = None;
            let mut active = false;
            for cpu in 0..cpus {
                if self.lock().end.is_some() {
                    return Ok(());
                }
                let slot = usize::from(cpu);
                let limit = RunLimit { instructions: Some(QUANTUM), block: false };
                let exit = vm.run(cpu, limit, completions[slot].take())?;
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
                            self.end(vm, end);
                            return Ok(());
                        }
                        continue;
                    }
                    _ => active = true,
                }
                let mut next = guest.exit(cpu, exit)?;
                if matches!(next, Next::Rest) {
                    let (after, reset) = guest.at_rest(cpu)?;
                    if reset {
                        completions.fill(None);
                    }
                    next = after;
                }
                match next {
                    Next::Complete(done) => completions[slot] = Some(done),
                    Next::Continue | Next::Rest => {}
                    Next::End(end) => {
                        self.end(vm, end);
                        return Ok(());
                    }
                }
            }
            if active {
                continue;
            }
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
                None => {
                    self.end(vm, End::PowerOff);
                    return Ok(());
                }
            }
        }
    }

    /// Sleeps until the run ends, at most this long.
    fn pause(&self, most: Duration) {
        let until = Instant::now() + most;
        let mut state = self.lock();
        while state.end.is_none() {
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
}

fn kick_all(vm: &Vm, except: Option<u16>) {
    for cpu in (0..vm.cpus()).filter(|&cpu| Some(cpu) != except) {
        // A CPU that cannot be kicked is not running.
        let _ = vm.kick(cpu);
    }
}
