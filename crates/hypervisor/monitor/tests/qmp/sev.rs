//! The commands of AMD SEV on the wire: shapes, argument checks, and libvirt's recorded x86_64 sessions.

use crate::common::{Qmp, messages, monitor_for, text};
use cloister_control::fake::FakeMachine;
use cloister_control::{ControlError, SevControl, SevInfo, SevPlatformInfo};
use cloister_options::Target;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

const FULL: &str = include_str!("libvirt-probe/probe-requests-full.jsonl");
const MINIMAL: &str = include_str!("libvirt-probe/probe-requests-minimal.jsonl");
const RUN: &str = include_str!("libvirt-probe/run-requests.jsonl");

/// A launched guest.
#[derive(Default)]
struct Launched(Mutex<Vec<(String, String, Option<u64>)>>);

impl SevControl for Launched {
    fn info(&self) -> Option<SevInfo> {
        Some(SevInfo {
            api_major: 1,
            api_minor: 55,
            build_id: 25,
            state: "launch-secret",
            policy: 5,
            handle: 3,
        })
    }

    fn capabilities(&self) -> Result<SevPlatformInfo, ControlError> {
        Ok(SevPlatformInfo {
            pdh: vec![1; 2084],
            cert_chain: vec![2; 6252],
            cpu0_id: vec![3; 64],
            cbitpos: 51,
            reduced_phys_bits: 1,
        })
    }

    fn launch_measure(&self) -> Result<Vec<u8>, ControlError> {
        Ok(vec![0; 48])
    }

    fn inject_launch_secret(&self, header: &str, secret: &str, gpa: Option<u64>) -> Result<(), ControlError> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((
            header.into(),
            secret.into(),
            gpa,
        ));
        Ok(())
    }

    fn attestation_report(&self, mnonce: &str) -> Result<Vec<u8>, ControlError> {
        Ok(mnonce.as_bytes().to_vec())
    }
}

fn client(machine: FakeMachine) -> Qmp {
    Qmp::negotiated(&monitor_for(Target::X86_64, machine.of(Target::X86_64, "pc-q35-8.2")))
}

fn launched() -> (Qmp, Arc<Launched>) {
    let sev = Arc::new(Launched::default());
    (client(FakeMachine::none().with_sev(Arc::clone(&sev) as Arc<dyn SevControl>)), sev)
}

#[test]
fn replies_have_the_shapes_of_the_schema() {
    let (mut qmp, sev) = launched();
    assert_eq!(
        qmp.run("query-sev", Value::Null).unwrap(),
        json!({"enabled":true,"api-major":1,"api-minor":55,"build-id":25,"state":"launch-secret","sev-type":"sev",
               "policy":5,"handle":3})
    );
    let capabilities = qmp.run("query-sev-capabilities", Value::Null).unwrap();
    assert_eq!((&capabilities["cbitpos"], &capabilities["reduced-phys-bits"]), (&json!(51), &json!(1)));
    assert_eq!(text(&capabilities["cert-chain"]).len(), 6252 / 3 * 4);
    assert_eq!(qmp.run("query-sev-launch-measure", Value::Null).unwrap(), json!({ "data": "A".repeat(64) }));
    let report = qmp.run("query-sev-attestation-report", json!({ "mnonce": "abc" })).unwrap();
    assert_eq!(report, json!({ "data": "YWJj" }));
    let secret = json!({ "packet-header": "aGRy\n", "secret": "c2Vj", "gpa": u64::MAX });
    assert_eq!(qmp.run("sev-inject-launch-secret", secret).unwrap(), json!({}));
    qmp.run("sev-inject-launch-secret", json!({ "packet-header": "h", "secret": "s" })).unwrap();
    let expected = [("aGRy\n".into(), "c2Vj".into(), Some(u64::MAX)), ("h".into(), "s".into(), None)];
    assert_eq!(*sev.0.lock().unwrap(), expected);
}

#[test]
fn arguments_are_checked_in_qemus_words() {
    let (mut qmp, _) = launched();
    for (arguments, words) in [
        (json!({ "packet-header": "h" }), "Parameter 'secret' is missing"),
        (json!({ "packet-header": "h", "secret": "s", "extra": 1 }), "Parameter 'extra' is unexpected"),
        (
            json!({ "packet-header": 1, "secret": "s" }),
            "Invalid parameter type for 'packet-header', expected: string",
        ),
    ] {
        assert_eq!(qmp.refused("sev-inject-launch-secret", arguments), words);
    }
}

