//! Add-secret requests as the owner makes them: golden requests rebuilt, every type, signatures, refusals.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use cloister_crypto::{Aes256Gcm, P521Public, P521Secret, Secret, SeededEntropy, sha256, x963_kdf_sha256};
use cloister_formats::s390x::asrcb::{Asrcb, SecretType};
use cloister_formats::s390x::se_header::SeHeader;
use cloister_owner::host_key::{UserCertificate, Verification, Warning};
use cloister_owner::secret::{
    CreateOptions, ExtensionSecret, GuestSecret, Input, KeyType, Request, RetrievableKey, SecretName,
    SigningKey, UserData, create, extension_from_cck, inspect, inspect_file, request,
};
use cloister_owner::{OwnerError, SecretError};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

struct Golden(serde_json::Value);

impl Golden {
    fn load() -> Self {
        Self(serde_json::from_str(include_str!("data/se-vectors.json")).unwrap())
    }

    fn hex(&self, path: &[&str]) -> Vec<u8> {
        let value = path.iter().fold(&self.0, |value, name| &value[name]);
        hex::decode(value.as_str().unwrap()).unwrap()
    }

    fn header(&self) -> SeHeader {
        SeHeader::parse(&self.hex(&["se_header", "header_hex"])).unwrap()
    }

    fn host(&self) -> P521Secret {
        P521Secret::from_scalar(&self.hex(&["host_key", "private_scalar_hex"]).try_into().unwrap()).unwrap()
    }

    fn cck(&self) -> Secret<32> {
        Secret::from_slice(&self.hex(&["ext_secret", "cck_hex"])).unwrap()
    }
}

/// What a machine does with a request: its slot, then the sealed area.
fn open(asrcb: &Asrcb, host: &P521Secret) -> Option<Vec<u8>> {
    let phkh = sha256(&host.public().to_padded_xy());
    let slot = asrcb.slots.iter().find(|slot| slot.phkh.0 == phkh)?;
    let z = host.ecdh_x(&P521Public::from_padded_xy(&asrcb.customer_key.0).ok()?);
    let mut key = slot.wrapped_key;
    Aes256Gcm::new(&x963_kdf_sha256(z.expose())).open(&[0; 12], &[], &mut key, &slot.tag).ok()?;
    let mut area = asrcb.encrypted_area.clone();
    Aes256Gcm::new(&Secret::new(key)).open(&asrcb.iv, &asrcb.aad(), &mut area, &asrcb.tag).ok()?;
    Some(area)
}

fn plain(secret: GuestSecret) -> Request {
    Request {
        secret,
        extension: ExtensionSecret::None,
        config_uid: None,
        disable_dump: false,
        user_data: UserData::None,
    }
}

fn make(golden: &Golden, wanted: &Request) -> Asrcb {
    request(&[golden.host().public()], &golden.header(), wanted, &mut SeededEntropy::new(b"secret")).unwrap()
}

#[test]
fn secrets_6_requests_have_the_layout_and_the_contents_that_pvsecret_accepts() {
    let golden = Golden::load();
    let uid: [u8; 16] = golden.hex(&["attestation", "cuid_hex"]).try_into().unwrap();
    let secret =
        Secret::from_slice(&golden.hex(&["add_secret", "association_derived_ext", "secret_hex"])).unwrap();
    let association = GuestSecret::Association { name: SecretName::hashed("VECTOR-ASSOC"), secret };
    let key = RetrievableKey::new(KeyType::Plain, "file", b"hello world").unwrap();
    let plaintext = GuestSecret::Retrievable { name: SecretName::hashed("VECTOR-PLAIN"), key };
    for (name, secret, config_uid) in [
        ("association_derived_ext", association, Some(uid)),
        ("plaintext_derived_ext", plaintext, None),
        ("null_derived_ext", GuestSecret::Meta, Some(uid)),
    ] {
        let item = |field| golden.hex(&["add_secret", name, field]);
        let listed = Asrcb::parse(&item("asrcb_hex")).unwrap();
        let extension = ExtensionSecret::Cck(golden.cck());
        let made = make(&golden, &Request { extension, config_uid, ..plain(secret) });
        // What is random differs; nothing else may.
        let same = Asrcb {
            iv: listed.iv,
            customer_key: listed.customer_key,
            slots: listed.slots.clone(),
            encrypted_area: listed.encrypted_area.clone(),
            tag: listed.tag,
            ..made.clone()
        };
        assert_eq!(same, listed, "{name}");
        let expected = [item("secret_hex"), item("ext_secret_hex")].concat();
        assert_eq!(open(&made, &golden.host()).unwrap(), expected, "{name}");
        assert_eq!(open(&listed, &golden.host()).unwrap(), expected, "{name}");
    }
}

