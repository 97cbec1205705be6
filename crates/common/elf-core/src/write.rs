//! Writing a core front to back.

use crate::notes::CpuNotes;
use crate::read::Load;
use object::elf::{
    ELFCLASS64, ELFDATA2MSB, ELFMAG, EM_S390, ET_CORE, EV_CURRENT, FileFlags, FileHeader64, Ident, OsAbi,
    PT_LOAD, PT_NOTE, ProgramFlags, ProgramHeader64, ProgramType, SHT_NULL, SHT_PROGBITS, SHT_STRTAB,
    SectionFlags, SectionHeader64, SectionType, SymbolSection,
};
use object::endian::{BigEndian, U16, U32, U64};
use object::pod::{Pod, bytes_of};
use std::io::{self, Write};

/// What a core consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// CPUs, with their registers.
    pub cpus: Vec<CpuNotes>,
    /// Guest absolute addresses and sizes of memory; offsets do not count.
    pub loads: Vec<(u64, u64)>,
    /// Names and sizes of sections.
    pub sections: Vec<(&'static str, u64)>,
}

/// Writes a core: [`new`](Self::new) with everything known, then memory, then sections.
#[derive(Debug)]
pub struct CoreWriter<W> {
    out: W,
    /// Bytes of memory and then of sections that are still to come.
    left: u64,
    end: Vec<u8>,
}

impl<W: Write> CoreWriter<W> {
    /// Begins a core: writes headers and notes.
    ///
    /// # Errors
    /// If writing fails, or if there is more than an ELF file can count.
    pub fn new(layout: &Layout, mut out: W) -> io::Result<Self> {
        let notes: Vec<u8> = layout.cpus.iter().flat_map(CpuNotes::encode).collect();
        let places = Places::of(layout, notes.len() as u64)?;
        let mut begin = Vec::new();
        push(&mut begin, &places.header());
        push(&mut begin, &program_header(PT_NOTE, places.notes, 0, notes.len() as u64));
        for load in &places.loads {
            push(&mut begin, &program_header(PT_LOAD, load.offset, load.address, load.size));
        }
        begin.extend(notes);
        out.write_all(&begin)?;
        let left = places.strings.offset - begin.len() as u64;
        Ok(Self { out, left, end: places.end() })
    }

