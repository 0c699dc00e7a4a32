//! The contract of a bus. Unstable until real brokers have proved it.

use crate::{ConnectionKey, Envelope};
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use std::{fmt, num::NonZeroU32, sync::Arc};
use switchboard_rpc::{StationId, Version};
use tokio::sync::watch;

/// Where an envelope goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// To one of the workers that take calls; the partition is [`partition`](crate::partition) of tenant and station.
    Call {
        /// Whose station.
        tenant: ByteString,
        /// Which station.
        station: StationId,
    },
    /// To the one inbox of this name: a gateway's, a worker's or a caller's.
    Inbox(ByteString),
    /// To one of the gateways, which passes a command on to the one that has the station: for senders that ask no directory.
    Command {
        /// Whose station.
        tenant: ByteString,
        /// Which station.
        station: StationId,
    },
    /// To every subscriber of presence.
    Presence,
    /// To every subscriber of events.
    Event {
        /// Whose station.
        tenant: ByteString,
        /// Which station.
        station: StationId,
    },
}

/// What a subscriber wants to be given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Calls of all stations. Every call goes to one subscriber only: they compete.
    Calls,
    /// Commands whose senders do not know where the station is. Every one goes to one subscriber only.
    Commands,
    /// Everything sent to the inbox of this name. A second subscriber of one name is refused.
    Inbox(ByteString),
    /// All presence: each subscriber gets each.
    Presence,
    /// All events: each subscriber gets each.
    Events,
}

/// A wish to be given envelopes.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Which ones.
    pub topic: Topic,
    /// How many may be in hand at once: delivered and their [`Done`] not yet dropped.
    pub in_hand_max: NonZeroU32,
}

/// Takes envelopes from a bus.
///
/// `deliver` is called on the bus's own time — in the in-process bus on the publisher's — and must neither block nor
/// wait: it does what can be done at once and spawns the rest.
pub trait Consumer: Send + Sync + 'static {
    /// Takes one envelope. Dropping `done` tells the bus that it has been dealt with.
    fn deliver(&self, envelope: Envelope, done: Done);
}

/// Held by a consumer as long as it works on an envelope. Dropped: acknowledged, and the next may come.
///
/// A process that dies with it in hand has acknowledged nothing; the bus may then give the envelope to another.
pub struct Done(Option<Told>);

/// Who is told when a [`Done`] is dropped.
enum Told {
    Once(Box<dyn FnOnce() + Send + Sync>),
    Shared(Arc<dyn Release>),
}

/// Is told of each [`Done`] that was made with it: a driver's subscription, so that an envelope costs no allocation.
pub trait Release: Send + Sync + 'static {
    /// One envelope has been dealt with.
    fn release(&self);
}

impl Done {
    /// Calls `on_drop` when it is dropped.
    pub fn new(on_drop: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Told::Once(Box::new(on_drop))))
    }

    /// Tells `release` when it is dropped.
    #[must_use]
    pub fn shared(release: Arc<dyn Release>) -> Self {
        Self(Some(Told::Shared(release)))
    }

    /// Tells nobody.
    #[must_use]
    pub const fn noop() -> Self {
        Self(None)
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        match self.0.take() {
            Some(Told::Once(on_drop)) => on_drop(),
            Some(Told::Shared(release)) => release.release(),
            None => {}
        }
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Done")
    }
}

/// Whether the bus can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It can.
    Connected,
    /// It cannot at the moment; the driver tries again by itself and restores the subscriptions.
    Away,
    /// It was closed from our side.
    Closed,
}

/// How a publisher learns that nobody takes what it published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    /// `publish` fails.
    AtOnce,
    /// `publish` is `Ok`, and the envelope comes back to the inbox of its `reply_to` as [`Kind::Returned`](crate::Kind).
    Later,
    /// Not at all: the broker keeps the envelope, or it is gone.
    Never,
}

/// What a bus can promise, so that callers and the conformance suite need not guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// How it tells that nobody listens: [`PublishError::NobodyListens`], or a return with the outcome `offline`.
    pub tells_nobody_listens: Tells,
    /// How it tells that everybody who listens has full hands: [`PublishError::Busy`], or a return with the outcome
    /// `busy`.
    pub tells_busy: Tells,
    /// A second owner of an inbox is refused.
    pub exclusive_inboxes: bool,
    /// Envelopes from one publisher to one address arrive in the order they were published.
    pub keeps_order: bool,
    /// An envelope in the hands of a consumer that died is given to another without our doing.
    pub redelivers: bool,
    /// Presence, events and commands to wherever a station is reach subscribers in other processes, too; else only those in
    /// the publisher's.
    pub tells_all: bool,
    /// Whoever takes calls knows a repeat by its key, so that one which nobody answers may be handed over again. Where
    /// that is not so, a call that somebody may have is not.
    pub repeatable: bool,
    /// The largest body that may be published, in bytes.
    pub body_bytes_max: usize,
}

/// A station that has a connection to a gateway of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attendance {
    /// Whose station.
    pub tenant: ByteString,
    /// Which station.
    pub station: StationId,
    /// What is spoken on the connection.
    pub version: Version,
    /// Which connection. What comes for the station goes to the inbox of its gateway.
    pub connection: ConnectionKey,
}

/// Why an envelope could not be handed over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// There is no subscriber at the address now.
    #[error("nobody listens there")]
    NobodyListens,
    /// There are subscribers and each has as much in hand as it may.
    #[error("every subscriber has its hands full")]
    Busy,
    /// The broker cannot be reached.
    #[error("the bus is away")]
    Away,
    /// It was closed from our side.
    #[error("the bus is closed")]
    Closed,
    /// The body, or what goes into headers and address, is larger than this bus carries.
    #[error("{bytes} bytes exceed the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Anything else that the driver's library reports.
    #[error("the bus refused the envelope")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl PublishError {
    /// Whether the same envelope may be accepted later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::NobodyListens | Self::Busy | Self::Away)
    }
}

