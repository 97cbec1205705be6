//! Images as their users make and read them.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cloister_crypto::{
    Aes256Gcm, Aes256Xts, P521Public, P521Secret, Secret, SeededEntropy, sha512, x963_kdf_sha256,
};
use cloister_formats::s390x::PAGE_SIZE;
use cloister_formats::s390x::ipl_block::{IplBlock, IplKind, PvBlock};
use cloister_formats::s390x::se_header::{Pcf, SeHeader, SecretArea};
use cloister_formats::s390x::se_image::{Metadata, StageAArgs, StageBArgs};
use cloister_owner::host_key::{Document, VerifyOptions, Warning};
use cloister_owner::image::{
    BootStages, CreateOptions, Damage, Input, Keys, Report, Settings, Verification, build, create, inspect,
    inspect_bytes, open_header, test,
};
use cloister_owner::{HostKeyError, ImageError, OwnerError};

const STAGES: BootStages<'_> = BootStages { plain_loader: &[0xaa; 0x1400], protected_loader: &[0xbb; 0x500] };

/// A file that looks like a kernel: the mark, and a limit of the command line.
fn kernel(size: usize, cmdline_limit: u64) -> Vec<u8> {
    let mut kernel: Vec<u8> = (0..size).map(|i| (i * 31 + i / 256) as u8).collect();
    kernel[0x10008..0x1000e].copy_from_slice(b"S390EP");
    kernel[0x10430..0x10438].copy_from_slice(&cmdline_limit.to_be_bytes());
    kernel
}

fn machine(seed: &str) -> P521Secret {
    P521Secret::generate(&mut SeededEntropy::new(seed.as_bytes()))
}

fn make(settings: &Settings, keys: &Keys, host_keys: &[P521Public]) -> (Vec<u8>, Report) {
    let kernel = kernel(0x12345, 0x1000);
    let input = Input { kernel: &kernel, ramdisk: Some(b"ramdisk"), cmdline: Some(b"panic=-1") };
    build(&input, host_keys, settings, keys, &STAGES, &mut SeededEntropy::new(b"image")).unwrap()
}

fn header_of(image: &[u8]) -> SeHeader {
    let size = SeHeader::peek_size(&image[0x14000..]).unwrap();
    SeHeader::parse(&image[0x14000..0x14000 + size]).unwrap()
}

/// What a machine does with a header: its slot, then the sealed area.
fn open_as_machine(header: &SeHeader, secret: &P521Secret) -> Option<SecretArea> {
    let phkh = cloister_crypto::sha256(&secret.public().to_padded_xy());
    let slot = header.slots.iter().find(|slot| slot.phkh.0 == phkh)?;
    let z = secret.ecdh_x(&P521Public::from_padded_xy(&header.customer_key.0).ok()?);
    let mut key = slot.wrapped_key;
    Aes256Gcm::new(&x963_kdf_sha256(z.expose())).open(&[0; 12], &[], &mut key, &slot.tag).ok()?;
    open_header(header, &Secret::new(key)).ok()
}

fn block_of(image: &[u8]) -> PvBlock {
    let metadata = Metadata::parse(&image[0xc000..]).unwrap();
    match IplBlock::parse(&image[metadata.ipib_offset as usize..]).unwrap().kind {
        IplKind::Pv(block) => block,
        other => panic!("{other:?}"),
    }
}

