//! The owner's part of a SEV launch: fixed vectors, and a platform of its own that plays the other side.
#![expect(
    clippy::unwrap_used,
    clippy::unreadable_literal,
    reason = "a test fails by panicking; GUIDs are written as text"
)]

#[path = "sev/synthetic.rs"]
mod synthetic;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::LazyLock;

use cloister_crypto::{P384Secret, Secret, SeededEntropy, sha256};
use cloister_formats::sev::amd_root::Generation;
use cloister_formats::sev::certificate::Certificate;
use cloister_formats::sev::chain::Chain;
use cloister_formats::sev::kernel_hashes::KernelHashes;
use cloister_formats::sev::measurement::Measurement;
use cloister_formats::sev::packet::PacketHeader;
use cloister_formats::sev::policy::Policy;
use cloister_formats::sev::secret_table::{DISK_PASSWORD, SecretTable};
use cloister_formats::sev::vmsa::VmsaForm;
use cloister_owner::sev::attestation::{self, Expected};
use cloister_owner::sev::certs::{Outcome, Root, Trust, verify};
use cloister_owner::sev::explain::{Case, Contents, Kernel, SaveAreas, explain};
use cloister_owner::sev::measure::{Api, Cpus, Firmware, Launch, measurement, signature_of};
use cloister_owner::sev::save::{Output, save};
use cloister_owner::sev::session::{Random, start};
use cloister_owner::sev::{Keys, input, secret};
use proptest::prelude::*;
use serde_json::Value;
use synthetic::Platform;

static VECTORS: LazyLock<Value> = LazyLock::new(|| {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../common/formats/tests/data/sev-vectors.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
});

static PLATFORM: LazyLock<Platform> =
    LazyLock::new(|| synthetic::platform(Generation::Rsa2048, b"SYNTHETIC", "owner tests"));
static MODEL: LazyLock<Platform> =
    LazyLock::new(|| synthetic::platform(Generation::Rsa2048, b"CLOISTER-MODEL-", "owner tests model"));

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn keys(value: &Value) -> Keys {
    Keys { tik: Secret::new(array(&value["tik"])), tek: Secret::new(array(&value["tek"])) }
}

fn api(value: &Value) -> Api {
    let field = |name: &str| u8::try_from(number(&value[name])).unwrap();
    Api { major: field("api_major"), minor: field("api_minor"), build: field("build_id") }
}

#[test]
fn vector_launch_session_and_tenant_certificate() {
    let (vector, all) = (&VECTORS["launch_session"], &VECTORS["keys"]);
    let scalar = |name: &str| P384Secret::from_scalar(&array(&all[name])).unwrap();
    let random = Random {
        godh: scalar("godh_private_be"),
        keys: keys(vector),
        nonce: array(&vector["nonce"]),
        wrap_iv: array(&vector["wrap_iv"]),
    };
    let (x, y) = scalar("pdh_private_be").public().to_xy();
    let mut pdh = PLATFORM.chain.pdh.clone().unwrap().encode();
    let key = cloister_formats::sev::certificate::EccKey::p384(&x, &y);
    pdh[0x14..0x5c].copy_from_slice(&key.x);
    pdh[0x5c..0xa4].copy_from_slice(&key.y);
    let pdh = Certificate::parse(&pdh).unwrap();
    let launch = start("pdh", &pdh, Policy(number(&vector["policy_u32"])), random).unwrap();
    assert_eq!(launch.session.encode().to_vec(), bytes(&vector["session_blob"]));
    assert_eq!(input::to_base64(&launch.session.encode()), vector["session_blob_b64"]);
    assert_eq!(launch.godh.encode(), bytes(&VECTORS["tenant_certificate"]["certificate"]));
}

#[test]
fn vectors_of_measurements() {
    let check = |tik: &Value, api, policy, digest: &Value, mnonce: &Value, mac: &[u8]| {
        let tik = Secret::new(array(tik));
        let made = measurement(&tik, api, Policy(policy), array(digest), array(mnonce));
        assert_eq!(made.mac, mac);
    };
    let ours = api(&VECTORS["firmware"]);
    for name in ["launch_measurement", "null_launch_measurement", "sev_crate_measurement"] {
        let vector = &VECTORS[name];
        let api = if vector["api_major"].is_null() { ours } else { api(vector) };
        let policy = number(&vector["policy_u32"]);
        check(
            &vector["tik"],
            api,
            policy,
            &vector["launch_digest"],
            &vector["mnonce"],
            &bytes(&vector["mac"]),
        );
    }
    let sevctl = &VECTORS["sevctl_measurements"];
    for case in sevctl["cases"].as_array().unwrap() {
        let policy = number(&case["policy_u32"]);
        let blob = bytes(&case["blob"]);
        check(&sevctl["tik"], api(case), policy, &case["launch_digest"], &case["mnonce"], &blob[..32]);
    }
}

