//! Commands to stations: finds the gateway, hands the command over, and waits for its true outcome.

mod outcome;
mod unfit;
mod waiting;

pub use outcome::Outcome;
pub use unfit::{Judge, object};

use crate::contract::{
    Address, Bus, Consumer, PublishError, SubscribeError, Subscribed, Subscription, Topic,
};
use crate::{Envelope, Kind, Lane, Metadata};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use switchboard_rpc::{Frame, MessageId, StationId, Version, frame::write_call};
use waiting::{Name, Waiter, Waiting};

/// Knows at which gateway a station is, and keeps commands that outlive their sender. A directory, usually.
pub trait Locator: Send + Sync + fmt::Debug + 'static {
    /// The inbox of the gateway that holds the station's connection; none if the station is offline.
    fn locate<'a>(
        &'a self,
        tenant: &'a ByteString,
        station: &'a StationId,
    ) -> BoxFuture<'a, Result<Option<ByteString>, LocateError>>;

    /// Keeps a command durably under its id, once: if there is one of this id already, how far that is.
    fn keep(&self, command: Stored) -> BoxFuture<'_, Result<Keeping, LocateError>>;

    /// What was kept under this id and how far it is; none if nothing was.
    fn kept<'a>(
        &'a self,
        tenant: &'a ByteString,
        station: &'a StationId,
        id: &'a ByteString,
    ) -> BoxFuture<'a, Result<Option<Kept>, LocateError>>;

    /// Ends a command that still waits and which nobody will then send; false if it does not wait any more.
    fn withdraw<'a>(
        &'a self,
        tenant: &'a ByteString,
        station: &'a StationId,
        id: &'a ByteString,
        outcome: crate::OutcomeKind,
    ) -> BoxFuture<'a, Result<bool, LocateError>>;
}

/// A command to be kept: what a directory's outbox holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Names it; unique per station.
    pub id: ByteString,
    /// Whose station.
    pub tenant: ByteString,
    /// Which station.
    pub station: StationId,
    /// What is asked for.
    pub action: ByteString,
    /// A JSON object.
    pub payload: Bytes,
    /// Which queue.
    pub lane: Lane,
    /// How long to wait for the answer once it was written.
    pub timeout: Duration,
    /// How long it may wait to be written.
    pub time_to_live: Duration,
    /// Where the outcome goes.
    pub reply_to: ByteString,
    /// Returned with the outcome.
    pub context: Option<ByteString>,
}

/// A command that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What was asked for.
    pub action: ByteString,
    /// A JSON object.
    pub payload: Bytes,
    /// How far it is.
    pub keeping: Keeping,
}

impl Kept {
    /// Whether this is what it asks for, white space apart.
    fn asks_for(&self, action: &str, payload: &[u8]) -> bool {
        let dense = |json: &[u8]| {
            let mut within_text = false;
            let mut escaped = false;
            let mut dense = Vec::with_capacity(json.len());
            for byte in json {
                if within_text || !byte.is_ascii_whitespace() {
                    dense.push(*byte);
                }
                within_text ^= *byte == b'"' && !escaped;
                escaped = within_text && *byte == b'\\' && !escaped;
            }
            dense
        };
        self.action == action && (self.payload == payload || dense(&self.payload) == dense(payload))
    }
}

/// How far a kept command is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// It was put in just now.
    Fresh,
    /// One of this id is under way.
    UnderWay,
    /// One of this id has ended.
    Ended {
        /// How.
        outcome: crate::OutcomeKind,
        /// The station's frame, where there was one.
        frame: Bytes,
    },
}

