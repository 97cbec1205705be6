//! AMD SEV at the upper door: what KVM and the secure processor's driver offer, as plain messages.
//!
//! [`SevCommand`] has the semantics of `KVM_MEMORY_ENCRYPT_OP` (Linux,
//! Documentation/virt/kvm/x86/amd-memory-encryption.rst), [`SevPlatformCommand`] those of `/dev/sev`
//! (include/uapi/linux/psp-sev.h). Owner's blobs pass as they are. It holds no rule of the firmware: a refusal
//! comes back as the kernel's errno and the firmware's status.

use crate::{Capabilities, Door, Request, Response, Vm, VmError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Bytes of a launch measurement: MAC and nonce.
pub const MEASUREMENT_LEN: u32 = 48;
/// Bytes of an attestation report.
pub const ATTESTATION_LEN: u32 = 0xd0;
/// Bytes of a certificate.
pub const CERTIFICATE_LEN: u32 = 2084;
/// Bytes of the chain that goes with a PDH certificate: PEK, OCA, CEK.
pub const CHAIN_LEN: u32 = 3 * CERTIFICATE_LEN;
/// Bytes of a chip's identity, of one socket.
pub const ID_LEN: u32 = 64;

/// A command for the guest (`KVM_SEV_*`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SevCommand {
    /// `KVM_SEV_INIT`, or `KVM_SEV_ES_INIT`.
    Init {
        /// With encrypted state.
        es: bool,
    },
    /// `KVM_SEV_INIT2`.
    Init2 {
        /// SEV features of the VMSA.
        vmsa_features: u64,
        /// None are defined.
        flags: u32,
        /// Version of the GHCB protocol; 0 for the default.
        ghcb_version: u16,
    },
    /// `KVM_SEV_LAUNCH_START`; without certificate and session a launch that the owner has no part in.
    LaunchStart {
        /// The guest's policy.
        policy: u32,
        /// Handle of the guest to share a key with; 0 for none.
        handle: u32,
        /// The owner's Diffie-Hellman certificate; empty for none.
        dh_cert: Vec<u8>,
        /// The owner's session; empty for none.
        session: Vec<u8>,
    },
    /// `KVM_SEV_LAUNCH_UPDATE_DATA`: encrypt and measure memory.
    LaunchUpdateData {
        /// First guest-physical address.
        guest_physical: u64,
        /// Bytes.
        len: u64,
    },
    /// `KVM_SEV_LAUNCH_UPDATE_VMSA`: encrypt and measure the state of every vCPU.
    LaunchUpdateVmsa,
    /// `KVM_SEV_LAUNCH_MEASURE`.
    LaunchMeasure {
        /// Room for the measurement; 0 asks for the length.
        len: u32,
    },
    /// `KVM_SEV_LAUNCH_SECRET`.
    LaunchSecret {
        /// The owner's packet header.
        header: Vec<u8>,
        /// Where the secret goes.
        guest_physical: u64,
        /// The owner's packet.
        payload: Vec<u8>,
    },
    /// `KVM_SEV_LAUNCH_FINISH`.
    LaunchFinish,
    /// `KVM_SEV_GUEST_STATUS`.
    GuestStatus,
    /// `KVM_SEV_GET_ATTESTATION_REPORT`.
    AttestationReport {
        /// The asker's nonce.
        mnonce: [u8; 16],
        /// Room for the report; 0 asks for the length.
        len: u32,
    },
    /// `KVM_SEV_DBG_DECRYPT`.
    DbgDecrypt {
        /// First guest-physical address.
        guest_physical: u64,
        /// Bytes.
        len: u32,
    },
    /// `KVM_SEV_DBG_ENCRYPT`.
    DbgEncrypt {
        /// First guest-physical address.
        guest_physical: u64,
        /// What to write.
        bytes: Vec<u8>,
    },
    /// `KVM_SEV_SEND_START`.
    SendStart {
        /// The receiving platform's PDH certificate.
        pdh: Vec<u8>,
        /// Its PEK, OCA and CEK.
        platform: Vec<u8>,
        /// AMD's ASK and ARK.
        amd: Vec<u8>,
        /// Room for the session; 0 asks for the length.
        session_len: u32,
    },
    /// `KVM_SEV_SEND_UPDATE_DATA`, inside one page.
    SendUpdateData {
        /// First guest-physical address.
        guest_physical: u64,
        /// Bytes.
        len: u32,
        /// Room for the header; 0 asks for the lengths.
        header_len: u32,
        /// Room for the packet; 0 asks for the lengths.
        payload_len: u32,
    },
    /// `KVM_SEV_SEND_FINISH`.
    SendFinish,
    /// `KVM_SEV_SEND_CANCEL`.
    SendCancel,
    /// `KVM_SEV_RECEIVE_START`.
    ReceiveStart {
        /// The guest's policy.
        policy: u32,
        /// Handle of the guest to share a key with; 0 for none.
        handle: u32,
        /// The sending platform's PDH certificate.
        pdh: Vec<u8>,
        /// The sender's session.
        session: Vec<u8>,
    },
    /// `KVM_SEV_RECEIVE_UPDATE_DATA`, inside one page.
    ReceiveUpdateData {
        /// The packet's header.
        header: Vec<u8>,
        /// Where it goes.
        guest_physical: u64,
        /// The packet.
        payload: Vec<u8>,
    },
    /// `KVM_SEV_RECEIVE_FINISH`.
    ReceiveFinish,
}

