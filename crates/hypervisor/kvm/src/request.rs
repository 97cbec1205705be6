//! The ioctls and commands by number.
//!
//! The number of an ioctl holds direction, size, type and sequence number, and not every architecture puts
//! them in the same place: Linux, include/uapi/asm-generic/ioctl.h, and arch/powerpc/include/uapi/asm/ioctl.h.

use crate::layout::{
    EnableCap, EncRegion, IssueCmd, Layout, PvCmd, PvDmp, PvInfo, PvSecParm, PvUnp, Regs,
    SevAttestationReport, SevCmd, SevDbg, SevGuestStatus, SevInit, SevLaunchMeasure, SevLaunchSecret,
    SevLaunchStart, SevLaunchUpdateData, SevReceiveStart, SevReceiveUpdateData, SevSendStart,
    SevSendUpdateData, Sregs, Structure, UserDataGetId2, UserDataPdhCertExport, UserDataPekCertImport,
    UserDataPekCsr, UserDataStatus, UserMemoryRegion,
};

/// How an architecture lays out the number of an ioctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// x86, s390 and most others: size in 14 bits, direction in the top two.
    Generic,
    /// POWER: size in 13 bits, direction in the top three, and "none" is not zero.
    Power,
}

impl Encoding {
    /// Of the architecture that this is compiled for.
    pub const HERE: Self = if cfg!(any(target_arch = "powerpc", target_arch = "powerpc64")) {
        Self::Power
    } else {
        Self::Generic
    };
}

/// An ioctl, before it is encoded for an architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ioctl {
    direction: Direction,
    kind: u8,
    sequence: u8,
    size: u16,
}

impl Ioctl {
    /// Its number.
    pub const fn number(self, encoding: Encoding) -> u32 {
        let (none, read, write, shift) = match encoding {
            Encoding::Generic => (0, 2, 1, 30),
            Encoding::Power => (1, 2, 4, 29),
        };
        let direction = match self.direction {
            Direction::None => none,
            Direction::Read => read,
            Direction::Write => write,
            Direction::Both => read | write,
        };
        (direction << shift) | ((self.size as u32) << 16) | ((self.kind as u32) << 8) | self.sequence as u32
    }
}

/// An ioctl or, where one ioctl carries many commands, one command of it. Only this crate makes them.
#[derive(Debug)]
pub struct Request {
    pub(crate) name: &'static str,
    pub(crate) ioctl: Ioctl,
    pub(crate) shape: Shape,
}

impl Request {
    /// The name that the kernel's headers give it: of the command if it is one, else of the ioctl.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The ioctl.
    pub fn ioctl(&self) -> Ioctl {
        self.ioctl
    }

    /// The number of the command within the ioctl, where there are commands.
    pub fn command(&self) -> Option<u32> {
        match self.shape {
            Shape::Command { id, .. } => Some(id),
            Shape::Nothing | Shape::Value | Shape::Block(_) => None,
        }
    }
}

/// What the third argument of the system call is.
#[derive(Debug)]
pub(crate) enum Shape {
    Nothing,
    Value,
    Block(&'static Layout),
    Command { frame: Frame, id: u32, data: Option<&'static Layout> },
}

/// The structure around a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Sev,
    SevDevice,
    Pv,
}

impl Frame {
    pub(crate) const fn layout(self) -> &'static Layout {
        match self {
            Self::Sev => &SevCmd::AS_C,
            Self::SevDevice => &IssueCmd::AS_C,
            Self::Pv => &PvCmd::AS_C,
        }
    }

    /// Offset of the pointer to the command's own structure.
    pub(crate) const fn data(self) -> usize {
        match self {
            Self::Sev => std::mem::offset_of!(SevCmd, data),
            Self::SevDevice => std::mem::offset_of!(IssueCmd, data),
            Self::Pv => std::mem::offset_of!(PvCmd, data),
        }
    }