#[test]
fn se_image_3_1_and_3_2_a_machine_opens_and_unpacks_what_was_packed() {
    let (host, second) = (machine("host"), machine("second"));
    let (image, report) = make(&Settings::default(), &Keys::default(), &[second.public(), host.public()]);
    assert_eq!(image[..8], [0x00, 0x08, 0x00, 0x01, 0x80, 0x01, 0x10, 0x00]);
    let header = header_of(&image);
    assert_eq!(header.pcf, Pcf::DEFAULT);
    assert_eq!(header.tag, report.header_tag);
    for key in [&host, &second] {
        let area = open_as_machine(&header, key).unwrap();
        let block = block_of(&image);
        assert_eq!(block.components.len(), 4);
        let cipher = Aes256Xts::new(&Secret::new(area.xts_key));
        let mut plain = Vec::new();
        for component in &block.components {
            let (from, size) = (component.addr as usize, component.size as usize);
            let mut bytes = image[from..from + size].to_vec();
            for (index, page) in bytes.as_chunks_mut::<PAGE_SIZE>().0.iter_mut().enumerate() {
                cipher.decrypt_page(&component.tweak_pref.page_tweak((index * PAGE_SIZE) as u64), page);
            }
            plain.push(bytes);
        }
        let whole = kernel(0x12345, 0x1000);
        assert_eq!(plain[0][..whole.len()], whole);
        assert!(plain[0][whole.len()..].iter().all(|&byte| byte == 0));
        assert_eq!(plain[1][..8], *b"ramdisk\0");
        assert_eq!(plain[2][..9], *b"panic=-1\0");
        let body = STAGES.protected_loader.len();
        assert_eq!(plain[3][..body], *STAGES.protected_loader);
        let arguments = StageBArgs::parse(&plain[3][body..]).unwrap();
        assert_eq!((arguments.kernel.src, arguments.kernel.size), (block.components[0].addr, 0x12345));
        assert_eq!((arguments.initrd.src, arguments.initrd.size), (block.components[1].addr, 7));
        assert_eq!((arguments.cmdline.src, arguments.cmdline.size), (block.components[2].addr, 9));
        assert_eq!((arguments.psw_mask, arguments.psw_addr), (0x1_8000_0000, 0x10000));
        assert_eq!(area.psw_addr, block.components[3].addr);
        assert_eq!(area.psw_mask, 0x1_8000_0000);
    }
}

#[test]
fn se_image_3_3_the_plain_loader_finds_header_and_parameter_block() {
    let (image, _) = make(&Settings::default(), &Keys::default(), &[machine("host").public()]);
    let body = STAGES.plain_loader.len();
    assert_eq!(image[0x10000..0x10000 + body], *STAGES.plain_loader);
    let at = 0x10000 + body as u64;
    let arguments = StageAArgs::parse(&image[at as usize..]).unwrap();
    let metadata = Metadata::parse(&image[0xc000..]).unwrap();
    assert_eq!(at + arguments.header_offset, 0x14000);
    assert_eq!(at + arguments.ipib_offset, metadata.ipib_offset);
    assert_eq!(arguments.header_size, header_of(&image).size() as u64);
    let block = block_of(&image);
    assert_eq!((block.header_addr, block.header_size), (0x14000, arguments.header_size));
}

#[test]
fn absent_components_are_left_out_and_empty_ones_fill_a_page() {
    let kernel = kernel(0x11000, 0);
    let entropy = || SeededEntropy::new(b"x");
    let keys = [machine("host").public()];
    let run = |input| {
        build(&input, &keys, &Settings::default(), &Keys::default(), &STAGES, &mut entropy()).unwrap().0
    };
    let image = run(Input { kernel: &kernel, ramdisk: None, cmdline: None });
    assert_eq!(block_of(&image).components.len(), 2);
    let image = run(Input { kernel: &kernel, ramdisk: Some(b""), cmdline: Some(b"") });
    let sizes: Vec<_> = block_of(&image).components.iter().map(|part| part.size).collect();
    assert_eq!(sizes, [0x11000, 0x1000, 0x1000, 0x1000]);
}

#[test]
fn the_same_seed_gives_the_same_image_on_one_and_two_threads() {
    let keys = [machine("host").public()];
    let one = make(&Settings { threads: 1, ..Default::default() }, &Keys::default(), &keys).0;
    let two = make(&Settings { threads: 2, ..Default::default() }, &Keys::default(), &keys).0;
    assert_eq!(sha512(&one), sha512(&two));
}

