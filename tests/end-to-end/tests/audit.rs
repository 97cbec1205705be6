//! No plaintext of a private page is ever in the host's mapping: looked for at every conversion, after every
//! device write, and in the whole mapping when sharing was withdrawn, after resets, after leaving protected
//! mode and at the end. Pages that the guest shares on purpose are told apart by what they are.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use cloister_control::Machine as _;
use cloister_end_to_end::inprocess::{Audit, Boot, Model, Run, command_of, find, guest_program, repository};
use cloister_formats::s390x::uvcb::UvCommand;
use cloister_machines::End;
use cloister_memory::{ConversionObserver, NoShootdown, Representation};
use cloister_owner::image::Settings;
use cloister_silicon_s390x::PageKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use vm_memory::{Bytes, GuestAddress};

/// What the witness writes to its private pages.
const MARKER: &[u8] = b"CLOISTER-WITNESS-PRIVATE-MARK-0";
/// The witness's first page of data, and how many it has.
const PAGE: u64 = 0x100;
const PAGES: usize = 8;

fn witness(cmdline: &str) -> (Run, Arc<Audit>) {
    let model = Model::new("audit");
    let image = model.witness(cmdline);
    let audit = Audit::new(&[MARKER]);
    let readies = AtomicUsize::new(0);
    let run = Boot::protected(model.platform(), &image)
        .audit(&audit)
        .lower({
            let audit = Arc::clone(&audit);
            move |host, request| {
                let leaves = command_of(&request) == Some(UvCommand::DESTROY_SEC_CONF);
                let answer = host.forward(request);
                if leaves {
                    audit.scan(host, "after leaving protected mode");
                }
                answer
            }
        })
        .on_line(move |line, world| match line {
            "ready" => {
                world.scan("before the host touched anything");
                // Reading as a device does makes the host kernel export every page.
                let machine = world.machine();
                let mut page = [0; 4096];
                for address in (0..machine.memory().size()).step_by(4096) {
                    machine.memory().read_slice(&mut page, GuestAddress(address)).unwrap();
                    assert_eq!(find(&page, MARKER), None, "{address:#x}");
                }
                world.scan("after the host read every page");
                // Leaving and entering again would go on for ever.
                if readies.fetch_add(1, Ordering::Relaxed) == 1 {
                    machine.quit(cloister_control::Cause::HostQmpQuit);
                }
            }
            "started again" => world.scan("after a reset"),
            "one page shared with the host" => world.scan("while a page is shared"),
            "page is private again" => world.scan("after sharing was withdrawn"),
            _ => {}
        })
        .run()
        .unwrap();
    assert!(run.inside().is_some(), "{run:?}");
    assert!(audit.conversions() > 50, "{}", audit.conversions());
    assert!(audit.writes() > 0);
    (run, audit)
}

#[track_caller]
fn clean(audit: &Audit) {
    assert_eq!(audit.findings(), []);
}

#[test]
fn the_host_never_sees_a_private_page() {
    let (run, audit) = witness("c");
    assert_eq!((run.pages("intact"), &run.end), (PAGES, &End::PowerOff), "{run:?}");
    clean(&audit);
    assert_eq!((audit.seen_in_shared_pages(0), audit.scans()), (0, 3));
}

/// The marker is seen while the guest shares the page that holds it, which is allowed, and never after.
#[test]
fn a_page_shared_on_purpose_is_told_apart_by_what_it_is() {
    let (run, audit) = witness("s");
    assert!(run.says("page is private again"), "{run:?}");
    assert_eq!((run.pages("intact"), &run.end), (PAGES, &End::PowerOff), "{run:?}");
    clean(&audit);
    assert_eq!(audit.seen_in_shared_pages(0), 1);
}

#[test]
fn after_a_reset_the_guest_has_its_pages_and_the_host_still_nothing() {
    for subcode in ["0", "1"] {
        let (run, audit) = witness(subcode);
        assert!(run.says("started again"), "{run:?}");
        assert_eq!((run.pages("intact"), &run.end), (PAGES, &End::PowerOff), "{run:?}");
        assert_eq!(run.entered, 2, "it loads the PSW of its header again");
        clean(&audit);
        assert_eq!(audit.scans(), 4);
    }
}

#[test]
fn after_leaving_protected_mode_nothing_is_left() {
    let (run, audit) = witness("3");
    assert_eq!(run.end, End::Quit, "{run:?}");
    assert_eq!(run.entered, 2, "it leaves and enters again");
    assert_eq!(run.console.matches("ready").count(), 2, "{run:?}");
    clean(&audit);
    assert_eq!(audit.scans(), 6);
}

