//! A split virtqueue (virtio 1.2, 2.7) in either form: little-endian rings at three addresses through `virtio-queue`,
//! or the one-block, guest-endian ring of a legacy device. Both give whole descriptor chains, checked, and take back
//! used lengths.
//!
//! Nothing is mapped: every access goes through the host view at the time it is made.

use serde::{Deserialize, Serialize};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemory};

use super::ByteOrder;
use crate::access::{self, AccessError};

/// What makes a queue unusable until the driver resets the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The driver has not set the queue up.
    #[error("the queue is not set up")]
    NotReady,
    /// The ring cannot be reached.
    #[error("a ring cannot be accessed: {0}")]
    Access(#[from] AccessError),
    /// The ring contradicts itself.
    #[error("the available ring is inconsistent")]
    Ring,
    /// A descriptor chain is broken: it loops, ends early or mixes directions.
    #[error("descriptor chain {0} is broken")]
    Chain(u16),
}

/// A buffer of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Guest address.
    pub addr: u64,
    /// Length in bytes.
    pub len: u32,
}

/// A descriptor chain: what the device reads, then what it writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The descriptor that heads the chain; goes back with the used length.
    pub head: u16,
    /// Device-readable buffers.
    pub readable: Vec<Segment>,
    /// Device-writable buffers.
    pub writable: Vec<Segment>,
    bytes: u64,
}

/// Addresses and size of a queue as the driver set them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// Virtio 1.x: three parts.
    Split {
        /// Descriptor table.
        desc: u64,
        /// Available ring.
        avail: u64,
        /// Used ring.
        used: u64,
    },
    /// Legacy: one block; the used ring starts at the next multiple of the alignment.
    Legacy {
        /// Start of the block.
        base: u64,
        /// Alignment of the used ring, a power of two.
        align: u32,
    },
}

/// Saved state of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueState {
    /// Addresses; `None` until the driver set them.
    pub layout: Option<Layout>,
    /// Size in descriptors.
    pub size: u16,
    /// Next entry of the available ring.
    pub next_avail: u16,
    /// Next entry of the used ring.
    pub next_used: u16,
    /// Event index negotiated.
    pub event_idx: bool,
}

/// A virtqueue.
pub struct VirtQueue {
    max_size: u16,
    layout: Option<Layout>,
    ring: Ring,
}

enum Ring {
    /// With the used index at the last notification.
    Modern(Queue, u16),
    Legacy(LegacyRing),
}

impl VirtQueue {
    /// An unused queue of at most this size, a power of two up to 32768.
    pub fn new(max_size: u16) -> Self {
        let max_size = if max_size.is_power_of_two() { max_size } else { 1 };
        Self { max_size, layout: None, ring: Ring::Legacy(LegacyRing::default()) }
    }

    /// The maximum size.
    pub fn max_size(&self) -> u16 {
        self.max_size
    }

    /// The size that the driver chose, or 0.
    pub fn size(&self) -> u16 {
        match &self.ring {
            Ring::Modern(queue, _) => queue.size(),
            Ring::Legacy(ring) => ring.size,
        }
    }

    /// Whether the driver set the queue up.
    pub fn ready(&self) -> bool {
        self.layout.is_some()
    }

    /// Sets the queue up. Returns false if the size or an alignment is not allowed.
    pub fn configure(&mut self, layout: Layout, size: u16, event_idx: bool) -> bool {
        self.reset();
        if size == 0 || size > self.max_size || !size.is_power_of_two() {
            return false;
        }
        self.ring = match layout {
            Layout::Split { desc, avail, used } => {
                let Ok(mut queue) = Queue::new(self.max_size) else { return false };
                let set = queue.try_set_size(size).is_ok()
                    && queue.try_set_desc_table_address(GuestAddress(desc)).is_ok()
                    && queue.try_set_avail_ring_address(GuestAddress(avail)).is_ok()
                    && queue.try_set_used_ring_address(GuestAddress(used)).is_ok();
                if !set {
                    return false;
                }
                queue.set_event_idx(event_idx);
                queue.set_ready(true);
                Ring::Modern(queue, 0)
            }
            Layout::Legacy { base, align } => match LegacyRing::new(base, align, size, event_idx) {
                Some(ring) => Ring::Legacy(ring),
                None => return false,
            },
        };
        self.layout = Some(layout);
        true
    }

