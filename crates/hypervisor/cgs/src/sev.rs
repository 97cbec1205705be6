//! AMD SEV and SEV-ES: `-object sev-guest`.
//!
//! The host builds the guest and the secure processor measures it: this module holds the order of the launch, its
//! states and everything the user is told. Owner's files are decoded and passed on; whether they are any good, only
//! the firmware says.

use std::io::Read;
use std::path::{Path, PathBuf};

use cloister_crypto::{Sha256, sha256};
use cloister_formats::sev::kernel_hashes::{KernelHashes, cmdline_bytes};
use cloister_formats::sev::ovmf::{self, Area, OvmfError, Table};
use cloister_formats::sev::policy::Policy;
use cloister_options::{Key, Kind, ObjectRole, ObjectSpec, ObjectType, OnOffAuto, Target};
use cloister_platform::arch::x86_64::VmType;
use cloister_platform::{
    ATTESTATION_LEN, CERTIFICATE_LEN, CHAIN_LEN, ID_LEN, MEASUREMENT_LEN, SevCapabilities, SevCommand,
    SevData, SevPlatformCommand, SevPlatformStatus, SevResult, VmError,
};

use crate::base64::decode_base64;
use crate::error::CgsError;
use crate::guest::{
    BootImage, ConfidentialGuest, Effects, HostFacts, MachineFacts, PlatformStep, ResetKind, Transition,
    VirtioDefault,
};
use crate::launch::{
    FirmwareImage, HostLaunch, KernelImage, LaunchHost, LaunchInfo, LaunchPort, LaunchState,
};
use crate::registry::Mechanism;
use crate::sev_error::{Refusal, SevFault};

/// The registry's line.
pub(crate) const MECHANISM: Mechanism = Mechanism {
    object: &ObjectType {
        name: TYPE,
        targets: Some(&[Target::X86_64]),
        role: ObjectRole::ConfidentialGuest,
        keys: &[
            Key::new("cbitpos", Kind::Unsigned(32), "Position of the C-bit, as the platform has it")
                .default("0"),
            Key::new("dh-cert-file", Kind::Text, "File with the owner's certificate in base64"),
            Key::new("handle", Kind::Unsigned(32), "Firmware handle of a guest to share the key with")
                .default("0"),
            Key::new("kernel-hashes", Kind::Bool, "Measure kernel, ramdisk and command line").default("off"),
            Key::new(
                "legacy-vm-type",
                Kind::OnOffAuto,
                "Initialise as old kernels do: no floating-point state in what SEV-ES measures",
            )
            .default("auto"),
            Key::new("policy", Kind::Unsigned(32), "The owner's policy").default("0x1"),
            Key::new("reduced-phys-bits", Kind::Unsigned(32), "Address bits that the guest loses").required(),
            Key::new("session-file", Kind::Text, "File with the owner's session in base64"),
            Key::new("sev-device", Kind::Text, "Device of the secure processor").default(DEVICE),
        ],
        doc: "AMD Secure Encrypted Virtualization",
    },
    make: Some(|object| Box::new(SevGuest::new(object))),
    make_implicit: None,
};

/// Why a launched guest stays where it is.
pub const MIGRATION_BLOCKER: &str = "SEV: Migration is not implemented";

/// What a platform says to `query-sev-capabilities`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformInfo {
    /// The PDH certificate.
    pub pdh: Vec<u8>,
    /// PEK, OCA and CEK.
    pub cert_chain: Vec<u8>,
    /// Identity of the first socket's chip.
    pub cpu0_id: Vec<u8>,
    /// Position of the C-bit.
    pub cbitpos: u8,
    /// Address bits that a guest loses: always 1, as QEMU says it.
    pub reduced_phys_bits: u8,
}

