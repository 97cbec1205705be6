//! virtio-blk apart from its transport (virtio 1.2, 5.2): configuration, the write cache, several queues, the thread of
//! the disk, and errors of the host's disk.

use std::io;
use std::sync::{Arc, Condvar, Mutex};

use cloister_devices::Waker;
use cloister_devices::access;
use cloister_devices::virtio::blk::{IoStatus, OnError, Operation, SharedDisk};
use cloister_devices::virtio::queue::{Layout, VirtQueue};
use cloister_devices::virtio::{Block, BlockOptions, ByteOrder, DiskBackend, VirtioDevice};
use proptest::prelude::*;

use crate::common::{Memory, memory};

pub(crate) const FLUSH: u64 = 1 << 9;
const CONFIG_WCE: u64 = 1 << 11;
const QUEUES: u64 = 1 << 12;
const HEADER: u64 = 0x2_0000;
const DATA: u64 = 0x4_0000;
const STATUS: u64 = 0x3_0000;

/// A disk that writes down what happens, and fails or waits when it is told.
#[derive(Default)]
struct Log {
    events: Vec<String>,
    bytes: Vec<u8>,
    fail: Option<io::ErrorKind>,
    held: bool,
}

#[derive(Clone, Default)]
struct Disk(Arc<(Mutex<Log>, Condvar)>);

impl Disk {
    fn new(sectors: usize) -> Self {
        let disk = Self::default();
        disk.log(|log| log.bytes = vec![0; sectors * 512]);
        disk
    }

    fn log<T>(&self, look: impl FnOnce(&mut Log) -> T) -> T {
        let out = look(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
        out
    }

    fn event(&self, what: String) -> io::Result<std::sync::MutexGuard<'_, Log>> {
        let mut log = self.0.0.lock().unwrap();
        while log.held {
            log = self.0.1.wait(log).unwrap();
        }
        match log.fail {
            Some(kind) => {
                log.events.push(format!("failed {what}"));
                Err(kind.into())
            }
            None => {
                log.events.push(what);
                Ok(log)
            }
        }
    }
}

impl DiskBackend for Disk {
    fn size(&self) -> u64 {
        self.0.0.lock().unwrap().bytes.len() as u64
    }
    fn read_only(&self) -> bool {
        false
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let log = self.event(format!("read {}", offset / 512))?;
        buf.copy_from_slice(&log.bytes[offset as usize..][..buf.len()]);
        Ok(())
    }
    fn write_at(&mut self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let mut log = self.event(format!("write {}", offset / 512))?;
        log.bytes[offset as usize..][..buf.len()].copy_from_slice(buf);
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.event("flush".into()).map(drop)
    }
    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.event(format!("discard {} {}", offset / 512, length / 512)).map(drop)
    }
    fn write_zeroes(&mut self, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
        self.event(format!("zeroes {} {} {unmap}", offset / 512, length / 512)).map(drop)
    }
    fn resize(&mut self, size: u64) -> io::Result<()> {
        self.log(|log| log.bytes.resize(size as usize, 0));
        Ok(())
    }
}

/// A driver with queues of 16.
pub(crate) struct Driver {
    pub(crate) mem: Memory,
    pub(crate) block: Block,
    pub(crate) queues: Vec<VirtQueue>,
    next: Vec<u16>,
}

impl Driver {
    pub(crate) fn new(block: Block, queues: usize, features: u64) -> Self {
        let mut driver = Self { mem: memory(), block, queues: Vec::new(), next: vec![0; queues] };
        for queue in 0..queues as u64 {
            let base = 0x1_0000 + queue * 0x3000;
            let mut ring = VirtQueue::new(16);
            assert!(ring.configure(
                Layout::Split { desc: base, avail: base + 0x1000, used: base + 0x2000 },
                16,
                false
            ));
            driver.queues.push(ring);
        }
        VirtioDevice::<Memory>::activate(&mut driver.block, features, ByteOrder::Little);
        driver
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        access::write(&self.mem, at, bytes).unwrap();
    }

