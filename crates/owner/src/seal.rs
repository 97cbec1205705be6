//! Request keys wrapped for machines: the key slots of SE headers, attestation and add-secret requests.
//!
//! Whether a host key belongs to a machine that may open the request is decided in [`crate::host_key`].

use cloister_crypto::{Aes256Gcm, Error, P521Public, P521Secret, Secret, sha256, x963_kdf_sha256};
use cloister_formats::s390x::host_key::{KeySlot, Phkh};

/// One slot for each host key.
pub(crate) fn slots(
    customer: &P521Secret,
    request_key: &Secret<32>,
    host_keys: &[P521Public],
) -> Result<Vec<KeySlot>, Error> {
    host_keys.iter().map(|host_key| slot(customer, request_key, host_key)).collect()
}

/// The slot through which the machine with `host_key` finds the request's key: AES-256-GCM under a key agreed
/// with it. The key seals this one message, so the zero IV is sound.
fn slot(customer: &P521Secret, request_key: &Secret<32>, host_key: &P521Public) -> Result<KeySlot, Error> {
    let kek = x963_kdf_sha256(customer.ecdh_x(host_key).expose());
    let mut wrapped_key = *request_key.expose();
    let tag = Aes256Gcm::new(&kek).seal(&[0; 12], &[], &mut wrapped_key)?;
    Ok(KeySlot { phkh: Phkh(sha256(&host_key.to_padded_xy())), wrapped_key, tag })
}
