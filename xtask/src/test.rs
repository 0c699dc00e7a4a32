//! `cargo xtask test`: what CI runs.

use crate::report::Report;
use crate::{cargo, codegen, lanes, root, tidy, tools};
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// First install what the tests need: Debian packages (as root), PyPI and npm packages in .tools
    #[arg(long)]
    install: bool,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut report = Report::default();
    let mut missing = Vec::new();
    if options.install {
        report.check("tools", || tools::prepare(true).map(|_| ()));
    } else {
        missing = tools::prepare(false)?;
        for tool in &missing {
            report.skip("tool", &format!("{tool} is missing"));
        }
    }
    source_checks(&mut report);
    tests(&mut report, options.install)?;
    for tool in &missing {
        println!("\nNOT TESTED for want of {tool}");
    }
    if !missing.is_empty() {
        println!("Install it all with: cargo xtask test --install");
    }
    Ok(report.finish())
}

/// What needs no build.
pub(crate) fn source_checks(report: &mut Report) {
    if component_is_here("fmt") {
        report.command("formatting", cargo().args(["fmt", "--all", "--check"]));
    } else {
        report.skip("formatting", "the toolchain has no rustfmt");
    }
    report.check("tidy", tidy::run);
    if !tools::python_packages_are_here() {
        report.skip("generated code", "the schemas are missing; cargo xtask tools --install");
    } else if !component_is_here("fmt") {
        report.skip("generated code", "the toolchain has no rustfmt");
    } else {
        report.check("generated code", || codegen::run(true));
    }
}

/// Behind everything else that runs.
fn clippy(report: &mut Report) {
    if component_is_here("clippy") {
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(cargo().get_program());
        command.current_dir(root()).env_remove("CARGO_MANIFEST_DIR");
        report.command(
            "clippy",
            command.args([
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ]),
        );
    } else {
        report.skip("clippy", "the toolchain has no clippy");
    }
}

/// All tests of the workspace, beside which clippy has its time, and then the examples in documentation.
pub(crate) fn tests(report: &mut Report, tools_required: bool) -> Result<()> {
    // Tests that cannot run say so in this file, as a test runner knows only passed and failed.
    let skipped = skipped_file();
    fs::create_dir_all(skipped.parent().unwrap_or(&skipped)).context("cannot make target/xtask")?;
    fs::write(&skipped, "").context("cannot clear the list of skipped tests")?;
    let mut binaries = Vec::new();
    report.check("build of the tests", || {
        let mut command = cargo();
        command.args(["test", "--workspace", "--tests", "--locked", "--no-run"]);
        binaries = lanes::build(command)?;
        Ok(())
    });
    let prepare = |command: &mut Command| {
        command.env("TESTKIT_SKIPPED_FILE", &skipped);
        // A failing test says what it found; forty frames of the runtime below it hide that.
        command.env("RUST_BACKTRACE", "0");
        if tools_required {
            command.env("TESTKIT_TOOLS_REQUIRED", "1");
        }
    };
    let mut beside = Report::default();
    std::thread::scope(|scope| {
        scope.spawn(|| clippy(&mut beside));
        report.counted("tests", || {
            let (counts, failed) = lanes::run(binaries, &prepare)?;
            Ok((counts, failed.join(", ")))
        });
    });
    let skipped = fs::read_to_string(&skipped).context("cannot read the list of skipped tests")?;
    if !skipped.is_empty() {
        println!("\nskipped tests:\n{skipped}");
    }
    report.tests_were_skipped(skipped.lines().count() as u64);
    report.join(beside);
    report.tests("doctests", cargo().args(["test", "--workspace", "--doc", "--locked", "--no-fail-fast"]));
    Ok(())
}

fn skipped_file() -> PathBuf {
    root().join("target/xtask/skipped-tests.txt")
}

/// Whether `cargo NAME` is there.
pub(crate) fn component_is_here(name: &str) -> bool {
    let mut command: Command = cargo();
    command
        .args([name, "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
