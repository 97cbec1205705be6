//! Guests on a network: an address by DHCP, files both ways through passt, in the clear and protected, with checksums.
//!
//! The kernels come from `scripts/fetch-s390x-guests`, passt from the host. Without them these tests print a notice and
//! pass, unless `CI` is set.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A run that takes longer hangs: the slowest one takes a tenth of it on an idle machine.
const LIMIT: Duration = Duration::from_secs(500);
/// Bytes of the file that the guest downloads.
const FILE: usize = 8 << 20;

#[test]
fn a_clear_guest_downloads_and_uploads_with_the_right_checksums() {
    let Some(guests) = Guests::find(true) else { return };
    let server = Server::start();
    let words = format!("cloister.test=network cloister.server=10.0.2.2:{}", server.port);
    for nic in [["-nic", "user,model=virtio"], ["-nic", "user,mac=52:54:00:c1:01:57"]] {
        let run = guests.clear(&words, &["-smp", "2", nic[0], nic[1]]);
        let mac = if nic[1].contains("mac") { "52:54:00:c1:01:57" } else { "52:54:00:12:34:56" };
        assert!(run.contains(&format!("MAC {mac}")), "{run}");
        assert!(run.contains("LEASE 10.0.2.15/24 via 10.0.2.2"), "{run}");
        server.check(&run);
    }
}

#[test]
fn a_protected_guest_downloads_a_file_with_the_right_checksum() {
    let Some(guests) = Guests::find(true) else { return };
    let server = Server::start();
    let words = format!("cloister.test=network cloister.server=10.0.2.2:{}", server.port);
    let image = guests.image(&words);
    let options =
        ["-smp", "2", "-netdev", "user,id=n0,ipv6=off", "-device", "virtio-net-ccw,netdev=n0,id=net0"];
    let run = guests.protected(&image, &options);
    assert!(run.contains("prot_virt_guest 1"), "{run}");
    assert!(run.contains("LEASE 10.0.2.15/24"), "{run}");
    server.check(&run);
}

#[test]
fn a_user_network_without_passt_says_which_package_it_is_in() {
    let guests = Guests { cache: PathBuf::new(), scratch: tempfile::tempdir().unwrap() };
    let (status, _, err) = guests.run_with(
        |command| {
            command.env("PATH", "/nonexistent");
        },
        &["-nic", "user", "-kernel", "/nonexistent"],
    );
    assert_eq!(status, Some(1), "{err}");
    assert!(err.contains("passt") && err.contains("package"), "{err}");
}

#[test]
fn a_port_that_is_taken_is_refused_in_passts_words() {
    let Some(guests) = Guests::find(true) else { return };
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let nic = format!("user,hostfwd=tcp:127.0.0.1:{port}-:22");
    let (status, _, err) = guests.run_with(|_| {}, &["-nic", &nic, "-kernel", &guests.file("vmlinuz-6.12")]);
    assert_eq!(status, Some(1), "{err}");
    assert!(err.contains(&port.to_string()) && err.contains("passt"), "{err}");
}

/// A web server with one file, and beside it a port that takes what is sent to it.
struct Server {
    port: u16,
    sum: String,
    uploads: Receiver<Vec<u8>>,
}

impl Server {
    fn start() -> Self {
        // Two ports in a row.
        let (http, upload) = loop {
            let http = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = http.local_addr().unwrap().port();
            if let Ok(upload) = TcpListener::bind((Ipv4Addr::LOCALHOST, port.saturating_add(1))) {
                break (http, upload);
            }
        };
        let port = http.local_addr().unwrap().port();
        // No two pages alike, so that no buffer can stand for another.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let file: Vec<u8> = std::iter::repeat_with(next).take(FILE / 8).flatten().collect();
        let sum = hex(&file);
        std::thread::spawn(move || {
            for peer in http.incoming() {
                let mut peer = peer.unwrap();
                let mut request = BufReader::new(peer.try_clone().unwrap());
                let mut line = String::new();
                while request.read_line(&mut line).unwrap_or(0) > 2 {
                    line.clear();
                }
                let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", file.len());
                let _ = peer.write_all(head.as_bytes()).and_then(|()| peer.write_all(&file));
            }
        });
        let (to, uploads) = channel();
        std::thread::spawn(move || {
            for peer in upload.incoming() {
                let (mut peer, mut bytes) = (peer.unwrap(), Vec::new());
                // passt of March 2023 resets a connection on which the host never says anything, after ten seconds.
                let _ = peer.write_all(b"ready\n");
                let _ = peer.read_to_end(&mut bytes);
                let _ = to.send(bytes);
            }
        });
        Self { port, sum, uploads }
    }

