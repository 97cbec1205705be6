//! virtio-net (virtio 1.2, 5.1) with one pair of queues and a control queue. The driver may choose what it receives;
//! packets are complete on both sides: no checksum is left out and no segment made, since the backends carry plain
//! packets.
//!
//! Where packets go is not known here: that is a [`NetPort`].

use serde::{Deserialize, Serialize};
use vm_memory::GuestMemory;

use super::queue::{Chain, QueueError, Segment, VirtQueue};
use super::{ByteOrder, HostEvent, VirtioDevice, VirtioDeviceState};
use crate::Error;
use crate::access;

pub use filter::Filter;

mod filter;

/// Feature bits of the device (virtio 1.2, 5.1.3), as masks.
pub mod net_feature {
    /// The device says how large packets may be.
    pub const MTU: u64 = 1 << 3;
    /// The device has an address.
    pub const MAC: u64 = 1 << 5;
    /// A packet may be spread over several chains.
    pub const MRG_RXBUF: u64 = 1 << 15;
    /// The device says whether the cable is plugged in.
    pub const STATUS: u64 = 1 << 16;
    /// There is a control queue.
    pub const CTRL_VQ: u64 = 1 << 17;
    /// It takes receive modes.
    pub const CTRL_RX: u64 = 1 << 18;
    /// It takes VLANs.
    pub const CTRL_VLAN: u64 = 1 << 19;
    /// It takes finer receive modes.
    pub const CTRL_RX_EXTRA: u64 = 1 << 20;
    /// It takes another address.
    pub const CTRL_MAC_ADDR: u64 = 1 << 23;
}

/// The device's end of a network.
pub trait NetPort: Send {
    /// Sends a packet. False: it was not taken; the machine calls the device once there is room.
    fn send(&mut self, packet: &[u8]) -> bool;

    /// The next packet for the guest. The machine calls the device when one has come.
    fn receive(&mut self) -> Option<Vec<u8>>;

    /// The driver is ready, or not any more. Packets that wait are dropped.
    fn set_active(&mut self, active: bool);

    /// Whether the cable is plugged in.
    fn is_up(&self) -> bool;
}

/// Options of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetOptions {
    /// Its address.
    pub mac: [u8; 6],
    /// The largest packet, without its Ethernet header, that the guest should send; 0 says nothing.
    pub mtu: u16,
    /// Chains of received packets, a power of two.
    pub rx_queue_size: u16,
    /// Offer to spread packets.
    pub mergeable: bool,
    /// Offer to say whether the cable is plugged in.
    pub status: bool,
    /// Offer the control queue.
    pub control: bool,
}

impl NetOptions {
    /// The usual device with this address.
    pub fn new(mac: [u8; 6]) -> Self {
        Self { mac, mtu: 0, rx_queue_size: 256, mergeable: true, status: true, control: true }
    }
}

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const CONTROL: usize = 2;

const TRANSMIT_SIZE: u16 = 256;
const CONTROL_SIZE: u16 = 64;

/// Longest packet: that of the largest IP packet, with room for headers.
const PACKET_LIMIT: usize = 4096 + 65536;
/// Longest command of the control queue: tables of addresses that make any sense fit many times.
const COMMAND_LIMIT: u64 = 8192;

/// The network device.
pub struct Net {
    port: Box<dyn NetPort>,
    options: NetOptions,
    queue_sizes: Vec<u16>,
    features: u64,
    order: ByteOrder,
    mac: [u8; 6],
    filter: Filter,
    /// The link as the driver was last told.
    told_up: bool,
    /// A packet that found no room in the guest.
    held: Option<Vec<u8>>,
    /// Chains taken from the receive queue and not used yet.
    spare: Vec<Chain>,
    /// A packet that the port did not take, with its chain.
    waiting: Option<(u16, Vec<u8>)>,
    buffer: Vec<u8>,
}

/// Saved state of virtio-net.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetState {
    /// The address, which the driver may have changed.
    pub mac: [u8; 6],
    /// What it receives.
    pub filter: Filter,
    /// A packet under way to the backend, with its chain.
    pub waiting: Option<(u16, Vec<u8>)>,
    /// Chains taken and not used: head, addresses and lengths.
    pub spare: Vec<(u16, Vec<(u64, u32)>)>,
}

