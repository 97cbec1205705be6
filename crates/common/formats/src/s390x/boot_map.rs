//! The boot map that zipl writes to a disk of linear 512-byte blocks ("SCSI scheme"), and that the machine's boot loader
//! follows: boot record, program table, component tables, lists of segments (s390-tools, zipl and include/boot).
//!
//! A map says which blocks go where in memory and where to begin; what they contain is not looked at here. The other
//! scheme, for disks with cylinders and heads, is not here either.

use crate::codec::{Error, get, need, put};

/// Bytes in a block.
pub const BLOCK_SIZE: usize = 512;
/// Programs in a table, the default among them.
pub const MAX_PROGRAMS: usize = (BLOCK_SIZE - TABLE_START) / POINTER_SIZE;
/// Components of a program, the one that is executed among them.
pub const MAX_COMPONENTS: usize = (BLOCK_SIZE - COMPONENTS_START) / COMPONENT_SIZE;
/// Blocks that one pointer can name.
pub const MAX_COUNT: u32 = 1 << 16;

const MAGIC: &[u8; 4] = b"zIPL";
const VERSION: u32 = 1;
const POINTER_SIZE: usize = 16;
const TABLE_START: usize = 16;
const COMPONENTS_START: usize = 32;
const COMPONENT_SIZE: usize = 32;
/// Data pointers in a block of a list; the last slot leads to the next block.
const LIST_SLOTS: usize = BLOCK_SIZE / POINTER_SIZE - 1;
/// Blocks that the builder lets one pointer name: loaders read that much at a time.
const BUILD_COUNT: u32 = 2048;
/// Blocks of a list that a reader follows, which is far more than a boot loader's memory holds.
const MAX_LISTS: usize = 4096;
/// Mask of the PSW that a program begins with: 31-bit addressing.
const PSW_LOAD: u64 = 0x0008_0000_8000_0000;
const PSW_ADDRESS: u64 = 0x7fff_ffff;

/// A block.
pub type Block = [u8; BLOCK_SIZE];

/// Blocks in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockPtr {
    /// The first; never 0, which is the boot record.
    pub block: u64,
    /// How many, at least one.
    pub count: u32,
}

impl BlockPtr {
    fn parse(what: &'static str, bytes: &[u8], at: usize) -> Result<Option<Self>, Error> {
        let block: u64 = get(bytes, at);
        if block == 0 {
            return Ok(None);
        }
        let size: u16 = get(bytes, at + 8);
        if usize::from(size) != BLOCK_SIZE {
            return Err(Error::Field {
                what,
                field: "size of a block",
                found: size.into(),
                rule: "only blocks of 512 bytes are known",
            });
        }
        Ok(Some(Self { block, count: u32::from(get::<u16>(bytes, at + 10)) + 1 }))
    }

    fn put(self, bytes: &mut [u8], at: usize) {
        put(bytes, at, &self.block);
        put(bytes, at + 8, &(BLOCK_SIZE as u16));
        put(bytes, at + 10, &(self.count.clamp(1, MAX_COUNT).wrapping_sub(1) as u16));
    }
}

/// Block 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootRecord {
    /// Where the program table is.
    pub programs: BlockPtr,
}

impl BootRecord {
    const WHAT: &'static str = "boot record of zipl";

    /// Reads block 0. A partition table behind the record is none of its business.
    ///
    /// # Errors
    /// If there is no record.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        magic(Self::WHAT, bytes)?;
        let version: u32 = get(bytes, 4);
        if version != VERSION {
            return Err(Error::Version { what: Self::WHAT, found: version, supported: VERSION });
        }
        let programs = BlockPtr::parse(Self::WHAT, bytes, 16)?;
        Ok(Self { programs: programs.ok_or(missing(Self::WHAT, "program table"))? })
    }

    /// Block 0, with the signature of a boot record at its end and room for four partitions before it.
    pub fn encode(&self) -> Block {
        let mut out = [0; BLOCK_SIZE];
        out[..4].copy_from_slice(MAGIC);
        put(&mut out, 4, &VERSION);
        self.programs.put(&mut out, 16);
        out[BLOCK_SIZE - 2..].copy_from_slice(&[0x55, 0xaa]);
        out
    }
}

