//! The core under a protecting mechanism: views, imports, calls, filters. The mechanism here is a stub.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use cloister_arch::s390x::{
    Exit, GuestDebug, Instruction, Psw, RunState, TimeMode, VmConfig, WatchKind, Watchpoint, facility,
};
use cloister_cpu_s390x::{CoreExit, Error, PageView, RunLimit, SecureGuest, System, UvcAnswer, UvcOperands};
use cloister_memory::{NoShootdown, Representation, Shootdown, Storage};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

struct Stub {
    storage: Arc<Storage>,
    shared: Mutex<BTreeSet<u64>>,
}

impl SecureGuest for Stub {
    fn active(&self) -> bool {
        true
    }

    fn resolve(&self, _cpu: u16, page: u64, _write: bool) -> PageView {
        match self.storage.representation(page) {
            None => PageView::None,
            Some(Representation::Plain) => PageView::Private,
            Some(Representation::Raw) if self.shared.lock().unwrap().contains(&page) => PageView::Shared,
            Some(_) => PageView::NeedsImport,
        }
    }

    /// Shares the page whose address stands at offset 8.
    fn uvc(
        &self,
        _cpu: u16,
        block: &mut [u8],
        operands: &mut dyn UvcOperands,
        flush: &dyn Shootdown,
    ) -> UvcAnswer {
        let page = u64::from_be_bytes(block[8..16].try_into().unwrap()) >> 12;
        self.shared.lock().unwrap().insert(page);
        self.storage.share(page, flush).unwrap();
        block[4..6].copy_from_slice(&[0, 1]);
        UvcAnswer::default()
    }
}

fn system(program: &str, pages: &[u64]) -> System {
    let source = format!(
        ".origin 0; .org 0x1d0; .quad 0x0002000180000000, 0x1d0; .org 0x2000
         {program}
         larl %r15,1f; lpswe 0(%r15); .balign 8; 1: .quad 0x0002000180000000, 0"
    );
    let object = cloister_asm_s390x::assemble(&source, "test.s").unwrap();
    let storage = Arc::new(Storage::new(1 << 20).unwrap());
    storage.ram().copy_in(0, &object.bytes);
    for &page in pages {
        storage.unshare(page, &NoShootdown).unwrap();
    }
    let mut facilities = [0; 4];
    for bit in [0, 1, 2, 7, 18, 21, 34, 35, 158, 161] {
        facility::set(&mut facilities, bit, true);
    }
    let config = VmConfig {
        memory_bytes: storage.size(),
        max_cpus: 1,
        facilities,
        cpu_id: 0,
        time: TimeMode::Virtual { shift: 0 },
        tod_start: Some(1 << 60),
        name: "protected".into(),
        uuid: [0; 16],
    };
    let system = System::new(config, Arc::clone(&storage)).unwrap();
    system.set_protected(Some(Arc::new(Stub { storage, shared: Mutex::default() })));
    let mut state = system.state(0).unwrap();
    state.psw = Psw { mask: Psw::EA | Psw::BA, addr: 0x2000 };
    state.run_state = RunState::Operating;
    system.set_state(0, &state).unwrap();
    system
}

fn run(system: &System) -> CoreExit {
    system.run(0, RunLimit { instructions: Some(1000), block: false }, None).unwrap()
}

#[test]
fn a_page_that_the_guest_does_not_hold_is_imported_and_the_instruction_done_again() {
    let system = system("llilf %r2,0x8ffc; lghi %r3,-1; stg %r3,0(%r2)", &[0, 1, 2]);
    for page in [8, 9] {
        assert_eq!(run(&system), CoreExit::Import { page });
        assert_eq!(system.state(0).unwrap().psw.addr, 0x200a);
        system.storage().clear_plain(page, &NoShootdown).unwrap();
    }
    assert!(matches!(run(&system), CoreExit::Guest(Exit::DisabledWait(Psw { addr: 0, .. }))));
    let ram = system.storage().ram();
    assert_eq!(ram.read_u64_be(0x8ffc), 0, "the host sees nothing");
}

#[test]
fn the_prefix_pages_are_imported_before_an_instruction_runs() {
    let system = system("lghi %r2,1", &[2]);
    assert_eq!(run(&system), CoreExit::Import { page: 0 });
    system.storage().clear_plain(0, &NoShootdown).unwrap();
    assert_eq!(run(&system), CoreExit::Import { page: 1 });
    assert_eq!(system.instructions(0), 0);
}

