//! Making a request.

use std::path::{Path, PathBuf};

use cloister_crypto::{Aes256Gcm, Entropy, P521Public, P521Secret, Secret, hkdf_sha512};
use cloister_formats::s390x::asrcb::{Asrcb, FLAG_DISABLE_DUMP};
use cloister_formats::s390x::host_key::{KeyXy, Phkh};
use cloister_formats::s390x::se_header::SeHeader;
use zeroize::Zeroizing;

use super::{GuestSecret, KeyType, RetrievableKey, SecretError, SecretName, SigningKey, UserData};
use crate::attest::{config_uid_in, read_header};
use crate::host_key::{self, Verification, Warning};
use crate::{OwnerError, files, seal};

/// The options of `pv secret create`.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// `-k`: the machines that may open the request, at least one.
    pub host_key_documents: Vec<PathBuf>,
    /// `-C`, `--crl`, `--root-ca`, `--offline`; or `--no-verify`.
    pub verification: Verification,
    /// `--hdr`: the image that may have the secret, or its bare header.
    pub header: PathBuf,
    /// `-o`: the request.
    pub output: PathBuf,
    /// `--extension-secret`: 32 bytes that all requests of a guest must share.
    pub extension_secret: Option<PathBuf>,
    /// `--cck`: derive them from the image's customer communication key instead.
    pub cck: Option<PathBuf>,
    /// `--cuid`: the one configuration that may have the secret.
    pub config_uid: Option<PathBuf>,
    /// `--cuid-hex`: the same in hexadecimal.
    pub config_uid_hex: Option<[u8; 16]>,
    /// `--flags disable-dump`.
    pub disable_dump: bool,
    /// `--user-data`.
    pub user_data: Option<PathBuf>,
    /// `--user-sign-key`.
    pub user_sign_key: Option<PathBuf>,
    /// `--use-name`: the name is the identifier.
    pub use_name: bool,
    /// `-f`: also inside a Secure Execution guest.
    pub force: bool,
    /// Replace existing outputs.
    pub overwrite: bool,
    /// What the secret is.
    pub input: Input,
}

