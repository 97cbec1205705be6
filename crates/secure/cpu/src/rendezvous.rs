//! How other threads reach a CPU: request bits, flushes with acknowledgement, and waiting.
//!
//! A CPU is *running* between [`CpuRendezvous::enter`] and [`CpuRendezvous::leave`], else *quiescent*. Only a
//! running CPU may hold offsets into guest storage. Whoever requests a flush waits until each named CPU has
//! acknowledged or is quiescent; a quiescent CPU finds the request when it runs again, before its next
//! access. A CPU that itself waits here is quiescent meanwhile, so two CPUs that flush each other do not
//! wait for ever; in exchange it holds no offset across such a wait.
//!
//! This is not a scheduler: it starts no thread and decides no order.

use std::sync::Arc;
use std::time::Duration;

use crate::sync::{AtomicU32, AtomicU64, Condvar, Mutex, Ordering};

/// The request bits of a CPU. Bits from [`FIRST_FREE`](request::FIRST_FREE) on belong to the core.
pub mod request {
    /// Leave the run loop and look around.
    pub const KICK: u32 = 1;
    /// Translations must be flushed and acknowledged: [`CpuRendezvous::acknowledge`](super::CpuRendezvous).
    pub const FLUSH: u32 = 2;
    /// An interruption may have become pending.
    pub const INTERRUPT: u32 = 4;
    /// Stop executing and return to whoever runs the CPU.
    pub const STOP: u32 = 8;
    /// The first bit of the core's own requests.
    pub const FIRST_FREE: u32 = 1 << 8;
}

/// What a CPU has to flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flush {
    /// Translations to this page of storage.
    Page(u64),
    /// All translations.
    All,
}

/// The rendezvous of one virtual machine's CPUs.
///
/// As a [`Shootdown`](cloister_memory::Shootdown) it serves threads that are not CPUs of this machine; a CPU
/// uses its [`CpuRendezvous`].
pub struct Rendezvous {
    slots: Box<[Arc<Slot>]>,
}

/// One CPU's side of the rendezvous.
#[derive(Clone)]
pub struct CpuRendezvous {
    all: Arc<Rendezvous>,
    slot: Arc<Slot>,
    cpu: u32,
}

impl Rendezvous {
    /// A rendezvous of CPUs numbered from 0, all quiescent.
    pub fn new(cpus: u32) -> Arc<Self> {
        Arc::new(Self { slots: (0..cpus).map(|_| Arc::new(Slot::new())).collect() })
    }

    /// The side of one CPU; `None` if there is no such CPU.
    pub fn cpu(self: &Arc<Self>, cpu: u32) -> Option<CpuRendezvous> {
        let slot = Arc::clone(self.slots.get(cpu as usize)?);
        Some(CpuRendezvous { all: Arc::clone(self), slot, cpu })
    }

    /// Sets request bits of a CPU and wakes it if it waits. A number without a CPU is ignored.
    pub fn request(&self, cpu: u32, bits: u32) {
        if let Some(slot) = self.slots.get(cpu as usize) {
            slot.requests.fetch_or(bits, Ordering::SeqCst);
            // The lock makes sure that a CPU about to wait either sees the bits or hears the call.
            drop(slot.lock());
            slot.changed.notify_all();
        }
    }

    /// Sets request bits of all CPUs.
    pub fn request_all(&self, bits: u32) {
        for cpu in 0..self.slots.len() as u32 {
            self.request(cpu, bits);
        }
    }

    /// Requests a flush of the CPUs in the mask (by [`cloister_memory::cpu_bit`]) and waits until none of
    /// them uses what is flushed. For threads that are not CPUs of this machine.
    pub fn flush(&self, cpus: u64, flush: Flush) {
        self.flush_as(None, cpus, flush);
    }

    fn flush_as(&self, me: Option<u32>, cpus: u64, flush: Flush) {
        let mut running = Vec::new();
        for (cpu, slot) in (0..).zip(&self.slots) {
            if cpus & cloister_memory::cpu_bit(cpu) == 0 {
                continue;
            }
            let ticket = slot.queue(flush);
            if me != Some(cpu) {
                running.extend(ticket.map(|ticket| (slot, ticket)));
            }
        }
        if running.is_empty() {
            return;
        }
        let wait = || running.iter().for_each(|(slot, ticket)| slot.wait_for(*ticket));
        match me.and_then(|cpu| self.slots.get(cpu as usize)) {
            Some(slot) => slot.while_quiescent(wait),
            None => wait(),
        }
    }
}

impl CpuRendezvous {
    /// The number of this CPU.
    pub fn number(&self) -> u32 {
        self.cpu
    }

    /// The rendezvous of all CPUs.
    pub fn all(&self) -> &Arc<Rendezvous> {
        &self.all
    }

    /// From now on this CPU may hold offsets into storage and acknowledges flushes. Yields the pending
    /// requests; a pending flush is to be acknowledged before the first access.
    pub fn enter(&self) -> u32 {
        self.slot.set_running(true);
        self.slot.requests.load(Ordering::SeqCst)
    }

