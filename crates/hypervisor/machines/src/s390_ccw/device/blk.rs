//! virtio-blk and the image behind it.

use super::{Made, Request};
use crate::MachineError;
use cloister_control::BlockInfo;
use cloister_devices::virtio::blk::{Block, BlockOptions};
use cloister_devices::virtio::disk::{DiskOptions, open_disk};
use cloister_options::{Drive, DriveFormat, DriveMedia};
use std::os::unix::fs::MetadataExt;

pub(super) fn make(request: &Request<'_>) -> Result<Made, MachineError> {
    let properties = &request.spec.properties;
    let drive = match request.implicit {
        Some(drive) => drive,
        None => {
            let name = properties
                .text("drive")
                .ok_or_else(|| request.fail("drive property not set; give drive=ID of a -drive".into()))?;
            request.drives.iter().find(|drive| drive.id.as_deref() == Some(name)).ok_or_else(|| {
                request.fail(format!("Property 'virtio-blk-device.drive' can't find value '{name}'"))
            })?
        }
    };
    let mut options = BlockOptions::default();
    if let Some(serial) = properties.text("serial") {
        options.serial = serial.to_owned();
    }
    let (block, info) = block_device(drive, options)?;
    Ok(Made { block: Some(info), ..request.behind_ccw(Box::new(block)) })
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
