//! Interactive sessions: what a person, a script and a hostile peer get.

use crate::guest::{machine, without_guest};
use cloister_chardev::{Chardev, FdStore};
use cloister_human_monitor::{Interactive, Monitor, PROMPT, banner, command, serve};
use proptest::prelude::*;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// What a session writes when it is given these bytes.
fn session(keys: &[u8]) -> (Vec<String>, String) {
    let (machine, operator) = without_guest();
    let mut out = Vec::new();
    Interactive::new(&operator).run(&mut &*keys, &mut out).unwrap();
    (machine.take_calls(), String::from_utf8(out).unwrap())
}

#[test]
fn a_session_begins_with_banner_and_prompt() {
    let (calls, text) = session(b"");
    assert!(calls.is_empty());
    assert_eq!(text, format!("{}{PROMPT}", banner()));
    assert!(banner().contains("monitor - type 'help' for more information"));
}

#[test]
fn plain_lines_over_a_socket_work() {
    let (calls, text) = session(b"system_powerdown\n");
    assert_eq!(calls, ["powerdown"]);
    assert!(text.ends_with("system_powerdown\r\n(qemu) "), "{text:?}");
    let (calls, _) = session(b"stop\r\ncont\r\n\r\nquit\r\nstop\r\n");
    assert_eq!(calls, ["stop", "cont", "quit host-qmp-quit"]);
}

#[test]
fn a_last_line_without_an_end_does_nothing() {
    assert!(session(b"system_powerdown").0.is_empty());
}

#[test]
fn answers_stand_between_prompts() {
    let (_, text) = session(b"info status\n");
    assert!(text.ends_with("(qemu) info status\r\nVM status: paused (prelaunch)\r\n(qemu) "), "{text:?}");
}

#[test]
fn a_socket_is_served_one_client_after_the_other() {
    let (machine, operator) = without_guest();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("monitor");
    let spec = format!("socket,id=mon,server=on,wait=off,path={}", path.display());
    let spec = cloister_options::parse_chardev_text(&spec).unwrap();
    let chardev = Chardev::open(&spec, &FdStore::new()).unwrap();
    let server = {
        let (operator, chardev) = (operator, Arc::clone(&chardev));
        std::thread::spawn(move || serve(&operator, &chardev).unwrap())
    };
    for lines in ["system_powerdown\n", "stop\ngarbage\n", "quit\n"] {
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(lines.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut text = Vec::new();
        client.read_to_end(&mut text).unwrap();
        assert!(text.starts_with(banner().as_bytes()), "{text:?}");
    }
    server.join().unwrap();
    assert_eq!(machine.take_calls(), ["powerdown", "stop", "quit host-qmp-quit"]);
    chardev.close();
}

#[test]
fn tab_completes() {
    for (keys, call) in [
        (&b"system_p\t\n"[..], "powerdown"),
        (b"device_del di\t\n", "device_del disk0"),
        (b"device_add virtio-r\t\x08,id=x\n", "device_add virtio-rng-ccw Some(\"x\")"),
    ] {
        assert_eq!(session(keys).0, [call], "{keys:?}");
    }
    let (_, text) = session(b"info sta\t\n");
    assert!(text.contains("VM status:"), "{text:?}");
    let (_, text) = session(b"system_\t\t");
    assert!(text.contains("system_powerdown  system_reset\r\n\r(qemu) system_"), "{text:?}");
}

#[test]
fn proposals_follow_the_table() {
    let (_, operator) = without_guest();
    let monitor = Monitor::new(&operator);
    let words = |line: &str| monitor.complete(line).words;
    assert!(words("").contains(&"stop".to_owned()));
    assert_eq!(words("help info st"), ["status"]);
    assert_eq!(words("help sto"), ["stop"]);
    assert_eq!(words("info block dr"), ["drive0"]);
    assert_eq!(words("info block -v dr"), ["drive0"]);
    assert!(words("object_add rng-").contains(&"rng-random".to_owned()));
    assert!(words("stop x").is_empty() && words("nope x").is_empty());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("memory.bin"), "").unwrap();
    let folder = folder.path().display();
    assert_eq!(words(&format!("pmemsave 0 16 {folder}/mem")), [format!("{folder}/memory.bin")]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_bytes_panic_and_output_is_text(keys in prop::collection::vec(any::<u8>(), 0..600)) {
        session(&keys);
    }

    #[test]
    fn no_line_panics(text in ".{0,80}", words in "(info|help|x/|xp/|print|cpu|migrate|device_add|object_add|device_del|block|-v|-a|[0-9]{1,3}|[a-z]{1,4}|[ ,=$(/\"]){0,8}") {
        let (_, _, operator) = machine(false);
        for line in [text, words] {
            // No file is written by a test that tries any name.
            if line.contains("memsave") {
                continue;
            }
            let answer = command(&operator, &line, Some(1));
            prop_assert!(answer.len() < 1 << 20);
            prop_assert!(answer.is_empty() || answer.ends_with("\r\n"));
            Monitor::new(&operator).complete(&line);
        }
    }
}
