//! The device and its users: ports claim it, sessions serve one peer after the other.

use crate::backend::Backend;
use crate::error::ChardevError;
use crate::fds::FdStore;
use crate::pump::Pump;
use crate::state::{Front, Kind, SessionFront, Shared, State, StreamFront, StreamInput};
use crate::{CLOSE_GRACE, HANG_UP_GRACE, INPUT_LIMIT, SESSION_LIMIT};
use cloister_options::{CharBackend, Chardev as Spec};
use std::collections::VecDeque;
use std::fmt;
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{JoinHandle, ThreadId};
use std::time::{Duration, Instant};
use thiserror::Error;

/// A row of `query-chardev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChardevInfo {
    /// The device's id.
    pub label: String,
    /// What it is connected to.
    pub filename: String,
    /// Whether it has a user.
    pub frontend_open: bool,
}

/// A character device.
pub struct Chardev {
    id: String,
    shared: Arc<Shared>,
    name: String,
    announcement: Option<String>,
    wait: bool,
    thread: ThreadId,
    // Never joined: a thread that writes to a terminal which has stopped cannot be.
    _handle: JoinHandle<()>,
}

impl Chardev {
    /// Opens a device and starts its thread. Never waits for a client; a client socket without `reconnect=` connects
    /// at once.
    ///
    /// # Errors
    /// The backend cannot be opened; the text is QEMU's where it has one.
    pub fn open(spec: &Spec, fds: &FdStore) -> Result<Arc<Self>, ChardevError> {
        let log = spec.log_file.as_ref().map(|path| {
            let mut options = OpenOptions::new();
            options.create(true).write(true).append(spec.log_append).truncate(!spec.log_append);
            options.open(path).map_err(|source| ChardevError::Create { path: path.clone(), source })
        });
        let log = log.transpose()?;
        let backend = Backend::open(spec, fds)?;
        let mux = spec.mux || matches!(spec.backend, CharBackend::Stdio { with_monitor: true });
        let host = |what| move |source| ChardevError::Host { id: spec.id.clone(), what, source };
        let shared = Arc::new(Shared::new(mux, backend.file, log).map_err(host("make an event"))?);
        shared.lock().expected = backend.source.has_peer();
        let pump = Pump::new(spec.id.clone(), Arc::clone(&shared), backend.source, backend.keep);
        let handle = std::thread::Builder::new()
            .name(format!("chr {}", spec.id.replace('\0', "?")))
            .spawn(move || pump.run())
            .map_err(host("start a thread"))?;
        Ok(Arc::new(Self {
            id: spec.id.clone(),
            shared,
            name: backend.name,
            announcement: backend.announcement,
            wait: backend.wait,
            thread: handle.thread().id(),
            _handle: handle,
        }))
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it is connected to, as `query-chardev` shows it.
    #[must_use]
    pub fn filename(&self) -> String {
        self.shared.lock().connected.clone().unwrap_or_else(|| self.name.clone())
    }

    /// Whether it has a user.
    #[must_use]
    pub fn frontend_open(&self) -> bool {
        let open = |front: &Front| !matches!(&front.kind, Kind::Stream(stream) if stream.shut);
        self.shared.lock().fronts.iter().any(open)
    }

    /// Its rows of `query-chardev`: a shared device has two.
    #[must_use]
    pub fn info(&self) -> Vec<ChardevInfo> {
        let frontend_open = self.frontend_open();
        let row = |label: &str, filename| ChardevInfo { label: label.to_owned(), filename, frontend_open };
        if self.shared.lock().mux {
            return vec![row(&self.id, "mux".to_owned()), row(&format!("{}-base", self.id), self.filename())];
        }
        vec![row(&self.id, self.filename())]
    }

    /// What to print when the program starts: where a pseudo-terminal is.
    #[must_use]
    pub fn announcement(&self) -> Option<&str> {
        self.announcement.as_deref()
    }

    /// For `wait=on`: what to print before [`Self::wait_for_peer`]; `None` if there is nothing to wait for.
    #[must_use]
    pub fn waiting_line(&self) -> Option<String> {
        self.wait.then(|| format!("info: QEMU waiting for connection on: {}", self.name))
    }

    /// Waits until a peer is there, or none can come. The first session then serves it.
    pub fn wait_for_peer(&self) {
        let mut state = self.shared.lock();
        state.want_peer = true;
        self.shared.wake();
        while state.connected.is_none() && !state.finished && !state.closing {
            (state, _) = self.shared.wait(state, None);
        }
    }

    /// Claims the device for sessions: a monitor, gdb.
    ///
    /// # Errors
    /// It has a user already and is not shared (`mux=on`).
    pub fn attach_session(self: &Arc<Self>) -> Result<SessionPort, ChardevError> {
        let front = self.attach(Kind::Session(SessionFront::default()))?;
        Ok(SessionPort { device: Arc::clone(self), front })
    }

    /// Claims the device for a stream: the guest's console. `input` is called in the device's thread.
    ///
    /// # Errors
    /// It has a user already and is not shared (`mux=on`).
    pub fn attach_stream(
        self: &Arc<Self>,
        input: impl StreamInput + 'static,
    ) -> Result<StreamPort, ChardevError> {
        let stream = StreamFront { handler: Some(Box::new(input)), ..StreamFront::default() };
        let front = self.attach(Kind::Stream(stream))?;
        Ok(StreamPort { device: Arc::clone(self), front })
    }

    /// What `Ctrl-a x` does on a shared device; called in the device's thread.
    pub fn on_quit(&self, quit: impl Fn() + Send + Sync + 'static) {
        self.shared.lock().quit = Some(Arc::new(quit));
    }

    /// Bytes of streams that were dropped because the peer did not read.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.lock().dropped
    }

