//! What the program does as a process: daemons, passed descriptors, terminals, and how a start fails.

use crate::guest::{Guest, LIMIT, PROMPT, Qmp, assemble, program};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn daemonize_detaches_its_stdio_and_writes_its_pid() {
    let folder = tempfile::tempdir().unwrap();
    assemble("echo.s", &folder.path().join("kernel"));
    let mut command = program();
    command.current_dir(&folder).args(["-machine", "s390-ccw-virtio", "-m", "64", "-kernel", "kernel"]);
    command.args(["-display", "none", "-serial", "file:console", "-qmp", "unix:qmp,server=on,wait=off"]);
    command.args(["-pidfile", "pid", "-daemonize"]).stdin(Stdio::null());
    // Both are read to the end, which comes when nobody has them open any more.
    let begin = Instant::now();
    let done = command.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    assert!(begin.elapsed() < PROMPT);
    assert_eq!((&done.stdout[..], &done.stderr[..]), (&b""[..], &b""[..]));

    let pid: u32 = std::fs::read_to_string(folder.path().join("pid")).unwrap().trim().parse().unwrap();
    for fd in 0..3 {
        let open = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
        assert_eq!(open, Path::new("/dev/null"), "descriptor {fd}");
    }
    // The socket listens when the parent has ended: no retry.
    let mut qmp = Qmp::negotiated(UnixStream::connect(folder.path().join("qmp")).unwrap());
    assert_eq!(qmp.execute("query-status", json!({}))["running"], true);
    qmp.execute("quit", json!({}));
    qmp.is_closed();
    gone(pid);
    assert!(!folder.path().join("pid").exists(), "the pid file outlives the program");
}

#[test]
fn a_daemon_that_cannot_start_says_why_with_status_1() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program();
    command.current_dir(&folder).args(["-machine", "s390-ccw-virtio", "-kernel", "missing"]);
    command.args(["-display", "none", "-pidfile", "pid", "-daemonize"]);
    let done = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("missing"), "{said}");
}

/// Nomad's driver: the version by a pattern, then plain text on a monitor's socket.
#[test]
fn nomads_sequence_version_then_system_powerdown_as_text() {
    let folder = tempfile::tempdir().unwrap();
    let binary = folder.path().join("qemu-system-s390x");
    std::os::unix::fs::symlink(program().get_program(), &binary).unwrap();
    let done = Command::new(&binary).arg("--version").output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    // `version (\d[\.\d+]+)`
    let (_, version) = said.split_once("version ").unwrap();
    let number: String = version.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    assert!(number.len() >= 3 && number.starts_with(|c: char| c.is_ascii_digit()), "{said}");

    let options = ["-name", "task", "-monitor", "unix:monitor,server,nowait"];
    let mut guest = Guest::small("echo.s", &options);
    guest.waits_for("console", "ready");
    let mut qmp = guest.qmp();
    // It writes and hangs up, whether or not anybody has read the words.
    for _ in 0..5 {
        guest.connect("monitor").write_all(b"system_powerdown\n").unwrap();
        qmp.event("POWERDOWN");
    }
    guest.connect("monitor").write_all(b"quit\n").unwrap();
    guest.succeeds();
}

/// As Kata and libvirt do it: the socket listens before the program exists.
#[test]
fn a_listening_socket_can_be_inherited() {
    for option in ["-qmp", "-chardev"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inherited");
        let listener = UnixListener::bind(&path).unwrap();
        // The client is there first.
        let client = UnixStream::connect(&path).unwrap();
        let backend = match option {
            "-qmp" => format!("-qmp unix:fd={},server=on,wait=off", listener.as_raw_fd()),
            _ => format!(
                "-chardev socket,id=m,fd={},server=on,wait=off -mon chardev=m,mode=control",
                listener.as_raw_fd()
            ),
        };
        let mut guest =
            inheriting(folder, &format!("-machine none -display none {backend}"), &[listener.into()]);
        let mut qmp = Qmp::negotiated(client);
        assert_eq!(qmp.execute("query-target", json!({}))["arch"], "s390x");
        drop(qmp);
        let mut again = Qmp::negotiated(guest.connect("inherited"));
        again.execute("quit", json!({}));
        guest.succeeds();
    }
}

