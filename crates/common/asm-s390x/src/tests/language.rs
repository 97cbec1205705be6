//! Known encodings, the source language and its messages.

use proptest::prelude::*;

use crate::{assemble, mnemonics};

fn bytes(source: &str) -> Vec<u8> {
    assemble(source, "t.s").unwrap_or_else(|error| panic!("{error}")).bytes
}

fn error(source: &str) -> String {
    assemble(source, "t.s").expect_err("must be refused").to_string()
}

/// Encodings derived by hand from the formats in the Principles of Operation, chapter 5 and appendix B.
#[test]
fn principles_of_operation_formats() {
    for (source, expected) in [
        ("lr %r1,%r2", "1812"),
        ("sam64", "010e"),
        ("br %r14", "07fe"),
        ("lhi %r1,-1", "a718ffff"),
        ("llill %r2,0xa000", "a52fa000"),
        ("la %r3,8(%r2,%r1)", "41321008"),
        ("lg %r3,-8(%r2,%r1)", "e3321ff8ff04"),
        ("lmg %r6,%r15,48(%r15)", "eb6ff0300004"),
        ("mvc 0(8,%r1),16(%r2)", "d20710002010"),
        ("tm 0x14(%r1),0x40", "91401014"),
        ("mvhi 4(%r1),-2", "e54c1004fffe"),
        ("stfle 0(%r1)", "b2b01000"),
        ("servc %r2,%r3", "b2200023"),
        ("diag %r2,%r4,0x308", "83240308"),
        ("sigp %r1,%r3,0x12", "ae130012"),
        ("lpswe 0x10(%r5)", "b2b25010"),
        ("uvc %r0,%r2", "b9a40002"),
        ("chsc %r2", "b25f0020"),
        ("mvcle %r2,%r4,0", "a8240000"),
        ("j .", "a7f40000"),
        ("jne .-4", "a774fffe"),
        ("larl %r1,.+0x10000", "c01000008000"),
        ("brasl %r14,.+6", "c0e500000003"),
        ("cgije %r2,1,.+8", "ec280004017c"),
        ("risbg %r1,%r2,32,191,8", "ec1220bf0855"),
        ("lctlg %c0,%c15,0(%r1)", "eb0f1000002f"),
        ("mvcos 0(%r1),0(%r2),%r3", "c83010002000"),
    ] {
        let found: String = bytes(source).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, expected, "{source}");
    }
}