    /// Waits until the peer has taken everything, or the time is over; says which.
    pub fn flush(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.shared.lock();
        loop {
            let silent = state.output.is_empty() && state.in_flight == 0;
            let nobody = state.connected.is_none() && !state.expected;
            if silent || nobody || state.output_dead {
                return silent;
            }
            let in_time;
            (state, in_time) = self.shared.wait(state, Some(deadline));
            if !in_time {
                return false;
            }
        }
    }

    /// Ends the device: output that the peer takes at once is still written, then everybody who waits for it wakes up,
    /// sockets and terminals are given back. Safe to call more than once and from a callback.
    pub fn close(&self) {
        let mut state = self.shared.lock();
        state.closing = true;
        self.shared.wake();
        self.shared.notify();
        if std::thread::current().id() == self.thread {
            return;
        }
        let deadline = Instant::now() + CLOSE_GRACE * 2;
        while !state.closed {
            let in_time;
            (state, in_time) = self.shared.wait(state, Some(deadline));
            if !in_time {
                tracing::warn!("chardev {}: the peer holds up the end", self.id);
                return;
            }
        }
    }

    fn attach(&self, kind: Kind) -> Result<u64, ChardevError> {
        let mut state = self.shared.lock();
        if !state.mux && !state.fronts.is_empty() {
            return Err(ChardevError::InUse { id: self.id.clone() });
        }
        let front = state.attach(kind);
        self.shared.wake();
        Ok(front)
    }

    fn detach(&self, front: u64) {
        let front: Option<Front> = self.shared.lock().detach(front);
        // A handler's own destructor may look at this device: without the lock.
        drop(front);
        self.shared.wake();
        self.shared.notify();
    }
}

impl Drop for Chardev {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Chardev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chardev")
            .field("id", &self.id)
            .field("filename", &self.filename())
            .finish_non_exhaustive()
    }
}

/// The claim of a guest's console on a device; dropping it gives the device free.
#[derive(Debug)]
pub struct StreamPort {
    device: Arc<Chardev>,
    front: u64,
}

impl StreamPort {
    /// Writes to the peer; never waits. Without a peer the bytes are lost, with one that does not read the oldest are.
    pub fn write(&self, bytes: &[u8]) {
        self.device.shared.lock().write_stream(bytes);
        self.device.shared.wake();
    }

    /// Writes to the peer as far as there is room and says how much that is; never waits. After
    /// [`StreamEvent::Writable`](crate::StreamEvent::Writable) there is room for more. Without a peer all of it is lost.
    #[must_use]
    pub fn offer(&self, bytes: &[u8]) -> usize {
        let taken = self.device.shared.lock().offer_stream(self.front, bytes);
        self.device.shared.wake();
        taken
    }