#[test]
fn add_fd_makes_a_path_for_a_console_and_query_fdsets_tells_it() {
    let folder = tempfile::tempdir().unwrap();
    assemble("echo.s", &folder.path().join("kernel"));
    let console = File::create(folder.path().join("console")).unwrap();
    let options = format!(
        "-machine s390-ccw-virtio -m 64 -kernel kernel -display none -qmp unix:qmp,server=on,wait=off \
         -add-fd fd={},set=7,opaque=wr:console -chardev file,id=c,path=/dev/fdset/7 -serial chardev:c",
        console.as_raw_fd()
    );
    let mut guest = inheriting(folder, &options, &[console.into()]);
    guest.waits_for("console", "ready");
    let mut qmp = guest.qmp();
    let sets = qmp.execute("query-fdsets", json!({}));
    assert_eq!(sets[0]["fdset-id"], 7, "{sets}");
    assert_eq!(sets[0]["fds"][0]["opaque"], "wr:console", "{sets}");
    qmp.execute("quit", json!({}));
    guest.succeeds();
}

#[test]
fn a_pty_console_is_named_and_answers() {
    let folder = tempfile::tempdir().unwrap();
    assemble("echo.s", &folder.path().join("kernel"));
    let options = ["-m", "64", "-kernel", "kernel", "-S", "-chardev", "pty,id=con", "-serial", "chardev:con"];
    let mut guest = Guest::machine(folder, &options);
    let mut qmp = guest.qmp();
    let chardevs = qmp.execute("query-chardev", json!({}));
    let named = |device: &&Value| device["label"] == "con";
    let device = chardevs.as_array().unwrap().iter().find(named).unwrap_or_else(|| panic!("{chardevs}"));
    let path = device["filename"].as_str().unwrap().strip_prefix("pty:").unwrap();
    // It is said at start-up too, for people.
    assert!(guest.text("out").contains(path) || guest.text("err").contains(path), "{}", guest.everything());
    let mut terminal = File::options().read(true).write(true).open(path).unwrap();
    qmp.execute("cont", json!({}));
    let mut reader = terminal.try_clone().unwrap();
    let (to, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut byte = [0];
        while reader.read(&mut byte).is_ok_and(|count| count == 1) && to.send(byte[0]).is_ok() {}
    });
    let wait = |text: &str| {
        let (mut seen, end) = (String::new(), Instant::now() + PROMPT);
        while !seen.contains(text) {
            let byte = lines.recv_timeout(end.saturating_duration_since(Instant::now()));
            seen.push(byte.unwrap_or_else(|_| panic!("no {text:?} in {seen:?}")).into());
        }
    };
    wait("ready");
    terminal.write_all(b"k").unwrap();
    wait("<k>");
    // What it says last may be lost with the terminal.
    terminal.write_all(b"q").unwrap();
    guest.succeeds();
}

#[test]
fn no_shutdown_keeps_a_machine_whose_guest_is_off() {
    let mut guest = Guest::small("hello.s", &["-no-shutdown", "-S"]);
    let mut qmp = guest.qmp();
    qmp.execute("cont", json!({}));
    let event = qmp.event("SHUTDOWN");
    assert_eq!(event["data"], json!({"guest": true, "reason": "guest-shutdown"}));
    let status = qmp.execute("query-status", json!({}));
    assert_eq!((&status["status"], &status["running"]), (&json!("shutdown"), &json!(false)));
    assert!(qmp.refuses("cont", json!({})).contains("Resetting the Virtual Machine is required"));
    qmp.execute("system_reset", json!({}));
    qmp.execute("cont", json!({}));
    qmp.event("SHUTDOWN");
    assert_eq!(guest.text("console").matches("Hello").count(), 2);
    qmp.execute("quit", json!({}));
    guest.succeeds();
}

