//! What a picture shows and where, for both kinds of files.
//!
//! Two panels of the same cells, in rows in the order of addresses: who owns them, and the entropy of what
//! the host finds there. The picture brings its own background, so that it reads on white and on dark pages.
//! Colours are told apart by people who do not see all of them: the states are from the palette of Okabe and
//! Ito, "Color Universal Design" (2008), and the scale of entropy only ever darkens.

use crate::MemoryMap;
use crate::font::width;
use crate::map::PER_CELL;
use crate::report::{amount, grouped, mib};
use cloister_platform::PageState;

/// Red, green, blue.
pub(crate) type Color = [u8; 3];

/// Left and top edge, width and height.
pub(crate) type Box4 = [f32; 4];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Rectangles of one colour.
    Boxes { fill: Color, boxes: Vec<Box4> },
    /// A rectangle with round corners.
    Round { fill: Color, at: Box4, radius: f32 },
    /// A line of text; the place is on its base line.
    Text { at: (f32, f32), size: f32, bold: bool, anchor: Anchor, fill: Color, text: String },
}

pub(crate) struct Scene {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) shapes: Vec<Shape>,
}

impl Scene {
    pub(crate) fn new(map: &MemoryMap) -> Self {
        let grid = map.grid();
        let pitch = PANEL / grid.columns as f32;
        let rows = grid.rows() as f32;
        let bottom = TOP + rows * pitch;
        let states = map.shown_states().count() as f32;
        let height = bottom + 64.0 + (states * LINE).max(130.0) + 40.0;
        let mut scene = Self {
            width: WIDTH as u32,
            height: height.ceil() as u32,
            title: TITLE.into(),
            description: description(map),
            shapes: Vec::new(),
        };
        scene.background();
        scene.head(map);
        scene.owners(map, pitch);
        scene.entropy(map, pitch);
        scene.addresses(map, pitch);
        scene.legend(map, bottom + 48.0);
        scene.scale(map, bottom + 48.0);
        scene
    }

    fn background(&mut self) {
        let (w, h) = (self.width as f32, self.height as f32);
        self.shapes.push(Shape::Round { fill: BORDER, at: [0.0, 0.0, w, h], radius: 14.0 });
        self.shapes.push(Shape::Round { fill: CARD, at: [1.0, 1.0, w - 2.0, h - 2.0], radius: 13.0 });
    }

    fn head(&mut self, map: &MemoryMap) {
        self.text(LEFT, 56.0, 26.0, true, INK, TITLE);
        if map.model {
            let (w, h) = (width(MODEL, 14.0) + 30.0, 28.0);
            let x = RIGHT - w;
            self.shapes.push(Shape::Round { fill: INK, at: [x, 34.0, w, h], radius: h / 2.0 });
            self.anchored(x + w / 2.0, 53.0, 14.0, true, CARD, Anchor::Middle, MODEL);
        }
        let cell = match map.cell_pages {
            1 => "a cell is a page".to_owned(),
            many => format!("a cell is {} pages, {}", grouped(many), amount(many * map.page_size)),
        };
        let size = format!(
            "{} of guest memory  ·  {} pages of {}  ·  {cell}",
            amount(map.size),
            grouped(map.pages()),
            amount(map.page_size)
        );
        self.text(LEFT, 84.0, 15.0, false, INK, &size);
        let platform = fitted(&map.platform, 13.0, RIGHT - LEFT);
        self.text(LEFT, 107.0, 13.0, false, MUTED, &platform);
        self.text(OWNERS, TOP - 14.0, 15.0, true, INK, "Owner");
        self.text(ENTROPY, TOP - 14.0, 15.0, true, INK, "Entropy of what the host finds there");
    }

