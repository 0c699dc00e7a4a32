//! `cargo xtask check`: everything that must hold before a commit lands.

use crate::report::Report;
use crate::test::{component_is_here, source_checks, tests};
use crate::{cargo, tools};
use anyhow::Result;
use std::process::ExitCode;

pub(crate) fn run() -> Result<ExitCode> {
    let mut report = Report::default();
    for tool in tools::prepare(false)? {
        report.skip("tool", &format!("{tool} is missing; cargo xtask tools --install"));
    }
    source_checks(&mut report);
    tests(&mut report, false)?;
    report.command(
        "documentation",
        cargo()
            .args(["doc", "--workspace", "--no-deps", "--locked", "--quiet"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    );
    for (name, arguments, what) in [
        (
            "deny",
            &["deny", "check", "licenses", "bans", "sources"][..],
            "licences and duplicates of dependencies",
        ),
        ("machete", &["machete"][..], "unused dependencies"),
    ] {
        if component_is_here(name) {
            report.command(what, cargo().args(arguments));
        } else {
            report.skip(what, &format!("cargo-{name} is not installed: cargo install --locked cargo-{name}"));
        }
    }
    Ok(report.finish())
}
