//! Guest pages: representations, conversion, views, per-page records.
//!
//! A [`Storage`] is one virtual machine's memory. It holds two different memories of the same size in one
//! address-space reservation: the *host half*, a file in memory that the hypervisor world maps for itself,
//! and the *secure half*, private to this world. Each page has one authoritative copy at a time; which one
//! is the page's [`Representation`]. Conversion between representations follows one fixed order, written
//! down at [`Storage::make_plain_with`], so that neither a stale translation nor a late access of the host
//! can see plaintext or lose a committed write.
//!
//! This is not the place of *entitlement*: whether a page may be converted is the mechanism's decision
//! (an Ultravisor's table, a C-bit). Nothing here knows a key, a machine or an instruction set.
//!
//! # Why this crate contains unsafe code
//!
//! Guest memory is written by other processors, and its host half by the other world, at any time. It can
//! therefore never be a Rust reference or slice; it is reached through raw pointers into a mapping. All such
//! accesses of the secure world are in the module `ram`, each one bounds-checked, so that every other crate
//! of the secure world can forbid unsafe code.
#![deny(unsafe_op_in_unsafe_fn)]
#![cfg_attr(loom, expect(dead_code, reason = "only the protocol is compiled for the model checker"))]

mod record;
mod sync;

#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod mapping;
#[cfg(not(loom))]
mod ram;
#[cfg(not(loom))]
mod storage;
#[cfg(not(loom))]
mod transform;

pub use record::{CodeStamp, PageRecord, PageState, Representation, cpu_bit};

#[cfg(not(loom))]
pub use error::Error;
#[cfg(not(loom))]
pub use ram::Ram;
#[cfg(not(loom))]
pub use storage::{
    ConversionObserver, Counts, Fill, FilledPage, HOST_ACCESS_ASK, HOST_ACCESS_FREE, HOST_REPORT_WRITES,
    NoShootdown, Shootdown, Storage, Touched, View,
};
#[cfg(not(loom))]
pub use transform::{PageCipher, PageExport};

/// Bytes in a page, the unit of representation.
pub const PAGE_SIZE: usize = 4096;

/// The content of one page.
pub type PageBytes = [u8; PAGE_SIZE];
