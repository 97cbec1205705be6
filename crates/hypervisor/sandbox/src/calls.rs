//! System calls that a running machine does not need, in groups.
//!
//! A call that is missing here and not newer than [`NEWEST_CALL`] is allowed.

use cloister_options::{Privileges, Sandbox};
use libc::*;

/// The newest system call that was looked at for the list (file_setattr(2), Linux 6.17). From 424 on, all architectures
/// count alike.
pub const NEWEST_CALL: u32 = 469;

/// What is denied together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// Administering the host. QEMU denies these as well.
    Host,
    /// What QEMU leaves: other processes, namespaces, privileged subsystems, ways round the filter.
    Beyond,
    /// What the C library no longer uses.
    Obsolete,
    /// Becoming another user.
    Privileges,
    /// Making processes, running programs.
    Spawn,
    /// Priorities and affinities.
    Resources,
    /// Its arguments lie in memory, out of the filter's sight; the C library has clone(2) as well.
    Hidden,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// `EPERM`.
    Denied,
    /// `ENOSYS`.
    Unknown,
    /// The process ends by SIGSYS.
    End,
}

impl Group {
    /// What `-sandbox` makes of the group's calls.
    pub(crate) fn answer(self, asked: Option<Sandbox>) -> Answer {
        let end = asked.is_some_and(|asked| match self {
            Self::Host => true,
            Self::Obsolete => !asked.allow_obsolete,
            Self::Privileges => asked.privileges != Privileges::Allow,
            Self::Spawn => !asked.allow_spawn,
            // As in QEMU, whose C library's and drivers' threads may try.
            Self::Resources | Self::Beyond | Self::Hidden => false,
        });
        match (self, end) {
            (Self::Hidden, _) => Answer::Unknown,
            (_, true) => Answer::End,
            (_, false) => Answer::Denied,
        }
    }
}

macro_rules! calls {
    ($($group:ident: $($name:ident)+;)+) => { &[$($(($name, Group::$group),)+)+] };
}

/// All denied calls of this host.
#[cfg(target_arch = "x86_64")]
pub(crate) const CALLS: &[(i64, Group)] = calls! {
    Host: SYS_reboot SYS_swapon SYS_swapoff SYS_syslog SYS_mount SYS_umount2 SYS_kexec_load SYS_afs_syscall
        SYS_getpmsg SYS_putpmsg SYS_security SYS_tuxcall SYS_vserver;
    Obsolete: SYS__sysctl CREATE_MODULE GET_KERNEL_SYMS QUERY_MODULE SYS_sysfs SYS_uselib SYS_ustat
        SYS_nfsservctl SYS_epoll_ctl_old SYS_epoll_wait_old;
    Privileges: SYS_setuid SYS_setgid SYS_setpgid SYS_setsid SYS_setreuid SYS_setregid SYS_setresuid SYS_setresgid
        SYS_setfsuid SYS_setfsgid;
    Spawn: SYS_fork SYS_vfork SYS_clone SYS_execve SYS_execveat SYS_unshare SYS_setns;
    Resources: SYS_setpriority SYS_sched_setparam SYS_sched_setscheduler SYS_sched_setaffinity SYS_sched_setattr
        SYS_ioprio_set;
    Hidden: SYS_clone3;
    Beyond: SYS_setgroups SYS_capset SYS_chroot SYS_pivot_root SYS_open_tree SYS_move_mount SYS_fsopen SYS_fsconfig
        SYS_fsmount SYS_fspick SYS_mount_setattr SYS_quotactl SYS_quotactl_fd SYS_acct SYS_mknod SYS_mknodat
        SYS_open_by_handle_at SYS_fanotify_init SYS_init_module SYS_finit_module SYS_delete_module
        SYS_kexec_file_load SYS_bpf SYS_perf_event_open SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev
        SYS_process_madvise SYS_kcmp SYS_migrate_pages SYS_move_pages SYS_add_key SYS_request_key SYS_keyctl
        SYS_io_uring_setup SYS_io_uring_enter SYS_io_uring_register SYS_userfaultfd SYS_settimeofday
        SYS_clock_settime SYS_clock_adjtime SYS_adjtimex SYS_sethostname SYS_setdomainname SYS_vhangup
        SYS_personality SYS_lookup_dcookie SYS_remap_file_pages SYS_ioperm SYS_iopl SYS_modify_ldt;
};

