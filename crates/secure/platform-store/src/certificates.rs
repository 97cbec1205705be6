//! The model certificate chain: root, signing certificate, host-key documents, revocation lists.
//!
//! The shape is the one that verifiers of IBM host-key documents demand (IBM, "Introducing IBM
//! Secure Execution for Linux", chapter "Verifying the host key document"; the fixed subject of
//! the signing certificate). Three things mark it as a model and can never be in a vendor's chain:
//! the organisational units say `MODEL NOT IBM`, the root says so too, and every key identifier
//! begins with `CLOISTER-MODEL`.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use cloister_crypto::{Entropy, P521Public, sha256};
use der::asn1::{GeneralizedTime, OctetString, UtcTime};
use der::{DateTime, Encode, EncodePem};
use p384::ecdsa::{DerSignature, SigningKey};
use spki::{DynSignatureAlgorithmIdentifier, SignatureBitStringEncoding, SubjectPublicKeyInfoOwned};
use x509_cert::Version;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder};
use x509_cert::certificate::TbsCertificate;
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, CrlNumber, KeyUsage, KeyUsages, SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::{Time, Validity};

use crate::PlatformError;

/// A certificate authority of the model, alive only while the chain is made.
pub(crate) struct Authority {
    key: SigningKey,
    name: Name,
    key_id: OctetString,
    /// Its own certificate, PEM.
    pub(crate) certificate: String,
}

/// A certificate for an end entity.
pub(crate) struct Issued {
    pub(crate) pem: String,
    pub(crate) serial: SerialNumber,
}

/// The period in which everything of one platform is valid.
#[derive(Clone, Copy)]
pub(crate) struct Period(Validity);

impl Period {
    /// From shortly before `now`, so that a guest owner whose clock is a little behind can use the
    /// identity at once.
    pub(crate) fn starting(now: SystemTime, days: u32) -> Result<Self, PlatformError> {
        let start = now.checked_sub(SLACK).ok_or(PlatformError::Options("the clock is before 1970"))?;
        let end = now
            .checked_add(Duration::from_secs(u64::from(days) * 86_400))
            .ok_or(PlatformError::Options("the validity period ends too far in the future"))?;
        // UTCTime through 2049, GeneralizedTime after it (RFC 5280, 4.1.2.5).
        let time = |at| -> der::Result<Time> {
            let at = DateTime::from_system_time(at)?;
            Ok(match at.year() {
                ..2050 => Time::UtcTime(UtcTime::from_date_time(at)?),
                _ => Time::GeneralTime(GeneralizedTime::from_date_time(at)),
            })
        };
        let build = || -> der::Result<Validity> { Ok(Validity::new(time(start)?, time(end)?)) };
        build().map(Self).map_err(failed("validity period"))
    }
}

impl Authority {
    /// The self-signed root of a model chain.
    pub(crate) fn root(period: Period, entropy: &mut dyn Entropy) -> Result<Self, PlatformError> {
        let extensions = [
            BasicConstraints { ca: true, path_len_constraint: None }.boxed(),
            KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign).boxed(),
        ];
        Self::new("root certificate", ROOT, "ROOT", None, extensions, period, entropy)
    }

    /// The certificate that signs host-key documents.
    pub(crate) fn signing(
        root: &Self,
        period: Period,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, PlatformError> {
        let extensions = [
            BasicConstraints { ca: false, path_len_constraint: None }.boxed(),
            KeyUsage(KeyUsages::DigitalSignature.into()).boxed(),
        ];
        Self::new("signing certificate", SIGNING, "SIGN", Some(root), extensions, period, entropy)
    }

    /// A host-key document for `key`.
    pub(crate) fn host_key_document(
        &self,
        key: &P521Public,
        period: Period,
        entropy: &mut dyn Entropy,
    ) -> Result<Issued, PlatformError> {
        let mut build = || -> Result<Issued, Box<dyn std::error::Error>> {
            let spki = SubjectPublicKeyInfoOwned::from_key(key.as_key())?;
            let key_id = key_identifier("HOST", &spki)?;
            let usage = KeyUsage(KeyUsages::KeyAgreement.into()).boxed();
            let subject = Name::from_str(HOST)?;
            let parts = Parts { subject, issuer: self.name.clone(), issuer_key: &self.key_id, key_id };
            let serial = serial_number(entropy)?;
            let pem = parts.sign(&self.key, spki, serial.clone(), period, vec![usage])?;
            Ok(Issued { pem, serial })
        };
        build().map_err(failed("host-key document"))
    }

    /// The revocation list of this authority.
    pub(crate) fn revocation_list(
        &self,
        revoked: &[SerialNumber],
        period: Period,
    ) -> Result<String, PlatformError> {
        let build = || -> Result<String, Box<dyn std::error::Error>> {
            let authority =
                AuthorityKeyIdentifier { key_identifier: Some(self.key_id.clone()), ..Default::default() };
            let extensions = vec![
                authority.to_extension(&self.name, &[])?,
                CrlNumber::try_from(1u32)?.to_extension(&self.name, &[])?,
            ];
            let entry = |serial: &SerialNumber| RevokedCert {
                serial_number: serial.clone(),
                revocation_date: period.0.not_before,
                crl_entry_extensions: None,
            };
            let entries: Vec<_> = revoked.iter().map(entry).collect();
            let signature = self.key.signature_algorithm_identifier()?;
            let list: TbsCertList = TbsCertList {
                version: Version::V2,
                signature: signature.clone(),
                issuer: self.name.clone(),
                this_update: period.0.not_before,
                next_update: Some(period.0.not_after),
                // An empty SEQUENCE is forbidden (RFC 5280, 5.1.2.6).
                revoked_certificates: (!entries.is_empty()).then_some(entries),
                crl_extensions: Some(extensions),
            };
            let signed: DerSignature = p384::ecdsa::signature::Signer::try_sign(&self.key, &list.to_der()?)?;
            let list = CertificateList {
                tbs_cert_list: list,
                signature_algorithm: signature,
                signature: signed.to_bitstring()?,
            };
            Ok(list.to_pem(LINE)?)
        };
        build().map_err(failed("revocation list"))
    }

    fn new(
        what: &'static str,
        subject: &str,
        role: &str,
        issuer: Option<&Self>,
        extensions: [PendingExtension; 2],
        period: Period,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, PlatformError> {
        let key = p384_key(entropy);
        let build = || -> Result<Self, Box<dyn std::error::Error>> {
            let spki = SubjectPublicKeyInfoOwned::from_key(key.verifying_key())?;
            let key_id = key_identifier(role, &spki)?;
            let name = Name::from_str(subject)?;
            let parts = Parts {
                subject: name.clone(),
                issuer: issuer.map_or(&name, |issuer| &issuer.name).clone(),
                issuer_key: issuer.map_or(&key_id, |issuer| &issuer.key_id),
                key_id: key_id.clone(),
            };
            let signer = issuer.map_or(&key, |issuer| &issuer.key);
            let certificate = parts.sign(signer, spki, serial_number(entropy)?, period, extensions.into())?;
            Ok(Self { key: key.clone(), name, key_id, certificate })
        };
        build().map_err(failed(what))
    }
}

/// What differs between the certificates of the chain, apart from their own extensions.
struct Parts<'a> {
    subject: Name,
    issuer: Name,
    issuer_key: &'a OctetString,
    key_id: OctetString,
}

