//! The platform's keys, what persists, ASIDs, and faults on demand.

use cloister_asp::{Config, FlatMemory, Identity, Status, SystemMemory};
use cloister_crypto::{EcdsaHash, P384Secret, Secret, sha384};

use crate::rig::*;
use crate::valid::valid;

/// The OCA of an owner from outside.
pub(crate) fn owner_key() -> P384Secret {
    P384Secret::from_scalar(&sha384(b"oca")).unwrap()
}

pub(crate) fn sign(certificate: &mut [u8], slot: usize, usage: u32, key: &P384Secret) {
    let (r, s) = key.sign(EcdsaHash::Sha256, &certificate[..0x414]).to_le_fields();
    let at = [0x414, 0x61c][slot];
    certificate[at..at + 520].fill(0);
    certificate[at..at + 4].copy_from_slice(&usage.to_le_bytes());
    certificate[at + 4] = 2;
    certificate[at + 8..at + 80].copy_from_slice(&r);
    certificate[at + 80..at + 152].copy_from_slice(&s);
}

/// The PEK that an outside owner signed, and that owner's OCA.
pub(crate) fn owner_blobs(rig: &mut Rig) -> (Vec<u8>, Vec<u8>) {
    rig.run(0x06, Buf::new(12).u64(0, OUT).u32(8, 2084));
    let mut pek = rig.read(OUT, 2084);
    sign(&mut pek, 0, 0x1001, &owner_key());
    let mut oca = Owner { key: owner_key(), ..Owner::fixed() }.certificate();
    oca[8..12].copy_from_slice(&0x1001u32.to_le_bytes());
    oca[12] = 2;
    sign(&mut oca, 0, 0x1001, &owner_key());
    (pek, oca)
}

fn status_of(rig: &mut Rig) -> Buf {
    rig.run(0x04, Buf(vec![0xee; 12]))
}

#[test]
fn platform_status_zeroes_the_buffer_and_says_what_there_is() {
    let mut rig = Rig::new("status");
    assert_eq!(status_of(&mut rig).0, [1, 55, 0, 0, 0, 0, 0, 25, 0, 0, 0, 0]);
    rig.init(true);
    assert_eq!(status_of(&mut rig).0, [1, 55, 1, 0, 1, 0, 0, 25, 0, 0, 0, 0]);
    let import = valid(&mut rig, 0x07, 0, 0, 0);
    rig.run(0x07, import);
    rig.null_guest(0);
    assert_eq!(status_of(&mut rig).0, [1, 55, 2, 1, 1, 0, 0, 25, 1, 0, 0, 0]);
    rig.run(0x02, Buf::new(0));
    assert_eq!(status_of(&mut rig).0, [1, 55, 0, 0, 0, 0, 0, 25, 0, 0, 0, 0]);
}

fn chain_and_pdh(rig: &mut Rig) -> (Vec<u8>, Vec<u8>) {
    (rig.chain(), rig.pdh())
}

#[test]
fn keys_survive_as_the_table_of_keys_says() {
    let mut rig = Rig::new("survive");
    rig.init(false);
    let (chain, pdh) = chain_and_pdh(&mut rig);
    assert!(rig.asp.take_flash().is_none(), "nothing new to keep");
    rig.run(0x02, Buf::new(0));
    rig.init(false);
    assert_eq!(chain_and_pdh(&mut rig), (chain.clone(), pdh.clone()), "INIT again");

    rig.run(0x09, Buf::new(0));
    let (same, other) = chain_and_pdh(&mut rig);
    assert!(same == chain && other != pdh, "PDH_GEN replaces the PDH only");
    let kept = rig.asp.take_flash().unwrap().unwrap().to_vec();
    let mut again = Rig::new("another run");
    again.asp.set_flash(Some(kept));
    again.init(false);
    assert_eq!(chain_and_pdh(&mut again), (chain.clone(), other.clone()), "another process");

    rig.run(0x05, Buf::new(0));
    let (new, new_pdh) = chain_and_pdh(&mut rig);
    assert!(new[..2084] != chain[..2084] && new[2084..4168] != chain[2084..4168] && new_pdh != other);
    assert_eq!(new[4168..], chain[4168..], "the CEK stays");

    rig.run(0x02, Buf::new(0));
    rig.run(0x03, Buf::new(0));
    assert_eq!(rig.asp.take_flash(), Some(None));
    rig.init(false);
    let (reset, _) = chain_and_pdh(&mut rig);
    assert!(reset[..2084] != new[..2084] && reset[2084..4168] != new[2084..4168]);
    assert_eq!(reset[4168..], chain[4168..], "the CEK survives PLATFORM_RESET");
}

