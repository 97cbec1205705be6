//! Base64 as GLib's decoder reads it, which is what QEMU's users and managers rely on.
//!
//! It never fails: characters outside the alphabet are skipped, an unfinished group of four at the end is dropped,
//! and a NUL ends the text (GLib reference manual, "g_base64_decode").

/// The bytes of a text.
pub fn decode_base64(text: &[u8]) -> Vec<u8> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let mut group = Vec::with_capacity(4);
    for &character in text {
        let Some(digit) = digit(character) else { continue };
        group.push((character, digit));
        if let [.., (before_last, _), (last, _)] = group[..]
            && group.len() == 4
        {
            let bits = group.iter().fold(0, |bits, (_, digit)| bits << 6 | u32::from(*digit));
            let [_, first, second, third] = bits.to_be_bytes();
            out.push(first);
            if before_last != b'=' {
                out.push(second);
            }
            if last != b'=' {
                out.push(third);
            }
            group.clear();
        }
    }
    out
}

/// Bytes as base64 in one line (RFC 4648, section 4).
pub fn encode_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            out.push(if at > group.len() { '=' } else { char::from(digit) });
        }
    }
    out
}

fn digit(character: u8) -> Option<u8> {
    Some(match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        b'=' => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn junk_and_unfinished_groups_are_skipped() {
        for (text, bytes) in [
            ("aGRy\n", "hdr"),
            ("aG\r\nRy c2Vj\n", "hdrsec"),
            ("a-G_R!y", "hdr"),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYg", "foo"),
            ("Zm9v\0Zm9v", "foo"),
            ("", ""),
            ("!?", ""),
        ] {
            assert_eq!(decode_base64(text.as_bytes()), bytes.as_bytes(), "{text:?}");
        }
        // Padding in the middle does not end the text.
        assert_eq!(decode_base64(b"Zg==Zg=="), b"ff");
    }

    proptest! {
        #[test]
        fn decoding_is_the_inverse_of_encoding(bytes: Vec<u8>, at in 0usize..64) {
            let mut text = encode_base64(&bytes);
            prop_assert_eq!(decode_base64(text.as_bytes()), bytes.clone());
            text.insert(at.min(text.len()), '\n');
            prop_assert_eq!(decode_base64(text.as_bytes()), bytes);
        }

        #[test]
        fn no_text_panics(text: Vec<u8>) {
            decode_base64(&text);
        }
    }
}
