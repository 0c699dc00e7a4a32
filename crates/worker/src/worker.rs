//! A worker's life.

use crate::{
    Config, Metrics, Stations,
    calls::{Calls, Taker},
    commands::{Inbox, OUTCOMES_MAX, Way},
    presence,
};
use bytestring::ByteString;
use foldhash::HashMap;
use std::{
    fmt,
    num::NonZeroU32,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};
use switchboard_bus::{Bus, SubscribeError, Subscribed, Subscription, Topic};
use switchboard_router::{Caller, Faults, Router};
use tokio::{runtime::Handle, task::AbortHandle};
use tokio_util::task::TaskTracker;

/// Why a worker cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The router contradicts itself.
    #[error("the router contradicts itself")]
    Router(#[from] Faults),
    /// The bus does not give what a worker needs.
    #[error("the worker cannot listen to the bus")]
    Subscribe(#[from] SubscribeError),
}

/// Takes calls from `bus` and answers them with `router`, until the worker is stopped or dropped.
///
/// Handlers that wait run on the tokio runtime that this is called on.
///
/// # Errors
/// When the router contradicts itself, or the bus refuses the subscriptions.
pub async fn serve(router: Router, bus: Arc<dyn Bus>, config: Config) -> Result<Worker, ServeError> {
    router.check()?;
    let metrics = Metrics::default();
    let takes_outcomes = router.takes_outcomes();
    let calls = Arc::new_cyclic(|calls| Calls {
        id: config.id.clone(),
        router,
        bus: bus.clone(),
        mode: config.mode,
        mode_of: config.mode_of,
        caller: config
            .commander
            .map(|commander| -> Arc<dyn Caller> { Arc::new(Way::new(commander, calls.clone())) }),
        runtime: Handle::current(),
        tasks: TaskTracker::new(),
        metrics: metrics.clone(),
        in_hand: Mutex::new(HashMap::default()),
        in_hand_max: usize::try_from(config.in_hand_max.get()).unwrap_or(usize::MAX),
        facts: config.facts,
        generation: AtomicU64::new(0),
    });
    let outcomes = if takes_outcomes {
        let subscription = Subscription {
            topic: Topic::Inbox(config.id.clone()),
            in_hand_max: NonZeroU32::MIN.saturating_add(OUTCOMES_MAX - 1),
        };
        Some(bus.subscribe(subscription, Arc::new(Inbox(calls.clone()))).await?)
    } else {
        None
    };
    let mut subscribed = Vec::with_capacity(2);
    for topic in [Topic::Inbox(calls.inbox()), Topic::Calls] {
        let subscription = Subscription { topic, in_hand_max: config.in_hand_max };
        subscribed.push(bus.subscribe(subscription, Arc::new(Taker(calls.clone()))).await?);
    }
    let beat = tokio::spawn(presence::beat(calls.clone(), config.beat)).abort_handle();
    tracing::info!(worker = &*config.id, "a worker takes calls");
    Ok(Worker { id: config.id, calls, metrics, drain: config.drain, subscribed, outcomes, beat: Beat(beat) })
}

/// A worker that takes calls. Dropped, it stops taking them and falls silent; what it has in hand goes on.
/// [`stop`](Self::stop) is the graceful way.
#[must_use = "a worker that is dropped takes no calls"]
pub struct Worker {
    id: ByteString,
    calls: Arc<Calls>,
    metrics: Metrics,
    drain: Duration,
    /// To calls.
    subscribed: Vec<Subscribed>,
    outcomes: Option<Subscribed>,
    beat: Beat,
}

struct Beat(AbortHandle);

impl Drop for Beat {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Worker {
    /// Its name on the bus.
    #[must_use]
    pub const fn id(&self) -> &ByteString {
        &self.id
    }

    /// What it counts.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The way to stations that have not called just now.
    #[must_use]
    pub fn stations(&self) -> Stations {
        Stations::new(self.calls.caller.clone())
    }

    /// Takes no more calls, finishes those in hand within [`Config::drain`], and says that it leaves. Gives back how many
    /// it had to leave unfinished: the gateway hands them to others.
    pub async fn stop(mut self) -> usize {
        self.subscribed.clear();
        self.calls.tasks.close();
        let drained = tokio::time::timeout(self.drain, self.calls.tasks.wait()).await;
        let left = self.calls.in_hand().len();
        if drained.is_err() {
            tracing::warn!(worker = &*self.id, left, "a worker leaves with calls in hand");
        }
        drop(self.outcomes.take());
        self.beat.0.abort();
        presence::tell(&self.calls, true).await;
        tracing::info!(worker = &*self.id, "a worker has left");
        left
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Worker").field("id", &self.id).finish_non_exhaustive()
    }
}