#[test]
fn secrets_6_the_extension_secret_follows_from_cck_and_image() {
    let golden = Golden::load();
    let derived = extension_from_cck(&golden.cck(), &golden.header().tag);
    assert_eq!(derived.expose()[..], golden.hex(&["ext_secret", "ext_secret_hex"]));
    let simple =
        Request { extension: ExtensionSecret::Simple(Secret::new([5; 32])), ..plain(GuestSecret::Meta) };
    assert_eq!(open(&make(&golden, &simple), &golden.host()).unwrap(), [5; 32]);
    assert_eq!(open(&make(&golden, &plain(GuestSecret::Meta)), &golden.host()).unwrap(), [0; 32]);
}

#[test]
fn secrets_6_the_machine_refuses_a_request_with_any_bit_altered() {
    let golden = Golden::load();
    let good = make(&golden, &plain(GuestSecret::UpdateCck(Secret::new([9; 32])))).encode();
    assert!(open(&Asrcb::parse(&good).unwrap(), &golden.host()).is_some());
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        let opened = Asrcb::parse(&bad).ok().and_then(|asrcb| {
            // Reserved bytes are not kept by the parser; they are checked by the Ultravisor as they are.
            (asrcb.encode() == bad).then(|| open(&asrcb, &golden.host())).flatten()
        });
        assert!(opened.is_none(), "{at:#x}");
    }
    let other = P521Secret::generate(&mut SeededEntropy::new(b"other"));
    assert!(open(&Asrcb::parse(&good).unwrap(), &other).is_none());
}

#[test]
fn secrets_6_every_type_takes_its_sizes_only() {
    let sizes = [
        (KeyType::Aes, 16, SecretType::AES_128),
        (KeyType::Aes, 24, SecretType::AES_192),
        (KeyType::Aes, 32, SecretType::AES_256),
        (KeyType::AesXts, 32, SecretType::AES_128_XTS),
        (KeyType::AesXts, 64, SecretType::AES_256_XTS),
        (KeyType::HmacSha, 64, SecretType::HMAC_SHA_256),
        (KeyType::HmacSha, 128, SecretType::HMAC_SHA_512),
        (KeyType::Plain, 0, SecretType::PLAINTEXT),
        (KeyType::Plain, 8190, SecretType::PLAINTEXT),
    ];
    for (kind, size, expected) in sizes {
        assert_eq!(RetrievableKey::new(kind, "key", &vec![7; size]).unwrap().kind(), expected);
    }
    for (kind, size) in [
        (KeyType::Aes, 0),
        (KeyType::Aes, 20),
        (KeyType::AesXts, 16),
        (KeyType::AesXts, 48),
        (KeyType::HmacSha, 32),
        (KeyType::Plain, 8191),
    ] {
        let error = RetrievableKey::new(kind, "key", &vec![7; size]).unwrap_err();
        assert!(matches!(error, SecretError::Size { .. }), "{error}");
        assert!(error.to_string().starts_with(&format!("key holds {size} bytes, but ")), "{error}");
    }
    let golden = Golden::load();
    let key = RetrievableKey::new(KeyType::Plain, "file", &[1; 14]).unwrap();
    let name = SecretName::as_it_is("root key").unwrap();
    let made = make(&golden, &plain(GuestSecret::Retrievable { name, key }));
    assert_eq!((made.secret.len, &made.secret.id[..9]), (16, &b"root key\0"[..]));
    assert!(SecretName::as_it_is("").is_err() && SecretName::as_it_is(&"n".repeat(33)).is_err());
}

