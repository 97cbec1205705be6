//! Host-key documents: X.509 certificates whose public key is the P-521 key of a machine.
//!
//! [`Document`] reads one, [`verify`] decides whether a vendor vouches for it: the checks are those
//! that IBM describes in "Introducing IBM Secure Execution for Linux", chapter "Verifying the host
//! key document".
//!
//! Nothing here goes to the network: revocation lists are files that the caller has fetched.

mod chain;
mod subject;
mod x509;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cloister_crypto::{P521Public, sha256};

use crate::files;
use crate::{HostKeyError, OwnerError};
use x509::Cert;

/// A host-key document: read, not verified.
#[derive(Clone, Debug)]
pub struct Document {
    certificate: Cert,
    key: P521Public,
}

/// What vouches for host-key documents.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// `-C`, `--cert`: the certificate that signs host-key documents, and any intermediate ones.
    pub certificates: Vec<PathBuf>,
    /// `--crl`: revocation lists. One of the signing key and one of every authority above it.
    pub crls: Vec<PathBuf>,
    /// `--root-ca`: the only root to trust. Without it, the roots that the system trusts.
    pub root_ca: Option<PathBuf>,
    /// The moment at which everything must be valid.
    pub time: SystemTime,
}

/// Whether host-key documents are verified.
#[derive(Clone, Debug)]
pub enum Verification {
    /// As the documents' vendor demands; see [`verify`].
    Offline(VerifyOptions),
    /// `--no-verify`: not at all. The user must have said so.
    None,
}

/// Something that the user must be told although the work goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A certificate of a modelled machine is used.
    Model {
        /// Where it comes from.
        file: String,
        /// Its subject.
        subject: String,
    },
    /// The documents were not verified because the user said so.
    NotVerified {
        /// The host-key document.
        file: String,
    },
    /// An image and a request for it name no common host key.
    OtherMachines {
        /// The image.
        image: String,
    },
    /// A key file of the owner's can be read by others.
    ExposedKey {
        /// The file.
        file: String,
        /// Its permission bits.
        mode: u32,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Model { file, subject } => write!(
                f,
                "{file} belongs to a MODEL machine, not to IBM ({subject}): whoever has that machine's \
                 folder can read the guest"
            ),
            Warning::NotVerified { file } => write!(
                f,
                "{file} is not verified (--no-verify): if it is forged, whoever forged it can read the guest"
            ),
            Warning::OtherMachines { image } => write!(
                f,
                "{image} names none of these host keys: unless a machine has the image's key as its backup key, none \
                 of them can both run the image and open the request"
            ),
            Warning::ExposedKey { file, mode } => write!(
                f,
                "{file} holds a key but has mode {mode:04o}; others can read it: run `chmod 600 {file}`"
            ),
        }
    }
}

impl Document {
    /// Reads a document from a PEM or DER file.
    pub fn load(file: &Path) -> Result<Self, OwnerError> {
        Self::parse(&file.display().to_string(), &files::read_small(file)?)
    }

    /// Reads a document from memory; `name` is only for the messages.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, OwnerError> {
        let mut certificates = x509::certificates(name, bytes)?;
        if certificates.len() != 1 {
            return Err(
                HostKeyError::NotOneCertificate { file: name.into(), count: certificates.len() }.into()
            );
        }
        let certificate = certificates.remove(0);
        let key = certificate.p521_key()?;
        Ok(Self { certificate, key })
    }

    /// Where it came from.
    pub fn name(&self) -> &str {
        &self.certificate.file
    }

    /// The machine's public key.
    pub fn key(&self) -> &P521Public {
        &self.key
    }

    /// The hash that identifies the key in images: SHA-256(X ‖ Y), each padded to 80 bytes.
    pub fn phkh(&self) -> [u8; 32] {
        sha256(&self.key.to_padded_xy())
    }

    /// The subject (RFC 4514).
    pub fn subject(&self) -> String {
        self.certificate.subject().to_string()
    }

    /// The warning that goes with a document of a modelled machine.
    pub fn model_warning(&self) -> Option<Warning> {
        self.certificate.model_warning()
    }
}

/// A certificate that vouches for user data. No chain is verified: whether to trust it is the user's decision.
#[derive(Clone, Debug)]
pub struct UserCertificate(Cert);

