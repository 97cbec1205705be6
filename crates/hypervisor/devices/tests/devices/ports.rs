//! virtio-console and virtio-balloon, driven through their queues as Linux drives them.

use std::sync::{Arc, Mutex};

use cloister_devices::css::{DeviceState, SubchannelId};
use cloister_devices::virtio::balloon::{Balloon, BalloonControl, BalloonOptions, Discard};
use cloister_devices::virtio::console::{Console, INPUT_ROOM, PortError, PortOptions, PortPeer, Ports};
use cloister_devices::virtio::{VirtioCcw, VirtioCcwOptions, VirtioDevice};
use proptest::prelude::*;

use crate::common::{Guest, Memory, OK};

const SCH: u64 = 0x0001_0000;
/// Every queue has a ring of its own below this.
const RINGS: u64 = 0x1_0000;
const BUFFERS: u64 = 0x8_0000;
const SIZE: u16 = 16;

/// A driver of any device, with queues of 16.
struct Driver {
    guest: Guest,
    next: Vec<u16>,
    seen: Vec<u16>,
}

impl Driver {
    fn new(device: Box<dyn VirtioDevice<Memory>>, queues: u16, features: u32) -> Self {
        let mut guest = Guest::new();
        guest.css.attach(None, Box::new(VirtioCcw::new(device, VirtioCcwOptions::default()))).unwrap();
        guest.enable(SCH);
        guest.answer(SCH, 0x83, &[0, 2, 0, 0]);
        assert_eq!(guest.command(SCH, 0x33, 0, &[]), OK);
        guest.answer(SCH, 0x31, &[3]);
        for (word, index) in [(features, 0), (1, 1)] {
            let mut block = word.to_le_bytes().to_vec();
            block.push(index);
            guest.answer(SCH, 0x11, &block);
        }
        guest.answer(SCH, 0x31, &[0x0b]);
        let count = usize::from(queues);
        let mut driver = Self { guest, next: vec![0; count], seen: vec![0; count] };
        for queue in 0..queues {
            let ring = Self::ring(queue);
            let mut block = ring.to_be_bytes().to_vec();
            block.extend([0; 4]);
            block.extend(queue.to_be_bytes());
            block.extend(SIZE.to_be_bytes());
            block.extend((ring + 0x400).to_be_bytes());
            block.extend((ring + 0x800).to_be_bytes());
            driver.guest.answer(SCH, 0x13, &block);
        }
        driver.guest.answer(SCH, 0x31, &[0x0f]);
        driver
    }

    fn ring(queue: u16) -> u64 {
        RINGS + 0x1000 * u64::from(queue)
    }

    fn buffer(queue: u16, slot: u16) -> u64 {
        BUFFERS + 0x4000 * u64::from(queue) + 0x200 * u64::from(slot)
    }

    /// Gives the device a buffer: to read, or of so many bytes to write.
    fn offer(&mut self, queue: u16, content: Result<&[u8], u32>) {
        let slot = self.next[usize::from(queue)] % SIZE;
        let (ring, at) = (Self::ring(queue), Self::buffer(queue, slot));
        let (len, flags) = match content {
            Ok(bytes) => {
                self.guest.put(at, bytes);
                (bytes.len() as u32, 0_u16)
            }
            Err(room) => (room, 2),
        };
        let mut descriptor = at.to_le_bytes().to_vec();
        descriptor.extend(len.to_le_bytes());
        descriptor.extend(flags.to_le_bytes());
        descriptor.extend([0; 2]);
        self.guest.put(ring + 16 * u64::from(slot), &descriptor);
        self.guest.put(ring + 0x404 + 2 * u64::from(slot), &slot.to_le_bytes());
        self.next[usize::from(queue)] += 1;
        let next = self.next[usize::from(queue)];
        self.guest.put(ring + 0x402, &next.to_le_bytes());
        let _ = self.guest.css.notify(&self.guest.mem, SCH, u64::from(queue), 0);
    }

    /// What the device wrote into the next used buffer.
    fn taken(&mut self, queue: u16) -> Option<Vec<u8>> {
        let ring = Self::ring(queue);
        let used = self.guest.get(ring + 0x802, 2);
        let seen = &mut self.seen[usize::from(queue)];
        if u16::from_le_bytes(used.try_into().unwrap()) == *seen {
            return None;
        }
        let entry = ring + 0x804 + 8 * u64::from(*seen % SIZE);
        *seen += 1;
        let entry: [u8; 8] = self.guest.get(entry, 8).try_into().unwrap();
        let [slot @ .., l0, l1, l2, l3] = entry;
        let slot = u32::from_le_bytes(slot) as u16;
        Some(self.guest.get(Self::buffer(queue, slot), u32::from_le_bytes([l0, l1, l2, l3]) as usize))
    }

    /// What the machine does after a wake.
    fn event(&mut self) {
        let id = SubchannelId { ssid: 0, nr: 0 };
        self.guest.css.host_event(&self.guest.mem, id);
    }
}

/// A peer that takes some bytes and remembers everything.
#[derive(Default)]
struct Peer {
    written: Mutex<Vec<u8>>,
    room: Mutex<usize>,
    told: Mutex<Vec<&'static str>>,
}