#[test]
fn control_flags_follow_from_the_options() {
    let base = Settings::default();
    assert_eq!(base.pcf().0, 0xe0);
    assert_eq!(Settings { dump: true, ..base.clone() }.pcf().0, 0x2000_00e0);
    assert_eq!(Settings { image_encryption: false, ..base.clone() }.pcf().0, 0x1000_00e0);
    assert_eq!(Settings { pckmo: false, pckmo_hmac: true, ..base.clone() }.pcf().0, 0x10);
    assert_eq!(Settings { backup_keys: true, ..base.clone() }.pcf().0, 0xe2);
    assert_eq!(Settings { x_pcf: Some(5), dump: true, ..base.clone() }.pcf().0, 5);
    assert_eq!(Settings { cck_extension_secret: true, ..base.clone() }.scf().0, 1 << 62);
    assert_eq!(Settings { cck_update: true, ..base }.scf().0, 1 << 61);
}

#[test]
fn up_to_95_host_keys_fit() {
    let keys: Vec<_> = (0..96).map(|index| machine(&index.to_string()).public()).collect();
    let settings = Settings::default();
    let (image, report) = make(&settings, &Keys::default(), &keys[..95]);
    assert_eq!(report.host_keys.len(), 95);
    assert_eq!(header_of(&image).size(), 8160);
    assert_eq!(block_of(&image).components[0].addr, 0x16000);
    let kernel = kernel(0x11000, 0);
    let input = Input { kernel: &kernel, ramdisk: None, cmdline: None };
    let mut entropy = SeededEntropy::new(b"x");
    let refused = build(&input, &keys, &settings, &Keys::default(), &STAGES, &mut entropy);
    assert!(matches!(refused, Err(OwnerError::Image(ImageError::TooManyHostKeys { count: 96, limit: 95 }))));
    let refused = build(&input, &[], &settings, &Keys::default(), &STAGES, &mut entropy);
    assert!(matches!(refused, Err(OwnerError::Image(ImageError::NoHostKey))));
}

#[test]
fn contradicting_options_are_refused() {
    let kernel = kernel(0x11000, 0);
    let input = Input { kernel: &kernel, ramdisk: None, cmdline: None };
    let keys = [machine("host").public()];
    let base = Settings::default();
    let with_cck = Keys { cck: Some(Secret::new([1; 32])), ..Default::default() };
    let run = |settings: Settings, own: &Keys| {
        build(&input, &keys, &settings, own, &STAGES, &mut SeededEntropy::new(b"x")).map(|_| ())
    };
    let none = Keys::default();
    for (settings, own) in [
        (Settings { dump: true, ..base.clone() }, &none),
        (Settings { cck_extension_secret: true, ..base.clone() }, &none),
        (Settings { cck_extension_secret: true, cck_update: true, ..base.clone() }, &with_cck),
        (Settings { x_psw: Some(0x10001), ..base.clone() }, &none),
    ] {
        assert!(matches!(run(settings, own), Err(OwnerError::Image(ImageError::Options(_)))));
    }
    run(Settings { dump: true, ..base.clone() }, &with_cck).unwrap();
    run(Settings { dump: true, cck_update: true, ..base.clone() }, &none).unwrap();
    run(Settings { cck_extension_secret: true, ..base }, &with_cck).unwrap();
}

