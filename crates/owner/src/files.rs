//! Reading small inputs, writing outputs atomically.

use std::fs::{File, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use cloister_crypto::Secret;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use crate::host_key::Warning;
use crate::{ImageError, OwnerError};

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

/// Reads a file with a key of exactly `N` bytes; others who can read it are worth a warning.
pub(crate) fn read_key<const N: usize>(
    file: Option<&Path>,
    warnings: &mut Vec<Warning>,
) -> Result<Option<Secret<N>>, OwnerError> {
    let Some(file) = file else { return Ok(None) };
    let mut opened = File::open(file).map_err(io("open", file))?;
    warn_if_open(file, &opened, warnings)?;
    // One byte more than a key tells a longer file; the buffer never grows and so leaves no copy.
    let mut bytes = Zeroizing::new(vec![0u8; N + 1]);
    let mut have = 0;
    while have < bytes.len() {
        match opened.read(&mut bytes[have..]).map_err(io("read", file))? {
            0 => break,
            count => have += count,
        }
    }
    match Secret::from_slice(&bytes[..have]) {
        Some(key) => Ok(Some(key)),
        None => Err(ImageError::KeySize { file: file.into(), need: N }.into()),
    }
}

/// The same warning for a key file of another form.
pub(crate) fn warn_if_exposed(file: &Path, warnings: &mut Vec<Warning>) -> Result<(), OwnerError> {
    warn_if_open(file, &File::open(file).map_err(io("open", file))?, warnings)
}

fn warn_if_open(file: &Path, opened: &File, warnings: &mut Vec<Warning>) -> Result<(), OwnerError> {
    let mode = opened.metadata().map_err(io("read", file))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        warnings.push(Warning::ExposedKey { file: file.display().to_string(), mode });
    }
    Ok(())
}

/// Writes a small output, complete or not at all.
pub(crate) fn write(file: &Path, mode: u32, bytes: &[u8], overwrite: bool) -> Result<(), OwnerError> {
    refuse_existing(file, overwrite)?;
    let mut output = AtomicFile::create(file, mode)?;
    output.file().write_all(bytes).map_err(io("write", file))?;
    output.finish(file, overwrite)
}

/// Refuses a name that is taken, before work is done for it.
pub(crate) fn refuse_existing(file: &Path, overwrite: bool) -> Result<(), OwnerError> {
    match !overwrite && file.symlink_metadata().is_ok() {
        true => Err(ImageError::OutputExists { file: file.into() }.into()),
        false => Ok(()),
    }
}

/// An output that appears under its name complete or not at all.
///
/// The file has no name until it is complete, so that even a killed process leaves nothing behind.
/// Where the file system cannot do that, it has a temporary name, which is removed on failure.
pub(crate) struct AtomicFile {
    folder: PathBuf,
    contents: Contents,
}

enum Contents {
    Unnamed(File),
    Named(NamedTempFile),
}

