//! Clients of a monitor that mean harm, over the real socket: the guest goes on, memory stays bounded, other monitors answer.

use crate::guest::{Guest, PROMPT, Qmp};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::json;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// What the program may use more than before, in KiB: twice the largest value of 64 MiB, and what is queued.
const GROWTH: u64 = 192 * 1024;

#[test]
fn garbage_is_answered_with_errors_and_nothing_else_happens() {
    let victim = Victim::new();
    let mut seed = 1u64;
    for _ in 0..20 {
        let garbage: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 56) as u8
        })
        .take(100_000)
        .collect();
        let mut stream = victim.guest.connect("qmp");
        stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        // The other side may hang up on whom it cannot understand.
        let _ = stream.write_all(&garbage);
    }
    victim.is_well();
}

#[test]
fn sixty_four_mebibytes_of_brackets_do_not_grow_memory_without_bound() {
    let victim = Victim::new();
    for opening in [&b"["[..], b"{\"a\":", b"\"", b"[1,", b"9"] {
        let mut stream = victim.guest.connect("qmp");
        stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        let chunk = opening.repeat(65536 / opening.len());
        let mut sent = 0;
        while sent < 64 << 20 {
            match stream.write(&chunk) {
                Ok(count) => sent += count,
                Err(_) => break,
            }
        }
        assert!(victim.growth() < GROWTH, "{opening:?}: {} KiB", victim.growth());
        drop(stream);
    }
    victim.is_well();
}

#[test]
fn a_session_split_at_every_byte_is_the_same_session() {
    let victim = Victim::new();
    let session = b"{\"execute\":\"qmp_capabilities\"}\r\n{'execute':'query-name','id':[1,null]}{\"execute\":\"query-status\"}\n";
    let mut answers = Vec::new();
    for split in 0..session.len() {
        let mut stream = victim.guest.connect("qmp");
        stream.set_read_timeout(Some(PROMPT)).unwrap();
        stream.write_all(&session[..split]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
        stream.write_all(&session[split..]).unwrap();
        // Greeting and three answers.
        let mut received = Vec::new();
        let mut buffer = [0; 4096];
        while received.windows(2).filter(|two| two == b"\r\n").count() < 4 {
            let count = stream.read(&mut buffer).unwrap();
            assert_ne!(count, 0, "closed after {:?}", String::from_utf8_lossy(&received));
            received.extend_from_slice(&buffer[..count]);
        }
        answers.push(received);
    }
    assert!(answers.windows(2).all(|two| two[0] == two[1]));
    victim.is_well();
}

#[test]
fn a_client_that_asks_and_does_not_read_is_given_up() {
    let victim = Victim::new();
    let mut stream = victim.guest.connect("qmp");
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    stream.write_all(b"{\"execute\":\"qmp_capabilities\"}").unwrap();
    let flood = b"{\"execute\":\"query-qmp-schema\"}".repeat(100);
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        if let Err(error) = stream.write(&flood)
            && !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
        {
            break;
        }
        assert!(victim.growth() < GROWTH, "{} KiB", victim.growth());
    }
    victim.is_well();
    drop(stream);
    // The monitor serves the next one.
    victim.guest.qmp().execute("query-status", json!({}));
}

#[test]
fn disconnects_at_every_point_leave_a_monitor_that_serves() {
    let victim = Victim::new();
    let session =
        b"{\"execute\":\"qmp_capabilities\"}{\"execute\":\"stop\"}{\"execute\":\"query-qmp-schema\"}{\"execute\":\"cont\"}";
    for split in 0..=session.len() {
        let mut stream = victim.guest.connect("qmp");
        if split % 2 == 1 {
            // Has the greeting, so that it is being served.
            let _ = stream.read(&mut [0; 16]).unwrap();
        }
        stream.write_all(&session[..split]).unwrap();
    }
    let mut qmp = victim.guest.qmp();
    qmp.execute("cont", json!({}));
    victim.is_well();
}

