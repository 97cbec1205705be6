//! The rules of the design, applied to this repository and to things that break them.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use cloister_architecture_test::worlds::{Graph, ROOMS, Room, Violation};
use cloister_architecture_test::{doors, files, repository, sources};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The crates with unsafe code; their lib.rs say why. And a test that makes raw system calls, to see them refused.
const UNSAFE_CRATES: [&str; 5] = [
    "crates/secure/memory",
    "crates/secure/jit",
    "crates/hypervisor/kvm",
    "crates/hypervisor/sandbox/tests",
    "crates/uvdevice",
];

/// Crates whose public types cross a door, with the vocabulary that both doors speak.
const DOORS: [&str; 3] = ["crates/platform/src", "crates/firmware-api/src", "crates/common/arch/src"];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"])
        .arg(repository().join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn graph() -> Graph {
    Graph::from_metadata(&metadata()).unwrap()
}

fn lines<T: ToString>(violations: &[T]) -> String {
    violations.iter().map(|violation| format!("\n  {}", violation.to_string())).collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    files(folder)
        .unwrap()
        .into_iter()
        .filter(|file| file.extension().is_some_and(|end| end == "rs"))
        .collect()
}

fn parse(file: &Path) -> syn::File {
    syn::parse_file(&std::fs::read_to_string(file).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[test]
fn no_crate_reaches_what_its_room_must_not_reach() {
    let violations = graph().violations();
    assert!(violations.is_empty(), "{}", lines(&violations));
}

#[test]
fn every_room_is_inhabited() {
    let graph = graph();
    for room in ROOMS {
        assert!(graph.crates().any(|(_, folder)| Room::of(folder) == Some(room)), "no crate in {room:?}");
    }
}

/// The rules of the design, written out a second time and by name, against the table in `Room::may_reach`.
#[test]
fn the_table_of_rooms_says_what_the_design_says() {
    use Room::{Binary, Common, HostKernel, Hypervisor, LowerDoor, Owner, Secure, Test, UpperDoor};
    let forbidden = [
        (Hypervisor, Secure),
        (HostKernel, Secure),
        (Secure, Hypervisor),
        (Secure, HostKernel),
        (Owner, Secure),
        (Owner, Hypervisor),
        (Owner, HostKernel),
        (Owner, UpperDoor),
        (Owner, LowerDoor),
        (Secure, Owner),
        (Hypervisor, Owner),
        (HostKernel, Owner),
        (Hypervisor, LowerDoor),
        (Hypervisor, HostKernel),
        (Secure, UpperDoor),
        (UpperDoor, LowerDoor),
        (LowerDoor, UpperDoor),
    ];
    for (from, to) in forbidden {
        assert!(!from.may_reach().contains(&to), "{from:?} may reach {to:?}");
    }
    for from in [Common, UpperDoor, LowerDoor] {
        assert_eq!(from.may_reach(), [Common], "{from:?}");
    }
    for from in ROOMS {
        assert!(from == Test || !from.may_reach().contains(&Test), "{from:?} may reach tests");
        assert!(from == Test || !from.may_reach().contains(&Binary), "{from:?} may reach the binary");
    }
}

#[test]
fn every_forbidden_dependency_would_be_found_in_this_workspace() {
    let graph = graph();
    let crates: Vec<(String, Room)> =
        graph.crates().map(|(name, folder)| (name.to_owned(), Room::of(folder).unwrap())).collect();
    let mut tried = 0;
    for (from, room) in &crates {
        for (to, target) in &crates {
            if from == to || room.may_reach().contains(target) {
                continue;
            }
            let mut broken = graph.clone();
            broken.add(from, to);
            let path = vec![from.clone(), to.clone()];
            let expected = Violation::Reaches { path, rooms: (*room, *target) };
            assert!(broken.violations().contains(&expected), "{from} -> {to} was not found");
            tried += 1;
        }
    }
    assert!(tried > 100, "only {tried} dependencies tried");
}

/// Each file of `tests/fixtures` is a workspace and the violations that must be found in it, in words.
#[test]
fn the_fixtures_break_the_rules_as_they_say() {
    let mut seen = 0;
    for file in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")).unwrap() {
        let fixture: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let found: Vec<String> = Graph::from_metadata(&fixture["metadata"])
            .unwrap()
            .violations()
            .iter()
            .map(ToString::to_string)
            .collect();
        let expected: Vec<&str> =
            fixture["violations"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        assert_eq!(found, expected, "{}", file.display());
        seen += 1;
    }
    assert!(seen >= 3, "only {seen} fixtures");
}

#[test]
fn doors_carry_no_pointer_and_no_borrowed_memory() {
    let mut messages = 0;
    let mut violations = Vec::new();
    for file in DOORS.iter().flat_map(|folder| rust_files(&repository().join(folder))) {
        let source = parse(&file);
        messages += source
            .items
            .iter()
            .filter(
                |item| matches!(item, syn::Item::Enum(it) if it.ident == "Request" || it.ident == "Response"),
            )
            .count();
        let name = file.display();
        violations.extend(doors::violations(&source).iter().map(|violation| format!("{name}: {violation}")));
        violations.extend(
            doors::unserialised_messages(&source).iter().map(|violation| format!("{name}: {violation}")),
        );
    }
    assert!(violations.is_empty(), "{}", lines(&violations));
    assert_eq!(messages, 4, "each door has its Request and its Response");
}

#[test]
fn pointers_and_borrowed_memory_would_be_found_at_a_door() {
    let cases = [
        ("pub struct S { pub a: *const u8 }", "S.a: a raw pointer"),
        ("pub struct S<'a> { pub a: &'a [u8] }", "S.a: borrowed memory"),
        ("pub struct S<'a>(pub &'a mut [u8]);", "S.0: borrowed memory"),
        ("pub struct S<'a> { pub a: Option<&'a Page> }", "S.a: borrowed memory"),
        ("pub enum Request<'a> { Write { bytes: &'a [u8] } }", "Request::Write.bytes: borrowed memory"),
        ("pub enum Response { Memory(Vec<*mut u8>) }", "Response::Memory.0: a raw pointer"),
        ("pub enum Response { Memory(std::ptr::NonNull<u8>) }", "Response::Memory.0: a raw pointer"),
        ("pub fn page(p: *mut u8) {}", "page: a raw pointer"),
        ("pub fn page() -> Option<*const u8> { None }", "page: a raw pointer"),
        ("pub struct S; impl S { pub fn page(&self) -> &[u8] { &[] } }", "page: borrowed memory"),
        ("pub trait Door { fn page(&self) -> &mut [u8; 4096]; }", "Door::page: borrowed memory"),
        ("pub mod m { pub type Page<'a> = &'a [u8]; }", "m::Page: borrowed memory"),
        ("pub union U { a: u8, b: u16 }", "U: a union is not plain data"),
    ];
    for (source, expected) in cases {
        let found = doors::violations(&syn::parse_file(source).unwrap());
        assert!(found.contains(&expected.to_owned()), "{source}: {found:?}");
    }
    let harmless =
        "pub struct S { pub a: Vec<u8>, b: *const u8 } pub fn write(bytes: &[u8]) {} fn inner() -> &[u8] {}
        pub fn name() -> &'static str {}";
    assert_eq!(doors::violations(&syn::parse_file(harmless).unwrap()), Vec::<String>::new());
    let silent = syn::parse_file("#[derive(Clone, serde::Serialize)] pub enum Request { A }").unwrap();
    assert_eq!(doors::unserialised_messages(&silent), ["Request: does not derive Deserialize"]);
}

#[test]
fn every_crate_but_the_memory_forbids_unsafe_code() {
    let mut roots = 0;
    for package in metadata()["packages"].as_array().unwrap() {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        if UNSAFE_CRATES.iter().any(|home| manifest.ends_with(Path::new(home).join("Cargo.toml"))) {
            continue;
        }
        for target in package["targets"].as_array().unwrap() {
            let kind = target["kind"][0].as_str().unwrap();
            let root = Path::new(target["src_path"].as_str().unwrap());
            if matches!(kind, "lib" | "bin") {
                assert!(
                    sources::forbids_unsafe(&parse(root)),
                    "{}: #![forbid(unsafe_code)] is missing",
                    root.display()
                );
                roots += 1;
            }
        }
    }
    assert!(roots > 15, "only {roots} root files");
}

#[test]
fn no_file_but_those_of_the_memory_and_of_kvm_contains_unsafe_code() {
    let homes = UNSAFE_CRATES.map(|home| repository().join(home));
    let mut at_home = [0; UNSAFE_CRATES.len()];
    for file in rust_files(&repository()) {
        let places = sources::unsafe_places(&parse(&file));
        match homes.iter().position(|home| file.starts_with(home)) {
            Some(home) => at_home[home] += places,
            None => assert_eq!(places, 0, "{}", file.display()),
        }
    }
    assert!(!at_home.contains(&0), "the test does not see the unsafe code that there is");
    let example = syn::parse_file("unsafe impl Send for S {} unsafe fn f() { unsafe { g() } }").unwrap();
    assert_eq!(sources::unsafe_places(&example), 3);
}

#[test]
fn no_file_names_what_is_outside_the_repository() {
    let mut violations = Vec::new();
    for file in files(&repository()).unwrap() {
        // The lock file names the index that every Rust program names.
        if file.file_name().is_some_and(|name| name == "Cargo.lock") {
            continue;
        }
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        violations
            .extend(sources::forbidden_words(&text).iter().map(|word| format!("{}: {word}", file.display())));
    }
    assert!(violations.is_empty(), "{}", lines(&violations));
    let (word, _) = sources::FORBIDDEN_WORDS[0];
    assert_eq!(sources::forbidden_words(&format!("see {word}/design")), [word]);
}

#[test]
fn every_crate_folder_belongs_to_the_workspace() {
    let members: Vec<String> = graph().crates().map(|(_, folder)| folder.to_owned()).collect();
    let root = repository();
    for file in files(&root).unwrap() {
        if file.file_name().is_none_or(|name| name != "Cargo.toml") {
            continue;
        }
        let folder = file
            .parent()
            .and_then(|folder| folder.strip_prefix(&root).ok())
            .unwrap()
            .to_string_lossy()
            .into_owned();
        // The fuzz targets need a nightly compiler and stand apart.
        if folder.is_empty() || folder == "fuzz" {
            continue;
        }
        assert!(members.contains(&folder), "{folder} is not a member of the workspace");
    }
}

/// A promise names the test that holds it; a test that was renamed or removed must not stay in the table.
#[test]
fn every_test_that_the_specification_names_exists() {
    let text = std::fs::read_to_string(repository().join("SPECIFICATION.md")).unwrap();
    let sources: String =
        rust_files(&repository()).iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let exists = |name: &str| sources.contains(&format!("fn {name}("));
    let mut named = 0;
    let mut missing = Vec::new();
    // What stands between the last two bars of a table's row.
    for cell in text.lines().filter_map(|line| line.trim_end().strip_suffix('|')?.rsplit('|').next()) {
        for name in cell.split('`').skip(1).step_by(2) {
            let is_name = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if is_name {
                named += 1;
                if !exists(name) {
                    missing.push(name);
                }
            }
        }
    }
    assert!(missing.is_empty(), "{}", lines(&missing));
    assert!(named > 60, "only {named} tests named");
    assert!(!exists("no_test_has_this_name_"));
}
