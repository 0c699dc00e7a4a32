//! A station made of software that is not ours, driven line by line.

use crate::{tools, wait};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Whose software, speaking what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Software {
    /// PyPI's `ocpp` in 1.6.
    Python16,
    /// PyPI's `ocpp` in 2.0.1.
    Python201,
    /// PyPI's `ocpp` in 2.1.
    Python21,
    /// npm's `ocpp-rpc` in 1.6, in its strict mode.
    Node16,
}

impl Software {
    /// The subprotocol that it speaks.
    #[must_use]
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Python16 | Self::Node16 => "ocpp1.6",
            Self::Python201 => "ocpp2.0.1",
            Self::Python21 => "ocpp2.1",
        }
    }
}

/// A running charger: a script in `tests/peers`. Dropped, it is killed.
#[derive(Debug)]
pub struct Charger {
    #[expect(dead_code, reason = "held for its drop")]
    child: Child,
    requests: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// What happened by itself while something else was waited for.
    events: VecDeque<Value>,
}

impl Charger {
    /// Starts the software; none if `test` has to be skipped for want of it.
    ///
    /// # Errors
    /// It cannot be started, or is missing although the tests were told that it is there.
    pub fn start(test: &str, software: Software) -> Result<Option<Self>> {
        let peers = tools::root().join("tests/peers");
        let command = match software {
            Software::Python16 | Software::Python201 | Software::Python21 => {
                let Some(python) = tools::python(test)? else { return Ok(None) };
                let mut command = Command::new(python);
                command.arg(peers.join("charger.py"));
                command.arg(software.subprotocol().trim_start_matches("ocpp"));
                command
            }
            Software::Node16 => {
                let Some(packages) = tools::node_packages(test)? else { return Ok(None) };
                let mut command = Command::new("node");
                command.env("NODE_PATH", packages.join("node_modules"));
                command.arg(peers.join("charger.js")).arg("1.6");
                command
            }
        };
        Self::spawn(command).with_context(|| format!("cannot start {software:?}")).map(Some)
    }

    /// Starts a script of `tests/peers` in Python; none if `test` has to be skipped for want of what it needs.
    ///
    /// # Errors
    /// It cannot be started, or is missing although the tests were told that it is there.
    pub fn start_script(test: &str, script: &str, argument: &str) -> Result<Option<Self>> {
        let Some(python) = tools::python(test)? else { return Ok(None) };
        let mut command = Command::new(python);
        command.arg(tools::root().join("tests/peers").join(script)).arg(argument);
        Self::spawn(command).map(Some)
    }

    /// Starts a script in JavaScript that talks line by line and finds its packages in this folder.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_node(script: &Path, packages: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new("node");
        command.env("NODE_PATH", packages).arg(script).args(arguments);
        Self::spawn(command)
    }

    /// Starts a script that talks line by line.
    pub(crate) fn spawn(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let requests = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        Ok(Self { child, requests, answers, events: VecDeque::new() })
    }

    /// Has it do something that must succeed, and gives back what it tells of it.
    ///
    /// # Errors
    /// It failed.
    pub async fn does(&mut self, what: &str, with: Value) -> Result<Value> {
        let answer = self.tries(what, with).await?;
        ensure!(answer.get("done").is_some(), "{answer}");
        Ok(answer)
    }

    /// Has it do something that may fail: `{"failed": …, "error": …, "code": …}`.
    ///
    /// # Errors
    /// The script itself broke.
    pub async fn tries(&mut self, what: &str, with: Value) -> Result<Value> {
        self.begins(what, with).await?;
        self.ended(what).await
    }

    /// Has it begin something whose end is waited for later by [`ended`](Self::ended).
    ///
    /// # Errors
    /// The script itself broke.
    pub async fn begins(&mut self, what: &str, mut with: Value) -> Result<()> {
        with["do"] = json!(what);
        self.requests.write_all(format!("{with}\n").as_bytes()).await.context("the charger is gone")
    }

    /// What became of what was begun.
    ///
    /// # Errors
    /// The script itself broke.
    pub async fn ended(&mut self, what: &str) -> Result<Value> {
        loop {
            let line = self.line(what).await?;
            if line.get("event").is_some() {
                self.events.push_back(line);
                continue;
            }
            ensure!(line["done"] == what || line["failed"] == what, "{line} instead of {what}");
            return Ok(line);
        }
    }

    /// Waits for something that happens by itself.
    ///
    /// # Errors
    /// It does not happen.
    pub async fn event(&mut self, name: &str) -> Result<Value> {
        if let Some(at) = self.events.iter().position(|event| event["event"] == name)
            && let Some(event) = self.events.remove(at)
        {
            return Ok(event);
        }
        loop {
            let line = self.line(name).await?;
            if line["event"] == name {
                return Ok(line);
            }
            ensure!(line.get("event").is_some(), "{line} instead of the event {name}");
            self.events.push_back(line);
        }
    }

    async fn line(&mut self, what: &str) -> Result<Value> {
        let line = timeout(2 * wait::DEADLINE, self.answers.next_line())
            .await
            .with_context(|| format!("the charger says nothing, where {what} is due"))??;
        let Some(line) = line else { bail!("the charger's script ended, where {what} is due") };
        let line: Value = serde_json::from_str(&line).with_context(|| format!("an odd line: {line}"))?;
        // What its own checks find wrong with our frames is an error wherever it turns up.
        ensure!(line["event"] != "invalid", "the charger's library finds fault: {line}");
        Ok(line)
    }
}
