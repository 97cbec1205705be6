//! The sequence. What each step shows stands beside it; docs/sev-conformance.md lists them all.
//!
//! Steps are never removed or moved within a version of the transcript: the numbers are its order.

use super::Recorder;
use super::subject::Action::*;
use anyhow::Context;
use cloister_crypto::{EcdsaHash, P384Secret, SeededEntropy, aes128_ctr, hmac_sha256};
use cloister_formats::sev::certificate::{Algo, Certificate, EccKey, Slot, Usage};
use cloister_formats::sev::command::{Activate as ActivateBuffer, Command, Init, InitEx};
use cloister_formats::sev::measurement::Measurement;
use cloister_formats::sev::packet::{PacketContext, PacketHeader};
use cloister_formats::sev::policy::Policy;
use cloister_owner::sev::Keys;
use cloister_owner::sev::session::{Launch, Random, start};

/// Asks everything, in order.
pub(super) fn run(to: &mut Recorder<'_>) -> anyhow::Result<()> {
    uninitialised(to)?;
    let platform = initialised(to)?;
    let owner = launch_refusals(to, &platform)?;
    launch(to, &owner)?;
    let session = send(to, &platform)?;
    receive(to, &platform, &session)?;
    no_send(to)?;
    encrypted_state(to)?;
    shut_down(to)
}

fn uninitialised(to: &mut Recorder<'_>) -> anyhow::Result<()> {
    to.step("in any state", &Status)?;
    to.step("no room: the length is told", &Id { len: 0 })?;
    to.step("of one socket", &Id { len: 64 })?;
    to.step("before INIT", &Plain(Command::PEK_GEN, Vec::new()))?;
    to.step("before INIT", &Plain(Command::PDH_GEN, Vec::new()))?;
    to.step("before INIT", &Plain(Command::PEK_CSR, vec![0; 12]))?;
    to.step("before INIT", &Plain(Command::PDH_CERT_EXPORT, vec![0; 28]))?;
    to.step("before INIT", &Plain(Command::LAUNCH_START, vec![0; 36]))?;
    to.step("before INIT", &Plain(Command::GUEST_STATUS, vec![0; 13]))?;
    to.step("before INIT", &Plain(Command::DECOMMISSION, vec![0; 4]))?;
    to.step("a number without a command", &Plain(Command(0x7f), Vec::new()))?;
    to.step("does nothing", &Plain(Command::NOP, Vec::new()))?;
    let init = |init: Init| Plain(Command::INIT, init.encode().to_vec());
    let es = Init { flags: Init::ES, tmr_paddr: TMR, tmr_len: TMR_LEN, ..Init::default() };
    to.step("a reserved flag", &init(Init { flags: 2, ..Init::default() }))?;
    to.step("a reserved byte", &init(Init { reserved: [0, 0, 0, 0, 0, 1], ..Init::default() }))?;
    let ex = InitEx { length: 0x23, ..InitEx::default() };
    to.step("a wrong length in the buffer", &Plain(Command::INIT_EX, ex.encode().to_vec()))?;
    let ex = InitEx { length: 0x24, nv_paddr: 0x123, nv_len: 0x8000, ..InitEx::default() };
    to.step("the area for keys is not aligned", &Plain(Command::INIT_EX, ex.encode().to_vec()))?;
    to.es_step("the region for SEV-ES is not aligned", &init(Init { tmr_paddr: TMR + 0x1000, ..es }))?;
    to.es_step("the region for SEV-ES is too small", &init(Init { tmr_len: 0x1000, ..es }))?;
    to.es_step("with SEV-ES", &init(es))?;
    to.plain_step("without SEV-ES, where there is none", &init(Init::default()))?;
    Ok(())
}

/// What the steps after INIT found.
struct Platform {
    pdh: Vec<u8>,
}

