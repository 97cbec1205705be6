//! `/dev/sev`: the secure processor's platform commands.
//!
//! Linux, include/uapi/linux/psp-sev.h; SEV API, chapter "Platform management API". Which state a command needs
//! is the firmware's to judge.

use crate::error::{Errno, Error, FirmwareStatus, OpenError, sev_hint};
use crate::kernel::{Device, Handle, Kernel};
use crate::layout::{
    IssueCmd, Structure, UserDataGetId2, UserDataPdhCertExport, UserDataPekCertImport, UserDataPekCsr,
    UserDataStatus,
};
use crate::payload::{Payload, Pointee};
use crate::request::{self, Frame, Request};
use std::mem::offset_of;
use std::sync::Arc;
use zerocopy::FromZeros;

/// `/dev/sev`, open.
#[derive(Clone, Debug)]
pub struct SevDevice {
    kernel: Arc<dyn Kernel>,
    pub(crate) handle: Handle,
}

/// Answer of `SEV_PLATFORM_STATUS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PlatformStatus {
    /// Version of the API.
    pub api_major: u8,
    /// Version of the API.
    pub api_minor: u8,
    /// Build of the firmware.
    pub build: u8,
    /// State of the platform.
    pub state: PlatformState,
    /// Configuration flags: bit 0 external owner, bit 8 SEV-ES.
    pub flags: u32,
    /// Guests that the firmware knows.
    pub guests: u32,
}

impl PlatformStatus {
    /// Whether the platform is initialised for SEV-ES.
    pub fn es(&self) -> bool {
        self.flags & 0x100 != 0
    }

    /// Whether somebody has imported certificates of their own.
    pub fn externally_owned(&self) -> bool {
        self.flags & 1 != 0
    }
}

/// State of the platform. Unknown values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct PlatformState(pub u8);

impl PlatformState {
    /// Its name in the specification.
    pub fn name(self) -> &'static str {
        match self.0 {
            0 => "UNINIT",
            1 => "INIT",
            2 => "WORKING",
            _ => "(not in the specification)",
        }
    }
}

/// Answer of `SEV_PDH_CERT_EXPORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateExport {
    /// The PDH's certificate.
    pub pdh: Vec<u8>,
    /// PEK, OCA and CEK.
    pub chain: Vec<u8>,
}

impl SevDevice {
    /// Opens it.
    pub fn open(kernel: Arc<dyn Kernel>) -> Result<Self, Error> {
        let device = Device::Sev;
        let handle = kernel.open(device).map_err(|failure| OpenError { device, failure })?;
        Ok(Self { kernel, handle })
    }

    /// Version, state and guests.
    pub fn platform_status(&self) -> Result<PlatformStatus, Error> {
        let request = &request::PLATFORM_STATUS;
        let data = self.with(request, Payload::of(&UserDataStatus::new_zeroed())).into_result()?;
        let status: UserDataStatus = read(request, &data)?;
        Ok(PlatformStatus {
            api_major: status.api_major,
            api_minor: status.api_minor,
            build: status.build,
            state: PlatformState(status.state),
            flags: status.flags,
            guests: status.guest_count,
        })
    }

    /// Makes a new platform endorsement key. All guests' sessions become void.
    pub fn pek_gen(&self) -> Result<(), Error> {
        self.without(&request::PEK_GEN)
    }

    /// The request for a certificate of the platform endorsement key.
    pub fn pek_csr(&self) -> Result<Vec<u8>, Error> {
        let request = &request::PEK_CSR;
        let [length] = self.pek_csr_into(0)?.lengths(request)?;
        self.pek_csr_into(length)?.bytes(request).map(|[bytes]| bytes)
    }

    /// The same with one ioctl, which with no room is a question for the length.
    pub(crate) fn pek_csr_into(&self, length: u32) -> Result<Rooms<1>, Error> {
        let block = UserDataPekCsr { length, ..UserDataPekCsr::new_zeroed() };
        let rooms = Wanted { at: [offset_of!(UserDataPekCsr, address)], given: [length] };
        let outcome = self.with(&request::PEK_CSR, rooms.point(Payload::of(&block)));
        outcome.rooms(rooms, |data: UserDataPekCsr| [data.length])
    }

