//! Maps of any memory: what is shown is what was told, and files are whole and well-formed.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use cloister_memory_map::{Error, MemoryMap, Observation, Picture, write_picture};
use cloister_platform::{Conversions, PageRun, PageState};
use proptest::prelude::*;
use std::path::Path;

fn states() -> impl Strategy<Value = PageState> {
    proptest::sample::select(&PageState::ALL[..])
}

fn observations() -> impl Strategy<Value = Observation> {
    let run = (prop_oneof![4 => 1u64..40, 1 => 1u64..3000], states());
    (prop::collection::vec(run, 1..120), any::<[u32; 7]>(), any::<bool>(), ".{0,40}").prop_map(
        |(parts, counts, model, platform)| {
            let mut pages = 0;
            let runs = parts
                .into_iter()
                .map(|(count, state)| {
                    let run = PageRun { first: pages, pages: count, state };
                    pages += count;
                    run
                })
                .collect();
            let [unpacked, cleared, imported, exported, shared, unshared, destroyed] = counts.map(u64::from);
            let conversions =
                Conversions { unpacked, cleared, imported, exported, shared, unshared, destroyed };
            Observation { platform, model, pages, runs, conversions }
        },
    )
}

fn map(seen: &Observation) -> MemoryMap {
    let runs = seen.runs.clone();
    MemoryMap::new(seen.clone(), |page, bytes| {
        let run = &runs[runs.partition_point(|run| run.first <= page) - 1];
        match run.state {
            PageState::Exported => random(page, bytes),
            PageState::Shared => bytes[..2048].fill(1),
            PageState::Private | PageState::Lost | PageState::Untouched => bytes.fill(0),
        }
        if run.state == PageState::Shared {
            bytes[2048..].fill(0);
        }
        Ok(())
    })
    .unwrap()
}

fn random(page: u64, bytes: &mut [u8]) {
    let mut state = page.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for byte in bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = (state >> 32) as u8;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn runs_cover_every_page_once_and_counts_add_up(seen in observations()) {
        let map = map(&seen);
        let mut at = 0;
        for (index, run) in map.runs.iter().enumerate() {
            prop_assert_eq!(run.first, at);
            prop_assert!(run.pages > 0);
            prop_assert!(index == 0 || map.runs[index - 1].state != run.state, "neighbours are merged");
            at += run.pages;
        }
        prop_assert_eq!(at * map.page_size, map.size);
        for state in PageState::ALL {
            let told: u64 = seen.runs.iter().filter(|run| run.state == state).map(|run| run.pages).sum();
            prop_assert_eq!(map.counts.of(state), told);
            let view = map.host_view_of(state);
            prop_assert_eq!(view.is_some(), told > 0);
            if let Some(view) = view {
                prop_assert_eq!(view.sampled, told.min(256));
                let low = match state {
                    PageState::Exported => 7.94,
                    PageState::Shared => 1.0,
                    PageState::Private | PageState::Lost | PageState::Untouched => 0.0,
                };
                prop_assert!((low..low + 0.04).contains(&view.entropy), "{:?}", view);
            }
        }
        prop_assert_eq!(map.counts.conversions, seen.conversions);
        prop_assert_eq!(map.entropy.len() as u64, seen.pages.div_ceil(map.cell_pages));
        prop_assert!(map.entropy.len() <= 4096 && map.entropy.iter().all(|bits| (0.0..=8.0).contains(bits)));
    }

    #[test]
    fn text_and_report_are_of_bounded_length(seen in observations(), limit in 0usize..20) {
        let map = map(&seen);
        let text = map.text(limit);
        let ranges = text.lines().filter(|line| line.starts_with("  0x")).count();
        prop_assert_eq!(ranges, map.runs.len().min(limit));
        prop_assert_eq!(text.contains("… and "), map.runs.len() > limit);
        let report = map.report(limit);
        prop_assert_eq!(report.ranges.len() as u64 + report.more_ranges, map.runs.len() as u64);
        let json = serde_json::to_value(&report).unwrap();
        prop_assert_eq!(json["private"].as_u64(), Some(map.counts.private));
        prop_assert_eq!(json["conversions"]["unpacked"].as_u64(), Some(seen.conversions.unpacked));
        prop_assert!(json["more-ranges"].is_u64() && json["page-size"] == 4096);
    }

    #[test]
    fn an_svg_is_well_formed_whatever_the_platform_is_called(seen in observations()) {
        let map = map(&seen);
        let svg = map.svg();
        let texts = well_formed(&svg).map_err(|why| TestCaseError::fail(format!("{why}\n{svg}")))?;
        prop_assert!(texts.iter().any(|text| text == "Who owns each page"));
        prop_assert_eq!(texts.iter().any(|text| text == "MODEL"), seen.model || seen.platform == "MODEL");
        prop_assert_eq!(svg, map.svg(), "the same every time");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3))]

    #[test]
    fn a_png_decodes_with_the_dimensions_of_the_svg_doubled(seen in observations()) {
        let map = map(&seen);
        let bytes = map.png().unwrap();
        prop_assert_eq!(&bytes, &map.png().unwrap(), "the same every time");
        let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let size = format!("width=\"{}\" height=\"{}\" viewBox", info.width / 2, info.height / 2);
        prop_assert!(map.svg().contains(&size), "{}", size);
        prop_assert_eq!(pixels.len(), info.width as usize * info.height as usize * 4);
        // Transparent outside its round corners, and nowhere else.
        prop_assert_eq!(pixels[3], 0);
        let middle = (info.height as usize / 2 * info.width as usize + info.width as usize / 2) * 4;
        prop_assert_eq!(pixels[middle + 3], 255);
    }
}