fn initialised(to: &mut Recorder<'_>) -> anyhow::Result<Platform> {
    to.step("a second time", &Plain(Command::INIT, Init::default().encode().to_vec()))?;
    to.step("after INIT", &Plain(Command::PLATFORM_RESET, Vec::new()))?;
    to.step("no room: both lengths are told", &Export { pdh_len: 0, chain_len: 0 })?;
    to.step("room for one of the two", &Export { pdh_len: CERT, chain_len: 0 })?;
    to.step("PDH, and PEK, OCA, CEK", &Export { pdh_len: CERT, chain_len: 3 * CERT })?;
    to.step("no room: the length is told", &Csr { len: 0 })?;
    let pek = to.step("the PEK for an owner to sign", &Csr { len: CERT })?.pop().unwrap_or_default();
    to.step("of a handle without a guest", &NoGuest)?;
    for (command, size) in [
        (Command::LAUNCH_UPDATE_DATA, 20),
        (Command::LAUNCH_MEASURE, 20),
        (Command::SEND_START, 68),
        (Command::DBG_DECRYPT, 28),
        (Command::DECOMMISSION, 4),
        (Command::ACTIVATE, 8),
    ] {
        to.step("without a guest on the platform", &Plain(command, vec![0; size]))?;
    }

    let key = P384Secret::generate(&mut entropy("owner"));
    let oca = oca(&key, &key);
    let signed = signed_pek(&pek, &key);
    to.key_step("one certificate is short", &Import { pek: signed[..2000].to_vec(), oca: oca.clone() })?;
    let other = P384Secret::generate(&mut entropy("another owner"));
    let forged = self::oca(&key, &other);
    to.key_step("the OCA is not self-signed", &Import { pek: signed.clone(), oca: forged })?;
    let unrelated = signed_pek(&pek, &other);
    to.key_step("the PEK is signed by somebody else", &Import { pek: unrelated, oca: oca.clone() })?;
    let mut changed = pek.clone();
    if let Some(byte) = changed.get_mut(4) {
        *byte ^= 1;
    }
    let changed = signed_pek(&changed, &key);
    to.key_step("another PEK, signed well", &Import { pek: changed, oca: oca.clone() })?;
    to.key_step("an owner takes the platform", &Import { pek: signed.clone(), oca: oca.clone() })?;
    to.key_step("owned already", &Import { pek: signed, oca })?;
    to.key_step("a new PDH", &PdhGen)?;
    to.key_step("new keys, and no owner any more", &PekGen)?;
    let pdh = to.step("the certificates after all that", &Export { pdh_len: CERT, chain_len: 3 * CERT })?;
    Ok(Platform { pdh: pdh.into_iter().next().unwrap_or_default() })
}

fn launch_refusals(to: &mut Recorder<'_>, platform: &Platform) -> anyhow::Result<Launch> {
    let pdh = Certificate::parse(&platform.pdh).context("the platform's PDH")?;
    let session =
        |policy: u32| start("the platform's PDH", &pdh, Policy(policy), Random::draw(&mut entropy("launch")));
    let owner = session(NODBG)?;
    let (godh, good) = (owner.godh.encode(), owner.session.encode().to_vec());
    let ask = |policy: u32, certificate: &[u8], session: &[u8]| Start {
        policy,
        share: 0,
        certificate: certificate.to_vec(),
        session: session.to_vec(),
    };
    to.step("a certificate without a session", &ask(NODBG, &godh, &[]))?;
    to.step("the session is a byte short", &ask(NODBG, &godh, &good[..127]))?;
    to.step("the certificate is a byte short", &ask(NODBG, &godh[..2083], &good))?;
    let mut wrong = godh.clone();
    wrong[8..12].copy_from_slice(&Usage::CEK.0.to_le_bytes());
    to.step("the certificate is for another use", &ask(NODBG, &wrong, &good))?;
    let mut flipped = good.clone();
    flipped[16] ^= 1;
    to.step("a bit of the wrapped keys is flipped", &ask(NODBG, &godh, &flipped))?;
    to.step("another policy than the owner's", &ask(0, &godh, &good))?;
    let newer = NODBG | 0xff << 16;
    let demanding = session(newer)?.session.encode();
    to.step("the owner demands a newer firmware", &ask(newer, &godh, &demanding))?;
    let reserved = NODBG | 1 << 6;
    to.step("a reserved bit in the policy", &ask(reserved, &godh, &session(reserved)?.session.encode()))?;
    let share = Start { policy: NODBG, share: 1000, certificate: godh.clone(), session: good.clone() };
    to.step("a key shared with a guest that is not there", &share)?;
    to.step("the owner's session, policy NODBG", &ask(NODBG, &godh, &good))?;
    Ok(owner)
}

