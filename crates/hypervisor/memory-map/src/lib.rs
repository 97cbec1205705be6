//! Who owns each page of a guest, as data, as text and as a picture.
//!
//! A [`MemoryMap`] is made from what the platform tells about pages and from the bytes that the host finds in
//! its own half of guest memory, read as they stand. Everything else here is a pure function of it, and the
//! same map gives the same bytes everywhere.
//!
//! It is not an audit: it sees what a curious host sees and converts nothing. It asks for no page, so that it
//! also shows what the host finds where it may not look: of a private page, nothing.
#![forbid(unsafe_code)]

mod entropy;
mod error;
mod font;
mod grid;
mod map;
mod picture;
mod raster;
mod report;
mod scene;
mod svg;

pub use error::Error;
pub use map::{HostView, MemoryMap, Observation};
pub use picture::{Picture, write_picture};
pub use report::{MemoryRange, MemoryReport};
