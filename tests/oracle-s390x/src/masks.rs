//! What the comparison leaves out, one entry with its reason each.
//!
//! An entry needs a citation: either the architecture leaves the result open, or QEMU 7.2 departs from the text.
//! A plain difference without one is a fault of the core until shown otherwise.

use crate::generate::Case;
use crate::harness::{End, Outcome};

/// Which part of a record an entry hides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The condition code.
    Condition,
    /// The storage window.
    Window,
    /// General registers.
    Registers,
    /// Everything: the case is not compared.
    All,
}

/// One reviewed exception.
pub struct Mask {
    /// Mnemonic of any instruction of the case, or `*`.
    pub name: &'static str,
    /// When it applies.
    pub when: fn(&Case, &Outcome) -> bool,
    /// What is hidden.
    pub part: Part,
    /// Why, with the place in the manual (SA22-7832) or the description of the departure.
    pub reason: &'static str,
}

/// The table.
pub const MASKS: &[Mask] = &[];

/// The entries that apply to a case, given the oracle's outcome.
pub fn applying<'a>(case: &'a Case, oracle: &'a Outcome) -> impl Iterator<Item = &'static Mask> + 'a {
    MASKS.iter().filter(|m| (m.name == "*" || case.names.contains(&m.name)) && (m.when)(case, oracle))
}

/// Whether the oracle reports this program interruption.
pub fn interrupted(outcome: &Outcome, codes: &[u16]) -> bool {
    matches!(outcome.end, End::Program { code, .. } if codes.contains(&code))
}
