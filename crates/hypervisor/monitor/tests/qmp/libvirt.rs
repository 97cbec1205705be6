//! libvirt's recorded probe and run-time traffic, offline.

use crate::common::{Qmp, client, monitor};
use cloister_control::fake::FakeMachine;
use serde_json::{Value, json};

const FULL: &str = include_str!("libvirt-probe/probe-requests-full.jsonl");
const MINIMAL: &str = include_str!("libvirt-probe/probe-requests-minimal.jsonl");
const RUN: &str = include_str!("libvirt-probe/run-requests.jsonl");
const REPLIES: &str = include_str!("libvirt-probe/replies-minimal.json");

/// Commands that the recorded x86_64 sessions ask and s390x does not have, as QEMU's s390x binary does not.
const OF_X86: [&str; 5] = [
    "query-sev-capabilities",
    "query-sgx-capabilities",
    "query-sev-launch-measure",
    "query-sev",
    "sev-inject-launch-secret",
];

/// Replays requests; gives name, arguments and answer of each.
fn replay(qmp: &mut Qmp, requests: &str) -> Vec<(String, Value, Value)> {
    requests
        .lines()
        .map(|line| {
            let request: Value = serde_json::from_str(line).unwrap();
            let answer =
                crate::common::messages(&qmp.client.ask(format!("{line}\r\n").as_bytes())).pop().unwrap();
            assert_eq!(answer["id"], request["id"], "{line}");
            (crate::common::text(&request["execute"]), request["arguments"].clone(), answer)
        })
        .collect()
}

/// Whether every member of a minimal reply that libvirt accepted is there with the same JSON type.
fn covers(ours: &Value, minimal: &Value) -> bool {
    match (ours, minimal) {
        (Value::Object(ours), Value::Object(minimal)) => {
            minimal.iter().all(|(name, value)| ours.get(name).is_some_and(|ours| covers(ours, value)))
        }
        (Value::Array(ours), Value::Array(minimal)) => {
            minimal.first().is_none_or(|first| ours.iter().any(|ours| covers(ours, first)))
        }
        (ours, minimal) => std::mem::discriminant(ours) == std::mem::discriminant(minimal),
    }
}

fn probe(requests: &str) {
    let (monitor, _machine) = monitor(FakeMachine::none());
    let mut qmp = Qmp::new(&monitor);
    let replies: Value = serde_json::from_str(REPLIES).unwrap();
    assert!(covers(&qmp.greeting, &replies["greeting"]));
    for (command, arguments, answer) in replay(&mut qmp, requests) {
        let class = answer["error"]["class"].as_str();
        if OF_X86.contains(&command.as_str()) {
            assert_eq!(class, Some("CommandNotFound"), "{command}");
        } else if matches!(command.as_str(), "device-list-properties" | "qom-list-properties")
            && class.is_some()
        {
            // A type that we do not have: accepted per type.
            assert_eq!(class, Some("DeviceNotFound"), "{command} {arguments}");
        } else if command == "query-cpu-model-expansion" {
            // The recorded model is an x86 one.
            assert_eq!(answer["error"]["desc"], "The CPU definition 'host' is unknown.");
        } else {
            assert!(class.is_none(), "{command} {arguments}: {answer}");
            let minimal = &replies["return_values"][&command];
            // Values of another target, which the masked comparison of the schema does not fit.
            if command != "query-qmp-schema" && command != "query-commands" && command != "qom-list-types" {
                assert!(minimal.is_null() || covers(&answer["return"], minimal), "{command}: {answer}");
            }
        }
    }
}

#[test]
fn the_recorded_full_probe_of_51_requests_passes() {
    assert_eq!(FULL.lines().count(), 51);
    probe(FULL);
}

