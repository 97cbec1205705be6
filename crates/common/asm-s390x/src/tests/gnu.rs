//! GNU as as the oracle: every mnemonic of the table with small, mixed and extreme operands. The tests say so and
//! pass when the tools are missing (Debian package binutils-s390x-linux-gnu).

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::table::{self, Field};
use crate::{assemble, assemble_file};

/// Our directives for GNU as, and privileged instructions that version 2.40 knows by format only.
const PRELUDE: &str = r"
.macro .origin address
.endm
.macro servc a, b
.insn rre, 0xb2200000, \a, \b
.endm
.macro chsc a
.insn rre, 0xb25f0000, \a, %r0
.endm
.macro uvc a, b
.insn rrf, 0xb9a40000, \a, \b, 0, 0
.endm
.macro essa a, b, m
.insn rrf, 0xb9ab0000, \a, \b, \m, 0
.endm
.macro sic a, b, at:vararg
.insn rsy, 0xeb00000000d1, \a, \b, \at
.endm
";

#[test]
fn every_mnemonic_encodes_as_in_gnu_as() {
    let mut source = String::new();
    for (name, insn) in table::all() {
        for variant in 0..4 {
            let operands: Vec<_> = insn.fields.iter().map(|&field| operand(field, variant)).collect();
            writeln!(source, "{name} {}", operands.join(",")).expect("writing to a string");
        }
        // Optional operands left out.
        let optional = |field: &&Field| matches!(field, Field::ROpt(_) | Field::MOpt(_));
        let required = insn.fields.iter().filter(|field| !optional(field)).count();
        if required < insn.fields.len() && !insn.fields.is_empty() && name != "nopr" {
            let operands: Vec<_> = insn.fields[..required].iter().map(|&field| operand(field, 1)).collect();
            writeln!(source, "{name} {}", operands.join(",")).expect("writing to a string");
        }
    }
    let ours = assemble(&source, "all.s").expect("our own table assembles");
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("all.s");
    std::fs::write(&path, &source).expect("write the source");
    let Some(theirs) = gnu(&path, 0) else { return };
    compare(&source, &ours.bytes, &theirs);
}

#[test]
fn data_layout_and_expressions_are_those_of_gnu_as() {
    let source = r#"
        .equ  later, end - start
start:  .byte 1, -1, 'A', 0xff, 1 + 2 * 3, (1 + 2) * 3, 1 << 4 | 3, 12 / 5, ~0 & 0x7f
        .byte 1 + 1 | 4, 6 & 3 + 1, 07, 0b101
        .balign 8, 0
        .short 0x1234, -2 ; .long start, end, later, . - start
        .quad later + 1, 0xffffffffffffffff, -1
        .ascii "a\tb\\\"\101\x42", "c" ; .asciz "z"
        .balign 2, 0x55
1:      j     1b
        j     1f
        jg    end
1:      larl  %r1, 1b
        brasl %r14, start
        la    %r2, later(%r3)
        la    %r2, 1(%r3,%r4)
        la    %r2, 1(,%r4)
        .org  0x200
        .set  count, 1
        .byte count
        .set  count, count + 1
        .byte count
        .skip 4, 7
end:    .space 2
    "#;
    let ours = assemble(source, "language.s").unwrap_or_else(|error| panic!("{error}"));
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("language.s");
    std::fs::write(&path, source).expect("write the source");
    let Some(theirs) = gnu(&path, 0) else { return };
    compare(source, &ours.bytes, &theirs);
}

#[test]
fn our_guests_assemble_as_in_gnu_as() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../guests/s390x");
    let entries = std::fs::read_dir(&folder).expect("guests/s390x exists");
    for entry in entries {
        let path = entry.expect("readable folder").path();
        if path.extension().is_none_or(|extension| extension != "s") {
            continue;
        }
        let ours = assemble_file(&path).unwrap_or_else(|error| panic!("{error}"));
        let Some(theirs) = gnu(&path, ours.origin) else { return };
        compare(&path.display().to_string(), &ours.bytes, &theirs);
    }
}