    /// A cell with pages of several states is divided in proportion; no state that it has is left out.
    fn owners(&mut self, map: &MemoryMap, pitch: f32) {
        let grid = map.grid();
        let side = pitch - GAP;
        let mut boxes: [Vec<Box4>; PageState::ALL.len()] = Default::default();
        let mut runs = map.runs.iter().copied().peekable();
        for cell in 0..grid.cells() {
            let pages = grid.pages_of(cell);
            let mut shares = [0u64; PageState::ALL.len()];
            while let Some(run) = runs.peek() {
                let end = run.first + run.pages;
                let inside = end.min(pages.end) - run.first.max(pages.start);
                shares[rank(run.state)] += inside;
                if end > pages.end {
                    break;
                }
                runs.next();
                if end == pages.end {
                    break;
                }
            }
            let (x, y) = place(OWNERS, grid.columns, pitch, cell);
            // Halves of a pixel, which the doubled PNG draws as whole ones.
            let mut at = x;
            for (state, halves) in divide(&shares, (side * 2.0) as u64).into_iter().enumerate() {
                if halves > 0 {
                    let part = halves as f32 / 2.0;
                    boxes[state].push([at, y, part, side]);
                    at += part;
                }
            }
        }
        for (state, boxes) in PageState::ALL.into_iter().zip(boxes) {
            if !boxes.is_empty() {
                self.shapes.push(Shape::Boxes { fill: color(state), boxes });
            }
        }
    }

    fn entropy(&mut self, map: &MemoryMap, pitch: f32) {
        let grid = map.grid();
        let side = pitch - GAP;
        // 65 steps, of an eighth of a bit.
        let mut boxes: Vec<Vec<Box4>> = vec![Vec::new(); 65];
        for (cell, bits) in map.entropy.iter().enumerate() {
            let (x, y) = place(ENTROPY, grid.columns, pitch, cell as u64);
            let step = (bits.clamp(0.0, 8.0) * 8.0).round() as usize;
            boxes[step.min(64)].push([x, y, side, side]);
        }
        for (step, boxes) in boxes.into_iter().enumerate() {
            if !boxes.is_empty() {
                self.shapes.push(Shape::Boxes { fill: heat(step as f32 / 8.0), boxes });
            }
        }
    }

    fn addresses(&mut self, map: &MemoryMap, pitch: f32) {
        let grid = map.grid();
        let mut every = 1;
        while (every as f32) * pitch < 34.0 {
            every *= 2;
        }
        for row in (0..grid.rows()).step_by(every) {
            let address = row * grid.columns * grid.cell_pages * map.page_size;
            let y = TOP + row as f32 * pitch + (pitch - GAP) / 2.0 + 4.0;
            let words = if address == 0 { "0".to_owned() } else { amount(address) };
            self.anchored(OWNERS - 10.0, y, 12.0, false, MUTED, Anchor::End, &words);
            self.anchored(ENTROPY - 10.0, y, 12.0, false, MUTED, Anchor::End, &format!("{address:#x}"));
        }
    }

    fn legend(&mut self, map: &MemoryMap, top: f32) {
        const PAGES: f32 = 452.0;
        const MIB: f32 = 544.0;
        const SHARE: f32 = 612.0;
        const HOST: f32 = OWNERS + PANEL - GAP;
        let mut head = |x, words| self.anchored(x, top, 12.0, false, MUTED, Anchor::End, words);
        head(PAGES, "pages");
        head(MIB, "MiB");
        head(SHARE, "of all");
        head(HOST, "entropy");
        if map.cell_pages > 1 {
            self.text(LEFT, top, 12.0, false, MUTED, "Cells of several owners are divided in proportion.");
        }
        for (line, state) in map.shown_states().enumerate() {
            let y = top + LINE * (line as f32 + 1.0);
            let pages = map.counts.of(state);
            let at = [LEFT, y - 13.0, 16.0, 16.0];
            self.shapes.push(Shape::Boxes { fill: color(state), boxes: vec![at] });
            self.text(LEFT + 26.0, y, 14.0, true, INK, state.name());
            self.text(LEFT + 112.0, y, 13.0, false, MUTED, meaning(state));
            let mut number = |x, words: &str| self.anchored(x, y, 14.0, false, INK, Anchor::End, words);
            number(PAGES, &grouped(pages));
            number(MIB, &mib(pages * map.page_size));
            number(SHARE, &percent(pages, map.pages()));
            let found =
                map.host_view_of(state).map_or("–".to_owned(), |view| format!("{:.2}", view.entropy));
            number(HOST, &found);
        }
    }

