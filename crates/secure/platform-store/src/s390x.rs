//! The identity of a modelled IBM Z machine: host keys and the chain that vouches for them.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cloister_crypto::{Entropy, P521Public, P521Secret, sha256};
use der::DecodePem;
use p521::pkcs8::EncodePrivateKey;
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use zeroize::Zeroizing;

use crate::certificates::{Authority, Period};
use crate::config::{PlatformConfig, Target};
use crate::platform::of_target;
use crate::{PlatformError, files};

/// The sentence that goes with everything made here.
pub const MODEL_NOTICE: &str = "MODEL identity, not IBM: it protects nobody from the administrator of the \
     machine that runs it. Use it for tests and development only.";

/// What [`create_s390x`] makes.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// A backup host key beside the host key (the second entry of the Query Keys call).
    pub backup_key: bool,
    /// How many further identities of the same chain, as `host-2`, `host-3` and so on: for images
    /// that are to run on several machines.
    pub further_identities: u8,
    /// A host-key document that the chain's revocation list names, as `revoked`: a verifier must
    /// refuse it.
    pub revoked_identity: bool,
    /// How many days everything is valid.
    pub validity_days: u32,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self { backup_key: false, further_identities: 0, revoked_identity: false, validity_days: 3650 }
    }
}

/// One host key with its document.
#[derive(Clone, Debug)]
pub struct HostKey {
    /// The stem of its file names: `host`, `backup`, `host-2`, `revoked`.
    pub name: String,
    /// The private key.
    pub secret: P521Secret,
    /// The host-key document, PEM.
    pub document: String,
}

impl HostKey {
    /// The host-key hash that images and Query Keys use: SHA-256(X ‖ Y), each padded to 80 bytes.
    pub fn phkh(&self) -> [u8; 32] {
        phkh(&self.secret.public())
    }
}

/// Everything that makes the identity of a modelled Z machine.
#[derive(Clone, Debug)]
pub struct S390xMaterial {
    /// The machine's host key.
    pub host: HostKey,
    /// The backup host key.
    pub backup: Option<HostKey>,
    /// Further identities of the same chain; the machine itself does not use them.
    pub further: Vec<HostKey>,
    /// The root certificate, PEM.
    pub root_certificate: String,
    /// The certificate that signs host-key documents, PEM.
    pub signing_certificate: String,
    /// The root's revocation list, PEM.
    pub root_crl: String,
    /// The signing key's revocation list, PEM.
    pub signing_crl: String,
}

impl S390xMaterial {
    /// Makes a new identity, in memory only. The authorities' keys are dropped at the end: nothing
    /// can be added to the chain later.
    pub fn generate(
        options: &CreateOptions,
        entropy: &mut dyn Entropy,
        now: SystemTime,
    ) -> Result<Self, PlatformError> {
        if options.validity_days == 0 {
            return Err(PlatformError::Options("a validity of 0 days would be expired at once"));
        }
        let period = Period::starting(now, options.validity_days)?;
        let root = Authority::root(period, entropy)?;
        let signing = Authority::signing(&root, period, entropy)?;
        let mut identity = |name: String| -> Result<_, PlatformError> {
            let secret = P521Secret::generate(entropy);
            let issued = signing.host_key_document(&secret.public(), period, entropy)?;
            Ok((HostKey { name, secret, document: issued.pem }, issued.serial))
        };
        let (host, _) = identity("host".into())?;
        let backup = match options.backup_key {
            true => Some(identity("backup".into())?.0),
            false => None,
        };
        let mut further = Vec::new();
        for index in 0..options.further_identities {
            further.push(identity(format!("host-{}", u16::from(index) + 2))?.0);
        }
        let mut revoked = Vec::new();
        if options.revoked_identity {
            let (key, serial) = identity("revoked".into())?;
            further.push(key);
            revoked.push(serial);
        }
        Ok(Self {
            host,
            backup,
            further,
            root_crl: root.revocation_list(&[], period)?,
            signing_crl: signing.revocation_list(&revoked, period)?,
            root_certificate: root.certificate,
            signing_certificate: signing.certificate,
        })
    }

