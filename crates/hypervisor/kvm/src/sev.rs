//! SEV and SEV-ES guests: every command of `KVM_MEMORY_ENCRYPT_OP` but those of SNP.
//!
//! Linux, Documentation/virt/kvm/x86/amd-memory-encryption.rst; SEV API, chapter "Guest management API". The
//! owner's blobs pass as they are.

use crate::error::Error;
use crate::layout::{
    SevAttestationReport, SevDbg, SevGuestStatus, SevInit, SevLaunchMeasure, SevLaunchSecret, SevLaunchStart,
    SevLaunchUpdateData, SevReceiveStart, SevReceiveUpdateData, SevSendStart, SevSendUpdateData,
};
use crate::payload::{GuestRange, Payload, Pointee};
use crate::request::{self, Request};
use crate::sev_device::{Outcome, Rooms, SevDevice, Wanted, issue, length32, read};
use crate::vm::Vm;
use std::mem::offset_of;
use zerocopy::FromZeros;

/// A VM whose memory is, or is to be, encrypted.
#[derive(Clone, Debug)]
pub struct SevVm {
    vm: Vm,
    device: SevDevice,
}

/// Argument of `KVM_SEV_INIT2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Init2 {
    /// Features of the VMSA; 0 for SEV without ES.
    pub vmsa_features: u64,
    /// None are defined.
    pub flags: u32,
    /// Version of the GHCB protocol; 0 is the kernel's choice.
    pub ghcb_version: u16,
}

/// Argument of `KVM_SEV_LAUNCH_START`. Without certificate and session the launch has no owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaunchStart<'a> {
    /// Handle of a guest to share keys with; 0 for none.
    pub handle: u32,
    /// The guest's policy.
    pub policy: u32,
    /// The owner's Diffie-Hellman certificate.
    pub certificate: &'a [u8],
    /// The session that the owner made for this platform.
    pub session: &'a [u8],
}

/// Argument of `KVM_SEV_SEND_START`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendStart<'a> {
    /// The guest's policy.
    pub policy: u32,
    /// The receiving platform's PDH certificate.
    pub pdh: &'a [u8],
    /// The receiving platform's chain. The kernel wants it whatever the policy.
    pub platform: &'a [u8],
    /// AMD's chain for it. The kernel wants it whatever the policy.
    pub amd: &'a [u8],
}

/// Argument of `KVM_SEV_RECEIVE_START`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveStart<'a> {
    /// Handle of a guest to share keys with; 0 for none.
    pub handle: u32,
    /// The guest's policy.
    pub policy: u32,
    /// The sending platform's PDH certificate.
    pub pdh: &'a [u8],
    /// The session that the sending platform made.
    pub session: &'a [u8],
}

/// Guest memory on its way between platforms, or a secret from the owner: header and ciphertext.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Flags, initialisation vector and keyed hash.
    pub header: Vec<u8>,
    /// The ciphertext.
    pub data: Vec<u8>,
}

/// Answer of `KVM_SEV_GUEST_STATUS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestStatus {
    /// The firmware's handle.
    pub handle: u32,
    /// The guest's policy.
    pub policy: u32,
    /// Where it is in its life.
    pub state: SevState,
}

/// State of a guest: SEV API, "Guest state machine". Unknown values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SevState(pub u32);

impl SevState {
    /// Its name in the specification.
    pub fn name(self) -> &'static str {
        match self.0 {
            0 => "UNINIT",
            1 => "LUPDATE",
            2 => "LSECRET",
            3 => "RUNNING",
            4 => "SUPDATE",
            5 => "RUPDATE",
            6 => "SENT",
            _ => "(not in the specification)",
        }
    }
}

/// Answer of `KVM_SEV_GET_ATTESTATION_REPORT`, as the firmware made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationReport(pub Vec<u8>);

impl Vm {
    /// The commands that need `/dev/sev` beside the VM.
    pub fn sev(&self, device: &SevDevice) -> SevVm {
        SevVm { vm: self.clone(), device: device.clone() }
    }
}

impl SevVm {
    /// `KVM_SEV_INIT`: SEV for a VM of the default type. Before any CPU.
    pub fn init(&self) -> Result<(), Error> {
        self.without(&request::SEV_INIT)
    }

    /// `KVM_SEV_ES_INIT`: SEV-ES for a VM of the default type. Before any CPU.
    pub fn es_init(&self) -> Result<(), Error> {
        self.without(&request::SEV_ES_INIT)
    }

    /// `KVM_SEV_INIT2`: for a VM of a SEV type.
    pub fn init2(&self, init: Init2) -> Result<(), Error> {
        let block = SevInit {
            vmsa_features: init.vmsa_features,
            flags: init.flags,
            ghcb_version: init.ghcb_version,
            ..SevInit::new_zeroed()
        };
        self.with(&request::SEV_INIT2, Payload::of(&block)).into_result().map(drop)
    }

