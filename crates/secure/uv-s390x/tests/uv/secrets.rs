//! The secret store: every type, every refusal with its code, bindings, and tampering.

use crate::attestation::vector_machine;
use crate::common::*;
use crate::image::make_header;
use crate::owner::*;
use cloister_crypto::{hkdf_sha512, sha512};
use cloister_formats::s390x::arcb::ArcbFlags;
use cloister_formats::s390x::asrcb::{Asrcb, FLAG_DISABLE_DUMP, SecretType};
use cloister_formats::s390x::attestation::AdditionalData;
use cloister_formats::s390x::se_header::{Scf, SeHeader};
use cloister_formats::s390x::secret_list::{MAX_ENTRIES, SecretList};
use cloister_formats::s390x::uvcb::*;
use cloister_uv_s390x::*;
use proptest::prelude::*;

fn secret(kind: SecretType, name: &str) -> NewSecret {
    NewSecret::new(kind, name)
}

fn association(name: &str) -> NewSecret {
    secret(SecretType::ASSOCIATION, name)
}

fn list(machine: &Machine, cpu: u64, start_index: u16) -> SecretList {
    machine.call(cpu, ListSecrets { start_index, addr: LIST }.encode()).ok();
    SecretList::parse(&machine.take::<4096>(LIST)).unwrap()
}

/// The hash of the store as an attestation tells it.
fn store_hash(machine: &Machine, cpu: u64) -> [u8; 64] {
    let flags = ArcbFlags::SECRET_STORE_HASH;
    machine.attest(cpu, &arcb(flags, |_| {}), b"").ok();
    AdditionalData::parse(flags, &machine.take::<64>(ADDITIONAL)).unwrap().secret_store_hash.unwrap()
}

/// A machine that runs the golden components under a header with these secret control flags, and a change
/// that binds a request to that header.
fn with_scf(scf: u64) -> (Machine, u64, u64, impl Fn(&mut Asrcb)) {
    let header = make_header(&host_key("host_key"), |_, secret| secret.scf = scf);
    let tag = SeHeader::parse(&header).unwrap().tag;
    let (machine, guest, cpu) = Machine::new().run(&header);
    (machine, guest, cpu, move |request: &mut Asrcb| request.se_tag = tag)
}

#[test]
fn golden_requests_are_accepted_listed_hashed_and_locked() {
    let all = vectors();
    let (machine, _, cpu) = vector_machine();
    let golden = |name: &str| *<&[u8; 64]>::try_from(&bytes(&all["secret_store_hash"][name])[..]).unwrap();
    assert_eq!(store_hash(&machine, cpu), golden("empty_unlocked_hex"));
    for name in ["association_derived_ext", "plaintext_derived_ext"] {
        machine.add(cpu, &bytes(&all["add_secret"][name]["asrcb_hex"])).ok();
    }
    assert_eq!(store_hash(&machine, cpu), golden("after_assoc_and_plain_unlocked_hex"));
    let prefix = bytes(&all["secret_list"]["prefix_hex"]);
    machine.put(LIST, &[0xff; 4096]);
    assert_eq!(list(&machine, cpu, 0).entries.len(), 2);
    let page = machine.take::<4096>(LIST);
    assert!(page.starts_with(&prefix) && page[prefix.len()..].iter().all(|&byte| byte == 0));
    machine.lock_store(cpu).ok();
    assert_eq!(store_hash(&machine, cpu), golden("after_assoc_and_plain_locked_hex"));
    let null = bytes(&all["add_secret"]["null_derived_ext"]["asrcb_hex"]);
    machine.add(cpu, &null).refused(0x102, 0);
    // The plaintext comes back as it was sealed; the association secret does not.
    machine.retrieve(cpu, 1, 16).ok();
    let plain = bytes(&all["add_secret"]["plaintext_derived_ext"]["secret_hex"]);
    assert_eq!(machine.take::<16>(BUFFER), *plain);
    machine.retrieve(cpu, 0, 64).refused(0x111, 0);
}

#[test]
fn golden_null_request_is_accepted_and_not_listed() {
    let (machine, _, cpu) = vector_machine();
    machine.add(cpu, &bytes(&vectors()["add_secret"]["null_derived_ext"]["asrcb_hex"])).ok();
    assert_eq!(list(&machine, cpu, 0), SecretList::default());
    machine.retrieve(cpu, 0, 64).refused(0x10f, 0);
}

