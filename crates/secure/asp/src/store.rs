//! The platform's keys, and the sealed area that keeps them while it is down.
//!
//! The area is one record of 32 KiB: ciphertext ‖ MAC ‖ IV. What stands inside is nobody's business but this module's.

use cloister_crypto::{Entropy, P384Secret, aes128_ctr, ct_eq, hmac_sha256};
use cloister_formats::sev::certificate::{Certificate, Usage};
use cloister_formats::sev::status::Status;
use zeroize::Zeroizing;

use crate::certs::{Key, sign};
use crate::identity::Identity;

/// Bytes of the area.
pub const STORE_SIZE: usize = 0x8000;
const PLAIN: usize = STORE_SIZE - 48;

/// Keys of an initialised platform.
#[derive(Clone)]
pub(crate) struct Keys {
    /// The private key is there as long as the platform owns itself.
    pub(crate) oca: Key<Option<P384Secret>>,
    pub(crate) pek: Key,
    pub(crate) pdh: Key,
}

/// What is left of the keys in an area: a key is missing if the one that signed it is.
#[derive(Default)]
pub(crate) struct Stored {
    oca: Option<Key<Option<P384Secret>>>,
    pek: Option<Key>,
    pdh: Option<Key>,
}

impl Stored {
    /// All keys, and whether some had to be made. What hangs on a missing key is made again.
    pub(crate) fn complete(
        self,
        identity: &Identity,
        api: (u8, u8),
        entropy: &mut dyn Entropy,
    ) -> (Keys, bool) {
        if let Self { oca: Some(oca), pek: Some(pek), pdh: Some(pdh) } = self {
            return (Keys { oca, pek, pdh }, false);
        }
        let (oca, pek) = match (self.oca, self.pek) {
            (Some(oca), Some(pek)) => (oca, pek),
            (Some(Key { secret: Some(secret), certificate }), None) => {
                let oca = Key { secret, certificate };
                let pek = new_pek(&oca, identity, api, entropy);
                (oca.into(), pek)
            }
            // Without the owner's private key nobody could sign a new PEK.
            (None | Some(Key { secret: None, .. }), _) => {
                let oca = new_oca(api, entropy);
                let pek = new_pek(&oca, identity, api, entropy);
                (oca.into(), pek)
            }
        };
        let pdh = new_pdh(&pek, api, entropy);
        (Keys { oca, pek, pdh }, true)
    }
}

impl Keys {
    /// A self-owned platform: new OCA, PEK and PDH.
    pub(crate) fn generate(identity: &Identity, api: (u8, u8), entropy: &mut dyn Entropy) -> Self {
        Stored::default().complete(identity, api, entropy).0
    }

    /// Replaces the PDH.
    pub(crate) fn renew_pdh(&mut self, api: (u8, u8), entropy: &mut dyn Entropy) {
        self.pdh = new_pdh(&self.pek, api, entropy);
    }

    /// Whether somebody else's OCA was imported.
    pub(crate) const fn is_external(&self) -> bool {
        self.oca.secret.is_none()
    }

    /// The area with the keys in it.
    pub(crate) fn seal(&self, identity: &Identity, entropy: &mut dyn Entropy) -> Vec<u8> {
        let mut plain = Zeroizing::new(Vec::with_capacity(STORE_SIZE));
        plain.extend_from_slice(&VERSION.to_le_bytes());
        let mut put = |certificate: &Certificate, secret: Option<&P384Secret>| {
            plain.push(1 + u8::from(secret.is_some()));
            plain.extend_from_slice(certificate.as_bytes());
            match secret {
                Some(secret) => plain.extend_from_slice(secret.to_scalar().expose()),
                None => plain.extend_from_slice(&[0; 48]),
            }
        };
        put(&self.oca.certificate, self.oca.secret.as_ref());
        put(&self.pek.certificate, Some(&self.pek.secret));
        put(&self.pdh.certificate, Some(&self.pdh.secret));
        plain.resize(PLAIN, 0);
        let mut iv = [0; 16];
        // An IV of this form marks the older record, so a new one never has it.
        while iv == [0; 16] || iv.starts_with(&OLD_FORMAT) {
            entropy.fill(&mut iv);
        }
        aes128_ctr(&identity.store_key(), &iv, &mut plain);
        let mac = hmac_sha256(identity.store_mac_key().expose(), &[&plain, &iv]);
        plain.extend_from_slice(&mac);
        plain.extend_from_slice(&iv);
        plain.to_vec()
    }
}

