//! The files that travel between owner and guest: exchange files and lists of secrets.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use cloister_formats::s390x::asrcb::SecretType;
use cloister_formats::s390x::exchange::{ExchangeRequest, ExchangeResponse};
use cloister_formats::s390x::secret_list::{MAX_ENTRIES, SecretEntry, SecretList};
use proptest::collection::vec;
use proptest::prelude::*;

fn golden(section: &str, name: &str) -> Vec<u8> {
    let all: serde_json::Value = serde_json::from_str(include_str!("data/se-vectors.json")).unwrap();
    hex::decode(all[section][name].as_str().unwrap()).unwrap()
}

#[test]
fn exchange_file_version_1_is_the_one_that_pvattest_accepts() {
    let file = golden("attestation", "exchange_file_hex");
    let response = ExchangeResponse::parse(&file).unwrap();
    assert_eq!(response.arcb, golden("attestation", "arcb_hex"));
    assert_eq!(response.measurement, golden("attestation", "measurement_hex"));
    assert_eq!(response.additional, golden("attestation", "additional_hex"));
    assert_eq!(response.user_data, b"hello");
    assert_eq!(response.config_uid[..], golden("attestation", "cuid_hex"));
    assert_eq!(response.encode(), file);
    // The request can be sent again out of the answer.
    let request = ExchangeRequest::parse(&file).unwrap();
    assert_eq!((request.measurement_size, request.additional_size), (64, 128));
    assert_eq!(request.arcb, response.arcb);
}

#[test]
fn exchange_file_a_request_has_sizes_without_places() {
    let request = ExchangeRequest::new(vec![7; 5], 0x80);
    let file = request.encode();
    assert_eq!(
        hex::encode(&file[..0x40]),
        concat!(
            "7076617474657374",
            "00000100",
            "00000045",
            "0000000000000000",
            "00000005",
            "00000040",
            "00000040",
            "00000000",
            "00000080",
            "00000000",
            "0000000000000000",
            "0000000000000000",
        )
    );
    assert_eq!(ExchangeRequest::parse(&file).unwrap(), request);
    let refusal = ExchangeResponse::parse(&file).unwrap_err().to_string();
    assert!(refusal.contains("no guest has answered"), "{refusal}");
}

#[test]
fn exchange_file_parts_must_lie_in_the_file_and_behind_the_head() {
    let file = golden("attestation", "exchange_file_hex");
    for (at, value) in
        [(0x1c, 0x3f_u32), (0x1c, 0x10_0000), (0x18, 0x10_0001), (0x08, 0x200), (0x0c, 0x10_0000), (0x38, 15)]
    {
        let mut broken = file.clone();
        broken[at..at + 4].copy_from_slice(&value.to_be_bytes());
        assert!(ExchangeResponse::parse(&broken).is_err(), "{at:#x}");
    }
}

#[test]
fn secret_list_begins_as_the_vector_does() {
    let prefix = golden("secret_list", "prefix_hex");
    let mut page = [0; 4096];
    page[..prefix.len()].copy_from_slice(&prefix);
    let list = SecretList::parse(&page).unwrap();
    assert_eq!((list.total, list.entries.len()), (2, 2));
    assert_eq!(list.entries[0].kind, SecretType::ASSOCIATION);
    assert_eq!(list.entries[1].kind, SecretType::PLAINTEXT);
    assert_eq!(list.encode(), page);
    page[..2].copy_from_slice(&(MAX_ENTRIES as u16 + 1).to_be_bytes());
    assert!(SecretList::parse(&page).is_err());
}

prop_compose! {
    fn response()(
        arcb in vec(any::<u8>(), 1..600), measurement in vec(any::<u8>(), 1..80),
        additional in vec(any::<u8>(), 0..200), user_data in vec(any::<u8>(), 0..=256), config_uid: [u8; 16],
    ) -> ExchangeResponse {
        ExchangeResponse { arcb, measurement, additional, user_data, config_uid }
    }
}

prop_compose! {
    fn entry()(index: u16, kind: u16, len: u32, id: [u8; 32]) -> SecretEntry {
        SecretEntry { index, kind: SecretType(kind), len, id }
    }
}

proptest! {
    #[test]
    fn exchange_file_decoding_inverts_encoding(response in response()) {
        prop_assert_eq!(ExchangeResponse::parse(&response.encode()).unwrap(), response);
    }

    #[test]
    fn exchange_file_no_input_makes_the_parsers_panic(mut bytes in vec(any::<u8>(), 0..600), real: bool) {
        if real && bytes.len() >= 0x40 {
            bytes[..16].copy_from_slice(b"pvattest\0\0\x01\0\0\0\0\0");
            for entry in (0x18..0x40).step_by(4) {
                bytes[entry..entry + 2].fill(0);
            }
        }
        if let Ok(response) = ExchangeResponse::parse(&bytes) {
            prop_assert_eq!(ExchangeResponse::parse(&response.encode()).unwrap(), response);
        }
        if let Ok(request) = ExchangeRequest::parse(&bytes) {
            prop_assert_eq!(ExchangeRequest::parse(&request.encode()).unwrap(), request);
        }
    }

    #[test]
    fn secret_list_decoding_inverts_encoding(total: u16, next: u16, entries in vec(entry(), 0..=MAX_ENTRIES)) {
        let list = SecretList { total, next, entries };
        prop_assert_eq!(SecretList::parse(&list.encode()).unwrap(), list);
    }
}
