//! What the comparison leaves out, one entry with its reason each.
//!
//! An entry needs a citation: either the architecture leaves the result open, or QEMU 7.2 departs from the text.
//! A plain difference without one is a fault of the core until shown otherwise.

use crate::generate::Case;
use crate::harness::{End, Outcome};

/// Which part of a record an entry hides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// How the case ended, and the PSW.
    End,
    /// The condition code.
    Condition,
    /// The floating-point-control register, and the data-exception code of the interruption.
    FloatControl,
    /// The storage window.
    Window,
    /// Bits 0-31 of all general registers.
    UpperHalves,
    /// Bits 32-39 of all general registers.
    TopBytes,
    /// The address in the PSW.
    Address,
    /// Elements of the first operand behind the leftmost one, of a vector instruction with single-element control.
    OtherElements,
    /// Registers and the storage window; the interruption itself compares.
    Contents,
    /// Everything: the case is not compared.
    All,
}

/// One reviewed exception.
pub struct Mask {
    /// The mnemonics, of which the case has one; none means every case.
    pub names: &'static [&'static str],
    /// When it applies: case, QEMU's outcome, the core's outcome.
    pub when: fn(&Case, &Outcome, &Outcome) -> bool,
    /// What is hidden.
    pub part: Part,
    /// Why, with the place in the manual (SA22-7832) or the description of the departure.
    pub reason: &'static str,
}

/// Instructions that may end early with their progress in registers.
const INTERRUPTIBLE: &[&str] = &[
    "trtt", "trto", "trot", "troo", "mvcl", "clcl", "mvcle", "clcle", "mvclu", "clclu", "cksm", "tre",
    "srst", "srstu", "mvst", "clst",
];