#[test]
fn every_type_is_added_and_listed_and_those_that_may_be_are_retrieved() {
    let (machine, _, cpu, bind) = with_scf(Scf::CCK_UPDATE.0);
    let mut index = 0u16;
    for &kind in SecretType::ALL {
        let new = secret(kind, kind.name());
        machine.add(cpu, &new.request_with(&bind)).ok();
        let entries = list(&machine, cpu, index).entries;
        if !kind.is_listable() {
            assert!(entries.is_empty(), "{}", kind.name());
            continue;
        }
        let entry = entries[0];
        assert_eq!((entry.index, entry.kind, entry.id), (index, kind, new.id));
        let reply = machine.retrieve(cpu, index, entry.len);
        let got = machine.take::<256>(BUFFER)[..entry.len as usize].to_vec();
        if kind == SecretType::ASSOCIATION {
            reply.refused(0x111, 0);
        } else if kind == SecretType::PLAINTEXT {
            reply.ok();
            assert_eq!(got, new.bytes);
        } else {
            reply.ok();
            let (wrapped, pattern) = got.split_at(new.bytes.len());
            assert_eq!(pattern, MODEL_WRAPPING_PATTERN, "{}", kind.name());
            assert_ne!(wrapped, new.bytes, "a key never comes in the clear");
            machine.retrieve(cpu, index, entry.len).ok();
            assert_eq!(machine.take::<16>(BUFFER), wrapped[..16], "and is wrapped alike each time");
        }
        machine.retrieve(cpu, index, entry.len - 1).refused(if index == 0 { 0x111 } else { 0x109 }, 0);
        index += 1;
    }
    assert_eq!(index, 14);
}

#[test]
fn a_wrapped_key_is_of_use_to_no_other_configuration() {
    let (machine, mut guest, mut cpu) = Machine::running();
    let mut tokens = Vec::new();
    for _ in 0..2 {
        machine.retrieve(cpu, 0, 64).refused(0x10f, 0);
        machine.add(cpu, &secret(SecretType::AES_256, "key").request()).ok();
        machine.retrieve(cpu, 0, 64).ok();
        tokens.push(machine.take::<32>(BUFFER));
        machine.set_state(cpu, 2).ok();
        machine.named(UvCommand::DESTROY_SEC_CPU, cpu).ok();
        machine.named(UvCommand::DESTROY_SEC_CONF, guest).ok();
        (guest, cpu) = machine.start(&Image::golden().header);
    }
    assert_ne!(tokens[0], tokens[1]);
}

#[test]
fn rc_table_of_add_secret_request_shape() {
    let (machine, _, cpu) = Machine::running();
    let good = || association("good").request();
    let with = |at: usize, bytes: &[u8]| {
        let mut request = good();
        request[at..at + bytes.len()].copy_from_slice(bytes);
        request
    };
    let add = |request: &[u8]| machine.add(cpu, request);
    let mut block = AddSecret { addr: REQUEST }.encode();
    block[1] = 0x40;
    machine.call(cpu, block).refused(5, 0);
    machine.call(cpu, AddSecret { addr: u64::MAX }.encode()).refused(0x103, 0);
    // The head is accessible, the rest is not.
    machine.put(0x20000 - 0x100, &good()[..0x100]);
    machine.call(cpu, AddSecret { addr: 0x20000 - 0x100 }.encode()).refused(0x103, 0);
    add(&with(0, b"arcb")).refused(0x104, 0);
    add(&with(8, &[0, 0, 2, 0])).refused(0x104, 0);
    add(&with(0x0c, &[0, 0, 0, 0])).refused(0x105, 0);
    add(&with(0x0c, &[0xff, 0xff, 0xff, 0xff])).refused(0x105, 0);
    add(&with(0x0e, &[6])).refused(0x105, 0);
    add(&with(0x2f, &[0x41])).refused(0x105, 0);
    let slots = |count: usize| {
        association("slots").request_with(|request| request.slots = request.slots.repeat(count))
    };
    add(&slots(0)).refused(0x106, 0);
    add(&association("flags").request_with(|request| request.flags = 1)).refused(0x107, 0);
    add(&association("flags").request_with(|request| request.flags = 1 << 62)).refused(0x107, 0);
    for kind in [0, 0x0b, 0x10, 0x17, 0xffff] {
        let mut unknown = association("type");
        unknown.kind = SecretType(kind);
        add(&unknown.request()).refused(0x109, 0);
    }
    for &kind in SecretType::ALL {
        let mut long = secret(kind, "long");
        long.bytes.push(0);
        add(&long.request()).refused(0x10a, 0);
    }
    let mut empty = secret(SecretType::PLAINTEXT, "empty");
    empty.bytes.clear();
    add(&empty.request()).refused(0x10a, 0);
    empty.bytes = vec![0; 8208];
    add(&empty.request()).refused(0x10a, 0);
    let other = association("other").request_with(|request| request.slots = slots_for("second_host_key"));
    let reply = add(&other).refused(0x108, 1);
    assert!(reply.text.contains("host-key document"), "{}", reply.text);
    add(&with(0x418, &[1])).refused(0x108, 2);
    add(&with(0x4b8 + 40, &[0; 8])).refused(0x108, 3);
    add(&with(0x10, &[0; 12])).refused(0x108, 4);
    assert_eq!(list(&machine, cpu, 0), SecretList::default());
    // Nothing was wrong with the rest: all slots, and the longest plaintext.
    add(&slots(255)).ok();
    let mut longest = secret(SecretType::PLAINTEXT, "longest");
    longest.bytes = vec![0x61; 8192];
    add(&longest.request()).ok();
    machine.retrieve(cpu, 1, 8192).ok();
    assert_eq!(machine.take::<8192>(BUFFER), [0x61; 8192]);
}

