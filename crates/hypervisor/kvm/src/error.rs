//! What can go wrong, in words: which call, what the kernel and the firmware said, what to do.

use crate::kernel::Device;
use std::fmt;

/// An error of this crate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A device cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// KVM speaks another version of its interface.
    #[error(
        "/dev/kvm speaks version {found} of KVM's interface, this program needs 12 (Linux, \
         Documentation/virt/kvm/api.rst, KVM_GET_API_VERSION): use a kernel from 2.6.22 on"
    )]
    ApiVersion {
        /// What it says.
        found: i32,
    },
    /// The kernel refused an ioctl.
    #[error("{name} failed: {errno}: {hint}")]
    Ioctl {
        /// Of the ioctl.
        name: &'static str,
        /// What the kernel said.
        errno: Errno,
        /// Why that may be, and what to do.
        hint: &'static str,
    },
    /// A SEV command failed, in the kernel or in the firmware.
    #[error("{command} failed: {errno}, {status}: {}", sentence(*.status, .hint))]
    Sev {
        /// The command's name in the kernel's headers.
        command: &'static str,
        /// What the kernel said.
        errno: Errno,
        /// What the firmware said.
        status: FirmwareStatus,
        /// Why the kernel may have said so, and what to do.
        hint: &'static str,
    },
    /// A command for protected virtualization failed, in the kernel or in the Ultravisor.
    #[error("{command} failed: {errno}, Ultravisor rc 0x{rc:04x} rrc 0x{rrc:04x}: {hint}")]
    Pv {
        /// The command's name in the kernel's headers.
        command: &'static str,
        /// What the kernel said.
        errno: Errno,
        /// The Ultravisor's return code; 0 if it was not called.
        rc: u16,
        /// The Ultravisor's reason code.
        rrc: u16,
        /// Why that may be, and what to do.
        hint: &'static str,
    },
    /// The kernel does not offer what is asked for.
    #[error("the kernel does not offer {name} (capability {number}): {next}")]
    NotOffered {
        /// The capability's name in the kernel's headers.
        name: &'static str,
        /// Its number.
        number: u32,
        /// What to do.
        next: &'static str,
    },
    /// A blob is too long for the command's length field.
    #[error(
        "{command} was not called: {what} has {length} bytes, more than the command can say; pass the right file"
    )]
    TooLong {
        /// The command's name.
        command: &'static str,
        /// Which blob.
        what: &'static str,
        /// Its length.
        length: usize,
    },
    /// A slot shows memory that there is not.
    #[error("{command} was not called: the guest's backing store has no {length:#x} bytes at {at:#x}")]
    NoMemory {
        /// The ioctl's name.
        command: &'static str,
        /// First byte in the backing store.
        at: u64,
        /// Bytes.
        length: u64,
    },
    /// The kernel's answer contradicts itself.
    #[error(
        "{command}: the kernel answered {what}; this is a fault of the kernel, report it with its version"
    )]
    Answer {
        /// The command's name.
        command: &'static str,
        /// In which way.
        what: &'static str,
    },
}

/// A device cannot be opened: which, why, and what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenError {
    /// The device.
    pub device: Device,
    /// Why.
    pub failure: OpenFailure,
}

/// Why a device cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenFailure {
    /// The system call failed.
    Errno(Errno),
    /// There is a file, but it is not this device.
    NotADevice,
}

impl From<Errno> for OpenFailure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl std::error::Error for OpenError {}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot open {}: {}; {}", self.device.path().display(), self.reason(), self.next())
    }
}

impl OpenError {
    /// Why, in words.
    pub fn reason(&self) -> String {
        let errno = match self.failure {
            OpenFailure::NotADevice => {
                return match self.device {
                    Device::Kvm => "there is a file, but not the character device 10:232 that KVM has",
                    Device::Sev => "there is a file, but it is not a character device",
                }
                .to_owned();
            }
            OpenFailure::Errno(errno) => errno,
        };
        let reason = match (errno, self.device) {
            (Errno::NO_ENTRY, Device::Kvm) => {
                "it does not exist: KVM is not in this kernel or not loaded, or this container was not given it"
            }
            (Errno::NO_ENTRY, Device::Sev) => {
                "it does not exist: the CPU has no AMD Secure Processor, or the module ccp is not loaded, or the \
                 firmware set-up disables SEV"
            }
            (Errno::ACCESS, _) => "it exists, but this user may not read and write it",
            (Errno::NOT_PERMITTED, _) => {
                "it exists, but the device rules of this container or service deny it"
            }
            (Errno::BUSY, Device::Kvm) => {
                "another hypervisor (VirtualBox, VMware) holds the processor's virtualization"
            }
            (Errno::BUSY, Device::Sev) => "another program holds the secure processor",
            (Errno::NO_DEVICE | Errno::NO_DEVICE_OR_ADDRESS, _) => {
                "the file is there, but no driver answers: the module is not loaded"
            }
            (Errno::TOO_MANY_FILES, _) => "this process has too many files open",
            (_, _) => "the kernel refused",
        };
        format!("{reason} ({errno})")
    }

