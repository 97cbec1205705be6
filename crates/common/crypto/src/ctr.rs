//! AES-128 in counter mode (NIST SP 800-38A) with the whole block as a 128-bit big-endian counter.

use aes::cipher::{KeyIvInit, StreamCipher};

use crate::Secret;

/// Encrypts or decrypts `data` in place: the key stream starts at the counter `iv`, plus one per block, modulo 2^128.
pub fn aes128_ctr(key: &Secret<16>, iv: &[u8; 16], data: &mut [u8]) {
    ctr::Ctr128BE::<aes::Aes128>::new(key.expose().into(), iv.into()).apply_keystream(data);
}
