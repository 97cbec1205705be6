//! virtio-ccw with virtio-blk and virtio-rng, driven as Linux and as the boot loader drive them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use cloister_devices::css::{DeviceState, SubchannelId};
use cloister_devices::entropy::{EntropySource, SeededEntropy};
use cloister_devices::interrupt::{HostInterrupt, Outcome};
use cloister_devices::virtio::{
    Block, BlockOptions, ByteOrder, DiskBackend, Rng, VirtioCcw, VirtioCcwOptions,
};
use proptest::prelude::*;

use crate::common::{CCW, DATA, Ended, Guest, Memory, OK, REJECTED, ccw1};

const SCH: u64 = 0x0001_0000;
const SLI: u8 = 0x20;
const RING: u64 = 0x1_0000;
const BUFFERS: u64 = 0x2_0000;
const INDICATORS: u64 = 0x3_0000;
const SUMMARY: u64 = 0x3_0107;
const VERSION_1: u64 = 1 << 32;
const ACCESS_PLATFORM: u64 = 1 << 33;
const EVENT_IDX: u64 = 1 << 29;
const REJECT: Ended = Ended { dstat: 0x0e, cstat: 0, residual: 0, sense: REJECTED };

/// A disk in memory that the test can look into.
#[derive(Clone)]
struct Ram {
    bytes: Arc<Mutex<Vec<u8>>>,
    read_only: bool,
    flushes: Arc<AtomicU32>,
}

