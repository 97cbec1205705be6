//! The SE header's cryptography: slots, sealed area.

use cloister_crypto::{Aes256Gcm, Entropy, P521Public, P521Secret, Secret};
use cloister_formats::s390x::host_key::KeyXy;
use cloister_formats::s390x::se_header::{Pcf, SeHeader, SecretArea};
use zeroize::Zeroizing;

use super::Keys;
use super::payload::Digests;
use crate::{ImageError, seal};

/// Everything secret or random of one image.
pub(super) struct Material {
    pub(super) customer: P521Secret,
    pub(super) header_key: Secret<32>,
    pub(super) header_iv: [u8; 12],
    pub(super) image_key: Secret<64>,
    pub(super) cck: Secret<32>,
}

impl Material {
    pub(super) fn draw(keys: &Keys, entropy: &mut dyn Entropy) -> Self {
        let customer = P521Secret::generate(entropy);
        let mut header_iv = [0; 12];
        entropy.fill(&mut header_iv);
        Self {
            customer,
            header_key: keys.header_key.clone().unwrap_or_else(|| Secret::generate(entropy)),
            header_iv,
            image_key: keys.image_key.clone().unwrap_or_else(|| Secret::generate(entropy)),
            cck: keys.cck.clone().unwrap_or_else(|| Secret::generate(entropy)),
        }
    }
}

/// What the header says besides keys.
pub(super) struct Statement {
    pub(super) digests: Digests,
    pub(super) pages: u64,
    pub(super) pcf: Pcf,
    pub(super) scf: u64,
    pub(super) psw_mask: u64,
    pub(super) psw_addr: u64,
}

/// Makes the header.
pub(super) fn seal_header(
    material: &Material,
    host_keys: &[P521Public],
    statement: &Statement,
) -> Result<SeHeader, ImageError> {
    let area = SecretArea {
        cck: *material.cck.expose(),
        xts_key: *material.image_key.expose(),
        psw_mask: statement.psw_mask,
        psw_addr: statement.psw_addr,
        scf: statement.scf,
        optional_items: 0,
        reserved: 0,
        items: Vec::new(),
    };
    let mut area = Zeroizing::new(area.encode());
    let mut header = SeHeader {
        iv: material.header_iv,
        reserved: 0,
        encrypted_pages: statement.pages,
        pcf: statement.pcf,
        customer_key: KeyXy(material.customer.public().to_padded_xy()),
        pld: statement.digests.pld,
        ald: statement.digests.ald,
        tld: statement.digests.tld,
        slots: seal::slots(&material.customer, &material.header_key, host_keys)
            .map_err(ImageError::crypto)?,
        // The size is part of what is authenticated.
        encrypted_area: vec![0; area.len()],
        tag: [0; 16],
    };
    let cipher = Aes256Gcm::new(&material.header_key);
    header.tag = cipher.seal(&header.iv, &header.aad(), &mut area).map_err(ImageError::crypto)?;
    header.encrypted_area.copy_from_slice(&area);
    Ok(header)
}

/// Opens the sealed area of a header with the header's key, and so proves that no bit of the header
/// was altered.
pub fn open_header(header: &SeHeader, key: &Secret<32>) -> Result<SecretArea, ImageError> {
    let mut area = Zeroizing::new(header.encrypted_area.clone());
    Aes256Gcm::new(key)
        .open(&header.iv, &header.aad(), &mut area, &header.tag)
        .map_err(|_| ImageError::HeaderAuthentication)?;
    SecretArea::parse(&area).map_err(ImageError::format)
}
