//! A few threads that read, each with a connection that cannot write. They see every commit that was answered before
//! the read was asked for, and never wait for the writer.

use super::{Connection, StoreError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// A read: does its work and tells the result.
pub(super) type Read = Box<dyn FnOnce(&Connection) + Send>;

/// The readers' common queue.
pub(super) type Reads = Arc<Mutex<mpsc::Receiver<Read>>>;

/// Runs until every sender is gone.
pub(super) fn run(connection: &Connection, reads: &Reads) {
    loop {
        // One idle reader at a time waits for the next read; the others wait for the lock.
        let read = reads.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(read) = read else { return };
        if catch_unwind(AssertUnwindSafe(|| read(connection))).is_err() {
            tracing::error!("a read panicked; its caller gets an error");
        }
    }
}

/// Does `work` inside one read transaction, so that all it reads belongs together.
pub(super) fn snapshot<R>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<R, StoreError>,
) -> Result<R, StoreError> {
    let transaction = connection.snapshot()?;
    let result = work(&transaction)?;
    transaction.commit()?;
    Ok(result)
}
