//! The decoded form of an instruction and what executing one can answer.

use crate::cpu::Cpu;

/// What the block loop does after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Go on with the next instruction of the block.
    Next,
    /// The PSW address has been set; leave the block and continue there.
    Jump,
    /// Leave the block behind this instruction (masks, modes or code may have changed); the PSW address
    /// is set by the loop.
    End,
    /// Leave the core: `Cpu::exit` holds the reason, the PSW address points behind the instruction.
    Exit,
}

/// An instruction that was nullified or suppressed: `Cpu::trap` holds the program interruption.
/// The architected state is unchanged, except where the architecture says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trap;

/// Answer of an instruction.
pub(crate) type Step = Result<Flow, Trap>;

/// Executes one instruction.
pub(crate) type Exec = fn(&mut Cpu, &Op) -> Step;

/// One decoded instruction. Unused fields are zero.
#[derive(Clone, Copy)]
pub(crate) struct Op {
    /// The handler.
    pub(crate) exec: Exec,
    /// Displacement (12 bits unsigned or 20 bits signed), immediate (sign- or zero-extended as the
    /// format says), or relative offset in *bytes*.
    pub(crate) imm: i64,
    /// Second displacement (SS, SIL) or further immediates (I2-I5 of RIE/RIS, M3/M4, L1/L2), by format.
    pub(crate) aux: u32,
    /// First register field (R1, M1, V1 or L of SS).
    pub(crate) r1: u8,
    /// Second register field (R2, R3 of RS, B2's partner by format).
    pub(crate) r2: u8,
    /// Index register (X2), or R3 of RRF/SS.
    pub(crate) x: u8,
    /// Base register of the (first) storage operand.
    pub(crate) b: u8,
    /// Base register of the second storage operand (SS).
    pub(crate) b2: u8,
    /// Length in bytes: 2, 4 or 6.
    pub(crate) len: u8,
    /// Offset of the instruction from the start of its block, in bytes.
    pub(crate) offset: u16,
    /// Index into the instruction table (for messages and coverage).
    pub(crate) entry: u16,
}

/// Instruction formats (SA22-7832, chapter 5, "Instruction Formats").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::upper_case_acronyms, reason = "the names are the architecture's")]
pub(crate) enum Format {
    E,
    I,
    RR,
    RRD,
    RRE,
    RRFa,
    RRFb,
    RRFc,
    RRFe,
    RX,
    RXb,
    RXE,
    RXF,
    RXYa,
    RXYb,
    RSa,
    RSb,
    RSI,
    RSL,
    RSYa,
    RSYb,
    RIa,
    RIb,
    RIc,
    RILa,
    RILb,
    RILc,
    RIEa,
    RIEb,
    RIEc,
    RIEd,
    RIEe,
    RIEf,
    RIEg,
    RIS,
    RRS,
    SI,
    SIY,
    SIL,
    S,
    SSa,
    SSb,
    SSc,
    SSd,
    SSe,
    SSf,
    SSE,
    SSF,
    IE,
    VRIa,
    VRIb,
    VRIc,
    VRId,
    VRIe,
    VRIf,
    VRIg,
    VRIh,
    VRIi,
    VRRa,
    VRRb,
    VRRc,
    VRRd,
    VRRe,
    VRRf,
    VRRg,
    VRRh,
    VRRi,
    VRSa,
    VRSb,
    VRSc,
    VRSd,
    VRV,
    VRX,
    VSI,
    MII,
    SMI,
}

/// One row of the instruction table.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    /// Opcode as `(first byte << 8) | second selector`: for formats whose opcode is one byte the low half
    /// is zero; for `01 b2 b3 b9 e5` it is byte 1; for `e3 e6 e7 eb ec ed` byte 5; for `a5 a7 c0 c2 c4 c6 c8
    /// cc` the low nibble of byte 1.
    pub(crate) code: u16,
    /// Mnemonic, lower case, as the Principles of Operation write it.
    pub(crate) mnemonic: &'static str,
    /// Operand layout.
    pub(crate) format: Format,
    /// Facility that must be installed, else the opcode is invalid; 0 = always there.
    pub(crate) facility: u16,
    /// Problem state gets a privileged-operation exception before anything else.
    pub(crate) privileged: bool,
    /// The block ends behind this instruction (branches, mode changes, interruption enablement).
    pub(crate) ends_block: bool,
    /// The handler.
    pub(crate) exec: Exec,
}
