//! Dumps, decrypted: what the owner gets, and that nothing altered gets through.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use cloister_crypto::{Aes256Gcm, Aes256Xts, Secret, hkdf_sha512, sha256, sha512};
use cloister_elf_core::{Core, CoreWriter, CpuNotes, Layout};
use cloister_formats::s390x::dump::*;
use cloister_owner::dump::{DumpError, Options, Report, decrypt};
use cloister_owner::{ImageError, OwnerError};
use proptest::prelude::*;
use std::path::Path;
use tempfile::TempDir;

const CCK: [u8; 32] = [0x5c; 32];
const PAGE: usize = 4096;
const PAGES: usize = 256;

/// What an Ultravisor and a host make of a guest of 1 MiB: page 1 is private, 2 shared, 3 not there, others zero.
struct Maker {
    digest: bool,
    loads: Vec<(u64, u64)>,
}

impl Maker {
    fn whole() -> Self {
        Self { digest: true, loads: vec![(0, (PAGES * PAGE) as u64)] }
    }

    fn make(&self) -> Vec<u8> {
        let mut memory = vec![0; PAGES * PAGE];
        let mut area = CompletionArea { nonce: [0xa0; 16], key1: [1; 32], key2: [2; 32], reserved: [0; 96] };
        let xts = Aes256Xts::new(&Secret::from_slice(&[area.key1, area.key2].concat()).unwrap());
        let mut components = vec![Component::special(Component::ZERO); PAGES];
        let tweak = [7; 16];
        components[1] = Component::Tweak(tweak);
        components[2] = Component::special(Component::SHARED);
        components[3] = Component::special(Component::MAPPED);
        for (page, bytes) in memory.as_chunks_mut::<PAGE>().0.iter_mut().enumerate() {
            // What the host put into pages that the guest never had must not show.
            bytes.fill(0x40 + page as u8 % 16);
            if page == 1 {
                xts.encrypt_page(&Component::tweak(&tweak, &area.nonce), bytes);
            }
        }
        let states: Vec<u8> = components.iter().flat_map(Component::encode).collect();
        if self.digest {
            let mut hashed = Vec::new();
            for (page, component) in components.iter().enumerate() {
                hashed.extend(component.encode());
                if let Component::Tweak(tweak) = component {
                    let page_bytes = &memory[page * PAGE..][..PAGE];
                    hashed.extend(sha256(&[&tweak[..], &(page as u64).to_be_bytes(), page_bytes].concat()));
                }
            }
            area.set_digest(&sha512(&hashed));
        }
        let seed = [9; 64];
        let key = hkdf_sha512(&CCK, &seed, KEY_INFO);
        let mut cpu = CpuDump {
            version: 1,
            length: CpuDump::SIZE as u32,
            iv: [3; 12],
            reserved: [0; 12],
            area: CpuArea::parse(&[0x11; CpuArea::SIZE]).encode(),
            tag: [0; 16],
        };
        let aad = cpu.encode()[..CpuDump::AAD_SIZE].to_vec();
        cpu.tag = Aes256Gcm::new(&key).seal(&cpu.iv, &aad, &mut cpu.area).unwrap();
        let mut end = Completion {
            version: 1,
            length: Completion::SIZE as u32,
            reserved: 0,
            seed,
            iv: [4; 12],
            reserved_end: 0,
            area: area.encode(),
            tag: [0; 16],
        };
        let aad = end.encode()[..Completion::AAD_SIZE].to_vec();
        end.tag = Aes256Gcm::new(&key).seal(&end.iv, &aad, &mut end.area).unwrap();
        let (mut cpu, mut end) = (cpu.encode(), end.encode());
        cpu.resize(4096, 0);
        end.resize(4096, 0);
        let layout = Layout {
            cpus: vec![CpuNotes { id: 1, protected: Some(cpu), ..CpuNotes::default() }],
            loads: self.loads.clone(),
            sections: vec![(SECTION_COMPONENTS, states.len() as u64), (SECTION_COMPLETION, end.len() as u64)],
        };
        let mut writer = CoreWriter::new(&layout, Vec::new()).unwrap();
        for &(address, size) in &self.loads {
            writer.write(&memory[address as usize..][..size as usize]).unwrap();
        }
        writer.write(&states).unwrap();
        writer.write(&end).unwrap();
        writer.finish().unwrap()
    }
}

struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cck"), CCK).unwrap();
        Self(folder)
    }

    fn options(&self) -> Options {
        let at = |name: &str| self.0.path().join(name);
        Options {
            dump: at("dump"),
            cck: at("cck"),
            output: at("core"),
            overwrite: false,
            unauthenticated_memory: false,
        }
    }

    fn decrypt(&self, dump: &[u8]) -> Result<(Report, Vec<u8>), DumpError> {
        self.decrypt_with(dump, &self.options())
    }

    fn decrypt_with(&self, dump: &[u8], options: &Options) -> Result<(Report, Vec<u8>), DumpError> {
        std::fs::write(&options.dump, dump).unwrap();
        match decrypt(options) {
            Ok(report) => {
                let core = std::fs::read(&options.output).unwrap();
                std::fs::remove_file(&options.output).unwrap();
                Ok((report, core))
            }
            Err(OwnerError::Dump(error)) => {
                assert!(!Path::new(&options.output).exists(), "a refusal leaves nothing");
                Err(error)
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn the_owner_gets_memory_and_registers() {
    let desk = Desk::new();
    let (report, bytes) = desk.decrypt(&Maker::whole().make()).unwrap();
    assert_eq!((report.cpus, report.private, report.shared, report.zero, report.missing), (1, 1, 1, 253, 1));
    assert!(report.authenticated);
    let core = Core::read(&bytes[..]).unwrap();
    assert_eq!((core.cpus(), core.loads.len(), core.protected_cpus().count()), (1, 1, 0));
    let memory = &bytes[core.loads[0].offset as usize..][..PAGES * PAGE];
    for (page, bytes) in memory.chunks(PAGE).enumerate() {
        let expected = match page {
            1 => 0x41,
            2 => 0x42,
            _ => 0,
        };
        assert!(bytes.iter().all(|byte| *byte == expected), "page {page}");
    }
    let status = &core.notes.iter().find(|note| note.owner == b"CORE" && note.kind == 1).unwrap().data;
    assert_eq!(status[112..112 + 16 + 128], [0x11; 144]);
}

#[test]
fn a_wrong_key_gets_nothing() {
    let desk = Desk::new();
    std::fs::write(desk.0.path().join("cck"), [0x5d; 32]).unwrap();
    let error = desk.decrypt(&Maker::whole().make()).unwrap_err();
    assert!(matches!(error, DumpError::Key));
    assert!(error.to_string().contains("not the customer communication key"), "{error}");
    std::fs::write(desk.0.path().join("cck"), [0x5c; 31]).unwrap();
    assert!(matches!(decrypt(&desk.options()), Err(OwnerError::Image(ImageError::KeySize { need: 32, .. }))));
}

#[test]
fn what_cannot_be_authenticated_needs_a_word_of_the_owner() {
    let desk = Desk::new();
    let mut lenient = desk.options();
    lenient.unauthenticated_memory = true;
    let without_digest = Maker { digest: false, ..Maker::whole() };
    let part = Maker { loads: vec![(0x1000, 0x2000)], ..Maker::whole() };
    for maker in [without_digest, part] {
        let dump = maker.make();
        let error = desk.decrypt(&dump).unwrap_err();
        assert!(matches!(error, DumpError::Unauthenticated(_)), "{error}");
        let (report, _) = desk.decrypt_with(&dump, &lenient).unwrap();
        assert!(!report.authenticated);
        assert_eq!(report.private, 1);
    }
    let misplaced = Maker { loads: vec![(0x800, 0x1000)], ..Maker::whole() };
    assert!(matches!(desk.decrypt(&misplaced.make()), Err(DumpError::Damaged(_))));
}

#[test]
fn a_dump_without_an_owners_part_is_named_as_that() {
    let desk = Desk::new();
    let layout = Layout { cpus: vec![CpuNotes::default()], loads: vec![(0, 4)], ..Layout::default() };
    let mut writer = CoreWriter::new(&layout, Vec::new()).unwrap();
    writer.write(&[0; 4]).unwrap();
    let error = desk.decrypt(&writer.finish().unwrap()).unwrap_err();
    assert!(error.to_string().contains("--enable-dump"), "{error}");
    assert!(matches!(desk.decrypt(b"\x7fELF"), Err(DumpError::Core { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Every byte of the end, of CPUs, of components and of private memory.
    #[test]
    fn any_changed_byte_that_counts_is_refused(place in 0usize..4, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let desk = Desk::new();
        let mut dump = Maker::whole().make();
        let core = Core::read(&dump[..]).unwrap();
        let section = |name| core.section(name).unwrap().offset as usize;
        let note = dump.windows(4).position(|word| word == NT_S390_PV_CPU_DATA.to_be_bytes()).unwrap() + 12;
        let (begin, len) = match place {
            0 => (section(SECTION_COMPLETION), Completion::SIZE),
            1 => (note, CpuDump::SIZE),
            2 => (section(SECTION_COMPONENTS), COMPONENTS_PER_MIB),
            _ => (core.loads[0].offset as usize + PAGE, PAGE),
        };
        dump[begin + at.index(len)] ^= 1u8 << bit;
        prop_assert!(desk.decrypt(&dump).is_err());
    }
}
