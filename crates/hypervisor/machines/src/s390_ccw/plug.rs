//! Devices of the channel subsystem: made from the command line, plugged and unplugged while the machine runs, and
//! described for monitors.

use super::S390Ccw;
use super::device::{self, Defaults, Handle, Host, Request, iommu_platform};
use super::port::{self, Port};
use super::worker::Jobs;
use crate::MachineError;
use crate::blocks::Disk;
use crate::objects::property;
use cloister_cgs::DeviceFacts;
use cloister_control::{BusInfo, ControlError, DeviceInfo, Event, Property};
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
    pub(super) spec: DeviceSpec,
    pub(super) subchannel: SubchannelId,
    pub(super) info: DeviceInfo,
    pub(super) block: Option<Disk>,
    pub(super) handle: Handle,
    /// Of a virtio-serial device.
    pub(super) ports: Vec<Port>,
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
    line.devices.iter().filter(|device| is_channel(device))
}

/// Whether a device has a subchannel.
fn is_channel(device: &DeviceSpec) -> bool {
    !(device.is_console() || device.is_port() || device.is_watchdog())
}

/// The SCLP's consoles that are devices, and the watchdog. They come and go with the machine.
pub(super) fn consoles(line: &CommandLine) -> Vec<(DeviceSpec, DeviceInfo)> {
    let consoles = line.devices.iter().filter(|device| device.is_console() || device.is_watchdog());
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
            bus: spec.is_console().then(|| CONSOLE_BUS.into()),
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
    host: &Host,
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
    let channel = |device: &&DeviceSpec| is_channel(device) || device.is_port();
    let explicit = line.devices.iter().filter(channel).map(|device| (device.clone(), None));
    for (spec, drive) in implicit.chain(explicit) {
        if spec.is_port() {
            port::add(&spec, &mut attached, host)?;
            continue;
        }
        only_balloon(&spec, &attached)?;
        let request = Request { spec: &spec, implicit: drive, drives: &line.drives, defaults, host };
        let made = device::make(&request)?;
        let (subchannel, number) = css.attach(wanted_number(&spec)?, Box::new(made.device))?;
        if let Some(waker) = made.waker {
            jobs.listen(subchannel, &waker);
        }
        let described = describe(&spec, subchannel, number, made.block);
        attached.push(described.reached_by(made.handle, &attached));
    }
    Ok(attached)
}

/// QEMU's machines have one balloon at most.
fn only_balloon(spec: &DeviceSpec, attached: &[Attached]) -> Result<(), MachineError> {
    let balloon = |handle: &Handle| matches!(handle, Handle::Balloon(_));
    match spec.driver == "virtio-balloon-ccw" && attached.iter().any(|other| balloon(&other.handle)) {
        true => Err(MachineError::Device {
            location: spec.location.to_string(),
            problem: "Only one balloon device is supported".into(),
        }),
        false => Ok(()),
    }
}

impl Attached {
    /// Names the bus of a virtio-serial device.
    fn reached_by(mut self, handle: Handle, others: &[Self]) -> Self {
        if let Handle::Ports(_) = &handle {
            let nameless =
                |other: &&Self| matches!(other.handle, Handle::Ports(_)) && other.spec.id.is_none();
            let name = match &self.spec.id {
                Some(id) => format!("{id}.0"),
                None => format!("virtio-serial-bus.{}", others.iter().filter(nameless).count()),
            };
            self.info.buses.push(BusInfo { name, kind: "virtio-serial-bus".into() });
        }
        Self { handle, ..self }
    }
}

impl S390Ccw {
    pub(super) fn plug(&self, spec: &DeviceSpec) -> Result<(), ControlError> {
        if spec.is_console() {
            return Err(no_hot_plug());
        }
        if spec.is_watchdog() {
            return Err(ControlError::new("Parameter 'driver' expects a pluggable device type"));
        }
        let mut attached = self.attached();
        let consoles = self.consoles.iter().map(|(spec, _)| spec);
        let ports = attached.iter().flat_map(|device| &device.ports).map(|port| &port.spec);
        let devices: Vec<DeviceSpec> =
            attached.iter().map(|other| &other.spec).chain(ports).chain(consoles).cloned().collect();
        let objects = self.objects.specs();
        let networks = self.host.network.infos();
        let nodes = self.blocks_layer().specs();
        let netdevs: Vec<&str> = networks.iter().map(|netdev| netdev.id.as_str()).collect();
        let present = Present {
            objects: &objects,
            devices: &devices,
            drives: &self.drives,
            netdevs: &netdevs,
            nodes: &nodes,
        };
        cloister_options::check_device(&cloister_cgs::catalogue(self.described.target), spec, &present)
            .map_err(|why| ControlError::new(why.headline()))?;
        if spec.is_port() {
            return port::add(spec, &mut attached, &self.host).map_err(refusal);
        }
        only_balloon(spec, &attached).map_err(refusal)?;
        self.check_device(&device_facts(spec, self.defaults.iommu_platform))?;
        let request =
            Request { spec, implicit: None, drives: &self.drives, defaults: self.defaults, host: &self.host };
        let made = device::make(&request).map_err(refusal)?;
        let wanted = wanted_number(spec).map_err(refusal)?;
        let plugged = self.css().plug(wanted, Box::new(made.device));
        let (subchannel, number) = plugged.map_err(|why| ControlError::new(why.to_string()))?;
        if let Some(waker) = made.waker {
            self.worker.jobs().listen(subchannel, &waker);
        }
        let described = describe(spec, subchannel, number, made.block);
        let described = described.reached_by(made.handle, &attached);
        attached.push(described);
        Ok(())
    }

    pub(super) fn unplug(&self, id: &str) -> Result<(), ControlError> {
        let named = |info: &DeviceInfo| info.id.as_deref() == Some(id) || info.qom_path == id;
        if let Some((spec, _)) = self.consoles.iter().find(|(_, info)| named(info)) {
            return Err(match spec.is_watchdog() {
                true => ControlError::new(format!("Device '{}' does not support hotplugging", spec.driver)),
                false => no_hot_plug(),
            });
        }
        let mut attached = self.attached();
        if let Some(port) = port::remove(named, &mut attached) {
            drop(attached);
            self.events.emit(Event::DeviceDeleted { device: port.id, path: port.qom_path });
            return Ok(());
        }
        let found = attached.iter().position(|device| named(&device.info));
        let device = found.map(|at| attached.remove(at)).ok_or_else(|| ControlError::device_not_found(id))?;
        self.css().unplug(device.subchannel);
        drop(attached);
        // Whoever hears that the device is gone may delete its node.
        drop(device.block);
        for port in device.ports {
            self.events.emit(Event::DeviceDeleted { device: port.info.id, path: port.info.qom_path });
        }
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
    block: Option<Disk>,
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
    let block = block.map(|block| {
        if !properties.iter().any(|property| property.name == "drive") {
            let value = json!(block.device());
            properties.push(Property { name: "drive".into(), kind: "str".into(), value });
        }
        block.at(format!("{qom_path}/virtio-backend"))
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
        handle: Handle::None,
        ports: Vec::new(),
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
