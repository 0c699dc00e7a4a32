//! What waits together is sent together: one transaction, one sync of the server's disk, one way there and back.
//!
//! The statements of a batch go out in one piece, from `BEGIN` to `COMMIT`, without waiting for anything in between, so
//! that no transaction of ours is ever open while we think. If one of them fails the server does none, and each is done
//! alone, so that one which has no room does not take the others with it.

use crate::fault::{Fault, away};
use crate::session::Session;
use futures_util::future::BoxFuture;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use switchboard_directory::{DirectoryError, StationKey};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What may be done with an operation whose connection was lost in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It changes nothing, and may be asked again.
    Reads,
    /// It may be done again, which changes nothing more.
    Writes,
    /// Nobody knows whether it was done, and so it is told.
    WritesOnce,
}

/// An operation with its answer.
pub(crate) trait Job: Send {
    /// What it is about: a batch is in this order, so that two processes never wait for each other's rows in a circle.
    fn key(&self) -> Option<&StationKey>;
    fn kind(&self) -> Kind;
    /// Until when a server that is away is waited for.
    fn deadline(&self) -> Instant;
    /// Sends it when it is polled first.
    fn start<'a>(&'a mut self, session: &Arc<Session>) -> BoxFuture<'a, Result<(), Fault>>;
    /// Nobody knows whether the server has done it.
    fn doubt(&mut self);
    /// Answers.
    fn finish(self: Box<Self>, outcome: Result<(), DirectoryError>);
}

/// An operation that gives a `T`. It is told whether it may have been done before.
pub(crate) struct Task<T, R> {
    pub(crate) key: Option<StationKey>,
    pub(crate) kind: Kind,
    pub(crate) deadline: Instant,
    pub(crate) run: R,
    pub(crate) again: bool,
    pub(crate) value: Option<T>,
    pub(crate) answer: oneshot::Sender<Result<T, DirectoryError>>,
}

impl<T, R> Job for Task<T, R>
where
    T: Send,
    R: Fn(Arc<Session>, bool) -> BoxFuture<'static, Result<T, Fault>> + Send,
{
    fn key(&self) -> Option<&StationKey> {
        self.key.as_ref()
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn start<'a>(&'a mut self, session: &Arc<Session>) -> BoxFuture<'a, Result<(), Fault>> {
        let running = (self.run)(Arc::clone(session), self.again);
        Box::pin(async move {
            self.value = Some(running.await?);
            Ok(())
        })
    }

    fn doubt(&mut self) {
        self.again = true;
    }

    fn finish(self: Box<Self>, outcome: Result<(), DirectoryError>) {
        let answer = match (outcome, self.value) {
            (Ok(()), Some(value)) => Ok(value),
            (Err(error), _) => Err(error),
            (Ok(()), None) => Err(away("it gave no answer")),
        };
        // Whoever asked may have gone.
        drop(self.answer.send(answer));
    }
}

/// What is left when the connection was lost.
pub(crate) struct Left {
    pub(crate) why: Fault,
    /// In their order; those that were under way are in doubt.
    pub(crate) jobs: Vec<Box<dyn Job>>,
}

/// Does a batch and answers it.
pub(crate) async fn run(session: &Arc<Session>, mut jobs: Vec<Box<dyn Job>>) -> Result<(), Left> {
    jobs.sort_by(|one, other| one.key().cmp(&other.key()));
    let writes = jobs.iter().any(|job| job.kind() != Kind::Reads);
    let transaction = writes && jobs.len() > 1;
    match within(together(session, &mut jobs, transaction)).await {
        Ok(outcomes) => {
            // What we refuse ourselves does not keep the server from committing the others.
            let undone = transaction && outcomes.iter().any(|outcome| matches!(outcome, Err(Fault::Sql(_))));
            if !undone {
                for (job, outcome) in jobs.into_iter().zip(outcomes) {
                    job.finish(outcome.map_err(DirectoryError::from));
                }
                return Ok(());
            }
        }
        Err(why @ Fault::Lost(_)) => {
            for job in &mut jobs {
                job.doubt();
            }
            return Err(Left { why, jobs });
        }
        // The commit failed, so that nothing was done.
        Err(fault) => tracing::debug!(reason = fault.reason(), "a batch was not committed"),
    }
    one_by_one(session, jobs).await
}

async fn one_by_one(session: &Arc<Session>, jobs: Vec<Box<dyn Job>>) -> Result<(), Left> {
    let mut rest = jobs.into_iter();
    while let Some(mut job) = rest.next() {
        match within(job.start(session)).await {
            Err(why @ Fault::Lost(_)) => {
                job.doubt();
                return Err(Left { why, jobs: std::iter::once(job).chain(rest).collect() });
            }
            outcome => job.finish(outcome.map_err(DirectoryError::from)),
        }
    }
    Ok(())
}

/// Sends everything, then waits for everything. The outer error means that nothing can be said of any of them, unless it
/// is the server's word about the commit.
async fn together(
    session: &Arc<Session>,
    jobs: &mut [Box<dyn Job>],
    transaction: bool,
) -> Result<Vec<Result<(), Fault>>, Fault> {
    let mut running: Vec<BoxFuture<'_, Result<(), Fault>>> = Vec::with_capacity(jobs.len() + 2);
    if transaction {
        running.push(Box::pin(session.simply("BEGIN")));
    }
    running.extend(jobs.iter_mut().map(|job| job.start(session)));
    if transaction {
        running.push(Box::pin(session.simply("COMMIT")));
    }
    let mut outcomes: Vec<Option<Result<(), Fault>>> = Vec::new();
    outcomes.resize_with(running.len(), || None);
    let mut first = 0;
    poll_fn(|context| {
        // Each is sent when it is polled first, so this is the order on the line; answers come in the same order.
        let mut pending = false;
        for (place, future) in running.iter_mut().enumerate().skip(first) {
            let Some(outcome) = outcomes.get_mut(place).filter(|outcome| outcome.is_none()) else { continue };
            match future.as_mut().poll(context) {
                Poll::Ready(done) => *outcome = Some(done),
                Poll::Pending => pending = true,
            }
        }
        first = outcomes.iter().take_while(|outcome| outcome.is_some()).count();
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    drop(running);
    let mut done = Vec::with_capacity(outcomes.len());
    for outcome in outcomes.into_iter().flatten() {
        match outcome {
            Err(lost @ Fault::Lost(_)) => return Err(lost),
            outcome => done.push(outcome),
        }
    }
    if transaction {
        let commit = done.pop().unwrap_or(Ok(()));
        // A `COMMIT` after a failed statement is a rollback, and no error; then one of the others is.
        commit?;
        done.remove(0)?;
    }
    Ok(done)
}

/// A server that does not answer in this time is as good as gone.
async fn within<T>(doing: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    tokio::time::timeout(SILENCE_MAX, doing)
        .await
        .unwrap_or_else(|_| Err(Fault::Lost(format!("it was silent for {SILENCE_MAX:?}"))))
}

/// Longer than the server lets a statement wait or run.
const SILENCE_MAX: Duration = Duration::from_secs(4);