    /// What to do next.
    pub fn next(&self) -> &'static str {
        let errno = match (self.failure, self.device) {
            (OpenFailure::NotADevice, Device::Kvm) => {
                return "remove the file and make the device: mknod /dev/kvm c 10 232, or reboot";
            }
            (OpenFailure::NotADevice, Device::Sev) => return "remove the file and reload the module ccp",
            (OpenFailure::Errno(errno), _) => errno,
        };
        match (errno, self.device) {
            (Errno::NO_ENTRY | Errno::NO_DEVICE | Errno::NO_DEVICE_OR_ADDRESS, Device::Kvm) => {
                "load the module (modprobe kvm_intel or kvm_amd on x86, kvm on s390x, kvm_hv on POWER); if this is \
                 a virtual machine, turn on nested virtualization for it; if a container, start it with --device \
                 /dev/kvm"
            }
            (Errno::NO_ENTRY | Errno::NO_DEVICE | Errno::NO_DEVICE_OR_ADDRESS, Device::Sev) => {
                "on an AMD EPYC host turn on SEV (SMEE, \"SEV control\") in the firmware set-up and run modprobe \
                 ccp; inside a virtual machine there is none"
            }
            (Errno::ACCESS, Device::Kvm) => {
                "add the user to the group of the device, usually kvm (usermod -aG kvm USER), and log in again"
            }
            (Errno::ACCESS, Device::Sev) => {
                "run as root, or give the device a group with a udev rule (often sev or kvm) and add the user to it"
            }
            (Errno::NOT_PERMITTED, _) => {
                "allow the device in the container's rules (--device) or the service's unit (DeviceAllow=)"
            }
            (Errno::BUSY, Device::Kvm) => "stop the other hypervisor's machines and unload its modules",
            (Errno::BUSY, Device::Sev) => "wait for that program to end, or end it",
            (Errno::TOO_MANY_FILES, _) => "raise the limit (ulimit -n)",
            (_, _) => "look at the kernel's log (dmesg) for the reason",
        }
    }
}

/// An error number of the kernel. Numbers without a name here are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident = $c:ident;)*) => {
        impl Errno {
            $(#[doc = concat!("`", stringify!($c), "`.")] pub const $name: Self = Self(libc::$c);)*

            /// Its name in C.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($c)),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    NOT_PERMITTED = EPERM;
    NO_ENTRY = ENOENT;
    INTERRUPTED = EINTR;
    INPUT_OUTPUT = EIO;
    NO_DEVICE_OR_ADDRESS = ENXIO;
    TOO_BIG = E2BIG;
    BAD_FILE = EBADF;
    AGAIN = EAGAIN;
    NO_MEMORY = ENOMEM;
    ACCESS = EACCES;
    FAULT = EFAULT;
    BUSY = EBUSY;
    EXISTS = EEXIST;
    NO_DEVICE = ENODEV;
    IS_A_DIRECTORY = EISDIR;
    INVALID = EINVAL;
    TOO_MANY_FILES = EMFILE;
    NOT_A_TTY = ENOTTY;
    NO_SPACE = ENOSPC;
    NOT_SUPPORTED = EOPNOTSUPP;
    TIMED_OUT = ETIMEDOUT;
}

impl Errno {
    /// Of the last system call of this thread.
    pub(crate) fn last() -> Self {
        Self(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "error {}", self.0),
        }
    }
}

/// A status of the AMD firmware: SEV API, chapter "Status codes"; Linux, include/uapi/linux/psp-sev.h. Unknown
/// values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirmwareStatus(pub u32);

impl FirmwareStatus {
    /// The command succeeded, or the kernel never wrote a status.
    pub const SUCCESS: Self = Self(0);
    /// A buffer is too short; its length field now says what is needed.
    pub const INVALID_LENGTH: Self = Self(0x04);
    /// Linux: the firmware was not called.
    pub const NO_CALL: Self = Self(u32::MAX);

