//! Dumps: who may be dumped and when, and what the owner alone can read of it.

use crate::common::*;
use cloister_crypto::{Aes256Gcm, Aes256Xts, Secret, hkdf_sha512, sha256, sha512};
use cloister_formats::s390x::dump::*;
use cloister_formats::s390x::se_header::{Pcf, SeHeader};
use cloister_formats::s390x::uvcb::*;
use cloister_uv_s390x::*;
use proptest::prelude::*;

fn cpu(machine: &Machine, cpu_handle: u64) -> Answer {
    machine.host(DumpCpu { cpu_handle, dump_area: 0x9000 }.encode())
}

fn storage(machine: &Machine, guest_handle: u64, gaddr: u64) -> Answer {
    machine.host(DumpConfStorState { guest_handle, dump_area: 0x9000, gaddr }.encode())
}

fn complete(machine: &Machine, guest_handle: u64) -> Answer {
    machine.host(DumpComplete { guest_handle, dump_area: 0x9000 }.encode())
}

fn cck() -> Vec<u8> {
    bytes(&vectors()["se_header"]["cck_hex"])
}

/// What an owner makes of the end of a dump.
pub(crate) fn open(cck: &[u8], data: &[u8]) -> Option<(Secret<32>, CompletionArea)> {
    let end = Completion::parse(data).unwrap();
    let key = hkdf_sha512(cck, &end.seed, KEY_INFO);
    let mut area = end.area;
    Aes256Gcm::new(&key).open(&end.iv, &data[..Completion::AAD_SIZE], &mut area, &end.tag).ok()?;
    Some((key, CompletionArea::parse(&area)))
}

fn open_cpu(key: &Secret<32>, data: &[u8]) -> Option<CpuArea> {
    let cpu = CpuDump::parse(data).unwrap();
    let mut area = cpu.area;
    Aes256Gcm::new(key).open(&cpu.iv, &data[..CpuDump::AAD_SIZE], &mut area, &cpu.tag).ok()?;
    Some(CpuArea::parse(&area))
}

fn components(data: &[u8]) -> Vec<Component> {
    data.chunks_exact(COMPONENT_SIZE).map(|bytes| Component::parse(bytes.try_into().unwrap())).collect()
}

/// A guest whose pages are of every kind but lost: 4 untouched, 5 private, 6 shared, 7 exported and given back.
fn guest() -> (Machine, u64, u64) {
    let (machine, guest, cpu) = Machine::running();
    for page in [5, 6, 7] {
        machine.import(guest, page).ok();
        assert!(machine.guest_write(guest, page, page as u8));
    }
    machine.share(cpu, 6);
    machine.export(7).ok();
    machine.import(guest, 7).ok();
    (machine, guest, cpu)
}

#[test]
fn the_owner_reads_cpus_and_pages_and_the_guest_goes_on() {
    let (machine, guest, first) = guest();
    let second = machine.cpu(guest, 3);
    machine.named(UvCommand::DUMP_INIT, guest).ok();
    let cpus = [cpu(&machine, first).ok().data, cpu(&machine, second).ok().data];
    for page in 0..PAGES as u64 {
        machine.export(page).ok();
    }
    let state = components(&storage(&machine, guest, 0).ok().data);
    let raw: Vec<PageBytes> = (0..PAGES as u64).map(|page| *machine.storage.page(page).raw).collect();
    let end = complete(&machine, guest).ok().data;
    assert_eq!((cpus[0].len(), state.len(), end.len()), (4096, 256, 4096));

    let (key, area) = open(&cck(), &end).unwrap();
    assert_eq!(open_cpu(&key, &cpus[0]), Some(registers(0)));
    assert_eq!(open_cpu(&key, &cpus[1]), Some(registers(3)));
    let xts = Aes256Xts::new(&Secret::from_slice(&[area.key1, area.key2].concat()).unwrap());
    let mut digest = Vec::new();
    for (page, component) in state.iter().enumerate().take(PAGES) {
        digest.extend(component.encode());
        let kind = match component {
            Component::Tweak(tweak) => {
                digest.extend(sha256(&[&tweak[..], &(page as u64).to_be_bytes(), &raw[page]].concat()));
                let mut plain = raw[page];
                xts.decrypt_page(&Component::tweak(tweak, &area.nonce), &mut plain);
                if matches!(page, 5 | 7) {
                    assert_eq!(plain, [page as u8; 4096]);
                }
                assert!(!raw[page].windows(16).any(|part| part == [page as u8; 16]));
                PageKind::Exported
            }
            Component::Special { flags: Component::ZERO, .. } => PageKind::NonSecure,
            Component::Special { flags: 6, .. } => {
                assert_eq!(raw[page], [page as u8; 4096]);
                PageKind::Shared
            }
            Component::Special { flags, .. } => panic!("page {page}: {flags:#x}"),
        };
        assert_eq!(machine.kind(guest, page as u64), kind);
    }
    assert!(state[PAGES..].iter().all(|beyond| *beyond == Component::special(0)));
    assert_eq!(area.digest(), Some(sha512(&digest)));

    // Pages come back as after any export, and a second dump has a key of its own.
    machine.import(guest, 5).ok();
    assert_eq!(*machine.storage.page(5).plain, [5; 4096]);
    assert_eq!(machine.uv.configuration_state(guest), Some(ConfigurationState::Running));
    machine.named(UvCommand::DUMP_INIT, guest).ok();
    let again = complete(&machine, guest).ok().data;
    assert_ne!(open(&cck(), &again).unwrap().0.expose(), key.expose());
}