#[test]
fn without_sev_the_words_are_qemus() {
    let mut qmp = client(FakeMachine::none());
    assert_eq!(
        qmp.run("query-sev", Value::Null).unwrap(),
        json!({"enabled":false,"api-major":0,"api-minor":0,"build-id":0,"state":"uninit","sev-type":"sev","policy":0,
               "handle":0})
    );
    let generic = |text: &str| Err(("GenericError".to_owned(), text.to_owned()));
    let secret = json!({ "packet-header": "h", "secret": "s" });
    for (command, arguments, words) in [
        ("query-sev-launch-measure", Value::Null, "SEV launch measurement is not available"),
        ("query-sev-capabilities", Value::Null, "SEV is not enabled in KVM"),
        ("sev-inject-launch-secret", secret, "SEV not enabled for guest"),
        ("query-sev-attestation-report", json!({ "mnonce": "" }), "SEV is not enabled"),
    ] {
        assert_eq!(qmp.run(command, arguments), generic(words));
    }
    let info = qmp.run("human-monitor-command", json!({ "command-line": "info sev" })).unwrap();
    assert_eq!(info, "SEV is not enabled\r\n");
}

#[test]
fn the_human_monitor_shows_a_launch() {
    let (mut qmp, _) = launched();
    let info = qmp.run("human-monitor-command", json!({ "command-line": "info sev" })).unwrap();
    assert_eq!(
        info,
        "SEV type: sev\r\nstate: launch-secret\r\nbuild: 25\r\napi version: 1.55\r\nhandle: 3\r\ndebug: off\r\n\
         key-sharing: on\r\n"
    );
}

/// Both recorded probes and the recorded run: nothing is unknown but SGX, which is not asked for where no such object
/// is listed.
#[test]
fn libvirts_recorded_x86_sessions_find_every_command() {
    for recorded in [FULL, MINIMAL, RUN] {
        let sev = Arc::new(Launched::default());
        let machine = FakeMachine::none().with_sev(sev).of(Target::X86_64, "pc-q35-8.2");
        let mut qmp = Qmp::new(&monitor_for(Target::X86_64, machine));
        for line in recorded.lines() {
            let request: Value = serde_json::from_str(line).unwrap();
            let answer = messages(&qmp.client.ask(format!("{line}\r\n").as_bytes())).pop().unwrap();
            let command = text(&request["execute"]);
            let class = answer["error"]["class"].as_str();
            match command.as_str() {
                "query-sgx-capabilities" | "query-cpu-model-expansion" => {
                    assert_eq!(class, Some("CommandNotFound"));
                }
                // Types that we do not have; the fake has no CPU to list.
                "device-list-properties" | "qom-list-properties" | "qom-list" => {
                    assert!(class.is_none_or(|class| class == "DeviceNotFound"), "{answer}");
                }
                _ => assert!(class.is_none(), "{command}: {answer}"),
            }
        }
    }
}

/// What libvirt looks for before it says `<sev supported='yes'>` and takes `kernelHashes=`.
#[test]
fn the_schema_has_what_libvirt_looks_for() {
    let (mut qmp, _) = launched();
    let names = |value: Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|one| text(&one["name"])).collect()
    };
    assert!(names(qmp.run("qom-list-types", Value::Null).unwrap()).contains(&"sev-guest".to_owned()));
    let schema = qmp.run("query-qmp-schema", Value::Null).unwrap();
    let entry = |name: &Value| {
        schema.as_array().unwrap().iter().find(|entry| entry["name"] == *name).unwrap().clone()
    };
    let argument = entry(&entry(&json!("object-add"))["arg-type"]);
    let variants = argument["variants"].as_array().unwrap().clone();
    let sev = variants.iter().find(|variant| variant["case"] == "sev-guest").unwrap();
    let members = names(entry(&sev["type"])["members"].clone());
    for name in ["kernel-hashes", "legacy-vm-type", "dh-cert-file", "session-file", "policy", "handle"] {
        assert!(members.iter().any(|member| member == name), "{name}");
    }
    let machines = qmp.run("query-machines", Value::Null).unwrap();
    let q35 = machines.as_array().unwrap().iter().find(|machine| machine["alias"] == "q35").unwrap().clone();
    assert_eq!(q35["default-ram-id"], "pc.ram");
    assert_eq!(q35["default-cpu-type"], "qemu64-x86_64-cpu");
    let models = names(qmp.run("query-cpu-definitions", Value::Null).unwrap());
    assert!(models.contains(&"EPYC-v4".to_owned()));
    let properties = names(qmp.run("qom-list-properties", json!({"typename":"pc-q35-8.2-machine"})).unwrap());
    assert!(properties.contains(&"confidential-guest-support".to_owned()));
}
