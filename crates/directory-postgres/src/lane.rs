//! A lane: one connection to the server with its queue. It connects again by itself.

use crate::batch::{self, Job, Kind};
use crate::config::Settings;
use crate::fault::Fault;
use crate::session::Session;
use crate::standing::{Standing, State};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use switchboard_directory::DirectoryError;
use switchboard_postgres::Connector;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

/// What a lane is given.
pub(crate) enum Message {
    Job(Box<dyn Job>),
    /// Finish what came before, and end. Never answered: the sender is dropped when that is done.
    Close(oneshot::Sender<()>),
}

pub(crate) struct Lane {
    pub(crate) settings: Arc<Settings>,
    pub(crate) connector: Connector,
    pub(crate) standing: Arc<Standing>,
    pub(crate) queue: mpsc::Receiver<Message>,
    /// Not begun, or to be begun again.
    backlog: VecDeque<Box<dyn Job>>,
    closers: Vec<oneshot::Sender<()>>,
    /// Nobody gives us anything any more.
    closing: bool,
}

impl Lane {
    pub(crate) fn new(
        settings: Arc<Settings>,
        connector: Connector,
        standing: Arc<Standing>,
        queue: mpsc::Receiver<Message>,
    ) -> Self {
        Self {
            settings,
            connector,
            standing,
            queue,
            backlog: VecDeque::new(),
            closers: Vec::new(),
            closing: false,
        }
    }

    /// Works until it is closed.
    pub(crate) async fn work(mut self) {
        while let Some((session, mut ended)) = self.connect().await {
            self.standing.there();
            let Some(why) = self.serve(&Arc::new(session), &mut ended).await else { return };
            self.report(why);
        }
    }

    /// Connects, with pauses between attempts. None if it was closed meanwhile.
    async fn connect(&mut self) -> Option<(Session, oneshot::Receiver<()>)> {
        let since = Instant::now();
        let mut pause = Duration::ZERO;
        loop {
            let settings = Arc::clone(&self.settings);
            let connector = self.connector.clone();
            let mut state = self.standing.watch();
            state.mark_unchanged();
            let attempt = async move {
                // Where another lane has got through, there is nothing to wait for.
                let through =
                    async { while state.changed().await.is_ok() && *state.borrow() != State::There {} };
                drop(tokio::time::timeout(pause, through).await);
                Session::open(&settings, &connector).await
            };
            let mut attempt = Box::pin(attempt);
            let outcome = loop {
                let overdue = self.backlog.front().map_or(since, |job| job.deadline());
                tokio::select! {
                    biased;
                    outcome = &mut attempt => break outcome,
                    message = self.queue.recv(), if self.backlog.len() < BACKLOG_MAX => {
                        self.take(message);
                        if self.closing {
                            self.refuse_all();
                            return None;
                        }
                        let waited = Instant::now().saturating_duration_since(since);
                        if waited > PATIENCE && *self.standing.watch().borrow() != State::There {
                            // It has been away for long; this one need not wait to be told so.
                            self.refuse_all();
                        }
                    }
                    () = sleep_until(overdue), if !self.backlog.is_empty() => self.refuse_overdue(),
                }
            };
            match outcome {
                Ok(connected) => return Some(connected),
                Err(fault) => self.report(fault),
            }
            // All lanes of all processes come back at once otherwise.
            pause = (pause * 2).clamp(PAUSE_MIN, PAUSE_MAX).mul_f64(0.75 + fastrand::f64() / 2.0);
        }
    }

    /// Does what comes, until the connection is lost: why. None if it was closed.
    async fn serve(&mut self, session: &Arc<Session>, ended: &mut oneshot::Receiver<()>) -> Option<Fault> {
        let mut look = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.backlog.is_empty() {
                if self.closing {
                    return None;
                }
                tokio::select! {
                    message = self.queue.recv() => self.take(message),
                    _ = &mut *ended => return Some(Fault::Lost("the connection has ended".to_owned())),
                    _ = look.tick() => {
                        let looked = tokio::time::timeout(LOOK_EVERY, session.compare_clocks(&self.settings));
                        match looked.await {
                            Ok(Ok(())) => {}
                            Ok(Err(fault)) => return Some(fault),
                            Err(_) => return Some(Fault::Lost("it does not say what time it is".to_owned())),
                        }
                    }
                }
            }
            while self.backlog.len() < BATCH_MAX
                && let Ok(message) = self.queue.try_recv()
            {
                self.take(Some(message));
            }
            if self.backlog.is_empty() {
                continue;
            }
            let jobs = self.backlog.drain(..self.backlog.len().min(BATCH_MAX)).collect();
            if let Err(left) = batch::run(session, jobs).await {
                for job in left.jobs.into_iter().rev() {
                    if job.kind() == Kind::WritesOnce {
                        job.finish(Err(DirectoryError::Away(left.why.reason().into())));
                    } else {
                        self.backlog.push_front(job);
                    }
                }
                return Some(left.why);
            }
        }
    }

    fn take(&mut self, message: Option<Message>) {
        match message {
            Some(Message::Job(job)) => self.backlog.push_back(job),
            Some(Message::Close(closer)) => {
                // What is queued behind it is still done; nothing more comes in.
                self.queue.close();
                self.closers.push(closer);
                while let Ok(message) = self.queue.try_recv() {
                    self.take(Some(message));
                }
                self.closing = true;
            }
            None => self.closing = true,
        }
    }

    fn report(&self, fault: Fault) {
        let reason = fault.reason();
        self.standing.trouble(&DirectoryError::from(fault), &reason);
    }

    fn refuse_all(&mut self) {
        for job in std::mem::take(&mut self.backlog) {
            job.finish(Err(self.standing.refusal()));
        }
    }

    fn refuse_overdue(&mut self) {
        let now = Instant::now();
        for job in std::mem::take(&mut self.backlog) {
            if job.deadline() <= now {
                job.finish(Err(self.standing.refusal()));
            } else {
                self.backlog.push_back(job);
            }
        }
    }
}

/// How long an operation waits for a server that is away, before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// How many are done together at most, so that the first does not wait long for the last.
const BATCH_MAX: usize = 128;
/// How many may wait for a connection; others wait in the queue, and then in their callers' tasks.
const BACKLOG_MAX: usize = 1024;
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How often a connection that has nothing to do is looked at, and the clocks compared.
const LOOK_EVERY: Duration = Duration::from_secs(5);
