//! Code translated for the host does what the interpreter does: the same results, counts and interruptions.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use cloister_arch::s390x::{CpuState, Exit, Psw, RunState, TimeMode, VmConfig, facility};
use cloister_cpu_s390x::{CoreExit, FACILITIES, RunLimit, System, Tiering};
use cloister_memory::Storage;
use std::sync::Arc;
use std::time::Duration;

/// New PSWs that park the CPU in a disabled wait whose address names the interruption, and the program at 0x2000.
const PROLOGUE: &str = "
    .origin 0
    .org 0x1a0
    .quad 0x0002000180000000, 0x1a0
    .quad 0x0002000180000000, 0x1b0
    .quad 0x0002000180000000, 0x1c0
    .quad 0x0002000180000000, 0x1d0
    .org 0x2000
";
const DONE: &str = "
    larl %r15,99f
    lpswe 0(%r15)
    .balign 8
99: .quad 0x0002000180000000, 0
";
const VIRTUAL: TimeMode = TimeMode::Virtual { shift: 0 };
const TIERINGS: [Tiering; 3] = [Tiering::Off, Tiering::Hot, Tiering::AtOnce];

fn system(program: &str, cpus: u16, time: TimeMode, tiering: Tiering) -> System {
    let object = cloister_asm_s390x::assemble(&format!("{PROLOGUE}{program}{DONE}"), "test.s").unwrap();
    let storage = Arc::new(Storage::new(4 << 20).unwrap());
    storage.ram().copy_in(object.origin as usize, &object.bytes);
    let mut facilities = [0; 4];
    FACILITIES.iter().for_each(|&bit| facility::set(&mut facilities, bit, true));
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
    system.set_tiering(tiering);
    for cpu in 0..cpus {
        let mut state = system.state(cpu).unwrap();
        state.psw = Psw { mask: Psw::EA | Psw::BA, addr: 0x2000 };
        state.gprs[13] = u64::from(cpu);
        state.run_state = RunState::Operating;
        system.set_state(cpu, &state).unwrap();
    }
    system
}

/// Runs in pieces of `piece` instructions to the disabled wait; the state there, and storage.
fn run(system: &System, piece: u64) -> (CpuState, Vec<u8>) {
    let limit = RunLimit { instructions: Some(piece), block: false };
    for _ in 0..1_000_000 {
        match system.run(0, limit, None).unwrap() {
            CoreExit::Guest(Exit::Budget) => {}
            CoreExit::Guest(Exit::DisabledWait(_)) => {
                let mut storage = vec![0; 4 << 20];
                system.storage().ram().copy_out(0, &mut storage);
                return (system.state(0).unwrap(), storage);
            }
            other => panic!("{other:x?}"),
        }
    }
    panic!("the program does not end");
}

/// The same program under every tiering, in pieces of several sizes: states, counts and storage are equal.
#[track_caller]
fn equal(program: &str) -> CpuState {
    let expected = run(&system(program, 1, VIRTUAL, Tiering::Off), u64::MAX >> 1);
    for tiering in TIERINGS {
        for piece in [7, 1000, 1 << 40] {
            let found = run(&system(program, 1, VIRTUAL, tiering), piece);
            assert_eq!(found.0, expected.0, "{tiering:?} {piece}");
            assert!(found.1 == expected.1, "storage differs: {tiering:?} {piece}");
        }
    }
    expected.0
}

#[test]
fn a_program_with_loops_calls_and_storage_ends_the_same() {
    let state = equal(
        "lghi %r2,0; lghi %r3,3000; larl %r6,buffer
         0: agr %r2,%r3; lgr %r4,%r3; nill %r4,0x3f8; stg %r2,0(%r4,%r6); lg %r5,0(%r4,%r6)
         xgr %r7,%r5; sllg %r8,%r7,3; brasl %r14,1f; clgfi %r3,1500; jne 2f; aghi %r9,1
         2: ahi %r10,77; mvc 8(16,%r6),0(%r6); brctg %r3,0b; j 3f
         1: tmll %r3,1; jz 4f; alr %r11,%r3; alcr %r12,%r11; 4: br %r14
         .balign 8; buffer: .space 2048; 3: lr %r1,%r2",
    );
    assert_eq!((state.gprs[2], state.gprs[9]), (3000 * 3001 / 2, 1));
}

#[test]
fn interruptions_come_between_the_same_instructions() {
    // The clock comparator interrupts every few thousand instructions of a loop; the handler adds up where.
    let state = equal(
        "larl %r1,new; mvc 0x1b0(16,%r0),0(%r1); lctlg %c0,%c0,masks-new(%r1); lghi %r3,20000; lghi %r7,0
         brasl %r14,arm; stosm 0x700,1
         0: aghi %r2,3; xgr %r4,%r2; brctg %r3,0b; stnsm 0x700,0xfe; j 9f
         arm: stckf 0x708; lg %r5,0x708; agfi %r5,0x4000; stg %r5,0x708; sckc 0x708; br %r14
         .balign 8; new: .quad 0x0000000180000000, handler; masks: .quad 0x00000000000008e0
         handler: ag %r7,0x138; aghi %r8,1; lgr %r9,%r14; brasl %r14,arm; lgr %r14,%r9; lpswe 0x130
         9: lr %r1,%r2",
    );
    assert!(state.gprs[8] > 3, "{} interruptions", state.gprs[8]);
}