/// Asks a platform for everything that `query-sev-capabilities` tells.
pub fn platform_info(
    sev: Option<SevCapabilities>,
    ask: &dyn Fn(SevPlatformCommand) -> Result<SevResult, VmError>,
) -> Result<PlatformInfo, CgsError> {
    let sev = sev.ok_or(SevFault::NotInKvm)?;
    let export = |pdh_len, chain_len| ask(SevPlatformCommand::PdhCertExport { pdh_len, chain_len });
    let (pdh_len, chain_len) = match export(0, 0).map_err(door)? {
        SevResult { data: SevData::Lengths(pdh, chain), .. } => (pdh, chain),
        SevResult { ret: 0, .. } => (CERTIFICATE_LEN, CHAIN_LEN),
        refused => return Err(SevFault::PdhCertExport(refusal(&refused)).into()),
    };
    let (pdh, cert_chain) = match done(export(pdh_len, chain_len), SevFault::PdhCertExport)? {
        SevData::Pair(pdh, chain) => (pdh, chain),
        other => return Err(defect("PDH_CERT_EXPORT", &other)),
    };
    let cpu0_id = match done(ask(SevPlatformCommand::GetId { len: ID_LEN }), SevFault::GetId)? {
        SevData::Bytes(id) => id,
        other => return Err(defect("GET_ID", &other)),
    };
    Ok(PlatformInfo { pdh, cert_chain, cpu0_id, cbitpos: sev.cbitpos, reduced_phys_bits: 1 })
}

/// A guest of `-object sev-guest`.
#[derive(Debug)]
pub struct SevGuest {
    options: Options,
    state: LaunchState,
    api: SevPlatformStatus,
    handle: u32,
    /// Whether something keeps memory from being given back that cannot stop.
    needs_discard: bool,
    only_migratable: bool,
    secret_area: Option<Area>,
    hashes_area: Result<Area, OvmfError>,
    reset_address: Option<u32>,
    measurement: Vec<u8>,
}

/// What the object says.
#[derive(Debug)]
struct Options {
    device: String,
    cbitpos: u32,
    reduced_phys_bits: u32,
    kernel_hashes: bool,
    dh_cert_file: Option<PathBuf>,
    session_file: Option<PathBuf>,
    policy: Policy,
    handle: u32,
    legacy: bool,
}

impl SevGuest {
    fn new(object: &ObjectSpec) -> Self {
        let given = &object.properties;
        let number =
            |name, default| given.number(name).map_or(default, |n| u32::try_from(n).unwrap_or(u32::MAX));
        let file = |name| given.text(name).map(PathBuf::from);
        let options = Options {
            device: given.text("sev-device").unwrap_or(DEVICE).to_owned(),
            cbitpos: number("cbitpos", 0),
            reduced_phys_bits: number("reduced-phys-bits", 0),
            kernel_hashes: given.bool("kernel-hashes").unwrap_or(false),
            dh_cert_file: file("dh-cert-file"),
            session_file: file("session-file"),
            policy: Policy(number("policy", Policy::NODBG)),
            handle: number("handle", 0),
            // The newer VM type is needed by no option that there is.
            legacy: given.on_off_auto("legacy-vm-type") != Some(OnOffAuto::Off),
        };
        Self {
            handle: options.handle,
            options,
            state: LaunchState::Uninit,
            api: SevPlatformStatus::default(),
            needs_discard: false,
            only_migratable: false,
            secret_area: None,
            hashes_area: Err(OvmfError::NoHashesArea),
            reset_address: None,
            measurement: Vec::new(),
        }
    }

    fn es(&self) -> bool {
        self.options.policy.has(Policy::ES)
    }

    fn change(&mut self, to: LaunchState) {
        tracing::trace!(target: "kvm_sev_change_state", before = self.state.name(), after = to.name());
        self.state = to;
    }

    /// The platform is fit for the object; everything before the first command for the guest.
    fn check_platform(&mut self, host: &LaunchHost, port: &dyn LaunchPort) -> Result<(), CgsError> {
        let position = host.sev.map_or(0, |sev| u32::from(sev.cbitpos));
        let asked = self.options.cbitpos;
        if host.sev.is_none() || position != asked {
            return Err(SevFault::Cbitpos { host: position, asked }.into());
        }
        if !(1..=63).contains(&self.options.reduced_phys_bits) {
            return Err(SevFault::ReducedPhysBits(self.options.reduced_phys_bits).into());
        }
        // The platform's own secure processor needs no device; another must be one that could be opened.
        if self.options.device != DEVICE {
            let open = std::fs::OpenOptions::new().read(true).write(true).open(&self.options.device);
            open.map_err(|why| SevFault::Device { path: self.options.device.clone(), why: errno(&why) })?;
        }
        self.api = match done(port.platform(SevPlatformCommand::Status), SevFault::Status)? {
            SevData::Platform(status) => status,
            other => return Err(defect("PLATFORM_STATUS", &other)),
        };
        if self.es() {
            if host.no_irqchip {
                return Err(SevFault::Irqchip.into());
            }
            if self.api.flags & SevPlatformStatus::ES == 0 {
                return Err(SevFault::NoEs.into());
            }
        }
        Ok(())
    }

