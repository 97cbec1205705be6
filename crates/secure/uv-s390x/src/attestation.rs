//! Attestation: the measurement of a running guest for its owner ("Retrieve Attestation Measurement").
//!
//! The layout of what is measured stands in the formats crate, because the verifier composes the same bytes.
//! This module checks the request, opens it and fills in what this configuration is. It signs nothing: the
//! measurement is a MAC under a key that only the requester and the machine know.

use cloister_crypto::hmac_sha512;
use cloister_formats::s390x::arcb::{self, Arcb, ArcbFlags, ArcbHead};
use cloister_formats::s390x::attestation::{
    AdditionalData, FIRMWARE_STATE_SIZE, MEASUREMENT_SIZE, Measured, USER_DATA_MAX,
};
use cloister_formats::s390x::uvcb::RetrAttest;
use zeroize::Zeroizing;

use crate::caller::CallerStorage;
use crate::configuration::Configuration;
use crate::refusal::Stop;
use crate::request::Sealed;
use crate::ultravisor::Ultravisor;

/// What the model gives as the state of the firmware: a text that says it is a model, then zeros. What real
/// firmware puts there is not published.
pub const MODEL_FIRMWARE_STATE: [u8; FIRMWARE_STATE_SIZE] = {
    let text = concat!(
        "CLOISTER-MODEL firmware state: this is a model of an Ultravisor in software, version ",
        env!("CARGO_PKG_VERSION"),
        ", and no IBM Z firmware"
    )
    .as_bytes();
    let mut state = [0; FIRMWARE_STATE_SIZE];
    let mut i = 0;
    while i < text.len() {
        state[i] = text[i];
        i += 1;
    }
    state
};

/// The flags of requests that are answered.
pub(crate) const SUPPORTED_FLAGS: ArcbFlags = ArcbFlags::KNOWN;

impl Ultravisor {
    /// The checks stand in the order in which consumers expect their codes; the accesses to the two buffers
    /// (104, 105) follow the checks of their lengths.
    pub(crate) fn retrieve_attestation(
        &self,
        configuration: &Configuration,
        block: &mut [u8],
        caller: &mut dyn CallerStorage,
    ) -> Result<(), Stop> {
        let mut call = RetrAttest::parse(block).map_err(|_| Stop::rc(5))?;
        if call.continuation != 0 {
            return Err(Stop::rc(0x101));
        }
        let user_data_len = usize::from(call.user_data_len);
        if user_data_len > USER_DATA_MAX {
            return Err(Stop::because(0x102, 0, format!("There are {user_data_len}")));
        }
        let raw = fetch_request(call.arcb_addr, caller)?;
        let request = Arcb::parse(&raw).map_err(|error| Stop::because(0x107, 0, error.to_string()))?;
        let unsupported = request.flags.0 & !SUPPORTED_FLAGS.0;
        if unsupported != 0 {
            return Err(Stop::because(0x10a, 0, format!("Flags {unsupported:#x} are not supported")));
        }
        if request.algorithm != arcb::HMAC_SHA512 {
            let detail = format!("It names {}; 1, HMAC-SHA512, is supported", request.algorithm);
            return Err(Stop::because(0x10b, 0, detail));
        }
        check_room(0x10d, call.meas_len, MEASUREMENT_SIZE)?;
        caller.probe_write(call.meas_addr, MEASUREMENT_SIZE).map_err(|f| f.stop(0x104, call.meas_addr))?;
        let additional_size = AdditionalData::size(request.flags);
        check_room(0x10e, call.add_len, additional_size)?;
        if additional_size != 0 {
            caller.probe_write(call.add_addr, additional_size).map_err(|f| f.stop(0x105, call.add_addr))?;
        }
        let sealed = Sealed {
            customer_key: &request.customer_key,
            slots: &request.slots,
            iv: &request.iv,
            raw: &raw,
            aad_size: request.aad_size(),
        };
        let opened = sealed.open(&self.identity, 0x10c)?;
        let (key, nonce) = opened.area.split_at_checked(64).ok_or(Stop::rc(0x109))?;
        let nonce: Option<Zeroizing<[u8; 16]>> = nonce.try_into().ok().map(Zeroizing::new);

        let inner = configuration.try_lock()?;
        let image = inner.image.as_ref().ok_or(Stop::rc(3))?;
        let wanted = |flag| request.flags.has(flag);
        let additional = AdditionalData {
            image_phkh: wanted(ArcbFlags::IMAGE_PHKH).then(|| image.phkh()),
            attestation_phkh: wanted(ArcbFlags::ATTESTATION_PHKH).then_some(opened.phkh),
            secret_store_hash: wanted(ArcbFlags::SECRET_STORE_HASH).then(|| inner.secrets.hash()),
            firmware_state: wanted(ArcbFlags::FIRMWARE_STATE).then_some(MODEL_FIRMWARE_STATE),
        }
        .encode();
        let header = image.header();
        let measured = Measured {
            pld: &header.pld,
            ald: &header.ald,
            tld: &header.tld,
            header_tag: &header.tag,
            config_uid: &configuration.uid,
            user_data: &call.user_data[..user_data_len],
            nonce: nonce.as_deref(),
            additional: &additional,
        };
        let measurement = hmac_sha512(key, &[&Zeroizing::new(measured.bytes())]);
        // No lock is held while storage is accessed: the access may have to wait for another CPU.
        drop(inner);
        caller.write(call.meas_addr, &measurement).map_err(|f| f.stop(0x104, call.meas_addr))?;
        if !additional.is_empty() {
            caller.write(call.add_addr, &additional).map_err(|f| f.stop(0x105, call.add_addr))?;
        }
        call.config_uid = configuration.uid;
        call.add_len = additional.len() as u32;
        call.store(block).map_err(|_| Stop::rc(5))
    }
}

/// Reads a request whose version and sizes fit each other.
fn fetch_request(address: u64, caller: &mut dyn CallerStorage) -> Result<Vec<u8>, Stop> {
    let mut raw = vec![0; arcb::FIXED_SIZE];
    caller.read(address, &mut raw).map_err(|f| f.stop(0x103, address))?;
    let head = ArcbHead::parse(&raw).map_err(|error| Stop::because(0x107, 0, error.to_string()))?;
    if !head.magic || head.version != arcb::VERSION {
        let detail = format!("It has version {:#x}; {:#x} is supported", head.version, arcb::VERSION);
        return Err(Stop::because(0x106, 0, detail));
    }
    if head.slots == 0 {
        return Err(Stop::rc(0x108));
    }
    if head.area_size as usize != head.flags.area_size() {
        let detail = format!("It has {:#x} bytes, expected {:#x}", head.area_size, head.flags.area_size());
        return Err(Stop::because(0x109, 0, detail));
    }
    let expected = head.expected_size();
    if u64::from(head.total) != expected {
        return Err(Stop::because(0x107, 0, format!("It says {:#x}, expected {expected:#x}", head.total)));
    }
    let fixed = raw.len();
    raw.resize(expected as usize, 0);
    let rest = address.wrapping_add(fixed as u64);
    caller.read(rest, &mut raw[fixed..]).map_err(|f| f.stop(0x103, rest))?;
    Ok(raw)
}

fn check_room(rc: u16, room: u32, need: usize) -> Result<(), Stop> {
    if (room as usize) < need {
        return Err(Stop::because(rc, 0, format!("It has {room:#x} bytes, {need:#x} are needed")));
    }
    Ok(())
}