#[test]
fn a_shared_page_is_visible_to_the_host_and_still_to_the_guest() {
    let program = "llilf %r2,0x8000; mvghi 0(%r2),0x1234; larl %r3,9f; uvc %r0,%r3; ipm %r6
        mvghi 8(%r2),0x5678; lg %r4,0(%r2); j 8f; .balign 8; 9: .byte 0,0x10,0x10,0,0,0,0,0; .quad 0x8000; 8:";
    let program = program.replace("uvc %r0,%r3", ".byte 0xb9,0xa4,0,0x03");
    let system = system(&program, &[0, 1, 2, 8]);
    assert!(matches!(run(&system), CoreExit::Guest(Exit::DisabledWait(_))));
    let ram = system.storage().ram();
    assert_eq!((ram.read_u64_be(0x8000), ram.read_u64_be(0x8008)), (0x1234, 0x5678));
    let state = system.state(0).unwrap();
    assert_eq!((state.gprs[4], state.gprs[6] as u32 >> 28), (0x1234, 0));
}

#[test]
fn a_protected_guest_sees_facility_158_and_not_161() {
    let system = system("lghi %r0,3; llilf %r2,0x2800; stfle 0(%r2); lg %r5,16(%r2)", &[0, 1, 2]);
    assert!(matches!(run(&system), CoreExit::Guest(Exit::DisabledWait(_))));
    assert_eq!(system.state(0).unwrap().gprs[5], 1 << (63 - 158 % 64));
}

#[test]
fn an_instruction_exit_of_a_protected_guest_is_marked_and_normalised() {
    let system = system("diag %r4,%r6,0x258", &[0, 1, 2]);
    let CoreExit::Guest(Exit::Instruction(exit)) = run(&system) else { panic!() };
    assert!(exit.protected);
    assert!(matches!(exit.instruction, Instruction::Diag { r1: 0, code: 0x258, .. }));
}

#[test]
fn a_disabled_wait_of_a_protected_guest_shows_neither_place_nor_mode() {
    let program = "larl %r15,1f; lpswe 0(%r15); .balign 8; 1: .quad 0x0002300180000000, 0x1234";
    let system = system(program, &[0, 1, 2]);
    let CoreExit::Guest(Exit::DisabledWait(psw)) = run(&system) else { panic!() };
    assert_eq!(psw, Psw { mask: Psw::WAIT, addr: 0 });
}

#[test]
fn a_protected_guest_that_loops_in_exceptions_does_not_show_where() {
    // The program new PSW has an odd address.
    let system = system(".byte 0,0", &[0, 1, 2]);
    let new = system.storage().ram();
    let offset = match system.storage().lookup_for_fill(0, 0, cloister_memory::View::Plain) {
        cloister_memory::Fill::Page(page) => page.offset,
        other => panic!("{other:?}"),
    };
    new.write_u64_be(offset + 0x1d0, 0x0000_0001_8000_0000);
    new.write_u64_be(offset + 0x1d8, 0xabcd1);
    let CoreExit::Guest(Exit::Stuck { reason }) = run(&system) else { panic!() };
    assert!(reason.contains("again and again") && !reason.contains("abcd1"), "{reason}");
}

/// A mechanism that is switched on while the machine runs.
struct Switched(Stub, AtomicBool);

impl SecureGuest for Switched {
    fn active(&self) -> bool {
        self.1.load(Ordering::SeqCst)
    }

    fn resolve(&self, cpu: u16, page: u64, write: bool) -> PageView {
        self.0.resolve(cpu, page, write)
    }

    fn uvc(
        &self,
        cpu: u16,
        block: &mut [u8],
        operands: &mut dyn UvcOperands,
        flush: &dyn Shootdown,
    ) -> UvcAnswer {
        self.0.uvc(cpu, block, operands, flush)
    }
}

