//! virtio-blk (virtio 1.2, 5.2) over a [`DiskBackend`]: read, write, flush, identity, discard, write zeroes, several
//! queues, the write-cache switch, and what follows an error of the host's disk.
//!
//! No zoned storage, no lifetime information, no secure erase. Data move through a buffer of the device, and guest memory
//! is touched only while the machine calls the device: a thread of the disk sees files and buffers. So a page that turns
//! private in the middle of a request is an I/O error and nothing else.

mod io;
mod status;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use vm_memory::GuestMemory;

use self::io::{Done, Job, Work, Worker, perform};
pub use self::status::{BlockStatus, Count, IoStatus, Operation};
use super::disk::DiskBackend;
use super::queue::{Chain, QueueError, Segment, VirtQueue};
use super::{ByteOrder, HostEvent, VirtioDevice, VirtioDeviceState};
use crate::Error;
use crate::access;
use crate::wake::Waker;

/// A disk that several may hold: the device, its thread, operators.
pub type SharedDisk = Arc<Mutex<Box<dyn DiskBackend>>>;

/// Options of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockOptions {
    /// Serial number; what is beyond 20 bytes is cut off.
    pub serial: String,
    /// Logical block size, a power of two from 512 to 2 MiB.
    pub block_size: u32,
    /// Physical block size, no smaller than the logical one.
    pub physical_block_size: u32,
    /// Best multiple for a request in bytes, or 0.
    pub min_io_size: u32,
    /// Best length of a request in bytes, or 0.
    pub opt_io_size: u32,
    /// Offer discard.
    pub discard: bool,
    /// Offer write zeroes.
    pub write_zeroes: bool,
    /// Smallest piece that a discard frees, in bytes; `None`: a logical block.
    pub discard_granularity: Option<u32>,
    /// Most sectors of a segment of a discard.
    pub max_discard_sectors: u32,
    /// Most sectors of a segment of a write of zeros.
    pub max_write_zeroes_sectors: u32,
    /// Cylinders, heads and sectors to tell; `None`: made up from the size.
    pub geometry: Option<(u16, u8, u8)>,
    /// Size of each queue, a power of two.
    pub queue_size: u16,
    /// Number of queues, 1 to 64.
    pub queues: u16,
    /// Let `seg_max` follow the queue size; else it is 126.
    pub seg_max_adjust: bool,
    /// Tell the guest of a write cache.
    pub write_cache: bool,
    /// Let the guest switch the write cache.
    pub config_wce: bool,
    /// What follows an error while writing.
    pub write_error: OnError,
    /// What follows an error while reading.
    pub read_error: OnError,
}

impl Default for BlockOptions {
    fn default() -> Self {
        Self {
            serial: String::new(),
            block_size: 512,
            physical_block_size: 512,
            min_io_size: 0,
            opt_io_size: 0,
            discard: true,
            write_zeroes: true,
            discard_granularity: None,
            max_discard_sectors: RANGE_LIMIT,
            max_write_zeroes_sectors: RANGE_LIMIT,
            geometry: None,
            queue_size: 256,
            queues: 1,
            seg_max_adjust: true,
            write_cache: true,
            config_wce: true,
            write_error: OnError::Enospc,
            read_error: OnError::Report,
        }
    }
}

/// What follows an error of the host's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The guest is told.
    Report,
    /// The guest is told that all went well.
    Ignore,
    /// The machine is asked to stop, and the request is tried again when it goes on.
    Stop,
    /// As `Stop` if the host's disk is full, else as `Report`.
    Enospc,
}

/// An error of the host's disk and what follows it.
#[derive(Debug)]
pub struct Trouble<'a> {
    /// Whether it was a read.
    pub read: bool,
    /// What follows: never [`OnError::Enospc`].
    pub action: OnError,
    /// The error.
    pub error: &'a std::io::Error,
}

impl Trouble<'_> {
    /// Whether the host's disk is full.
    pub fn no_space(&self) -> bool {
        is_full(self.error)
    }
}

