//! How a device's own threads say that there is something to do.
//!
//! A waker carries no data: the device keeps what came (a packet, input, a finished request) and looks for it in
//! [`VirtioDevice::host_event`](crate::virtio::VirtioDevice::host_event), which the machine calls on a thread of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Asks the machine to call a device. Clones ask for the same device; any thread may ask, also while the machine calls
/// the device, and however often: what is not dealt with yet is asked for once.
#[derive(Clone, Default)]
pub struct Waker(Arc<Inner>);

#[derive(Default)]
struct Inner {
    pending: AtomicBool,
    target: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Waker {
    /// A waker that nobody listens to yet; it remembers a call.
    pub fn new() -> Self {
        Self::default()
    }

    /// There is something to do.
    pub fn wake(&self) {
        if !self.0.pending.swap(true, Ordering::AcqRel)
            && let Some(target) = self.0.target.get()
        {
            target();
        }
    }

    /// For the machine, once: whom to tell. Told at once if something is waiting. A second call changes nothing.
    pub fn connect(&self, target: impl Fn() + Send + Sync + 'static) {
        // A wake between the two would be told twice, which does no harm.
        if self.0.target.set(Box::new(target)).is_ok()
            && self.0.pending.load(Ordering::Acquire)
            && let Some(target) = self.0.target.get()
        {
            target();
        }
    }

    /// For the machine, before it calls the device: later wakes ask again.
    pub fn clear(&self) {
        self.0.pending.store(false, Ordering::Release);
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waker").field("pending", &self.0.pending).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn a_wake_before_the_connection_is_told_and_two_wakes_are_told_once() {
        let told = Arc::new(AtomicU32::new(0));
        let waker = Waker::new();
        waker.wake();
        let count = Arc::clone(&told);
        waker.connect(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(told.load(Ordering::Relaxed), 1);
        waker.wake();
        assert_eq!(told.load(Ordering::Relaxed), 1);
        waker.clear();
        waker.clone().wake();
        assert_eq!(told.load(Ordering::Relaxed), 2);
    }
}
