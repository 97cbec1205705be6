//! The record kept for each page, and the protocol by which pages are converted and translations filled.
//!
//! It is not a lock: nobody waits here. A converter that finds the page busy, and a fill that finds it
//! converting, are told so, because only the caller knows how to wait without blocking a flush that another
//! processor expects of it.

use crate::sync::{AtomicU8, AtomicU32, AtomicU64, Ordering, announced};

/// Which copy of a page is authoritative.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Representation {
    /// The host half: bytes as the host sees them. Every page begins so.
    Raw = 0,
    /// The secure half: what the guest computes on. The host half is scrubbed.
    Plain = 1,
    /// Both halves hold the page and each access chooses its view.
    Both = 2,
    /// Neither: the page has been moved out and its content is kept elsewhere.
    Absent = 3,
}

/// A value of a page's code stamp: blocks decoded under another value are stale.
pub type CodeStamp = u32;

/// The bit by which a CPU is named in a mask. CPUs from number 63 on share the last bit.
#[inline(always)]
pub fn cpu_bit(cpu: u32) -> u64 {
    1 << if cpu < 63 { cpu } else { 63 }
}

/// One page's record: representation, generation, pins, holders of translations, decoded code, storage key.
///
/// The all-zero record is a page that is Raw, unpinned, without code and with storage key 0.
#[derive(Default)]
pub struct PageRecord {
    state: AtomicU64,
    holders: AtomicU64,
    code_lines: AtomicU64,
    code_stamp: AtomicU32,
    key: AtomicU8,
    flags: AtomicU8,
}

/// A snapshot of the converting part of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageState(u64);

impl PageState {
    /// The authoritative copy; while a conversion runs, the one before it.
    #[inline]
    pub fn representation(self) -> Representation {
        match self.0 & REPRESENTATION {
            0 => Representation::Raw,
            1 => Representation::Plain,
            2 => Representation::Both,
            _ => Representation::Absent,
        }
    }

    /// Whether a conversion is under way.
    #[inline]
    pub fn is_converting(self) -> bool {
        self.0 & CONVERTING != 0
    }

    /// How many pins hold the page in the host's reach.
    pub fn pins(self) -> u16 {
        ((self.0 & PINS) >> PINS_SHIFT) as u16
    }

    /// Counts the conversions of this page, failed ones included. Wraps.
    pub fn generation(self) -> u32 {
        (self.0 >> GENERATION_SHIFT) as u32
    }

    fn without_pins(self) -> u64 {
        self.0 & !PINS
    }
}

/// What [`PageRecord::try_fill`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TryFill {
    Held { state: PageState, code: bool },
    Unsuitable(PageState),
    Converting,
}

impl PageRecord {
    /// The page's state now.
    #[inline]
    pub fn state(&self) -> PageState {
        PageState(self.state.load(Ordering::SeqCst))
    }

    /// The CPUs whose translation buffer may hold the page, by [`cpu_bit`].
    pub fn holders(&self) -> u64 {
        self.holders.load(Ordering::SeqCst)
    }

    /// The storage key: access-control bits, fetch protection, reference, change
    /// (z/Architecture Principles of Operation, SA22-7832, chapter 3 "Storage Key").
    #[inline]
    pub fn key(&self) -> u8 {
        self.key.load(Ordering::SeqCst)
    }

    /// Sets the whole storage key and returns the old one. Translations already filled keep what they
    /// derived from the old key until the caller has shot them down.
    pub fn set_key(&self, key: u8) -> u8 {
        self.key.swap(key, Ordering::SeqCst)
    }

    /// Sets the bits of `set` in the storage key (reference and change) and returns the old key.
    #[inline]
    pub fn or_key(&self, set: u8) -> u8 {
        let old = self.key.load(Ordering::SeqCst);
        if old & set == set { old } else { self.key.fetch_or(set, Ordering::SeqCst) }
    }

    /// Keeps only the bits of `keep` in the storage key and returns the old key.
    pub fn and_key(&self, keep: u8) -> u8 {
        self.key.fetch_and(keep, Ordering::SeqCst)
    }

    /// Marks the page as changed since [`take_dirty`](Self::take_dirty).
    #[inline]
    pub fn set_dirty(&self) {
        if self.flags.load(Ordering::Relaxed) & DIRTY == 0 {
            self.flags.fetch_or(DIRTY, Ordering::SeqCst);
        }
    }

    /// Whether the page was marked as changed.
    pub fn is_dirty(&self) -> bool {
        self.flags.load(Ordering::SeqCst) & DIRTY != 0
    }

    /// Clears the changed mark and returns it. The caller then shoots down the holders, whose writable
    /// translations would not set it again.
    pub fn take_dirty(&self) -> bool {
        self.flags.fetch_and(!DIRTY, Ordering::SeqCst) & DIRTY != 0
    }

