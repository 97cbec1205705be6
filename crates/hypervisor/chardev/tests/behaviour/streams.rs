//! The guest's console on every backend, and devices that several share.

use crate::common::{open, refused, spec, unix};
use cloister_chardev::{OFFER_LIMIT, STREAM_LIMIT, StreamEvent, StreamInput};
use cloister_options::CharBackend;
use proptest::prelude::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Bytes(Vec<u8>),
    Event(StreamEvent),
}

/// Takes `most` bytes at a time and tells the test.
struct Watch(Sender<Seen>, usize);

impl StreamInput for Watch {
    fn bytes(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.1);
        let _ = self.0.send(Seen::Bytes(bytes[..n].to_vec()));
        n
    }

    fn event(&mut self, event: StreamEvent) {
        let _ = self.0.send(Seen::Event(event));
    }
}

fn watch(most: usize) -> (Watch, Receiver<Seen>) {
    let (to, from) = channel();
    (Watch(to, most), from)
}

fn bytes(from: &Receiver<Seen>, want: usize) -> Vec<u8> {
    let mut got = Vec::new();
    while got.len() < want {
        match from.recv().unwrap() {
            Seen::Bytes(bytes) => got.extend(bytes),
            Seen::Event(event) => panic!("{event:?}"),
        }
    }
    got
}

#[test]
fn a_console_on_a_socket_comes_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let device = open(&spec(unix(&path, true)));
    let (input, seen) = watch(usize::MAX);
    let port = device.attach_stream(input).unwrap();
    port.write(b"nobody hears this");
    for _ in 0..3 {
        let mut client = UnixStream::connect(&path).unwrap();
        assert_eq!(seen.recv().unwrap(), Seen::Event(StreamEvent::Opened));
        port.write(b"login: ");
        let mut text = [0; 7];
        client.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"login: ");
        client.write_all(b"root\n").unwrap();
        assert_eq!(bytes(&seen, 5), b"root\n");
        drop(client);
        assert_eq!(seen.recv().unwrap(), Seen::Event(StreamEvent::Closed));
    }
}

#[test]
fn a_console_that_nobody_reads_keeps_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let device = open(&spec(unix(&path, true)));
    let (input, seen) = watch(usize::MAX);
    let port = device.attach_stream(input).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    assert_eq!(seen.recv().unwrap(), Seen::Event(StreamEvent::Opened));
    let line = [b'.'; 1024];
    for _ in 0..8 * STREAM_LIMIT / line.len() {
        port.write(&line);
    }
    port.write(b"kernel panic");
    assert!(device.dropped() > 0);
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        all
    });
    assert!(device.flush(Duration::from_secs(600)));
    device.close();
    let all = reader.join().unwrap();
    assert!(all.ends_with(b"kernel panic"));
    assert!(all.len() < 8 * STREAM_LIMIT);
}

#[test]
fn input_that_the_guest_does_not_take_waits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let device = open(&spec(unix(&path, true)));
    let (input, seen) = watch(3);
    let port = device.attach_stream(input).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    assert_eq!(seen.recv().unwrap(), Seen::Event(StreamEvent::Opened));
    client.write_all(b"abcdefgh").unwrap();
    let mut got = Vec::new();
    while got.len() < 8 {
        if let Ok(Seen::Bytes(bytes)) = seen.recv_timeout(Duration::from_millis(5)) {
            got.extend(bytes);
        }
        port.resume();
    }
    assert_eq!(got, b"abcdefgh");
}

#[test]
fn files_are_written_at_once_truncated_or_appended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    std::fs::write(&path, b"old ").unwrap();
    for (append, want) in [(true, "old new"), (false, "new")] {
        let device = open(&spec(CharBackend::File { path: path.clone(), append }));
        assert_eq!(device.filename(), "file");
        let port = device.attach_stream(|_: &[u8]| {}).unwrap();
        port.write(b"new");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), want);
    }
    let missing = CharBackend::File { path: "/nonexistent/f".into(), append: false };
    assert_eq!(refused(&spec(missing)), "Could not open '/nonexistent/f': No such file or directory");
}