    /// Puts a request into a queue: three descriptors from `3 * slot` on. Slots are 0 to 4.
    pub(crate) fn offer(
        &mut self,
        queue: usize,
        slot: u16,
        kind: u32,
        sector: u64,
        length: u32,
        reads: bool,
    ) {
        let base = 0x1_0000 + queue as u64 * 0x3000;
        let place = queue as u64 * 8 + u64::from(slot);
        let (header, data, status) = (HEADER + place * 16, DATA + place * 0x1000, STATUS + place);
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend([0; 4]);
        bytes.extend(sector.to_le_bytes());
        self.put(header, &bytes);
        self.put(status, &[0xff]);
        let flags = if reads { 3 } else { 1 };
        let parts = [(header, 16, 1_u16), (data, length, flags), (status, 1, 2)];
        for (index, (at, length, flags)) in (0..).zip(parts) {
            let mut d = at.to_le_bytes().to_vec();
            d.extend(u32::to_le_bytes(length));
            d.extend(flags.to_le_bytes());
            d.extend((3 * slot + index + 1).to_le_bytes());
            self.put(base + 16 * u64::from(3 * slot + index), &d);
        }
        let next = &mut self.next[queue];
        let entry = base + 0x1000 + 4 + 2 * u64::from(*next % 16);
        *next = next.wrapping_add(1);
        let count = *next;
        self.put(entry, &(3 * slot).to_le_bytes());
        self.put(base + 0x1002, &count.to_le_bytes());
    }

    pub(crate) fn fill(&self, queue: usize, slot: u16, bytes: &[u8]) {
        self.put(DATA + (queue as u64 * 8 + u64::from(slot)) * 0x1000, bytes);
    }

    pub(crate) fn ring(&mut self, queue: usize) {
        let Self { mem, block, queues, .. } = self;
        block.process_queue(mem, queue as u16, &mut queues[queue]).unwrap();
    }

    pub(crate) fn event(&mut self) -> (u64, bool) {
        let Self { mem, block, queues, .. } = self;
        let event = block.host_event(mem, queues).unwrap();
        (event.used, event.config)
    }

    pub(crate) fn status(&self, queue: usize, slot: u16) -> u8 {
        let mut byte = [0];
        access::read(&self.mem, STATUS + queue as u64 * 8 + u64::from(slot), &mut byte).unwrap();
        byte[0]
    }

    fn config(&self) -> Vec<u8> {
        VirtioDevice::<Memory>::config(&self.block, ByteOrder::Little)
    }
}

fn driver(disk: &Disk, options: BlockOptions, features: u64) -> Driver {
    let queues = usize::from(options.queues);
    let block = Block::new(Box::new(disk.clone()), BlockOptions { queue_size: 16, ..options }).unwrap();
    Driver::new(block, queues, features)
}

#[test]
fn virtio_5_2_4_the_configuration_says_what_was_asked_for() {
    let disk = Disk::new(64);
    let options = BlockOptions {
        block_size: 4096,
        physical_block_size: 16384,
        min_io_size: 8192,
        opt_io_size: 65536,
        queues: 4,
        discard_granularity: Some(65536),
        geometry: Some((7, 8, 9)),
        ..BlockOptions::default()
    };
    let driver = driver(&disk, options, FLUSH);
    let config = driver.config();
    assert_eq!(config[..8], 64_u64.to_le_bytes());
    assert_eq!(config[12..16], 14_u32.to_le_bytes(), "seg_max leaves room for header and status");
    assert_eq!(config[16..20], [7, 0, 8, 9]);
    assert_eq!(config[20..24], 4096_u32.to_le_bytes());
    assert_eq!((config[24], config[25]), (2, 0), "physical block exponent, alignment");
    assert_eq!((config[26], config[28]), (2, 16), "in logical blocks");
    assert_eq!((config[32], config[34]), (1, 4), "write cache, queues");
    assert_eq!(config[44..48], 128_u32.to_le_bytes(), "alignment of discards in sectors");
    let features = VirtioDevice::<Memory>::features(&driver.block);
    assert_eq!(features & (FLUSH | CONFIG_WCE | QUEUES), FLUSH | CONFIG_WCE | QUEUES);
    assert_eq!(VirtioDevice::<Memory>::queue_sizes(&driver.block), [16; 4]);
    assert!(Block::new(Box::new(disk), BlockOptions { queues: 65, ..BlockOptions::default() }).is_err());
}

