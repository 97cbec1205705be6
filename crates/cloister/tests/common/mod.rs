//! Calling the built program.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A run that has ended.
pub(crate) struct Run {
    /// Exit status; `None` if a signal ended it.
    pub(crate) status: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Run {
    /// Succeeded, and with it what it printed.
    #[track_caller]
    pub(crate) fn succeeds(&self) -> &str {
        assert_eq!(self.status, Some(0), "{}\n{}", self.out, self.err);
        &self.out
    }

    /// Status 1, no panic, and every one of the words on standard error.
    #[track_caller]
    pub(crate) fn refuses(&self, words: &[&str]) {
        assert_eq!(self.status, Some(1), "{}\n{}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        for word in words {
            assert!(self.err.contains(word), "'{word}' is missing in:\n{}", self.err);
        }
    }
}

/// Runs the program in a folder. No platform of the user's is used.
pub(crate) fn cloister<A: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = A>) -> Run {
    ended(command(folder).args(args).output())
}

/// As [`cloister`], with a limit on the size of every file that is written: a stand-in for a full disk that
/// needs no privilege.
pub(crate) fn with_file_limit(folder: &Path, blocks: u32, args: &str) -> Run {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" {args}");
    let mut shell = Command::new("sh");
    clean(&mut shell, folder).arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_cloister"));
    ended(shell.output())
}

/// The program with a standard output of the caller's.
pub(crate) fn printing_to(folder: &Path, out: Stdio, args: &[&str]) -> Run {
    let child = command(folder).args(args).stdout(out).stderr(Stdio::piped()).spawn();
    ended(child.and_then(|child| child.wait_with_output()))
}

/// A model machine in `folder/NAME`.
pub(crate) fn platform(folder: &Path, name: &str) -> PathBuf {
    cloister(folder, ["pv", "host-key", "create", "-o", name]).succeeds();
    folder.join(name)
}

/// A kernel that does nothing but look like one.
pub(crate) fn kernel(folder: &Path) -> PathBuf {
    let mut bytes: Vec<u8> = (0..0x14000u32).map(|n| (n * 7 + n / 256) as u8).collect();
    bytes[0x10008..0x1000e].copy_from_slice(b"S390EP");
    let file = folder.join("kernel");
    std::fs::write(&file, bytes).unwrap();
    file
}

/// The options that verify host-key documents of the model machine `name`.
pub(crate) fn verified(name: &str) -> Vec<String> {
    let of = |file: &str| format!("{name}/{file}");
    ["-k", &of("host.crt"), "-C", &of("signing.crt"), "--root-ca", &of("root-ca.crt"), "--crl"]
        .into_iter()
        .chain([of("root-ca.crl").as_str(), "--crl", &of("signing.crl")])
        .map(str::to_owned)
        .collect()
}

/// Names of what is in a folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloister"));
    clean(&mut command, folder);
    command
}

fn clean<'a>(command: &'a mut Command, folder: &Path) -> &'a mut Command {
    command
        .current_dir(folder)
        .env("HOME", folder)
        .env_remove("XDG_DATA_HOME")
        .env_remove("CLOISTER_PLATFORM")
        .stdin(Stdio::null())
}

fn ended(output: std::io::Result<Output>) -> Run {
    let output = output.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}
