//! Running code: the only way into it, and the ways out of it into the core.

use crate::chain::Table;
use crate::core::{At, Core, Stepped, Stored};
use crate::emit::{BETWEEN, EXIT, GO};
use crate::translate::{Code, Generation, Translator};
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// How host code was left.
#[derive(Clone, Copy, Debug)]
pub enum Left<'a, O> {
    /// Between two blocks: there is something to look at, or no code for what follows.
    Between,
    /// An instruction asks to leave the core; it is completed.
    Exit,
    /// An instruction was not completed.
    Trap(&'a O),
}

/// A CPU's way to run code.
pub struct Runner<C: Core> {
    translator: Arc<Translator<C>>,
    /// While the CPU may run code: it keeps the arena.
    generation: Option<Arc<Generation<C::Op>>>,
    /// Whose code the table has.
    number: u32,
    table: Table,
}

impl<C: Core> Runner<C> {
    /// A CPU that runs what `translator` translates.
    pub fn new(translator: &Arc<Translator<C>>) -> Self {
        Self { translator: Arc::clone(translator), generation: None, number: 0, table: Table::new() }
    }

    /// Whether code may still be run. What a new generation has replaced is forgotten.
    #[inline]
    pub fn knows(&mut self, code: Code) -> bool {
        if self.generation.is_none() || self.translator.number.load(Ordering::Relaxed) != self.number {
            self.renew();
        }
        code.generation == self.number
    }

    #[cold]
    fn renew(&mut self) {
        let generation = self.translator.generation();
        if generation.number != self.number {
            self.number = generation.number;
            self.table.clear();
        }
        self.generation = Some(generation);
    }

    /// The CPU waits: it does not keep code that nobody else needs.
    pub fn rest(&mut self) {
        self.generation = None;
    }

    /// Forgets which code is for which address.
    pub fn forget(&mut self) {
        self.table.clear();
    }

    /// Runs code for `address` in `mode`, where the program counter is, and whatever code it leads to. Code that
    /// [`knows`](Self::knows) does not confirm is not run.
    pub fn run(&mut self, core: &mut C, code: Code, address: u64, mode: u64) -> Left<'_, C::Op> {
        // Code reaches storage by addresses.
        if (self.translator.fields.buffer)(core).storage() != self.translator.place {
            return Left::Between;
        }
        let Some(generation) = self.generation.as_ref().filter(|now| now.number == code.generation) else {
            return Left::Between;
        };
        self.table.set(address, mode, code);
        let requests: *const AtomicU32 = (self.translator.fields.requests)(core);
        // SAFETY: `enter` is the address of the stub that was made with this signature; it lies in the arena, which
        // lives as long as the generation.
        let enter: extern "C" fn(*const AtomicU32, *const c_void, u64, usize, *mut C) -> usize =
            unsafe { std::mem::transmute(generation.enter) };
        match enter(requests, self.table.pointer(), u64::from(code.entry), code.address, core) {
            BETWEEN => Left::Between,
            EXIT => Left::Exit,
            // SAFETY: code answers with nothing else but the address of an operation of its region, which the arena
            // keeps.
            op => Left::Trap(unsafe { &*(op as *const C::Op) }),
        }
    }
}

/// Addresses of the functions that code calls.
pub(crate) struct Helpers {
    pub(crate) step: usize,
    /// By binary logarithm of the length.
    pub(crate) fetch: [usize; 4],
    pub(crate) store: [usize; 4],
}

impl Helpers {
    pub(crate) fn of<C: Core>() -> Self {
        Self {
            step: step::<C> as *const () as usize,
            fetch: [
                fetch::<C, 1> as *const () as usize,
                fetch::<C, 2> as *const () as usize,
                fetch::<C, 4> as *const () as usize,
                fetch::<C, 8> as *const () as usize,
            ],
            store: [
                store::<C, 1> as *const () as usize,
                store::<C, 2> as *const () as usize,
                store::<C, 4> as *const () as usize,
                store::<C, 8> as *const () as usize,
            ],
        }
    }
}

/// What code does next, as all of these answer: 0, or how it is left.
///
/// SAFETY (for callers): `core` is the core that the code was entered with, and nobody else uses it; `op` is an
/// operation of the running region. Both are so in code that [`Emitter`](crate::Emitter) makes.
unsafe extern "C" fn step<C: Core>(core: *mut C, op: *const C::Op, block: u64, executed: u64) -> u64 {
    // SAFETY: as above.
    let (core, at) = unsafe { (&mut *core, At { op: &*op, block, executed }) };
    match core.step(at) {
        Stepped::Next => 0,
        Stepped::Leave => GO as u64,
        Stepped::Exit => EXIT as u64,
        Stepped::Trap => op.addr() as u64,
    }
}

/// A value, and whether there is none.
#[repr(C)]
struct Fetched {
    value: u64,
    trapped: u64,
}

/// SAFETY (for callers): as for [`step`].
unsafe extern "C" fn fetch<C: Core, const LEN: u8>(
    core: *mut C,
    op: *const C::Op,
    block: u64,
    executed: u64,
    address: u64,
) -> Fetched {
    // SAFETY: as above.
    let (core, at) = unsafe { (&mut *core, At { op: &*op, block, executed }) };
    match core.fetch(at, address, LEN) {
        Some(value) => Fetched { value, trapped: 0 },
        None => Fetched { value: 0, trapped: 1 },
    }
}

/// SAFETY (for callers): as for [`step`].
unsafe extern "C" fn store<C: Core, const LEN: u8>(
    core: *mut C,
    op: *const C::Op,
    block: u64,
    executed: u64,
    address: u64,
    value: u64,
) -> u64 {
    // SAFETY: as above.
    let (core, at) = unsafe { (&mut *core, At { op: &*op, block, executed }) };
    match core.store(at, address, LEN, value) {
        Stored::Done => 0,
        Stored::Code => GO as u64,
        Stored::Trap => op.addr() as u64,
    }
}
