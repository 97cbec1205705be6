//! Private keys of elliptic curves out of PEM and DER files, as a request carries them.
//!
//! PKCS #8 (RFC 5958) for all curves, SEC 1 (RFC 5915) for the NIST ones. The scalar alone is taken, left-padded to
//! the size that the machine stores: P-521 to 80 bytes, Ed448 to 64.

use cloister_formats::s390x::asrcb::SecretType;
use der::asn1::{BitStringRef, OctetStringRef};
use der::oid::ObjectIdentifier;
use der::{Decode, Sequence};
use rsa::pkcs8::PrivateKeyInfoRef;
use zeroize::Zeroizing;

use super::SecretError;

/// Type and stored bytes of the private key in a file.
pub(super) fn read(name: &str, file: &[u8]) -> Result<(SecretType, Zeroizing<Vec<u8>>), SecretError> {
    let wrong = |reason: String| SecretError::PrivateKey { name: name.into(), reason };
    let der = der_of(file, &["PRIVATE KEY", "EC PRIVATE KEY"]).map_err(|error| wrong(error.to_string()))?;
    let not = || {
        wrong(
            "it holds neither a PKCS #8 private key nor an EC PRIVATE KEY, unencrypted, on P-256, P-384, P-521, \
             Ed25519 or Ed448"
                .into(),
        )
    };
    if let Ok(info) = PrivateKeyInfoRef::try_from(&der[..]) {
        if info.algorithm.oid == EC_KEY {
            let curve = info.algorithm.parameters_oid().map_err(|_| not())?;
            let key = EcPrivateKey::from_der(info.private_key.as_bytes()).map_err(|_| not())?;
            return scalar(curve, key.private_key.as_bytes()).ok_or_else(not);
        }
        // RFC 8410, 7: the key is an octet string in the octet string.
        let key = <&OctetStringRef>::from_der(info.private_key.as_bytes()).map_err(|_| not())?;
        return scalar(info.algorithm.oid, key.as_bytes()).ok_or_else(not);
    }
    let key = EcPrivateKey::from_der(&der).map_err(|_| not())?;
    key.parameters.and_then(|curve| scalar(curve, key.private_key.as_bytes())).ok_or_else(not)
}

/// The DER of a file: the first PEM block with one of the labels, or the file as it is.
pub(super) fn der_of(file: &[u8], labels: &[&str]) -> Result<Zeroizing<Vec<u8>>, der::Error> {
    let Some(text) = std::str::from_utf8(file).ok().filter(|text| text.contains("-----BEGIN ")) else {
        return Ok(Zeroizing::new(file.to_vec()));
    };
    for label in labels {
        let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
        if let Some(start) = text.find(&begin)
            && let Some(length) = text[start..].find(&end)
        {
            let block = &text[start..start + length + end.len()];
            let (_, document) = der::SecretDocument::from_pem(block)?;
            return Ok(Zeroizing::new(document.as_bytes().to_vec()));
        }
    }
    Err(der::ErrorKind::Failed.into())
}

/// ECPrivateKey (RFC 5915, 3).
#[derive(Sequence)]
pub(super) struct EcPrivateKey<'a> {
    version: u8,
    private_key: &'a OctetStringRef,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    parameters: Option<ObjectIdentifier>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    public_key: Option<BitStringRef<'a>>,
}

fn scalar(curve: ObjectIdentifier, key: &[u8]) -> Option<(SecretType, Zeroizing<Vec<u8>>)> {
    let (_, kind, size, stored) = CURVES.iter().find(|(oid, ..)| *oid == curve)?;
    if key.len() != *size || key.iter().all(|&byte| byte == 0) {
        return None;
    }
    let mut bytes = Zeroizing::new(vec![0; *stored]);
    bytes[stored - size..].copy_from_slice(key);
    Some((*kind, bytes))
}

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

// RFC 5480, 2.1.1; RFC 8410, 3.
const EC_KEY: ObjectIdentifier = oid("1.2.840.10045.2.1");
const CURVES: [(ObjectIdentifier, SecretType, usize, usize); 5] = [
    (oid("1.2.840.10045.3.1.7"), SecretType::ECDSA_P256, 32, 32),
    (oid("1.3.132.0.34"), SecretType::ECDSA_P384, 48, 48),
    (oid("1.3.132.0.35"), SecretType::ECDSA_P521, 66, 80),
    (oid("1.3.101.112"), SecretType::ED25519, 32, 32),
    (oid("1.3.101.113"), SecretType::ED448, 57, 64),
];
