//! virtio-console (virtio 1.2, 5.3) with up to 31 ports: consoles of the guest and named channels, such as that of a
//! guest agent. A port meets the host at a [`PortPeer`]; what the host does comes through [`Ports`].
//!
//! Nothing is kept that has no limit: input waits in [`INPUT_ROOM`] bytes for each port, and output that a peer does
//! not take stays in the guest's own buffers. The size of a console is not told (VIRTIO_CONSOLE_F_SIZE).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use vm_memory::GuestMemory;

use super::queue::{Chain, QueueError, Segment, VirtQueue};
use super::{ByteOrder, HostEvent, VirtioDevice, VirtioDeviceState};
use crate::access::{self, AccessError};
use crate::{Error, Waker};

/// Bytes that wait for the guest at one port.
pub const INPUT_ROOM: usize = 4096;

/// Most ports of one device: two queues for each, and two for control, fit into classic indicators.
pub const MOST_PORTS: u32 = 31;

/// The host's end of a port. It is called while the device is at work, so it must neither block nor call back.
pub trait PortPeer: Send + Sync {
    /// Takes what the guest has written and says how many bytes; the rest is offered again after
    /// [`Ports::writable`].
    fn write(&self, bytes: &[u8]) -> usize;

    /// The guest has made room for input that [`Ports::input`] did not take.
    fn resume(&self);

    /// The guest has opened or closed the port.
    fn guest_open(&self, _open: bool) {}
}

/// What a port is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortOptions {
    /// Its number; without one the lowest that is free.
    pub number: Option<u32>,
    /// A console of the guest, which is always open on the host's side.
    pub console: bool,
    /// Its name for the guest.
    pub name: Option<String>,
}

/// Why a port cannot be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// The number is taken.
    #[error("virtio-serial-bus: A port already exists at id {0}")]
    Number(u32),
    /// The name is taken.
    #[error("virtio-serial-bus: A port already exists by name {0}")]
    Name(String),
    /// The number is too high, or none is left.
    #[error("virtio-serial-bus: Out-of-range port id specified, max. allowed: {0}")]
    Range(u32),
    /// Port 0 is for a console.
    #[error(
        "Port number 0 on virtio-serial devices reserved for virtconsole devices for backward compatibility."
    )]
    Reserved,
}

/// How the ports of a device stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortStatus {
    /// Its number.
    pub number: u32,
    /// The guest has it open.
    pub guest_open: bool,
    /// The host has it open.
    pub host_open: bool,
    /// Output waits for the host.
    pub throttled: bool,
}

/// The host's handle on the ports of a device. Clones are of the same device; every method may be called on any
/// thread.
#[derive(Clone)]
pub struct Ports(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    waker: Waker,
    most: u32,
}

#[derive(Default)]
struct State {
    ports: BTreeMap<u32, Port>,
    /// Control messages for the guest.
    control: VecDeque<Vec<u8>>,
    /// The guest runs a driver that knows of ports.
    multiport: bool,
    driver_ready: bool,
}

struct Port {
    options: PortOptions,
    peer: Option<Arc<dyn PortPeer>>,
    host_open: bool,
    guest_open: bool,
    input: VecDeque<u8>,
    /// The peer has more input.
    stalled: bool,
    /// A buffer that the peer has not taken wholly.
    output: Option<Output>,
}

/// A buffer of the guest, and how much of it has been written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Output {
    head: u16,
    segments: Vec<(u64, u32)>,
    done: u64,
}

/// The device.
pub struct Console {
    ports: Ports,
    sizes: Vec<u16>,
    emergency_write: bool,
    order: ByteOrder,
}

/// Saved state of a console device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleState {
    ports: Vec<PortState>,
    control: Vec<Vec<u8>>,
    driver_ready: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PortState {
    number: u32,
    guest_open: bool,
    input: Vec<u8>,
    output: Option<Output>,
}

mod feature {
    pub(super) const MULTIPORT: u64 = 1 << 1;
    pub(super) const EMERGENCY_WRITE: u64 = 1 << 2;
}

