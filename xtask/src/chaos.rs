//! `cargo xtask chaos`: the kill matrix. The cells are in `switchboard-testkit`, which this builds and starts.

use crate::{cargo, root};
use anyhow::{Result, ensure};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask chaos --list                             what there is
  cargo xtask chaos --cell worker-kill --bus nats      one cell
  cargo xtask chaos --bus nats,amqp --resume           what of these was not run yet
  cargo xtask chaos --release                          all of it, anew: hours")]
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
    /// Try the optimised build
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let (profile, build) = if options.release { ("release", "release") } else { ("debug", "debug") };
    if !options.list {
        let mut command = cargo();
        command.args(["build", "--locked", "--package", "switchboard-cli", "--bin", "switchboard"]);
        if options.release {
            command.arg("--release");
        }
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
    command.arg("--binary").arg(root().join("target").join(profile).join("switchboard"));
    command.args(["--build", build]);
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
