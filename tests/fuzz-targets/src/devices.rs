//! Devices, driven by what a hostile guest may put into its memory.

use cloister_devices::access;
use cloister_devices::css::{ChannelSubsystem, SubchannelId};
use cloister_devices::entropy::SeededEntropy;
use cloister_devices::interrupt::{HostInterrupt, InterruptSink};
use cloister_devices::sclp::{ConsoleSink, Sclp, SclpConfig};
use cloister_devices::virtio::balloon::{Balloon, BalloonControl, BalloonOptions, Discard};
use cloister_devices::virtio::console::{Console, PortOptions, PortPeer, Ports};
use cloister_devices::virtio::{
    Block, BlockOptions, DiskBackend, Net, NetOptions, NetPort, Rng, VirtioCcw, VirtioCcwOptions,
    VirtioDevice,
};
use std::sync::Arc;
use vm_memory::{GuestAddress, GuestMemoryMmap};

type Memory = GuestMemoryMmap<()>;

const RAM: usize = 0x4_0000;
const SUBCHANNEL: u64 = 0x0001_0000;
const PROGRAM: u64 = 0x1000;
const DATA: u64 = 0x2000;
const RING: u64 = 0x1_0000;
const QUEUE_SIZE: u16 = 16;
/// SET VIRTIO REVISION, SET STATUS, WRITE FEATURES, SET QUEUE (virtio 1.2, 4.3.1.2).
const REVISION: u8 = 0x83;
const STATUS: u8 = 0x31;
const FEATURES: u8 = 0x11;
const QUEUE: u8 = 0x13;

/// The input is a channel program at 0x1000 with its data behind it.
pub(crate) fn channel_program(bytes: &[u8]) {
    let (kind, program) = bytes.split_first().unwrap_or((&0, &[]));
    let mut guest = Guest::new(Box::new(Rng::new(Box::new(SeededEntropy::new(7)))));
    guest.put(PROGRAM, program);
    guest.start(kind & 1 != 0);
    guest.css.reset();
}

/// The input is service calls: command word, length of the block, block.
pub(crate) fn sclp(mut bytes: &[u8]) {
    let console: Box<dyn ConsoleSink> = Box::new(|_: &[u8]| {});
    let mut sclp = Sclp::new(SclpConfig::new(512 << 20, 2), Some(console), None, Arc::new(Nobody));
    while let Some((head, rest)) = bytes.split_first_chunk::<6>() {
        let [a, b, c, d, high, low] = *head;
        let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
        let (block, rest) = rest.split_at(length);
        let mut block = block.to_vec();
        let _ = sclp.service_call(u32::from_be_bytes([a, b, c, d]), 0x8000, &mut block);
        sclp.console_input(&block);
        bytes = rest;
    }
    let saved = sclp.save();
    assert!(sclp.restore(saved).is_ok());
}

/// The input is the rings and buffers of a disk that is set up in order.
pub(crate) fn virtqueue(bytes: &[u8]) {
    let options = BlockOptions { queue_size: QUEUE_SIZE, ..BlockOptions::default() };
    let Ok(block) = Block::new(Box::new(Disk(vec![0; 64 * 512])), options) else { return };
    let mut guest = Guest::new(Box::new(block));
    guest.command(REVISION, &[0, 1, 0, 0]);
    guest.command(STATUS, &[3]);
    guest.command(FEATURES, &[1, 0, 0, 0, 1]);
    guest.command(STATUS, &[0x0b]);
    let mut queue = RING.to_be_bytes().to_vec();
    queue.extend([0; 6]);
    queue.extend(QUEUE_SIZE.to_be_bytes());
    queue.extend((RING + 0x1000).to_be_bytes());
    queue.extend((RING + 0x2000).to_be_bytes());
    guest.command(QUEUE, &queue);
    guest.command(STATUS, &[0x0f]);
    // The first half is the available ring's index and heads, the descriptors follow.
    let (ring, table) = bytes.split_at(bytes.len().min(4 + 2 * usize::from(QUEUE_SIZE)));
    guest.put(RING + 0x1000, ring);
    guest.put(RING, table);
    for _ in 0..2 {
        let _ = guest.css.notify(&guest.memory, SUBCHANNEL, 0, 0);
    }
    let saved = guest.css.save();
    assert!(guest.css.restore(saved).is_ok());
}

