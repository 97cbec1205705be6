//! Requests of `s390_pv` in a protected guest of ours: the Ultravisor takes them, and both sides believe its answers.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod peer;

use cloister_crypto::{P521Secret, Secret, SeededEntropy};
use cloister_end_to_end::inprocess::proxy::{Called, INPUT, OUTPUT};
use cloister_end_to_end::inprocess::{Model, Proxy, guest_program};
use cloister_formats::s390x::arcb::ArcbFlags;
use cloister_formats::s390x::asrcb::SecretType;
use cloister_formats::s390x::se_header::SeHeader;
use cloister_formats::s390x::secret_list::SecretList;
use cloister_formats::s390x::uvcb::{AddSecret, ListSecrets};
use cloister_owner::attest::{read_header, verify};
use cloister_owner::image::Settings;
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::PKey;
use peer::{attestation, private, public};
use s390_pv::attest::{AttestationItems, AttestationMeasurement, AttestationRequest};
use s390_pv::request::{BootHdrTags, Confidential, ReqEncrCtx, Request, SymKey};
use s390_pv::secret::{AddSecretFlags, AddSecretRequest, AddSecretVersion, GuestSecret};
use std::io::Cursor;

const ARPK: [u8; 32] = [0x5a; 32];

/// A protected guest that runs.
struct Scene {
    model: Model,
    proxy: Proxy,
    image: Vec<u8>,
    header: SeHeader,
}

impl Scene {
    fn new(seed: &str) -> Self {
        let model = Model::new(seed);
        let image = model.image(&guest_program("proxy"), None, "", &Settings::default());
        let file = model.write("proxy.img", &image);
        let header = read_header(&file).unwrap();
        let proxy = Proxy::start(model.platform(), &file);
        Self { model, proxy, image, header }
    }

    fn host(&self) -> PKey<openssl::pkey::Public> {
        public(&self.model.platform().s390x().host.secret)
    }

    /// As the peer reads them out of our image.
    fn tags(&self) -> BootHdrTags {
        BootHdrTags::from_se_image(&mut Cursor::new(&self.image)).unwrap()
    }

    fn add(&self, secret: GuestSecret, tags: BootHdrTags, host: PKey<openssl::pkey::Public>) -> Called {
        let mut request =
            AddSecretRequest::new(AddSecretVersion::One, secret, tags, AddSecretFlags::default());
        request.add_hostkey(host);
        let request = request.encrypt(&context()).unwrap();
        self.proxy.call(&AddSecret { addr: INPUT }.encode(), &request)
    }
}

/// A key pair and an initial value of its own, and the known protection key.
fn context() -> ReqEncrCtx {
    ReqEncrCtx::new_aes_256(None, None, SymKey::Aes256(Confidential::new(ARPK))).unwrap()
}

#[test]
fn the_ultravisor_answers_requests_of_the_peer_and_both_verify_the_answer() {
    let scene = Scene::new("oracle");
    let all = [
        ArcbFlags::IMAGE_PHKH,
        ArcbFlags::ATTESTATION_PHKH,
        ArcbFlags::SECRET_STORE_HASH,
        ArcbFlags::FIRMWARE_STATE,
    ];
    for set in [0, 1, 3, 7, 15] {
        let flags =
            ArcbFlags((0..4).filter(|bit| set >> bit & 1 == 1).fold(0, |flags, bit| flags | all[bit].0));
        let mut request = attestation(flags);
        request.add_hostkey(scene.host());
        let arcb = request.encrypt(&context()).unwrap();
        let response = scene.proxy.attest(&arcb, b"the guest's public key").unwrap();
        let verified = verify(&response, &scene.header, &Secret::new(ARPK)).unwrap();
        assert_eq!(verified.items.flags(), flags);

        let arpk = SymKey::Aes256(Confidential::new(ARPK));
        let (authenticated, confidential) = AttestationRequest::decrypt_bin(&arcb, &arpk).unwrap();
        let items = AttestationItems::new(
            &scene.tags(),
            &response.config_uid,
            Some(&response.user_data),
            confidential.nonce().as_ref().map(Confidential::value),
            Some(&response.additional),
        );
        let key = PKey::hmac(confidential.measurement_key()).unwrap();
        let measurement = AttestationMeasurement::calculate(items, authenticated.mai(), &key).unwrap();
        assert!(measurement.eq_secure(&response.measurement));
    }
    let mut foreign = attestation(ArcbFlags(0));
    foreign.add_hostkey(public(&P521Secret::generate(&mut SeededEntropy::new(b"foreign"))));
    assert_eq!(scene.proxy.attest(&foreign.encrypt(&context()).unwrap(), b""), Err((0x10c, 1)));
    scene.proxy.end();
}

