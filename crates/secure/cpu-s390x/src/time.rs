//! The time-of-day clock, the clock comparator and the CPU timer (SA22-7832, chapter 4, "Timing").
//!
//! What makes time pass is the clock of `cloister-cpu`; this turns it into TOD units.

use crate::cpu::Cpu;
use std::sync::atomic::Ordering;

impl Cpu {
    /// Guest time in TOD units, with the instructions of this CPU counted in virtual time.
    pub(crate) fn tod(&mut self) -> u64 {
        self.retire();
        self.env.tod()
    }

    /// A TOD value greater than any handed out before.
    pub(crate) fn unique_tod(&mut self) -> u64 {
        let now = self.tod();
        let last = &self.env.last_tod;
        match last
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(now.max(last.wrapping_add(1))))
        {
            Ok(last) | Err(last) => now.max(last.wrapping_add(1)),
        }
    }

    /// Tells a virtual clock of the instructions executed.
    pub(crate) fn retire(&mut self) {
        let done = self.executed.wrapping_sub(self.retired);
        if done > 0 {
            self.env.clock.retired(done);
            self.retired = self.executed;
        }
    }

    /// The CPU timer now.
    pub(crate) fn cpu_timer_now(&self) -> u64 {
        self.cpu_timer.wrapping_sub(self.env.tod().wrapping_sub(self.cpu_timer_at))
    }

    /// Sets the CPU timer.
    pub(crate) fn set_cpu_timer(&mut self, value: u64) {
        self.cpu_timer_at = self.tod();
        self.cpu_timer = value;
        self.recheck = true;
    }
}
