//! Where virtio-rng takes its bytes from: the operating system, or a seed for runs that must be repeatable.
//!
//! Keys are never made here; the seeded source is not cryptographic and says so.

use serde::{Deserialize, Serialize};

use crate::Error;

/// A source of random bytes for a guest.
pub trait EntropySource: Send {
    /// Fills the buffer.
    ///
    /// # Errors
    /// The source is exhausted or broken; the guest then gets no byte.
    fn fill(&mut self, buf: &mut [u8]) -> Result<(), Error>;

    /// What must be saved so that a restored machine continues the same sequence.
    fn position(&self) -> Option<u64> {
        None
    }

    /// Continues at a saved position.
    fn seek(&mut self, _position: u64) {}
}

/// The operating system's random bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl EntropySource for SystemEntropy {
    fn fill(&mut self, buf: &mut [u8]) -> Result<(), Error> {
        getrandom::fill(buf).map_err(|e| Error::Entropy(e.to_string()))
    }
}

/// A repeatable sequence for deterministic runs (SplitMix64). Not secret, not for keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeededEntropy {
    state: u64,
}

impl SeededEntropy {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl EntropySource for SeededEntropy {
    fn fill(&mut self, buf: &mut [u8]) -> Result<(), Error> {
        for chunk in buf.chunks_mut(8) {
            let word = self.next().to_be_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }

    fn position(&self) -> Option<u64> {
        Some(self.state)
    }

    fn seek(&mut self, position: u64) {
        self.state = position;
    }
}
