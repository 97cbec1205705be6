//! Small programs on the bare core: interruptions, translation, timers, SIGP, EXECUTE, decoded code.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

mod facilities;
mod packed;

use cloister_arch::s390x::{
    Completion, CpuState, Exit, FloatingInterrupt, Instruction, IoInterrupt, LocalInterrupt, Psw, RunState,
    TimeMode, VmConfig, facility,
};
use cloister_cpu_s390x::{CoreExit, RunLimit, System};
use cloister_memory::Storage;
use proptest::prelude::*;
use std::sync::Arc;

/// New PSWs that park the CPU in a disabled wait whose address names the interruption, and the program at 0x2000.
const PROLOGUE: &str = "
    .origin 0
    .org 0x1a0
    .quad 0x0002000180000000, 0x1a0
    .quad 0x0002000180000000, 0x1b0
    .quad 0x0002000180000000, 0x1c0
    .quad 0x0002000180000000, 0x1d0
    .quad 0x0002000180000000, 0x1e0
    .quad 0x0002000180000000, 0x1f0
    .org 0x2000
";
/// Ends a program: disabled wait at address 0.
const DONE: &str = "
    larl %r15,1f
    lpswe 0(%r15)
    .balign 8
1:  .quad 0x0002000180000000, 0
";

fn system(program: &str, cpus: u16, time: TimeMode) -> System {
    system_with(program, cpus, time, &[])
}

/// With more facilities than the usual ones.
fn system_with(program: &str, cpus: u16, time: TimeMode, more: &[u16]) -> System {
    let object = cloister_asm_s390x::assemble(&format!("{PROLOGUE}{program}"), "test.s").unwrap();
    let storage = Arc::new(Storage::new(4 << 20).unwrap());
    storage.ram().copy_in(object.origin as usize, &object.bytes);
    let mut facilities = [0; 4];
    for bit in [0, 1, 2, 3, 7, 8, 9, 18, 21, 25, 27, 31, 34, 35, 45, 75].iter().chain(more) {
        facility::set(&mut facilities, *bit, true);
    }
    let config = VmConfig {
        memory_bytes: storage.size(),
        max_cpus: cpus,
        facilities,
        cpu_id: 0,
        time,
        tod_start: Some(0xe000_0000_0000_0000),
        name: "test".into(),
        uuid: [0; 16],
    };
    let system = System::new(config, storage).unwrap();
    let mut state = system.state(0).unwrap();
    state.psw = Psw { mask: Psw::EA | Psw::BA, addr: 0x2000 };
    state.run_state = RunState::Operating;
    system.set_state(0, &state).unwrap();
    system
}

const VIRTUAL: TimeMode = TimeMode::Virtual { shift: 0 };
const STEP: RunLimit = RunLimit { instructions: Some(100_000), block: false };

