//! The golden vectors of SEV: every item that layouts and primitives can reproduce.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use cloister_crypto::*;
use cloister_formats::sev::certificate::{Algo, Certificate, EccKey, Usage};
use cloister_formats::sev::guid::Guid;
use cloister_formats::sev::kernel_hashes::{KernelHashes, cmdline_bytes};
use cloister_formats::sev::measurement::{Measurement, MeasurementInput};
use cloister_formats::sev::packet::{PacketContext, PacketHeader};
use cloister_formats::sev::policy::Policy;
use cloister_formats::sev::secret_table::SecretTable;
use cloister_formats::sev::session::*;
use cloister_formats::sev::vmsa::{Vmsa, VmsaForm, cpu_signature};
use serde_json::Value;
use zeroize::Zeroizing;

fn vectors() -> Value {
    serde_json::from_str(include_str!("data/sev-vectors.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn number<N: TryFrom<u64>>(value: &Value) -> N {
    N::try_from(value.as_u64().unwrap()).ok().unwrap()
}

fn secret<const N: usize>(value: &Value) -> Secret<N> {
    Secret::new(array(value))
}

fn guid(value: &Value) -> Guid {
    value.as_str().unwrap().parse().unwrap()
}

/// The key schedule from the master secret on, and the session that it makes.
fn session(
    z: &[u8],
    nonce: [u8; 16],
    tek: [u8; 16],
    tik: [u8; 16],
    wrap_iv: [u8; 16],
    policy: u32,
) -> (Secret<16>, Session) {
    let master: Secret<16> = kbkdf_hmac_sha256_le(z, MASTER_SECRET_LABEL, &nonce);
    let kek = kbkdf_hmac_sha256_le(master.expose(), KEK_LABEL, &[]);
    let kik: Secret<16> = kbkdf_hmac_sha256_le(master.expose(), KIK_LABEL, &[]);
    let mut wrap_tk: [u8; 32] = [tek, tik].concat().try_into().unwrap();
    aes128_ctr(&kek, &wrap_iv, &mut wrap_tk);
    let wrap_mac = hmac_sha256(kik.expose(), &[&wrap_tk]);
    let policy_mac = hmac_sha256(&tik, &[&Policy(policy).to_le_bytes()]);
    (master, Session { nonce, wrap_tk, wrap_iv, wrap_mac, policy_mac })
}

/// The packet with this content.
fn packet(
    context: PacketContext,
    iv: [u8; 16],
    tek: &Secret<16>,
    tik: &[u8],
    plain: &[u8],
    after: &[u8],
) -> (PacketHeader, Vec<u8>) {
    let mut header = PacketHeader { flags: 0, iv, mac: [0; 32] };
    let mut payload = plain.to_vec();
    aes128_ctr(tek, &iv, &mut payload);
    let length = u32::try_from(payload.len()).unwrap();
    let prefix = header.mac_prefix(context, length, length);
    header.mac = hmac_sha256(tik, &[&prefix, &payload, after]);
    (header, payload)
}

fn measured(case: &Value, tik: &Value, firmware: &Value) -> Measurement {
    let input = MeasurementInput {
        api_major: number(&firmware["api_major"]),
        api_minor: number(&firmware["api_minor"]),
        build: number(&firmware["build_id"]),
        policy: Policy(number(&case["policy_u32"])),
        digest: array(&case["launch_digest"]),
        mnonce: array(&case["mnonce"]),
    };
    if let Some(expected) = case["hmac_input"].as_str() {
        assert_eq!(hex::encode(input.encode()), expected);
    }
    Measurement { mac: hmac_sha256(&bytes(tik), &[&input.encode()]), mnonce: input.mnonce }
}

#[test]
fn keys_are_derived_from_their_names() {
    let all = vectors();
    for name in ["pdh", "godh"] {
        let key = P384Secret::from_scalar(&array(&all["keys"][format!("{name}_private_be")])).unwrap();
        // SHA-384 of the name is below the order for both names, so the reduction changes nothing.
        assert_eq!(*key.to_scalar().expose(), sha384(name.as_bytes()));
        let (x, y) = key.public().to_xy();
        assert_eq!(x, array(&all["keys"][format!("{name}_public_x_be")]));
        assert_eq!(y, array(&all["keys"][format!("{name}_public_y_be")]));
        assert_eq!(P384Public::from_xy(&x, &y).unwrap(), key.public());
    }
}

#[test]
fn launch_session_is_made_and_opened() {
    let all = vectors();
    let (keys, wanted) = (&all["keys"], &all["launch_session"]);
    let pdh = P384Secret::from_scalar(&array(&keys["pdh_private_be"])).unwrap();
    let owner = P384Secret::from_scalar(&array(&keys["godh_private_be"])).unwrap();
    let z = pdh.ecdh_x(&owner.public());
    assert_eq!(z, owner.ecdh_x(&pdh.public()));
    assert_eq!(z, secret(&wanted["z_be"]));
    let (tek, tik) = (array(&wanted["tek"]), array(&wanted["tik"]));
    let (master, session) = session(
        z.expose(),
        array(&wanted["nonce"]),
        tek,
        tik,
        array(&wanted["wrap_iv"]),
        number(&wanted["policy_u32"]),
    );
    assert_eq!(master, secret(&wanted["master_secret"]));
    let kek: Secret<16> = kbkdf_hmac_sha256_le(master.expose(), KEK_LABEL, &[]);
    assert_eq!(kek, secret(&wanted["kek"]));
    assert_eq!(kbkdf_hmac_sha256_le::<16>(master.expose(), KIK_LABEL, &[]), secret(&wanted["kik"]));
    assert_eq!(session.wrap_tk, array(&wanted["wrap_tk"]));
    assert_eq!(session.wrap_mac, array(&wanted["wrap_mac"]));
    assert_eq!(session.policy_mac, array(&wanted["policy_mac"]));
    assert_eq!(session.encode()[..], bytes(&wanted["session_blob"]));

    let read = Session::parse(&bytes(&wanted["session_blob"])).unwrap();
    assert_eq!(read, session);
    let mut keys = read.wrap_tk;
    aes128_ctr(&kek, &read.wrap_iv, &mut keys);
    assert_eq!((&keys[..16], &keys[16..]), (&tek[..], &tik[..]));
}

#[test]
fn sessions_of_the_sev_crate_are_reproduced() {
    let all = vectors();
    let wanted = &all["sev_crate_zero_key_session"];
    let (master, session) = session(
        &bytes(&wanted["z"]),
        array(&wanted["nonce"]),
        array(&wanted["tek"]),
        array(&wanted["tik"]),
        array(&wanted["wrap_iv"]),
        number(&wanted["policy_u32"]),
    );
    assert_eq!(master, secret(&wanted["master_secret"]));
    assert_eq!(session.wrap_tk, array(&wanted["wrap_tk"]));
    assert_eq!(session.wrap_mac, array(&wanted["wrap_mac"]));
    assert_eq!(session.policy_mac, array(&wanted["policy_mac"]));
}

#[test]
fn owner_certificate_is_built_as_sevctl_does() {
    let all = vectors();
    let wanted = &all["tenant_certificate"];
    let x = array(&all["keys"]["godh_public_x_be"]);
    let y = array(&all["keys"]["godh_public_y_be"]);
    let built = Certificate::new((0, 0), Usage::PDH, Algo::ECDH_SHA256, &EccKey::p384(&x, &y));
    assert_eq!(built.as_bytes()[..], bytes(&wanted["certificate"]));
    assert_eq!(sha256(built.as_bytes()), array(&wanted["certificate_sha256"]));
    let read = Certificate::parse(&bytes(&wanted["certificate"])).unwrap();
    assert_eq!(read.check_owner().unwrap(), (x, y));
    assert!(read.slot(0).is_empty() && read.slot(1).is_empty());
}

#[test]
fn measurements_fit() {
    let all = vectors();
    let case = &all["launch_measurement"];
    assert_eq!(sha256(&[0; 4096]), array(&case["launch_digest"]));
    let measurement = measured(case, &case["tik"], &all["firmware"]);
    assert_eq!(measurement.mac, array(&case["mac"]));
    assert_eq!(measurement.encode()[..], bytes(&case["blob"]));
    assert_eq!(Measurement::parse(&bytes(&case["blob"])).unwrap(), measurement);

    let case = &all["null_launch_measurement"];
    assert_eq!(measured(case, &case["tik"], &all["firmware"]).mac, array(&case["mac"]));
    let case = &all["sev_crate_measurement"];
    assert_eq!(measured(case, &case["tik"], case).mac, array(&case["mac"]));
    let sevctl = &all["sevctl_measurements"];
    for case in sevctl["cases"].as_array().unwrap() {
        let measurement = measured(case, &sevctl["tik"], case);
        assert_eq!(measurement.encode()[..], bytes(&case["blob"]), "{}", case["case_text"]);
    }
}

#[test]
fn measurements_of_the_amdsev_image_fit() {
    let all = vectors();
    let image = &all["amdsev_image"];
    for name in ["kernel_hashes", "es_4_vcpu_legacy"] {
        let mut case = image[name].clone();
        case["mnonce"] = image["mnonce"].clone();
        let measurement = measured(&case, &image["tik"], &all["firmware"]);
        assert_eq!(measurement.encode()[..], bytes(&case["blob"]), "{name}");
    }
}

#[test]
fn launch_secrets_are_packed_as_sevctl_does() {
    let all = vectors();
    for name in ["launch_secret", "sevctl_secret"] {
        let wanted = &all[name];
        let mut table = SecretTable::new();
        let text = wanted["secret_text"].as_str().unwrap();
        table.push(guid(&wanted["entry_guid_text"]), Zeroizing::new(text.as_bytes().to_vec()));
        let plain = table.encode().unwrap();
        assert_eq!(plain[..], bytes(&wanted["plaintext"]), "{name}");
        assert_eq!(SecretTable::parse(&plain).unwrap(), table);
        let launch_mac = match wanted["launch_mac"].as_str() {
            Some(_) => bytes(&wanted["launch_mac"]),
            None => Measurement::parse(&bytes(&wanted["launch_blob"])).unwrap().mac.to_vec(),
        };
        let (header, payload) = packet(
            PacketContext::SECRET,
            array(&wanted["iv"]),
            &secret(&wanted["tek"]),
            &bytes(&wanted["tik"]),
            &plain,
            &launch_mac,
        );
        assert_eq!(header.encode()[..], bytes(&wanted["header"]), "{name}");
        assert_eq!(payload, bytes(&wanted["payload"]), "{name}");
        assert_eq!(PacketHeader::parse(&bytes(&wanted["header"])).unwrap(), header);
    }
}

#[test]
fn two_launch_secrets_in_one_packet() {
    let all = vectors();
    let wanted = &all["sevctl_secret"];
    let text = Zeroizing::new(wanted["secret_text"].as_str().unwrap().as_bytes().to_vec());
    let launch = Measurement::parse(&bytes(&wanted["launch_blob"])).unwrap();
    let mut table = SecretTable::new();
    table.push(guid(&wanted["entry_guid_text"]), text.clone());
    table.push(guid(&wanted["two_secrets_second_guid_text"]), text);
    let plain = table.encode().unwrap();
    let (header, _) = packet(
        PacketContext::SECRET,
        array(&wanted["iv"]),
        &secret(&wanted["tek"]),
        &bytes(&wanted["tik"]),
        &plain,
        &launch.mac,
    );
    // The content of sevctl's second secret is not in the vectors, so its MAC cannot be expected; all else can.
    let theirs = PacketHeader::parse(&bytes(&wanted["two_secrets_header"])).unwrap();
    assert_eq!((theirs.flags, theirs.iv), (header.flags, header.iv));
    assert_eq!(SecretTable::parse(&plain).unwrap().entries().count(), 2);
}

#[test]
fn transport_packets_fit_the_formula() {
    let all = vectors();
    let wanted = &all["transport_packet"];
    let (header, payload) = packet(
        PacketContext::TRANSPORT,
        array(&wanted["iv"]),
        &secret(&wanted["tek"]),
        &bytes(&wanted["tik"]),
        &bytes(&wanted["plaintext"]),
        &[],
    );
    assert_eq!(header.encode()[..], bytes(&wanted["header"]));
    assert_eq!(payload, bytes(&wanted["payload"]));
}

fn hashes_table(kernel: &[u8], initrd: &[u8], cmdline: &[u8]) -> [u8; KernelHashes::SIZE] {
    let hashes = KernelHashes {
        cmdline: sha256(&cmdline_bytes(cmdline)),
        initrd: sha256(initrd),
        kernel: sha256(kernel),
    };
    let table = hashes.encode();
    assert_eq!(KernelHashes::parse(&table).unwrap(), hashes);
    table
}

#[test]
fn kernel_hashes_tables_fit() {
    let all = vectors();
    let sevctl = &all["sevctl_measurements"];
    let cmdline = sevctl["cmdline_text"].as_str().unwrap().as_bytes();
    let table = hashes_table(&bytes(&sevctl["kernel"]), &bytes(&sevctl["initrd"]), cmdline);
    assert_eq!(table[..], bytes(&sevctl["hashes_table"]));

    let table = hashes_table(&[], &[], &[]);
    assert_eq!(table[..], bytes(&all["snp_measure_digests"]["hashes_table"]));

    let image = &all["amdsev_image"]["kernel_hashes"];
    let cmdline = image["cmdline_text"].as_str().unwrap().as_bytes();
    let table = hashes_table(&[b'K'; 100_000], &[b'I'; 50_000], cmdline);
    assert_eq!(table[..], bytes(&image["hashes_table"]));
}

fn vmsa(form: &str, cpu: &str) -> Vmsa {
    let form = if form == "legacy" { VmsaForm::Legacy } else { VmsaForm::Init2 };
    let signature = cpu_signature(25, 1, 1);
    if cpu == "bsp" { Vmsa::boot(form, signature) } else { Vmsa::application(form, signature, 0x80_b004) }
}

#[test]
fn vmsas_fit_their_pages_and_hashes() {
    let all = vectors();
    for form in ["legacy", "init2"] {
        for cpu in ["bsp", "ap"] {
            let wanted = &all["vmsa"][format!("{form}_{cpu}")];
            let mut page = vec![0; 4096];
            for (offset, content) in wanted["bytes"].as_object().unwrap() {
                let offset = usize::from_str_radix(&offset[2..], 16).unwrap();
                let content = bytes(content);
                page[offset..offset + content.len()].copy_from_slice(&content);
            }
            let built = vmsa(form, cpu);
            assert_eq!(built, Vmsa::parse(&page).unwrap(), "{form} {cpu}");
            assert_eq!(sha256(built.as_bytes()), array(&wanted["sha256"]), "{form} {cpu}");
        }
    }
    assert_eq!(cpu_signature(25, 1, 1), 0xa0_0f11);
    assert_eq!(cpu_signature(23, 1, 2), 0x80_0f12);
}

#[test]
fn vmsa_crcs_fit_the_formula() {
    let all = vectors();
    let mut altered = vmsa("legacy", "bsp");
    altered.set_crc_address(0x1000);
    assert_eq!(altered.crc_address(), 0x1000);
    let pages = [Vmsa::parse(&[0; 4096]).unwrap(), altered];
    for (page, wanted) in pages.iter().zip(all["vmsa_crc"].as_array().unwrap()) {
        let (crc, streams) = page.crc();
        assert_eq!(crc.to_be_bytes(), array(&wanted["crc64"]));
        for (stream, wanted) in streams.iter().zip(wanted["streams"].as_array().unwrap()) {
            assert_eq!(stream.to_be_bytes(), array(wanted));
        }
    }
    assert_eq!(!cloister_formats::sev::vmsa::crc32c(u32::MAX, b"123456789"), 0xe306_9283);
}