    /// All host keys, the machine's own first.
    pub fn identities(&self) -> impl Iterator<Item = &HostKey> {
        std::iter::once(&self.host).chain(&self.backup).chain(&self.further)
    }

    /// Reads the identity of the platform in `folder`.
    pub(crate) fn read(folder: &Path) -> Result<Self, PlatformError> {
        let optional = |name: &str| match folder.join(format!("{name}.key")).exists() {
            true => read_host_key(folder, name).map(Some),
            false => Ok(None),
        };
        let mut further = Vec::new();
        for index in 2..=256u16 {
            match optional(&format!("host-{index}"))? {
                Some(key) => further.push(key),
                None => break,
            }
        }
        further.extend(optional("revoked")?);
        Ok(Self {
            host: read_host_key(folder, "host")?,
            backup: optional("backup")?,
            further,
            root_certificate: files::read(&folder.join(ROOT_CERTIFICATE))?,
            signing_certificate: files::read(&folder.join(SIGNING_CERTIFICATE))?,
            root_crl: files::read(&folder.join(ROOT_CRL))?,
            signing_crl: files::read(&folder.join(SIGNING_CRL))?,
        })
    }

    fn files(&self) -> Result<Vec<files::NewFile>, PlatformError> {
        let mut list = Vec::new();
        for key in self.identities() {
            let pem = key.secret.as_key().to_pkcs8_pem(der::pem::LineEnding::LF).map_err(|error| {
                PlatformError::Certificate { what: "private key file", reason: error.to_string() }
            })?;
            let pem = Zeroizing::new(pem.as_bytes().to_vec());
            list.push((format!("{}.key", key.name), pem, 0o600));
            let document = Zeroizing::new(key.document.clone().into_bytes());
            list.push((format!("{}.crt", key.name), document, 0o644));
        }
        for (name, text) in [
            (ROOT_CERTIFICATE, &self.root_certificate),
            (SIGNING_CERTIFICATE, &self.signing_certificate),
            (ROOT_CRL, &self.root_crl),
            (SIGNING_CRL, &self.signing_crl),
        ] {
            list.push((name.into(), Zeroizing::new(text.clone().into_bytes()), 0o644));
        }
        Ok(list)
    }
}

/// Creates the platform of a modelled Z machine in `folder`, which is made if it is absent.
///
/// `platform.toml` is written last and makes the folder a platform. Nothing that exists is ever
/// overwritten; after a failure nothing that this call wrote remains.
pub fn create_s390x(
    folder: &Path,
    options: &CreateOptions,
    entropy: &mut dyn Entropy,
    now: SystemTime,
) -> Result<Summary, PlatformError> {
    let material = S390xMaterial::generate(options, entropy, now)?;
    let mut contents = material.files()?;
    let config = PlatformConfig::new(Target::S390x).to_toml();
    contents.push((files::CONFIG.into(), Zeroizing::new(config.into_bytes()), 0o644));
    files::create_all(folder, &contents)?;
    show(folder)
}

/// What a person wants to know about a platform folder; see [`show`].
#[derive(Clone, Debug)]
pub struct Summary {
    /// The folder.
    pub folder: PathBuf,
    /// The switches.
    pub config: PlatformConfig,
    /// Host-key documents, then signing certificate and root.
    pub certificates: Vec<CertificateSummary>,
    /// The revocation lists.
    pub revocation_lists: Vec<PathBuf>,
    /// The sentence to print with it: [`MODEL_NOTICE`].
    pub notice: &'static str,
}

/// One certificate of a platform folder.
#[derive(Clone, Debug)]
pub struct CertificateSummary {
    /// Its file.
    pub file: PathBuf,
    /// The private key that belongs to it, if the folder has it.
    pub key_file: Option<PathBuf>,
    /// Its subject (RFC 4514).
    pub subject: String,
    /// Its issuer (RFC 4514).
    pub issuer: String,
    /// Start of its validity, as `2026-11-20T08:51:30Z`.
    pub not_before: String,
    /// End of its validity.
    pub not_after: String,
    /// The host-key hash, for host-key documents.
    pub phkh: Option<[u8; 32]>,
    /// Whether a revocation list of the folder names it.
    pub revoked: bool,
}