#[test]
fn vectors_of_hashes_tables() {
    let vector = &VECTORS["sevctl_measurements"];
    let cmdline = vector["cmdline_text"].as_str().unwrap();
    let hashes = KernelHashes {
        cmdline: sha256(format!("{cmdline}\0").as_bytes()),
        initrd: input::hash("initrd", &bytes(&vector["initrd"])[..]).unwrap().1,
        kernel: input::hash("kernel", &bytes(&vector["kernel"])[..]).unwrap().1,
    };
    assert_eq!(hashes.encode().to_vec(), bytes(&vector["hashes_table"]));
}

#[test]
fn vectors_of_save_areas() {
    let vector = &VECTORS["vmsa"];
    let firmware = Firmware::read("firmware", &synthetic::firmware(8192, "vmsa")[..]).unwrap();
    let signature = signature_of("EPYC-Milan").unwrap();
    for (form, names) in
        [(VmsaForm::Legacy, ["legacy_bsp", "legacy_ap"]), (VmsaForm::Init2, ["init2_bsp", "init2_ap"])]
    {
        let cpus = Cpus::build(&firmware, 2, form, signature).unwrap();
        for (area, name) in [&cpus.boot, &cpus.application].into_iter().zip(names) {
            assert_eq!(sha256(area.as_bytes()).to_vec(), bytes(&vector[name]["sha256"]), "{name}");
        }
    }
}

#[test]
fn vectors_of_secrets() {
    let sealed = |vector: &Value, launch_mac: &[u8], secrets: &[(&str, &str)]| {
        let mut table = SecretTable::new();
        for (guid, text) in secrets {
            table.push(secret::guid(guid).unwrap(), zeroize::Zeroizing::new(text.as_bytes().to_vec()));
        }
        let measurement = Measurement { mac: launch_mac.try_into().unwrap(), mnonce: [9; 16] };
        secret::seal(&table, &keys(vector), &measurement, array(&vector["iv"])).unwrap()
    };
    let vector = &VECTORS["launch_secret"];
    let made = sealed(vector, &bytes(&vector["launch_mac"]), &[("disk-password", "hello")]);
    assert_eq!(made.header.encode().to_vec(), bytes(&vector["header"]));
    assert_eq!(made.payload, bytes(&vector["payload"]));
    let vector = &VECTORS["sevctl_secret"];
    let mac = &bytes(&vector["launch_blob"])[..32];
    let made = sealed(vector, mac, &[("736869e5-84f0-4973-92ec-06879ce3da0b", "MY-LUKS-PASSPHRASE")]);
    assert_eq!(made.header.encode().to_vec(), bytes(&vector["header"]));
    assert_eq!(made.payload, bytes(&vector["payload"]));
}

#[test]
fn a_session_opens_on_its_platform_only_and_with_its_policy_only() {
    let random = Random::draw(&mut SeededEntropy::new(b"session"));
    let launch = start("pdh", PLATFORM.chain.pdh.as_ref().unwrap(), Policy(5), random).unwrap();
    let opened = PLATFORM.open(&launch.godh, &launch.session, Policy(5)).unwrap();
    assert_eq!(opened, (*launch.keys.tik.expose(), *launch.keys.tek.expose()));
    assert!(PLATFORM.open(&launch.godh, &launch.session, Policy(1)).is_none());
    assert!(MODEL.open(&launch.godh, &launch.session, Policy(5)).is_none());
}

