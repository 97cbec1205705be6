//! The machine as operators see it.

use super::{S390Ccw, plug};
use crate::MachineError;
use crate::run::End;
use cloister_cgs::{DeviceFacts, HostFacts, MachineFacts};
use cloister_control::{
    BlockInfo, BusInfo, Cause, ConfidentialInfo, ControlError, CpuInfo, DeviceInfo, Event, Events, Facts,
    Machine, ObjectInfo, RunState,
};
use cloister_options::{DeviceSpec, ObjectSpec};
use cloister_platform::Vm;
use cloister_platform::arch::s390x::{DebugExit, LocalInterrupt, RunState as CpuRunState};
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
        devices.extend(self.attached().iter().map(|device| device.info.clone()));
        devices
    }

    fn blocks(&self) -> Vec<BlockInfo> {
        self.attached().iter().filter_map(|device| device.block.clone()).collect()
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
    fn go_on(&self, only: Option<&[u16]>) -> Result<(), ControlError> {
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

fn words(why: MachineError) -> ControlError {
    ControlError::new(why.to_string())
}
