//! A monitor behind a character device: one thread reads and parses, one carries commands out in turn.
//!
//! Clients cannot disturb anybody. Input is bounded by the parser's limits, the queue of commands by
//! [`QUEUE`] (reading stops when it is full), and output by the character device: no further command is begun while
//! more than [`ENOUGH`] waits to be read, and a client for which more than `cloister_chardev::SESSION_LIMIT` waits, as
//! events go on, loses its connection. The guest never waits for a client.

use crate::json::StreamParser;
use crate::monitor::{Monitor, lock};
use crate::session::{Job, Peer, Session};
use cloister_chardev::{Chardev, ChardevError, SendError, Session as Connection, SessionPort};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Commands that wait in turn before reading stops (QEMU Machine Protocol Specification, "Out-of-band execution").
pub const QUEUE: usize = 8;

/// Bytes of replies and events that may wait for a client before its next command is begun.
pub const ENOUGH: usize = 1 << 20;

/// How a monitor behaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Indent the output.
    pub pretty: bool,
}

/// A monitor that serves. Dropping it leaves it serving until its device is closed.
#[derive(Debug)]
pub struct Handle {
    device: Arc<Chardev>,
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

impl Monitor {
    /// Serves a character device, one client after the other.
    ///
    /// # Errors
    /// The device has a user already.
    pub fn serve(self: &Arc<Self>, device: &Arc<Chardev>, options: Options) -> Result<Handle, ChardevError> {
        let port = device.attach_session()?;
        let queue = Arc::new(Queue::default());
        let (monitor, into) = (Arc::clone(self), Arc::clone(&queue));
        let reader = thread::spawn(move || read(&monitor, &port, &into, options));
        let from = Arc::clone(&queue);
        let worker = thread::spawn(move || {
            while let Some((session, job)) = from.next() {
                if session.begin() {
                    session.perform(job);
                }
                drop(session);
                from.done();
            }
        });
        Ok(Handle { device: Arc::clone(device), queue, threads: vec![reader, worker] })
    }
}

impl Handle {
    /// Ends the monitor: the command in hand is finished and what waits for the client is sent, but for no longer than
    /// `patience`; then the device is closed. True if all was sent.
    pub fn finish(self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let idle = self.queue.wait_idle(Some(deadline));
        let left = deadline.saturating_duration_since(Instant::now());
        let sent = self.device.flush(left.max(Duration::from_millis(1)));
        self.queue.close();
        self.device.close();
        for thread in self.threads {
            // A command that still works ends with the process.
            while !thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                let _ended = thread.join();
            }
        }
        idle && sent
    }

    /// The device.
    pub fn device(&self) -> &Arc<Chardev> {
        &self.device
    }
}

fn read(monitor: &Arc<Monitor>, port: &SessionPort, queue: &Queue, options: Options) {
    let mut buffer = vec![0; 4096];
    while let Some(connection) = port.accept() {
        let remote = Arc::new(Remote { connection, lost: AtomicBool::new(false) });
        let session = monitor.connect(Arc::<Remote>::clone(&remote), options.pretty);
        let mut parser = StreamParser::default();
        loop {
            let n = remote.connection.recv(&mut buffer);
            if n == 0 {
                break;
            }
            parser.feed(buffer.get(..n).unwrap_or_default(), |value| {
                if let Some(job) = session.take(value) {
                    queue.push(Arc::clone(&session), job);
                }
            });
        }
        // A client may stop sending and still want its answers.
        queue.wait_idle(None);
        remote.connection.shutdown();
    }
}

/// A client behind a character device.
struct Remote {
    connection: Connection,
    lost: AtomicBool,
}

impl Peer for Remote {
    fn send(&self, bytes: &[u8]) {
        match self.connection.send(bytes) {
            Ok(()) => {}
            Err(SendError::Disconnected) => self.lost.store(true, Ordering::Relaxed),
            Err(SendError::Slow) => {
                if !self.lost.swap(true, Ordering::Relaxed) {
                    tracing::warn!(peer = self.connection.peer(), "QMP client does not read; hanging up");
                }
                self.connection.shutdown();
            }
        }
    }

    fn take_fd(&self) -> Option<OwnedFd> {
        self.connection.take_fd()
    }

    fn begin(&self) -> bool {
        let sender = self.connection.sender();
        while sender.queued() > ENOUGH && !self.lost.load(Ordering::Relaxed) {
            // Sending nothing asks whether anybody is there.
            if sender.send(b"") == Err(SendError::Disconnected) {
                self.lost.store(true, Ordering::Relaxed);
            }
            thread::sleep(Duration::from_millis(5));
        }
        !self.lost.load(Ordering::Relaxed)
    }
}

/// Commands in turn.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    jobs: VecDeque<(Arc<Session>, Job)>,
    busy: bool,
    closed: bool,
}

impl Queue {
    /// Waits while the queue is full.
    fn push(&self, session: Arc<Session>, job: Job) {
        let full = |state: &mut QueueState| state.jobs.len() >= QUEUE && !state.closed;
        let state = self.changed.wait_while(lock(&self.state), full);
        let mut state = state.unwrap_or_else(std::sync::PoisonError::into_inner);
        if !state.closed {
            state.jobs.push_back((session, job));
            self.changed.notify_all();
        }
    }

    /// Waits for a job; `None` when closed.
    fn next(&self) -> Option<(Arc<Session>, Job)> {
        let nothing = |state: &mut QueueState| state.jobs.is_empty() && !state.closed;
        let state = self.changed.wait_while(lock(&self.state), nothing);
        let mut state = state.unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.closed {
            return None;
        }
        let job = state.jobs.pop_front();
        state.busy = true;
        self.changed.notify_all();
        job
    }

    fn done(&self) {
        lock(&self.state).busy = false;
        self.changed.notify_all();
    }

    /// Waits until nothing is in hand or waits; false if the time ran out.
    fn wait_idle(&self, deadline: Option<Instant>) -> bool {
        let mut state = lock(&self.state);
        while (state.busy || !state.jobs.is_empty()) && !state.closed {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            let patience = left.unwrap_or(Duration::from_secs(3600));
            let waited = self.changed.wait_timeout(state, patience);
            state = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        !state.busy
    }

    fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.jobs.clear();
        self.changed.notify_all();
    }
}
