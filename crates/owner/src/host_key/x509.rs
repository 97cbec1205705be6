//! Certificates and revocation lists as objects with checked signatures.
//!
//! Only what verification of host-key documents needs; no path building, that is [`super::chain`].

use std::time::{Duration, SystemTime};

use cloister_crypto::{P521Public, ct_eq};
use der::asn1::{AnyRef, BitStringRef};
use der::oid::{AssociatedOid, ObjectIdentifier};
use der::{Decode, Encode, Sequence};
use p384::ecdsa::signature::hazmat::PrehashVerifier;
use rsa::traits::PublicKeyParts;
use sha2::Digest;
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoOwned};
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::ext::Extensions;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, BasicConstraints, KeyUsage, SubjectKeyIdentifier};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::Time;

use crate::host_key::Warning;
use crate::{HostKeyError, OwnerError};

/// A certificate with the bytes that its signature covers.
#[derive(Clone, Debug)]
pub(crate) struct Cert {
    pub(crate) file: String,
    certificate: Certificate,
    signed: Signed,
}

/// A revocation list with the bytes that its signature covers.
#[derive(Clone, Debug)]
pub(crate) struct Crl {
    pub(crate) file: String,
    list: CertificateList,
    signed: Signed,
}

#[derive(Clone, Debug)]
struct Signed {
    covered: Vec<u8>,
    algorithm: ObjectIdentifier,
    signature: Vec<u8>,
}

/// The shape that certificates and lists share (RFC 5280, 4.1 and 5.1).
#[derive(Sequence)]
struct Outer<'a> {
    covered: AnyRef<'a>,
    algorithm: AlgorithmIdentifierRef<'a>,
    signature: BitStringRef<'a>,
}

impl Cert {
    pub(crate) fn parse(file: &str, der: &[u8]) -> Result<Self, OwnerError> {
        let bad = |error: der::Error| not_x509(file, "certificate", error);
        let certificate = Certificate::from_der(der).map_err(bad)?;
        let signed = Signed::parse(der).map_err(bad)?;
        if certificate.signature_algorithm() != certificate.tbs_certificate().signature() {
            return Err(contradiction(file));
        }
        Ok(Self { file: file.into(), certificate, signed })
    }

    pub(crate) fn subject(&self) -> &Name {
        self.certificate.tbs_certificate().subject()
    }

    pub(crate) fn issuer(&self) -> &Name {
        self.certificate.tbs_certificate().issuer()
    }

    pub(crate) fn serial(&self) -> &SerialNumber {
        self.certificate.tbs_certificate().serial_number()
    }

