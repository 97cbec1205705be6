//! Requests of `s390_pv` (s390-tools) against ours, both ways, and the parts that both compute.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod peer;

use cloister_crypto::{P521Secret, Secret, SeededEntropy};
use cloister_formats::s390x::arcb::{Arcb, ArcbFlags, HMAC_SHA512};
use cloister_formats::s390x::asrcb::{Asrcb, FLAG_DISABLE_DUMP, SecretType};
use cloister_formats::s390x::attestation::AdditionalData;
use cloister_formats::s390x::exchange::ExchangeResponse;
use cloister_formats::s390x::se_header::SeHeader;
use cloister_formats::s390x::secret_list::{SecretEntry, SecretList};
use cloister_owner::attest::{self, verify};
use cloister_owner::host_key::UserCertificate;
use cloister_owner::secret::{
    self, ExtensionSecret, GuestSecret, KeyType, RetrievableKey, SecretName, SigningKey, UserData, inspect,
};
use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private, Public};
use openssl::rsa::Rsa;
use openssl::x509::{X509, X509NameBuilder};
use peer::{attestation as peer_attestation, flags as peer_flags, private, public};
use s390_pv::attest::{AttestationItems, AttestationMeasAlg, AttestationMeasurement, AttestationRequest};
use s390_pv::request::{BootHdrTags, Confidential, EcPubKeyCoord, ReqEncrCtx, Request, SymKey};
use s390_pv::secret::{
    AddSecretFlags, AddSecretRequest, AddSecretVersion, ExtSecret, GuestSecret as PeerSecret,
    verify_asrcb_and_get_user_data,
};
use std::io::Cursor;

/// The vectors' header and keys, for both sides.
struct Fixture {
    data: serde_json::Value,
    header: SeHeader,
    host: P521Secret,
}

const IV: [u8; 12] = *b"twelve bytes";
const ARPK: [u8; 32] = [0x5a; 32];

impl Fixture {
    fn load() -> Self {
        let data: serde_json::Value = serde_json::from_str(include_str!("data/se-vectors.json")).unwrap();
        let host =
            P521Secret::from_scalar(&bytes(&data["host_key"]["private_scalar_hex"]).try_into().unwrap())
                .unwrap();
        let header = SeHeader::parse(&bytes(&data["se_header"]["header_hex"])).unwrap();
        Self { data, header, host }
    }

    fn tags(&self) -> BootHdrTags {
        BootHdrTags::from_se_image(&mut Cursor::new(self.header.encode())).unwrap()
    }

    fn peer_host(&self) -> PKey<Public> {
        public(&self.host)
    }
}

