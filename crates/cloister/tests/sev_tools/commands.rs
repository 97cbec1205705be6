//! Options, texts, files and statuses.

use super::{KERNEL, NONCE, PLATFORM, VERSION, folder, roots, sev, synthetic};
use cloister_formats::sev::amd_root::Generation;
use cloister_formats::sev::policy::Policy;
use cloister_owner::sev::input;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn json(run: &super::common::Run) -> Value {
    serde_json::from_str(&run.out).unwrap()
}

fn measurement(folder: &Path, more: &[&str]) -> String {
    let fixed = ["measure", "--json", "--firmware", "ovmf.fd", "--tik", "tik", "--nonce", NONCE];
    let args: Vec<&str> = fixed.iter().chain(&VERSION).chain(more).copied().collect();
    let run = sev(folder, &args);
    run.succeeds();
    json(&run)["measurement"].as_str().unwrap().to_owned()
}

#[test]
fn session_writes_four_files_keeps_keys_private_and_overwrites_nothing() {
    let folder = folder();
    let session = |more: &[&str]| {
        let args: Vec<&str> = ["session", "chain", "0x5", "--ca", "ca"].iter().chain(more).copied().collect();
        sev(folder.path(), &args)
    };
    let run = session(&[]);
    assert_eq!((run.succeeds(), run.err.as_str()), ("", ""));
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
    for (name, size, private) in [
        ("vm_tik.bin", 16, true),
        ("vm_tek.bin", 16, true),
        ("vm_godh.b64", 2780, false),
        ("vm_session.b64", 172, false),
    ] {
        assert_eq!(fs::read(folder.path().join(name)).unwrap().len(), size, "{name}");
        assert_eq!(mode(name) & 0o077 == 0, private, "{name}");
    }
    let before = fs::read(folder.path().join("vm_tik.bin")).unwrap();
    session(&[]).refuses(&["vm_tik.bin exists", "--force"]);
    assert_eq!(fs::read(folder.path().join("vm_tik.bin")).unwrap(), before);
    session(&["--force", "--json"]).succeeds();
    assert_ne!(fs::read(folder.path().join("vm_tik.bin")).unwrap(), before);
}

#[test]
fn session_takes_a_bare_pdh_with_a_warning_and_refuses_altered_chains_and_policies() {
    let folder = folder();
    let pdh = PLATFORM.chain.pdh.as_ref().unwrap().encode();
    fs::write(folder.path().join("pdh.b64"), input::to_base64(&pdh)).unwrap();
    let run = sev(folder.path(), &["session", "pdh.b64", "1"]);
    run.succeeds();
    assert!(run.err.contains("PDH without its chain"), "{}", run.err);
    let run = sev(folder.path(), &["session", "--name", "b", "chain", "1"]);
    run.succeeds();
    assert!(run.err.contains("not verified up to a root") && run.err.contains("--ca"), "{}", run.err);

    let mut chain = fs::read(folder.path().join("chain")).unwrap();
    chain[0x20] ^= 1;
    fs::write(folder.path().join("altered"), chain).unwrap();
    sev(folder.path(), &["session", "--name", "c", "altered", "1"])
        .refuses(&["altered", "PDH signed by PEK"]);
    fs::write(folder.path().join("pek"), PLATFORM.chain.pek.as_ref().unwrap().encode()).unwrap();
    sev(folder.path(), &["session", "--name", "c", "pek", "1"]).refuses(&["pek holds no PDH"]);
    sev(folder.path(), &["session", "--name", "c", "nowhere", "1"]).refuses(&["cannot open nowhere"]);
    for policy in ["0x40", "junk"] {
        let run = sev(folder.path(), &["session", "--name", "c", "chain", policy]);
        assert!(run.status == Some(1) && run.err.contains("policy"), "{}", run.err);
    }
    let run = sev(folder.path(), &["session", "--name", "d", "chain", "0xff010000"]);
    assert!(run.err.contains("POLICY_FAILURE"), "{}", run.err);
    assert!(!super::common::names(folder.path()).iter().any(|name| name.starts_with("c_")));
}