    fn scale(&mut self, map: &MemoryMap, top: f32) {
        const STEPS: usize = 64;
        let step = (PANEL - GAP) / STEPS as f32;
        let (y, mut x) = (top + 8.0, ENTROPY);
        for index in 0..STEPS {
            // Whole halves of a pixel, without seams.
            let next = ((ENTROPY + step * (index + 1) as f32) * 2.0).round() / 2.0;
            let fill = heat((index as f32 + 0.5) / STEPS as f32 * 8.0);
            self.shapes.push(Shape::Boxes { fill, boxes: vec![[x, y, next - x, 12.0]] });
            x = next;
        }
        let end = ENTROPY + PANEL - GAP;
        self.text(ENTROPY, top, 12.0, false, MUTED, "0 bits per byte: empty or scrubbed");
        self.anchored(end, top, 12.0, false, MUTED, Anchor::End, "8: looks random, as ciphertext does");
        let how = if map.cell_pages > PER_CELL {
            format!("Mean of {PER_CELL} pages of each cell, read as they stand. Looking converts nothing.")
        } else {
            "Pages are read as they stand. Looking converts nothing.".to_owned()
        };
        self.text(ENTROPY, top + 40.0, 12.0, false, MUTED, &how);
        self.text(ENTROPY, top + 78.0, 14.0, true, INK, "Conversions so far");
        let named = map.counts.conversions.named();
        let step = (PANEL - GAP) / named.len() as f32;
        for (index, (name, count)) in named.into_iter().enumerate() {
            let x = ENTROPY + step * index as f32;
            self.text(x, top + 104.0, 16.0, true, INK, &short(count));
            self.text(x, top + 122.0, 12.0, false, MUTED, name);
        }
    }

    fn text(&mut self, x: f32, y: f32, size: f32, bold: bool, fill: Color, text: &str) {
        self.anchored(x, y, size, bold, fill, Anchor::Start, text);
    }

    #[expect(clippy::too_many_arguments, reason = "a line of text has this many properties")]
    fn anchored(&mut self, x: f32, y: f32, size: f32, bold: bool, fill: Color, anchor: Anchor, text: &str) {
        let text = text.to_owned();
        self.shapes.push(Shape::Text { at: (x, y), size, bold, anchor, fill, text });
    }
}

/// For people who have the picture read to them.
fn description(map: &MemoryMap) -> String {
    let mut words = format!("{}. {}:", map.platform, amount(map.size));
    for state in map.shown_states() {
        words.push_str(&format!(" {} {},", grouped(map.counts.of(state)), state.name()));
    }
    words.pop();
    words.push_str(" pages.");
    words
}

/// Divides a cell among states: in proportion, at least one unit for each that is there, all units given out.
fn divide(shares: &[u64; PageState::ALL.len()], units: u64) -> [u64; PageState::ALL.len()] {
    let mut parts = [0; PageState::ALL.len()];
    let total: u64 = shares.iter().sum();
    let present = shares.iter().filter(|&&share| share > 0).count() as u64;
    if total == 0 || units < present {
        return parts;
    }
    let free = units - present;
    let mut given = 0;
    for (part, &share) in parts.iter_mut().zip(shares) {
        if share > 0 {
            *part = 1 + (u128::from(free) * u128::from(share) / u128::from(total)) as u64;
            given += *part;
        }
    }
    // What rounding left goes to the largest.
    let largest = (0..shares.len()).max_by_key(|&state| (shares[state], usize::MAX - state));
    if let Some(largest) = largest {
        parts[largest] += units - given;
    }
    parts
}

fn rank(state: PageState) -> usize {
    PageState::ALL.iter().position(|&other| other == state).unwrap_or(0)
}

fn place(left: f32, columns: u64, pitch: f32, cell: u64) -> (f32, f32) {
    (left + (cell % columns) as f32 * pitch, TOP + (cell / columns) as f32 * pitch)
}

const fn color(state: PageState) -> Color {
    match state {
        PageState::Private => [0x00, 0x5f, 0xa8],
        PageState::Exported => [0x56, 0xb4, 0xe9],
        PageState::Shared => [0xe6, 0x9f, 0x00],
        PageState::Lost => [0xb0, 0x2a, 0x68],
        PageState::Untouched => [0xdd, 0xe1, 0xe6],
    }
}

