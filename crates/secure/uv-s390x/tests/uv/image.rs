//! From the SE header to verified pages: the golden image, every documented refusal, every flipped bit.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::*;
use cloister_arch::s390x::Psw;
use cloister_crypto::{Aes256Gcm, P521Secret, Secret, SeededEntropy, sha512, x963_kdf_sha256};
use cloister_formats::s390x::host_key::{KeySlot, KeyXy, Phkh};
use cloister_formats::s390x::ipl_block::{IplBlock, IplKind};
use cloister_formats::s390x::se_header::{Pcf, SeHeader, SecretArea};
use cloister_formats::s390x::uvcb::UvCommand;
use cloister_uv_s390x::*;

const PSW: Psw = Psw { mask: 0x1_8000_0000, addr: 0x19000 };

#[test]
fn golden_image_is_unpacked_verified_and_started() {
    let (machine, guest, cpu) = Machine::running();
    let image = Image::golden();
    for ((address, _), plain) in image.pages.iter().zip(&image.plain) {
        let page = machine.storage.page(address / 4096);
        assert!(page.private && page.plain == *plain);
        assert!(page.raw.iter().all(|&byte| byte == 0), "the host copy is scrubbed");
    }
    assert_eq!(machine.uv.configuration_state(guest), Some(ConfigurationState::Running));
    assert_eq!(machine.uv.cpu_start_state(cpu), Some(PSW));
    assert_eq!(machine.uv.cpu_run_state(cpu), Some(CpuRunState::Load));
    machine.set_state(cpu, 2).ok();
    machine.set_state(cpu, 1).ok();
    assert_eq!(machine.uv.cpu_start_state(cpu), None, "the PSW is loaded once");
}

#[test]
fn second_slot_opens_too() {
    let (machine, guest) = Machine::created();
    machine.set_header(guest, &bytes(&vectors()["se_header_two_slots"]["header_hex"])).ok();
}

#[test]
fn negative_headers_have_their_documented_codes() {
    let (machine, guest) = Machine::created();
    let refused = machine.set_header(guest, &negative_header("only foreign slot")).refused(0x108, 5);
    let all = vectors();
    for key in ["host_key", "second_host_key"] {
        assert!(refused.text.contains(all[key]["phkh_hex"].as_str().unwrap()), "{}", refused.text);
    }
    assert!(refused.text.contains("host key hash does not match"), "{}", refused.text);
    machine.set_header(guest, &negative_header("version 0x200")).refused(0x104, 1);
    machine.set_header(guest, &negative_header("no key slot")).refused(0x10a, 0x40);
    let flipped = negative_header("flipped bit in header AAD (PCF byte 0x3f)");
    machine.set_header(guest, &flipped).refused(0x106, 0x30);
    let mut header = Image::golden().header;
    header[0x3f] ^= 2;
    machine.set_header(guest, &header).refused(0x10b, 2);
    header[0x2f] = 0x40;
    machine.set_header(guest, &header).refused(0x10a, 0x39);
    machine.set_header(guest, &header[..0x27f]).refused(0x10a, 0x31);
    machine.set_header(guest, &[0; 8193]).refused(0x10a, 0x31);
    machine.set_header(guest, b"").refused(0x10a, 0x31);
    machine.set_header(guest, &[0; 0x280]).refused(0x104, 1);
    let mut block = cloister_formats::s390x::uvcb::SetSecConfParams::default();
    (block.guest_handle, block.hdr_len) = (guest, 0x280);
    machine.host_with(block.encode(), vec![0; 0x27f]).refused(0x103, 0);
    assert_eq!(machine.uv.configuration_state(guest), Some(ConfigurationState::Created));
}

/// Seals a header anew, as an image tool does.
pub(crate) fn make_header(host: &P521Secret, change: impl FnOnce(&mut SeHeader, &mut SecretArea)) -> Vec<u8> {
    let all = vectors();
    let mut header = SeHeader::parse(&Image::golden().header).unwrap();
    let mut secret = SecretArea::parse(&bytes(&all["se_header"]["enc_plaintext_hex"])).unwrap();
    change(&mut header, &mut secret);
    let customer = P521Secret::generate(&mut SeededEntropy::new(b"customer"));
    header.customer_key = KeyXy(customer.public().to_padded_xy());
    let header_key = Secret::new([9; 32]);
    let mut wrapped_key = *header_key.expose();
    let kek = x963_kdf_sha256(customer.ecdh_x(&host.public()).expose());
    let tag = Aes256Gcm::new(&kek).seal(&[0; 12], &[], &mut wrapped_key).unwrap();
    let phkh = Phkh(cloister_crypto::sha256(&host.public().to_padded_xy()));
    header.slots = vec![KeySlot { phkh, wrapped_key, tag }];
    header.encrypted_area = secret.encode();
    let mut area = header.encrypted_area.clone();
    header.tag = Aes256Gcm::new(&header_key).seal(&header.iv, &header.aad(), &mut area).unwrap();
    header.encrypted_area = area;
    header.encode()
}

