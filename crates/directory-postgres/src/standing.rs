//! Whether the database is there, said once when that changes.

use crate::fault::away;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use switchboard_directory::DirectoryError;
use tokio::sync::watch;

/// Whether the database can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It has not been there yet.
    Waiting,
    /// It is there.
    There,
    /// It cannot be reached; it is tried again and again.
    Away,
    /// It is there and cannot be used, for this reason.
    Refused(Arc<str>),
    /// It was closed from our side.
    Closed,
}

/// What all connections know together.
#[derive(Debug)]
pub(crate) struct Standing {
    target: String,
    state: watch::Sender<State>,
    /// That it is waited for.
    told: AtomicBool,
    /// Why it could not be reached the last time.
    why: Mutex<Option<String>>,
}

impl Standing {
    pub(crate) fn new(target: String) -> Self {
        Self {
            target,
            state: watch::Sender::new(State::Waiting),
            told: AtomicBool::new(false),
            why: Mutex::new(None),
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// A connection was made.
    pub(crate) fn there(&self) {
        *self.why() = None;
        let before = self.replace(State::There);
        match before {
            State::There | State::Closed => {}
            _ => tracing::info!(server = %self.target, "the directory's database is there"),
        }
    }

    /// A connection was lost, or could not be made. Told once until one can.
    pub(crate) fn trouble(&self, error: &DirectoryError, reason: &str) {
        *self.why() = Some(reason.to_owned());
        let state = match error {
            DirectoryError::Away(_) => State::Away,
            _ => State::Refused(reason.into()),
        };
        let before = self.state.borrow().clone();
        let told = match (&before, &state) {
            (State::Closed, _) => return,
            (State::Waiting, State::Away) => {
                // It has not been there yet, and stays so.
                if !self.told.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        server = %self.target, reason,
                        "the directory's database cannot be reached: waiting until it is there"
                    );
                }
                return;
            }
            (before, state) => before == state,
        };
        if told {
            return;
        }
        if matches!(state, State::Away) {
            tracing::warn!(
                server = %self.target, reason,
                "the directory's database is away: sockets stay, new stations and commands have to wait"
            );
        } else {
            tracing::error!(server = %self.target, reason, "the directory's database cannot be used");
        }
        self.replace(state);
    }

    pub(crate) fn closed(&self) {
        self.replace(State::Closed);
    }

    /// What those are told who ask while it is not there.
    pub(crate) fn refusal(&self) -> DirectoryError {
        match &*self.state.borrow() {
            State::Refused(detail) => DirectoryError::Damaged { detail: detail.to_string() },
            State::Closed => away("it was closed"),
            _ => away(match &*self.why() {
                Some(why) => format!("{}: {why}", self.target),
                None => format!("{} does not answer", self.target),
            }),
        }
    }

    fn why(&self) -> MutexGuard<'_, Option<String>> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, state: State) -> State {
        let mut before = State::Closed;
        self.state.send_if_modified(|present| {
            before = present.clone();
            if *present == State::Closed || *present == state {
                return false;
            }
            *present = state;
            true
        });
        before
    }
}
