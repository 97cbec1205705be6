//! Letters for pictures without a font engine: strokes of one width, drawn for this crate.
//!
//! Not a typeface: printable ASCII and a few signs, enough for labels. Others become a box.

/// A point; the base line is 0, capitals are 14 high.
pub(crate) type Point = (f32, f32);

/// A letter's strokes, each a chain of points, and its width.
pub(crate) struct Glyph {
    pub(crate) width: f32,
    pub(crate) strokes: Vec<Vec<Point>>,
}

/// How high capitals are, in the units of glyphs.
const CAPITAL: f32 = 14.0;
/// Space between letters.
const SPACING: f32 = 3.3;

/// Units of glyphs to pixels, for a font size in pixels.
pub(crate) fn unit(size: f32) -> f32 {
    size * 0.715 / CAPITAL
}

/// Width of a text in pixels.
pub(crate) fn width(text: &str, size: f32) -> f32 {
    let advance: f32 = text.chars().map(|letter| definition(letter).0 + SPACING).sum();
    (advance - SPACING).max(0.0) * unit(size)
}

/// The letters of a text with the place where each begins, in units.
pub(crate) fn layout(text: &str) -> impl Iterator<Item = (f32, Glyph)> + '_ {
    let mut at = 0.0;
    text.chars().map(move |letter| {
        let glyph = glyph(letter);
        let x = at;
        at += glyph.width + SPACING;
        (x, glyph)
    })
}

fn glyph(letter: char) -> Glyph {
    let (width, path) = definition(letter);
    let mut strokes: Vec<Vec<Point>> = Vec::new();
    let mut control: Option<Point> = None;
    for token in path.split_ascii_whitespace() {
        let (kind, rest) = match token.as_bytes().first() {
            Some(b'M') => ('M', &token[1..]),
            Some(b'Q') => ('Q', &token[1..]),
            _ => ('L', token),
        };
        let Some(to) = point(rest) else { continue };
        match (kind, control.take(), strokes.last_mut()) {
            ('Q', ..) => control = Some(to),
            ('L', Some(bend), Some(stroke)) => curve(stroke, bend, to),
            ('L', None, Some(stroke)) => stroke.push(to),
            _ => strokes.push(vec![to]),
        }
    }
    Glyph { width, strokes }
}

fn point(token: &str) -> Option<Point> {
    let (x, y) = token.split_once(',')?;
    Some((x.parse().ok()?, y.parse().ok()?))
}

/// A curve to `to`, bent towards `bend`: between a quadratic and a circle, as bowls look too lean otherwise.
fn curve(stroke: &mut Vec<Point>, bend: Point, to: Point) {
    const STEPS: usize = 10;
    /// Of the way to the bend, where the handles of a quarter circle are.
    const ROUND: f32 = 0.60;
    let Some(&from) = stroke.last() else { return };
    let towards = |a: f32, b: f32| a + (b - a) * ROUND;
    let first = (towards(from.0, bend.0), towards(from.1, bend.1));
    let second = (towards(to.0, bend.0), towards(to.1, bend.1));
    for step in 1..=STEPS {
        let t = step as f32 / STEPS as f32;
        let s = 1.0 - t;
        let mix = |p: f32, a: f32, b: f32, q: f32| {
            s * s * s * p + 3.0 * s * s * t * a + 3.0 * s * t * t * b + t * t * t * q
        };
        stroke.push((mix(from.0, first.0, second.0, to.0), mix(from.1, first.1, second.1, to.1)));
    }
}

