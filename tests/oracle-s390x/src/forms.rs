//! The instructions that the generator knows: formats and operand rules, parsed from `data/forms.txt`.
//!
//! This is not a decoder, and it is independent of the one under test on purpose.

use std::collections::BTreeMap;

use crate::vector::{self, Layout};

/// The rules of the generator.
pub const FORMS: &str = include_str!("../data/forms.txt");
/// The opcodes that Debian's kernels and user space execute, with counts.
pub const OPCODES: &str = include_str!("../data/opcodes.txt");

/// Instruction formats (z/Architecture Principles of Operation, SA22-7832, chapter 5 "Instruction Formats").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the manual's names")]
pub enum Format {
    E,
    Rr,
    Rre,
    Rrf,
    RrfC,
    RrfB,
    RrfM,
    Rrd,
    Rx,
    Rxy,
    Rxe,
    Rxf,
    Rs,
    Rsy,
    Rsi,
    Rsl,
    Ri,
    Ril,
    RieA,
    RieB,
    RieC,
    RieD,
    RieE,
    RieF,
    RieG,
    Rrs,
    Ris,
    Si,
    Si0,
    Siy,
    Sil,
    S,
    SsA,
    SsB,
    Sse,
    Ssf,
    Vector(&'static Layout),
}

/// Length of a storage operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// A fixed number of bytes.
    Bytes(u64),
    /// So many bytes for each register from r1 to r3.
    PerRegister(u64),
    /// So many bytes for each vector register from v1 to v3.
    PerVector(u64),
    /// One byte for each one in the mask.
    Mask,
}

/// One instruction.
#[derive(Clone, Debug)]
pub struct Form {
    /// The first opcode byte.
    pub op: u8,
    /// The selector: second byte, last byte or low nibble, by the first byte (see `opcodes.txt`).
    pub sub: u8,
    /// The manual's mnemonic in lower case.
    pub name: &'static str,
    /// The format.
    pub format: Format,
    /// The storage operand, if it has one of regular form.
    pub memory: Option<Length>,
    /// Its alignment.
    pub align: u64,
    /// The special set-up, or an empty string.
    pub kind: &'static str,
    words: Vec<&'static str>,
}

impl Form {
    /// Whether the table gives the instruction this word.
    pub fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }

    /// The values that the table allows in a mask or immediate (`M4=0-3,8`); nothing means all.
    pub fn values(&self, field: &str) -> Option<Vec<u16>> {
        let list = self.words.iter().find_map(|w| w.strip_prefix(field)?.strip_prefix('='))?;
        let number = |text: &str| text.parse::<u16>().unwrap_or_else(|_| panic!("{}: {list}", self.name));
        let range = |part: &str| {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            number(low)..=number(high)
        };
        Some(list.split(',').flat_map(range).collect())
    }

    /// Whether it touches the floating-point or vector registers or the former's control.
    pub fn floating(&self) -> bool {
        matches!(self.format, Format::Vector(_))
            || ["f1", "f2", "kind=fpcreg", "kind=fpcmem"].iter().any(|w| self.has(w))
            || matches!(self.name, "stfpc" | "efpc" | "srnm" | "srnmb")
    }

    /// A branch of any kind.
    pub fn branches(&self) -> bool {
        self.has("jmp") || self.has("jmpr") || self.has("jmpx")
    }
}

/// All forms, in the table's order.
pub fn forms() -> Vec<Form> {
    table(FORMS)
        .map(|line| parse(line).unwrap_or_else(|| panic!("data/forms.txt: bad line {line:?}")))
        .collect()
}

/// Keys and mnemonics of `opcodes.txt`.
pub fn opcodes() -> BTreeMap<(u8, u8), &'static str> {
    table(OPCODES)
        .filter(|line| !line.starts_with("key"))
        .map(|line| {
            let mut words = line.split_whitespace();
            let key =
                words.next().and_then(key).unwrap_or_else(|| panic!("data/opcodes.txt: bad line {line:?}"));
            (key, words.next().unwrap_or(""))
        })
        .collect()
}

fn table(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
}

fn key(word: &str) -> Option<(u8, u8)> {
    let (op, sub) = word.split_once(':').unwrap_or((word, "0"));
    Some((u8::from_str_radix(op, 16).ok()?, u8::from_str_radix(sub, 16).ok()?))
}

