//! A program that goes into the background (`-daemonize`) and says which process it is (`-pidfile`).
//!
//! Nothing forks: the program starts itself again and waits until the second one is ready. Descriptors that the first
//! inherited go on to the second, as the arguments do.

use crate::error::Words;
use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use thiserror::Error;

/// The last argument of the second process. It says no more than that standard input is the pipe to the first.
pub const DAEMON_ARGUMENT: &str = "--daemon-ready-on-stdin";

/// Why the program could not go into the background, or write its process id.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// The second process could not be started.
    #[error("cannot daemonize: cannot start {}: {}", .program.display(), Words(.source))]
    Start {
        /// The program.
        program: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A step towards the background failed.
    #[error("cannot daemonize: {what}: {}", Words(.source))]
    Step {
        /// The step.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Somebody gave the internal argument by hand.
    #[error("{DAEMON_ARGUMENT} is not for users: give -daemonize")]
    NotStarted,
    /// The file could not be made.
    #[error("cannot create PID file: Could not create '{}': {}", .path.display(), Words(.source))]
    PidFile {
        /// Its path.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Another process holds it.
    #[error("cannot create PID file: Cannot lock pid file: {}", Words(.0))]
    PidLock(io::Error),
    /// It could not be written.
    #[error("cannot create PID file: Failed to write pid file: {}", Words(.0))]
    PidWrite(io::Error),
}

/// In the first process: starts the program again in the background and waits until it is ready. True: exit with 0.
/// False: it ended early and has said why on standard error; exit with 1.
///
/// # Errors
/// It could not be started.
pub fn daemonize(argv0: &OsStr, args: &[OsString]) -> Result<bool, ProcessError> {
    let (reader, writer) = io::pipe().map_err(|source| ProcessError::Step { what: "make a pipe", source })?;
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    let mut command = Command::new(&program);
    command.arg0(argv0).args(args).arg(DAEMON_ARGUMENT).stdin(Stdio::from(writer));
    let mut child = command.spawn().map_err(|source| ProcessError::Start { program, source })?;
    // It holds our end of the pipe's writer.
    drop(command);
    let mut byte = [0];
    let mut reader = reader;
    if reader.read_exact(&mut byte).is_ok() {
        return Ok(true);
    }
    // The pipe is closed: it has ended, or is about to.
    let _ = child.wait();
    Ok(false)
}

/// In every process, before the arguments are read: takes the internal argument away if it is the last, and makes this
/// process the leader of a session of its own.
///
/// # Errors
/// The argument was given by hand, or the session is refused.
pub fn become_daemon(args: &mut Vec<OsString>) -> Result<Option<Ready>, ProcessError> {
    if args.last().is_none_or(|last| last != DAEMON_ARGUMENT) {
        return Ok(None);
    }
    args.pop();
    let pipe = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3).map_err(|_| ProcessError::NotStarted)?;
    let is_pipe =
        rustix::fs::fstat(&pipe).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Fifo);
    let writes = rustix::fs::fcntl_getfl(&pipe).is_ok_and(|f| f & OFlags::RWMODE == OFlags::WRONLY);
    if !is_pipe || !writes {
        return Err(ProcessError::NotStarted);
    }
    // Whoever reads standard input from here on finds its end, not the pipe.
    let null = null_device()?;
    rustix::stdio::dup2_stdin(&null).map_err(step("replace standard input"))?;
    rustix::process::setsid().map_err(step("start a session"))?;
    rustix::process::umask(Mode::from_raw_mode(0o027));
    Ok(Some(Ready { pipe }))
}

/// Tells the first process that this one is ready. Dropped without: the first reports a failure.
#[derive(Debug)]
#[must_use = "the first process waits for the signal"]
pub struct Ready {
    pipe: OwnedFd,
}

impl Ready {
    /// Lets go of the directory and of standard input, output and error, then lets the first process end. Who reads
    /// our standard error until its end is served before.
    ///
    /// # Errors
    /// `/dev/null` cannot be opened. The first process reports a failure then.
    pub fn signal(self) -> Result<(), ProcessError> {
        let null = null_device()?;
        rustix::process::chdir("/").map_err(step("change to the root directory"))?;
        rustix::stdio::dup2_stdin(&null).map_err(step("replace standard input"))?;
        rustix::stdio::dup2_stdout(&null).map_err(step("replace standard output"))?;
        rustix::stdio::dup2_stderr(&null).map_err(step("replace standard error"))?;
        // The first process may have been killed meanwhile, which is no reason for this one to end.
        let _ = rustix::io::retry_on_intr(|| rustix::io::write(&self.pipe, b"1"));
        Ok(())
    }
}

fn null_device() -> Result<OwnedFd, ProcessError> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(step("open /dev/null"))
}

fn step(what: &'static str) -> impl Fn(rustix::io::Errno) -> ProcessError {
    move |e| ProcessError::Step { what, source: e.into() }
}

/// The file with this process's id, locked while it lives and removed with this guard.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: OwnedFd,
}

impl PidFile {
    /// Writes the file.
    ///
    /// # Errors
    /// It cannot be created or written, or a living process holds it.
    pub fn create(path: &Path) -> Result<Self, ProcessError> {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let fail = |e: rustix::io::Errno| ProcessError::PidFile { path: path.to_owned(), source: e.into() };
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
            let file = rustix::fs::open(&absolute, flags, Mode::from_raw_mode(0o600)).map_err(fail)?;
            rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)
                .map_err(|e| ProcessError::PidLock(e.into()))?;
            // A process that ended just now may have removed the file that we locked.
            if !is_at(&file, &absolute) {
                continue;
            }
            let written = rustix::fs::ftruncate(&file, 0).map_err(io::Error::from).and_then(|()| {
                let text = format!("{}\n", std::process::id());
                let n = rustix::io::write(&file, text.as_bytes())?;
                if n == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
            });
            written.map_err(ProcessError::PidWrite)?;
            return Ok(Self { path: absolute, file });
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if is_at(&self.file, &self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn is_at(file: &OwnedFd, path: &Path) -> bool {
    let Ok(own) = rustix::fs::fstat(file) else { return false };
    std::fs::metadata(path).is_ok_and(|there| there.dev() == own.st_dev && there.ino() == own.st_ino)
}
