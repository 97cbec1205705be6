//! Clients that mean harm, at a real socket: they may lose their connection, and nothing else happens.

use crate::common::monitor;
use cloister_chardev::{Chardev, FdStore};
use cloister_control::fake::FakeMachine;
use cloister_control::{Event, Machine, RunState};
use cloister_monitor::{Handle, Monitor, Options};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Served {
    _folder: tempfile::TempDir,
    path: PathBuf,
    machine: Arc<FakeMachine>,
    monitor: Arc<Monitor>,
    handle: Handle,
}

fn serve() -> Served {
    let (monitor, machine) = monitor(FakeMachine::s390x());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("qmp");
    let handle = listen(&monitor, &path);
    Served { _folder: folder, path, machine, monitor, handle }
}

fn listen(monitor: &Arc<Monitor>, path: &std::path::Path) -> Handle {
    let text = format!("socket,id=qmp,path={},server=on,wait=off", path.display());
    let spec = cloister_options::parse_chardev_text(&text).unwrap();
    let device = Chardev::open(&spec, &FdStore::new()).unwrap();
    monitor.serve(&device, Options::default()).unwrap()
}

struct Peer {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Peer {
    fn connect(path: &std::path::Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut peer = Self { lines: BufReader::new(stream.try_clone().unwrap()), stream };
        assert!(peer.line().starts_with("{\"QMP\""));
        peer
    }

    fn negotiated(path: &std::path::Path) -> Self {
        let mut peer = Self::connect(path);
        assert_eq!(
            peer.ask(r#"{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}"#),
            "{\"return\": {}}\r\n"
        );
        peer
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    fn ask(&mut self, text: &str) -> String {
        self.stream.write_all(text.as_bytes()).unwrap();
        self.line()
    }
}

const STATUS: &str = r#"{"execute":"query-status"}"#;

fn works(served: &Served) {
    assert!(Peer::negotiated(&served.path).ask(STATUS).contains("prelaunch"));
}

#[test]
fn rule_13_a_new_connection_gets_a_new_greeting_and_must_negotiate() {
    let served = serve();
    works(&served);
    let mut peer = Peer::connect(&served.path);
    assert!(peer.ask(STATUS).contains("Expecting capabilities negotiation"));
    drop(peer);
    works(&served);
}

#[test]
fn rule_12_a_descriptor_comes_with_a_space() {
    use std::os::fd::AsFd;
    let served = serve();
    let mut peer = Peer::negotiated(&served.path);
    let file = std::fs::File::open("/dev/null").unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    let fds = [file.as_fd()];
    assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
    let bytes = [std::io::IoSlice::new(b" ")];
    rustix::net::sendmsg(&peer.stream, &bytes, &mut control, rustix::net::SendFlags::empty()).unwrap();
    assert_eq!(peer.ask(r#"{"execute":"getfd","arguments":{"fdname":"x"}}"#), "{\"return\": {}}\r\n");
}

#[test]
fn rule_10_reading_stops_after_eight_commands_and_goes_on() {
    let served = serve();
    let mut peer = Peer::negotiated(&served.path);
    let all: String = (0..200).map(|id| format!(r#"{{"execute":"query-qmp-schema","id":{id}}}"#)).collect();
    let mut writer = peer.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(all.as_bytes()).unwrap());
    // Nothing is read for a while: no more than a megabyte and the last reply may wait.
    std::thread::sleep(Duration::from_millis(100));
    for id in 0..200 {
        assert!(peer.line().ends_with(&format!("\"id\": {id}}}\r\n")));
    }
    sender.join().unwrap();
}

#[test]
fn rule_10_out_of_band_overtakes_a_command_that_takes_long() {
    let served = serve();
    let mut peer = Peer::negotiated(&served.path);
    let busy = served.machine.state();
    let both = r#"{"execute":"query-status","id":1}{"exec-oob":"query-yank","id":2}"#;
    assert_eq!(peer.ask(both), "{\"return\": [], \"id\": 2}\r\n");
    drop(busy);
    assert!(peer.line().contains("\"id\": 1"));
}

#[test]
fn garbage_and_every_cut_disturb_nobody() {
    let served = serve();
    let request = br#"{"execute":"qmp_capabilities"}{"execute":"query-status","id":"\u20ac"}"#;
    for cut in 0..request.len() {
        let mut peer = Peer::connect(&served.path);
        peer.stream.write_all(&request[..cut]).unwrap();
    }
    let mut peer = Peer::connect(&served.path);
    for byte in request {
        peer.stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(peer.line(), "{\"return\": {}}\r\n");
    assert!(peer.line().contains("prelaunch"));
    let noise: Vec<u8> = (0..20_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let _ = peer.stream.write_all(&noise);
    drop(peer);
    works(&served);
    assert_eq!(served.machine.run_state(), RunState::Prelaunch);
}

#[test]
fn a_client_that_does_not_read_loses_its_connection_and_others_do_not_notice() {
    let served = serve();
    let other = served.path.with_file_name("second");
    let second = listen(&served.monitor, &other);
    let mut lazy = Peer::negotiated(&served.path);
    let mut busy = Peer::negotiated(&other);
    let reader = std::thread::spawn(move || {
        for _ in 0..120_000 {
            assert!(busy.line().contains("POWERDOWN"));
        }
    });
    let begin = Instant::now();
    for _ in 0..120_000 {
        served.machine.events().emit(Event::Powerdown);
    }
    assert!(begin.elapsed() < Duration::from_secs(20), "the guest waited for a client");
    reader.join().unwrap();
    let mut rest = Vec::new();
    lazy.stream.read_to_end(&mut rest).unwrap();
    assert!(rest.len() < 16 << 20, "the end comes after what was queued: {}", rest.len());
    works(&served);
    assert!(second.finish(Duration::from_secs(5)));
}

#[test]
fn half_closed_clients_still_get_their_answers() {
    let served = serve();
    let mut peer = Peer::negotiated(&served.path);
    peer.stream.write_all(STATUS.as_bytes()).unwrap();
    peer.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(peer.line().contains("prelaunch"));
    works(&served);
}

#[test]
fn quit_delivers_the_event_and_then_its_answer_before_the_end() {
    let served = serve();
    let mut peer = Peer::negotiated(&served.path);
    peer.stream.write_all(br#"{"execute":"quit","id":9}"#).unwrap();
    while !served.machine.state().calls.contains(&"quit host-qmp-quit".to_owned()) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(served.handle.finish(Duration::from_secs(5)));
    assert!(peer.line().contains("\"event\": \"SHUTDOWN\""));
    assert_eq!(peer.line(), "{\"return\": {}, \"id\": 9}\r\n");
    assert_eq!(peer.line(), "", "then the connection ends");
}