    /// Starts a launch; gives the firmware's handle.
    pub fn launch_start(&self, start: LaunchStart<'_>) -> Result<u32, Error> {
        let request = &request::SEV_LAUNCH_START;
        let block = SevLaunchStart {
            handle: start.handle,
            policy: start.policy,
            dh_len: length32(request, "the owner's certificate", start.certificate)?,
            session_len: length32(request, "the session", start.session)?,
            ..SevLaunchStart::new_zeroed()
        };
        let payload = Payload::of(&block)
            .pointing_to_bytes(offset_of!(SevLaunchStart, dh_uaddr), start.certificate)
            .pointing_to_bytes(offset_of!(SevLaunchStart, session_uaddr), start.session);
        let data = self.with(request, payload).into_result()?;
        Ok(read::<SevLaunchStart>(request, &data)?.handle)
    }

    /// Measures memory and encrypts it where it is.
    pub fn launch_update_data(&self, memory: GuestRange<'_>) -> Result<(), Error> {
        let request = &request::SEV_LAUNCH_UPDATE_DATA;
        let block =
            SevLaunchUpdateData { len: guest_length(request, memory)?, ..SevLaunchUpdateData::new_zeroed() };
        let payload =
            Payload::of(&block).pointing(offset_of!(SevLaunchUpdateData, uaddr), Pointee::Guest(memory));
        self.with(request, payload).into_result().map(drop)
    }

    /// Measures the state of all CPUs and encrypts it. SEV-ES only.
    pub fn launch_update_vmsa(&self) -> Result<(), Error> {
        self.without(&request::SEV_LAUNCH_UPDATE_VMSA)
    }

    /// The measurement: keyed hash and nonce, for the owner.
    pub fn launch_measure(&self) -> Result<Vec<u8>, Error> {
        let request = &request::SEV_LAUNCH_MEASURE;
        let [len] = self.launch_measure_into(0)?.lengths(request)?;
        self.launch_measure_into(len)?.bytes(request).map(|[bytes]| bytes)
    }

    /// The same with one ioctl, which with no room is a question for the length.
    pub(crate) fn launch_measure_into(&self, len: u32) -> Result<Rooms<1>, Error> {
        let block = SevLaunchMeasure { len, ..SevLaunchMeasure::new_zeroed() };
        let rooms = Wanted { at: [offset_of!(SevLaunchMeasure, uaddr)], given: [len] };
        let outcome = self.with(&request::SEV_LAUNCH_MEASURE, rooms.point(Payload::of(&block)));
        outcome.rooms(rooms, |data: SevLaunchMeasure| [data.len])
    }

    /// Puts the owner's secret into guest memory.
    pub fn launch_secret(&self, secret: &Packet, memory: GuestRange<'_>) -> Result<(), Error> {
        let request = &request::SEV_LAUNCH_SECRET;
        let block = SevLaunchSecret {
            hdr_len: length32(request, "the secret's header", &secret.header)?,
            guest_len: guest_length(request, memory)?,
            trans_len: length32(request, "the secret", &secret.data)?,
            ..SevLaunchSecret::new_zeroed()
        };
        let payload = Payload::of(&block)
            .pointing_to_bytes(offset_of!(SevLaunchSecret, hdr_uaddr), &secret.header)
            .pointing(offset_of!(SevLaunchSecret, guest_uaddr), Pointee::Guest(memory))
            .pointing_to_bytes(offset_of!(SevLaunchSecret, trans_uaddr), &secret.data);
        self.with(request, payload).into_result().map(drop)
    }

    /// Ends the launch; the guest may run.
    pub fn launch_finish(&self) -> Result<(), Error> {
        self.without(&request::SEV_LAUNCH_FINISH)
    }

    /// Starts sending the guest to another platform; gives the session for it.
    pub fn send_start(&self, start: SendStart<'_>) -> Result<Vec<u8>, Error> {
        let request = &request::SEV_SEND_START;
        let [session] = self.send_start_into(start, 0)?.lengths(request)?;
        self.send_start_into(start, session)?.bytes(request).map(|[bytes]| bytes)
    }

