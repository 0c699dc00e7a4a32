//! Where messages that must not get lost are kept: the contract, and the queue that keeps them in memory only.

mod file;
mod log;
#[cfg(test)]
mod tests;

pub use file::{FileQueue, Recovered};

use bytestring::ByteString;
use std::{fmt, io, path::PathBuf};

/// A message that is kept until the central system has answered it.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Rises with each message of the station, also across restarts.
    pub number: u64,
    /// The transaction that it belongs to; empty for readings outside of one (1.6).
    pub transaction: ByteString,
    /// What it tells.
    pub kind: Kind,
    /// The action.
    pub action: ByteString,
    /// A JSON object, without what is only known when it is sent: `transactionId` in 1.6, `offline` in 2.x.
    pub payload: ByteString,
}

impl fmt::Debug for Record {
    /// Without the payload, which holds tags.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Record")
            .field("number", &self.number)
            .field("transaction", &self.transaction)
            .field("kind", &self.kind)
            .field("action", &self.action)
            .finish_non_exhaustive()
    }
}

/// What a message tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A transaction has begun.
    Start,
    /// Something happened in it. Never left out.
    Update,
    /// The meter was read. Of these some may be left out when too much waits (2.0.1 E04.FR.07).
    Reading,
    /// A transaction has ended.
    Stop,
}

/// A transaction that has begun and whose end is not told yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Open {
    /// By which the station knows it; in 2.x its `transactionId`.
    pub transaction: ByteString,
    /// What the central system called it (1.6), once it did.
    pub id: Option<i64>,
    /// Whether its end waits to be told.
    pub ended: bool,
    /// The `seqNo` of its last message (2.x).
    pub seq_no: Option<u64>,
}

impl Open {
    /// A transaction of which nothing is known yet but its name.
    #[must_use]
    pub const fn new(transaction: ByteString) -> Self {
        Self { transaction, id: None, ended: false, seq_no: None }
    }
}

/// One change of what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A message is to be kept.
    Added(Record),
    /// The message with this number is dealt with: answered, given up or left out.
    Done(u64),
    /// This is now known of a transaction.
    Open(Open),
    /// Nothing about this transaction is needed any more.
    Closed(ByteString),
}

/// Keeps the changes of what waits, so that it can be built again after a restart.
///
/// # Contract
/// - [`load`](Self::load) is called once, before everything else, and gives all changes that were kept, in order. What was
///   kept only in part, because the machine stopped in the middle of it, is cut off and told in the log.
/// - [`append`](Self::append) has kept all of the changes when it says `Ok`, as durably as the implementation promises. When it
///   fails it has kept none of them, and can be called again.
/// - [`rewrite`](Self::rewrite) replaces everything by these changes, or fails and leaves everything as it was.
/// - [`wants_rewrite`](Self::wants_rewrite) says when that is worth while; `live` is how many changes would be left.
///
/// Only one process uses one queue at a time. The calls may block for as long as a disk takes.
pub trait Queue: fmt::Debug + Send {
    /// Everything that was kept.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(&mut self) -> Result<Vec<Change>, QueueError>;

    /// Keeps these changes as well.
    ///
    /// # Errors
    /// When they cannot be kept, as on a full disk.
    fn append(&mut self, changes: &[Change]) -> Result<(), QueueError>;

    /// Keeps these changes and forgets all others.
    ///
    /// # Errors
    /// When they cannot be kept.
    fn rewrite(&mut self, changes: &[Change]) -> Result<(), QueueError>;

    /// Whether so much of what is kept is of no use any more that it should be rewritten.
    fn wants_rewrite(&self, live: usize) -> bool;

    /// Whether what is kept is still there after a restart.
    fn is_durable(&self) -> bool;
}

/// Why messages cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The disk said no.
    #[error("cannot {doing} {}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Another process uses it.
    #[error("{} is in use by another process; give each station a file of its own", .0.display())]
    InUse(PathBuf),
    /// The file is something else.
    #[error("{} is no queue of a station; name another file or remove it", .0.display())]
    NotAQueue(PathBuf),
}

/// Keeps nothing beyond the process: for simulations, and for stations that may forget.
///
/// What waits is held in memory by the client itself; there is nothing to be added here.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryQueue;

impl Queue for MemoryQueue {
    fn load(&mut self) -> Result<Vec<Change>, QueueError> {
        Ok(Vec::new())
    }

    fn append(&mut self, _: &[Change]) -> Result<(), QueueError> {
        Ok(())
    }

    fn rewrite(&mut self, _: &[Change]) -> Result<(), QueueError> {
        Ok(())
    }

    fn wants_rewrite(&self, _: usize) -> bool {
        false
    }

    fn is_durable(&self) -> bool {
        false
    }
}