#[test]
fn an_owner_from_outside_takes_the_platform_once() {
    let mut rig = Rig::new("owner");
    rig.init(false);
    let before = rig.chain();
    let old_pdh = rig.pdh();
    let buf = valid(&mut rig, 0x07, 0, 0, 0);
    let (pek, oca) = owner_blobs(&mut rig);
    rig.run(0x07, buf.clone());
    let chain = rig.chain();
    assert_eq!(chain[..0x61c], pek[..0x61c], "the owner's signature stands first");
    assert_eq!(chain[0x61c..0x824], before[0x61c..0x824], "then the CEK's, as it was");
    assert_eq!(chain[2084..4168], oca);
    assert_ne!(rig.pdh(), old_pdh);
    assert_eq!(rig.cmd(0x07, &mut buf.clone()), OWNED);

    rig.run(0x02, Buf::new(0));
    rig.init(false);
    assert_eq!(rig.chain(), chain);
    assert_eq!(status_of(&mut rig).0[3], 1);
    rig.run(0x05, Buf::new(0));
    assert_eq!(status_of(&mut rig).0[3], 0, "PEK_GEN clears the owner");
}

#[test]
fn lengths_are_shown_when_they_are_too_small() {
    let mut rig = Rig::new("lengths");
    rig.init(false);
    let mut csr = Buf::new(12).u64(0, OUT).u32(8, 2083);
    assert_eq!((rig.cmd(0x06, &mut csr), csr.get(8)), (LENGTH, 2084));
    for (pdh, chain) in [(0, 0), (2083, 6252), (2084, 6251)] {
        let mut export = Buf::new(28).u64(0, OUT).u32(8, pdh).u64(16, CHAIN).u32(24, chain);
        assert_eq!((rig.cmd(0x08, &mut export), export.get(8), export.get(24)), (LENGTH, 2084, 6252));
    }
    let mut export = Buf::new(28).u64(0, OUT).u32(8, 9000).u64(16, CHAIN).u32(24, 9000);
    assert_eq!((rig.cmd(0x08, &mut export), export.get(8), export.get(24)), (OK, 2084, 6252));
    let mut id = Buf::new(12).u64(0, OUT).u32(8, 63);
    assert_eq!((rig.cmd(0x0c, &mut id), id.get(8)), (LENGTH, 64));
    let mut id = Buf::new(12).u64(0, OUT).u32(8, 128);
    assert_eq!((rig.cmd(0x0c, &mut id), id.get(8)), (OK, 64));
    assert!(rig.read(OUT, 64).starts_with(b"CLOISTER-MODEL"));
    // A buffer that is too short for its command is not looked at.
    assert_eq!(rig.cmd(0x06, &mut Buf::new(11)), LENGTH);
}

#[test]
fn init_ex_keeps_the_keys_in_the_host_s_area() {
    let mut rig = Rig::new("nv");
    rig.write(NV, &[0xff; 0x8000]);
    let init = valid(&mut rig, 0x0d, 0, 0, 0);
    rig.run(0x0d, init.clone());
    let chain = rig.chain();
    let area = rig.read(NV, 0x8000);
    assert!(rig.asp.take_flash().is_none());
    rig.run(0x02, Buf::new(0));
    rig.run(0x03, Buf::new(0));
    rig.run(0x0d, init.clone());
    assert_eq!(rig.chain(), chain, "PLATFORM_RESET clears the flash only");
    assert_eq!(rig.read(NV, 0x8000), area, "nothing was made, so nothing was written");
    rig.run(0x09, Buf::new(0));
    assert_ne!(rig.read(NV, 0x8000), area, "PDH_GEN saves");
    rig.run(0x02, Buf::new(0));

    let mut damaged = rig.read(NV, 0x8000);
    damaged[100] ^= 1;
    rig.write(NV, &damaged);
    assert_eq!(rig.cmd(0x0d, &mut init.clone()), SECURE_DATA);
    assert_eq!(rig.state(), 0);
    assert_eq!(rig.read(NV, 0x8000), vec![0xff; 0x8000], "the area is erased");
    rig.run(0x0d, init);
}

