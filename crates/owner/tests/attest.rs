//! Attestation as the owner does it: golden answers verified, altered ones refused with the reason.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use cloister_crypto::{
    Aes256Gcm, P521Public, P521Secret, Secret, SeededEntropy, hmac_sha512, sha512, x963_kdf_sha256,
};
use cloister_formats::s390x::arcb::{Arcb, ArcbFlags};
use cloister_formats::s390x::attestation::{AdditionalData, Measured};
use cloister_formats::s390x::exchange::{ExchangeRequest, ExchangeResponse};
use cloister_formats::s390x::host_key::Phkh;
use cloister_formats::s390x::se_header::SeHeader;
use cloister_owner::attest::{
    CreateOptions, HostKeyCheck, Material, Policy, SecretStorePolicy, VerifyOptions, check, config_uid_in,
    create, request, request_with, verify, verify_files,
};
use cloister_owner::host_key::Verification;
use cloister_owner::{AttestError, OwnerError};
use std::fs;
use std::os::unix::fs::PermissionsExt;

struct Golden(serde_json::Value);

impl Golden {
    fn load() -> Self {
        Self(serde_json::from_str(include_str!("data/se-vectors.json")).unwrap())
    }

    fn hex(&self, section: &str, name: &str) -> Vec<u8> {
        hex::decode(self.0[section][name].as_str().unwrap()).unwrap()
    }

    fn response(&self) -> ExchangeResponse {
        ExchangeResponse::parse(&self.hex("attestation", "exchange_file_hex")).unwrap()
    }

    fn header(&self) -> SeHeader {
        SeHeader::parse(&self.hex("se_header", "header_hex")).unwrap()
    }

    fn arpk(&self) -> Secret<32> {
        Secret::from_slice(&self.hex("attestation", "arcb_key_hex")).unwrap()
    }

    fn host_key(&self) -> P521Public {
        let scalar = self.hex("host_key", "private_scalar_hex").try_into().unwrap();
        P521Secret::from_scalar(&scalar).unwrap().public()
    }
}

#[test]
fn attestation_5_the_answer_that_pvattest_verifies_is_verified() {
    let golden = Golden::load();
    let verified = verify(&golden.response(), &golden.header(), &golden.arpk()).unwrap();
    assert_eq!(verified.user_data, b"hello");
    assert_eq!(verified.config_uid[..], golden.hex("attestation", "cuid_hex"));
    assert_eq!(verified.items.image_phkh.unwrap().0[..], golden.hex("host_key", "phkh_hex"));
    let yaml = verified.yaml();
    assert!(yaml.starts_with("cuid: '0xa213531777cfe1d73de436be37d58064'\nadd: '0xed8b"), "{yaml}");
    assert!(
        yaml.contains("\nadd_fields:\n  image_phkh: '0xed8b")
            && yaml.ends_with("user_data: '0x68656c6c6f'\n")
    );
    assert_eq!(config_uid_in(yaml.as_bytes()), Some(verified.config_uid));
    assert_eq!(config_uid_in(&verified.config_uid), Some(verified.config_uid));
}

