//! virtio-balloon (virtio 1.2, 5.5): the guest gives pages back, the host lets go of what is behind them. The target
//! and what the guest says about its memory go through [`Balloon`]'s [`BalloonControl`].
//!
//! Whether a page may be discarded is not decided here: that is the machine's [`Discard`], which does nothing for a
//! protected guest. Free page hints and reports are not offered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use vm_memory::GuestMemory;

use super::queue::{QueueError, Segment, VirtQueue};
use super::{ByteOrder, HostEvent, VirtioDevice, VirtioDeviceState};
use crate::access::{self, AccessError};
use crate::{Error, Waker};

/// Bytes of a page of the balloon, whatever the guest's own pages are.
pub const PAGE: u64 = 4096;

/// Lets the host forget the content of guest pages.
pub trait Discard: Send + Sync {
    /// The guest does not need these pages; reading them may give zeros from now on. Called while the device is at
    /// work.
    fn discard(&self, address: u64, len: u64);
}

/// Is told how many pages are in the balloon, whenever the guest says another number. Called while the device is at
/// work.
pub type Observer = Box<dyn Fn(u32) + Send + Sync>;

/// Options of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalloonOptions {
    /// Offer VIRTIO_BALLOON_F_DEFLATE_ON_OOM.
    pub deflate_on_oom: bool,
    /// Offer VIRTIO_BALLOON_F_PAGE_POISON.
    pub page_poison: bool,
}

impl Default for BalloonOptions {
    fn default() -> Self {
        Self { deflate_on_oom: false, page_poison: true }
    }
}

/// What the guest says about its memory, by tag (5.5.6.3); unknown ones are `None`.
pub type Statistics = [Option<u64>; 10];

/// The operator's handle on a balloon. Clones are of the same device.
#[derive(Clone)]
pub struct BalloonControl(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    waker: Waker,
}

#[derive(Default)]
struct State {
    registers: Registers,
    statistics: Statistics,
    /// Counts the reports of the guest.
    reports: u64,
    /// A report is wanted.
    wanted: bool,
    /// The guest is to be told of another target.
    changed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Registers {
    /// Pages that are to be in the balloon.
    target: u32,
    /// Pages that the guest says are.
    actual: u32,
    poison: u32,
}

/// The device.
pub struct Balloon {
    control: BalloonControl,
    options: BalloonOptions,
    discard: Box<dyn Discard>,
    observer: Observer,
    order: ByteOrder,
    /// The buffer for the next report.
    report: Option<u16>,
}

/// Saved state of a balloon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalloonState {
    registers: Registers,
    report: Option<u16>,
}

mod feature {
    pub(super) const STATS_VQ: u64 = 1 << 1;
    pub(super) const DEFLATE_ON_OOM: u64 = 1 << 2;
    pub(super) const PAGE_POISON: u64 = 1 << 4;
}

const INFLATE: u16 = 0;
const STATISTICS: u16 = 2;
const QUEUE_SIZES: [u16; 3] = [128; 3];
/// Bytes of page numbers that are read at once.
const CHUNK: usize = 4096;
/// Page numbers of one buffer that are looked at. Giving pages back is advice, so the rest may be ignored.
const MOST_PAGES: u64 = 65_536;
/// Bytes of one statistic: a tag and a value.
const STATISTIC_LEN: usize = 10;
/// Statistics of one report that are looked at.
const MOST_STATISTICS: usize = 64;

impl BalloonControl {
    /// For a balloon that is still to be made.
    pub fn new() -> Self {
        Self(Arc::new(Shared { state: Mutex::new(State::default()), waker: Waker::new() }))
    }

    /// By which the device asks to be called.
    pub fn waker(&self) -> &Waker {
        &self.0.waker
    }

    /// Asks the guest for so many pages in the balloon.
    pub fn set_target(&self, pages: u32) {
        let mut state = self.lock();
        state.registers.target = pages;
        state.changed = true;
        drop(state);
        self.0.waker.wake();
    }

    /// Pages that the guest says are in the balloon.
    pub fn actual(&self) -> u32 {
        self.lock().registers.actual
    }

    /// Asks the guest for a report.
    pub fn ask(&self) {
        self.lock().wanted = true;
        self.0.waker.wake();
    }

    /// The newest report, and how many there were.
    pub fn statistics(&self) -> (Statistics, u64) {
        let state = self.lock();
        (state.statistics, state.reports)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for BalloonControl {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for BalloonControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BalloonControl").field("registers", &self.lock().registers).finish_non_exhaustive()
    }
}

impl Balloon {
    /// An empty balloon.
    pub fn new(
        control: BalloonControl,
        options: BalloonOptions,
        discard: Box<dyn Discard>,
        observer: Observer,
    ) -> Self {
        Self { control, options, discard, observer, order: ByteOrder::Little, report: None }
    }

    fn inflate<M: GuestMemory>(&self, mem: &M, segments: &[Segment]) -> Result<(), AccessError> {
        let mut run = Run { discard: &*self.discard, start: 0, len: 0 };
        let mut left = MOST_PAGES;
        for segment in segments {
            let count = u64::from(segment.len / 4).min(left);
            left -= count;
            let (mut at, mut bytes) = (segment.addr, count * 4);
            while bytes > 0 {
                let mut chunk = [0; CHUNK];
                let part = &mut chunk[..bytes.min(CHUNK as u64) as usize];
                access::read(mem, at, part)?;
                for number in part.as_chunks::<4>().0 {
                    run.add(u64::from(self.order.u32(*number)) * PAGE);
                }
                at += part.len() as u64;
                bytes -= part.len() as u64;
            }
        }
        run.flush();
        Ok(())
    }

