//! Runs the test binaries, several at a time: most of them wait for servers, processes and clocks most of the time, so that
//! one after the other leaves a machine of two cores idle.

use crate::report::Counts;
use crate::root;
use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A program of tests.
#[derive(Debug)]
pub(crate) struct Binary {
    name: String,
    executable: PathBuf,
    folder: PathBuf,
}

/// The parts of cargo's messages that say which program was built of what.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    profile: Option<Profile>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Builds what `command`, a `cargo test --no-run`, names.
pub(crate) fn build(mut command: Command) -> Result<Vec<Binary>> {
    command.arg("--message-format=json-render-diagnostics").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot run cargo")?;
    let mut binaries = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.context("cannot read what cargo says")?;
            // Messages of other kinds have none of it.
            if let Ok(message) = serde_json::from_str::<Message>(&line) {
                binaries.extend(binary(message));
            }
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    ensure!(status.success(), "the tests do not compile");
    binaries.sort_by_key(|binary| LONGEST.iter().position(|name| *name == binary.name).unwrap_or(usize::MAX));
    Ok(binaries)
}

fn binary(message: Message) -> Option<Binary> {
    let (executable, target) = (message.executable?, message.target?);
    if !message.profile?.test {
        return None;
    }
    let folder = message.manifest_path?.parent()?.to_owned();
    let of = folder.file_name()?.to_string_lossy().into_owned();
    let name = if target.kind.iter().any(|kind| kind == "test") {
        format!("{of} {}", target.name)
    } else {
        format!("{of} {}", target.kind.first()?)
    };
    Some(Binary { name, executable, folder })
}

/// Runs them all, and prints what each said when it has ended. Gives back what passed and failed, and the names of those that
/// failed.
pub(crate) fn run(
    binaries: Vec<Binary>,
    prepare: &(impl Fn(&mut Command) + Sync),
) -> Result<(Counts, Vec<String>)> {
    let waiting = Mutex::new(VecDeque::from(binaries));
    let lane = || -> Result<(Counts, Vec<String>)> {
        let (mut counts, mut failed) = (Counts::default(), Vec::new());
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(binary) = next else { return Ok((counts, failed)) };
            let (of_this, passed) = run_one(&binary, prepare)?;
            counts += of_this;
            if !passed {
                failed.push(binary.name);
            }
        }
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        let (mut counts, mut failed) = (Counts::default(), Vec::new());
        for lane in lanes {
            let ended = lane.join().map_err(|_| anyhow!("a thread that runs tests panicked"))?;
            let (more, names) = ended?;
            counts += more;
            failed.extend(names);
        }
        Ok((counts, failed))
    })
}

fn run_one(binary: &Binary, prepare: &impl Fn(&mut Command)) -> Result<(Counts, bool)> {
    println!("running {}", binary.name);
    let begun = Instant::now();
    // Not a pipe: a server that outlives its test would keep it open.
    let said = root().join(format!("target/xtask/{}.log", binary.name.replace(' ', "-")));
    let log = File::create(&said).with_context(|| format!("cannot write {}", said.display()))?;
    // As cargo runs them.
    let mut command = Command::new(&binary.executable);
    command.current_dir(&binary.folder).env("CARGO_MANIFEST_DIR", &binary.folder).stdin(Stdio::null());
    command.stdout(log.try_clone().context("cannot write the log of a test")?).stderr(log);
    prepare(&mut command);
    let status = command.status().with_context(|| format!("cannot run {}", binary.executable.display()))?;
    let said = std::fs::read(&said).with_context(|| format!("cannot read {}", said.display()))?;
    let said = String::from_utf8_lossy(&said);
    let mut counts = Counts::default();
    said.lines().filter_map(Counts::read).for_each(|more| counts += more);
    if !status.success() && counts.failed == 0 {
        // It broke off.
        counts.failed = 1;
    }
    println!("\n── {}: {status}, {:.1} s\n{}", binary.name, begun.elapsed().as_secs_f64(), said.trim());
    Ok((counts, status.success()))
}

/// How many run at a time. Each has as many threads as there are processors.
const LANES: usize = 2;

/// These begin first, so that none of them is left over at the end.
const LONGEST: [&str; 8] = [
    "cli split",
    "cli chaos",
    "cli single",
    "cli robust",
    "gateway gateway",
    "directory-postgres postgres",
    "messages oracle",
    "central postgres",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn programs_of_tests_are_told_from_all_else_that_cargo_builds() {
        let message = |kind: &str, test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"x","manifest_path":"/w/crates/cli/Cargo.toml","target":{{"kind":["{kind}"],"name":"split"}},"profile":{{"opt_level":"0","test":{test}}},"features":[],"filenames":[],"executable":{executable},"fresh":true}}"#
            )
        };
        let read = |text: String| binary(serde_json::from_str(&text).unwrap()).map(|binary| binary.name);
        assert_eq!(read(message("test", true, r#""/w/split""#)).as_deref(), Some("cli split"));
        assert_eq!(read(message("bin", true, r#""/w/sb""#)).as_deref(), Some("cli bin"));
        assert_eq!(read(message("bin", false, r#""/w/sb""#)), None, "what the tests run");
        assert_eq!(read(message("lib", false, "null")), None);
        assert_eq!(read(r#"{"reason":"build-finished","success":true}"#.to_owned()), None);
    }

    #[test]
    fn what_passes_and_what_fails_is_counted_over_all_programs() {
        let folder = root().join("target/xtask");
        std::fs::create_dir_all(&folder).unwrap();
        let program = |name: &str, text: &str| {
            let executable = folder.join(format!("lanes-{name}.sh"));
            std::fs::write(&executable, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&executable, std::fs::Permissions::from_mode(0o755)).unwrap();
            Binary { name: format!("lanes {name}"), executable, folder: folder.clone() }
        };
        let programs = vec![
            program("good", "echo 'test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured'"),
            program("bad", "echo 'test result: FAILED. 1 passed; 2 failed; 1 ignored'; exit 101"),
            program("broken", "exit 1"),
        ];
        let (counts, mut failed) = run(programs, &|_| {}).unwrap();
        failed.sort();
        assert_eq!(counts, Counts { passed: 4, failed: 3, skipped: 1 });
        assert_eq!(failed, ["lanes bad", "lanes broken"]);
    }
}
