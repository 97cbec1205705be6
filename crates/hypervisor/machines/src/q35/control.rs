//! The machine as operators see it.

use super::{NO_CPU, Q35, WAITING, firmware};
use crate::Run;
use crate::run::End;
use cloister_control::{
    BlockInfo, BlockNodeInfo, BusInfo, Cause, ConfidentialInfo, ControlError, CpuInfo, DeviceInfo, Event,
    Events, Facts, Machine, ObjectInfo, Property, RunState, SevControl,
};
use cloister_options::{Blockdev, DeviceSpec, ObjectSpec};
use cloister_platform::Vm;
use serde_json::json;

impl Machine for Q35 {
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
        WAITING
    }

    fn stop(&self) -> Result<(), ControlError> {
        Ok(())
    }

    fn cont(&self) -> Result<(), ControlError> {
        // Before the launch is finished: its state stays what it is.
        Err(ControlError::new(NO_CPU))
    }

    fn cont_only(&self, _cpus: &[u16]) -> Result<(), ControlError> {
        self.cont()
    }

    fn reset(&self, cause: Cause) -> Result<(), ControlError> {
        if self.launch(|launch, _| launch.resettable()) == Some(false) {
            (self.messages)("cpus are not resettable, terminating");
            self.end(End::NoReboot, cause);
            return Ok(());
        }
        if self.line.no_reboot {
            self.end(End::NoReboot, cause);
            return Ok(());
        }
        // The guest has written nothing yet, and a measured one's memory stays as it was measured.
        self.events.emit(Event::Reset(cause));
        Ok(())
    }

    fn powerdown(&self) -> Result<(), ControlError> {
        tracing::trace!(target: "qemu_system_powerdown_request", "the guest is asked");
        self.events.emit(Event::Powerdown);
        Ok(())
    }

    fn quit(&self, cause: Cause) {
        self.end(End::Quit, cause);
    }

    fn inject_nmi(&self, _cpu: Option<u16>) -> Result<(), ControlError> {
        Err(ControlError::new(NO_CPU))
    }

    fn cpus(&self) -> Vec<CpuInfo> {
        let smp = self.line.smp;
        let cpu = |index: u16| {
            let number = u32::from(index);
            let (threads, cores) = (smp.threads.max(1), smp.cores.max(1));
            CpuInfo {
                index,
                // CPUs that never run need no threads of their own; this one lives as long as the machine.
                thread_id: std::process::id(),
                qom_path: format!("/machine/unattached/device[{index}]"),
                qom_type: format!("{}-{}-cpu", self.cpu_model, self.described.target),
                halted: Some(false),
                state: "stopped",
                props: vec![
                    ("socket-id", i64::from(number / threads / cores)),
                    ("core-id", i64::from(number / threads % cores)),
                    ("thread-id", i64::from(number % threads)),
                ],
            }
        };
        (0..self.vm.cpus()).map(cpu).collect()
    }

    fn devices(&self) -> Vec<DeviceInfo> {
        let device = |driver: &str, qom_path: &str, buses| DeviceInfo {
            id: None,
            driver: driver.into(),
            qom_path: qom_path.into(),
            address: None,
            bus: None,
            properties: Vec::new(),
            buses,
        };
        let bus = |name: &str, kind: &str| vec![BusInfo { name: name.into(), kind: kind.into() }];
        let mut devices = match self.described.machine.starts_with("pc-q35-") {
            true => vec![device("q35-pcihost", "/machine/q35", bus("pcie.0", "PCIE"))],
            false => vec![device("i440FX-pcihost", "/machine/i440fx", bus("pci.0", "PCI"))],
        };
        devices.push(device("fw_cfg_io", "/machine/fw_cfg", Vec::new()));
        let units = self.flash_holds.len();
        devices.extend(
            (0..units)
                .map(|unit| device("cfi.pflash01", &format!("/machine/system.flash{unit}"), Vec::new())),
        );
        devices
    }

    fn blocks(&self) -> Vec<BlockInfo> {
        let nodes = self.blocks.nodes();
        let block = |(unit, flash): (usize, &firmware::Unit<'_>)| {
            let node = nodes.iter().find(|node| node.name == flash.node).cloned().unwrap_or_default();
            BlockInfo {
                device: match flash.drive {
                    Some(_) => flash.name.clone(),
                    None => String::new(),
                },
                node_name: node.name,
                qdev: Some(format!("/machine/system.flash{unit}")),
                file: Some(node.filename.into()),
                format: node.driver,
                virtual_size: node.virtual_size,
                actual_size: node.actual_size,
                read_only: node.read_only,
                snapshot: flash.drive.is_some_and(|drive| drive.snapshot),
                write_cache: true,
                direct: node.direct,
                no_flush: node.no_flush,
                detect_zeroes: node.detect_zeroes,
                ..BlockInfo::default()
            }
        };
        let units = firmware::units(&self.line).unwrap_or_default();
        units.iter().enumerate().map(block).collect()
    }

    fn block_nodes(&self) -> Vec<BlockNodeInfo> {
        self.blocks.nodes()
    }

    fn blockdev_add(&self, blockdev: Blockdev) -> Result<(), ControlError> {
        let drives: Vec<_> = self.line.drives.iter().filter_map(|drive| drive.id.as_deref()).collect();
        self.blocks.add(blockdev, &drives)
    }

    fn blockdev_del(&self, node: &str) -> Result<(), ControlError> {
        self.blocks.delete(node)
    }

    fn objects(&self) -> Vec<ObjectInfo> {
        let mut objects = self.objects.list();
        // The firmware's handle takes the place of the one that was asked for.
        let confidential = self.line.machine.confidential_guest.as_ref();
        if let (Some(reference), Some(sev)) = (confidential, self.info())
            && let Some(object) = objects.iter_mut().find(|object| object.id == reference.id)
        {
            object.properties.retain(|property| property.name != "handle");
            let value = json!(sev.handle);
            object.properties.push(Property { name: "handle".into(), kind: "uint32".into(), value });
        }
        objects
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
        let shared = self.lock();
        let cgs = shared.cgs.as_ref()?;
        Some(ConfidentialInfo {
            qom_type: cgs.type_name().into(),
            id: self.line.machine.confidential_guest.as_ref().map(|reference| reference.id.clone()),
            secure: cgs.secure(),
        })
    }

    fn migration_blockers(&self) -> Vec<String> {
        let mut blockers: Vec<String> = Vec::new();
        if let Some(cgs) = &self.lock().cgs {
            blockers.extend(cgs.migration_blockers().iter().map(ToString::to_string));
        }
        blockers.push("live migration is not part of this version of Cloister".into());
        blockers
    }

    fn sev(&self) -> &dyn SevControl {
        self
    }
}
