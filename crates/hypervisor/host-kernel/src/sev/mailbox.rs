//! The mailbox of the secure processor: a command buffer, and the host memory that it points at.
//!
//! The addresses of host memory are this kernel's to give. It knows no order of commands.

use cloister_firmware_api::{self as lower, HostBuffer};
use cloister_formats::sev::command::Command;
use cloister_formats::sev::status::Status;
use cloister_platform::{SevData, SevResult};
use rustix::io::Errno;
use std::sync::Arc;

/// Most bytes of an owner's blob (`SEV_FW_BLOB_MAX_SIZE`).
pub(crate) const MAX_BLOB: u32 = 0x4000;

/// Where the trusted memory region for SEV-ES is, and how long: 1 MiB, aligned to that.
pub(crate) const TMR: (u64, u32) = (0x4000_0000, 1 << 20);
/// Where buffers are put for the time of one command.
const BUFFERS: u64 = 0x8000_0000;
/// Between two buffers.
const STRIDE: u64 = 1 << 20;
/// Where the VMSA of vCPU 0 is; one page each.
pub(crate) const VMSAS: u64 = 0x1_0000_0000;

/// Why a command ended early.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Refused by this kernel or by the firmware.
    Refused(SevResult),
    /// The lower door does not answer as it should.
    Door(String),
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Self::Refused(refusal(errno, 0, SevData::None))
    }
}

/// A refusal as the kernel returns it.
pub(crate) fn refusal(errno: Errno, fw_error: u32, data: SevData) -> SevResult {
    SevResult { ret: -errno.raw_os_error(), fw_error, data }
}

pub(crate) type Outcome<T> = Result<T, Trouble>;

/// What the firmware answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    pub(crate) buffer: Vec<u8>,
    pub(crate) host: Vec<HostBuffer>,
}

impl Answer {
    /// -EIO with the firmware's status unless the command succeeded.
    pub(crate) fn ok(self) -> Outcome<Self> {
        match self.status.is_success() {
            true => Ok(self),
            false => Err(Trouble::Refused(refusal(Errno::IO, self.status.0, SevData::None))),
        }
    }

    /// Takes the content of the host buffer at `paddr`, no longer than `len`.
    pub(crate) fn take(&mut self, paddr: u64, len: u32) -> Vec<u8> {
        let found = self.host.iter_mut().find(|buffer| buffer.paddr == paddr);
        let mut bytes = found.map(|buffer| std::mem::take(&mut buffer.bytes)).unwrap_or_default();
        bytes.truncate(len as usize);
        bytes
    }
}

/// Host memory for one command.
#[derive(Default)]
pub(crate) struct Buffers(Vec<HostBuffer>);

impl Buffers {
    /// Puts bytes into host memory and says where: (0, 0) for none.
    pub(crate) fn add(&mut self, bytes: Vec<u8>) -> (u64, u32) {
        if bytes.is_empty() {
            return (0, 0);
        }
        let paddr = BUFFERS + self.0.len() as u64 * STRIDE;
        let len = bytes.len() as u32;
        self.0.push(HostBuffer { paddr, bytes });
        (paddr, len)
    }

    /// So many bytes of zero.
    pub(crate) fn room(&mut self, len: u32) -> (u64, u32) {
        self.add(vec![0; len as usize])
    }

    /// A blob from user space (`psp_copy_user_blob`): it must be there and not too long.
    pub(crate) fn blob(&mut self, bytes: Vec<u8>) -> Outcome<(u64, u32)> {
        match bytes.len() {
            0 => Err(Errno::INVAL.into()),
            len if len > MAX_BLOB as usize => Err(Errno::INVAL.into()),
            _ => Ok(self.add(bytes)),
        }
    }

    /// Memory of this kernel that stays where it is.
    pub(crate) fn at(paddr: u64, bytes: Vec<u8>) -> Self {
        Self(vec![HostBuffer { paddr, bytes }])
    }
}

/// The mailbox.
pub(crate) struct Mailbox(Arc<dyn lower::Door>);

impl Mailbox {
    pub(crate) fn new(lower: Arc<dyn lower::Door>) -> Self {
        Self(lower)
    }

    /// Gives a command to the firmware and waits for its answer.
    pub(crate) fn ask(&self, command: Command, buffer: &[u8], host: Buffers) -> Outcome<Answer> {
        let request = lower::Request::Asp { command: command.0, buffer: buffer.to_vec(), host_pages: host.0 };
        let (sent, answer) = (buffer.len(), self.0.call(request));
        match answer {
            lower::Response::Asp { status, buffer, host_pages } if buffer.len() == sent => {
                let status = Status(status);
                tracing::debug!(target: "sev", %command, %status, "firmware command");
                Ok(Answer { status, buffer, host: host_pages })
            }
            lower::Response::Refused(why) => Err(Trouble::Door(why)),
            other => Err(Trouble::Door(format!(
                "the modelled machine answered {other:?} to {command}: this is a defect of the model"
            ))),
        }
    }

    /// As [`ask`](Self::ask); a status other than SUCCESS is -EIO.
    pub(crate) fn command(&self, command: Command, buffer: &[u8], host: Buffers) -> Outcome<Answer> {
        self.ask(command, buffer, host)?.ok()
    }

    /// A command with no more than a buffer.
    pub(crate) fn plain(&self, command: Command, buffer: &[u8]) -> Outcome<()> {
        self.command(command, buffer, Buffers::default()).map(drop)
    }

    /// WBINVD on every core, then DF_FLUSH: without it no ASID can be used (again).
    pub(crate) fn flush(&self) -> Outcome<()> {
        match self.0.call(lower::Request::Wbinvd) {
            lower::Response::Done => self.plain(Command::DF_FLUSH, &[]),
            other => Err(Trouble::Door(format!("the modelled machine answered {other:?} to WBINVD"))),
        }
    }

    /// What CPUID says to a host.
    pub(crate) fn machine(&self) -> Outcome<lower::Machine> {
        match self.0.call(lower::Request::Machine) {
            lower::Response::Machine(machine) => Ok(machine),
            lower::Response::Refused(why) => Err(Trouble::Door(why)),
            other => Err(Trouble::Door(format!("the modelled machine answered {other:?}"))),
        }
    }
}

/// The fields that the firmware wrote into a buffer; a buffer of this kernel's has the right length.
pub(crate) fn parsed<T>(parsed: Result<T, cloister_formats::Error>) -> Outcome<T> {
    parsed.map_err(|why| Trouble::Door(why.to_string()))
}
