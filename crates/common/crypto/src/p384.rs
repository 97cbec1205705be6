//! Keys on the curve P-384 (FIPS 186-5, SP 800-186): Diffie-Hellman agreement and ECDSA.

use std::fmt;

use p384::ecdsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use p384::ecdsa::{Signature, SigningKey, VerifyingKey};
use p384::elliptic_curve::Curve;
use p384::elliptic_curve::bigint::{NonZero, U384, U512};
use p384::elliptic_curve::sec1::ToSec1Point;
use zeroize::{Zeroize, Zeroizing};

use crate::locked::Locked;
use crate::{Entropy, Error, Secret, sha256, sha384};

/// Bytes of a field element and of a scalar.
pub const P384_SIZE: usize = 48;
/// Bytes of a little-endian number in its zero-padded form.
pub const P384_LE_SIZE: usize = 72;

/// The digest under an ECDSA signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EcdsaHash {
    /// SHA-256. Its value is used as a 256-bit integer, with nothing appended.
    Sha256,
    /// SHA-384.
    Sha384,
}

impl EcdsaHash {
    /// The digest as a 384-bit big-endian integer.
    fn digest(self, message: &[u8]) -> [u8; P384_SIZE] {
        match self {
            Self::Sha256 => {
                let mut out = [0; P384_SIZE];
                out[P384_SIZE - 32..].copy_from_slice(&sha256(message));
                out
            }
            Self::Sha384 => sha384(message),
        }
    }
}

/// A private P-384 key: zeroized on drop, never printed, in memory that is not swapped if the system allows it.
#[derive(Clone)]
pub struct P384Secret(Locked<p384::SecretKey>);

impl P384Secret {
    /// Draws a key: 384 random bits, again until they are in range (SP 800-56A, 5.6.1.2.2).
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        loop {
            let scalar = Secret::generate(entropy);
            if let Ok(key) = Self::from_scalar(scalar.expose()) {
                return key;
            }
        }
    }

    /// The key with a given big-endian scalar.
    ///
    /// # Errors
    /// [`Error::InvalidP384SecretKey`] if the scalar is zero or not below the order.
    pub fn from_scalar(scalar: &[u8; P384_SIZE]) -> Result<Self, Error> {
        p384::SecretKey::from_slice(scalar)
            .map(|key| Self(Locked::new(key)))
            .map_err(|_| Error::InvalidP384SecretKey)
    }

    /// The key made of 448 bits, a little-endian integer c: d = (c mod (n - 1)) + 1 (FIPS 186-5, A.2.1 "extra
    /// random bits").
    pub fn from_extra_random_bits(bits: &Secret<56>) -> Self {
        let mut wide = Zeroizing::new([0u8; 64]);
        wide[..56].copy_from_slice(bits.expose());
        let order: U384 = *p384::NistP384::ORDER.as_ref();
        let modulus = NonZero::new(order.wrapping_sub(&U384::ONE).resize::<{ U512::LIMBS }>())
            .expect("the order of the curve is greater than one");
        let mut remainder = U512::from_le_slice(&wide[..]).rem(&modulus);
        let mut scalar = remainder.resize::<{ U384::LIMBS }>().wrapping_add(&U384::ONE);
        let mut big_endian = Zeroizing::new([0u8; P384_SIZE]);
        big_endian.copy_from_slice(&scalar.to_be_bytes());
        remainder.zeroize();
        scalar.zeroize();
        Self::from_scalar(&big_endian).expect("1 <= d < n by construction")
    }

    /// The big-endian scalar.
    pub fn to_scalar(&self) -> Secret<P384_SIZE> {
        let bytes = Zeroizing::new(<[u8; P384_SIZE]>::from(self.0.to_bytes()));
        Secret::new(*bytes)
    }

    /// The matching public key.
    pub fn public(&self) -> P384Public {
        P384Public(self.0.public_key())
    }

    /// The shared secret Z: the x coordinate, 48 bytes big-endian (SP 800-56A, 5.7.1.2).
    pub fn ecdh_x(&self, peer: &P384Public) -> Secret<P384_SIZE> {
        let shared = self.0.diffie_hellman(&peer.0);
        let mut z = Secret::default();
        z.expose_mut().copy_from_slice(shared.raw_secret_bytes());
        z
    }

    /// Signs `message` (FIPS 186-5, 6.4). The nonce is derived from key and message (RFC 6979), so the same
    /// message has the same signature.
    pub fn sign(&self, hash: EcdsaHash, message: &[u8]) -> P384Signature {
        let key = SigningKey::from(&*self.0);
        let signature: Signature =
            key.sign_prehash(&hash.digest(message)).expect("a digest of 48 bytes can be signed");
        let (r, s) = signature.split_bytes();
        P384Signature { r: r.into(), s: s.into() }
    }
}

