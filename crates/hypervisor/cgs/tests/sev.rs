//! `-object sev-guest`: its properties, the order of its checks and commands, its states, and the words for everything
//! that goes wrong, against a platform that remembers what it was asked.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use cloister_cgs::{
    CgsError, ConfidentialGuest, FirmwareImage, KernelImage, LaunchHost, LaunchPort, LaunchState,
    MachineFacts, catalogue, decode_base64, encode_base64, resolve,
};
use cloister_crypto::sha256;
use cloister_formats::sev::guid::Guid;
use cloister_formats::sev::kernel_hashes::KernelHashes;
use cloister_formats::sev::ovmf;
use cloister_options::{CommandLine, Invocation, Outcome, Target, parse};
use cloister_platform::arch::x86_64::VmType;
use cloister_platform::{
    SevCapabilities, SevCommand, SevData, SevPlatformCommand, SevPlatformStatus, SevResult, VmError,
};
use proptest::prelude::*;
use std::cell::RefCell;
use std::io::Write;

const QEMU: &str = "qemu-system-x86_64";
const RUN_SEV: &str = include_str!("../../options/tests/libvirt-probe/argv-run-sev.json");
const EIO: i32 = -5;

fn outcome(args: &[String]) -> Result<Outcome, String> {
    let invocation = Invocation { program: QEMU.to_owned(), target: None };
    parse(&invocation, &catalogue(Target::X86_64), args).map_err(|error| error.report(QEMU))
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn refused(args: &str) -> String {
    outcome(&words(args)).unwrap_err()
}

fn guest(properties: &str) -> Box<dyn ConfidentialGuest> {
    let args = format!(
        "-M q35,confidential-guest-support=s -object sev-guest,id=s,cbitpos=51,reduced-phys-bits=1{properties}"
    );
    let Ok(Outcome::Run(line)) = outcome(&words(&args)) else { panic!("{args}") };
    resolve(&line).unwrap().unwrap()
}

const HOST: LaunchHost = LaunchHost {
    sev: Some(SevCapabilities {
        cbitpos: 51,
        reduced_phys_bits: 5,
        es: true,
        max_asid: 509,
        min_sev_asid: 100,
        api_major: 1,
        api_minor: 55,
        build: 25,
    }),
    no_irqchip: false,
};

/// Answers like a platform with one guest, or fails the command whose name is set.
#[derive(Default)]
struct Fake {
    asked: RefCell<Vec<String>>,
    start: RefCell<Option<SevCommand>>,
    secret: RefCell<Option<SevCommand>>,
    written: RefCell<Vec<(u64, Vec<u8>)>>,
    fail: RefCell<Option<(&'static str, i32, u32)>>,
    no_es: bool,
    no_memory: bool,
}

impl Fake {
    fn failing(name: &'static str, ret: i32, fw_error: u32) -> Self {
        Self { fail: RefCell::new(Some((name, ret, fw_error))), ..Self::default() }
    }

    fn result(&self, name: &str, data: SevData) -> SevResult {
        match *self.fail.borrow() {
            Some((failing, ret, fw_error)) if failing == name => {
                SevResult { ret, fw_error, data: SevData::None }
            }
            _ => SevResult { ret: 0, fw_error: 0, data },
        }
    }
}

impl LaunchPort for Fake {
    fn guest(&self, command: SevCommand) -> Result<SevResult, VmError> {
        let name = command.name();
        let mut asked = name.to_owned();
        let data = match &command {
            SevCommand::LaunchStart { .. } => {
                self.start.replace(Some(command.clone()));
                SevData::Handle(7)
            }
            SevCommand::LaunchUpdateData { guest_physical, len } => {
                asked += &format!(" {guest_physical:#x}+{len:#x}");
                SevData::None
            }
            SevCommand::LaunchMeasure { len: 0 } | SevCommand::AttestationReport { len: 0, .. } => {
                self.asked.borrow_mut().push(format!("{name} ?"));
                let room = if name == "KVM_SEV_LAUNCH_MEASURE" { 48 } else { 0xd0 };
                let data = SevData::Length(room);
                return Ok(SevResult { ret: EIO, fw_error: 4, data });
            }
            SevCommand::LaunchMeasure { len } | SevCommand::AttestationReport { len, .. } => {
                SevData::Bytes(vec![0x5a; *len as usize])
            }
            SevCommand::LaunchSecret { .. } => {
                self.secret.replace(Some(command.clone()));
                SevData::None
            }
            _ => SevData::None,
        };
        self.asked.borrow_mut().push(asked);
        Ok(self.result(name, data))
    }

    fn platform(&self, command: SevPlatformCommand) -> Result<SevResult, VmError> {
        let (name, data) = match command {
            SevPlatformCommand::Status => {
                let flags = if self.no_es { 0 } else { SevPlatformStatus::ES };
                let status =
                    SevPlatformStatus { api_major: 1, api_minor: 55, build: 25, flags, ..Default::default() };
                ("STATUS", SevData::Platform(status))
            }
            SevPlatformCommand::PdhCertExport { pdh_len: 0, .. } => {
                return Ok(SevResult { ret: EIO, fw_error: 4, data: SevData::Lengths(2084, 6252) });
            }
            SevPlatformCommand::PdhCertExport { pdh_len, chain_len } => {
                ("PDH", SevData::Pair(vec![1; pdh_len as usize], vec![2; chain_len as usize]))
            }
            SevPlatformCommand::GetId { len } => ("ID", SevData::Bytes(vec![3; len as usize])),
            other => panic!("{other:?}"),
        };
        self.asked.borrow_mut().push(name.to_owned());
        Ok(self.result(name, data))
    }

    fn write(&self, guest_physical: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.written.borrow_mut().push((guest_physical, bytes.to_vec()));
        Ok(())
    }

    fn locate(&self, guest_physical: u64, _len: u64) -> Result<(), String> {
        match self.no_memory {
            true => Err(format!("No memory is mapped at address 0x{guest_physical:x}")),
            false => Ok(()),
        }
    }
}

/// An image with the given entries in its table.
fn image(areas: &[(Guid, Vec<u8>)]) -> Vec<u8> {
    let mut table = Vec::new();
    for (guid, data) in areas {
        table.extend_from_slice(data);
        table.extend((data.len() as u16 + 18).to_le_bytes());
        table.extend(guid.0);
    }
    table.extend((table.len() as u16 + 18).to_le_bytes());
    table.extend(ovmf::FOOTER.0);
    let mut image = vec![0xf4; 0x10000];
    let end = image.len() - 32;
    image[end - table.len()..end].copy_from_slice(&table);
    image
}

fn area(base: u32, size: u32) -> Vec<u8> {
    [base.to_le_bytes(), size.to_le_bytes()].concat()
}

fn amd_sev() -> Vec<u8> {
    image(&[
        (ovmf::HASHES_AREA, area(0x81_0c00, 0x400)),
        (ovmf::SECRET_AREA, area(0x81_0000, 0xc00)),
        (ovmf::RESET_BLOCK, 0x80_b004u32.to_le_bytes().to_vec()),
    ])
}

const KERNEL: KernelImage<'_> =
    KernelImage { setup: b"setup", kernel: b"kernel", initrd: b"", cmdline: b"quiet" };

fn launch(guest: &mut dyn ConfidentialGuest, port: &Fake, bytes: &[u8]) -> Result<Vec<String>, CgsError> {
    let launch = guest.host_launch().unwrap();
    launch.begin(&HOST, port)?;
    let image = FirmwareImage { guest_physical: (1 << 32) - bytes.len() as u64, bytes };
    let mut said = launch.on_firmware(&image, port)?;
    launch.on_kernel(&KERNEL, port)?;
    said.extend(launch.on_machine_ready(port)?);
    Ok(said)
}

fn begin(properties: &str, host: &LaunchHost, port: &Fake) -> String {
    let mut guest = guest(properties);
    guest.host_launch().unwrap().begin(host, port).unwrap_err().to_string()
}

#[test]
fn help_lists_every_property() {
    let Ok(Outcome::Print(text)) = outcome(&words("-object sev-guest,help")) else { panic!("help") };
    for line in [
        "cbitpos=<uint32>",
        "dh-cert-file=<str>",
        "handle=<uint32>",
        "id=<str>",
        "kernel-hashes=<bool>",
        "legacy-vm-type=<OnOffAuto>",
        "policy=<uint32>",
        "reduced-phys-bits=<uint32>",
        "session-file=<str>",
        "sev-device=<str>",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn properties_are_checked_in_qemus_words() {
    for (properties, words) in [
        ("id=s", "Parameter 'reduced-phys-bits' is missing"),
        ("id=s,reduced-phys-bits=1,policy=0x100000000", "Parameter 'policy' expects uint32_t"),
        ("id=s,reduced-phys-bits=1,foo=1", "Invalid parameter 'foo'"),
        ("reduced-phys-bits=1", "Parameter 'id' is missing"),
    ] {
        let error = refused(&format!("-M q35 -object sev-guest,{properties}"));
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn the_recorded_command_line_of_libvirt_is_read_whole() {
    let value: serde_json::Value = serde_json::from_str(RUN_SEV).unwrap();
    let args: Vec<String> =
        value["argv"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap().to_owned()).collect();
    let Ok(Outcome::Run(line)) = outcome(&args) else { panic!("{:?}", outcome(&args)) };
    let line: CommandLine = *line;
    let object = line.object("lsec0").unwrap();
    assert_eq!(object.properties.number("cbitpos"), Some(51));
    assert_eq!(object.properties.bool("kernel-hashes"), Some(true));
    assert_eq!(resolve(&line).unwrap().unwrap().type_name(), "sev-guest");
    assert!(line.warnings.is_empty());
}

#[test]
fn the_vm_type_follows_policy_and_legacy_vm_type() {
    for (properties, vm_type, init) in [
        ("", VmType::Default, "KVM_SEV_INIT"),
        (",policy=5", VmType::Default, "KVM_SEV_ES_INIT"),
        (",policy=5,legacy-vm-type=on", VmType::Default, "KVM_SEV_ES_INIT"),
        (",legacy-vm-type=off", VmType::Sev, "KVM_SEV_INIT2"),
        (",policy=5,legacy-vm-type=off", VmType::SevEs, "KVM_SEV_INIT2"),
    ] {
        let (mut guest, port) = (guest(properties), Fake::default());
        let launch = guest.host_launch().unwrap();
        assert_eq!(launch.vm_type(), vm_type, "{properties}");
        launch.begin(&HOST, &port).unwrap();
        assert_eq!(port.asked.borrow()[..], ["STATUS", init, "KVM_SEV_LAUNCH_START"], "{properties}");
    }
}

#[test]
fn spec_10_4_the_order_of_a_launch() {
    for (properties, vmsa) in
        [("", false), (",kernel-hashes=on", false), (",policy=5,kernel-hashes=on", true)]
    {
        let (mut guest, port) = (guest(properties), Fake::default());
        assert!(launch(&mut *guest, &port, &amd_sev()).unwrap().is_empty());
        let mut expected = vec!["STATUS", "init", "KVM_SEV_LAUNCH_START"];
        expected.push("KVM_SEV_LAUNCH_UPDATE_DATA 0xffff0000+0x10000");
        if properties.contains("kernel-hashes") {
            expected.push("KVM_SEV_LAUNCH_UPDATE_DATA 0x810c00+0xb0");
        }
        if vmsa {
            expected.push("KVM_SEV_LAUNCH_UPDATE_VMSA");
        }
        expected.extend(["KVM_SEV_LAUNCH_MEASURE ?", "KVM_SEV_LAUNCH_MEASURE"]);
        let asked: Vec<String> = port
            .asked
            .borrow()
            .iter()
            .map(|asked| if asked.ends_with("_INIT") { "init".to_owned() } else { asked.clone() })
            .collect();
        assert_eq!(asked, expected, "{properties}");
        let reset = guest.host_launch().unwrap().reset_address();
        assert_eq!(reset, vmsa.then_some(0x80_b004));
        assert_eq!(guest.host_launch().unwrap().resettable(), !vmsa);
    }
}

#[test]
fn spec_10_6_the_table_hashes_files_as_they_are() {
    let (mut guest, port) = (guest(",kernel-hashes=on"), Fake::default());
    launch(&mut *guest, &port, &amd_sev()).unwrap();
    let written = port.written.borrow();
    assert_eq!(written[0].0, 0x81_0c00);
    let table = KernelHashes::parse(&written[0].1).unwrap();
    assert_eq!(table.cmdline, sha256(b"quiet\0"));
    assert_eq!(table.initrd, sha256(b""));
    assert_eq!(table.kernel, sha256(b"setupkernel"));
}

#[test]
fn spec_10_2_init_checks_stand_in_their_order() {
    let no_sev = LaunchHost::default();
    let wrong = LaunchHost { no_irqchip: true, ..HOST };
    let port = Fake { no_es: true, ..Fake::default() };
    let text = begin("", &no_sev, &port);
    assert!(
        text.starts_with("sev_common_kvm_init: cbitpos check failed, host '0' requested '51'\n"),
        "{text}"
    );
    // Everything is wrong; what comes first is told.
    let everything = ",cbitpos=47,reduced-phys-bits=64,sev-device=/nowhere,policy=5";
    assert_eq!(
        begin(everything, &wrong, &port),
        "sev_common_kvm_init: cbitpos check failed, host '51' requested '47'"
    );
    assert_eq!(
        begin(",reduced-phys-bits=64,sev-device=/nowhere,policy=5", &wrong, &port),
        "sev_common_kvm_init: reduced_phys_bits check failed, it should be in the range of 1 to 63, requested '64'"
    );
    assert!(begin(",reduced-phys-bits=0", &HOST, &port).ends_with("requested '0'"));
    assert_eq!(
        begin(",sev-device=/nowhere,policy=5", &wrong, &port),
        "sev_common_kvm_init: Failed to open /nowhere 'No such file or directory'"
    );
    assert_eq!(
        begin(",policy=5", &wrong, &Fake { no_es: true, ..Fake::failing("STATUS", EIO, 1) }),
        "sev_common_kvm_init: failed to get platform status ret=-1 fw_error='1: Platform state is invalid'"
    );
    assert_eq!(
        begin(",policy=5", &wrong, &port),
        "sev_common_kvm_init: SEV-ES guests require in-kernel irqchipsupport"
    );
    assert_eq!(
        begin(",policy=5", &HOST, &port),
        "sev_common_kvm_init: guest policy requires SEV-ES, but host SEV-ES support unavailable"
    );
    assert_eq!(
        begin(",policy=5", &HOST, &Fake::failing("KVM_SEV_ES_INIT", -25, 0)),
        "sev_common_kvm_init: failed to initialize ret=-25 fw_error=0 ''"
    );
}

#[test]
fn owners_files_reach_the_firmware_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(text).unwrap();
        path.display().to_string()
    };
    let (cert, session) = (vec![0xa5; 2084], vec![0x3c; 128]);
    // A newline at the end, and another in the middle, as base64(1) writes them.
    let mut wrapped = encode_base64(&cert);
    wrapped.insert(76, '\n');
    let cert_file = file("cert", format!("{wrapped}\n").as_bytes());
    let session_file = file("session", encode_base64(&session).as_bytes());
    let port = Fake::default();
    let properties = format!(",policy=0x11,handle=3,dh-cert-file={cert_file},session-file={session_file}");
    let mut owned = guest(&properties);
    launch(&mut *owned, &port, &amd_sev()).unwrap();
    let expected = SevCommand::LaunchStart { policy: 0x11, handle: 3, dh_cert: cert, session };
    assert_eq!(*port.start.borrow(), Some(expected));
    assert_eq!(owned.host_launch().unwrap().info().handle, 7);

    // Garbage is for the firmware to judge, whatever its size.
    let garbage = file("garbage", b"AAAA");
    let port = Fake::failing("KVM_SEV_LAUNCH_START", EIO, 4);
    let text = begin(&format!(",dh-cert-file={garbage},session-file={garbage}"), &HOST, &port);
    assert_eq!(
        text,
        "sev_launch_start: LAUNCH_START ret=-5 fw_error=4 'Buffer too small'\n\
         sev_common_kvm_init: failed to create encryption context"
    );
    let Some(SevCommand::LaunchStart { dh_cert, session, .. }) = port.start.take() else { panic!("asked") };
    assert_eq!((dh_cert, session), (vec![0; 3], vec![0; 3]));

    // Linux takes no blob without bytes.
    let empty = file("empty", b"!?\n");
    let text = begin(&format!(",session-file={empty}"), &HOST, &Fake::default());
    assert!(text.starts_with("sev_launch_start: LAUNCH_START ret=-22 fw_error=0 ''\n"), "{text}");
    let text = begin(",session-file=/nowhere", &HOST, &Fake::default());
    let first =
        "SEV: Failed to read '/nowhere' (Failed to open file “/nowhere”: No such file or directory)\n";
    assert!(text.starts_with(first), "{text}");
}

#[test]
fn spec_10_5_firmware_tables_decide() {
    let failed = |properties: &str, image: &[u8]| {
        let (mut guest, port) = (guest(properties), Fake::default());
        launch(&mut *guest, &port, image).unwrap_err().to_string()
    };
    let bare = vec![0; 0x10000];
    assert_eq!(
        failed(",policy=5", &bare),
        "SEV information block/Firmware GUID Table block not found in pflash rom\n\
         failed to locate and/or save reset vector"
    );
    let zero = image(&[(ovmf::RESET_BLOCK, vec![0; 4])]);
    assert!(failed(",policy=5", &zero).starts_with("SEV-ES reset address is zero\n"));
    assert_eq!(
        failed(",kernel-hashes=on", &bare),
        "SEV: kernel specified but guest firmware has no hashes table GUID"
    );
    let debian = image(&[(ovmf::HASHES_AREA, area(0, 0)), (ovmf::SECRET_AREA, area(0, 0))]);
    assert_eq!(
        failed(",kernel-hashes=on", &debian),
        "SEV: guest firmware hashes table area is invalid (base=0x0 size=0x0)"
    );
    // Broken tables are pointed out, no more.
    let mut broken = amd_sev();
    let at = broken.len() - 0x32;
    broken[at..at + 2].copy_from_slice(&3u16.to_le_bytes());
    let (mut guest, port) = (guest(""), Fake::default());
    assert_eq!(launch(&mut *guest, &port, &broken).unwrap(), ["OVMF table has invalid size -15"]);
    // The hashes need memory.
    let port = Fake { no_memory: true, ..Fake::default() };
    let mut guest = crate::guest(",kernel-hashes=on");
    let text = launch(&mut *guest, &port, &amd_sev()).unwrap_err().to_string();
    assert_eq!(text, "SEV: cannot map hashes table guest memory area");
}

#[test]
fn spec_10_2_failures_of_the_launch_have_their_words() {
    let failed = |properties: &str, name, fw_error| {
        let mut guest = guest(properties);
        launch(&mut *guest, &Fake::failing(name, EIO, fw_error), &amd_sev()).unwrap_err().to_string()
    };
    assert_eq!(
        failed("", "KVM_SEV_LAUNCH_UPDATE_DATA", 9),
        "sev_launch_update_data: LAUNCH_UPDATE ret=-5 fw_error=9 'Invalid address'\n\
         SEV: Failed to encrypt pflash rom"
    );
    assert_eq!(
        failed(",policy=5", "KVM_SEV_LAUNCH_UPDATE_VMSA", 0x15),
        "sev_launch_update_vmsa: LAUNCH_UPDATE_VMSA ret=-5 fw_error=21 'Feature not supported'"
    );
    // Without a measurement the machine starts, and nothing goes on.
    let (mut guest, port) = (guest(""), Fake::failing("KVM_SEV_LAUNCH_MEASURE", EIO, 0x13));
    let said = launch(&mut *guest, &port, &amd_sev()).unwrap();
    assert_eq!(said, ["sev_launch_get_measure: LAUNCH_MEASURE ret=-5 fw_error=19 'Hardware error'"]);
    let launch = guest.host_launch().unwrap();
    assert_eq!(launch.info().state, LaunchState::LaunchUpdate);
    assert_eq!(launch.measurement().unwrap_err().to_string(), "SEV launch measurement is not available");
    port.fail.replace(Some(("KVM_SEV_LAUNCH_FINISH", EIO, 2)));
    assert_eq!(
        launch.finish(&port).unwrap_err().to_string(),
        "sev_launch_finish: LAUNCH_FINISH ret=-5 fw_error=2 'Guest state is invalid'"
    );
}

#[test]
fn states_go_on_only_with_the_firmware() {
    let (mut guest, port) = (guest(""), Fake::default());
    let state = |guest: &mut Box<dyn ConfidentialGuest>| guest.host_launch().unwrap().info().state;
    assert_eq!((state(&mut guest), guest.secure()), (LaunchState::Uninit, Some(false)));
    guest.host_launch().unwrap().begin(&HOST, &port).unwrap();
    assert_eq!(state(&mut guest), LaunchState::LaunchUpdate);
    guest.host_launch().unwrap().on_machine_ready(&port).unwrap();
    assert_eq!((state(&mut guest), guest.migration_blockers().len()), (LaunchState::LaunchSecret, 0));
    assert_eq!(guest.host_launch().unwrap().measurement().unwrap(), [0x5a; 48]);
    guest.host_launch().unwrap().finish(&port).unwrap();
    assert_eq!(state(&mut guest), LaunchState::Running);
    assert_eq!(guest.migration_blockers(), ["SEV: Migration is not implemented"]);
    // Going on after a stop finishes nothing twice.
    guest.host_launch().unwrap().finish(&port).unwrap();
    let finished = port.asked.borrow().iter().filter(|asked| *asked == "KVM_SEV_LAUNCH_FINISH").count();
    assert_eq!(finished, 1);
}

#[test]
fn only_migratable_is_refused_with_the_end_of_the_launch() {
    let (mut guest, port) = (guest(""), Fake::default());
    guest.init(&MachineFacts { only_migratable: true, ..MachineFacts::default() }).unwrap();
    launch(&mut *guest, &port, &amd_sev()).unwrap();
    assert_eq!(
        guest.host_launch().unwrap().finish(&port).unwrap_err().to_string(),
        "disallowing migration blocker (--only-migratable) for: SEV: Migration is not implemented"
    );
}

#[test]
fn spec_10_3_secrets_are_checked_in_qemus_order() {
    let (mut guest, mut port) = (guest(""), Fake::default());
    let refused = |guest: &mut Box<dyn ConfidentialGuest>, port: &Fake, header, secret, gpa| {
        let launch = guest.host_launch().unwrap();
        launch.inject_secret(header, secret, gpa, port).unwrap_err().to_string()
    };
    // No image yet: first the place, then the state, then the data.
    let no_area = "SEV: no secret area found in OVMF, gpa must be specified.";
    assert_eq!(refused(&mut guest, &port, "", "", None), no_area);
    assert_eq!(refused(&mut guest, &port, "", "", Some(0)), "SEV: Not in correct state. (LSECRET) 0");
    launch(&mut *guest, &port, &amd_sev()).unwrap();
    assert_eq!(refused(&mut guest, &port, "", "", None), "SEV: Failed to decode sequence header");
    assert_eq!(refused(&mut guest, &port, "AAAA", "?", None), "SEV: Failed to decode data");
    port.no_memory = true;
    assert_eq!(
        refused(&mut guest, &port, "AAAA", "AAAA", None),
        "SEV: Failed to calculate guest address: No memory is mapped at address 0x810000"
    );
    port.no_memory = false;
    port.fail.replace(Some(("KVM_SEV_LAUNCH_SECRET", EIO, 0xb)));
    assert_eq!(
        refused(&mut guest, &port, "AAAA", "AAAA", None),
        "SEV: failed to inject secret ret=-5 fw_error=11 'Bad measurement'"
    );
    port.fail.replace(None);
    for (gpa, expected) in [(None, 0x81_0000), (Some(0x2000), 0x2000)] {
        guest.host_launch().unwrap().inject_secret("aGRy\n", "c2VjcmV0\n", gpa, &port).unwrap();
        let Some(SevCommand::LaunchSecret { header, guest_physical, payload }) = port.secret.take() else {
            panic!("asked");
        };
        assert_eq!(
            (header.as_slice(), payload.as_slice(), guest_physical),
            (&b"hdr"[..], &b"secret"[..], expected)
        );
    }
    guest.host_launch().unwrap().finish(&port).unwrap();
    assert_eq!(refused(&mut guest, &port, "", "", None), "SEV: Not in correct state. (LSECRET) 3");
}

#[test]
fn spec_10_3_reports_are_for_a_nonce_of_16_bytes() {
    let (mut guest, port) = (guest(""), Fake::default());
    launch(&mut *guest, &port, &amd_sev()).unwrap();
    let launch = guest.host_launch().unwrap();
    let refused = |nonce: &str| launch.attestation_report(nonce, &port).unwrap_err().to_string();
    assert_eq!(refused("?"), "SEV: mnonce must be 16 bytes (got 0)");
    assert_eq!(refused("AAAA"), "SEV: mnonce must be 16 bytes (got 3)");
    let nonce = encode_base64(&[9; 16]);
    assert_eq!(launch.attestation_report(&nonce, &port).unwrap().len(), 0xd0);
    let port = Fake::failing("KVM_SEV_GET_ATTESTATION_REPORT", EIO, 1);
    assert_eq!(
        launch.attestation_report(&nonce, &port).unwrap_err().to_string(),
        "SEV: Failed to get attestation report ret=-5 fw_err=1 (Platform state is invalid): Input/output error"
    );
}

#[test]
fn spec_10_3_capabilities_name_what_fails() {
    let ask = |port: &Fake, sev| cloister_cgs::sev::platform_info(sev, &|command| port.platform(command));
    let info = ask(&Fake::default(), HOST.sev).unwrap();
    assert_eq!((info.pdh.len(), info.cert_chain.len(), info.cpu0_id.len()), (2084, 6252, 64));
    assert_eq!((info.cbitpos, info.reduced_phys_bits), (51, 1));
    for (port, sev, words) in [
        (Fake::default(), None, "SEV is not enabled in KVM"),
        (
            Fake::failing("PDH", EIO, 1),
            HOST.sev,
            "SEV: Failed to export PDH cert ret=-1 fw_err=1 (Platform state is invalid)",
        ),
        (Fake::failing("ID", EIO, 4), HOST.sev, "SEV: Failed to get ID ret=-1 fw_err=4 (Buffer too small)"),
    ] {
        assert_eq!(ask(&port, sev).unwrap_err().to_string(), words);
    }
}

proptest! {
    #[test]
    fn no_image_and_no_secret_panics(bytes in prop::collection::vec(any::<u8>(), 0..5000), secret: String) {
        let (mut guest, port) = (guest(",kernel-hashes=on"), Fake::default());
        let _ = launch(&mut *guest, &port, &bytes);
        let _ = guest.host_launch().unwrap().inject_secret(&secret, &secret, Some(1), &port);
        let _ = guest.host_launch().unwrap().attestation_report(&secret, &port);
        let _ = decode_base64(&bytes);
    }
}