    /// Says whether anybody is behind this end, for `query-chardev`; at first somebody is.
    pub fn set_open(&self, open: bool) {
        if let Some((_, stream)) = self.device.shared.lock().stream(self.front) {
            stream.shut = !open;
        }
    }

    /// Offers again what the input did not take.
    pub fn resume(&self) {
        if let Some((_, stream)) = self.device.shared.lock().stream(self.front) {
            stream.stalled = false;
            stream.resumed = true;
        }
        self.device.shared.wake();
    }

    /// Whether a peer is there.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.device.shared.lock().connected.is_some()
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Arc<Chardev> {
        &self.device
    }
}

impl Drop for StreamPort {
    fn drop(&mut self) {
        self.device.detach(self.front);
    }
}

/// The claim of a monitor or of gdb on a device; dropping it gives the device free.
#[derive(Debug)]
pub struct SessionPort {
    device: Arc<Chardev>,
    front: u64,
}

impl SessionPort {
    /// Waits for the next peer. On a shared device also for the first `Ctrl-a c`. `None`: the device was closed, or no
    /// peer can come any more. Drop a session before you ask for the next.
    #[must_use]
    pub fn accept(&self) -> Option<Session> {
        let shared = &self.device.shared;
        let mut state = shared.lock();
        loop {
            let (closing, finished) = (state.closing, state.finished);
            let (generation, connected) = (state.generation, state.connected.is_some() && !state.hang_up);
            let peer = state.connected.clone().unwrap_or_default();
            let over = closing || (finished && !connected);
            let (_, front) = state.session(self.front)?;
            if over {
                front.waiting = false;
                return None;
            }
            if connected && front.shown && front.served != generation {
                front.served = generation;
                front.waiting = false;
                shared.wake();
                let sender = Sender { shared: Arc::clone(shared), front: self.front, generation };
                return Some(Session { sender, peer });
            }
            if !front.waiting {
                front.waiting = true;
                shared.wake();
            }
            (state, _) = shared.wait(state, None);
        }
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Arc<Chardev> {
        &self.device
    }
}

impl Drop for SessionPort {
    fn drop(&mut self) {
        self.device.detach(self.front);
    }
}

/// Why bytes were not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// The peer does not read; nothing was queued. Drop what can be missed, or hang up.
    #[error("the peer does not read")]
    Slow,
    /// The peer has gone.
    #[error("the peer has gone")]
    Disconnected,
}

/// What [`Session::recv_timeout`] got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// That many bytes.
    Bytes(usize),
    /// The peer sends no more, or the device was closed.
    End,
    /// Nothing came in time.
    TimedOut,
}

/// A conversation with one peer. Dropping it hangs up when what is queued has been sent, for two seconds at most; on
/// a shared device the peer stays for the others.
#[derive(Debug)]
pub struct Session {
    sender: Sender,
    peer: String,
}

impl Session {
    /// Waits for bytes; 0 is the end: the peer sends no more, or the device was closed.
    #[must_use]
    pub fn recv(&self, buffer: &mut [u8]) -> usize {
        match self.recv_until(buffer, None) {
            Received::Bytes(n) => n,
            Received::End | Received::TimedOut => 0,
        }
    }

    /// Waits for bytes for some time; zero asks what is there.
    #[must_use]
    pub fn recv_timeout(&self, buffer: &mut [u8], patience: Duration) -> Received {
        self.recv_until(buffer, Some(Instant::now() + patience))
    }

    /// Whether [`Self::recv`] would return at once.
    #[must_use]
    pub fn ready(&self) -> bool {
        let mut state = self.sender.shared.lock();
        let closing = state.closing;
        match self.sender.front(&mut state) {
            Some((input, front)) => closing || front.end || !input.is_empty(),
            None => true,
        }
    }

    /// Queues bytes; see [`Sender::send`].
    ///
    /// # Errors
    /// See [`Sender::send`].
    pub fn send(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.sender.send(bytes)
    }

