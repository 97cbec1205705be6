//! Formats of IBM Secure Execution.

use cloister_formats::s390x::{arcb, asrcb, ipl_block, se_header, se_image, uvcb as blocks};

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
    round_trip!(bytes, asrcb::SecretHeader, asrcb::Asrcb, arcb::Arcb);
}
