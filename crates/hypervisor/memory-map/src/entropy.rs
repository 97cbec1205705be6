//! Shannon entropy of a page's bytes (C. E. Shannon, "A Mathematical Theory of Communication", 1948, section 6).

/// Bytes in a page.
pub(crate) const PAGE: usize = 4096;

/// Bits per byte, from 0 to 8. A page of random bytes measures 7.95, as it is short.
pub(crate) fn bits_per_byte(page: &[u8; PAGE]) -> f64 {
    let mut counts = [0u32; 256];
    for &byte in page {
        counts[usize::from(byte)] += 1;
    }
    if counts[usize::from(page[0])] as usize == PAGE {
        return 0.0;
    }
    let bits: f64 = counts
        .iter()
        .filter(|&&count| count > 0)
        .map(|&count| {
            let share = f64::from(count) / PAGE as f64;
            -share * share.log2()
        })
        .sum();
    bits.clamp(0.0, 8.0)
}

/// To a thousandth, so that the last bits of a host's logarithm do not matter.
pub(crate) fn rounded(bits: f64) -> f32 {
    ((bits * 1000.0).round() / 1000.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_of_known_pages() {
        assert_eq!(bits_per_byte(&[7; PAGE]), 0.0);
        let mut page = [0; PAGE];
        page[..PAGE / 2].fill(1);
        assert_eq!(rounded(bits_per_byte(&page)), 1.0);
        for (index, byte) in page.iter_mut().enumerate() {
            *byte = index as u8;
        }
        assert_eq!(bits_per_byte(&page), 8.0);
    }
}
