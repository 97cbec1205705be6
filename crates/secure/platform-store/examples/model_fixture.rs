//! Writes the model platform that the owner's tests read, always the same one:
//! `cargo run -p cloister-platform-store --example model_fixture -- DIR`.

use std::path::Path;
use std::time::{Duration, SystemTime};

use cloister_crypto::SeededEntropy;
use cloister_platform_store::{CreateOptions, create_s390x};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os().nth(1).ok_or("usage: model_fixture DIR")?;
    let options = CreateOptions {
        backup_key: true,
        further_identities: 1,
        revoked_identity: true,
        ..Default::default()
    };
    // 2026-11-20T00:00:00Z.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_132_800);
    create_s390x(Path::new(&folder), &options, &mut SeededEntropy::new(b"model fixture"), now)?;
    Ok(())
}
