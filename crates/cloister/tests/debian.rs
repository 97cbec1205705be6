//! Debian's own user space, with systemd, on a disk: in the clear and as a Secure Execution guest.
//!
//! The root file system comes from `scripts/fetch-s390x-debian`, which takes minutes, as some of these tests do:
//! `scripts/test slow` runs all of it. Without the root file system these tests print a notice and pass, unless
//! `CLOISTER_SLOW` is set.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Nothing that a test waits for takes a tenth of this on an idle machine.
const LIMIT: Duration = Duration::from_secs(600);
const WORDS: &str = "console=ttysclp0 panic=-1 quiet";

#[test]
fn debian_boots_to_a_login_and_powers_off() {
    let Some(debian) = Debian::find() else { return };
    let mut guest = debian.clear("", &["-smp", "2"], &[&debian.root("snapshot=on")]);
    guest.logs_in();
    assert_eq!(guest.asks("systemctl is-system-running --wait"), "running");
    assert_eq!(
        guest.asks("cat /sys/firmware/uv/prot_virt_guest 2>&1 | tail -c 27"),
        "No such file or directory"
    );
    assert_eq!(guest.asks("findmnt -no FSTYPE /"), "ext4");
    guest.powers_off();
}

#[test]
fn debian_boots_to_a_login_in_a_protected_guest_with_its_disk_behind_bounce_buffers() {
    let Some(debian) = Debian::find() else { return };
    let image = debian.image("guest.img", "vmlinuz", &debian.cache.join("initrd.gz"), "");
    let mut guest = debian.protected(&image, &["-smp", "2"], &[&debian.root("snapshot=on")]);
    guest.logs_in();
    assert_eq!(guest.asks("systemctl is-system-running --wait"), "running");
    assert_eq!(guest.asks("cat /sys/firmware/uv/prot_virt_guest"), "1");
    assert_eq!(
        guest.asks(
            "echo 3 >/proc/sys/vm/drop_caches; cd /; grep usr/bin/ /var/lib/dpkg/info/bash.md5sums | md5sum --quiet -c; echo $?"
        ),
        "0"
    );
    guest.powers_off();
}

#[test]
#[ignore = "takes minutes: scripts/test slow"]
fn a_disk_that_debians_zipl_wrote_in_the_guest_boots_plain_and_with_a_secure_execution_image() {
    let Some(debian) = Debian::find() else { return };
    let image = debian.image("guest.img", "vmlinuz", &debian.cache.join("initrd.gz"), "");
    // A disk has whole sectors.
    let sectors = std::fs::metadata(&image).unwrap().len().div_ceil(512) * 512;
    std::fs::OpenOptions::new().write(true).open(&image).unwrap().set_len(sectors).unwrap();
    let boot = debian.empty_disk("boot.img", 96);
    let drives = [
        debian.root("snapshot=on"),
        format!("file={},if=virtio,format=raw", text(&boot)),
        format!("file={},if=virtio,format=raw,readonly=on", text(&image)),
    ];
    debian.runs("make-boot-disk", "BOOT-DISK OK", &drives);

    let boot = format!("file={},if=none,id=boot,format=raw", text(&boot));
    let root = format!("file={},if=none,id=root,format=raw,snapshot=on", debian.file("root.ext4"));
    let disks = ["-device", "virtio-blk-ccw,drive=boot,bootindex=1", "-device", "virtio-blk-ccw,drive=root"];
    let mut guest = Guest::start(&disks, &[&boot, &root]);
    guest.logs_in();
    assert_eq!(guest.asks("test -e /sys/firmware/uv/prot_virt_guest; echo $?"), "1");
    guest.powers_off();

    let platform = text(&debian.platform());
    let mut options = vec!["-machine", "s390-ccw-virtio,confidential-guest-support=pv0,loadparm=2"];
    options.extend(["-object", "s390-pv-guest,id=pv0", "-platform", &platform]);
    options.extend(disks);
    let mut guest = Guest::start(&options, &[&boot, &root]);
    guest.logs_in();
    assert_eq!(guest.asks("cat /sys/firmware/uv/prot_virt_guest"), "1");
    guest.powers_off();
}

