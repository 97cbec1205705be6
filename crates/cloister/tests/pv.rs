//! `cloister pv` as a person or a script calls it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{cloister, kernel, names, platform, printing_to, verified, with_file_limit};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn create(folder: &Path, more: &[&str]) -> common::Run {
    let fixed = ["pv", "image", "create", "-i", "kernel", "-o", "image"].map(str::to_owned);
    let more = more.iter().map(|&word| word.to_owned());
    cloister(folder, fixed.into_iter().chain(verified("machine")).chain(more))
}

#[test]
fn host_key_create_makes_a_machine_with_private_keys_of_mode_0600() {
    let folder = tempfile::tempdir().unwrap();
    let run = cloister(folder.path(), ["pv", "host-key", "create", "-o", "a/machine", "--backup-key"]);
    assert!(run.succeeds().contains("MODEL NOT IBM") && run.out.contains("protects nobody"), "{}", run.out);
    let machine = folder.path().join("a/machine");
    for key in ["host.key", "backup.key"] {
        assert_eq!(fs::metadata(machine.join(key)).unwrap().permissions().mode() & 0o777, 0o600, "{key}");
    }
    for file in ["host.crt", "signing.crt", "root-ca.crt", "signing.crl", "root-ca.crl", "platform.toml"] {
        assert!(machine.join(file).exists(), "{file}");
    }
}

#[test]
fn host_key_create_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let machine = platform(folder.path(), "machine");
    let before = fs::read(machine.join("host.key")).unwrap();
    cloister(folder.path(), ["pv", "host-key", "create", "-o", "machine"])
        .refuses(&["host.key", "never overwritten"]);
    assert_eq!(fs::read(machine.join("host.key")).unwrap(), before);
}

#[test]
fn host_key_show_prints_json_and_refuses_what_is_no_machine() {
    let folder = tempfile::tempdir().unwrap();
    platform(folder.path(), "machine");
    let run = cloister(folder.path(), ["pv", "host-key", "show", "machine", "--json"]);
    let json: Value = serde_json::from_str(run.succeeds()).unwrap();
    assert_eq!(json["model"], true);
    assert_eq!(json["certificates"][0]["host_key_hash"].as_str().unwrap().len(), 64);
    cloister(folder.path(), ["pv", "host-key", "show", "."])
        .refuses(&["no model machine", "host-key create"]);
    cloister(folder.path(), ["pv", "host-key", "show", "nowhere"]).refuses(&["nowhere"]);
}

