//! Verification of host-key documents: what is accepted, and that each defect is refused by name.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use cloister_owner::host_key::{Document, Evidence, VerifyOptions, Warning, verify, verify_in_memory};
use cloister_owner::{HostKeyError, OwnerError};

/// 2027-01-01T00:00:00Z, inside every validity period of the test data.
const NEW_YEAR: u64 = 1_798_761_600;
/// 2037-01-01T00:00:00Z, after all of them.
const TOO_LATE: u64 = 2_114_380_800;
const TOO_EARLY: u64 = 1_700_000_000;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A chain as files in a folder of its own, so that a test can replace any of them.
struct Chain {
    folder: tempfile::TempDir,
    options: VerifyOptions,
    document: PathBuf,
}

impl Chain {
    fn golden() -> Self {
        let text = include_str!("data/se-vectors.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let pem = |name: &str| vectors["certificates"][name].as_str().unwrap().as_bytes().to_vec();
        Self::of([
            pem("host_key_document_pem"),
            pem("signing_cert_pem"),
            pem("root_ca_pem"),
            pem("crl_of_signing_cert_pem"),
            pem("crl_of_root_pem"),
        ])
    }

    fn model() -> Self {
        let read = |name: &str| {
            std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/model").join(name)).unwrap()
        };
        Self::of(["host.crt", "signing.crt", "root-ca.crt", "signing.crl", "root-ca.crl"].map(read))
    }

    fn of(contents: [Vec<u8>; 5]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let names = ["host", "signing", "root", "signing-crl", "root-crl"];
        let [document, signing, root, signing_crl, root_crl] = names.map(|name| folder.path().join(name));
        for (name, bytes) in names.iter().zip(contents) {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let options = VerifyOptions {
            certificates: vec![signing],
            crls: vec![signing_crl, root_crl],
            root_ca: Some(root),
            time: at(NEW_YEAR),
        };
        Self { folder, options, document }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn verify(&self) -> Result<Vec<Warning>, HostKeyError> {
        let run = || verify(&[Document::load(&self.document)?], &self.options);
        run().map_err(|error| match error {
            OwnerError::HostKey(error) => error,
            other => panic!("{other}"),
        })
    }
}

fn model_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/model").join(name)
}

#[test]
fn the_golden_chain_is_accepted_without_a_warning() {
    assert_eq!(Chain::golden().verify().unwrap(), []);
}

#[test]
fn the_golden_document_has_the_golden_hash() {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("data/se-vectors.json")).unwrap();
    let document = Document::load(&Chain::golden().document).unwrap();
    assert_eq!(hex::encode(document.phkh()), vectors["host_key"]["phkh_hex"].as_str().unwrap());
}

#[test]
fn a_model_chain_is_accepted_with_warnings() {
    let chain = Chain::model();
    let warnings = chain.verify().unwrap();
    assert_eq!(warnings.len(), 3, "document, signing certificate and root");
    for warning in &warnings {
        assert!(matches!(warning, Warning::Model { .. }));
        assert!(warning.to_string().contains("MODEL machine, not to IBM"), "{warning}");
    }
    assert!(Document::load(&chain.document).unwrap().model_warning().is_some());
}

#[test]
fn the_same_decision_is_made_in_memory() {
    let read = |name: &str| std::fs::read(model_file(name)).unwrap();
    let [signing, root, first, second] =
        ["signing.crt", "root-ca.crt", "signing.crl", "root-ca.crl"].map(read);
    let crls = [("first", &first[..]), ("second", &second[..])];
    let evidence = Evidence {
        certificates: &[("signing", &signing)],
        crls: &crls,
        root_ca: ("root", &root),
        time: at(NEW_YEAR),
    };
    let document = |name: &str| [Document::parse(name, &read(name)).unwrap()];
    assert_eq!(verify_in_memory(&document("host.crt"), &evidence).unwrap().len(), 3);
    verify_in_memory(&document("revoked.crt"), &evidence).unwrap_err();
    verify_in_memory(&document("host.crt"), &Evidence { crls: &crls[..1], ..evidence }).unwrap_err();
}

#[test]
fn der_files_and_pem_files_with_text_around_are_read() {
    let chain = Chain::golden();
    for name in ["host", "signing", "root"] {
        let pem = std::fs::read_to_string(chain.path(name)).unwrap();
        let (_, der) = der::Document::from_pem(&pem).unwrap();
        std::fs::write(chain.path(name), der.as_bytes()).unwrap();
    }
    for name in ["signing-crl", "root-crl"] {
        let pem = std::fs::read_to_string(chain.path(name)).unwrap();
        std::fs::write(chain.path(name), format!("some text\n{pem}\nmore text\n")).unwrap();
    }
    chain.verify().unwrap();
}

#[test]
fn both_lists_may_stand_in_one_file() {
    let mut chain = Chain::golden();
    let both = ["signing-crl", "root-crl"].map(|name| std::fs::read_to_string(chain.path(name)).unwrap());
    std::fs::write(chain.path("both"), both.concat()).unwrap();
    chain.options.crls = vec![chain.path("both")];
    chain.verify().unwrap();
}

#[test]
fn expired_and_not_yet_valid_are_refused() {
    for mut chain in [Chain::golden(), Chain::model()] {
        chain.options.time = at(TOO_LATE);
        assert!(matches!(chain.verify(), Err(HostKeyError::Expired { .. })));
        chain.options.time = at(TOO_EARLY);
        assert!(matches!(chain.verify(), Err(HostKeyError::NotYetValid { .. })));
    }
}

#[test]
fn a_revoked_document_is_refused() {
    let mut chain = Chain::model();
    chain.document = model_file("revoked.crt");
    let error = chain.verify().unwrap_err();
    assert!(matches!(error, HostKeyError::Revoked { .. }), "{error}");
    chain.document = model_file("host-2.crt");
    chain.verify().unwrap();
}

#[test]
fn a_missing_list_is_refused_and_the_issuer_named() {
    for missing in ["signing-crl", "root-crl"] {
        let mut chain = Chain::golden();
        let path = chain.path(missing);
        chain.options.crls.retain(|crl| *crl != path);
        let error = chain.verify().unwrap_err();
        assert!(matches!(error, HostKeyError::NoCrl { .. }), "{missing}: {error}");
        let named = if missing == "root-crl" { "Test Root CA" } else { "Key Signing Service" };
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn a_list_of_another_issuer_is_refused() {
    let mut chain = Chain::golden();
    chain.options.crls = vec![model_file("signing.crl"), chain.path("root-crl")];
    assert!(matches!(chain.verify(), Err(HostKeyError::NoCrl { .. })));

    // The same name, but another key: two platforms of the model.
    let mut chain = Chain::model();
    let other = other_model();
    chain.options.crls = vec![other.path().join("signing.crl"), chain.path("root-crl")];
    assert!(matches!(chain.verify(), Err(HostKeyError::AuthorityMismatch { .. })));
}

#[test]
fn one_valid_list_is_enough_even_beside_a_bad_one() {
    let mut chain = Chain::model();
    let other = other_model();
    chain.options.crls.insert(0, other.path().join("signing.crl"));
    chain.verify().unwrap();
}

#[test]
fn two_signing_certificates_are_refused() {
    let mut chain = Chain::golden();
    chain.options.certificates.push(model_file("signing.crt"));
    assert!(matches!(chain.verify(), Err(HostKeyError::SeveralSigningCertificates { .. })));
}

#[test]
fn no_signing_certificate_is_refused() {
    let mut chain = Chain::golden();
    chain.options.certificates = vec![chain.path("root")];
    let error = chain.verify().unwrap_err();
    assert!(matches!(error, HostKeyError::NoSigningCertificate { .. }));
    assert!(error.to_string().contains("Test Root CA"), "{error}");
    chain.options.certificates.clear();
    assert!(chain.verify().unwrap_err().to_string().contains("subjects given: none"));
}

#[test]
fn a_foreign_root_or_none_of_the_system_is_refused() {
    let mut chain = Chain::golden();
    chain.options.root_ca = Some(model_file("root-ca.crt"));
    let error = chain.verify().unwrap_err();
    assert!(matches!(error, HostKeyError::NoIssuer { .. }), "{error}");
    chain.options.root_ca = None;
    match chain.verify().unwrap_err() {
        HostKeyError::NoIssuer { .. } => {}
        HostKeyError::NoSystemStore => {}
        other => panic!("{other}"),
    }
}

#[test]
fn the_signing_certificate_cannot_be_its_own_root() {
    let mut chain = Chain::golden();
    chain.options.root_ca = Some(chain.path("signing"));
    assert!(matches!(chain.verify(), Err(HostKeyError::NoIssuer { .. })));
}

#[test]
fn a_document_of_another_chain_is_refused() {
    let mut chain = Chain::golden();
    chain.document = model_file("host.crt");
    assert!(matches!(chain.verify(), Err(HostKeyError::AuthorityMismatch { .. })));
}

/// Every byte of each of the five objects, with one bit flipped, is refused.
#[test]
fn every_flipped_bit_is_refused() {
    for (chain, step) in [(Chain::golden(), 37), (Chain::model(), 7)] {
        for name in ["host", "signing", "root", "signing-crl", "root-crl"] {
            let pem = std::fs::read_to_string(chain.path(name)).unwrap();
            let (label, der) = der::Document::from_pem(&pem).unwrap();
            for byte in (0..der.as_bytes().len()).step_by(step) {
                let mut bytes = der.as_bytes().to_vec();
                bytes[byte] ^= 1 << (byte % 8);
                std::fs::write(chain.path(name), &bytes).unwrap();
                assert!(chain.verify().is_err(), "{label} {name}: byte {byte} may be altered");
            }
            std::fs::write(chain.path(name), pem).unwrap();
        }
        chain.verify().unwrap();
    }
}

#[test]
fn what_is_no_certificate_is_refused_by_name() {
    for bytes in [&b""[..], b"hello", b"-----BEGIN CERTIFICATE-----\n", &[0x30, 0x80, 0, 0]] {
        let error = Document::parse("some-file", bytes).unwrap_err().to_string();
        assert!(error.contains("some-file"), "{error}");
    }
    let chain = Chain::golden();
    let error = Document::load(&chain.path("root")).unwrap_err().to_string();
    assert!(error.contains("P-521"), "{error}");
    let error = Document::load(&chain.path("absent")).unwrap_err().to_string();
    assert!(error.contains("absent") && error.contains("open"), "{error}");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        cloister_owner::host_key::fuzz(&bytes);
    }

    #[test]
    fn no_altered_certificate_makes_the_readers_panic(at in 0usize..1200, value: u8, cut in 0usize..1300) {
        let text = std::fs::read_to_string(model_file("host.crt")).unwrap();
        let mut bytes = der::Document::from_pem(&text).unwrap().1.into_vec();
        let at = at % bytes.len();
        bytes[at] = value;
        bytes.truncate(cut);
        cloister_owner::host_key::fuzz(&bytes);
    }
}

/// The certificates of another model platform: the same subjects with other keys.
fn other_model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("signing.crl"), include_bytes!("data/other-model-signing.crl"))
        .unwrap();
    folder
}

