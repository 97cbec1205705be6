//! The virtio-ccw transport (virtio 1.2, 4.3 "Virtio Over Channel I/O"), revisions 0 to 2, with classic indicators and
//! with adapter (thin) interrupts.
//!
//! Revision 0 is the legacy interface: rings and configuration in the guest's byte order, which is big-endian here; the
//! boot loader in the machine's firmware uses it. The transport knows nothing of protected guests: with
//! `iommu_platform` it insists that a modern driver accepts VIRTIO_F_ACCESS_PLATFORM, and a page that the guest keeps
//! private answers every driver with an access error.

use serde::{Deserialize, Serialize};
use vm_memory::GuestMemory;

use super::queue::{Layout, QueueState, VirtQueue};
use super::{ByteOrder, VirtioDevice, VirtioDeviceState, feature};
use crate::Error;
use crate::access;
use crate::css::{CcwDevice, CommandError, DeviceState, SenseId, Signals, Transfer};

/// Options of the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioCcwOptions {
    /// Offer VIRTIO_F_ACCESS_PLATFORM and insist on it from revision 1 on. A legacy driver cannot know it; the boot
    /// loader is one, and reads its disk with this option on (measured with QEMU 7.2).
    pub iommu_platform: bool,
    /// Refuse legacy drivers: every virtio command before a revision of at least 1 is set is rejected.
    pub force_revision_1: bool,
    /// The latest revision on offer.
    pub max_revision: u16,
    /// Offer the event index.
    pub event_idx: bool,
    /// Offer indirect descriptors.
    pub indirect_desc: bool,
}

impl Default for VirtioCcwOptions {
    fn default() -> Self {
        Self {
            iommu_platform: false,
            force_revision_1: false,
            max_revision: 2,
            event_idx: true,
            indirect_desc: true,
        }
    }
}

/// A virtio device behind a subchannel.
pub struct VirtioCcw<M: GuestMemory> {
    device: Box<dyn VirtioDevice<M>>,
    options: VirtioCcwOptions,
    queues: Vec<VirtQueue>,
    regs: Registers,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Registers {
    revision: Option<u16>,
    status: u8,
    features: u64,
    classic: Option<u64>,
    config: Option<u64>,
    adapter: Option<AdapterIndicators>,
}

/// Indicators of adapter interruptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AdapterIndicators {
    summary: u64,
    device: u64,
    bit: u64,
    isc: u8,
}

/// Saved state of a virtio-ccw device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtioCcwState {
    /// Version of this structure.
    pub version: u16,
    registers: Registers,
    queues: Vec<QueueState>,
    device: VirtioDeviceState,
}

mod command {
    pub(super) const SET_REVISION: u8 = 0x83;
    pub(super) const RESET: u8 = 0x33;
    pub(super) const READ_STATUS: u8 = 0x72;
    pub(super) const WRITE_STATUS: u8 = 0x31;
    pub(super) const READ_FEATURES: u8 = 0x12;
    pub(super) const WRITE_FEATURES: u8 = 0x11;
    pub(super) const READ_CONFIG: u8 = 0x22;
    pub(super) const WRITE_CONFIG: u8 = 0x21;
    pub(super) const READ_QUEUE: u8 = 0x32;
    pub(super) const SET_QUEUE: u8 = 0x13;
    pub(super) const SET_INDICATORS: u8 = 0x43;
    pub(super) const SET_CONFIG_INDICATORS: u8 = 0x53;
    pub(super) const SET_ADAPTER_INDICATORS: u8 = 0x73;
}

mod status {
    pub(super) const DRIVER_OK: u8 = 0x04;
    pub(super) const FEATURES_OK: u8 = 0x08;
    pub(super) const NEEDS_RESET: u8 = 0x40;
}

/// Alignment of a legacy ring on s390x.
const LEGACY_ALIGN: u32 = 4096;
/// Bits of a classic indicator.
const CLASSIC_BITS: usize = 64;
/// Rounds of one doorbell, far beyond what a sane driver adds meanwhile: another CPU of the guest cannot hold the
/// device forever.
const ROUNDS: u32 = 1024;

