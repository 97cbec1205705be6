//! Writing what was made: nothing is overwritten unasked, keys can be read by their owner only.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::SevError;
use crate::OwnerError;
use crate::files::AtomicFile;

/// A file to write.
#[derive(Debug)]
pub struct Output<'a> {
    /// Its name.
    pub file: PathBuf,
    /// Its contents.
    pub bytes: &'a [u8],
    /// Whether only its owner may read it.
    pub private: bool,
}

/// Writes the files, each complete or not at all; before the first, all are checked not to exist.
///
/// # Errors
/// If one exists and `force` is not set, or the system refuses.
pub fn save(outputs: &[Output<'_>], force: bool) -> Result<(), OwnerError> {
    let exists = |file: &Path| SevError::Exists { file: file.display().to_string() };
    if let Some(taken) = outputs.iter().find(|output| !force && output.file.symlink_metadata().is_ok()) {
        return Err(exists(&taken.file).into());
    }
    for Output { file, bytes, private } in outputs {
        let mut output = AtomicFile::create(file, if *private { 0o600 } else { 0o644 })?;
        output.stream(file, |to| to.write_all(bytes).map_err(crate::files::io("write", file)))?;
        output.finish(file, force)?;
    }
    Ok(())
}
