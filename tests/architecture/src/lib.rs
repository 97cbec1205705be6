//! The rules of the two worlds, as functions that return what breaks them.
//!
//! [`worlds`] reads `cargo metadata` and says which crate reaches which; [`doors`] and [`sources`] read Rust
//! files. They return violations in words, so that a test can also show that a violation is found.
//!
//! It does not look at types of other crates: what a foreign type borrows is invisible here. Inside a world
//! there are no rules.
#![forbid(unsafe_code)]

pub mod doors;
pub mod sources;
pub mod worlds;

use std::path::{Path, PathBuf};

/// The repository's folder.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All files under `folder` but those of version control, builds and caches, in a fixed order.
pub fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next)? {
            let entry = entry?;
            let name = entry.file_name();
            let kind = entry.file_type()?;
            if kind.is_dir() {
                if !["target", "cache", ".git", "corpus", "artifacts"]
                    .iter()
                    .any(|left_out| name == *left_out)
                {
                    folders.push(entry.path());
                }
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}
