//! The platform folder as its users see it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use cloister_crypto::SeededEntropy;
use cloister_platform_store::{
    CreateOptions, Environment, MODEL_NOTICE, Platform, PlatformError, S390xMaterial, Summary, create_s390x,
    show,
};

fn everything() -> CreateOptions {
    CreateOptions { backup_key: true, further_identities: 2, revoked_identity: true, ..Default::default() }
}

/// 2027-01-01T00:00:00Z.
fn new_year() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_798_761_600)
}

fn create(folder: &Path, options: &CreateOptions) -> Result<Summary, PlatformError> {
    create_s390x(folder, options, &mut SeededEntropy::new(b"platform test"), new_year())
}

#[test]
fn a_created_platform_opens_with_the_same_identity() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("a/b/platform");
    create(&folder, &everything()).unwrap();
    let platform = Platform::open(&folder).unwrap();
    let made = S390xMaterial::generate(&everything(), &mut SeededEntropy::new(b"platform test"), new_year())
        .unwrap();
    let names: Vec<_> = platform.s390x().identities().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["host", "backup", "host-2", "host-3", "revoked"]);
    for (read, made) in platform.s390x().identities().zip(made.identities()) {
        assert_eq!(read.phkh(), made.phkh());
        assert_eq!(read.document, made.document);
    }
    assert_eq!(platform.s390x().signing_crl, made.signing_crl);
    assert_eq!(platform.folder(), Some(folder.as_path()));
}

