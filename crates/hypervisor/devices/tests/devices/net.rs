//! virtio-net behind virtio-ccw: packets both ways, hostile rings, and the control queue.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use cloister_devices::css::SubchannelId;
use cloister_devices::virtio::{ByteOrder, Net, NetOptions, NetPort, VirtioCcw, VirtioCcwOptions};
use proptest::prelude::*;

use crate::common::{Guest, Memory, OK};

const SCH: u64 = 0x0001_0000;
const ID: SubchannelId = SubchannelId { ssid: 0, nr: 0 };
const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
/// Each queue has 64 KiB for its ring and its buffers.
const RINGS: u64 = 0x1_0000;
const VERSION_1: u64 = 1 << 32;
const MRG_RXBUF: u64 = 1 << 15;
const STATUS: u64 = 1 << 16;
const CONTROL: u64 = 1 << 17 | 1 << 18 | 1 << 20 | 1 << 23;
const EVENT_IDX: u64 = 1 << 29;
const NEEDS_RESET: u8 = 0x40;

#[derive(Default)]
struct Wire {
    sent: Vec<Vec<u8>>,
    coming: VecDeque<Vec<u8>>,
    full: bool,
    down: bool,
    active: bool,
    again: usize,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Wire>>);

impl NetPort for Fake {
    fn send(&mut self, packet: &[u8]) -> bool {
        let mut wire = self.0.lock().unwrap();
        if wire.full {
            return false;
        }
        wire.sent.push(packet.to_vec());
        true
    }
    fn receive(&mut self) -> Option<Vec<u8>> {
        self.0.lock().unwrap().coming.pop_front()
    }
    fn set_active(&mut self, active: bool) {
        let mut wire = self.0.lock().unwrap();
        wire.active = active;
        wire.coming.clear();
    }
    fn is_up(&self) -> bool {
        !self.0.lock().unwrap().down
    }
    fn call_again(&mut self) {
        self.0.lock().unwrap().again += 1;
    }
}

struct Rig {
    guest: Guest,
    wire: Fake,
    order: ByteOrder,
    next: [u16; 3],
}

fn new(options: NetOptions) -> (Guest, Fake) {
    let (mut guest, wire) = (Guest::new(), Fake::default());
    let device = Box::new(Net::new(Box::new(wire.clone()), options));
    guest.css.attach(None, Box::new(VirtioCcw::<Memory>::new(device, VirtioCcwOptions::default()))).unwrap();
    guest.enable(SCH);
    (guest, wire)
}

fn modern(features: u64) -> Rig {
    let (mut guest, wire) = new(NetOptions { mtu: 1500, ..NetOptions::new(MAC) });
    guest.answer(SCH, 0x83, &[0, 2, 0, 0]);
    for status in [1, 3] {
        guest.answer(SCH, 0x31, &[status]);
    }
    for (index, word) in [features as u32, ((features | VERSION_1) >> 32) as u32].into_iter().enumerate() {
        let mut block = word.to_le_bytes().to_vec();
        block.push(index as u8);
        guest.answer(SCH, 0x11, &block);
    }
    guest.answer(SCH, 0x31, &[0x0b]);
    for index in 0..3_u16 {
        let ring = ring(index);
        let mut queue = ring.to_be_bytes().to_vec();
        queue.extend([0, 0, 0, 0]);
        queue.extend(index.to_be_bytes());
        queue.extend(16_u16.to_be_bytes());
        queue.extend((ring + 0x1000).to_be_bytes());
        queue.extend((ring + 0x2000).to_be_bytes());
        guest.answer(SCH, 0x13, &queue);
    }
    guest.answer(SCH, 0x31, &[0x0f]);
    Rig { guest, wire, order: ByteOrder::Little, next: [0; 3] }
}

fn legacy() -> Rig {
    let (mut guest, wire) = new(NetOptions::new(MAC));
    assert_eq!(guest.command(SCH, 0x33, 0, &[]), OK);
    for status in [1, 3] {
        guest.answer(SCH, 0x31, &[status]);
    }
    guest.answer(SCH, 0x11, &[1 << 5, 0, 0, 0, 0]);
    for index in 0..2_u16 {
        let size =
            u16::from_be_bytes(guest.answer(SCH, 0x32, &[0, index as u8, 0, 0])[2..].try_into().unwrap());
        assert_eq!(size, 256);
        let mut queue = ring(index).to_be_bytes().to_vec();
        queue.extend(4096_u32.to_be_bytes());
        queue.extend(index.to_be_bytes());
        queue.extend(size.to_be_bytes());
        guest.answer(SCH, 0x13, &queue);
    }
    guest.answer(SCH, 0x31, &[7]);
    Rig { guest, wire, order: ByteOrder::Big, next: [0; 3] }
}

