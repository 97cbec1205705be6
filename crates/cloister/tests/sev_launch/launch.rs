//! Launches over QMP.

use crate::guest::{Expected, Place, sealed};
use cloister_cgs::encode_base64;
use cloister_formats::sev::vmsa::VmsaForm;
use serde_json::json;
use std::os::unix::process::CommandExt;

const EPYC_V4: u32 = 0x80_0f12;

fn object(policy: u32, more: &str) -> String {
    format!(
        "-object sev-guest,id=sev0,cbitpos=51,reduced-phys-bits=1,policy={policy},dh-cert-file=godh.b64,\
         session-file=session.b64{more}"
    )
}

/// What QEMU measures, by policy, kernel hashes, number of CPUs and kind of VM.
#[test]
fn measurements_are_those_that_the_owner_computes() {
    let place = Place::new();
    let pdh = place.pdh();
    let flash = "-drive if=pflash,format=raw,unit=0,readonly=on,file=ovmf.fd";
    let kernel = "-kernel kernel -initrd initrd -append quiet";
    for (policy, more, machine, cmdline, cpus) in [
        (1, "", "-M q35 -bios ovmf.fd".to_owned(), None, None),
        (1, "", format!("-M pc {flash}"), None, None),
        (3, ",kernel-hashes=on", format!("-M q35 {flash} {kernel}"), Some("quiet"), None),
        // Without kernel-hashes a kernel is not measured.
        (1, "", format!("-M q35 {flash} {kernel}"), None, None),
        (5, "", format!("-M q35 {flash} -smp 1"), None, Some((1, VmsaForm::Legacy))),
        (
            5,
            ",kernel-hashes=on",
            format!("-M q35 {flash} {kernel} -smp 4"),
            Some("quiet"),
            Some((4, VmsaForm::Legacy)),
        ),
        (5, ",legacy-vm-type=off", format!("-M q35 {flash} -smp 2"), None, Some((2, VmsaForm::Init2))),
        (1, ",legacy-vm-type=off", format!("-M q35 {flash}"), None, None),
    ] {
        let keys = place.owner(&pdh, policy);
        let options = format!(
            "-S -m 64 -cpu EPYC-v4 {machine} -M confidential-guest-support=sev0 {}",
            object(policy, more)
        );
        let mut qmp = place.start(&options);
        let sev = qmp.execute("query-sev", json!({}));
        assert_eq!((&sev["enabled"], &sev["state"]), (&json!(true), &json!("launch-secret")), "{options}");
        assert_eq!(sev["policy"], json!(policy));
        let came = qmp.measurement();
        let firmware = place.path("ovmf.fd");
        let cpus = cpus.map(|(count, form)| (count, form, EPYC_V4));
        let expected = Expected { firmware: &firmware, cmdline, cpus, policy };
        assert!(came == expected.measurement(&place, &keys, &sev, &came), "{options}");
        qmp.quit();
    }
}

/// Session, launch, measurement, secret; then everything can be queried, and `cont` is refused without a step further.
#[test]
fn a_launch_from_session_to_secret_waits_for_a_core() {
    let place = Place::new();
    let keys = place.owner(&place.pdh(), 1);
    let memory = "-object memory-backend-ram,id=pc.ram,size=64M -M memory-backend=pc.ram";
    let options = format!(
        "-S -M q35 -M memory-encryption=sev0 {memory} -bios ovmf.fd -smp 2 -name guest {}",
        object(1, "")
    );
    let mut qmp = place.start(&options);
    let measured = qmp.measurement();
    let (header, secret) = sealed(&keys, &measured);
    // A wrong packet changes nothing.
    let wrong = json!({ "packet-header": header, "secret": encode_base64(&[1; 64]) });
    assert_eq!(
        qmp.refuses("sev-inject-launch-secret", wrong),
        "SEV: failed to inject secret ret=-5 fw_error=11 'Bad measurement'"
    );
    let outside = json!({ "packet-header": header, "secret": secret, "gpa": 1u64 << 40 });
    assert_eq!(
        qmp.refuses("sev-inject-launch-secret", outside),
        "SEV: Failed to calculate guest address: No memory is mapped at address 0x10000000000"
    );
    let packet = json!({ "packet-header": format!("{header}\n"), "secret": format!("{secret}\n") });
    qmp.execute("sev-inject-launch-secret", packet);
    for command in ["cont", "cont"] {
        let words = qmp.refuses(command, json!({}));
        assert!(words.contains("no CPU back end"), "{words}");
    }
    assert_eq!(qmp.execute("query-sev", json!({}))["state"], "launch-secret");
    assert_eq!(qmp.execute("query-status", json!({}))["status"], "prelaunch");
    assert!(qmp.measurement() == measured);
    let nonce = json!({ "mnonce": encode_base64(&[9; 16]) });
    let report = qmp.execute("query-sev-attestation-report", nonce);
    assert_eq!(cloister_cgs::decode_base64(report["data"].as_str().unwrap().as_bytes())[..16], [9; 16]);
    let cpus = qmp.execute("query-cpus-fast", json!({}));
    assert_eq!(cpus.as_array().unwrap().len(), 2);
    assert_eq!(cpus[0]["qom-path"], "/machine/unattached/device[0]");
    let info = qmp.execute("human-monitor-command", json!({ "command-line": "info sev" }));
    let info = info.as_str().unwrap().to_owned();
    assert!(
        info.contains("state: launch-secret\r\n") && info.contains("debug: off\r\nkey-sharing: on\r\n"),
        "{info}"
    );
    let handle = qmp.execute("qom-get", json!({ "path": "/objects/sev0", "property": "handle" }));
    assert_eq!(handle, qmp.execute("query-sev", json!({}))["handle"]);
    qmp.quit();
}