/// Where each program's component table is. Number 0 is the default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProgramTable {
    /// By number; a number may be free.
    pub programs: Vec<Option<BlockPtr>>,
}

impl ProgramTable {
    const WHAT: &'static str = "program table of zipl";

    /// Reads the table.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        magic(Self::WHAT, bytes)?;
        let mut programs = (0..MAX_PROGRAMS)
            .map(|number| BlockPtr::parse(Self::WHAT, bytes, TABLE_START + number * POINTER_SIZE))
            .collect::<Result<Vec<_>, _>>()?;
        let used = programs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        programs.truncate(used);
        Ok(Self { programs })
    }

    /// The block; programs beyond [`MAX_PROGRAMS`] have no room.
    pub fn encode(&self) -> Block {
        let mut out = [0; BLOCK_SIZE];
        out[..4].copy_from_slice(MAGIC);
        for (number, program) in self.programs.iter().enumerate().take(MAX_PROGRAMS) {
            if let Some(program) = program {
                program.put(&mut out, TABLE_START + number * POINTER_SIZE);
            }
        }
        out
    }
}

/// What a program consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentTable {
    /// 0: a program; 1: a dumper.
    pub kind: u8,
    /// In order; the last is the one to execute.
    pub components: Vec<Component>,
}

/// A component of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// Blocks for memory.
    Load {
        /// The first block of the list of segments.
        segments: BlockPtr,
        /// Where in memory.
        address: u64,
    },
    /// A signature of the component before, for loaders that check them.
    Signature {
        /// The first block of the list of segments.
        segments: BlockPtr,
        /// Format and length.
        data: u64,
    },
    /// The short PSW to begin with.
    Execute {
        /// As it is loaded.
        psw: u64,
    },
}

/// Type of a component.
mod kind {
    pub(super) const EXECUTE: u8 = 1;
    pub(super) const LOAD: u8 = 2;
    pub(super) const SIGNATURE: u8 = 3;
}

impl Component {
    /// The component that begins at an address below 2 GiB.
    pub fn execute(address: u64) -> Self {
        Self::Execute { psw: PSW_LOAD | address & PSW_ADDRESS }
    }
}

impl ComponentTable {
    const WHAT: &'static str = "component table of zipl";

    /// Reads the table, as far as the component to execute.
    ///
    /// # Errors
    /// If it is none, or has nothing to execute.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        magic(Self::WHAT, bytes)?;
        let mut components = Vec::new();
        for index in 0..MAX_COMPONENTS {
            let at = COMPONENTS_START + index * COMPONENT_SIZE;
            let pointer = || {
                let pointer = BlockPtr::parse(Self::WHAT, bytes, at)?;
                pointer.ok_or(missing(Self::WHAT, "list of segments"))
            };
            let value: u64 = get(bytes, at + 24);
            let found: u8 = get(bytes, at + 23);
            components.push(match found {
                kind::LOAD => Component::Load { segments: pointer()?, address: value },
                kind::SIGNATURE => Component::Signature { segments: pointer()?, data: value },
                kind::EXECUTE => {
                    components.push(Component::Execute { psw: value });
                    return Ok(Self { kind: get(bytes, 4), components });
                }
                _ => {
                    let (field, rule) = ("type of a component", "it is none of 1, 2, 3");
                    return Err(Error::Field { what: Self::WHAT, field, found: found.into(), rule });
                }
            });
        }
        Err(missing(Self::WHAT, "component to execute"))
    }

    /// The block; components beyond [`MAX_COMPONENTS`] have no room.
    pub fn encode(&self) -> Block {
        let mut out = [0; BLOCK_SIZE];
        out[..4].copy_from_slice(MAGIC);
        put(&mut out, 4, &self.kind);
        for (index, component) in self.components.iter().enumerate().take(MAX_COMPONENTS) {
            let at = COMPONENTS_START + index * COMPONENT_SIZE;
            let (segments, found, value) = match *component {
                Component::Load { segments, address } => (Some(segments), kind::LOAD, address),
                Component::Signature { segments, data } => (Some(segments), kind::SIGNATURE, data),
                Component::Execute { psw } => (None, kind::EXECUTE, psw),
            };
            if let Some(segments) = segments {
                segments.put(&mut out, at);
            }
            put(&mut out, at + 23, &found);
            put(&mut out, at + 24, &value);
        }
        out
    }
}

