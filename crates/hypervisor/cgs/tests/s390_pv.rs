//! The object, its resolution, its checks in order, and what changes as the guest enters and leaves.

use std::process::{Command, Stdio};

use cloister_cgs::s390_pv::{MIGRATION_BLOCKER, S390PvGuest, failure_is_fatal, failure_text, max_cpus};
use cloister_cgs::{
    BootImage, CgsError, ConfidentialGuest, DeviceFacts, HostFacts, MachineFacts, PlatformStep, ResetKind,
    Transition, catalogue, mechanisms, resolve, resolve_or_implicit,
};
use cloister_options::{CommandLine, Invocation, Outcome, Target, parse};
use cloister_platform::PvCommand;

const QEMU: &str = "qemu-system-s390x";

const HOST: HostFacts = HostFacts { ultravisor: true, prot_virt: true };

fn outcome(args: &[&str]) -> Result<Outcome, String> {
    let invocation = Invocation { program: QEMU.to_owned(), target: None };
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    parse(&invocation, &catalogue(Target::S390x), &args).map_err(|error| error.report(QEMU))
}

fn line(args: &[&str]) -> CommandLine {
    match outcome(args) {
        Ok(Outcome::Run(line)) => *line,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn machine() -> MachineFacts {
    MachineFacts { max_cpus: 4, unpack: true, extended_length_sccb: true, ..MachineFacts::default() }
}

fn device(driver: &str, pass_through: bool, access_platform: Option<bool>) -> DeviceFacts {
    DeviceFacts { driver: driver.to_owned(), name: "d0".to_owned(), pass_through, access_platform }
}

fn first_line(error: &CgsError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[test]
fn the_object_may_follow_its_reference_and_has_an_old_name() {
    for args in [
        ["-machine", "confidential-guest-support=pv0", "-object", "s390-pv-guest,id=pv0"],
        ["-machine", "memory-encryption=pv0", "-object", "s390-pv-guest,id=pv0"],
        ["-object", r#"{"qom-type":"s390-pv-guest","id":"pv0"}"#, "-M", "confidential-guest-support=pv0"],
    ] {
        let guest = resolve(&line(&args)).unwrap().unwrap();
        assert_eq!(guest.type_name(), "s390-pv-guest");
        assert!(guest.requested());
    }
    assert!(resolve(&line(&["-object", "s390-pv-guest,id=pv0"])).unwrap().is_none());
}

#[test]
fn help_comes_from_the_registry() {
    let Ok(Outcome::Print(text)) = outcome(&["-object", "help"]) else {
        panic!("help");
    };
    for mechanism in mechanisms(Target::S390x) {
        assert!(text.contains(mechanism.object.name));
    }
    assert!(!text.contains("sev-guest") && !text.contains("pef-guest"));
    let Ok(Outcome::Print(text)) = outcome(&["-object", "s390-pv-guest,help"]) else {
        panic!("help");
    };
    assert!(text.starts_with("s390-pv-guest options:\n  id=<str>"));
}

#[test]
fn types_of_other_targets_are_invalid_object_types() {
    for (object, name) in [
        ("sev-guest,id=a,reduced-phys-bits=1", "sev-guest"),
        ("sev-snp-guest,id=a,reduced-phys-bits=1", "sev-snp-guest"),
        ("pef-guest,id=a", "pef-guest"),
        ("tdx-guest,id=a", "tdx-guest"),
    ] {
        assert_eq!(
            outcome(&["-object", object]).unwrap_err(),
            format!("{QEMU}: invalid object type: {name}")
        );
    }
}

#[test]
fn checks_stand_in_the_documented_order() {
    let guest = S390PvGuest::new(true);
    let mut facts = MachineFacts {
        max_cpus: 248,
        unpack: false,
        extended_length_sccb: true,
        devices: vec![device("vfio-ccw", true, None)],
        huge_pages: Some(1 << 20),
        ..MachineFacts::default()
    };
    let none = HostFacts::default();
    assert_eq!(guest.check(&none, &facts), Err(CgsError::NoUltravisor));
    let off = HostFacts { ultravisor: true, prot_virt: false };
    let error = guest.check(&off, &facts).unwrap_err();
    assert!(first_line(&error).contains("prot_virt=0"));
    let error = guest.check(&HOST, &facts).unwrap_err();
    assert_eq!(first_line(&error), "CPU model does not support Protected Virtualization");
    facts.unpack = true;
    let error = guest.check(&HOST, &facts).unwrap_err();
    assert_eq!(first_line(&error), "Protected VMs support a maximum of 247 CPUs");
    facts.extended_length_sccb = false;
    assert!(matches!(guest.check(&HOST, &facts), Err(CgsError::PassThrough { .. })));
    facts.devices.clear();
    let error = guest.check(&HOST, &facts).unwrap_err();
    assert_eq!(first_line(&error), "Protected VMs can currently not be backed with huge pages");
    facts.huge_pages = None;
    assert_eq!(guest.check(&HOST, &facts), Ok(()));
    assert_eq!((max_cpus(true), max_cpus(false)), (247, 248));
}

#[test]
fn without_the_object_a_guest_that_can_unpack_may_still_enter() {
    let line = line(&["-cpu", "z14,unpack=on"]);
    let mut guest = resolve_or_implicit(&line, &machine()).unwrap().unwrap();
    assert!(!guest.requested());
    assert!(guest.virtio_defaults().is_empty());
    assert_eq!(guest.check(&HostFacts::default(), &machine()), Ok(()));
    let mut facts = machine();
    facts.devices = vec![device("virtio-blk-ccw", false, Some(false))];
    let effects = guest.on_transition(Transition::Enter, &facts).unwrap();
    assert!(effects.warnings[0].contains("iommu_platform=off"));
    facts.huge_pages = Some(1 << 20);
    let _ = guest.on_transition(Transition::Leave, &facts);
    assert!(matches!(guest.on_transition(Transition::Enter, &facts), Err(CgsError::HugePages { .. })));
    let cannot = MachineFacts::default();
    assert!(resolve_or_implicit(&line, &cannot).unwrap().is_none());
}

#[test]
fn virtio_devices_see_only_shared_memory_unless_the_user_says_otherwise() {
    let line = line(&[
        "-device",
        "virtio-rng-ccw",
        "-device",
        "virtio-rng-ccw,iommu_platform=off",
        "-device",
        "vfio-ccw,sysfsdev=/x",
    ]);
    let facts = |guest: Option<&dyn ConfidentialGuest>| -> Vec<Option<bool>> {
        let devices = line.devices.iter();
        devices.map(|spec| DeviceFacts::new(spec, guest).access_platform).collect()
    };
    let (asked, unasked) = (S390PvGuest::new(true), S390PvGuest::new(false));
    assert_eq!(facts(Some(&asked)), [Some(true), Some(false), None]);
    assert_eq!(facts(Some(&unasked)), [Some(false), Some(false), None]);
    assert_eq!(facts(None), [Some(false), Some(false), None]);
    assert!(DeviceFacts::new(&line.devices[2], None).pass_through);
}

#[test]
fn entering_blocks_migration_and_leaving_frees_it() {
    let mut guest = S390PvGuest::new(true);
    assert!(guest.init(&machine()).unwrap().merging_off);
    assert_eq!(guest.virtio_defaults()[0].property, "iommu_platform");
    assert_eq!((guest.secure(), guest.migration_blockers().len()), (Some(false), 0));
    assert!(guest.on_reset(ResetKind::Clear).is_empty());
    let effects = guest.on_transition(Transition::Enter, &machine()).unwrap();
    assert_eq!((effects.discard, effects.merging_off), (Some(false), true));
    assert_eq!(guest.secure(), Some(false));
    let entered = Transition::Entered { secure: Some(true) };
    guest.on_transition(entered, &machine()).unwrap();
    assert_eq!(guest.secure(), Some(true));
    assert_eq!(guest.migration_blockers(), [MIGRATION_BLOCKER]);
    assert_eq!(guest.on_reset(ResetKind::Normal), [PlatformStep::UnshareAll, PlatformStep::PrepareReset]);
    assert_eq!(guest.on_reset(ResetKind::External), [PlatformStep::Disable]);
    let effects = guest.on_transition(Transition::Leave, &machine()).unwrap();
    assert_eq!(effects.discard, Some(true));
    assert!(guest.migration_blockers().is_empty());
}

#[test]
fn only_migratable_keeps_the_guest_out_in_words() {
    let mut facts = machine();
    facts.only_migratable = true;
    let mut guest = S390PvGuest::new(true);
    assert_eq!(guest.init(&facts).unwrap().warnings.len(), 1);
    assert_eq!(
        guest.on_transition(Transition::Enter, &facts).unwrap_err().to_string(),
        "disallowing migration blocker (--only-migratable) for: protected VMs are currently not migratable."
    );
    assert!(guest.migration_blockers().is_empty());
    facts.needs_discard = true;
    assert_eq!(guest.on_transition(Transition::Enter, &facts), Err(CgsError::Discard));
}

#[test]
fn initrd_and_append_beside_an_encrypted_image_are_pointed_out() {
    let mut guest = S390PvGuest::new(true);
    let image = BootImage { protected: true, initrd: true, append: true };
    assert_eq!(guest.on_boot_image(&image).unwrap().warnings.len(), 2);
    let plain = BootImage { protected: false, ..image };
    assert!(guest.on_boot_image(&plain).unwrap().warnings.is_empty());
}

#[test]
fn a_refused_header_carries_the_hint() {
    let set = PvCommand::SetSecParms { header: Vec::new() };
    let text = failure_text(&set, 0x108, 0, -22);
    assert!(
        text.starts_with("KVM PV command 2 (KVM_PV_SET_SEC_PARMS) failed: header rc 108 rrc 0 IOCTL rc: -22")
    );
    assert!(text.ends_with("Please check whether the image is correctly encrypted for this host"));
    assert!(!failure_text(&set, 0x104, 0, -22).contains("Please check"));
    assert!(failure_is_fatal(&PvCommand::Disable) && !failure_is_fatal(&PvCommand::Verify));
}

/// Both programs refuse with the same text. The packaged QEMU has no object of this kind at all, so only what
/// comes before that is compared.
#[test]
fn the_packaged_qemu_says_the_same() {
    const CASES: &[&[&str]] = &[
        &["-object", "sev-guest"],
        &["-object", "sev-guest,id=a"],
        &["-object", "sev-guest,id=a,reduced-phys-bits=x"],
        &["-object", "sev-guest,id=a,reduced-phys-bits=99999999999"],
        &["-object", "sev-guest,id=a,reduced-phys-bits=1,kernel-hashes=x"],
        &["-object", "sev-guest,id=a,reduced-phys-bits=1"],
        &["-object", "pef-guest,id=a"],
        &["-object", "s390-pv-guest,id=pv0,foo=1"],
        &["-object", "s390-pv-guest,id=1bad"],
        &["-object", "s390-pv-guest"],
        &["-machine", "confidential-guest-support=none1"],
        &["-machine", "memory-encryption=none1"],
        &["-machine", "confidential-guest-support=a", "-object", "rng-builtin,id=a"],
        &["-machine", "memory-encryption=a", "-object", "rng-builtin,id=a"],
    ];
    if Command::new(QEMU).arg("-version").output().is_err() {
        eprintln!("notice: {QEMU} is not installed, nothing compared");
        return;
    }
    for args in CASES {
        let output = Command::new(QEMU)
            .args(["-display", "none"])
            .args(*args)
            .stdin(Stdio::null())
            .output()
            .expect("it ran a moment ago");
        let ours = match outcome(args) {
            Err(text) => text,
            Ok(Outcome::Run(line)) => match resolve(&line) {
                Err(error) => format!("{QEMU}: {error}"),
                Ok(_) => "accepted".to_owned(),
            },
            Ok(Outcome::Print(_)) => "help".to_owned(),
        };
        assert_eq!(String::from_utf8_lossy(&output.stderr).trim_end(), ours, "{args:?}");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
    }
}
