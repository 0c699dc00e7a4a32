//! The books in PostgreSQL: what any number of processes share.
//!
//! Each thread of the store, [helpers](super::queue) included, has a [`Session`], with a connection and a small runtime that turns only while the thread waits
//! for an answer. A transaction runs at `READ COMMITTED`, and what must happen one after the other locks a row or a name
//! ([`Connection::lock`](super::Connection::lock)). A process that is frozen in a transaction is thrown out by the server
//! after [`IDLE`], and whoever waits for its rows gives up after [`LOCK`] and comes again.

mod fault;
mod schema;
mod server;
mod session;
mod value;

pub(crate) use fault::{Error, Nature};
pub(super) use server::Server;
pub(crate) use session::{Session, Statement};
pub(crate) use value::Value;
pub(super) use value::column;

use super::{Connection, OpenError};
use std::sync::Arc;
use std::time::Duration;

/// How long a transaction may stand still. A healthy one never does: it is not waited for anything in it.
const IDLE: Duration = Duration::from_millis(1500);
/// How long a row is waited for that another process holds.
const LOCK: Duration = Duration::from_millis(500);
/// How long an answer of the server is waited for. One that is frozen, or behind a cut line, looks as if it thought.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// Between attempts to connect: the first wait, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// How many help the writer where the server is far. Their connections are made when they are needed first.
const HELPERS: usize = 7;

/// The sessions of a store.
pub(super) struct Sessions {
    pub(super) writer: Connection,
    pub(super) helpers: Vec<Connection>,
    pub(super) readers: Vec<Connection>,
}

/// Sessions for those who write and read in a store. If the server is there it is asked whether we may come; if it is not,
/// it is waited for.
pub(super) fn open(server: &Arc<Server>, readers: usize) -> Result<Sessions, OpenError> {
    let refused = |reason: String| OpenError::Postgres { server: server.name().to_owned(), reason };
    let session = || Session::new(Arc::clone(server)).map_err(|error| refused(error.to_string()));
    let writer = session()?;
    // What opens us may turn on a runtime, in which another one can be neither waited for nor dropped.
    let tried = std::thread::scope(|scope| {
        scope
            .spawn(|| match writer.ensure() {
                Err(error) if error.is_lasting() => Err(error.to_string()),
                _ => Ok(writer),
            })
            .join()
    });
    let writer =
        tried.unwrap_or_else(|_| Err("the attempt to connect panicked".to_owned())).map_err(refused)?;
    let sessions =
        |count: usize| (0..count).map(|_| session().map(Connection::from)).collect::<Result<Vec<_>, _>>();
    Ok(Sessions { writer: writer.into(), helpers: sessions(HELPERS)?, readers: sessions(readers)? })
}