impl<M: GuestMemory> VirtioCcw<M> {
    /// Puts a device behind the transport.
    pub fn new(device: Box<dyn VirtioDevice<M>>, options: VirtioCcwOptions) -> Self {
        let queues = device.queue_sizes().iter().map(|&size| VirtQueue::new(size)).collect();
        Self { device, options, queues, regs: Registers::default() }
    }

    fn offered(&self) -> u64 {
        let mut features = self.device.features();
        if self.options.indirect_desc {
            features |= feature::INDIRECT_DESC;
        }
        if self.options.event_idx {
            features |= feature::EVENT_IDX;
        }
        if self.regs.revision.unwrap_or(0) >= 1 {
            features |= feature::VERSION_1;
            if self.options.iommu_platform {
                features |= feature::ACCESS_PLATFORM;
            }
        }
        features
    }

    fn legacy(&self) -> bool {
        self.regs.revision.unwrap_or(0) == 0
    }

    fn order(&self) -> ByteOrder {
        if self.legacy() { ByteOrder::Big } else { ByteOrder::Little }
    }

    fn features_acceptable(&self) -> bool {
        let features = self.regs.features;
        let missing = |bit| features & bit == 0;
        let modern = !self.legacy();
        !(features & !self.offered() != 0
            || modern && missing(feature::VERSION_1)
            || modern && self.options.iommu_platform && missing(feature::ACCESS_PLATFORM))
    }

    fn reset_virtio(&mut self) {
        let revision = self.regs.revision;
        self.regs = Registers { revision, ..Registers::default() };
        self.queues.iter_mut().for_each(VirtQueue::reset);
        self.device.reset();
    }

    fn set_revision(&mut self, t: &mut Transfer<'_, M>) -> Result<(), CommandError> {
        let mut block = [0; 4];
        t.read(&mut block)?;
        let revision = u16::from_be_bytes([block[0], block[1]]);
        let length = u16::from_be_bytes([block[2], block[3]]);
        // No revision so far has data of its own.
        if !t.suppresses_length() && t.count() != 4 + u32::from(length) {
            return Err(CommandError::IncorrectLength);
        }
        let too_old = self.options.force_revision_1 && revision == 0;
        if self.regs.revision.is_some() || revision > self.options.max_revision || length != 0 || too_old {
            return Err(CommandError::Reject);
        }
        self.regs.revision = Some(revision);
        Ok(())
    }

    fn write_status(&mut self, t: &mut Transfer<'_, M>) -> Result<(), CommandError> {
        t.expect(1)?;
        let mut byte = [0];
        t.read(&mut byte)?;
        let new = byte[0];
        if new == 0 {
            self.reset_virtio();
            return Ok(());
        }
        let old = self.regs.status;
        let claims = new & (status::FEATURES_OK | status::DRIVER_OK) & !old;
        if claims != 0 && !self.features_acceptable() {
            tracing::debug!(features = self.regs.features, "virtio-ccw: the driver's features are refused");
            return Err(CommandError::Reject);
        }
        self.regs.status = new | old & status::NEEDS_RESET;
        if claims & status::DRIVER_OK != 0 {
            let event_idx = self.regs.features & feature::EVENT_IDX != 0;
            for queue in self.queues.iter_mut().filter(|q| q.ready()) {
                queue.set_event_idx(event_idx);
            }
            self.device.activate(self.regs.features, self.order());
        }
        Ok(())
    }

    fn read_features(&self, t: &mut Transfer<'_, M>) -> Result<(), CommandError> {
        t.expect(5)?;
        let mut block = [0; 5];
        t.read(&mut block)?;
        let part = match block[4] {
            0 => self.offered(),
            1 => self.offered() >> 32,
            _ => 0,
        };
        t.rewind();
        t.write(&((part & 0xffff_ffff) as u32).to_le_bytes())
    }

