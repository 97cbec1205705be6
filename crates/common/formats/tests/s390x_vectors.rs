//! The golden vectors of Secure Execution: every item that layouts and primitives can reproduce.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use cloister_crypto::*;
use cloister_formats::s390x::arcb::Arcb;
use cloister_formats::s390x::asrcb::{Asrcb, SecretHeader};
use cloister_formats::s390x::attestation::{AdditionalData, Measured};
use cloister_formats::s390x::host_key::KeySlot;
use cloister_formats::s390x::ipl_block::{IplBlock, IplKind};
use cloister_formats::s390x::se_header::{HeaderFault, Pcf, SeHeader, SecretArea};
use cloister_formats::s390x::se_image::*;
use cloister_formats::s390x::uvcb::{RetrAttest, UvCommand, UvHeader};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("data/se-vectors.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn number(value: &Value) -> u64 {
    let text = value.as_str().unwrap();
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

/// Padded payloads of the components, as the vectors describe them.
fn payloads() -> [(u64, Vec<u8>); 4] {
    let mut stage = hex::decode("0dd0a7f4000007fe").unwrap();
    let mut kernel: Vec<u8> = (0..4196u32).map(|i| ((7 * i + 3) & 0xff) as u8).collect();
    let mut ramdisk = b"own tiny ramdisk payload\n".repeat(3);
    let mut cmdline = b"console=ttysclp0 panic=-1\0".to_vec();
    for part in [&mut kernel, &mut ramdisk, &mut cmdline, &mut stage] {
        part.resize(part.len().next_multiple_of(4096), 0);
    }
    [(0x15000, kernel), (0x17000, ramdisk), (0x18000, cmdline), (0x19000, stage)]
}

#[test]
fn host_keys_have_their_hashes() {
    let all = vectors();
    for key in [&all["host_key"], &all["second_host_key"]] {
        let secret = P521Secret::from_scalar(&array(&key["private_scalar_hex"])).unwrap();
        let xy = secret.public().to_padded_xy();
        assert_eq!(xy[..80], bytes(&key["x80_hex"]));
        assert_eq!(xy[80..], bytes(&key["y80_hex"]));
        assert_eq!(sha256(&xy), array(&key["phkh_hex"]));
    }
}

#[test]
fn kek_and_key_slots() {
    let all = vectors();
    let host = P521Secret::from_scalar(&array(&all["host_key"]["private_scalar_hex"])).unwrap();
    let second = P521Secret::from_scalar(&array(&all["second_host_key"]["private_scalar_hex"])).unwrap();
    let customer = P521Secret::from_scalar(&array(&all["kek"]["cust_private_scalar_hex"])).unwrap();
    let z = host.ecdh_x(&customer.public());
    assert_eq!(z.expose()[..], bytes(&all["kek"]["z_hex"]));
    assert_eq!(x963_kdf_sha256(z.expose()).expose()[..], bytes(&all["kek"]["kek_hex"]));
    let header_key = array::<32>(&all["key_slot"]["header_key_hex"]);
    for (key, slot) in [(&host, "slot_hex"), (&second, "slot_for_second_host_hex")] {
        let kek = x963_kdf_sha256(key.ecdh_x(&customer.public()).expose());
        let mut wrapped_key = header_key;
        let tag = Aes256Gcm::new(&kek).seal(&[0; 12], &[], &mut wrapped_key).unwrap();
        let phkh = cloister_formats::s390x::host_key::Phkh(sha256(&key.public().to_padded_xy()));
        let made = KeySlot { phkh, wrapped_key, tag };
        assert_eq!(made.encode()[..], bytes(&all["key_slot"][slot]));
        assert_eq!(KeySlot::parse(&made.encode()).unwrap(), made);
    }
}

#[test]
fn pages_and_digests() {
    let all = vectors();
    let xts = Aes256Xts::new(&Secret::new(array(&all["page_xts"]["key_hex"])));
    let block = IplBlock::parse(&bytes(&all["image"]["ipib_hex"])).unwrap();
    let IplKind::Pv(pv) = &block.kind else { panic!("the block is of type 5") };
    let (mut pld, mut plain_pld, mut ald, mut tld) =
        (Sha512::new(), Sha512::new(), Sha512::new(), Sha512::new());
    let mut expected = all["page_xts"]["pages"].as_array().unwrap().iter();
    for ((addr, payload), component) in payloads().iter().zip(&pv.components) {
        assert_eq!((*addr, payload.len() as u64), (component.addr, component.size));
        for (index, plain) in payload.chunks_exact(4096).enumerate() {
            let offset = index as u64 * 4096;
            let tweak = component.tweak_pref.page_tweak(offset);
            let mut page: [u8; 4096] = plain.try_into().unwrap();
            xts.encrypt_page(&tweak, &mut page);
            let want = expected.next().unwrap();
            assert_eq!(tweak, array(&want["tweak_hex"]));
            assert_eq!(sha256(plain), array(&want["plaintext_sha256"]));
            assert_eq!(sha256(&page), array(&want["ciphertext_sha256"]));
            assert_eq!(page[..64], bytes(&want["ciphertext_first64_hex"]));
            assert_eq!(page[4032..], bytes(&want["ciphertext_last64_hex"]));
            pld.update(&page);
            plain_pld.update(plain);
            ald.update(&(addr + offset).to_be_bytes());
            tld.update(&tweak);
        }
    }
    assert!(expected.next().is_none());
    assert_eq!(pld.finish()[..], bytes(&all["digests"]["pld_hex"]));
    assert_eq!(ald.finish()[..], bytes(&all["digests"]["ald_hex"]));
    assert_eq!(tld.finish()[..], bytes(&all["digests"]["tld_hex"]));
    assert_eq!(plain_pld.finish()[..], bytes(&all["digests_unencrypted"]["pld_hex"]));
}

#[test]
fn se_headers_parse_open_and_encode() {
    let all = vectors();
    let key = Secret::new(array(&all["key_slot"]["header_key_hex"]));
    for name in ["se_header", "se_header_two_slots"] {
        let raw = bytes(&all[name]["header_hex"]);
        let header = SeHeader::parse(&raw).unwrap();
        assert_eq!(header.encode(), raw);
        assert_eq!(header.encrypted_pages, 5);
        assert_eq!(header.pld[..], bytes(&all["digests"]["pld_hex"]));
        assert_eq!(header.ald[..], bytes(&all["digests"]["ald_hex"]));
        assert_eq!(header.tld[..], bytes(&all["digests"]["tld_hex"]));
        assert!(header.pcf.has(Pcf::ALLOW_DUMP) && !header.pcf.has(Pcf::NO_COMPONENT_ENCRYPTION));
        let mut area = header.encrypted_area.clone();
        Aes256Gcm::new(&key).open(&header.iv, &header.aad(), &mut area, &header.tag).unwrap();
        let secret = SecretArea::parse(&area).unwrap();
        assert_eq!(secret.cck, array(&all["se_header"]["cck_hex"]));
        assert_eq!(secret.xts_key[..], bytes(&all["se_header"]["xts_key_hex"]));
        assert_eq!(secret.psw_mask, number(&all["se_header"]["psw_mask"]));
        assert_eq!(secret.psw_addr, number(&all["se_header"]["psw_addr"]));
        assert_eq!(secret.scf, number(&all["se_header"]["scf"]));
        assert_eq!(secret.encode(), area);
        assert_eq!(format!("{secret:?}"), "SecretArea(..)");
    }
    let header = SeHeader::parse(&bytes(&all["se_header"]["header_hex"])).unwrap();
    assert_eq!(header.aad().len() as u64, all["se_header"]["aad_len"].as_u64().unwrap());
    assert_eq!(header.tag, array(&all["se_header"]["gcm_tag_hex"]));
    assert_eq!(header.iv, array(&all["se_header"]["iv_hex"]));
    assert_eq!(header.pcf.0, number(&all["se_header"]["pcf"]));
}

#[test]
fn negative_headers_have_their_faults() {
    let all = vectors();
    let case = |name: &str| {
        let cases = all["negative"]["cases"].as_array().unwrap();
        let case = cases.iter().find(|case| case["name"].as_str().unwrap() == name).unwrap();
        SeHeader::parse(&bytes(&case["header_hex"]))
    };
    assert_eq!(case("version 0x200"), Err(HeaderFault::Version(0x200)));
    assert_eq!(case("no key slot"), Err(HeaderFault::NoSlot));
    let foreign = case("only foreign slot").unwrap();
    assert_eq!(foreign.slots[0].phkh.0, array(&all["second_host_key"]["phkh_hex"]));
    let flipped = case("flipped bit in header AAD (PCF byte 0x3f)").unwrap();
    let key = Secret::new(array(&all["key_slot"]["header_key_hex"]));
    let mut area = flipped.encrypted_area.clone();
    assert_eq!(
        Aes256Gcm::new(&key).open(&flipped.iv, &flipped.aad(), &mut area, &flipped.tag),
        Err(Error::Authentication)
    );
}

#[test]
fn whole_image_is_assembled_bit_for_bit() {
    let all = vectors();
    let image = &all["image"];
    let header = bytes(&all["se_header"]["header_hex"]);
    let ipib = bytes(&image["ipib_hex"]);
    assert_eq!(IplBlock::parse(&ipib).unwrap().encode(), ipib);
    let (header_at, ipib_at) = (number(&image["header_at"]), number(&image["ipib_at"]));
    assert_eq!(header_at, HEADER_ADDR);
    let metadata = Metadata { header_offset: header_at, ipib_offset: ipib_at };
    assert_eq!(metadata.encode()[..], bytes(&image["metadata_at_0xc000_hex"]));
    let psw = short_psw(STAGE_A_ENTRY as u32);
    assert_eq!(psw[..], bytes(&image["short_psw_hex"]));
    assert_eq!(parse_short_psw(&psw), Ok(STAGE_A_ENTRY as u32));

    let mut out = vec![0u8; number(&image["total_size"]) as usize];
    let mut place = |at: u64, part: &[u8]| {
        out[at as usize..at as usize + part.len()].copy_from_slice(part);
    };
    place(0, &psw);
    place(METADATA_ADDR, &metadata.encode());
    place(header_at, &header);
    place(ipib_at, &ipib);
    let xts = Aes256Xts::new(&Secret::new(array(&all["page_xts"]["key_hex"])));
    for ((addr, payload), component) in payloads().iter().zip(image["components"].as_array().unwrap()) {
        let pref = TweakPref(number(&component["tweak_pref"]));
        for (index, plain) in payload.chunks_exact(4096).enumerate() {
            let mut page: [u8; 4096] = plain.try_into().unwrap();
            xts.encrypt_page(&pref.page_tweak(index as u64 * 4096), &mut page);
            place(addr + index as u64 * 4096, &page);
        }
    }
    assert_eq!(sha256(&out), array(&image["sha256_of_whole_image"]));
    assert_eq!(find_header(&out), Some(HEADER_ADDR as usize));
    out[METADATA_ADDR as usize] = 0;
    assert_eq!(find_header(&out), Some(HEADER_ADDR as usize), "found by search without the metadata");
    assert_eq!(find_header(&header), Some(0));
}

#[test]
fn derived_secrets() {
    let all = vectors();
    let ext = &all["ext_secret"];
    let derived =
        hkdf_sha512::<32>(&bytes(&ext["cck_hex"]), &bytes(&ext["salt_hex"]), b"IBM Z Ultravisor Add-Secret");
    assert_eq!(derived.expose()[..], bytes(&ext["ext_secret_hex"]));
    let dump = &all["dump"];
    let key =
        hkdf_sha512::<32>(&bytes(&dump["cck_hex"]), &bytes(&dump["seed_hex"]), b"IBM Z Ultravisor Dump");
    assert_eq!(key.expose()[..], bytes(&dump["dump_key_hex"]));
    let mut page: [u8; 4096] = std::array::from_fn(|i| (5 * i + 1) as u8);
    Aes256Xts::new(&Secret::new(array(&dump["xts_key_hex"])))
        .encrypt_page(&array(&dump["tweak_hex"]), &mut page);
    assert_eq!(sha256(&page), array(&dump["page_ciphertext_sha256"]));
}

#[test]
fn add_secret_requests() {
    let all = vectors();
    for name in ["association_derived_ext", "plaintext_derived_ext", "null_derived_ext"] {
        let case = &all["add_secret"][name];
        let raw = bytes(&case["asrcb_hex"]);
        let request = Asrcb::parse(&raw).unwrap();
        assert_eq!(request.encode(), raw);
        assert_eq!(request.secret.encode(), bytes(&case["secret_header_hex"]));
        assert_eq!(SecretHeader::parse(&request.secret.encode()).unwrap(), request.secret);
        assert_eq!(request.tag, array(&case["gcm_tag_hex"]));
        assert_eq!(request.config_uid, array(&case["cuid_hex"]));
        let mut area = request.encrypted_area.clone();
        Aes256Gcm::new(&Secret::new(array(&case["request_key_hex"])))
            .open(&request.iv, &request.aad(), &mut area, &request.tag)
            .unwrap();
        let (secret, ext) = area.split_at(area.len() - 32);
        assert_eq!(secret, bytes(&case["secret_hex"]));
        assert_eq!(ext, bytes(&case["ext_secret_hex"]));
    }
}

#[test]
fn attestation_request_and_measurement() {
    let all = vectors();
    let case = &all["attestation"];
    let raw = bytes(&case["arcb_hex"]);
    let request = Arcb::parse(&raw).unwrap();
    assert_eq!(request.encode(), raw);
    assert_eq!(request.flags.0, number(&case["flags"]));
    let mut area = request.encrypted_area.clone();
    Aes256Gcm::new(&Secret::new(array(&case["arcb_key_hex"])))
        .open(&request.iv, &request.aad(), &mut area, &request.tag)
        .unwrap();
    assert_eq!(area[..64], bytes(&case["meas_key_hex"]));
    assert_eq!(area[64..], bytes(&case["nonce_hex"]));
    assert_eq!(hmac_sha512(&area[..64], &[&bytes(&case["hmac_input_hex"])]), array(&case["measurement_hex"]));

    let block = bytes(&case["uvcb_request_hex"]);
    let header = UvHeader::parse(&block).unwrap();
    assert_eq!((header.len, header.command), (0x188, UvCommand::RETR_ATTEST));
    let fields = RetrAttest::parse(&block).unwrap();
    assert_eq!((fields.arcb_addr, fields.meas_addr, fields.add_addr), (0x20_0000, 0x20_1000, 0x20_2000));
    assert_eq!(fields.user_data[..5], bytes(&case["user_data_hex"]));
    assert_eq!(fields.encode(), block);

    let (additional, header) =
        (bytes(&case["additional_hex"]), SeHeader::parse(&bytes(&all["se_header"]["header_hex"])).unwrap());
    let items = AdditionalData::parse(request.flags, &additional).unwrap();
    assert_eq!(items.image_phkh.unwrap().0, array(&all["host_key"]["phkh_hex"]));
    assert_eq!(items.image_phkh, items.attestation_phkh);
    let locked = &all["secret_store_hash"]["after_assoc_and_plain_locked_hex"];
    assert_eq!(items.secret_store_hash, Some(array(locked)));
    assert_eq!(items.encode(), additional);
    let measured = Measured {
        pld: &header.pld,
        ald: &header.ald,
        tld: &header.tld,
        header_tag: &header.tag,
        config_uid: &array(&case["cuid_hex"]),
        user_data: &bytes(&case["user_data_hex"]),
        nonce: Some(&array(&case["nonce_hex"])),
        additional: &additional,
    };
    assert_eq!(measured.bytes(), bytes(&case["hmac_input_hex"]));
}
