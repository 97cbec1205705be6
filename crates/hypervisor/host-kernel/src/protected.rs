//! The protected-virtualization commands of KVM as sequences of Ultravisor calls (Linux,
//! Documentation/virt/kvm/api.rst, 4.125; the calls are those of `arch/s390/include/asm/uv.h`).

use crate::donation::Donations;
use cloister_arch::s390x::{ResetKind, RunState};
use cloister_firmware_api::{self as lower, Guest};
use cloister_formats::s390x::uv_rc::{Rc, Rrc, explain};
use cloister_formats::s390x::uvcb::{
    ConvFromSec, ConvToSec, CpuSetState, CreateSecConf, CreateSecCpu, DumpComplete, DumpConfStorState,
    DumpCpu, Handle, Init, PinPageShared, Qui, SetSecConfParams, Unpack, UnpinPageShared, UvCommand,
    UvHeader,
};
use cloister_platform::{PvCommand, PvDumpInfo, PvResult};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes in a page.
const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;
/// Designation bits of an address-space control element: region-third table, private space.
const ASCE_BITS: u64 = 0x20 | 0x07;

/// The protected side of one VM.
pub(crate) struct Protected {
    lower: Arc<dyn lower::Door>,
    state: Mutex<State>,
}

struct State {
    initialised: bool,
    donations: Donations,
    /// Handle of the configuration.
    configuration: Option<u64>,
    /// Handles of its CPUs, by CPU address.
    cpus: Vec<u64>,
}

/// A refused Ultravisor call.
struct Failure {
    command: UvCommand,
    rc: u16,
    rrc: u16,
    detail: String,
}

impl Protected {
    pub(crate) fn new(lower: Arc<dyn lower::Door>) -> Self {
        let state =
            State { initialised: false, donations: Donations::new(), configuration: None, cpus: Vec::new() };
        Self { lower, state: Mutex::new(state) }
    }

    pub(crate) fn command(&self, command: PvCommand, guest: &Guest, max_cpus: u16) -> PvResult {
        let (mut data, mut dump) = (Vec::new(), None);
        let outcome = match command {
            PvCommand::Enable => self.enable(guest, max_cpus),
            PvCommand::Disable => self.disable(),
            PvCommand::SetSecParms { header } => self.with_configuration(|uv, guest_handle| {
                let hdr_len = header.len() as u32;
                let block = SetSecConfParams { guest_handle, hdr_origin: 0, hdr_len }.encode();
                uv.uvc(block, header.clone()).map(drop)
            }),
            PvCommand::Unpack { address, size, tweak } => self.with_configuration(|uv, guest_handle| {
                for offset in (0..size).step_by(PAGE as usize) {
                    let gaddr = address.wrapping_add(offset);
                    let block = Unpack { guest_handle, gaddr, tweak: [tweak, offset] }.encode();
                    uv.uvc(block, Vec::new())?;
                }
                Ok(())
            }),
            PvCommand::Verify => self.plain(UvCommand::VERIFY),
            PvCommand::PrepareReset => self.plain(UvCommand::PREPARE_RESET),
            PvCommand::UnshareAll => self.plain(UvCommand::UNSHARE_ALL),
            PvCommand::DumpInfo => self.dump_info().map(|info| dump = Some(info)),
            PvCommand::DumpInit => self.plain(UvCommand::DUMP_INIT),
            PvCommand::DumpConfigStorState { address, count } => {
                self.dump_storage(guest, address, count).map(|bytes| data = bytes)
            }
            PvCommand::DumpCpu { cpu } => self.with_cpu(cpu, |uv, cpu_handle| {
                let (_, bytes) = uv.uvc(DumpCpu { cpu_handle, dump_area: 0 }.encode(), Vec::new())?;
                data = bytes;
                Ok(())
            }),
            PvCommand::DumpComplete => self.with_configuration(|uv, guest_handle| {
                let (_, bytes) = uv.uvc(DumpComplete { guest_handle, dump_area: 0 }.encode(), Vec::new())?;
                data = bytes;
                Ok(())
            }),
            PvCommand::CpuReset { cpu, kind } => self.with_cpu(cpu, |uv, handle| {
                let command = match kind {
                    ResetKind::Normal => UvCommand::CPU_RESET,
                    ResetKind::Initial => UvCommand::CPU_INITIAL_RESET,
                    ResetKind::Clear => UvCommand::CPU_CLEAR_RESET,
                };
                uv.handle(command, handle)
            }),
            PvCommand::CpuSetState { cpu, state } => self.with_cpu(cpu, |uv, cpu_handle| {
                let state = match state {
                    RunState::Operating => 1,
                    RunState::Stopped => 2,
                    RunState::CheckStop => 3,
                    RunState::Load => 5,
                };
                uv.uvc(CpuSetState { cpu_handle, state }.encode(), Vec::new()).map(drop)
            }),
        };
        match outcome {
            Ok(()) => PvResult { ok: true, rc: Rc::EXECUTED.0, data, dump, ..PvResult::default() },
            Err(failure) => {
                PvResult { rc: failure.rc, rrc: failure.rrc, reason: failure.words(), ..PvResult::default() }
            }
        }
    }

