//! zipl's boot map and the firmware's ELF file: what is written is read back, and nothing else is accepted.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use cloister_formats::s390x::boot_map::{
    self, BLOCK_SIZE, Block, BlockPtr, BootRecord, Component, ComponentTable, Part, Program, ProgramTable,
    ReadError, SegmentList,
};
use cloister_formats::s390x::firmware::Firmware;
use proptest::prelude::*;

fn pointer() -> impl Strategy<Value = BlockPtr> {
    (1..u64::MAX, 1..=boot_map::MAX_COUNT).prop_map(|(block, count)| BlockPtr { block, count })
}

fn component() -> impl Strategy<Value = Component> {
    prop_oneof![
        (pointer(), any::<u64>()).prop_map(|(segments, address)| Component::Load { segments, address }),
        (pointer(), any::<u64>()).prop_map(|(segments, data)| Component::Signature { segments, data }),
    ]
}

/// Writes programs to a disk in memory.
fn disk(programs: &[Program<'_>], default: usize, first: u64) -> Vec<u8> {
    let layout = boot_map::build(programs, default, first).unwrap();
    let mut disk = vec![0; layout.end as usize * BLOCK_SIZE];
    disk[..BLOCK_SIZE].copy_from_slice(&layout.record.encode());
    let mut end = 1;
    for (block, bytes) in &layout.pieces {
        assert!(*block >= end, "pieces rise and do not overlap");
        end = block + bytes.len().div_ceil(BLOCK_SIZE) as u64;
        disk[*block as usize * BLOCK_SIZE..][..bytes.len()].copy_from_slice(bytes);
    }
    disk
}

fn block(disk: &[u8], number: u64) -> std::io::Result<Block> {
    let at = usize::try_from(number).ok().and_then(|number| number.checked_mul(BLOCK_SIZE));
    let bytes = at.and_then(|at| disk.get(at..at.checked_add(BLOCK_SIZE)?));
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
}

proptest! {
    #[test]
    fn every_block_of_a_map_reads_as_it_was_written(
        programs in pointer(),
        table in prop::collection::vec(prop::option::of(pointer()), 0..boot_map::MAX_PROGRAMS),
        last in pointer(),
        mut components in prop::collection::vec(component(), 0..boot_map::MAX_COMPONENTS - 1),
        psw in any::<u64>(),
        segments in prop::collection::vec(pointer(), 0..=31),
        next in pointer(),
    ) {
        let record = BootRecord { programs };
        prop_assert_eq!(BootRecord::parse(&record.encode()), Ok(record));
        let programs = table.into_iter().chain([Some(last)]).collect();
        let table = ProgramTable { programs };
        prop_assert_eq!(ProgramTable::parse(&table.encode()), Ok(table));
        components.push(Component::Execute { psw });
        let table = ComponentTable { kind: 0, components };
        prop_assert_eq!(ComponentTable::parse(&table.encode()), Ok(table));
        let next = (segments.len() == 31).then_some(next);
        let list = SegmentList { segments, next };
        prop_assert_eq!(SegmentList::parse(&list.encode()), Ok(list));
    }

    #[test]
    fn programs_are_found_where_the_map_says(
        sizes in prop::collection::vec(prop::collection::vec(1..40_000_usize, 1..4), 1..5),
        default in 1..5_usize,
        first in 1..3000_u64,
    ) {
        let default = (default - 1) % sizes.len() + 1;
        let bytes: Vec<Vec<Vec<u8>>> = sizes
            .iter()
            .map(|parts| parts.iter().map(|&size| (0..size).map(|n| (n * 31 + size) as u8).collect()).collect())
            .collect();
        let programs: Vec<Program<'_>> = bytes
            .iter()
            .map(|parts| Program {
                parts: (1..).zip(parts).map(|(n, bytes)| Part { address: n << 20, bytes }).collect(),
                entry: 0x10000,
            })
            .collect();
        let disk = disk(&programs, default, first);
        let read = boot_map::read(|number| block(&disk, number)).unwrap();
        prop_assert_eq!(read.len(), programs.len() + 1);
        for mapped in &read {
            let number = if mapped.number == 0 { default } else { mapped.number };
            prop_assert_eq!(mapped.psw, 0x0008_0000_8001_0000);
            for (part, (address, segments)) in programs[number - 1].parts.iter().zip(&mapped.parts) {
                prop_assert_eq!(part.address, *address);
                let mut found = Vec::new();
                for segment in segments {
                    for number in segment.block..segment.block + u64::from(segment.count) {
                        found.extend(block(&disk, number).unwrap());
                    }
                }
                prop_assert_eq!(&found[..part.bytes.len()], part.bytes);
            }
        }
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _ = Firmware::parse(&bytes);
        let _ = boot_map::read(|number| block(&bytes, number));
        let elf = [&b"\x7fELF\x02\x02\x01"[..], &bytes].concat();
        let _ = Firmware::parse(&elf);
    }
}

#[test]
fn a_long_program_has_a_list_of_several_blocks() {
    let bytes = vec![7; (31 << 20) + 5];
    let program = Program { parts: vec![Part { address: 0x10000, bytes: &bytes }], entry: 0x10000 };
    let disk = disk(&[program], 1, 1);
    let read = boot_map::read(|number| block(&disk, number)).unwrap();
    let segments = &read[0].parts[0].1;
    assert_eq!(segments.len(), 32);
    assert!(segments.iter().all(|segment| segment.count <= 2048), "a loader reads at most 1 MiB at a time");
}

#[test]
fn a_damaged_map_is_refused_and_says_where() {
    let program = Program { parts: vec![Part { address: 0x10000, bytes: b"guest" }], entry: 0x10000 };
    let good = disk(std::slice::from_ref(&program), 1, 1);
    let refused = |at: usize, value: u8, words: &str| {
        let mut disk = good.clone();
        disk[at] ^= value;
        let why = boot_map::read(|number| block(&disk, number)).unwrap_err().to_string();
        assert!(why.contains(words), "{why}");
    };
    refused(0, 1, "block 0: this is no boot record of zipl");
    refused(7, 2, "block 0: boot record of zipl has version");
    refused(BLOCK_SIZE, 1, "block 1: this is no program table of zipl");
    refused(2 * BLOCK_SIZE, 1, "block 2: this is no component table of zipl");
    refused(2 * BLOCK_SIZE + 32 + 23, 0x40, "type of a component");
    refused(16, 1, "cannot be read");
    // A list that leads back to itself.
    let mut disk = good.clone();
    let list = SegmentList {
        segments: vec![BlockPtr { block: 3, count: 1 }; 31],
        next: Some(BlockPtr { block: 4, count: 1 }),
    };
    disk[4 * BLOCK_SIZE..5 * BLOCK_SIZE].copy_from_slice(&list.encode());
    let endless = boot_map::read(|number| block(&disk, number));
    assert!(matches!(endless, Err(ReadError::Endless { block: 4 })));

    for (programs, default) in [(0, 1), (31, 1), (1, 0), (1, 2)] {
        boot_map::build(&vec![program.clone(); programs], default, 1).unwrap_err();
    }
    boot_map::build(&[Program { entry: 0x8000_0000, ..program }], 1, 1).unwrap_err();
}

/// A position-independent program: one segment with two words, the second of which is relocated.
fn elf() -> Vec<u8> {
    let mut bytes = vec![0; 0x100];
    let mut put = |at: usize, value: u64, size: usize| {
        bytes[at..at + size].copy_from_slice(&value.to_be_bytes()[8 - size..]);
    };
    put(0, 0x7f45_4c46_0202_0100, 8);
    for (at, value, size) in [(16, 3, 2), (18, 22, 2), (24, 0x80, 8), (32, 64, 8), (54, 56, 2), (56, 2, 2)] {
        put(at, value, size);
    }
    // The segment: bytes 0xb0 to 0x100 at address 0x80, and zeros up to 0x1000.
    for (at, value, size) in [(0, 1, 4), (8, 0xb0, 8), (24, 0x80, 8), (32, 0x50, 8), (40, 0xf80, 8)] {
        put(64 + at, value, size);
    }
    // The dynamic section is at address 0x98: DT_RELA, DT_RELASZ.
    for (at, value, size) in [(0, 2, 4), (16, 0x98, 8), (40, 0x20, 8)] {
        put(120 + at, value, size);
    }
    for (at, value) in [(0xb0, 0x07fe), (0xc8, 7), (0xd0, 0xb8), (0xd8, 8), (0xe0, 24)] {
        put(at, value, 8);
    }
    // The relocation: offset 0x88, relative, addend 0x1234.
    for (at, value) in [(0xe8, 0x88), (0xf0, 12), (0xf8, 0x1234)] {
        put(at, value, 8);
    }
    bytes
}

#[test]
fn a_firmware_is_relocated_to_its_base() {
    let firmware = Firmware::parse(&elf()).unwrap();
    assert_eq!((firmware.size(), firmware.entry(0x7e0_0000)), (0x1000, 0x7e0_0080));
    let placed = firmware.place(0x7e0_0000);
    assert_eq!(placed[0x80..0x88], 0x07fe_u64.to_be_bytes());
    assert_eq!(placed[0x88..0x90], 0x7e0_1234_u64.to_be_bytes());
    assert!(placed[0xd0..].iter().all(|&byte| byte == 0));
}

#[test]
fn a_firmware_that_is_none_is_refused() {
    let refused = |at: usize, value: u8, words: &str| {
        let mut bytes = elf();
        bytes[at] = value;
        let why = Firmware::parse(&bytes).unwrap_err().to_string();
        assert!(why.contains(words), "{why}");
    };
    refused(0, 0, "ELF");
    refused(5, 1, "big-endian");
    refused(17, 1, "must be an executable");
    refused(19, 62, "it must be 0x16, s390x");
    refused(24, 1, "it must lie in a loaded segment");
    refused(0xf7, 10, "only relative ones");
    refused(64 + 40, 1, "16 MiB");
    for length in 0..elf().len() {
        assert!(Firmware::parse(&elf()[..length]).is_err(), "{length}");
    }
}