/// The place of a station, or of a command, could not be learned.
#[derive(Debug, thiserror::Error)]
#[error("the directory could not be asked")]
pub struct LocateError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Why there is no outcome: the command went nowhere.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The directory is away, so that nobody knows where the station is.
    #[error("where the station is could not be learned")]
    Locate(#[from] LocateError),
    /// The bus is away or closed, or does not carry so much.
    #[error("the command could not be handed over")]
    Bus(#[source] PublishError),
    /// The key was given to another command: nobody's outcome must be taken for this one's.
    #[error(
        "the key {key:?} names another command of the station, {action}, with this or another payload: give each command \
         a key of its own"
    )]
    KeyTaken {
        /// It.
        key: ByteString,
        /// What the other one asks for.
        action: ByteString,
    },
    /// The payload is no JSON object, or the action is empty.
    #[error("the command is not well formed: {0}")]
    Malformed(&'static str),
}

/// How a command is to be treated.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long to wait for the answer once the command was written; it may wait as long again for its turn in the
    /// connection's queue. 30 s by default.
    pub timeout: Duration,
    /// How long the command is kept for a station that is offline, or goes before it was written. Zero, the default:
    /// not at all.
    pub time_to_live: Duration,
    /// Which queue of the connection.
    pub lane: Lane,
    /// Names the command for [`Commander::cancel`]. By default a new UUID. One of your own must be new too: a command
    /// whose id came to a gateway minutes ago is taken for one that the bus delivered twice.
    pub id: Option<ByteString>,
    /// The idempotency key: a command of this key goes to the station once, whoever sends it again gets the outcome of
    /// the first. It is then the id, too.
    pub key: Option<ByteString>,
    /// Returned with the outcome to whoever reads the inbox.
    pub context: Option<ByteString>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            time_to_live: Duration::ZERO,
            lane: Lane::Normal,
            id: None,
            key: None,
            context: None,
        }
    }
}

/// Sends commands to stations and receives their outcomes in an inbox of its own. Clones share it.
///
/// # Promises
/// - An outcome is the gateway's or the directory's, never a guess: where both are silent it is [`Outcome::Unknown`].
/// - A station that is not connected, or a gateway that is gone, is [`Outcome::Offline`] at once, not after a timeout.
/// - A gateway that dies with the command in hand makes it `Unknown` a few seconds after its lease has run out.
/// - At most [`IN_FLIGHT_MAX`](Self::IN_FLIGHT_MAX) commands wait at once; one more is [`Outcome::Busy`].
/// - Dropping the future forgets the command and does not cancel it.
#[derive(Clone)]
pub struct Commander(Arc<Inner>);

struct Inner {
    bus: Arc<dyn Bus>,
    inbox: ByteString,
    locator: Arc<dyn Locator>,
    waiting: Arc<Waiting>,
    _subscribed: Subscribed,
}

impl Commander {
    /// How many commands may wait for their outcome at once.
    pub const IN_FLIGHT_MAX: usize = 1024;

    /// A sender whose outcomes come to `inbox`, a name that nobody else on the bus uses.
    ///
    /// # Errors
    /// When the inbox cannot be had.
    pub async fn new(
        bus: Arc<dyn Bus>,
        inbox: impl Into<ByteString> + Send,
        locator: Arc<dyn Locator>,
    ) -> Result<Self, SubscribeError> {
        let inbox = inbox.into();
        let waiting = Arc::new(Waiting::new(Self::IN_FLIGHT_MAX, Arc::downgrade(&bus)));
        let subscription = Subscription { topic: Topic::Inbox(inbox.clone()), in_hand_max: NonZeroU32::MAX };
        let consumer: Arc<dyn Consumer> = Arc::<Waiting>::clone(&waiting);
        let subscribed = bus.subscribe(subscription, consumer).await?;
        Ok(Self(Arc::new(Inner { bus, inbox, locator, waiting, _subscribed: subscribed })))
    }

    /// Has answers of stations judged: one of a 2.1 station that is not fit gets a CALLRESULTERROR (C12). The first judge
    /// stays. Whoever waits for the answer is given it all the same, and judges for themselves.
    #[must_use]
    pub fn judging(self, judge: Judge) -> Self {
        self.0.waiting.judge_with(judge);
        self
    }