fn run(system: &System) -> (Exit, CpuState) {
    match system.run(0, STEP, None).unwrap() {
        CoreExit::Guest(exit) => (exit, system.state(0).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn parked(system: &System) -> (u64, CpuState) {
    match run(system) {
        (Exit::DisabledWait(psw), state) => (psw.addr, state),
        other => panic!("{other:x?}"),
    }
}

fn u64_at(system: &System, at: usize) -> u64 {
    system.storage().ram().read_u64_be(at)
}

fn u32_at(system: &System, at: usize) -> u32 {
    system.storage().ram().read_u32_be(at)
}

#[test]
fn a_program_runs_to_its_disabled_wait() {
    let system =
        system(&format!("lghi %r2,0; lghi %r3,10; 0: agr %r2,%r3; brctg %r3,0b; {DONE}"), 1, VIRTUAL);
    let (at, state) = parked(&system);
    assert_eq!((at, state.gprs[2], state.instructions), (0, 55, 2 + 20 + 2));
}

#[test]
fn the_budget_is_exact() {
    let system = system("0: aghi %r2,1; j 0b", 1, VIRTUAL);
    for budget in [1, 2, 7, 64, 1001] {
        let before = system.state(0).unwrap().instructions;
        let limit = RunLimit { instructions: Some(budget), block: false };
        assert_eq!(system.run(0, limit, None).unwrap(), CoreExit::Guest(Exit::Budget));
        let state = system.state(0).unwrap();
        assert_eq!(state.instructions - before, budget);
        assert_eq!(state.gprs[2], state.instructions.div_ceil(2));
    }
}

#[test]
fn sa22_7832_6_supervisor_call_stores_its_code_and_old_psw() {
    let system = system("svc 0x42", 1, VIRTUAL);
    assert_eq!(parked(&system).0, 0x1c0);
    assert_eq!(u32_at(&system, 0x88), 0x0002_0042);
    assert_eq!(u64_at(&system, 0x148), 0x2002);
}

#[test]
fn sa22_7832_6_operation_exception_is_suppressing() {
    let system = system(".byte 0xb2,0xff,0,0", 1, VIRTUAL);
    assert_eq!(parked(&system).0, 0x1d0);
    assert_eq!(u32_at(&system, 0x8c), 0x0004_0001);
    assert_eq!(u64_at(&system, 0x158), 0x2004);
}

#[test]
fn problem_state_gets_a_privileged_operation_exception() {
    let system = system(
        "larl %r1,0f; lpswe 0(%r1); .balign 8; 0: .quad 0x0001000180000000, 0x2100
        .org 0x2100; stap 0(%r3)",
        1,
        VIRTUAL,
    );
    assert_eq!(parked(&system).0, 0x1d0);
    assert_eq!(u32_at(&system, 0x8c), 0x0004_0002);
}

#[test]
fn a_program_interruption_loop_is_reported_and_not_run_for_ever() {
    let system = system(".byte 0,0; .org 0x1d0+0x2000", 1, VIRTUAL);
    let ram = system.storage().ram();
    ram.write_u64_be(0x1d0, 0x0000_0001_8000_0000);
    ram.write_u64_be(0x1d8, 0x2000);
    assert!(matches!(run(&system).0, Exit::Stuck { .. }));
}

#[test]
fn an_invalid_psw_gets_its_early_specification_exception() {
    let system =
        system("larl %r1,0f; lpswe 0(%r1); .balign 8; 0: .quad 0x0000000100000000, 0x2100", 1, VIRTUAL);
    assert_eq!(parked(&system).0, 0x1d0);
    assert_eq!(u32_at(&system, 0x8c), 0x0000_0006);
    assert_eq!(u64_at(&system, 0x158), 0x2100);
}

#[test]
fn execute_ors_the_modifier_and_keeps_its_own_length() {
    let program = "
        larl %r4,0f; larl %r5,1f; lghi %r2,3; exrl %r2,2f; lghi %r3,0; ex %r0,0(%r4)
        0: exrl %r0,2f
        2: mvc 0(1,%r5),2(%r5)
        .balign 8
        1: .byte 0,0,1,2,3,4,5,6";
    let system = system(program, 1, VIRTUAL);
    // EXECUTE of EXECUTE, four bytes long.
    assert_eq!(parked(&system).0, 0x1d0);
    assert_eq!(u32_at(&system, 0x8c), 0x0004_0003);
    let near = u64_at(&system, 0x158) & !7;
    let data = (near..near + 64).step_by(8).find(|&at| u64_at(&system, at as usize) == 0x0102_0304_0304_0506);
    assert!(data.is_some(), "four bytes were moved");
}

#[test]
fn a_store_into_the_running_block_is_seen_by_the_next_instruction() {
    let program = format!("larl %r1,0f; mvhhi 2(%r1),7; 0: lghi %r3,1; {DONE}");
    let system = system(&program, 1, VIRTUAL);
    let (_, state) = parked(&system);
    assert_eq!(state.gprs[3], 7);
}

/// Segment table at 0x10000 for the first 1 MiB, page table at 0x11000 mapping 0x40000 to 0x50000 writable and
/// 0x41000 read-only; everything else one to one.
fn paged(program: &str) -> System {
    let program = format!(
        "larl %r1,9f; lctlg %c1,%c1,0(%r1); lpswe 8(%r1); .balign 8; 9: .quad 0x10000
         .quad 0x0400000180000000, 0x2100; .org 0x2100; {program}"
    );
    let system = system(&program, 1, VIRTUAL);
    let ram = system.storage().ram();
    ram.write_u64_be(0x10000, 0x11000);
    for index in 1..2048 {
        ram.write_u64_be(0x10000 + 8 * index, 0x20);
    }
    for page in 0..256_u64 {
        let entry = match page {
            0x40 => 0x50000,
            0x41 => 0x41000 | 0x200,
            0x42 => 0x400,
            _ => page << 12,
        };
        ram.write_u64_be(0x11000 + 8 * page as usize, entry);
    }
    system
}

/// Views of storage have numbers, which begin again after some thousand; code that was found under an old number must
/// not be executed in another address space that gets the same.
#[test]
fn code_at_one_address_in_two_spaces_stays_apart_however_often_translations_are_flushed() {
    let system = paged(
        "llilf %r2,0x40000; lghi %r10,4040; larl %r9,7f
         0: ptlb; lctlg %c1,%c1,0(%r9); basr %r14,%r2; lgr %r3,%r10
         1: ptlb; brctg %r3,1b
         lctlg %c1,%c1,8(%r9); basr %r14,%r2; aghi %r10,1; cghi %r10,4120; jl 0b
         larl %r15,8f; lpswe 0(%r15)
         .balign 8; 7: .quad 0x10000, 0x20000; 8: .quad 0x0002000180000000, 0",
    );
    let ram = system.storage().ram();
    ram.write_u64_be(0x20000, 0x21000);
    for page in 0..256_u64 {
        ram.write_u64_be(0x21000 + 8 * page as usize, if page == 0x40 { 0x60000 } else { page << 12 });
    }
    // aghi %r4,1 or aghi %r5,1; br %r14.
    ram.write_u64_be(0x50000, 0xa74b_0001_07fe_0000);
    ram.write_u64_be(0x60000, 0xa75b_0001_07fe_0000);
    let limit = RunLimit { instructions: Some(5_000_000), block: false };
    let exit = system.run(0, limit, None).unwrap();
    assert!(matches!(exit, CoreExit::Guest(Exit::DisabledWait(Psw { addr: 0, .. }))), "{exit:?}");
    let state = system.state(0).unwrap();
    assert_eq!((state.gprs[4], state.gprs[5]), (80, 80));
}

/// What is counted for people: instructions that the guest does not have, translations, and blocks on request.
#[test]
fn a_profile_names_unknown_instructions_and_hot_blocks() {
    let program = format!(
        "larl %r1,8f; mvc 0x1d8(8),0(%r1); lghi %r2,3; 1: .byte 0xb2,0xff,0,0x12; .balign 2
         2: brctg %r2,1b; lghi %r3,500; 3: aghi %r4,1; brctg %r3,3b; {DONE}; .balign 8; 8: .quad 0x2300
         .org 0x2300; larl %r5,2b; larl %r6,9f; stg %r5,8(%r6); lpswe 0(%r6); .balign 8; 9: .quad 0x180000000, 0"
    );
    let with_new_psw = || {
        let system = system(&program, 1, VIRTUAL);
        system.storage().ram().write_u64_be(0x1d0, 0x0000_0001_8000_0000);
        system
    };
    let silent = with_new_psw();
    assert_eq!(parked(&silent).0, 0);
    let profile = silent.profile();
    let unknown: Vec<_> =
        profile.unknown.iter().map(|one| (one.text, one.count, one.mnemonic.clone())).collect();
    assert_eq!(unknown, [([0xb2, 0xff, 0, 0x12, 0, 0], 3, None)]);
    assert_eq!(profile.unknown[0].first, 0x2010);
    assert!(profile.hot.is_empty() && profile.decoded.nanoseconds == 0, "not asked for");
    assert!(profile.decoded.blocks > 4 && profile.tlb_fills > 0, "{profile:?}");
    assert!(profile.decoded.guest_bytes >= 2 * profile.decoded.instructions);

    let counted = with_new_psw();
    counted.set_profiling(true);
    assert_eq!(parked(&counted).0, 0);
    let profile = counted.profile();
    // The loop at label 3, but for its first round, which is in the block before.
    assert_eq!((profile.hot[0].executions, profile.hot[0].instructions), (499, 998), "{:?}", profile.hot);
    assert_eq!((profile.hot[0].mnemonics.as_str(), profile.hot[0].length), ("aghi brctg", 8));
    let all: u64 = profile.hot.iter().map(|block| block.instructions).sum();
    assert_eq!(all, counted.instructions(0), "every instruction is in a block");
    assert!(profile.decoded.nanoseconds > 0);
}

#[test]
fn sa22_7832_3_translation_maps_and_sets_reference_and_change() {
    let system = paged(&format!("llilh %r2,4; mvhi 8(%r2),5; {DONE}"));
    assert_eq!(parked(&system).0, 0);
    assert_eq!(u32_at(&system, 0x50008), 5);
    assert_eq!(system.storage_key(0x50), Some(6));
    assert!(!system.changed(0x51));
}

#[test]
fn sa22_7832_3_page_translation_exception_is_nullifying_with_its_address() {
    let system = paged("llilh %r2,4; mvhi 0xffc(%r2),1");
    let ram = system.storage().ram();
    // 0x40 becomes invalid: the store into it must not happen.
    ram.write_u64_be(0x11000 + 8 * 0x40, 0x400);
    assert_eq!(parked(&system).0, 0x1d0);
    assert_eq!(u32_at(&system, 0x8c), 0x0006_0011);
    assert_eq!(u64_at(&system, 0xa8), 0x40000 | 1 << 10);
    assert_eq!(u64_at(&system, 0x158), 0x2104);
}

#[test]
fn an_operand_across_a_page_is_stored_whole_or_not_at_all() {
    let system = paged("llilf %r2,0x40ffc; lghi %r3,-1; stg %r3,0(%r2)");
    assert_eq!(parked(&system).0, 0x1d0);
    // 0x41000 is read-only: protection, suppressing, bit 61 of the identification.
    assert_eq!(u32_at(&system, 0x8c), 0x0006_0004);
    assert_eq!(u64_at(&system, 0xa8), 0x41000 | 1 << 10 | 4);
    assert_eq!(u32_at(&system, 0x50ffc), 0);
}

#[test]
fn ipte_makes_the_page_invalid_at_once() {
    let system = paged("llilh %r2,4; lg %r3,0(%r2); llilf %r4,0x11000; ipte %r4,%r2; lg %r3,0(%r2)");
    assert_eq!(parked(&system).0, 0x1d0);
    assert_eq!(u32_at(&system, 0x8c), 0x0006_0011);
    assert_eq!(u64_at(&system, 0x11000 + 8 * 0x40), 0x50400);
}

#[test]
fn an_address_beyond_the_table_is_an_asce_type_exception() {
    let system = paged("llihl %r2,1; lg %r3,0(%r2)");
    assert_eq!(parked(&system).0, 0x1d0);
    assert_eq!(u32_at(&system, 0x8c) & 0xffff, 0x38);
}

#[test]
fn low_address_protection_guards_the_first_512_bytes_only() {
    let program = "larl %r1,0f; lctlg %c0,%c0,0(%r1); mvhi 0x200(%r0),1; mvhi 0x60(%r0),1; .balign 8; 0: .quad 0x100000e0";
    let system = system(program, 1, VIRTUAL);
    assert_eq!(parked(&system).0, 0x1d0);
    assert_eq!(u32_at(&system, 0x8c), 0x0006_0004);
    assert_eq!((u32_at(&system, 0x200), u32_at(&system, 0x60)), (1, 0));
}

#[test]
fn key_controlled_protection_needs_the_right_key() {
    let program = "lghi %r2,0x38; llilh %r3,8; sske %r2,%r3; lg %r5,0(%r3); spka 0x30; mvhi 0(%r3),1; spka 0x40; lg %r4,0(%r3)";
    let system = system(program, 1, VIRTUAL);
    assert_eq!(parked(&system).0, 0x1d0);
    assert_eq!(u32_at(&system, 0x8c), 0x0006_0004);
    assert_eq!(u32_at(&system, 0x80000), 1);
    assert_eq!(system.storage_key(0x80), Some(0x3e));
}

#[test]
fn the_clock_comparator_wakes_an_enabled_wait_at_its_time() {
    let program = "
        larl %r1,0f; lctlg %c0,%c0,0(%r1); stck 8(%r1); lg %r2,8(%r1); llilh %r3,0x1000; agr %r2,%r3
        stg %r2,8(%r1); sckc 8(%r1); lpswe 16(%r1); .balign 8
        0: .quad 0x8e0, 0, 0x0102000180000000, 0x1234";
    let system = system(program, 1, VIRTUAL);
    let (exit, _) = run(&system);
    let Exit::Idle { wake_after_ns: Some(ns) } = exit else { panic!("{exit:?}") };
    assert!((16_000_000..65_600_000).contains(&ns), "{ns}");
    system.advance(ns - 1000);
    assert!(matches!(run(&system).0, Exit::Idle { wake_after_ns: Some(1..=1000) }));
    system.advance(1000);
    assert_eq!(parked(&system).0, 0x1b0);
    assert_eq!(u32_at(&system, 0x84), 0x1004);
}

#[test]
fn the_cpu_timer_interrupts_a_running_loop() {
    let program = "larl %r1,0f; lctlg %c0,%c0,0(%r1); spt 8(%r1); stosm 16(%r1),1; 1: j 1b
        .balign 8; 0: .quad 0x4e0, 0x10000, 0";
    let system = system(program, 1, VIRTUAL);
    let (at, state) = parked(&system);
    assert_eq!((at, u32_at(&system, 0x84)), (0x1b0, 0x1005));
    // 0x10000 TOD units are 16 microseconds, one instruction is a nanosecond.
    assert!((16_000..16_200).contains(&state.instructions), "{}", state.instructions);
}

#[test]
fn floating_interruptions_follow_their_masks_and_order() {
    let program = "larl %r1,0f; lctlg %c0,%c0,0(%r1); lctlg %c6,%c6,8(%r1); lpswe 16(%r1); .balign 8
        0: .quad 0x2e0, 0x10000000, 0x0302000180000000, 0x1234";
    let system = system(program, 1, VIRTUAL);
    assert!(matches!(run(&system).0, Exit::Idle { wake_after_ns: None }));
    let io = IoInterrupt { subsystem_id: 0x0001_0003, parameter: 0xabcd, word: 2 << 27 };
    system.inject(FloatingInterrupt::Io(io));
    assert!(matches!(run(&system).0, Exit::Idle { .. }), "subclass 2 is masked");
    system.inject(FloatingInterrupt::Adapter { isc: 3 });
    assert_eq!(parked(&system).0, 0x1f0);
    assert_eq!(u32_at(&system, 0xc0), 0x8000_0000 | 3 << 27);
    system.inject(FloatingInterrupt::ServiceSignal(0x5000));
    system.inject(FloatingInterrupt::ServiceSignal(1));
    let mut state = system.state(0).unwrap();
    state.psw = Psw { mask: 0x0302_0001_8000_0000, addr: 0x1234 };
    state.crs[6] = 0xff00_0000;
    system.set_state(0, &state).unwrap();
    assert_eq!(parked(&system).0, 0x1b0, "external before I/O");
    assert_eq!(u32_at(&system, 0x80), 0x5001);
    system.set_state(0, &state).unwrap();
    assert_eq!(parked(&system).0, 0x1f0);
    assert_eq!(
        (u32_at(&system, 0xb8), u32_at(&system, 0xbc), u32_at(&system, 0xc0)),
        (0x10003, 0xabcd, 2 << 27)
    );
}

#[test]
fn an_instruction_exit_carries_its_block_and_takes_a_completion() {
    let program = format!(
        "llilf %r1,0x10007; llilf %r2,0x3000; mvhi 4(%r2),9; msch 0(%r2); ipm %r5; stsch 64(%r2); {DONE}"
    );
    let system = system(&program, 1, VIRTUAL);
    let (exit, _) = run(&system);
    let Exit::Instruction(exit) = exit else { panic!("{exit:?}") };
    assert_eq!(exit.instruction, Instruction::Msch(0x10007));
    assert_eq!((exit.buffer.len(), exit.buffer[7], exit.protected), (52, 9, false));
    let exit = system.run(0, STEP, Some(Completion::cc(2))).unwrap();
    let CoreExit::Guest(Exit::Instruction(exit)) = exit else { panic!("{exit:?}") };
    assert_eq!(exit.instruction, Instruction::Stsch(0x10007));
    let answer = Completion { cc: Some(1), buffer: Some(vec![0x5a; 100]), ..Completion::default() };
    assert!(matches!(system.run(0, STEP, Some(answer)).unwrap(), CoreExit::Guest(Exit::DisabledWait(_))));
    assert_eq!(system.state(0).unwrap().gprs[5] as u32 >> 28, 2);
    assert_eq!((u32_at(&system, 0x3040 + 48), u32_at(&system, 0x3040 + 52)), (0x5a5a_5a5a, 0));
}

#[test]
fn a_completion_can_be_a_program_interruption() {
    let system = system("diag %r1,%r2,0x258", 1, VIRTUAL);
    let (exit, _) = run(&system);
    assert!(matches!(exit, Exit::Instruction(_)));
    let exit = system.run(0, STEP, Some(Completion::program(6))).unwrap();
    assert!(matches!(exit, CoreExit::Guest(Exit::DisabledWait(Psw { addr: 0x1d0, .. }))));
    assert_eq!(u32_at(&system, 0x8c), 0x0004_0006);
}

/// CPU 0 sets the prefix of CPU 1 and restarts it at 0x2200, then waits for its mark.
const SMP: &str = "
    lghi %r3,1; lghi %r5,0
    5: sigp %r4,%r3,0x0d; brc 2,5b; brc 5,6f
    larl %r7,2f; mvc 0x1a0(16,%r0),0(%r7)
    4: sigp %r4,%r3,0x06; brc 2,4b; brc 5,6f
    7: lg %r6,0xf00(%r0); cgfi %r6,1; jne 7b
    6: larl %r1,0f; lpswe 0(%r1); .balign 8; 0: .quad 0x0002000180000000, 0x77
    2: .quad 0x0000000180000000, 0x2200
    .org 0x2200; mvghi 0xf00(%r0),1; larl %r1,1f; lpswe 0(%r1); .balign 8; 1: .quad 0x0002000180000000, 0x88
";

#[test]
fn sigp_restart_starts_another_cpu_on_its_own_thread() {
    let system = system(SMP, 2, TimeMode::Real);
    let limit = RunLimit { instructions: None, block: true };
    std::thread::scope(|scope| {
        let second = scope.spawn(|| system.run(1, limit, None).unwrap());
        let first = system.run(0, limit, None).unwrap();
        assert!(matches!(first, CoreExit::Guest(Exit::DisabledWait(Psw { addr: 0x77, .. }))), "{first:?}");
        let second = second.join().unwrap();
        assert!(matches!(second, CoreExit::Guest(Exit::DisabledWait(Psw { addr: 0x88, .. }))), "{second:?}");
    });
}

#[test]
fn the_same_program_on_one_thread_counts_the_same_each_time() {
    let count = || {
        let system = system(SMP, 2, VIRTUAL);
        let limit = RunLimit { instructions: Some(100), block: false };
        for _ in 0..1000 {
            let first = system.run(0, limit, None).unwrap();
            let second = system.run(1, limit, None).unwrap();
            if matches!(
                (first, second),
                (CoreExit::Guest(Exit::DisabledWait(_)), CoreExit::Guest(Exit::DisabledWait(_)))
            ) {
                return (system.instructions(0), system.instructions(1), system.tod());
            }
        }
        panic!("did not end");
    };
    assert_eq!(count(), count());
}

#[test]
fn a_spinning_cpu_gives_way_on_a_shared_thread() {
    let limit = RunLimit { instructions: Some(100_000), block: false };
    // DIAGNOSE 44 and 9C, sense and sense running of a CPU that has not stopped.
    for (spin, first) in [
        ("diag %r0,%r0,0x44", 1),
        ("diag %r1,%r0,0x9c", 1),
        ("lghi %r3,1; sigp %r4,%r3,0x15", 2),
        ("lghi %r3,1; sigp %r4,%r3,1", 2),
    ] {
        let system = system(&format!("0: {spin}; j 0b"), 2, VIRTUAL);
        system.set_run_state(1, RunState::Operating).unwrap();
        assert_eq!(system.run(0, limit, None).unwrap(), CoreExit::Guest(Exit::Budget));
        assert_eq!(system.state(0).unwrap().instructions, first, "{spin}");
    }
}

#[test]
fn sa22_7832_7_execute_looks_at_its_target_after_the_or() {
    // EXRL in storage, which R1 makes a COMPARE LOGICAL RELATIVE LONG.
    let program = format!(
        "lghi %r5,0xd; lghi %r6,7; exrl %r5,0f; ipm %r7; {DONE} .balign 8; 0: .byte 0xc6,0x60,0,0,0,4"
    );
    let system = system(&program, 1, VIRTUAL);
    assert_eq!(parked(&system).0, 0);
    let exception = self::system("lghi %r5,0; exrl %r5,0f; 0: .byte 0xc6,0x60,0,0,0,4", 1, VIRTUAL);
    assert_eq!(parked(&exception).0, 0x1d0);
    assert_eq!(u32_at(&exception, 0x8c), 0x0006_0003);
}

#[test]
fn a_kick_ends_an_endless_loop_and_a_sleep() {
    for program in ["0: j 0b", "larl %r1,0f; lpswe 0(%r1); .balign 8; 0: .quad 0x0102000180000000, 0"] {
        let system = system(program, 1, TimeMode::Real);
        std::thread::scope(|scope| {
            let running =
                scope.spawn(|| system.run(0, RunLimit { instructions: None, block: true }, None).unwrap());
            std::thread::sleep(std::time::Duration::from_millis(20));
            system.kick(0);
            assert_eq!(running.join().unwrap(), CoreExit::Guest(Exit::Kicked));
        });
    }
}

proptest! {
    #[test]
    fn state_round_trips(
        gprs: [u64; 16], ars: [u32; 16], vrs: [u128; 32], crs: [u64; 16], guarded_storage: [u64; 3],
        mask: u64, addr: u64, fpc: u32, prefix in 0_u32..512, todpr: u16, clock_comparator: u64,
        cpu_timer: u64, breaking_event: u64, instructions in 0..u64::MAX / 2,
        call in proptest::option::of(0_u16..248), emergency in proptest::collection::btree_set(0_u16..248, 0..4),
        restart: bool, stop in proptest::option::of(any::<bool>()), run_state in 0_usize..4,
    ) {
        let system = system("j .", 1, VIRTUAL);
        let mut pending: Vec<_> = call.map(LocalInterrupt::ExternalCall).into_iter().collect();
        pending.extend(emergency.into_iter().map(LocalInterrupt::EmergencySignal));
        pending.extend(restart.then_some(LocalInterrupt::Restart));
        pending.extend(stop.map(|store_status| LocalInterrupt::Stop { store_status }));
        let run_state = [RunState::Stopped, RunState::Operating, RunState::Load, RunState::CheckStop][run_state];
        let state = CpuState {
            version: CpuState::VERSION, address: 0, psw: Psw { mask, addr }, gprs, ars, crs, vrs, guarded_storage, fpc,
            prefix: prefix << 13, todpr: todpr.into(), clock_comparator, cpu_timer, breaking_event, run_state,
            pending, instructions,
        };
        system.set_state(0, &state).unwrap();
        prop_assert_eq!(system.state(0).unwrap(), state);
    }
}