    fn write_features(&mut self, t: &mut Transfer<'_, M>) -> Result<(), CommandError> {
        t.expect(5)?;
        let mut block = [0; 5];
        t.read(&mut block)?;
        if self.regs.status & status::FEATURES_OK != 0 {
            return Err(CommandError::Reject);
        }
        let part = u64::from(u32::from_le_bytes([block[0], block[1], block[2], block[3]]));
        match block[4] {
            0 => self.regs.features = self.regs.features & !0xffff_ffff | part,
            1 => self.regs.features = self.regs.features & 0xffff_ffff | part << 32,
            // Further words exist for nobody; setting a bit there is refused.
            _ if part != 0 => return Err(CommandError::Reject),
            _ => {}
        }
        Ok(())
    }

    fn read_config(&self, t: &mut Transfer<'_, M>) -> Result<(), CommandError> {
        let config = self.device.config(self.order());
        let count = self.config_count(t, config.len())?;
        t.write(&config[..count])
    }

    fn write_config(&mut self, t: &mut Transfer<'_, M>) -> Result<(), CommandError> {
        let order = self.order();
        let count = self.config_count(t, self.device.config(order).len())?;
        let mut data = vec![0; count];
        t.read(&mut data)?;
        self.device.write_config(order, &data);
        Ok(())
    }

    fn config_count(&self, t: &Transfer<'_, M>, len: usize) -> Result<usize, CommandError> {
        let count = t.count() as usize;
        if count > len && !t.suppresses_length() {
            return Err(CommandError::IncorrectLength);
        }
        Ok(count.min(len))
    }

    fn read_queue(&self, t: &mut Transfer<'_, M>) -> Result<(), CommandError> {
        t.expect(4)?;
        let mut index = [0; 2];
        t.read(&mut index)?;
        let size = self.queues.get(usize::from(u16::from_be_bytes(index))).map_or(0, VirtQueue::max_size);
        t.write(&size.to_be_bytes())
    }

    fn set_queue(&mut self, t: &mut Transfer<'_, M>) -> Result<(), CommandError> {
        let legacy = self.legacy();
        let mut block = [0; 32];
        let (index, num, layout, remove) = if legacy {
            t.expect(16)?;
            t.read(&mut block[..16])?;
            let base = be64(&block, 0);
            let align = be32(&block, 8);
            if align != LEGACY_ALIGN && base != 0 {
                return Err(CommandError::Reject);
            }
            (be16(&block, 12), be16(&block, 14), Layout::Legacy { base, align }, base == 0)
        } else {
            t.expect(32)?;
            t.read(&mut block)?;
            let (desc, avail, used) = (be64(&block, 0), be64(&block, 16), be64(&block, 24));
            (be16(&block, 12), be16(&block, 14), Layout::Split { desc, avail, used }, desc == 0)
        };
        let event_idx = self.regs.features & feature::EVENT_IDX != 0;
        let queue = self.queues.get_mut(usize::from(index)).ok_or(CommandError::Reject)?;
        if remove {
            queue.reset();
            return Ok(());
        }
        // A legacy driver takes the size as it is.
        if legacy && num != queue.max_size() || !queue.configure(layout, num, event_idx) {
            return Err(CommandError::Reject);
        }
        Ok(())
    }

    fn set_classic(&mut self, t: &mut Transfer<'_, M>, config: bool) -> Result<(), CommandError> {
        t.expect(8)?;
        if !config && (self.regs.adapter.is_some() || self.queues.len() > CLASSIC_BITS) {
            return Err(CommandError::Reject);
        }
        let mut block = [0; 8];
        t.read(&mut block)?;
        let address = u64::from_be_bytes(block);
        let place = if config { &mut self.regs.config } else { &mut self.regs.classic };
        *place = (address != 0).then_some(address);
        Ok(())
    }