/// An operand that fits the field: 0 smallest, 1 usual, 2 another, 3 largest.
fn operand(field: Field, variant: usize) -> String {
    let pick = |values: [i64; 4]| values[variant].to_string();
    let register = [0, 1, 10, 15][variant];
    let even = [0, 2, 10, 14][variant];
    match field {
        Field::R(_) | Field::ROpt(_) => format!("%r{register}"),
        Field::Even(_) => format!("%r{even}"),
        Field::F(_) => format!("%f{register}"),
        Field::C(_) => format!("%c{register}"),
        Field::A(_) => format!("%a{register}"),
        // Rounding modes and some masks are restricted to a few values by GNU as.
        Field::M(_) | Field::MOpt(_) => pick([0, 1, 4, 7]),
        Field::Bd(_) => ["0", "8(%r2)", "0xabc(%r13)", "4095(%r15)"][variant].into(),
        Field::Bdx | Field::BdxOpt => ["0", "8(%r2)", "0xabc(%r3,%r13)", "4095(%r15,%r1)"][variant].into(),
        Field::BdLong => ["-524288", "8(%r2)", "-3(%r13)", "524287(%r15)"][variant].into(),
        Field::BdxLong => ["-524288", "8(%r2)", "-70000(%r3,%r13)", "524287(%r15,%r1)"][variant].into(),
        Field::Bdl(_, 4, _) => ["0(1,%r1)", "8(2)", "0xabc(9,%r13)", "4095(16,%r15)"][variant].into(),
        Field::Bdl(..) => ["0(1,%r1)", "8(2)", "0xabc(77,%r13)", "4095(256,%r15)"][variant].into(),
        Field::Bdr => ["0(%r0,%r1)", "8(%r2,%r3)", "0xabc(%r9,%r13)", "4095(%r15,%r14)"][variant].into(),
        Field::U(_, width) => {
            let largest = (1_i64 << width) - 1;
            // The select instructions rotate by at most 63 bits.
            let largest = if width == 8 { 31 } else { largest };
            pick([0, 1, largest / 2, largest])
        }
        Field::S(_, width) => pick([-(1 << (width - 1)), -1, 1, (1 << (width - 1)) - 1]),
        Field::Rel(_, 16) => [".-65536", ".", ".+8", ".+65534"][variant].into(),
        Field::Rel(..) => [".-0x100000000", ".-2", ".+8", ".+0xfffffffe"][variant].into(),
    }
}

/// Assembles with GNU as and links to a flat binary at `origin`; `None` with a notice if a tool is missing.
fn gnu(source: &Path, origin: u64) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().expect("temporary folder");
    let prelude = folder.path().join("prelude.s");
    std::fs::write(&prelude, PRELUDE).expect("write the prelude");
    let (object, linked) = (folder.path().join("a.o"), folder.path().join("a.bin"));
    let run = |command: &mut Command| -> Option<()> {
        let output = match command.output() {
            Ok(output) => output,
            Err(error) => {
                println!(
                    "SKIPPED: {:?} cannot be run ({error}); the comparison with GNU as is not made",
                    command.get_program()
                );
                return None;
            }
        };
        assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
        Some(())
    };
    let include = source.parent()?;
    run(Command::new("s390x-linux-gnu-as")
        .args(["-m64", "-march=arch14", "-I"])
        .arg(include)
        .arg("-o")
        .args([&object, &prelude])
        .arg(source))?;
    run(Command::new("s390x-linux-gnu-ld")
        .args(["--oformat", "binary", "-e", "0", "-Ttext", &format!("{origin:#x}"), "-o"])
        .args([&linked, &object]))?;
    Some(std::fs::read(&linked).expect("the linked file"))
}

fn compare(what: &str, ours: &[u8], theirs: &[u8]) {
    if ours == theirs {
        return;
    }
    let at = ours.iter().zip(theirs).position(|(a, b)| a != b).unwrap_or(ours.len().min(theirs.len()));
    let around = |bytes: &[u8]| {
        let end = bytes.len().min(at + 10);
        format!("{:02x?}", &bytes[at.saturating_sub(6).min(end)..end])
    };
    // For a list of instructions the line follows from the offset.
    let mut offset = 0;
    let line = what.lines().find(|line| {
        let name = line.split(' ').next().unwrap_or_default();
        offset += table::lookup(name).map_or(0, |insn| usize::from(insn.len));
        offset > at
    });
    panic!(
        "differs from GNU as at offset {at:#x} ({line:?}), lengths {} and {}:\nours   {}\ntheirs {}",
        ours.len(),
        theirs.len(),
        around(ours),
        around(theirs)
    );
}
