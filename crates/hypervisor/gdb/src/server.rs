//! Debuggers come, one after the other, and go.
//!
//! Two threads serve a client: one carries what it sends, the other wakes up when the machine tells something. Both work
//! on one [`Session`]. Neither is a CPU's thread: a debugger that does not read holds up nobody but itself.

use crate::{Monitor, Session};
use cloister_chardev::{Chardev, ChardevError, SessionPort};
use cloister_control::Machine;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// How long a change that no event tells of stays unnoticed.
const LOOK: Duration = Duration::from_millis(250);
/// Bytes taken from a client at a time; the answers to them are held in memory.
const TAKE: usize = 512;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The character device is not free.
    #[error("gdb: {0}")]
    Device(#[from] ChardevError),
    /// The host has no thread left.
    #[error("gdb: cannot start a thread: {0}; the host may limit the number of threads")]
    Thread(#[from] std::io::Error),
}

/// Serves the debuggers that come to a character device, one at a time. The device ends with the server.
///
/// # Errors
/// The device has a user, or there is no thread to be had.
pub fn serve(
    machine: Arc<dyn Machine>,
    device: &Arc<Chardev>,
    monitor: Monitor,
) -> Result<Handle, ServeError> {
    let port = device.attach_session()?;
    let device = Arc::clone(device);
    let close: Close = Box::new(move || device.close());
    Ok(serve_clients(machine, Box::new(port), close, monitor)?)
}

impl Clients for SessionPort {
    fn accept(&mut self) -> Option<Box<dyn Client>> {
        Self::accept(self).map(|session| Box::new(session) as _)
    }
}

impl Client for cloister_chardev::Session {
    fn receive(&mut self, to: &mut [u8]) -> usize {
        self.recv(to)
    }

    fn sender(&self) -> SendBytes {
        let sender = Self::sender(self);
        Box::new(move |bytes| sender.send(bytes).is_ok())
    }
}

/// Where debuggers come from.
pub trait Clients: Send {
    /// Waits for the next one; `None`: no more will come.
    fn accept(&mut self) -> Option<Box<dyn Client>>;
}

/// A connected debugger. Dropping it hangs up, behind what was sent.
pub trait Client: Send {
    /// Waits for bytes; 0 is the end.
    fn receive(&mut self, to: &mut [u8]) -> usize;

    /// What sends to this client, from another thread as well.
    fn sender(&self) -> SendBytes;
}

/// Sends bytes. False: the client is gone, or does not read.
pub type SendBytes = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// Makes waiting [`Clients`] and [`Client`]s wake up and be at their end.
pub type Close = Box<dyn Fn() + Send + Sync>;

/// Serves debuggers, one at a time, until there are no more.
///
/// # Errors
/// If there is no thread to be had.
pub fn serve_clients(
    machine: Arc<dyn Machine>,
    mut clients: Box<dyn Clients>,
    close: Close,
    monitor: Monitor,
) -> std::io::Result<Handle> {
    let server =
        Arc::new(Server { machine, monitor, current: Mutex::default(), over: AtomicBool::new(false) });
    let its = Arc::clone(&server);
    let thread = Builder::new().name("gdb".into()).spawn(move || {
        while let Some(client) = clients.accept() {
            if its.over.load(Ordering::Acquire) {
                break;
            }
            if let Err(error) = its.serve(client) {
                tracing::warn!(%error, "a debugger was turned away");
            }
        }
    })?;
    Ok(Handle { server, thread: Some(thread), close })
}

/// A running server. Dropping it ends it; a debugger that waits for the machine is told that it exited.
pub struct Handle {
    server: Arc<Server>,
    thread: Option<JoinHandle<()>>,
    close: Close,
}

impl Handle {
    /// The machine ends with this exit status: a debugger that waits for it hears so, and the server ends.
    pub fn end(mut self, code: u8) {
        self.finish(code);
    }

    fn finish(&mut self, code: u8) {
        let Some(thread) = self.thread.take() else { return };
        self.server.over.store(true, Ordering::Release);
        // `monitor gdbserver none` comes from the server's own thread, in the middle of a session.
        let own = thread.thread().id() == std::thread::current().id();
        let link = self.server.current().clone();
        if let (false, Some(link)) = (own, link) {
            link.with(|session| session.machine_ends(code));
        }
        (self.close)();
        if !own {
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.finish(0);
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

struct Server {
    machine: Arc<dyn Machine>,
    monitor: Monitor,
    current: Mutex<Option<Arc<Link>>>,
    over: AtomicBool,
}

impl Server {
    fn current(&self) -> MutexGuard<'_, Option<Arc<Link>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut client: Box<dyn Client>) -> std::io::Result<()> {
        let session = Session::new(Arc::clone(&self.machine), Arc::clone(&self.monitor));
        let session =
            session.ok_or_else(|| std::io::Error::other("the machine has no CPU that gdb knows"))?;
        let link = Arc::new(Link {
            session: Mutex::new(Some(session)),
            send: client.sender(),
            bell: Mutex::new(Bell::Silent),
            ringing: Condvar::new(),
        });
        let ears = Arc::clone(&link);
        let _events = self.machine.events().subscribe(move |_| ears.ring(Bell::Rings));
        let its = Arc::clone(&link);
        let watcher = Builder::new().name("gdb-events".into()).spawn(move || {
            while its.wait() {
                its.with(Session::poll);
            }
        })?;
        *self.current() = Some(Arc::clone(&link));
        let mut bytes = [0; TAKE];
        loop {
            let count = client.receive(&mut bytes);
            let came = bytes.get(..count).filter(|came| !came.is_empty());
            let alive = came.is_some_and(|came| link.with(|session| session.receive(came)));
            if !alive || self.over.load(Ordering::Acquire) {
                break;
            }
        }
        *self.current() = None;
        link.ring(Bell::Over);
        let _ = watcher.join();
        link.hang_up();
        Ok(())
    }
}

/// A session and the way to its client.
struct Link {
    session: Mutex<Option<Session>>,
    send: SendBytes,
    bell: Mutex<Bell>,
    ringing: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bell {
    Silent,
    Rings,
    Over,
}

impl Link {
    /// Does something with the session and sends what comes of it. False: the session is over.
    fn with(&self, act: impl FnOnce(&mut Session)) -> bool {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(session) = session.as_mut() else { return false };
        act(session);
        let output = session.take_output();
        // Sent under the lock, so that answers and stops keep their order.
        let sent = output.is_empty() || (self.send)(&output);
        sent && !session.has_ended()
    }

    fn hang_up(&self) {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(session);
    }

    fn ring(&self, how: Bell) {
        let mut bell = self.bell.lock().unwrap_or_else(PoisonError::into_inner);
        if *bell != Bell::Over {
            *bell = how;
        }
        self.ringing.notify_all();
    }

    /// Waits for an event or for some time. False: the session is over.
    fn wait(&self) -> bool {
        let bell = self.bell.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.ringing.wait_timeout_while(bell, LOOK, |bell| *bell == Bell::Silent);
        let (mut bell, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *bell == Bell::Rings {
            *bell = Bell::Silent;
        }
        *bell != Bell::Over
    }
}