    fn launch_start(&mut self, port: &dyn LaunchPort) -> Result<(), CgsError> {
        let session = self.options.session_file.as_deref().map(read_base64).transpose()?;
        let dh_cert = self.options.dh_cert_file.as_deref().map(read_base64).transpose()?;
        tracing::trace!(
            target: "kvm_sev_launch_start",
            policy = format_args!("{:#x}", self.options.policy.0),
            session = session.is_some(),
            pdh = dh_cert.is_some()
        );
        // Linux copies no blob of no length.
        if [&session, &dh_cert].into_iter().flatten().any(Vec::is_empty) {
            return Err(SevFault::LaunchStart(Refusal { ret: -EINVAL, fw_error: 0 }).into());
        }
        let command = SevCommand::LaunchStart {
            policy: self.options.policy.0,
            handle: self.options.handle,
            dh_cert: dh_cert.unwrap_or_default(),
            session: session.unwrap_or_default(),
        };
        match done(port.guest(command), SevFault::LaunchStart)? {
            SevData::Handle(handle) => self.handle = handle,
            other => return Err(defect("LAUNCH_START", &other)),
        }
        self.change(LaunchState::LaunchUpdate);
        Ok(())
    }

    fn update_data(&self, guest_physical: u64, len: u64, port: &dyn LaunchPort) -> Result<(), CgsError> {
        tracing::trace!(
            target: "kvm_sev_launch_update_data",
            addr = format_args!("{guest_physical:#x}"),
            len = format_args!("{len:#x}")
        );
        let command = SevCommand::LaunchUpdateData { guest_physical, len };
        done(port.guest(command), SevFault::LaunchUpdate).map(drop)
    }

    /// Asks for the length, then for the measurement.
    fn measure(&self, port: &dyn LaunchPort) -> Result<Vec<u8>, CgsError> {
        let ask = |len| port.guest(SevCommand::LaunchMeasure { len });
        let len = length(ask(0).map_err(door)?, MEASUREMENT_LEN).map_err(SevFault::LaunchMeasure)?;
        match done(ask(len), SevFault::LaunchMeasure)? {
            SevData::Bytes(bytes) => Ok(bytes),
            other => Err(defect("LAUNCH_MEASURE", &other)),
        }
    }
}

impl ConfidentialGuest for SevGuest {
    fn type_name(&self) -> &'static str {
        TYPE
    }

    fn requested(&self) -> bool {
        true
    }

    fn check(&self, _host: &HostFacts, _machine: &MachineFacts) -> Result<(), CgsError> {
        // The platform is checked in the order of the launch.
        Ok(())
    }

    fn init(&mut self, machine: &MachineFacts) -> Result<Effects, CgsError> {
        self.needs_discard = machine.needs_discard;
        self.only_migratable = machine.only_migratable;
        Ok(Effects { merging_off: true, discard: Some(false), warnings: Vec::new() })
    }

    fn on_boot_image(&mut self, _image: &BootImage) -> Result<Effects, CgsError> {
        Ok(Effects::default())
    }

    fn on_transition(
        &mut self,
        _transition: Transition,
        _machine: &MachineFacts,
    ) -> Result<Effects, CgsError> {
        // The guest is protected from its first instruction to its last.
        Ok(Effects::default())
    }

    fn on_reset(&mut self, _kind: ResetKind) -> &'static [PlatformStep] {
        &[]
    }

    fn migration_blockers(&self) -> &'static [&'static str] {
        match self.state {
            LaunchState::Running => &[MIGRATION_BLOCKER],
            LaunchState::Uninit | LaunchState::LaunchUpdate | LaunchState::LaunchSecret => &[],
        }
    }

    fn virtio_defaults(&self) -> &'static [VirtioDefault] {
        &[
            VirtioDefault { property: "disable-legacy", value: true },
            VirtioDefault { property: "iommu_platform", value: true },
        ]
    }

    fn monitor_commands(&self) -> &'static [&'static str] {
        &["sev-inject-launch-secret", "query-sev-attestation-report"]
    }

    fn secure(&self) -> Option<bool> {
        Some(self.state != LaunchState::Uninit)
    }

    fn host_launch(&mut self) -> Option<&mut dyn HostLaunch> {
        Some(self)
    }
}