#[test]
fn what_a_debugger_set_in_the_clear_is_dropped_when_the_guest_becomes_protected() {
    let program = "lghi %r2,3; 0: mvghi 0x400(%r0),1; lg %r3,0x400(%r0); brctg %r2,0b";
    let every = (0x2000..0x2040).collect::<Vec<_>>();
    let watchpoints = vec![Watchpoint { address: 0, len: 0x1000, kind: WatchKind::Access }];
    for debug in [
        GuestDebug { breakpoints: every.clone(), ..GuestDebug::default() },
        GuestDebug { watchpoints: watchpoints.clone(), ..GuestDebug::default() },
        GuestDebug { single_step: true, ..GuestDebug::default() },
        GuestDebug { single_step: true, breakpoints: every, watchpoints },
    ] {
        let system = system(program, &[]);
        let stub = Stub { storage: Arc::clone(system.storage()), shared: Mutex::default() };
        let guest = Arc::new(Switched(stub, AtomicBool::new(false)));
        system.set_protected(Some(Arc::clone(&guest) as _));
        system.set_guest_debug(0, &debug).unwrap();
        // It works, and a stop is due when the guest becomes protected.
        assert!(matches!(run(&system), CoreExit::Guest(Exit::Debug(_))));
        let state = system.state(0).unwrap();
        for page in [0, 1, 2] {
            system.storage().unshare(page, &NoShootdown).unwrap();
        }
        guest.1.store(true, Ordering::SeqCst);
        system.set_protected(Some(Arc::clone(&guest) as _));
        let mut start = state.clone();
        start.psw.addr = 0x2000;
        system.set_state(0, &start).unwrap();
        assert!(matches!(run(&system), CoreExit::Guest(Exit::DisabledWait(Psw { addr: 0, .. }))));
        // Nothing can be set or asked now, and what was set does not come back with the clear guest.
        let refused = system.set_guest_debug(0, &debug).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the guest runs protected: its registers are not visible to the host"
        );
        assert!(matches!(system.translate(0, 0x2000), Err(Error::Protected)));
        assert!(matches!(system.host_state(0), Err(Error::Protected)));
        assert!(matches!(system.set_host_state(0, &start), Err(Error::Protected)));
        guest.1.store(false, Ordering::SeqCst);
        for page in [0, 1, 2] {
            system.storage().share(page, &NoShootdown).unwrap();
        }
        system.set_protected(Some(guest));
        system.set_state(0, &start).unwrap();
        assert!(matches!(run(&system), CoreExit::Guest(Exit::DisabledWait(_))));
    }
}

#[test]
fn a_step_that_was_due_in_the_clear_is_not_reported_by_a_protected_cpu() {
    let system = system("diag %r4,%r6,0x258; lghi %r3,1", &[]);
    let stub = Stub { storage: Arc::clone(system.storage()), shared: Mutex::default() };
    let guest = Arc::new(Switched(stub, AtomicBool::new(false)));
    system.set_protected(Some(Arc::clone(&guest) as _));
    system.set_guest_debug(0, &GuestDebug { single_step: true, ..GuestDebug::default() }).unwrap();
    assert!(matches!(run(&system), CoreExit::Guest(Exit::Instruction(_))));
    for page in [0, 1, 2] {
        system.storage().unshare(page, &NoShootdown).unwrap();
    }
    guest.1.store(true, Ordering::SeqCst);
    system.set_protected(Some(guest));
    assert!(matches!(run(&system), CoreExit::Guest(Exit::DisabledWait(_))));
}

/// The host asks while the clear guest runs, and is answered when the guest has become protected.
#[test]
fn a_question_asked_in_the_clear_is_not_answered_in_protected_mode() {
    let system = system("0: j 0b", &[]);
    let stub = Stub { storage: Arc::clone(system.storage()), shared: Mutex::default() };
    let guest = Arc::new(Switched(stub, AtomicBool::new(false)));
    system.set_protected(Some(Arc::clone(&guest) as _));
    let state = system.state(0).unwrap();
    std::thread::scope(|scope| {
        let running =
            scope.spawn(|| system.run(0, RunLimit { instructions: None, block: true }, None).unwrap());
        std::thread::sleep(Duration::from_millis(20));
        let questions: [Box<dyn FnOnce() -> Option<Error> + Send>; 4] = [
            Box::new(|| system.host_state(0).err()),
            Box::new(|| system.set_host_state(0, &state).err()),
            Box::new(|| system.translate(0, 0x2000).err()),
            Box::new(|| system.set_guest_debug(0, &GuestDebug::default()).err()),
        ];
        let questions = questions.map(|question| scope.spawn(question));
        std::thread::sleep(Duration::from_millis(20));
        guest.1.store(true, Ordering::SeqCst);
        system.kick(0);
        assert_eq!(running.join().unwrap(), CoreExit::Guest(Exit::Kicked));
        for question in questions {
            assert!(matches!(question.join().unwrap(), Some(Error::Protected)));
        }
    });
}
