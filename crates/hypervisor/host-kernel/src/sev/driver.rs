//! The secure processor's driver: initialisation, and what `/dev/sev` offers
//! (Linux, drivers/crypto/ccp, include/uapi/linux/psp-sev.h).
//!
//! The platform is initialised at the first use, as a loaded driver would have done before. It keeps no keys:
//! what has to survive is in the platform's own flash.

use super::mailbox::{Buffers, MAX_BLOB, Mailbox, Outcome, TMR, Trouble, parsed, refusal};
use cloister_firmware_api as lower;
use cloister_formats::sev::command::{
    Command, GetId, Init, PdhCertExport, PekCertImport, PekCsr, PlatformState, PlatformStatus,
};
use cloister_formats::sev::status::Status;
use cloister_platform::{SevCapabilities, SevData, SevPlatformCommand, SevPlatformStatus, SevResult};
use rustix::io::Errno;
use std::sync::{Arc, Mutex, PoisonError};

/// The driver of one secure processor. One command at a time.
pub(crate) struct Driver {
    mailbox: Mailbox,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The driver has tried to initialise the platform.
    probed: bool,
    /// The platform is initialised.
    up: bool,
}

impl Driver {
    pub(crate) fn new(lower: Arc<dyn lower::Door>) -> Self {
        Self { mailbox: Mailbox::new(lower), state: Mutex::default() }
    }

    pub(crate) fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// What CPUID says of SEV.
    pub(crate) fn cpuid(&self) -> Outcome<Option<lower::Sev>> {
        Ok(self.mailbox.machine()?.sev)
    }

    /// What the platform can do; asks the firmware for its version and changes nothing.
    pub(crate) fn capabilities(&self, sev: lower::Sev) -> Outcome<SevCapabilities> {
        let status = self.status()?;
        Ok(SevCapabilities {
            cbitpos: sev.cbitpos,
            reduced_phys_bits: sev.reduced_phys_bits,
            es: sev.es,
            max_asid: sev.max_asid,
            min_sev_asid: sev.min_sev_asid,
            api_major: status.api_major,
            api_minor: status.api_minor,
            build: status.build,
        })
    }

    /// Initialises the platform unless it is.
    pub(crate) fn init(&self) -> Outcome<()> {
        self.init_locked(&mut self.lock())
    }

    /// A command of `/dev/sev`.
    pub(crate) fn command(&self, command: SevPlatformCommand) -> Outcome<SevData> {
        // Without SEV there is no such device to open.
        if self.cpuid()?.is_none() {
            return Err(Errno::NODEV.into());
        }
        let mut state = self.lock();
        if !state.probed {
            // A platform that cannot be initialised can still be asked and reset.
            if let Err(Trouble::Door(why)) = self.init_locked(&mut state) {
                return Err(Trouble::Door(why));
            }
        }
        match command {
            SevPlatformCommand::Status => self.user_status(),
            SevPlatformCommand::FactoryReset => self.factory_reset(&mut state),
            SevPlatformCommand::GetId { len } => self.get_id(len),
            other => {
                self.init_locked(&mut state)?;
                match other {
                    SevPlatformCommand::PekGen => self.mailbox.plain(Command::PEK_GEN, &[])?,
                    SevPlatformCommand::PdhGen => self.mailbox.plain(Command::PDH_GEN, &[])?,
                    SevPlatformCommand::PekCsr { len } => return self.pek_csr(len),
                    SevPlatformCommand::PdhCertExport { pdh_len, chain_len } => {
                        return self.pdh_cert_export(pdh_len, chain_len);
                    }
                    SevPlatformCommand::PekCertImport { pek, oca } => return self.pek_cert_import(pek, oca),
                    SevPlatformCommand::Status
                    | SevPlatformCommand::FactoryReset
                    | SevPlatformCommand::GetId { .. } => {}
                }
                Ok(SevData::None)
            }
        }
    }

