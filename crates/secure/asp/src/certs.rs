//! Certificates as the firmware issues and checks them.

use cloister_crypto::{EcdsaHash, Entropy, P384Public, P384Secret, P384Signature, RsaPublic};
use cloister_formats::sev::amd_root::AmdCertificate;
use cloister_formats::sev::certificate::{Algo, Certificate, EccKey, Slot, SlotFault, Usage};
use cloister_formats::sev::status::Status;

use crate::identity::digest_of;

/// A key of the platform with its certificate. An owner's OCA has no private key here.
#[derive(Clone)]
pub(crate) struct Key<S = P384Secret> {
    pub(crate) secret: S,
    pub(crate) certificate: Certificate,
}

impl Key {
    /// Draws a key and issues its certificate, not yet signed.
    pub(crate) fn generate(entropy: &mut dyn Entropy, api: (u8, u8), usage: Usage) -> Self {
        let algo = if usage == Usage::PDH { Algo::ECDH_SHA256 } else { Algo::ECDSA_SHA256 };
        let secret = P384Secret::generate(entropy);
        let (x, y) = secret.public().to_xy();
        Self { certificate: Certificate::new(api, usage, algo, &EccKey::p384(&x, &y)), secret }
    }
}

/// Signs a certificate into a slot.
pub(crate) fn sign(certificate: &mut Certificate, slot: usize, signer: Usage, key: &P384Secret) {
    let (r, s) = key.sign(EcdsaHash::Sha256, certificate.signed_bytes()).to_le_fields();
    certificate.set_slot(slot, &Slot::ecdsa(signer, Algo::ECDSA_SHA256, &r, &s));
}

/// The public key of a certificate of version 1.
pub(crate) fn public_key(certificate: &Certificate) -> Result<P384Public, Status> {
    let (x, y) = certificate.p384_key().map_err(|_| Status::INVALID_CERTIFICATE)?;
    P384Public::from_xy(&x, &y).map_err(|_| Status::INVALID_CERTIFICATE)
}

/// What is demanded of the certificate of the other end of a channel. Its signatures are not looked at.
pub(crate) fn check_peer(certificate: &Certificate) -> Result<P384Public, Status> {
    certificate.check_owner().map_err(|_| Status::INVALID_CERTIFICATE)?;
    public_key(certificate)
}

/// Checks a certificate against the platform key that should have signed it.
///
/// Slots are visited in order and the last one that names the signer decides; version, key and the pair of usages are
/// looked at only after the signature.
pub(crate) fn verify(certificate: &Certificate, signer: &Certificate) -> Result<(), Status> {
    let hash = match signer.algo() {
        Algo::ECDSA_SHA256 => Some(EcdsaHash::Sha256),
        Algo::ECDSA_SHA384 => Some(EcdsaHash::Sha384),
        _ => None,
    };
    let key = public_key(signer).ok();
    verify_by(certificate, signer.usage(), signer.algo(), |slot| {
        let (Some(key), Some(hash)) = (&key, hash) else { return false };
        let (r, s) = slot.r_s();
        P384Signature::from_le_fields(&r, &s)
            .is_ok_and(|signature| key.verify(hash, certificate.signed_bytes(), &signature).is_ok())
    })
}

/// Checks a CEK against the ASK.
pub(crate) fn verify_by_ask(cek: &Certificate, ask: &AmdCertificate) -> Result<(), Status> {
    verify_by(cek, ask.usage(), ask.generation().algo(), |slot| {
        // Bytes of the slot behind the number are not looked at.
        let signature = &slot.data[..ask.generation().number_size()];
        rsa_fits(ask, cek.signed_bytes(), signature)
    })
}

/// Checks a maker's certificate against its signer.
pub(crate) fn verify_amd(certificate: &AmdCertificate, signer: &AmdCertificate) -> Result<(), Status> {
    if rsa_fits(signer, certificate.signed_bytes(), certificate.signature()) {
        Ok(())
    } else {
        Err(Status::BAD_SIGNATURE)
    }
}

fn verify_by(
    certificate: &Certificate,
    usage: Usage,
    algo: Algo,
    fits: impl Fn(&Slot) -> bool,
) -> Result<(), Status> {
    let slots = certificate.slots_of(usage, algo).map_err(|fault| match fault {
        SlotFault::HalfEmpty(_) => Status::BAD_SIGNATURE,
        SlotFault::NoneMatches { .. } => Status::INVALID_CERTIFICATE,
    })?;
    if slots.iter().fold(false, |_, slot| fits(slot)) {
        certificate.check_version().map_err(|_| Status::INVALID_CERTIFICATE)?;
        public_key(certificate)?;
        if Certificate::signers(certificate.usage()).contains(&usage) {
            return Ok(());
        }
        return Err(Status::INVALID_CERTIFICATE);
    }
    Err(Status::BAD_SIGNATURE)
}

fn rsa_fits(signer: &AmdCertificate, message: &[u8], signature: &[u8]) -> bool {
    RsaPublic::from_le(signer.modulus(), signer.exponent())
        .is_ok_and(|key| key.verify_pss(digest_of(signer.generation()), message, signature).is_ok())
}
