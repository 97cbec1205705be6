//! Disk images for virtio-blk: raw files and block devices, qcow2 through the `imago` crate, and a temporary overlay
//! for `snapshot=on`.
//!
//! No caching, no throttling, no block jobs; formats other than these two are refused by name.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

use super::qcow2::Qcow2Disk;
use crate::Error;

/// What a disk does for its device. Offsets and lengths are within the size, except that the last sector of an image
/// whose size is no multiple of 512 may reach beyond it.
pub trait DiskBackend: Send {
    /// Size in bytes.
    fn size(&self) -> u64;

    /// Whether writes are refused.
    fn read_only(&self) -> bool;

    /// The image's format, as `query-block` names it.
    fn format(&self) -> &'static str {
        "raw"
    }

    /// Fills `buf`; beyond the end there are zeros.
    ///
    /// # Errors
    /// From the image.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Writes `buf`.
    ///
    /// # Errors
    /// From the image.
    fn write_at(&mut self, offset: u64, buf: &[u8]) -> io::Result<()>;

    /// Makes all completed writes durable.
    ///
    /// # Errors
    /// From the image.
    fn flush(&mut self) -> io::Result<()>;

    /// The content of this range is not needed any more. May do nothing.
    ///
    /// # Errors
    /// From the image.
    fn discard(&mut self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    /// Makes this range read as zeros.
    ///
    /// # Errors
    /// From the image.
    fn write_zeroes(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let zeros = [0; 64 * 1024];
        let mut done = 0;
        while done < length {
            let part = (length - done).min(zeros.len() as u64);
            self.write_at(offset + done, &zeros[..part as usize])?;
            done += part;
        }
        Ok(())
    }
}

/// How to open an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskOptions {
    /// `raw` or `qcow2`; `None` looks at the first bytes.
    pub format: Option<String>,
    /// Refuse writes.
    pub read_only: bool,
    /// Keep writes in a temporary file and forget them at the end.
    pub snapshot: bool,
}

/// Opens an image. An image that is not locked for sharing can be used by one machine at a time.
///
/// # Errors
/// The image cannot be opened, is in use, or has a format that is not supported.
pub fn open_disk(path: &Path, options: &DiskOptions) -> Result<Box<dyn DiskBackend>, Error> {
    let fail = |source| Error::OpenImage { path: path.to_owned(), source };
    let writes = !options.read_only && !options.snapshot;
    let mut file = OpenOptions::new().read(true).write(writes).open(path).map_err(fail)?;
    if file.metadata().map_err(fail)?.is_dir() {
        return Err(fail(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    let lock = if writes { file.try_lock() } else { file.try_lock_shared() };
    match lock {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Error::ImageLocked { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => {
            // Some file systems know no locks.
            tracing::debug!("{}: not locked: {error}", path.display());
        }
    }
    let format = match &options.format {
        Some(format) => format.clone(),
        None => probe(&mut file).map_err(fail)?.to_owned(),
    };
    let base: Box<dyn DiskBackend> = match format.as_str() {
        "raw" => Box::new(RawDisk::new(file, !writes).map_err(fail)?),
        "qcow2" => {
            let trusted = options.format.is_some();
            Box::new(Qcow2Disk::open(path, file, writes, trusted).map_err(fail)?)
        }
        _ => return Err(Error::ImageFormat { path: path.to_owned(), format }),
    };
    if options.snapshot {
        let overlay = Overlay::new(base).map_err(Error::Overlay)?;
        return Ok(Box::new(ReadOnly { inner: overlay, read_only: options.read_only }));
    }
    Ok(base)
}

/// Names the format of an image by its first bytes. Whatever has no known signature is raw.
fn probe(file: &mut File) -> io::Result<&'static str> {
    let mut head = [0; 8];
    let mut have = 0;
    while have < head.len() {
        match file.read(&mut head[have..])? {
            0 => break,
            n => have += n,
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(match &head {
        [b'Q', b'F', b'I', 0xfb, ..] => "qcow2",
        [b'K', b'D', b'M', b'V', ..] => "vmdk",
        b"vhdxfile" => "vhdx",
        [b'Q', b'E', b'D', 0, ..] => "qed",
        b"conectix" => "vpc",
        _ => "raw",
    })
}

/// A raw image file or block device.
pub struct RawDisk {
    file: File,
    size: u64,
    read_only: bool,
}

impl RawDisk {
    /// A raw disk on an open file.
    ///
    /// # Errors
    /// The size cannot be found out.
    pub fn new(mut file: File, read_only: bool) -> io::Result<Self> {
        // Block devices have no length in their metadata.
        let size = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, size, read_only })
    }

    fn allocate(&self, flags: FallocateFlags, offset: u64, length: u64) -> io::Result<bool> {
        use rustix::io::Errno;
        let length = length.min(self.size.saturating_sub(offset));
        if length == 0 {
            return Ok(true);
        }
        match fallocate(&self.file, flags | FallocateFlags::KEEP_SIZE, offset, length) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV | Errno::INVAL) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl DiskBackend for RawDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let inside = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX).min(buf.len());
        let (data, beyond) = buf.split_at_mut(inside);
        beyond.fill(0);
        self.file.read_exact_at(data, offset)
    }

    fn write_at(&mut self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.file.write_all_at(buf, offset)?;
        self.size = self.size.max(offset + buf.len() as u64);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.read_only { Ok(()) } else { self.file.sync_data() }
    }

    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.allocate(FallocateFlags::PUNCH_HOLE, offset, length).map(drop)
    }

    fn write_zeroes(&mut self, offset: u64, length: u64) -> io::Result<()> {
        if offset + length <= self.size && self.allocate(FallocateFlags::PUNCH_HOLE, offset, length)? {
            return Ok(());
        }
        let zeros = [0; 64 * 1024];
        let mut done = 0;
        while done < length {
            let part = (length - done).min(zeros.len() as u64);
            self.write_at(offset + done, &zeros[..part as usize])?;
            done += part;
        }
        Ok(())
    }
}