fn parse(line: &'static str) -> Option<Form> {
    let mut words = line.split_whitespace();
    let (op, sub) = key(words.next()?)?;
    let name = words.next()?;
    let format = match words.next()? {
        "E" => Format::E,
        "RR" => Format::Rr,
        "RRE" => Format::Rre,
        "RRF" => Format::Rrf,
        "RRFc" => Format::RrfC,
        "RRFb" => Format::RrfB,
        "RRFm" => Format::RrfM,
        "RRD" => Format::Rrd,
        "RX" => Format::Rx,
        "RXY" => Format::Rxy,
        "RXE" => Format::Rxe,
        "RXF" => Format::Rxf,
        "RS" => Format::Rs,
        "RSY" => Format::Rsy,
        "RSI" => Format::Rsi,
        "RSL" => Format::Rsl,
        "RI" => Format::Ri,
        "RIL" => Format::Ril,
        "RIEa" => Format::RieA,
        "RIEb" => Format::RieB,
        "RIEc" => Format::RieC,
        "RIEd" => Format::RieD,
        "RIEe" => Format::RieE,
        "RIEf" => Format::RieF,
        "RIEg" => Format::RieG,
        "RRS" => Format::Rrs,
        "RIS" => Format::Ris,
        "SI" => Format::Si,
        "SI0" => Format::Si0,
        "SIY" => Format::Siy,
        "SIL" => Format::Sil,
        "S" => Format::S,
        "SSa" => Format::SsA,
        "SSb" => Format::SsB,
        "SSE" => Format::Sse,
        "SSF" => Format::Ssf,
        name => Format::Vector(vector::format(name)?),
    };
    let words: Vec<&'static str> = words.collect();
    let mut memory = None;
    let mut align = 1;
    let mut kind = "";
    for word in &words {
        if let Some(rest) = word.strip_prefix("kind=") {
            kind = rest;
        } else if let Some(rest) = word.strip_prefix("al") {
            align = rest.parse().ok()?;
        } else if *word == "mask" {
            memory = Some(Length::Mask);
        } else if let Some(rest) = word.strip_prefix('m') {
            memory = Some(if let Some(each) = rest.strip_suffix('r') {
                Length::PerRegister(each.parse().ok()?)
            } else if let Some(each) = rest.strip_suffix('v') {
                Length::PerVector(each.parse().ok()?)
            } else {
                Length::Bytes(rest.parse().ok()?)
            });
        }
    }
    Some(Form { op, sub, name, format, memory, align, kind, words })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opcodes of the measured list that no case can generate, with the reason.
    const LEFT_OUT: &[(&str, &str)] = &[
        ("svc", "the harness ends every case with it"),
        ("diag", "a request to the machine"),
        ("mc", "monitor-event: needs control register 8, checked in the core's own tests"),
        ("stck", "time"),
        ("stcke", "time"),
        ("stckf", "time"),
        ("ecag", "describes the modelled CPU's caches"),
        ("stfle", "describes the modelled CPU's facilities"),
        ("spka", "the key is part of the harness's set-up"),
        ("lpp", "absent facility"),
        ("clp", "absent facility"),
        ("sic", "absent facility"),
        ("prno", "absent facility, random"),
        ("kmc", "which functions exist is the model's choice"),
        ("mvcos", "needs a second address space; checked in the core's own tests"),
    ];

    #[test]
    fn every_measured_opcode_is_generated_or_left_out_with_a_reason() {
        let known: BTreeMap<(u8, u8), &str> = forms().iter().map(|f| ((f.op, f.sub), f.name)).collect();
        for (key, name) in opcodes() {
            if LEFT_OUT.iter().any(|(n, _)| *n == name) {
                continue;
            }
            assert_eq!(known.get(&key), Some(&name), "opcode {key:02x?} {name}");
        }
    }

    #[test]
    fn keys_and_names_are_unique() {
        let forms = forms();
        let keys: std::collections::BTreeSet<_> = forms.iter().map(|f| (f.op, f.sub)).collect();
        let names: std::collections::BTreeSet<_> = forms.iter().map(|f| f.name).collect();
        assert_eq!(keys.len(), forms.len());
        assert_eq!(names.len(), forms.len());
    }
}