    fn set_adapter(&mut self, t: &mut Transfer<'_, M>) -> Result<(), CommandError> {
        t.expect(25)?;
        if self.regs.classic.is_some() {
            return Err(CommandError::Reject);
        }
        let mut block = [0; 25];
        t.read(&mut block)?;
        let indicators = AdapterIndicators {
            summary: be64(&block, 0),
            device: be64(&block, 8),
            bit: be64(&block, 16),
            isc: block[24] & 7,
        };
        self.regs.adapter = (indicators.summary != 0 && indicators.device != 0).then_some(indicators);
        Ok(())
    }

    /// Tells the driver about used buffers of a queue (virtio 1.2, 4.3.3.1 and 4.3.3.2).
    fn signal_queue(&self, mem: &M, queue: u16, signals: &mut Signals) {
        let done = if let Some(a) = self.regs.adapter {
            let bit = a.bit.wrapping_add(u64::from(queue));
            access::fetch_or(mem, a.device.wrapping_add(bit / 8), 0x80 >> (bit % 8))
                .and_then(|_| access::fetch_or(mem, a.summary, 1))
                .map(|old| {
                    // An unanswered summary means that an interruption is under way.
                    if old & 1 == 0 {
                        signals.adapter |= 1 << a.isc;
                    }
                })
        } else if let Some(address) = self.regs.classic {
            set_classic_bit(mem, address, queue).map(|()| signals.alert = true)
        } else {
            // A driver that polls.
            Ok(())
        };
        if let Err(error) = done {
            tracing::warn!("virtio-ccw: an indicator cannot be set: {error}");
        }
    }

    fn signal_config(&self, mem: &M, signals: &mut Signals) {
        if let Some(address) = self.regs.config {
            match set_classic_bit(mem, address, 0) {
                Ok(()) => signals.alert = true,
                Err(error) => {
                    tracing::warn!("virtio-ccw: the configuration indicator cannot be set: {error}")
                }
            }
        }
    }

    fn work(&mut self, mem: &M, index: u16, signals: &mut Signals) -> Result<(), super::queue::QueueError> {
        let Some(queue) = self.queues.get_mut(usize::from(index)) else { return Ok(()) };
        let mut notify = false;
        let mut result = Ok(());
        for _ in 0..ROUNDS {
            match self.device.process_queue(mem, index, queue) {
                Ok(used) => notify |= used && queue.needs_notification(mem)?,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
            if !self.device.waits_for_chains(index) || !queue.rearm(mem)? {
                break;
            }
        }
        if notify {
            self.signal_queue(mem, index, signals);
        }
        result
    }

    /// Whether the driver may expect the device to work.
    fn running(&self) -> bool {
        self.regs.status & status::DRIVER_OK != 0 && self.regs.status & status::NEEDS_RESET == 0
    }

    /// After an error in a ring: the driver has to reset the device (virtio 1.2, 2.1.2).
    fn broken(&mut self, mem: &M, error: &super::queue::QueueError, signals: &mut Signals) {
        tracing::warn!("virtio-ccw: the device needs a reset: {error}");
        self.regs.status |= status::NEEDS_RESET;
        if !self.legacy() {
            self.signal_config(mem, signals);
        }
    }

    fn event(&mut self, mem: &M, signals: &mut Signals) -> Result<(), super::queue::QueueError> {
        let event = self.device.host_event(mem, &mut self.queues)?;
        for index in 0..self.queues.len().min(64) {
            if event.used >> index & 1 == 1 && self.queues[index].needs_notification(mem)? {
                self.signal_queue(mem, index as u16, signals);
            }
        }
        if event.config {
            self.signal_config(mem, signals);
        }
        Ok(())
    }
}

impl<M: GuestMemory> CcwDevice<M> for VirtioCcw<M> {
    fn identity(&self) -> SenseId {
        SenseId {
            control_unit: 0x3832,
            control_unit_model: self.device.device_id(),
            device: 0,
            device_model: 0,
        }
    }