    /// Brings a page into the guest's possession after it was touched.
    pub(crate) fn import(&self, page: u64) -> Result<(), String> {
        self.with_configuration(|uv, guest_handle| {
            let block = ConvToSec { guest_handle, gaddr: page.saturating_mul(PAGE) }.encode();
            uv.uvc(block, Vec::new()).map(drop)
        })
        .map_err(|failure| failure.words())
    }

    /// Releases a page that the guest no longer shares.
    pub(crate) fn unpin(&self, gaddr: u64) -> Result<(), String> {
        self.with_configuration(|uv, guest_handle| {
            uv.uvc(UnpinPageShared { guest_handle, gaddr }.encode(), Vec::new()).map(drop)
        })
        .map_err(|failure| failure.words())
    }

    /// KVM's rule for a host access to a secure page: pin it if it is shared, else export it.
    pub(crate) fn make_accessible(&self, guest: &Guest, page: u64) -> Result<(), String> {
        let offset = page.saturating_mul(PAGE);
        if offset >= guest.size {
            return Err(format!("the guest has no page {page:#x}"));
        }
        let paddr = guest.origin + offset;
        if self.uvc(PinPageShared { paddr }.encode(), Vec::new()).is_ok() {
            return Ok(());
        }
        self.uvc(ConvFromSec { paddr }.encode(), Vec::new()).map(drop).map_err(|failure| failure.words())
    }

    fn enable(&self, guest: &Guest, max_cpus: u16) -> Result<(), Failure> {
        let mut state = self.lock();
        let qui = self.query()?;
        let (uv_base, conf_base, conf_virt, per_mib, cpu_len) = (
            qui.uv_base_stor_len,
            qui.conf_base_phys_stor_len,
            qui.conf_base_virt_stor_len,
            qui.conf_virt_var_stor_len,
            qui.cpu_stor_len,
        );
        if !state.initialised {
            let stor_origin = state.donations.take(uv_base);
            match self.uvc(Init { stor_origin, stor_len: uv_base }.encode(), Vec::new()) {
                // Another VM of this machine was first.
                Ok(_) | Err(Failure { rc: 0x101, .. }) => state.initialised = true,
                Err(failure) => return Err(failure),
            }
        }
        let mib = guest.size.div_ceil(1 << 20);
        let block = CreateSecConf {
            guest_handle: 0,
            base_origin: state.donations.take(conf_base),
            virt_origin: state.donations.take(conf_virt + per_mib * mib),
            flags: 0,
            mso: guest.origin,
            guest_len: guest.size,
            sca: state.donations.take(PAGE),
            asce: guest.origin | ASCE_BITS,
        };
        let (block, _) = self.uvc(block.encode(), Vec::new())?;
        let guest_handle = handle_of(&block);
        state.configuration = Some(guest_handle);
        for num in 0..max_cpus {
            let block = CreateSecCpu {
                cpu_handle: 0,
                guest_handle,
                stor_origin: state.donations.take(cpu_len),
                num,
                state_origin: state.donations.take(PAGE),
            };
            match self.uvc(block.encode(), Vec::new()) {
                Ok((block, _)) => state.cpus.push(handle_of(&block)),
                Err(failure) => {
                    // Leave nothing behind; the first failure is the one to report.
                    let _ = self.destroy(&mut state);
                    return Err(failure);
                }
            }
        }
        Ok(())
    }

    fn query(&self) -> Result<Qui, Failure> {
        // CC 1 with "more data" is a success of this call.
        let (_, block, _) = self.raw(Qui::default().encode(), Vec::new())?;
        Qui::parse(&block).map_err(|_| Failure::state(UvCommand::QUI))
    }

    fn dump_info(&self) -> Result<PvDumpInfo, Failure> {
        let qui = self.query()?;
        Ok(PvDumpInfo {
            // Linux has no other length for it.
            cpu: qui.cpu_stor_len,
            storage_per_mib: qui.conf_dump_storage_state_len,
            finalize: qui.conf_dump_finalize_len,
        })
    }

