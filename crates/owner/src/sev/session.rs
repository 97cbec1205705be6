//! A launch session: fresh transport keys, wrapped so that one platform's firmware can open them.
//!
//! The key schedule is that of the "Secure Encrypted Virtualization API" (AMD 55766), chapter 2 and LAUNCH_START; see
//! [`cloister_formats::sev::session`].

use cloister_crypto::{
    Entropy, P384Public, P384Secret, Secret, aes128_ctr, hmac_sha256, kbkdf_hmac_sha256_le,
};
use cloister_formats::sev::certificate::{Algo, Certificate, EccKey, Usage};
use cloister_formats::sev::policy::Policy;
use cloister_formats::sev::session::{KEK_LABEL, KIK_LABEL, MASTER_SECRET_LABEL, Session};
use zeroize::Zeroizing;

use super::{Keys, SevError};

/// What a launch needs: the first two go to the hypervisor, the keys stay with the owner.
#[derive(Debug)]
pub struct Launch {
    /// The owner's certificate for this launch.
    pub godh: Certificate,
    /// The wrapped keys.
    pub session: Session,
    /// The keys.
    pub keys: Keys,
}

/// Random numbers of a session.
#[derive(Debug)]
pub struct Random {
    /// The owner's private key.
    pub godh: P384Secret,
    /// The keys.
    pub keys: Keys,
    /// Context of the master secret.
    pub nonce: [u8; 16],
    /// Counter of the wrapping.
    pub wrap_iv: [u8; 16],
}

impl Random {
    /// Draws all of them.
    pub fn draw(entropy: &mut dyn Entropy) -> Self {
        let godh = P384Secret::generate(entropy);
        let keys = Keys { tik: Secret::generate(entropy), tek: Secret::generate(entropy) };
        let (mut nonce, mut wrap_iv) = ([0; 16], [0; 16]);
        entropy.fill(&mut nonce);
        entropy.fill(&mut wrap_iv);
        Self { godh, keys, nonce, wrap_iv }
    }
}

/// Makes a session for the platform whose PDH certificate is in `file`. Whether that platform is to be trusted is not
/// looked at: see [`super::certs`].
///
/// # Errors
/// If the certificate is none of a PDH, or its key no point of the curve.
pub fn start(file: &str, pdh: &Certificate, policy: Policy, random: Random) -> Result<Launch, SevError> {
    let platform = platform_key(file, pdh)?;
    let (x, y) = random.godh.public().to_xy();
    let godh = Certificate::new((0, 0), Usage::PDH, Algo::ECDH_SHA256, &EccKey::p384(&x, &y));

    let z = random.godh.ecdh_x(&platform);
    let master: Secret<16> = kbkdf_hmac_sha256_le(z.expose(), MASTER_SECRET_LABEL, &random.nonce);
    let kek: Secret<16> = kbkdf_hmac_sha256_le(master.expose(), KEK_LABEL, &[]);
    let kik: Secret<16> = kbkdf_hmac_sha256_le(master.expose(), KIK_LABEL, &[]);

    let Keys { tik, tek } = &random.keys;
    let mut wrapped = Zeroizing::new([0; 32]);
    wrapped[..16].copy_from_slice(tek.expose());
    wrapped[16..].copy_from_slice(tik.expose());
    aes128_ctr(&kek, &random.wrap_iv, &mut wrapped[..]);
    let session = Session {
        nonce: random.nonce,
        wrap_tk: *wrapped,
        wrap_iv: random.wrap_iv,
        wrap_mac: hmac_sha256(kik.expose(), &[&wrapped[..]]),
        policy_mac: hmac_sha256(tik.expose(), &[&policy.to_le_bytes()]),
    };
    Ok(Launch { godh, session, keys: random.keys })
}

/// The key of a PDH certificate, checked to be one.
fn platform_key(file: &str, pdh: &Certificate) -> Result<P384Public, SevError> {
    let fault = |source| SevError::Format { file: file.to_owned(), source };
    pdh.check_version().map_err(fault)?;
    if pdh.usage() != Usage::PDH || !matches!(pdh.algo(), Algo::ECDH_SHA256 | Algo::ECDH_SHA384) {
        return Err(SevError::Missing {
            file: file.to_owned(),
            what: "PDH",
            hint: "its certificate has another usage or algorithm: give the platform's PDH, or its whole chain",
        });
    }
    let (x, y) = pdh.p384_key().map_err(fault)?;
    P384Public::from_xy(&x, &y).map_err(|_| SevError::Key { file: file.to_owned(), certificate: "PDH" })
}
