//! The device's thread: it waits in poll(2) for the peer, the listener and its users' wishes, and is the only one that
//! touches the peer. It holds the lock over no system call but the non-blocking ones on sockets.

use crate::backend::{Keep, Peer, Source};
use crate::state::{Kind, Shared, State};
use crate::{CLOSE_GRACE, FD_LIMIT, HANG_UP_GRACE, OFFER_LIMIT};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes that are read or written at once.
const CHUNK: usize = 16 * 1024;
/// Bytes that a terminal or pipe takes without blocking when poll(2) says that it takes any (pipe(7), PIPE_BUF).
const CAUTIOUS_CHUNK: usize = 512;
/// How long a listener rests when the process has no descriptor left for a client.
const REST: Duration = Duration::from_secs(1);

pub(crate) struct Pump {
    id: String,
    shared: Arc<Shared>,
    source: Source,
    peer: Option<Peer>,
    /// The peer hung up; what it sent before may still be there to read.
    hung_up: bool,
    pending: Vec<u8>,
    attempt: Option<OwnedFd>,
    retry_at: Option<Instant>,
    hang_up_at: Option<Instant>,
    keep: Keep,
}

/// What to wait for.
#[derive(Default)]
struct Plan {
    accept: bool,
    connect: bool,
    input: bool,
    output: bool,
    until: Option<Instant>,
}

/// What poll(2) said.
struct Ready {
    accept: bool,
    attempt: bool,
    input: PollFlags,
    output: bool,
}

impl Pump {
    pub(crate) fn new(id: String, shared: Arc<Shared>, source: Source, keep: Keep) -> Self {
        Self {
            id,
            shared,
            source,
            peer: None,
            hung_up: false,
            pending: Vec::new(),
            attempt: None,
            retry_at: None,
            hang_up_at: None,
            keep,
        }
    }

    pub(crate) fn run(mut self) {
        loop {
            self.deliver();
            let Some(plan) = self.plan() else { break };
            if plan.connect {
                self.start_attempt();
                continue;
            }
            let ready = self.poll(&plan);
            if ready.attempt {
                self.finish_attempt();
            }
            if ready.accept {
                self.accept();
            }
            if ready.output {
                self.write();
            }
            self.look_at_input(plan.input, ready.input);
        }
        self.end();
    }

    /// Hands events and bytes to streams, without the lock.
    fn deliver(&mut self) {
        let mut state = self.shared.lock();
        let ids: Vec<u64> = state.fronts.iter().map(|f| f.id).collect();
        for id in ids {
            while let Some((input, stream)) = state.stream(id) {
                // An event is due when the bytes before it have been taken.
                let due: Vec<_> = stream.events.extract_if(.., |(after, _)| *after == 0).collect();
                let end = stream.events.iter().map(|&(after, _)| after).min().unwrap_or(usize::MAX);
                let end = if stream.stalled { 0 } else { end.min(input.len()) };
                if due.is_empty() && end == 0 {
                    break;
                }
                let Some(mut handler) = stream.handler.take() else { break };
                let bytes: Vec<u8> = input.iter().copied().take(end).collect();
                stream.resumed = false;
                drop(state);
                due.into_iter().for_each(|(_, event)| handler.event(event));
                let taken = if end == 0 { 0 } else { handler.bytes(&bytes).min(end) };
                state = self.shared.lock();
                let Some((input, stream)) = state.stream(id) else {
                    // Its user went meanwhile. What the handler's destructor does, it does without the lock.
                    drop(state);
                    drop(handler);
                    state = self.shared.lock();
                    break;
                };
                stream.handler = Some(handler);
                input.drain(..taken);
                stream.events.iter_mut().for_each(|(after, _)| *after -= taken.min(*after));
                stream.stalled = (stream.stalled || taken < end) && !stream.resumed;
            }
        }
    }

