//! What all connections of a gateway share.

use crate::{
    away::Away,
    compression::Compression,
    config::Config,
    desk,
    journal::Journal,
    limits::Limits,
    liveness,
    metrics::Metrics,
    patience::Patience,
    presence::Workers,
    recent::Recent,
    registry::{Handle, Registry},
    tap::{Record, Seen, Tap},
    unrecorded::Unrecorded,
};
use bytes::Bytes;
use bytestring::ByteString;
use std::{
    collections::VecDeque,
    fmt,
    future::Future as _,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use switchboard_bus::{Address, Bus, ConnectionKey, Envelope, Kind, Metadata, OutcomeKind, PublishError};
use switchboard_directory::{Directory, StationKey, password::Verifier};
use tokio::{sync::Notify, time::error::Elapsed};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What all connections of a gateway share.
pub(crate) struct Shared {
    pub(crate) name: ByteString,
    /// Cancelled when bus and directory have taken the gateway.
    pub(crate) begun: CancellationToken,
    pub(crate) config: Config,
    pub(crate) rules: desk::Rules,
    pub(crate) liveness: liveness::Rules,
    pub(crate) rpc: Arc<switchboard_rpc::connection::Config>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) registry: Registry,
    pub(crate) limits: Arc<Limits>,
    pub(crate) verifier: Verifier,
    pub(crate) workers: Workers,
    pub(crate) patience: Patience,
    pub(crate) journal: Journal,
    pub(crate) metrics: Metrics,
    pub(crate) compression: Arc<Compression>,
    pub(crate) tap: Tap,
    pub(crate) clock: Clock,
    pub(crate) draining: AtomicBool,
    /// Commands that came lately.
    pub(crate) recent: Recent,
    /// Ends of commands that the directory did not take.
    pub(crate) unrecorded: Unrecorded,
    /// Outcomes that the bus did not take.
    undelivered: Arc<Mutex<VecDeque<Undelivered>>>,
    away: Away,
    /// The highest generation that any connection is known to have had: of ours, and of what workers have in their books.
    pub(crate) generations: AtomicU64,
    /// That the directory gives lower ones was said.
    pub(crate) told_of_the_past: AtomicBool,
    /// The directory has forgotten what it was told.
    pub(crate) forgotten: Notify,
    /// When the directory was last found away, in milliseconds of the monotonic clock.
    unsteady_ms: AtomicI64,
    /// The tasks of connections, and what they leave behind for a moment.
    pub(crate) tasks: TaskTracker,
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        bus: Arc<dyn Bus>,
        directory: Arc<dyn Directory>,
        verifier: Verifier,
        metrics: Metrics,
        wall: WallClock,
    ) -> Self {
        let name = if config.name.is_empty() {
            ByteString::from(format!("gateway-{}", uuid::Uuid::new_v4().simple()))
        } else {
            ByteString::from(config.name.as_str())
        };
        if config.journal && !directory.keeps() {
            tracing::warn!(
                "the directory keeps no journal: calls that nobody processes in time fail, or close their connection"
            );
        }
        let now = now();
        Self {
            name,
            begun: CancellationToken::new(),
            rules: desk::Rules {
                answer_deadline: config.answer_deadline,
                beat: config.beat,
                billing_deadline: config.billing_deadline,
                local: config.local_heartbeat,
                journal: config.journal && directory.keeps(),
                repeatable: bus.capabilities().repeatable,
            },
            liveness: liveness::Rules {
                epoch: now,
                ping_interval: config.ping_interval,
                silence_max: config.silence_max,
                require_pong: config.require_pong,
            },
            rpc: Arc::new(config.rpc.clone()),
            registry: Registry::new(),
            limits: Arc::new(Limits::new(&config, now)),
            verifier,
            workers: Workers::new(config.beat),
            patience: Patience::new(config.patience_min),
            journal: Journal::new(config.journal_entries_max),
            compression: Arc::new(Compression::new(&config, metrics.compression.clone())),
            metrics,
            tap: Tap::default(),
            clock: Clock::new(now, wall),
            draining: AtomicBool::new(false),
            recent: Recent::new(now),
            unrecorded: Unrecorded::default(),
            undelivered: Arc::default(),
            away: Away::default(),
            generations: AtomicU64::new(0),
            told_of_the_past: AtomicBool::new(false),
            forgotten: Notify::new(),
            unsteady_ms: AtomicI64::new(i64::MIN),
            tasks: TaskTracker::new(),
            config,
            bus,
            directory,
        }
    }

    /// Publishes what nobody waits for. What cannot be published at once goes on in a task of its own; what fails is
    /// logged.
    pub(crate) fn tell(&self, to: Address, envelope: Envelope) {
        let bus = Arc::clone(&self.bus);
        let mut publishing = Box::pin(async move {
            let kind = envelope.metadata.kind;
            match bus.publish(to, envelope).await {
                // A caller that is gone, or nobody who cares for events.
                Ok(()) | Err(PublishError::NobodyListens | PublishError::Closed) => {}
                Err(error) => tracing::warn!(?kind, %error, "a message could not be published"),
            }
        });
        let mut context = Context::from_waker(Waker::noop());
        if publishing.as_mut().poll(&mut context).is_pending() {
            // A task polls it again at once, so that no wake-up is lost.
            self.tasks.spawn(publishing);
        }
    }

    /// Tells an outcome, and keeps it for a while if the bus does not take it: whoever waits for it may be about to
    /// return, as the bus is.
    fn tell_surely(&self, to: Address, envelope: Envelope, until: Instant) {
        let (bus, undelivered) = (Arc::clone(&self.bus), Arc::clone(&self.undelivered));
        let mut publishing = Box::pin(async move {
            match bus.publish(to.clone(), envelope.clone()).await {
                Err(error) if error.is_retryable() => {
                    let mut waiting = undelivered.lock().unwrap_or_else(PoisonError::into_inner);
                    if waiting.len() >= UNDELIVERED_MAX {
                        // Its sender learns that nobody knows.
                        waiting.pop_front();
                    }
                    waiting.push_back(Undelivered { to, envelope, until });
                }
                Ok(()) | Err(PublishError::Closed) => {}
                Err(error) => tracing::warn!(%error, "an outcome could not be published"),
            }
        });
        let mut context = Context::from_waker(Waker::noop());
        if publishing.as_mut().poll(&mut context).is_pending() {
            self.tasks.spawn(publishing);
        }
    }

    /// Tries again to tell the outcomes that the bus did not take.
    pub(crate) fn tell_again(&self, now: Instant) {
        let waiting = {
            let mut undelivered = self.undelivered.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *undelivered)
        };
        for Undelivered { to, envelope, until } in waiting {
            if now < until {
                self.tell_surely(to, envelope, until);
            }
        }
    }

    /// Tells whoever sent a command what became of it.
    pub(crate) fn tell_outcome(&self, command: Box<Metadata>, outcome: OutcomeKind, frame: Bytes) {
        self.metrics.commanded(outcome);
        let command = *command;
        let Some(reply_to) = command.reply_to else { return };
        let mut metadata = Metadata::new(Kind::Outcome);
        metadata.tenant = command.tenant;
        metadata.station = command.station;
        metadata.version = command.version;
        metadata.connection = command.connection;
        metadata.action = command.action;
        metadata.command_id = command.command_id;
        metadata.context = command.context;
        metadata.outcome = Some(outcome);
        metadata.traceparent = command.traceparent;
        metadata.tracestate = command.tracestate;
        let until = now() + UNDELIVERED_TIME;
        self.tell_surely(Address::Inbox(reply_to), Envelope::new(metadata, frame), until);
    }

    /// Tells whoever cares that a connection began or ended.
    pub(crate) fn tell_event(&self, handle: &Handle, body: impl Into<Bytes>) {
        if !self.bus.hears_events() {
            return;
        }
        let mut metadata = Metadata::new(Kind::Event);
        metadata.tenant = handle.key.tenant.clone();
        metadata.station = Some(handle.key.station.clone());
        metadata.version = Some(handle.version);
        metadata.connection = Some(self.connection(handle.generation));
        metadata.received_at_ms = Some(self.clock.wall_ms(now()));
        let address =
            Address::Event { tenant: handle.key.tenant.clone(), station: handle.key.station.clone() };
        self.tell(address, Envelope::new(metadata, body));
    }

    /// A connection of this station was replaced, here or from elsewhere. Once in a while is how stations reconnect; again
    /// and again means that two have one identity (L01).
    pub(crate) fn count_replacement(&self, key: &StationKey) {
        let count = self.registry.count_replacement(key, now());
        if count == self.config.flapping_alarm {
            self.metrics.flapping.inc();
            tracing::warn!(
                station = %key.station, count,
                "connections of this identity replace each other: do two stations share it?"
            );
        }
    }

    /// The directory could be reached in time, or not. What it says of others' leases is to be believed only when all
    /// have had the time to renew theirs.
    pub(crate) fn directory_is_steady(&self, steady: bool, now: Instant) {
        if !steady {
            self.unsteady_ms.store(self.clock.since_base(now), Ordering::Relaxed);
        }
    }

    /// Whether it has been there for as long as a lease lasts.
    pub(crate) fn knows_who_is_alive(&self, now: Instant) -> bool {
        let lease_ms = i64::try_from(self.config.lease.as_millis()).unwrap_or(i64::MAX);
        self.clock.since_base(now).saturating_sub(self.unsteady_ms.load(Ordering::Relaxed)) >= lease_ms
    }

    /// Shows what was seen on a connection. To be asked whether anybody follows the traffic first.
    ///
    /// It reads the clock itself: what is processed in one turn of a task would else seem to take no time.
    #[inline(never)]
    pub(crate) fn show(&self, handle: &Handle, seen: Seen) {
        let at = now();
        self.tap.show(Record {
            tenant: handle.key.tenant.clone(),
            station: Some(handle.key.station.clone()),
            generation: handle.generation,
            version: Some(handle.version),
            at,
            time_ms: self.clock.wall_ms(at),
            seen,
        });
    }

    /// One of our connections, as envelopes name it.
    pub(crate) fn connection(&self, generation: u64) -> ConnectionKey {
        ConnectionKey { gateway: self.name.clone(), generation }
    }

    /// Nobody could take a call.
    pub(crate) fn processing_is_away(&self, now: Instant) {
        if self.away.nobody(self.clock.since_base(now)) {
            tracing::warn!("nobody takes calls of stations");
        }
    }

    /// Processing answered.
    pub(crate) fn processing_is_back(&self) {
        if let Some(said) = self.away.somebody() {
            if said {
                tracing::info!("calls of stations are processed again");
            }
            self.journal.wake();
        }
    }

    /// Whether a station is to be let in now although nobody takes calls. One now and then: workers that give no signs of
    /// life are found by its first call only.
    pub(crate) fn may_try(&self, now: Instant) -> bool {
        let pause_ms = i64::try_from(self.config.retry_after.as_millis()).unwrap_or(i64::MAX);
        self.away.may_try(self.clock.since_base(now), pause_ms)
    }

    /// How long nobody has taken calls.
    pub(crate) fn processing_away_for(&self, now: Instant) -> Duration {
        Duration::from_millis(self.away.for_ms(self.clock.since_base(now)).unsigned_abs())
    }

    /// Where in an interval the turn of this station is, as a share of 0 to 1.
    pub(crate) fn share(key: &StationKey) -> f64 {
        let partition = switchboard_bus::partition(&key.tenant, key.station.as_str(), u16::MAX);
        f64::from(partition) / f64::from(u16::MAX)
    }
}

