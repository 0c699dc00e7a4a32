//! Calls in hand.

use crate::{
    Metrics,
    config::ModeOf,
    reply::{Missing, Reply, context, in_hand_key},
};
use bytestring::ByteString;
use foldhash::HashMap;
use std::{
    collections::hash_map::Entry,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context as Task, Poll, Waker},
    time::Duration,
};
use switchboard_bus::{Address, Bus, Consumer, Done, Envelope, Kind, PublishError, State, presence::Facts};
use switchboard_messages::Mode;
use switchboard_router::{Answer, Caller, Key, Router};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// How many repeats may wait for the answer of one call. A gateway repeats at most about twice a second within its
/// deadline of 25 s, and rarely at all; what is above this is dropped, and the gateway asks again.
const REPEATS_MAX: usize = 64;

/// How long an answer waits for the bus to come back. After that its station hardly waits any more.
const AWAY_MAX: Duration = Duration::from_secs(20);
/// How often it is published at most.
const TRIES_MAX: u32 = 4;

/// Everything that a call meets in a worker.
pub(crate) struct Calls {
    pub(crate) id: ByteString,
    pub(crate) router: Router,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) mode: Mode,
    pub(crate) mode_of: Option<ModeOf>,
    pub(crate) caller: Option<Arc<dyn Caller>>,
    pub(crate) runtime: Handle,
    /// The handlers that wait, and answers on their way.
    pub(crate) tasks: TaskTracker,
    pub(crate) metrics: Metrics,
    /// The calls in hand, and who else waits for their answers.
    pub(crate) in_hand: Mutex<HashMap<Key, Vec<Reply>>>,
    /// Each of the subscriptions allows as many; this is for both.
    pub(crate) in_hand_max: usize,
    /// What it says of itself.
    pub(crate) facts: Facts,
    /// The highest generation of a call that it was given.
    pub(crate) generation: AtomicU64,
}

/// The consumer that a bus gives calls to.
pub(crate) struct Taker(pub(crate) Arc<Calls>);

impl Consumer for Taker {
    fn deliver(&self, envelope: Envelope, done: Done) {
        if let Err(missing) = Calls::take(&self.0, envelope, done) {
            self.0.metrics.unreadable.inc();
            tracing::warn!(%missing, "a worker was given an envelope that it cannot handle");
        }
    }
}

impl Calls {
    fn take(this: &Arc<Self>, envelope: Envelope, done: Done) -> Result<(), Missing> {
        let Envelope { metadata, body } = envelope;
        if !matches!(metadata.kind, Kind::Call | Kind::Send) {
            return Err(Missing("it is no call"));
        }
        let frame = ByteString::try_from(body).map_err(|_| Missing("its body is not UTF-8"))?;
        let mut context = context(&metadata, this.mode)?;
        if let Some(mode_of) = &this.mode_of {
            context.mode = mode_of(&context.tenant, &context.station);
        }
        context.caller.clone_from(&this.caller);
        // Mostly it is known: a store would take the line from the other processors.
        if context.generation > this.generation.load(Ordering::Relaxed) {
            this.generation.fetch_max(context.generation, Ordering::Relaxed);
        }
        this.metrics.taken.inc();
        let is_numbered = metadata.seq.is_some();
        let reply = Reply::new(metadata, done);
        let (held, reply) = if is_numbered {
            match Held::claim(this, in_hand_key(&context), reply) {
                Place::Taken(held, reply) => (Some(held), reply),
                Place::Joined => return Ok(()),
                Place::None(reply) => {
                    if let Some(rest) = this.tell_now(reply, Vec::new(), Answer::later()) {
                        this.tasks.spawn_on(rest, &this.runtime);
                    }
                    return Ok(());
                }
            }
        } else {
            (None, reply)
        };
        let mut answering = this.router.answer(&context, frame);
        // What can answer at once does so here, on the gateway's own task where the bus is in the process.
        match Pin::new(&mut answering).poll(&mut Task::from_waker(Waker::noop())) {
            Poll::Ready(answer) => {
                let repeats = held.map(Held::release).unwrap_or_default();
                if let Some(rest) = this.tell_now(reply, repeats, answer) {
                    this.tasks.spawn_on(rest, &this.runtime);
                }
            }
            Poll::Pending => {
                this.metrics.waited.inc();
                let calls = this.clone();
                // A task is polled at least once, so that the wake-up that went to no one is not lost.
                this.tasks.spawn_on(
                    async move {
                        let answer = answering.await;
                        let repeats = held.map(Held::release).unwrap_or_default();
                        calls.tell(reply, repeats, answer).await;
                    },
                    &this.runtime,
                );
            }
        }
        Ok(())
    }