#[test]
fn the_ultravisor_stores_secrets_of_the_peer_of_every_type() {
    let scene = Scene::new("oracle-secrets");
    let key = |size: usize| Confidential::new((0..size).map(|at| at as u8 + 1).collect::<Vec<u8>>());
    let ec = |curve| {
        PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(curve).unwrap()).unwrap()).unwrap()
    };
    let secrets = [
        (GuestSecret::association("assoc", [3; 32]).unwrap(), SecretType::ASSOCIATION),
        (GuestSecret::plaintext("plain", key(100)).unwrap(), SecretType::PLAINTEXT),
        (GuestSecret::aes("aes-128", key(16)).unwrap(), SecretType::AES_128),
        (GuestSecret::aes("aes-192", key(24)).unwrap(), SecretType::AES_192),
        (GuestSecret::aes("aes-256", key(32)).unwrap(), SecretType::AES_256),
        (GuestSecret::aes_xts("xts-128", key(32)).unwrap(), SecretType::AES_128_XTS),
        (GuestSecret::aes_xts("xts-256", key(64)).unwrap(), SecretType::AES_256_XTS),
        (GuestSecret::hmac_sha("hmac-256", key(64)).unwrap(), SecretType::HMAC_SHA_256),
        (GuestSecret::hmac_sha("hmac-512", key(128)).unwrap(), SecretType::HMAC_SHA_512),
        (GuestSecret::ec("p256", ec(Nid::X9_62_PRIME256V1)).unwrap(), SecretType::ECDSA_P256),
        (GuestSecret::ec("p384", ec(Nid::SECP384R1)).unwrap(), SecretType::ECDSA_P384),
        (GuestSecret::ec("p521", ec(Nid::SECP521R1)).unwrap(), SecretType::ECDSA_P521),
        (GuestSecret::ec("ed25519", PKey::generate_ed25519().unwrap()).unwrap(), SecretType::ED25519),
        (GuestSecret::ec("ed448", PKey::generate_ed448().unwrap()).unwrap(), SecretType::ED448),
    ];
    let kinds: Vec<_> = secrets.iter().map(|(_, kind)| *kind).collect();
    for (secret, kind) in secrets {
        let called = scene.add(secret, scene.tags(), scene.host());
        assert_eq!((called.rc, called.rrc), (1, 0), "{}", kind.name());
    }
    let called = scene.proxy.call(&ListSecrets { start_index: 0, addr: OUTPUT }.encode(), &[]);
    assert_eq!(called.rc, 1);
    let page = scene.proxy.output();
    let list = SecretList::parse(&page).unwrap();
    assert_eq!(list.entries.iter().map(|entry| entry.kind).collect::<Vec<_>>(), kinds);
    let theirs = s390_pv::uv::SecretList::decode(&mut Cursor::new(&page)).unwrap();
    assert_eq!(theirs.len(), kinds.len());

    let other = BootHdrTags::new([1; 64], [2; 64], [3; 64], [4; 16]);
    let called = scene.add(GuestSecret::Null, other, scene.host());
    assert_eq!((called.rc, called.rrc), (0x10c, 1), "another image");
    let foreign = PKey::public_key_from_der(
        &private(&P521Secret::generate(&mut SeededEntropy::new(b"foreign"))).public_key_to_der().unwrap(),
    );
    let called = scene.add(GuestSecret::Null, scene.tags(), foreign.unwrap());
    assert_eq!((called.rc, called.rrc), (0x108, 1), "another machine");
    scene.proxy.end();
}