/// An outcome that the bus did not take.
struct Undelivered {
    to: Address,
    envelope: Envelope,
    until: Instant,
}

/// Outcomes that wait for the bus. There are hardly more than commands that were in hand when it went; beyond this the
/// oldest is forgotten.
const UNDELIVERED_MAX: usize = 16_384;
/// Then its sender has given up.
const UNDELIVERED_TIME: Duration = Duration::from_secs(60);

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Wall time reckoned from the monotonic clock, so that a message costs one look at a clock and not two. Set right every
/// second.
#[derive(Debug)]
pub(crate) struct Clock {
    base: Instant,
    base_ms: AtomicI64,
    wall: WallClock,
}

/// Tells the wall time in milliseconds since 1970.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl WallClock {
    /// One that asks `now`.
    pub fn new(now: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// That of the computer.
    #[must_use]
    pub fn system() -> Self {
        Self::new(wall_ms)
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("WallClock")
    }
}

impl Clock {
    fn new(now: Instant, wall: WallClock) -> Self {
        Self { base: now, base_ms: AtomicI64::new(wall.0()), wall }
    }

    /// What the wall clock says at this instant, in milliseconds since 1970.
    pub(crate) fn wall_ms(&self, now: Instant) -> i64 {
        self.base_ms.load(Ordering::Relaxed).saturating_add(self.since_base(now))
    }

    /// By how many milliseconds the wall clock is ahead of what we reckon; it is set right bit by bit all the time.
    pub(crate) fn drift_ms(&self, now: Instant) -> i64 {
        self.wall.0().saturating_sub(self.wall_ms(now))
    }

    /// Follows the wall clock.
    pub(crate) fn set_right(&self, now: Instant) {
        self.base_ms.store(self.wall.0().saturating_sub(self.since_base(now)), Ordering::Relaxed);
    }

    fn since_base(&self, now: Instant) -> i64 {
        i64::try_from(now.saturating_duration_since(self.base).as_millis()).unwrap_or(i64::MAX)
    }
}

/// Waits for as long as that; what is ready at once, as most is within one process, gets no timer.
pub(crate) async fn within<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    if let Poll::Ready(output) = futures_util::poll!(future.as_mut()) {
        return Ok(output);
    }
    tokio::time::timeout(limit, future).await
}

/// The monotonic clock. The one place where this crate reads it.
#[expect(clippy::disallowed_methods, reason = "the gateway is a shell around the core, which reads no clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the gateway is a shell around the core, which reads no clock")]
fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