    fn dump_storage(&self, guest: &Guest, address: u64, count: u64) -> Result<Vec<u8>, Failure> {
        let end = guest.size.min(address.saturating_add(count.saturating_mul(MIB)));
        self.with_configuration(|uv, guest_handle| {
            let mut out = Vec::new();
            for gaddr in (address..end).step_by(MIB as usize) {
                let block = DumpConfStorState { guest_handle, dump_area: 0, gaddr };
                out.extend(uv.uvc(block.encode(), Vec::new())?.1);
            }
            Ok(out)
        })
    }

    fn disable(&self) -> Result<(), Failure> {
        self.destroy(&mut self.lock())
    }

    fn destroy(&self, state: &mut State) -> Result<(), Failure> {
        for cpu in state.cpus.drain(..) {
            self.handle(UvCommand::DESTROY_SEC_CPU, cpu)?;
        }
        match state.configuration.take() {
            Some(configuration) => self.handle(UvCommand::DESTROY_SEC_CONF, configuration),
            None => Err(Failure::state(UvCommand::DESTROY_SEC_CONF)),
        }
    }

    fn plain(&self, command: UvCommand) -> Result<(), Failure> {
        self.with_configuration(|uv, handle| uv.handle(command, handle))
    }

    fn with_configuration<T>(
        &self,
        work: impl FnOnce(&Self, u64) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        // The lock is not held over the call: a page conversion may wait for CPUs that are in a call here.
        let handle = self.lock().configuration;
        work(self, handle.ok_or_else(|| Failure::state(UvCommand::CREATE_SEC_CONF))?)
    }

    fn with_cpu<T>(
        &self,
        cpu: u16,
        work: impl FnOnce(&Self, u64) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let handle = self.lock().cpus.get(usize::from(cpu)).copied();
        work(self, handle.ok_or_else(|| Failure::state(UvCommand::CREATE_SEC_CPU))?)
    }

    fn handle(&self, command: UvCommand, handle: u64) -> Result<(), Failure> {
        let block = Handle { handle }.encode(command).ok_or_else(|| Failure::state(command))?;
        self.uvc(block, Vec::new()).map(drop)
    }

    /// A call that must succeed.
    fn uvc(&self, block: Vec<u8>, data: Vec<u8>) -> Result<(Vec<u8>, Vec<u8>), Failure> {
        let (cc, block, data) = self.raw(block, data)?;
        let header = UvHeader::parse(&block).ok();
        match (cc, header) {
            (0, _) => Ok((block, data)),
            (_, Some(header)) => Err(Failure {
                command: header.command,
                rc: header.rc.0,
                rrc: header.rrc.0,
                detail: String::from_utf8(data).unwrap_or_default(),
            }),
            (_, None) => Err(Failure::state(UvCommand(0))),
        }
    }

    /// A call, repeated while the Ultravisor is busy.
    fn raw(&self, mut block: Vec<u8>, data: Vec<u8>) -> Result<(u8, Vec<u8>, Vec<u8>), Failure> {
        loop {
            let command = UvHeader::parse(&block).map_or(UvCommand(0), |header| header.command);
            match self.lower.call(lower::Request::Uvc { block: block.clone(), data: data.clone() }) {
                lower::Response::Uvc { cc: cc @ (0 | 1), block, data } => return Ok((cc, block, data)),
                lower::Response::Uvc { block: again, .. } => block = again,
                lower::Response::Refused(why) => {
                    return Err(Failure { command, rc: 0, rrc: 0, detail: why });
                }
                _ => return Err(Failure::state(command)),
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failure {
    fn state(command: UvCommand) -> Self {
        Self { command, rc: Rc::INVALID_STATE.0, rrc: 0, detail: String::new() }
    }

    fn words(&self) -> String {
        let text = explain(self.command, Rc(self.rc), Rrc(self.rrc)).unwrap_or("no explanation is known");
        let mut words =
            format!("{} failed: rc {:x} rrc {:x}: {text}", self.command.name(), self.rc, self.rrc);
        if !self.detail.is_empty() {
            words.push_str("; ");
            words.push_str(&self.detail);
        }
        words
    }
}

/// Handle at 0x18 of CREATE_SEC_CONF and CREATE_SEC_CPU.
fn handle_of(block: &[u8]) -> u64 {
    block.get(0x18..0x20).map_or(0, |bytes| bytes.iter().fold(0, |acc, &b| acc << 8 | u64::from(b)))
}