    pub(crate) fn is_self_issued(&self) -> bool {
        self.subject() == self.issuer()
    }

    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.certificate == other.certificate
    }

    /// The public key, if it is one on P-521.
    pub(crate) fn p521_key(&self) -> Result<P521Public, OwnerError> {
        let info = self.key_info();
        let curve = info.algorithm.parameters.as_ref().and_then(|any| any.decode_as().ok());
        if info.algorithm.oid != EC_KEY || curve != Some(SECP521R1) {
            return Err(HostKeyError::WrongKey { file: self.file.clone() }.into());
        }
        P521Public::from_sec1(info.subject_public_key.raw_bytes())
            .map_err(|_| HostKeyError::WrongKey { file: self.file.clone() }.into())
    }

    pub(crate) fn check_validity(&self, now: SystemTime) -> Result<(), OwnerError> {
        let validity = self.certificate.tbs_certificate().validity();
        check_period(&self.file, "certificate", validity.not_before, Some(validity.not_after), now)
    }

    /// Whether the authority key identifier, if there is one, names `issuer`
    /// (RFC 5280, 4.2.1.1).
    pub(crate) fn names_as_issuer(&self, issuer: &Cert) -> Result<bool, OwnerError> {
        let own = extension::<AuthorityKeyIdentifier>(&self.file, self.extensions())?;
        authority_matches(own, issuer)
    }

    pub(crate) fn has_authority_key_id(&self) -> Result<bool, OwnerError> {
        let own = extension::<AuthorityKeyIdentifier>(&self.file, self.extensions())?;
        Ok(own.is_some_and(|own| own.key_identifier.is_some()))
    }

    pub(crate) fn key_id(&self) -> Result<Option<Vec<u8>>, OwnerError> {
        let own = extension::<SubjectKeyIdentifier>(&self.file, self.extensions())?;
        Ok(own.map(|own| own.0.into_bytes().into_vec()))
    }

    pub(crate) fn basic_constraints(&self) -> Result<Option<BasicConstraints>, OwnerError> {
        extension(&self.file, self.extensions())
    }

    pub(crate) fn key_usage(&self) -> Result<Option<KeyUsage>, OwnerError> {
        extension(&self.file, self.extensions())
    }

    /// A critical extension that this verifier does not know (RFC 5280, 4.2: it must refuse).
    pub(crate) fn unknown_critical_extension(&self) -> Option<ObjectIdentifier> {
        unknown_critical(self.extensions(), &KNOWN_EXTENSIONS)
    }

    pub(crate) fn check_signature(&self, issuer: &Cert) -> Result<(), OwnerError> {
        self.signed.check(&self.file, "certificate", issuer)
    }

    /// Bits of security of the public key (NIST SP 800-57 part 1, table 2), 0 for an unknown kind.
    pub(crate) fn security_bits(&self) -> u32 {
        match Key::read(self.key_info()) {
            Some(Key::P384(_)) => 192,
            Some(Key::P521(_)) => 256,
            Some(Key::Rsa(key)) => match key.n().bits() {
                15360.. => 256,
                7680.. => 192,
                3072.. => 128,
                2048.. => 112,
                _ => 80,
            },
            None => 0,
        }
    }

    pub(crate) fn model_warning(&self) -> Option<Warning> {
        let subject = self.subject().to_string();
        let marked = |bytes: &[u8]| bytes.starts_with(b"CLOISTER-MODEL");
        let by_key = self.key_id().ok().flatten().is_some_and(|id| marked(&id));
        let model = by_key || subject.contains("MODEL NOT IBM") || subject.contains("Cloister MODEL");
        model.then(|| Warning::Model { file: self.file.clone(), subject })
    }

    /// Whether a signature of user data (SHA-512) is this key's; `None` if its kind, as add-secret requests number
    /// them, is not the key's.
    pub(crate) fn verify_user_signature(&self, kind: u16, message: &[u8], signature: &[u8]) -> Option<bool> {
        let digest = Hash::Sha512.of(message);
        match (Key::read(self.key_info())?, kind) {
            (Key::P521(key), 2) => Some(
                p521::ecdsa::DerSignature::from_bytes(signature)
                    .is_ok_and(|signature| key.verify_prehash(&digest, &signature).is_ok()),
            ),
            (Key::Rsa(key), 3 | 4) if key.n().bits() == if kind == 3 { 2048 } else { 3072 } => {
                Some(key.verify(Hash::Sha512.rsa_padding(), &digest, signature).is_ok())
            }
            (Key::P521(_) | Key::P384(_) | Key::Rsa(_), _) => None,
        }
    }

    fn extensions(&self) -> Option<&Extensions> {
        self.certificate.tbs_certificate().extensions()
    }

    fn key_info(&self) -> &SubjectPublicKeyInfoOwned {
        self.certificate.tbs_certificate().subject_public_key_info()
    }
}

impl Crl {
    pub(crate) fn parse(file: &str, der: &[u8]) -> Result<Self, OwnerError> {
        let bad = |error: der::Error| not_x509(file, "certificate revocation list", error);
        let list = CertificateList::from_der(der).map_err(bad)?;
        let signed = Signed::parse(der).map_err(bad)?;
        if list.signature_algorithm != list.tbs_cert_list.signature {
            return Err(contradiction(file));
        }
        Ok(Self { file: file.into(), list, signed })
    }

    pub(crate) fn issuer(&self) -> &Name {
        &self.list.tbs_cert_list.issuer
    }

