//! The watchdog behind DIAGNOSE X'288' (z/VM CP Programming Services, SC24-6272, "DIAGNOSE Code X'288'"; the register
//! use without z/VM is that of Linux, drivers/watchdog/diag288_wdt.c).
//!
//! A state machine on guest time that the caller brings along: it has no clock, and does not know what the machine does
//! when it expires.

use serde::{Deserialize, Serialize};

/// DIAGNOSE code of the watchdog.
pub const DIAGNOSE: u16 = 0x288;

/// Shortest interval in seconds.
pub const SHORTEST: u64 = 15;

const INIT: u64 = 0;
const CHANGE: u64 = 1;
const CANCEL: u64 = 2;
/// The action: restart. It is the only one outside z/VM.
const RESTART: u64 = 0;

/// A watchdog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watchdog {
    /// When it expires, in guest nanoseconds; `None`: it is off.
    deadline: Option<u64>,
}

/// The function code, interval or action is not one of the watchdog's, or it is off: a specification exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

impl Watchdog {
    /// The registers of a DIAGNOSE X'288' at a guest time: R1, R1 + 1, R3.
    ///
    /// # Errors
    /// The guest gets a specification exception.
    pub fn diagnose(&mut self, now: u64, function: u64, seconds: u64, action: u64) -> Result<(), Refused> {
        if action != RESTART || function != CANCEL && seconds < SHORTEST {
            return Err(Refused);
        }
        match function {
            INIT => {}
            CHANGE | CANCEL if self.deadline.is_none() => return Err(Refused),
            CHANGE => {}
            CANCEL => {
                *self = Self::default();
                return Ok(());
            }
            _ => return Err(Refused),
        }
        self.deadline = Some(now.saturating_add(seconds.saturating_mul(1_000_000_000)));
        Ok(())
    }

    /// Guest nanoseconds until it expires; `None`: it is off.
    pub fn remaining(&self, now: u64) -> Option<u64> {
        self.deadline.map(|deadline| deadline.saturating_sub(now))
    }

    /// Whether it has expired by now; told once.
    pub fn expire(&mut self, now: u64) -> bool {
        let expired = self.deadline.is_some_and(|deadline| deadline <= now);
        if expired {
            *self = Self::default();
        }
        expired
    }

    /// A reset of the machine switches it off.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn diag_288_init_counts_down_change_starts_again_and_cancel_ends_it() {
        let mut watchdog = Watchdog::default();
        assert_eq!(watchdog.remaining(0), None);
        watchdog.diagnose(SECOND, INIT, 15, RESTART).unwrap();
        assert_eq!(watchdog.remaining(2 * SECOND), Some(14 * SECOND));
        assert!(!watchdog.expire(16 * SECOND - 1));
        watchdog.diagnose(10 * SECOND, CHANGE, 20, RESTART).unwrap();
        assert!(!watchdog.expire(29 * SECOND));
        assert!(watchdog.expire(30 * SECOND));
        assert!(!watchdog.expire(31 * SECOND), "it expires once");
        assert_eq!(watchdog.diagnose(0, CANCEL, 0, RESTART), Err(Refused), "it is off");
        watchdog.diagnose(0, INIT, 15, RESTART).unwrap();
        watchdog.diagnose(0, CANCEL, 0, RESTART).unwrap();
        assert!(!watchdog.expire(u64::MAX));
    }

    #[test]
    fn diag_288_refuses_short_intervals_other_actions_and_what_it_is_off_for() {
        let mut watchdog = Watchdog::default();
        for (function, seconds, action) in
            [(INIT, 14, 0), (INIT, 15, 1), (CHANGE, 15, 0), (CANCEL, 15, 0), (3, 15, 0), (1 << 31, 15, 0)]
        {
            assert_eq!(watchdog.diagnose(0, function, seconds, action), Err(Refused), "{function:#x}");
            assert_eq!(watchdog, Watchdog::default());
        }
    }

    proptest! {
        #[test]
        fn diag_288_expires_exactly_at_its_deadline(
            now in 0..u64::MAX / 2, seconds in SHORTEST..1 << 30, early in 1..u64::MAX / 4,
        ) {
            let mut watchdog = Watchdog::default();
            prop_assert!(watchdog.diagnose(now, INIT, seconds, RESTART).is_ok());
            let deadline = now + seconds * SECOND;
            prop_assert!(!watchdog.expire(deadline.saturating_sub(early)));
            prop_assert!(watchdog.expire(deadline));
        }

        #[test]
        fn diag_288_takes_any_registers(calls: Vec<(u64, u64, u64, u64)>) {
            let mut watchdog = Watchdog::default();
            for (now, function, seconds, action) in calls {
                let _ = watchdog.diagnose(now, function % 4, seconds, action % 2);
                let _ = (watchdog.remaining(now), watchdog.expire(now));
            }
        }
    }
}