    /// Sends a command and waits for its outcome.
    ///
    /// `payload` is a JSON object; empty counts as `{}`.
    ///
    /// # Errors
    /// Only when the command went nowhere: the directory or the bus is away, or it is not well formed.
    pub async fn command(
        &self,
        tenant: &ByteString,
        station: &StationId,
        action: &str,
        payload: impl Into<Bytes> + Send,
        options: Options,
    ) -> Result<Outcome, CommandError> {
        let body = body(action, payload.into())?;
        let id = options.key.clone().or_else(|| options.id.clone());
        let id = id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string().into());
        let name = Name { tenant: tenant.clone(), station: station.clone(), id: id.clone() };
        let Some(waiter) = Waiting::register(&self.0.waiting, name) else { return Ok(Outcome::Busy) };
        let sent = Sent { inner: &self.0, tenant, station, id, options, waiter };
        sent.run(action, body).await
    }

    /// Takes back a command that waits for its turn or its station; its outcome is then [`Outcome::Cancelled`]. What
    /// has been written cannot be taken back.
    ///
    /// # Errors
    /// When the bus or the directory could not be asked; the command is then as it was.
    pub async fn cancel(
        &self,
        tenant: &ByteString,
        station: &StationId,
        id: &ByteString,
    ) -> Result<(), CommandError> {
        let inner = &self.0;
        if inner.locator.withdraw(tenant, station, id, crate::OutcomeKind::Cancelled).await? {
            let name = Name { tenant: tenant.clone(), station: station.clone(), id: id.clone() };
            inner.waiting.end(&name, &Outcome::Cancelled);
            return Ok(());
        }
        let Some(gateway) = inner.locator.locate(tenant, station).await? else { return Ok(()) };
        let mut metadata = Metadata::new(Kind::Command);
        metadata.tenant = tenant.clone();
        metadata.station = Some(station.clone());
        metadata.command_id = Some(id.clone());
        metadata.reply_to = Some(inner.inbox.clone());
        let envelope = Envelope::new(metadata, Bytes::new());
        match inner.bus.publish(Address::Inbox(gateway), envelope).await {
            Ok(()) | Err(PublishError::NobodyListens) => Ok(()),
            Err(error) => Err(CommandError::Bus(error)),
        }
    }

    /// How many outcomes came that nobody waited for: late ones, and second ones.
    #[must_use]
    pub fn unexpected(&self) -> u64 {
        self.0.waiting.unexpected()
    }
}

impl fmt::Debug for Commander {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Commander").field("inbox", &self.0.inbox).finish_non_exhaustive()
    }
}

/// One command under way.
struct Sent<'a> {
    inner: &'a Inner,
    tenant: &'a ByteString,
    station: &'a StationId,
    id: ByteString,
    options: Options,
    waiter: Waiter,
}