fn ring(index: u16) -> u64 {
    RINGS + 0x1_0000 * u64::from(index)
}

fn buffers(index: u16) -> u64 {
    ring(index) + 0x4000
}

impl Rig {
    fn size(&self) -> u16 {
        if self.order == ByteOrder::Big { 256 } else { 16 }
    }

    /// Offsets of the available and the used ring.
    fn parts(&self, queue: u16) -> (u64, u64) {
        // The same for both: 256 legacy descriptors fill a page, too.
        (ring(queue) + 0x1000, ring(queue) + 0x2000)
    }

    fn describe(&self, queue: u16, index: u16, addr: u64, len: u32, flags: u16, next: u16) {
        let mut d = self.order.put64(addr).to_vec();
        d.extend(self.order.put32(len));
        d.extend(self.order.put16(flags));
        d.extend(self.order.put16(next));
        self.guest.put(ring(queue) + 16 * u64::from(index), &d);
    }

    fn offer(&mut self, queue: u16, head: u16) {
        let (avail, _) = self.parts(queue);
        let next = &mut self.next[usize::from(queue)];
        let slot = u64::from(*next % if self.order == ByteOrder::Big { 256 } else { 16 });
        *next = next.wrapping_add(1);
        let index = self.order.put16(*next);
        self.guest.put(avail + 4 + 2 * slot, &self.order.put16(head));
        self.guest.put(avail + 2, &index);
    }

    fn ring_bell(&mut self, queue: u16) {
        assert_eq!(self.guest.css.notify(&self.guest.mem, SCH, u64::from(queue), 0), Ok(0));
    }

    fn event(&mut self) {
        self.guest.css.host_event(&self.guest.mem, ID);
    }

    fn used(&self, queue: u16) -> Vec<(u32, u32)> {
        let (_, used) = self.parts(queue);
        let count = self.order.u16(self.guest.get(used + 2, 2).try_into().unwrap());
        let element = |n: u16| {
            let bytes = self.guest.get(used + 4 + 8 * u64::from(n % self.size()), 8);
            let word = |at: usize| self.order.u32(bytes[at..at + 4].try_into().unwrap());
            (word(0), word(4))
        };
        (0..count).map(element).collect()
    }

    /// Offers receive buffers of these lengths, one chain each.
    fn receive_buffers(&mut self, lengths: &[u32]) {
        let mut at = buffers(0);
        for (index, &len) in lengths.iter().enumerate() {
            self.describe(0, index as u16, at, len, 2, 0);
            self.offer(0, index as u16);
            at += u64::from(len);
        }
        self.ring_bell(0);
    }

    fn arrives(&mut self, packet: &[u8]) {
        self.wire.0.lock().unwrap().coming.push_back(packet.to_vec());
        self.event();
    }

    fn send(&mut self, head: u16, header: usize, packet: &[u8]) {
        let at = buffers(1) + 0x800 * u64::from(head);
        self.guest.put(at, &[&vec![0; header][..], packet].concat());
        self.describe(1, head, at, (header + packet.len()) as u32, 0, 0);
        self.offer(1, head);
        self.ring_bell(1);
    }

    fn control(&mut self, command: &[u8]) -> u8 {
        let at = buffers(2);
        self.guest.put(at, command);
        self.guest.put(at + 0x2000, &[0xff]);
        self.describe(2, 0, at, command.len() as u32, 1, 1);
        self.describe(2, 1, at + 0x2000, 1, 2, 0);
        self.offer(2, 0);
        self.ring_bell(2);
        self.guest.get(at + 0x2000, 1)[0]
    }

    fn status(&mut self) -> u8 {
        self.guest.answer(SCH, 0x72, &[0])[0]
    }

    fn sent(&self) -> Vec<Vec<u8>> {
        self.wire.0.lock().unwrap().sent.clone()
    }
}

fn packet(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7) as u8).collect()
}

