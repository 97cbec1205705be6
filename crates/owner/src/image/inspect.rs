//! Reading an image or a bare header, for people and for scripts.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use cloister_crypto::{Secret, Sha512};
use cloister_formats::s390x::PAGE_SIZE;
use cloister_formats::s390x::ipl_block::{IplBlock, IplKind, PvComponent};
use cloister_formats::s390x::se_header::{Pcf, Scf, SeHeader, SecretArea};
use cloister_formats::s390x::se_image::{METADATA_ADDR, Metadata, TweakPref, find_header};

use super::header::open_header;
use crate::files;
use crate::host_key::Document;
use crate::{ImageError, OwnerError};

/// What an image or a header says.
#[derive(Debug)]
pub struct Inspection {
    /// Where it comes from.
    pub name: String,
    /// Where the header stands in it; 0 in a bare header.
    pub header_offset: u64,
    /// The header.
    pub header: SeHeader,
    /// The components, if there is an image around the header and it is whole.
    pub components: Vec<PvComponent>,
    /// Whether the header's digests are those of the components.
    pub digests: Option<DigestCheck>,
    /// The sealed area, if the header's key was given: proof too that no bit of the header was
    /// altered.
    pub opened: Option<Opened>,
}

/// Whether the three digests and the page count of a header are those of the image around it: the
/// checks that the Ultravisor makes when it unpacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestCheck {
    /// The page list digest.
    pub pld: bool,
    /// The address list digest.
    pub ald: bool,
    /// The tweak list digest.
    pub tld: bool,
    /// The number of pages.
    pub pages: bool,
}

impl DigestCheck {
    /// Whether all fit.
    pub fn good(&self) -> bool {
        self.pld && self.ald && self.tld && self.pages
    }
}

/// The sealed area of a header in the clear. Printing it never shows its keys.
#[derive(Debug)]
pub struct Opened(SecretArea);

impl Opened {
    /// Mask and address of the PSW that starts the guest.
    pub fn psw(&self) -> (u64, u64) {
        (self.0.psw_mask, self.0.psw_addr)
    }

    /// Secret control flags.
    pub fn scf(&self) -> Scf {
        Scf(self.0.scf)
    }

    /// The keys, customer communication key and component key: for `--show-secrets` only.
    pub fn expose_secrets(&self) -> (&[u8; 32], &[u8; 64]) {
        (&self.0.cck, &self.0.xts_key)
    }
}

/// Whether one host key can open an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKeyPresence {
    /// The host-key document.
    pub document: String,
    /// The hash of its key.
    pub phkh: [u8; 32],
    /// Whether the image has a slot for it.
    pub present: bool,
}

/// Inspects an image or bare-header file; with the file of the header's key, opens the header.
pub fn inspect(file: &Path, header_key: Option<&Path>) -> Result<Inspection, OwnerError> {
    let key = match header_key {
        None => None,
        Some(path) => Some(
            Secret::from_slice(&zeroize::Zeroizing::new(files::read_small(path)?))
                .ok_or_else(|| ImageError::KeySize { file: path.into(), need: 32 })?,
        ),
    };
    let mut reader = File::open(file).map_err(files::io("open", file))?;
    let name = file.display().to_string();
    Inspector { name, error: &files_error(file) }.run(&mut reader, key.as_ref())
}

/// Inspects an image or a bare header in memory.
pub fn inspect_bytes(
    name: &str,
    bytes: &[u8],
    header_key: Option<&Secret<32>>,
) -> Result<Inspection, OwnerError> {
    let error = files_error(Path::new(name));
    Inspector { name: name.into(), error: &error }.run(&mut std::io::Cursor::new(bytes), header_key)
}

/// The header of an image or bare-header file, without a look at the components.
pub(crate) fn header(file: &Path) -> Result<SeHeader, OwnerError> {
    let mut reader = File::open(file).map_err(files::io("open", file))?;
    let inspector = Inspector { name: file.display().to_string(), error: &files_error(file) };
    Ok(inspector.header(&mut reader)?.2)
}

