//! The console of a run and how runs end: a real terminal, signals, closed pipes, files.
//!
//! The guests are small programs of ours; what a distribution's kernel does with a console is for `boots`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, SpecialCodeIndex, Termios, tcgetattr};

/// A run that has not said what is expected by then never will.
const LIMIT: Duration = Duration::from_secs(60);
/// What "promptly" means for the end of a run.
const PROMPT: Duration = Duration::from_secs(2);

#[test]
fn nographic_makes_the_terminal_raw_and_ctrl_a_x_gives_it_back() {
    let mut run = Run::on_terminal(&["-nographic"]);
    run.waits_for("ready");
    let raw = run.modes();
    let cooked = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN;
    assert!(!raw.local_modes.intersects(cooked), "{:?}", raw.local_modes);
    assert_eq!(raw.special_codes[SpecialCodeIndex::VMIN], 1);
    run.types(b"\x01x");
    assert_eq!(run.ends(PROMPT).code(), Some(0));
    run.gave_the_terminal_back();
}

#[test]
fn typed_input_reaches_the_guest() {
    let mut run = Run::on_terminal(&["-nographic"]);
    run.waits_for("ready");
    run.types(b"ab\r");
    run.waits_for("<a>");
    run.waits_for("<b>");
    run.waits_for("<\r>");
    // The guest's, not the terminal's: nothing is interrupted.
    run.types(b"\x03\x1a");
    run.waits_for("<\x03>");
    run.waits_for("<\x1a>");
    run.types(b"\x01\x01");
    run.waits_for("<\x01>");
    run.types(b"q");
    run.waits_for("powering off");
    assert_eq!(run.ends(LIMIT).code(), Some(0));
    run.gave_the_terminal_back();
}

#[test]
fn ctrl_a_h_shows_help_and_the_guest_goes_on() {
    let mut run = Run::on_terminal(&["-nographic"]);
    run.waits_for("ready");
    run.types(b"\x01h");
    run.waits_for("C-a x");
    run.types(b"a");
    run.waits_for("<a>");
    run.types(b"\x01c");
    run.waits_for("monitor");
    run.types(b"\x01x");
    assert_eq!(run.ends(PROMPT).code(), Some(0));
    assert!(!run.seen().contains("<h>") && !run.seen().contains("<c>"), "{}", run.seen());
}

#[test]
fn serial_stdio_leaves_the_interrupt_key_to_the_terminal() {
    let mut run = Run::on_terminal(&["-display", "none", "-serial", "stdio"]);
    run.waits_for("ready");
    assert!(run.modes().local_modes.contains(LocalModes::ISIG));
    run.types(b"\x01");
    run.waits_for("<\x01>");
    run.types(b"q");
    assert_eq!(run.ends(LIMIT).code(), Some(0));
    run.gave_the_terminal_back();
}

#[test]
fn signals_end_a_run_promptly_and_give_the_terminal_back() {
    for (signal, name) in [(Signal::TERM, "signal 15"), (Signal::INT, "signal 2"), (Signal::HUP, "signal 1")]
    {
        for spins in [false, true] {
            for cpus in ["1", "2"] {
                let mut run = Run::on_terminal(&["-nographic", "-smp", cpus]);
                run.waits_for("ready");
                if spins {
                    run.types(b"s");
                    run.waits_for("spinning");
                }
                run.signal(signal);
                let status = run.ends(PROMPT);
                assert_eq!(status.code(), Some(0), "{name}, spins: {spins}, {cpus} CPUs: {status}");
                run.waits_for(name);
                run.gave_the_terminal_back();
            }
        }
    }
}

#[test]
fn ctrl_a_x_ends_a_guest_that_spins() {
    let mut run = Run::on_terminal(&["-nographic"]);
    run.waits_for("ready");
    run.types(b"s");
    run.waits_for("spinning");
    run.types(b"\x01x");
    assert_eq!(run.ends(PROMPT).code(), Some(0));
    run.gave_the_terminal_back();
}

