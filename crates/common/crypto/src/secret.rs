//! Key bytes that are cleared when dropped and never printed.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::locked::Locked;

/// `N` secret bytes: zeroized on drop, printed as `Secret(..)`, compared in constant time, in memory that is not
/// swapped if the system allows it.
#[derive(Clone)]
pub struct Secret<const N: usize>(Locked<Zeroizing<[u8; N]>>);

impl<const N: usize> Secret<N> {
    /// Takes over `bytes`; the caller's copy is the caller's concern.
    pub fn new(bytes: [u8; N]) -> Self {
        let mut secret = Self::default();
        secret.expose_mut().copy_from_slice(&bytes);
        secret
    }

    /// Draws a fresh secret.
    pub fn generate(entropy: &mut dyn crate::Entropy) -> Self {
        let mut secret = Self::default();
        entropy.fill(secret.expose_mut());
        secret
    }

    /// Copies a slice of exactly `N` bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; N] = bytes.try_into().ok()?;
        let mut secret = Self::default();
        secret.expose_mut().copy_from_slice(bytes);
        Some(secret)
    }

    /// The bytes themselves. The name is long so that a reader sees each use.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// The bytes for writing, for example as the target of a decryption.
    pub fn expose_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }
}

impl<const N: usize> Default for Secret<N> {
    fn default() -> Self {
        Self(Locked::new(Zeroizing::new([0; N])))
    }
}

impl<const N: usize> Zeroize for Secret<N> {
    fn zeroize(&mut self) {
        self.expose_mut().zeroize();
    }
}

impl<const N: usize> ZeroizeOnDrop for Secret<N> {}

impl<const N: usize> From<[u8; N]> for Secret<N> {
    fn from(bytes: [u8; N]) -> Self {
        Self::new(bytes)
    }
}

impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        ct_eq(self.expose(), other.expose())
    }
}

impl<const N: usize> Eq for Secret<N> {}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Compares two byte strings in time that depends on their lengths only.
pub fn ct_eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}
