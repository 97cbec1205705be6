//! Backends with real sockets: streams, datagrams, descriptors, and peers that are slow, gone or hostile.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use cloister_chardev::FdStore;
use cloister_network::{Helpers, NetEvent, Network, NetworkError, Port, SEND_LIMIT};
use cloister_options::{Netdev, parse_netdev_json, parse_netdev_text};
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Rig {
    network: Arc<Network>,
    fds: Arc<FdStore>,
    events: Receiver<NetEvent>,
}

/// A device that listens.
struct Nic {
    port: Port,
    calls: Receiver<()>,
}

fn rig() -> Rig {
    let fds = Arc::new(FdStore::new());
    let network = Network::open(&[], Helpers::default(), Arc::clone(&fds)).unwrap();
    let (tell, events) = channel();
    let tell = Mutex::new(tell);
    network.listen(move |event| drop(tell.lock().unwrap().send(event)));
    Rig { network, fds, events }
}

fn spec(text: &str) -> Netdev {
    parse_netdev_text(text).unwrap()
}

impl Rig {
    fn nic(&self, id: &str) -> Nic {
        let (call, calls) = channel();
        let call = Mutex::new(call);
        let rings = move || {
            // A test that is over listens no more.
            let _ = call.lock().unwrap().send(());
        };
        let port = self.network.attach(id, rings).unwrap();
        port.set_active(true);
        Nic { port, calls }
    }

    fn event(&self) -> NetEvent {
        self.events.recv_timeout(PATIENCE).unwrap()
    }
}

impl Nic {
    fn receive(&self) -> Vec<u8> {
        loop {
            if let Some(packet) = self.port.receive() {
                return packet;
            }
            self.calls.recv_timeout(PATIENCE).unwrap();
        }
    }
}

fn framed(packet: &[u8]) -> Vec<u8> {
    [&(packet.len() as u32).to_be_bytes()[..], packet].concat()
}

fn read_packet(stream: &mut impl Read) -> Vec<u8> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).unwrap();
    let mut packet = vec![0; u32::from_be_bytes(header) as usize];
    stream.read_exact(&mut packet).unwrap();
    packet
}

#[test]
fn a_stream_server_carries_packets_and_takes_the_next_peer() {
    let rig = rig();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    rig.network
        .add(&spec(&format!("stream,id=n,server=on,addr.type=unix,addr.path={}", path.display())))
        .unwrap();
    let nic = rig.nic("n");
    assert!(nic.port.send(b"nobody is there"), "it is lost, as on a cable");
    for round in 0..3_u8 {
        let mut peer = UnixStream::connect(&path).unwrap();
        assert!(matches!(rig.event(), NetEvent::Connected { id, .. } if id == "n"));
        peer.write_all(&framed(&[round; 60])).unwrap();
        assert_eq!(nic.receive(), [round; 60]);
        assert!(nic.port.send(&[round + 1; 1500]));
        assert_eq!(read_packet(&mut peer), [round + 1; 1500]);
        drop(peer);
        assert_eq!(rig.event(), NetEvent::Disconnected { id: "n".into() });
    }
    rig.network.remove("n").unwrap();
    assert!(nic.port.send(b"nobody is there"));
    assert!(matches!(rig.network.remove("n"), Err(NetworkError::NotFound(_))));
}

#[test]
fn a_client_that_reconnects_comes_back() {
    let rig = rig();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let text = format!("stream,id=n,addr.type=inet,addr.host=127.0.0.1,addr.port={port},reconnect-ms=10");
    rig.network.add(&spec(&text)).unwrap();
    let nic = rig.nic("n");
    for round in 0..3_u8 {
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(&framed(&[round; 64])).unwrap();
        assert_eq!(nic.receive(), [round; 64]);
    }
}

#[test]
fn a_client_that_nobody_answers_is_refused_unless_it_reconnects() {
    let rig = rig();
    let missing = "addr.type=unix,addr.path=/nonexistent/socket";
    let why = rig.network.add(&spec(&format!("stream,id=n,{missing}"))).unwrap_err().to_string();
    assert!(why.contains("/nonexistent/socket") && why.contains("reconnect"), "{why}");
    rig.network.add(&spec(&format!("stream,id=n,{missing},reconnect=1"))).unwrap();
    assert!(matches!(rig.network.add(&spec("user,id=n")), Err(NetworkError::Duplicate(_))));
}

#[test]
fn a_peer_that_does_not_read_holds_the_device_and_loses_nothing() {
    let rig = rig();
    let (mut peer, ours) = UnixStream::pair().unwrap();
    rig.fds.name("wire", ours.into()).unwrap();
    rig.network.add(&spec("socket,id=n,fd=wire")).unwrap();
    let nic = rig.nic("n");
    let mut sent = 0_u32;
    let mut packet = vec![0; 1400];
    loop {
        packet[..4].copy_from_slice(&sent.to_be_bytes());
        if !nic.port.send(&packet) {
            break;
        }
        sent += 1;
        assert!((sent as usize) < 64 * SEND_LIMIT / packet.len(), "the queue has an end");
    }
    for number in 0..sent {
        assert_eq!(read_packet(&mut peer)[..4], number.to_be_bytes());
    }
    nic.calls.recv_timeout(PATIENCE).unwrap();
    assert!(nic.port.send(&packet), "there is room again");
    assert_eq!(read_packet(&mut peer)[..4], sent.to_be_bytes());
}