    /// The stamp of [`code_stamp`](Self::code_stamp), for generated code to look at.
    #[cfg(not(loom))]
    pub fn code_stamp_cell(&self) -> &AtomicU32 {
        &self.code_stamp
    }

    /// The stamp under which code decoded from the page now is valid.
    #[inline(always)]
    pub fn code_stamp(&self) -> CodeStamp {
        self.code_stamp.load(Ordering::Acquire)
    }

    /// The 64-byte lines of the page from which code has been decoded, line 0 in the lowest bit.
    #[inline(always)]
    pub fn code_lines(&self) -> u64 {
        self.code_lines.load(Ordering::SeqCst)
    }

    /// Adds lines from which code is about to be decoded; true if the page had none before, so that
    /// writable translations of it have to be shot down first.
    pub(crate) fn add_code_lines(&self, lines: u64) -> bool {
        let first = self.code_lines.fetch_or(lines, Ordering::SeqCst) == 0;
        announced();
        first
    }

    /// After a write to `lines`: if code was decoded from them, makes all blocks of the page stale.
    ///
    /// The lines go before the stamp: who reads the new stamp also finds its marks kept, who read the old
    /// one has a stale block.
    pub(crate) fn hit_code(&self, lines: u64) -> bool {
        if self.code_lines.load(Ordering::SeqCst) & lines == 0 {
            return false;
        }
        self.code_lines.store(0, Ordering::SeqCst);
        self.code_stamp.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// Enters `cpu` as a holder if the page is suitable and stays so.
    ///
    /// The holder bit is set first and the state read again after it, while a converter marks the state
    /// first and reads the holders after it: in the single order of these operations one of them sees the
    /// other. The generation must be unchanged too, else a whole conversion went by in between and has
    /// taken the bit away again.
    pub(crate) fn try_fill(&self, cpu: u32, suitable: impl Fn(Representation) -> bool) -> TryFill {
        loop {
            let before = self.state();
            if before.is_converting() {
                return TryFill::Converting;
            }
            if !suitable(before.representation()) {
                return TryFill::Unsuitable(before);
            }
            self.holders.fetch_or(cpu_bit(cpu), Ordering::SeqCst);
            announced();
            let after = self.state();
            if after.is_converting() {
                return TryFill::Converting;
            }
            if after.without_pins() == before.without_pins() {
                let code = self.code_lines.load(Ordering::SeqCst) != 0;
                return TryFill::Held { state: after, code };
            }
        }
    }

    /// Marks the page as converting if `allowed`. `Ok(None)`: another conversion runs, try again later.
    pub(crate) fn try_begin<E>(
        &self,
        allowed: impl Fn(PageState) -> Result<(), E>,
    ) -> Result<Option<PageState>, E> {
        let state = self.state();
        if state.is_converting() {
            return Ok(None);
        }
        allowed(state)?;
        let marked =
            self.state.compare_exchange(state.0, state.0 | CONVERTING, Ordering::SeqCst, Ordering::SeqCst);
        announced();
        Ok(marked.is_ok().then_some(state))
    }

    /// Takes away holders that have acknowledged a flush, while the page is still converting.
    pub(crate) fn forget_holders(&self, gone: u64) {
        self.holders.fetch_and(!gone, Ordering::SeqCst);
    }

    /// Ends a conversion. The generation moves even if nothing changed.
    pub(crate) fn publish(&self, to: Representation) {
        let state = PageState(self.state.load(Ordering::SeqCst));
        let generation = u64::from(state.generation().wrapping_add(1));
        // A page that is converting is neither pinned nor unpinned, so a plain store loses nothing.
        let next = to as u64 | (state.0 & PINS) | generation << GENERATION_SHIFT;
        self.state.store(next, Ordering::SeqCst);
    }

    /// Adds a pin. `None`: a conversion runs; `Some(false)`: not in a pinnable representation or too many.
    pub(crate) fn try_pin(&self) -> Option<bool> {
        self.change_pins(|state| {
            let reachable = matches!(state.representation(), Representation::Raw | Representation::Both);
            (reachable && state.pins() < u16::MAX).then(|| state.0 + PIN)
        })
    }

    /// Takes a pin away. `None`: a conversion runs; `Some(false)`: there is none.
    pub(crate) fn try_unpin(&self) -> Option<bool> {
        self.change_pins(|state| (state.pins() > 0).then(|| state.0 - PIN))
    }

    fn change_pins(&self, change: impl Fn(PageState) -> Option<u64>) -> Option<bool> {
        loop {
            let state = self.state();
            if state.is_converting() {
                return None;
            }
            let Some(next) = change(state) else { return Some(false) };
            if self.state.compare_exchange(state.0, next, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                return Some(true);
            }
        }
    }
}

const REPRESENTATION: u64 = 3;
const CONVERTING: u64 = 4;
const PINS_SHIFT: u32 = 8;
const PINS: u64 = 0xffff << PINS_SHIFT;
const PIN: u64 = 1 << PINS_SHIFT;
const GENERATION_SHIFT: u32 = 32;
const DIRTY: u8 = 1;

/// Model-checked with `RUSTFLAGS="--cfg loom" cargo test -p cloister-memory --lib --release`.
#[cfg(all(test, loom))]
mod model {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// A page of one word in two halves, one CPU with one translation, and a flush request.
    #[derive(Default)]
    struct Machine {
        record: PageRecord,
        host: AtomicU64,
        secure: AtomicU64,
        requested: AtomicU32,
        acknowledged: AtomicU32,
        left: AtomicU32,
    }

