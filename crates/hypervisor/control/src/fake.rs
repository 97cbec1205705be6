//! A machine that does nothing but remember, so that monitors and debuggers can be tested without a guest.
//!
//! It keeps the promises of [`Machine`] about run states and events. It has no guest: [`Machine::vm`] is `None` unless
//! a test gives it one.

use crate::{
    BlockInfo, BusInfo, Cause, ChardevInfo, ConfidentialInfo, ControlError, CpuInfo, DeviceInfo,
    DumpProgress, DumpRange, DumpSink, DumpStatus, Event, Events, Facts, Machine, NoSev, ObjectInfo,
    Operator, Process, Property, RunState, SevControl,
};
use cloister_options::{
    Catalogue, CommandLine, DeviceSpec, Invocation, ObjectSpec, OptionError, Outcome, PropertyValue, Target,
    WatchdogAction, parse,
};
use cloister_platform::Vm;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A machine without a guest. What changes is in [`FakeState`].
pub struct FakeMachine {
    facts: Facts,
    vm: Option<Vm>,
    events: Events,
    state: Mutex<FakeState>,
    sev: Arc<dyn SevControl>,
}

/// What a [`FakeMachine`] says and what it was asked; tests read and write it.
#[derive(Clone, Debug, Default)]
pub struct FakeState {
    /// See [`Machine::run_state`].
    pub run_state: Option<RunState>,
    /// See [`Machine::cpus`].
    pub cpus: Vec<CpuInfo>,
    /// See [`Machine::devices`].
    pub devices: Vec<DeviceInfo>,
    /// See [`Machine::blocks`].
    pub blocks: Vec<BlockInfo>,
    /// See [`Machine::objects`].
    pub objects: Vec<ObjectInfo>,
    /// See [`Machine::balloon`]; `None`: there is no balloon.
    pub balloon: Option<u64>,
    /// See [`Machine::confidential`].
    pub confidential: Option<ConfidentialInfo>,
    /// See [`Machine::migration_blockers`].
    pub blockers: Vec<String>,
    /// See [`Machine::dump_progress`].
    pub dump: DumpProgress,
    /// Every call that would change a machine, in order: `stop`, `cont`, `reset host-qmp-system-reset`, ...
    pub calls: Vec<String>,
}

impl FakeMachine {
    /// An s390x machine, paused before its first instruction, with two CPUs, a disk and a random-number device.
    pub fn s390x() -> Self {
        let facts = Facts {
            target: Target::S390x,
            machine: "s390-ccw-virtio-8.2".into(),
            name: Some("guest".into()),
            uuid: *b"\x4b\xe3\x0d\x9d\x1f\x1f\x49\xf0\xaa\x27\xf3\x8f\xc6\x6f\x59\x4c",
            platform: "a fake for tests".into(),
            model: true,
            memory: 256 << 20,
            memory_id: "s390.ram".into(),
        };
        Self::new(facts, s390x_state())
    }

    /// `-machine none`: no CPUs, no memory.
    pub fn none() -> Self {
        let facts = Facts {
            target: Target::S390x,
            machine: "none".into(),
            name: None,
            uuid: [0; 16],
            platform: "a fake for tests".into(),
            model: true,
            memory: 0,
            memory_id: "ram".into(),
        };
        Self::new(facts, FakeState { run_state: Some(RunState::Prelaunch), ..FakeState::default() })
    }

    /// A machine with these facts and this state.
    pub fn new(facts: Facts, state: FakeState) -> Self {
        Self { facts, vm: None, events: Events::default(), state: Mutex::new(state), sev: Arc::new(NoSev) }
    }

    /// The same machine with AMD SEV.
    #[must_use]
    pub fn with_sev(mut self, sev: Arc<dyn SevControl>) -> Self {
        self.sev = sev;
        self
    }

    /// The same machine of another architecture.
    #[must_use]
    pub fn of(mut self, target: Target, machine: &str) -> Self {
        self.facts.target = target;
        self.facts.machine = machine.into();
        self
    }

