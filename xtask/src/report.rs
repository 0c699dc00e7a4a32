//! Runs steps one after another, keeps count, and closes with a table and one line that says it all.

use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// How many checks passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    /// The counts in `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut counts = Self::default();
        for part in numbers.split("; ") {
            let (number, what) = part.split_once(' ')?;
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => counts.passed = number,
                "failed" => counts.failed = number,
                "ignored" => counts.skipped = number,
                _ => {}
            }
        }
        Some(counts)
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.passed += more.passed;
        self.failed += more.failed;
        self.skipped += more.skipped;
    }
}

#[derive(Debug)]
struct Row {
    name: String,
    counts: Counts,
    took: Duration,
    note: String,
}

/// What has been run so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Runs one check of our own.
    pub(crate) fn check(&mut self, name: &str, check: impl FnOnce() -> Result<()>) {
        let begun = self.begin(name);
        let result = check();
        if let Err(error) = &result {
            eprintln!("{error:#}");
        }
        self.end(name, begun, result.is_ok(), String::new());
    }

    /// Runs a command that passes or fails as a whole.
    pub(crate) fn command(&mut self, name: &str, command: &mut Command) {
        let begun = self.begin(name);
        let (passed, note) = match command.stdin(Stdio::null()).status() {
            Ok(status) => {
                (status.success(), if status.success() { String::new() } else { status.to_string() })
            }
            Err(error) => (false, format!("cannot run: {error}")),
        };
        self.end(name, begun, passed, note);
    }

    /// Runs `cargo test`, passes its output on and counts what its runners say.
    pub(crate) fn tests(&mut self, name: &str, command: &mut Command) {
        let begun = self.begin(name);
        let (counts, note) = match count_tests(command) {
            Ok((mut counts, true)) => {
                counts.passed = counts.passed.max(u64::from(counts == Counts::default()));
                (counts, String::new())
            }
            Ok((counts, false)) if counts.failed > 0 => (counts, String::new()),
            Ok((counts, false)) => {
                (Counts { failed: 1, ..counts }, "did not compile or broke off".to_owned())
            }
            Err(error) => (Counts { failed: 1, ..Counts::default() }, format!("{error:#}")),
        };
        self.rows.push(Row { name: name.to_owned(), counts, took: begun.elapsed(), note });
    }

    /// Runs something that counts by itself, and says what else there is to say.
    pub(crate) fn counted(&mut self, name: &str, run: impl FnOnce() -> Result<(Counts, String)>) {
        let begun = self.begin(name);
        let (counts, note) =
            run().unwrap_or_else(|error| (Counts { failed: 1, ..Counts::default() }, format!("{error:#}")));
        self.rows.push(Row { name: name.to_owned(), counts, took: begun.elapsed(), note });
    }

    /// Adds what was run at the same time.
    pub(crate) fn join(&mut self, other: Self) {
        self.rows.extend(other.rows);
    }

    /// Notes something that could not be run.
    pub(crate) fn skip(&mut self, name: &str, why: &str) {
        println!("\n── {name}: SKIPPED, {why}");
        self.rows.push(Row {
            name: name.to_owned(),
            counts: Counts { skipped: 1, ..Counts::default() },
            took: Duration::ZERO,
            note: why.to_owned(),
        });
    }

    /// Moves tests that reported themselves as skipped from the passed ones of the last row.
    pub(crate) fn tests_were_skipped(&mut self, skipped: u64) {
        if let Some(row) = self.rows.last_mut() {
            row.counts.passed = row.counts.passed.saturating_sub(skipped);
            row.counts.skipped += skipped;
        }
    }

    /// Prints the table and the closing line.
    pub(crate) fn finish(self) -> ExitCode {
        println!("\n{:<34} {:>7} {:>7} {:>8} {:>8}", "", "passed", "failed", "skipped", "seconds");
        let mut sum = Counts::default();
        for Row { name, counts, took, note } in &self.rows {
            let mark = if counts.failed > 0 {
                "✗"
            } else if counts.passed == 0 {
                "–"
            } else {
                "✓"
            };
            println!(
                "{mark} {name:<32} {:>7} {:>7} {:>8} {:>8.1}  {note}",
                counts.passed,
                counts.failed,
                counts.skipped,
                took.as_secs_f64()
            );
            sum += *counts;
        }
        println!("\n{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped);
        if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    #[expect(clippy::unused_self, reason = "reads as one sentence with `end`")]
    fn begin(&self, name: &str) -> Instant {
        println!("\n── {name}");
        Instant::now()
    }

    fn end(&mut self, name: &str, begun: Instant, passed: bool, note: String) {
        let counts = Counts { passed: u64::from(passed), failed: u64::from(!passed), skipped: 0 };
        self.rows.push(Row { name: name.to_owned(), counts, took: begun.elapsed(), note });
    }
}

fn count_tests(command: &mut Command) -> Result<(Counts, bool)> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot run the tests")?;
    let mut counts = Counts::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.context("cannot read what the tests print")?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            if let Some(more) = Counts::read(&line) {
                counts += more;
            }
        }
    }
    let status = child.wait().context("cannot wait for the tests")?;
    Ok((counts, status.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_the_test_runner_are_counted() {
        let line = "test result: FAILED. 7 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s";
        assert_eq!(Counts::read(line), Some(Counts { passed: 7, failed: 2, skipped: 1 }));
        assert_eq!(Counts::read("test frames::second_call_waits ... ok"), None);
        assert_eq!(Counts::read("test result: odd"), None);
    }
}