    fn execute(
        &mut self,
        command: u8,
        t: &mut Transfer<'_, M>,
        _signals: &mut Signals,
    ) -> Result<(), CommandError> {
        tracing::trace!(target: "virtio_ccw_interpret_ccw", command, count = t.count(), ?self.regs);
        if command == command::SET_REVISION {
            return self.set_revision(t);
        }
        if self.regs.revision.is_none() {
            // Any other command first means revision 0 (virtio 1.2, 4.3.2.1).
            if self.options.force_revision_1 {
                return Err(CommandError::Reject);
            }
            self.regs.revision = Some(0);
        }
        match command {
            command::RESET => {
                t.ignore_length();
                self.reset_virtio();
                Ok(())
            }
            command::READ_STATUS if self.regs.revision >= Some(2) => {
                t.expect(1)?;
                t.write(&[self.regs.status])
            }
            command::WRITE_STATUS => self.write_status(t),
            command::READ_FEATURES => self.read_features(t),
            command::WRITE_FEATURES => self.write_features(t),
            command::READ_CONFIG => self.read_config(t),
            command::WRITE_CONFIG => self.write_config(t),
            command::READ_QUEUE => self.read_queue(t),
            command::SET_QUEUE => self.set_queue(t),
            command::SET_INDICATORS => self.set_classic(t, false),
            command::SET_CONFIG_INDICATORS => self.set_classic(t, true),
            command::SET_ADAPTER_INDICATORS => self.set_adapter(t),
            _ => Err(CommandError::Reject),
        }
    }

    fn notify(&mut self, mem: &M, index: u16, signals: &mut Signals) -> bool {
        let Some(queue) = self.queues.get(usize::from(index)) else { return false };
        let ready = queue.ready();
        if self.running()
            && ready
            && let Err(error) = self.work(mem, index, signals)
        {
            self.broken(mem, &error, signals);
        }
        true
    }

    fn host_event(&mut self, mem: &M, signals: &mut Signals) {
        if self.running()
            && let Err(error) = self.event(mem, signals)
        {
            self.broken(mem, &error, signals);
        }
    }

    fn disabled(&mut self) {
        self.regs.revision = None;
    }

    fn reset(&mut self) {
        self.reset_virtio();
        self.regs.revision = None;
    }

    fn save(&self) -> DeviceState {
        DeviceState::VirtioCcw(Box::new(VirtioCcwState {
            version: 1,
            registers: self.regs,
            queues: self.queues.iter().map(VirtQueue::save).collect(),
            device: self.device.save(),
        }))
    }

    fn restore(&mut self, state: DeviceState) -> Result<(), Error> {
        let fail = |reason: String| Error::State { device: "virtio-ccw", reason };
        let DeviceState::VirtioCcw(state) = state;
        if state.version != 1 {
            return Err(fail(format!("state version {} is unknown", state.version)));
        }
        if state.queues.len() != self.queues.len() {
            return Err(fail(format!(
                "{} queues were saved, the device has {}",
                state.queues.len(),
                self.queues.len()
            )));
        }
        self.device.restore(state.device)?;
        self.regs = state.registers;
        for (index, (queue, saved)) in self.queues.iter_mut().zip(&state.queues).enumerate() {
            if !queue.restore(*saved) {
                return Err(fail(format!("queue {index} is impossible")));
            }
        }
        if self.regs.status & status::DRIVER_OK != 0 {
            self.device.activate(self.regs.features, self.order());
        }
        Ok(())
    }
}

/// Sets bit `n`, counted from the right, of a big-endian doubleword, atomically by its byte.
fn set_classic_bit<M: GuestMemory>(mem: &M, address: u64, n: u16) -> Result<(), access::AccessError> {
    let byte = address.wrapping_add(7 - u64::from(n % 64) / 8);
    access::fetch_or(mem, byte, 1 << (n % 8)).map(drop)
}

fn be16(block: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([block[at], block[at + 1]])
}

fn be32(block: &[u8], at: usize) -> u32 {
    u32::from(be16(block, at)) << 16 | u32::from(be16(block, at + 2))
}

fn be64(block: &[u8], at: usize) -> u64 {
    u64::from(be32(block, at)) << 32 | u64::from(be32(block, at + 4))
}
