//! Files of a platform folder: atomic, never overwriting, keys for the owner only.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::PlatformError;

pub(crate) const CONFIG: &str = "platform.toml";

/// Writes a new file: complete or not at all, and never over an existing one.
pub(crate) fn create(file: &Path, contents: &[u8], mode: u32) -> Result<(), PlatformError> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder)
        .map_err(PlatformError::io("create a file for", file))?;
    temporary.write_all(contents).map_err(PlatformError::io("write", file))?;
    temporary.as_file().sync_all().map_err(PlatformError::io("write", file))?;
    temporary.persist_noclobber(file).map_err(|error| match error.error.kind() {
        std::io::ErrorKind::AlreadyExists => PlatformError::Exists { file: file.into() },
        _ => PlatformError::Io { action: "write", file: file.into(), source: error.error },
    })?;
    Ok(())
}

/// Makes the names in a folder last, as `sync_all` does for the contents of a file.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), PlatformError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(PlatformError::io("write", folder))
}

pub(crate) fn read(file: &Path) -> Result<String, PlatformError> {
    // No file of a platform is large; a limit keeps a mistaken path from filling the memory.
    let mut text = String::new();
    let opened = File::open(file).map_err(PlatformError::io("open", file))?;
    opened.take(LIMIT).read_to_string(&mut text).map_err(PlatformError::io("read", file))?;
    Ok(text)
}

/// Reads a private key, and refuses it when group or others may read it too.
pub(crate) fn read_key(file: &Path) -> Result<Zeroizing<String>, PlatformError> {
    let metadata = fs::metadata(file).map_err(PlatformError::io("open", file))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(PlatformError::KeyExposed { file: file.into(), mode });
    }
    read(file).map(Zeroizing::new)
}

const LIMIT: u64 = 1 << 20;
