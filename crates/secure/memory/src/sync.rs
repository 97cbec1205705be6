//! The atomics of the page protocol: the standard library's, or loom's when the protocol is model-checked.
//!
//! Only what the protocol in `record` uses; guest memory itself is not modelled.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Stands between an announcement and the look at the other side's. The accesses are sequentially
/// consistent and need nothing more; loom takes such accesses for acquire and release only and has to be
/// told.
#[inline(always)]
pub(crate) fn announced() {
    #[cfg(loom)]
    loom::sync::atomic::fence(Ordering::SeqCst);
}
