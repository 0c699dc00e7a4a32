//! Those who take from one topic: who has how much in hand, and what waits for one of them to have room.

use crate::line::Ack;
use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use switchboard_bus::{Consumer, Done, Envelope};
use tokio::time::Instant;

/// Those who compete for what comes on one topic; for an inbox there is one.
///
/// What comes while all hands are full waits here, `backlog_max` at most. It is given away in the order in which it came.
pub(crate) struct Hands {
    state: Mutex<State>,
    backlog_max: usize,
    /// Acknowledge when it has been dealt with, so that the broker does not send more than we have room for; else at once.
    is_manual: bool,
}

#[derive(Default)]
struct State {
    members: Vec<Member>,
    /// Whose turn it is.
    turn: usize,
    backlog: VecDeque<Waiting>,
    /// Somebody is giving away, and will look again before it ends.
    is_giving: bool,
}

struct Member {
    id: u64,
    in_hand: u32,
    in_hand_max: u32,
    consumer: Arc<dyn Consumer>,
}

struct Waiting {
    envelope: Envelope,
    ack: Option<Ack>,
    /// When it does not matter any more.
    until: Option<Instant>,
}

impl Hands {
    pub(crate) fn new(is_manual: bool, backlog_max: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), backlog_max, is_manual })
    }

    pub(crate) fn join(self: &Arc<Self>, id: u64, in_hand_max: u32, consumer: Arc<dyn Consumer>) {
        self.lock().members.push(Member { id, in_hand: 0, in_hand_max, consumer });
        self.give();
    }

    /// True: nobody is left, and what waited is given up.
    pub(crate) fn leave(&self, id: u64) -> bool {
        let mut state = self.lock();
        let gone = state.members.iter().position(|member| member.id == id);
        // Dropped without the lock: a consumer may hold the bus, and its drop may do anything.
        let gone = gone.map(|place| state.members.remove(place));
        let is_last = state.members.is_empty();
        let given_up = if is_last { std::mem::take(&mut state.backlog) } else { VecDeque::new() };
        drop(state);
        drop(gone);
        acknowledge(given_up);
        is_last
    }

    /// Takes what came, or gives it back: there is no room.
    pub(crate) fn take(self: &Arc<Self>, envelope: Envelope, ack: Ack) -> Result<(), Envelope> {
        let mut state = self.lock();
        let room = state.room();
        let fits = !state.members.is_empty() && state.backlog.len() < room.saturating_add(self.backlog_max);
        if !fits {
            drop(state);
            ack.ack();
            return Err(envelope);
        }
        // The usual case needs no look at the clock: somebody has room.
        let until = (state.backlog.len() >= room).then(|| deadline(&envelope)).flatten();
        let ack = if self.is_manual {
            Some(ack)
        } else {
            ack.ack();
            None
        };
        state.backlog.push_back(Waiting { envelope, ack, until });
        drop(state);
        self.give();
        Ok(())
    }

    /// Gives away what waits, as long as somebody has room.
    fn give(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.is_giving {
            return;
        }
        while let Some(place) = state.next_with_room() {
            let Some(waiting) = state.backlog.pop_front() else { break };
            let Waiting { envelope, ack, until } = waiting;
            if until.is_some_and(|until| Instant::now() >= until) {
                if let Some(ack) = ack {
                    ack.ack();
                }
                continue;
            }
            state.is_giving = true;
            let Some(member) = state.members.get_mut(place) else { break };
            member.in_hand += 1;
            let (id, consumer) = (member.id, Arc::clone(&member.consumer));
            drop(state);
            let hands = Arc::clone(self);
            let done = Done::new(move || hands.release(id, ack));
            // The panic's own message has been printed by the hook.
            if catch_unwind(AssertUnwindSafe(|| consumer.deliver(envelope, done))).is_err() {
                tracing::error!("a consumer panicked; what it was given is lost");
            }
            drop(consumer);
            state = self.lock();
            state.is_giving = false;
        }
    }

    fn release(self: &Arc<Self>, id: u64, ack: Option<Ack>) {
        let mut state = self.lock();
        if let Some(member) = state.members.iter_mut().find(|member| member.id == id) {
            member.in_hand -= 1;
        }
        let waits = !state.backlog.is_empty();
        drop(state);
        if let Some(ack) = ack {
            ack.ack();
        }
        if waits {
            self.give();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How many hands are free.
    fn room(&self) -> usize {
        let free = self.members.iter().map(|member| (member.in_hand_max - member.in_hand) as usize);
        free.fold(0, usize::saturating_add)
    }

    /// The first from the one whose turn it is that can take one more.
    fn next_with_room(&mut self) -> Option<usize> {
        let count = self.members.len();
        for place in (self.turn..count).chain(0..self.turn.min(count)) {
            if self.members.get(place).is_some_and(|member| member.in_hand < member.in_hand_max) {
                self.turn = place + 1;
                return Some(place);
            }
        }
        None
    }
}

/// What nobody will deal with is acknowledged all the same, or the broker would send less and less.
fn acknowledge(given_up: impl IntoIterator<Item = Waiting>) {
    for ack in given_up.into_iter().filter_map(|waiting| waiting.ack) {
        ack.ack();
    }
}

fn deadline(envelope: &Envelope) -> Option<Instant> {
    // A time beyond all bounds is no deadline.
    Instant::now().checked_add(envelope.metadata.remaining?.min(Duration::from_secs(86_400)))
}

/// Those who are all told.
#[derive(Default)]
pub(crate) struct Audience(Mutex<Vec<Arc<Listening>>>);

struct Listening {
    id: u64,
    in_hand: std::sync::atomic::AtomicU32,
    in_hand_max: u32,
    consumer: Arc<dyn Consumer>,
}

impl Audience {
    pub(crate) fn join(&self, id: u64, in_hand_max: u32, consumer: Arc<dyn Consumer>) {
        let in_hand = std::sync::atomic::AtomicU32::new(0);
        self.lock().push(Arc::new(Listening { id, in_hand, in_hand_max, consumer }));
    }

    /// True: nobody is left.
    pub(crate) fn leave(&self, id: u64) -> bool {
        let mut listening = self.lock();
        let gone = listening.iter().position(|member| member.id == id);
        let gone = gone.map(|place| listening.remove(place));
        let is_last = listening.is_empty();
        drop(listening);
        drop(gone);
        is_last
    }

    /// Tells all that have room; how many had none.
    pub(crate) fn tell(&self, envelope: &Envelope) -> u64 {
        use std::sync::atomic::Ordering;
        let members: Vec<_> = self.lock().clone();
        let mut missed = 0;
        for member in members {
            let more = |in_hand| (in_hand < member.in_hand_max).then_some(in_hand + 1);
            if member.in_hand.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_err() {
                missed += 1;
                continue;
            }
            let counted = Arc::clone(&member);
            let done = Done::new(move || {
                counted.in_hand.fetch_sub(1, Ordering::AcqRel);
            });
            let envelope = envelope.clone();
            if catch_unwind(AssertUnwindSafe(|| member.consumer.deliver(envelope, done))).is_err() {
                tracing::error!("a consumer panicked; what it was given is lost");
            }
        }
        missed
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Listening>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
