//! Consoles, channels, the balloon and the watchdog with Debian's kernel: in the clear, and protected.

use crate::guest::{Guest, cache, program};
use crate::linux::Linux;
use serde_json::json;
use std::io::{Read, Write};
use std::time::Duration;

const SERIAL: [&str; 4] = [
    "-device",
    "virtio-serial-ccw,id=virtio-serial0,devno=fe.0.0001",
    "-device",
    "virtconsole,chardev=con,id=console0",
];

/// As libvirt writes a channel, a balloon and a watchdog.
const MORE: [&str; 8] = [
    "-chardev",
    "socket,id=charchannel0,path=agent,server=on,wait=off",
    "-device",
    r#"{"driver":"virtserialport","bus":"virtio-serial0.0","nr":1,"chardev":"charchannel0","id":"channel0","name":"org.qemu.guest_agent.0"}"#,
    "-device",
    r#"{"driver":"virtio-balloon-ccw","id":"balloon0","devno":"fe.0.0002"}"#,
    "-device",
    r#"{"driver":"diag288","id":"watchdog0"}"#,
];

#[test]
fn linux_speaks_through_virtio_console_and_channel_gives_memory_back_and_is_stopped_by_its_watchdog() {
    let more = [&MORE[..], &["-action", "watchdog=pause"]].concat();
    let Some(mut linux) = Linux::boot_on("hvc0", &[&SERIAL[..], &more].concat()) else { return };
    let mut qmp = linux.guest.qmp();
    let chardevs = |qmp: &mut crate::guest::Qmp| {
        let all = qmp.execute("query-chardev", json!({}));
        let agent = all.as_array().unwrap().iter().find(|one| one["label"] == "charchannel0").cloned();
        agent.unwrap()["frontend-open"].clone()
    };
    assert_eq!(chardevs(&mut qmp), json!(false));
    linux.runs("busybox cat /sys/class/virtio-ports/vport0p1/name", "org.qemu.guest_agent.0");
    let mut agent = linux.guest.connect("agent");
    agent.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    linux.runs("exec 3<>/dev/vport0p1; echo hello-host >&3; echo SE''NT", "SENT");
    let mut heard = [0; 11];
    agent.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello-host\n");
    agent.write_all(b"hello-guest\n").unwrap();
    linux.runs("read line <&3; echo got $line", "got hello-guest");
    assert_eq!(chardevs(&mut qmp), json!(true));

    // What the guest gives back the host no longer holds.
    linux.runs("busybox insmod /m/virtio_balloon.ko; echo LOA''DED", "LOADED");
    linux.runs("busybox dd if=/dev/zero of=/big bs=1M count=200; busybox rm /big; echo FIL''LED", "FILLED");
    let before = resident(&linux.guest);
    assert_eq!(qmp.execute("query-balloon", json!({})), json!({"actual": 512 << 20}));
    qmp.execute("balloon", json!({"value": 128 << 20}));
    qmp.event("BALLOON_CHANGE");
    linux.runs("while [ $(busybox awk '/MemTotal/ {print $2}' /proc/meminfo) -gt 110000 ]; do busybox usleep 100000; done; echo INF''LATED", "INFLATED");
    let after = resident(&linux.guest);
    assert!(after + (100 << 10) < before, "{before} KiB before, {after} KiB after");
    assert_eq!(qmp.execute("query-balloon", json!({})), json!({"actual": 128 << 20}));
    assert_eq!(qmp.human("info balloon"), "balloon: actual=128\r\n");
    let balloon = "/machine/peripheral/balloon0";
    let polling = "guest-stats-polling-interval";
    qmp.execute("qom-set", json!({"path": balloon, "property": polling, "value": 1}));
    linux.runs("busybox sleep 3; echo SL''EPT", "SLEPT");
    let stats = qmp.execute("qom-get", json!({"path": balloon, "property": "guest-stats"}));
    assert!(stats["last-update"].as_u64().unwrap() > 0, "{stats}");
    assert!(stats["stats"]["stat-total-memory"].as_u64().unwrap() < 128 << 20, "{stats}");
    qmp.execute("balloon", json!({"value": 512 << 20}));
    linux.runs("while [ $(busybox awk '/MemTotal/ {print $2}' /proc/meminfo) -lt 400000 ]; do busybox usleep 100000; done; echo DEF''LATED", "DEFLATED");

    // A port comes and goes while the guest runs.
    qmp.execute("device_add", json!({"driver": "virtserialport", "bus": "virtio-serial0.0", "id": "late"}));
    linux.runs("while [ ! -e /dev/vport0p2 ]; do busybox usleep 100000; done; echo CA''ME", "CAME");
    qmp.execute("device_del", json!({"id": "late"}));
    assert_eq!(qmp.event("DEVICE_DELETED")["data"]["device"], "late");
    linux.runs("while [ -e /dev/vport0p2 ]; do busybox usleep 100000; done; echo WE''NT", "WENT");
    assert_eq!(
        qmp.refuses("device_add", json!({"driver": "virtserialport", "nr": 1})),
        "virtio-serial-bus: A port already exists at id 1"
    );
    assert_eq!(
        qmp.refuses("device_add", json!({"driver": "virtio-balloon-ccw"})),
        "Only one balloon device is supported"
    );
    assert_eq!(
        qmp.refuses("device_del", json!({"id": "watchdog0"})),
        "Device 'diag288' does not support hotplugging"
    );

    // Nobody feeds the watchdog.
    linux.runs(WATCHDOG, "/dev/watchdog0");
    assert_eq!(qmp.event("WATCHDOG")["data"], json!({"action": "pause"}));
    qmp.event("STOP");
    assert_eq!(qmp.execute("query-status", json!({}))["status"], "watchdog");
    qmp.execute("quit", json!({}));
    linux.guest.succeeds();
}