/// The input is which device (a console with a channel, or a balloon), which queue, and the rings and buffers of that
/// queue.
pub(crate) fn virtio_ports(bytes: &[u8]) {
    let Some((&[kind, queue], rest)) = bytes.split_first_chunk::<2>() else { return };
    let ports = Ports::new(4);
    let control = BalloonControl::new();
    let (device, queues): (Box<dyn VirtioDevice<Memory>>, u8) = match ports.clone().filter(|_| kind & 1 == 0)
    {
        Some(ports) => (Box::new(Console::new(ports, true)), 6),
        None => {
            let (discard, told) = (Box::new(Nobody), Box::new(|_| {}));
            (Box::new(Balloon::new(control.clone(), BalloonOptions::default(), discard, told)), 3)
        }
    };
    let mut guest = Guest::new(device);
    if let Some(ports) = &ports {
        for console in [true, false] {
            if let Ok(number) = ports.add(PortOptions { console, ..PortOptions::default() }) {
                ports.connect(number, Arc::new(Nobody), true);
                ports.host_open(number, true);
            }
        }
    }
    guest.command(REVISION, &[0, 1, 0, 0]);
    guest.command(STATUS, &[3]);
    guest.command(FEATURES, &[2, 0, 0, 0, 0]);
    guest.command(FEATURES, &[1, 0, 0, 0, 1]);
    guest.command(STATUS, &[0x0b]);
    let ring = |queue: u8| RING + 0x1000 * u64::from(queue);
    for queue in 0..queues {
        let mut block = ring(queue).to_be_bytes().to_vec();
        block.extend([0, 0, 0, 0, 0, queue]);
        block.extend(QUEUE_SIZE.to_be_bytes());
        block.extend((ring(queue) + 0x400).to_be_bytes());
        block.extend((ring(queue) + 0x800).to_be_bytes());
        guest.command(QUEUE, &block);
    }
    guest.command(STATUS, &[0x0f]);
    let queue = queue % queues;
    let (available, table) = rest.split_at(rest.len().min(4 + 2 * usize::from(QUEUE_SIZE)));
    guest.put(ring(queue) + 0x400, available);
    guest.put(ring(queue), &table[..table.len().min(0x400)]);
    for _ in 0..2 {
        let _ = guest.css.notify(&guest.memory, SUBCHANNEL, u64::from(queue), 0);
        if let Some(ports) = &ports {
            ports.input(0, rest);
            ports.writable();
        }
        control.ask();
        guest.css.host_event(&guest.memory, SubchannelId { ssid: 0, nr: 0 });
    }
    let saved = guest.css.save();
    assert!(guest.css.restore(saved).is_ok());
}

/// The input is features, which queue of a network device, rings and buffers of that queue; the rest comes in as
/// packets.
pub(crate) fn virtio_net(bytes: &[u8]) {
    let Some((&[features, queue], rest)) = bytes.split_first_chunk::<2>() else { return };
    let mut guest = Guest::new(Box::new(Net::new(Box::new(Wire(rest.to_vec())), NetOptions::new([2; 6]))));
    guest.command(REVISION, &[0, 1, 0, 0]);
    guest.command(STATUS, &[3]);
    // MRG_RXBUF, STATUS, CTRL_VQ and what hangs on it.
    guest.command(FEATURES, &[0, features & 0x80, features & 0x9f, 0, 0]);
    guest.command(FEATURES, &[1, 0, 0, 0, 1]);
    guest.command(STATUS, &[0x0b]);
    let ring = |queue: u8| RING + 0x1000 * u64::from(queue);
    for queue in 0..3 {
        let mut block = ring(queue).to_be_bytes().to_vec();
        block.extend([0, 0, 0, 0, 0, queue]);
        block.extend(QUEUE_SIZE.to_be_bytes());
        block.extend((ring(queue) + 0x400).to_be_bytes());
        block.extend((ring(queue) + 0x800).to_be_bytes());
        guest.command(QUEUE, &block);
    }
    guest.command(STATUS, &[0x0f]);
    let queue = queue % 3;
    let (available, table) = rest.split_at(rest.len().min(4 + 2 * usize::from(QUEUE_SIZE)));
    guest.put(ring(queue) + 0x400, available);
    guest.put(ring(queue), &table[..table.len().min(0x400)]);
    for _ in 0..2 {
        let _ = guest.css.notify(&guest.memory, SUBCHANNEL, u64::from(queue), 0);
        guest.css.host_event(&guest.memory, SubchannelId { ssid: 0, nr: 0 });
    }
    let saved = guest.css.save();
    assert!(guest.css.restore(saved).is_ok());
}

