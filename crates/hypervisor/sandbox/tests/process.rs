//! A process that gives up what the crate takes: each test runs itself again, and looks from inside.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use cloister_options::{Privileges, Sandbox};
use cloister_sandbox::Rules;
use std::fs;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc;
use std::thread;

const OURS: Rules = Rules { sandbox: None, dumps: false };
const STRICT: Rules = Rules {
    sandbox: Some(Sandbox {
        enabled: true,
        allow_obsolete: false,
        privileges: Privileges::Deny,
        allow_spawn: false,
        allow_resource_control: false,
    }),
    dumps: false,
};

#[test]
fn what_nothing_here_needs_is_refused_with_an_error() {
    inside("what_nothing_here_needs_is_refused_with_an_error", || {
        OURS.enter().unwrap();
        for (name, call) in POINTLESS_CALLS {
            assert_eq!(refusal(*call), Some(libc::EPERM), "{name}");
        }
        let spawned = Command::new("/bin/true").status().unwrap_err();
        assert_eq!(spawned.raw_os_error(), Some(libc::EPERM));
        assert_eq!(Command::new("/bin/true").exec().raw_os_error(), Some(libc::EPERM));
    });
}

/// A call that the list cannot know does not exist.
#[test]
fn calls_that_are_newer_than_the_list_are_unknown() {
    inside("calls_that_are_newer_than_the_list_are_unknown", || {
        OURS.enter().unwrap();
        for number in [i64::from(cloister_sandbox::NEWEST_CALL) + 1, 1000, 0x4000_0000] {
            assert_eq!(refusal(number), Some(libc::ENOSYS), "{number:#x}");
        }
    });
}

#[test]
fn threads_of_before_and_after_are_bound_and_threads_can_be_made() {
    inside("threads_of_before_and_after_are_bound_and_threads_can_be_made", || {
        let (go, wait) = mpsc::channel::<()>();
        let before = thread::spawn(move || {
            wait.recv().unwrap();
            refusal(libc::SYS_ptrace)
        });
        OURS.enter().unwrap();
        go.send(()).unwrap();
        assert_eq!(before.join().unwrap(), Some(libc::EPERM));
        assert_eq!(thread::spawn(|| refusal(libc::SYS_ptrace)).join().unwrap(), Some(libc::EPERM));
    });
}

#[test]
fn sandbox_on_ends_the_process_that_breaks_out() {
    for (number, call) in
        [libc::SYS_mount, libc::SYS_setuid, libc::SYS_execve, libc::SYS_unshare].iter().enumerate()
    {
        let output = run("sandbox_on_ends_the_process_that_breaks_out", &number.to_string(), |_| {
            STRICT.enter().unwrap();
            refusal(*call);
        });
        let Some(output) = output else { continue };
        assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{output:?}");
    }
}

/// QEMU's defaults: obsolete calls are denied, the other groups are not its concern.
#[test]
fn sandbox_on_alone_refuses_the_other_groups_with_an_error() {
    inside("sandbox_on_alone_refuses_the_other_groups_with_an_error", || {
        let sandbox = Sandbox {
            enabled: true,
            allow_obsolete: false,
            privileges: Privileges::Allow,
            allow_spawn: true,
            allow_resource_control: true,
        };
        Rules { sandbox: Some(sandbox), dumps: false }.enter().unwrap();
        assert_eq!(refusal(libc::SYS_setuid), Some(libc::EPERM));
        assert_eq!(Command::new("/bin/true").status().unwrap_err().raw_os_error(), Some(libc::EPERM));
    });
}

#[test]
fn sandbox_off_gives_nothing_up() {
    inside("sandbox_off_gives_nothing_up", || {
        let off = Sandbox { enabled: false, ..STRICT.sandbox.unwrap() };
        let rules = Rules { sandbox: Some(off), dumps: true };
        let folder = platform();
        assert_eq!(rules.guard(Some(folder.path())).to_string(), "no file is out of reach; switched off");
        rules.enter().unwrap();
        assert!(Command::new("/bin/true").status().unwrap().success());
        assert!(fs::read(folder.path().join("host.key")).is_ok());
    });
}

