//! The decision whether a vendor vouches for a host-key document.
//!
//! Order of the checks: the signing certificate is found, its chain to a trusted root is checked
//! with a revocation list for every certificate (RFC 5280, 6.1 and 6.3, without policies and name
//! constraints, which such chains do not use), then each document and the signing key's own list.

use std::time::SystemTime;

use super::subject::{is_signing_subject, same_signer};
use super::x509::{Cert, Crl};
use super::{Document, Warning};
use crate::{HostKeyError, OwnerError};

/// A decision and what it rests on.
pub(super) struct Decision {
    pub(super) certificates: Vec<Cert>,
    pub(super) crls: Vec<Crl>,
    pub(super) roots: Vec<Cert>,
    pub(super) used_system: bool,
    pub(super) time: SystemTime,
}

impl Decision {
    pub(super) fn verify(&self, documents: &[Document]) -> Result<Vec<Warning>, OwnerError> {
        let signing = self.signing_certificate()?;
        let chain = self.chain(signing)?;
        for (index, certificate) in chain.iter().enumerate() {
            self.check_in_chain(certificate, index)?;
        }
        // Each certificate against the one above it; the root is its own issuer.
        for (index, certificate) in chain.iter().enumerate() {
            let issuer = chain.get(index + 1).unwrap_or(certificate);
            if !certificate.names_as_issuer(issuer)? {
                return Err(mismatch(certificate, issuer));
            }
            certificate.check_signature(issuer)?;
            let list_of_issuer = |crl: &&Crl| crl.issuer() == issuer.subject();
            self.check_revocation(certificate, issuer, self.crls.iter().filter(list_of_issuer))?;
        }
        for document in documents {
            self.check_document(&document.certificate, signing)?;
        }
        let all = chain.into_iter().chain(documents.iter().map(|document| &document.certificate));
        Ok(all.filter_map(Cert::model_warning).collect())
    }

    fn signing_certificate(&self) -> Result<&Cert, OwnerError> {
        let candidates: Vec<_> = self
            .certificates
            .iter()
            .filter(|certificate| is_signing_subject(certificate.subject()))
            .collect();
        match candidates[..] {
            [one] => Ok(one),
            [] => {
                let subjects = self.certificates.iter().map(|certificate| certificate.subject().to_string());
                Err(HostKeyError::NoSigningCertificate { subjects: list(subjects) }.into())
            }
            _ => {
                let files = candidates.iter().map(|certificate| certificate.file.clone());
                Err(HostKeyError::SeveralSigningCertificates { files: list(files) }.into())
            }
        }
    }

    /// From the signing certificate to a root, both included.
    fn chain<'a>(&'a self, signing: &'a Cert) -> Result<Vec<&'a Cert>, OwnerError> {
        let mut chain = vec![signing];
        let mut last = signing;
        loop {
            let issues = |candidate: &&Cert| {
                candidate.subject() == last.issuer() && last.names_as_issuer(candidate).unwrap_or(false)
            };
            if let Some(root) = self.roots.iter().filter(|root| root.is_self_issued()).find(issues) {
                chain.push(root);
                return Ok(chain);
            }
            let unused = |candidate: &&Cert| !chain.iter().any(|used| used.same_as(candidate));
            let next = self.certificates.iter().filter(unused).find(issues);
            match next {
                Some(next) if chain.len() <= MAX_INTERMEDIATES => {
                    chain.push(next);
                    last = next;
                }
                Some(_) => return Err(HostKeyError::ChainTooLong.into()),
                None => {
                    return Err(HostKeyError::NoIssuer {
                        file: last.file.clone(),
                        issuer: last.issuer().to_string(),
                        looked_in: match self.used_system {
                            true => "the -C files and the roots that this system trusts; name the root with --root-ca",
                            false => "the -C files and the --root-ca file (whose certificate must be self-signed)",
                        },
                    }
                    .into());
                }
            }
        }
    }