#[test]
fn flags_in_the_sealed_area_are_checked() {
    let (machine, guest) = Machine::created();
    let host = host_key("host_key");
    machine.set_header(guest, &make_header(&host, |_, secret| secret.scf = 1)).refused(0x109, 0);
    machine
        .set_header(guest, &make_header(&host, |_, secret| secret.optional_items = 1))
        .refused(0x10a, 0x39);
    machine
        .set_header(guest, &make_header(&host, |_, secret| secret.items = vec![0; 16]))
        .refused(0x10a, 0x39);
    machine
        .set_header(guest, &make_header(&host, |header, _| header.pcf = Pcf(1 << 63)))
        .refused(0x106, 0x30);
    let mut off_curve = make_header(&host, |_, _| {});
    off_curve[0x40] = 1;
    machine.set_header(guest, &off_curve).refused(0x108, 0x0b);
    machine.set_header(guest, &make_header(&host, |_, secret| secret.scf = 1 << 62)).ok();
}

#[test]
fn backup_key_opens_only_with_pcf_bit_62() {
    let backup = host_key("second_host_key");
    let with = make_header(&backup, |header, _| header.pcf.0 |= Pcf::BACKUP_KEYS.0);
    let without = make_header(&backup, |_, _| {});
    let open = |identity, header: &[u8]| {
        let machine = Machine::with_identity(identity);
        machine.init();
        machine.set_header(machine.create(), header)
    };
    let both = || Identity::new(host_key("host_key"), Some(host_key("second_host_key")));
    open(both(), &with).ok();
    let refused = open(both(), &without).refused(0x108, 5);
    assert!(refused.text.contains("which the image does not allow"), "{}", refused.text);
    open(Identity::new(host_key("host_key"), None), &with).refused(0x108, 0x34);
}

#[test]
fn unencrypted_components_are_unpacked_as_they_are() {
    let (machine, guest) = Machine::created();
    let image = Image::golden();
    let all = vectors();
    let header = make_header(&host_key("host_key"), |header, _| {
        header.pcf.0 |= Pcf::NO_COMPONENT_ENCRYPTION.0;
        header.pld = bytes(&all["digests_unencrypted"]["pld_hex"]).try_into().unwrap();
    });
    for ((address, _), plain) in image.pages.iter().zip(&image.plain) {
        *machine.storage.page(address / 4096).raw = **plain;
    }
    machine.set_header(guest, &header).ok();
    machine.unpack_all(guest, &image.block);
    machine.named(UvCommand::VERIFY, guest).ok();
    assert!(machine.storage.page(0x15).plain == image.plain[0]);
}

#[test]
fn verify_names_the_digest_that_differs() {
    let golden = Image::golden;
    let run = |change: &dyn Fn(&mut Image)| {
        let (machine, guest) = Machine::created();
        let mut image = golden();
        machine.set_header(guest, &image.header).ok();
        change(&mut image);
        machine.load(&image);
        machine.unpack_all(guest, &image.block);
        machine.named(UvCommand::VERIFY, guest)
    };
    run(&|_| {}).ok();
    let text = run(&|image| image.pages[3].1[77] ^= 4).refused(0x102, 0x1b).text;
    assert!(text.contains("Page digest list (PLD) mismatch"), "{text}");
    run(&|image| {
        image.block.components[3].addr = 0x1b000;
        image.pages[4].0 = 0x1b000;
    })
    .refused(0x102, 0x1a);
    run(&|image| image.block.components[1].tweak_pref.0 ^= 1).refused(0x102, 0x1c);
    run(&|image| {
        image.block.components.pop();
    })
    .refused(0x102, 0x1d);
    run(&|image| image.block.components.swap(1, 2)).refused(0x102, 0x1a);
}

#[test]
fn unpack_is_refused_out_of_range_and_twice() {
    let (machine, guest) = Machine::created();
    machine.set_header(guest, &Image::golden().header).ok();
    machine.unpack(guest, PAGES as u64 * 4096, [0, 0]).refused(0x10a, 0);
    machine.unpack(guest, 8, [0, 0]).refused(0x10a, 0);
    machine.unpack(guest, !0xfff, [0, 0]).refused(0x10a, 0);
    machine.unpack(guest, 0, [0, 0]).ok();
    machine.unpack(guest, 0, [0, 0]).refused(3, 0);
}