    /// Where it takes calls that are meant for it alone.
    pub(crate) fn inbox(&self) -> ByteString {
        format!("calls-of-{}", self.id).into()
    }

    /// Publishes an answer as far as that can be done without waiting, and gives back what has to wait.
    fn tell_now(
        self: &Arc<Self>,
        first: Reply,
        repeats: Vec<Reply>,
        answer: Answer,
    ) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let calls = self.clone();
        let mut told: Pin<Box<dyn Future<Output = ()> + Send>> =
            Box::pin(async move { calls.tell(first, repeats, answer).await });
        match told.as_mut().poll(&mut Task::from_waker(Waker::noop())) {
            Poll::Ready(()) => None,
            Poll::Pending => Some(told),
        }
    }

    /// Publishes an answer to all who wait for it.
    async fn tell(&self, first: Reply, repeats: Vec<Reply>, answer: Answer) {
        for reply in std::iter::once(first).chain(repeats) {
            match &answer.frame {
                Some(frame) if frame.starts_with(b"[4") => self.metrics.errors.inc(),
                Some(_) => self.metrics.results.inc(),
                None if answer.later => self.metrics.given_back.inc(),
                None => self.metrics.silences.inc(),
            };
            if let Err(error) = self.publish(&reply, &answer).await {
                // Not tried again: the gateway hands the call over again as long as the station waits.
                self.metrics.answers_lost.inc();
                let station = reply.station();
                tracing::warn!(?station, %error, "an answer was lost on its way to the gateway");
            }
        }
    }

    /// Publishes an answer, as soon as the bus is there if that is soon: a worker that has just come back may be given calls
    /// before it can answer, and has answers that it came to meanwhile. They keep the hands full that took the calls.
    async fn publish(&self, reply: &Reply, answer: &Answer) -> Result<(), PublishError> {
        let mut tries = 0;
        loop {
            let Some((inbox, envelope)) = reply.envelope(answer, &self.id) else { return Ok(()) };
            let published = self.bus.publish(Address::Inbox(inbox), envelope).await;
            tries += 1;
            if !matches!(published, Err(PublishError::Away)) || tries == TRIES_MAX {
                return published;
            }
            let mut state = self.bus.state();
            let back = state.wait_for(|state| *state != State::Away);
            if tokio::time::timeout(AWAY_MAX, back).await.is_err() {
                return published;
            }
        }
    }

    pub(crate) fn in_hand(&self) -> MutexGuard<'_, HashMap<Key, Vec<Reply>>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a call among those in hand. Dropped without an answer, when a task is aborted, it makes room and leaves
/// who waits to the gateway.
struct Held {
    calls: Arc<Calls>,
    key: Option<Key>,
}

/// What became of the wish for a place.
enum Place {
    /// It has one.
    Taken(Held, Reply),
    /// A call of the same key is there, whose answer it waits for.
    Joined,
    /// All places are taken.
    None(Reply),
}

impl Held {
    /// Takes the place; or joins the call of the same key that is there.
    fn claim(calls: &Arc<Calls>, key: Key, reply: Reply) -> Place {
        let mut in_hand = calls.in_hand();
        let is_full = in_hand.len() >= calls.in_hand_max;
        match in_hand.entry(key.clone()) {
            Entry::Occupied(mut entry) => {
                let repeats = entry.get_mut();
                let room = repeats.len() < REPEATS_MAX;
                if room {
                    repeats.push(reply);
                }
                drop(in_hand);
                calls.metrics.joined.inc();
                if !room {
                    tracing::warn!(station = %key.station, "too many repeats of one call");
                }
                Place::Joined
            }
            Entry::Vacant(_) if is_full => Place::None(reply),
            Entry::Vacant(entry) => {
                entry.insert(Vec::new());
                drop(in_hand);
                calls.metrics.in_hand.inc();
                Place::Taken(Self { calls: calls.clone(), key: Some(key) }, reply)
            }
        }
    }

    /// Gives the place up, and names the repeats that wait for the answer.
    fn release(mut self) -> Vec<Reply> {
        self.leave()
    }

    fn leave(&mut self) -> Vec<Reply> {
        let Some(key) = self.key.take() else {
            return Vec::new();
        };
        self.calls.metrics.in_hand.dec();
        self.calls.in_hand().remove(&key).unwrap_or_default()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.leave());
    }
}
