//! From the owner to an unmodified distribution guest and back: attestation and secrets through /dev/uv, with the
//! tools that their users call.
//!
//! The kernel and its modules come from `scripts/fetch-s390x-guests`. Without them these tests print a notice and
//! pass, unless `CI` is set.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "each test binary uses a part of it")]
mod common;

use common::{Run, cloister, platform, verified};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What the guest does: every step leaves its exit status and its messages in the archive that comes back.
const INIT: &str = r#"#!/bin/sh
export PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
busybox insmod /m/virtio_blk.ko
busybox insmod /m/uvdevice.ko
tries=0
while [ ! -e /dev/vdb ] && [ "$tries" -lt 50 ]; do busybox usleep 100000; tries=$((tries + 1)); done
busybox mkdir -p /in /out
busybox tar xf /dev/vda -C /in
cd /in
echo "prot_virt_guest $(busybox cat /sys/firmware/uv/prot_virt_guest)"
step() {
    name=$1
    shift
    uvdevice "$@" 2>/out/$name.txt
    echo $? >/out/$name.rc
    echo "STEP $name $(busybox cat /out/$name.rc) $(busybox cat /out/$name.txt)"
}
step attest attest request /out/answer user
step attest-plain attest request /out/answer-plain
step foreign attest foreign /out/nothing
step garbage attest user /out/nothing
step add add secret
step add-plain add secret-plain
step again add secret
step other-image add secret-other
step other-machine add secret-foreign
step list list /out/list
step locked-later attest request-store /out/answer-open
step lock lock
step lock-again lock
step add-locked add secret-late
step attest-store attest request-store /out/answer-store
step fetch retrieve 1 /out/fetched
busybox tar cf /dev/vdb -C / out
busybox sync
echo TEST-END
busybox poweroff -f
"#;

