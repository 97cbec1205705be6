//! Guests that are sent from one processor to another.

use cloister_asp::{Config, Identity, RootKeys};
use cloister_crypto::{PssHash, RsaPublic, Secret, SeededEntropy, sha256};
use cloister_formats::sev::amd_root::Generation;

use crate::launch::{open_vector_session, with_vector_pdh};
use crate::platform::owner_blobs;
use crate::rig::*;
use crate::valid::valid;

#[test]
fn transport_packet_of_the_vectors_is_sent() {
    let vectors = vectors();
    let of = &vectors["transport_packet"];
    let mut rig = Rig::ready("send vector", false);
    let handle = rig.null_guest(0);
    rig.activate(handle, 100);
    rig.write(PAGE, &bytes(&of["plaintext"]));
    rig.run(0x31, update(handle, PAGE, 16));
    rig.measure(handle);
    rig.run(0x35, Buf::new(4).u32(0, handle));
    let pdh = rig.pdh();
    rig.write(CERT, &pdh);
    // SEND_START draws nonce, IV, and TEK with TIK.
    let keys = [bytes(&of["tek"]), bytes(&of["tik"])].concat();
    rig.next_draws([None, None, Some(&keys)]);
    let sent = rig.run(0x40, send_start(handle).u32(4, 0xffff));
    assert_eq!(sent.get(4), 0, "the policy of the guest");
    rig.next_draws([Some(&bytes(&of["iv"]))]);
    // More room than needed is no harm, and is not written back.
    let sent = rig.run(0x41, packet(handle, PAGE, 16).u32(16, 99).u32(48, 4096));
    assert_eq!((sent.get(16), sent.get(48)), (52, 4096));
    assert_eq!(rig.read(HEADER, 52), bytes(&of["header"]));
    assert_eq!(rig.read(PAYLOAD, 16), bytes(&of["payload"]));
}

#[test]
fn transport_packet_of_the_vectors_is_received() {
    let vectors = vectors();
    let of = &vectors["transport_packet"];
    let mut rig = with_vector_pdh(Config::default());
    let handle = open_vector_session(&mut rig, 0x50);
    rig.activate(handle, 100);
    rig.write(HEADER, &bytes(&of["header"]));
    rig.write(PAYLOAD, &bytes(&of["payload"]));
    rig.run(0x51, packet(handle, PAGE, 16));
    rig.run(0x53, Buf::new(4).u32(0, handle));
    assert_eq!(rig.inside(100, PAGE, 16), bytes(&of["plaintext"]));
    // There is no measurement of a guest that was received.
    rig.run(0x36, Buf::new(36).u32(0, handle).u64(8, OUT).u32(32, 0xd0));
    assert_eq!(rig.read(OUT + 16, 32), [0; 32]);
}

/// Sends a guest with pages and a VMSA, and receives it on the other processor.
fn send(from: &mut Rig, to: &mut Rig, handle: u32, policy: u32, start_buf: &Buf) -> u32 {
    from.run(0x40, start_buf.clone());
    let (session, pdh) = (from.read(SESSION, 128), from.pdh());
    to.write(SESSION, &session);
    to.write(CERT, &pdh);
    let received = to.run(0x50, start(policy)).get(0);
    to.activate(received, if policy & ES != 0 { 7 } else { 300 });
    let mut pieces =
        vec![(0x41, 0x51, PAGE, PAGE + 0x4_0000, 0x5000), (0x41, 0x51, PAGE + 0x5000, PAGE, 0x3000)];
    if policy & ES != 0 {
        pieces.push((0x42, 0x52, VMSA, VMSA + 0x1000, 4096));
    }
    for (send, receive, at, there, len) in pieces {
        from.run(send, packet(handle, at, len));
        to.write(HEADER, &from.read(HEADER, 52));
        to.write(PAYLOAD, &from.read(PAYLOAD, len as usize));
        to.run(receive, packet(received, there, len));
    }
    from.run(0x43, Buf::new(4).u32(0, handle));
    to.run(0x53, Buf::new(4).u32(0, received));
    received
}