type Listener = dyn Fn(&Trouble<'_>) + Send;

/// A disk.
pub struct Block {
    disk: SharedDisk,
    worker: Option<Worker>,
    /// Requests that were begun, by their number.
    pending: BTreeMap<u64, Pending>,
    /// The number of the next request.
    next: u64,
    /// Bytes of requests that were begun.
    in_flight: u64,
    /// A queue has more than was begun.
    backlog: bool,
    /// Jobs to try again once the machine goes on.
    kept: Vec<Job>,
    options: BlockOptions,
    queue_sizes: Vec<u16>,
    order: ByteOrder,
    writeback: bool,
    /// As the guest knows it.
    size: u64,
    read_only: bool,
    status: Arc<BlockStatus>,
    listener: Option<Box<Listener>>,
}

/// Saved state of virtio-blk; the image itself is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockState {
    /// Size of the image in sectors, to notice another image.
    pub sectors: u64,
    /// Whether the guest has the write cache on.
    pub write_cache: bool,
}

/// A request that was begun.
struct Pending {
    queue: u16,
    head: u16,
    /// Where the data go that a read brings.
    data: Vec<Segment>,
    status_at: u64,
    bytes: u64,
    since: Instant,
}

/// What became of a chain.
enum Begun {
    /// Used, with this many bytes written.
    Used(u32),
    Job(Job),
}

const SECTOR: u64 = 512;
const ID_LENGTH: usize = 20;
/// Most bytes of data of one request.
const REQUEST_LIMIT: u64 = 32 << 20;
/// Most bytes of data of all requests that were begun; what comes on top waits in its queue.
const IN_FLIGHT_LIMIT: u64 = 32 << 20;
/// Sectors of one discard or write-zeroes segment.
const RANGE_LIMIT: u32 = 1 << 17;
/// Segments of one discard or write-zeroes request.
const RANGES: u32 = 16;
/// Most queues: as many as [`HostEvent`] tells apart.
const MAX_QUEUES: u16 = 64;

mod feature {
    pub(super) const SEG_MAX: u64 = 1 << 2;
    pub(super) const GEOMETRY: u64 = 1 << 4;
    pub(super) const READ_ONLY: u64 = 1 << 5;
    pub(super) const BLOCK_SIZE: u64 = 1 << 6;
    pub(super) const FLUSH: u64 = 1 << 9;
    pub(super) const TOPOLOGY: u64 = 1 << 10;
    pub(super) const CONFIG_WCE: u64 = 1 << 11;
    pub(super) const QUEUES: u64 = 1 << 12;
    pub(super) const DISCARD: u64 = 1 << 13;
    pub(super) const WRITE_ZEROES: u64 = 1 << 14;
}

mod request {
    pub(super) const IN: u32 = 0;
    pub(super) const OUT: u32 = 1;
    pub(super) const FLUSH: u32 = 4;
    pub(super) const GET_ID: u32 = 8;
    pub(super) const DISCARD: u32 = 11;
    pub(super) const WRITE_ZEROES: u32 = 13;
}

/// Offset of the write-cache switch in the configuration space.
const WRITEBACK: usize = 32;

/// Status byte of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Io = 1,
    Unsupported = 2,
}

impl Block {
    /// A disk on this backend, which does its work while the guest's CPU waits.
    ///
    /// # Errors
    /// There cannot be so many queues.
    pub fn new(disk: Box<dyn DiskBackend>, options: BlockOptions) -> Result<Self, Error> {
        Self::on(Arc::new(Mutex::new(disk)), options)
    }

