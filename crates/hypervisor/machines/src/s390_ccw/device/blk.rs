//! virtio-blk and the node of the block layer behind it.

use super::{Made, Request};
use crate::MachineError;
use crate::blocks::{Disk, Wanted};
use cloister_control::{Event, RunState};
use cloister_devices::Waker;
use cloister_devices::virtio::blk::{Block, BlockOptions, OnError, Trouble};
use cloister_options::{Drive, DriveInterface, DriveMedia, ErrorAction, OnOffAuto, Properties};
use std::sync::Arc;

pub(super) fn make(request: &Request<'_>) -> Result<Made, MachineError> {
    let properties = &request.spec.properties;
    let (drive, root) = behind(request)?;
    let waker = Waker::new();
    let wanted = Wanted {
        user: &user(request),
        share: properties.bool("share-rw").unwrap_or(false),
        read_only: drive.is_some_and(|drive| drive.media == DriveMedia::Cdrom),
        waker: Some(waker.clone()),
    };
    let (disk, hold) = request.host.blocks.attach(&root, wanted).map_err(|problem| request.fail(problem))?;
    let mut block = Block::on(disk, options(properties, drive))?;
    let device = drive.map(name).unwrap_or_default();
    let status = Arc::clone(block.status());
    tell_trouble(request, &mut block, device.clone(), root, waker.clone());
    // A run that can be repeated lets nothing depend on the speed of a thread.
    if !request.host.repeatable {
        block.work_aside(waker.clone())?;
    }
    let removable = drive.is_some_and(|drive| drive.media == DriveMedia::Cdrom);
    let disk = Disk::new(hold, status, device, removable);
    Ok(Made { block: Some(disk), waker: Some(waker), ..request.behind_ccw(Box::new(block)) })
}

/// The drive, if there is one, and the node at its root.
fn behind<'a>(request: &Request<'a>) -> Result<(Option<&'a Drive>, String), MachineError> {
    let drive = match request.implicit {
        Some(drive) => drive,
        None => {
            let name = request
                .spec
                .properties
                .text("drive")
                .ok_or_else(|| request.fail("drive property not set".into()))?;
            match request.drives.iter().find(|drive| drive.id.as_deref() == Some(name)) {
                Some(drive) => drive,
                None => return Ok((None, name.to_owned())),
            }
        }
    };
    let root = drive.node.clone();
    root.map(|root| (Some(drive), root))
        .ok_or_else(|| request.fail("Device needs media, but drive is empty".into()))
}

fn user(request: &Request<'_>) -> String {
    match &request.spec.id {
        Some(id) => format!("/machine/peripheral/{id}/virtio-backend"),
        None => format!("/machine/peripheral-anon/device[{}]/virtio-backend", request.host.blocks.uses()),
    }
}

fn name(drive: &Drive) -> String {
    match (&drive.id, drive.interface) {
        (Some(id), _) => id.clone(),
        (None, DriveInterface::None) => String::new(),
        (None, _) => format!("virtio{}", drive.index.unwrap_or(0)),
    }
}

fn options(properties: &Properties, drive: Option<&Drive>) -> BlockOptions {
    let default = BlockOptions::default();
    let number = |name: &str| properties.number(name).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    let small = |name: &str| properties.number(name).map(|n| u16::try_from(n).unwrap_or(u16::MAX));
    let bool = |name: &str, default: bool| properties.bool(name).unwrap_or(default);
    let sizes =
        ["logical_block_size", "physical_block_size"].map(|name| number(name).filter(|size| *size != 0));
    let action = |name: &str, drive: Option<ErrorAction>, default: OnError| {
        let given = properties.text(name).and_then(ErrorAction::from_name).or(drive);
        given.map_or(default, |action| match action {
            ErrorAction::Report => OnError::Report,
            ErrorAction::Ignore => OnError::Ignore,
            ErrorAction::Stop => OnError::Stop,
            ErrorAction::Enospc => OnError::Enospc,
        })
    };
    let geometry = match (small("cyls"), number("heads"), number("secs")) {
        (Some(c), Some(h), Some(s)) if c != 0 && h != 0 && s != 0 => {
            Some((c, u8::try_from(h).unwrap_or(u8::MAX), u8::try_from(s).unwrap_or(u8::MAX)))
        }
        _ => None,
    };
    BlockOptions {
        serial: properties.text("serial").unwrap_or_default().to_owned(),
        block_size: sizes[0].unwrap_or(default.block_size),
        physical_block_size: sizes[1].or(sizes[0]).unwrap_or(default.physical_block_size),
        min_io_size: number("min_io_size").unwrap_or(0),
        opt_io_size: number("opt_io_size").unwrap_or(0),
        discard: bool("discard", true),
        write_zeroes: bool("write-zeroes", true),
        discard_granularity: number("discard_granularity").filter(|size| *size != u32::MAX),
        max_discard_sectors: number("max-discard-sectors").unwrap_or(default.max_discard_sectors),
        max_write_zeroes_sectors: number("max-write-zeroes-sectors")
            .unwrap_or(default.max_write_zeroes_sectors),
        geometry,
        queue_size: small("queue-size").unwrap_or(default.queue_size),
        queues: small("num-queues").unwrap_or(1),
        seg_max_adjust: bool("seg-max-adjust", true),
        write_cache: match properties.on_off_auto("write-cache") {
            Some(OnOffAuto::On) => true,
            Some(OnOffAuto::Off) => false,
            Some(OnOffAuto::Auto) | None => drive.is_none_or(Drive::write_cache),
        },
        config_wce: bool("config-wce", true),
        write_error: action("werror", drive.and_then(|drive| drive.write_error), OnError::Enospc),
        read_error: action("rerror", drive.and_then(|drive| drive.read_error), OnError::Report),
    }
}

/// Tells operators of errors of the host's disk, and stops the machine where that is what follows.
fn tell_trouble(request: &Request<'_>, block: &mut Block, device: String, node: String, waker: Waker) {
    let (events, jobs) = (request.host.events.clone(), request.host.jobs.clone());
    let status = Arc::clone(block.status());
    block.on_trouble(move |trouble: &Trouble<'_>| {
        let stop = trouble.action == OnError::Stop;
        events.emit(Event::BlockIoError {
            device: device.clone(),
            node: node.clone(),
            read: trouble.read,
            action: match trouble.action {
                OnError::Stop => "stop",
                OnError::Ignore => "ignore",
                OnError::Report | OnError::Enospc => "report",
            },
            no_space: trouble.no_space(),
            reason: trouble.error.to_string(),
        });
        if stop {
            // Here the machine cannot stop: the device is at work. Once it has stopped, the next call is when it goes on.
            let (status, waker) = (Arc::clone(&status), waker.clone());
            jobs.later(move |machine| {
                machine.conductor.stop(&machine.vm, RunState::IoError);
                status.allow_retry();
                waker.wake();
            });
        }
    });
}
