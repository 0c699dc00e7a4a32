//! Killed at any moment, and at the instants that a kill from outside hardly ever meets.

use crate::{BINARY, charging::Fleet, scale};
use anyhow::Result;
use switchboard_testkit::{Switchboard, wait};

/// Between what, the process dies by itself.
const POINTS: [&str; 4] =
    ["books.before-commit", "books.after-commit", "directory.before-commit", "directory.after-commit"];

/// More rounds: `cargo xtask crash --rounds 500`.
#[tokio::test]
async fn whatever_the_moment_of_a_kill_what_was_answered_is_in_the_books_exactly_once() -> Result<()> {
    let rounds = scale("TESTKIT_CRASH_ROUNDS", 12);
    let mut server = Switchboard::start(BINARY, &["--log", "error"]).await?;
    let fleet = Fleet::start(&server.url(""), 8);
    for round in 0..rounds {
        // Numbers without a pattern, so that kills fall into every phase of a commit.
        let patience = round * 7919 % 61;
        let before = fleet.answers();
        if round % 2 == 0 {
            wait::until("answers", async || (fleet.answers() > before + patience).then_some(())).await?;
            server.kill().await?;
        } else {
            let point = POINTS[round / 2 % POINTS.len()];
            // The directory commits every two seconds, or for a station that is new.
            let times = if point.starts_with("books") { 1 + patience } else { 1 };
            server.kill().await?;
            server.die_at(Some(&format!("{point}:{times}")));
            // It may die before it is ready.
            drop(server.start_again().await);
            let ended = server.ended().await?;
            assert_eq!(ended, None, "{point}: killed by itself, not ended");
            server.die_at(None);
        }
        let booked = fleet.audit(&server.data_dir())?;
        if rounds > 50 && round % 25 == 24 {
            println!(
                "round {}: {} answers, {booked} transactions, all there once",
                round + 1,
                fleet.answers()
            );
        }
        server.start_again().await?;
    }
    let before = fleet.answers();
    wait::until("answers after all kills", async || (fleet.answers() > before + 20).then_some(())).await?;
    assert_eq!(server.terminate().await?, 0);
    fleet.audit(&server.data_dir())?;
    Ok(())
}

#[tokio::test]
async fn told_to_stop_while_it_starts_it_stops_well_and_leaves_no_ports_file() -> Result<()> {
    use rustix::process::{Pid, Signal, kill_process};
    let folder = tempfile::tempdir()?;
    // At moments from before the first port to after the last.
    for delay in [0, 5, 10, 20, 30, 40, 60, 80, 120, 200] {
        let mut command = tokio::process::Command::new(BINARY);
        command.current_dir(folder.path()).kill_on_drop(true).args(["run", "--ports-file", "ports.json"]);
        for flag in ["--listen", "--api-listen", "--admin-listen"] {
            command.args([flag, "127.0.0.1:0"]);
        }
        let log = std::fs::File::create(folder.path().join("log"))?;
        let mut child = command.stderr(log).spawn()?;
        // Before that it dies of the signal, like every process that has not begun.
        wait::until("its first line", async || {
            (std::fs::metadata(folder.path().join("log")).ok()?.len() > 0).then_some(())
        })
        .await?;
        tokio::time::sleep(std::time::Duration::from_millis(delay)).await;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, Signal::TERM)?;
        let status = tokio::time::timeout(wait::DEADLINE, child.wait()).await??;
        let log = std::fs::read_to_string(folder.path().join("log"))?;
        assert_eq!(status.code(), Some(0), "after {delay} ms: {log}");
        assert!(!folder.path().join("ports.json").exists(), "after {delay} ms");
    }
    Ok(())
}