#[test]
fn a_console_that_nobody_reads_does_not_stop_the_guest() {
    let folder = tempfile::tempdir().unwrap();
    let (mut out, to_out) = std::io::pipe().unwrap();
    let (err, to_err) = std::io::pipe().unwrap();
    let kernel = echo(folder.path());
    let mut run = command(&kernel, &["-nographic"]);
    let mut child = run.stdin(Stdio::piped()).stdout(to_out).stderr(to_err).spawn().unwrap();
    // The builder holds the other ends.
    drop(run);
    out.read_exact(&mut [0; "ready".len()]).unwrap();
    drop((out, err));
    let mut keys = child.stdin.take().unwrap();
    keys.write_all(b"abc").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(child.try_wait().unwrap().is_none(), "the guest must go on");
    keys.write_all(b"q").unwrap();
    assert_eq!(ended(&mut child, LIMIT).code(), Some(0));
}

#[test]
fn the_console_goes_to_a_file_or_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let hello = guest(folder.path(), "hello.s");
    let log = folder.path().join("console.log");
    let to_file = format!("file:{}", log.display());
    let cases: [(&[&str], &str, &str); 6] = [
        (&["-nographic"], "Hello from s390x", ""),
        (&["-nographic", "-monitor", "none", "-serial", "null"], "", ""),
        (&["-nographic", "-monitor", "none", "-serial", &to_file], "", "Hello from s390x"),
        (&["-display", "none", "-serial", &to_file], "", "Hello from s390x"),
        (&["-display", "none", "-serial", "stdio"], "Hello from s390x", ""),
        (&["-display", "none"], "", ""),
    ];
    for (options, on_stdout, in_file) in cases {
        let _ = std::fs::remove_file(&log);
        let done = command(&hello, options).stdin(Stdio::null()).output().unwrap();
        assert!(done.status.success(), "{options:?}: {}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), on_stdout, "{options:?}");
        assert_eq!(std::fs::read_to_string(&log).unwrap_or_default().trim(), in_file, "{options:?}");
    }
}

#[test]
fn a_console_file_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let hello = guest(folder.path(), "hello.s");
    let options = ["-nographic", "-serial", "file:/nonexistent/console.log"];
    let done = command(&hello, &options).stdin(Stdio::null()).output().unwrap();
    let messages = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{messages}");
    assert!(messages.contains("/nonexistent/console.log") && !messages.contains("panicked"), "{messages}");
}

#[test]
fn the_end_of_standard_input_is_not_the_end_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let (out, to_out) = std::io::pipe().unwrap();
    let mut child =
        command(&echo(folder.path()), &["-nographic"]).stdin(Stdio::null()).stdout(to_out).spawn().unwrap();
    Reader::of(out).waits_for("ready");
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "the guest waits for input that never comes");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(ended(&mut child, PROMPT).code(), Some(0));
}

#[test]
fn a_run_needs_no_standard_descriptors() {
    let folder = tempfile::tempdir().unwrap();
    let hello = guest(folder.path(), "hello.s").display().to_string();
    let log = folder.path().join("console.log").display().to_string();
    for (closed, options) in [
        ("<&-", format!("-nographic -serial file:{log}")),
        (">&-", "-nographic".into()),
        ("<&- >&- 2>&-", "-nographic".into()),
    ] {
        let script = format!("exec \"$0\" -machine s390-ccw-virtio -m 64 -kernel {hello} {options} {closed}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_cloister")]).env_remove("CLOISTER_PLATFORM");
        let done = shell.output().unwrap();
        let messages = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{closed}: {} {messages}", done.status);
        assert!(!messages.contains("panicked"), "{closed}: {messages}");
    }
    assert!(std::fs::read_to_string(&log).unwrap().contains("Hello from s390x"));
}

