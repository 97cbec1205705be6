//! The older flat form of `key=value,...`: keys keep their dots, and a bare word is a short boolean (`readonly`,
//! `nowait`). QEMU uses it for `-object`, `-device`, `-drive`, `-m` and many more.
//!
//! Types are not checked here; the [schema](crate::schema) does that.

use crate::error::Problem;
use crate::keyval::take_value;
use crate::value::parse_identifier;

/// A parsed argument.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlatOptions {
    /// `id=`; the first one counts, as in QEMU.
    pub id: Option<String>,
    /// Every other key with its value, in order; duplicates are kept and the last one counts.
    pub entries: Vec<(String, String)>,
    /// `help` or `?` stood as a word of its own.
    pub help: bool,
    /// Warnings about short booleans.
    pub warnings: Vec<String>,
}

impl FlatOptions {
    /// The value of a key: its last one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Parse `key=value,...`; a first value without a key belongs to `implied`. Short booleans are reported as
/// deprecated if `warn`: `-chardev` and its relatives take them silently.
pub fn parse_flat(text: &str, implied: Option<&str>, warn: bool) -> Result<FlatOptions, Problem> {
    let mut out = FlatOptions::default();
    let mut implied = implied;
    let mut rest = text;
    while !rest.is_empty() {
        let implied_here = implied.take();
        let end = rest.find(['=', ',']).unwrap_or(rest.len());
        let (key, value);
        if rest[end..].starts_with('=') {
            key = rest[..end].to_owned();
            (value, rest) = take_value(&rest[end + 1..]);
        } else if let Some(name) = implied_here {
            let word;
            (word, rest) = take_value(rest);
            if is_help(&word) {
                out.help = true;
                continue;
            }
            key = name.to_owned();
            value = word;
        } else {
            let word;
            (word, rest) = take_value(rest);
            if is_help(&word) {
                out.help = true;
                continue;
            }
            let (name, on) = match word.strip_prefix("no") {
                Some(name) if !name.is_empty() => (name, "off"),
                _ => (word.as_str(), "on"),
            };
            if warn && !name.is_empty() {
                out.warnings.push(format!(
                    "short-form boolean option '{word}' deprecated\nPlease use {name}={on} instead"
                ));
            }
            key = name.to_owned();
            value = on.to_owned();
        }
        if key == "id" {
            let id = parse_identifier(&value).ok_or(Problem::NotAnIdentifier(key))?;
            out.id.get_or_insert_with(|| id.to_owned());
        } else {
            out.entries.push((key, value));
        }
    }
    Ok(out)
}

/// The inverse of [`parse_flat`] (the implied key is written out).
pub fn print_flat(options: &FlatOptions) -> String {
    let id = options.id.iter().map(|id| ("id", id.as_str()));
    let entries = options.entries.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    id.chain(entries)
        .map(|(key, value)| format!("{key}={}", value.replace(',', ",,")))
        .collect::<Vec<_>>()
        .join(",")
}

fn is_help(word: &str) -> bool {
    word == "help" || word == "?"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn flat_short_booleans_are_on_or_off() {
        let parsed = parse_flat("file=a,,b,readonly,nowait", Some("file"), true).unwrap();
        assert_eq!(parsed.get("file"), Some("a,b"));
        assert_eq!(parsed.get("readonly"), Some("on"));
        assert_eq!(parsed.get("wait"), Some("off"));
        assert_eq!(parsed.warnings.len(), 2);
    }

    #[test]
    fn flat_first_id_and_last_value_win() {
        let parsed = parse_flat("x,id=a,id=b,k=1,k=2,", Some("driver"), true).unwrap();
        assert_eq!(parsed.id.as_deref(), Some("a"));
        assert_eq!(parsed.get("k"), Some("2"));
        assert_eq!(parsed.get("driver"), Some("x"));
    }

    #[test]
    fn flat_id_must_be_an_identifier() {
        assert!(parse_flat("id=1bad", None, true).is_err());
    }

    proptest! {
        #[test]
        fn flat_parse_is_the_inverse_of_print(
            id in prop::option::of("[a-z][a-z0-9._-]{0,8}"),
            entries in prop::collection::vec(("[a-hj-z][a-z0-9.-]{0,8}", ".{0,12}"), 0..5),
        ) {
            let options = FlatOptions { id, entries, ..FlatOptions::default() };
            prop_assert_eq!(parse_flat(&print_flat(&options), None, true).unwrap(), options);
        }

        #[test]
        fn flat_no_text_panics(text in ".*", grammar in "[a=,noid]*") {
            let _ = parse_flat(&text, Some("driver"), true);
            let _ = parse_flat(&grammar, Some("driver"), true);
        }
    }
}
