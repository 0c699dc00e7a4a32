//! `cargo xtask bench`: the server beside a bare WebSocket server, in one run.

use anyhow::Result;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Fewer and shorter rounds: a first impression
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    anyhow::bail!("not measured yet: {options:?}")
}