#[test]
fn a_model_s_chain_needs_its_root_or_the_permission_and_is_announced() {
    let folder = folder();
    let model = synthetic::platform(Generation::Rsa2048, b"CLOISTER-MODEL-", "tools model");
    super::write_platform(folder.path(), &model);
    fs::write(folder.path().join("amd-ca"), roots(&PLATFORM.chain).encode_amd()).unwrap();
    let verify = |args: &[&str]| {
        let args: Vec<&str> = ["certs", "verify", "full"].iter().chain(args).copied().collect();
        sev(folder.path(), &args)
    };
    let refused = |run: &super::common::Run, words: &str| {
        assert!(
            run.status == Some(1) && run.out.contains("REFUSED") && run.out.contains(words),
            "{}",
            run.out
        );
    };
    refused(&verify(&[]), "MODEL");
    refused(&verify(&["--ca", "amd-ca"]), "CEK signed by ASK");
    refused(&verify(&["--ca", "amd-ca", "--allow-model-root"]), "CEK signed by ASK");
    for accepted in [&["--ca", "ca"][..], &["--allow-model-root"]] {
        let run = verify(accepted);
        assert!(run.succeeds().contains("OK") && run.err.contains("MODEL, NOT AMD"), "{}", run.err);
    }
    sev(folder.path(), &["session", "full", "1"]).refuses(&["MODEL", "--allow-model-root"]);
    let run = sev(folder.path(), &["session", "full", "1", "--allow-model-root"]);
    assert!(run.succeeds().is_empty() && run.err.contains("MODEL, NOT AMD"), "{}", run.err);
    let run = sev(folder.path(), &["certs", "show", "full"]);
    assert!(run.succeeds().contains("MODEL, NOT AMD"));
    let answer = json(&verify(&["--ca", "ca", "--json"]));
    assert_eq!((&answer["trusted"], &answer["model"]), (&Value::from(true), &Value::from(true)));
    assert_eq!(answer["links"].as_array().unwrap().len(), 7);
}

#[test]
fn a_ca_without_a_root_and_a_foreign_cek_are_refused() {
    let folder = folder();
    sev(folder.path(), &["certs", "verify", "chain", "--ca", "chain"]).refuses(&["chain holds no ARK"]);
    let other = synthetic::platform(Generation::Rsa2048, b"OTHER", "tools other");
    fs::write(folder.path().join("cek"), other.chain.cek.unwrap().encode()).unwrap();
    sev(folder.path(), &["certs", "verify", "chain", "--ca", "ca", "--cek", "cek"])
        .refuses(&["another chip"]);
    let mut unsigned = PLATFORM.chain.clone();
    unsigned.cek.as_mut().unwrap().clear_slots();
    fs::write(folder.path().join("exported"), unsigned.encode_platform()).unwrap();
    let run = sev(folder.path(), &["certs", "verify", "exported", "--ca", "ca"]);
    assert!(run.status == Some(1) && run.out.contains("--cek"), "{}", run.out);
    fs::write(folder.path().join("cek"), PLATFORM.chain.cek.as_ref().unwrap().encode()).unwrap();
    sev(folder.path(), &["certs", "verify", "exported", "--ca", "ca", "--cek", "cek"]).succeeds();
}

#[test]
fn measure_prints_every_part_with_its_name() {
    let folder = folder();
    let es = ["--policy", "5", "--vcpus", "4", "--cpu", "EPYC-Milan"];
    let args: Vec<&str> =
        ["measure", "--firmware", "ovmf.fd"].iter().chain(&KERNEL).chain(&es).copied().collect();
    let run = sev(folder.path(), &args);
    for words in [
        "firmware ovmf.fd",
        "table of kernel hashes",
        "command line \"console=ttyS0 root=/dev/vda\" and a NUL",
        "initrd initrd",
        "kernel kernel",
        "save area of CPU 0 (legacy, signature 0xa00f11)",
        "the same for each CPU up to 3",
        "policy 0x00000005 (NODBG, ES;",
        "launch digest",
    ] {
        assert!(run.succeeds().contains(words), "{words} is missing in\n{}", run.out);
    }
    let run = sev(folder.path(), &[&args[..], &["--json"]].concat());
    let (answer, text) = (json(&run), run.succeeds());
    assert_eq!(answer["parts"].as_array().unwrap().len(), 6, "{text}");
    assert_eq!(answer["parts"][5]["digest_after"], answer["launch_digest"]);
    assert!(answer["measurement"].is_null());
    let given = answer["launch_digest"].as_str().unwrap();
    let digest =
        ["measure", "--json", "--launch-digest", given, "--tik", "tik", "--nonce", NONCE, "--policy", "5"];
    let run = sev(folder.path(), &digest.iter().chain(&VERSION).copied().collect::<Vec<_>>());
    run.succeeds();
    assert_eq!(json(&run)["measurement"], measurement(folder.path(), &[&KERNEL[..], &es].concat()));
}