/// A SEV-ES guest's CPUs cannot be reset: the run ends.
#[test]
fn a_reset_ends_an_es_guest_and_no_other() {
    let place = Place::new();
    let pdh = place.pdh();
    place.owner(&pdh, 1);
    let start = |policy| {
        let options =
            format!("-S -M q35 -M confidential-guest-support=sev0 -bios ovmf.fd {}", object(policy, ""));
        place.start(&options)
    };
    let mut qmp = start(1);
    qmp.execute("system_reset", json!({}));
    assert_eq!(qmp.execute("query-sev", json!({}))["state"], "launch-secret");
    qmp.quit();
    place.owner(&pdh, 5);
    let mut qmp = start(5);
    qmp.execute("system_reset", json!({}));
    assert_eq!(qmp.ended(), Some(0));
}

#[test]
fn a_machine_without_the_object_says_so() {
    let place = Place::new();
    let mut qmp = place.start("-S -M q35 -kernel kernel -append quiet");
    let sev = qmp.execute("query-sev", json!({}));
    assert_eq!((&sev["enabled"], &sev["state"]), (&json!(false), &json!("uninit")));
    assert!(qmp.refuses("cont", json!({})).contains("no CPU back end"));
    assert_eq!(qmp.refuses("query-sev-launch-measure", json!({})), "SEV launch measurement is not available");
    // The platform can still be asked.
    assert_eq!(qmp.execute("query-sev-capabilities", json!({}))["cbitpos"], 51);
    qmp.quit();
}

/// The machine's platform is the same at each start: an owner who made a session once can go on using its PDH.
#[test]
fn the_pdh_of_a_platform_stays() {
    let place = Place::new();
    assert_eq!(place.pdh(), place.pdh());
}

/// As on a real machine, on which many guests run: a manager asks what SEV can do while they do.
#[test]
fn two_guests_and_a_probe_share_a_platform_and_nobody_changes_it_meanwhile() {
    let place = Place::new();
    let pdh = place.pdh();
    let options = format!("-S -M q35 -M confidential-guest-support=sev0 -bios ovmf.fd {}", object(1, ""));
    let launch = || {
        let keys = place.owner(&pdh, 1);
        let mut qmp = place.start(&options);
        let sev = qmp.execute("query-sev", json!({}));
        let came = qmp.measurement();
        let expected = Expected { firmware: &place.path("ovmf.fd"), cmdline: None, cpus: None, policy: 1 };
        assert!(came == expected.measurement(&place, &keys, &sev, &came));
        qmp
    };
    let (first, mut second) = (launch(), launch());
    assert_eq!(place.pdh(), pdh);
    assert_eq!(second.execute("query-sev-capabilities", json!({}))["pdh"], pdh);
    let change = |command: &str| {
        let mut program = place.program();
        let output =
            program.arg0("cloister").args(["sev", "platform", command, "--platform", "platform"]).output();
        let output = output.unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(change("show").0);
    for command in ["rotate", "pek-gen", "reset"] {
        let (done, words) = change(command);
        assert!(!done && words.contains("in use by processes"), "{command}: {words}");
    }
    first.quit();
    second.quit();
    assert_eq!(place.pdh(), pdh);
    let (done, words) = change("rotate");
    assert!(done, "{words}");
    assert_ne!(place.pdh(), pdh);
}
