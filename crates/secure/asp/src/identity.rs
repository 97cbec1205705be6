//! What makes one processor different from another: the secret in its fuses, and the certificates that its maker
//! issued for it.

use std::fmt;

use cloister_crypto::{
    Entropy, P384Secret, PssHash, RsaSecret, Secret, ct_eq, hmac_sha256, kbkdf_hmac_sha256_le, sha256,
};
use cloister_formats::sev::amd_root::{AmdCertificate, Generation};
use cloister_formats::sev::certificate::{Algo, Certificate, EccKey, Slot, Usage};
use zeroize::Zeroizing;

/// Key id of a model's ARK. A vendor's key ids are published numbers, so this can be none of them.
pub const MODEL_ARK_ID: [u8; 16] = *b"CLOISTER-MODEL-A";
/// Key id of a model's ASK.
pub const MODEL_ASK_ID: [u8; 16] = *b"CLOISTER-MODEL-S";
/// First bytes of what GET_ID gives.
pub const MODEL_CHIP_ID: [u8; 16] = *b"CLOISTER-MODEL-C";

/// The chip secret and the maker's certificates for it. Every root in it says MODEL in its key id.
#[derive(Clone)]
pub struct Identity {
    chip: Secret<32>,
    roots: Vec<Root>,
}

/// What the maker publishes for a chip, in one generation of root keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The self-signed root.
    pub ark: AmdCertificate,
    /// The intermediate, signed by the ARK.
    pub ask: AmdCertificate,
    /// The chip's endorsement key, signed by the ASK.
    pub cek: Certificate,
}

/// The private keys of a maker, which can certify any number of chips.
pub struct RootKeys {
    ask_key: RsaSecret,
    ark: AmdCertificate,
    ask: AmdCertificate,
}

/// Why a sealed identity was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The bytes are no sealed identity.
    #[error("this is no identity of a model platform: {0}; create the platform again or restore its folder")]
    Format(&'static str),
    /// The check value is wrong.
    #[error(
        "the identity of the platform was changed or is damaged: its check value does not fit; restore it from a copy"
    )]
    Integrity,
}

