//! AES-256-XTS (IEEE 1619) on units of one 4 KiB page.

use std::fmt;

use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

use crate::Secret;
use crate::locked::Locked;

/// Size of the one data unit that is supported: a page.
pub const XTS_UNIT_SIZE: usize = 4096;

const BLOCKS: usize = XTS_UNIT_SIZE / 16;
/// Blocks that pass through the cipher together: enough for its pipeline, small enough to stay in
/// the first-level cache with their tweaks.
const BATCH: usize = 64;

/// AES-256-XTS with both keys expanded.
pub struct Aes256Xts(Locked<Keys>);

struct Keys {
    data: aes::Aes256,
    tweak: aes::Aes256,
}

impl Aes256Xts {
    /// Expands a 64-byte key: the data key, then the tweak key.
    pub fn new(key: &Secret<64>) -> Self {
        let (data, tweak) = key.expose().split_at(32);
        let expand =
            |half: &[u8]| aes::Aes256::new_from_slice(half).expect("half of a 64-byte key has 32 bytes");
        Self(Locked::new(Keys { data: expand(data), tweak: expand(tweak) }))
    }

    /// Encrypts one page in place under the 16-byte initial value `iv`.
    pub fn encrypt_page(&self, iv: &[u8; 16], page: &mut [u8; XTS_UNIT_SIZE]) {
        self.process(iv, page, |blocks| self.0.data.encrypt_blocks(blocks));
    }

    /// Decrypts one page in place under the 16-byte initial value `iv`.
    pub fn decrypt_page(&self, iv: &[u8; 16], page: &mut [u8; XTS_UNIT_SIZE]) {
        self.process(iv, page, |blocks| self.0.data.decrypt_blocks(blocks));
    }

    #[inline(always)]
    fn process(&self, iv: &[u8; 16], page: &mut [u8; XTS_UNIT_SIZE], cipher: impl Fn(&mut [aes::Block])) {
        let mut first = aes::Block::from(*iv);
        self.0.tweak.encrypt_block(&mut first);
        let mut tweak = u128::from_le_bytes(first.into());
        let (blocks, _) = page.as_chunks_mut::<16>();
        for batch in blocks.chunks_exact_mut(BATCH) {
            let mut tweaks = [0u128; BATCH];
            for (block, slot) in batch.iter_mut().zip(&mut tweaks) {
                *slot = tweak;
                *block = (u128::from_le_bytes(*block) ^ tweak).to_le_bytes();
                // Multiplication by x in GF(2^128), IEEE 1619, 5.2.
                tweak = (tweak << 1) ^ (((tweak as i128 >> 127) as u128) & 0x87);
            }
            cipher(aes::Block::cast_slice_from_core_mut(batch));
            for (block, slot) in batch.iter_mut().zip(&tweaks) {
                *block = (u128::from_le_bytes(*block) ^ slot).to_le_bytes();
            }
        }
    }
}

impl fmt::Debug for Aes256Xts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aes256Xts(..)")
    }
}

const _: () = assert!(BLOCKS.is_multiple_of(BATCH));
