//! Reading what other programs write: base64 text, keys, numbers, and certificates in every form in circulation.

use std::io::Read;

use base64ct::{Base64, Base64Unpadded, Encoding};
use cloister_crypto::{Secret, Sha256};
use cloister_formats::sev::chain::Chain;
use cloister_formats::sev::policy::Policy;

use super::{SevError, zip};

/// Bytes as base64 on one line.
pub fn to_base64(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}

/// Bytes from base64; white space anywhere and missing padding are accepted.
pub fn from_base64(what: &str, text: &str) -> Result<Vec<u8>, SevError> {
    decode(text.as_bytes()).ok_or_else(|| SevError::Base64 { what: what.to_owned() })
}

/// Bytes that are base64 text or the thing itself: exactly `size` bytes are taken as they are.
///
/// # Errors
/// If neither has that length.
pub fn binary_or_base64(what: &str, bytes: &[u8], size: usize) -> Result<Vec<u8>, SevError> {
    if bytes.len() == size {
        return Ok(bytes.to_vec());
    }
    decode(bytes).filter(|decoded| decoded.len() == size).ok_or_else(|| SevError::Length {
        what: what.to_owned(),
        have: bytes.len(),
        need: size,
        hint: "give the file itself or its base64 text",
    })
}

/// A key of 16 bytes, raw.
pub fn key(what: &str, bytes: &[u8]) -> Result<Secret<16>, SevError> {
    Secret::from_slice(bytes).ok_or_else(|| SevError::Length {
        what: what.to_owned(),
        have: bytes.len(),
        need: 16,
        hint: "TIK and TEK are raw files of 16 bytes; sev-tool's tmp_tk.bin holds both, TEK first, and is given with --tk",
    })
}

/// sev-tool's file of both keys: TEK first, TIK second.
pub fn both_keys(what: &str, bytes: &[u8]) -> Result<super::Keys, SevError> {
    let wrong = || SevError::Length {
        what: what.to_owned(),
        have: bytes.len(),
        need: 32,
        hint: "give sev-tool's tmp_tk.bin",
    };
    let (tek, tik) = bytes.split_at_checked(16).ok_or_else(wrong)?;
    let (tek, tik) = (Secret::from_slice(tek).ok_or_else(wrong)?, Secret::from_slice(tik).ok_or_else(wrong)?);
    Ok(super::Keys { tik, tek })
}

/// Bytes of exactly `N` in base64.
pub fn exactly<const N: usize>(what: &str, text: &str) -> Result<[u8; N], SevError> {
    let bytes = from_base64(what, text)?;
    <[u8; N]>::try_from(bytes.as_slice()).map_err(|_| SevError::Length {
        what: what.to_owned(),
        have: bytes.len(),
        need: N,
        hint: "give them in base64",
    })
}

/// A digest of 32 bytes in hexadecimal or base64.
pub fn digest(what: &str, text: &str) -> Result<[u8; 32], SevError> {
    match from_hex(text.trim()) {
        Some(bytes) => Ok(bytes),
        None => exactly(what, text),
    }
}

/// A number, in decimal or as 0x...
pub fn number(what: &'static str, text: &str) -> Result<u32, SevError> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        // A sign is accepted by the library, and means nothing here.
        Some(digits) if !digits.starts_with('+') => u32::from_str_radix(digits, 16),
        Some(_) => "".parse(),
        None if text.starts_with('+') => "".parse(),
        None => text.parse(),
    };
    parsed.map_err(|_| SevError::Number { what, text: text.to_owned(), kind: "number of 32 bits" })
}

/// A policy that a firmware can accept: reserved bits are refused.
pub fn policy(text: &str) -> Result<Policy, SevError> {
    let policy = Policy(number("policy", text)?);
    policy.check(u8::MAX, u8::MAX).map_err(|source| SevError::Policy { policy: policy.0, source })?;
    Ok(policy)
}

/// The certificates of a file in any form: binary certificates one after the other, their base64 text, the answer of
/// `query-sev-capabilities`, the output of `virsh nodesevinfo`, or sevtool's zip archive.
pub fn certificates(file: &str, bytes: &[u8]) -> Result<Chain, SevError> {
    let fault = |source| SevError::Chain { file: file.to_owned(), source };
    if zip::is_zip(bytes) {
        let members =
            zip::members(bytes).map_err(|reason| SevError::Zip { file: file.to_owned(), reason })?;
        let members = members.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        return Chain::from_members(members).map_err(fault);
    }
    if bytes.is_empty() || bytes.contains(&0) {
        return Chain::parse(bytes).map_err(fault);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| SevError::Base64 {
        what: format!("{file} is neither binary certificates nor text; it"),
    })?;
    let labelled = [after_label(text, "pdh"), after_label(text, "cert-chain")];
    let decoded: Vec<u8> = if labelled.iter().all(Option::is_none) {
        from_base64_pieces(text).ok_or_else(|| SevError::Base64 { what: file.to_owned() })?
    } else {
        labelled.into_iter().flatten().flatten().collect()
    };
    Chain::parse(&decoded).map_err(fault)
}

/// SHA-256 of all that a reader gives, and its length; constant memory.
pub fn hash(file: &str, mut reader: impl Read) -> Result<(u64, [u8; 32]), SevError> {
    let mut hash = Sha256::new();
    let size = stream(file, &mut reader, |part| hash.update(part))?;
    Ok((size, hash.finish()))
}

/// Hands all that a reader gives to `take`, in parts.
pub(super) fn stream(
    file: &str,
    reader: &mut impl Read,
    mut take: impl FnMut(&[u8]),
) -> Result<u64, SevError> {
    let mut buffer = vec![0; 1 << 18];
    let mut size = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(size),
            Ok(count) => {
                take(&buffer[..count]);
                size += count as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => return Err(SevError::Read { file: file.to_owned(), source }),
        }
    }
}

fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut packed: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let padding = packed.iter().rev().take(2).take_while(|byte| **byte == b'=').count();
    packed.truncate(packed.len() - padding);
    Base64Unpadded::decode_vec(std::str::from_utf8(&packed).ok()?).ok()
}

/// Several base64 texts in a row, each ended by its padding or by nothing.
fn from_base64_pieces(text: &str) -> Option<Vec<u8>> {
    let packed: String = text.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
    packed.split_inclusive('=').filter(|piece| *piece != "=").map(|piece| decode(piece.as_bytes())).try_fold(
        Vec::new(),
        |mut all, piece| {
            all.extend(piece?);
            Some(all)
        },
    )
}

/// The base64 text behind a label, in JSON or in a listing.
fn after_label(text: &str, label: &str) -> Option<Vec<u8>> {
    text.match_indices(label).find_map(|(at, _)| {
        let before = text[..at].chars().next_back();
        let rest = text[at + label.len()..].trim_start_matches(['"', '\'', ' ', '\t']);
        if before.is_some_and(|letter| letter.is_ascii_alphanumeric()) {
            return None;
        }
        let value = rest.strip_prefix(':')?.trim_start_matches(['"', '\'', ' ', '\t', '\r', '\n']);
        // JSON may write a slash as \/.
        let inside = |letter: char| letter.is_ascii_alphanumeric() || "+/=\\".contains(letter);
        let value: String =
            value.chars().take_while(|&letter| inside(letter)).filter(|&letter| letter != '\\').collect();
        decode(value.as_bytes()).filter(|bytes| !bytes.is_empty())
    })
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in out.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(out)
}
