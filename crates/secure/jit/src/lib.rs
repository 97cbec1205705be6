//! The back end for hot guest code: host code built with Cranelift, and the only place that runs it.
//!
//! A core keeps its decoded form and its interpreter. It describes to an [`Emitter`] what a region of decoded blocks
//! does, operation by operation; whatever it does not describe is left to its interpreter, which the code calls. State
//! is always in the core's own registers whenever anything but the next operation could look at it, so that an
//! interruption is as precise as the interpreter's, and instruction counts are the same.
//!
//! | Piece | What it is |
//! |---|---|
//! | [`Translator`] | of a machine: translates regions on a thread of its own, keeps what became of them |
//! | [`Runner`] | of a CPU: runs code, and has a table that leads from code to code |
//! | [`Emitter`] | the vocabulary of a description |
//!
//! It knows no instruction set. It does not decide what is hot, and it decodes nothing.

mod arena;
mod chain;
mod core;
mod emit;
mod error;
mod run;
mod tlb;
mod translate;

pub use core::{At, Core, Fields, Stepped, Stored, Term};
pub use cranelift_codegen::ir;
pub use emit::{Block, Condition, Emitter, Operation, Region, Target};
pub use error::Error;
pub use run::{Left, Runner};
pub use tlb::{Context, SLOTS, Slot, Tlb};
pub use translate::{Code, Describe, ROOM, Statistics, Translator};
