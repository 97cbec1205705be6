//! RSASSA-PSS (RFC 8017, section 8.1) with a salt as long as the digest and little-endian numbers.

use std::fmt;

use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use rsa::pss::Pss;
use rsa::traits::PublicKeyParts;
use rsa::{BoxedUint, RsaPrivateKey, RsaPublicKey};
use sha2::{Sha256, Sha384};
use zeroize::Zeroizing;

use crate::{Entropy, EntropyRng, Error, sha256, sha384};

/// The digest under a PSS signature, which is that of its mask generation too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PssHash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
}

/// A private RSA key: zeroized on drop, never printed. Its numbers lie in memory that may be swapped.
#[derive(Clone)]
pub struct RsaSecret(RsaPrivateKey);

impl RsaSecret {
    /// Draws a key with the exponent 65537. This takes seconds for 4096 bits.
    ///
    /// # Errors
    /// [`Error::InvalidRsaKey`] for a size the library does not make.
    pub fn generate(entropy: &mut dyn Entropy, bits: usize) -> Result<Self, Error> {
        RsaPrivateKey::new(&mut EntropyRng(entropy), bits).map(Self).map_err(|_| Error::InvalidRsaKey)
    }

    /// Reads a key in PKCS #8 DER.
    ///
    /// # Errors
    /// [`Error::InvalidRsaKey`] if it is none.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, Error> {
        RsaPrivateKey::from_pkcs8_der(der).map(Self).map_err(|_| Error::InvalidRsaKey)
    }

    /// The key in PKCS #8 DER.
    pub fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        let document = self.0.to_pkcs8_der().expect("a valid key can be written");
        Zeroizing::new(document.as_bytes().to_vec())
    }

    /// The matching public key.
    pub fn public(&self) -> RsaPublic {
        RsaPublic(self.0.to_public_key())
    }

    /// Signs `message`; the signature is little-endian and as long as the modulus.
    ///
    /// # Errors
    /// [`Error::InvalidRsaKey`] if the key is too small for the digest.
    pub fn sign_pss(
        &self,
        entropy: &mut dyn Entropy,
        hash: PssHash,
        message: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let mut source = EntropyRng(entropy);
        let signature = match hash {
            PssHash::Sha256 => self.0.sign_with_rng(&mut source, Pss::<Sha256>::new(), &sha256(message)),
            PssHash::Sha384 => self.0.sign_with_rng(&mut source, Pss::<Sha384>::new(), &sha384(message)),
        };
        let mut signature = signature.map_err(|_| Error::InvalidRsaKey)?;
        signature.reverse();
        Ok(signature)
    }
}

impl fmt::Debug for RsaSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RsaSecret(..)")
    }
}

/// A public RSA key of 2048 to 4096 bits.
#[derive(Clone, PartialEq, Eq)]
pub struct RsaPublic(RsaPublicKey);

impl RsaPublic {
    /// Reads little-endian modulus and exponent; zeros at the high ends are padding.
    ///
    /// # Errors
    /// [`Error::InvalidRsaKey`] for an even modulus, and for numbers that are too small or too large.
    pub fn from_le(modulus: &[u8], exponent: &[u8]) -> Result<Self, Error> {
        let number = |little: &[u8]| {
            let size = little.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            let big: Vec<u8> = little[..size].iter().rev().copied().collect();
            BoxedUint::from_be_slice_vartime(&big)
        };
        RsaPublicKey::new_with_size_limits(number(modulus), number(exponent), 2048..=4096)
            .map(Self)
            .map_err(|_| Error::InvalidRsaKey)
    }

    /// Bits of the modulus.
    pub fn bits(&self) -> usize {
        self.0.n().bits() as usize
    }

    /// The modulus, little-endian, as long as a signature.
    pub fn modulus_le(&self) -> Vec<u8> {
        self.number(&self.0.n_bytes())
    }

    /// The exponent, little-endian, as long as a signature.
    pub fn exponent_le(&self) -> Vec<u8> {
        self.number(&self.0.e_bytes())
    }

    /// Checks a little-endian signature.
    ///
    /// # Errors
    /// [`Error::Signature`] if it is not one of this key over `message`.
    pub fn verify_pss(&self, hash: PssHash, message: &[u8], signature: &[u8]) -> Result<(), Error> {
        let big: Vec<u8> = signature.iter().rev().copied().collect();
        match hash {
            PssHash::Sha256 => self.0.verify(Pss::<Sha256>::new(), &sha256(message), &big),
            PssHash::Sha384 => self.0.verify(Pss::<Sha384>::new(), &sha384(message), &big),
        }
        .map_err(|_| Error::Signature)
    }

    /// A big-endian number as little-endian bytes, padded with zeros to the size of a signature.
    fn number(&self, big_endian: &[u8]) -> Vec<u8> {
        let mut out: Vec<u8> = big_endian.iter().rev().copied().collect();
        out.resize(self.0.size(), 0);
        out
    }
}

impl fmt::Debug for RsaPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RsaPublic({} bits)", self.bits())
    }
}
