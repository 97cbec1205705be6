//! The guest's owner in the demo: attests the guest before it gets a secret. Everything that it says to the guest and
//! hears from it goes through the host.

use super::Stage;
use anyhow::Context;
use cloister_crypto::{P521Public, Secret, SystemEntropy};
use cloister_formats::s390x::arcb::ArcbFlags;
use cloister_formats::s390x::attestation::MEASUREMENT_SIZE;
use cloister_formats::s390x::exchange::ExchangeResponse;
use cloister_formats::s390x::se_header::SeHeader;
use cloister_formats::s390x::uvcb::RetrAttest;
use cloister_owner::attest;
use cloister_owner::host_key;
use cloister_owner::image::Verification;
use cloister_owner::secret::{
    self, ExtensionSecret, GuestSecret, KeyType, RetrievableKey, SecretName, UserData,
};
use serde_json::{Value, json};
use std::path::Path;

/// The owner of one guest.
pub(super) struct Owner {
    host_keys: Vec<P521Public>,
    header: SeHeader,
    /// The request under way, and its key.
    request: Vec<u8>,
    key: Secret<32>,
    secret: Secret<32>,
    attested: bool,
    given: bool,
}

impl Owner {
    /// The owner knows its image and has verified the machine's document.
    pub(super) fn new(image: &Path, document: &Path, verification: &Verification) -> anyhow::Result<Self> {
        let documents = host_key::load(&[document.to_owned()], verification, &mut Vec::new())?;
        Ok(Self {
            host_keys: documents.iter().map(|document| *document.key()).collect(),
            header: attest::read_header(image)?,
            request: Vec::new(),
            key: Secret::default(),
            secret: Secret::generate(&mut SystemEntropy),
            attested: false,
            given: false,
        })
    }

    /// A request for an attestation.
    pub(super) fn attest(&mut self, stage: &Stage) -> anyhow::Result<Vec<u8>> {
        let flags = ArcbFlags(ArcbFlags::IMAGE_PHKH.0 | ArcbFlags::ATTESTATION_PHKH.0);
        let (request, key) = attest::request(&self.host_keys, flags, &mut SystemEntropy)?;
        self.request = request.encode();
        self.key = key;
        let size = self.request.len();
        stage.owner(&format!("asks for an attestation: {size} bytes that only this machine can open"));
        Ok(self.request.clone())
    }

    /// Checks the answer: the control block that came back, then measurement and additional data. A guest that is
    /// the owner's gets a secret: the request for it.
    pub(super) fn check(
        &mut self,
        block: &[u8],
        answer: &[u8],
        stage: &Stage,
    ) -> anyhow::Result<Option<Vec<u8>>> {
        let block = RetrAttest::parse(block).context("the answer's control block cannot be read")?;
        let additional = usize::try_from(block.add_len).unwrap_or(usize::MAX);
        let user_data = usize::from(block.user_data_len);
        let part = |bytes: &[u8], at: usize, len: usize| {
            bytes.get(at..at.saturating_add(len)).map(<[u8]>::to_vec).context("the answer is too short")
        };
        let response = ExchangeResponse {
            arcb: self.request.clone(),
            measurement: part(answer, 0, MEASUREMENT_SIZE)?,
            additional: part(answer, ADDITIONAL, additional)?,
            user_data: part(&block.user_data, 0, user_data)?,
            config_uid: block.config_uid,
        };
        let verified = match attest::verify(&response, &self.header, &self.key) {
            Ok(verified) => verified,
            Err(why) => {
                stage.owner(&format!("gives nothing to this guest: {why}"));
                return Ok(None);
            }
        };
        let words = String::from_utf8_lossy(&verified.user_data).into_owned();
        stage.owner(&format!("the measurement fits: my image, on my machine, and it says '{words}'"));
        let uid: String = verified.config_uid.iter().map(|byte| format!("{byte:02x}")).collect();
        stage.owner(&format!("seals a secret for this guest alone, configuration {uid}"));
        self.attested = true;
        let request = secret::Request {
            secret: GuestSecret::Retrievable {
                name: SecretName::hashed("demo"),
                key: RetrievableKey::new(KeyType::Plain, "demo", self.secret.expose())?,
            },
            extension: ExtensionSecret::None,
            config_uid: Some(verified.config_uid),
            disable_dump: false,
            user_data: UserData::default(),
        };
        let request = secret::request(&self.host_keys, &self.header, &request, &mut SystemEntropy)?;
        Ok(Some(request.encode()))
    }

    /// What the guest got, by its own account, and whether the host found it.
    pub(super) fn given(&mut self, console: &[String], hidden: bool, stage: &Stage) {
        let told = console.iter().rev().find_map(|line| line.split_once("its checksum is 0x"));
        let arrived =
            told.is_some_and(|(_, sum)| u32::from_str_radix(sum, 16) == Ok(checksum(self.secret.expose())));
        self.given = arrived && hidden;
        stage.owner(if arrived { "the checksum is that of my secret" } else { "my secret did not arrive" });
        stage.say(if hidden {
            "host  | carried the request; the secret stands nowhere in its mapping"
        } else {
            "host  | FOUND THE SECRET in its mapping"
        });
    }

    pub(super) fn secret(&self) -> &[u8] {
        self.secret.expose()
    }

    pub(super) fn satisfied(&self) -> bool {
        self.attested && self.given
    }

    pub(super) fn to_json(&self) -> Value {
        json!({ "attested": self.attested, "secret_given": self.given })
    }
}

/// As CHECKSUM computes it: words added with the carry coming in again on the right (SA22-7832, chapter 7).
fn checksum(bytes: &[u8]) -> u32 {
    bytes.chunks(4).fold(0, |sum: u32, chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        let (sum, carry) = sum.overflowing_add(u32::from_be_bytes(word));
        sum.wrapping_add(u32::from(carry))
    })
}

/// Where the additional data is in the guest's answer (`ADDITIONAL` in `guests/s390x/owner.inc`).
const ADDITIONAL: usize = 0x100;
