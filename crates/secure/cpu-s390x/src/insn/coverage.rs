//! Which measured opcodes the core lacks, and why.

use crate::decode;

const MEASURED: &str = include_str!("../../tests/data/opcodes.txt");

/// Key, and the reason.
const MISSING: &[(&str, &str)] = &[
    ("b9:a0", "clp: PCI functions (facility 69) are not offered"),
    ("b9:ab", "essa: collaborative memory management is not offered"),
];

fn code(key: &str) -> u16 {
    let (first, second) = key.split_once(':').unwrap_or((key, "0"));
    let number = |text| u16::from_str_radix(text, 16).unwrap();
    number(first) << 8 | number(second)
}

#[test]
fn every_measured_opcode_has_a_row_or_a_reason() {
    let codes: Vec<u16> = decode::rows().iter().map(|row| row.code).collect();
    let mut missing = Vec::new();
    for line in MEASURED.lines().filter(|line| !line.starts_with('#')) {
        let (key, mnemonic) = line.split_once(' ').unwrap();
        let listed = MISSING.iter().any(|(other, _)| *other == key);
        if codes.contains(&code(key)) == listed {
            missing.push(format!("{key} {mnemonic}: {}", if listed { "has a row now" } else { "missing" }));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