/// One block of a list of segments.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SegmentList {
    /// The data, in order.
    pub segments: Vec<BlockPtr>,
    /// Where the list goes on.
    pub next: Option<BlockPtr>,
}

impl SegmentList {
    const WHAT: &'static str = "list of segments of zipl";

    /// Reads a block of a list.
    ///
    /// # Errors
    /// If a pointer is not possible.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        need(Self::WHAT, bytes, BLOCK_SIZE)?;
        let mut list = Self::default();
        for slot in 0..LIST_SLOTS {
            match BlockPtr::parse(Self::WHAT, bytes, slot * POINTER_SIZE)? {
                Some(segment) => list.segments.push(segment),
                None => return Ok(list),
            }
        }
        list.next = BlockPtr::parse(Self::WHAT, bytes, LIST_SLOTS * POINTER_SIZE)?;
        Ok(list)
    }

    /// The block; it goes on only if it is full.
    pub fn encode(&self) -> Block {
        let mut out = [0; BLOCK_SIZE];
        for (slot, segment) in self.segments.iter().enumerate().take(LIST_SLOTS) {
            segment.put(&mut out, slot * POINTER_SIZE);
        }
        if let Some(next) = self.next {
            next.put(&mut out, LIST_SLOTS * POINTER_SIZE);
        }
        out
    }
}

/// A program to put on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program<'a> {
    /// What is loaded, in order.
    pub parts: Vec<Part<'a>>,
    /// Where it begins.
    pub entry: u64,
}

/// Bytes and where they go in memory. The last block's rest is loaded as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// Address.
    pub address: u64,
    /// What.
    pub bytes: &'a [u8],
}

/// Programs and their map in the blocks of a disk, rising; the boot record is not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout<'a> {
    /// What block 0 says.
    pub record: BootRecord,
    /// The first block of each piece and its bytes, rising.
    pub pieces: Vec<(u64, std::borrow::Cow<'a, [u8]>)>,
    /// The first block behind everything.
    pub end: u64,
}

/// Lays programs out from block `first` on. They get the numbers 1, 2, ... and number 0 is the one of `default`.
///
/// # Errors
/// If there is no program, too many, one has too many parts or an address that a program cannot begin at.
pub fn build<'a>(programs: &[Program<'a>], default: usize, first: u64) -> Result<Layout<'a>, Error> {
    const WHAT: &str = "boot map of zipl";
    let field = |field, found: usize, rule| Error::Field { what: WHAT, field, found: found as u64, rule };
    if programs.is_empty() || programs.len() >= MAX_PROGRAMS {
        return Err(field("number of programs", programs.len(), "it must be between 1 and 30"));
    }
    if default == 0 || default > programs.len() {
        return Err(field("default program", default, "there is no program with this number"));
    }
    let first = first.max(1);
    let mut next = first + 1;
    let mut take = |blocks: u64| {
        let at = next;
        next += blocks;
        at
    };
    let mut pieces = Vec::new();
    let mut table = ProgramTable { programs: vec![None] };
    for program in programs {
        if program.parts.len() >= MAX_COMPONENTS {
            return Err(field("number of parts", program.parts.len(), "a program has at most 14"));
        }
        if program.entry > PSW_ADDRESS || program.entry & 1 != 0 {
            return Err(field("entry", program.entry as usize, "it must be even and below 2 GiB"));
        }
        let at = take(1);
        let mut components = Vec::new();
        for part in program.parts.iter().filter(|part| !part.bytes.is_empty()) {
            let blocks = part.bytes.len().div_ceil(BLOCK_SIZE) as u64;
            let start = take(blocks);
            pieces.push((start, part.bytes.into()));
            let segments: Vec<BlockPtr> = (start..start + blocks)
                .step_by(BUILD_COUNT as usize)
                .map(|block| BlockPtr {
                    block,
                    count: (start + blocks - block).min(BUILD_COUNT.into()) as u32,
                })
                .collect();
            let lists = segments.len().div_ceil(LIST_SLOTS) as u64;
            let list = take(lists);
            for (index, segments) in (1..).zip(segments.chunks(LIST_SLOTS)) {
                let next = (index < lists).then_some(BlockPtr { block: list + index, count: 1 });
                let block = SegmentList { segments: segments.to_vec(), next }.encode();
                pieces.push((list + index - 1, block.to_vec().into()));
            }
            let segments = BlockPtr { block: list, count: 1 };
            components.push(Component::Load { segments, address: part.address });
        }
        components.push(Component::execute(program.entry));
        pieces.push((at, ComponentTable { kind: 0, components }.encode().to_vec().into()));
        table.programs.push(Some(BlockPtr { block: at, count: 1 }));
    }
    table.programs[0] = table.programs[default];
    pieces.push((first, table.encode().to_vec().into()));
    pieces.sort_by_key(|(block, _)| *block);
    Ok(Layout { record: BootRecord { programs: BlockPtr { block: first, count: 1 } }, pieces, end: next })
}