/// Answers for each host-key document whether the image names its key.
pub fn test(file: &Path, documents: &[Document]) -> Result<Vec<HostKeyPresence>, OwnerError> {
    let inspection = inspect(file, None)?;
    Ok(documents.iter().map(|document| inspection.presence(document)).collect())
}

impl Inspection {
    /// Whether one of the slots is for the key with this hash.
    pub fn names_host_key(&self, phkh: &[u8; 32]) -> bool {
        self.header.slots.iter().any(|slot| slot.phkh.0 == *phkh)
    }

    fn presence(&self, document: &Document) -> HostKeyPresence {
        let phkh = document.phkh();
        HostKeyPresence { document: document.name().into(), phkh, present: self.names_host_key(&phkh) }
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = &self.header;
        writeln!(
            f,
            "{}: SE header version 0x100 of {} bytes at {:#x}",
            self.name,
            header.size(),
            self.header_offset
        )?;
        for slot in &header.slots {
            writeln!(f, "  host key hash       {}", slot.phkh)?;
        }
        writeln!(f, "  encrypted pages     {}", header.encrypted_pages)?;
        writeln!(f, "  plaintext flags     {:#018x}{}", header.pcf.0, names(header.pcf.0, &PCF_NAMES))?;
        writeln!(f, "  page list digest    {}", hex(&header.pld))?;
        writeln!(f, "  address list digest {}", hex(&header.ald))?;
        writeln!(f, "  tweak list digest   {}", hex(&header.tld))?;
        write!(f, "  tag                 {}", hex(&header.tag))?;
        for component in &self.components {
            let kind = component.tweak_pref.kind().name();
            write!(
                f,
                "\n  component           {kind}: {:#x} bytes at {:#x}",
                component.size, component.addr
            )?;
        }
        if let Some(check) = &self.digests {
            let verdict = |good: bool| if good { "fits" } else { "DOES NOT FIT" };
            write!(
                f,
                "\n  components against the header: pages {}, addresses {}, tweaks {}, page count {}",
                verdict(check.pld),
                verdict(check.ald),
                verdict(check.tld),
                verdict(check.pages)
            )?;
        }
        if let Some(opened) = &self.opened {
            let (mask, addr) = opened.psw();
            let scf = opened.scf().0;
            write!(f, "\n  header authentic    yes")?;
            write!(f, "\n  start PSW           {mask:#018x} {addr:#018x}")?;
            write!(f, "\n  secret flags        {scf:#018x}{}", names(scf, &SCF_NAMES))?;
        }
        Ok(())
    }
}

struct Inspector<'a> {
    name: String,
    error: &'a dyn Fn(std::io::Error) -> OwnerError,
}

