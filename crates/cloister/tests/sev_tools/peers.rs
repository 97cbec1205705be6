//! sevctl, sev-snp-measure and virt-qemu-sev-validate against ours, in both directions.

use super::{CMDLINE, KERNEL, NONCE, PLATFORM, VERSION, folder, sev, synthetic, write_platform};
use cloister_crypto::Secret;
use cloister_formats::sev::amd_root::Generation;
use cloister_formats::sev::certificate::Certificate;
use cloister_formats::sev::measurement::Measurement;
use cloister_formats::sev::packet::PacketHeader;
use cloister_formats::sev::policy::Policy;
use cloister_formats::sev::session::Session;
use cloister_owner::sev::secret::{Packet, open};
use cloister_owner::sev::{Keys, input};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where scripts/fetch-sev-peers puts things.
fn fetched(name: &str) -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("CLOISTER_CACHE").map_or_else(|| repository.join("cache"), PathBuf::from);
    cache.join("sev-peers").join(name)
}

/// The inputs of a launch, with Debian's firmware for SEV where the release has it.
fn inputs() -> tempfile::TempDir {
    let folder = folder();
    let image = fetched("OVMF.amdsev.fd");
    if image.exists() {
        fs::copy(image, folder.path().join("ovmf.fd")).unwrap();
    }
    folder
}

/// Another program; `None`, with words, where it is not fetched.
fn peer(name: &str) -> Option<PathBuf> {
    let program = fetched("bin").join(name);
    if program.exists() {
        return Some(program.canonicalize().unwrap());
    }
    assert!(std::env::var_os("CI").is_none(), "{name} is missing; run scripts/fetch-sev-peers");
    eprintln!("skipped: {name} is missing; run scripts/fetch-sev-peers");
    None
}

fn run(program: &Path, folder: &Path, args: &[&str]) -> Output {
    Command::new(program).args(args).current_dir(folder).output().unwrap()
}