    /// What the guest got and what it sent are what they should be.
    fn check(&self, console: &str) {
        assert!(console.contains(&format!("DOWNLOAD {} ", self.sum)), "{}\n{console}", self.sum);
        let sent = self.uploads.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(sent.len() > 1 << 20, "{} bytes\n{console}", sent.len());
        assert!(console.contains(&format!("UPLOAD {}", hex(&sent))), "{} bytes\n{console}", sent.len());
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the script fetched, and a folder for what the tests make.
struct Guests {
    cache: PathBuf,
    scratch: tempfile::TempDir,
}

impl Guests {
    fn find(passt: bool) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let cache = std::env::var_os("CLOISTER_CACHE").map_or_else(|| root.join("cache"), PathBuf::from);
        let cache = cache.join("s390x");
        let kernels = cache.join("modules-6.12/virtio_net.ko").exists();
        let passt = !passt || Command::new("passt").arg("--version").output().is_ok();
        if !kernels || !passt {
            let notice = "SKIPPED: run scripts/fetch-s390x-guests for kernels, and install passt";
            assert!(std::env::var_os("CI").is_none(), "{notice}");
            eprintln!("{notice}");
            return None;
        }
        Some(Self { cache, scratch: tempfile::tempdir().unwrap() })
    }

    fn file(&self, name: &str) -> String {
        self.cache.join(name).display().to_string()
    }

    fn platform(&self) -> String {
        let folder = self.scratch.path().join("platform");
        if !folder.exists() {
            let made = cloister().args(["pv", "host-key", "create", "-o"]).arg(&folder).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        folder.display().to_string()
    }

    fn image(&self, words: &str) -> PathBuf {
        let platform = PathBuf::from(self.platform());
        let (parmfile, image) = (self.scratch.path().join("parmfile"), self.scratch.path().join("guest.img"));
        std::fs::write(&parmfile, format!("console=ttysclp0 panic=-1 {words}")).unwrap();
        let made = cloister()
            .args(["pv", "image", "create", "--no-verify", "-k"])
            .arg(platform.join("host.crt"))
            .args(["-i", &self.file("vmlinuz-6.12"), "-r", &self.file("initramfs-full.gz"), "-p"])
            .arg(&parmfile)
            .arg("-o")
            .arg(&image)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        image
    }

    fn clear(&self, words: &str, options: &[&str]) -> String {
        let append = format!("console=ttysclp0 panic=-1 {words}");
        let (kernel, initrd) = (self.file("vmlinuz-6.12"), self.file("initramfs-full.gz"));
        let mut args = vec!["-kernel", &kernel, "-initrd", &initrd, "-append", &append];
        args.extend(options);
        self.passes(&args)
    }

    fn protected(&self, image: &Path, options: &[&str]) -> String {
        let (platform, image) = (self.platform(), image.display().to_string());
        let mut args = vec!["-machine", "confidential-guest-support=pv0", "-object", "s390-pv-guest,id=pv0"];
        args.extend(["-platform", &platform, "-kernel", &image]);
        args.extend(options);
        self.passes(&args)
    }

    /// The console of a run whose guest passed its own tests.
    fn passes(&self, args: &[&str]) -> String {
        let (status, out, err) = self.run_with(|_| {}, args);
        assert_eq!(status, Some(0), "{out}\n{err}");
        assert!(out.contains("TEST-END") && !out.contains(" FAIL"), "{out}\n{err}");
        out
    }

    fn run_with(&self, change: impl Fn(&mut Command), args: &[&str]) -> (Option<i32>, String, String) {
        let (out, err) = (self.scratch.path().join("stdout"), self.scratch.path().join("stderr"));
        let mut command = cloister();
        command.args(["-machine", "s390-ccw-virtio", "-nographic", "-m", "512"]).args(args);
        command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let start = Instant::now();
        let text = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return (status.code(), text(&out), text(&err));
            }
            if start.elapsed() > LIMIT {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("no end after {LIMIT:?}: {args:?}\n{}\n{}", text(&out), text(&err));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn cloister() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloister"));
    // The platform of the person who runs the tests must not matter.
    command.env_remove("CLOISTER_PLATFORM").env("HOME", "/nonexistent").env_remove("XDG_DATA_HOME");
    command
}