fn other_platform(seed: &str) -> Rig {
    let mut rig = Rig::with(seed, Identity::of_chip(Secret::new([0x77; 32])), Config::default());
    rig.init(true);
    rig.flush();
    rig
}

fn guest_with_content(rig: &mut Rig, policy: u32, asid: u32) -> u32 {
    let handle = rig.start(0x30, policy, &Owner::fixed());
    rig.activate(handle, asid);
    rig.write(PAGE, &[0x42; 0x5000]);
    rig.write(PAGE + 0x5000, &[0x43; 0x3000]);
    rig.run(0x31, update(handle, PAGE, 0x8000));
    if policy & ES != 0 {
        rig.write(VMSA, &[9; 4096]);
        rig.run(0x32, update(handle, VMSA, 4096));
    }
    rig.measure(handle);
    rig.run(0x35, Buf::new(4).u32(0, handle));
    handle
}

#[test]
fn a_guest_goes_to_another_platform_and_can_go_on_from_there() {
    for (policy, asid) in [(NODBG, 100), (NODBG | ES, 5)] {
        let (mut here, mut there) = (Rig::ready("here", true), other_platform("there"));
        let handle = guest_with_content(&mut here, policy, asid);
        let pdh = there.pdh();
        here.write(CERT, &pdh);
        let received = send(&mut here, &mut there, handle, policy, &send_start(handle));
        assert_eq!((here.guest_state(handle), there.guest_state(received)), (6, 3));
        let its = if policy & ES != 0 { 7 } else { 300 };
        assert_eq!(there.inside(its, PAGE + 0x4_0000, 0x5000), vec![0x42; 0x5000]);
        assert_eq!(there.inside(its, PAGE, 0x3000), vec![0x43; 0x3000]);
        if policy & ES != 0 {
            assert_eq!(there.inside(its, VMSA + 0x1000, 0x380), [9; 0x380]);
            // Its VMSA is known there, so it can be sent again.
            let pdh = here.pdh();
            there.write(CERT, &pdh);
            there.run(0x40, send_start(received));
            there.run(0x42, packet(received, VMSA + 0x1000, 4096));
            assert_eq!(there.cmd(0x42, &mut packet(received, PAGE, 4096)), PARAM, "that is no VMSA");
            let mut saved: [u8; 4096] = there.inside(its, VMSA + 0x1000, 4096).try_into().unwrap();
            saved[0x178] ^= 1;
            let mut cipher = saved.to_vec();
            there.asp.memory_cipher(its).unwrap().encrypt(VMSA + 0x1000, &mut cipher);
            there.write(VMSA + 0x1000, &cipher);
            assert_eq!(there.cmd(0x42, &mut packet(received, VMSA + 0x1000, 4096)), PARAM, "it was changed");
            assert!(there.asp.vmsa_saved(its, &saved));
            there.run(0x42, packet(received, VMSA + 0x1000, 4096));
        }
    }
}

#[test]
fn sending_can_be_given_up_and_begun_again() {
    let mut rig = Rig::ready("cancel", false);
    let handle = rig.guest_in("su", 0, 100);
    let first = rig.read(SESSION, 128);
    rig.run(0x44, Buf::new(4).u32(0, handle));
    assert_eq!(rig.cmd(0x41, &mut packet(handle, PAGE, 16)), GUEST_STATE);
    rig.run(0x40, send_start(handle));
    assert_ne!(rig.read(SESSION, 128), first);
}

