//! What publishers, consumers and the connection's task share: one lock, held for as long as bytes are appended.

use crate::config::Config;
use crate::subscribe::{Member, Opened};
use futures_util::task::AtomicWaker;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use switchboard_bus::State;
use tokio::sync::{oneshot, watch};

/// One connection to the broker, over all its reconnections.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) state: watch::Sender<State>,
    line: Mutex<Line>,
    /// Wakes the connection's task.
    pub(crate) task: AtomicWaker,
}

/// What is under the lock.
pub(crate) struct Line {
    pub(crate) state: State,
    /// The connection's task runs, or has been woken: it will look at all this before it sleeps.
    pub(crate) awake: bool,
    /// Frames to be sent. At most [`OUT_BYTES_MAX`] and one message by publishers; what the session itself says is said to a
    /// broker that listens, or the connection ends at twice that.
    pub(crate) out: Vec<u8>,
    pub(crate) frame_max: usize,
    /// Deliveries that were dealt with. As many at most as the subscriptions allow in hand.
    pub(crate) released: Vec<Released>,
    /// One for each subscription that is begun or ended.
    pub(crate) orders: Vec<Order>,
}

/// A delivery that was dealt with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Released {
    /// The channel, and which of that number: what was delivered before a reconnection is not acknowledged after it.
    pub(crate) channel: u16,
    pub(crate) instance: u64,
    pub(crate) tag: u64,
}

/// What the connection's task is asked for.
pub(crate) enum Order {
    Subscribe(Arc<Member>, Opened),
    Unsubscribe(u64),
    /// Said back when all is sent, or cannot be.
    Close(oneshot::Sender<()>),
}

impl Shared {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            state: watch::Sender::new(State::Away),
            line: Mutex::new(Line {
                state: State::Away,
                awake: false,
                out: Vec::new(),
                frame_max: 0,
                released: Vec::new(),
                orders: Vec::new(),
            }),
            task: AtomicWaker::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something under the lock and sees to it that the connection's task looks at it.
    pub(crate) fn tell<T>(&self, change: impl FnOnce(&mut Line) -> T) -> T {
        let mut line = self.lock();
        let result = change(&mut line);
        let wake = !std::mem::replace(&mut line.awake, true);
        drop(line);
        if wake {
            self.task.wake();
        }
        result
    }

    /// What everybody is told; never anything else once it is closed.
    pub(crate) fn set_state(&self, state: State) {
        let mut line = self.lock();
        if line.state == State::Closed {
            return;
        }
        line.state = state;
        drop(line);
        self.state.send_if_modified(|told| {
            let changes = *told != State::Closed && *told != state;
            if changes {
                *told = state;
            }
            changes
        });
    }
}

/// So much may wait to be sent; beyond it publishers are told that the bus is busy.
pub(crate) const OUT_BYTES_MAX: usize = 16 * 1024 * 1024;