    /// Takes a report; the buffer stays until the next is wanted.
    fn statistics<M: GuestMemory>(&self, mem: &M, segments: &[Segment]) -> Result<(), AccessError> {
        let mut bytes = Vec::new();
        for segment in segments {
            let room = (STATISTIC_LEN * MOST_STATISTICS).saturating_sub(bytes.len());
            let mut part = vec![0; room.min(segment.len as usize)];
            access::read(mem, segment.addr, &mut part)?;
            bytes.extend(part);
        }
        let mut state = self.control.lock();
        state.statistics = Statistics::default();
        for entry in bytes.as_chunks::<STATISTIC_LEN>().0 {
            let [t0, t1, value @ ..] = *entry;
            if let Some(place) = state.statistics.get_mut(usize::from(self.order.u16([t0, t1]))) {
                *place = Some(self.order.u64(value));
            }
        }
        state.reports += 1;
        Ok(())
    }
}

/// Neighbouring pages, so that they are discarded together.
struct Run<'a> {
    discard: &'a dyn Discard,
    start: u64,
    len: u64,
}

impl Run<'_> {
    fn add(&mut self, page: u64) {
        if self.len > 0 && page == self.start + self.len {
            self.len += PAGE;
        } else if self.len > 0 && page + PAGE == self.start {
            self.start = page;
            self.len += PAGE;
        } else {
            self.flush();
            (self.start, self.len) = (page, PAGE);
        }
    }

    fn flush(&mut self) {
        if self.len > 0 {
            self.discard.discard(self.start, self.len);
        }
        self.len = 0;
    }
}

impl<M: GuestMemory> VirtioDevice<M> for Balloon {
    fn device_id(&self) -> u8 {
        5
    }

    fn features(&self) -> u64 {
        let oom = if self.options.deflate_on_oom { feature::DEFLATE_ON_OOM } else { 0 };
        let poison = if self.options.page_poison { feature::PAGE_POISON } else { 0 };
        feature::STATS_VQ | oom | poison
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    /// Target, actual, and with page poisoning a command id of free page hints, which stays 0, and the poison (5.5.4).
    /// They are little-endian for legacy drivers, too.
    fn config(&self, _order: ByteOrder) -> Vec<u8> {
        let registers = self.control.lock().registers;
        let mut config = [registers.target.to_le_bytes(), registers.actual.to_le_bytes()].concat();
        if self.options.page_poison {
            config.extend([0; 4]);
            config.extend(registers.poison.to_le_bytes());
        }
        config
    }

    fn write_config(&mut self, _order: ByteOrder, data: &[u8]) {
        let mut state = self.control.lock();
        if let Some(&[a, b, c, d]) = data.get(12..16) {
            state.registers.poison = u32::from_le_bytes([a, b, c, d]);
        }
        let Some(&[a, b, c, d]) = data.get(4..8) else { return };
        let actual = u32::from_le_bytes([a, b, c, d]);
        let before = std::mem::replace(&mut state.registers.actual, actual);
        drop(state);
        if actual != before {
            (self.observer)(actual);
        }
    }

    fn activate(&mut self, _features: u64, order: ByteOrder) {
        self.order = order;
    }

    fn reset(&mut self) {
        self.report = None;
        let mut state = self.control.lock();
        state.registers.poison = 0;
        state.statistics = Statistics::default();
    }

    fn process_queue(&mut self, mem: &M, index: u16, queue: &mut VirtQueue) -> Result<bool, QueueError> {
        let mut used = false;
        for _ in 0..queue.size() {
            let Some(chain) = queue.pop(mem)? else { break };
            let done = match index {
                INFLATE => self.inflate(mem, &chain.readable),
                STATISTICS => self.statistics(mem, &chain.readable),
                // Deflated pages come back when they are touched.
                _ => Ok(()),
            };
            if let Err(error) = done {
                tracing::warn!(queue = index, "virtio-balloon: {error}");
            }
            // A driver has one report under way; of several only the last is kept.
            let finished = match index {
                STATISTICS => self.report.replace(chain.head),
                _ => Some(chain.head),
            };
            if let Some(head) = finished {
                queue.push_used(mem, head, 0)?;
                used = true;
            }
        }
        Ok(used)
    }

    fn host_event(&mut self, mem: &M, queues: &mut [VirtQueue]) -> Result<HostEvent, QueueError> {
        let mut state = self.control.lock();
        let config = std::mem::take(&mut state.changed);
        let wanted = std::mem::take(&mut state.wanted);
        drop(state);
        let mut event = HostEvent { used: 0, config };
        let queue = queues.get_mut(usize::from(STATISTICS)).filter(|queue| queue.ready());
        if let (true, Some(queue)) = (wanted, queue)
            && let Some(head) = self.report.take()
        {
            queue.push_used(mem, head, 0)?;
            event.used = 1 << STATISTICS;
        }
        Ok(event)
    }

    fn save(&self) -> VirtioDeviceState {
        let registers = self.control.lock().registers;
        VirtioDeviceState::Balloon(BalloonState { registers, report: self.report })
    }

    fn restore(&mut self, state: VirtioDeviceState) -> Result<(), Error> {
        let VirtioDeviceState::Balloon(state) = state else {
            return Err(Error::State {
                device: "virtio-balloon",
                reason: "the state belongs to another device".into(),
            });
        };
        self.control.lock().registers = state.registers;
        self.report = state.report;
        Ok(())
    }
}
