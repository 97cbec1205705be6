//! Secrets for a guest that was measured: a table of entries, encrypted and bound to the measurement.
//!
//! Limits and conventions are those of LAUNCH_SECRET (AMD 55766) and of sevctl and virt-qemu-sev-validate.

use cloister_crypto::{Secret, aes128_ctr, hmac_sha256};
use cloister_formats::sev::guid::Guid;
use cloister_formats::sev::measurement::Measurement;
use cloister_formats::sev::packet::{MAX_PAYLOAD, PacketContext, PacketHeader};
use cloister_formats::sev::secret_table::{DISK_PASSWORD, SecretTable};
use zeroize::Zeroizing;

use super::{Keys, SevError};

/// Names that stand for a GUID.
pub const ALIASES: &[(&str, Guid)] = &[("disk-password", DISK_PASSWORD), ("luks-key", DISK_PASSWORD)];

/// A packet for `sev-inject-launch-secret`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The header, which the monitor calls packet-header.
    pub header: PacketHeader,
    /// The encrypted table, which the monitor calls secret.
    pub payload: Vec<u8>,
}

/// A GUID, or a name for one.
///
/// # Errors
/// If it is neither.
pub fn guid(text: &str) -> Result<Guid, SevError> {
    if let Some((_, guid)) = ALIASES.iter().find(|(alias, _)| *alias == text) {
        return Ok(*guid);
    }
    text.trim_start_matches('{').trim_end_matches('}').parse().map_err(|error| {
        let names: Vec<_> = ALIASES.iter().map(|(alias, _)| *alias).collect();
        SevError::Secret(format!("{text:?} is {error}, and none of the names {}", names.join(", ")))
    })
}

/// Seals a table for the guest that has this measurement.
///
/// # Errors
/// If there is no entry, or the table is larger than the firmware takes.
pub fn seal(
    table: &SecretTable,
    keys: &Keys,
    measurement: &Measurement,
    iv: [u8; 16],
) -> Result<Packet, SevError> {
    if table.entries().next().is_none() {
        return Err(SevError::Secret(
            "there is no secret to send; give at least one as GUID:FILE".to_owned(),
        ));
    }
    let plain = table.encode().map_err(|error| SevError::Secret(error.to_string()))?;
    if plain.len() > MAX_PAYLOAD {
        return Err(SevError::Secret(format!(
            "the secrets with their table have {} bytes, and firmware takes at most {MAX_PAYLOAD}: send less, or send \
             a key and encrypt the rest with it",
            plain.len()
        )));
    }
    Ok(seal_payload(plain, keys, &measurement.mac, iv))
}

/// Whether the packet is one for the guest with this measurement, and its entries if so.
pub fn open(packet: &Packet, keys: &Keys, measurement: &Measurement) -> Option<SecretTable> {
    let expected = mac(&packet.header, &packet.payload, &keys.tik, &measurement.mac);
    if !cloister_crypto::ct_eq(&expected, &packet.header.mac) {
        return None;
    }
    let mut plain = Zeroizing::new(packet.payload.clone());
    aes128_ctr(&keys.tek, &packet.header.iv, &mut plain);
    SecretTable::parse(&plain).ok()
}

fn seal_payload(mut plain: Zeroizing<Vec<u8>>, keys: &Keys, launch_mac: &[u8; 32], iv: [u8; 16]) -> Packet {
    aes128_ctr(&keys.tek, &iv, &mut plain);
    // It is ciphertext now.
    let payload = std::mem::take(&mut *plain);
    let mut header = PacketHeader { flags: 0, iv, mac: [0; 32] };
    header.mac = mac(&header, &payload, &keys.tik, launch_mac);
    Packet { header, payload }
}

fn mac(header: &PacketHeader, payload: &[u8], tik: &Secret<16>, launch_mac: &[u8; 32]) -> [u8; 32] {
    let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let prefix = header.mac_prefix(PacketContext::SECRET, size, size);
    hmac_sha256(tik.expose(), &[&prefix, payload, launch_mac])
}