/// What the secret is, and where it comes from.
#[derive(Clone, Debug)]
pub enum Input {
    /// `meta`.
    Meta,
    /// `association`.
    Association {
        /// Its name.
        name: String,
        /// `--input-secret`; drawn if absent.
        input: Option<PathBuf>,
        /// `--output-secret`: where the secret is kept in the clear.
        output: Option<PathBuf>,
        /// Where name and identifier go, if they go to a file.
        listing: Option<PathBuf>,
    },
    /// `retrievable`.
    Retrievable {
        /// Its name.
        name: String,
        /// `--secret`.
        secret: PathBuf,
        /// `--type`.
        kind: KeyType,
        /// Where name and identifier go, if they go to a file.
        listing: Option<PathBuf>,
    },
    /// `update-cck`.
    UpdateCck {
        /// `--secret`.
        secret: PathBuf,
    },
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Created {
    /// What the user must be told.
    pub warnings: Vec<Warning>,
    /// The host keys that can open the request.
    pub host_keys: Vec<Phkh>,
    /// Name and identifier, of secrets that have them, as YAML.
    pub listing: Option<String>,
    /// Tag of the request: it goes into the hash of the secret store.
    pub tag: [u8; 16],
}

/// The extension secret of a request.
#[derive(Clone, Debug, Default)]
pub enum ExtensionSecret {
    /// Zeros.
    #[default]
    None,
    /// Fixed by the first request of a guest, the same in all others.
    Simple(Secret<32>),
    /// Derived from the image's customer communication key.
    Cck(Secret<32>),
}

/// A request in memory, not yet sealed.
#[derive(Clone, Debug)]
pub struct Request {
    /// The secret.
    pub secret: GuestSecret,
    /// The extension secret.
    pub extension: ExtensionSecret,
    /// The one configuration that may have it.
    pub config_uid: Option<[u8; 16]>,
    /// Forbid dumps of the guest from then on.
    pub disable_dump: bool,
    /// User data.
    pub user_data: UserData,
}

/// Everything random of one request. Drawn afresh for each; given only to rebuild known bytes.
#[derive(Clone, Debug)]
pub struct Material {
    /// The request's own key pair.
    pub customer: P521Secret,
    /// The key that seals the request.
    pub key: Secret<32>,
    /// Initial value of the sealing.
    pub iv: [u8; 12],
}

impl Material {
    /// Draws everything.
    pub fn draw(entropy: &mut dyn Entropy) -> Self {
        let mut iv = [0; 12];
        entropy.fill(&mut iv);
        Self { customer: P521Secret::generate(entropy), key: Secret::generate(entropy), iv }
    }
}

/// Makes a request file, and the files that go with it.
pub fn create(options: &CreateOptions, entropy: &mut dyn Entropy) -> Result<Created, OwnerError> {
    if !options.force && inside_guest() {
        return Err(SecretError::InsideGuest.into());
    }
    files::refuse_existing(&options.output, options.overwrite)?;
    let mut warnings = Vec::new();
    let documents = host_key::load(&options.host_key_documents, &options.verification, &mut warnings)?;
    let host_keys: Vec<_> = documents.iter().map(|document| *document.key()).collect();
    let header = read_header(&options.header)?;
    let (secret, listing_file, keep) = read_secret(options, entropy, &mut warnings)?;
    let request = Request {
        config_uid: config_uid(options)?,
        disable_dump: options.disable_dump,
        extension: extension(options, &mut warnings)?,
        user_data: user_data(options, &mut warnings)?,
        secret,
    };
    let asrcb = self::request(&host_keys, &header, &request, entropy)?;
    if asrcb.slots.iter().all(|slot| header.slots.iter().all(|other| other.phkh != slot.phkh)) {
        warnings.push(Warning::OtherMachines { image: options.header.display().to_string() });
    }
    for file in [listing_file, keep].into_iter().flatten() {
        files::refuse_existing(file, options.overwrite)?;
    }
    if let Some(file) = keep {
        files::write(file, 0o600, request.secret.bytes(), options.overwrite)?;
    }
    let listing = request.secret.name().map(|name| listing(name, request.secret.kind().name()));
    if let (Some(file), Some(text)) = (listing_file, &listing) {
        files::write(file, 0o644, text.as_bytes(), options.overwrite)?;
    }
    files::write(&options.output, 0o644, &asrcb.encode(), options.overwrite)?;
    Ok(Created {
        warnings,
        host_keys: asrcb.slots.iter().map(|slot| slot.phkh).collect(),
        listing,
        tag: asrcb.tag,
    })
}

/// Makes a request in memory for the image with `header`. The host keys are the caller's to verify.
pub fn request(
    host_keys: &[P521Public],
    header: &SeHeader,
    request: &Request,
    entropy: &mut dyn Entropy,
) -> Result<Asrcb, SecretError> {
    request_with(host_keys, header, request, &Material::draw(entropy))
}

/// Makes the request that follows from `material`.
pub fn request_with(
    host_keys: &[P521Public],
    header: &SeHeader,
    request: &Request,
    material: &Material,
) -> Result<Asrcb, SecretError> {
    match host_keys.len() {
        0 => return Err(SecretError::NoHostKey),
        1..=255 => {}
        count => return Err(SecretError::TooManyHostKeys(count)),
    }
    let slots = seal::slots(&material.customer, &material.key, host_keys).map_err(SecretError::crypto)?;
    let extension = match &request.extension {
        ExtensionSecret::None => Secret::default(),
        ExtensionSecret::Simple(secret) => secret.clone(),
        ExtensionSecret::Cck(cck) => extension_from_cck(cck, &header.tag),
    };
    let mut area = Zeroizing::new(Vec::with_capacity(request.secret.bytes().len() + 32));
    area.extend_from_slice(request.secret.bytes());
    area.extend_from_slice(extension.expose());
    let mut asrcb = Asrcb {
        user_data_kind: request.user_data.layout().0,
        iv: material.iv,
        flags: if request.disable_dump { FLAG_DISABLE_DUMP } else { 0 },
        pld: header.pld,
        ald: header.ald,
        tld: header.tld,
        se_tag: header.tag,
        config_uid: request.config_uid.unwrap_or_default(),
        user_data: request.user_data.field()?,
        customer_key: KeyXy(material.customer.public().to_padded_xy()),
        slots,
        secret: request.secret.header(),
        // The size is part of what is authenticated.
        encrypted_area: vec![0; area.len()],
        tag: [0; 16],
    };
    let cipher = Aes256Gcm::new(&material.key);
    let seal = |asrcb: &Asrcb, area: &mut [u8]| {
        cipher.seal(&asrcb.iv, &asrcb.aad(), area).map_err(SecretError::crypto)
    };
    if let UserData::Signed(..) = request.user_data {
        // The signature covers the sealed secret, and the tag covers the signature: so seal, sign, and seal once
        // more. The first tag is never shown.
        let mut sealed = area.clone();
        seal(&asrcb, &mut sealed)?;
        let message = [asrcb.aad(), sealed.to_vec()].concat();
        request.user_data.sign(&message, &mut asrcb.user_data)?;
    }
    asrcb.tag = seal(&asrcb, &mut area)?;
    asrcb.encrypted_area.copy_from_slice(&area);
    Ok(asrcb)
}

/// The extension secret that an image with its flag demands: only who knows the CCK can make it.
pub fn extension_from_cck(cck: &Secret<32>, header_tag: &[u8; 16]) -> Secret<32> {
    hkdf_sha512(cck.expose(), header_tag, b"IBM Z Ultravisor Add-Secret")
}

/// The secret, the file for its name, and the file that keeps it in the clear.
type ReadSecret<'a> = (GuestSecret, Option<&'a Path>, Option<&'a Path>);

fn read_secret<'a>(
    options: &'a CreateOptions,
    entropy: &mut dyn Entropy,
    warnings: &mut Vec<Warning>,
) -> Result<ReadSecret<'a>, OwnerError> {
    let named = |name: &str| match options.use_name {
        true => SecretName::as_it_is(name),
        false => Ok(SecretName::hashed(name)),
    };
    Ok(match &options.input {
        Input::Meta => (GuestSecret::Meta, None, None),
        Input::Association { name, input, output, listing } => {
            let name = named(name)?;
            let secret = match files::read_key(input.as_deref(), warnings)? {
                Some(secret) => secret,
                None => Secret::generate(entropy),
            };
            (GuestSecret::Association { name, secret }, listing.as_deref(), output.as_deref())
        }
        Input::Retrievable { name, secret, kind, listing } => {
            let name = named(name)?;
            let file = Zeroizing::new(files::read_limited(secret, MAX_SECRET_FILE, "secret")?);
            let key = RetrievableKey::new(*kind, &secret.display().to_string(), &file)?;
            (GuestSecret::Retrievable { name, key }, listing.as_deref(), None)
        }
        Input::UpdateCck { secret } => (GuestSecret::UpdateCck(key(secret, warnings)?), None, None),
    })
}