#[test]
fn a_peer_that_sends_without_end_is_held_back_and_memory_is_not_filled() {
    let rig = rig();
    let (mut peer, ours) = UnixStream::pair().unwrap();
    rig.fds.name("wire", ours.into()).unwrap();
    rig.network.add(&spec("stream,id=n,addr.type=fd,addr.str=wire")).unwrap();
    let nic = rig.nic("n");
    peer.set_nonblocking(true).unwrap();
    let packet = framed(&[7; 1020]);
    let mut written = 0;
    // The thread may still be reading when a write would wait: the end is where nothing moves.
    let mut idle = 0;
    while idle < 50 {
        match peer.write(&packet[written % packet.len()..]) {
            Ok(count) => {
                written += count;
                idle = 0;
            }
            Err(_) => {
                idle += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        assert!(written < 16 << 20, "the peer must be held back");
    }
    for _ in 0..written / packet.len() {
        assert_eq!(nic.receive(), [7; 1020]);
    }
}

#[test]
fn nonsense_ends_the_connection() {
    let rig = rig();
    for nonsense in [&[0_u8; 4][..], &[0xff; 16], b"GET / HTTP/1.1\r\n\r\n"] {
        let (mut peer, ours) = UnixStream::pair().unwrap();
        rig.fds.name("wire", ours.into()).unwrap();
        rig.network.add(&spec("stream,id=n,addr.type=fd,addr.str=wire")).unwrap();
        peer.write_all(nonsense).unwrap();
        assert_eq!(rig.event(), NetEvent::Disconnected { id: "n".into() });
        assert_eq!(peer.read(&mut [0; 8]).unwrap_or(0), 0);
        rig.network.remove("n").unwrap();
    }
}

#[test]
fn datagrams_carry_a_packet_each() {
    let rig = rig();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let own = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!("socket,id=u,udp={},localaddr={own}", peer.local_addr().unwrap());
    rig.network.add(&spec(&text)).unwrap();
    let nic = rig.nic("u");
    peer.send_to(&[9; 1514], own).unwrap();
    assert_eq!(nic.receive(), [9; 1514]);
    assert!(nic.port.send(&[8; 900]));
    let mut buffer = [0; 2000];
    assert_eq!(peer.recv(&mut buffer).unwrap(), 900);
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("a"), folder.path().join("b"));
    let peer = UnixDatagram::bind(&theirs).unwrap();
    let text = format!(
        "dgram,id=d,local.type=unix,local.path={},remote.type=unix,remote.path={}",
        ours.display(),
        theirs.display()
    );
    rig.network.add(&spec(&text)).unwrap();
    let nic = rig.nic("d");
    peer.send_to(&[1; 60], &ours).unwrap();
    assert_eq!(nic.receive(), [1; 60]);
    assert!(nic.port.send(&[2; 61]));
    assert_eq!(peer.recv(&mut buffer).unwrap(), 61);
}

#[test]
fn a_pulled_cable_and_a_device_that_is_not_ready_get_nothing() {
    let rig = rig();
    let (mut peer, ours) = UnixStream::pair().unwrap();
    rig.fds.name("wire", ours.into()).unwrap();
    rig.network.add(&spec("stream,id=n,addr.type=fd,addr.str=wire")).unwrap();
    let nic = rig.nic("n");
    rig.network.set_link("n", false).unwrap();
    assert!(!nic.port.is_up());
    assert!(nic.port.send(&[1; 60]), "it is lost");
    rig.network.set_link("n", true).unwrap();
    assert!(nic.port.send(&[2; 60]));
    assert_eq!(read_packet(&mut peer), [2; 60]);
    peer.write_all(&framed(&[3; 60])).unwrap();
    assert_eq!(nic.receive(), [3; 60]);
    assert!(matches!(rig.network.attach("n", || {}), Err(NetworkError::InUse(_))));
    drop(nic);
    let nic = rig.nic("n");
    peer.write_all(&framed(&[4; 60])).unwrap();
    assert_eq!(nic.receive(), [4; 60]);
}

#[test]
fn descriptors_of_the_wrong_kind_are_refused() {
    let rig = rig();
    let refuse = |netdev: &Netdev| rig.network.add(netdev).unwrap_err().to_string();
    rig.fds.name("file", tempfile::tempfile().unwrap().into()).unwrap();
    assert_eq!(refuse(&spec("socket,id=n,fd=file")), "file descriptor file is not a socket");
    rig.fds.name("file", tempfile::tempfile().unwrap().into()).unwrap();
    assert!(refuse(&spec("tap,id=n,fd=file")).contains("tap"));
    assert_eq!(refuse(&spec("socket,id=n,fd=9999")), "Can't use file descriptor 9999: Bad file descriptor");
    assert_eq!(refuse(&spec("tap,id=n,fd=nobody")), "File descriptor named 'nobody' has not been found");
    let passed = json(r#"{"type":"stream","id":"n","addr":{"type":"fd","str":"nobody"}}"#);
    assert!(refuse(&passed).contains("nobody"));
}

fn json(text: &str) -> Netdev {
    parse_netdev_json(&serde_json::from_str(text).unwrap()).unwrap()
}

#[test]
fn a_socket_file_is_replaced_and_removed_and_other_files_are_not() {
    let rig = rig();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    drop(UnixListener::bind(&path).unwrap());
    let text = format!("stream,id=n,server=on,addr.type=unix,addr.path={}", path.display());
    rig.network.add(&spec(&text)).unwrap();
    drop(UnixStream::connect(&path).unwrap());

    let file = folder.path().join("precious");
    std::fs::write(&file, b"x").unwrap();
    let text = format!("stream,id=m,server=on,addr.type=unix,addr.path={}", file.display());
    assert!(rig.network.add(&spec(&text)).unwrap_err().to_string().contains("can't bind"));
    assert_eq!(std::fs::read(&file).unwrap(), b"x");
}
