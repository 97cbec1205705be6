//! Debugging, pausing and restarting a guest through the lower door, every message as bytes.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use cloister_arch::s390x::{
    CpuRequest, CpuResponse, CpuState, DebugExit, DebugReason, Exit, GuestDebug, LocalInterrupt, Psw,
    RunLimit, RunState, TimeMode, Translation, VmConfig, WatchKind, Watchpoint,
};
use cloister_crypto::SystemEntropy;
use cloister_firmware_api::{Door, Guest, Left, Loopback, Request, Response};
use cloister_formats::s390x::uvcb::{CreateSecConf, Handle, Init, Qui, UvCommand};
use cloister_platform_store::{CreateOptions, Platform};
use cloister_silicon_s390x::Silicon;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const PROLOGUE: &str = "
    .origin 0
    .org 0x1a0
    .quad 0x0002000180000000, 0x1a0
    .quad 0x0002000180000000, 0x1b0
    .quad 0x0002000180000000, 0x1c0
    .quad 0x0002000180000000, 0x1d0
    .org 0x2000
";
/// What a protected CPU's debugger reads.
const REFUSAL: &str = "the guest runs protected: its registers are not visible to the host";
const TURN: RunLimit = RunLimit { instructions: Some(1000), block: false };

/// A machine with one guest whose CPU 0 is at 0x2000.
struct Machine {
    door: Loopback,
    silicon: Arc<Silicon>,
    guest: Guest,
}

impl Machine {
    fn new(program: &str, cpus: u16) -> Self {
        let platform =
            Platform::ephemeral_s390x(&CreateOptions::default(), &mut SystemEntropy, SystemTime::now())
                .unwrap();
        let silicon = Arc::new(Silicon::new(platform));
        let door = Loopback::new(Arc::clone(&silicon) as _);
        let Response::Machine(machine) = door.call(Request::Machine) else { panic!("no machine") };
        let config = VmConfig {
            memory_bytes: 1 << 20,
            max_cpus: cpus,
            facilities: machine.facilities,
            cpu_id: 0,
            time: TimeMode::Real,
            tod_start: Some(0xe000_0000_0000_0000),
            name: "debug".into(),
            uuid: [0; 16],
        };
        let Response::Guest(guest) = door.call(Request::CreateGuest(Box::new(config))) else {
            panic!("no guest")
        };
        let object = cloister_asm_s390x::assemble(&format!("{PROLOGUE}{program}"), "test.s").unwrap();
        silicon.storage().unwrap().ram().copy_in(object.origin as usize, &object.bytes);
        let machine = Self { door, silicon, guest };
        (0..cpus).for_each(|cpu| machine.start(cpu));
        machine
    }

    fn start(&self, cpu: u16) {
        let mut state = self.state(cpu);
        state.psw = Psw { mask: Psw::EA | Psw::BA, addr: 0x2000 };
        state.run_state = RunState::Operating;
        self.done(CpuRequest::SetState { cpu, state: Box::new(state) });
    }