    /// Makes a new platform Diffie-Hellman key.
    pub fn pdh_gen(&self) -> Result<(), Error> {
        self.without(&request::PDH_GEN)
    }

    /// The certificates that a guest owner needs to address this platform.
    pub fn pdh_cert_export(&self) -> Result<CertificateExport, Error> {
        let request = &request::PDH_CERT_EXPORT;
        let lengths = self.pdh_cert_export_into([0, 0])?.lengths(request)?;
        let [pdh, chain] = self.pdh_cert_export_into(lengths)?.bytes(request)?;
        Ok(CertificateExport { pdh, chain })
    }

    /// The same with one ioctl, which with no room for one of them is a question for the lengths.
    pub(crate) fn pdh_cert_export_into(&self, given: [u32; 2]) -> Result<Rooms<2>, Error> {
        let given = if given.contains(&0) { [0, 0] } else { given };
        let [pdh_cert_len, cert_chain_len] = given;
        let block =
            UserDataPdhCertExport { pdh_cert_len, cert_chain_len, ..UserDataPdhCertExport::new_zeroed() };
        let at = [
            offset_of!(UserDataPdhCertExport, pdh_cert_address),
            offset_of!(UserDataPdhCertExport, cert_chain_address),
        ];
        let rooms = Wanted { at, given };
        let outcome = self.with(&request::PDH_CERT_EXPORT, rooms.point(Payload::of(&block)));
        outcome.rooms(rooms, |data: UserDataPdhCertExport| [data.pdh_cert_len, data.cert_chain_len])
    }

    /// Makes the platform somebody's: the signed PEK and the owner's certificate.
    pub fn pek_cert_import(&self, pek: &[u8], oca: &[u8]) -> Result<(), Error> {
        let request = &request::PEK_CERT_IMPORT;
        let block = UserDataPekCertImport {
            pek_cert_len: length32(request, "the PEK certificate", pek)?,
            oca_cert_len: length32(request, "the owner's certificate", oca)?,
            ..UserDataPekCertImport::new_zeroed()
        };
        let payload = Payload::of(&block)
            .pointing_to_bytes(offset_of!(UserDataPekCertImport, pek_cert_address), pek)
            .pointing_to_bytes(offset_of!(UserDataPekCertImport, oca_cert_address), oca);
        self.with(request, payload).into_result().map(drop)
    }

    /// The chip's identity, to ask AMD for its certificate.
    pub fn get_id2(&self) -> Result<Vec<u8>, Error> {
        let request = &request::GET_ID2;
        let [length] = self.get_id2_into(0)?.lengths(request)?;
        self.get_id2_into(length)?.bytes(request).map(|[bytes]| bytes)
    }

    /// The same with one ioctl, which with no room is a question for the length.
    pub(crate) fn get_id2_into(&self, length: u32) -> Result<Rooms<1>, Error> {
        let block = UserDataGetId2 { length, ..UserDataGetId2::new_zeroed() };
        let rooms = Wanted { at: [offset_of!(UserDataGetId2, address)], given: [length] };
        let outcome = self.with(&request::GET_ID2, rooms.point(Payload::of(&block)));
        outcome.rooms(rooms, |data: UserDataGetId2| [data.length])
    }

    /// Gives the platform new keys and no owner.
    pub fn factory_reset(&self) -> Result<(), Error> {
        self.without(&request::FACTORY_RESET)
    }

    fn without(&self, request: &'static Request) -> Result<(), Error> {
        issue(&*self.kernel, &self.handle, request, None, None).into_result().map(drop)
    }

    fn with<'a>(&self, request: &'static Request, data: Payload<'a>) -> Outcome<'a> {
        issue(&*self.kernel, &self.handle, request, None, Some(data))
    }
}