    impl Machine {
        fn half(&self, is: Representation) -> &AtomicU64 {
            if is == Representation::Raw { &self.host } else { &self.secure }
        }

        /// Counts in the page; yields how often it could.
        fn compute(&self, rounds: u64) -> u64 {
            let mut translation = None;
            let mut written = 0;
            for _ in 0..rounds {
                let requested = self.requested.load(Ordering::SeqCst);
                if requested != self.acknowledged.load(Ordering::SeqCst) {
                    translation = None;
                    self.acknowledged.store(requested, Ordering::SeqCst);
                }
                if translation.is_none()
                    && let TryFill::Held { state, .. } = self.record.try_fill(0, |_| true)
                {
                    translation = Some(state.representation());
                }
                if let Some(is) = translation {
                    let half = self.half(is);
                    half.store(half.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                    written += 1;
                }
            }
            self.left.store(1, Ordering::SeqCst);
            written
        }

        fn convert(&self, to: Representation) {
            let before = loop {
                match self.record.try_begin(|_| Ok::<_, ()>(())) {
                    Ok(Some(state)) => break state.representation(),
                    _ => thread::yield_now(),
                }
            };
            let holders = self.record.holders();
            if holders != 0 {
                let ticket = self.requested.fetch_add(1, Ordering::SeqCst) + 1;
                while self.left.load(Ordering::SeqCst) == 0
                    && self.acknowledged.load(Ordering::SeqCst) < ticket
                {
                    thread::yield_now();
                }
                self.record.forget_holders(holders);
            }
            if before != to {
                let value = self.half(before).load(Ordering::Relaxed);
                self.half(to).store(value, Ordering::Relaxed);
                self.half(before).store(0, Ordering::Relaxed);
            }
            self.record.publish(to);
        }

        fn verify(&self, written: u64) {
            let is = self.record.state().representation();
            let other = if is == Representation::Raw { Representation::Plain } else { Representation::Raw };
            assert_eq!(self.half(is).load(Ordering::Relaxed), written, "no committed write is lost");
            assert_eq!(self.half(other).load(Ordering::Relaxed), 0, "nothing is left in the other half");
        }
    }

    fn check(test: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(4);
        builder.check(test);
    }

    #[test]
    fn a_fill_never_races_past_the_shootdown_of_a_conversion() {
        check(|| {
            let machine = Arc::new(Machine::default());
            let cpu = thread::spawn({
                let machine = machine.clone();
                move || machine.compute(2)
            });
            machine.convert(Representation::Plain);
            let written = cpu.join().unwrap();
            machine.verify(written);
        });
    }

    #[test]
    fn a_fill_does_not_survive_two_conversions_that_go_by() {
        check(|| {
            let machine = Arc::new(Machine::default());
            let cpu = thread::spawn({
                let machine = machine.clone();
                move || machine.compute(1)
            });
            machine.convert(Representation::Raw);
            machine.convert(Representation::Plain);
            let written = cpu.join().unwrap();
            machine.verify(written);
        });
    }

    #[test]
    fn two_converters_of_one_page_take_turns() {
        check(|| {
            let machine = Arc::new(Machine::default());
            machine.host.store(7, Ordering::Relaxed);
            machine.left.store(1, Ordering::SeqCst);
            let other = thread::spawn({
                let machine = machine.clone();
                move || machine.convert(Representation::Plain)
            });
            machine.convert(Representation::Plain);
            other.join().unwrap();
            machine.verify(7);
            assert_eq!(machine.record.state().generation(), 2);
        });
    }

    /// The decoder marks, then reads; the writer writes, then looks for marks: a block with the old bytes
    /// does not keep a valid stamp.
    #[test]
    fn code_decoded_from_old_bytes_is_stale() {
        check(|| {
            let machine = Arc::new(Machine::default());
            let writer = thread::spawn({
                let machine = machine.clone();
                move || {
                    machine.host.store(1, Ordering::SeqCst);
                    announced();
                    machine.record.hit_code(1);
                }
            });
            let stamp = machine.record.code_stamp();
            machine.record.add_code_lines(1);
            let decoded = machine.host.load(Ordering::SeqCst);
            writer.join().unwrap();
            assert!(decoded == 1 || machine.record.code_stamp() != stamp);
        });
    }
}
