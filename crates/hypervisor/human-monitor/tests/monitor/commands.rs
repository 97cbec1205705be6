//! Each command on a fake machine.

use crate::guest::{self, ELSEWHERE, SIZE, machine, without_guest};
use cloister_control::{Operator, RunState};
use cloister_human_monitor::{MOST_LINE, Monitor, command};
use cloister_platform::Request;

fn says(operator: &Operator, line: &str) -> String {
    let text = command(operator, line, None);
    assert!(text.is_empty() || text.ends_with("\r\n"), "{text:?}");
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
    text.replace("\r\n", "\n")
}

#[test]
fn commands_reach_the_machine() {
    let (machine, operator) = without_guest();
    for (line, call) in [
        ("cont", "cont"),
        ("c", "cont"),
        ("stop", "stop"),
        ("  s  ", "stop"),
        ("system_reset", "reset host-qmp-system-reset"),
        ("system_powerdown", "powerdown"),
        ("nmi", "inject_nmi Some(0)"),
        ("q", "quit host-qmp-quit"),
        ("device_del disk0", "device_del disk0"),
        ("device_add virtio-rng-ccw,id=new", "device_add virtio-rng-ccw Some(\"new\")"),
        ("object_add rng-random,id=r", "object_add rng-random r"),
        ("object_add qom-type=rng-builtin,id=b", "object_add rng-builtin b"),
        ("object_del r", "object_del r"),
        ("device_add virtio-rng-ccw,rng=b,id=other", "device_add virtio-rng-ccw Some(\"other\")"),
    ] {
        assert_eq!(says(&operator, line), "", "{line}");
        assert_eq!(machine.take_calls(), [call], "{line}");
    }
}

#[test]
fn refusals_are_in_qemus_words() {
    let (machine, operator) = without_guest();
    for (line, text) in [
        ("foo", "unknown command: 'foo'\n"),
        ("STOP", "unknown command: 'STOP'\n"),
        ("info foo", "unknown command: 'info foo'\n"),
        ("help foo", "unknown command: 'foo'\n"),
        ("help info nope", "unknown command: 'info nope'\n"),
        (
            "quit 4",
            "quit|q: extraneous characters at the end of line\nTry \"help quit\" for more information\n",
        ),
        (
            "stop ; c",
            "stop|s: extraneous characters at the end of line\nTry \"help stop\" for more information\n",
        ),
        (
            "info status x",
            "status: extraneous characters at the end of line\nTry \"help info status\" for more information\n",
        ),
        (
            "info registers -x",
            "registers: unsupported option -x\nTry \"help info registers\" for more information\n",
        ),
        ("info registers 7", "CPU#7 not available\n"),
        ("device_add", "Error: Parameter 'driver' is missing\n"),
        ("device_add foo", "Error: 'foo' is not a valid device model name\n"),
        ("device_add virtio-rng-ccw,id=disk0", "Error: Duplicate device ID 'disk0'\n"),
        ("device_del", "device_del: string expected\nTry \"help device_del\" for more information\n"),
        ("device_del nope", "Error: Device 'nope' not found\n"),
        ("object_add", "object_add: string expected\nTry \"help object_add\" for more information\n"),
        ("object_add foo,id=x", "Error: Parameter 'qom-type' does not accept value 'foo'\n"),
        ("object_del y", "Error: object 'y' not found\n"),
        ("cpu 4", "invalid CPU index\n"),
        ("cpu x", "invalid char 'x' in expression\nTry \"help cpu\" for more information\n"),
        ("cpu", "unexpected end of expression\nTry \"help cpu\" for more information\n"),
        ("migrate", "migrate: string expected\nTry \"help migrate\" for more information\n"),
        ("migrate foo", "Error: Parameter 'uri' expects a valid migration protocol\n"),
        ("memsave 0 10", "memsave: string expected\nTry \"help memsave\" for more information\n"),
        ("x 0", "Can not dump without CPU\n"),
        ("xp 0", "0000000000000000: Cannot access memory\n"),
        ("x/-1x 0", "invalid char in format: '-'\nTry \"help x\" for more information\n"),
        ("xp/2x0", "invalid char in format: '0'\nTry \"help xp\" for more information\n"),
        ("p 1/0", "division by zero\nTry \"help p\" for more information\n"),
    ] {
        assert_eq!(says(&operator, line), text, "{line}");
    }
    assert!(says(&operator, "xp/4i 0").contains("disassembler"));
    machine.state().run_state = Some(RunState::Shutdown);
    assert_eq!(says(&operator, "c"), "Error: Resetting the Virtual Machine is required\n");
    machine.state().blockers = vec!["the guest is protected".into()];
    assert_eq!(says(&operator, "migrate -d tcp:host:1"), "Error: the guest is protected\n");
    assert!(says(&operator, "info migrate").contains("the guest is protected"));
}