    /// Decides what to wait for; `None` ends the thread.
    fn plan(&mut self) -> Option<Plan> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        let mut plan = Plan::default();
        if state.closing {
            // Closed before this thread began: what was written has a reader.
            if state.expected {
                self.seek_peer(&mut state, &mut plan);
            }
            return None;
        }
        if state.hang_up && self.peer.is_some() {
            let at = *self.hang_up_at.get_or_insert_with(|| Instant::now() + HANG_UP_GRACE);
            if !self.has_output(&state) || at <= Instant::now() {
                self.disconnect(&mut state);
            } else {
                plan.until = Some(at);
            }
        }
        if state.wants_peer() {
            self.seek_peer(&mut state, &mut plan);
        }
        plan.input = state.wants_input();
        plan.output = self.has_output(&state);
        if self.has_events(&state) {
            plan.until = Some(Instant::now());
        }
        Some(plan)
    }

    fn has_output(&self, state: &State) -> bool {
        !(state.output_dead || state.output.is_empty() && self.pending.is_empty())
    }

    fn has_events(&self, state: &State) -> bool {
        state
            .fronts
            .iter()
            .any(|f| matches!(&f.kind, Kind::Stream(s) if s.events.iter().any(|&(after, _)| after == 0)))
    }

    fn seek_peer(&mut self, state: &mut State, plan: &mut Plan) {
        let resting = self.retry_at.filter(|&at| at > Instant::now());
        match &mut self.source {
            Source::None => {}
            Source::Once(peer) => match peer.take() {
                Some(peer) => self.connected(state, peer),
                None => self.finished(state),
            },
            Source::Listener(_) => {
                plan.accept = resting.is_none();
                plan.until = earliest(plan.until, resting);
            }
            Source::Client { again, first, .. } => {
                if let Some(peer) = first.take() {
                    return self.connected(state, peer);
                }
                let Some(again) = *again else { return self.finished(state) };
                if self.attempt.is_some() {
                    return;
                }
                if resting.is_some() {
                    plan.until = earliest(plan.until, resting);
                    return;
                }
                self.retry_at = Some(Instant::now() + again);
                plan.connect = true;
            }
        }
    }

    /// Begins to connect. A name may have to be resolved, which takes its time: without the lock.
    fn start_attempt(&mut self) {
        let Source::Client { target, .. } = &self.source else { return };
        match target.start() {
            Ok(fd) => self.attempt = Some(fd),
            Err(e) => tracing::warn!("Unable to connect character device {}: {e}", self.id),
        }
    }

    fn finished(&self, state: &mut State) {
        state.finished = true;
        state.expected = false;
        self.shared.notify();
    }

    fn poll(&self, plan: &Plan) -> Ready {
        let wanted = |wanted, flags| if wanted { flags } else { PollFlags::empty() };
        let mut fds = vec![PollFd::new(&self.shared.wake, PollFlags::IN)];
        let mut roles = vec![Role::Wake];
        let mut add = |fd, flags, role| {
            fds.push(PollFd::new(fd, flags));
            roles.push(role);
        };
        if let Source::Listener(listener) = &self.source
            && plan.accept
        {
            add(&listener.fd, PollFlags::IN, Role::Listener);
        }
        if let Some(attempt) = &self.attempt {
            add(attempt, PollFlags::OUT, Role::Attempt);
        }
        if let Some(peer) = &self.peer {
            // A socket is watched for its end as well; once that is known, poll(2) would say nothing else.
            if let Some(input) = &peer.input
                && (plan.input || (peer.is_socket && !self.hung_up))
            {
                add(input, wanted(plan.input, PollFlags::IN), Role::Input);
            }
            if let Some(output) = &peer.output
                && plan.output
            {
                add(output, PollFlags::OUT, Role::Output);
            }
        }
        let left = plan.until.map(|at| at.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let mut ready = Ready { accept: false, attempt: false, input: PollFlags::empty(), output: false };
        if poll(&mut fds, left.as_ref()).is_err() {
            return ready;
        }
        for (fd, role) in fds.iter().zip(&roles) {
            let events = fd.revents();
            if events.is_empty() {
                continue;
            }
            match role {
                Role::Wake => {
                    let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
                }
                Role::Listener => ready.accept = true,
                Role::Attempt => ready.attempt = true,
                Role::Input => ready.input = events,
                Role::Output => ready.output = true,
            }
        }
        ready
    }

    fn accept(&mut self) {
        let Source::Listener(listener) = &self.source else { return };
        let peer = match listener.accept() {
            Ok(connected) => Peer::socket(connected),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return,
            Err(e) => Err(e.into()),
        };
        let shared = Arc::clone(&self.shared);
        match peer {
            Ok(peer) => self.connected(&mut shared.lock(), peer),
            Err(e) => {
                tracing::warn!("chardev {}: a client was not accepted: {e}", self.id);
                self.retry_at = Some(Instant::now() + REST);
            }
        }
    }

    fn finish_attempt(&mut self) {
        let Some(fd) = self.attempt.take() else { return };
        let Source::Client { target, .. } = &self.source else { return };
        let shared = Arc::clone(&self.shared);
        match target.outcome(fd).map(Peer::socket) {
            Ok(Ok(peer)) => self.connected(&mut shared.lock(), peer),
            Ok(Err(e)) => tracing::warn!("Unable to connect character device {}: {e}", self.id),
            Err(e) => tracing::warn!("Unable to connect character device {}: {e}", self.id),
        }
    }

    fn connected(&mut self, state: &mut State, peer: Peer) {
        self.hung_up = false;
        self.hang_up_at = None;
        self.pending.clear();
        state.in_flight = 0;
        state.peer_came(peer.name.clone());
        if peer.input.is_none() {
            state.input_ended();
        }
        self.peer = Some(peer);
        self.shared.notify();
    }

    fn disconnect(&mut self, state: &mut State) {
        if let Some(peer) = self.peer.take()
            && let Some(input) = peer.input.filter(|_| peer.is_socket)
        {
            // An inherited connection has another descriptor, which would keep it open.
            let _ = net::shutdown(&input, net::Shutdown::Both);
        }
        self.pending.clear();
        self.hang_up_at = None;
        state.in_flight = 0;
        state.peer_went();
        match &self.source {
            Source::None | Source::Once(_) | Source::Client { again: None, .. } => state.finished = true,
            Source::Client { again: Some(again), .. } => self.retry_at = Some(Instant::now() + *again),
            Source::Listener(_) => {}
        }
        self.shared.notify();
    }

    fn look_at_input(&mut self, wanted: bool, events: PollFlags) {
        let Some(peer) = &self.peer else { return };
        let over = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        if peer.is_socket && events.intersects(over) {
            self.hung_up = true;
            let mut state = self.shared.lock();
            state.output_dead = true;
            state.output.clear();
            state.in_flight = 0;
            self.pending.clear();
            state.feed();
            self.shared.notify();
        }
        if wanted && events.intersects(PollFlags::IN | over) {
            self.read();
        }
    }

    fn read(&mut self) {
        let Some(Peer { input: Some(input), is_socket, .. }) = &self.peer else { return };
        let is_socket = *is_socket;
        let mut buffer = [0; CHUNK];
        let got = if is_socket {
            receive(input, &mut buffer)
        } else {
            rustix::io::read(input, &mut buffer).map(|n| (n, Vec::new()))
        };
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        match got {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok((0, _)) | Err(_) if is_socket && state.ends_with_input() => self.disconnect(&mut state),
            Ok((0, _)) | Err(_) => {
                state.input_ended();
                shared.notify();
            }
            Ok((n, fds)) => {
                let quit = state.take_input(&buffer[..n], fds);
                shared.notify();
                drop(state);
                if let Some(quit) = quit {
                    quit();
                }
            }
        }
    }

    fn write(&mut self) {
        let Some(Peer { output: Some(output), is_socket, cautious, .. }) = &self.peer else { return };
        if self.pending.is_empty() {
            let mut state = self.shared.lock();
            let n = state.output.len().min(CHUNK);
            self.pending.extend(state.output.drain(..n));
            state.in_flight = n;
        }
        let chunk = if *cautious { CAUTIOUS_CHUNK } else { CHUNK }.min(self.pending.len());
        let written = if *is_socket {
            net::send(output, &self.pending[..chunk], SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
        } else {
            rustix::io::write(output, &self.pending[..chunk])
        };
        let mut state = self.shared.lock();
        match written {
            Ok(n) => drop(self.pending.drain(..n)),
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => {
                state.output_dead = true;
                state.output.clear();
                self.pending.clear();
            }
        }
        state.in_flight = self.pending.len();
        if state.output.len() + state.in_flight <= OFFER_LIMIT / 2 {
            state.feed();
        }
        if self.pending.is_empty() && state.output.is_empty() {
            self.shared.notify();
        }
    }

    /// Writes what is left for as long as the peer takes it, within reason, and lets go of everything.
    fn end(mut self) {
        let until = Instant::now() + CLOSE_GRACE;
        while self.peer.is_some() && Instant::now() < until {
            let output = {
                let state = self.shared.lock();
                self.has_output(&state)
            };
            if !output {
                break;
            }
            let ready = self.poll(&Plan { output, until: Some(until), ..Plan::default() });
            if ready.output {
                self.write();
            }
            self.look_at_input(false, ready.input);
        }
        let shared = Arc::clone(&self.shared);
        let fronts = {
            let mut state = shared.lock();
            if self.peer.is_some() {
                self.disconnect(&mut state);
            }
            state.finished = true;
            // Their handlers may have destructors that look at this device.
            std::mem::take(&mut state.fronts)
        };
        drop(fronts);
        self.source = Source::None;
        self.keep = Keep::default();
        shared.lock().closed = true;
        shared.notify();
    }
}

#[derive(Clone, Copy)]
enum Role {
    Wake,
    Listener,
    Attempt,
    Input,
    Output,
}

/// recvmsg(2): the kernel closes descriptors that do not fit. Bytes after those that carried descriptors never come in the
/// same call (unix(7), "SCM_RIGHTS", on barriers).
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FD_LIMIT))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    Ok((message.bytes, fds))
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