/// The audit can fail: in the clear the same guest's marker is found, by a look at the mapping.
#[test]
fn the_audit_finds_the_marker_of_a_clear_guest() {
    let model = Model::new("audit");
    let kernel = model.write("witness.bin", &guest_program("witness"));
    let audit = Audit::new(&[MARKER]);
    let run = Boot::clear(model.platform(), &kernel).audit(&audit).run().unwrap();
    assert_eq!(run.end, End::PowerOff);
    let findings = audit.findings();
    for page in PAGE..PAGE + PAGES as u64 {
        assert!(findings.iter().any(|finding| finding.page == page), "{page:#x}: {findings:?}");
    }
}

/// Conversions as broken firmware might do them: the audit names each.
#[test]
fn the_audit_finds_what_a_broken_conversion_leaves() {
    let model = Model::new("audit");
    let image = model.witness("c");
    let audit = Audit::new(&[MARKER]);
    let broken = Arc::clone(&audit);
    Boot::protected(model.platform(), &image)
        .audit(&audit)
        .on_line(move |line, world| {
            if line != "ready" {
                return;
            }
            let storage = world.silicon.storage().unwrap();
            let (ram, host) = (storage.ram(), |page| storage.host_offset(page).unwrap());
            let mut plain = [0; 4096];
            ram.copy_out(host(PAGE) + storage.size() as usize, &mut plain);
            assert!(find(&plain, MARKER).is_some(), "the secure half holds it");
            // An export without encryption.
            broken.converted(PAGE, Representation::Plain, Representation::Raw, &plain);
            // An import without a scrub.
            let mut noise = [0; 4096];
            noise[4095] = 1;
            broken.converted(PAGE + 1, Representation::Raw, Representation::Plain, &noise);
            // A device that writes what it must not know.
            let machine = world.machine();
            assert!(world.host.export(PAGE + 2).ok());
            machine.memory().write_slice(&plain, GuestAddress((PAGE + 2) * 4096)).unwrap();
            // A copy that stays behind.
            ram.copy_in(host(PAGE + 3), &plain);
        })
        .run()
        .unwrap();
    let findings = audit.findings();
    for (page, kind, when) in [
        (PAGE, PageKind::Secure, "a conversion"),
        (PAGE + 1, PageKind::Secure, "a page that was not scrubbed"),
        (PAGE + 2, PageKind::Exported, "a device write"),
        (PAGE + 3, PageKind::Secure, "the end of the run"),
    ] {
        let found = |finding: &&_| {
            let finding: &&cloister_end_to_end::inprocess::Finding = finding;
            (finding.page, finding.kind, finding.when) == (page, Some(kind), when)
        };
        assert_eq!(findings.iter().filter(found).count(), 1, "{page:#x} {when}: {findings:?}");
    }
}

/// The same with storage whose exchange of content is broken by its transformation: it hands out plaintext.
#[test]
fn the_audit_sees_through_the_storage_of_silicon() {
    let model = Model::new("audit");
    let image = model.witness("c");
    let audit = Audit::new(&[MARKER]);
    Boot::protected(model.platform(), &image)
        .audit(&audit)
        .on_line(|line, world| {
            if line == "ready" {
                let storage = world.silicon.storage().unwrap();
                let identity = |plain: &[u8; 4096], raw: &mut [u8; 4096]| -> Result<(), ()> {
                    *raw = *plain;
                    Ok(())
                };
                storage.make_raw_with(PAGE, &NoShootdown, identity).unwrap();
            }
        })
        .run()
        .unwrap();
    let findings = audit.findings();
    assert!(
        findings.iter().any(|finding| finding.page == PAGE && finding.when == "a conversion"),
        "{findings:?}"
    );
}

