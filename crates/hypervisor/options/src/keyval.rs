//! The tree form of `key=value,...`: dotted keys, numeric fragments for lists, an implied first key. QEMU uses it
//! for `-machine` and other options that its schema describes ("QEMU Storage Daemon", "key-value syntax").
//!
//! Not the older flat form with short booleans: that is [`crate::flat`].

use serde_json::{Map, Value};

use crate::error::Problem;

/// Longest key fragment.
const MAX_FRAGMENT: usize = 127;
/// Deepest nesting: no schema comes near it, and a hostile argument must not exhaust the stack.
const MAX_DEPTH: usize = 16;

/// A parsed argument.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keyval {
    /// The tree: strings, objects and lists.
    pub tree: Map<String, Value>,
    /// `help` or `?` stood somewhere in the argument.
    pub help: bool,
}

/// Parse `key=value,...`; a first value without a key belongs to `implied`.
pub fn parse_keyval(text: &str, implied: Option<&str>) -> Result<Keyval, Problem> {
    let mut root = Map::new();
    let mut help = false;
    let mut rest = text;
    let mut implied = implied;
    while !rest.is_empty() {
        let implied_here = implied.take();
        let end = rest.find(['=', ',']).unwrap_or(rest.len());
        let key = &rest[..end];
        if rest[end..].starts_with('=') {
            let (value, after) = take_value(&rest[end + 1..]);
            insert(&mut root, key, value)?;
            rest = after;
            continue;
        }
        if key == "help" || key == "?" {
            help = true;
        } else if let Some(name) = implied_here.filter(|_| !key.is_empty()) {
            let (value, after) = take_value(rest);
            insert(&mut root, name, value)?;
            rest = after;
            continue;
        } else if key.is_empty() {
            return Err(Problem::InvalidParameter(String::new()));
        } else {
            return Err(Problem::ExpectedEquals(key.to_owned()));
        }
        rest = rest[end..].strip_prefix(',').unwrap_or_default();
    }
    match lists(Value::Object(root), "")? {
        Value::Object(tree) => Ok(Keyval { tree, help }),
        // A first fragment is never a number, so the root is never a list.
        _ => Err(Problem::InvalidParameter("0".to_owned())),
    }
}

/// The inverse of [`parse_keyval`] for a tree of strings, non-empty objects and non-empty lists.
pub fn print_keyval(tree: &Map<String, Value>) -> String {
    let mut parts = Vec::new();
    for (key, value) in tree {
        print_value(key, value, &mut parts);
    }
    parts.join(",")
}

/// Take a value up to a single comma; `,,` stands for a comma.
pub(crate) fn take_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut rest = text;
    loop {
        match rest.find(',') {
            None => {
                value.push_str(rest);
                return (value, "");
            }
            Some(comma) => {
                value.push_str(&rest[..comma]);
                rest = &rest[comma + 1..];
                match rest.strip_prefix(',') {
                    Some(after) => {
                        value.push(',');
                        rest = after;
                    }
                    None => return (value, rest),
                }
            }
        }
    }
}

fn insert(root: &mut Map<String, Value>, key: &str, value: String) -> Result<(), Problem> {
    let fragments: Vec<&str> = key.split('.').collect();
    if fragments.len() > MAX_DEPTH {
        return Err(Problem::TooDeep(fragments[..MAX_DEPTH].join(".")));
    }
    for (index, fragment) in fragments.iter().enumerate() {
        if !is_name(fragment) && (index == 0 || !is_index(fragment)) {
            return Err(Problem::InvalidParameter(key.to_owned()));
        }
    }
    let (last, parents) = fragments.split_last().ok_or_else(|| Problem::InvalidParameter(key.to_owned()))?;
    let mut here = root;
    for (depth, parent) in parents.iter().enumerate() {
        here = here
            .entry((*parent).to_owned())
            .or_insert_with(|| Value::Object(Map::new()))
            .as_object_mut()
            .ok_or_else(|| Problem::Inconsistent(fragments[..=depth].join(".")))?;
    }
    match here.get(*last) {
        Some(Value::Object(_)) => Err(Problem::Inconsistent(key.to_owned())),
        _ => {
            here.insert((*last).to_owned(), Value::String(value));
            Ok(())
        }
    }
}

