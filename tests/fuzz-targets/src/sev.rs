//! Formats of AMD SEV.

use cloister_formats::sev::amd_root::AmdCertificate;
use cloister_formats::sev::attestation::Report;
use cloister_formats::sev::certificate::{Algo, Certificate, Usage};
use cloister_formats::sev::chain::Chain;
use cloister_formats::sev::command as buffers;
use cloister_formats::sev::guid::Guid;
use cloister_formats::sev::kernel_hashes::KernelHashes;
use cloister_formats::sev::measurement::Measurement;
use cloister_formats::sev::ovmf::{self, Table};
use cloister_formats::sev::packet::{PacketContext, PacketHeader};
use cloister_formats::sev::policy::Policy;
use cloister_formats::sev::secret_table::SecretTable;
use cloister_formats::sev::session::Session;
use cloister_formats::sev::status::Status;
use cloister_formats::sev::vmsa::Vmsa;

/// What parses must parse again from its encoding, to the same value.
macro_rules! round_trip {
    ($bytes:expr, $($format:ty),* $(,)?) => {$(
        if let Ok(read) = <$format>::parse($bytes) {
            let written = read.encode();
            assert!(<$format>::parse(&written).is_ok_and(|again| again == read), stringify!($format));
        }
    )*};
}

/// Certificates and chains of them.
pub(crate) fn certificate(bytes: &[u8]) {
    round_trip!(bytes, Certificate, AmdCertificate);
    if let Ok(certificate) = Certificate::parse(bytes) {
        let _ = (certificate.check_owner(), certificate.p384_key(), format!("{certificate:?}"));
        let _ = certificate.slots_of(Usage::PEK, Algo::ECDSA_SHA256);
    }
    let alone = Chain::parse(bytes);
    if let Ok(chain) = &alone {
        let written = [chain.encode_platform(), chain.encode_amd()].concat();
        assert!(Chain::parse(&written).is_ok_and(|again| again == *chain));
    }
    assert_eq!(Chain::from_members([("member.cert", bytes)]).ok(), alone.ok());
}

/// What owner, host and firmware exchange apart from certificates.
pub(crate) fn blobs(bytes: &[u8]) {
    round_trip!(bytes, Session, PacketHeader, Measurement, Report, KernelHashes, Vmsa);
    if let Ok(header) = PacketHeader::parse(bytes) {
        let _ = header.mac_prefix(PacketContext::SECRET, 16, 16);
    }
    if let Ok(vmsa) = Vmsa::parse(bytes) {
        let _ = (vmsa.crc(), format!("{vmsa:?}"));
    }
    if let Ok(table) = SecretTable::parse(bytes) {
        let written = table.encode().expect("a table that was read can be written");
        assert!(SecretTable::parse(&written).is_ok_and(|again| again == table));
    }
    let text = String::from_utf8_lossy(bytes);
    if let Ok(guid) = text.parse::<Guid>() {
        assert_eq!(guid.to_string().parse(), Ok(guid));
    }
    let _ = (Status::from_name(&text), buffers::Command::from_name(&text));
    if let Some(policy) = bytes.first_chunk().map(|bytes| Policy(u32::from_le_bytes(*bytes))) {
        let _ = (policy.check(1, 55), policy.to_string());
    }
}

/// Command buffers.
pub(crate) fn command(bytes: &[u8]) {
    round_trip!(
        bytes,
        buffers::Init,
        buffers::InitEx,
        buffers::PlatformStatus,
        buffers::PekCsr,
        buffers::PekCertImport,
        buffers::PdhCertExport,
        buffers::DownloadFirmware,
        buffers::GetId,
        buffers::Handle,
        buffers::Activate,
        buffers::ActivateEx,
        buffers::GuestStatus,
        buffers::CopyMemory,
        buffers::LaunchStart,
        buffers::LaunchUpdate,
        buffers::LaunchMeasure,
        buffers::Transfer,
        buffers::Attestation,
        buffers::SendStart,
        buffers::ReceiveStart,
        buffers::DebugCopy,
        buffers::SwapOut,
        buffers::SwapIn,
        buffers::Mdata,
    );
}

/// The end of a firmware image; short inputs are the end of one whose rest is zero.
pub(crate) fn firmware(bytes: &[u8]) {
    let mut image = vec![0; ovmf::MIN_IMAGE.saturating_sub(bytes.len())];
    image.extend_from_slice(bytes);
    let whole = Table::find(&image);
    let tail = &image[image.len().saturating_sub(ovmf::TAIL)..];
    if let (Ok(Some(whole)), Ok(Some(tail))) = (&whole, Table::find(tail)) {
        assert_eq!(*whole, tail);
    }
    if let Ok(Some(table)) = whole {
        let _ = (table.entries().count(), table.secret_area(), table.hashes_area(), table.metadata(&image));
    }
    let _ = ovmf::reset_address(&image);
}