#[test]
fn measure_says_which_input_is_missing() {
    let folder = folder();
    let measure = |args: &[&str]| {
        let args: Vec<&str> = ["measure"].iter().chain(args).copied().collect();
        sev(folder.path(), &args)
    };
    measure(&["--firmware", "nowhere.fd"]).refuses(&["nowhere.fd"]);
    measure(&["--firmware", "ovmf.fd", "--policy", "5"]).refuses(&["ES bit", "--cpu MODEL"]);
    measure(&["--firmware", "ovmf.fd", "--policy", "5", "--cpu", "Opteron"])
        .refuses(&["Opteron", "EPYC-Milan"]);
    measure(&["--firmware", "ovmf.fd", "--tik", "tik"]).refuses(&["--nonce"]);
    measure(&["--firmware", "ovmf.fd", "--tik", "tik", "--nonce", NONCE]).refuses(&["--api-major"]);
    measure(&["--firmware", "ovmf.fd", "--nonce", NONCE]).refuses(&["--tik"]);
    measure(&["--firmware", "ovmf.fd", "--tik", "kernel", "--nonce", NONCE])
        .refuses(&["kernel has 100000 bytes", "16"]);
    measure(&["--firmware", "ovmf.fd", "--tik", "tik", "--nonce", "AAAA"])
        .refuses(&["--nonce has 3 bytes", "16"]);
    measure(&["--firmware", "ovmf.fd", "--initrd", "initrd"]).refuses(&["--kernel"]);
    fs::write(folder.path().join("bare.fd"), [0; 8192]).unwrap();
    measure(&["--firmware", "bare.fd", "--kernel", "kernel"]).refuses(&[
        "bare.fd",
        "hashes table GUID",
        "AmdSev",
    ]);
    let run = measure(&["--firmware", "ovmf.fd", "--vcpus", "4"]);
    assert!(run.succeeds().contains("digest") && run.err.contains("no ES bit"), "{}", run.err);
}

#[test]
fn verify_explains_a_mismatch_and_its_status_tells() {
    let folder = folder();
    let es = ["--policy", "5", "--vcpus", "2", "--cpu", "EPYC-Milan"];
    let made = measurement(folder.path(), &[&KERNEL[..], &es].concat());
    let verify = |more: &[&str]| {
        let fixed = ["verify", "--tik", "tik", "--tek", "tek", "--measurement", &made];
        let args: Vec<&str> = fixed.iter().chain(&VERSION).chain(more).copied().collect();
        sev(folder.path(), &args)
    };
    let run = verify(&[&["--firmware", "ovmf.fd"], &KERNEL[..], &es].concat());
    assert!(run.succeeds().starts_with("OK"));
    let differs = |more: &[&str], words: &str| {
        let run = verify(more);
        assert_eq!(run.status, Some(1), "{}", run.err);
        assert!(
            run.out.starts_with("MISMATCH") && run.out.contains(words),
            "{words} is missing in\n{}",
            run.out
        );
    };
    let with = |policy, cpus, model| ["--policy", policy, "--vcpus", cpus, "--cpu", model];
    let fd = ["--firmware", "ovmf.fd"];
    differs(&[&fd, &KERNEL[..], &with("1", "2", "EPYC-Milan")].concat(), "policy: 0x00000005");
    differs(&[&fd, &KERNEL[..], &with("5", "8", "EPYC-Milan")].concat(), "number of vCPUs: 2");
    differs(&[&fd, &KERNEL[..], &with("5", "2", "EPYC-Rome")].concat(), "legacy form for EPYC-Milan");
    differs(&[&fd, &KERNEL[..], &es, &["--vmsa", "init2"]].concat(), "use --vmsa legacy");
    differs(
        &[&fd, &KERNEL[..4], &["--cmdline", "console=ttyS0 root=/dev/vda "], &es].concat(),
        "without white space",
    );
    fs::write(folder.path().join("other.fd"), synthetic::firmware(0x1_0000, "other")).unwrap();
    let also = [&["--firmware", "other.fd", "--also", "ovmf.fd"], &KERNEL[..], &es].concat();
    differs(&also, "firmware: ovmf.fd");
    differs(&[&["--firmware", "other.fd"], &KERNEL[..], &es].concat(), "None of the usual differences");
    let run = verify(&[&fd, &KERNEL[..], &with("7", "2", "EPYC-Milan"), &["--json"]].concat());
    let answer = json(&run);
    assert_eq!((run.status, &answer["matches"]), (Some(1), &Value::from(false)));
    assert_eq!(answer["explanations"][0][0]["input"], "policy");
}