fn launch(to: &mut Recorder<'_>, owner: &Launch) -> anyhow::Result<()> {
    let (asid, last) = to.subject.asids();
    // The kernel has given the guest an ASID by now: it never asks for these.
    let plain_activate =
        |handle: u32, asid: u32| Plain(Command::ACTIVATE, ActivateBuffer { handle, asid }.encode().to_vec());
    to.step("a handle without a guest", &plain_activate(1000, 1))?;
    to.step("the ASID 0", &Activate { asid: 0 })?;
    to.step("an ASID beyond the last", &Activate { asid: last + 1 })?;
    to.step("before the caches were flushed", &Plain(Command::DF_FLUSH, Vec::new()))?;
    to.step("before the fabric was flushed", &Activate { asid })?;
    to.subject.wbinvd()?;
    to.step("after WBINVD on every core", &Plain(Command::DF_FLUSH, Vec::new()))?;
    to.step("an ASID", &Activate { asid })?;
    to.step("the same again", &Activate { asid })?;

    to.step("an address that is not aligned", &Data { at: 8, len: 16 })?;
    to.step("no bytes", &Data { at: 0, len: 0 })?;
    to.step("half a block", &Data { at: 0, len: 8 })?;
    to.step("a page", &Data { at: 0, len: 0x1000 })?;
    to.step("a block", &Data { at: 0x1000, len: 16 })?;
    to.step("less than a page", &Vmsa { at: 0x2000, len: 16 })?;
    to.step("of a guest without SEV-ES", &Vmsa { at: 0x2000, len: 0x1000 })?;
    let empty = vec![0; PacketHeader::SIZE];
    let secret = |header: Vec<u8>, at, guest_len, payload| Secret { header, at, guest_len, payload };
    to.step("before the measurement", &secret(empty.clone(), 0x3000, 16, vec![0; 16]))?;
    to.step("before the measurement", &Finish)?;
    to.step("before the measurement", &Report { nonce: NONCE, len: REPORT })?;
    to.step("no room: the length is told", &Measure { len: 0 })?;
    let measured = to.step("MAC and nonce", &Measure { len: 48 })?.pop().unwrap_or_default();
    to.step("a second time", &Measure { len: 48 })?;
    to.step("after the measurement", &Data { at: 0, len: 16 })?;

    let measurement = Measurement::parse(&measured).unwrap_or_default();
    let (header, payload) = packet(&owner.keys, Some(&measurement), 0);
    let at = 0x3000;
    to.step("an address that is not aligned", &secret(header.clone(), at + 8, 16, payload.clone()))?;
    to.step("the header is a byte short", &secret(header[..51].to_vec(), at, 16, payload.clone()))?;
    to.step("two lengths that differ", &secret(header.clone(), at, 32, payload.clone()))?;
    let mut flipped = payload.clone();
    flipped[0] ^= 1;
    to.step("a bit of the secret is flipped", &secret(header.clone(), at, 16, flipped))?;
    let (other, _) = packet(&owner.keys, None, 0);
    to.step("made for another measurement", &secret(other, at, 16, payload.clone()))?;
    let (compressed, _) = packet(&owner.keys, Some(&measurement), PacketHeader::COMPRESSED);
    to.step("compressed", &secret(compressed, at, 16, payload.clone()))?;
    to.step("the owner's secret", &secret(header.clone(), at, 16, payload.clone()))?;
    to.step("the same again", &secret(header, at, 16, payload))?;
    to.step("no room: the length is told", &Report { nonce: NONCE, len: 0 })?;
    to.step("a signed report", &Report { nonce: NONCE, len: REPORT })?;
    to.step("before the launch is over", &SendCancel)?;
    to.step("the guest may run", &Finish)?;
    Ok(())
}

/// A guest leaves for this same platform; its session and a packet.
struct Sent {
    session: Vec<u8>,
    header: Vec<u8>,
    payload: Vec<u8>,
}