#[test]
#[ignore = "takes minutes: scripts/test slow"]
fn an_encrypted_root_opens_with_a_secret_of_the_ultravisor_and_with_no_other() {
    let Some(debian) = Debian::find() else { return };
    let passphrase = "correct horse battery staple, as somebody drew";
    let luks = debian.empty_disk("luks.img", 320);
    let typed = debian.scratch.path().join("passphrase.img");
    let mut line = format!("{passphrase}\n").into_bytes();
    line.resize(512, 0);
    std::fs::write(&typed, line).unwrap();
    let drives = [
        debian.root("snapshot=on"),
        format!("file={},if=virtio,format=raw", text(&luks)),
        format!("file={},if=virtio,format=raw,readonly=on", text(&typed)),
    ];
    debian.runs("make-luks-disk", "LUKS-DISK OK", &drives);

    let initrd = debian.luks_initrd();
    let words = "cloister.luks=/dev/disk-0 cloister.secrets=/dev/disk-1";
    let image = debian.image("luks-guest.img", "vmlinuz-luks", &initrd, words);
    let luks = format!("file={},if=virtio,format=raw,snapshot=on", text(&luks));
    for (secret, right) in [("something else", false), (passphrase, true)] {
        let secrets = debian.secret(&image, secret);
        let secrets = format!("file={},if=virtio,format=raw,readonly=on", text(&secrets));
        let mut guest = debian.protected(&image, &["-smp", "2"], &[&luks, &secrets]);
        if right {
            guest.waits_for("init: /dev/disk-0 is open");
            guest.logs_in();
            assert_eq!(guest.asks("findmnt -no SOURCE /"), "/dev/mapper/root");
            assert_eq!(guest.asks("cat /sys/firmware/uv/prot_virt_guest"), "1");
            guest.powers_off();
        } else {
            guest.waits_for("init: /dev/disk-0 cannot be opened with the secret");
            guest.ends_well();
        }
    }
}

/// What the script made, and a folder for what the tests make.
struct Debian {
    cache: PathBuf,
    scratch: tempfile::TempDir,
}

