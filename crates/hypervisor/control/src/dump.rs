//! Dumps of a guest's memory and CPUs, as operators ask for them.

use std::io::{self, Write};

/// What to dump of the guest's storage; the default is all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpRange {
    /// First guest absolute address.
    pub begin: u64,
    /// Bytes; `None`: to the end.
    pub length: Option<u64>,
}

/// Where a dump is now (`DumpStatus`, QEMU QMP Reference Manual).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DumpStatus {
    /// There was none.
    #[default]
    None,
    /// One is being written.
    Active,
    /// The last one is complete.
    Completed,
    /// The last one failed.
    Failed,
}

impl DumpStatus {
    /// As in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Active => "active",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// How far a dump is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpProgress {
    /// Where it is.
    pub status: DumpStatus,
    /// Bytes of guest memory that are written.
    pub completed: u64,
    /// Bytes of guest memory in all.
    pub total: u64,
}

/// Where a dump goes. What was written counts only once [`finish`](Self::finish) succeeded.
pub trait DumpSink: Write + Send {
    /// Everything is written: makes it visible.
    ///
    /// # Errors
    /// If it cannot be.
    fn finish(&mut self) -> io::Result<()>;
}
