//! What a handler sees of the command that it carries out.

use crate::monitor::Monitor;
use crate::session::Session;
use cloister_control::{ControlError, Machine, Operator};
use cloister_platform::Vm;
use serde_json::{Map, Value};

/// One command of one client. The arguments have been checked against the table.
#[derive(Debug)]
pub struct Call<'a> {
    pub(crate) session: &'a Session,
    pub(crate) arguments: &'a Map<String, Value>,
}

impl Call<'_> {
    /// The machine and the process.
    pub fn operator(&self) -> &Operator {
        self.session.monitor().operator()
    }

    /// The machine.
    pub fn machine(&self) -> &dyn Machine {
        &*self.operator().machine
    }

    /// The guest.
    ///
    /// # Errors
    /// If there is none.
    pub fn vm(&self) -> Result<&Vm, ControlError> {
        self.machine().vm().ok_or_else(|| {
            ControlError::new("there is no guest to look into: the machine has no memory and no CPUs")
        })
    }

    /// What all monitors share.
    pub(crate) fn monitor(&self) -> &Monitor {
        self.session.monitor()
    }

    /// All arguments.
    pub fn arguments(&self) -> &Map<String, Value> {
        self.arguments
    }

    /// A string, if it was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.arguments.get(name).and_then(Value::as_str)
    }

    /// A string that the table requires.
    pub fn required(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    /// Bytes that were given in base64 (RFC 4648, section 4). White space is skipped: clients send the content of files
    /// with their newlines.
    ///
    /// # Errors
    /// If it is not base64.
    pub fn base64(&self, name: &str) -> Result<Option<Vec<u8>>, ControlError> {
        self.text(name)
            .map(|text| {
                decode_base64(text)
                    .ok_or_else(|| ControlError::new(format!("Parameter '{name}' expects base64 data")))
            })
            .transpose()
    }

    /// A boolean, if it was given.
    pub fn bool(&self, name: &str) -> Option<bool> {
        self.arguments.get(name).and_then(Value::as_bool)
    }

    /// A signed number, if it was given.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.arguments.get(name).and_then(Value::as_i64)
    }

    /// The objects of a list.
    pub fn objects<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s Map<String, Value>> {
        self.arguments.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
    }

    /// The strings of a list.
    pub fn texts<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s str> {
        self.arguments.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }
}

/// Groups of four characters; the last may be padded.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let characters: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let unpadded = characters.strip_suffix(b"==").or_else(|| characters.strip_suffix(b"="));
    let digits = unpadded.unwrap_or(&characters);
    if !characters.len().is_multiple_of(4) {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for &digit in group {
            bits = bits << 6
                | u32::from(match digit {
                    b'A'..=b'Z' => digit - b'A',
                    b'a'..=b'z' => digit - b'a' + 26,
                    b'0'..=b'9' => digit - b'0' + 52,
                    b'+' => 62,
                    b'/' => 63,
                    _ => return None,
                });
        }
        // Two digits hold one byte, three hold two, four hold three; what is left over is ignored as glib does.
        bits <<= 6 * (4 - group.len());
        out.extend(bits.to_be_bytes().get(1..group.len())?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_15_newlines_in_base64_are_skipped() {
        assert_eq!(decode_base64("aGRy\n"), Some(b"hdr".to_vec()));
        assert_eq!(decode_base64("aG\r\nRy c2Vj\n"), Some(b"hdrsec".to_vec()));
        // RFC 4648, section 10.
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg==", "foob")]
        {
            assert_eq!(decode_base64(text), Some(bytes.as_bytes().to_vec()));
        }
        for wrong in ["a", "ab", "abc", "ab-_", "=", "====", "a===", "ab==ab==", "\u{e9}aaa"] {
            assert_eq!(decode_base64(wrong), None, "{wrong}");
        }
    }
}