impl AtomicFile {
    /// Starts an output beside its final place, so that it never has to move between file systems.
    pub(crate) fn create(file: &Path, mode: u32) -> Result<Self, OwnerError> {
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            Some(_) | None => PathBuf::from("."),
        };
        let unnamed = Path::new(OPEN_FILES).exists().then(|| {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            rustix::fs::open(&folder, flags, Mode::from_raw_mode(mode))
        });
        let contents = match unnamed {
            Some(Ok(descriptor)) => Contents::Unnamed(descriptor.into()),
            // Not supported here, or refused: the ordinary way works or says why not.
            Some(Err(_)) | None => Contents::Named(
                temporary_names()
                    .permissions(Permissions::from_mode(mode))
                    .tempfile_in(&folder)
                    .map_err(io("create", file))?,
            ),
        };
        Ok(Self { folder, contents })
    }

    /// Runs `work`; what it writes travels to the disk meanwhile, so that [`Self::finish`] waits for
    /// little.
    pub(crate) fn stream<T>(
        &mut self,
        file: &Path,
        work: impl FnOnce(&mut Streamed<'_>) -> Result<T, OwnerError>,
    ) -> Result<T, OwnerError> {
        let syncing = self.file().try_clone().map_err(io("write", file))?;
        std::thread::scope(|scope| {
            let (wake, woken) = mpsc::sync_channel(1);
            // The system reports a failed write to one caller only, so this one's must not be lost.
            let syncer = scope.spawn(move || woken.iter().try_for_each(|()| syncing.sync_data()));
            let mut streamed = Streamed { file: self.file(), unsynced: 0, wake };
            let result = work(&mut streamed);
            drop(streamed);
            let synced = syncer.join().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()));
            let result = result?;
            synced.map_err(io("write", file))?;
            Ok(result)
        })
    }

    fn file(&mut self) -> &mut File {
        match &mut self.contents {
            Contents::Unnamed(file) => file,
            Contents::Named(file) => file.as_file_mut(),
        }
    }

    /// Makes the contents last and gives them their name.
    pub(crate) fn finish(mut self, file: &Path, overwrite: bool) -> Result<(), OwnerError> {
        self.file().sync_all().map_err(io("write", file))?;
        let named = match (self.contents, overwrite) {
            (Contents::Named(contents), true) => {
                contents.persist(file).map(drop).map_err(|error| error.error)
            }
            (Contents::Named(contents), false) => {
                contents.persist_noclobber(file).map(drop).map_err(|error| error.error)
            }
            (Contents::Unnamed(contents), false) => give_name(&contents, file),
            // A link cannot replace a file, a rename can.
            (Contents::Unnamed(contents), true) => temporary_names()
                .make_in(&self.folder, |name| give_name(&contents, name))
                .and_then(|linked| linked.persist(file).map(drop).map_err(|error| error.error)),
        };
        named.map_err(io("write", file))?;
        // Make the name last too.
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(io("write", &self.folder))
    }
}

/// An output whose contents travel to the disk while it is written.
pub(crate) struct Streamed<'a> {
    file: &'a mut File,
    unsynced: usize,
    wake: mpsc::SyncSender<()>,
}

impl Write for Streamed<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if self.unsynced >= SYNC_STEP {
            self.unsynced = 0;
            // Full or gone: it is awake already, or has failed and says so at the end.
            let _ = self.wake.try_send(());
        }
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Streamed<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to)
    }
}

/// open(2), "O_TMPFILE": this link is how a file without a name gets one.
fn give_name(contents: &File, name: &Path) -> std::io::Result<()> {
    let link = format!("{OPEN_FILES}/{}", contents.as_raw_fd());
    rustix::fs::linkat(CWD, link, CWD, name, AtFlags::SYMLINK_FOLLOW).map_err(Into::into)
}

fn temporary_names() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".cloister-");
    builder
}

pub(crate) fn io(action: &'static str, file: &Path) -> impl FnOnce(std::io::Error) -> OwnerError {
    let file = file.to_owned();
    move |source| OwnerError::Io { action, file, source }
}

const SMALL: u64 = 16 << 20;
const SYNC_STEP: usize = 8 << 20;
const OPEN_FILES: &str = "/proc/self/fd";

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways of writing, because a test machine's file system has usually only one.
    const WAYS: [fn(&Path) -> AtomicFile; 2] = [
        |file| AtomicFile::create(file, 0o640).unwrap(),
        |file| {
            let folder = file.parent().unwrap().to_owned();
            let named = temporary_names().tempfile_in(&folder).unwrap();
            AtomicFile { folder, contents: Contents::Named(named) }
        },
    ];

    #[test]
    fn an_output_appears_when_finished_and_replaces_only_when_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("output");
        for start in WAYS {
            let write = |text: &str, overwrite| {
                let mut output = start(&file);
                output.file().write_all(text.as_bytes()).unwrap();
                output.finish(&file, overwrite)
            };
            write("new", false).unwrap();
            write("newer", false).unwrap_err();
            assert_eq!(std::fs::read(&file).unwrap(), b"new");
            write("newest", true).unwrap();
            assert_eq!(std::fs::read(&file).unwrap(), b"newest");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary name remains");
            std::fs::remove_file(&file).unwrap();
        }
    }

    #[test]
    fn an_abandoned_output_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for start in WAYS {
            start(&folder.path().join("output")).file().write_all(b"half").unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