    fn cpu(&self, request: CpuRequest) -> CpuResponse {
        match self.door.call(Request::Cpu(request)) {
            Response::Cpu(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn done(&self, request: CpuRequest) {
        assert_eq!(self.cpu(request), CpuResponse::Done);
    }

    fn state(&self, cpu: u16) -> CpuState {
        match self.cpu(CpuRequest::State { cpu }) {
            CpuResponse::State(state) => *state,
            other => panic!("{other:?}"),
        }
    }

    fn tod(&self) -> u64 {
        match self.cpu(CpuRequest::Tod) {
            CpuResponse::Tod(tod) => tod,
            other => panic!("{other:?}"),
        }
    }

    fn enter(&self, cpu: u16, limit: RunLimit) -> Left {
        match self.door.call(Request::Enter { cpu, limit, completion: None }) {
            Response::Left(left) => left,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn uvc(&self, block: Vec<u8>) -> Vec<u8> {
        match self.door.call(Request::Uvc { block, data: Vec::new() }) {
            Response::Uvc { cc: 0, block, .. } => block,
            other => panic!("{other:x?}"),
        }
    }

    /// Makes the guest protected, as far as a configuration without CPUs does; its handle.
    fn protect(&self) -> u64 {
        const GIB: u64 = 1 << 30;
        let mut query = vec![0; Qui::MIN_LEN];
        query[..4].copy_from_slice(&[(Qui::MIN_LEN >> 8) as u8, Qui::MIN_LEN as u8, 0, 1]);
        let Response::Uvc { block, .. } = self.door.call(Request::Uvc { block: query, data: Vec::new() })
        else {
            panic!("no Ultravisor")
        };
        let stor_len = u64::from_be_bytes(block[0x40..0x48].try_into().unwrap());
        self.uvc(Init { stor_origin: 2 * GIB, stor_len }.encode());
        let block = CreateSecConf {
            base_origin: 16 * GIB,
            virt_origin: 17 * GIB,
            mso: self.guest.origin,
            guest_len: self.guest.size,
            sca: 18 * GIB,
            asce: self.guest.origin | 0x27,
            ..CreateSecConf::default()
        };
        CreateSecConf::parse(&self.uvc(block.encode())).unwrap().guest_handle
    }
}

fn breakpoint(address: u64) -> Left {
    let reason = DebugReason::Breakpoint { address };
    Left::Exit(Exit::Debug(DebugExit { reason, psw_address: address }))
}

#[test]
fn a_clear_guest_is_debugged_through_the_door() {
    let machine = Machine::new("lghi %r2,7; sth %r2,0x800(%r0); 0: j 0b", 1);
    let watchpoints = vec![Watchpoint { address: 0x801, len: 1, kind: WatchKind::Write }];
    let debug = GuestDebug { single_step: false, breakpoints: vec![0x2004], watchpoints };
    machine.done(CpuRequest::SetGuestDebug { cpu: 0, debug });
    assert_eq!(machine.enter(0, TURN), breakpoint(0x2004));
    assert_eq!(machine.state(0).gprs[2], 7);
    let reason = DebugReason::Watchpoint { address: 0x801, kind: WatchKind::Write };
    assert_eq!(machine.enter(0, TURN), Left::Exit(Exit::Debug(DebugExit { reason, psw_address: 0x2008 })));
    let step = GuestDebug { single_step: true, ..GuestDebug::default() };
    machine.done(CpuRequest::SetGuestDebug { cpu: 0, debug: step });
    let stepped = DebugExit { reason: DebugReason::Step, psw_address: 0x2008 };
    assert_eq!(machine.enter(0, TURN), Left::Exit(Exit::Debug(stepped)));
    machine.done(CpuRequest::SetGuestDebug { cpu: 0, debug: GuestDebug::default() });
    assert_eq!(machine.enter(0, TURN), Left::Exit(Exit::Budget));
    let translate = |address| machine.cpu(CpuRequest::Translate { cpu: 0, address });
    let found = Translation { absolute: 0x2abc, writable: true };
    assert_eq!(translate(0x2abc), CpuResponse::Translated(Some(found)));
    assert_eq!(translate(1 << 20), CpuResponse::Translated(None));
    let absent = machine.cpu(CpuRequest::Translate { cpu: 1, address: 0 });
    assert!(matches!(absent, CpuResponse::Refused(why) if why.contains("CPU 1 does not exist")));
}

#[test]
fn a_protected_cpu_shows_a_debugger_nothing_and_forgets_what_was_set() {
    let machine = Machine::new("0: aghi %r2,1; j 0b", 1);
    let every = GuestDebug {
        single_step: true,
        breakpoints: (0..0x3000).collect(),
        watchpoints: vec![Watchpoint { address: 0, len: u64::MAX, kind: WatchKind::Access }],
    };
    machine.done(CpuRequest::SetGuestDebug { cpu: 0, debug: every.clone() });
    assert_eq!(machine.enter(0, TURN), breakpoint(0x2000));
    let state = Box::new(machine.state(0));
    let guest_handle = machine.protect();
    for request in [
        CpuRequest::SetGuestDebug { cpu: 0, debug: every },
        CpuRequest::SetGuestDebug { cpu: 0, debug: GuestDebug::default() },
        CpuRequest::Translate { cpu: 0, address: 0x2000 },
        CpuRequest::State { cpu: 0 },
        CpuRequest::SetState { cpu: 0, state },
    ] {
        assert_eq!(machine.cpu(request), CpuResponse::Refused(REFUSAL.into()));
    }
    // It asks for its pages, and for nothing else.
    for _ in 0..3 {
        assert!(matches!(machine.enter(0, TURN), Left::Import { .. }));
    }
    machine.uvc(Handle { handle: guest_handle }.encode(UvCommand::DESTROY_SEC_CONF).unwrap());
    machine.start(0);
    let left = machine.enter(0, RunLimit { instructions: Some(1), block: false });
    assert!(!matches!(left, Left::Exit(Exit::Debug(_)) | Left::Import { .. }), "{left:?}");
}

#[test]
fn a_kicked_cpu_leaves_with_its_whole_state_and_goes_on() {
    let machine = Machine::new("0: aghi %r2,1; agr %r3,%r2; j 0b", 2);
    let forever = RunLimit { instructions: None, block: true };
    for _ in 0..10 {
        std::thread::scope(|scope| {
            let cpus = [0, 1].map(|cpu| {
                let machine = &machine;
                scope.spawn(move || machine.enter(cpu, forever))
            });
            std::thread::sleep(Duration::from_millis(1));
            for cpu in [0, 1] {
                machine.done(CpuRequest::Kick { cpu });
            }
            for running in cpus {
                assert_eq!(running.join().unwrap(), Left::Exit(Exit::Kicked));
            }
        });
        for cpu in [0, 1] {
            let state = machine.state(cpu);
            let (n, sum) = (state.gprs[2], state.gprs[3]);
            let before = |n: u64| n.wrapping_mul(n.wrapping_add(1)) / 2;
            let expected = if state.psw.addr == 0x2004 { before(n - 1) } else { before(n) };
            assert_eq!(sum, expected, "CPU {cpu} at {:#x}", state.psw.addr);
            let done = match state.psw.addr {
                0x2000 => 3 * n,
                0x2004 => 3 * n - 2,
                0x2008 => 3 * n - 1,
                other => panic!("between instructions: {other:#x}"),
            };
            assert_eq!(state.instructions, done);
        }
    }
}

#[test]
fn a_restart_is_injected_into_a_running_a_waiting_and_a_stopped_cpu() {
    let wait = "larl %r1,0f; lpswe 0(%r1); .balign 8; 0: .quad 0x0102000180000000, 0x1234";
    for (program, stopped) in [("0: j 0b", false), (wait, false), ("0: j 0b", true)] {
        let machine = Machine::new(program, 1);
        if stopped {
            machine.done(CpuRequest::SetRunState { cpu: 0, state: RunState::Stopped });
        }
        std::thread::scope(|scope| {
            let running = scope.spawn(|| machine.enter(0, RunLimit { instructions: None, block: true }));
            std::thread::sleep(Duration::from_millis(5));
            machine.done(CpuRequest::InjectLocal { cpu: 0, interrupt: LocalInterrupt::Restart });
            let left = running.join().unwrap();
            assert!(matches!(left, Left::Exit(Exit::DisabledWait(Psw { addr: 0x1a0, .. }))), "{left:?}");
        });
        let psw = machine.silicon.storage().unwrap().ram().read_u64_be(0x128);
        assert_eq!(psw, if program == wait { 0x1234 } else { 0x2000 });
    }
}

#[test]
fn time_stands_while_the_guest_is_paused_and_goes_on_without_a_jump() {
    // A CPU timer far away, in an enabled wait.
    let program = "larl %r1,0f; lctlg %c0,%c0,0(%r1); spt 8(%r1); lpswe 16(%r1)
        .balign 8; 0: .quad 0x400, 0xffffffffff, 0x0102000180000000, 0x1234";
    let machine = Machine::new(program, 1);
    let left = |machine: &Machine| match machine.enter(0, TURN) {
        Left::Exit(Exit::Idle { wake_after_ns: Some(ns) }) => ns,
        other => panic!("{other:?}"),
    };
    left(&machine);
    let (timer, begin) = (machine.state(0).cpu_timer, Instant::now());
    for _ in 0..3 {
        machine.done(CpuRequest::StopTime);
        let (tod, ns, state) = (machine.tod(), left(&machine), machine.state(0));
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!((machine.tod(), left(&machine), machine.state(0)), (tod, ns, state));
        machine.done(CpuRequest::ResumeTime);
    }
    // 4.096 units a nanosecond.
    let seen = Duration::from_nanos((timer - machine.state(0).cpu_timer) * 1000 / 4096);
    assert!(seen + Duration::from_millis(300) <= begin.elapsed(), "{seen:?}");
}