#[test]
fn image_create_then_inspect_and_test_agree() {
    let folder = tempfile::tempdir().unwrap();
    platform(folder.path(), "machine");
    platform(folder.path(), "other");
    kernel(folder.path());
    fs::write(folder.path().join("key"), [7; 32]).unwrap();
    fs::set_permissions(folder.path().join("key"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(folder.path().join("parm"), "console=ttysclp0").unwrap();

    let run = create(folder.path(), &["--hdr-key", "key", "-p", "parm", "-r", "kernel", "--json"]);
    let made: Value = serde_json::from_str(run.succeeds()).unwrap();
    assert!(run.err.contains("MODEL, NOT IBM"), "{}", run.err);

    let run = cloister(folder.path(), ["pv", "image", "inspect", "image", "--hdr-key", "key", "--json"]);
    let seen: Value = serde_json::from_str(run.succeeds()).unwrap();
    assert_eq!(seen["header_tag"], made["header_tag"]);
    assert_eq!(seen["host_key_hashes"], made["host_key_hashes"]);
    assert_eq!(seen["encrypted_pages"], made["encrypted_pages"]);
    let kinds: Vec<_> =
        seen["components"].as_array().unwrap().iter().map(|part| part["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["kernel", "ramdisk", "command line", "protected loader"]);
    let good = serde_json::json!({"pages": true, "addresses": true, "tweaks": true, "page_count": true});
    assert_eq!(seen["digests_fit"], good);
    assert!(seen["opened"]["psw_address"].is_string());

    let test = |document: &str| cloister(folder.path(), ["pv", "image", "test", "image", "-k", document]);
    assert!(test("machine/host.crt").succeeds().contains("can run here"));
    test("other/host.crt").refuses(&["names none of these host keys"]);
}

#[test]
fn image_inspect_sees_a_flipped_bit() {
    let folder = tempfile::tempdir().unwrap();
    platform(folder.path(), "machine");
    kernel(folder.path());
    create(folder.path(), &[]).succeeds();
    let image = folder.path().join("image");
    let mut bytes = fs::read(&image).unwrap();
    bytes[0x16000] ^= 1;
    fs::write(&image, bytes).unwrap();
    let run = cloister(folder.path(), ["pv", "image", "inspect", "image"]);
    assert!(run.succeeds().contains("pages DOES NOT FIT"), "{}", run.out);
}

#[test]
fn pairs_of_switches_take_the_last_word() {
    let folder = tempfile::tempdir().unwrap();
    platform(folder.path(), "machine");
    kernel(folder.path());
    let flags = |more: &[&str]| {
        let run = create(folder.path(), &[&["--overwrite", "--json"], more].concat());
        let json: Value = serde_json::from_str(run.succeeds()).unwrap();
        json["plaintext_control_flags"].as_str().unwrap().to_owned()
    };
    assert_eq!(flags(&[]), "0x00000000000000e0");
    assert_eq!(flags(&["--disable-pckmo"]), "0x0000000000000000");
    assert_eq!(flags(&["--disable-pckmo", "--enable-pckmo"]), "0x00000000000000e0");
    assert_eq!(flags(&["--x-pcf", "0x1234"]), "0x0000000000001234");
}

#[test]
fn image_create_refuses_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    platform(folder.path(), "machine");
    kernel(folder.path());
    fs::write(folder.path().join("short"), [0; 31]).unwrap();
    fs::write(folder.path().join("elf"), b"\x7fELF and more").unwrap();
    fs::write(folder.path().join("empty"), b"").unwrap();
    let before = names(folder.path());
    let refuse = |args: &[&str], words: &[&str]| {
        let fixed = ["pv", "image", "create", "-o", "image"];
        cloister(folder.path(), fixed.iter().chain(args)).refuses(words);
        assert_eq!(names(folder.path()), before, "{args:?}");
    };
    let document = "machine/host.crt";
    refuse(&["-i", "kernel"], &["--host-key-document"]);
    refuse(&["-k", document], &["--kernel"]);
    refuse(&["-k", document, "-i", "kernel"], &["none of the -C certificates"]);
    refuse(&["-k", document, "-i", "kernel", "--no-verify", "-C", "machine/signing.crt"], &["--no-verify"]);
    refuse(&["-k", "kernel", "-i", "kernel", "--no-verify"], &["kernel", "X.509"]);
    refuse(&["-k", "nowhere", "-i", "kernel", "--no-verify"], &["nowhere", "No such file"]);
    refuse(&["-k", document, "-i", "nowhere", "--no-verify"], &["nowhere", "No such file"]);
    refuse(&["-k", document, "-i", ".", "--no-verify"], &["cannot read .: is a directory"]);
    refuse(&["-k", document, "-i", "elf", "--no-verify"], &["ELF"]);
    refuse(&["-k", document, "-i", "empty", "--no-verify"], &["S390EP"]);
    refuse(&["-k", document, "-i", "kernel", "--no-verify", "--cck", "short"], &["exactly 32 bytes"]);
    refuse(&["-k", document, "-i", "kernel", "--no-verify", "--enable-dump"], &["--enable-dump needs --cck"]);
    refuse(&["-k", document, "-i", "kernel", "--no-verify", "--x-pcf", "zero"], &["0x..."]);
    refuse(&["-k", document, "-i", "kernel", "--no-verify", "-o", "no/such/folder"], &["--output"]);
}

#[test]
fn image_create_replaces_only_when_told() {
    let folder = tempfile::tempdir().unwrap();
    platform(folder.path(), "machine");
    kernel(folder.path());
    fs::write(folder.path().join("image"), b"precious").unwrap();
    create(folder.path(), &[]).refuses(&["image exists", "--overwrite"]);
    assert_eq!(fs::read(folder.path().join("image")).unwrap(), b"precious");
    create(folder.path(), &["--overwrite"]).succeeds();
}

#[test]
fn a_full_disk_leaves_nothing_half_written() {
    let folder = tempfile::tempdir().unwrap();
    platform(folder.path(), "machine");
    kernel(folder.path());
    let before = names(folder.path());
    let image = "pv image create --no-verify -k machine/host.crt -i kernel -o image";
    with_file_limit(folder.path(), 64, image).refuses(&["cannot write image"]);
    assert_eq!(names(folder.path()), before);
    with_file_limit(folder.path(), 1, "pv host-key create -o new").refuses(&["cannot write new/"]);
    assert_eq!(names(folder.path()), before);
}

#[test]
fn a_full_standard_output_is_a_failure_and_a_closed_one_is_none() {
    let folder = tempfile::tempdir().unwrap();
    platform(folder.path(), "machine");
    let show = ["pv", "host-key", "show", "machine"];
    let full = File::options().write(true).open("/dev/full").unwrap();
    printing_to(folder.path(), full.into(), &show).refuses(&["standard output", "No space left"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(printing_to(folder.path(), writer.into(), &show).status, Some(0));
}

#[test]
fn truncated_images_are_refused_or_described_without_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    platform(folder.path(), "machine");
    kernel(folder.path());
    create(folder.path(), &[]).succeeds();
    let whole = fs::read(folder.path().join("image")).unwrap();
    for size in [0, 1, 0xc000, 0x14000, 0x14010, 0x14200, 0x15000, whole.len() - 1] {
        fs::write(folder.path().join("cut"), &whole[..size]).unwrap();
        let run = cloister(folder.path(), ["pv", "image", "inspect", "cut"]);
        assert!(matches!(run.status, Some(0 | 1)) && !run.err.contains("panicked"), "{size}: {}", run.err);
        assert_eq!(run.status == Some(1), !run.err.is_empty(), "{size}: {}", run.err);
    }
}

#[test]
fn bad_subcommands_end_with_status_1_and_a_message() {
    let folder = tempfile::tempdir().unwrap();
    for words in [&["nonsense"][..], &["pv"], &["pv", "image"], &["pv", "host-key", "create"]] {
        let run = cloister(folder.path(), words);
        run.refuses(&["Usage"]);
    }
    cloister(folder.path(), ["demo", "pef"]).refuses(&["invalid value 'pef'", "pv"]);
    cloister(folder.path(), [""; 0]).refuses(&["help"]);
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn help_lists_the_subcommands_and_how_a_machine_is_started() {
    let folder = tempfile::tempdir().unwrap();
    for words in [["help"], ["--help"]] {
        let run = cloister(folder.path(), words);
        for word in ["demo", "pv", "-machine s390-ccw-virtio", "qemu-system-s390x"] {
            assert!(run.succeeds().contains(word), "{word}");
        }
    }
    assert!(cloister(folder.path(), ["help", "pv", "image", "create"]).succeeds().contains("--enable-dump"));
}