impl Stored {
    /// Opens an area. One that was never written, or was erased, has nothing in it.
    pub(crate) fn open(area: &[u8], identity: &Identity) -> Result<Self, Status> {
        let invalid = Status::SECURE_DATA_INVALID;
        if area.iter().all(|&byte| byte == 0xff) || area.iter().all(|&byte| byte == 0) {
            return Ok(Self::default());
        }
        let (cipher, tail) = area.split_at_checked(PLAIN).ok_or(invalid)?;
        let (mac, iv) = tail.split_at_checked(32).ok_or(invalid)?;
        let iv = <[u8; 16]>::try_from(iv).map_err(|_| invalid)?;
        let old = iv.starts_with(&OLD_FORMAT);
        let (counter, covered): ([u8; 16], &[u8]) = if old { ([0; 16], &[]) } else { (iv, &iv) };
        if !ct_eq(&hmac_sha256(identity.store_mac_key().expose(), &[cipher, covered]), mac) {
            return Err(invalid);
        }
        let mut plain = Zeroizing::new(cipher.to_vec());
        aes128_ctr(&identity.store_key(), &counter, &mut plain);
        let (version, mut rest) = plain.split_first_chunk::<4>().ok_or(invalid)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(invalid);
        }
        let mut take = || -> Result<Option<Key<Option<P384Secret>>>, Status> {
            let (record, tail) = rest.split_first_chunk::<RECORD>().ok_or(invalid)?;
            rest = tail;
            let certificate = Certificate::parse(&record[1..=Certificate::SIZE]).map_err(|_| invalid)?;
            let scalar =
                Zeroizing::new(<[u8; 48]>::try_from(&record[1 + Certificate::SIZE..]).map_err(|_| invalid)?);
            match record[0] {
                0 => Ok(None),
                1 => Ok(Some(Key { secret: None, certificate })),
                _ => {
                    let secret = P384Secret::from_scalar(&scalar).map_err(|_| invalid)?;
                    Ok(Some(Key { secret: Some(secret), certificate }))
                }
            }
        };
        let own = |key: Option<Key<Option<P384Secret>>>| {
            key.and_then(|Key { secret, certificate }| Some(Key { secret: secret?, certificate }))
        };
        Ok(Self { oca: take()?, pek: own(take()?), pdh: own(take()?) })
    }
}

impl From<Key> for Key<Option<P384Secret>> {
    fn from(key: Key) -> Self {
        Self { secret: Some(key.secret), certificate: key.certificate }
    }
}

fn new_oca(api: (u8, u8), entropy: &mut dyn Entropy) -> Key {
    let mut oca = Key::generate(entropy, api, Usage::OCA);
    sign(&mut oca.certificate, 0, Usage::OCA, &oca.secret);
    oca
}

fn new_pek(oca: &Key, identity: &Identity, api: (u8, u8), entropy: &mut dyn Entropy) -> Key {
    let mut pek = Key::generate(entropy, api, Usage::PEK);
    sign(&mut pek.certificate, 0, Usage::OCA, &oca.secret);
    sign(&mut pek.certificate, 1, Usage::CEK, &identity.cek_key());
    pek
}

fn new_pdh(pek: &Key, api: (u8, u8), entropy: &mut dyn Entropy) -> Key {
    let mut pdh = Key::generate(entropy, api, Usage::PDH);
    sign(&mut pdh.certificate, 0, Usage::PEK, &pek.secret);
    pdh
}

const VERSION: u32 = 1;
const OLD_FORMAT: [u8; 4] = [0xff; 4];
const RECORD: usize = 1 + Certificate::SIZE + 48;

#[cfg(test)]
mod tests {
    use cloister_crypto::{Secret, SeededEntropy};

    use super::*;

    fn sealed() -> (Identity, Keys, Vec<u8>) {
        let mut entropy = SeededEntropy::new(b"store");
        let identity = Identity::of_chip(Secret::generate(&mut entropy));
        let keys = Keys::generate(&identity, (1, 55), &mut entropy);
        let area = keys.seal(&identity, &mut entropy);
        (identity, keys, area)
    }

    #[test]
    fn what_was_sealed_opens_again() {
        let (identity, keys, area) = sealed();
        assert_eq!(area.len(), STORE_SIZE);
        let stored = Stored::open(&area, &identity).unwrap();
        let (again, made) = stored.complete(&identity, (1, 55), &mut SeededEntropy::new(b"other"));
        assert!(!made);
        assert!(again.pdh.certificate == keys.pdh.certificate && !again.is_external());
        assert_eq!(again.pek.secret.to_scalar(), keys.pek.secret.to_scalar());
    }

    #[test]
    fn every_byte_of_the_area_is_under_the_mac() {
        let (identity, _, area) = sealed();
        for at in (0..STORE_SIZE).step_by(997).chain(PLAIN - 1..STORE_SIZE) {
            let mut changed = area.clone();
            changed[at] ^= 0x10;
            assert_eq!(
                Stored::open(&changed, &identity).err(),
                Some(Status::SECURE_DATA_INVALID),
                "byte {at:#x}"
            );
        }
        let other = Identity::of_chip(Secret::new([9; 32]));
        assert_eq!(Stored::open(&area, &other).err(), Some(Status::SECURE_DATA_INVALID));
    }

    #[test]
    fn the_older_record_has_a_counter_of_zero_outside_its_mac() {
        let (identity, keys, area) = sealed();
        let iv: [u8; 16] = area[STORE_SIZE - 16..].try_into().unwrap();
        let mut old = area[..PLAIN].to_vec();
        aes128_ctr(&identity.store_key(), &iv, &mut old);
        aes128_ctr(&identity.store_key(), &[0; 16], &mut old);
        let mac = hmac_sha256(identity.store_mac_key().expose(), &[&old]);
        old.extend_from_slice(&mac);
        old.extend_from_slice(&[0xff; 16]);
        let stored = Stored::open(&old, &identity).unwrap();
        assert!(stored.pek.unwrap().certificate == keys.pek.certificate);
    }
}
