//! Sessions on sockets, with peers that behave badly.

use crate::common::{fd, open, refused, socket, spec, unix};
use cloister_chardev::{
    Chardev, FD_LIMIT, FdStore, INPUT_LIMIT, Received, SESSION_LIMIT, SendError, Session, SessionPort,
};
use cloister_options::{CharBackend, SocketAddress};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

fn tcp(port: u16, server: bool) -> CharBackend {
    socket(SocketAddress::Inet { host: "127.0.0.1".into(), port }, server)
}

struct Server {
    port: SessionPort,
    device: Arc<Chardev>,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

fn server() -> Server {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let device = open(&spec(unix(&path, true)));
    Server { port: device.attach_session().unwrap(), device, path, _dir: dir }
}

impl Server {
    fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.path).unwrap()
    }

    fn pair(&self) -> (UnixStream, Session) {
        (self.connect(), self.port.accept().unwrap())
    }
}

fn all(session: &Session) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 1000];
    loop {
        match session.recv(&mut buffer) {
            0 => return bytes,
            n => bytes.extend_from_slice(&buffer[..n]),
        }
    }
}

fn exactly(session: &Session, want: usize) -> Vec<u8> {
    let mut bytes = vec![0; want];
    let mut got = 0;
    while got < want {
        let n = session.recv(&mut bytes[got..]);
        assert_ne!(n, 0, "the end came after {got} of {want} bytes");
        got += n;
    }
    bytes
}

fn send_fds(to: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    sendmsg(to, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
}

#[test]
fn each_client_gets_a_session_of_its_own() {
    let server = server();
    let shown = server.path.display();
    assert_eq!(server.device.filename(), format!("disconnected:unix:{shown},server=on"));
    for round in 0..3 {
        let (mut client, session) = server.pair();
        assert_eq!(server.device.filename(), format!("unix:{shown},server=on"));
        assert!(server.device.frontend_open());
        client.write_all(b"ask").unwrap();
        assert_eq!(exactly(&session, 3), b"ask");
        let reply = format!("reply {round}");
        session.send(reply.as_bytes()).unwrap();
        drop(session);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, reply);
    }
}

#[test]
fn a_client_that_half_closes_still_gets_its_reply() {
    let server = server();
    let (mut client, session) = server.pair();
    client.write_all(b"quit").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(all(&session), b"quit");
    session.send(b"bye").unwrap();
    drop(session);
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "bye");
}

#[test]
fn what_a_client_sent_before_it_went_is_received() {
    let server = server();
    let mut client = server.connect();
    client.write_all(b"quit").unwrap();
    drop(client);
    let session = server.port.accept().unwrap();
    assert_eq!(all(&session), b"quit");
}

#[test]
fn a_client_that_never_reads_makes_the_session_slow_and_nothing_grow() {
    let server = server();
    let (client, session) = server.pair();
    let block = vec![b'x'; 64 << 10];
    let mut sent = 0;
    let refused = loop {
        match session.send(&block) {
            Ok(()) => sent += block.len(),
            Err(e) => break e,
        }
        assert!(sent < 4 * SESSION_LIMIT, "the kernel cannot hold that much");
    };
    assert_eq!(refused, SendError::Slow);
    let sender = session.sender();
    assert!(sender.queued() <= SESSION_LIMIT + block.len());
    assert_eq!(sender.send_within(b"event", 1 << 20), Err(SendError::Slow));
    drop(session);
    assert_eq!(sender.send(b"late"), Err(SendError::Disconnected));
    // The next client is served although this one never read.
    let (_second, _session) = server.pair();
    drop(client);
}

#[test]
fn a_client_that_floods_waits_and_loses_nothing() {
    let server = server();
    let (mut client, session) = server.pair();
    let total = 40 * INPUT_LIMIT;
    let bytes: Vec<u8> = (0..total).map(|i| (i % 251) as u8).collect();
    let copy = bytes.clone();
    let writer = std::thread::spawn(move || client.write_all(&copy));
    assert_eq!(exactly(&session, total), bytes);
    writer.join().unwrap().unwrap();
}

#[test]
fn input_may_be_split_at_every_byte() {
    let server = server();
    let (mut client, session) = server.pair();
    let message = b"{\"execute\":\"qmp_capabilities\"}";
    for at in 0..=message.len() {
        client.write_all(&message[..at]).unwrap();
        assert_eq!(exactly(&session, at), &message[..at]);
        client.write_all(&message[at..]).unwrap();
        assert_eq!(exactly(&session, message.len() - at), &message[at..]);
    }
}