#[test]
fn help_shows_the_table() {
    let (_, operator) = without_guest();
    let all = says(&operator, "help");
    assert!(all.contains("\ncpu index -- set the default CPU\n"));
    assert_eq!(says(&operator, "?"), all);
    assert_eq!(says(&operator, "help c"), "cont|c  -- resume emulation\n");
    assert_eq!(
        says(&operator, "help info status"),
        "info status  -- show the current VM status (running|paused)\n"
    );
    assert_eq!(says(&operator, "info"), says(&operator, "help info"));
    // The list is sorted, and each name has help of its own.
    let rows = all.lines().filter(|line| !line.starts_with('\t'));
    let names: Vec<&str> = rows.map(|line| line.split([' ', '|']).next().unwrap()).collect();
    assert!(names.is_sorted(), "{names:?}");
    for name in names {
        assert!(says(&operator, &format!("help {name}")).contains(" -- "), "{name}");
    }
}

#[test]
fn info_shows_what_the_machine_says() {
    let (machine, operator) = without_guest();
    assert_eq!(says(&operator, "info status"), "VM status: paused (prelaunch)\n");
    machine.state().run_state = Some(RunState::Paused);
    assert_eq!(says(&operator, "info status"), "VM status: paused\n");
    machine.state().run_state = Some(RunState::GuestPanicked);
    assert_eq!(says(&operator, "info status"), "VM status: paused (guest-panicked)\n");
    let id = std::process::id();
    assert_eq!(says(&operator, "info cpus"), format!("* CPU #0: thread_id={id}\n  CPU #1: thread_id={id}\n"));
    assert_eq!(
        command(&operator, "info cpus", Some(1)).find('*'),
        Some(command(&operator, "info cpus", None).find('\n').unwrap() + 1)
    );
    assert_eq!(says(&operator, "info name"), "guest\n");
    assert_eq!(says(&operator, "info uuid"), "4be30d9d-1f1f-49f0-aa27-f38fc66f594c\n");
    assert_eq!(says(&operator, "info kvm"), "kvm support: disabled\n");
    assert_eq!(
        says(&operator, "info chardev"),
        "compat_monitor0: filename=unix:/run/example/qmp,server=on\n"
    );
    let block = says(&operator, "info block");
    assert!(
        block.starts_with("drive0 (#block042): /run/example/disk.img (raw)\n    Attached to:      /machine/")
    );
    assert!(says(&operator, "info block -v drive0").contains("\nvirtual size: 1 MiB (1048576 bytes)\n"));
    assert!(says(&operator, "info block nope").contains("'nope' not found"));
    let tree = says(&operator, "info qtree");
    assert!(
        tree.contains(
            "    bus: virtual-css\n      type virtual-css-bus\n      dev: virtio-blk-ccw, id \"disk0\"\n"
        ),
        "{tree}"
    );
    let objects = says(&operator, "info qom-tree");
    assert!(
        objects.starts_with(
            "/machine (s390-ccw-virtio-8.2-machine)\n  /peripheral (container)\n    /disk0 (virtio-blk-ccw)\n"
        ),
        "{objects}"
    );
    assert!(says(&operator, "info qom-tree /nope").contains("could not be resolved"));
    assert!(says(&operator, "info qom-tree /").contains("  /objects (container)\n"));
    assert!(
        says(&operator, "info mtree").contains("0000000000000000-000000000fffffff (prio 0, ram): s390.ram\n")
    );
    assert!(says(&operator, "info mem").contains("256 MiB (268435456 bytes)"));
    assert!(says(&operator, "info version").contains("Cloister"));
    assert!(says(&operator, "info confidential").starts_with("mechanism: none"));
    assert_eq!(says(&operator, "gdbserver"), "Waiting for gdb connection on device 'tcp::1234'\n");
}

