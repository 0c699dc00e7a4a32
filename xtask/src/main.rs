//! Tasks of the repository: `cargo xtask --help`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool talks to its user")]
#![expect(clippy::disallowed_methods, reason = "it measures what it runs and reads where cargo is")]

mod bench;
mod chaos;
mod check;
mod codegen;
mod fuzz;
mod lanes;
mod report;
mod test;
mod tidy;
mod tidy_promises;
mod tools;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Everything that is done to this repository, as CI does it.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
#[command(after_help = "Examples:
  cargo xtask test --install    install what the tests need, then run everything; this is what CI does
  cargo xtask test              run what can be run with what is here; the rest is named at the end
  cargo xtask check             before a commit: fmt, clippy, tests, doctests, rustdoc, tidy, codegen --check
  cargo xtask bench --quick     first figures in under a minute")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Runs all tests; with --install it first installs what they need
    ///
    /// Tests that need a tool which is not here are skipped loudly, unless --install was given: then they fail.
    Test(test::Options),
    /// Everything that must hold before a commit lands
    Check,
    /// Generates the message types from the official schemas, which it takes from PyPI
    Codegen {
        /// Only compare with what is committed
        #[arg(long)]
        check: bool,
    },
    /// Compares the code with the rules that a compiler does not know: dependency edges, lints, module docs, paths
    Tidy,
    /// Shows what the tests need and whether it is here; with --install installs it
    ///
    /// Debian packages are installed by apt-get (as root), PyPI packages into .tools/venv and npm packages into
    /// .tools/node, both from pinned lists in xtask/tools.
    Tools {
        /// Install what is missing
        #[arg(long)]
        install: bool,
    },
    /// Measures the server beside a bare WebSocket server, in one run
    Bench(bench::Options),
    /// Kills the server again and again under load, and compares its books with what was answered
    Crash {
        /// How often
        #[arg(long, default_value_t = 500)]
        rounds: u32,
    },
    /// Has thousands of stations connect at once
    Storm {
        /// How many; each takes a file descriptor here and one in the server
        #[arg(long, default_value_t = 10_000)]
        stations: u32,
    },
    /// Kills, freezes and cuts off everything in turn under load, counts what that costs, and writes docs/continuity.md
    Chaos(chaos::Options),
    /// Runs the fuzz targets for a while: with cargo-fuzz where it is installed, else from a generator
    Fuzz(fuzz::Options),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Test(options) => test::run(&options),
        Task::Check => check::run(),
        Task::Codegen { check } => codegen::run(check).map(|()| ExitCode::SUCCESS),
        Task::Tidy => tidy::run().map(|()| ExitCode::SUCCESS),
        Task::Tools { install } => tools_task(install),
        Task::Bench(options) => bench::run(&options),
        Task::Chaos(options) => chaos::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Crash { rounds } => robust("whatever_the_moment", "TESTKIT_CRASH_ROUNDS", rounds),
        Task::Storm { stations } => robust("all_at_once", "TESTKIT_STORM_STATIONS", stations),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Runs one test of the server's robustness, longer than among the others.
fn robust(test: &str, variable: &str, scale: u32) -> Result<ExitCode> {
    let mut command = cargo();
    command.args([
        "test",
        "--locked",
        "-p",
        "switchboard-cli",
        "--test",
        "robust",
        "--",
        "--nocapture",
        test,
    ]);
    let status = command.env(variable, scale.to_string()).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tools_task(install: bool) -> Result<ExitCode> {
    let missing = tools::prepare(install)?;
    for tool in &missing {
        println!("missing: {tool}");
    }
    if missing.is_empty() {
        println!("all tools are here");
        return Ok(ExitCode::SUCCESS);
    }
    println!("install them with: cargo xtask tools --install");
    Ok(ExitCode::FAILURE)
}

/// The root of the repository.
fn root() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let mut root = PathBuf::from(manifest);
    root.pop();
    root
}

/// The cargo that runs us.
fn cargo() -> std::process::Command {
    let mut command = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // What cargo told us about our own package must not reach the packages that it now builds.
    command.env_remove("CARGO_MANIFEST_DIR");
    command
}
