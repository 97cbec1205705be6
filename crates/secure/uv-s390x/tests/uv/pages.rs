//! Pages under a hostile host: export, import, sharing, pins, destruction.

use crate::common::*;
use cloister_arch::pages::Conversions;
use cloister_crypto::SeededEntropy;
use cloister_formats::s390x::uvcb::*;
use cloister_memory::{NoShootdown, Storage};
use cloister_uv_s390x::*;

#[test]
fn untouched_page_is_imported_cleared() {
    let (machine, guest, _) = Machine::running();
    machine.storage.page(2).raw.fill(0x66);
    assert_eq!(machine.resolve(guest, 2), Resolved::NeedsImport);
    machine.import(guest, 2).ok();
    assert_eq!(machine.resolve(guest, 2), Resolved::Private);
    assert!(machine.storage.page(2).plain.iter().all(|&byte| byte == 0), "the host's bytes do not get in");
    machine.import(guest, 2).ok();
}

#[test]
fn export_gives_noise_and_import_gives_the_page_back() {
    let (machine, guest, _) = Machine::running();
    machine.import(guest, 2).ok();
    assert!(machine.guest_write(guest, 2, 0x5a));
    machine.export(2).ok();
    assert_eq!(machine.resolve(guest, 2), Resolved::NeedsImport);
    let noise = machine.storage.page(2).raw.clone();
    let most = (0..=255u8).map(|value| noise.iter().filter(|&&byte| byte == value).count()).max().unwrap();
    assert!(most < 64, "no byte value stands out");
    machine.export(2).ok();
    assert!(machine.storage.page(2).raw == noise, "exporting again changes nothing");
    machine.import(guest, 2).ok();
    assert!(machine.storage.page(2).plain.iter().all(|&byte| byte == 0x5a));
    machine.export(2).ok();
    assert!(machine.storage.page(2).raw != noise, "each export looks different");
}

#[test]
fn altered_export_is_fatal_and_never_reaches_the_guest() {
    for bit in (0..4096 * 8).step_by(4093) {
        let (machine, guest, _) = Machine::running();
        machine.import(guest, 2).ok();
        machine.export(2).ok();
        machine.storage.page(2).raw[bit / 8] ^= 1 << (bit % 8);
        machine.import(guest, 2).refused(0x104, 0);
        assert_eq!(machine.resolve(guest, 2), Resolved::Fatal);
        machine.storage.page(2).raw[bit / 8] ^= 1 << (bit % 8);
        machine.import(guest, 2).refused(0x104, 0);
        assert!(!machine.guest_write(guest, 2, 1));
    }
}

#[test]
fn replayed_export_is_fatal() {
    let (machine, guest, _) = Machine::running();
    machine.import(guest, 2).ok();
    machine.guest_write(guest, 2, 1);
    machine.export(2).ok();
    let old = machine.storage.page(2).raw.clone();
    machine.import(guest, 2).ok();
    machine.guest_write(guest, 2, 2);
    machine.export(2).ok();
    machine.storage.page(2).raw = old;
    let text = machine.import(guest, 2).refused(0x104, 0).text;
    assert!(text.contains("replayed"), "{text}");
    assert_eq!(machine.resolve(guest, 2), Resolved::Fatal);
}

#[test]
fn swapped_exports_are_fatal() {
    let (machine, guest, _) = Machine::running();
    for page in [2, 3] {
        machine.import(guest, page).ok();
        machine.export(page).ok();
    }
    std::mem::swap(&mut machine.storage.page(2).raw, &mut machine.storage.page(3).raw);
    machine.import(guest, 2).refused(0x104, 0);
    machine.import(guest, 3).refused(0x104, 0);
}

#[test]
fn export_of_another_configuration_is_fatal() {
    let (one, guest, _) = Machine::running();
    let (other, other_guest, _) = Machine::running();
    for (machine, guest) in [(&one, guest), (&other, other_guest)] {
        machine.import(guest, 2).ok();
        machine.import(guest, 3).ok();
        machine.export(2).ok();
    }
    // Same seed, so the same key: only the order of exports differs.
    one.export(3).ok();
    one.storage.page(2).raw = one.storage.page(3).raw.clone();
    one.import(guest, 2).refused(0x104, 0);
}

