//! Distribution kernels, started as a user starts them: in the clear and as Secure Execution guests.
//!
//! The kernels come from `scripts/fetch-s390x-guests`. Without them these tests print a notice and pass,
//! unless `CI` is set.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A boot that takes longer hangs: the slowest one takes a tenth of it on an idle machine.
const LIMIT: Duration = Duration::from_secs(400);

#[test]
fn linux_6_12_reaches_user_space_and_powers_off() {
    let Some(guests) = Guests::find() else { return };
    for cpus in ["1", "4"] {
        let run = guests.clear("vmlinuz-6.12", "initramfs-basic.gz", "", &["-smp", cpus]);
        run.succeeds();
        run.shows("INIT-REACHED");
        run.shows(&format!("cpus {cpus}"));
        run.shows("prot_virt_guest absent");
    }
}

#[test]
fn linux_6_1_reaches_user_space_and_powers_off() {
    let Some(guests) = Guests::find() else { return };
    let run = guests.clear("vmlinuz-6.1", "initramfs-basic.gz", "", &[]);
    run.succeeds();
    run.shows("INIT-REACHED");
}

#[test]
fn the_same_command_with_virtual_time_gives_the_same_run() {
    let Some(guests) = Guests::find() else { return };
    let options = [
        "-smp",
        "2",
        "-icount",
        "shift=1,sleep=off",
        "-seed",
        "7",
        "-device",
        "virtio-rng-ccw",
        "-d",
        "stats",
    ];
    let runs = [(); 2].map(|()| guests.clear("vmlinuz-6.12", "initramfs-basic.gz", "", &options));
    runs.iter().for_each(Run::succeeds);
    assert_eq!(runs[0].console(), runs[1].console(), "two runs printed different consoles");
    let count = |run: &Run| {
        let text = run.messages();
        let line =
            text.lines().find(|line| line.contains(" instructions in ")).unwrap_or_default().to_owned();
        line.split(" instructions").next().unwrap_or_default().to_owned()
    };
    assert!(!count(&runs[0]).is_empty());
    assert_eq!(count(&runs[0]), count(&runs[1]), "two runs executed different numbers of instructions");
}

/// What GCC makes for z10, z13, z14 and z15 with all its optimisations gives the numbers of the same source on the host.
#[test]
fn programs_of_every_generation_compute_what_the_host_computes() {
    let Some(guests) = Guests::find() else { return };
    if Command::new("s390x-linux-gnu-gcc").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "no compiler (package gcc-s390x-linux-gnu)");
        return eprintln!("SKIPPED: no compiler (package gcc-s390x-linux-gnu)");
    }
    let folder = guests.scratch.path();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/s390x/generations.c");
    let compile = |compiler: &str, options: &[&str], output: &str| {
        let mut command = Command::new(compiler);
        command
            .args(options)
            .args(["-ffp-contract=off", "-o"])
            .arg(folder.join(output))
            .arg(&source)
            .arg("-lm");
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    compile("cc", &["-O1"], "host");
    let expected = Command::new(folder.join("host")).output().unwrap();
    let expected = String::from_utf8(expected.stdout).unwrap();
    for generation in ["z10", "z13", "z14", "z15"] {
        compile("s390x-linux-gnu-gcc", &["-O3", "-static", &format!("-march={generation}")], generation);
    }
    std::fs::copy(folder.join("z10"), folder.join("init")).unwrap();
    let archive = Command::new("sh")
        .args(["-c", "printf '%s\\n' init z10 z13 z14 z15 | cpio --quiet -o -H newc > generations.cpio"])
        .current_dir(folder)
        .status();
    assert!(archive.unwrap().success());
    let initrd = folder.join("generations.cpio").display().to_string();
    let run = guests.clear("vmlinuz-6.12", &initrd, "", &[]);
    run.succeeds();
    assert!(expected.starts_with("RESULT "));
    assert_eq!(run.console().matches(expected.trim()).count(), 4, "{expected}{}", run.everything());
}

