//! Pictures as files.

use crate::raster::Canvas;
use crate::scene::Scene;
use crate::svg::svg;
use crate::{Error, MemoryMap};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Kinds of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picture {
    /// Scalable Vector Graphics.
    Svg,
    /// Portable Network Graphics.
    Png,
}

impl Picture {
    /// What the name of a file asks for; to be checked before a long run.
    pub fn of_path(path: &Path) -> Result<Self, Error> {
        match path.extension() {
            Some(extension) if extension.eq_ignore_ascii_case("svg") => Ok(Self::Svg),
            Some(extension) if extension.eq_ignore_ascii_case("png") => Ok(Self::Png),
            _ => Err(Error::Extension(path.to_owned())),
        }
    }
}

impl MemoryMap {
    /// The picture as SVG.
    pub fn svg(&self) -> String {
        svg(&Scene::new(self))
    }

    /// The picture as PNG.
    pub fn png(&self) -> Result<Vec<u8>, png::EncodingError> {
        let canvas = Canvas::draw(&Scene::new(self));
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, canvas.width, canvas.height);
        encoder.set_color(png::ColorType::Rgba);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&canvas.pixels)?;
        writer.finish()?;
        Ok(out)
    }
}

/// Draws the map into a file, whose name says how. The file is there as a whole or not at all.
pub fn write_picture(path: &Path, map: &MemoryMap) -> Result<(), Error> {
    let bytes = match Picture::of_path(path)? {
        Picture::Svg => map.svg().into_bytes(),
        Picture::Png => map.png().map_err(|source| Error::Encode { path: path.to_owned(), source })?,
    };
    let new = beside(path);
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).open(&new).map_err(failed)?;
    file.write_all(&bytes).and_then(|()| fs::rename(&new, path)).map_err(|source| {
        // The first failure is the one to report.
        let _ = fs::remove_file(&new);
        failed(source)
    })
}

/// A name of its own in the same folder.
fn beside(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}-{}.new", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}
