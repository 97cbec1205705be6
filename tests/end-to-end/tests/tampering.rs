//! Bits of an image file, flipped all over it, each in a whole boot: the image is refused with a code, or never
//! starts, or the guest inside is exactly the one that its owner packed. `data/image-coverage.txt` says which of
//! these can happen in which part.
//!
//! By default every byte of the parts that no digest covers is tried with one bit (some parts with every bit),
//! and every page of the components with several. `CLOISTER_TAMPER=bytes` tries one bit of every byte of the file
//! (minutes), `CLOISTER_TAMPER=all` every bit (hours).
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use cloister_end_to_end::inprocess::{Boot, Model, Run, guest_program};
use cloister_machines::{End, MachineError};
use cloister_owner::image::{Settings, inspect_bytes};
use cloister_platform_store::Platform;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What an image with a flipped bit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The Ultravisor refused it: rc and rrc, and the user was told in words.
    Refused(u16, u16),
    /// No CPU was ever started in protected mode: the plain loader, the machine or the guest gave up before.
    NeverInside,
    /// The guest ran inside, and it was the one of the owner.
    AsPacked,
}

/// A part of the file.
struct Part {
    name: String,
    start: usize,
    end: usize,
    /// Every bit, or one bit of every n-th byte.
    stride: Option<usize>,
}