    /// The next bytes of memory, of all ranges in order; and after memory those of the sections.
    ///
    /// # Errors
    /// If writing fails, or if that is more than was announced.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let more = || io::Error::other("more memory or section data than was announced");
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(more)?;
        self.out.write_all(bytes)
    }

    /// Ends the core.
    ///
    /// # Errors
    /// If writing fails, or if less was written than announced.
    pub fn finish(mut self) -> io::Result<W> {
        if self.left > 0 {
            return Err(io::Error::other("less memory or section data than was announced"));
        }
        self.out.write_all(&self.end)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

struct Span {
    name: u32,
    offset: u64,
    size: u64,
}

struct Places {
    notes: u64,
    loads: Vec<Load>,
    sections: Vec<Span>,
    strings: Span,
    names: Vec<u8>,
    headers: u64,
    counts: [u16; 2],
}

impl Places {
    fn of(layout: &Layout, notes_len: u64) -> io::Result<Self> {
        let too_many = || io::Error::new(io::ErrorKind::InvalidInput, "too much for an ELF file");
        let programs = u16::try_from(layout.loads.len() + 1).map_err(|_| too_many())?;
        // A null section and the section of names come on top.
        let sections = u16::try_from(layout.sections.len() + 2).map_err(|_| too_many())?;
        let notes = FILE_HEADER + PROGRAM_HEADER * u64::from(programs);
        let mut at = notes + notes_len;
        let mut place = |size: u64| {
            let offset = at;
            at = at.checked_add(size).ok_or_else(too_many)?;
            Ok::<u64, io::Error>(offset)
        };
        let mut loads = Vec::new();
        for &(address, size) in &layout.loads {
            loads.push(Load { address, offset: place(size)?, size });
        }
        let mut names = vec![0];
        let mut name = |text: &str| {
            let at = names.len() as u32;
            names.extend(text.as_bytes());
            names.push(0);
            at
        };
        let mut spans = Vec::new();
        for &(text, size) in &layout.sections {
            spans.push(Span { name: name(text), offset: place(size)?, size });
        }
        let strings_name = name(".shstrtab");
        let size = names.len() as u64;
        let strings = Span { name: strings_name, offset: place(size)?, size };
        let padding = (strings.offset + size).next_multiple_of(8) - strings.offset - size;
        names.resize(names.len() + padding as usize, 0);
        let headers = strings.offset + names.len() as u64;
        Ok(Self { notes, loads, sections: spans, strings, names, headers, counts: [programs, sections] })
    }

    fn header(&self) -> FileHeader64<BigEndian> {
        let half = |value: u16| U16::new(BigEndian, value);
        let [programs, sections] = self.counts;
        FileHeader64 {
            e_ident: Ident {
                magic: ELFMAG,
                class: ELFCLASS64,
                data: ELFDATA2MSB,
                version: EV_CURRENT,
                os_abi: OsAbi(0),
                abi_version: 0,
                padding: [0; 7],
            },
            e_type: U16::new(BigEndian, ET_CORE),
            e_machine: U16::new(BigEndian, EM_S390),
            e_version: U32::new(BigEndian, EV_CURRENT.0.into()),
            e_entry: U64::new(BigEndian, 0),
            e_phoff: U64::new(BigEndian, FILE_HEADER),
            e_shoff: U64::new(BigEndian, self.headers),
            e_flags: U32::new(BigEndian, FileFlags(0)),
            e_ehsize: half(FILE_HEADER as u16),
            e_phentsize: half(PROGRAM_HEADER as u16),
            e_phnum: half(programs),
            e_shentsize: half(SECTION_HEADER as u16),
            e_shnum: half(sections),
            e_shstrndx: U16::new(BigEndian, SymbolSection(sections - 1)),
        }
    }

    /// Names and section headers.
    fn end(&self) -> Vec<u8> {
        let mut out = self.names.clone();
        push(&mut out, &section_header(SHT_NULL, &Span { name: 0, offset: 0, size: 0 }));
        for span in &self.sections {
            push(&mut out, &section_header(SHT_PROGBITS, span));
        }
        push(&mut out, &section_header(SHT_STRTAB, &self.strings));
        out
    }
}

fn program_header(kind: ProgramType, offset: u64, address: u64, size: u64) -> ProgramHeader64<BigEndian> {
    let long = |value| U64::new(BigEndian, value);
    ProgramHeader64 {
        p_type: U32::new(BigEndian, kind),
        p_flags: U32::new(BigEndian, ProgramFlags(0)),
        p_offset: long(offset),
        p_vaddr: long(address),
        p_paddr: long(address),
        p_filesz: long(size),
        p_memsz: long(size),
        p_align: long(0),
    }
}

fn section_header(kind: SectionType, span: &Span) -> SectionHeader64<BigEndian> {
    let (word, long) = (|value| U32::new(BigEndian, value), |value| U64::new(BigEndian, value));
    SectionHeader64 {
        sh_name: word(span.name),
        sh_type: U32::new(BigEndian, kind),
        sh_flags: U64::new(BigEndian, SectionFlags(0)),
        sh_addr: long(0),
        sh_offset: long(span.offset),
        sh_size: long(span.size),
        sh_link: word(0),
        sh_info: word(0),
        sh_addralign: long(0),
        sh_entsize: long(0),
    }
}

fn push<T: Pod>(out: &mut Vec<u8>, structure: &T) {
    out.extend(bytes_of(structure));
}

pub(crate) const FILE_HEADER: u64 = size_of::<FileHeader64<BigEndian>>() as u64;
pub(crate) const PROGRAM_HEADER: u64 = size_of::<ProgramHeader64<BigEndian>>() as u64;
pub(crate) const SECTION_HEADER: u64 = size_of::<SectionHeader64<BigEndian>>() as u64;
