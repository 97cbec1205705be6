//! What a core supplies.

use crate::tlb::{Context, Tlb};
use std::sync::atomic::AtomicU32;

/// A CPU core with an interpreter.
///
/// Generated code calls these while the core runs; it holds no other reference to the core meanwhile.
pub trait Core: Sized + 'static {
    /// The decoded form of an instruction.
    type Op: crate::Operation + Send + Sync;

    /// Executes one decoded instruction. Unless the answer is [`Stepped::Next`], the program counter and the count of
    /// instructions are right afterwards; a trapped instruction does not count, and the counter need not point to it.
    fn step(&mut self, at: At<'_, Self::Op>) -> Stepped;

    /// A fetch of 1, 2, 4 or 8 bytes that misses the buffer: the value in the guest's byte order, zero-extended, or
    /// nothing if the instruction traps (see [`step`](Self::step)).
    fn fetch(&mut self, at: At<'_, Self::Op>, address: u64, len: u8) -> Option<u64>;

    /// A store that misses the buffer. Unless the answer is [`Stored::Done`], as for [`step`](Self::step).
    fn store(&mut self, at: At<'_, Self::Op>, address: u64, len: u8, value: u64) -> Stored;
}

/// The place of an operation.
#[derive(Clone, Copy)]
pub struct At<'a, O> {
    /// The operation.
    pub op: &'a O,
    /// Address of its block.
    pub block: u64,
    /// Instructions executed before it.
    pub executed: u64,
}

/// How an instruction ended that the interpreter executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// Go on behind it.
    Next,
    /// The block ends; go on at the program counter.
    Leave,
    /// Leave the core; the instruction is completed.
    Exit,
    /// It was not completed.
    Trap,
}

/// How a store ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Go on.
    Done,
    /// The instruction is completed and may have changed the running code; go on at the program counter.
    Code,
    /// It was not done.
    Trap,
}

/// Where generated code finds a core's state. Each function names a field that lies inside the core itself.
pub struct Fields<C: Core> {
    /// General registers, 64 bits each.
    pub registers: fn(&C) -> &[u64; 16],
    /// Condition code.
    pub condition: fn(&C) -> &u8,
    /// Program counter, exact between blocks.
    pub counter: fn(&C) -> &u64,
    /// Address of the last branch taken.
    pub breaking_event: fn(&C) -> &u64,
    /// Instructions executed, exact between blocks.
    pub executed: fn(&C) -> &u64,
    /// Instructions after which to leave the code.
    pub until: fn(&C) -> &u64,
    /// Something has to be looked at before the next block.
    pub recheck: fn(&C) -> &bool,
    /// Part of each tag of the buffer.
    pub context: fn(&C) -> &Context,
    /// What besides the address decides about a block: the OR of these terms.
    pub mode: Vec<Term<C>>,
    /// A field, and the bit of it that makes an overflow trap.
    pub overflow_traps: (fn(&C) -> &u64, u64),
    /// Translation lookaside buffer.
    pub buffer: fn(&C) -> &Tlb,
    /// Pending requests of other CPUs.
    pub requests: fn(&C) -> &AtomicU32,
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