/// All denied calls of this host, which began without the old ones.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const CALLS: &[(i64, Group)] = calls! {
    Host: SYS_reboot SYS_swapon SYS_swapoff SYS_syslog SYS_mount SYS_umount2 SYS_kexec_load;
    Privileges: SYS_setuid SYS_setgid SYS_setpgid SYS_setsid SYS_setreuid SYS_setregid SYS_setresuid SYS_setresgid
        SYS_setfsuid SYS_setfsgid;
    Spawn: SYS_clone SYS_execve SYS_execveat SYS_unshare SYS_setns;
    Resources: SYS_setpriority SYS_sched_setparam SYS_sched_setscheduler SYS_sched_setaffinity SYS_sched_setattr
        SYS_ioprio_set;
    Hidden: SYS_clone3;
    Beyond: SYS_setgroups SYS_capset SYS_chroot SYS_pivot_root SYS_open_tree SYS_move_mount SYS_fsopen SYS_fsconfig
        SYS_fsmount SYS_fspick SYS_mount_setattr SYS_quotactl SYS_quotactl_fd SYS_acct SYS_mknodat
        SYS_open_by_handle_at SYS_fanotify_init SYS_init_module SYS_finit_module SYS_delete_module SYS_bpf
        SYS_perf_event_open SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev SYS_process_madvise SYS_kcmp
        SYS_migrate_pages SYS_move_pages SYS_add_key SYS_request_key SYS_keyctl SYS_io_uring_setup
        SYS_io_uring_enter SYS_io_uring_register SYS_userfaultfd SYS_settimeofday SYS_clock_settime
        SYS_clock_adjtime SYS_adjtimex SYS_sethostname SYS_setdomainname SYS_vhangup SYS_personality
        SYS_remap_file_pages;
};

// arch/x86/entry/syscalls/syscall_64.tbl of Linux 2.6; the kernel has not had them since.
#[cfg(target_arch = "x86_64")]
const CREATE_MODULE: i64 = 174;
#[cfg(target_arch = "x86_64")]
const GET_KERNEL_SYMS: i64 = 177;
#[cfg(target_arch = "x86_64")]
const QUERY_MODULE: i64 = 178;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The calls in the filter that QEMU 7.2.22 (Debian) installs for `-sandbox on` with all four groups denied on
    /// x86-64, as strace(1) shows its program.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn everything_that_qemu_denies_is_denied() {
        let ended = [
            57, 58, 59, 103, 105, 106, 109, 112, 113, 114, 117, 119, 122, 123, 134, 136, 139, 156, 165, 167,
            168, 169, 174, 177, 178, 181, 182, 183, 184, 185, 236, 246, 272, 308, 322, 56,
        ];
        let failed =
            [(141, Answer::Denied), (142, Answer::Denied), (144, Answer::Denied), (203, Answer::Denied)];
        let strict = Sandbox {
            enabled: true,
            allow_obsolete: false,
            privileges: Privileges::Deny,
            allow_spawn: false,
            allow_resource_control: false,
        };
        let of = |number: i64| {
            let row = CALLS.iter().find(|(known, _)| *known == number);
            row.map(|(_, group)| (group.answer(Some(strict)), group.answer(None)))
        };
        for number in ended {
            assert_eq!(of(number), Some((Answer::End, Answer::Denied)), "call {number}");
        }
        for (number, answer) in failed.into_iter().chain([(435, Answer::Unknown)]) {
            assert_eq!(of(number), Some((answer, answer)), "call {number}");
        }
    }

    #[test]
    fn each_call_is_listed_once_and_was_looked_at() {
        let numbers: BTreeSet<_> = CALLS.iter().map(|(number, _)| number).collect();
        assert_eq!(numbers.len(), CALLS.len());
        assert!(numbers.iter().all(|number| (0..=i64::from(NEWEST_CALL)).contains(*number)));
    }

    #[test]
    fn an_allowed_group_is_as_without_the_option() {
        let lenient = Sandbox {
            enabled: true,
            allow_obsolete: true,
            privileges: Privileges::Allow,
            allow_spawn: true,
            allow_resource_control: true,
        };
        for group in [Group::Obsolete, Group::Privileges, Group::Spawn, Group::Resources, Group::Beyond] {
            assert_eq!(group.answer(Some(lenient)), group.answer(None));
        }
        assert_eq!(Group::Host.answer(Some(lenient)), Answer::End);
    }
}