#[test]
fn a_start_that_fails_ends_with_status_1_and_qemus_form_of_message() {
    let folder = tempfile::tempdir().unwrap();
    let binary = folder.path().join("qemu-system-s390x");
    std::os::unix::fs::symlink(program().get_program(), &binary).unwrap();
    let occupied = folder.path().join("occupied");
    std::fs::create_dir(&occupied).unwrap();
    let cases: [(&[&str], &str); 9] = [
        (&["-machine", "no-such-machine"], "unsupported machine type"),
        (&["-object", "s390-pv-guest"], "-object s390-pv-guest: Parameter 'id' is missing"),
        (
            &["-device", "no-such-device"],
            "-device no-such-device: 'no-such-device' is not a valid device model name",
        ),
        (&["-no-such-option"], "-no-such-option: invalid option"),
        (&["-qmp", "unix:occupied,server=on,wait=off"], "occupied"),
        (
            &["-chardev", "socket,id=a,path=x,server=on,wait=off", "-mon", "chardev=b,mode=control"],
            "chardev \"b\" not found",
        ),
        (&["-chardev", "socket,id=a,fd=999,server=on,wait=off"], "999"),
        (&["-pidfile", "missing/pid"], "missing/pid"),
        (&["-m", "none"], "-m"),
    ];
    for (options, words) in cases {
        let mut command = Command::new(&binary);
        command.current_dir(&folder).args(["-display", "none"]).args(options).stdin(Stdio::null());
        command.env("HOME", "/nonexistent").env_remove("CLOISTER_PLATFORM");
        let done = command.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(1), "{options:?}: {said}");
        let first = said.lines().next().unwrap_or_default();
        // As argv[0] names it, as QEMU does, or by its last component.
        assert!(first.contains("qemu-system-s390x: ") && said.contains(words), "{options:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn signals_end_it_with_a_shutdown_event() {
    for (signal, name) in
        [(rustix::process::Signal::TERM, "host-signal"), (rustix::process::Signal::INT, "host-signal")]
    {
        let mut guest = Guest::small("echo.s", &[]);
        guest.waits_for("console", "ready");
        let mut qmp = guest.qmp();
        let pid = rustix::process::Pid::from_raw(i32::try_from(guest.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        assert_eq!(qmp.event("SHUTDOWN")["data"]["reason"], name);
        guest.succeeds();
    }
}

/// Runs the program with descriptors that it inherits under the same numbers.
fn inheriting(folder: tempfile::TempDir, options: &str, fds: &[OwnedFd]) -> Guest {
    for fd in fds {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).unwrap();
    }
    let options: Vec<&str> = options.split_whitespace().collect();
    let guest = Guest::spawn(folder, program(), &options);
    for fd in fds {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC).unwrap();
    }
    guest
}

/// Waits until a process that is not ours has ended.
#[track_caller]
fn gone(pid: u32) {
    let end = Instant::now() + LIMIT.min(PROMPT);
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    while rustix::process::test_kill_process(pid).is_ok() {
        assert!(Instant::now() < end, "the daemon does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Hot code is translated unless the command line forbids it, into the memory that it gives.
#[test]
fn the_command_line_decides_about_translated_code() {
    let loops =
        ".origin 0; .org 0x10000; j 0f; .org 0x10008; .ascii \"S390EP\"; .org 0x11000; 0: aghi %r2,1; j 0b";
    let kernel = cloister_asm_s390x::assemble(loops, "loops.s").unwrap();
    let mut image = vec![0; kernel.origin as usize];
    image.extend(&kernel.bytes);
    for (accel, room) in [("tcg,tb-size=4", "8388608"), ("soft", "67108864"), ("tcg,jit=off", "0")] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("kernel"), &image).unwrap();
        let options =
            ["-m", "64", "-kernel", "kernel", "-accel", accel, "-serial", "none", "-monitor", "none"];
        let mut guest = Guest::machine(folder, &options);
        let mut qmp = guest.qmp();
        let mut size = || {
            let text =
                qmp.execute("x-query-jit", json!({}))["human-readable-text"].as_str().unwrap().to_owned();
            text.lines()
                .find_map(|line| line.strip_prefix("gen code size").map(|rest| rest.trim().to_owned()))
                .unwrap()
        };
        let translated = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            size() != "0/0"
        });
        assert_eq!(translated, room != "0", "{accel}");
        assert!(size().ends_with(&format!("/{room}")), "{accel}: {}", size());
        qmp.execute("quit", json!({}));
        guest.succeeds();
    }
}
