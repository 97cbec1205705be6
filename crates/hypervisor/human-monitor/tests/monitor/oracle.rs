//! Texts compared with the packaged QEMU: the same lines, the same answers. Without it the test prints a notice and
//! passes, but not in CI.

use crate::guest::{SIZE, machine};
use cloister_human_monitor::command;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::process::{Command, Stdio};

const QEMU: &str = "qemu-system-s390x";

/// Lines that both answer with the same text. Not here because ours differs: `info cpus` (threads), `info version`, and
/// registers in expressions, which QEMU has not for this target. QEMU's format of `x` and `print` lasts
/// for all monitors, ours for one session, so it is given where the value shows.
const LINES: &[&str] = &[
    "foo",
    "STOP",
    "\"stop\"",
    "infostatus",
    "info foo",
    "info \"status\"",
    "help foo",
    "help info nope",
    "help stop",
    "? c",
    "help x",
    "help xp",
    "help p",
    "help cpu",
    "help nmi",
    "help quit",
    "help memsave",
    "help pmemsave",
    "help gdbserver",
    "help device_add",
    "help device_del",
    "help object_add",
    "help object_del",
    "help system_reset",
    "help system_powerdown",
    "help info",
    "help info status",
    "help info registers",
    "help info block",
    "help info qtree",
    "help info qom-tree",
    "help info uuid",
    "info status",
    "info name",
    "quit 4",
    "stop ; cont",
    "info status x",
    "info registers -x",
    "info registers 7",
    "cpu",
    "cpu 0",
    "cpu 4",
    "cpu x",
    "device_add",
    "device_add foo",
    "device_del",
    "device_del nope",
    "object_add",
    "object_add foo,id=x",
    "object_add rng-random",
    "object_del nope",
    "migrate",
    "migrate foo",
    "gdbserver none",
    "print 1",
    "print/x 10",
    "p/d -1",
    "p/c 65",
    "p/o 8",
    "p/u -1",
    "p/x 2&3*2",
    "p/x 7|1+1",
    "p/x ~0 - 0xff & 0xff",
    "p/x 'a'",
    "p (1",
    "p 1/0",
    "p 1%0",
    "p 0+",
    "p 0x1g",
    "p 1 2",
    "p 1,2",
    "p $nope",
    "p 0x100000000000000000",
    "p \"a\"",
    "x/zz 0",
    "xp/2x0",
    "x /2x0",
    "x/xw",
    "xp 0x1000",
    "xp /2x 0x1000",
    "x/16xb 0x1000",
    "xp/20xb 0x1001",
    "x/16cb 0x1000",
    "x/4cw 0x1000",
    "x/16db 0x1000",
    "x/8dh 0x1000",
    "x/4dw 0x1000",
    "x/4dg 0x1000",
    "x/4og 0x1000",
    "x/8oh 0x1000",
    "x/8ob 0x1000",
    "x/8uw 0x1000",
    "x/3xh 0x1000",
    "xp/0xw 0",
    "xp/4xg 0x1ffff8",
    "xp/4xw 0x40000000",
    "x/2xw -1",
    "memsave 0 16 \"/nonexistent/a\"",
    "memsave 0 16 \"unterminated",
    "memsave 0",
];

/// In memory at 0x1000 of both.
fn memory() -> Vec<u8> {
    let mut bytes = b"He'\\\n\r\x7f\x80\xff\xfe\0\x01\t ~\x1f".to_vec();
    bytes.extend((0..=255).step_by(5));
    bytes
}

/// What QEMU answers; `None` without one.
fn ask(lines: &[&str]) -> Option<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory");
    std::fs::write(&file, memory()).unwrap();
    let loader = format!("loader,addr=0x1000,force-raw=on,file={}", file.display());
    let mut child = Command::new(QEMU)
        .args(["-S", "-display", "none", "-nodefaults", "-m", "2M", "-name", "guest", "-smp", "2"])
        .args(["-M", "s390-ccw-virtio", "-qmp", "stdio", "-device", &loader])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{}", json!({"execute": "qmp_capabilities"})).unwrap();
    for line in lines {
        let arguments = json!({"command-line": line});
        let ask = json!({"execute": "human-monitor-command", "id": line, "arguments": arguments});
        writeln!(input, "{ask}").unwrap();
    }
    writeln!(input, "{}", json!({"execute": "quit"})).unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    let replies = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let replies = replies.filter(|reply| reply.get("id").is_some());
    Some(replies.map(|reply| reply["return"].as_str().unwrap_or_default().to_owned()).collect())
}

#[test]
fn answers_are_those_of_the_packaged_qemu() {
    let Some(theirs) = ask(LINES) else {
        assert!(std::env::var_os("CI").is_none(), "{QEMU} must be installed in CI");
        eprintln!("notice: {QEMU} is not installed, nothing compared");
        return;
    };
    assert_eq!(theirs.len(), LINES.len(), "{theirs:?}");
    let (_, guest, operator) = machine(false);
    guest.write(0x1000, &memory());
    assert_eq!(SIZE, 2 << 20);
    let mut different = String::new();
    for (line, theirs) in LINES.iter().zip(theirs) {
        let ours = command(&operator, line, None);
        // Their list of subcommands is longer; what both have must read the same.
        let same = match *line {
            "help info" => ours.lines().all(|ours| {
                theirs.lines().any(|theirs| theirs == ours)
                    || ["info confidential", "info mem ", "info mtree ", "info sev "]
                        .iter()
                        .any(|own| ours.starts_with(own))
            }),
            _ => ours == theirs,
        };
        if !same {
            different += &format!("{line}\n  QEMU: {theirs:?}\n  ours: {ours:?}\n");
        }
    }
    assert!(different.is_empty(), "{different}");
}