#[test]
fn a_session_is_refused_for_what_is_no_pdh() {
    let random = || Random::draw(&mut SeededEntropy::new(b"session"));
    let refused = |certificate: &Certificate| {
        start("some.cert", certificate, Policy(1), random()).unwrap_err().to_string()
    };
    assert!(refused(PLATFORM.chain.pek.as_ref().unwrap()).contains("some.cert holds no PDH"));
    let mut bytes = PLATFORM.chain.pdh.as_ref().unwrap().encode();
    bytes[0x20] ^= 1;
    assert!(refused(&Certificate::parse(&bytes).unwrap()).contains("not a point of P-384"));
}

#[test]
fn policies_in_decimal_and_hexadecimal_without_reserved_bits() {
    assert_eq!(input::policy("5").unwrap(), Policy(5));
    assert_eq!(input::policy("0x16010003").unwrap(), Policy(0x1601_0003));
    for text in ["", "-1", "+1", "0x", "0x+1", "5x", "4294967296", " 1"] {
        assert!(input::policy(text).unwrap_err().to_string().contains("decimal or as 0x"), "{text:?}");
    }
    for text in ["64", "0x8000"] {
        assert!(input::policy(text).unwrap_err().to_string().contains("reserved bits"), "{text:?}");
    }
}

/// The forms of input that programs write: chain, base64, QMP, virsh, zip.
#[test]
fn certificates_are_read_in_every_form() {
    let full = &PLATFORM.chain;
    let platform = Chain { ask: None, ark: None, ..full.clone() };
    let read = |bytes: &[u8]| input::certificates("file", bytes).unwrap();
    let binary = platform.encode_platform();
    let (pdh, rest) = binary.split_at(Certificate::SIZE);
    assert_eq!(read(&binary), platform);
    assert_eq!(read(&[&binary[..], &full.encode_amd()].concat()), *full);
    assert_eq!(read(pdh), Chain { pdh: full.pdh.clone(), ..Chain::default() });

    let (pdh64, rest64) = (input::to_base64(pdh), input::to_base64(rest));
    assert_eq!(read(input::to_base64(&binary).as_bytes()), platform);
    assert_eq!(read(format!("{pdh64}\n{rest64}\n").as_bytes()), platform);
    assert_eq!(read(format!("{rest64}\r\n{pdh64}").as_bytes()), platform);
    let wrapped: String =
        pdh64.as_bytes().chunks(64).map(|line| format!("{}\n", String::from_utf8_lossy(line))).collect();
    assert_eq!(read(wrapped.as_bytes()).pdh, full.pdh);

    let qmp =
        serde_json::json!({"return": {"cbitpos": 51, "pdh": pdh64, "cert-chain": rest64, "cpu0-id": "AAAA"}});
    assert_eq!(read(qmp.to_string().as_bytes()), platform);
    assert_eq!(read(qmp.to_string().replace('/', "\\/").as_bytes()), platform);
    let virsh =
        format!("cbitpos            : 51\ncert-chain         : {rest64}\npdh                : {pdh64}\n");
    assert_eq!(read(virsh.as_bytes()), platform);

    for deflate in [false, true] {
        let members = [
            ("pdh.cert", full.pdh.as_ref().unwrap().encode()),
            ("pek.cert", full.pek.as_ref().unwrap().encode()),
            ("oca.cert", full.oca.as_ref().unwrap().encode()),
            ("cek.cert", full.cek.as_ref().unwrap().encode()),
            ("ask_ark.cert", full.encode_amd()),
            ("readme.txt", b"no certificate".to_vec()),
        ];
        assert_eq!(read(&zip(&members, deflate)), *full);
    }
}

#[test]
fn a_damaged_archive_is_refused_in_words() {
    let whole = zip(&[("pdh.cert", PLATFORM.chain.pdh.as_ref().unwrap().encode())], true);
    for cut in [4, 30, whole.len() / 2, whole.len() - 1] {
        let error = input::certificates("chain.zip", &whole[..cut]).unwrap_err().to_string();
        assert!(error.starts_with("chain.zip: this zip archive cannot be read"), "{error}");
    }
}

