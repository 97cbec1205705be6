//! What all CPU cores share: a software TLB, a cache of decoded code, a clock, and the rendezvous between
//! CPUs through which flushes are requested and acknowledged.
//!
//! It is not a core: it knows no instruction set, no exception and no page-table format. Guest bytes are
//! reached through [`cloister_memory::Ram`] alone.
//!
//! # How the parts go together
//!
//! A core holds an offset into storage only while it is entered at the rendezvous, and only until it next
//! acknowledges a flush or waits for anything.
//!
//! ```
//! use cloister_cpu::{Flush, Rendezvous, Tlb, TlbFill, request};
//! use cloister_memory::{Fill, Shootdown, Storage, View};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let storage = Storage::new(1 << 20)?;
//! let rendezvous = Rendezvous::new(1);
//! let cpu = rendezvous.cpu(0).ok_or("there is a CPU 0")?;
//! let (ram, mut tlb) = (storage.ram(), Tlb::<256, 4>::new());
//! let (context, address) = (0, 0x5008);
//!
//! cpu.enter();
//! let value = loop {
//!     // Once per block of code.
//!     if cpu.check() & request::FLUSH != 0 {
//!         cpu.acknowledge(|flush| match flush {
//!             Flush::Page(page) => tlb.flush_page(page),
//!             Flush::All => tlb.flush_all(),
//!         });
//!     }
//!     // Once per access.
//!     if let Some(offset) = tlb.read(context, address, 8) {
//!         break ram.read_u64_be(offset);
//!     }
//!     // Once per page: translate, check the protection, then fill and start again.
//!     let page = address / 4096;
//!     match storage.lookup_for_fill(page, cpu.number(), View::Authoritative) {
//!         Fill::Page(filled) => {
//!             let offset = filled.offset;
//!             // The first write sets the change bit; a page with code keeps its writes slow.
//!             let (write, write_slow) = (false, true);
//!             tlb.fill(context, address, TlbFill { offset, page, read: true, write, exec: true, write_slow, flags: 0 });
//!         }
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
mod tlb;

pub use rendezvous::{CpuRendezvous, Flush, Rendezvous, request};

#[cfg(not(loom))]
pub use clock::{Clock, ClockMode};
#[cfg(not(loom))]
pub use code::{BlockLink, CodeCache, CodeKey, Decode, MODE_BITS};
#[cfg(not(loom))]
pub use tlb::{SlowHit, Tlb, TlbFill, flags};