#[test]
fn rc_10c_tells_which_binding_is_violated() {
    let (machine, _, cpu) = Machine::running();
    let uid = {
        let reply = machine.attest(cpu, &arcb(ArcbFlags(0), |_| {}), b"").ok();
        RetrAttest::parse(&reply.block).unwrap().config_uid
    };
    let changed: [fn(&mut Asrcb); 4] = [
        |request| request.pld[63] ^= 1,
        |request| request.ald[0] ^= 0x80,
        |request| request.tld[31] ^= 4,
        |request| request.se_tag[15] ^= 1,
    ];
    for change in changed {
        machine.add(cpu, &association("image").request_with(change)).refused(0x10c, 1);
    }
    let other_uid = |request: &mut Asrcb| request.config_uid = [1; 16];
    machine.add(cpu, &association("uid").request_with(other_uid)).refused(0x10c, 2);
    machine.add(cpu, &association("uid").request_with(|request| request.config_uid = uid)).ok();
    // That fixed the extension secret: none.
    let mut extended = association("extended");
    extended.extension = [1; 32];
    machine.add(cpu, &extended.request()).refused(0x10c, 3);
    let request = association("twice").request();
    machine.add(cpu, &request).ok();
    machine.add(cpu, &request).refused(0x10c, 4);
    let mut again = association("twice");
    again.bytes = vec![1; 32];
    machine.add(cpu, &again.request()).refused(0x10c, 5);
    machine.add(cpu, &secret(SecretType::PLAINTEXT, "twice").request()).refused(0x10c, 5);
    machine.add(cpu, &secret(SecretType::CCK_UPDATE, "").request()).refused(0x10c, 6);
    assert_eq!(list(&machine, cpu, 0).total, 2);
}

#[test]
fn a_null_request_is_used_once_too() {
    let (machine, _, cpu) = Machine::running();
    let request = secret(SecretType::NULL, "").request();
    machine.add(cpu, &request).ok();
    machine.add(cpu, &request).refused(0x10c, 4);
}

#[test]
fn the_first_request_fixes_a_simple_extension_secret() {
    let (machine, _, cpu) = Machine::running();
    let with = |name: &str, extension| {
        let mut new = association(name);
        new.extension = extension;
        machine.add(cpu, &new.request())
    };
    // A refused request fixes nothing.
    let mut wrong = association("wrong");
    wrong.extension = [9; 32];
    machine.add(cpu, &wrong.request_with(|request| request.pld = [0; 64])).refused(0x10c, 1);
    with("first", [7; 32]).ok();
    with("second", [7; 32]).ok();
    with("third", [8; 32]).refused(0x10c, 3);
    with("fourth", [0; 32]).refused(0x10c, 3);
}