#[test]
fn a_translated_instruction_that_traps_has_no_effect_and_says_where() {
    // The loop walks to the end of storage, and stores there.
    let program = "lghi %r1,0; llilf %r2,0x3f0000; 0: aghi %r1,1; stg %r1,0(%r2); la %r2,8(%r2); j 0b";
    let state = equal(program);
    assert_eq!((state.psw.addr, state.gprs[2], state.gprs[1]), (0x1d0, 0x40_0000, 0x2001));
}

#[test]
fn a_fixed_point_overflow_traps_only_if_the_program_mask_says_so() {
    let overflowing = "llilf %r2,0x7fffff00; llilf %r3,0x200; 0: ahi %r2,1; brct %r3,0b; ipm %r4";
    let state = equal(overflowing);
    assert_eq!((state.psw.addr, state.gprs[2] as u32), (0, 0x8000_0100));
    let state = equal(&format!("llilh %r5,0x800; spm %r5; {overflowing}"));
    assert_eq!((state.psw.addr, state.gprs[2] as u32), (0x1d0, 0x8000_0000), "completed, then interrupted");
}

#[test]
fn a_program_that_changes_its_own_hot_code_sees_the_change() {
    // Every thousandth round the immediate of an instruction in the loop is changed.
    let state = equal(
        "lghi %r3,10000; lghi %r6,0; larl %r5,patch
         0: patch: aghi %r2,1; lgr %r4,%r3; aghi %r6,1; cghi %r6,1000; jl 1f; lghi %r6,0
         lh %r7,2(%r5); ahi %r7,1; sth %r7,2(%r5); 1: brctg %r3,0b",
    );
    assert_eq!(state.gprs[2], (1..=10).map(|n| n * 1000).sum::<u64>());
}

#[test]
fn another_cpu_ends_a_hot_loop_by_changing_its_code() {
    // CPU 0 spins without looking at storage; CPU 1 makes a branch of the no-operation, after a while.
    let program = "ltgr %r13,%r13; jne 5f; 0: aghi %r2,1; patch: .long 0xa7040008; j 0b; .short 0,0,0,0; j 9f
         5: llilf %r3,200000000; 6: brctg %r3,6b; larl %r5,patch; mvi 1(%r5),0xf4; 9: lr %r1,%r2";
    for tiering in [Tiering::Hot, Tiering::AtOnce] {
        let system = Arc::new(system(program, 2, TimeMode::Real, tiering));
        let other = Arc::clone(&system);
        let patching = std::thread::spawn(move || {
            other.run(1, RunLimit { instructions: None, block: true }, None).unwrap()
        });
        let (sender, ended) = std::sync::mpsc::channel();
        let spinning = Arc::clone(&system);
        std::thread::spawn(move || {
            sender
                .send(spinning.run(0, RunLimit { instructions: None, block: true }, None).unwrap())
                .unwrap();
        });
        let exit = ended.recv_timeout(Duration::from_secs(60)).expect("the loop has not ended");
        assert!(matches!(exit, CoreExit::Guest(Exit::DisabledWait(psw)) if psw.addr == 0), "{exit:x?}");
        assert!(matches!(patching.join().unwrap(), CoreExit::Guest(Exit::DisabledWait(_))));
    }
}

#[test]
fn hot_code_is_translated_and_counted_and_other_code_is_not() {
    let hot = "lghi %r3,1; llilh %r3,100; 0: aghi %r2,1; brctg %r3,0b";
    let found = system(hot, 1, VIRTUAL, Tiering::Hot);
    run(&found, u64::MAX >> 1);
    let statistics = found.translation_statistics().unwrap();
    assert!(statistics.regions >= 1 && statistics.operations >= 2, "{statistics:?}");
    assert!(statistics.bytes > 0 && statistics.bytes <= statistics.most);
    for (program, tiering) in [(hot, Tiering::Off), ("lghi %r2,1", Tiering::Hot)] {
        let other = system(program, 1, VIRTUAL, tiering);
        run(&other, u64::MAX >> 1);
        assert!(other.translation_statistics().is_none_or(|s| s.regions == 0));
    }
}

#[test]
fn code_memory_is_bounded_and_used_again() {
    // More code than fits, each block run once.
    let program = "stg %r5,0x708; xgr %r4,%r2; ".repeat(6000);
    let system = system(&program, 1, VIRTUAL, Tiering::AtOnce);
    system.set_code_room(256 << 10);
    run(&system, u64::MAX >> 1);
    let statistics = system.translation_statistics().unwrap();
    assert!(statistics.flushes >= 2, "{statistics:?}");
    assert!(statistics.bytes <= statistics.most && statistics.most == 512 << 10, "{statistics:?}");
}