#[test]
fn a_damaged_flash_or_that_of_another_chip_is_refused() {
    let mut rig = Rig::new("flash");
    rig.asp.set_flash(Some(vec![1; 0x8000]));
    assert_eq!(rig.cmd(0x01, &mut init(false)), SECURE_DATA);
    rig.asp.set_flash(Some(vec![1; 5]));
    assert_eq!(rig.cmd(0x01, &mut init(false)), SECURE_DATA);
    let mut donor = Rig::new("donor");
    donor.init(false);
    donor.run(0x09, Buf::new(0));
    let flash = donor.asp.take_flash().unwrap().unwrap().to_vec();
    let other = Identity::of_chip(Secret::new([6; 32]));
    let mut rig = Rig::with("other", other, Config::default());
    rig.asp.set_flash(Some(flash));
    assert_eq!(rig.cmd(0x01, &mut init(false)), SECURE_DATA);
    rig.run(0x03, Buf::new(0));
    rig.init(false);
}

#[test]
fn asids_need_wbinvd_and_df_flush() {
    let config = Config { core_complexes: 2, cores_per_complex: 2, ..Config::default() };
    let mut rig = Rig::with("asids", Identity::of_chip(Secret::new([1; 32])), config);
    rig.init(true);
    let handle = rig.null_guest(0);
    let activate = |handle, asid| Buf::new(8).u32(0, handle).u32(4, asid);
    assert_eq!(rig.cmd(0x21, &mut activate(handle, 100)), DFFLUSH, "the first ACTIVATE");
    assert_eq!(rig.cmd(0x0a, &mut Buf::new(0)), WBINVD);
    (0..3).for_each(|core| rig.asp.wbinvd(core));
    assert_eq!(rig.cmd(0x0a, &mut Buf::new(0)), WBINVD, "one core is missing");
    assert_eq!(rig.cmd(0x21, &mut activate(handle, 100)), DFFLUSH);
    rig.asp.wbinvd(3);
    rig.run(0x0a, Buf::new(0));
    rig.activate(handle, 100);

    // Nobody ran it, so it is clean at once.
    rig.run(0x22, Buf::new(4).u32(0, handle));
    rig.activate(handle, 100);
    // Core 2 is on the second complex.
    rig.asp.ran(100, 2);
    rig.run(0x22, Buf::new(4).u32(0, handle));
    assert_eq!(rig.cmd(0x21, &mut activate(handle, 100)), DFFLUSH);
    assert_eq!(rig.cmd(0x0a, &mut Buf::new(0)), WBINVD);
    rig.activate(handle, 101);
    rig.asp.wbinvd(2);
    rig.asp.wbinvd(3);
    rig.run(0x0a, Buf::new(0));
    let second = rig.null_guest(0);
    rig.activate(second, 100);

    // Each shares nothing with the other: one ASID for one guest.
    let third = rig.null_guest(0);
    assert_eq!(rig.cmd(0x21, &mut activate(third, 100)), ASID_OWNED);
    assert_eq!(rig.cmd(0x21, &mut activate(second, 102)), ACTIVE);
    for asid in [0, 510, u32::MAX, 99] {
        assert_eq!(rig.cmd(0x21, &mut activate(third, asid)), INVALID_ASID, "ASID {asid}");
    }
    let es = rig.null_guest(ES);
    assert_eq!(rig.cmd(0x21, &mut activate(es, 102)), INVALID_ASID);
    rig.activate(es, 99);

    // ACTIVATE_EX takes the complexes of the cores that it names.
    rig.write(IDS, &[1, 0, 0, 0, 9, 0, 0, 0]);
    let ex = |count| Buf::new(0x18).u32(0, 0x18).u32(4, third).u32(8, 103).u32(12, count).u64(16, IDS);
    assert_eq!(rig.cmd(0x25, &mut ex(0)), PARAM);
    assert_eq!(rig.cmd(0x25, &mut ex(2)), PARAM, "there is no core 9");
    assert_eq!(rig.cmd(0x25, &mut ex(1).u32(0, 0x17)), LENGTH);
    rig.run(0x25, ex(1));
}

#[test]
fn an_asid_is_pending_until_the_launch_is_finished() {
    let mut rig = Rig::ready("pending", false);
    let handle = rig.null_guest(0);
    rig.activate(handle, 100);
    assert!(rig.asp.memory_cipher(100).is_none());
    rig.measure(handle);
    rig.run(0x35, Buf::new(4).u32(0, handle));
    assert!(rig.asp.memory_cipher(100).is_some());
    let status = rig.run(0x23, Buf::new(13).u32(0, handle));
    assert_eq!((status.get(4), status.get(8), status.0[12]), (0, 100, 3));
    assert_eq!(rig.cmd(0x20, &mut Buf::new(4).u32(0, handle)), ACTIVE);
    rig.run(0x22, Buf::new(4).u32(0, handle));
    assert!(rig.asp.memory_cipher(100).is_none());
    rig.run(0x20, Buf::new(4).u32(0, handle));
    assert_eq!(rig.state(), 1);
}