impl DiskBackend for Ram {
    fn size(&self) -> u64 {
        self.bytes.lock().unwrap().len() as u64
    }
    fn read_only(&self) -> bool {
        self.read_only
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        let at = offset as usize;
        buf.copy_from_slice(&self.bytes.lock().unwrap()[at..at + buf.len()]);
        Ok(())
    }
    fn write_at(&mut self, offset: u64, buf: &[u8]) -> std::io::Result<()> {
        let at = offset as usize;
        self.bytes.lock().unwrap()[at..at + buf.len()].copy_from_slice(buf);
        Ok(())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

struct Rig {
    guest: Guest,
    disk: Arc<Mutex<Vec<u8>>>,
    order: ByteOrder,
    avail: u64,
    used: u64,
    next: u16,
}

fn disk_guest(options: VirtioCcwOptions, read_only: bool) -> (Guest, Arc<Mutex<Vec<u8>>>) {
    disk_guest_counting(options, read_only, &Arc::default())
}

fn disk_guest_counting(
    options: VirtioCcwOptions,
    read_only: bool,
    flushes: &Arc<AtomicU32>,
) -> (Guest, Arc<Mutex<Vec<u8>>>) {
    let bytes = Arc::new(Mutex::new((0..64 * 512_u32).map(|n| (n / 512) as u8).collect::<Vec<_>>()));
    let disk = Ram { bytes: Arc::clone(&bytes), read_only, flushes: Arc::clone(flushes) };
    let block = BlockOptions { serial: "cloister-0".into(), queue_size: 16, ..BlockOptions::default() };
    let device: Box<Block> = Box::new(Block::new(Box::new(disk), block).unwrap());
    let mut guest = Guest::new();
    guest.css.attach(None, Box::new(VirtioCcw::<Memory>::new(device, options))).unwrap();
    guest.enable(SCH);
    (guest, bytes)
}

fn rng_guest() -> Guest {
    let mut guest = Guest::new();
    let device = Box::new(Rng::new(Box::new(SeededEntropy::new(7))));
    guest.css.attach(None, Box::new(VirtioCcw::<Memory>::new(device, VirtioCcwOptions::default()))).unwrap();
    guest.enable(SCH);
    guest
}

fn features(guest: &mut Guest) -> u64 {
    let low = guest.answer(SCH, 0x12, &[0, 0, 0, 0, 0]);
    let high = guest.answer(SCH, 0x12, &[0, 0, 0, 0, 1]);
    let word = |b: &[u8]| u64::from(u32::from_le_bytes(b[..4].try_into().unwrap()));
    word(&low) | word(&high) << 32
}

fn accept(guest: &mut Guest, features: u64) {
    for index in 0..2_u8 {
        let mut block = ((features >> (32 * index)) as u32).to_le_bytes().to_vec();
        block.push(index);
        guest.answer(SCH, 0x11, &block);
    }
}

/// Sets a device up as Linux does.
fn modern(guest: &mut Guest, size: u16, wanted: u64) {
    guest.answer(SCH, 0x83, &[0, 2, 0, 0]);
    assert_eq!(guest.command(SCH, 0x33, 0, &[]), OK);
    for status in [1, 3] {
        guest.answer(SCH, 0x31, &[status]);
    }
    let offered = features(guest);
    assert_eq!(offered & wanted, wanted);
    accept(guest, wanted);
    guest.answer(SCH, 0x31, &[0x0b]);
    assert_eq!(guest.answer(SCH, 0x72, &[0]), [0x0b]);
    assert_eq!(guest.answer(SCH, 0x32, &[0, 0, 0, 0])[2..], size.to_be_bytes());
    let mut queue = RING.to_be_bytes().to_vec();
    queue.extend([0, 0, 0, 0, 0, 0]);
    queue.extend(size.to_be_bytes());
    queue.extend((RING + 0x1000).to_be_bytes());
    queue.extend((RING + 0x2000).to_be_bytes());
    guest.answer(SCH, 0x13, &queue);
    let mut indicators = SUMMARY.to_be_bytes().to_vec();
    indicators.extend(INDICATORS.to_be_bytes());
    indicators.extend(4_u64.to_be_bytes());
    indicators.push(3);
    guest.answer(SCH, 0x73, &indicators);
    guest.answer(SCH, 0x31, &[0x0f]);
    guest.irqs.take();
}

fn modern_disk(extra: u64) -> Rig {
    let (mut guest, disk) = disk_guest(VirtioCcwOptions::default(), false);
    modern(&mut guest, 16, VERSION_1 | extra);
    Rig { guest, disk, order: ByteOrder::Little, avail: RING + 0x1000, used: RING + 0x2000, next: 0 }
}

/// Sets a device up as the boot loader does: revision 0, no indicators.
fn legacy_disk() -> Rig {
    legacy_disk_with(VirtioCcwOptions::default())
}

fn legacy_disk_with(options: VirtioCcwOptions) -> Rig {
    let (mut guest, disk) = disk_guest(options, false);
    assert_eq!(guest.command(SCH, 0x33, 0, &[]), OK);
    guest.answer(SCH, 0x31, &[1]);
    guest.answer(SCH, 0x31, &[3]);
    assert_eq!(features(&mut guest) >> 32, 0, "a legacy device has no high features");
    accept(&mut guest, 0);
    let config = guest.answer(SCH, 0x22, &[0; 60]);
    assert_eq!(config[..8], 64_u64.to_be_bytes(), "capacity in the guest's byte order");
    assert_eq!(guest.answer(SCH, 0x32, &[0, 0, 0, 0]), [0, 0, 0, 16]);
    let mut queue = RING.to_be_bytes().to_vec();
    queue.extend(4096_u32.to_be_bytes());
    queue.extend([0, 0, 0, 16]);
    guest.answer(SCH, 0x13, &queue);
    guest.answer(SCH, 0x31, &[7]);
    guest.irqs.take();
    Rig { guest, disk, order: ByteOrder::Big, avail: RING + 256, used: RING + 0x1000, next: 0 }
}

impl Rig {
    fn describe(&self, table: u64, index: u16, addr: u64, len: u32, flags: u16, next: u16) {
        let mut d = self.order.put64(addr).to_vec();
        d.extend(self.order.put32(len));
        d.extend(self.order.put16(flags));
        d.extend(self.order.put16(next));
        self.guest.put(table + 16 * u64::from(index), &d);
    }

    fn offer(&mut self, head: u16) {
        let slot = u64::from(self.next % 16);
        self.guest.put(self.avail + 4 + 2 * slot, &self.order.put16(head));
        self.next = self.next.wrapping_add(1);
        self.guest.put(self.avail + 2, &self.order.put16(self.next));
    }

    /// One request: status and the used length.
    fn request(&mut self, kind: u32, sector: u64, data: u32, writable: bool) -> (u8, u32) {
        let mut header = self.order.put32(kind).to_vec();
        header.extend([0; 4]);
        header.extend(self.order.put64(sector));
        self.guest.put(BUFFERS, &header);
        self.guest.put(BUFFERS + 0x8000, &[0xff]);
        self.describe(RING, 0, BUFFERS, 16, 1, 1);
        self.describe(RING, 1, BUFFERS + 0x1000, data, if writable { 3 } else { 1 }, 2);
        self.describe(RING, 2, BUFFERS + 0x8000, 1, 2, 0);
        self.offer(0);
        assert_eq!(self.guest.css.notify(&self.guest.mem, SCH, 0, 0), Ok(0));
        (self.guest.get(BUFFERS + 0x8000, 1)[0], self.last_used().1)
    }

    fn last_used(&self) -> (u32, u32) {
        let index = self.order.u16(self.guest.get(self.used + 2, 2).try_into().unwrap());
        assert_eq!(index, self.next, "every chain came back");
        let element = self.guest.get(self.used + 4 + 8 * u64::from((index.wrapping_sub(1)) % 16), 8);
        let word = |at: usize| self.order.u32(element[at..at + 4].try_into().unwrap());
        (word(0), word(4))
    }
}

#[test]
fn virtio_4_3_2_1_revisions() {
    let (mut guest, _) = disk_guest(VirtioCcwOptions::default(), false);
    assert_eq!(guest.command(SCH, 0x83, 0, &[0, 3, 0, 0]), REJECT, "a later revision");
    assert_eq!(guest.command(SCH, 0x83, 0, &[0, 1, 0, 0]), OK);
    assert_eq!(guest.command(SCH, 0x83, 0, &[0, 1, 0, 0]), REJECT, "it is set");
    assert_eq!(guest.command(SCH, 0x72, 0, &[0]), Ended { residual: 1, ..REJECT }, "from revision 2 on");
    // Disabling the subchannel forgets the revision.
    let mut schib = guest.css.stsch(SCH).1.unwrap();
    schib[5] &= !0x80;
    assert_eq!(guest.css.msch(SCH, &schib), Outcome::Cc(0));
    guest.enable(SCH);
    assert_eq!(guest.command(SCH, 0x33, 0, &[]), OK);
    assert_eq!(guest.command(SCH, 0x83, 0, &[0, 1, 0, 0]), REJECT, "another command meant revision 0");
}

#[test]
fn virtio_4_3_1_2_length_checks() {
    let (mut guest, _) = disk_guest(VirtioCcwOptions::default(), false);
    let wrong = |residual| Ended { dstat: 0x0c, cstat: 0x40, residual, sense: 0 };
    assert_eq!(guest.command(SCH, 0x31, 0, &[1, 0]), wrong(2));
    assert_eq!(guest.command(SCH, 0x31, SLI, &[1, 0]), Ended { residual: 1, ..OK });
    assert_eq!(guest.command(SCH, 0x12, SLI, &[0; 4]).cstat, 0x20, "too short in spite of suppression");
    assert_eq!(guest.command(SCH, 0x22, 0, &[0; 61]), wrong(61));
    assert_eq!(guest.command(SCH, 0x22, SLI, &[0; 64]), Ended { residual: 4, ..OK });
    assert_eq!(guest.command(SCH, 0x22, 0, &[0; 8]), OK, "a part of the configuration");
}

#[test]
fn the_loader_reads_a_disk_with_iommu_platform() {
    // qemu-system-s390x 7.2 with iommu_platform=on and its own s390-ccw.img: 33 31 31 12 11 12 11 22 32 13 31, no
    // revision, then doorbells.
    let options = VirtioCcwOptions { iommu_platform: true, ..VirtioCcwOptions::default() };
    let mut rig = legacy_disk_with(options);
    assert_eq!(rig.request(0, 5, 512, true), (0, 513));
}

#[test]
fn revision_1_forced_and_iommu_platform_insists() {
    let options =
        VirtioCcwOptions { iommu_platform: true, force_revision_1: true, ..VirtioCcwOptions::default() };
    let (mut guest, _) = disk_guest(options, false);
    assert_eq!(guest.command(SCH, 0x33, 0, &[]), REJECT, "no revision yet");
    assert_eq!(guest.command(SCH, 0x83, 0, &[0, 0, 0, 0]), REJECT, "legacy is refused");
    assert_eq!(guest.command(SCH, 0xe4, SLI, &[0; 7]), OK, "basic commands work");
    assert_eq!(guest.command(SCH, 0x83, 0, &[0, 1, 0, 0]), OK);
    assert_ne!(features(&mut guest) & ACCESS_PLATFORM, 0);
    accept(&mut guest, VERSION_1);
    guest.answer(SCH, 0x31, &[3]);
    assert_eq!(guest.command(SCH, 0x31, 0, &[0x0b]), REJECT);
    accept(&mut guest, VERSION_1 | ACCESS_PLATFORM);
    assert_eq!(guest.command(SCH, 0x31, 0, &[0x0b]), OK);
    accept_fails_after_features_ok(&mut guest);
}

fn accept_fails_after_features_ok(guest: &mut Guest) {
    assert_eq!(guest.command(SCH, 0x11, 0, &[0, 0, 0, 0, 0]), REJECT);
}

#[test]
fn features_that_were_not_offered_are_refused() {
    let (mut guest, _) = disk_guest(VirtioCcwOptions::default(), false);
    guest.answer(SCH, 0x83, &[0, 2, 0, 0]);
    for bad in [0, VERSION_1 | ACCESS_PLATFORM, VERSION_1 | 1 << 34, VERSION_1 | 1] {
        accept(&mut guest, bad);
        assert_eq!(guest.command(SCH, 0x31, 0, &[0x0b]), REJECT, "{bad:#x}");
    }
}

#[test]
fn blk_reads_and_writes_modern() {
    let mut rig = modern_disk(0);
    read_and_write(&mut rig);
    let config = rig.guest.answer(SCH, 0x22, &[0; 60]);
    assert_eq!(config[..8], 64_u64.to_le_bytes());
}

#[test]
fn blk_reads_and_writes_legacy() {
    let mut rig = legacy_disk();
    read_and_write(&mut rig);
    assert_eq!(rig.guest.irqs.take(), [], "the loader polls");
}

fn read_and_write(rig: &mut Rig) {
    assert_eq!(rig.request(0, 5, 1024, true), (0, 1025));
    let data = rig.guest.get(BUFFERS + 0x1000, 1024);
    assert!(data[..512].iter().all(|&b| b == 5) && data[512..].iter().all(|&b| b == 6));
    rig.guest.put(BUFFERS + 0x1000, &[0xa5; 512]);
    assert_eq!(rig.request(1, 9, 512, false), (0, 1));
    assert_eq!(rig.disk.lock().unwrap()[9 * 512..10 * 512], [0xa5; 512]);
    assert_eq!(rig.request(0, 63, 1024, true), (1, 1), "beyond the end");
    assert_eq!(rig.request(1, 0, 100, false), (1, 1), "no whole sector");
    assert_eq!(rig.request(0, u64::MAX, 512, true), (1, 1));
    assert_eq!(rig.request(77, 0, 512, true), (2, 1), "unknown request");
    assert_eq!(rig.request(4, 0, 0, false), (0, 1), "flush");
    assert_eq!(rig.request(8, 0, 20, true), (0, 21));
    assert_eq!(rig.guest.get(BUFFERS + 0x1000, 11), b"cloister-0\0");
    // Write zeroes: sector 9, one sector, may unmap.
    let mut range = rig.order.put64(9).to_vec();
    range.extend(rig.order.put32(1));
    range.extend(rig.order.put32(1));
    rig.guest.put(BUFFERS + 0x1000, &range);
    assert_eq!(rig.request(13, 0, 16, false), (0, 1));
    assert_eq!(rig.disk.lock().unwrap()[9 * 512..10 * 512], [0; 512]);
    assert_eq!(rig.request(11, 0, 16, false), (2, 1), "discard knows no unmap flag");
    assert_eq!(rig.request(11, 0, 15, false), (1, 1));
}

#[test]
fn virtio_5_2_6_2_writes_are_durable_without_flush() {
    for (extra, expected) in [(0, 1), (1 << 9, 0)] {
        let flushes = Arc::default();
        let (mut guest, disk) = disk_guest_counting(VirtioCcwOptions::default(), false, &flushes);
        modern(&mut guest, 16, VERSION_1 | extra);
        let (avail, used) = (RING + 0x1000, RING + 0x2000);
        let mut rig = Rig { guest, disk, order: ByteOrder::Little, avail, used, next: 0 };
        assert_eq!(rig.request(1, 0, 512, false), (0, 1));
        assert_eq!(flushes.load(Ordering::Relaxed), expected);
    }
}

#[test]
fn read_only_disks_refuse_writes() {
    let (mut guest, disk) = disk_guest(VirtioCcwOptions::default(), true);
    modern(&mut guest, 16, VERSION_1 | 1 << 5);
    let mut rig =
        Rig { guest, disk, order: ByteOrder::Little, avail: RING + 0x1000, used: RING + 0x2000, next: 0 };
    assert_eq!(rig.request(1, 0, 512, false).0, 1);
    assert_eq!(rig.request(0, 3, 512, true).0, 0);
}

#[test]
fn thin_interrupts_golden() {
    // Measured: bit n of the device indicator from the left, then 0x01 in the summary byte; one interruption until
    // the summary is cleared.
    let mut rig = modern_disk(0);
    rig.request(4, 0, 0, false);
    assert_eq!(rig.guest.irqs.take(), [HostInterrupt::Adapter { isc: 3 }]);
    assert_eq!(rig.guest.get(INDICATORS, 1), [0x08]);
    assert_eq!(rig.guest.get(SUMMARY, 1), [0x01]);
    rig.request(4, 0, 0, false);
    assert_eq!(rig.guest.irqs.take(), [], "the summary is still set");
    rig.guest.put(SUMMARY, &[0]);
    rig.request(4, 0, 0, false);
    assert_eq!(rig.guest.irqs.take().len(), 1);
    assert_eq!(HostInterrupt::Adapter { isc: 3 }.word(), 0x9800_0000);
    // The driver asks for silence.
    rig.guest.put(SUMMARY, &[0]);
    rig.guest.put(rig.avail, &[1, 0]);
    rig.request(4, 0, 0, false);
    assert_eq!(rig.guest.irqs.take(), []);
}

#[test]
fn classic_indicators() {
    let mut rig = legacy_disk();
    rig.guest.answer(SCH, 0x43, &INDICATORS.to_be_bytes());
    let adapter = [0x11; 25];
    assert_eq!(rig.guest.command(SCH, 0x73, 0, &adapter), Ended { residual: 25, ..REJECT });
    rig.guest.irqs.take();
    rig.request(4, 0, 0, false);
    assert_eq!(rig.guest.get(INDICATORS, 8), 1_u64.to_be_bytes());
    assert!(matches!(rig.guest.irqs.take()[..], [HostInterrupt::Io { subchannel_id: 1, nr: 0, .. }]));
    let irb = rig.guest.css.tsch(SCH).1.unwrap();
    assert_eq!(irb[2..4], [0, 0x11], "alert status of the device's own accord");
}

#[test]
fn event_index() {
    let mut rig = modern_disk(EVENT_IDX);
    rig.request(4, 0, 0, false);
    assert_eq!(rig.guest.irqs.take().len(), 1);
    assert_eq!(rig.guest.get(rig.used + 4 + 8 * 16, 2), 1_u16.to_le_bytes(), "the doorbell wanted next");
    rig.guest.put(SUMMARY, &[0]);
    // The driver wants to hear of the third used buffer.
    rig.guest.put(rig.avail + 4 + 2 * 16, &2_u16.to_le_bytes());
    rig.request(4, 0, 0, false);
    assert_eq!(rig.guest.irqs.take(), []);
    rig.request(4, 0, 0, false);
    assert_eq!(rig.guest.irqs.take().len(), 1);
}

#[test]
fn indirect_descriptors_in_both_orders() {
    for mut rig in [modern_disk(1 << 28), legacy_disk()] {
        let table = BUFFERS + 0x4000;
        let mut header = rig.order.put32(0).to_vec();
        header.extend([0; 4]);
        header.extend(rig.order.put64(7));
        rig.guest.put(BUFFERS, &header);
        rig.describe(table, 0, BUFFERS, 16, 1, 1);
        rig.describe(table, 1, BUFFERS + 0x1000, 512, 3, 2);
        rig.describe(table, 2, BUFFERS + 0x8000, 1, 2, 0);
        rig.describe(RING, 4, table, 48, 4, 0);
        rig.offer(4);
        assert_eq!(rig.guest.css.notify(&rig.guest.mem, SCH, 0, 0), Ok(0));
        assert_eq!(rig.last_used(), (4, 513));
        assert_eq!(rig.guest.get(BUFFERS + 0x1000, 1), [7]);
    }
}

#[test]
fn a_broken_chain_needs_a_reset() {
    for mut rig in [modern_disk(0), legacy_disk()] {
        let legacy = rig.order == ByteOrder::Big;
        rig.describe(RING, 0, BUFFERS, 16, 1, 0);
        rig.offer(0);
        assert_eq!(rig.guest.css.notify(&rig.guest.mem, SCH, 0, 0), Ok(0));
        let DeviceState::VirtioCcw(_) = rig.guest.css.save().subchannels.remove(0).device;
        if !legacy {
            assert_eq!(rig.guest.answer(SCH, 0x72, &[0])[0] & 0x40, 0x40);
            modern_after_reset(&mut rig);
        }
    }
}

#[test]
fn an_available_index_beyond_the_ring_needs_a_reset() {
    for mut rig in [modern_disk(0), legacy_disk()] {
        rig.guest.put(rig.avail + 2, &rig.order.put16(17));
        assert_eq!(rig.guest.css.notify(&rig.guest.mem, SCH, 0, 0), Ok(0));
        assert_eq!(rig.guest.get(rig.used + 2, 2), [0, 0]);
        rig.guest.put(rig.avail + 2, &rig.order.put16(1));
        assert_eq!(rig.guest.css.notify(&rig.guest.mem, SCH, 0, 0), Ok(0));
        assert_eq!(rig.guest.get(rig.used + 2, 2), [0, 0], "the device stays stopped");
    }
}

fn modern_after_reset(rig: &mut Rig) {
    rig.guest.answer(SCH, 0x31, &[0]);
    assert_eq!(rig.guest.answer(SCH, 0x72, &[0]), [0]);
}

#[test]
fn doorbells_that_reach_nothing() {
    let mut rig = modern_disk(0);
    let mem = rig.guest.mem.clone();
    assert_eq!(rig.guest.css.notify(&mem, SCH, 1, 0), Err(-22));
    assert_eq!(rig.guest.css.notify(&mem, SCH + 1, 0, 0), Err(-22));
    assert_eq!(rig.guest.css.notify(&mem, 0, 0, 0), Err(-22));
    assert_eq!(rig.guest.css.notify(&mem, SCH, 1 << 16, 0), Err(-22));
}

#[test]
fn rng_fills_what_it_is_given() {
    let mut guest = rng_guest();
    modern(&mut guest, 8, VERSION_1);
    let mut d = BUFFERS.to_le_bytes().to_vec();
    d.extend(40_u32.to_le_bytes());
    d.extend([2, 0, 0, 0]);
    guest.put(RING, &d);
    guest.put(RING + 0x1000, &[0, 0, 1, 0, 0, 0]);
    assert!(guest.css.process_queue(&guest.mem, SubchannelId { ssid: 0, nr: 0 }, 0));
    let mut expected = [0; 40];
    SeededEntropy::new(7).fill(&mut expected).unwrap();
    assert_eq!(guest.get(BUFFERS, 40), expected);
    assert_eq!(guest.get(RING + 0x2000, 12), [0, 0, 1, 0, 0, 0, 0, 0, 40, 0, 0, 0]);
    assert_eq!(guest.irqs.take(), [HostInterrupt::Adapter { isc: 3 }]);
}

#[test]
fn a_restored_disk_goes_on() {
    let mut one = modern_disk(EVENT_IDX);
    one.request(0, 1, 512, true);
    let saved = postcard::to_allocvec(&one.guest.css.save()).unwrap();
    let (mut guest, _) = disk_guest(VirtioCcwOptions::default(), false);
    guest.css.restore(postcard::from_bytes(&saved).unwrap()).unwrap();
    guest.mem = one.guest.mem.clone();
    one.guest = guest;
    assert_eq!(one.request(0, 2, 512, true), (0, 513));
    let mut rng = rng_guest();
    let wrong = rng.css.restore(postcard::from_bytes(&saved).unwrap()).unwrap_err();
    assert!(wrong.to_string().contains("virtio-rng"), "{wrong}");
}

fn any_descriptor() -> impl Strategy<Value = (u64, u32, u16, u16)> {
    let addr = prop_oneof![BUFFERS..BUFFERS + 0x1000, RING..RING + 0x3000, any::<u64>()];
    let len = prop_oneof![Just(1_u32), Just(16), Just(512), 0_u32..4096, any::<u32>()];
    (addr, len, 0_u16..8, 0_u16..18)
}

proptest! {
    #[test]
    fn the_disk_holds_what_was_written(
        legacy in any::<bool>(),
        requests in prop::collection::vec((any::<bool>(), 0_u64..70, 1_u32..40, any::<u8>()), 1..40),
    ) {
        let mut rig = if legacy { legacy_disk() } else { modern_disk(EVENT_IDX) };
        let mut model = rig.disk.lock().unwrap().clone();
        for (write, sector, count, byte) in requests {
            let inside = sector + u64::from(count) <= 64;
            let range = sector as usize * 512..(sector as usize + count as usize) * 512;
            rig.guest.put(BUFFERS + 0x1000, &vec![byte; range.len()]);
            let (status, used) = rig.request(u32::from(write), sector, count * 512, !write);
            prop_assert_eq!(status, u8::from(!inside));
            prop_assert_eq!(used, if inside && !write { count * 512 + 1 } else { 1 });
            if inside && write {
                model[range].fill(byte);
            } else if inside {
                prop_assert_eq!(&rig.guest.get(BUFFERS + 0x1000, range.len())[..], &model[range]);
            }
        }
        prop_assert_eq!(&*rig.disk.lock().unwrap(), &model);
    }

    #[test]
    fn random_rings_neither_panic_nor_hang(
        legacy in any::<bool>(),
        descriptors in prop::collection::vec(any_descriptor(), 16),
        heads in prop::collection::vec(0_u16..20, 1..16),
        header in prop::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 64),
        skip in 0_u16..40,
    ) {
        let mut rig = if legacy { legacy_disk() } else { modern_disk(EVENT_IDX) };
        rig.guest.put(BUFFERS, &header);
        for (n, (addr, len, flags, next)) in descriptors.into_iter().enumerate() {
            rig.describe(RING, n as u16, addr, len, flags, next);
        }
        for head in heads {
            rig.offer(head);
        }
        if skip > 20 {
            rig.guest.put(rig.avail + 2, &rig.order.put16(skip));
        }
        for _ in 0..3 {
            let _ = rig.guest.css.notify(&rig.guest.mem, SCH, 0, 0);
        }
        let saved = rig.guest.css.save();
        let (mut other, _) = disk_guest(VirtioCcwOptions::default(), false);
        other.css.restore(saved.clone()).unwrap();
        prop_assert_eq!(other.css.save(), saved);
    }
}

#[test]
fn data_in_front_of_the_block_is_not_touched() {
    // READ FEATURES answers in place: the index stays, the features appear before it.
    let (mut guest, _) = disk_guest(VirtioCcwOptions::default(), false);
    guest.put(DATA - 1, &[0x55]);
    let answer = guest.answer(SCH, 0x12, &[9, 9, 9, 9, 7]);
    assert_eq!(answer, [0, 0, 0, 0, 7]);
    assert_eq!(guest.get(DATA - 1, 1), [0x55]);
    guest.put(CCW, &ccw1(0x12, 0, 5, DATA as u32));
    assert_eq!(guest.run(SCH), OK);
}