/// A network that brings packets of lengths that the input says, and takes every other one.
struct Wire(Vec<u8>);

impl NetPort for Wire {
    fn send(&mut self, packet: &[u8]) -> bool {
        packet.len().is_multiple_of(2) || self.0.pop().is_none()
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        let length = self.0.pop()?;
        Some(vec![length; 1 + 37 * usize::from(length)])
    }

    fn set_active(&mut self, _: bool) {}

    fn is_up(&self) -> bool {
        !self.0.len().is_multiple_of(3)
    }

    fn call_again(&mut self) {}
}

struct Nobody;

impl PortPeer for Nobody {
    fn write(&self, bytes: &[u8]) -> usize {
        bytes.len() / 2
    }

    fn resume(&self) {}
}

impl Discard for Nobody {
    fn discard(&self, _: u64, _: u64) {}
}

impl InterruptSink for Nobody {
    fn raise(&self, _: HostInterrupt) {}
}

struct Disk(Vec<u8>);

impl Disk {
    fn range(&self, offset: u64, len: usize) -> std::io::Result<std::ops::Range<usize>> {
        let start = usize::try_from(offset).ok().filter(|start| start + len <= self.0.len());
        start.map(|start| start..start + len).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
    }
}

impl DiskBackend for Disk {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_only(&self) -> bool {
        false
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        let range = self.range(offset, buf.len())?;
        buf.copy_from_slice(&self.0[range]);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, buf: &[u8]) -> std::io::Result<()> {
        let range = self.range(offset, buf.len())?;
        self.0[range].copy_from_slice(buf);
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Guest {
    memory: Memory,
    css: ChannelSubsystem<Memory>,
}

impl Guest {
    fn new(device: Box<dyn VirtioDevice<Memory>>) -> Self {
        let memory = Memory::from_ranges(&[(GuestAddress(0), RAM)]).expect("a small memory");
        let mut css = ChannelSubsystem::new(Arc::new(Nobody));
        css.attach(None, Box::new(VirtioCcw::new(device, VirtioCcwOptions::default())))
            .expect("the only device");
        let mut guest = Self { memory, css };
        if let (_, Some(mut block)) = guest.css.stsch(SUBCHANNEL) {
            block[5] |= 0x80;
            let _ = guest.css.msch(SUBCHANNEL, &block);
        }
        guest
    }

    fn put(&self, address: u64, bytes: &[u8]) {
        let room = RAM - address as usize;
        let _ = access::write(&self.memory, address, &bytes[..bytes.len().min(room)]);
    }

    fn start(&mut self, format_1: bool) {
        let mut orb = [0; 12];
        orb[5] = if format_1 { 0x80 } else { 0 };
        orb[6] = 0xff;
        orb[8..].copy_from_slice(&(PROGRAM as u32).to_be_bytes());
        let _ = self.css.ssch(&self.memory, SUBCHANNEL, &orb);
        let _ = self.css.rsch(&self.memory, SUBCHANNEL);
        let _ = self.css.tsch(SUBCHANNEL);
    }

    fn command(&mut self, command: u8, data: &[u8]) {
        self.put(DATA, data);
        let mut ccw = [command, 0, 0, data.len() as u8, 0, 0, 0, 0];
        ccw[4..].copy_from_slice(&(DATA as u32).to_be_bytes());
        self.put(PROGRAM, &ccw);
        self.start(true);
    }
}
