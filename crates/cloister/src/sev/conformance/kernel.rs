//! This host's firmware, as far as the kernel lets programs ask it.
//!
//! INIT, SHUTDOWN, DF_FLUSH, ACTIVATE, DEACTIVATE and DECOMMISSION are the kernel's own affair: such steps are left
//! out. So are questions for lengths, which the calls below make by themselves. It has not run on hardware.

use super::Head;
use super::subject::{Action, Answer, MEMORY, States, Subject, memory};
use anyhow::Context;
use cloister_formats::sev::command::{GuestState, PlatformState};
use cloister_formats::sev::policy::Policy;
use cloister_formats::sev::status::Status;
use cloister_kvm::{
    Error, FirmwareStatus, GuestRange, Kernel, Kvm, LaunchStart, Packet, ReceiveStart, SendStart, SevDevice,
    SevVm, Vcpu, Vm, VmType,
};
use std::sync::Arc;
use vm_memory::VolatileMemory;
use vm_memory::mmap::MmapRegion;

/// The host.
pub(super) struct Host {
    kvm: Kvm,
    device: SevDevice,
    guest: Option<Guest>,
    memory: MmapRegion<()>,
    /// The platform's chain, which the kernel wants for every SEND_START.
    chain: Vec<u8>,
}

struct Guest {
    sev: SevVm,
    _vm: Vm,
    _vcpu: Option<Vcpu>,
    started: bool,
}

impl Host {
    pub(super) fn new(kernel: Arc<dyn Kernel>) -> anyhow::Result<Self> {
        let kvm = Kvm::open(Arc::clone(&kernel))?;
        let device = SevDevice::open(kernel)?;
        let memory = MmapRegion::new(MEMORY).context("cannot get memory for a guest")?;
        Ok(Self { kvm, device, guest: None, memory, chain: Vec::new() })
    }

    /// A VM for a launch with this policy; the one that is there if its launch was refused.
    fn vm(&mut self, policy: u32) -> Result<&mut Guest, Error> {
        if self.guest.is_none() {
            let es = policy & Policy::ES != 0;
            let vm = self.kvm.create_vm(VmType(0))?;
            let sev = vm.sev(&self.device);
            if es {
                sev.es_init()?
            } else {
                sev.init()?
            }
            let vcpu = if es { Some(vm.create_vcpu(0)?) } else { None };
            let slice = self.memory.as_volatile_slice();
            slice.copy_from(&memory());
            vm.register_region(GuestRange::of(&slice))?;
            self.guest = Some(Guest { sev, _vm: vm, _vcpu: vcpu, started: false });
        }
        self.guest.as_mut().ok_or(NO_GUEST)
    }

    fn of_guest(&self, work: impl FnOnce(&SevVm) -> Result<(), Error>) -> anyhow::Result<Answer> {
        match &self.guest {
            Some(guest) => answer(work(&guest.sev).map(|()| Vec::new())),
            None => Ok(left_out("there is no guest")),
        }
    }

    fn with_guest(
        &self,
        work: impl FnOnce(&SevVm) -> Result<Vec<(&'static str, Vec<u8>)>, Error>,
    ) -> anyhow::Result<Answer> {
        match &self.guest {
            Some(guest) => answer(work(&guest.sev)),
            None => Ok(left_out("there is no guest")),
        }
    }

    fn on_memory(
        &self,
        at: u64,
        len: u32,
        work: impl FnOnce(&SevVm, GuestRange<'_>) -> Result<Vec<(&'static str, Vec<u8>)>, Error>,
    ) -> anyhow::Result<Answer> {
        match self.memory.get_slice(at as usize, len as usize) {
            Ok(slice) => self.with_guest(|guest| work(guest, GuestRange::of(&slice))),
            Err(_) => Ok(left_out("it is not in the memory of this run")),
        }
    }
}

impl Subject for Host {
    fn head(&self) -> anyhow::Result<Head> {
        let status = self.device.platform_status()?;
        let version = (status.api_major, status.api_minor, status.build);
        Ok(Head::new("the firmware of this host, through its kernel".into(), version, status.es()))
    }

    fn es(&self) -> bool {
        self.device.platform_status().is_ok_and(|status| status.es())
    }

    fn asids(&self) -> (u32, u32) {
        // The kernel chooses them.
        (1, 1)
    }

