//! Guest debugging on the bare core: breakpoints, single steps, watchpoints, translation, exact stops.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use cloister_arch::s390x::{
    Completion, CpuState, DebugExit, DebugReason, Exit, GuestDebug, LocalInterrupt, Psw, RunState, TimeMode,
    Translation, VmConfig, WatchKind, Watchpoint, facility,
};
use cloister_cpu_s390x::{CoreExit, Error, RunLimit, System};
use cloister_memory::Storage;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
const DONE: &str = "larl %r15,99f; lpswe 0(%r15); .balign 8; 99: .quad 0x0002000180000000, 0";
const VIRTUAL: TimeMode = TimeMode::Virtual { shift: 0 };
const FAR: RunLimit = RunLimit { instructions: Some(100_000), block: false };

fn system(program: &str, cpus: u16, time: TimeMode) -> System {
    let object = cloister_asm_s390x::assemble(&format!("{PROLOGUE}{program}"), "test.s").unwrap();
    let storage = Arc::new(Storage::new(4 << 20).unwrap());
    storage.ram().copy_in(object.origin as usize, &object.bytes);
    let mut facilities = [0; 4];
    for bit in [0, 1, 2, 3, 7, 8, 9, 18, 21, 25, 27, 31, 34, 35, 45, 75] {
        facility::set(&mut facilities, bit, true);
    }
    let config = VmConfig {
        memory_bytes: storage.size(),
        max_cpus: cpus,
        facilities,
        cpu_id: 0,
        time,
        tod_start: Some(0xe000_0000_0000_0000),
        name: "debug".into(),
        uuid: [0; 16],
    };
    let system = System::new(config, storage).unwrap();
    for cpu in 0..cpus {
        start(&system, cpu, 0x2000);
    }
    system
}

fn start(system: &System, cpu: u16, addr: u64) {
    let mut state = system.state(cpu).unwrap();
    state.psw = Psw { mask: Psw::EA | Psw::BA, addr };
    state.run_state = RunState::Operating;
    system.set_state(cpu, &state).unwrap();
}

fn go(system: &System) -> Exit {
    go_on(system, None)
}