#[test]
fn a_chain_verifies_up_to_the_named_root() {
    let amd = Chain { ask: PLATFORM.chain.ask.clone(), ark: PLATFORM.chain.ark.clone(), ..Chain::default() };
    let ark = Chain { ark: amd.ark.clone(), ..Chain::default() };
    let trust = |ca| Trust { ca: Some(("ca", ca)), allow_model_root: false };
    assert_eq!(verify(&PLATFORM.chain, trust(&amd)).refusal(), None);
    assert_eq!(verify(&PLATFORM.chain, trust(&ark)).refusal(), None);
    let without = Chain { ask: None, ark: None, ..PLATFORM.chain.clone() };
    assert_eq!(verify(&without, trust(&amd)).refusal(), None);
    assert!(verify(&without, trust(&ark)).refusal().unwrap().contains("there is no ASK"));
    // Its own root proves nothing.
    let own = verify(&PLATFORM.chain, Trust::default());
    assert_eq!((own.root.clone(), own.contradiction()), (Root::Unknown, None));
    assert!(own.refusal().unwrap().contains("--ca"));
}

#[test]
fn a_model_is_refused_unless_allowed_and_against_any_other_root() {
    let of = |platform: &Platform| Chain {
        ask: platform.chain.ask.clone(),
        ark: platform.chain.ark.clone(),
        ..Chain::default()
    };
    let (model, other) = (of(&MODEL), of(&PLATFORM));
    let verified = |ca: Option<&Chain>, allow_model_root| {
        verify(&MODEL.chain, Trust { ca: ca.map(|ca| ("ca", ca)), allow_model_root })
    };
    assert!(verified(None, false).refusal().unwrap().contains("MODEL"));
    assert!(verified(None, false).contradiction().is_some());
    assert_eq!(verified(None, true).refusal(), None);
    assert_eq!(verified(Some(&model), false).refusal(), None);
    assert!(verified(Some(&model), false).model);
    for allow in [false, true] {
        assert!(verified(Some(&other), allow).refusal().unwrap().contains("CEK signed by ASK"));
    }
    // The permission is for models alone.
    let own = verify(&PLATFORM.chain, Trust { ca: None, allow_model_root: true });
    assert!(own.refusal().is_some());
}

#[test]
fn an_unsigned_cek_says_where_the_signed_one_is() {
    let mut chain = PLATFORM.chain.clone();
    chain.cek.as_mut().unwrap().clear_slots();
    let ca = PLATFORM.chain.clone();
    let verification = verify(&chain, Trust { ca: Some(("ca", &ca)), allow_model_root: false });
    assert!(verification.refusal().unwrap().contains("--cek"));
    assert!(matches!(verification.links[2].outcome, Outcome::Absent(_)));
}

/// Every part of every certificate is sampled; what no signature covers is left out.
#[test]
fn a_chain_with_a_flipped_bit_is_refused() {
    let trusted = PLATFORM.chain.clone();
    let whole = [PLATFORM.chain.encode_platform(), PLATFORM.chain.encode_amd()].concat();
    let covered = |at: usize| {
        let (index, offset) = (at / Certificate::SIZE, at % Certificate::SIZE);
        if at >= 4 * Certificate::SIZE {
            return true;
        }
        // Signed bytes, then the slots that are used: usage, algorithm, the numbers.
        let slots: &[usize] = if index == 1 { &[0x414, 0x61c] } else { &[0x414] };
        let number = if index == 3 { 256 } else { 144 };
        offset < Certificate::SIGNED || slots.iter().any(|slot| (*slot..slot + 8 + number).contains(&offset))
    };
    let ca = Chain { ask: trusted.ask.clone(), ark: trusted.ark.clone(), ..Chain::default() };
    let mut tried = 0;
    for at in (0..whole.len()).step_by(41).filter(|at| covered(*at)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        // Its own damaged root must not help, so the certificates of AMD are the damaged ones here.
        let refused = match Chain::parse(&bytes) {
            Err(_) => true,
            Ok(chain) if at >= 4 * Certificate::SIZE => {
                verify(&trusted, Trust { ca: Some(("ca", &chain)), allow_model_root: true })
                    .refusal()
                    .is_some()
            }
            Ok(chain) => {
                verify(&chain, Trust { ca: Some(("ca", &ca)), allow_model_root: true }).refusal().is_some()
            }
        };
        assert!(refused, "bit {} of byte {at:#x} ({:#x} of certificate {})", at % 8, at % 2084, at / 2084);
        tried += 1;
    }
    assert!(tried > 130, "{tried}");
}

