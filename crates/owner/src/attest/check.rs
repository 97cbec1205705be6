//! A verified answer against a policy: which machine, which user data, which secrets.
//!
//! This does not verify the answer: [`super::verify()`] does, and comes first.

use std::path::PathBuf;

use cloister_crypto::{Sha512, ct_eq};
use cloister_formats::s390x::arcb::Arcb;
use cloister_formats::s390x::asrcb::Asrcb;
use cloister_formats::s390x::attestation::AdditionalData;
use cloister_formats::s390x::exchange::ExchangeResponse;
use cloister_formats::s390x::host_key::Phkh;

use super::AttestError;
use super::verify::read_response;
use super::yaml::{entry, hex, quoted};
use crate::host_key::{Document, Warning};
use crate::{OwnerError, files};

/// Which host-key hashes an answer must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostKeyCheck {
    /// `att-key-hash`: the one of the key that opened the request.
    pub attestation: bool,
    /// `boot-key-hash`: the one of the key that opened the image.
    pub boot: bool,
}

/// What the secret store must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretStorePolicy {
    /// The requests that were added, in their order.
    pub requests: Vec<Vec<u8>>,
    /// Whether the store is locked.
    pub locked: bool,
}

/// What an answer must say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The acceptable machines by document and host-key hash; none: every machine.
    pub host_keys: Vec<(String, Phkh)>,
    /// The hashes that must not be missing.
    pub required: HostKeyCheck,
    /// The user data, exactly.
    pub user_data: Option<Vec<u8>>,
    /// The secret store.
    pub secret_store: Option<SecretStorePolicy>,
}

/// Something that was looked at and is as the policy wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckItem {
    /// Its name in the report.
    pub name: &'static str,
    /// Its value in the answer.
    pub value: Vec<u8>,
    /// The host-key document that it belongs to.
    pub document: Option<String>,
}

/// The result of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// What is wrong; nothing if the policy is met.
    pub issues: Vec<String>,
    /// What is right.
    pub items: Vec<CheckItem>,
}

/// Checks an answer file; documents and requests come from files too. The warnings say which host keys are of modelled
/// machines.
pub fn check_file(
    input: &std::path::Path,
    documents: &[PathBuf],
    required: HostKeyCheck,
    user_data: Option<&std::path::Path>,
    secret_store: Option<(&[PathBuf], bool)>,
    warnings: &mut Vec<Warning>,
) -> Result<CheckReport, OwnerError> {
    if documents.is_empty() && (required.attestation || required.boot) {
        return Err(
            AttestError::Options("--host-key-check needs a host-key document (-k) to compare with").into()
        );
    }
    let response = read_response(input)?;
    let mut host_keys = Vec::new();
    for file in documents {
        let document = Document::load(file)?;
        warnings.extend(document.model_warning());
        host_keys.push((document.name().to_owned(), Phkh(document.phkh())));
    }
    let user_data =
        user_data.map(|file| files::read_limited(file, 256, "user data of an attestation")).transpose()?;
    let secret_store = match secret_store {
        None => None,
        Some((requests, locked)) => Some(SecretStorePolicy {
            requests: requests.iter().map(|file| files::read_small(file)).collect::<Result<_, _>>()?,
            locked,
        }),
    };
    Ok(check(&response, &Policy { host_keys, required, user_data, secret_store })?)
}

/// Checks an answer in memory.
pub fn check(response: &ExchangeResponse, policy: &Policy) -> Result<CheckReport, AttestError> {
    let malformed = |error| AttestError::format("the answer", error);
    let arcb = Arcb::parse(&response.arcb).map_err(malformed)?;
    let items = AdditionalData::parse(arcb.flags, &response.additional).map_err(malformed)?;
    let mut report = CheckReport::default();
    report.host_key("image_host_key", "boot the image", items.image_phkh, policy, policy.required.boot);
    let required = policy.required.attestation;
    report.host_key("attest_host_key", "open the request", items.attestation_phkh, policy, required);
    if let Some(wanted) = &policy.user_data {
        match ct_eq(wanted, &response.user_data) {
            true => report.good("user_data", &response.user_data, None),
            false => report.issues.push(format!(
                "The user data is not the expected one: {} bytes are expected, the answer has {} bytes, 0x{}.",
                wanted.len(),
                response.user_data.len(),
                hex(&response.user_data)
            )),
        }
    }
    if let Some(store) = &policy.secret_store {
        report.secret_store(items.secret_store_hash, store)?;
    }
    Ok(report)
}

impl CheckReport {
    /// Whether the policy is met.
    pub fn successful(&self) -> bool {
        self.issues.is_empty()
    }

    /// The result as YAML; the keys of the first level are those of `pvattest check`.
    pub fn yaml(&self) -> String {
        let mut out = format!("successful: {}\n", self.successful());
        if !self.issues.is_empty() {
            out.push_str("issues:\n");
            self.issues.iter().for_each(|issue| out.push_str(&format!("- {}\n", quoted(issue))));
        }
        for item in &self.items {
            match &item.document {
                None => entry(&mut out, 0, item.name, &item.value),
                Some(document) => {
                    out.push_str(&format!("{}:\n", item.name));
                    entry(&mut out, 2, "hash", &item.value);
                    out.push_str(&format!("  document: {}\n", quoted(document)));
                }
            }
        }
        out
    }

    fn good(&mut self, name: &'static str, value: &[u8], document: Option<String>) {
        self.items.push(CheckItem { name, value: value.to_vec(), document });
    }

    fn host_key(
        &mut self,
        name: &'static str,
        what: &str,
        phkh: Option<Phkh>,
        policy: &Policy,
        required: bool,
    ) {
        if policy.host_keys.is_empty() {
            return;
        }
        let Some(phkh) = phkh else {
            if required {
                self.issues.push(format!(
                    "The answer does not say which host key was used to {what}: ask for it with --add-data when the \
                     request is made."
                ));
            }
            return;
        };
        match policy.host_keys.iter().find(|(_, known)| *known == phkh) {
            Some((document, _)) => self.good(name, &phkh.0, Some(document.clone())),
            None => self.issues.push(format!(
                "The host key used to {what} is {phkh}, which is none of the given documents' ({}).",
                policy.host_keys.iter().map(|(file, _)| file.as_str()).collect::<Vec<_>>().join(", ")
            )),
        }
    }

    fn secret_store(
        &mut self,
        hash: Option<[u8; 64]>,
        policy: &SecretStorePolicy,
    ) -> Result<(), AttestError> {
        let Some(hash) = hash else {
            self.issues.push(
                "The answer has no hash of the secret store: ask for it with --add-data secret-store-hash when the \
                 request is made."
                    .into(),
            );
            return Ok(());
        };
        let state = |locked: bool| -> Result<[u8; 64], AttestError> {
            let mut state = Sha512::new();
            for request in &policy.requests {
                let parsed = Asrcb::parse(request)
                    .map_err(|error| AttestError::format("a request given with --secret", error))?;
                state.update(&parsed.tag);
            }
            state.update(&[u8::from(locked)]);
            Ok(state.finish())
        };
        if ct_eq(&state(policy.locked)?, &hash) {
            self.good("secret_store", &hash, None);
        } else if ct_eq(&state(!policy.locked)?, &hash) {
            let found = if policy.locked { "not locked" } else { "locked" };
            self.issues.push(format!("The secret store holds the expected secrets, but it is {found}."));
        } else {
            self.issues.push(format!(
                "The secret store is not the one of these {} requests in this order: its hash is 0x{}.",
                policy.requests.len(),
                hex(&hash)
            ));
        }
        Ok(())
    }
}
