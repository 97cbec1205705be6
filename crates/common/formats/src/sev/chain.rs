//! Certificates of a platform in the forms in which files hold them.
//!
//! A file is PDH alone; PEK ‖ OCA ‖ CEK, as the firmware exports them; PDH ‖ PEK ‖ OCA ‖ CEK, as sevctl does; either
//! of these followed by AMD's certificates; AMD's certificates alone, ASK ‖ ARK or ARK ‖ ASK; or an archive with one
//! certificate in each member, as sevtool makes it. Which certificate is which is read from the certificate, so the
//! order does not matter. Nothing is verified here.

use super::amd_root::AmdCertificate;
use super::certificate::{Certificate, Usage};
use super::layout::get;
use crate::Error;
use crate::codec::need;

/// The certificates that were found, each at most once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// Platform Diffie-Hellman key.
    pub pdh: Option<Certificate>,
    /// Platform endorsement key.
    pub pek: Option<Certificate>,
    /// Owner's certificate authority.
    pub oca: Option<Certificate>,
    /// Chip endorsement key.
    pub cek: Option<Certificate>,
    /// AMD SEV key.
    pub ask: Option<AmdCertificate>,
    /// AMD root key.
    pub ark: Option<AmdCertificate>,
}

/// Why a file is no chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A part is not a certificate.
    #[error("certificate at offset {offset:#x}: {source}")]
    Certificate {
        /// Where it begins in the file or member.
        offset: usize,
        /// What is wrong with it.
        source: Error,
    },
    /// A certificate is there twice.
    #[error("certificate at offset {offset:#x} is a second {usage}")]
    Twice {
        /// Where the second begins.
        offset: usize,
        /// Its usage.
        usage: Usage,
    },
    /// A certificate in a member of an archive.
    #[error("member {name}: {source}")]
    Member {
        /// Name of the member.
        name: String,
        /// What is wrong with it.
        source: Box<ChainError>,
    },
    /// There is no certificate at all.
    #[error("there is no certificate in it; give PDH, PEK, OCA and CEK as exported, decoded from base64")]
    Empty,
}

impl Chain {
    /// Reads certificates that fill `bytes`.
    ///
    /// # Errors
    /// If a part is no certificate of a chain, or one is there twice.
    pub fn parse(bytes: &[u8]) -> Result<Self, ChainError> {
        let mut chain = Self::default();
        chain.add(bytes)?;
        if chain.is_empty() { Err(ChainError::Empty) } else { Ok(chain) }
    }

    /// Reads the certificates in the members of an archive, given with their names. Members that do not end in
    /// `.cert` are not looked at.
    ///
    /// # Errors
    /// As [`Self::parse`], with the name of the member.
    pub fn from_members<'a>(
        members: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, ChainError> {
        let mut chain = Self::default();
        for (name, bytes) in members.into_iter().filter(|(name, _)| name.ends_with(".cert")) {
            chain
                .add(bytes)
                .map_err(|error| ChainError::Member { name: name.to_owned(), source: Box::new(error) })?;
        }
        if chain.is_empty() { Err(ChainError::Empty) } else { Ok(chain) }
    }

    /// Adds the certificates that fill `bytes`.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), ChainError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let offset = bytes.len() - rest.len();
            rest = self.add_one(rest, offset)?;
        }
        Ok(())
    }

    /// Whether there is no certificate.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The platform's certificates in sevctl's order, PDH ‖ PEK ‖ OCA ‖ CEK, without those that are missing.
    pub fn encode_platform(&self) -> Vec<u8> {
        let certificates = [&self.pdh, &self.pek, &self.oca, &self.cek];
        certificates.into_iter().flatten().flat_map(|certificate| *certificate.as_bytes()).collect()
    }

    /// AMD's certificates in the order of their files, ASK ‖ ARK, without those that are missing.
    pub fn encode_amd(&self) -> Vec<u8> {
        [&self.ask, &self.ark].into_iter().flatten().flat_map(AmdCertificate::encode).collect()
    }

    /// Adds the certificate at the start of `bytes` and returns what follows it.
    fn add_one<'a>(&mut self, bytes: &'a [u8], offset: usize) -> Result<&'a [u8], ChainError> {
        let fault = |source| ChainError::Certificate { offset, source };
        // Both kinds begin with version 1. Where a SEV certificate has its usage, an AMD certificate has part of its
        // key's name.
        let kind = (bytes.len() >= 12).then(|| get(bytes, 8));
        if let Some(usage @ (Usage::PDH | Usage::PEK | Usage::OCA | Usage::CEK)) = kind {
            need("SEV certificate", bytes, Certificate::SIZE).map_err(fault)?;
            let (certificate, rest) = bytes.split_at(Certificate::SIZE);
            let certificate = Certificate::parse(certificate).map_err(fault)?;
            let place = match usage {
                Usage::PDH => &mut self.pdh,
                Usage::PEK => &mut self.pek,
                Usage::OCA => &mut self.oca,
                _ => &mut self.cek,
            };
            put_once(place, certificate, usage, offset)?;
            return Ok(rest);
        }
        let (certificate, rest) = AmdCertificate::parse_prefix(bytes).map_err(fault)?;
        let usage = certificate.usage();
        let place = if usage == Usage::ARK { &mut self.ark } else { &mut self.ask };
        put_once(place, certificate, usage, offset)?;
        Ok(rest)
    }
}

fn put_once<C>(place: &mut Option<C>, certificate: C, usage: Usage, offset: usize) -> Result<(), ChainError> {
    match place {
        Some(_) => Err(ChainError::Twice { offset, usage }),
        None => {
            *place = Some(certificate);
            Ok(())
        }
    }
}