    /// The same machine with a guest.
    #[must_use]
    pub fn with_vm(mut self, vm: Vm) -> Self {
        self.vm = Some(vm);
        self
    }

    /// What it says and what it was asked.
    pub fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The calls so far; forgets them.
    pub fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state().calls)
    }

    fn call(&self, name: impl Into<String>) {
        self.state().calls.push(name.into());
    }

    fn go_to(&self, state: RunState, event: Event) {
        let before = self.state().run_state.replace(state);
        if before != Some(state) {
            self.events.emit(event);
        }
    }
}

impl std::fmt::Debug for FakeMachine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeMachine")
            .field("facts", &self.facts)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Machine for FakeMachine {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn vm(&self) -> Option<&Vm> {
        self.vm.as_ref()
    }

    fn events(&self) -> &Events {
        &self.events
    }

    fn run_state(&self) -> RunState {
        self.state().run_state.unwrap_or(RunState::Prelaunch)
    }

    fn stop(&self) -> Result<(), ControlError> {
        self.call("stop");
        if self.run_state().is_running() {
            self.go_to(RunState::Paused, Event::Stop);
        }
        Ok(())
    }

    fn at_rest(&self, work: &mut dyn FnMut()) -> Result<(), ControlError> {
        if self.run_state().is_running() {
            self.call("at_rest");
        }
        work();
        Ok(())
    }

    fn cont(&self) -> Result<(), ControlError> {
        self.call("cont");
        if self.run_state().needs_reset() {
            return Err(ControlError::new("Resetting the Virtual Machine is required"));
        }
        self.go_to(RunState::Running, Event::Resume);
        Ok(())
    }

    fn cont_only(&self, cpus: &[u16]) -> Result<(), ControlError> {
        self.call(format!("cont_only {cpus:?}"));
        self.go_to(RunState::Running, Event::Resume);
        Ok(())
    }

    fn reset(&self, cause: Cause) -> Result<(), ControlError> {
        self.call(format!("reset {}", cause.name()));
        self.events.emit(Event::Reset(cause));
        if self.run_state().needs_reset() {
            self.state().run_state = Some(RunState::Paused);
        }
        Ok(())
    }

    fn powerdown(&self) -> Result<(), ControlError> {
        self.call("powerdown");
        self.events.emit(Event::Powerdown);
        Ok(())
    }

    fn quit(&self, cause: Cause) {
        self.call(format!("quit {}", cause.name()));
        self.events.emit(Event::Shutdown(cause));
    }

    fn inject_nmi(&self, cpu: Option<u16>) -> Result<(), ControlError> {
        self.call(format!("inject_nmi {cpu:?}"));
        Ok(())
    }

    fn cpus(&self) -> Vec<CpuInfo> {
        self.state().cpus.clone()
    }

    fn devices(&self) -> Vec<DeviceInfo> {
        self.state().devices.clone()
    }

    fn blocks(&self) -> Vec<BlockInfo> {
        self.state().blocks.clone()
    }

    fn objects(&self) -> Vec<ObjectInfo> {
        self.state().objects.clone()
    }

    fn object_add(&self, spec: ObjectSpec) -> Result<(), ControlError> {
        self.call(format!("object_add {} {}", spec.qom_type, spec.id));
        let duplicate =
            format!("attempt to add duplicate property '{}' to object (type 'container')", spec.id);
        let mut state = self.state();
        if state.objects.iter().any(|object| object.id == spec.id) {
            return Err(ControlError::new(duplicate));
        }
        let properties = spec.properties.iter().map(|(name, value)| property(name, value)).collect();
        state.objects.push(ObjectInfo { id: spec.id, qom_type: spec.qom_type, properties });
        Ok(())
    }

    fn object_del(&self, id: &str) -> Result<(), ControlError> {
        self.call(format!("object_del {id}"));
        let mut state = self.state();
        let before = state.objects.len();
        state.objects.retain(|object| object.id != id);
        match state.objects.len() < before {
            true => Ok(()),
            false => Err(ControlError::new(format!("object '{id}' not found"))),
        }
    }

    fn device_add(&self, spec: DeviceSpec) -> Result<(), ControlError> {
        self.call(format!("device_add {} {:?}", spec.driver, spec.id));
        let Some(id) = &spec.id else { return Ok(()) };
        let path = format!("/machine/peripheral/{id}");
        self.state().devices.push(device(Some(id), &spec.driver, &path, "fe.0.0042"));
        Ok(())
    }

    fn device_del(&self, id: &str) -> Result<(), ControlError> {
        self.call(format!("device_del {id}"));
        let found = {
            let mut state = self.state();
            let place = state.devices.iter().position(|device| device.id.as_deref() == Some(id));
            place.map(|place| state.devices.remove(place))
        };
        let gone = found.ok_or_else(|| ControlError::device_not_found(id))?;
        self.events.emit(Event::DeviceDeleted { device: gone.id, path: gone.qom_path });
        Ok(())
    }

    fn balloon(&self) -> Result<u64, ControlError> {
        self.state().balloon.ok_or_else(ControlError::no_balloon)
    }

    fn set_balloon(&self, bytes: u64) -> Result<(), ControlError> {
        self.call(format!("set_balloon {bytes}"));
        let mut state = self.state();
        let most = self.facts.memory;
        state.balloon.as_mut().map(|kept| *kept = bytes.min(most)).ok_or_else(ControlError::no_balloon)
    }

    fn set_watchdog_action(&self, action: WatchdogAction) {
        self.call(format!("set_watchdog_action {}", action.name()));
    }

    fn confidential(&self) -> Option<ConfidentialInfo> {
        self.state().confidential.clone()
    }

    fn migration_blockers(&self) -> Vec<String> {
        self.state().blockers.clone()
    }

    fn dump_begin(&self, range: DumpRange) -> Result<(), ControlError> {
        self.call(format!("dump_begin {:#x} {:?}", range.begin, range.length));
        let mut state = self.state();
        if state.dump.status == DumpStatus::Active {
            return Err(ControlError::new("There is a dump in process, please wait."));
        }
        let total = range.length.unwrap_or(self.facts.memory);
        state.dump = DumpProgress { status: DumpStatus::Active, completed: 0, total };
        Ok(())
    }

    fn dump_write(&self, sink: &mut dyn DumpSink) -> Result<(), ControlError> {
        let written = sink.write_all(b"a dump").and_then(|()| sink.finish());
        let error = written.err().map(|error| error.to_string());
        let mut result = self.dump_progress();
        result.status = if error.is_none() { DumpStatus::Completed } else { DumpStatus::Failed };
        result.completed = if error.is_none() { result.total } else { 0 };
        self.state().dump = result;
        self.events.emit(Event::DumpCompleted { result, error: error.clone() });
        error.map_or(Ok(()), |error| Err(ControlError::new(error)))
    }

    fn dump_progress(&self) -> DumpProgress {
        self.state().dump
    }

    fn sev(&self) -> &dyn SevControl {
        &*self.sev
    }
}

