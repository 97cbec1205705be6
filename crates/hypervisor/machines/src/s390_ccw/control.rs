//! The machine as operators see it.

use super::device::{Handle, kept, network_refusal};
use super::{S390Ccw, plug};
use crate::MachineError;
use crate::blocks::Disk;
use crate::run::End;
use cloister_cgs::{DeviceFacts, HostFacts, MachineFacts};
use cloister_control::{
    BlockInfo, BlockNodeInfo, BusInfo, Cause, ConfidentialInfo, ControlError, CpuInfo, DeviceInfo,
    DumpProgress, DumpRange, DumpSink, Event, Events, ExitCount, Facts, Machine, Networks, ObjectInfo,
    Property, RunState,
};
use cloister_devices::virtio::balloon::{BalloonControl, PAGE};
use cloister_options::{Blockdev, DeviceSpec, Netdev, ObjectSpec, WatchdogAction};
use cloister_platform::Vm;
use cloister_platform::arch::s390x::{DebugExit, LocalInterrupt, RunState as CpuRunState};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

impl Machine for S390Ccw {
    fn facts(&self) -> &Facts {
        &self.described
    }

    fn vm(&self) -> Option<&Vm> {
        Some(&self.vm)
    }

    fn events(&self) -> &Events {
        &self.events
    }

    fn run_state(&self) -> RunState {
        self.conductor.run_state()
    }

    fn stop(&self) -> Result<(), ControlError> {
        self.dump.check_idle()?;
        self.conductor.stop(&self.vm, RunState::Paused);
        Ok(())
    }

    fn at_rest(&self, work: &mut dyn FnMut()) -> Result<(), ControlError> {
        let quietly = || {
            work();
            Ok(false)
        };
        self.conductor.rest_and(&self.vm, quietly).map_err(words)
    }

    fn cont(&self) -> Result<(), ControlError> {
        self.go_on(None)
    }

    fn cont_only(&self, cpus: &[u16]) -> Result<(), ControlError> {
        self.go_on(Some(cpus))
    }

    fn debug_exit(&self) -> Option<(u16, DebugExit)> {
        self.conductor.take_debug_exit()
    }

    fn reset(&self, cause: Cause) -> Result<(), ControlError> {
        self.dump.check_idle()?;
        if self.no_reboot {
            self.conductor.end(&self.vm, End::NoReboot, cause);
            return Ok(());
        }
        self.conductor.rest_and(&self.vm, || self.reset_from_outside().map(|()| true)).map_err(words)?;
        self.events.emit(Event::Reset(cause));
        Ok(())
    }

    fn powerdown(&self) -> Result<(), ControlError> {
        tracing::trace!(target: "qemu_system_powerdown_request", "the guest is asked");
        self.events.emit(Event::Powerdown);
        // A guest that does not listen hears nothing, as with a power button.
        self.sclp().quiesce();
        Ok(())
    }

    fn quit(&self, cause: Cause) {
        self.conductor.end(&self.vm, End::Quit, cause);
    }

    fn inject_nmi(&self, cpu: Option<u16>) -> Result<(), ControlError> {
        let cpu = cpu.unwrap_or(0);
        if cpu >= self.vm.cpus() {
            return Err(ControlError::new(format!("CPU {cpu} does not exist; there are {}", self.vm.cpus())));
        }
        Ok(self.vm.inject_local(cpu, LocalInterrupt::Restart)?)
    }

    fn cpus(&self) -> Vec<CpuInfo> {
        // A running CPU answers only when it leaves the core, which may be never.
        let known = !self.conductor.run_state().is_running() && !self.is_protected();
        let cpu = |index| {
            let state = self.vm.run_state(index).unwrap_or(CpuRunState::CheckStop);
            CpuInfo {
                index,
                thread_id: self.conductor.thread_id(index).unwrap_or_else(std::process::id),
                qom_path: format!("/machine/unattached/device[{index}]"),
                qom_type: "s390x-cpu".into(),
                halted: match state {
                    CpuRunState::Operating | CpuRunState::Load if !known => None,
                    CpuRunState::Operating | CpuRunState::Load => self
                        .vm
                        .state(index)
                        .ok()
                        .map(|state| state.psw.mask & cloister_platform::arch::s390x::Psw::WAIT != 0),
                    CpuRunState::Stopped | CpuRunState::CheckStop => Some(true),
                },
                state: match state {
                    CpuRunState::Operating => "operating",
                    CpuRunState::Load => "load",
                    CpuRunState::Stopped => "stopped",
                    CpuRunState::CheckStop => "check-stop",
                },
                props: vec![("core-id", i64::from(index))],
            }
        };
        (0..self.vm.cpus()).map(cpu).collect()
    }

