//! The states of platform and guests, and the one table that says which command goes where.
//!
//! After "Secure Encrypted Virtualization API" (AMD publication 55766), the tables "Platform State" and "Guest State
//! Machine". No arm is a wildcard: a new state or command makes the compiler ask.

use cloister_formats::sev::command::{Command, GuestState, PlatformState};
use cloister_formats::sev::status::Status;

/// State of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Platform {
    Uninit,
    Init,
    Working,
}

impl Platform {
    pub(crate) const fn wire(self) -> PlatformState {
        match self {
            Self::Uninit => PlatformState::UNINIT,
            Self::Init => PlatformState::INIT,
            Self::Working => PlatformState::WORKING,
        }
    }
}

/// State of a guest's slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    Invalid,
    Lupdate,
    Lsecret,
    Running,
    Supdate,
    Rupdate,
    Sent,
}

impl Slot {
    pub(crate) const fn wire(self) -> GuestState {
        match self {
            Self::Invalid => GuestState::INVALID,
            Self::Lupdate => GuestState::LUPDATE,
            Self::Lsecret => GuestState::LSECRET,
            Self::Running => GuestState::RUNNING,
            Self::Supdate => GuestState::SUPDATE,
            Self::Rupdate => GuestState::RUPDATE,
            Self::Sent => GuestState::SENT,
        }
    }
}

