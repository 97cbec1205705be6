//! The platform folder of an AMD machine as its users see it.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Instant, SystemTime};

use cloister_asp::{MODEL_ARK_ID, MODEL_ASK_ID};
use cloister_crypto::SeededEntropy;
use cloister_formats::sev::amd_root::AmdCertificate;
use cloister_platform_store::{
    CreateOptions, Environment, Platform, PlatformError, Sev, SevCreateOptions, SevPlatform, create_s390x,
    create_sev, show, show_sev,
};

fn create(folder: &Path) {
    let options = SevCreateOptions { small_roots: true, ..SevCreateOptions::default() };
    let summary = create_sev(folder, &options, &mut SeededEntropy::new(b"sev platform")).unwrap();
    assert!(!summary.initialised && summary.notice.contains("MODEL"));
}

fn s390x(folder: &Path) {
    let mut entropy = SeededEntropy::new(b"z");
    create_s390x(folder, &CreateOptions::default(), &mut entropy, SystemTime::now()).unwrap();
}

#[test]
fn a_created_platform_opens_with_its_certificates_and_hides_its_secret() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("a/epyc");
    create(&folder);
    let platform = SevPlatform::open(&folder).unwrap();
    let root = &platform.identity().roots()[0];
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    assert_eq!(read("ark-2048.cert"), root.ark.as_bytes());
    assert_eq!(read("ask_ark-2048.cert"), [root.ask.as_bytes(), root.ark.as_bytes()].concat());
    assert_eq!(read("cek-2048.cert"), root.cek.as_bytes());
    assert_eq!(AmdCertificate::parse(&read("ark-2048.cert")).unwrap().key_id(), MODEL_ARK_ID);
    assert_eq!(AmdCertificate::parse(&read("ask-2048.cert")).unwrap().key_id(), MODEL_ASK_ID);
    let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("sev-identity.key"), mode("cek-2048.cert")), (0o600, 0o644));
    let summary = show_sev(&folder).unwrap();
    assert_eq!(summary.certificates.len(), 4);
    assert!(summary.certificates.iter().all(|file| file.bits == 2048));

    drop(platform);
    // A key that others may read is not used, nor a damaged one.
    let key = folder.join("sev-identity.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(SevPlatform::open(&folder), Err(PlatformError::KeyExposed { .. })));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let mut bytes = fs::read(&key).unwrap();
    bytes[20] ^= 1;
    fs::write(&key, &bytes).unwrap();
    assert!(matches!(SevPlatform::open(&folder), Err(PlatformError::Damaged { .. })));
}

#[test]
fn users_share_a_platform_and_its_flash_changes_only_while_somebody_is_alone() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("epyc");
    create(&folder);
    let own = std::process::id();
    let first = SevPlatform::open(&folder).unwrap();
    let made = first.flash().unwrap().unwrap();
    let second = SevPlatform::open(&folder).unwrap();
    assert_eq!(second.flash().unwrap().unwrap(), made);
    for refused in [
        SevPlatform::open_to_change(&folder).unwrap_err(),
        first.change().unwrap_err(),
        second.keep_flash(Some(&[1])).unwrap_err(),
    ] {
        assert!(matches!(refused, PlatformError::InUse { .. }));
        let message = refused.to_string();
        assert!(message.contains(&format!("in use by process {own}")), "{message}");
    }
    // Both still have it: neither lost its share by trying.
    drop(first);
    assert!(matches!(SevPlatform::open_to_change(&folder), Err(PlatformError::InUse { .. })));
    assert_eq!(second.flash().unwrap().unwrap(), made);
    let change = second.change().unwrap();
    let message = SevPlatform::open(&folder).unwrap_err().to_string();
    assert!(message.contains(&format!("being changed by process {own}")), "{message}");
    change.keep_flash(Some(&[2; 64])).unwrap();
    drop(change);
    assert_eq!(SevPlatform::open(&folder).unwrap().flash().unwrap().unwrap(), [2; 64]);
    drop(second);
    let alone = SevPlatform::open_to_change(&folder).unwrap();
    assert!(matches!(SevPlatform::open(&folder), Err(PlatformError::Changing { .. })));
    assert!(matches!(SevPlatform::open_to_change(&folder), Err(PlatformError::Changing { .. })));
    alone.keep_flash(None).unwrap();
}

#[test]
fn users_who_come_first_at_the_same_time_find_the_same_keys() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("epyc");
    create(&folder);
    let users = (0..8).map(|_| {
        let folder = folder.clone();
        std::thread::spawn(move || SevPlatform::open(&folder).unwrap().flash().unwrap().unwrap())
    });
    let users: Vec<_> = users.collect();
    let found: Vec<_> = users.into_iter().map(|user| user.join().unwrap()).collect();
    assert!(found.iter().all(|flash| *flash == found[0]));
}