#[test]
fn virtio_1_2_5_1_4_configuration_has_address_status_and_largest_packet() {
    let mut rig = modern(1 << 5 | STATUS | 1 << 3);
    let config = rig.guest.answer(SCH, 0x22, &[0; 12]);
    assert_eq!(config[..6], MAC);
    assert_eq!(config[6..], [1, 0, 1, 0, 0xdc, 0x05]);
    rig.wire.0.lock().unwrap().down = true;
    rig.event();
    assert_eq!(rig.guest.answer(SCH, 0x22, &[0; 12])[6..8], [0, 0], "the cable was pulled");
}

#[test]
fn virtio_1_2_5_1_6_2_a_packet_is_sent_without_its_header() {
    let mut rig = modern(MRG_RXBUF);
    rig.send(0, 12, &packet(100));
    assert_eq!(rig.sent(), [packet(100)]);
    assert_eq!(rig.used(1), [(0, 0)]);
    // Header and packet in pieces that end anywhere.
    let at = buffers(1);
    rig.guest.put(at, &[&[0; 12][..], &packet(60)].concat());
    rig.describe(1, 3, at, 5, 1, 4);
    rig.describe(1, 4, at + 5, 20, 1, 5);
    rig.describe(1, 5, at + 25, 47, 0, 0);
    rig.offer(1, 3);
    rig.ring_bell(1);
    assert_eq!(rig.sent()[1], packet(60));
}

#[test]
fn a_legacy_driver_has_the_short_header_and_its_own_byte_order() {
    let mut rig = legacy();
    rig.send(0, 10, &packet(64));
    assert_eq!(rig.sent(), [packet(64)]);
    rig.receive_buffers(&[1524]);
    rig.arrives(&packet(64));
    assert_eq!(rig.used(0), [(0, 74)]);
    assert_eq!(rig.guest.get(buffers(0) + 10, 64), packet(64));
}

#[test]
fn packets_that_cannot_be_sent_come_back_unsent() {
    let mut rig = modern(0);
    rig.send(0, 12, &[]);
    rig.describe(1, 1, buffers(1), 4, 0, 0);
    rig.offer(1, 1);
    rig.describe(1, 2, u64::MAX - 100_000, 80, 0, 0);
    rig.offer(1, 2);
    rig.describe(1, 3, buffers(1), 100_000, 0, 0);
    rig.offer(1, 3);
    rig.ring_bell(1);
    assert_eq!(rig.used(1), [(0, 0), (1, 0), (2, 0), (3, 0)]);
    assert!(rig.sent().is_empty());
    assert_eq!(rig.status() & NEEDS_RESET, 0);
}

#[test]
fn a_slow_peer_holds_the_queue_and_no_packet_is_lost() {
    for features in [0, EVENT_IDX] {
        let mut rig = modern(features);
        rig.wire.0.lock().unwrap().full = true;
        for head in 0..4 {
            rig.send(head, 12, &packet(40 + usize::from(head)));
        }
        assert!(rig.used(1).is_empty());
        rig.event();
        assert!(rig.used(1).is_empty());
        rig.wire.0.lock().unwrap().full = false;
        rig.event();
        assert_eq!(rig.used(1).len(), 4);
        assert_eq!(rig.sent(), (0..4).map(|n| packet(40 + n)).collect::<Vec<_>>());
    }
}

#[test]
fn virtio_1_2_5_1_6_4_a_packet_is_spread_over_merged_buffers() {
    let mut rig = modern(MRG_RXBUF);
    rig.receive_buffers(&[100, 100, 100, 100]);
    rig.arrives(&packet(250));
    assert_eq!(rig.used(0), [(0, 100), (1, 100), (2, 62)]);
    let bytes = rig.guest.get(buffers(0), 262);
    assert_eq!(bytes[10..12], [3, 0], "the number of buffers");
    assert_eq!(bytes[12..], packet(250));
    // Not enough room: the packet waits for the driver, and nothing is used.
    rig.arrives(&packet(200));
    assert_eq!(rig.used(0).len(), 3);
    rig.describe(0, 5, buffers(0) + 0x1000, 300, 2, 0);
    rig.offer(0, 5);
    rig.ring_bell(0);
    assert_eq!(rig.used(0)[3..], [(3, 100), (5, 112)]);
    let bytes = [rig.guest.get(buffers(0) + 312, 88), rig.guest.get(buffers(0) + 0x1000, 112)].concat();
    assert_eq!(bytes, packet(200));
}