impl SevCommand {
    /// Name in the kernel's interface.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Init { es: false } => "KVM_SEV_INIT",
            Self::Init { es: true } => "KVM_SEV_ES_INIT",
            Self::Init2 { .. } => "KVM_SEV_INIT2",
            Self::LaunchStart { .. } => "KVM_SEV_LAUNCH_START",
            Self::LaunchUpdateData { .. } => "KVM_SEV_LAUNCH_UPDATE_DATA",
            Self::LaunchUpdateVmsa => "KVM_SEV_LAUNCH_UPDATE_VMSA",
            Self::LaunchMeasure { .. } => "KVM_SEV_LAUNCH_MEASURE",
            Self::LaunchSecret { .. } => "KVM_SEV_LAUNCH_SECRET",
            Self::LaunchFinish => "KVM_SEV_LAUNCH_FINISH",
            Self::GuestStatus => "KVM_SEV_GUEST_STATUS",
            Self::AttestationReport { .. } => "KVM_SEV_GET_ATTESTATION_REPORT",
            Self::DbgDecrypt { .. } => "KVM_SEV_DBG_DECRYPT",
            Self::DbgEncrypt { .. } => "KVM_SEV_DBG_ENCRYPT",
            Self::SendStart { .. } => "KVM_SEV_SEND_START",
            Self::SendUpdateData { .. } => "KVM_SEV_SEND_UPDATE_DATA",
            Self::SendFinish => "KVM_SEV_SEND_FINISH",
            Self::SendCancel => "KVM_SEV_SEND_CANCEL",
            Self::ReceiveStart { .. } => "KVM_SEV_RECEIVE_START",
            Self::ReceiveUpdateData { .. } => "KVM_SEV_RECEIVE_UPDATE_DATA",
            Self::ReceiveFinish => "KVM_SEV_RECEIVE_FINISH",
        }
    }
}

/// A command for the platform (`SEV_ISSUE_CMD` on `/dev/sev`). No VM is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SevPlatformCommand {
    /// `SEV_PLATFORM_STATUS`.
    Status,
    /// `SEV_PDH_CERT_EXPORT`; a length of 0 asks for both lengths.
    PdhCertExport {
        /// Room for the PDH certificate.
        pdh_len: u32,
        /// Room for PEK, OCA and CEK.
        chain_len: u32,
    },
    /// `SEV_GET_ID2`.
    GetId {
        /// Room for the identity; 0 asks for the length.
        len: u32,
    },
    /// `SEV_PEK_CSR`.
    PekCsr {
        /// Room for the request; 0 asks for the length.
        len: u32,
    },
    /// `SEV_PEK_GEN`.
    PekGen,
    /// `SEV_PDH_GEN`.
    PdhGen,
    /// `SEV_PEK_CERT_IMPORT`.
    PekCertImport {
        /// The PEK certificate, signed by the owner.
        pek: Vec<u8>,
        /// The owner's certificate.
        oca: Vec<u8>,
    },
    /// `SEV_FACTORY_RESET`.
    FactoryReset,
}