fn go_on(system: &System, completion: Option<Completion>) -> Exit {
    match system.run(0, FAR, completion).unwrap() {
        CoreExit::Guest(exit) => exit,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn stop(system: &System) -> DebugExit {
    match go(system) {
        Exit::Debug(exit) => {
            assert_eq!(exit.psw_address, system.state(0).unwrap().psw.addr);
            exit
        }
        other => panic!("{other:x?}"),
    }
}

#[track_caller]
fn parked(system: &System) -> u64 {
    match go(system) {
        Exit::DisabledWait(psw) => psw.addr,
        other => panic!("{other:x?}"),
    }
}

fn steps() -> GuestDebug {
    GuestDebug { single_step: true, ..GuestDebug::default() }
}

fn breakpoints(at: &[u64]) -> GuestDebug {
    GuestDebug { breakpoints: at.to_vec(), ..GuestDebug::default() }
}

fn watch(address: u64, len: u64, kind: WatchKind) -> GuestDebug {
    GuestDebug { watchpoints: vec![Watchpoint { address, len, kind }], ..GuestDebug::default() }
}

fn at_breakpoint(address: u64) -> DebugExit {
    DebugExit { reason: DebugReason::Breakpoint { address }, psw_address: address }
}

fn gpr(system: &System, r: usize) -> u64 {
    system.state(0).unwrap().gprs[r]
}

#[test]
fn a_breakpoint_stops_before_its_instruction_and_going_on_executes_it() {
    let system = system(&format!("lghi %r2,3; 0: aghi %r3,1; brctg %r2,0b; {DONE}"), 1, VIRTUAL);
    system.set_guest_debug(0, &breakpoints(&[0x2004, 0x7777])).unwrap();
    for turn in 0..3 {
        assert_eq!(stop(&system), at_breakpoint(0x2004));
        assert_eq!((gpr(&system, 3), system.state(0).unwrap().instructions), (turn, 1 + 2 * turn));
    }
    assert_eq!(parked(&system), 0);
}

#[test]
fn what_was_set_is_replaced_and_an_empty_set_is_off() {
    let system = system(&format!("0: aghi %r3,1; aghi %r3,1; cghi %r3,6; jl 0b; {DONE}"), 1, VIRTUAL);
    system.set_guest_debug(0, &breakpoints(&[0x2000])).unwrap();
    assert_eq!(stop(&system), at_breakpoint(0x2000));
    system.set_guest_debug(0, &breakpoints(&[0x2004])).unwrap();
    assert_eq!(stop(&system), at_breakpoint(0x2004));
    // The stub that takes all away and puts all back at each stop still gets on.
    system.set_guest_debug(0, &GuestDebug::default()).unwrap();
    system.set_guest_debug(0, &breakpoints(&[0x2004])).unwrap();
    assert_eq!(stop(&system), at_breakpoint(0x2004));
    assert_eq!(gpr(&system, 3), 3);
    system.set_guest_debug(0, &GuestDebug::default()).unwrap();
    assert_eq!(parked(&system), 0);
}

#[test]
fn a_debugger_that_moves_the_psw_onto_a_breakpoint_is_stopped_there() {
    let system = system(&format!("aghi %r3,1; aghi %r3,2; aghi %r3,4; {DONE}"), 1, VIRTUAL);
    system.set_guest_debug(0, &breakpoints(&[0x2000, 0x2008])).unwrap();
    assert_eq!(stop(&system), at_breakpoint(0x2000));
    let mut state = system.state(0).unwrap();
    state.psw.addr = 0x2008;
    system.set_state(0, &state).unwrap();
    assert_eq!(stop(&system), at_breakpoint(0x2008));
    assert_eq!(parked(&system), 0);
    assert_eq!(gpr(&system, 3), 4);
}

#[test]
fn going_on_from_a_breakpoint_leads_somewhere_even_with_an_interruption_pending() {
    let program = format!(
        "aghi %r3,1; aghi %r3,2; {DONE}
         .org 0x2200; aghi %r4,1; lpswe 0x120(%r0)"
    );
    let system = system(&program, 1, VIRTUAL);
    let ram = system.storage().ram();
    ram.write_u64_be(0x1a0, Psw::EA | Psw::BA);
    ram.write_u64_be(0x1a8, 0x2200);
    system.set_guest_debug(0, &breakpoints(&[0x2000])).unwrap();
    assert_eq!(stop(&system), at_breakpoint(0x2000));
    system.inject_local(0, LocalInterrupt::Restart).unwrap();
    assert_eq!(parked(&system), 0, "not stopped at 0x2000 a second time");
    assert_eq!((gpr(&system, 3), gpr(&system, 4), ram.read_u64_be(0x128)), (3, 1, 0x2004));
}

#[test]
fn a_single_step_is_one_instruction() {
    let system = system(&format!("lghi %r2,2; 0: aghi %r3,1; brctg %r2,0b; {DONE}"), 1, VIRTUAL);
    system.set_guest_debug(0, &steps()).unwrap();
    let mut seen = Vec::new();
    loop {
        let before = system.state(0).unwrap().instructions;
        match go(&system) {
            Exit::Debug(DebugExit { reason: DebugReason::Step, psw_address }) => seen.push(psw_address),
            Exit::DisabledWait(_) => break,
            other => panic!("{other:?}"),
        }
        assert_eq!(system.state(0).unwrap().instructions, before + 1);
    }
    assert_eq!(seen, [0x2004, 0x2008, 0x2004, 0x2008, 0x200c, 0x2012, 0]);
}

#[test]
fn an_interruption_counts_as_the_step() {
    let program =
        "larl %r1,0f; lctlg %c0,%c0,0(%r1); stosm 8(%r1),1; aghi %r3,1; .balign 8; 0: .quad 0x4000, 0";
    let system = system(program, 1, VIRTUAL);
    system.set_guest_debug(0, &breakpoints(&[0x2010])).unwrap();
    assert_eq!(stop(&system), at_breakpoint(0x2010));
    system.inject_local(0, LocalInterrupt::EmergencySignal(0)).unwrap();
    system.set_guest_debug(0, &steps()).unwrap();
    let step = DebugExit { reason: DebugReason::Step, psw_address: 0x1b0 };
    assert_eq!((stop(&system), gpr(&system, 3)), (step, 0));
    // The same for one that the instruction raises.
    for (program, psw_address) in [("svc 1", 0x1c0), (".byte 0,0", 0x1d0), ("lghi %r2,1; lg %r3,-1(%r2)", 0)]
    {
        let system = self::system(program, 1, VIRTUAL);
        system.set_guest_debug(0, &steps()).unwrap();
        let expected = if psw_address == 0 { 0x2004 } else { psw_address };
        assert_eq!(stop(&system), DebugExit { reason: DebugReason::Step, psw_address: expected });
    }
}

#[test]
fn a_step_of_a_waiting_cpu_ends_with_the_interruption_that_wakes_it() {
    let program = "larl %r1,0f; lpswe 0(%r1); .balign 8; 0: .quad 0x0102000180000000, 0x1234";
    let system = system(program, 1, VIRTUAL);
    system.set_guest_debug(0, &steps()).unwrap();
    stop(&system);
    assert_eq!(stop(&system).psw_address, 0x1234);
    assert!(matches!(go(&system), Exit::Idle { .. }));
    system.inject_local(0, LocalInterrupt::Restart).unwrap();
    assert_eq!(stop(&system), DebugExit { reason: DebugReason::Step, psw_address: 0x1a0 });
}

#[test]
fn an_instruction_that_leaves_is_stepped_when_it_is_completed() {
    let program = format!("llilf %r2,0x3000; stsch 0(%r2); aghi %r3,1; {DONE}");
    let system = system(&program, 1, VIRTUAL);
    let debug = GuestDebug { single_step: true, ..watch(0x3010, 4, WatchKind::Write) };
    system.set_guest_debug(0, &debug).unwrap();
    stop(&system);
    assert!(matches!(go(&system), Exit::Instruction(_)));
    let answer = Completion { cc: Some(0), buffer: Some(vec![7; 52]), ..Completion::default() };
    let exit = go_on(&system, Some(answer));
    let reason = DebugReason::Watchpoint { address: 0x3010, kind: WatchKind::Write };
    assert_eq!(exit, Exit::Debug(DebugExit { reason, psw_address: 0x200a }));
    assert_eq!(gpr(&system, 3), 0);
    assert_eq!(stop(&system), DebugExit { reason: DebugReason::Step, psw_address: 0x200e });
    // Without a watchpoint it is a step; a program interruption is one too.
    for (completion, psw_address) in [(Completion::cc(0), 0x200a), (Completion::program(6), 0x1d0)] {
        let system = self::system(&program, 1, VIRTUAL);
        system.set_guest_debug(0, &steps()).unwrap();
        stop(&system);
        assert!(matches!(go(&system), Exit::Instruction(_)));
        let exit = go_on(&system, Some(completion));
        assert_eq!(exit, Exit::Debug(DebugExit { reason: DebugReason::Step, psw_address }));
    }
}

#[test]
fn code_modified_under_a_breakpoint_still_stops_and_is_the_new_code() {
    // The second turn finds LGHI changed to another value, by the guest and then by the host.
    let program = format!("lghi %r5,2; 0: lghi %r2,1; mvhhi 2(%r4),7; brctg %r5,0b; {DONE}");
    let system = system(&program, 1, VIRTUAL);
    let mut state = system.state(0).unwrap();
    state.gprs[4] = 0x2004;
    system.set_state(0, &state).unwrap();
    system.set_guest_debug(0, &breakpoints(&[0x2004, 0x2008])).unwrap();
    let mut values = Vec::new();
    for at in [0x2004, 0x2008, 0x2004, 0x2008] {
        assert_eq!(stop(&system), at_breakpoint(at));
        values.push(gpr(&system, 2));
    }
    assert_eq!(values, [0, 1, 1, 7]);
    start(&system, 0, 0x2000);
    assert_eq!(stop(&system), at_breakpoint(0x2004));
    system.storage().ram().write_u16_be(0x2006, 0x55);
    system.storage().host_wrote(0x2006, 2);
    assert_eq!(stop(&system), at_breakpoint(0x2008));
    assert_eq!(gpr(&system, 2), 0x55);
}

/// What the program below does: a loop, calls, EXECUTE, a page-crossing instruction, a supervisor call.
fn traced() -> System {
    let program = format!(
        "lghi %r2,5; llilf %r5,0x3000
         0: brasl %r14,1f; exrl %r2,3f; svc 9; j 4f; .org 0x2ffa; 4: aghi %r6,1; llilf %r7,0x12345678
         brctg %r2,0b; {DONE}
         1: aghi %r3,1; tmll %r3,1; jz 2f; xgr %r4,%r3; mvc 0xf00(8,%r5),0(%r5); 2: br %r14
         3: mvc 0x800(1,%r5),0(%r5)
         5: agr %r8,%r3; lpswe 0x140(%r0)"
    );
    let system = system(&program.replace("j 4f;", "j 4f; .balign 2;"), 1, VIRTUAL);
    let ram = system.storage().ram();
    // The handler of the supervisor call stands behind all else: its AGR is the only one.
    let handler = (0x3000..0x3100).find(|&at| ram.read_u32_be(at) == 0xb908_0083).unwrap();
    ram.write_u64_be(0x1c0, Psw::EA | Psw::BA);
    ram.write_u64_be(0x1c8, handler as u64);
    system
}

/// The state before each instruction of the traced program, by single steps.
fn reference() -> Vec<(u64, u64, [u64; 16])> {
    let system = traced();
    system.set_guest_debug(0, &steps()).unwrap();
    let mut trace = Vec::new();
    loop {
        let state = system.state(0).unwrap();
        trace.push((state.psw.addr, state.instructions, state.gprs));
        match go(&system) {
            Exit::Debug(DebugExit { reason: DebugReason::Step, .. }) => {}
            Exit::DisabledWait(Psw { addr: 0, .. }) => {
                trace.pop();
                return trace;
            }
            other => panic!("{other:x?} behind {trace:x?}"),
        }
    }
}

proptest! {
    #[test]
    fn stops_at_breakpoints_are_those_of_a_single_stepped_run(
        picks in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
        wild in proptest::collection::vec(0x1f00_u64..0x3100, 0..8),
        budget in prop_oneof![Just(100_000_u64), 1_u64..9],
        never in proptest::option::of(Just(watch(0x9000, 8, WatchKind::Access).watchpoints)),
    ) {
        let trace = reference();
        let mut at: Vec<u64> = picks.iter().map(|pick| pick.get(&trace).0).collect();
        at.extend(&wild);
        let system = traced();
        let debug = GuestDebug { watchpoints: never.unwrap_or_default(), ..breakpoints(&at) };
        system.set_guest_debug(0, &debug).unwrap();
        let mut stops = Vec::new();
        loop {
            let limit = RunLimit { instructions: Some(budget), block: false };
            match system.run(0, limit, None).unwrap() {
                CoreExit::Guest(Exit::Debug(exit)) => {
                    prop_assert_eq!(exit, at_breakpoint(exit.psw_address));
                    let state = system.state(0).unwrap();
                    stops.push((state.psw.addr, state.instructions, state.gprs));
                }
                CoreExit::Guest(Exit::Budget) => {}
                CoreExit::Guest(Exit::DisabledWait(Psw { addr: 0, .. })) => break,
                other => panic!("{other:?}"),
            }
        }
        let expected: Vec<_> = trace.into_iter().filter(|(addr, ..)| at.contains(addr)).collect();
        prop_assert_eq!(stops, expected);
    }

    /// A straight line of storage accesses at random places against the ranges that they touch.
    #[test]
    fn stops_at_watchpoints_are_those_that_the_operands_say(
        accesses in proptest::collection::vec((0_usize..ACCESSES.len(), 0_u64..0x200, 0_u64..0x200), 1..40),
        watches in proptest::collection::vec((0_u64..0x220, 0_u64..24, 0_usize..3), 1..4),
    ) {
        let place = |offset: u64| 0x8f00 + offset;
        let mut program = String::from("llilf %r2,0x8f00; llilf %r6,0x9000;");
        for &(access, first, second) in &accesses {
            let (text, align, ..) = ACCESSES[access];
            program += &text.replace("A", &(first & !(align - 1)).to_string()).replace("B", &second.to_string());
            program += ";";
        }
        let system = system(&format!("{program}{DONE}"), 1, VIRTUAL);
        let watchpoints: Vec<_> = watches
            .iter()
            .map(|&(at, len, kind)| Watchpoint {
                address: place(at),
                len,
                kind: [WatchKind::Write, WatchKind::Read, WatchKind::Access][kind],
            })
            .collect();
        system.set_guest_debug(0, &GuestDebug { watchpoints: watchpoints.clone(), ..GuestDebug::default() }).unwrap();
        for (n, &(access, first, second)) in accesses.iter().enumerate() {
            let (_, align, stored, fetched) = ACCESSES[access];
            let first = first & !(align - 1);
            let mut touched = Vec::new();
            for (len, at, stores) in [(stored, first, true), (fetched.0, first, false), (fetched.1, second, false)] {
                for watch in &watchpoints {
                    let counts = match watch.kind {
                        WatchKind::Write => stores,
                        WatchKind::Read => !stores,
                        WatchKind::Access => true,
                    };
                    let bytes = (place(at)..place(at) + len).filter(|at| {
                        (watch.address..watch.address + watch.len).contains(at)
                    });
                    touched.extend(bytes.filter(|_| counts).map(|address| (address, watch.kind)));
                }
            }
            if touched.is_empty() {
                continue;
            }
            let exit = stop(&system);
            let DebugReason::Watchpoint { address, kind } = exit.reason else { panic!("{exit:?}") };
            prop_assert!(touched.contains(&(address, kind)), "{address:#x} {kind:?} by {n}");
            prop_assert_eq!(system.state(0).unwrap().instructions, n as u64 + 3);
        }
        prop_assert_eq!(parked(&system), 0);
    }
}

/// Text with operands A and B, alignment of A, bytes stored at A, bytes fetched at A and at B.
const ACCESSES: [(&str, u64, u64, (u64, u64)); 10] = [
    ("stg %r3,A(%r2)", 1, 8, (0, 0)),
    ("stc %r3,A(%r2)", 1, 1, (0, 0)),
    ("l %r4,A(%r2)", 1, 0, (4, 0)),
    ("lg %r4,A(%r2)", 1, 0, (8, 0)),
    ("mvc A(17,%r2),B(%r2)", 1, 17, (0, 17)),
    ("clc A(9,%r2),B(%r2)", 1, 0, (9, 9)),
    ("mvi A(%r2),1", 1, 1, (0, 0)),
    ("oi A(%r2),1", 1, 1, (1, 0)),
    ("cs %r3,%r4,A(%r2)", 4, 4, (4, 0)),
    ("stmg %r3,%r5,A(%r2)", 1, 24, (0, 0)),
];

#[test]
fn a_watchpoint_stops_behind_the_store_with_the_value_stored() {
    let program = format!("llilf %r2,0x8ffc; lghi %r3,-1; stg %r3,0(%r2); aghi %r4,1; {DONE}");
    for at in [0x8ffc, 0x8fff, 0x9000, 0x9003] {
        let system = system(&program, 1, VIRTUAL);
        system.set_guest_debug(0, &watch(at, 1, WatchKind::Write)).unwrap();
        let reason = DebugReason::Watchpoint { address: at, kind: WatchKind::Write };
        assert_eq!(stop(&system), DebugExit { reason, psw_address: 0x2010 });
        assert_eq!((system.storage().ram().read_u64_be(0x8ffc), gpr(&system, 4)), (u64::MAX, 0));
        assert_eq!(parked(&system), 0);
    }
    for at in [0x8ffb, 0x9004] {
        let system = system(&program, 1, VIRTUAL);
        system.set_guest_debug(0, &watch(at, 1, WatchKind::Access)).unwrap();
        assert_eq!(parked(&system), 0);
    }
}

#[test]
fn a_move_across_pages_stops_for_either_operand() {
    let program = format!("llilf %r2,0x8f80; llilf %r3,0xaf80; mvc 0(256,%r2),0(%r3); {DONE}");
    for (at, kind, stops) in [
        (0x9010, WatchKind::Write, true),
        (0x9010, WatchKind::Read, false),
        (0xb07f, WatchKind::Read, true),
        (0xb07f, WatchKind::Write, false),
        (0xb07f, WatchKind::Access, true),
        (0x9080, WatchKind::Access, false),
    ] {
        let system = system(&program, 1, VIRTUAL);
        system.set_guest_debug(0, &watch(at, 1, kind)).unwrap();
        if stops {
            let reason = DebugReason::Watchpoint { address: at, kind };
            assert_eq!(stop(&system), DebugExit { reason, psw_address: 0x2012 });
        }
        assert_eq!(parked(&system), 0);
    }
}

#[test]
fn a_suppressed_instruction_touches_nothing() {
    // The second operand does not exist; the first is watched.
    let program = "llilf %r2,0x8000; llihl %r3,1; mvc 0(8,%r2),0(%r3)";
    let system = system(program, 1, VIRTUAL);
    system.set_guest_debug(0, &watch(0x8000, 8, WatchKind::Access)).unwrap();
    assert_eq!(parked(&system), 0x1d0);
    // The fetch operand is watched, the store operand does not exist.
    let program = "llilf %r2,0x8000; llihl %r3,1; mvc 0(8,%r3),0(%r2)";
    let system = self::system(program, 1, VIRTUAL);
    system.set_guest_debug(0, &watch(0x8000, 8, WatchKind::Read)).unwrap();
    assert_eq!(parked(&system), 0x1d0);
}

#[test]
fn what_an_interrupted_instruction_has_stored_counts() {
    // MOVE LONG fills up to the end of 0x41fff, then finds an invalid page.
    let system = paged();
    let ram = system.storage().ram();
    ram.write_u64_be(0x11000 + 8 * 0x41, 0x41000);
    ram.write_u64_be(0x61d0, 0x0002_0001_8000_0000);
    ram.write_u64_be(0x61d8, 0x1d0);
    ram.write_u16_be(0x2000, 0x0e24);
    let mut state = system.state(0).unwrap();
    (state.gprs[2], state.gprs[3], state.gprs[5]) = (0x41f00, 0x200, 0x5a00_0000);
    system.set_state(0, &state).unwrap();
    system.set_guest_debug(0, &watch(0x41fff, 1, WatchKind::Write)).unwrap();
    let reason = DebugReason::Watchpoint { address: 0x41fff, kind: WatchKind::Write };
    assert_eq!(stop(&system), DebugExit { reason, psw_address: 0x1d0 });
    assert_eq!((ram.read_u8(0x41fff), gpr(&system, 2)), (0x5a, 0x42000));
    assert_eq!(parked(&system), 0x1d0);
}

#[test]
fn the_target_of_execute_has_watchpoints_and_no_breakpoints() {
    let program =
        format!("llilf %r2,0x8000; exrl %r0,0f; aghi %r4,1; {DONE}; .balign 8; 0: mvc 0(4,%r2),8(%r2)");
    let system = system(&program, 1, VIRTUAL);
    let debug = GuestDebug { breakpoints: (0x2012..0x2100).collect(), ..watch(0x8008, 4, WatchKind::Read) };
    system.set_guest_debug(0, &debug).unwrap();
    let reason = DebugReason::Watchpoint { address: 0x8008, kind: WatchKind::Read };
    assert_eq!(stop(&system), DebugExit { reason, psw_address: 0x200c });
}

#[test]
fn code_in_a_watched_page_runs_and_only_operands_count() {
    let program = format!("lghi %r2,3; 0: aghi %r3,1; brctg %r2,0b; larl %r4,1f; mvi 1(%r4),9; 1: {DONE}");
    let system = system(&program, 1, VIRTUAL);
    system.set_guest_debug(0, &watch(0x2000, 0x100, WatchKind::Write)).unwrap();
    assert!(matches!(stop(&system).reason, DebugReason::Watchpoint { kind: WatchKind::Write, .. }));
    assert_eq!(gpr(&system, 3), 3);
}

#[test]
fn each_cpu_has_its_own_breakpoints() {
    // CPU 0 runs through to its disabled wait; CPU 1 stops at each turn.
    let program = format!("lghi %r2,50; 0: aghi %r3,1; brctg %r2,0b; {DONE}");
    let system = system(&program, 2, TimeMode::Real);
    system.set_guest_debug(1, &breakpoints(&[0x2004])).unwrap();
    let limit = RunLimit { instructions: None, block: true };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            (0..50).all(|_| {
                let exit = system.run(1, limit, None).unwrap();
                exit == CoreExit::Guest(Exit::Debug(at_breakpoint(0x2004)))
            })
        });
        let first = system.run(0, limit, None).unwrap();
        assert!(matches!(first, CoreExit::Guest(Exit::DisabledWait(_))), "{first:?}");
        assert!(other.join().unwrap());
    });
    assert!(matches!(system.run(1, limit, None).unwrap(), CoreExit::Guest(Exit::DisabledWait(_))));
    assert!(matches!(system.set_guest_debug(2, &steps()), Err(Error::NoSuchCpu { cpu: 2, max: 2 })));
}