fn bytes(value: &serde_json::Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn customer() -> P521Secret {
    P521Secret::generate(&mut SeededEntropy::new(b"customer"))
}

fn context() -> ReqEncrCtx {
    ReqEncrCtx::new_aes_256(IV, private(&customer()), SymKey::Aes256(Confidential::new(ARPK))).unwrap()
}

const ALL_FLAGS: [ArcbFlags; 4] = [
    ArcbFlags::IMAGE_PHKH,
    ArcbFlags::ATTESTATION_PHKH,
    ArcbFlags::SECRET_STORE_HASH,
    ArcbFlags::FIRMWARE_STATE,
];

#[test]
fn both_read_the_same_tags_out_of_a_header_and_hash_a_host_key_alike() {
    let fixture = Fixture::load();
    assert_eq!(*fixture.tags().tag(), fixture.header.tag);
    let peer: EcPubKeyCoord = fixture.peer_host().as_ref().try_into().unwrap();
    assert_eq!(peer.as_ref(), fixture.host.public().to_padded_xy());
    assert_eq!(peer.sha256().unwrap()[..], bytes(&fixture.data["host_key"]["phkh_hex"]));
}

#[test]
fn attestation_requests_are_the_same_bytes_for_the_same_keys_with_every_set_of_flags() {
    let fixture = Fixture::load();
    let second = P521Secret::generate(&mut SeededEntropy::new(b"second"));
    for set in 0..16 {
        let flags =
            ArcbFlags((0..4).filter(|bit| set >> bit & 1 == 1).fold(0, |all, bit| all | ALL_FLAGS[bit].0));
        let mut theirs = peer_attestation(flags);
        theirs.add_hostkey(fixture.peer_host());
        theirs.add_hostkey(public(&second));
        let confidential = theirs.confidential_data();
        let theirs = theirs.encrypt(&context()).unwrap();
        let material = attest::Material {
            customer: customer(),
            arpk: Secret::new(ARPK),
            iv: IV,
            measurement_key: Secret::from_slice(confidential.measurement_key()).unwrap(),
            nonce: Secret::new(*confidential.nonce().as_ref().unwrap().value()),
        };
        let ours = attest::request_with(&[fixture.host.public(), second.public()], flags, &material).unwrap();
        assert_eq!(hex::encode(ours.encode()), hex::encode(&theirs), "{flags:?}");
        assert_eq!(AdditionalData::size(flags), peer_flags(flags).expected_additional_size() as usize);
        // And theirs parses in ours, field by field.
        let parsed = Arcb::parse(&theirs).unwrap();
        assert_eq!(parsed, ours);
        assert_eq!((parsed.flags, parsed.algorithm), (ArcbFlags(flags.0 | ArcbFlags::NONCE.0), HMAC_SHA512));
        assert_eq!((parsed.iv, parsed.slots.len()), (IV, 2));
    }
}

#[test]
fn our_attestation_request_opens_there_with_its_protection_key_and_no_other() {
    let fixture = Fixture::load();
    let flags = ArcbFlags(ArcbFlags::IMAGE_PHKH.0 | ArcbFlags::SECRET_STORE_HASH.0);
    let material = attest::Material::draw(&mut SeededEntropy::new(b"ours"));
    let arcb = attest::request_with(&[fixture.host.public()], flags, &material).unwrap().encode();
    let arpk = SymKey::Aes256(Confidential::new(*material.arpk.expose()));
    let (authenticated, confidential) = AttestationRequest::decrypt_bin(&arcb, &arpk).unwrap();
    assert!(authenticated.flags().image_phkh() && authenticated.flags().secret_store_hash());
    assert!(!authenticated.flags().attest_phkh() && !authenticated.flags().firmware_state());
    assert_eq!(authenticated.mai(), AttestationMeasAlg::HmacSha512);
    assert_eq!(confidential.measurement_key(), material.measurement_key.expose());
    assert_eq!(confidential.nonce().as_ref().unwrap().value(), material.nonce.expose());
    assert!(AttestationRequest::decrypt_bin(&arcb, &SymKey::Aes256(Confidential::new([0; 32]))).is_err());
}

#[test]
fn both_compute_the_measurement_of_the_vectors_and_of_an_answer_to_their_request() {
    let fixture = Fixture::load();
    let golden = ExchangeResponse::parse(&bytes(&fixture.data["attestation"]["exchange_file_hex"])).unwrap();
    let arpk: [u8; 32] = bytes(&fixture.data["attestation"]["arcb_key_hex"]).try_into().unwrap();
    let measure = |response: &ExchangeResponse, arpk: [u8; 32]| {
        let arpk = SymKey::Aes256(Confidential::new(arpk));
        let (authenticated, confidential) = AttestationRequest::decrypt_bin(&response.arcb, &arpk).unwrap();
        let items = AttestationItems::new(
            &fixture.tags(),
            &response.config_uid,
            Some(&response.user_data),
            confidential.nonce().as_ref().map(Confidential::value),
            Some(&response.additional),
        );
        let key = PKey::hmac(confidential.measurement_key()).unwrap();
        AttestationMeasurement::calculate(items, authenticated.mai(), &key).unwrap()
    };
    assert!(measure(&golden, arpk).eq_secure(&golden.measurement));
    verify(&golden, &fixture.header, &Secret::new(arpk)).unwrap();

    let mut request = peer_attestation(ArcbFlags::FIRMWARE_STATE);
    request.add_hostkey(fixture.peer_host());
    let mut response = ExchangeResponse {
        arcb: request.encrypt(&context()).unwrap(),
        measurement: Vec::new(),
        additional: (0..320).map(|at| at as u8).collect(),
        user_data: b"user".to_vec(),
        config_uid: [7; 16],
    };
    response.measurement = measure(&response, ARPK).as_ref().to_vec();
    let verified = verify(&response, &fixture.header, &Secret::new(ARPK)).unwrap();
    assert_eq!(verified.items.firmware_state.unwrap()[..], response.additional);
    response.user_data[0] ^= 1;
    assert!(!measure(&response, ARPK).eq_secure(&response.measurement));
    assert!(verify(&response, &fixture.header, &Secret::new(ARPK)).is_err());
}

/// Every type, as both sides make it.
fn secrets() -> Vec<(&'static str, PeerSecret, GuestSecret, SecretType)> {
    let ours = |kind, file: &[u8]| GuestSecret::Retrievable {
        name: SecretName::hashed("NAME"),
        key: RetrievableKey::new(kind, "file", file).unwrap(),
    };
    let key = |size: usize| (0..size).map(|at| at as u8 + 1).collect::<Vec<u8>>();
    let mut all = vec![
        ("meta", PeerSecret::Null, GuestSecret::Meta, SecretType::NULL),
        (
            "association",
            PeerSecret::association("NAME", [3; 32]).unwrap(),
            GuestSecret::Association { name: SecretName::hashed("NAME"), secret: Secret::new([3; 32]) },
            SecretType::ASSOCIATION,
        ),
        (
            "update-cck",
            PeerSecret::update_cck([4; 32]),
            GuestSecret::UpdateCck(Secret::new([4; 32])),
            SecretType::CCK_UPDATE,
        ),
    ];
    for size in [0, 1, 14, 15, 16, 8190] {
        let text: Vec<u8> = (0..size).map(|at| at as u8).collect();
        all.push((
            "plain",
            PeerSecret::plaintext("NAME", text.clone().into()).unwrap(),
            ours(KeyType::Plain, &text),
            SecretType::PLAINTEXT,
        ));
    }
    for (size, kind) in [(16, SecretType::AES_128), (24, SecretType::AES_192), (32, SecretType::AES_256)] {
        all.push((
            "aes",
            PeerSecret::aes("NAME", key(size).into()).unwrap(),
            ours(KeyType::Aes, &key(size)),
            kind,
        ));
    }
    for (size, kind) in [(32, SecretType::AES_128_XTS), (64, SecretType::AES_256_XTS)] {
        let theirs = PeerSecret::aes_xts("NAME", key(size).into()).unwrap();
        all.push(("aes-xts", theirs, ours(KeyType::AesXts, &key(size)), kind));
    }
    for (size, kind) in [(64, SecretType::HMAC_SHA_256), (128, SecretType::HMAC_SHA_512)] {
        let theirs = PeerSecret::hmac_sha("NAME", key(size).into()).unwrap();
        all.push(("hmac-sha", theirs, ours(KeyType::HmacSha, &key(size)), kind));
    }
    for (curve, kind) in [
        (Nid::X9_62_PRIME256V1, SecretType::ECDSA_P256),
        (Nid::SECP384R1, SecretType::ECDSA_P384),
        (Nid::SECP521R1, SecretType::ECDSA_P521),
    ] {
        let ec = EcKey::generate(&EcGroup::from_curve_name(curve).unwrap()).unwrap();
        for file in [ec.private_key_to_pem().unwrap(), ec.private_key_to_der().unwrap()] {
            let theirs = PeerSecret::ec("NAME", PKey::from_ec_key(ec.clone()).unwrap()).unwrap();
            all.push(("ec", theirs, ours(KeyType::Ec, &file), kind));
        }
        let pkcs8 = PKey::from_ec_key(ec.clone()).unwrap().private_key_to_pem_pkcs8().unwrap();
        let theirs = PeerSecret::ec("NAME", PKey::from_ec_key(ec).unwrap()).unwrap();
        all.push(("ec", theirs, ours(KeyType::Ec, &pkcs8), kind));
    }
    for (edwards, kind) in [
        (PKey::generate_ed25519().unwrap(), SecretType::ED25519),
        (PKey::generate_ed448().unwrap(), SecretType::ED448),
    ] {
        let pem = edwards.private_key_to_pem_pkcs8().unwrap();
        all.push(("ec", PeerSecret::ec("NAME", edwards).unwrap(), ours(KeyType::Ec, &pem), kind));
    }
    all
}

fn plain(secret: GuestSecret) -> secret::Request {
    secret::Request {
        secret,
        extension: ExtensionSecret::None,
        config_uid: None,
        disable_dump: false,
        user_data: UserData::None,
    }
}

fn our_request(fixture: &Fixture, request: &secret::Request) -> Asrcb {
    let material = secret::Material { customer: customer(), key: Secret::new(ARPK), iv: IV };
    let entropy = &mut SeededEntropy::new(b"salt");
    secret::request_with(&[fixture.host.public()], &fixture.header, request, &material, entropy).unwrap()
}

fn peer_request(fixture: &Fixture, secret: PeerSecret) -> AddSecretRequest {
    let flags = AddSecretFlags::default();
    let mut request = AddSecretRequest::new(AddSecretVersion::One, secret, fixture.tags(), flags);
    request.add_hostkey(fixture.peer_host());
    request
}

#[test]
fn add_secret_requests_of_every_type_are_the_same_bytes_for_the_same_keys() {
    let fixture = Fixture::load();
    for (name, theirs, ours, kind) in secrets() {
        let theirs = peer_request(&fixture, theirs).encrypt(&context()).unwrap();
        let ours = our_request(&fixture, &plain(ours));
        assert_eq!(hex::encode(ours.encode()), hex::encode(&theirs), "{name}, {}", kind.name());
        let parsed = Asrcb::parse(&theirs).unwrap();
        assert_eq!(parsed, ours);
        assert_eq!((parsed.secret.kind, parsed.se_tag), (kind, fixture.header.tag));
        assert_eq!(AddSecretRequest::bin_tag(&ours.encode()).unwrap(), ours.tag);
        if let SecretType::NULL | SecretType::CCK_UPDATE = kind {
            continue;
        }
        assert_eq!(parsed.secret.id, *SecretName::hashed("NAME").id());
    }
}

#[test]
fn bindings_flags_and_extension_secrets_are_the_same_bytes() {
    let fixture = Fixture::load();
    let cck: [u8; 32] = bytes(&fixture.data["ext_secret"]["cck_hex"]).try_into().unwrap();
    for derived in [false, true] {
        let mut flags = AddSecretFlags::default();
        flags.set_disable_dump();
        let mut theirs =
            AddSecretRequest::new(AddSecretVersion::One, PeerSecret::Null, fixture.tags(), flags);
        theirs.add_hostkey(fixture.peer_host());
        theirs.set_cuid([9; 16]);
        let (extension, their_extension) = match derived {
            true => (ExtensionSecret::Cck(Secret::new(cck)), ExtSecret::Derived(Confidential::new(cck))),
            false => {
                (ExtensionSecret::Simple(Secret::new([6; 32])), ExtSecret::Simple(Confidential::new([6; 32])))
            }
        };
        theirs.set_ext_secret(their_extension).unwrap();
        theirs.set_user_data(b"data for the user".to_vec(), None).unwrap();
        let ours = our_request(
            &fixture,
            &secret::Request {
                extension,
                config_uid: Some([9; 16]),
                disable_dump: true,
                user_data: UserData::Unsigned(b"data for the user".to_vec()),
                secret: GuestSecret::Meta,
            },
        );
        assert_eq!(hex::encode(ours.encode()), hex::encode(theirs.encrypt(&context()).unwrap()));
        assert_eq!((ours.flags, ours.config_uid), (FLAG_DISABLE_DUMP, [9; 16]));
    }
}

/// A certificate of a key; nobody verifies a chain here.
fn certificate(key: &PKey<Private>) -> UserCertificate {
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "user").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(1 << 32).unwrap()).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.sign(key, MessageDigest::sha256()).unwrap();
    UserCertificate::parse("user.crt", &builder.build().to_pem().unwrap()).unwrap()
}

