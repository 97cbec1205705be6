//! What an engine has counted of its own work, in words that both doors share.

use serde::{Deserialize, Serialize};

/// What an engine has counted since the guest began, all CPUs together.
///
/// Of a protected guest it is numbers alone: addresses and instructions were noted in the clear.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Blocks laid out for the interpreter.
    pub decoded: Translated,
    /// Blocks made machine code.
    pub compiled: Translated,
    /// Room for machine code, in bytes; 0: nothing is compiled.
    pub code_room: u64,
    /// How often all machine code was thrown away, because the room was used up or the guest's facilities changed.
    pub code_flushes: u64,
    /// Fills of translation buffers.
    pub tlb_fills: u64,
    /// Flushes of whole translation buffers.
    pub tlb_flushes: u64,
    /// Operation exceptions by instruction, the most frequent first.
    pub unknown: Vec<UnknownInstruction>,
    /// Where the guest spends its instructions, the most first; empty unless blocks were counted.
    pub hot: Vec<HotBlock>,
}

/// A kind of translation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Translated {
    /// Blocks.
    pub blocks: u64,
    /// Guest instructions in them.
    pub instructions: u64,
    /// Bytes of guest code.
    pub guest_bytes: u64,
    /// Bytes of the longest block.
    pub longest: u64,
    /// Bytes that the results took.
    pub host_bytes: u64,
    /// Time that it took; 0 unless it was measured.
    pub nanoseconds: u64,
}

/// An instruction that the guest executed and does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownInstruction {
    /// The bytes of the first one, by the length code; zeros behind.
    pub text: [u8; 6],
    /// Its name, if the engine knows it and the guest lacks the facility.
    pub mnemonic: Option<String>,
    /// How often it was executed.
    pub count: u64,
    /// Logical address of the first one.
    pub first: u64,
}

/// A block of instructions that was executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotBlock {
    /// Logical address.
    pub address: u64,
    /// In problem state.
    pub problem: bool,
    /// Bytes when it was first executed.
    pub length: u32,
    /// How often it was entered.
    pub executions: u64,
    /// Instructions executed in it, all entries together.
    pub instructions: u64,
    /// Its instructions by name.
    pub mnemonics: String,
}