#[test]
fn private_keys_are_for_the_owner_only_and_an_exposed_key_is_refused() {
    let base = tempfile::tempdir().unwrap();
    create(base.path(), &everything()).unwrap();
    let mode = |name| fs::metadata(base.path().join(name)).unwrap().permissions().mode() & 0o777;
    for name in ["host.key", "backup.key", "host-2.key", "host-3.key", "revoked.key"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    fs::set_permissions(base.path().join("host.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let message = Platform::open(base.path()).unwrap_err().to_string();
    assert!(message.contains("0644") && message.contains("chmod 600"), "{message}");
}

#[test]
fn machines_share_a_platform_and_who_changes_it_has_it_alone() {
    let base = tempfile::tempdir().unwrap();
    create(base.path(), &CreateOptions::default()).unwrap();
    let first = Platform::open(base.path()).unwrap();
    let second = Platform::open(base.path()).unwrap();
    assert_eq!(first.s390x().host.phkh(), second.s390x().host.phkh());
    drop(first);
    // The identity is moved away, and a machine still has it.
    let away = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(base.path()).unwrap().map(Result::unwrap) {
        if !entry.file_name().to_str().unwrap().ends_with("lock") {
            fs::rename(entry.path(), away.path().join(entry.file_name())).unwrap();
        }
    }
    let message = create(base.path(), &CreateOptions::default()).unwrap_err().to_string();
    assert!(message.contains(&format!("in use by process {}", std::process::id())), "{message}");
    assert!(message.contains(base.path().to_str().unwrap()), "{message}");
    drop(second);
    create(base.path(), &CreateOptions::default()).unwrap();
    // The reverse: a change holds both locks.
    let hold = |name: &str| {
        let file = fs::File::options().write(true).open(base.path().join(name)).unwrap();
        file.try_lock().unwrap();
        file
    };
    let change = (hold("change.lock"), hold("lock"));
    let message = Platform::open(base.path()).unwrap_err().to_string();
    assert!(message.contains(&format!("being changed by process {}", std::process::id())), "{message}");
    drop(change);
    Platform::open(base.path()).unwrap();
}

#[test]
fn nothing_is_overwritten_and_a_failure_leaves_nothing() {
    let base = tempfile::tempdir().unwrap();
    create(base.path(), &CreateOptions::default()).unwrap();
    let before = fs::read(base.path().join("host.key")).unwrap();
    assert!(matches!(create(base.path(), &everything()), Err(PlatformError::Exists { .. })));
    assert_eq!(fs::read(base.path().join("host.key")).unwrap(), before);

    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("signing.crl"), "mine").unwrap();
    let message = create(other.path(), &CreateOptions::default()).unwrap_err().to_string();
    assert!(message.contains("signing.crl") && message.contains("never overwritten"), "{message}");
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 1);
}

#[test]
fn show_says_model_and_names_the_revoked_document() {
    let base = tempfile::tempdir().unwrap();
    let summary = create(base.path(), &everything()).unwrap();
    assert_eq!(summary.notice, MODEL_NOTICE);
    let again = show(base.path()).unwrap();
    assert_eq!(again.certificates.len(), 7);
    for certificate in &again.certificates {
        assert!(certificate.subject.contains("MODEL"), "{}", certificate.subject);
        assert_eq!(certificate.not_before, "2026-12-31T23:00:00Z");
        assert_eq!(certificate.not_after, "2036-12-29T00:00:00Z");
        let name = certificate.file.file_stem().unwrap();
        assert_eq!(certificate.revoked, name == "revoked", "{name:?}");
        assert_eq!(certificate.phkh.is_some(), certificate.key_file.is_some());
    }
    // The platform may be in use: describing it needs no lock.
    let _held = Platform::open(base.path()).unwrap();
    show(base.path()).unwrap();
}

#[test]
fn a_certificate_of_another_key_is_refused() {
    let base = tempfile::tempdir().unwrap();
    create(base.path(), &everything()).unwrap();
    fs::copy(base.path().join("backup.crt"), base.path().join("host.crt")).unwrap();
    assert!(matches!(Platform::open(base.path()), Err(PlatformError::Damaged { .. })));
}

#[test]
fn without_any_folder_the_platform_is_ephemeral() {
    let base = tempfile::tempdir().unwrap();
    let mut environment = Environment {
        cloister_platform: None,
        xdg_data_home: Some(base.path().into()),
        home: None,
        system: base.path().join("system"),
    };
    let resolve = |environment: &Environment| {
        Platform::resolve_s390x(None, environment, &mut SeededEntropy::new(b"resolve"), new_year()).unwrap()
    };
    assert_eq!(resolve(&environment).folder(), None);
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    create(&environment.system, &CreateOptions::default()).unwrap();
    assert_eq!(resolve(&environment).folder(), Some(environment.system.as_path()));
    environment.system = base.path().join("other");
    create(&environment.user_folder().unwrap(), &CreateOptions::default()).unwrap();
    assert_eq!(resolve(&environment).folder(), environment.user_folder().as_deref());
}

#[test]
fn every_key_identifier_says_cloister_model() {
    let made = S390xMaterial::generate(&everything(), &mut SeededEntropy::new(b"ids"), new_year()).unwrap();
    let documents = made.identities().map(|key| &key.document);
    for pem in documents.chain([&made.root_certificate, &made.signing_certificate]) {
        let (_, der) = der::Document::from_pem(pem).unwrap();
        let marks = der.as_bytes().windows(14).filter(|window| window == b"CLOISTER-MODEL").count();
        assert_eq!(marks, 2, "subject and authority key identifier");
    }
}

/// An independent verifier accepts the chain under strict rules with revocation checks, and refuses
/// the revoked document. Skipped with a word where `openssl` is not installed.
#[test]
fn openssl_accepts_the_chain_and_refuses_the_revoked_document() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: the openssl program is not installed");
        return;
    }
    let base = tempfile::tempdir().unwrap();
    create(base.path(), &everything()).unwrap();
    let verify = |arguments: &[&str]| {
        let output = Command::new("openssl")
            .current_dir(base.path())
            .args(["verify", "-attime", "1830297600", "-x509_strict"])
            .args(arguments)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (output.status.success(), text.concat())
    };
    let (good, text) =
        verify(&["-crl_check_all", "-CAfile", "root-ca.crt", "-CRLfile", "root-ca.crl", "signing.crt"]);
    assert!(good, "{text}");
    // The signing certificate is no CA by the rules of the format (CA:FALSE), so a plain path check
    // of the document does not apply; its signature and the list's are checked by the key alone.
    let check = |command: &str, file: &str| {
        let script = format!(
            "openssl x509 -in signing.crt -noout -pubkey > signing.pub && openssl {command} -in {file} -noout -text"
        );
        let output = Command::new("sh").current_dir(base.path()).args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(check("x509", "host.crt").contains("Key Agreement"));
    let text = check("x509", "signing.crt");
    assert!(text.contains("CA:FALSE") && text.contains("MODEL NOT IBM - Cloister Key Signing Service"));
    let list = check("crl", "signing.crl");
    let serial = check("x509", "revoked.crt");
    let serial = serial.lines().skip_while(|line| !line.contains("Serial Number")).nth(1).unwrap();
    let serial: String = serial.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_uppercase();
    assert!(list.contains(&serial), "{list}");
    let crl = Command::new("openssl")
        .current_dir(base.path())
        .args(["crl", "-in", "signing.crl", "-noout", "-verify", "-CAfile", "signing.crt"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&crl.stderr).into_owned();
    assert!(text.contains("verify OK"), "{text}");
}