#[test]
fn the_log_gets_everything_even_without_a_peer() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    for (append, want) in [(false, "boot"), (true, "bootboot")] {
        let mut spec = spec(CharBackend::Null);
        spec.log_file = Some(log.clone());
        spec.log_append = append;
        let device = open(&spec);
        assert_eq!(device.filename(), "null");
        device.attach_stream(|_: &[u8]| {}).unwrap().write(b"boot");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), want);
    }
    let mut bad = spec(CharBackend::Null);
    bad.log_file = Some("/nonexistent/log".into());
    assert_eq!(refused(&bad), "Could not create '/nonexistent/log': No such file or directory");
}

#[test]
fn a_pseudo_terminal_outlives_its_visitors() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("tty");
    let device = open(&spec(CharBackend::Pty { path: Some(link.clone()) }));
    let name = device.filename();
    let tty = name.strip_prefix("pty:").unwrap();
    assert_eq!(device.announcement().unwrap(), format!("char device redirected to {tty} (label a)"));
    let (input, seen) = watch(usize::MAX);
    let port = device.attach_stream(input).unwrap();
    assert_eq!(seen.recv().unwrap(), Seen::Event(StreamEvent::Opened));
    for _ in 0..3 {
        let mut visitor = std::fs::OpenOptions::new().read(true).write(true).open(&link).unwrap();
        visitor.write_all(b"\x03ls\r").unwrap();
        assert_eq!(bytes(&seen, 4), b"\x03ls\r");
        port.write(b"a\nb");
        let mut text = [0; 3];
        visitor.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"a\nb");
    }
    device.close();
    assert!(!link.exists());
}

#[test]
fn a_pipe_of_two_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p");
    let refusal = refused(&spec(CharBackend::Pipe { path: path.clone() }));
    assert_eq!(refusal, format!("Could not open '{}': No such file or directory", path.display()));
    for suffix in ["in", "out"] {
        let made = std::process::Command::new("mkfifo").arg(path.with_extension(suffix)).status().unwrap();
        assert!(made.success());
    }
    let device = open(&spec(CharBackend::Pipe { path: path.clone() }));
    assert_eq!(device.filename(), "pipe");
    let (input, seen) = watch(usize::MAX);
    let port = device.attach_stream(input).unwrap();
    assert_eq!(seen.recv().unwrap(), Seen::Event(StreamEvent::Opened));
    for _ in 0..2 {
        std::fs::write(path.with_extension("in"), b"in").unwrap();
        assert_eq!(bytes(&seen, 2), b"in");
    }
    port.write(b"out");
    let mut text = [0; 3];
    std::fs::File::open(path.with_extension("out")).unwrap().read_exact(&mut text).unwrap();
    assert_eq!(&text, b"out");
}

#[test]
fn ctrl_a_c_goes_round_between_console_and_monitor() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut spec = spec(unix(&path, true));
    spec.mux = true;
    let device = open(&spec);
    let (quit, asked) = channel();
    device.on_quit(move || quit.send(()).unwrap());
    let monitor = device.attach_session().unwrap();
    let (input, seen) = watch(usize::MAX);
    let console = device.attach_stream(input).unwrap();
    let labels: Vec<_> = device.info().into_iter().map(|row| (row.label, row.frontend_open)).collect();
    assert_eq!(labels, [("a".to_owned(), true), ("a-base".to_owned(), true)]);
    assert_eq!(device.info()[0].filename, "mux");

    let mut client = UnixStream::connect(&path).unwrap();
    assert_eq!(seen.recv().unwrap(), Seen::Event(StreamEvent::Opened));
    client.write_all(b"guest\x01\x01\x01b!").unwrap();
    assert_eq!(bytes(&seen, 6), b"guest\x01");
    assert_eq!(seen.recv().unwrap(), Seen::Event(StreamEvent::Break));
    assert_eq!(bytes(&seen, 1), b"!");

    client.write_all(b"\x01cinfo\x01cmore").unwrap();
    let session = monitor.accept().unwrap();
    let mut buffer = [0; 8];
    assert_eq!(session.recv(&mut buffer), 4);
    assert_eq!(&buffer[..4], b"info");
    assert_eq!(bytes(&seen, 4), b"more");
    session.send(b"(qemu) ").unwrap();
    console.write(b"console");
    let mut text = [0; 14];
    client.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"(qemu) console");

    client.write_all(b"\x01x").unwrap();
    asked.recv().unwrap();
    client.write_all(b"\x01h").unwrap();
    let mut help = vec![0; cloister_chardev::HELP.len() + cloister_chardev::TERMINATED.len()];
    client.read_exact(&mut help).unwrap();
    assert!(help.ends_with(cloister_chardev::HELP.as_bytes()));
    drop(client);
    assert_eq!(session.recv(&mut buffer), 0);
    assert_eq!(session.send(b"x"), Err(cloister_chardev::SendError::Disconnected));
}

