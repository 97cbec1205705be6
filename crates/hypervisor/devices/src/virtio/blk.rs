//! virtio-blk (virtio 1.2, 5.2) over a [`DiskBackend`]: read, write, flush, identity, discard, write zeroes.
//!
//! One queue, no zoned storage, no write-cache switch. Data move through a bounce buffer of the device, so that a page
//! that turns private in the middle of a request is an I/O error and nothing else.

use serde::{Deserialize, Serialize};
use vm_memory::GuestMemory;

use super::disk::DiskBackend;
use super::queue::{Chain, QueueError, Segment, VirtQueue};
use super::{ByteOrder, VirtioDevice, VirtioDeviceState};
use crate::Error;
use crate::access;

/// Options of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockOptions {
    /// Serial number, at most 20 bytes.
    pub serial: String,
    /// Logical block size, a power of two from 512 to 4096.
    pub block_size: u32,
    /// Offer discard and write zeroes.
    pub discard: bool,
    /// Queue size, a power of two.
    pub queue_size: u16,
}

impl Default for BlockOptions {
    fn default() -> Self {
        Self { serial: String::new(), block_size: 512, discard: true, queue_size: 256 }
    }
}

/// A disk.
pub struct Block {
    disk: Box<dyn DiskBackend>,
    options: BlockOptions,
    queue_sizes: [u16; 1],
    order: ByteOrder,
    /// The driver knows no flush, so every write must be durable (5.2.6.2).
    write_through: bool,
}

/// Saved state of virtio-blk; the image itself is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockState {
    /// Size of the image in sectors, to notice another image.
    pub sectors: u64,
}

const SECTOR: u64 = 512;
const ID_LENGTH: usize = 20;
const BOUNCE: usize = 128 * 1024;
/// Sectors of one discard or write-zeroes segment.
const RANGE_LIMIT: u32 = 1 << 17;
/// Segments of one discard or write-zeroes request.
const RANGES: u32 = 16;

mod feature {
    pub(super) const SEG_MAX: u64 = 1 << 2;
    pub(super) const GEOMETRY: u64 = 1 << 4;
    pub(super) const READ_ONLY: u64 = 1 << 5;
    pub(super) const BLOCK_SIZE: u64 = 1 << 6;
    pub(super) const FLUSH: u64 = 1 << 9;
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

/// Status byte of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Io = 1,
    Unsupported = 2,
}

impl Block {
    /// A disk on this backend.
    ///
    /// # Errors
    /// The serial number is too long.
    pub fn new(disk: Box<dyn DiskBackend>, mut options: BlockOptions) -> Result<Self, Error> {
        if options.serial.len() > ID_LENGTH {
            return Err(Error::SerialTooLong(options.serial));
        }
        if !options.block_size.is_power_of_two() || !(512..=4096).contains(&options.block_size) {
            options.block_size = 512;
        }
        if !options.queue_size.is_power_of_two() || !(4..=1024).contains(&options.queue_size) {
            options.queue_size = 256;
        }
        let queue_sizes = [options.queue_size];
        Ok(Self { disk, options, queue_sizes, order: ByteOrder::Little, write_through: true })
    }

    fn sectors(&self) -> u64 {
        self.disk.size().div_ceil(SECTOR)
    }

    fn serve<M: GuestMemory>(&mut self, mem: &M, chain: &Chain) -> u32 {
        // The status is the last byte that the device may write; without one the request cannot be answered.
        let Some((data_in, status_at)) = split_status(&chain.writable) else {
            tracing::warn!("virtio-blk: a request has no status byte");
            return 0;
        };
        let (status, written) = match self.request(mem, &chain.readable, &data_in) {
            Ok(written) => (0, written),
            Err((failure, written)) => (failure as u8, written),
        };
        match access::write(mem, status_at, &[status]) {
            Ok(()) => written.saturating_add(1),
            Err(error) => {
                tracing::warn!("virtio-blk: the status byte at {status_at:#x} cannot be written: {error}");
                0
            }
        }
    }

