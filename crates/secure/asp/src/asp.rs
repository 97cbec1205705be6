//! The processor: its state, and the way of a command through it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use cloister_crypto::Entropy;
use cloister_formats::sev::command::{Command, GuestState, PlatformState};
use cloister_formats::sev::status::Status;

use crate::asid::Asids;
use crate::bus::Bus;
use crate::engine::{MemoryCipher, Tweaks};
use crate::guest::{Guests, Pool};
use crate::identity::Identity;
use crate::memory::SystemMemory;
use crate::store::Keys;
use crate::table::{self, Op, Platform};

/// Version of the firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Major version of the API.
    pub major: u8,
    /// Minor version of the API.
    pub minor: u8,
    /// Build.
    pub build: u8,
}

/// What can be chosen about a processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Version of the firmware; 1.55.25 by default.
    pub version: Version,
    /// The last ASID. More than 1006, the most of the parts whose firmware is public, count as 1006.
    pub asids: u32,
    /// The first ASID of guests without SEV-ES; those with it have the ASIDs before.
    pub min_sev_asid: u32,
    /// Whether INIT may ask for SEV-ES.
    pub es: bool,
    /// One or two sockets, each with an identity.
    pub sockets: u8,
    /// Groups of cores that share a cache.
    pub core_complexes: u32,
    /// Cores in each of them; core numbers count through.
    pub cores_per_complex: u32,
    /// The address bit that asks for encryption. It is no part of an address.
    pub c_bit: u8,
    /// Whether memory encryption is on in the memory controllers.
    pub memory_encryption: bool,
    /// SHA-256 of the ARKs that SEND_START trusts; empty for those of the processor's own identity.
    pub trusted_roots: Vec<[u8; 32]>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            version: Version { major: 1, minor: 55, build: 25 },
            asids: 509,
            min_sev_asid: 100,
            es: true,
            sockets: 1,
            core_complexes: 1,
            cores_per_complex: 1,
            c_bit: 51,
            memory_encryption: true,
            trusted_roots: Vec::new(),
        }
    }
}

/// An AMD Secure Processor with the firmware interface of SEV and SEV-ES.
///
/// Everything random comes from the entropy given, in an order that the commands alone decide: the same identity,
/// configuration, seed and commands give the same bytes.
pub struct Asp {
    pub(crate) identity: Identity,
    pub(crate) entropy: Box<dyn Entropy + Send>,
    pub(crate) config: Config,
    pub(crate) asids: Asids,
    pub(crate) flash: Option<Vec<u8>>,
    pub(crate) flash_changed: bool,
    pub(crate) up: Option<Up>,
    faults: Vec<Fault>,
}

/// What there is between INIT and SHUTDOWN.
pub(crate) struct Up {
    pub(crate) es: bool,
    pub(crate) keys: Keys,
    pub(crate) area: Area,
    pub(crate) tmr: Option<Range<u64>>,
    pub(crate) pool: Pool,
    pub(crate) tweaks: Arc<Tweaks>,
    pub(crate) guests: Guests,
}

/// Where the keys persist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Area {
    /// The board's flash.
    Flash,
    /// Memory of the host.
    Host(u64),
}

/// A fault to come.
#[derive(Debug, Clone, Copy)]
struct Fault {
    command: Command,
    left: u32,
    status: Status,
}

/// What a command came to: nothing, or the status that refuses it.
pub(crate) type Outcome = Result<(), Status>;

impl Asp {
    /// A processor after power-on. No core has executed WBINVD, and the flash is empty.
    pub fn new(identity: Identity, entropy: Box<dyn Entropy + Send>, config: Config) -> Self {
        let asids = Asids::new(config.asids.min(LAST_ASID), config.core_complexes, config.cores_per_complex);
        let (flash, faults) = (None, Vec::new());
        Self { identity, entropy, config, asids, flash, flash_changed: false, up: None, faults }
    }

