//! Operating a Linux guest, and one whose memory is its own.
//!
//! The kernels come from `scripts/fetch-s390x-guests`. Without them these tests print a notice and pass, unless `CI`
//! is set.

use crate::guest::{Guest, LIMIT, assemble, cache, program, skip};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// What `demo.s` keeps in a private page.
const SECRET: &[u8] = b"CLOISTER-GUEST-SECRET-s390x-0001";

#[test]
fn a_disk_is_plugged_into_and_out_of_a_running_linux_which_then_powers_off_when_asked() {
    let Some(mut linux) = Linux::boot(&["-drive", "file=disk,if=none,id=d1,format=raw"]) else { return };
    let disk = vec![b'+'; 1 << 20];
    std::fs::write(linux.guest.path("disk"), &disk).unwrap();
    let mut qmp = linux.guest.qmp();
    linux.runs("busybox insmod /m/virtio_blk.ko; busybox ls /dev/vda; echo DONE", "No such file");

    qmp.execute("device_add", json!({"driver": "virtio-blk-ccw", "drive": "d1", "id": "plugged"}));
    let see =
        "while [ ! -e /dev/vda ]; do busybox usleep 100000; done; busybox blockdev --getsize64 /dev/vda";
    linux.runs(see, "1048576");
    linux.runs("busybox dd if=/dev/vda bs=8 count=1 2>/dev/null; echo", "++++++++");
    assert!(
        qmp.refuses("device_add", json!({"driver": "virtio-blk-ccw", "drive": "d1", "id": "plugged"}))
            .contains("plugged")
    );
    let peripheral = qmp.execute("qom-list", json!({"path": "/machine/peripheral"}));
    assert!(peripheral.as_array().unwrap().iter().any(|child| child["name"] == "plugged"), "{peripheral}");

    qmp.execute("device_del", json!({"id": "plugged"}));
    let event = qmp.event("DEVICE_DELETED");
    assert_eq!(
        (&event["data"]["device"], &event["data"]["path"]),
        (&json!("plugged"), &json!("/machine/peripheral/plugged"))
    );
    linux.runs("while [ -e /dev/vda ]; do busybox usleep 100000; done; echo UN''PLUGGED", "UNPLUGGED");
    assert!(qmp.refuses("device_del", json!({"id": "plugged"})).contains("'plugged' not found"));

    // Stopped, it says nothing; then it goes on where it was.
    qmp.execute("stop", json!({}));
    linux.types("echo STILL''-THERE\r");
    assert!(!linux.says_within("STILL-THERE", Duration::from_secs(1)));
    qmp.execute("cont", json!({}));
    linux.says("STILL-THERE");

    // The kernel answers the signal of an operator's panel by itself.
    qmp.execute("system_powerdown", json!({}));
    qmp.event("POWERDOWN");
    assert_eq!(qmp.event("SHUTDOWN")["data"], json!({"guest": true, "reason": "guest-shutdown"}));
    linux.guest.succeeds();
}

/// As with QEMU: Linux enters a disabled wait on RESTART unless told otherwise.
#[test]
fn inject_nmi_reaches_the_kernel_as_restart_and_no_shutdown_keeps_it() {
    let Some(mut linux) = Linux::boot(&["-smp", "2", "-no-shutdown"]) else { return };
    let mut qmp = linux.guest.qmp();
    let registers = qmp.human("info registers");
    assert!(registers.contains("PSW") && registers.contains("R15"), "{registers}");
    qmp.execute("inject-nmi", json!({}));
    let panicked = qmp.event("GUEST_PANICKED");
    assert_eq!(panicked["data"]["action"], "pause", "{panicked}");
    assert_eq!(panicked["data"]["info"]["reason"], "disabled-wait", "{panicked}");
    assert_eq!(qmp.execute("query-status", json!({}))["status"], "guest-panicked");
    // A reset boots it again.
    qmp.execute("system_reset", json!({}));
    qmp.execute("cont", json!({}));
    linux.says("INIT-REACHED");
    qmp.execute("quit", json!({}));
    linux.guest.succeeds();
}

#[test]
fn a_protected_guest_shows_no_registers_and_only_the_hosts_view_of_its_memory() {
    for protected in [false, true] {
        let guest = holding(protected, &[]);
        guest.waits_for("console", "marker written");
        let mut qmp = guest.qmp();
        qmp.execute("stop", json!({}));
        let dump = guest.path("dump");
        qmp.execute("pmemsave", json!({"val": 0, "size": 64 << 20, "filename": dump}));
        let dump = std::fs::read(dump).unwrap();
        assert_eq!(dump.len(), 64 << 20);
        let found = dump.windows(SECRET.len()).any(|bytes| bytes == SECRET);
        let (registers, memory) = (qmp.human("info registers"), qmp.human("x /8xb 0x40000"));
        let physical = qmp.human("xp /8xb 0x40000");
        if protected {
            assert!(!found, "the secret is in the host's view of memory");
            for said in [&registers, &memory] {
                assert!(said.contains("protected") && !said.contains("R15="), "{said}");
            }
            assert!(!physical.contains("0x43 0x4c 0x4f 0x49"), "{physical}");
            let words =
                qmp.refuses("memsave", json!({"val": 0x40000, "size": 8, "filename": guest.path("no")}));
            assert!(words.contains("protected"), "{words}");
        } else {
            assert!(found && registers.contains("R15"), "{registers}");
            assert!(memory.contains("0x43") && physical.contains("0x43"), "{memory}{physical}");
        }
        qmp.execute("quit", json!({}));
    }
}

