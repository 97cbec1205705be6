//! What operators may ask of a machine while it exists: monitors, gdb, signals and the terminal all speak to
//! [`Machine`] and hear of changes on its [`Events`].
//!
//! It is vocabulary: no protocol (QMP, the human monitor and gdb have crates of their own) and no machine. The guest
//! itself, its CPUs and memory, is reached through the upper door, by [`Machine::vm`].
#![forbid(unsafe_code)]

mod dump;
mod error;
mod events;
mod facts;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod machine;
pub mod profile;
mod run_state;
mod sev;

pub use dump::{DumpProgress, DumpRange, DumpSink, DumpStatus};
pub use error::{ControlError, ErrorClass};
pub use events::{Event, Events, Subscription, TimedEvent};
pub use facts::{
    BlockCount, BlockInfo, BlockNodeInfo, BlockStats, BusInfo, ChardevInfo, ConfidentialInfo, CpuInfo,
    DeviceInfo, Facts, NetdevInfo, Networks, NicInfo, ObjectInfo, Property,
};
pub use machine::{Machine, Operator, Process};
pub use profile::ExitCount;
pub use run_state::{Cause, RunState};
pub use sev::{NoSev, SevControl, SevInfo, SevPlatformInfo};
