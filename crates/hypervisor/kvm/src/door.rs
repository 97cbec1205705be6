//! The upper door on a real kernel, for x86-64 guests under SEV and SEV-ES.
//!
//! A request becomes the ioctls that it stands for, in the order that KVM wants: the VM, its memory, `KVM_SEV_INIT`
//! (or one of its kin), registration of the memory, and only then vCPUs. What kernel and firmware say comes back as it
//! is. Answers that cannot be are refused in words.
//!
//! It runs no CPU: the launch protocol is what it is for. It judges no policy, state or blob. What is encrypted it knows
//! from the commands that it gave; what a guest shares KVM does not tell.

use crate::error::{Errno, Error, FirmwareStatus};
use crate::kernel::Kernel;
use crate::memory::GuestMapping;
use crate::payload::GuestRange;
use crate::probe::{Cpuid, processor, sev_cpu};
use crate::sev::{Init2, LaunchStart, Packet, ReceiveStart, SendStart, SevVm};
use crate::sev_device::{Rooms, SevDevice};
use crate::vm::{Capability, Kvm, Vcpu, Vm, VmType};
use cloister_arch::x86_64::{self, CpuRequest, CpuResponse, PAGE_SIZE, RESET_ADDRESS, VmConfig, runs};
use cloister_platform::{
    Capabilities, Door, MemoryMap, PageCounts, PageRun, PageState, Request, Response, SevCapabilities,
    SevCommand, SevData, SevGuestStatus, SevPlatformCommand, SevPlatformStatus, SevResult,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why no x86-64 vCPU enters its guest.
const NO_CORE: &str = "no CPU back end can run x86-64 guests in this version";
/// Most runs in one answer.
const MAX_RUNS: usize = 4096;

/// KVM on a kernel: one VM, and the platform behind it.
#[derive(Debug)]
pub struct KvmDoor<K: Kernel> {
    kernel: Arc<K>,
    cpuid: Cpuid,
    kvm: Kvm,
    device: SevDevice,
    guest: Mutex<Option<Guest>>,
}

#[derive(Debug)]
struct Guest {
    config: VmConfig,
    /// Where each vCPU begins.
    reset_addresses: Vec<u32>,
    vcpus: Vec<Vcpu>,
    /// The state of the vCPUs is encrypted.
    sealed: bool,
    encrypted: Pages,
    sev: SevVm,
    vm: Vm,
    memory: Arc<GuestMapping>,
}

/// Why a command ended early.
#[derive(Debug)]
enum Trouble {
    /// Refused by the kernel or by the firmware.
    Refused(SevResult),
    /// The command was not carried out, or the answer cannot be.
    Words(String),
}

type Outcome<T> = Result<T, Trouble>;

impl<K: Kernel + 'static> KvmDoor<K> {
    /// Opens `/dev/kvm` and `/dev/sev`. Without either no guest of this door can be launched.
    pub fn open(kernel: K, cpuid: Cpuid) -> Result<Self, Error> {
        let kernel = Arc::new(kernel);
        let shared = Arc::clone(&kernel) as Arc<dyn Kernel>;
        let kvm = Kvm::open(Arc::clone(&shared))?;
        let device = SevDevice::open(shared)?;
        Ok(Self { kernel, cpuid, kvm, device, guest: Mutex::new(None) })
    }

    /// The kernel that it asks.
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    fn capabilities(&self) -> Result<Capabilities, Error> {
        let cpu = processor(&self.cpuid).unwrap_or_else(|| "a processor without a name".into());
        Ok(Capabilities {
            platform: format!("KVM on {cpu}"),
            model: false,
            max_cpus: self.max_cpus()?,
            sev: self.sev_capabilities(),
            ..Capabilities::default()
        })
    }

    /// Of a platform whose firmware does not answer nothing is said.
    fn sev_capabilities(&self) -> Option<SevCapabilities> {
        let cpu = sev_cpu(&self.cpuid);
        if !cpu.sev {
            return None;
        }
        let status = match self.device.platform_status() {
            Ok(status) => status,
            Err(why) => {
                tracing::warn!(target: "sev", %why, "the secure processor does not tell its version");
                return None;
            }
        };
        Some(SevCapabilities {
            cbitpos: cpu.c_bit,
            reduced_phys_bits: cpu.reduced_phys_bits,
            es: cpu.sev_es,
            max_asid: cpu.max_guests,
            min_sev_asid: cpu.min_non_es_asid,
            api_major: status.api_major,
            api_minor: status.api_minor,
            build: status.build,
        })
    }

    /// Linux, Documentation/virt/kvm/api.rst, 4.7: what to take where the kernel does not say.
    fn max_cpus(&self) -> Result<u16, Error> {
        let most = match self.kvm.check(Capability::MAX_VCPUS)? {
            0 => match self.kvm.check(Capability::NR_VCPUS)? {
                0 => 4,
                usual => usual,
            },
            most => most,
        };
        Ok(u16::try_from(most).unwrap_or(u16::MAX))
    }

    fn create(&self, config: VmConfig) -> Result<MemoryMap, String> {
        let mut guest = self.lock();
        if guest.is_some() {
            return Err("this door has its VM already: open another door".into());
        }
        config.check()?;
        let words = |why: Error| why.to_string();
        let kind = VmType(config.vm_type.number());
        if kind != VmType::DEFAULT && self.kvm.check(Capability::VM_TYPES).map_err(words)? >> kind.0 & 1 == 0
        {
            return Err(format!(
                "vm-type {} not supported by KVM: use a kernel from 6.10 on, turn the mechanism on (kvm_amd sev=1, \
                 sev_es=1; firmware set-up), or set legacy-vm-type=on",
                type_name(config.vm_type)
            ));
        }
        let most = self.max_cpus().map_err(words)?;
        if config.vcpus > most {
            return Err(format!("{} vCPUs: KVM on this host takes {most} (-smp)", config.vcpus));
        }
        let read_only = config.slots.iter().any(|slot| slot.read_only);
        if read_only && self.kvm.check(Capability::READONLY_MEM).map_err(words)? == 0 {
            return Err("pflash with kvm requires KVM readonly memory support".into());
        }
        let memory = GuestMapping::new(config.memory_bytes).map_err(|why| {
            format!("cannot make {} bytes of guest memory: {why}; give less (-m)", config.memory_bytes)
        })?;
        let memory = Arc::new(memory);
        let vm = self.kvm.create_vm(kind).map_err(words)?;
        for (number, slot) in (0u32..).zip(&config.slots) {
            vm.set_memory(number, slot, &memory).map_err(words)?;
        }
        let map = MemoryMap {
            memory_fd: memory.memory_fd(),
            access_fd: memory.access_fd(),
            size: config.memory_bytes,
            slots: config.slots.clone(),
        };
        *guest = Some(Guest {
            reset_addresses: vec![RESET_ADDRESS; usize::from(config.vcpus)],
            config,
            vcpus: Vec::new(),
            sealed: false,
            encrypted: Pages::default(),
            sev: vm.sev(&self.device),
            vm,
            memory,
        });
        Ok(map)
    }

    fn platform_command(&self, command: SevPlatformCommand) -> Outcome<SevData> {
        let device = &self.device;
        match command {
            SevPlatformCommand::Status => {
                let status = device.platform_status()?;
                Ok(SevData::Platform(SevPlatformStatus {
                    api_major: status.api_major,
                    api_minor: status.api_minor,
                    state: status.state.0,
                    flags: status.flags,
                    build: status.build,
                    guest_count: status.guests,
                }))
            }
            SevPlatformCommand::PdhCertExport { pdh_len, chain_len } => {
                two(device.pdh_cert_export_into([pdh_len, chain_len])?)
            }
            SevPlatformCommand::GetId { len } => one(device.get_id2_into(len)?),
            SevPlatformCommand::PekCsr { len } => one(device.pek_csr_into(len)?),
            SevPlatformCommand::PekGen => nothing(device.pek_gen()),
            SevPlatformCommand::PdhGen => nothing(device.pdh_gen()),
            SevPlatformCommand::PekCertImport { pek, oca } => nothing(device.pek_cert_import(&pek, &oca)),
            SevPlatformCommand::FactoryReset => nothing(device.factory_reset()),
        }
    }

    fn with_guest(&self, work: impl FnOnce(&mut Guest) -> Response) -> Response {
        match &mut *self.lock() {
            Some(guest) => work(guest),
            None => Response::Refused("no x86-64 VM was created behind this door".into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Guest>> {
        self.guest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Kernel + 'static> Door for KvmDoor<K> {
    fn call(&self, request: Request) -> Response {
        match request {
            Request::Capabilities => match self.capabilities() {
                Ok(capabilities) => Response::Capabilities(Box::new(capabilities)),
                Err(why) => Response::Refused(why.to_string()),
            },
            Request::CreateX86Vm(config) => {
                self.create(*config).map_or_else(Response::Refused, Response::Created)
            }
            Request::X86Cpu(request) => self.with_guest(|guest| Response::X86Cpu(guest.cpu(&request))),
            Request::Run { .. } => Response::Refused(NO_CORE.into()),
            Request::Sev(command) => self.with_guest(|guest| {
                let name = command.name();
                answer(name, guest.command(command))
            }),
            Request::SevPlatform(command) => answer("SEV_ISSUE_CMD", self.platform_command(command)),
            // The host may touch every page: it finds ciphertext. And KVM decodes no code.
            Request::HostAccess { .. } | Request::HostWrote { .. } => self.with_guest(|_| Response::Done),
            Request::PageCounts => self.with_guest(|guest| Response::PageCounts(guest.counts())),
            Request::PageStates { first, count } => self.with_guest(|guest| guest.states(first, count)),
            Request::SetPrivate { .. } => Response::Refused(
                "this mechanism does not convert pages on the hypervisor's request: its guests share pages \
                 themselves"
                    .into(),
            ),
            Request::CreateVm(_)
            | Request::Cpu(_)
            | Request::Pv(_)
            | Request::RegisterDoorbell { .. }
            | Request::RemoveDoorbell { .. } => Response::Refused(
                "this is KVM for x86-64 guests: z/Architecture guests run on the software platform in this version \
                 (-accel soft)"
                    .into(),
            ),
        }
    }
}

impl Guest {
    fn cpu(&mut self, request: &CpuRequest) -> CpuResponse {
        let (CpuRequest::SetResetAddress { cpu, .. } | CpuRequest::ResetAddress { cpu }) = *request;
        let number = usize::from(cpu);
        let Some(slot) = self.reset_addresses.get_mut(number) else {
            return CpuResponse::Refused(format!("there is no vCPU {cpu}: the VM has {}", self.config.vcpus));
        };
        let address = match *request {
            CpuRequest::ResetAddress { .. } => return CpuResponse::ResetAddress(*slot),
            CpuRequest::SetResetAddress { address, .. } => address,
        };
        if self.sealed {
            return CpuResponse::Refused("the vCPU's state is encrypted: it can no longer be changed".into());
        }
        if let Some(vcpu) = self.vcpus.get(number)
            && let Err(why) = vcpu.set_reset_state(address, self.config.cpu_signature)
        {
            return CpuResponse::Refused(why.to_string());
        }
        *slot = address;
        CpuResponse::Done
    }

    fn command(&mut self, command: SevCommand) -> Outcome<SevData> {
        let sev = &self.sev;
        match command {
            SevCommand::Init { es } => {
                if es {
                    sev.es_init()?
                } else {
                    sev.init()?
                };
                self.initialised()
            }
            SevCommand::Init2 { vmsa_features, flags, ghcb_version } => {
                sev.init2(Init2 { vmsa_features, flags, ghcb_version })?;
                self.initialised()
            }
            SevCommand::LaunchStart { policy, handle, dh_cert, session } => {
                let start = LaunchStart { handle, policy, certificate: &dh_cert, session: &session };
                handle_of("KVM_SEV_LAUNCH_START", sev.launch_start(start)?)
            }
            SevCommand::LaunchUpdateData { guest_physical, len } => {
                for run in self.runs(guest_physical, len)? {
                    sev.launch_update_data(self.range(run)?)?;
                    self.encrypted.add(run);
                }
                Ok(SevData::None)
            }
            SevCommand::LaunchUpdateVmsa => {
                nothing(sev.launch_update_vmsa())?;
                self.sealed = true;
                Ok(SevData::None)
            }
            SevCommand::LaunchMeasure { len } => one(sev.launch_measure_into(len)?),
            SevCommand::LaunchSecret { header, guest_physical, payload } => {
                let run = self.one_run(guest_physical, payload.len() as u64)?;
                nothing(sev.launch_secret(&Packet { header, data: payload }, self.range(run)?))?;
                self.encrypted.add(run);
                Ok(SevData::None)
            }
            SevCommand::LaunchFinish => nothing(sev.launch_finish()),
            SevCommand::GuestStatus => {
                let status = sev.guest_status()?;
                let (handle, policy, state) = (status.handle, status.policy, status.state.0);
                Ok(SevData::Guest(SevGuestStatus { handle, policy, state }))
            }
            SevCommand::AttestationReport { mnonce, len } => one(sev.attestation_report_into(mnonce, len)?),
            SevCommand::DbgDecrypt { guest_physical, len } => {
                let mut out = Vec::new();
                for run in self.runs(guest_physical, len.into())? {
                    out.extend_from_slice(&sev.dbg_decrypt(self.range(run)?)?);
                }
                Ok(SevData::Bytes(out))
            }
            SevCommand::DbgEncrypt { guest_physical, bytes } => {
                let mut rest = bytes.as_slice();
                for run in self.runs(guest_physical, bytes.len() as u64)? {
                    let (part, tail) = rest.split_at(rest.len().min(run.1 as usize));
                    sev.dbg_encrypt(part, self.range(run)?)?;
                    self.encrypted.add(run);
                    rest = tail;
                }
                Ok(SevData::None)
            }
            SevCommand::SendStart { pdh, platform, amd, session_len } => {
                let start = SendStart { policy: 0, pdh: &pdh, platform: &platform, amd: &amd };
                one(sev.send_start_into(start, session_len)?)
            }
            SevCommand::SendUpdateData { guest_physical, len, header_len, payload_len } => {
                let run = self.one_run(guest_physical, len.into())?;
                two(sev.send_update_data_into(self.range(run)?, [header_len, payload_len])?)
            }
            SevCommand::SendFinish => nothing(sev.send_finish()),
            SevCommand::SendCancel => nothing(sev.send_cancel()),
            SevCommand::ReceiveStart { policy, handle, pdh, session } => {
                let start = ReceiveStart { handle, policy, pdh: &pdh, session: &session };
                handle_of("KVM_SEV_RECEIVE_START", sev.receive_start(start)?)
            }
            SevCommand::ReceiveUpdateData { header, guest_physical, payload } => {
                let run = self.one_run(guest_physical, payload.len() as u64)?;
                nothing(sev.receive_update_data(&Packet { header, data: payload }, self.range(run)?))?;
                self.encrypted.add(run);
                Ok(SevData::None)
            }
            SevCommand::ReceiveFinish => nothing(sev.receive_finish()),
        }
    }

    /// What can only follow KVM_SEV_INIT: KVM pins encrypted memory, and makes vCPUs of a VM that it knows to be SEV's.
    fn initialised(&mut self) -> Outcome<SevData> {
        // That INIT itself has succeeded is not what the caller would take a refusal's number for.
        let words = |why: Error| Trouble::Words(why.to_string());
        let all = self.range((0, self.config.memory_bytes))?;
        self.vm.register_region(all).map_err(words)?;
        for (number, address) in (0u32..).zip(&self.reset_addresses) {
            let vcpu = self.vm.create_vcpu(number).map_err(words)?;
            vcpu.set_reset_state(*address, self.config.cpu_signature).map_err(words)?;
            self.vcpus.push(vcpu);
        }
        Ok(SevData::None)
    }

    /// Runs of the store behind guest memory, as (offset, length).
    fn runs(&self, guest_physical: u64, len: u64) -> Outcome<Vec<(u64, u64)>> {
        if len == 0 || len > u32::MAX.into() || guest_physical.checked_add(len).is_none() {
            return Err(refusal(Errno::INVALID, FirmwareStatus::SUCCESS));
        }
        runs(&self.config.slots, guest_physical, len)
            .ok_or_else(|| refusal(Errno::FAULT, FirmwareStatus::SUCCESS))
    }

    /// Guest memory that must be in one piece. Whether it is so in physical memory is the kernel's to say.
    fn one_run(&self, guest_physical: u64, len: u64) -> Outcome<(u64, u64)> {
        match self.runs(guest_physical, len)?[..] {
            [run] => Ok(run),
            _ => Err(refusal(Errno::INVALID, FirmwareStatus::SUCCESS)),
        }
    }

    fn range(&self, (offset, len): (u64, u64)) -> Outcome<GuestRange<'_>> {
        let slice = self.memory.slice(offset, len);
        let slice = slice.ok_or_else(|| Trouble::Words(format!("no {len:#x} bytes at {offset:#x}")))?;
        Ok(GuestRange::of(&slice))
    }

    fn counts(&self) -> PageCounts {
        let exported = self.encrypted.count();
        let shared = (self.config.memory_bytes / PAGE_SIZE).saturating_sub(exported);
        PageCounts { exported, shared, ..PageCounts::default() }
    }

    fn states(&self, first: u64, count: u64) -> Response {
        let end = first.saturating_add(count).min(self.config.memory_bytes / PAGE_SIZE);
        let mut runs = Vec::new();
        let mut at = first;
        while at < end && runs.len() < MAX_RUNS {
            let (encrypted, until) = self.encrypted.at(at);
            let until = until.min(end);
            let state = if encrypted { PageState::Exported } else { PageState::Shared };
            runs.push(PageRun { first: at, pages: until - at, state });
            at = until;
        }
        Response::PageStates { runs, next: (at < end).then_some(at) }
    }
}

/// Pages that the firmware has encrypted: first page and the one after the last, apart from each other.
#[derive(Debug, Default)]
struct Pages(BTreeMap<u64, u64>);

impl Pages {
    fn add(&mut self, (offset, len): (u64, u64)) {
        let (mut first, mut end) = (offset / PAGE_SIZE, (offset + len).div_ceil(PAGE_SIZE));
        while let Some((&from, &to)) = self.0.range(..=end).next_back().filter(|(_, to)| **to >= first) {
            self.0.remove(&from);
            (first, end) = (first.min(from), end.max(to));
        }
        self.0.insert(first, end);
    }

    /// Whether a page is encrypted, and up to where that holds.
    fn at(&self, page: u64) -> (bool, u64) {
        match self.0.range(..=page).next_back() {
            Some((_, &end)) if end > page => (true, end),
            _ => (false, self.0.range(page..).next().map_or(u64::MAX, |(&first, _)| first)),
        }
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|(first, end)| end - first).sum()
    }
}

impl From<Error> for Trouble {
    fn from(why: Error) -> Self {
        match why {
            // A kernel that refuses with success would be taken at its word.
            Error::Sev { errno: errno @ Errno(1..), status, .. } => {
                tracing::debug!(target: "sev", %why, "refused");
                refusal(errno, status)
            }
            other => Self::Words(other.to_string()),
        }
    }
}

fn refusal(errno: Errno, status: FirmwareStatus) -> Trouble {
    let fw_error = if status == FirmwareStatus::NO_CALL { 0 } else { status.0 };
    Trouble::Refused(SevResult { ret: -errno.0, fw_error, data: SevData::None })
}

/// The refusal that tells how much room is needed.
fn more_room(data: SevData) -> Trouble {
    let (ret, fw_error) = (-Errno::INPUT_OUTPUT.0, FirmwareStatus::INVALID_LENGTH.0);
    Trouble::Refused(SevResult { ret, fw_error, data })
}

fn nothing(done: Result<(), Error>) -> Outcome<SevData> {
    done?;
    Ok(SevData::None)
}

fn one(rooms: Rooms<1>) -> Outcome<SevData> {
    match rooms {
        Rooms::Bytes([bytes]) => Ok(SevData::Bytes(bytes)),
        Rooms::Needs([length]) => Err(more_room(SevData::Length(length))),
    }
}

fn two(rooms: Rooms<2>) -> Outcome<SevData> {
    match rooms {
        Rooms::Bytes([first, second]) => Ok(SevData::Pair(first, second)),
        Rooms::Needs([first, second]) => Err(more_room(SevData::Lengths(first, second))),
    }
}

/// SEV API, LAUNCH_START: 0 is no guest.
fn handle_of(command: &'static str, handle: u32) -> Outcome<SevData> {
    match handle {
        0 => Err(Error::Answer { command, what: "success, and the handle of no guest" }.into()),
        handle => Ok(SevData::Handle(handle)),
    }
}

fn answer(name: &str, outcome: Outcome<SevData>) -> Response {
    let result = match outcome {
        Ok(data) => SevResult { data, ..SevResult::default() },
        Err(Trouble::Refused(result)) => result,
        Err(Trouble::Words(why)) => return Response::Refused(why),
    };
    let SevResult { ret, fw_error, .. } = result;
    tracing::debug!(target: "sev", command = name, ret, fw_error, "SEV command");
    Response::Sev(result)
}

fn type_name(kind: x86_64::VmType) -> &'static str {
    match kind {
        x86_64::VmType::Default => "default",
        x86_64::VmType::Sev => "SEV",
        x86_64::VmType::SevEs => "SEV-ES",
    }
}

#[cfg(test)]
mod tests;
