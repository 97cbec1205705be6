//! Disk images for virtio-blk: raw files and block devices, qcow2 through the `imago` crate, and a temporary overlay
//! for `snapshot=on`.
//!
//! No caching, no throttling, no block jobs; formats other than these two are refused by name.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use super::lock::{self, Use};
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

    /// The content of this range is not needed any more, and may be anything. May do nothing.
    ///
    /// # Errors
    /// From the image.
    fn discard(&mut self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    /// Makes this range read as zeros; `unmap`: the host's disk may give the space back.
    ///
    /// # Errors
    /// From the image.
    fn write_zeroes(&mut self, offset: u64, length: u64, _unmap: bool) -> io::Result<()> {
        fill(self, offset, length)
    }

    /// Changes the size.
    ///
    /// # Errors
    /// From the image, or because this kind cannot.
    fn resize(&mut self, _size: u64) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "Image format driver does not support resize"))
    }

    /// Bytes that it takes on the host.
    fn allocated(&self) -> u64 {
        0
    }
}

/// A file without a name. As QEMU does, in /var/tmp unless TMPDIR says otherwise: that is on a disk, and rarely beside
/// a platform's folder, near which nothing new can be read once its keys are guarded.
fn temporary() -> io::Result<File> {
    match std::env::var_os("TMPDIR") {
        Some(_) => tempfile::tempfile(),
        None => tempfile::tempfile_in("/var/tmp").or_else(|_| tempfile::tempfile()),
    }
}

/// Zeros, byte by byte.
fn fill<D: DiskBackend + ?Sized>(disk: &mut D, offset: u64, length: u64) -> io::Result<()> {
    let zeros = [0; 64 * 1024];
    let mut done = 0;
    while done < length {
        let part = (length - done).min(zeros.len() as u64);
        disk.write_at(offset + done, &zeros[..part as usize])?;
        done += part;
    }
    Ok(())
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

/// Opens an image and locks it for one disk: others may read it, and write it only where this one is read-only and
/// asks for that. For those who have no nodes of a block layer.
///
/// # Errors
/// The image cannot be opened, is in use, or has a format that is not supported.
pub fn open_disk(path: &Path, options: &DiskOptions) -> Result<Box<dyn DiskBackend>, Error> {
    let fail = |source| Error::OpenImage { path: path.to_owned(), source };
    let writes = !options.read_only && !options.snapshot;
    let mut file = open_file(path, writes).map_err(fail)?;
    let format = match &options.format {
        Some(format) => format.clone(),
        None => probe(&mut file).map_err(fail)?.to_owned(),
    };
    let wanted = match format == "qcow2" || options.snapshot {
        true => Use::format(writes),
        false => Use::raw(writes, false),
    };
    lock::lock(&file, wanted).map_err(|why| Error::ImageLocked { path: path.to_owned(), why })?;
    let base: Box<dyn DiskBackend> = match format.as_str() {
        "raw" => Box::new(RawDisk::new(file, !writes).map_err(fail)?),
        "qcow2" => {
            let backing = if options.format.is_some() { Behind::Anything } else { Behind::Nothing };
            Box::new(Qcow2Disk::open(path, file, writes, backing).map_err(fail)?)
        }
        _ => return Err(Error::ImageFormat { path: path.to_owned(), format }),
    };
    match options.snapshot {
        true => {
            let overlay = Box::new(Overlay::new(base).map_err(Error::Overlay)?);
            let manner = Manner { read_only: options.read_only, ..Manner::default() };
            Ok(Box::new(Mannered::new(overlay, manner)))
        }
        false => Ok(base),
    }
}

/// What lies behind a copy-on-write image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behind {
    /// The file that it names.
    Anything,
    /// Nothing: an image that names a file is refused.
    Nothing,
    /// Nothing, whatever it names.
    Ignored,
    /// This file, whatever it names; whether that is a qcow2 image or raw.
    File(PathBuf, bool),
}

/// Opens the file of an image; a folder is none.
///
/// # Errors
/// From the file system.
pub fn open_file(path: &Path, writes: bool) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(writes).open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::from_raw_os_error(rustix::io::Errno::ISDIR.raw_os_error()));
    }
    Ok(file)
}

/// A qcow2 image in an open file, which carries its locks.
///
/// # Errors
/// It is none, or a file behind it cannot be opened.
pub fn open_qcow2(path: &Path, file: File, writes: bool, behind: Behind) -> io::Result<Box<dyn DiskBackend>> {
    Ok(Box::new(Qcow2Disk::open(path, file, writes, behind)?))
}

/// Names the format of an image by its first bytes. Whatever has no known signature is raw.
///
/// # Errors
/// From the file.
pub fn probe(file: &mut File) -> io::Result<&'static str> {
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