    /// Its name in the specification.
    pub fn name(self) -> Option<&'static str> {
        self.entry().map(|(_, name, _)| *name)
    }

    fn hint(self) -> Option<&'static str> {
        self.entry().map(|(_, _, hint)| *hint)
    }

    fn entry(self) -> Option<&'static (u32, &'static str, &'static str)> {
        STATUSES.iter().find(|(code, _, _)| *code == self.0)
    }
}

impl fmt::Display for FirmwareStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SUCCESS | Self::NO_CALL => f.write_str("the firmware was not asked"),
            Self(code) => {
                write!(
                    f,
                    "firmware status 0x{code:02x} {}",
                    self.name().unwrap_or("(not in the specification)")
                )
            }
        }
    }
}

fn sentence(status: FirmwareStatus, hint: &'static str) -> &'static str {
    status.hint().unwrap_or(hint)
}

/// Code, name, and what it means for the caller.
const STATUSES: &[(u32, &str, &str)] = &[
    (
        0x01,
        "INVALID_PLATFORM_STATE",
        "the secure processor is not in the state this command needs: look at its state (SEV_PLATFORM_STATUS); running guests forbid commands that change the platform",
    ),
    (
        0x02,
        "INVALID_GUEST_STATE",
        "the guest is not in the state this command needs: check the order START, UPDATE, MEASURE, SECRET, FINISH",
    ),
    (0x03, "INVALID_CONFIG", "the platform's configuration forbids it: check the firmware set-up"),
    (
        0x04,
        "INVALID_LENGTH",
        "a buffer or blob has the wrong length: pass certificates of 2084 bytes and sessions of 128 bytes, decoded from base64",
    ),
    (0x05, "ALREADY_OWNED", "the platform already has an owner: run SEV_FACTORY_RESET first"),
    (
        0x06,
        "INVALID_CERTIFICATE",
        "a certificate is malformed or not signed as it must be: export the chain of this very platform again",
    ),
    (
        0x07,
        "POLICY_FAILURE",
        "the guest's policy forbids it: compare the policy with the firmware's version and with the command (debugging, sending, sharing keys)",
    ),
    (0x08, "INACTIVE", "the guest has no ASID: call LAUNCH_START or RECEIVE_START first"),
    (0x09, "INVALID_ADDRESS", "an address is not aligned or not usable: align guest memory to 16 bytes"),
    (
        0x0a,
        "BAD_SIGNATURE",
        "a signature does not verify: the certificate or packet was changed or is of another platform",
    ),
    (
        0x0b,
        "BAD_MEASUREMENT",
        "a keyed hash does not match: session, policy or secret packet were made for another platform, guest or measurement; make them again",
    ),
    (0x0c, "ASID_OWNED", "the ASID is in use: end another SEV guest"),
    (
        0x0d,
        "INVALID_ASID",
        "the ASID is outside of the range for this kind of guest: check the firmware set-up's minimum SEV non-ES ASID",
    ),
    (0x0e, "WBINVD_REQUIRED", "caches must be written back first: this is the kernel's to do, update it"),
    (
        0x0f,
        "DFFLUSH_REQUIRED",
        "the data fabric must be flushed first: this is the kernel's to do, update it",
    ),
    (0x10, "INVALID_GUEST", "the firmware does not know this guest's handle"),
    (0x11, "INVALID_COMMAND", "this firmware does not know the command: update the SEV firmware"),
    (0x12, "ACTIVE", "the guest is still active"),
    (
        0x13,
        "HWERROR_PLATFORM",
        "a hardware error that the platform survives: reset the platform or reboot the host",
    ),
    (0x14, "HWERROR_UNSAFE", "a hardware error after which nothing can be trusted: reboot the host"),
    (
        0x15,
        "UNSUPPORTED",
        "this platform does not support it: check that SEV-ES is turned on if the policy asks for it",
    ),
    (0x16, "INVALID_PARAM", "a parameter is wrong"),
    (0x17, "RESOURCE_LIMIT", "the firmware has no room for another guest or CPU: end another SEV guest"),
    (
        0x18,
        "SECURE_DATA_INVALID",
        "the firmware's stored data is damaged: run SEV_FACTORY_RESET, then provision again",
    ),
    (0x19, "INVALID_PAGE_SIZE", "a page has the wrong size"),
    (0x1a, "INVALID_PAGE_STATE", "a page is in the wrong state"),
    (0x1b, "INVALID_MDATA_ENTRY", "the metadata of a swapped page is wrong"),
    (0x1c, "INVALID_PAGE_OWNER", "a page belongs to another guest"),
    (0x1d, "AEAD_OFLOW", "the counter of a key is used up: restart the guest"),
    (0x1f, "EXIT_RING_BUFFER", "the firmware left its ring buffer mode"),
    (0x20, "RMP_INIT_REQUIRED", "the reverse map table is not initialised: check SNP in the firmware set-up"),
    (0x21, "BAD_SVN", "the security version is too low: update"),
    (0x22, "BAD_VERSION", "the version is not accepted: update the SEV firmware"),
    (0x23, "SHUTDOWN_REQUIRED", "the platform must be shut down first"),
    (0x24, "UPDATE_FAILED", "the firmware's update failed"),
    (0x25, "RESTORE_REQUIRED", "the firmware must be restored first"),
    (
        0x26,
        "RMP_INITIALIZATION_FAILED",
        "the reverse map table cannot be initialised: check SNP in the firmware set-up",
    ),
    (0x27, "INVALID_KEY", "the key is not accepted"),
];

/// Why the kernel may have refused a SEV command, when the firmware says nothing.
pub(crate) fn sev_hint(command: &str, errno: Errno) -> &'static str {
    match (command, errno) {
        (command, Errno::NOT_A_TTY) if command.starts_with("KVM_") => {
            "this VM cannot be encrypted: the host has no SEV or KVM did not turn it on (kvm_amd sev=1, sev_es=1; \
             firmware set-up), or the VM was made with a type without SEV"
        }
        (_, Errno::NOT_A_TTY) => "there is no working secure processor behind /dev/sev: see dmesg for ccp",
        ("KVM_SEV_INIT" | "KVM_SEV_ES_INIT" | "KVM_SEV_INIT2", Errno::BUSY) => {
            "no ASID is free: end another SEV guest, or give more ASIDs to this kind in the firmware set-up"
        }
        ("SEV_FACTORY_RESET" | "SEV_PEK_GEN" | "SEV_PDH_GEN" | "SEV_PEK_CERT_IMPORT", Errno::BUSY) => {
            "SEV guests are running on this host: end them first"
        }
        ("KVM_SEV_INIT" | "KVM_SEV_ES_INIT" | "KVM_SEV_INIT2", Errno::INVALID) => {
            "the VM was initialised before, has CPUs already, has another type, or wants features that KVM does \
             not offer: initialise first, then make CPUs"
        }
        ("KVM_SEV_SEND_START", Errno::INVALID) => {
            "the kernel wants all four blobs, also those that the policy does not use"
        }
        (
            "KVM_SEV_SEND_UPDATE_VMSA" | "KVM_SEV_RECEIVE_UPDATE_VMSA" | "KVM_SEV_CERT_EXPORT",
            Errno::INVALID,
        ) => "the kernel names this command but does not carry it out",
        ("KVM_SEV_LAUNCH_SECRET", Errno::INVALID) => {
            "the secret's place in guest memory must be physically contiguous: keep it within one page or use huge \
             pages"
        }
        (_, Errno::INVALID) => "the kernel refused the arguments, or SEV was not initialised for this VM",
        (_, Errno::NO_MEMORY) => {
            "guest memory is locked while it is encrypted, and the limit does not allow it: raise it (ulimit -l)"
        }
        (_, Errno::NOT_PERMITTED) => "this changes the platform or needs its keys: open /dev/sev as root",
        (_, Errno::BAD_FILE) => "the kernel does not accept the file given as /dev/sev",
        (_, Errno::FAULT) => "the kernel cannot reach a buffer",
        (_, Errno::NO_DEVICE) => "the secure processor is gone or was never initialised: see dmesg for ccp",
        (_, Errno::TIMED_OUT) => "the secure processor did not answer: reboot the host, update its firmware",
        (_, _) => "look at the kernel's log (dmesg) for kvm_amd and ccp",
    }
}

