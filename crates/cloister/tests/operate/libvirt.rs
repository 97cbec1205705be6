//! libvirt: its recorded requests against the program, and the real `virsh` with the embedded driver.
//!
//! The recorded sessions were those of x86_64 with SEV. The commands of SEV are named in [`OF_SEV`] and answered with
//! `CommandNotFound` until there is that mechanism, which libvirt takes well from a program that lists no `sev-guest`.

use crate::guest::{Guest, PROMPT, Qmp, assemble, installed, program, skip};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Recorded with libvirt 9.0.0; see the README of that folder.
macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!("../../../hypervisor/monitor/tests/qmp/libvirt-probe/", $name))
    };
}

const OF_SEV: [&str; 5] = [
    "query-sev-capabilities",
    "query-sgx-capabilities",
    "query-sev-launch-measure",
    "query-sev",
    "sev-inject-launch-secret",
];

#[test]
fn the_recorded_probe_passes_with_every_target() {
    for target in ["s390x", "x86_64", "ppc64"] {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join(format!("qemu-system-{target}"));
        std::os::unix::fs::symlink(program().get_program(), &binary).unwrap();
        for requests in [recorded!("probe-requests-full.jsonl"), recorded!("probe-requests-minimal.jsonl")] {
            let begin = Instant::now();
            let daemon = Daemon::start(folder.path(), &binary);
            probe(&mut daemon.qmp(), target, requests);
            // libvirt gives all of it some 30 seconds.
            assert!(begin.elapsed().as_secs() < 10, "{target}: {:?}", begin.elapsed());
        }
    }
}

#[test]
fn the_recorded_run_time_requests_pass_but_for_those_of_sev() {
    let mut guest = Guest::small("echo.s", &["-S"]);
    let mut qmp = Qmp::new(guest.connect("qmp"));
    for (command, _, answer) in replay(&mut qmp, recorded!("run-requests.jsonl")) {
        if OF_SEV.contains(&command.as_str()) {
            assert_eq!(answer["error"]["class"], "CommandNotFound", "{command}: {answer}");
            continue;
        }
        let minimal = &replies()["return_values"][&command];
        assert!(covers(&answer["return"], minimal), "{command}: {answer} against {minimal}");
        if command == "query-cpus-fast" {
            // libvirt looks for it in /proc.
            let thread = answer["return"][0]["thread-id"].as_u64().unwrap();
            assert!(Path::new(&format!("/proc/{}/task/{thread}", guest.pid())).exists(), "{answer}");
        }
    }
    guest.waits_for("console", "ready");
    qmp.execute("quit", json!({}));
    guest.succeeds();
}

#[test]
fn virsh_domcapabilities_takes_the_program_for_an_emulator_and_lists_its_machines() {
    let Some(libvirt) = Libvirt::new() else { return };
    let binary = libvirt.emulator().display().to_string();
    let args = ["domcapabilities", "--arch", "s390x", "--emulatorbin", &binary, "--virttype", "qemu"];
    let said = libvirt.virsh(&args, "");
    for line in [
        "<machine>s390-ccw-virtio-",
        "<arch>s390x</arch>",
        ">qemu</model>",
        ">max</model>",
        ">gen15a</model>",
    ] {
        assert!(said.contains(line), "no {line} in\n{said}");
    }
}

#[test]
fn virsh_creates_suspends_resets_and_destroys_a_domain() {
    let Some(libvirt) = Libvirt::new() else { return };
    assemble("echo.s", &libvirt.path("kernel"));
    libvirt.domain("kernel", "");
    let said = libvirt.virsh(
        &[],
        "create domain.xml\ndomstate guest\nsuspend guest\ndomstate guest\nresume guest\ndomstate guest\n\
         reset guest\nqemu-monitor-command --hmp guest 'info status'\nvcpuinfo guest\n\
         qemu-monitor-command --hmp guest 'info chardev'\nqemu-monitor-command --hmp guest 'info qtree'\n\
         destroy guest\n",
    );
    for line in [
        "Domain 'guest' created",
        "Domain 'guest' suspended",
        "paused",
        "Domain 'guest' resumed",
        "Domain 'guest' was reset",
        "VM status: running",
        "charconsole0: filename=",
        "dev: sclpconsole, id \"console0\"",
        "chardev = \"charconsole0\"",
        "Domain 'guest' destroyed",
    ] {
        assert!(said.contains(line), "no {line} in\n{said}\n{}", libvirt.log());
    }
    let console = std::fs::read_to_string(libvirt.path("console")).unwrap();
    assert!(console.contains("ready"), "{console}\n{said}");
}