/// The driver adds a buffer and rings only if the device asked for it, as Linux does with the event index.
#[test]
fn virtio_1_2_2_7_10_a_device_that_ran_out_of_buffers_asks_for_a_doorbell() {
    let mut rig = modern(MRG_RXBUF | EVENT_IDX);
    let wanted = |rig: &Rig, queue| {
        let (_, used) = rig.parts(queue);
        u16::from_le_bytes(rig.guest.get(used + 4 + 8 * 16, 2).try_into().unwrap())
    };
    rig.receive_buffers(&[200, 200]);
    for _ in 0..3 {
        rig.arrives(&packet(150));
    }
    assert_eq!(rig.used(0).len(), 2);
    assert_eq!(wanted(&rig, 0), 2, "a doorbell at the next buffer");
    rig.describe(0, 2, buffers(0) + 0x1000, 200, 2, 0);
    rig.offer(0, 2);
    rig.ring_bell(0);
    assert_eq!(rig.used(0).len(), 3);
    // The same for packets to send, after the peer was slow.
    rig.wire.0.lock().unwrap().full = true;
    for head in 0..3 {
        rig.send(head, 12, &packet(40));
    }
    rig.wire.0.lock().unwrap().full = false;
    rig.event();
    assert_eq!((rig.used(1).len(), wanted(&rig, 1)), (3, 3));
}

#[test]
fn a_flood_lets_others_have_their_turn_and_is_gone_on_with() {
    let mut rig = modern(MRG_RXBUF);
    rig.receive_buffers(&[100; 16]);
    rig.wire.0.lock().unwrap().coming.extend(std::iter::repeat_n(packet(60), 20));
    rig.event();
    assert_eq!((rig.used(0).len(), rig.wire.0.lock().unwrap().again), (16, 1));
    assert_eq!(rig.wire.0.lock().unwrap().coming.len(), 4);
}

#[test]
fn without_merged_buffers_a_packet_that_does_not_fit_is_dropped() {
    let mut rig = modern(0);
    rig.receive_buffers(&[100, 1000]);
    rig.arrives(&packet(250));
    assert!(rig.used(0).is_empty());
    rig.arrives(&packet(80));
    assert_eq!(rig.used(0), [(0, 92)]);
    rig.arrives(&packet(250));
    assert_eq!(rig.used(0)[1], (1, 262));
    assert_eq!(rig.guest.get(buffers(0) + 112, 250), packet(250));
}

#[test]
fn oversize_packets_are_dropped() {
    let mut rig = modern(MRG_RXBUF);
    rig.receive_buffers(&[1000; 16]);
    rig.arrives(&packet(70_000));
    rig.arrives(&packet(17_000));
    assert!(rig.used(0).is_empty());
    rig.arrives(&packet(15_000));
    assert_eq!(rig.used(0).len(), 16);
}

#[test]
fn broken_receive_chains_need_a_reset() {
    for (len, flags) in [(4, 2), (64, 0), (0, 2)] {
        let mut rig = modern(0);
        rig.describe(0, 0, buffers(0), len, flags, 0);
        rig.offer(0, 0);
        rig.arrives(&packet(60));
        assert_ne!(rig.status() & NEEDS_RESET, 0, "{len} {flags}");
        rig.arrives(&packet(60));
        assert!(rig.used(0).is_empty());
    }
}

#[test]
fn a_reset_drops_what_was_under_way() {
    let mut rig = modern(MRG_RXBUF);
    rig.wire.0.lock().unwrap().full = true;
    rig.send(0, 12, &packet(40));
    rig.receive_buffers(&[20]);
    rig.arrives(&packet(200));
    assert!(rig.wire.0.lock().unwrap().active);
    rig.guest.answer(SCH, 0x31, &[0]);
    assert!(!rig.wire.0.lock().unwrap().active);
    rig.wire.0.lock().unwrap().full = false;
    rig.event();
    assert!(rig.sent().is_empty());
}