#[test]
fn virtio_5_2_6_2_the_write_cache_can_be_switched_off() {
    let disk = Disk::new(64);
    let mut driver = driver(&disk, BlockOptions::default(), FLUSH | CONFIG_WCE);
    driver.offer(0, 0, 1, 3, 512, false);
    driver.ring(0);
    assert_eq!(disk.log(|log| std::mem::take(&mut log.events)), ["write 3"]);
    let mut config = driver.config();
    config[32] = 0;
    VirtioDevice::<Memory>::write_config(&mut driver.block, ByteOrder::Little, &config);
    assert_eq!(driver.config()[32], 0);
    assert!(!driver.block.status().write_cache());
    driver.offer(0, 0, 1, 4, 512, false);
    driver.ring(0);
    assert_eq!(disk.log(|log| std::mem::take(&mut log.events)), ["write 4", "flush"]);
    VirtioDevice::<Memory>::reset(&mut driver.block);
    assert!(driver.block.status().write_cache(), "a reset brings back what was asked for");
}

#[test]
fn requests_are_whole_blocks() {
    let disk = Disk::new(64);
    let options = BlockOptions { block_size: 4096, physical_block_size: 4096, ..BlockOptions::default() };
    let mut driver = driver(&disk, options, FLUSH);
    for (sector, length, status) in [(0, 4096, 0), (8, 512, 1), (1, 4096, 1), (56, 4096, 0), (64, 4096, 1)] {
        driver.offer(0, 0, 0, sector, length, true);
        driver.ring(0);
        assert_eq!(driver.status(0, 0), status, "{sector} {length}");
    }
    assert_eq!(driver.block.status().count(Operation::Read).invalid, 3);
    assert_eq!(driver.block.status().count(Operation::Read).operations, 2);
}

#[test]
fn discards_and_zeroes_reach_the_disk() {
    let disk = Disk::new(64);
    let mut driver = driver(&disk, BlockOptions::default(), FLUSH);
    let range = |sector: u64, count: u32, flags: u32| {
        [&sector.to_le_bytes()[..], &count.to_le_bytes(), &flags.to_le_bytes()].concat()
    };
    driver.fill(0, 0, &[range(8, 8, 0), range(32, 1, 0)].concat());
    driver.offer(0, 0, 11, 0, 32, false);
    driver.fill(0, 1, &range(16, 8, 1));
    driver.offer(0, 1, 13, 0, 16, false);
    driver.fill(0, 2, &range(60, 8, 0));
    driver.offer(0, 2, 13, 0, 16, false);
    driver.ring(0);
    assert_eq!([0, 1, 2].map(|slot| driver.status(0, slot)), [0, 0, 1]);
    assert_eq!(disk.log(|log| log.events.clone()), ["discard 8 8", "discard 32 1", "zeroes 16 8 true"]);
}

/// Waits until the disk's thread asks for a call.
struct Bell(Arc<(Mutex<u32>, Condvar)>, Waker);

impl Bell {
    fn new() -> Self {
        let (count, waker) = (Arc::new((Mutex::new(0), Condvar::new())), Waker::new());
        let told = Arc::clone(&count);
        waker.connect(move || {
            *told.0.lock().unwrap() += 1;
            told.1.notify_all();
        });
        Self(count, waker)
    }

    fn wait(&self) {
        let mut count = self.0.0.lock().unwrap();
        while *count == 0 {
            count = self.0.1.wait(count).unwrap();
        }
        *count = 0;
        self.1.clear();
    }
}