    /// The same with one ioctl, which with no room for the session is a question for its length.
    pub(crate) fn send_start_into(&self, start: SendStart<'_>, session_len: u32) -> Result<Rooms<1>, Error> {
        let request = &request::SEV_SEND_START;
        let block = SevSendStart {
            policy: start.policy,
            pdh_cert_len: length32(request, "the PDH certificate", start.pdh)?,
            plat_certs_len: length32(request, "the platform's chain", start.platform)?,
            amd_certs_len: length32(request, "AMD's chain", start.amd)?,
            session_len,
            ..SevSendStart::new_zeroed()
        };
        let payload = Payload::of(&block)
            .pointing_to_bytes(offset_of!(SevSendStart, pdh_cert_uaddr), start.pdh)
            .pointing_to_bytes(offset_of!(SevSendStart, plat_certs_uaddr), start.platform)
            .pointing_to_bytes(offset_of!(SevSendStart, amd_certs_uaddr), start.amd);
        let rooms = Wanted { at: [offset_of!(SevSendStart, session_uaddr)], given: [session_len] };
        self.with(request, rooms.point(payload)).rooms(rooms, |data: SevSendStart| [data.session_len])
    }

    /// Encrypts memory for the other platform. It must lie within one page.
    pub fn send_update_data(&self, memory: GuestRange<'_>) -> Result<Packet, Error> {
        let request = &request::SEV_SEND_UPDATE_DATA;
        let lengths = self.send_update_data_into(memory, [0, 0])?.lengths(request)?;
        let [header, data] = self.send_update_data_into(memory, lengths)?.bytes(request)?;
        Ok(Packet { header, data })
    }

    /// The same with one ioctl, which with no room for one of them is a question for the lengths.
    pub(crate) fn send_update_data_into(
        &self,
        memory: GuestRange<'_>,
        [hdr_len, trans_len]: [u32; 2],
    ) -> Result<Rooms<2>, Error> {
        let request = &request::SEV_SEND_UPDATE_DATA;
        let guest_len = guest_length(request, memory)?;
        let block = SevSendUpdateData { hdr_len, guest_len, trans_len, ..SevSendUpdateData::new_zeroed() };
        let payload =
            Payload::of(&block).pointing(offset_of!(SevSendUpdateData, guest_uaddr), Pointee::Guest(memory));
        let at = [offset_of!(SevSendUpdateData, hdr_uaddr), offset_of!(SevSendUpdateData, trans_uaddr)];
        let rooms = Wanted { at, given: [hdr_len, trans_len] };
        self.with(request, rooms.point(payload))
            .rooms(rooms, |data: SevSendUpdateData| [data.hdr_len, data.trans_len])
    }

    /// `KVM_SEV_SEND_UPDATE_VMSA`: named by the kernel, not carried out by it up to Linux 6.12.
    pub fn send_update_vmsa(&self) -> Result<(), Error> {
        self.without(&request::SEV_SEND_UPDATE_VMSA)
    }

    /// Ends sending; the guest can no longer run here.
    pub fn send_finish(&self) -> Result<(), Error> {
        self.without(&request::SEV_SEND_FINISH)
    }

    /// Gives up sending; the guest goes on here.
    pub fn send_cancel(&self) -> Result<(), Error> {
        self.without(&request::SEV_SEND_CANCEL)
    }

    /// Starts receiving a guest; gives the firmware's handle.
    pub fn receive_start(&self, start: ReceiveStart<'_>) -> Result<u32, Error> {
        let request = &request::SEV_RECEIVE_START;
        let block = SevReceiveStart {
            handle: start.handle,
            policy: start.policy,
            pdh_len: length32(request, "the PDH certificate", start.pdh)?,
            session_len: length32(request, "the session", start.session)?,
            ..SevReceiveStart::new_zeroed()
        };
        let payload = Payload::of(&block)
            .pointing_to_bytes(offset_of!(SevReceiveStart, pdh_uaddr), start.pdh)
            .pointing_to_bytes(offset_of!(SevReceiveStart, session_uaddr), start.session);
        let data = self.with(request, payload).into_result()?;
        Ok(read::<SevReceiveStart>(request, &data)?.handle)
    }

    /// Puts received memory in its place. It must lie within one page.
    pub fn receive_update_data(&self, packet: &Packet, memory: GuestRange<'_>) -> Result<(), Error> {
        let request = &request::SEV_RECEIVE_UPDATE_DATA;
        let block = SevReceiveUpdateData {
            hdr_len: length32(request, "the packet's header", &packet.header)?,
            guest_len: guest_length(request, memory)?,
            trans_len: length32(request, "the packet", &packet.data)?,
            ..SevReceiveUpdateData::new_zeroed()
        };
        let payload = Payload::of(&block)
            .pointing_to_bytes(offset_of!(SevReceiveUpdateData, hdr_uaddr), &packet.header)
            .pointing(offset_of!(SevReceiveUpdateData, guest_uaddr), Pointee::Guest(memory))
            .pointing_to_bytes(offset_of!(SevReceiveUpdateData, trans_uaddr), &packet.data);
        self.with(request, payload).into_result().map(drop)
    }