impl Sent<'_> {
    async fn run(mut self, action: &str, body: (Bytes, Bytes)) -> Result<Outcome, CommandError> {
        let (payload, frame) = body;
        let kept = self.options.key.is_some() || !self.options.time_to_live.is_zero();
        // The key may have been used before, when the station was there; so this comes before asking where it is.
        if self.options.key.is_some() {
            match self.kept_before(action, &payload).await? {
                Some(Keeping::Ended { outcome, frame }) => return Ok(Outcome::of(outcome, &frame, None)),
                Some(Keeping::UnderWay | Keeping::Fresh) => return self.wait_kept(action, &frame).await,
                None => {}
            }
        }
        let mut gateway = self.inner.locator.locate(self.tenant, self.station).await?;
        if gateway.is_none() && self.options.time_to_live.is_zero() {
            return Ok(Outcome::Offline);
        }
        if kept {
            let keeping = self.inner.locator.keep(self.stored(action, payload.clone())).await?;
            if keeping != Keeping::Fresh {
                // Somebody was faster since.
                self.kept_before(action, &payload).await?;
            }
            match keeping {
                Keeping::Fresh => {}
                Keeping::UnderWay => return self.wait_kept(action, &frame).await,
                Keeping::Ended { outcome, frame } => return Ok(Outcome::of(outcome, &frame, None)),
            }
            if gateway.is_none() {
                // It may have come, and looked for commands, before this one was there. If nobody knows, it will look.
                let there = self.inner.locator.locate(self.tenant, self.station).await;
                gateway = there.unwrap_or(None);
            }
        }
        let Some(gateway) = gateway else { return self.wait_kept(action, &frame).await };
        let error = match self.hand_over(&gateway, action, frame.clone(), kept).await {
            Ok(()) if kept => return self.wait_kept(action, &frame).await,
            Ok(()) => return Ok(self.wait(&gateway).await),
            Err(error) => error,
        };
        if kept {
            // It stays for the station's next connection, if it was meant to outlive this one.
            if !self.options.time_to_live.is_zero() {
                return self.wait_kept(action, &frame).await;
            }
            let outcome = match &error {
                PublishError::NobodyListens => crate::OutcomeKind::Offline,
                PublishError::Busy => crate::OutcomeKind::Busy,
                _ => crate::OutcomeKind::NotSent,
            };
            if !self.inner.locator.withdraw(self.tenant, self.station, &self.id, outcome).await? {
                return self.wait_kept(action, &frame).await;
            }
        }
        match error {
            PublishError::NobodyListens => Ok(Outcome::Offline),
            PublishError::Busy => Ok(Outcome::Busy),
            // The one error after which somebody may have it.
            PublishError::Refused(_) => Ok(Outcome::Unknown),
            other => Err(CommandError::Bus(other)),
        }
    }

    /// How far the command of this id is, if there is one: it must be this one.
    async fn kept_before(&self, action: &str, payload: &[u8]) -> Result<Option<Keeping>, CommandError> {
        match self.inner.locator.kept(self.tenant, self.station, &self.id).await? {
            Some(kept) if !kept.asks_for(action, payload) => {
                Err(CommandError::KeyTaken { key: self.id.clone(), action: kept.action })
            }
            kept => Ok(kept.map(|kept| kept.keeping)),
        }
    }

    async fn hand_over(
        &self,
        gateway: &ByteString,
        action: &str,
        body: Bytes,
        outbox: bool,
    ) -> Result<(), PublishError> {
        let mut metadata = Metadata::new(Kind::Command);
        metadata.tenant = self.tenant.clone();
        metadata.station = Some(self.station.clone());
        metadata.action = Some(action.into());
        metadata.command_id = Some(self.id.clone());
        metadata.reply_to = Some(self.inner.inbox.clone());
        metadata.remaining = Some(self.options.timeout);
        metadata.lane = self.options.lane;
        metadata.context = self.options.context.clone();
        metadata.outbox = outbox;
        self.inner.bus.publish(Address::Inbox(gateway.clone()), Envelope::new(metadata, body)).await
    }

    /// Waits for what a gateway was given, and looks now and then whether it is still there.
    async fn wait(&mut self, gateway: &ByteString) -> Outcome {
        let limit = self.options.timeout.saturating_mul(2).saturating_add(GRACE);
        let mut missing = 0;
        let mut looks = 0_u32;
        loop {
            if let Some(outcome) = self.waiter.outcome_within(LOOK_EVERY).await {
                return outcome;
            }
            looks += 1;
            match self.inner.locator.locate(self.tenant, self.station).await {
                Ok(Some(there)) if there == *gateway => missing = 0,
                Ok(_) => missing += 1,
                // Not knowing is no reason to give up.
                Err(_) => {}
            }
            if missing >= MISSING_MAX || LOOK_EVERY.saturating_mul(looks) >= limit {
                return self.waiter.outcome_now().unwrap_or(Outcome::Unknown);
            }
        }
    }

    /// Waits for a kept command: its outcome comes to the inbox or, if another gateway or sender had it, is in the
    /// directory.
    async fn wait_kept(&mut self, action: &str, frame: &Bytes) -> Result<Outcome, CommandError> {
        let limit = self
            .options
            .time_to_live
            .saturating_add(self.options.timeout.saturating_mul(2))
            .saturating_add(GRACE);
        let mut looks = 0_u32;
        loop {
            if let Some(outcome) = self.waiter.outcome_within(LOOK_EVERY).await {
                return Ok(outcome);
            }
            looks += 1;
            let kept = self.inner.locator.kept(self.tenant, self.station, &self.id).await;
            let kept = kept.map(|kept| kept.map(|kept| kept.keeping));
            if let Ok(Some(Keeping::Ended { outcome, frame })) = kept {
                return Ok(Outcome::of(outcome, &frame, None));
            }
            // The gateway was told when the command was put in; that may have been lost, or its sender died before it.
            if looks.is_multiple_of(HINT_EVERY)
                && let Ok(Some(Keeping::UnderWay)) = kept
                && let Ok(Some(gateway)) = self.inner.locator.locate(self.tenant, self.station).await
            {
                // Told again later if this fails.
                drop(self.hand_over(&gateway, action, frame.clone(), true).await);
            }
            // Without a time to live it is not to wait for another connection than the one that it was meant for.
            if self.options.time_to_live.is_zero()
                && let Ok(None) = self.inner.locator.locate(self.tenant, self.station).await
                && let not_sent = crate::OutcomeKind::NotSent
                && let Ok(true) =
                    self.inner.locator.withdraw(self.tenant, self.station, &self.id, not_sent).await
            {
                return Ok(Outcome::NotSent);
            }
            if LOOK_EVERY.saturating_mul(looks) < limit {
                continue;
            }
            let expired = crate::OutcomeKind::Expired;
            let withdrawn = self.inner.locator.withdraw(self.tenant, self.station, &self.id, expired).await;
            return Ok(match withdrawn {
                Ok(true) => Outcome::Expired,
                _ => self.waiter.outcome_now().unwrap_or(Outcome::Unknown),
            });
        }
    }

    fn stored(&self, action: &str, payload: Bytes) -> Stored {
        let time_to_live = if self.options.time_to_live.is_zero() {
            self.options.timeout.saturating_mul(2)
        } else {
            self.options.time_to_live
        };
        Stored {
            id: self.id.clone(),
            tenant: self.tenant.clone(),
            station: self.station.clone(),
            action: action.into(),
            payload,
            lane: self.options.lane,
            timeout: self.options.timeout,
            time_to_live,
            reply_to: self.inner.inbox.clone(),
            context: self.options.context.clone(),
        }
    }
}