impl Inspector<'_> {
    fn run<R: Read + Seek>(self, reader: &mut R, key: Option<&Secret<32>>) -> Result<Inspection, OwnerError> {
        let size = reader.seek(SeekFrom::End(0)).map_err(self.error)?;
        let (head, offset, header) = self.header(reader)?;
        let components = match head.get(METADATA_ADDR as usize..).map(Metadata::parse) {
            Some(Ok(metadata)) if offset > 0 => self.components(reader, &metadata)?,
            Some(_) | None => Vec::new(),
        };
        let fits = |part: &PvComponent| {
            let padded = part.size.checked_next_multiple_of(PAGE_SIZE as u64);
            padded.and_then(|padded| part.addr.checked_add(padded)).is_some_and(|end| end <= size)
        };
        let whole = components.iter().all(fits);
        let digests = match components.is_empty() || !whole {
            true => None,
            false => Some(self.check(reader, &header, &components)?),
        };
        let opened = key.map(|key| open_header(&header, key).map(Opened)).transpose()?;
        Ok(Inspection { name: self.name, header_offset: offset as u64, header, components, digests, opened })
    }

    /// The first part of the input, where the header stands in it, and the header.
    fn header<R: Read + Seek>(&self, reader: &mut R) -> Result<(Vec<u8>, usize, SeHeader), OwnerError> {
        let head = self.read(reader, 0, HEAD)?;
        let offset = find_header(&head).ok_or_else(|| ImageError::NotAnImage {
            name: self.name.clone(),
            reason: "no header at its start, none where image metadata would say, and no mark IBMSecEx from 0x14000 on".into(),
        })?;
        let bad = |error: &dyn fmt::Display| ImageError::NotAnImage {
            name: self.name.clone(),
            reason: error.to_string(),
        };
        let length = SeHeader::peek_size(&head[offset..]).map_err(|error| bad(&error))?;
        let bytes = self.read(reader, offset as u64, length)?;
        let header = SeHeader::parse(&bytes).map_err(|error| bad(&error))?;
        Ok((head, offset, header))
    }

    fn components<R: Read + Seek>(
        &self,
        reader: &mut R,
        metadata: &Metadata,
    ) -> Result<Vec<PvComponent>, OwnerError> {
        let bytes = self.read(reader, metadata.ipib_offset, PAGE_SIZE)?;
        match IplBlock::parse(&bytes).map_err(ImageError::format)?.kind {
            IplKind::Pv(block) => Ok(block.components),
            _ => {
                Err(ImageError::Format("its IPL parameter block is not one of a protected guest".into())
                    .into())
            }
        }
    }

    fn check<R: Read + Seek>(
        &self,
        reader: &mut R,
        header: &SeHeader,
        components: &[PvComponent],
    ) -> Result<DigestCheck, OwnerError> {
        let (mut pld, mut ald, mut tld) = (Sha512::new(), Sha512::new(), Sha512::new());
        let mut pages = 0u64;
        let mut page = [0u8; PAGE_SIZE];
        for component in components {
            reader.seek(SeekFrom::Start(component.addr)).map_err(self.error)?;
            let mut buffered = std::io::BufReader::with_capacity(64 * PAGE_SIZE, &mut *reader);
            let mut offset = 0;
            while offset < component.size {
                buffered.read_exact(&mut page).map_err(self.error)?;
                pld.update(&page);
                ald.update(&(component.addr + offset).to_be_bytes());
                tld.update(&TweakPref::page_tweak(component.tweak_pref, offset));
                offset += PAGE_SIZE as u64;
                pages += 1;
            }
        }
        Ok(DigestCheck {
            pld: pld.finish() == header.pld,
            ald: ald.finish() == header.ald,
            tld: tld.finish() == header.tld,
            pages: pages == header.encrypted_pages,
        })
    }

    /// Up to `length` bytes at `at`; fewer where the input ends.
    fn read<R: Read + Seek>(&self, reader: &mut R, at: u64, length: usize) -> Result<Vec<u8>, OwnerError> {
        reader.seek(SeekFrom::Start(at)).map_err(self.error)?;
        let mut bytes = Vec::new();
        reader.take(length as u64).read_to_end(&mut bytes).map_err(self.error)?;
        Ok(bytes)
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn names(value: u64, table: &[(u64, &str)]) -> String {
    let found: Vec<_> = table.iter().filter(|(flag, _)| value & flag != 0).map(|(_, name)| *name).collect();
    if found.is_empty() { String::new() } else { format!(" ({})", found.join(", ")) }
}

fn files_error(file: &Path) -> impl Fn(std::io::Error) -> OwnerError {
    move |error| files::io("read", file)(error)
}

const PCF_NAMES: [(u64, &str); 7] = [
    (Pcf::ALLOW_DUMP.0, "dump allowed"),
    (Pcf::NO_COMPONENT_ENCRYPTION.0, "components not encrypted"),
    (Pcf::PCKMO_DEA.0, "PCKMO DEA"),
    (Pcf::PCKMO_AES.0, "PCKMO AES"),
    (Pcf::PCKMO_ECC.0, "PCKMO ECC"),
    (Pcf::PCKMO_HMAC.0, "PCKMO HMAC"),
    (Pcf::BACKUP_KEYS.0, "backup host keys"),
];
const SCF_NAMES: [(u64, &str); 2] = [
    (Scf::CCK_EXTENSION_SECRET.0, "CCK extension secret enforced"),
    (Scf::CCK_UPDATE.0, "CCK update allowed"),
];
/// Headers stand near the start: loaders, metadata and a margin for readers of unusual images.
const HEAD: usize = 1 << 20;