#[test]
fn secret_build_prints_no_secret_and_names_what_is_wrong() {
    let folder = folder();
    let blob = input::to_base64(&[7; 48]);
    fs::write(folder.path().join("blob"), [7; 48]).unwrap();
    let build = |more: &[&str]| {
        let fixed = ["secret", "build", "--tik", "tik", "--tek", "tek", "h", "p"];
        let args: Vec<&str> = fixed.iter().chain(more).copied().collect();
        sev(folder.path(), &args)
    };
    let run =
        build(&["--launch-measure-blob", &blob, "--secret", "disk-password:secret", "--base64", "--json"]);
    assert_eq!(json(&run)["entries"][0]["guid"], "736869e5-84f0-4973-92ec-06879ce3da0b");
    assert!(!format!("{}{}", run.out, run.err).contains("horse"));
    assert_eq!(fs::read_to_string(folder.path().join("h")).unwrap().len(), 72);
    build(&["--launch-measure-blob", "blob", "--secret", "disk-password:secret"])
        .refuses(&["h exists", "--force"]);
    let refused = |secret: &str, words: &[&str]| {
        build(&["--force", "--launch-measure-blob", &blob, "--secret", secret]).refuses(words);
    };
    refused("secret", &["GUID:FILE"]);
    refused("disk:secret", &["\"disk\"", "disk-password"]);
    refused("disk-password:nowhere", &["nowhere"]);
    refused("disk-password:kernel", &["kernel", "20480"]);
    build(&["--force", "--launch-measure-blob", "AAAA", "--secret", "disk-password:secret"])
        .refuses(&["--launch-measure-blob has 3 bytes", "48"]);
}

#[test]
fn attestation_verify_checks_what_the_report_says() {
    let folder = folder();
    let report = PLATFORM.report([0x40; 16], [9; 32], Policy(5)).encode();
    fs::write(folder.path().join("report"), input::to_base64(&report)).unwrap();
    let verify = |more: &[&str]| {
        let fixed = ["attestation", "verify", "chain", "report", "--ca", "ca"];
        let args: Vec<&str> = fixed.iter().chain(more).copied().collect();
        sev(folder.path(), &args)
    };
    let (mnonce, digest) = (input::to_base64(&[0x40; 16]), "09".repeat(32));
    let run = verify(&["--mnonce", &mnonce, "--launch-digest", &digest, "--policy", "5", "--json"]);
    assert_eq!((json(&run)["fresh"].clone(), run.err.as_str()), (Value::from(true), ""));
    assert!(verify(&[]).err.contains("old report"));
    verify(&["--mnonce", NONCE]).refuses(&["report", "mnonce"]);
    verify(&["--mnonce", &mnonce, "--launch-digest", &"08".repeat(32)]).refuses(&["launch digest differs"]);
    verify(&["--mnonce", &mnonce, "--policy", "1"]).refuses(&["policy"]);
    sev(folder.path(), &["attestation", "verify", "chain", "kernel"])
        .refuses(&["kernel has 100000 bytes", "208"]);
}

#[test]
fn ovmf_show_and_vmsa_show_in_words_and_json() {
    let folder = folder();
    let answer = json(&sev(folder.path(), &["ovmf", "show", "ovmf.fd", "--json"]));
    assert_eq!(answer["reset_address"], 0x80b004);
    assert_eq!(answer["secret_area"], serde_json::json!({"base": 0x810000, "size": 0xc00}));
    assert_eq!(answer["kernel_hashes_possible"], true);
    assert!(
        sev(folder.path(), &["ovmf", "show", "ovmf.fd"])
            .succeeds()
            .contains("SEV-ES reset address   0x80b004")
    );
    assert!(sev(folder.path(), &["ovmf", "show", "kernel"]).succeeds().contains("no table of GUIDs"));
    let build = ["vmsa", "build", "area", "--cpu", "3", "--vcpu-type", "EPYC-v4", "--firmware", "ovmf.fd"];
    sev(folder.path(), &[&build[..], &["--vmsa", "init2"]].concat()).succeeds();
    sev(folder.path(), &build).refuses(&["area exists"]);
    let answer = json(&sev(folder.path(), &["vmsa", "show", "area", "--json"]));
    let registers = &answer["registers"];
    assert_eq!((&registers["rdx"], &registers["mxcsr"]), (&Value::from(0x800f12), &Value::from(0x1f80)));
    assert_eq!((&registers["cs"]["base"], &registers["rip"]), (&Value::from(0x800000), &Value::from(0xb004)));
    assert!(sev(folder.path(), &["vmsa", "show", "area"]).succeeds().contains("rip"));
    sev(folder.path(), &["vmsa", "show", "tik"]).refuses(&["tik", "4096"]);
}

/// Debian's images, where they are installed.
#[test]
fn debian_s_ordinary_firmware_has_no_area_for_hashes() {
    let image = "/usr/share/OVMF/OVMF_CODE_4M.fd";
    if !Path::new(image).exists() {
        eprintln!("skipped: {image} is missing; install ovmf");
        return;
    }
    let folder = folder();
    let answer = json(&sev(folder.path(), &["ovmf", "show", image, "--json"]));
    assert_eq!(answer["kernel_hashes_possible"], false);
    let run = sev(folder.path(), &["measure", "--firmware", image, "--kernel", "kernel"]);
    run.refuses(&[image, "hashes table area is invalid (base=0x0 size=0x0)"]);
}