    fn wbinvd(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn states(&mut self) -> anyhow::Result<States> {
        let platform = self.device.platform_status()?.state.0;
        let started = self.guest.as_ref().filter(|guest| guest.started);
        let guest = match started {
            Some(guest) => u8::try_from(guest.sev.guest_status()?.state.0).unwrap_or(u8::MAX),
            None => GuestState::INVALID.0,
        };
        Ok((PlatformState(platform), GuestState(guest)))
    }

    fn perform(&mut self, action: &Action) -> anyhow::Result<Answer> {
        match action {
            Action::Status => answer(self.device.platform_status().map(|_| Vec::new())),
            Action::Id { len: 1.. } => answer(self.device.get_id2().map(|id| vec![("id", id)])),
            Action::Csr { len: 1.. } => answer(self.device.pek_csr().map(|pek| vec![("pek", pek)])),
            Action::Export { pdh_len: 1.., chain_len: 1.. } => {
                let export = self.device.pdh_cert_export();
                if let Ok(export) = &export {
                    self.chain.clone_from(&export.chain);
                }
                answer(export.map(|export| vec![("pdh", export.pdh), ("chain", export.chain)]))
            }
            Action::Import { pek, oca } => answer(self.device.pek_cert_import(pek, oca).map(|()| Vec::new())),
            Action::PekGen => answer(self.device.pek_gen().map(|()| Vec::new())),
            Action::PdhGen => answer(self.device.pdh_gen().map(|()| Vec::new())),
            Action::Reset => answer(self.device.factory_reset().map(|()| Vec::new())),
            Action::Start { policy, share: 0, certificate, session } => {
                let start = LaunchStart { handle: 0, policy: *policy, certificate, session };
                let done = self.vm(*policy).and_then(|guest| {
                    guest.sev.launch_start(start)?;
                    guest.started = true;
                    Ok(Vec::new())
                });
                answer(done)
            }
            Action::ReceiveStart { policy, pdh, session } => {
                let start = ReceiveStart { handle: 0, policy: *policy, pdh, session };
                let done = self.vm(*policy).and_then(|guest| {
                    guest.sev.receive_start(start)?;
                    guest.started = true;
                    Ok(Vec::new())
                });
                answer(done)
            }
            Action::Decommission => {
                // The kernel decommissions the guest of a VM that goes; the ASID is taken with it.
                let gone = self.guest.take().is_some();
                Ok(left_out(if gone { KERNELS } else { "there is no guest" }))
            }
            Action::Data { at, len } => self
                .on_memory(*at, *len, |guest, memory| guest.launch_update_data(memory).map(|()| Vec::new())),
            Action::Vmsa { len: 0x1000, .. } => self.of_guest(SevVm::launch_update_vmsa),
            Action::Measure { len: 1.. } => {
                self.with_guest(|guest| Ok(vec![("measurement", guest.launch_measure()?)]))
            }
            Action::Secret { header, at, guest_len, payload } => {
                let packet = Packet { header: header.clone(), data: payload.clone() };
                self.on_memory(*at, *guest_len, |guest, memory| {
                    guest.launch_secret(&packet, memory).map(|()| Vec::new())
                })
            }
            Action::Finish => self.of_guest(SevVm::launch_finish),
            Action::Report { nonce, len: 1.. } => {
                self.with_guest(|guest| Ok(vec![("report", guest.attestation_report(*nonce)?.0)]))
            }
            Action::Decrypt { at, len } if at.is_multiple_of(16) => {
                self.on_memory(*at, *len, |guest, memory| Ok(vec![("plaintext", guest.dbg_decrypt(memory)?)]))
            }
            Action::SendStart { pdh, session_len: 1.. } => {
                let start = SendStart { policy: 0, pdh, platform: &self.chain, amd: &self.chain };
                self.with_guest(|guest| Ok(vec![("session", guest.send_start(start)?)]))
            }
            Action::SendData { at, len: len @ 1.., header_len: 1.. } => {
                self.on_memory(*at, *len, |guest, memory| {
                    let packet = guest.send_update_data(memory)?;
                    Ok(vec![("header", packet.header), ("payload", packet.data)])
                })
            }
            Action::SendFinish => self.of_guest(SevVm::send_finish),
            Action::SendCancel => self.of_guest(SevVm::send_cancel),
            Action::ReceiveData { header, at, payload } if !payload.is_empty() => {
                let packet = Packet { header: header.clone(), data: payload.clone() };
                self.on_memory(*at, payload.len() as u32, |guest, memory| {
                    guest.receive_update_data(&packet, memory).map(|()| Vec::new())
                })
            }
            Action::ReceiveFinish => self.of_guest(SevVm::receive_finish),
            _ => Ok(left_out(KERNELS)),
        }
    }
}

/// What the firmware said; a refusal of the kernel's own is none.
fn answer(done: Result<Vec<(&'static str, Vec<u8>)>, Error>) -> anyhow::Result<Answer> {
    match done {
        Ok(outputs) => Ok(Answer::Firmware(Status::SUCCESS, outputs)),
        Err(Error::Sev { errno, status, .. }) => match status {
            FirmwareStatus(0 | u32::MAX) => Ok(left_out(&format!("the kernel refused it itself: {errno}"))),
            FirmwareStatus(code) => Ok(Answer::Firmware(Status(code), Vec::new())),
        },
        Err(Error::Answer { command, what }) => {
            Ok(left_out(&format!("{command}: the kernel answered {what}")))
        }
        Err(other) => Err(other.into()),
    }
}

fn left_out(why: &str) -> Answer {
    Answer::LeftOut(why.into())
}

const KERNELS: &str = "the kernel does not offer this to programs";
const NO_GUEST: Error = Error::Answer { command: "KVM_CREATE_VM", what: "no VM" };