/// The table.
pub const MASKS: &[Mask] = &[
    Mask {
        names: &[],
        when: |case, oracle, ours| {
            case.class != "sequence"
                && program(ours, &[8])
                && oracle.end == End::Normal
                && overflow_enabled(case)
        },
        part: Part::End,
        reason: "QEMU 7.2 never takes the fixed-point-overflow interruption that program-mask bit 20 allows (chapter 6 \
                 'Fixed-Point-Overflow Exception'): the operation is completed, so registers still compare",
    },
    Mask {
        names: &[],
        when: |case, _, ours| case.class == "sequence" && program(ours, &[8]) && overflow_enabled(case),
        part: Part::All,
        reason: "as above; the rest of the sequence runs under QEMU only",
    },
    Mask {
        names: &["la", "lay", "lae", "laey", "larl"],
        when: |case, _, _| !am64(case),
        part: Part::UpperHalves,
        reason: "chapter 7 'LOAD ADDRESS': bits 0-31 stay unchanged in the 24- and 31-bit modes; QEMU 7.2 clears them",
    },
    Mask {
        names: &["la", "lay", "lae", "laey", "larl"],
        when: |case, _, _| !am64(case) && case.class == "sequence",
        part: Part::All,
        reason: "as above; the rest of the sequence computes with those bits",
    },
    Mask {
        names: &["tprot"],
        when: |_, _, ours| program(ours, &[2]),
        part: Part::All,
        reason: "chapter 10 'TEST PROTECTION' is privileged; QEMU 7.2 executes it in the problem state",
    },
    Mask {
        names: INTERRUPTIBLE,
        when: |case, _, _| !am64(case),
        part: Part::TopBytes,
        reason: "the instructions' texts let bits 32-39 (bit 32) of an operand's address register be set to zeros or \
                 stay unchanged in the 24-bit (31-bit) mode, or differ in that; the core's own tests hold them",
    },
    Mask {
        names: &["tre", "clst", "mvst", "srst", "srstu"],
        when: |case, _, _| !am64(case),
        part: Part::UpperHalves,
        reason: "chapter 7: bits 0-31 of an address register stay unchanged outside the 64-bit mode; QEMU 7.2 clears \
                 them",
    },
    Mask {
        names: &[],
        when: |case, oracle, ours| access(oracle) && access(ours) && untouched(case, ours),
        part: Part::Contents,
        reason: "chapter 5 'Nullification' and 'Suppression': after an access exception the result fields are \
                 unchanged, as they are in the core; QEMU 7.2 leaves part of the stores or of the register behind",
    },
    Mask {
        names: &[],
        when: |case, oracle, ours| access(oracle) && access(ours) && case.class == "sequence",
        part: Part::Contents,
        reason: "as above; the sequence has changed other fields before",
    },
    Mask {
        names: INTERRUPTIBLE,
        when: |_, oracle, ours| access(oracle) && access(ours),
        part: Part::All,
        reason: "chapter 5 'Interruptible Instructions': how many units of operation precede an access exception is \
                 not defined, nor is the condition code of the interrupted instruction",
    },
    Mask {
        names: &["kimd", "klmd"],
        when: |_, oracle, ours| access(oracle) && access(ours),
        part: Part::All,
        reason: "chapter 7: how many blocks before an inaccessible one end with condition code 3, so that the exception \
                 comes with the next execution, is the CPU's choice; the core's own tests hold it",
    },
    Mask {
        names: &["clc", "clcl", "clcle", "clclu", "clst", "clm", "clmy", "clmh"],
        when: |case, oracle, ours| access(ours) && (oracle.end == End::Normal || case.class == "sequence"),
        part: Part::All,
        reason: "chapter 7: access exceptions may be recognised for a part of the operands beyond the first unequal \
                 byte",
    },
    Mask {
        names: &["stmh"],
        when: |case, _, _| case.class == "sequence",
        part: Part::All,
        reason: "as below; later instructions may load what it stored",
    },
    Mask {
        names: &[],
        when: |case, oracle, ours| {
            access(oracle) && access(ours) && untouched(case, ours) && case.class.contains("Ss")
        },
        part: Part::All,
        reason: "chapter 6 'Access Exceptions': with faults in both storage operands either may be reported",
    },
    Mask {
        names: &["lpd", "lpdg"],
        when: |_, oracle, ours| access(oracle) && program(ours, &[6]),
        part: Part::All,
        reason: "chapter 6 'Multiple Program-Interruption Conditions': a specification exception comes before access \
                 exceptions; QEMU 7.2 takes the first operand first",
    },
    Mask {
        names: &["cds", "cdsy", "cdsg"],
        when: |_, oracle, ours| program(ours, &[6]) && !program(oracle, &[6]),
        part: Part::All,
        reason: "chapter 7 'COMPARE DOUBLE AND SWAP': both register fields must be even; QEMU 7.2 accepts an odd r3",
    },
    Mask {
        names: &["stmh"],
        when: |_, _, _| true,
        part: Part::Window,
        reason: "chapter 7 'STORE MULTIPLE HIGH' stores bits 0-31; QEMU 7.2 stores zeros",
    },
    Mask {
        names: &[
            "llhrl", "lghrl", "lhrl", "llghrl", "sthrl", "lgrl", "stgrl", "lgfrl", "lrl", "llgfrl", "strl",
            "cghrl", "chrl", "clghrl", "clhrl", "cgrl", "clgrl", "cgfrl", "crl", "clgfrl", "clrl",
        ],
        when: |case, oracle, ours| {
            program(ours, &[6]) && (!program(oracle, &[6]) || case.class == "sequence")
        },
        part: Part::All,
        reason: "chapter 7, 'RELATIVE LONG' forms: an operand off its integral boundary is a specification exception; \
                 QEMU 7.2 accepts it",
    },
    Mask {
        names: &["clst", "mvst"],
        when: |case, oracle, ours| {
            !program(oracle, &[6]) && program(ours, &[6]) && case.state.gpr[0] & 0xffff_ff00 != 0
        },
        part: Part::All,
        reason: "chapter 7: bits 32-55 of general register 0 must be zeros; QEMU 7.2 does not check all of them",
    },
    Mask {
        names: &["srstu"],
        when: |case, oracle, ours| {
            oracle.end == End::Normal && program(ours, &[6]) && case.state.gpr[0] & 0xffff_0000 != 0
        },
        part: Part::All,
        reason: "chapter 7 'SEARCH STRING UNICODE': bits 32-47 of general register 0 must be zeros",
    },
    Mask {
        names: &["bic", "loc", "locg", "locfh", "stoc", "stocg", "stocfh"],
        when: |case, oracle, ours| access(oracle) && (ours.end == End::Normal || case.class == "sequence"),
        part: Part::All,
        reason: "chapter 7: whether the operand is accessed when the condition is not met is left to the model",
    },
    Mask {
        names: &["vlm"],
        when: |_, oracle, ours| access(oracle) && access(ours),
        part: Part::All,
        reason: "chapter 6 'Access Exceptions': of two pages of an operand that both fault either may be reported; QEMU \
                 7.2 begins with the last register",
    },
    Mask {
        names: &["vcksm"],
        when: |_, _, _| true,
        part: Part::All,
        reason: "chapter 22 'VECTOR CHECKSUM': the words of the second operand and word 1 of the third are added and \
                 carries come in at bit 31; QEMU 7.2 adds something else already to operands without any carry",
    },
    Mask {
        names: COMPARISONS,
        when: |case, oracle, ours| {
            case.class == "sequence" && (reads_flags(case) || program(ours, &[7]) && !program(oracle, &[7]))
        },
        part: Part::All,
        reason: "the same, where the invalid operation traps or a later instruction reads its flag",
    },
    Mask {
        names: CONVERSIONS,
        when: |case, _, _| case.class == "sequence" && reads_flags(case),
        part: Part::All,
        reason: "as in the entry for conversions below, where a later instruction reads the flags",
    },
    Mask {
        names: COMPARISONS,
        when: |case, oracle, ours| {
            case.class == "sequence"
                && oracle.state.fpc & !ours.state.fpc == 0
                && ours.state.fpc & !oracle.state.fpc & !0x0080_0000 == 0
        },
        part: Part::FloatControl,
        reason: "chapter 19 'COMPARE': a NaN may be an IEEE invalid operation; QEMU 7.2 leaves out a comparison whose \
                 condition code nobody reads",
    },
    Mask {
        names: CONVERSIONS,
        when: |_, _, ours| program(ours, &[7]) || ours.state.fpc & 0x0088_0000 == 0x0088_0000,
        part: Part::FloatControl,
        reason: "chapter 19 'CONVERT TO FIXED', 'CONVERT TO LOGICAL', results: a NaN turns on SFi and SFx, as what is out \
                 of range does, and the trap is PIDi(80); QEMU 7.2 leaves out SFx for a NaN and traps with 88 otherwise",
    },
    Mask {
        names: &["mdeb", "mdebr", "mxdb", "mxdbr"],
        when: |case, oracle, _| case.class == "sequence" || !access(oracle),
        part: Part::All,
        reason: "chapter 19 'MULTIPLY': to a longer format, both operands are in the shorter; QEMU 7.2 takes other bits of \
                 the first-operand register",
    },
    Mask {
        names: &["ltebr", "ltdbr", "ltxbr"],
        when: |_, _, ours| program(ours, &[7]) || ours.state.fpc & 0x0080_0000 != 0,
        part: Part::All,
        reason: "chapter 19 'LOAD AND TEST': a signaling NaN is an IEEE invalid operation; QEMU 7.2 moves it",
    },
    Mask {
        names: FUSED,
        when: |_, oracle, ours| only_nans(oracle, ours),
        part: Part::All,
        reason: "chapter 19 'MULTIPLY AND ADD', results: a signaling NaN comes before a quiet one, and infinity times zero \
                 before an addend that is one; QEMU 7.2 takes the first NaN of any kind",
    },
    Mask {
        names: VECTOR_FLOAT,
        when: |case, _, _| {
            case.class != "sequence" && (modifiers(case) & 8 != 0 || case.names.contains(&"vflr"))
        },
        part: Part::OtherElements,
        reason: "chapter 24, single-element control: what the other elements of the first operand (and the right \
                 half when VFLR rounds an extended operand) get is unpredictable; \
                 QEMU 7.2 leaves them in some instructions and clears them in others, as the core always does",
    },
    Mask {
        names: VECTOR_FLOAT,
        when: |case, _, ours| program(ours, &[0x1b]) && case.class != "sequence",
        part: Part::Address,
        reason: "chapter 6 'Vector-Processing Exception': the operation is suppressed, so that the old PSW designates the \
                 next instruction; QEMU 7.2 lets it designate the instruction itself",
    },
    Mask {
        names: &["vfi", "vflr", "vcfps", "vcfpl", "vcsfp", "vclfp"],
        when: |case, oracle, ours| {
            case.class != "sequence"
                && modifiers(case) & 4 != 0
                && oracle.state.fpc & !ours.state.fpc == 0x0008_0000
                && ours.state.fpc & !oracle.state.fpc == 0
        },
        part: Part::FloatControl,
        reason: "chapter 24, IEEE-inexact-exception control: with it the exception is not recognised, so that there is no \
                 flag; QEMU 7.2 leaves out the trap alone",
    },
    Mask {
        names: VECTOR_FLOAT,
        when: |case, _, _| !case.class.starts_with("VR"),
        part: Part::All,
        reason: "as above, in a sequence or under EXECUTE; later instructions may take such elements or the flags",
    },
    Mask {
        names: &["vcsfp", "vclfp"],
        when: |_, oracle, ours| {
            let missing = oracle.state.fpc ^ ours.state.fpc == 0x0008_0000;
            missing && ours.state.fpc & 0x0088_0000 == 0x0088_0000
        },
        part: Part::FloatControl,
        reason: "chapter 24: as in CONVERT TO FIXED above, a NaN turns on SFi and SFx",
    },
    Mask {
        names: &["vcsfp", "vclfp"],
        when: |case, oracle, ours| {
            vector_trap(ours, 5) && end_of(oracle) != end_of(ours) && case.class != "sequence"
        },
        part: Part::All,
        reason: "the same with a trap for inexact",
    },
    Mask {
        names: VECTOR_FLOAT,
        when: |_, oracle, ours| vector_trap(ours, 4) && end_of(oracle) != end_of(ours),
        part: Part::All,
        reason: "chapter 9 'IEEE Underflow': with the mask on a tiny result is an underflow even when it is exact; QEMU \
                 7.2 takes it for one when it is inexact",
    },
    Mask {
        names: &["vfnma", "vfnms"],
        when: |case, _, _| matches!(case.state.fpc & 7, 2 | 3),
        part: Part::All,
        reason: "chapter 24 'VECTOR FP NEGATIVE MULTIPLY AND ADD': the rounded sum changes its sign, as compilers rely on; \
                 QEMU 7.2 changes it before rounding, which shows when rounding is toward an infinity",
    },
];