#[test]
fn a_report_is_verified_with_everything_it_says() {
    let report = PLATFORM.report([7; 16], [8; 32], Policy(5));
    let pek = PLATFORM.chain.pek.as_ref().unwrap();
    let expected = Expected { mnonce: Some([7; 16]), digest: Some([8; 32]), policy: Some(Policy(5)) };
    let read = |bytes: &[u8]| attestation::read("report", bytes);
    for bytes in [report.encode().to_vec(), input::to_base64(&report.encode()).into_bytes()] {
        attestation::verify("report", &read(&bytes).unwrap(), pek, &expected).unwrap();
    }
    assert!(read(&report.encode()[1..]).unwrap_err().to_string().contains("208"));
    let wrong =
        |expected: Expected| attestation::verify("report", &report, pek, &expected).unwrap_err().to_string();
    assert!(wrong(Expected { mnonce: Some([6; 16]), ..expected }).contains("mnonce"));
    assert!(wrong(Expected { digest: Some([6; 32]), ..expected }).contains("digest"));
    assert!(wrong(Expected { policy: Some(Policy(4)), ..expected }).contains("policy"));
    let other = attestation::verify("report", &report, MODEL.chain.pek.as_ref().unwrap(), &expected);
    assert!(other.unwrap_err().to_string().contains("the PEK does not sign this report"));
    for at in (0..0x3c).chain(0x40..0xd0) {
        let mut bytes = report.encode();
        bytes[at] ^= 1 << (at % 8);
        let altered = read(&bytes).unwrap();
        assert!(attestation::verify("report", &altered, pek, &Expected::default()).is_err(), "byte {at:#x}");
    }
}

#[test]
fn a_secret_opens_for_its_measurement_and_keys_only() {
    let keys = Keys { tik: Secret::new([1; 16]), tek: Secret::new([2; 16]) };
    let measurement = Measurement { mac: [3; 32], mnonce: [4; 16] };
    let mut table = SecretTable::new();
    table.push(DISK_PASSWORD, zeroize::Zeroizing::new(b"swordfish".to_vec()));
    let packet = secret::seal(&table, &keys, &measurement, [5; 16]).unwrap();
    assert!(secret::open(&packet, &keys, &measurement) == Some(table.clone()));
    assert!(secret::open(&packet, &keys, &Measurement { mac: [6; 32], ..measurement }).is_none());
    for at in 0..PacketHeader::SIZE {
        let mut header = packet.header.encode();
        header[at] ^= 0x10;
        let packet = secret::Packet { header: PacketHeader::parse(&header).unwrap(), ..packet.clone() };
        assert!(secret::open(&packet, &keys, &measurement).is_none(), "byte {at}");
    }
    for at in 0..packet.payload.len() {
        let mut packet = packet.clone();
        packet.payload[at] ^= 0x10;
        assert!(secret::open(&packet, &keys, &measurement).is_none(), "byte {at}");
    }
    assert!(!format!("{table:?} {keys:?}").contains("swordfish"));
}

#[test]
fn secrets_beyond_the_firmware_s_limit_are_refused() {
    let keys = Keys { tik: Secret::new([1; 16]), tek: Secret::new([2; 16]) };
    let measurement = Measurement { mac: [3; 32], mnonce: [4; 16] };
    let sealed = |size: usize| {
        let mut table = SecretTable::new();
        table.push(DISK_PASSWORD, zeroize::Zeroizing::new(vec![1; size]));
        secret::seal(&table, &keys, &measurement, [5; 16])
    };
    assert_eq!(sealed(0x5000 - 40).unwrap().payload.len(), 0x5000);
    assert!(sealed(0x5000 - 39).unwrap_err().to_string().contains("at most 20480"));
    assert!(secret::seal(&SecretTable::new(), &keys, &measurement, [5; 16]).is_err());
}

/// The base case of the tests of `explain`.
struct Launched {
    firmware: Firmware,
    other: Firmware,
    kernel: Kernel,
    keys: Keys,
}

const CMDLINE: &[u8] = b"console=ttyS0  root=/dev/vda ";
const BASE_API: Api = Api { major: 1, minor: 55, build: 25 };

impl Launched {
    fn new() -> Self {
        let read = |name: &str| Firmware::read(name, &synthetic::firmware(0x10000, name)[..]).unwrap();
        let kernel = Kernel {
            kernels: vec![("vmlinuz".into(), [1; 32]), ("other-vmlinuz".into(), [2; 32])],
            initrds: vec![
                ("initrd".into(), [3; 32]),
                ("no initrd".into(), sha256(b"")),
                ("other-initrd".into(), [4; 32]),
            ],
            cmdline: CMDLINE.to_vec(),
        };
        let keys = Keys { tik: Secret::new([5; 16]), tek: Secret::new([6; 16]) };
        Self { firmware: read("a.fd"), other: read("b.fd"), kernel, keys }
    }

