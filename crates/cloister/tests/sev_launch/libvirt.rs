//! The real `virsh` with libvirt's embedded driver, as an ordinary user.

use crate::guest::{Expected, Place, sealed};
use cloister_cgs::decode_base64;
use cloister_formats::sev::measurement::Measurement;
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn domcapabilities_says_that_sev_is_supported() {
    let Some(libvirt) = Libvirt::new() else { return };
    let emulator = libvirt.place.path("qemu-system-x86_64").display().to_string();
    let said = libvirt.virsh(&[
        "domcapabilities",
        "--arch",
        "x86_64",
        "--machine",
        "q35",
        "--emulatorbin",
        &emulator,
        "--virttype",
        "qemu",
    ]);
    for line in ["<sev supported='yes'>", "<cbitpos>51</cbitpos>", "<reducedPhysBits>1</reducedPhysBits>"] {
        assert!(said.contains(line), "no {line} in\n{said}");
    }
}

/// create --paused, domlaunchsecinfo, domsetlaunchsecstate, resume, destroy; with and without hashes of the kernel.
#[test]
fn a_domain_with_launch_security_goes_as_far_as_its_secret() {
    let Some(libvirt) = Libvirt::new() else { return };
    let pdh = libvirt.place.pdh();
    for (hashes, cmdline) in [("", None), (" kernelHashes='yes'", Some("console=ttyS0"))] {
        let keys = libvirt.place.owner(&pdh, 1);
        libvirt.domain(hashes);
        // The embedded driver ends with virsh, so one virsh does everything.
        let mut virsh = libvirt.command(&[]).stdin(Stdio::piped()).spawn().unwrap();
        let mut to = virsh.stdin.take().unwrap();
        let mut from = BufReader::new(virsh.stdout.take().unwrap());
        to.write_all(b"create domain.xml --paused\ndomlaunchsecinfo guest\n").unwrap();
        let mut said = String::new();
        while !said.contains("sev-policy") {
            assert!(from.read_line(&mut said).unwrap() > 0, "{said}\n{}", libvirt.log());
        }
        assert!(said.contains("Domain 'guest' created"), "{said}\n{}", libvirt.log());
        let field = |name: &str| {
            let line = said
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap_or_else(|| panic!("{name} in {said}"));
            line.split_once(':').unwrap().1.trim().to_owned()
        };
        assert_eq!(field("sev-policy"), "1");
        let came = Measurement::parse(&decode_base64(field("sev-measurement").as_bytes())).unwrap();
        let number = |name: &str| field(name).parse::<u8>().unwrap();
        let sev = json!({
            "api-major": number("sev-api-major"),
            "api-minor": number("sev-api-minor"),
            "build-id": number("sev-build-id"),
        });
        let firmware = libvirt.place.path("ovmf.fd");
        let expected = Expected { firmware: &firmware, cmdline, cpus: None, policy: 1 };
        assert!(came == expected.measurement(&libvirt.place, &keys, &sev, &came), "{said}");
        let (header, secret) = sealed(&keys, &came);
        // Files end in a newline, which libvirt sends along.
        std::fs::write(libvirt.place.path("header"), header + "\n").unwrap();
        std::fs::write(libvirt.place.path("secret"), secret + "\n").unwrap();
        let lines = "domsetlaunchsecstate guest --secrethdr header --secret secret\ndomstate guest\n\
                     qemu-monitor-command --hmp guest 'info sev'\nresume guest\ndomstate guest\ndestroy guest\nlist --all\n";
        to.write_all(lines.as_bytes()).unwrap();
        drop(to);
        let mut said = String::new();
        from.read_to_string(&mut said).unwrap();
        virsh.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        virsh.wait().unwrap();
        assert!(said.contains("state: launch-secret"), "{said}\n{}", libvirt.log());
        assert!(said.contains("no CPU back end"), "{said}");
        assert!(said.contains("Domain 'guest' destroyed"), "{said}");
        assert_eq!(said.lines().filter(|line| line.trim() == "paused").count(), 2, "{said}");
    }
}

/// A folder in which an ordinary user runs virsh and the program.
struct Libvirt {
    place: Place,
}