/// The balloon's driver refuses a device that sees only what is shared, so the host gets nothing; console and watchdog
/// work.
#[test]
fn a_protected_linux_has_console_and_watchdog_and_keeps_its_memory() {
    let kernels = cache("s390x");
    if !kernels.join("vmlinuz-6.12").exists() {
        return crate::guest::skip("no kernels");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| std::path::absolute(kernels.join(name)).unwrap().display().to_string();
    std::fs::write(folder.path().join("parm"), "console=hvc0 panic=-1 cloister.test=shell").unwrap();
    let (kernel, initrd) = (file("vmlinuz-6.12"), file("initramfs-full.gz"));
    let create = ["pv", "host-key", "create", "-o", "platform"];
    let image = ["pv", "image", "create", "--no-verify", "-k", "platform/host.crt", "-p", "parm"];
    let image = [&image[..], &["-i", &kernel, "-r", &initrd, "-o", "image"]].concat();
    for args in [&create[..], &image] {
        let made = program().current_dir(&folder).args(args).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let mut args = vec!["-m", "512", "-kernel", "image", "-platform", "platform", "-S"];
    args.extend(["-machine", "confidential-guest-support=pv0", "-object", "s390-pv-guest,id=pv0"]);
    args.extend(["-chardev", "socket,id=con,path=console,server=on,wait=off"]);
    args.extend(SERIAL.iter().chain(&MORE));
    let mut linux = Linux::start(folder, &args);
    let mut qmp = linux.guest.qmp();
    linux.runs("busybox cat /sys/firmware/uv/prot_virt_guest", "1");
    linux.runs("busybox insmod /m/virtio_balloon.ko; busybox dmesg | busybox tail -5", "ACCESS_PLATFORM");
    let before = resident(&linux.guest);
    qmp.execute("balloon", json!({"value": 128 << 20}));
    linux.runs("busybox sleep 2; echo SL''EPT", "SLEPT");
    assert_eq!(qmp.execute("query-balloon", json!({})), json!({"actual": 512 << 20}));
    let after = resident(&linux.guest);
    assert!(after + (8 << 10) > before, "{before} KiB before, {after} KiB after");

    linux.runs(WATCHDOG, "/dev/watchdog0");
    assert_eq!(qmp.event("WATCHDOG")["data"], json!({"action": "reset"}));
    assert_eq!(qmp.event("RESET")["data"], json!({"guest": true, "reason": "guest-reset"}));
    linux.says("INIT-REACHED");
    linux.says("# ");
    linux.runs("busybox cat /sys/firmware/uv/prot_virt_guest", "1");
    qmp.execute("quit", json!({}));
    linux.guest.succeeds();
}

/// The console that takes whole lines.
#[test]
fn linux_writes_its_lines_to_the_sclp_line_mode_console() {
    let kernels = cache("s390x");
    if !kernels.join("vmlinuz-6.12").exists() {
        return crate::guest::skip("no kernels");
    }
    let file = |name: &str| std::path::absolute(kernels.join(name)).unwrap().display().to_string();
    let (kernel, initrd) = (file("vmlinuz-6.12"), file("initramfs-basic.gz"));
    let mut args = vec!["-m", "512", "-kernel", &kernel, "-initrd", &initrd, "-nodefaults"];
    args.extend(["-append", "conmode=sclp console=ttyS0 panic=-1"]);
    args.extend(["-chardev", "file,id=lines,path=lines", "-device", "sclplmconsole,chardev=lines"]);
    let guest = Guest::machine(tempfile::tempdir().unwrap(), &args);
    // Linux's driver keeps its last lines for half a second, for which this guest does not wait before it ends.
    guest.waits_for("lines", "INIT-REACHED\nLinux 6.12");
    let text = guest.text("lines");
    assert!(text.contains("Linux version") && !text.contains('\r'), "{text}");
}

/// Starts the watchdog, and keeps quiet afterwards.
const WATCHDOG: &str = "busybox insmod /m/watchdog.ko; busybox insmod /m/diag288_wdt.ko; busybox ls /dev/watchdog0; busybox watchdog -t 100 -T 15 /dev/watchdog";

/// KiB of memory that the program has now.
fn resident(guest: &Guest) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", guest.pid())).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