#[test]
fn a_clear_guest_shows_registers_and_memory() {
    let (machine, _, operator) = machine(false);
    let registers = says(&operator, "info registers");
    assert!(
        registers.starts_with("\nCPU#0\nPSW=mask 0000200180000000 addr 0000000000000100 cc 02\nR00="),
        "{registers}"
    );
    assert_eq!(says(&operator, "p/x $pc + 1"), "0x101\n");
    assert_eq!(
        says(&operator, "x/12cb $pc").lines().next().unwrap(),
        "0000000000000100: 'H' 'e' 'l' 'l' 'o' ',' ' ' 'h'"
    );
    // r1 is 0x10; logical page 0x10 is elsewhere, and 0x11 follows it.
    assert_eq!(
        says(&operator, "x/4xw $r1 * 0x1000 + 0xff8"),
        "0000000000010ff8: 0x55555555 0x55555555 0x00000000 0x00000000\n"
    );
    assert_eq!(says(&operator, "x 0x12000"), "0000000000012000: Cannot access memory\n");
    assert_eq!(says(&operator, &format!("xp/1xg {SIZE:#x} - 4")), "00000000001ffffc: Cannot access memory\n");
    assert!(machine.take_calls().is_empty());
    // Registers of a running CPU are read while it rests.
    machine.state().run_state = Some(RunState::Running);
    assert_eq!(says(&operator, "info registers"), registers);
    assert_eq!(machine.take_calls(), ["at_rest"]);
    assert!(says(&operator, "p $nope").contains("unknown register"));
    assert!(machine.take_calls().is_empty());
}

#[test]
fn memory_is_saved() {
    let (_, _, operator) = machine(false);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("saved");
    let name = file.display();
    for line in [format!("memsave 0x10ff8 16 {name}"), format!("memsave 0x10ff8 16 \"{name}\"")] {
        assert_eq!(says(&operator, &line), "", "{line}");
        assert_eq!(std::fs::read(&file).unwrap(), [[0x55; 8], [0; 8]].concat());
        std::fs::remove_file(&file).unwrap();
    }
    assert_eq!(says(&operator, &format!("pmemsave {ELSEWHERE} 4096 {name}")), "");
    assert_eq!(std::fs::read(&file).unwrap(), [0x55; 4096]);
    // A refused command leaves an older file alone.
    let refusal = "Error: Invalid addr 0x00000000001ffff8/size 16 specified\n";
    assert_eq!(says(&operator, &format!("pmemsave 0x1ffff8 16 {name}")), refusal);
    assert_eq!(std::fs::read(&file).unwrap().len(), 4096);
    assert!(says(&operator, &format!("pmemsave 0 ~0 {name}")).starts_with("Error: Invalid"));
    let missing = format!("{name}/x");
    let text = says(&operator, &format!("pmemsave 0 1 {missing}"));
    assert_eq!(text, format!("Error: Could not open '{missing}': Not a directory\n"));
}