#[test]
fn handles_are_the_free_slots_and_there_are_1024() {
    let mut rig = Rig::new("handles");
    rig.init(false);
    for expected in 1..=1024 {
        assert_eq!(rig.null_guest(0), expected);
    }
    assert_eq!(rig.cmd(0x30, &mut Buf::new(36)), RESOURCE);
    rig.run(0x20, Buf::new(4).u32(0, 500));
    assert_eq!(rig.null_guest(0), 500);
}

#[test]
fn keys_are_shared_only_between_guests_of_one_policy_that_allow_it() {
    let mut rig = Rig::ready("share", false);
    let (plain, noks) = (rig.null_guest(0), rig.null_guest(NOKS));
    let share = |with, policy| Buf::new(36).u32(0, with).u32(4, policy);
    assert_eq!(rig.cmd(0x30, &mut share(99, 0)), GUEST);
    assert_eq!(rig.cmd(0x30, &mut share(plain, NODBG)), POLICY);
    assert_eq!(rig.cmd(0x30, &mut share(noks, NOKS)), POLICY);
    let sharing = rig.run(0x30, share(plain, 0)).get(0);
    let stranger = rig.null_guest(0);
    let mut ciphertexts = Vec::new();
    for (handle, asid) in [(plain, 100), (sharing, 101), (stranger, 102)] {
        rig.activate(handle, asid);
        rig.write(PAGE, &[5; 32]);
        rig.run(0x31, update(handle, PAGE, 32));
        ciphertexts.push(rig.read(PAGE, 32));
    }
    assert_eq!(ciphertexts[0], ciphertexts[1]);
    assert_ne!(ciphertexts[0], ciphertexts[2]);
}

#[test]
fn shutdown_destroys_guests_and_the_next_boot_has_other_tweaks() {
    let mut rig = Rig::ready("boot", false);
    let handle = rig.guest_in("ru", 0, 100);
    rig.run(0x02, Buf::new(0));
    assert_eq!((rig.state(), rig.guest_state(handle)), (0, 0));
    rig.init(false);
    assert_eq!(rig.null_guest(0), 1);
    assert_eq!(rig.cmd(0x21, &mut Buf::new(8).u32(0, 1).u32(4, 100)), DFFLUSH);
}

#[test]
fn what_the_keeper_ordered_fails_and_changes_nothing() {
    let mut rig = Rig::ready("faults", false);
    rig.asp.inject(0x30, 2, Status::HWERROR_PLATFORM);
    rig.asp.inject(0x30, 3, Status::RESOURCE_LIMIT);
    assert_eq!(rig.null_guest(0), 1);
    let mut second = Buf::new(36);
    assert_eq!(rig.cmd(0x30, &mut second), HWERROR);
    assert_eq!(second.get(0), 0);
    assert_eq!(rig.cmd(0x30, &mut Buf::new(36)), RESOURCE);
    assert_eq!(rig.null_guest(0), 2);
}

#[test]
fn an_identity_is_sealed_and_opened() {
    let identity = Identity::of_chip(Secret::new([3; 32]));
    let sealed = identity.seal();
    assert_eq!(Identity::open(&sealed).unwrap().cek(), identity.cek());
    for at in 0..sealed.len() {
        let mut changed = sealed.to_vec();
        changed[at] ^= 4;
        assert!(Identity::open(&changed).is_err(), "byte {at}");
        assert!(Identity::open(&sealed[..at]).is_err(), "{at} bytes");
    }
}

#[test]
fn the_same_seed_and_commands_give_the_same_bytes() {
    let record = || {
        let mut rig = Rig::ready("same", true);
        rig.guest_in("su", ES, 5);
        rig.read(0, MEMORY)
    };
    assert!(record() == record());
}

/// The processor can be moved to the thread that serves it.
#[test]
fn it_can_be_sent_to_another_thread() {
    fn is_send<T: Send>(_: &T) {}
    is_send(&Rig::new("send").asp);
}

#[test]
fn flat_memory_ends_where_it_ends() {
    let memory = FlatMemory::new(32);
    assert!(memory.exists(0..32) && !memory.exists(0..33));
    assert!(memory.write(31, &[1]).is_ok() && memory.write(31, &[1, 2]).is_err());
    assert!(memory.read(u64::MAX, &mut [0; 2]).is_err());
}
