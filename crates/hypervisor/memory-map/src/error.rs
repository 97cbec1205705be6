//! What can go wrong.

use std::path::PathBuf;

/// What can go wrong when memory is looked at or drawn.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The platform does not tell.
    #[error("the platform does not tell who owns the guest's pages: {0}")]
    Platform(#[from] cloister_platform::VmError),
    /// The host's half of memory could not be read.
    #[error("cannot read page {page:#x} of the host's half of guest memory: {source}")]
    Read {
        /// The page.
        page: u64,
        /// Why.
        source: std::io::Error,
    },
    /// The runs do not cover the memory.
    #[error("the states of pages {first:#x} to {end:#x} were not told: this is a defect of the platform")]
    Gap {
        /// First page without a state.
        first: u64,
        /// First page behind them.
        end: u64,
    },
    /// The file's name does not say what to write.
    #[error("cannot tell what picture '{}' is to be: give it a name that ends in .svg or .png", .0.display())]
    Extension(PathBuf),
    /// The picture could not be encoded.
    #[error("cannot encode the picture for '{}': {source}", .path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// Why.
        source: png::EncodingError,
    },
    /// The file could not be written.
    #[error("cannot write the picture '{}': {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
