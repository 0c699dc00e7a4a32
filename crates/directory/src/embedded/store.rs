//! The one thread that owns the database, and group commit: what waits together is committed together.
//!
//! A commit costs a sync of the disk, whatever is in it. So the thread takes everything that is queued, runs it in one
//! transaction, each operation in a savepoint of its own, commits, and only then answers all.

use super::fault::Fault;
use crate::DirectoryError;
use futures_util::future::BoxFuture;
use rusqlite::Connection;
use std::thread;
use std::time::Instant;
use switchboard_sqlite::{Health, killpoint};
use tokio::sync::{mpsc, oneshot};

/// How to reach the thread. Dropping it lets the thread finish what is queued and end.
#[derive(Debug)]
pub(super) struct Store {
    queue: mpsc::Sender<Message>,
    health: Health,
}

enum Message {
    Job(Box<dyn Job>),
    Close(oneshot::Sender<()>),
}

/// An operation with its answer.
pub(super) trait Job: Send + 'static {
    /// Does it. May be called again, after everything that it did was rolled back.
    fn run(&mut self, connection: &Connection) -> Result<(), Fault>;
    /// Whether it must be undone as a whole if `run` fails although others are committed. Not to have to costs less.
    fn is_whole(&self) -> bool {
        true
    }
    /// Answers: after the commit if that and `run` went well.
    fn finish(self: Box<Self>, outcome: Result<(), DirectoryError>);
}

impl Store {
    /// Starts the thread. `held` is dropped after the database has been closed.
    pub(super) fn start(connection: Connection, held: impl Send + 'static) -> Result<Self, DirectoryError> {
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        let health = Health::new("directory");
        let reported = health.clone();
        thread::Builder::new()
            .name("directory".to_owned())
            .spawn(move || {
                let closers = work(connection, receiver, &reported);
                drop(held);
                // This is how they are told: the file is free for another owner now.
                drop(closers);
            })
            .map_err(|error| DirectoryError::Away(Box::new(error)))?;
        Ok(Self { queue, health })
    }

    /// Whether the database can be written.
    pub(super) const fn health(&self) -> &Health {
        &self.health
    }

    /// Runs an operation; the answer comes after its commit. Waits while the queue is full.
    pub(super) fn call<T: Send + 'static>(
        &self,
        operation: impl FnMut(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, DirectoryError>> {
        self.call_then(operation, |_| {})
    }

    /// As [`call`](Self::call), and `after` runs on the thread between commit and answer, in the order of commits.
    pub(super) fn call_then<T: Send + 'static>(
        &self,
        operation: impl FnMut(&Connection) -> Result<T, Fault> + Send + 'static,
        after: impl FnOnce(&T) + Send + 'static,
    ) -> BoxFuture<'_, Result<T, DirectoryError>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let task = Task { operation, after, value: None, answer };
            self.post(task).await?;
            answered.await.map_err(|_| closed())?
        })
    }

    /// Queues a job.
    pub(super) async fn post(&self, job: impl Job) -> Result<(), DirectoryError> {
        self.queue.send(Message::Job(Box::new(job))).await.map_err(|_| closed())
    }

    /// Queues a job if there is room for it.
    pub(super) fn try_post(&self, job: impl Job) -> bool {
        self.queue.try_send(Message::Job(Box::new(job))).is_ok()
    }

    /// Finishes what is queued, closes the database and ends the thread.
    pub(super) async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        if self.queue.send(Message::Close(answer)).await.is_ok() {
            // Never answered: the sender is dropped when all is done.
            drop(answered.await);
        }
    }
}

struct Task<T, O, A> {
    operation: O,
    after: A,
    value: Option<T>,
    answer: oneshot::Sender<Result<T, DirectoryError>>,
}

impl<T, O, A> Job for Task<T, O, A>
where
    T: Send + 'static,
    O: FnMut(&Connection) -> Result<T, Fault> + Send + 'static,
    A: FnOnce(&T) + Send + 'static,
{
    fn run(&mut self, connection: &Connection) -> Result<(), Fault> {
        self.value = Some((self.operation)(connection)?);
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), DirectoryError>) {
        let answer = match (outcome, self.value) {
            (Ok(()), Some(value)) => {
                (self.after)(&value);
                Ok(value)
            }
            (Err(error), _) => Err(error),
            (Ok(()), None) => Err(closed()),
        };
        // Whoever asked may have gone.
        drop(self.answer.send(answer));
    }
}