    /// This CPU holds no offset into storage until it enters again.
    pub fn leave(&self) {
        self.slot.set_running(false);
    }

    /// Where the pending requests are, for generated code to look at.
    #[cfg(not(loom))]
    pub fn requests(&self) -> &AtomicU32 {
        &self.slot.requests
    }

    /// The pending requests: one relaxed load, for every block of code.
    #[inline(always)]
    pub fn check(&self) -> u32 {
        self.slot.requests.load(Ordering::Relaxed)
    }

    /// Takes requests that the CPU is about to serve, and yields which of `bits` were set. A flush is taken
    /// by [`acknowledge`](Self::acknowledge) only.
    pub fn take(&self, bits: u32) -> u32 {
        let bits = bits & !request::FLUSH;
        self.slot.requests.fetch_and(!bits, Ordering::SeqCst) & bits
    }

    /// Serves pending flushes: calls `flush` for each, then tells those who wait.
    pub fn acknowledge(&self, mut flush: impl FnMut(Flush)) {
        let (queue, ticket) = {
            let mut state = self.slot.lock();
            self.slot.requests.fetch_and(!request::FLUSH, Ordering::SeqCst);
            (std::mem::take(&mut state.queue), state.wanted)
        };
        if queue.all {
            flush(Flush::All);
        } else {
            queue.pages[..queue.len].iter().for_each(|&page| flush(Flush::Page(page)));
        }
        let state = self.slot.lock();
        self.slot.done.fetch_max(ticket, Ordering::SeqCst);
        drop(state);
        self.slot.changed.notify_all();
    }

    /// Waits, quiescent, until there is a request other than a flush or the time is over; yields the
    /// pending requests.
    pub fn wait(&self, timeout: Option<Duration>) -> u32 {
        self.slot.wait_for_request(timeout);
        self.slot.requests.load(Ordering::SeqCst)
    }

    /// Requests a flush of CPUs and waits for them, being quiescent meanwhile. If this CPU is in the mask it
    /// does not wait for itself: the request stays pending until its next acknowledgement.
    pub fn flush(&self, cpus: u64, flush: Flush) {
        self.all.flush_as(Some(self.cpu), cpus, flush);
    }

    /// Does something that may block (a lock, another CPU's conversion) while quiescent. Offsets into
    /// storage held before are void after it.
    pub fn while_quiescent<T>(&self, work: impl FnOnce() -> T) -> T {
        self.slot.while_quiescent(work)
    }
}

#[cfg(not(loom))]
impl cloister_memory::Shootdown for Rendezvous {
    fn flush_page(&self, cpus: u64, page: u64) {
        self.flush(cpus, Flush::Page(page));
    }
}

#[cfg(not(loom))]
impl cloister_memory::Shootdown for CpuRendezvous {
    fn flush_page(&self, cpus: u64, page: u64) {
        self.flush(cpus, Flush::Page(page));
    }

    fn pause(&self) {
        self.while_quiescent(std::thread::yield_now);
    }
}

/// What is kept per CPU.
struct Slot {
    requests: AtomicU32,
    /// The last flush acknowledged; written under the lock.
    done: AtomicU64,
    /// 1 while running; written under the lock.
    running: AtomicU32,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The last flush requested.
    wanted: u64,
    queue: Queue,
}

/// Flushes not yet served. More pages than fit become a flush of everything.
#[derive(Default)]
struct Queue {
    pages: [u64; QUEUE],
    len: usize,
    all: bool,
}

impl Slot {
    fn new() -> Self {
        Self {
            requests: AtomicU32::new(0),
            done: AtomicU64::new(0),
            running: AtomicU32::new(0),
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        }
    }