impl PortPeer for Peer {
    fn write(&self, bytes: &[u8]) -> usize {
        let mut room = self.room.lock().unwrap();
        let taken = bytes.len().min(*room);
        *room -= taken;
        self.written.lock().unwrap().extend(&bytes[..taken]);
        taken
    }

    fn resume(&self) {
        self.told.lock().unwrap().push("resume");
    }

    fn guest_open(&self, open: bool) {
        self.told.lock().unwrap().push(if open { "open" } else { "closed" });
    }
}

fn message(number: u32, event: u16, value: u16) -> Vec<u8> {
    [&number.to_le_bytes()[..], &event.to_le_bytes(), &value.to_le_bytes()].concat()
}

/// A device with a console and a channel, and a driver that knows both.
fn serial() -> (Driver, Ports, Arc<Peer>) {
    let ports = Ports::new(31).unwrap();
    assert_eq!(ports.add(PortOptions { console: true, ..PortOptions::default() }), Ok(0));
    let channel = PortOptions { name: Some("org.example".into()), ..PortOptions::default() };
    assert_eq!(ports.add(channel), Ok(1));
    let peer = Arc::new(Peer::default());
    ports.connect(0, Arc::new(Peer::default()), true);
    ports.connect(1, Arc::clone(&peer) as _, true);
    let device = Box::new(Console::new(ports.clone(), true));
    let mut driver = Driver::new(device, 6, 1 << 1);
    for _ in 0..12 {
        driver.offer(2, Err(64));
    }
    driver.offer(3, Ok(&message(0, 0, 1)));
    driver.event();
    assert_eq!(driver.taken(2), Some(message(0, 1, 1)));
    assert_eq!(driver.taken(2), Some(message(1, 1, 1)));
    (driver, ports, peer)
}

#[test]
fn virtio_5_3_6_2_a_driver_hears_of_each_port_its_kind_its_name_and_whether_it_is_open() {
    let (mut driver, ports, peer) = serial();
    driver.offer(3, Ok(&message(0, 3, 1)));
    driver.offer(3, Ok(&message(1, 3, 1)));
    driver.event();
    assert_eq!(driver.taken(2), Some(message(0, 4, 1)));
    assert_eq!(driver.taken(2), Some(message(0, 6, 1)), "a console is always open");
    assert_eq!(driver.taken(2), Some([&message(1, 7, 1)[..], b"org.example\0"].concat()));
    assert_eq!(driver.taken(2), None, "nobody is at the channel's other end");
    ports.host_open(1, true);
    driver.event();
    assert_eq!(driver.taken(2), Some(message(1, 6, 1)));
    driver.offer(3, Ok(&message(1, 6, 1)));
    assert_eq!(*peer.told.lock().unwrap(), ["open"]);
    assert!(ports.remove(1));
    driver.event();
    assert_eq!(driver.taken(2), Some(message(1, 2, 1)));
}

#[test]
fn input_waits_for_a_port_that_is_open_and_for_buffers() {
    let (mut driver, ports, peer) = serial();
    assert_eq!(ports.input(1, b"early"), 0, "the guest has not opened it");
    driver.offer(3, Ok(&message(1, 6, 1)));
    assert_eq!(*peer.told.lock().unwrap(), ["open", "resume"]);
    let sent: Vec<u8> = (0..2 * INPUT_ROOM).map(|n| n as u8).collect();
    assert_eq!(ports.input(1, &sent), INPUT_ROOM, "what waits has a limit");
    assert_eq!(ports.input(1, &sent), 0);
    let mut got = Vec::new();
    while got.len() < INPUT_ROOM {
        driver.offer(4, Err(100));
        driver.event();
        got.extend(driver.taken(4).unwrap());
    }
    assert_eq!(got, sent[..INPUT_ROOM]);
    assert_eq!(*peer.told.lock().unwrap(), ["open", "resume", "resume"]);
}

#[test]
fn output_stays_in_the_guests_buffers_until_the_peer_takes_it() {
    let (mut driver, ports, peer) = serial();
    driver.offer(5, Ok(b"nobody hears this"));
    assert!(driver.taken(5).is_some(), "without a peer it is as good as heard");
    ports.host_open(1, true);
    *peer.room.lock().unwrap() = 4;
    driver.offer(5, Ok(b"slowly"));
    driver.offer(5, Ok(b", then"));
    assert_eq!(driver.taken(5), None);
    assert!(ports.status(1).unwrap().throttled);
    *peer.room.lock().unwrap() = 100;
    ports.writable();
    driver.event();
    assert_eq!(driver.taken(5), Some(Vec::new()));
    assert_eq!(driver.taken(5), Some(Vec::new()));
    assert_eq!(*peer.written.lock().unwrap(), b"slowly, then");
    // A peer that goes frees the guest.
    *peer.room.lock().unwrap() = 0;
    driver.offer(5, Ok(b"lost"));
    assert_eq!(driver.taken(5), None);
    ports.host_open(1, false);
    driver.event();
    assert!(driver.taken(5).is_some());
}

