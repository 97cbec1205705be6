//! The thread of a backend: it waits for packets, peers and room, and moves packets between descriptors and the
//! [`Link`]'s queues.

use crate::PACKET_LIMIT;
use crate::error::Words;
use crate::link::{Framing, Link, Peer};
use crate::network::{Listener, NetEvent};
use crate::open::Way;
use cloister_options::SocketAddress;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of a stream that are read at once.
const READ: usize = 256 << 10;
/// Datagrams that are read before the device is told.
const DATAGRAMS: usize = 64;

/// A backend's thread.
pub(crate) struct Pump {
    pub(crate) id: String,
    pub(crate) link: Arc<Link>,
    /// How a stream comes by a peer.
    pub(crate) way: Way,
    pub(crate) listener: Listener,
    /// Whether its peers are told as events.
    pub(crate) tells: bool,
}

impl Pump {
    /// Runs until the backend is closed, or has a peer no more and cannot get another.
    pub(crate) fn run(mut self) {
        let mut deframer = Deframer::default();
        let mut buffer = vec![0; READ];
        let mut packets = Vec::new();
        let mut retry: Option<Instant> = None;
        loop {
            let state = self.link.lock();
            if state.closed {
                return;
            }
            let peer = state.peer.clone();
            let mut wanted = PollFlags::empty();
            if peer.is_some() && !state.paused {
                wanted |= PollFlags::IN;
            }
            if peer.is_some() && (!state.outbound.is_empty() || state.refused) {
                wanted |= PollFlags::OUT;
            }
            drop(state);
            if peer.is_none() {
                deframer = Deframer::default();
                match &self.way {
                    Way::Once => return,
                    Way::Listen(_) => {}
                    Way::Connect { again, .. } => {
                        let again = *again;
                        let at = *retry.get_or_insert_with(|| Instant::now() + again);
                        if Instant::now() >= at {
                            retry = None;
                            self.connect();
                            continue;
                        }
                    }
                }
            }
            let mut polled = vec![PollFd::from_borrowed_fd(self.link.bell(), PollFlags::IN)];
            // A peer that hung up is noticed once there is something to do with it.
            let watched = peer.as_ref().filter(|_| !wanted.is_empty());
            match (watched, &peer, &self.way) {
                (Some(peer), ..) => polled.push(PollFd::new(&*peer.fd, wanted)),
                (None, None, Way::Listen(socket)) => polled.push(PollFd::new(&socket.fd, PollFlags::IN)),
                _ => {}
            }
            let left = retry.map(|at| at.saturating_duration_since(Instant::now()));
            let timeout = left.map(|left| Timespec {
                tv_sec: left.as_secs().min(3600) as i64,
                tv_nsec: i64::from(left.subsec_nanos()),
            });
            match poll(&mut polled, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(why) => {
                    tracing::error!(netdev = self.id, %why, "the network backend ends");
                    return;
                }
            }
            let bell = !polled[0].revents().is_empty();
            let other = polled.get(1).map_or(PollFlags::empty(), PollFd::revents);
            drop(polled);
            if bell {
                self.link.silence();
            }
            if other.is_empty() {
                continue;
            }
            let Some(peer) = peer else {
                self.accept();
                continue;
            };
            let mut alive = true;
            if other.contains(PollFlags::OUT) {
                let mut state = self.link.lock();
                alive = state.flush().is_ok();
                self.link.room(state);
            }
            if alive && other.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                alive = if wanted.contains(PollFlags::IN) {
                    receive(&peer, &mut deframer, &mut buffer, &mut packets)
                } else {
                    // Room was waited for, and there will be none.
                    peer.framing == Framing::Dgram
                };
                self.link.deliver(&mut packets);
            }
            if !alive {
                self.lose();
            }
        }
    }

    fn accept(&mut self) {
        let Way::Listen(socket) = &self.way else { return };
        match socket.accept() {
            Ok((fd, words, address)) => self.adopt(fd, words, address),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            Err(why) => {
                tracing::warn!(netdev = self.id, %why, "a connection cannot be taken");
                // Out of descriptors: they may come back.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    fn connect(&mut self) {
        let Way::Connect { address, .. } = &self.way else { return };
        match crate::open::connect(address) {
            Ok((fd, words)) => {
                let address = address.clone();
                self.adopt(fd, words, address);
            }
            Err(why) => tracing::debug!(netdev = self.id, %why, "not connected"),
        }
    }

    fn adopt(&self, fd: OwnedFd, words: String, address: SocketAddress) {
        let mut state = self.link.lock();
        if state.closed {
            return;
        }
        state.words = words;
        state.peer = Some(Peer { fd: Arc::new(fd), framing: Framing::Stream, to: None });
        drop(state);
        self.tell(NetEvent::Connected { id: self.id.clone(), address });
    }

    fn lose(&self) {
        let mut state = self.link.lock();
        if state.closed {
            return;
        }
        state.lose_peer();
        state.words.clear();
        self.link.room(state);
        if matches!(self.way, Way::Once) {
            tracing::warn!(netdev = self.id, "the other end of the network is gone");
        }
        self.tell(NetEvent::Disconnected { id: self.id.clone() });
    }

    fn tell(&self, event: NetEvent) {
        if self.tells
            && let Some(listener) = &*self.listener.lock().unwrap_or_else(PoisonError::into_inner)
        {
            listener(event);
        }
    }
}

/// Reads what is there. False: the peer is gone, or makes no sense.
fn receive(peer: &Peer, deframer: &mut Deframer, buffer: &mut [u8], packets: &mut Vec<Vec<u8>>) -> bool {
    if peer.framing == Framing::Stream {
        return match rustix::net::recv(&*peer.fd, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => false,
            Ok((length, _)) => match deframer.push(&buffer[..length], packets) {
                Ok(()) => true,
                Err(length) => {
                    tracing::warn!(
                        length,
                        "a network peer is not understood: a packet cannot have this length"
                    );
                    false
                }
            },
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(why) => {
                tracing::debug!(why = %Words(&why.into()), "a network peer is lost");
                false
            }
        };
    }
    for _ in 0..DATAGRAMS {
        let read = match peer.framing {
            Framing::File => rustix::io::read(peer.fd.as_fd(), &mut buffer[..PACKET_LIMIT]),
            _ => rustix::net::recv(&*peer.fd, &mut buffer[..PACKET_LIMIT], RecvFlags::DONTWAIT)
                .map(|(length, _)| length),
        };
        match read {
            Ok(0) if peer.framing == Framing::File => return false,
            Ok(0) => {}
            Ok(length) => packets.push(buffer[..length].to_vec()),
            Err(Errno::AGAIN) => return true,
            Err(Errno::INTR) => {}
            // Nobody is at the other address yet, or any more.
            Err(Errno::CONNREFUSED) => {}
            Err(_) => return peer.framing == Framing::Dgram,
        }
    }
    true
}

/// Finds packets in a stream: each after its length in four bytes.
#[derive(Debug, Default)]
pub(crate) struct Deframer {
    /// The beginning of a packet whose end has not come.
    rest: Vec<u8>,
}

impl Deframer {
    /// Takes bytes and gives the packets that they complete. An impossible length is an error for good.
    pub(crate) fn push(&mut self, bytes: &[u8], packets: &mut Vec<Vec<u8>>) -> Result<(), usize> {
        let mut joined = std::mem::take(&mut self.rest);
        let mut input = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined
        };
        while let Some((header, body)) = input.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*header) as usize;
            if length == 0 || length > PACKET_LIMIT {
                return Err(length);
            }
            let Some((packet, after)) = body.split_at_checked(length) else { break };
            packets.push(packet.to_vec());
            input = after;
        }
        self.rest = input.to_vec();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(packets: &[Vec<u8>]) -> Vec<u8> {
        let one = |p: &Vec<u8>| [&(p.len() as u32).to_be_bytes()[..], p].concat();
        packets.iter().flat_map(one).collect()
    }

    proptest! {
        #[test]
        fn packets_survive_any_division_of_the_stream(
            packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..400), 0..12),
            cuts in prop::collection::vec(1..500_usize, 0..30),
        ) {
            let stream = framed(&packets);
            let (mut deframer, mut found, mut at) = (Deframer::default(), Vec::new(), 0);
            for cut in cuts {
                let end = (at + cut).min(stream.len());
                deframer.push(&stream[at..end], &mut found).unwrap();
                at = end;
            }
            deframer.push(&stream[at..], &mut found).unwrap();
            prop_assert_eq!(found, packets);
            prop_assert!(deframer.rest.is_empty());
        }

        #[test]
        fn no_stream_makes_more_than_it_has(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
            let (mut deframer, mut found) = (Deframer::default(), Vec::new());
            let _ = deframer.push(&bytes, &mut found);
            prop_assert!(found.iter().map(|p| p.len() + 4).sum::<usize>() <= bytes.len());
            prop_assert!(found.iter().all(|p| !p.is_empty() && p.len() <= PACKET_LIMIT));
        }
    }

    #[test]
    fn impossible_lengths_end_a_stream() {
        for length in [0, PACKET_LIMIT + 1, u32::MAX as usize] {
            let bytes = (length as u32).to_be_bytes();
            assert_eq!(Deframer::default().push(&bytes, &mut Vec::new()), Err(length));
        }
    }
}
