//! Recomputing a measurement: is the guest the image that its owner believes it to be?

use std::path::{Path, PathBuf};

use cloister_crypto::{Aes256Gcm, Secret, ct_eq, hmac_sha512};
use cloister_formats::s390x::arcb::{Arcb, ArcbFlags, HMAC_SHA512};
use cloister_formats::s390x::attestation::{AdditionalData, Measured};
use cloister_formats::s390x::exchange::ExchangeResponse;
use cloister_formats::s390x::se_header::SeHeader;
use zeroize::Zeroizing;

use super::yaml::{entry, hex};
use super::{AttestError, Compared};
use crate::host_key::Warning;
use crate::image::inspect;
use crate::{OwnerError, files};

/// The options of `pv attest verify`.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// `-i`: the guest's answer.
    pub input: PathBuf,
    /// `--hdr`: the image, or its bare header.
    pub header: PathBuf,
    /// `-a`: the request's protection key.
    pub arpk: PathBuf,
}

/// What a verified answer says: all of it is covered by the measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Identity of the configuration, for secrets that only it may have.
    pub config_uid: [u8; 16],
    /// Additional data as they are.
    pub additional: Vec<u8>,
    /// Additional data by item.
    pub items: AdditionalData,
    /// What the guest had measured with it.
    pub user_data: Vec<u8>,
}

/// Verifies an answer file against the image's file.
pub fn verify_files(options: &VerifyOptions, warnings: &mut Vec<Warning>) -> Result<Verified, OwnerError> {
    let response = read_response(&options.input)?;
    let header = read_header(&options.header)?;
    let arpk = files::read_key::<32>(Some(&options.arpk), warnings)?
        .ok_or(AttestError::Internal("a file that was named is there or an error"))?;
    Ok(verify(&response, &header, &arpk)?)
}

/// The SE header of an image or of a bare header file.
pub fn read_header(file: &Path) -> Result<SeHeader, OwnerError> {
    inspect::header(file)
}

/// Verifies an answer in memory.
pub fn verify(
    response: &ExchangeResponse,
    header: &SeHeader,
    arpk: &Secret<32>,
) -> Result<Verified, AttestError> {
    let malformed = |error| AttestError::format("the answer", error);
    let arcb = Arcb::parse(&response.arcb).map_err(malformed)?;
    let mut area = Zeroizing::new(arcb.encrypted_area.clone());
    Aes256Gcm::new(arpk).open(&arcb.iv, &arcb.aad(), &mut area, &arcb.tag).map_err(|_| AttestError::Arpk)?;
    if arcb.algorithm != HMAC_SHA512 {
        return Err(AttestError::Algorithm(arcb.algorithm));
    }
    let (key, nonce) = area.split_first_chunk::<64>().ok_or(AttestError::Internal("the area was parsed"))?;
    let nonce: Option<&[u8; 16]> = nonce.first_chunk().filter(|_| arcb.flags.has(ArcbFlags::NONCE));
    let measured = Measured {
        pld: &header.pld,
        ald: &header.ald,
        tld: &header.tld,
        header_tag: &header.tag,
        config_uid: &response.config_uid,
        user_data: &response.user_data,
        nonce,
        additional: &response.additional,
    };
    let calculated = hmac_sha512(key, &[&Zeroizing::new(measured.bytes())]);
    if !ct_eq(&calculated, &response.measurement) {
        return Err(Box::new(Compared {
            received: response.measurement.clone(),
            calculated: calculated.to_vec(),
            header_tag: header.tag,
            pld: header.pld,
            config_uid: response.config_uid,
            user_data: response.user_data.clone(),
            nonce: nonce.is_some(),
            additional: response.additional.clone(),
            hints: hints(&arcb, header, response),
        })
        .into());
    }
    Ok(Verified {
        config_uid: response.config_uid,
        items: AdditionalData::parse(arcb.flags, &response.additional).map_err(malformed)?,
        additional: response.additional.clone(),
        user_data: response.user_data.clone(),
    })
}

impl Verified {
    /// The result as `pvattest verify` writes it.
    pub fn yaml(&self) -> String {
        let mut out = String::new();
        entry(&mut out, 0, "cuid", &self.config_uid);
        if !self.additional.is_empty() {
            entry(&mut out, 0, "add", &self.additional);
            out.push_str("add_fields:\n");
            let items = [
                ("image_phkh", self.items.image_phkh.as_ref().map(|phkh| &phkh.0[..])),
                ("attestation_phkh", self.items.attestation_phkh.as_ref().map(|phkh| &phkh.0[..])),
                ("secret_store_hash", self.items.secret_store_hash.as_ref().map(|hash| &hash[..])),
                ("firmware_state", self.items.firmware_state.as_ref().map(|state| &state[..])),
            ];
            for (name, item) in items {
                if let Some(bytes) = item {
                    entry(&mut out, 2, name, bytes);
                }
            }
        }
        if !self.user_data.is_empty() {
            entry(&mut out, 0, "user_data", &self.user_data);
        }
        out
    }
}

pub(super) fn read_response(file: &Path) -> Result<ExchangeResponse, OwnerError> {
    let bytes = files::read_limited(file, MAX_EXCHANGE, "attestation answer")?;
    let name = file.display().to_string();
    Ok(ExchangeResponse::parse(&bytes).map_err(|error| AttestError::format(&name, error))?)
}

/// What an answer that is not believed gives away about why.
fn hints(arcb: &Arcb, header: &SeHeader, response: &ExchangeResponse) -> Vec<String> {
    let mut hints = Vec::new();
    let Ok(items) = AdditionalData::parse(arcb.flags, &response.additional) else {
        hints.push(format!(
            "The request asked for {} bytes of additional data, the answer has {}.",
            AdditionalData::size(arcb.flags),
            response.additional.len()
        ));
        return hints;
    };
    if let Some(phkh) = items.image_phkh.filter(|phkh| header.slots.iter().all(|slot| slot.phkh != *phkh)) {
        hints.push(format!(
            "The answer says that the image was opened with the host key {}, for which the given image has no slot: \
             the guest runs another image.",
            hex(&phkh.0)
        ));
    }
    if let Some(phkh) = items.attestation_phkh.filter(|phkh| arcb.slots.iter().all(|slot| slot.phkh != *phkh))
    {
        hints.push(format!(
            "The answer says that the request was opened with the host key {}, for which it has no slot.",
            hex(&phkh.0)
        ));
    }
    hints
}

/// A request, a measurement and additional data of the largest sizes that Linux passes on.
const MAX_EXCHANGE: u64 = 2 << 20;