/// What became of a SEV command: also a failed one has data to read.
#[derive(Debug)]
pub(crate) struct Outcome<'a> {
    request: &'static Request,
    answer: Result<i32, Errno>,
    status: FirmwareStatus,
    data: Payload<'a>,
}

impl<'a> Outcome<'a> {
    pub(crate) fn into_result(self) -> Result<Payload<'a>, Error> {
        match self.answer {
            Ok(0) => Ok(self.data),
            Ok(_) => {
                Err(Error::Answer { command: self.request.name(), what: "with a number that has no meaning" })
            }
            Err(errno) => {
                let command = self.request.name();
                Err(Error::Sev { command, errno, status: self.status, hint: sev_hint(command, errno) })
            }
        }
    }

    /// What a command brought that was given room for output. With too little room the firmware says
    /// INVALID_LENGTH, and the kernel how much is needed.
    pub(crate) fn rooms<T: Structure, const N: usize>(
        mut self,
        wanted: Wanted<N>,
        of: fn(T) -> [u32; N],
    ) -> Result<Rooms<N>, Error> {
        let command = self.request.name();
        let query = wanted.given.contains(&0);
        let refused = self.answer.is_err();
        if refused && self.status != FirmwareStatus::INVALID_LENGTH {
            return self.into_result().map(|_| Rooms::Needs([0; N]));
        }
        let lengths = of(read(self.request, &self.data)?);
        if refused && !query && lengths == wanted.given {
            // It says so only to who asks.
            return self.into_result().map(|_| Rooms::Needs(lengths));
        }
        if refused || query {
            let what = if lengths.contains(&0) {
                "that nothing is needed where there must be something"
            } else if lengths.iter().any(|length| *length > BLOB_MAXIMUM) {
                "a length beyond 16 KiB, which is more than it accepts itself"
            } else {
                return Ok(Rooms::Needs(lengths));
            };
            return Err(Error::Answer { command, what });
        }
        let request = self.request;
        if let Ok(1..) = self.answer {
            return self.into_result().map(|_| Rooms::Needs(lengths));
        }
        let mut bytes = [const { Vec::new() }; N];
        for ((out, at), length) in bytes.iter_mut().zip(wanted.at).zip(lengths) {
            *out = taken(request, &mut self.data, at, length)?;
            if out.is_empty() {
                return Err(Error::Answer { command, what: "success, and gave nothing" });
            }
        }
        Ok(Rooms::Bytes(bytes))
    }
}

/// Room for output: the fields that point to it, and how much is given.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<const N: usize> {
    pub(crate) at: [usize; N],
    pub(crate) given: [u32; N],
}

impl<const N: usize> Wanted<N> {
    pub(crate) fn point<'a>(&self, payload: Payload<'a>) -> Payload<'a> {
        let some = self.at.into_iter().zip(self.given).filter(|(_, length)| *length != 0);
        some.fold(payload, |payload, (at, length)| buffer(payload, at, length))
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Rooms<const N: usize> {
    /// The output.
    Bytes([Vec<u8>; N]),
    /// How much room is needed.
    Needs([u32; N]),
}

impl<const N: usize> Rooms<N> {
    pub(crate) fn lengths(self, request: &Request) -> Result<[u32; N], Error> {
        match self {
            Self::Needs(lengths) => Ok(lengths),
            Self::Bytes(_) => {
                Err(Error::Answer { command: request.name(), what: "bytes to a question for the length" })
            }
        }
    }

    pub(crate) fn bytes(self, request: &Request) -> Result<[Vec<u8>; N], Error> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Needs(_) => Err(Error::Answer {
                command: request.name(),
                what: "that it needs more room than it said before",
            }),
        }
    }
}

