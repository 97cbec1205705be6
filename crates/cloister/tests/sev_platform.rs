//! `cloister sev platform`: what the owner of a modelled AMD machine does.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "each test binary uses a part of it")]
mod common;

use common::{Run, cloister, names};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Makes `pf` in a folder; every key is drawn from a number, so that the copies below are of one machine.
fn create(folder: &Path, more: &[&str]) -> Run {
    let args = ["sev", "platform", "create", "pf", "--small-roots", "--seed", "1"];
    cloister(folder, args.iter().chain(more))
}

/// A folder with a platform `pf`. RSA keys are drawn once.
fn platform() -> tempfile::TempDir {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        create(folder.path(), &[]).succeeds();
        folder
    });
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("pf")).unwrap();
    for name in names(&made.path().join("pf")) {
        let file = |root: &Path| root.join("pf").join(&name);
        // Permissions go with it: keys are for their owner only.
        fs::copy(file(made.path()), file(folder.path())).unwrap();
    }
    folder
}

fn sev(folder: &Path, words: &[&str]) -> Run {
    cloister(folder, ["sev", "platform"].iter().chain(words).chain(&["--platform", "pf"]))
}

fn shown(folder: &Path) -> Value {
    serde_json::from_str(sev(folder, &["show", "--json"]).succeeds()).unwrap()
}

/// SHA-256 of a certificate.
fn print_of(shown: &Value, name: &str) -> String {
    let all = shown["certificates"].as_array().unwrap();
    all.iter().find(|one| one["certificate"] == name).unwrap()["sha256"].as_str().unwrap().to_owned()
}

fn export(folder: &Path, more: &[&str]) -> Vec<u8> {
    sev(folder, &[&["export", "-o", "chain", "--force"], more].concat()).succeeds();
    fs::read(folder.join("chain")).unwrap()
}

#[test]
fn a_platform_is_made_once_and_says_that_it_is_a_model() {
    let folder = platform();
    let json = shown(folder.path());
    assert_eq!((&json["model"], &json["owner"]), (&true.into(), &"self".into()));
    assert_eq!(
        (&json["api_major"], &json["api_minor"], &json["build_id"]),
        (&1.into(), &55.into(), &25.into())
    );
    assert_eq!((&json["state"], &json["sev_es"]), (&"INIT".into(), &true.into()));
    assert!(json["id"].as_str().unwrap().starts_with("434c4f49535445522d4d4f44454c2d43"), "{json}");
    let words = sev(folder.path(), &["show"]);
    assert!(words.succeeds().contains("MODEL, NOT AMD"), "{}", words.out);
    // Asking changes nothing.
    assert_eq!(shown(folder.path()), json);
    create(folder.path(), &[]).refuses(&["exists already"]);
    assert_eq!(shown(folder.path()), json);
}

#[test]
fn the_switches_are_those_of_the_options() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--sev-es", "off", "--api", "0.24", "--build", "7", "--json"];
    let made: Value = serde_json::from_str(create(folder.path(), &more).succeeds()).unwrap();
    for json in [made, shown(folder.path())] {
        assert_eq!((&json["api_major"], &json["api_minor"]), (&0.into(), &24.into()));
        assert_eq!((&json["build_id"], &json["sev_es"]), (&7.into(), &false.into()));
    }
    for wrong in [["--api", "1"], ["--api", "1.256"], ["--sev-es", "yes"], ["--build", "256"]] {
        let args = [&["sev", "platform", "create", "other"][..], &wrong].concat();
        cloister(folder.path(), args).refuses(&["error:"]);
        assert_eq!(names(folder.path()), ["pf"]);
    }
}

#[test]
fn the_same_number_makes_the_same_platform() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let of = |folder: &Path| {
        let made: Value = serde_json::from_str(create(folder, &["--json"]).succeeds()).unwrap();
        (made["id"].clone(), made["certificates"].clone())
    };
    assert_eq!(of(one.path()), of(two.path()));
}