#[test]
fn a_protected_guest_shows_nothing_and_is_not_disturbed() {
    let (_, guest, operator) = machine(true);
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("saved").display().to_string();
    for line in [
        "info registers".into(),
        "info registers -a".into(),
        "p $pc".into(),
        "x 0".into(),
        format!("memsave 0 1 {name}"),
    ] {
        assert!(says(&operator, &line).contains("the guest is protected"), "{line}");
    }
    let view = says(&operator, "xp/2xb 0x3000");
    assert!(
        view.starts_with("# host's view of a protected guest") && view.ends_with(": 0x00 0x00\n"),
        "{view}"
    );
    assert!(says(&operator, &format!("pmemsave 0 {SIZE} {name}")).contains("host's view"));
    let text = says(&operator, "info confidential");
    assert!(text.starts_with("mechanism: s390-pv-guest\nobject: pv0\nsecure now: yes\nMODEL:"), "{text}");
    assert!(text.contains("private"), "{text}");
    assert!(says(&operator, "info mem").contains("1 private"));
    let asked = guest.asked.lock().unwrap();
    assert!(
        !asked.iter().any(|request| matches!(request, Request::HostAccess { .. })),
        "a page was converted"
    );
}

#[test]
fn a_monitor_remembers_its_cpu_and_format() {
    let (machine, _, operator) = machine(false);
    let mut monitor = Monitor::new(&operator);
    assert_eq!(monitor.run("cpu 1"), "");
    monitor.run("nmi");
    assert_eq!(machine.take_calls(), ["inject_nmi Some(1)"]);
    assert!(monitor.run("info registers").starts_with("\r\nCPU#1\r\n"));
    assert!(monitor.run("xp/1xg 0x100").contains("0x48656c6c6f2c2068"));
    assert!(monitor.run("xp 0x100").contains("0x48656c6c6f2c2068"));
    assert_eq!(monitor.run("p/d 10"), "10\r\n");
    assert_eq!(monitor.run("p 10"), "10\r\n");
    assert_eq!(guest::state(1).address, 1);
}

#[test]
fn answers_are_bounded_and_lines_too() {
    let (_, _, operator) = machine(false);
    assert!(says(&operator, "xp/65536xb 0").len() < 1 << 20);
    assert!(says(&operator, "xp/65537xb 0").contains("too much"));
    assert!(says(&operator, "x/99999999999x 0").contains("too much"));
    assert!(says(&operator, &"q".repeat(MOST_LINE + 1)).contains("nothing was done"));
    assert!(says(&operator, "stop\u{1b}[2J").contains("control characters"));
}

#[test]
fn dumps_are_asked_for_in_qemus_words() {
    let (machine, operator) = without_guest();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("core").display().to_string();
    assert_eq!(says(&operator, "info dump"), "Status: none\n");
    assert_eq!(
        says(&operator, "dump-guest-memory"),
        "dump-guest-memory: filename expected\nTry \"help dump-guest-memory\" for more information\n"
    );
    for (options, refusal) in [
        (format!("-z -l {path}"), "only one of '-z|-l|-s|-w' can be set".to_owned()),
        (format!("-z {path}"), "kdump-zlib is not available now".to_owned()),
        (format!("{path} 4096"), "Parameter 'length' is missing".to_owned()),
        (format!("{path} 4096 0"), "Invalid parameter 'length'".to_owned()),
        (
            "/nonexistent/x".to_owned(),
            "Could not open '/nonexistent/x': No such file or directory".to_owned(),
        ),
    ] {
        assert_eq!(says(&operator, &format!("dump-guest-memory {options}")), format!("Error: {refusal}\n"));
    }
    assert!(machine.take_calls().is_empty());
    assert!(std::fs::read_dir(&folder).unwrap().next().is_none(), "a refused dump leaves no file");
    assert_eq!(says(&operator, &format!("dump-guest-memory -p {path} 4096 8192")), "");
    assert_eq!(machine.take_calls(), ["dump_begin 0x1000 Some(8192)"]);
    assert_eq!(std::fs::read(&path).unwrap(), b"a dump");
    assert_eq!(says(&operator, "info dump"), "Status: completed\n");
}