/// A process with the character devices of its field.
#[derive(Clone, Debug, Default)]
pub struct FakeProcess {
    /// See [`Process::chardevs`].
    pub chardevs: Vec<ChardevInfo>,
}

impl Process for FakeProcess {
    fn chardevs(&self) -> Vec<ChardevInfo> {
        self.chardevs.clone()
    }

    fn gdbserver(&self, device: &str) -> Result<String, ControlError> {
        Ok(match device {
            "none" => "Disabled gdbserver".into(),
            _ => format!("Waiting for gdb connection on device '{device}'"),
        })
    }
}

/// A fake machine as monitors see it: with a process, a command line of these arguments and the catalogue.
///
/// # Errors
/// If the arguments are wrong.
pub fn operator(
    machine: &Arc<FakeMachine>,
    catalogue: Catalogue,
    args: &[&str],
) -> Result<Operator, OptionError> {
    let process = FakeProcess {
        chardevs: vec![ChardevInfo {
            label: "compat_monitor0".into(),
            filename: "unix:/run/example/qmp,server=on".into(),
            frontend_open: true,
        }],
    };
    let line = command_line(&catalogue, args)?;
    Ok(Operator {
        machine: Arc::<FakeMachine>::clone(machine),
        process: Arc::new(process),
        line: Arc::new(line),
        catalogue: Arc::new(catalogue),
    })
}

