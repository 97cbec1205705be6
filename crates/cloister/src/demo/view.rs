//! What a curious host finds in a guest's memory.

use cloister_control::Machine as _;
use cloister_machines::s390_ccw::S390Ccw;
use cloister_memory_map::MemoryMap;
use cloister_platform::HostMemory;
use serde_json::{Value, json};
use std::fmt;
use vm_memory::{Bytes, GuestAddress};

/// A look at the page that holds the guest's secret.
pub(super) struct Look {
    address: u64,
    /// The page as it stands in the host's mapping, asking nobody.
    mapping: Vec<u8>,
    /// What a host gets that reads the page as a device model does.
    access: Vec<u8>,
    /// Places in the whole mapping where the secret stands, after that read.
    found_at: Vec<u64>,
    /// Who owned each page before that read.
    map: Option<MemoryMap>,
}

impl Look {
    /// Looks at the page at `address`, then through all of the host's mapping.
    pub(super) fn at(machine: &S390Ccw, address: u64) -> anyhow::Result<Self> {
        let memory = machine.memory();
        let map = machine.vm().map(MemoryMap::observe).transpose()?;
        let mut mapping = vec![0; PAGE];
        memory.peek(address, &mut mapping)?;
        let mut access = vec![0; PAGE];
        memory.read_slice(&mut access, GuestAddress(address))?;
        let mut found_at = Vec::new();
        let mut page = vec![0; PAGE];
        for start in (0..memory.size()).step_by(PAGE) {
            memory.peek(start, &mut page)?;
            let places = page.windows(SECRET.len()).enumerate().filter(|(_, bytes)| *bytes == SECRET);
            found_at.extend(places.map(|(offset, _)| start + offset as u64));
        }
        Ok(Self { address, mapping, access, found_at, map })
    }

    /// Whether the secret stands anywhere where the host can read it.
    pub(super) fn finds_secret(&self) -> bool {
        !self.found_at.is_empty() || contains(&self.mapping) || contains(&self.access)
    }

    /// Whether what the host read of the page cannot be told from random bytes.
    pub(super) fn is_noise(&self) -> bool {
        entropy(&self.access) > NOISE
    }

    /// Who owned each page.
    pub(super) fn map(&self) -> Option<&MemoryMap> {
        self.map.as_ref()
    }

    fn private(&self) -> u64 {
        self.map.as_ref().map_or(0, |map| map.counts.private)
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "address": format!("{:#x}", self.address),
            "private_pages": self.private(),
            "memory": self.map.as_ref().map(|map| map.report(RANGES)),
            "mapping": { "entropy": entropy(&self.mapping), "start": hex(&self.mapping[..SHOWN]) },
            "access": { "entropy": entropy(&self.access), "start": hex(&self.access[..SHOWN]) },
            "secret_found_at": self.found_at.iter().map(|at| format!("{at:#x}")).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "its mapping of guest page {:#x}, asking nobody:", self.address)?;
        dump(f, self.address, &self.mapping)?;
        if self.access == self.mapping {
            writeln!(f, "the same when it reads the page as a device does")?;
        } else {
            writeln!(f, "reading the page as a device does makes the Ultravisor export it, encrypted:")?;
            dump(f, self.address, &self.access)?;
        }
        write!(f, "{} private pages; the secret ", self.private())?;
        match self.found_at.first() {
            Some(at) => write!(f, "stands in the clear at {at:#x}"),
            None => write!(f, "stands nowhere in the host's mapping"),
        }
    }
}

/// Whether some bytes stand nowhere in what the host can read without asking.
pub(super) fn stands_nowhere(memory: &HostMemory, bytes: &[u8]) -> anyhow::Result<bool> {
    let mut page = vec![0; PAGE];
    for start in (0..memory.size()).step_by(PAGE) {
        memory.peek(start, &mut page)?;
        if page.windows(bytes.len()).any(|found| found == bytes) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Most ranges of memory in the JSON.
const RANGES: usize = 64;

/// A few lines as `hexdump -C` has them, and how random the whole page is.
pub(super) fn dump(f: &mut impl fmt::Write, address: u64, page: &[u8]) -> fmt::Result {
    if page.iter().all(|&byte| byte == 0) {
        return writeln!(f, "  {} zero bytes: the page is not there", page.len());
    }
    for (row, bytes) in page[..SHOWN].chunks(16).enumerate() {
        let text: String =
            bytes.iter().map(|&byte| if (0x20..0x7f).contains(&byte) { byte as char } else { '.' }).collect();
        writeln!(f, "  {:08x}  {}  |{text}|", address + row as u64 * 16, hex_spaced(bytes))?;
    }
    writeln!(f, "  entropy of the page: {:.2} bits per byte", entropy(page))
}

/// Shannon's entropy of the bytes, in bits per byte; a page of random bytes has about 7.95.
pub(super) fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    for &byte in bytes {
        counts[usize::from(byte)] += 1;
    }
    let all = bytes.len() as f64;
    let part = |count: u32| f64::from(count) / all;
    let bits = counts.iter().filter(|count| **count > 0).map(|&count| part(count) * -part(count).log2());
    bits.fold(0.0, |all, bits| all + bits.max(0.0))
}

fn contains(page: &[u8]) -> bool {
    page.windows(SECRET.len()).any(|bytes| bytes == SECRET)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex_spaced(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

const PAGE: usize = 4096;
/// Bytes that are shown of a page: the secret is in them.
const SHOWN: usize = 48;
/// The marker that the guest builds in its private page (`guests/s390x/demo.s`); its image holds it masked.
const SECRET: &[u8] = b"CLOISTER-GUEST-SECRET-s390x-0001";
/// Bits per byte: 4096 random bytes stay below this once in far more than a lifetime.
const NOISE: f64 = 7.9;
