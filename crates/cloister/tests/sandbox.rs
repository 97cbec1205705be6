//! A machine in its sandbox, as managers start it. What the sandbox takes is tested where it is made; here is that the
//! whole program is in it, and that operators notice nothing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_arch = "x86_64")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LIBVIRT: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

#[test]
fn every_thread_is_in_the_sandbox_and_monitors_work() {
    for sandbox in [&[][..], &["-sandbox", LIBVIRT]] {
        let folder = tempfile::tempdir().unwrap();
        let (child, mut qmp) = start(&folder, sandbox);
        let statuses = statuses(child.id());
        assert!(statuses.len() > 1);
        for status in statuses {
            assert!(status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"), "{status}");
        }
        let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
        let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"]);
        let saved = folder.path().join("saved");
        let arguments = format!(r#"{{"val":0,"size":4096,"filename":"{}"}}"#, saved.display());
        assert_eq!(ask(&mut qmp, "pmemsave", &arguments), r#"{"return": {}}"#);
        assert_eq!(fs::metadata(saved).unwrap().len(), 4096);
        ends_well(child, qmp);
    }
}

#[test]
fn sandbox_off_and_dumps_are_left_to_the_user() {
    let folder = tempfile::tempdir().unwrap();
    let (child, qmp) = start(&folder, &["-sandbox", "off", "-machine", "dump-guest-core=on"]);
    for status in statuses(child.id()) {
        assert!(status.contains("NoNewPrivs:\t0"), "{status}");
    }
    let limit = |pid: &str| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        limits.lines().find(|line| line.starts_with("Max core file size")).unwrap().to_owned()
    };
    assert_eq!(limit(&child.id().to_string()), limit("self"));
    ends_well(child, qmp);
}

/// A stopped machine on a platform folder, and a QMP client.
fn start(folder: &tempfile::TempDir, options: &[&str]) -> (Child, BufReader<UnixStream>) {
    let program = || {
        let mut program = Command::new(env!("CARGO_BIN_EXE_cloister"));
        program
            .current_dir(folder)
            .env("HOME", folder.path())
            .env_remove("CLOISTER_PLATFORM")
            .stdin(Stdio::null());
        program
    };
    let made = program().args(["pv", "host-key", "create", "-o", "platform"]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    fs::write(folder.path().join("kernel"), [0; 0x11000]).unwrap();
    let args = "-machine s390-ccw-virtio -platform platform -S -display none -kernel kernel -m 64";
    let child = program()
        .args(args.split(' '))
        .args(["-qmp", "unix:qmp,server=on,wait=off"])
        .args(options)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    let stream = loop {
        match UnixStream::connect(folder.path().join("qmp")) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let mut qmp = BufReader::new(stream);
    qmp.read_line(&mut String::new()).unwrap();
    ask(&mut qmp, "qmp_capabilities", "{}");
    // The socket listens before the machine is ready; a process in the sandbox has gained it before its CPUs start.
    std::thread::sleep(Duration::from_millis(500));
    (child, qmp)
}

fn ask(qmp: &mut BufReader<UnixStream>, command: &str, arguments: &str) -> String {
    let request = format!(r#"{{"execute":"{command}","arguments":{arguments}}}"#);
    qmp.get_mut().write_all(request.as_bytes()).unwrap();
    loop {
        let mut line = String::new();
        assert_ne!(qmp.read_line(&mut line).unwrap(), 0);
        if !line.contains(r#""event""#) {
            return line.trim_end().to_owned();
        }
    }
}

fn ends_well(mut child: Child, mut qmp: BufReader<UnixStream>) {
    ask(&mut qmp, "quit", "{}");
    assert!(child.wait().unwrap().success());
}

fn statuses(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap()).collect()
}
