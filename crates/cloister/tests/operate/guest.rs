//! A machine that a test operates: the program, its QMP clients, its human monitors, its console.

use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What has not happened by then never will. A Linux guest on a busy machine needs most of it.
pub(crate) const LIMIT: Duration = Duration::from_secs(240);
/// How long an answer of a monitor may take.
pub(crate) const PROMPT: Duration = Duration::from_secs(20);

/// A running program with a folder of its own. It is killed when the test ends.
pub(crate) struct Guest {
    child: Child,
    folder: tempfile::TempDir,
    status: Option<ExitStatus>,
}

impl Guest {
    /// An s390x machine with the small guest `source`, a QMP socket `qmp` and the console in the file `console`.
    pub(crate) fn small(source: &str, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        assemble(source, &folder.path().join("kernel"));
        let mut args = vec!["-m", "64", "-kernel", "kernel", "-serial", "file:console"];
        args.extend(options);
        Self::machine(folder, &args)
    }

    /// An s390x machine with a QMP socket `qmp`; it has opened that when this returns.
    pub(crate) fn machine(folder: tempfile::TempDir, options: &[&str]) -> Self {
        let mut args = vec!["-machine", "s390-ccw-virtio", "-display", "none"];
        args.extend(["-qmp", "unix:qmp,server=on,wait=off"]);
        args.extend(options);
        let guest = Self::spawn(folder, program(), &args);
        guest.connect("qmp");
        guest
    }