/// libvirt refuses `<launchSecurity type='s390-pv'>` on a host that is no IBM Z machine, so the object is passed through.
#[test]
fn virsh_runs_a_protected_guest_by_options_passed_through() {
    let Some(libvirt) = Libvirt::new() else { return };
    assemble("demo.s", &libvirt.path("kernel"));
    for args in [
        &["pv", "host-key", "create", "-o", "platform"][..],
        &["pv", "image", "create", "--no-verify", "-k", "platform/host.crt", "-i", "kernel", "-o", "image"],
    ] {
        let made = program().current_dir(libvirt.path("")).args(args).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    libvirt.domain(
        "image",
        &format!(
            "<qemu:arg value='-object'/><qemu:arg value='s390-pv-guest,id=pv0'/>
             <qemu:arg value='-machine'/><qemu:arg value='confidential-guest-support=pv0'/>
             <qemu:arg value='-platform'/><qemu:arg value='{}'/>",
            libvirt.path("platform").display()
        ),
    );
    libvirt.owned();
    // The guest is so soon done that libvirt, on a busy host, would still be creating it.
    let said = libvirt.virsh(&[], "create --paused domain.xml\nresume guest\n");
    assert!(said.contains("Domain 'guest' created"), "{said}\n{}", libvirt.log());
    let end = Instant::now() + PROMPT;
    let console = loop {
        let console = std::fs::read_to_string(libvirt.path("console")).unwrap_or_default();
        if console.contains("powering off") || Instant::now() > end {
            break console;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    assert!(console.contains("protected: yes") && console.contains("powering off"), "{console}");
}

/// A folder in which an ordinary user runs virsh and the program.
struct Libvirt(tempfile::TempDir);

impl Libvirt {
    fn new() -> Option<Self> {
        if !installed("virsh") {
            return None;
        }
        let driver = "libvirt/connection-driver/libvirt_driver_qemu.so";
        let root = Path::new("/usr/lib");
        let mut folders = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
        if !root.join(driver).exists() && !folders.any(|folder| folder.join(driver).exists()) {
            skip("libvirt's QEMU driver is not installed");
            return None;
        }
        let libvirt = Self(tempfile::tempdir().unwrap());
        for folder in ["root/etc", "home", "run"] {
            std::fs::create_dir_all(libvirt.path(folder)).unwrap();
        }
        let settings = "stdio_handler = \"file\"\nsecurity_driver = \"none\"\n";
        std::fs::write(libvirt.path("root/etc/qemu.conf"), settings).unwrap();
        // A copy, because the user may not be allowed to enter the folder of the build.
        std::fs::copy(program().get_program(), libvirt.emulator()).unwrap();
        libvirt.owned();
        Some(libvirt)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn emulator(&self) -> PathBuf {
        self.path("qemu-system-s390x")
    }

    /// Writes `domain.xml`.
    fn domain(&self, kernel: &str, options: &str) {
        let file = |name: &str| self.path(name).display().to_string();
        let xml = format!(
            "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
             <name>guest</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
             <os><type arch='s390x' machine='s390-ccw-virtio'>hvm</type><kernel>{}</kernel></os>
             <devices><emulator>{}</emulator>
               <controller type='usb' model='none'/><memballoon model='none'/>
               <console type='file'><source path='{}'/><target type='sclp'/></console></devices>
             <qemu:commandline>{options}</qemu:commandline></domain>",
            file(kernel),
            file("qemu-system-s390x"),
            file("console")
        );
        std::fs::write(self.path("domain.xml"), xml).unwrap();
        self.owned();
    }

    /// libvirt's session mode is for ordinary users: root becomes nobody.
    fn owned(&self) {
        if rustix::process::geteuid().is_root() {
            let args = ["-R", "65534:65534"];
            assert!(Command::new("chown").args(args).arg(self.0.path()).status().unwrap().success());
        }
    }

    fn virsh(&self, args: &[&str], lines: &str) -> String {
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "virsh"]);
            command
        } else {
            Command::new("virsh")
        };
        command.current_dir(self.0.path()).env("HOME", self.path("home")).env("LC_ALL", "C");
        command.env("XDG_RUNTIME_DIR", self.path("run")).env("XDG_CACHE_HOME", self.path("home/cache"));
        command.env("XDG_CONFIG_HOME", self.path("home/config")).env_remove("XDG_DATA_HOME");
        command.env_remove("CLOISTER_PLATFORM");
        command.args(["-c", &format!("qemu:///embed?root={}", self.path("root").display())]).args(args);
        let commands = self.path("commands");
        std::fs::write(&commands, lines).unwrap();
        command.stdin(std::fs::File::open(commands).unwrap());
        let done = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
        let said =
            String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{}\n{said}\n{}", done.status, self.log());
        said
    }

    fn log(&self) -> String {
        let logs = std::fs::read_dir(self.path("root/log/qemu"));
        let logs = logs.into_iter().flatten().map(|entry| entry.unwrap().path());
        logs.map(|log| std::fs::read_to_string(log).unwrap_or_default()).collect()
    }
}

/// The program as libvirt's probe starts it.
struct Daemon {
    folder: PathBuf,
    pid: i32,
}

impl Daemon {
    fn start(folder: &Path, binary: &Path) -> Self {
        let mut command = Command::new(binary);
        command.current_dir(folder).env_remove("CLOISTER_PLATFORM").env("HOME", "/nonexistent");
        command.args([
            "-S",
            "-no-user-config",
            "-nodefaults",
            "-nographic",
            "-machine",
            "none,accel=kvm:tcg",
        ]);
        command.args(["-qmp", "unix:qmp,server=on,wait=off", "-pidfile", "pid", "-daemonize"]);
        // Reads standard error to its end, as libvirt does.
        let done = command.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{}: {said}", done.status);
        let pid = std::fs::read_to_string(folder.join("pid")).unwrap().trim().parse().unwrap();
        Self { folder: folder.to_owned(), pid }
    }

    fn qmp(&self) -> Qmp {
        Qmp::new(std::os::unix::net::UnixStream::connect(self.folder.join("qmp")).unwrap())
    }
}

impl Drop for Daemon {
    /// As libvirt ends it.
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.pid).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let end = Instant::now() + PROMPT;
        while rustix::process::test_kill_process(pid).is_ok() && Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

fn probe(qmp: &mut Qmp, target: &str, requests: &str) {
    let replies = replies();
    assert!(covers(&qmp.greeting, &replies["greeting"]), "{}", qmp.greeting);
    let mut has_sev = false;
    for (command, arguments, answer) in replay(qmp, requests) {
        let what = format!("{target}: {command} {arguments}");
        let class = answer["error"]["class"].as_str();
        if command == "qom-list-types" {
            let types = answer["return"].as_array().unwrap();
            has_sev = types.iter().any(|kind| kind["name"] == "sev-guest");
            assert!(types.iter().any(|kind| kind["name"] == "tcg-accel"), "{what}");
        } else if OF_SEV.contains(&command.as_str()) {
            // libvirt gives up on a program that lists sev-guest and does not know query-sev-capabilities.
            assert!(target == "x86_64" || !has_sev, "{what}");
        } else if matches!(command.as_str(), "device-list-properties" | "qom-list-properties") {
            // A type that we do not have: accepted per type.
            assert!(class.is_none_or(|class| class == "DeviceNotFound"), "{what}: {answer}");
        } else if command == "query-cpu-model-expansion" {
            // The recorded models are of x86; a target without CPU models need not know the command.
            let known = class.is_none_or(|class| class == "GenericError");
            assert!(known || target != "s390x", "{what}: {answer}");
        } else {
            assert!(class.is_none(), "{what}: {answer}");
            let minimal = &replies["return_values"][&command];
            match command.as_str() {
                "query-target" => assert_eq!(answer["return"]["arch"], target),
                // Contents of another target and mechanism, of which only the first entry's shape can be asked for.
                "query-qmp-schema" | "query-commands" => {
                    assert!(answer["return"][0]["name"].is_string(), "{what}");
                }
                "query-machines" => {
                    assert!(answer["return"].as_array().unwrap().iter().all(|machine| {
                        let required = ["name", "cpu-max", "numa-mem-supported", "hotpluggable-cpus"];
                        required.iter().all(|name| machine.get(name).is_some())
                    }));
                }
                // The other targets have no machine yet whose CPUs they could name.
                "query-cpu-definitions" if target != "s390x" => {
                    assert!(answer["return"].is_array(), "{what}")
                }
                _ => assert!(minimal.is_null() || covers(&answer["return"], minimal), "{what}: {answer}"),
            }
        }
    }
}

/// Replays requests; gives name, arguments and answer of each.
fn replay(qmp: &mut Qmp, requests: &str) -> Vec<(String, Value, Value)> {
    let replay = requests.lines().map(|line| {
        let request: Value = serde_json::from_str(line).unwrap();
        qmp.send(format!("{line}\r\n").as_bytes());
        let answer = qmp.answer();
        assert_eq!(answer["id"], request["id"], "{line}");
        (request["execute"].as_str().unwrap().to_owned(), request["arguments"].clone(), answer)
    });
    replay.collect()
}

fn replies() -> Value {
    serde_json::from_str(recorded!("replies-minimal.json")).unwrap()
}

/// Whether every member of a minimal reply that libvirt accepted is there with the same JSON type.
fn covers(ours: &Value, minimal: &Value) -> bool {
    match (ours, minimal) {
        (Value::Object(ours), Value::Object(minimal)) => {
            minimal.iter().all(|(name, value)| ours.get(name).is_some_and(|ours| covers(ours, value)))
        }
        (Value::Array(ours), Value::Array(minimal)) => {
            minimal.first().is_none_or(|first| ours.iter().any(|ours| covers(ours, first)))
        }
        (ours, minimal) => std::mem::discriminant(ours) == std::mem::discriminant(minimal),
    }
}