/// Describes a platform without taking it into use: no lock, and no private key is read.
pub fn show(folder: &Path) -> Result<Summary, PlatformError> {
    let config_file = folder.join(files::CONFIG);
    let config = PlatformConfig::parse(&files::read(&config_file)?, &config_file)?;
    of_target(folder, &config, Target::S390x)?;
    let mut revoked = Vec::new();
    let mut revocation_lists = Vec::new();
    for name in [ROOT_CRL, SIGNING_CRL] {
        let file = folder.join(name);
        let list = CertificateList::<x509_cert::certificate::Rfc5280>::from_pem(files::read(&file)?)
            .map_err(damaged(&file))?
            .tbs_cert_list;
        let entries = list.revoked_certificates.unwrap_or_default();
        revoked.extend(entries.into_iter().map(|entry| (list.issuer.clone(), entry.serial_number)));
        revocation_lists.push(file);
    }
    let further = (2..=256u16).map(|index| format!("host-{index}"));
    let further = further.take_while(|name| folder.join(format!("{name}.crt")).exists());
    let mut names = vec!["host".to_owned()];
    names.extend(["backup", "revoked"].map(str::to_owned));
    names.extend(further);
    let chain = [SIGNING_CERTIFICATE, ROOT_CERTIFICATE].map(|name| folder.join(name));
    let documents = names.iter().map(|name| folder.join(format!("{name}.crt")));
    let mut certificates = Vec::new();
    for file in documents.filter(|file| file.ends_with("host.crt") || file.exists()).chain(chain) {
        let certificate =
            Certificate::from_pem(files::read(&file)?).map_err(damaged(&file))?.tbs_certificate().clone();
        let point = certificate.subject_public_key_info().subject_public_key.raw_bytes();
        let key_file = file.with_extension("key");
        let validity = certificate.validity();
        certificates.push(CertificateSummary {
            key_file: key_file.exists().then_some(key_file),
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            not_before: validity.not_before.to_date_time().to_string(),
            not_after: validity.not_after.to_date_time().to_string(),
            phkh: P521Public::from_sec1(point).ok().map(|key| phkh(&key)),
            revoked: revoked.contains(&(certificate.issuer().clone(), certificate.serial_number().clone())),
            file,
        });
    }
    Ok(Summary { folder: folder.into(), config, certificates, revocation_lists, notice: MODEL_NOTICE })
}

fn read_host_key(folder: &Path, name: &str) -> Result<HostKey, PlatformError> {
    let key_file = folder.join(format!("{name}.key"));
    let text = files::read_key(&key_file)?;
    // PKCS #8 is what we write; SEC 1 is what `openssl ecparam` writes.
    let secret: P521Secret = p521::SecretKey::from_pem(&text)
        .or_else(|_| p521::SecretKey::from_sec1_pem(&text))
        .map_err(|_| "it holds no P-521 private key in PEM form")
        .map_err(damaged(&key_file))?
        .into();
    let file = folder.join(format!("{name}.crt"));
    let document = files::read(&file)?;
    let certificate = Certificate::from_pem(&document).map_err(damaged(&file))?;
    let info = certificate.tbs_certificate().subject_public_key_info();
    let same =
        P521Public::from_sec1(info.subject_public_key.raw_bytes()).is_ok_and(|key| key == secret.public());
    if !same {
        return Err(damaged(&file)("its public key is not that of the private key beside it"));
    }
    Ok(HostKey { name: name.into(), secret, document })
}

fn damaged<E: ToString>(file: &Path) -> impl FnOnce(E) -> PlatformError {
    move |error| PlatformError::Damaged { file: file.into(), reason: error.to_string() }
}

fn phkh(key: &P521Public) -> [u8; 32] {
    sha256(&key.to_padded_xy())
}

const ROOT_CERTIFICATE: &str = "root-ca.crt";
const SIGNING_CERTIFICATE: &str = "signing.crt";
const ROOT_CRL: &str = "root-ca.crl";
const SIGNING_CRL: &str = "signing.crl";
