//! Threads and atomics of the rendezvous: the standard library's, or loom's when it is model-checked.
//!
//! Loom has no timed waits, so under it a wait with a deadline has none.

#[cfg(loom)]
pub(crate) use loom::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    sync::{Condvar, Mutex},
};
#[cfg(not(loom))]
pub(crate) use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    sync::{Condvar, Mutex},
};