/// A raw image file or block device, or a window of one.
pub struct RawDisk {
    file: File,
    start: u64,
    size: u64,
    /// The size cannot change.
    fixed: bool,
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
        Ok(Self { file, start: 0, size, fixed: false, read_only })
    }

    /// The same from an offset on, and of this size. Returns `None` if the file is too short.
    #[must_use]
    pub fn window(self, offset: u64, size: Option<u64>) -> Option<Self> {
        let rest = self.size.checked_sub(offset)?;
        let size_here = size.unwrap_or(rest);
        let fixed = self.fixed || size.is_some();
        (size_here <= rest).then_some(Self { start: self.start + offset, size: size_here, fixed, ..self })
    }

    fn allocate(&self, flags: FallocateFlags, offset: u64, length: u64) -> io::Result<bool> {
        use rustix::io::Errno;
        let length = length.min(self.size.saturating_sub(offset));
        if length == 0 {
            return Ok(true);
        }
        match fallocate(&self.file, flags | FallocateFlags::KEEP_SIZE, self.start + offset, length) {
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
        self.file.read_exact_at(data, self.start + offset)
    }

    fn write_at(&mut self, offset: u64, buf: &[u8]) -> io::Result<()> {
        if self.read_only {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::PERM.raw_os_error()));
        }
        self.file.write_all_at(buf, self.start + offset)?;
        self.size = self.size.max(offset + buf.len() as u64);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.read_only { Ok(()) } else { self.file.sync_data() }
    }

    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.allocate(FallocateFlags::PUNCH_HOLE, offset, length).map(drop)
    }

    fn write_zeroes(&mut self, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
        let inside = offset.checked_add(length).is_some_and(|end| end <= self.size);
        if inside
            && (unmap && self.allocate(FallocateFlags::PUNCH_HOLE, offset, length)?
                || self.allocate(FallocateFlags::ZERO_RANGE, offset, length)?)
        {
            return Ok(());
        }
        fill(self, offset, length)
    }

    fn resize(&mut self, size: u64) -> io::Result<()> {
        if self.fixed {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "Cannot resize fixed-size raw disks"));
        }
        if !self.file.metadata()?.is_file() {
            return match size <= self.size {
                true => Ok(()),
                false => Err(io::Error::new(io::ErrorKind::InvalidInput, "Cannot grow device files")),
            };
        }
        self.file.set_len(self.start + size)?;
        self.size = size;
        Ok(())
    }

    fn allocated(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.blocks() * 512)
    }
}

/// Zeros for reading; what is written is forgotten.
pub struct NullDisk {
    size: u64,
    read_only: bool,
}

impl NullDisk {
    /// A disk of this size.
    pub fn new(size: u64, read_only: bool) -> Self {
        Self { size, read_only }
    }
}

impl DiskBackend for NullDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read_at(&mut self, _offset: u64, buf: &mut [u8]) -> io::Result<()> {
        buf.fill(0);
        Ok(())
    }

    fn write_at(&mut self, _offset: u64, _buf: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn write_zeroes(&mut self, _offset: u64, _length: u64, _unmap: bool) -> io::Result<()> {
        Ok(())
    }
}

/// How a disk is used beside its format: what the nodes of the block layer say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Refuse writes.
    pub read_only: bool,
    /// Give back what is discarded.
    pub discard: bool,
    /// Look for zeros in what is written.
    pub detect_zeroes: bool,
    /// Give the space of such zeros back.
    pub unmap_zeroes: bool,
    /// Never flush to the host's disk.
    pub no_flush: bool,
}

/// A disk used in some manner.
pub struct Mannered {
    disk: Box<dyn DiskBackend>,
    manner: Manner,
}

impl Mannered {
    /// This disk in this manner.
    pub fn new(disk: Box<dyn DiskBackend>, manner: Manner) -> Self {
        Self { disk, manner }
    }
}

impl DiskBackend for Mannered {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn read_only(&self) -> bool {
        self.manner.read_only || self.disk.read_only()
    }

    fn format(&self) -> &'static str {
        self.disk.format()
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(offset, buf)
    }

    fn write_at(&mut self, offset: u64, buf: &[u8]) -> io::Result<()> {
        if self.manner.detect_zeroes && buf.iter().all(|byte| *byte == 0) {
            return self.disk.write_zeroes(offset, buf.len() as u64, self.manner.unmap_zeroes);
        }
        self.disk.write_at(offset, buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.manner.no_flush { Ok(()) } else { self.disk.flush() }
    }

    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        if self.manner.discard { self.disk.discard(offset, length) } else { Ok(()) }
    }

    fn write_zeroes(&mut self, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
        self.disk.write_zeroes(offset, length, unmap && self.manner.discard)
    }

    fn resize(&mut self, size: u64) -> io::Result<()> {
        self.disk.resize(size)
    }

    fn allocated(&self) -> u64 {
        self.disk.allocated()
    }
}

/// Keeps writes in a temporary file that has no name, by blocks of 4 KiB.
pub struct Overlay {
    base: Box<dyn DiskBackend>,
    file: File,
    /// One bit for each block that lives in the file.
    present: Vec<u64>,
}

const BLOCK: u64 = 4096;

impl Overlay {
    /// An overlay over this disk.
    ///
    /// # Errors
    /// No temporary file can be made.
    pub fn new(base: Box<dyn DiskBackend>) -> io::Result<Self> {
        let blocks = base.size().div_ceil(BLOCK);
        let words = usize::try_from(blocks.div_ceil(64)).map_err(io::Error::other)?;
        Ok(Self { base, file: temporary()?, present: vec![0; words] })
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

    fn allocated(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.blocks() * 512)
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