fn send(to: &mut Recorder<'_>, platform: &Platform) -> anyhow::Result<Sent> {
    to.step("a second time", &Finish)?;
    to.step("of a guest that may run", &Data { at: 0, len: 16 })?;
    to.step("of a guest that may run", &Report { nonce: NONCE, len: REPORT })?;
    to.step("an address that is not aligned", &Decrypt { at: 8, len: 16 })?;
    to.step("forbidden by the policy", &Decrypt { at: 0, len: 16 })?;
    to.step("before SEND_START", &SendData { at: 0, len: 16, header_len: HEADER })?;
    to.step("before SEND_START", &SendFinish)?;
    to.step("no room: the length is told", &SendStart { pdh: platform.pdh.clone(), session_len: 0 })?;
    let short = platform.pdh.get(..2083).unwrap_or_default().to_vec();
    to.step("the receiver's PDH is a byte short", &SendStart { pdh: short, session_len: SESSION })?;
    let go = SendStart { pdh: platform.pdh.clone(), session_len: SESSION };
    to.step("to this same platform", &go)?;
    to.step("the host thinks again", &SendCancel)?;
    let session = to.step("to this same platform", &go)?.pop().unwrap_or_default();
    to.step("no room for the header: its length is told", &SendData { at: 0, len: 16, header_len: 0 })?;
    to.step("no bytes", &SendData { at: 0, len: 0, header_len: HEADER })?;
    let mut packet = to.step("a block", &SendData { at: 0, len: 16, header_len: HEADER })?.into_iter();
    let (header, payload) = (packet.next().unwrap_or_default(), packet.next().unwrap_or_default());
    to.step("the guest has gone", &SendFinish)?;
    to.step("after it has gone", &SendCancel)?;
    to.step("of a guest with an ASID", &Decommission)?;
    to.step("takes the ASID", &Deactivate)?;
    to.step("a second time", &Deactivate)?;
    to.step("the last guest", &Decommission)?;
    Ok(Sent { session, header, payload })
}

fn receive(to: &mut Recorder<'_>, platform: &Platform, sent: &Sent) -> anyhow::Result<()> {
    let ask = |session: Vec<u8>| ReceiveStart { policy: NODBG, pdh: platform.pdh.clone(), session };
    to.step("the session is a byte short", &ask(sent.session.get(..127).unwrap_or_default().to_vec()))?;
    let mut flipped = sent.session.clone();
    if let Some(byte) = flipped.get_mut(16) {
        *byte ^= 1;
    }
    to.step("a bit of the wrapped keys is flipped", &ask(flipped))?;
    to.step("the guest that was sent", &ask(sent.session.clone()))?;
    let packet = |header: &[u8], payload: &[u8]| ReceiveData {
        header: header.to_vec(),
        at: 0x4000,
        payload: payload.to_vec(),
    };
    activate(to)?;
    to.step("no bytes", &packet(&sent.header, &[]))?;
    let mut flipped = sent.payload.clone();
    if let Some(byte) = flipped.first_mut() {
        *byte ^= 1;
    }
    to.step("a bit of the packet is flipped", &packet(&sent.header, &flipped))?;
    to.step("the packet", &packet(&sent.header, &sent.payload))?;
    to.step("while it is received", &Report { nonce: NONCE, len: REPORT })?;
    to.step("the guest may run here", &ReceiveFinish)?;
    to.step("a second time", &ReceiveFinish)?;
    to.step("of a guest that came", &Report { nonce: NONCE, len: REPORT })?;
    leave(to)
}

fn no_send(to: &mut Recorder<'_>) -> anyhow::Result<()> {
    to.step("without an owner, policy NOSEND", &without_owner(NOSEND))?;
    activate(to)?;
    to.step("a page", &Data { at: 0x5000, len: 0x1000 })?;
    to.step("MAC and nonce", &Measure { len: 48 })?;
    to.step("the guest may run", &Finish)?;
    to.step("forbidden by the policy", &SendStart { pdh: vec![0; CERT as usize], session_len: SESSION })?;
    to.step("allowed by the policy", &Decrypt { at: 0x5000, len: 16 })?;
    leave(to)
}

fn encrypted_state(to: &mut Recorder<'_>) -> anyhow::Result<()> {
    to.es_step("without an owner, policy ES", &without_owner(ES))?;
    let (first, _) = to.subject.asids();
    to.subject.wbinvd()?;
    to.es_step("after WBINVD on every core", &Plain(Command::DF_FLUSH, Vec::new()))?;
    to.es_step("an ASID of guests without SEV-ES", &Activate { asid: first })?;
    to.es_step("an ASID", &Activate { asid: 1 })?;
    to.es_step("less than a page", &Vmsa { at: 0x6000, len: 16 })?;
    to.es_step("a CPU", &Vmsa { at: 0x6000, len: 0x1000 })?;
    to.es_step("MAC and nonce", &Measure { len: 48 })?;
    to.es_step("the guest may run", &Finish)?;
    Ok(())
}

