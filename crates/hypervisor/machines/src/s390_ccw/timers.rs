//! What happens at a guest time rather than at an exit: the watchdog, and the balloon's reports.
//!
//! Guest time stands while the machine is stopped, and so do these. In real time a thread of its own waits; with virtual
//! time the conductor asks between two turns of the CPUs, so that a run repeats.

use super::S390Ccw;
use super::device::Handle;
use crate::run::{End, Next};
use cloister_control::{Cause, ControlError, Event, Machine, RunState};
use cloister_devices::watchdog::Watchdog;
use cloister_options::WatchdogAction;
use cloister_platform::arch::s390x::{Completion, program};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a thread looks at least whether guest time goes on, and at most.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// The machine's timers.
pub(super) struct Timers {
    state: Mutex<State>,
    changed: Condvar,
    /// Anything waits.
    active: AtomicBool,
}

struct State {
    /// `None`: the machine has no watchdog.
    watchdog: Option<Watchdog>,
    action: WatchdogAction,
    poll: Option<Poll>,
    /// Counts changes.
    generation: u64,
    end: bool,
}

/// When the balloon is asked for a report, in guest nanoseconds.
#[derive(Clone, Copy)]
struct Poll {
    interval: u64,
    next: u64,
}

impl Timers {
    pub(super) fn new(has_watchdog: bool, action: WatchdogAction) -> Self {
        let watchdog = has_watchdog.then(Watchdog::default);
        let state = State { watchdog, action, poll: None, generation: 0, end: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), active: AtomicBool::new(false) }
    }

    /// Subsystem reset.
    pub(super) fn reset(&self) {
        self.change(|state| state.watchdog.iter_mut().for_each(Watchdog::reset));
    }

    pub(super) fn set_action(&self, action: WatchdogAction) {
        self.change(|state| state.action = action);
    }

    /// Seconds between two reports of the balloon; 0: none are asked for.
    pub(super) fn poll_interval(&self) -> u64 {
        self.lock().poll.map_or(0, |poll| poll.interval / SECOND)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        state.generation += 1;
        let waits =
            state.poll.is_some() || state.watchdog.is_some_and(|watchdog| watchdog.remaining(0).is_some());
        self.active.store(waits, Ordering::Release);
        drop(state);
        self.changed.notify_all();
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SECOND: u64 = 1_000_000_000;

impl S390Ccw {
    /// DIAGNOSE X'288': without a watchdog the code is unknown.
    pub(super) fn diag_288(&self, r1: u8, function: u64, seconds: u64, action: u64) -> Next {
        let now = self.guest_time();
        let done = self.timers.change(|state| match &mut state.watchdog {
            Some(watchdog) if r1.is_multiple_of(2) => {
                watchdog.diagnose(now, function, seconds, action).is_ok()
            }
            _ => false,
        });
        Next::Complete(match done {
            true => Completion::default(),
            false => Completion::program(program::SPECIFICATION),
        })
    }

    /// Sets how often the balloon is asked for a report.
    pub(super) fn set_poll_interval(&self, seconds: i64) -> Result<(), ControlError> {
        let seconds =
            u64::try_from(seconds).map_err(|_| ControlError::new("timer value must be greater than zero"))?;
        if seconds > u64::from(u32::MAX) {
            return Err(ControlError::new("timer value is too big"));
        }
        let next = self.guest_time();
        self.timers.change(|state| {
            state.poll = (seconds > 0).then_some(Poll { interval: seconds * SECOND, next });
        });
        Ok(())
    }

    /// Runs the machine with its timers beside it.
    pub(super) fn with_timers<T>(&self, run: impl FnOnce() -> T) -> std::io::Result<T> {
        if self.virtual_time() {
            return Ok(run());
        }
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("timers".into())
                .spawn_scoped(scope, || self.wait_for_timers())?;
            let _end = Finish(&self.timers);
            Ok(run())
        })
    }

    /// Does what is due, and says how many guest nanoseconds there are until more is.
    pub(super) fn tick(&self) -> Option<u64> {
        if !self.timers.active.load(Ordering::Acquire) {
            return None;
        }
        let now = self.guest_time();
        let mut state = self.timers.lock();
        let expired = state.watchdog.as_mut().is_some_and(|watchdog| watchdog.expire(now));
        let action = state.action;
        // As in QEMU: with these the guest may go on where it was.
        let keeps = matches!(action, WatchdogAction::Pause | WatchdogAction::Debug | WatchdogAction::None);
        if expired && !keeps {
            state.watchdog.iter_mut().for_each(Watchdog::reset);
        }
        let polled = state.poll.as_mut().is_some_and(|poll| {
            let due = poll.next <= now;
            if due {
                poll.next = now.saturating_add(poll.interval);
            }
            due
        });
        let watchdog = state.watchdog.and_then(|watchdog| watchdog.remaining(now));
        let poll = state.poll.map(|poll| poll.next.saturating_sub(now));
        let next = watchdog.into_iter().chain(poll).min();
        self.timers.active.store(next.is_some(), Ordering::Release);
        drop(state);
        if expired {
            self.watchdog_expired(action);
        }
        if polled {
            for device in &*self.attached() {
                if let Handle::Balloon(balloon) = &device.handle {
                    balloon.ask();
                }
            }
        }
        next
    }

    fn wait_for_timers(&self) {
        loop {
            let generation = self.timers.lock().generation;
            let next = self.tick();
            let mut state = self.timers.lock();
            if state.end {
                return;
            }
            if state.generation != generation {
                continue;
            }
            // Guest time may stand still meanwhile.
            let wait = next.map(|next| Duration::from_nanos(next).clamp(PATIENCE.0, PATIENCE.1));
            state = match wait {
                Some(wait) => {
                    self.timers.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.timers.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            if state.end {
                return;
            }
        }
    }

    /// In the words and the order of QEMU. What stops CPUs is left to the machine's own thread: this one may be a CPU's.
    fn watchdog_expired(&self, action: WatchdogAction) {
        tracing::info!(action = action.name(), "the guest's watchdog expired");
        self.events.emit(Event::Watchdog(action));
        let jobs = self.worker.jobs();
        match action {
            WatchdogAction::Reset => jobs.later(|machine| {
                if let Err(why) = machine.reset(Cause::GuestReset) {
                    machine.say(&format!("the watchdog could not reset the machine: {why}"));
                }
            }),
            WatchdogAction::Shutdown => jobs.later(|machine| {
                // A guest that does not listen hears nothing.
                let _ = machine.powerdown();
            }),
            WatchdogAction::PowerOff => {
                self.conductor.end(&self.vm, End::PowerOff, Cause::GuestShutdown);
            }
            WatchdogAction::Pause => {
                jobs.later(|machine| machine.conductor.stop(&machine.vm, RunState::Watchdog));
            }
            WatchdogAction::Debug => self.say("watchdog: timer fired"),
            WatchdogAction::None => {}
            WatchdogAction::InjectNmi => {
                if let Err(why) = self.inject_nmi(None) {
                    self.say(&format!("the watchdog could not interrupt the guest: {why}"));
                }
            }
        }
    }

    /// Guest time in nanoseconds: 4096 TOD units are a microsecond.
    fn guest_time(&self) -> u64 {
        let tod = self.vm.tod().unwrap_or_else(|why| {
            tracing::error!(%why, "guest time");
            0
        });
        (u128::from(tod) * 1000 / 4096) as u64
    }
}

/// Ends the thread, however the run ends.
struct Finish<'a>(&'a Timers);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.end = true);
    }
}
