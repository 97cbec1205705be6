//! The demo, and its guest started by hand on the command line.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "each test binary uses a part of it")]
mod common;

use common::{Run, cloister, names};
use serde_json::Value;
use std::fs;
use std::path::Path;

const PROTECTED: [&str; 12] = [
    "-machine",
    "s390-ccw-virtio,confidential-guest-support=pv0",
    "-object",
    "s390-pv-guest,id=pv0",
    "-m",
    "32",
    "-nographic",
    "-device",
    "virtio-rng-ccw",
    "-platform",
    "kept/platform",
    "-kernel",
];

/// A folder with `kept`, which the demo filled.
fn kept() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let run = cloister(folder.path(), ["demo", "--keep", "kept"]);
    assert!(run.succeeds().contains("-kernel kept/guest.img"), "{}", run.out);
    folder
}

fn boot(folder: &Path, image: &str, more: &[&str]) -> Run {
    cloister(folder, PROTECTED.iter().chain(&[image]).chain(more))
}

#[test]
fn the_demo_shows_both_sides_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let run = cloister(folder.path(), ["demo"]);
    let out = run.succeeds();
    for line in [
        "platform: MODEL",
        "guest | protected: no",
        "|CLOISTER-GUEST-S|",
        "guest | protected: yes",
        "guest | random bytes: ",
        "the secret stands nowhere in the host's mapping",
        "owner | the measurement fits: my image, on my machine",
        "owner | the checksum is that of my secret",
        "host  | carried the request; the secret stands nowhere in its mapping",
        "guest | marker intact",
        "rc 102 rrc 1b",
        "  ok     its owner attests it",
        "  ok     one flipped bit: the launch is refused",
    ] {
        assert!(out.contains(line), "'{line}' is missing in:\n{out}");
    }
    assert!(!out.contains("FAILED"), "{out}");
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn the_demo_prints_json() {
    let folder = tempfile::tempdir().unwrap();
    let run = cloister(folder.path(), ["demo", "pv", "--json"]);
    let json: Value = serde_json::from_str(run.succeeds()).unwrap();
    assert_eq!((&json["ok"], &json["model"]), (&true.into(), &true.into()));
    let entropy = |view: &str| json["protected"]["host_view"][view]["entropy"].as_f64().unwrap();
    assert!(entropy("access") > 7.9 && entropy("mapping") < 0.1);
    assert_eq!(json["protected"]["host_view"]["secret_found_at"], Value::Array(Vec::new()));
    assert_eq!(json["protected"]["owner"], serde_json::json!({"attested": true, "secret_given": true}));
    assert_eq!(json["clear"]["owner"], Value::Null);
    assert_eq!(json["clear"]["host_view"]["secret_found_at"], serde_json::json!(["0x40000"]));
}

#[test]
fn the_demo_keeps_what_it_made_only_in_a_new_folder() {
    let folder = kept();
    cloister(folder.path(), ["demo", "--keep", "kept"]).refuses(&["not empty"]);
}

#[test]
fn a_protected_guest_runs_by_hand_over_both_doors_and_on_several_cpus() {
    let folder = kept();
    for more in [&[][..], &["-accel", "soft,door=loopback"], &["-smp", "4"]] {
        let run = boot(folder.path(), "kept/guest.img", more);
        assert!(run.succeeds().contains("protected: yes"), "{more:?}: {}", run.out);
        assert!(run.out.contains("random bytes: ") && run.out.contains("marker intact"), "{}", run.out);
        assert!(run.err.contains("platform: MODEL"), "{}", run.err);
    }
}

#[test]
fn an_altered_image_is_refused_in_words() {
    let folder = kept();
    let run = boot(folder.path(), "kept/guest-altered.img", &[]);
    run.refuses(&["KVM_PV_VERIFY", "rc 102 rrc 1b", "Page digest list (PLD) mismatch"]);
    assert!(
        run.out.contains("Protected boot failed: 0xa02, KVM_PV_VERIFY - RC: 0x102, RRC: 0x1b"),
        "{}",
        run.out
    );
    assert!(!run.out.contains("Cloister demo guest"), "{}", run.out);
}

#[test]
fn another_machine_refuses_with_rc_108_and_the_hint() {
    let folder = kept();
    fs::remove_dir_all(folder.path().join("kept/platform")).unwrap();
    common::platform(folder.path(), "kept/platform");
    let run = boot(folder.path(), "kept/guest.img", &[]);
    run.refuses(&[
        "KVM_PV_SET_SEC_PARMS",
        "rc 108 rrc 5",
        "Please check whether the image is correctly encrypted for this host",
    ]);
    assert!(run.out.contains("the image was not encrypted for this host"), "{}", run.out);
}

#[test]
fn truncated_images_never_run() {
    let folder = kept();
    let whole = fs::read(folder.path().join("kept/guest.img")).unwrap();
    for size in [0, 4, 0x10000, 0x14000, 0x15000, whole.len() / 2, whole.len() - 4096] {
        fs::write(folder.path().join("cut"), &whole[..size]).unwrap();
        let run = boot(folder.path(), "cut", &[]);
        run.refuses(&["cloister"]);
        assert!(!run.out.contains("Cloister demo guest"), "{size}: {}", run.out);
    }
}

#[test]
fn command_lines_of_files_that_are_not_there_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    boot(folder.path(), "nowhere", &[]).refuses(&["kept/platform"]);
    let plain = |args: &[&str]| cloister(folder.path(), args);
    plain(&["-nographic", "-kernel", "nowhere"]).refuses(&["could not load kernel 'nowhere'"]);
    plain(&["-nographic", "-kernel", "."]).refuses(&["could not load kernel '.'"]);
    plain(&["-nographic", "-nonsense"]).refuses(&["-nonsense"]);
    plain(&["-nographic", "-object", "sev-guest,id=a", "-kernel", "x"]).refuses(&["sev-guest"]);
}
