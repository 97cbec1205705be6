//! Retrieve Attestation Measurement: the vectors, every refusal with its code, and tampering.

use crate::common::*;
use crate::image::make_header;
use crate::owner::*;
use cloister_crypto::{Entropy, SeededEntropy, hmac_sha512};
use cloister_formats::s390x::arcb::ArcbFlags;
use cloister_formats::s390x::attestation::{AdditionalData, Measured};
use cloister_formats::s390x::se_header::{Pcf, SeHeader};
use cloister_formats::s390x::uvcb::{RetrAttest, UvCommand};
use cloister_uv_s390x::*;
use proptest::prelude::*;

/// Random numbers whose 16-byte draw, the identity of a configuration, is the vectors'.
struct KnownUid(SeededEntropy);

impl Entropy for KnownUid {
    fn fill(&mut self, out: &mut [u8]) {
        self.0.fill(out);
        if out.len() == 16 {
            out.copy_from_slice(&bytes(&vectors()["attestation"]["cuid_hex"]));
        }
    }
}

/// A machine that runs the golden image with the vectors' identity.
pub(crate) fn vector_machine() -> (Machine, u64, u64) {
    let identity = Identity::new(host_key("host_key"), None);
    let entropy = Box::new(KnownUid(SeededEntropy::new(b"vectors")));
    Machine::with_entropy(identity, entropy).run(&Image::golden().header)
}

#[test]
fn golden_attestation_is_reproduced() {
    let all = vectors();
    let case = &all["attestation"];
    let (machine, _, cpu) = vector_machine();
    for name in ["association_derived_ext", "plaintext_derived_ext"] {
        machine.add(cpu, &bytes(&all["add_secret"][name]["asrcb_hex"])).ok();
    }
    machine.lock_store(cpu).ok();
    let reply = machine.attest(cpu, &bytes(&case["arcb_hex"]), &bytes(&case["user_data_hex"])).ok();
    assert_eq!(machine.take::<64>(MEASUREMENT), *bytes(&case["measurement_hex"]));
    let additional = bytes(&case["additional_hex"]);
    let answer = RetrAttest::parse(&reply.block).unwrap();
    assert_eq!(answer.add_len as usize, additional.len());
    assert_eq!(answer.config_uid, *bytes(&case["cuid_hex"]));
    assert_eq!(machine.take::<128>(ADDITIONAL), *additional);
    assert_eq!(machine.take::<16>(ADDITIONAL + 128), [0; 16], "nothing is stored behind");
}

/// The measurement that a verifier computes from what it knows and what came back.
fn expected(header: &[u8], reply: &Reply, user_data: &[u8], nonce: bool, additional: &[u8]) -> [u8; 64] {
    let header = SeHeader::parse(header).unwrap();
    let measured = Measured {
        pld: &header.pld,
        ald: &header.ald,
        tld: &header.tld,
        header_tag: &header.tag,
        config_uid: &RetrAttest::parse(&reply.block).unwrap().config_uid,
        user_data,
        nonce: nonce.then_some(&NONCE),
        additional,
    };
    hmac_sha512(&MEASUREMENT_KEY, &[&measured.bytes()])
}

