//! A machine as operators see it.

use crate::{
    BlockInfo, BlockNodeInfo, Cause, ChardevInfo, ConfidentialInfo, ControlError, CpuInfo, DeviceInfo,
    DumpProgress, DumpRange, DumpSink, Events, ExitCount, Facts, Networks, NoSev, ObjectInfo, RunState,
    SevControl,
};
use cloister_options::{Blockdev, Catalogue, CommandLine, DeviceSpec, Netdev, ObjectSpec, WatchdogAction};
use cloister_platform::Vm;
use cloister_platform::arch::s390x::DebugExit;
use serde_json::Value;
use std::sync::Arc;

/// A machine. Every method may be called from every thread but the machine's own CPU threads, at any time.
pub trait Machine: Send + Sync {
    /// What does not change.
    fn facts(&self) -> &Facts;

    /// The guest behind the upper door: CPU states, translations, memory as the host sees it, page states. `None` for
    /// `-machine none`.
    fn vm(&self) -> Option<&Vm>;

    /// Who tells what happens.
    fn events(&self) -> &Events;

    /// What it is doing.
    fn run_state(&self) -> RunState;

    /// Stops all CPUs and guest time; returns when no CPU is in the core. Done already: no effect, no event.
    fn stop(&self) -> Result<(), ControlError>;

    /// Does something while no CPU is in the core, and lets them go on; nobody is told. For a look at registers.
    fn at_rest(&self, work: &mut dyn FnMut()) -> Result<(), ControlError> {
        work();
        Ok(())
    }

    /// Lets CPUs run. Refused if only a reset helps ("Resetting the Virtual Machine is required").
    fn cont(&self) -> Result<(), ControlError>;

    /// As [`cont`](Self::cont), for these CPUs only; the others stay out of the core until the next stop. For
    /// debuggers: the end of a step is told as [`Event::Debug`](crate::Event::Debug).
    fn cont_only(&self, cpus: &[u16]) -> Result<(), ControlError>;

    /// Why a debugger's stop came about, told once for each: several CPUs may stop at the same time. Machines
    /// without CPUs have none.
    fn debug_exit(&self) -> Option<(u16, DebugExit)> {
        None
    }

    /// Resets the machine; the guest starts again, or stays stopped if it is.
    fn reset(&self, cause: Cause) -> Result<(), ControlError>;

    /// Asks the guest to power itself off.
    fn powerdown(&self) -> Result<(), ControlError>;

    /// Ends the run and the process.
    fn quit(&self, cause: Cause);

    /// Injects what the architecture has for an operator's interruption: RESTART on s390x. Without a CPU, the first.
    fn inject_nmi(&self, cpu: Option<u16>) -> Result<(), ControlError>;

    /// Its CPUs.
    fn cpus(&self) -> Vec<CpuInfo>;

    /// Its devices, parents before children.
    fn devices(&self) -> Vec<DeviceInfo>;

    /// Its block devices.
    fn blocks(&self) -> Vec<BlockInfo>;

    /// The nodes of its block layer that `-blockdev`, `-drive` and [`blockdev_add`](Self::blockdev_add) made.
    fn block_nodes(&self) -> Vec<BlockNodeInfo> {
        Vec::new()
    }

    /// Adds a node to the block layer.
    fn blockdev_add(&self, _blockdev: Blockdev) -> Result<(), ControlError> {
        Err(ControlError::new("this machine has no block layer"))
    }

    /// Takes away a node that nobody uses.
    fn blockdev_del(&self, node: &str) -> Result<(), ControlError> {
        Err(ControlError::new(format!("Failed to find node with node-name='{node}'")))
    }

    /// Changes the size of an image, named by its drive or its node; the guest is told.
    fn block_resize(&self, device: Option<&str>, node: Option<&str>, _size: u64) -> Result<(), ControlError> {
        let (device, node) = (device.unwrap_or_default(), node.unwrap_or_default());
        Err(ControlError::new(format!("Cannot find device='{device}' nor node-name='{node}'")))
    }

    /// Objects of `-object` and [`object_add`](Self::object_add).
    fn objects(&self) -> Vec<ObjectInfo>;

