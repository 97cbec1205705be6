//! AMD's root certificates: ARK and ASK, with RSA keys of 2048 or 4096 bits.
//!
//! A certificate is kept as it came. Signatures are checked by whoever has the cryptography, with
//! [`AmdCertificate::modulus`] and [`AmdCertificate::exponent`] of the signer.

use std::fmt;

use super::certificate::Usage;
use super::layout::{get, put};
use crate::Error;
use crate::codec::need;

const WHAT: &str = "AMD root certificate";
const FIXED: usize = 0x40;

/// An ARK or ASK, byte for byte as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct AmdCertificate(Vec<u8>);

/// The size of an AMD key, which also decides the digest of its signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Generation {
    /// 2048 bits with SHA-256 (Naples).
    Rsa2048,
    /// 4096 bits with SHA-384 (Rome and later).
    Rsa4096,
}

impl Generation {
    /// Bytes of a number.
    pub const fn number_size(self) -> usize {
        match self {
            Self::Rsa2048 => 256,
            Self::Rsa4096 => 512,
        }
    }

    /// Bytes of a certificate: 832 or 1600.
    pub const fn certificate_size(self) -> usize {
        FIXED + 3 * self.number_size()
    }

    /// Bits of a modulus.
    pub const fn bits(self) -> u32 {
        self.number_size() as u32 * 8
    }

    /// The algorithm of signatures by such a key, as a slot of a SEV certificate names it.
    pub const fn algo(self) -> super::certificate::Algo {
        match self {
            Self::Rsa2048 => super::certificate::Algo::RSA_SHA256,
            Self::Rsa4096 => super::certificate::Algo::RSA_SHA384,
        }
    }

    /// The generation whose certificates have this size.
    pub const fn of_size(size: usize) -> Option<Self> {
        match size {
            832 => Some(Self::Rsa2048),
            1600 => Some(Self::Rsa4096),
            _ => None,
        }
    }
}

impl AmdCertificate {
    /// The only version.
    pub const VERSION: u32 = 1;
    /// How the name of a key begins that is this program's model of an AMD key: names of AMD's own keys are random.
    pub const MODEL_PREFIX: &[u8; 14] = b"CLOISTER-MODEL";

    /// Reads the certificate at the start of `bytes`, which may go on behind it.
    ///
    /// # Errors
    /// If version, usage or key sizes are not those of an ARK or ASK, or bytes are missing.
    pub fn parse_prefix(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        need(WHAT, bytes, FIXED)?;
        let version: u32 = get(bytes, 0);
        if version != Self::VERSION {
            return Err(Error::Version { what: WHAT, found: version, supported: Self::VERSION });
        }
        let fault = |field, found: u32, rule| Error::Field { what: WHAT, field, found: found.into(), rule };
        let usage: Usage = get(bytes, 0x24);
        if usage != Usage::ARK && usage != Usage::ASK {
            return Err(fault("usage", usage.0, "it must be 0 (ARK) or 0x13 (ASK)"));
        }
        let (exponent_bits, modulus_bits): (u32, u32) = (get(bytes, 0x38), get(bytes, 0x3c));
        let generation = match modulus_bits {
            2048 => Generation::Rsa2048,
            4096 => Generation::Rsa4096,
            other => return Err(fault("modulus size", other, "the key must have 2048 or 4096 bits")),
        };
        if exponent_bits != modulus_bits {
            return Err(fault(
                "exponent size",
                exponent_bits,
                "the exponent's field is as long as the modulus",
            ));
        }
        need(WHAT, bytes, generation.certificate_size())?;
        let (certificate, rest) = bytes.split_at(generation.certificate_size());
        Ok((Self(certificate.to_vec()), rest))
    }

    /// Reads a certificate that fills `bytes`.
    ///
    /// # Errors
    /// As [`Self::parse_prefix`], and if bytes are left.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        match Self::parse_prefix(bytes)? {
            (certificate, []) => Ok(certificate),
            (_, rest) => Err(Error::Field {
                what: WHAT,
                field: "length",
                found: bytes.len() as u64 - rest.len() as u64,
                rule: "the file goes on behind the certificate, which ends here",
            }),
        }
    }

    /// A certificate without a signature. The numbers are little-endian; shorter ones are padded, and what goes
    /// beyond the size of the key is left out.
    pub fn new(
        generation: Generation,
        usage: Usage,
        key_id: [u8; 16],
        certifying_id: [u8; 16],
        exponent: &[u8],
        modulus: &[u8],
    ) -> Self {
        let mut bytes = vec![0; generation.certificate_size()];
        put(&mut bytes, 0, &Self::VERSION);
        put(&mut bytes, 4, &key_id);
        put(&mut bytes, 0x14, &certifying_id);
        put(&mut bytes, 0x24, &usage);
        put(&mut bytes, 0x38, &generation.bits());
        put(&mut bytes, 0x3c, &generation.bits());
        let size = generation.number_size();
        copy(&mut bytes[FIXED..FIXED + size], exponent);
        copy(&mut bytes[FIXED + size..FIXED + 2 * size], modulus);
        Self(bytes)
    }

    /// Puts the signature in, little-endian.
    pub fn set_signature(&mut self, signature: &[u8]) {
        let at = self.number_at(2);
        self.0[at..].fill(0);
        copy(&mut self.0[at..], signature);
    }

    /// All bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes for a file or a buffer.
    pub fn encode(&self) -> Vec<u8> {
        self.0.clone()
    }

    /// Size of the key.
    pub fn generation(&self) -> Generation {
        if self.0.len() == Generation::Rsa2048.certificate_size() {
            Generation::Rsa2048
        } else {
            Generation::Rsa4096
        }
    }

    /// ARK or ASK.
    pub fn usage(&self) -> Usage {
        get(&self.0, 0x24)
    }

    /// The key's name.
    pub fn key_id(&self) -> [u8; 16] {
        get(&self.0, 4)
    }

    /// The name of the key that signed; that of an ARK is its own.
    pub fn certifying_id(&self) -> [u8; 16] {
        get(&self.0, 0x14)
    }

    /// Whether the key, or the one that signed it, says that it is a model.
    pub fn is_model(&self) -> bool {
        [self.key_id(), self.certifying_id()].iter().any(|id| id.starts_with(Self::MODEL_PREFIX))
    }

    /// The exponent, little-endian.
    pub fn exponent(&self) -> &[u8] {
        &self.0[self.number_at(0)..self.number_at(1)]
    }

    /// The modulus, little-endian.
    pub fn modulus(&self) -> &[u8] {
        &self.0[self.number_at(1)..self.number_at(2)]
    }

    /// The signature, little-endian.
    pub fn signature(&self) -> &[u8] {
        &self.0[self.number_at(2)..]
    }

    /// What the signature covers: everything before it.
    pub fn signed_bytes(&self) -> &[u8] {
        &self.0[..self.number_at(2)]
    }

    fn number_at(&self, index: usize) -> usize {
        FIXED + index * self.generation().number_size()
    }
}

impl fmt::Debug for AmdCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |id: [u8; 16]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        f.debug_struct("AmdCertificate")
            .field("usage", &self.usage())
            .field("generation", &self.generation())
            .field("key_id", &hex(self.key_id()))
            .field("certifying_id", &hex(self.certifying_id()))
            .finish_non_exhaustive()
    }
}

fn copy(to: &mut [u8], from: &[u8]) {
    to.iter_mut().zip(from).for_each(|(to, &byte)| *to = byte);
}