/// Control messages (5.3.6.2 "Multiport Device Operation").
mod event {
    pub(super) const DEVICE_READY: u16 = 0;
    pub(super) const PORT_ADD: u16 = 1;
    pub(super) const PORT_REMOVE: u16 = 2;
    pub(super) const PORT_READY: u16 = 3;
    pub(super) const CONSOLE_PORT: u16 = 4;
    pub(super) const PORT_OPEN: u16 = 6;
    pub(super) const PORT_NAME: u16 = 7;
}

const PORT_QUEUE: u16 = 128;
const CONTROL_QUEUE: u16 = 32;
const CONTROL_RECEIVE: u16 = 2;
const CONTROL_TRANSMIT: u16 = 3;
/// Bytes of a control message without its name.
const CONTROL_LEN: usize = 8;
/// Control messages that wait for a guest which gives no buffers; any more are lost.
const MOST_CONTROL: usize = 512;
/// Bytes read from the guest at once.
const CHUNK: usize = 4096;

impl Ports {
    /// The ports of a device that is still to be made.
    ///
    /// # Errors
    /// `most` is 0 or more than [`MOST_PORTS`].
    pub fn new(most: u32) -> Option<Self> {
        (1..=MOST_PORTS).contains(&most).then(|| {
            let state = Mutex::new(State::default());
            Self(Arc::new(Shared { state, waker: Waker::new(), most }))
        })
    }

    /// By which the device asks to be called.
    pub fn waker(&self) -> &Waker {
        &self.0.waker
    }

    /// Adds a port without a peer and tells its number. A guest that runs hears of it.
    ///
    /// # Errors
    /// Number or name are taken or not allowed.
    pub fn add(&self, options: PortOptions) -> Result<u32, PortError> {
        let mut state = self.lock();
        let most = self.0.most;
        if options.number == Some(0) && !options.console {
            return Err(PortError::Reserved);
        }
        if let Some(name) = &options.name
            && state.ports.values().any(|port| port.options.name.as_ref() == Some(name))
        {
            return Err(PortError::Name(name.clone()));
        }
        // Number 0 is kept for a console, which old drivers take for the only port.
        let first = u32::from(!options.console);
        let number = match options.number {
            Some(number) if state.ports.contains_key(&number) => return Err(PortError::Number(number)),
            Some(number) => number,
            None => (first..most).find(|number| !state.ports.contains_key(number)).unwrap_or(most),
        };
        if number >= most {
            return Err(PortError::Range(most - 1));
        }
        let port = Port {
            options,
            peer: None,
            host_open: false,
            guest_open: false,
            input: VecDeque::new(),
            stalled: false,
            output: None,
        };
        state.ports.insert(number, port);
        state.tell(number, event::PORT_ADD, 1);
        drop(state);
        self.0.waker.wake();
        Ok(number)
    }

    /// Gives a port its peer. A console is open on the host's side from then on.
    pub fn connect(&self, number: u32, peer: Arc<dyn PortPeer>) {
        let mut state = self.lock();
        if let Some(port) = state.ports.get_mut(&number) {
            port.peer = Some(peer);
            if port.options.console {
                port.host_open = true;
                state.tell(number, event::PORT_OPEN, 1);
            }
        }
        drop(state);
        self.0.waker.wake();
    }

    /// Takes a port away; the guest hears of it, and of nothing else from there.
    pub fn remove(&self, number: u32) -> bool {
        let mut state = self.lock();
        let gone = state.ports.remove(&number);
        if gone.is_some() {
            state.tell(number, event::PORT_REMOVE, 1);
        }
        drop(state);
        self.0.waker.wake();
        gone.is_some()
    }

    /// Takes input for the guest and says how much; the rest is for after [`PortPeer::resume`]. A guest that has not
    /// opened the port takes none.
    pub fn input(&self, number: u32, bytes: &[u8]) -> usize {
        let mut state = self.lock();
        let Some(port) = state.ports.get_mut(&number) else { return bytes.len() };
        let room = if port.guest_open { INPUT_ROOM.saturating_sub(port.input.len()) } else { 0 };
        let taken = room.min(bytes.len());
        port.input.extend(&bytes[..taken]);
        port.stalled |= taken < bytes.len();
        drop(state);
        if taken > 0 {
            self.0.waker.wake();
        }
        taken
    }

