//! The atomics of the page protocol: the standard library's, or loom's when the protocol is model-checked.
//!
//! Only what the protocol in `record` uses; guest memory itself is not modelled.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
