//! The checksum that the firmware keeps of a VMSA: CRC-32C over three interleaved streams.

/// Bytes of a VMSA under the checksum: 168 rows of three words.
const COVERED: usize = 0xfc0;

/// The checksum of a VMSA page.
pub(crate) fn vmsa_crc(page: &[u8; 4096]) -> u64 {
    let mut streams = [u32::MAX; 3];
    for row in page[..COVERED].chunks_exact(24) {
        for (stream, word) in streams.iter_mut().zip(row.chunks_exact(8)) {
            *stream = update(*stream, word);
        }
    }
    let streams = streams.map(|crc| !crc);
    let joined: Vec<u8> = streams.iter().flat_map(|crc| crc.to_le_bytes()).collect();
    let low = !update(u32::MAX, &joined);
    u64::from(streams[0] ^ streams[1] ^ streams[2]) << 32 | u64::from(low)
}

fn update(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, &byte| TABLE[(crc as u8 ^ byte) as usize] ^ crc >> 8)
}

/// The reflected polynomial 0x1EDC6F41 (RFC 3720, section 12.1).
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_has_its_check_value() {
        assert_eq!(!update(u32::MAX, b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_page_of_zeros_has_the_checksum_of_the_vectors() {
        assert_eq!(vmsa_crc(&[0; 4096]), 0x7488_7af2_b7a1_9c8f);
    }

    #[test]
    fn a_reset_vmsa_has_the_checksum_of_the_vectors() {
        let text = include_str!("../tests/data/sev-vectors.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let mut page = [0; 4096];
        for (offset, bytes) in vectors["vmsa"]["legacy_bsp"]["bytes"].as_object().unwrap() {
            let at = usize::from_str_radix(offset.trim_start_matches("0x"), 16).unwrap();
            let bytes = hex::decode(bytes.as_str().unwrap()).unwrap();
            page[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        page[0x388..0x390].copy_from_slice(&0x1000u64.to_le_bytes());
        assert_eq!(vmsa_crc(&page), 0x2ee0_7bc4_b5c9_7972);
    }
}
