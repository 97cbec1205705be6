//! User data of a request, and the user's signature over the request.
//!
//! The machine ignores both; guests check them to know who made a request. The signature covers the whole request
//! but its tag, with zeros in its own place (s390-tools, `pvsecret-verify(1)`), and is made with SHA-512.

use std::fmt;

use cloister_crypto::sha512;
use p521::ecdsa::signature::hazmat::PrehashSigner;
use p521::pkcs8::DecodePrivateKey;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::traits::PublicKeyParts;

use super::SecretError;
use super::ec_key::der_of;

/// What a request carries besides the secret.
#[derive(Clone, Debug, Default)]
pub enum UserData {
    /// Nothing.
    #[default]
    None,
    /// At most 512 bytes.
    Unsigned(Vec<u8>),
    /// At most 256 bytes (128 with RSA-3072), and the key that signs the request.
    Signed(Vec<u8>, SigningKey),
}

/// A key that signs requests.
#[derive(Clone)]
pub struct SigningKey(Key);

#[derive(Clone)]
enum Key {
    P521(Box<p521::ecdsa::SigningKey>),
    Rsa2048(Box<rsa::RsaPrivateKey>),
    Rsa3072(Box<rsa::RsaPrivateKey>),
}

impl SigningKey {
    /// Reads a private key, PEM or DER, PKCS #8 or the older forms; `name` is for the messages.
    pub fn parse(name: &str, file: &[u8]) -> Result<Self, SecretError> {
        let wrong = |reason: String| SecretError::PrivateKey { name: name.into(), reason };
        let der = der_of(file, &["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"])
            .map_err(|error| wrong(error.to_string()))?;
        let ec =
            p521::SecretKey::from_pkcs8_der(&der).ok().or_else(|| p521::SecretKey::from_sec1_der(&der).ok());
        if let Some(key) = ec {
            return Ok(Self(Key::P521(Box::new(key.into()))));
        }
        let rsa = rsa::RsaPrivateKey::from_pkcs8_der(&der)
            .ok()
            .or_else(|| rsa::RsaPrivateKey::from_pkcs1_der(&der).ok());
        let bits = rsa.as_ref().map(|key| key.n().bits());
        match (rsa, bits) {
            (Some(key), Some(2048)) => Ok(Self(Key::Rsa2048(Box::new(key)))),
            (Some(key), Some(3072)) => Ok(Self(Key::Rsa3072(Box::new(key)))),
            _ => Err(wrong(
                "requests are signed with EC keys on P-521 (secp521r1) and RSA keys of 2048 or 3072 bits"
                    .into(),
            )),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SecretError> {
        let digest = sha512(message);
        let failed = || SecretError::Internal("a signature could not be made");
        match &self.0 {
            Key::P521(key) => {
                let signature: p521::ecdsa::Signature = key.sign_prehash(&digest).map_err(|_| failed())?;
                Ok(signature.to_der().as_bytes().to_vec())
            }
            Key::Rsa2048(key) | Key::Rsa3072(key) => {
                key.sign(rsa::Pkcs1v15Sign::new::<sha2::Sha512>(), &digest).map_err(|_| failed())
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

impl UserData {
    /// The kind that a request names, and the bytes that are for the user.
    pub(super) fn layout(&self) -> (u16, usize) {
        match self {
            Self::None => (NONE, 0),
            Self::Unsigned(_) => (UNSIGNED, 512),
            Self::Signed(_, SigningKey(Key::P521(_))) => (P521, 256),
            Self::Signed(_, SigningKey(Key::Rsa2048(_))) => (RSA_2048, 256),
            Self::Signed(_, SigningKey(Key::Rsa3072(_))) => (RSA_3072, 128),
        }
    }

    /// The 512 bytes before they are signed.
    pub(super) fn field(&self) -> Result<[u8; 512], SecretError> {
        let (kind, limit) = self.layout();
        let mut field = [0; 512];
        if let Self::Unsigned(data) | Self::Signed(data, _) = self {
            if data.len() > limit {
                let reason = match kind {
                    UNSIGNED => "",
                    RSA_3072 => " beside a signature of RSA-3072",
                    _ => " beside the signature",
                };
                return Err(SecretError::UserData { size: data.len(), limit, reason });
            }
            field[..data.len()].copy_from_slice(data);
        }
        Ok(field)
    }

    /// Signs `message`, the request with zeros in the signature's place, into the user data.
    pub(super) fn sign(&self, message: &[u8], field: &mut [u8; 512]) -> Result<(), SecretError> {
        let Self::Signed(_, key) = self else { return Ok(()) };
        let signature = key.sign(message)?;
        let (kind, at) = self.layout();
        let room = if kind == P521 { EC_SIGNATURE } else { 512 - at };
        if signature.len() > room {
            return Err(SecretError::Internal("the signature is longer than its kind allows"));
        }
        field[at..at + signature.len()].copy_from_slice(&signature);
        if kind == P521 {
            field[EC_SIZE_AT..EC_SIZE_AT + 2].copy_from_slice(&(signature.len() as u16).to_be_bytes());
        }
        Ok(())
    }
}

/// Splits the user data of a request: what is for the user, and the signature.
pub(super) fn split(kind: u16, field: &[u8; 512]) -> Option<(&[u8], &[u8])> {
    let at = match kind {
        NONE => return Some((&[], &[])),
        UNSIGNED => return Some((field, &[])),
        P521 | RSA_2048 => 256,
        RSA_3072 => 128,
        _ => return None,
    };
    let size = match kind {
        P521 => usize::from(u16::from_be_bytes([field[EC_SIZE_AT], field[EC_SIZE_AT + 1]])),
        _ => 512 - at,
    };
    let room = if kind == P521 { EC_SIGNATURE } else { size };
    (size <= room).then(|| (&field[..at], &field[at..at + size]))
}

/// The place of the signature in the user data, zero while the request is signed.
pub(super) fn clear_signature(kind: u16, field: &mut [u8; 512]) {
    match kind {
        P521 | RSA_2048 => field[256..].fill(0),
        RSA_3072 => field[128..].fill(0),
        _ => {}
    }
}

/// What a kind of user data is called.
pub(super) fn kind_name(kind: u16) -> &'static str {
    match kind {
        NONE => "none",
        UNSIGNED => "unsigned",
        P521 => "an EC key on P-521",
        RSA_2048 => "an RSA key of 2048 bits",
        RSA_3072 => "an RSA key of 3072 bits",
        _ => "a key of an unknown kind",
    }
}

pub(super) const NONE: u16 = 0;
pub(super) const UNSIGNED: u16 = 1;
pub(super) const P521: u16 = 2;
pub(super) const RSA_2048: u16 = 3;
pub(super) const RSA_3072: u16 = 4;
/// The longest DER signature of a P-521 key.
const EC_SIGNATURE: usize = 139;
/// Where its size stands: behind the signature and five reserved bytes.
const EC_SIZE_AT: usize = 256 + EC_SIGNATURE + 5;