    fn request<M: GuestMemory>(
        &mut self,
        mem: &M,
        readable: &[Segment],
        writable: &[Segment],
    ) -> Result<u32, (Failure, u32)> {
        let fail = |failure| (failure, 0);
        let mut header = [0; 16];
        let data_out = take(mem, readable, &mut header).ok_or(fail(Failure::Io))?;
        let kind = self.order.u32([header[0], header[1], header[2], header[3]]);
        let sector = self.order.u64([
            header[8], header[9], header[10], header[11], header[12], header[13], header[14], header[15],
        ]);
        match kind {
            request::IN => self.read(mem, sector, writable),
            request::OUT => self.write(mem, sector, &data_out).map(|()| 0).map_err(fail),
            request::FLUSH => self.disk.flush().map(|()| 0).map_err(|e| fail(report("flush", &e))),
            request::GET_ID => {
                let mut id = [0; ID_LENGTH];
                let serial = self.options.serial.as_bytes();
                id[..serial.len()].copy_from_slice(serial);
                let mut done = 0;
                for segment in writable {
                    let part = &id[done..];
                    let part = &part[..part.len().min(segment.len as usize)];
                    access::write(mem, segment.addr, part).map_err(|_| fail(Failure::Io))?;
                    done += part.len();
                }
                Ok(done as u32)
            }
            request::DISCARD | request::WRITE_ZEROES if self.options.discard => {
                self.ranges(mem, kind, &data_out).map(|()| 0).map_err(fail)
            }
            _ => Err(fail(Failure::Unsupported)),
        }
    }

    fn read<M: GuestMemory>(
        &mut self,
        mem: &M,
        sector: u64,
        data: &[Segment],
    ) -> Result<u32, (Failure, u32)> {
        let mut offset = self.check(sector, total(data)).map_err(|f| (f, 0))?;
        let mut buf = vec![0; BOUNCE.min(total(data) as usize)];
        let mut written = 0_u32;
        for (addr, len) in pieces(data) {
            let part = &mut buf[..len];
            let result = self
                .disk
                .read_at(offset, part)
                .map_err(|e| report("read", &e))
                .and_then(|()| access::write(mem, addr, part).map_err(|_| Failure::Io));
            result.map_err(|f| (f, written))?;
            offset += len as u64;
            written = written.saturating_add(len as u32);
        }
        Ok(written)
    }

    fn write<M: GuestMemory>(&mut self, mem: &M, sector: u64, data: &[Segment]) -> Result<(), Failure> {
        if self.disk.read_only() {
            return Err(Failure::Io);
        }
        let mut offset = self.check(sector, total(data))?;
        let mut buf = vec![0; BOUNCE.min(total(data) as usize)];
        for (addr, len) in pieces(data) {
            let part = &mut buf[..len];
            access::read(mem, addr, part).map_err(|_| Failure::Io)?;
            self.disk.write_at(offset, part).map_err(|e| report("write", &e))?;
            offset += len as u64;
        }
        if self.write_through {
            self.disk.flush().map_err(|e| report("flush", &e))?;
        }
        Ok(())
    }

