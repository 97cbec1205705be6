//! The guest's storage as an Ultravisor call of the guest reaches it.
//!
//! A control block may point at further storage: requests, buffers, lists. Those addresses mean what the same
//! addresses mean to the instruction (Linux hands over kernel pointers, see `drivers/s390/char/uvdevice.c`), so
//! the core resolves them, and the Ultravisor asks through [`CallerStorage`]. The host takes no part in it but
//! for a page that has to be imported first.

use crate::refusal::Stop;

/// What a calling CPU can reach.
///
/// A call first reads and probes, then changes state, then stores: whenever an access fails with
/// [`AccessFailure::Again`] nothing has happened that a second execution would not repeat.
pub trait CallerStorage {
    /// Fetches.
    ///
    /// # Errors
    /// If it is not accessible.
    fn read(&mut self, address: u64, to: &mut [u8]) -> Result<(), AccessFailure>;
    /// Finds out whether a store would succeed.
    ///
    /// # Errors
    /// If it would not.
    fn probe_write(&mut self, address: u64, len: usize) -> Result<(), AccessFailure>;
    /// Stores, or nothing of it.
    ///
    /// # Errors
    /// If it is not accessible.
    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), AccessFailure>;
    /// Makes sure that the control block can be stored now, so that a change is not made twice.
    ///
    /// # Errors
    /// [`AccessFailure::Again`] if it cannot.
    fn settle(&mut self) -> Result<(), AccessFailure>;
}

/// No storage at all: every address is invalid.
#[derive(Debug, Clone, Copy)]
pub struct NoCallerStorage;

impl CallerStorage for NoCallerStorage {
    fn read(&mut self, _: u64, _: &mut [u8]) -> Result<(), AccessFailure> {
        Err(AccessFailure::Invalid)
    }

    fn probe_write(&mut self, _: u64, _: usize) -> Result<(), AccessFailure> {
        Err(AccessFailure::Invalid)
    }

    fn write(&mut self, _: u64, _: &[u8]) -> Result<(), AccessFailure> {
        Err(AccessFailure::Invalid)
    }

    fn settle(&mut self) -> Result<(), AccessFailure> {
        Ok(())
    }
}

/// Why an access failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessFailure {
    /// The guest's address is not valid for the access.
    #[error("the address is not valid")]
    Invalid,
    /// The page has to be imported first; the instruction is executed again.
    #[error("the page is not there yet")]
    Again,
}

impl AccessFailure {
    /// The refusal of a call: `rc` for an address that is not valid.
    pub(crate) fn stop(self, rc: u16, address: u64) -> Stop {
        match self {
            Self::Invalid => {
                Stop::because(rc, 0, format!("Address {address:#x} is not valid for this access"))
            }
            Self::Again => Stop::Again,
        }
    }
}
