//! What needs a process of its own: inherited descriptors, standard input and output, the background. This test starts
//! itself with an argument that says which part to play.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod common;

use cloister_chardev::process::{PidFile, become_daemon, daemonize};
use cloister_chardev::{Chardev, FdStore, inherited};
use cloister_options::CharBackend;
use common::{fd, refused, spec};
use rustix::io::FdFlags;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let original = args.clone();
    let ready = match become_daemon(&mut args) {
        Ok(ready) => ready,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::FAILURE;
        }
    };
    let words: Vec<&str> = args.iter().map(|a| a.to_str().unwrap()).collect();
    match &words[..] {
        ["play", "serve", number] => serve(number.parse().unwrap(), true),
        ["play", "connected", number] => serve(number.parse().unwrap(), false),
        ["play", "refuse", number, server] => {
            println!("{}", refused(&spec(fd(number.parse().unwrap(), *server == "on"))))
        }
        ["play", "add-fd", number] => add_fd(number.parse().unwrap()),
        ["play", "stdio"] => stdio(),
        ["play", "hold", pidfile] => {
            let held = PidFile::create(Path::new(pidfile));
            println!("{}", held.as_ref().map_or_else(ToString::to_string, |_| "held".into()));
            let _ = std::io::stdin().read(&mut [0]);
        }
        ["play", "daemon", pidfile, socket, fails] => {
            let Some(ready) = ready else {
                let own = std::env::args_os().next().unwrap();
                return if daemonize(&own, &original).unwrap() {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::FAILURE
                };
            };
            if *fails == "yes" {
                eprintln!("the image is missing");
                return ExitCode::FAILURE;
            }
            let pidfile = PidFile::create(Path::new(pidfile)).unwrap();
            let device = common::open(&spec(common::unix(Path::new(socket), true)));
            ready.signal().unwrap();
            // Lives until somebody connects and goes.
            let port = device.attach_session().unwrap();
            let session = port.accept().unwrap();
            session.send(format!("{}", std::process::id()).as_bytes()).unwrap();
            while session.recv(&mut [0; 16]) != 0 {}
            device.close();
            drop(pidfile);
        }
        _ => run_all(&words),
    }
    ExitCode::SUCCESS
}

fn run_all(filter: &[&str]) {
    let tests: [(&str, fn()); 9] = [
        ("an_inherited_listener_serves", an_inherited_listener_serves),
        ("an_inherited_connection_serves", an_inherited_connection_serves),
        ("inherited_descriptors_are_checked", inherited_descriptors_are_checked),
        ("an_inherited_descriptor_joins_a_set", an_inherited_descriptor_joins_a_set),
        ("standard_input_and_output_are_one_session", standard_input_and_output_are_one_session),
        ("the_pid_file_is_locked_and_removed", the_pid_file_is_locked_and_removed),
        ("the_first_process_ends_when_the_daemon_is_ready", the_first_process_ends_when_the_daemon_is_ready),
        ("a_daemon_that_fails_says_why", a_daemon_that_fails_says_why),
        ("the_internal_argument_is_not_for_users", the_internal_argument_is_not_for_users),
    ];
    let names: Vec<_> = filter.iter().filter(|word| !word.starts_with('-')).collect();
    for (name, test) in tests {
        if filter.contains(&"--list") {
            println!("{name}: test");
        } else if names.is_empty() || names.iter().any(|word| name.contains(**word)) {
            test();
            println!("test {name} ... ok");
        }
    }
}

fn play(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("play").args(words);
    command
}

fn output(words: &[&str]) -> String {
    let output = play(words).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Lets a child inherit a descriptor; gives its number.
fn inheritable(fd: impl AsFd) -> String {
    rustix::io::fcntl_setfd(&fd, FdFlags::empty()).unwrap();
    fd.as_fd().as_raw_fd().to_string()
}

fn serve(number: i32, server: bool) {
    let device = common::open(&spec(fd(number, server)));
    let port = device.attach_session().unwrap();
    let session = port.accept().unwrap();
    let mut buffer = [0; 64];
    let n = session.recv(&mut buffer);
    session.send(&buffer[..n]).unwrap();
    drop(session);
    // Inherited or not, the connection ends with its session; a client that can come no more ends the port.
    assert!(server || port.accept().is_none());
}

fn echo(mut client: UnixStream, mut child: std::process::Child) {
    client.write_all(b"greeting").unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "greeting");
    assert!(child.wait().unwrap().success());
}

fn an_inherited_listener_serves() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("s")).unwrap();
    let child = play(&["serve", &inheritable(&listener)]).spawn().unwrap();
    echo(UnixStream::connect(dir.path().join("s")).unwrap(), child);
    assert!(dir.path().join("s").exists(), "who made the socket removes it");
}

fn an_inherited_connection_serves() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = play(&["connected", &inheritable(&theirs)]).spawn().unwrap();
    drop(theirs);
    echo(ours, child);
}