/// libvirt gives the whole probe some 30 seconds.
#[test]
fn rule_14_clients_do_not_wait_for_their_timeouts() {
    let begin = std::time::Instant::now();
    probe(FULL);
    assert!(begin.elapsed() < std::time::Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn the_recorded_minimal_probe_of_25_requests_passes() {
    assert_eq!(MINIMAL.lines().count(), 25);
    probe(MINIMAL);
}

#[test]
fn the_recorded_run_time_requests_pass_but_for_those_of_sev() {
    let (monitor, machine) = monitor(FakeMachine::s390x());
    let mut qmp = Qmp::new(&monitor);
    let replies: Value = serde_json::from_str(REPLIES).unwrap();
    for (command, _, answer) in replay(&mut qmp, RUN) {
        if OF_X86.contains(&command.as_str()) {
            assert_eq!(answer["error"]["class"], "CommandNotFound");
        } else {
            let minimal = &replies["return_values"][&command];
            assert!(covers(&answer["return"], minimal), "{command}: {answer} against {minimal}");
        }
    }
    assert_eq!(machine.take_calls(), ["cont"]);
}

/// Each case of `knock-out.json`, by what libvirt needs of us.
#[test]
fn each_knock_out_case_is_explained() {
    let (mut qmp, _) = client();
    let names = |value: Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|one| crate::common::text(&one["name"])).collect()
    };
    let commands = names(qmp.run("query-commands", Value::Null).unwrap());
    let has = |name: &str| commands.iter().any(|command| command == name);

    // "version 4.1 instead of 8.2": newer than 7.2, which the newest libvirt wants.
    let version = qmp.run("query-version", Value::Null).unwrap()["qemu"].clone();
    assert!((version["major"].as_i64(), version["minor"].as_i64()) >= (Some(7), Some(2)));

    // "no query-commands" and the other commands without which the probe fails.
    for name in [
        "query-commands",
        "device-list-properties",
        "query-machines",
        "query-migrate-capabilities",
        "query-command-line-options",
        "query-tpm-models",
    ] {
        assert!(has(name), "{name}");
    }

    // "device-list-properties answers CommandNotFound" is fatal, "class DeviceNotFound" is not.
    let unknown = qmp.run("device-list-properties", json!({"typename":"ide-hd"})).unwrap_err();
    assert_eq!(unknown.0, "DeviceNotFound");

    // "query-sev-capabilities answers CommandNotFound" fails the probe of a binary that lists sev-guest, so a target
    // without SEV lists neither.
    let types = names(qmp.run("qom-list-types", Value::Null).unwrap());
    let is_a = |name: &str| types.iter().any(|kind| kind == name);
    assert_eq!(has("query-sev-capabilities"), is_a("sev-guest"));
    assert_eq!(has("sev-inject-launch-secret"), is_a("sev-guest"));

    // "qom-list-types without tcg-accel and no KVM".
    assert!(is_a("tcg-accel"));
    assert!(is_a("s390-pv-guest"));

    // "replies end in LF only": every test of this crate reads through a splitter at CRLF.

    // "qom-list-properties without confidential-guest-support": of the type `none-machine`, and of ours.
    for machine in ["none-machine", "s390-ccw-virtio-8.2-machine"] {
        let properties = qmp.run("qom-list-properties", json!({ "typename": machine })).unwrap();
        let found = properties.as_array().unwrap().iter().any(|property| {
            property["name"] == "confidential-guest-support"
                && property["type"] == "link<confidential-guest-support>"
        });
        assert!(found, "{machine}");
    }

    // "schema without the path object-add/arg-type/+sev-guest/kernel-hashes": the path exists for what there is.
    let schema = qmp.run("query-qmp-schema", Value::Null).unwrap();
    let entry = |name: &Value| {
        schema.as_array().unwrap().iter().find(|entry| entry["name"] == *name).unwrap().clone()
    };
    let argument = entry(&entry(&json!("object-add"))["arg-type"]);
    assert_eq!(argument["tag"], "qom-type");
    let variants = argument["variants"].as_array().unwrap();
    let variant = |name: &str| {
        variants.iter().find(|variant| variant["case"] == name).map(|variant| entry(&variant["type"]))
    };
    assert!(variant("s390-pv-guest").is_some());
    assert_eq!(variant("sev-guest").is_some(), is_a("sev-guest"));
    let secret = variant("secret").unwrap();
    assert!(secret["members"].as_array().unwrap().iter().any(|member| member["name"] == "file"));
}
