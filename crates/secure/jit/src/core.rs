//! What a core supplies.

use std::sync::atomic::AtomicU32;

/// A CPU core with an interpreter.
///
/// Generated code calls these while the core runs; it holds no other reference to the core meanwhile.
pub trait Core: Sized {
    /// The decoded form of an instruction.
    type Op: crate::Operation;
    /// An entry of the translation lookaside buffer.
    type Slot;

    /// Executes one decoded instruction.
    fn step(&mut self, op: &Self::Op) -> Stepped;

    /// A fetch of 1, 2, 4 or 8 bytes that misses the buffer: the value in the guest's byte order, zero-extended, or
    /// nothing if the instruction traps.
    fn fetch(&mut self, address: u64, len: u8) -> Option<u64>;

    /// A store that misses the buffer.
    fn store(&mut self, address: u64, len: u8, value: u64) -> Stored;
}

/// How an instruction ended that the interpreter executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Stepped {
    /// Go on behind it.
    Next = 0,
    /// It has set the program counter.
    Jumped = 1,
    /// The block ends behind it.
    End = 2,
    /// Leave the core; the instruction is completed.
    Exit = 3,
    /// It was not completed.
    Trap = 4,
}

/// How a store ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Stored {
    /// Go on.
    Done = 0,
    /// It is done and may have changed the running code.
    Code = 1,
    /// It was not done.
    Trap = 2,
}

/// Where generated code finds a core's state. Each function names a field that lies inside the core itself.
pub struct Fields<C: Core> {
    /// General registers, 64 bits each.
    pub registers: fn(&C) -> &[u64; 16],
    /// Condition code.
    pub condition: fn(&C) -> &u8,
    /// Program counter, exact between blocks.
    pub counter: fn(&C) -> &u64,
    /// Address of the running block.
    pub block: fn(&C) -> &u64,
    /// Address of the last branch taken.
    pub breaking_event: fn(&C) -> &u64,
    /// Instructions executed, exact between blocks.
    pub executed: fn(&C) -> &u64,
    /// Instructions after which to leave the code.
    pub until: fn(&C) -> &u64,
    /// Something has to be looked at before the next block.
    pub recheck: fn(&C) -> &bool,
    /// A store has changed code.
    pub code_written: fn(&C) -> &bool,
    /// Part of each tag of the buffer.
    pub context: fn(&C) -> &u64,
    /// What besides the address decides about a block: the OR of these terms.
    pub mode: Vec<Term<C>>,
    /// Translation lookaside buffer.
    pub buffer: fn(&C) -> &Box<[C::Slot; 512]>,
    /// Pending requests of other CPUs.
    pub requests: fn(&C) -> &AtomicU32,
    /// Fields of an entry of the buffer.
    pub slot: SlotFields<C::Slot>,
}

/// A part of the mode of a block: `field >> right & mask << left`.
pub struct Term<C> {
    /// The field.
    pub field: fn(&C) -> &u64,
    /// By how much it is shifted to the right.
    pub right: u8,
    /// What counts of it then.
    pub mask: u64,
    /// By how much that is shifted to the left.
    pub left: u8,
}

/// Fields of an entry of the translation lookaside buffer.
pub struct SlotFields<S> {
    /// Tag for fetches.
    pub read: fn(&S) -> &u64,
    /// Tag for stores that nothing has to look at.
    pub write: fn(&S) -> &u64,
    /// Added to an address: offset in guest storage.
    pub addend: fn(&S) -> &u64,
}