impl Libvirt {
    fn new() -> Option<Self> {
        let driver = "libvirt/connection-driver/libvirt_driver_qemu.so";
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
        let virsh = std::env::split_paths(&path).any(|folder| folder.join("virsh").exists());
        if !virsh || !folders.any(|folder| folder.join(driver).exists()) {
            let notice = "SKIPPED: virsh and libvirt's QEMU driver are not installed; run scripts/test";
            assert!(std::env::var_os("CI").is_none(), "{notice}");
            eprintln!("{notice}");
            return None;
        }
        let libvirt = Self { place: Place::new() };
        for folder in ["root/etc", "home", "run"] {
            std::fs::create_dir_all(libvirt.place.path(folder)).unwrap();
        }
        let settings = "stdio_handler = \"file\"\nsecurity_driver = \"none\"\n";
        std::fs::write(libvirt.place.path("root/etc/qemu.conf"), settings).unwrap();
        // A copy, because the user may not be allowed to enter the folder of the build.
        let program = libvirt.place.path("bin/qemu-system-x86_64");
        std::fs::create_dir_all(program.parent().unwrap()).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_cloister"), &program).unwrap();
        // libvirt clears the environment and gives each domain a HOME of its own: the emulator names its platform.
        let emulator = libvirt.place.path("qemu-system-x86_64");
        let platform = libvirt.place.path("platform");
        let script = format!(
            "#!/bin/sh\nCLOISTER_PLATFORM='{}' exec '{}' \"$@\"\n",
            platform.display(),
            program.display()
        );
        std::fs::write(&emulator, script).unwrap();
        std::fs::set_permissions(&emulator, std::fs::Permissions::from_mode(0o755)).unwrap();
        libvirt.owned();
        Some(libvirt)
    }

    fn domain(&self, hashes: &str) {
        let file = |name: &str| self.place.path(name).display().to_string();
        let text = |name: &str| std::fs::read_to_string(self.place.path(name)).unwrap();
        let xml = format!(
            "<domain type='qemu'><name>guest</name><memory unit='MiB'>256</memory><vcpu>1</vcpu>
             <os><type arch='x86_64' machine='q35'>hvm</type><loader type='rom'>{}</loader>
               <kernel>{}</kernel><initrd>{}</initrd><cmdline>console=ttyS0</cmdline></os>
             <features><acpi/></features>
             <devices><emulator>{}</emulator>
               <controller type='usb' model='none'/><memballoon model='none'/></devices>
             <launchSecurity type='sev'{hashes}><cbitpos>51</cbitpos><reducedPhysBits>1</reducedPhysBits>
               <policy>0x1</policy><dhCert>{}</dhCert><session>{}</session></launchSecurity></domain>",
            file("ovmf.fd"),
            file("kernel"),
            file("initrd"),
            file("qemu-system-x86_64"),
            text("godh.b64").trim(),
            text("session.b64").trim(),
        );
        std::fs::write(self.place.path("domain.xml"), xml).unwrap();
        self.owned();
    }

    /// libvirt's session mode is for ordinary users: root becomes nobody.
    fn owned(&self) {
        if rustix::process::geteuid().is_root() {
            let chown = Command::new("chown").args(["-R", "65534:65534"]).arg(self.place.0.path()).status();
            assert!(chown.unwrap().success());
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let path = |name: &str| self.place.path(name);
        // Answers come line by line, also through a pipe.
        let mut command = Command::new("stdbuf");
        command.arg("-oL");
        if rustix::process::geteuid().is_root() {
            command.args(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        }
        command.arg("virsh");
        command.current_dir(self.place.0.path()).env("HOME", path("home")).env("LC_ALL", "C");
        command.env("XDG_RUNTIME_DIR", path("run")).env("XDG_CACHE_HOME", path("home/cache"));
        command.env("XDG_CONFIG_HOME", path("home/config")).env_remove("XDG_DATA_HOME");
        command.args(["-c", &format!("qemu:///embed?root={}", path("root").display())]).args(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn virsh(&self, args: &[&str]) -> String {
        let done = self.command(args).stdin(Stdio::null()).output().unwrap();
        let said =
            String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{said}\n{}", self.log());
        said
    }

    fn log(&self) -> String {
        let logs = std::fs::read_dir(Path::new(&self.place.path("root/log/qemu")));
        let logs = logs.into_iter().flatten().map(|entry| entry.unwrap().path());
        logs.map(|log| std::fs::read_to_string(log).unwrap_or_default()).collect()
    }
}