    /// Executes a command over its buffer, which is changed only as the command's copy-back rule says.
    ///
    /// A buffer shorter than the command's structure gives INVALID_LENGTH; what is behind it is left alone. Addresses
    /// without memory behind them give INVALID_ADDRESS.
    pub fn execute(&mut self, command: u16, buffer: &mut [u8], memory: &dyn SystemMemory) -> Status {
        let command = Command(command);
        let status = match self.due_fault(command) {
            Some(status) => status,
            None => self.execute_now(command, buffer, memory),
        };
        tracing::debug!(%command, %status, "firmware command");
        status
    }

    fn execute_now(&mut self, command: Command, buffer: &mut [u8], memory: &dyn SystemMemory) -> Status {
        let Some(op) = Op::new(command) else { return Status::INVALID_COMMAND };
        let Some(host) = buffer.get_mut(..command.buffer_size()) else { return Status::INVALID_LENGTH };
        let mut own = host.to_vec();
        let tmr = self.up.as_ref().and_then(|up| up.tmr.clone());
        let bus = Bus::new(memory, self.config.c_bit, tmr);
        let status = match self.run(op, &mut own, &bus) {
            Ok(()) => Status::SUCCESS,
            Err(status) => status,
        };
        if command.writes_back(status) {
            host.copy_from_slice(&own);
        }
        status
    }

    fn run(&mut self, op: Op, buffer: &mut [u8], bus: &Bus<'_>) -> Outcome {
        match op {
            Op::Init => self.init(buffer, bus),
            Op::InitEx => self.init_ex(buffer, bus),
            Op::Shutdown => self.shutdown(),
            Op::PlatformReset => self.platform_reset(),
            Op::PlatformStatus => self.platform_status(buffer),
            Op::PekGen => self.pek_gen(bus),
            Op::PekCsr => self.pek_csr(buffer, bus),
            Op::PekCertImport => self.pek_cert_import(buffer, bus),
            Op::PdhCertExport => self.pdh_cert_export(buffer, bus),
            Op::PdhGen => self.pdh_gen(bus),
            Op::GetId => self.get_id(buffer, bus),
            Op::DownloadFirmware => self.download_firmware(buffer),
            Op::Nop => Ok(()),
            Op::RingBuffer => Err(Status::UNSUPPORTED),
            Op::DfFlush => self.df_flush(),
            Op::Activate => self.activate(buffer),
            Op::ActivateEx => self.activate_ex(buffer, bus),
            Op::Deactivate => self.deactivate(buffer),
            Op::Decommission => self.decommission(buffer),
            Op::GuestStatus => self.guest_status(buffer),
            Op::LaunchStart => self.launch_start(buffer, bus),
            Op::LaunchUpdateData => self.launch_update_data(buffer, bus),
            Op::LaunchUpdateVmsa => self.launch_update_vmsa(buffer, bus),
            Op::LaunchMeasure => self.launch_measure(buffer, bus),
            Op::LaunchSecret => self.launch_secret(buffer, bus),
            Op::LaunchFinish => self.launch_finish(buffer),
            Op::Attestation => self.attestation(buffer, bus),
            Op::SendStart => self.send_start(buffer, bus),
            Op::SendUpdateData => self.send_update(buffer, bus, op),
            Op::SendUpdateVmsa => self.send_update(buffer, bus, op),
            Op::SendFinish => self.send_finish(buffer),
            Op::SendCancel => self.send_cancel(buffer),
            Op::ReceiveStart => self.receive_start(buffer, bus),
            Op::ReceiveUpdateData => self.receive_update(buffer, bus, op),
            Op::ReceiveUpdateVmsa => self.receive_update(buffer, bus, op),
            Op::ReceiveFinish => self.receive_finish(buffer),
            Op::DbgDecrypt => self.dbg_decrypt(buffer, bus),
            Op::DbgEncrypt => self.dbg_encrypt(buffer, bus),
            Op::Copy => self.copy(buffer, bus),
            Op::SwapOut => self.swap_out(buffer, bus),
            Op::SwapIn => self.swap_in(buffer, bus),
        }
    }
}

/// What the machine around the processor tells it.
impl Asp {
    /// A core executed WBINVD. Cores are counted through all core complexes.
    pub fn wbinvd(&mut self, core: u32) {
        self.asids.wbinvd(core as usize);
    }

