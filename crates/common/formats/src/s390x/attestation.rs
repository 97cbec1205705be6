//! What an attestation of a protected guest measures, and the layout of its additional data.
//!
//! The Ultravisor that measures and the owner who verifies compose the same bytes, so the composition stands
//! here once. Keys, requests and the measurement itself (HMAC-SHA512 over [`Measured::bytes`] with the key in
//! the request) are not here. The layout is the one that s390-tools (`pvattest`) verifies.

use super::arcb::ArcbFlags;
use super::host_key::Phkh;
use crate::codec::{Error, push};

/// Bytes of a measurement.
pub const MEASUREMENT_SIZE: usize = 64;
/// Most bytes of user data.
pub const USER_DATA_MAX: usize = 256;
/// Bytes of the hash of the secret store.
pub const SECRET_STORE_HASH_SIZE: usize = 64;
/// Bytes of the firmware state.
pub const FIRMWARE_STATE_SIZE: usize = 320;

const WHAT: &str = "additional data of an attestation";
const PHKH_SIZE: usize = 32;

/// Everything that one measurement covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured<'a> {
    /// Page list digest of the image.
    pub pld: &'a [u8; 64],
    /// Address list digest of the image.
    pub ald: &'a [u8; 64],
    /// Tweak list digest of the image.
    pub tld: &'a [u8; 64],
    /// Tag of the image's SE header.
    pub header_tag: &'a [u8; 16],
    /// Identity of the configuration.
    pub config_uid: &'a [u8; 16],
    /// User data, at most [`USER_DATA_MAX`] bytes.
    pub user_data: &'a [u8],
    /// The nonce of the request, if it has one.
    pub nonce: Option<&'a [u8; 16]>,
    /// Additional data as the Ultravisor wrote them.
    pub additional: &'a [u8],
}

impl Measured<'_> {
    /// The bytes that are measured, in their order.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(0x100 + self.user_data.len() + self.additional.len());
        for part in [&self.pld[..], self.ald, self.tld, self.header_tag, self.config_uid] {
            out.extend_from_slice(part);
        }
        push(&mut out, &[self.user_data.len() as u16, 0]);
        push(&mut out, &(self.additional.len() as u32));
        out.extend_from_slice(self.user_data);
        out.extend_from_slice(self.nonce.map_or(&[][..], |nonce| nonce));
        out.extend_from_slice(self.additional);
        out
    }
}

/// Additional data: what the flags of the request ask for, in the order of the flags.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AdditionalData {
    /// Hash of the host key that opened the image.
    pub image_phkh: Option<Phkh>,
    /// Hash of the host key that opened the request.
    pub attestation_phkh: Option<Phkh>,
    /// SHA-512 of the secret store.
    pub secret_store_hash: Option<[u8; SECRET_STORE_HASH_SIZE]>,
    /// State of the firmware.
    pub firmware_state: Option<[u8; FIRMWARE_STATE_SIZE]>,
}

impl AdditionalData {
    /// Bytes of the data that `flags` ask for.
    pub const fn size(flags: ArcbFlags) -> usize {
        let mut size = 0;
        let items = [
            (ArcbFlags::IMAGE_PHKH, PHKH_SIZE),
            (ArcbFlags::ATTESTATION_PHKH, PHKH_SIZE),
            (ArcbFlags::SECRET_STORE_HASH, SECRET_STORE_HASH_SIZE),
            (ArcbFlags::FIRMWARE_STATE, FIRMWARE_STATE_SIZE),
        ];
        let mut i = 0;
        while i < items.len() {
            if flags.has(items[i].0) {
                size += items[i].1;
            }
            i += 1;
        }
        size
    }

    /// Reads the data that `flags` ask for.
    ///
    /// # Errors
    /// If `bytes` is longer or shorter than that.
    pub fn parse(flags: ArcbFlags, bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() != Self::size(flags) {
            let rule = "the flags of the request ask for another length";
            return Err(Error::Field { what: WHAT, field: "length", found: bytes.len() as u64, rule });
        }
        let mut rest = bytes;
        Ok(Self {
            image_phkh: take(flags, ArcbFlags::IMAGE_PHKH, &mut rest).map(Phkh),
            attestation_phkh: take(flags, ArcbFlags::ATTESTATION_PHKH, &mut rest).map(Phkh),
            secret_store_hash: take(flags, ArcbFlags::SECRET_STORE_HASH, &mut rest),
            firmware_state: take(flags, ArcbFlags::FIRMWARE_STATE, &mut rest),
        })
    }

    /// The bytes of the data.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::size(self.flags()));
        let items = [
            self.image_phkh.as_ref().map(|phkh| &phkh.0[..]),
            self.attestation_phkh.as_ref().map(|phkh| &phkh.0[..]),
            self.secret_store_hash.as_ref().map(|hash| &hash[..]),
            self.firmware_state.as_ref().map(|state| &state[..]),
        ];
        items.into_iter().flatten().for_each(|item| out.extend_from_slice(item));
        out
    }

    /// The flags that ask for these items.
    pub const fn flags(&self) -> ArcbFlags {
        let mut flags = 0;
        if self.image_phkh.is_some() {
            flags |= ArcbFlags::IMAGE_PHKH.0;
        }
        if self.attestation_phkh.is_some() {
            flags |= ArcbFlags::ATTESTATION_PHKH.0;
        }
        if self.secret_store_hash.is_some() {
            flags |= ArcbFlags::SECRET_STORE_HASH.0;
        }
        if self.firmware_state.is_some() {
            flags |= ArcbFlags::FIRMWARE_STATE.0;
        }
        ArcbFlags(flags)
    }
}

/// The next item, if it was asked for and is there.
fn take<const N: usize>(flags: ArcbFlags, flag: ArcbFlags, rest: &mut &[u8]) -> Option<[u8; N]> {
    if !flags.has(flag) {
        return None;
    }
    let (item, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*item)
}