/// A data or vector-processing exception for an invalid operation.
fn trapped(outcome: &Outcome) -> bool {
    matches!(outcome.end, End::Program { code: 7, dxc: 0x80, .. }) || vector_trap(outcome, 1)
}

/// A vector-processing exception of this kind.
fn vector_trap(outcome: &Outcome, kind: u8) -> bool {
    matches!(outcome.end, End::Program { code: 0x1b, dxc, .. } if dxc & 15 == kind)
}

/// The code and the data- or vector-exception code of an interruption.
fn end_of(outcome: &Outcome) -> Option<(u16, u8)> {
    match outcome.end {
        End::Program { code, dxc, .. } => Some((code, dxc)),
        _ => None,
    }
}

/// Vector instructions with single-element control.
const VECTOR_FLOAT: &[&str] = &[
    "vfa", "vfs", "vfm", "vfd", "vfsq", "vfma", "vfms", "vfnma", "vfnms", "vfi", "vfce", "vfch", "vfche",
    "vcfps", "vcfpl", "vcsfp", "vclfp", "vfll", "vflr", "vfpso", "vftci", "vfmax", "vfmin", "wfc", "wfk",
];

/// Bits 28-31 of the instruction: single-element control and inexact suppression.
fn modifiers(case: &Case) -> u8 {
    case.code.first().and_then(|(_, bytes)| bytes.get(3)).map_or(0, |byte| byte & 15)
}