    /// Every core executed WBINVD.
    pub fn wbinvd_on_all_cores(&mut self) {
        (0..self.asids.cores()).for_each(|core| self.asids.wbinvd(core));
    }

    /// A core ran the guest with this ASID, so that its caches may hold lines of it.
    pub fn ran(&mut self, asid: u32, core: u32) {
        self.asids.ran(asid, core as usize);
    }

    /// The cipher of the memory of the guest that has this ASID, for a core that is about to run it. `None` if there
    /// is none, or its launch is not finished.
    pub fn memory_cipher(&self, asid: u32) -> Option<MemoryCipher> {
        let guests = &self.up.as_ref()?.guests;
        let mut with_asid = guests.values().filter_map(|guest| Some((guest.asid?, guest)));
        let (asid, guest) = with_asid.find(|(of_guest, _)| of_guest.number == asid)?;
        (!asid.pending).then(|| guest.cipher.clone())
    }

    /// A core saved the state of a CPU of the guest with this ASID to its VMSA, here in plain. False if the page is
    /// no VMSA of the guest.
    pub fn vmsa_saved(&mut self, asid: u32, vmsa: &[u8; 4096]) -> bool {
        let Some(up) = &mut self.up else { return false };
        let owner = up.guests.iter().find(|(_, guest)| guest.asid.is_some_and(|of| of.number == asid));
        owner.is_some_and(|(&handle, _)| up.pool.saved(handle, vmsa))
    }
}

/// What the processor's keeper can see and do.
impl Asp {
    /// State of the platform.
    pub fn state(&self) -> PlatformState {
        self.platform().wire()
    }

    /// State of a guest; INVALID if there is none.
    pub fn guest_state(&self, handle: u32) -> GuestState {
        let guest = self.up.as_ref().and_then(|up| up.guests.get(&handle));
        guest.map_or(GuestState::INVALID, |guest| guest.state.wire())
    }

    /// Who the processor is.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What was chosen about it.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Gives the processor what its flash held before it was powered off; see [`Self::take_flash`].
    pub fn set_flash(&mut self, area: Option<Vec<u8>>) {
        self.flash = area;
        self.flash_changed = false;
    }

    /// The content of the flash if it has changed since this was last asked, for the caller to keep: the sealed area,
    /// or `None` in it after PLATFORM_RESET.
    pub fn take_flash(&mut self) -> Option<Option<&[u8]>> {
        std::mem::take(&mut self.flash_changed).then_some(self.flash.as_deref())
    }

    /// Makes the `nth` execution of a command from now on, counted from 1, fail with a status and do nothing else.
    /// Zero means the next one.
    pub fn inject(&mut self, command: u16, nth: u32, status: Status) {
        self.faults.push(Fault { command: Command(command), left: nth.max(1), status });
    }

    /// Counts an execution for every fault that waits for it; the first that is due happens.
    fn due_fault(&mut self, command: Command) -> Option<Status> {
        let mut due = None;
        for fault in self.faults.iter_mut().filter(|fault| fault.command == command) {
            fault.left -= 1;
            if fault.left == 0 {
                due = due.or(Some(fault.status));
            }
        }
        self.faults.retain(|fault| fault.left > 0);
        due
    }
}

/// What the commands share.
impl Asp {
    pub(crate) fn platform(&self) -> Platform {
        match &self.up {
            None => Platform::Uninit,
            Some(up) if up.guests.is_empty() => Platform::Init,
            Some(_) => Platform::Working,
        }
    }

    /// Demands a state of the platform that lets a command begin.
    pub(crate) fn may(&self, op: Op) -> Outcome {
        table::platform(self.platform(), op)
    }

    pub(crate) const fn api(&self) -> (u8, u8) {
        (self.config.version.major, self.config.version.minor)
    }
}

impl Up {
    /// What an initialised platform has. Commands come here only after [`Asp::may`], so the refusal is never seen.
    pub(crate) fn of(up: &mut Option<Self>) -> Result<&mut Self, Status> {
        up.as_mut().ok_or(Status::INVALID_PLATFORM_STATE)
    }
}

impl fmt::Debug for Asp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asp")
            .field("state", &self.state())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

const LAST_ASID: u32 = 1006;