#[test]
fn attestation_and_secrets_travel_from_the_owner_to_a_debian_guest_and_back() {
    let Some(guests) = guests() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    platform(folder.path(), "machine");
    platform(folder.path(), "other");
    ok(&cloister(folder.path(), ["pv", "guest-tool", "-o", "uvdevice"]));
    fs::write(at("initramfs"), initramfs(&guests, &fs::read(at("uvdevice")).unwrap())).unwrap();
    image(folder.path(), &guests, "image", "console=ttysclp0 panic=-1");
    image(folder.path(), &guests, "other-image", "console=ttysclp0 panic=-1 quiet");

    // The owner's requests.
    fs::write(at("user"), "a nonce of the guest's").unwrap();
    fs::write(at("disk-key"), "the key of the guest's disk").unwrap();
    let attest = |machine: &str, name: &str, items: &str| {
        let more = ["-o", name, "-a", &format!("{name}.key"), "--add-data", items].map(str::to_owned);
        let words = ["pv", "attest", "create"].map(str::to_owned).into_iter();
        cloister(folder.path(), words.chain(verified(machine)).chain(more))
    };
    let made = attest("machine", "request", "phkh-img,phkh-att");
    assert!(made.err.contains("MODEL, NOT IBM"), "{}", made.err);
    ok(&made);
    ok(&attest("machine", "request-store", "secret-store-hash"));
    ok(&attest("other", "foreign", "phkh-img"));
    let secret = |machine: &str, image: &str, name: &str, kind: &[&str]| {
        let words = ["pv", "secret", "create", "--hdr", image, "-o", name].map(str::to_owned).into_iter();
        let kind = kind.iter().map(|&word| word.to_owned());
        ok(&cloister(folder.path(), words.chain(verified(machine)).chain(kind)));
    };
    let association = ["association", "CARD", "--output-secret", "card"];
    secret("machine", "image", "secret", &association);
    let plain = ["retrievable", "DISK", "--secret", "disk-key", "--type", "plain"];
    secret("machine", "image", "secret-plain", &plain);
    secret("machine", "other-image", "secret-other", &["meta"]);
    secret("other", "image", "secret-foreign", &["meta"]);
    secret("machine", "image", "secret-late", &["meta"]);
    let inspected = cloister(folder.path(), ["pv", "secret", "inspect", "secret-plain", "--hdr", "image"]);
    assert!(ok(&inspected).contains("plaintext (0x3), 32 bytes"), "{}", inspected.out);
    cloister(folder.path(), ["pv", "secret", "inspect", "secret-plain", "--hdr", "other-image"])
        .refuses(&["for another image"]);

    // The guest.
    let sent = ["user", "request", "request-store", "foreign", "secret", "secret-plain", "secret-other"];
    let sent = sent.into_iter().chain(["secret-foreign", "secret-late"]);
    fs::write(at("in.tar"), tar(sent.map(|name| (name, fs::read(at(name)).unwrap())))).unwrap();
    fs::write(at("out.tar"), vec![0; 4 << 20]).unwrap();
    let run = cloister(
        folder.path(),
        [
            "-machine",
            "s390-ccw-virtio,confidential-guest-support=pv0",
            "-object",
            "s390-pv-guest,id=pv0",
            "-platform",
            "machine",
            "-nographic",
            "-m",
            "512",
            "-kernel",
            "image",
            "-drive",
            "file=in.tar,if=virtio,format=raw,readonly=on",
            "-drive",
            "file=out.tar,if=virtio,format=raw",
        ],
    );
    assert!(
        ok(&run).contains("prot_virt_guest 1") && run.out.contains("TEST-END"),
        "{}\n{}",
        run.out,
        run.err
    );
    let back = untar(&fs::read(at("out.tar")).unwrap());
    for (name, bytes) in &back {
        fs::write(at(&format!("back-{name}")), bytes).unwrap();
    }
    let step = |name: &str| {
        let text = |end: &str| String::from_utf8_lossy(&back[&format!("{name}.{end}")]).trim().to_owned();
        (text("rc"), text("txt"))
    };
    for name in ["attest", "attest-plain", "add", "add-plain", "list", "locked-later", "lock", "attest-store"]
    {
        assert_eq!(step(name), ("0".into(), String::new()), "{name}");
    }
    for (name, codes) in [
        ("foreign", "rc 0x010c rrc 0x0001"),
        ("again", "rc 0x010c rrc 0x0004"),
        ("other-image", "rc 0x010c rrc 0x0001"),
        ("other-machine", "rc 0x0108 rrc 0x0001"),
        ("lock-again", "rc 0x0102"),
        ("add-locked", "rc 0x0102"),
    ] {
        let (status, text) = step(name);
        assert!(
            status == "2" && text.contains("the Ultravisor refused") && text.contains(codes),
            "{name}: {text}"
        );
    }
    let (status, text) = step("garbage");
    assert!(status == "1" && text.contains("no exchange file"), "{text}");
    assert!(back.keys().all(|name| name != "nothing"), "a refused request leaves no answer");
    // Linux 6.12 has no call for it; a newer one has.
    let (status, text) = step("fetch");
    match status.as_str() {
        "0" => assert_eq!(back["fetched"], fs::read(at("disk-key")).unwrap()),
        _ => assert!(text.contains("Linux did not pass the call on (error 25)"), "{text}"),
    }

    // The owner again.
    let verify = |answer: &str, image: &str, key: &str| {
        cloister(
            folder.path(),
            [
                "pv",
                "attest",
                "verify",
                "-i",
                answer,
                "--hdr",
                image,
                "-a",
                key,
                "-o",
                "result.yaml",
                "-u",
                "measured",
            ],
        )
    };
    let good = verify("back-answer", "image", "request.key");
    assert!(
        ok(&good).starts_with("cuid: '0x") && good.err.contains("the guest is this image"),
        "{}",
        good.err
    );
    assert_eq!(fs::read(at("measured")).unwrap(), fs::read(at("user")).unwrap());
    let host_key = cloister(folder.path(), ["pv", "host-key", "show", "machine", "--json"]);
    let host_key: serde_json::Value = serde_json::from_str(ok(&host_key)).unwrap();
    let hash = host_key["certificates"][0]["host_key_hash"].as_str().unwrap();
    assert!(good.out.contains(&format!("image_phkh: '0x{hash}'")), "{}", good.out);
    assert!(ok(&verify("back-answer-plain", "image", "request.key")).contains("attestation_phkh"));
    not_verified(&verify("back-answer", "other-image", "request.key"), &["image tags", "user data", "nonce"]);
    let mut changed = back["answer"].clone();
    let user = changed.windows(7).position(|window| window == b"a nonce").unwrap();
    changed[user] ^= 1;
    fs::write(at("changed"), changed).unwrap();
    not_verified(&verify("changed", "image", "request.key"), &["measurement"]);
    // An answer to an older request, sent again.
    verify("back-answer", "image", "request-store.key").refuses(&["protection key does not open"]);

    let list = cloister(folder.path(), ["pv", "secret", "list", "-i", "back-list", "--format", "yaml"]);
    assert!(ok(&list).contains("total_num_secrets: 2") && list.out.contains("association"), "{}", list.out);
    let id = fs::read_to_string(at("DISK.yaml")).unwrap();
    let id = id.lines().find(|line| line.starts_with("id:")).unwrap();
    assert!(list.out.contains(id), "{id}\n{}", list.out);

    let check = |answer: &str, more: &[&str]| {
        let words = ["pv", "attest", "check", answer].into_iter().chain(more.iter().copied());
        cloister(folder.path(), words)
    };
    let secrets = ["--secret", "secret", "--secret", "secret-plain", "--secret-store-locked"];
    let with = |last: &'static str| [&secrets[..], &[last]].concat();
    ok(&verify("back-answer-store", "image", "request-store.key"));
    ok(&check("back-answer-store", &with("true")));
    ok(&check("back-answer-open", &with("false")));
    not_verified(&check("back-answer-open", &with("true")), &["not locked"]);
    let machine = ["-k", "machine/host.crt", "--host-key-check", "att-key-hash,boot-key-hash", "-u", "user"];
    assert!(ok(&check("back-answer", &machine)).starts_with("successful: true"));
    not_verified(&check("back-answer", &["-k", "other/host.crt"]), &["none of the given documents"]);
    not_verified(&check("back-answer-plain", &["-u", "user"]), &["user data"]);
}