/// Every page of a small guest is a cell, and its colour says what it is: exactly.
#[test]
fn a_cell_of_one_page_has_the_colour_of_its_state() {
    let run = |first, pages, state| PageRun { first, pages, state };
    let runs =
        vec![run(0, 3, PageState::Private), run(3, 20, PageState::Shared), run(23, 9, PageState::Untouched)];
    let seen = Observation { pages: 32, runs, ..Observation::default() };
    let map = map(&seen);
    let bytes = map.png().unwrap();
    let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    // Sixteen cells of 36 units in a row, from 112 and 164 on; the other panel from 784 on.
    let pixel = |left: usize, page: usize| {
        let (x, y) = ((left + page % 16 * 36 + 10) * 2, (164 + page / 16 * 36 + 10) * 2);
        pixels[(y * info.width as usize + x) * 4..][..3].to_vec()
    };
    for page in 0..32 {
        let (owner, entropy) = match page {
            0..3 => ([0x00, 0x5f, 0xa8], [0xe6, 0xe8, 0xeb]),
            3..23 => ([0xe6, 0x9f, 0x00], [0xee, 0xe0, 0xc3]),
            _ => ([0xdd, 0xe1, 0xe6], [0xe6, 0xe8, 0xeb]),
        };
        assert_eq!(pixel(112, page), owner, "owner of page {page}");
        assert_eq!(pixel(784, page), entropy, "entropy of page {page}");
    }
}

#[test]
fn a_platform_that_leaves_pages_out_is_found_out() {
    let run = |first, pages| PageRun { first, pages, state: PageState::Private };
    for runs in [
        vec![],
        vec![run(0, 7)],
        vec![run(1, 7)],
        vec![run(0, 4), run(5, 3)],
        vec![run(0, 4), run(3, 5)],
        vec![run(0, 9)],
        vec![run(0, u64::MAX)],
    ] {
        let seen = Observation { pages: 8, runs: runs.clone(), ..Observation::default() };
        let made = MemoryMap::new(seen, |_, _| Ok(()));
        assert!(matches!(made, Err(Error::Gap { .. })), "{runs:?}");
    }
}

#[test]
fn a_picture_file_is_whole_or_not_there_at_all() {
    let seen = Observation {
        platform: "MODEL <&> \"x\"".into(),
        model: true,
        pages: 8,
        runs: vec![PageRun { first: 0, pages: 8, state: PageState::Private }],
        ..Observation::default()
    };
    let map = map(&seen);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    for name in ["map.svg", "map.PNG"] {
        std::fs::write(file(name), "old").unwrap();
        write_picture(&file(name), &map).unwrap();
    }
    assert_eq!(std::fs::read_to_string(file("map.svg")).unwrap(), map.svg());
    assert!(map.svg().contains("MODEL &lt;&amp;&gt; &quot;x&quot;"));
    assert_eq!(std::fs::read(file("map.PNG")).unwrap(), map.png().unwrap());
    assert!(matches!(Picture::of_path(Path::new("map.gif")), Err(Error::Extension(_))));
    let refused = write_picture(&file("map"), &map).unwrap_err();
    assert!(refused.to_string().contains(".svg or .png"), "{refused}");
    let nowhere = write_picture(&file("nowhere/map.svg"), &map).unwrap_err();
    assert!(matches!(nowhere, Error::Write { .. }), "{nowhere}");
    // A folder is in the way: what was written beside it is gone again.
    std::fs::create_dir(file("taken.svg")).unwrap();
    assert!(matches!(write_picture(&file("taken.svg"), &map), Err(Error::Write { .. })));
    let mut names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["map.PNG", "map.svg", "taken.svg"]);
}

/// Elements nest, attributes are quoted, text is escaped (XML 1.0, 2.1 and 2.4); yields the texts.
fn well_formed(xml: &str) -> Result<Vec<String>, String> {
    let (mut open, mut texts) = (Vec::new(), Vec::new());
    let mut rest =
        xml.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").ok_or("no declaration")?;
    let mut roots = 0;
    while let Some(start) = rest.find('<') {
        let text = &rest[..start];
        entities(text)?;
        if !text.trim().is_empty() {
            if open.is_empty() {
                return Err(format!("text outside: {text}"));
            }
            texts.push(text.to_owned());
        }
        let (tag, after) = rest[start + 1..].split_once('>').ok_or("a tag without an end")?;
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Err(format!("{name} closes something else"));
            }
            continue;
        }
        let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        roots += usize::from(open.is_empty());
        let mut seen = Vec::new();
        while !attributes.trim().is_empty() {
            let (key, value) =
                attributes.trim_start().split_once("=\"").ok_or("an attribute without a value")?;
            let (value, after) = value.split_once('"').ok_or("a value without an end")?;
            entities(value)?;
            if seen.contains(&key) || !key.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-') {
                return Err(format!("attribute {key}"));
            }
            seen.push(key);
            attributes = after;
        }
        if !empty {
            open.push(name);
        }
    }
    match (open.is_empty(), rest.trim().is_empty(), roots) {
        (true, true, 1) => Ok(texts),
        _ => Err(format!("left open: {open:?}, behind: {rest:?}, {roots} roots")),
    }
}

fn entities(text: &str) -> Result<(), String> {
    let known = ["amp;", "lt;", "gt;", "quot;", "apos;"];
    let forbidden = |letter: char| letter.is_control() && letter != '\n' && letter != '\t';
    if let Some(letter) = text.chars().find(|&letter| forbidden(letter)) {
        return Err(format!("character {letter:?}"));
    }
    match text.split('&').skip(1).find(|part| !known.iter().any(|entity| part.starts_with(entity))) {
        Some(part) => Err(format!("a bare ampersand before {part}")),
        None => Ok(()),
    }
}
