//! QMP: what a client sends.
//!
//! The machine has no guest, so that no command writes a file.

use cloister_chardev::FdStore;
use cloister_control::fake::{FakeMachine, operator};
use cloister_monitor::{Client, Monitor, StreamParser};
use cloister_options::{Catalogue, Target};
use std::sync::Arc;

/// The stream of values: cut in two at a place that the first byte says, it reads as in one piece.
pub(crate) fn qmp_stream(bytes: &[u8]) {
    let (cut, bytes) = bytes.split_first().unwrap_or((&0, &[]));
    let mut whole = Vec::new();
    StreamParser::default().feed(bytes, |value| whole.push(value));
    let (head, tail) = bytes.split_at(usize::from(*cut).min(bytes.len()));
    let mut pieces = Vec::new();
    let mut parser = StreamParser::default();
    parser.feed(head, |value| pieces.push(value));
    parser.feed(tail, |value| pieces.push(value));
    assert_eq!(pieces, whole);
    for value in whole.into_iter().flatten() {
        let mut text = value.to_string().into_bytes();
        text.push(b'\n');
        let mut again = Vec::new();
        StreamParser::default().feed(&text, |value| again.push(value));
        assert_eq!(again, [Ok(value)]);
    }
}

/// A whole session after the negotiation: every answer is one line of ASCII that is JSON.
pub(crate) fn qmp(bytes: &[u8]) {
    let machine = Arc::new(FakeMachine::s390x());
    let operator = operator(&machine, Catalogue::new(Target::S390x), &["-nodefaults"]);
    let operator = operator.expect("the arguments are right");
    let monitor = Monitor::new(operator, Arc::new(FdStore::new()));
    let mut client = Client::new(&monitor, false);
    client.feed(br#"{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}"#);
    client.feed(bytes);
    let answers = client.take();
    assert!(answers.is_ascii() && answers.ends_with(b"\r\n"));
    for line in answers.split(|byte| *byte == b'\r') {
        let mut values = 0;
        StreamParser::default().feed(line, |value| {
            assert!(value.is_ok(), "{value:?}");
            values += 1;
        });
        assert!(values <= 1);
    }
}