#[test]
fn a_store_of_another_cpu_is_not_this_cpus_watchpoint() {
    let system = system(&format!("llilf %r2,0x8000; mvi 0(%r2),1; {DONE}"), 2, VIRTUAL);
    system.set_guest_debug(1, &watch(0x8000, 1, WatchKind::Write)).unwrap();
    assert_eq!(parked(&system), 0);
    let exit = system.run(1, FAR, None).unwrap();
    assert!(matches!(exit, CoreExit::Guest(Exit::Debug(_))), "{exit:?}");
}

/// The first mebibyte one to one, but 0x40000 leads to 0x50000, 0x41000 is read-only and 0x42000 invalid.
fn paged() -> System {
    let system = system(&format!("llilf %r2,0x40000; mvi 8(%r2),1; {DONE}"), 1, VIRTUAL);
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
            0x43 => 0x7fff_f000,
            _ => page << 12,
        };
        ram.write_u64_be(0x11000 + 8 * page as usize, entry);
    }
    let mut state = system.state(0).unwrap();
    state.psw.mask |= Psw::DAT;
    state.crs[1] = 0x10000;
    state.prefix = 0x6000;
    system.set_state(0, &state).unwrap();
    ram.copy_in(0x6000, &vec![0; 0x2000]);
    system
}