#[test]
fn nothing_is_ever_overwritten_and_nothing_half_made_stays() {
    let base = tempfile::tempdir().unwrap();
    fs::write(base.path().join("cek-2048.cert"), "mine").unwrap();
    let options = SevCreateOptions { small_roots: true, ..SevCreateOptions::default() };
    let error = create_sev(base.path(), &options, &mut SeededEntropy::new(b"x")).unwrap_err();
    assert!(matches!(error, PlatformError::Exists { .. }));
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
    // A machine that cannot be is refused before anything is drawn.
    let sev = Sev { asids: 5000, ..Sev::default() };
    let error = create_sev(
        &base.path().join("new"),
        &SevCreateOptions { sev, small_roots: false },
        &mut SeededEntropy::new(b"x"),
    );
    assert!(error.unwrap_err().to_string().contains("sev.asids"));
    assert!(!base.path().join("new").exists());
}

#[test]
fn the_flash_is_kept_replaced_and_erased() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("epyc");
    create(&folder);
    let platform = SevPlatform::open_to_change(&folder).unwrap();
    assert_eq!(platform.flash().unwrap(), None);
    for content in [&[1; 32768][..], &[2; 32768]] {
        platform.keep_flash(Some(content)).unwrap();
        assert_eq!(platform.flash().unwrap().unwrap(), content);
    }
    assert!(show_sev(&folder).unwrap().initialised);
    let mode = fs::metadata(folder.join("sev-flash.bin")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    platform.keep_flash(None).unwrap();
    platform.keep_flash(None).unwrap();
    assert_eq!(platform.flash().unwrap(), None);
}

/// The sandbox of a running machine denies it to read what comes to lie in its folder.
#[test]
fn the_flash_is_kept_by_a_process_that_may_read_nothing() {
    use landlock::{AccessFs, Ruleset, RulesetAttr, RulesetStatus};
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("epyc");
    create(&folder);
    let platform = SevPlatform::open(&folder).unwrap();
    let flash = folder.join("sev-flash.bin");
    let confined = std::thread::spawn(move || {
        let rules = Ruleset::default().handle_access(AccessFs::ReadFile).unwrap().create().unwrap();
        let confined = rules.restrict_self().unwrap().ruleset != RulesetStatus::NotEnforced;
        platform.keep_flash(Some(&[1; 64])).unwrap();
        platform.keep_flash(Some(&[2; 64])).unwrap();
        assert_eq!(platform.flash().is_err(), confined);
    });
    confined.join().unwrap();
    assert_eq!(fs::read(flash).unwrap(), [2; 64]);
}

#[test]
fn a_platform_of_another_target_is_refused_in_words_if_it_was_named() {
    let base = tempfile::tempdir().unwrap();
    let (z, epyc) = (base.path().join("z"), base.path().join("epyc"));
    s390x(&z);
    create(&epyc);
    let message = SevPlatform::open(&z).unwrap_err().to_string();
    assert!(
        message.contains("target s390x") && message.contains("needs a platform of target x86_64"),
        "{message}"
    );
    let message = Platform::open(&epyc).unwrap_err().to_string();
    assert!(
        message.contains("target x86_64") && message.contains("needs a platform of target s390x"),
        "{message}"
    );
    assert!(matches!(show(&epyc), Err(PlatformError::Target { .. })));
    assert!(matches!(show_sev(&z), Err(PlatformError::Target { .. })));

    let mut environment =
        Environment { cloister_platform: None, xdg_data_home: None, home: None, system: z.clone() };
    let mut entropy = SeededEntropy::new(b"resolve");
    let error = SevPlatform::resolve(Some(&z), &environment, &mut entropy).unwrap_err();
    assert!(matches!(error, PlatformError::Target { .. }));
    // The system's is passed over.
    assert_eq!(SevPlatform::resolve(None, &environment, &mut entropy).unwrap().folder(), None);
    environment.cloister_platform = Some(epyc.clone().into());
    assert_eq!(SevPlatform::resolve(None, &environment, &mut entropy).unwrap().folder(), Some(&*epyc));
}

#[test]
fn a_machine_for_one_run_is_there_at_once() {
    let start = Instant::now();
    let platform = SevPlatform::ephemeral(Sev::default(), &mut SeededEntropy::new(b"quick"));
    assert!(platform.identity().roots().is_empty());
    assert!(start.elapsed().as_millis() < 20);
    platform.keep_flash(Some(&[1])).unwrap();
    assert_eq!(platform.flash().unwrap(), None);
}
