//! What goes wrong with AMD SEV, in QEMU's words: people search for them.

use cloister_formats::sev::ovmf::OvmfError;
use cloister_formats::sev::status::Status;

/// A refusal of the kernel or the firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the system call gave back.
    pub ret: i32,
    /// The firmware's status.
    pub fw_error: u32,
}

impl Refusal {
    fn words(self) -> &'static str {
        Status(self.fw_error).qemu_text()
    }

    fn code(self) -> i32 {
        self.fw_error.cast_signed()
    }

    /// The name of the error number, as the C library prints it.
    fn errno(self) -> String {
        let text = std::io::Error::from_raw_os_error(self.ret.wrapping_neg()).to_string();
        text.split(" (os error").next().unwrap_or_default().to_owned()
    }
}

/// Something is wrong with a SEV guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SevFault {
    /// The C-bit is elsewhere.
    #[error("sev_common_kvm_init: cbitpos check failed, host '{host}' requested '{asked}'{}", hint(.host))]
    Cbitpos {
        /// Where the platform has it.
        host: u32,
        /// Where the user says it is.
        asked: u32,
    },
    /// A number out of range.
    #[error(
        "sev_common_kvm_init: reduced_phys_bits check failed, it should be in the range of 1 to 63, requested '{0}'"
    )]
    ReducedPhysBits(u32),
    /// `sev-device=`.
    #[error("sev_common_kvm_init: Failed to open {path} '{why}'")]
    Device {
        /// Which.
        path: String,
        /// The error number in words.
        why: String,
    },
    /// `PLATFORM_STATUS`.
    #[error(
        "sev_common_kvm_init: failed to get platform status ret=-1 fw_error='{}: {}'",
        .0.code(), .0.words()
    )]
    Status(Refusal),
    /// No interrupt controllers.
    #[error("sev_common_kvm_init: SEV-ES guests require in-kernel irqchipsupport")]
    Irqchip,
    /// No SEV-ES.
    #[error("sev_common_kvm_init: guest policy requires SEV-ES, but host SEV-ES support unavailable")]
    NoEs,
    /// `KVM_SEV_INIT` and its like.
    #[error(
        "sev_common_kvm_init: failed to initialize ret={} fw_error={} '{}'",
        .0.ret, .0.code(), .0.words()
    )]
    Init(Refusal),
    /// A file of the owner's.
    #[error(
        "SEV: Failed to read '{path}' (Failed to open file “{path}”: {why})\nsev_common_kvm_init: failed to create encryption context"
    )]
    File {
        /// Which.
        path: String,
        /// The error number in words.
        why: String,
    },
    /// `LAUNCH_START`.
    #[error(
        "sev_launch_start: LAUNCH_START ret={} fw_error={} '{}'\nsev_common_kvm_init: failed to create encryption context",
        .0.ret, .0.code(), .0.words()
    )]
    LaunchStart(Refusal),
    /// Something needs RAM discard.
    #[error("sev_common_kvm_init: cannot disable RAM discard")]
    Discard,
    /// `LAUNCH_UPDATE_DATA`, of whatever.
    #[error(
        "sev_launch_update_data: LAUNCH_UPDATE ret={} fw_error={} '{}'\nSEV: Failed to encrypt pflash rom",
        .0.ret, .0.code(), .0.words()
    )]
    LaunchUpdate(Refusal),
    /// The firmware image has no place where CPUs start.
    #[error("{0}\nfailed to locate and/or save reset vector")]
    ResetVector(OvmfError),
    /// The table at the end of the image, or an entry of it.
    #[error(transparent)]
    Ovmf(#[from] OvmfError),
    /// The table of hashes lies where no memory is.
    #[error("SEV: cannot map hashes table guest memory area")]
    HashesMemory,
    /// `LAUNCH_UPDATE_VMSA`.
    #[error(
        "sev_launch_update_vmsa: LAUNCH_UPDATE_VMSA ret={} fw_error={} '{}'",
        .0.ret, .0.code(), .0.words()
    )]
    LaunchUpdateVmsa(Refusal),
    /// `LAUNCH_MEASURE`.
    #[error(
        "sev_launch_get_measure: LAUNCH_MEASURE ret={} fw_error={} '{}'",
        .0.ret, .0.code(), .0.words()
    )]
    LaunchMeasure(Refusal),
    /// `LAUNCH_FINISH`.
    #[error(
        "sev_launch_finish: LAUNCH_FINISH ret={} fw_error={} '{}'",
        .0.ret, .0.code(), .0.words()
    )]
    LaunchFinish(Refusal),

    /// No measurement yet.
    #[error("SEV launch measurement is not available")]
    NoMeasurement,
    /// No place for a secret.
    #[error("SEV: no secret area found in OVMF, gpa must be specified.")]
    NoSecretArea,
    /// Too early or too late.
    #[error("SEV: Not in correct state. (LSECRET) {0:x}")]
    NotInLaunchSecret(u32),
    /// The packet header.
    #[error("SEV: Failed to decode sequence header")]
    SecretHeader,
    /// The secret.
    #[error("SEV: Failed to decode data")]
    SecretData,
    /// No memory for the secret.
    #[error("SEV: Failed to calculate guest address: {0}")]
    SecretAddress(String),
    /// `LAUNCH_SECRET`.
    #[error("SEV: failed to inject secret ret={} fw_error={} '{}'", .0.ret, .0.code(), .0.words())]
    LaunchSecret(Refusal),

    /// The nonce for a report.
    #[error("SEV: mnonce must be 16 bytes (got {0})")]
    Mnonce(usize),
    /// `ATTESTATION`, asked for a length.
    #[error(
        "SEV: Failed to query the attestation report length ret={} fw_err={} ({})",
        .0.ret, .0.code(), .0.words()
    )]
    ReportLength(Refusal),
    /// `ATTESTATION`.
    #[error(
        "SEV: Failed to get attestation report ret={} fw_err={} ({}): {}",
        .0.ret, .0.code(), .0.words(), .0.errno()
    )]
    Report(Refusal),

    /// The platform has none.
    #[error("SEV is not enabled in KVM")]
    NotInKvm,
    /// `PDH_CERT_EXPORT`. The driver's calls give -1 back.
    #[error("SEV: Failed to export PDH cert ret=-1 fw_err={} ({})", .0.code(), .0.words())]
    PdhCertExport(Refusal),
    /// `GET_ID2`.
    #[error("SEV: Failed to get ID ret=-1 fw_err={} ({})", .0.code(), .0.words())]
    GetId(Refusal),
}

fn hint(host: &u32) -> &'static str {
    match host {
        0 => "\nThis platform has no SEV; choose one that has with -platform DIR.",
        _ => "",
    }
}
