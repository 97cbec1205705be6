//! The remote protocol against a session, packet by packet.

use crate::fake::{COUNTER, HOLE, START, STORE, Toy, VIRTUAL};
use cloister_control::{Event, Machine, RunState};
use cloister_gdb::{Monitor, Session};
use proptest::prelude::*;
use std::sync::Arc;

fn monitor() -> Monitor {
    Arc::new(|line| format!("you said {line}\n"))
}

fn packet(body: &str) -> Vec<u8> {
    let sum = body.bytes().fold(0u8, u8::wrapping_add);
    format!("${body}#{sum:02x}").into_bytes()
}

/// A debugger that has said hello.
struct Debugger {
    session: Session,
}

impl Debugger {
    fn attach(toy: &Arc<Toy>) -> Self {
        let session = Session::new(Arc::<Toy>::clone(toy), monitor()).expect("a machine with CPUs");
        let mut debugger = Self { session };
        let hello = debugger.ask("qSupported:multiprocess+;swbreak+;hwbreak+");
        assert!(hello.contains("PacketSize=4000;") && hello.contains("swbreak+"), "{hello}");
        assert!(hello.starts_with('+'), "{hello}");
        assert_eq!(debugger.ask("QStartNoAckMode"), "+$OK#9a");
        debugger
    }

    fn send(&mut self, bytes: &[u8]) -> String {
        self.session.receive(bytes);
        String::from_utf8_lossy(&self.session.take_output()).into_owned()
    }

    /// All that comes, as it comes.
    fn ask(&mut self, body: &str) -> String {
        self.send(&packet(body))
    }

    /// The body of the only packet that comes.
    fn answer(&mut self, body: &str) -> String {
        let text = self.ask(body);
        let body = text.strip_prefix('$').and_then(|text| text.rsplit_once('#'));
        body.unwrap_or_else(|| panic!("{body:?}: {text:?}")).0.to_owned()
    }
}