fn inherited_descriptors_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let (one, _two) = UnixStream::pair().unwrap();
    let number = inheritable(&one);
    assert_eq!(output(&["refuse", &number, "on"]), "Failed to listen on fd socket: Invalid argument");
    let listener = UnixListener::bind(dir.path().join("s")).unwrap();
    let number = inheritable(&listener);
    assert_eq!(
        output(&["refuse", &number, "off"]),
        format!("File descriptor '{number}' is a listening socket; add server=on")
    );
    let file = tempfile::tempfile().unwrap();
    let number = inheritable(&file);
    assert_eq!(output(&["refuse", &number, "on"]), format!("File descriptor '{number}' is not a socket"));
    let datagrams = UnixDatagram::unbound().unwrap();
    let number = inheritable(&datagrams);
    assert!(output(&["refuse", &number, "off"]).contains("not a stream socket"));
}

fn add_fd(number: i32) {
    let store = FdStore::new();
    store.add_inherited(number, 2, Some("log".into())).unwrap();
    let backend = CharBackend::File { path: "/dev/fdset/2".into(), append: true };
    let device = Chardev::open(&spec(backend), &store).unwrap();
    device.attach_stream(|_: &[u8]| {}).unwrap().write(b"through the set");
    assert!(inherited(number).is_ok());
    assert_eq!(store.query()[0].fds[0].opaque.as_deref(), Some("log"));
}

fn an_inherited_descriptor_joins_a_set() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let writer = std::fs::OpenOptions::new().append(true).open(file.path()).unwrap();
    output(&["add-fd", &inheritable(&writer)]);
    assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "through the set");
}

fn stdio() {
    let device = common::open(&spec(CharBackend::Stdio { with_monitor: false }));
    assert_eq!(device.filename(), "stdio");
    assert_eq!(
        refused(&spec(CharBackend::Stdio { with_monitor: false })),
        "cannot use stdio by multiple character devices"
    );
    let port = device.attach_session().unwrap();
    let session = port.accept().unwrap();
    let mut buffer = [0; 64];
    loop {
        match session.recv(&mut buffer) {
            0 => break,
            n => session.send(&buffer[..n]).unwrap(),
        }
    }
    session.send(b"the end").unwrap();
    drop(session);
    assert!(port.accept().is_none());
}

fn standard_input_and_output_are_one_session() {
    let mut child = play(&["stdio"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        for _ in 0..1000 {
            input.write_all(&[b'x'; 1000]).unwrap();
        }
    });
    let mut text = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut text).unwrap();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(text.len(), 1_000_007);
    assert!(text.ends_with(b"xthe end"));
    // Into a file, and from nowhere.
    let file = tempfile::NamedTempFile::new().unwrap();
    let to = file.reopen().unwrap();
    assert!(play(&["stdio"]).stdin(Stdio::null()).stdout(to).status().unwrap().success());
    assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "the end");
}

fn the_pid_file_is_locked_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pid");
    let shown = path.to_str().unwrap();
    let mut first = play(&["hold", shown]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 5];
    first.stdout.take().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(&line, b"held\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", first.id()));
    assert_eq!(
        output(&["hold", shown]),
        "cannot create PID file: Cannot lock pid file: Resource temporarily unavailable"
    );
    drop(first.stdin.take());
    assert!(first.wait().unwrap().success());
    assert!(!path.exists());
    assert_eq!(
        PidFile::create(Path::new("/nonexistent/pid")).unwrap_err().to_string(),
        "cannot create PID file: Could not create '/nonexistent/pid': No such file or directory"
    );
}

fn the_first_process_ends_when_the_daemon_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    // Relative names, because the daemon changes its directory.
    let first = play(&["daemon", "pid", "s", "no"])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        // Reads both to the end, as libvirt does: a daemon that kept them open would hang this test.
        .output()
        .unwrap();
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    assert!(first.stderr.is_empty() && first.stdout.is_empty());
    let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap().trim().to_owned();
    for number in 0..3 {
        let to = std::fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap();
        assert_eq!(to, Path::new("/dev/null"));
    }
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    // proc(5): the session's id is the fourth field after the name.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session = stat.rsplit_once(") ").unwrap().1.split(' ').nth(3).unwrap();
    assert_eq!(session, pid);
    let mut client = UnixStream::connect(dir.path().join("s")).unwrap();
    let mut text = vec![0; pid.len()];
    client.read_exact(&mut text).unwrap();
    assert_eq!(text, pid.as_bytes());
    client.shutdown(std::net::Shutdown::Write).unwrap();
    client.read_to_end(&mut text).unwrap();
    // It has let go of its session; now it ends and tidies up.
    while dir.path().join("pid").exists() {
        std::thread::yield_now();
    }
    assert!(!dir.path().join("s").exists());
}

fn a_daemon_that_fails_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let first =
        play(&["daemon", "pid", "s", "yes"]).current_dir(dir.path()).stdin(Stdio::null()).output().unwrap();
    assert_eq!(first.status.code(), Some(1));
    assert_eq!(String::from_utf8(first.stderr).unwrap(), "the image is missing\n");
}

fn the_internal_argument_is_not_for_users() {
    let by_hand =
        play(&["stdio", cloister_chardev::process::DAEMON_ARGUMENT]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(by_hand.status.code(), Some(1));
    assert!(String::from_utf8(by_hand.stderr).unwrap().contains("give -daemonize"));
}