#[test]
fn the_guests_part_says_that_it_needs_a_guest() {
    if Path::new("/dev/uv").exists() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for words in [&["lock"][..], &["list"], &["retrieve", "NAME", "--inform", "name"]] {
        cloister(folder.path(), ["pv", "secret"].iter().chain(words)).refuses(&[
            "/dev/uv is not there",
            "inside a Secure Execution guest",
            "guest-tool",
        ]);
    }
    cloister(folder.path(), ["pv", "guest-tool", "-o", "uvdevice"]).succeeds();
    cloister(folder.path(), ["pv", "guest-tool", "-o", "uvdevice"]).refuses(&["exists", "--overwrite"]);
}

#[track_caller]
fn ok(run: &Run) -> &str {
    run.succeeds()
}

#[track_caller]
fn not_verified(run: &Run, words: &[&str]) {
    assert_eq!(run.status, Some(2), "{}\n{}", run.out, run.err);
    for word in words {
        assert!(run.err.contains(word), "'{word}' is missing in:\n{}", run.err);
    }
}

fn guests() -> Option<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache =
        std::env::var_os("CLOISTER_CACHE").map_or(repository.join("cache"), PathBuf::from).join("s390x");
    let cache = cache.canonicalize().unwrap_or(cache);
    if cache.join("modules-6.12/uvdevice.ko").exists() {
        return Some(cache);
    }
    assert!(std::env::var_os("CI").is_none(), "no kernels: run scripts/fetch-s390x-guests");
    println!("skipped: no kernels (scripts/fetch-s390x-guests fetches them)");
    None
}

fn image(folder: &Path, guests: &Path, name: &str, command_line: &str) {
    fs::write(folder.join("parmfile"), command_line).unwrap();
    let kernel = guests.join("vmlinuz-6.12").display().to_string();
    let words = ["pv", "image", "create", "-i", &kernel, "-r", "initramfs", "-p", "parmfile", "-o", name];
    ok(&cloister(folder, words.map(str::to_owned).into_iter().chain(verified("machine"))));
}

fn initramfs(guests: &Path, tool: &[u8]) -> Vec<u8> {
    let busybox = fs::read(guests.join("busybox")).unwrap();
    let module = |name: &str| fs::read(guests.join("modules-6.12").join(name)).unwrap();
    let mut archive = Vec::new();
    for folder in ["bin", "proc", "sys", "dev", "m"] {
        cpio(&mut archive, folder, 0o040_755, &[]);
    }
    cpio(&mut archive, "init", 0o100_755, INIT.as_bytes());
    cpio(&mut archive, "bin/busybox", 0o100_755, &busybox);
    cpio(&mut archive, "bin/sh", 0o120_777, b"busybox");
    cpio(&mut archive, "bin/uvdevice", 0o100_755, tool);
    cpio(&mut archive, "m/virtio_blk.ko", 0o100_644, &module("virtio_blk.ko"));
    cpio(&mut archive, "m/uvdevice.ko", 0o100_644, &module("uvdevice.ko"));
    cpio(&mut archive, "TRAILER!!!", 0, &[]);
    archive
}

/// One entry of a "newc" archive (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
fn cpio(archive: &mut Vec<u8>, name: &str, mode: u32, bytes: &[u8]) {
    let inode = archive.len() as u32;
    let numbers = [inode, mode, 0, 0, 1, 0, bytes.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    archive.extend_from_slice(b"070701");
    numbers.iter().for_each(|number| archive.extend_from_slice(format!("{number:08x}").as_bytes()));
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(bytes);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// A POSIX archive (ustar) of plain files.
fn tar<'a>(files: impl Iterator<Item = (&'a str, Vec<u8>)>) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, bytes) in files {
        let mut head = [0u8; 512];
        let mut put = |at: usize, text: &[u8]| head[at..at + text.len()].copy_from_slice(text);
        put(0, name.as_bytes());
        put(100, b"0000644\x000000000\x000000000\0");
        put(124, format!("{:011o}\0{:011o}\0        0", bytes.len(), 0).as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = head.iter().map(|&byte| u32::from(byte)).sum();
        head[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        archive.extend_from_slice(&head);
        archive.extend_from_slice(&bytes);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// The plain files of an archive by their last name.
fn untar(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut at = 0;
    while archive[at] != 0 {
        let head = &archive[at..at + 512];
        let text = |from: usize, to: usize| {
            String::from_utf8_lossy(head[from..to].split(|&byte| byte == 0).next().unwrap()).into_owned()
        };
        let size = usize::from_str_radix(text(124, 136).trim(), 8).unwrap();
        if head[156] == b'0' || head[156] == 0 {
            let name = text(0, 100).rsplit('/').next().unwrap().to_owned();
            files.insert(name, archive[at + 512..at + 512 + size].to_vec());
        }
        at += 512 + size.next_multiple_of(512);
    }
    files
}