#[test]
fn the_export_is_pdh_pek_oca_cek_and_the_whole_one_ends_at_the_model_root() {
    let folder = platform();
    let (chain, full) = (export(folder.path(), &[]), export(folder.path(), &["--full"]));
    assert_eq!((chain.len(), full.len()), (4 * 2084, 4 * 2084 + 2 * 832));
    assert_eq!(chain, full[..4 * 2084]);
    let usages: Vec<_> = chain.chunks(2084).map(|one| u16::from_le_bytes([one[8], one[9]])).collect();
    assert_eq!(usages, [0x1003, 0x1002, 0x1001, 0x1004]);
    let unsigned = export(folder.path(), &["--unsigned-cek"]);
    assert_eq!(unsigned[..3 * 2084 + 0x414], chain[..3 * 2084 + 0x414]);
    assert_ne!(unsigned[3 * 2084 + 0x414..], chain[3 * 2084 + 0x414..]);

    sev(folder.path(), &["ca", "-o", "ca"]).succeeds();
    assert_eq!(names(&folder.path().join("ca")), ["ark.cert", "ask.cert", "ask_ark.cert", "cek.cert"]);
    assert_eq!(fs::read(folder.path().join("ca/ask_ark.cert")).unwrap(), full[4 * 2084..]);
    fs::write(folder.path().join("full"), &full).unwrap();
    fs::write(folder.path().join("chain"), &chain).unwrap();
    let verify = |words: &[&str]| cloister(folder.path(), ["sev", "certs", "verify"].iter().chain(words));
    verify(&["chain", "--ca", "ca/ask_ark.cert"]).succeeds();
    verify(&["full", "--allow-model-root"]).succeeds();
    assert_eq!(verify(&["full"]).status, Some(1));
    // Every covered bit counts; here one of each certificate.
    for at in [0x14, 2084 + 0x20, 2 * 2084 + 0x30, 3 * 2084 + 0x40] {
        let mut flipped = chain.clone();
        flipped[at] ^= 1;
        fs::write(folder.path().join("flipped"), flipped).unwrap();
        assert_eq!(verify(&["flipped", "--ca", "ca/ask_ark.cert"]).status, Some(1), "{at:#x}");
    }
    sev(folder.path(), &["export", "-o", "chain"]).refuses(&["chain"]);
    sev(folder.path(), &["export", "-o", "big", "--bits", "4096"]).refuses(&["roots of 2048 bits"]);
}

#[test]
fn each_change_changes_the_keys_that_its_command_changes() {
    let folder = platform();
    let mut before = shown(folder.path());
    for (command, changed) in
        [("rotate", &["PDH"][..]), ("pek-gen", &["PDH", "PEK", "OCA"]), ("reset", &["PDH", "PEK", "OCA"])]
    {
        sev(folder.path(), &[command]).succeeds();
        let after = shown(folder.path());
        for name in ["PDH", "PEK", "OCA", "CEK"] {
            let same = print_of(&before, name) == print_of(&after, name);
            assert_eq!(same, !changed.contains(&name), "{command}: {name}");
        }
        assert_eq!(before["id"], after["id"]);
        before = after;
    }
}

#[test]
fn an_owner_is_made_and_given_the_platform_until_it_is_taken_back() {
    let folder = platform();
    let run = |words: &[&str]| cloister(folder.path(), ["sev", "platform"].iter().chain(words));
    run(&["generate", "oca.cert", "oca.key"]).succeeds();
    assert_eq!(fs::read(folder.path().join("oca.cert")).unwrap().len(), 2084);
    run(&["generate", "oca.cert", "other.key"]).refuses(&["oca.cert"]);
    run(&["generate", "other.cert", "other.key"]).succeeds();
    sev(folder.path(), &["provision", "oca.cert", "other.key"]).refuses(&["other.key", "oca.cert"]);
    assert_eq!(shown(folder.path())["owner"], "self");

    let before = shown(folder.path());
    sev(folder.path(), &["provision", "oca.cert", "oca.key"]).succeeds();
    let after = shown(folder.path());
    assert_eq!(after["owner"], "external");
    assert_ne!(print_of(&before, "PDH"), print_of(&after, "PDH"));
    let chain = export(folder.path(), &[]);
    assert_eq!(chain[2 * 2084..3 * 2084], fs::read(folder.path().join("oca.cert")).unwrap());
    let again = sev(folder.path(), &["provision", "other.cert", "other.key"]);
    again.refuses(&["PEK_CERT_IMPORT", "ALREADY_OWNED", "pek-gen"]);
    sev(folder.path(), &["pek-gen"]).succeeds();
    assert_eq!(shown(folder.path())["owner"], "self");
    sev(folder.path(), &["provision", "other.cert", "other.key"]).succeeds();
    // A flipped bit in the certificate is the firmware's to find.
    sev(folder.path(), &["reset"]).succeeds();
    let mut oca = fs::read(folder.path().join("oca.cert")).unwrap();
    oca[4] ^= 1;
    fs::write(folder.path().join("oca.cert"), oca).unwrap();
    sev(folder.path(), &["provision", "oca.cert", "oca.key"]).refuses(&["PEK_CERT_IMPORT", "BAD_SIGNATURE"]);
}

