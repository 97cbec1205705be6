//! How often CPUs leave the core, and why.

use cloister_control::ExitCount;
use cloister_platform::arch::s390x::{Exit, Instruction};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a machine counts of its exits.
#[derive(Default)]
pub(crate) struct Exits(Mutex<BTreeMap<&'static str, (u64, Duration)>>);

impl Exits {
    /// Deals with an exit, and counts it and the time that this takes.
    pub(crate) fn counted<T>(&self, reason: &'static str, handle: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = handle();
        let time = start.elapsed();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, total) = counts.entry(reason).or_default();
        *count += 1;
        *total += time;
        result
    }

    /// The most frequent first.
    pub(crate) fn list(&self) -> Vec<ExitCount> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<ExitCount> =
            counts.iter().map(|(&reason, &(count, time))| ExitCount { reason, count, time }).collect();
        list.sort_by_key(|exit| std::cmp::Reverse(exit.count));
        list
    }
}

/// An exit in a word or two.
pub(crate) fn reason(exit: &Exit) -> &'static str {
    match exit {
        Exit::Budget => "end of a turn",
        Exit::Kicked => "kick",
        Exit::Idle { .. } => "wait",
        Exit::Stopped => "stop",
        Exit::DisabledWait(_) => "disabled wait",
        Exit::Stuck { .. } => "stuck",
        Exit::MemoryFault { .. } => "memory fault",
        Exit::Debug(_) => "debugger",
        Exit::Instruction(exit) => match exit.instruction {
            Instruction::Servc { .. } => "SERVC",
            Instruction::Csch(_) => "CSCH",
            Instruction::Hsch(_) => "HSCH",
            Instruction::Rsch(_) => "RSCH",
            Instruction::Xsch(_) => "XSCH",
            Instruction::Msch(_) => "MSCH",
            Instruction::Stsch(_) => "STSCH",
            Instruction::Ssch(_) => "SSCH",
            Instruction::Tsch { .. } => "TSCH",
            Instruction::Chsc => "CHSC",
            Instruction::Stcrw => "STCRW",
            Instruction::Schm(..) => "SCHM",
            Instruction::Rchp(_) => "RCHP",
            Instruction::Sal(_) => "SAL",
            Instruction::Diag { code: 0x288, .. } => "DIAG 288 (watchdog)",
            Instruction::Diag { code: 0x308, .. } => "DIAG 308 (IPL)",
            Instruction::Diag { code: 0x500, .. } => "DIAG 500 (virtio-ccw)",
            Instruction::Diag { .. } => "DIAG",
            Instruction::Ptf(_) => "PTF",
            Instruction::Pqap(..) => "PQAP",
            Instruction::Clp => "CLP",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_counted_by_reason() {
        let exits = Exits::default();
        for exit in [Exit::Kicked, Exit::Stopped, Exit::Kicked] {
            exits.counted(reason(&exit), || ());
        }
        let counted: Vec<_> = exits.list().iter().map(|exit| (exit.reason, exit.count)).collect();
        assert_eq!(counted, [("kick", 2), ("stop", 1)]);
    }
}
