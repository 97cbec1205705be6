//! What users and the device's thread share: the users' input, the common output queue, who has the focus.
//!
//! No system calls here but the two files that every byte of output goes to at once; the thread in `pump` does the
//! rest.

use crate::terminal::{Escape, HELP, Key, TERMINATED};
use crate::{FD_LIMIT, INPUT_LIMIT, OFFER_LIMIT, STREAM_LIMIT};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What happens to a stream's peer besides bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// A peer is there.
    Opened,
    /// It has gone.
    Closed,
    /// `Ctrl-a b`.
    Break,
    /// There is room again for what `StreamPort::offer` did not take.
    Writable,
}

/// Takes a stream's input, in the device's thread: it must not block.
pub trait StreamInput: Send {
    /// Takes bytes and says how many; the rest is kept and offered again after `StreamPort::resume`.
    fn bytes(&mut self, bytes: &[u8]) -> usize;

    /// Something other than bytes happened.
    fn event(&mut self, _event: StreamEvent) {}
}

/// A closure takes everything.
impl<F: FnMut(&[u8]) + Send> StreamInput for F {
    fn bytes(&mut self, bytes: &[u8]) -> usize {
        self(bytes);
        bytes.len()
    }
}

/// Breaks that wait for a stream which takes no input; any more are lost.
const MOST_BREAKS: usize = 64;

/// Called for `Ctrl-a x`.
pub(crate) type Quit = Arc<dyn Fn() + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) wake: OwnedFd,
    state: Mutex<State>,
    changed: Condvar,
}

pub(crate) struct State {
    pub(crate) mux: bool,
    /// The peer's name while one is there.
    pub(crate) connected: Option<String>,
    /// A peer is there for certain and the thread has not taken it up yet: what is written until then is not lost.
    pub(crate) expected: bool,
    /// Counts the peers.
    pub(crate) generation: u64,
    /// The peer sends no more.
    pub(crate) input_end: bool,
    /// The peer takes no more.
    pub(crate) output_dead: bool,
    pub(crate) output: VecDeque<u8>,
    /// Bytes that the thread took out of `output` and has not written yet.
    pub(crate) in_flight: usize,
    /// The peer is to go when the output is written.
    pub(crate) hang_up: bool,
    pub(crate) want_peer: bool,
    /// No peer will come any more.
    pub(crate) finished: bool,
    pub(crate) closing: bool,
    pub(crate) closed: bool,
    pub(crate) fronts: Vec<Front>,
    pub(crate) focus: Option<u64>,
    pub(crate) file: Option<File>,
    pub(crate) log: Option<File>,
    pub(crate) quit: Option<Quit>,
    /// Bytes of streams that no peer took in time.
    pub(crate) dropped: u64,
    escape: Escape,
    next_front: u64,
}

/// One user.
pub(crate) struct Front {
    pub(crate) id: u64,
    pub(crate) input: VecDeque<u8>,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    Session(SessionFront),
    Stream(StreamFront),
}

#[derive(Default)]
pub(crate) struct SessionFront {
    /// The generation of the peer that was handed out.
    pub(crate) served: u64,
    /// Somebody waits for a peer.
    pub(crate) waiting: bool,
    /// It had the focus at least once.
    pub(crate) shown: bool,
    pub(crate) end: bool,
    /// Position of the input's first byte.
    pub(crate) taken: u64,
    /// Descriptors by the position of the byte they came with.
    pub(crate) marks: VecDeque<(u64, Vec<OwnedFd>)>,
    /// Descriptors whose bytes have been read.
    pub(crate) fds: VecDeque<OwnedFd>,
}

#[derive(Default)]
pub(crate) struct StreamFront {
    pub(crate) handler: Option<Box<dyn StreamInput>>,
    /// Each with the number of bytes that come before it.
    pub(crate) events: Vec<(usize, StreamEvent)>,
    pub(crate) stalled: bool,
    pub(crate) resumed: bool,
    /// Waits for room to write.
    pub(crate) starved: bool,
    /// The user says that nobody is behind it.
    pub(crate) shut: bool,
}