/// Width and path: `M` begins a stroke, a bare point is a straight line to it, `Q` bends the next one.
fn definition(letter: char) -> (f32, &'static str) {
    match letter {
        ' ' => (2.6, ""),
        'A' => (9.6, "M0,0 4.8,14 9.6,0 M1.7,4.8 7.9,4.8"),
        'B' => (8.0, "M4,7.5 Q7.5,7.5 7.5,10.75 Q7.5,14 4,14 0,14 0,0 4,0 Q8,0 8,3.75 Q8,7.5 4,7.5 0,7.5"),
        'C' => (9.0, "M9,11.2 Q8,14 4.9,14 Q0,14 0,7 Q0,0 4.9,0 Q8,0 9,2.8"),
        'D' => (9.0, "M0,0 0,14 3.5,14 Q9,14 9,7 Q9,0 3.5,0 0,0"),
        'E' => (7.0, "M7,14 0,14 0,0 7,0 M0,7.4 6,7.4"),
        'F' => (7.0, "M7,14 0,14 0,0 M0,7.2 6,7.2"),
        'G' => (9.4, "M9,11.2 Q8,14 4.9,14 Q0,14 0,7 Q0,0 4.9,0 Q9.4,0 9.4,4.4 9.4,6.6 5.4,6.6"),
        'H' => (8.6, "M0,0 0,14 M8.6,0 8.6,14 M0,7.2 8.6,7.2"),
        'I' => (0.0, "M0,0 0,14"),
        'J' => (6.0, "M6,14 6,4 Q6,0 3,0 Q0.6,0 0,2.6"),
        'K' => (8.4, "M0,0 0,14 M8,14 0,5.8 M2.8,8.7 8.4,0"),
        'L' => (6.6, "M0,14 0,0 6.6,0"),
        'M' => (10.6, "M0,0 0,14 5.3,4 10.6,14 10.6,0"),
        'N' => (8.6, "M0,0 0,14 8.6,0 8.6,14"),
        'O' => (10.4, "M5.2,14 Q0,14 0,7 Q0,0 5.2,0 Q10.4,0 10.4,7 Q10.4,14 5.2,14"),
        'P' => (8.0, "M0,0 0,14 4,14 Q8,14 8,10.2 Q8,6.4 4,6.4 0,6.4"),
        'Q' => (10.4, "M5.2,14 Q0,14 0,7 Q0,0 5.2,0 Q10.4,0 10.4,7 Q10.4,14 5.2,14 M6.4,3.6 10.4,-0.8"),
        'R' => (8.4, "M0,0 0,14 4,14 Q8,14 8,10.2 Q8,6.4 4,6.4 0,6.4 M4.2,6.4 8.4,0"),
        'S' => {
            (8.0, "M7.5,11.3 Q6.8,14 4,14 Q0.5,14 0.5,10.7 Q0.5,8 4,7.2 Q8,6.3 8,3.5 Q8,0 4,0 Q0.8,0 0,2.9")
        }
        'T' => (9.0, "M0,14 9,14 M4.5,14 4.5,0"),
        'U' => (8.6, "M0,14 0,5 Q0,0 4.3,0 Q8.6,0 8.6,5 8.6,14"),
        'V' => (9.4, "M0,14 4.7,0 9.4,14"),
        'W' => (13.2, "M0,14 3.3,0 6.6,13 9.9,0 13.2,14"),
        'X' => (8.6, "M0,14 8.6,0 M8.6,14 0,0"),
        'Y' => (9.0, "M0,14 4.5,6.8 9,14 M4.5,6.8 4.5,0"),
        'Z' => (8.0, "M0,14 8,14 0,0 8,0"),
        'a' => (7.0, "M7,10 7,0 M7,5 Q7,10 3.5,10 Q0,10 0,5 Q0,0 3.5,0 Q7,0 7,5"),
        'b' => (7.0, "M0,14.6 0,0 M0,5 Q0,10 3.5,10 Q7,10 7,5 Q7,0 3.5,0 Q0,0 0,5"),
        'c' => (6.2, "M6.2,8 Q5.4,10 3.5,10 Q0,10 0,5 Q0,0 3.5,0 Q5.4,0 6.2,2"),
        'd' => (7.0, "M7,14.6 7,0 M7,5 Q7,10 3.5,10 Q0,10 0,5 Q0,0 3.5,0 Q7,0 7,5"),
        'e' => (7.0, "M0,5.3 7,5.3 Q7,10 3.5,10 Q0,10 0,5 Q0,0 3.6,0 Q5.8,0 6.7,2.2"),
        'f' => (4.2, "M4.6,14.4 Q1.8,14.8 1.8,11.4 1.8,0 M0,10 4.2,10"),
        'g' => {
            (7.0, "M7,10 7,0 Q7,-4 3.6,-4 Q1.2,-4 0.4,-2.4 M7,5 Q7,10 3.5,10 Q0,10 0,5 Q0,0 3.5,0 Q7,0 7,5")
        }
        'h' => (6.6, "M0,14.6 0,0 M0,5.6 Q0.2,10 3.5,10 Q6.6,10 6.6,6 6.6,0"),
        'i' => (0.0, "M0,10 0,0 M0,13.7 0,13.9"),
        'j' => (2.0, "M2,10 2,-1.6 Q2,-4 0,-4 M2,13.7 2,13.9"),
        'k' => (6.4, "M0,14.6 0,0 M6,10 0,4.2 M2.2,6.3 6.4,0"),
        'l' => (1.6, "M0,14.6 0,2 Q0,0 1.6,0"),
        'm' => (
            11.0,
            "M0,10 0,0 M0,6 Q0.1,10 2.9,10 Q5.5,10 5.5,6.4 5.5,0 M5.5,6 Q5.6,10 8.4,10 Q11,10 11,6.4 11,0",
        ),
        'n' => (6.6, "M0,10 0,0 M0,5.6 Q0.2,10 3.5,10 Q6.6,10 6.6,6 6.6,0"),
        'o' => (7.2, "M3.6,10 Q0,10 0,5 Q0,0 3.6,0 Q7.2,0 7.2,5 Q7.2,10 3.6,10"),
        'p' => (7.0, "M0,10 0,-4 M0,5 Q0,10 3.5,10 Q7,10 7,5 Q7,0 3.5,0 Q0,0 0,5"),
        'q' => (7.0, "M7,10 7,-4 M7,5 Q7,10 3.5,10 Q0,10 0,5 Q0,0 3.5,0 Q7,0 7,5"),
        'r' => (3.8, "M0,10 0,0 M0,5.4 Q0.2,10 3.8,9.8"),
        's' => (
            5.8,
            "M5.4,8.1 Q4.8,10 2.9,10 Q0.3,10 0.3,7.7 Q0.3,5.7 2.9,5.2 Q5.8,4.6 5.8,2.5 Q5.8,0 2.9,0 Q0.5,0 0,1.9",
        ),
        't' => (4.4, "M1.8,13 1.8,2.6 Q1.8,0 4.4,0.1 M0,10 4.4,10"),
        'u' => (6.6, "M0,10 0,4 Q0,0 3.1,0 Q6.4,0 6.6,4.4 M6.6,10 6.6,0"),
        'v' => (7.0, "M0,10 3.5,0 7,10"),
        'w' => (10.4, "M0,10 2.6,0 5.2,9.4 7.8,0 10.4,10"),
        'x' => (6.6, "M0,10 6.6,0 M6.6,10 0,0"),
        'y' => (7.0, "M0,10 3.6,0 M7,10 3.2,-1.4 Q2.2,-4 0,-4"),
        'z' => (6.0, "M0,10 6,10 0,0 6,0"),
        '0' => (7.6, "M3.8,14 Q0,14 0,7 Q0,0 3.8,0 Q7.6,0 7.6,7 Q7.6,14 3.8,14"),
        '1' => (7.6, "M1.2,11.2 4.6,14 4.6,0"),
        '2' => (7.6, "M0.2,10.4 Q0.4,14 3.8,14 Q7.3,14 7.3,10.4 Q7.3,8.2 4.6,5.2 0,0 7.6,0"),
        '3' => (
            7.6,
            "M0.4,11.6 Q1.2,14 3.8,14 Q7.1,14 7.1,10.8 Q7.1,7.5 3,7.5 M3,7.5 Q7.6,7.5 7.6,3.8 Q7.6,0 3.8,0 Q0.7,0 0,2.8",
        ),
        '4' => (7.6, "M5.8,0 5.8,14 0,4 7.6,4"),
        '5' => (7.6, "M6.9,14 1.2,14 0.6,7.6 Q2,9 4,9 Q7.6,9 7.6,4.6 Q7.6,0 3.8,0 Q0.8,0 0,2.6"),
        '6' => (
            7.6,
            "M6.6,13.2 Q5.7,14 4.3,14 Q0,14 0,5 Q0,0 3.8,0 Q7.6,0 7.6,4.3 Q7.6,8.5 3.9,8.5 Q0.8,8.5 0,5",
        ),
        '7' => (7.6, "M0,14 7.6,14 2.6,0"),
        '8' => (
            7.6,
            "M3.8,7.6 Q0.6,7.6 0.6,10.8 Q0.6,14 3.8,14 Q7,14 7,10.8 Q7,7.6 3.8,7.6 Q0,7.6 0,3.8 Q0,0 3.8,0 Q7.6,0 7.6,3.8 Q7.6,7.6 3.8,7.6",
        ),
        '9' => {
            (7.6, "M1,0.8 Q1.9,0 3.3,0 Q7.6,0 7.6,9 Q7.6,14 3.8,14 Q0,14 0,9.7 Q0,5.5 3.7,5.5 Q6.8,5.5 7.6,9")
        }
        '.' => (0.4, "M0.2,0 0.2,0.2"),
        ',' => (1.0, "M1,0.3 0.1,-2.6"),
        ':' => (0.4, "M0.2,0 0.2,0.2 M0.2,8 0.2,8.2"),
        ';' => (1.0, "M1,0.3 0.1,-2.6 M0.8,8 0.8,8.2"),
        '-' => (4.4, "M0,5.4 4.4,5.4"),
        '–' => (6.6, "M0,5.4 6.6,5.4"),
        '_' => (7.6, "M0,-2 7.6,-2"),
        '/' => (5.6, "M0,-2 5.6,15.4"),
        '\\' => (5.6, "M5.6,-2 0,15.4"),
        '|' => (0.0, "M0,-3 0,16"),
        '(' => (2.8, "M2.8,15.6 Q0,12 0,6.5 Q0,1 2.8,-2.6"),
        ')' => (2.8, "M0,15.6 Q2.8,12 2.8,6.5 Q2.8,1 0,-2.6"),
        '[' => (2.8, "M2.8,15.4 0,15.4 0,-2.4 2.8,-2.4"),
        ']' => (2.8, "M0,15.4 2.8,15.4 2.8,-2.4 0,-2.4"),
        '{' => (3.6, "M3.6,15.4 Q1.6,15.4 1.6,12.4 1.6,8.6 0,6.5 1.6,4.4 1.6,0.6 Q1.6,-2.4 3.6,-2.4"),
        '}' => (3.6, "M0,15.4 Q2,15.4 2,12.4 2,8.6 3.6,6.5 2,4.4 2,0.6 Q2,-2.4 0,-2.4"),
        '<' => (6.6, "M6.6,11 0,6 6.6,1"),
        '>' => (6.6, "M0,11 6.6,6 0,1"),
        '=' => (6.6, "M0,8 6.6,8 M0,4 6.6,4"),
        '+' => (7.0, "M3.5,10 3.5,2 M-0.4,6 7.4,6"),
        '*' => (5.2, "M2.6,14 2.6,8 M0,12.5 5.2,9.5 M5.2,12.5 0,9.5"),
        '#' => (8.6, "M3,14 1.6,0 M7,14 5.6,0 M0.4,9.4 8.6,9.4 M0,4.6 8.2,4.6"),
        '%' => (
            10.6,
            "M9,14 1.6,0 M2.4,14 Q0,14 0,11.2 Q0,8.4 2.4,8.4 Q4.8,8.4 4.8,11.2 Q4.8,14 2.4,14 M8.2,5.6 Q5.8,5.6 5.8,2.8 Q5.8,0 8.2,0 Q10.6,0 10.6,2.8 Q10.6,5.6 8.2,5.6",
        ),
        '&' => (
            9.2,
            "M9.2,0 2.2,9 Q0.8,11 1.6,12.6 Q2.4,14 4,14 Q6.4,14 6.4,11.6 Q6.4,9.8 3.2,8 Q0,6.2 0,3.6 Q0,0 3.8,0 Q7.8,0 9,6.4",
        ),
        '@' => (
            12.4,
            "M8.8,9 8.8,5 Q8.8,3.6 10.3,3.6 Q12.4,3.6 12.4,7.4 Q12.4,14 6.4,14 Q0,14 0,6.4 Q0,-1.6 6.6,-1.6 Q9,-1.6 10.8,-0.4 M8.8,6.4 Q8.8,9.6 6.2,9.6 Q3.6,9.6 3.6,6.4 Q3.6,3.4 6,3.4 Q8.8,3.4 8.8,6.4",
        ),
        '!' => (0.4, "M0.2,14 0.2,4.4 M0.2,0 0.2,0.2"),
        '?' => (6.4, "M0,11.2 Q0.4,14 3.2,14 Q6.4,14 6.4,11 Q6.4,9 4.4,7.6 Q3,6.6 3,4.4 M3,0 3,0.2"),
        '\'' => (0.0, "M0,14.4 0,11"),
        '"' => (3.2, "M0,14.4 0,11 M3.2,14.4 3.2,11"),
        '`' => (2.0, "M0,14.8 2,12.4"),
        '^' => (6.4, "M0,9.4 3.2,14 6.4,9.4"),
        '~' => (7.4, "M0,5 Q1.4,7.4 3.6,6 Q5.8,4.6 7.4,7"),
        '$' => (
            7.6,
            "M7.1,11.3 Q6.4,13.6 3.8,13.6 Q0.5,13.6 0.5,10.6 Q0.5,8 3.8,7.2 Q7.6,6.3 7.6,3.6 Q7.6,0.4 3.8,0.4 Q0.7,0.4 0,3 M3.8,15.8 3.8,-1.8",
        ),
        '·' => (0.4, "M0.2,5.6 0.2,5.8"),
        '…' => (8.4, "M0.2,0 0.2,0.2 M4.2,0 4.2,0.2 M8.2,0 8.2,0.2"),
        _ => (6.6, "M0,0 6.6,0 6.6,13 0,13 0,0"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_letter_is_drawn_and_stays_in_its_place() {
        let unknown = definition('\u{7f}').1;
        for letter in (' '..='~').chain("·…–".chars()) {
            let (width, path) = definition(letter);
            assert!(path != unknown, "{letter:?}");
            let points = path
                .split_ascii_whitespace()
                .filter(|token| point(token.trim_start_matches(['M', 'Q'])).is_some());
            assert_eq!(points.count(), path.split_ascii_whitespace().count(), "{letter:?}: {path}");
            for (x, y) in glyph(letter).strokes.concat() {
                assert!(
                    (-0.6..=width + 0.6).contains(&x) && (-4.0..=16.0).contains(&y),
                    "{letter:?} {x},{y}"
                );
            }
        }
    }
}
