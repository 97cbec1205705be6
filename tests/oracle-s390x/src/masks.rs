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
    /// The storage window.
    Window,
    /// Bits 0-31 of all general registers.
    UpperHalves,
    /// Bits 32-39 of all general registers.
    TopBytes,
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
];

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
        && before.window == after.window
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
