//! Keys and requests of this project in the types of `s390_pv`.

use cloister_crypto::P521Secret;
use cloister_formats::s390x::arcb::ArcbFlags;
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private, Public};
use s390_pv::attest::{AttestationFlags, AttestationMeasAlg, AttestationRequest, AttestationVersion};

fn group() -> EcGroup {
    EcGroup::from_curve_name(Nid::SECP521R1).unwrap()
}

/// Our key for OpenSSL.
pub(crate) fn private(secret: &P521Secret) -> PKey<Private> {
    let number = BigNum::from_slice(secret.to_scalar().expose()).unwrap();
    let mut point = EcPoint::new(&group()).unwrap();
    point.mul_generator2(&group(), &number, &mut BigNumContext::new().unwrap()).unwrap();
    PKey::from_ec_key(EcKey::from_private_components(&group(), &number, &point).unwrap()).unwrap()
}

/// Our public key for OpenSSL.
pub(crate) fn public(secret: &P521Secret) -> PKey<Public> {
    PKey::public_key_from_der(&private(secret).public_key_to_der().unwrap()).unwrap()
}

/// Our flags in the peer's type.
pub(crate) fn flags(flags: ArcbFlags) -> AttestationFlags {
    let mut peer = AttestationFlags::default();
    if flags.has(ArcbFlags::IMAGE_PHKH) {
        peer.set_image_phkh();
    }
    if flags.has(ArcbFlags::ATTESTATION_PHKH) {
        peer.set_attest_phkh();
    }
    if flags.has(ArcbFlags::SECRET_STORE_HASH) {
        peer.set_secret_store_hash();
    }
    if flags.has(ArcbFlags::FIRMWARE_STATE) {
        peer.set_firmware_state();
    }
    peer
}

/// A request of the peer's, without host keys.
pub(crate) fn attestation(flags: ArcbFlags) -> AttestationRequest {
    AttestationRequest::new(AttestationVersion::One, AttestationMeasAlg::HmacSha512, self::flags(flags))
        .unwrap()
}
