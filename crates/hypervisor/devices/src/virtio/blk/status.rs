//! What operators may know of a disk at work, shared with the device.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// Counters and switches of a disk, as monitors show them.
#[derive(Debug, Default)]
pub struct BlockStatus {
    reads: Counters,
    writes: Counters,
    flushes: Counters,
    discards: Counters,
    highest: AtomicU64,
    write_cache: AtomicBool,
    trouble: AtomicU8,
    retry: AtomicBool,
}

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Operation {
    Read,
    Write,
    Flush,
    Discard,
}

/// How a disk that stops at errors fares (`BlockDeviceIoStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoStatus {
    /// No error, or it was tried again.
    Ok,
    /// An error stopped the machine.
    Failed,
    /// The host's disk is full, which stopped the machine.
    NoSpace,
}

#[derive(Debug, Default)]
struct Counters {
    operations: AtomicU64,
    bytes: AtomicU64,
    nanoseconds: AtomicU64,
    failed: AtomicU64,
    invalid: AtomicU64,
}

/// What was counted of one kind of request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Done.
    pub operations: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their time together.
    pub nanoseconds: u64,
    /// Failed on the host.
    pub failed: u64,
    /// Not possible on this disk.
    pub invalid: u64,
}

impl BlockStatus {
    /// What was counted.
    pub fn count(&self, operation: Operation) -> Count {
        let of = self.of(operation);
        Count {
            operations: of.operations.load(Ordering::Relaxed),
            bytes: of.bytes.load(Ordering::Relaxed),
            nanoseconds: of.nanoseconds.load(Ordering::Relaxed),
            failed: of.failed.load(Ordering::Relaxed),
            invalid: of.invalid.load(Ordering::Relaxed),
        }
    }

    /// The end of the last byte that was written.
    pub fn highest_write(&self) -> u64 {
        self.highest.load(Ordering::Relaxed)
    }

    /// Whether writes may stay in a cache until the guest flushes.
    pub fn write_cache(&self) -> bool {
        self.write_cache.load(Ordering::Relaxed)
    }

    /// How it fares.
    pub fn io_status(&self) -> IoStatus {
        match self.trouble.load(Ordering::Relaxed) {
            0 => IoStatus::Ok,
            1 => IoStatus::Failed,
            _ => IoStatus::NoSpace,
        }
    }

    /// For the machine, after it stopped: at the next call of the device it tries again what it kept.
    pub fn allow_retry(&self) {
        self.retry.store(true, Ordering::Release);
    }

    pub(super) fn take_retry(&self) -> bool {
        let retry = self.retry.swap(false, Ordering::AcqRel);
        if retry {
            self.trouble.store(0, Ordering::Relaxed);
        }
        retry
    }

    pub(super) fn set_trouble(&self, no_space: bool) {
        self.trouble.store(if no_space { 2 } else { 1 }, Ordering::Relaxed);
    }

    pub(super) fn set_write_cache(&self, on: bool) {
        self.write_cache.store(on, Ordering::Relaxed);
    }

    pub(super) fn done(&self, operation: Operation, bytes: u64, time: Duration) {
        let of = self.of(operation);
        of.operations.fetch_add(1, Ordering::Relaxed);
        of.bytes.fetch_add(bytes, Ordering::Relaxed);
        of.nanoseconds.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn wrote_up_to(&self, end: u64) {
        self.highest.fetch_max(end, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, operation: Operation) {
        self.of(operation).failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn invalid(&self, operation: Operation) {
        self.of(operation).invalid.fetch_add(1, Ordering::Relaxed);
    }

    fn of(&self, operation: Operation) -> &Counters {
        match operation {
            Operation::Read => &self.reads,
            Operation::Write => &self.writes,
            Operation::Flush => &self.flushes,
            Operation::Discard => &self.discards,
        }
    }
}