/// The demo guest, waiting with its marker in a page.
pub(crate) fn holding(protected: bool, more: &[&str]) -> Guest {
    let folder = tempfile::tempdir().unwrap();
    assemble("demo.s", &folder.path().join("kernel"));
    std::fs::write(folder.path().join("parmfile"), "hold").unwrap();
    let mut options = vec!["-m", "64", "-serial", "file:console"];
    if protected {
        for args in [
            &["pv", "host-key", "create", "-o", "platform"][..],
            &[
                "pv",
                "image",
                "create",
                "--no-verify",
                "-k",
                "platform/host.crt",
                "-i",
                "kernel",
                "-p",
                "parmfile",
                "-o",
                "image",
            ],
        ] {
            let made = program().current_dir(&folder).args(args).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        options.extend(["-machine", "confidential-guest-support=pv0", "-object", "s390-pv-guest,id=pv0"]);
        options.extend(["-platform", "platform", "-kernel", "image"]);
    } else {
        options.extend(["-kernel", "kernel", "-append", "hold"]);
    }
    options.extend(more);
    Guest::machine(folder, &options)
}

/// Debian's kernel with a shell on the console.
pub(crate) struct Linux {
    pub(crate) guest: Guest,
    console: UnixStream,
    seen: String,
}

impl Linux {
    pub(crate) fn boot(options: &[&str]) -> Option<Self> {
        Self::boot_on("ttysclp0", &[&["-serial", "chardev:con"], options].concat())
    }

    /// As [`boot`](Self::boot), with a console of the caller's, which has the chardev `con`.
    pub(crate) fn boot_on(console: &str, options: &[&str]) -> Option<Self> {
        let kernels = cache("s390x");
        if !kernels.join("vmlinuz-6.12").exists() {
            skip("no kernels");
            return None;
        }
        let file = |name: &str| std::path::absolute(kernels.join(name)).unwrap().display().to_string();
        let (kernel, initrd) = (file("vmlinuz-6.12"), file("initramfs-full.gz"));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("disk"), vec![b'+'; 1 << 20]).unwrap();
        let mut args = vec!["-m", "512", "-kernel", &kernel, "-initrd", &initrd, "-S"];
        let append = format!("console={console} panic=-1 cloister.test=shell");
        args.extend(["-append", &append]);
        args.extend(["-chardev", "socket,id=con,path=console,server=on,wait=off"]);
        args.extend(options);
        Some(Self::start(folder, &args))
    }

    /// A machine that is stopped, with its console at the socket `console`.
    pub(crate) fn start(folder: tempfile::TempDir, args: &[&str]) -> Self {
        let guest = Guest::machine(folder, args);
        let console = guest.connect("console");
        console.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        guest.qmp().execute("cont", json!({}));
        let mut linux = Self { guest, console, seen: String::new() };
        linux.says("INIT-REACHED");
        linux.says("# ");
        linux
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.console.write_all(keys.as_bytes()).unwrap();
    }

    /// Types a command; its output has this text.
    #[track_caller]
    pub(crate) fn runs(&mut self, command: &str, text: &str) {
        self.types(&format!("{command}\r"));
        self.says("\n");
        self.says(text);
        self.says("# ");
    }

    /// Waits for text on the console and forgets what came before.
    #[track_caller]
    pub(crate) fn says(&mut self, text: &str) {
        assert!(self.says_within(text, LIMIT), "no {text:?} in {:?}\n{}", self.seen, self.guest.text("err"));
    }

    /// The next line of the console.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        let end = Instant::now() + LIMIT;
        while !self.seen.contains('\n') {
            assert!(Instant::now() < end, "no line in {:?}", self.seen);
            self.says_within("\0", Duration::from_millis(100));
        }
        let line: String = self.seen.drain(..=self.seen.find('\n').unwrap()).collect();
        line.trim_end().to_owned()
    }

    fn says_within(&mut self, text: &str, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return true;
            }
            match self.console.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => self.seen.push_str(&String::from_utf8_lossy(&buffer[..count])),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => panic!("{error}"),
            }
            if Instant::now() > end {
                return false;
            }
        }
    }
}
