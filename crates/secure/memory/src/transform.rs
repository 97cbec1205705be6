//! The two kinds of transformation between what the host sees and what the guest computes on.
//!
//! They are interfaces only; keys and algorithms live with the mechanisms.

use crate::PageBytes;

/// A cipher of memory (AMD SEV): total, deterministic, length-preserving, in place.
///
/// The tweak comes from the offset in the backing store and never from a guest address, because one byte of
/// store can be visible at several guest addresses.
pub trait PageCipher {
    /// Encrypts whole 16-byte blocks that lie at `offset` in the backing store.
    fn encrypt(&self, offset: u64, data: &mut [u8]);
    /// Decrypts whole 16-byte blocks that lie at `offset` in the backing store.
    fn decrypt(&self, offset: u64, data: &mut [u8]);
}

/// An export format for pages (IBM Z, POWER): yields metadata, and the way back may fail.
pub trait PageExport {
    /// What has to be kept to import the page again: counter, authentication tag.
    type Metadata;
    /// Why an export or import was refused.
    type Error;
    /// Turns the plain content of `page` into what the host gets.
    fn export(
        &self,
        page: u64,
        plain: &PageBytes,
        out: &mut PageBytes,
    ) -> Result<Self::Metadata, Self::Error>;
    /// Verifies what the host gives back and turns it into the plain content of `page`.
    fn import(
        &self,
        page: u64,
        metadata: &Self::Metadata,
        bytes: &PageBytes,
        plain: &mut PageBytes,
    ) -> Result<(), Self::Error>;
}
