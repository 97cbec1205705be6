//! The human monitor: what a person or a hostile program writes to it.
//!
//! The machine has no guest, so that no command writes a file.

use cloister_control::fake::{FakeMachine, operator};
use cloister_human_monitor::{Format, Interactive, MOST_BYTES, Monitor, command};
use cloister_options::{Catalogue, Target};
use std::sync::Arc;

/// An interactive session, and each line through QMP's way in.
pub(crate) fn human_monitor(bytes: &[u8]) {
    let machine = Arc::new(FakeMachine::s390x());
    let operator = operator(&machine, Catalogue::new(Target::S390x), &["-nodefaults"]);
    let operator = operator.expect("the arguments are right");
    let mut out = Vec::new();
    let ended = Interactive::new(&operator).run(&mut &*bytes, &mut out);
    ended.expect("memory takes everything");
    assert!(String::from_utf8(out).is_ok(), "a terminal gets text");
    let monitor = Monitor::new(&operator);
    for line in String::from_utf8_lossy(bytes).lines() {
        let answer = command(&operator, line, None);
        assert!(answer.is_empty() || answer.ends_with("\r\n"), "{answer:?}");
        let found = monitor.complete(line);
        assert!(line.is_char_boundary(found.start));
        if let Ok(format) = Format::parse(line, Format::default()) {
            assert!(format.bytes() <= MOST_BYTES);
            assert_eq!(Format::parse(&format.to_string(), Format::default()), Ok(format));
        }
    }
}
