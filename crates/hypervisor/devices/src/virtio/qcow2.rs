//! qcow2 images through the `imago` crate, which is kept by a QEMU block maintainer.
//!
//! Nothing of the format is interpreted here. An image may name a backing file, but only where the user said that it is
//! qcow2: a guest can write the header of one into its raw disk, and must not reach other files of the host that way.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use imago::format::Format;
use imago::qcow2::Qcow2;
use imago::{
    DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, PermissiveImplicitOpenGate, Storage,
    StorageOpenOptions,
};

use super::disk::{Behind, DiskBackend};

/// A qcow2 disk.
pub(super) struct Qcow2Disk {
    image: FormatAccess<imago::file::File>,
    /// Holds the locks that were taken on the image.
    file: File,
    read_only: bool,
}

impl Qcow2Disk {
    pub(super) fn open(path: &Path, file: File, writes: bool, behind: Behind) -> io::Result<Self> {
        let storage = imago::file::File::open(StorageOpenOptions::new().filename(path).write(writes))?;
        let builder = Qcow2::<imago::file::File>::builder(storage).write(writes);
        let denied = |error: io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied => io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{error}; an image with a backing file needs format=qcow2"),
            ),
            _ => error,
        };
        let image = match behind {
            Behind::Anything => builder.open(PermissiveImplicitOpenGate::default())?,
            Behind::Nothing => builder.open(DenyImplicitOpenGate::default()).map_err(denied)?,
            Behind::Ignored => builder.backing(None).open(DenyImplicitOpenGate::default())?,
            Behind::File(path, qcow2) => {
                let format = if qcow2 { Format::Qcow2 } else { Format::Raw };
                builder.backing_path(path, format).open(PermissiveImplicitOpenGate::default())?
            }
        };
        Ok(Self { image: FormatAccess::new(image), file, read_only: !writes })
    }
}

impl DiskBackend for Qcow2Disk {
    fn format(&self) -> &'static str {
        "qcow2"
    }

    fn size(&self) -> u64 {
        self.image.size()
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let inside = usize::try_from(self.size().saturating_sub(offset)).unwrap_or(usize::MAX).min(buf.len());
        let (data, beyond) = buf.split_at_mut(inside);
        beyond.fill(0);
        self.image.read(data, offset)
    }

    fn write_at(&mut self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.image.write(buf, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        self.image.flush()?;
        self.image.sync()
    }

    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.image.discard_to_any(offset, length)
    }

    fn write_zeroes(&mut self, offset: u64, length: u64, _unmap: bool) -> io::Result<()> {
        self.image.write_zeroes(offset, length)
    }

    fn allocated(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.blocks() * 512)
    }
}