#[test]
fn private_keys_and_programs_are_out_of_reach_and_nothing_else() {
    if let Err(why) = cloister_sandbox::landlock() {
        eprintln!("skipped: {why}");
        return;
    }
    inside("private_keys_and_programs_are_out_of_reach_and_nothing_else", || {
        let folder = platform();
        let (key, certificate) = (folder.path().join("host.key"), folder.path().join("host.crt"));
        let guarded = OURS.guard(Some(folder.path()));
        assert!(guarded.programs && guarded.keys, "{guarded}");
        let read = thread::spawn(move || fs::read(key)).join().unwrap();
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(fs::read(folder.path().join("backup.key")).is_err());
        assert_eq!(fs::read(&certificate).unwrap(), b"public");
        assert_eq!(Command::new("/bin/true").status().unwrap_err().raw_os_error(), Some(libc::EACCES));

        // What monitors do: write, replace, and read what there is.
        let saved = folder.path().parent().unwrap().join(format!("saved-{}", std::process::id()));
        fs::write(&saved, b"memory").unwrap();
        fs::rename(&saved, folder.path().join("moved")).unwrap();
        let beside = tempfile_beside(&certificate);
        fs::write(&beside, b"new").unwrap();
        fs::rename(&beside, &certificate).unwrap();
        assert!(!fs::read_to_string("/proc/self/status").unwrap().is_empty());
        assert!(fs::read("/etc/passwd").is_ok());
        assert!(folder.path().read_dir().is_ok());
        fs::File::open("/dev/null").unwrap();

        let parent = rustix::process::getppid().unwrap().as_raw_nonzero();
        assert!(fs::File::open(format!("/proc/{parent}/mem")).is_err(), "another process's memory");
    });
}

/// core(5): neither a file nor a collector. What this process takes from itself by pidfd_getfd(2) stays possible, and so
/// does opening its own files again.
#[test]
fn a_process_with_keys_leaves_no_core_and_still_reaches_itself() {
    inside("a_process_with_keys_leaves_no_core_and_still_reaches_itself", || {
        use rustix::process::{
            PidfdFlags, PidfdGetfdFlags, Resource, getpid, getrlimit, pidfd_getfd, pidfd_open,
        };
        OURS.guard(None);
        OURS.enter().unwrap();
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        let dumpable = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(dumpable, rustix::process::DumpableBehavior::NotDumpable);
        let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        pidfd_getfd(&own, 2, PidfdGetfdFlags::empty()).unwrap();
        let memory = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory));
        fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        fs::read_to_string("/proc/self/fdinfo/2").unwrap();
    });
}

#[test]
fn dumps_that_were_asked_for_stay() {
    inside("dumps_that_were_asked_for_stay", || {
        Rules { sandbox: None, dumps: true }.guard(None);
        let dumpable = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(dumpable, rustix::process::DumpableBehavior::Dumpable);
    });
}

#[test]
fn the_survey_says_what_the_kernel_has() {
    let text = cloister_sandbox::survey().to_string();
    assert_eq!(text.lines().count(), 2, "{text}");
}

/// Calls whose arguments make no sense: what reaches the kernel fails with something else than EPERM, or as root does
/// no harm.
const POINTLESS_CALLS: &[(&str, i64)] = &[
    ("execve", libc::SYS_execve),
    ("execveat", libc::SYS_execveat),
    ("ptrace", libc::SYS_ptrace),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("process_vm_writev", libc::SYS_process_vm_writev),
    ("mount", libc::SYS_mount),
    ("umount2", libc::SYS_umount2),
    ("move_mount", libc::SYS_move_mount),
    ("init_module", libc::SYS_init_module),
    ("finit_module", libc::SYS_finit_module),
    ("kexec_load", libc::SYS_kexec_load),
    ("reboot", libc::SYS_reboot),
    ("bpf", libc::SYS_bpf),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("keyctl", libc::SYS_keyctl),
    ("setns", libc::SYS_setns),
    ("unshare", libc::SYS_unshare),
    ("setresuid", libc::SYS_setresuid),
];

/// Makes a call with arguments that the kernel refuses; its error, if it has one.
fn refusal(call: i64) -> Option<i32> {
    // SAFETY: no argument is a valid address, descriptor or command, so the kernel touches no memory of ours.
    let result = unsafe { libc::syscall(call, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64) };
    (result < 0).then(|| io::Error::last_os_error().raw_os_error().unwrap_or_default())
}

struct Platform(tempfile::TempDir);

impl Platform {
    fn path(&self) -> &Path {
        self.0.path()
    }
}

fn platform() -> Platform {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("host.key", "private"), ("backup.key", "private"), ("host.crt", "public")] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    Platform(folder)
}

fn tempfile_beside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Runs `test` in a process of its own and expects it to end well.
fn inside(name: &str, test: impl FnOnce()) {
    if let Some(output) = run(name, "", |_| test()) {
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    }
}

/// In the process of its own: does `test` and returns nothing. In the test's process: starts that, returns its end.
fn run(name: &str, case: &str, test: impl FnOnce(&str)) -> Option<Output> {
    const CHILD: &str = "CLOISTER_SANDBOX_TEST";
    match std::env::var(CHILD) {
        Ok(asked) => {
            if asked == case {
                test(case);
            }
            None
        }
        Err(_) => {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", name, "--nocapture"]).env(CHILD, case);
            Some(command.output().unwrap())
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
