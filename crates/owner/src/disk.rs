//! Disks that the machine's own boot loader starts from: zipl's boot map in blocks of 512 bytes, with Secure Execution
//! images and kernels as programs, and a partition with data if there is one.
//!
//! Nothing is mounted and no file system is made. A disk is no secret: an encrypted image stays encrypted on it, and a
//! kernel is in the clear.

use crate::OwnerError;
use crate::files::{AtomicFile, io, read_limited, refuse_existing};
use cloister_formats::s390x::boot_map::{self, BLOCK_SIZE, Part, Program};
use cloister_formats::s390x::se_image::{self, Metadata};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Why no disk is made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// There is nothing to boot.
    #[error("there is nothing to boot: give an encrypted image with --image or a kernel with --kernel")]
    Nothing,
    /// A file is not what it was given as.
    #[error("{} {problem}", .file.display())]
    Unfit {
        /// The file.
        file: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The command line is longer than the kernel takes.
    #[error("the kernel command line has {size} bytes; this kernel takes at most {limit}: shorten it")]
    CommandLine {
        /// Bytes.
        size: usize,
        /// Most of them.
        limit: u64,
    },
    /// The map cannot be made.
    #[error(transparent)]
    Map(#[from] cloister_formats::Error),
    /// The disk is too small for what goes on it.
    #[error("the disk needs {needed} bytes, and --size gives {size}")]
    TooSmall {
        /// Bytes needed.
        needed: u64,
        /// Bytes given.
        size: u64,
    },
    /// Partitions of this kind end at 2 TiB.
    #[error("the data need {blocks} blocks; a partition of this kind has at most 4294967295")]
    TooLarge {
        /// Blocks needed.
        blocks: u64,
    },
}

/// Something that a disk can boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A Secure Execution image.
    Image(PathBuf),
    /// A kernel in the clear.
    Kernel {
        /// The raw kernel.
        kernel: PathBuf,
        /// Its initial ramdisk.
        initrd: Option<PathBuf>,
        /// Its command line.
        append: Option<String>,
    },
}

/// What to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskOptions {
    /// The programs 1, 2, ...
    pub programs: Vec<Source>,
    /// Number of the one to boot if nobody asks for another.
    pub default: usize,
    /// A file for a partition of its own.
    pub data: Option<PathBuf>,
    /// Bytes of the disk, if it is to be larger than needed.
    pub size: Option<u64>,
    /// The disk.
    pub output: PathBuf,
    /// Replace an existing one.
    pub overwrite: bool,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskReport {
    /// Bytes of the disk.
    pub size: u64,
    /// Where the data are: first block and blocks.
    pub data: Option<(u64, u64)>,
    /// How many programs can be asked for.
    pub programs: usize,
}

/// Makes a disk; it appears complete or not at all.
///
/// # Errors
/// If an input is not what it should be, something does not fit, or a file cannot be read or written.
pub fn create(options: &DiskOptions) -> Result<DiskReport, OwnerError> {
    refuse_existing(&options.output, options.overwrite)?;
    if options.programs.is_empty() {
        return Err(DiskError::Nothing.into());
    }
    let loaded = options.programs.iter().map(Loaded::read).collect::<Result<Vec<_>, _>>()?;
    let programs: Vec<Program<'_>> = loaded.iter().map(Loaded::program).collect();
    let mut data = options.data.as_deref().map(Data::open).transpose()?;
    let first = if data.is_some() { MEBIBYTE_BLOCKS } else { 1 };
    let layout = boot_map::build(&programs, options.default, first).map_err(DiskError::from)?;

    let mut end = layout.end;
    let mut record = layout.record.encode();
    if let Some(data) = &mut data {
        data.start = layout.end.next_multiple_of(MEBIBYTE_BLOCKS);
        end = data.start.saturating_add(data.blocks());
        if end > u64::from(u32::MAX) {
            return Err(DiskError::TooLarge { blocks: end }.into());
        }
        partition(&mut record, 0, PARTITION_BOOT, first, data.start - first);
        partition(&mut record, 1, PARTITION_LINUX, data.start, data.blocks());
    }
    let needed = end.next_multiple_of(PAGE_BLOCKS).saturating_mul(BLOCK_SIZE as u64);
    let size = options.size.unwrap_or(needed);
    if size < end.saturating_mul(BLOCK_SIZE as u64) {
        return Err(DiskError::TooSmall { needed, size }.into());
    }
    let size = size.next_multiple_of(BLOCK_SIZE as u64);

    let file = &options.output;
    let mut output = AtomicFile::create(file, 0o644)?;
    output.stream(file, |disk| {
        let write = || io("write", file);
        disk.write_all(&record).map_err(write())?;
        for (block, bytes) in &layout.pieces {
            disk.seek(SeekFrom::Start(block * BLOCK_SIZE as u64)).map_err(write())?;
            disk.write_all(bytes).map_err(write())?;
        }
        if let Some(data) = &mut data {
            data.copy(disk, file)?;
        }
        // The last byte makes the length.
        let at = disk.seek(SeekFrom::End(0)).map_err(write())?;
        if at < size {
            disk.seek(SeekFrom::Start(size - 1)).map_err(write())?;
            disk.write_all(&[0]).map_err(write())?;
        }
        Ok(())
    })?;
    output.finish(file, options.overwrite)?;
    Ok(DiskReport {
        size,
        data: data.map(|data| (data.start, data.blocks())),
        programs: options.programs.len(),
    })
}