#[test]
fn pcf_bit_34_decides_and_so_does_the_owner() {
    let (machine, guest) = Machine::created();
    let cpu_handle = machine.cpu(guest, 0);
    machine.named(UvCommand::DUMP_INIT, guest).refused(3, 0);
    let image = Image::golden();
    assert!(SeHeader::parse(&image.header).unwrap().pcf.has(Pcf::ALLOW_DUMP));
    machine.load(&image);
    machine.set_header(guest, &image.header).ok();
    machine.named(UvCommand::DUMP_INIT, guest).refused(3, 0);
    machine.unpack_all(guest, &image.block);
    machine.named(UvCommand::VERIFY, guest).ok();
    cpu(&machine, cpu_handle).refused(3, 0);
    storage(&machine, guest, 0).refused(3, 0);
    complete(&machine, guest).refused(3, 0);
    machine.named(UvCommand::DUMP_INIT, guest + 99).refused(0x20, 0);
    machine.named(UvCommand::DUMP_INIT, guest).ok();
    machine.named(UvCommand::DUMP_INIT, guest).refused(3, 0);
    cpu(&machine, cpu_handle + 99).refused(0x21, 0);
    storage(&machine, guest, 4096).refused(0x10a, 0);
    storage(&machine, guest, 1 << 40).refused(0x10a, 0);
    // No CPU starts meanwhile.
    machine.set_state(cpu_handle, 5).refused(3, 0);
    complete(&machine, guest).ok();
    assert_eq!(machine.uv.configuration_state(guest), Some(ConfigurationState::Verified));
    machine.set_state(cpu_handle, 5).ok();
    // The fake has no registers for this one: it is as if it were executing.
    let busy = machine.cpu(guest, 9);
    machine.named(UvCommand::DUMP_INIT, guest).ok();
    cpu(&machine, busy).refused(0x102, 0);
}

#[test]
fn an_altered_page_of_a_dump_does_not_come_back() {
    let (machine, guest, _) = guest();
    machine.named(UvCommand::DUMP_INIT, guest).ok();
    machine.export(5).ok();
    let old = *machine.storage.page(5).raw;
    machine.import(guest, 5).ok();
    machine.export(5).ok();
    let new = *machine.storage.page(5).raw;
    assert_ne!(old, new, "each export has a tweak of its own");
    complete(&machine, guest).ok();
    *machine.storage.page(5).raw = old;
    machine.import(guest, 5).refused(0x104, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_changed_byte_of_an_encrypted_structure_is_refused(at in 0..Completion::SIZE, in_cpu in 0..CpuDump::SIZE, bit in 0u8..8) {
        let (machine, guest, first) = guest();
        machine.named(UvCommand::DUMP_INIT, guest).ok();
        let mut data = cpu(&machine, first).ok().data;
        let mut end = complete(&machine, guest).ok().data;
        let (key, _) = open(&cck(), &end).unwrap();
        prop_assert!(open_cpu(&key, &data).is_some());
        data[in_cpu] ^= 1u8 << bit;
        end[at] ^= 1u8 << bit;
        prop_assert!(open_cpu(&key, &data).is_none());
        prop_assert!(open(&cck(), &end).is_none());
        let mut other = cck();
        other[at % 32] ^= 1u8 << bit;
        end[at] ^= 1u8 << bit;
        prop_assert!(open(&other, &end).is_none());
    }
}
