//! Servers for all tests, and what a test has of them for itself.

use crate::engine::Engine;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use switchboard_bus::{Bus, Connect, State};
use switchboard_testkit::{Ran, RawStation, Switchboard, servers::Postgres, wait};
use tokio::sync::OnceCell;

/// The binary.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_switchboard");

/// One database server, for the tests that do not kill it. It ends with this process.
static POSTGRES: OnceCell<Option<Postgres>> = OnceCell::const_new();

/// What gateways and workers of one installation have in common.
#[derive(Debug)]
pub(crate) struct Installation {
    engine: Engine,
    pub(crate) bus: String,
    pub(crate) directory: String,
    books: String,
    namespace: String,
}

impl Installation {
    /// A namespace at a broker that nobody kills, and databases of the test's own; none if it has to be skipped.
    pub(crate) async fn over(engine: Engine, test: &str) -> Result<Option<Self>> {
        let Some(bus) = engine.shared(test).await? else { return Ok(None) };
        Self::on(engine, test, bus).await
    }

    /// The same with a bus of the test's own.
    pub(crate) async fn on(engine: Engine, test: &str, bus: String) -> Result<Option<Self>> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let Some(postgres) = POSTGRES.get_or_try_init(|| Postgres::start(test)).await? else {
            return Ok(None);
        };
        let namespace = format!("n{}", COUNT.fetch_add(1, Ordering::Relaxed));
        Ok(Some(Self {
            engine,
            bus,
            directory: postgres.database()?,
            books: postgres.database()?,
            namespace,
        }))
    }

    /// The arguments that all processes of it have.
    pub(crate) fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let mut arguments =
            vec!["--bus", &self.bus, "--directory", &self.directory, "--namespace", &self.namespace];
        arguments.extend(more);
        arguments
    }

    /// A worker that is ready, of any number with the same books.
    pub(crate) async fn one_of_many(&self) -> Result<Switchboard> {
        self.worker(&["--database", &self.books]).await
    }

    /// The bus for this process too.
    pub(crate) async fn join(&self) -> Result<Arc<dyn Bus>> {
        let connect = Connect { namespace: self.namespace.as_str().into(), ..Connect::to(&self.bus) };
        let bus = self.engine.connect(connect)?;
        tokio::time::timeout(wait::DEADLINE, bus.state().wait_for(|state| *state == State::Connected))
            .await??;
        Ok(bus)
    }

    /// A gateway that is ready.
    pub(crate) async fn gateway(&self, more: &[&str]) -> Result<Switchboard> {
        Switchboard::gateway(BINARY, &self.arguments(more)).await
    }

    /// A worker that is ready.
    pub(crate) async fn worker(&self, more: &[&str]) -> Result<Switchboard> {
        Switchboard::worker(BINARY, &self.arguments(more)).await
    }
}

/// Connects as a station of 1.6.
pub(crate) async fn station(gateway: &Switchboard, id: &str) -> Result<RawStation> {
    RawStation::connect(&gateway.url(id), &["ocpp1.6"])
        .await?
        .map_err(|status| anyhow::anyhow!("{id} was refused with {status}"))
}

/// The same, and boots.
pub(crate) async fn booted(gateway: &Switchboard, id: &str) -> Result<RawStation> {
    let mut station = station(gateway, id).await?;
    let answer = station
        .ask(r#"[2,"boot","BootNotification",{"chargePointVendor":"V","chargePointModel":"M"}]"#)
        .await?;
    ensure!(answer[0] == 3 && answer[2]["status"] == "Accepted", "{answer}");
    Ok(station)
}

/// A StartTransaction with this id, at this minute.
pub(crate) fn start(id: &str, minute: u32) -> String {
    format!(
        r#"[2,"{id}","StartTransaction",{{"connectorId":1,"idTag":"A1","meterStart":{minute},"timestamp":"2026-11-20T10:{minute:02}:00Z"}}]"#
    )
}

/// A StatusNotification with this id, at this minute: it needs nothing of processing.
pub(crate) fn status(id: &str, minute: u32) -> String {
    format!(
        r#"[2,"{id}","StatusNotification",{{"connectorId":1,"errorCode":"NoError","status":"Available","timestamp":"2026-11-20T10:{minute:02}:00Z"}}]"#
    )
}

/// The transactions in a worker's books.
pub(crate) async fn transactions(worker: &Switchboard) -> Result<Vec<Value>> {
    let list = worker.run(&["transactions", "--json", "--limit", "1000"]).await?.json()?;
    Ok(list["transactions"].as_array().context("no list")?.clone())
}

/// Waits until a metric is at least this.
pub(crate) async fn metric_at_least(server: &Switchboard, name: &str, value: f64) -> Result<()> {
    wait::until(format!("{name} of {value}"), async || {
        server.metric(name).await.ok().filter(|now| *now >= value)
    })
    .await
    .map(|_| ())
}

/// Waits until a worker's directory shows a station as connected, or not.
pub(crate) async fn connected(worker: &Switchboard, id: &str, connected: bool) -> Result<()> {
    wait::until(format!("{id} connected: {connected}"), async || {
        let list = worker.run(&["stations", "--json"]).await.ok()?.json().ok()?;
        let found = list["stations"].as_array()?.iter().find(|one| one["id"] == id)?;
        (found["connected"] == connected).then_some(())
    })
    .await
}

/// Answers the next command of this action with this payload, and gives back what it asked for. Other frames are errors.
pub(crate) async fn obey(station: &mut RawStation, action: &str, answer: &str) -> Result<Value> {
    let text = station.receive().await?;
    let call: Value = serde_json::from_str(&text)?;
    ensure!(call[0] == 2 && call[2] == action, "{text} instead of {action}");
    station.send(&format!("[3,{},{answer}]", call[1])).await?;
    Ok(call[3].clone())
}

/// `send`, as an operator would.
pub(crate) async fn send(worker: &Switchboard, words: &[&str]) -> Result<Ran> {
    let mut arguments = vec!["send"];
    arguments.extend(words);
    worker.run(&arguments).await
}

/// Nothing that takes longer than this is "at once".
pub(crate) const AT_ONCE: Duration = Duration::from_secs(10);