    /// Says whether the event index was negotiated, when that happens after the queue was set up.
    pub fn set_event_idx(&mut self, enabled: bool) {
        match &mut self.ring {
            Ring::Modern(queue, _) => queue.set_event_idx(enabled),
            Ring::Legacy(ring) => ring.event_idx = enabled,
        }
    }

    /// Forgets everything that the driver set.
    pub fn reset(&mut self) {
        self.layout = None;
        self.ring = Ring::Legacy(LegacyRing::default());
    }

    /// Takes the next available chain.
    ///
    /// # Errors
    /// The ring or the chain is broken.
    pub fn pop<M: GuestMemory>(&mut self, mem: &M) -> Result<Option<Chain>, QueueError> {
        if self.layout.is_none() {
            return Err(QueueError::NotReady);
        }
        match &mut self.ring {
            Ring::Modern(queue, _) => pop_modern(queue, mem),
            Ring::Legacy(ring) => ring.pop(mem),
        }
    }

    /// Gives a chain back with the number of bytes written to it.
    ///
    /// # Errors
    /// The used ring cannot be written.
    pub fn push_used<M: GuestMemory>(&mut self, mem: &M, head: u16, len: u32) -> Result<(), QueueError> {
        match &mut self.ring {
            Ring::Modern(queue, _) => queue.add_used(mem, head, len).map_err(translate),
            Ring::Legacy(ring) => ring.push_used(mem, head, len),
        }
    }

    /// Gives several chains back at once: the driver sees all of them or none (virtio 1.2, 2.7.8.2 with 5.1.6.4).
    ///
    /// # Errors
    /// The used ring cannot be written.
    pub fn push_used_all<M: GuestMemory>(&mut self, mem: &M, chains: &[(u16, u32)]) -> Result<(), QueueError> {
        if let &[(head, len)] = chains {
            return self.push_used(mem, head, len);
        }
        let (used, size, next, order) = match &self.ring {
            Ring::Modern(queue, _) => (queue.used_ring(), queue.size(), queue.next_used(), ByteOrder::Little),
            Ring::Legacy(ring) => (ring.used, ring.size, ring.next_used, LegacyRing::ORDER),
        };
        let mut after = next;
        for &(head, len) in chains {
            let mut element = [0; 8];
            element[..4].copy_from_slice(&order.put32(u32::from(head)));
            element[4..].copy_from_slice(&order.put32(len));
            access::write(mem, used.wrapping_add(4 + 8 * u64::from(after % size.max(1))), &element)?;
            after = after.wrapping_add(1);
        }
        std::sync::atomic::fence(std::sync::atomic::Ordering::Release);
        access::write(mem, used.wrapping_add(2), &order.put16(after))?;
        match &mut self.ring {
            Ring::Modern(queue, _) => queue.set_next_used(after),
            Ring::Legacy(ring) => ring.next_used = after,
        }
        Ok(())
    }

    /// Asks the driver for a doorbell at the next available chain, and tells whether one arrived meanwhile. Only the
    /// event index needs this; without it the driver always rings.
    ///
    /// # Errors
    /// The used ring cannot be written.
    pub fn rearm<M: GuestMemory>(&mut self, mem: &M) -> Result<bool, QueueError> {
        match &mut self.ring {
            Ring::Modern(queue, _) if queue.event_idx_enabled() => {
                queue.enable_notification(mem).map_err(translate)
            }
            Ring::Legacy(ring) if ring.event_idx => ring.rearm(mem),
            Ring::Modern(..) | Ring::Legacy(_) => Ok(false),
        }
    }