    fn devices(&self) -> Vec<DeviceInfo> {
        let mut devices = vec![
            DeviceInfo {
                id: None,
                driver: "virtual-css-bridge".into(),
                qom_path: "/machine/virtual-css-bridge".into(),
                address: None,
                bus: None,
                properties: Vec::new(),
                buses: vec![BusInfo { name: plug::BUS.into(), kind: "virtual-css-bus".into() }],
            },
            DeviceInfo {
                id: None,
                driver: "sclp".into(),
                qom_path: "/machine/sclp".into(),
                address: None,
                bus: None,
                properties: Vec::new(),
                buses: Vec::new(),
            },
            DeviceInfo {
                id: None,
                driver: "s390-sclp-event-facility".into(),
                qom_path: "/machine/sclp/s390-sclp-event-facility".into(),
                address: None,
                bus: None,
                properties: Vec::new(),
                buses: vec![BusInfo { name: plug::CONSOLE_BUS.into(), kind: "s390-sclp-events-bus".into() }],
            },
        ];
        devices.extend(self.consoles.iter().map(|(_, info)| info.clone()));
        for device in &*self.attached() {
            let mut info = device.info.clone();
            if let Handle::Balloon(balloon) = &device.handle {
                info.properties.extend(balloon_properties(balloon, self.timers.poll_interval()));
            }
            devices.push(info);
            devices.extend(device.ports.iter().map(|port| port.info.clone()));
        }
        devices
    }

    fn blocks(&self) -> Vec<BlockInfo> {
        self.attached().iter().filter_map(|device| device.block.as_ref().map(Disk::info)).collect()
    }

    fn block_nodes(&self) -> Vec<BlockNodeInfo> {
        self.blocks_layer().nodes()
    }

    fn blockdev_add(&self, blockdev: Blockdev) -> Result<(), ControlError> {
        self.add_node(blockdev)
    }

    fn blockdev_del(&self, node: &str) -> Result<(), ControlError> {
        self.blocks_layer().delete(node)
    }

    fn block_resize(&self, device: Option<&str>, node: Option<&str>, size: u64) -> Result<(), ControlError> {
        self.resize_image(device, node, size)
    }

    fn objects(&self) -> Vec<ObjectInfo> {
        self.objects.list()
    }

    fn object_add(&self, spec: ObjectSpec) -> Result<(), ControlError> {
        self.objects.add(spec)
    }

    fn object_del(&self, id: &str) -> Result<(), ControlError> {
        let used = self
            .attached()
            .iter()
            .flat_map(|device| &device.info.properties)
            .any(|property| property.value == id);
        self.objects.delete(id, used)
    }

    fn device_add(&self, spec: DeviceSpec) -> Result<(), ControlError> {
        self.plug(&spec)
    }

    fn device_del(&self, id: &str) -> Result<(), ControlError> {
        self.unplug(id)
    }

    fn balloon(&self) -> Result<u64, ControlError> {
        let balloon = self.the_balloon().ok_or_else(ControlError::no_balloon)?;
        Ok(kept(self.described.memory, balloon.actual()))
    }

    fn set_balloon(&self, bytes: u64) -> Result<(), ControlError> {
        let balloon = self.the_balloon().ok_or_else(ControlError::no_balloon)?;
        let pages = self.described.memory.saturating_sub(bytes) / PAGE;
        balloon.set_target(u32::try_from(pages).unwrap_or(u32::MAX));
        Ok(())
    }

    fn set_watchdog_action(&self, action: WatchdogAction) {
        self.timers.set_action(action);
    }

    fn set_property(&self, path: &str, name: &str, value: &Value) -> Option<Result<(), ControlError>> {
        let balloon = |device: &plug::Attached| {
            matches!(device.handle, Handle::Balloon(_)) && device.info.qom_path == path
        };
        if name != POLLING || !self.attached().iter().any(balloon) {
            return None;
        }
        let wrong = || ControlError::new(format!("Invalid parameter type for '{name}', expected: integer"));
        Some(value.as_i64().ok_or_else(wrong).and_then(|seconds| self.set_poll_interval(seconds)))
    }