#[test]
fn exported_code_of_the_image_comes_back_before_the_guest_starts() {
    let (machine, guest) = Machine::created();
    let image = Image::golden();
    machine.load(&image);
    machine.set_header(guest, &image.header).ok();
    machine.unpack_all(guest, &image.block);
    machine.export(0x19).ok();
    machine.named(UvCommand::VERIFY, guest).ok();
    machine.storage.page(0x19).raw[0] ^= 1;
    machine.import(guest, 0x19).refused(0x104, 0);
}

#[test]
fn destroyed_page_is_cleared_and_lost_to_the_guest() {
    let (machine, guest, _) = Machine::running();
    machine.destroy_page(0x15).ok();
    assert!(machine.storage.page(0x15).raw.iter().all(|&byte| byte == 0));
    assert_eq!(machine.resolve(guest, 0x15), Resolved::Fatal);
    machine.import(guest, 0x15).refused(0x104, 0);
    machine.destroy_page(2).ok();
    assert_eq!(machine.kind(guest, 2), PageKind::NonSecure, "the guest had nothing there");
}

#[test]
fn sharing_shows_the_page_and_unsharing_hides_it() {
    let (machine, guest, cpu) = Machine::running();
    machine.import(guest, 2).ok();
    machine.guest_write(guest, 2, 0x11);
    let (outcome, rc) = machine.share(cpu, 2);
    assert_eq!((outcome.cc, outcome.effect, rc.0), (Cc::Done, GuestEffect::Shared(0x2000), 1));
    assert_eq!(machine.resolve(guest, 2), Resolved::Shared);
    assert!(machine.storage.page(2).raw.iter().all(|&byte| byte == 0x11));
    assert_eq!(machine.share(cpu, 2).0.cc, Cc::Done);
    machine.export(2).ok();
    assert_eq!(machine.resolve(guest, 2), Resolved::Shared, "a shared page is not exported");
    let (outcome, rc) = machine.unshare(cpu, 2);
    assert_eq!((outcome.cc, outcome.effect, rc.0), (Cc::Done, GuestEffect::Unshared(0x2000), 1));
    assert_eq!(machine.resolve(guest, 2), Resolved::Private);
    let page = machine.storage.page(2);
    assert!(page.plain.iter().all(|&byte| byte == 0x11), "content is kept");
    assert!(page.raw.iter().all(|&byte| byte == 0), "the host copy is scrubbed");
}

#[test]
fn sharing_an_untouched_page_shares_zeros() {
    let (machine, guest, cpu) = Machine::running();
    machine.storage.page(2).raw.fill(9);
    assert_eq!(machine.share(cpu, 2).0.cc, Cc::Done);
    assert_eq!(machine.kind(guest, 2), PageKind::Shared);
    assert!(machine.storage.page(2).raw.iter().all(|&byte| byte == 0));
}

#[test]
fn sharing_an_exported_page_brings_its_content_back_first() {
    let (machine, guest, cpu) = Machine::running();
    for page in [2, 3] {
        machine.import(guest, page).ok();
        machine.guest_write(guest, page, 7);
        machine.export(page).ok();
    }
    assert_eq!(machine.share(cpu, 2).0.cc, Cc::Done);
    assert!(machine.storage.page(2).raw.iter().all(|&byte| byte == 7));
    machine.storage.page(3).raw[0] ^= 1;
    let (outcome, rc) = machine.share(cpu, 3);
    assert_eq!((outcome.cc, outcome.effect, rc.0), (Cc::Refused, GuestEffect::Fatal, 0x104));
}

#[test]
fn pinned_page_is_unshared_only_after_the_host_let_go() {
    let (machine, guest, cpu) = Machine::running();
    machine.pin(2).refused(0x107, 0);
    machine.share(cpu, 2);
    machine.pin(2).ok();
    machine.pin(2).ok();
    assert_eq!(machine.kind(guest, 2), PageKind::PinnedShared);
    assert_eq!(machine.resolve(guest, 2), Resolved::Shared);
    let (outcome, _) = machine.unshare(cpu, 2);
    assert_eq!((outcome.cc, outcome.effect), (Cc::Busy, GuestEffect::Notify(0x2000)));
    machine.unpin(guest, 2).ok();
    let (outcome, _) = machine.unshare(cpu, 2);
    assert_eq!(outcome.effect, GuestEffect::Unshared(0x2000));
    machine.unpin(guest, 2).ok();
}