/// Every bit of the header is covered: there is no byte that can be changed unnoticed.
#[test]
fn every_flipped_header_bit_is_refused() {
    let (machine, guest) = Machine::created();
    let all = vectors();
    let mut codes = BTreeMap::<(u16, u16), usize>::new();
    for name in ["se_header", "se_header_two_slots"] {
        let header = bytes(&all[name]["header_hex"]);
        for bit in 0..header.len() * 8 {
            let mut flipped = header.clone();
            flipped[bit / 8] ^= 0x80 >> (bit % 8);
            let answer = machine.set_header(guest, &flipped);
            assert_eq!(answer.cc, Cc::Refused, "{name}: byte {:#x} is not covered", bit / 8);
            *codes.entry((answer.rc.0, answer.rrc.0)).or_default() += 1;
        }
    }
    let expected = [
        (0x104, 0x01),
        (0x106, 0x30),
        (0x108, 0x05),
        (0x108, 0x0b),
        (0x10a, 0x31),
        (0x10b, 0x01),
        (0x10b, 0x02),
    ];
    let mut others: BTreeSet<_> = codes.keys().copied().collect();
    expected.iter().for_each(|code| assert!(others.remove(code), "{code:x?} never seen"));
    assert!(others.is_subset(&[(0x108, 0x34), (0x10a, 0x39), (0x10a, 0x40)].into()), "{codes:x?}");
}

/// Flips bits all over the components; the stride keeps the test short, and the offset inside a byte moves.
#[test]
fn flipped_component_bits_are_refused() {
    let image = Image::golden();
    let machine = Machine::new();
    machine.init();
    for position in (0..image.pages.len() * 4096).step_by(53) {
        let guest = machine.create();
        machine.set_header(guest, &image.header).ok();
        machine.load(&image);
        let address = image.pages[position / 4096].0;
        machine.storage.page(address / 4096).raw[position % 4096] ^= 1 << (position % 8);
        machine.unpack_all(guest, &image.block);
        machine.named(UvCommand::VERIFY, guest).refused(0x102, 0x1b);
        machine.named(UvCommand::DESTROY_SEC_CONF, guest).ok();
    }
}

/// The IPL parameter block is not authenticated itself. A flip in it is refused, or changes nothing that
/// runs: the same pages, the same PSW. This names the bytes of the second kind.
#[test]
fn flipped_ipl_block_bits_never_change_what_runs() {
    let image = Image::golden();
    let machine = Machine::new();
    machine.init();
    let mut without_effect = BTreeSet::new();
    for bit in 0..image.ipib.len() * 8 {
        let mut ipib = image.ipib.clone();
        ipib[bit / 8] ^= 0x80 >> (bit % 8);
        ipib.resize(4096, 0);
        let Ok(IplBlock { kind: IplKind::Pv(block), .. }) = IplBlock::parse(&ipib) else { continue };
        let header_at = |address: u64| (address == 0x14000).then(|| image.header.clone());
        let mut header = header_at(block.header_addr).unwrap_or_default();
        header.resize(block.header_size as usize, 0);
        let guest = machine.create();
        machine.load(&image);
        if machine.set_header(guest, &header).cc == Cc::Done {
            for component in &block.components {
                // Every component lies in storage and ends there: a monitor rounds its size up to a page.
                for offset in (0..component.size.div_ceil(4096).min(64)).map(|page| page * 4096) {
                    machine.unpack(guest, component.addr + offset, [component.tweak_pref.0, offset]);
                }
            }
            if machine.named(UvCommand::VERIFY, guest).cc == Cc::Done {
                without_effect.insert(bit / 8);
                for ((address, _), plain) in image.pages.iter().zip(&image.plain) {
                    assert!(machine.storage.page(address / 4096).plain == *plain, "bit {bit}");
                }
            }
        }
        machine.named(UvCommand::DESTROY_SEC_CONF, guest).ok();
    }
    println!("without effect: {without_effect:x?}");
    let sizes = (0..4).flat_map(|n| 0x88 + 24 * n + 22..0x88 + 24 * n + 24);
    let expected: BTreeSet<usize> = (0..4) // total length: longer is allowed
        .chain([4, 5, 6]) // header flags and reserved bytes
        .chain(8..12) // length of block 0: shorter is not looked at
        .chain(0x0d..0x6f) // flags, load parameter, reserved
        .chain(0x70..0x74) // reserved
        .chain(sizes) // sizes that round to the same number of pages
        .collect();
    assert!(without_effect.is_subset(&expected), "{:x?}", without_effect.difference(&expected));
}

#[test]
fn digests_are_sha_512_over_pages_addresses_and_tweaks() {
    let image = Image::golden();
    let header = SeHeader::parse(&image.header).unwrap();
    let pages: Vec<u8> = image.pages.iter().flat_map(|(_, page)| page.iter().copied()).collect();
    let addresses: Vec<u8> = image.pages.iter().flat_map(|(address, _)| address.to_be_bytes()).collect();
    assert_eq!(sha512(&pages), header.pld);
    assert_eq!(sha512(&addresses), header.ald);
}
