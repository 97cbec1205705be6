//! qcow2 images through the `imago` crate, which is kept by a QEMU block maintainer.
//!
//! Nothing of the format is interpreted here. As in QEMU, an image may name a backing file, which is then opened too.

use std::fs::File;
use std::io;
use std::path::Path;

use imago::qcow2::Qcow2;
use imago::{FormatAccess, FormatDriverBuilder, PermissiveImplicitOpenGate};

use super::disk::DiskBackend;

/// A qcow2 disk.
pub(super) struct Qcow2Disk {
    image: FormatAccess<imago::file::File>,
    /// Holds the lock that was taken on the image.
    _lock: File,
    read_only: bool,
}

impl Qcow2Disk {
    pub(super) fn open(path: &Path, lock: File, writes: bool) -> io::Result<Self> {
        let image = Qcow2::<imago::file::File>::builder_path(path)
            .write(writes)
            .open(PermissiveImplicitOpenGate::default())?;
        Ok(Self { image: FormatAccess::new(image), _lock: lock, read_only: !writes })
    }
}

impl DiskBackend for Qcow2Disk {
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

    fn write_zeroes(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.image.write_zeroes(offset, length)
    }
}