#[test]
fn clients_may_go_at_every_point() {
    let server = server();
    let message = b"some command";
    for at in 0..=message.len() {
        let (mut client, session) = server.pair();
        client.write_all(&message[..at]).unwrap();
        if at % 2 == 0 {
            // Unread replies make the kernel report a reset instead of an end.
            session.send(b"unread").unwrap();
        }
        drop(client);
        assert_eq!(all(&session), &message[..at]);
        // Either the kernel took it before the end was seen, or we are told.
        let _ = session.send(b"too late");
    }
}

#[test]
fn the_second_client_waits_for_the_first() {
    let server = server();
    let (first, session) = server.pair();
    let mut second = server.connect();
    second.write_all(b"2").unwrap();
    assert_eq!(session.recv_timeout(&mut [0; 8], Duration::ZERO), Received::TimedOut);
    drop(first);
    assert_eq!(session.recv(&mut [0; 8]), 0);
    drop(session);
    let session = server.port.accept().unwrap();
    assert_eq!(exactly(&session, 1), b"2");
}

#[test]
fn a_thousand_reconnects() {
    let server = server();
    let before = std::fs::read_dir("/proc/self/fd").unwrap().count();
    for round in 0..1000u32 {
        let (mut client, session) = server.pair();
        client.write_all(&round.to_be_bytes()).unwrap();
        assert_eq!(exactly(&session, 4), round.to_be_bytes());
    }
    let (_client, _session) = server.pair();
    // Other tests of this process run at the same time.
    assert!(std::fs::read_dir("/proc/self/fd").unwrap().count() < before + 500);
}

#[test]
fn close_wakes_who_waits_and_removes_the_socket() {
    let server = server();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| server.port.accept().is_none());
        server.device.close();
        assert!(waiting.join().unwrap());
    });
    assert!(!server.path.exists());
    assert!(server.port.accept().is_none());

    let server = self::server();
    let (_client, session) = server.pair();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| session.recv(&mut [0; 8]));
        server.device.close();
        assert_eq!(waiting.join().unwrap(), 0);
    });
}

#[test]
fn close_delivers_the_last_words() {
    let server = server();
    let (mut client, session) = server.pair();
    session.send(b"SHUTDOWN").unwrap();
    server.device.close();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "SHUTDOWN");
}

#[test]
fn descriptors_arrive_in_order_and_not_before_their_bytes() {
    let server = server();
    let (mut client, session) = server.pair();
    let file = |text: &str| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        file
    };
    let (one, two) = (file("one"), file("two"));
    send_fds(&client, b"1", &[one.as_fd()]);
    send_fds(&client, b"2", &[two.as_fd()]);
    client.write_all(b"3").unwrap();
    let text = |session: &Session| {
        let mut text = String::new();
        File::from(session.take_fd().unwrap()).read_to_string(&mut text).unwrap();
        text
    };
    assert!(session.take_fd().is_none(), "nothing was received yet");
    let mut buffer = [0; 8];
    assert_eq!(session.recv(&mut buffer), 1);
    assert_eq!(text(&session), "one");
    assert!(session.take_fd().is_none(), "the second belongs to the second byte");
    assert_ne!(session.recv(&mut buffer), 0);
    assert_eq!(text(&session), "two");
}

#[test]
fn surplus_descriptors_are_closed() {
    let server = server();
    let (mut client, session) = server.pair();
    let file = tempfile::tempfile().unwrap();
    for _ in 0..40 {
        send_fds(&client, b" ", &[file.as_fd(); 5]);
    }
    client.write_all(b"end").unwrap();
    exactly(&session, 43);
    let mut kept = 0;
    while session.take_fd().is_some() {
        kept += 1;
    }
    assert!((1..=40 * 5).contains(&kept) && kept <= 2 * FD_LIMIT, "{kept} were kept");
    send_fds(&client, b" ", &[file.as_fd(); 40]);
    exactly(&session, 1);
    let mut kept = 0;
    while session.take_fd().is_some() {
        kept += 1;
    }
    assert!(kept <= FD_LIMIT, "{kept} of one message were kept");
}

#[test]
fn tcp_shows_both_ends() {
    let device = open(&spec(tcp(0, true)));
    let name = device.filename();
    let port: u16 = name
        .strip_prefix("disconnected:tcp:127.0.0.1:")
        .unwrap()
        .strip_suffix(",server=on")
        .unwrap()
        .parse()
        .unwrap();
    let port_claim = device.attach_session().unwrap();
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let session = port_claim.accept().unwrap();
    let peer = client.local_addr().unwrap();
    assert_eq!(session.peer(), format!("tcp:127.0.0.1:{port},server=on <-> {peer}"));
    let taken = refused(&spec(tcp(port, true)));
    assert_eq!(taken, "Failed to find an available port: Address already in use");
}