    #[cfg(not(loom))]
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // No code that can panic runs under the lock, so a poisoned one is still consistent.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    #[cfg(loom)]
    fn lock(&self) -> loom::sync::MutexGuard<'_, State> {
        self.state.lock().expect("loom's locks are not poisoned")
    }

    /// Queues a flush; yields the ticket to wait for if the CPU is running.
    fn queue(&self, flush: Flush) -> Option<u64> {
        let mut state = self.lock();
        state.wanted += 1;
        state.queue.push(flush);
        self.requests.fetch_or(request::FLUSH, Ordering::SeqCst);
        (self.running.load(Ordering::SeqCst) != 0).then_some(state.wanted)
    }

    fn served(&self, ticket: u64) -> bool {
        self.running.load(Ordering::SeqCst) == 0 || self.done.load(Ordering::SeqCst) >= ticket
    }

    fn wait_for(&self, ticket: u64) {
        #[cfg(not(loom))]
        for _ in 0..SPINS {
            if self.served(ticket) {
                return;
            }
            std::hint::spin_loop();
        }
        let mut state = self.lock();
        while !self.served(ticket) {
            state = self.sleep(state, None);
        }
    }

    fn set_running(&self, running: bool) {
        let state = self.lock();
        self.running.store(running.into(), Ordering::SeqCst);
        drop(state);
        if !running {
            self.changed.notify_all();
        }
    }

    fn while_quiescent<T>(&self, work: impl FnOnce() -> T) -> T {
        let was_running = self.running.load(Ordering::SeqCst) != 0;
        self.set_running(false);
        let result = work();
        self.set_running(was_running);
        result
    }

    fn wait_for_request(&self, timeout: Option<Duration>) {
        let wake = |slot: &Self| slot.requests.load(Ordering::SeqCst) & !request::FLUSH != 0;
        #[cfg(not(loom))]
        let deadline = timeout.and_then(|timeout| std::time::Instant::now().checked_add(timeout));
        self.while_quiescent(|| {
            let mut state = self.lock();
            while !wake(self) {
                #[cfg(not(loom))]
                let left = match deadline {
                    Some(deadline) => {
                        let left = deadline.saturating_duration_since(std::time::Instant::now());
                        if left.is_zero() {
                            break;
                        }
                        Some(left)
                    }
                    None => None,
                };
                #[cfg(loom)]
                let left = timeout;
                state = self.sleep(state, left);
            }
        });
    }

    #[cfg(not(loom))]
    fn sleep<'a>(
        &self,
        state: std::sync::MutexGuard<'a, State>,
        timeout: Option<Duration>,
    ) -> std::sync::MutexGuard<'a, State> {
        match timeout {
            Some(timeout) => match self.changed.wait_timeout(state, timeout) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            },
            None => self.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner()),
        }
    }

    #[cfg(loom)]
    fn sleep<'a>(
        &self,
        state: loom::sync::MutexGuard<'a, State>,
        _timeout: Option<Duration>,
    ) -> loom::sync::MutexGuard<'a, State> {
        self.changed.wait(state).expect("loom's locks are not poisoned")
    }
}

impl Queue {
    fn push(&mut self, flush: Flush) {
        match flush {
            Flush::Page(page) if self.pages[..self.len].contains(&page) => {}
            Flush::Page(page) if self.len < QUEUE => {
                self.pages[self.len] = page;
                self.len += 1;
            }
            Flush::Page(_) | Flush::All => self.all = true,
        }
    }
}

const QUEUE: usize = 8;
/// Rounds of busy waiting before a flush sleeps: the other CPU is usually at its next block at once.
#[cfg(not(loom))]
const SPINS: u32 = 2000;

/// Model-checked with `RUSTFLAGS="--cfg loom" cargo test -p cloister-cpu --lib --release`.
#[cfg(all(test, loom))]
mod model {
    use loom::thread;

    use super::*;

    fn check(test: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(test);
    }

    /// A page that is converted once; a CPU that uses a translation of it must see it unconverted.
    struct Page {
        converting: AtomicU32,
        version: AtomicU32,
    }

    impl Page {
        fn new() -> Arc<Self> {
            Arc::new(Self { converting: AtomicU32::new(0), version: AtomicU32::new(0) })
        }

        fn compute(&self, cpu: &CpuRendezvous, translation: &mut Option<u32>) {
            if cpu.check() & request::FLUSH != 0 {
                cpu.acknowledge(|_| *translation = None);
            }
            if translation.is_none() && self.converting.load(Ordering::SeqCst) == 0 {
                *translation = Some(self.version.load(Ordering::SeqCst));
            }
            if let Some(version) = *translation {
                assert_eq!(self.version.load(Ordering::SeqCst), version, "used after the flush");
            }
        }

        fn convert(&self, flush: impl FnOnce()) {
            self.converting.store(1, Ordering::SeqCst);
            flush();
            self.version.store(1, Ordering::SeqCst);
            self.converting.store(0, Ordering::SeqCst);
        }
    }

    #[test]
    fn nothing_flushed_is_used_after_the_flush_has_returned() {
        check(|| {
            let (rendezvous, page) = (Rendezvous::new(1), Page::new());
            let thread = thread::spawn({
                let (cpu, page) = (rendezvous.cpu(0).unwrap(), page.clone());
                move || {
                    let mut translation = None;
                    for _ in 0..2 {
                        cpu.enter();
                        page.compute(&cpu, &mut translation);
                        cpu.leave();
                    }
                }
            });
            page.convert(|| rendezvous.flush(1, Flush::Page(0)));
            thread.join().unwrap();
        });
    }

    #[test]
    fn two_cpus_that_flush_each_other_both_go_on() {
        check(|| {
            let rendezvous = Rendezvous::new(2);
            let run = |number: u32| {
                let cpu = rendezvous.cpu(number).unwrap();
                move || {
                    cpu.enter();
                    cpu.flush(0b11, Flush::All);
                    let mut flushed = false;
                    cpu.acknowledge(|_| flushed = true);
                    assert!(flushed, "its own flush was pending");
                    cpu.leave();
                }
            };
            let (first, second) = (thread::spawn(run(0)), run(1));
            second();
            first.join().unwrap();
        });
    }

    #[test]
    fn a_request_is_never_slept_through() {
        check(|| {
            let rendezvous = Rendezvous::new(1);
            let thread = thread::spawn({
                let cpu = rendezvous.cpu(0).unwrap();
                move || assert_eq!(cpu.wait(None), request::INTERRUPT)
            });
            rendezvous.request(0, request::INTERRUPT);
            thread.join().unwrap();
        });
    }
}
