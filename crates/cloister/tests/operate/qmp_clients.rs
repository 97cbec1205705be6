//! QMP clients that others wrote: Python's `qemu.qmp` with `qmp-shell`, and the crate that Kata Containers uses.

use crate::guest::{Guest, PROMPT, cache, program, skip};
use qapi::qmp::{self, Event};
use serde_json::json;
use std::io::{BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

#[test]
fn qemu_qmp_drives_start_stop_reset_memsave_and_quit() {
    let Some(python) = python() else { return };
    let mut guest = Guest::small("echo.s", &["-S"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/operate/clients/drive.py");
    let done = Command::new(python.join("python3")).arg(script).arg(guest.path("")).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}\n{}", guest.everything());
    guest.succeeds();
    let kernel = std::fs::read(guest.path("kernel")).unwrap();
    // The entry of the kernel is where it was loaded, by either kind of address.
    for name in ["physical", "logical"] {
        assert_eq!(std::fs::read(guest.path(name)).unwrap(), kernel[0x11000..0x11200], "{name}");
    }
}

#[test]
fn qmp_shell_runs_lines_and_human_ones() {
    let Some(python) = python() else { return };
    let mut guest = Guest::small("echo.s", &["-S"]);
    let shell = |options: &[&str], lines: &str| {
        let mut command = Command::new(python.join("qmp-shell"));
        command.args(options).arg(guest.path("qmp"));
        typed(command, lines)
    };
    let said = shell(&[], "query-status\ncont\nquery-name\nno-such-command\nqmp_capabilities\n");
    assert!(said.contains("Connected to QEMU 8.2"), "{said}");
    assert!(said.contains(r#""status": "prelaunch""#), "{said}");
    assert!(said.contains("CommandNotFound"), "{said}");
    let said = shell(&["-v", "-p"], "query-status\n");
    assert!(said.contains(r#""status": "running""#), "{said}");
    // With -H it asks `help` and `info` first and splits the answers.
    let said = shell(&["-H"], "info status\nstop\ninfo status\nno-such-command\n");
    assert!(said.contains("VM status: running") && said.contains("VM status: paused"), "{said}");
    assert!(said.contains("unknown command: 'no-such-command'"), "{said}");
    guest.qmp().execute("quit", json!({}));
    guest.succeeds();
}

/// It listens itself and expects to be called.
#[test]
fn qmp_shell_wrap_starts_the_program_and_is_called() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut command = program();
    let binary = command.get_program().to_owned();
    command = Command::new(python.join("qmp-shell-wrap"));
    command.current_dir(&folder).arg(binary);
    command.args(["-machine", "none", "-S", "-display", "none", "-name", "wrapped"]);
    // It waits for the program's end.
    let said = said_to(command, "query-name\nquit\n").1;
    assert!(said.contains("Connected") && said.contains(r#""name": "wrapped""#), "{said}");
}

#[test]
fn the_client_crate_of_kata_parses_greeting_schema_and_events() {
    let mut guest = Guest::small("echo.s", &["-S", "-name", "kata"]);
    let stream = guest.connect("qmp");
    stream.set_read_timeout(Some(PROMPT)).unwrap();
    let reader = BufReader::new(stream.try_clone().unwrap());
    let mut kata = qapi::Qmp::new(qapi::Stream::new(reader, stream));

    let greeting = kata.handshake().unwrap();
    assert_eq!(greeting.version.qemu.major, 8);
    assert_eq!(greeting.capabilities.len(), 1, "{greeting:?}");

    let schema = kata.execute(&qmp::query_qmp_schema {}).unwrap();
    let known = |name: &str| {
        schema.iter().any(|entry| match entry {
            qmp::SchemaInfo::command { base, .. } => base.name == name,
            _ => false,
        })
    };
    let commands = kata.execute(&qmp::query_commands {}).unwrap();
    for command in &commands {
        assert!(known(&command.name), "{}", command.name);
    }

    assert_eq!(kata.execute(&qmp::query_name {}).unwrap().name.as_deref(), Some("kata"));
    assert!(!kata.execute(&qmp::query_status {}).unwrap().running);
    assert!(!kata.execute(&qmp::query_kvm {}).unwrap().enabled);
    let cpus = kata.execute(&qmp::query_cpus_fast {}).unwrap();
    assert!(matches!(cpus[..], [qmp::CpuInfoFast::s390x { .. }]), "{cpus:?}");
    // Kata asks this at once, for its own retries.
    assert!(kata.execute(&qmp::query_fdsets {}).unwrap().is_empty());
    let machines = kata.execute(&qmp::query_machines { compat_props: None }).unwrap();
    assert!(machines.iter().any(|machine| machine.alias.as_deref() == Some("s390-ccw-virtio")));
    kata.execute(&qmp::query_chardev {}).unwrap();
    kata.execute(&qmp::query_block {}).unwrap();
    kata.execute(&qmp::query_named_block_nodes { flat: None }).unwrap();
    kata.execute(&qmp::query_command_line_options { option: None }).unwrap();
    kata.execute(&qmp::query_migrate_capabilities {}).unwrap();

    kata.execute(&qmp::cont {}).unwrap();
    kata.execute(&qmp::stop {}).unwrap();
    kata.execute(&qmp::system_reset {}).unwrap();
    kata.execute(&qmp::system_powerdown {}).unwrap();
    kata.execute(&qmp::cont {}).unwrap();
    kata.execute(&qmp::quit {}).unwrap();
    let events: Vec<Event> = kata.events().collect();
    let end = events.last();
    let Some(Event::SHUTDOWN { data, .. }) = end else { panic!("{events:?}") };
    assert_eq!((data.guest, data.reason), (false, qmp::ShutdownCause::host_qmp_quit));
    let has = |wanted: fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
    assert_eq!(has(|event| matches!(event, Event::RESUME { .. })), 2, "{events:?}");
    assert_eq!(has(|event| matches!(event, Event::STOP { .. })), 1, "{events:?}");
    assert_eq!(has(|event| matches!(event, Event::RESET { .. })), 1, "{events:?}");
    assert_eq!(has(|event| matches!(event, Event::POWERDOWN { .. })), 1, "{events:?}");
    guest.succeeds();
}

/// The programs of Python's package.
fn python() -> Option<PathBuf> {
    let folder = cache("python/bin");
    if !folder.join("qmp-shell").exists() {
        skip("Python's qemu.qmp is not installed");
        return None;
    }
    Some(folder)
}

/// Types lines to a program, which succeeds; answers all it said.
#[track_caller]
fn typed(command: Command, lines: &str) -> String {
    let (success, said) = said_to(command, lines);
    assert!(success, "{said}");
    said
}

/// Types lines to a program; answers whether it succeeded and all it said. After `quit`, Python's shells take the closed
/// connection for an error, with QEMU as well.
fn said_to(mut command: Command, lines: &str) -> (bool, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    let home = tempfile::tempdir().unwrap();
    command.env("HOME", home.path()).env_remove("CLOISTER_PLATFORM").stdin(Stdio::piped());
    command.stdout(writer.try_clone().unwrap()).stderr(writer).process_group(0);
    let mut child = command.spawn().unwrap();
    // It holds the other ends.
    drop(command);
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let said = std::thread::spawn(move || std::io::read_to_string(reader).unwrap());
    let end = Instant::now() + PROMPT;
    while !said.is_finished() && Instant::now() < end {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    if !said.is_finished() {
        let group = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    }
    let status = child.wait().unwrap();
    (status.success(), said.join().unwrap())
}
