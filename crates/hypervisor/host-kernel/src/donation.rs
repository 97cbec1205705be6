//! Storage that the host gives to the Ultravisor.
//!
//! The model keeps its own tables, so only the addresses matter: they must not overlap and must satisfy
//! what the Ultravisor checks. Nothing is ever returned, as the addresses cost nothing.

/// Hands out host absolute addresses above 2 GiB.
pub(crate) struct Donations {
    next: u64,
}

/// The Ultravisor accepts its base storage only from here on (UVC INIT, rc 0x108).
const FIRST: u64 = 2 << 30;
/// Alignment of the base storage.
const MIB: u64 = 1 << 20;

impl Donations {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// An address of `len` bytes, 1 MiB aligned.
    pub(crate) fn take(&mut self, len: u64) -> u64 {
        let at = self.next;
        self.next = at.saturating_add(len.max(1).next_multiple_of(MIB));
        at
    }
}