#[test]
fn every_additional_datum_is_given_and_measured() {
    let (machine, _, cpu) = Machine::running();
    let header = Image::golden().header;
    let items = [
        ArcbFlags::IMAGE_PHKH,
        ArcbFlags::ATTESTATION_PHKH,
        ArcbFlags::SECRET_STORE_HASH,
        ArcbFlags::FIRMWARE_STATE,
    ];
    for set in 0..32u32 {
        let wanted = items.iter().enumerate().filter(|(i, _)| set >> i & 1 != 0);
        let mut flags = ArcbFlags(wanted.map(|(_, flag)| flag.0).sum());
        let nonce = set & 16 != 0;
        flags.0 |= if nonce { ArcbFlags::NONCE.0 } else { 0 };
        let reply = machine.attest(cpu, &arcb(flags, |_| {}), b"user data").ok();
        let size = AdditionalData::size(flags);
        assert_eq!(RetrAttest::parse(&reply.block).unwrap().add_len as usize, size);
        let stored = machine.take::<512>(ADDITIONAL);
        let additional = AdditionalData::parse(flags, &stored[..size]).unwrap();
        assert_eq!(additional.flags().0, flags.0 & !ArcbFlags::NONCE.0);
        assert!(additional.image_phkh.is_none_or(|hash| hash == machine.uv.identity().host_key_hash()));
        let hash = |hash: [u8; 64]| hash[..] == bytes(&vectors()["secret_store_hash"]["empty_unlocked_hex"]);
        assert!(additional.secret_store_hash.is_none_or(hash));
        let measurement = expected(&header, &reply, b"user data", nonce, &stored[..size]);
        assert_eq!(machine.take::<64>(MEASUREMENT), measurement);
    }
}

#[test]
fn the_firmware_state_says_that_it_is_a_models() {
    let text = std::str::from_utf8(&MODEL_FIRMWARE_STATE).unwrap();
    assert!(text.starts_with("CLOISTER-MODEL firmware state: this is a model"), "{text}");
    assert_eq!(text.len(), 320);
}

#[test]
fn rc_table_of_retrieve_attestation() {
    let (machine, _, cpu) = Machine::running();
    let good = || arcb(ArcbFlags::NONCE, |_| {});
    let call = |request: &[u8], change: fn(&mut RetrAttest)| {
        machine.put(REQUEST, request);
        let mut call = attest_call(b"user");
        change(&mut call);
        machine.call(cpu, call.encode())
    };
    let with = |at: usize, bytes: &[u8]| {
        let mut request = good();
        request[at..at + bytes.len()].copy_from_slice(bytes);
        request
    };
    call(&good(), |_| {}).ok();
    let mut block = attest_call(b"").encode();
    block[1] = 0x80;
    machine.call(cpu, block).refused(5, 0);
    call(&good(), |call| call.continuation = 1).refused(0x101, 0);
    call(&good(), |call| call.user_data_len = 257).refused(0x102, 0);
    call(&good(), |call| call.arcb_addr = u64::MAX - 7).refused(0x103, 0);
    // The fixed part is accessible, the slots are not.
    machine.put(0x20000 - 0xe0, &good()[..0xe0]);
    call(&good(), |call| call.arcb_addr = 0x20000 - 0xe0).refused(0x103, 0);
    call(&good(), |call| call.meas_addr = 0x20000 - 63).refused(0x104, 0);
    let asks = arcb(ArcbFlags::IMAGE_PHKH, |_| {});
    call(&asks, |call| call.add_addr = 0x20000 - 31).refused(0x105, 0);
    call(&with(0, &[1]), |_| {}).refused(0x106, 0);
    call(&with(8, &[0, 0, 2, 0]), |_| {}).refused(0x106, 0);
    call(&with(0x27, &[0]), |_| {}).refused(0x108, 0);
    call(&with(0x2c, &[0, 0, 0, 0x40]), |_| {}).refused(0x109, 0);
    call(&with(0x0c, &[0, 0, 0, 0xe0]), |_| {}).refused(0x107, 0);
    call(&with(0x27, &[2]), |_| {}).refused(0x107, 0);
    call(&arcb(ArcbFlags(1 << 63), |_| {}), |_| {}).refused(0x10a, 0);
    call(&arcb(ArcbFlags(1), |_| {}), |_| {}).refused(0x10a, 0);
    call(&arcb(ArcbFlags::NONCE, |request| request.algorithm = 2), |_| {}).refused(0x10b, 0);
    call(&good(), |call| call.meas_len = 63).refused(0x10d, 0);
    call(&asks, |call| call.add_len = 31).refused(0x10e, 0);
    call(&with(0x40, &[1]), |_| {}).refused(0x10c, 2);
    call(&with(0xe0 + 40, &[0; 8]), |_| {}).refused(0x10c, 3);
    call(&with(0x10, &[0]), |_| {}).refused(0x10c, 4);
    // Without additional data their buffer is not looked at.
    call(&good(), |call| (call.add_len, call.add_addr) = (0, u64::MAX)).ok();
}

