//! The members of a zip archive (PKWARE APPNOTE 6.3, sections 4.3 and 4.4), as far as sevtool's archives need it.
//!
//! Members are found through the central directory. Encryption, archives in parts and zip64 are refused.

/// The limit of an unpacked member: certificates are far below it.
const MAX_MEMBER: usize = 1 << 20;
const MAX_MEMBERS: usize = 64;

/// Whether the bytes begin as an archive does.
pub(super) fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06")
}

/// The members with their names, folders left out.
pub(super) fn members(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, &'static str> {
    let end = (0..=bytes.len().saturating_sub(END))
        .rev()
        .take(END + usize::from(u16::MAX))
        .find(|&at| bytes[at..].starts_with(b"PK\x05\x06"))
        .ok_or("it has no central directory, so it is cut off")?;
    let count = u16_at(bytes, end + 10).ok_or(CUT)?;
    let mut at = u32_at(bytes, end + 16).ok_or(CUT)?;
    if usize::from(count) > MAX_MEMBERS {
        return Err("it has more members than an export of certificates");
    }
    let mut members = Vec::new();
    for _ in 0..count {
        let header = bytes.get(at..).filter(|header| header.starts_with(b"PK\x01\x02")).ok_or(CUT)?;
        let field = |offset| u16_at(header, offset).ok_or(CUT);
        let (name, extra, comment) = (field(28)?, field(30)?, field(32)?);
        let name_bytes = header.get(46..46 + usize::from(name)).ok_or(CUT)?;
        let name_text = String::from_utf8_lossy(name_bytes).into_owned();
        if !name_text.ends_with('/') {
            if field(8)? & 1 != 0 {
                return Err("a member is encrypted");
            }
            let size = u32_at(header, 24).ok_or(CUT)?;
            let packed = u32_at(header, 20).ok_or(CUT)?;
            let local = u32_at(header, 42).ok_or(CUT)?;
            members.push((name_text, unpack(bytes, local, field(10)?, packed, size)?));
        }
        at += 46 + usize::from(name) + usize::from(extra) + usize::from(comment);
    }
    Ok(members)
}

fn unpack(
    bytes: &[u8],
    local: usize,
    method: u16,
    packed: usize,
    size: usize,
) -> Result<Vec<u8>, &'static str> {
    if size > MAX_MEMBER {
        return Err("a member is larger than any certificate");
    }
    let header = bytes.get(local..).filter(|header| header.starts_with(b"PK\x03\x04")).ok_or(CUT)?;
    let (name, extra) = (u16_at(header, 26).ok_or(CUT)?, u16_at(header, 28).ok_or(CUT)?);
    let start = 30 + usize::from(name) + usize::from(extra);
    let data = header.get(start..).and_then(|data| data.get(..packed)).ok_or(CUT)?;
    let data = match method {
        0 => data.to_vec(),
        8 => miniz_oxide::inflate::decompress_to_vec_with_limit(data, size)
            .map_err(|_| "a member does not unpack to the size that the directory states")?,
        _ => return Err("a member is packed by a method other than store and deflate"),
    };
    if data.len() == size { Ok(data) } else { Err("a member has not the size that the directory states") }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|&field| u16::from_le_bytes(field))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..)?.first_chunk().and_then(|&field| usize::try_from(u32::from_le_bytes(field)).ok())
}

const END: usize = 22;
const CUT: &str = "its directory does not fit its contents";
