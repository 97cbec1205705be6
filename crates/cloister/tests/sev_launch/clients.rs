//! A whole launch by a client that we did not write.

use crate::guest::Place;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn qemu_qmp_drives_a_launch_from_capabilities_to_the_secret() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("CLOISTER_CACHE").map_or_else(|| repository.join("cache"), PathBuf::from);
    let python = cache.join("python/bin/python3");
    if !python.exists() {
        assert!(std::env::var_os("CI").is_none(), "scripts/fetch-python was not run");
        eprintln!("skipped: Python's qemu.qmp is not installed");
        return;
    }
    let place = Place::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sev_launch/clients/launch.py");
    let mut command = Command::new(python);
    command.arg(script).arg(env!("CARGO_BIN_EXE_cloister")).arg(place.0.path());
    command.env("HOME", place.0.path()).env_remove("CLOISTER_PLATFORM");
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
}