/// Keeps writes in a temporary file that has no name, by blocks of 4 KiB.
struct Overlay {
    base: Box<dyn DiskBackend>,
    file: File,
    /// One bit for each block that lives in the file.
    present: Vec<u64>,
}

const BLOCK: u64 = 4096;

impl Overlay {
    fn new(base: Box<dyn DiskBackend>) -> io::Result<Self> {
        let blocks = base.size().div_ceil(BLOCK);
        let words = usize::try_from(blocks.div_ceil(64)).map_err(io::Error::other)?;
        Ok(Self { base, file: tempfile::tempfile()?, present: vec![0; words] })
    }

    fn has(&self, block: u64) -> bool {
        self.present.get((block / 64) as usize).is_some_and(|w| w >> (block % 64) & 1 == 1)
    }

    fn set(&mut self, block: u64) {
        if let Some(word) = self.present.get_mut((block / 64) as usize) {
            *word |= 1 << (block % 64);
        }
    }
}

impl DiskBackend for Overlay {
    fn size(&self) -> u64 {
        self.base.size()
    }

    fn format(&self) -> &'static str {
        self.base.format()
    }

    fn read_only(&self) -> bool {
        false
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        for (at, part) in by_block(offset, buf.len()) {
            let piece = &mut buf[part];
            if self.has(at / BLOCK) {
                self.file.read_exact_at(piece, at)?;
            } else {
                self.base.read_at(at, piece)?;
            }
        }
        Ok(())
    }

    fn write_at(&mut self, offset: u64, buf: &[u8]) -> io::Result<()> {
        for (at, part) in by_block(offset, buf.len()) {
            let block = at / BLOCK;
            if !self.has(block) {
                let mut whole = [0; BLOCK as usize];
                self.base.read_at(block * BLOCK, &mut whole)?;
                self.file.write_all_at(&whole, block * BLOCK)?;
                self.set(block);
            }
            self.file.write_all_at(&buf[part], at)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Cuts a range at block boundaries: offsets, and the part of the buffer for each.
fn by_block(offset: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let part = ((BLOCK - at % BLOCK) as usize).min(len - done);
        let range = done..done + part;
        done += part;
        (part > 0).then_some((at, range))
    })
}

/// An overlay that the user asked not to be written to.
struct ReadOnly {
    inner: Overlay,
    read_only: bool,
}

impl DiskBackend for ReadOnly {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn format(&self) -> &'static str {
        self.inner.format()
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(offset, buf)
    }

    fn write_at(&mut self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.inner.write_at(offset, buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