    /// The same on a disk that others hold as well.
    ///
    /// # Errors
    /// There cannot be so many queues.
    pub fn on(disk: SharedDisk, mut options: BlockOptions) -> Result<Self, Error> {
        if !options.block_size.is_power_of_two() || !(512..=2 << 20).contains(&options.block_size) {
            options.block_size = 512;
        }
        if !options.physical_block_size.is_power_of_two() || options.physical_block_size < options.block_size
        {
            options.physical_block_size = options.block_size;
        }
        if !options.queue_size.is_power_of_two() || !(4..=1024).contains(&options.queue_size) {
            options.queue_size = 256;
        }
        if !(1..=MAX_QUEUES).contains(&options.queues) {
            return Err(Error::Queues { asked: options.queues, most: MAX_QUEUES });
        }
        let (size, read_only) = {
            let disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
            (disk.size(), disk.read_only())
        };
        let status = Arc::new(BlockStatus::default());
        status.set_write_cache(options.write_cache);
        Ok(Self {
            disk,
            worker: None,
            pending: BTreeMap::new(),
            next: 0,
            in_flight: 0,
            backlog: false,
            kept: Vec::new(),
            queue_sizes: vec![options.queue_size; usize::from(options.queues)],
            writeback: options.write_cache,
            options,
            order: ByteOrder::Little,
            size,
            read_only,
            status,
            listener: None,
        })
    }

