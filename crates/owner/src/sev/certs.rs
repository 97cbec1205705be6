//! Whose platform it is: the chain from AMD's root over the chip to the key that a session is made with.
//!
//! ARK signs itself and ASK, ASK signs CEK, the owner's OCA signs itself, OCA and CEK sign PEK, PEK signs PDH (AMD 55766,
//! chapter on certificates). Nothing is trusted that the caller did not name: no root is built in.

use cloister_crypto::{EcdsaHash, P384Public, P384Signature, PssHash, RsaPublic};
use cloister_formats::sev::amd_root::{AmdCertificate, Generation};
use cloister_formats::sev::certificate::{Algo, Certificate, Usage};
use cloister_formats::sev::chain::Chain;

/// How the key id of every modelled root begins; a vendor's key ids are random numbers.
pub const MODEL_KEY_ID: &[u8] = b"CLOISTER-MODEL";

/// What vouches for a chain.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trust<'a> {
    /// The file with the root to trust, and its certificates: ARK and ASK, or ARK alone.
    pub ca: Option<(&'a str, &'a Chain)>,
    /// Accept the root that a chain brings along if it says that it is a MODEL.
    pub allow_model_root: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Each signature that a full chain has, from the root down.
    pub links: Vec<Link>,
    /// Where the chain ends.
    pub root: Root,
    /// Whether the root is one of a modelled machine, not AMD's.
    pub model: bool,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What is signed.
    pub certificate: &'static str,
    /// With whose key.
    pub signer: &'static str,
    /// Whether it fits.
    pub outcome: Outcome,
}

/// Whether a signature fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It does.
    Good,
    /// It does not, or a certificate is not what it should be.
    Bad(String),
    /// A certificate is missing, or not signed.
    Absent(String),
}

/// Where a chain ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// At the root that the caller named.
    Given(String),
    /// At a model's root, which the chain brought along and the caller allowed.
    AllowedModel,
    /// At a root that the chain brought along and nobody vouches for.
    Unknown,
    /// At no root at all.
    None,
}

impl Verification {
    /// Why the chain must not be trusted; `None` if all of it fits up to a trusted root.
    pub fn refusal(&self) -> Option<String> {
        self.bad().or_else(|| match &self.root {
            Root::Unknown if self.model => Some(
                "its root is one of a MODEL machine, not AMD's: name the model's root with --ca, or say \
                 --allow-model-root"
                    .to_owned(),
            ),
            Root::Unknown | Root::None => Some(
                "nothing says which root to trust: give AMD's ASK and ARK for this processor with --ca \
                 (AMD publishes them for each processor)"
                    .to_owned(),
            ),
            Root::Given(_) | Root::AllowedModel => self.absent(),
        })
    }

    /// Why the chain is wrong as far as it goes; what is missing is not held against it, a model's root is.
    pub fn contradiction(&self) -> Option<String> {
        self.bad().or_else(|| if self.model { self.refusal() } else { None })
    }

    /// The first link that does not fit.
    fn bad(&self) -> Option<String> {
        self.links.iter().find_map(|link| match &link.outcome {
            Outcome::Bad(reason) => Some(format!("{} signed by {}: {reason}", link.certificate, link.signer)),
            Outcome::Good | Outcome::Absent(_) => None,
        })
    }

    /// The first link that is missing.
    fn absent(&self) -> Option<String> {
        self.links.iter().find_map(|link| match &link.outcome {
            Outcome::Absent(reason) => {
                Some(format!("{} signed by {}: {reason}", link.certificate, link.signer))
            }
            Outcome::Good | Outcome::Bad(_) => None,
        })
    }
}

/// Checks every signature of a chain.
pub fn verify(chain: &Chain, trust: Trust<'_>) -> Verification {
    let given = trust.ca.map(|(_, ca)| ca);
    let ark = given.map_or(chain.ark.as_ref(), |ca| ca.ark.as_ref());
    // A root alone vouches for whatever ASK it has signed.
    let ask = given.and_then(|ca| ca.ask.as_ref()).or(chain.ask.as_ref());
    let model = [ark, ask].into_iter().flatten().any(is_model);
    let root = match (trust.ca, ark) {
        (Some((file, _)), Some(_)) => Root::Given(file.to_owned()),
        (None, Some(_)) if model && trust.allow_model_root => Root::AllowedModel,
        (None, Some(_)) => Root::Unknown,
        (_, None) => Root::None,
    };
    let link = |certificate, signer, outcome: Result<(), Outcome>| Link {
        certificate,
        signer,
        outcome: outcome.err().unwrap_or(Outcome::Good),
    };
    let (pdh, pek, oca, cek) =
        (chain.pdh.as_ref(), chain.pek.as_ref(), chain.oca.as_ref(), chain.cek.as_ref());
    let links = vec![
        link("ARK", "ARK", both(ark, "ARK", ark, "ARK").and_then(|(ark, _)| root_by_root(ark, ark))),
        link("ASK", "ARK", both(ask, "ASK", ark, "ARK").and_then(|(ask, ark)| root_by_root(ask, ark))),
        link("CEK", "ASK", both(cek, "CEK", ask, "ASK").and_then(|(cek, ask)| chip_by_root(cek, ask))),
        link("OCA", "OCA", both(oca, "OCA", oca, "OCA").and_then(|(oca, _)| by_ecdsa(oca, oca, Usage::OCA))),
        link(
            "PEK",
            "OCA",
            both(pek, "PEK", oca, "OCA").and_then(|(pek, oca)| by_ecdsa(pek, oca, Usage::PEK)),
        ),
        link(
            "PEK",
            "CEK",
            both(pek, "PEK", cek, "CEK").and_then(|(pek, cek)| by_ecdsa(pek, cek, Usage::PEK)),
        ),
        link(
            "PDH",
            "PEK",
            both(pdh, "PDH", pek, "PEK").and_then(|(pdh, pek)| by_ecdsa(pdh, pek, Usage::PDH)),
        ),
    ];
    Verification { links, root, model }
}