fn console(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_connection_without_a_packet_does_nothing_and_the_first_packet_stops_the_machine() {
    let toy = Toy::new();
    let mut session = Session::new(Arc::<Toy>::clone(&toy), monitor()).unwrap();
    session.receive(b"GET / HTTP/1.0\r\n\r\n\x03+-$g#00$?#3");
    assert!(toy.run_state().is_running() && toy.take_calls().is_empty());
    session.receive(b"f");
    assert_eq!(toy.take_calls(), ["stop"]);
    drop(session);
    // As with QEMU: a debugger that vanishes leaves the machine as it is.
    assert_eq!(toy.run_state(), RunState::Paused);
}

#[test]
fn breakpoints_steps_and_scheduler_locking_reach_the_platform() {
    let toy = Toy::new();
    let mut gdb = Debugger::attach(&toy);
    toy.take_calls();
    assert_eq!(gdb.answer("vCont?"), "vCont;c;C;s;S");
    // Stepping one CPU alone.
    assert_eq!(gdb.answer("vCont;s:p1.2"), "T05thread:p01.02;");
    assert_eq!(toy.take_calls(), ["cont_only [1]"]);
    assert_eq!(toy.platform.state().cpus[1].psw.addr, START + 4);
    assert_eq!(toy.platform.state().cpus[0].psw.addr, START);
    // Stepping one CPU while the others go on.
    assert_eq!(gdb.answer("vCont;s:p1.1;c:p1.-1"), "T05thread:p01.01;");
    assert_eq!(toy.take_calls(), ["cont"]);
    assert_eq!(toy.platform.state().cpus[1].psw.addr, START + 8);
    // Both kinds of breakpoint.
    assert_eq!(gdb.answer(&format!("Z0,{:x},2", START + 0x18)), "OK");
    assert_eq!(gdb.answer("vCont;c:p1.1"), "T05thread:p01.01;swbreak:;");
    assert_eq!(gdb.answer(&format!("z0,{:x},2", START + 0x18)), "OK");
    assert_eq!(gdb.answer(&format!("Z1,{:x},2", START + 4)), "OK");
    assert_eq!(gdb.answer("vCont;c:p1.1"), "T05thread:p01.01;hwbreak:;");
    assert!(!toy.is_clean());
    toy.take_calls();
    assert_eq!(gdb.answer("D;1"), "OK");
    assert!(gdb.session.has_ended() && toy.is_clean());
    assert_eq!(toy.take_calls(), ["cont"]);
}

#[test]
fn two_cpus_at_a_breakpoint_are_reported_one_after_the_other() {
    let toy = Toy::new();
    let mut gdb = Debugger::attach(&toy);
    let point = format!("0,{:x},2", START + 8);
    gdb.ask(&format!("Z{point}"));
    assert_eq!(gdb.answer("vCont;c"), "T05thread:p01.01;swbreak:;");
    toy.take_calls();
    // Not while the first is stepped off it alone.
    gdb.ask(&format!("z{point}"));
    gdb.ask(&format!("Z{point}"));
    assert_eq!(gdb.answer("vCont;s:p1.1"), "T05thread:p01.01;");
    assert_eq!(gdb.answer("vCont;c"), "T05thread:p01.02;swbreak:;");
    assert_eq!(toy.take_calls(), ["cont_only [0]"]);
}

#[test]
fn watchpoints_say_what_was_touched() {
    let toy = Toy::new();
    let mut gdb = Debugger::attach(&toy);
    assert_eq!(gdb.answer(&format!("Z2,{COUNTER:x},8")), "OK");
    assert_eq!(gdb.answer("vCont;c:p1.1"), format!("T05thread:p01.01;watch:{COUNTER:04x};"));
    assert_eq!(toy.platform.state().cpus[0].psw.addr, STORE + 4);
    gdb.ask(&format!("z2,{COUNTER:x},8"));
    assert_eq!(gdb.answer(&format!("Z4,{COUNTER:x},8")), "OK");
    assert_eq!(gdb.answer("vCont;c:p1.1"), format!("T05thread:p01.01;awatch:{COUNTER:04x};"));
}

#[test]
fn memory_is_read_by_the_cpu_s_addresses_page_by_page_or_by_absolute_ones() {
    let toy = Toy::new();
    let mut gdb = Debugger::attach(&toy);
    gdb.ask("Hgp1.1");
    assert_eq!(gdb.answer(&format!("M{:x},4:01020304", VIRTUAL + HOLE - 4)), "OK");
    assert_eq!(gdb.answer(&format!("m{:x},2", VIRTUAL + HOLE - 3)).replace("0*", ""), "0203");
    // As far as it goes; nothing of it is an error.
    assert_eq!(gdb.answer(&format!("m{:x},10", VIRTUAL + HOLE - 4)), "01020304");
    assert_eq!(gdb.answer(&format!("m{:x},4", VIRTUAL + HOLE)), "E0e");
    // A write is done as a whole or not at all.
    assert_eq!(gdb.answer(&format!("M{:x},2:aabb", VIRTUAL + HOLE - 1)), "E0e");
    assert_eq!(gdb.answer(&format!("m{:x},1", VIRTUAL + HOLE - 1)), "04");
    assert_eq!(gdb.answer("qqemu.PhyMemMode"), "0");
    assert_eq!(gdb.answer("Qqemu.PhyMemMode:1"), "OK");
    assert_eq!(gdb.answer(&format!("m{:x},4", HOLE - 4)), "01020304");
    assert_eq!(gdb.answer(&format!("m{:x},4", VIRTUAL + HOLE - 4)), "E0e");
    assert_eq!(gdb.answer(&format!("M{HOLE:x},1:ff")), "OK");
    assert_eq!(gdb.answer(&format!("m{HOLE:x},1")), "ff");
    // Lengths and ends that do not exist.
    for address in ["0", "ffffffffffffffff", "fffff"] {
        let answer = gdb.ask(&format!("m{address},ffffffffffffffff"));
        assert!(answer.len() <= 0x4004, "{}", answer.len());
    }
}

#[test]
fn a_stop_or_an_end_from_elsewhere_is_told_to_a_debugger_that_waits() {
    let toy = Toy::new();
    let mut gdb = Debugger::attach(&toy);
    assert_eq!(gdb.ask("vCont;c"), "");
    gdb.session.poll();
    assert!(gdb.session.take_output().is_empty());
    toy.stop().unwrap();
    gdb.session.poll();
    assert!(gdb.session.take_output().starts_with(b"$T02thread:p01.01;#"));
    // `cont` elsewhere, while the debugger thinks that the machine stands still.
    toy.cont().unwrap();
    assert!(gdb.answer("g").contains("123456789abcdef"));
    assert_eq!(gdb.ask("vCont;c"), "");
    assert!(gdb.send(b"\x03").starts_with("$T02thread:"));
    assert_eq!(gdb.ask("vCont;c"), "");
    toy.becomes(RunState::Shutdown, Event::Shutdown(cloister_control::Cause::GuestShutdown));
    gdb.session.poll();
    assert!(gdb.session.take_output().starts_with(b"$T03thread:"));
    // Only a reset helps: the machine says so, and gdb prints it.
    let refused = gdb.ask("vCont;c");
    assert!(refused.contains(&console("Resetting the Virtual Machine is required")), "{refused}");
    assert!(refused.contains("$T05thread:"), "{refused}");
    toy.becomes(RunState::Paused, Event::Stop);
    assert_eq!(gdb.ask("vCont;c"), "");
    gdb.session.machine_ends(0);
    assert_eq!(gdb.session.take_output(), b"$W00#b7");
    assert!(gdb.session.has_ended());
}

#[test]
fn kill_ends_the_machine() {
    for (body, answer) in [("vKill;1", "$OK#9a"), ("k", "")] {
        let toy = Toy::new();
        let mut gdb = Debugger::attach(&toy);
        assert_eq!(gdb.ask(body), answer);
        assert!(gdb.session.has_ended());
        assert_eq!(toy.take_calls().last().unwrap(), "quit host-qmp-quit");
    }
}

#[test]
fn a_protected_guest_shows_no_register_and_the_host_s_view_without_an_export() {
    let toy = Toy::new();
    toy.protect();
    let mut gdb = Debugger::attach(&toy);
    let registers = gdb.answer("g");
    assert!(!registers.contains("89ab"), "{registers}");
    assert!(gdb.answer("p0").starts_with('x'));
    assert!(gdb.answer("m100,8").starts_with('0'));
    assert_eq!(gdb.answer(&format!("m{:x},8", VIRTUAL + 0x100)), "E0e");
    for refused in ["M100,1:ff", "P2=0000000000000005", "Z0,1000,2", "Z1,1000,2", "Z2,1000,2"] {
        let answer = gdb.answer(refused);
        assert!(answer.starts_with("E.cloister.the guest runs protected"), "{refused}: {answer}");
    }
    let step = gdb.ask("vCont;s:p1.1");
    assert!(step.contains(&console("the guest runs protected")) && step.contains("$T05"), "{step}");
    // It may still stop and go on.
    assert_eq!(gdb.ask("vCont;c"), "");
    assert!(gdb.send(b"\x03").starts_with("$T02"));
    assert_eq!(toy.platform.state().exports, 0);
}

#[test]
fn a_guest_that_becomes_protected_is_lost_to_its_debugger_and_it_is_told() {
    let toy = Toy::new();
    let mut gdb = Debugger::attach(&toy);
    assert_eq!(gdb.answer("Z0,4000,2"), "OK");
    assert_eq!(gdb.ask("vCont;c"), "");
    toy.protect();
    gdb.session.poll();
    let told = String::from_utf8(gdb.session.take_output()).unwrap();
    assert!(
        told.starts_with("$O") && told.contains(&console("breakpoints and watchpoints are gone")),
        "{told}"
    );
    gdb.session.poll();
    assert!(gdb.session.take_output().is_empty());
    assert!(gdb.send(b"\x03").starts_with("$T02"));
    assert_eq!(gdb.answer("z0,4000,2"), "OK");
    assert!(gdb.answer("Z0,4000,2").starts_with("E.cloister."));
}

#[test]
fn nonsense_is_answered_and_the_session_goes_on_where_it_was() {
    let toy = Toy::new();
    let mut gdb = Debugger::attach(&toy);
    gdb.ask("Hgp1.2");
    toy.platform.state().cpus[1].gprs[0] = 0x1234;
    for nonsense in ["Hgzz", "m", "mzz,4", "m11112222333344445555,4", "Z0", "G00", "vCont;q", "vCont;s", "P"]
    {
        let answer = gdb.answer(nonsense);
        assert!(answer.starts_with('E'), "{nonsense}: {answer}");
        assert!(gdb.answer("p2").ends_with("1234"), "{nonsense}");
    }
    assert_eq!(gdb.answer("qNothing"), "");
    assert_eq!(gdb.ask("vCont;c"), "");
    toy.take_calls();
    assert!(gdb.answer("Hgzz").starts_with('E'));
    // Still waiting for a stop, and the machine was not touched.
    assert!(toy.take_calls().is_empty());
    assert!(gdb.send(b"\x03").starts_with("$T02"));
}

#[test]
fn acknowledgements_damaged_packets_and_retransmission() {
    let toy = Toy::new();
    let mut session = Session::new(Arc::<Toy>::clone(&toy), monitor()).unwrap();
    session.receive(b"$?#00");
    assert_eq!(session.take_output(), b"-");
    session.receive(b"$qAttached#8f");
    assert_eq!(session.take_output(), b"+$1#31");
    session.receive(b"-");
    assert_eq!(session.take_output(), b"$1#31");
    session.receive(&[b'-'; 1 << 20]);
    assert!(session.take_output().len() < 1 << 17);
}

#[test]
fn monitor_commands_and_thread_names() {
    let toy = Toy::new();
    let mut gdb = Debugger::attach(&toy);
    let answer = gdb.ask(&format!("qRcmd,{}", console("info status")));
    assert!(answer.contains(&console("you said info status\n")), "{answer}");
    assert!(answer.ends_with("$OK#9a"));
    assert_eq!(gdb.answer("qfThreadInfo"), "mp01.01,p01.02");
    assert_eq!(gdb.answer("qThreadExtraInfo,p1.2"), console("CPU#1 [halted ]"));
    assert!(gdb.answer("qHostInfo").contains("endian:big;"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn how_the_bytes_are_split_does_not_matter(cuts in proptest::collection::vec(1usize..9, 1..80)) {
        let script = [
            packet("qSupported:multiprocess+"),
            packet("?"),
            packet("Hgp1.1"),
            packet("g"),
            packet("Z0,1018,2"),
            packet("vCont;c"),
            packet("m1000,20"),
            packet("D;1"),
        ]
        .concat();
        let whole = Debugger { session: Session::new(Toy::new(), monitor()).unwrap() }.send(&script);
        let mut session = Session::new(Toy::new(), monitor()).unwrap();
        let mut rest = &script[..];
        let mut cuts = cuts.iter().cycle();
        let mut out = Vec::new();
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            session.receive(now);
            session.poll();
            out.extend(session.take_output());
            rest = later;
        }
        prop_assert_eq!(String::from_utf8_lossy(&out).into_owned(), whole);
    }

    #[test]
    fn a_debugger_that_goes_at_any_point_leaves_nothing(len in 0usize..110) {
        let script = [
            packet("qSupported:multiprocess+"),
            packet("Z0,2000,2"),
            packet("Z2,2000,8"),
            packet("vCont;c"),
            packet("Hgzz"),
        ]
        .concat();
        let toy = Toy::new();
        let mut session = Session::new(Arc::<Toy>::clone(&toy), monitor()).unwrap();
        session.receive(&script[..len.min(script.len())]);
        drop(session);
        prop_assert!(toy.is_clean());
    }
}