#[test]
fn what_is_no_kernel_is_refused() {
    let refuse = |kernel: &[u8], cmdline: Option<&[u8]>| {
        let input = Input { kernel, ramdisk: None, cmdline };
        let (keys, settings) = ([machine("host").public()], Settings::default());
        match build(&input, &keys, &settings, &Keys::default(), &STAGES, &mut SeededEntropy::new(b"x")) {
            Err(OwnerError::Image(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    let mut elf = kernel(0x11000, 0);
    elf[..4].copy_from_slice(b"\x7fELF");
    assert!(matches!(refuse(&elf, None), ImageError::KernelIsElf { .. }));
    let (image, _) = make(&Settings::default(), &Keys::default(), &[machine("host").public()]);
    assert!(matches!(refuse(&image, None), ImageError::KernelIsImage { .. }));
    assert!(matches!(refuse(&[0; 0x11000], None), ImageError::NotAKernel { .. }));
    assert!(matches!(refuse(b"", None), ImageError::NotAKernel { .. }));
    let good = kernel(0x11000, 0);
    assert!(matches!(
        refuse(&good, Some(&[b'x'; 896])),
        ImageError::CmdlineTooLong { size: 896, limit: 895, .. }
    ));
    assert!(matches!(refuse(&kernel(0x11000, 10), Some(b"1234567890")), ImageError::CmdlineTooLong { .. }));
    assert!(matches!(refuse(&good, Some(b"a\0b")), ImageError::CmdlineZero { .. }));
}

#[test]
fn loaders_that_do_not_fit_are_refused() {
    let kernel = kernel(0x11000, 0);
    let input = Input { kernel: &kernel, ramdisk: None, cmdline: None };
    for stages in [
        BootStages { plain_loader: &[0; 0x3000 - 23], ..STAGES },
        BootStages { protected_loader: &[0; 0x5000 - 63], ..STAGES },
        BootStages { plain_loader: &[], ..STAGES },
    ] {
        let (keys, settings) = ([machine("host").public()], Settings::default());
        let made = build(&input, &keys, &settings, &Keys::default(), &stages, &mut SeededEntropy::new(b"x"));
        assert!(matches!(made, Err(OwnerError::Image(ImageError::Stage { .. }))));
    }
}

#[test]
fn se_image_3_3_the_projects_own_loaders_fit() {
    let stages = BootStages::BUILT_IN;
    // Entry at 0x11000; nothing that a loader could take for a kernel.
    assert!(stages.plain_loader.len() > 0x1000 && stages.plain_loader.len().is_multiple_of(8));
    assert_ne!(stages.plain_loader[8..14], *b"S390EP");
    let kernel = kernel(0x11000, 0);
    let input = Input { kernel: &kernel, ramdisk: None, cmdline: None };
    let (keys, settings) = ([machine("host").public()], Settings::default());
    let mut entropy = SeededEntropy::new(b"x");
    let (image, report) = build(&input, &keys, &settings, &Keys::default(), &stages, &mut entropy).unwrap();
    assert_eq!(image.len() as u64, report.size);
    assert!(inspect_bytes("image", &image, None).unwrap().digests.unwrap().good());
}

#[test]
fn each_damage_is_the_one_that_was_asked_for() {
    let host = machine("host");
    let keys = Keys { header_key: Some(Secret::new([7; 32])), ..Default::default() };
    let damaged = |damage| {
        let settings = Settings { damage: Some(damage), ..Default::default() };
        let (image, _) = make(&settings, &keys, &[host.public()]);
        inspect_bytes("image", &image, keys.header_key.as_ref())
    };
    let digests = |damage| {
        let inspection = damaged(damage).unwrap();
        assert!(inspection.opened.is_some(), "the header itself is authentic");
        let check = inspection.digests.unwrap();
        [check.pld, check.ald, check.tld, check.pages]
    };
    assert_eq!(digests(Damage::FlippedPage(3)), [false, true, true, true]);
    assert_eq!(digests(Damage::FlippedPage(u64::MAX)), [false, true, true, true]);
    assert_eq!(digests(Damage::WrongAld), [true, false, true, true]);
    assert_eq!(digests(Damage::WrongTld), [true, true, false, true]);
    assert_eq!(digests(Damage::WrongPageCount), [true, true, true, false]);
    assert_eq!(digests(Damage::ForeignKey), [true; 4]);
    let settings = Settings { damage: Some(Damage::ForeignKey), ..Default::default() };
    let (image, _) = make(&settings, &keys, &[host.public()]);
    assert!(open_as_machine(&header_of(&image), &host).is_none());
    assert!(matches!(
        damaged(Damage::FlippedHeaderBit(8 * 0x3f)),
        Err(OwnerError::Image(ImageError::HeaderAuthentication))
    ));
}

fn vectors() -> serde_json::Value {
    serde_json::from_str(include_str!("data/se-vectors.json")).unwrap()
}

fn golden(section: &str, name: &str) -> Vec<u8> {
    hex::decode(vectors()[section][name].as_str().unwrap()).unwrap()
}

#[test]
fn the_golden_headers_are_inspected_and_opened() {
    let key = Secret::from_slice(&golden("key_slot", "header_key_hex")).unwrap();
    let inspection = inspect_bytes("header", &golden("se_header", "header_hex"), Some(&key)).unwrap();
    let opened = inspection.opened.as_ref().unwrap();
    assert_eq!(opened.psw(), (0x1_8000_0000, 0x19000));
    assert_eq!(opened.scf().0, 0);
    let (cck, xts) = opened.expose_secrets();
    assert_eq!(cck[..], golden("se_header", "cck_hex"));
    assert_eq!(xts[..], golden("se_header", "xts_key_hex"));
    assert!(inspection.names_host_key(&golden("host_key", "phkh_hex").try_into().unwrap()));
    assert!(!inspection.names_host_key(&golden("second_host_key", "phkh_hex").try_into().unwrap()));
    let text = inspection.to_string();
    assert!(text.contains("dump allowed, PCKMO DEA, PCKMO AES, PCKMO ECC"), "{text}");
    assert!(!text.contains(&hex::encode(cck)), "no secret is printed");

    let two = inspect_bytes("header", &golden("se_header_two_slots", "header_hex"), None).unwrap();
    for section in ["host_key", "second_host_key"] {
        assert!(two.names_host_key(&golden(section, "phkh_hex").try_into().unwrap()), "{section}");
    }
    assert_eq!(two.header.size(), 0x2d0);
}

/// Section 2.8 of the firmware's task, seen from the owner: no bit of the header can be altered.
#[test]
fn every_flipped_bit_of_the_golden_header_is_refused() {
    let key = Secret::from_slice(&golden("key_slot", "header_key_hex")).unwrap();
    let header = golden("se_header", "header_hex");
    for bit in 0..header.len() * 8 {
        let mut altered = header.clone();
        altered[bit / 8] ^= 0x80 >> (bit % 8);
        assert!(inspect_bytes("header", &altered, Some(&key)).is_err(), "bit {bit}");
    }
}

#[test]
fn every_flipped_bit_of_the_components_is_seen_against_the_header() {
    let (image, _) = make(&Settings::default(), &Keys::default(), &[machine("host").public()]);
    let from = block_of(&image).components[0].addr as usize;
    for at in (from..image.len() - 0x1000).step_by(4099) {
        let mut altered = image.clone();
        altered[at] ^= 1 << (at % 8);
        assert!(!inspect_bytes("image", &altered, None).unwrap().digests.unwrap().good(), "{at:#x}");
    }
    assert!(inspect_bytes("image", &image, None).unwrap().digests.unwrap().good());
}

/// A folder with a kernel, a ramdisk, a command line and the golden chain.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        write("kernel", &kernel(3 << 20, 0x1000));
        write("ramdisk", &vec![0x5a; 1_000_001]);
        write("parm", b"panic=-1");
        let all = vectors();
        for (file, name) in [
            ("host", "host_key_document_pem"),
            ("signing", "signing_cert_pem"),
            ("root", "root_ca_pem"),
            ("crl1", "crl_of_signing_cert_pem"),
            ("crl2", "crl_of_root_pem"),
        ] {
            write(file, all["certificates"][name].as_str().unwrap().as_bytes());
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn options(&self) -> CreateOptions {
        CreateOptions {
            kernel: self.path("kernel"),
            ramdisk: Some(self.path("ramdisk")),
            parmfile: Some(self.path("parm")),
            output: self.path("image"),
            overwrite: false,
            host_key_documents: vec![self.path("host")],
            verification: Verification::Offline(VerifyOptions {
                certificates: vec![self.path("signing")],
                crls: vec![self.path("crl1"), self.path("crl2")],
                root_ca: Some(self.path("root")),
                // 2027-01-01T00:00:00Z.
                time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_798_761_600),
            }),
            cck: None,
            header_key: None,
            image_key: None,
            settings: Settings::default(),
        }
    }

    /// Names in the folder: nothing but these may ever be there.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn run(options: &CreateOptions) -> Result<Report, OwnerError> {
    create(options, &STAGES, &mut SeededEntropy::new(b"create"), &mut |_| {})
}

#[test]
fn create_makes_a_verified_image_with_progress() {
    let folder = Folder::new();
    let mut seen = Vec::new();
    let report =
        create(&folder.options(), &STAGES, &mut SeededEntropy::new(b"create"), &mut |step| seen.push(step))
            .unwrap();
    assert!(report.warnings.is_empty());
    assert!(seen.len() > 5 && seen.is_sorted_by_key(|step| step.done));
    assert_eq!(seen.last().unwrap().done, seen[0].total);
    let image = folder.path("image");
    assert_eq!(fs::metadata(&image).unwrap().len(), report.size);
    let inspection = inspect(&image, None).unwrap();
    assert!(inspection.digests.unwrap().good());
    let documents = [
        Document::load(&folder.path("host")).unwrap(),
        Document::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/model/host.crt")).unwrap(),
    ];
    let present: Vec<_> = test(&image, &documents).unwrap().iter().map(|answer| answer.present).collect();
    assert_eq!(present, [true, false]);
}

#[test]
fn an_output_is_replaced_only_when_said() {
    let folder = Folder::new();
    fs::write(folder.path("image"), "precious").unwrap();
    let mut options = folder.options();
    assert!(matches!(run(&options), Err(OwnerError::Image(ImageError::OutputExists { .. }))));
    assert_eq!(fs::read(folder.path("image")).unwrap(), b"precious");
    options.overwrite = true;
    run(&options).unwrap();
    assert!(fs::metadata(folder.path("image")).unwrap().len() > 3 << 20);
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let folder = Folder::new();
    let before = folder.names();
    let mut options = folder.options();
    options.ramdisk = Some(folder.path("absent"));
    let message = run(&options).unwrap_err().to_string();
    assert!(message.contains("absent"), "{message}");
    let mut options = folder.options();
    options.ramdisk = Some(folder.0.path().into());
    run(&options).unwrap_err();
    let mut options = folder.options();
    if let Verification::Offline(verify) = &mut options.verification {
        verify.crls.pop();
    }
    assert!(matches!(run(&options), Err(OwnerError::HostKey(HostKeyError::NoCrl { .. }))));
    let mut options = folder.options();
    options.output = folder.path("no/such/folder");
    run(&options).unwrap_err();
    assert_eq!(folder.names(), before);
}

/// Runs this test binary again in a mount namespace with a file system of 1 MiB, which is full before
/// the image is written. Skipped with a word where namespaces are not allowed.
#[test]
fn a_full_disk_leaves_nothing_behind_and_is_named() {
    let Ok(small) = std::env::var("CLOISTER_TEST_SMALL_DISK") else {
        let folder = tempfile::tempdir().unwrap();
        let script = "mount -t tmpfs -o size=1m none \"$1\" || exit 77; exec \"$2\" --exact \
                      a_full_disk_leaves_nothing_behind_and_is_named --nocapture";
        let result = std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
            .arg(folder.path())
            .arg(std::env::current_exe().unwrap())
            .env("CLOISTER_TEST_SMALL_DISK", folder.path())
            .output();
        match result {
            Ok(output) if output.status.code() == Some(101) => {
                panic!("{}", String::from_utf8_lossy(&output.stderr))
            }
            Ok(output) if output.status.success() => {}
            _ => eprintln!("skipped: a mount namespace is not to be had here"),
        }
        return;
    };
    let folder = Folder::new();
    let mut options = folder.options();
    options.output = Path::new(&small).join("image");
    let message = run(&options).unwrap_err().to_string();
    assert!(message.contains("image: No space left on device"), "{message}");
    assert!(message.contains("nothing half-written remains"), "{message}");
    assert_eq!(fs::read_dir(&small).unwrap().count(), 0);
}

#[test]
fn without_verification_the_user_is_told() {
    let folder = Folder::new();
    let mut options = folder.options();
    options.verification = Verification::None;
    let warnings = run(&options).unwrap().warnings;
    assert!(matches!(warnings[..], [Warning::NotVerified { .. }]));
    options.overwrite = true;
    options.host_key_documents =
        vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/model/host.crt")];
    let warnings = run(&options).unwrap().warnings;
    assert!(matches!(warnings[..], [Warning::NotVerified { .. }, Warning::Model { .. }]));
}

#[test]
fn key_files_are_used_checked_and_their_mode_warned_about() {
    let folder = Folder::new();
    let write = |name: &str, bytes: &[u8], mode| {
        fs::write(folder.path(name), bytes).unwrap();
        fs::set_permissions(folder.path(name), fs::Permissions::from_mode(mode)).unwrap();
        Some(folder.path(name))
    };
    let mut options = folder.options();
    options.header_key = write("hdr", &[1; 32], 0o600);
    options.image_key = write("img", &[2; 64], 0o600);
    options.cck = write("cck", &[3; 32], 0o644);
    options.settings.dump = true;
    let warnings = run(&options).unwrap().warnings;
    assert!(matches!(warnings[..], [Warning::ExposedKey { mode: 0o644, .. }]));
    let inspection = inspect(&options.output, options.header_key.as_deref()).unwrap();
    assert_eq!(inspection.opened.unwrap().expose_secrets(), (&[3; 32], &[2; 64]));
    options.overwrite = true;
    for bytes in [&[1; 31][..], &[1; 33], b""] {
        options.header_key = write("hdr", bytes, 0o600);
        let error = run(&options).unwrap_err();
        assert!(matches!(error, OwnerError::Image(ImageError::KeySize { need: 32, .. })), "{error}");
    }
}

#[test]
fn what_is_no_image_is_refused_by_name() {
    let folder = Folder::new();
    for name in ["kernel", "parm", "host"] {
        let error = inspect(&folder.path(name), None).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    let (image, _) = make(&Settings::default(), &Keys::default(), &[machine("host").public()]);
    for cut in [0, 1, 0xc000, 0xc010, 0x14000, 0x14008, 0x14100] {
        assert!(inspect_bytes("cut", &image[..cut], None).is_err(), "{cut:#x}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn every_input_round_trips(
        extra in 0usize..20_000,
        ramdisk in proptest::option::of(proptest::collection::vec(proptest::num::u8::ANY, 0..9_000)),
        cmdline in proptest::option::of("[ -~]{0,800}"),
        hosts in 1usize..4,
        encrypted: bool,
        seed: u64,
    ) {
        let kernel = kernel(0x10440 + extra, 0);
        let host_keys: Vec<_> = (0..hosts).map(|index| machine(&format!("{seed}{index}"))).collect();
        let public: Vec<_> = host_keys.iter().map(P521Secret::public).collect();
        let settings = Settings { image_encryption: encrypted, ..Default::default() };
        let input = Input {
            kernel: &kernel,
            ramdisk: ramdisk.as_deref(),
            cmdline: cmdline.as_ref().map(|text| text.as_bytes()),
        };
        let mut entropy = SeededEntropy::new(&seed.to_be_bytes());
        let (image, report) =
            build(&input, &public, &settings, &Keys::default(), &STAGES, &mut entropy).unwrap();
        let inspection = inspect_bytes("image", &image, None).unwrap();
        proptest::prop_assert!(inspection.digests.unwrap().good());
        proptest::prop_assert_eq!(inspection.header.encrypted_pages, report.pages);
        let header = header_of(&image);
        for key in &host_keys {
            proptest::prop_assert!(open_as_machine(&header, key).is_some());
        }
    }

    #[test]
    fn no_bytes_make_the_reader_of_images_panic(
        at in 0usize..0x1c000,
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64),
        cut in 0usize..0x30000,
    ) {
        let (mut image, _) = make(&Settings::default(), &Keys::default(), &[machine("host").public()]);
        let end = (at + bytes.len()).min(image.len());
        let from = at.min(end);
        image[from..end].copy_from_slice(&bytes[..end - from]);
        image.truncate(cut);
        cloister_owner::image::fuzz_inspect(&image);
    }
}
