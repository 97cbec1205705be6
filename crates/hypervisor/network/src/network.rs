//! All backends of a machine, by id.

use crate::error::NetworkError;
use crate::link::{Link, Port};
use crate::open;
use crate::passt::Helpers;
use cloister_chardev::FdStore;
use cloister_options::{NetBackend, Netdev, SocketAddress};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Something happened to a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetEvent {
    /// A stream has a peer.
    Connected {
        /// The backend.
        id: String,
        /// The address at which the peer is, or came in.
        address: SocketAddress,
    },
    /// The peer of a stream is gone.
    Disconnected {
        /// The backend.
        id: String,
    },
}

/// A backend as monitors show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetdevInfo {
    /// Its id.
    pub id: String,
    /// Its type.
    pub kind: &'static str,
    /// What else `info network` says of it.
    pub words: String,
    /// A device has it.
    pub in_use: bool,
}

/// Takes events, on the backends' threads; it must be quick.
pub(crate) type Listener = Arc<Mutex<Option<Box<dyn Fn(NetEvent) + Send + Sync>>>>;

/// The network backends of a machine.
pub struct Network {
    netdevs: Mutex<Vec<Opened>>,
    fds: Arc<FdStore>,
    listener: Listener,
}

struct Opened {
    spec: Netdev,
    link: Arc<Link>,
}

impl Network {
    /// Opens the backends of a command line. `helpers` are those of the same backends.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub fn open(
        netdevs: &[Netdev],
        mut helpers: Helpers,
        fds: Arc<FdStore>,
    ) -> Result<Arc<Self>, (Netdev, NetworkError)> {
        let network = Arc::new(Self { netdevs: Mutex::default(), fds, listener: Listener::default() });
        for netdev in netdevs {
            let helper = helpers.take(&netdev.id);
            network.make(netdev, helper).map_err(|why| (netdev.clone(), why))?;
        }
        Ok(network)
    }

    /// Without any backend.
    #[must_use]
    pub fn none() -> Arc<Self> {
        let (netdevs, fds, listener) = Default::default();
        Arc::new(Self { netdevs, fds, listener })
    }

    /// Whom to tell of events, in place of whoever was told before.
    pub fn listen(&self, to: impl Fn(NetEvent) + Send + Sync + 'static) {
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(to));
    }

    /// `netdev_add`.
    ///
    /// # Errors
    /// The id is taken, or the backend cannot be opened.
    pub fn add(&self, netdev: &Netdev) -> Result<(), NetworkError> {
        self.make(netdev, None)
    }

    fn make(&self, netdev: &Netdev, helper: Option<std::os::fd::OwnedFd>) -> Result<(), NetworkError> {
        let mut netdevs = self.lock();
        if netdevs.iter().any(|other| other.spec.id == netdev.id) {
            return Err(NetworkError::Duplicate(netdev.id.clone()));
        }
        let link = open::open(netdev, helper, &self.fds, &self.listener)?;
        netdevs.push(Opened { spec: netdev.clone(), link });
        Ok(())
    }

    /// `netdev_del`. A device that has the backend stays, with a cable that leads nowhere.
    ///
    /// # Errors
    /// There is none.
    pub fn remove(&self, id: &str) -> Result<(), NetworkError> {
        let mut netdevs = self.lock();
        let at = netdevs.iter().position(|netdev| netdev.spec.id == id);
        let at = at.ok_or_else(|| NetworkError::NotFound(id.to_owned()))?;
        netdevs.remove(at).close();
        Ok(())
    }

    /// A device takes a backend. `call` is called from any thread when the device should look at its port.
    ///
    /// # Errors
    /// There is none, or another device has it.
    pub fn attach(&self, id: &str, call: impl Fn() + Send + Sync + 'static) -> Result<Port, NetworkError> {
        let netdevs = self.lock();
        let found = netdevs.iter().find(|netdev| netdev.spec.id == id);
        let link = &found.ok_or_else(|| NetworkError::NotFound(id.to_owned()))?.link;
        if link.is_attached() {
            return Err(NetworkError::InUse(id.to_owned()));
        }
        Ok(link.attach(Arc::new(call)))
    }

    /// Plugs the cable in or pulls it.
    ///
    /// # Errors
    /// There is no such backend.
    pub fn set_link(&self, id: &str, up: bool) -> Result<(), NetworkError> {
        let netdevs = self.lock();
        let found = netdevs.iter().find(|netdev| netdev.spec.id == id);
        found.ok_or_else(|| NetworkError::NotFound(id.to_owned()))?.link.set_up(up);
        Ok(())
    }

    /// The backends, in the order in which they were made.
    pub fn infos(&self) -> Vec<NetdevInfo> {
        let info = |netdev: &Opened| NetdevInfo {
            id: netdev.spec.id.clone(),
            kind: netdev.spec.backend.kind(),
            words: match &netdev.spec.backend {
                NetBackend::User(user) => format!("net={},restrict=off", user.network.0),
                _ => netdev.link.lock().words.clone(),
            },
            in_use: netdev.link.is_attached(),
        };
        self.lock().iter().map(info).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Opened>> {
        self.netdevs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    fn close(&self) {
        let mut state = self.link.lock();
        state.closed = true;
        state.lose_peer();
        self.link.room(state);
        self.link.ring();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.lock().iter().for_each(Opened::close);
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("netdevs", &self.infos()).finish_non_exhaustive()
    }
}
