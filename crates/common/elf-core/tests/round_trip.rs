//! What is written is read again, and damaged files are refused or read, never more.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use cloister_elf_core::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn registers() -> impl Strategy<Value = Registers> {
    (any::<[u64; 16]>(), any::<[u64; 2]>(), any::<[u32; 16]>(), any::<bool>()).prop_map(
        |(gprs, psw, ars, vectors)| Registers {
            gprs,
            psw,
            ars,
            crs: gprs.map(|value| !value),
            fprs: gprs.map(|value| value.rotate_left(9)),
            fpc: ars[0],
            prefix: ars[1],
            cpu_timer: gprs[2],
            clock_comparator: gprs[3],
            todpr: ars[2],
            vectors: vectors.then(Box::default),
            guarded_storage: vectors.then_some([1, 2, 3, 4]),
        },
    )
}

fn cpus() -> impl Strategy<Value = Vec<CpuNotes>> {
    vec((registers(), proptest::option::of(vec(any::<u8>(), 0..40))), 0..3).prop_map(|cpus| {
        let number = |(id, (registers, protected))| CpuNotes { id: id as u32 + 1, registers, protected };
        cpus.into_iter().enumerate().map(number).collect()
    })
}

fn write(layout: &Layout, bytes: &[u8]) -> Vec<u8> {
    let mut writer = CoreWriter::new(layout, Vec::new()).unwrap();
    for piece in bytes.chunks(7) {
        writer.write(piece).unwrap();
    }
    writer.finish().unwrap()
}

proptest! {
    #[test]
    fn a_core_is_read_as_it_was_written(cpus in cpus(), sizes in vec(0u64..300, 0..4), meta in 0u64..90) {
        let loads: Vec<(u64, u64)> = sizes.iter().map(|&size| (size << 20, size)).collect();
        let layout = Layout { cpus, loads, sections: vec![("pv_mem_meta", meta), ("pv_compl", 5)] };
        let total = sizes.iter().sum::<u64>() + meta + 5;
        let content: Vec<u8> = (0..total).map(|at| at as u8).collect();
        let file = write(&layout, &content);
        let core = Core::read(&file[..]).unwrap();
        prop_assert_eq!(core.cpus(), layout.cpus.len());
        let protected: Vec<_> = layout.cpus.iter().filter_map(|cpu| cpu.protected.as_deref()).collect();
        prop_assert_eq!(core.protected_cpus().collect::<Vec<_>>(), protected);
        let mut at = 0;
        let mut check = |offset: u64, size: u64| {
            let found = &file[offset as usize..][..size as usize];
            let same = found == &content[at..at + size as usize];
            at += size as usize;
            same
        };
        for (load, &(address, size)) in core.loads.iter().zip(&layout.loads) {
            prop_assert_eq!((load.address, load.size), (address, size));
            prop_assert!(check(load.offset, load.size));
        }
        for &(name, size) in &layout.sections {
            let section = core.section(name).unwrap();
            prop_assert_eq!(section.size, size);
            prop_assert!(check(section.offset, size));
        }
    }

    #[test]
    fn no_file_is_read_beyond_its_end(mut bytes in vec(any::<u8>(), 0..400), at in 0usize..700, byte: u8) {
        let _ = Core::read(&bytes[..]);
        let layout = Layout { cpus: vec![CpuNotes::default()], loads: vec![(0, 9)], sections: vec![("a", 3)] };
        let mut file = write(&layout, &[0; 12]);
        if let Some(place) = file.get_mut(at) {
            *place = byte;
        }
        file.truncate(file.len() - bytes.len() % 7);
        bytes.clear();
        if let Ok(core) = Core::read(&file[..]) {
            let len = file.len() as u64;
            prop_assert!(core.loads.iter().all(|load| load.offset + load.size <= len));
            prop_assert!(core.sections.iter().all(|section| section.offset + section.size <= len));
        }
    }
}

#[test]
fn what_was_not_announced_is_not_written() {
    let layout = Layout { loads: vec![(0, 4)], ..Layout::default() };
    let mut writer = CoreWriter::new(&layout, Vec::new()).unwrap();
    writer.write(&[0; 3]).unwrap();
    assert!(writer.write(&[0; 2]).is_err());
    let mut writer = CoreWriter::new(&layout, Vec::new()).unwrap();
    writer.write(&[0; 3]).unwrap();
    assert!(writer.finish().is_err());
    assert!(
        CoreWriter::new(&Layout { loads: vec![(0, u64::MAX); 2], ..Layout::default() }, Vec::new()).is_err()
    );
}

/// Sizes and order are those of a dump that QEMU 7.2 makes of a CPU without and with vector registers.
#[test]
fn the_notes_of_a_cpu_take_as_much_room_as_qemus() {
    let mut cpu = CpuNotes { id: 1, ..CpuNotes::default() };
    assert_eq!(cpu.encode().len(), 764);
    cpu.registers.vectors = Some(Box::default());
    cpu.registers.guarded_storage = Some([0; 4]);
    let notes = cpu.encode();
    assert_eq!(notes.len(), 1240);
    assert_eq!(notes[..20], *b"\0\0\0\x05\0\0\x01\x50\0\0\0\x01CORE\0\0\0\0");
}
