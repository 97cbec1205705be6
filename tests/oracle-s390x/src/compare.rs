//! Record against record, and the coverage table.
//!
//! A difference names the field, what the oracle has and what the core has; it never judges who is right.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::generate::{Case, hex};
use crate::harness::{End, Outcome, WINDOW_LEN};
use crate::masks::{Part, applying};

/// PSW bits that a record compares: everything but the reserved ones.
const CONDITION: u64 = 3 << 44;

/// What the comparison of one case says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All compared fields agree.
    Same,
    /// The core raised an operation exception for what the oracle executes.
    Unimplemented,
    /// The other way round: QEMU lacks the instruction, so there is nothing to compare with.
    NoOracle,
    /// The fields that differ, one line each.
    Different(Vec<String>),
}

/// Compares the two outcomes of a case.
pub fn compare(case: &Case, oracle: &Outcome, ours: &Outcome) -> Verdict {
    let hidden: Vec<Part> = applying(case, oracle, ours).map(|m| m.part).collect();
    if hidden.contains(&Part::All) {
        return Verdict::Same;
    }
    let operation = |o: &Outcome| matches!(o.end, End::Program { code: 1, .. });
    if operation(ours) && !operation(oracle) {
        return Verdict::Unimplemented;
    }
    if operation(oracle) && !operation(ours) {
        return Verdict::NoOracle;
    }
    // Each stopped at an instruction of its own that it lacks.
    if operation(oracle) && case.class == "sequence" && oracle.state.address != ours.state.address {
        return Verdict::NoOracle;
    }
    let mut out = Vec::new();
    let (q, o) = (&oracle.state, &ours.state);
    if !hidden.contains(&Part::End) {
        if !same_end(&oracle.end, &ours.end, hidden.contains(&Part::FloatControl)) {
            out.push(format!("end: QEMU {}, ours {}", end(&oracle.end), end(&ours.end)));
        }
        let ignore = if hidden.contains(&Part::Condition) { CONDITION } else { 0 };
        if (q.mask ^ o.mask) & !ignore != 0 {
            let (m, n) = (q.mask, o.mask);
            out.push(format!("psw mask: QEMU {m:016x} cc {}, ours {n:016x} cc {}", cc(m), cc(n)));
        }
        if q.address != o.address && !hidden.contains(&Part::Address) {
            out.push(format!("psw address: QEMU {:x}, ours {:x}", q.address, o.address));
        }
    }
    if hidden.contains(&Part::Contents) {
        return if out.is_empty() { Verdict::Same } else { Verdict::Different(out) };
    }
    let mut ignore = 0;
    if hidden.contains(&Part::UpperHalves) {
        ignore |= 0xffff_ffff_0000_0000;
    }
    if hidden.contains(&Part::TopBytes) {
        ignore |= 0xff00_0000;
    }
    for n in 0..16 {
        if (q.gpr[n] ^ o.gpr[n]) & !ignore != 0 {
            out.push(format!("r{n}: QEMU {:016x}, ours {:016x}", q.gpr[n], o.gpr[n]));
        }
    }
    for n in 0..16 {
        if q.ar[n] != o.ar[n] {
            out.push(format!("a{n}: QEMU {:08x}, ours {:08x}", q.ar[n], o.ar[n]));
        }
    }
    for n in 0..32 {
        let mut differ = q.vr[n] ^ o.vr[n];
        if hidden.contains(&Part::OtherElements) {
            differ &= leftmost(case, n);
        }
        if differ != 0 {
            out.push(format!("v{n}: QEMU {:032x}, ours {:032x}", q.vr[n], o.vr[n]));
        }
    }
    if q.fpc != o.fpc && !hidden.contains(&Part::FloatControl) {
        out.push(format!("fpc: QEMU {:08x}, ours {:08x}", q.fpc, o.fpc));
    }
    if !hidden.contains(&Part::Window) && q.window != o.window {
        let first = (0..WINDOW_LEN).find(|i| q.window[*i] != o.window[*i]).unwrap_or(0);
        let last = (0..WINDOW_LEN).rev().find(|i| q.window[*i] != o.window[*i]).unwrap_or(0);
        let end = (last + 1).min(first + 32);
        out.push(format!(
            "window+{first:#x}..={last:#x}: QEMU {}, ours {}, before {}; ended {}",
            hex(&q.window[first..end]),
            hex(&o.window[first..end]),
            hex(&case.state.window[first..end]),
            self::end(&oracle.end)
        ));
    }
    if out.is_empty() { Verdict::Same } else { Verdict::Different(out) }
}

/// The case in words: instructions and every register they name.
pub fn explain(case: &Case, seed: u64) -> String {
    let s = &case.state;
    let mut out = String::new();
    let _ = writeln!(out, "seed {seed} case {}: {}", case.number, case.text.join("; "));
    let _ = writeln!(out, "  psw {:016x} {:016x} (cc {}) fpc {:08x}", s.mask, s.address, cc(s.mask), s.fpc);
    for row in 0..4 {
        let line: Vec<String> = (4 * row..4 * row + 4).map(|n| format!("r{n}={:016x}", s.gpr[n])).collect();
        let _ = writeln!(out, "  {}", line.join(" "));
    }
    let floating = |n: &&str| n.ends_with("br") || n.ends_with("db") || n.starts_with('v');
    if s.fpc != 0 || case.names.iter().any(floating) {
        for (row, line) in s.vr.chunks_exact(4).enumerate() {
            let line: Vec<String> =
                line.iter().enumerate().map(|(n, v)| format!("v{}={v:032x}", 4 * row + n)).collect();
            let _ = writeln!(out, "  {}", line.join(" "));
        }
    }
    out
}