#[test]
fn a_callback_may_close_the_device() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut spec = spec(unix(&path, true));
    spec.mux = true;
    let device = open(&spec);
    let inner = std::sync::Arc::downgrade(&device);
    let (quit, asked) = channel();
    device.on_quit(move || {
        inner.upgrade().unwrap().close();
        quit.send(()).unwrap();
    });
    let _port = device.attach_stream(|_: &[u8]| {}).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"\x01x").unwrap();
    asked.recv().unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, cloister_chardev::TERMINATED);
}

/// What a person may type at a shared device.
#[derive(Clone, Debug)]
enum Typed {
    Text(u8),
    Escape,
    Toggle,
    Unknown,
}

fn typed() -> impl Strategy<Value = Vec<Typed>> {
    let one = prop_oneof![
        8 => (2u8..).prop_map(Typed::Text),
        1 => Just(Typed::Escape),
        1 => Just(Typed::Toggle),
        1 => Just(Typed::Unknown),
    ];
    prop::collection::vec(one, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_byte_goes_to_who_has_the_focus(typed in typed(), cut in 1usize..20) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let mut spec = spec(unix(&path, true));
        spec.mux = true;
        let device = open(&spec);
        let (one, seen_one) = watch(usize::MAX);
        let (two, seen_two) = watch(usize::MAX);
        let _one = device.attach_stream(one).unwrap();
        let _two = device.attach_stream(two).unwrap();
        let (mut wire, mut want) = (Vec::new(), [Vec::new(), Vec::new()]);
        let mut focus = 1;
        for key in typed {
            match key {
                Typed::Text(byte) => { wire.push(byte); want[focus].push(byte); }
                Typed::Escape => { wire.extend([1, 1]); want[focus].push(1); }
                Typed::Toggle => { wire.extend([1, b'c']); focus = 1 - focus; }
                Typed::Unknown => wire.extend([1, b'q']),
            }
        }
        let mut client = UnixStream::connect(&path).unwrap();
        for part in wire.chunks(cut) {
            client.write_all(part).unwrap();
        }
        for (seen, want) in [(seen_one, &want[0]), (seen_two, &want[1])] {
            prop_assert_eq!(seen.recv().unwrap(), Seen::Event(StreamEvent::Opened));
            prop_assert_eq!(&bytes(&seen, want.len()), want);
        }
    }
}

/// What is offered waits for a peer that does not read, and nothing of it is dropped.
#[test]
fn a_stream_that_offers_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let device = open(&spec(unix(&path, true)));
    let (input, seen) = watch(usize::MAX);
    let port = device.attach_stream(input).unwrap();
    port.set_open(false);
    assert!(!device.frontend_open());
    port.set_open(true);
    assert!(device.frontend_open());
    assert_eq!(port.offer(&[0; 3 * OFFER_LIMIT]), 3 * OFFER_LIMIT, "without a peer all is lost");
    let mut client = UnixStream::connect(&path).unwrap();
    assert_eq!(seen.recv().unwrap(), Seen::Event(StreamEvent::Opened));
    let sent: Vec<u8> = (0..64 * OFFER_LIMIT as u32).map(|n| (n >> 7) as u8).collect();
    let reader = std::thread::spawn({
        let len = sent.len();
        move || {
            let mut got = vec![0; len];
            client.read_exact(&mut got).unwrap();
            got
        }
    });
    let mut done = 0;
    while done < sent.len() {
        let taken = port.offer(&sent[done..]);
        done += taken;
        if done < sent.len() {
            assert_eq!(seen.recv().unwrap(), Seen::Event(StreamEvent::Writable));
        }
    }
    assert_eq!(reader.join().unwrap(), sent);
    assert_eq!(device.dropped(), 0);
}
