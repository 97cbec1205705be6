//! Devices of the channel subsystem: made from the command line, plugged and unplugged while the machine runs, and
//! described for monitors.

use super::S390Ccw;
use super::device::{self, Defaults, Request, iommu_platform};
use super::worker::Jobs;
use crate::MachineError;
use crate::objects::property;
use cloister_cgs::DeviceFacts;
use cloister_control::{BlockInfo, BusInfo, ControlError, DeviceInfo, Event, Property};
use cloister_devices::css::{ChannelSubsystem, DeviceNumber, SubchannelId, VIRTUAL_CSSID};
use cloister_options::{CommandLine, DeviceSpec, Drive, DriveInterface, Present, Properties};
use cloister_platform::HostMemory;
use serde_json::json;

/// The bus of the channel subsystem.
pub(super) const BUS: &str = "virtual-css";

/// The bus of the SCLP's consoles.
pub(super) const CONSOLE_BUS: &str = "s390-sclp-events-bus.0";

/// A device and what monitors want to know of it.
#[derive(Clone, Debug)]
pub(super) struct Attached {
    spec: DeviceSpec,
    pub(super) subchannel: SubchannelId,
    pub(super) info: DeviceInfo,
    pub(super) block: Option<BlockInfo>,
}

pub(super) fn facts(line: &CommandLine, iommu_default: bool) -> Vec<DeviceFacts> {
    let explicit = channel_devices(line).map(|device| device_facts(device, iommu_default));
    let implicit =
        line.drives.iter().filter(|drive| drive.interface == DriveInterface::Virtio).map(|drive| {
            DeviceFacts {
                driver: "virtio-blk-ccw".into(),
                name: drive.id.clone().unwrap_or_else(|| "drive".into()),
                pass_through: false,
                access_platform: Some(iommu_default),
            }
        });
    explicit.chain(implicit).collect()
}

fn channel_devices(line: &CommandLine) -> impl Iterator<Item = &DeviceSpec> {
    line.devices.iter().filter(|device| !device.is_console())
}

/// The consoles that are devices. They come and go with the machine.
pub(super) fn consoles(line: &CommandLine) -> Vec<(DeviceSpec, DeviceInfo)> {
    let consoles = line.devices.iter().filter(|device| device.is_console());
    let described = consoles.map(|spec| {
        let qom_path = match &spec.id {
            Some(id) => format!("/machine/peripheral/{id}"),
            // There is one of each; a number could be that of a subchannel.
            None => format!("/machine/peripheral-anon/{}", spec.driver),
        };
        let info = DeviceInfo {
            id: spec.id.clone(),
            driver: spec.driver.clone(),
            address: None,
            bus: Some(CONSOLE_BUS.into()),
            buses: Vec::new(),
            qom_path,
            properties: spec.properties.iter().map(property).collect(),
        };
        (spec.clone(), info)
    });
    described.collect()
}

fn device_facts(device: &DeviceSpec, iommu_default: bool) -> DeviceFacts {
    DeviceFacts {
        driver: device.driver.clone(),
        name: device.id.clone().unwrap_or_else(|| device.driver.clone()),
        pass_through: device.pass_through,
        access_platform: device
            .driver
            .starts_with("virtio-")
            .then(|| iommu_platform(&device.properties, iommu_default)),
    }
}

/// Makes and attaches everything that the command line names.
pub(super) fn attach(
    line: &CommandLine,
    css: &mut ChannelSubsystem<HostMemory>,
    defaults: Defaults,
    jobs: &Jobs,
) -> Result<Vec<Attached>, MachineError> {
    let mut attached = Vec::new();
    // Drives with `if=virtio` come first, as in QEMU.
    let mut drives: Vec<&Drive> =
        line.drives.iter().filter(|drive| drive.interface == DriveInterface::Virtio).collect();
    drives.sort_by_key(|drive| drive.index);
    let implicit = drives.into_iter().map(|drive| {
        (
            DeviceSpec {
                bus: None,
                driver: "virtio-blk-ccw".into(),
                id: None,
                properties: Properties::default(),
                pass_through: false,
                location: drive.location.clone(),
            },
            Some(drive),
        )
    });
    let explicit = channel_devices(line).map(|device| (device.clone(), None));
    for (spec, drive) in implicit.chain(explicit) {
        let request = Request { spec: &spec, implicit: drive, drives: &line.drives, defaults };
        let made = device::make(&request)?;
        let (subchannel, number) = css.attach(wanted_number(&spec)?, Box::new(made.device))?;
        if let Some(waker) = made.waker {
            jobs.listen(subchannel, &waker);
        }
        attached.push(describe(&spec, subchannel, number, made.block));
    }
    Ok(attached)
}

