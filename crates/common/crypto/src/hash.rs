//! Digests (FIPS 180-4), HMAC (FIPS 198-1), HKDF (RFC 5869) and the ANSI X9.63 key derivation.

use hmac::{KeyInit, Mac};
use sha2::Digest;
use zeroize::Zeroizing;

use crate::Secret;

macro_rules! digest {
    ($name:ident, $oneshot:ident, $inner:ty, $size:literal, $text:literal) => {
        #[doc = concat!($text, ", incremental.")]
        #[derive(Clone, Debug, Default)]
        pub struct $name($inner);

        impl $name {
            /// Starts with no input.
            pub fn new() -> Self {
                Self::default()
            }

            /// Appends `data` to the input.
            pub fn update(&mut self, data: &[u8]) {
                self.0.update(data);
            }

            /// The digest of all input.
            pub fn finish(self) -> [u8; $size] {
                self.0.finalize().into()
            }
        }

        #[doc = concat!($text, " of `data`.")]
        pub fn $oneshot(data: &[u8]) -> [u8; $size] {
            <$inner>::digest(data).into()
        }
    };
}

digest!(Sha256, sha256, sha2::Sha256, 32, "SHA-256");
digest!(Sha384, sha384, sha2::Sha384, 48, "SHA-384");
digest!(Sha512, sha512, sha2::Sha512, 64, "SHA-512");

/// HMAC-SHA256 over the concatenation of `parts`.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key).expect("HMAC accepts keys of every length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// HMAC-SHA512 over the concatenation of `parts`.
pub fn hmac_sha512(key: &[u8], parts: &[&[u8]]) -> [u8; 64] {
    let mut mac = hmac::Hmac::<sha2::Sha512>::new_from_slice(key).expect("HMAC accepts keys of every length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// HKDF-SHA512 (RFC 5869): extract with `salt`, expand with `info` to `N` bytes (at most 16320).
pub fn hkdf_sha512<const N: usize>(ikm: &[u8], salt: &[u8], info: &[u8]) -> Secret<N> {
    const { assert!(N <= 255 * 64, "HKDF-SHA512 gives at most 255 blocks") };
    let mut out = Secret::default();
    hkdf::Hkdf::<sha2::Sha512>::new(Some(salt), ikm)
        .expand(info, out.expose_mut())
        .expect("the length is checked when compiling");
    out
}

/// The first block of the ANSI X9.63 key derivation with SHA-256 and no shared info:
/// SHA-256(Z ‖ 00000001).
pub fn x963_kdf_sha256(z: &[u8]) -> Secret<32> {
    let mut hash = Sha256::new();
    hash.update(z);
    hash.update(&1u32.to_be_bytes());
    Secret::new(hash.finish())
}

/// The counter-mode key derivation of NIST SP 800-108 (section 4.1) with HMAC-SHA256 and little-endian numbers: the
/// leading `N` bytes of HMAC(key, LE32(i) ‖ label ‖ 00 ‖ context ‖ LE32(8 N)) for i = 1, 2, ...
///
/// The label is taken as it is: the zero byte after it is the separator of the standard.
pub fn kbkdf_hmac_sha256_le<const N: usize>(key: &[u8], label: &[u8], context: &[u8]) -> Secret<N> {
    const { assert!(N <= u32::MAX as usize / 8, "the number of bits must fit a 32-bit field") };
    let bits = (N as u32 * 8).to_le_bytes();
    let mut out = Secret::default();
    for (block, counter) in out.expose_mut().chunks_mut(32).zip(1u32..) {
        let full = Zeroizing::new(hmac_sha256(key, &[&counter.to_le_bytes(), label, &[0], context, &bits]));
        block.copy_from_slice(&full[..block.len()]);
    }
    out
}