#[test]
fn guest_calls_of_2_4_have_their_codes() {
    let (machine, _, cpu) = Machine::running();
    let mut block = SetSharedAccess { paddr: 0x2000 }.encode();
    block[1] = 0x28;
    assert_eq!(machine.guest(cpu, block).1.0, 5);
    assert_eq!(machine.share(cpu, PAGES as u64).1.0, 0x101);
    assert_eq!(machine.unshare(cpu, u64::MAX / 4096).1.0, 0x101);
    for command in UvCommand::ALL {
        let is_guests = command.0 & 0xf000 == 0x1000 || command.0 < 3;
        if !is_guests {
            let mut block = vec![0; 0x200];
            let len = command.block_len().unwrap();
            let header = UvHeader { len, command: *command, rc: Default::default(), rrc: Default::default() };
            header.store(&mut block);
            assert_eq!(machine.guest(cpu, block).1.0, 2, "{command:?}");
        }
    }
}

#[test]
fn query_answers_guest_and_host() {
    let (machine, _, cpu) = Machine::running();
    let full = Qui::default().encode();
    let (outcome, rc, block) = machine.guest(cpu, full.clone());
    assert_eq!((outcome.cc, rc.0), (Cc::Done, 1));
    let answer = Qui::parse(&block).unwrap();
    // Bits 0, 8, 9, 28 to 31, 33 and 34.
    assert_eq!(answer.installed_calls, [0x80c0_000f_6000_0000, 0, 0, 0]);
    assert_eq!((answer.supp_att_req_hdr_ver, answer.supp_att_pflags), (1 << 63, 0x7c00_0000_0000_0000));
    assert_eq!((answer.supp_add_secret_req_ver, answer.supp_add_secret_pcf), (1 << 63, 1 << 63));
    assert_eq!(answer.supp_secret_types, 0x7fe0_7e00_0000_0000);
    assert_eq!((answer.max_assoc_secrets, answer.max_retr_secrets), (24, 96));
    assert_eq!(answer.max_guest_cpu_id, 256);
    let host = Qui::parse(&machine.host(full.clone()).ok().block).unwrap();
    assert_eq!(host.installed_calls, [0xff1f_fff0_2000_0000, 0, 0, 0]);
    let mut short = full[..0xa8].to_vec();
    short[1] = 0xa8;
    short[0] = 0;
    let (outcome, rc, _) = machine.guest(cpu, short.clone());
    assert_eq!((outcome.cc, rc.0), (Cc::Refused, 0x100));
    short[1] = 0xa0;
    assert_eq!(machine.guest(cpu, short).1.0, 5);
    let fresh = Machine::new();
    fresh.host(full).ok();
    let keys = machine.host(QueryKeys::default().encode()).ok().block;
    assert_eq!(QueryKeys::parse(&keys).unwrap().key_hash[0], machine.uv.identity().host_key_hash().0);
    let (outcome, _, of_guest) = machine.guest(cpu, QueryKeys::default().encode());
    assert_eq!((outcome.cc, of_guest), (Cc::Done, keys));
}

#[test]
fn destroying_a_configuration_leaves_no_plaintext() {
    let (machine, guest, cpu) = Machine::running();
    machine.import(guest, 2).ok();
    machine.guest_write(guest, 2, 0x5a);
    machine.import(guest, 3).ok();
    machine.guest_write(guest, 3, 0x5a);
    machine.export(3).ok();
    machine.share(cpu, 4);
    machine.pin(4).ok();
    machine.set_state(cpu, 2).ok();
    machine.named(UvCommand::DESTROY_SEC_CONF, guest).refused(3, 0);
    machine.named(UvCommand::DESTROY_SEC_CPU, cpu).ok();
    machine.named(UvCommand::DESTROY_SEC_CONF_FAST, guest).ok();
    for number in 0..machine.storage.count() {
        let page = machine.storage.page(number);
        assert!(!page.private && page.pins == 0, "page {number:#x}");
        assert!(page.plain.iter().all(|&byte| byte == 0));
        assert!(page.raw.windows(16).all(|part| part != [0x5a; 16]));
    }
    machine.named(UvCommand::VERIFY, guest).refused(0x20, 0);
    machine.set_state(cpu, 1).refused(0x21, 0);
    let again = machine.create();
    assert_ne!(again, guest);
}

