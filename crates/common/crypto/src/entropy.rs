//! The one source of random bytes.

use std::convert::Infallible;
use std::fmt;

use rsa::rand_core::{TryCryptoRng, TryRng};
use zeroize::ZeroizeOnDrop;

use crate::hash::Sha256;

/// A source of random bytes. Everything random in the project is drawn through this trait, so that
/// a run with a seed can be repeated.
pub trait Entropy {
    /// Fills `out` with random bytes.
    fn fill(&mut self, out: &mut [u8]);
}

/// The operating system's random source.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&mut self, out: &mut [u8]) {
        // Going on without randomness would produce guessable keys, so there is nothing to recover.
        getrandom::fill(out).expect("the operating system has a working random source");
    }
}

/// A deterministic source for tests and repeatable runs: SHA-256 in counter mode over a seed.
///
/// The same seed gives the same bytes for the same sequence of `fill` lengths taken together: the
/// stream does not depend on how it is cut into calls.
#[derive(Clone, ZeroizeOnDrop)]
pub struct SeededEntropy {
    seed: [u8; 32],
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl SeededEntropy {
    /// A source that depends on `seed` only. Any length is accepted.
    pub fn new(seed: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"cloister seeded entropy v1");
        hash.update(seed);
        Self { seed: hash.finish(), counter: 0, block: [0; 32], used: 32 }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            if self.used == self.block.len() {
                let mut hash = Sha256::new();
                hash.update(&self.seed);
                hash.update(&self.counter.to_be_bytes());
                self.block = hash.finish();
                self.counter += 1;
                self.used = 0;
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
    }
}

impl fmt::Debug for SeededEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeededEntropy(..)")
    }
}

/// [`Entropy`] as RustCrypto's libraries want it.
pub struct EntropyRng<'a>(pub &'a mut dyn Entropy);

impl TryRng for EntropyRng<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for EntropyRng<'_> {}