#[test]
fn a_thread_of_the_disk_works_in_order_on_several_queues() {
    let disk = Disk::new(64);
    let mut driver = driver(&disk, BlockOptions { queues: 2, ..BlockOptions::default() }, FLUSH);
    let bell = Bell::new();
    driver.block.work_aside(bell.1.clone()).unwrap();
    disk.log(|log| log.held = true);
    driver.offer(0, 0, 1, 1, 512, false);
    driver.offer(0, 1, 1, 2, 512, false);
    driver.ring(0);
    driver.offer(1, 0, 4, 0, 0, false);
    driver.offer(1, 1, 0, 2, 512, true);
    driver.ring(1);
    assert_eq!((driver.status(0, 0), driver.status(1, 0)), (0xff, 0xff), "nothing is answered yet");
    disk.log(|log| log.held = false);
    let mut used = 0;
    while [(0, 0), (0, 1), (1, 0), (1, 1)].iter().any(|(queue, slot)| driver.status(*queue, *slot) == 0xff) {
        bell.wait();
        used |= driver.event().0;
    }
    assert_eq!(used, 3);
    assert_eq!(disk.log(|log| log.events.clone()), ["write 1", "write 2", "flush", "read 2"]);
}

#[test]
fn a_reset_waits_for_what_is_under_way_and_answers_nothing_afterwards() {
    let disk = Disk::new(64);
    let mut driver = driver(&disk, BlockOptions::default(), FLUSH);
    driver.block.work_aside(Waker::new()).unwrap();
    disk.log(|log| log.held = true);
    driver.offer(0, 0, 1, 1, 512, false);
    driver.ring(0);
    let release = disk.clone();
    let thread = std::thread::spawn(move || release.log(|log| log.held = false));
    VirtioDevice::<Memory>::reset(&mut driver.block);
    thread.join().unwrap();
    assert_eq!(disk.log(|log| log.events.clone()), ["write 1"], "it was done before the reset returned");
    driver.event();
    assert_eq!(driver.status(0, 0), 0xff);
}

#[test]
fn dropping_a_disk_finishes_its_writes() {
    let disk = Disk::new(64);
    let mut driver = driver(&disk, BlockOptions::default(), FLUSH);
    driver.block.work_aside(Waker::new()).unwrap();
    for slot in 0..4 {
        driver.offer(0, slot, 1, u64::from(slot), 512, false);
    }
    driver.ring(0);
    drop(driver);
    assert_eq!(disk.log(|log| log.events.len()), 4);
}

#[test]
fn errors_are_reported_ignored_or_stop_the_machine() {
    for aside in [false, true] {
        for (action, kind, told) in [
            (OnError::Report, io::ErrorKind::Other, "Report"),
            (OnError::Ignore, io::ErrorKind::Other, "Ignore"),
            (OnError::Stop, io::ErrorKind::Other, "Stop"),
            (OnError::Enospc, io::ErrorKind::Other, "Report"),
            (OnError::Enospc, io::ErrorKind::StorageFull, "Stop"),
        ] {
            let disk = Disk::new(64);
            let mut driver =
                driver(&disk, BlockOptions { write_error: action, ..BlockOptions::default() }, FLUSH);
            let heard = Arc::new(Mutex::new(Vec::new()));
            let into = Arc::clone(&heard);
            driver.block.on_trouble(move |trouble| {
                into.lock().unwrap().push((
                    format!("{:?}", trouble.action),
                    trouble.read,
                    trouble.no_space(),
                ));
            });
            let bell = Bell::new();
            if aside {
                driver.block.work_aside(bell.1.clone()).unwrap();
            }
            disk.log(|log| log.fail = Some(kind));
            driver.fill(0, 0, &[7; 512]);
            driver.offer(0, 0, 1, 5, 512, false);
            driver.ring(0);
            if aside {
                bell.wait();
                driver.event();
            }
            let full = kind == io::ErrorKind::StorageFull;
            assert_eq!(*heard.lock().unwrap(), [(told.to_owned(), false, full)]);
            let (status, io_status) = match told {
                "Report" => (1, IoStatus::Ok),
                "Ignore" => (0, IoStatus::Ok),
                _ if full => (0xff, IoStatus::NoSpace),
                _ => (0xff, IoStatus::Failed),
            };
            assert_eq!((driver.status(0, 0), driver.block.status().io_status()), (status, io_status));
            assert_eq!(driver.block.status().count(Operation::Write).failed, 1);
            if told != "Stop" {
                continue;
            }
            // Not before the machine has stopped and goes on.
            driver.event();
            assert_eq!(driver.status(0, 0), 0xff);
            disk.log(|log| log.fail = None);
            driver.block.status().allow_retry();
            driver.event();
            if aside {
                bell.wait();
                driver.event();
            }
            assert_eq!((driver.status(0, 0), driver.block.status().io_status()), (0, IoStatus::Ok));
            assert_eq!(disk.log(|log| log.bytes[5 * 512..6 * 512].to_vec()), [7; 512]);
        }
    }
}