    /// Everything that makes the list one that `issuer` vouches for at `now`: period, key
    /// identifier, no unknown critical extension, signature (RFC 5280, 6.3.3).
    pub(crate) fn check(&self, issuer: &Cert, now: SystemTime) -> Result<(), OwnerError> {
        let list = &self.list.tbs_cert_list;
        check_period(&self.file, "revocation list", list.this_update, list.next_update, now)?;
        let extensions = list.crl_extensions.as_ref();
        let authority = extension::<AuthorityKeyIdentifier>(&self.file, extensions)?;
        if !authority_matches(authority, issuer)? {
            return Err(HostKeyError::AuthorityMismatch {
                file: self.file.clone(),
                issuer: issuer.file.clone(),
            }
            .into());
        }
        let entries = list.revoked_certificates.iter().flatten();
        let in_entries = entries.filter_map(|entry| entry.crl_entry_extensions.as_ref());
        let unknown = unknown_critical(extensions, &KNOWN_CRL_EXTENSIONS)
            .or_else(|| in_entries.into_iter().find_map(|list| unknown_critical(Some(list), &[])));
        if let Some(oid) = unknown {
            return Err(
                HostKeyError::UnknownCritical { file: self.file.clone(), oid: oid.to_string() }.into()
            );
        }
        self.signed.check(&self.file, "revocation list", issuer)
    }

    pub(crate) fn revokes(&self, certificate: &Cert) -> bool {
        let mut entries = self.list.tbs_cert_list.revoked_certificates.iter().flatten();
        entries.any(|entry| entry.serial_number == *certificate.serial())
    }
}

impl Signed {
    fn parse(der: &[u8]) -> der::Result<Self> {
        let outer = Outer::from_der(der)?;
        let signature = outer.signature.as_bytes().ok_or(der::ErrorKind::Failed)?.to_vec();
        // The decoder accepts the one DER encoding only, so encoding again gives the signed bytes.
        Ok(Self { covered: outer.covered.to_der()?, algorithm: outer.algorithm.oid, signature })
    }

    fn check(&self, file: &str, what: &'static str, issuer: &Cert) -> Result<(), OwnerError> {
        let unsupported = || HostKeyError::UnsupportedSignature {
            file: file.into(),
            algorithm: self.algorithm.to_string(),
        };
        let key = Key::read(issuer.key_info()).ok_or_else(unsupported)?;
        let (kind, hash) = ALGORITHMS
            .iter()
            .find(|(oid, _, _)| *oid == self.algorithm)
            .map(|(_, kind, hash)| (*kind, *hash))
            .ok_or_else(unsupported)?;
        let digest = hash.of(&self.covered);
        let good = match (&key, kind) {
            (Key::Rsa(key), Kind::RsaPkcs1) => {
                key.verify(hash.rsa_padding(), &digest, &self.signature).is_ok()
            }
            (Key::P384(key), Kind::Ecdsa) => p384::ecdsa::DerSignature::from_bytes(&self.signature)
                .is_ok_and(|signature| key.verify_prehash(&digest, &signature).is_ok()),
            (Key::P521(key), Kind::Ecdsa) => p521::ecdsa::DerSignature::from_bytes(&self.signature)
                .is_ok_and(|signature| key.verify_prehash(&digest, &signature).is_ok()),
            // The algorithm does not go with the issuer's key.
            (Key::Rsa(_), Kind::Ecdsa) | (Key::P384(_) | Key::P521(_), Kind::RsaPkcs1) => false,
        };
        match good {
            true => Ok(()),
            false => {
                Err(HostKeyError::BadSignature { file: file.into(), what, issuer: issuer.file.clone() }
                    .into())
            }
        }
    }
}

enum Key {
    Rsa(Box<rsa::RsaPublicKey>),
    P384(Box<p384::ecdsa::VerifyingKey>),
    P521(Box<p521::ecdsa::VerifyingKey>),
}