    /// The oldest descriptor that came with bytes which were received, or with bytes just after them.
    #[must_use]
    pub fn take_fd(&self) -> Option<OwnedFd> {
        let mut state = self.sender.shared.lock();
        self.sender.front(&mut state)?.1.fds.pop_front()
    }

    /// A way to send from other threads.
    #[must_use]
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// The peer, as `query-chardev` shows it.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Hangs up as dropping does; afterwards nothing is received or sent.
    pub fn shutdown(&self) {
        self.sender.hang_up();
    }

    fn recv_until(&self, buffer: &mut [u8], deadline: Option<Instant>) -> Received {
        let shared = &self.sender.shared;
        let mut state = shared.lock();
        loop {
            let closing = state.closing;
            let Some((input, front)) = self.sender.front(&mut state) else { return Received::End };
            if closing {
                return Received::End;
            }
            while front.marks.front().is_some_and(|(at, _)| *at <= front.taken) {
                let fds = front.marks.pop_front().map(|(_, fds)| fds);
                front.fds.extend(fds.into_iter().flatten());
            }
            if !input.is_empty() {
                let before = input.len();
                // Not past bytes that carry descriptors: those are there when the bytes are.
                let mark = front.marks.front().and_then(|(at, _)| usize::try_from(at - front.taken).ok());
                let n = before.min(buffer.len()).min(mark.unwrap_or(usize::MAX));
                for (to, from) in buffer.iter_mut().zip(input.drain(..n)) {
                    *to = from;
                }
                front.taken += n as u64;
                if before > INPUT_LIMIT / 2 && input.len() <= INPUT_LIMIT / 2 {
                    shared.wake();
                }
                return Received::Bytes(n);
            }
            if front.end {
                return Received::End;
            }
            let in_time;
            (state, in_time) = shared.wait(state, deadline);
            if !in_time {
                return Received::TimedOut;
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sender.hang_up();
    }
}

/// Sends to the peer of a session, from any thread.
#[derive(Clone)]
pub struct Sender {
    shared: Arc<Shared>,
    front: u64,
    generation: u64,
}

impl Sender {
    /// Queues bytes for the peer; never waits. All are queued or none.
    ///
    /// # Errors
    /// [`SendError::Slow`] if [`SESSION_LIMIT`] bytes wait already, [`SendError::Disconnected`] if the peer has gone.
    pub fn send(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.send_within(bytes, SESSION_LIMIT)
    }

    /// The same with a lower limit: for events that may be missed, so that room stays for replies.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_within(&self, bytes: &[u8], limit: usize) -> Result<(), SendError> {
        let mut state = self.shared.lock();
        let gone = state.hang_up || state.output_dead || state.closing || state.connected.is_none();
        if self.front(&mut state).is_none() || gone {
            return Err(SendError::Disconnected);
        }
        if state.output.len() + state.in_flight >= limit {
            return Err(SendError::Slow);
        }
        if !state.write_files(bytes) {
            state.output.extend(bytes);
            self.shared.wake();
        }
        Ok(())
    }

    /// Bytes that wait for the peer.
    #[must_use]
    pub fn queued(&self) -> usize {
        let state = self.shared.lock();
        state.output.len() + state.in_flight
    }

    /// The user's own state, while its peer is the one of this session: on a shared device what the peer sent before it
    /// went may still be read.
    fn front<'a>(&self, state: &'a mut State) -> Option<(&'a mut VecDeque<u8>, &'a mut SessionFront)> {
        let same = state.generation == self.generation;
        state.session(self.front).filter(|(_, front)| same && front.served == self.generation)
    }

    fn hang_up(&self) {
        let mut state = self.shared.lock();
        let alone = !state.mux || state.fronts.len() == 1;
        let current = state.generation == self.generation && state.connected.is_some();
        if let Some((input, front)) = self.front(&mut state) {
            input.clear();
            front.end = true;
            front.marks.clear();
            front.fds.clear();
            if alone && current {
                state.hang_up = true;
            }
        }
        drop(state);
        self.shared.wake();
        self.shared.notify();
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("generation", &self.generation).finish_non_exhaustive()
    }
}

const _: () = assert!(HANG_UP_GRACE.as_secs() == 2, "the documentation of Session names the seconds");