impl Shared {
    pub(crate) fn new(mux: bool, file: Option<File>, log: Option<File>) -> std::io::Result<Self> {
        let state = State {
            mux,
            connected: None,
            expected: false,
            generation: 0,
            input_end: false,
            output_dead: false,
            output: VecDeque::new(),
            in_flight: 0,
            hang_up: false,
            want_peer: false,
            finished: false,
            closing: false,
            closed: false,
            fronts: Vec::new(),
            focus: None,
            file,
            log,
            quit: None,
            dropped: 0,
            escape: Escape::default(),
            next_front: 0,
        };
        Ok(Self {
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            state: Mutex::new(state),
            changed: Condvar::new(),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the thread look again.
    pub(crate) fn wake(&self) {
        // A full counter wakes it just as well.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Makes everybody who waits for a change look again.
    pub(crate) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Waits for a change; gives back the lock, and false if the time has run out.
    pub(crate) fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        deadline: Option<Instant>,
    ) -> (MutexGuard<'a, State>, bool) {
        let Some(deadline) = deadline else {
            return (self.changed.wait(state).unwrap_or_else(PoisonError::into_inner), true);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left == Duration::ZERO {
            return (state, false);
        }
        (self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0, true)
    }
}

impl State {
    /// Adds a user; a stream takes the focus, a session only if nobody has it.
    pub(crate) fn attach(&mut self, mut kind: Kind) -> u64 {
        self.next_front += 1;
        let id = self.next_front;
        let stream = matches!(kind, Kind::Stream(_));
        let focused = stream || self.focus.is_none();
        match &mut kind {
            Kind::Session(session) => session.shown = focused || !self.mux,
            Kind::Stream(stream) if self.connected.is_some() => stream.events.push((0, StreamEvent::Opened)),
            Kind::Stream(_) => {}
        }
        self.fronts.push(Front { id, input: VecDeque::new(), kind });
        if focused {
            self.focus = Some(id);
        }
        id
    }

    pub(crate) fn detach(&mut self, id: u64) -> Option<Front> {
        let at = self.fronts.iter().position(|f| f.id == id)?;
        let front = self.fronts.remove(at);
        if self.focus == Some(id) {
            self.focus = None;
            self.focus_next();
        }
        if self.fronts.is_empty() && self.connected.is_some() {
            self.hang_up = true;
        }
        Some(front)
    }

    pub(crate) fn session(&mut self, id: u64) -> Option<(&mut VecDeque<u8>, &mut SessionFront)> {
        self.fronts.iter_mut().find(|f| f.id == id).and_then(|f| match &mut f.kind {
            Kind::Session(session) => Some((&mut f.input, session)),
            Kind::Stream(_) => None,
        })
    }

    pub(crate) fn stream(&mut self, id: u64) -> Option<(&mut VecDeque<u8>, &mut StreamFront)> {
        self.fronts.iter_mut().find(|f| f.id == id).and_then(|f| match &mut f.kind {
            Kind::Stream(stream) => Some((&mut f.input, stream)),
            Kind::Session(_) => None,
        })
    }

    /// Whether the end of the peer's input ends the connection at once: not for a lone session, which may still
    /// answer what it has read.
    pub(crate) fn ends_with_input(&self) -> bool {
        self.mux || !self.fronts.iter().all(|f| matches!(f.kind, Kind::Session(_)))
    }

    /// Whether anybody would use a peer now.
    pub(crate) fn wants_peer(&self) -> bool {
        let wanted = |f: &Front| match &f.kind {
            Kind::Session(session) => session.waiting || self.mux,
            Kind::Stream(_) => true,
        };
        self.connected.is_none() && !self.finished && (self.want_peer || self.fronts.iter().any(wanted))
    }

    /// Whether there is room for more input.
    pub(crate) fn wants_input(&self) -> bool {
        let room = |f: &&Front| self.mux || f.input.len() <= INPUT_LIMIT / 2;
        self.connected.is_some()
            && !self.input_end
            && !self.hang_up
            && self.fronts.iter().find(|f| self.focus == Some(f.id)).as_ref().is_some_and(room)
    }

    pub(crate) fn peer_came(&mut self, name: String) {
        self.generation += 1;
        self.connected = Some(name);
        self.expected = false;
        self.input_end = false;
        self.output_dead = false;
        self.hang_up = false;
        self.want_peer = false;
        self.escape = Escape::default();
        for front in &mut self.fronts {
            match &mut front.kind {
                Kind::Session(session) => {
                    front.input.clear();
                    session.end = false;
                    session.marks.clear();
                    session.fds.clear();
                }
                Kind::Stream(stream) => stream.events.push((0, StreamEvent::Opened)),
            }
        }
    }

    pub(crate) fn peer_went(&mut self) {
        self.connected = None;
        self.feed();
        self.output.clear();
        self.hang_up = false;
        for front in &mut self.fronts {
            match &mut front.kind {
                Kind::Session(session) => session.end = true,
                Kind::Stream(stream) => stream.events.push((0, StreamEvent::Closed)),
            }
        }
    }

    /// The peer sends no more.
    pub(crate) fn input_ended(&mut self) {
        self.input_end = true;
        for front in &mut self.fronts {
            if let Kind::Session(session) = &mut front.kind {
                session.end = true;
            }
        }
    }

    /// Gives input to whom it belongs. Returns the callback to call for `Ctrl-a x`.
    pub(crate) fn take_input(&mut self, bytes: &[u8], fds: Vec<OwnedFd>) -> Option<Quit> {
        if let Some(front) = self.focused()
            && let Kind::Session(session) = &mut front.kind
            && !fds.is_empty()
        {
            let waiting = session.fds.len() + session.marks.iter().map(|(_, fds)| fds.len()).sum::<usize>();
            let position = session.taken + front.input.len() as u64;
            let kept = fds.into_iter().take(FD_LIMIT.saturating_sub(waiting)).collect();
            session.marks.push_back((position, kept));
        }
        if !self.mux {
            if let Some(front) = self.focused() {
                front.input.extend(bytes);
            }
            return None;
        }
        let mut quit = None;
        for &byte in bytes {
            match self.escape.push(byte) {
                // Someone who types faster than a stalled user takes loses what comes last.
                Some(Key::Input(byte)) => {
                    if let Some(front) = self.focused().filter(|f| f.input.len() < INPUT_LIMIT) {
                        front.input.push_back(byte);
                    }
                }
                Some(Key::Break) => {
                    if let Some(Front { kind: Kind::Stream(stream), input, .. }) = self.focused()
                        && stream.events.len() < MOST_BREAKS
                    {
                        stream.events.push((input.len(), StreamEvent::Break));
                    }
                }
                Some(Key::Next) => self.focus_next(),
                Some(Key::Help) => self.write_stream(HELP.as_bytes()),
                Some(Key::Quit) => {
                    self.write_stream(TERMINATED.as_bytes());
                    quit.clone_from(&self.quit);
                }
                None => {}
            }
        }
        quit
    }

    /// Queues output of a stream up to a limit and says how much; [`StreamEvent::Writable`] follows what was left.
    pub(crate) fn offer_stream(&mut self, id: u64, bytes: &[u8]) -> usize {
        let limited = self.connected.is_some() && self.file.is_none() && !self.output_dead && !self.hang_up;
        let room = OFFER_LIMIT.saturating_sub(self.output.len() + self.in_flight);
        let taken = if limited { room.min(bytes.len()) } else { bytes.len() };
        if taken < bytes.len()
            && let Some((_, stream)) = self.stream(id)
        {
            stream.starved = true;
        }
        self.write_stream(&bytes[..taken]);
        taken
    }

    /// Tells streams that wait for room.
    pub(crate) fn feed(&mut self) {
        for front in &mut self.fronts {
            if let Kind::Stream(stream) = &mut front.kind
                && std::mem::take(&mut stream.starved)
            {
                stream.events.push((0, StreamEvent::Writable));
            }
        }
    }

    /// Queues output of a stream; the oldest goes when there is too much.
    pub(crate) fn write_stream(&mut self, bytes: &[u8]) {
        let nobody = self.connected.is_none() && !self.expected;
        if self.write_files(bytes) || nobody || self.output_dead || self.hang_up {
            return;
        }
        let bytes = if let Some(surplus) = bytes.len().checked_sub(STREAM_LIMIT) {
            self.dropped += (self.output.len() + surplus) as u64;
            self.output.clear();
            &bytes[surplus..]
        } else {
            bytes
        };
        if let Some(surplus) = (self.output.len() + bytes.len()).checked_sub(STREAM_LIMIT) {
            self.output.drain(..surplus);
            self.dropped += surplus as u64;
        }
        self.output.extend(bytes);
    }

    /// Writes what goes to files at once; true if that was all there is to do.
    pub(crate) fn write_files(&mut self, bytes: &[u8]) -> bool {
        // A full disk must not stop the guest.
        if let Some(log) = &mut self.log {
            let _ = log.write_all(bytes);
        }
        self.file.as_mut().map(|file| file.write_all(bytes)).is_some()
    }

    fn focused(&mut self) -> Option<&mut Front> {
        let focus = self.focus?;
        self.fronts.iter_mut().find(|f| f.id == focus)
    }

    fn focus_next(&mut self) {
        let at = self.fronts.iter().position(|f| self.focus == Some(f.id));
        let next = at.map_or(0, |at| at + 1);
        let next = if next < self.fronts.len() { next } else { 0 };
        self.focus = self.fronts.get(next).map(|f| f.id);
        if let Some(Front { kind: Kind::Session(session), .. }) = self.focused() {
            session.shown = true;
        }
    }
}
