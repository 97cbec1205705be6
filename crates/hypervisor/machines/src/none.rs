//! The machine `none`: no CPUs, no memory, no devices. Managers start it to ask what this program can do.

use crate::blocks::Blocks;
use crate::objects::Objects;
use crate::run::{End, Report};
use crate::{MachineError, Run};
use cloister_control::{
    BlockInfo, BlockNodeInfo, Cause, ConfidentialInfo, ControlError, CpuInfo, DeviceInfo, Event, Events,
    Facts, Machine, NoSev, ObjectInfo, RunState, SevControl,
};
use cloister_options::{Blockdev, CommandLine, DeviceSpec, ObjectSpec};
use cloister_platform::Vm;
use cloister_platform::arch::s390x::DebugExit;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The machine `none`.
pub struct NoneMachine {
    facts: Facts,
    events: Events,
    objects: Objects,
    blocks: Blocks,
    no_reboot: bool,
    state: Mutex<(RunState, Option<End>)>,
    changed: Condvar,
    sev: Box<dyn SevControl>,
}

impl NoneMachine {
    /// The machine; `platform` and `model` as in [`Facts`].
    pub fn new(line: &CommandLine, platform: String, model: bool) -> Self {
        let state = if line.stopped { RunState::Prelaunch } else { RunState::Running };
        Self {
            facts: Facts {
                target: line.target,
                machine: line.machine.name.clone(),
                name: line.name.clone(),
                uuid: line.uuid.unwrap_or_default(),
                platform,
                model,
                memory: 0,
                memory_id: String::new(),
            },
            events: Events::default(),
            objects: Objects::new(line),
            blocks: Blocks::default(),
            no_reboot: line.no_reboot,
            state: Mutex::new((state, None)),
            changed: Condvar::new(),
            sev: Box::new(NoSev),
        }
    }

    /// The same machine on a platform that can be asked for SEV.
    #[must_use]
    pub fn with_sev(mut self, sev: Box<dyn SevControl>) -> Self {
        self.sev = sev;
        self
    }

    fn change(&self, running: bool) {
        let mut state = self.lock();
        if state.0.is_running() != running {
            state.0 = if running { RunState::Running } else { RunState::Paused };
            drop(state);
            self.events.emit(if running { Event::Resume } else { Event::Stop });
        }
    }

    fn lock(&self) -> MutexGuard<'_, (RunState, Option<End>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run for NoneMachine {
    /// Waits until somebody ends it.
    fn run(self: Arc<Self>) -> Result<Report, MachineError> {
        let start = Instant::now();
        let mut state = self.lock();
        loop {
            if let Some(end) = state.1.clone() {
                return Ok(Report { end, instructions: 0, wall: start.elapsed() });
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn end(&self, end: End, cause: Cause) {
        let mut state = self.lock();
        if state.1.is_none() {
            state.1 = Some(end);
            drop(state);
            self.events.emit(Event::Shutdown(cause));
            self.changed.notify_all();
        }
    }

    fn warnings(&self) -> &[String] {
        &[]
    }

    fn console_input(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }
}

impl Machine for NoneMachine {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn vm(&self) -> Option<&Vm> {
        None
    }

    fn events(&self) -> &Events {
        &self.events
    }

    fn run_state(&self) -> RunState {
        self.lock().0
    }

    fn stop(&self) -> Result<(), ControlError> {
        self.change(false);
        Ok(())
    }

    fn cont(&self) -> Result<(), ControlError> {
        self.change(true);
        Ok(())
    }

    fn cont_only(&self, _cpus: &[u16]) -> Result<(), ControlError> {
        self.cont()
    }

    fn debug_exit(&self) -> Option<(u16, DebugExit)> {
        None
    }

    fn reset(&self, cause: Cause) -> Result<(), ControlError> {
        if self.no_reboot {
            self.end(End::NoReboot, cause);
        } else {
            self.events.emit(Event::Reset(cause));
        }
        Ok(())
    }

    fn powerdown(&self) -> Result<(), ControlError> {
        self.events.emit(Event::Powerdown);
        Ok(())
    }

    fn quit(&self, cause: Cause) {
        self.end(End::Quit, cause);
    }

    fn inject_nmi(&self, _cpu: Option<u16>) -> Result<(), ControlError> {
        Err(ControlError::new("machine does not provide NMIs"))
    }

    fn cpus(&self) -> Vec<CpuInfo> {
        Vec::new()
    }

    fn devices(&self) -> Vec<DeviceInfo> {
        Vec::new()
    }

    fn blocks(&self) -> Vec<BlockInfo> {
        Vec::new()
    }

    fn block_nodes(&self) -> Vec<BlockNodeInfo> {
        self.blocks.nodes()
    }

    fn blockdev_add(&self, blockdev: Blockdev) -> Result<(), ControlError> {
        self.blocks.add(blockdev, &[])
    }

    fn blockdev_del(&self, node: &str) -> Result<(), ControlError> {
        self.blocks.delete(node)
    }

    fn objects(&self) -> Vec<ObjectInfo> {
        self.objects.list()
    }

    fn object_add(&self, spec: ObjectSpec) -> Result<(), ControlError> {
        self.objects.add(spec)
    }

    fn object_del(&self, id: &str) -> Result<(), ControlError> {
        self.objects.delete(id, false)
    }

    fn device_add(&self, spec: DeviceSpec) -> Result<(), ControlError> {
        Err(ControlError::new(format!("No suitable bus found for device '{}'", spec.driver)))
    }

    fn device_del(&self, id: &str) -> Result<(), ControlError> {
        Err(ControlError::device_not_found(id))
    }

    fn confidential(&self) -> Option<ConfidentialInfo> {
        None
    }

    fn migration_blockers(&self) -> Vec<String> {
        Vec::new()
    }

    fn sev(&self) -> &dyn SevControl {
        &*self.sev
    }
}
