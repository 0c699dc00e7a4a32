//! `cargo xtask chaos`: the kill matrix. The cells are in `switchboard-testkit`, which this builds and starts.

use crate::{cargo, root};
use anyhow::{Result, ensure};
use std::process::{Command, ExitCode};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask chaos --list                             what there is
  cargo xtask chaos --cell worker-kill --bus nats      one cell
  cargo xtask chaos --bus nats,amqp --resume           what of these was not run yet
  cargo xtask chaos --optimised --stations 300         all of it, anew: two hours")]
pub(crate) struct Options {
    /// Only this cell; may be repeated
    #[arg(long, value_name = "NAME")]
    cell: Vec<String>,
    /// Only these buses: embedded, nats, amqp, mqtt, http, bare
    #[arg(long, value_name = "NAME,…")]
    bus: Option<String>,
    /// Name the cells, and run none
    #[arg(long)]
    list: bool,
    /// Leave out what was run before; what is known is in target/chaos
    #[arg(long)]
    resume: bool,
    /// How many stations
    #[arg(long, default_value_t = 200)]
    stations: u32,
    /// Where their randomness begins
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Try the released build, which takes long to make
    #[arg(long, conflicts_with = "optimised")]
    release: bool,
    /// Try a build that is most of the way there and takes minutes to make; for hundreds of stations on few cores
    #[arg(long)]
    optimised: bool,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let (profile, build) = match (options.release, options.optimised) {
        (true, _) => ("release", "release"),
        (_, true) => ("optimised", "optimised"),
        _ => ("dev", "debug"),
    };
    if !options.list {
        let mut command = cargo();
        command.args(["build", "--locked", "--package", "switchboard-cli", "--bin", "switchboard"]);
        command.args(["--profile", profile]);
        ensure!(command.status()?.success(), "switchboard cannot be built");
    }
    let mut command = cargo();
    command.args([
        "run",
        "--locked",
        "--quiet",
        "--package",
        "switchboard-testkit",
        "--example",
        "chaos",
        "--",
    ]);
    command.arg("--binary").arg(root().join("target").join(build).join("switchboard"));
    command.args(["--build", build, "--commit", &commit()?]);
    command.args(["--stations", &options.stations.to_string(), "--seed", &options.seed.to_string()]);
    for cell in &options.cell {
        command.args(["--cell", cell]);
    }
    if let Some(bus) = &options.bus {
        command.args(["--bus", bus]);
    }
    for (flag, is_set) in [("--list", options.list), ("--resume", options.resume)] {
        if is_set {
            command.arg(flag);
        }
    }
    Ok(if command.status()?.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The commit that the binary is of, with a `+` if there is more in the sources than that.
fn commit() -> Result<String> {
    let git = |arguments: &[&str]| -> Result<String> {
        let output = Command::new("git").args(arguments).current_dir(root()).output()?;
        ensure!(output.status.success(), "git {arguments:?} failed");
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let more =
        git(&["status", "--porcelain", "--untracked-files=no", "--", "crates", "Cargo.toml", "Cargo.lock"])?;
    Ok(format!("{}{}", git(&["rev-parse", "--short", "HEAD"])?, if more.is_empty() { "" } else { "+" }))
}
