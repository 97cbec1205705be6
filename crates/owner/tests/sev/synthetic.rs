//! A platform made of whole cloth: every certificate from the root down, with the private keys.
//!
//! It shares no code with what is tested but byte layouts and primitives.

use cloister_crypto::{
    EcdsaHash, Entropy, P384Secret, PssHash, RsaSecret, Secret, SeededEntropy, aes128_ctr, hmac_sha256,
    kbkdf_hmac_sha256_le,
};
use cloister_formats::sev::amd_root::{AmdCertificate, Generation};
use cloister_formats::sev::attestation::Report;
use cloister_formats::sev::certificate::{Algo, Certificate, EccKey, Slot, Usage};
use cloister_formats::sev::chain::Chain;
use cloister_formats::sev::policy::Policy;
use cloister_formats::sev::session::Session;

pub(crate) struct Platform {
    pub(crate) chain: Chain,
    pub(crate) pdh: P384Secret,
    pub(crate) pek: P384Secret,
}

/// A platform with a root of this generation, whose key ids begin with `name`.
pub(crate) fn platform(generation: Generation, name: &[u8], seed: &str) -> Platform {
    let mut entropy = SeededEntropy::new(seed.as_bytes());
    let mut id = |last: u8| {
        let mut id = [0; 16];
        entropy.fill(&mut id);
        id[..name.len()].copy_from_slice(name);
        id[15] = last;
        id
    };
    let (ark_id, ask_id) = (id(b'R'), id(b'S'));
    let bits = generation.bits() as usize;
    let ark_key = RsaSecret::generate(&mut entropy, bits).unwrap();
    let ask_key = RsaSecret::generate(&mut entropy, bits).unwrap();
    let root = |usage, id, by, key: &RsaSecret| {
        let public = key.public();
        AmdCertificate::new(generation, usage, id, by, &public.exponent_le(), &public.modulus_le())
    };
    let hash = match generation {
        Generation::Rsa2048 => PssHash::Sha256,
        Generation::Rsa4096 => PssHash::Sha384,
    };
    let mut ark = root(Usage::ARK, ark_id, ark_id, &ark_key);
    ark.set_signature(&ark_key.sign_pss(&mut entropy, hash, ark.signed_bytes()).unwrap());
    let mut ask = root(Usage::ASK, ask_id, ark_id, &ask_key);
    ask.set_signature(&ark_key.sign_pss(&mut entropy, hash, ask.signed_bytes()).unwrap());

    let [oca_key, cek_key, pek_key, pdh_key] = [(); 4].map(|()| P384Secret::generate(&mut entropy));
    let mut cek = certificate(Usage::CEK, Algo::ECDSA_SHA256, &cek_key);
    let signature = ask_key.sign_pss(&mut entropy, hash, cek.signed_bytes()).unwrap();
    cek.set_slot(0, &Slot::rsa(Usage::ASK, generation.algo(), &signature));
    let mut oca = certificate(Usage::OCA, Algo::ECDSA_SHA256, &oca_key);
    sign(&mut oca, 0, Usage::OCA, &oca_key);
    let mut pek = certificate(Usage::PEK, Algo::ECDSA_SHA256, &pek_key);
    sign(&mut pek, 0, Usage::OCA, &oca_key);
    sign(&mut pek, 1, Usage::CEK, &cek_key);
    let mut pdh = certificate(Usage::PDH, Algo::ECDH_SHA256, &pdh_key);
    sign(&mut pdh, 0, Usage::PEK, &pek_key);
    let chain = Chain {
        pdh: Some(pdh),
        pek: Some(pek),
        oca: Some(oca),
        cek: Some(cek),
        ask: Some(ask),
        ark: Some(ark),
    };
    Platform { chain, pdh: pdh_key, pek: pek_key }
}

impl Platform {
    /// Opens a session as LAUNCH_START does: TIK, TEK.
    pub(crate) fn open(
        &self,
        godh: &Certificate,
        session: &Session,
        policy: Policy,
    ) -> Option<([u8; 16], [u8; 16])> {
        let (x, y) = godh.check_owner().ok()?;
        let peer = cloister_crypto::P384Public::from_xy(&x, &y).ok()?;
        let z = self.pdh.ecdh_x(&peer);
        let master: Secret<16> = kbkdf_hmac_sha256_le(z.expose(), b"sev-master-secret", &session.nonce);
        let kek: Secret<16> = kbkdf_hmac_sha256_le(master.expose(), b"sev-kek", &[]);
        let kik: Secret<16> = kbkdf_hmac_sha256_le(master.expose(), b"sev-kik", &[]);
        let mut keys = session.wrap_tk;
        if hmac_sha256(kik.expose(), &[&keys]) != session.wrap_mac {
            return None;
        }
        aes128_ctr(&kek, &session.wrap_iv, &mut keys);
        let (tek, tik) = keys.split_at(16);
        let policy_fits = hmac_sha256(tik, &[&policy.to_le_bytes()]) == session.policy_mac;
        policy_fits.then(|| (tik.try_into().unwrap(), tek.try_into().unwrap()))
    }

    /// A report as ATTESTATION makes it.
    pub(crate) fn report(&self, mnonce: [u8; 16], launch_digest: [u8; 32], policy: Policy) -> Report {
        let mut report = Report {
            mnonce,
            launch_digest,
            policy,
            sig_usage: Usage::PEK,
            sig_algo: Algo::ECDSA_SHA256,
            ..Report::default()
        };
        (report.r, report.s) = self.pek.sign(EcdsaHash::Sha256, &report.signed_bytes()).to_le_fields();
        report
    }
}

fn certificate(usage: Usage, algo: Algo, key: &P384Secret) -> Certificate {
    let (x, y) = key.public().to_xy();
    Certificate::new((1, 55), usage, algo, &EccKey::p384(&x, &y))
}

fn sign(certificate: &mut Certificate, slot: usize, usage: Usage, key: &P384Secret) {
    let (r, s) = key.sign(EcdsaHash::Sha256, certificate.signed_bytes()).to_le_fields();
    certificate.set_slot(slot, &Slot::ecdsa(usage, Algo::ECDSA_SHA256, &r, &s));
}

/// A firmware image with OVMF's table, filled with noise: reset address, secret area, area for kernel hashes.
pub(crate) fn firmware(size: usize, seed: &str) -> Vec<u8> {
    let mut image = vec![0; size];
    SeededEntropy::new(seed.as_bytes()).fill(&mut image);
    let mut table = Vec::new();
    let mut entry = |data: &[u8], guid: u128| {
        table.extend_from_slice(data);
        table.extend_from_slice(&(data.len() as u16 + 18).to_le_bytes());
        table.extend_from_slice(&cloister_formats::sev::guid::Guid::new(guid).0);
    };
    let area = |base: u32, size: u32| [base.to_le_bytes(), size.to_le_bytes()].concat();
    entry(&area(0x0081_0c00, 0x400), 0x7255371f_3a3b_4b04_927b_1da6efa8d454);
    entry(&area(0x0081_0000, 0xc00), 0x4c2eb361_7d9b_4cc3_8081_127c90d3d294);
    entry(&0x0080_b004_u32.to_le_bytes(), 0x00f771de_1a7e_4fcb_890e_68c77e2fb44e);
    let total = table.len() as u16 + 18;
    table.extend_from_slice(&total.to_le_bytes());
    table
        .extend_from_slice(&cloister_formats::sev::guid::Guid::new(0x96b582de_1fb2_45f7_baea_a366c55a082d).0);
    let end = size - 32;
    image[end - table.len()..end].copy_from_slice(&table);
    image
}