impl Net {
    /// A device at this port.
    pub fn new(port: Box<dyn NetPort>, options: NetOptions) -> Self {
        let mut queue_sizes = vec![options.rx_queue_size, TRANSMIT_SIZE];
        if options.control {
            queue_sizes.push(CONTROL_SIZE);
        }
        Self {
            port,
            options,
            queue_sizes,
            features: 0,
            order: ByteOrder::Little,
            mac: options.mac,
            filter: Filter::default(),
            told_up: true,
            held: None,
            spare: Vec::new(),
            waiting: None,
            buffer: Vec::new(),
        }
    }

    fn offered(&self) -> u64 {
        use net_feature::*;
        let mut features = MAC;
        if self.options.mtu != 0 {
            features |= MTU;
        }
        if self.options.mergeable {
            features |= MRG_RXBUF;
        }
        if self.options.status {
            features |= STATUS;
        }
        if self.options.control {
            features |= CTRL_VQ | CTRL_RX | CTRL_VLAN | CTRL_RX_EXTRA | CTRL_MAC_ADDR;
        }
        features
    }

    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// Length of the header before each packet (virtio 1.2, 5.1.6): only a legacy driver may have it without the number
    /// of buffers.
    fn header(&self) -> usize {
        let modern = self.order == ByteOrder::Little;
        if modern || self.has(net_feature::MRG_RXBUF) { 12 } else { 10 }
    }

    fn transmit<M: GuestMemory>(&mut self, mem: &M, queue: &mut VirtQueue) -> Result<bool, QueueError> {
        let mut used = false;
        for _ in 0..queue.size() {
            let (head, packet) = match self.waiting.take() {
                Some(waiting) => waiting,
                None => {
                    let Some(chain) = queue.pop(mem)? else { break };
                    let mut packet = std::mem::take(&mut self.buffer);
                    gather(mem, &chain, self.header(), &mut packet);
                    (chain.head, packet)
                }
            };
            if !packet.is_empty() && !self.port.send(&packet) {
                self.waiting = Some((head, packet));
                break;
            }
            self.buffer = packet;
            queue.push_used(mem, head, 0)?;
            used = true;
        }
        Ok(used)
    }

    fn receive<M: GuestMemory>(&mut self, mem: &M, queue: &mut VirtQueue) -> Result<bool, QueueError> {
        let mut used = false;
        // A peer that keeps sending lets the guest have its turn after one ring.
        for _ in 0..queue.size() {
            let Some(packet) = self.held.take().or_else(|| self.port.receive()) else { break };
            if packet.len() > PACKET_LIMIT || !self.filter.accepts(&packet, self.mac) {
                continue;
            }
            match self.room(mem, queue, packet.len())? {
                Room::Enough(chains) => {
                    self.place(mem, queue, &packet, chains)?;
                    used = true;
                }
                Room::Later => {
                    self.held = Some(packet);
                    break;
                }
                Room::Never => tracing::debug!(length = packet.len(), "virtio-net: a packet does not fit"),
            }
        }
        Ok(used)
    }

    /// How many of the spare chains a packet takes.
    fn room<M: GuestMemory>(
        &mut self,
        mem: &M,
        queue: &mut VirtQueue,
        length: usize,
    ) -> Result<Room, QueueError> {
        let needed = (self.header() + length) as u64;
        let most = if self.has(net_feature::MRG_RXBUF) { usize::from(queue.size()) } else { 1 };
        let (mut found, mut chains) = (0, 0);
        while found < needed {
            if chains == most {
                return Ok(Room::Never);
            }
            if chains == self.spare.len() {
                let Some(chain) = queue.pop(mem)? else { return Ok(Room::Later) };
                // The header must be in one piece with the first bytes only for the oldest drivers, but somewhere it
                // must be (5.1.6.3.1).
                if chain.writable_len() < self.header() as u64 {
                    return Err(QueueError::Chain(chain.head));
                }
                self.spare.push(chain);
            }
            found += self.spare[chains].writable_len();
            chains += 1;
        }
        Ok(Room::Enough(chains))
    }

