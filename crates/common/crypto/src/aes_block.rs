//! AES-128 on single blocks, the building block of address-tweaked memory ciphers.

use std::fmt;

use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

use crate::Secret;
use crate::locked::Locked;

/// AES-128 (FIPS 197) without a mode.
pub struct Aes128Block(Locked<aes::Aes128>);

impl Aes128Block {
    /// Expands the key.
    pub fn new(key: &Secret<16>) -> Self {
        Self(Locked::new(aes::Aes128::new(key.expose().into())))
    }

    /// Encrypts one block in place.
    pub fn encrypt(&self, block: &mut [u8; 16]) {
        self.0.encrypt_block(block.into());
    }

    /// Decrypts one block in place.
    pub fn decrypt(&self, block: &mut [u8; 16]) {
        self.0.decrypt_block(block.into());
    }

    /// Encrypts many blocks in place; faster than one at a time.
    pub fn encrypt_blocks(&self, blocks: &mut [[u8; 16]]) {
        self.0.encrypt_blocks(aes::Block::cast_slice_from_core_mut(blocks));
    }

    /// Decrypts many blocks in place; faster than one at a time.
    pub fn decrypt_blocks(&self, blocks: &mut [[u8; 16]]) {
        self.0.decrypt_blocks(aes::Block::cast_slice_from_core_mut(blocks));
    }
}

impl fmt::Debug for Aes128Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aes128Block(..)")
    }
}
