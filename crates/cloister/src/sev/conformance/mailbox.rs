//! A modelled machine, asked at its firmware's mailbox.

use super::Head;
use super::subject::{Action, Answer, MEMORY, States, Subject, memory};
use anyhow::{Context, bail};
use cloister_asp::Status;
use cloister_firmware_api::{Door, HostBuffer, Request, Response, Sev};
use cloister_formats::sev::command::*;
use cloister_formats::sev::policy::Policy;
use cloister_platform_store::SevPlatform;
use cloister_silicon_x86::Silicon;

/// The machine.
pub(super) struct Model {
    silicon: Silicon,
    sev: Sev,
    name: String,
    handle: u32,
    memory: Vec<u8>,
}

impl Model {
    pub(super) fn new(platform: SevPlatform) -> anyhow::Result<Self> {
        let silicon = Silicon::new(platform);
        let Response::Machine(machine) = silicon.call(Request::Machine) else {
            bail!("the modelled machine does not say what it is: this is a defect of the model");
        };
        let sev = machine.sev.context("this platform has no SEV (present = false in its platform.toml)")?;
        Ok(Self { silicon, sev, name: machine.description, handle: 0, memory: memory() })
    }

    /// A command with buffers of the host; those that the firmware may write come back by place.
    fn ask(&mut self, command: Command, buffer: &[u8], buffers: Buffers) -> anyhow::Result<Asked> {
        let mut host_pages = buffers.0;
        host_pages.push(HostBuffer { paddr: GUEST, bytes: std::mem::take(&mut self.memory) });
        let request = Request::Asp { command: command.0, buffer: buffer.to_vec(), host_pages };
        match self.silicon.call(request) {
            Response::Asp { status, buffer, mut host_pages } => {
                self.memory = host_pages.pop().map(|page| page.bytes).unwrap_or_default();
                Ok(Asked { status: Status(status), buffer, host: host_pages })
            }
            other => {
                bail!("the modelled machine answered {other:?} to {command}: this is a defect of the model")
            }
        }
    }

    fn guest_status(&mut self, handle: u32) -> anyhow::Result<(Status, GuestState)> {
        let buffer = GuestStatus { handle, ..GuestStatus::default() }.encode();
        let asked = self.ask(Command::GUEST_STATUS, &buffer, Buffers::default())?;
        let state = if asked.status.is_success() {
            GuestStatus::parse(&asked.buffer)?.state
        } else {
            GuestState::INVALID
        };
        Ok((asked.status, state))
    }

    fn of_guest(&mut self, command: Command) -> anyhow::Result<Answer> {
        let asked = self.ask(command, &Handle { handle: self.handle }.encode(), Buffers::default())?;
        Ok(asked.without_output())
    }
}

impl Subject for Model {
    fn head(&self) -> anyhow::Result<Head> {
        let command = Command::PLATFORM_STATUS.0;
        let buffer = PlatformStatus::default().encode().to_vec();
        let answer = self.silicon.call(Request::Asp { command, buffer, host_pages: Vec::new() });
        let Response::Asp { buffer, .. } = answer else { bail!("the modelled machine has no version") };
        let status = PlatformStatus::parse(&buffer)?;
        Ok(Head::new(self.name.clone(), (status.api_major, status.api_minor, status.build), self.sev.es))
    }

    fn es(&self) -> bool {
        self.sev.es
    }

    fn asids(&self) -> (u32, u32) {
        (self.sev.min_sev_asid, self.sev.max_asid)
    }

    fn states(&mut self) -> anyhow::Result<States> {
        let buffer = PlatformStatus::default().encode();
        let asked = self.ask(Command::PLATFORM_STATUS, &buffer, Buffers::default())?;
        let platform = PlatformStatus::parse(&asked.buffer)?.state;
        Ok((platform, self.guest_status(self.handle)?.1))
    }

    fn wbinvd(&mut self) -> anyhow::Result<()> {
        match self.silicon.call(Request::Wbinvd) {
            Response::Done => Ok(()),
            other => bail!("the modelled machine answered {other:?} to WBINVD"),
        }
    }