struct Fixed<'a>(StorageAccess<'a>);

impl StorageResolver for Fixed<'_> {
    fn storage(&self, token: u64) -> Option<&dyn SecureStorage> {
        (token == TOKEN).then_some(&self.0)
    }
}

/// The Ultravisor over real storage with a guest that runs.
struct RealMachine {
    uv: Ultravisor,
    storage: Storage,
    guest: u64,
    cpu: u64,
}

impl RealMachine {
    fn access(&self) -> Fixed<'_> {
        Fixed(StorageAccess { storage: &self.storage, shootdown: &NoShootdown })
    }

    fn try_call(&self, mut block: Vec<u8>, data: &[u8]) -> (Cc, Vec<u8>) {
        (self.uv.host_call(&mut block, data, &self.access()).cc, block)
    }

    fn call(&self, block: Vec<u8>, data: &[u8]) -> Vec<u8> {
        let (cc, block) = self.try_call(block, data);
        assert_eq!(cc, Cc::Done, "{:?}", UvHeader::parse(&block));
        block
    }

    fn guest_call(&self, mut block: Vec<u8>) -> GuestCallOutcome {
        self.uv.guest_call(self.cpu, &mut block, &self.access(), &mut NoCallerStorage)
    }

    fn running(pages: u64) -> Self {
        let identity = Identity::new(host_key("host_key"), None);
        let entropy = Box::new(SeededEntropy::new(b"real"));
        let uv = Ultravisor::new(identity, entropy, UvConfig::default());
        let storage = Storage::new(pages * 4096).unwrap();
        let mut machine = Self { uv, storage, guest: 0, cpu: 0 };
        machine.call(Init { stor_origin: 2 << 30, stor_len: 1 << 20 }.encode(), &[]);
        let create = CreateSecConf {
            base_origin: 0x10000,
            mso: ORIGIN,
            guest_len: pages * 4096,
            sca: 0x30000,
            asce: TOKEN,
            ..Default::default()
        };
        machine.guest = CreateSecConf::parse(&machine.call(create.encode(), &[])).unwrap().guest_handle;
        let guest_handle = machine.guest;
        let cpu =
            CreateSecCpu { guest_handle, stor_origin: 0x40000, state_origin: 0x50000, ..Default::default() };
        machine.cpu = CreateSecCpu::parse(&machine.call(cpu.encode(), &[])).unwrap().cpu_handle;
        let image = Image::golden();
        for (address, page) in &image.pages {
            machine.storage.ram().copy_in(machine.storage.host_offset(address / 4096).unwrap(), &page[..]);
        }
        let hdr_len = image.header.len() as u32;
        machine.call(SetSecConfParams { guest_handle, hdr_origin: 0, hdr_len }.encode(), &image.header);
        for component in &image.block.components {
            for offset in (0..component.size).step_by(4096) {
                let tweak = [component.tweak_pref.0, offset];
                machine.call(Unpack { guest_handle, gaddr: component.addr + offset, tweak }.encode(), &[]);
            }
        }
        machine.call(Handle { handle: guest_handle }.encode(UvCommand::VERIFY).unwrap(), &[]);
        machine.call(CpuSetState { cpu_handle: machine.cpu, state: 5 }.encode(), &[]);
        machine
    }
}

/// The whole of a boot's conversions over real storage: 16 400 pages shared, and withdrawn by 2 threads.
#[test]
fn real_storage_shares_and_unshares_a_bounce_buffer() {
    const COUNT: u64 = 16_400;
    let machine = RealMachine::running(COUNT + 32);
    for page in 32..32 + COUNT {
        machine.call(ConvToSec { guest_handle: machine.guest, gaddr: page * 4096 }.encode(), &[]);
    }
    let time = std::time::Instant::now();
    for page in 32..32 + COUNT {
        assert_eq!(machine.guest_call(SetSharedAccess { paddr: page * 4096 }.encode()).cc, Cc::Done);
    }
    let each = time.elapsed() / COUNT as u32;
    println!("one share: {each:?}");
    let counts = || machine.uv.guest_pages(machine.guest).unwrap().counts();
    assert_eq!(counts().shared, COUNT);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for page in 32..32 + COUNT {
                    let outcome = machine.guest_call(RemoveSharedAccess { paddr: page * 4096 }.encode());
                    assert_eq!(outcome.cc, Cc::Done);
                }
            });
        }
    });
    assert_eq!((counts().shared, counts().secure), (0, COUNT + 5));
    assert!(each.as_millis() < 1, "a share must not cost a millisecond: {each:?}");
}

