//! System physical memory as the secure processor sees it.

use std::cell::RefCell;
use std::ops::Range;

/// System physical memory through an unencrypted access: what the host put there, and the ciphertext of guests.
///
/// Addresses are offsets in the backing store, without the C-bit; the tweak of the memory encryption comes from them.
/// Every range that the processor touches was asked for with [`exists`](Self::exists) first.
pub trait SystemMemory {
    /// Whether all of `range` is memory that the processor may reach.
    fn exists(&self, range: Range<u64>) -> bool;
    /// Reads bytes as they are in memory.
    ///
    /// # Errors
    /// If some of them are not there; `out` is then of no use.
    fn read(&self, paddr: u64, out: &mut [u8]) -> Result<(), NoMemory>;
    /// Writes bytes as they shall be in memory.
    ///
    /// # Errors
    /// If some of the memory is not there.
    fn write(&self, paddr: u64, bytes: &[u8]) -> Result<(), NoMemory>;
    /// Replaces bytes in place: gives `change` pieces in ascending order, each with its address, which start and end
    /// at multiples of 16 and together are `range`. No other observer sees a piece half done, and none can change it
    /// between what `change` reads and what it leaves.
    ///
    /// # Errors
    /// If some of the memory is not there; pieces before it may have been changed.
    fn transform(&self, range: Range<u64>, change: &mut dyn FnMut(u64, &mut [u8])) -> Result<(), NoMemory>;
}

/// There is no memory at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no memory at {0:#x} that the secure processor may reach")]
pub struct NoMemory(pub u64);

/// Memory in one array that starts at address 0, for tests, recordings and demonstrations without a machine.
#[derive(Debug, Default)]
pub struct FlatMemory(RefCell<Vec<u8>>);

impl FlatMemory {
    /// So many bytes of zero.
    pub fn new(size: usize) -> Self {
        Self(RefCell::new(vec![0; size]))
    }

    fn at(&self, paddr: u64, len: usize) -> Result<Range<usize>, NoMemory> {
        let end = paddr.checked_add(len as u64).ok_or(NoMemory(paddr))?;
        if end > self.0.borrow().len() as u64 {
            return Err(NoMemory(paddr));
        }
        Ok(paddr as usize..end as usize)
    }
}

impl SystemMemory for FlatMemory {
    fn exists(&self, range: Range<u64>) -> bool {
        range.start <= range.end && range.end <= self.0.borrow().len() as u64
    }

    fn read(&self, paddr: u64, out: &mut [u8]) -> Result<(), NoMemory> {
        let range = self.at(paddr, out.len())?;
        out.copy_from_slice(&self.0.borrow()[range]);
        Ok(())
    }

    fn write(&self, paddr: u64, bytes: &[u8]) -> Result<(), NoMemory> {
        let range = self.at(paddr, bytes.len())?;
        self.0.borrow_mut()[range].copy_from_slice(bytes);
        Ok(())
    }

    fn transform(&self, range: Range<u64>, change: &mut dyn FnMut(u64, &mut [u8])) -> Result<(), NoMemory> {
        let whole = self.at(range.start, range.end.saturating_sub(range.start) as usize)?;
        let mut at = range.start;
        for piece in self.0.borrow_mut()[whole].chunks_mut(PIECE) {
            change(at, piece);
            at += piece.len() as u64;
        }
        Ok(())
    }
}

/// Digest and cipher go over a piece one after the other, so it should stay in the first-level cache.
const PIECE: usize = 4096;
