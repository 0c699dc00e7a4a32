//! The books on disk: one writing thread with group commit, a few reading ones, all over one SQLite file.

mod error;
mod open;
mod reader;
mod schema;
mod writer;

pub use error::{OpenError, StoreError};

use rusqlite::{Connection, Transaction};
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
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the file at `path`, makes it if there is none, and starts the threads.
    pub(crate) fn open(path: &Path, limits: Limits, now_ms: i64) -> Result<Self, OpenError> {
        let (connection, owner) = open::open_writer(path, now_ms)?;
        let spawn_failed = |source| OpenError::Io { path: path.to_owned(), source };

        let (reads, received) = mpsc::channel(limits.queue_calls_max.max(1));
        let received: reader::Reads = Arc::new(Mutex::new(received));
        for number in 0..limits.readers.max(1) {
            let connection = open::open_reader(path)?;
            let received = Arc::clone(&received);
            std::thread::Builder::new()
                .name(format!("central-read-{number}"))
                .spawn(move || reader::run(connection, &received))
                .map_err(spawn_failed)?;
        }

        let (writes, queue) = mpsc::channel(limits.queue_calls_max.max(1));
        let counters = Arc::new(Counters::default());
        let shared = Arc::clone(&counters);
        let health = Health::new("books");
        let reported = health.clone();
        std::thread::Builder::new()
            .name("central-write".to_owned())
            .spawn(move || writer::run(connection, owner, queue, limits, &shared, &reported))
            .map_err(spawn_failed)?;
        Ok(Self { writes, reads, counters, health })
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