/// Whether a root says that it is a modelled machine's.
pub fn is_model(certificate: &AmdCertificate) -> bool {
    certificate.key_id().starts_with(MODEL_KEY_ID) || certificate.certifying_id().starts_with(MODEL_KEY_ID)
}

/// The key of a certificate on P-384.
pub(super) fn p384(certificate: &Certificate, name: &str) -> Result<P384Public, Outcome> {
    let (x, y) = certificate.p384_key().map_err(|error| bad(format!("{name}: {error}")))?;
    P384Public::from_xy(&x, &y).map_err(|_| bad(format!("the key of {name} is not a point of P-384")))
}

/// The digest of a signature by this algorithm.
pub(super) const fn ecdsa_hash(algo: Algo) -> Option<EcdsaHash> {
    match algo {
        Algo::ECDSA_SHA256 => Some(EcdsaHash::Sha256),
        Algo::ECDSA_SHA384 => Some(EcdsaHash::Sha384),
        _ => None,
    }
}

fn both<'a, A, B>(
    a: Option<&'a A>,
    a_name: &str,
    b: Option<&'a B>,
    b_name: &str,
) -> Result<(&'a A, &'a B), Outcome> {
    match (a, b) {
        (Some(a), Some(b)) => Ok((a, b)),
        (None, _) => Err(Outcome::Absent(format!("there is no {a_name}"))),
        (_, None) => Err(Outcome::Absent(format!("there is no {b_name}"))),
    }
}

fn root_by_root(certificate: &AmdCertificate, signer: &AmdCertificate) -> Result<(), Outcome> {
    if certificate.certifying_id() != signer.key_id() {
        return Err(bad("the certificate names another key as its signer: these two do not belong together"));
    }
    rsa_fits(signer, certificate.signed_bytes(), certificate.signature())
}

fn chip_by_root(cek: &Certificate, ask: &AmdCertificate) -> Result<(), Outcome> {
    if cek.slot(0).is_empty() && cek.slot(1).is_empty() {
        return Err(Outcome::Absent(
            "the CEK is not signed, as a platform exports it: fetch the signed one from AMD's key server with the \
             platform's id and give it with --cek"
                .to_owned(),
        ));
    }
    named(cek, Usage::CEK)?;
    let slots = cek.slots_of(Usage::ASK, ask.generation().algo()).map_err(|error| bad(error.to_string()))?;
    let size = ask.generation().number_size();
    slots.iter().try_for_each(|slot| rsa_fits(ask, cek.signed_bytes(), &slot.data[..size]))
}

fn by_ecdsa(certificate: &Certificate, signer: &Certificate, usage: Usage) -> Result<(), Outcome> {
    named(certificate, usage)?;
    let by = signer.usage();
    if !Certificate::signers(usage).contains(&by) {
        return Err(bad(format!("a {by} may not sign a {usage}")));
    }
    let hash = ecdsa_hash(signer.algo())
        .ok_or_else(|| bad(format!("{by} has algorithm {}, which is none of ECDSA", signer.algo())))?;
    let key = p384(signer, by.name().unwrap_or("the signer"))?;
    let slots = certificate.slots_of(by, signer.algo()).map_err(|error| bad(error.to_string()))?;
    slots.iter().try_for_each(|slot| {
        let (r, s) = slot.r_s();
        P384Signature::from_le_fields(&r, &s)
            .and_then(|signature| key.verify(hash, certificate.signed_bytes(), &signature))
            .map_err(|_| bad(ALTERED))
    })
}

fn named(certificate: &Certificate, usage: Usage) -> Result<(), Outcome> {
    certificate.check_version().map_err(|error| bad(error.to_string()))?;
    if certificate.usage() != usage {
        return Err(bad(format!("the certificate is one of {}, not of {usage}", certificate.usage())));
    }
    p384(certificate, usage.name().unwrap_or("the certificate")).map(drop)
}

fn rsa_fits(signer: &AmdCertificate, message: &[u8], signature: &[u8]) -> Result<(), Outcome> {
    let hash = match signer.generation() {
        Generation::Rsa2048 => PssHash::Sha256,
        Generation::Rsa4096 => PssHash::Sha384,
    };
    let key = RsaPublic::from_le(signer.modulus(), signer.exponent())
        .map_err(|error| bad(format!("the key of {}: {error}", signer.usage())))?;
    key.verify_pss(hash, message, signature).map_err(|_| bad(ALTERED))
}

fn bad(reason: impl Into<String>) -> Outcome {
    Outcome::Bad(reason.into())
}

const ALTERED: &str = "the signature does not fit: one of the two is altered or belongs to another platform";
