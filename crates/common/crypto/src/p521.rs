//! Keys on the curve P-521 (FIPS 186-5, SP 800-186) and their Diffie-Hellman agreement.

use std::fmt;

use p521::elliptic_curve::sec1::ToSec1Point;
use zeroize::Zeroizing;

use crate::locked::Locked;
use crate::{Entropy, Error, Secret};

/// Bytes of a field element.
const FIELD: usize = 66;
/// Bytes of a coordinate in the padded form.
const PADDED: usize = 80;

/// A private P-521 key: zeroized on drop, never printed, in memory that is not swapped if the system allows it.
#[derive(Clone)]
pub struct P521Secret(Locked<p521::SecretKey>);

impl P521Secret {
    /// Draws a key: 521 random bits, again until they are in range (SP 800-56A, 5.6.1.2.2).
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        loop {
            let mut scalar = Zeroizing::new([0u8; FIELD]);
            entropy.fill(&mut scalar[..]);
            scalar[0] &= 1;
            if let Ok(key) = Self::from_scalar(&scalar) {
                return key;
            }
        }
    }

    /// The key with a given big-endian scalar.
    ///
    /// # Errors
    /// [`Error::InvalidSecretKey`] if the scalar is zero or not below the order.
    pub fn from_scalar(scalar: &[u8; FIELD]) -> Result<Self, Error> {
        p521::SecretKey::from_slice(scalar).map(Self::from).map_err(|_| Error::InvalidSecretKey)
    }

    /// The big-endian scalar.
    pub fn to_scalar(&self) -> Secret<FIELD> {
        let bytes = Zeroizing::new(<[u8; FIELD]>::from(self.0.to_bytes()));
        Secret::from(*bytes)
    }

    /// The matching public key.
    pub fn public(&self) -> P521Public {
        P521Public(self.0.public_key())
    }

    /// The shared secret Z: the x coordinate, 66 bytes big-endian (SP 800-56A, 5.7.1.2).
    pub fn ecdh_x(&self, peer: &P521Public) -> Secret<FIELD> {
        let shared = self.0.diffie_hellman(&peer.0);
        let mut z = Secret::default();
        z.expose_mut().copy_from_slice(shared.raw_secret_bytes());
        z
    }

    /// The key as the library's type, for writing key files and certificates.
    pub fn as_key(&self) -> &p521::SecretKey {
        &self.0
    }
}

impl From<p521::SecretKey> for P521Secret {
    fn from(key: p521::SecretKey) -> Self {
        Self(Locked::new(key))
    }
}

impl fmt::Debug for P521Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("P521Secret(..)")
    }
}

/// A public P-521 key: a checked point of the curve, never the point at infinity.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct P521Public(p521::PublicKey);

impl P521Public {
    /// Reads X ‖ Y, each left-padded with zeros to 80 bytes.
    ///
    /// # Errors
    /// [`Error::InvalidPublicKey`] for padding other than zero and for coordinates off the curve.
    pub fn from_padded_xy(xy: &[u8; 2 * PADDED]) -> Result<Self, Error> {
        let mut sec1 = [0u8; 1 + 2 * FIELD];
        sec1[0] = 4;
        for (coordinate, out) in xy.chunks_exact(PADDED).zip(sec1[1..].chunks_exact_mut(FIELD)) {
            let (padding, value) = coordinate.split_at(PADDED - FIELD);
            if padding.iter().any(|&byte| byte != 0) {
                return Err(Error::InvalidPublicKey);
            }
            out.copy_from_slice(value);
        }
        Self::from_sec1(&sec1)
    }

    /// Writes X ‖ Y, each left-padded with zeros to 80 bytes.
    pub fn to_padded_xy(&self) -> [u8; 2 * PADDED] {
        let mut xy = [0u8; 2 * PADDED];
        let sec1 = self.to_sec1();
        for (coordinate, value) in xy.chunks_exact_mut(PADDED).zip(sec1[1..].chunks_exact(FIELD)) {
            coordinate[PADDED - FIELD..].copy_from_slice(value);
        }
        xy
    }

    /// Reads a SEC 1 point, compressed or not.
    ///
    /// # Errors
    /// [`Error::InvalidPublicKey`] if it is none, or the point at infinity.
    pub fn from_sec1(bytes: &[u8]) -> Result<Self, Error> {
        p521::PublicKey::from_sec1_bytes(bytes).map(Self).map_err(|_| Error::InvalidPublicKey)
    }

    /// Writes the uncompressed SEC 1 point: 04 ‖ X ‖ Y.
    pub fn to_sec1(&self) -> [u8; 1 + 2 * FIELD] {
        let mut out = [0u8; 1 + 2 * FIELD];
        out.copy_from_slice(self.0.to_sec1_point(false).as_bytes());
        out
    }

    /// The key as the library's type, for certificates.
    pub const fn as_key(&self) -> &p521::PublicKey {
        &self.0
    }
}

impl From<p521::PublicKey> for P521Public {
    fn from(key: p521::PublicKey) -> Self {
        Self(key)
    }
}

impl fmt::Debug for P521Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P521Public(04")?;
        self.to_sec1()[1..9].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("..)")
    }
}
