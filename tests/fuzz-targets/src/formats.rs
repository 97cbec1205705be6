//! Formats of IBM Secure Execution.

use cloister_formats::s390x::{
    arcb, asrcb, attestation, boot_map, dump as dumps, firmware, ipl_block, se_header, se_image, secret_list,
    uvcb as blocks,
};

/// What parses must parse again from its encoding, to the same value.
macro_rules! round_trip {
    ($bytes:expr, $($format:ty),* $(,)?) => {$(
        if let Ok(read) = <$format>::parse($bytes) {
            let written = read.encode();
            assert!(<$format>::parse(&written).is_ok_and(|again| again == read), stringify!($format));
        }
    )*};
}

pub(crate) fn se_header(bytes: &[u8]) {
    let _ = se_header::SeHeader::peek_size(bytes);
    round_trip!(bytes, se_header::SeHeader, se_header::SecretArea);
}

pub(crate) fn se_image(bytes: &[u8]) {
    let _ = se_image::parse_short_psw(bytes);
    if let Some(offset) = se_image::find_header(bytes) {
        let header = bytes.get(offset..).expect("a header that was found is in the image");
        let _ = se_header::SeHeader::parse(header);
    }
    round_trip!(bytes, se_image::Metadata, se_image::StageAArgs, se_image::StageBArgs);
}

pub(crate) fn ipl_block(bytes: &[u8]) {
    round_trip!(bytes, ipl_block::IplBlock);
}

/// A disk with its boot map, or the ELF file of a boot loader.
pub(crate) fn boot_map(bytes: &[u8]) {
    if let Ok(firmware) = firmware::Firmware::parse(bytes) {
        assert_eq!(firmware.place(0x10000).len() as u64, firmware.size());
    }
    let block = |number: u64| {
        let at = usize::try_from(number).ok().and_then(|number| number.checked_mul(boot_map::BLOCK_SIZE));
        let block = at.and_then(|at| bytes.get(at..at.checked_add(boot_map::BLOCK_SIZE)?));
        block.and_then(|block| block.try_into().ok()).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
    };
    let _ = boot_map::read(block);
    for at in bytes.chunks(boot_map::BLOCK_SIZE) {
        macro_rules! blocks {
            ($($format:ty),*) => {$(
                if let Ok(read) = <$format>::parse(at) {
                    assert!(<$format>::parse(&read.encode()).is_ok_and(|again| again == read));
                }
            )*};
        }
        blocks!(
            boot_map::BootRecord,
            boot_map::ProgramTable,
            boot_map::ComponentTable,
            boot_map::SegmentList
        );
    }
}

pub(crate) fn uvcb(bytes: &[u8]) {
    let _ = blocks::UvHeader::parse(bytes);
    if let Ok(handle) = blocks::Handle::parse(bytes) {
        for &command in blocks::UvCommand::ALL {
            let _ = handle.encode(command);
        }
    }
    round_trip!(
        bytes,
        blocks::QueryKeys,
        blocks::Init,
        blocks::CreateSecConf,
        blocks::CreateSecCpu,
        blocks::ConvToSec,
        blocks::ConvFromSec,
        blocks::DestrSecStor,
        blocks::SetSecConfParams,
        blocks::Unpack,
        blocks::CpuSetState,
        blocks::PinPageShared,
        blocks::UnpinPageShared,
        blocks::SetSharedAccess,
        blocks::RemoveSharedAccess,
        blocks::RetrAttest,
        blocks::AddSecret,
        blocks::ListSecrets,
        blocks::RetrSecret,
        blocks::Qui,
    );
}

pub(crate) fn owner_requests(bytes: &[u8]) {
    round_trip!(bytes, asrcb::SecretHeader, asrcb::Asrcb, arcb::Arcb, secret_list::SecretList);
    let _ = (asrcb::Asrcb::peek(bytes), arcb::ArcbHead::parse(bytes).map(|head| head.expected_size()));
    if let Some((flags, data)) = bytes.split_first_chunk() {
        let flags = arcb::ArcbFlags(u64::from_be_bytes(*flags));
        if let Ok(read) = attestation::AdditionalData::parse(flags, data) {
            assert_eq!(read.encode(), data);
        }
    }
}

pub(crate) fn dump(bytes: &[u8]) {
    round_trip!(bytes, dumps::Completion, dumps::CpuDump);
    for component in bytes.as_chunks().0 {
        assert_eq!(dumps::Component::parse(component).encode(), *component);
    }
    if let Some((area, rest)) = bytes.split_first_chunk() {
        assert_eq!(dumps::CompletionArea::parse(area).encode(), *area);
        if let Some((area, _)) = rest.split_first_chunk() {
            let read = dumps::CpuArea::parse(area);
            assert_eq!(dumps::CpuArea::parse(&read.encode()), read);
        }
    }
    cloister_owner::dump::fuzz(bytes);
}