fn extension(options: &CreateOptions, warnings: &mut Vec<Warning>) -> Result<ExtensionSecret, OwnerError> {
    Ok(match (&options.extension_secret, &options.cck) {
        (None, None) => ExtensionSecret::None,
        (Some(file), None) => ExtensionSecret::Simple(key(file, warnings)?),
        (None, Some(file)) => ExtensionSecret::Cck(key(file, warnings)?),
        (Some(_), Some(_)) => {
            return Err(SecretError::Options("--extension-secret and --cck exclude each other").into());
        }
    })
}

fn config_uid(options: &CreateOptions) -> Result<Option<[u8; 16]>, OwnerError> {
    match (&options.config_uid, options.config_uid_hex) {
        (None, uid) => Ok(uid),
        (Some(file), None) => {
            let bytes = files::read_limited(file, 64 << 10, "configuration's identity")?;
            Ok(Some(config_uid_in(&bytes).ok_or_else(|| SecretError::ConfigUid(file.clone()))?))
        }
        (Some(_), Some(_)) => Err(SecretError::Options("--cuid and --cuid-hex exclude each other").into()),
    }
}

fn user_data(options: &CreateOptions, warnings: &mut Vec<Warning>) -> Result<UserData, OwnerError> {
    let data = match &options.user_data {
        Some(file) => Some(files::read_limited(file, 512, "user data of a request")?),
        None => None,
    };
    let Some(file) = &options.user_sign_key else {
        return Ok(data.map_or(UserData::None, UserData::Unsigned));
    };
    files::warn_if_exposed(file, warnings)?;
    let bytes = Zeroizing::new(files::read_limited(file, 64 << 10, "private key")?);
    let key = SigningKey::parse(&file.display().to_string(), &bytes)?;
    Ok(UserData::Signed(data.unwrap_or_default(), key))
}

fn key(file: &Path, warnings: &mut Vec<Warning>) -> Result<Secret<32>, OwnerError> {
    files::read_key(Some(file), warnings)?
        .ok_or_else(|| SecretError::Internal("a file that was named is there or an error").into())
}

/// What `pvsecret retrieve` and `pvapconfig` read to find the secret.
fn listing(name: &SecretName, kind: &str) -> String {
    use crate::attest::yaml::{entry, quoted};
    let mut out = format!("# {kind}\nname: {}\n", quoted(name.text()));
    entry(&mut out, 0, "id", name.id());
    out
}

/// Linux, /sys/firmware/uv.
fn inside_guest() -> bool {
    std::fs::read("/sys/firmware/uv/prot_virt_guest").is_ok_and(|text| text.first() == Some(&b'1'))
}

/// Plain text, and PEM files with explanations around the key.
const MAX_SECRET_FILE: u64 = 64 << 10;
