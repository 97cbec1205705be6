//! Devices of the channel subsystem: made from the command line, plugged and unplugged while the machine runs, and
//! described for monitors.

use super::S390Ccw;
use crate::MachineError;
use crate::objects::property;
use cloister_cgs::DeviceFacts;
use cloister_control::{BlockInfo, BusInfo, ControlError, DeviceInfo, Event, Property};
use cloister_devices::css::{ChannelSubsystem, DeviceNumber, SubchannelId, VIRTUAL_CSSID};
use cloister_devices::entropy::{EntropySource, SeededEntropy, SystemEntropy};
use cloister_devices::virtio::blk::{Block, BlockOptions};
use cloister_devices::virtio::ccw::{VirtioCcw, VirtioCcwOptions};
use cloister_devices::virtio::disk::{DiskOptions, open_disk};
use cloister_devices::virtio::rng::Rng;
use cloister_options::{
    CommandLine, DeviceSpec, Drive, DriveFormat, DriveInterface, DriveMedia, OnOffAuto, Present, Properties,
};
use cloister_platform::HostMemory;
use serde_json::json;
use std::os::unix::fs::MetadataExt;

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

/// What every device made for one machine shares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    pub(super) iommu_platform: bool,
    pub(super) seed: Option<u64>,
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
) -> Result<Vec<Attached>, MachineError> {
    let mut attached = Vec::new();
    // Drives with `if=virtio` come first, as in QEMU.
    let mut drives: Vec<&Drive> =
        line.drives.iter().filter(|drive| drive.interface == DriveInterface::Virtio).collect();
    drives.sort_by_key(|drive| drive.index);
    let implicit = drives.into_iter().map(|drive| {
        (
            DeviceSpec {
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
        let (device, block) = make(&spec, drive, &line.drives, defaults)?;
        let (subchannel, number) = css.attach(wanted_number(&spec)?, Box::new(device))?;
        attached.push(describe(&spec, subchannel, number, block));
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
        let present = Present { objects: &objects, devices: &devices, drives: &self.drives };
        cloister_options::check_device(&cloister_cgs::catalogue(self.described.target), spec, &present)
            .map_err(|why| ControlError::new(why.headline()))?;
        self.check_device(&device_facts(spec, self.defaults.iommu_platform))?;
        let (device, block) = make(spec, None, &self.drives, self.defaults).map_err(refusal)?;
        let wanted = wanted_number(spec).map_err(refusal)?;
        let (subchannel, number) =
            self.css().plug(wanted, Box::new(device)).map_err(|why| ControlError::new(why.to_string()))?;
        attached.push(describe(spec, subchannel, number, block));
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

type Made = (VirtioCcw<HostMemory>, Option<BlockInfo>);

fn make(
    spec: &DeviceSpec,
    implicit: Option<&Drive>,
    drives: &[Drive],
    defaults: Defaults,
) -> Result<Made, MachineError> {
    let fail = |problem: String| MachineError::Device { location: spec.location.to_string(), problem };
    let options = VirtioCcwOptions {
        iommu_platform: iommu_platform(&spec.properties, defaults.iommu_platform),
        ..VirtioCcwOptions::default()
    };
    match spec.driver.as_str() {
        "virtio-blk-ccw" => {
            let drive = match implicit {
                Some(drive) => drive,
                None => {
                    let name = spec
                        .properties
                        .text("drive")
                        .ok_or_else(|| fail("drive property not set; give drive=ID of a -drive".into()))?;
                    drives.iter().find(|drive| drive.id.as_deref() == Some(name)).ok_or_else(|| {
                        fail(format!("Property 'virtio-blk-device.drive' can't find value '{name}'"))
                    })?
                }
            };
            let mut block_options = BlockOptions::default();
            if let Some(serial) = spec.properties.text("serial") {
                block_options.serial = serial.to_owned();
            }
            let (block, info) = block_device(drive, block_options)?;
            Ok((VirtioCcw::new(Box::new(block), options), Some(info)))
        }
        "virtio-rng-ccw" => {
            let source: Box<dyn EntropySource> = match defaults.seed {
                Some(seed) => Box::new(SeededEntropy::new(seed)),
                None => Box::new(SystemEntropy),
            };
            Ok((VirtioCcw::new(Box::new(Rng::new(source)), options), None))
        }
        other => Err(fail(format!("'{other}' is not a device of this version of Cloister"))),
    }
}

fn block_device(drive: &Drive, options: BlockOptions) -> Result<(Block, BlockInfo), MachineError> {
    let path = drive.file.as_deref().ok_or_else(|| MachineError::Device {
        location: drive.location.to_string(),
        problem: "the drive has no file; give file=PATH".into(),
    })?;
    let disk = open_disk(
        path,
        &DiskOptions {
            format: drive.format.map(|format| {
                match format {
                    DriveFormat::Raw => "raw",
                    DriveFormat::Qcow2 => "qcow2",
                }
                .to_owned()
            }),
            read_only: drive.read_only || drive.media == DriveMedia::Cdrom,
            snapshot: drive.snapshot,
        },
    )?;
    let index = drive.index.unwrap_or(0);
    let info = BlockInfo {
        device: drive.id.clone().unwrap_or_else(|| format!("virtio{index}")),
        node_name: format!("#block{:03}", 100 + index),
        qdev: None,
        file: Some(path.to_owned()),
        format: disk.format().into(),
        virtual_size: disk.size(),
        actual_size: std::fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512),
        read_only: disk.read_only(),
        snapshot: drive.snapshot,
        removable: drive.media == DriveMedia::Cdrom,
    };
    Ok((Block::new(disk, options)?, info))
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

fn iommu_platform(properties: &Properties, default: bool) -> bool {
    match properties.on_off_auto("iommu_platform") {
        Some(OnOffAuto::On) => true,
        Some(OnOffAuto::Off) => false,
        Some(OnOffAuto::Auto) | None => properties.bool("iommu_platform").unwrap_or(default),
    }
}