/// Why the kernel may have refused any other ioctl.
pub(crate) fn ioctl_hint(name: &str, errno: Errno) -> &'static str {
    match (name, errno) {
        ("KVM_CREATE_VM", Errno::BUSY) => {
            "another hypervisor (VirtualBox, VMware) holds the processor's virtualization: stop it and unload its \
             modules"
        }
        ("KVM_CREATE_VM", Errno::INVALID) => {
            "this KVM does not offer VMs of this type: check KVM_CAP_VM_TYPES with `cloister doctor`"
        }
        ("KVM_CREATE_VM", Errno::NO_ENTRY | Errno::NOT_SUPPORTED) => {
            "the processor's virtualization is turned off: turn it on in the firmware set-up"
        }
        ("KVM_CREATE_VCPU", Errno::EXISTS) => "a CPU with this number exists already",
        ("KVM_CREATE_VCPU", Errno::INVALID) => "the CPU's number is beyond what KVM allows",
        ("KVM_PPC_SVM_OFF", Errno::INVALID) => "the Ultravisor could not terminate the secure VM",
        ("KVM_PPC_SVM_OFF", Errno::BUSY) => "a CPU of the VM is running: stop all of them first",
        ("KVM_MEMORY_ENCRYPT_REG_REGION", Errno::NO_MEMORY) => {
            "guest memory is locked while it is encrypted, and the limit does not allow it: raise it (ulimit -l)"
        }
        (_, Errno::NOT_A_TTY) => {
            "this kernel does not know the call: it is too old, or of another architecture"
        }
        (_, Errno::NO_MEMORY) => "the kernel has no memory for it",
        (_, Errno::TOO_MANY_FILES) => "this process has too many files open: raise the limit (ulimit -n)",
        (_, _) => "look at the kernel's log (dmesg) for the reason",
    }
}