#[test]
fn what_waits_in_a_queue_is_taken_later_and_the_driver_is_asked_to_ring_again() {
    let disk = Disk::new(64);
    let options = BlockOptions { write_error: OnError::Stop, ..BlockOptions::default() };
    let mut driver = driver(&disk, options, FLUSH);
    driver.block.on_trouble(|_| {});
    driver.queues[0].set_event_idx(true);
    disk.log(|log| log.fail = Some(io::ErrorKind::Other));
    driver.offer(0, 0, 1, 1, 512, false);
    driver.ring(0);
    driver.offer(0, 1, 1, 2, 512, false);
    driver.ring(0);
    assert_eq!(driver.status(0, 1), 0xff, "nothing is taken while a request is kept");
    disk.log(|log| log.fail = None);
    driver.block.status().allow_retry();
    assert_eq!(driver.event().0, 1);
    assert_eq!((driver.status(0, 0), driver.status(0, 1)), (0, 0));
    let mut asked = [0; 2];
    access::read(&driver.mem, 0x1_2000 + 4 + 8 * 16, &mut asked).unwrap();
    assert_eq!(u16::from_le_bytes(asked), 2, "avail_event (virtio 1.2, 2.7.7.1)");
}

#[test]
fn a_new_size_is_told_to_the_guest() {
    let disk = Disk::new(64);
    let shared: SharedDisk = Arc::new(Mutex::new(Box::new(disk)));
    let block = Block::on(Arc::clone(&shared), BlockOptions::default()).unwrap();
    let mut driver = Driver::new(block, 1, FLUSH);
    assert_eq!(driver.event(), (0, false));
    shared.lock().unwrap().resize(128 * 512).unwrap();
    assert_eq!(driver.event(), (0, true));
    assert_eq!(driver.config()[..8], 128_u64.to_le_bytes());
    assert_eq!(driver.event(), (0, false));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is asked for, a disk with a thread ends up as one without.
    #[test]
    fn both_ways_of_working_do_the_same(
        requests in prop::collection::vec((0..5_u16, prop::sample::select(vec![0_u32, 1, 4, 8, 11, 13, 99]), 0..70_u64, 0..5_u32), 1..12),
    ) {
        let run = |aside: bool| {
            let disk = Disk::new(64);
            let mut driver = driver(&disk, BlockOptions::default(), FLUSH);
            if aside {
                driver.block.work_aside(Waker::new()).unwrap();
            }
            let mut out = Vec::new();
            for (slot, kind, sector, length) in &requests {
                driver.fill(0, *slot, &[*sector as u8; 2048]);
                driver.offer(0, *slot, *kind, *sector, length * 512, *kind == 0);
                driver.ring(0);
                while aside && driver.status(0, *slot) == 0xff {
                    std::thread::yield_now();
                    driver.event();
                }
                out.push(driver.status(0, *slot));
            }
            (out, disk.log(|log| (log.events.clone(), log.bytes.clone())))
        };
        prop_assert_eq!(run(false), run(true));
    }
}