macro_rules! operations {
    ($($name:ident = $command:ident,)*) => {
        /// The commands that the firmware has.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Op {
            $($name,)*
        }

        impl Op {
            /// The command with a number; `None` for one that the firmware does not have.
            pub(crate) const fn new(command: Command) -> Option<Self> {
                match command {
                    $(Command::$command => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

operations! {
    Init = INIT,
    Shutdown = SHUTDOWN,
    PlatformReset = PLATFORM_RESET,
    PlatformStatus = PLATFORM_STATUS,
    PekGen = PEK_GEN,
    PekCsr = PEK_CSR,
    PekCertImport = PEK_CERT_IMPORT,
    PdhCertExport = PDH_CERT_EXPORT,
    PdhGen = PDH_GEN,
    DfFlush = DF_FLUSH,
    DownloadFirmware = DOWNLOAD_FIRMWARE,
    GetId = GET_ID,
    InitEx = INIT_EX,
    Nop = NOP,
    RingBuffer = RING_BUFFER,
    Decommission = DECOMMISSION,
    Activate = ACTIVATE,
    Deactivate = DEACTIVATE,
    GuestStatus = GUEST_STATUS,
    Copy = COPY,
    ActivateEx = ACTIVATE_EX,
    LaunchStart = LAUNCH_START,
    LaunchUpdateData = LAUNCH_UPDATE_DATA,
    LaunchUpdateVmsa = LAUNCH_UPDATE_VMSA,
    LaunchMeasure = LAUNCH_MEASURE,
    LaunchSecret = LAUNCH_SECRET,
    LaunchFinish = LAUNCH_FINISH,
    Attestation = ATTESTATION,
    SendStart = SEND_START,
    SendUpdateData = SEND_UPDATE_DATA,
    SendUpdateVmsa = SEND_UPDATE_VMSA,
    SendFinish = SEND_FINISH,
    SendCancel = SEND_CANCEL,
    ReceiveStart = RECEIVE_START,
    ReceiveUpdateData = RECEIVE_UPDATE_DATA,
    ReceiveUpdateVmsa = RECEIVE_UPDATE_VMSA,
    ReceiveFinish = RECEIVE_FINISH,
    DbgDecrypt = DBG_DECRYPT,
    DbgEncrypt = DBG_ENCRYPT,
    SwapOut = SWAP_OUT,
    SwapIn = SWAP_IN,
}

/// Whether the platform's state lets a command begin.
pub(crate) const fn platform(state: Platform, op: Op) -> Result<(), Status> {
    use Op::*;
    use Platform::{Uninit, Working};
    match (state, op) {
        (
            Uninit,
            Init | InitEx | Shutdown | PlatformReset | PlatformStatus | DfFlush | DownloadFirmware | GetId
            | Nop | RingBuffer,
        )
        | (
            Platform::Init,
            Shutdown | PlatformStatus | PekGen | PekCsr | PekCertImport | PdhCertExport | PdhGen | DfFlush
            | GetId | Nop | RingBuffer | GuestStatus | LaunchStart | ReceiveStart,
        )
        | (
            Working,
            Shutdown | PlatformStatus | PekCsr | PdhCertExport | PdhGen | DfFlush | GetId | Nop | RingBuffer
            | Decommission | Activate | ActivateEx | Deactivate | GuestStatus | Copy | LaunchStart
            | LaunchUpdateData | LaunchUpdateVmsa | LaunchMeasure | LaunchSecret | LaunchFinish | Attestation
            | SendStart | SendUpdateData | SendUpdateVmsa | SendFinish | SendCancel | ReceiveStart
            | ReceiveUpdateData | ReceiveUpdateVmsa | ReceiveFinish | DbgDecrypt | DbgEncrypt | SwapOut
            | SwapIn,
        ) => Ok(()),
        (
            Uninit,
            PekGen | PekCsr | PekCertImport | PdhCertExport | PdhGen | Decommission | Activate | ActivateEx
            | Deactivate | GuestStatus | Copy | LaunchStart | LaunchUpdateData | LaunchUpdateVmsa
            | LaunchMeasure | LaunchSecret | LaunchFinish | Attestation | SendStart | SendUpdateData
            | SendUpdateVmsa | SendFinish | SendCancel | ReceiveStart | ReceiveUpdateData | ReceiveUpdateVmsa
            | ReceiveFinish | DbgDecrypt | DbgEncrypt | SwapOut | SwapIn,
        )
        | (
            Platform::Init,
            Init | InitEx | PlatformReset | DownloadFirmware | Decommission | Activate | ActivateEx
            | Deactivate | Copy | LaunchUpdateData | LaunchUpdateVmsa | LaunchMeasure | LaunchSecret
            | LaunchFinish | Attestation | SendStart | SendUpdateData | SendUpdateVmsa | SendFinish
            | SendCancel | ReceiveUpdateData | ReceiveUpdateVmsa | ReceiveFinish | DbgDecrypt | DbgEncrypt
            | SwapOut | SwapIn,
        )
        | (Working, Init | InitEx | PlatformReset | DownloadFirmware | PekGen | PekCertImport) => {
            Err(Status::INVALID_PLATFORM_STATE)
        }
    }
}

/// The commands that concern a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuestOp {
    Decommission,
    Activate,
    Deactivate,
    GuestStatus,
    Copy,
    LaunchStart,
    LaunchUpdate,
    LaunchMeasure,
    LaunchSecret,
    LaunchFinish,
    Attestation,
    SendStart,
    SendUpdate,
    SendFinish,
    SendCancel,
    ReceiveStart,
    ReceiveUpdate,
    ReceiveFinish,
    Debug,
    Swap,
}

/// Whether a guest's state lets a command go on, and the state after it.
pub(crate) const fn guest(state: Slot, op: GuestOp) -> Result<Slot, Status> {
    use GuestOp::*;
    use Slot::*;
    match (state, op) {
        (Invalid, LaunchStart) => Ok(Lupdate),
        (Invalid, ReceiveStart) => Ok(Rupdate),
        (Invalid, GuestStatus) => Ok(Invalid),
        (
            Invalid,
            Decommission | Activate | Deactivate | Copy | LaunchUpdate | LaunchMeasure | LaunchSecret
            | LaunchFinish | Attestation | SendStart | SendUpdate | SendFinish | SendCancel | ReceiveUpdate
            | ReceiveFinish | Debug | Swap,
        ) => Err(Status::INVALID_GUEST),

        (Lupdate | Lsecret | Running | Supdate | Rupdate | Sent, Decommission) => Ok(Invalid),
        (
            Lupdate | Lsecret | Running | Supdate | Rupdate | Sent,
            Deactivate | GuestStatus | Copy | Debug | Swap,
        ) => Ok(state),
        // The slot of a new guest is a free one.
        (Lupdate | Lsecret | Running | Supdate | Rupdate | Sent, LaunchStart | ReceiveStart) => {
            Err(Status::INVALID_GUEST_STATE)
        }

        (Lupdate, Activate | LaunchUpdate) => Ok(Lupdate),
        (Lupdate, LaunchMeasure) => Ok(Lsecret),
        (
            Lupdate,
            LaunchSecret | LaunchFinish | Attestation | SendStart | SendUpdate | SendFinish | SendCancel
            | ReceiveUpdate | ReceiveFinish,
        ) => Err(Status::INVALID_GUEST_STATE),

        (Lsecret, Activate | LaunchSecret | Attestation) => Ok(Lsecret),
        (Lsecret, LaunchFinish) => Ok(Running),
        (
            Lsecret,
            LaunchUpdate | LaunchMeasure | SendStart | SendUpdate | SendFinish | SendCancel | ReceiveUpdate
            | ReceiveFinish,
        ) => Err(Status::INVALID_GUEST_STATE),

        (Running, Activate | Attestation) => Ok(Running),
        (Running, SendStart) => Ok(Supdate),
        (
            Running,
            LaunchUpdate | LaunchMeasure | LaunchSecret | LaunchFinish | SendUpdate | SendFinish | SendCancel
            | ReceiveUpdate | ReceiveFinish,
        ) => Err(Status::INVALID_GUEST_STATE),

        (Supdate, Activate | Attestation | SendUpdate) => Ok(Supdate),
        (Supdate, SendFinish) => Ok(Sent),
        (Supdate, SendCancel) => Ok(Running),
        (
            Supdate,
            LaunchUpdate | LaunchMeasure | LaunchSecret | LaunchFinish | SendStart | ReceiveUpdate
            | ReceiveFinish,
        ) => Err(Status::INVALID_GUEST_STATE),

        (Rupdate, Activate | ReceiveUpdate) => Ok(Rupdate),
        (Rupdate, ReceiveFinish) => Ok(Running),
        (
            Rupdate,
            LaunchUpdate | LaunchMeasure | LaunchSecret | LaunchFinish | Attestation | SendStart | SendUpdate
            | SendFinish | SendCancel,
        ) => Err(Status::INVALID_GUEST_STATE),

        (Sent, Attestation) => Ok(Sent),
        (
            Sent,
            Activate | LaunchUpdate | LaunchMeasure | LaunchSecret | LaunchFinish | SendStart | SendUpdate
            | SendFinish | SendCancel | ReceiveUpdate | ReceiveFinish,
        ) => Err(Status::INVALID_GUEST_STATE),
    }
}
