use super::*;
use crate::json::write_value;
use proptest::prelude::*;
use serde_json::json;

fn all(bytes: &[u8]) -> Vec<Result<Value, StreamError>> {
    let mut out = Vec::new();
    StreamParser::default().feed(bytes, |result| out.push(result));
    out
}

fn shown(bytes: &[u8]) -> Vec<String> {
    all(bytes)
        .into_iter()
        .map(|result| result.map_or_else(|error| error.to_string(), |value| value.to_string()))
        .collect()
}

#[test]
fn rule_3_input_is_a_stream_of_values_and_needs_no_newline() {
    assert_eq!(
        all(br#"{"execute":"a"}{"execute":"b"}[] "c""#).into_iter().map(Result::unwrap).collect::<Vec<_>>(),
        [json!({"execute":"a"}), json!({"execute":"b"}), json!([]), json!("c")]
    );
}

#[test]
fn rule_3_single_quotes_are_quotes() {
    assert_eq!(shown(br"{'a':'it\'s'}"), [r#"{"a":"it's"}"#]);
    assert_eq!(shown(br#"'a"b'"#), [r#""a\"b""#]);
}

#[test]
fn rule_11_control_characters_and_0xff_reset_the_lexer() {
    assert_eq!(shown(b"{\"a\":\xff{\"b\":1}"), ["JSON parse error, stray '\u{fffd}'", r#"{"b":1}"#]);
    assert_eq!(shown(b"\"abc\x01{\"b\":1}"), ["JSON parse error, stray '\"abc\u{1}'", r#"{"b":1}"#]);
    assert_eq!(shown(b"\xff\xff").len(), 2);
}

/// Texts that QEMU 7.2 gives to the same bytes.
#[test]
fn rule_5_errors_are_qemus() {
    for (input, texts) in [
        (&b"{\"a\":1]"[..], &["expected separator in dict"][..]),
        (b"[1 2]", &["expected separator in list"]),
        (b"[1,]", &["expecting value"]),
        (b"{\"a\":1,}", &["expecting value"]),
        (b"{,}", &["expecting value"]),
        (b"]", &["expecting value"]),
        (b":", &["expecting value"]),
        (b"{5:6}", &["key is not a string in object"]),
        (b"{\"a\" \"b\"}", &["missing : in object pair"]),
        (b"{\"a\":1,\"a\":2}", &["duplicate key"]),
        (b"tru\n", &["invalid keyword 'tru'"]),
        (b"01\n", &["stray '01'"]),
        (b"-\n", &["stray '-\n'"]),
        (b"1.\n", &["stray '1.\n'"]),
        (b"{\"a\":1.5.5}", &["stray '.'", "expecting value"]),
        (b"{\"a\":0x10}", &["expected separator in dict"]),
        (b"{\"a\":%d}", &["stray '%'", "expecting value"]),
        (b"\"\\x\"", &["invalid escape sequence in string"]),
        (b"\"\\ud800\"", &["\\ud800 is not a valid Unicode character"]),
        (b"\"\\ud83d\\u0041\"", &["\\ud83d is not a valid Unicode character"]),
        (b"\"\\uffff\"", &["\\uffff is not a valid Unicode character"]),
        (b"\"\\u00zz\"", &["\\u00zz is not a valid Unicode character"]),
        (b"\"\xc3\x28\"", &["invalid UTF-8 sequence in string"]),
        (b"\"\xed\xa0\x80\"", &["invalid UTF-8 sequence in string"]),
        (b"\"\xef\xbf\xbf\"", &["invalid UTF-8 sequence in string"]),
    ] {
        let expected: Vec<_> = texts.iter().map(|text| format!("JSON parse error, {text}")).collect();
        assert_eq!(shown(input), expected, "{}", String::from_utf8_lossy(input));
    }
}

#[test]
fn numbers_keep_their_64_bits_and_modified_utf_8_its_nul() {
    assert_eq!(
        shown(b"[18446744073709551615,-9223372036854775808,0.1,-0]"),
        ["[18446744073709551615,-9223372036854775808,0.1,0]"]
    );
    assert_eq!(all(b"\"\xc0\x80\""), [Ok(json!("\0"))]);
    assert!(all(b"1e400 ")[0].is_err());
}

#[test]
fn limits_hold_and_the_stream_goes_on() {
    let deep = [b"[".repeat(1024), b"]".repeat(1024)].concat();
    assert!(all(&deep)[0].is_ok());
    assert_eq!(all(&b"[".repeat(1025)), [Err(StreamError::Nesting)]);
    let limits = Limits { bytes: 100, tokens: 10, nesting: 5 };
    let mut out = Vec::new();
    let mut parser = StreamParser::with_limits(limits);
    parser.feed(
        &[b"\"".to_vec(), b"x".repeat(200), b"\"\n".to_vec(), b"[1,2,3,4,5,6]\n5 ".to_vec()].concat(),
        |r| out.push(r),
    );
    assert_eq!(out[0], Err(StreamError::Bytes));
    assert!(out.contains(&Err(StreamError::Tokens)), "{out:?}");
    assert_eq!(out.last(), Some(&Ok(json!(5))));
}

#[test]
fn output_is_ascii_as_qemu_writes_it() {
    let mut out = String::new();
    write_value(&json!({"b":[1,{}],"a":"\u{20ac}\u{1f600}\u{7f}\n\""}), false, 0, &mut out);
    assert_eq!(out, r#"{"a": "\u20AC\uD83D\uDE00\u007F\n\"", "b": [1, {}]}"#);
    let mut out = String::new();
    write_value(&json!({"b":[1]}), true, 0, &mut out);
    assert_eq!(out, "{\n    \"b\": [\n        1\n    ]\n}");
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "[\\u{0}-\\u{d7ff}]{0,12}"
            .prop_filter("noncharacters", |s| !s.chars().any(|c| (0xfdd0..=0xfdef).contains(&(c as u32))))
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-z\u{e9}]{0,4}", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(value in value(), pretty: bool) {
        let mut text = String::new();
        write_value(&value, pretty, 0, &mut text);
        prop_assert!(text.is_ascii());
        text.push('\r');
        prop_assert_eq!(all(text.as_bytes()), [Ok(value)]);
    }

    #[test]
    fn any_chunking_gives_the_same(bytes in prop::collection::vec(prop_oneof![
        any::<u8>(), prop::sample::select(b"{}[]:,\"'\\ -01.eE5truefalsn\xff\n\x01".to_vec())], 0..200),
        cuts in prop::collection::vec(0usize..200, 0..10)) {
        let whole = all(&bytes);
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut out = Vec::new();
        let mut parser = StreamParser::default();
        for pair in cuts.windows(2) {
            parser.feed(&bytes[pair[0]..pair[1]], |result| out.push(result));
        }
        prop_assert_eq!(out, whole);
    }
}