    fn perform(&mut self, action: &Action) -> anyhow::Result<Answer> {
        let command = action.command();
        let handle = self.handle;
        let mut host = Buffers::default();
        let asked = match action {
            Action::Plain(_, buffer) => self.ask(command, buffer, host)?.without_output(),
            Action::PekGen | Action::PdhGen | Action::Reset => self.ask(command, &[], host)?.without_output(),
            Action::Status => self.ask(command, &PlatformStatus::default().encode(), host)?.without_output(),
            Action::Id { len } => {
                let paddr = host.room(*len);
                let asked = self.ask(command, &GetId { paddr, len: *len }.encode(), host)?;
                let needed = GetId::parse(&asked.buffer)?.len;
                asked.one("id", paddr, needed)
            }
            Action::Csr { len } => {
                let paddr = host.room(*len);
                let asked = self.ask(command, &PekCsr { paddr, len: *len }.encode(), host)?;
                let needed = PekCsr::parse(&asked.buffer)?.len;
                asked.one("pek", paddr, needed)
            }
            Action::Export { pdh_len, chain_len } => {
                let (pdh_paddr, chain_paddr) = (host.room(*pdh_len), host.room(*chain_len));
                let buffer =
                    PdhCertExport { pdh_paddr, pdh_len: *pdh_len, chain_paddr, chain_len: *chain_len };
                let asked = self.ask(command, &buffer.encode(), host)?;
                let needed = PdhCertExport::parse(&asked.buffer)?;
                asked.outputs(&[("pdh", pdh_paddr, needed.pdh_len), ("chain", chain_paddr, needed.chain_len)])
            }
            Action::Import { pek, oca } => {
                let (pek_paddr, pek_len) = host.put(pek);
                let (oca_paddr, oca_len) = host.put(oca);
                let buffer = PekCertImport { pek_paddr, pek_len, oca_paddr, oca_len };
                self.ask(command, &buffer.encode(), host)?.without_output()
            }
            Action::NoGuest => Answer::Firmware(self.guest_status(NO_GUEST)?.0, Vec::new()),
            Action::Start { policy, share, certificate, session } => {
                let (dh_paddr, dh_len) = host.put(certificate);
                let (session_paddr, session_len) = host.put(session);
                let policy = Policy(*policy);
                let buffer =
                    LaunchStart { handle: *share, policy, dh_paddr, dh_len, session_paddr, session_len };
                let asked = self.ask(command, &buffer.encode(), host)?;
                if asked.status.is_success() {
                    self.handle = LaunchStart::parse(&asked.buffer)?.handle;
                }
                asked.without_output()
            }
            Action::Activate { asid } => {
                self.ask(command, &Activate { handle, asid: *asid }.encode(), host)?.without_output()
            }
            Action::Deactivate | Action::Finish | Action::SendFinish | Action::SendCancel => {
                self.of_guest(command)?
            }
            Action::ReceiveFinish | Action::Decommission => self.of_guest(command)?,
            Action::Data { at, len } | Action::Vmsa { at, len } => {
                let buffer = LaunchUpdate { handle, paddr: GUEST + at, len: *len };
                self.ask(command, &buffer.encode(), host)?.without_output()
            }
            Action::Measure { len } => {
                let paddr = host.room(*len);
                let asked = self.ask(command, &LaunchMeasure { handle, paddr, len: *len }.encode(), host)?;
                let needed = LaunchMeasure::parse(&asked.buffer)?.len;
                asked.one("measurement", paddr, needed)
            }
            Action::Secret { header, at, guest_len, payload } => {
                let (hdr_paddr, hdr_len) = host.put(header);
                let (trans_paddr, trans_len) = host.put(payload);
                let (guest_paddr, guest_len) = (GUEST + at, *guest_len);
                let buffer =
                    Transfer { handle, hdr_paddr, hdr_len, guest_paddr, guest_len, trans_paddr, trans_len };
                self.ask(command, &buffer.encode(), host)?.without_output()
            }
            Action::Report { nonce, len } => {
                let paddr = host.room(*len);
                let buffer = Attestation { handle, paddr, mnonce: *nonce, len: *len };
                let asked = self.ask(command, &buffer.encode(), host)?;
                let needed = Attestation::parse(&asked.buffer)?.len;
                asked.one("report", paddr, needed)
            }
            Action::Decrypt { at, len } => {
                let dst_paddr = host.room(MEMORY as u32);
                let buffer = DebugCopy { handle, src_paddr: GUEST + at, dst_paddr, len: *len };
                self.ask(command, &buffer.encode(), host)?.one("plaintext", dst_paddr, *len)
            }
            Action::SendStart { pdh, session_len } => {
                let (pdh_paddr, pdh_len) = host.put(pdh);
                let session_paddr = host.room(*session_len);
                let buffer = SendStart {
                    handle,
                    pdh_paddr,
                    pdh_len,
                    session_paddr,
                    session_len: *session_len,
                    ..SendStart::default()
                };
                let asked = self.ask(command, &buffer.encode(), host)?;
                let needed = SendStart::parse(&asked.buffer)?.session_len;
                asked.one("session", session_paddr, needed)
            }
            Action::SendData { at, len, header_len } => {
                let (hdr_paddr, trans_paddr) = (host.room(*header_len), host.room(*len));
                let buffer = Transfer {
                    handle,
                    hdr_paddr,
                    hdr_len: *header_len,
                    guest_paddr: GUEST + at,
                    guest_len: *len,
                    trans_paddr,
                    trans_len: *len,
                };
                let asked = self.ask(command, &buffer.encode(), host)?;
                let needed = Transfer::parse(&asked.buffer)?.hdr_len;
                asked.outputs(&[("header", hdr_paddr, needed), ("payload", trans_paddr, *len)])
            }
            Action::ReceiveStart { policy, pdh, session } => {
                let (pdh_paddr, pdh_len) = host.put(pdh);
                let (session_paddr, session_len) = host.put(session);
                let policy = Policy(*policy);
                let buffer =
                    ReceiveStart { handle: 0, policy, pdh_paddr, pdh_len, session_paddr, session_len };
                let asked = self.ask(command, &buffer.encode(), host)?;
                if asked.status.is_success() {
                    self.handle = ReceiveStart::parse(&asked.buffer)?.handle;
                }
                asked.without_output()
            }
            Action::ReceiveData { header, at, payload } => {
                let (hdr_paddr, hdr_len) = host.put(header);
                let (trans_paddr, trans_len) = host.put(payload);
                let (guest_paddr, guest_len) = (GUEST + at, trans_len);
                let buffer =
                    Transfer { handle, hdr_paddr, hdr_len, guest_paddr, guest_len, trans_paddr, trans_len };
                self.ask(command, &buffer.encode(), host)?.without_output()
            }
        };
        Ok(asked)
    }
}