/// How a command ended. A refused command is not an error of the door.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SevResult {
    /// 0, or a negative errno as the kernel returns it.
    pub ret: i32,
    /// The firmware's status, if `ret` is -EIO; 0 if the firmware was not asked.
    pub fw_error: u32,
    /// What came back.
    pub data: SevData,
}

impl SevResult {
    /// What came back, or the refusal.
    pub fn ok(self) -> Result<SevData, SevError> {
        match self.ret {
            0 => Ok(self.data),
            ret => Err(SevError::Refused { ret, fw_error: self.fw_error }),
        }
    }
}

/// What a command brings back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SevData {
    /// Nothing.
    #[default]
    None,
    /// The guest's handle.
    Handle(u32),
    /// Measurement, report, session, certificate, identity or decrypted memory.
    Bytes(Vec<u8>),
    /// How much room is needed (with `ret` -EIO).
    Length(u32),
    /// Two parts: PDH and chain, or header and packet.
    Pair(Vec<u8>, Vec<u8>),
    /// How much room both parts need (with `ret` -EIO).
    Lengths(u32, u32),
    /// To [`SevCommand::GuestStatus`].
    Guest(SevGuestStatus),
    /// To [`SevPlatformCommand::Status`].
    Platform(SevPlatformStatus),
}

/// What the firmware says of the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SevGuestStatus {
    /// Its handle.
    pub handle: u32,
    /// Its policy.
    pub policy: u32,
    /// Its state as the firmware counts: 0 invalid, 1 launch update, 2 launch secret, 3 running, 4 send update,
    /// 5 receive update, 6 sent.
    pub state: u32,
}

/// What the firmware says of itself (`struct sev_user_data_status`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SevPlatformStatus {
    /// Major version of the firmware's interface.
    pub api_major: u8,
    /// Minor version.
    pub api_minor: u8,
    /// 0 not initialised, 1 initialised, 2 with guests.
    pub state: u8,
    /// Bit 0: the owner is external. Bit 8: initialised for SEV-ES.
    pub flags: u32,
    /// Build of the firmware.
    pub build: u8,
    /// Guests that the firmware knows.
    pub guest_count: u32,
}

impl SevPlatformStatus {
    /// Bit of `flags`: the platform has an external owner.
    pub const OWNED: u32 = 1;
    /// Bit of `flags`: the platform is initialised for SEV-ES.
    pub const ES: u32 = 1 << 8;
}

/// What a platform with SEV can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SevCapabilities {
    /// Position of the C-bit (CPUID 8000001F, EBX bits 5:0).
    pub cbitpos: u8,
    /// By how many bits physical addresses shrink (EBX bits 11:6).
    pub reduced_phys_bits: u8,
    /// SEV-ES is there.
    pub es: bool,
    /// Highest ASID (ECX).
    pub max_asid: u32,
    /// Lowest ASID of a guest without SEV-ES (EDX).
    pub min_sev_asid: u32,
    /// Major version of the firmware's interface.
    pub api_major: u8,
    /// Minor version.
    pub api_minor: u8,
    /// Build of the firmware.
    pub build: u8,
}

/// Why a command brought nothing back.
#[derive(Debug, thiserror::Error)]
pub enum SevError {
    /// The kernel or the firmware refused.
    #[error("ret={ret} fw_error={fw_error}")]
    Refused {
        /// A negative errno.
        ret: i32,
        /// The firmware's status.
        fw_error: u32,
    },
    /// The door refused or is defective.
    #[error(transparent)]
    Door(#[from] VmError),
}

/// The platform's secure processor, with or without a VM. Cheap to clone.
#[derive(Clone)]
pub struct SevHost {
    door: Arc<dyn Door>,
}

impl SevHost {
    /// The secure processor behind `door`.
    pub fn new(door: Arc<dyn Door>) -> Self {
        Self { door }
    }