#[test]
fn a_client_socket_serves_one_session() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    assert_eq!(
        refused(&spec(unix(&path, false))),
        format!("Failed to connect to '{}': No such file or directory", path.display())
    );
    let listener = UnixListener::bind(&path).unwrap();
    let device = open(&spec(unix(&path, false)));
    let port = device.attach_session().unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    let session = port.accept().unwrap();
    assert_eq!(device.filename(), "unix:");
    peer.write_all(b"hello").unwrap();
    assert_eq!(exactly(&session, 5), b"hello");
    drop(peer);
    assert_eq!(all(&session), b"");
    drop(session);
    assert!(port.accept().is_none());
    assert_eq!(device.filename(), format!("disconnected:unix:{}", path.display()));
}

#[test]
fn a_client_socket_connects_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut backend = tcp(listener.local_addr().unwrap().port(), false);
    if let CharBackend::Socket(socket) = &mut backend {
        socket.reconnect = Some(1);
    }
    let device = open(&spec(backend));
    let port = device.attach_session().unwrap();
    for _ in 0..2 {
        std::thread::scope(|scope| {
            let accepting = scope.spawn(|| port.accept().unwrap());
            let (peer, _) = listener.accept().unwrap();
            let session = accepting.join().unwrap();
            drop(peer);
            assert_eq!(all(&session), b"");
        });
    }
}

#[test]
fn abstract_names_need_no_file() {
    let name = format!("cloister-chardev-{}", std::process::id());
    let address = |tight| SocketAddress::Unix { path: PathBuf::from(&name), abstract_: true, tight };
    for tight in [true, false] {
        let device = open(&spec(socket(address(tight), true)));
        assert!(device.filename().starts_with(&format!("disconnected:unix:{name},abstract=on")));
        let port = device.attach_session().unwrap();
        let client = open(&spec(socket(address(tight), false)));
        let other = client.attach_session().unwrap();
        other.accept().unwrap().send(b"hi").unwrap();
        assert_eq!(exactly(&port.accept().unwrap(), 2), b"hi");
    }
}

#[test]
fn a_stale_socket_is_replaced_and_a_file_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    drop(UnixListener::bind(&path).unwrap());
    let device = open(&spec(unix(&path, true)));
    let next = open(&spec(unix(&path, true)));
    device.close();
    assert!(path.exists(), "the socket of the next one is not ours to remove");
    next.close();
    assert!(!path.exists());
    std::fs::write(&path, b"precious").unwrap();
    assert_eq!(
        refused(&spec(unix(&path, true))),
        format!("Failed to bind socket to {}: Address already in use", path.display())
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn refusals_are_in_the_fields_words() {
    let missing = PathBuf::from("/nonexistent/s");
    assert_eq!(
        refused(&spec(unix(&missing, true))),
        "Failed to bind socket to /nonexistent/s: No such file or directory"
    );
    let long = PathBuf::from(format!("/{}", "x".repeat(107)));
    assert_eq!(
        refused(&spec(unix(&long, true))),
        format!("UNIX socket path '{}' is too long\nPath must be less than 108 bytes", long.display())
    );
    for (number, server) in [(99_999, true), (-1, false)] {
        assert_eq!(refused(&spec(fd(number, server))), format!("File descriptor '{number}' is not a socket"));
    }
    let device = open(&spec(CharBackend::Null));
    let _user = device.attach_session().unwrap();
    assert_eq!(device.attach_session().unwrap_err().to_string(), "Device 'a' is in use");
}

#[test]
fn a_named_descriptor_is_a_socket_as_well() {
    let store = FdStore::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    store.name("console", ours.into()).unwrap();
    let name = cloister_options::FdName::Name("console".into());
    let device = Chardev::open(&spec(socket(SocketAddress::Fd(name), false)), &store).unwrap();
    let port = device.attach_session().unwrap();
    port.accept().unwrap().send(b"x").unwrap();
    let mut text = String::new();
    theirs.read_to_string(&mut text).unwrap();
    assert_eq!(text, "x");
}

#[test]
fn wait_keeps_the_peer_for_the_first_session() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut backend = unix(&path, true);
    if let CharBackend::Socket(socket) = &mut backend {
        socket.wait = true;
    }
    let device = open(&spec(backend));
    assert_eq!(
        device.waiting_line().unwrap(),
        format!("info: QEMU waiting for connection on: disconnected:unix:{},server=on", path.display())
    );
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"early").unwrap();
    device.wait_for_peer();
    drop(client);
    let port = device.attach_session().unwrap();
    assert_eq!(all(&port.accept().unwrap()), b"early");
}