    fn hashes(&self) -> KernelHashes {
        let (kernel, initrd) = (self.kernel.kernels[0].1, self.kernel.initrds[0].1);
        KernelHashes { cmdline: sha256(&[CMDLINE, b"\0"].concat()), initrd, kernel }
    }

    /// What the platform measures.
    fn measured(
        &self,
        firmware: &Firmware,
        hashes: Option<KernelHashes>,
        cpus: Option<(u32, VmsaForm, &str)>,
        key: &Secret<16>,
        policy: u32,
        api: Api,
    ) -> Measurement {
        let cpus = cpus.map(|(count, form, model)| {
            Cpus::build(firmware, count, form, signature_of(model).unwrap()).unwrap()
        });
        let launch = Launch { firmware: firmware.clone(), hashes, cpus };
        measurement(key, api, Policy(policy), launch.digest(), [7; 16])
    }

    /// Input and value of the one explanation that is found, for an owner who expects policy 5, two legacy Milan CPUs.
    fn explained(&self, policy: u32, measured: &Measurement) -> Vec<(&'static str, String)> {
        let case = Case {
            tik: &self.keys.tik,
            tek: Some(&self.keys.tek),
            policy: Policy(policy),
            api: BASE_API,
            contents: Contents::Parts {
                firmwares: vec![&self.firmware, &self.other],
                kernel: Some(self.kernel.clone()),
                count: 2,
                areas: SaveAreas::Built(VmsaForm::Legacy, signature_of("EPYC-Milan").unwrap()),
            },
        };
        let mut found = explain(&case, measured);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0).into_iter().map(|change| (change.input, change.fits)).collect()
    }
}

#[test]
fn explain_names_each_difference_that_people_make() {
    let l = Launched::new();
    let (tik, base) = (&l.keys.tik, Some((2, VmsaForm::Legacy, "EPYC-Milan")));
    let plain = |hashes, cpus| l.measured(&l.firmware, hashes, cpus, tik, 5, BASE_API);
    let check = |measured: Measurement, input: &str, fits: &str| {
        let found = l.explained(5, &measured);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, input);
        assert!(found[0].1.contains(fits), "{found:?} instead of {fits}");
    };
    let hashes = l.hashes();
    assert!(l.explained(5, &plain(Some(hashes), base)).is_empty());

    check(l.measured(&l.firmware, Some(hashes), base, tik, 7, BASE_API), "policy", "NODBG, NOKS, ES");
    check(l.measured(&l.firmware, Some(hashes), None, tik, 1, BASE_API), "policy", "0x00000001 (NODBG;");
    check(l.measured(&l.firmware, Some(hashes), base, &l.keys.tek, 5, BASE_API), "key", "TEK");
    check(l.measured(&l.firmware, Some(hashes), base, &Secret::default(), 5, BASE_API), "key", "zeros");
    let cmdline = |bytes: &[u8]| plain(Some(KernelHashes { cmdline: sha256(bytes), ..hashes }), base);
    check(cmdline(CMDLINE), "command line", "without the NUL");
    check(cmdline(&[CMDLINE, b"\0\0"].concat()), "command line", "second NUL");
    check(cmdline(&[CMDLINE.trim_ascii(), b"\0"].concat()), "command line", "without white space");
    check(cmdline(&[CMDLINE, b"\n\0"].concat()), "command line", "newline");
    check(cmdline(b"console=ttyS0 root=/dev/vda\0"), "command line", "single spaces");
    check(cmdline(b"\0"), "command line", "empty");
    check(plain(None, base), "kernel-hashes", "off");
    check(plain(Some(KernelHashes { initrd: sha256(b""), ..hashes }), base), "initrd", "no initrd");
    check(plain(Some(KernelHashes { initrd: [4; 32], ..hashes }), base), "initrd", "other-initrd");
    check(plain(Some(KernelHashes { kernel: [2; 32], ..hashes }), base), "kernel", "other-vmlinuz");
    check(plain(Some(hashes), Some((64, VmsaForm::Legacy, "EPYC-Milan"))), "number of vCPUs", "64");
    check(plain(Some(hashes), Some((2, VmsaForm::Init2, "EPYC-Milan"))), "VMSA", "init2 form for EPYC-Milan");
    check(plain(Some(hashes), Some((2, VmsaForm::Legacy, "EPYC-v4"))), "VMSA", "legacy form for EPYC (");
    check(plain(Some(hashes), Some((2, VmsaForm::Init2, "EPYC-Rome"))), "VMSA", "init2 form for EPYC-Rome");
    check(l.measured(&l.other, Some(hashes), base, tik, 5, BASE_API), "firmware", "b.fd");
    let api = Api { major: 0, minor: 24, build: 200 };
    check(
        l.measured(&l.firmware, Some(hashes), base, tik, 5, api),
        "API version and build",
        "API 0.24, build 200",
    );
}