/// A program's bytes.
struct Loaded {
    /// From the first address that is loaded on.
    kernel: Vec<u8>,
    initrd: Option<(u64, Vec<u8>)>,
}

impl Loaded {
    fn read(source: &Source) -> Result<Self, OwnerError> {
        let unfit = |file: &Path, problem: &str| {
            OwnerError::from(DiskError::Unfit { file: file.into(), problem: problem.into() })
        };
        let (file, what) = match source {
            Source::Image(file) => (file, "Secure Execution image"),
            Source::Kernel { kernel, .. } => (kernel, "kernel"),
        };
        let mut bytes = read_limited(file, MOST, what)?;
        let encrypted =
            bytes.get(se_image::METADATA_ADDR as usize..).is_some_and(|at| at.starts_with(Metadata::MAGIC));
        if bytes.len() <= LOAD_ADDR as usize {
            return Err(unfit(file, "is too short to be a kernel or an image"));
        }
        let mut initial = None;
        match source {
            Source::Image(_) if !encrypted => {
                return Err(unfit(
                    file,
                    "is no Secure Execution image: make one with 'cloister pv image create', or give a kernel with --kernel",
                ));
            }
            Source::Image(_) => {}
            Source::Kernel { .. } if encrypted => {
                return Err(unfit(file, "is a Secure Execution image: give it with --image"));
            }
            Source::Kernel { initrd, append, .. } => {
                if !bytes
                    .get(se_image::KERNEL_MAGIC_ADDR as usize..)
                    .is_some_and(|at| at.starts_with(se_image::KERNEL_MAGIC))
                {
                    return Err(unfit(file, "is no raw s390x kernel (arch/s390/boot/bzImage, vmlinuz)"));
                }
                if let Some(append) = append {
                    command_line(&mut bytes, append)?;
                }
                if let Some(initrd) = initrd {
                    let ramdisk = read_limited(initrd, MOST, "initial ramdisk")?;
                    let at = INITRD_FLOOR.max((bytes.len() as u64 + MIB).next_multiple_of(MIB));
                    if at + ramdisk.len() as u64 > MOST {
                        return Err(unfit(initrd, "does not fit below 2 GiB with the kernel"));
                    }
                    put(&mut bytes, INITRD_ADDR, at);
                    put(&mut bytes, INITRD_SIZE, ramdisk.len() as u64);
                    initial = Some((at, ramdisk));
                }
            }
        }
        bytes.drain(..LOAD_ADDR as usize);
        Ok(Self { kernel: bytes, initrd: initial })
    }

    fn program(&self) -> Program<'_> {
        let mut parts = vec![Part { address: LOAD_ADDR, bytes: &self.kernel }];
        parts.extend(self.initrd.iter().map(|(address, bytes)| Part { address: *address, bytes }));
        Program { parts, entry: LOAD_ADDR }
    }
}