#[test]
fn virtio_1_2_5_1_6_5_the_control_queue_answers() {
    let mut rig = modern(CONTROL);
    assert_eq!(rig.control(&[0, 0, 0]), 0, "no longer promiscuous");
    let own = |to: [u8; 6]| [&to[..], &[0; 54]].concat();
    rig.receive_buffers(&[1600; 8]);
    rig.arrives(&own([0x52, 0x54, 0, 0, 0, 9]));
    assert!(rig.used(0).is_empty());
    rig.arrives(&own(MAC));
    assert_eq!(rig.used(0).len(), 1);
    assert_eq!(rig.control(&[&[1, 1][..], &[0x52, 0x54, 0, 0, 0, 9]].concat()), 0);
    rig.arrives(&own([0x52, 0x54, 0, 0, 0, 9]));
    assert_eq!(rig.used(0).len(), 2);
    for bad in
        [&[][..], &[0], &[0, 0], &[0, 9, 1], &[1, 1, 2], &[2, 0, 1, 0], &[3, 0], &[4, 0, 1, 0], &[9, 9, 9]]
    {
        assert_eq!(rig.control(bad), 1, "{bad:?}");
    }
    assert_eq!(rig.status() & NEEDS_RESET, 0);
}

#[test]
fn states_go_on_in_another_device() {
    let mut rig = modern(MRG_RXBUF);
    rig.wire.0.lock().unwrap().full = true;
    rig.send(0, 12, &packet(40));
    rig.receive_buffers(&[100]);
    rig.arrives(&packet(200));
    let state = rig.guest.css.save();
    let bytes = postcard::to_stdvec(&state).unwrap();
    let (mut other, wire) = new(NetOptions { mtu: 1500, ..NetOptions::new(MAC) });
    other.css.restore(postcard::from_bytes(&bytes).unwrap()).unwrap();
    let mut after = Rig { guest: other, wire, order: rig.order, next: rig.next };
    for at in (RINGS..RINGS + 0x3_0000).step_by(0x1000) {
        after.guest.put(at, &rig.guest.get(at, 0x1000));
    }
    after.event();
    assert_eq!(after.sent(), [packet(40)]);
    after.describe(0, 1, buffers(0) + 0x1000, 300, 2, 0);
    after.offer(0, 1);
    after.wire.0.lock().unwrap().coming.push_back(packet(200));
    after.ring_bell(0);
    assert_eq!(after.used(0), [(0, 100), (1, 112)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Rings and buffers of any content, while packets come and go: no panic, and the device answers afterwards.
    #[test]
    fn no_ring_makes_the_device_panic(
        words in prop::collection::vec((0..3_u16, 0..0x1100_u64, any::<[u8; 4]>()), 0..60),
        lengths in prop::collection::vec(0..70_000_usize, 0..6),
        features in prop::sample::select(vec![0, MRG_RXBUF, MRG_RXBUF | CONTROL | STATUS | EVENT_IDX]),
    ) {
        let mut rig = modern(features);
        for (queue, at, bytes) in words {
            rig.guest.put(ring(queue) + (at & !3), &bytes);
        }
        for length in lengths {
            rig.arrives(&packet(length));
            for queue in 0..3 {
                rig.ring_bell(queue);
            }
        }
        rig.guest.answer(SCH, 0x31, &[0]);
    }

    /// What arrives is what the driver finds, whatever the sizes of its buffers.
    #[test]
    fn packets_arrive_whole_and_in_order(
        sizes in prop::collection::vec(14..400_u32, 16),
        lengths in prop::collection::vec(1..300_usize, 1..6),
    ) {
        let mut rig = modern(MRG_RXBUF);
        rig.receive_buffers(&sizes);
        for length in &lengths {
            rig.arrives(&packet(*length));
        }
        let starts: Vec<u64> = sizes.iter().scan(buffers(0), |at, size| {
            let start = *at;
            *at += u64::from(*size);
            Some(start)
        }).collect();
        let used = rig.used(0);
        let mut rest = &used[..];
        for length in lengths {
            let Some(&(first, _)) = rest.first() else { break };
            let header = rig.guest.get(starts[first as usize], 12);
            let count = usize::from(u16::from_le_bytes([header[10], header[11]]));
            let (chains, after) = rest.split_at(count);
            let bytes: Vec<u8> = chains.iter()
                .flat_map(|&(head, len)| rig.guest.get(starts[head as usize], len as usize))
                .collect();
            prop_assert_eq!(&bytes[12..], &packet(length)[..]);
            rest = after;
        }
        prop_assert!(rest.is_empty());
    }
}
