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

#[cfg(test)]
mod tests {
    use super::super::{Transcript, mailbox, transcript};
    use super::*;
    use cloister_crypto::{P384Secret, SeededEntropy, SystemEntropy};
    use cloister_formats::sev::certificate::{Algo, Certificate, EccKey, Usage};
    use cloister_kvm::{Device, Errno, FakeKernel, Payload};
    use cloister_platform_store::{Sev, SevPlatform};
    use std::sync::atomic::{AtomicU8, Ordering};

    /// Of `struct kvm_sev_cmd` and of `struct sev_issue_cmd`: the pointer, and the firmware's status.
    const GUEST: (usize, usize) = (8, 16);
    const PLATFORM: (usize, usize) = (4, 12);

    fn put(payload: &mut Payload<'_>, at: usize, value: u32) {
        payload.bytes_mut()[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }

    /// Asks for so many bytes at a length field, as a firmware does.
    fn wants(
        frame: (usize, usize),
        fields: &'static [(usize, u32)],
        payload: &mut Payload<'_>,
    ) -> Result<i32, Errno> {
        let mut short = false;
        for &(at, len) in fields {
            let block = payload.block_mut(frame.0).unwrap();
            short |= u32::from_ne_bytes(block.bytes()[at..at + 4].try_into().unwrap()) < len;
            put(block, at, len);
        }
        if short { refuses(frame, 4, payload) } else { Ok(0) }
    }

    fn refuses(frame: (usize, usize), status: u32, payload: &mut Payload<'_>) -> Result<i32, Errno> {
        put(payload, frame.1, status);
        Err(Errno::INPUT_OUTPUT)
    }

    /// A host whose firmware takes every launch and goes from state to state.
    fn willing() -> FakeKernel {
        let key = P384Secret::generate(&mut SeededEntropy::new(b"a PDH"));
        let (x, y) = key.public().to_xy();
        let pdh = Certificate::new((1, 55), Usage::PDH, Algo::ECDH_SHA256, &EccKey::p384(&x, &y)).encode();
        let state = Arc::new(AtomicU8::new(0));
        let fake = FakeKernel::with_kvm().device(Device::Sev, Ok(()));
        let quiet = [
            "KVM_SEV_INIT",
            "KVM_SEV_ES_INIT",
            "KVM_MEMORY_ENCRYPT_REG_REGION",
            "KVM_SEV_LAUNCH_UPDATE_DATA",
            "KVM_SEV_LAUNCH_UPDATE_VMSA",
            "KVM_SEV_LAUNCH_SECRET",
            "KVM_SEV_RECEIVE_UPDATE_DATA",
        ];
        let fake = quiet.into_iter().fold(fake, |fake, name| fake.returns(name, 0));
        let goes = [
            ("KVM_SEV_LAUNCH_START", 1),
            ("KVM_SEV_LAUNCH_FINISH", 3),
            ("KVM_SEV_SEND_FINISH", 6),
            ("KVM_SEV_SEND_CANCEL", 3),
            ("KVM_SEV_RECEIVE_START", 5),
            ("KVM_SEV_RECEIVE_FINISH", 3),
        ];
        let fake = goes.into_iter().fold(fake, |fake, (name, to)| {
            let state = Arc::clone(&state);
            fake.answers(name, move |_| {
                state.store(to, Ordering::Relaxed);
                Ok(0)
            })
        });
        let now = Arc::clone(&state);
        fake.answers("KVM_SEV_LAUNCH_MEASURE", move |payload| {
            state.store(2, Ordering::Relaxed);
            wants(GUEST, &[(8, 48)], payload)
        })
        .answers("KVM_SEV_GUEST_STATUS", move |payload| {
            put(payload.block_mut(GUEST.0).unwrap(), 8, now.load(Ordering::Relaxed).into());
            Ok(0)
        })
        .answers("KVM_SEV_GET_ATTESTATION_REPORT", |payload| wants(GUEST, &[(24, 0xd0)], payload))
        .answers("KVM_SEV_SEND_START", |payload| wants(GUEST, &[(64, 128)], payload))
        .answers("KVM_SEV_SEND_UPDATE_DATA", |payload| wants(GUEST, &[(8, 52), (40, 16)], payload))
        .answers("SEV_PLATFORM_STATUS", |payload| {
            let status = [1, 55, 1, 0, 1, 0, 0, 25, 0, 0, 0, 0];
            payload.block_mut(PLATFORM.0).unwrap().bytes_mut().copy_from_slice(&status);
            Ok(0)
        })
        .answers("SEV_GET_ID2", |payload| wants(PLATFORM, &[(8, 64)], payload))
        .answers("SEV_PEK_CSR", |payload| wants(PLATFORM, &[(8, 2084)], payload))
        .answers("SEV_PDH_CERT_EXPORT", move |payload| {
            wants(PLATFORM, &[(8, 2084), (20, 6252)], payload)?;
            let block = payload.block_mut(PLATFORM.0).unwrap();
            block.block_mut(0).unwrap().bytes_mut().copy_from_slice(&pdh);
            Ok(0)
        })
    }

    fn of(kernel: FakeKernel) -> Transcript {
        transcript(&mut Host::new(Arc::new(kernel)).unwrap(), false).unwrap()
    }

    fn of_the_model() -> Transcript {
        let platform = SevPlatform::ephemeral(Sev::default(), &mut SystemEntropy);
        transcript(&mut mailbox::Model::new(platform).unwrap(), true).unwrap()
    }

    #[test]
    fn a_host_is_recorded_as_far_as_its_kernel_goes() {
        let (host, model) = (of(willing()), of_the_model());
        assert_eq!(host.lines.len(), model.lines.len());
        assert_eq!((host.head.api_major, host.head.build_id, host.head.sev_es), (1, 25, true));
        for line in &host.lines {
            let left_out =
                ["INIT", "SHUTDOWN", "ACTIVATE", "DEACTIVATE", "DECOMMISSION", "DF_FLUSH", "PEK_GEN"];
            assert!(line.left_out.is_some() || !left_out.contains(&line.command.as_str()), "{line:?}");
        }
        let done =
            |command: &str| host.lines.iter().any(|line| line.command == command && line.code == Some(0));
        for command in ["LAUNCH_START", "LAUNCH_MEASURE", "ATTESTATION", "SEND_UPDATE_DATA", "RECEIVE_FINISH"]
        {
            assert!(done(command), "{command}");
        }
        // This firmware checks nothing: the first thing that it should have refused is named.
        let difference = model.difference(&host).unwrap_err();
        assert!(difference.contains("before"), "{difference}");
    }

    #[test]
    fn a_refusal_of_the_firmware_is_recorded_and_one_of_the_kernel_is_left_out() {
        let refused = of(willing().answers("KVM_SEV_LAUNCH_SECRET", |payload| refuses(GUEST, 0xb, payload)));
        let mut secrets = refused.lines.iter().filter(|line| line.command == "LAUNCH_SECRET");
        assert!(secrets.all(|line| line.status.as_deref() == Some("BAD_MEASUREMENT")));
        let kernels = of(willing().fails("KVM_SEV_LAUNCH_SECRET", Errno::INVALID));
        let mut secrets = kernels.lines.iter().filter(|line| line.command == "LAUNCH_SECRET");
        assert!(secrets.all(|line| line.left_out.as_deref().is_some_and(|why| why.contains("itself"))));
    }

    #[test]
    fn a_host_without_sev_is_told_what_is_missing() {
        let words = Host::new(Arc::new(FakeKernel::with_kvm())).err().unwrap().to_string();
        assert!(words.contains("/dev/sev"), "{words}");
    }

    #[test]
    fn the_model_answers_itself_and_every_field_of_a_transcript_counts() {
        let model = of_the_model();
        assert_eq!(of_the_model().difference(&model), Ok(model.lines.len() - 1));
        let read = Transcript::parse(&model.to_text().unwrap()).unwrap();
        assert_eq!((&read.head, &read.lines), (&model.head, &model.lines));
        let differs = |change: &dyn Fn(&mut Transcript), word: &str| {
            let mut other = Transcript { head: model.head.clone(), lines: model.lines.clone() };
            change(&mut other);
            let difference = model.difference(&other).unwrap_err();
            assert!(difference.contains(word), "{difference}");
        };
        let at = model.lines.iter().position(|line| line.case == "the owner's secret").unwrap();
        let step = format!("step {} LAUNCH_SECRET (the owner's secret)", at + 1);
        differs(&|other| other.lines[at].code = Some(0xb), &step);
        differs(&|other| other.lines[at].after.guest = "RUNNING".into(), &step);
        differs(&|other| other.lines[at].before.platform = "INIT".into(), &step);
        differs(&|other| other.lines[at].inputs[0].size = 51, &step);
        differs(&|other| other.lines[at].inputs[1].sha256 = String::new(), &step);
        differs(&|other| other.lines[at].case = String::new(), &step);
        differs(&|other| drop(other.lines.pop()), "not whole");
        let at = model.lines.iter().position(|line| !line.outputs.is_empty()).unwrap();
        differs(&|other| other.lines[at].outputs[0].size += 1, "the outputs");
        assert!(Transcript::parse("").is_err() && Transcript::parse("{}").is_err());
    }
}
