//! A place for one key: pages of its own, which the system does not write to a swap device.
//!
//! It promises no more than mlock(2): where the system refuses (`RLIMIT_MEMLOCK`), the key is kept in ordinary
//! memory. Copies that a caller leaves on its stack or in registers are not its concern, nor are core dumps, which are
//! the process's.

use std::ops::{Deref, DerefMut};
use std::sync::Once;

use region::LockGuard;

/// A value in pages of its own, locked if the system allows it. It is dropped in place before they are unlocked.
pub(crate) struct Locked<T> {
    // Dropped before the pages go back to the allocator, which may give them to another key.
    _guard: Option<LockGuard>,
    pages: Box<Pages<T>>,
}

/// Pages are locked as wholes and locks do not nest, so no two values share one.
#[cfg_attr(any(target_arch = "x86_64", target_arch = "s390x", target_arch = "riscv64"), repr(align(4096)))]
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "s390x", target_arch = "riscv64")),
    repr(align(65536))
)]
struct Pages<T>(Option<T>);

impl<T> Locked<T> {
    /// Moves a value there. Bytes of it may stay where it was made: better to make it empty, and fill it in place.
    pub(crate) fn new(value: T) -> Self {
        let mut pages = Box::new(Pages(None));
        let guard = region::lock(&raw const *pages, size_of::<Pages<T>>());
        let guard = guard.inspect_err(say_once).ok();
        pages.0 = Some(value);
        Self { _guard: guard, pages }
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.pages.0.as_ref().expect("the value is there until it is dropped")
    }
}

impl<T> DerefMut for Locked<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.pages.0.as_mut().expect("the value is there until it is dropped")
    }
}

impl<T: Clone> Clone for Locked<T> {
    fn clone(&self) -> Self {
        Self::new(T::clone(self))
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        self.pages.0 = None;
    }
}

fn say_once(why: &region::Error) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::debug!(%why, "keys are kept in memory that may be swapped: raise the limit of locked memory (ulimit -l)");
    });
}