    /// What the platform can do; `None` without SEV.
    pub fn capabilities(&self) -> Result<Option<SevCapabilities>, VmError> {
        let Capabilities { sev, .. } = Vm::capabilities(self.door.as_ref())?;
        Ok(sev)
    }

    /// Any command. A refused command is not an error of the door.
    pub fn command(&self, command: SevPlatformCommand) -> Result<SevResult, VmError> {
        sev_result(self.door.call(Request::SevPlatform(command)), "SEV platform command")
    }

    /// `SEV_PLATFORM_STATUS`.
    pub fn status(&self) -> Result<SevPlatformStatus, SevError> {
        match self.command(SevPlatformCommand::Status)?.ok()? {
            SevData::Platform(status) => Ok(status),
            other => Err(defect("platform status", &other)),
        }
    }

    /// The PDH certificate, and PEK, OCA and CEK.
    pub fn pdh_cert_export(&self) -> Result<(Vec<u8>, Vec<u8>), SevError> {
        let command = SevPlatformCommand::PdhCertExport { pdh_len: CERTIFICATE_LEN, chain_len: CHAIN_LEN };
        match self.command(command)?.ok()? {
            SevData::Pair(pdh, chain) => Ok((pdh, chain)),
            other => Err(defect("PDH certificate", &other)),
        }
    }

    /// The identity of the chip in the first socket.
    pub fn id(&self) -> Result<Vec<u8>, SevError> {
        bytes(self.command(SevPlatformCommand::GetId { len: ID_LEN })?, "identity")
    }

    /// The PEK as a certificate without signatures, for an owner to sign.
    pub fn pek_csr(&self) -> Result<Vec<u8>, SevError> {
        bytes(self.command(SevPlatformCommand::PekCsr { len: CERTIFICATE_LEN })?, "signing request")
    }

    /// Makes OCA, PEK and PDH anew.
    pub fn pek_gen(&self) -> Result<(), SevError> {
        self.command(SevPlatformCommand::PekGen)?.ok().map(drop)
    }

    /// Makes the PDH anew.
    pub fn pdh_gen(&self) -> Result<(), SevError> {
        self.command(SevPlatformCommand::PdhGen)?.ok().map(drop)
    }

    /// Gives the platform to an owner.
    pub fn pek_cert_import(&self, pek: Vec<u8>, oca: Vec<u8>) -> Result<(), SevError> {
        self.command(SevPlatformCommand::PekCertImport { pek, oca })?.ok().map(drop)
    }

    /// Makes the platform forget everything but its chip's keys.
    pub fn factory_reset(&self) -> Result<(), SevError> {
        self.command(SevPlatformCommand::FactoryReset)?.ok().map(drop)
    }
}

/// SEV commands for the guest. Each fails with [`SevError::Refused`] where kernel or firmware do.
impl Vm {
    /// Any command. A refused command is not an error of the door.
    pub fn sev(&self, command: SevCommand) -> Result<SevResult, VmError> {
        sev_result(self.door.call(Request::Sev(command)), "SEV command")
    }

    /// The platform's secure processor.
    pub fn sev_host(&self) -> SevHost {
        SevHost::new(Arc::clone(&self.door))
    }

    /// `KVM_SEV_INIT` or `KVM_SEV_ES_INIT`.
    pub fn sev_init(&self, es: bool) -> Result<(), SevError> {
        self.sev(SevCommand::Init { es })?.ok().map(drop)
    }

    /// `KVM_SEV_INIT2`.
    pub fn sev_init2(&self, vmsa_features: u64, ghcb_version: u16) -> Result<(), SevError> {
        self.sev(SevCommand::Init2 { vmsa_features, flags: 0, ghcb_version })?.ok().map(drop)
    }