impl UserCertificate {
    /// Reads one from a PEM or DER file.
    pub fn load(file: &Path) -> Result<Self, OwnerError> {
        Self::parse(&file.display().to_string(), &files::read_small(file)?)
    }

    /// Reads one from memory; `name` is only for the messages.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, OwnerError> {
        let mut certificates = x509::certificates(name, bytes)?;
        if certificates.len() != 1 {
            return Err(
                HostKeyError::NotOneCertificate { file: name.into(), count: certificates.len() }.into()
            );
        }
        Ok(Self(certificates.remove(0)))
    }

    /// Where it came from.
    pub fn name(&self) -> &str {
        &self.0.file
    }

    /// Whether `signature` is one of this key; `None` if the key is not of the kind that the request names.
    pub(crate) fn verify_user_signature(&self, kind: u16, message: &[u8], signature: &[u8]) -> Option<bool> {
        self.0.verify_user_signature(kind, message, signature)
    }
}

/// A named file in memory: its name for the messages, and its contents.
pub type Named<'a> = (&'a str, &'a [u8]);

/// What vouches for host-key documents, in memory; as [`VerifyOptions`].
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The signing certificate and any intermediate ones.
    pub certificates: &'a [Named<'a>],
    /// Revocation lists.
    pub crls: &'a [Named<'a>],
    /// The only root to trust.
    pub root_ca: Named<'a>,
    /// The moment at which everything must be valid.
    pub time: SystemTime,
}

/// Reads the documents of the machines that may have a secret, and verifies them as the user said.
pub fn load(
    files: &[PathBuf],
    verification: &Verification,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<Document>, OwnerError> {
    let documents = files.iter().map(|file| Document::load(file)).collect::<Result<Vec<_>, OwnerError>>()?;
    match verification {
        Verification::Offline(options) => warnings.extend(verify(&documents, options)?),
        Verification::None => {
            for document in &documents {
                warnings.push(Warning::NotVerified { file: document.name().into() });
                warnings.extend(document.model_warning());
            }
        }
    }
    Ok(documents)
}

/// Verifies host-key documents offline. What is returned are warnings; everything that is wrong
/// is an error.
pub fn verify(documents: &[Document], options: &VerifyOptions) -> Result<Vec<Warning>, OwnerError> {
    let read = |file: &Path| Ok::<_, OwnerError>((file.display().to_string(), files::read_small(file)?));
    let mut certificates = Vec::new();
    for file in &options.certificates {
        let (name, bytes) = read(file)?;
        certificates.extend(x509::certificates(&name, &bytes)?);
    }
    let mut crls = Vec::new();
    for file in &options.crls {
        let (name, bytes) = read(file)?;
        crls.extend(x509::crls(&name, &bytes)?);
    }
    let roots = match &options.root_ca {
        Some(file) => {
            let (name, bytes) = read(file)?;
            x509::certificates(&name, &bytes)?
        }
        None => system_roots(SYSTEM_STORES.map(Path::new).into_iter())?,
    };
    let used_system = options.root_ca.is_none();
    chain::Decision { certificates, crls, roots, used_system, time: options.time }.verify(documents)
}

/// As [`verify`], with everything in memory.
pub fn verify_in_memory(documents: &[Document], evidence: &Evidence<'_>) -> Result<Vec<Warning>, OwnerError> {
    let mut certificates = Vec::new();
    for (name, bytes) in evidence.certificates {
        certificates.extend(x509::certificates(name, bytes)?);
    }
    let mut crls = Vec::new();
    for (name, bytes) in evidence.crls {
        crls.extend(x509::crls(name, bytes)?);
    }
    let roots = x509::certificates(evidence.root_ca.0, evidence.root_ca.1)?;
    chain::Decision { certificates, crls, roots, used_system: false, time: evidence.time }.verify(documents)
}

fn system_roots<'a>(stores: impl Iterator<Item = &'a Path>) -> Result<Vec<Cert>, OwnerError> {
    for store in stores {
        if let Ok(bytes) = std::fs::read(store) {
            return Ok(x509::certificates_lenient(&store.display().to_string(), &bytes));
        }
    }
    Err(HostKeyError::NoSystemStore.into())
}

/// Bundles of the common distributions.
const SYSTEM_STORES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Entry for fuzzing: no input makes the readers of certificates and lists panic.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let _ = Document::parse("input", bytes);
    let _ = x509::crls("input", bytes);
}