/// Makes a SEV command in its frame: of a VM if there is a device to name, else of the device itself.
pub(crate) fn issue<'a>(
    kernel: &dyn Kernel,
    on: &Handle,
    request: &'static Request,
    device: Option<&Handle>,
    data: Option<Payload<'a>>,
) -> Outcome<'a> {
    let id = request.command().unwrap_or(u32::MAX);
    let (frame, mut payload, error) = match device {
        Some(device) => {
            let block = crate::layout::SevCmd { id, ..crate::layout::SevCmd::new_zeroed() };
            let to = Pointee::Handle(device.clone());
            let payload = Payload::of(&block).pointing(offset_of!(crate::layout::SevCmd, sev_fd), to);
            (Frame::Sev, payload, offset_of!(crate::layout::SevCmd, error))
        }
        None => {
            let block = IssueCmd { cmd: id, ..IssueCmd::new_zeroed() };
            (Frame::SevDevice, Payload::of(&block), offset_of!(IssueCmd, error))
        }
    };
    if let Some(data) = data {
        payload = payload.pointing(frame.data(), Pointee::Block(data));
    }
    let answer = kernel.call(on, request, &mut payload);
    let code =
        payload.bytes().get(error..).and_then(<[u8]>::first_chunk).map_or(0, |b| u32::from_ne_bytes(*b));
    let status = FirmwareStatus(code);
    tracing::debug!(command = request.name(), ?answer, %status, "kvm_sev");
    let data = payload.block_mut(frame.data()).map(std::mem::take).unwrap_or_default();
    Outcome { request, answer, status, data }
}

pub(crate) fn read<T: Structure>(request: &Request, data: &Payload<'_>) -> Result<T, Error> {
    data.read().ok_or(Error::Answer { command: request.name(), what: "a structure of another size" })
}

