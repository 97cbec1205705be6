//! What happened to a machine, told to everyone who asked to hear.

use crate::{Cause, DumpProgress};
use cloister_options::SocketAddress;
use cloister_options::WatchdogAction;
use cloister_platform::arch::s390x::Psw;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

/// Something happened. Names and members are those of QMP's events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The machine ends, or powered itself off.
    Shutdown(Cause),
    /// The machine was reset.
    Reset(Cause),
    /// The guest was asked to power itself off.
    Powerdown,
    /// CPUs stopped.
    Stop,
    /// CPUs run.
    Resume,
    /// A device is gone.
    DeviceDeleted {
        /// Its id, if it had one.
        device: Option<String>,
        /// Its place in the object tree.
        path: String,
    },
    /// The guest crashed with a disabled wait.
    GuestPanicked {
        /// CPU address.
        cpu: u16,
        /// Its PSW, as far as the host may see it.
        psw: Psw,
        /// `pause`, `poweroff` or `run`: what follows.
        action: &'static str,
    },
    /// The guest keeps another amount of memory.
    BalloonChange {
        /// Bytes.
        actual: u64,
    },
    /// The guest opened or closed a port of a virtio-serial device.
    PortChange {
        /// The port's id.
        id: String,
        /// Whether it is open.
        open: bool,
    },
    /// The guest's watchdog expired.
    Watchdog(WatchdogAction),
    /// A dump ended.
    DumpCompleted {
        /// How.
        result: DumpProgress,
        /// Why it failed.
        error: Option<String>,
    },
    /// The host's disk failed under a request of the guest.
    BlockIoError {
        /// The drive's id, or empty.
        device: String,
        /// The node's name.
        node: String,
        /// Whether it was a read.
        read: bool,
        /// `report`, `ignore` or `stop`: what follows.
        action: &'static str,
        /// Whether the host's disk is full.
        no_space: bool,
        /// In words.
        reason: String,
    },
    /// A network stream has a peer.
    NetdevStreamConnected {
        /// The backend.
        id: String,
        /// The peer's address, or that at which it came in.
        address: SocketAddress,
    },
    /// The peer of a network stream is gone.
    NetdevStreamDisconnected {
        /// The backend.
        id: String,
    },
    /// A CPU came to a stop of the debugger's. Not a QMP event.
    Debug {
        /// CPU address.
        cpu: u16,
    },
}

/// An event and when it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedEvent {
    /// What.
    pub event: Event,
    /// When.
    pub at: SystemTime,
}

type Listener = dyn Fn(&TimedEvent) + Send + Sync;

/// Tells events. Cheap to clone; all clones are the same teller.
///
/// Listeners are called on the thread where the event happened, in order; they must be quick and must not ask the
/// machine anything.
#[derive(Clone, Default)]
pub struct Events {
    listeners: Arc<Mutex<Vec<Weak<Listener>>>>,
}

impl Events {
    /// Calls `listener` for each event until the subscription is dropped.
    pub fn subscribe(&self, listener: impl Fn(&TimedEvent) + Send + Sync + 'static) -> Subscription {
        let listener: Arc<Listener> = Arc::new(listener);
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(Arc::downgrade(&listener));
        Subscription { _listener: listener }
    }

    /// Tells everyone.
    pub fn emit(&self, event: Event) {
        let event = TimedEvent { event, at: SystemTime::now() };
        // Held while telling, so that two events reach every listener in one order.
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        for listener in listeners.iter().filter_map(Weak::upgrade) {
            listener(&event);
        }
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// While it lives, the listener hears.
#[must_use = "the listener hears nothing once this is dropped"]
pub struct Subscription {
    _listener: Arc<Listener>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_hears_in_order_and_only_while_it_subscribes() {
        let events = Events::default();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&heard);
        let subscription = events.subscribe(move |event| into.lock().unwrap().push(event.event.clone()));
        events.clone().emit(Event::Stop);
        events.emit(Event::Resume);
        drop(subscription);
        events.emit(Event::Powerdown);
        assert_eq!(*heard.lock().unwrap(), [Event::Stop, Event::Resume]);
    }
}