#[test]
fn what_is_no_platform_is_named() {
    let folder = platform();
    cloister(folder.path(), ["sev", "platform", "show"]).refuses(&["sev platform create"]);
    cloister(folder.path(), ["sev", "platform", "show", "--platform", "nowhere"]).refuses(&["nowhere"]);
    let config = folder.path().join("pf/platform.toml");
    let text = fs::read_to_string(&config).unwrap().replace("present = true", "present = false");
    fs::write(&config, text).unwrap();
    sev(folder.path(), &["show"]).refuses(&["present = false"]);
}

#[test]
fn a_damaged_flash_is_the_firmwares_to_judge_and_a_damaged_identity_ours() {
    let folder = platform();
    let before = shown(folder.path());
    let file = |name: &str| folder.path().join("pf").join(name);
    let mut flash = fs::read(file("sev-flash.bin")).unwrap();
    flash[8] ^= 1;
    fs::write(file("sev-flash.bin"), flash).unwrap();
    // As on a real machine: the firmware says so until somebody resets it.
    sev(folder.path(), &["show"]).refuses(&["SECURE_DATA_INVALID", "platform reset"]);
    sev(folder.path(), &["reset"]).succeeds();
    assert_ne!(print_of(&shown(folder.path()), "PDH"), print_of(&before, "PDH"));
    let mut identity = fs::read(file("sev-identity.key")).unwrap();
    identity[20] ^= 1;
    fs::write(file("sev-identity.key"), identity).unwrap();
    sev(folder.path(), &["show"]).refuses(&["sev-identity.key"]);
}

/// The folder of `scripts/fetch-sev-peers`, if it has a program.
fn peer(program: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("CLOISTER_CACHE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cache"), PathBuf::from);
    let found = Some(cache.join("sev-peers/bin").join(program)).filter(|file| file.exists());
    if found.is_none() {
        eprintln!("{program} is not there (scripts/fetch-sev-peers fetches it): this part is not tested");
    }
    found
}

fn sevctl(program: &Path, folder: &Path, words: &[&str]) -> (bool, String) {
    let output = Command::new(program).args(words).current_dir(folder).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[test]
fn sevctl_verifies_the_export_and_refuses_a_flipped_bit() {
    let Some(program) = peer("sevctl") else { return };
    let folder = platform();
    let chain = export(folder.path(), &[]);
    sev(folder.path(), &["ca", "-o", "ca"]).succeeds();
    let verify = || sevctl(&program, folder.path(), &["verify", "--sev", "chain", "--ca", "ca/ask_ark.cert"]);
    let (good, text) = verify();
    assert!(good, "{text}");
    let mut flipped = chain;
    flipped[0x20] ^= 1;
    fs::write(folder.path().join("chain"), flipped).unwrap();
    assert!(!verify().0);
}

#[test]
fn owners_made_by_sevctl_are_ours_and_the_other_way_round() {
    let Some(program) = peer("sevctl") else { return };
    let folder = platform();
    let (good, text) = sevctl(&program, folder.path(), &["generate", "oca.cert", "oca.key"]);
    assert!(good, "{text}");
    sev(folder.path(), &["provision", "oca.cert", "oca.key"]).succeeds();
    export(folder.path(), &[]);
    sev(folder.path(), &["ca", "-o", "ca"]).succeeds();
    let verify = ["verify", "--sev", "chain", "--ca", "ca/ask_ark.cert", "--oca", "oca.cert"];
    let (good, text) = sevctl(&program, folder.path(), &verify);
    assert!(good, "{text}");

    sev(folder.path(), &["reset"]).succeeds();
    cloister(folder.path(), ["sev", "platform", "generate", "oca.cert", "oca.key", "--force"]).succeeds();
    sev(folder.path(), &["provision", "oca.cert", "oca.key"]).succeeds();
    export(folder.path(), &[]);
    let (good, text) = sevctl(&program, folder.path(), &verify);
    assert!(good, "{text}");
}

#[test]
fn a_record_is_answered_alike_by_another_platform_and_holds_no_secret() {
    let folder = platform();
    let run = |words: &[&str]| cloister(folder.path(), ["sev", "conformance"].iter().chain(words));
    run(&["--record", "all"]).succeeds();
    run(&["--replay", "all"]).succeeds();
    // A platform that stays is not made to forget its keys unless it is said so.
    let before = shown(folder.path());
    let out = run(&["--replay", "all", "--platform", "pf"]);
    assert!(out.succeeds().contains("OK: "), "{}", out.out);
    assert_eq!(shown(folder.path()), before);
    run(&["--record", "mine", "--platform", "pf", "--change-keys"]).succeeds();
    assert_ne!(print_of(&shown(folder.path()), "PEK"), print_of(&before, "PEK"));
    run(&["--replay", "mine"]).succeeds();

    let text = fs::read_to_string(folder.path().join("all")).unwrap();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let fields: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        let known =
            ["after", "before", "case", "code", "command", "inputs", "outputs", "status", "step", "left_out"];
        assert!(line["transcript"].is_string() || fields.iter().all(|field| known.contains(field)), "{line}");
    }
    let changed = text.replacen("\"BAD_MEASUREMENT\",\"code\":11", "\"SUCCESS\",\"code\":0", 1);
    fs::write(folder.path().join("changed"), changed).unwrap();
    let differs = run(&["--replay", "changed"]);
    assert_eq!(differs.status, Some(1));
    let words = "LAUNCH_START (a bit of the wrapped keys is flipped): the status: recorded \"SUCCESS\", here \"BAD_MEAS";
    assert!(differs.out.contains(words), "{}", differs.out);
    fs::write(folder.path().join("cut"), &text[..text.len() / 2]).unwrap();
    run(&["--replay", "cut"]).refuses(&["cut is no transcript"]);
    run(&["--record", "all"]).refuses(&["all"]);
    run(&[]).refuses(&["--record"]);
}

