//! What README shows a newcomer is what happens.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::process::Stdio;
use switchboard_testkit::{Switchboard, tools, wait};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

const BINARY: &str = env!("CARGO_BIN_EXE_switchboard");

#[tokio::test]
async fn the_five_minutes_of_the_readme_are_as_it_says() -> Result<()> {
    let readme = fs::read_to_string(tools::root().join("README.md"))?;
    let server = Switchboard::start(BINARY, &["--demo", "5"]).await?;

    // It greets as shown, but for the addresses that a test must take.
    let greeting: Vec<&str> = blocks(&readme, "text").next().context("no block of text")?;
    let log = wait::until("the greeting", async || {
        let log = server.log();
        log.contains("simulated stations").then_some(log)
    })
    .await?;
    for line in greeting.iter().filter(|line| !line.is_empty()) {
        let line = line
            .replace("127.0.0.1:8180", &server.stations().to_string())
            .replace("127.0.0.1:8181", &server.api().to_string())
            .replace("127.0.0.1:8182", &server.admin().to_string());
        ensure!(log.contains(&line), "README shows `{line}`, and the log is:\n{log}");
    }

    wait::until("a station of the demonstration that is accepted", async || {
        let ran = server.run(&["stations", "--json"]).await.ok()?;
        let list = ran.json().ok()?;
        let stations = list["stations"].as_array()?;
        stations.iter().any(|one| one["id"] == "DEMO001" && one["registration"] == "accepted").then_some(())
    })
    .await?;

    let shown: Vec<Vec<String>> = blocks(&readme, "console").flatten().filter_map(command).collect();
    ensure!(shown.len() >= 5, "README shows too little: {shown:?}");
    for words in shown {
        let arguments: Vec<&str> = words.iter().map(String::as_str).collect();
        if arguments.first() == Some(&"trace") {
            traces(&server, &arguments).await?;
        } else {
            let ran = server.run(&arguments).await?;
            ensure!(ran.code == 0 && !ran.stdout.is_empty(), "switchboard {}: {ran:?}", arguments.join(" "));
        }
    }
    Ok(())
}

/// What a process would refuse at its start, no document may show. Whether servers are there is not asked.
#[tokio::test]
async fn the_processes_that_documents_begin_have_what_they_need() -> Result<()> {
    let mut texts = Vec::new();
    for file in ["README.md", "docs/operating.md", "examples/foreign/README.md"] {
        texts.push(fs::read_to_string(tools::root().join(file))?);
    }
    let folder = tempfile::tempdir()?;
    let mut shown = 0;
    for text in &texts {
        let mut exported: Vec<(&str, String)> = Vec::new();
        for line in text.lines() {
            if let Some((name, value)) = line.strip_prefix("export ").and_then(|rest| rest.split_once('=')) {
                let known = exported.iter().find(|(known, _)| value.strip_prefix('$') == Some(known));
                let value = known.map_or_else(|| value.to_owned(), |(_, value)| value.clone());
                exported.push((name, value));
            }
            let line = line.trim_start();
            let Some(rest) = line.strip_prefix("$ ").unwrap_or(line).strip_prefix("switchboard ") else {
                continue;
            };
            let mut words = rest.split_whitespace();
            let Some(role @ ("run" | "gateway" | "worker")) = words.next() else { continue };
            let flags: Vec<&str> = words.collect();
            // Of a file that is the reader's.
            if !flags.first().is_some_and(|flag| flag.starts_with("--")) || flags.contains(&"--config") {
                continue;
            }
            let mut command = Command::new(BINARY);
            command.args(["check-config", "--role", role]).args(&flags).current_dir(folder.path());
            let checked = command.envs(exported.iter().cloned()).output().await?;
            ensure!(
                checked.status.success(),
                "switchboard {rest}: {}",
                String::from_utf8_lossy(&checked.stderr)
            );
            shown += 1;
        }
    }
    ensure!(shown >= 5, "only {shown} were found");
    Ok(())
}

/// `trace` goes on for ever; that it begins is enough.
async fn traces(server: &Switchboard, arguments: &[&str]) -> Result<()> {
    let mut child = Command::new(BINARY)
        .args(arguments)
        .args(["--api", &server.api().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().context("no standard output")?;
    let mut lines = BufReader::new(stdout).lines();
    let mut seen = Vec::new();
    let traffic = async {
        while let Some(line) = lines.next_line().await? {
            if line.contains("DEMO00") {
                return Ok(());
            }
            seen.push(line);
        }
        anyhow::bail!("it ends")
    };
    timeout(wait::DEADLINE, traffic).await?.with_context(|| format!("no traffic in the trace: {seen:?}"))
}

/// The lines of each fenced block of this language.
fn blocks<'a>(text: &'a str, language: &'a str) -> impl Iterator<Item = Vec<&'a str>> {
    let mut lines = text.lines();
    std::iter::from_fn(move || {
        lines.by_ref().find(|line| line.strip_prefix("```") == Some(language))?;
        Some(lines.by_ref().take_while(|line| *line != "```").collect())
    })
}

/// The words after `$ switchboard`; single quotes hold a word together.
fn command(line: &str) -> Option<Vec<String>> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in line.strip_prefix("$ switchboard ")?.chars() {
        match character {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut()?.push(other),
        }
    }
    Some(words)
}
