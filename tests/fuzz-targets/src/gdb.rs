//! What a debugger sends: the packets of a session with a machine that stops and goes on.

#[expect(dead_code, reason = "shared with the server's own tests, which look closer")]
#[path = "../../../crates/hypervisor/gdb/tests/behaviour/fake.rs"]
mod fake;

use cloister_control::Event;
use cloister_gdb::{Monitor, Session};
use fake::Toy;
use std::sync::Arc;

/// The first byte says in which pieces the rest arrives, whether it is a list of packet bodies by lines, which get
/// their frame here, or bytes as they come, and whether the guest becomes protected on the way.
pub(crate) fn gdb(bytes: &[u8]) {
    let Some((how, rest)) = bytes.split_first() else { return };
    let stream = if how & 1 == 0 { rest.to_vec() } else { framed(rest) };
    let toy = Toy::new();
    let monitor: Monitor = Arc::new(|line| line.repeat(3));
    let machine: Arc<Toy> = Arc::clone(&toy);
    let mut session = Session::new(machine, monitor).expect("a machine with CPUs");
    let pieces = stream.chunks(usize::from(how >> 2) + 1);
    let half = pieces.len() / 2;
    for (number, piece) in pieces.enumerate() {
        if number == half && how & 2 != 0 {
            toy.protect();
            toy.becomes(cloister_control::RunState::Paused, Event::Stop);
        }
        session.receive(piece);
        session.poll();
        assert!(session.take_output().len() < 4 << 20, "an answer without bound");
    }
    session.machine_ends(0);
    drop(session);
    assert!(toy.is_clean(), "a debugger left something behind");
    assert_eq!(toy.platform.state().exports, 0, "a debugger made the host export a page");
}

fn framed(lines: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    for line in lines.split(|byte| *byte == b'\n') {
        if line == [3] {
            stream.push(3);
            continue;
        }
        let sum = line.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        stream.push(b'$');
        stream.extend_from_slice(line);
        stream.extend_from_slice(format!("#{sum:02x}").as_bytes());
    }
    stream
}