#[test]
fn sa22_7832_3_a_debugger_translates_without_a_trace() {
    let system = paged();
    let keys: Vec<_> = (0..0x400).map(|page| system.storage_key(page)).collect();
    let before = system.state(0).unwrap();
    let found = |absolute, writable| Some(Translation { absolute, writable });
    for (address, expected) in [
        (0x40123, found(0x50123, true)),
        (0x41fff, found(0x41fff, false)),
        (0x42000, None),
        (0x43000, None),
        (0x123, found(0x6123, true)),
        (0x7123, found(0x1123, true)),
        (0x10_0000, None),
        (1 << 31, None),
        (u64::MAX, None),
    ] {
        assert_eq!(system.translate(0, address).unwrap(), expected, "{address:#x}");
    }
    assert_eq!(system.state(0).unwrap(), before);
    assert_eq!((0..0x400).map(|page| system.storage_key(page)).collect::<Vec<_>>(), keys);
    // Without DAT only prefixing, and a real address beyond storage leads nowhere.
    let mut state = before;
    state.psw.mask &= !Psw::DAT;
    system.set_state(0, &state).unwrap();
    assert_eq!(system.translate(0, 0x40123).unwrap(), found(0x40123, true));
    assert_eq!(system.translate(0, 0x6fff).unwrap(), found(0xfff, true));
    assert_eq!(system.translate(0, 4 << 20).unwrap(), None);
    assert!(system.translate(9, 0).is_err());
}

