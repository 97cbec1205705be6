//! Making a request.

use std::path::PathBuf;

use cloister_crypto::{Aes256Gcm, Entropy, P521Public, P521Secret, Secret};
use cloister_formats::s390x::arcb::{Arcb, ArcbFlags, HMAC_SHA512};
use cloister_formats::s390x::attestation::AdditionalData;
use cloister_formats::s390x::exchange::ExchangeRequest;
use cloister_formats::s390x::host_key::{KeyXy, Phkh};
use zeroize::Zeroizing;

use super::AttestError;
use crate::host_key::{self, Verification, Warning};
use crate::{OwnerError, files, seal};

/// The options of `pv attest create`.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// `-k`: the machines that may open the request, at least one.
    pub host_key_documents: Vec<PathBuf>,
    /// `-C`, `--crl`, `--root-ca`, `--offline`; or `--no-verify`.
    pub verification: Verification,
    /// `-o`: the request, an exchange file.
    pub output: PathBuf,
    /// `-a`: where the request's protection key goes; whoever has it can forge answers.
    pub arpk: PathBuf,
    /// `--add-data`: the items that the answer shall have besides the measurement.
    pub additional: ArcbFlags,
    /// Replace existing outputs.
    pub overwrite: bool,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Created {
    /// What the user must be told.
    pub warnings: Vec<Warning>,
    /// The host keys that can open the request.
    pub host_keys: Vec<Phkh>,
    /// Bytes of additional data that an answer will have.
    pub additional_size: usize,
}

/// Everything secret or random of one request. Drawn afresh for each; given only to rebuild known bytes.
#[derive(Clone, Debug)]
pub struct Material {
    /// The request's own key pair.
    pub customer: P521Secret,
    /// The protection key.
    pub arpk: Secret<32>,
    /// Initial value of the sealing.
    pub iv: [u8; 12],
    /// The key of the measurement.
    pub measurement_key: Secret<64>,
    /// Makes answers of two requests differ.
    pub nonce: Secret<16>,
}

impl Material {
    /// Draws everything.
    pub fn draw(entropy: &mut dyn Entropy) -> Self {
        let mut iv = [0; 12];
        entropy.fill(&mut iv);
        Self {
            customer: P521Secret::generate(entropy),
            arpk: Secret::generate(entropy),
            iv,
            measurement_key: Secret::generate(entropy),
            nonce: Secret::generate(entropy),
        }
    }
}

/// Makes a request file and its key file.
pub fn create(options: &CreateOptions, entropy: &mut dyn Entropy) -> Result<Created, OwnerError> {
    if options.output == options.arpk {
        return Err(AttestError::Options("-o and -a name the same file; the key must stay with you").into());
    }
    files::refuse_existing(&options.output, options.overwrite)?;
    files::refuse_existing(&options.arpk, options.overwrite)?;
    let mut warnings = Vec::new();
    let documents = host_key::load(&options.host_key_documents, &options.verification, &mut warnings)?;
    let host_keys: Vec<_> = documents.iter().map(|document| *document.key()).collect();
    let (arcb, arpk) = request(&host_keys, options.additional, entropy)?;
    let additional_size = AdditionalData::size(arcb.flags);
    let exchange = ExchangeRequest::new(arcb.encode(), additional_size as u32);
    // The key first: a request without its key is worthless, and would be sent on unawares.
    files::write(&options.arpk, 0o600, arpk.expose(), options.overwrite)?;
    files::write(&options.output, 0o644, &exchange.encode(), options.overwrite)?;
    Ok(Created { warnings, host_keys: arcb.slots.iter().map(|slot| slot.phkh).collect(), additional_size })
}

/// Makes a request in memory, with its protection key. The host keys are the caller's to verify.
pub fn request(
    host_keys: &[P521Public],
    additional: ArcbFlags,
    entropy: &mut dyn Entropy,
) -> Result<(Arcb, Secret<32>), AttestError> {
    let material = Material::draw(entropy);
    Ok((request_with(host_keys, additional, &material)?, material.arpk))
}

/// Makes the request that follows from `material`.
pub fn request_with(
    host_keys: &[P521Public],
    additional: ArcbFlags,
    material: &Material,
) -> Result<Arcb, AttestError> {
    match host_keys.len() {
        0 => return Err(AttestError::NoHostKey),
        1..=255 => {}
        count => return Err(AttestError::TooManyHostKeys(count)),
    }
    let internal = |_| AttestError::Internal("a seal of a few bytes failed");
    let mut area = Zeroizing::new([0; 80]);
    area[..64].copy_from_slice(material.measurement_key.expose());
    area[64..].copy_from_slice(material.nonce.expose());
    let mut arcb = Arcb {
        iv: material.iv,
        flags: ArcbFlags(additional.0 | ArcbFlags::NONCE.0),
        algorithm: HMAC_SHA512,
        customer_key: KeyXy(material.customer.public().to_padded_xy()),
        slots: seal::slots(&material.customer, &material.arpk, host_keys).map_err(internal)?,
        // The size is part of what is authenticated.
        encrypted_area: vec![0; area.len()],
        tag: [0; 16],
    };
    let cipher = Aes256Gcm::new(&material.arpk);
    arcb.tag = cipher.seal(&arcb.iv, &arcb.aad(), &mut area[..]).map_err(internal)?;
    arcb.encrypted_area.copy_from_slice(&area[..]);
    Ok(arcb)
}