/// Why a map cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A block of the map says something else.
    #[error("block {block}: {source}")]
    Format {
        /// Which.
        block: u64,
        /// What is wrong.
        source: Error,
    },
    /// The disk cannot be read.
    #[error("block {block} cannot be read: {source}")]
    Io {
        /// Which.
        block: u64,
        /// Why.
        source: std::io::Error,
    },
    /// A list of segments does not end.
    #[error("block {block}: the list of segments is too long")]
    Endless {
        /// Where it was given up.
        block: u64,
    },
}

/// A program as a map describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// Its number; 0 is the default.
    pub number: usize,
    /// What is loaded: address and blocks, in order.
    pub parts: Vec<(u64, Vec<BlockPtr>)>,
    /// The short PSW that it begins with.
    pub psw: u64,
}

/// Follows the map of a disk; `read` gets a block.
///
/// # Errors
/// If a block cannot be read or is not what the map needs there.
pub fn read(mut read: impl FnMut(u64) -> std::io::Result<Block>) -> Result<Vec<Mapped>, ReadError> {
    let mut fetch = |block| read(block).map_err(|source| ReadError::Io { block, source });
    let at = |block| move |source| ReadError::Format { block, source };
    let record = BootRecord::parse(&fetch(0)?).map_err(at(0))?;
    let table = record.programs.block;
    let table = ProgramTable::parse(&fetch(table)?).map_err(at(table))?;
    let mut programs = Vec::new();
    // All programs together: a map may name one list many times.
    let mut lists = 0;
    for (number, program) in table.programs.iter().enumerate() {
        let Some(BlockPtr { block, .. }) = *program else { continue };
        let components = ComponentTable::parse(&fetch(block)?).map_err(at(block))?.components;
        let mut mapped = Mapped { number, parts: Vec::new(), psw: 0 };
        for component in components {
            match component {
                Component::Execute { psw } => mapped.psw = psw,
                Component::Signature { .. } => {}
                Component::Load { segments, address } => {
                    let mut all = Vec::new();
                    let mut next = Some(segments);
                    while let Some(BlockPtr { block, .. }) = next {
                        lists += 1;
                        if lists > MAX_LISTS {
                            return Err(ReadError::Endless { block });
                        }
                        let list = SegmentList::parse(&fetch(block)?).map_err(at(block))?;
                        all.extend(list.segments);
                        next = list.next;
                    }
                    mapped.parts.push((address, all));
                }
            }
        }
        programs.push(mapped);
    }
    Ok(programs)
}

fn magic(what: &'static str, bytes: &[u8]) -> Result<(), Error> {
    need(what, bytes, BLOCK_SIZE)?;
    if bytes.starts_with(MAGIC) { Ok(()) } else { Err(Error::Magic { what, expected: "zIPL" }) }
}

fn missing(what: &'static str, field: &'static str) -> Error {
    Error::Field { what, field, found: 0, rule: "there is none" }
}