    /// Whether the driver wants to be told about the chains used since the last call (virtio 1.2, 2.7.7).
    ///
    /// # Errors
    /// The available ring cannot be read.
    pub fn needs_notification<M: GuestMemory>(&mut self, mem: &M) -> Result<bool, QueueError> {
        match &mut self.ring {
            Ring::Modern(queue, signalled) if queue.event_idx_enabled() => {
                std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
                let event_at = queue.avail_ring().wrapping_add(4 + 2 * u64::from(queue.size()));
                let event = read16(mem, event_at, ByteOrder::Little)?;
                let new = queue.next_used();
                let old = std::mem::replace(signalled, new);
                Ok(new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old))
            }
            Ring::Modern(queue, _) => {
                // virtio-queue does not look at VIRTQ_AVAIL_F_NO_INTERRUPT.
                let flags = read16(mem, queue.avail_ring(), ByteOrder::Little)?;
                Ok(flags & 1 == 0)
            }
            Ring::Legacy(ring) => ring.needs_notification(mem),
        }
    }

    /// The state to save.
    pub fn save(&self) -> QueueState {
        match &self.ring {
            Ring::Modern(q, _) => QueueState {
                layout: self.layout,
                size: q.size(),
                next_avail: q.next_avail(),
                next_used: q.next_used(),
                event_idx: q.event_idx_enabled(),
            },
            Ring::Legacy(r) => QueueState {
                layout: self.layout,
                size: r.size,
                next_avail: r.next_avail,
                next_used: r.next_used,
                event_idx: r.event_idx,
            },
        }
    }

    /// Continues from a saved state. Returns false if it is not a possible one.
    pub fn restore(&mut self, state: QueueState) -> bool {
        self.reset();
        let Some(layout) = state.layout else { return true };
        if !self.configure(layout, state.size, state.event_idx) {
            return false;
        }
        match &mut self.ring {
            Ring::Modern(queue, signalled) => {
                queue.set_next_avail(state.next_avail);
                queue.set_next_used(state.next_used);
                *signalled = state.next_used;
            }
            Ring::Legacy(ring) => {
                ring.next_avail = state.next_avail;
                ring.next_used = state.next_used;
                ring.signalled = state.next_used;
            }
        }
        true
    }
}

fn pop_modern<M: GuestMemory>(queue: &mut Queue, mem: &M) -> Result<Option<Chain>, QueueError> {
    use virtio_queue::QueueOwnedT;
    let Some(descriptors) = queue.iter(mem).map_err(translate)?.next() else {
        return Ok(None);
    };
    let head = descriptors.head_index();
    let mut chain = Chain { head, ..Chain::default() };
    let mut open = true;
    for d in descriptors {
        open = d.has_next();
        chain.add(d.addr().0, d.len(), d.is_write_only())?;
    }
    // The iterator ends silently at a descriptor that it cannot read or follow.
    if open { Err(QueueError::Chain(head)) } else { Ok(Some(chain)) }
}

impl Chain {
    /// A chain that was taken before, with nothing to read.
    pub fn taken(head: u16, writable: Vec<Segment>) -> Self {
        Self { head, writable, ..Self::default() }
    }

    /// All bytes that the device may write.
    pub fn writable_len(&self) -> u64 {
        self.writable.iter().map(|s| u64::from(s.len)).sum()
    }

    /// All bytes that the device may read.
    pub fn readable_len(&self) -> u64 {
        self.readable.iter().map(|s| u64::from(s.len)).sum()
    }

    fn add(&mut self, addr: u64, len: u32, writable: bool) -> Result<(), QueueError> {
        let segment = Segment { addr, len };
        // A chain has at most 4 GiB (2.7.5.2), readable buffers first (2.7.4.2).
        self.bytes += u64::from(len);
        let too_long = self.bytes > u64::from(u32::MAX) || addr.checked_add(u64::from(len)).is_none();
        if too_long || (!writable && !self.writable.is_empty()) {
            return Err(QueueError::Chain(self.head));
        }
        if writable {
            self.writable.push(segment)
        } else {
            self.readable.push(segment)
        }
        Ok(())
    }
}

/// A ring in one block with the guest's byte order (virtio 1.2, 2.7.3 "Legacy Interfaces: A Note on Virtqueue Layout").
#[derive(Default)]
struct LegacyRing {
    desc: u64,
    avail: u64,
    used: u64,
    size: u16,
    next_avail: u16,
    next_used: u16,
    /// Used index at the last notification.
    signalled: u16,
    event_idx: bool,
}

impl LegacyRing {
    const ORDER: ByteOrder = ByteOrder::Big;

    fn new(base: u64, align: u32, size: u16, event_idx: bool) -> Option<Self> {
        if !align.is_power_of_two() || !base.is_multiple_of(16) {
            return None;
        }
        let avail = base.checked_add(16 * u64::from(size))?;
        let used = avail.checked_add(6 + 2 * u64::from(size))?.checked_next_multiple_of(u64::from(align))?;
        used.checked_add(6 + 8 * u64::from(size))?;
        Some(Self { desc: base, avail, used, size, event_idx, ..Self::default() })
    }

