//! What the Ultravisor asks of guest storage.

use std::convert::Infallible;

use cloister_formats::s390x::dump::CpuArea;
use cloister_memory::{Error, Shootdown, Storage};

/// The content of a page.
pub type PageBytes = [u8; 4096];

/// One guest's storage, as far as the Ultravisor uses it. Pages are counted from 0.
///
/// The implementation keeps the order of a conversion: translations are flushed first, the copy that is no
/// longer authoritative is scrubbed, and the transformation works on copies, so that a host cannot change
/// bytes between check and use. A failed call has changed nothing.
pub trait SecureStorage {
    /// Number of pages.
    fn pages(&self) -> u64;
    /// A page that the host sees becomes private with all bytes zero.
    fn clear_plain(&self, page: u64) -> Result<(), StorageError>;
    /// A page that the host sees becomes private with what `transform` makes of it; false refuses.
    fn import(
        &self,
        page: u64,
        transform: &mut dyn FnMut(&PageBytes, &mut PageBytes) -> bool,
    ) -> Result<(), StorageError>;
    /// A private page becomes what `transform` makes of it for the host; false refuses.
    fn export(
        &self,
        page: u64,
        transform: &mut dyn FnMut(&PageBytes, &mut PageBytes) -> bool,
    ) -> Result<(), StorageError>;
    /// A private page becomes visible to the host as it is.
    fn share(&self, page: u64) -> Result<(), StorageError>;
    /// A page that the host sees becomes private as it is.
    fn unshare(&self, page: u64) -> Result<(), StorageError>;
    /// A page in any state becomes visible to the host with all bytes zero.
    fn destroy(&self, page: u64) -> Result<(), StorageError>;
    /// Holds a page in the host's reach.
    fn pin(&self, page: u64) -> Result<(), StorageError>;
    /// Takes a pin away.
    fn unpin(&self, page: u64) -> Result<(), StorageError>;
    /// Called while waiting for another conversion of the same page: the caller goes on acknowledging
    /// flushes here.
    fn pause(&self);
}

/// Finds the storage that a configuration was created with.
pub trait StorageResolver {
    /// The storage with this token, if it still exists.
    fn storage(&self, token: u64) -> Option<&dyn SecureStorage>;

    /// The registers of the CPU with this number, for a dump; `None` while it executes, or if there are none.
    fn registers(&self, cpu: u16) -> Option<CpuArea> {
        let _ = cpu;
        None
    }
}

/// Why storage refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// There is no such page.
    #[error("the page is not in the guest's storage")]
    OutOfRange,
    /// The page is not in the representation that the operation starts from.
    #[error("the page is not in the right representation")]
    Representation,
    /// The page is pinned, or has no pin to take away.
    #[error("the page's pins forbid it")]
    Pins,
    /// The transformation refused.
    #[error("the transformation refused")]
    Refused,
}

/// Guest storage together with the caller's way to make CPUs drop their translations.
pub struct StorageAccess<'a> {
    /// The storage.
    pub storage: &'a Storage,
    /// How the caller has translations flushed.
    pub shootdown: &'a dyn Shootdown,
}

impl StorageAccess<'_> {
    const fn code<E>(error: &Error<E>) -> StorageError {
        match error {
            Error::Representation { .. } => StorageError::Representation,
            Error::Pins { .. } => StorageError::Pins,
            Error::Refused { .. } => StorageError::Refused,
            Error::OutOfRange { .. }
            | Error::Size { .. }
            | Error::Reserve { .. }
            | Error::Alignment { .. } => StorageError::OutOfRange,
        }
    }

    fn done(result: Result<(), Error<Infallible>>) -> Result<(), StorageError> {
        result.map_err(|error| Self::code(&error))
    }
}

impl SecureStorage for StorageAccess<'_> {
    fn pages(&self) -> u64 {
        self.storage.pages()
    }

    fn clear_plain(&self, page: u64) -> Result<(), StorageError> {
        Self::done(self.storage.clear_plain(page, self.shootdown))
    }

    fn import(
        &self,
        page: u64,
        transform: &mut dyn FnMut(&PageBytes, &mut PageBytes) -> bool,
    ) -> Result<(), StorageError> {
        self.storage
            .make_plain_with(page, self.shootdown, |raw, plain| transform(raw, plain).then_some(()).ok_or(()))
            .map_err(|error| Self::code(&error))
    }

    fn export(
        &self,
        page: u64,
        transform: &mut dyn FnMut(&PageBytes, &mut PageBytes) -> bool,
    ) -> Result<(), StorageError> {
        self.storage
            .make_raw_with(page, self.shootdown, |plain, raw| transform(plain, raw).then_some(()).ok_or(()))
            .map_err(|error| Self::code(&error))
    }

    fn share(&self, page: u64) -> Result<(), StorageError> {
        Self::done(self.storage.share(page, self.shootdown))
    }

    fn unshare(&self, page: u64) -> Result<(), StorageError> {
        Self::done(self.storage.unshare(page, self.shootdown))
    }

    fn destroy(&self, page: u64) -> Result<(), StorageError> {
        Self::done(self.storage.destroy(page, self.shootdown))
    }

    fn pin(&self, page: u64) -> Result<(), StorageError> {
        Self::done(self.storage.pin(page, self.shootdown))
    }

    fn unpin(&self, page: u64) -> Result<(), StorageError> {
        Self::done(self.storage.unpin(page, self.shootdown))
    }

    fn pause(&self) {
        self.shootdown.pause();
    }
}
