//! A scene as SVG (Scalable Vector Graphics 1.1, W3C 2011), without script, style sheet or outside reference.

use crate::scene::{Anchor, Color, Scene, Shape};
use std::fmt::Write;

pub(crate) fn svg(scene: &Scene) -> String {
    let mut out = String::new();
    write_svg(&mut out, scene).expect("a String takes everything");
    out
}

fn write_svg(out: &mut String, scene: &Scene) -> std::fmt::Result {
    let (w, h) = (scene.width, scene.height);
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    write!(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" ")?;
    writeln!(out, "viewBox=\"0 0 {w} {h}\" role=\"img\" font-family=\"{FONTS}\">")?;
    writeln!(out, "<title>{}</title>", escaped(&scene.title))?;
    writeln!(out, "<desc>{}</desc>", escaped(&scene.description))?;
    for shape in &scene.shapes {
        match shape {
            Shape::Boxes { fill, boxes } => {
                write!(out, "<path fill=\"{}\" d=\"", hex(*fill))?;
                for [x, y, w, h] in boxes {
                    write!(out, "M{x} {y}h{w}v{h}h-{w}z")?;
                }
                writeln!(out, "\"/>")?;
            }
            Shape::Round { fill, at: [x, y, w, h], radius } => {
                write!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" ")?;
                writeln!(out, "rx=\"{radius}\" fill=\"{}\"/>", hex(*fill))?;
            }
            Shape::Text { at: (x, y), size, bold, anchor, fill, text } => {
                write!(out, "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" fill=\"{}\"", hex(*fill))?;
                if *bold {
                    write!(out, " font-weight=\"600\"")?;
                }
                match anchor {
                    Anchor::Start => {}
                    Anchor::Middle => write!(out, " text-anchor=\"middle\"")?,
                    Anchor::End => write!(out, " text-anchor=\"end\"")?,
                }
                writeln!(out, ">{}</text>", escaped(text))?;
            }
        }
    }
    writeln!(out, "</svg>")
}

fn hex([r, g, b]: Color) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Text that may stand in an element. What XML 1.0, 2.2 "Characters", does not allow becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\t' | '\n' | ' '..='\u{fffd}' | '\u{10000}'.. if !('\u{7f}'..='\u{9f}').contains(&letter) => {
                out.push(letter);
            }
            _ => out.push('\u{fffd}'),
        }
    }
    out
}

const FONTS: &str = "Inter, 'Segoe UI', 'Helvetica Neue', Helvetica, Arial, sans-serif";