#[test]
fn a_port_has_a_free_number_and_a_name_of_its_own() {
    let ports = Ports::new(2).unwrap();
    let add = |number, console, name: &str| {
        let name = (!name.is_empty()).then(|| name.to_owned());
        ports.add(PortOptions { number, console, name })
    };
    assert_eq!(add(Some(0), false, ""), Err(PortError::Reserved));
    assert_eq!(add(None, false, "a"), Ok(1), "0 is kept for a console");
    assert_eq!(add(None, true, "a"), Err(PortError::Name("a".into())));
    assert_eq!(add(Some(1), true, ""), Err(PortError::Number(1)));
    assert_eq!(add(Some(2), true, ""), Err(PortError::Range(1)));
    assert_eq!(add(None, true, ""), Ok(0));
    assert_eq!(add(None, true, ""), Err(PortError::Range(1)));
    assert!(Ports::new(0).is_none() && Ports::new(32).is_none());
}

#[derive(Clone, Default)]
struct Discarded(Arc<Mutex<Vec<(u64, u64)>>>);

impl Discard for Discarded {
    fn discard(&self, address: u64, len: u64) {
        self.0.lock().unwrap().push((address, len));
    }
}

struct Inflatable {
    driver: Driver,
    control: BalloonControl,
    discarded: Discarded,
    told: Arc<Mutex<Vec<u32>>>,
}

fn balloon() -> Inflatable {
    let (control, discarded, told) = (BalloonControl::new(), Discarded::default(), Arc::default());
    let heard: Arc<Mutex<Vec<u32>>> = Arc::clone(&told);
    let observer = Box::new(move |pages| heard.lock().unwrap().push(pages));
    let options = BalloonOptions::default();
    let device = Balloon::new(control.clone(), options, Box::new(discarded.clone()), observer);
    Inflatable { driver: Driver::new(Box::new(device), 3, 1 << 1), control, discarded, told }
}

fn numbers(pages: &[u32]) -> Vec<u8> {
    pages.iter().flat_map(|page| page.to_le_bytes()).collect()
}

#[test]
fn virtio_5_5_6_inflated_pages_are_discarded_in_runs_and_the_config_tells_target_and_actual() {
    let mut rig = balloon();
    rig.driver.offer(0, Ok(&numbers(&[5, 6, 7, 20, 19, 18, 40])));
    assert!(rig.driver.taken(0).is_some());
    assert_eq!(*rig.discarded.0.lock().unwrap(), [(0x5000, 0x3000), (0x12000, 0x3000), (0x28000, 0x1000)]);
    rig.driver.offer(1, Ok(&numbers(&[5])));
    assert!(rig.driver.taken(1).is_some());
    rig.control.set_target(7);
    rig.driver.event();
    let config = rig.driver.guest.answer(SCH, 0x22, &[0; 16]);
    assert_eq!(config[..8], numbers(&[7, 0]));
    rig.driver.guest.answer(SCH, 0x21, &numbers(&[7, 6]));
    rig.driver.guest.answer(SCH, 0x21, &numbers(&[7, 6]));
    assert_eq!((rig.control.actual(), &**rig.told.lock().unwrap()), (6, &[6][..]), "told once");
}

#[test]
fn virtio_5_5_6_3_a_report_stays_until_the_next_is_wanted() {
    let mut rig = balloon();
    let statistic = |tag: u16, value: u64| [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat();
    let report = [statistic(4, 111), statistic(5, 222), statistic(99, 1)].concat();
    rig.driver.offer(2, Ok(&report));
    assert_eq!(rig.driver.taken(2), None);
    let (statistics, at) = rig.control.statistics();
    assert_eq!((statistics[4], statistics[5], statistics[0]), (Some(111), Some(222), None));
    assert!(at > 0);
    rig.control.ask();
    rig.driver.event();
    assert!(rig.driver.taken(2).is_some());
}

proptest! {
    #[test]
    fn no_control_message_or_page_list_surprises(
        messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..32), 0..12),
        pages in proptest::collection::vec(any::<u32>(), 0..64),
    ) {
        let (mut driver, ports, _) = serial();
        for message in &messages {
            driver.offer(3, Ok(message));
            driver.event();
        }
        prop_assert!(ports.status(0).is_some());
        let saved = driver.guest.css.save();
        prop_assert!(driver.guest.css.restore(saved).is_ok());
        let mut rig = balloon();
        rig.driver.offer(0, Ok(&numbers(&pages)));
        let total: u64 = rig.discarded.0.lock().unwrap().iter().map(|(_, len)| len / 4096).sum();
        prop_assert_eq!(total, pages.len() as u64);
    }
}

#[test]
fn a_saved_state_of_another_device_is_refused() {
    let (mut driver, ..) = serial();
    let saved = driver.guest.css.save();
    let DeviceState::VirtioCcw(_) = saved.subchannels[0].device.clone();
    assert!(driver.guest.css.restore(saved.clone()).is_ok());
    let mut rig = balloon();
    assert!(rig.driver.guest.css.restore(saved).is_err());
}