    /// Lets a thread of the disk do the work. It asks through the waker to be called when something is done.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn work_aside(&mut self, waker: Waker) -> Result<(), Error> {
        self.worker = Some(Worker::start(Arc::clone(&self.disk), waker).map_err(Error::Thread)?);
        Ok(())
    }

    /// Calls `listener` at each error of the host's disk. Where the action is [`OnError::Stop`] it has the machine stopped,
    /// then allows the retry ([`BlockStatus::allow_retry`]) and wakes the device.
    pub fn on_trouble(&mut self, listener: impl Fn(&Trouble<'_>) + Send + 'static) {
        self.listener = Some(Box::new(listener));
    }

    /// What operators may know.
    pub fn status(&self) -> &Arc<BlockStatus> {
        &self.status
    }

    fn sectors(&self) -> u64 {
        self.size.div_ceil(SECTOR)
    }

    fn set_writeback(&mut self, on: bool) {
        self.writeback = on;
        self.status.set_write_cache(on);
    }

    /// Takes chains from a queue as long as there is room for their data. Returns whether chains were used.
    fn pull<M: GuestMemory>(
        &mut self,
        mem: &M,
        index: u16,
        queue: &mut VirtQueue,
    ) -> Result<bool, QueueError> {
        let mut used = false;
        for _ in 0..queue.size() {
            if self.in_flight >= IN_FLIGHT_LIMIT || !self.kept.is_empty() {
                self.backlog = true;
                break;
            }
            let Some(chain) = queue.pop(mem)? else { break };
            match self.begin(mem, index, &chain) {
                Begun::Used(written) => {
                    queue.push_used(mem, chain.head, written)?;
                    used = true;
                }
                Begun::Job(job) => match &self.worker {
                    Some(worker) => worker.submit(job),
                    None => {
                        let done = perform(&self.disk, job);
                        if let Some((_, head, written)) = self.complete(mem, done) {
                            queue.push_used(mem, head, written)?;
                            used = true;
                        }
                    }
                },
            }
        }
        Ok(used)
    }

    fn begin<M: GuestMemory>(&mut self, mem: &M, queue: u16, chain: &Chain) -> Begun {
        // The status is the last byte that the device may write; without one the request cannot be answered.
        let Some((data_in, status_at)) = split_status(&chain.writable) else {
            tracing::warn!("virtio-blk: a request has no status byte");
            return Begun::Used(0);
        };
        match self.request(mem, &chain.readable, &data_in) {
            Ok(Asked::Work(work, data)) => {
                let token = self.next;
                self.next += 1;
                let bytes = data.len() as u64;
                self.in_flight += bytes;
                let data_in = if matches!(work, Work::Read { .. }) { data_in } else { Vec::new() };
                let pending = Pending {
                    queue,
                    head: chain.head,
                    data: data_in,
                    status_at,
                    bytes,
                    since: Instant::now(),
                };
                self.pending.insert(token, pending);
                Begun::Job(Job { token, work, data })
            }
            Ok(Asked::Answered(written)) => Begun::Used(answer(mem, status_at, 0, written)),
            Err(failure) => Begun::Used(answer(mem, status_at, failure as u8, 0)),
        }
    }

    fn request<M: GuestMemory>(
        &self,
        mem: &M,
        readable: &[Segment],
        writable: &[Segment],
    ) -> Result<Asked, Failure> {
        let mut header = [0; 16];
        let data_out = take(mem, readable, &mut header).ok_or(Failure::Io)?;
        let kind = self.order.u32([header[0], header[1], header[2], header[3]]);
        let sector = self.order.u64([
            header[8], header[9], header[10], header[11], header[12], header[13], header[14], header[15],
        ]);
        let invalid = |operation| {
            move |failure| {
                self.status.invalid(operation);
                failure
            }
        };
        match kind {
            request::IN => {
                let length = total(writable);
                let offset = self.check_data(sector, length).map_err(invalid(Operation::Read))?;
                Ok(Asked::Work(Work::Read { offset }, vec![0; length as usize]))
            }
            request::OUT => {
                if self.read_only {
                    return Err(invalid(Operation::Write)(Failure::Io));
                }
                let length = total(&data_out);
                let offset = self.check_data(sector, length).map_err(invalid(Operation::Write))?;
                let mut data = vec![0; length as usize];
                take(mem, &data_out, &mut data).ok_or(Failure::Io)?;
                Ok(Asked::Work(Work::Write { offset, through: !self.writeback }, data))
            }
            request::FLUSH => Ok(Asked::Work(Work::Flush, Vec::new())),
            request::GET_ID => {
                let mut id = [0; ID_LENGTH];
                let serial = self.options.serial.as_bytes();
                let serial = &serial[..serial.len().min(ID_LENGTH)];
                id[..serial.len()].copy_from_slice(serial);
                let written = give(mem, writable, &id).map_err(|_| Failure::Io)?;
                Ok(Asked::Answered(written))
            }
            request::DISCARD if self.options.discard => {
                let ranges = self.ranges(mem, false, &data_out).map_err(invalid(Operation::Discard))?;
                let ranges = ranges.into_iter().map(|(offset, length, _)| (offset, length)).collect();
                Ok(Asked::Work(Work::Discard { ranges }, Vec::new()))
            }
            request::WRITE_ZEROES if self.options.write_zeroes => {
                let ranges = self.ranges(mem, true, &data_out).map_err(invalid(Operation::Write))?;
                Ok(Asked::Work(Work::Zeroes { ranges }, Vec::new()))
            }
            _ => Err(Failure::Unsupported),
        }
    }

    /// Discard and write zeroes: segments of sector, count and flags (virtio 1.2, 5.2.6).
    fn ranges<M: GuestMemory>(
        &self,
        mem: &M,
        unmap_allowed: bool,
        data: &[Segment],
    ) -> Result<Vec<(u64, u64, bool)>, Failure> {
        let length = total(data);
        if self.read_only || length == 0 || !length.is_multiple_of(16) || length > u64::from(RANGES) * 16 {
            return Err(Failure::Io);
        }
        let limit = match unmap_allowed {
            true => self.options.max_write_zeroes_sectors,
            false => self.options.max_discard_sectors,
        };
        let mut bytes = vec![0; length as usize];
        take(mem, data, &mut bytes).ok_or(Failure::Io)?;
        let mut out = Vec::new();
        for b in bytes.chunks_exact(16) {
            let sector = self.order.u64([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
            let count = self.order.u32([b[8], b[9], b[10], b[11]]);
            let flags = self.order.u32([b[12], b[13], b[14], b[15]]);
            if flags & !1 != 0 || flags & 1 != 0 && !unmap_allowed {
                return Err(Failure::Unsupported);
            }
            if count > limit.min(RANGE_LIMIT) {
                return Err(Failure::Io);
            }
            let length = u64::from(count) * SECTOR;
            let offset = self.check(sector, length)?;
            if length > 0 {
                out.push((offset, length, flags & 1 == 1));
            }
        }
        Ok(out)
    }

    /// The same for data, for which there must be room.
    fn check_data(&self, sector: u64, length: u64) -> Result<u64, Failure> {
        if length > REQUEST_LIMIT { Err(Failure::Io) } else { self.check(sector, length) }
    }

    /// Checks that whole blocks within the disk are meant, and returns the byte offset.
    fn check(&self, sector: u64, length: u64) -> Result<u64, Failure> {
        let block = u64::from(self.options.block_size);
        let end = sector.checked_add(length / SECTOR).ok_or(Failure::Io)?;
        if !length.is_multiple_of(SECTOR) || end > self.sectors() {
            return Err(Failure::Io);
        }
        let offset = sector * SECTOR;
        // A last block may be incomplete.
        let whole = length.is_multiple_of(block) || end == self.sectors();
        if offset.is_multiple_of(block) && whole { Ok(offset) } else { Err(Failure::Io) }
    }

    /// Answers the guest. `None`: the request is kept, to be tried again.
    fn complete<M: GuestMemory>(&mut self, mem: &M, done: Done) -> Option<(u16, u16, u32)> {
        let Done { job, result } = done;
        let (operation, bytes) = match &job.work {
            Work::Read { .. } => (Operation::Read, job.data.len() as u64),
            Work::Write { .. } => (Operation::Write, job.data.len() as u64),
            Work::Zeroes { ranges } => (Operation::Write, ranges.iter().map(|range| range.1).sum()),
            Work::Flush => (Operation::Flush, 0),
            Work::Discard { ranges } => (Operation::Discard, ranges.iter().map(|range| range.1).sum()),
        };
        let failed = match &result {
            Ok(()) => false,
            Err(error) => match self.trouble(operation, error) {
                OnError::Stop => {
                    self.kept.push(job);
                    return None;
                }
                OnError::Ignore => false,
                OnError::Report | OnError::Enospc => true,
            },
        };
        let pending = self.pending.remove(&job.token)?;
        self.in_flight = self.in_flight.saturating_sub(pending.bytes);
        if result.is_ok() {
            self.status.done(operation, bytes, pending.since.elapsed());
            if let Work::Write { offset, .. } = job.work {
                self.status.wrote_up_to(offset + bytes);
            }
        }
        let (status, written) = match &job.work {
            _ if failed => (Failure::Io as u8, 0),
            Work::Read { .. } => match give(mem, &pending.data, &job.data) {
                Ok(written) => (0, written),
                Err(written) => (Failure::Io as u8, written),
            },
            _ => (0, 0),
        };
        Some((pending.queue, pending.head, answer(mem, pending.status_at, status, written)))
    }

    /// Tells of an error and decides what follows.
    fn trouble(&self, operation: Operation, error: &std::io::Error) -> OnError {
        let read = operation == Operation::Read;
        let wanted = if read { self.options.read_error } else { self.options.write_error };
        let no_space = is_full(error);
        let action = match wanted {
            OnError::Enospc if no_space => OnError::Stop,
            OnError::Enospc => OnError::Report,
            other => other,
        };
        // Without anybody who can stop the machine the guest would wait for ever.
        let action =
            if action == OnError::Stop && self.listener.is_none() { OnError::Report } else { action };
        tracing::warn!("virtio-blk: {operation:?} failed: {error}");
        self.status.failed(operation);
        if action == OnError::Stop {
            self.status.set_trouble(no_space);
        }
        if let Some(listener) = &self.listener {
            listener(&Trouble { read, action, error });
        }
        action
    }

    /// Forgets requests that were begun, once they are done.
    fn abandon(&mut self) {
        if let Some(worker) = &self.worker {
            worker.drain();
            drop(worker.take_done());
        }
        self.pending.clear();
        self.kept.clear();
        self.in_flight = 0;
        self.backlog = false;
    }
}

/// What a request wants.
enum Asked {
    Work(Work, Vec<u8>),
    /// Nothing more: so many bytes were written.
    Answered(u32),
}

impl<M: GuestMemory> VirtioDevice<M> for Block {
    fn device_id(&self) -> u8 {
        2
    }

    fn features(&self) -> u64 {
        let mut features = feature::SEG_MAX | feature::GEOMETRY | feature::BLOCK_SIZE | feature::TOPOLOGY;
        let mut offer = |on: bool, bit: u64| features |= if on { bit } else { 0 };
        offer(self.options.write_cache || self.options.config_wce, feature::FLUSH);
        offer(self.options.config_wce, feature::CONFIG_WCE);
        offer(self.options.queues > 1, feature::QUEUES);
        offer(self.read_only, feature::READ_ONLY);
        offer(self.options.discard && !self.read_only, feature::DISCARD);
        offer(self.options.write_zeroes && !self.read_only, feature::WRITE_ZEROES);
        features
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn config(&self, order: ByteOrder) -> Vec<u8> {
        const HEADS: u64 = 16;
        const SECTORS: u64 = 63;
        let o = &self.options;
        let mut c = vec![0; 60];
        let mut put = |at: usize, bytes: &[u8]| c[at..at + bytes.len()].copy_from_slice(bytes);
        let (cylinders, heads, sectors) = o.geometry.unwrap_or_else(|| {
            let cylinders = (self.sectors() / (HEADS * SECTORS)).clamp(2, 16383);
            (cylinders as u16, HEADS as u8, SECTORS as u8)
        });
        put(0, &order.put64(self.sectors()));
        // Header and status take two descriptors of a chain.
        let segments = if o.seg_max_adjust { u32::from(o.queue_size) - 2 } else { 126 };
        put(12, &order.put32(segments.min(u32::from(o.queue_size) - 2)));
        put(16, &order.put16(cylinders));
        put(18, &[heads, sectors]);
        put(20, &order.put32(o.block_size));
        put(24, &[(o.physical_block_size / o.block_size).trailing_zeros() as u8]);
        put(26, &order.put16(u16::try_from(o.min_io_size / o.block_size).unwrap_or(u16::MAX)));
        put(28, &order.put32(o.opt_io_size / o.block_size));
        put(WRITEBACK, &[u8::from(self.writeback)]);
        put(34, &order.put16(o.queues));
        if o.discard && !self.read_only {
            let alignment = o.discard_granularity.unwrap_or(o.block_size).max(o.block_size) / SECTOR as u32;
            for (at, value) in [(36, o.max_discard_sectors.min(RANGE_LIMIT)), (40, RANGES), (44, alignment)] {
                put(at, &order.put32(value));
            }
        }
        if o.write_zeroes && !self.read_only {
            for (at, value) in [(48, o.max_write_zeroes_sectors.min(RANGE_LIMIT)), (52, RANGES)] {
                put(at, &order.put32(value));
            }
            put(56, &[1]);
        }
        c
    }

    /// Only the write-cache switch can be written (5.2.4).
    fn write_config(&mut self, _order: ByteOrder, data: &[u8]) {
        if let Some(value) = data.get(WRITEBACK)
            && self.options.config_wce
        {
            self.set_writeback(*value != 0);
        }
    }

    fn activate(&mut self, features: u64, order: ByteOrder) {
        self.order = order;
        // Without the switch, a driver that knows no flush needs every write to be durable (5.2.6.2).
        if features & feature::CONFIG_WCE == 0 {
            self.set_writeback(features & feature::FLUSH != 0);
        }
    }

    fn reset(&mut self) {
        self.abandon();
        self.order = ByteOrder::Little;
        self.set_writeback(self.options.write_cache);
    }

    fn process_queue(&mut self, mem: &M, index: u16, queue: &mut VirtQueue) -> Result<bool, QueueError> {
        self.pull(mem, index, queue)
    }

    fn host_event(&mut self, mem: &M, queues: &mut [VirtQueue]) -> Result<HostEvent, QueueError> {
        let mut event = HostEvent::default();
        let mut done = self.worker.as_ref().map(Worker::take_done).unwrap_or_default();
        if !self.kept.is_empty() && self.status.take_retry() {
            for job in std::mem::take(&mut self.kept) {
                match &self.worker {
                    Some(worker) => worker.submit(job),
                    None => done.push(perform(&self.disk, job)),
                }
            }
            self.backlog = true;
        }
        for done in done {
            if let Some((index, head, written)) = self.complete(mem, done)
                && let Some(queue) = queues.get_mut(usize::from(index)).filter(|queue| queue.ready())
            {
                queue.push_used(mem, head, written)?;
                event.used |= 1 << index;
            }
        }
        if std::mem::take(&mut self.backlog) {
            for (index, queue) in queues.iter_mut().enumerate().filter(|(_, queue)| queue.ready()) {
                loop {
                    if self.pull(mem, index as u16, queue)? {
                        event.used |= 1 << index;
                    }
                    // The driver rings again only if it was asked to after the last chain was taken.
                    if self.backlog || !queue.rearm(mem)? {
                        break;
                    }
                }
            }
        }
        let size = self.disk.lock().unwrap_or_else(PoisonError::into_inner).size();
        if size.div_ceil(SECTOR) != self.sectors() {
            self.size = size;
            event.config = true;
        }
        Ok(event)
    }

    fn save(&self) -> VirtioDeviceState {
        VirtioDeviceState::Block(BlockState { sectors: self.sectors(), write_cache: self.writeback })
    }

    fn restore(&mut self, state: VirtioDeviceState) -> Result<(), Error> {
        let fail = |reason: String| Error::State { device: "virtio-blk", reason };
        match state {
            VirtioDeviceState::Block(state) if state.sectors == self.sectors() => {
                self.set_writeback(state.write_cache);
                Ok(())
            }
            VirtioDeviceState::Block(state) => {
                Err(fail(format!("the disk had {} sectors and now has {}", state.sectors, self.sectors())))
            }
            _ => Err(fail("the state belongs to another device".into())),
        }
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

fn total(segments: &[Segment]) -> u64 {
    segments.iter().map(|s| u64::from(s.len)).sum()
}

/// Writes the status byte. Returns the length for the used ring.
fn answer<M: GuestMemory>(mem: &M, at: u64, status: u8, written: u32) -> u32 {
    match access::write(mem, at, &[status]) {
        Ok(()) => written.saturating_add(1),
        Err(error) => {
            tracing::warn!("virtio-blk: the status byte at {at:#x} cannot be written: {error}");
            0
        }
    }
}

/// Writes `data` into the segments as far as they reach; both ways returns how much was written.
fn give<M: GuestMemory>(mem: &M, segments: &[Segment], data: &[u8]) -> Result<u32, u32> {
    let mut done = 0;
    for s in segments {
        let part = &data[done..];
        let part = &part[..part.len().min(s.len as usize)];
        access::write(mem, s.addr, part).map_err(|_| done as u32)?;
        done += part.len();
    }
    Ok(done as u32)
}

/// Reads `buf` from the front of the segments and returns the rest of them.
fn take<M: GuestMemory>(mem: &M, segments: &[Segment], buf: &mut [u8]) -> Option<Vec<Segment>> {
    let mut done = 0;
    let mut rest = Vec::with_capacity(segments.len());
    for s in segments {
        let len = (s.len as usize).min(buf.len() - done);
        access::read(mem, s.addr, &mut buf[done..done + len]).ok()?;
        done += len;
        if len < s.len as usize {
            rest.push(Segment { addr: s.addr + len as u64, len: s.len - len as u32 });
        }
    }
    (done == buf.len()).then_some(rest)
}

/// Splits the last byte, the status, from the writable segments.
fn split_status(segments: &[Segment]) -> Option<(Vec<Segment>, u64)> {
    let mut data = segments.to_vec();
    while let Some(last) = data.last_mut() {
        if last.len == 0 {
            data.pop();
            continue;
        }
        last.len -= 1;
        let status = last.addr + u64::from(last.len);
        return Some((data, status));
    }
    None
}
