//! The promises about one line, judged from the wire by a script that shares no code with us (`tests/peers/rows.py`).
//!
//! It is run once for each letter of the rows, so that a failure says where to look; to judge a single row by hand:
//! `tests/peers/rows.py target/debug/switchboard F05@1.6`.

use anyhow::{Context, Result, ensure};
use std::{process::Stdio, time::Duration};
use switchboard_testkit::tools;
use tokio::process::Command;

/// All rows of a letter take half a minute; this is for a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(600);

async fn judged(test: &str, rows: &str) -> Result<()> {
    let Some(python) = tools::python(test)? else { return Ok(()) };
    let script = tools::root().join("tests/peers/rows.py");
    let mut command = Command::new(python);
    command.arg(script).args([env!("CARGO_BIN_EXE_switchboard"), rows]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await.context("the judge does not end")??;
    let said = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> = said.lines().filter(|line| line.starts_with("FAILED")).collect();
    ensure!(
        output.status.success() && failed.is_empty(),
        "{}\n{}",
        failed.join("\n"),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(said.lines().any(|line| line.starts_with("ok ")), "nothing was judged: {said}");
    Ok(())
}

#[tokio::test]
async fn a_judge_of_its_own_finds_the_handshake_as_promised() -> Result<()> {
    judged("rows::handshake", "H").await
}

#[tokio::test]
async fn a_judge_of_its_own_finds_frames_treated_as_promised() -> Result<()> {
    judged("rows::frames", "F").await
}

#[tokio::test]
async fn a_judge_of_its_own_finds_the_codes_of_validation_as_promised() -> Result<()> {
    judged("rows::validation", "V").await
}

#[tokio::test]
async fn a_judge_of_its_own_finds_calls_and_answers_as_promised() -> Result<()> {
    judged("rows::calls", "C").await
}

#[tokio::test]
async fn a_judge_of_its_own_finds_the_life_of_a_line_as_promised() -> Result<()> {
    judged("rows::life", "L").await
}
