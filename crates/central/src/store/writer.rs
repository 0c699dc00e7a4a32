//! The thread of a process that writes, group commit, and those who help it where the server is far.
//!
//! Handlers send work over a bounded queue. The thread takes what is there, does it all in one transaction, commits
//! (one sync of the disk for all of them) and only then tells each its result. While it syncs, the next batch gathers;
//! so it never waits for company, and one lonely call is as fast as the disk allows.
//!
//! Work must be repeatable (`Fn`): the batch first runs without savepoints, which cost every call a copy of the pages
//! that it shares with others in the batch. Only when one of it fails is everything rolled back and done again with a
//! savepoint around each, so that a failing call costs its neighbours time and nothing else.

use super::open::{Owner, checkpoint};
use super::queue::{Queue, SLOW};
use super::{Connection, Limits, StoreError, Transaction};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use switchboard_sqlite::{Health, killpoint};
use tokio::sync::oneshot;

/// What the writer has done since it started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) written: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) repeated: AtomicU64,
}

/// Work for the writer, with the place where its result goes.
pub(super) trait Job: Send {
    /// Does the work; whether it succeeded. May be called again after a rollback.
    fn run(&mut self, transaction: &Transaction<'_>) -> bool;
    /// Tells the result: that of the work if it was committed, else why it was not.
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
    /// Why it failed, if it was done and did.
    fn fault(&self) -> Option<&StoreError>;
    /// Whether it failed because of the transaction of another process.
    fn is_contended(&self) -> bool {
        matches!(self.fault(), Some(StoreError::Contended(_)))
    }
}

/// What travels over the queue.
pub(super) enum Message {
    /// Work to do.
    Job(Box<dyn Job>),
    /// Write what was sent before this, then close; answered when all is done.
    Close(oneshot::Sender<()>),
}

/// A job made of a closure.
pub(super) struct Work<F, R> {
    work: F,
    result: Option<Result<R, StoreError>>,
    reply: oneshot::Sender<Result<R, StoreError>>,
}

impl<F, R> Work<F, R> {
    pub(super) const fn new(work: F, reply: oneshot::Sender<Result<R, StoreError>>) -> Self {
        Self { work, result: None, reply }
    }
}

impl<F, R> Job for Work<F, R>
where
    F: Fn(&Transaction<'_>) -> Result<R, StoreError> + Send,
    R: Send,
{
    fn run(&mut self, transaction: &Transaction<'_>) -> bool {
        let work = &self.work;
        let result = catch_unwind(AssertUnwindSafe(|| work(transaction)))
            .unwrap_or_else(|_| Err(StoreError::Panicked));
        let succeeded = result.is_ok();
        self.result = Some(result);
        succeeded
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let result = match (committed, self.result) {
            (Ok(()), Some(result)) => result,
            // Its own fault is more telling than that of the whole batch.
            (Err(_), Some(Err(error))) | (Err(error), _) => Err(error),
            (Ok(()), None) => Err(StoreError::Closed),
        };
        // Nobody may be waiting any more: the call was abandoned at its deadline. What is stored stays stored.
        drop(self.reply.send(result));
    }

    fn fault(&self) -> Option<&StoreError> {
        self.result.as_ref()?.as_ref().err()
    }
}

/// Writes until every sender is gone or a `Close` arrives.
pub(super) fn run(
    connection: Connection,
    owner: Option<Owner>,
    queue: &Arc<Queue>,
    limits: Limits,
    counters: &Counters,
    health: &Health,
) {
    let called = Arc::clone(queue);
    connection.when_slow(SLOW, Box::new(move || called.call_for_help()));
    while let Some(job) = queue.next(&connection) {
        serve(&connection, job, queue, limits, counters, health);
    }
    let waiting_for_close = queue.end();
    if let Err(error) = checkpoint(&connection) {
        tracing::warn!(%error, "the log could not be merged into the database; that happens at the next start");
    }
    drop(connection);
    drop(owner);
    for done in waiting_for_close {
        if done.send(()).is_err() {
            tracing::debug!("nobody waits for the store to be closed any more");
        }
    }
}

/// Writes beside the first writer, whenever that is slow.
pub(super) fn help(
    connection: &Connection,
    queue: &Queue,
    limits: Limits,
    counters: &Counters,
    health: &Health,
) {
    while let Some(job) = queue.help(connection) {
        let _helping = Helping(queue);
        serve(connection, job, queue, limits, counters, health);
    }
}

/// A helper's batch. Also one that panics ends, or closing would wait for it for ever.
struct Helping<'q>(&'q Queue);

impl Drop for Helping<'_> {
    fn drop(&mut self) {
        self.0.helped();
    }
}

