//! What all QMP monitors of a process share: the machine, migration's switches, who listens to events.

use crate::events::{self, Throttle};
use crate::session::{Peer, Session};
use crate::table::EventSpec;
use cloister_chardev::FdStore;
use cloister_control::{Event, Operator, Subscription, TimedEvent};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

/// All QMP monitors of a process. They differ in their character device and in nothing else.
pub struct Monitor {
    operator: Operator,
    fds: Arc<FdStore>,
    shared: Arc<Shared>,
    /// Switches that `migrate-set-capabilities` turned on.
    pub(crate) migration: Mutex<BTreeMap<String, bool>>,
    _events: Subscription,
}

/// What the listener of events needs.
#[derive(Default)]
struct Shared {
    sessions: Mutex<Vec<Weak<Session>>>,
    throttle: Throttle,
    /// How often SHUTDOWN was told.
    ends: Mutex<u64>,
    end: Condvar,
}

impl Monitor {
    /// Makes the state that monitors share and begins to listen to events.
    pub fn new(operator: Operator, fds: Arc<FdStore>) -> Arc<Self> {
        let shared = Arc::new(Shared::default());
        let listener = Arc::clone(&shared);
        let subscription = operator.machine.events().subscribe(move |event| listener.hear(event));
        Arc::new(Self { operator, fds, shared, migration: Mutex::default(), _events: subscription })
    }

    /// The machine and the process.
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// Passed descriptors.
    pub(crate) fn fds(&self) -> &FdStore {
        &self.fds
    }

    /// A client arrived: greets it and tells it of events once it has negotiated.
    pub(crate) fn connect(self: &Arc<Self>, peer: Arc<dyn Peer>, pretty: bool) -> Arc<Session> {
        let session = Arc::new(Session::new(Arc::clone(self), peer, pretty));
        session.greet();
        let mut sessions = lock(&self.shared.sessions);
        sessions.retain(|session| session.strong_count() > 0);
        sessions.push(Arc::downgrade(&session));
        session
    }

    /// Does what ends the machine and waits until SHUTDOWN has been told, but not long: a client must hear it before the
    /// answer to `quit`.
    pub(crate) fn end(&self, quit: impl FnOnce()) {
        let before = *lock(&self.shared.ends);
        quit();
        let ends = lock(&self.shared.ends);
        let _told = self.shared.end.wait_timeout_while(ends, Duration::from_secs(2), |ends| *ends == before);
    }
}

impl Shared {
    fn hear(self: &Arc<Self>, event: &TimedEvent) {
        if let Some((spec, data)) = events::describe(&event.event) {
            self.tell(spec, data, event.at);
        }
        if matches!(event.event, Event::Shutdown(_)) {
            *lock(&self.ends) += 1;
            self.end.notify_all();
        }
    }

    fn tell(self: &Arc<Self>, spec: &'static EventSpec, data: Value, at: SystemTime) {
        if !spec.limited {
            return self.send(spec, &data, at);
        }
        let later = Arc::clone(self);
        if let Some((data, at)) =
            self.throttle.take(spec, data, at, move |data, at| later.send(spec, &data, at))
        {
            self.send(spec, &data, at);
        }
    }

    fn send(&self, spec: &EventSpec, data: &Value, at: SystemTime) {
        let sessions: Vec<_> = lock(&self.sessions).iter().filter_map(Weak::upgrade).collect();
        for session in sessions {
            session.tell(spec.name, data, at);
        }
    }
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").field("operator", &self.operator).finish_non_exhaustive()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