/// Why a subscription could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// An inbox has one owner.
    #[error("the inbox {0} has an owner already")]
    InboxTaken(ByteString),
    /// The broker cannot be reached.
    #[error("the bus is away")]
    Away,
    /// It was closed from our side.
    #[error("the bus is closed")]
    Closed,
    /// Anything else that the driver's library reports.
    #[error("the bus refused the subscription")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Ends a subscription when dropped. What is in hand stays in hand.
#[derive(Debug)]
pub struct Subscribed(#[expect(dead_code, reason = "held for its drop")] Done);

impl Subscribed {
    /// A subscription that `on_drop` ends.
    pub fn new(on_drop: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Done::new(on_drop))
    }
}

/// Carries envelopes between gateways and processing.
///
/// Unstable until real brokers have proved it. The module `conformance` (feature `conformance`) holds a test
/// for each promise, which every implementation passes.
///
/// # Promises
/// - **Acknowledgement.** `publish` returning `Ok` means that a consumer or the broker has the envelope, or is about to:
///   if the bus goes away right afterwards, nobody may have it. It promises
///   no durability and no effect: the answer is the acknowledgement, and whoever needs one keeps the envelope until the
///   answer is there. An error means that nobody has it; only after [`PublishError::Refused`] somebody may.
/// - **Returns.** Many brokers tell only after `publish` that nobody took an envelope, and waiting for that would cost a
///   round trip per message. Where [`Capabilities`] say [`Tells::Later`], what nobody takes comes back to the inbox that
///   its `reply_to` names: [`Kind::Returned`](crate::Kind), no body, `outcome` [`Offline`](crate::OutcomeKind::Offline)
///   if nobody listens or [`Busy`](crate::OutcomeKind::Busy) if all hands are full, and of its metadata tenant, station,
///   gateway (which is the name of that inbox) and generation, `seq`, `attempt` and `journal`, or `command_id`, as far as
///   they were set. Calls come back, and commands that are neither in the outbox nor a cancellation; nothing else does,
///   and nothing without `reply_to`. A return means that this attempt has no effect.
/// - **At least once.** An envelope may arrive more than once, whatever the transport. Its key makes that harmless.
/// - **Bytes.** The body arrives as it was, and the metadata equal to what was published, times in milliseconds.
/// - **Competing.** A call goes to one of the subscribers of [`Topic::Calls`] that have room, a command for
///   [`Address::Command`] to one of those of [`Topic::Commands`].
/// - **Inboxes.** An inbox has one owner at a time; its name is free again when the subscription has ended.
/// - **Telling all.** Presence and events go to every subscriber that listens and has room, as far as
///   [`Capabilities::tells_all`] says. One that has none misses
///   them, and that nobody listens is no error: whoever must know keeps its own record.
/// - **Order.** As [`Capabilities::keeps_order`] says, per publisher and address; none across addresses.
/// - **Back-pressure.** No consumer has more than [`Subscription::in_hand_max`] envelopes in hand. `publish` does not
///   wait for one to become free: it fails with [`PublishError::Busy`] where the bus knows, else the broker keeps what it can.
/// - **Re-entrance.** A consumer may publish, subscribe and unsubscribe while it is given an envelope.
/// - **Isolation.** A consumer that panics loses what it was given and nothing else: the publisher gets `Ok`.
/// - **Reconnection.** When the broker goes away the driver reconnects with back-off, restores every subscription and
///   then says [`State::Connected`] again. What was published in between failed with [`PublishError::Away`], and is not
///   delivered later. A broker that is not there at the beginning is waited for in the same way.
/// - **Unsubscribing.** What is in hand stays in hand. What another thread was handing over at that moment may still come.
/// - **Cancellation.** A dropped `publish` future may or may not have published; one that was never polled too.
/// - **Closing.** Afterwards nothing is delivered, and publishing and subscribing fail as closed.
pub trait Bus: Send + Sync + fmt::Debug + 'static {
    /// Hands one envelope over.
    ///
    /// # Errors
    /// As [`PublishError`] says; `is_retryable` tells whether to try again.
    fn publish(&self, to: Address, envelope: Envelope) -> BoxFuture<'_, Result<(), PublishError>>;

    /// Begins to give envelopes to `consumer` until the returned value is dropped. What is published after it has
    /// returned finds the subscription.
    ///
    /// # Errors
    /// As [`SubscribeError`] says.
    fn subscribe(
        &self,
        subscription: Subscription,
        consumer: Arc<dyn Consumer>,
    ) -> BoxFuture<'_, Result<Subscribed, SubscribeError>>;

    /// Is told by a gateway of each connection, before its first call is published and until what is given back is
    /// dropped. For a transport without envelopes, which listens for each station by itself; others need not know.
    fn attend(&self, who: Attendance) -> Option<Subscribed> {
        drop(who);
        None
    }

    /// Whether anybody may be listening for events: what nobody would hear need not be put together. A transport to other
    /// processes does not know, and says yes.
    fn hears_events(&self) -> bool {
        true
    }

    /// Whether the bus can be reached, and when that changes.
    fn state(&self) -> watch::Receiver<State>;

    /// What it can promise.
    fn capabilities(&self) -> Capabilities;

    /// Publishes what is buffered, ends all subscriptions and disconnects.
    fn close(&self) -> BoxFuture<'_, ()>;
}
