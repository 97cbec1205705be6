//! What QMP's `object-add`, `device_add` and `query-command-line-options` say, compared with the packaged QEMU.
//! Without it the tests print a notice and pass.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use cloister_options::{
    Catalogue, Present, Target, check_device, command_line_options, parse_chardev_json, parse_device_json,
    parse_object_json,
};
use serde_json::{Map, Value, json};

const QEMU: &str = "qemu-system-s390x";

/// Asks QEMU in one connection; `None` without one.
fn ask(commands: &[Value]) -> Option<Vec<Value>> {
    let mut child = Command::new(QEMU)
        .args(["-S", "-display", "none", "-nodefaults", "-qmp", "stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .inspect_err(|_| eprintln!("notice: {QEMU} is not installed, nothing compared"))
        .ok()?;
    let mut input = child.stdin.take().expect("QEMU answers in JSON until it ends");
    let all = [json!({"execute": "qmp_capabilities"})]
        .into_iter()
        .chain(commands.iter().cloned())
        .chain([json!({"execute": "quit"})]);
    for command in all {
        writeln!(input, "{command}").expect("QEMU answers in JSON until it ends");
    }
    let mut text = String::new();
    child
        .stdout
        .take()
        .expect("QEMU answers in JSON until it ends")
        .read_to_string(&mut text)
        .expect("QEMU answers in JSON until it ends");
    child.wait().expect("QEMU answers in JSON until it ends");
    let replies: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("QEMU answers in JSON until it ends"))
        .filter(|reply: &Value| reply.get("return").is_some() || reply.get("error").is_some())
        .skip(1)
        .collect();
    Some(replies)
}

fn compare(execute: &str, cases: &[Value], ours: impl Fn(&Map<String, Value>) -> Option<String>) {
    let commands: Vec<Value> =
        cases.iter().map(|arguments| json!({"execute": execute, "arguments": arguments})).collect();
    let Some(replies) = ask(&commands) else { return };
    let mut wrong = Vec::new();
    for (case, reply) in cases.iter().zip(&replies) {
        let theirs = reply["error"]["desc"].as_str().map(str::to_owned);
        let ours = ours(case.as_object().expect("QEMU answers in JSON until it ends"));
        if theirs != ours {
            wrong.push(format!("{case}\n  qemu: {theirs:?}\n  ours: {ours:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn object_add_refuses_with_the_same_text() {
    let catalogue = Catalogue::new(Target::S390x);
    let cases = [
        json!({}),
        json!({"qom-type": "foo", "id": "a"}),
        json!({"qom-type": 5, "id": "a"}),
        json!({"qom-type": "rng-builtin"}),
        json!({"qom-type": "rng-builtin", "id": "1"}),
        json!({"qom-type": "rng-builtin", "id": 1}),
        json!({"qom-type": "rng-builtin", "id": "a", "x": 1}),
        json!({"qom-type": "rng-builtin", "id": "a"}),
        json!({"qom-type": "memory-backend-ram", "id": "b"}),
        json!({"qom-type": "memory-backend-ram", "id": "b", "size": 0}),
        json!({"qom-type": "memory-backend-ram", "id": "b", "size": "x"}),
        json!({"qom-type": "memory-backend-ram", "id": "b", "size": 4096, "share": "on"}),
        json!({"qom-type": "memory-backend-ram", "id": "b", "size": 4096, "policy": "foo"}),
        json!({"qom-type": "secret", "id": "c"}),
        json!({"qom-type": "secret", "id": "c", "data": "x", "format": "raw"}),
        json!({"qom-type": "rng-random", "id": "d", "filename": 5}),
    ];
    compare("object-add", &cases, |members| {
        parse_object_json(&catalogue, members).err().map(|error| error.headline())
    });
}

#[test]
fn device_add_refuses_with_the_same_text() {
    let catalogue = Catalogue::new(Target::S390x);
    let cases = [
        json!({}),
        json!({"driver": "foo"}),
        json!({"driver": "virtio-rng-ccw", "id": "1"}),
        json!({"driver": "virtio-rng-ccw", "bus": "x"}),
        json!({"driver": "virtio-rng-ccw", "foo": "1"}),
        json!({"driver": "virtio-rng-ccw", "rng": "nothing"}),
        json!({"driver": "virtio-rng-ccw", "devno": "foo"}),
        json!({"driver": "virtio-rng-ccw", "iommu_platform": "x"}),
        json!({"driver": "virtio-rng-ccw", "period": 1.5}),
        json!({"driver": "virtio-rng-ccw", "period": "1", "iommu_platform": true}),
        json!({"driver": 5}),
        json!({"driver": true}),
        json!({"driver": null}),
        json!({"driver": "virtio-blk-ccw"}),
        json!({"driver": "virtio-blk-ccw", "drive": "nothing"}),
    ];
    compare("device_add", &cases, |members| {
        let device = parse_device_json(&catalogue, members);
        let checked = device.and_then(|device| check_device(&catalogue, &device, &Present::default()));
        checked.err().map(|error| error.headline())
    });
}

#[test]
fn chardev_add_refuses_with_the_same_text() {
    let socket = |addr: Value, more: Value| {
        let mut data = json!({"addr": addr});
        for (name, value) in more.as_object().expect("it is an object") {
            data[name] = value.clone();
        }
        json!({"id": "b", "backend": {"type": "socket", "data": data}})
    };
    let unix = || json!({"type": "unix", "data": {"path": "/nowhere"}});
    let cases = [
        json!({}),
        json!({"id": 5}),
        json!({"id": "a"}),
        json!({"id": "a", "backend": 5}),
        json!({"id": "a", "backend": {}}),
        json!({"id": "a", "backend": {"type": 5}}),
        json!({"id": "a", "backend": {"type": "foo"}}),
        json!({"id": "a", "backend": {"type": "null"}}),
        json!({"id": "a", "backend": {"type": "null", "data": 5}}),
        json!({"id": "a", "backend": {"type": "null", "data": {"foo": 1}}}),
        json!({"id": "a", "backend": {"type": "null", "data": {"logfile": 5}}}),
        json!({"id": "a", "backend": {"type": "null", "data": {"logappend": 5}}}),
        json!({"id": "a", "backend": {"type": "null", "data": {}, "x": 1}}),
        json!({"id": "a", "backend": {"type": "null", "data": {}}, "x": 1}),
        json!({"id": "a", "backend": {"type": "null", "data": {}}}),
        json!({"id": "a", "backend": {"type": "file", "data": {}}}),
        json!({"id": "a", "backend": {"type": "pipe", "data": {}}}),
        json!({"id": "a", "backend": {"type": "stdio", "data": {"signal": 5}}}),
        json!({"id": "a", "backend": {"type": "socket", "data": {}}}),
        socket(json!({}), json!({})),
        socket(json!({"type": "foo"}), json!({})),
        socket(json!({"type": "unix"}), json!({})),
        socket(json!({"type": "unix", "data": {}}), json!({})),
        socket(json!({"type": "inet", "data": {"port": "0"}}), json!({})),
        socket(json!({"type": "inet", "data": {"host": "a"}}), json!({})),
        socket(json!({"type": "inet", "data": {"host": "a", "port": 0}}), json!({})),
        socket(json!({"type": "fd", "data": {}}), json!({})),
        socket(unix(), json!({"server": "on"})),
        socket(unix(), json!({"server": false, "wait": true})),
        socket(unix(), json!({"reconnect": 5})),
        socket(unix(), json!({"reconnect": "5"})),
    ];
    compare("chardev-add", &cases, |members| parse_chardev_json(members).err().map(|error| error.headline()));
}

#[test]
fn options_have_the_types_that_qemu_gives_them() {
    let Some(replies) = ask(&[json!({"execute": "query-command-line-options"})]) else { return };
    let theirs = replies[0]["return"].as_array().unwrap();
    let mut wrong = Vec::new();
    for info in command_line_options(&Catalogue::new(Target::S390x)) {
        let Some(known) = theirs.iter().find(|known| known["option"] == info.option) else {
            continue;
        };
        for parameter in &info.parameters {
            let known = known["parameters"].as_array().unwrap().iter();
            let types: Vec<_> =
                known.filter(|known| known["name"] == parameter.name).map(|known| &known["type"]).collect();
            if types.first().is_some_and(|kind| **kind != parameter.kind.name()) {
                wrong.push(format!("{} {}: {types:?}", info.option, parameter.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