impl Key {
    fn read(info: &SubjectPublicKeyInfoOwned) -> Option<Self> {
        let bytes = info.subject_public_key.raw_bytes();
        if info.algorithm.oid == RSA_KEY {
            let key = RsaKey::from_der(bytes).ok()?;
            let number = |bytes: &[u8]| rsa::BoxedUint::from_be_slice_vartime(bytes);
            return rsa::RsaPublicKey::new(number(key.modulus.as_bytes()), number(key.exponent.as_bytes()))
                .ok()
                .map(|key| Key::Rsa(Box::new(key)));
        }
        if info.algorithm.oid != EC_KEY {
            return None;
        }
        let curve: ObjectIdentifier = info.algorithm.parameters.as_ref()?.decode_as().ok()?;
        if curve == SECP384R1 {
            p384::ecdsa::VerifyingKey::from_sec1_bytes(bytes).ok().map(|key| Key::P384(Box::new(key)))
        } else if curve == SECP521R1 {
            p521::ecdsa::VerifyingKey::from_sec1_bytes(bytes).ok().map(|key| Key::P521(Box::new(key)))
        } else {
            None
        }
    }
}

/// RSAPublicKey (RFC 8017, A.1.1).
#[derive(Sequence)]
struct RsaKey<'a> {
    modulus: der::asn1::UintRef<'a>,
    exponent: der::asn1::UintRef<'a>,
}

#[derive(Clone, Copy)]
enum Kind {
    RsaPkcs1,
    Ecdsa,
}

#[derive(Clone, Copy)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn of(self, data: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha256 => sha2::Sha256::digest(data).to_vec(),
            Hash::Sha384 => sha2::Sha384::digest(data).to_vec(),
            Hash::Sha512 => sha2::Sha512::digest(data).to_vec(),
        }
    }

    fn rsa_padding(self) -> rsa::Pkcs1v15Sign {
        match self {
            Hash::Sha256 => rsa::Pkcs1v15Sign::new::<sha2::Sha256>(),
            Hash::Sha384 => rsa::Pkcs1v15Sign::new::<sha2::Sha384>(),
            Hash::Sha512 => rsa::Pkcs1v15Sign::new::<sha2::Sha512>(),
        }
    }
}

/// Reads every certificate of a PEM file, or the one of a DER file.
pub(crate) fn certificates(file: &str, bytes: &[u8]) -> Result<Vec<Cert>, OwnerError> {
    let parts = parts(bytes, "CERTIFICATE").map_err(|error| not_x509(file, "certificate", error))?;
    parts.iter().map(|der| Cert::parse(file, der)).collect()
}

/// As [`certificates`], leaving out what cannot be read: a system's bundle may hold old oddities.
pub(crate) fn certificates_lenient(file: &str, bytes: &[u8]) -> Vec<Cert> {
    let parts = parts(bytes, "CERTIFICATE").unwrap_or_default();
    parts.iter().filter_map(|der| Cert::parse(file, der).ok()).collect()
}

/// Reads every revocation list of a PEM file, or the one of a DER file.
pub(crate) fn crls(file: &str, bytes: &[u8]) -> Result<Vec<Crl>, OwnerError> {
    let parts =
        parts(bytes, "X509 CRL").map_err(|error| not_x509(file, "certificate revocation list", error))?;
    parts.iter().map(|der| Crl::parse(file, der)).collect()
}

/// The DER objects of a file: text before, between and after PEM blocks is allowed (RFC 7468, 5.2).
fn parts(bytes: &[u8], label: &str) -> Result<Vec<Vec<u8>>, der::Error> {
    let Some(text) = std::str::from_utf8(bytes).ok().filter(|text| text.contains("-----BEGIN ")) else {
        return Ok(vec![bytes.to_vec()]);
    };
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(&begin) {
        let Some(length) = rest[start..].find(&end) else {
            return Err(der::ErrorKind::Incomplete {
                expected_len: der::Length::ZERO,
                actual_len: der::Length::ZERO,
            }
            .into());
        };
        let block = &rest[start..start + length + end.len()];
        found.push(der::Document::from_pem(block)?.1.into_vec());
        rest = &rest[start + length + end.len()..];
    }
    match found.is_empty() {
        true => Err(der::ErrorKind::Failed.into()),
        false => Ok(found),
    }
}

