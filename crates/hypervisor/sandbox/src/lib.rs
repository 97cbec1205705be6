//! What the process gives up once it runs: system calls, files, core dumps.
//!
//! A guest that breaks out of its device models or out of the interpreter finds itself in this process. What it then
//! finds is less than what the user who started it may do. Three things are given up:
//!
//! | | when | without `-sandbox` | `-sandbox on` adds | `-sandbox off` |
//! |---|---|---|---|---|
//! | system calls ([`Rules::enter`], seccomp(2)) | before the guest's first instruction, all threads | what nothing here needs fails with `EPERM` | QEMU's list ends the process | nothing |
//! | files ([`Rules::guard`], landlock(7)) | before the first thread, when the keys are read | no program runs, no private key of the platform is read again | nothing | nothing |
//! | core dumps, debuggers ([`Rules::guard`]) | with the above | none of a process with keys, but for `-machine dump-guest-core=on` | nothing | the same |
//!
//! **System calls: why a list of what is denied.** What a run needs is decided by the C library and by what an operator
//! asks of a monitor hours later; a list of what is allowed, with one entry forgotten, breaks a run in its middle. So
//! the calls that nobody here needs are denied: making processes, running programs, looking into other processes,
//! mounting, modules, namespaces, users, keys of the kernel, io_uring (which goes round every filter), and so on. The
//! list is closed at its end: a call that is newer than [`NEWEST_CALL`] does not exist (`ENOSYS`), as on an older
//! kernel, which every library copes with. Calls of another architecture (32 bits) end the process.
//!
//! **`-sandbox on`** has QEMU's meaning: a call of QEMU's list ends the process, by SIGSYS. Each of `obsolete=deny`,
//! `elevateprivileges=deny|children` and `spawn=deny` adds its group to that list; `resourcecontrol=deny` calls fail,
//! as in QEMU. A group that is allowed stays as it is without the option: denied with an error. Nothing here would
//! use it.
//!
//! **What it is not.** It hides no file but the platform's private keys: a monitor writes where its operator asks, and
//! the operator may ask for any place that the user may write. It does not cut the network off. A kernel whose Landlock
//! is older than version 8 cannot put other threads behind it, hence its early place. The process can undo its own
//! `prctl(PR_SET_DUMPABLE)`; the list does not look at that call's arguments. A denied call is told to its caller, not
//! logged. Kernels without seccomp or Landlock, and hosts for which there is no filter, are used as they are:
//! [`survey`] says so.
//!
//! **What it costs.** A boot of Linux takes as long with it as without it, within the noise. Kernels before 5.16 also
//! switch on their mitigation of Speculative Store Bypass for a process with a filter, which the interpreter may feel;
//! `-sandbox off` is for them.
#![forbid(unsafe_code)]

mod calls;
mod dumps;
mod files;
mod filter;

pub use calls::NEWEST_CALL;
pub use files::{Guarded, landlock};
pub use filter::seccomp;

use cloister_options::{CommandLine, Sandbox};
use std::fmt;
use std::path::Path;

/// What a command line asks to give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `-sandbox`, if it was given.
    pub sandbox: Option<Sandbox>,
    /// Whether the user asked for core dumps, rather than only not against them.
    pub dumps: bool,
}

/// Why the process could not give up what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// No filter can be built for this host.
    #[error(
        "-sandbox: there is no system call filter for {arch} hosts; run without it, or with -sandbox off"
    )]
    Architecture {
        /// The host.
        arch: &'static str,
    },
    /// The kernel refused.
    #[error(
        "-sandbox: the kernel does not take the system call filter: {why}; -sandbox off runs without one"
    )]
    Filter {
        /// What it said.
        why: String,
    },
}

impl Rules {
    /// The rules of a command line.
    #[must_use]
    pub fn of(line: &CommandLine) -> Self {
        Self { sandbox: line.sandbox, dumps: line.machine.properties.bool("dump-guest-core") == Some(true) }
    }

    /// Guards the keys that were just read: no core dumps, no debuggers, no other program, and the private files in
    /// `platform` are out of reach. On most kernels this holds for the calling thread and those that it starts: call
    /// it before there are others.
    ///
    /// What the kernel cannot do is left out, said in the answer and at the level `debug`.
    pub fn guard(&self, platform: Option<&Path>) -> Guarded {
        if !self.dumps {
            dumps::forbid();
        }
        let guarded = if self.off() { Guarded::off() } else { files::guard(platform) };
        tracing::debug!(%guarded, "files");
        guarded
    }

    /// Gives up system calls, in all threads, for good. Call it when the machine is ready to run.
    ///
    /// # Errors
    /// The filter is not in force, and `-sandbox on` asked for one. Our own is then only missed at the level `info`.
    pub fn enter(&self) -> Result<(), SandboxError> {
        if self.off() {
            return Ok(());
        }
        match filter::install(self.sandbox) {
            Err(why) if self.sandbox.is_none() => {
                tracing::info!(%why, "no system call is denied to this process");
                Ok(())
            }
            other => other,
        }
    }

    fn off(&self) -> bool {
        self.sandbox.is_some_and(|sandbox| !sandbox.enabled)
    }
}

/// What this host's kernel offers for the sandbox, a line each.
#[must_use]
pub fn survey() -> Survey {
    Survey { seccomp: seccomp(), landlock: landlock() }
}

/// See [`survey`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Whether system calls can be denied; else why not.
    pub seccomp: Result<(), String>,
    /// Whether files can be put out of reach; else why not.
    pub landlock: Result<(), String>,
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.seccomp {
            Ok(()) => writeln!(f, "System calls that a running machine does not need are denied (seccomp)")?,
            Err(why) => writeln!(f, "System calls are not filtered: {why}")?,
        }
        match &self.landlock {
            Ok(()) => write!(f, "The platform's private keys are out of reach once read (Landlock)"),
            Err(why) => write!(f, "Files are not guarded beyond their permissions: {why}"),
        }
    }
}

fn words(error: &(dyn std::error::Error + 'static)) -> String {
    // The libraries' errors repeat their source's text.
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