#[test]
fn scf_bit_1_asks_for_the_extension_secret_of_the_cck() {
    let (machine, _, cpu, bind) = with_scf(Scf::CCK_EXTENSION_SECRET.0);
    let cck = bytes(&vectors()["se_header"]["cck_hex"]);
    let mut new = association("derived");
    let tag = {
        let mut request = Asrcb::parse(&new.request()).unwrap();
        bind(&mut request);
        request.se_tag
    };
    for wrong in [[0; 32], [7; 32]] {
        new.extension = wrong;
        machine.add(cpu, &new.request_with(&bind)).refused(0x10c, 3);
    }
    new.extension = *hkdf_sha512(&cck, &tag, b"IBM Z Ultravisor Add-Secret").expose();
    machine.add(cpu, &new.request_with(&bind)).ok();
    new.id = [1; 32];
    machine.add(cpu, &new.request_with(&bind)).ok();
}

#[test]
fn a_new_cck_is_what_dumps_are_encrypted_for() {
    let (machine, guest, cpu, bind) = with_scf(Scf::CCK_UPDATE.0);
    let mut new = secret(SecretType::CCK_UPDATE, "");
    new.bytes = vec![0xcc; 32];
    machine.add(cpu, &new.request_with(&bind)).ok();
    machine.set_state(cpu, 2).ok();
    machine.named(UvCommand::DUMP_INIT, guest).ok();
    let answer = machine.host(DumpComplete { guest_handle: guest, dump_area: 0 }.encode()).ok();
    assert!(crate::dump::open(&[0xcc; 32], &answer.data).is_some());
    assert!(crate::dump::open(&bytes(&vectors()["se_header"]["cck_hex"]), &answer.data).is_none());
}

#[test]
fn the_owner_can_forbid_dumps_for_good() {
    let (machine, guest, cpu) = Machine::running();
    let forbid = secret(SecretType::NULL, "").request_with(|request| request.flags = FLAG_DISABLE_DUMP);
    machine.add(cpu, &forbid).ok();
    machine.set_state(cpu, 2).ok();
    machine.named(UvCommand::DUMP_INIT, guest).refused(0x101, 0);
    // Not even after a reset, which leaves the guest's pages as they are.
    machine.named(UvCommand::PREPARE_RESET, guest).ok();
    machine.named(UvCommand::DUMP_INIT, guest).refused(0x101, 0);
}

#[test]
fn a_reset_clears_the_store() {
    let (machine, guest, cpu) = Machine::running();
    let empty = store_hash(&machine, cpu);
    let request = association("boot").request();
    machine.add(cpu, &request).ok();
    machine.lock_store(cpu).ok();
    machine.set_state(cpu, 2).ok();
    machine.named(UvCommand::PREPARE_RESET, guest).ok();
    machine.named(UvCommand::CPU_CLEAR_RESET, cpu).ok();
    machine.set_state(cpu, 5).ok();
    assert_eq!(store_hash(&machine, cpu), empty);
    assert_eq!(list(&machine, cpu, 0), SecretList::default());
    machine.add(cpu, &request).ok();
}

#[test]
fn a_locked_store_stays_as_it_is() {
    let (machine, _, cpu) = Machine::running();
    machine.lock_store(cpu).ok();
    machine.lock_store(cpu).refused(0x102, 0);
    machine.add(cpu, &association("late").request()).refused(0x102, 0);
    // Before anything of the request is looked at.
    machine.call(cpu, AddSecret { addr: u64::MAX }.encode()).refused(0x102, 0);
    assert_eq!(store_hash(&machine, cpu), sha512(&[1]));
    assert_eq!(list(&machine, cpu, 0), SecretList::default());
}

#[test]
fn the_store_has_the_room_that_the_query_says_and_lists_it_page_by_page() {
    let (machine, _, cpu) = Machine::running();
    let query = Qui::parse(&machine.call(cpu, Qui::default().encode()).ok().block).unwrap();
    let sorts =
        [(SecretType::ASSOCIATION, query.max_assoc_secrets), (SecretType::AES_128, query.max_retr_secrets)];
    for (kind, max) in sorts {
        for number in 0..max {
            machine.add(cpu, &secret(kind, &format!("{} {number}", kind.0)).request()).ok();
        }
        machine.add(cpu, &secret(kind, "one too many").request()).refused(0x10b, 0);
    }
    machine.add(cpu, &secret(SecretType::PLAINTEXT, "one too many").request()).refused(0x10b, 0);
    machine.add(cpu, &secret(SecretType::NULL, "").request()).ok();
    let total = query.max_assoc_secrets + query.max_retr_secrets;
    let (mut start, mut seen) = (0, Vec::new());
    loop {
        let page = list(&machine, cpu, start);
        assert_eq!(page.total, total);
        assert!(page.entries.len() <= MAX_ENTRIES);
        seen.extend(page.entries.iter().map(|entry| entry.index));
        start = page.next;
        if start == 0 {
            break;
        }
    }
    assert_eq!(seen, (0..total).collect::<Vec<_>>());
    for start in [total, u16::MAX] {
        let page = list(&machine, cpu, start);
        assert_eq!((page.total, page.next, page.entries.len()), (total, 0, 0));
    }
}