fn command_line(catalogue: &Catalogue, args: &[&str]) -> Result<CommandLine, OptionError> {
    let invocation = Invocation { program: "cloister".into(), target: Some(catalogue.target().to_string()) };
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    match parse(&invocation, catalogue, &args)? {
        Outcome::Run(line) => Ok(*line),
        Outcome::Print(_) => command_line(catalogue, &["-machine", "none"]),
    }
}

fn s390x_state() -> FakeState {
    let thread_id = std::process::id();
    let cpu = |index: u16| CpuInfo {
        index,
        thread_id,
        qom_path: format!("/machine/unattached/device[{index}]"),
        qom_type: "qemu-s390x-cpu".into(),
        halted: Some(index > 0),
        state: if index == 0 { "operating" } else { "stopped" },
        props: vec![("core-id", i64::from(index))],
    };
    let mut bridge = device(None, "virtual-css-bridge", "/machine/unattached/device[2]", "");
    bridge.address = None;
    bridge.bus = None;
    bridge.buses = vec![BusInfo { name: "virtual-css".into(), kind: "virtual-css-bus".into() }];
    FakeState {
        run_state: Some(RunState::Prelaunch),
        cpus: vec![cpu(0), cpu(1)],
        devices: vec![
            bridge,
            device(Some("disk0"), "virtio-blk-ccw", "/machine/peripheral/disk0", "fe.0.0000"),
            device(None, "virtio-rng-ccw", "/machine/peripheral-anon/device[0]", "fe.0.0001"),
        ],
        blocks: vec![BlockInfo {
            device: "drive0".into(),
            node_name: "#block042".into(),
            qdev: Some("/machine/peripheral/disk0/virtio-backend".into()),
            file: Some("/run/example/disk.img".into()),
            format: "raw".into(),
            virtual_size: 1 << 20,
            actual_size: 4096,
            read_only: false,
            snapshot: false,
            removable: false,
        }],
        ..FakeState::default()
    }
}

fn device(id: Option<&str>, driver: &str, path: &str, address: &str) -> DeviceInfo {
    DeviceInfo {
        id: id.map(str::to_owned),
        driver: driver.into(),
        qom_path: path.into(),
        address: Some(address.into()),
        bus: Some("virtual-css".into()),
        properties: vec![Property { name: "devno".into(), kind: "str".into(), value: json!(address) }],
        buses: Vec::new(),
    }
}

fn property(name: &str, value: &PropertyValue) -> Property {
    let (kind, value): (_, Value) = match value {
        PropertyValue::Bool(on) => ("bool", json!(on)),
        PropertyValue::OnOffAuto(which) => ("OnOffAuto", json!(format!("{which:?}").to_lowercase())),
        PropertyValue::Text(text) => ("string", json!(text)),
        PropertyValue::Number(number) => ("uint64", json!(number)),
        PropertyValue::Signed(number) => ("int32", json!(number)),
        PropertyValue::DeviceNumber(number) => ("str", json!(number.to_string())),
    };
    Property { name: name.into(), kind: kind.into(), value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_remembers_what_it_was_asked_and_tells_of_changes_only() {
        let machine = Arc::new(FakeMachine::s390x());
        let operator = operator(&machine, Catalogue::new(Target::S390x), &[]).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&heard);
        let _subscription =
            operator.machine.events().subscribe(move |event| into.lock().unwrap().push(event.event.clone()));
        operator.machine.cont().unwrap();
        operator.machine.cont().unwrap();
        operator.machine.stop().unwrap();
        assert_eq!(machine.take_calls(), ["cont", "cont", "stop"]);
        assert_eq!(*heard.lock().unwrap(), [Event::Resume, Event::Stop]);
    }
}