impl fmt::Debug for P384Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("P384Secret(..)")
    }
}

/// A public P-384 key: a checked point of the curve, never the point at infinity.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct P384Public(p384::PublicKey);

impl P384Public {
    /// Reads the big-endian coordinates.
    ///
    /// # Errors
    /// [`Error::InvalidP384PublicKey`] for coordinates off the curve.
    pub fn from_xy(x: &[u8; P384_SIZE], y: &[u8; P384_SIZE]) -> Result<Self, Error> {
        let mut sec1 = [4u8; 1 + 2 * P384_SIZE];
        sec1[1..=P384_SIZE].copy_from_slice(x);
        sec1[1 + P384_SIZE..].copy_from_slice(y);
        p384::PublicKey::from_sec1_bytes(&sec1).map(Self).map_err(|_| Error::InvalidP384PublicKey)
    }

    /// The big-endian coordinates x and y.
    pub fn to_xy(&self) -> ([u8; P384_SIZE], [u8; P384_SIZE]) {
        let (mut x, mut y) = ([0; P384_SIZE], [0; P384_SIZE]);
        let sec1 = self.0.to_sec1_point(false);
        x.copy_from_slice(&sec1.as_bytes()[1..=P384_SIZE]);
        y.copy_from_slice(&sec1.as_bytes()[1 + P384_SIZE..]);
        (x, y)
    }

    /// Checks a signature.
    ///
    /// # Errors
    /// [`Error::Signature`] if it is not one of this key over `message`.
    pub fn verify(&self, hash: EcdsaHash, message: &[u8], signature: &P384Signature) -> Result<(), Error> {
        let signature = Signature::from_scalars(signature.r, signature.s).map_err(|_| Error::Signature)?;
        VerifyingKey::from(&self.0)
            .verify_prehash(&hash.digest(message), &signature)
            .map_err(|_| Error::Signature)
    }
}

impl fmt::Debug for P384Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P384Public(04")?;
        self.to_xy().0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("..)")
    }
}

/// An ECDSA signature on P-384; whether its numbers are in range shows when it is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct P384Signature {
    /// r, big-endian.
    pub r: [u8; P384_SIZE],
    /// s, big-endian.
    pub s: [u8; P384_SIZE],
}

impl P384Signature {
    /// Reads r and s, each little-endian and padded with zeros to 72 bytes.
    ///
    /// # Errors
    /// [`Error::Signature`] for padding other than zero.
    pub fn from_le_fields(r: &[u8; P384_LE_SIZE], s: &[u8; P384_LE_SIZE]) -> Result<Self, Error> {
        let number = |field| p384_from_le(field).ok_or(Error::Signature);
        Ok(Self { r: number(r)?, s: number(s)? })
    }

    /// Writes r and s, each little-endian and padded with zeros to 72 bytes.
    pub fn to_le_fields(&self) -> ([u8; P384_LE_SIZE], [u8; P384_LE_SIZE]) {
        (p384_to_le(&self.r), p384_to_le(&self.s))
    }
}

/// A big-endian number of 48 bytes from its little-endian form padded with zeros to 72; `None` if the padding is
/// not zero.
pub fn p384_from_le(field: &[u8; P384_LE_SIZE]) -> Option<[u8; P384_SIZE]> {
    let (value, padding) = field.split_at(P384_SIZE);
    let mut out: [u8; P384_SIZE] = value.try_into().ok()?;
    out.reverse();
    padding.iter().all(|&byte| byte == 0).then_some(out)
}

/// The little-endian form, padded with zeros to 72 bytes, of a big-endian number of 48 bytes.
pub fn p384_to_le(value: &[u8; P384_SIZE]) -> [u8; P384_LE_SIZE] {
    let mut out = [0; P384_LE_SIZE];
    out[..P384_SIZE].copy_from_slice(value);
    out[..P384_SIZE].reverse();
    out
}
