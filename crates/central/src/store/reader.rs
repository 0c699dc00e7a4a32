//! A few threads that read, each with a connection that cannot write. They see every commit that was answered before
//! the read was asked for, and never wait for the writer.

use super::StoreError;
use rusqlite::Connection;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// A read: does its work and tells the result.
pub(super) type Read = Box<dyn FnOnce(&mut Connection) + Send>;

/// The readers' common queue.
pub(super) type Reads = Arc<Mutex<mpsc::Receiver<Read>>>;

/// Runs until every sender is gone.
pub(super) fn run(mut connection: Connection, reads: &Reads) {
    loop {
        // One idle reader at a time waits for the next read; the others wait for the lock.
        let read = reads.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(read) = read else { return };
        if catch_unwind(AssertUnwindSafe(|| read(&mut connection))).is_err() {
            tracing::error!("a read panicked; its caller gets an error");
        }
    }
}

/// Does `work` inside one read transaction, so that all it reads belongs together.
pub(super) fn snapshot<R>(
    connection: &mut Connection,
    work: impl FnOnce(&Connection) -> Result<R, StoreError>,
) -> Result<R, StoreError> {
    let transaction = connection.transaction()?;
    let result = work(&transaction)?;
    transaction.commit()?;
    Ok(result)
}
