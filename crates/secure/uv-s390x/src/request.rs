//! Opening of requests that an owner sealed for this machine.
//!
//! Attestation requests and add-secret requests are sealed alike: a request key in a slot for each host key,
//! and an area under that key. What a request asks for is not decided here.

use cloister_crypto::{Aes256Gcm, GCM_TAG_SIZE, P521Public, Secret, ct_eq, x963_kdf_sha256};
use cloister_formats::s390x::host_key::{KeySlot, KeyXy, Phkh};
use zeroize::Zeroizing;

use crate::identity::Identity;
use crate::refusal::Stop;

/// A sealed request, byte for byte as it came.
pub(crate) struct Sealed<'a> {
    pub(crate) customer_key: &'a KeyXy,
    pub(crate) slots: &'a [KeySlot],
    pub(crate) iv: &'a [u8; 12],
    /// The whole request; the tag is its end.
    pub(crate) raw: &'a [u8],
    /// Bytes before the sealed area; all of them are authenticated.
    pub(crate) aad_size: usize,
}

/// What was in a request.
pub(crate) struct Opened {
    pub(crate) area: Zeroizing<Vec<u8>>,
    /// The hash of the machine's key that opened it.
    pub(crate) phkh: Phkh,
}

impl Sealed<'_> {
    /// Opens the request with the host key, else with the backup key. `rc` is that of a request that does not
    /// open; the reason codes are 1 to 4 in the order of the steps.
    pub(crate) fn open(&self, identity: &Identity, rc: u16) -> Result<Opened, Stop> {
        let refuse = |rrc, detail: String| Stop::because(rc, rrc, detail);
        let keys = [Some(identity.host_key()), identity.backup_key()];
        let found = keys.into_iter().flatten().find_map(|(key, hash)| {
            Some((key, self.slots.iter().find(|slot| ct_eq(&slot.phkh.0, &hash.0))?))
        });
        let Some((key, slot)) = found else {
            let wanted: Vec<_> = self.slots.iter().map(|slot| slot.phkh.to_string()).collect();
            let detail = format!(
                "It is for host keys {}; this machine has {}. Make the request with this machine's host-key document",
                wanted.join(", "),
                identity.host_key_hash()
            );
            return Err(refuse(1, detail));
        };
        let customer =
            P521Public::from_padded_xy(&self.customer_key.0).map_err(|error| refuse(2, error.to_string()))?;
        let kek = x963_kdf_sha256(key.ecdh_x(&customer).expose());
        let mut request_key = Secret::new(slot.wrapped_key);
        Aes256Gcm::new(&kek)
            .open(&[0; 12], &[], request_key.expose_mut(), &slot.tag)
            .map_err(|_| refuse(3, ALTERED.into()))?;
        let (aad, rest) =
            self.raw.split_at_checked(self.aad_size).ok_or_else(|| refuse(4, ALTERED.into()))?;
        let (area, tag) = rest.split_last_chunk::<GCM_TAG_SIZE>().ok_or_else(|| refuse(4, ALTERED.into()))?;
        let mut area = Zeroizing::new(area.to_vec());
        Aes256Gcm::new(&request_key)
            .open(self.iv, aad, &mut area, tag)
            .map_err(|_| refuse(4, ALTERED.into()))?;
        Ok(Opened { area, phkh: slot.phkh })
    }
}

const ALTERED: &str = "Its authentication tag does not fit. Send the request again or make a new one";