impl HostLaunch for SevGuest {
    fn vm_type(&self) -> VmType {
        match (self.options.legacy, self.es()) {
            (true, _) => VmType::Default,
            (false, false) => VmType::Sev,
            (false, true) => VmType::SevEs,
        }
    }

    fn begin(&mut self, host: &LaunchHost, port: &dyn LaunchPort) -> Result<(), CgsError> {
        self.check_platform(host, port)?;
        tracing::trace!(target: "kvm_sev_init", es = self.es());
        let command = match self.vm_type() {
            VmType::Default => SevCommand::Init { es: self.es() },
            VmType::Sev | VmType::SevEs => SevCommand::Init2 { vmsa_features: 0, flags: 0, ghcb_version: 0 },
        };
        done(port.guest(command), SevFault::Init)?;
        self.launch_start(port)?;
        match self.needs_discard {
            true => Err(SevFault::Discard.into()),
            false => Ok(()),
        }
    }

    fn on_firmware(
        &mut self,
        image: &FirmwareImage<'_>,
        port: &dyn LaunchPort,
    ) -> Result<Vec<String>, CgsError> {
        let mut said = Vec::new();
        match Table::find(image.bytes) {
            Ok(Some(table)) => {
                self.secret_area = table.secret_area();
                self.hashes_area = table.hashes_area();
            }
            Ok(None) => {}
            Err(why) => said.push(why.to_string()),
        }
        if self.es() {
            let address = ovmf::reset_address(image.bytes).map_err(SevFault::ResetVector)?;
            self.reset_address = Some(address);
        }
        self.update_data(image.guest_physical, image.bytes.len() as u64, port)?;
        Ok(said)
    }

    fn reset_address(&self) -> Option<u32> {
        self.reset_address
    }

    fn on_kernel(&mut self, kernel: &KernelImage<'_>, port: &dyn LaunchPort) -> Result<(), CgsError> {
        if !self.options.kernel_hashes {
            return Ok(());
        }
        let area = self.hashes_area.map_err(SevFault::Ovmf)?;
        let mut whole = Sha256::new();
        whole.update(kernel.setup);
        whole.update(kernel.kernel);
        let table = KernelHashes {
            cmdline: sha256(&cmdline_bytes(kernel.cmdline)),
            initrd: sha256(kernel.initrd),
            kernel: whole.finish(),
        }
        .encode();
        let base = u64::from(area.base);
        port.locate(base, table.len() as u64).map_err(|_| SevFault::HashesMemory)?;
        port.write(base, &table).map_err(|_| SevFault::HashesMemory)?;
        self.update_data(base, table.len() as u64, port)
    }

    fn on_machine_ready(&mut self, port: &dyn LaunchPort) -> Result<Vec<String>, CgsError> {
        if self.es() {
            done(port.guest(SevCommand::LaunchUpdateVmsa), SevFault::LaunchUpdateVmsa)?;
        }
        // As with QEMU, a launch whose measurement fails goes on; it can never be finished.
        let measurement = match self.measure(port) {
            Ok(measurement) => measurement,
            Err(CgsError::Sev(why)) => return Ok(vec![why.to_string()]),
            Err(other) => return Err(other),
        };
        self.change(LaunchState::LaunchSecret);
        tracing::trace!(
            target: "kvm_sev_launch_measurement",
            measurement = crate::base64::encode_base64(&measurement)
        );
        self.measurement = measurement;
        Ok(Vec::new())
    }

    fn finish(&mut self, port: &dyn LaunchPort) -> Result<(), CgsError> {
        if self.state == LaunchState::Running {
            return Ok(());
        }
        tracing::trace!(target: "kvm_sev_launch_finish", "the guest is let go");
        done(port.guest(SevCommand::LaunchFinish), SevFault::LaunchFinish)?;
        self.change(LaunchState::Running);
        match self.only_migratable {
            true => Err(CgsError::OnlyMigratable(MIGRATION_BLOCKER)),
            false => Ok(()),
        }
    }

    fn resettable(&self) -> bool {
        !self.es()
    }

    fn info(&self) -> LaunchInfo {
        LaunchInfo {
            api_major: self.api.api_major,
            api_minor: self.api.api_minor,
            build: self.api.build,
            state: self.state,
            policy: self.options.policy.0,
            handle: self.handle,
        }
    }

