//! A guest as the firmware knows it.

use std::collections::BTreeMap;

use cloister_crypto::{Entropy, Secret, Sha256};
use cloister_formats::sev::policy::Policy;
use cloister_formats::sev::status::Status;
use cloister_formats::sev::vmsa::checksum;

use crate::channel::Channel;
use crate::engine::MemoryCipher;
use crate::table::{self, GuestOp, Slot};

/// Guests by handle.
pub(crate) type Guests = BTreeMap<u32, Guest>;

/// The last handle; the first is 1.
pub(crate) const LAST_HANDLE: u32 = 1024;

pub(crate) struct Guest {
    pub(crate) state: Slot,
    pub(crate) policy: Policy,
    pub(crate) asid: Option<Asid>,
    /// What the key of its memory comes from; the same for guests that share it.
    pub(crate) seed: Secret<32>,
    pub(crate) cipher: MemoryCipher,
    /// Key of swapped pages, and how many have been sealed with it.
    pub(crate) swap_key: Secret<32>,
    pub(crate) swapped: u64,
    /// What was launched so far.
    pub(crate) running_digest: Sha256,
    /// What was launched; zero for a guest that was received.
    pub(crate) digest: [u8; 32],
    /// Transport keys, while a launch or a transport goes on.
    pub(crate) channel: Option<Channel>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asid {
    pub(crate) number: u32,
    /// Cores may not use it before the guest is complete.
    pub(crate) pending: bool,
}

impl Guest {
    /// Demands a state for a command; yields the state after it.
    pub(crate) const fn next(&self, op: GuestOp) -> Result<Slot, Status> {
        table::guest(self.state, op)
    }

    /// Demands an ASID, be it pending.
    pub(crate) fn asid(&self) -> Result<Asid, Status> {
        self.asid.ok_or(Status::INACTIVE)
    }

    pub(crate) fn is_es(&self) -> bool {
        self.policy.has(Policy::ES)
    }

    /// Demands SEV-ES of a command that concerns a VMSA.
    pub(crate) fn has_vmsas(&self) -> Result<(), Status> {
        if self.is_es() { Ok(()) } else { Err(Status::UNSUPPORTED) }
    }

    /// The launch or the transport is over: cores may run the guest, and the channel's keys are forgotten.
    pub(crate) fn complete(&mut self) {
        if let Some(asid) = &mut self.asid {
            asid.pending = false;
        }
        self.channel = None;
    }
}

/// Looks a guest up.
pub(crate) fn find(guests: &mut Guests, handle: u32) -> Result<&mut Guest, Status> {
    guests.get_mut(&handle).ok_or(Status::INVALID_GUEST)
}

/// The first free handle.
pub(crate) fn free_handle(guests: &Guests) -> Result<u32, Status> {
    (1..=LAST_HANDLE).find(|handle| !guests.contains_key(handle)).ok_or(Status::RESOURCE_LIMIT)
}

/// Draws a swap key.
pub(crate) fn swap_key(entropy: &mut dyn Entropy) -> Secret<32> {
    Secret::generate(entropy)
}

/// The blocks in the trusted memory region that keep a checksum for each VMSA.
///
/// The region's content is not in system memory: nobody but the processor could read it there.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    base: u64,
    blocks: Vec<Option<Block>>,
}

#[derive(Debug, Clone, Copy)]
struct Block {
    handle: u32,
    crc: u64,
}

/// Bytes of a block.
const BLOCK: u64 = 256;
/// Where a VMSA names its block; the eight bytes before are zero.
const BLOCK_ADDRESS: usize = 0x388;

impl Pool {
    /// DF_FLUSH makes a region usable; what is in it stays.
    pub(crate) fn begin(&mut self, base: u64, size: u64) {
        self.base = base;
        self.blocks.resize((size / BLOCK) as usize, None);
    }

    /// Whether there is room for another VMSA.
    pub(crate) fn room(&self) -> Result<usize, Status> {
        self.blocks.iter().position(Option::is_none).ok_or(Status::RESOURCE_LIMIT)
    }

    /// Ties a VMSA to the free block `index`: changes the page, then takes its checksum.
    pub(crate) fn bind(&mut self, index: usize, handle: u32, page: &mut [u8; 4096]) {
        page[BLOCK_ADDRESS - 8..BLOCK_ADDRESS].fill(0);
        let address = self.base + index as u64 * BLOCK;
        page[BLOCK_ADDRESS..BLOCK_ADDRESS + 8].copy_from_slice(&address.to_le_bytes());
        if let Some(block) = self.blocks.get_mut(index) {
            *block = Some(Block { handle, crc: checksum(page) });
        }
    }

    /// Whether a page is an unchanged VMSA of a guest.
    pub(crate) fn knows(&self, handle: u32, page: &[u8; 4096]) -> bool {
        self.block_of(page)
            .and_then(|index| self.blocks[index])
            .is_some_and(|block| block.handle == handle && block.crc == checksum(page))
    }

    /// Takes note of the new content of a VMSA that a core saved.
    pub(crate) fn saved(&mut self, handle: u32, page: &[u8; 4096]) -> bool {
        let Some(index) = self.block_of(page) else { return false };
        match &mut self.blocks[index] {
            Some(block) if block.handle == handle => {
                block.crc = checksum(page);
                true
            }
            _ => false,
        }
    }

    /// Frees the blocks of a guest.
    pub(crate) fn release(&mut self, handle: u32) {
        for block in &mut self.blocks {
            if block.is_some_and(|block| block.handle == handle) {
                *block = None;
            }
        }
    }

    fn block_of(&self, page: &[u8; 4096]) -> Option<usize> {
        let mut address = [0; 8];
        address.copy_from_slice(&page[BLOCK_ADDRESS..BLOCK_ADDRESS + 8]);
        let offset = u64::from_le_bytes(address).checked_sub(self.base)?;
        let index = usize::try_from(offset / BLOCK).ok()?;
        (offset % BLOCK == 0 && index < self.blocks.len()).then_some(index)
    }
}
