//! Launches with the fixed keys of `sev-vectors.json`, and what the host can see of a guest.

use cloister_asp::{Config, Identity, Version};
use cloister_crypto::{EcdsaHash, P384Secret, P384Signature, Secret, sha256};

use crate::rig::*;
use crate::valid::valid;

/// A processor whose PDH is the one of the vectors.
pub(crate) fn with_vector_pdh(config: Config) -> Rig {
    let vectors = vectors();
    let mut rig = Rig::with("vectors", Identity::of_chip(Secret::new([2; 32])), config);
    // INIT draws OCA, PEK and PDH.
    rig.next_draws([None, None, Some(&bytes(&vectors["keys"]["pdh_private_be"]))]);
    rig.init(true);
    rig.flush();
    let (x, y) = point(&rig.pdh()).to_xy();
    assert_eq!(x[..], bytes(&vectors["keys"]["pdh_public_x_be"]));
    assert_eq!(y[..], bytes(&vectors["keys"]["pdh_public_y_be"]));
    rig
}

/// The session of the vectors, with any command that opens one.
pub(crate) fn open_vector_session(rig: &mut Rig, id: u16) -> u32 {
    let vectors = vectors();
    rig.write(CERT, &bytes(&vectors["tenant_certificate"]["certificate"]));
    rig.write(SESSION, &bytes(&vectors["launch_session"]["session_blob"]));
    rig.run(id, start(1)).get(0)
}

#[test]
fn session_measurement_and_secret_of_the_vectors() {
    let vectors = vectors();
    let mut rig = with_vector_pdh(Config::default());
    let handle = open_vector_session(&mut rig, 0x30);
    rig.activate(handle, 100);
    rig.run(0x31, update(handle, PAGE, 4096));
    rig.next_draws([Some(&bytes(&vectors["launch_measurement"]["mnonce"]))]);
    assert_eq!(rig.measure(handle)[..], bytes(&vectors["launch_measurement"]["blob"]));

    let secret = &vectors["launch_secret"];
    rig.write(HEADER, &bytes(&secret["header"]));
    rig.write(PAYLOAD, &bytes(&secret["payload"]));
    rig.run(0x34, packet(handle, PAGE + 0x100, 48));
    let plain = bytes(&secret["plaintext"]);
    assert_ne!(rig.read(PAGE + 0x100, 48), plain);
    rig.run(0x35, Buf::new(4).u32(0, handle));
    assert_eq!(rig.inside(100, PAGE + 0x100, 48), plain);
    assert_eq!(rig.inside(100, PAGE, 0x100), [0; 0x100], "what was launched is what the guest reads");
}

#[test]
fn null_launch_of_the_vectors() {
    let vectors = vectors();
    let null = &vectors["null_launch_measurement"];
    let mut rig = Rig::ready("null", false);
    // A session without a certificate is ignored.
    let handle = rig.run(0x30, Buf::new(36).u32(4, 1).u64(24, SESSION).u32(32, 5)).get(0);
    rig.activate(handle, 100);
    rig.run(0x31, update(handle, PAGE, 4096));
    rig.next_draws([Some(&bytes(&null["mnonce"]))]);
    let blob = rig.measure(handle);
    assert_eq!(blob[..32], bytes(&null["mac"]));
    assert_eq!(blob[32..], bytes(&null["mnonce"]));
}

#[test]
fn a_null_launch_is_not_asked_for_its_policy() {
    let mut rig = Rig::ready("null policy", false);
    let policy = 0xffff_0040 | NODBG;
    let handle = rig.null_guest(policy);
    assert_eq!(rig.run(0x23, Buf::new(13).u32(0, handle)).get(4), policy);
    assert_eq!(rig.cmd(0x30, &mut Buf::new(36).u32(4, ES)), UNSUPPORTED, "but for SEV-ES");
}

#[test]
fn measurement_of_nothing_by_another_firmware_version() {
    let vectors = vectors();
    let of = &vectors["sev_crate_measurement"];
    let version = Version { major: 0, minor: 18, build: 15 };
    let mut rig = with_vector_pdh(Config { version, ..Config::default() });
    let owner = Owner { tik: bytes(&of["tik"]).try_into().unwrap(), ..Owner::fixed() };
    let handle = rig.start(0x30, 0, &owner);
    rig.next_draws([Some(&bytes(&of["mnonce"]))]);
    assert_eq!(rig.measure(handle)[..32], bytes(&of["mac"]));
}

