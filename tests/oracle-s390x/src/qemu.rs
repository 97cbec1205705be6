//! Runs an image under packaged `qemu-system-s390x`, as a process of its own, and reads the output records by QMP.
//!
//! Nothing here interprets the image: it waits for the disabled-wait PSW and dumps a range of storage.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::harness::{Pieces, STORAGE, elf};

/// The program's name; `CLOISTER_ORACLE_QEMU` names another one.
pub fn program() -> String {
    std::env::var("CLOISTER_ORACLE_QEMU").unwrap_or_else(|_| "qemu-system-s390x".into())
}

/// First line of `-version`, or nothing if the program is not installed.
pub fn version() -> Option<String> {
    let out = Command::new(program()).arg("-version").stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&out.stdout);
    out.status.success().then(|| text.lines().next().unwrap_or("").to_owned())
}

/// Runs the image to its disabled wait and returns the bytes of the ranges.
pub fn run(pieces: &Pieces, ranges: &[(u64, u64)], limit: Duration) -> Result<Vec<Vec<u8>>> {
    let folder = tempfile::tempdir().context("making a folder for the QEMU run")?;
    let kernel = folder.path().join("image.elf");
    let dump = folder.path().join("records");
    std::fs::write(&kernel, elf(pieces)).with_context(|| format!("writing {}", kernel.display()))?;
    let megabytes = (STORAGE >> 20).to_string();
    let child = Command::new(program())
        .args(["-M", "s390-ccw-virtio", "-accel", "tcg,thread=single", "-cpu", "max", "-m", &megabytes])
        .args([
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
            "-action",
            "panic=pause",
            "-qmp",
            "stdio",
            "-kernel",
        ])
        .arg(&kernel)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", program()))?;
    let mut session = Session::new(child, limit)?;
    session.command(r#"{"execute":"qmp_capabilities"}"#)?;
    // The guest may have stopped before the capabilities were negotiated: ask, do not wait for the event.
    loop {
        let status = session.command(r#"{"execute":"query-status"}"#)?;
        if !status.contains(r#""running": true"#) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let path = dump.to_str().context("the temporary folder's name is not UTF-8")?;
    let mut out = Vec::new();
    for (start, len) in ranges {
        session.command(&format!(
            r#"{{"execute":"pmemsave","arguments":{{"val":{start},"size":{len},"filename":"{path}"}}}}"#
        ))?;
        let bytes = std::fs::read(&dump).with_context(|| format!("reading {}", dump.display()))?;
        if bytes.len() as u64 != *len {
            bail!("QEMU saved {} bytes of {len}", bytes.len());
        }
        out.push(bytes);
    }
    // No "quit": QEMU may end before it answers. The session ends the process.
    Ok(out)
}

/// A QMP conversation; the process ends with it.
struct Session {
    child: Child,
    lines: mpsc::Receiver<String>,
    deadline: Instant,
}

impl Session {
    fn new(mut child: Child, limit: Duration) -> Result<Self> {
        let out = child.stdout.take().context("QEMU has no standard output")?;
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(std::io::Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines, deadline: Instant::now() + limit })
    }

    /// Sends one command and returns its answer; events in between are skipped.
    fn command(&mut self, text: &str) -> Result<String> {
        let input = self.child.stdin.as_mut().context("QEMU has no standard input")?;
        if writeln!(input, "{text}").is_err() {
            bail!("QEMU ended early: {}", self.complaint());
        }
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(r#""error""#) => bail!("QEMU answered {line} to {text}"),
                Ok(line) if line.contains(r#""return""#) => return Ok(line),
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    bail!("QEMU did not finish the image in time: does a case loop?")
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => bail!("QEMU ended early: {}", self.complaint()),
            }
        }
    }

    fn complaint(&mut self) -> String {
        let mut text = String::new();
        if let Some(err) = self.child.stderr.as_mut() {
            let _ = std::io::Read::read_to_string(err, &mut text);
        }
        match self.child.wait() {
            Ok(status) => format!("{status} {text}"),
            Err(error) => format!("{error} {text}"),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