#[test]
fn a_session_for_another_platform_or_policy_is_refused() {
    let mut here = Rig::ready("wrong platform", false);
    let handle = guest_with_content(&mut here, 0, 100);
    let mut there = other_platform("there");
    let pdh = there.pdh();
    here.write(CERT, &pdh);
    here.run(0x40, send_start(handle));
    let own = here.pdh();
    here.write(CERT, &own);
    assert_eq!(here.cmd(0x50, &mut start(0)), MEASUREMENT, "it was wrapped for the other platform");
    there.write(CERT, &own);
    there.write(SESSION, &here.read(SESSION, 128));
    assert_eq!(there.cmd(0x50, &mut start(NODBG)), MEASUREMENT, "another policy");
    there.run(0x50, start(0));
}

#[test]
fn a_domain_is_the_platforms_of_one_owner() {
    let (mut here, mut there) =
        (Rig::new("here"), Rig::with("there", Identity::of_chip(Secret::new([7; 32])), Config::default()));
    for rig in [&mut here, &mut there] {
        rig.init(true);
        rig.flush();
    }
    let strangers = (there.chain(), there.pdh());
    for rig in [&mut here, &mut there] {
        let (pek, oca) = owner_blobs(rig);
        rig.write(CERT, &pek);
        rig.write(CHAIN, &oca);
        rig.run(0x07, Buf::new(28).u64(0, CERT).u32(8, 2084).u64(16, CHAIN).u32(24, 2084));
    }
    let handle = guest_with_content(&mut here, DOMAIN, 100);
    let put = |rig: &mut Rig, chain: &[u8], pdh: &[u8]| {
        rig.write(CHAIN, chain);
        rig.write(CERT, pdh);
    };
    put(&mut here, &strangers.0, &strangers.1);
    assert_eq!(here.cmd(0x40, &mut send_start(handle)), POLICY, "another owner");
    let (chain, pdh) = (there.chain(), there.pdh());
    put(&mut here, &chain, &pdh);
    assert_eq!(here.cmd(0x40, &mut send_start(handle).u32(32, 6251)), LENGTH);
    assert_eq!(here.cmd(0x40, &mut send_start(handle).u32(16, 2083)), LENGTH);
    let of_here = here.pdh();
    put(&mut here, &chain, &of_here);
    assert_eq!(here.cmd(0x40, &mut send_start(handle)), SIGNATURE, "the PDH of another PEK");
    put(&mut here, &strangers.0[..2084].iter().chain(&chain[2084..]).copied().collect::<Vec<_>>(), &pdh);
    assert_eq!(here.cmd(0x40, &mut send_start(handle)), SIGNATURE, "a PEK of another owner");
    put(&mut here, &chain, &pdh);
    send(&mut here, &mut there, handle, DOMAIN, &send_start(handle));
}