const fn meaning(state: PageState) -> &'static str {
    match state {
        PageState::Private => "the guest's alone",
        PageState::Exported => "the host holds ciphertext",
        PageState::Shared => "both see the same bytes",
        PageState::Lost => "destroyed or altered by the host",
        PageState::Untouched => "not touched by the guest",
    }
}

/// The colour of an entropy; only ever darker.
fn heat(bits: f32) -> Color {
    const STOPS: [(f32, Color); 5] = [
        (0.0, [0xe6, 0xe8, 0xeb]),
        (2.0, [0xf5, 0xd7, 0x9b]),
        (4.5, [0xe8, 0x8f, 0x5c]),
        (6.5, [0xae, 0x3f, 0x6c]),
        (8.0, [0x38, 0x16, 0x57]),
    ];
    let bits = bits.clamp(0.0, 8.0);
    let mut color = STOPS[4].1;
    for pair in STOPS.windows(2) {
        let ((low, from), (high, to)) = (pair[0], pair[1]);
        if bits <= high {
            let t = ((bits - low) / (high - low)).clamp(0.0, 1.0);
            for (out, (a, b)) in color.iter_mut().zip(from.into_iter().zip(to)) {
                *out = (f32::from(a) + (f32::from(b) - f32::from(a)) * t).round() as u8;
            }
            break;
        }
    }
    color
}

/// As much of the text as fits.
fn fitted(text: &str, size: f32, room: f32) -> String {
    // A viewer's own font may be wider than ours.
    let room = room * 0.9;
    if width(text, size) <= room {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = width("…", size) + 4.0;
    for letter in text.chars() {
        used += width(letter.encode_utf8(&mut [0; 4]), size) + width("..", size);
        if used > room {
            break;
        }
        out.push(letter);
    }
    out + "…"
}

fn percent(part: u64, whole: u64) -> String {
    let tenths =
        (u128::from(part) * 1000 + u128::from(whole) / 2).checked_div(u128::from(whole)).unwrap_or(0);
    if part > 0 && tenths == 0 {
        return "<0.1 %".into();
    }
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// A count in little room.
fn short(count: u64) -> String {
    match count {
        0..=99_999 => grouped(count),
        100_000..=9_999_999 => format!("{}k", grouped(count / 1000)),
        _ => format!("{}M", grouped(count / 1_000_000)),
    }
}

const TITLE: &str = "Who owns each page";
const MODEL: &str = "MODEL";
const WIDTH: f32 = 1400.0;
const LEFT: f32 = 40.0;
const RIGHT: f32 = WIDTH - 40.0;
/// Left edges of the panels, and their common width.
const OWNERS: f32 = 112.0;
const ENTROPY: f32 = 784.0;
const PANEL: f32 = 576.0;
const TOP: f32 = 164.0;
/// Between cells.
const GAP: f32 = 1.0;
/// From line to line of the legend.
const LINE: f32 = 26.0;
const CARD: Color = [0xff, 0xff, 0xff];
const BORDER: Color = [0xb9, 0xc0, 0xc8];
const INK: Color = [0x1c, 0x22, 0x2b];
const MUTED: Color = [0x59, 0x63, 0x70];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_divided_cell_is_full_and_leaves_no_state_out(shares in any::<[u16; 5]>(), units in 5u64..72) {
            let shares = shares.map(u64::from);
            let parts = divide(&shares, units);
            let total: u64 = shares.iter().sum();
            prop_assert_eq!(parts.iter().sum::<u64>(), if total == 0 { 0 } else { units });
            for (part, share) in parts.iter().zip(shares) {
                prop_assert_eq!(*part > 0, share > 0);
            }
        }
    }

    #[test]
    fn the_scale_of_entropy_only_darkens() {
        let light = |bits: f32| {
            let [r, g, b] = heat(bits).map(f32::from);
            0.2126 * r + 0.7152 * g + 0.0722 * b
        };
        for step in 1..=64 {
            assert!(light(step as f32 / 8.0) < light((step - 1) as f32 / 8.0), "{step}");
        }
    }
}
