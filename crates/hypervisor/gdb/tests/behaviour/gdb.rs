//! gdb itself against the server: whether it takes the target description, and what its user sees.

use crate::fake::Toy;
use cloister_chardev::{Chardev, FdStore};
use cloister_gdb::{Handle, Monitor};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

fn monitor() -> Monitor {
    Arc::new(|line| format!("you said {line}\n"))
}

fn serve(toy: &Arc<Toy>, folder: &Path) -> Handle {
    let socket = format!("socket,id=gdb,path={},server=on,wait=off", folder.join("gdb").display());
    let spec = cloister_options::parse_chardev_text(&socket).expect("a socket");
    let device = Chardev::open(&spec, &FdStore::new()).expect("a free path");
    cloister_gdb::serve(Arc::<Toy>::clone(toy), &device, monitor()).expect("a free device")
}

/// What gdb prints; `None` without a gdb that knows s390x.
fn gdb(folder: &Path, commands: &[&str]) -> Option<String> {
    let mut command = Command::new("timeout");
    command.args(["20", "gdb-multiarch", "-nx", "-batch", "-ex", "set confirm off"]);
    // A description names no byte order; with a kernel's symbols gdb takes it from them.
    command.args(["-ex", "set endian big"]);
    command.args(["-ex", "set remotetimeout 5"]);
    command.arg("-ex").arg(format!("target remote {}", folder.join("gdb").display()));
    for line in commands {
        command.args(["-ex", line]);
    }
    match command.output() {
        Ok(output) if output.status.code() != Some(127) => {
            let text = [output.stdout, output.stderr].concat();
            Some(String::from_utf8_lossy(&text).into_owned())
        }
        _ => {
            eprintln!("skipped: no gdb-multiarch");
            None
        }
    }
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[test]
fn gdb_takes_the_description_and_debugs_a_clear_guest() {
    let toy = Toy::new();
    let folder = tempfile::tempdir().unwrap();
    let _server = serve(&toy, folder.path());
    let commands = [
        "info threads",
        "info registers pswa r13 cr0 acr3 f1 prefix",
        "set var $r3 = 0xabcdef",
        "print/x $r3",
        "maintenance print xml-tdesc",
        "print/x $v1.uint128",
        "print/x $v17.uint128",
        "set var $v31.v2_int64[1] = 0x5566",
        "print/x $v31.v2_int64",
        "set {long}0x1000000100 = 0x1122334455667788",
        "x/2gx 0x1000000100",
        "x/gx 0x1000005000",
        "maintenance packet Qqemu.PhyMemMode:1",
        "x/gx 0x100",
        "maintenance packet Qqemu.PhyMemMode:0",
        "stepi",
        "info registers pswa",
        "echo breaks\\n",
        "break *0x1018",
        "continue",
        "info registers pswa",
        "continue",
        "delete",
        "hbreak *0x100c",
        "continue",
        "delete",
        "echo watches\\n",
        "watch *(long*)0x2000",
        "continue",
        "delete",
        "rwatch *(long*)0x3000",
        "thread 2",
        "print $pc",
        "set scheduler-locking on",
        "stepi",
        "monitor info status",
        "maintenance packet Hgzz",
        "info registers r13",
        "detach",
    ];
    let Some(text) = gdb(folder.path(), &commands) else { return };
    has(
        &text,
        &[
            "Thread 1.1 (CPU#0 [running])",
            "Thread 1.2 (CPU#1 [halted ])",
            "0x123456789abcdef",
            "$1 = 0xabcdef",
            "org.gnu.gdb.s390.cr",
            "org.gnu.gdb.s390.vx",
            "$2 = 0x110000000000000022",
            "$3 = 0x330000000000000044",
            "$4 = {0x0, 0x5566}",
            "0x1000000100:\t0x1122334455667788",
            "Cannot access memory at address 0x1000005000",
            "0x100:\t0x1122334455667788",
            "pswa           0x1004",
            "hit Breakpoint 1, 0x0000000000001018",
            "hit Breakpoint 2, 0x000000000000100c",
            "hit Hardware watchpoint 3",
            "0x0000000000001014 in",
            "you said info status",
            "E.cloister.the packet makes no sense",
        ],
    );
    assert!(toy.is_clean());
}

#[test]
fn gdb_is_told_that_a_guest_is_protected_and_sees_nothing_of_it() {
    let toy = Toy::new();
    toy.protect();
    let folder = tempfile::tempdir().unwrap();
    let _server = serve(&toy, folder.path());
    let commands = [
        "info registers r15",
        "info threads",
        "x/2gx 0x100",
        "monitor info status",
        "hbreak *0x1018",
        "break *0x1018",
        "stepi",
        "set var $r3 = 5",
        "detach",
    ];
    let Some(text) = gdb(folder.path(), &commands) else { return };
    has(
        &text,
        &[
            "r15            <unavailable>",
            "CPU#0 [runs protected, registers are not visible]",
            "Cannot insert breakpoint 2.",
            "Remote failure reply: the guest runs protected",
            "Could not write register \"r3\"; remote failure reply 'E.cloister.the guest runs protected",
            "you said info status",
        ],
    );
    assert_eq!(toy.platform.state().exports, 0);
}
