//! The few lines of YAML that verification writes, and the one that it reads back.
//!
//! The keys are those of `pvattest verify`. Every value is a quoted scalar, so no YAML library is needed.

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `key: '0x...'` at an indentation.
pub(crate) fn entry(out: &mut String, indent: usize, key: &str, bytes: &[u8]) {
    out.push_str(&format!("{:indent$}{key}: '0x{}'\n", "", hex(bytes)));
}

/// A scalar that may contain anything printable, in single quotes.
pub(crate) fn quoted(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("'{}'", line.replace('\'', "''"))
}

/// The configuration's identity in 16 raw bytes, or in the entry `cuid` of what `attest verify -o` wrote.
pub fn config_uid_in(bytes: &[u8]) -> Option<[u8; 16]> {
    if let Ok(raw) = bytes.try_into() {
        return Some(raw);
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("cuid:"))?;
    config_uid_from_hex(value.trim().trim_matches(|c| c == '\'' || c == '"'))
}

/// The configuration's identity from 32 hexadecimal digits, with or without `0x`.
pub(crate) fn config_uid_from_hex(text: &str) -> Option<[u8; 16]> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
}
