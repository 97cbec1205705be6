//! virtio-rng (virtio 1.2, 5.4): fills the guest's buffers from an entropy source, as fast as the guest asks.
//!
//! What is written to a shared page is known to the host; a protected guest mixes it with its own entropy.

use serde::{Deserialize, Serialize};
use vm_memory::GuestMemory;

use super::queue::{QueueError, VirtQueue};
use super::{ByteOrder, VirtioDevice, VirtioDeviceState};
use crate::Error;
use crate::access;
use crate::entropy::EntropySource;

const QUEUE_SIZES: [u16; 1] = [8];
/// Bytes given for one request; a driver asks again if it wants more (5.4.6.2: the device may use less).
const REQUEST_LIMIT: u64 = 64 * 1024;

/// The entropy device.
pub struct Rng {
    source: Box<dyn EntropySource>,
}

/// Saved state of virtio-rng.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RngState {
    /// Position of a repeatable source.
    pub position: Option<u64>,
}

impl Rng {
    /// An entropy device with this source.
    pub fn new(source: Box<dyn EntropySource>) -> Self {
        Self { source }
    }
}

impl<M: GuestMemory> VirtioDevice<M> for Rng {
    fn device_id(&self) -> u8 {
        4
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn config(&self, _order: ByteOrder) -> Vec<u8> {
        Vec::new()
    }

    fn activate(&mut self, _features: u64, _order: ByteOrder) {}

    fn reset(&mut self) {}

    fn process_queue(&mut self, mem: &M, _index: u16, queue: &mut VirtQueue) -> Result<bool, QueueError> {
        let mut used = false;
        // A driver that keeps adding chains gets its turn back after one ring.
        for _ in 0..queue.size() {
            let Some(chain) = queue.pop(mem)? else { break };
            let mut written = 0_u64;
            'chain: for segment in &chain.writable {
                let mut addr = segment.addr;
                let mut left = u64::from(segment.len).min(REQUEST_LIMIT - written);
                while left > 0 {
                    let mut buf = [0; 4096];
                    let part = &mut buf[..left.min(4096) as usize];
                    if let Err(error) = self.source.fill(part) {
                        tracing::warn!("virtio-rng: {error}");
                        break 'chain;
                    }
                    if let Err(error) = access::write(mem, addr, part) {
                        tracing::warn!("virtio-rng: buffer at {addr:#x}: {error}");
                        break 'chain;
                    }
                    addr += part.len() as u64;
                    left -= part.len() as u64;
                    written += part.len() as u64;
                }
            }
            queue.push_used(mem, chain.head, written as u32)?;
            used = true;
        }
        Ok(used)
    }

    fn save(&self) -> VirtioDeviceState {
        VirtioDeviceState::Rng(RngState { position: self.source.position() })
    }

    fn restore(&mut self, state: VirtioDeviceState) -> Result<(), Error> {
        let VirtioDeviceState::Rng(state) = state else {
            return Err(Error::State {
                device: "virtio-rng",
                reason: "the state belongs to another device".into(),
            });
        };
        if let Some(position) = state.position {
            self.source.seek(position);
        }
        Ok(())
    }
}