#[test]
fn a_clear_guest_uses_disk_and_entropy() {
    let Some(guests) = Guests::find() else { return };
    let disk = guests.disk();
    let drive = format!("file={},if=virtio,format=raw", disk.display());
    let options = ["-smp", "2", "-drive", &drive, "-device", "virtio-rng-ccw"];
    guests.clear("vmlinuz-6.12", "initramfs-full.gz", "cloister.test=virtio", &options).passes_its_tests();
}

#[test]
fn a_protected_guest_uses_disk_and_entropy_through_bounce_buffers() {
    let Some(guests) = Guests::find() else { return };
    let image = guests.image("cloister.test=virtio");
    for cpus in ["1", "4"] {
        let disk = guests.disk();
        let drive = format!("file={},if=virtio,format=raw", disk.display());
        let run = guests.protected(&image, &["-smp", cpus, "-drive", &drive, "-device", "virtio-rng-ccw"]);
        run.passes_its_tests();
        run.shows("prot_virt_guest 1");
    }
}

#[test]
fn a_protected_guest_enters_protection_again_after_a_reboot_also_over_the_loopback_door() {
    let Some(guests) = Guests::find() else { return };
    let image = guests.image("cloister.test=reboot-once");
    let disk = guests.disk();
    let drive = format!("file={},if=virtio,format=raw", disk.display());
    let run = guests.protected(&image, &["-smp", "4", "-accel", "soft,door=loopback", "-drive", &drive]);
    run.succeeds();
    run.shows("REBOOTING");
    run.shows("TEST reboot ok");
    assert_eq!(run.console().matches("prot_virt_guest 1").count(), 2, "{}", run.everything());
}

#[test]
fn without_the_object_a_guest_enters_protection_and_refuses_devices_without_the_iommu_promise() {
    let Some(guests) = Guests::find() else { return };
    let image = guests.image("cloister.test=virtio");
    let disk = guests.disk();
    let drive = format!("file={},if=virtio,format=raw", disk.display());
    let run = guests.run(&[
        "-machine",
        "s390-ccw-virtio",
        "-platform",
        &guests.platform(),
        "-kernel",
        &image.display().to_string(),
        "-drive",
        &drive,
    ]);
    run.succeeds();
    run.shows("prot_virt_guest 1");
    assert!(!run.console().contains("TEST blk ok"), "{}", run.everything());
    let promised = guests.run(&[
        "-machine",
        "s390-ccw-virtio",
        "-platform",
        &guests.platform(),
        "-kernel",
        &image.display().to_string(),
        "-drive",
        &format!("file={},if=none,id=d0,format=raw", guests.disk().display()),
        "-device",
        "virtio-blk-ccw,drive=d0,iommu_platform=on",
    ]);
    promised.shows("TEST blk ok");
}

/// What the script fetched, and a folder for what the tests make.
struct Guests {
    cache: PathBuf,
    scratch: tempfile::TempDir,
}

