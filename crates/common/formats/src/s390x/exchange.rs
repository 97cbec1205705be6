//! The exchange file of attestations: a request on its way to the guest, or the guest's answer on its way back.
//!
//! It is the file of `pvattest` (s390-tools), version 1: a head with five entries of size and offset, then the
//! parts. The parts stay as they are; what is in a request is read by [`super::arcb`].

use super::attestation::{MEASUREMENT_SIZE, USER_DATA_MAX};
use crate::codec::{Error, get, need, put};

/// Mark of the file.
pub const MAGIC: &[u8; 8] = b"pvattest";
/// Version of the layout.
pub const VERSION: u32 = 0x100;
/// Bytes before the first part.
pub const HEAD_SIZE: usize = 0x40;
/// The largest request that Linux passes on (asm/uvdevice.h, `UVIO_ATT_ARCB_MAX_LEN`).
pub const MAX_REQUEST: usize = 0x10_0000;
/// The largest measurement and the most additional data that Linux passes on.
pub const MAX_ANSWER: usize = 0x8000;

const WHAT: &str = "exchange file of an attestation";

/// A request for the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeRequest {
    /// The attestation request control block.
    pub arcb: Vec<u8>,
    /// Bytes of the measurement that the Ultravisor will write.
    pub measurement_size: u32,
    /// Bytes of additional data that it will write.
    pub additional_size: u32,
}

/// An answer of the guest, with the request that it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeResponse {
    /// The attestation request control block.
    pub arcb: Vec<u8>,
    /// The measurement.
    pub measurement: Vec<u8>,
    /// Additional data; empty if none was asked for.
    pub additional: Vec<u8>,
    /// What the guest had measured with it; empty if nothing.
    pub user_data: Vec<u8>,
    /// Identity of the configuration.
    pub config_uid: [u8; 16],
}

impl ExchangeRequest {
    /// A request whose measurement is HMAC-SHA512.
    pub fn new(arcb: Vec<u8>, additional_size: u32) -> Self {
        Self { arcb, measurement_size: MEASUREMENT_SIZE as u32, additional_size }
    }

    /// Reads a request, also out of an answer, which holds it too.
    ///
    /// # Errors
    /// If it is no such file, holds no request, or one that is too large.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let head = Head::parse(bytes)?;
        let arcb =
            head.arcb.data(bytes, "request", MAX_REQUEST)?.ok_or_else(|| missing("size of the request"))?;
        if head.measurement.size == 0 || head.measurement.size as usize > MAX_ANSWER {
            let rule = "it must be between 1 and 0x8000";
            return Err(field("size of the measurement", head.measurement.size.into(), rule));
        }
        if head.additional.size as usize > MAX_ANSWER {
            let rule = "at most 0x8000 bytes are possible";
            return Err(field("size of the additional data", head.additional.size.into(), rule));
        }
        Ok(Self {
            arcb: arcb.to_vec(),
            measurement_size: head.measurement.size,
            additional_size: head.additional.size,
        })
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEAD_SIZE];
        append(&mut out, ARCB, Some(&self.arcb));
        put(&mut out, MEASUREMENT, &self.measurement_size);
        put(&mut out, ADDITIONAL, &self.additional_size);
        finish(out)
    }
}

