//! What all CPU cores share: a cache of decoded code, a clock, and the rendezvous between CPUs through which
//! flushes are requested and acknowledged.
//!
//! It is not a core: it knows no instruction set, no exception and no page-table format. Guest bytes are
//! reached through [`cloister_memory::Ram`] alone. Nor is a software TLB here: what its tags and slow paths hold
//! (address spaces and keys on Z, the C-bit on x86, partition and process on POWER) is decided by what each
//! architecture allows without a second look, so each core has its own next to its translation. A shared one was
//! tried and fitted none.
//!
//! # How the parts go together
//!
//! A core holds an offset into storage only while it is entered at the rendezvous, and only until it next
//! acknowledges a flush or waits for anything.
//!
//! ```
//! use cloister_cpu::{Flush, Rendezvous, request};
//! use cloister_memory::{Fill, Shootdown, Storage, View};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let storage = Storage::new(1 << 20)?;
//! let rendezvous = Rendezvous::new(1);
//! let cpu = rendezvous.cpu(0).ok_or("there is a CPU 0")?;
//! let ram = storage.ram();
//! // A translation buffer of one entry: page and where it lies.
//! let mut entry: Option<(u64, usize)> = None;
//! let address = 0x5008_u64;
//!
//! cpu.enter();
//! let value = loop {
//!     // Once per block of code.
//!     if cpu.check() & request::FLUSH != 0 {
//!         cpu.acknowledge(|flush| match flush {
//!             Flush::Page(page) => entry = entry.filter(|(held, _)| *held != page),
//!             Flush::All => entry = None,
//!         });
//!     }
//!     // Once per access.
//!     let page = address / 4096;
//!     if let Some((_, offset)) = entry.filter(|(held, _)| *held == page) {
//!         break ram.read_u64_be(offset + (address % 4096) as usize);
//!     }
//!     // Once per page: translate, check the protection, then fill and start again.
//!     match storage.lookup_for_fill(page, cpu.number(), View::Authoritative) {
//!         Fill::Page(filled) => entry = Some((page, filled.offset)),
//!         Fill::Busy => cpu.pause(),
//!         other => return Err(format!("an exception of the guest, or a conversion first: {other:?}").into()),
//!     }
//! };
//! cpu.leave();
//! assert_eq!(value, 0);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod rendezvous;
mod sync;

#[cfg(not(loom))]
mod clock;
#[cfg(not(loom))]
mod code;
#[cfg(not(loom))]
mod profile;

pub use rendezvous::{CpuRendezvous, Flush, Rendezvous, request};

#[cfg(not(loom))]
pub use clock::{Clock, ClockMode};
#[cfg(not(loom))]
pub use code::{BlockLink, CodeCache, CodeKey, Decode, MODE_BITS};
#[cfg(not(loom))]
pub use profile::{Counter, Profile, Translation};