/// The payload and the frame that carries it. The id in the frame is replaced by the gateway's own.
fn body(action: &str, payload: Bytes) -> Result<(Bytes, Bytes), CommandError> {
    if action.is_empty() {
        return Err(CommandError::Malformed("the action is empty"));
    }
    let payload = if payload.is_empty() { Bytes::from_static(b"{}") } else { payload };
    let frame = write_call(&MessageId::new("command"), action, &payload);
    // What could end the frame early, or is no object, would be taken for something else on the way.
    let text = ByteString::try_from(frame.clone()).map_err(|_| CommandError::Malformed(NO_OBJECT))?;
    match Frame::parse(&text, Version::V201) {
        Ok(Frame::Call { payload: found, .. }) if found.as_bytes().trim_ascii() == payload.trim_ascii() => {
            Ok((payload, frame))
        }
        _ => Err(CommandError::Malformed(NO_OBJECT)),
    }
}

const NO_OBJECT: &str = "the payload is no JSON object";
/// How often is looked whether the gateway is still there, and whether a kept command has ended elsewhere.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After how many looks a gateway is told again that something waits in the outbox.
const HINT_EVERY: u32 = 3;
/// How many looks may miss the station at its gateway: it may be between two connections, and the outcome on its way.
const MISSING_MAX: u32 = 3;
/// How much longer than everybody else's limits the sender waits.
const GRACE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