#[test]
fn ebcdic_is_code_page_037() {
    assert_eq!(bytes(r#".ebcdic "MDB Az09", " ""#), [0xd4, 0xc4, 0xc2, 0x40, 0xc1, 0xa9, 0xf0, 0xf9, 0x40]);
}

#[test]
fn origin_makes_addresses_and_symbols() {
    let object =
        assemble(".origin 0x10000\nstart: j start\n.org 0x10010\nend: .quad end", "t.s").expect("assembles");
    assert_eq!((object.origin, object.end()), (0x10000, 0x10018));
    assert_eq!(object.symbol("end"), Some(0x10010));
    assert_eq!(object.offset_of("end"), Some(0x10));
    assert_eq!(&object.bytes[0x10..], 0x10010_u64.to_be_bytes());
}

#[test]
fn macros_replace_arguments_and_number_their_uses() {
    let source = ".macro put a, b=\n.endm\n.macro two x, y\nl\\@: .byte \\x, \\y\n.ascii \"\\\\x\"\n.endm\nhead: two 1, (2+3)\ntwo 4,5";
    let object = assemble(source, "t.s").expect("assembles");
    assert_eq!(object.bytes, [1, 5, b'\\', b'x', 4, 5, b'\\', b'x']);
    assert_eq!((object.symbol("head"), object.symbol("l2")), (Some(0), Some(4)));
}

#[test]
fn comments_of_all_kinds_keep_line_numbers() {
    let source = "# one\n/* two\n three */ .byte '#', ';' # four\n.ascii \"#;/*\" ; .byte 1\n nonsense";
    assert_eq!(
        error(source),
        "t.s:5: unknown instruction `nonsense`; expected a mnemonic, a label with `:` or a directive"
    );
}

#[test]
fn messages_say_where_and_what_was_expected() {
    for (source, expected) in [
        ("\nlr %r1", "t.s:2: lr (RR format): operand 2 is missing: expected a general register %r0-%r15"),
        ("lr %r1,2", "t.s:1: lr (RR format): operand 2: expected a general register %r0-%r15, found `2`"),
        ("lr %r1,%r16", "t.s:1: `%r16` is not a register (%r0-%r15, %f0-%f15, %c0-%c15, %a0-%a15)"),
        (
            "mvcle %r3,%r4,0",
            "t.s:1: mvcle (RS format): operand 1: expected an even general register (of a pair), found `%r3`",
        ),
        ("la %r1,4096(%r2)", "t.s:1: la (RX format): operand 2: the displacement 4096 is outside 0 to 4095"),
        ("mvc 0(257,%r1),0(%r2)", "t.s:1: mvc (SS-a format): operand 1: the length 257 is outside 1 to 256"),
        (
            "lhi %r1,0x8000",
            "t.s:1: lhi (RI format): operand 2: the immediate 32768 is outside -32768 to 32767",
        ),
        ("j there", "t.s:1: j (RI format): operand 1: `there` is not defined"),
        ("j 1f", "t.s:1: j (RI format): operand 1: `1f` is not defined"),
        ("j .+1", "t.s:1: j (RI format): operand 1: the target 0x1 is odd, but must be a halfword boundary"),
        (
            "j .+0x10000",
            "t.s:1: j (RI format): operand 1: the target 0x10000 is 65536 bytes away, which does not fit; use the long form (jg.., brasl, larl)",
        ),
        ("a: .byte 1\na: .byte 2", "t.s:2: label `a` is defined twice"),
        (".byte 1\nlr %r1,%r2", "t.s:2: `lr` is at the odd address 0x1; put .balign 2 before it"),
        (".byte 256", "t.s:1: the value 256 is outside -128 to 255"),
        (".skip later\nlater:", "t.s:1: .skip size: `later` must be defined before this line"),
        (".org 4\n.org 2", "t.s:2: .org 0x2 would go back: the current address is 0x4"),
        (
            ".include \"x\"",
            "t.s:1: .include needs a file to be relative to; this source was given as text only",
        ),
        (".macro m\nm\n.endm\nm", "t.s:4: in macro `m`: includes and macros nest deeper than 16"),
        (".macro m\n", "t.s:1: macro `m` has no .endm"),
        ("/* x", "t.s:1: the comment that begins here has no */"),
        (".quad 1/0", "t.s:1: division by zero"),
        ("svc 1 2", "t.s:1: svc (I format): expected the end of the statement, found `2`"),
        (".skip 1 << 40", "t.s:1: a size of 1099511627776 is outside 0 to 67108864 (the largest image)"),
    ] {
        assert_eq!(error(source), expected, "{source}");
    }
}

#[test]
fn missing_file_is_named() {
    let error = crate::assemble_file("no/such/file.s").expect_err("must fail");
    assert_eq!(error.to_string(), "cannot read the assembler source no/such/file.s; check the path");
}

#[test]
fn includes_are_relative_and_messages_name_the_included_file() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("parts")).expect("a folder");
    std::fs::write(path("main.s"), ".include \"parts/one.inc\"\n.byte 2\n").expect("write");
    std::fs::write(path("parts/one.inc"), ".include \"two.inc\"\n").expect("write");
    std::fs::write(path("parts/two.inc"), "# comment\n.byte 1\n").expect("write");
    let object = crate::assemble_file(path("main.s")).expect("assembles");
    assert_eq!(object.bytes, [1, 2]);
    assert_eq!(object.sources, [path("main.s"), path("parts/one.inc"), path("parts/two.inc")]);

    std::fs::write(path("parts/two.inc"), "\nlhi %r1\n").expect("write");
    let error = crate::assemble_file(path("main.s")).expect_err("must fail").to_string();
    assert!(error.contains("two.inc:2: lhi (RI format): operand 2 is missing"), "{error}");

    std::fs::write(path("parts/two.inc"), ".include \"two.inc\"\n").expect("write");
    let error = crate::assemble_file(path("main.s")).expect_err("must fail").to_string();
    assert!(error.contains("nest deeper than 16"), "{error}");
}

#[test]
fn runaway_macros_end() {
    let mut source = String::from(".macro m0\n.endm\n");
    for level in 1..12 {
        source += &format!(".macro m{level}\n{}.endm\n", format!("m{}\n", level - 1).repeat(20));
    }
    assert!(error(&(source + "m11")).ends_with("macros are used more than 65536 times"));
}

#[test]
fn table_is_of_a_useful_size() {
    let names: Vec<_> = mnemonics().map(|(name, _)| name).collect();
    assert!(names.len() > 700, "{}", names.len());
    assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())));
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(source in "(?s).{0,200}") {
        let _ = assemble(&source, "t.s");
    }

    #[test]
    fn statement_like_text_never_panics(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "lr", "mvc", "%r1", "%c3", ",", "(", ")", "0x7fffffffffffffff", "-", "~", "<<", "63", "*", ".quad", ".equ", "x",
                "x:", "1:", "1f", "1b", "\n", ";", ".org", ".balign", ".skip", "8", "\"a\\", "\"", "'", "'\\", ".macro", "m", "\\x",
                ".endm", ".set", "/", "0", ".origin", "#", "/*", "*/", ".", "é",
            ]),
            0..40,
        )
    ) {
        let _ = assemble(&words.join(" "), "t.s");
    }

    #[test]
    fn numbers_survive(value: u64, small: i16) {
        let mut expected = value.to_be_bytes().to_vec();
        expected.extend(value.to_be_bytes());
        expected.extend(small.to_be_bytes());
        prop_assert_eq!(bytes(&format!(".quad {value}, {value:#x}\n.short {small}")), expected);
    }
}