    /// The host has opened or closed its end. Consoles stay open.
    pub fn host_open(&self, number: u32, open: bool) {
        let mut state = self.lock();
        if let Some(port) = state.ports.get_mut(&number)
            && !port.options.console
            && port.host_open != open
        {
            port.host_open = open;
            state.tell(number, event::PORT_OPEN, u16::from(open));
        }
        drop(state);
        self.0.waker.wake();
    }

    /// The peer takes output again.
    pub fn writable(&self) {
        // Whether output waits cannot be asked here: it may be on its way back from the peer.
        self.0.waker.wake();
    }

    /// How a port stands.
    pub fn status(&self, number: u32) -> Option<PortStatus> {
        self.lock().ports.get(&number).map(|port| PortStatus {
            number,
            guest_open: port.guest_open,
            host_open: port.host_open,
            throttled: port.output.is_some(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports").field("most", &self.0.most).finish_non_exhaustive()
    }
}

impl State {
    /// Leaves a control message for a guest that wants any.
    fn tell(&mut self, number: u32, event: u16, value: u16) {
        self.send(number, event, value, &[]);
    }

    fn send(&mut self, number: u32, event: u16, value: u16, more: &[u8]) {
        if !(self.multiport && self.driver_ready) {
            return;
        }
        if self.control.len() >= MOST_CONTROL {
            tracing::debug!(number, event, "virtio-serial: the guest takes no control messages");
            return;
        }
        // Only virtio 1.x drivers and legacy ones differ in byte order; it is filled in when the message is delivered.
        let mut message = Vec::with_capacity(CONTROL_LEN + more.len());
        message.extend(number.to_le_bytes());
        message.extend(event.to_le_bytes());
        message.extend(value.to_le_bytes());
        message.extend(more);
        self.control.push_back(message);
    }

    /// Tells the guest everything about a port that it has just got to know.
    fn introduce(&mut self, number: u32) {
        let Some(port) = self.ports.get(&number) else { return };
        let (console, host_open) = (port.options.console, port.host_open);
        let name = port.options.name.clone();
        if console {
            self.tell(number, event::CONSOLE_PORT, 1);
        }
        if let Some(name) = name {
            let mut name = name.into_bytes();
            name.push(0);
            self.send(number, event::PORT_NAME, 1, &name);
        }
        if host_open {
            self.tell(number, event::PORT_OPEN, 1);
        }
    }

    /// The guest opens or closes a port. Returns whom to tell.
    fn guest_open(&mut self, number: u32, open: bool) -> Option<Told> {
        let port = self.ports.get_mut(&number)?;
        let changed = port.guest_open != open;
        port.guest_open = open;
        if !open {
            port.input.clear();
        }
        let resume = open && std::mem::take(&mut port.stalled);
        (changed || resume).then_some(())?;
        port.peer.clone().map(|peer| Told { peer, open: changed.then_some(open), resume })
    }
}

/// A peer to call once the lock is released.
struct Told {
    peer: Arc<dyn PortPeer>,
    open: Option<bool>,
    resume: bool,
}

impl Told {
    fn tell(self) {
        if let Some(open) = self.open {
            self.peer.guest_open(open);
        }
        if self.resume {
            self.peer.resume();
        }
    }
}

impl Console {
    /// A device with these ports.
    pub fn new(ports: Ports, emergency_write: bool) -> Self {
        let most = ports.0.most;
        let pairs = if most > 1 { most + 1 } else { 1 };
        let sizes = (0..2 * pairs).map(|queue| match queue {
            2 | 3 => CONTROL_QUEUE,
            _ => PORT_QUEUE,
        });
        Self { sizes: sizes.collect(), ports, emergency_write, order: ByteOrder::Little }
    }

    /// The port behind a receive (even) or transmit (odd) queue.
    fn port_of(queue: u16) -> u32 {
        match u32::from(queue) / 2 {
            0 => 0,
            pair => pair - 1,
        }
    }

    fn queues_of(number: u32) -> (usize, usize) {
        let pair = if number == 0 { 0 } else { number as usize + 1 };
        (2 * pair, 2 * pair + 1)
    }

    /// What the driver says about ports.
    fn control<M: GuestMemory>(&mut self, mem: &M, queue: &mut VirtQueue) -> Result<bool, QueueError> {
        let mut used = false;
        for _ in 0..queue.size() {
            let Some(chain) = queue.pop(mem)? else { break };
            let mut message = [0; CONTROL_LEN];
            match gather(mem, &chain.readable, 0, &mut message) {
                Ok(CONTROL_LEN) => self.command(message),
                Ok(short) => tracing::debug!(short, "virtio-serial: a control message is too short"),
                Err(error) => tracing::warn!("virtio-serial: control message: {error}"),
            }
            queue.push_used(mem, chain.head, 0)?;
            used = true;
        }
        if used {
            self.ports.0.waker.wake();
        }
        Ok(used)
    }

    fn command(&mut self, m: [u8; CONTROL_LEN]) {
        let number = self.order.u32([m[0], m[1], m[2], m[3]]);
        let event = self.order.u16([m[4], m[5]]);
        let value = self.order.u16([m[6], m[7]]);
        tracing::trace!(target: "virtio_serial_handle_control_message", event, value);
        let mut state = self.ports.lock();
        if event == event::DEVICE_READY {
            if value == 0 {
                tracing::warn!("virtio-serial: the guest could not set the device up");
                return;
            }
            let numbers: Vec<u32> = state.ports.keys().copied().collect();
            for number in numbers {
                state.tell(number, event::PORT_ADD, 1);
            }
            return;
        }
        let told = match event {
            event::PORT_READY if value == 0 => {
                tracing::warn!(number, "virtio-serial: the guest could not set the port up");
                None
            }
            event::PORT_READY => {
                state.introduce(number);
                None
            }
            event::PORT_OPEN => state.guest_open(number, value != 0),
            _ => None,
        };
        drop(state);
        if let Some(told) = told {
            told.tell();
        }
    }

    /// Writes the guest's output for as long as the peer takes it.
    fn transmit<M: GuestMemory>(
        &mut self,
        mem: &M,
        number: u32,
        queue: &mut VirtQueue,
    ) -> Result<bool, QueueError> {
        let mut used = false;
        for _ in 0..queue.size() {
            let mut state = self.ports.lock();
            let port = state.ports.get_mut(&number);
            let (peer, open, kept) = match port {
                Some(port) => (port.peer.clone(), port.host_open, port.output.take()),
                None => (None, false, None),
            };
            drop(state);
            let mut output = match kept {
                Some(output) => output,
                None => match queue.pop(mem)? {
                    Some(chain) => Output::of(&chain),
                    None => break,
                },
            };
            // Without anybody to hear it, it is as good as heard.
            let done = match peer.filter(|_| open) {
                None => true,
                Some(peer) => match output.write(mem, &*peer) {
                    Ok(done) => done,
                    Err(error) => {
                        tracing::warn!(number, "virtio-serial: output: {error}");
                        true
                    }
                },
            };
            if !done {
                if let Some(port) = self.ports.lock().ports.get_mut(&number) {
                    port.output = Some(output);
                }
                break;
            }
            queue.push_used(mem, output.head, 0)?;
            used = true;
        }
        Ok(used)
    }

    /// Puts waiting input into the guest's buffers.
    fn receive<M: GuestMemory>(
        &mut self,
        mem: &M,
        number: u32,
        queue: &mut VirtQueue,
    ) -> Result<bool, QueueError> {
        let mut used = false;
        loop {
            let mut state = self.ports.lock();
            let Some(port) = state.ports.get_mut(&number).filter(|port| !port.input.is_empty()) else { break };
            let Some(chain) = queue.pop(mem)? else { break };
            let room = chain.writable_len().min(INPUT_ROOM as u64) as usize;
            let count = room.min(port.input.len());
            let bytes: Vec<u8> = port.input.drain(..count).collect();
            let resume = port.stalled && port.input.is_empty();
            let peer = port.peer.clone().filter(|_| resume);
            if resume {
                port.stalled = false;
            }
            drop(state);
            let written = scatter(mem, &chain.writable, &bytes).unwrap_or_else(|error| {
                tracing::warn!(number, "virtio-serial: input: {error}");
                0
            });
            queue.push_used(mem, chain.head, written)?;
            used = true;
            if let Some(peer) = peer {
                peer.resume();
            }
        }
        Ok(used)
    }

    /// Puts control messages into the guest's buffers.
    fn report<M: GuestMemory>(&mut self, mem: &M, queue: &mut VirtQueue) -> Result<bool, QueueError> {
        let mut used = false;
        loop {
            let mut state = self.ports.lock();
            if state.control.is_empty() {
                break;
            }
            let Some(chain) = queue.pop(mem)? else { break };
            let Some(mut message) = state.control.pop_front() else { break };
            drop(state);
            if self.order == ByteOrder::Big {
                message[..4].reverse();
                message[4..6].reverse();
                message[6..8].reverse();
            }
            let written = scatter(mem, &chain.writable, &message).unwrap_or_else(|error| {
                tracing::warn!("virtio-serial: control message: {error}");
                0
            });
            queue.push_used(mem, chain.head, written)?;
            used = true;
        }
        Ok(used)
    }

    /// Closes everything on the guest's side.
    fn forget(&mut self) {
        let mut state = self.ports.lock();
        state.control.clear();
        state.driver_ready = false;
        state.multiport = false;
        let numbers: Vec<u32> = state.ports.keys().copied().collect();
        let mut told = Vec::new();
        for number in numbers {
            if let Some(port) = state.ports.get_mut(&number) {
                port.output = None;
            }
            told.extend(state.guest_open(number, false));
        }
        drop(state);
        told.into_iter().for_each(Told::tell);
    }
}

impl Output {
    fn of(chain: &Chain) -> Self {
        let segments = chain.readable.iter().map(|segment| (segment.addr, segment.len)).collect();
        Self { head: chain.head, segments, done: 0 }
    }

    /// Says whether the peer has taken all of it.
    fn write<M: GuestMemory>(&mut self, mem: &M, peer: &dyn PortPeer) -> Result<bool, AccessError> {
        let segments: Vec<Segment> =
            self.segments.iter().map(|&(addr, len)| Segment { addr, len }).collect();
        loop {
            let mut chunk = [0; CHUNK];
            let count = gather(mem, &segments, self.done, &mut chunk)?;
            if count == 0 {
                return Ok(true);
            }
            let taken = peer.write(&chunk[..count]).min(count);
            self.done += taken as u64;
            if taken < count {
                return Ok(false);
            }
        }
    }
}

impl<M: GuestMemory> VirtioDevice<M> for Console {
    fn device_id(&self) -> u8 {
        3
    }

    fn features(&self) -> u64 {
        let multiport = if self.ports.0.most > 1 { feature::MULTIPORT } else { 0 };
        let emergency = if self.emergency_write { feature::EMERGENCY_WRITE } else { 0 };
        multiport | emergency
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.sizes
    }

    /// Columns, rows, number of ports, emergency write (5.3.4).
    fn config(&self, order: ByteOrder) -> Vec<u8> {
        let mut config = vec![0; 4];
        config.extend(order.put32(self.ports.0.most));
        config.extend([0; 4]);
        config
    }

    /// A byte in the emergency field goes to the first console, without any queue (5.3.5).
    fn write_config(&mut self, order: ByteOrder, data: &[u8]) {
        let Some(&[a, b, c, d]) = data.get(8..12) else { return };
        let byte = order.u32([a, b, c, d]) as u8;
        if !self.emergency_write || byte == 0 {
            return;
        }
        let state = self.ports.lock();
        let console = state.ports.values().find(|port| port.options.console && port.host_open);
        let peer = console.and_then(|port| port.peer.clone());
        drop(state);
        if let Some(peer) = peer {
            peer.write(&[byte]);
        }
    }

    fn activate(&mut self, features: u64, order: ByteOrder) {
        self.order = order;
        let mut state = self.ports.lock();
        state.multiport = features & feature::MULTIPORT != 0;
        state.driver_ready = true;
        // A driver that knows one port has it open.
        let told = if state.multiport { None } else { state.guest_open(0, true) };
        drop(state);
        if let Some(told) = told {
            told.tell();
        }
    }

    fn reset(&mut self) {
        self.forget();
    }

    fn process_queue(&mut self, mem: &M, index: u16, queue: &mut VirtQueue) -> Result<bool, QueueError> {
        let multiport = self.ports.lock().multiport;
        match index {
            CONTROL_RECEIVE if multiport => self.report(mem, queue),
            CONTROL_TRANSMIT if multiport => self.control(mem, queue),
            _ if index % 2 == 0 => self.receive(mem, Self::port_of(index), queue),
            _ => self.transmit(mem, Self::port_of(index), queue),
        }
    }

    fn host_event(&mut self, mem: &M, queues: &mut [VirtQueue]) -> Result<HostEvent, QueueError> {
        let state = self.ports.lock();
        let multiport = state.multiport;
        let numbers: Vec<u32> = state.ports.keys().copied().filter(|&n| multiport || n == 0).collect();
        drop(state);
        let mut event = HostEvent::default();
        let mut note = |index: usize, used: bool| event.used |= u64::from(used) << index;
        if multiport
            && let Some(queue) = queues.get_mut(usize::from(CONTROL_RECEIVE)).filter(|q| q.ready())
        {
            note(usize::from(CONTROL_RECEIVE), self.report(mem, queue)?);
        }
        for number in numbers {
            let (receive, transmit) = Self::queues_of(number);
            if let Some(queue) = queues.get_mut(receive).filter(|q| q.ready()) {
                note(receive, self.receive(mem, number, queue)?);
            }
            let waiting = self.ports.lock().ports.get(&number).is_some_and(|port| port.output.is_some());
            if waiting && let Some(queue) = queues.get_mut(transmit).filter(|q| q.ready()) {
                note(transmit, self.transmit(mem, number, queue)?);
            }
        }
        Ok(event)
    }

    fn save(&self) -> VirtioDeviceState {
        let state = self.ports.lock();
        let ports = state.ports.iter().map(|(&number, port)| PortState {
            number,
            guest_open: port.guest_open,
            input: port.input.iter().copied().collect(),
            output: port.output.clone(),
        });
        VirtioDeviceState::Console(ConsoleState {
            ports: ports.collect(),
            control: state.control.iter().cloned().collect(),
            driver_ready: state.driver_ready,
        })
    }

    fn restore(&mut self, saved: VirtioDeviceState) -> Result<(), Error> {
        let fail = |reason: &str| Error::State { device: "virtio-serial", reason: reason.into() };
        let VirtioDeviceState::Console(saved) = saved else {
            return Err(fail("the state belongs to another device"));
        };
        let mut state = self.ports.lock();
        let too_long = |port: &PortState| port.input.len() > INPUT_ROOM;
        if saved.control.len() > MOST_CONTROL
            || saved.control.iter().any(|message| message.len() < CONTROL_LEN)
            || saved.ports.iter().any(too_long)
        {
            return Err(fail("more waits than the device keeps"));
        }
        if saved.ports.iter().any(|port| !state.ports.contains_key(&port.number)) {
            return Err(fail("it has a port that this device lacks"));
        }
        state.control = saved.control.into();
        state.driver_ready = saved.driver_ready;
        for from in saved.ports {
            if let Some(port) = state.ports.get_mut(&from.number) {
                port.guest_open = from.guest_open;
                port.input = from.input.into();
                port.output = from.output;
            }
        }
        Ok(())
    }
}

/// Reads from the buffers, beginning at an offset, until `to` is full or there is no more.
fn gather<M: GuestMemory>(
    mem: &M,
    segments: &[Segment],
    mut skip: u64,
    to: &mut [u8],
) -> Result<usize, AccessError> {
    let mut done = 0;
    for segment in segments {
        let len = u64::from(segment.len);
        if skip >= len {
            skip -= len;
            continue;
        }
        let part = (len - skip).min((to.len() - done) as u64) as usize;
        access::read(mem, segment.addr + skip, &mut to[done..done + part])?;
        done += part;
        skip = 0;
        if done == to.len() {
            break;
        }
    }
    Ok(done)
}

/// Writes to the buffers and says how much they took.
fn scatter<M: GuestMemory>(mem: &M, segments: &[Segment], bytes: &[u8]) -> Result<u32, AccessError> {
    let mut rest = bytes;
    for segment in segments {
        let (part, more) = rest.split_at(rest.len().min(segment.len as usize));
        access::write(mem, segment.addr, part)?;
        rest = more;
        if rest.is_empty() {
            break;
        }
    }
    Ok((bytes.len() - rest.len()) as u32)
}