#[test]
fn addresses_of_watchpoints_and_breakpoints_are_logical() {
    let system = paged();
    let debug = GuestDebug { breakpoints: vec![0x2006], ..watch(0x40008, 1, WatchKind::Write) };
    system.set_guest_debug(0, &debug).unwrap();
    assert_eq!(stop(&system), at_breakpoint(0x2006));
    let reason = DebugReason::Watchpoint { address: 0x40008, kind: WatchKind::Write };
    assert_eq!(stop(&system), DebugExit { reason, psw_address: 0x200a });
    assert_eq!(system.storage().ram().read_u8(0x50008), 1);
}

#[test]
fn every_register_that_is_set_at_a_stop_is_what_the_program_goes_on_with() {
    let program = format!("0: j 0b; .org 0x2100; stmg %r0,%r15,0x800(%r0); {DONE}");
    let system = system(&program, 1, VIRTUAL);
    system.set_guest_debug(0, &breakpoints(&[0x2100])).unwrap();
    let limit = RunLimit { instructions: Some(3), block: false };
    assert_eq!(system.run(0, limit, None).unwrap(), CoreExit::Guest(Exit::Budget));
    let changed = CpuState {
        psw: Psw { mask: Psw::EA | Psw::BA | 2 << 44, addr: 0x2100 },
        gprs: std::array::from_fn(|r| 0x1111_1111_1111_1111 * r as u64),
        ars: [0x0101_0101; 16],
        vrs: std::array::from_fn(|r| r as u128),
        fpc: 0x7000_0000,
        todpr: 5,
        clock_comparator: u64::MAX,
        cpu_timer: 1 << 40,
        ..system.state(0).unwrap()
    };
    system.set_state(0, &changed).unwrap();
    assert_eq!(system.state(0).unwrap(), changed);
    assert_eq!(stop(&system), at_breakpoint(0x2100));
    assert_eq!(system.state(0).unwrap(), changed, "nothing ran");
    system.set_guest_debug(0, &steps()).unwrap();
    stop(&system);
    for r in 0..16 {
        assert_eq!(system.storage().ram().read_u64_be(0x800 + 8 * r), changed.gprs[r]);
    }
}