#[test]
fn the_sequence_is_the_documented_one() {
    let folder = tempfile::tempdir().unwrap();
    cloister(folder.path(), ["sev", "conformance", "--record", "all"]).succeeds();
    let text = fs::read_to_string(folder.path().join("all")).unwrap();
    let row = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
        let status = if line["left_out"].is_null() { text("status") } else { "-".into() };
        format!("| {} | {} | {} | {status} |", line["step"], text("command"), text("case"))
    };
    let rows: Vec<_> = text.lines().skip(1).map(row).collect();
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sev-conformance.md");
    let document = fs::read_to_string(document).unwrap();
    let table: Vec<_> = document
        .lines()
        .filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit())
        .collect();
    assert_eq!(table, rows);
}

#[test]
fn the_demo_of_sev_tells_the_whole_launch_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let run = cloister(folder.path(), ["demo", "sev"]);
    for line in [
        "platform: MODEL",
        "|CLOISTER DEMO FI|",
        "two pages that were equal now differ",
        "the MAC fits",
        "LAUNCH_SECRET refused: 0x0b BAD_MEASUREMENT",
        "no core runs x86-64 guests in this version",
        "firmware-altered.fd instead of firmware.fd",
    ] {
        assert!(run.succeeds().contains(line), "'{line}' is missing in:\n{}", run.out);
    }
    assert!(!run.out.contains("FAILED"), "{}", run.out);
    assert_eq!(names(folder.path()), [""; 0]);
    let json: Value =
        serde_json::from_str(cloister(folder.path(), ["demo", "sev", "--json"]).succeeds()).unwrap();
    assert_eq!((&json["ok"], &json["executed"]), (&true.into(), &false.into()));
    assert!(json["host_view"]["after"]["entropy"].as_f64().unwrap() > 7.9);
    assert!(json["host_view"]["before"]["entropy"].as_f64().unwrap() < 5.0);
    cloister(folder.path(), ["demo", "sev", "--memory-map", "map.svg"]).refuses(&["--memory-map"]);
}

/// A folder with `kept`, which the demo filled.
fn kept() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    cloister(folder.path(), ["demo", "sev", "--keep", "kept"]).succeeds();
    folder
}