/// Succeeded, and with it what it printed.
#[track_caller]
fn says(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// A field of our JSON.
#[track_caller]
fn measured(folder: &Path, args: &[&[&str]], field: &str) -> String {
    let args: Vec<&str> =
        ["measure", "--json"].iter().chain(args.iter().copied().flatten()).copied().collect();
    let json: serde_json::Value = serde_json::from_str(sev(folder, &args).succeeds()).unwrap();
    json[field].as_str().unwrap().to_owned()
}

fn decoded(file: &Path) -> Vec<u8> {
    input::from_base64("file", &fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn sevctl_and_ours_make_sessions_that_the_platform_opens() {
    let Some(sevctl) = peer("sevctl") else { return };
    let folder = folder();
    for form in ["chain", "full"] {
        says(&run(&sevctl, folder.path(), &["session", "--name", "theirs", form, "5"]));
        sev(folder.path(), &["session", "--force", "--name", "ours", form, "5"]).succeeds();
        for name in ["theirs", "ours"] {
            let file = |suffix: &str| folder.path().join(format!("{name}_{suffix}"));
            let godh = Certificate::parse(&decoded(&file("godh.b64"))).unwrap();
            let session = decoded(&file("session.b64"));
            assert_eq!(session.len(), Session::SIZE);
            let opened = PLATFORM.open(&godh, &Session::parse(&session).unwrap(), Policy(5)).unwrap();
            assert_eq!(opened.0.to_vec(), fs::read(file("tik.bin")).unwrap(), "{name} {form}");
            assert_eq!(opened.1.to_vec(), fs::read(file("tek.bin")).unwrap(), "{name} {form}");
            // One line, no newline, in both.
            let text = fs::read_to_string(file("session.b64")).unwrap();
            assert!(!text.contains('\n') && text.len() == 172, "{name}: {text:?}");
            // Version, API, usage, algorithm, curve.
            let head: Vec<u8> =
                [1u32, 0, 0x1003, 3, 2].iter().flat_map(|field| field.to_le_bytes()).collect();
            assert_eq!(godh.as_bytes()[..0x14], head, "{name}");
            assert!(godh.slot(0).is_empty() && godh.slot(1).is_empty());
        }
        for file in ["theirs_tik.bin", "theirs_tek.bin", "theirs_godh.b64", "theirs_session.b64"] {
            fs::remove_file(folder.path().join(file)).unwrap();
        }
    }
}

#[test]
fn sevctl_builds_the_same_measurements_and_verify_accepts_them() {
    let Some(sevctl) = peer("sevctl") else { return };
    let folder = inputs();
    for cpu in ["0", "1"] {
        let file = format!("vmsa{cpu}");
        let model = ["--family", "25", "--model", "1", "--stepping", "1", "--firmware", "ovmf.fd"];
        let built: Vec<&str> = ["vmsa", "build", &file, "--cpu", cpu].into_iter().chain(model).collect();
        sev(folder.path(), &built).succeeds();
        let theirs = format!("theirs{cpu}");
        let build: Vec<&str> = ["vmsa", "build", &theirs, "--cpu", cpu, "--userspace", "qemu"]
            .into_iter()
            .chain(model)
            .collect();
        says(&run(&sevctl, folder.path(), &build));
        assert!(
            fs::read(folder.path().join(&file)).unwrap() == fs::read(folder.path().join(&theirs)).unwrap()
        );
        let shown = says(&run(&sevctl, folder.path(), &["vmsa", "show", &file]));
        assert!(shown.contains("rip"), "{shown}");
        sev(folder.path(), &["vmsa", "show", &theirs]).succeeds();
    }
    let fixed: [&str; 6] = ["--firmware", "ovmf.fd", "--tik", "tik", "--nonce", NONCE];
    let es_files = ["--policy", "5", "--num-cpus", "4", "--vmsa-cpu0", "vmsa0", "--vmsa-cpu1", "vmsa1"];
    let es_built = ["--policy", "5", "--vcpus", "4", "--cpu", "EPYC-Milan"];
    let cases: [(&[&str], &[&str], &[&str]); 4] = [
        (&["--policy", "3"], &["--policy", "3"], &[]),
        (&["--policy", "1"], &["--policy", "0x1"], &KERNEL),
        (&es_files, &es_built, &[]),
        (&es_files, &es_files, &KERNEL),
    ];
    for (theirs, ours, kernel) in cases {
        let args: Vec<&str> = ["measurement", "build"]
            .iter()
            .chain(&VERSION)
            .chain(&fixed)
            .chain(theirs)
            .chain(kernel)
            .copied()
            .collect();
        let expected = says(&run(&sevctl, folder.path(), &args));
        assert_eq!(
            measured(folder.path(), &[&VERSION, &fixed, ours, kernel], "measurement"),
            expected,
            "{ours:?}"
        );
        let verify: Vec<&str> =
            ["verify", "--firmware", "ovmf.fd", "--tik", "tik", "--measurement", &expected]
                .iter()
                .chain(&VERSION)
                .chain(ours)
                .chain(kernel)
                .copied()
                .collect();
        assert!(sev(folder.path(), &verify).succeeds().starts_with("OK"));
    }
}

#[test]
fn sevctl_trims_the_command_line_and_explain_says_so() {
    let Some(sevctl) = peer("sevctl") else { return };
    let folder = folder();
    let fixed = [
        "--firmware",
        "ovmf.fd",
        "--tik",
        "tik",
        "--policy",
        "1",
        "--kernel",
        "kernel",
        "--initrd",
        "initrd",
        "--cmdline",
        " a b ",
    ];
    let args: Vec<&str> =
        ["measurement", "build", "--nonce", NONCE].iter().chain(&VERSION).chain(&fixed).copied().collect();
    let theirs = says(&run(&sevctl, folder.path(), &args));
    let args: Vec<&str> =
        ["verify", "--measurement", &theirs].iter().chain(&VERSION).chain(&fixed).copied().collect();
    let verified = sev(folder.path(), &args);
    assert!(
        verified.status == Some(0) || verified.out.contains("without white space at its ends"),
        "{}",
        verified.out
    );
}

#[test]
fn sevctl_makes_the_same_secret_packet() {
    let Some(sevctl) = peer("sevctl") else { return };
    let folder = folder();
    let blob = input::to_base64(&[7; 48]);
    fs::write(folder.path().join("second"), [9; 100]).unwrap();
    let fixed = ["--tik", "tik", "--tek", "tek", "--launch-measure-blob", &blob, "--iv", NONCE];
    for secrets in [
        &["--secret", "736869e5-84f0-4973-92ec-06879ce3da0b:secret"][..],
        &[
            "--secret",
            "736869e5-84f0-4973-92ec-06879ce3da0b:secret",
            "--secret",
            "736869e5-aaaa-4973-92ec-06879ce3da0b:second",
        ],
    ] {
        let build = |header, payload| {
            ["secret", "build"]
                .iter()
                .chain(&fixed)
                .chain(secrets)
                .copied()
                .chain([header, payload])
                .collect::<Vec<_>>()
        };
        says(&run(&sevctl, folder.path(), &build("their-header", "their-payload")));
        let mut ours = build("our-header", "our-payload");
        ours.push("--force");
        sev(folder.path(), &ours).succeeds();
        for part in ["header", "payload"] {
            let read = |whose: &str| fs::read(folder.path().join(format!("{whose}-{part}"))).unwrap();
            assert_eq!(read("our"), read("their"), "{part}");
        }
    }
}

/// One platform of each generation of roots, accepted whole, refused with a flipped bit.
#[test]
fn sevctl_verify_accepts_a_chain_and_refuses_flipped_bits_as_ours_does() {
    let Some(sevctl) = peer("sevctl") else { return };
    let folder = folder();
    let verify = |chain: &str, ca: &str| {
        let theirs = run(&sevctl, folder.path(), &["verify", "--sev", chain, "--ca", ca]).status.success();
        let ours = sev(folder.path(), &["certs", "verify", chain, "--ca", ca]).status == Some(0);
        (theirs, ours)
    };
    assert_eq!(verify("chain", "ca"), (true, true));
    let chain = fs::read(folder.path().join("chain")).unwrap();
    // One bit in each signed body and each signature.
    let sampled =
        (0..4).flat_map(|index| [0x18, 0x80, 0x41c + 3, 0x41c + 75].map(|at| index * Certificate::SIZE + at));
    for at in sampled.chain([Certificate::SIZE + 0x61c + 8 + 20]) {
        let mut altered = chain.clone();
        altered[at] ^= 1 << (at % 8);
        fs::write(folder.path().join("altered"), altered).unwrap();
        assert_eq!(verify("altered", "ca"), (false, false), "byte {at:#x}");
    }
    let ca = fs::read(folder.path().join("ca")).unwrap();
    for at in [0x150, 0x250, 832 + 0x150, 832 + 0x250] {
        let mut altered = ca.clone();
        altered[at] ^= 4;
        fs::write(folder.path().join("altered"), altered).unwrap();
        assert_eq!(verify("chain", "altered"), (false, false), "byte {at:#x} of the CA");
    }
    let newer = synthetic::platform(Generation::Rsa4096, b"SYNTHETIC", "tools 4096");
    write_platform(folder.path(), &newer);
    assert_eq!(verify("chain", "ca"), (true, true));
}

#[test]
fn sevctl_validate_and_ours_agree_on_reports() {
    let Some(sevctl) = peer("sevctl") else { return };
    let folder = folder();
    let report = PLATFORM.report([0x40; 16], [9; 32], Policy(5)).encode();
    let both = |bytes: &[u8]| {
        fs::write(folder.path().join("report"), bytes).unwrap();
        let theirs = run(&sevctl, folder.path(), &["validate", "chain", "report"]).status.success();
        let ours =
            sev(folder.path(), &["attestation", "verify", "chain", "report", "--ca", "ca"]).status == Some(0);
        (theirs, ours)
    };
    assert_eq!(both(&report), (true, true));
    for at in [0, 0x10, 0x30, 0x40, 0x88] {
        let mut altered = report;
        altered[at] ^= 1;
        assert_eq!(both(&altered), (false, false), "byte {at:#x}");
    }
}

#[test]
fn sev_snp_measure_computes_the_same_digests() {
    let Some(measure) = peer("sev-snp-measure") else { return };
    let folder = inputs();
    let theirs = |args: &[&[&str]]| {
        let args: Vec<&str> =
            ["--ovmf", "ovmf.fd"].iter().chain(args.iter().copied().flatten()).copied().collect();
        says(&run(&measure, folder.path(), &args))
    };
    let their_kernel = ["--kernel", "kernel", "--initrd", "initrd", "--append", CMDLINE];
    let ours = |args: &[&[&str]]| {
        let mut all: Vec<&[&str]> = vec![&["--ovmf", "ovmf.fd"]];
        all.extend(args);
        measured(folder.path(), &all, "launch_digest")
    };
    assert_eq!(ours(&[]), theirs(&[&["--mode", "sev"]]));
    assert_eq!(ours(&[&KERNEL]), theirs(&[&["--mode", "sev"], &their_kernel]));
    assert_eq!(ours(&[&["--kernel", "kernel"]]), theirs(&[&["--mode", "sev", "--kernel", "kernel"]]));
    for (model, count) in
        [("EPYC-Milan", "1"), ("EPYC-v4", "4"), ("EPYC-Rome", "2"), ("EPYC-Genoa", "64"), ("EPYC-Turin", "3")]
    {
        let es = ["--policy", "5", "--vmsa", "init2", "--vcpus", count, "--vcpu-type", model];
        let their_es = ["--mode", "seves", "--vcpus", count, "--vcpu-type", model];
        assert_eq!(ours(&[&es, &KERNEL]), theirs(&[&their_es, &their_kernel]), "{model}");
        assert_eq!(ours(&[&es]), theirs(&[&their_es]), "{model}");
    }
}

#[test]
fn virt_qemu_sev_validate_accepts_our_measurements_and_its_secrets_are_ours() {
    let Some(validate) = peer("virt-qemu-sev-validate") else { return };
    let folder = inputs();
    let fixed = ["--firmware", "ovmf.fd", "--tik", "tik"];
    let cpu = ["--cpu-family", "25", "--cpu-model", "1", "--cpu-stepping", "1", "--num-cpus", "4"];
    let es: Vec<&str> = ["--policy", "5"].into_iter().chain(cpu).collect();
    for (policy, kernel) in
        [(&["--policy", "1"][..], &[][..]), (&["--policy", "1"], &KERNEL), (&es, &[]), (&es, &KERNEL)]
    {
        let measurement =
            measured(folder.path(), &[&VERSION, &fixed, &["--nonce", NONCE], policy, kernel], "measurement");
        let inject = ["--inject-secret", "luks-key:secret", "--secret-header", "h", "--secret-payload", "p"];
        let args: Vec<&str> = ["--measurement", &measurement, "--tek", "tek"]
            .iter()
            .chain(&VERSION)
            .chain(&fixed)
            .chain(policy)
            .chain(kernel)
            .chain(&inject)
            .copied()
            .collect();
        let said = says(&run(&validate, folder.path(), &args));
        assert!(said.contains("OK: Looks good to me"), "{said}");
        let keys = Keys { tik: Secret::new([0x21; 16]), tek: Secret::new([0x12; 16]) };
        let packet = Packet {
            header: PacketHeader::parse(&decoded(&folder.path().join("h"))).unwrap(),
            payload: decoded(&folder.path().join("p")),
        };
        let blob = Measurement::parse(&input::from_base64("blob", &measurement).unwrap()).unwrap();
        let table = open(&packet, &keys, &blob).unwrap();
        let secrets: Vec<_> = table.entries().map(|(_, secret)| secret.to_vec()).collect();
        assert_eq!(secrets, [b"correct horse battery staple\n".to_vec()]);

        // Save areas of the other form, or another policy, are not accepted there either.
        let wrong = args
            .iter()
            .map(|arg| if *arg == "EPYC-Milan" || *arg == "1" { "0" } else { arg })
            .collect::<Vec<_>>();
        assert_eq!(run(&validate, folder.path(), &wrong).status.code(), Some(1));
    }
    let init2 = ["--policy", "5", "--vcpus", "4", "--cpu", "EPYC-Milan", "--vmsa", "init2"];
    let measurement =
        measured(folder.path(), &[&VERSION, &fixed, &["--nonce", NONCE], &init2], "measurement");
    let args: Vec<&str> = ["--measurement", &measurement, "--tek", "tek"]
        .iter()
        .chain(&VERSION)
        .chain(&fixed)
        .chain(&es)
        .copied()
        .collect();
    assert_eq!(
        run(&validate, folder.path(), &args).status.code(),
        Some(1),
        "legacy and INIT2 differ by design"
    );
}

/// Digests of Debian's image that other programs computed; see the vectors' provenance.
#[test]
fn vectors_of_debian_s_firmware_for_sev() {
    let image = fetched("OVMF.amdsev.fd");
    if !image.exists() {
        eprintln!("skipped: this release has no ovmf-amdsev");
        return;
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../common/formats/tests/data/sev-vectors.json");
    let vectors: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let vector = &vectors["amdsev_image"];
    let digest: String =
        cloister_crypto::sha256(&fs::read(image).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
    if digest != vector["image_sha256"] {
        eprintln!("skipped: this release has another build of ovmf-amdsev than the vectors");
        return;
    }
    let folder = inputs();
    let es = ["--policy", "5", "--vcpus", "4", "--cpu", "EPYC-Milan", "--vmsa"];
    let ours = |args: &[&[&str]]| {
        let mut all: Vec<&[&str]> = vec![&["--firmware", "ovmf.fd"]];
        all.extend(args);
        measured(folder.path(), &all, "launch_digest")
    };
    assert_eq!(ours(&[&KERNEL]), vector["kernel_hashes"]["launch_digest"]);
    assert_eq!(ours(&[&es, &["legacy"]]), vector["es_4_vcpu_legacy"]["launch_digest"]);
    assert_eq!(ours(&[&es, &["init2"]]), vector["es_4_vcpu_init2"]["launch_digest"]);
}