#[test]
fn earlier_checks_win() {
    let (machine, _, cpu) = Machine::running();
    let mut call = attest_call(b"");
    (call.continuation, call.user_data_len, call.arcb_addr) = (1, 999, u64::MAX);
    machine.call(cpu, call.encode()).refused(0x101, 0);
    call.continuation = 0;
    machine.call(cpu, call.encode()).refused(0x102, 0);
    call.user_data_len = 0;
    machine.call(cpu, call.encode()).refused(0x103, 0);
    call.arcb_addr = REQUEST;
    // A request with everything wrong, put right step by step.
    let mut request = arcb(ArcbFlags(1 << 62 | 1), |request| request.algorithm = 7);
    let steps: [(u16, usize, &[u8]); 4] =
        [(0x106, 8, &[0, 0, 1, 0]), (0x108, 0x27, &[1]), (0x109, 0x2f, &[0x50]), (0x107, 0x0f, &[0x90])];
    for (_, at, _) in steps {
        request[at..at + 1].copy_from_slice(&[9 * u8::from(at != 0x27)]);
    }
    (call.meas_len, call.add_len) = (0, 0);
    for (rc, at, right) in steps {
        machine.put(REQUEST, &request);
        machine.call(cpu, call.encode()).refused(rc, 0);
        request[at..at + right.len()].copy_from_slice(right);
    }
    for (rc, at, right) in [(0x10a, 0x37, 0u8), (0x10b, 0x3b, 1)] {
        machine.put(REQUEST, &request);
        machine.call(cpu, call.encode()).refused(rc, 0);
        request[at] = right;
    }
    machine.put(REQUEST, &request);
    machine.call(cpu, call.encode()).refused(0x10d, 0);
    call.meas_len = 64;
    // Only the seal is left, and that was made for other flags.
    machine.call(cpu, call.encode()).refused(0x10c, 4);
}

#[test]
fn a_request_for_another_machine_is_refused_in_words() {
    let (machine, _, cpu) = Machine::running();
    let request = arcb(ArcbFlags::NONCE, |request| request.slots = slots_for("second_host_key"));
    let reply = machine.attest(cpu, &request, b"").refused(0x10c, 1);
    let own = machine.uv.identity().host_key_hash().to_string();
    assert!(reply.text.contains(&own) && reply.text.contains("host-key document"), "{}", reply.text);
    assert_eq!(machine.take::<64>(MEASUREMENT), [0; 64]);
}

#[test]
fn the_backup_key_opens_requests_and_is_named() {
    let identity = Identity::new(host_key("host_key"), Some(host_key("second_host_key")));
    let (machine, _, cpu) = Machine::with_identity(identity).run(&Image::golden().header);
    let flags = ArcbFlags(ArcbFlags::IMAGE_PHKH.0 | ArcbFlags::ATTESTATION_PHKH.0);
    let request = arcb(flags, |request| request.slots = slots_for("second_host_key"));
    machine.attest(cpu, &request, b"").ok();
    let data = AdditionalData::parse(flags, &machine.take::<64>(ADDITIONAL)).unwrap();
    assert_eq!(data.image_phkh, Some(machine.uv.identity().host_key_hash()));
    assert_eq!(data.attestation_phkh, machine.uv.identity().backup_key_hash());
    // If there are slots for both, the host key's is taken.
    let both = arcb(flags, |request| request.slots.splice(..0, slots_for("second_host_key")).for_each(drop));
    machine.attest(cpu, &both, b"").ok();
    let data = AdditionalData::parse(flags, &machine.take::<64>(ADDITIONAL)).unwrap();
    assert_eq!(data.attestation_phkh, data.image_phkh);
}