type PendingExtension = Box<dyn Fn(&Name) -> der::Result<Extension>>;

trait Boxed {
    fn boxed(self) -> PendingExtension;
}

impl<T> Boxed for T
where
    T: 'static,
    for<'a> &'a T: ToExtension<Error = der::Error>,
{
    fn boxed(self) -> PendingExtension {
        Box::new(move |subject| self.to_extension(subject, &[]))
    }
}

impl Parts<'_> {
    fn sign(
        self,
        signer: &SigningKey,
        spki: SubjectPublicKeyInfoOwned,
        serial: SerialNumber,
        period: Period,
        extensions: Vec<PendingExtension>,
    ) -> Result<String, Box<dyn std::error::Error>> {
        let own = SubjectKeyIdentifier(self.key_id.clone());
        let authority =
            AuthorityKeyIdentifier { key_identifier: Some(self.issuer_key.clone()), ..Default::default() };
        let mut list =
            extensions.iter().map(|extension| extension(&self.subject)).collect::<der::Result<Vec<_>>>()?;
        list.push(own.to_extension(&self.subject, &[])?);
        list.push(authority.to_extension(&self.subject, &[])?);
        let profile = Profile { subject: self.subject, issuer: self.issuer, extensions: list };
        let builder = CertificateBuilder::new(profile, serial, period.0, spki)?;
        Ok(builder.build::<_, DerSignature>(signer)?.to_pem(LINE)?)
    }
}

struct Profile {
    subject: Name,
    issuer: Name,
    extensions: Vec<Extension>,
}

impl BuilderProfile for Profile {
    fn get_issuer(&self, _subject: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        _spk: spki::SubjectPublicKeyInfoRef<'_>,
        _issuer_spk: spki::SubjectPublicKeyInfoRef<'_>,
        _tbs: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        Ok(self.extensions.clone())
    }
}

/// P-384 because making and using such keys takes milliseconds, where an RSA-4096 key takes seconds.
fn p384_key(entropy: &mut dyn Entropy) -> SigningKey {
    loop {
        let mut scalar = zeroize::Zeroizing::new([0u8; 48]);
        entropy.fill(&mut scalar[..]);
        if let Ok(key) = SigningKey::from_slice(&scalar[..]) {
            return key;
        }
    }
}

/// Readable on purpose: a person who prints the certificate sees whose it is.
fn key_identifier(role: &str, spki: &SubjectPublicKeyInfoOwned) -> der::Result<OctetString> {
    let digest = sha256(spki.subject_public_key.raw_bytes());
    let hex: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    OctetString::new(format!("CLOISTER-MODEL-{role}-{hex}").into_bytes())
}

fn serial_number(entropy: &mut dyn Entropy) -> der::Result<SerialNumber> {
    let mut serial = [0u8; 16];
    entropy.fill(&mut serial);
    // Positive and of constant length (RFC 5280, 4.1.2.2).
    serial[0] = serial[0] & 0x3f | 0x40;
    SerialNumber::new(&serial)
}

fn failed<E: ToString>(what: &'static str) -> impl FnOnce(E) -> PlatformError {
    move |error| PlatformError::Certificate { what, reason: error.to_string() }
}

// RFC 4514 writes the last entry first.
const ROOT: &str = "CN=Cloister MODEL Root CA - NOT IBM,O=Cloister MODEL - NOT IBM";
const SIGNING: &str = "CN=International Business Machines Corporation,\
    OU=MODEL NOT IBM - Cloister Key Signing Service,\
    O=International Business Machines Corporation,L=Poughkeepsie,ST=New York,C=US";
const HOST: &str = "CN=International Business Machines Corporation,\
    OU=MODEL NOT IBM - Cloister Host Key,\
    O=International Business Machines Corporation,L=Poughkeepsie,ST=New York,C=US";
const SLACK: Duration = Duration::from_secs(3600);
const LINE: der::pem::LineEnding = der::pem::LineEnding::LF;