fn openssl(arguments: &[&str], folder: &std::path::Path) {
    let run = Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn secrets_6_private_keys_of_every_curve_are_read_as_openssl_writes_them() {
    let folder = tempfile::tempdir().unwrap();
    let read =
        |file: &str| RetrievableKey::new(KeyType::Ec, file, &fs::read(folder.path().join(file)).unwrap());
    let curves = [
        (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"][..], SecretType::ECDSA_P256),
        (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], SecretType::ECDSA_P384),
        (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"], SecretType::ECDSA_P521),
        (&["-algorithm", "ED25519"], SecretType::ED25519),
        (&["-algorithm", "ED448"], SecretType::ED448),
    ];
    for (arguments, kind) in curves {
        openssl(&[&["genpkey", "-out", "key.pem"], arguments].concat(), folder.path());
        openssl(&["pkey", "-in", "key.pem", "-outform", "DER", "-out", "key.der"], folder.path());
        assert_eq!(read("key.pem").unwrap().kind(), kind);
        assert_eq!(read("key.der").unwrap().kind(), kind);
        if arguments.len() == 4 {
            openssl(&["ec", "-in", "key.pem", "-out", "old.pem"], folder.path());
            assert_eq!(read("old.pem").unwrap().kind(), kind);
        }
    }
    openssl(&["genpkey", "-algorithm", "X25519", "-out", "x.pem"], folder.path());
    assert!(read("x.pem").unwrap_err().to_string().contains("Ed448"));
    fs::write(folder.path().join("none"), "-----BEGIN PUBLIC KEY-----").unwrap();
    assert!(matches!(read("none"), Err(SecretError::PrivateKey { .. })));
}

#[test]
fn secrets_6_user_data_are_signed_over_the_whole_request() {
    let golden = Golden::load();
    let folder = tempfile::tempdir().unwrap();
    let keys = [
        ("ec", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"][..], 2, 256),
        ("rsa2048", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], 3, 256),
        ("rsa3072", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"], 4, 128),
    ];
    let mut certificates = Vec::new();
    for (name, arguments, _, _) in keys {
        openssl(&[&["genpkey", "-out", name][..], arguments].concat(), folder.path());
        let certificate = format!("{name}.crt");
        openssl(&["req", "-x509", "-key", name, "-subj", "/CN=user", "-out", &certificate], folder.path());
        certificates.push(UserCertificate::load(&folder.path().join(&certificate)).unwrap());
    }
    for (index, (name, _, kind, limit)) in keys.into_iter().enumerate() {
        let key = SigningKey::parse(name, &fs::read(folder.path().join(name)).unwrap()).unwrap();
        let user_data = UserData::Signed(b"from the owner".to_vec(), key.clone());
        let made = make(&golden, &Request { user_data, ..plain(GuestSecret::Meta) });
        assert_eq!(made.user_data_kind, kind);
        assert!(open(&made, &golden.host()).is_some(), "the tag covers the signature");
        let bytes = made.encode();
        let good = inspect("request", &bytes, Some(&certificates[index])).unwrap();
        assert!(good.user_data.verified && good.to_string().contains("the signature is good"));
        let data = good.user_data.data.unwrap();
        assert!(data.starts_with(b"from the owner\0") && data.len() == limit);
        // Another key of the same kind is in no set, so one of another kind; then an altered request.
        let other = inspect("request", &bytes, Some(&certificates[(index + 1) % 3])).unwrap_err();
        assert!(matches!(other, OwnerError::Secret(SecretError::SignatureKind { .. })), "{other}");
        let mut altered = bytes.clone();
        let at = altered.len() - 17;
        altered[at] ^= 1;
        let error = inspect("request", &altered, Some(&certificates[index])).unwrap_err();
        assert!(matches!(error, OwnerError::Secret(SecretError::Signature { .. })), "{error}");
        let long = UserData::Signed(vec![1; limit + 1], key);
        let wanted = Request { user_data: long, ..plain(GuestSecret::Meta) };
        let refused =
            request(&[golden.host().public()], &golden.header(), &wanted, &mut SeededEntropy::new(b"x"));
        assert!(matches!(refused, Err(SecretError::UserData { .. })));
    }
    let unsigned =
        make(&golden, &Request { user_data: UserData::Unsigned(vec![3; 512]), ..plain(GuestSecret::Meta) });
    let seen = inspect("request", &unsigned.encode(), None).unwrap();
    assert_eq!(seen.user_data.data.unwrap(), [3; 512]);
    assert!(inspect("request", &unsigned.encode(), Some(&certificates[0])).is_err());
    openssl(
        &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out", "weak"],
        folder.path(),
    );
    assert!(SigningKey::parse("weak", &fs::read(folder.path().join("weak")).unwrap()).is_err());
}

#[test]
fn secrets_files_are_bound_to_the_image_and_kept_private() {
    let golden = Golden::load();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("host.crt"), golden.0["certificates"]["host_key_document_pem"].as_str().unwrap()).unwrap();
    fs::write(at("hdr"), golden.hex(&["se_header", "header_hex"])).unwrap();
    fs::write(at("uid"), "cuid: '0xa213531777cfe1d73de436be37d58064'\n").unwrap();
    let options = CreateOptions {
        host_key_documents: vec![at("host.crt")],
        verification: Verification::None,
        header: at("hdr"),
        output: at("request"),
        extension_secret: None,
        cck: None,
        config_uid: Some(at("uid")),
        config_uid_hex: None,
        disable_dump: true,
        user_data: None,
        user_sign_key: None,
        use_name: false,
        force: false,
        overwrite: false,
        input: Input::Association {
            name: "disk".into(),
            input: None,
            output: Some(at("clear")),
            listing: Some(at("disk.yaml")),
        },
    };
    let entropy = &mut SeededEntropy::new(b"files");
    let created = create(&options, entropy).unwrap();
    assert!(
        created.warnings.iter().all(|warning| matches!(warning, Warning::NotVerified { .. })),
        "{created:?}"
    );
    assert_eq!(fs::metadata(at("clear")).unwrap().permissions().mode() & 0o777, 0o600);
    let listing = fs::read_to_string(at("disk.yaml")).unwrap();
    assert!(listing.contains("name: 'disk'\nid: '0x") && created.listing == Some(listing));
    let seen = inspect_file(&at("request"), None).unwrap();
    assert!(seen.is_for(&golden.header()) && seen.disables_dump());
    assert_eq!(seen.config_uid().unwrap()[..], golden.hex(&["attestation", "cuid_hex"]));
    let opened = open(&seen.request, &golden.host()).unwrap();
    assert_eq!(opened[..32], fs::read(at("clear")).unwrap());
    let mut other = golden.header();
    other.tld[0] ^= 1;
    assert!(!seen.is_for(&other));
    assert!(create(&options, entropy).unwrap_err().to_string().contains("exists"));
    fs::write(at("uid"), "cuid: 1").unwrap();
    let bad = CreateOptions { overwrite: true, ..options.clone() };
    assert!(matches!(create(&bad, entropy), Err(OwnerError::Secret(SecretError::ConfigUid(_)))));
    fs::write(at("cck"), [1; 31]).unwrap();
    let bad = CreateOptions { config_uid: None, cck: Some(at("cck")), overwrite: true, ..options };
    assert!(create(&bad, entropy).unwrap_err().to_string().contains("exactly 32 bytes"));
}