#[test]
fn a_state_set_before_an_exit_is_completed_keeps_the_completion_unless_the_psw_moves() {
    let program = format!("diag %r4,%r6,0x258; aghi %r3,1; {DONE}");
    for (addr, result) in [(None, 7), (Some(0x2004), 7), (Some(0x2008), 0)] {
        let system = system(&program, 1, VIRTUAL);
        assert!(matches!(go(&system), Exit::Instruction(_)));
        let mut state = system.state(0).unwrap();
        assert_eq!(state.psw.addr, 0x2004);
        if let Some(addr) = addr {
            state.psw.addr = addr;
            state.gprs[9] = 9;
            system.set_state(0, &state).unwrap();
        }
        // Nothing is executed: so a debugger sees the instruction completed. Interruptions wait.
        system.inject_local(0, LocalInterrupt::Restart).unwrap();
        let none = RunLimit { instructions: Some(0), block: false };
        let exit = system.run(0, none, Some(Completion::result(7))).unwrap();
        assert_eq!(exit, CoreExit::Guest(Exit::Budget));
        let state = system.state(0).unwrap();
        assert_eq!((state.gprs[5], state.psw.addr), (result, addr.unwrap_or(0x2004)));
    }
}

#[test]
fn a_kick_stops_between_two_instructions_with_the_whole_state() {
    let program = "llilf %r5,0x8000; 0: aghi %r2,1; agr %r3,%r2; stg %r3,0(%r5); lgr %r4,%r3; j 0b";
    for debug in [GuestDebug::default(), breakpoints(&[0x9999]), watch(0x9999, 1, WatchKind::Access)] {
        let (system, counted) = (system(program, 1, TimeMode::Real), system(program, 1, VIRTUAL));
        system.set_guest_debug(0, &debug).unwrap();
        for _ in 0..30 {
            std::thread::scope(|scope| {
                let running = scope
                    .spawn(|| system.run(0, RunLimit { instructions: None, block: true }, None).unwrap());
                std::thread::sleep(Duration::from_micros(300));
                system.kick(0);
                assert_eq!(running.join().unwrap(), CoreExit::Guest(Exit::Kicked));
            });
            // What as many instructions do without a kick.
            let state = system.state(0).unwrap();
            let more = state.instructions - counted.state(0).unwrap().instructions;
            let limit = RunLimit { instructions: Some(more), block: false };
            assert_eq!(counted.run(0, limit, None).unwrap(), CoreExit::Guest(Exit::Budget));
            let expected = counted.state(0).unwrap();
            assert_eq!((state.psw, state.gprs), (expected.psw, expected.gprs));
            let memory = |system: &System| system.storage().ram().read_u64_be(0x8000);
            assert_eq!(memory(&system), memory(&counted));
        }
    }
}

