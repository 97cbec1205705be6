//! Files of a platform folder: atomic, never overwriting, keys for the owner only.

use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use crate::PlatformError;
use crate::lock::Lock;

pub(crate) const CONFIG: &str = "platform.toml";

/// Writes a new file: complete or not at all, and never over an existing one.
pub(crate) fn create(file: &Path, contents: &[u8], mode: u32) -> Result<(), PlatformError> {
    let temporary = write(file, contents, mode)?;
    temporary.persist_noclobber(file).map_err(|error| match error.error.kind() {
        std::io::ErrorKind::AlreadyExists => PlatformError::Exists { file: file.into() },
        _ => PlatformError::Io { action: "write", file: file.into(), source: error.error },
    })?;
    Ok(())
}

/// Creates the files of a platform, the last of which makes the folder one; the folder is made if it is absent. Nothing
/// that exists is ever overwritten; after a failure nothing that this call wrote remains.
pub(crate) fn create_all(folder: &Path, contents: &[NewFile]) -> Result<(), PlatformError> {
    // An identity that was moved away may still be that of machines that run.
    let _alone = Lock::alone_if_ever_used(folder)?;
    for (name, _, _) in contents {
        let file = folder.join(name);
        // A dangling link counts too: whatever has the name is in the way.
        if file.symlink_metadata().is_ok() {
            return Err(PlatformError::Exists { file });
        }
    }
    let new = !folder.exists();
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)
        .map_err(PlatformError::io("create the folder", folder))?;
    let mut written = Written { files: Vec::new(), folder: new.then(|| folder.to_owned()) };
    for (name, bytes, mode) in contents {
        let file = folder.join(name);
        create(&file, bytes, *mode)?;
        written.files.push(file);
    }
    sync_folder(folder)?;
    written.files.clear();
    written.folder = None;
    Ok(())
}

/// Name, content, mode.
pub(crate) type NewFile = (String, Zeroizing<Vec<u8>>, u32);

/// Removes what was written, unless it was cleared because all went well.
struct Written {
    files: Vec<PathBuf>,
    /// The folder, if it was made for them.
    folder: Option<PathBuf>,
}

impl Drop for Written {
    fn drop(&mut self) {
        // The first failure is what the user is told; a second one has nobody to tell.
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Writes a file in place of the one that is there, if any: whoever reads finds the old or the new content.
pub(crate) fn replace(file: &Path, contents: &[u8], mode: u32) -> Result<(), PlatformError> {
    let temporary = write(file, contents, mode)?;
    temporary.persist(file).map_err(|error| PlatformError::io("write", file)(error.error))?;
    sync_folder(file.parent().unwrap_or(Path::new(".")))
}

/// Removes a file that may be there.
pub(crate) fn remove(file: &Path) -> Result<(), PlatformError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(PlatformError::io("remove", file)(error))
        }
        _ => sync_folder(file.parent().unwrap_or(Path::new("."))),
    }
}

fn write(file: &Path, contents: &[u8], mode: u32) -> Result<NamedTempFile<File>, PlatformError> {
    let folder = file.parent().unwrap_or(Path::new("."));
    // For writing only: a sandbox lets a running machine make new files in its folder and read none of them.
    let mut options = File::options();
    options.write(true).create_new(true).mode(mode);
    let mut temporary = tempfile::Builder::new()
        .prefix(".new-")
        .make_in(folder, |path| options.open(path))
        .map_err(PlatformError::io("create a file for", file))?;
    temporary.write_all(contents).map_err(PlatformError::io("write", file))?;
    temporary.as_file().sync_all().map_err(PlatformError::io("write", file))?;
    Ok(temporary)
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
    private(file)?;
    read(file).map(Zeroizing::new)
}

/// As [`read_key`], for a file that is not text.
pub(crate) fn read_secret(file: &Path) -> Result<Zeroizing<Vec<u8>>, PlatformError> {
    private(file)?;
    let mut bytes = Zeroizing::new(Vec::new());
    let opened = File::open(file).map_err(PlatformError::io("open", file))?;
    opened.take(LIMIT).read_to_end(&mut bytes).map_err(PlatformError::io("read", file))?;
    Ok(bytes)
}

fn private(file: &Path) -> Result<(), PlatformError> {
    let metadata = fs::metadata(file).map_err(PlatformError::io("open", file))?;
    let mode = metadata.permissions().mode() & 0o7777;
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(PlatformError::KeyExposed { file: file.into(), mode }),
    }
}

const LIMIT: u64 = 1 << 20;
