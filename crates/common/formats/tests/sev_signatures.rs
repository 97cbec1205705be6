//! Signatures and MACs of SEV cover what they promise: each flipped bit is refused.

use cloister_crypto::*;
use cloister_formats::sev::amd_root::{AmdCertificate, Generation};
use cloister_formats::sev::attestation::Report;
use cloister_formats::sev::certificate::{Algo, Certificate, EccKey, Slot, Usage};
use cloister_formats::sev::packet::{PacketContext, PacketHeader};
use cloister_formats::sev::policy::Policy;

fn key(name: &str) -> P384Secret {
    P384Secret::generate(&mut SeededEntropy::new(name.as_bytes()))
}

fn signature(slot: &Slot) -> Result<P384Signature, Error> {
    let (r, s) = slot.r_s();
    P384Signature::from_le_fields(&r, &s)
}

fn signed(subject: &P384Secret, signer: &P384Secret) -> Certificate {
    let (x, y) = subject.public().to_xy();
    let mut pdh = Certificate::new((1, 55), Usage::PDH, Algo::ECDH_SHA256, &EccKey::p384(&x, &y));
    let (r, s) = signer.sign(EcdsaHash::Sha256, pdh.signed_bytes()).to_le_fields();
    pdh.set_slot(0, &Slot::ecdsa(Usage::PEK, Algo::ECDSA_SHA256, &r, &s));
    pdh
}

fn verify(certificate: &Certificate, signer: &P384Public) -> bool {
    certificate.slots_of(Usage::PEK, Algo::ECDSA_SHA256).is_ok_and(|slots| {
        slots.iter().all(|slot| {
            signature(slot)
                .and_then(|signature| {
                    signer.verify(EcdsaHash::Sha256, certificate.signed_bytes(), &signature)
                })
                .is_ok()
        })
    })
}

#[test]
fn each_bit_before_the_signatures_and_of_r_and_s_is_covered() {
    let (pdh, pek) = (key("pdh"), key("pek"));
    let certificate = signed(&pdh, &pek);
    assert!(verify(&certificate, &pek.public()));
    assert!(!verify(&certificate, &pdh.public()));
    // Usage and algorithm of the slot, then r and s with their padding.
    let covered = 0..Certificate::SIGNED + 8 + 144;
    for at in covered {
        let mut bytes = certificate.encode();
        bytes[at] ^= 1 << (at % 8);
        assert!(!verify(&Certificate::parse(&bytes).unwrap(), &pek.public()), "{at:#x}");
    }
    // What follows s in the slot is not covered.
    let mut bytes = certificate.encode();
    bytes[Certificate::SIGNED + 8 + 144] ^= 1;
    assert!(verify(&Certificate::parse(&bytes).unwrap(), &pek.public()));
}

#[test]
fn attestation_reports_are_signed_by_the_pek() {
    let pek = key("pek");
    let mut report = Report {
        mnonce: [1; 16],
        launch_digest: [2; 32],
        policy: Policy(5),
        sig_usage: Usage::PEK,
        sig_algo: Algo::ECDSA_SHA256,
        ..Report::default()
    };
    (report.r, report.s) = pek.sign(EcdsaHash::Sha256, &report.signed_bytes()).to_le_fields();
    let verify = |report: &Report| {
        P384Signature::from_le_fields(&report.r, &report.s)
            .and_then(|signature| pek.public().verify(EcdsaHash::Sha256, &report.signed_bytes(), &signature))
            .is_ok()
    };
    assert!(verify(&report));
    for bit in (0..Report::SIGNED * 8).chain(0x40 * 8..Report::SIZE * 8) {
        let mut bytes = report.encode();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(!verify(&Report::parse(&bytes).unwrap()), "bit {bit}");
    }
}

/// The generation of 2048 bits; that of 4096 differs by its key and digest, which the primitives test.
#[test]
fn root_certificates_are_signed_by_the_ark() {
    let mut entropy = SeededEntropy::new(b"root");
    let ark_key = RsaSecret::generate(&mut entropy, 2048).unwrap();
    let public = ark_key.public();
    let mut ark = AmdCertificate::new(
        Generation::Rsa2048,
        Usage::ARK,
        *b"CLOISTER-MODEL-A",
        *b"CLOISTER-MODEL-A",
        &public.exponent_le(),
        &public.modulus_le(),
    );
    ark.set_signature(&ark_key.sign_pss(&mut entropy, PssHash::Sha256, ark.signed_bytes()).unwrap());
    let verify = |certificate: &AmdCertificate| {
        let key = RsaPublic::from_le(ark.modulus(), ark.exponent()).unwrap();
        key.verify_pss(PssHash::Sha256, certificate.signed_bytes(), certificate.signature()).is_ok()
    };
    assert!(verify(&ark));
    for at in 0..832 {
        let mut bytes = ark.encode();
        bytes[at] ^= 1 << (at % 8);
        if let Ok(altered) = AmdCertificate::parse(&bytes) {
            assert!(!verify(&altered), "{at:#x}");
        }
    }
}

#[test]
fn packet_macs_cover_header_lengths_payload_and_launch() {
    let tik = [9; 16];
    let payload = [7; 32];
    let header = PacketHeader { flags: 0, iv: [1; 16], mac: [0; 32] };
    let mac = |header: &PacketHeader, context, guest, trans, payload: &[u8], after: &[u8]| {
        hmac_sha256(&tik, &[&header.mac_prefix(context, guest, trans), payload, after])
    };
    let good = mac(&header, PacketContext::SECRET, 32, 32, &payload, &[3; 32]);
    let flags = PacketHeader { flags: PacketHeader::COMPRESSED, ..header };
    let iv = PacketHeader { iv: [2; 16], ..header };
    let own = PacketHeader { mac: [5; 32], ..header };
    assert_eq!(good, mac(&own, PacketContext::SECRET, 32, 32, &payload, &[3; 32]));
    for other in [
        mac(&flags, PacketContext::SECRET, 32, 32, &payload, &[3; 32]),
        mac(&iv, PacketContext::SECRET, 32, 32, &payload, &[3; 32]),
        mac(&header, PacketContext::TRANSPORT, 32, 32, &payload, &[3; 32]),
        mac(&header, PacketContext::SECRET, 16, 32, &payload, &[3; 32]),
        mac(&header, PacketContext::SECRET, 32, 16, &payload, &[3; 32]),
        mac(&header, PacketContext::SECRET, 32, 32, &[6; 32], &[3; 32]),
        mac(&header, PacketContext::SECRET, 32, 32, &payload, &[4; 32]),
    ] {
        assert_ne!(good, other);
    }
}