    fn exits(&self) -> Vec<ExitCount> {
        self.exits.list()
    }

    fn networks(&self) -> Networks {
        self.network_facts()
    }

    fn netdev_add(&self, netdev: Netdev) -> Result<(), ControlError> {
        self.host.network.add(&netdev).map_err(network_refusal)
    }

    fn netdev_del(&self, id: &str) -> Result<(), ControlError> {
        self.host.network.remove(id).map_err(network_refusal)
    }

    fn set_link(&self, name: &str, up: bool) -> Result<(), ControlError> {
        self.link(name, up)
    }

    fn confidential(&self) -> Option<ConfidentialInfo> {
        let protected = self.is_protected();
        let cgs = self.guest_support();
        let cgs = cgs.as_ref()?;
        (cgs.requested() || protected).then(|| ConfidentialInfo {
            qom_type: cgs.type_name().into(),
            id: self.confidential_id.clone(),
            secure: cgs.secure().or(Some(protected)),
        })
    }

    fn dump_begin(&self, range: DumpRange) -> Result<(), ControlError> {
        self.begin_dump(range)
    }

    fn dump_write(&self, sink: &mut dyn DumpSink) -> Result<(), ControlError> {
        self.write_dump(sink)
    }

    fn dump_progress(&self) -> DumpProgress {
        self.dump.progress()
    }

    fn migration_blockers(&self) -> Vec<String> {
        let mut blockers: Vec<String> = Vec::new();
        if let Some(cgs) = &*self.guest_support() {
            blockers.extend(cgs.migration_blockers().iter().map(ToString::to_string));
        }
        blockers.push("live migration is not part of this version of Cloister".into());
        blockers
    }
}

impl S390Ccw {
    fn the_balloon(&self) -> Option<BalloonControl> {
        self.attached().iter().find_map(|device| match &device.handle {
            Handle::Balloon(balloon) => Some(balloon.clone()),
            _ => None,
        })
    }

    fn go_on(&self, only: Option<&[u16]>) -> Result<(), ControlError> {
        self.dump.check_idle()?;
        if self.conductor.run_state().needs_reset() {
            return Err(ControlError::new("Resetting the Virtual Machine is required"));
        }
        self.conductor.cont(&self.vm, only);
        Ok(())
    }

    /// Whether a protected guest could use a device that comes later.
    pub(super) fn check_device(&self, device: &DeviceFacts) -> Result<(), ControlError> {
        let facts = MachineFacts { devices: vec![device.clone()], ..self.facts.clone() };
        let host =
            HostFacts { ultravisor: self.capabilities.ultravisor, prot_virt: self.capabilities.prot_virt };
        match &*self.guest_support() {
            Some(cgs) if cgs.requested() || self.protected.load(Ordering::Acquire) => {
                cgs.check(&host, &facts).map_err(|why| ControlError::new(why.to_string()))
            }
            _ => Ok(()),
        }
    }
}

/// What QEMU's balloon shows besides what was given.
fn balloon_properties(balloon: &BalloonControl, interval: u64) -> [Property; 2] {
    let (statistics, at) = balloon.statistics();
    // What the guest does not tell is all ones.
    let named = STATISTICS
        .iter()
        .zip(statistics)
        .map(|(name, value)| ((*name).to_owned(), json!(value.unwrap_or(u64::MAX))));
    let stats: serde_json::Map<String, Value> = named.collect();
    let stats = json!({ "stats": stats, "last-update": at });
    [
        Property { name: "guest-stats".into(), kind: "guest statistics".into(), value: stats },
        Property { name: POLLING.into(), kind: "int".into(), value: json!(interval) },
    ]
}

/// The property that says how often the balloon is asked for a report.
const POLLING: &str = "guest-stats-polling-interval";

/// QEMU's names of a balloon's statistics, by tag (virtio 1.2, 5.5.6.3).
const STATISTICS: [&str; 10] = [
    "stat-swap-in",
    "stat-swap-out",
    "stat-major-faults",
    "stat-minor-faults",
    "stat-free-memory",
    "stat-total-memory",
    "stat-available-memory",
    "stat-disk-caches",
    "stat-htlb-pgalloc",
    "stat-htlb-pgfail",
];

fn words(why: MachineError) -> ControlError {
    ControlError::new(why.to_string())
}
