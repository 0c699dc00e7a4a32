//! What waits to be written, and who takes it.
//!
//! One writer takes everything as long as it is quick: what waits together is committed together. Over a network every
//! statement is a round trip, and a batch is slow because the server is far and not because there is much to do. Then
//! others help, each over a connection of its own, as other processes would: what must happen one after the other locks
//! a row or a name. With a server that is near nobody ever has to.

use super::Connection;
use super::writer::{Job, Message};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The queue of all who write.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// With the first writer while it waits for work; here while it writes.
    waiting: Option<mpsc::Receiver<Message>>,
    /// The first writer's present batch takes long.
    is_slow: bool,
    /// Helpers that are writing.
    helping: usize,
    /// Nothing more comes.
    has_ended: bool,
    closing: VecDeque<oneshot::Sender<()>>,
}

/// A batch that takes longer is slow. Two commits of a disk that is busy take less.
pub(super) const SLOW: Duration = Duration::from_millis(25);
/// How often idle helpers look whether something waits, while writing is slow.
const LOOK: Duration = Duration::from_millis(20);
/// After this time a helper's connection is given back.
const REST: Duration = Duration::from_secs(60);

impl Queue {
    pub(super) fn new(waiting: mpsc::Receiver<Message>) -> Arc<Self> {
        let state = State {
            waiting: Some(waiting),
            is_slow: false,
            helping: 0,
            has_ended: false,
            closing: VecDeque::new(),
        };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    /// The next job for the first writer, waited for; none when the store is closed and nothing is left.
    pub(super) fn next(&self, connection: &Connection) -> Option<Box<dyn Job>> {
        let mut waiting = {
            let mut state = self.lock();
            state.is_slow = false;
            state.waiting.take()?
        };
        loop {
            let message = connection.receive(&mut waiting);
            if let Some(Message::Close(done)) = message {
                // What is already queued is still written; what comes later is refused at the sender.
                waiting.close();
                self.lock().closing.push_back(done);
                continue;
            }
            self.lock().waiting = Some(waiting);
            let Message::Job(job) = message? else { return None };
            return Some(job);
        }
    }

    /// One more job, if one waits that nobody has.
    pub(super) fn more(&self) -> Option<Box<dyn Job>> {
        self.lock().more()
    }

    /// The first writer's batch takes long.
    pub(super) fn call_for_help(&self) {
        self.lock().is_slow = true;
        self.changed.notify_all();
    }

    /// The next job for a helper, waited for until help is wanted; none when the store is closed.
    pub(super) fn help(&self, connection: &Connection) -> Option<Box<dyn Job>> {
        loop {
            let has_work = {
                let mut state = self.lock();
                while !state.is_slow && !state.has_ended {
                    let (again, waited) =
                        self.changed.wait_timeout(state, REST).unwrap_or_else(PoisonError::into_inner);
                    state = again;
                    if waited.timed_out() && !state.is_slow {
                        connection.rest();
                    }
                }
                if state.has_ended {
                    return None;
                }
                state.waiting.as_ref().is_some_and(|waiting| !waiting.is_empty())
            };
            // Whoever cannot connect must take nothing from those who can.
            let is_ready = has_work && connection.is_ready();
            let mut state = self.lock();
            if let Some(job) = is_ready.then(|| state.more()).flatten() {
                state.helping += 1;
                return Some(job);
            }
            drop(self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// A helper's batch is done.
    pub(super) fn helped(&self) {
        self.lock().helping -= 1;
        self.changed.notify_all();
    }

    /// Nothing more comes: waits until all who help are done, and gives out who waits for that.
    pub(super) fn end(&self) -> VecDeque<oneshot::Sender<()>> {
        let mut state = self.lock();
        state.has_ended = true;
        self.changed.notify_all();
        while state.helping > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::take(&mut state.closing)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn more(&mut self) -> Option<Box<dyn Job>> {
        let waiting = self.waiting.as_mut()?;
        loop {
            match waiting.try_recv() {
                Ok(Message::Job(job)) => return Some(job),
                Ok(Message::Close(done)) => {
                    waiting.close();
                    self.closing.push_back(done);
                }
                Err(_) => return None,
            }
        }
    }
}
