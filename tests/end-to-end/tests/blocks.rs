//! The block layer of a running machine: nodes that come and go, disks that are plugged over them, snapshots.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use cloister_control::{Cause, ControlError, Machine};
use cloister_end_to_end::inprocess::{Boot, Model, guest_program};
use cloister_machines::s390_ccw::S390Ccw;
use cloister_options::{Blockdev, DeviceSpec, Target, parse_blockdev_json, parse_device_json};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::thread;

/// Boots a guest and lets an operator act once it is ready.
fn operate(arguments: &[&str], act: impl Fn(&S390Ccw) + Send + Sync + 'static) {
    let model = Model::new("blocks");
    let program = model.write("echo.bin", &guest_program("echo"));
    let (act, once, failed) = (Arc::new(act), Mutex::new(true), Arc::new(Mutex::new(None)));
    let seen = Arc::clone(&failed);
    let run = Boot::clear(model.platform(), &program)
        .arguments(arguments)
        .turns(u64::MAX)
        .on_line(move |line, world| {
            if !line.contains("ready") || !std::mem::take(&mut *once.lock().unwrap()) {
                return;
            }
            let (machine, act, seen) = (world.machine(), Arc::clone(&act), Arc::clone(&seen));
            thread::spawn(move || {
                let acting = Arc::clone(&machine);
                if let Err(why) = thread::spawn(move || act(acting.as_ref())).join() {
                    *seen.lock().unwrap() = why.downcast_ref::<String>().cloned().or(Some("failed".into()));
                }
                machine.quit(Cause::HostQmpQuit);
            });
        })
        .run()
        .unwrap();
    assert_eq!(*failed.lock().unwrap(), None, "the operator failed; the console:\n{}", run.console);
}

fn blockdev(options: Value) -> Blockdev {
    let Value::Object(members) = options else { panic!("an object") };
    parse_blockdev_json(&members).unwrap()
}

fn device(options: Value) -> DeviceSpec {
    let Value::Object(members) = options else { panic!("an object") };
    parse_device_json(&cloister_cgs::catalogue(Target::S390x), &members).unwrap()
}

fn text(result: Result<(), ControlError>) -> String {
    result.unwrap_err().text
}

#[test]
fn a_disk_is_plugged_over_a_node_that_was_added_and_goes_before_it() {
    operate(&[], |machine| {
        machine
            .blockdev_add(blockdev(json!({"driver": "null-co", "node-name": "z", "size": 1 << 20})))
            .unwrap();
        machine.blockdev_add(blockdev(json!({"driver": "raw", "node-name": "y", "file": "z"}))).unwrap();
        machine.device_add(device(json!({"driver": "virtio-blk-ccw", "drive": "y", "id": "d"}))).unwrap();
        let blocks = machine.blocks();
        assert_eq!(blocks.len(), 1);
        assert_eq!(blocks[0].qdev.as_deref(), Some("/machine/peripheral/d/virtio-backend"));
        assert_eq!((blocks[0].node_name.as_str(), blocks[0].virtual_size), ("y", 1 << 20));
        assert_eq!(text(machine.blockdev_del("y")), "Node y is in use");
        assert_eq!(text(machine.blockdev_del("z")), "Block device z is in use");
        let again = machine.device_add(device(json!({"driver": "virtio-blk-ccw", "drive": "y", "id": "e"})));
        assert!(
            text(again)
                .starts_with("Permission conflict on node 'y': permissions 'write' are both required by")
        );
        machine.device_del("d").unwrap();
        machine.blockdev_del("y").unwrap();
        machine.blockdev_del("z").unwrap();
        assert!(machine.block_nodes().is_empty());
    });
}

#[test]
fn a_new_size_reaches_nodes_and_disks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.img");
    std::fs::write(&path, vec![0; 1 << 20]).unwrap();
    let drive = format!("driver=raw,node-name=f,file.driver=file,file.filename={}", path.display());
    operate(&["-blockdev", &drive, "-device", "virtio-blk-ccw,drive=f"], |machine| {
        machine.block_resize(None, Some("f"), 2 << 20).unwrap();
        assert_eq!(machine.blocks()[0].virtual_size, 2 << 20);
        assert_eq!(
            text(machine.block_resize(Some("zz"), None, 1)),
            "Cannot find device='zz' nor node-name=''"
        );
    });
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 << 20);
}