    fn pop<M: GuestMemory>(&mut self, mem: &M) -> Result<Option<Chain>, QueueError> {
        let available = read16(mem, self.avail + 2, Self::ORDER)?.wrapping_sub(self.next_avail);
        if available == 0 {
            return Ok(None);
        }
        if available > self.size {
            return Err(QueueError::Ring);
        }
        // The entry must not be read before the index that publishes it.
        std::sync::atomic::fence(std::sync::atomic::Ordering::Acquire);
        let slot = u64::from(self.next_avail % self.size);
        let head = read16(mem, self.avail + 4 + 2 * slot, Self::ORDER)?;
        self.next_avail = self.next_avail.wrapping_add(1);
        self.chain(mem, head).map(Some)
    }

    fn chain<M: GuestMemory>(&self, mem: &M, head: u16) -> Result<Chain, QueueError> {
        const NEXT: u16 = 1;
        const WRITE: u16 = 2;
        const INDIRECT: u16 = 4;
        let broken = QueueError::Chain(head);
        let mut chain = Chain { head, ..Chain::default() };
        let (mut table, mut size, mut indirect) = (self.desc, self.size, false);
        let (mut index, mut left) = (head, self.size);
        loop {
            if index >= size || left == 0 {
                return Err(broken);
            }
            let mut d = [0; 16];
            let at = table.checked_add(16 * u64::from(index)).ok_or(broken)?;
            access::read(mem, at, &mut d)?;
            let order = Self::ORDER;
            let addr = order.u64([d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]);
            let len = order.u32([d[8], d[9], d[10], d[11]]);
            let flags = order.u16([d[12], d[13]]);
            if flags & INDIRECT != 0 {
                if indirect || len == 0 || len % 16 != 0 || len / 16 > u32::from(u16::MAX) {
                    return Err(broken);
                }
                (table, size, indirect, index) = (addr, (len / 16) as u16, true, 0);
                left = size;
                continue;
            }
            chain.add(addr, len, flags & WRITE != 0)?;
            if flags & NEXT == 0 {
                return Ok(chain);
            }
            index = order.u16([d[14], d[15]]);
            left -= 1;
        }
    }

    fn push_used<M: GuestMemory>(&mut self, mem: &M, head: u16, len: u32) -> Result<(), QueueError> {
        let slot = u64::from(self.next_used % self.size.max(1));
        let mut element = [0; 8];
        element[..4].copy_from_slice(&Self::ORDER.put32(u32::from(head)));
        element[4..].copy_from_slice(&Self::ORDER.put32(len));
        access::write(mem, self.used + 4 + 8 * slot, &element)?;
        std::sync::atomic::fence(std::sync::atomic::Ordering::Release);
        self.next_used = self.next_used.wrapping_add(1);
        access::write(mem, self.used + 2, &Self::ORDER.put16(self.next_used))?;
        Ok(())
    }

    fn rearm<M: GuestMemory>(&mut self, mem: &M) -> Result<bool, QueueError> {
        let event = self.used + 4 + 8 * u64::from(self.size);
        access::write(mem, event, &Self::ORDER.put16(self.next_avail))?;
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        Ok(read16(mem, self.avail + 2, Self::ORDER)? != self.next_avail)
    }

    fn needs_notification<M: GuestMemory>(&mut self, mem: &M) -> Result<bool, QueueError> {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        if !self.event_idx {
            return Ok(read16(mem, self.avail, Self::ORDER)? & 1 == 0);
        }
        let event = read16(mem, self.avail + 4 + 2 * u64::from(self.size), Self::ORDER)?;
        let (old, new) = (std::mem::replace(&mut self.signalled, self.next_used), self.next_used);
        Ok(new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old))
    }
}

fn read16<M: GuestMemory>(mem: &M, addr: u64, order: ByteOrder) -> Result<u16, QueueError> {
    let mut bytes = [0; 2];
    access::read(mem, addr, &mut bytes)?;
    Ok(order.u16(bytes))
}

fn translate(error: virtio_queue::Error) -> QueueError {
    match error {
        virtio_queue::Error::GuestMemory(e) => QueueError::Access(e.into()),
        virtio_queue::Error::QueueNotReady => QueueError::NotReady,
        _ => QueueError::Ring,
    }
}