#[test]
fn signed_user_data_verify_on_the_other_side_both_ways() {
    let fixture = Fixture::load();
    let rsa = |bits| PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap();
    let keys = [
        (private(&P521Secret::generate(&mut SeededEntropy::new(b"user"))), 256),
        (rsa(2048), 256),
        (rsa(3072), 128),
    ];
    for (index, (key, room)) in keys.into_iter().enumerate() {
        let signing = SigningKey::parse("key", &key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        let user_data = UserData::Signed(b"from the owner".to_vec(), signing);
        let ours = our_request(&fixture, &secret::Request { user_data, ..plain(GuestSecret::Meta) }).encode();
        let public = PKey::public_key_from_der(&key.public_key_to_der().unwrap()).unwrap();
        let seen = verify_asrcb_and_get_user_data(ours.clone(), Some(public.clone()));
        let seen = seen.unwrap_or_else(|error| panic!("key {index}: {error}")).unwrap();
        assert!(seen.starts_with(b"from the owner\0") && seen.len() == room);
        let mut altered = ours.clone();
        altered[0x31] ^= 1;
        assert!(verify_asrcb_and_get_user_data(altered, Some(public)).is_err());

        let mut theirs = peer_request(&fixture, PeerSecret::Null);
        theirs.set_user_data(b"from the owner".to_vec(), Some(key.clone())).unwrap();
        let theirs = theirs.encrypt(&context()).unwrap();
        let inspection = inspect("theirs", &theirs, Some(&certificate(&key))).unwrap();
        assert!(inspection.user_data.verified);
        assert_eq!(inspection.user_data.data.unwrap(), seen);
        let mut altered = theirs.clone();
        altered[0x31] ^= 1;
        assert!(inspect("theirs", &altered, Some(&certificate(&key))).is_err());
    }
}

#[test]
fn lists_of_secrets_are_read_alike() {
    let fixture = Fixture::load();
    let mut page = bytes(&fixture.data["secret_list"]["prefix_hex"]);
    page.resize(4096, 0);
    let ours = SecretList::parse(&page).unwrap();
    let theirs = s390_pv::uv::SecretList::decode(&mut Cursor::new(&page)).unwrap();
    assert_eq!((theirs.len(), theirs.total_num_secrets()), (ours.entries.len(), usize::from(ours.total)));
    for (their, our) in theirs.iter().zip(&ours.entries) {
        assert_eq!((their.index(), their.id(), their.secret_size()), (our.index, &our.id[..], our.len));
    }
    let entries = [SecretType::AES_128, SecretType::ECDSA_P521, SecretType::ED448, SecretType::CCK_UPDATE]
        .into_iter()
        .zip(0u16..)
        .map(|(kind, index)| SecretEntry { index, kind, len: 16, id: [index as u8; 32] });
    let list = SecretList { total: 4, next: 0, entries: entries.collect() };
    let theirs = s390_pv::uv::SecretList::decode(&mut Cursor::new(&list.encode()[..])).unwrap();
    let mut encoded = Vec::new();
    theirs.encode(&mut encoded).unwrap();
    assert_eq!(encoded, list.encode()[..encoded.len()]);
}

#[test]
fn our_model_machine_passes_their_verification_of_host_keys() {
    // The chain is the product's own; only the verifier is theirs.
    use s390_pv::request::{CertVerifier, HkdVerifier};
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    cloister_platform_store::create_s390x(
        folder.path(),
        &cloister_platform_store::CreateOptions {
            backup_key: false,
            further_identities: 0,
            revoked_identity: true,
            validity_days: 10,
        },
        &mut SeededEntropy::new(b"machine"),
        std::time::SystemTime::now(),
    )
    .unwrap();
    let verifier = CertVerifier::new(
        &[at("signing.crt")],
        &[at("signing.crl"), at("root-ca.crl")],
        Some(at("root-ca.crt")),
        true,
    )
    .unwrap();
    let document = |name: &str| X509::from_pem(&std::fs::read(at(name)).unwrap()).unwrap();
    verifier.verify(&document("host.crt")).unwrap();
    assert!(verifier.verify(&document("revoked.crt")).is_err());
}
