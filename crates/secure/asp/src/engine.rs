//! The encryption in the memory controllers: XEX with AES-128, keyed per guest, tweaked by the physical address.
//!
//! ciphertext = E(plaintext xor T(pa)) xor T(pa), where T(pa) is the exclusive or of one constant for every set bit of
//! the address from bit 4 up. The constants are drawn at each INIT (as found for Zen 2 and newer: "SEVurity: No
//! Security Without Integrity", section III). It is no authenticated encryption, and must not be: what a host can do to
//! the ciphertext of a real guest it can do here.

use std::fmt;
use std::sync::Arc;

use cloister_crypto::{Aes128Block, Entropy, Secret, kbkdf_hmac_sha256_le};
use zeroize::Zeroizing;

/// Address bits that enter the tweak.
const TWEAK_BITS: std::ops::RangeInclusive<u32> = 4..=47;
/// Bytes of memory whose tweaks differ only in what [`Tweaks::low`] holds.
const PAGE: u64 = 4096;

/// The tweak constants of one boot.
pub(crate) struct Tweaks {
    /// The tweaks of the 256 blocks of page 0.
    low: Zeroizing<Vec<u128>>,
    /// The constants of the address bits from 12 up.
    high: Zeroizing<Vec<u128>>,
}

impl Tweaks {
    /// Draws the constants.
    pub(crate) fn draw(entropy: &mut dyn Entropy) -> Self {
        let constants: Zeroizing<Vec<u128>> = Zeroizing::new(
            TWEAK_BITS
                .map(|_| {
                    let constant = Secret::<16>::generate(entropy);
                    u128::from_ne_bytes(*constant.expose())
                })
                .collect(),
        );
        let (of_page, high) = constants.split_at(8);
        Self {
            low: Zeroizing::new((0..256).map(|block| sum(of_page, block)).collect()),
            high: Zeroizing::new(high.to_vec()),
        }
    }

    /// The tweak of the first block of the page with this address.
    fn of_page(&self, paddr: u64) -> u128 {
        sum(&self.high, paddr >> 12)
    }
}

/// The exclusive or of the constants whose bit is set.
fn sum(constants: &[u128], bits: u64) -> u128 {
    constants.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1).fold(0, |sum, (_, next)| sum ^ next)
}

/// The cipher of one guest's memory: its key and the boot's tweaks. Clones share both.
#[derive(Clone)]
pub struct MemoryCipher {
    key: Arc<Aes128Block>,
    tweaks: Arc<Tweaks>,
}

impl MemoryCipher {
    /// The key comes from the seed as that of memory channel 0; there are no others here.
    pub(crate) fn new(seed: &Secret<32>, tweaks: &Arc<Tweaks>) -> Self {
        let key =
            kbkdf_hmac_sha256_le::<16>(seed.expose(), b"sev-vm-encryption-key-0\0", &0u32.to_le_bytes());
        Self { key: Arc::new(Aes128Block::new(&key)), tweaks: Arc::clone(tweaks) }
    }

    /// Encrypts, in place, whole 16-byte blocks that lie at a physical address that is a multiple of 16. Bytes after
    /// the last whole block stay as they are.
    pub fn encrypt(&self, paddr: u64, data: &mut [u8]) {
        self.by_page(paddr, data, Aes128Block::encrypt_blocks);
    }

    /// Decrypts what [`encrypt`](Self::encrypt) gave, under the same rules.
    pub fn decrypt(&self, paddr: u64, data: &mut [u8]) {
        self.by_page(paddr, data, Aes128Block::decrypt_blocks);
    }

    fn by_page(&self, mut paddr: u64, mut data: &mut [u8], aes: impl Fn(&Aes128Block, &mut [[u8; 16]])) {
        while !data.is_empty() {
            let inside = paddr % PAGE;
            let (part, rest) = data.split_at_mut(((PAGE - inside) as usize).min(data.len()));
            let base = self.tweaks.of_page(paddr);
            let tweaks = &self.tweaks.low[(inside / 16) as usize..];
            let blocks = part.as_chunks_mut::<16>().0;
            whiten(blocks, base, tweaks);
            aes(&self.key, blocks);
            whiten(blocks, base, tweaks);
            paddr += part.len() as u64;
            data = rest;
        }
    }
}

impl fmt::Debug for MemoryCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryCipher(..)")
    }
}

#[inline]
fn whiten(blocks: &mut [[u8; 16]], base: u128, tweaks: &[u128]) {
    for (block, tweak) in blocks.iter_mut().zip(tweaks) {
        *block = (u128::from_ne_bytes(*block) ^ base ^ tweak).to_ne_bytes();
    }
}

#[cfg(test)]
mod tests {
    use cloister_crypto::SeededEntropy;
    use proptest::prelude::*;

    use super::*;

    fn ciphers() -> (MemoryCipher, MemoryCipher, MemoryCipher) {
        let mut entropy = SeededEntropy::new(b"engine");
        let tweaks = Arc::new(Tweaks::draw(&mut entropy));
        let next_boot = Arc::new(Tweaks::draw(&mut entropy));
        let (one, two) = (Secret::generate(&mut entropy), Secret::generate(&mut entropy));
        (
            MemoryCipher::new(&one, &tweaks),
            MemoryCipher::new(&two, &tweaks),
            MemoryCipher::new(&one, &next_boot),
        )
    }

    /// The formula of the module's documentation, block by block and bit by bit.
    fn slowly(cipher: &MemoryCipher, paddr: u64, block: &mut [u8; 16]) {
        let mut tweak = 0;
        for bit in TWEAK_BITS {
            if paddr >> bit & 1 == 1 {
                tweak ^= if bit < 12 {
                    cipher.tweaks.low[1 << (bit - 4)]
                } else {
                    cipher.tweaks.high[bit as usize - 12]
                };
            }
        }
        *block = (u128::from_ne_bytes(*block) ^ tweak).to_ne_bytes();
        cipher.key.encrypt(block);
        *block = (u128::from_ne_bytes(*block) ^ tweak).to_ne_bytes();
    }

    proptest! {
        #[test]
        fn batches_do_what_the_formula_says(
            block in 0u64..1 << 43, data in proptest::collection::vec(any::<[u8; 16]>(), 0..600)
        ) {
            let (cipher, ..) = ciphers();
            let paddr = block * 16;
            let mut fast = data.concat();
            cipher.encrypt(paddr, &mut fast);
            let mut slow = data.clone();
            for (index, block) in slow.iter_mut().enumerate() {
                slowly(&cipher, paddr + 16 * index as u64, block);
            }
            prop_assert_eq!(&fast, &slow.concat());
            cipher.decrypt(paddr, &mut fast);
            prop_assert_eq!(fast, data.concat());
        }
    }

    #[test]
    fn same_address_same_ciphertext_and_everything_else_differs() {
        let (one, two, next_boot) = ciphers();
        let encrypt = |cipher: &MemoryCipher, paddr| {
            let mut data = [7; 32];
            cipher.encrypt(paddr, &mut data);
            data
        };
        let first = encrypt(&one, 0x1000);
        assert_eq!(first, encrypt(&one, 0x1000));
        assert_ne!(first[..16], first[16..], "two blocks of equal plaintext");
        assert_ne!(first, encrypt(&one, 0x2000), "another page");
        assert_ne!(first, encrypt(&two, 0x1000), "another guest");
        assert_ne!(first, encrypt(&next_boot, 0x1000), "another boot");
        let mut moved = first;
        one.decrypt(0x2000, &mut moved);
        assert_ne!(moved, [7; 32], "ciphertext that the host moved is garbage");
    }
}