/// From floating point to integers in general registers.
const CONVERSIONS: &[&str] = &[
    "cfebra", "cfdbra", "cfxbra", "cgebr", "cgdbr", "cgxbra", "clfebr", "clfdbr", "clfxbr", "clgebr",
    "clgdbr", "clgxbr",
];

/// Multiplication and addition with one rounding.
/// Whether a sequence takes the floating-point-control register into its results.
fn reads_flags(case: &Case) -> bool {
    case.names.iter().any(|name| matches!(*name, "efpc" | "stfpc"))
}

const COMPARISONS: &[&str] = &["ceb", "cebr", "cdb", "cdbr", "cxbr", "keb", "kebr", "kdb", "kdbr", "kxbr"];

const FUSED: &[&str] =
    &["maeb", "maebr", "madb", "madbr", "mseb", "msebr", "msdb", "msdbr", "vfma", "vfms", "vfnma", "vfnms"];

/// The entries that apply to a case.
pub fn applying<'a>(
    case: &'a Case,
    oracle: &'a Outcome,
    ours: &'a Outcome,
) -> impl Iterator<Item = &'static Mask> + 'a {
    MASKS.iter().filter(|m| {
        (m.names.is_empty() || case.names.iter().any(|n| m.names.contains(n))) && (m.when)(case, oracle, ours)
    })
}

