//! The queues between a device and a backend's thread, and the device's end of them.
//!
//! A packet for the peer is written by the device's thread if the peer takes it at once; the backend's thread has only
//! what is left over.

use crate::{PACKET_LIMIT, RECEIVE_LIMIT, SEND_LIMIT};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How packets are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Each after its length, in four bytes, the highest first.
    Stream,
    /// Each in a datagram of a socket.
    Dgram,
    /// Each in one read or write of a file.
    File,
}

/// A connected peer.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) framing: Framing,
    /// Where datagrams go if the socket is not connected to one peer.
    pub(crate) to: Option<rustix::net::SocketAddrAny>,
}

/// What device and thread share.
pub(crate) struct Link {
    state: Mutex<State>,
    /// Wakes the backend's thread.
    bell: OwnedFd,
}

pub(crate) struct State {
    pub(crate) peer: Option<Peer>,
    /// For the guest.
    inbound: VecDeque<Vec<u8>>,
    inbound_bytes: usize,
    /// The thread does not read: the guest has enough to do.
    pub(crate) paused: bool,
    /// For the peer: what a stream did not take yet.
    pub(crate) outbound: VecDeque<u8>,
    /// A packet was refused: the device waits for room.
    pub(crate) refused: bool,
    /// A device is there and its driver ready.
    active: bool,
    up: bool,
    pub(crate) closed: bool,
    /// As `info network` shows it.
    pub(crate) words: String,
    device: Option<Arc<dyn Fn() + Send + Sync>>,
    /// Ids of attached devices come and go; a port of before must not let go of the next one's.
    attachment: u64,
}

impl Link {
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let state = State {
            peer: None,
            inbound: VecDeque::new(),
            inbound_bytes: 0,
            paused: false,
            outbound: VecDeque::new(),
            refused: false,
            active: false,
            up: true,
            closed: false,
            words: String::new(),
            device: None,
            attachment: 0,
        };
        Ok(Arc::new(Self { state: Mutex::new(state), bell }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.bell.as_fd()
    }

    pub(crate) fn ring(&self) {
        // Full means that it rings already.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    pub(crate) fn silence(&self) {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
    }

    /// A device takes the backend; `call` is called from any thread when there is something to do.
    pub(crate) fn attach(self: &Arc<Self>, call: Arc<dyn Fn() + Send + Sync>) -> Port {
        let mut state = self.lock();
        state.attachment += 1;
        state.device = Some(call);
        Port { link: Arc::clone(self), attachment: state.attachment }
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.lock().device.is_some()
    }

    pub(crate) fn set_up(&self, up: bool) {
        let mut state = self.lock();
        state.up = up;
        if !up {
            state.forget();
        }
        let call = state.device.clone();
        drop(state);
        self.ring();
        if let Some(call) = call {
            call();
        }
    }

    /// Packets from the peer, in order. They are lost if nobody wants them.
    pub(crate) fn deliver(&self, packets: &mut Vec<Vec<u8>>) {
        let mut state = self.lock();
        if !state.active || !state.up || packets.is_empty() {
            packets.clear();
            return;
        }
        for packet in packets.drain(..) {
            state.inbound_bytes += packet.len();
            state.inbound.push_back(packet);
        }
        state.paused = state.inbound_bytes >= RECEIVE_LIMIT;
        let call = state.device.clone();
        drop(state);
        if let Some(call) = call {
            call();
        }
    }

    /// The peer is gone, or took something: a device that waits for room tries again.
    pub(crate) fn room(&self, mut state: MutexGuard<'_, State>) {
        let waits = state.refused && (state.peer.is_none() || state.outbound.len() < SEND_LIMIT / 2);
        if !waits {
            return;
        }
        state.refused = false;
        let call = state.device.clone();
        drop(state);
        if let Some(call) = call {
            call();
        }
    }
}

impl State {
    fn forget(&mut self) {
        self.inbound.clear();
        self.inbound_bytes = 0;
        self.paused = false;
        self.refused = false;
    }

    pub(crate) fn lose_peer(&mut self) {
        self.peer = None;
        self.outbound.clear();
    }

    /// Writes what is left over.
    pub(crate) fn flush(&mut self) -> Result<(), Errno> {
        let Some(peer) = self.peer.clone() else { return Ok(()) };
        while !self.outbound.is_empty() {
            let (front, back) = self.outbound.as_slices();
            match send(&peer, &[IoSlice::new(front), IoSlice::new(back)]) {
                Ok(done) => drop(self.outbound.drain(..done)),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }
}

/// The device's end of a backend. Dropped, it lets go of the backend.
pub struct Port {
    link: Arc<Link>,
    attachment: u64,
}

impl Port {
    /// Sends a packet. False: the peer has enough to do; the device keeps the packet and is called when there is room.
    /// A packet that nobody can get is lost, as on a cable.
    pub fn send(&self, packet: &[u8]) -> bool {
        let mut state = self.link.lock();
        if !state.up || packet.is_empty() || packet.len() > PACKET_LIMIT {
            return true;
        }
        let Some(peer) = state.peer.clone() else { return true };
        let header = (packet.len() as u32).to_be_bytes();
        if peer.framing != Framing::Stream {
            return match send(&peer, &[IoSlice::new(packet)]) {
                Err(Errno::AGAIN) => {
                    state.refused = true;
                    drop(state);
                    self.link.ring();
                    false
                }
                // The peer may come back, or the packet does not fit.
                _ => true,
            };
        }
        if state.outbound.len() >= SEND_LIMIT {
            state.refused = true;
            return false;
        }
        let mut done = 0;
        if state.outbound.is_empty() {
            match send(&peer, &[IoSlice::new(&header), IoSlice::new(packet)]) {
                Ok(sent) => done = sent,
                // The thread meets whatever is wrong, too, and deals with it.
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return true,
            }
        }
        let (head, body) = (done.min(header.len()), done.saturating_sub(header.len()));
        if body < packet.len() {
            let idle = state.outbound.is_empty();
            state.outbound.extend(&header[head..]);
            state.outbound.extend(&packet[body..]);
            drop(state);
            if idle {
                self.link.ring();
            }
        }
        true
    }

    /// The next packet for the guest.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut state = self.link.lock();
        let packet = state.inbound.pop_front()?;
        state.inbound_bytes -= packet.len();
        if state.paused && state.inbound_bytes < RECEIVE_LIMIT / 2 {
            state.paused = false;
            drop(state);
            self.link.ring();
        }
        Some(packet)
    }

    /// The driver is ready, or not any more: then whatever waits is lost.
    pub fn set_active(&self, active: bool) {
        let mut state = self.link.lock();
        state.active = active;
        state.forget();
        drop(state);
        self.link.ring();
    }

    /// Whether the cable is plugged in.
    pub fn is_up(&self) -> bool {
        self.link.lock().up
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        if state.attachment == self.attachment {
            state.device = None;
            state.active = false;
            state.forget();
        }
        drop(state);
        self.link.ring();
    }
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port").finish_non_exhaustive()
    }
}

fn send(peer: &Peer, parts: &[IoSlice<'_>]) -> Result<usize, Errno> {
    if peer.framing == Framing::File {
        return rustix::io::writev(&*peer.fd, parts);
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let mut nothing = SendAncillaryBuffer::default();
    match &peer.to {
        None => sendmsg(&*peer.fd, parts, &mut nothing, flags),
        Some(to) => rustix::net::sendmsg_addr(&*peer.fd, to, parts, &mut nothing, flags),
    }
}