struct Asked {
    status: Status,
    buffer: Vec<u8>,
    host: Vec<HostBuffer>,
}

impl Asked {
    fn without_output(self) -> Answer {
        Answer::Firmware(self.status, Vec::new())
    }

    fn one(self, name: &'static str, paddr: u64, len: u32) -> Answer {
        self.outputs(&[(name, paddr, len)])
    }

    /// What was written, or for a question about lengths so many zeros as are needed.
    fn outputs(mut self, wanted: &[(&'static str, u64, u32)]) -> Answer {
        let outputs = wanted.iter().map(|&(name, paddr, len)| {
            let found = self.host.iter_mut().find(|buffer| paddr != 0 && buffer.paddr == paddr);
            let mut bytes = found.map(|buffer| std::mem::take(&mut buffer.bytes)).unwrap_or_default();
            bytes.resize(len as usize, 0);
            (name, bytes)
        });
        match self.status {
            Status::SUCCESS | Status::INVALID_LENGTH => Answer::Firmware(self.status, outputs.collect()),
            status => Answer::Firmware(status, Vec::new()),
        }
    }
}

/// Host memory that goes with a command.
#[derive(Default)]
struct Buffers(Vec<HostBuffer>);

impl Buffers {
    fn put(&mut self, bytes: &[u8]) -> (u64, u32) {
        if bytes.is_empty() {
            return (0, 0);
        }
        let paddr = HOST + self.0.len() as u64 * STRIDE;
        self.0.push(HostBuffer { paddr, bytes: bytes.to_vec() });
        (paddr, bytes.len() as u32)
    }

    fn room(&mut self, len: u32) -> u64 {
        self.put(&vec![0; len as usize]).0
    }
}

/// Where the guest's memory and the host's buffers are.
const GUEST: u64 = 0x1000_0000;
const HOST: u64 = 0x2000_0000;
const STRIDE: u64 = 0x10_0000;
/// A handle that no guest of the sequence gets.
const NO_GUEST: u32 = 1000;
