//! Guest time: real or counted.
//!
//! Times are nanoseconds since an origin that the machine chooses by [`Clock::set`]; formats such as the
//! time-of-day clock or a time base are the core's. This is no timer: a core asks for its next deadline.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What makes guest time pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockMode {
    /// The host's monotonic clock.
    Real,
    /// Retired instructions, each of `step` nanoseconds; idle time is skipped.
    Virtual {
        /// Nanoseconds per instruction.
        step: u32,
    },
}

/// The clock of one virtual machine, shared by its CPUs.
pub struct Clock {
    mode: ClockMode,
    started: Instant,
    /// Virtual or stopped: the time. Real and running: what to add to the host's, wrapping.
    value: AtomicU64,
    stopped: AtomicU64,
    change: Mutex<()>,
}

impl Clock {
    /// A running clock that begins at 0.
    pub fn new(mode: ClockMode) -> Self {
        Self {
            mode,
            started: Instant::now(),
            value: AtomicU64::new(0),
            stopped: AtomicU64::new(RUNNING),
            change: Mutex::new(()),
        }
    }

    /// What makes this clock run.
    pub fn mode(&self) -> ClockMode {
        self.mode
    }

    /// Guest time now. Never goes back unless set.
    #[inline]
    pub fn now(&self) -> u64 {
        let stopped = self.stopped.load(Ordering::Acquire);
        if stopped != RUNNING {
            return stopped;
        }
        let value = self.value.load(Ordering::Acquire);
        match self.mode {
            ClockMode::Real => value.wrapping_add(self.host()),
            ClockMode::Virtual { .. } => value,
        }
    }

    /// Sets guest time, running or stopped.
    pub fn set(&self, now: u64) {
        let _change = self.lock();
        if self.stopped.load(Ordering::Acquire) == RUNNING {
            self.value.store(self.value_for(now), Ordering::Release);
        } else {
            self.stopped.store(now, Ordering::Release);
        }
    }

    /// Stops guest time.
    pub fn stop(&self) {
        let _change = self.lock();
        let now = self.now();
        self.stopped.store(now, Ordering::Release);
    }

    /// Lets guest time go on from where it stopped.
    pub fn resume(&self) {
        let _change = self.lock();
        let stopped = self.stopped.load(Ordering::Acquire);
        if stopped != RUNNING {
            self.value.store(self.value_for(stopped), Ordering::Release);
            self.stopped.store(RUNNING, Ordering::Release);
        }
    }

    /// Whether guest time is stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire) != RUNNING
    }

    /// Instructions have been retired: moves a virtual clock, and no other.
    #[inline]
    pub fn retired(&self, instructions: u64) {
        if let ClockMode::Virtual { step } = self.mode {
            self.value.fetch_add(instructions.saturating_mul(step.into()), Ordering::AcqRel);
        }
    }

    /// All CPUs are idle until `deadline`: a virtual clock jumps there and wants no waiting; for a real one
    /// yields how long to wait.
    pub fn idle_until(&self, deadline: u64) -> Option<Duration> {
        match self.mode {
            ClockMode::Virtual { .. } => {
                self.value.fetch_max(deadline, Ordering::AcqRel);
                None
            }
            ClockMode::Real => self.until(deadline),
        }
    }

    /// Time left until `deadline`; `None` if it has passed.
    pub fn until(&self, deadline: u64) -> Option<Duration> {
        let left = deadline.checked_sub(self.now())?;
        (left > 0).then(|| Duration::from_nanos(left))
    }

    /// Whether `deadline` has been reached.
    #[inline]
    pub fn expired(&self, deadline: u64) -> bool {
        self.now() >= deadline
    }

    /// How many instructions may run before `deadline` on a virtual clock; a real one sets no limit.
    pub fn instructions_until(&self, deadline: u64) -> u64 {
        match self.mode {
            ClockMode::Virtual { step } => {
                deadline.saturating_sub(self.now()).div_ceil(u64::from(step.max(1)))
            }
            ClockMode::Real => u64::MAX,
        }
    }

    fn host(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    fn value_for(&self, now: u64) -> u64 {
        match self.mode {
            ClockMode::Real => now.wrapping_sub(self.host()),
            ClockMode::Virtual { .. } => now,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ()> {
        self.change.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

const RUNNING: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_time_counts_instructions_and_jumps_when_idle() {
        let clock = Clock::new(ClockMode::Virtual { step: 3 });
        clock.set(100);
        clock.retired(5);
        assert_eq!(clock.now(), 115);
        assert_eq!(clock.instructions_until(120), 2);
        assert_eq!(clock.idle_until(500), None);
        assert!(clock.expired(500) && !clock.expired(501));
        assert_eq!(clock.idle_until(400), None);
        assert_eq!(clock.now(), 500);
    }

    #[test]
    fn a_stopped_clock_stands_and_goes_on_from_there() {
        for mode in [ClockMode::Real, ClockMode::Virtual { step: 1 }] {
            let clock = Clock::new(mode);
            clock.stop();
            clock.set(1_000_000_000_000);
            std::thread::sleep(Duration::from_millis(2));
            assert_eq!(clock.now(), 1_000_000_000_000);
            clock.stop();
            clock.resume();
            clock.resume();
            let gone = clock.now() - 1_000_000_000_000;
            assert!(gone < 1_000_000_000, "went on from there, not from the host's time: {gone}");
            assert!(!clock.is_stopped());
        }
    }

    #[test]
    fn real_time_passes_and_says_how_long_to_wait() {
        let clock = Clock::new(ClockMode::Real);
        clock.set(5_000);
        let first = clock.now();
        std::thread::sleep(Duration::from_millis(1));
        assert!(clock.now() >= first + 1_000_000);
        assert_eq!(clock.until(0), None);
        assert!(clock.idle_until(u64::MAX - 1).is_some());
        assert_eq!(clock.instructions_until(7), u64::MAX);
    }
}