#[expect(clippy::disallowed_methods, reason = "when it was is told in the log only")]
/// Does one batch: this job and what else is queued, within the limits.
fn serve(
    connection: &Connection,
    job: Box<dyn Job>,
    queue: &Queue,
    limits: Limits,
    counters: &Counters,
    health: &Health,
) {
    let batch = &mut vec![job];
    let mut contended = Vec::new();
    let outcome = first_pass(connection, batch, queue, limits).and_then(|clean| {
        if clean {
            return Ok(());
        }
        counters.repeated.fetch_add(1, Ordering::Relaxed);
        // Other processes hold what these need: they wait by themselves, after the others.
        contended.extend(batch.extract_if(.., |job| job.is_contended()));
        second_pass(connection, batch)?;
        contended.extend(batch.extract_if(.., |job| job.is_contended()));
        Ok(())
    });
    match &outcome {
        Ok(()) => {
            health.succeeded(Instant::now());
            counters.commits.fetch_add(1, Ordering::Relaxed);
            counters.written.fetch_add(batch.len() as u64, Ordering::Relaxed);
        }
        Err(error) => {
            counters.failed.fetch_add(batch.len() as u64, Ordering::Relaxed);
            let cause = if matches!(error, StoreError::RolledBack) { of_the_disk(batch) } else { None };
            let cause = cause.unwrap_or(error);
            let lasting = matches!(cause, StoreError::Damaged(_));
            health.failed(&chain(cause), batch.len() as u64, lasting, Instant::now());
        }
    }
    for job in batch.drain(..) {
        job.finish(outcome.clone());
    }
    for mut job in contended {
        let outcome = if outcome.is_ok() { alone(connection, &mut *job) } else { outcome.clone() };
        let counter = if outcome.is_ok() { &counters.written } else { &counters.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        job.finish(outcome);
    }
}

/// A job in a transaction of its own, and once more if another process is in the way again.
fn alone(connection: &Connection, job: &mut dyn Job) -> Result<(), StoreError> {
    for _ in 0..2 {
        let transaction = connection.begin()?;
        transaction.wait_for_each();
        if job.run(&transaction) {
            match transaction.commit().map_err(StoreError::from) {
                Err(StoreError::Contended(_)) => {}
                other => return other,
            }
        } else if !job.is_contended() {
            break;
        }
    }
    Ok(())
}

/// What befell the one job for which all were rolled back: that is what an operator has to hear.
fn of_the_disk(batch: &[Box<dyn Job>]) -> Option<&StoreError> {
    batch
        .iter()
        .filter_map(|job| job.fault())
        .find(|fault| matches!(fault, StoreError::Full | StoreError::Io(_) | StoreError::Damaged(_)))
}

/// Everything in one transaction without savepoints; commits when all succeeded, and tells whether they did.
#[expect(clippy::disallowed_methods, reason = "the writer bounds a batch by the time it has taken")]
fn first_pass(
    connection: &Connection,
    batch: &mut Vec<Box<dyn Job>>,
    queue: &Queue,
    limits: Limits,
) -> Result<bool, StoreError> {
    let begun = Instant::now();
    let transaction = connection.begin()?;
    let mut clean = true;
    let mut next = 0;
    loop {
        while let Some(job) = batch.get_mut(next) {
            // After a failure the rest is only gathered; it runs in the second pass.
            clean = clean && job.run(&transaction);
            next += 1;
        }
        if next >= limits.batch_calls_max || begun.elapsed() >= limits.batch_time_max {
            break;
        }
        match queue.more() {
            Some(job) => batch.push(job),
            None => break,
        }
    }
    if clean {
        (limits.before_commit)(&transaction, batch.len())?;
        killpoint::pass("books.before-commit");
        transaction.commit()?;
        killpoint::pass("books.after-commit");
    }
    Ok(clean)
}

/// Everything again, each with a savepoint; commits what succeeded.
fn second_pass(connection: &Connection, batch: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
    let transaction = connection.begin()?;
    transaction.wait_for_each();
    for job in &mut *batch {
        transaction.execute_batch("SAVEPOINT job")?;
        if !job.run(&transaction) {
            if transaction.is_lost() {
                // A full disk or a failing one, and SQLite has rolled back all of it by itself; or the server is gone.
                return Err(StoreError::RolledBack);
            }
            transaction.rollback_to("job")?;
        }
        transaction.execute_batch("RELEASE job")?;
    }
    transaction.commit()?;
    killpoint::pass("books.after-second-pass");
    Ok(())
}

/// An error with its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
