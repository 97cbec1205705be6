//! Starts that are refused: status 1 and words, whatever is wrong.

use crate::guest::Place;
use std::process::Stdio;

#[track_caller]
fn refused(place: &Place, options: &str) -> String {
    let mut command = place.program();
    command.args("-platform platform -nodefaults -display none".split(' ')).args(options.split_whitespace());
    let done = command.stdin(Stdio::null()).output().unwrap();
    let words = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{options}: {words}");
    assert!(!words.contains("panicked"), "{words}");
    words
}

const SEV: &str =
    "-M q35 -M confidential-guest-support=s -object sev-guest,id=s,reduced-phys-bits=1,cbitpos=51";

#[test]
fn without_s_there_is_nobody_to_wait_for() {
    let place = Place::new();
    for options in ["-M q35", "-M pc -bios ovmf.fd", SEV] {
        let words = refused(&place, options);
        assert!(
            words.contains("no CPU back end of this version of Cloister can run an x86-64 guest"),
            "{words}"
        );
    }
}

#[test]
fn the_object_is_refused_in_qemus_words() {
    let place = Place::new();
    std::fs::write(place.path("bare.fd"), vec![0; 0x10000]).unwrap();
    std::fs::write(place.path("junk"), "AAAA").unwrap();
    for (options, words) in [
        ("cbitpos=47", "sev_common_kvm_init: cbitpos check failed, host '51' requested '47'"),
        ("reduced-phys-bits=0", "should be in the range of 1 to 63, requested '0'"),
        ("session-file=/nowhere", "SEV: Failed to read '/nowhere'"),
        (
            "dh-cert-file=junk,session-file=junk",
            "sev_launch_start: LAUNCH_START ret=-5 fw_error=4 'Buffer too small'",
        ),
        ("policy=5 -bios bare.fd", "failed to locate and/or save reset vector"),
        (
            "kernel-hashes=on -bios bare.fd -kernel kernel",
            "SEV: kernel specified but guest firmware has no hashes table GUID",
        ),
        ("policy=5 -M kernel-irqchip=off", "SEV-ES guests require in-kernel irqchipsupport"),
    ] {
        let said = refused(&place, &format!("-S {SEV},{options}"));
        assert!(said.contains(words), "{options}: {said}");
    }
}

#[test]
fn machines_are_refused_in_words() {
    let place = Place::new();
    std::fs::write(place.path("odd.fd"), vec![0; 0x1800]).unwrap();
    for (options, words) in [
        ("-S -M q35 -drive file=disk.img", "no disks in this version"),
        ("-S -M q35,pflash0=node", "Property 'cfi.pflash01.drive' can't find value 'node'"),
        ("-S -M q35 -bios odd.fd", "could not load PC BIOS 'odd.fd'"),
        ("-S -M q35 -bios nowhere.fd", "could not load PC BIOS 'nowhere.fd'"),
        ("-S -M q35 -pflash odd.fd", "has invalid size 6144"),
        ("-S -M q35 -drive if=pflash,unit=1,file=ovmf.fd", "pflash1 requires pflash0"),
        ("-S -M q35 -kernel odd.fd -initrd nowhere", "could not load initrd 'nowhere'"),
        ("-S -M q35 -kernel platform/platform.toml", "invalid kernel header"),
    ] {
        let said = refused(&place, options);
        assert!(said.contains(words), "{options}: {said}");
    }
}
