//! What all CPU cores share: a software TLB, a cache of decoded code, a clock, and the rendezvous between
//! CPUs through which flushes are requested and acknowledged.
//!
//! It is not a core: it knows no instruction set, no exception and no page-table format. Guest bytes are
//! reached through [`cloister_memory::Ram`] alone.
#![forbid(unsafe_code)]

mod rendezvous;
mod sync;

#[cfg(not(loom))]
mod clock;
#[cfg(not(loom))]
mod code;
#[cfg(not(loom))]
mod tlb;

pub use rendezvous::{CpuRendezvous, Flush, Rendezvous, request};

#[cfg(not(loom))]
pub use clock::{Clock, ClockMode};
#[cfg(not(loom))]
pub use code::{BlockLink, CodeCache, CodeKey, Decode, MODE_BITS};
#[cfg(not(loom))]
pub use tlb::{SlowHit, Tlb, TlbFill, flags};
