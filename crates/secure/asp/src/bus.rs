//! Addresses in command buffers, and what may stand behind them.

use std::ops::Range;

use cloister_formats::sev::certificate::Certificate;
use cloister_formats::sev::status::Status;

use crate::memory::SystemMemory;

/// System memory during one command.
pub(crate) struct Bus<'a> {
    memory: &'a dyn SystemMemory,
    c_bit: u64,
    tmr: Option<Range<u64>>,
}

impl<'a> Bus<'a> {
    pub(crate) const fn new(memory: &'a dyn SystemMemory, c_bit: u8, tmr: Option<Range<u64>>) -> Self {
        Self { memory, c_bit: 1u64.unbounded_shl(c_bit as u32), tmr }
    }

    /// The memory that a host names. Whether it sets the C-bit does not matter: each command knows which accesses are
    /// encrypted.
    pub(crate) fn range(&self, paddr: u64, len: u64) -> Result<Range<u64>, Status> {
        let start = paddr & !self.c_bit;
        let range = start..start.checked_add(len).ok_or(Status::INVALID_ADDRESS)?;
        let in_tmr = self.tmr.as_ref().is_some_and(|tmr| overlap(tmr, &range));
        if in_tmr || !self.memory.exists(range.clone()) { Err(Status::INVALID_ADDRESS) } else { Ok(range) }
    }

    pub(crate) fn read(&self, paddr: u64, len: usize) -> Result<Vec<u8>, Status> {
        let mut out = vec![0; len];
        self.read_into(paddr, &mut out)?;
        Ok(out)
    }

    pub(crate) fn read_into(&self, paddr: u64, out: &mut [u8]) -> Result<(), Status> {
        let range = self.range(paddr, out.len() as u64)?;
        self.memory.read(range.start, out).map_err(|_| Status::INVALID_ADDRESS)
    }

    pub(crate) fn write(&self, paddr: u64, bytes: &[u8]) -> Result<(), Status> {
        let range = self.range(paddr, bytes.len() as u64)?;
        self.memory.write(range.start, bytes).map_err(|_| Status::INVALID_ADDRESS)
    }

    pub(crate) fn transform(
        &self,
        range: Range<u64>,
        change: &mut dyn FnMut(u64, &mut [u8]),
    ) -> Result<(), Status> {
        self.memory.transform(range, change).map_err(|_| Status::INVALID_ADDRESS)
    }

    pub(crate) fn certificate(&self, paddr: u64) -> Result<Certificate, Status> {
        let bytes = self.read(paddr, Certificate::SIZE)?;
        Certificate::parse(&bytes).map_err(|_| Status::INVALID_CERTIFICATE)
    }
}

/// Whether two ranges have a byte in common.
pub(crate) const fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end && a.start < a.end && b.start < b.end
}

/// Demands a multiple of a power of two.
pub(crate) const fn aligned(paddr: u64, to: u64) -> Result<(), Status> {
    if paddr.is_multiple_of(to) { Ok(()) } else { Err(Status::INVALID_ADDRESS) }
}

/// Fails with a status unless a condition holds.
pub(crate) const fn demand(condition: bool, or: Status) -> Result<(), Status> {
    if condition { Ok(()) } else { Err(or) }
}
