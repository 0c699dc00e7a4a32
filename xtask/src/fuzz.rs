//! `cargo xtask fuzz`: the fuzz targets, each for a while.

use crate::report::Report;
use crate::test::component_is_here;
use crate::{cargo, root};
use anyhow::{Context, Result};
use std::fs;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// For how long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where the generator begins
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Only the targets whose name contains this
    target: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let folder = root().join("fuzz/fuzz_targets");
    let guided = component_is_here("fuzz");
    if !guided {
        println!(
            "cargo-fuzz is not here (cargo install --locked cargo-fuzz): a generator without a view of the branches \
             feeds the same bodies"
        );
    }
    let mut targets = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("no fuzz targets in {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            targets.push(name.to_owned());
        }
    }
    targets.sort();
    let mut report = Report::default();
    for target in targets.iter().filter(|name| options.target.as_ref().is_none_or(|part| name.contains(part)))
    {
        if !guided {
            let mut feed = cargo();
            feed.args(["run", "--release", "--quiet", "--locked", "--manifest-path", "fuzz/Cargo.toml"]);
            feed.args(["--no-default-features", "--bin", "feed", "--", target]);
            report
                .command(target, feed.args([options.seconds, options.seed].map(|number| number.to_string())));
            continue;
        }
        report.command(
            target,
            // libFuzzer's instrumentation is unstable; this lets the one stable toolchain use it.
            cargo()
                .args(["fuzz", "run", "--sanitizer", "none", target, "--"])
                .args([format!("-max_total_time={}", options.seconds), "-rss_limit_mb=2048".to_owned()])
                .args((options.seed != 0).then(|| format!("-seed={}", options.seed)))
                .env("RUSTC_BOOTSTRAP", "1"),
        );
    }
    Ok(report.finish())
}