    /// Discard and write zeroes: segments of sector, count and flags (virtio 1.2, 5.2.6).
    fn ranges<M: GuestMemory>(&mut self, mem: &M, kind: u32, data: &[Segment]) -> Result<(), Failure> {
        let length = total(data);
        if self.disk.read_only()
            || length == 0
            || !length.is_multiple_of(16)
            || length > u64::from(RANGES) * 16
        {
            return Err(Failure::Io);
        }
        let mut rest = data.to_vec();
        while total(&rest) > 0 {
            let mut b = [0; 16];
            rest = take(mem, &rest, &mut b).ok_or(Failure::Io)?;
            let sector = self.order.u64([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
            let count = self.order.u32([b[8], b[9], b[10], b[11]]);
            let flags = self.order.u32([b[12], b[13], b[14], b[15]]);
            let unmap_allowed = kind == request::WRITE_ZEROES;
            if flags & !1 != 0 || flags & 1 != 0 && !unmap_allowed {
                return Err(Failure::Unsupported);
            }
            if count > RANGE_LIMIT {
                return Err(Failure::Io);
            }
            let length = u64::from(count) * SECTOR;
            let offset = self.check(sector, length)?;
            if length == 0 {
                continue;
            }
            let done = if kind == request::DISCARD {
                self.disk.discard(offset, length)
            } else {
                self.disk.write_zeroes(offset, length)
            };
            done.map_err(|e| report("discard", &e))?;
        }
        Ok(())
    }

    /// Checks that whole sectors within the disk are meant, and returns the byte offset.
    fn check(&self, sector: u64, length: u64) -> Result<u64, Failure> {
        let end = sector.checked_add(length / SECTOR).ok_or(Failure::Io)?;
        if !length.is_multiple_of(SECTOR) || end > self.sectors() {
            Err(Failure::Io)
        } else {
            Ok(sector * SECTOR)
        }
    }
}

impl<M: GuestMemory> VirtioDevice<M> for Block {
    fn device_id(&self) -> u8 {
        2
    }

    fn features(&self) -> u64 {
        let mut features = feature::SEG_MAX | feature::GEOMETRY | feature::BLOCK_SIZE | feature::FLUSH;
        if self.disk.read_only() {
            features |= feature::READ_ONLY;
        } else if self.options.discard {
            features |= feature::DISCARD | feature::WRITE_ZEROES;
        }
        features
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn config(&self, order: ByteOrder) -> Vec<u8> {
        const HEADS: u64 = 16;
        const SECTORS: u64 = 63;
        let mut c = vec![0; 60];
        let mut put = |at: usize, bytes: &[u8]| c[at..at + bytes.len()].copy_from_slice(bytes);
        let cylinders = (self.sectors() / (HEADS * SECTORS)).clamp(2, 16383);
        put(0, &order.put64(self.sectors()));
        // Header and status take two descriptors of a chain.
        put(12, &order.put32(u32::from(self.options.queue_size) - 2));
        put(16, &order.put16(cylinders as u16));
        put(18, &[HEADS as u8, SECTORS as u8]);
        put(20, &order.put32(self.options.block_size));
        // Offsets 24 to 33: topology and write-cache mode, not offered.
        put(34, &order.put16(1));
        if self.options.discard {
            let alignment = self.options.block_size / SECTOR as u32;
            for (at, value) in
                [(36, RANGE_LIMIT), (40, RANGES), (44, alignment), (48, RANGE_LIMIT), (52, RANGES)]
            {
                put(at, &order.put32(value));
            }
            put(56, &[1]);
        }
        c
    }

    fn activate(&mut self, features: u64, order: ByteOrder) {
        self.order = order;
        self.write_through = features & feature::FLUSH == 0;
    }

    fn reset(&mut self) {
        self.order = ByteOrder::Little;
        self.write_through = true;
    }

    fn process_queue(&mut self, mem: &M, _index: u16, queue: &mut VirtQueue) -> Result<bool, QueueError> {
        let mut used = false;
        for _ in 0..queue.size() {
            let Some(chain) = queue.pop(mem)? else { break };
            let written = self.serve(mem, &chain);
            queue.push_used(mem, chain.head, written)?;
            used = true;
        }
        Ok(used)
    }

    fn save(&self) -> VirtioDeviceState {
        VirtioDeviceState::Block(BlockState { sectors: self.sectors() })
    }

    fn restore(&mut self, state: VirtioDeviceState) -> Result<(), Error> {
        let fail = |reason: String| Error::State { device: "virtio-blk", reason };
        match state {
            VirtioDeviceState::Block(state) if state.sectors == self.sectors() => Ok(()),
            VirtioDeviceState::Block(state) => {
                Err(fail(format!("the disk had {} sectors and now has {}", state.sectors, self.sectors())))
            }
            _ => Err(fail("the state belongs to another device".into())),
        }
    }
}

fn report(what: &str, error: &std::io::Error) -> Failure {
    tracing::warn!("virtio-blk: {what} failed: {error}");
    Failure::Io
}

fn total(segments: &[Segment]) -> u64 {
    segments.iter().map(|s| u64::from(s.len)).sum()
}

/// Cuts segments into pieces that fit the bounce buffer.
fn pieces(segments: &[Segment]) -> impl Iterator<Item = (u64, usize)> {
    segments.iter().flat_map(|s| {
        (0..s.len).step_by(BOUNCE).map(|at| (s.addr + u64::from(at), BOUNCE.min((s.len - at) as usize)))
    })
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
