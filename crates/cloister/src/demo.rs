//! `cloister demo`.

use clap::Args;
use std::process::ExitCode;

/// Options of the demo.
#[derive(Debug, Args)]
pub(crate) struct Demo {}

impl Demo {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        anyhow::bail!("not here yet")
    }
}
