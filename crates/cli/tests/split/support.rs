//! Servers for all tests, and what a test has of them for itself.

use crate::engine::Engine;
use anyhow::Result;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use switchboard_bus::{Bus, Connect, State};
use switchboard_testkit::{Ran, Switchboard, servers::Postgres, wait};
use tokio::sync::OnceCell;

pub(crate) use switchboard_testkit::scene::{
    booted, metric_at_least, obey, start, station, status, transactions,
};

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

    /// The books of its workers.
    pub(crate) fn books(&self) -> &str {
        &self.books
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

/// Waits until a worker's directory shows a station as connected, or not.
pub(crate) async fn connected(worker: &Switchboard, id: &str, connected: bool) -> Result<()> {
    wait::until(format!("{id} connected: {connected}"), async || {
        let list = worker.run(&["stations", "--json"]).await.ok()?.json().ok()?;
        let found = list["stations"].as_array()?.iter().find(|one| one["id"] == id)?;
        (found["connected"] == connected).then_some(())
    })
    .await
}

/// `send`, as an operator would.
pub(crate) async fn send(worker: &Switchboard, words: &[&str]) -> Result<Ran> {
    let mut arguments = vec!["send"];
    arguments.extend(words);
    worker.run(&arguments).await
}

/// Nothing that takes longer than this is "at once".
pub(crate) const AT_ONCE: Duration = Duration::from_secs(10);