#[test]
fn rc_tables_of_list_lock_and_retrieve() {
    let (machine, _, cpu) = Machine::running();
    for mut block in [
        ListSecrets { start_index: 0, addr: LIST }.encode(),
        LockSecrets {}.encode(),
        RetrSecret { index: 0, buf_size: 16, buf_addr: BUFFER }.encode(),
    ] {
        block[1] += 8;
        block.resize(0x80, 0);
        machine.call(cpu, block).refused(5, 0);
    }
    machine.call(cpu, ListSecrets { start_index: 0, addr: 0x20000 - 4095 }.encode()).refused(0x102, 0);
    machine.retrieve(cpu, 0, 16).refused(0x10f, 0);
    machine.add(cpu, &association("a").request()).ok();
    machine.add(cpu, &secret(SecretType::PLAINTEXT, "p").request()).ok();
    machine.retrieve(cpu, 2, 16).refused(0x110, 0);
    machine.retrieve(cpu, u16::MAX, 16).refused(0x110, 0);
    machine.retrieve(cpu, 0, 64).refused(0x111, 0);
    machine.retrieve(cpu, 1, 15).refused(0x109, 0);
    let block = RetrSecret { index: 1, buf_size: 16, buf_addr: 0x20000 - 15 };
    machine.call(cpu, block.encode()).refused(0x102, 0);
}

#[test]
fn a_secret_is_added_once_even_if_the_call_is_repeated() {
    let (machine, _, cpu) = Machine::running();
    let request = association("once").request();
    machine.memory.lock().unwrap().unsettled = true;
    assert_eq!(machine.add(cpu, &request).cc, Cc::Busy);
    assert_eq!(list(&machine, cpu, 0), SecretList::default());
    machine.memory.lock().unwrap().absent = Some(REQUEST as usize / 4096);
    assert_eq!(machine.call(cpu, AddSecret { addr: REQUEST }.encode()).cc, Cc::Busy);
    machine.add(cpu, &request).ok();
    machine.memory.lock().unwrap().unsettled = true;
    assert_eq!(machine.lock_store(cpu).cc, Cc::Busy);
    machine.lock_store(cpu).ok();
}

#[test]
fn flipped_bits_of_a_request_are_refused_and_the_store_stays_empty() {
    let (machine, _, cpu) = Machine::running();
    let good = association("good").request();
    let empty = store_hash(&machine, cpu);
    // Every byte is touched; seven flips in a row touch every bit position.
    for bit in (0..good.len() * 8).step_by(7) {
        let mut request = good.clone();
        request[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(machine.add(cpu, &request).cc, Cc::Refused, "bit {bit}");
    }
    assert_eq!(store_hash(&machine, cpu), empty);
    machine.add(cpu, &good).ok();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the guest offers as a request, the Ultravisor answers and adds nothing that was not sealed.
    #[test]
    fn any_request_is_answered(noise in prop::collection::vec(any::<u8>(), 0x700), total in 0u32..0x800, slots in 0u8..3, kind in 0u8..0x18) {
        let (machine, _, cpu) = Machine::running();
        let mut raw = noise;
        raw[..12].copy_from_slice(b"asrcb\x4d\0\0\0\0\x01\0");
        raw[12..16].copy_from_slice(&total.to_be_bytes());
        raw[0x27] = slots;
        raw[0x30..0x38].fill(0);
        raw[0x4ba + usize::from(slots) * 80..][..2].copy_from_slice(&[0, kind]);
        prop_assert_eq!(machine.add(cpu, &raw).cc, Cc::Refused);
        prop_assert_eq!(list(&machine, cpu, 0), SecretList::default());
    }
}