impl Identity {
    /// A new chip with roots of both generations. Draws four RSA keys, two of them of 4096 bits: this takes seconds.
    /// The maker's private keys are gone when it returns.
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        let mut identity = Self::of_chip(Secret::generate(entropy));
        for generation in [Generation::Rsa2048, Generation::Rsa4096] {
            identity.certify(&RootKeys::generate(entropy, generation), entropy);
        }
        identity
    }

    /// A chip with a given secret that no maker has certified.
    pub const fn of_chip(chip: Secret<32>) -> Self {
        Self { chip, roots: Vec::new() }
    }

    /// Lets a maker certify the chip; an earlier root of the same generation is replaced.
    pub fn certify(&mut self, maker: &RootKeys, entropy: &mut dyn Entropy) {
        let generation = maker.ask.generation();
        let mut cek = self.cek();
        let signature = sign(&maker.ask_key, generation, cek.signed_bytes(), entropy);
        cek.set_slot(0, &Slot::rsa(Usage::ASK, generation.algo(), &signature));
        self.roots.retain(|root| root.ark.generation() != generation);
        self.roots.push(Root { ark: maker.ark.clone(), ask: maker.ask.clone(), cek });
    }

    /// The maker's certificates, at most one set for each generation.
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// The set of one generation.
    pub fn root(&self, generation: Generation) -> Option<&Root> {
        self.roots.iter().find(|root| root.ark.generation() == generation)
    }

    /// The endorsement key's certificate as the firmware exports it: without a signature.
    pub fn cek(&self) -> Certificate {
        let (x, y) = self.cek_key().public().to_xy();
        Certificate::new((0, 0), Usage::CEK, Algo::ECDSA_SHA256, &EccKey::p384(&x, &y))
    }

    /// The 64 bytes that GET_ID gives for a socket: opaque to every client.
    pub fn chip_id(&self, socket: u8) -> [u8; 64] {
        let rest = kbkdf_hmac_sha256_le::<48>(self.chip.expose(), b"cloister-model-chip-id", &[socket]);
        let mut id = [0; 64];
        id[..16].copy_from_slice(&MODEL_CHIP_ID);
        id[16..].copy_from_slice(rest.expose());
        id
    }

    /// The private endorsement key.
    pub(crate) fn cek_key(&self) -> P384Secret {
        let seed = Secret::new(sha256(self.chip.expose()));
        let bits = kbkdf_hmac_sha256_le::<56>(seed.expose(), b"sev-chip-endorsement-key", &[]);
        P384Secret::from_extra_random_bits(&bits)
    }

    /// Key of the encryption of what persists. The label has a NUL of its own.
    pub(crate) fn store_key(&self) -> Secret<16> {
        kbkdf_hmac_sha256_le(self.chip.expose(), b"sev-persistent-encryption\0", &[])
    }

    /// Key of the MAC over what persists. The label has a NUL of its own.
    pub(crate) fn store_mac_key(&self) -> Secret<32> {
        kbkdf_hmac_sha256_le(self.chip.expose(), b"sev-persistent-integrity\0", &[])
    }

    /// The identity for a file that only its owner can read: the chip secret stands in it as it would in fuses, so it
    /// has a check value and no encryption.
    pub fn seal(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(64 + self.roots.len() * 8192));
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(self.chip.expose());
        out.push(self.roots.len() as u8);
        for root in &self.roots {
            for part in [root.ark.as_bytes(), root.ask.as_bytes(), &root.cek.as_bytes()[..]] {
                out.extend_from_slice(&(part.len() as u32).to_le_bytes());
                out.extend_from_slice(part);
            }
        }
        let check = self.check_value(&out);
        out.extend_from_slice(&check);
        out
    }

    /// Reads what [`seal`](Self::seal) gave.
    ///
    /// # Errors
    /// If it is something else, or was changed.
    pub fn open(bytes: &[u8]) -> Result<Self, IdentityError> {
        let short = || IdentityError::Format("it is too short");
        let rest = bytes.strip_prefix(MAGIC).ok_or(IdentityError::Format("it begins with other bytes"))?;
        let (chip, rest) = rest.split_at_checked(32).ok_or_else(short)?;
        let mut identity = Self::of_chip(Secret::from_slice(chip).ok_or_else(short)?);
        let body = bytes.len().checked_sub(32).ok_or_else(short)?;
        if !ct_eq(&identity.check_value(&bytes[..body]), &bytes[body..]) {
            return Err(IdentityError::Integrity);
        }
        let (&count, mut rest) = rest.split_first().ok_or_else(short)?;
        let mut part = || {
            let (len, tail) = rest.split_first_chunk::<4>().ok_or_else(short)?;
            let (part, tail) = tail.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(short)?;
            rest = tail;
            Ok(part)
        };
        let amd =
            |bytes| AmdCertificate::parse(bytes).map_err(|_| IdentityError::Format("a root in it is none"));
        for _ in 0..count {
            let (ark, ask, cek) = (amd(part()?)?, amd(part()?)?, part()?);
            let cek = Certificate::parse(cek).map_err(|_| IdentityError::Format("the CEK in it is none"))?;
            identity.roots.push(Root { ark, ask, cek });
        }
        if rest.len() != 32 {
            return Err(IdentityError::Format("it goes on where it should end"));
        }
        Ok(identity)
    }

    fn check_value(&self, body: &[u8]) -> [u8; 32] {
        let key = kbkdf_hmac_sha256_le::<32>(self.chip.expose(), b"cloister-identity-integrity", &[]);
        hmac_sha256(key.expose(), &[body])
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("roots", &self.roots).finish_non_exhaustive()
    }
}

impl RootKeys {
    /// A new maker. Two RSA keys are drawn; with 4096 bits this takes seconds.
    pub fn generate(entropy: &mut dyn Entropy, generation: Generation) -> Self {
        let mut draw = || {
            RsaSecret::generate(entropy, generation.bits() as usize)
                .expect("the library makes 2048 and 4096 bits")
        };
        let (ark_key, ask_key) = (draw(), draw());
        let certificate = |key: &RsaSecret, usage, id| {
            let public = key.public();
            AmdCertificate::new(
                generation,
                usage,
                id,
                MODEL_ARK_ID,
                &public.exponent_le(),
                &public.modulus_le(),
            )
        };
        let mut ark = certificate(&ark_key, Usage::ARK, MODEL_ARK_ID);
        let mut ask = certificate(&ask_key, Usage::ASK, MODEL_ASK_ID);
        for certificate in [&mut ark, &mut ask] {
            let signature = sign(&ark_key, generation, certificate.signed_bytes(), entropy);
            certificate.set_signature(&signature);
        }
        Self { ask_key, ark, ask }
    }

    /// The certificates ARK and ASK.
    pub const fn certificates(&self) -> (&AmdCertificate, &AmdCertificate) {
        (&self.ark, &self.ask)
    }
}

impl fmt::Debug for RootKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootKeys").field("ark", &self.ark).field("ask", &self.ask).finish_non_exhaustive()
    }
}

/// The digest under signatures of a generation.
pub(crate) const fn digest_of(generation: Generation) -> PssHash {
    match generation {
        Generation::Rsa2048 => PssHash::Sha256,
        Generation::Rsa4096 => PssHash::Sha384,
    }
}

fn sign(key: &RsaSecret, generation: Generation, message: &[u8], entropy: &mut dyn Entropy) -> Vec<u8> {
    key.sign_pss(entropy, digest_of(generation), message).expect("the key is larger than digest and salt")
}

const MAGIC: &[u8] = b"CLOISTER-SEV-ID1";