    fn place<M: GuestMemory>(
        &mut self,
        mem: &M,
        queue: &mut VirtQueue,
        packet: &[u8],
        chains: usize,
    ) -> Result<(), QueueError> {
        let header = self.header();
        let mut bytes = std::mem::take(&mut self.buffer);
        bytes.clear();
        bytes.resize(header, 0);
        if header == 12 {
            bytes[10..12].copy_from_slice(&self.order.put16(chains as u16));
        }
        bytes.extend_from_slice(packet);
        let mut left = &bytes[..];
        let mut done = Vec::with_capacity(chains);
        for chain in self.spare.drain(..chains) {
            let mut written = 0;
            for segment in &chain.writable {
                let (part, rest) = left.split_at(left.len().min(segment.len as usize));
                if let Err(error) = access::write(mem, segment.addr, part) {
                    // The driver gets what there is; the packet is broken, as on a bad cable.
                    tracing::warn!("virtio-net: buffer at {:#x}: {error}", segment.addr);
                }
                written += part.len() as u32;
                left = rest;
            }
            done.push((chain.head, written));
        }
        self.buffer = bytes;
        // Together: a driver that sees the first may look for the others at once (5.1.6.4).
        queue.push_used_all(mem, &done)
    }

    fn control<M: GuestMemory>(&mut self, mem: &M, queue: &mut VirtQueue) -> Result<bool, QueueError> {
        let mut used = false;
        for _ in 0..queue.size() {
            let Some(chain) = queue.pop(mem)? else { break };
            let Some(answer) = chain.writable.iter().find(|segment| segment.len > 0) else {
                return Err(QueueError::Chain(chain.head));
            };
            let mut request = Vec::new();
            let sane = chain.readable_len() <= COMMAND_LIMIT;
            let read = sane && append(mem, &chain.readable, 0, &mut request).is_ok();
            let accepted = read && self.command(&request);
            let mut written = 1;
            if let Err(error) = access::write(mem, answer.addr, &[u8::from(!accepted)]) {
                tracing::warn!("virtio-net: answer at {:#x}: {error}", answer.addr);
                written = 0;
            }
            queue.push_used(mem, chain.head, written)?;
            used = true;
        }
        Ok(used)
    }

    /// A command of the control queue (virtio 1.2, 5.1.6.5): class, command, data.
    fn command(&mut self, request: &[u8]) -> bool {
        use net_feature::{CTRL_MAC_ADDR, CTRL_RX, CTRL_RX_EXTRA, CTRL_VLAN};
        let [class, command, data @ ..] = request else { return false };
        match (class, command) {
            (0, 0 | 1) if self.has(CTRL_RX) => self.filter.mode(*command, data),
            (0, 2..=5) if self.has(CTRL_RX_EXTRA) => self.filter.mode(*command, data),
            (1, 0) if self.has(CTRL_RX) => self.filter.tables(self.order, data),
            (1, 1) if self.has(CTRL_MAC_ADDR) => match data.try_into() {
                Ok(mac) => {
                    self.mac = mac;
                    true
                }
                Err(_) => false,
            },
            (2, 0 | 1) if self.has(CTRL_VLAN) => match data.try_into() {
                Ok(id) => self.filter.vlan(self.order.u16(id), *command == 0),
                Err(_) => false,
            },
            _ => false,
        }
    }
}

enum Room {
    /// In this many chains.
    Enough(usize),
    /// When the driver adds chains.
    Later,
    /// Not in any number of chains that the queue can have.
    Never,
}

impl<M: GuestMemory> VirtioDevice<M> for Net {
    fn device_id(&self) -> u8 {
        1
    }