    fn measurement(&self) -> Result<Vec<u8>, CgsError> {
        match self.state >= LaunchState::LaunchSecret {
            true => Ok(self.measurement.clone()),
            false => Err(SevFault::NoMeasurement.into()),
        }
    }

    fn inject_secret(
        &mut self,
        header: &str,
        secret: &str,
        guest_physical: Option<u64>,
        port: &dyn LaunchPort,
    ) -> Result<(), CgsError> {
        let guest_physical = match guest_physical {
            Some(address) => address,
            // An area at address 0 is used as it is, as QEMU does.
            None => self.secret_area.map(|area| u64::from(area.base)).ok_or(SevFault::NoSecretArea)?,
        };
        if self.state != LaunchState::LaunchSecret {
            return Err(SevFault::NotInLaunchSecret(self.state as u32).into());
        }
        let header = decode_base64(header.as_bytes());
        if header.is_empty() {
            return Err(SevFault::SecretHeader.into());
        }
        let payload = decode_base64(secret.as_bytes());
        if payload.is_empty() {
            return Err(SevFault::SecretData.into());
        }
        port.locate(guest_physical, payload.len() as u64).map_err(SevFault::SecretAddress)?;
        tracing::trace!(
            target: "kvm_sev_launch_secret",
            gpa = format_args!("{guest_physical:#x}"),
            len = payload.len()
        );
        let command = SevCommand::LaunchSecret { header, guest_physical, payload };
        done(port.guest(command), SevFault::LaunchSecret).map(drop)
    }

    fn attestation_report(&self, mnonce: &str, port: &dyn LaunchPort) -> Result<Vec<u8>, CgsError> {
        let nonce = decode_base64(mnonce.as_bytes());
        let mnonce: [u8; 16] = nonce.as_slice().try_into().map_err(|_| SevFault::Mnonce(nonce.len()))?;
        let ask = |len| port.guest(SevCommand::AttestationReport { mnonce, len });
        let len = length(ask(0).map_err(door)?, ATTESTATION_LEN).map_err(SevFault::ReportLength)?;
        let report = match done(ask(len), SevFault::Report)? {
            SevData::Bytes(report) => report,
            other => return Err(defect("ATTESTATION", &other)),
        };
        tracing::trace!(
            target: "kvm_sev_attestation_report",
            mnonce = crate::base64::encode_base64(&mnonce),
            len = report.len()
        );
        Ok(report)
    }
}

const TYPE: &str = "sev-guest";
/// The device of a Linux host with one.
const DEVICE: &str = "/dev/sev";
/// Most bytes read of an owner's file; Linux takes blobs of 16 KiB, which are less as base64.
const FILE_LIMIT: u64 = 1 << 20;
/// Linux, include/uapi/asm-generic/errno-base.h.
const EINVAL: i32 = 22;

fn read_base64(path: &Path) -> Result<Vec<u8>, SevFault> {
    let mut text = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_LIMIT).read_to_end(&mut text));
    read.map_err(|why| SevFault::File { path: path.display().to_string(), why: errno(&why) })?;
    Ok(decode_base64(&text))
}

/// An error of the system in the C library's words.
fn errno(why: &std::io::Error) -> String {
    let text = why.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn refusal(result: &SevResult) -> Refusal {
    Refusal { ret: result.ret, fw_error: result.fw_error }
}

fn done(
    answer: Result<SevResult, VmError>,
    fault: impl FnOnce(Refusal) -> SevFault,
) -> Result<SevData, CgsError> {
    match answer.map_err(door)? {
        SevResult { ret: 0, data, .. } => Ok(data),
        refused => Err(fault(refusal(&refused)).into()),
    }
}

/// The length that a query was answered with.
fn length(answer: SevResult, usual: u32) -> Result<u32, Refusal> {
    match answer {
        SevResult { data: SevData::Length(length), .. } => Ok(length),
        SevResult { ret: 0, .. } => Ok(usual),
        refused => Err(refusal(&refused)),
    }
}

fn door(why: VmError) -> CgsError {
    CgsError::Platform(why.to_string())
}

fn defect(command: &str, answer: &SevData) -> CgsError {
    CgsError::Platform(format!(
        "the platform answered {answer:?} to {command}: this is a defect of the platform"
    ))
}
