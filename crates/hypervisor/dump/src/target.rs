//! Where dumps go.

use cloister_control::{ControlError, DumpSink};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Where a dump goes.
#[derive(Debug)]
pub enum Target {
    /// A file. It takes its name when it is complete; pipes and devices are written as they are.
    File(PathBuf),
    /// An open descriptor, written from where it stands.
    Descriptor(OwnedFd),
}

pub(crate) fn open(target: Target) -> Result<Box<dyn DumpSink>, ControlError> {
    let path = match target {
        Target::Descriptor(descriptor) => return Ok(Box::new(Stream(BufWriter::new(descriptor.into())))),
        Target::File(path) => path,
    };
    let failed = |error: io::Error| {
        ControlError::new(format!("Could not open '{}': {}", path.display(), words(&error)))
    };
    let (name, is_file) = match fs::metadata(&path) {
        Ok(meta) if meta.is_dir() => return Err(failed(io::ErrorKind::IsADirectory.into())),
        // Through symbolic links, so that it is the file that is replaced and not the link.
        Ok(meta) => (fs::canonicalize(&path).map_err(failed)?, meta.is_file()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.file_name().is_some() => {
            (path.clone(), true)
        }
        Err(error) => return Err(failed(error)),
    };
    if !is_file {
        let file = OpenOptions::new().write(true).open(&name).map_err(failed)?;
        return Ok(Box::new(Stream(BufWriter::new(file))));
    }
    let folder = match name.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let file = tempfile::Builder::new()
        .prefix(".dump-")
        .suffix(".part")
        // As QEMU's: a dump holds everything that the guest knew.
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder)
        .map_err(failed)?;
    Ok(Box::new(Whole { file: Some(BufWriter::with_capacity(BUFFER, file)), name }))
}

const BUFFER: usize = 1 << 20;

/// Written as it comes.
struct Stream(BufWriter<File>);

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl DumpSink for Stream {
    fn finish(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A file without its name until it is complete.
struct Whole {
    file: Option<BufWriter<NamedTempFile>>,
    name: PathBuf,
}

impl Whole {
    fn file(&mut self) -> io::Result<&mut BufWriter<NamedTempFile>> {
        self.file.as_mut().ok_or_else(|| io::Error::other("the dump is complete already"))
    }
}

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file()?.flush()
    }
}

impl DumpSink for Whole {
    fn finish(&mut self) -> io::Result<()> {
        self.flush()?;
        let Some(file) = self.file.take() else { return Ok(()) };
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.persist(&self.name).map(drop).map_err(|failed| failed.error)
    }
}

/// The kernel's words without Rust's addition of the number.
fn words(error: &io::Error) -> String {
    let text = match error.kind() {
        io::ErrorKind::IsADirectory => "Is a directory".to_owned(),
        _ => error.to_string(),
    };
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