#[test]
fn explain_names_two_differences_at_once_and_a_forgotten_es() {
    let l = Launched::new();
    let cpus = Some((4, VmsaForm::Init2, "EPYC-Milan"));
    let measured = l.measured(&l.firmware, Some(l.hashes()), cpus, &l.keys.tik, 5, BASE_API);
    let found = l.explained(5, &measured);
    assert_eq!(found.iter().map(|change| change.0).collect::<Vec<_>>(), ["VMSA", "number of vCPUs"]);
    let older = Api { major: 1, minor: 51, build: 3 };
    let base = Some((2, VmsaForm::Legacy, "EPYC-Milan"));
    let measured_older = l.measured(&l.firmware, None, base, &l.keys.tik, 5, older);
    let found = l.explained(5, &measured_older);
    assert_eq!(
        found.iter().map(|change| change.0).collect::<Vec<_>>(),
        ["kernel-hashes", "API version and build"]
    );
    let case = Case {
        tik: &l.keys.tik,
        tek: None,
        policy: Policy(1),
        api: BASE_API,
        contents: Contents::Parts {
            firmwares: vec![&l.firmware],
            kernel: Some(l.kernel.clone()),
            count: 1,
            areas: SaveAreas::Unknown,
        },
    };
    let found = explain(&case, &measured);
    let inputs: Vec<_> = found[0].iter().map(|change| change.input).collect();
    assert_eq!(inputs, ["policy", "VMSA", "number of vCPUs"]);
}

#[test]
fn explain_finds_nothing_for_an_altered_firmware_and_works_on_a_digest() {
    let l = Launched::new();
    let altered = Firmware::read("c.fd", &synthetic::firmware(0x10000, "c.fd")[..]).unwrap();
    let measured = l.measured(&altered, None, None, &l.keys.tik, 1, BASE_API);
    let case = |contents| Case { tik: &l.keys.tik, tek: None, policy: Policy(3), api: BASE_API, contents };
    let parts =
        Contents::Parts { firmwares: vec![&l.firmware], kernel: None, count: 1, areas: SaveAreas::Unknown };
    assert!(explain(&case(parts), &measured).is_empty());
    let found = explain(&case(Contents::Digest(altered.digest())), &measured);
    assert_eq!(found[0][0].input, "policy");
}

#[test]
fn a_firmware_without_tables_is_refused_where_they_are_needed() {
    let bare = Firmware::read("bare.fd", &[0u8; 8192][..]).unwrap();
    let error = bare.hashes_area().unwrap_err().to_string();
    assert!(error.contains("bare.fd") && error.contains("no hashes table GUID"), "{error}");
    let error = Cpus::build(&bare, 2, VmsaForm::Legacy, 0).unwrap_err().to_string();
    assert!(error.contains("bare.fd") && error.contains("not found in pflash rom"), "{error}");
    assert!(Cpus::build(&bare, 1, VmsaForm::Legacy, 0).is_ok());
}

#[test]
fn cpu_models_have_qemu_s_signatures() {
    let known =
        [("EPYC", 0x800f12), ("EPYC-v4", 0x800f12), ("EPYC-Milan-v2", 0xa00f11), ("EPYC-Rome", 0x830f10)];
    for (model, signature) in known {
        assert_eq!(signature_of(model).unwrap(), signature, "{model}");
    }
    for model in ["", "EPYC-", "EPYC-v", "epyc", "Opteron", "EPYC-Milan2"] {
        assert!(signature_of(model).unwrap_err().to_string().contains("EPYC-Genoa"), "{model}");
    }
}

