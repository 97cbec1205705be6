//! Cryptographic primitives by their standard names, over the RustCrypto crates.
//!
//! Every mechanism (Ultravisor, secure processor, owner tools) takes its ciphers, digests, key
//! agreement and random numbers from here, so that the choice of library stands in one place, keys
//! are zeroized and not swapped, and all randomness passes through [`Entropy`], which can be seeded.
//!
//! This crate knows no byte layout of any format and no protocol: which bytes are the associated
//! data of a header, or how a slot is laid out, is the concern of its callers.
#![forbid(unsafe_code)]

mod aes_block;
mod ctr;
mod entropy;
mod gcm;
mod hash;
mod locked;
mod p384;
mod p384_der;
mod p521;
mod rsa;
mod secret;
mod xts;

pub use aes_block::Aes128Block;
pub use ctr::aes128_ctr;
pub use entropy::{Entropy, EntropyRng, SeededEntropy, SystemEntropy};
pub use gcm::{Aes256Gcm, GCM_IV_SIZE, GCM_TAG_SIZE};
pub use hash::{
    Sha256, Sha384, Sha512, hkdf_sha512, hmac_sha256, hmac_sha512, kbkdf_hmac_sha256_le, sha256, sha384,
    sha512, x963_kdf_sha256,
};
pub use p384::{
    EcdsaHash, P384_LE_SIZE, P384_SIZE, P384Public, P384Secret, P384Signature, p384_from_le, p384_to_le,
};
pub use p521::{P521Public, P521Secret};
pub use rsa::{PssHash, RsaPublic, RsaSecret};
pub use secret::{Secret, ct_eq};
pub use xts::{Aes256Xts, XTS_UNIT_SIZE};

/// What can go wrong in this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An authentication tag did not fit its data.
    #[error(
        "authentication failed: the data, its associated data, its tag or the key is not what was sealed"
    )]
    Authentication,
    /// The data is longer than the mode allows.
    #[error("data of {0} bytes is too long for this mode")]
    TooLong(usize),
    /// A public key is not a point of its curve.
    #[error("not a valid P-521 public key: the coordinates are no point of the curve")]
    InvalidPublicKey,
    /// A private scalar is zero or not below the order of the curve.
    #[error("not a valid P-521 private key: the scalar must be in 1..order")]
    InvalidSecretKey,
    /// A public key is not a point of the curve P-384.
    #[error("not a valid P-384 public key: the coordinates are no point of the curve")]
    InvalidP384PublicKey,
    /// A private scalar is zero or not below the order of P-384.
    #[error("not a valid P-384 private key: the scalar must be in 1..order")]
    InvalidP384SecretKey,
    /// Numbers or bytes that are no RSA key for the purpose.
    #[error(
        "not a usable RSA key: it needs an odd modulus of 2048 to 4096 bits and a public exponent within limits"
    )]
    InvalidRsaKey,
    /// A signature does not fit.
    #[error("the signature does not fit the message and the public key")]
    Signature,
}