#[test]
fn a_restart_interruption_reaches_an_operating_and_a_waiting_cpu() {
    let wait = "larl %r1,0f; lpswe 0(%r1); .balign 8; 0: .quad 0x0102000180000000, 0x1234";
    for (program, old) in [("0: j 0b", 0x2000), (wait, 0x1234)] {
        let system = system(program, 1, VIRTUAL);
        let limit = RunLimit { instructions: Some(10), block: false };
        system.run(0, limit, None).unwrap();
        system.inject_local(0, LocalInterrupt::Restart).unwrap();
        assert_eq!(parked(&system), 0x1a0);
        assert_eq!(system.storage().ram().read_u64_be(0x128), old);
    }
    // Also one that runs on its thread, or sleeps there.
    for program in ["0: j 0b", wait] {
        let system = system(program, 1, TimeMode::Real);
        std::thread::scope(|scope| {
            let running =
                scope.spawn(|| system.run(0, RunLimit { instructions: None, block: true }, None).unwrap());
            std::thread::sleep(Duration::from_millis(5));
            system.inject_local(0, LocalInterrupt::Restart).unwrap();
            let exit = running.join().unwrap();
            assert!(matches!(exit, CoreExit::Guest(Exit::DisabledWait(Psw { addr: 0x1a0, .. }))), "{exit:?}");
        });
    }
}

#[test]
fn stopped_time_stands_for_the_clock_and_both_timers_and_goes_on_without_a_jump() {
    let program = "larl %r1,0f; lctlg %c0,%c0,0(%r1); spt 8(%r1); lpswe 16(%r1)
        .balign 8; 0: .quad 0x400, 0x7fffffffffff, 0x0102000180000000, 0x1234";
    let system = system(program, 1, TimeMode::Real);
    assert!(matches!(go(&system), Exit::Idle { wake_after_ns: Some(_) }));
    let begin = Instant::now();
    let before = system.tod();
    system.stop_time();
    let (tod, state) = (system.tod(), system.state(0).unwrap());
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!((system.tod(), system.state(0).unwrap()), (tod, state.clone()));
    system.resume_time();
    // 4.096 units a nanosecond.
    let seen = |units: u64| Duration::from_nanos(units * 1000 / 4096) + Duration::from_millis(50);
    assert!(seen(state.cpu_timer - system.state(0).unwrap().cpu_timer) <= begin.elapsed());
    assert!(seen(system.tod() - before) <= begin.elapsed());
}