#[test]
fn nothing_is_overwritten_unasked_and_keys_are_private() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let outputs = |text: &'static str| {
        [("key", true), ("public", false)].map(|(name, private)| Output {
            file: file(name),
            bytes: text.as_bytes(),
            private,
        })
    };
    save(&outputs("one"), false).unwrap();
    let mode = |name: &str| std::fs::metadata(file(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("key"), mode("public") & 0o600), (0o600, 0o600));
    let error = save(&outputs("two"), false).unwrap_err().to_string();
    assert!(error.contains("key exists") && error.contains("--force"), "{error}");
    // The first of the two is not replaced either if only the second exists.
    std::fs::remove_file(file("key")).unwrap();
    save(&outputs("two"), false).unwrap_err();
    assert!(!file("key").exists());
    save(&outputs("three"), true).unwrap();
    assert_eq!(std::fs::read(file("public")).unwrap(), b"three");
}

proptest! {
    #[test]
    fn base64_survives_white_space(bytes in proptest::collection::vec(any::<u8>(), 0..200), every in 1usize..80) {
        let text = input::to_base64(&bytes);
        let broken: String = text.as_bytes().chunks(every).map(|part| format!(" {}\r\n", std::str::from_utf8(part).unwrap())).collect();
        prop_assert_eq!(input::from_base64("text", &broken).unwrap(), bytes);
    }

    #[test]
    fn certificates_of_any_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), kind in 0..4) {
        let start: &[u8] = match kind { 0 => b"PK\x03\x04", 1 => b"{\"pdh\": \"", 2 => b"pdh :", _ => b"" };
        let _ = input::certificates("any", &[start, &bytes].concat());
    }

    #[test]
    fn an_archive_with_altered_bytes_does_not_panic(at in any::<prop::sample::Index>(), value: u8, size in 0usize..64) {
        let mut archive = zip(&[("pdh.cert", vec![1; 2084]), ("x.cert", vec![2; size])], true);
        let at = at.index(archive.len());
        archive[at] = value;
        let _ = input::certificates("any", &archive);
    }

    #[test]
    fn a_firmware_s_digest_does_not_depend_on_how_it_is_read(size in 4096usize..300_000, seed: u32) {
        let image = synthetic::firmware(size, &seed.to_string());
        let firmware = Firmware::read("image", &image[..]).unwrap();
        prop_assert_eq!(firmware.digest(), sha256(&image));
        prop_assert_eq!(firmware.reset_address().unwrap(), 0x80b004);
        prop_assert_eq!(firmware.hashes_area().unwrap().base, 0x810c00);
    }
}

/// An archive as PKWARE's APPNOTE lays it out.
fn zip(members: &[(&str, Vec<u8>)], deflate: bool) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in members {
        let data = if deflate { miniz_oxide::deflate::compress_to_vec(bytes, 6) } else { bytes.clone() };
        let offset = archive.len() as u32;
        let mut fixed = Vec::new();
        for field in [20u16, 0, if deflate { 8 } else { 0 }, 0, 0] {
            fixed.write_all(&field.to_le_bytes()).unwrap();
        }
        for field in [0, data.len() as u32, bytes.len() as u32] {
            fixed.write_all(&field.to_le_bytes()).unwrap();
        }
        fixed.write_all(&(name.len() as u16).to_le_bytes()).unwrap();
        fixed.write_all(&0u16.to_le_bytes()).unwrap();
        archive.extend([&b"PK\x03\x04"[..], &fixed, name.as_bytes(), &data].concat());
        directory.extend(
            [&b"PK\x01\x02\x14\0"[..], &fixed, &[0; 10], &offset.to_le_bytes(), name.as_bytes()].concat(),
        );
    }
    let (start, count) = (archive.len() as u32, members.len() as u16);
    let size = directory.len() as u32;
    archive.extend(directory);
    archive.extend([&b"PK\x05\x06"[..], &[0; 4], &count.to_le_bytes(), &count.to_le_bytes()].concat());
    archive.extend([&size.to_le_bytes()[..], &start.to_le_bytes(), &[0; 2]].concat());
    archive
}
