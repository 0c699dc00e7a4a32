//! A central system made of software that is not ours, driven line by line.

use crate::{Charger, tools};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::process::Command;

/// Whose software.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CentralSoftware {
    /// PyPI's `ocpp`, in all versions.
    Python,
    /// npm's `ocpp-rpc` in its strict mode, in 1.6 and 2.0.1.
    Node,
}

/// A running central system: a script in `tests/peers`. Dropped, it is killed.
#[derive(Debug)]
pub struct Central {
    script: Charger,
    port: u64,
}

impl Central {
    /// Starts the software for this version (`1.6`); none if `test` has to be skipped for want of it.
    ///
    /// # Errors
    /// It cannot be started, or is missing although the tests were told that it is there.
    pub async fn start(test: &str, software: CentralSoftware, version: &str) -> Result<Option<Self>> {
        let peers = tools::root().join("tests/peers");
        let mut command = match software {
            CentralSoftware::Python => {
                let Some(python) = tools::python(test)? else { return Ok(None) };
                let mut command = Command::new(python);
                command.arg(peers.join("central.py"));
                command
            }
            CentralSoftware::Node => {
                let Some(packages) = tools::node_packages(test)? else { return Ok(None) };
                let mut command = Command::new("node");
                command.env("NODE_PATH", packages.join("node_modules")).arg(peers.join("central.js"));
                command
            }
        };
        command.arg(version);
        let mut script = Charger::spawn(command).with_context(|| format!("cannot start {software:?}"))?;
        let port = script.event("listening").await?["port"].as_u64().context("no port")?;
        Ok(Some(Self { script, port }))
    }

    /// Where stations connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// Has it do something that must succeed.
    ///
    /// # Errors
    /// It failed.
    pub async fn does(&mut self, what: &str, with: Value) -> Result<Value> {
        self.script.does(what, with).await
    }

    /// Has it call a station, and gives the answer's payload.
    ///
    /// # Errors
    /// The station refused, or the answer does not fit its schema.
    pub async fn call(&mut self, station: &str, action: &str, payload: Value) -> Result<Value> {
        let with = json!({ "station": station, "action": action, "payload": payload });
        Ok(self.does("call", with).await?["answer"].take())
    }

    /// Waits for something that happens by itself: `called`, `connected`, `closed`.
    ///
    /// # Errors
    /// It does not happen.
    pub async fn event(&mut self, name: &str) -> Result<Value> {
        self.script.event(name).await
    }

    /// Waits for the next call of a station but for Heartbeats and status notifications, and gives action and payload.
    ///
    /// # Errors
    /// None comes.
    pub async fn called(&mut self) -> Result<(String, Value)> {
        loop {
            let mut called = self.event("called").await?;
            let action = called["action"].as_str().unwrap_or_default().to_owned();
            if action != "Heartbeat" && action != "StatusNotification" {
                return Ok((action, called["payload"].take()));
            }
        }
    }
}