impl Guests {
    fn find() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let cache = std::env::var_os("CLOISTER_CACHE").map_or_else(|| root.join("cache"), PathBuf::from);
        let cache = cache.join("s390x");
        if !cache.join("vmlinuz-6.12").exists() {
            let notice = "SKIPPED: no kernels; run scripts/fetch-s390x-guests";
            assert!(std::env::var_os("CI").is_none(), "{notice}");
            eprintln!("{notice}");
            return None;
        }
        Some(Self { cache, scratch: tempfile::tempdir().unwrap() })
    }

    fn file(&self, name: &str) -> String {
        self.cache.join(name).display().to_string()
    }

    fn disk(&self) -> PathBuf {
        let (_, path) =
            tempfile::Builder::new().suffix(".ext4").tempfile_in(&self.scratch).unwrap().keep().unwrap();
        std::fs::copy(self.cache.join("disk.ext4"), &path).unwrap();
        path
    }

    /// A model machine, made once for each test.
    fn platform(&self) -> String {
        let folder = self.scratch.path().join("platform");
        if !folder.exists() {
            let made = cloister().args(["pv", "host-key", "create", "-o"]).arg(&folder).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        folder.display().to_string()
    }

    /// An encrypted image of the 6.12 kernel, its host-key document fully verified.
    fn image(&self, words: &str) -> PathBuf {
        let platform = PathBuf::from(self.platform());
        let (parmfile, image) = (self.scratch.path().join("parmfile"), self.scratch.path().join("guest.img"));
        std::fs::write(&parmfile, format!("console=ttysclp0 panic=-1 {words}")).unwrap();
        let made = cloister()
            .args(["pv", "image", "create", "--offline", "--overwrite", "-k"])
            .arg(platform.join("host.crt"))
            .arg("-C")
            .arg(platform.join("signing.crt"))
            .arg("--root-ca")
            .arg(platform.join("root-ca.crt"))
            .arg("--crl")
            .arg(platform.join("signing.crl"))
            .arg("--crl")
            .arg(platform.join("root-ca.crl"))
            .args(["-i", &self.file("vmlinuz-6.12"), "-r", &self.file("initramfs-full.gz"), "-p"])
            .arg(&parmfile)
            .arg("-o")
            .arg(&image)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        image
    }

    fn clear(&self, kernel: &str, initrd: &str, words: &str, options: &[&str]) -> Run {
        let append = format!("console=ttysclp0 panic=-1 {words}");
        let (kernel, initrd) = (self.file(kernel), self.file(initrd));
        let mut args = vec!["-machine", "s390-ccw-virtio", "-kernel", &kernel, "-initrd", &initrd];
        args.extend(["-append", &append]);
        args.extend(options);
        self.run(&args)
    }

    fn protected(&self, image: &Path, options: &[&str]) -> Run {
        let (platform, image) = (self.platform(), image.display().to_string());
        let mut args = vec!["-machine", "s390-ccw-virtio,confidential-guest-support=pv0"];
        args.extend(["-object", "s390-pv-guest,id=pv0", "-platform", &platform, "-kernel", &image]);
        args.extend(options);
        self.run(&args)
    }

    /// Runs the binary until it ends or the limit is over. Output goes to files, so that a full pipe cannot
    /// stop the guest.
    fn run(&self, args: &[&str]) -> Run {
        let (out, err) = (self.scratch.path().join("stdout"), self.scratch.path().join("stderr"));
        let mut child = cloister()
            .args(["-nographic", "-m", "512"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if start.elapsed() > LIMIT {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let (stdout, stderr) = (std::fs::read(&out).unwrap(), std::fs::read(&err).unwrap());
        let Some(status) = status else {
            panic!("no end after {LIMIT:?}: {args:?}\n{}", String::from_utf8_lossy(&stdout));
        };
        Run(Output { status, stdout, stderr })
    }
}

fn cloister() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloister"));
    // The platform of the person who runs the tests must not matter.
    command.env_remove("CLOISTER_PLATFORM").env("HOME", "/nonexistent").env_remove("XDG_DATA_HOME");
    command
}

struct Run(Output);

impl Run {
    fn console(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    fn messages(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    fn everything(&self) -> String {
        format!("{}\n--- stderr ---\n{}", self.console(), self.messages())
    }

    fn succeeds(&self) {
        assert!(self.0.status.success(), "{}\n{}", self.0.status, self.everything());
    }

    fn shows(&self, text: &str) {
        assert!(self.console().contains(text), "no '{text}' in\n{}", self.everything());
    }

    /// The guest's own tests: at least one, all of them well, to the end.
    fn passes_its_tests(&self) {
        self.succeeds();
        self.shows("TEST-END");
        let console = self.console();
        let mut results = console.lines().filter(|line| line.starts_with("TEST ")).peekable();
        assert!(results.peek().is_some(), "{}", self.everything());
        for line in results {
            assert!(line.contains(" ok"), "{line}\n{}", self.everything());
        }
    }
}