    fn features(&self) -> u64 {
        self.offered()
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    /// Virtio 1.2, 5.1.4: address, status, pairs of queues, largest packet.
    fn config(&self, order: ByteOrder) -> Vec<u8> {
        let mut config = self.mac.to_vec();
        config.extend(order.put16(u16::from(self.told_up)));
        if self.options.mtu != 0 {
            config.extend(order.put16(1));
            config.extend(order.put16(self.options.mtu));
        }
        config
    }

    fn write_config(&mut self, order: ByteOrder, data: &[u8]) {
        // Only a legacy driver without the command for it writes the address (5.1.4.3).
        if order == ByteOrder::Big
            && !self.has(net_feature::CTRL_MAC_ADDR)
            && let Some(mac) = data.first_chunk::<6>()
        {
            self.mac = *mac;
        }
    }

    fn activate(&mut self, features: u64, order: ByteOrder) {
        self.features = features;
        self.order = order;
        self.filter.choose(self.has(net_feature::CTRL_VLAN));
        self.told_up = self.port.is_up();
        self.port.set_active(true);
    }

    fn reset(&mut self) {
        self.features = 0;
        self.order = ByteOrder::Little;
        self.mac = self.options.mac;
        self.filter = Filter::default();
        self.told_up = self.port.is_up();
        (self.held, self.waiting) = (None, None);
        self.spare.clear();
        self.port.set_active(false);
    }

    fn process_queue(&mut self, mem: &M, index: u16, queue: &mut VirtQueue) -> Result<bool, QueueError> {
        match usize::from(index) {
            RECEIVE => self.receive(mem, queue),
            TRANSMIT => self.transmit(mem, queue),
            CONTROL if self.has(net_feature::CTRL_VQ) => self.control(mem, queue),
            _ => Ok(false),
        }
    }

    fn host_event(&mut self, mem: &M, queues: &mut [VirtQueue]) -> Result<HostEvent, QueueError> {
        let mut event = HostEvent::default();
        for (index, queue) in queues.iter_mut().enumerate().take(CONTROL) {
            if !queue.ready() {
                continue;
            }
            let used = match index {
                RECEIVE => self.receive(mem, queue)?,
                _ => self.transmit(mem, queue)?,
            };
            event.used |= u64::from(used) << index;
        }
        let up = self.port.is_up();
        event.config = self.has(net_feature::STATUS) && up != self.told_up;
        self.told_up = up;
        Ok(event)
    }

    fn save(&self) -> VirtioDeviceState {
        let spare = self.spare.iter().map(|chain| {
            (chain.head, chain.writable.iter().map(|segment| (segment.addr, segment.len)).collect())
        });
        VirtioDeviceState::Net(NetState {
            mac: self.mac,
            filter: self.filter.clone(),
            waiting: self.waiting.clone(),
            spare: spare.collect(),
        })
    }

    fn restore(&mut self, state: VirtioDeviceState) -> Result<(), Error> {
        let fail = |reason: &str| Error::State { device: "virtio-net", reason: reason.into() };
        let VirtioDeviceState::Net(state) = state else {
            return Err(fail("the state belongs to another device"));
        };
        if state.waiting.as_ref().is_some_and(|(_, packet)| packet.len() > PACKET_LIMIT)
            || state.spare.len() > usize::from(self.options.rx_queue_size)
        {
            return Err(fail("more is under way than can be"));
        }
        (self.mac, self.filter, self.waiting) = (state.mac, state.filter, state.waiting);
        let chain = |(head, segments): (u16, Vec<(u64, u32)>)| {
            let writable = segments.into_iter().map(|(addr, len)| Segment { addr, len }).collect();
            Chain::taken(head, writable)
        };
        self.spare = state.spare.into_iter().map(chain).collect();
        Ok(())
    }
}

/// The packet of a chain without its header. Empty: there is none, or none that can be sent.
fn gather<M: GuestMemory>(mem: &M, chain: &Chain, header: usize, packet: &mut Vec<u8>) {
    packet.clear();
    let length = chain.readable_len();
    if length > (header + PACKET_LIMIT) as u64 {
        tracing::debug!(length, "virtio-net: a packet is too long");
        return;
    }
    if let Err(error) = append(mem, &chain.readable, header, packet) {
        tracing::warn!("virtio-net: a packet cannot be read: {error}");
        packet.clear();
    }
}

/// Appends what is in the segments after `skip` bytes.
fn append<M: GuestMemory>(
    mem: &M,
    segments: &[Segment],
    mut skip: usize,
    to: &mut Vec<u8>,
) -> Result<(), access::AccessError> {
    for segment in segments {
        let skipped = skip.min(segment.len as usize);
        skip -= skipped;
        let at = to.len();
        to.resize(at + segment.len as usize - skipped, 0);
        access::read(mem, segment.addr + skipped as u64, &mut to[at..])?;
    }
    Ok(())
}