    /// `KVM_SEV_RECEIVE_UPDATE_VMSA`: named by the kernel, not carried out by it up to Linux 6.12.
    pub fn receive_update_vmsa(&self) -> Result<(), Error> {
        self.without(&request::SEV_RECEIVE_UPDATE_VMSA)
    }

    /// Ends receiving; the guest may run.
    pub fn receive_finish(&self) -> Result<(), Error> {
        self.without(&request::SEV_RECEIVE_FINISH)
    }

    /// Handle, policy and state.
    pub fn guest_status(&self) -> Result<GuestStatus, Error> {
        let request = &request::SEV_GUEST_STATUS;
        let data = self.with(request, Payload::of(&SevGuestStatus::new_zeroed())).into_result()?;
        let status: SevGuestStatus = read(request, &data)?;
        Ok(GuestStatus { handle: status.handle, policy: status.policy, state: SevState(status.state) })
    }

    /// Decrypts guest memory, if the policy allows debugging. The kernel takes any alignment.
    pub fn dbg_decrypt(&self, memory: GuestRange<'_>) -> Result<Vec<u8>, Error> {
        let request = &request::SEV_DBG_DECRYPT;
        let len = guest_length(request, memory)?;
        let at = offset_of!(SevDbg, dst_uaddr);
        let payload = Payload::of(&SevDbg { len, ..SevDbg::new_zeroed() })
            .pointing(offset_of!(SevDbg, src_uaddr), Pointee::Guest(memory))
            .pointing(at, Pointee::Block(Payload::of_length(memory.length())));
        Ok(self.with(request, payload).into_result()?.take_bytes(at))
    }

    /// Encrypts bytes into guest memory, as many as there are, if the policy allows debugging.
    pub fn dbg_encrypt(&self, bytes: &[u8], memory: GuestRange<'_>) -> Result<(), Error> {
        let request = &request::SEV_DBG_ENCRYPT;
        if bytes.len() > memory.length() {
            let what = "the data for a shorter range of guest memory";
            return Err(Error::TooLong { command: request.name(), what, length: bytes.len() });
        }
        let block = SevDbg { len: length32(request, "the data", bytes)?, ..SevDbg::new_zeroed() };
        let payload = Payload::of(&block)
            .pointing_to_bytes(offset_of!(SevDbg, src_uaddr), bytes)
            .pointing(offset_of!(SevDbg, dst_uaddr), Pointee::Guest(memory));
        self.with(request, payload).into_result().map(drop)
    }

    /// `KVM_SEV_CERT_EXPORT`: named by the kernel, not carried out by it up to Linux 6.12.
    pub fn cert_export(&self) -> Result<(), Error> {
        self.without(&request::SEV_CERT_EXPORT)
    }

    /// A report on this guest, signed by the platform.
    pub fn attestation_report(&self, mnonce: [u8; 16]) -> Result<AttestationReport, Error> {
        let request = &request::SEV_GET_ATTESTATION_REPORT;
        let [len] = self.attestation_report_into(mnonce, 0)?.lengths(request)?;
        self.attestation_report_into(mnonce, len)?.bytes(request).map(|[bytes]| AttestationReport(bytes))
    }

    /// The same with one ioctl, which with no room is a question for the length.
    pub(crate) fn attestation_report_into(&self, mnonce: [u8; 16], len: u32) -> Result<Rooms<1>, Error> {
        let block = SevAttestationReport { mnonce, len, ..SevAttestationReport::new_zeroed() };
        let rooms = Wanted { at: [offset_of!(SevAttestationReport, uaddr)], given: [len] };
        let outcome = self.with(&request::SEV_GET_ATTESTATION_REPORT, rooms.point(Payload::of(&block)));
        outcome.rooms(rooms, |data: SevAttestationReport| [data.len])
    }

    fn without(&self, request: &'static Request) -> Result<(), Error> {
        self.issue(request, None).into_result().map(drop)
    }

    fn with<'a>(&self, request: &'static Request, data: Payload<'a>) -> Outcome<'a> {
        self.issue(request, Some(data))
    }

    fn issue<'a>(&self, request: &'static Request, data: Option<Payload<'a>>) -> Outcome<'a> {
        issue(&*self.vm.kernel, &self.vm.handle, request, Some(&self.device.handle), data)
    }
}

fn guest_length(request: &Request, memory: GuestRange<'_>) -> Result<u32, Error> {
    let length = memory.length();
    u32::try_from(length).map_err(|_| Error::TooLong {
        command: request.name(),
        what: "the range of guest memory",
        length,
    })
}

#[cfg(test)]
mod tests;