    /// Shuts the platform down, as the driver does when it is unloaded.
    pub(crate) fn shut_down(&self) {
        let mut state = self.lock();
        if std::mem::take(&mut state.up) {
            // Nobody is left to be told.
            let _ = self.mailbox.plain(Command::SHUTDOWN, &[]);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn init_locked(&self, state: &mut State) -> Outcome<()> {
        state.probed = true;
        if state.up {
            return Ok(());
        }
        let es = self.cpuid()?.ok_or(Errno::NODEV)?.es;
        let mut init = Init::default();
        if es {
            init = Init { flags: Init::ES, tmr_paddr: TMR.0, tmr_len: TMR.1, ..init };
        }
        let mut answer = self.mailbox.ask(Command::INIT, &init.encode(), Buffers::default())?;
        if answer.status == Status::SECURE_DATA_INVALID {
            // The firmware has thrown away what it could not read: once more.
            answer = self.mailbox.ask(Command::INIT, &init.encode(), Buffers::default())?;
        }
        answer.ok()?;
        state.up = true;
        // INIT has marked every ASID as dirty.
        self.mailbox.flush()
    }

    fn status(&self) -> Outcome<PlatformStatus> {
        let buffer = PlatformStatus::default().encode();
        let answer = self.mailbox.command(Command::PLATFORM_STATUS, &buffer, Buffers::default())?;
        parsed(PlatformStatus::parse(&answer.buffer))
    }

    fn user_status(&self) -> Outcome<SevData> {
        let status = self.status()?;
        Ok(SevData::Platform(SevPlatformStatus {
            api_major: status.api_major,
            api_minor: status.api_minor,
            state: status.state.0,
            // User space sees both fields as one number.
            flags: u32::from(status.flags) | u32::from(status.config) << 8,
            build: status.build,
            guest_count: status.guest_count,
        }))
    }

    fn factory_reset(&self, state: &mut State) -> Outcome<SevData> {
        match self.status()?.state {
            PlatformState::WORKING => return Err(Errno::BUSY.into()),
            PlatformState::INIT => {
                self.mailbox.plain(Command::SHUTDOWN, &[])?;
                state.up = false;
            }
            _ => state.up = false,
        }
        let answer = self.mailbox.ask(Command::PLATFORM_RESET, &[], Buffers::default())?;
        // No guest is ours and the platform is down: it has guests of others.
        if answer.status == Status::INVALID_PLATFORM_STATE {
            return Err(Errno::BUSY.into());
        }
        answer.ok()?;
        Ok(SevData::None)
    }

    fn get_id(&self, len: u32) -> Outcome<SevData> {
        if len > MAX_BLOB {
            return Err(Errno::FAULT.into());
        }
        let mut host = Buffers::default();
        let (paddr, len) = host.room(len);
        let mut answer = self.mailbox.ask(Command::GET_ID, &GetId { paddr, len }.encode(), host)?;
        let needed = parsed(GetId::parse(&answer.buffer))?.len;
        bytes_or_length(&mut answer, paddr, needed)
    }

    fn pek_csr(&self, len: u32) -> Outcome<SevData> {
        if len > MAX_BLOB {
            return Err(Errno::FAULT.into());
        }
        let mut host = Buffers::default();
        let (paddr, len) = host.room(len);
        let mut answer = self.mailbox.ask(Command::PEK_CSR, &PekCsr { paddr, len }.encode(), host)?;
        let needed = parsed(PekCsr::parse(&answer.buffer))?.len;
        bytes_or_length(&mut answer, paddr, needed)
    }

    fn pdh_cert_export(&self, pdh_len: u32, chain_len: u32) -> Outcome<SevData> {
        if pdh_len > MAX_BLOB || chain_len > MAX_BLOB {
            return Err(Errno::FAULT.into());
        }
        // One missing buffer makes it a question for both lengths.
        let query = pdh_len == 0 || chain_len == 0;
        let mut host = Buffers::default();
        let (pdh_paddr, pdh_len) = host.room(if query { 0 } else { pdh_len });
        let (chain_paddr, chain_len) = host.room(if query { 0 } else { chain_len });
        let buffer = PdhCertExport { pdh_paddr, pdh_len, chain_paddr, chain_len }.encode();
        let mut answer = self.mailbox.ask(Command::PDH_CERT_EXPORT, &buffer, host)?;
        let needed = parsed(PdhCertExport::parse(&answer.buffer))?;
        if answer.status.is_success() {
            let pdh = answer.take(pdh_paddr, needed.pdh_len);
            return Ok(SevData::Pair(pdh, answer.take(chain_paddr, needed.chain_len)));
        }
        let data = SevData::Lengths(needed.pdh_len, needed.chain_len);
        Err(Trouble::Refused(refusal(Errno::IO, answer.status.0, data)))
    }

    fn pek_cert_import(&self, pek: Vec<u8>, oca: Vec<u8>) -> Outcome<SevData> {
        let mut host = Buffers::default();
        let (pek_paddr, pek_len) = host.blob(pek)?;
        let (oca_paddr, oca_len) = host.blob(oca)?;
        let buffer = PekCertImport { pek_paddr, pek_len, oca_paddr, oca_len }.encode();
        self.mailbox.command(Command::PEK_CERT_IMPORT, &buffer, host)?;
        Ok(SevData::None)
    }
}

/// What a command with one output buffer brought: the bytes, or with -EIO how many there would be.
pub(crate) fn bytes_or_length(answer: &mut super::mailbox::Answer, paddr: u64, len: u32) -> Outcome<SevData> {
    match answer.status.is_success() {
        true => Ok(SevData::Bytes(answer.take(paddr, len))),
        false => Err(Trouble::Refused(refusal(Errno::IO, answer.status.0, SevData::Length(len)))),
    }
}

/// The message that goes back through the door.
pub(crate) fn result(outcome: Outcome<SevData>) -> Result<SevResult, String> {
    match outcome {
        Ok(data) => Ok(SevResult { data, ..SevResult::default() }),
        Err(Trouble::Refused(result)) => Ok(result),
        Err(Trouble::Door(why)) => Err(why),
    }
}