/// Works until it is closed or nobody can reach it any more; gives out who waits for the end.
fn work(
    connection: Connection,
    mut receiver: mpsc::Receiver<Message>,
    health: &Health,
) -> Vec<oneshot::Sender<()>> {
    let mut closers = Vec::new();
    while let Some(first) = receiver.blocking_recv() {
        // Whoever queued this may be about to queue more, and waits for this very core if all are busy. Let it: they
        // share a commit then, and it is not interrupted for each.
        thread::yield_now();
        let mut batch = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Job(job) => batch.push(job),
                Message::Close(closer) => {
                    // What is queued behind it is still done; nothing more comes in.
                    receiver.close();
                    closers.push(closer);
                }
            }
            next = if batch.len() < BATCH_MAX { receiver.try_recv().ok() } else { None };
        }
        commit(&connection, batch, health);
    }
    if let Err((_, error)) = connection.close() {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the directory's database did not close well"
        );
    }
    closers
}

/// Runs a batch in one transaction. If that fails as a whole, each job runs again in a transaction of its own, so that
/// one which has no room does not take the others with it.
fn commit(connection: &Connection, mut batch: Vec<Box<dyn Job>>, health: &Health) {
    if batch.len() > 1 {
        match together(connection, &mut batch) {
            Ok(outcomes) => {
                for (job, outcome) in batch.into_iter().zip(outcomes) {
                    let outcome = outcome.map_err(DirectoryError::from);
                    report(health, outcome.as_ref().err());
                    job.finish(outcome);
                }
                return;
            }
            Err(fault) => {
                tracing::debug!(error = ?fault, jobs = batch.len(), "a batch failed; its jobs run one by one");
            }
        }
    }
    for mut job in batch {
        let outcome = alone(connection, job.as_mut()).map_err(DirectoryError::from);
        report(health, outcome.as_ref().err());
        job.finish(outcome);
    }
}

/// Tells the health how a transaction of one job went. What we refuse ourselves says nothing of the disk.
#[expect(clippy::disallowed_methods, reason = "when it was is told in the log only")]
fn report(health: &Health, error: Option<&DirectoryError>) {
    match error {
        None => health.succeeded(Instant::now()),
        Some(error @ DirectoryError::Damaged { .. }) => health.failed(error, 1, true, Instant::now()),
        Some(DirectoryError::Full(cause) | DirectoryError::Away(cause)) if cause.is::<rusqlite::Error>() => {
            health.failed(cause, 1, false, Instant::now());
        }
        Some(_) => {}
    }
}

type Outcomes = Vec<Result<(), Fault>>;

fn together(connection: &Connection, batch: &mut [Box<dyn Job>]) -> Result<Outcomes, Fault> {
    transaction(connection, || {
        let mut outcomes = Vec::with_capacity(batch.len());
        for job in batch {
            if job.is_whole() {
                execute(connection, "SAVEPOINT job")?;
            }
            let outcome = job.run(connection);
            // Some errors, a full disk among them, roll the whole transaction back.
            if let Err(fault) = &outcome
                && connection.is_autocommit()
            {
                return Err(Fault::Refused(DirectoryError::Away(format!("{fault:?}").into())));
            }
            if job.is_whole() {
                if outcome.is_err() {
                    execute(connection, "ROLLBACK TO job")?;
                }
                execute(connection, "RELEASE job")?;
            }
            outcomes.push(outcome);
        }
        Ok(outcomes)
    })
}

fn alone(connection: &Connection, job: &mut dyn Job) -> Result<(), Fault> {
    transaction(connection, || job.run(connection))
}

fn transaction<T>(connection: &Connection, body: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    execute(connection, "BEGIN")?;
    let outcome = body().and_then(|value| {
        killpoint::pass("directory.before-commit");
        execute(connection, "COMMIT")?;
        killpoint::pass("directory.after-commit");
        Ok(value)
    });
    if outcome.is_err() && !connection.is_autocommit() {
        execute(connection, "ROLLBACK")?;
    }
    outcome
}

fn execute(connection: &Connection, sql: &str) -> Result<(), Fault> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

pub(super) fn closed() -> DirectoryError {
    DirectoryError::Away("it was closed".into())
}

/// How many operations may wait. One more waits outside, in its caller's task.
const QUEUE_MAX: usize = 1024;
/// How many are committed together at most, so that the first does not wait long for the last.
const BATCH_MAX: usize = 256;