#[test]
fn attestation_5_a_mismatch_says_what_was_compared() {
    let golden = Golden::load();
    let refuse = |response: &ExchangeResponse, header: &SeHeader| {
        let error = verify(response, header, &golden.arpk()).unwrap_err();
        assert!(matches!(error, AttestError::Mismatch(_)), "{error}");
        error.to_string()
    };
    let good = golden.response();
    let mut changed = good.clone();
    changed.user_data[0] ^= 1;
    let text = refuse(&changed, &golden.header());
    for part in
        ["image tags", "configuration", "user data        5 bytes", "nonce", "additional data  128 bytes"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let mut changed = good.clone();
    changed.config_uid[15] ^= 1;
    refuse(&changed, &golden.header());
    let mut changed = good.clone();
    changed.additional[127] ^= 1;
    refuse(&changed, &golden.header());
    let mut changed = good.clone();
    changed.measurement.truncate(63);
    refuse(&changed, &golden.header());
    let mut other = golden.header();
    other.tag[0] ^= 1;
    refuse(&good, &other);
    other = golden.header();
    other.slots[0].phkh.0[0] ^= 1;
    other.pld[0] ^= 1;
    let text = refuse(&good, &other);
    assert!(text.contains("the guest runs another image"), "{text}");
    // User data that is moved to the additional data gives the same tail of bytes, but other lengths.
    let mut moved = good.clone();
    moved.additional.insert(0, moved.user_data.pop().unwrap());
    assert!(refuse(&moved, &golden.header()).contains("asked for 128 bytes"));
}

#[test]
fn attestation_5_another_protection_key_or_an_altered_request_is_refused() {
    let golden = Golden::load();
    let good = golden.response();
    assert!(matches!(verify(&good, &golden.header(), &Secret::new([1; 32])), Err(AttestError::Arpk)));
    for at in [0x10, 0x33, 0x40, 0xe0, good.arcb.len() - 1] {
        let mut changed = good.clone();
        changed.arcb[at] ^= 1;
        assert!(verify(&changed, &golden.header(), &golden.arpk()).is_err(), "{at:#x}");
    }
}

#[test]
fn attestation_5_the_same_keys_give_the_same_request_and_the_machine_opens_it() {
    let golden = Golden::load();
    let host = P521Secret::generate(&mut SeededEntropy::new(b"host"));
    let material = Material::draw(&mut SeededEntropy::new(b"request"));
    let keys = [golden.host_key(), host.public()];
    let arcb = request_with(&keys, ArcbFlags::FIRMWARE_STATE, &material).unwrap();
    assert_eq!(request_with(&keys, ArcbFlags::FIRMWARE_STATE, &material).unwrap(), arcb);
    assert_eq!(Arcb::parse(&arcb.encode()).unwrap(), arcb);
    // What the second machine does.
    let slot = arcb.slots[1];
    assert_eq!(slot.phkh.0, cloister_crypto::sha256(&host.public().to_padded_xy()));
    let z = host.ecdh_x(&P521Public::from_padded_xy(&arcb.customer_key.0).unwrap());
    let mut key = slot.wrapped_key;
    Aes256Gcm::new(&x963_kdf_sha256(z.expose())).open(&[0; 12], &[], &mut key, &slot.tag).unwrap();
    let mut area = arcb.encrypted_area.clone();
    Aes256Gcm::new(&Secret::new(key)).open(&arcb.iv, &arcb.aad(), &mut area, &arcb.tag).unwrap();
    assert_eq!(area[..64], material.measurement_key.expose()[..]);
    assert_eq!(area[64..], material.nonce.expose()[..]);
    assert!(matches!(request_with(&[], ArcbFlags(0), &material), Err(AttestError::NoHostKey)));
    let many = vec![host.public(); 256];
    assert!(matches!(request_with(&many, ArcbFlags(0), &material), Err(AttestError::TooManyHostKeys(256))));
}

/// What an Ultravisor answers, as far as the measurement goes.
fn answer(
    arcb: &Arcb,
    arpk: &Secret<32>,
    header: &SeHeader,
    items: &AdditionalData,
    user: &[u8],
) -> ExchangeResponse {
    let mut area = arcb.encrypted_area.clone();
    Aes256Gcm::new(arpk).open(&arcb.iv, &arcb.aad(), &mut area, &arcb.tag).unwrap();
    let additional = items.encode();
    let measured = Measured {
        pld: &header.pld,
        ald: &header.ald,
        tld: &header.tld,
        header_tag: &header.tag,
        config_uid: &[9; 16],
        user_data: user,
        nonce: area[64..].first_chunk(),
        additional: &additional,
    };
    ExchangeResponse {
        arcb: arcb.encode(),
        measurement: hmac_sha512(&area[..64], &[&measured.bytes()]).to_vec(),
        additional,
        user_data: user.to_vec(),
        config_uid: [9; 16],
    }
}

#[test]
fn attestation_5_an_answer_to_another_request_is_refused() {
    let golden = Golden::load();
    let (header, entropy) = (golden.header(), &mut SeededEntropy::new(b"replay"));
    let none = AdditionalData::default();
    let (first, first_key) = request(&[golden.host_key()], ArcbFlags(0), entropy).unwrap();
    let (second, second_key) = request(&[golden.host_key()], ArcbFlags(0), entropy).unwrap();
    let old = answer(&first, &first_key, &header, &none, b"");
    verify(&old, &header, &first_key).unwrap();
    // The whole old answer, and the old measurement under the new request.
    assert!(matches!(verify(&old, &header, &second_key), Err(AttestError::Arpk)));
    let swapped = ExchangeResponse { arcb: second.encode(), ..old };
    assert!(matches!(verify(&swapped, &header, &second_key), Err(AttestError::Mismatch(_))));
}

#[test]
fn attest_check_holds_an_answer_against_each_part_of_a_policy() {
    let golden = Golden::load();
    let response = golden.response();
    let phkh = Phkh(golden.hex("host_key", "phkh_hex").try_into().unwrap());
    let requests = ["association_derived_ext", "plaintext_derived_ext"]
        .map(|name| hex::decode(golden.0["add_secret"][name]["asrcb_hex"].as_str().unwrap()).unwrap());
    let store =
        |requests: &[Vec<u8>], locked| Some(SecretStorePolicy { requests: requests.to_vec(), locked });
    let all = Policy {
        host_keys: vec![("host.crt".into(), phkh)],
        required: HostKeyCheck { attestation: true, boot: true },
        user_data: Some(b"hello".to_vec()),
        secret_store: store(&requests, true),
    };
    let report = check(&response, &all).unwrap();
    assert!(report.successful(), "{:?}", report.issues);
    let yaml = report.yaml();
    assert!(yaml.starts_with("successful: true\nimage_host_key:\n  hash: '0xed8b"), "{yaml}");
    assert!(yaml.contains("\nuser_data: '0x68656c6c6f'\nsecret_store: '0x2870"), "{yaml}");

    let issue = |policy: Policy| {
        let report = check(&response, &policy).unwrap();
        assert!(!report.successful() && report.yaml().starts_with("successful: false\nissues:\n- '"));
        report.issues.join(" ")
    };
    let nobody = vec![("other.crt".to_owned(), Phkh([0; 32]))];
    assert!(issue(Policy { host_keys: nobody, ..all.clone() }).contains("none of the given documents"));
    assert!(issue(Policy { user_data: Some(b"hullo".to_vec()), ..all.clone() }).contains("user data"));
    let unlocked = Policy { secret_store: store(&requests, false), ..all.clone() };
    assert!(issue(unlocked).contains("but it is locked"));
    let [first, second] = requests.clone();
    let swapped = Policy { secret_store: store(&[second, first], true), ..all.clone() };
    assert!(issue(swapped).contains("in this order"));
    assert_eq!(
        sha512(
            &[&requests[0][requests[0].len() - 16..], &requests[1][requests[1].len() - 16..], &[1]].concat()
        )[..],
        response.additional[64..]
    );
}

#[test]
fn attest_check_a_missing_hash_is_an_issue_only_if_it_is_required() {
    let golden = Golden::load();
    let (arcb, arpk) =
        request(&[golden.host_key()], ArcbFlags(0), &mut SeededEntropy::new(b"missing")).unwrap();
    let bare = answer(&arcb, &arpk, &golden.header(), &AdditionalData::default(), b"");
    let host_keys = vec![("host.crt".to_owned(), Phkh([0; 32]))];
    let lenient = Policy { host_keys: host_keys.clone(), ..Policy::default() };
    assert!(check(&bare, &lenient).unwrap().successful());
    let strict =
        Policy { required: HostKeyCheck { attestation: true, boot: true }, host_keys, ..Policy::default() };
    assert_eq!(check(&bare, &strict).unwrap().issues.len(), 2);
    let store = Policy { secret_store: Some(SecretStorePolicy::default()), ..Policy::default() };
    assert!(check(&bare, &store).unwrap().issues[0].contains("--add-data secret-store-hash"));
}

#[test]
fn attest_files_are_made_private_and_never_overwritten_unasked() {
    let golden = Golden::load();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let document = golden.0["certificates"]["host_key_document_pem"].as_str().unwrap();
    fs::write(at("host.crt"), document).unwrap();
    fs::write(at("hdr"), golden.hex("se_header", "header_hex")).unwrap();
    let options = CreateOptions {
        host_key_documents: vec![at("host.crt")],
        verification: Verification::None,
        output: at("request"),
        arpk: at("arpk"),
        additional: ArcbFlags(ArcbFlags::IMAGE_PHKH.0 | ArcbFlags::SECRET_STORE_HASH.0),
        overwrite: false,
    };
    let entropy = &mut SeededEntropy::new(b"files");
    let created = create(&options, entropy).unwrap();
    assert_eq!((created.additional_size, created.host_keys.len()), (96, 1));
    assert_eq!(fs::metadata(at("arpk")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(create(&options, entropy).unwrap_err().to_string().contains("exists"));
    let same = CreateOptions { output: at("new"), arpk: at("new"), ..options };
    assert!(create(&same, entropy).unwrap_err().to_string().contains("same file"));

    let exchange = ExchangeRequest::parse(&fs::read(at("request")).unwrap()).unwrap();
    assert_eq!((exchange.measurement_size, exchange.additional_size), (64, 96));
    let arcb = Arcb::parse(&exchange.arcb).unwrap();
    let arpk = Secret::from_slice(&fs::read(at("arpk")).unwrap()).unwrap();
    let items = AdditionalData {
        image_phkh: Some(Phkh([3; 32])),
        secret_store_hash: Some([4; 64]),
        ..AdditionalData::default()
    };
    let verifying = VerifyOptions { input: at("answer"), header: at("hdr"), arpk: at("arpk") };
    fs::write(at("answer"), fs::read(at("request")).unwrap()).unwrap();
    let unanswered = verify_files(&verifying, &mut Vec::new()).unwrap_err().to_string();
    assert!(unanswered.contains("no guest has answered yet"), "{unanswered}");
    fs::write(at("answer"), answer(&arcb, &arpk, &golden.header(), &items, b"u").encode()).unwrap();
    assert_eq!(verify_files(&verifying, &mut Vec::new()).unwrap().items, items);
    fs::write(at("arpk"), [0; 31]).unwrap();
    assert!(matches!(verify_files(&verifying, &mut Vec::new()), Err(OwnerError::Image(_))));
}