fn shut_down(to: &mut Recorder<'_>) -> anyhow::Result<()> {
    to.step("with or without guests", &Plain(Command::SHUTDOWN, Vec::new()))?;
    to.step("in any state", &Status)?;
    to.step("a second time", &Plain(Command::SHUTDOWN, Vec::new()))?;
    to.step("after SHUTDOWN", &Plain(Command::LAUNCH_FINISH, vec![0; 4]))?;
    to.key_step("the stored keys are forgotten", &Reset)?;
    to.step("in any state", &Id { len: 64 })?;
    Ok(())
}

/// An ASID for a guest after another had one.
fn activate(to: &mut Recorder<'_>) -> anyhow::Result<()> {
    let (asid, _) = to.subject.asids();
    to.subject.wbinvd()?;
    to.step("after WBINVD on every core", &Plain(Command::DF_FLUSH, Vec::new()))?;
    to.step("an ASID", &Activate { asid })?;
    Ok(())
}

fn leave(to: &mut Recorder<'_>) -> anyhow::Result<()> {
    to.step("takes the ASID", &Deactivate)?;
    to.step("the last guest", &Decommission)?;
    Ok(())
}

fn without_owner(policy: u32) -> super::subject::Action {
    Start { policy, share: 0, certificate: Vec::new(), session: Vec::new() }
}

/// Public randomness: the owner of the sequence has nothing to hide, and the same inputs everywhere.
fn entropy(of: &str) -> SeededEntropy {
    SeededEntropy::new(format!("sev conformance 1: {of}").as_bytes())
}

/// An OCA of one key, signed by a key.
fn oca(key: &P384Secret, signer: &P384Secret) -> Vec<u8> {
    let (x, y) = key.public().to_xy();
    let certificate = Certificate::new((0, 0), Usage::OCA, Algo::ECDSA_SHA256, &EccKey::p384(&x, &y));
    sign(certificate, signer)
}

/// The PEK of a signing request, signed; without a request, as many zeros.
fn signed_pek(request: &[u8], owner: &P384Secret) -> Vec<u8> {
    Certificate::parse(request).map_or_else(|_| vec![0; CERT as usize], |pek| sign(pek, owner))
}

fn sign(mut certificate: Certificate, owner: &P384Secret) -> Vec<u8> {
    let (r, s) = owner.sign(EcdsaHash::Sha256, certificate.signed_bytes()).to_le_fields();
    certificate.set_slot(0, &Slot::ecdsa(Usage::OCA, Algo::ECDSA_SHA256, &r, &s));
    certificate.encode()
}

/// A block of zeros as a secret for a launch.
fn packet(keys: &Keys, launch: Option<&Measurement>, flags: u32) -> (Vec<u8>, Vec<u8>) {
    let mut header = PacketHeader { flags, iv: [0x5a; 16], mac: [0; 32] };
    let mut payload = vec![0; 16];
    aes128_ctr(&keys.tek, &header.iv, &mut payload);
    let prefix = header.mac_prefix(PacketContext::SECRET, 16, 16);
    let mac = launch.map_or([0; 32], |launch| launch.mac);
    header.mac = hmac_sha256(keys.tik.expose(), &[&prefix, &payload, &mac]);
    (header.encode().to_vec(), payload)
}

const NODBG: u32 = Policy::NODBG;
const NOSEND: u32 = Policy::NOSEND;
const ES: u32 = Policy::ES;
const CERT: u32 = Certificate::SIZE as u32;
const SESSION: u32 = 128;
const HEADER: u32 = PacketHeader::SIZE as u32;
const REPORT: u32 = 0xd0;
const NONCE: [u8; 16] = *b"sev conformance.";
/// The region that INIT gives to the firmware for SEV-ES.
const TMR: u64 = 0x4000_0000;
const TMR_LEN: u32 = 1 << 20;