/// One at a time: the second gets its greeting when the first has gone.
#[test]
fn two_clients_at_once_are_served_one_after_the_other() {
    let victim = Victim::new();
    let mut first = victim.guest.qmp();
    let mut second = victim.guest.connect("qmp");
    second.write_all(b"{\"execute\":\"qmp_capabilities\"}{\"execute\":\"query-name\"}").unwrap();
    second.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let error = second.read(&mut [0; 16]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    first.execute("query-status", json!({}));
    drop(first);
    let mut second = Qmp::new(second);
    assert_eq!(second.answer()["return"], json!({}));
    assert_eq!(second.answer()["return"], json!({"name": "victim"}));
    victim.is_well();
}

#[test]
fn a_flood_of_descriptors_does_not_fill_the_program() {
    let victim = Victim::new();
    let open = || std::fs::read_dir(format!("/proc/{}/fd", victim.guest.pid())).unwrap().count();
    let before = open();
    let mut stream = victim.guest.connect("qmp");
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    stream.write_all(b"{\"execute\":\"qmp_capabilities\"}").unwrap();
    for _ in 0..2000 {
        if send_fds(&stream, 16).is_err() {
            break;
        }
    }
    // Names of which each new descriptor replaces the last.
    for _ in 0..300 {
        if send_fds(&stream, 1).is_err()
            || stream.write_all(b"{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"a\"}}").is_err()
        {
            break;
        }
    }
    victim.is_well();
    assert!(open() < before + 600, "{} descriptors, {before} before", open());
    drop(stream);
    let end = Instant::now() + PROMPT;
    while open() > before + 8 {
        assert!(Instant::now() < end, "{} descriptors, {before} before", open());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The human monitor takes lines of any length, as long as somebody wants to type them.
#[test]
fn a_monitor_for_people_survives_lines_without_end() {
    let victim = Victim::new();
    for byte in [b'x', b'\t', 0x1b, b'\n', 0xff] {
        let mut stream = victim.guest.connect("monitor");
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let chunk = [byte; 65536];
        for _ in 0..64 {
            if stream.write(&chunk).is_err() {
                break;
            }
        }
        assert!(victim.growth() < GROWTH, "{byte:#x}: {} KiB", victim.growth());
    }
    victim.is_well();
}

/// A guest that answers what is typed, its console on a socket, a second QMP monitor and one for people.
struct Victim {
    guest: Guest,
    console: std::cell::RefCell<UnixStream>,
    before: u64,
}

impl Victim {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        crate::guest::assemble("echo.s", &folder.path().join("kernel"));
        let options = [
            "-m",
            "64",
            "-kernel",
            "kernel",
            "-name",
            "victim",
            "-S",
            "-serial",
            "chardev:con",
            "-chardev",
            "socket,id=con,path=console,server=on,wait=off",
            "-qmp",
            "unix:other,server=on,wait=off",
            "-monitor",
            "unix:monitor,server=on,wait=off",
        ];
        let guest = Guest::machine(folder, &options);
        let console = guest.connect("console");
        console.set_read_timeout(Some(PROMPT)).unwrap();
        guest.qmp().execute("cont", json!({}));
        let victim = Self { before: anonymous(&guest), console: console.into(), guest };
        victim.console_says("ready");
        victim
    }

    fn growth(&self) -> u64 {
        anonymous(&self.guest).saturating_sub(self.before)
    }

    /// The guest answers, the other monitor does, memory is as it was.
    #[track_caller]
    fn is_well(&self) {
        self.console.borrow_mut().write_all(b"k").unwrap();
        self.console_says("<k>");
        let mut other = Qmp::negotiated(self.guest.connect("other"));
        assert_eq!(other.execute("query-status", json!({}))["status"], "running");
        assert!(self.growth() < GROWTH, "{} KiB", self.growth());
        assert!(!self.guest.text("err").contains("panicked"), "{}", self.guest.text("err"));
    }

    #[track_caller]
    fn console_says(&self, text: &str) {
        let (mut seen, mut byte) = (String::new(), [0]);
        while !seen.contains(text) {
            let count = self.console.borrow_mut().read(&mut byte);
            assert!(matches!(count, Ok(1)), "no {text:?} in {seen:?}: {count:?}");
            seen.push(byte[0].into());
        }
    }
}

/// KiB of memory that is not that of files; the guest's is a file.
fn anonymous(guest: &Guest) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", guest.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Sends a blank with descriptors.
fn send_fds(stream: &UnixStream, count: usize) -> rustix::io::Result<usize> {
    let file = std::fs::File::open("/dev/null").unwrap();
    let fds = vec![file.as_fd(); count];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(stream, &[IoSlice::new(b" ")], &mut control, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
}