/// Why a command for protected virtualization may have failed.
pub(crate) fn pv_hint(command: &str, errno: Errno, rc: u16) -> &'static str {
    match (command, errno, rc) {
        ("KVM_PV_SET_SEC_PARMS", _, 0x108) => {
            "the image's header has no key slot for this host: check that it was made with this host's host-key \
             document"
        }
        ("KVM_PV_VERIFY", _, 1..) => "the image in memory is not the one that its header describes",
        ("KVM_PV_UNPACK", _, 1..) => "a part of the image cannot be decrypted into place",
        (_, Errno::NOT_A_TTY, _) => {
            "this kernel has no protected virtualization: it needs an IBM z15 or later, and prot_virt=1 on the \
             host's kernel command line"
        }
        ("KVM_PV_ENABLE", Errno::INVALID, 0) => {
            "the VM is protected already, or its memory or CPUs cannot be: no huge pages, no nested guests"
        }
        (_, Errno::INVALID, 0) => "the kernel refused: the VM is not protected, or the arguments are wrong",
        (_, Errno::NO_MEMORY, _) => "the kernel has no storage to donate to the Ultravisor",
        (_, Errno::FAULT, _) => "the kernel cannot reach a buffer or a page of the guest",
        (_, _, 1..) => {
            "the Ultravisor refused; its codes are in the Linux headers, arch/s390/include/asm/uv.h"
        }
        (_, _, _) => "look at the kernel's log (dmesg) for the reason",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_not_to_open_says_what_why_and_what_next() {
        let failures = [
            OpenFailure::Errno(Errno::NO_ENTRY),
            OpenFailure::Errno(Errno::ACCESS),
            OpenFailure::Errno(Errno::NOT_PERMITTED),
            OpenFailure::Errno(Errno::BUSY),
            OpenFailure::NotADevice,
        ];
        for device in [Device::Kvm, Device::Sev] {
            let texts = failures.map(|failure| OpenError { device, failure }.to_string());
            for (index, text) in texts.iter().enumerate() {
                assert!(text.starts_with(&format!("cannot open {}: ", device.path().display())), "{text}");
                assert!(text.contains("; "), "{text}");
                assert!(!texts[..index].contains(text), "{text}");
            }
        }
        let kvm = |errno| OpenError { device: Device::Kvm, failure: OpenFailure::Errno(errno) }.to_string();
        assert!(kvm(Errno::NO_ENTRY).contains("modprobe"));
        assert!(kvm(Errno::NO_ENTRY).contains("nested virtualization"));
        assert!(kvm(Errno::ACCESS).contains("usermod -aG kvm"));
        assert!(kvm(Errno(9999)).contains("error 9999"));
    }

    #[test]
    fn sev_api_every_status_has_a_name_and_a_sentence() {
        for code in (1..=0x27).filter(|code| *code != 0x1e) {
            let status = FirmwareStatus(code);
            assert!(status.name().is_some() && status.hint().is_some(), "{code:#x}");
        }
        assert_eq!(FirmwareStatus(0x99).to_string(), "firmware status 0x99 (not in the specification)");
    }

    #[test]
    fn a_command_that_the_kernel_refuses_never_ends_without_words() {
        // The message that people meet elsewhere is "failed ret=-25 fw_error=0 ''".
        let error = Error::Sev {
            command: "KVM_SEV_INIT",
            errno: Errno::NOT_A_TTY,
            status: FirmwareStatus::SUCCESS,
            hint: sev_hint("KVM_SEV_INIT", Errno::NOT_A_TTY),
        };
        let text = error.to_string();
        assert!(
            text.starts_with("KVM_SEV_INIT failed: ENOTTY, the firmware was not asked: this VM cannot"),
            "{text}"
        );
        assert!(text.contains("kvm_amd sev=1"), "{text}");
    }
}