#[test]
fn the_digest_is_that_of_the_bytes_in_order_wherever_they_lie() {
    let mut digests = Vec::new();
    for (first, second) in [(PAGE, PAGE + 0x5010), (PAGE + 0xfff0, PAGE + 0x20)] {
        let mut rig = Rig::ready("digest", true);
        let handle = rig.null_guest(ES);
        rig.activate(handle, 5);
        for (at, fill, len) in [(first, 1, 48), (second, 2, 0x5020)] {
            rig.write(at, &vec![fill; len]);
            rig.run(0x31, update(handle, at, len as u32));
        }
        let mut vmsa = [3; 4096];
        vmsa[0x380..0x390].fill(7);
        rig.write(VMSA, &vmsa);
        rig.run(0x32, update(handle, VMSA, 4096));
        rig.measure(handle);
        let report = rig.run(0x36, Buf::new(36).u32(0, handle).u64(8, OUT).u64(16, 0x1234).u32(32, 0xd0));
        assert_eq!(report.get(32), 0xd0);
        let report = rig.read(OUT, 0xd0);
        assert_eq!(report[16..48], sha256(&[&[1; 48][..], &[2; 0x5020], &vmsa].concat()));
        assert_eq!(report[..2], [0x34, 0x12]);
        digests.push(report[16..48].to_vec());

        // The PEK signed it, with the policy.
        let chain = rig.chain();
        let field = |at: usize| report[at..at + 72].try_into().unwrap();
        let signature = P384Signature::from_le_fields(&field(0x40), &field(0x88)).unwrap();
        point(&chain).verify(EcdsaHash::Sha256, &report[..0x34], &signature).unwrap();
        assert_eq!(report[0x30..0x40], [4, 0, 0, 0, 2, 0x10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);

        // The page names its block in the trusted region, which is not the host's to read.
        rig.run(0x35, Buf::new(4).u32(0, handle));
        let mut expected = vmsa;
        expected[0x380..0x388].fill(0);
        expected[0x388..0x390].copy_from_slice(&TMR.to_le_bytes());
        assert_eq!(rig.inside(5, VMSA, 4096), expected);
        assert_eq!(rig.cmd(0x31, &mut update(handle, TMR, 16)), GUEST_STATE);
        let other = rig.null_guest(0);
        rig.activate(other, 200);
        assert_eq!(rig.cmd(0x31, &mut update(other, TMR + 0xffff0, 16)), ADDRESS);
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn the_host_sees_ciphertext_that_depends_on_address_and_guest() {
    let mut rig = Rig::ready("view", false);
    let mut views = Vec::new();
    for asid in [100, 101] {
        let handle = rig.null_guest(0);
        rig.activate(handle, asid);
        rig.write(PAGE, &[0xab; 0x6000]);
        // The C-bit in an address changes nothing.
        rig.run(0x31, update(handle, PAGE | 1 << 51, 0x6000));
        let view = rig.read(PAGE, 0x6000);
        let mut blocks: Vec<&[u8]> = view.chunks(16).collect();
        assert!(!blocks.contains(&&[0xab; 16][..]));
        blocks.sort_unstable();
        blocks.dedup();
        assert_eq!(blocks.len(), 0x600, "no two blocks are equal");
        views.push(view);
    }
    assert_ne!(views[0], views[1]);
}

#[test]
fn memory_that_is_not_there_is_an_invalid_address_and_nothing_changes() {
    let mut rig = Rig::ready("nowhere", false);
    let handle = rig.null_guest(0);
    rig.activate(handle, 100);
    let end = MEMORY as u64;
    assert_eq!(rig.cmd(0x31, &mut update(handle, end - 16, 32)), ADDRESS);
    assert_eq!(rig.cmd(0x31, &mut update(handle, !(1 << 51 | 15), 32)), ADDRESS);
    assert_eq!(rig.read(end - 16, 16), [0; 16]);
    assert_eq!(rig.cmd(0x33, &mut Buf::new(20).u32(0, handle).u64(8, end).u32(16, 48)), ADDRESS);
    assert_eq!(rig.guest_state(handle), 1);
}

#[test]
fn a_moved_page_is_readable_only_if_the_processor_moved_it() {
    let mut rig = Rig::ready("copy", false);
    let handle = rig.null_guest(0);
    rig.activate(handle, 100);
    rig.write(PAGE, &[0x11; 0x2000]);
    rig.run(0x31, update(handle, PAGE, 0x2000));
    rig.measure(handle);
    rig.run(0x35, Buf::new(4).u32(0, handle));
    let to = PAGE + 0x8000;
    rig.run(0x24, Buf::new(24).u32(0, handle).u32(4, 0x2000).u64(8, PAGE).u64(16, to));
    assert_eq!(rig.inside(100, to, 0x2000), vec![0x11; 0x2000]);
    let raw = rig.read(PAGE, 4096);
    rig.write(to, &raw);
    assert_ne!(rig.inside(100, to, 4096), vec![0x11; 4096]);
    // The same page: success, and nothing happens.
    rig.run(0x24, Buf::new(24).u32(0, handle).u32(4, 0x1000).u64(8, PAGE).u64(16, PAGE));
    assert_eq!(rig.read(PAGE, 4096), raw);
    // Two blocks swapped by the host.
    rig.write(PAGE, &[&raw[16..32], &raw[..16]].concat());
    assert_ne!(rig.inside(100, PAGE, 32), [0x11; 32]);
}

#[test]
fn debugging_reads_and_writes_a_guest_that_allows_it() {
    let mut rig = Rig::ready("debug", false);
    let handle = rig.null_guest(0);
    rig.activate(handle, 100);
    rig.write(PAGE, &[0x22; 0x3000]);
    rig.run(0x31, update(handle, PAGE, 0x3000));
    let debug = |src, dst, len| Buf::new(28).u32(0, handle).u64(8, src).u64(16, dst).u32(24, len);
    rig.run(0x60, debug(PAGE + 0x10, OUT, 0x2010));
    assert_eq!(rig.read(OUT, 0x2010), vec![0x22; 0x2010]);
    rig.write(OUT, b"sixteen letters!");
    rig.run(0x61, debug(OUT, PAGE + 0x40, 16));
    rig.run(0x60, debug(PAGE + 0x40, OUT + 0x100, 16));
    assert_eq!(rig.read(OUT + 0x100, 16), b"sixteen letters!");
    rig.run(0x60, debug(PAGE, OUT, 0));
}

#[test]
fn a_swapped_page_comes_back_anywhere_and_every_bit_is_under_the_tag() {
    let mut rig = Rig::ready("swap", true);
    let handle = rig.guest_in("ru", ES, 5);
    let (vmsa_out, data) = (VMSA, PAGE);
    // Type and content must agree.
    let out = |src, bits| {
        Buf::new(40).u32(0, handle).u32(4, bits).u64(8, src).u64(16, SWAPPED).u64(24, MDATA).u64(32, 77)
    };
    let into =
        |dst, bits| Buf::new(32).u32(0, handle).u32(4, bits).u64(8, SWAPPED).u64(16, dst).u64(24, MDATA);
    assert_eq!(rig.cmd(0x70, &mut out(vmsa_out, 0)), PARAM);
    assert_eq!(rig.cmd(0x70, &mut out(data, 4)), PARAM);
    let before = rig.inside(5, vmsa_out, 4096);
    rig.run(0x70, out(vmsa_out, 4));
    assert_eq!(rig.read(MDATA, 16), [77, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_ne!(rig.read(SWAPPED, 4096), before);
    rig.run(0x71, into(PAGE + 0x3000, 4));
    assert_eq!(rig.inside(5, PAGE + 0x3000, 4096), before);
    rig.run(0x70, out(PAGE + 0x3000, 4));
    assert_eq!(rig.read(MDATA + 8, 1), [2], "a new counter for each page");

    let mut large = out(data, 1);
    large.set64(16, 0x60_0000);
    let content = rig.inside(5, data, 0x20_0000);
    rig.run(0x70, large);
    let mut back = into(0x40_0000, 1);
    back.set64(8, 0x60_0000);
    rig.run(0x71, back);
    assert_eq!(rig.inside(5, 0x40_0000, 0x20_0000), content);

    rig.run(0x70, out(data, 0));
    let (mdata, sealed) = (rig.read(MDATA, 64), rig.read(SWAPPED, 4096));
    for bit in 0..0x3c * 8 {
        let mut changed = mdata.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        rig.write(MDATA, &changed);
        assert_eq!(rig.cmd(0x71, &mut into(data, 0)), MEASUREMENT, "bit {bit} of the metadata");
    }
    rig.write(MDATA, &mdata);
    for bit in (0..4096 * 8).step_by(509) {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        rig.write(SWAPPED, &changed);
        assert_eq!(rig.cmd(0x71, &mut into(data, 0)), MEASUREMENT, "bit {bit} of the page");
    }
    rig.write(SWAPPED, &sealed);
    // In place: the sealed page lies where the page shall be.
    let mut in_place = into(SWAPPED, 8);
    rig.run(0x71, in_place.clone());
    in_place.set64(16, data);
    assert_eq!(rig.cmd(0x71, &mut in_place), PARAM);
}

#[test]
fn a_secret_needs_the_measurement_it_is_bound_to() {
    let mut rig = Rig::ready("bound", false);
    let handle = rig.guest_in("ls", 0, 100);
    let (header, payload) = Owner::fixed().packet(1, &[1; 16], &[0; 32]);
    rig.write(HEADER, &header);
    rig.write(PAYLOAD, &payload);
    assert_eq!(rig.cmd(0x34, &mut packet(handle, PAGE, 16)), MEASUREMENT);
    let buf = valid(&mut rig, 0x34, handle, 100, 0);
    rig.run(0x34, buf.clone());
    rig.run(0x34, buf);
}

#[test]
fn a_launch_without_an_asid_can_be_measured_and_finished() {
    let mut rig = Rig::ready("no asid", false);
    let handle = rig.null_guest(0);
    rig.measure(handle);
    rig.run(0x35, Buf::new(4).u32(0, handle));
    rig.activate(handle, 100);
    assert!(rig.asp.memory_cipher(100).is_some(), "a finished guest is usable at once");
}

#[test]
fn a_key_of_an_owner_that_is_no_point_is_an_invalid_certificate() {
    let mut rig = Rig::ready("point", false);
    let owner = Owner { key: P384Secret::from_scalar(&[1; 48]).unwrap(), ..Owner::fixed() };
    rig.start(0x30, 0, &owner);
    let mut certificate = owner.certificate();
    certificate[20..140].fill(0);
    rig.write(CERT, &certificate);
    assert_eq!(rig.cmd(0x30, &mut start(0)), CERTIFICATE);
}
