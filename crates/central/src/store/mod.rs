//! The books on disk: one writing thread with group commit, a few reading ones, over one SQLite file, or over PostgreSQL
//! together with other processes.

mod error;
mod known;
mod open;
mod postgres;
mod queue;
mod reader;
mod schema;
mod sql;
mod writer;

pub use error::{OpenError, StoreError};
pub(crate) use rusqlite::params;
pub(crate) use sql::Result as Sql;
pub(crate) use sql::{Connection, OptionalExtension, Params, Row, Transaction};

use crate::clock::Clock;
use crate::config::Database;
use postgres::Server;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use switchboard_sqlite::{Health, Saved};
use tokio::sync::{mpsc, oneshot};
use writer::{Counters, Message, Work};

/// The bounds of the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many calls wait for the writer; further ones wait for room.
    pub(crate) queue_calls_max: usize,
    /// How many calls one commit may hold.
    pub(crate) batch_calls_max: usize,
    /// After this time a batch takes no more calls.
    pub(crate) batch_time_max: Duration,
    /// How many threads read.
    pub(crate) readers: usize,
    /// What is done at the end of each transaction with so many calls, as part of it.
    pub(crate) before_commit: fn(&Transaction<'_>, usize) -> Result<(), StoreError>,
}

/// What the store has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Commits, each with one sync of the disk.
    pub commits: u64,
    /// Calls that were part of a commit.
    pub written: u64,
    /// Calls that could not be stored.
    pub failed: u64,
    /// Batches that were done a second time because a call in them failed.
    pub repeated: u64,
}

/// The store. Clones share it.
#[derive(Clone)]
pub(crate) struct Store {
    writes: mpsc::Sender<Message>,
    reads: mpsc::Sender<reader::Read>,
    counters: Arc<Counters>,
    health: Health,
    is_shared: bool,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the books, makes them if there are none, and starts the threads. A server that is not there is waited for;
    /// until then everything fails. `corrects`: whether the server's clock counts rather than ours.
    pub(crate) fn open(
        database: &Database,
        limits: Limits,
        clock: &Clock,
        corrects: bool,
    ) -> Result<(Self, Option<Clock>), OpenError> {
        match database {
            Database::Sqlite { path } => {
                let (connection, owner) = open::open_writer(path, clock.now_ms())?;
                let readers: Result<Vec<_>, _> = (0..limits.readers.max(1))
                    .map(|_| open::open_reader(path).map(Connection::from))
                    .collect();
                let store = Self::start(connection.into(), Some(owner), Vec::new(), readers?, limits);
                Ok((store.map_err(|source| OpenError::Io { path: path.clone(), source })?, None))
            }
            Database::Postgres(addresses) => {
                let unusable = |reason| OpenError::Address { reason };
                let server = Server::new(addresses, clock.clone(), corrects).map_err(unusable)?;
                let server = Arc::new(server);
                let postgres::Sessions { writer, helpers, readers } =
                    postgres::open(&server, limits.readers.max(1))?;
                let store = Self::start(writer, None, helpers, readers, limits).map_err(|source| {
                    OpenError::Postgres { server: server.name().to_owned(), reason: source.to_string() }
                })?;
                Ok((store, Some(Clock::new(move || server.now_ms()))))
            }
        }
    }

    fn start(
        connection: Connection,
        owner: Option<open::Owner>,
        helpers: Vec<Connection>,
        readers: Vec<Connection>,
        limits: Limits,
    ) -> std::io::Result<Self> {
        let (reads, received) = mpsc::channel(limits.queue_calls_max.max(1));
        let received: reader::Reads = Arc::new(Mutex::new(received));
        for (number, connection) in readers.into_iter().enumerate() {
            let received = Arc::clone(&received);
            std::thread::Builder::new()
                .name(format!("central-read-{number}"))
                .spawn(move || reader::run(&connection, &received))?;
        }
        let (writes, waiting) = mpsc::channel(limits.queue_calls_max.max(1));
        let queue = queue::Queue::new(waiting);
        let counters = Arc::new(Counters::default());
        let is_shared = connection.is_shared();
        let health = Health::new("books");
        for (number, connection) in helpers.into_iter().enumerate() {
            let (queue, counters, health) = (Arc::clone(&queue), Arc::clone(&counters), health.clone());
            std::thread::Builder::new()
                .name(format!("central-help-{number}"))
                .spawn(move || writer::help(&connection, &queue, limits, &counters, &health))?;
        }
        let (shared, reported) = (Arc::clone(&counters), health.clone());
        std::thread::Builder::new()
            .name("central-write".to_owned())
            .spawn(move || writer::run(connection, owner, &queue, limits, &shared, &reported))?;
        Ok(Self { writes, reads, counters, health, is_shared })
    }

    /// Saves what can be read of a damaged file.
    pub(crate) fn salvage(path: &Path, now_ms: i64) -> Result<Option<Saved>, OpenError> {
        open::save(path, now_ms)
    }

    /// Does `work` in a transaction that it may share with others, and returns when that is on the disk.
    ///
    /// `work` may run more than once; only its last run counts. What fails leaves nothing behind.
    pub(crate) async fn write<F, R>(&self, work: F) -> Result<R, StoreError>
    where
        F: Fn(&Transaction<'_>) -> Result<R, StoreError> + Send + 'static,
        R: Send + 'static,
    {
        let (reply, result) = oneshot::channel();
        let job = Box::new(Work::new(work, reply));
        self.writes.send(Message::Job(job)).await.map_err(|_| StoreError::Closed)?;
        result.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Reads; sees everything whose write has returned.
    pub(crate) async fn read<F, R>(&self, work: F) -> Result<R, StoreError>
    where
        F: FnOnce(&Connection) -> Result<R, StoreError> + Send + 'static,
        R: Send + 'static,
    {
        let (reply, result) = oneshot::channel();
        let read: reader::Read = Box::new(move |connection| {
            drop(reply.send(reader::snapshot(connection, work)));
        });
        self.reads.send(read).await.map_err(|_| StoreError::Closed)?;
        result.await.unwrap_or(Err(StoreError::Panicked))
    }

    /// Writes what is queued and closes the file. Later calls fail with [`StoreError::Closed`].
    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.writes.send(Message::Close(done)).await.is_ok() {
            // The writer may already have been closing for another caller; then this one is not answered either way.
            drop(closed.await);
        } else {
            self.writes.closed().await;
        }
    }

    /// Whether other processes use the same books.
    pub(crate) const fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Whether the books can be written.
    pub(crate) const fn health(&self) -> &Health {
        &self.health
    }

    /// What has been done so far.
    pub(crate) fn stats(&self) -> StoreStats {
        StoreStats {
            commits: self.counters.commits.load(Ordering::Relaxed),
            written: self.counters.written.load(Ordering::Relaxed),
            failed: self.counters.failed.load(Ordering::Relaxed),
            repeated: self.counters.repeated.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests;