/// Debian's kernel as a protected guest. The marker is on its command line, in a file of its initial ramdisk and
/// in files that its init composes; a further one it writes to its disk, so that it passes through bounce
/// buffers, which the guest shares.
#[test]
fn debian_keeps_its_markers_and_shares_what_it_sends_to_its_disk() {
    let cache =
        std::env::var_os("CLOISTER_CACHE").map_or(repository().join("cache"), Into::into).join("s390x");
    let read = |name: &str| std::fs::read(cache.join(name)).ok();
    let files = (read("vmlinuz-6.12"), read("initramfs-full.gz"), read("disk.ext4"));
    let (Some(kernel), Some(ramdisk), Some(disk)) = files else {
        assert!(std::env::var_os("CI").is_none(), "CI has the guests: run scripts/fetch-s390x-guests");
        println!("SKIPPED: no Debian kernel in {}; run scripts/fetch-s390x-guests", cache.display());
        return;
    };
    let mut ramdisk = ramdisk;
    ramdisk.resize(ramdisk.len().next_multiple_of(4), 0);
    ramdisk.extend(cpio(&[("init", 0o100_755, INIT), ("marker", 0o100_644, RAMDISK_MARKER)]));
    let model = Model::new("audit");
    let cmdline = "console=ttysclp0 panic=-1 marker=CLOISTER-DEBIAN-CMDLINE-5501";
    let image = model.image(&kernel, Some(&ramdisk), cmdline, &Settings::default());
    let image = model.write("debian.img", &image);
    let disk = model.write("disk.ext4", &disk);
    let markers: [&[u8]; 4] = [
        b"CLOISTER-DEBIAN-CMDLINE-5501",
        RAMDISK_MARKER,
        b"CLOISTER-DEBIAN-TMPFS-5503",
        b"CLOISTER-DEBIAN-DISK-5504",
    ];
    let audit = Audit::new(&markers);
    let drive = format!("if=none,id=d0,format=raw,file={}", disk.display());
    let run = Boot::protected(model.platform(), &image)
        .arguments(&["-m", "512", "-device", "virtio-rng-ccw", "-accel", "soft"])
        .arguments(&["-drive", &drive, "-device", "virtio-blk-ccw,drive=d0"])
        .audit(&audit)
        .on_line(|line, world| {
            if matches!(line, "MARKERS-WRITTEN" | "MARKERS-READ") {
                world.scan("while the guest runs");
            }
        })
        .turns(u64::MAX)
        .run()
        .unwrap();
    assert!(run.says("prot_virt_guest 1") && run.says("MARKERS-READ"), "{}", run.console);
    assert!(run.says("rng 64") && run.says("markers 20000 20000"), "{}", run.console);
    assert_eq!(run.end, End::PowerOff, "{}", run.console);
    let seen: Vec<_> = (0..markers.len()).map(|marker| audit.seen_in_shared_pages(marker)).collect();
    println!("{} conversions, {} device writes, pages {seen:?}", audit.conversions(), audit.writes());
    assert!(audit.conversions() > 10_000 && audit.writes() > 100 && audit.scans() == 3);
    clean(&audit);
    assert!(seen[..3] == [0, 0, 0] && seen[3] > 0, "only what went to the disk was shared: {seen:?}");
    // The disk itself holds what the guest sent there.
    assert!(find(&std::fs::read(disk).unwrap(), b"CLOISTER-DEBIAN-DISK-5504").is_some());
}

/// A cpio archive ("newc"), as a kernel takes further ones behind the first.
fn cpio(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, (name, mode, data)) in files.iter().chain(&[("TRAILER!!!", 0, &b""[..])]).enumerate() {
        let fields =
            [number as u32 + 1, *mode, 0, 0, 1, 0, data.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        out.extend(b"070701");
        for field in fields {
            out.extend(format!("{field:08x}").bytes());
        }
        out.extend(name.bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(*data);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

const RAMDISK_MARKER: &[u8] = b"CLOISTER-DEBIAN-RAMDISK-5502";

/// Composes its markers, so that they are nowhere but where it writes them.
const INIT: &[u8] = br#"#!/bin/sh
export PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
busybox mkdir -p /t /mnt
busybox mount -t tmpfs t /t
echo "prot_virt_guest $(busybox cat /sys/firmware/uv/prot_virt_guest)"
while read -r module; do busybox insmod "/m/$module"; done </m/order
d=DEBIAN
busybox seq 1 20000 | busybox sed "s/^/CLOISTER-$d-TMPFS-5503 /" >/t/file
busybox sha256sum /t/file /marker >/t/sums
tries=0
while [ ! -e /dev/vda ] && [ $tries -lt 100 ]; do busybox usleep 50000; tries=$((tries + 1)); done
busybox mount -t ext4 /dev/vda /mnt
busybox seq 1 20000 | busybox sed "s/^/CLOISTER-$d-DISK-5504 /" >/mnt/file
echo "markers $(busybox grep -c CLOISTER /t/file) $(busybox grep -c CLOISTER /mnt/file)"
busybox sync
echo MARKERS-WRITTEN
busybox umount /mnt
echo 3 >/proc/sys/vm/drop_caches
busybox mount -t ext4 /dev/vda /mnt
busybox cat /mnt/file >/dev/null
busybox umount /mnt
echo "rng $(busybox dd if=/dev/hwrng bs=64 count=1 2>/dev/null | busybox wc -c)"
busybox sha256sum -c /t/sums >/dev/null && echo MARKERS-READ
busybox poweroff -f
"#;