    /// Adds an object.
    fn object_add(&self, spec: ObjectSpec) -> Result<(), ControlError>;

    /// Takes an object away.
    fn object_del(&self, id: &str) -> Result<(), ControlError>;

    /// Plugs a device into the running machine.
    fn device_add(&self, spec: DeviceSpec) -> Result<(), ControlError>;

    /// Unplugs a device; [`Event::DeviceDeleted`](crate::Event::DeviceDeleted) says when it is gone.
    fn device_del(&self, id: &str) -> Result<(), ControlError>;

    /// Bytes of memory that the guest keeps, by what its balloon says.
    fn balloon(&self) -> Result<u64, ControlError> {
        Err(ControlError::no_balloon())
    }

    /// Asks the guest to keep so many bytes of memory, at most what it has.
    fn set_balloon(&self, _bytes: u64) -> Result<(), ControlError> {
        Err(ControlError::no_balloon())
    }

    /// What the watchdog does from now on. A machine without one takes it, too.
    fn set_watchdog_action(&self, _action: WatchdogAction) {}

    /// Sets a property of the object at a path. `None`: nobody can set it.
    fn set_property(&self, _path: &str, _name: &str, _value: &Value) -> Option<Result<(), ControlError>> {
        None
    }

    /// Why and how often its CPUs left the core, the most frequent first.
    fn exits(&self) -> Vec<ExitCount> {
        Vec::new()
    }

    /// Its network: devices and backends.
    fn networks(&self) -> Networks {
        Networks::default()
    }

    /// Adds a network backend.
    fn netdev_add(&self, _netdev: Netdev) -> Result<(), ControlError> {
        Err(ControlError::new("this machine has no network devices"))
    }

    /// Takes a network backend away; a device that has it is left without one.
    fn netdev_del(&self, id: &str) -> Result<(), ControlError> {
        Err(ControlError::device_not_found(id))
    }

    /// Plugs the cable of a network device or backend in, or pulls it.
    fn set_link(&self, name: &str, _up: bool) -> Result<(), ControlError> {
        Err(ControlError::device_not_found(name))
    }

    /// How the guest is protected; `None`: no mechanism.
    fn confidential(&self) -> Option<ConfidentialInfo>;

    /// Why it cannot be migrated; empty if it can.
    fn migration_blockers(&self) -> Vec<String>;

    /// Begins a dump: checks the range and brings the machine to a stop until [`dump_write`](Self::dump_write) has
    /// ended, which must follow.
    ///
    /// # Errors
    /// If there is another dump, or nothing to dump.
    fn dump_begin(&self, range: DumpRange) -> Result<(), ControlError> {
        let _ = range;
        Err(ControlError::new("dump: this machine has no guest that could be dumped"))
    }

    /// Writes the dump that was begun and lets the machine go on; told as
    /// [`Event::DumpCompleted`](crate::Event::DumpCompleted) in any case.
    ///
    /// # Errors
    /// If it cannot be written completely.
    fn dump_write(&self, sink: &mut dyn DumpSink) -> Result<(), ControlError> {
        let _ = sink;
        Err(ControlError::new("no dump was begun"))
    }

    /// How far the last dump is.
    fn dump_progress(&self) -> DumpProgress {
        DumpProgress::default()
    }

    /// AMD SEV: of the guest, and of the platform.
    fn sev(&self) -> &dyn SevControl {
        &NoSev
    }
}

/// What belongs to the process rather than to the machine.
pub trait Process: Send + Sync {
    /// Character devices.
    fn chardevs(&self) -> Vec<ChardevInfo>;

    /// Makes a gdb server at a place such as `tcp::1234`; `none` ends the one there is. The answer is for the user.
    fn gdbserver(&self, device: &str) -> Result<String, ControlError>;
}

/// Everything that a monitor needs.
#[derive(Clone)]
pub struct Operator {
    /// The machine.
    pub machine: Arc<dyn Machine>,
    /// The process.
    pub process: Arc<dyn Process>,
    /// The command line.
    pub line: Arc<CommandLine>,
    /// What can be named.
    pub catalogue: Arc<Catalogue>,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operator").field("machine", self.machine.facts()).finish_non_exhaustive()
    }
}