/// Cases by mnemonic and operand class.
#[derive(Default)]
pub struct Coverage {
    rows: BTreeMap<(&'static str, String), Row>,
}

#[derive(Default)]
struct Row {
    cases: u64,
    interrupted: u64,
    unimplemented: u64,
    no_oracle: u64,
    different: u64,
}

impl Coverage {
    /// Counts one case under every instruction it has.
    pub fn count(&mut self, case: &Case, oracle: &Outcome, verdict: &Verdict) {
        let names: Vec<&'static str> = case.names.clone();
        for name in names {
            let row = self.rows.entry((name, case.class.clone())).or_default();
            row.cases += 1;
            row.interrupted += u64::from(oracle.end != End::Normal);
            row.unimplemented += u64::from(*verdict == Verdict::Unimplemented);
            row.no_oracle += u64::from(*verdict == Verdict::NoOracle);
            row.different += u64::from(matches!(verdict, Verdict::Different(_)));
        }
    }

    /// Instructions that at least one case ran to its end.
    pub fn executed(&self) -> usize {
        let mut names: Vec<_> =
            self.rows.iter().filter(|(_, r)| r.cases > r.interrupted).map(|(k, _)| k.0).collect();
        names.dedup();
        names.len()
    }

    /// The table.
    pub fn table(&self) -> String {
        let mut out = format!(
            "{:10} {:14} {:>7} {:>11} {:>13} {:>9} {:>9}\n",
            "mnemonic", "class", "cases", "interrupted", "unimplemented", "no oracle", "different"
        );
        for ((name, class), r) in &self.rows {
            let _ = writeln!(
                out,
                "{name:10} {class:14} {:>7} {:>11} {:>13} {:>9} {:>9}",
                r.cases, r.interrupted, r.unimplemented, r.no_oracle, r.different
            );
        }
        out
    }

    /// Mnemonics that the core lacks, as far as the cases show it.
    pub fn unimplemented(&self) -> Vec<&'static str> {
        self.names(|row| row.unimplemented)
    }

    /// Mnemonics that QEMU lacks and the core has.
    pub fn without_oracle(&self) -> Vec<&'static str> {
        self.names(|row| row.no_oracle)
    }

    fn names(&self, count: fn(&Row) -> u64) -> Vec<&'static str> {
        let mut names: Vec<_> = self
            .rows
            .iter()
            .filter(|((_, class), r)| count(r) > 0 && class != "sequence" && !class.contains(" of "))
            .map(|(k, _)| k.0)
            .collect();
        names.dedup();
        names
    }
}

/// The leftmost element in vector register `n` if that is the first operand, else everything.
fn leftmost(case: &Case, n: usize) -> u128 {
    let Some([_, registers, fields, _, last, _]) = case.code.first().map(|(_, bytes)| bytes.as_slice())
    else {
        return u128::MAX;
    };
    let format = if case.class == "VRRe" { fields & 15 } else { last >> 4 };
    // Bits of the result, which has another length in two instructions.
    let bits = match (case.names[0], format) {
        ("vflr", 3) => 32,
        ("vfll", 2) => 64,
        (_, 2) => 32,
        ("vflr", _) | (_, 3) => 64,
        _ => 128,
    };
    let first = usize::from(registers >> 4 | (last & 8) << 1);
    if n == first { u128::MAX << (128 - bits) } else { u128::MAX }
}

fn same_end(a: &End, b: &End, any_dxc: bool) -> bool {
    match (a, b) {
        (End::Program { code: c, ilc: i, dxc: d, teid: t }, End::Program { code, ilc, dxc, teid }) => {
            c == code
                && i == ilc
                && (!matches!(c, 7 | 0x1b) || any_dxc || d == dxc)
                && (!translation(*c) || teid_part(*t) == teid_part(*teid))
        }
        _ => a == b,
    }
}

/// Codes that store a translation-exception identification: page, segment and region translation.
fn translation(code: u16) -> bool {
    matches!(code, 0x10 | 0x11 | 0x38..=0x3b)
}

/// The page address and the ASCE identification (SA22-7832, chapter 3 "Assigned Storage Locations", 168-175). The
/// fetch/store indication is left to its own test.
fn teid_part(teid: u64) -> u64 {
    teid & !0xfff | teid & 3
}

fn end(end: &End) -> String {
    match end {
        End::Normal => "normal".into(),
        End::Program { code, ilc, dxc, teid } => {
            format!("program {code:#06x} ilc {ilc} dxc {dxc:#04x} teid {teid:x}")
        }
        End::Missing => "no record".into(),
    }
}

fn cc(mask: u64) -> u64 {
    mask >> 44 & 3
}