/// Linux, arch/s390/boot/head.S, "Parameter area".
fn command_line(kernel: &mut [u8], append: &str) -> Result<(), DiskError> {
    let at = se_image::KERNEL_CMDLINE_LIMIT_ADDR as usize;
    let limit = kernel.get(at..at + 8).map_or(0, |b| b.iter().fold(0, |all, &b| all << 8 | u64::from(b)));
    let limit = if limit == 0 { se_image::DEFAULT_CMDLINE_SIZE } else { limit };
    let at = se_image::KERNEL_CMDLINE_ADDR as usize;
    let size = append.len() + 1;
    let place = kernel.get_mut(at..at + size).filter(|_| size as u64 <= limit);
    let place = place.ok_or(DiskError::CommandLine { size, limit })?;
    place[..append.len()].copy_from_slice(append.as_bytes());
    place[append.len()] = 0;
    Ok(())
}

fn put(kernel: &mut [u8], address: u64, value: u64) {
    let at = address as usize;
    if let Some(place) = kernel.get_mut(at..at + 8) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// What goes into the second partition.
struct Data {
    name: PathBuf,
    file: File,
    bytes: u64,
    start: u64,
}

impl Data {
    fn open(name: &Path) -> Result<Self, OwnerError> {
        let file = File::open(name).map_err(io("open", name))?;
        let bytes = file.metadata().map_err(io("read", name))?.len();
        Ok(Self { name: name.to_owned(), file, bytes, start: 0 })
    }

    fn blocks(&self) -> u64 {
        self.bytes.div_ceil(BLOCK_SIZE as u64).max(1)
    }

    /// Copies what is there at the size it had; what is zero stays a hole.
    fn copy(&mut self, disk: &mut (impl Write + Seek), output: &Path) -> Result<(), OwnerError> {
        let mut at = self.start * BLOCK_SIZE as u64;
        let mut left = self.bytes;
        let mut buffer = vec![0; CHUNK];
        while left > 0 {
            let part = &mut buffer[..(CHUNK as u64).min(left) as usize];
            self.file.read_exact(part).map_err(|source| match source.kind() {
                ErrorKind::UnexpectedEof => OwnerError::from(DiskError::Unfit {
                    file: self.name.clone(),
                    problem: "became shorter while it was copied; try again when nobody writes to it".into(),
                }),
                _ => io("read", &self.name)(source),
            })?;
            if part.iter().any(|&byte| byte != 0) {
                disk.seek(SeekFrom::Start(at)).map_err(io("write", output))?;
                disk.write_all(part).map_err(io("write", output))?;
            }
            at += part.len() as u64;
            left -= part.len() as u64;
        }
        Ok(())
    }
}

/// An entry of the partition table of a PC's boot record, which Linux reads on every architecture. Addresses by cylinder
/// are marked as not to be used.
fn partition(record: &mut boot_map::Block, index: usize, kind: u8, first: u64, blocks: u64) {
    let entry = &mut record[446 + 16 * index..][..16];
    entry[1..4].copy_from_slice(&[0xfe, 0xff, 0xff]);
    entry[4] = kind;
    entry[5..8].copy_from_slice(&[0xfe, 0xff, 0xff]);
    entry[8..12].copy_from_slice(&(first as u32).to_le_bytes());
    entry[12..16].copy_from_slice(&(blocks as u32).to_le_bytes());
}

/// The first page of a kernel or an image that matters; before it is what `-kernel` needs.
const LOAD_ADDR: u64 = 0x10000;
/// Parameter area: address and size of the initial ramdisk.
const INITRD_ADDR: u64 = 0x10408;
const INITRD_SIZE: u64 = 0x10410;
/// The lowest place for the initial ramdisk, the one of `-kernel`.
const INITRD_FLOOR: u64 = 0x80_0000;
const MIB: u64 = 1 << 20;
/// The boot loader lies below 2 GiB and loads below itself.
const MOST: u64 = (2 << 30) - (4 << 20);
const CHUNK: usize = 1 << 20;
const MEBIBYTE_BLOCKS: u64 = MIB / BLOCK_SIZE as u64;
const PAGE_BLOCKS: u64 = 8;
/// Data without a file system.
const PARTITION_BOOT: u8 = 0xda;
const PARTITION_LINUX: u8 = 0x83;

#[cfg(test)]
mod tests {
    use super::*;

    fn options(folder: &Path) -> DiskOptions {
        let mut kernel: Vec<u8> = (0..0x14000u32).map(|n| (n * 7 + n / 256) as u8).collect();
        kernel[0x10008..0x1000e].copy_from_slice(b"S390EP");
        kernel[0x10430..0x10438].copy_from_slice(&0x100u64.to_be_bytes());
        std::fs::write(folder.join("kernel"), &kernel).unwrap();
        std::fs::write(folder.join("initrd"), b"ramdisk").unwrap();
        let kernel = Source::Kernel {
            kernel: folder.join("kernel"),
            initrd: Some(folder.join("initrd")),
            append: Some("root=/dev/vda2".into()),
        };
        DiskOptions {
            programs: vec![kernel],
            default: 1,
            data: None,
            size: None,
            output: folder.join("disk"),
            overwrite: false,
        }
    }

    fn programs(disk: &[u8]) -> Vec<boot_map::Mapped> {
        boot_map::read(|block| {
            let at = block as usize * BLOCK_SIZE;
            Ok(disk[at..at + BLOCK_SIZE].try_into().unwrap())
        })
        .unwrap()
    }

    #[test]
    fn a_kernel_gets_its_parameters_and_its_ramdisk() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        let report = create(&options).unwrap();
        let disk = std::fs::read(&options.output).unwrap();
        assert_eq!(disk.len() as u64, report.size);
        let programs = programs(&disk);
        assert_eq!(programs.iter().map(|program| program.number).collect::<Vec<_>>(), [0, 1]);
        let parts = &programs[0].parts;
        assert_eq!((parts[0].0, parts[1].0), (0x10000, 0x80_0000));
        let kernel = &disk[parts[0].1[0].block as usize * BLOCK_SIZE..];
        assert_eq!(&kernel[8..14], b"S390EP");
        assert_eq!(kernel[0x408..0x418], [[0, 0, 0, 0, 0, 0x80, 0, 0], [0, 0, 0, 0, 0, 0, 0, 7]].concat());
        assert_eq!(&kernel[0x480..0x48f], b"root=/dev/vda2\0");
        let initrd = &disk[parts[1].1[0].block as usize * BLOCK_SIZE..];
        assert_eq!(&initrd[..8], b"ramdisk\0");
    }

    #[test]
    fn data_get_a_partition_that_begins_at_a_mebibyte() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::write(&data, [vec![7; 700], vec![0; 3 << 20], vec![9; 5]].concat()).unwrap();
        let options =
            DiskOptions { data: Some(data.clone()), size: Some(16 << 20), ..options(folder.path()) };
        let report = create(&options).unwrap();
        let disk = std::fs::read(&options.output).unwrap();
        assert_eq!((report.size, disk.len()), (16 << 20, 16 << 20));
        let (start, blocks) = report.data.unwrap();
        assert_eq!(start % 2048, 0);
        let entry = &disk[446 + 16..446 + 32];
        assert_eq!(entry[4], PARTITION_LINUX);
        assert_eq!(entry[8..12], (start as u32).to_le_bytes());
        assert_eq!(entry[12..16], (blocks as u32).to_le_bytes());
        let original = std::fs::read(&data).unwrap();
        assert_eq!(disk[start as usize * BLOCK_SIZE..][..original.len()], original);
        assert_eq!(disk[510..512], [0x55, 0xaa]);
        let boot = programs(&disk)[0].parts[0].1[0];
        assert!(boot.block >= 2048 && boot.block < start, "the map lies in its own partition");
    }

    #[test]
    fn what_is_none_is_refused_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let good = options(folder.path());
        let kernel = folder.path().join("kernel");
        let refused = |options: DiskOptions, words: &str| {
            let why = create(&options).unwrap_err().to_string();
            assert!(why.contains(words), "{why}");
            assert!(!options.output.exists());
        };
        refused(DiskOptions { programs: Vec::new(), ..good.clone() }, "nothing to boot");
        let image = Source::Image(kernel.clone());
        refused(DiskOptions { programs: vec![image], ..good.clone() }, "is no Secure Execution image");
        let append = Some("x".repeat(0x100));
        let long = Source::Kernel { kernel: kernel.clone(), initrd: None, append };
        refused(DiskOptions { programs: vec![long], ..good.clone() }, "takes at most 256");
        let short = Source::Kernel { kernel: folder.path().join("initrd"), initrd: None, append: None };
        refused(DiskOptions { programs: vec![short], ..good.clone() }, "too short");
        refused(DiskOptions { size: Some(4096), ..good.clone() }, "--size gives 4096");
        refused(DiskOptions { default: 2, ..good.clone() }, "no program with this number");
        std::fs::write(&good.output, "mine").unwrap();
        create(&good).unwrap_err();
        assert_eq!(std::fs::read(&good.output).unwrap(), b"mine");
    }
}