fn is_name(fragment: &str) -> bool {
    fragment.len() <= MAX_FRAGMENT
        && fragment.starts_with(|c: char| c.is_ascii_alphabetic())
        && fragment.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

fn is_index(fragment: &str) -> bool {
    !fragment.is_empty() && fragment.len() <= MAX_FRAGMENT && fragment.bytes().all(|b| b.is_ascii_digit())
}

/// Turn objects whose keys are all numbers into lists.
fn lists(value: Value, path: &str) -> Result<Value, Problem> {
    let Value::Object(mut map) = value else {
        return Ok(value);
    };
    let numeric = map.keys().filter(|key| is_index(key)).count();
    let below = |key: &str| match path {
        "" => key.to_owned(),
        _ => format!("{path}.{key}"),
    };
    if numeric == 0 || path.is_empty() {
        let mut out = Map::new();
        for (key, value) in map {
            let value = lists(value, &below(&key))?;
            out.insert(key, value);
        }
        return Ok(Value::Object(out));
    }
    if numeric != map.len() {
        return Err(Problem::Inconsistent(path.to_owned()));
    }
    let mut list = Vec::with_capacity(numeric);
    for index in 0..numeric {
        let key = index.to_string();
        let value = map.remove(&key).ok_or_else(|| Problem::MissingElement(below(&key)))?;
        list.push(lists(value, &below(&key))?);
    }
    Ok(Value::Array(list))
}

fn print_value(key: &str, value: &Value, parts: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                print_value(&format!("{key}.{name}"), value, parts);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                print_value(&format!("{key}.{index}"), value, parts);
            }
        }
        Value::String(text) => parts.push(format!("{key}={}", text.replace(',', ",,"))),
        Value::Bool(on) => parts.push(format!("{key}={}", if *on { "on" } else { "off" })),
        Value::Number(number) => parts.push(format!("{key}={number}")),
        Value::Null => parts.push(format!("{key}=")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn tree(text: &str) -> Value {
        Value::Object(parse_keyval(text, Some("type")).unwrap().tree)
    }

    #[test]
    fn keyval_doubled_comma_is_a_comma() {
        assert_eq!(tree("a=x,,y,b=,,"), json!({"a": "x,y", "b": ","}));
    }

    #[test]
    fn keyval_dotted_keys_build_a_tree_and_numbers_build_lists() {
        assert_eq!(
            tree("none,a.b.c=1,a.l.1=y,a.l.0=x"),
            json!({"type": "none", "a": {"b": {"c": "1"}, "l": ["x", "y"]}})
        );
    }

    #[test]
    fn keyval_last_duplicate_wins_and_a_trailing_comma_is_allowed() {
        assert_eq!(tree("a=1,a=2,"), json!({"a": "2"}));
    }

    #[test]
    fn keyval_help_anywhere() {
        for text in ["help", "?", "none,help", "a=1,?,b=2"] {
            assert!(parse_keyval(text, Some("type")).unwrap().help, "{text}");
        }
        assert!(!parse_keyval("a=help", None).unwrap().help);
    }

    #[test]
    fn keyval_refusals() {
        let problem = |text: &str| parse_keyval(text, Some("type")).unwrap_err().to_string();
        assert_eq!(problem("x,foo"), "Expected '=' after parameter 'foo'");
        assert_eq!(problem("a..b=1"), "Invalid parameter 'a..b'");
        assert_eq!(problem("=x"), "Invalid parameter ''");
        assert_eq!(problem("1a=x"), "Invalid parameter '1a'");
        assert_eq!(problem("0=x"), "Invalid parameter '0'");
        assert_eq!(problem("x.0=1,x.2=1"), "Parameter 'x.1' missing");
        assert_eq!(problem("x=1,x.y=2"), "Parameters 'x.*' used inconsistently");
        assert_eq!(problem("x.y=1,x=2"), "Parameters 'x.*' used inconsistently");
        assert_eq!(problem("x.0=1,x.y=2"), "Parameters 'x.*' used inconsistently");
        assert_eq!(
            problem(&format!("{}=1", "a".repeat(128))),
            format!("Invalid parameter '{}'", "a".repeat(128))
        );
        assert!(problem(&format!("a{}=1", ".a".repeat(60_000))).ends_with("nested too deeply"));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = ".{0,12}".prop_map(Value::String);
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(Value::Array),
                object(inner).prop_map(Value::Object),
            ]
        })
    }

    fn object(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
        prop::collection::btree_map("[a-zA-Z][a-zA-Z0-9_-]{0,9}", inner, 1..4)
            .prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn keyval_parse_is_the_inverse_of_print(tree in object(value())) {
            let text = print_keyval(&tree);
            prop_assert_eq!(parse_keyval(&text, None).unwrap().tree, tree);
        }

        #[test]
        fn keyval_no_text_panics(text in ".*", grammar in "[a=,.0?help]*") {
            let _ = parse_keyval(&text, Some("type"));
            let _ = parse_keyval(&grammar, Some("type"));
        }
    }
}
