//! A client in memory: the same parser, sessions and table as behind a character device, on one thread.

use crate::json::StreamParser;
use crate::monitor::{Monitor, lock};
use crate::session::{Peer, Session};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

/// A client without a socket, for tests, fuzzers and tools.
#[derive(Debug)]
pub struct Client {
    parser: StreamParser,
    session: Arc<Session>,
    peer: Arc<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    bytes: Mutex<Vec<u8>>,
    fds: Mutex<VecDeque<OwnedFd>>,
}

impl Client {
    /// Connects; the greeting can be read at once.
    pub fn new(monitor: &Arc<Monitor>, pretty: bool) -> Self {
        let peer = Arc::new(Memory::default());
        let session = monitor.connect(Arc::<Memory>::clone(&peer), pretty);
        Self { parser: StreamParser::default(), session, peer }
    }

    /// Passes a descriptor as with `SCM_RIGHTS`.
    pub fn pass(&self, fd: OwnedFd) {
        lock(&self.peer.fds).push_back(fd);
    }

    /// Takes bytes and carries out the commands in them, in order.
    pub fn feed(&mut self, bytes: &[u8]) {
        let session = &self.session;
        self.parser.feed(bytes, |value| {
            if let Some(job) = session.take(value) {
                session.perform(job);
            }
        });
    }

    /// What the monitor sent since the last time.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *lock(&self.peer.bytes))
    }

    /// [`feed`](Self::feed) and [`take`](Self::take).
    pub fn ask(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.feed(bytes);
        self.take()
    }
}

impl Peer for Memory {
    fn send(&self, bytes: &[u8]) {
        lock(&self.bytes).extend_from_slice(bytes);
    }

    fn take_fd(&self) -> Option<OwnedFd> {
        lock(&self.fds).pop_front()
    }
}