    /// `KVM_SEV_LAUNCH_START`: the guest's handle.
    pub fn sev_launch_start(
        &self,
        policy: u32,
        handle: u32,
        dh_cert: Vec<u8>,
        session: Vec<u8>,
    ) -> Result<u32, SevError> {
        match self.sev(SevCommand::LaunchStart { policy, handle, dh_cert, session })?.ok()? {
            SevData::Handle(handle) => Ok(handle),
            other => Err(defect("handle", &other)),
        }
    }

    /// `KVM_SEV_LAUNCH_UPDATE_DATA`.
    pub fn sev_launch_update_data(&self, guest_physical: u64, len: u64) -> Result<(), SevError> {
        self.sev(SevCommand::LaunchUpdateData { guest_physical, len })?.ok().map(drop)
    }

    /// `KVM_SEV_LAUNCH_UPDATE_VMSA`.
    pub fn sev_launch_update_vmsa(&self) -> Result<(), SevError> {
        self.sev(SevCommand::LaunchUpdateVmsa)?.ok().map(drop)
    }

    /// `KVM_SEV_LAUNCH_MEASURE`: MAC and nonce, 48 bytes.
    pub fn sev_launch_measure(&self) -> Result<Vec<u8>, SevError> {
        bytes(self.sev(SevCommand::LaunchMeasure { len: MEASUREMENT_LEN })?, "measurement")
    }

    /// `KVM_SEV_LAUNCH_SECRET`.
    pub fn sev_launch_secret(
        &self,
        header: Vec<u8>,
        guest_physical: u64,
        payload: Vec<u8>,
    ) -> Result<(), SevError> {
        self.sev(SevCommand::LaunchSecret { header, guest_physical, payload })?.ok().map(drop)
    }

    /// `KVM_SEV_LAUNCH_FINISH`.
    pub fn sev_launch_finish(&self) -> Result<(), SevError> {
        self.sev(SevCommand::LaunchFinish)?.ok().map(drop)
    }

    /// `KVM_SEV_GUEST_STATUS`.
    pub fn sev_guest_status(&self) -> Result<SevGuestStatus, SevError> {
        match self.sev(SevCommand::GuestStatus)?.ok()? {
            SevData::Guest(status) => Ok(status),
            other => Err(defect("guest status", &other)),
        }
    }

    /// `KVM_SEV_GET_ATTESTATION_REPORT`.
    pub fn sev_attestation_report(&self, mnonce: [u8; 16]) -> Result<Vec<u8>, SevError> {
        bytes(self.sev(SevCommand::AttestationReport { mnonce, len: ATTESTATION_LEN })?, "report")
    }

    /// `KVM_SEV_DBG_DECRYPT`.
    pub fn sev_dbg_decrypt(&self, guest_physical: u64, len: u32) -> Result<Vec<u8>, SevError> {
        bytes(self.sev(SevCommand::DbgDecrypt { guest_physical, len })?, "decrypted memory")
    }

    /// `KVM_SEV_DBG_ENCRYPT`.
    pub fn sev_dbg_encrypt(&self, guest_physical: u64, bytes: Vec<u8>) -> Result<(), SevError> {
        self.sev(SevCommand::DbgEncrypt { guest_physical, bytes })?.ok().map(drop)
    }
}

fn sev_result(answer: Response, request: &'static str) -> Result<SevResult, VmError> {
    match answer {
        Response::Sev(result) => Ok(result),
        Response::Refused(why) => Err(VmError::Refused(why)),
        other => Err(VmError::Protocol { request, answer: format!("{other:?}") }),
    }
}

fn bytes(result: SevResult, request: &'static str) -> Result<Vec<u8>, SevError> {
    match result.ok()? {
        SevData::Bytes(bytes) => Ok(bytes),
        other => Err(defect(request, &other)),
    }
}

fn defect(request: &'static str, answer: &SevData) -> SevError {
    SevError::Door(VmError::Protocol { request, answer: format!("{answer:?}") })
}

impl std::fmt::Debug for SevHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SevHost")
    }
}
