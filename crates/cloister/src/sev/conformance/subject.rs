//! What is asked of a platform, whatever the way to its firmware.

use super::Head;
use cloister_formats::sev::command::{Command, GuestState, PlatformState};
use cloister_formats::sev::status::Status;

/// State of the platform, and of the guest that the sequence is at.
pub(super) type States = (PlatformState, GuestState);

/// A platform under test. It keeps the handle of one guest at a time.
pub(super) trait Subject {
    /// What it is.
    fn head(&self) -> anyhow::Result<Head>;
    /// Whether it has SEV-ES.
    fn es(&self) -> bool;
    /// The lowest ASID of a guest without SEV-ES, and the highest.
    fn asids(&self) -> (u32, u32);
    /// Asks the firmware.
    fn perform(&mut self, action: &Action) -> anyhow::Result<Answer>;
    /// The states now.
    fn states(&mut self) -> anyhow::Result<States>;
    /// WBINVD on every core.
    fn wbinvd(&mut self) -> anyhow::Result<()>;
}

/// What became of a command.
pub(super) enum Answer {
    /// The firmware's status, and what it wrote.
    Firmware(Status, Vec<(&'static str, Vec<u8>)>),
    /// The firmware was not asked.
    LeftOut(String),
}

/// A command with what it needs. Places are offsets in a small piece of guest memory.
#[derive(Debug)]
pub(super) enum Action {
    /// A command without memory beside its buffer. Only the mailbox itself takes it.
    Plain(Command, Vec<u8>),
    Status,
    Id {
        len: u32,
    },
    Csr {
        len: u32,
    },
    Export {
        pdh_len: u32,
        chain_len: u32,
    },
    Import {
        pek: Vec<u8>,
        oca: Vec<u8>,
    },
    PekGen,
    PdhGen,
    Reset,
    /// GUEST_STATUS of a handle that no guest has.
    NoGuest,
    Start {
        policy: u32,
        share: u32,
        certificate: Vec<u8>,
        session: Vec<u8>,
    },
    Activate {
        asid: u32,
    },
    Deactivate,
    Decommission,
    Data {
        at: u64,
        len: u32,
    },
    Vmsa {
        at: u64,
        len: u32,
    },
    Measure {
        len: u32,
    },
    Secret {
        header: Vec<u8>,
        at: u64,
        guest_len: u32,
        payload: Vec<u8>,
    },
    Finish,
    Report {
        nonce: [u8; 16],
        len: u32,
    },
    Decrypt {
        at: u64,
        len: u32,
    },
    SendStart {
        pdh: Vec<u8>,
        session_len: u32,
    },
    SendData {
        at: u64,
        len: u32,
        header_len: u32,
    },
    SendFinish,
    SendCancel,
    ReceiveStart {
        policy: u32,
        pdh: Vec<u8>,
        session: Vec<u8>,
    },
    ReceiveData {
        header: Vec<u8>,
        at: u64,
        payload: Vec<u8>,
    },
    ReceiveFinish,
}

impl Action {
    /// The firmware's command.
    pub(super) fn command(&self) -> Command {
        match self {
            Self::Plain(command, _) => *command,
            Self::Status => Command::PLATFORM_STATUS,
            Self::Id { .. } => Command::GET_ID,
            Self::Csr { .. } => Command::PEK_CSR,
            Self::Export { .. } => Command::PDH_CERT_EXPORT,
            Self::Import { .. } => Command::PEK_CERT_IMPORT,
            Self::PekGen => Command::PEK_GEN,
            Self::PdhGen => Command::PDH_GEN,
            Self::Reset => Command::PLATFORM_RESET,
            Self::NoGuest => Command::GUEST_STATUS,
            Self::Start { .. } => Command::LAUNCH_START,
            Self::Activate { .. } => Command::ACTIVATE,
            Self::Deactivate => Command::DEACTIVATE,
            Self::Decommission => Command::DECOMMISSION,
            Self::Data { .. } => Command::LAUNCH_UPDATE_DATA,
            Self::Vmsa { .. } => Command::LAUNCH_UPDATE_VMSA,
            Self::Measure { .. } => Command::LAUNCH_MEASURE,
            Self::Secret { .. } => Command::LAUNCH_SECRET,
            Self::Finish => Command::LAUNCH_FINISH,
            Self::Report { .. } => Command::ATTESTATION,
            Self::Decrypt { .. } => Command::DBG_DECRYPT,
            Self::SendStart { .. } => Command::SEND_START,
            Self::SendData { .. } => Command::SEND_UPDATE_DATA,
            Self::SendFinish => Command::SEND_FINISH,
            Self::SendCancel => Command::SEND_CANCEL,
            Self::ReceiveStart { .. } => Command::RECEIVE_START,
            Self::ReceiveData { .. } => Command::RECEIVE_UPDATE_DATA,
            Self::ReceiveFinish => Command::RECEIVE_FINISH,
        }
    }

    /// The bytes that it carries, and whether they are the same on every platform.
    pub(super) fn inputs(&self) -> Vec<(&'static str, &[u8], bool)> {
        match self {
            Self::Plain(_, buffer) => vec![("buffer", buffer, true)],
            Self::Import { pek, oca } => vec![("pek", pek, false), ("oca", oca, true)],
            Self::Start { certificate, session, .. } => {
                vec![("certificate", certificate, true), ("session", session, false)]
            }
            Self::Secret { header, payload, .. } => {
                vec![("header", header, false), ("payload", payload, true)]
            }
            Self::Report { nonce, .. } => vec![("nonce", nonce, true)],
            Self::SendStart { pdh, .. } => vec![("pdh", pdh, false)],
            Self::ReceiveStart { pdh, session, .. } => vec![("pdh", pdh, false), ("session", session, false)],
            Self::ReceiveData { header, payload, .. } => {
                vec![("header", header, false), ("payload", payload, false)]
            }
            _ => Vec::new(),
        }
    }
}

/// The piece of guest memory: its size, and what is in it at first.
pub(super) const MEMORY: usize = 0x1_0000;

pub(super) fn memory() -> Vec<u8> {
    (0..MEMORY).map(|at| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8).collect()
}
