//! Reading small inputs, writing outputs atomically.

use std::fs::{File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::OwnerError;

/// Reads a certificate, list or key file.
pub(crate) fn read_small(file: &Path) -> Result<Vec<u8>, OwnerError> {
    read_limited(file, SMALL, "certificate, list or key file")
}

/// Reads a file that cannot sensibly be larger than `limit`.
pub(crate) fn read_limited(file: &Path, limit: u64, what: &'static str) -> Result<Vec<u8>, OwnerError> {
    let opened = File::open(file).map_err(io("open", file))?;
    let mut bytes = Vec::new();
    opened.take(limit + 1).read_to_end(&mut bytes).map_err(io("read", file))?;
    if bytes.len() as u64 > limit {
        return Err(OwnerError::TooLarge { file: file.into(), what, limit });
    }
    Ok(bytes)
}

/// An output that appears under its name complete or not at all.
pub(crate) struct AtomicFile {
    temporary: tempfile::NamedTempFile,
}

impl AtomicFile {
    /// Starts an output beside its final place, so that the rename stays on one file system.
    pub(crate) fn create(file: &Path, mode: u32) -> Result<Self, OwnerError> {
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            Some(_) | None => Path::new("."),
        };
        let temporary = tempfile::Builder::new()
            .prefix(".cloister-")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(folder)
            .map_err(io("create", file))?;
        Ok(Self { temporary })
    }

    pub(crate) fn file(&mut self) -> &mut File {
        self.temporary.as_file_mut()
    }

    /// Makes the contents last and gives them their name.
    pub(crate) fn finish(self, file: &Path, overwrite: bool) -> Result<(), OwnerError> {
        self.temporary.as_file().sync_all().map_err(io("write", file))?;
        let result = match overwrite {
            true => self.temporary.persist(file),
            false => self.temporary.persist_noclobber(file),
        };
        result.map(drop).map_err(|error| io("write", file)(error.error))
    }
}

pub(crate) fn io(action: &'static str, file: &Path) -> impl FnOnce(std::io::Error) -> OwnerError {
    let file = file.to_owned();
    move |source| OwnerError::Io { action, file, source }
}

const SMALL: u64 = 16 << 20;