/// A guest shares and withdraws pages while the host exports, imports, pins and unpins the same ones: no
/// deadlock, no lost content, and storage and table agree at the end.
#[test]
fn guest_and_host_race_for_the_same_pages() {
    use std::sync::atomic::{AtomicBool, Ordering};
    const FIRST: u64 = 32;
    const COUNT: u64 = 4;
    let machine = RealMachine::running(FIRST + COUNT);
    let (guest_handle, secure_half) = (machine.guest, machine.storage.size() as usize);
    let ram = machine.storage.ram();
    for page in FIRST..FIRST + COUNT {
        machine.call(ConvToSec { guest_handle, gaddr: page * 4096 }.encode(), &[]);
        ram.fill(secure_half + page as usize * 4096, page as u8, 4096);
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..3000 {
                let page = FIRST + round % COUNT;
                assert_eq!(machine.guest_call(SetSharedAccess { paddr: page * 4096 }.encode()).cc, Cc::Done);
                loop {
                    let outcome = machine.guest_call(RemoveSharedAccess { paddr: page * 4096 }.encode());
                    match (outcome.cc, outcome.effect) {
                        (Cc::Done, _) => break,
                        (Cc::Busy, GuestEffect::Notify(address)) => {
                            assert_eq!(address, page * 4096);
                            machine.try_call(UnpinPageShared { guest_handle, gaddr: address }.encode(), &[]);
                        }
                        _ => panic!("{outcome:?}"),
                    }
                }
            }
            stop.store(true, Ordering::SeqCst);
        });
        for offset in 0..2u64 {
            let (machine, stop) = (&machine, &stop);
            scope.spawn(move || {
                let mut round = offset;
                while !stop.load(Ordering::SeqCst) {
                    let page = FIRST + round % COUNT;
                    let paddr = ORIGIN + page * 4096;
                    machine.try_call(PinPageShared { paddr }.encode(), &[]);
                    machine.call(ConvFromSec { paddr }.encode(), &[]);
                    machine.call(ConvToSec { guest_handle, gaddr: page * 4096 }.encode(), &[]);
                    round += 1;
                }
            });
        }
    });
    for page in FIRST..FIRST + COUNT {
        machine.call(UnpinPageShared { guest_handle, gaddr: page * 4096 }.encode(), &[]);
        machine.call(ConvToSec { guest_handle, gaddr: page * 4096 }.encode(), &[]);
        let is_private =
            machine.uv.guest_pages(machine.guest).unwrap().resolve(page, false) == Resolved::Private;
        assert!(is_private, "page {page:#x}");
        let mut bytes = [0; 4096];
        ram.copy_out(secure_half + page as usize * 4096, &mut bytes);
        assert!(bytes == [page as u8; 4096], "the content of page {page:#x} survived");
        ram.copy_out(page as usize * 4096, &mut bytes);
        assert!(bytes == [0; 4096], "the host copy of page {page:#x} is scrubbed");
    }
}

#[test]
fn conversions_are_counted_once_each_and_refusals_not_at_all() {
    let (machine, guest, cpu) = Machine::running();
    let before = machine.uv.conversions();
    assert!(before.unpacked > 0 && (before.cleared, before.exported, before.imported) == (0, 0, 0));
    machine.import(guest, 2).ok();
    machine.import(guest, 2).ok();
    machine.export(2).ok();
    machine.export(2).ok();
    machine.import(guest, 2).ok();
    machine.share(cpu, 2);
    machine.share(cpu, 2);
    machine.pin(2).ok();
    // Pinned: the host is asked first.
    machine.unshare(cpu, 2);
    machine.unpin(guest, 2).ok();
    machine.unshare(cpu, 2);
    machine.destroy_page(2).ok();
    machine.import(guest, 2).refused(0x104, 0);
    let expected = Conversions {
        cleared: 1,
        exported: 1,
        imported: 1,
        shared: 1,
        unshared: 1,
        destroyed: before.destroyed + 1,
        ..before
    };
    assert_eq!(machine.uv.conversions(), expected);
}