impl S390Ccw {
    pub(super) fn plug(&self, spec: &DeviceSpec) -> Result<(), ControlError> {
        if spec.is_console() {
            return Err(no_hot_plug());
        }
        let mut attached = self.attached();
        let consoles = self.consoles.iter().map(|(spec, _)| spec);
        let devices: Vec<DeviceSpec> =
            attached.iter().map(|other| &other.spec).chain(consoles).cloned().collect();
        let objects = self.objects.specs();
        let present = Present { objects: &objects, devices: &devices, drives: &self.drives, ..Present::default() };
        cloister_options::check_device(&cloister_cgs::catalogue(self.described.target), spec, &present)
            .map_err(|why| ControlError::new(why.headline()))?;
        self.check_device(&device_facts(spec, self.defaults.iommu_platform))?;
        let request = Request { spec, implicit: None, drives: &self.drives, defaults: self.defaults };
        let made = device::make(&request).map_err(refusal)?;
        let wanted = wanted_number(spec).map_err(refusal)?;
        let plugged = self.css().plug(wanted, Box::new(made.device));
        let (subchannel, number) = plugged.map_err(|why| ControlError::new(why.to_string()))?;
        if let Some(waker) = made.waker {
            self.worker.jobs().listen(subchannel, &waker);
        }
        attached.push(describe(spec, subchannel, number, made.block));
        Ok(())
    }

    pub(super) fn unplug(&self, id: &str) -> Result<(), ControlError> {
        let named = |info: &DeviceInfo| info.id.as_deref() == Some(id) || info.qom_path == id;
        if self.consoles.iter().any(|(_, info)| named(info)) {
            return Err(no_hot_plug());
        }
        let mut attached = self.attached();
        let found = attached.iter().position(|device| named(&device.info));
        let device = found.map(|at| attached.remove(at)).ok_or_else(|| ControlError::device_not_found(id))?;
        self.css().unplug(device.subchannel);
        drop(attached);
        self.events.emit(Event::DeviceDeleted { device: device.info.id, path: device.info.qom_path });
        Ok(())
    }
}

fn no_hot_plug() -> ControlError {
    ControlError::new(format!("Bus '{CONSOLE_BUS}' does not support hotplugging"))
}

fn refusal(why: MachineError) -> ControlError {
    ControlError::new(match why {
        MachineError::Device { problem, .. } => problem,
        other => other.to_string(),
    })
}

fn describe(
    spec: &DeviceSpec,
    subchannel: SubchannelId,
    number: DeviceNumber,
    block: Option<BlockInfo>,
) -> Attached {
    let qom_path = match &spec.id {
        Some(id) => format!("/machine/peripheral/{id}"),
        // Numbered by subchannel: the name stays when others go.
        None => format!("/machine/peripheral-anon/device[{}]", subchannel.nr),
    };
    let mut properties: Vec<Property> = spec.properties.iter().map(property).collect();
    let addressed = Property { name: "devno".into(), kind: "str".into(), value: json!(number.to_string()) };
    properties.retain(|property| property.name != "devno");
    properties.push(addressed);
    let block = block.map(|mut block| {
        if !properties.iter().any(|property| property.name == "drive") {
            let value = json!(block.device);
            properties.push(Property { name: "drive".into(), kind: "str".into(), value });
        }
        block.qdev = Some(spec.id.clone().unwrap_or_else(|| qom_path.clone()));
        // Nodes without a name are numbered; subchannels are, too, and each has one image at most.
        block.node_name = format!("#block{:03}", 100 + subchannel.nr);
        block
    });
    Attached {
        spec: spec.clone(),
        subchannel,
        info: DeviceInfo {
            id: spec.id.clone(),
            driver: spec.driver.clone(),
            address: Some(number.to_string()),
            bus: Some(BUS.into()),
            buses: vec![BusInfo { name: "virtio-bus".into(), kind: "virtio-ccw-bus".into() }],
            qom_path,
            properties,
        },
        block,
    }
}

fn wanted_number(spec: &DeviceSpec) -> Result<Option<DeviceNumber>, MachineError> {
    spec.properties
        .device_number("devno")
        .map(|number| match number.cssid() {
            VIRTUAL_CSSID | 0 => Ok(DeviceNumber { ssid: number.ssid(), devno: number.number() }),
            other => Err(MachineError::Device {
                location: spec.location.to_string(),
                problem: format!(
                    "channel subsystem image {other:x} does not exist: virtual devices are in image fe"
                ),
            }),
        })
        .transpose()
}
