//! One connection to the server: prepared statements, and how far its clock is from ours.

use crate::config::{CONNECT_LIMIT, Settings};
use crate::fault::Fault;
use crate::{agreement, journal, outbox, schema, stations};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use switchboard_postgres::Connector;
use tokio::sync::oneshot;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

/// A parameter of a statement.
pub(crate) type Parameter<'a> = &'a (dyn ToSql + Sync);

/// A connection that is ready for use.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    prepared: HashMap<&'static str, Statement>,
    /// By how much the server's clock is ahead of the caller's.
    ahead_ms: AtomicI64,
}

impl Session {
    /// Connects, sees to the schema, and prepares everything. What is given besides resolves when the connection has
    /// ended.
    pub(crate) async fn open(
        settings: &Settings,
        tls: &Connector,
    ) -> Result<(Self, oneshot::Receiver<()>), Fault> {
        // A server that is frozen accepts connections and says nothing.
        let opening = Box::pin(Self::open_patiently(settings, tls));
        let limit = CONNECT_LIMIT * 2;
        tokio::time::timeout(limit, opening)
            .await
            .unwrap_or_else(|_| Err(Fault::Lost(format!("it was silent for {limit:?}"))))
    }

    async fn open_patiently(
        settings: &Settings,
        tls: &Connector,
    ) -> Result<(Self, oneshot::Receiver<()>), Fault> {
        let (client, connection) = settings.server.connect(tls.clone()).await?;
        let (alive, ended) = oneshot::channel::<()>();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the directory's database has ended");
            }
            drop(alive);
        });
        client.batch_execute(LIMITS).await?;
        schema::prepare(&client, &settings.schema).await?;
        let all = [stations::ALL, outbox::ALL, journal::ALL, agreement::ALL, &[CLOCK]].concat();
        let statements =
            futures_util::future::try_join_all(all.iter().map(|sql| client.prepare(sql))).await?;
        let prepared = all.into_iter().zip(statements).collect();
        let session = Self { client, prepared, ahead_ms: AtomicI64::new(0) };
        session.compare_clocks(settings).await?;
        Ok((session, ended))
    }

    /// The rows that a statement gives. It is on its way when this has been polled once.
    pub(crate) async fn rows(
        &self,
        sql: &'static str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Fault> {
        let statement = self.statement(sql)?;
        Ok(self.client.query(statement, parameters).await?)
    }

    /// How many rows a statement has changed. It is on its way when this has been polled once.
    pub(crate) async fn execute(
        &self,
        sql: &'static str,
        parameters: &[Parameter<'_>],
    ) -> Result<u64, Fault> {
        let statement = self.statement(sql)?;
        Ok(self.client.execute(statement, parameters).await?)
    }

    /// A statement without parameters or rows.
    pub(crate) async fn simply(&self, sql: &'static str) -> Result<(), Fault> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// A time of the caller's as the server's clock has it: leases and expiries are judged by that one clock, so that a
    /// process whose own is wrong takes nobody for dead, and nothing for expired.
    pub(crate) fn server_ms(&self, ours_ms: i64) -> i64 {
        ours_ms.saturating_add(self.ahead_ms.load(Ordering::Relaxed))
    }

    /// A time of the server's as the caller's clock has it.
    pub(crate) fn our_ms(&self, server_ms: i64) -> i64 {
        server_ms.saturating_sub(self.ahead_ms.load(Ordering::Relaxed))
    }

    /// Asks the server what time it is, which also tells whether it is there.
    pub(crate) async fn compare_clocks(&self, settings: &Settings) -> Result<(), Fault> {
        let before = (settings.clock)();
        let rows = self.rows(CLOCK, &[]).await?;
        let after = (settings.clock)();
        let Some(server) = rows.first() else { return Ok(()) };
        let ahead_ms = server.try_get::<_, i64>(0)?.saturating_sub(before.midpoint(after));
        // What the way there and back may explain is no difference.
        let doubt = after.abs_diff(before) / 2 + NEGLIGIBLE_MS;
        let ahead_ms = if ahead_ms.unsigned_abs() <= doubt { 0 } else { ahead_ms };
        if self.ahead_ms.swap(ahead_ms, Ordering::Relaxed).abs_diff(ahead_ms) > WORTH_TELLING_MS {
            tracing::warn!(
                seconds = ahead_ms / 1000,
                "the clock of the directory's database is ahead of ours by this much: leases and expiries follow that one"
            );
        }
        Ok(())
    }

    fn statement(&self, sql: &'static str) -> Result<&Statement, Fault> {
        // All are prepared that the modules name in their lists.
        self.prepared.get(sql).ok_or_else(|| Fault::Lost(format!("not prepared: {sql}")))
    }
}

/// What a frozen process of ours holds, and what it waits for, is given up by the server within 2 s. And commits are on a
/// synced disk, whatever the server's default is.
const LIMITS: &str = "SET lock_timeout = '2s'; SET statement_timeout = '2s'; \
    SET idle_in_transaction_session_timeout = '2s'; SET synchronous_commit = on; \
    SET client_min_messages = warning";
const CLOCK: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
/// By how much clocks may differ without any consequence.
const NEGLIGIBLE_MS: u64 = 250;
const WORTH_TELLING_MS: u64 = 2_000;
