//! Formats of IBM Secure Execution.

use cloister_formats::s390x::{
    arcb, asrcb, attestation, dump as dumps, ipl_block, se_header, se_image, secret_list, uvcb as blocks,
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