    /// What a certificate must be by itself: `below` certificates stand under it in the chain.
    fn check_in_chain(&self, certificate: &Cert, below: usize) -> Result<(), OwnerError> {
        self.check_plain(certificate)?;
        if below == 0 {
            return match certificate.key_usage()? {
                Some(usage) if !usage.digital_signature() && !usage.key_cert_sign() => {
                    Err(not_allowed(certificate, "its key usage does not allow signatures"))
                }
                Some(_) | None => Ok(()),
            };
        }
        match certificate.basic_constraints()? {
            Some(constraints) if constraints.ca => {
                let intermediates = below - 1;
                if constraints.path_len_constraint.is_some_and(|limit| usize::from(limit) < intermediates) {
                    return Err(not_allowed(
                        certificate,
                        "its path length does not allow the chain below it",
                    ));
                }
            }
            Some(_) | None => return Err(not_allowed(certificate, "it is not a certificate authority")),
        }
        match certificate.key_usage()? {
            Some(usage) if !usage.key_cert_sign() => {
                return Err(not_allowed(certificate, "its key usage does not allow signing certificates"));
            }
            Some(_) | None => {}
        }
        // RFC 5280, 4.2.1.1 and 4.2.1.2: authorities carry a key identifier, and only a self-signed
        // certificate may leave its authority's out.
        if certificate.key_id()?.is_none() {
            return Err(not_allowed(certificate, "it has no subject key identifier"));
        }
        if !certificate.is_self_issued() && !certificate.has_authority_key_id()? {
            return Err(not_allowed(certificate, "it has no authority key identifier"));
        }
        Ok(())
    }

    fn check_document(&self, document: &Cert, signing: &Cert) -> Result<(), OwnerError> {
        self.check_plain(document)?;
        if !document.names_as_issuer(signing)? {
            return Err(mismatch(document, signing));
        }
        document.check_signature(signing)?;
        let lists = self.crls.iter().filter(|crl| same_signer(crl.issuer(), signing.subject()));
        self.check_revocation(document, signing, lists)
    }

    fn check_plain(&self, certificate: &Cert) -> Result<(), OwnerError> {
        certificate.check_validity(self.time)?;
        let bits = certificate.security_bits();
        if bits < MIN_SECURITY_BITS {
            return Err(HostKeyError::WeakKey { file: certificate.file.clone(), bits }.into());
        }
        match certificate.unknown_critical_extension() {
            Some(oid) => {
                Err(HostKeyError::UnknownCritical { file: certificate.file.clone(), oid: oid.to_string() }
                    .into())
            }
            None => Ok(()),
        }
    }

    /// At least one valid list of the issuer, and none that names the certificate.
    fn check_revocation<'a>(
        &'a self,
        certificate: &Cert,
        issuer: &Cert,
        lists: impl Iterator<Item = &'a Crl>,
    ) -> Result<(), OwnerError> {
        let mut valid = 0usize;
        let mut first_failure = None;
        for crl in lists {
            match crl.check(issuer, self.time) {
                Ok(()) if crl.revokes(certificate) => {
                    return Err(HostKeyError::Revoked {
                        file: certificate.file.clone(),
                        serial: certificate.serial().to_string(),
                        crl: crl.file.clone(),
                    }
                    .into());
                }
                Ok(()) => valid += 1,
                Err(error) => first_failure = first_failure.or(Some(error)),
            }
        }
        match (valid, first_failure) {
            (1.., _) => Ok(()),
            (0, Some(failure)) => Err(failure),
            (0, None) => Err(HostKeyError::NoCrl {
                issuer: issuer.subject().to_string(),
                file: certificate.file.clone(),
                given: list(self.crls.iter().map(|crl| format!("{} ({})", crl.file, crl.issuer()))),
            }
            .into()),
        }
    }
}

fn mismatch(certificate: &Cert, issuer: &Cert) -> OwnerError {
    HostKeyError::AuthorityMismatch { file: certificate.file.clone(), issuer: issuer.file.clone() }.into()
}

fn not_allowed(certificate: &Cert, reason: &'static str) -> OwnerError {
    HostKeyError::NotAllowed { file: certificate.file.clone(), reason }.into()
}

fn list(items: impl Iterator<Item = String>) -> String {
    let text = items.collect::<Vec<_>>().join("; ");
    if text.is_empty() { "none".into() } else { text }
}

/// Of the public keys (NIST SP 800-57 part 1).
const MIN_SECURITY_BITS: u32 = 112;
/// Certificates between the signing certificate and the root.
const MAX_INTERMEDIATES: usize = 2;