    /// Runs `command` with these arguments in the folder; what it prints goes to the files `out` and `err` there.
    pub(crate) fn spawn(folder: tempfile::TempDir, mut command: Command, args: &[&str]) -> Self {
        let file = |name: &str| File::create(folder.path().join(name)).unwrap();
        let child = command
            .current_dir(&folder)
            .args(args)
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .unwrap();
        Self { child, folder, status: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A client of a listening socket in the folder.
    #[track_caller]
    pub(crate) fn connect(&self, name: &str) -> UnixStream {
        let end = Instant::now() + PROMPT;
        loop {
            match UnixStream::connect(self.path(name)) {
                Ok(stream) => return stream,
                Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
                Err(error) => panic!("{name}: {error}\n{}", self.everything()),
            }
        }
    }

    /// A QMP client that has negotiated.
    #[track_caller]
    pub(crate) fn qmp(&self) -> Qmp {
        Qmp::negotiated(self.connect("qmp"))
    }

    /// Waits for text in a file of the folder.
    #[track_caller]
    pub(crate) fn waits_for(&self, file: &str, text: &str) {
        let end = Instant::now() + LIMIT;
        while !self.text(file).contains(text) {
            assert!(Instant::now() < end, "no {text:?} in {file}\n{}", self.everything());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    pub(crate) fn ends(&mut self) -> ExitStatus {
        let end = Instant::now() + PROMPT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.status = Some(status);
                return status;
            }
            assert!(Instant::now() < end, "the program does not end\n{}", self.everything());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    pub(crate) fn succeeds(&mut self) {
        let status = self.ends();
        assert!(status.success(), "{status}\n{}", self.everything());
    }

    pub(crate) fn everything(&self) -> String {
        ["console", "out", "err"].map(|file| format!("--- {file}\n{}", self.text(file))).join("\n")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A QMP client.
pub(crate) struct Qmp {
    stream: UnixStream,
    received: Vec<u8>,
    events: VecDeque<Value>,
    pub(crate) greeting: Value,
}

impl Qmp {
    /// Reads the greeting only.
    #[track_caller]
    pub(crate) fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PROMPT)).unwrap();
        let mut qmp = Self { stream, received: Vec::new(), events: VecDeque::new(), greeting: Value::Null };
        qmp.greeting = qmp.message();
        assert!(qmp.greeting["QMP"]["capabilities"].is_array(), "{}", qmp.greeting);
        qmp
    }

    #[track_caller]
    pub(crate) fn negotiated(stream: UnixStream) -> Self {
        let mut qmp = Self::new(stream);
        qmp.execute("qmp_capabilities", json!({}));
        qmp
    }

    /// What a command returns.
    #[track_caller]
    pub(crate) fn execute(&mut self, command: &str, arguments: Value) -> Value {
        let answer = self.ask(json!({"execute": command, "arguments": arguments}));
        assert!(answer.get("return").is_some(), "{command}: {answer}");
        answer["return"].clone()
    }

    /// The words of a refusal.
    #[track_caller]
    pub(crate) fn refuses(&mut self, command: &str, arguments: Value) -> String {
        let answer = self.ask(json!({"execute": command, "arguments": arguments}));
        let words = answer["error"]["desc"].as_str();
        words.unwrap_or_else(|| panic!("{command}: {answer}")).to_owned()
    }

    /// The answer to a line of the human monitor.
    #[track_caller]
    pub(crate) fn human(&mut self, line: &str) -> String {
        let text = self.execute("human-monitor-command", json!({"command-line": line}));
        text.as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, request: Value) -> Value {
        self.send(request.to_string().as_bytes());
        self.answer()
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next message that is not an event.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Value {
        loop {
            let message = self.message();
            if message.get("event").is_none() {
                return message;
            }
            self.events.push_back(message);
        }
    }

    /// Waits for an event; drops those before it.
    #[track_caller]
    pub(crate) fn event(&mut self, name: &str) -> Value {
        let end = Instant::now() + LIMIT;
        loop {
            let event = match self.events.pop_front() {
                Some(event) => event,
                None => self.message_by(end),
            };
            assert!(event.get("event").is_some(), "waiting for {name}: {event}");
            if event["event"] == name {
                return event;
            }
        }
    }

    /// Nothing more comes: the other side has closed.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
    }

    #[track_caller]
    fn message(&mut self) -> Value {
        self.message_by(Instant::now() + PROMPT)
    }

    /// Every message ends with CRLF and is ASCII.
    #[track_caller]
    fn message_by(&mut self, end: Instant) -> Value {
        let mut buffer = [0; 65536];
        let mut searched = 0;
        loop {
            if let Some(at) = self.received[searched..].windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.received.drain(..searched + at + 2).collect();
                assert!(line.is_ascii(), "{:?}", String::from_utf8_lossy(&line));
                return serde_json::from_slice(&line).unwrap();
            }
            searched = self.received.len().saturating_sub(1);
            match self.stream.read(&mut buffer) {
                Ok(0) => panic!("the monitor closed the connection"),
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => panic!("{error}"),
            }
            assert!(Instant::now() < end, "no message: {:?}", String::from_utf8_lossy(&self.received));
        }
    }
}

/// The program. The platform of the person who runs the tests must not matter.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloister"));
    command.env_remove("CLOISTER_PLATFORM").env("HOME", "/nonexistent").env_remove("XDG_DATA_HOME");
    command
}

/// Assembles one of the small guests.
pub(crate) fn assemble(source: &str, image: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/s390x").join(source);
    std::fs::write(image, cloister_asm_s390x::assemble_file(source).unwrap().bytes).unwrap();
}

/// Where the test scripts put what they fetch.
pub(crate) fn cache(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::var_os("CLOISTER_CACHE").map_or_else(|| root.join("cache"), PathBuf::from).join(name)
}

/// Prints why a test does nothing; a failure when `CI` is set.
#[track_caller]
pub(crate) fn skip(what: &str) {
    let notice = format!("SKIPPED: {what}; run scripts/test");
    assert!(std::env::var_os("CI").is_none(), "{notice}");
    eprintln!("{notice}");
}

/// The program that `command` names is installed.
#[track_caller]
pub(crate) fn installed(command: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(command).exists());
    if !found {
        skip(&format!("{command} is not installed"));
    }
    found
}