/// A run of the echo guest whose standard descriptors are a terminal.
struct Run {
    child: Child,
    /// The side of whoever sits at the terminal.
    person: File,
    /// The side of the program, kept open to look at its modes.
    terminal: OwnedFd,
    before: Termios,
    screen: Reader,
    _folder: tempfile::TempDir,
}

impl Run {
    fn on_terminal(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let terminal = rustix::fs::open(&name, flags, rustix::fs::Mode::empty()).unwrap();
        let before = tcgetattr(&terminal).unwrap();
        let end = || terminal.try_clone().unwrap();
        let child = command(&echo(folder.path()), options).stdin(end()).stdout(end()).stderr(end()).spawn();
        let person = File::from(person);
        let screen = Reader::of(person.try_clone().unwrap());
        Self { child: child.unwrap(), person, terminal, before, screen, _folder: folder }
    }

    fn types(&mut self, keys: &[u8]) {
        self.person.write_all(keys).unwrap();
    }

    #[track_caller]
    fn waits_for(&self, text: &str) {
        self.screen.waits_for(text);
    }

    fn seen(&self) -> String {
        self.screen.seen()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn modes(&self) -> Termios {
        tcgetattr(&self.terminal).unwrap()
    }

    #[track_caller]
    fn ends(&mut self, within: Duration) -> ExitStatus {
        ended(&mut self.child, within)
    }

    #[track_caller]
    fn gave_the_terminal_back(&self) {
        let (after, before) = (self.modes(), &self.before);
        assert_eq!(after.input_modes, before.input_modes);
        assert_eq!(after.output_modes, before.output_modes);
        assert_eq!(after.control_modes, before.control_modes);
        assert_eq!(after.local_modes, before.local_modes);
        for code in [SpecialCodeIndex::VMIN, SpecialCodeIndex::VTIME, SpecialCodeIndex::VINTR] {
            assert_eq!(after.special_codes[code], before.special_codes[code]);
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // A failed test leaves no machine behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Collects what comes out, so that nothing blocks on a full buffer.
struct Reader(Arc<(Mutex<Vec<u8>>, Condvar)>);

impl Reader {
    fn of(mut source: impl Read + Send + 'static) -> Self {
        let shared = Arc::<(Mutex<Vec<u8>>, Condvar)>::default();
        let into = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            // A terminal that nobody has open any more reads as an error.
            while let Ok(count @ 1..) = source.read(&mut buffer) {
                into.0.lock().unwrap().extend_from_slice(&buffer[..count]);
                into.1.notify_all();
            }
        });
        Self(shared)
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.0.0.lock().unwrap()).into_owned()
    }

    #[track_caller]
    fn waits_for(&self, text: &str) {
        let (lock, changed) = &*self.0;
        let missing = |bytes: &mut Vec<u8>| !String::from_utf8_lossy(bytes).contains(text);
        let waited = changed.wait_timeout_while(lock.lock().unwrap(), LIMIT, missing);
        let timed_out = waited.unwrap().1.timed_out();
        assert!(!timed_out, "no {text:?} in {:?}", self.seen());
    }
}

#[track_caller]
fn ended(child: &mut Child, within: Duration) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > within {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the run did not end within {within:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn command(kernel: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloister"));
    command.args(["-machine", "s390-ccw-virtio", "-m", "64", "-kernel"]).arg(kernel).args(options);
    // The platform of the person who runs the tests must not matter.
    command.env_remove("CLOISTER_PLATFORM").env("HOME", "/nonexistent").env_remove("XDG_DATA_HOME");
    command
}

fn echo(folder: &Path) -> PathBuf {
    guest(folder, "echo.s")
}

/// Assembles one of the guests.
fn guest(folder: &Path, source: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/s390x").join(source);
    let image = folder.join("kernel");
    std::fs::write(&image, cloister_asm_s390x::assemble_file(source).unwrap().bytes).unwrap();
    image
}