fn extension<'a, T: Decode<'a, Error = der::Error> + AssociatedOid>(
    file: &str,
    extensions: Option<&'a Extensions>,
) -> Result<Option<T>, OwnerError> {
    let mut found = extensions.into_iter().flatten().filter(|extension| extension.extn_id == T::OID);
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some(extension), None) => T::from_der(extension.extn_value.as_bytes())
            .map(Some)
            .map_err(|error| not_x509(file, "certificate extension", error)),
        // RFC 5280, 4.2: at most one instance.
        (Some(_), Some(_)) => Err(not_x509(file, "certificate", der::ErrorKind::Failed.into())),
    }
}

fn authority_matches(own: Option<AuthorityKeyIdentifier>, issuer: &Cert) -> Result<bool, OwnerError> {
    let Some(own) = own else { return Ok(true) };
    let by_key = match (own.key_identifier, issuer.key_id()?) {
        (Some(own), Some(issuer)) => ct_eq(own.as_bytes(), &issuer),
        _ => true,
    };
    let by_serial = own.authority_cert_serial_number.is_none_or(|serial| serial == *issuer.serial());
    Ok(by_key && by_serial)
}

fn unknown_critical(extensions: Option<&Extensions>, known: &[ObjectIdentifier]) -> Option<ObjectIdentifier> {
    let mut list = extensions.into_iter().flatten();
    list.find(|extension| extension.critical && !known.contains(&extension.extn_id))
        .map(|found| found.extn_id)
}

fn check_period(
    file: &str,
    what: &'static str,
    from: Time,
    to: Option<Time>,
    now: SystemTime,
) -> Result<(), OwnerError> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    if now < from.to_unix_duration() {
        let from = from.to_date_time().to_string();
        return Err(HostKeyError::NotYetValid { file: file.into(), what, from }.into());
    }
    match to {
        Some(to) if now > to.to_unix_duration() => {
            let to = to.to_date_time().to_string();
            Err(HostKeyError::Expired { file: file.into(), what, to }.into())
        }
        Some(_) | None => Ok(()),
    }
}

fn not_x509(file: &str, what: &'static str, error: der::Error) -> OwnerError {
    HostKeyError::NotX509 { file: file.into(), what, reason: error.to_string() }.into()
}

fn contradiction(file: &str) -> OwnerError {
    HostKeyError::UnsupportedSignature { file: file.into(), algorithm: "two contradicting ones".into() }
        .into()
}

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

// RFC 8017, appendix C; RFC 5480, 2.1.1.
const RSA_KEY: ObjectIdentifier = oid("1.2.840.113549.1.1.1");
const EC_KEY: ObjectIdentifier = oid("1.2.840.10045.2.1");
const SECP384R1: ObjectIdentifier = oid("1.3.132.0.34");
const SECP521R1: ObjectIdentifier = oid("1.3.132.0.35");

// RFC 8017, appendix C; RFC 5758, 3.2. SHA-1 and older are left out on purpose.
const ALGORITHMS: [(ObjectIdentifier, Kind, Hash); 6] = [
    (oid("1.2.840.113549.1.1.11"), Kind::RsaPkcs1, Hash::Sha256),
    (oid("1.2.840.113549.1.1.12"), Kind::RsaPkcs1, Hash::Sha384),
    (oid("1.2.840.113549.1.1.13"), Kind::RsaPkcs1, Hash::Sha512),
    (oid("1.2.840.10045.4.3.2"), Kind::Ecdsa, Hash::Sha256),
    (oid("1.2.840.10045.4.3.3"), Kind::Ecdsa, Hash::Sha384),
    (oid("1.2.840.10045.4.3.4"), Kind::Ecdsa, Hash::Sha512),
];

// Basic constraints, key usage, extended key usage, subject and authority key identifier,
// certificate policies (RFC 5280, 4.2.1).
const KNOWN_EXTENSIONS: [ObjectIdentifier; 6] = [
    oid("2.5.29.19"),
    oid("2.5.29.15"),
    oid("2.5.29.37"),
    oid("2.5.29.14"),
    oid("2.5.29.35"),
    oid("2.5.29.32"),
];

// Authority key identifier and number; a delta or partial list is critical and thus refused.
const KNOWN_CRL_EXTENSIONS: [ObjectIdentifier; 2] = [oid("2.5.29.35"), oid("2.5.29.20")];
