//! Reading a core's headers and notes. Nothing of it can be believed: it comes from whoever had the file.

use crate::notes::{CORE, LINUX, NT_PRSTATUS, NT_S390_PV_CPU_DATA};
use object::elf::{EM_S390, ET_CORE, FileHeader64, PT_LOAD, PT_NOTE};
use object::endian::BigEndian;
use object::read::ReadRef;
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};

/// A core's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Core {
    /// Notes, in order.
    pub notes: Vec<Note>,
    /// Memory, in order.
    pub loads: Vec<Load>,
    /// Sections with names.
    pub sections: Vec<Section>,
}

/// A note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Its owner, without the final zero.
    pub owner: Vec<u8>,
    /// Its type.
    pub kind: u32,
    /// Its content.
    pub data: Vec<u8>,
}

/// A range of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Guest absolute address.
    pub address: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes, in the file and in memory.
    pub size: u64,
}

/// A section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// Why a file is no core of an s390x guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoreError {
    /// It is not an ELF core of this kind.
    #[error("not an ELF core of a 64-bit s390x guest: {0}")]
    Kind(String),
    /// A part does not fit the file or the format.
    #[error("the ELF core is damaged: {0}")]
    Damaged(String),
}

impl Core {
    /// Reads the tables; `file` is asked for headers, notes and names only.
    ///
    /// # Errors
    /// If it is no core, or if a table does not fit into the file.
    pub fn read<'data, R: ReadRef<'data>>(file: R) -> Result<Self, CoreError> {
        let kind = |why: object::read::Error| CoreError::Kind(why.to_string());
        let damaged = |why: object::read::Error| CoreError::Damaged(why.to_string());
        let header = FileHeader64::<BigEndian>::parse(file).map_err(kind)?;
        let endian = header.endian().map_err(kind)?;
        if header.e_type(endian) != ET_CORE || header.e_machine(endian) != EM_S390 {
            let text = format!("type {}, machine {}", header.e_type(endian), header.e_machine(endian));
            return Err(CoreError::Kind(text));
        }
        let length = file.len().map_err(|()| CoreError::Damaged("its size cannot be read".into()))?;
        let fits = |offset: u64, size: u64| offset.checked_add(size).is_some_and(|end| end <= length);
        let mut core = Self::default();
        for program in header.program_headers(endian, file).map_err(damaged)? {
            let (offset, size) = program.file_range(endian);
            match program.p_type(endian) {
                PT_LOAD => {
                    let address = program.p_paddr(endian);
                    if !fits(offset, size)
                        || size != program.p_memsz(endian)
                        || address.checked_add(size).is_none()
                    {
                        return Err(CoreError::Damaged(format!("memory at {address:#x} is not in the file")));
                    }
                    core.loads.push(Load { address, offset, size });
                }
                PT_NOTE => {
                    if size > MAX_NOTES || !fits(offset, size) {
                        return Err(CoreError::Damaged(format!("{size:#x} bytes of notes")));
                    }
                    let bytes = file.read_bytes_at(offset, size);
                    let bytes = bytes.map_err(|()| CoreError::Damaged("the notes cannot be read".into()))?;
                    read_notes(bytes, &mut core.notes)?;
                }
                _ => {}
            }
        }
        let sections = header.sections(endian, file).map_err(damaged)?;
        for section in sections.iter() {
            let name = sections.section_name(endian, section).map_err(damaged)?;
            if let Some((offset, size)) = section.file_range(endian)
                && !name.is_empty()
            {
                if !fits(offset, size) {
                    let name = String::from_utf8_lossy(name);
                    return Err(CoreError::Damaged(format!("section {name} is not in the file")));
                }
                core.sections.push(Section { name: String::from_utf8_lossy(name).into(), offset, size });
            }
        }
        Ok(core)
    }

    /// The section with this name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// How many CPUs the core has.
    pub fn cpus(&self) -> usize {
        self.notes.iter().filter(|note| note.is(CORE, NT_PRSTATUS)).count()
    }

    /// The data of protected CPUs, for their guest's owner, in order.
    pub fn protected_cpus(&self) -> impl Iterator<Item = &[u8]> {
        self.notes.iter().filter(|note| note.is(LINUX, NT_S390_PV_CPU_DATA)).map(|note| &*note.data)
    }
}

impl Note {
    fn is(&self, owner: &[u8], kind: u32) -> bool {
        self.kind == kind && owner.strip_suffix(b"\0") == Some(&self.owner)
    }
}

fn read_notes(mut bytes: &[u8], into: &mut Vec<Note>) -> Result<(), CoreError> {
    let short = || CoreError::Damaged("a note is cut off".into());
    while !bytes.is_empty() {
        let [owner_len, len, kind] = {
            let mut words = [0; 3];
            for word in &mut words {
                let (first, rest) = bytes.split_first_chunk().ok_or_else(short)?;
                *word = u32::from_be_bytes(*first);
                bytes = rest;
            }
            words
        };
        let mut take = |len: u32| {
            let len = len as usize;
            let (part, _) = bytes.split_at_checked(len)?;
            // The last one need not be padded.
            bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
            Some(part.to_vec())
        };
        let mut owner = take(owner_len).ok_or_else(short)?;
        let data = take(len).ok_or_else(short)?;
        if owner.last() == Some(&0) {
            owner.pop();
        }
        into.push(Note { owner, kind, data });
    }
    Ok(())
}

/// Most bytes of notes: room for more CPUs than any guest has.
const MAX_NOTES: u64 = 16 << 20;