#[test]
fn measurements_differ_by_image_configuration_and_user_data() {
    let request = arcb(ArcbFlags(0), |_| {});
    let (machine, _, cpu) = vector_machine();
    let measure = |machine: &Machine, cpu, user: &[u8]| {
        machine.attest(cpu, &request, user).ok();
        machine.take::<64>(MEASUREMENT)
    };
    let first = measure(&machine, cpu, b"a");
    assert_eq!(first, measure(&machine, cpu, b"a"), "nothing random is in it");
    assert_ne!(first, measure(&machine, cpu, b"b"));
    assert_ne!(first, measure(&machine, cpu, b"a\0"));
    // The same image in another configuration.
    let (other, _, other_cpu) = Machine::running();
    assert_ne!(first, measure(&other, other_cpu, b"a"));
    // The same components and identity under another header.
    let header = make_header(&host_key("host_key"), |header, _| header.pcf = Pcf::DEFAULT);
    let entropy = Box::new(KnownUid(SeededEntropy::new(b"vectors")));
    let other = Machine::with_entropy(Identity::new(host_key("host_key"), None), entropy);
    let (other, _, other_cpu) = other.run(&header);
    let reply = other.attest(other_cpu, &request, b"a").ok();
    let measurement = other.take::<64>(MEASUREMENT);
    assert_ne!(first, measurement);
    assert_eq!(measurement, expected(&header, &reply, b"a", false, b""));
}

#[test]
fn every_flipped_bit_of_a_request_is_refused() {
    let (machine, _, cpu) = Machine::running();
    let good = arcb(ArcbFlags::NONCE, |_| {});
    machine.attest(cpu, &good, b"").ok();
    machine.put(MEASUREMENT, &[0; 64]);
    for bit in 0..good.len() * 8 {
        let mut request = good.clone();
        request[bit / 8] ^= 1 << (bit % 8);
        let reply = machine.attest(cpu, &request, b"");
        assert_eq!(reply.cc, Cc::Refused, "bit {bit}");
    }
    assert_eq!(machine.take::<64>(MEASUREMENT), [0; 64], "nothing was measured");
}

#[test]
fn a_page_that_is_not_there_repeats_the_call_and_changes_nothing() {
    let (machine, _, cpu) = Machine::running();
    let flags = ArcbFlags::IMAGE_PHKH;
    for page in [REQUEST, MEASUREMENT, ADDITIONAL] {
        machine.put(REQUEST, &arcb(flags, |_| {}));
        machine.put(MEASUREMENT, &[0; 64]);
        machine.memory.lock().unwrap().absent = Some(page as usize / 4096);
        let block = attest_call(b"").encode();
        let reply = machine.call(cpu, block.clone());
        assert_eq!((reply.cc, &reply.block), (Cc::Busy, &block));
        assert_eq!(machine.take::<64>(MEASUREMENT), [0; 64]);
        machine.call(cpu, block).ok();
    }
}

#[test]
fn a_host_cannot_ask() {
    let (machine, _, _) = Machine::running();
    let calls = [UvCommand::RETR_ATTEST, UvCommand::ADD_SECRET, UvCommand::LIST_SECRETS];
    for command in calls.into_iter().chain([UvCommand::LOCK_SECRETS, UvCommand::RETR_SECRET]) {
        machine.host(good_call(&machine, command)).refused(2, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the guest offers as a request, the Ultravisor answers and measures only what was sealed.
    #[test]
    fn any_request_is_answered(mut raw in prop::collection::vec(any::<u8>(), 0..0x400), slots in 0u8..4, nonce: bool) {
        let (machine, _, cpu) = Machine::running();
        if raw.len() > 0xe0 {
            let area = if nonce { 0x50u8 } else { 0x40 };
            let total = 0xe0 + u32::from(slots) * 80 + u32::from(area) + 16;
            raw[..16].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, (total >> 8) as u8, total as u8]);
            raw[0x27] = slots;
            raw[0x2c..0x40].copy_from_slice(&[0, 0, 0, area, u8::from(nonce) << 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        }
        let reply = machine.attest(cpu, &raw, b"");
        prop_assert_eq!(reply.cc, Cc::Refused);
    }
}