#[test]
fn a_flipped_bit_of_an_image_is_refused_or_changes_nothing_inside() {
    let model = Model::new("tampering");
    let image = model.image(&guest_program("witness"), None, "c", &Settings::default());
    let parts = parts(&image);
    let mode = std::env::var("CLOISTER_TAMPER").unwrap_or_default();
    let (all, every_byte) = (mode == "all", mode == "bytes");
    let mut bits = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        let span = (part.start..part.end).enumerate();
        for (index, byte) in span {
            match part.stride {
                None => bits.extend((0..8).map(|bit| (number, byte * 8 + bit))),
                _ if all => bits.extend((0..8).map(|bit| (number, byte * 8 + bit))),
                Some(stride) if every_byte || index % stride == 0 || matches!(byte % 4096, 0 | 4095) => {
                    // Any bit, but the same one in every run.
                    bits.push((number, byte * 8 + byte.wrapping_mul(0x9e37_79b9) / 512 % 8));
                }
                Some(_) => {}
            }
        }
    }
    let reference = boot(&model, &image).unwrap();
    let inside = reference.inside().unwrap();
    assert_eq!((reference.pages("intact"), &reference.end), (8, &End::PowerOff), "{reference:?}");

    let started = std::time::Instant::now();
    let (next, found) =
        (AtomicUsize::new(0), Mutex::new(BTreeMap::<usize, BTreeMap<Outcome, BTreeSet<usize>>>::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let folder = model.copy();
                let file = folder.path().join("altered.img");
                let mut altered = image.clone();
                while let Some(&(part, bit)) = bits.get(next.fetch_add(1, Ordering::Relaxed)) {
                    altered[bit / 8] ^= 0x80 >> (bit % 8);
                    std::fs::write(&file, &altered).unwrap();
                    altered[bit / 8] ^= 0x80 >> (bit % 8);
                    let run = run(Platform::open(folder.path()).unwrap(), &file);
                    let outcome = judge(
                        &run,
                        inside,
                        &format!("{} byte {:#x} bit {}", parts[part].name, bit / 8, bit % 8),
                    );
                    found
                        .lock()
                        .unwrap()
                        .entry(part)
                        .or_default()
                        .entry(outcome)
                        .or_default()
                        .insert(bit / 8);
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    println!("{} bits in {:.1} s", bits.len(), started.elapsed().as_secs_f64());
    let mut report = String::new();
    for (number, outcomes) in &found {
        let part = &parts[*number];
        for (outcome, bytes) in outcomes {
            println!("{:<22} {outcome:<24} {}", part.name, ranges(bytes, part));
        }
        let mut words: BTreeSet<String> = outcomes.keys().map(Outcome::to_string).collect();
        if part.name.starts_with("component") || part.name == "header" {
            assert!(
                outcomes.keys().all(|outcome| matches!(outcome, Outcome::Refused(..))),
                "{}: {words:?}",
                part.name
            );
        }
        let line: Vec<String> = std::mem::take(&mut words).into_iter().collect();
        writeln!(report, "{}: {}", part.name, line.join(", ")).unwrap();
    }
    compare(&report);
}

/// What may happen stands in the data file; a wider run may find more, which then belongs there.
fn compare(report: &str) {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/image-coverage.txt"));
    if std::env::var_os("CLOISTER_TAMPER_WRITE").is_some() {
        std::fs::write(path, format!("{HEAD}{report}")).unwrap();
    }
    let text = std::fs::read_to_string(path).unwrap();
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        text.lines().filter(|line| !line.starts_with('#')).filter_map(entry).collect();
    let found: BTreeMap<&str, BTreeSet<&str>> = report.lines().filter_map(entry).collect();
    assert_eq!(found.keys().collect::<Vec<_>>(), allowed.keys().collect::<Vec<_>>(), "parts of the image");
    for (part, outcomes) in &found {
        let new: Vec<_> = outcomes.difference(&allowed[part]).collect();
        assert!(new.is_empty(), "{part}: {new:?} is not in {}", path.display());
    }
}

fn entry(line: &str) -> Option<(&str, BTreeSet<&str>)> {
    let (name, outcomes) = line.split_once(": ")?;
    Some((name, outcomes.split(", ").collect()))
}

fn judge(run: &Result<Run, MachineError>, inside: &str, which: &str) -> Outcome {
    let run = match run {
        Ok(run) => run,
        // The machine read the file and said why it cannot boot it.
        Err(why) => {
            assert!(!why.to_string().is_empty());
            return Outcome::NeverInside;
        }
    };
    if run.entered > 0 {
        assert_eq!(run.inside(), Some(inside), "ALTERED CONTENT RAN INSIDE: {which}: {run:?}");
        assert_eq!(run.end, End::PowerOff, "{which}: {run:?}");
        return Outcome::AsPacked;
    }
    assert_eq!(run.inside(), None, "{which}: a guest outside claims to be inside: {run:?}");
    let code = run.messages.iter().find_map(|message| {
        let (_, rest) = message.split_once(" failed: rc ")?;
        let (rc, rest) = rest.split_once(" rrc ")?;
        let (rrc, words) = rest.split_once(": ")?;
        assert!(words.len() > 10, "{which}: no words: {message}");
        let number = |text: &str| u16::from_str_radix(text, 16).ok();
        Some(Outcome::Refused(number(rc)?, number(rrc)?))
    });
    if std::env::var_os("CLOISTER_TAMPER_SHOW").is_some() && code.is_none() {
        println!("{which}: {run:?}");
    }
    code.unwrap_or(Outcome::NeverInside)
}

fn boot(model: &Model, image: &[u8]) -> Result<Run, MachineError> {
    run(model.platform(), &model.write("image.img", image))
}

fn run(platform: Platform, image: &Path) -> Result<Run, MachineError> {
    Boot::protected(platform, image).arguments(&["-m", "4"]).turns(PATIENCE).run()
}

/// The parts of the file, in order and without gaps.
fn parts(image: &[u8]) -> Vec<Part> {
    let inspection = inspect_bytes("image", image, None).unwrap();
    let metadata = cloister_formats::s390x::se_image::Metadata::parse(&image[0xc000..]).unwrap();
    let header = metadata.header_offset as usize;
    let ipib = metadata.ipib_offset as usize;
    let header_end =
        header + u32::from_be_bytes(image[header + 0xc..header + 0x10].try_into().unwrap()) as usize;
    let ipib_end = ipib + u32::from_be_bytes(image[ipib..ipib + 4].try_into().unwrap()) as usize;
    let loader_end = (0x10000..header).rev().find(|&at| image[at] != 0).unwrap() + 1;
    let mut named = vec![
        ("short PSW".to_owned(), 0, 8, None),
        ("metadata".to_owned(), 0xc000, 0xc01c, None),
        ("stage A".to_owned(), 0x10000, loader_end, Some(3)),
        ("header".to_owned(), header, header_end, Some(1)),
        ("IPL parameter block".to_owned(), ipib, ipib_end, None),
    ];
    for (number, component) in inspection.components.iter().enumerate() {
        let start = component.addr as usize;
        let end = start + (component.size as usize).next_multiple_of(4096);
        named.push((format!("component {number}"), start, end.min(image.len()), Some(61)));
    }
    named.sort_by_key(|part| part.1);
    let mut parts = Vec::new();
    let mut at = 0;
    for (name, start, end, stride) in named {
        if at < start {
            parts.push(Part {
                name: format!("between, before {name}"),
                start: at,
                end: start,
                stride: Some(509),
            });
        }
        assert!(at <= start, "{name} overlaps");
        parts.push(Part { name, start, end, stride });
        at = end;
    }
    if at < image.len() {
        parts.push(Part { name: "the end".into(), start: at, end: image.len(), stride: Some(509) });
    }
    parts
}

/// Bytes relative to their part, as ranges.
fn ranges(bytes: &BTreeSet<usize>, part: &Part) -> String {
    let stride = part.stride.unwrap_or(1);
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &byte in bytes {
        let at = byte - part.start;
        match ranges.last_mut() {
            Some((_, last)) if at <= *last + stride => *last = at,
            _ => ranges.push((at, at)),
        }
    }
    let words = ranges.iter().map(|(a, b)| if a == b { format!("{a:#x}") } else { format!("{a:#x}-{b:#x}") });
    words.collect::<Vec<_>>().join(" ")
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(rc, rrc) => f.pad(&format!("refused {rc:x}/{rrc:x}")),
            Self::NeverInside => f.pad("never inside"),
            Self::AsPacked => f.pad("as packed"),
        }
    }
}

/// Turns after which a guest counts as hanging; the witness takes about 60.
const PATIENCE: u64 = 150;
const HEAD: &str = "\
# What a flipped bit in each part of an image file can lead to; see tests/tampering.rs.
#   refused RC/RRC  the Ultravisor refuses the image, and no CPU starts in protected mode
#   never inside    the plain loader or the machine gives up, outside protection
#   as packed       the guest inside is the one that was packed
# CLOISTER_TAMPER=bytes CLOISTER_TAMPER_WRITE=1 cargo test -p cloister-end-to-end --release --test tampering
# writes the lines anew; outcomes that only other bits have are kept by hand.
";