/// A chain with an intermediate authority and RSA keys, made by an independent program. Skipped with
/// a word where `openssl` is not installed.
#[test]
fn a_chain_with_an_intermediate_made_by_openssl_is_accepted() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: the openssl program is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = include_str!("data/intermediate.sh");
    let output = Command::new("sh").current_dir(folder.path()).args(["-euc", script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = |name: &str| folder.path().join(name);
    let mut options = VerifyOptions {
        certificates: vec![file("signing.crt"), file("middle.crt")],
        crls: ["root.crl", "middle.crl", "signing.crl"].map(file).into(),
        root_ca: Some(file("root.crt")),
        time: SystemTime::now() + Duration::from_secs(60),
    };
    let document = Document::load(&file("host.crt")).unwrap();
    assert_eq!(verify(std::slice::from_ref(&document), &options).unwrap(), []);
    // Without the intermediate, and without its list.
    options.certificates.pop();
    assert!(matches!(
        verify(std::slice::from_ref(&document), &options),
        Err(OwnerError::HostKey(HostKeyError::NoIssuer { .. }))
    ));
    options.certificates.push(file("middle.crt"));
    options.crls.remove(1);
    assert!(matches!(verify(&[document], &options), Err(OwnerError::HostKey(HostKeyError::NoCrl { .. }))));
}
