//! The same image under the core of this project.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::harness::Pieces;

/// Runs the image to its disabled wait and returns the bytes of the ranges.
pub fn run(_pieces: &Pieces, _ranges: &[(u64, u64)], _limit: Duration) -> Result<Vec<Vec<u8>>> {
    bail!("the core cannot run an image yet: use --self-check")
}