impl Debian {
    fn find() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let cache = std::env::var_os("CLOISTER_CACHE").map_or_else(|| root.join("cache"), PathBuf::from);
        let cache = cache.join("s390x-debian");
        if !cache.join(".complete").exists() {
            let notice = "SKIPPED: no root file system; run scripts/fetch-s390x-debian";
            assert!(std::env::var_os("CLOISTER_SLOW").is_none(), "{notice}");
            eprintln!("{notice}");
            return None;
        }
        Some(Self { cache, scratch: tempfile::tempdir().unwrap() })
    }

    fn file(&self, name: &str) -> String {
        self.cache.join(name).display().to_string()
    }

    /// A `-drive` with the root file system, which every test leaves as it is.
    fn root(&self, how: &str) -> String {
        format!("file={},if=virtio,format=raw,{how}", self.file("root.ext4"))
    }

    fn empty_disk(&self, name: &str, mebibytes: u64) -> PathBuf {
        let path = self.scratch.path().join(name);
        std::fs::File::create(&path).unwrap().set_len(mebibytes << 20).unwrap();
        path
    }

    /// Runs a program of the initramfs in the root file system, in the clear.
    fn runs(&self, program: &str, result: &str, drives: &[String]) {
        let drives: Vec<&str> = drives.iter().map(String::as_str).collect();
        let mut guest = self.clear(&format!("cloister.run=/run/{program}"), &[], &drives);
        guest.waits_for(result);
        guest.ends_well();
    }

    /// The initramfs that opens the root, with the guest's tool as a second archive.
    fn luks_initrd(&self) -> PathBuf {
        let (tool, path) = (self.scratch.path().join("uvdevice"), self.scratch.path().join("initrd-luks"));
        self.tool(&["pv", "guest-tool", "--overwrite", "-o", &text(&tool)]);
        let mut archive = std::fs::read(self.cache.join("initrd-luks.gz")).unwrap();
        archive.resize(archive.len().next_multiple_of(4), 0);
        newc(&mut archive, "bin/uvdevice", 0o100_755, &std::fs::read(&tool).unwrap());
        newc(&mut archive, "TRAILER!!!", 0, &[]);
        std::fs::write(&path, archive).unwrap();
        path
    }

    /// A file system with a request that only this image may have.
    fn secret(&self, image: &Path, secret: &str) -> PathBuf {
        let folder = self.scratch.path().join("secrets");
        let (plain, disk) = (self.scratch.path().join("secret.txt"), self.scratch.path().join("secrets.img"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&plain, secret).unwrap();
        let _ = std::fs::remove_file(&disk);
        self.for_host_key(
            &["pv", "secret", "create"],
            &[
                "--hdr",
                &text(image),
                "--overwrite",
                "-o",
                &text(&folder.join("request.bin")),
                "retrievable",
                "root",
                "--type",
                "plain",
                "--secret",
                &text(&plain),
                "--stdout",
            ],
        );
        let made = Command::new("mkfs.ext4")
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .args(["-q", "-F", "-d"])
            .args([&folder, &disk])
            .arg("4M")
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        disk
    }

    /// A model machine, made once for each test.
    fn platform(&self) -> PathBuf {
        let folder = self.scratch.path().join("platform");
        if !folder.exists() {
            self.tool(&["pv", "host-key", "create", "-o", &folder.display().to_string()]);
        }
        folder
    }

    /// An encrypted image of the kernel with an initramfs of the cache.
    fn image(&self, name: &str, kernel: &str, initrd: &Path, words: &str) -> PathBuf {
        let (parmfile, image) = (self.scratch.path().join("parmfile"), self.scratch.path().join(name));
        std::fs::write(&parmfile, format!("{WORDS} {words}")).unwrap();
        self.for_host_key(
            &["pv", "image", "create"],
            &["-i", &self.file(kernel), "-r", &text(initrd), "-p", &text(&parmfile), "-o", &text(&image)],
        );
        image
    }

    /// Runs a tool of the owner's with this platform's host-key document, verified.
    fn for_host_key(&self, tool: &[&str], args: &[&str]) {
        let platform = self.platform();
        let of = |name: &str| text(&platform.join(name));
        let (host, signing, root) = (of("host.crt"), of("signing.crt"), of("root-ca.crt"));
        let (signing_list, root_list) = (of("signing.crl"), of("root-ca.crl"));
        let mut all = tool.to_vec();
        all.extend(["--offline", "-k", &host, "-C", &signing, "--root-ca", &root]);
        all.extend(["--crl", &signing_list, "--crl", &root_list]);
        all.extend(args);
        self.tool(&all);
    }

    fn tool(&self, args: &[&str]) {
        let ran = cloister().args(args).output().unwrap();
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    fn clear(&self, words: &str, options: &[&str], drives: &[&str]) -> Guest {
        let append = format!("{WORDS} {words}");
        let (kernel, initrd) = (self.file("vmlinuz"), self.file("initrd.gz"));
        let mut args = vec!["-machine", "s390-ccw-virtio", "-kernel", &kernel, "-initrd", &initrd];
        args.extend(["-append", &append]);
        args.extend(options);
        Guest::start(&args, drives)
    }

    fn protected(&self, image: &Path, options: &[&str], drives: &[&str]) -> Guest {
        let (platform, image) = (self.platform().display().to_string(), image.display().to_string());
        let mut args = vec!["-machine", "s390-ccw-virtio,confidential-guest-support=pv0"];
        args.extend(["-object", "s390-pv-guest,id=pv0", "-platform", &platform, "-kernel", &image]);
        args.extend(options);
        Guest::start(&args, drives)
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn cloister() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloister"));
    // The platform of the person who runs the tests must not matter.
    command.env_remove("CLOISTER_PLATFORM").env("HOME", "/nonexistent").env_remove("XDG_DATA_HOME");
    // Not beside the platform, near which no new file can be read once its keys are guarded.
    command.env("TMPDIR", "/var/tmp");
    command
}

/// An entry of an initramfs: Linux, Documentation/driver-api/early-userspace/buffer-format.rst, "newc".
fn newc(archive: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) {
    let fields = [0, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    archive.extend_from_slice(b"070701");
    fields.iter().for_each(|field| archive.extend_from_slice(format!("{field:08x}").as_bytes()));
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// A guest at whose console the test sits.
struct Guest {
    child: Child,
    keyboard: ChildStdin,
    screen: Receiver<Vec<u8>>,
    /// All that the console printed.
    console: String,
    /// How far the test has read.
    read: usize,
    questions: usize,
}

impl Guest {
    fn start(args: &[&str], drives: &[&str]) -> Self {
        let mut command = cloister();
        command.args(["-nographic", "-m", "1024"]).args(args);
        for drive in drives {
            command.args(["-drive", drive]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, keyboard, screen: receiver, console: String::new(), read: 0, questions: 0 }
    }

    /// Types the name and the password that the script gave to root.
    #[track_caller]
    fn logs_in(&mut self) {
        self.waits_for("cloister login: ");
        self.types("root");
        self.waits_for("Password: ");
        self.types("cloister");
        self.waits_for("# ");
        // Neither colours nor line editing between the test and the answers.
        self.types("export TERM=dumb PS1='# ' SYSTEMD_PAGER=; bind 'set enable-bracketed-paste off'; stty -echo cols 400");
        assert_eq!(self.asks("id -u"), "0");
    }

    /// Runs a command and takes what it printed.
    #[track_caller]
    fn asks(&mut self, command: &str) -> String {
        self.questions += 1;
        let number = self.questions;
        // What is typed may be echoed, so the marks are not in it as such.
        self.types(&format!("printf '\\nbegin-%s\\n' {number}; {command}; printf '\\nend-%s\\n' {number}"));
        self.waits_for(&format!("\nbegin-{number}\r\n"));
        let begin = self.read;
        let end = format!("\nend-{number}\r\n");
        self.waits_for(&end);
        self.console[begin..self.read - end.len()].trim().replace('\r', "")
    }

    fn types(&mut self, line: &str) {
        self.keyboard.write_all(format!("{line}\n").as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    #[track_caller]
    fn waits_for(&mut self, text: &str) {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.console[self.read..].find(text) {
                self.read += at + text.len();
                return;
            }
            match self.screen.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.console.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout) => panic!("no '{text}' after {LIMIT:?} in:\n{}", self.console),
                Err(RecvTimeoutError::Disconnected) => panic!("no '{text}' to the end of:\n{}", self.console),
            }
        }
    }

    #[track_caller]
    fn powers_off(mut self) {
        self.types("systemctl poweroff");
        self.ends_well();
    }

    /// Waits until the guest has powered off, and takes its console.
    #[track_caller]
    fn ends_well(mut self) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            match self.screen.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.console.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout) => panic!("no end after {LIMIT:?} of:\n{}", self.console),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.console);
        std::mem::take(&mut self.console)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Already ended if all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