    /// Offset of the file descriptor of `/dev/sev`.
    pub(crate) const fn handle(self) -> Option<usize> {
        match self {
            Self::Sev => Some(std::mem::offset_of!(SevCmd, sev_fd)),
            Self::SevDevice | Self::Pv => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    None,
    Read,
    Write,
    Both,
}

const KVM: u8 = 0xAE;

const fn kvm(direction: Direction, sequence: u8, size: usize) -> Ioctl {
    Ioctl { direction, kind: KVM, sequence, size: size as u16 }
}

macro_rules! requests {
    (
        plain { $($plain:ident = $pname:literal, $pioctl:expr, $pshape:expr;)* }
        commands { $($command:ident = $cname:literal, $cioctl:expr, $frame:ident, $id:literal $(, $data:ident)?;)* }
    ) => {
        $(pub(crate) static $plain: Request = Request { name: $pname, ioctl: $pioctl, shape: $pshape };)*
        $(pub(crate) static $command: Request = Request {
            name: $cname,
            ioctl: $cioctl,
            shape: Shape::Command { frame: Frame::$frame, id: $id, data: data!($($data)?) },
        };)*

        /// All ioctls and commands, for the comparison with the kernel's headers.
        pub static REQUESTS: &[&Request] = &[$(&$plain,)* $(&$command,)*];
    };
}

macro_rules! data {
    () => {
        None
    };
    ($data:ident) => {
        Some(&<$data as Structure>::AS_C)
    };
}

// _IOWR(KVMIO, 0xba, unsigned long): the size is that of a pointer although a structure is meant.
const ENCRYPT_OP: Ioctl = kvm(Direction::Both, 0xba, size_of::<libc::c_ulong>());
const ISSUE_CMD: Ioctl =
    Ioctl { direction: Direction::Both, kind: b'S', sequence: 0, size: size_of::<IssueCmd>() as u16 };
const PV_COMMAND: Ioctl = kvm(Direction::Both, 0xc5, size_of::<PvCmd>());
const PV_CPU_COMMAND: Ioctl = kvm(Direction::Both, 0xd0, size_of::<PvCmd>());

requests! {
    plain {
        GET_API_VERSION = "KVM_GET_API_VERSION", kvm(Direction::None, 0x00, 0), Shape::Nothing;
        CREATE_VM = "KVM_CREATE_VM", kvm(Direction::None, 0x01, 0), Shape::Value;
        CHECK_EXTENSION = "KVM_CHECK_EXTENSION", kvm(Direction::None, 0x03, 0), Shape::Value;
        CREATE_VCPU = "KVM_CREATE_VCPU", kvm(Direction::None, 0x41, 0), Shape::Value;
        SET_USER_MEMORY_REGION = "KVM_SET_USER_MEMORY_REGION",
            kvm(Direction::Write, 0x46, size_of::<UserMemoryRegion>()), Shape::Block(&UserMemoryRegion::AS_C);
        SET_REGS = "KVM_SET_REGS", kvm(Direction::Write, 0x82, size_of::<Regs>()), Shape::Block(&Regs::AS_C);
        GET_SREGS = "KVM_GET_SREGS", kvm(Direction::Read, 0x83, size_of::<Sregs>()), Shape::Block(&Sregs::AS_C);
        SET_SREGS = "KVM_SET_SREGS", kvm(Direction::Write, 0x84, size_of::<Sregs>()), Shape::Block(&Sregs::AS_C);
        ENABLE_CAP = "KVM_ENABLE_CAP", kvm(Direction::Write, 0xa3, size_of::<EnableCap>()),
            Shape::Block(&EnableCap::AS_C);
        PPC_SVM_OFF = "KVM_PPC_SVM_OFF", kvm(Direction::None, 0xb3, 0), Shape::Nothing;
        // With a null argument: whether this VM can be encrypted at all.
        ENCRYPT_OP_QUERY = "KVM_MEMORY_ENCRYPT_OP", ENCRYPT_OP, Shape::Nothing;
        REG_REGION = "KVM_MEMORY_ENCRYPT_REG_REGION", kvm(Direction::Read, 0xbb, size_of::<EncRegion>()),
            Shape::Block(&EncRegion::AS_C);
        UNREG_REGION = "KVM_MEMORY_ENCRYPT_UNREG_REGION", kvm(Direction::Read, 0xbc, size_of::<EncRegion>()),
            Shape::Block(&EncRegion::AS_C);
    }
    commands {
        SEV_INIT = "KVM_SEV_INIT", ENCRYPT_OP, Sev, 0;
        SEV_ES_INIT = "KVM_SEV_ES_INIT", ENCRYPT_OP, Sev, 1;
        SEV_LAUNCH_START = "KVM_SEV_LAUNCH_START", ENCRYPT_OP, Sev, 2, SevLaunchStart;
        SEV_LAUNCH_UPDATE_DATA = "KVM_SEV_LAUNCH_UPDATE_DATA", ENCRYPT_OP, Sev, 3, SevLaunchUpdateData;
        SEV_LAUNCH_UPDATE_VMSA = "KVM_SEV_LAUNCH_UPDATE_VMSA", ENCRYPT_OP, Sev, 4;
        SEV_LAUNCH_SECRET = "KVM_SEV_LAUNCH_SECRET", ENCRYPT_OP, Sev, 5, SevLaunchSecret;
        SEV_LAUNCH_MEASURE = "KVM_SEV_LAUNCH_MEASURE", ENCRYPT_OP, Sev, 6, SevLaunchMeasure;
        SEV_LAUNCH_FINISH = "KVM_SEV_LAUNCH_FINISH", ENCRYPT_OP, Sev, 7;
        SEV_SEND_START = "KVM_SEV_SEND_START", ENCRYPT_OP, Sev, 8, SevSendStart;
        SEV_SEND_UPDATE_DATA = "KVM_SEV_SEND_UPDATE_DATA", ENCRYPT_OP, Sev, 9, SevSendUpdateData;
        SEV_SEND_UPDATE_VMSA = "KVM_SEV_SEND_UPDATE_VMSA", ENCRYPT_OP, Sev, 10;
        SEV_SEND_FINISH = "KVM_SEV_SEND_FINISH", ENCRYPT_OP, Sev, 11;
        SEV_RECEIVE_START = "KVM_SEV_RECEIVE_START", ENCRYPT_OP, Sev, 12, SevReceiveStart;
        SEV_RECEIVE_UPDATE_DATA = "KVM_SEV_RECEIVE_UPDATE_DATA", ENCRYPT_OP, Sev, 13, SevReceiveUpdateData;
        SEV_RECEIVE_UPDATE_VMSA = "KVM_SEV_RECEIVE_UPDATE_VMSA", ENCRYPT_OP, Sev, 14;
        SEV_RECEIVE_FINISH = "KVM_SEV_RECEIVE_FINISH", ENCRYPT_OP, Sev, 15;
        SEV_GUEST_STATUS = "KVM_SEV_GUEST_STATUS", ENCRYPT_OP, Sev, 16, SevGuestStatus;
        SEV_DBG_DECRYPT = "KVM_SEV_DBG_DECRYPT", ENCRYPT_OP, Sev, 17, SevDbg;
        SEV_DBG_ENCRYPT = "KVM_SEV_DBG_ENCRYPT", ENCRYPT_OP, Sev, 18, SevDbg;
        SEV_CERT_EXPORT = "KVM_SEV_CERT_EXPORT", ENCRYPT_OP, Sev, 19;
        SEV_GET_ATTESTATION_REPORT = "KVM_SEV_GET_ATTESTATION_REPORT", ENCRYPT_OP, Sev, 20, SevAttestationReport;
        SEV_SEND_CANCEL = "KVM_SEV_SEND_CANCEL", ENCRYPT_OP, Sev, 21;
        SEV_INIT2 = "KVM_SEV_INIT2", ENCRYPT_OP, Sev, 22, SevInit;

        FACTORY_RESET = "SEV_FACTORY_RESET", ISSUE_CMD, SevDevice, 0;
        PLATFORM_STATUS = "SEV_PLATFORM_STATUS", ISSUE_CMD, SevDevice, 1, UserDataStatus;
        PEK_GEN = "SEV_PEK_GEN", ISSUE_CMD, SevDevice, 2;
        PEK_CSR = "SEV_PEK_CSR", ISSUE_CMD, SevDevice, 3, UserDataPekCsr;
        PDH_GEN = "SEV_PDH_GEN", ISSUE_CMD, SevDevice, 4;
        PDH_CERT_EXPORT = "SEV_PDH_CERT_EXPORT", ISSUE_CMD, SevDevice, 5, UserDataPdhCertExport;
        PEK_CERT_IMPORT = "SEV_PEK_CERT_IMPORT", ISSUE_CMD, SevDevice, 6, UserDataPekCertImport;
        GET_ID2 = "SEV_GET_ID2", ISSUE_CMD, SevDevice, 8, UserDataGetId2;

        PV_ENABLE = "KVM_PV_ENABLE", PV_COMMAND, Pv, 0;
        PV_DISABLE = "KVM_PV_DISABLE", PV_COMMAND, Pv, 1;
        PV_SET_SEC_PARMS = "KVM_PV_SET_SEC_PARMS", PV_COMMAND, Pv, 2, PvSecParm;
        PV_UNPACK = "KVM_PV_UNPACK", PV_COMMAND, Pv, 3, PvUnp;
        PV_VERIFY = "KVM_PV_VERIFY", PV_COMMAND, Pv, 4;
        PV_PREP_RESET = "KVM_PV_PREP_RESET", PV_COMMAND, Pv, 5;
        PV_UNSHARE_ALL = "KVM_PV_UNSHARE_ALL", PV_COMMAND, Pv, 6;
        PV_INFO = "KVM_PV_INFO", PV_COMMAND, Pv, 7, PvInfo;
        PV_DUMP = "KVM_PV_DUMP", PV_COMMAND, Pv, 8, PvDmp;
        PV_ASYNC_CLEANUP_PREPARE = "KVM_PV_ASYNC_CLEANUP_PREPARE", PV_COMMAND, Pv, 9;
        PV_ASYNC_CLEANUP_PERFORM = "KVM_PV_ASYNC_CLEANUP_PERFORM", PV_COMMAND, Pv, 10;
        // The same command number on a CPU.
        PV_CPU_DUMP = "KVM_PV_DUMP", PV_CPU_COMMAND, Pv, 8, PvDmp;
    }
}
