//! gdb, the real one, against the program.

use crate::guest::{Guest, PROMPT, installed};
use crate::linux::{Linux, holding};
use serde_json::json;
use std::process::Command;

#[test]
fn gdb_breaks_steps_and_reads_memory_and_registers_of_a_clear_guest() {
    if !installed("gdb-multiarch") {
        return;
    }
    let mut guest = Guest::small("echo.s", &["-S", "-gdb", "unix:gdb,server=on,wait=off"]);
    let kernel = std::fs::read(guest.path("kernel")).unwrap();
    let bytes: Vec<String> = kernel[0x11000..0x11004].iter().map(|byte| format!("{byte:#04x}")).collect();
    let said = gdb(
        &guest,
        &[
            "break *0x11000",
            "continue",
            "info registers pswa",
            "x/4xb 0x11000",
            "stepi",
            "info registers pswa",
            "info registers r15",
            "info threads",
            "delete",
            "detach",
        ],
    );
    assert!(said.contains("Breakpoint 1, 0x0000000000011000"), "{said}");
    assert!(said.contains(&bytes.join("\t")), "{bytes:?}\n{said}");
    // The first instruction loads the stack's address.
    assert!(said.contains("0x11004") && said.contains("0xff60"), "{said}");
    // Whoever detaches lets it run.
    guest.waits_for("console", "ready");
    guest.qmp().execute("quit", json!({}));
    guest.succeeds();
}

#[test]
fn gdb_stops_where_memory_is_written() {
    if !installed("gdb-multiarch") {
        return;
    }
    let mut guest = Guest::small("echo.s", &["-S", "-gdb", "unix:gdb,server=on,wait=off"]);
    // The block for the console's requests.
    let said = gdb(&guest, &["watch *(unsigned int *) 0xc000", "continue", "x/i $pc", "detach"]);
    assert!(said.contains("atchpoint 1") && said.contains("New value"), "{said}");
    guest.qmp().execute("quit", json!({}));
    guest.succeeds();
}

#[test]
fn gdb_breaks_at_a_function_of_the_linux_kernel() {
    if !installed("gdb-multiarch") {
        return;
    }
    let options = ["-smp", "2", "-gdb", "unix:gdb,server=on,wait=off"];
    let Some(mut linux) = Linux::boot(&options) else { return };
    linux.types("busybox grep -w __s390x_sys_sync /proc/kallsyms\r");
    linux.says("\n");
    let address = linux.line();
    let address = address.split(' ').next().unwrap().to_owned();
    linux.says("# ");
    linux.types("busybox sleep 2; busybox sync; echo SYN''CED\r");
    let breakpoint = format!("break *0x{address}");
    let said = gdb(
        &linux.guest,
        &[&breakpoint, "continue", "x/2i $pc", "stepi", "info threads", "delete", "detach"],
    );
    assert!(said.contains(&format!("Breakpoint 1, 0x{address}")), "{said}");
    assert!(said.contains("Thread 1.2") || said.contains("Thread 2"), "{said}");
    linux.says("SYNCED");
    linux.guest.qmp().execute("quit", json!({}));
    linux.guest.succeeds();
}

#[test]
fn gdb_shows_no_plaintext_of_a_protected_guest() {
    if !installed("gdb-multiarch") {
        return;
    }
    let mut guest = holding(true, &["-gdb", "unix:gdb,server=on,wait=off"]);
    guest.waits_for("console", "marker written");
    let said = gdb(&guest, &["info registers", "x/32xb 0x40000", "x/s 0x40000", "detach"]);
    assert!(!said.contains("CLOISTER-GUEST-SECRET") && !said.contains("0x43\t0x4c\t0x4f"), "{said}");
    guest.qmp().execute("quit", json!({}));
    guest.succeeds();
}

/// What gdb prints when it is told to connect and then these commands.
#[track_caller]
fn gdb(guest: &Guest, commands: &[&str]) -> String {
    let mut command = Command::new("timeout");
    command.arg(PROMPT.as_secs().to_string()).args(["gdb-multiarch", "-nx", "-batch"]);
    command.args(["-ex", "set architecture s390:64-bit", "-ex", "set endian big", "-ex", "set confirm off"]);
    command.arg("-ex").arg(format!("target remote {}", guest.path("gdb").display()));
    for line in commands {
        command.args(["-ex", line]);
    }
    let done = command.env("HOME", "/nonexistent").env("LC_ALL", "C").output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}\n{said}\n{}", done.status, guest.everything());
    said
}
