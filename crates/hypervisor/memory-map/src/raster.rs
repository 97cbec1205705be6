//! A scene as pixels, twice as fine as its units.

use crate::font;
use crate::scene::{Anchor, Box4, Color, Scene, Shape};

/// Pixels to a unit of the scene.
pub(crate) const SCALE: f32 = 2.0;

/// Red, green, blue, opacity.
pub(crate) struct Canvas {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) pixels: Vec<u8>,
}

impl Canvas {
    pub(crate) fn draw(scene: &Scene) -> Self {
        let (width, height) = (scene.width * SCALE as u32, scene.height * SCALE as u32);
        let mut canvas = Self { width, height, pixels: vec![0; width as usize * height as usize * 4] };
        for shape in &scene.shapes {
            match shape {
                Shape::Boxes { fill, boxes } => {
                    for &at in boxes {
                        canvas.round(at.map(|edge| edge * SCALE), 0.0, *fill);
                    }
                }
                Shape::Round { fill, at, radius } => {
                    canvas.round(at.map(|edge| edge * SCALE), radius * SCALE, *fill);
                }
                Shape::Text { at: (x, y), size, bold, anchor, fill, text } => {
                    let wide = font::width(text, *size);
                    let start = match anchor {
                        Anchor::Start => *x,
                        Anchor::Middle => x - wide / 2.0,
                        Anchor::End => x - wide,
                    };
                    canvas.text((start * SCALE, y * SCALE), size * SCALE, *bold, *fill, text);
                }
            }
        }
        canvas
    }

    fn round(&mut self, [x, y, w, h]: Box4, radius: f32, fill: Color) {
        let (left, top) = (x.floor().max(0.0) as u32, y.floor().max(0.0) as u32);
        let (right, bottom) = ((x + w).ceil() as u32, (y + h).ceil() as u32);
        for row in top..bottom.min(self.height) {
            let cy = row as f32 + 0.5;
            for column in left..right.min(self.width) {
                let cx = column as f32 + 0.5;
                // How far the middle of the pixel is inside; corners are measured from their circle.
                let (dx, dy) = ((cx - x).min(x + w - cx), (cy - y).min(y + h - cy));
                let inside = if dx < radius && dy < radius {
                    radius - (radius - dx).hypot(radius - dy)
                } else {
                    dx.min(dy)
                };
                self.blend(column, row, fill, inside + 0.5);
            }
        }
    }

    fn text(&mut self, (x, y): (f32, f32), size: f32, bold: bool, fill: Color, text: &str) {
        let unit = font::unit(size);
        let half = size * if bold { 0.062 } else { 0.043 };
        for (offset, glyph) in font::layout(text) {
            let to_pixels = |(px, py): font::Point| (x + (offset + px) * unit, y - py * unit);
            let strokes: Vec<Vec<font::Point>> = glyph
                .strokes
                .iter()
                .map(|stroke| stroke.iter().map(|&point| to_pixels(point)).collect())
                .collect();
            self.glyph(&strokes, half, fill);
        }
    }

    /// A pixel is covered by the nearest stroke, so that strokes which meet do not darken each other.
    fn glyph(&mut self, strokes: &[Vec<font::Point>], half: f32, fill: Color) {
        let points = || strokes.iter().flatten();
        let reach = half + 1.0;
        let low = |of: fn(&font::Point) -> f32| points().map(of).fold(f32::MAX, f32::min) - reach;
        let high = |of: fn(&font::Point) -> f32| points().map(of).fold(f32::MIN, f32::max) + reach;
        if points().next().is_none() {
            return;
        }
        let (left, top) = (low(|p| p.0).max(0.0) as u32, low(|p| p.1).max(0.0) as u32);
        let right = (high(|p| p.0).max(0.0) as u32 + 1).min(self.width);
        let bottom = (high(|p| p.1).max(0.0) as u32 + 1).min(self.height);
        for row in top..bottom {
            for column in left..right {
                let at = (column as f32 + 0.5, row as f32 + 0.5);
                let nearest = strokes
                    .iter()
                    .flat_map(|stroke| stroke.windows(2))
                    .map(|pair| distance(at, pair[0], pair[1]))
                    .fold(f32::MAX, f32::min);
                self.blend(column, row, fill, half - nearest + 0.5);
            }
        }
    }

    fn blend(&mut self, x: u32, y: u32, fill: Color, cover: f32) {
        let cover = (cover.clamp(0.0, 1.0) * 255.0).round() as u32;
        if cover == 0 {
            return;
        }
        let at = (y as usize * self.width as usize + x as usize) * 4;
        let Some([r, g, b, a]) = self.pixels.get_mut(at..at + 4) else { return };
        // "Over" with opacity that is not multiplied in (Porter and Duff, "Compositing Digital Images", 1984).
        let below = u32::from(*a) * (255 - cover);
        let opacity = cover * 255 + below;
        for (under, over) in [r, g, b].into_iter().zip(fill) {
            *under =
                ((u32::from(over) * cover * 255 + u32::from(*under) * below + opacity / 2) / opacity) as u8;
        }
        *a = ((opacity + 127) / 255) as u8;
    }
}

fn distance(at: font::Point, from: font::Point, to: font::Point) -> f32 {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let length = dx * dx + dy * dy;
    let t = if length > 0.0 {
        (((at.0 - from.0) * dx + (at.1 - from.1) * dy) / length).clamp(0.0, 1.0)
    } else {
        0.0
    };
    (at.0 - from.0 - t * dx).hypot(at.1 - from.1 - t * dy)
}