#[test]
fn what_the_demo_keeps_is_verified_again_by_the_tools() {
    let folder = kept();
    let blob = fs::read_to_string(folder.path().join("kept/measurement.b64")).unwrap();
    let verify =
        ["sev", "verify", "--measurement", blob.trim(), "--firmware", "kept/firmware.fd", "--policy", "1"];
    let versions = ["--tik", "kept/vm_tik.bin", "--api-major", "1", "--api-minor", "55", "--build-id", "25"];
    cloister(folder.path(), verify.iter().chain(&versions)).succeeds();
    cloister(folder.path(), ["demo", "sev", "--keep", "kept"]).refuses(&["not empty"]);
}

/// A guest of the kept platform, with QMP on standard streams.
fn guest<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let words = "-machine q35,confidential-guest-support=sev0 -bios kept/firmware.fd -platform kept/platform -m 32 \
                 -nodefaults -display none -S -qmp stdio -object \
                 sev-guest,id=sev0,policy=1,cbitpos=51,reduced-phys-bits=1";
    words.split_whitespace().chain(more.iter().copied()).collect()
}

/// Runs the program with these lines on its standard input.
fn talk(folder: &Path, args: &[&str], lines: &[Value]) -> (Option<i32>, String) {
    use std::io::Write;
    use std::process::Stdio;
    let mut child = Command::new(env!("CARGO_BIN_EXE_cloister"))
        .args(args)
        .current_dir(folder)
        .env("HOME", folder)
        .env_remove("CLOISTER_PLATFORM")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for line in lines {
        // A program that refuses its command line reads nothing.
        let _ = writeln!(input, "{line}");
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

#[test]
fn an_injected_fault_reaches_the_firmware_and_only_the_call_that_it_names() {
    let folder = kept();
    let command = |name: &str, arguments: Value| serde_json::json!({"execute": name, "arguments": arguments});
    let packet = serde_json::json!({"packet-header": "A".repeat(70) + "==", "secret": "A".repeat(64)});
    let secret = || command("sev-inject-launch-secret", packet.clone());
    let none = || serde_json::json!({});
    let talk = |inject: &[&str], lines: &[Value]| talk(folder.path(), &guest(inject), lines);
    let lines = [command("qmp_capabilities", none()), secret(), secret(), secret(), command("quit", none())];
    let (status, text) = talk(&["-inject", "sev.launch_secret=HWERROR_PLATFORM@2"], &lines);
    assert_eq!(status, Some(0), "{text}");
    // The firmware says of garbage that its MAC is wrong (11), and once that the hardware is (19).
    let codes: Vec<_> = text.split("fw_error=").skip(1).map(|rest| rest.split_once(' ').unwrap().0).collect();
    assert_eq!(codes, ["11", "19", "11"], "{text}");

    // Whether the machine starts after that is the machine's to say; that it speaks of it is what counts here.
    for (inject, code) in [
        ("sev.launch_start=RESOURCE_LIMIT", "fw_error=23"),
        ("sev.launch_update_data=0x14@1", "fw_error=20"),
        ("sev.launch-measure=HWERROR_UNSAFE@2", "fw_error=20"),
    ] {
        let quit = [command("qmp_capabilities", none()), command("quit", none())];
        let (_, text) = talk(&["-inject", inject], &quit);
        assert!(text.contains(code), "{inject}: {text}");
    }
}

#[test]
fn faults_that_do_not_exist_are_refused_with_those_that_do() {
    let folder = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| cloister(folder.path(), words);
    let help = run(&["-inject", "help"]);
    assert!(
        help.succeeds().contains("sev.launch_secret") && help.out.contains("BAD_MEASUREMENT"),
        "{}",
        help.out
    );
    assert!(run(&["-help"]).succeeds().contains("-inject mechanism.operation=status[@n]"));
    let q35 = |inject: &str| run(&["-M", "q35", "-display", "none", "-inject", inject]);
    q35("sev.launch_secrets=5").refuses(&["sev.launch_secrets", "sev.launch_finish"]);
    q35("sev.launch_secret=HWERROR").refuses(&["HWERROR_PLATFORM"]);
    q35("sev.launch_secret=SUCCESS").refuses(&["no failure"]);
    q35("tdx.init=5").refuses(&["sev"]);
    q35("sev.init").refuses(&["MECHANISM.OPERATION=STATUS[@N]"]);
    q35("sev.init=5@0").refuses(&["sev.init=5@0"]);
    let other = run(&["-M", "s390-ccw-virtio", "-display", "none", "-inject", "sev.init=5"]);
    other.refuses(&["s390-ccw-virtio", "x86_64"]);
}
