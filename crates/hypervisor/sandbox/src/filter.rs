//! The filter of system calls: a program that the kernel runs at each (seccomp(2), bpf of Linux socket filters).
//!
//! It looks at the number of the call, and at the flags of clone(2), whose use decides whether it makes a thread or a
//! process. Since Linux 5.11 the kernel remembers which numbers it always lets pass and does not run it for those.

use crate::SandboxError;
use cloister_options::Sandbox;

pub(crate) use host::install;
pub use host::seccomp;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
mod host {
    use super::{Sandbox, SandboxError};
    use crate::calls::{Answer, CALLS, NEWEST_CALL};
    use crate::words;
    use seccompiler::{BpfProgram, apply_filter_all_threads, sock_filter};

    /// Whether the kernel can filter system calls.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn seccomp() -> Result<(), String> {
        match std::fs::exists("/proc/sys/kernel/seccomp") {
            Ok(true) => Ok(()),
            _ => Err("this kernel is built without seccomp filters, or /proc is not mounted".into()),
        }
    }

    pub(crate) fn install(asked: Option<Sandbox>) -> Result<(), SandboxError> {
        apply_filter_all_threads(&program(asked)).map_err(|why| SandboxError::Filter { why: words(&why) })
    }

    fn program(asked: Option<Sandbox>) -> BpfProgram {
        let mut program = vec![
            step(LOAD, ARCHITECTURE_AT, 0, 0),
            step(IF_EQUAL, ARCHITECTURE, 1, 0),
            step(RETURN, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
            step(LOAD, NUMBER_AT, 0, 0),
            // The x32 numbers of x86-64 are far above as well.
            step(IF_GREATER, NEWEST_CALL, 0, 1),
            step(RETURN, value(Answer::Unknown), 0, 0),
        ];
        for (number, group) in CALLS {
            let number = u32::try_from(*number).expect("the table has only numbers of system calls");
            let answer = step(RETURN, value(group.answer(asked)), 0, 0);
            if i64::from(number) == libc::SYS_clone {
                program.extend([
                    step(IF_EQUAL, number, 0, 5),
                    step(LOAD, FIRST_ARGUMENT_AT, 0, 0),
                    step(IF_ANY_BIT, NAMESPACES, 2, 0),
                    step(IF_ANY_BIT, libc::CLONE_THREAD as u32, 0, 1),
                    step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
                    answer,
                ]);
            } else {
                program.extend([step(IF_EQUAL, number, 0, 1), answer]);
            }
        }
        program.push(step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
        program
    }

    fn value(answer: Answer) -> u32 {
        match answer {
            Answer::Denied => libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
            Answer::Unknown => libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
            Answer::End => libc::SECCOMP_RET_KILL_PROCESS,
        }
    }

    const fn step(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
        sock_filter { code, jt, jf, k }
    }

    // linux/bpf_common.h
    const LOAD: u16 = 0x20;
    const IF_EQUAL: u16 = 0x15;
    const IF_GREATER: u16 = 0x25;
    const IF_ANY_BIT: u16 = 0x45;
    const RETURN: u16 = 0x06;
    // linux/seccomp.h, `struct seccomp_data`; all these hosts are little-endian.
    const NUMBER_AT: u32 = 0;
    const ARCHITECTURE_AT: u32 = 4;
    const FIRST_ARGUMENT_AT: u32 = 16;
    // linux/audit.h
    #[cfg(target_arch = "x86_64")]
    const ARCHITECTURE: u32 = 0xc000_003e;
    #[cfg(target_arch = "aarch64")]
    const ARCHITECTURE: u32 = 0xc000_00b7;
    #[cfg(target_arch = "riscv64")]
    const ARCHITECTURE: u32 = 0xc000_00f3;
    const NAMESPACES: u32 = (libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET) as u32;

    #[cfg(test)]
    mod tests {
        use super::*;

        /// linux/bpf_common.h: a program has at most 4096 steps.
        #[test]
        fn the_program_fits_the_kernel() {
            assert!(program(None).len() <= 4096);
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
mod host {
    use super::{Sandbox, SandboxError};

    /// Whether system calls can be filtered.
    ///
    /// # Errors
    /// Always: no filter is written for this architecture.
    pub fn seccomp() -> Result<(), String> {
        Err(format!("there is no filter for {} hosts yet", std::env::consts::ARCH))
    }

    pub(crate) fn install(_: Option<Sandbox>) -> Result<(), SandboxError> {
        Err(SandboxError::Architecture { arch: std::env::consts::ARCH })
    }
}