#[test]
fn a_policy_can_demand_a_platform_of_the_trusted_maker() {
    let mut entropy = SeededEntropy::new(b"maker");
    let maker = RootKeys::generate(&mut entropy, Generation::Rsa2048);
    let mut identity = Identity::of_chip(Secret::new([8; 32]));
    identity.certify(&maker, &mut entropy);
    let root = identity.roots()[0].clone();
    assert!(root.ark.key_id().starts_with(b"CLOISTER-MODEL"));
    let reopened = Identity::open(&identity.seal()).unwrap();
    assert_eq!(reopened.roots(), identity.roots());
    let mut there = Rig::with("there", reopened, Config::default());
    there.init(true);
    there.flush();
    let trusting = Config { trusted_roots: vec![sha256(root.ark.as_bytes())], ..Config::default() };
    let mut here = Rig::with("here", Identity::of_chip(Secret::new([9; 32])), trusting);
    here.init(true);
    here.flush();

    let handle = guest_with_content(&mut here, SEV, 100);
    let exported = there.chain();
    let pdh = there.pdh();
    assert_eq!(
        root.cek.signed_bytes(),
        &exported[4168..4168 + 0x414],
        "the maker certified the exported CEK"
    );
    let good = [&exported[..4168], root.cek.as_bytes()].concat();
    let roots = [root.ask.as_bytes(), root.ark.as_bytes()].concat();
    let put = |rig: &mut Rig, chain: &[u8], roots: &[u8]| {
        rig.write(CERT, &pdh);
        rig.write(CHAIN, chain);
        rig.write(ROOTS, roots);
    };
    let flip = |bytes: &[u8], at: usize| {
        let mut out = bytes.to_vec();
        out[at] ^= 1;
        out
    };
    put(&mut here, &exported, &roots);
    assert_eq!(here.cmd(0x40, &mut send_start(handle)), CERTIFICATE, "no signature of the maker");
    assert_eq!(here.cmd(0x40, &mut send_start(handle).u32(48, 1600)), LENGTH);
    put(&mut here, &flip(&good, 4168 + 0x20), &roots);
    assert_eq!(here.cmd(0x40, &mut send_start(handle)), SIGNATURE, "CEK");
    put(&mut here, &flip(&good, 0x20), &roots);
    assert_eq!(here.cmd(0x40, &mut send_start(handle)), SIGNATURE, "PEK");
    for at in (0..832).step_by(13) {
        put(&mut here, &good, &flip(&roots, at));
        let status = here.cmd(0x40, &mut send_start(handle));
        let names_something_else = at < 4 || (0x14..0x28).contains(&at) || (0x38..0x40).contains(&at);
        assert_eq!(
            status,
            if names_something_else { CERTIFICATE } else { SIGNATURE },
            "byte {at:#x} of the ASK"
        );
    }
    for at in (832..1664).step_by(31) {
        put(&mut here, &good, &flip(&roots, at));
        assert_eq!(here.cmd(0x40, &mut send_start(handle)), CERTIFICATE, "byte {:#x} of the ARK", at - 832);
    }
    put(&mut here, &good, &roots);
    send(&mut here, &mut there, handle, SEV, &send_start(handle));

    // A platform that trusts its own maker alone.
    let mut suspicious = Rig::ready("suspicious", false);
    let handle = guest_with_content(&mut suspicious, SEV, 100);
    put(&mut suspicious, &good, &roots);
    assert_eq!(suspicious.cmd(0x40, &mut send_start(handle)), CERTIFICATE);
}

/// A whole identity; the tests around this one do without RSA keys, or with small ones from a seed.
#[test]
fn a_new_identity_has_roots_of_both_generations() {
    let identity = Identity::generate(&mut SeededEntropy::new(b"whole identity"));
    for (generation, hash) in [(Generation::Rsa2048, PssHash::Sha256), (Generation::Rsa4096, PssHash::Sha384)]
    {
        let root = identity.root(generation).unwrap();
        let ark = RsaPublic::from_le(root.ark.modulus(), root.ark.exponent()).unwrap();
        let ask = RsaPublic::from_le(root.ask.modulus(), root.ask.exponent()).unwrap();
        ark.verify_pss(hash, root.ark.signed_bytes(), root.ark.signature()).unwrap();
        ark.verify_pss(hash, root.ask.signed_bytes(), root.ask.signature()).unwrap();
        let slot = root.cek.slot(0);
        ask.verify_pss(hash, root.cek.signed_bytes(), &slot.data[..generation.number_size()]).unwrap();
        assert!(root.ark.is_model() && root.ask.is_model());
    }
}

#[test]
fn send_start_shows_the_session_s_length() {
    let mut rig = Rig::ready("length", false);
    let handle = rig.guest_in("ru", NOSEND, 100);
    let mut query = valid(&mut rig, 0x40, handle, 100, NOSEND).u32(64, 0);
    assert_eq!((rig.cmd(0x40, &mut query), query.get(64)), (LENGTH, 128));
    assert_eq!(rig.cmd(0x40, &mut query), POLICY, "NOSEND");
    let mut packet = packet(handle, PAGE, 16).u32(16, 0);
    assert_eq!((rig.cmd(0x41, &mut packet), packet.get(16)), (LENGTH, 52));
}