/// Points a field at a new buffer of a length that a query answered.
pub(crate) fn buffer(payload: Payload<'_>, at: usize, length: u32) -> Payload<'_> {
    payload.pointing(at, Pointee::Block(Payload::of_length(length.min(BLOB_MAXIMUM) as usize)))
}

/// The part of a buffer that the kernel says it wrote.
pub(crate) fn taken(
    request: &Request,
    data: &mut Payload<'_>,
    at: usize,
    written: u32,
) -> Result<Vec<u8>, Error> {
    let mut bytes = data.take_bytes(at);
    if written as usize > bytes.len() {
        return Err(Error::Answer { command: request.name(), what: "more bytes than it was given room for" });
    }
    bytes.truncate(written as usize);
    Ok(bytes)
}

pub(crate) fn length32(request: &Request, what: &'static str, bytes: &[u8]) -> Result<u32, Error> {
    let length = bytes.len();
    u32::try_from(length).map_err(|_| Error::TooLong { command: request.name(), what, length })
}

/// Linux, drivers/crypto/ccp: SEV_FW_BLOB_MAX_SIZE.
const BLOB_MAXIMUM: u32 = 0x4000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FakeKernel;
    use zerocopy::{FromBytes, IntoBytes};

    const DATA: usize = 4;

    fn device(fake: FakeKernel) -> (Arc<FakeKernel>, SevDevice) {
        let fake = Arc::new(fake.device(Device::Sev, Ok(())));
        (Arc::clone(&fake), SevDevice::open(fake).unwrap())
    }

    /// Firmware that wants a length: refuses a short buffer as the SEV API says.
    fn wants(length: u32) -> impl FnMut(&mut Payload<'_>) -> Result<i32, Errno> + Send {
        move |payload| {
            let data = payload.block_mut(DATA).unwrap();
            let mut block = UserDataGetId2::read_from_bytes(data.bytes()).unwrap();
            let short = block.length < length;
            block.length = length;
            data.bytes_mut().copy_from_slice(block.as_bytes());
            if short {
                payload.bytes_mut()[12..].copy_from_slice(&4u32.to_ne_bytes());
                return Err(Errno::INPUT_OUTPUT);
            }
            data.block_mut(0).unwrap().bytes_mut().fill(7);
            Ok(0)
        }
    }

    #[test]
    fn sev_api_get_id_asks_for_the_length_first() {
        let (fake, device) = device(FakeKernel::new().answers("SEV_GET_ID2", wants(64)));
        assert_eq!(device.get_id2().unwrap(), vec![7; 64]);
        assert_eq!(fake.calls().len(), 2);
        assert_eq!(fake.calls()[0].bytes[..4], 8u32.to_ne_bytes());
    }

    #[test]
    fn a_length_that_the_kernel_would_refuse_itself_is_not_allocated() {
        for length in [0x4001, u32::MAX] {
            let (_, device) = device(FakeKernel::new().answers("SEV_GET_ID2", wants(length)));
            assert!(matches!(device.get_id2(), Err(Error::Answer { command: "SEV_GET_ID2", .. })));
        }
    }

    #[test]
    fn more_bytes_than_room_is_a_fault_of_the_kernel() {
        let mut asked = 0;
        let answer = move |payload: &mut Payload<'_>| {
            asked += 1;
            let data = payload.block_mut(DATA).unwrap();
            let length: u32 = if asked == 1 { 2084 } else { 2085 };
            data.bytes_mut()[8..].copy_from_slice(&length.to_ne_bytes());
            Ok(0)
        };
        let (_, device) = device(FakeKernel::new().answers("SEV_PEK_CSR", answer));
        assert!(matches!(device.pek_csr(), Err(Error::Answer { command: "SEV_PEK_CSR", .. })));
    }

    #[test]
    fn sev_api_platform_status_is_read_field_by_field() {
        let answer = |payload: &mut Payload<'_>| {
            let status = UserDataStatus {
                api_major: 1,
                api_minor: 55,
                state: 2,
                flags: 0x101,
                build: 25,
                guest_count: 3,
            };
            payload.block_mut(DATA).unwrap().bytes_mut().copy_from_slice(status.as_bytes());
            Ok(0)
        };
        let (_, device) = device(FakeKernel::new().answers("SEV_PLATFORM_STATUS", answer));
        let status = device.platform_status().unwrap();
        assert_eq!((status.api_major, status.api_minor, status.build, status.guests), (1, 55, 25, 3));
        assert_eq!(status.state.name(), "WORKING");
        assert!(status.es() && status.externally_owned());
    }

    #[test]
    fn sev_api_pdh_cert_export_asks_for_both_lengths() {
        let answer = |payload: &mut Payload<'_>| {
            let data = payload.block_mut(DATA).unwrap();
            let mut block = UserDataPdhCertExport::read_from_bytes(data.bytes()).unwrap();
            let short = block.pdh_cert_len < 2084 || block.cert_chain_len < 6252;
            (block.pdh_cert_len, block.cert_chain_len) = (2084, 6252);
            data.bytes_mut().copy_from_slice(block.as_bytes());
            if short {
                payload.bytes_mut()[12..].copy_from_slice(&4u32.to_ne_bytes());
                return Err(Errno::INPUT_OUTPUT);
            }
            Ok(0)
        };
        let (_, device) = device(FakeKernel::new().answers("SEV_PDH_CERT_EXPORT", answer));
        let export = device.pdh_cert_export().unwrap();
        assert_eq!((export.pdh.len(), export.chain.len()), (2084, 6252));
    }

    #[test]
    fn commands_without_data_and_their_refusals() {
        let fake = FakeKernel::new()
            .returns("SEV_PEK_GEN", 0)
            .returns("SEV_PDH_GEN", 0)
            .returns("SEV_PEK_CERT_IMPORT", 0)
            .fails("SEV_FACTORY_RESET", Errno::BUSY);
        let (fake, device) = device(fake);
        device.pek_gen().unwrap();
        device.pdh_gen().unwrap();
        device.pek_cert_import(&[1; 2084], &[2; 2084]).unwrap();
        let text = device.factory_reset().unwrap_err().to_string();
        assert!(
            text.starts_with("SEV_FACTORY_RESET failed: EBUSY, the firmware was not asked: SEV guests"),
            "{text}"
        );
        let ids: Vec<_> = fake.calls().iter().map(|call| call.bytes[0]).collect();
        assert_eq!(ids, [2, 4, 6, 0]);
    }
}
