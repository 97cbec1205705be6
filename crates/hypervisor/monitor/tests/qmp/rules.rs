//! The rules of the protocol, one test for each, named after it.

use crate::common::{Qmp, client, messages, monitor, text};
use cloister_control::fake::FakeMachine;
use cloister_control::{Cause, Event, Machine, RunState};
use cloister_monitor::{Client, EVENTS, Type, commands};
use cloister_options::Target;
use serde_json::{Value, json};

#[test]
fn rule_1_the_greeting_comes_at_once() {
    let (monitor, _) = monitor(FakeMachine::none());
    let greeting = Qmp::new(&monitor).greeting;
    let version = &greeting["QMP"]["version"];
    assert!(
        version["qemu"]["major"].is_u64()
            && version["qemu"]["minor"].is_u64()
            && version["qemu"]["micro"].is_u64()
    );
    assert!(text(&version["package"]).contains("Cloister"));
    assert_eq!(greeting["QMP"]["capabilities"], json!(["oob"]));
}

#[test]
fn rule_2_messages_end_in_crlf_and_are_ascii() {
    let (mut qmp, _) = client();
    let raw = qmp.client.ask("{\"execute\":\"query-name\",\"id\":\"\u{20ac}\"}".as_bytes());
    assert_eq!(raw, b"{\"return\": {\"name\": \"guest\"}, \"id\": \"\\u20AC\"}\r\n");
    let (monitor, _) = monitor(FakeMachine::none());
    let mut pretty = Client::new(&monitor, true);
    pretty.take();
    assert_eq!(
        pretty.ask(br#"{"execute":"qmp_capabilities","id":1}"#),
        b"{\n    \"return\": {},\n    \"id\": 1\n}\r\n"
    );
}

#[test]
fn rule_4_negotiation_comes_first_and_once() {
    let (monitor, _) = monitor(FakeMachine::none());
    let mut qmp = Qmp::new(&monitor);
    let expecting = "Expecting capabilities negotiation with 'qmp_capabilities'";
    let refused = |class: &str, text: &str| Err((class.to_owned(), text.to_owned()));
    assert_eq!(qmp.run("query-version", Value::Null), refused("CommandNotFound", expecting));
    assert_eq!(qmp.run("nonexist", Value::Null), refused("CommandNotFound", expecting));
    assert_eq!(
        qmp.run("qmp_capabilities", json!({"enable":["nope"]})),
        refused("GenericError", "Parameter 'null' does not accept value 'nope'")
    );
    assert_eq!(qmp.run("qmp_capabilities", Value::Null), Ok(json!({})));
    assert_eq!(
        qmp.run("qmp_capabilities", Value::Null),
        refused("CommandNotFound", "Capabilities negotiation is already complete, command ignored")
    );
    assert!(qmp.run("query-version", Value::Null).is_ok());
}

#[test]
fn rule_4_no_events_before_negotiation() {
    let (monitor, machine) = monitor(FakeMachine::s390x());
    let mut early = Qmp::new(&monitor);
    let late = Qmp::negotiated(&monitor);
    machine.cont().unwrap();
    assert!(early.client.take().is_empty());
    assert_eq!(messages(&late.client.take())[0]["event"], "RESUME");
    assert_eq!(early.run("qmp_capabilities", Value::Null), Ok(json!({})));
}

#[test]
fn rule_5_an_id_of_any_kind_comes_back() {
    let (mut qmp, _) = client();
    for id in [
        json!([1, null]),
        json!(null),
        json!({"a":{"b":1.5}}),
        json!("x"),
        json!(-1),
        json!(u64::MAX),
        json!(true),
    ] {
        let answer = qmp.ask(&json!({"execute":"query-status","id":id})).remove(0);
        assert_eq!(answer["id"], id);
        let answer = qmp.ask(&json!({"execute":"nonexist","id":id})).remove(0);
        assert_eq!(answer["id"], id);
    }
    let answer = qmp.ask(&json!({"execute":"query-status"})).remove(0);
    assert!(answer.get("id").is_none());
    let answer = messages(&qmp.client.ask(b"{\"execute\":\"query-status\",\"id\":1]")).remove(0);
    assert_eq!(
        answer,
        json!({"error":{"class":"GenericError","desc":"JSON parse error, expected separator in dict"}})
    );
}

#[test]
fn rule_6_errors_have_a_class_and_a_description() {
    let (mut qmp, _) = client();
    for (request, class) in [
        (json!({"execute":"nonexist"}), "CommandNotFound"),
        (json!({"execute":"device_del","arguments":{"id":"x"}}), "DeviceNotFound"),
        (json!({"execute":"object-del"}), "GenericError"),
        (json!([]), "GenericError"),
    ] {
        let answer = qmp.ask(&request).remove(0);
        assert_eq!(answer["error"]["class"], class);
        assert!(answer["error"]["desc"].is_string());
    }
}

#[test]
fn rules_7_and_8_sev_is_not_known_to_a_target_without_it() {
    // CommandNotFound is what QEMU's binary for this target answers; the rules are for the next mechanism's rows.
    let (mut qmp, _) = client();
    for command in ["query-sev", "query-sev-capabilities"] {
        assert_eq!(qmp.run(command, Value::Null).unwrap_err().0, "CommandNotFound");
    }
}

#[test]
fn rule_9_events_have_timestamps_and_precede_the_answer() {
    let (mut qmp, machine) = client();
    for (command, event) in [
        ("cont", "RESUME"),
        ("stop", "STOP"),
        ("system_reset", "RESET"),
        ("system_powerdown", "POWERDOWN"),
        ("quit", "SHUTDOWN"),
    ] {
        let answers = qmp.ask(&json!({ "execute": command }));
        assert_eq!(answers.len(), 2, "{command}: {answers:?}");
        assert_eq!(answers[0]["event"], event);
        assert!(answers[0]["timestamp"]["seconds"].as_u64().unwrap() > 1_600_000_000);
        assert!(answers[0]["timestamp"]["microseconds"].as_u64().unwrap() < 1_000_000);
        assert_eq!(answers[1], json!({"return":{}}));
        if command == "quit" {
            assert_eq!(answers[0]["data"], json!({"guest":false,"reason":"host-qmp-quit"}));
        }
    }
    assert_eq!(
        machine.take_calls(),
        ["cont", "stop", "reset host-qmp-system-reset", "powerdown", "quit host-qmp-quit"]
    );
    assert_eq!(qmp.ask(&json!({"execute":"stop"})), [json!({"return":{}})], "no change, no event");
}

#[test]
fn rule_9_event_data_fits_its_description() {
    let (qmp, machine) = client();
    let psw = cloister_platform::arch::s390x::Psw { mask: 0x0002_0001_8000_0000, addr: 0xdead };
    for event in [
        Event::Shutdown(Cause::GuestShutdown),
        Event::Reset(Cause::SubsystemReset),
        Event::DeviceDeleted { device: Some("a".into()), path: "/machine/peripheral/a".into() },
        Event::DeviceDeleted { device: None, path: "/machine/peripheral-anon/device[0]".into() },
        Event::GuestPanicked { cpu: 1, psw, action: "pause" },
        Event::Debug { cpu: 0 },
    ] {
        machine.events().emit(event);
    }
    let told = messages(&qmp.client.take());
    assert_eq!(told.len(), 5, "a debugger's stop is not a QMP event");
    for event in told {
        let spec = EVENTS.iter().find(|spec| spec.name == event["event"]).unwrap();
        let data: &'static _ = Box::leak(Box::new(cloister_monitor::Struct::new("data", spec.data)));
        let catalogue = cloister_cgs::catalogue(Target::S390x);
        assert_eq!(Type::Struct(data).check(&catalogue, "", &event["data"]), Ok(()));
    }
}

#[test]
fn rule_10_out_of_band_commands_need_the_capability_and_a_command_that_allows_it() {
    let (monitor, _) = monitor(FakeMachine::s390x());
    let mut without = Qmp::new(&monitor);
    without.run("qmp_capabilities", Value::Null).unwrap();
    let answer = without.ask(&json!({"exec-oob":"query-yank","id":1})).remove(0);
    assert_eq!(answer["error"]["desc"], "QMP input member 'exec-oob' is unexpected");
    let mut with = Qmp::negotiated(&monitor);
    assert_eq!(with.ask(&json!({"exec-oob":"query-yank","id":1})), [json!({"return":[],"id":1})]);
    for (request, text) in [
        (json!({"exec-oob":"query-status"}), "The command query-status does not support OOB"),
        (json!({"exec-oob":"nope"}), "The command nope has not been found"),
        (json!({"exec-oob":5}), "QMP input member 'exec-oob' must be a string"),
        (
            json!({"exec-oob":"query-yank","execute":"stop"}),
            "QMP input member 'execute' clashes with 'exec-oob'",
        ),
    ] {
        assert_eq!(with.ask(&request)[0]["error"]["desc"], text);
    }
}

#[test]
fn rule_12_passed_descriptors_get_names_and_sets() {
    let (mut qmp, _) = client();
    let none = "No file descriptor supplied via SCM_RIGHTS";
    assert_eq!(qmp.refused("getfd", json!({"fdname":"x"})), none);
    let pass = |qmp: &Qmp| qmp.client.pass(std::fs::File::open("/dev/null").unwrap().into());
    pass(&qmp);
    assert_eq!(qmp.run("getfd", json!({"fdname":"x"})), Ok(json!({})));
    assert_eq!(qmp.run("closefd", json!({"fdname":"x"})), Ok(json!({})));
    assert_eq!(qmp.refused("closefd", json!({"fdname":"x"})), "File descriptor named 'x' not found");
    pass(&qmp);
    let added = qmp.run("add-fd", json!({"fdset-id":3,"opaque":"rdwr:/x"})).unwrap();
    assert_eq!(added["fdset-id"], 3);
    let sets = json!([{"fdset-id":3,"fds":[{"fd":added["fd"],"opaque":"rdwr:/x"}]}]);
    assert_eq!(qmp.run("query-fdsets", Value::Null), Ok(sets));
    assert_eq!(qmp.run("remove-fd", json!({"fdset-id":3})), Ok(json!({})));
    assert_eq!(qmp.run("query-fdsets", Value::Null), Ok(json!([])));
}

#[test]
fn rule_13_each_monitor_has_its_own_session() {
    let (monitor, _) = monitor(FakeMachine::s390x());
    let (mut one, mut two) = (Qmp::negotiated(&monitor), Qmp::new(&monitor));
    assert!(two.run("query-status", Value::Null).is_err());
    assert_eq!(one.ask(&json!({"execute":"query-name","id":1}))[0]["id"], 1);
    assert!(two.client.take().is_empty(), "answers go to the one who asked");
    two.run("qmp_capabilities", Value::Null).unwrap();
    one.run("cont", Value::Null).unwrap();
    assert_eq!(messages(&two.client.take())[0]["event"], "RESUME", "events go to all");
}

#[test]
fn every_listed_command_works_and_returns_what_it_says() {
    let (monitor, machine) = monitor(FakeMachine::s390x());
    machine.state().blockers.push("a passed-through device cannot be migrated".into());
    machine.state().balloon = Some(256 << 20);
    let mut qmp = Qmp::negotiated(&monitor);
    let catalogue = cloister_cgs::catalogue(Target::S390x);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image");
    let dump = folder.path().join("dump");
    let refused = [
        ("query-pci", "no PCI bus"),
        ("system_wakeup", "wake-up from suspend is not supported by this guest"),
        ("migrate", "a passed-through device cannot be migrated; this version of Cloister cannot migrate"),
        ("qom-set", "Property 's390-ccw-virtio-8.2-machine.type' is not writable"),
        ("memsave", "there is no guest to look into"),
        ("pmemsave", "there is no guest to look into"),
        ("query-confidential-memory", "there is no guest to look into"),
        ("x-query-jit", "JIT information is only available with accel=tcg"),
        // The fake machine has neither disks nor a network; whole machines are tested with both.
        ("blockdev-add", "this machine has no block layer"),
        ("blockdev-del", "Failed to find node with node-name='n'"),
        ("block_resize", "Cannot find device='' nor node-name='n'"),
        ("netdev_add", "this machine has no network devices"),
        ("netdev_del", "Device 'n' not found"),
        ("set_link", "Device 'n' not found"),
    ];
    let mut worked = 0;
    for command in commands(Target::S390x).filter(|command| command.name != "qmp_capabilities") {
        let arguments = match command.name {
            "balloon" => json!({"value": 1 << 27}),
            "watchdog-set-action" => json!({"action":"pause"}),
            "qom-list" => json!({"path":"/machine/unattached/device[0]"}),
            "qom-get" => json!({"path":"/machine","property":"type"}),
            "qom-set" => json!({"path":"/machine","property":"type","value":1}),
            "qom-list-properties" | "device-list-properties" => json!({"typename":"virtio-blk-ccw"}),
            "object-add" => json!({"qom-type":"rng-random","id":"r","filename":"/dev/urandom"}),
            "object-del" => json!({"id":"r"}),
            "blockdev-add" => json!({"driver":"null-co","node-name":"n"}),
            "blockdev-del" => json!({"node-name":"n"}),
            "block_resize" => json!({"node-name":"n","size":512}),
            "netdev_add" => json!({"type":"socket","id":"n","listen":":0"}),
            "netdev_del" => json!({"id":"n"}),
            "set_link" => json!({"name":"n","up":true}),
            "device_add" => json!({"driver":"virtio-rng-ccw","id":"d","rng":"r"}),
            "device_del" => json!({"id":"disk0"}),
            "memsave" | "pmemsave" => json!({"val":0,"size":1,"filename":file}),
            "dump-guest-memory" => json!({"paging":false,"protocol":format!("file:{}", dump.display())}),
            "migrate" => json!({"uri":"tcp:127.0.0.1:1"}),
            "migrate-set-capabilities" => json!({"capabilities":[{"capability":"events","state":true}]}),
            "query-cpu-model-expansion" => json!({"type":"static","model":{"name":"z14"}}),
            "human-monitor-command" => json!({"command-line":"info status"}),
            "yank" => json!({"instances":[]}),
            "getfd" => {
                qmp.client.pass(std::fs::File::open("/dev/null").unwrap().into());
                json!({"fdname":"x"})
            }
            "closefd" => json!({"fdname":"x"}),
            "add-fd" => {
                qmp.client.pass(std::fs::File::open("/dev/null").unwrap().into());
                json!({"fdset-id":7})
            }
            "remove-fd" => json!({"fdset-id":7}),
            _ => Value::Null,
        };
        let answer = qmp.run(command.name, arguments);
        match (answer, refused.iter().find(|(name, _)| *name == command.name)) {
            (Err((_, text)), Some((_, reason))) => assert!(text.contains(reason), "{}: {text}", command.name),
            (Ok(value), None) => {
                worked += 1;
                match command.returns {
                    None => assert_eq!(value, json!({}), "{}", command.name),
                    Some(kind) => {
                        assert_eq!(kind.check(&catalogue, "", &value), Ok(()), "{}: {value}", command.name)
                    }
                }
            }
            (answer, _) => panic!("{}: {answer:?}", command.name),
        }
    }
    assert!(worked > 50, "{worked}");
    assert!(!file.exists());
}

#[test]
fn cont_after_a_shutdown_needs_a_reset() {
    let (mut qmp, machine) = client();
    machine.state().run_state = Some(RunState::Shutdown);
    assert_eq!(qmp.refused("cont", Value::Null), "Resetting the Virtual Machine is required");
    qmp.run("system_reset", Value::Null).unwrap();
    assert_eq!(qmp.run("cont", Value::Null), Ok(json!({})));
}

#[test]
fn the_object_tree_has_the_places_that_managers_look_at() {
    let (mut qmp, _) = client();
    let mut names = |path: &str| -> Vec<(String, String)> {
        let list = qmp.run("qom-list", json!({ "path": path })).unwrap();
        list.as_array().unwrap().iter().map(|one| (text(&one["name"]), text(&one["type"]))).collect()
    };
    let has = |list: &[(String, String)], name: &str, kind: &str| {
        list.contains(&(name.to_owned(), kind.to_owned()))
    };
    let root = names("/");
    assert!(has(&root, "machine", "child<s390-ccw-virtio-8.2-machine>"));
    assert!(has(&root, "objects", "child<container>") && has(&root, "chardevs", "child<container>"));
    assert!(has(&names("/machine/peripheral"), "disk0", "child<virtio-blk-ccw>"));
    assert!(has(&names("/machine/peripheral-anon"), "device[0]", "child<virtio-rng-ccw>"));
    assert!(has(&names("/machine/unattached"), "device[0]", "child<qemu-s390x-cpu>"));
    assert!(has(&names("/chardevs"), "compat_monitor0", "child<chardev-socket>"));
    assert!(has(&names("disk0"), "devno", "str"), "a partial path");
    assert_eq!(qmp.run("qom-get", json!({"path":"disk0","property":"devno"})), Ok(json!("fe.0.0000")));
    assert_eq!(qmp.refused("qom-list", json!({"path":"/nope"})), "Device '/nope' not found");
    assert_eq!(
        qmp.refused("qom-get", json!({"path":"/machine","property":"nope"})),
        "Property 's390-ccw-virtio-8.2-machine.nope' not found"
    );
}

#[test]
fn the_schema_is_closed_and_names_each_thing_once() {
    let (mut qmp, _) = client();
    let schema = qmp.run("query-qmp-schema", Value::Null).unwrap();
    let entries = schema.as_array().unwrap();
    let mut names: Vec<_> = entries.iter().map(|entry| text(&entry["name"])).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    let known = |name: &Value| assert!(names.binary_search(&text(name)).is_ok(), "{name}");
    for entry in entries {
        for reference in ["arg-type", "ret-type", "element-type"] {
            entry.get(reference).into_iter().for_each(known);
        }
        for list in ["members", "variants"] {
            for one in entry.get(list).and_then(Value::as_array).into_iter().flatten() {
                one.get("type").into_iter().for_each(known);
            }
        }
    }
    let listed = qmp.run("query-commands", Value::Null).unwrap();
    for command in listed.as_array().unwrap() {
        assert!(
            entries.iter().any(|entry| entry["name"] == command["name"] && entry["meta-type"] == "command")
        );
    }
}

#[test]
fn the_documentation_is_up_to_date() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/qmp.md");
    let made = cloister_monitor::document();
    if std::env::var_os("CLOISTER_WRITE_DOCS").is_some() {
        std::fs::write(file, &made).unwrap();
    }
    let kept = std::fs::read_to_string(file).unwrap_or_default();
    assert!(kept == made, "docs/qmp.md is out of date; run this test with CLOISTER_WRITE_DOCS=1");
}

#[test]
fn balloon_and_watchdog_are_asked_for_as_with_qemu() {
    let (mut qmp, machine) = client();
    assert_eq!(qmp.refused("query-balloon", Value::Null), "No balloon device has been activated");
    assert_eq!(qmp.refused("balloon", json!({"value": 1 << 20})), "No balloon device has been activated");
    machine.state().balloon = Some(256 << 20);
    assert_eq!(qmp.refused("balloon", json!({"value": 0})), "Parameter 'target' expects a size");
    qmp.run("balloon", json!({"value": 64 << 20})).unwrap();
    assert_eq!(qmp.run("query-balloon", Value::Null), Ok(json!({"actual": 64 << 20})));
    qmp.run("watchdog-set-action", json!({"action": "inject-nmi"})).unwrap();
    let calls = machine.take_calls();
    assert_eq!(calls, ["set_balloon 67108864", "set_watchdog_action inject-nmi"]);
}
