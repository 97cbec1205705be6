//! What can be wrong with a request to guest storage.
//!
//! Not with the guest: a page that fails its integrity check is the mechanism's error `E`, passed through.

use std::convert::Infallible;

use crate::Representation;

/// A request to guest storage was refused; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum Error<E = Infallible> {
    /// The size is not usable.
    #[error("guest storage of {size} bytes is not possible: give a positive multiple of 4096 below {max}")]
    Size {
        /// The size asked for.
        size: u64,
        /// The first size that is too large.
        max: u64,
    },
    /// The operating system refused memory.
    #[error("cannot {action} for guest storage of {size} bytes: check memory limits (ulimit -v, cgroup)")]
    Reserve {
        /// What was being done.
        action: &'static str,
        /// The size of the storage.
        size: u64,
        /// The system's answer.
        source: rustix::io::Errno,
    },
    /// No such page.
    #[error("page {page:#x} does not exist: the guest has {pages:#x} pages")]
    OutOfRange {
        /// The page named.
        page: u64,
        /// How many there are.
        pages: u64,
    },
    /// The page is not in the representation that the operation starts from.
    #[error("page {page:#x} is {is:?}; {operation} is not possible from that representation")]
    Representation {
        /// The page named.
        page: u64,
        /// What it is.
        is: Representation,
        /// What was asked for.
        operation: &'static str,
    },
    /// The page is pinned in the host's reach, or no pin is there to take away.
    #[error("page {page:#x} has {pins} pins; {operation} is not possible now")]
    Pins {
        /// The page named.
        page: u64,
        /// Its pins.
        pins: u16,
        /// What was asked for.
        operation: &'static str,
    },
    /// A byte range is not made of whole 16-byte blocks.
    #[error("range {start:#x}+{len:#x} is not made of whole 16-byte blocks")]
    Alignment {
        /// Its start.
        start: u64,
        /// Its length.
        len: u64,
    },
    /// The transformation itself refused.
    #[error("the content of page {page:#x} was refused")]
    Refused {
        /// The page named.
        page: u64,
        /// Its reason.
        source: E,
    },
}