impl ExchangeResponse {
    /// Reads an answer.
    ///
    /// # Errors
    /// If it is no such file, or a request without an answer.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let head = Head::parse(bytes)?;
        let part = |entry: Entry, name, limit| entry.data(bytes, name, limit);
        let arcb = part(head.arcb, "request", MAX_REQUEST)?.ok_or_else(|| missing("size of the request"))?;
        let rule = "there is no measurement: this is a request that no guest has answered yet";
        let measurement = part(head.measurement, "measurement", MAX_ANSWER)?
            .ok_or_else(|| field("offset of the measurement", 0, rule))?;
        let uid = part(head.config_uid, "configuration", 16)?.unwrap_or_default();
        let config_uid = uid.try_into().map_err(|_| {
            field("size of the configuration's identity", uid.len() as u64, "it must be 0x10")
        })?;
        Ok(Self {
            arcb: arcb.to_vec(),
            measurement: measurement.to_vec(),
            additional: part(head.additional, "additional data", MAX_ANSWER)?.unwrap_or_default().to_vec(),
            user_data: part(head.user_data, "user data", USER_DATA_MAX)?.unwrap_or_default().to_vec(),
            config_uid,
        })
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let some = |part: &'_ Vec<u8>| !part.is_empty();
        let mut out = vec![0; HEAD_SIZE];
        append(&mut out, ARCB, Some(&self.arcb));
        append(&mut out, MEASUREMENT, Some(&self.measurement));
        append(&mut out, ADDITIONAL, some(&self.additional).then_some(&self.additional[..]));
        append(&mut out, USER_DATA, some(&self.user_data).then_some(&self.user_data[..]));
        append(&mut out, CONFIG_UID, Some(&self.config_uid));
        finish(out)
    }
}

const ARCB: usize = 0x18;
const MEASUREMENT: usize = 0x20;
const ADDITIONAL: usize = 0x28;
const USER_DATA: usize = 0x30;
const CONFIG_UID: usize = 0x38;

#[derive(Clone, Copy)]
struct Entry {
    size: u32,
    offset: u32,
}

impl Entry {
    /// The part, or nothing if its size is zero or it has no place: then the size is what an answer will need.
    fn data<'a>(self, bytes: &'a [u8], name: &'static str, limit: usize) -> Result<Option<&'a [u8]>, Error> {
        if self.size == 0 || self.offset == 0 {
            return Ok(None);
        }
        let (size, offset) = (self.size as usize, self.offset as usize);
        if size > limit {
            return Err(field(name, size as u64, "this is more than any such part has"));
        }
        if offset < HEAD_SIZE {
            return Err(field(name, offset as u64, "the part must not lie in the head of the file"));
        }
        let end = offset.saturating_add(size);
        bytes.get(offset..end).map(Some).ok_or(Error::TooShort { what: WHAT, need: end, have: bytes.len() })
    }
}

struct Head {
    arcb: Entry,
    measurement: Entry,
    additional: Entry,
    user_data: Entry,
    config_uid: Entry,
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.get(..8).is_some_and(|mark| mark != MAGIC) {
            return Err(Error::Magic { what: WHAT, expected: "pvattest" });
        }
        need(WHAT, bytes, HEAD_SIZE)?;
        let version: u32 = get(bytes, 0x08);
        if version != VERSION {
            return Err(Error::Version { what: WHAT, found: version, supported: VERSION });
        }
        let size = get::<u32>(bytes, 0x0c) as usize;
        need(WHAT, bytes, size)?;
        let entry = |at| Entry { size: get(bytes, at), offset: get(bytes, at + 4) };
        Ok(Self {
            arcb: entry(ARCB),
            measurement: entry(MEASUREMENT),
            additional: entry(ADDITIONAL),
            user_data: entry(USER_DATA),
            config_uid: entry(CONFIG_UID),
        })
    }
}

fn append(out: &mut Vec<u8>, entry: usize, part: Option<&[u8]>) {
    let Some(part) = part else { return };
    put(out, entry, &(part.len() as u32));
    let offset = out.len() as u32;
    put(out, entry + 4, &offset);
    out.extend_from_slice(part);
}

fn finish(mut out: Vec<u8>) -> Vec<u8> {
    out[..8].copy_from_slice(MAGIC);
    put(&mut out, 0x08, &VERSION);
    let size = out.len() as u32;
    put(&mut out, 0x0c, &size);
    out
}

fn field(field: &'static str, found: u64, rule: &'static str) -> Error {
    Error::Field { what: WHAT, field, found, rule }
}

fn missing(name: &'static str) -> Error {
    field(name, 0, "there is no request in it")
}