/// Protection, addressing and translation exceptions.
fn access(outcome: &Outcome) -> bool {
    program(outcome, &[4, 5, 0x10, 0x11, 0x38, 0x39, 0x3a, 0x3b])
}

/// Whether a single instruction left everything as it was.
fn untouched(case: &Case, ours: &Outcome) -> bool {
    let (before, after) = (&case.state, &ours.state);
    case.class != "sequence"
        && before.gpr == after.gpr
        && before.ar == after.ar
        && before.vr == after.vr
        && before.window == after.window
}

/// Whether the results differ in NaNs alone, or the core traps for one.
fn only_nans(oracle: &Outcome, ours: &Outcome) -> bool {
    let infinity: [(u32, u128); 3] = [(32, 0xff << 23), (64, 0x7ff << 52), (128, 0x7fff << 112)];
    // A word that differs belongs to a NaN of one of the formats.
    let nan = |v: u128, word: u32| {
        infinity.iter().any(|(bits, infinity)| {
            let right = 128 - bits - word * 32 / bits * bits;
            v >> right << 1 << (128 - bits) > infinity << 1 << (128 - bits)
        })
    };
    let mut pairs = oracle.state.vr.iter().zip(&ours.state.vr);
    let control = oracle.state.fpc ^ ours.state.fpc;
    let equal = |q: u128, o: u128, word: u32| (q ^ o) << (32 * word) >> 96 == 0;
    let invalid = control == 0x0080_0000 && ours.state.fpc & control != 0;
    let flags = control == 0 || invalid;
    trapped(ours) || flags && pairs.all(|(q, o)| (0..4).all(|word| equal(*q, *o, word) || nan(*o, word)))
}

fn program(outcome: &Outcome, codes: &[u16]) -> bool {
    matches!(outcome.end, End::Program { code, .. } if codes.contains(&code))
}

/// PSW bit 20.
fn overflow_enabled(case: &Case) -> bool {
    case.state.mask & (1 << 43) != 0
}

fn am64(case: &Case) -> bool {
    case.state.mask & (1 << 32) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forms::forms;

    #[test]
    fn every_entry_has_a_reason_and_names_known_instructions() {
        let forms = forms();
        for mask in MASKS {
            assert!(mask.reason.len() > 10, "{:?}", mask.names);
            for name in mask.names {
                assert!(forms.iter().any(|f| f.name == *name), "{name}");
            }
        }
    }
}
